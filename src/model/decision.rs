//! Decisions: questions to a person, and their answers.

use super::{Id, LineRange, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A question that cannot be answered without a person, kept until it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Decision {
    /// Its identity.
    pub id: Id,
    /// What it is about.
    pub kind: DecisionKind,
    /// Where it stands.
    #[serde(default)]
    pub status: DecisionStatus,
    /// The question in one line.
    pub question: String,
    /// Everything that is needed to answer it away from the terminal: Markdown.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub detail: String,
    /// What may be answered.
    pub choices: Vec<Choice>,
    /// The merge that waits for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Id>,
    /// The agent that it concerns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Id>,
    /// What identifies the same question asked again: for a conflict the hash of its paths and contents.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub subject: String,
    /// The paths that it asks about, if it asks about paths.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub paths: Vec<String>,
    /// The places that clash in those paths, in order, and what each answer leaves out there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clashes: Vec<Clash>,
    /// What each path, as its place 0, and each place has on its three sides, by [`Decision::place_key`], as a digest. An
    /// answer goes on holding where they are the same when the question is asked anew.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sides: BTreeMap<String, String>,
    /// Answers for single paths; they go before `answer`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<String, Answer>,
    /// Answers for single places, by [`Decision::place_key`]; they go before `answer`, and one for their path before them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub places: BTreeMap<String, Answer>,
    /// The answer for everything, once given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Answer>,
    /// What its answers made of each place that clashed: the lines that were taken, by the place's digest. The same
    /// clash is answered the same way when it comes up again.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub remembers: BTreeMap<String, String>,
    /// The run whose program was told the answer while it waited for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<u32>,
    /// When it was asked.
    #[serde(default)]
    pub created: Timestamp,
}

/// What a decision is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionKind {
    /// Two branches change the same place.
    Conflict,
    /// A gate fails on what a merge made.
    Gate,
    /// Merged work changes what is run by itself.
    Executable,
    /// Agents of a pipeline did not end well.
    Pipeline,
    /// An agent wants to do what its profile does not allow.
    Permission,
    /// An agent asks something.
    Question,
}

/// Where a decision stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecisionStatus {
    /// Waiting for an answer.
    #[default]
    Open,
    /// Answered.
    Answered,
    /// Nobody needs the answer any more.
    Withdrawn,
}

impl Decision {
    /// An open question with nothing around it yet.
    pub const fn open(id: Id, kind: DecisionKind, question: String, created: Timestamp) -> Self {
        Self {
            id,
            kind,
            status: DecisionStatus::Open,
            question,
            detail: String::new(),
            choices: Vec::new(),
            merge: None,
            agent: None,
            subject: String::new(),
            paths: Vec::new(),
            clashes: Vec::new(),
            sides: BTreeMap::new(),
            answers: BTreeMap::new(),
            places: BTreeMap::new(),
            answer: None,
            remembers: BTreeMap::new(),
            told: None,
            created,
        }
    }

    /// The answer that holds for a path: its own, or the one for everything.
    pub fn answer_for(&self, path: &str) -> Option<&Answer> {
        self.answers.get(path).or(self.answer.as_ref())
    }

    /// What a place of a path is known by: `src/a.rs:2`. Places are counted from 1.
    pub fn place_key(path: &str, place: usize) -> String {
        format!("{path}:{place}")
    }

    /// How many places of a path can be answered one by one; 0 for what can only be taken whole.
    pub fn places_of(&self, path: &str) -> usize {
        self.clashes.iter().filter(|clash| clash.path == path && clash.place > 0).count()
    }

    /// What an answer leaves out, of everything, of a path, or of a place of it: one for each whose lines they are. An answer
    /// for everything leaves nothing out where there is one already.
    pub fn losses(&self, answer: &str, path: Option<&str>, place: Option<usize>) -> Vec<ChoiceLoss> {
        let mut all = Vec::<ChoiceLoss>::new();
        let about = self.clashes.iter().filter(|clash| {
            self.paths.contains(&clash.path)
                && path.map_or(!self.is_settled(clash), |path| path == clash.path)
                && place.is_none_or(|place| place == clash.place)
        });
        for loss in about.flat_map(|clash| &clash.leaves_out).filter(|loss| loss.answer == answer) {
            match all.iter_mut().find(|known| known.of == loss.of) {
                Some(known) => {
                    known.added += loss.added;
                    known.removed += loss.removed;
                }
                None => all.push(loss.clone()),
            }
        }
        all
    }

    /// Whether a place has an answer of its own, or its path has.
    fn is_settled(&self, clash: &Clash) -> bool {
        let place = Self::place_key(&clash.path, clash.place);
        self.answers.contains_key(&clash.path) || clash.place > 0 && self.places.contains_key(&place)
    }

    /// Whether nothing says what becomes of a path, or of one of its places, but the answer for everything.
    pub fn is_open(&self, path: &str) -> bool {
        let of_path = |clash: &&Clash| clash.path == path;
        let mut places = self.clashes.iter().filter(of_path).peekable();
        !self.answers.contains_key(path)
            && (places.peek().is_none() || places.any(|clash| !self.is_settled(clash)))
    }

    /// Whether a path has lines that can be merged; otherwise one side is taken whole.
    pub fn has_lines(&self, path: &str) -> bool {
        self.clashes.iter().any(|clash| clash.path == path && clash.lines.start > 0)
    }

    /// The paths and places that nobody has answered yet: `src/a.rs` as a whole, or `src/a.rs:2` where another place of it
    /// has its answer.
    pub fn open_places(&self) -> Vec<String> {
        if self.answer.is_some() {
            return Vec::new();
        }
        let mut open = Vec::new();
        for path in self.paths.iter().filter(|path| !self.answers.contains_key(*path)) {
            let keys = (1..=self.places_of(path)).map(|place| Self::place_key(path, place));
            let (answered, missing): (Vec<_>, Vec<_>) = keys.partition(|key| self.places.contains_key(key));
            if answered.is_empty() {
                open.push(path.clone());
            } else {
                open.extend(missing);
            }
        }
        open
    }
}

/// A place of a conflicting file, or the file as a whole.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clash {
    /// The file.
    pub path: String,
    /// The how-manieth of the file, from 1; 0 for a file that can only be taken whole.
    pub place: usize,
    /// Its lines in what has landed; a range from 0 is the file as a whole.
    pub lines: LineRange,
    /// What answers leave out. An answer that is not here leaves nothing out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub leaves_out: Vec<ChoiceLoss>,
}

/// Lines of one side that would not be there after an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChoiceLoss {
    /// The answer's key.
    pub answer: String,
    /// Whose lines: an agent, agents, or the target.
    pub of: String,
    /// How many that they added would be gone; of something without lines 1.
    #[serde(default)]
    pub added: usize,
    /// How many that they removed would be back.
    #[serde(default)]
    pub removed: usize,
}

impl ChoiceLoss {
    /// `leaves out 3 lines of grey-fox and brings back 1 that it removed`.
    pub fn words(&self) -> String {
        let lines = |count: usize| if count == 1 { "1 line".to_owned() } else { format!("{count} lines") };
        let (of, added, removed) = (&self.of, self.added, self.removed);
        match (added, removed) {
            (added, 0) => format!("leaves out {} of {of}", lines(added)),
            (0, removed) => format!("brings back {} that {of} removed", lines(removed)),
            (added, removed) => format!("leaves out {} of {of} and brings back {removed}", lines(added)),
        }
    }
}

/// One possible answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Choice {
    /// What `decide ID KEY` takes.
    pub key: String,
    /// What it does, with names.
    pub label: String,
}

impl Choice {
    /// The key of the choice whose answer is the text that goes with it.
    pub const ANSWER: &str = "answer";
}

/// An answer that was given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// One of the choices' keys; `remembered` or `rule` if it needed nobody, `places` if each place has its own answer.
    pub key: String,
    /// Text that goes with it: the message to an agent, or the whole content of a file that was edited; an edited
    /// file without one is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Who answered, as `Name <email>`; of an answer that needed nobody, the rule that gave it.
    pub by: String,
    /// Made by whoever answered, if he signs commits: a signed commit without files that says what was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// The decision whose answer this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<Id>,
    /// When.
    pub at: Timestamp,
}

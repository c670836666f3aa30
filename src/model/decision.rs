//! Decisions: questions to a person, and their answers.

use super::{Id, Timestamp};
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
    /// Answers for single paths; they go before `answer`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub answers: BTreeMap<String, Answer>,
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
            answers: BTreeMap::new(),
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
    /// One of the choices' keys; `remembered` or `rule` if it needed nobody.
    pub key: String,
    /// Text that goes with it: the message to an agent, or the whole content of a file that was edited; an edited
    /// file without one is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
    /// Who answered, as `Name <email>`; of an answer that needed nobody, the rule that gave it.
    pub by: String,
    /// The decision whose answer this one repeats.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub like: Option<Id>,
    /// When.
    pub at: Timestamp,
}

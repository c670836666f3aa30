//! Questions about conflicts, and what may be answered.

use super::carry::{carried, sides};
use super::conflict::{ConflictFile, ConflictStep, Part, Party, names};
use super::places::clashes;
use super::proof::sign;
use super::resolve::{ACCEPT, markers_left};
use super::step::{Attempt, attempt};
use super::{Error, abort_label, short_branch};
use crate::git::Repository;
use crate::model::{
    Answer, Choice, ChoiceLoss, Decision, DecisionKind, DecisionStatus, Id, Merge, Name, StepStatus,
    Timestamp,
};
use crate::orchestrate::supervise::weigh;
use crate::store::{ShortIds, State, Store, Transaction};
use bstr::ByteSlice;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// An answer that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The decision with it.
    pub decision: Decision,
    /// Paths, and places of paths as `src/a.rs:2`, that are still open.
    pub open: Vec<String>,
}

/// Lines of context around a clash in a decision's text, and how many lines of one file it shows at most.
const CONTEXT: usize = 3;
const SHOWN: usize = 160;
/// Of how many places of a file it says what each answer leaves out.
const PLACES_SAID: usize = 40;

/// The answers that hold for a single path, or for a place of it.
const PER_PATH: [&str; 4] = ["ours", "theirs", "union", "edit"];

/// What an answer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum On<'a> {
    /// Everything that has no answer of its own.
    Everything,
    /// One path, with all its places.
    Path(&'a str),
    /// One place of a path, counted from 1.
    Place(&'a str, usize),
}

impl<'a> On<'a> {
    /// The path, unless it is for everything.
    pub const fn path(self) -> Option<&'a str> {
        match self {
            On::Everything => None,
            On::Path(path) | On::Place(path, _) => Some(path),
        }
    }

    /// The place, if it is for one.
    pub const fn place(self) -> Option<usize> {
        match self {
            On::Place(_, place) => Some(place),
            On::Everything | On::Path(_) => None,
        }
    }
}

/// Records an answer to an open decision.
///
/// `text` is the whole content of an edited file (`edit`; none deletes it), the lines that go in the place of a clash
/// (`edit` of a place; none leaves it empty), or a message to the agent (`agent`).
///
/// # Errors
/// [`Error::Answer`] if the decision is not open, does not offer `key`, does not ask about that path or place, or an
/// edited file still holds conflict markers; [`Error::Sign`] if the user signs commits and it cannot be signed. Nothing is
/// recorded then.
pub fn answer(
    store: &Store,
    decision: &Id,
    on: On<'_>,
    key: &str,
    text: Option<&str>,
) -> Result<Answered, Error> {
    let state = store.state()?;
    let asked: Decision = state.require(decision)?;
    let refuse = |why: String| Error::Answer { id: *decision, why };
    // An answer for one of several paths changes what is open, and with it what is asked.
    let narrows = asked.kind == DecisionKind::Conflict && asked.paths.len() > 1 && on.path().is_some();
    let stands = if key == "edit" || narrows { conflict_of(store, &state, &asked)? } else { None };
    if key == "edit" {
        check_edit(store, &asked, stands.as_ref().map(|(_, conflict)| conflict), on.path(), text)?;
    }
    let on = match on {
        On::Everything if key == "edit" => asked.paths.first().map_or(on, |path| On::Path(path)),
        on => on,
    };
    check(&asked, is_doubted(store, &asked)?, on, key, text).map_err(refuse)?;
    let signature = sign(store, &asked, on, key, text)?;
    let by = store.author().to_string();
    let change = |tx: &mut Transaction<'_>| -> Result<Decision, Error> {
        let mut asked: Decision = tx.require(decision)?;
        let doubted = is_doubted(store, &asked)?;
        check(&asked, doubted, on, key, text).map_err(refuse)?;
        let given = Answer {
            key: key.to_owned(),
            text: text.map(str::to_owned),
            by: by.clone(),
            at: tx.now(),
            signature: signature.clone(),
            like: None,
        };
        store.remember_answer(decision, &given)?;
        let about = match on {
            On::Everything => {
                asked.answer = Some(given);
                String::new()
            }
            On::Path(path) => {
                let path = path.to_owned();
                let about = format!(" for {path}");
                asked.answers.insert(path, given);
                about
            }
            On::Place(path, place) => {
                asked.answers.remove(path);
                let place = Decision::place_key(path, place);
                let about = format!(" for {place}");
                asked.places.insert(place, given);
                about
            }
        };
        if asked.open_places().is_empty() {
            asked.status = DecisionStatus::Answered;
        } else if let Some((merge, conflict)) = &stands {
            headline(&mut asked, merge, conflict);
        }
        tx.describe(format!("decision {}: {key}{about}", &decision.as_str()[..6]));
        tx.put(&asked)?;
        Ok(asked)
    };
    let decision = store.transact(change)?.value;
    Ok(Answered { open: decision.open_places(), decision })
}

/// Whether an agent's question was answered elsewhere by nobody who is verified, and the agent was not told: somebody
/// here can say it themselves.
fn is_doubted(store: &Store, asked: &Decision) -> Result<bool, Error> {
    let weighed = if asked.told.is_none() { weigh(store, asked, false)? } else { None };
    Ok(weighed.is_some_and(|weighed| !weighed.counts))
}

/// Whether an answer can be given, for a path or a place, or why not.
fn check(asked: &Decision, doubted: bool, on: On<'_>, key: &str, text: Option<&str>) -> Result<(), String> {
    if asked.status != DecisionStatus::Open && !doubted {
        return Err("it is not open any more".to_owned());
    }
    // What is offered is for what is open; a path that has its answer may be answered anew in each way.
    let is_for_path = asked.kind == DecisionKind::Conflict && on.path().is_some() && PER_PATH.contains(&key);
    if !is_for_path && !asked.choices.iter().any(|choice| choice.key == key) {
        let keys: Vec<_> = asked.choices.iter().map(|choice| choice.key.as_str()).collect();
        return Err(format!("`{key}` is no answer to it; {} are", keys.join(", ")));
    }
    let says_nothing = text.is_none_or(|text| text.trim().is_empty());
    if asked.kind == DecisionKind::Question && key == Choice::ANSWER && says_nothing {
        return Err("say the answer with `-m TEXT`".to_owned());
    }
    let Some(path) = on.path() else {
        let whole =
            asked.paths.iter().find(|path| !asked.answers.contains_key(*path) && !asked.has_lines(path));
        return match whole.filter(|_| key == "union") {
            Some(path) => {
                Err(format!("{path} has no lines to keep of both; answer it with `--path {path}` first"))
            }
            None => Ok(()),
        };
    };
    if !asked.paths.iter().any(|known| known == path) {
        return Err(format!("it does not ask about {path}; it asks about {}", asked.paths.join(", ")));
    }
    if !PER_PATH.contains(&key) {
        return Err(format!("`{key}` is an answer for the whole step, not for one path"));
    }
    if key == "union" && !asked.has_lines(path) {
        return Err(format!("{path} has no lines to keep of both; take one side"));
    }
    match (on, asked.places_of(path)) {
        (On::Place(_, place), places) if place == 0 || place > places => Err(match places {
            0 => format!("{path} can only be answered as a whole"),
            1 => format!("{path} clashes in one place; it is number 1"),
            _ => format!("{path} clashes in {places} places, numbered from 1"),
        }),
        _ => Ok(()),
    }
}

/// The conflict that a question is about, and its merge: if it is what the merge stands before, and its commits are here.
fn conflict_of(
    store: &Store,
    state: &State,
    asked: &Decision,
) -> Result<Option<(Merge, ConflictStep)>, Error> {
    let Some(merge) = asked.merge.map(|id| state.get::<Merge>(&id)).transpose()?.flatten() else {
        return Ok(None);
    };
    let conflict = pending_conflict(store, state, &merge)?;
    Ok(conflict.filter(|conflict| conflict.subject == asked.subject).map(|conflict| (merge, conflict)))
}

fn check_edit(
    store: &Store,
    asked: &Decision,
    conflict: Option<&ConflictStep>,
    path: Option<&str>,
    text: Option<&str>,
) -> Result<(), Error> {
    let refuse = |why: String| Error::Answer { id: asked.id, why };
    let path = match (path, &asked.paths[..]) {
        (Some(path), _) => path,
        (None, [only]) => only,
        (None, _) => return Err(refuse("say which path was edited".to_owned())),
    };
    let file = conflict.and_then(|conflict| conflict.file(path));
    if file.map_or(asked.paths.iter().any(|known| known == path) && !asked.has_lines(path), |file| {
        file.parts.is_none()
    }) {
        return Err(refuse(format!("{path} has no lines to edit; take one side")));
    }
    // Where the branches are not in this clone, no line of theirs excuses a marker.
    let known = file.map(|file| &file.conflict);
    let left = markers_left(store.repo(), known, text.unwrap_or_default().as_bytes())?;
    if left > 0 {
        return Err(refuse(format!("{path} still has {left} lines of conflict markers")));
    }
    Ok(())
}

/// Whether an agent's answer was recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Recorded {
    Yes,
    /// Nobody waits for it any more.
    Overtaken,
}

/// Records the files that an agent made of a conflict, for a decision that asked an agent.
pub(super) fn record_agent(
    store: &Store,
    decision: &Id,
    agent: &Name,
    files: &BTreeMap<String, Option<String>>,
) -> Result<Recorded, Error> {
    let change = |tx: &mut Transaction<'_>| -> Result<Recorded, Error> {
        let mut asked: Decision = tx.require(decision)?;
        let waits = asked.answer.as_ref().is_some_and(|answer| answer.key == "agent");
        if asked.status != DecisionStatus::Answered || !waits {
            return Ok(Recorded::Overtaken);
        }
        for (path, text) in files {
            // What a person said about one path holds.
            asked.answers.entry(path.clone()).or_insert_with(|| Answer {
                key: "agent".to_owned(),
                text: text.clone(),
                by: agent.to_string(),
                at: tx.now(),
                signature: None,
                like: None,
            });
        }
        tx.describe(format!("decision {}: resolved by {agent}", &decision.as_str()[..6]));
        tx.put(&asked)?;
        Ok(Recorded::Yes)
    };
    Ok(store.transact(change)?.value)
}

/// Opens an answered decision again, with a sentence that says why: an agent that was asked could not do it.
pub fn reopen(store: &Store, decision: &Id, why: &str) -> Result<Decision, Error> {
    ask_again(store, decision, why, |_| {})
}

/// The same, of one that is written down with something else.
pub(super) fn open_again(decision: &mut Decision, why: &str) {
    decision.status = DecisionStatus::Open;
    decision.answer = None;
    decision.answers.retain(|_, answer| answer.key != "agent");
    decision.detail = format!("{why}\n\n{}", decision.detail);
}

/// Puts what was answered since `asked` was read, as `stored` has it, into it.
pub(super) fn keep_given(asked: &mut Decision, stored: &Decision) {
    let before = asked.clone();
    asked.answer = asked.answer.take().or_else(|| stored.answer.clone());
    for (path, answer) in stored.answers.iter().filter(|(_, answer)| answer.by.ends_with('>')) {
        asked.answers.entry(path.clone()).or_insert_with(|| answer.clone());
    }
    for (place, answer) in &stored.places {
        asked.places.entry(place.clone()).or_insert_with(|| answer.clone());
    }
    if *asked != before {
        asked.status = stored.status;
    }
}

/// Opens one again whose places are not those that git sees now.
pub(super) fn forget_places(store: &Store, decision: &Id) -> Result<Decision, Error> {
    let why = "git sees other places in it now than those that were answered one by one.";
    ask_again(store, decision, why, |decision| decision.places.clear())
}

/// The files whose answer is to keep the lines of both, although one side has to be taken whole: nobody can give it, and
/// an older version took it for a deletion.
pub(super) fn unions_without_lines(decision: &Decision, conflict: &ConflictStep) -> Vec<String> {
    let files = conflict.undecided().filter(|file| file.parts.is_none());
    let paths = files.map(|file| &file.conflict.path);
    let is_union = |path: &&String| decision.answer_for(path).is_some_and(|answer| answer.key == "union");
    paths.filter(is_union).cloned().collect()
}

/// Opens one again in which these files have such an answer.
pub(super) fn forget_unions(store: &Store, decision: &Id, paths: &[String]) -> Result<Decision, Error> {
    let why = format!("{} has no lines to keep of both: one side has to be taken.", paths.join(", "));
    ask_again(store, decision, &why, |decision| {
        decision.answers.retain(|path, answer| answer.key != "union" || !paths.contains(path));
    })
}

fn ask_again(
    store: &Store,
    decision: &Id,
    why: &str,
    forget: impl Fn(&mut Decision),
) -> Result<Decision, Error> {
    let change = |tx: &mut Transaction<'_>| -> Result<Decision, Error> {
        let mut decision: Decision = tx.require(decision)?;
        forget(&mut decision);
        open_again(&mut decision, why);
        tx.describe(format!("decision {}: open again", &decision.id.as_str()[..6]));
        tx.put(&decision)?;
        Ok(decision)
    };
    Ok(store.transact(change)?.value)
}

/// The conflict that an open merge stands before, if its next step conflicts and its commits are in this clone.
pub fn pending_conflict(store: &Store, state: &State, merge: &Merge) -> Result<Option<ConflictStep>, Error> {
    let Some(step) = merge.steps.iter().find(|step| step.status == StepStatus::Pending) else {
        return Ok(None);
    };
    if ![&merge.head, &step.tip].iter().all(|commit| store.repo().has_object(commit)) {
        return Ok(None);
    }
    match attempt(store.repo(), &merge.head, &step.tip)? {
        Some(Attempt::Conflict(result)) => {
            ConflictStep::new(store.repo(), state, merge, step, result).map(Some)
        }
        _ => Ok(None),
    }
}

/// The question that a conflict asks, without words and answers: [`headline`] and [`detail`] are about what is open.
pub(super) fn question(
    repo: &Repository,
    id: Id,
    merge: &Merge,
    conflict: &ConflictStep,
    created: Timestamp,
) -> Result<Decision, Error> {
    Ok(Decision {
        merge: Some(merge.id),
        agent: Some(conflict.step.agent),
        subject: conflict.subject.clone(),
        paths: conflict.undecided().map(|file| file.conflict.path.clone()).collect(),
        clashes: clashes(repo, conflict)?,
        sides: sides(repo, conflict)?,
        ..Decision::open(id, DecisionKind::Conflict, String::new(), created)
    })
}

/// Says in a line what is asked, and what may be answered: of what no answer settles yet.
pub(super) fn headline(asked: &mut Decision, merge: &Merge, conflict: &ConflictStep) {
    let files = open_files(asked, conflict);
    let ours = names(&parties(&files));
    let place = match &files[..] {
        [] => String::new(),
        [only] => format!(" in {}", only.conflict.path),
        [first, rest @ ..] => format!(" in {} and {} more", first.conflict.path, rest.len()),
    };
    let ours = if files.is_empty() { names(&conflict.ours()) } else { ours };
    asked.question = format!("{} conflicts with {ours}{place}", conflict.theirs.name);
    asked.choices = choices(merge, conflict, &files, &ours);
}

/// The files that are asked about and have no answer of their own yet; all if none is left.
fn open_files<'a>(asked: &Decision, conflict: &'a ConflictStep) -> Vec<&'a ConflictFile> {
    let files = conflict.undecided().filter(|file| asked.paths.contains(&file.conflict.path));
    let files: Vec<_> = files.collect();
    let open: Vec<_> = files.iter().filter(|file| asked.is_open(&file.conflict.path)).copied().collect();
    if open.is_empty() { files } else { open }
}

/// Whose landed work these conflict with, once each.
fn parties<'a>(files: &[&'a ConflictFile]) -> Vec<&'a Party> {
    let mut all = Vec::<&Party>::new();
    for party in files.iter().flat_map(|file| &file.ours) {
        if !all.contains(&party) {
            all.push(party);
        }
    }
    all
}

fn choices(merge: &Merge, conflict: &ConflictStep, files: &[&ConflictFile], ours: &str) -> Vec<Choice> {
    let theirs = &conflict.theirs.name;
    let mut choices = Vec::new();
    let mut add = |key: &str, label: String| choices.push(Choice { key: key.to_owned(), label });
    if conflict.files.is_empty() {
        add(ACCEPT, "go on with what git made of it".to_owned());
    } else {
        if files.iter().all(|file| file.parts.is_some()) {
            add("agent", "let an agent resolve it".to_owned());
        }
        add("ours", format!("keep what landed from {ours}"));
        add("theirs", format!("take {theirs}"));
        if files.iter().any(|file| file.parts.is_some()) {
            add("union", format!("keep the lines of both, those of {ours} first"));
            add("edit", "edit the file".to_owned());
        }
    }
    add("skip", format!("leave {theirs} out of this merge"));
    add("abort", abort_label(merge).to_owned());
    choices
}

/// Everything that is needed to answer a question away from its repository.
pub(super) fn detail(merge: &Merge, conflict: &ConflictStep, ids: &ShortIds, asked: &Decision) -> String {
    let mut text = String::new();
    let theirs = &conflict.theirs;
    let mut say = |line: &str| writeln!(text, "{line}").expect("a string takes everything");
    say(&format!(
        "Merging into `{}`: `{}` conflicts with {}.\n",
        short_branch(&merge.target),
        theirs.name,
        names(&conflict.ours())
    ));
    for party in std::iter::once(theirs).chain(conflict.ours()) {
        say(&format!("- {}", introduce(party, ids)));
    }
    for message in conflict.messages() {
        say(&format!("\n    {}", message.replace('\n', "\n    ")));
    }
    let carried = carried(asked);
    if !carried.is_empty() {
        say("\nAnswered before, and the same on all sides since:\n");
        for answer in carried {
            say(&format!("- {answer}"));
        }
    }
    for file in conflict.undecided() {
        let path = &file.conflict.path;
        say(&format!("\n## {path}\n"));
        if let Some(answer) = asked.answers.get(path) {
            say(&format!("It has its answer: `{}` by {}.\n", answer.key, answer.by));
        }
        match &file.parts {
            Some(parts) => say(&excerpt(parts, &names(&file.ours.iter().collect::<Vec<_>>()), &theirs.name)),
            None if file.whole => say(
                "The attribute `merge` keeps it from being merged by lines: one of the two versions has to be taken whole.",
            ),
            None => say("It cannot be merged by lines: one of the two versions has to be taken whole."),
        }
        let places = asked.places_of(path);
        if places <= 1 {
            say(&leaves_out(asked, path, None));
        } else {
            for place in 1..=places.min(PLACES_SAID) {
                say(&format!("\nPlace {place}:\n{}", leaves_out(asked, path, Some(place))));
            }
            if places > PLACES_SAID {
                say(&format!("… {} more places", places - PLACES_SAID));
            }
        }
    }
    text
}

/// What each answer that is known leaves out, as a list.
fn leaves_out(asked: &Decision, path: &str, place: Option<usize>) -> String {
    let mut text = String::new();
    let keys = ["ours", "theirs", "union"].into_iter().filter(|key| *key != "union" || asked.has_lines(path));
    for key in keys {
        let losses = asked.losses(key, Some(path), place);
        let words: Vec<String> = losses.iter().map(ChoiceLoss::words).collect();
        let words = if words.is_empty() { "leaves nothing out".to_owned() } else { words.join(", ") };
        write!(text, "\n- `{key}` {words}").expect("a string takes everything");
    }
    text
}

/// `blue-heron`, for task k3v8: Parse headers
fn introduce(party: &Party, ids: &ShortIds) -> String {
    match &party.task {
        Some(task) => format!("`{}`, for task {}: {}", party.name, ids.shorten(&task.id), task.title),
        None if party.agent.is_some() => format!("`{}`", party.name),
        None => format!("`{}`, the target", party.name),
    }
}

/// The clashes with some context, as a fenced block that the file's content cannot end.
fn excerpt(parts: &[Part], ours: &str, theirs: &str) -> String {
    let mut lines = Vec::<String>::new();
    let mut push = |bytes: &[u8]| {
        lines.extend(bytes.lines().map(|line| line.to_str_lossy().into_owned()));
    };
    let push_all = |lines: &[&[u8]], push: &mut dyn FnMut(&[u8])| {
        for line in lines {
            push(line);
        }
    };
    let places = parts.iter().filter(|part| matches!(part, Part::Clash { .. })).count();
    let mut place = 0;
    for (at, part) in parts.iter().enumerate() {
        match part {
            Part::Common(text) => {
                let all: Vec<&[u8]> = text.lines().collect();
                let (head, tail) =
                    (if at == 0 { 0 } else { CONTEXT }, if at + 1 == parts.len() { 0 } else { CONTEXT });
                if all.len() <= head + tail {
                    push_all(&all, &mut push);
                } else {
                    push_all(&all[..head], &mut push);
                    push("…".as_bytes());
                    push_all(&all[all.len() - tail..], &mut push);
                }
            }
            Part::Clash { ours: first, base, theirs: other } => {
                place += 1;
                let number = if places > 1 { format!(" (place {place})") } else { String::new() };
                push(format!("<<<<<<< {ours}{number}").as_bytes());
                push(first);
                push(b"||||||| before both");
                push(base);
                push(b"=======");
                push(other);
                push(format!(">>>>>>> {theirs}").as_bytes());
            }
        }
    }
    let hidden = lines.len().saturating_sub(SHOWN);
    lines.truncate(SHOWN);
    if hidden > 0 {
        lines.push(format!("… {hidden} more lines"));
    }
    let longest = lines.iter().map(|line| line.chars().take_while(|&c| c == '`').count()).max().unwrap_or(0);
    let fence = "`".repeat(3.max(longest + 1));
    format!("{fence}diff\n{}\n{fence}", lines.join("\n"))
}

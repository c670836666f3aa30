//! Questions about conflicts, and what may be answered.

use super::conflict::{ConflictStep, Part, Party, names};
use super::resolve::{ACCEPT, markers_left};
use super::step::{Attempt, attempt};
use super::{Error, short_branch};
use crate::model::{
    Answer, Choice, Decision, DecisionKind, DecisionStatus, Id, Merge, Name, StepStatus, Timestamp,
};
use crate::store::{ShortIds, State, Store, Transaction};
use bstr::ByteSlice;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// An answer that was recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answered {
    /// The decision with it.
    pub decision: Decision,
    /// Paths that are still open.
    pub open: Vec<String>,
}

/// Lines of context around a clash in a decision's text, and how many lines of one file it shows at most.
const CONTEXT: usize = 3;
const SHOWN: usize = 160;

/// The answers that hold for a single path.
const PER_PATH: [&str; 3] = ["ours", "theirs", "edit"];

/// Records an answer to an open decision: for one path of it, or for everything that has no answer of its own.
///
/// `text` is the whole content of an edited file (`edit`; none deletes it), or a message to the agent (`agent`).
///
/// # Errors
/// [`Error::Answer`] if the decision is not open, does not offer `key`, does not ask about `path`, or an edited
/// file still holds conflict markers; nothing is recorded then.
pub fn answer(
    store: &Store,
    decision: &Id,
    path: Option<&str>,
    key: &str,
    text: Option<&str>,
) -> Result<Answered, Error> {
    let state = store.state()?;
    let asked: Decision = state.require(decision)?;
    let refuse = |why: String| Error::Answer { id: *decision, why };
    if key == "edit" {
        check_edit(store, &state, &asked, path, text)?;
    }
    let by = store.author().to_string();
    let change = |tx: &mut Transaction<'_>| -> Result<Decision, Error> {
        let mut asked: Decision = tx.require(decision)?;
        if asked.status != DecisionStatus::Open {
            return Err(refuse("it is not open any more".to_owned()));
        }
        if !asked.choices.iter().any(|choice| choice.key == key) {
            let keys: Vec<_> = asked.choices.iter().map(|choice| choice.key.as_str()).collect();
            return Err(refuse(format!("`{key}` is no answer to it; {} are", keys.join(", "))));
        }
        if asked.kind == DecisionKind::Question
            && key == Choice::ANSWER
            && text.is_none_or(|text| text.trim().is_empty())
        {
            return Err(refuse("say the answer with `-m TEXT`".to_owned()));
        }
        let given = Answer {
            key: key.to_owned(),
            text: text.map(str::to_owned),
            by: by.clone(),
            at: tx.now(),
            like: None,
        };
        let path = path.or(if key == "edit" { asked.paths.first().map(String::as_str) } else { None });
        if let Some(path) = path {
            if !asked.paths.iter().any(|known| known == path) {
                return Err(refuse(format!(
                    "it does not ask about {path}; it asks about {}",
                    asked.paths.join(", ")
                )));
            }
            if !PER_PATH.contains(&key) {
                return Err(refuse(format!("`{key}` is an answer for the whole step, not for one path")));
            }
            asked.answers.insert(path.to_owned(), given);
        } else {
            asked.answer = Some(given);
        }
        if asked.answer.is_some() || open_paths(&asked).is_empty() {
            asked.status = DecisionStatus::Answered;
        }
        let on = path.map(|path| format!(" for {path}")).unwrap_or_default();
        tx.describe(format!("decision {}: {key}{on}", &decision.as_str()[..6]));
        tx.put(&asked)?;
        Ok(asked)
    };
    let decision = store.transact(change)?.value;
    Ok(Answered {
        open: if decision.answer.is_some() { Vec::new() } else { open_paths(&decision) },
        decision,
    })
}

pub(super) fn open_paths(decision: &Decision) -> Vec<String> {
    decision.paths.iter().filter(|path| !decision.answers.contains_key(*path)).cloned().collect()
}

fn check_edit(
    store: &Store,
    state: &State,
    asked: &Decision,
    path: Option<&str>,
    text: Option<&str>,
) -> Result<(), Error> {
    let refuse = |why: String| Error::Answer { id: asked.id, why };
    let path = match (path, &asked.paths[..]) {
        (Some(path), _) => path,
        (None, [only]) => only,
        (None, _) => return Err(refuse("say which path was edited".to_owned())),
    };
    let merge = asked.merge.map(|id| state.get::<Merge>(&id)).transpose()?.flatten();
    let conflict = merge.map(|merge| pending_conflict(store, state, &merge)).transpose()?.flatten();
    let conflict = conflict.filter(|conflict| conflict.subject == asked.subject);
    let Some(file) = conflict.as_ref().and_then(|conflict| conflict.file(path)) else { return Ok(()) };
    if file.parts.is_none() {
        return Err(refuse(format!("{path} has no lines to edit; take one side")));
    }
    let left = markers_left(store.repo(), &file.conflict, text.unwrap_or_default().as_bytes())?;
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
    let change = |tx: &mut Transaction<'_>| -> Result<Decision, Error> {
        let mut decision: Decision = tx.require(decision)?;
        decision.status = DecisionStatus::Open;
        decision.answer = None;
        decision.answers.retain(|_, answer| answer.key != "agent");
        decision.detail = format!("{why}\n\n{}", decision.detail);
        tx.describe(format!("decision {}: open again", &decision.id.as_str()[..6]));
        tx.put(&decision)?;
        Ok(decision)
    };
    Ok(store.transact(change)?.value)
}

/// The conflict that an open merge stands before, if its next step conflicts.
pub fn pending_conflict(store: &Store, state: &State, merge: &Merge) -> Result<Option<ConflictStep>, Error> {
    let Some(step) = merge.steps.iter().find(|step| step.status == StepStatus::Pending) else {
        return Ok(None);
    };
    match attempt(store.repo(), &merge.head, &step.tip)? {
        Some(Attempt::Conflict(result)) => {
            ConflictStep::new(store.repo(), state, merge, step, result).map(Some)
        }
        _ => Ok(None),
    }
}

/// The question that a conflict asks.
pub(super) fn question(
    id: Id,
    merge: &Merge,
    conflict: &ConflictStep,
    ids: &ShortIds,
    created: Timestamp,
) -> Decision {
    let ours = names(&conflict.ours());
    let theirs = &conflict.theirs.name;
    let paths: Vec<String> = conflict.undecided().map(|file| file.conflict.path.clone()).collect();
    let place = match &paths[..] {
        [] => String::new(),
        [only] => format!(" in {only}"),
        [first, rest @ ..] => format!(" in {first} and {} more", rest.len()),
    };
    let question = format!("{theirs} conflicts with {ours}{place}");
    Decision {
        detail: detail(merge, conflict, ids, &ours),
        choices: choices(conflict, &ours),
        merge: Some(merge.id),
        agent: Some(conflict.step.agent),
        subject: conflict.subject.clone(),
        paths,
        ..Decision::open(id, DecisionKind::Conflict, question, created)
    }
}

fn choices(conflict: &ConflictStep, ours: &str) -> Vec<Choice> {
    let theirs = &conflict.theirs.name;
    let mut choices = Vec::new();
    let mut add = |key: &str, label: String| choices.push(Choice { key: key.to_owned(), label });
    if conflict.files.is_empty() {
        add(ACCEPT, "go on with what git made of it".to_owned());
    } else {
        if conflict.undecided().all(|file| file.parts.is_some()) {
            add("agent", "let an agent resolve it".to_owned());
        }
        add("ours", format!("keep what landed from {ours}"));
        add("theirs", format!("take {theirs}"));
        if conflict.files.iter().any(|file| file.parts.is_some()) {
            add("edit", "edit the file".to_owned());
        }
    }
    add("skip", format!("leave {theirs} out of this merge"));
    add("abort", "give up the merge; nothing has moved".to_owned());
    choices
}

fn detail(merge: &Merge, conflict: &ConflictStep, ids: &ShortIds, ours: &str) -> String {
    let mut text = String::new();
    let theirs = &conflict.theirs;
    let mut say = |line: &str| writeln!(text, "{line}").expect("a string takes everything");
    say(&format!(
        "Merging into `{}`: `{}` conflicts with {}.\n",
        short_branch(&merge.target),
        theirs.name,
        ours
    ));
    for party in std::iter::once(theirs).chain(conflict.ours()) {
        say(&format!("- {}", introduce(party, ids)));
    }
    for message in conflict.messages() {
        say(&format!("\n    {}", message.replace('\n', "\n    ")));
    }
    for file in conflict.undecided() {
        say(&format!("\n## {}\n", file.conflict.path));
        match &file.parts {
            Some(parts) => say(&excerpt(parts, &names(&file.ours.iter().collect::<Vec<_>>()), &theirs.name)),
            None => say("It cannot be merged by lines: one of the two versions has to be taken whole."),
        }
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
                push(format!("<<<<<<< {ours}").as_bytes());
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

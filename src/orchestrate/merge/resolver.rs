//! A conflict resolved by an agent: what it is given, and what of its answer is taken.
//!
//! The agent works in a worktree of its own, on a commit that holds the conflicting files with their markers. Of
//! what it leaves only those files are taken, only as text without markers, and only if its run succeeded. It is
//! removed afterwards; its transcript stays.

use super::answer::{Recorded, record_agent};
use super::conflict::{ConflictStep, Part, Party, names};
use super::resolve::{entry, markers_left, side};
use super::{Error, reopen};
use crate::agent::prompt;
use crate::git::{EntryMode, NewCommit, Repository, path_text, text_path};
use crate::model::{Agent, Decision, Id, ObjectId, Outcome};
use crate::orchestrate::Surroundings;
use crate::orchestrate::supervise::Finished;
use crate::orchestrate::{Claim, Outfit, RemoveOptions, SpawnRequest, lease, remove, spawn};
use crate::store::Store;
use bstr::{BString, ByteSlice};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What came of asking an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentAnswer {
    /// Its files are recorded as the answer.
    Taken {
        /// Other paths that it changed, and that are not taken.
        ignored: Vec<String>,
    },
    /// Its answer is not one, and the decision is open again.
    Refused(String),
}

/// Claims a new agent that is to resolve a conflict; run it with [`crate::orchestrate::run_claims`], then call
/// [`take_answer`].
pub fn claim_resolver(
    store: &Store,
    decision: &Decision,
    conflict: &ConflictStep,
    outfit: Outfit,
    teardown: Option<&Surroundings>,
) -> Result<Claim, Error> {
    sweep(store, &decision.id, teardown)?;
    let base = conflicted_commit(store, decision, conflict)?;
    let words = decision.answer.as_ref().and_then(|answer| answer.text.as_deref());
    claim_on(store, &base, brief(conflict, &left_to_it(decision), words), outfit)
}

/// Claims a new agent that starts from a commit that was made for it.
pub(super) fn claim_on(
    store: &Store,
    base: &ObjectId,
    prompt: String,
    outfit: Outfit,
) -> Result<Claim, Error> {
    let request = SpawnRequest {
        tasks: Vec::new(),
        prompt: Some(prompt),
        name: None,
        base: Some(base.to_string()),
        zone: None,
        force: false,
        step: None,
        outfit,
    };
    let mut spawned = spawn(store, &request)?;
    Ok(spawned.claims.pop().expect("one prompt, one agent"))
}

/// The accumulated commit and the branch, merged as far as git could, with markers that carry names.
fn conflicted_commit(store: &Store, decision: &Decision, conflict: &ConflictStep) -> Result<ObjectId, Error> {
    let repo = store.repo();
    let mut edits = Vec::<(BString, Option<(EntryMode, ObjectId)>)>::new();
    for file in &conflict.files {
        let path = &file.conflict.path;
        if let Some((side, answer)) =
            decision.answers.get(path).and_then(|answer| Some((side(answer)?, answer)))
        {
            edits.push((text_path(path), entry(repo, file, side, answer)?));
            continue;
        }
        let Some((mode, landed)) = &file.conflict.ours else { continue };
        let content = match file.with_markers(&conflict.theirs) {
            // It is nobody's to resolve.
            Some(_) if !decision.paths.contains(&file.conflict.path) => landed.clone(),
            Some(text) => repo.write_blob(&text)?,
            None => continue,
        };
        edits.push((text_path(&file.conflict.path), Some((EntryMode::from_octal(*mode), content))));
    }
    let (tree, _) = repo.edit_tree(Some(&conflict.merge.tree), &edits)?;
    let theirs = &conflict.theirs.name;
    Ok(repo.write_commit(&NewCommit {
        tree: &tree,
        parents: &[conflict.head.clone(), conflict.step.tip.clone()],
        author: store.author(),
        committer: store.author(),
        at: store.clock().now(),
        message: &format!(
            "{theirs}: with conflicts\n\nFor an agent that resolves them; it never lands.\n\n{RESOLVES}: {}\n",
            decision.id
        ),
    })?)
}

/// The decision that an agent was made to resolve, or to mend what a gate fails with: its branch starts from a commit of
/// ours, such as one with conflict markers, and is never merged.
pub(super) fn resolves(repo: &Repository, agent: &Agent) -> Option<String> {
    let base = repo.read_commit(&agent.base).ok()?;
    base.trailers(RESOLVES).next().map(str::to_owned)
}

pub(super) const RESOLVES: &str = "Orchestra-Resolves";

/// Removes what a killed process left of an agent for this decision: nobody is asked twice at once.
pub(super) fn sweep(store: &Store, decision: &Id, teardown: Option<&Surroundings>) -> Result<(), Error> {
    for agent in store.state()?.all::<Agent>()? {
        if agent.removed.is_none()
            && resolves(store.repo(), &agent).as_deref() == Some(decision.as_str())
            && lease::find_live(store.repo(), &agent.id).is_none()
        {
            dismiss(store, &agent.id, teardown)?;
        }
    }
    Ok(())
}

/// Removes an agent that was asked about one decision: what it ignored is nobody's.
pub(super) fn dismiss(store: &Store, agent: &Id, teardown: Option<&Surroundings>) -> Result<(), Error> {
    remove(store, agent, RemoveOptions { discard_ignored: true, ..RemoveOptions::default() }, teardown)?;
    Ok(())
}

/// The paths that an agent is asked about: those with an answer of their own are settled.
fn left_to_it(decision: &Decision) -> Vec<String> {
    decision.paths.iter().filter(|path| !decision.answers.contains_key(*path)).cloned().collect()
}

fn brief(conflict: &ConflictStep, asked: &[String], words: Option<&str>) -> String {
    let (ours, theirs) = (conflict.ours(), &conflict.theirs);
    let landed = names(&ours);
    let mut text = format!(
        "Resolve {} against {landed}\n\nTwo pieces of work on this repository are being merged, and git could not \
         merge these files by itself:\n\n",
        theirs.name
    );
    for file in conflict.undecided().filter(|file| asked.contains(&file.conflict.path)) {
        writeln!(text, "- {}", file.conflict.path).expect("a string takes everything");
    }
    for party in ours {
        write!(text, "\n# What has landed: {}\n\n{}", party.name, purpose(party))
            .expect("a string takes everything");
    }
    write!(text, "\n# What is being merged: {}\n\n{}", theirs.name, purpose(theirs))
        .expect("a string takes everything");
    write!(
        text,
        "\n# What to do\n\nIn the current directory these files hold conflict markers: after `<<<<<<< {landed}` \
         stands what has landed, after `||||||| before both` what was there before, and after `=======` what is \
         being merged, up to `>>>>>>> {}`. Edit the files so that both pieces of work keep what they were made \
         for, and remove every marker line. Change no other file: only these are taken. If both cannot be kept, \
         say why and leave the markers in.\n",
        theirs.name
    )
    .expect("a string takes everything");
    if let Some(words) = words {
        write!(text, "\nThe person who decides adds: {words}\n").expect("a string takes everything");
    }
    text
}

fn purpose(party: &Party) -> String {
    match &party.task {
        Some(task) => prompt::task(task, None, None),
        None if party.agent.is_some() => {
            "It has no task that says what it is for; its commits do.\n".to_owned()
        }
        None => "The branch that is merged into.\n".to_owned(),
    }
}

/// Takes what the agent of a finished run left as the answer, or opens the decision again and says why; then
/// removes the agent.
pub fn take_answer(
    store: &Store,
    decision: &Id,
    conflict: &ConflictStep,
    finished: &Finished,
    teardown: Option<&Surroundings>,
) -> Result<AgentAnswer, Error> {
    let asked = left_to_it(&store.state()?.require(decision)?);
    let answer = match judge(store, conflict, &asked, finished)? {
        Ok((files, ignored)) => match record_agent(store, decision, &finished.name, &files)? {
            Recorded::Yes => AgentAnswer::Taken { ignored },
            Recorded::Overtaken => AgentAnswer::Refused("somebody answered meanwhile".to_owned()),
        },
        Err(why) => {
            reopen(store, decision, &format!("{} was asked to resolve it: {why}.", finished.name))?;
            AgentAnswer::Refused(why)
        }
    };
    dismiss(store, &finished.agent, teardown)?;
    Ok(answer)
}

/// A line beside the conflicts that is not there any more, or not in its place: those are nobody's to resolve. Lines may
/// have come between them, an import that both sides need.
fn changed_beside(parts: &[Part], text: &str) -> Option<String> {
    let mut lines = text.lines();
    let beside = parts.iter().filter_map(|part| match part {
        Part::Common(lines) => Some(lines),
        Part::Clash { .. } => None,
    });
    for line in beside.flat_map(|lines| lines.lines()) {
        let line = line.to_str_lossy();
        if !line.trim().is_empty() && !lines.any(|other| other == line) {
            return Some(line.trim().chars().take(SHOWN).collect());
        }
    }
    None
}

/// How much of a line is shown.
const SHOWN: usize = 80;

type Files = BTreeMap<String, Option<String>>;

/// The files as the agent left them and the other paths it changed; or why they are no answer.
fn judge(
    store: &Store,
    conflict: &ConflictStep,
    asked: &[String],
    finished: &Finished,
) -> Result<Result<(Files, Vec<String>), String>, Error> {
    let repo = store.repo();
    match &finished.outcome {
        Some(Outcome::Succeeded) => {}
        Some(outcome) => return Ok(Err(format!("its run {}", outcome.word()))),
        None => return Ok(Err("its run did not start".to_owned())),
    }
    let tree = repo.read_commit(&finished.tip)?.tree;
    let mut files = Files::new();
    for file in conflict.undecided().filter(|file| asked.contains(&file.conflict.path)) {
        let path = &file.conflict.path;
        let Some(entry) = repo.find_in_tree(&tree, text_path(path))? else {
            files.insert(path.clone(), None);
            continue;
        };
        if !entry.mode.is_file() {
            return Ok(Err(format!("{path} is no file any more")));
        }
        let content = repo.read_blob(&entry.id)?;
        match markers_left(repo, Some(&file.conflict), &content)? {
            0 => {}
            left => return Ok(Err(format!("{path} still has {left} lines of conflict markers"))),
        }
        let Ok(text) = String::from_utf8(content) else { return Ok(Err(format!("{path} is not UTF-8"))) };
        if let Some(line) = file.parts.as_ref().and_then(|parts| changed_beside(parts, &text)) {
            return Ok(Err(format!("it changed `{line}` of {path}, which is in no conflict")));
        }
        files.insert(path.clone(), Some(text));
    }
    let base = store.state()?.require::<Agent>(&finished.agent)?.base;
    let ignored = repo
        .changes(&base, &finished.tip)?
        .iter()
        .flat_map(|change| change.paths().map(|path| path_text(path.as_ref())).collect::<Vec<_>>())
        .filter(|path| !files.contains_key(path))
        .collect();
    Ok(Ok((files, ignored)))
}

//! Looks at what is in refs and notes.

use super::super::Error;
use super::{Check, DoctorOptions, count};
use crate::model::{Agent, Decision, Finding, Id, Kind, Task};
use crate::store::{FINDINGS_NOTES, LOG_REFS, PROVENANCE_NOTES, State, Store};
use std::collections::BTreeSet;

/// How many of a kind are named.
const NAMED: usize = 10;

pub(super) fn state(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let state = store.state()?;
    if state.commit().is_none() {
        return Ok(Check::ok("state", "none yet: the first command that writes makes it"));
    }
    let verified = state.verify(store.clock().now())?;
    let mut words = Vec::new();
    for (kind, number) in &verified.entities {
        words.push(count(*number, kind.noun(), kind.directory()));
    }
    let what = if words.is_empty() { "empty".to_owned() } else { words.join(", ") };
    if !verified.broken.is_empty() {
        let number = verified.broken.len();
        let text = format!("{what}; {} cannot be read", count(number, "record", "records"));
        let named = verified.broken.iter().take(NAMED).map(|(path, reason)| format!("{path}: {reason}"));
        let way_out =
            "git log refs/orchestra/state -- PATH   shows who wrote it; `git orchestra undo` takes it back";
        return Ok(Check::fail("state", text).details(named).way_out(way_out));
    }
    if !verified.unknown.is_empty() {
        let text = format!("{what}; and what a newer build wrote: {}", verified.unknown.join(", "));
        return Ok(Check::warn("state", text).way_out("install the newest git-orchestra"));
    }
    if !verified.ahead.is_empty() {
        let named = verified.ahead.iter().map(|(machine, number)| {
            let records = count(*number, "record", "records");
            format!("machine {machine}: {records}")
        });
        let text = format!("{what}; stamps of more than a day from now");
        let way_out = "set that machine's clock; merging is right all the same, dates are not";
        return Ok(Check::warn("state", text).details(named).way_out(way_out));
    }
    let dangling = dangling(&state)?;
    if !dangling.is_empty() {
        let text =
            format!("{what}; {} to what is not there", count(dangling.len(), "reference", "references"));
        let named = dangling.into_iter().take(NAMED);
        let way_out =
            "git orchestra sync   if another machine has it; otherwise `task edit` and `task reopen`";
        return Ok(Check::warn("state", text).details(named).way_out(way_out));
    }
    Ok(Check::ok("state", what))
}

/// What names something that the state does not have.
fn dangling(state: &State) -> Result<Vec<String>, Error> {
    let ids = |kind: Kind| -> Result<BTreeSet<Id>, Error> {
        Ok(match kind {
            Kind::Task => state.all::<Task>()?.iter().map(|task| task.id).collect(),
            _ => state.all::<Agent>()?.iter().map(|agent| agent.id).collect(),
        })
    };
    let (tasks, agents) = (ids(Kind::Task)?, ids(Kind::Agent)?);
    let mut named = Vec::new();
    let mut look =
        |from: (Kind, &Id), to: Kind, id: Option<&Id>, known: &BTreeSet<Id>| -> Result<(), Error> {
            if let Some(id) = id
                && !known.contains(id)
                && state.record(to, id)?.is_none()
            {
                named.push(format!("{} {} names {} {id}", from.0.noun(), from.1, to.noun()));
            }
            Ok(())
        };
    for task in state.all::<Task>()? {
        look((Kind::Task, &task.id), Kind::Agent, task.assignee.as_ref(), &agents)?;
        for after in &task.after {
            look((Kind::Task, &task.id), Kind::Task, Some(after), &tasks)?;
        }
    }
    for agent in state.all::<Agent>()? {
        look((Kind::Agent, &agent.id), Kind::Task, agent.task.as_ref(), &tasks)?;
    }
    for finding in state.all::<Finding>()? {
        look((Kind::Finding, &finding.id), Kind::Agent, finding.agent.as_ref(), &agents)?;
        look((Kind::Finding, &finding.id), Kind::Task, finding.task.as_ref(), &tasks)?;
    }
    for decision in state.all::<Decision>()? {
        look((Kind::Decision, &decision.id), Kind::Agent, decision.agent.as_ref(), &agents)?;
    }
    Ok(named)
}

pub(super) fn history(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let repo = store.repo();
    let mut tips = Vec::new();
    for prefix in ["refs/orchestra/", "refs/notes/orchestra/"] {
        tips.extend(repo.list_refs(prefix)?);
    }
    let refs = count(tips.len(), "ref", "refs");
    let ids: Vec<_> = tips.into_iter().map(|(_, id)| id).collect();
    if let Err(error) = repo.require_connected(&ids) {
        let detail = super::super::supervise::chain(&error);
        let way_out =
            "git fsck --connectivity-only   names all that is missing; another clone, or a backup, has it";
        return Ok(Check::fail("history", format!("{refs}, and objects of theirs are missing"))
            .details([detail])
            .way_out(way_out));
    }
    Ok(Check::ok("history", format!("everything that {refs} reach is there")))
}

pub(super) fn notes(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let repo = store.repo();
    let (mut there, mut lost) = (0, 0);
    for name in [FINDINGS_NOTES, PROVENANCE_NOTES] {
        let Some(tip) = repo.find_ref(name)? else { continue };
        for commit in repo.noted_commits(&tip)? {
            if repo.has_object(&commit) { there += 1 } else { lost += 1 }
        }
    }
    let text = format!("on {}", count(there, "commit", "commits"));
    Ok(if lost > 0 {
        let text = format!("{text}; {} speak of commits that are not here", count(lost, "note", "notes"));
        Check::ok("notes", text)
    } else {
        Check::ok("notes", text)
    })
}

pub(super) fn transcripts(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let repo = store.repo();
    let refs = repo.list_refs(LOG_REFS)?;
    let mut odd = Vec::new();
    let mut weeks = BTreeSet::new();
    for (name, tip) in &refs {
        let rest = name.strip_prefix(LOG_REFS).unwrap_or(name);
        match rest.split_once('/') {
            Some((_, week)) if is_week(week) => drop(weeks.insert(week.to_owned())),
            _ => odd.push(name.clone()),
        }
        repo.read_tree(&repo.read_commit(tip)?.tree)?;
    }
    let state = store.state()?;
    let mut gone = Vec::new();
    for agent in state.all::<Agent>()? {
        for (number, run) in &agent.runs {
            if let Some(tree) = &run.transcript
                && !repo.has_object(tree)
                && agent.machine == store.machine()?
                && !crate::store::journal::path(repo, &agent.id, *number).exists()
            {
                gone.push(format!("{} run {number}", agent.name));
            }
        }
    }
    let text = if weeks.is_empty() {
        "none".to_owned()
    } else {
        format!("of {}", count(weeks.len(), "week", "weeks"))
    };
    if !odd.is_empty() {
        return Ok(Check::warn("transcripts", format!("{text}; refs with odd names")).details(odd));
    }
    if !gone.is_empty() {
        let text =
            format!("{text}; {} not here any more", count(gone.len(), "transcript is", "transcripts are"));
        return Ok(Check::ok("transcripts", text).details(gone.into_iter().take(NAMED)));
    }
    Ok(Check::ok("transcripts", text))
}

fn is_week(text: &str) -> bool {
    let digits = |text: &str, len: usize| text.len() == len && text.bytes().all(|b| b.is_ascii_digit());
    text.split_once("-W").is_some_and(|(year, week)| digits(year, 4) && digits(week, 2))
}

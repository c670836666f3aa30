//! What a killed process left behind, put in order by whoever comes next.

use super::lease::{self, Lease, LeaseState};
use super::supervise::{RunRecord, own_commits, write_run};
use super::{Error, trust};
use crate::git::{Repository, Worktree};
use crate::model::{Agent, Event, EventKind, Outcome};
use crate::process::end_orphans;
use crate::store::Store;
use crate::store::journal::{self, Entry};
use std::time::Duration;

/// How long what a dead supervisor left running may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// Undoes half-made worktrees, ends what outlived its supervisor, and records runs whose watcher died as lost.
/// Returns what was done, in words.
///
/// Call it at the start of every command that changes something: when nothing is there it costs three directory
/// listings. Safe to run any number of times at once, and to be killed.
pub fn recover(store: &Store) -> Result<Vec<String>, Error> {
    let mut said = store.repo().mend_worktrees()?;
    for lease in lease::take_dead(store.repo())? {
        said.extend(settle(store, &lease)?);
        lease.release()?;
    }
    trust::forget(store.repo());
    Ok(said)
}

/// Returns what was done; nothing if there was nothing to do but to let go of the lease.
fn settle(store: &Store, lease: &Lease) -> Result<Option<String>, Error> {
    let info = lease.info();
    let (name, number) = (&info.name, info.run);
    let agent = store.state()?.get::<Agent>(&info.agent)?;
    let unrecorded = |agent: &Agent| agent.runs.get(&number).is_some_and(|run| run.outcome.is_none());
    // Killed before the claim, or after the record: either way nothing of it is open.
    let Some(agent) = agent.filter(unrecorded) else { return Ok(None) };
    if info.state == LeaseState::Queued {
        // Its number is given out again, and a journal has one life. It may have been made already, with nothing in it.
        let journal = journal::path(store.repo(), &agent.id, number);
        match std::fs::remove_file(&journal) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("remove", journal, e));
            }
            _ => {}
        }
        store.transact(|transaction| {
            if let Some(mut agent) = transaction.get::<Agent>(&info.agent)?.filter(unrecorded) {
                agent.runs.remove(&number);
                transaction.describe(format!("agent: {name} run {number} not started"));
                transaction.put(&agent)?;
            }
            Ok::<_, Error>(())
        })?;
        return Ok(Some(format!("{name} was not started; `git orchestra resume {name}` starts it")));
    }
    let mark = format!("{}={}", lease::LeaseInfo::MARK, info.mark());
    let ended = end_orphans(info.child.as_ref(), &mark, GRACE);
    let record = lost(store.repo(), &agent, number)?;
    let uncommitted = uncommitted(store.repo(), &agent);
    store.transact(|transaction| {
        if transaction.get::<Agent>(&info.agent)?.is_some_and(|agent| unrecorded(&agent)) {
            let mut record = record.clone();
            record.run.ended = Some(transaction.now());
            write_run(transaction, &record)?;
            transaction.describe(format!("agent: {name} run {number} lost"));
        }
        Ok::<_, Error>(())
    })?;
    let mut text = format!("{name}: whoever watched its run {number} died; it is lost");
    if ended > 0 {
        text.push_str(", and what still ran was ended");
    }
    if uncommitted > 0 {
        let paths = if uncommitted == 1 { "path is" } else { "paths are" };
        let still = format!("; {uncommitted} uncommitted {paths} still in its worktree");
        text.push_str(&still);
    }
    Ok(Some(text))
}

/// What is known of a run whose watcher died: its commits, and what its journal says of it.
fn lost(repo: &Repository, agent: &Agent, number: u32) -> Result<RunRecord, Error> {
    let journal = std::fs::read(journal::path(repo, &agent.id, number)).unwrap_or_default();
    let journal = journal::whole(&journal);
    let mut run = agent.runs.get(&number).cloned().unwrap_or_default();
    run.outcome = Some(Outcome::Lost);
    run.tip = repo.find_ref(&agent.branch)?;
    let mut named = None;
    for entry in journal::parse(journal) {
        let Entry::Event(Event { parent: None, kind, .. }) = entry else { continue };
        match kind {
            EventKind::Ready { model, session, .. } => {
                run.model = model.or(run.model);
                named = session.or(named);
            }
            EventKind::Usage { usage } | EventKind::Result { usage, .. } => run.usage = usage,
            _ => {}
        }
    }
    let earlier = agent.runs.range(..number).rev().find_map(|(_, run)| run.tip.clone());
    let start = earlier.unwrap_or_else(|| agent.base.clone());
    let commits = match &run.tip {
        Some(tip) => own_commits(repo, agent, &start, tip)?,
        None => Vec::new(),
    };
    Ok(RunRecord {
        agent: agent.id,
        number,
        run,
        session: named.filter(|session| Some(session) != agent.session.as_ref()),
        commits,
        journal: journal.to_vec(),
    })
}

fn uncommitted(repo: &Repository, agent: &Agent) -> usize {
    if trust::require_unchanged(repo).is_err() {
        return 0;
    }
    let worktree = repo.find_worktree(agent.name.as_str()).ok().flatten().filter(Worktree::is_intact);
    worktree.and_then(|worktree| repo.worktree_status(&worktree).ok()).map_or(0, |status| status.count())
}

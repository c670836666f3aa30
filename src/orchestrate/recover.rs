//! What a killed process left behind, put in order by whoever comes next.

use super::Error;
use super::lease::{self, Lease, LeaseState};
use super::supervise::{RunRecord, write_run};
use crate::git::Repository;
use crate::model::{Agent, Outcome};
use crate::process::end_orphans;
use crate::store::{Store, journal};
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
        said.push(settle(store, &lease)?);
        lease.release()?;
    }
    Ok(said)
}

fn settle(store: &Store, lease: &Lease) -> Result<String, Error> {
    let info = lease.info();
    let (repo, name, run) = (store.repo(), &info.name, info.run);
    if info.state == LeaseState::Queued {
        store.transact(|transaction| {
            if let Some(mut agent) = transaction.get::<Agent>(&info.agent)?
                && agent.runs.get(&run).is_some_and(|run| run.outcome.is_none())
            {
                agent.runs.remove(&run);
                transaction.describe(format!("agent: {name} run {run} not started"));
                transaction.put(&agent)?;
            }
            Ok::<_, Error>(())
        })?;
        return Ok(format!("{name} was not started; `git orchestra resume {name}` starts it"));
    }
    let mark = format!("{}={}", lease::LeaseInfo::MARK, info.mark());
    let ended = end_orphans(info.child.as_ref(), &mark, GRACE);
    let journal = std::fs::read(journal::path(repo, &info.agent, run)).unwrap_or_default();
    let journal = journal::whole(&journal);
    let agent = store.state()?.get::<Agent>(&info.agent)?;
    let tip = agent.as_ref().map(|agent| repo.find_ref(&agent.branch)).transpose()?.flatten();
    let uncommitted = uncommitted(repo, agent.as_ref());
    store.transact(|transaction| {
        let Some(agent) = transaction.get::<Agent>(&info.agent)? else { return Ok(()) };
        let Some(known) = agent.runs.get(&run).filter(|run| run.outcome.is_none()) else { return Ok(()) };
        let mut lost = known.clone();
        lost.ended = Some(transaction.now());
        lost.outcome = Some(Outcome::Lost);
        lost.tip.clone_from(&tip);
        let record = RunRecord {
            agent: info.agent,
            number: run,
            run: lost,
            session: None,
            commits: Vec::new(),
            journal: journal.to_vec(),
        };
        write_run(transaction, &record)?;
        transaction.describe(format!("agent: {name} run {run} lost"));
        Ok::<_, Error>(())
    })?;
    let mut text = format!("{name}: whoever watched its run {run} died; it is lost");
    if ended > 0 {
        text.push_str(", and what still ran was ended");
    }
    if uncommitted > 0 {
        let still = format!("; {uncommitted} uncommitted paths are still in its worktree");
        text.push_str(&still);
    }
    Ok(text)
}

fn uncommitted(repo: &Repository, agent: Option<&Agent>) -> usize {
    let Some(agent) = agent else { return 0 };
    let worktree =
        repo.find_worktree(agent.name.as_str()).ok().flatten().filter(crate::git::Worktree::is_intact);
    worktree.and_then(|worktree| repo.worktree_status(&worktree).ok()).map_or(0, |status| status.count())
}

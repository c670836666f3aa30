//! Whose work a branch of this clone is.
//!
//! Agents of two machines may have the same name, and so the same branch; and an agent that another machine took over goes
//! on there. What a branch is called here says nothing then of what is on it.

use super::Error;
use super::sync::pick_remote;
use crate::git::{Repository, Worktree};
use crate::model::{Agent, ObjectId};
use crate::store::Store;

/// The tip of an agent's branch here. `None` if there is no such branch here, or if it is another agent's, or lacks the
/// end of the agent's last run, which was elsewhere.
pub fn tip_here(store: &Store, agent: &Agent) -> Result<Option<ObjectId>, Error> {
    let Some(tip) = store.repo().find_ref(&agent.branch)? else { return Ok(None) };
    let machine = store.machine()?;
    Ok(is_work_of(store.repo(), &machine, agent, &tip)?.then_some(tip))
}

/// What is merged of an agent: the tip of its branch here, and without one, of an agent of another machine whose last run
/// is over, what arrived of that: where a remote's branch of that name is that has its end, or else the end itself.
pub fn work_here(store: &Store, agent: &Agent) -> Result<Option<ObjectId>, Error> {
    if let Some(tip) = tip_here(store, agent)? {
        return Ok(Some(tip));
    }
    let repo = store.repo();
    let over = agent.last_run().filter(|(_, run)| run.outcome.is_some());
    let last = over.and_then(|(_, run)| run.tip.as_ref()).filter(|last| **last != agent.base);
    let Some(last) = last.filter(|last| repo.has_object(last)) else { return Ok(None) };
    if agent.is_of(&store.machine()?) || agent.removed.is_some() {
        return Ok(None);
    }
    let mut found = last.clone();
    if let Some(short) = agent.branch.strip_prefix("refs/heads/") {
        let names = repo.remotes()?.into_iter().map(|remote| format!("refs/remotes/{remote}/{short}"));
        // Git makes sections of its own for addresses, which name no refs.
        let names: Vec<String> = names.filter(|name| Repository::is_ref_name(name)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for tip in repo.find_refs(&names)?.into_iter().flatten() {
            if repo.is_ancestor(&found, &tip)? {
                found = tip;
            }
        }
    }
    Ok(Some(found))
}

/// How the work of an agent of another machine comes here, if its branch was pushed.
pub fn how_it_comes(store: &Store, agent: &Agent) -> Option<String> {
    let repo = store.repo();
    let remote = pick_remote(repo, None, repo.config("orchestra.remote").as_deref()).ok()?;
    let branch = agent.branch.strip_prefix("refs/heads/")?;
    Some(format!("git fetch {remote} {branch}"))
}

/// What an agent has made as far as it is here: its last commit, and the worktree with what is not committed, unless only
/// what is `committed` counts. Without its branch that is what its last run ended with, or what it began from.
pub fn made(store: &Store, agent: &Agent, committed: bool) -> Result<(ObjectId, Option<Worktree>), Error> {
    let last = || agent.last_run().and_then(|(_, run)| run.tip.clone());
    let tip = work_here(store, agent)?.or_else(last).unwrap_or_else(|| agent.base.clone());
    if committed || agent.removed.is_some() || store.find_elsewhere(agent)?.is_some() {
        return Ok((tip, None));
    }
    Ok((tip, store.repo().find_worktree(agent.name.as_str())?.filter(Worktree::is_intact)))
}

/// Whether `tip`, of the branch here that is called as the agent's, has the agent's work: on its own `machine` always, and
/// of one of another machine if what its last run ended with is in it.
pub(super) fn is_work_of(
    repo: &Repository,
    machine: &str,
    agent: &Agent,
    tip: &ObjectId,
) -> Result<bool, Error> {
    if agent.is_of(machine) {
        return Ok(true);
    }
    // What it began from is in every branch.
    let Some(last) =
        agent.runs.values().rev().find_map(|run| run.tip.as_ref()).filter(|last| **last != agent.base)
    else {
        return Ok(false);
    };
    Ok(last == tip || repo.has_object(last) && repo.is_ancestor(last, tip)?)
}

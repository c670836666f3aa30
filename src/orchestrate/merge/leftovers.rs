//! What agents left uncommitted, before a merge and while it goes on, and branches that no merge takes.
//!
//! What a stopped agent left is committed as its own: when a merge begins, each time that it goes on, and once more
//! before it lands. A worktree that is not plainly on its agent's branch is left as it is, and that is said.

use super::advance::Run;
use super::progress::Remark;
use super::select::LeftOut;
use super::{Error, Selection, short_branch};
use crate::git::{Detour, Leftover, NewCommit, NewLeftover, Worktree};
use crate::model::{Agent, Id, Name, ObjectId, StepStatus};
use crate::orchestrate::uncommitted::uncommitted;
use crate::orchestrate::{branch, lease, next_rescue_ref, trust};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// Who of a selection cannot be merged into its target, with why in a few words: a branch without history in common with
/// it, or uncommitted work that is not on its branch.
///
/// # Errors
/// If git cannot read a branch or a worktree.
pub fn unmergeable(store: &Store, selection: &Selection) -> Result<Vec<(Id, String)>, Error> {
    let repo = store.repo();
    let tips: Vec<ObjectId> = selection.candidates.iter().map(|candidate| candidate.tip.clone()).collect();
    let ancestry = repo.ancestry(&[&tips[..], std::slice::from_ref(&selection.target_tip)].concat())?;
    let mut found = Vec::new();
    for candidate in &selection.candidates {
        let agent = &candidate.agent;
        if ancestry.merge_bases(&candidate.tip, &selection.target_tip).is_empty() {
            found.push((agent.id, unrelated(&selection.target)));
            continue;
        }
        if candidate.uncommitted == 0 {
            continue;
        }
        if let Some(worktree) = repo.find_worktree(agent.name.as_str())?
            && let Some(detour) = repo.find_detour(&worktree, &agent.branch)?
        {
            found.push((agent.id, format!("{}, with uncommitted work", where_it_is(&detour))));
        }
    }
    Ok(found)
}

/// Leaves those out that cannot be merged, so that the others can.
///
/// # Errors
/// As [`unmergeable`].
pub fn leave_out_unmergeable(store: &Store, selection: &mut Selection) -> Result<(), Error> {
    for (id, why) in unmergeable(store, selection)? {
        let Some(at) = selection.candidates.iter().position(|candidate| candidate.agent.id == id) else {
            continue;
        };
        let name = selection.candidates.remove(at).agent.name;
        selection.left_out.push(LeftOut { name, why });
    }
    Ok(())
}

/// Why a branch that has no history in common with its target is left out.
pub(super) fn unrelated(target: &str) -> String {
    format!("its branch shares no history with {}", short_branch(target))
}

/// Where a worktree is that is not on its agent's branch.
fn where_it_is(detour: &Detour) -> String {
    let place = match detour {
        Detour::Merge => "in the middle of a merge".to_owned(),
        Detour::Rebase => "in the middle of a rebase".to_owned(),
        Detour::Branch(branch) => format!("on the branch {}", short_branch(branch)),
        Detour::Detached(Some(commit)) => format!("on no branch, at {}", commit.short()),
        Detour::Detached(None) => "on no branch".to_owned(),
    };
    format!("its worktree is {place}")
}

/// Commits what the candidates left uncommitted, as their own work, and moves their tips on. Returns whose.
///
/// # Errors
/// [`Error::Leftover`] if one is in the middle of a merge or not on its branch; its work is safe under a rescue
/// ref then, and its worktree is as it was.
pub fn commit_uncommitted(store: &Store, selection: &mut Selection) -> Result<Vec<Name>, Error> {
    let mut committed = Vec::new();
    for candidate in selection.candidates.iter_mut().filter(|candidate| candidate.uncommitted > 0) {
        let agent = &candidate.agent;
        let Some(worktree) = store.repo().find_worktree(agent.name.as_str())? else { continue };
        if let Some(tip) = commit(store, agent, &worktree)? {
            candidate.tip = tip;
            committed.push(agent.name.clone());
        }
        candidate.uncommitted = 0;
    }
    Ok(committed)
}

/// Commits what one agent left in its worktree. Returns the new tip of its branch, if there was anything.
fn commit(store: &Store, agent: &Agent, worktree: &Worktree) -> Result<Option<ObjectId>, Error> {
    let repo = store.repo();
    let rescue = next_rescue_ref(repo, &agent.name)?;
    let left = NewLeftover {
        branch: &agent.branch,
        rescue: &rescue,
        author: store.author(),
        committer: store.author(),
        at: store.clock().now(),
        message: &leftover_message(agent),
    };
    trust::require_unchanged(repo)?;
    match repo.commit_leftovers(worktree, &left)? {
        Leftover::Nothing => Ok(None),
        Leftover::Committed(tip) => Ok(Some(tip)),
        Leftover::Rescued(_) => {
            let detour = repo.find_detour(worktree, &agent.branch)?;
            let place = detour.as_ref().map_or_else(|| "its worktree was busy".to_owned(), where_it_is);
            Err(Error::Leftover { name: agent.name.clone(), place, rescue })
        }
    }
}

/// The candidates' tips as they would be with their uncommitted work, as commits that nothing refers to: for
/// forecasts.
pub fn with_uncommitted(store: &Store, selection: &mut Selection) -> Result<(), Error> {
    for candidate in selection.candidates.iter_mut().filter(|candidate| candidate.uncommitted > 0) {
        let (repo, agent) = (store.repo(), &candidate.agent);
        let Some(worktree) = repo.find_worktree(agent.name.as_str())? else { continue };
        trust::require_unchanged(repo)?;
        let tree = repo.snapshot(&worktree)?;
        candidate.tip = repo.write_commit(&NewCommit {
            tree: &tree,
            parents: std::slice::from_ref(&candidate.tip),
            author: store.author(),
            committer: store.author(),
            at: store.clock().now(),
            message: &leftover_message(agent),
        })?;
    }
    Ok(())
}

/// As the supervisor says it at the end of a run.
fn leftover_message(agent: &Agent) -> String {
    let task = agent.task.map(|task| format!("Orchestra-Task: {task}\n")).unwrap_or_default();
    let name = &agent.name;
    format!(
        "{name}: work left uncommitted\n\nLeft uncommitted by the agent {name}, and committed for it before a merge.\n\n\
         Orchestra-Agent: {}\n{task}",
        agent.id
    )
}

impl Run<'_> {
    /// The agents whose branches are merged, are here, and that do not run, each with whether its branch has moved since.
    fn resting(&self) -> Result<BTreeMap<Id, (Agent, bool)>, Error> {
        let live: BTreeSet<Id> =
            lease::live(self.store.repo()).into_iter().map(|lease| lease.agent).collect();
        let mut found = BTreeMap::new();
        for step in &self.merge.steps {
            let counts = step.mends.is_none() && step.status != StepStatus::Skipped;
            if counts
                && !live.contains(&step.agent)
                && let Some(agent) = self.state.get::<Agent>(&step.agent)?
                && agent.removed.is_none()
                && let Some(now) = branch::tip_here(self.store, &agent)?
            {
                found.insert(agent.id, (agent, now != step.tip));
            }
        }
        Ok(found)
    }

    /// Commits what agents left uncommitted since the merge began, as it did then; whether there was anything. What is
    /// not on its agent's branch is named, and stays out of the merge.
    pub(super) fn commit_left(&mut self) -> Result<bool, Error> {
        let mut committed = false;
        for (agent, worktree) in self.dirty()? {
            if let Some(detour) = self.store.repo().find_detour(&worktree, &agent.branch)? {
                self.say_not_merged(&agent, where_it_is(&detour));
            } else if commit(self.store, &agent, &worktree)?.is_some() {
                (self.say)(Remark::Committed(agent.name));
                committed = true;
            }
        }
        Ok(committed)
    }

    /// Names those with uncommitted work that a merge which has landed does not have.
    pub(super) fn name_left(&mut self) -> Result<(), Error> {
        for (agent, _) in self.dirty()? {
            self.say_not_merged(&agent, "the merge had landed before".to_owned());
        }
        Ok(())
    }

    /// The resting agents that have something uncommitted, with their worktrees.
    fn dirty(&self) -> Result<Vec<(Agent, Worktree)>, Error> {
        let repo = self.store.repo();
        trust::require_unchanged(repo)?;
        let resting = self.resting()?;
        let agents: Vec<&Agent> = resting.values().map(|(agent, _)| agent).collect();
        let mut counts = uncommitted(repo, &agents);
        let mut found = Vec::new();
        for agent in agents {
            if counts.remove(&agent.id).transpose()?.unwrap_or(0) > 0
                && let Some(worktree) = repo.find_worktree(agent.name.as_str())?
            {
                found.push((agent.clone(), worktree));
            }
        }
        Ok(found)
    }

    fn say_not_merged(&mut self, agent: &Agent, why: String) {
        // Looked at twice, said once.
        if self.named.insert(agent.id) {
            (self.say)(Remark::NotCommitted { name: agent.name.clone(), why });
        }
    }

    /// Whether an agent that rests has something else by now than what was merged of it: gates may have taken long.
    pub(super) fn has_moved(&mut self) -> Result<bool, Error> {
        if self.commit_left()? {
            return Ok(true);
        }
        Ok(self.resting()?.values().any(|(_, has_moved)| *has_moved))
    }
}

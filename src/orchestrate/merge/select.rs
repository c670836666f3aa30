//! Whose work is merged, and where to.
//!
//! Committed tips are merged. What a stopped agent left uncommitted is committed first, as its own; an agent that
//! is still running is left out, or refused if it was named: its branch would move under the merge. One whose last
//! run did not succeed is left out unless it was named.

use super::resolver::resolves;
use super::{Error, short_branch};
use crate::git::Repository;
use crate::model::{Agent, Id, Name, ObjectId, Outcome, Task};
use crate::orchestrate::overlap::Branch;
use crate::orchestrate::uncommitted::uncommitted;
use crate::orchestrate::{branch, trust};
use crate::store::{State, Store};
use std::collections::{BTreeMap, BTreeSet};

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The agents, in the order given; none means all that have something to merge.
    pub agents: Vec<Id>,
    /// The branch to merge into, as people write it; absent, the one that the agents started from.
    pub target: Option<String>,
    /// Agents that are at work right now.
    pub running: BTreeSet<Id>,
}

/// One agent whose branch is merged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The agent.
    pub agent: Agent,
    /// Its task.
    pub task: Option<Task>,
    /// What is merged.
    pub tip: ObjectId,
    /// Paths in its worktree that are not committed.
    pub uncommitted: usize,
}

/// Who is merged into what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// The target, a full ref name.
    pub target: String,
    /// Where it is.
    pub target_tip: ObjectId,
    /// Who is merged, in the order given, otherwise oldest first.
    pub candidates: Vec<Candidate>,
    /// Who is not, though nobody said so.
    pub left_out: Vec<LeftOut>,
}

impl Selection {
    /// The candidates as branches to compare.
    pub fn branches(&self) -> Vec<Branch> {
        let branch = |candidate: &Candidate| Branch {
            agent: candidate.agent.id,
            name: candidate.agent.name.clone(),
            work: candidate.tip.clone(),
            uncommitted: candidate.uncommitted > 0,
        };
        self.candidates.iter().map(branch).collect()
    }
}

/// An agent that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftOut {
    /// The agent.
    pub name: Name,
    /// Why, in a few words.
    pub why: String,
}

/// Finds the agents and the target. Changes nothing.
pub fn select(store: &Store, request: &Request) -> Result<Selection, Error> {
    trust::require_unchanged(store.repo())?;
    let state = store.state()?;
    let (agents, mut left_out) = agents(store.repo(), &state, request)?;
    let target = target(store, request, &agents)?;
    let target_tip = store.repo().find_ref(&target)?;
    let target_tip = target_tip.ok_or_else(|| Error::NoTarget(short_branch(&target).to_owned()))?;
    let tasks: BTreeMap<Id, Task> =
        state.everything::<Task>()?.into_iter().map(|task| (task.id, task)).collect();
    let mut uncommitted = uncommitted(store.repo(), &agents.iter().collect::<Vec<_>>());
    let landed = store.repo().list_refs_merged_into(Agent::BRANCHES, &target_tip)?;
    let mut candidates = Vec::new();
    for agent in agents {
        let own = branch::tip_here(store, &agent)?;
        let has_branch = own.is_some();
        let arrived = if has_branch { own } else { branch::work_here(store, &agent)? };
        let Some(tip) = arrived else {
            let elsewhere = store.find_elsewhere(&agent)?.map(str::to_owned);
            let comes = elsewhere.as_ref().and_then(|_| branch::how_it_comes(store, &agent));
            if request.agents.is_empty() {
                let why = match (&elsewhere, comes) {
                    (None, _) => "its branch is gone".to_owned(),
                    (Some(_), None) => "its work is on another machine".to_owned(),
                    (Some(_), Some(comes)) => {
                        format!("its work is on another machine; `{comes}` brings it, if it was pushed")
                    }
                };
                // What has landed is wanted nowhere.
                if elsewhere.is_none() || agent.merged.is_none() {
                    left_out.push(LeftOut { name: agent.name, why });
                }
                continue;
            }
            if let Some(machine) = elsewhere {
                return Err(Error::OnOtherMachine { name: agent.name, machine, comes });
            }
            return Err(Error::NoBranch { name: agent.name, branch: short_branch(&agent.branch).to_owned() });
        };
        // A worktree here that is called as the agent is another's.
        let uncommitted = uncommitted.remove(&agent.id).transpose()?.filter(|_| has_branch).unwrap_or(0);
        // Nothing new since it started or was merged last: not worth a word, unless somebody asked for it.
        // The last of a team may have added nothing, and its branch has what all before it did.
        let idle = tip == agent.base && agent.step.is_none()
            || tip == target_tip
            || (agent.merged.is_some() || agent.step.is_some())
                && if has_branch {
                    landed.contains(&agent.branch)
                } else {
                    store.repo().is_ancestor(&tip, &target_tip)?
                };
        if request.agents.is_empty() && idle && uncommitted == 0 {
            continue;
        }
        if request.agents.is_empty()
            && let Some(why) = unfinished(&agent)
        {
            left_out.push(LeftOut { name: agent.name, why: why.to_owned() });
            continue;
        }
        let task = agent.task.and_then(|id| tasks.get(&id).cloned());
        candidates.push(Candidate { agent, task, tip, uncommitted });
    }
    if request.agents.is_empty() {
        candidates = without_steps(store.repo(), &candidates)?;
    }
    Ok(Selection { target, target_tip, candidates, left_out })
}

/// Without the agents of a team whose work is on the branch of a later one of its agents.
fn without_steps(repo: &Repository, candidates: &[Candidate]) -> Result<Vec<Candidate>, Error> {
    let is_part = |one: &Candidate, other: &Candidate| -> Result<bool, Error> {
        let same = one.agent.id != other.agent.id
            && one.agent.step.is_some()
            && other.agent.step.is_some()
            && one.agent.task == other.agent.task
            && one.uncommitted == 0;
        let order = |candidate: &Candidate| (candidate.agent.created, candidate.agent.id);
        Ok(same
            && (one.tip != other.tip || order(one) < order(other))
            && repo.is_ancestor(&one.tip, &other.tip)?)
    };
    let mut kept = Vec::new();
    for one in candidates {
        let mut part = false;
        for other in candidates {
            part = part || is_part(one, other)?;
        }
        if !part {
            kept.push(one.clone());
        }
    }
    Ok(kept)
}

/// Why an agent's work is not merged unless somebody names it: its last run did not end well.
pub(in crate::orchestrate) fn unfinished(agent: &Agent) -> Option<&'static str> {
    match agent.last_run()?.1.outcome.as_ref()? {
        Outcome::Succeeded => None,
        Outcome::Failed { .. } => Some("its last run failed"),
        Outcome::Stopped { .. } => Some("its last run was stopped"),
        Outcome::Lost => Some("its last run was lost"),
    }
}

fn agents(repo: &Repository, state: &State, request: &Request) -> Result<(Vec<Agent>, Vec<LeftOut>), Error> {
    if !request.agents.is_empty() {
        let agents = request.agents.iter().map(|id| state.require(id)).collect::<Result<Vec<Agent>, _>>()?;
        let running: Vec<_> = agents
            .iter()
            .filter(|agent| request.running.contains(&agent.id))
            .map(|a| a.name.clone())
            .collect();
        if let Some(resolver) = agents.iter().find(|agent| resolves(repo, agent).is_some()) {
            return Err(Error::Resolver(resolver.name.clone()));
        }
        return if running.is_empty() { Ok((agents, Vec::new())) } else { Err(Error::Running(running)) };
    }
    let mut agents: Vec<Agent> = state.all()?;
    agents.retain(|agent| agent.removed.is_none() && resolves(repo, agent).is_none());
    agents.sort_by_key(|agent| (agent.created, agent.id));
    let (running, idle): (Vec<_>, Vec<_>) =
        agents.into_iter().partition(|agent| request.running.contains(&agent.id));
    let left_out =
        running.into_iter().map(|agent| LeftOut { name: agent.name, why: "still running".to_owned() });
    Ok((idle, left_out.collect()))
}

/// The branch that was named; otherwise the one that all agents started from; otherwise the one checked out.
fn target(store: &Store, request: &Request, agents: &[Agent]) -> Result<String, Error> {
    if let Some(name) = &request.target {
        let full = if name.starts_with("refs/heads/") { name.clone() } else { format!("refs/heads/{name}") };
        return Ok(full);
    }
    // Records may come from elsewhere; nothing but a branch is ever moved.
    let targets = agents.iter().filter_map(|agent| agent.target.as_ref());
    let targets: BTreeSet<&String> = targets.filter(|target| target.starts_with("refs/heads/")).collect();
    let mut found = targets.into_iter();
    match (found.next(), found.next()) {
        (Some(only), None) => Ok(only.clone()),
        (None, _) => {
            let head = store.repo().head()?;
            head.branch.ok_or_else(|| Error::ManyTargets("HEAD is detached".to_owned()))
        }
        (Some(first), Some(second)) => {
            let (first, second) = (short_branch(first), short_branch(second));
            Err(Error::ManyTargets(format!("some agents started from {first}, others from {second}")))
        }
    }
}

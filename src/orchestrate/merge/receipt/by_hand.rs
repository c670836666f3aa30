//! Merges that somebody made by hand.

use super::{Brings, Case, judge};
use crate::git::Repository;
use crate::model::{Agent, ObjectId, Receipt};
use crate::orchestrate::merge::{Error, short_branch};

/// A merge commit that brought agents' work, and what became of it there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByHand {
    /// The merge commit.
    pub commit: ObjectId,
    /// Its receipt, against its first parent.
    pub receipt: Receipt,
}

/// Judges each merge commit of `target` (a full ref name) since a commit that brought the work of `agents` there.
///
/// Of an agent whose commits are on the branch without a merge, nothing could be dropped.
///
/// # Errors
/// [`Error::NotThere`] if the branch does not contain all of an agent's.
pub fn by_hand(
    repo: &Repository,
    target: &str,
    since: &ObjectId,
    agents: &[Agent],
) -> Result<Vec<ByHand>, Error> {
    let name = short_branch(target);
    let tip = repo.find_ref(target)?.ok_or_else(|| Error::NoTarget(name.to_owned()))?;
    let mut tips = Vec::new();
    for agent in agents {
        let gone = || Error::NoBranch { name: agent.name.clone(), branch: agent.branch.clone() };
        let of_agent = repo.find_ref(&agent.branch)?.ok_or_else(gone)?;
        if !repo.is_ancestor(&of_agent, &tip)? {
            return Err(Error::NotThere { name: agent.name.clone(), target: name.to_owned() });
        }
        tips.push((agent, of_agent));
    }
    let mut all = Vec::new();
    for (commit, parents) in repo.merges_between(since, &[&tip])? {
        let [before, merged @ ..] = &parents[..] else { continue };
        let mut brings = Vec::new();
        let mut concerned = false;
        for parent in merged {
            let mut agent = None;
            for (of, tip) in &tips {
                if repo.is_ancestor(tip, parent)? && !repo.is_ancestor(tip, before)? {
                    concerned = true;
                    agent = agent.or((tip == parent).then_some(*of));
                }
            }
            let name = agent.map_or_else(|| parent.short().to_string(), |agent| agent.name.to_string());
            let agent = agent.map(|agent| (agent.id, agent.name.clone()));
            brings.push(Brings { agent, name, tip: parent.clone() });
        }
        if concerned {
            let landed = repo.read_commit(&commit)?.tree;
            let case = Case { target: name, before, brings: &brings, landed: &landed, settled: &[] };
            all.push(ByHand { receipt: judge(repo, &case)?, commit });
        }
    }
    Ok(all)
}

//! Rescue refs: where work goes that would otherwise be lost.

use super::Error;
use crate::git::Repository;
use crate::model::{Agent, Name, ObjectId};
use crate::store::{RESCUE_REFS, Store};
use std::collections::BTreeMap;

/// The next free rescue ref of an agent: `refs/orchestra/rescue/<agent>/<n>`.
pub fn next_rescue_ref(repo: &Repository, agent: &Name) -> Result<String, Error> {
    let last = rescue_refs(repo, agent)?.last_key_value().map_or(0, |(number, _)| *number);
    Ok(format!("{RESCUE_REFS}{agent}/{}", last + 1))
}

/// The rescue refs below an agent's name by their numbers, with their commits.
pub(super) fn rescue_refs(
    repo: &Repository,
    agent: &Name,
) -> Result<BTreeMap<u64, (String, ObjectId)>, Error> {
    let prefix = format!("{RESCUE_REFS}{agent}/");
    let number = |name: &str| name.strip_prefix(&prefix)?.parse::<u64>().ok();
    let refs = repo.list_refs(&prefix)?.into_iter();
    Ok(refs.filter_map(|(name, commit)| Some((number(&name)?, (name, commit)))).collect())
}

/// What an agent committed outside of its branch and is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// The agent.
    pub agent: Name,
    /// The rescue ref.
    pub rescue: String,
    /// Its commit.
    pub commit: ObjectId,
}

/// What agents committed outside of their branches and that neither those nor `target` have, by the rescue refs that keep
/// it. What we committed for them was told where it was kept.
pub fn kept_aside(store: &Store, agents: &[Agent], target: Option<&ObjectId>) -> Result<Vec<Aside>, Error> {
    let repo = store.repo();
    let refs = repo.list_refs(RESCUE_REFS)?;
    let mut aside = Vec::new();
    for agent in agents {
        let prefix = format!("{RESCUE_REFS}{}/", agent.name);
        let kept: Vec<_> = refs.iter().filter(|(name, _)| name.starts_with(&prefix)).collect();
        if kept.is_empty() || store.find_elsewhere(agent)?.is_some() {
            continue;
        }
        let own = repo.find_ref(&agent.branch)?.unwrap_or_else(|| agent.base.clone());
        for (name, commit) in kept {
            // One that had its name before may have left some, too.
            if !repo.is_ancestor(&agent.base, commit)? || is_ours(repo, commit)? {
                continue;
            }
            let mut args = vec!["rev-list".to_owned(), "--cherry-pick".into(), "--right-only".into()];
            args.push(format!("{own}...{commit}"));
            args.extend(target.map(|target| format!("^{target}")));
            if !repo.read(args)?.is_empty() {
                let (agent, rescue, commit) = (agent.name.clone(), name.clone(), commit.clone());
                aside.push(Aside { agent, rescue, commit });
            }
        }
    }
    Ok(aside)
}

/// Whether we made a commit of what was in a worktree, or of what a program was in the middle of.
fn is_ours(repo: &Repository, commit: &ObjectId) -> Result<bool, Error> {
    let message = repo.read_commit(commit)?.message;
    Ok(["\nLeft uncommitted by the agent ", "\nWhat was in its worktree when it was removed."]
        .iter()
        .any(|words| message.contains(words)))
}

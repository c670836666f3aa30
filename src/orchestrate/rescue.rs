//! Rescue refs: where work goes that would otherwise be lost.

use super::Error;
use super::merge::short_branch;
use crate::git::{Expected, RefEdit, Repository, Worktree};
use crate::model::{Agent, Name, ObjectId};
use crate::store::{RESCUE_REFS, Store};
use std::collections::BTreeMap;

/// How many commits a notice names.
const NAMED: usize = 3;

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

/// Keeps what an agent committed outside of its branch since `began`, and says what it is and how it gets there: a sentence
/// for each place. What is kept already is not kept again.
pub(super) fn keep_astray(
    repo: &Repository,
    agent: &Agent,
    worktree: &Worktree,
    began: &ObjectId,
) -> Result<Vec<String>, Error> {
    let (own, path) = (short_branch(&agent.branch), worktree.path.display());
    let tip = repo.find_ref(&agent.branch)?.unwrap_or_else(|| began.clone());
    let kept = format!("{RESCUE_REFS}{}/*", agent.name);
    let found = repo.astray(worktree, &agent.branch, &tip, &kept)?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let switch = match repo.worktree_head(worktree)?.branch {
        Some(branch) if branch == agent.branch => String::new(),
        _ => format!("git -C {path} switch {own} && "),
    };
    let mut said = Vec::new();
    for astray in found {
        let name = next_rescue_ref(repo, &agent.name)?;
        repo.sync_history(&astray.tip, &[began])?;
        let edit = RefEdit { name: name.clone(), new: Some(astray.tip.clone()), expected: Expected::Absent };
        repo.update_refs(&[edit], "orchestra: what the agent committed outside of its branch")?;
        let mut commits = Vec::new();
        for commit in astray.commits.iter().take(NAMED) {
            commits.push(format!("{} {}", commit.short(), repo.read_commit(commit)?.subject()));
        }
        let more = astray.commits.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let place = match &astray.branch {
            Some(branch) => format!("on {}", short_branch(branch)),
            None => "on no branch".to_owned(),
        };
        said.push(format!(
            "it committed {place}, and not on {own}: {}{more}; that is kept as {name} and not merged with the rest: \
             `{switch}git -C {path} merge {}` takes it in",
            commits.join(", "),
            astray.tip.short()
        ));
    }
    Ok(said)
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
        let is_missing = |commit: &ObjectId| -> Result<bool, Error> {
            // One that had its name before may have left some, too.
            if !repo.is_ancestor(&agent.base, commit)? || is_ours(repo, commit)? {
                return Ok(false);
            }
            let mut args = vec!["rev-list".to_owned(), "--cherry-pick".into(), "--right-only".into()];
            args.push(format!("{own}...{commit}"));
            args.extend(target.map(|target| format!("^{target}")));
            Ok(!repo.read(args)?.is_empty())
        };
        for (name, commit) in kept {
            // One that cannot be looked at (a shallow clone) keeps nothing else from being told.
            let missing = is_missing(commit).unwrap_or_else(|error| {
                tracing::warn!("failed to look at {name}: {error}");
                false
            });
            if missing {
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

//! Where somebody's change meets that of an agent that is at work. Reads only.

use super::{Error, lease, trust};
use crate::git::{FileChange, path_text};
use crate::model::{Agent, Id, Name};
use crate::store::Store;
use bstr::ByteSlice;
use std::collections::BTreeSet;

/// A path that an agent at work has changed too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meeting {
    /// The agent.
    pub agent: Name,
    /// Relative to the repository's root.
    pub path: String,
    /// Whether its change is committed.
    pub committed: bool,
}

/// Which of `paths` agents that run now have changed since their base, but for the agent `own`.
///
/// # Errors
/// Also if git may not look at what agents wrote, because what it would run there was changed.
pub fn meetings(store: &Store, paths: &BTreeSet<String>, own: Option<&Id>) -> Result<Vec<Meeting>, Error> {
    let repo = store.repo();
    let live = lease::live(repo);
    if paths.is_empty() || live.iter().all(|lease| Some(&lease.agent) == own) {
        return Ok(Vec::new());
    }
    trust::require_unchanged(repo)?;
    let state = store.state()?;
    let mut found = Vec::new();
    for lease in live.iter().filter(|lease| Some(&lease.agent) != own) {
        let Some(agent) = state.get::<Agent>(&lease.agent)? else { continue };
        let Some(tip) = repo.find_ref(&agent.branch)? else { continue };
        let base = repo.read_commit(&agent.base)?.tree;
        let mut trees = vec![repo.read_commit(&tip)?.tree];
        if let Some(worktree) = repo.find_worktree(agent.name.as_str())? {
            trees.push(repo.snapshot(&worktree)?);
        }
        let pairs: Vec<_> = trees.into_iter().map(|tree| (base.clone(), tree)).collect();
        let changed: Vec<BTreeSet<String>> =
            repo.paths_between(&pairs)?.iter().map(|one| paths_of(one)).collect();
        let [committed, ..] = &changed[..] else { continue };
        // What is in the worktree, if there is one, is all of it.
        let all = changed.last().unwrap_or(committed);
        found.extend(paths.iter().filter(|path| all.contains(*path)).map(|path| Meeting {
            agent: agent.name.clone(),
            path: path.clone(),
            committed: committed.contains(path),
        }));
    }
    Ok(found)
}

fn paths_of(changes: &[FileChange]) -> BTreeSet<String> {
    changes.iter().flat_map(FileChange::paths).map(|path| path_text(path.as_bstr())).collect()
}

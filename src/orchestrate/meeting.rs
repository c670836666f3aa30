//! Where somebody's change meets that of an agent that is at work. Reads only.

use super::{Error, lease, trust};
use crate::git::{FileChange, Repository, path_text};
use crate::model::{Agent, Id, Name, ObjectId};
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
        let committed = changed(repo, &repo.read_commit(&agent.base)?.tree, &repo.read_commit(&tip)?.tree)?;
        let all = match repo.find_worktree(agent.name.as_str())? {
            Some(worktree) => {
                let now = repo.snapshot(&worktree)?;
                changed(repo, &repo.read_commit(&agent.base)?.tree, &now)?
            }
            None => committed.clone(),
        };
        found.extend(paths.iter().filter(|path| all.contains(*path)).map(|path| Meeting {
            agent: agent.name.clone(),
            path: path.clone(),
            committed: committed.contains(path),
        }));
    }
    Ok(found)
}

fn changed(repo: &Repository, old: &ObjectId, new: &ObjectId) -> Result<BTreeSet<String>, Error> {
    let changes = repo.paths_between(&[(old.clone(), new.clone())])?;
    let paths = changes.iter().flatten().flat_map(FileChange::paths);
    Ok(paths.map(|path| path_text(path.as_bstr())).collect())
}

//! The worktree of an agent that is being removed. It goes after the record said so; that it is to go is written down
//! before, as `orchestra/removals/<agent>`.
//!
//! Whoever writes it holds a lock on it. Without a holder it is a dead process's, or that of one who could not remove
//! the worktree: if the record says that the agent was removed, its worktree goes; otherwise nothing was removed.

use super::Error;
use super::remove::is_name_of_another;
use crate::git::Repository;
use crate::model::{Agent, Id};
use crate::process::FileLock;
use crate::store::Store;
use std::path::{Path, PathBuf};

/// The directory, in the repository's local one.
const DIRECTORY: &str = "removals";

/// A removal that this process has begun.
pub(super) struct Removal {
    path: PathBuf,
    lock: FileLock,
}

impl Removal {
    /// Writes down that the worktree of an agent is to go, on disk for good when this returns.
    pub(super) fn begin(repo: &Repository, agent: &Id) -> Result<Self, Error> {
        let dir = directory(repo);
        let failed = |path: &Path, e| Error::file("write", path, e);
        std::fs::create_dir_all(&dir).map_err(|e| failed(&dir, e))?;
        let path = dir.join(agent.as_str());
        let lock = FileLock::wait(&path).map_err(|e| failed(&path, e))?;
        std::fs::File::open(&dir).and_then(|dir| dir.sync_all()).map_err(|e| failed(&dir, e))?;
        Ok(Self { path, lock })
    }

    /// Nothing of it is open any more.
    pub(super) fn forget(self) -> Result<(), Error> {
        self.lock.remove(&self.path).map_err(|e| Error::file("remove", &self.path, e))
    }
}

/// A worktree that goes with the record of its agent.
pub(super) struct Going {
    /// The agent's name.
    pub(super) name: String,
    /// Where the worktree is.
    pub(super) path: PathBuf,
    /// Whether it is gone; or why not.
    pub(super) gone: Result<(), Error>,
}

/// Removes the worktree of an agent that was removed. `None` if there is nothing to do: its record is still there, it
/// has no worktree, or another agent has its name by now.
pub(super) fn finish(store: &Store, id: &Id) -> Result<Option<Going>, Error> {
    let repo = store.repo();
    let Some(agent) = store.state()?.get::<Agent>(id)? else { return Ok(None) };
    if agent.removed.is_none() || !agent.has_own_branch() || is_name_of_another(store, &agent)? {
        return Ok(None);
    }
    let Some(worktree) = repo.find_worktree(agent.name.as_str())? else { return Ok(None) };
    let gone = repo.remove_worktree(&worktree).map_err(Error::from);
    Ok(Some(Going { name: agent.name.to_string(), path: worktree.path, gone }))
}

/// Finishes what killed processes had begun to remove. Cheap when there is nothing.
pub(super) fn recover(store: &Store) -> Result<Vec<Going>, Error> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(directory(store.repo())).into_iter().flatten().flatten() {
        let path = entry.path();
        // Whoever wrote it is alive and at it.
        let lock = FileLock::attempt(&path).map_err(|e| Error::file("lock", &path, e))?;
        let Some(lock) = lock else { continue };
        let id = entry.file_name().to_str().and_then(|name| name.parse::<Id>().ok());
        let going = id.map(|id| finish(store, &id)).transpose()?.flatten();
        // One that cannot go now is tried again by the next.
        if going.as_ref().is_none_or(|going| going.gone.is_ok()) {
            lock.remove(&path).map_err(|e| Error::file("remove", &path, e))?;
        }
        all.extend(going);
    }
    Ok(all)
}

fn directory(repo: &Repository) -> PathBuf {
    repo.local_dir().join(DIRECTORY)
}

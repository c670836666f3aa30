//! What undoing does beside its one transaction, written down before: `orchestra/undo/<operation>.json`.
//!
//! Whoever writes it holds a lock on it. Without a holder it is a dead process's: if the transaction was made, the rest
//! is done; otherwise checkouts that had been moved go back to where they were.

use super::super::Error;
use crate::git::{Checkout, Repository, Worktree};
use crate::model::{Name, ObjectId};
use crate::process::FileLock;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The directory, in the repository's local one.
const DIRECTORY: &str = "undo";

/// What is written down.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Content {
    /// The operation that undoes: its commit is the moment from which everything holds.
    pub(super) operation: String,
    /// Where worktrees are made.
    pub(super) root: PathBuf,
    /// Checkouts that move before that moment.
    pub(super) checkouts: Vec<MovedCheckout>,
    /// Worktrees that go after it.
    pub(super) remove: Vec<Name>,
    /// Worktrees that come back after it.
    pub(super) restore: Vec<Restored>,
}

/// A branch that is checked out somewhere, and moves with its files.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MovedCheckout {
    pub(super) path: PathBuf,
    pub(super) branch: String,
    pub(super) from: ObjectId,
    pub(super) to: ObjectId,
}

/// A worktree that comes back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Restored {
    pub(super) name: Name,
    pub(super) branch: String,
    /// The commit with what was uncommitted in it.
    pub(super) files: Option<ObjectId>,
}

/// A journal that this process holds; nothing if there is nothing to write down.
pub(super) struct Journal(Option<(PathBuf, FileLock)>);

impl Journal {
    /// Writes it, on disk for good when this returns.
    pub(super) fn write(repo: &Repository, content: &Content) -> Result<Self, Error> {
        if content.checkouts.is_empty() && content.remove.is_empty() && content.restore.is_empty() {
            return Ok(Self(None));
        }
        let dir = directory(repo);
        let failed = |path: &Path, e| Error::file("write", path, e);
        std::fs::create_dir_all(&dir).map_err(|e| failed(&dir, e))?;
        let path = dir.join(format!("{}.json", content.operation));
        let lock = FileLock::wait(&path).map_err(|e| failed(&path, e))?;
        let bytes = serde_json::to_vec(content).map_err(|e| failed(&path, e.into()))?;
        std::fs::write(&path, bytes).map_err(|e| failed(&path, e))?;
        let synced = std::fs::File::open(&path).and_then(|file| file.sync_all());
        synced.and_then(|()| std::fs::File::open(&dir)?.sync_all()).map_err(|e| failed(&path, e))?;
        Ok(Self(Some((path, lock))))
    }

    /// Nothing of it is open any more.
    pub(super) fn forget(self) -> Result<(), Error> {
        let Some((path, lock)) = self.0 else { return Ok(()) };
        lock.remove(&path).map_err(|e| Error::file("remove", path, e))
    }
}

/// Finishes or takes back what killed processes were undoing. Cheap when there is nothing. Returns which, by
/// the operation, and what was done.
pub(in crate::orchestrate) fn recover(store: &Store) -> Result<Vec<(String, String)>, Error> {
    let repo = store.repo();
    let mut said = Vec::new();
    for entry in std::fs::read_dir(directory(repo)).into_iter().flatten().flatten() {
        let path = entry.path();
        let lock = FileLock::attempt(&path).map_err(|e| Error::file("lock", &path, e))?;
        // Whoever wrote it is alive and at it.
        let Some(lock) = lock else { continue };
        let bytes = std::fs::read(&path).map_err(|e| Error::file("read", &path, e))?;
        // One that was never written whole was never acted on.
        if let Ok(content) = serde_json::from_slice::<Content>(&bytes) {
            let what = match settle(store, &content)? {
                Settled::Finished => "finished",
                Settled::TakenBack(true) => "took back",
                Settled::TakenBack(false) => "",
            };
            if !what.is_empty() {
                said.push((content.operation, format!("{what} an undo that was cut short")));
            }
        }
        lock.remove(&path).map_err(|e| Error::file("remove", &path, e))?;
    }
    Ok(said)
}

/// What became of an undo that did not come to its end.
pub(super) enum Settled {
    /// Its transaction is there, and now the rest of it is.
    Finished,
    /// It is not; whether there was anything to take back.
    TakenBack(bool),
}

/// Finishes an undo if its transaction is there, and takes it back if not.
pub(super) fn settle(store: &Store, content: &Content) -> Result<Settled, Error> {
    if store.state()?.find_operation(|logged| logged.id == content.operation)?.is_some() {
        finish(store.repo(), content)?;
        return Ok(Settled::Finished);
    }
    take_back(store.repo(), content).map(Settled::TakenBack)
}

/// Does what comes after the transaction; what is done already is not done again.
pub(super) fn finish(repo: &Repository, content: &Content) -> Result<(), Error> {
    for name in &content.remove {
        if let Some(worktree) = repo.find_worktree(name.as_str())? {
            repo.remove_worktree(&worktree)?;
        }
    }
    for Restored { name, branch, files } in &content.restore {
        let found = repo.find_worktree(name.as_str())?.filter(Worktree::is_intact);
        let worktree = match found {
            Some(worktree) => worktree,
            None => repo.restore_worktree(name, &content.root, branch, &[])?,
        };
        if let Some(commit) = files {
            repo.bring_back(&worktree, commit)?;
        }
    }
    Ok(())
}

/// Moves checkouts back to where they were before. Returns whether there was one.
fn take_back(repo: &Repository, content: &Content) -> Result<bool, Error> {
    let mut any = false;
    for moved in &content.checkouts {
        if repo.find_ref(&moved.branch)?.as_ref() == Some(&moved.to) {
            move_checkout(repo, moved, &moved.to, &moved.from)?;
            any = true;
        }
    }
    Ok(any)
}

/// Moves a checkout and its branch, which must be where they are expected.
pub(super) fn move_checkout(
    repo: &Repository,
    moved: &MovedCheckout,
    from: &ObjectId,
    to: &ObjectId,
) -> Result<(), Error> {
    let path = moved.path.display();
    let refuse = |why: String| Error::refused(format!("move {path} back: {why}"), None);
    let is_it =
        |checkout: &Checkout| checkout.path == moved.path && checkout.branch.as_ref() == Some(&moved.branch);
    let Some(checkout) = repo.checkouts()?.into_iter().find(is_it) else {
        return Err(refuse(format!("it is not on {} any more", moved.branch)));
    };
    if checkout.commit.as_ref() != Some(from) {
        return Err(refuse(format!("{} is elsewhere", moved.branch)));
    }
    repo.reset_keep(&checkout, to)?.map_err(refuse)
}

fn directory(repo: &Repository) -> PathBuf {
    repo.local_dir().join(DIRECTORY)
}

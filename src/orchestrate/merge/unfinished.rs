//! Merges that are not over: which of them a process is at, and which one was left by a process that died.
//!
//! A stored word cannot say that somebody is at it: a file does, `orchestra/merges/<id>` in the git directory, locked
//! for as long as its holder lives. It is made before the merge is recorded, so a merge without one is another
//! clone's.

use super::{Error, find_open};
use crate::model::{Id, Merge, MergeStatus};
use crate::process::FileLock;
use crate::store::Store;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long a holder that was just killed may seem alive: a child between its fork and its exec shares the lock.
const GRACE: Duration = Duration::from_secs(1);
const POLL: Duration = Duration::from_millis(20);

/// What this process goes on with, and nobody else at the same time. Dropping it lets go.
#[derive(Debug)]
pub struct Hold {
    lock: FileLock,
    path: PathBuf,
}

impl Hold {
    /// Says that the merge is over, and nobody needs to hold it again.
    pub fn finish(self) {
        // A file that stays is swept by the next merge.
        let _ = self.lock.remove(&self.path);
    }
}

/// A merge that is not over and that nobody is at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unfinished {
    /// Its target has it; only the record is missing. [`advance`](super::advance()) writes that.
    Landed(Merge),
    /// It was begun here and approved, and can go on.
    Left(Merge),
}

/// Takes the merge `id`, which need not be recorded yet.
///
/// # Errors
/// [`Error::AtWork`] if another process holds it.
pub fn hold(store: &Store, id: &Id) -> Result<Hold, Error> {
    let dir = directory(store);
    let failed = |e| crate::orchestrate::Error::file("create", &dir, e);
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(failed)?;
    let path = dir.join(id.as_str());
    let begun = Instant::now();
    loop {
        let lock = FileLock::attempt(&path).map_err(|e| crate::orchestrate::Error::file("lock", &path, e))?;
        match lock {
            Some(lock) => return Ok(Hold { lock, path }),
            None if begun.elapsed() > GRACE => return Err(Error::AtWork(*id)),
            None => std::thread::sleep(POLL),
        }
    }
}

/// The merge into `target` (a full ref name) that a process which died left unfinished. Forgets those that are over.
///
/// # Errors
/// [`Error::OpenAlready`] if the one that is not over waits for a person or belongs to another clone,
/// [`Error::AtWork`] if another process of this one is at it.
pub fn find_unfinished(store: &Store, target: &str) -> Result<Option<Unfinished>, Error> {
    let state = store.state()?;
    sweep(store)?;
    let Some(merge) = find_open(&state, Some(target))? else { return Ok(None) };
    let repo = store.repo();
    let is_done = merge.steps.iter().all(|step| step.status != crate::model::StepStatus::Pending);
    if is_done
        && repo.has_object(&merge.head)
        && merge.head != merge.target_tip
        && let Some(now) = repo.find_ref(target)?
        && (now == merge.head || repo.merge_base(&now, &merge.head)?.as_ref() == Some(&merge.head))
    {
        return Ok(Some(Unfinished::Landed(merge)));
    }
    if merge.status == MergeStatus::Running && directory(store).join(merge.id.as_str()).exists() {
        return Ok(Some(Unfinished::Left(merge)));
    }
    let target = super::short_branch(target).to_owned();
    Err(Error::OpenAlready { id: merge.id, status: merge.status, target })
}

/// Removes the files of merges that are over.
fn sweep(store: &Store) -> Result<(), Error> {
    for entry in std::fs::read_dir(directory(store)).into_iter().flatten().flatten() {
        let path = entry.path();
        let Ok(id) = entry.file_name().to_string_lossy().parse::<Id>() else { continue };
        // In this order: whoever begins a merge holds its file before the merge is recorded.
        let Ok(Some(lock)) = FileLock::attempt(&path) else { continue };
        let is_open = store.state()?.get::<Merge>(&id)?.is_some_and(|merge| merge.status.is_open());
        if !is_open {
            let _ = lock.remove(&path);
        }
    }
    Ok(())
}

fn directory(store: &Store) -> PathBuf {
    store.repo().local_dir().join("merges")
}

//! Getting changes to disk for good and moving the refs: one sync and one move for all that wait.

use super::pending::{Queue, Standing};
use super::{Error, STATE_REF, Store, local, tip};
use crate::git::{self, Expected, Mover, RefEdit};
use crate::model::ObjectId;
use std::fs::File;
use std::time::{Duration, Instant};

/// How long a ref's lock may stay unchanged, while we hold the lock that every writer of ours takes, before it is
/// a dead process's. git itself holds such a lock for a few milliseconds.
const STALE_AFTER: Duration = Duration::from_secs(2);
/// What the reflog says, where the user keeps one for all refs.
pub(super) const REASON: &str = "git orchestra";
const LOCK_POLL: Duration = Duration::from_millis(40);

impl Store {
    /// Publishes what waits in the queue, whoever made it.
    pub(super) fn settle(&self, queue: &Queue) -> Result<(), Error> {
        let _publishing = local::publishing(self.repo())?;
        self.publish(queue, None, None).map(drop)
    }

    /// Has the change in the queue that made `commit` published, by whoever is at it or by ourselves. `false` if it
    /// never will be. `publishing` is the lock for that, if we have it; `git` is one that was started for this.
    pub(super) fn see_published(
        &self,
        queue: &Queue,
        commit: &ObjectId,
        publishing: Option<File>,
        git: Option<Mover<'_>>,
    ) -> Result<bool, Error> {
        let _publishing = if let Some(publishing) = publishing {
            publishing
        } else {
            local::await_publishing(self.repo())?;
            if queue.is_on_disk(commit)? {
                return Ok(true);
            }
            local::publishing(self.repo())?
        };
        self.publish(queue, Some(commit), git)
    }

    /// Publishes what waits in the queue, unless `mine` (or all of it) is published already. `false` if it never will
    /// be. Call under the lock for publishing; `git` is one that was started for this.
    pub(super) fn publish(
        &self,
        queue: &Queue,
        mine: Option<&ObjectId>,
        mut git: Option<Mover<'_>>,
    ) -> Result<bool, Error> {
        let repo = self.repo();
        loop {
            let tip = repo.find_ref(STATE_REF)?;
            let waiting = match queue.standing(tip.as_ref(), mine)? {
                Standing::Waiting(waiting) => waiting,
                standing => {
                    let (published, on_disk) = match (standing, mine, &tip) {
                        (Standing::Published { on_disk }, ..) => (true, on_disk),
                        // Others may have gone on from it.
                        (_, Some(mine), Some(tip)) => (self.has_change(mine, tip)?, false),
                        _ => (false, false),
                    };
                    if published && !on_disk {
                        // Whoever moved the ref may have died before its name was on disk.
                        repo.sync_ref_names(&[STATE_REF])?;
                    }
                    return Ok(published);
                }
            };
            let last = waiting.last().map(|change| change.commit.clone());
            let edit =
                RefEdit { name: STATE_REF.to_owned(), new: last.clone(), expected: Expected::from(tip) };
            let written: Vec<&ObjectId> = waiting.iter().flat_map(|change| &change.written).collect();
            match self.get_to_disk(&written, edit, git.take()) {
                Ok(()) => {
                    // It spares those who wait a sync of their own, and no more.
                    if let Some(Err(error)) = last.map(|last| queue.say_on_disk(&last)) {
                        tracing::debug!("{error}");
                    }
                    return Ok(true);
                }
                // By somebody who does not take our lock, or by a git whose parent died.
                Err(Error::Git(git::Error::RefMoved { .. })) => {}
                Err(e) => {
                    // Nobody may publish what was refused here: whoever made it is told that it failed.
                    queue.give_up()?;
                    return Err(e);
                }
            }
        }
    }

    /// `git` is one that was started for this, where it needs one.
    fn get_to_disk(&self, objects: &[&ObjectId], edit: RefEdit, git: Option<Mover<'_>>) -> Result<(), Error> {
        let repo = self.repo();
        let objects = objects.iter().copied();
        if git.is_none() {
            match repo.lock_ref(&edit) {
                Ok(Some(lock)) => {
                    repo.sync_objects_and(Some(lock.path()), objects)?;
                    lock.commit()?;
                    tip::keep(repo, std::slice::from_ref(&edit));
                    return Ok(());
                }
                Ok(None) => {}
                Err(git::Error::RefLocked { .. }) => {
                    repo.sync_objects(objects)?;
                    return self.move_refs(&[edit]);
                }
                Err(e) => return Err(e.into()),
            }
        }
        let mut git = match git {
            Some(git) => git,
            None => repo.begin_moving(REASON)?,
        };
        git.prepare(std::slice::from_ref(&edit));
        repo.sync_objects(objects)?;
        match git.finish() {
            Err(git::Error::RefLocked { .. }) => self.move_refs(&[edit]),
            done => {
                done?;
                tip::keep(repo, &[edit]);
                Ok(())
            }
        }
    }

    /// Moves refs, waiting out locks, and breaking one that a dead process left behind. Call under the lock for publishing.
    pub(super) fn move_refs(&self, refs: &[RefEdit]) -> Result<(), Error> {
        let repo = self.repo();
        let mut watched: Option<(std::path::PathBuf, Instant)> = None;
        loop {
            let name = match repo.update_refs(refs, REASON) {
                Ok(()) => {
                    tip::keep(repo, refs);
                    return Ok(());
                }
                Err(git::Error::RefLocked { name }) => name,
                Err(e) => return Err(e.into()),
            };
            let lock = repo.common_dir().join(format!("{name}.lock"));
            let since = match &watched {
                Some((path, since)) if *path == lock => *since,
                _ => watched.insert((lock.clone(), Instant::now())).1,
            };
            if since.elapsed() >= STALE_AFTER {
                // Only refs that nobody but us writes: the user's own locks are the user's.
                if !is_ours(&name) || std::fs::remove_file(&lock).is_err() {
                    return Err(Error::Locked { lock });
                }
                tracing::warn!("removed {}, which a dead process left behind", lock.display());
                watched = None;
            }
            std::thread::sleep(LOCK_POLL);
        }
    }
}

/// Whether a ref is one that only we write.
pub(super) fn is_ours(name: &str) -> bool {
    name.starts_with("refs/orchestra/") || name.starts_with("refs/notes/orchestra/")
}

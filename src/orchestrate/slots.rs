//! How many agents without a terminal run at once in one repository: a locked file for each, which the kernel frees
//! when its holder dies.

use super::Error;
use crate::git::Repository;
use crate::process::FileLock;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often one who waits looks again.
const POLL: Duration = Duration::from_millis(200);

/// The right to run, once it was got. Clones share it.
#[derive(Debug, Clone)]
pub struct Slot {
    count: u32,
    /// What the names of its set begin with.
    set: &'static str,
    held: Arc<Mutex<Option<FileLock>>>,
}

impl Slot {
    /// One of `count`, not got yet.
    pub fn one_of(count: u32) -> Self {
        Self { count: count.max(1), set: "", held: Arc::default() }
    }

    /// One of as many others, for those that wait for a person.
    pub(super) fn aside(&self) -> Self {
        Self { count: self.count, set: "aside-", held: Arc::default() }
    }

    /// Whether it was got, now or before.
    pub fn attempt(&self, repo: &Repository) -> Result<bool, Error> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        if held.is_some() {
            return Ok(true);
        }
        let dir = repo.local_dir().join("slots");
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| Error::file("create", &dir, e))?;
        for number in 0..self.count {
            let path = dir.join(format!("{}{number}", self.set));
            *held = FileLock::attempt(&path).map_err(|e| Error::file("lock", &path, e))?;
            if held.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Gives it back; it can be got again.
    pub(super) fn release(&self) {
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Waits until it was got, or `wanted` says no. Blocks.
    pub(super) fn wait(&self, repo: &Repository, wanted: impl Fn() -> bool) -> Result<bool, Error> {
        while wanted() {
            if self.attempt(repo)? {
                return Ok(true);
            }
            std::thread::sleep(POLL);
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    #[test]
    fn so_many_and_no_more() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        let slots: Vec<Slot> = (0..3).map(|_| Slot::one_of(2)).collect();
        assert!(slots[0].attempt(&repo).unwrap() && slots[1].attempt(&repo).unwrap());
        assert!(slots[0].attempt(&repo).unwrap(), "it has one");
        assert!(!slots[2].attempt(&repo).unwrap());
        assert!(!slots[2].wait(&repo, || false).unwrap());
        slots[1].release();
        assert!(slots[2].attempt(&repo).unwrap() && !slots[1].attempt(&repo).unwrap());
        slots[2].release();
        assert!(slots[1].attempt(&repo).unwrap() && !slots[2].attempt(&repo).unwrap());
        let aside: Vec<Slot> = slots.iter().map(Slot::aside).collect();
        assert!(aside[0].attempt(&repo).unwrap() && aside[1].attempt(&repo).unwrap(), "a set of its own");
        assert!(!aside[2].attempt(&repo).unwrap());
        let waiting = std::thread::spawn({
            let (slot, repo) = (slots[2].clone(), sandbox.open());
            move || slot.wait(&repo, || true).unwrap()
        });
        drop(slots);
        assert!(waiting.join().unwrap());
    }
}

//! Care of what lies around the state: locks that dead writers left on our refs.

use super::{Error, Store, local};
use std::path::PathBuf;

impl Store {
    /// Removes locks on refs of ours that nobody holds any more, under the lock that every writer of ours takes.
    /// Takes two seconds for each that is there, and no time if none is. Returns the locks.
    pub fn break_stale_locks(&self) -> Result<Vec<PathBuf>, Error> {
        let mut removed = Vec::new();
        if !self.repo().local_dir().is_dir() {
            return Ok(removed);
        }
        let _lock = local::lock(self.repo())?;
        for prefix in ["refs/orchestra", "refs/notes/orchestra"] {
            removed.extend(self.repo().break_locks_below(prefix)?);
        }
        Ok(removed)
    }
}

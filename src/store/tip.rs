//! Where the state was last, beside its ref: a ref can be deleted by anybody who may write to the repository (a fetch of
//! all refs with `--prune` is enough), and a repository whose state is gone looks like one that never had any.

use super::{Error, STATE_REF, Store, local};
use crate::git::{Expected, RefEdit, Repository};
use crate::model::ObjectId;
use std::fs::File;
use std::os::unix::fs::FileExt as _;

/// The file with the state's last commit, in the local directory.
const FILE: &str = "tip";

/// Keeps where the state is, if `refs` moved it. Whoever does not know it cannot tell that the state is gone, so that
/// may fail.
pub(super) fn keep(repo: &Repository, refs: &[RefEdit]) {
    let Some(commit) = refs.iter().find(|edit| edit.name == STATE_REF).and_then(|edit| edit.new.as_ref())
    else {
        return;
    };
    let written = local::directory(repo).and_then(|dir| {
        let path = dir.join(FILE);
        // All of it at once, and always as long: no other process sees half of it.
        let file = File::options().write(true).create(true).truncate(false).open(&path);
        let written = file.and_then(|file| file.write_all_at(format!("{commit}\n").as_bytes(), 0));
        written.map_err(|e| Error::local("write", &path, e))
    });
    if let Err(error) = written {
        tracing::debug!("cannot keep where the state is: {error}");
    }
}

/// Where the state was, if its ref is gone and its commit is not. To be asked where there is no ref.
pub(super) fn lost(repo: &Repository) -> Option<ObjectId> {
    let text = std::fs::read_to_string(repo.local_dir().join(FILE)).ok()?;
    let commit: ObjectId = text.trim().parse().ok()?;
    // Without its objects it is gone for good.
    repo.has_object(&commit).then_some(commit)
}

impl Store {
    /// Makes the state's ref again, if somebody deleted it. Returns where it is then.
    ///
    /// # Errors
    /// [`Error`]; then the ref is as it was.
    pub fn restore_state(&self) -> Result<Option<ObjectId>, Error> {
        // Whoever only looks makes no lock.
        if self.is_initialised()? || lost(self.repo()).is_none() {
            return Ok(None);
        }
        let _alone = local::lock(self.repo())?;
        if self.is_initialised()? {
            return Ok(None);
        }
        let Some(commit) = lost(self.repo()) else { return Ok(None) };
        let edit =
            RefEdit { name: STATE_REF.to_owned(), new: Some(commit.clone()), expected: Expected::Absent };
        self.move_refs(&[edit])?;
        Ok(Some(commit))
    }
}

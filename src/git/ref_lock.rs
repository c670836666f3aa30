//! Moving one ref that is a file of its own, as git moves it and without a git: the lock file is made, what the ref says
//! is compared, the new value is on disk, and the lock file takes the ref's place.
//!
//! That is all that git does for such a ref where no hook runs (ours never do) and no reflog is kept, and starting git
//! costs more than the rest of a change of the state. Whatever is not that simple is left to git: refs that are packed,
//! symbolic or to be deleted, several at once, reftables, reflogs, and repositories that several users write.

use super::mend::{MovingFile, MovingMark};
use super::ref_files::{Loose, Target};
use super::repository::RefFormat;
use super::{Error, Expected, RefEdit, Repository};
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// A ref that is locked, with the value that it will have in the lock file. Dropped, the ref stays where it is.
#[derive(Debug)]
pub struct RefLock<'r> {
    repo: &'r Repository,
    edit: RefEdit,
    /// The lock file, as long as it is ours to remove.
    lock: Option<PathBuf>,
    mark: MovingMark,
    /// Whoever comes after a kill knows by this whose lock is left. Dropped after the lock is gone.
    _note: Option<MovingFile>,
}

impl Repository {
    /// Whether a ref can be moved by [`Repository::lock_ref`], as far as that can be told without its lock.
    pub fn is_plain_ref(&self, name: &str) -> bool {
        let is = |key: &str, values: &[&str]| {
            self.config(key).is_none_or(|value| values.contains(&value.to_ascii_lowercase().as_str()))
        };
        self.refs == RefFormat::Files
            && self.common_dir().join(name).symlink_metadata().is_ok_and(|meta| meta.is_file())
            // git keeps a reflog where there is one, and everywhere if it is told so.
            && !self.common_dir().join("logs").join(name).exists()
            && is("core.logallrefupdates", &["", "true", "false", "yes", "no", "on", "off", "1", "0"])
            && is("core.sharedrepository", &["false", "no", "off", "0", "umask"])
    }

    /// Locks a ref and writes down where it goes; `None` if that is git's to do ([`Repository::begin_moving`]). The lock
    /// file is to be synced before [`RefLock::commit`].
    ///
    /// # Errors
    /// [`Error::RefMoved`] if it is elsewhere, [`Error::RefLocked`] if it is locked.
    pub fn lock_ref(&self, edit: &RefEdit) -> Result<Option<RefLock<'_>>, Error> {
        let RefEdit { name, new: Some(new), expected: Expected::At(old) } = edit else { return Ok(None) };
        if !self.is_plain_ref(name) {
            return Ok(None);
        }
        let path = self.common_dir().join(format!("{name}.lock"));
        let mark = MovingMark::new();
        let note = self.note_moving(&mark, std::slice::from_ref(edit));
        let mut file = match OpenOptions::new().write(true).create_new(true).open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Error::RefLocked { name: name.clone() });
            }
            Err(e) => return Err(Error::file("create", path, e)),
        };
        let locked = RefLock { repo: self, edit: edit.clone(), lock: Some(path.clone()), mark, _note: note };
        match self.read_loose(&self.common_dir().join(name))? {
            Loose::Says(Some(Target::Object(now))) if now == *old => {}
            Loose::Says(Some(Target::Object(_))) => return Err(Error::RefMoved { name: name.clone() }),
            // Packed or made symbolic meanwhile.
            Loose::Says(_) | Loose::Absent => return Ok(None),
        }
        file.write_all(format!("{new}\n").as_bytes()).map_err(|e| Error::file("write", path, e))?;
        Ok(Some(locked))
    }
}

impl RefLock<'_> {
    /// The lock file.
    pub fn path(&self) -> &Path {
        self.lock.as_deref().expect("it is there until `commit`")
    }

    /// Moves the ref. On disk for good when it returns.
    pub fn commit(mut self) -> Result<(), Error> {
        let path = self.repo.common_dir().join(&self.edit.name);
        std::fs::rename(self.path(), &path).map_err(|e| Error::file("replace", path, e))?;
        self.lock = None;
        self.repo.sync_ref_names(&[&self.edit.name])
    }
}

impl Drop for RefLock<'_> {
    fn drop(&mut self) {
        if self.lock.take().is_some_and(|lock| std::fs::remove_file(lock).is_err()) {
            // Whoever comes next does it.
            let held = self.repo.held_by(std::slice::from_ref(&self.edit));
            self.repo.let_go_of(held, &self.mark);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::{FORMATS, Sandbox};

    const NAME: &str = "refs/orchestra/x";

    fn edit(old: &str, new: &str) -> RefEdit {
        let expected = Expected::At(old.parse().unwrap());
        RefEdit { name: NAME.to_owned(), new: Some(new.parse().unwrap()), expected }
    }

    #[test]
    fn a_plain_ref_moves_as_git_moves_it() {
        for format in FORMATS {
            let sandbox = Sandbox::new(&format);
            let commit = |text: &str| {
                sandbox.git(&["commit", "-q", "--allow-empty", "-m", text]);
                sandbox.git(&["rev-parse", "HEAD"])
            };
            let (one, two, three) = (commit("one"), commit("two"), commit("three"));
            sandbox.git(&["update-ref", NAME, &one]);
            let repo = sandbox.open();
            let Some(lock) = repo.lock_ref(&edit(&one, &two)).unwrap() else {
                assert!(repo.refs == RefFormat::Other);
                continue;
            };
            let now = || sandbox.git(&["rev-parse", NAME]);
            assert!(matches!(repo.lock_ref(&edit(&one, &two)), Err(Error::RefLocked { .. })));
            let refused = format!("{:?}", repo.read(["update-ref", NAME, &three]).unwrap_err());
            assert!(refused.contains(&format!("{NAME}.lock': File exists")), "{refused}");
            assert_eq!(now(), one);
            lock.commit().unwrap();
            assert_eq!(now(), two);
            assert!(matches!(repo.lock_ref(&edit(&one, &three)), Err(Error::RefMoved { .. })));
            drop(repo.lock_ref(&edit(&two, &three)).unwrap().unwrap());
            assert_eq!(now(), two);
            // No lock is left, nor a note of one.
            sandbox.git(&["update-ref", NAME, &three, &two]);
            assert_eq!(repo.mend_locks().unwrap(), Vec::<PathBuf>::new());
        }
    }

    #[test]
    fn what_is_not_that_simple_is_left_to_git() {
        let sandbox = Sandbox::new(&[]);
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        let one = sandbox.git(&["rev-parse", "HEAD"]);
        let mine = |expected: bool, why: &str| {
            let repo = sandbox.open();
            assert_eq!(repo.lock_ref(&edit(&one, &one)).unwrap().is_some(), expected, "{why}");
        };
        mine(false, "it is not there");
        sandbox.git(&["update-ref", NAME, &one]);
        mine(true, "a file");
        for (key, value) in [("core.logAllRefUpdates", "always"), ("core.sharedRepository", "group")] {
            sandbox.git(&["config", key, value]);
            mine(false, key);
            sandbox.git(&["config", "--unset", key]);
        }
        let repo = sandbox.open();
        let log = repo.common_dir().join("logs").join(NAME);
        std::fs::create_dir_all(log.parent().unwrap()).unwrap();
        std::fs::write(&log, "").unwrap();
        mine(false, "it has a reflog");
        std::fs::remove_file(&log).unwrap();
        mine(true, "a file again");
        let other = RefEdit { expected: Expected::Absent, ..edit(&one, &one) };
        assert!(repo.lock_ref(&other).unwrap().is_none());
        let gone = RefEdit { new: None, ..edit(&one, &one) };
        assert!(repo.lock_ref(&gone).unwrap().is_none());
        sandbox.git(&["pack-refs", "--all"]);
        mine(false, "packed");
        sandbox.git(&["symbolic-ref", NAME, "refs/heads/main"]);
        mine(false, "symbolic");
        assert!(!repo.common_dir().join(format!("{NAME}.lock")).exists());
    }
}

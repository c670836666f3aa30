//! Where objects of a remote wait until they are known to be what was asked for: nothing of a fetch that is refused
//! reaches the repository.

use super::super::{Error, Repository};
use crate::process::Command;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// How much a fetch may write: a state of 110,000 entities is a quarter of this, and a disk that is full by somebody
/// else's will stops all work here.
pub(super) const MAX_INCOMING: u64 = 256 << 20;

/// How directories are called in which objects wait. `git gc` knows the beginning of it.
const PREFIX: &str = "tmp_objdir-orchestra-";
/// After how long such a directory is nobody's any more: no fetch takes a day.
const ABANDONED: Duration = Duration::from_secs(24 * 60 * 60);

/// A directory of objects beside those of the repository; removed with all that is in it unless it is let in.
#[derive(Debug)]
pub(super) struct Quarantine {
    dir: TempDir,
    objects: PathBuf,
}

impl Quarantine {
    pub(super) fn new(repo: &Repository) -> Result<Self, Error> {
        let objects = repo.common_dir().join("objects");
        let dir = tempfile::Builder::new()
            .prefix(PREFIX)
            .tempdir_in(&objects)
            .map_err(|e| Error::file("make a directory in", &objects, e))?;
        sweep(&objects, dir.path());
        Ok(Self { dir, objects })
    }

    /// Lets a git process write its objects here, and read those of the repository too.
    pub(super) fn around(&self, command: Command) -> Command {
        command
            .env("GIT_OBJECT_DIRECTORY", self.dir.path())
            .env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.objects)
    }

    /// Bytes of all files in it.
    pub(super) fn size(&self) -> u64 {
        files(self.dir.path()).iter().filter_map(|path| fs::metadata(path).ok()).map(|meta| meta.len()).sum()
    }

    /// Moves the objects into the repository, on disk when this returns. git has synced the files themselves.
    pub(super) fn let_in(self) -> Result<(), Error> {
        let mut found = files(self.dir.path());
        // A pack is there for git as soon as its index is.
        found.sort_by_key(|path| path.extension().is_some_and(|extension| extension == "idx"));
        let mut directories = BTreeSet::new();
        for path in found {
            let to = self.objects.join(path.strip_prefix(self.dir.path()).expect("it was found there"));
            let directory = to.parent().expect("it is a file's path");
            if to.exists() {
                continue;
            }
            if !directory.is_dir() {
                fs::create_dir_all(directory).map_err(|e| Error::file("create", directory, e))?;
                directories.insert(self.objects.clone());
            }
            fs::rename(&path, &to).map_err(|e| Error::file("move an object to", &to, e))?;
            directories.insert(directory.to_owned());
        }
        for directory in directories {
            let synced = fs::File::open(&directory).and_then(|file| file.sync_all());
            synced.map_err(|e| Error::file("sync", &directory, e))?;
        }
        Ok(())
    }
}

/// Removes what fetches that were killed left long before `new` was made.
fn sweep(objects: &Path, new: &Path) {
    let made = |path: &Path| fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let Some(now) = made(new) else { return };
    for entry in fs::read_dir(objects).into_iter().flatten().flatten() {
        let age = made(&entry.path()).and_then(|then| now.duration_since(then).ok());
        if entry.file_name().to_string_lossy().starts_with(PREFIX) && age.is_some_and(|age| age > ABANDONED) {
            // It may be somebody else's to remove, or another's who is at it.
            fs::remove_dir_all(entry.path()).ok();
        }
    }
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => found.extend(files(&entry.path())),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    #[test]
    fn objects_are_let_in_or_gone_and_what_was_killed_is_swept() {
        let sandbox = Sandbox::new(&[]);
        let (repo, objects) = (sandbox.open(), sandbox.path().join(".git/objects"));
        let waiting = |repo: &Repository| {
            let quarantine = Quarantine::new(repo).unwrap();
            let dir = quarantine.dir.path().to_str().unwrap().to_owned();
            let git = repo.git(["hash-object", "-w", "--stdin"]).stdin("text\n");
            let id = quarantine.around(git).read().unwrap();
            (quarantine, dir, String::from_utf8(id).unwrap().trim().to_owned())
        };
        let there = |id: &str| objects.join(&id[..2]).join(&id[2..]).exists();
        let (refused, dir, id) = waiting(&repo);
        assert!(refused.size() > 0);
        drop(refused);
        assert!(!there(&id) && !Path::new(&dir).exists());
        let (taken, dir, id) = waiting(&repo);
        taken.let_in().unwrap();
        assert!(there(&id) && !Path::new(&dir).exists());

        let (old, young) = (objects.join(format!("{PREFIX}old")), objects.join(format!("{PREFIX}young")));
        for dir in [&old, &young] {
            fs::create_dir_all(dir.join("pack")).unwrap();
        }
        let then = fs::metadata(&old).unwrap().modified().unwrap() - 2 * ABANDONED;
        fs::File::open(&old).unwrap().set_modified(then).unwrap();
        drop(Quarantine::new(&repo).unwrap());
        assert!(!old.exists() && young.exists());
    }
}

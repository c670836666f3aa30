//! Whose name a clone bears: a clone that was copied has the name of the one that it was copied from, and two of one
//! name would take each other's claims and stamps for their own. The copy is given a name of its own.
//!
//! `orchestra/home` says where the clone of that name is. It is a copy if another one is still there, with that name.
//! Whatever else it finds, a clone was moved, restored or is seen from another host, and keeps its name: a name never changes
//! because nothing is known. A shared directory may have another path and another inode on each host that sees it, and
//! agents may run on one of them; so a copy that went to another host is not told from it.

use super::{Error, Store, local};
use crate::git::{Expected, RefEdit, Repository};
use serde::{Deserialize, Serialize};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// What is being done by processes of the clone that was copied, and means nothing to the copy: with it the copy would end
/// their agents and touch their worktrees.
const OF_THE_OTHER: [&str; 7] =
    ["claiming.json", "control", "forwards", "intents", "leases", "merges", "undo"];

/// Where the clone of a name is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Home {
    machine: String,
    /// Its git directory.
    path: String,
    /// What it was called before, if it is a copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    copy_of: Option<String>,
}

/// A clone that turned out to be a copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copied {
    /// The git directory of the clone that it is a copy of.
    pub from: PathBuf,
    /// The name that both had.
    pub was: String,
    /// Its own name from here on.
    pub is: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Verdict {
    Same,
    /// It is what it was, elsewhere or seen from elsewhere.
    Moved,
    Copy {
        from: PathBuf,
    },
}

impl Store {
    /// Gives this clone a name of its own if it is a copy of another one, once; then what it holds of claims and what was
    /// being done is forgotten here, as it is the other's. To be called before anything else is done: two small files are
    /// read.
    ///
    /// # Errors
    /// If it is a copy and cannot be given a name.
    pub fn settle_home(&self) -> Result<Option<Copied>, Error> {
        let repo = self.repo();
        let (name, verdict) = match judged(repo)? {
            None | Some((_, Verdict::Same)) => return Ok(None),
            Some((name, Verdict::Moved)) => {
                // A repository that nobody may write to can be read all the same.
                if let Err(error) = write(repo, &name, None) {
                    tracing::debug!("cannot keep where this clone is: {error}");
                }
                return Ok(None);
            }
            Some((name, verdict @ Verdict::Copy { .. })) => (name, verdict),
        };
        let copied = name_copy(repo, &(name, verdict));
        match copied {
            // Somebody looks at a snapshot: nothing can be changed, so nothing can be mixed up either.
            Err(Error::Local { source, .. }) if source.kind() == std::io::ErrorKind::ReadOnlyFilesystem => {
                Ok(None)
            }
            copied => copied,
        }
    }

    /// This clone's name, if it was given one, and that of the clone that it is a copy of. Changes nothing.
    ///
    /// # Errors
    /// If a file is there and cannot be read.
    pub fn named(&self) -> Result<Option<(String, Option<String>)>, Error> {
        let Some(name) = local::find_machine(self.repo())? else { return Ok(None) };
        let copy_of = read(self.repo())?.filter(|home| home.machine == name).and_then(|home| home.copy_of);
        Ok(Some((name, copy_of)))
    }
}

/// Makes a clone that was judged to be a copy one of its own.
fn name_copy(repo: &Repository, known: &(String, Verdict)) -> Result<Option<Copied>, Error> {
    let _alone = local::lock(repo)?;
    // Another process may have been faster.
    let Some((still, Verdict::Copy { from })) = judged(repo)?.filter(|again| again == known) else {
        return Ok(None);
    };
    let dir = local::directory(repo)?;
    for name in OF_THE_OTHER {
        let path = dir.join(name);
        let removed = match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => std::fs::remove_dir_all(&path),
            Ok(_) => std::fs::remove_file(&path),
            Err(_) => continue,
        };
        removed.map_err(|e| Error::local("remove", &path, e))?;
    }
    let claims = repo.list_refs(super::CLAIM_REFS)?.into_iter();
    let gone = |(name, _)| RefEdit { name, new: None, expected: Expected::Anything };
    let claims: Vec<RefEdit> = claims.map(gone).collect();
    if !claims.is_empty() {
        repo.update_refs(&claims, "git orchestra: a copy holds no claims")?;
    }
    // Killed between the two, it has a name of its own, and where it is becomes known with the next command.
    let is = local::rename_machine(repo)?;
    write(repo, &is, Some(still.clone()))?;
    Ok(Some(Copied { from, was: still, is }))
}

/// The clone's name and what it is; `None` if it has no name yet.
fn judged(repo: &Repository) -> Result<Option<(String, Verdict)>, Error> {
    let Some(name) = local::find_machine(repo)? else { return Ok(None) };
    let Some(home) = read(repo)?.filter(|home| home.machine == name) else {
        return Ok(Some((name, Verdict::Moved)));
    };
    let (here, was) = (here(repo, &name), PathBuf::from(&home.path));
    let verdict = if here.path == home.path {
        Verdict::Same
    } else if is_another(repo.common_dir(), &was, &name) {
        Verdict::Copy { from: was }
    } else {
        Verdict::Moved
    };
    Ok(Some((name, verdict)))
}

/// Whether there is a clone of this name at `path`, and not ours by another way.
fn is_another(ours: &Path, path: &Path, name: &str) -> bool {
    let place = |dir: &Path| dir.metadata().map(|meta| (meta.dev(), meta.ino())).ok();
    let named = std::fs::read_to_string(path.join("orchestra/machine")).is_ok_and(|text| text.trim() == name);
    named && path.join("HEAD").exists() && place(path).is_some() && place(path) != place(ours)
}

fn here(repo: &Repository, name: &str) -> Home {
    let path = repo.common_dir().to_string_lossy().into_owned();
    Home { machine: name.to_owned(), path, copy_of: None }
}

fn path(repo: &Repository) -> PathBuf {
    repo.local_dir().join("home")
}

fn read(repo: &Repository) -> Result<Option<Home>, Error> {
    let path = path(repo);
    match std::fs::read(&path) {
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::local("read", &path, e)),
    }
}

/// Writes down that the clone called `name` is here.
pub(super) fn write(repo: &Repository, name: &str, copy_of: Option<String>) -> Result<(), Error> {
    let known = read(repo)?.filter(|home| home.machine == name).and_then(|home| home.copy_of);
    let home = Home { copy_of: copy_of.or(known), ..here(repo, name) };
    let (dir, path) = (repo.local_dir(), path(repo));
    let bytes = serde_json::to_vec(&home).map_err(|e| Error::local("write", &path, e.into()))?;
    let written = tempfile::NamedTempFile::new_in(&dir).and_then(|mut file| {
        file.write_all(&bytes)?;
        file.as_file().sync_all()?;
        file.persist(&path).map_err(|e| e.error).map(drop)
    });
    written.map_err(|e| Error::local("write", &path, e))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Identity;
    use crate::git::testing::Sandbox;
    use crate::model::Timestamp;
    use crate::process::ManualClock;
    use std::sync::Arc;

    fn open(sandbox: &Sandbox, dir: &Path) -> Store {
        let clock = Arc::new(ManualClock::new(Timestamp(1_000)));
        Store::open(sandbox.open_in(dir), clock, Identity::new("Ada", "ada@example.org"))
    }

    /// What `cp -r` makes.
    fn copy_all(from: &Path, to: &Path) {
        std::fs::create_dir(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            if entry.file_type().unwrap().is_dir() {
                copy_all(&entry.path(), &to);
            } else {
                std::fs::copy(entry.path(), to).unwrap();
            }
        }
    }

    /// What `mv` does between file systems.
    fn move_over(from: &Path, to: &Path) {
        copy_all(from, to);
        std::fs::remove_dir_all(from).unwrap();
    }

    /// A directory on another file system than the sandbox, if the machine has one.
    fn elsewhere(sandbox: &Sandbox) -> Option<tempfile::TempDir> {
        let dev = |path: &Path| path.metadata().ok().map(|meta| meta.dev());
        let dirs = ["/dev/shm", "/tmp", "/var/tmp"].map(Path::new);
        let other = dirs.into_iter().find(|dir| dev(dir).is_some() && dev(dir) != dev(&sandbox.path()))?;
        tempfile::tempdir_in(other).ok()
    }

    #[test]
    fn a_copy_is_given_a_name_and_what_was_moved_keeps_its_own() {
        let sandbox = Sandbox::new(&[]);
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
        let (dir, home) = (sandbox.dir.path().to_owned(), sandbox.path());
        let store = open(&sandbox, &home);
        assert_eq!((store.settle_home().unwrap(), store.named().unwrap()), (None, None), "nothing is made");
        let name = store.machine().unwrap();
        sandbox.git(&["update-ref", "refs/orchestra/claims/k3v8w00000000000", "HEAD"]);
        std::fs::create_dir(store.repo().local_dir().join("leases")).unwrap();
        assert_eq!(store.settle_home().unwrap(), None);
        let keeps = |at: &Path, what: &str| {
            let store = open(&sandbox, at);
            assert_eq!(store.settle_home().unwrap(), None, "{what}");
            assert_eq!(store.named().unwrap(), Some((name.clone(), None)), "{what}");
            assert_eq!(store.repo().list_refs(super::super::CLAIM_REFS).unwrap().len(), 1, "{what}");
        };

        // Seen by another way.
        let link = dir.join("link");
        std::os::unix::fs::symlink(&home, &link).unwrap();
        keeps(&link, "a link");
        sandbox.git(&["worktree", "add", "-q", dir.join("linked").to_str().unwrap()]);
        keeps(&dir.join("linked"), "a linked worktree");
        // Moved, and moved back.
        let moved = dir.join("moved");
        std::fs::rename(&home, &moved).unwrap();
        keeps(&moved, "moved");
        std::fs::rename(&moved, &home).unwrap();
        keeps(&home, "moved back");
        if let Some(other) = elsewhere(&sandbox) {
            let there = other.path().join("repo");
            move_over(&home, &there);
            keeps(&there, "moved to another file system");
            move_over(&there, &home);
            keeps(&home, "and back");
        }
        // A backup that takes the place of what was lost.
        let backup = dir.join("backup");
        copy_all(&home, &backup);
        std::fs::remove_dir_all(&home).unwrap();
        copy_all(&backup, &home);
        std::fs::remove_dir_all(&backup).unwrap();
        keeps(&home, "restored");

        // Copied: the copy is another one, and says so once; what it is a copy of stays what it is.
        let copy = dir.join("copy");
        copy_all(&home, &copy);
        keeps(&home, "what was copied");
        let copied = open(&sandbox, &copy);
        let said = copied.settle_home().unwrap().expect("it is a copy");
        let from = home.join(".git").canonicalize().unwrap();
        assert_eq!((&said.from, &said.was), (&from, &name));
        assert_ne!(said.is, name);
        assert_eq!(copied.machine().unwrap(), said.is);
        assert_eq!(copied.named().unwrap(), Some((said.is.clone(), Some(name.clone()))));
        assert_eq!(copied.settle_home().unwrap(), None, "once");
        assert_eq!(copied.repo().list_refs(super::super::CLAIM_REFS).unwrap(), [], "claims are the other's");
        assert!(!copied.repo().local_dir().join("leases").exists(), "and so is who runs");
        keeps(&home, "what was copied");
        // A copy of a copy that nobody has used yet is a third one; and one whose original is gone is that.
        let (second, third) = (dir.join("second"), dir.join("third"));
        copy_all(&home, &second);
        copy_all(&second, &third);
        let names = [&second, &third].map(|dir| open(&sandbox, dir).settle_home().unwrap().unwrap().is);
        assert_ne!(names[0], names[1]);
        assert_eq!(open(&sandbox, &second).settle_home().unwrap(), None);
    }
}

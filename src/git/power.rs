//! What a power cut leaves: files whose names reached the disk and whose contents did not.
//!
//! What we acknowledge is synced before. What was being written when the power went is not, and an empty object or
//! ref stops the user's own `git gc` until it is gone. Nothing is removed here that could be read.

use super::mend::{locks_below, remove_all_stale, worktree_locks};
use super::sync::sync_all;
use super::worktree::{create_private, remove_file};
use super::{Error, Repository, Worktree};
use crate::process::Identity;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where refs lie that nobody but us writes.
const OUR_REFS: [&str; 3] = ["refs/orchestra", "refs/notes/orchestra", "refs/heads/orchestra"];

/// How long a file system may keep in memory what was written, with a large margin.
const RECENT: Duration = Duration::from_secs(600);
/// What file systems write at once.
const BLOCK: usize = 4096;

impl Repository {
    /// Removes loose objects without content, empty refs of ours, and the locks on these refs and in our worktrees,
    /// once after each start of the machine. Returns them. Reads one small file at any other time.
    pub fn mend_after_boot(&self) -> Result<Vec<PathBuf>, Error> {
        let boot = Identity::own().boot;
        let mark = self.local_dir().join("boot");
        if boot.is_empty()
            || !self.local_dir().is_dir()
            || std::fs::read_to_string(&mark).is_ok_and(|known| known == boot)
        {
            return Ok(Vec::new());
        }
        let mut objects = Vec::new();
        for entry in std::fs::read_dir(self.common_dir().join("objects")).into_iter().flatten().flatten() {
            if entry.file_name().len() == 2 {
                find_files(&entry.path(), &mut objects);
            }
        }
        // What was written long before the last of them is on disk.
        let last = objects.iter().map(|(_, written)| *written).max().unwrap_or(UNIX_EPOCH);
        objects.retain(|(path, written)| *written + RECENT >= last && is_hollow(path));
        let mut refs = Vec::new();
        for place in OUR_REFS {
            find_files(&self.common_dir().join(place), &mut refs);
        }
        refs.retain(|(path, _)| {
            path.extension().is_none_or(|end| end != "lock")
                && std::fs::read(path).is_ok_and(|content| content.iter().all(|&b| b == 0))
        });
        let mut removed: Vec<PathBuf> = objects.into_iter().chain(refs).map(|(path, _)| path).collect();
        for path in &removed {
            remove_file(path)?;
        }
        let below = |place: &str| locks_below(&self.common_dir().join(place));
        let mut locks: Vec<PathBuf> = OUR_REFS.into_iter().flat_map(below).collect();
        // Whoever worked in an agent's worktree is as dead as the machine was; but somebody may have begun since.
        if !self.is_busy() {
            locks.extend(self.own_worktrees()?.iter().flat_map(worktree_locks));
        }
        removed.extend(remove_all_stale(locks)?);
        create_private(&self.local_dir())?;
        std::fs::write(&mark, boot).map_err(|e| Error::file("write", &mark, e))?;
        Ok(removed)
    }

    /// Waits until the registration of a worktree is on disk for good: without its pointers git works nowhere in the
    /// repository.
    pub(super) fn sync_registration(&self, worktree: &Worktree) -> Result<(), Error> {
        let entries = std::fs::read_dir(&worktree.git_dir).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> =
            entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
        paths.extend([worktree.git_dir.clone(), self.common_dir().join("worktrees")]);
        paths.extend([worktree.path.join(".git"), worktree.path.clone()]);
        paths.extend(worktree.path.parent().map(Path::to_owned));
        sync_all(&paths).map_err(|(path, e)| Error::file("sync", path, e))
    }
}

/// Files below `dir`, with the time at which they were written.
fn find_files(dir: &Path, found: &mut Vec<(PathBuf, SystemTime)>) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        let Ok(meta) = entry.metadata() else { continue };
        if meta.is_dir() {
            find_files(&entry.path(), found);
        } else if meta.is_file() {
            found.push((entry.path(), meta.modified().unwrap_or(UNIX_EPOCH)));
        }
    }
}

/// Whether a loose object cannot be one: it is empty, or has a block of zeros, which compressed data never has.
fn is_hollow(path: &Path) -> bool {
    let Ok(content) = std::fs::read(path) else { return false };
    let starts = content.first().is_some_and(|first| first & 0x0f == 8);
    !starts || content.chunks_exact(BLOCK).any(|block| block.iter().all(|&b| b == 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::NewWorktree;
    use crate::git::testing::{FORMATS, Sandbox};

    #[test]
    fn empty_objects_and_refs_of_ours_go_once_after_a_boot() {
        let sandbox = Sandbox::new(&[]);
        let repository = sandbox.open();
        create_private(&repository.local_dir()).unwrap();
        assert!(repository.mend_after_boot().unwrap().is_empty());
        let at = |path: &str| repository.common_dir().join(path);
        let names = ["objects/0b/c2ff3cd9c9914182b44fd2b60862264525961c", "refs/heads/orchestra/heron"];
        let theirs = "refs/heads/theirs";
        for name in names.iter().chain([&theirs]) {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "").unwrap();
        }
        assert!(repository.mend_after_boot().unwrap().is_empty(), "the machine has not been off");
        std::fs::write(repository.local_dir().join("boot"), "another").unwrap();
        assert_eq!(repository.mend_after_boot().unwrap(), names.map(at));
        assert!(at(theirs).exists(), "the user's refs are the user's");
        std::fs::remove_file(at(theirs)).unwrap();
        assert_eq!(sandbox.git(&["fsck"]), "");
        sandbox.git(&["gc", "--quiet"]);
    }

    #[test]
    fn locks_in_our_worktrees_go_after_a_boot_and_those_of_the_user_stay() {
        for format in FORMATS {
            let sandbox = Sandbox::new(&format);
            let repository = sandbox.open();
            let (name, base) = ("heron".parse().unwrap(), repository.resolve_commit("HEAD").unwrap());
            let root = sandbox.dir.path().join("worktrees");
            let branch = "refs/heads/orchestra/heron";
            let new = NewWorktree { name: &name, root: &root, branch, base: &base, sparse: &[] };
            let ours = repository.add_worktree(&new).unwrap();
            let theirs = sandbox.dir.path().join("theirs");
            sandbox.git(&["worktree", "add", "-q", "-b", "theirs", theirs.to_str().unwrap()]);
            let user = repository.common_dir().join("worktrees/theirs/index.lock");
            let locks = ["index.lock", "HEAD.lock"].map(|lock| ours.git_dir.join(lock));
            for lock in locks.iter().chain([&user]) {
                std::fs::write(lock, "").unwrap();
            }
            std::fs::write(repository.local_dir().join("boot"), "another").unwrap();
            assert_eq!(repository.mend_after_boot().unwrap(), locks);
            std::fs::write(ours.path.join("f"), "f\n").unwrap();
            sandbox.git_in(&ours.path, &["add", "f"]);
            sandbox.git_in(&ours.path, &["commit", "-q", "-m", "works again"]);
            assert!(user.exists());
        }
    }
}

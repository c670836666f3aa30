//! Linked worktrees: made one at a time, written down before they are made, removed only when nobody can be
//! mistaken about what is removed.
//!
//! A worktree has a name: its directory's last component and its entry in `worktrees/` of the repository, always
//! the same. Its own `.git` file is never trusted, because whoever works in it can write it.

use super::mend::LockFile;
use super::repository::RefFormat;
use super::sync::sync_all;
use super::{Error, Expected, Head, RefEdit, Repository};
use crate::model::{Name, ObjectId};
use crate::process::{FileLock, end_orphans};
use bstr::{BStr, ByteSlice};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A linked worktree as the repository registered it. Its directory may be gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Worktree {
    /// Its name in the repository.
    pub name: String,
    /// Its private git directory, `worktrees/<name>`.
    pub git_dir: PathBuf,
    /// Where its files are.
    pub path: PathBuf,
}

/// One checkout of the repository, the main one included.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Checkout {
    /// Where its files are; for a bare repository the repository itself.
    pub path: PathBuf,
    /// What is checked out; absent when bare or unborn.
    pub commit: Option<ObjectId>,
    /// The branch, a full ref name; absent when detached.
    pub branch: Option<String>,
    /// Whether it is the entry of a bare repository.
    pub bare: bool,
    /// Whether its directory is gone.
    pub prunable: bool,
}

/// A worktree that is about to be made, with a branch of its own.
#[derive(Debug, Clone)]
pub struct NewWorktree<'a> {
    /// Its name: the last component of its path.
    pub name: &'a Name,
    /// The directory to make it in, which is made when missing.
    pub root: &'a Path,
    /// The branch to make, a full ref name under `refs/heads/`.
    pub branch: &'a str,
    /// The commit that it starts from.
    pub base: &'a ObjectId,
    /// The directories that it is limited to, beside the files at the root; none for all there is.
    pub sparse: &'a [String],
}

/// What was about to happen to a worktree. Written before, deleted after.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Intent {
    pub(super) action: Action,
    pub(super) name: Name,
    pub(super) path: PathBuf,
    /// Its branch; none for one that has a commit checked out.
    pub(super) branch: String,
    pub(super) base: Option<ObjectId>,
    /// Whether the branch was there before.
    pub(super) had_branch: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Action {
    Add,
    Remove,
}

/// What a killed process left of a worktree, and what was done about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mended {
    /// One that was being made, by us, is gone again.
    Undone(String),
    /// One that was being removed, by us, is gone.
    Removed(String),
    /// The registration of anybody's, in which a killed `git worktree add` left an empty `commondir`, is whole.
    Commondir(String),
}

impl Mended {
    /// The worktree's name in the repository.
    pub fn name(&self) -> &str {
        match self {
            Self::Undone(name) | Self::Removed(name) | Self::Commondir(name) => name,
        }
    }
}

impl std::fmt::Display for Mended {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Undone(name) => write!(f, "removed the half-made worktree {name}"),
            Self::Removed(name) => write!(f, "finished removing the worktree {name}"),
            Self::Commondir(name) => {
                write!(f, "mended worktrees/{name}/commondir, which a killed `git worktree add` left empty")
            }
        }
    }
}

/// The file in a worktree's private git directory that says that we made it. Without it a worktree is somebody
/// else's, whatever the state calls its agents.
pub(super) const OURS: &str = "orchestra";

/// The variable by which a git process that outlived us is recognised.
const MARK: &str = "GIT_ORCHESTRA_INTENT";

impl Worktree {
    /// Whether somebody locked it with `git worktree lock`.
    pub fn is_locked(&self) -> bool {
        self.git_dir.join("locked").exists()
    }

    /// Whether its directory is there and names this registration.
    pub fn is_intact(&self) -> bool {
        std::fs::read(self.path.join(".git")).ok().is_some_and(|content| {
            // Relative with `worktree.useRelativePaths`: to the worktree.
            let named = content
                .strip_prefix(b"gitdir: ")
                .map(|path| self.path.join(OsStr::from_bytes(path.trim_end())));
            named.and_then(|path| path.canonicalize().ok()) == self.git_dir.canonicalize().ok()
        })
    }
}

impl Repository {
    /// The linked worktree that we made and that is registered under `name`; `None` if there is none, or if it is
    /// somebody else's. Runs no process.
    pub fn find_worktree(&self, name: &str) -> Result<Option<Worktree>, Error> {
        if name.parse::<Name>().is_err() {
            return Ok(None);
        }
        let git_dir = self.common_dir().join("worktrees").join(name);
        if !git_dir.join(OURS).exists() {
            return Ok(None);
        }
        let file = git_dir.join("gitdir");
        let content = match std::fs::read(&file) {
            Ok(content) => content,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(Error::file("read", file, e)),
        };
        // Relative with `worktree.useRelativePaths`: to the directory of the file.
        let dot_git = git_dir.join(OsStr::from_bytes(content.trim_end()));
        let dot_git = dot_git.canonicalize().unwrap_or(dot_git);
        let Some(path) = dot_git.parent().filter(|_| !content.trim_end().is_empty()) else { return Ok(None) };
        Ok(Some(Worktree { name: name.to_owned(), git_dir, path: path.to_owned() }))
    }

    /// Every checkout of the repository, the main one first.
    pub fn checkouts(&self) -> Result<Vec<Checkout>, Error> {
        let out = self.git(["worktree", "list", "--porcelain", "-z"]).read()?;
        Ok(parse_list(&out))
    }

    /// What is checked out in a worktree.
    pub fn worktree_head(&self, worktree: &Worktree) -> Result<Head, Error> {
        if self.refs == RefFormat::Files {
            let file = worktree.git_dir.join("HEAD");
            let text = std::fs::read_to_string(&file).map_err(|e| Error::file("read", file, e))?;
            let Some(branch) = text.trim_end().strip_prefix("ref: ") else {
                return Ok(Head { branch: None, commit: text.trim_end().parse().ok() });
            };
            // A branch leads to a commit: nothing is to be peeled.
            let commit = self.read_refs(&[branch])?.pop().flatten();
            return Ok(Head { branch: Some(branch.to_owned()), commit });
        }
        let ask = |args: &[&str]| -> Result<String, Error> {
            let out = self.git_at(&worktree.git_dir, None, args).output()?;
            Ok(out.stdout.trim().to_str_lossy().into_owned())
        };
        let branch = Some(ask(&["symbolic-ref", "--quiet", "HEAD"])?).filter(|branch| !branch.is_empty());
        let commit = match &branch {
            Some(branch) => self.find_ref(branch)?,
            None => ask(&["rev-parse", "--verify", "--quiet", "HEAD"])?.parse().ok(),
        };
        Ok(Head { branch, commit })
    }

    /// Makes a branch at `base` and a worktree on it. Written down before, so that
    /// [`Repository::mend_worktrees`] can undo what a kill left half-made. Registrations are made one at a time for
    /// the whole repository; files are checked out side by side with those of others.
    ///
    /// # Errors
    /// If the branch, the registration or the directory is there already, nothing was made.
    pub fn add_worktree(&self, new: &NewWorktree<'_>) -> Result<Worktree, Error> {
        let lock = self.worktree_lock()?;
        let short = new.branch.strip_prefix("refs/heads/").ok_or_else(|| taken("branch", new.branch))?;
        let path = free_path(new.root, new.name)?;
        if self.common_dir().join("worktrees").join(new.name.as_str()).exists() {
            return Err(taken("worktree", new.name.as_str()));
        }
        if self.find_ref(new.branch)?.is_some() {
            return Err(taken("branch", short));
        }
        let intent = Intent {
            action: Action::Add,
            name: new.name.clone(),
            path,
            branch: new.branch.to_owned(),
            base: Some(new.base.clone()),
            had_branch: false,
        };
        self.make_worktree(lock, &intent, &["--no-track", "-b", short], new.base.as_str(), new.sparse)
    }

    /// Makes the directory of an existing branch again: it was removed by hand, or with its agent.
    pub fn restore_worktree(
        &self,
        name: &Name,
        root: &Path,
        branch: &str,
        sparse: &[String],
    ) -> Result<Worktree, Error> {
        let lock = self.worktree_lock()?;
        let short = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        if let Some(old) = self.find_worktree(name.as_str())? {
            if old.path.exists() {
                return Err(taken("directory", &old.path.to_string_lossy()));
            }
            self.git(["worktree".as_ref(), "remove".as_ref(), "--force".as_ref(), old.path.as_os_str()])
                .read()?;
        } else if self.common_dir().join("worktrees").join(name.as_str()).exists() {
            return Err(taken("worktree", name.as_str()));
        }
        let intent = Intent {
            action: Action::Add,
            name: name.clone(),
            path: free_path(root, name)?,
            branch: branch.to_owned(),
            base: None,
            had_branch: true,
        };
        self.make_worktree(lock, &intent, &[], short, sparse)
    }

    /// Does what `intent` says: registers under the lock, and checks out without it.
    pub(super) fn make_worktree(
        &self,
        lock: FileLock,
        intent: &Intent,
        options: &[&str],
        start: &str,
        sparse: &[String],
    ) -> Result<Worktree, Error> {
        let (file, held) = self.write_intent(intent)?;
        let mark = self.mark(&intent.name);
        let command = self.git(["worktree", "add", "--quiet", "--no-checkout"]).args(options);
        let added = command.arg(&intent.path).arg(start).env(MARK, &mark).read();
        if let Err(error) = added {
            // git does not clean everything up: a full disk leaves the branch, a kill leaves locks.
            self.settle_failed(intent, held, &file);
            return Err(error.into());
        }
        let git_dir = self.common_dir().join("worktrees").join(intent.name.as_str());
        let ours = git_dir.join(OURS);
        std::fs::write(&ours, "made by git orchestra\n").map_err(|e| Error::file("write", ours, e))?;
        let worktree = Worktree { name: intent.name.to_string(), git_dir, path: intent.path.clone() };
        worktree.begin_preparing()?;
        if !sparse.is_empty() {
            worktree.limit_to(sparse)?;
        }
        drop(lock);
        let reset = ["reset", "--hard", "--quiet", "--no-recurse-submodules"];
        let filled = self.git_at(&worktree.git_dir, Some(&worktree.path), reset).env(MARK, &mark).read();
        if let Err(error) = filled {
            // A full disk, a filter that fails: nothing of it stays.
            let _lock = self.worktree_lock()?;
            self.settle_failed(intent, held, &file);
            return Err(error.into());
        }
        self.sync_registration(&worktree)?;
        remove_held(held, &file)?;
        Ok(worktree)
    }

    /// Removes a worktree's directory with everything in it, and its registration. The branch stays.
    ///
    /// Save what is in it before: [`Repository::snapshot`].
    ///
    /// # Errors
    /// If the directory is there and does not name this registration: it may be anything then, and stays. If
    /// somebody locked the worktree.
    pub fn remove_worktree(&self, worktree: &Worktree) -> Result<(), Error> {
        let _lock = self.worktree_lock()?;
        if worktree.path.symlink_metadata().is_ok() && !worktree.is_intact() {
            return Err(Error::NotOurs { path: worktree.path.clone() });
        }
        if worktree.is_locked() {
            return Err(Error::WorktreeLocked { name: worktree.name.clone() });
        }
        let name: Name = worktree.name.parse().map_err(|_| Error::NotOurs { path: worktree.path.clone() })?;
        let intent = Intent {
            action: Action::Remove,
            name,
            path: worktree.path.clone(),
            branch: String::new(),
            base: None,
            had_branch: true,
        };
        let (file, held) = self.write_intent(&intent)?;
        self.finish_removal(&worktree.path, &worktree.git_dir)?;
        remove_held(held, &file)
    }

    /// Finishes or undoes what a killed process left half-made. Cheap when there is nothing: two directory
    /// listings.
    ///
    /// Call it before anything that changes worktrees.
    pub fn mend_worktrees(&self) -> Result<Vec<Mended>, Error> {
        let mut said = Vec::new();
        if has_entries(&self.intents()) {
            let _lock = self.worktree_lock()?;
            for entry in std::fs::read_dir(self.intents()).into_iter().flatten().flatten() {
                let file = entry.path();
                let held = FileLock::attempt(&file).map_err(|e| Error::file("lock", &file, e))?;
                // Whoever wrote it is alive and at it.
                let Some(held) = held else { continue };
                let bytes = std::fs::read(&file).map_err(|e| Error::file("read", &file, e))?;
                // One that was never written whole was never acted on.
                if let Ok(intent) = serde_json::from_slice::<Intent>(&bytes) {
                    said.push(self.settle(&intent)?);
                }
                remove_held(held, &file)?;
            }
        }
        for entry in std::fs::read_dir(self.common_dir().join("worktrees")).into_iter().flatten().flatten() {
            let commondir = entry.path().join("commondir");
            // Left by a killed `git worktree add`, anybody's: every fetch and gc of the repository dies of it. It
            // never holds anything else, so a `git worktree add` that is at it right now is not disturbed.
            if commondir.metadata().is_ok_and(|meta| meta.len() == 0) {
                std::fs::write(&commondir, "../..\n").map_err(|e| Error::file("mend", &commondir, e))?;
                said.push(Mended::Commondir(entry.file_name().to_string_lossy().into_owned()));
            }
        }
        Ok(said)
    }

    fn settle(&self, intent: &Intent) -> Result<Mended, Error> {
        // git may have outlived whoever started it, and be at it still.
        end_orphans(None, &format!("{MARK}={}", self.mark(&intent.name)), Duration::from_secs(5));
        let written = LockFile::at(self.intent_file(&intent.name));
        self.remove_shared_locks(written.map_or(u64::MAX, |file| file.since))?;
        let git_dir = self.common_dir().join("worktrees").join(intent.name.as_str());
        if intent.action == Action::Remove {
            self.finish_removal(&intent.path, &git_dir)?;
            return Ok(Mended::Removed(intent.name.to_string()));
        }
        // Nobody worked in it yet: runs start after the intent is gone. Its directory did not exist before; one
        // that is no worktree of this name is removed only if it is empty.
        let worktree =
            Worktree { name: intent.name.to_string(), git_dir: git_dir.clone(), path: intent.path.clone() };
        if worktree.is_intact() {
            remove_dir(&intent.path)?;
        } else {
            // git makes the pointer and then writes it.
            let pointer = intent.path.join(".git");
            if pointer.symlink_metadata().is_ok_and(|meta| meta.is_file() && meta.len() == 0) {
                remove_file(&pointer)?;
            }
            let _ = std::fs::remove_dir(&intent.path);
        }
        remove_dir(&git_dir)?;
        // The ref's own lock, if git died while moving it; only whoever holds our lock makes these branches.
        if !intent.branch.is_empty() {
            remove_file(&self.common_dir().join(format!("{}.lock", intent.branch)))?;
        }
        if let (false, Some(base)) = (intent.had_branch, &intent.base)
            && self.find_ref(&intent.branch)?.as_ref() == Some(base)
        {
            let edit =
                RefEdit { name: intent.branch.clone(), new: None, expected: Expected::At(base.clone()) };
            self.update_refs(&[edit], "orchestra: undo a half-made worktree")?;
        }
        Ok(Mended::Undone(intent.name.to_string()))
    }

    fn finish_removal(&self, path: &Path, git_dir: &Path) -> Result<(), Error> {
        remove_dir(path)?;
        remove_dir(git_dir)?;
        // git removes the directory of registrations with the last one.
        let _ = std::fs::remove_dir(self.common_dir().join("worktrees"));
        Ok(())
    }

    /// Undoes what could not be done. What cannot be undone now is for the next command, which finds the intent.
    fn settle_failed(&self, intent: &Intent, held: FileLock, file: &Path) {
        if self.settle(intent).is_ok() {
            let _ = remove_held(held, file);
        }
    }

    /// What tells this repository's git processes from another's.
    fn mark(&self, name: &Name) -> String {
        format!("{name}@{}", self.common_dir().display())
    }

    fn intents(&self) -> PathBuf {
        self.local_dir().join("intents")
    }

    fn intent_file(&self, name: &Name) -> PathBuf {
        self.intents().join(format!("{name}.json"))
    }

    /// Writes an intent down and holds it: as long as its writer lives, nobody else settles it. Call under the lock.
    fn write_intent(&self, intent: &Intent) -> Result<(PathBuf, FileLock), Error> {
        let dir = self.intents();
        create_private(&dir)?;
        let file = self.intent_file(&intent.name);
        let bytes = serde_json::to_vec(intent).map_err(|e| Error::file("write", &file, e.into()))?;
        std::fs::write(&file, bytes).map_err(|e| Error::file("write", &file, e))?;
        sync_all(&[file.clone(), dir]).map_err(|(path, e)| Error::file("sync", path, e))?;
        let held = FileLock::wait(&file).map_err(|e| Error::file("lock", &file, e))?;
        Ok((file, held))
    }

    pub(super) fn worktree_lock(&self) -> Result<FileLock, Error> {
        let dir = self.local_dir();
        create_private(&dir)?;
        let path = dir.join("worktrees.lock");
        FileLock::wait(&path).map_err(|e| Error::file("lock", path, e))
    }
}

/// Makes a directory that the user alone can read.
pub(super) fn create_private(dir: &Path) -> Result<(), Error> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|e| Error::file("create", dir, e))
}

pub(super) fn taken(what: &'static str, name: &str) -> Error {
    Error::Taken { what, name: name.to_owned() }
}

fn has_entries(dir: &Path) -> bool {
    std::fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some())
}

fn remove_held(held: FileLock, path: &Path) -> Result<(), Error> {
    held.remove(path).map_err(|e| Error::file("remove", path, e))
}

/// Where a worktree called `name` goes below `root`, which is made; nothing may be there.
pub(super) fn free_path(root: &Path, name: &Name) -> Result<PathBuf, Error> {
    std::fs::create_dir_all(root).map_err(|e| Error::file("create", root, e))?;
    let root = root.canonicalize().map_err(|e| Error::file("find", root, e))?;
    let path = root.join(name.as_str());
    match path.symlink_metadata() {
        Ok(_) => Err(taken("directory", &path.to_string_lossy())),
        Err(_) => Ok(path),
    }
}

pub(super) fn remove_file(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path, e)),
        _ => Ok(()),
    }
}

fn remove_dir(path: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path, e)),
        _ => Ok(()),
    }
}

/// `git worktree list --porcelain -z`: attributes end with NUL, entries with one more.
pub(super) fn parse_list(out: &[u8]) -> Vec<Checkout> {
    let mut found = Vec::new();
    let mut current = None::<Checkout>;
    for field in out.split(|&b| b == 0).map(BStr::new) {
        let (key, value) = field.split_once_str(" ").unwrap_or((field, b""));
        let text = || value.to_str_lossy().into_owned();
        match (key, &mut current) {
            (b"", _) => found.extend(current.take()),
            (b"worktree", _) => {
                current = Some(Checkout { path: OsStr::from_bytes(value).into(), ..Checkout::default() });
            }
            (b"HEAD", Some(entry)) => {
                entry.commit = text().parse().ok().filter(|id: &ObjectId| !id.is_null());
            }
            (b"branch", Some(entry)) => entry.branch = Some(text()),
            (b"bare", Some(entry)) => entry.bare = true,
            (b"prunable", Some(entry)) => entry.prunable = true,
            _ => {}
        }
    }
    found.extend(current);
    found
}

#[cfg(test)]
#[path = "worktree_tests.rs"]
mod tests;

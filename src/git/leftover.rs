//! What is in a worktree and in no commit: seen, kept as a tree, committed.
//!
//! Everything here reads the agent's index and leaves it alone, except [`Repository::commit_leftovers`], which runs
//! when its agent is gone.

use super::{Error, Expected, Head, Identity, NewCommit, RefEdit, Repository, Worktree};
use crate::model::{ObjectId, Timestamp};
use crate::process::Command;
use bstr::{BStr, BString, ByteSlice};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use tempfile::TempPath;

/// How often a snapshot of a worktree that changes meanwhile is tried.
const SNAPSHOTS: usize = 3;
/// How the status is asked for, but for how deep to look at what is untracked. Repositories below are not entered.
const STATUS: [&str; 5] = ["status", "--porcelain=v2", "-z", "--no-renames", "--ignore-submodules=dirty"];

/// What differs between a worktree and its `HEAD`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorktreeStatus {
    /// Tracked paths that differ, staged or not.
    pub changed: Vec<BString>,
    /// Paths that are neither tracked nor ignored; a directory of such stands for its contents.
    pub untracked: Vec<BString>,
    /// Tracked paths with an unresolved merge.
    pub unmerged: Vec<BString>,
}

impl WorktreeStatus {
    /// Whether nothing differs.
    pub const fn is_clean(&self) -> bool {
        self.changed.is_empty() && self.untracked.is_empty() && self.unmerged.is_empty()
    }

    /// How many paths differ.
    pub const fn count(&self) -> usize {
        self.changed.len() + self.untracked.len() + self.unmerged.len()
    }
}

/// What a worktree holds that git was told to ignore.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ignored {
    /// The paths; a directory (with a slash at its end) stands for its contents.
    pub paths: Vec<BString>,
    /// How many bytes they are, or somewhat more than the limit that was asked for.
    pub bytes: u64,
}

/// A commit of what an agent left.
#[derive(Debug, Clone)]
pub struct NewLeftover<'a> {
    /// The branch that it belongs on, a full ref name.
    pub branch: &'a str,
    /// Where it goes when the worktree is not on that branch or in the middle of something: a full ref name.
    pub rescue: &'a str,
    /// Who did it.
    pub author: &'a Identity,
    /// Who wrote it down.
    pub committer: &'a Identity,
    /// When.
    pub at: Timestamp,
    /// The message.
    pub message: &'a str,
}

/// What became of what an agent left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// There was nothing.
    Nothing,
    /// It is the new tip of its branch.
    Committed(ObjectId),
    /// It is safe under the rescue ref, and the worktree is as it was.
    Rescued(ObjectId),
}

/// Where a worktree is that is not plainly on the branch it belongs on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Detour {
    /// In the middle of a merge.
    Merge,
    /// In the middle of a rebase.
    Rebase,
    /// On another branch, a full ref name.
    Branch(String),
    /// On no branch; at this commit, if it is at one.
    Detached(Option<ObjectId>),
}

impl Repository {
    /// What differs between a worktree and its `HEAD`. Writes nothing, not even the index's cached times.
    pub fn worktree_status(&self, worktree: &Worktree) -> Result<WorktreeStatus, Error> {
        let command = self.git_at(&worktree.git_dir, Some(&worktree.path), STATUS);
        Ok(parse_status(&command.arg("--untracked-files=normal").read()?))
    }

    /// The tree of everything in a worktree that is not ignored, committed or not. Uses an index of its own, and may
    /// be called while somebody works there.
    pub fn snapshot(&self, worktree: &Worktree) -> Result<ObjectId, Error> {
        let attempt = || {
            let index = copy_index(&worktree.git_dir, &worktree.git_dir)?;
            self.fill_index(worktree, &index)?;
            self.write_index(worktree, &index)
        };
        // A file that goes while git looks at it is an error for git.
        (1..SNAPSHOTS).find_map(|_| attempt().ok()).map_or_else(attempt, Ok)
    }

    /// The same, with what git was told not to look at (`--assume-unchanged`, `--skip-worktree`) and with `ignored`
    /// paths: for a worktree that is about to go.
    pub fn snapshot_with(&self, worktree: &Worktree, ignored: &[BString]) -> Result<ObjectId, Error> {
        let index = copy_index(&worktree.git_dir, &worktree.git_dir)?;
        let git = |args: &[&str]| self.git_with_index(worktree, &index, args);
        let hidden: Vec<BString> = git(&["ls-files", "-v", "-z"])
            .read()?
            .split(|&b| b == 0)
            .filter(|entry| entry.first().is_some_and(|tag| tag.is_ascii_lowercase() || *tag == b'S'))
            .filter_map(|entry| entry.get(2..).map(BString::from))
            // One that is not there was left out of the checkout, not deleted.
            .filter(|path| worktree.path.join(OsStr::from_bytes(path)).symlink_metadata().is_ok())
            .collect();
        if !hidden.is_empty() {
            for flag in ["--no-assume-unchanged", "--no-skip-worktree"] {
                git(&["update-index", flag, "-z", "--stdin"]).stdin(bstr::join("\0", &hidden)).read()?;
            }
        }
        self.fill_index(worktree, &index)?;
        if !ignored.is_empty() {
            let add = git(&["add", "--force", "--pathspec-from-file=-", "--pathspec-file-nul"]);
            add.env("GIT_LITERAL_PATHSPECS", "1").stdin(bstr::join("\0", ignored)).read()?;
        }
        self.write_index(worktree, &index)
    }

    /// Gives a worktree that was just made the files of `commit` without moving its branch: what was uncommitted when
    /// that was kept is uncommitted again. What had been staged is not told from what had not.
    pub fn bring_back(&self, worktree: &Worktree, commit: &ObjectId) -> Result<(), Error> {
        let git = |args: &[&str]| self.git_at(&worktree.git_dir, Some(&worktree.path), args);
        git(&["read-tree", "--reset", "-u", "--no-recurse-submodules", commit.as_str()]).read()?;
        git(&["reset", "--mixed", "--quiet", "--no-recurse-submodules"]).read()?;
        Ok(())
    }

    /// Directories in a worktree, the tracked ones too, that are repositories of their own. What they hold is in no
    /// object of this one. Looks at every directory; runs no process.
    pub fn nested_repositories(worktree: &Worktree) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut queue = vec![worktree.path.clone()];
        while let Some(dir) = queue.pop() {
            if dir != worktree.path && dir.join(".git").symlink_metadata().is_ok() {
                found.push(dir.strip_prefix(&worktree.path).unwrap_or(&dir).to_owned());
                continue;
            }
            let entries = std::fs::read_dir(&dir).into_iter().flatten().flatten();
            let directories = entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
            queue.extend(directories.filter(|entry| entry.file_name() != ".git").map(|entry| entry.path()));
        }
        found.sort();
        found
    }

    /// The ignored files of a worktree, and how much they are, but for copies that it was given and that nobody
    /// touched. Counting ends soon after `limit` bytes.
    pub fn ignored_files(&self, worktree: &Worktree, limit: u64) -> Result<Ignored, Error> {
        let args = ["ls-files", "--others", "--ignored", "--exclude-standard", "--directory", "-z"];
        let out = self.git_at(&worktree.git_dir, Some(&worktree.path), args).read()?;
        let paths: Vec<BString> =
            out.split(|&b| b == 0).filter(|path| !path.is_empty()).map(BString::from).collect();
        let paths = without_copies(worktree, paths);
        let mut ignored = Ignored { paths, bytes: 0 };
        for path in &ignored.paths {
            if ignored.bytes > limit {
                break;
            }
            ignored.bytes += size(&worktree.path.join(OsStr::from_bytes(path)), limit);
        }
        Ok(ignored)
    }

    /// Commits everything in a worktree that is neither committed nor ignored, onto its branch. No hook runs, and
    /// nothing is signed. Only for a worktree in which nobody works any more.
    ///
    /// On another branch, detached, in the middle of a merge or a rebase, or where the branch is gone, the branch stays
    /// what it is and the work goes to the rescue ref, with `HEAD` as its parent.
    ///
    /// Repositories in it that are not tracked stay what they are: a link to one would be a link to nothing
    /// anywhere else.
    pub fn commit_leftovers(&self, worktree: &Worktree, new: &NewLeftover<'_>) -> Result<Leftover, Error> {
        if self.worktree_status(worktree)?.is_clean() {
            return Ok(Leftover::Nothing);
        }
        let index = copy_index(&worktree.git_dir, &worktree.git_dir)?;
        self.fill_index(worktree, &index)?;
        let tree = self.write_index(worktree, &index)?;
        let head = self.worktree_head(worktree)?;
        if let Some(tip) = &head.commit
            && self.read_commit(tip)?.tree == tree
        {
            return Ok(Leftover::Nothing);
        }
        // Of a branch that was deleted under it, the log still knows where it was.
        let parent = head.commit.clone().or_else(|| self.last_head(worktree));
        let parents: Vec<ObjectId> = parent.iter().cloned().collect();
        let commit = self.write_commit(&NewCommit {
            tree: &tree,
            parents: &parents,
            author: new.author,
            committer: new.committer,
            at: new.at,
            message: new.message,
        })?;
        // Also what git put there for us.
        self.sync_history(&commit, &head.commit.iter().collect::<Vec<_>>())?;
        let plain = head.commit.is_some() && detour(worktree, &head, new.branch).is_none();
        let (name, expected) =
            if plain { (new.branch, Expected::from(head.commit)) } else { (new.rescue, Expected::Absent) };
        let edit = RefEdit { name: name.to_owned(), new: Some(commit.clone()), expected };
        self.update_refs(&[edit], "orchestra: commit what the agent left")?;
        if !plain {
            return Ok(Leftover::Rescued(commit));
        }
        install_index(&index, &worktree.git_dir)?;
        Ok(Leftover::Committed(commit))
    }

    /// Where a worktree is, if it is not plainly on `branch`, a full ref name: what is uncommitted there does not belong
    /// on it.
    pub fn find_detour(&self, worktree: &Worktree, branch: &str) -> Result<Option<Detour>, Error> {
        Ok(detour(worktree, &self.worktree_head(worktree)?, branch))
    }

    /// Puts everything that differs and is not ignored into an index.
    ///
    /// Not with `git add`: that asks every repository below whether it is dirty, which runs git with a configuration
    /// that an agent may have written, filters included; and it takes untracked ones for submodules.
    fn fill_index(&self, worktree: &Worktree, index: &Path) -> Result<(), Error> {
        let git = |args: &[&str]| self.git_with_index(worktree, index, args);
        let status = parse_status(&git(&STATUS).arg("--untracked-files=all").read()?);
        let new = status.untracked.into_iter().filter(|path| !path.ends_with(b"/"));
        let paths: Vec<BString> = status.changed.into_iter().chain(status.unmerged).chain(new).collect();
        if !paths.is_empty() {
            let add = git(&["update-index", "--add", "--remove", "--replace", "-z", "--stdin"]);
            add.stdin(bstr::join("\0", paths)).read()?;
        }
        Ok(())
    }

    fn write_index(&self, worktree: &Worktree, index: &Path) -> Result<ObjectId, Error> {
        let out = self.git_with_index(worktree, index, &["write-tree"]).read()?;
        let text = out.trim().to_str_lossy();
        text.parse().map_err(|_| Error::Output { command: "write-tree", detail: text.into_owned() })
    }

    fn git_with_index(&self, worktree: &Worktree, index: &Path, args: &[&str]) -> Command {
        self.git_at(&worktree.git_dir, Some(&worktree.path), args).env("GIT_INDEX_FILE", index)
    }
}

fn detour(worktree: &Worktree, head: &Head, branch: &str) -> Option<Detour> {
    let has = |name: &str| worktree.git_dir.join(name).exists();
    if has("MERGE_HEAD") {
        return Some(Detour::Merge);
    }
    // In the middle of a rebase `HEAD` is on no branch, or may be.
    if has("rebase-merge") || has("rebase-apply") {
        return Some(Detour::Rebase);
    }
    match &head.branch {
        Some(on) if on == branch => None,
        Some(on) => Some(Detour::Branch(on.clone())),
        None => Some(Detour::Detached(head.commit.clone())),
    }
}

/// A copy of the index of a git directory, to be changed or refreshed in its place; beside it, if a rename is to put it
/// there.
pub(super) fn copy_index(git_dir: &Path, beside: &Path) -> Result<IndexCopy, Error> {
    let index = tempfile::Builder::new()
        .prefix("orchestra-index-")
        .tempfile_in(beside)
        .map_err(|e| Error::file("create an index in", beside, e))?
        .into_temp_path();
    let from = git_dir.join("index");
    // git looks into a file again whose time is not before its index's: under a later time, what was changed in the
    // second of the checkout without another size would be what it was.
    let written = from.metadata().and_then(|meta| meta.modified());
    match std::fs::copy(&from, &index) {
        Ok(_) => {
            let keep = |time| File::options().write(true).open(&index)?.set_modified(time);
            written.and_then(keep).map_err(|e| Error::file("copy", from, e))?;
        }
        // No index at all: git makes one, and an empty file is no index.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            std::fs::remove_file(&index).map_err(|e| Error::file("remove", index.to_path_buf(), e))?;
        }
        Err(e) => return Err(Error::file("copy", from, e)),
    }
    Ok(IndexCopy(index))
}

/// A copy of an index, which goes with what a git that was killed left beside it.
#[derive(Debug)]
pub(super) struct IndexCopy(TempPath);

impl std::ops::Deref for IndexCopy {
    type Target = Path;

    fn deref(&self) -> &Path {
        &self.0
    }
}

impl Drop for IndexCopy {
    fn drop(&mut self) {
        // Nobody else knows this index: whoever locked it is gone.
        let mut lock = self.0.as_os_str().to_owned();
        lock.push(".lock");
        let _ = std::fs::remove_file(lock);
    }
}

/// Takes copies that nobody touched out of a list of ignored paths. A directory that holds one is named by what else is
/// in it.
fn without_copies(worktree: &Worktree, paths: Vec<BString>) -> Vec<BString> {
    let copies = worktree.copies();
    if copies.is_empty() {
        return paths;
    }
    let mut rest = Vec::new();
    let mut queue = paths;
    while let Some(path) = queue.pop() {
        let holds_copies = path.ends_with(b"/")
            && copies.range(path.clone()..).next().is_some_and(|(copy, _)| copy.starts_with(&path));
        if holds_copies {
            let dir = worktree.path.join(OsStr::from_bytes(&path));
            for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
                let mut inner = path.clone();
                inner.extend_from_slice(entry.file_name().as_bytes());
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    inner.push(b'/');
                }
                queue.push(inner);
            }
        } else if !copies.contains_key(&path) {
            rest.push(path);
        }
    }
    rest.sort();
    rest
}

/// The bytes below `path`, or somewhat more than `limit`. Links are not followed.
fn size(path: &Path, limit: u64) -> u64 {
    let mut total = 0;
    let mut queue = vec![path.to_owned()];
    while let Some(path) = queue.pop() {
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => {
                queue.extend(
                    std::fs::read_dir(&path).into_iter().flatten().flatten().map(|entry| entry.path()),
                );
            }
            Ok(meta) => total += meta.len(),
            Err(_) => {}
        }
        if total > limit {
            break;
        }
    }
    total
}

/// Makes `index` the index of `git_dir`, the way git does: through `index.lock`.
fn install_index(index: &IndexCopy, git_dir: &Path) -> Result<(), Error> {
    let lock: PathBuf = git_dir.join("index.lock");
    let failed = |e| Error::file("replace", git_dir.join("index"), e);
    if let Err(e) = std::fs::hard_link(&**index, &lock) {
        if e.kind() != std::io::ErrorKind::AlreadyExists {
            return Err(failed(e));
        }
        // Left by a git that was killed with its agent: nobody works here any more.
        std::fs::remove_file(&lock).map_err(failed)?;
        std::fs::hard_link(&**index, &lock).map_err(failed)?;
    }
    std::fs::rename(&lock, git_dir.join("index")).map_err(failed)
}

/// `git status --porcelain=v2 -z` without renames: `1 XY …8 fields… path`, `u …10 fields… path`, `? path`.
pub(super) fn parse_status(out: &[u8]) -> WorktreeStatus {
    let mut status = WorktreeStatus::default();
    let nth = |entry: &BStr, fields: usize| -> BString {
        entry.splitn(fields + 1, |&b| b == b' ').last().unwrap_or_default().into()
    };
    for entry in out.split(|&b| b == 0).map(BStr::new) {
        match entry.first() {
            Some(b'1') => status.changed.push(nth(entry, 8)),
            Some(b'u') => status.unmerged.push(nth(entry, 10)),
            Some(b'?') => status.untracked.push(nth(entry, 1)),
            _ => {}
        }
    }
    status
}

#[cfg(test)]
#[path = "leftover_tests.rs"]
mod tests;

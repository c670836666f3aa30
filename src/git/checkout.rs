//! Checkouts of people: looked at, and moved on only where nothing of theirs could be in the way.

use super::leftover::copy_index;
use super::{Checkout, Error, Repository};
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Submodules are not asked whether they are clean: a fast-forward leaves their files alone, and asking runs git with
/// their configuration.
const NO_ENTRY: &str = "--ignore-submodules=dirty";

impl Repository {
    /// Tracked paths of a checkout that differ from its `HEAD`. None either if it holds exactly `commit`, which it
    /// does when a fast-forward to it was cut short after the files and before the branch.
    pub fn uncommitted_paths(&self, checkout: &Checkout, commit: &ObjectId) -> Result<Vec<String>, Error> {
        let git_dir = self.checkout_git_dir(checkout)?;
        let args = ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=no", NO_ENTRY];
        let out = self.git_at(&git_dir, Some(&checkout.path), args).read()?;
        let paths: Vec<String> = out
            .split_str(b"\0")
            .filter(|entry| !entry.is_empty())
            .map(|entry| super::path_text(entry.get(3..).unwrap_or_default().as_bstr()))
            .collect();
        if !paths.is_empty() {
            // `git diff` refreshes the index, and would leave its lock if it were killed: not in the user's own.
            let index = copy_index(&git_dir, &std::env::temp_dir())?;
            let same = |args: &[&str]| -> Result<bool, Error> {
                let command =
                    self.git_at(&git_dir, Some(&checkout.path), args).env("GIT_INDEX_FILE", &*index);
                Ok(command.output()?.status.success())
            };
            if same(&["diff", "--quiet", "--no-ext-diff", NO_ENTRY, "--cached", commit.as_str()])?
                && same(&["diff", "--quiet", "--no-ext-diff", NO_ENTRY])?
            {
                return Ok(Vec::new());
            }
        }
        Ok(paths)
    }

    /// Tracked paths that a checkout has staged, or has in its files, otherwise than `commit` has them.
    pub fn paths_unlike(&self, checkout: &Checkout, commit: &ObjectId) -> Result<BTreeSet<String>, Error> {
        let git_dir = self.checkout_git_dir(checkout)?;
        let (index, mut paths) = (copy_index(&git_dir, &std::env::temp_dir())?, BTreeSet::new());
        for of in [&["--cached", commit.as_str()] as &[&str], &[]] {
            let diff = ["diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", NO_ENTRY];
            let git = self.git_at(&git_dir, Some(&checkout.path), [&diff, of].concat());
            let out = git.env("GIT_INDEX_FILE", &*index).read()?;
            let names = out.split_str(b"\0").filter(|name| !name.is_empty());
            paths.extend(names.map(|name| super::path_text(name.as_bstr())));
        }
        Ok(paths)
    }

    /// Moves a checkout, its files and its branch on to a descendant of its `HEAD`, as `git merge --ff-only` does:
    /// no hook runs, and a file that git does not know is never overwritten. The inner error holds git's words
    /// when it refuses; nothing has moved then.
    pub fn fast_forward(
        &self,
        checkout: &Checkout,
        branch: &str,
        commit: &ObjectId,
    ) -> Result<Result<(), String>, Error> {
        let git_dir = self.checkout_git_dir(checkout)?;
        let options = format!("branch.{branch}.mergeOptions=");
        let args =
            ["-c", &options, "merge", "--ff-only", "--quiet", "--no-stat", "--no-autostash", commit.as_str()];
        let merge = self.git_at(&git_dir, Some(&checkout.path), args);
        self.move_checkout(checkout, &git_dir, commit, None, merge)
    }

    /// Moves a checkout, its files and its branch to another commit, as `git reset --keep` does: what is not committed
    /// stays, or git refuses. The inner error holds git's words then; nothing has moved.
    pub fn reset_keep(&self, checkout: &Checkout, commit: &ObjectId) -> Result<Result<(), String>, Error> {
        let git_dir = self.checkout_git_dir(checkout)?;
        let git = |args: &[&str]| self.git_at(&git_dir, Some(&checkout.path), args);
        // A file that was touched, or copied with its repository, is not changed: git tells only after it looked.
        let look = git(&["update-index", "-q", "--refresh", "--ignore-submodules"]);
        let reset = git(&["reset", "--keep", "--quiet", "--no-recurse-submodules", commit.as_str()]);
        self.move_checkout(checkout, &git_dir, commit, Some(look), reset)
    }

    /// Makes the files and the index of a checkout those of `commit`, a child of its `HEAD`, and leaves `HEAD` where it is:
    /// what differs is staged. Other changes in the checkout stay. The inner error holds git's words when it refuses;
    /// nothing has changed then. Call it only if no path that differs has uncommitted changes.
    pub fn stage(&self, checkout: &Checkout, commit: &ObjectId) -> Result<Result<(), String>, Error> {
        let git_dir = self.checkout_git_dir(checkout)?;
        let git = |args: &[&str]| self.git_at(&git_dir, Some(&checkout.path), args);
        let look = git(&["update-index", "-q", "--refresh", "--ignore-submodules"]);
        let read = git(&["read-tree", "-m", "-u", "--no-recurse-submodules", "HEAD", commit.as_str()]);
        self.move_checkout(checkout, &git_dir, commit, Some(look), read)
    }

    /// The remote-tracking branches that have a commit, as far as was fetched.
    pub fn remotes_with(&self, commit: &ObjectId) -> Result<Vec<String>, Error> {
        if !self.has_object(commit) {
            return Ok(Vec::new());
        }
        let format = "--format=%(refname:lstrip=2)";
        let text = self.read(["for-each-ref", format, "--contains", commit.as_str(), "refs/remotes"])?;
        Ok(text.lines().filter(|name| !name.ends_with("/HEAD")).map(str::to_owned).collect())
    }

    /// The git directory of a checkout, found from the repository's side: a worktree's own `.git` file is not
    /// trusted.
    fn checkout_git_dir(&self, checkout: &Checkout) -> Result<PathBuf, Error> {
        let path = checkout.path.canonicalize().map_err(|e| Error::file("find", &checkout.path, e))?;
        for entry in std::fs::read_dir(self.common_dir().join("worktrees")).into_iter().flatten().flatten() {
            let git_dir = entry.path();
            let Ok(content) = std::fs::read(git_dir.join("gitdir")) else { continue };
            let dot_git = git_dir.join(OsStr::from_bytes(content.trim_end()));
            if dot_git.parent().and_then(|dir| dir.canonicalize().ok()).as_ref() == Some(&path) {
                return Ok(git_dir);
            }
        }
        Ok(self.common_dir().to_owned())
    }
}

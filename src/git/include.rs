//! Files that git does not track and that a new worktree needs all the same: `.worktreeinclude` names them.
//!
//! Nothing is copied here: this tells which files they are, and which copies nobody has touched since.

use super::{Error, Repository, Worktree};
use bstr::{BStr, BString, ByteSlice};
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The file at the root of a checkout that says, like a `.gitignore`, what new worktrees get of what is not tracked.
pub const INCLUDE_FILE: &str = ".worktreeinclude";

/// The file in a worktree's private git directory that lists the copies it got.
const COPIES: &str = "orchestra-copies";
/// The file there as long as it was not made ready for its agent.
const UNPREPARED: &str = "orchestra-unprepared";

/// The file there that says which ports its agent had last.
const PORTS: &str = "orchestra-ports";

impl Worktree {
    /// The first of the ports that its agent had last.
    pub fn first_port(&self) -> Option<u16> {
        std::fs::read_to_string(self.git_dir.join(PORTS)).ok()?.trim().parse().ok()
    }

    /// Keeps in mind which ports its agent has.
    pub fn note_first_port(&self, port: u16) -> Result<(), Error> {
        let file = self.git_dir.join(PORTS);
        std::fs::write(&file, format!("{port}\n")).map_err(|e| Error::file("write", file, e))
    }

    /// Whether it was made, and whoever made it did not come to the end of making it ready.
    pub fn is_unprepared(&self) -> bool {
        self.git_dir.join(UNPREPARED).exists()
    }

    /// Says that it is to be made ready.
    pub(super) fn begin_preparing(&self) -> Result<(), Error> {
        let file = self.git_dir.join(UNPREPARED);
        std::fs::write(&file, "").map_err(|e| Error::file("write", file, e))
    }

    /// Says that it is ready.
    pub fn end_preparing(&self) -> Result<(), Error> {
        super::worktree::remove_file(&self.git_dir.join(UNPREPARED))
    }

    /// Keeps in mind which files are copies, so that they are not taken for somebody's work.
    pub fn note_copies(&self, paths: &[BString]) -> Result<(), Error> {
        let mut list = Vec::new();
        let all = self.copies().into_keys().chain(paths.iter().cloned());
        for path in all {
            if let Some(stamp) = self.stamp(path.as_ref()) {
                list.extend_from_slice(format!("{stamp} ").as_bytes());
                list.extend_from_slice(&path);
                list.push(0);
            }
        }
        let file = self.git_dir.join(COPIES);
        std::fs::write(&file, list).map_err(|e| Error::file("write", file, e))
    }

    /// The copies in it that are as they were when they were made.
    pub(super) fn copies(&self) -> BTreeMap<BString, String> {
        let list = std::fs::read(self.git_dir.join(COPIES)).unwrap_or_default();
        let entries = list.split(|&b| b == 0).filter_map(|entry| entry.split_once_str(" "));
        entries
            .map(|(stamp, path)| (BString::from(path), stamp.to_str_lossy().into_owned()))
            .filter(|(path, stamp)| self.stamp(path.as_ref()).as_ref() == Some(stamp))
            .collect()
    }

    /// What changes whenever somebody writes to a file; `None` if there is none.
    fn stamp(&self, path: &BStr) -> Option<String> {
        let meta = self.path.join(OsStr::from_bytes(path)).symlink_metadata().ok()?;
        Some(format!("{}:{}:{}.{}", meta.ino(), meta.size(), meta.ctime(), meta.ctime_nsec()))
    }
}

impl Repository {
    /// The checkout that new worktrees get files from: the main one; of a bare repository the one we are in.
    pub fn include_source(&self) -> Option<PathBuf> {
        if self.main_dir() == self.common_dir() {
            return self.work_dir().map(Path::to_owned);
        }
        Some(self.main_dir().to_owned())
    }

    /// The files in the checkout `source` that are not tracked and that its [`INCLUDE_FILE`] names. Nothing if there
    /// is no such file. Repositories below, and links to directories, are not entered.
    pub fn included_files(&self, source: &Path) -> Result<Vec<BString>, Error> {
        let patterns = source.join(INCLUDE_FILE);
        if !patterns.symlink_metadata().is_ok_and(|meta| meta.is_file()) {
            return Ok(Vec::new());
        }
        let git_dir = if self.main_dir() == source { self.common_dir() } else { self.git_dir() };
        let args = ["ls-files", "--others", "--ignored", "-z", "--exclude-from", INCLUDE_FILE];
        let out = self.git_at(git_dir, Some(source), args).read()?;
        let paths = out.split(|&b| b == 0).filter(|path| !path.is_empty() && !path.ends_with(b"/"));
        Ok(paths.map(BString::from).collect())
    }

    /// Those of `paths` that git ignores in a worktree. None of them may lie behind a link.
    pub fn ignored_among(&self, worktree: &Worktree, paths: &[BString]) -> Result<Vec<BString>, Error> {
        if paths.is_empty() {
            return Ok(Vec::new());
        }
        let args = ["check-ignore", "-z", "--stdin"];
        let command = self.git_at(&worktree.git_dir, Some(&worktree.path), args);
        let command = command.stdin(bstr::join("\0", paths));
        let output = command.output()?;
        // 1: none of them is.
        if !matches!(output.status.code(), Some(0 | 1)) {
            return Err(command.failed(&output).into());
        }
        let found = output.stdout.split(|&b| b == 0).filter(|path| !path.is_empty());
        Ok(found.map(BString::from).collect())
    }
}

//! Copies of files that git does not track, from the main checkout into a new worktree.
//!
//! Only what git ignores in the new worktree too: anything else would be committed with what its agent leaves. Neither
//! a link in the main checkout nor one in the commit that the worktree has leads a copy out of either.

use super::super::Error;
use crate::git::{INCLUDE_FILE, Repository, Worktree};
use crate::process::{clone_or_copy, open_no_link};
use bstr::{BString, ByteSlice};
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path};

/// How many paths are named.
const NAMED: usize = 3;

/// What became of one path.
enum Outcome {
    Cloned,
    Copied,
    /// A link, made again.
    Linked,
    /// Something is there.
    There,
    Skipped(&'static str),
}

/// Copies what the main checkout's [`INCLUDE_FILE`] names into `worktree`, and returns what there is to say.
pub(super) fn copy(repo: &Repository, worktree: &Worktree) -> Result<Vec<String>, Error> {
    let Some(source) = repo.include_source().filter(|source| *source != worktree.path) else {
        return Ok(Vec::new());
    };
    let (mut copied, mut cloned, mut there) = (Vec::new(), 0, Vec::new());
    let mut skipped: Vec<(&'static str, BString)> = Vec::new();
    let (near, behind): (Vec<BString>, Vec<BString>) =
        repo.included_files(&source)?.into_iter().partition(|path| !is_behind_link(&worktree.path, path));
    skipped.extend(behind.into_iter().map(|path| ("there is a link on the way", path)));
    let ignored = repo.ignored_among(worktree, &near)?;
    for path in near {
        let outcome = if ignored.contains(&path) {
            copy_one(&source, &worktree.path, Path::new(OsStr::from_bytes(&path)))?
        } else {
            Outcome::Skipped("git does not ignore it there, so it would be committed")
        };
        match outcome {
            Outcome::Cloned => cloned += 1,
            Outcome::Copied | Outcome::Linked => {}
            Outcome::There => {
                there.push(path);
                continue;
            }
            Outcome::Skipped(why) => {
                skipped.push((why, path));
                continue;
            }
        }
        copied.push(path);
    }
    if !copied.is_empty() {
        worktree.note_copies(&copied)?;
    }
    let mut said = Vec::new();
    if !copied.is_empty() {
        let shared = if cloned > 0 { format!(" ({cloned} without taking room)") } else { String::new() };
        let files = if copied.len() == 1 { "file" } else { "files" };
        said.push(format!(
            "copied {} {files} by {INCLUDE_FILE}{shared}: {}",
            copied.len(),
            named(copied.iter())
        ));
    }
    skipped.sort();
    for group in skipped.chunk_by(|(a, _), (b, _)| a == b) {
        said.push(format!("not copied: {} ({})", named(group.iter().map(|(_, path)| path)), group[0].0));
    }
    Ok(said)
}

fn named<'a>(paths: impl ExactSizeIterator<Item = &'a BString>) -> String {
    let more = paths.len().saturating_sub(NAMED);
    let mut text = paths.take(NAMED).map(|path| path.to_str_lossy()).collect::<Vec<_>>().join(", ");
    if more > 0 {
        let _ = write!(text, " and {more} more");
    }
    text
}

/// Whether a directory on the way to `path` is a link, or no directory.
fn is_behind_link(root: &Path, path: &BString) -> bool {
    let mut dir = root.to_owned();
    let parent = Path::new(OsStr::from_bytes(path)).parent().unwrap_or(Path::new("")).to_owned();
    parent.components().any(|part| {
        dir.push(part);
        dir.symlink_metadata().is_ok_and(|meta| !meta.is_dir())
    })
}

fn copy_one(source: &Path, target: &Path, path: &Path) -> Result<Outcome, Error> {
    let (from, to) = (source.join(path), target.join(path));
    let meta = match from.symlink_metadata() {
        Ok(meta) => meta,
        // Gone since git listed it.
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Outcome::Skipped("it is gone")),
        Err(e) => return Err(Error::file("read", from, e)),
    };
    if to.symlink_metadata().is_ok() {
        return Ok(Outcome::There);
    }
    if !path.components().all(|part| matches!(part, Component::Normal(_))) {
        return Ok(Outcome::Skipped("it leads elsewhere"));
    }
    if let Some(dir) = to.parent() {
        std::fs::create_dir_all(dir).map_err(|e| Error::file("create", dir, e))?;
    }
    if meta.is_symlink() {
        let leads = std::fs::read_link(&from).map_err(|e| Error::file("read", &from, e))?;
        if !stays_inside(path, &leads) {
            return Ok(Outcome::Skipped("it is a link that leads out of the repository"));
        }
        std::os::unix::fs::symlink(leads, &to).map_err(|e| Error::file("create", to, e))?;
        return Ok(Outcome::Linked);
    }
    if !meta.is_file() {
        return Ok(Outcome::Skipped("it is no file"));
    }
    // Neither end may be a link by now; what is to be new is none.
    let mut input = open_no_link(&from).map_err(|e| Error::file("read", &from, e))?;
    let mode = meta.permissions().mode() & 0o777;
    let opened = OpenOptions::new().write(true).create_new(true).mode(mode).open(&to);
    let mut output = opened.map_err(|e| Error::file("create", &to, e))?;
    let shared = clone_or_copy(&mut input, &mut output).map_err(|e| Error::file("copy", &from, e))?;
    Ok(if shared { Outcome::Cloned } else { Outcome::Copied })
}

/// Whether a link at `path` that says `leads` stays inside of the checkout, as far as its words go.
fn stays_inside(path: &Path, leads: &Path) -> bool {
    let mut depth = path.components().count().saturating_sub(1);
    for part in leads.components() {
        match part {
            Component::Normal(_) => depth += 1,
            Component::CurDir => {}
            Component::ParentDir if depth > 0 => depth -= 1,
            _ => return false,
        }
    }
    true
}

//! The directory in which a program locks again: manifests of what is being merged, and nothing else of the repository.
//!
//! It lies beside agents' worktrees and not in the git directory: programs look for their settings upwards, and would
//! find those of the user's checkout. It has no `.git`, so nothing that runs in it is led to the repository. There is one
//! for each repository, held by a lock, and gone when it is over; what a killed process left goes before the next one.

use super::tool::{Sees, Tool};
use crate::git::{EntryMode, Repository, path_text};
use crate::model::ObjectId;
use crate::orchestrate::lease::LeaseInfo;
use crate::orchestrate::merge::Error;
use crate::orchestrate::merge::digest::Digest;
use crate::orchestrate::prepare::require_room;
use crate::orchestrate::{self, Surroundings};
use crate::process::{FileLock, end_orphans};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(100);
/// How long what a killed process left running may take to end.
const GRACE: Duration = Duration::from_secs(2);
/// The largest file that is shown.
const LIMIT: u64 = 32 << 20;

/// The directory, held by this process.
#[derive(Debug)]
pub(super) struct Stage {
    dir: PathBuf,
    lock: Option<FileLock>,
    lock_path: PathBuf,
}

impl Stage {
    /// Makes it, empty; waits for whoever else has it. `None` if nobody wants it any more.
    pub(super) fn open(
        repo: &Repository,
        surroundings: &Surroundings,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Option<Self>, Error> {
        let failed = |what: &'static str, path: &Path, e| orchestrate::Error::file(what, path, e);
        let lock_path = lock_path(repo);
        let mut private = DirBuilder::new();
        private.recursive(true).mode(0o700);
        let local = lock_path.parent().expect("it is in a directory");
        private.create(local).map_err(|e| failed("create", local, e))?;
        let was_there = lock_path.exists();
        let lock = loop {
            if let Some(lock) = FileLock::attempt(&lock_path).map_err(|e| failed("lock", &lock_path, e))? {
                break lock;
            }
            if !wanted() {
                return Ok(None);
            }
            std::thread::sleep(POLL);
        };
        if was_there {
            end_orphans(None, &mark(repo), GRACE);
        }
        let root = &surroundings.worktree_root;
        require_room(root, surroundings.provision.space_floor)?;
        std::fs::create_dir_all(root).map_err(|e| failed("create", root, e))?;
        let dir = root.join(name(repo));
        // Where whoever finds the lock without its holder looks: settings may say another place then.
        std::fs::write(&lock_path, dir.as_os_str().as_bytes()).map_err(|e| failed("write", &lock_path, e))?;
        let stage = Self { dir, lock: Some(lock), lock_path };
        clear(&stage.dir).map_err(|e| failed("remove", &stage.dir, e))?;
        private.recursive(false).create(&stage.dir).map_err(|e| failed("create", &stage.dir, e))?;
        Ok(Some(stage))
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Writes what `tool` is shown of `tree`, in which the paths of `instead` have other contents or none. Returns it.
    pub(super) fn fill(
        &self,
        repo: &Repository,
        tool: &Tool,
        tree: &ObjectId,
        instead: &BTreeMap<String, Option<(EntryMode, ObjectId)>>,
    ) -> Result<Vec<(String, Vec<u8>)>, Error> {
        let mut found = BTreeMap::new();
        gather(repo, tool, tree, "", &mut found)?;
        for (path, entry) in instead {
            found.remove(path);
            if let (Some((mode, id)), Some(sees)) = (entry, sees(tool, path))
                && mode.is_file()
            {
                found.insert(path.clone(), (id.clone(), sees));
            }
        }
        let mut shown = Vec::new();
        for (path, (id, sees)) in found {
            let content = match sees {
                Sees::Empty => Vec::new(),
                _ if repo.object_size(&id)? > LIMIT => continue,
                Sees::Whole => repo.read_blob(&id)?,
                Sees::Part(part) => String::from_utf8(repo.read_blob(&id)?)
                    .map(|text| part(&text).into_bytes())
                    .unwrap_or_default(),
            };
            self.write(&path, &content)?;
            shown.push((path, content));
        }
        Ok(shown)
    }

    /// Writes one file. Nothing has run here yet, so no link is in the way.
    pub(super) fn write(&self, path: &str, content: &[u8]) -> Result<(), Error> {
        let file = self.dir.join(path);
        let write = || {
            std::fs::create_dir_all(file.parent().expect("it is below the directory"))?;
            std::fs::write(&file, content)
        };
        write().map_err(|e| orchestrate::Error::file("write", &file, e).into())
    }

    /// One file as it is now, if it is one, no link, not too large, and text.
    pub(super) fn read(&self, path: &str) -> Option<String> {
        let mut at = self.dir.clone();
        for part in path.split('/') {
            at.push(part);
            if at.symlink_metadata().ok()?.file_type().is_symlink() {
                return None;
            }
        }
        let meta = at.symlink_metadata().ok()?;
        let text = (meta.is_file() && meta.len() <= LIMIT).then(|| std::fs::read_to_string(&at).ok())?;
        text.filter(|text| !text.is_empty())
    }
}

fn clear(dir: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = clear(&self.dir);
        // A file that stays says that its holder was killed.
        if let Some(lock) = self.lock.take() {
            let _ = lock.remove(&self.lock_path);
        }
    }
}

/// The files below `dir` of which `tool` is shown something. Links are never followed.
fn gather(
    repo: &Repository,
    tool: &Tool,
    tree: &ObjectId,
    dir: &str,
    found: &mut BTreeMap<String, (ObjectId, Sees)>,
) -> Result<(), Error> {
    for entry in repo.read_tree(tree)? {
        let name = path_text(entry.name.as_ref());
        let path = if dir.is_empty() { name.clone() } else { format!("{dir}/{name}") };
        if entry.mode == EntryMode::Tree {
            if name != "node_modules" {
                gather(repo, tool, &entry.id, &path, found)?;
            }
        } else if let Some(sees) = sees(tool, &path).filter(|_| entry.mode.is_file()) {
            found.insert(path, (entry.id, sees));
        }
    }
    Ok(())
}

fn sees(tool: &Tool, path: &str) -> Option<Sees> {
    // git does not let such paths in; a tree that was made by hand may have them.
    let is_odd =
        |part: &str| part.is_empty() || part == "." || part == ".." || part.eq_ignore_ascii_case(".git");
    let name = path.rsplit('/').next()?;
    (tool.sees)(name).filter(|_| !path.split('/').any(is_odd) && !path.contains(['\0', '\\']))
}

/// What the directory is called: of this repository alone, where several have one place for their worktrees.
fn name(repo: &Repository) -> String {
    let mut digest = Digest::default();
    digest.add(repo.common_dir().as_os_str().as_bytes());
    format!(".lock-files-{}", &digest.finish()[..12])
}

/// The directory that a killed process left, if one did. Whoever locks right now is asked for nothing.
pub fn left_behind(repo: &Repository) -> Option<PathBuf> {
    let lock = lock_path(repo);
    let at = PathBuf::from(OsString::from_vec(std::fs::read(&lock).ok()?));
    let is_ours = at.is_absolute() && at.file_name() == Some(OsStr::new(&name(repo)));
    let is_there = || at.symlink_metadata().is_ok_and(|found| found.is_dir());
    (is_ours && is_there() && !FileLock::is_held(&lock)).then_some(at)
}

fn lock_path(repo: &Repository) -> PathBuf {
    repo.local_dir().join("lock-files/lock")
}

/// What the programs that run for this repository have in their environment.
pub(super) fn mark_value(repo: &Repository) -> String {
    format!("lock-files@{}", repo.common_dir().display())
}

fn mark(repo: &Repository) -> String {
    format!("{}={}", LeaseInfo::MARK, mark_value(repo))
}

/// Ends what a killed process left locking, and removes the directory in which it did. Returns how many processes that
/// were, and the directory.
pub fn mend(repo: &Repository) -> Result<(usize, Option<PathBuf>), orchestrate::Error> {
    let path = lock_path(repo);
    if !path.exists() {
        return Ok((0, None));
    }
    let left = left_behind(repo);
    let failed = |e| orchestrate::Error::file("lock", &path, e);
    let Some(lock) = FileLock::attempt(&path).map_err(failed)? else { return Ok((0, None)) };
    let ended = end_orphans(None, &mark(repo), GRACE);
    if let Some(dir) = &left {
        clear(dir).map_err(|e| orchestrate::Error::file("remove", dir, e))?;
    }
    lock.remove(&path).map_err(|e| orchestrate::Error::file("remove", &path, e))?;
    Ok((ended, left))
}

//! Mending what a killed process or a moved directory broke between git and its files: locks that nobody holds any
//! more, and pointers between a repository and its worktrees.
//!
//! Removes a lock only when it is known whose it was and that its owner is dead; nothing here touches what a
//! checkout holds.

use super::repository::RefFormat;
use super::worktree::{OURS, create_private, remove_file};
use super::{Error, Expected, RefEdit, Repository, Worktree};
use crate::model::{Agent, ObjectId};
use crate::process::{FileLock, Identity, end_orphans, is_at_work};
use bstr::ByteSlice;
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How long a lock file stays as it is before it can be a dead process's. git holds one for milliseconds.
const STALE_AFTER: Duration = Duration::from_secs(2);
const POLL: Duration = Duration::from_millis(50);
/// What any git may lock in the directory that all worktrees share.
const SHARED_LOCKS: [&str; 4] =
    ["packed-refs.lock", "packed-refs.new", "reftable/tables.list.lock", "HEAD.lock"];
/// The variable by which a git process that moves refs for us is recognised when it outlived us.
const MARK: &str = "GIT_ORCHESTRA_MOVES";

/// Who is moving which refs: written before git is asked to, gone when git is done. A lock that is left beside one
/// whose writer is dead is ours to remove.
#[derive(Debug, Serialize, Deserialize)]
struct Moving {
    owner: Identity,
    edits: Vec<RefEdit>,
    /// Locks that our git held and left when it had ended, because the system did not let it remove them: whoever comes
    /// next does. Nothing else is said then.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    left: Vec<LeftLock>,
}

/// A lock file that a git of ours held: that very file, and none that takes its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct LeftLock {
    /// Below the directory that all worktrees share.
    name: String,
    since: u64,
    inode: (u64, u64),
}

/// A [`Moving`] on disk; the file goes when this is dropped, however git ended.
#[derive(Debug)]
pub(super) struct MovingFile(PathBuf);

/// What a git that moves refs for us is recognised by: the name of its [`Moving`].
#[derive(Debug)]
pub(super) struct MovingMark(String);

impl MovingMark {
    /// A mark for a git that is about to be started.
    pub(super) fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        Self(format!("{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed)))
    }

    /// `KEY` and value for git's environment.
    pub(super) fn variable(&self, repo: &Repository) -> (&'static str, String) {
        (MARK, format!("{}@{}", self.0, repo.common_dir().display()))
    }
}

impl Drop for MovingFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// What was done about a pointer between a repository and one of its worktrees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relinked {
    /// The worktree named a repository that is not there any more; it names this one again.
    Repository,
    /// The worktree is elsewhere now; the repository knows that.
    Worktree(PathBuf),
}

/// A lock file of which it is known that a git of ours holds it.
#[derive(Debug)]
pub(super) struct HeldLock(LeftLock);

/// A lock file of git's, and since when it is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockFile {
    /// The file.
    pub path: PathBuf,
    /// When it was last written, in milliseconds since the epoch.
    pub since: u64,
    inode: (u64, u64),
}

impl LockFile {
    pub(super) fn at(path: PathBuf) -> Option<Self> {
        let meta = path.symlink_metadata().ok()?;
        let millis = meta.mtime().saturating_mul(1000).saturating_add(meta.mtime_nsec() / 1_000_000);
        Some(Self { since: u64::try_from(millis).unwrap_or(0), inode: (meta.dev(), meta.ino()), path })
    }
}

impl Repository {
    /// Writes down that this process is about to move refs.
    pub(super) fn note_moving(&self, mark: &MovingMark, edits: &[RefEdit]) -> Option<MovingFile> {
        // A repository without an orchestra of its own gets no directory from us; what cannot be written down is
        // moved all the same: the note only helps whoever comes after a kill.
        if !self.local_dir().is_dir() {
            return None;
        }
        let dir = self.moving_dir();
        create_private(&dir).ok()?;
        let path = dir.join(format!("{}.json", mark.0));
        let moving = Moving { owner: Identity::own(), edits: edits.to_vec(), left: Vec::new() };
        let bytes = serde_json::to_vec(&moving).ok()?;
        std::fs::write(&path, bytes).ok()?;
        // git moves one ref after the other: whoever comes after a power cut in between has to know the others.
        if edits.len() > 1 {
            std::fs::File::open(&path).and_then(|file| file.sync_all()).ok()?;
        }
        Some(MovingFile(path))
    }

    /// Removes the locks that processes of ours left behind when they were killed while they moved refs, and moves the
    /// refs that were to move with others that have moved. Returns the locks. One directory listing when there is
    /// nothing to do.
    pub fn mend_locks(&self) -> Result<Vec<PathBuf>, Error> {
        let mut removed = Vec::new();
        for entry in std::fs::read_dir(self.moving_dir()).into_iter().flatten().flatten() {
            let file = entry.path();
            let Ok(bytes) = std::fs::read(&file) else { continue };
            // A note that was not written whole is older than any lock of its writer's.
            let Ok(moving) = serde_json::from_slice::<Moving>(&bytes) else {
                if LockFile::at(file.clone()).is_some_and(|note| is_unchanged(&note)) {
                    remove_file(&file)?;
                }
                continue;
            };
            if !moving.left.is_empty() {
                // Whoever held them had ended when this was written.
                for left in &moving.left {
                    removed.extend(self.remove_left(left)?);
                }
                remove_file(&file)?;
                continue;
            }
            if moving.owner.is_alive() {
                continue;
            }
            let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            end_orphans(None, &format!("{MARK}={name}@{}", self.common_dir().display()), STALE_AFTER);
            let since = LockFile::at(file.clone()).map_or(0, |note| note.since);
            removed.extend(self.remove_locks_of(&moving.edits, since)?);
            // One that is locked by somebody else now is for the next who looks.
            if self.finish_moves(&moving.edits).is_err() {
                continue;
            }
            remove_file(&file)?;
        }
        Ok(removed)
    }

    /// Removes the locks that a git which moved refs and is dead left. `since` is when it was about to begin.
    fn remove_locks_of(&self, edits: &[RefEdit], since: u64) -> Result<Vec<PathBuf>, Error> {
        let mut removed = Vec::new();
        for edit in edits {
            removed.extend(remove_stale(self.common_dir().join(format!("{}.lock", edit.name)))?);
        }
        removed.extend(self.remove_shared_locks(since)?);
        Ok(removed)
    }

    /// Removes the locks that anybody's git takes, if they are younger than `since`, when a git of ours or an agent's
    /// that is dead was about to begin, and nobody's git is at work that was there before the lock. `git reset` and
    /// `git commit` take one, too: they delete `AUTO_MERGE` and the like.
    pub(super) fn remove_shared_locks(&self, since: u64) -> Result<Vec<PathBuf>, Error> {
        let mut removed = Vec::new();
        for place in SHARED_LOCKS {
            let lock = self.common_dir().join(place);
            let ours = LockFile::at(lock.clone()).filter(|lock| lock.since >= since);
            if ours.is_some_and(|ours| !self.was_busy(Some(ours.since))) {
                removed.extend(remove_stale(lock)?);
            }
        }
        Ok(removed)
    }

    /// The locks that a git of ours holds which has prepared to move refs and was not told yet to do it: nobody else can
    /// hold them now.
    pub(super) fn held_by(&self, edits: &[RefEdit]) -> Vec<HeldLock> {
        // The lock of reftables becomes the list of them, and is not removed.
        if self.refs != RefFormat::Files {
            return Vec::new();
        }
        let mut names: Vec<String> = edits.iter().map(|edit| format!("{}.lock", edit.name)).collect();
        // git takes this one for each ref that goes, and for no other.
        if edits.iter().any(|edit| edit.new.is_none()) {
            names.extend(["packed-refs.lock", "packed-refs.new"].map(str::to_owned));
        }
        let there = |name: String| Some((LockFile::at(self.common_dir().join(&name))?, name));
        let held = names.into_iter().filter_map(there);
        held.map(|(lock, name)| HeldLock(LeftLock { name, since: lock.since, inode: lock.inode })).collect()
    }

    /// Removes those of `held` that are still there now that the git which held them has ended: the system may have refused
    /// that to it, of which git says nothing. What cannot be removed now either is kept for whoever comes next.
    pub(super) fn let_go_of(&self, held: Vec<HeldLock>, mark: &MovingMark) {
        let mut left = Vec::new();
        for HeldLock(lock) in held {
            match self.remove_left(&lock) {
                Ok(Some(path)) => tracing::warn!("removed {}, which git had left behind", path.display()),
                Ok(None) => {}
                Err(_) => left.push(lock),
            }
        }
        if left.is_empty() || create_private(&self.moving_dir()).is_err() {
            return;
        }
        let path = self.moving_dir().join(format!("{}-left.json", mark.0));
        let moving = Moving { owner: Identity::own(), edits: Vec::new(), left };
        let written = serde_json::to_vec(&moving).map_err(std::io::Error::from);
        if let Err(error) = written.and_then(|bytes| std::fs::write(&path, bytes)) {
            tracing::warn!("cannot keep which locks git left: {error}");
        }
    }

    /// Removes a lock that a git of ours left, if it is still that one.
    fn remove_left(&self, left: &LeftLock) -> Result<Option<PathBuf>, Error> {
        let path = self.common_dir().join(&left.name);
        let same = |lock: LockFile| (lock.since, lock.inode) == (left.since, left.inode);
        if !LockFile::at(path.clone()).is_some_and(same) {
            return Ok(None);
        }
        remove_file(&path)?;
        Ok(Some(path))
    }

    /// The locks that gits of ours left when they had ended, which nobody has removed yet.
    pub fn left_locks(&self) -> Vec<PathBuf> {
        let notes = std::fs::read_dir(self.moving_dir()).into_iter().flatten().flatten();
        let moving =
            notes.filter_map(|note| serde_json::from_slice::<Moving>(&std::fs::read(note.path()).ok()?).ok());
        let left = moving.flat_map(|moving| moving.left).filter_map(|left| {
            let lock = LockFile::at(self.common_dir().join(&left.name))?;
            ((lock.since, lock.inode) == (left.since, left.inode)).then_some(lock.path)
        });
        left.collect()
    }

    /// What a git that was killed while it moved refs left, for us who live.
    pub(super) fn mend_after(&self, edits: &[RefEdit], note: MovingFile) {
        let since = LockFile::at(note.0.clone()).map_or(0, |note| note.since);
        if self.remove_locks_of(edits, since).is_err() {
            // Then the next command does it: the note stays.
            std::mem::forget(note);
        }
    }

    /// Moves what is left of several refs that were to move together, if the first have moved: git moves one after
    /// the other. Returns whether they have. Those that somebody moved on since stay where they are.
    pub(super) fn finish_moves(&self, edits: &[RefEdit]) -> Result<bool, Error> {
        let (mut begun, mut rest) = (false, Vec::new());
        for edit in edits {
            let now = self.find_ref(&edit.name)?;
            let was = match &edit.expected {
                Expected::Absent => Some(None),
                Expected::At(id) => Some(Some(id)),
                Expected::Anything => None,
            };
            if now == edit.new {
                begun |= was.is_some_and(|was| was != edit.new.as_ref());
            } else if was.is_none_or(|was| was == now.as_ref()) {
                rest.push(edit.clone());
            }
        }
        if begun && !rest.is_empty() {
            self.update_refs(&rest, "git orchestra: finish what was cut short")?;
        }
        Ok(begun)
    }

    /// Whether some git works in this repository right now.
    pub fn is_busy(&self) -> bool {
        self.was_busy(None)
    }

    /// Whether some git works here that did so at that time already: who came later holds no lock of then.
    fn was_busy(&self, since: Option<u64>) -> bool {
        let worktrees = self.own_worktrees().unwrap_or_default();
        let mut dirs = vec![self.common_dir(), self.main_dir()];
        dirs.extend(self.work_dir());
        dirs.extend(worktrees.iter().map(|worktree| worktree.path.as_path()));
        is_at_work("git", &dirs, since)
    }

    fn moving_dir(&self) -> PathBuf {
        self.local_dir().join("moving")
    }

    /// Removes the locks on refs below `prefix` (`refs/orchestra`) that stay as they are for two seconds. Call it
    /// only while nobody who moves such refs can be at it.
    pub fn break_locks_below(&self, prefix: &str) -> Result<Vec<PathBuf>, Error> {
        remove_all_stale(locks_below(&self.common_dir().join(prefix)))
    }

    /// Every lock file of git's in this repository, whoever holds it.
    pub fn lock_files(&self) -> Vec<LockFile> {
        let common = self.common_dir();
        let mut places: Vec<PathBuf> = [
            "HEAD.lock",
            "index.lock",
            "config.lock",
            "packed-refs.lock",
            "shallow.lock",
            "gc.pid.lock",
            "objects/maintenance.lock",
            "objects/info/commit-graph.lock",
            "objects/info/commit-graphs/commit-graph-chain.lock",
            "reftable/tables.list.lock",
        ]
        .map(|place| common.join(place))
        .into();
        places.extend(locks_below(&common.join("refs")));
        for worktree in std::fs::read_dir(common.join("worktrees")).into_iter().flatten().flatten() {
            places.extend(["HEAD.lock", "index.lock"].map(|place| worktree.path().join(place)));
        }
        places.into_iter().filter_map(LockFile::at).collect()
    }

    /// The linked worktrees that we made, by name. Runs no process.
    pub fn own_worktrees(&self) -> Result<Vec<Worktree>, Error> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(self.common_dir().join("worktrees")).into_iter().flatten().flatten() {
            if entry.path().join(OURS).exists()
                && let Some(worktree) = self.find_worktree(&entry.file_name().to_string_lossy())?
            {
                found.push(worktree);
            }
        }
        found.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(found)
    }

    /// Removes the locks that a dead process left in the private git directory of a worktree and on its branch, unless
    /// some git works there. Takes no time if there is none. Call it only while no agent runs there.
    pub fn break_worktree_locks(&self, worktree: &Worktree) -> Result<Vec<PathBuf>, Error> {
        let locks = worktree_locks(worktree);
        if locks.iter().all(|lock| lock.symlink_metadata().is_err())
            || is_at_work("git", &[&worktree.path, &worktree.git_dir], None)
        {
            return Ok(Vec::new());
        }
        remove_all_stale(locks)
    }

    /// Removes the locks that the gits of an agent left which were killed with it: in its worktree, and since the run
    /// began (milliseconds since the epoch) in what all worktrees share. Takes no time if there is none.
    pub fn mend_after_agent(&self, worktree: &Worktree, since: u64) -> Result<Vec<PathBuf>, Error> {
        let mut removed = self.break_worktree_locks(worktree)?;
        removed.extend(self.remove_shared_locks(since)?);
        Ok(removed)
    }

    /// Links a worktree of ours and the repository again after one of them was moved: the worktree stays where it
    /// is, or is found below `root`. `None` if there is nothing to do, or nothing that could only be this worktree.
    ///
    /// A pointer is changed only where it leads nowhere: what names something that is there is left alone.
    pub fn relink_worktree(&self, worktree: &Worktree, root: &Path) -> Result<Option<Relinked>, Error> {
        let _lock = self.worktree_lock()?;
        if worktree.is_intact() {
            return Ok(None);
        }
        if worktree.path.symlink_metadata().is_ok() {
            if !is_orphan_of(&worktree.path, worktree) {
                return Ok(None);
            }
            write_pointer(&worktree.path.join(".git"), b"gitdir: ", &worktree.git_dir)?;
            return Ok(Some(Relinked::Repository));
        }
        let Ok(root) = root.canonicalize() else { return Ok(None) };
        let path = root.join(&worktree.name);
        let moved = Worktree { path: path.clone(), ..worktree.clone() };
        if !moved.is_intact() && !is_orphan_of(&path, worktree) {
            return Ok(None);
        }
        write_pointer(&worktree.git_dir.join("gitdir"), b"", &path.join(".git"))?;
        write_pointer(&path.join(".git"), b"gitdir: ", &worktree.git_dir)?;
        Ok(Some(Relinked::Worktree(path)))
    }

    /// The commits that a worktree's `HEAD` was at, by its own log, newest first; for one whose branch was deleted.
    /// In a reftable git reads that log only while the branch is there.
    pub fn head_log(&self, worktree: &Worktree) -> Vec<ObjectId> {
        if self.refs == RefFormat::Other {
            let args = ["log", "--walk-reflogs", "--max-count=20", "--format=%H", "HEAD"];
            let out = self.git_at(&worktree.git_dir, None, args).read().unwrap_or_default();
            return out.lines().filter_map(|line| line.to_str().ok()?.parse().ok()).collect();
        }
        let log = std::fs::read(worktree.git_dir.join("logs/HEAD")).unwrap_or_default();
        let new = |line: &[u8]| line.split(|&b| b == b' ').nth(1)?.to_str().ok()?.parse().ok();
        let mut ids: Vec<ObjectId> = log.lines().filter_map(new).collect();
        ids.reverse();
        ids
    }
}

/// Whether a directory's `.git` file names the registration of `worktree` in a repository that is not there.
fn is_orphan_of(dir: &Path, worktree: &Worktree) -> bool {
    let file = dir.join(".git");
    let is_file = |path: &Path| path.symlink_metadata().is_ok_and(|meta| meta.is_file());
    let is_dir = dir.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let Ok(content) = std::fs::read(&file) else { return false };
    let Some(named) = content.strip_prefix(b"gitdir: ") else { return false };
    let named = dir.join(OsStr::from_bytes(named.trim_end()));
    is_dir
        && is_file(&file)
        && named.ends_with(Path::new("worktrees").join(&worktree.name))
        && named.symlink_metadata().is_err()
}

/// Writes a file of one path, whole or not at all.
fn write_pointer(file: &Path, prefix: &[u8], target: &Path) -> Result<(), Error> {
    let dir = file.parent().unwrap_or(Path::new("/"));
    let failed = |e: std::io::Error| Error::file("write", file, e);
    let mut temporary = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    temporary.write_all(&[prefix, target.as_os_str().as_bytes(), b"\n"].concat()).map_err(failed)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    temporary.as_file().set_permissions(mode).map_err(failed)?;
    temporary.as_file().sync_all().map_err(failed)?;
    temporary.persist(file).map_err(|e| failed(e.error))?;
    Ok(())
}

/// Every `.lock` below a directory of refs.
pub(super) fn locks_below(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut queue = vec![dir.to_owned()];
    while let Some(dir) = queue.pop() {
        for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                queue.push(path);
            } else if path.extension() == Some(OsStr::new("lock")) {
                found.push(path);
            }
        }
    }
    found
}

/// The locks in the private git directory of a worktree, and the one on its branch, if that is an agent's.
pub(super) fn worktree_locks(worktree: &Worktree) -> Vec<PathBuf> {
    let names = ["index.lock", "HEAD.lock", "ORIG_HEAD.lock", "AUTO_MERGE.lock"];
    let mut locks: Vec<PathBuf> = names.map(|name| worktree.git_dir.join(name)).into();
    let head = std::fs::read_to_string(worktree.git_dir.join("HEAD")).unwrap_or_default();
    if let Some(branch) = head.trim_end().strip_prefix("ref: ")
        && branch.starts_with(Agent::BRANCHES)
        && let Some(common_dir) = worktree.git_dir.ancestors().nth(2)
    {
        locks.push(common_dir.join(format!("{branch}.lock")));
    }
    locks
}

/// Removes a file that stays the same for as long as no living git leaves a lock alone.
pub(super) fn remove_stale(path: PathBuf) -> Result<Option<PathBuf>, Error> {
    Ok(remove_all_stale(vec![path])?.pop())
}

/// The same for several files, watched at once. Returns those that it removed.
pub(super) fn remove_all_stale(paths: Vec<PathBuf>) -> Result<Vec<PathBuf>, Error> {
    let mut locks: Vec<LockFile> = paths.into_iter().filter_map(LockFile::at).collect();
    let start = Instant::now();
    loop {
        locks.retain(|lock| LockFile::at(lock.path.clone()).as_ref() == Some(lock));
        if locks.is_empty() || start.elapsed() >= STALE_AFTER {
            break;
        }
        std::thread::sleep(POLL);
    }
    for lock in &locks {
        remove_file(&lock.path)?;
    }
    Ok(locks.into_iter().map(|lock| lock.path).collect())
}

/// Whether a file stays as it is for as long as no living process of ours leaves one unfinished.
pub(super) fn is_left(path: &Path) -> bool {
    LockFile::at(path.to_owned()).is_some_and(|file| is_unchanged(&file))
}

/// Watches a file until it is gone or another one, or has been what it is for long enough.
fn is_unchanged(lock: &LockFile) -> bool {
    let start = Instant::now();
    while start.elapsed() < STALE_AFTER {
        if LockFile::at(lock.path.clone()).as_ref() != Some(lock) {
            return false;
        }
        std::thread::sleep(POLL);
    }
    LockFile::at(lock.path.clone()).as_ref() == Some(lock)
}

impl Repository {
    /// Worktree registrations with an empty `commondir`, which breaks fetch and gc; by name.
    pub fn empty_commondirs(&self) -> Vec<String> {
        let worktrees =
            std::fs::read_dir(self.common_dir().join("worktrees")).into_iter().flatten().flatten();
        let empty = |dir: &Path| dir.join("commondir").metadata().is_ok_and(|meta| meta.len() == 0);
        let empty = worktrees.filter(|entry| empty(&entry.path()));
        empty.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }

    /// How many worktrees are being made or removed by somebody alive, and how many by somebody dead.
    pub fn live_intents(&self) -> (usize, usize) {
        let files = std::fs::read_dir(self.local_dir().join("intents")).into_iter().flatten().flatten();
        let held: Vec<bool> = files.map(|file| FileLock::is_held(&file.path())).collect();
        let live = held.iter().filter(|held| **held).count();
        (live, held.len() - live)
    }
}

#[cfg(test)]
#[path = "mend_tests.rs"]
mod tests;

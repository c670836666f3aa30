//! Moving somebody's checkout: its files, its index and its branch, and taking a move back that was cut short.
//!
//! git writes the files one by one, then the index, then the branch. Killed in between, it leaves a checkout that looks
//! as if somebody had edited it. Whoever comes next puts back what git had written, and only that: a file that holds
//! anything else is its owner's.

use super::mend::{LockFile, is_left, remove_stale};
use super::worktree::{create_private, remove_file};
use super::{Checkout, Error, Repository};
use crate::model::ObjectId;
use crate::process::{Command, Identity, end_orphans};
use bstr::{BStr, BString, ByteSlice};
use serde::{Deserialize, Serialize};
use std::ffi::OsStr;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The variable by which a git that moves a checkout is recognised when it outlived us.
const MARK: &str = "GIT_ORCHESTRA_FORWARDS";
/// How long such a git may take to end.
const GRACE: Duration = Duration::from_secs(5);
/// The locks that it takes in the git directory of the checkout.
const LOCKS: [&str; 4] = ["index.lock", "HEAD.lock", "ORIG_HEAD.lock", "AUTO_MERGE.lock"];

/// A checkout that is being moved: written before git begins, gone when git is done.
#[derive(Debug, Serialize, Deserialize)]
struct Forward {
    owner: Identity,
    path: PathBuf,
    git_dir: PathBuf,
    branch: Option<String>,
    from: ObjectId,
    to: ObjectId,
}

impl Repository {
    /// Runs a git that moves `checkout` to `to`, after one that gets its index ready and may say anything. The inner
    /// error holds git's words when it refuses; nothing has moved then.
    pub(super) fn move_checkout(
        &self,
        checkout: &Checkout,
        git_dir: &Path,
        to: &ObjectId,
        before: Option<Command>,
        command: Command,
    ) -> Result<Result<(), String>, Error> {
        let note = match &checkout.commit {
            Some(from) => Some(self.note_forward(&Forward {
                owner: Identity::own(),
                path: checkout.path.clone(),
                git_dir: git_dir.to_owned(),
                branch: checkout.branch.clone(),
                from: from.clone(),
                to: to.clone(),
            })?),
            None => None,
        };
        let mark = note.as_deref().map(|note| self.forward_mark(note)).unwrap_or_default();
        let mut last = None;
        for command in before.into_iter().chain([command]) {
            let command = command.env(MARK, &mark);
            let output = command.output()?;
            if output.status.signal().is_some() {
                // Killed alone: what it had written goes back, now or with the next command.
                if let Some(note) = &note {
                    self.mend_forward(note, true)?;
                }
                return Err(command.failed(&output).into());
            }
            last = Some(output);
        }
        let output = last.expect("the last command always runs");
        if output.status.success() {
            note.map_or(Ok(()), |note| remove_file(&note))?;
            return Ok(Ok(()));
        }
        // Where the disk is full, git moves the files and cannot move the branch.
        if let Some(note) = &note {
            self.mend_forward(note, true)?;
        }
        let words = output.stderr.trim().to_str_lossy().into_owned();
        Ok(Err(with_cause(words, &git_dir.join("index"), &self.local_dir())))
    }

    /// Takes back what processes of ours that are dead had begun to move. Returns the checkouts. One directory listing
    /// when there is none.
    pub fn mend_checkouts(&self) -> Result<Vec<PathBuf>, Error> {
        let mut mended = Vec::new();
        for entry in std::fs::read_dir(self.forwards()).into_iter().flatten().flatten() {
            mended.extend(self.mend_forward(&entry.path(), false)?);
        }
        Ok(mended)
    }

    fn mend_forward(&self, note: &Path, ours: bool) -> Result<Option<PathBuf>, Error> {
        let Ok(bytes) = std::fs::read(note) else { return Ok(None) };
        let Ok(forward) = serde_json::from_slice::<Forward>(&bytes) else {
            // Never written whole: git had not begun.
            if is_left(note) {
                remove_file(note)?;
            }
            return Ok(None);
        };
        if !ours && forward.owner.is_alive() {
            return Ok(None);
        }
        end_orphans(None, &format!("{MARK}={}", self.forward_mark(note)), GRACE);
        if self.is_busy() {
            // Somebody's git is at work there: a lock may be theirs. The next command looks again.
            return Ok(None);
        }
        let since = LockFile::at(note.to_owned()).map_or(0, |note| note.since);
        let branch = forward.branch.iter().map(|branch| self.common_dir().join(format!("{branch}.lock")));
        for lock in LOCKS.map(|lock| forward.git_dir.join(lock)).into_iter().chain(branch) {
            if LockFile::at(lock.clone()).is_some_and(|lock| lock.since >= since) {
                remove_stale(lock)?;
            }
        }
        self.remove_shared_locks(since)?;
        let taken_back = self.take_back(&forward, since)?;
        remove_file(note)?;
        Ok(taken_back.then_some(forward.path))
    }

    /// Puts the files and the index back to where the branch is. Returns whether there was anything to put back. A new
    /// file that is older than `since`, when git was about to begin, is why git refused, and its owner's.
    fn take_back(&self, forward: &Forward, since: u64) -> Result<bool, Error> {
        let Forward { path, git_dir, from, to, .. } = forward;
        let git = |args: &[&str]| self.git_at(git_dir, Some(path), args);
        let head = git(&["rev-parse", "--verify", "--quiet", "HEAD"]).output()?.stdout;
        if !path.is_dir() || head.trim() != from.as_str().as_bytes() {
            return Ok(false);
        }
        let diff = ["diff-tree", "-r", "-z", "--no-renames", "--name-status", from.as_str(), to.as_str()];
        let out = git(&diff).read()?;
        let fields: Vec<&BStr> =
            out.split(|&b| b == 0).filter(|field| !field.is_empty()).map(BStr::new).collect();
        let (mut all, mut old, mut new) = (Vec::new(), Vec::<BString>::new(), Vec::<BString>::new());
        for pair in fields.chunks_exact(2) {
            let (status, name) = (pair[0], pair[1]);
            all.push(name.to_owned());
            let list = if status == "A" { &mut new } else { &mut old };
            list.push(name.to_owned());
            if status == "A"
                && LockFile::at(path.join(OsStr::from_bytes(name))).is_some_and(|f| f.since < since)
            {
                return Ok(false);
            }
            if !self.is_gits(forward, name)? {
                // Its owner's: it looks as if it was edited, and it was.
                return Ok(false);
            }
        }
        let clean = git(&["diff", "--quiet", "--no-ext-diff", "--ignore-submodules", "HEAD"]).output()?;
        let any_new = new.iter().any(|name| path.join(OsStr::from_bytes(name)).symlink_metadata().is_ok());
        if clean.status.success() && !any_new {
            return Ok(false);
        }
        let put = ["reset", "--quiet", from.as_str(), "--pathspec-from-file=-", "--pathspec-file-nul"];
        git(&put).env("GIT_LITERAL_PATHSPECS", "1").stdin(bstr::join("\0", &all)).read()?;
        if !old.is_empty() {
            let mut names = bstr::join("\0", &old);
            names.push(0);
            git(&["checkout-index", "--force", "--quiet", "-z", "--stdin"]).stdin(names).read()?;
        }
        for name in new {
            let file = path.join(OsStr::from_bytes(&name));
            remove_file(&file)?;
            // Directories that are empty now were made for it.
            for dir in file.ancestors().skip(1).take_while(|dir| *dir != path) {
                if std::fs::remove_dir(dir).is_err() {
                    break;
                }
            }
        }
        Ok(true)
    }

    /// Whether a path of the checkout holds what git may have left there: the old version, the new one, the beginning
    /// of the new one, or nothing.
    fn is_gits(&self, forward: &Forward, name: &BStr) -> Result<bool, Error> {
        let file = forward.path.join(OsStr::from_bytes(name));
        let Ok(meta) = file.symlink_metadata() else { return Ok(true) };
        if meta.is_dir() {
            return Ok(true);
        }
        let content = if meta.is_symlink() {
            std::fs::read_link(&file).map(|target| target.as_os_str().as_bytes().to_owned())
        } else {
            std::fs::read(&file)
        };
        let content = content.map_err(|e| Error::file("read", &file, e))?;
        for (commit, in_part) in [(&forward.from, false), (&forward.to, true)] {
            let tree = self.read_commit(commit)?.tree;
            let Some(entry) = self.find_in_tree(&tree, name)? else { continue };
            let blob = self.read_blob(&entry.id).unwrap_or_default();
            if blob == content || in_part && blob.starts_with(&content) {
                return Ok(true);
            }
            // As git would store it: line ends and filters.
            let path = format!("--path={}", name.to_str_lossy());
            let stored =
                self.git_at(&forward.git_dir, Some(&forward.path), ["hash-object", &path, "--stdin"]);
            if !meta.is_symlink()
                && stored.stdin(content.clone()).read()?.trim() == entry.id.as_str().as_bytes()
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn note_forward(&self, forward: &Forward) -> Result<PathBuf, Error> {
        let dir = self.forwards();
        create_private(&dir)?;
        let path = dir.join(format!("{}.json", std::process::id()));
        let bytes = serde_json::to_vec(forward).map_err(|e| Error::file("write", &path, e.into()))?;
        std::fs::write(&path, bytes)
            .and_then(|()| std::fs::File::open(&path)?.sync_all())
            .map_err(|e| Error::file("write", &path, e))?;
        Ok(path)
    }

    fn forward_mark(&self, note: &Path) -> String {
        format!("{}@{}", note.file_stem().unwrap_or_default().to_string_lossy(), self.common_dir().display())
    }

    fn forwards(&self) -> PathBuf {
        self.local_dir().join("forwards")
    }
}

/// git's words; where they say that an index could not be written, and neither which nor why, with both. Why is asked of the
/// system: as much is written into a file without a name in `dir`, beside it.
fn with_cause(words: String, index: &Path, dir: &Path) -> String {
    let Some(at) = words.to_ascii_lowercase().find(UNWRITTEN) else { return words };
    let (said, rest) = words.split_at(at + UNWRITTEN.len());
    let len = std::fs::metadata(index).map_or(0, |found| found.len()) + ROOM;
    let tried = tempfile::tempfile_in(dir).and_then(|mut file| {
        std::io::copy(&mut std::io::repeat(0).take(len), &mut file)?;
        file.sync_all()
    });
    let why = tried.err().map(|error| format!(": {error}")).unwrap_or_default();
    format!("{said} `{}`{why}{rest}", index.display())
}

/// What git says of an index that it could not write, whatever the reason.
const UNWRITTEN: &str = "write new index file";
/// By how much the new index may be the greater one.
const ROOM: u64 = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    #[test]
    fn an_index_that_could_not_be_written_is_named_with_the_reason() {
        let sandbox = Sandbox::new(&[]);
        let (index, away) = (sandbox.path().join(".git/index"), sandbox.path().join("away"));
        let told = with_cause("fatal: Unable to write new index file.".to_owned(), &index, &away);
        let named = format!("Unable to write new index file `{}`", index.display());
        assert!(told.contains(&named) && told.contains(": No such file or directory"), "{told}");
        let told = with_cause("fatal: unable to write new index file".to_owned(), &index, &sandbox.path());
        assert!(told.ends_with(&format!("`{}`", index.display())), "nothing is wrong by now: {told}");
        let other = "error: Entry 'a' not uptodate. Cannot merge.";
        assert_eq!(with_cause(other.to_owned(), &index, &away), other);
    }

    #[test]
    fn a_half_moved_checkout_goes_back_unless_somebody_edited_it() {
        let sandbox = Sandbox::new(&[]);
        let write = |name: &str, text: &str| {
            let path = sandbox.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("a", "old a\n");
        write("b", "old b\n");
        sandbox.git(&["add", "-A"]);
        sandbox.git(&["commit", "-q", "-m", "old"]);
        write("a", "new a\n");
        write("b", "new b\n");
        write("dir/c", "new c\n");
        sandbox.git(&["add", "-A"]);
        sandbox.git(&["commit", "-q", "-m", "new"]);
        let repository = sandbox.open();
        let (from, to) =
            (repository.resolve_commit("HEAD~").unwrap(), repository.resolve_commit("HEAD").unwrap());
        sandbox.git(&["reset", "-q", "--hard", "HEAD~"]);
        let note = || {
            let owner = Identity { pid: 1, started: 1, boot: "another".to_owned() };
            let (path, git_dir) = (sandbox.path().clone(), repository.common_dir().to_owned());
            let branch = repository.head().unwrap().branch;
            repository
                .note_forward(&Forward { owner, path, git_dir, branch, from: from.clone(), to: to.clone() })
                .unwrap()
        };

        // One file is new, one is half written, one was made, and the index is locked.
        let file = note();
        write("a", "new a\n");
        write("b", "new");
        write("dir/c", "new c\n");
        std::fs::write(repository.common_dir().join("index.lock"), "").unwrap();
        assert_eq!(repository.mend_checkouts().unwrap(), [sandbox.path()]);
        assert!(!file.exists() && !sandbox.path().join("dir").exists());
        assert_eq!(sandbox.git(&["status", "--porcelain"]), "");

        // Somebody has edited one since.
        write("a", "new a\n");
        write("b", "mine\n");
        note();
        assert!(repository.mend_checkouts().unwrap().is_empty());
        assert_eq!(std::fs::read_to_string(sandbox.path().join("b")).unwrap(), "mine\n");
        sandbox.git(&["reset", "-q", "--hard"]);

        // A new file was there before: git never began, and the file is its owner's.
        write("dir/c", "new c\n");
        let times = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        let c = std::fs::File::options().write(true).open(sandbox.path().join("dir/c")).unwrap();
        c.set_times(times).unwrap();
        note();
        assert!(repository.mend_checkouts().unwrap().is_empty());
        assert_eq!(std::fs::read_to_string(sandbox.path().join("dir/c")).unwrap(), "new c\n");
        std::fs::remove_file(sandbox.path().join("dir/c")).unwrap();

        // Files and index are new, the branch is not.
        note();
        sandbox.git(&["reset", "-q", "--hard", to.as_str()]);
        sandbox.git(&["update-ref", "HEAD", from.as_str()]);
        assert_eq!(repository.mend_checkouts().unwrap(), [sandbox.path()]);
        assert_eq!(sandbox.git(&["status", "--porcelain"]), "");
    }

    #[test]
    fn a_file_that_was_only_touched_does_not_keep_a_checkout_from_moving() {
        let sandbox = Sandbox::new(&[]);
        let file = sandbox.path().join("a");
        for text in ["old\n", "new\n"] {
            std::fs::write(&file, text).unwrap();
            sandbox.git(&["add", "-A"]);
            sandbox.git(&["commit", "-q", "-m", text.trim()]);
        }
        // What `touch` does, or a copy of the repository.
        let times = std::fs::FileTimes::new().set_modified(std::time::UNIX_EPOCH);
        std::fs::File::options().write(true).open(&file).unwrap().set_times(times).unwrap();
        let repository = sandbox.open();
        let to = repository.resolve_commit("HEAD~").unwrap();
        let checkout = repository.checkouts().unwrap().remove(0);
        repository.reset_keep(&checkout, &to).unwrap().unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "old\n");
        // One that was edited still does.
        std::fs::write(&file, "mine\n").unwrap();
        let checkout = repository.checkouts().unwrap().remove(0);
        let back = repository.resolve_commit("HEAD@{1}").unwrap();
        assert!(repository.reset_keep(&checkout, &back).unwrap().is_err());
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine\n");
    }
}

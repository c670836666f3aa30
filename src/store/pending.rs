//! The queue of changes that are made and not yet on disk, so that one sync and one move of the ref serve all that
//! came meanwhile.
//!
//! One file, a line a change, each on top of the one before. It is written under the lock for writing, and every
//! process whose change is in it holds it shared until that change is on disk: a queue that nobody holds is what a kill
//! or a power cut left, and is thrown away. Nothing here moves a ref.

use super::{Error, local};
use crate::git::Repository;
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

/// How many changes one queue takes before a new one is begun, so that reading it stays cheap.
const MOST: usize = 64;
/// What a line says instead of a change when the queue is not to be published any more.
const VOID: &str = "void";
/// What a line begins with that says up to which change all is on disk, the name of the ref too.
const ON_DISK: &str = "synced ";

/// A change in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// The state's commit that it was made on.
    pub(super) parent: ObjectId,
    /// The state's commit that it made.
    pub(super) commit: ObjectId,
    /// What it wrote, the commit included.
    pub(super) written: Vec<ObjectId>,
}

/// The queue, held by this process.
#[derive(Debug)]
pub(super) struct Queue {
    file: File,
    path: PathBuf,
}

/// What the queue's lines say.
#[derive(Debug, Default)]
struct Lines {
    changes: Vec<Change>,
    /// It was given up.
    void: bool,
    /// How many of them are on disk, as somebody said.
    on_disk: usize,
}

impl Lines {
    fn find(&self, commit: &ObjectId) -> Option<usize> {
        self.changes.iter().position(|change| change.commit == *commit)
    }
}

/// Where a queue's changes stand beside the state's ref.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// They are all in the state.
    Published {
        /// Whether it is known that the move of the ref is on disk.
        on_disk: bool,
    },
    /// These are not.
    Waiting(Vec<Change>),
    /// They never will be: the state went another way, or the queue was given up.
    Lost,
}

impl Queue {
    /// Joins the queue: the one that there is, or a new one. Returns what waits in it. Call under the lock for
    /// writing, with where the state's ref is.
    pub(super) fn join(repo: &Repository, tip: &ObjectId) -> Result<(Self, Vec<Change>), Error> {
        let path = local::directory(repo)?.join("pending");
        let failed = |e| Error::local("open", &path, e);
        match File::options().read(true).append(true).open(&path) {
            Ok(file) => match file.try_lock() {
                // Nobody who is alive has a change in it.
                Ok(()) => {
                    file.set_len(0).and_then(|()| file.lock_shared()).map_err(failed)?;
                    return Ok((Self { file, path }, Vec::new()));
                }
                Err(TryLockError::WouldBlock) => {
                    let queue = Self { file, path: path.clone() };
                    queue.file.lock_shared().map_err(failed)?;
                    match queue.standing(Some(tip), None)? {
                        Standing::Waiting(changes) => {
                            queue.cut_torn_tail()?;
                            return Ok((queue, changes));
                        }
                        Standing::Published { .. } if queue.lines()?.changes.len() < MOST => {
                            queue.cut_torn_tail()?;
                            return Ok((queue, Vec::new()));
                        }
                        Standing::Published { .. } | Standing::Lost => {}
                    }
                }
                Err(TryLockError::Error(e)) => return Err(failed(e)),
            },
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(failed(e)),
        }
        // Those who are in the old one still read it; its name goes to a new one.
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::local("remove", &path, e));
            }
            _ => {}
        }
        let file = File::options().read(true).append(true).create_new(true).open(&path).map_err(failed)?;
        file.lock_shared().map_err(failed)?;
        Ok((Self { file, path }, Vec::new()))
    }

    /// Whether it takes no more changes before those that wait are published.
    pub(super) fn is_full(&self) -> Result<bool, Error> {
        Ok(self.lines()?.changes.len() >= MOST)
    }

    /// Adds a change after the last one. Call under the lock for writing.
    pub(super) fn append(&self, change: &Change) -> Result<(), Error> {
        let mut words = vec![change.parent.as_str(), change.commit.as_str()];
        words.extend(change.written.iter().map(ObjectId::as_str));
        self.write(&words.join(" "))
    }

    /// Says that what is not published is not to be published any more.
    pub(super) fn give_up(&self) -> Result<(), Error> {
        self.write(VOID)
    }

    /// Says that all up to the change that made `commit` is in the state and on disk.
    pub(super) fn say_on_disk(&self, commit: &ObjectId) -> Result<(), Error> {
        self.write(&format!("{ON_DISK}{commit}"))
    }

    /// Whether the change that made `commit` is in the state and on disk, as far as somebody said so.
    pub(super) fn is_on_disk(&self, commit: &ObjectId) -> Result<bool, Error> {
        let lines = self.lines()?;
        Ok(lines.find(commit).is_some_and(|at| at < lines.on_disk))
    }

    fn write(&self, text: &str) -> Result<(), Error> {
        let line = format!("{:08x} {text}\n", crc32fast::hash(text.as_bytes()));
        (&self.file).write_all(line.as_bytes()).map_err(|e| Error::local("append to", &self.path, e))
    }

    /// Where the queue's changes stand when the state's ref is at `tip`, up to `mine` if it is given.
    pub(super) fn standing(
        &self,
        tip: Option<&ObjectId>,
        mine: Option<&ObjectId>,
    ) -> Result<Standing, Error> {
        let lines = self.lines()?;
        let Some(first) = lines.changes.first() else { return Ok(Standing::Published { on_disk: true }) };
        let done = if tip == Some(&first.parent) {
            0
        } else {
            match tip.and_then(|tip| lines.find(tip)) {
                Some(at) => at + 1,
                None => return Ok(Standing::Lost),
            }
        };
        let mine = match mine {
            Some(mine) => lines.find(mine).map_or(0, |at| at + 1),
            None => lines.changes.len(),
        };
        Ok(match &lines.changes[done..] {
            _ if mine <= done => Standing::Published { on_disk: mine <= lines.on_disk },
            _ if lines.void => Standing::Lost,
            waiting => Standing::Waiting(waiting.to_vec()),
        })
    }

    fn lines(&self) -> Result<Lines, Error> {
        let bytes = self.bytes()?;
        let mut lines = Lines::default();
        for text in whole_lines(&bytes) {
            if let Some(commit) = text.strip_prefix(ON_DISK) {
                let at = commit.parse().ok().and_then(|commit| lines.find(&commit));
                lines.on_disk = lines.on_disk.max(at.map_or(0, |at| at + 1));
                continue;
            }
            let mut words = text.split(' ').map(str::parse);
            match (words.next(), words.next()) {
                (Some(Ok(parent)), Some(Ok(commit))) => {
                    let written = words.flatten().collect();
                    lines.changes.push(Change { parent, commit, written });
                }
                _ => lines.void = true,
            }
        }
        // Each is made on the one before; anything else is not ours to publish.
        lines.void |= lines.changes.windows(2).any(|pair| pair[1].parent != pair[0].commit);
        Ok(lines)
    }

    fn bytes(&self) -> Result<Vec<u8>, Error> {
        // It may grow meanwhile: what is not whole yet is not read.
        let mut bytes = vec![0; 1 << 14];
        let mut len = 0;
        loop {
            match self.file.read_at(&mut bytes[len..], len as u64) {
                Ok(0) => break,
                Ok(read) => len += read,
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(e) => return Err(Error::local("read", &self.path, e)),
            }
            if len == bytes.len() {
                bytes.resize(len * 2, 0);
            }
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    /// Takes away a line that its writer was killed in.
    fn cut_torn_tail(&self) -> Result<(), Error> {
        let bytes = self.bytes()?;
        let whole: usize = whole_lines(&bytes).map(|text| "12345678 ".len() + text.len() + 1).sum();
        if whole < bytes.len() {
            self.file.set_len(whole as u64).map_err(|e| Error::local("cut", &self.path, e))?;
        }
        Ok(())
    }
}

/// What the lines say, up to the first that is not whole.
fn whole_lines(bytes: &[u8]) -> impl Iterator<Item = &str> {
    bytes.lines_with_terminator().map_while(|line| {
        let (crc, text) = line.strip_suffix(b"\n")?.to_str().ok()?.split_once(' ')?;
        let crc = u32::from_str_radix(crc, 16).ok()?;
        (crc32fast::hash(text.as_bytes()) == crc).then_some(text)
    })
}

//! What gates said here, kept until their merge is over: whoever goes on after a kill does not run them again.
//!
//! A file in the git directory and not in the state: nobody elsewhere can say that a gate has passed here.

use super::super::Error;
use super::super::digest::Digest;
use super::{Gate, directory};
use crate::model::{GateRun, Id, ObjectId};
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// How much of what a gate prints is kept from its beginning.
const LIMIT: u64 = 8 << 20;
/// And how much from its end, if there is more.
const END: usize = 64 << 10;

/// What a gate said to a commit, with what only this machine knows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Judged {
    /// What is recorded of it.
    pub(super) run: GateRun,
    /// The last lines that it printed, if it failed: redacted, and safe to show.
    #[serde(default)]
    pub(super) tail: String,
    /// What was run, by its hash.
    pub(super) what: String,
}

/// All that gates said for one merge.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    /// The directory's name below that of the repository's local files.
    name: String,
    judged: Vec<Judged>,
}

impl Kept {
    /// What is kept for a merge.
    pub(super) fn open(store: &Store, merge: &Id) -> Result<Self, Error> {
        let dir = directory(store).join(merge.as_str());
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| crate::orchestrate::Error::file("create", &dir, e))?;
        // Whatever cannot be read was never written whole: the gates run again.
        let bytes = std::fs::read(dir.join("said.json")).unwrap_or_default();
        let judged = serde_json::from_slice(&bytes).unwrap_or_default();
        Ok(Self { dir, name: format!("gates/{merge}"), judged })
    }

    /// Hands what was said for one merge on to another one, which goes on with its commits.
    pub(super) fn hand_on(store: &Store, from: &Id, to: &Id) -> Result<(), Error> {
        let judged = Self::open(store, from)?.judged;
        Self { judged, ..Self::open(store, to)? }.write()
    }

    /// What `gate` said to `commit`, if it was what it is now.
    pub(super) fn find(&self, gate: &Gate, commit: &ObjectId) -> Option<&Judged> {
        let what = hash(gate);
        let same = |one: &&Judged| one.run.gate == gate.name && one.run.commit == *commit && one.what == what;
        self.judged.iter().rfind(same)
    }

    pub(super) fn put(&mut self, judged: Judged) -> Result<(), Error> {
        self.judged.push(judged);
        self.write()
    }

    /// Forgets that a gate failed anywhere.
    pub(super) fn forget_failures(&mut self, gate: &str) -> Result<(), Error> {
        self.judged.retain(|one| one.run.gate != gate || !one.run.is_failure());
        self.write()
    }

    fn write(&self) -> Result<(), Error> {
        let file = self.dir.join("said.json");
        let write = || {
            let mut new = tempfile::NamedTempFile::new_in(&self.dir)?;
            new.write_all(&serde_json::to_vec(&self.judged)?)?;
            new.persist(&file)?;
            Ok(())
        };
        write().map_err(|e| crate::orchestrate::Error::file("write", &file, e).into())
    }

    /// A new file for what `gate` prints on `commit`, with its name below that of the repository's local files.
    pub(super) fn output(&self, gate: &Gate, commit: &ObjectId) -> Result<(Output, String), Error> {
        let mut number = self.judged.len();
        let name = loop {
            number += 1;
            let name = format!("{number:03}-{}-{}.log", gate.name, commit.short());
            if !self.dir.join(&name).exists() {
                break name;
            }
        };
        let path = self.dir.join(&name);
        let file = File::create(&path).map_err(|e| crate::orchestrate::Error::file("create", &path, e))?;
        Ok((
            Output { file, path, room: LIMIT, left_out: 0, end: Vec::new() },
            format!("{}/{name}", self.name),
        ))
    }
}

/// What is run, by its hash: a gate that was changed since has said nothing yet.
pub(super) fn hash(gate: &Gate) -> String {
    let mut digest = Digest::default();
    digest.extend(gate.hook.words.iter().map(|word| word.as_bytes()));
    digest.extend(&gate.hook.pass_env);
    digest.add(gate.hook.deadline.as_millis().to_be_bytes());
    digest.finish()
}

/// What a gate prints, on its way to a file: the beginning and the end of it.
#[derive(Debug)]
pub(super) struct Output {
    file: File,
    path: PathBuf,
    room: u64,
    left_out: u64,
    end: Vec<u8>,
}

impl Output {
    pub(super) fn line(&mut self, line: &str) -> std::io::Result<()> {
        let bytes = [line.as_bytes(), b"\n"].concat();
        let length = bytes.len() as u64;
        if self.left_out == 0 && length <= self.room {
            self.room -= length;
            return self.file.write_all(&bytes);
        }
        self.left_out += length;
        self.end.extend_from_slice(&bytes);
        if self.end.len() > 2 * END {
            self.end.drain(..self.end.len() - END);
        }
        Ok(())
    }

    /// Writes the end. Returns where it is.
    pub(super) fn close(mut self) -> std::io::Result<PathBuf> {
        if self.left_out > 0 {
            let kept = self.end.len().min(END);
            let gone = self.left_out - kept as u64;
            writeln!(self.file, "… {gone} bytes are left out here …")?;
            self.file.write_all(&self.end[self.end.len() - kept..])?;
        }
        Ok(self.path)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

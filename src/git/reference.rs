//! Refs: read by gix where they are files, moved by `git update-ref`, but for the simplest move (`ref_lock`).

use super::mend::{MovingFile, MovingMark};
use super::object::from_gix;
use super::ref_files::is_ref_name;
use super::repository::RefFormat;
use super::sync::sync_all;
use super::{Error, Head, Repository};
use crate::model::ObjectId;
use crate::process::{Command, Conversation, Output};
use bstr::ByteSlice;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;

/// One move of a ref.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefEdit {
    /// The full name.
    pub name: String,
    /// Where it goes; `None` deletes it.
    pub new: Option<ObjectId>,
    /// Where it must be now.
    pub expected: Expected,
}

/// What a ref must be for a move to happen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Expected {
    /// It must not exist.
    Absent,
    /// It must point exactly there.
    At(ObjectId),
    /// Whatever it is. For refs that only we write, under our own lock.
    Anything,
}

impl From<Option<ObjectId>> for Expected {
    fn from(id: Option<ObjectId>) -> Self {
        id.map_or(Self::Absent, Self::At)
    }
}

impl Repository {
    /// Where a ref (full name) points, peeled to an object; `None` if there is no such ref.
    pub fn find_ref(&self, name: &str) -> Result<Option<ObjectId>, Error> {
        if self.refs == RefFormat::Files
            && let Ok(Some(mut reference)) = self.gix.try_find_reference(name)
            && let Ok(id) = reference.peel_to_id()
        {
            return Ok(Some(from_gix(&id)));
        }
        // gix reads `packed-refs` and then loose refs: a `git pack-refs` between the two hides a ref that was there all
        // the time. And what could not be read is no absence.
        if self.refs == RefFormat::Files && is_ref_name(name) {
            return Ok(self.read_refs(&[name])?.pop().flatten());
        }
        let command = self.git(["rev-parse", "--verify", "--quiet", "--end-of-options", name]);
        let output = command.output()?;
        match output.status.code() {
            Some(0) => Ok(output.stdout.trim().to_str_lossy().parse().ok()),
            Some(1) if self.refs == RefFormat::Files || self.is_absent(name)? => Ok(None),
            _ => Err(command.failed(&output).into()),
        }
    }

    /// Whether git knows for sure that there is no ref of this name, or that it leads to none.
    fn is_absent(&self, name: &str) -> Result<bool, Error> {
        const MISSING: i32 = 2;
        // Every git that knows reftables knows this; only with it an error is told from absence.
        let command = self.git(["show-ref", "--exists", name]);
        let output = command.output()?;
        match output.status.code() {
            Some(0) => Ok(self.git(["symbolic-ref", "--quiet", name]).output()?.status.success()),
            Some(MISSING) => Ok(true),
            _ => Err(command.failed(&output).into()),
        }
    }

    /// Where refs (full names) point, as [`Repository::find_ref`] tells it, in the order of `names`; all that seem
    /// to be absent are asked for at once.
    pub fn find_refs(&self, names: &[&str]) -> Result<Vec<Option<ObjectId>>, Error> {
        let near = |name: &str| {
            let mut reference = self.gix.try_find_reference(name).ok().flatten()?;
            reference.peel_to_id().ok().map(|id| from_gix(&id))
        };
        let mut found: Vec<Option<ObjectId>> = match self.refs {
            RefFormat::Files => names.iter().map(|name| near(name)).collect(),
            RefFormat::Other => vec![None; names.len()],
        };
        if found.iter().all(Option::is_some) {
            return Ok(found);
        }
        let absent = |found: &[Option<ObjectId>]| -> Vec<usize> {
            found.iter().enumerate().filter(|(_, id)| id.is_none()).map(|(at, _)| at).collect()
        };
        if self.refs == RefFormat::Files {
            let places = absent(&found);
            let names: Vec<&str> = places.iter().map(|at| names[*at]).collect();
            for (at, id) in places.into_iter().zip(self.read_refs(&names)?) {
                found[at] = id;
            }
            return Ok(found);
        }
        let format = ["for-each-ref", "--format=%(objectname) %(refname)", "--"];
        let out = self.git(format).args(names).read()?;
        for line in out.lines() {
            let line = line.to_str_lossy();
            let Some((id, name)) = line.split_once(' ') else { continue };
            // A pattern matches the directory of that name too.
            if let Some(at) = names.iter().position(|wanted| *wanted == name) {
                found[at] = id.parse().ok();
            }
        }
        for at in absent(&found) {
            found[at] = self.find_ref(names[at])?;
        }
        Ok(found)
    }

    /// All refs whose full names start with `prefix` (which ends with `/`), sorted by name.
    pub fn list_refs(&self, prefix: &str) -> Result<Vec<(String, ObjectId)>, Error> {
        if self.refs == RefFormat::Files {
            return self.read_refs_below(prefix);
        }
        let out = self.git(["for-each-ref", "--format=%(objectname) %(refname)", prefix]).read()?;
        out.lines()
            .map(|line| {
                let text = line.to_str_lossy();
                let parsed =
                    text.split_once(' ').and_then(|(id, name)| Some((name.to_owned(), id.parse().ok()?)));
                parsed.ok_or_else(|| Error::Output { command: "for-each-ref", detail: text.into_owned() })
            })
            .collect()
    }

    /// The names of the refs below `prefix` (which ends with `/`) that lie in the history of `commit`.
    pub fn list_refs_merged_into(&self, prefix: &str, commit: &ObjectId) -> Result<BTreeSet<String>, Error> {
        let merged = format!("--merged={commit}");
        let out = self.git(["for-each-ref", "--format=%(refname)", &merged, prefix]).read()?;
        Ok(out.lines().map(|name| name.to_str_lossy().into_owned()).collect())
    }

    /// What `HEAD` of this checkout says.
    pub fn head(&self) -> Result<Head, Error> {
        if self.refs == RefFormat::Files
            && let Ok(head) = self.gix.head()
        {
            let branch = head.referent_name().map(|name| name.as_bstr().to_string());
            let commit = match (head.id(), &branch) {
                (Some(id), _) => Some(from_gix(&id)),
                (None, Some(branch)) => self.find_ref(branch)?,
                (None, None) => self.find_ref("HEAD")?,
            };
            return Ok(Head { branch, commit });
        }
        if self.refs == RefFormat::Files {
            let branch = self.read_head()?;
            let commit = self.find_ref(branch.as_deref().unwrap_or("HEAD"))?;
            return Ok(Head { branch, commit });
        }
        let command = self.git(["symbolic-ref", "--quiet", "HEAD"]);
        let output = command.output()?;
        let branch = match output.status.code() {
            Some(0) => Some(output.stdout.trim().to_str_lossy().into_owned()),
            Some(1) => None,
            _ => return Err(command.failed(&output).into()),
        };
        Ok(Head { branch, commit: self.find_ref("HEAD")? })
    }

    /// Moves refs, all or none, each only from where it is expected to be. Synced to disk when it returns.
    ///
    /// # Errors
    /// [`Error::RefMoved`] if one was elsewhere, [`Error::RefLocked`] if one is locked; nothing moved then.
    pub fn update_refs(&self, edits: &[RefEdit], reason: &str) -> Result<(), Error> {
        let mut mover = self.begin_moving(reason)?;
        mover.prepare(edits);
        mover.finish()
    }

    /// Starts the git that will move refs. It needs a while to be there, in which there is other work to do.
    pub fn begin_moving(&self, reason: &str) -> Result<Mover<'_>, Error> {
        // The new value is on disk before its lock file takes the place of the ref: a power cut must not leave an
        // empty ref where an old one was.
        let args = ["-c", "core.fsync=reference", "update-ref", "-m", reason, "--no-deref", "--stdin", "-z"];
        let mark = MovingMark::new();
        let (key, value) = mark.variable(self);
        let command = self.git(args).env(key, value);
        let talk = command.converse()?;
        Ok(Mover { repo: self, command, talk, mark, note: None, edits: Vec::new() })
    }
}

/// A git that moves refs when it is told to, and otherwise moves none.
#[derive(Debug)]
pub struct Mover<'r> {
    repo: &'r Repository,
    command: Command,
    talk: Conversation,
    mark: MovingMark,
    /// Whoever comes after a kill in between knows by this whose locks are left. Dropped after git has ended.
    note: Option<MovingFile>,
    edits: Vec<RefEdit>,
}

impl Mover<'_> {
    /// Has the refs locked and compared with what they are expected to be. Does not wait for the answer. Once only.
    pub fn prepare(&mut self, edits: &[RefEdit]) {
        let mut input = b"start\0".to_vec();
        for RefEdit { name, new, expected } in edits {
            let null = "0".repeat(self.repo.id_len());
            let old = match expected {
                Expected::Absent => null.as_str(),
                Expected::At(id) => id.as_str(),
                Expected::Anything => "",
            };
            let new = new.as_ref().map_or("", ObjectId::as_str);
            let line = if new.is_empty() {
                // "delete with an old value of zero" is an error for git: the ref must be there to be deleted.
                format!("delete {name}\0{}\0", if *expected == Expected::Absent { "" } else { old })
            } else {
                format!("update {name}\0{new}\0{old}\0")
            };
            input.extend_from_slice(line.as_bytes());
        }
        input.extend_from_slice(b"prepare\0");
        self.note = self.repo.note_moving(&self.mark, edits);
        self.talk.say(&input);
        self.edits = edits.to_vec();
    }

    /// Moves them. Synced to disk when it returns.
    ///
    /// # Errors
    /// As [`Repository::update_refs`]; nothing moved then.
    pub fn finish(mut self) -> Result<(), Error> {
        let mut prepared = false;
        while let Some(line) = self.talk.hear()? {
            prepared = line == "prepare: ok";
            if prepared {
                break;
            }
        }
        let mut held = Vec::new();
        if prepared {
            held = self.repo.held_by(&self.edits);
            self.talk.say(b"commit\0");
        }
        let output = self.talk.end()?;
        self.repo.let_go_of(held, &self.mark);
        if prepared && output.status.success() {
            return self.repo.sync_moved(&self.edits);
        }
        // It may have been killed or have failed, with some of the refs moved.
        if output.status.signal().is_some()
            && let Some(note) = self.note.take()
        {
            self.repo.mend_after(&self.edits, note);
        }
        if prepared {
            match self.repo.finish_moves(&self.edits) {
                Ok(true) => return self.repo.sync_moved(&self.edits),
                Ok(false) => {}
                Err(error) => {
                    // Some have moved and others cannot now: whoever comes next reads the note.
                    std::mem::forget(self.note.take());
                    return Err(error);
                }
            }
        }
        Err(self.repo.refused(&self.edits, &self.command, &output))
    }
}

impl Repository {
    /// Why git did not move refs. Its words are for people; the facts are read again.
    fn refused(&self, edits: &[RefEdit], command: &Command, output: &Output) -> Error {
        let stderr = output.stderr.to_str_lossy();
        for RefEdit { name, expected, .. } in edits {
            let now = match self.find_ref(name) {
                Ok(now) => now,
                Err(error) => return error,
            };
            let moved = match expected {
                Expected::Absent => now.is_some(),
                Expected::At(id) => now.as_ref() != Some(id),
                Expected::Anything => false,
            };
            if moved {
                return Error::RefMoved { name: name.clone() };
            }
        }
        if stderr.contains(".lock': File exists") || stderr.contains("tables.list.lock") {
            let locked = edits.iter().find(|edit| stderr.contains(&format!("/{}.lock", edit.name)));
            let shared =
                if stderr.contains("tables.list.lock") { "reftable/tables.list" } else { "packed-refs" };
            return Error::RefLocked { name: locked.map_or(shared, |edit| &edit.name).to_owned() };
        }
        // A lock that was taken and released between git's attempt and our look.
        if stderr.contains("but expected") || stderr.contains("reference already exists") {
            return Error::RefMoved { name: edits.first().map(|edit| edit.name.clone()).unwrap_or_default() };
        }
        command.failed(output).into()
    }

    /// Waits until the names of refs are on disk for good, whoever moved them.
    pub fn sync_ref_names(&self, names: &[&str]) -> Result<(), Error> {
        self.sync_directories(names.iter().map(|name| (*name, false)))
    }

    fn sync_moved(&self, edits: &[RefEdit]) -> Result<(), Error> {
        self.sync_directories(edits.iter().map(|edit| (edit.name.as_str(), edit.new.is_none())))
    }

    /// git syncs what a ref says, but not the directory that it puts it into.
    fn sync_directories<'n>(&self, moved: impl Iterator<Item = (&'n str, bool)>) -> Result<(), Error> {
        let mut directories = BTreeSet::new();
        if self.refs == RefFormat::Files {
            for (name, deleted) in moved {
                let path = self.common_dir().join(name);
                directories.extend(
                    path.ancestors().skip(1).take_while(|dir| *dir != self.common_dir()).map(Path::to_owned),
                );
                if deleted {
                    // `packed-refs` was written anew.
                    directories.insert(self.common_dir().to_owned());
                }
            }
        } else {
            directories.insert(self.common_dir().join("reftable"));
        }
        sync_all(&directories.into_iter().collect::<Vec<_>>())
            .map_err(|(path, e)| Error::file("sync", path, e))
    }

    /// Waits until a commit and everything that it has and `known` commits have not are on disk for good, whoever's
    /// git wrote them: by itself git syncs no loose object.
    pub fn sync_history(&self, commit: &ObjectId, known: &[&ObjectId]) -> Result<(), Error> {
        self.sync_objects(&self.new_objects(commit, known)?)
    }

    /// The same for a branch, and for the branch itself.
    pub fn sync_branch(&self, name: &str, tip: &ObjectId, known: &[&ObjectId]) -> Result<(), Error> {
        self.sync_history(tip, known)?;
        let files = match self.refs {
            RefFormat::Files => vec![self.common_dir().join(name)],
            RefFormat::Other => {
                let tables = std::fs::read_dir(self.common_dir().join("reftable")).into_iter().flatten();
                tables.flatten().map(|table| table.path()).collect()
            }
        };
        sync_all(&files).map_err(|(path, e)| Error::file("sync", path, e))?;
        self.sync_ref_names(&[name])
    }

    /// The objects that `head` brings beside what `known` commits have.
    pub fn new_objects(&self, head: &ObjectId, known: &[&ObjectId]) -> Result<Vec<ObjectId>, Error> {
        let mut args = vec!["rev-list", "--objects", "--no-object-names", head.as_str(), "--not"];
        // One that is not here (a record from elsewhere names it) has nothing.
        args.extend(known.iter().filter(|id| self.has_object(id)).map(|id| id.as_str()));
        Ok(self.read(args)?.lines().filter_map(|line| line.parse().ok()).collect())
    }
}

//! Refs: read by gix where they are files, moved by `git update-ref` alone.

use super::object::from_gix;
use super::repository::RefFormat;
use super::{Error, Head, Repository};
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::collections::BTreeSet;

/// One move of a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefEdit {
    /// The full name.
    pub name: String,
    /// Where it goes; `None` deletes it.
    pub new: Option<ObjectId>,
    /// Where it must be now.
    pub expected: Expected,
}

/// What a ref must be for a move to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
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
        // Absence is asked of git too: gix reads loose refs and `packed-refs` one after the other, and a `git
        // pack-refs` between the two hides a ref that was there all the time.
        let output = self.git(["rev-parse", "--verify", "--quiet", "--end-of-options", name]).output()?;
        Ok(output.stdout.trim().to_str_lossy().parse().ok())
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
        let missing = names.iter().zip(&found).filter(|(_, id)| id.is_none()).map(|(name, _)| *name);
        let format = ["for-each-ref", "--format=%(objectname) %(refname)", "--"];
        let out = self.git(format).args(missing).read()?;
        for line in out.lines() {
            let line = line.to_str_lossy();
            let Some((id, name)) = line.split_once(' ') else { continue };
            // A pattern matches the directory of that name too.
            if let Some(at) = names.iter().position(|wanted| *wanted == name) {
                found[at] = id.parse().ok();
            }
        }
        Ok(found)
    }

    /// All refs whose full names start with `prefix` (which ends with `/`), sorted by name.
    pub fn list_refs(&self, prefix: &str) -> Result<Vec<(String, ObjectId)>, Error> {
        if self.refs == RefFormat::Files
            && let Ok(platform) = self.gix.references()
            && let Ok(refs) = platform.prefixed(prefix)
        {
            let mut found = Vec::new();
            for mut reference in refs.filter_map(Result::ok) {
                let name = reference.name().as_bstr().to_string();
                if let Ok(id) = reference.peel_to_id() {
                    found.push((name, from_gix(&id)));
                }
            }
            return Ok(found);
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
            let commit = head.id().map(|id| from_gix(&id));
            return Ok(Head { branch, commit });
        }
        let branch = self.git(["symbolic-ref", "--quiet", "HEAD"]).output()?.stdout;
        let branch = branch.trim().to_str_lossy().into_owned();
        Ok(Head { branch: Some(branch).filter(|b| !b.is_empty()), commit: self.find_ref("HEAD")? })
    }

    /// Moves refs, all or none, each only from where it is expected to be. Synced to disk when it returns.
    ///
    /// # Errors
    /// [`Error::RefMoved`] if one was elsewhere, [`Error::RefLocked`] if one is locked; nothing moved then.
    pub fn update_refs(&self, edits: &[RefEdit], reason: &str) -> Result<(), Error> {
        let mut input = Vec::new();
        for RefEdit { name, new, expected } in edits {
            let null = "0".repeat(self.id_len());
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
        let mut command = self.git(["update-ref", "-m", reason, "--no-deref", "--stdin", "-z"]).stdin(input);
        // Whoever comes after a kill in between knows by this whose locks are left.
        let moving = self.note_moving(edits);
        if let Some(moving) = &moving {
            command = command.env(moving.mark.0, &moving.mark.1);
        }
        let output = command.output()?;
        if output.status.success() {
            return Ok(());
        }
        // git's words are for people; the facts are read again.
        let stderr = output.stderr.to_str_lossy();
        for RefEdit { name, expected, .. } in edits {
            let now = self.find_ref(name)?;
            let moved = match expected {
                Expected::Absent => now.is_some(),
                Expected::At(id) => now.as_ref() != Some(id),
                Expected::Anything => false,
            };
            if moved {
                return Err(Error::RefMoved { name: name.clone() });
            }
        }
        if stderr.contains(".lock': File exists") || stderr.contains("tables.list.lock") {
            let name = edits.iter().find(|edit| stderr.contains(&edit.name)).or(edits.first());
            return Err(Error::RefLocked { name: name.map(|edit| edit.name.clone()).unwrap_or_default() });
        }
        // A lock that was taken and released between git's attempt and our look.
        if stderr.contains("but expected") || stderr.contains("reference already exists") {
            return Err(Error::RefMoved {
                name: edits.first().map(|edit| edit.name.clone()).unwrap_or_default(),
            });
        }
        Err(command.failed(&output).into())
    }
}

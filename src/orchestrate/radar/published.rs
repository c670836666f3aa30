//! What is said of an agent in `orchestra/radar/`: a few bytes a file, each written by who watches that agent.
//!
//! An agent that is not confined can write there too. So nothing follows from it but words: a commit that is not there,
//! or is another one, makes a forecast that fails, or is wrong.

use crate::git::Repository;
use crate::model::{Id, ObjectId};
use crate::orchestrate::Error;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// One agent, as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Published {
    /// Its worktree as it is, on top of its branch. Among the radar's objects.
    pub(super) commit: ObjectId,
    /// With whom it would conflict, and where.
    #[serde(default)]
    pub(super) conflicts: BTreeMap<Id, BTreeSet<String>>,
}

/// Where it is said.
pub(super) fn directory(repo: &Repository) -> PathBuf {
    repo.local_dir().join("radar")
}

impl Published {
    /// What is said of `agent`, if anything that can be understood.
    pub(super) fn read(dir: &Path, agent: &Id) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(file(dir, agent)).ok()?).ok()
    }

    /// Says it, whole.
    pub(super) fn write(&self, dir: &Path, agent: &Id) -> Result<(), Error> {
        let file = file(dir, agent);
        let failed = |e| Error::file("write", &file, e);
        let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
        let json = serde_json::to_vec(self).map_err(|e| failed(e.into()))?;
        let mut new = made.and_then(|()| tempfile::NamedTempFile::new_in(dir)).map_err(failed)?;
        new.write_all(&json).map_err(failed)?;
        new.persist(&file).map_err(|e| failed(e.error))?;
        Ok(())
    }
}

/// Takes back what is said of an agent.
pub(super) fn remove(dir: &Path, agent: &Id) {
    let _ = std::fs::remove_file(file(dir, agent));
}

/// The agent that a file speaks of.
pub(super) fn agent_of(file: &Path) -> Option<Id> {
    file.file_name()?.to_str()?.strip_suffix(".json")?.parse().ok()
}

/// Throws away all that is said, and all objects: of processes that are gone.
pub(super) fn clear(dir: &Path) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        if agent_of(&entry.path()).is_some() {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let _ = std::fs::remove_dir_all(dir.join("objects"));
}

/// Does so where there are more than about `most` objects: each is then looked at anew. Objects have names that are
/// spread evenly over 256 directories, of which one is counted, as git does.
pub(super) fn make_room(dir: &Path, most: usize) {
    let some = std::fs::read_dir(dir.join("objects/17")).into_iter().flatten().count();
    if some * 256 > most {
        clear(dir);
    }
    let _ = std::fs::create_dir_all(dir.join("objects"));
}

fn file(dir: &Path, agent: &Id) -> PathBuf {
    dir.join(format!("{agent}.json"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_is_read_and_gone_when_there_is_too_much() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("radar");
        let (one, other) = (Id::from_random(1), Id::from_random(2));
        let said = Published {
            commit: "0123456789012345678901234567890123456789".parse().unwrap(),
            conflicts: [(other, BTreeSet::from(["a b\n".to_owned()]))].into(),
        };
        assert_eq!(Published::read(&dir, &one), None);
        said.write(&dir, &one).unwrap();
        assert_eq!(Published::read(&dir, &one), Some(said.clone()));
        assert_eq!(agent_of(&file(&dir, &one)), Some(one));
        std::fs::write(file(&dir, &other), "{\"commit\":\"../..\"}").unwrap();
        assert_eq!(Published::read(&dir, &other), None, "that is no commit");
        let objects = dir.join("objects/17");
        std::fs::create_dir_all(&objects).unwrap();
        for name in ["a", "b"] {
            std::fs::write(objects.join(name), "").unwrap();
        }
        make_room(&dir, 512);
        assert!(objects.exists() && Published::read(&dir, &one).is_some());
        make_room(&dir, 511);
        assert!(!objects.exists() && Published::read(&dir, &one).is_none() && dir.join("objects").exists());
        remove(&dir, &one);
    }
}

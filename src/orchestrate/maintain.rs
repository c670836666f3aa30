//! Maintenance: what our refs reach is packed and indexed, without the user's `git gc` and without touching it.
//!
//! About every 1,000 changes of ours, in a process of its own; checked for effect, because git's own maintenance
//! exits 0 where a stale lock kept it from doing anything.

use super::Error;
use crate::git::{ObjectCounts, Repository};
use crate::model::{ObjectId, Timestamp};
use crate::process::FileLock;
use crate::store::Store;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// A change of ours is a commit, a record and four directories: so many of them are in each of the 256 directories of
/// loose objects after 1,000 changes.
const MANY: usize = 20;
/// How many packs of ours there may be before they become one.
const PACKS: usize = 8;
/// The refs that hold what we write all the time; those that hold the user's history are the user's to pack.
const OURS: [&str; 6] = [
    "refs/orchestra/claims/",
    "refs/orchestra/epochs/",
    "refs/orchestra/log/",
    "refs/orchestra/machines/",
    "refs/orchestra/remotes/",
    "refs/notes/orchestra/",
];

/// What the last maintenance left.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct Last {
    at: Timestamp,
    /// Loose objects in one directory, mostly the user's own.
    loose: usize,
    /// Packs that are ours, by name.
    packs: Vec<String>,
}

/// What maintenance did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Maintained {
    /// How objects lay on disk before.
    #[serde(serialize_with = "counts")]
    pub before: ObjectCounts,
    /// And after.
    #[serde(serialize_with = "counts")]
    pub after: ObjectCounts,
    /// Whether a pack was made of loose objects.
    pub packed: bool,
    /// How many packs of ours became one.
    pub combined: usize,
    /// Whether our commit-graph knows our commits now.
    pub commit_graph: bool,
}

fn counts<S: serde::Serializer>(counts: &ObjectCounts, serializer: S) -> Result<S::Ok, S::Error> {
    use serde::ser::SerializeStruct as _;
    let mut fields = serializer.serialize_struct("ObjectCounts", 4)?;
    fields.serialize_field("loose", &counts.loose)?;
    fields.serialize_field("loose_bytes", &counts.loose_bytes)?;
    fields.serialize_field("packs", &counts.packs)?;
    fields.serialize_field("pack_bytes", &counts.pack_bytes)?;
    fields.end()
}

/// Whether enough was written since the last time, and nobody is at it. One directory listing.
pub fn is_due(repo: &Repository) -> bool {
    let loose = repo.sample_loose();
    loose >= MANY
        && repo.local_dir().is_dir()
        // Who switched git's own off wants none in the background.
        && repo.config("maintenance.auto").is_none_or(|value| value != "false")
        && loose >= last(repo).loose + MANY
        && !FileLock::is_held(&lock(repo))
}

/// Packs what our refs reach; `None` if somebody else is at it.
pub fn maintain(store: &Store) -> Result<Option<Maintained>, Error> {
    let repo = store.repo();
    let dir = repo.local_dir();
    std::fs::create_dir_all(&dir).map_err(|e| Error::file("create", &dir, e))?;
    let path = lock(repo);
    let Some(_lock) = FileLock::attempt(&path).map_err(|e| Error::file("lock", &path, e))? else {
        return Ok(None);
    };
    let done = pack(store);
    if done.is_err() {
        // What fails now fails in a moment too: it is tried again after as many changes as always.
        let loose = repo.sample_loose();
        let _ = write(repo, &Last { loose, ..last(repo) });
    }
    done.map(Some)
}

fn pack(store: &Store) -> Result<Maintained, Error> {
    let repo = store.repo();
    let before = repo.count_objects()?;
    let tips = tips(repo)?;
    let mut last = last(repo);
    let pack = repo.pack_reachable(&tips)?;
    last.packs.extend(pack.clone());
    // The user's git may have taken ours into its own.
    last.packs.retain(|name| repo.has_pack(name));
    last.packs.dedup();
    let mut combined = 0;
    if last.packs.len() > PACKS
        && !repo.has_multi_pack_index()
        && let Some(one) = repo.combine_packs(&last.packs)?
    {
        let old: Vec<String> = last.packs.iter().filter(|name| **name != one).cloned().collect();
        combined = last.packs.len();
        // Written down before the others go: a kill in between leaves packs, and loses none.
        last.packs.push(one.clone());
        write(repo, &last)?;
        repo.remove_packs(&old)?;
        last.packs = vec![one];
    }
    repo.prune_packed()?;
    // One that git cannot write (in a shallow clone) makes `log` slower, no more.
    let commit_graph = !tips.is_empty() && repo.write_commit_graph(&tips).is_ok();
    last.at = store.clock().now();
    last.loose = repo.sample_loose();
    write(repo, &last)?;
    let after = repo.count_objects()?;
    Ok(Maintained { before, after, packed: pack.is_some(), combined, commit_graph })
}

fn tips(repo: &Repository) -> Result<Vec<ObjectId>, Error> {
    let mut tips: Vec<ObjectId> = repo.find_ref(crate::store::STATE_REF)?.into_iter().collect();
    for prefix in OURS {
        tips.extend(repo.list_refs(prefix)?.into_iter().map(|(_, id)| id));
    }
    tips.sort_unstable();
    tips.dedup();
    // What a remote sent in place of a commit is no place to start from.
    tips.retain(|tip| repo.read_commit(tip).is_ok());
    Ok(tips)
}

/// Held by whoever is at it.
fn lock(repo: &Repository) -> PathBuf {
    repo.local_dir().join("maintenance.lock")
}

fn path(repo: &Repository) -> PathBuf {
    repo.local_dir().join("maintained.json")
}

fn last(repo: &Repository) -> Last {
    let bytes = std::fs::read(path(repo)).unwrap_or_default();
    serde_json::from_slice(&bytes).unwrap_or_default()
}

fn write(repo: &Repository, last: &Last) -> Result<(), Error> {
    let (dir, path) = (repo.local_dir(), path(repo));
    let failed = |e: std::io::Error| Error::file("write", &path, e);
    let file = tempfile::NamedTempFile::new_in(dir).map_err(failed)?;
    serde_json::to_writer(&file, last).map_err(|e| failed(e.into()))?;
    file.as_file().sync_all().map_err(failed)?;
    file.persist(&path).map_err(|e| failed(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Identity;
    use crate::git::testing::Sandbox;
    use crate::process::SystemClock;
    use std::sync::Arc;

    #[test]
    fn it_is_due_once_and_for_one() {
        let sandbox = Sandbox::new(&[]);
        let store =
            Store::open(sandbox.open(), Arc::new(SystemClock), Identity::new("Ada", "ada@example.org"));
        store.init().unwrap();
        let dir = sandbox.path().join(".git/objects/17");
        // An object of the state may be among them: its id is another one each time.
        let own = std::fs::read_dir(&dir).map_or(0, Iterator::count);
        let loose = |count: usize| {
            std::fs::create_dir_all(&dir).unwrap();
            (own..count).for_each(|at| std::fs::write(dir.join(format!("{at:038x}")), "x").unwrap());
        };
        loose(MANY - 1);
        sandbox.git(&["config", "maintenance.auto", "true"]);
        // Settings are read when it is opened.
        let repo = &sandbox.open();
        assert!(!is_due(repo));
        loose(MANY);
        assert!(is_due(repo));
        let held = FileLock::attempt(&lock(repo)).unwrap().expect("nobody is at it");
        assert!(!is_due(repo), "somebody is at it");
        assert!(maintain(&store).unwrap().is_none());
        drop(held);

        // What cannot be packed fails again, and is left alone until there is more.
        let blob = sandbox.git(&["rev-parse", "refs/orchestra/state:format.json"]);
        let (dir_name, name) = blob.trim().split_at(2);
        std::fs::remove_file(repo.common_dir().join("objects").join(dir_name).join(name)).unwrap();
        assert!(maintain(&store).is_err());
        assert!(!is_due(repo));
        loose(2 * MANY);
        assert!(is_due(repo));
    }
}

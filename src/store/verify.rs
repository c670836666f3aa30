//! Looking at every record of a state: what cannot be read, stands in a wrong place, or cannot be true.
//!
//! Reads; changes nothing. What newer builds wrote is no fault.

use super::absorb::check;
use super::archive::{entity_at, place, places};
use super::layout::{ARCHIVE, FORMAT_PATH, README_PATH, entity_path};
use super::{Error, Record, Stamp, State, cache};
use crate::git::{EntryMode, TreeEntry};
use crate::model::{Id, Kind, ObjectId, Timestamp};
use bstr::ByteSlice;
use std::collections::{BTreeMap, BTreeSet};

/// How far a machine's clock may be ahead of ours before it is worth a word.
const AHEAD: u64 = 24 * 3600 * 1000;
/// How deep a state's tree may be.
const MAX_DEPTH: usize = 8;

/// What is in a state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verified {
    /// How many entities of each kind, deleted ones too.
    pub entities: BTreeMap<Kind, usize>,
    /// Paths that cannot be read as what they say they are, and why.
    pub broken: Vec<(String, String)>,
    /// Records with stamps of more than a day from now: the machine whose clock is wrong, and how many.
    pub ahead: BTreeMap<String, usize>,
    /// Names at the top that this build does not know.
    pub unknown: Vec<String>,
    /// Every machine that wrote.
    pub machines: BTreeSet<String>,
}

impl State {
    /// Reads every record.
    ///
    /// # Errors
    /// Only if the tree itself cannot be read.
    pub fn verify(&self, now: Timestamp) -> Result<Verified, Error> {
        let mut verified = Verified::default();
        let Some(tree) = self.tree() else { return Ok(verified) };
        for entry in self.repo().read_tree(tree)? {
            let name = entry.name.to_str_lossy().into_owned();
            match Kind::ALL.into_iter().find(|kind| kind.directory() == name) {
                Some(kind) if entry.mode == EntryMode::Tree => {
                    self.directory(kind, &name, &entry.id, now, &mut verified)?;
                }
                Some(_) => verified.broken.push((name, "it is no directory".to_owned())),
                None if name == FORMAT_PATH || name == README_PATH => {}
                None if name == ARCHIVE && entry.mode == EntryMode::Tree => {
                    for entry in self.repo().read_tree(&entry.id)? {
                        let path = format!("{ARCHIVE}/{}", entry.name.to_str_lossy());
                        match entity_at(&path) {
                            Some((kind, _)) if entry.mode == EntryMode::Tree => {
                                self.directory(kind, &path, &entry.id, now, &mut verified)?;
                            }
                            _ => verified.unknown.push(path),
                        }
                    }
                }
                None => verified.unknown.push(name),
            }
        }
        if self.format()?.is_none() {
            verified.broken.push((FORMAT_PATH.to_owned(), "it is missing".to_owned()));
        }
        Ok(verified)
    }

    fn directory(
        &self,
        kind: Kind,
        path: &str,
        tree: &ObjectId,
        now: Timestamp,
        into: &mut Verified,
    ) -> Result<(), Error> {
        for entry in self.repo().read_tree(tree)? {
            let path = format!("{path}/{}", entry.name.to_str_lossy());
            if entry.mode == EntryMode::Tree && path.split('/').count() < MAX_DEPTH {
                self.directory(kind, &path, &entry.id, now, into)?;
                continue;
            }
            match self.entry(kind, &path, &entry) {
                Ok(record) => {
                    *into.entities.entry(kind).or_default() += 1;
                    let mut ahead = BTreeSet::new();
                    for stamp in record.stamps.values() {
                        into.machines.insert(stamp.actor.clone());
                        if is_ahead(stamp, now) {
                            ahead.insert(stamp.actor.clone());
                        }
                    }
                    for machine in ahead {
                        *into.ahead.entry(machine).or_default() += 1;
                    }
                }
                Err(reason) => into.broken.push((path, reason)),
            }
        }
        Ok(())
    }

    fn entry(&self, kind: Kind, path: &str, entry: &TreeEntry) -> Result<Record, String> {
        let id: Option<Id> = cache::id_of_file(&entry.name);
        let own = |id: &Id| places(kind, id).any(|place| place == path);
        let id = id.filter(|id| own(id) && entry.mode == EntryMode::Blob);
        let id = id.ok_or("it is not where an entity belongs")?;
        let bytes = self.repo().read_blob(&entry.id).map_err(|error| error.to_string())?;
        let record = check(kind, &id, &bytes)?;
        let is_canonical = |record: &Record| record.to_bytes() == bytes;
        if !is_canonical(&record) && !Record::parse_as_written(&bytes).is_ok_and(|raw| is_canonical(&raw)) {
            return Err("it is not written the way records are".to_owned());
        }
        let belongs = place(kind, &id, &record);
        if belongs != path {
            return Err(format!("it belongs into {belongs}"));
        }
        // One that is in the right place can be in the other one too.
        let tree = self.tree().expect("it has entries");
        let live = entity_path(kind, &id);
        let twice = || self.repo().find_in_tree(tree, &live).is_ok_and(|found| found.is_some());
        if path != live && twice() {
            return Err(format!("{live} is there as well"));
        }
        Ok(record)
    }
}

const fn is_ahead(stamp: &Stamp, now: Timestamp) -> bool {
    stamp.at.0 > now.0.saturating_add(AHEAD)
}

#[cfg(test)]
mod tests {
    use crate::git::testing::Sandbox;
    use crate::git::{EntryMode, Identity};
    use crate::model::{Id, Task, Timestamp};
    use crate::process::ManualClock;
    use crate::store::{STATE_REF, Store};
    use std::sync::Arc;

    #[test]
    fn what_cannot_be_true_is_found() {
        let sandbox = Sandbox::new(&[]);
        let day = 24 * 3600 * 1000;
        let clock = Arc::new(ManualClock::new(Timestamp(day)));
        let store = Store::open(sandbox.open(), clock.clone(), Identity::new("Ada", "ada@example.org"));
        assert_eq!(store.state().unwrap().verify(Timestamp(day)).unwrap(), super::Verified::default());
        let task = |number: u128| -> Task {
            let id = Id::from_random(number);
            serde_json::from_value(serde_json::json!({"id": id, "title": "x"})).unwrap()
        };
        store.transact(|tx| tx.put(&task(1))).unwrap();
        let sound = store.state().unwrap().verify(Timestamp(day)).unwrap();
        assert!(sound.broken.is_empty() && sound.ahead.is_empty() && sound.unknown.is_empty(), "{sound:?}");
        assert_eq!(sound.machines.len(), 1);
        clock.advance(3 * day);
        store.transact(|tx| tx.put(&task(2))).unwrap();
        let state = store.state().unwrap();
        assert_eq!(state.verify(Timestamp(day)).unwrap().ahead[&store.machine().unwrap()], 1);

        let repo = store.repo();
        let blob = |bytes: &[u8]| Some((EntryMode::Blob, repo.write_blob(bytes).unwrap()));
        let edits = [
            ("tasks/k/3/k300000000000000.json".to_owned(), blob(b"no JSON")),
            ("tasks/wrong.json".to_owned(), blob(b"{}")),
            ("from-the-future/x".to_owned(), blob(b"{}")),
        ];
        let (tree, _) = repo.edit_tree(state.tree(), &edits).unwrap();
        let commit = sandbox.git(&["commit-tree", "-m", "x", "-p", STATE_REF, tree.as_str()]);
        sandbox.git(&["update-ref", STATE_REF, &commit]);
        let found = store.state().unwrap().verify(Timestamp(4 * day)).unwrap();
        let paths: Vec<&str> = found.broken.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["tasks/k/3/k300000000000000.json", "tasks/wrong.json"]);
        assert_eq!(
            (found.unknown, found.entities[&crate::model::Kind::Task]),
            (vec!["from-the-future".into()], 2)
        );
    }
}

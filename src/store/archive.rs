//! The archive: old closed tasks, out of the way of listings and found by id as before.
//!
//! Where a record lies follows from what is in it and from nothing else, so that merging needs no order here either.
//! A record that was archived says of what: a digest of all the rest of it. Whoever changes anything, here or on a
//! machine that had not heard of it, and whatever the clocks say, makes another record of it, and that is no archived
//! one.

use super::absorb::{Trees, fields};
use super::layout::{ARCHIVE, archive_path, entity_path};
use super::{Entity, Error, Record, State, Transaction, cache, merge};
use crate::git::{EntryMode, Repository};
use crate::model::{Id, Kind, ObjectId, Task, TaskStatus, Timestamp};
use bstr::ByteSlice;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// The key of a record that was archived: a field with a stamp like any other.
pub(super) const ARCHIVED: &str = "_a";
/// How much of a digest is kept, in bytes.
const DIGEST: usize = 16;

/// What a record says of its being archived.
#[derive(Debug, Serialize, Deserialize)]
struct Mark {
    at: Timestamp,
    /// The digest of the record without this mark.
    of: String,
}

/// Where entities of a kind can lie.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Where most are.
    Usual,
    /// The archive.
    Archive,
}

impl Place {
    /// The directory of a kind there.
    pub(super) fn directory(self, kind: Kind) -> String {
        match self {
            Self::Usual => kind.directory().to_owned(),
            Self::Archive => format!("{ARCHIVE}/{}", kind.directory()),
        }
    }
}

/// Every place that entities of a kind can lie in.
pub(super) fn places_of(kind: Kind) -> impl Iterator<Item = Place> {
    std::iter::once(Place::Usual).chain(has_archive(kind).then_some(Place::Archive))
}

/// Whether entities of this kind can be in the archive.
pub(super) const fn has_archive(kind: Kind) -> bool {
    matches!(kind, Kind::Task)
}

/// Everywhere that the record of an entity can be, first where it most likely is.
pub(super) fn places(kind: Kind, id: &Id) -> impl Iterator<Item = String> {
    std::iter::once(entity_path(kind, id)).chain(has_archive(kind).then(|| archive_path(kind, id)))
}

/// Where a record belongs.
pub(super) fn place(kind: Kind, id: &Id, record: &Record) -> String {
    if has_archive(kind) && record.is_archived() { archive_path(kind, id) } else { entity_path(kind, id) }
}

impl Record {
    /// Since when the entity is archived, if it is: nothing in its record has changed since.
    pub fn archived(&self) -> Option<Timestamp> {
        let mark: Mark = serde_json::from_value(self.fields.get(ARCHIVED)?.clone()).ok()?;
        let closed = self.fields.get("status")?.as_str() == Some(TaskStatus::Closed.word());
        (closed && !self.is_deleted() && mark.of == self.digest()).then_some(mark.at)
    }

    /// Whether it is.
    pub fn is_archived(&self) -> bool {
        self.archived().is_some()
    }

    /// The mark that archives it as it is now.
    pub(super) fn mark(&self, at: Timestamp) -> serde_json::Value {
        serde_json::to_value(Mark { at, of: self.digest() }).expect("plain data serialises")
    }

    /// The time of the newest write of anything in it but the mark.
    pub(super) fn touched(&self) -> Timestamp {
        let stamps = self.stamps.iter().filter(|(key, _)| *key != ARCHIVED);
        stamps.map(|(_, stamp)| stamp.at).max().unwrap_or_default()
    }

    fn digest(&self) -> String {
        let mut rest = self.clone();
        rest.fields.remove(ARCHIVED);
        rest.stamps.remove(ARCHIVED);
        rest.rivals.remove(ARCHIVED);
        let digest = Sha256::digest(rest.to_bytes());
        digest[..DIGEST].iter().fold(String::new(), |mut text, byte| {
            write!(text, "{byte:02x}").expect("writing to memory");
            text
        })
    }
}

impl State {
    /// Every archived entity of a kind, by id.
    pub fn archived<T: Entity>(&self) -> Result<Vec<T>, Error> {
        self.all_in(Place::Archive)
    }

    /// Every entity of a kind, archived or not.
    pub fn everything<T: Entity>(&self) -> Result<Vec<T>, Error> {
        let mut all = self.all::<T>()?;
        all.extend(self.archived::<T>()?);
        Ok(all)
    }

    /// The tasks that those of `tasks` come after that are not closed, and that are not among them, for they are archived, or
    /// deleted (then as closed ones): they hold nothing back.
    pub fn archived_before(&self, tasks: &[Task]) -> Result<Vec<Task>, Error> {
        let open = tasks.iter().filter(|task| task.status != TaskStatus::Closed);
        let mut wanted: BTreeSet<Id> = open.flat_map(|task| task.after.iter().copied()).collect();
        if wanted.is_empty() {
            return Ok(Vec::new());
        }
        for task in tasks {
            wanted.remove(&task.id);
        }
        let mut found: Vec<Task> = if self.has_archive()? { self.several(&wanted)? } else { Vec::new() };
        for task in &found {
            wanted.remove(&task.id);
        }
        for id in wanted {
            let record = self.record(Kind::Task, &id)?.filter(Record::is_deleted);
            if let Some(Ok(task)) = record.map(|record| record.entity::<Task>()) {
                found.push(Task { status: TaskStatus::Closed, ..task });
            }
        }
        Ok(found)
    }

    /// Whether a task holds back those that come after it: it is not closed, and nobody deleted it.
    pub fn holds_back(&self, id: &Id) -> Result<bool, Error> {
        let Some(record) = self.record(Kind::Task, id)? else { return Ok(true) };
        let closed = TaskStatus::Closed.word();
        Ok(!record.is_deleted() && record.value("status").and_then(|status| status.as_str()) != Some(closed))
    }

    /// Whether nobody wrote to an entity since then. Of what is archived or deleted it does not hold.
    pub fn is_untouched(&self, kind: Kind, id: &Id, since: Timestamp) -> Result<bool, Error> {
        let record = self.record(kind, id)?;
        Ok(record
            .is_some_and(|record| !record.is_archived() && !record.is_deleted() && record.touched() <= since))
    }

    pub(super) fn has_archive(&self) -> Result<bool, Error> {
        let Some(tree) = self.tree() else { return Ok(false) };
        Ok(self.repo().find_in_tree(tree, ARCHIVE)?.is_some())
    }
}

impl Transaction<'_> {
    /// Puts a closed task into the archive, where it stays until anything of it changes.
    pub fn archive(&mut self, id: &Id) -> Result<(), Error> {
        let task = self.require::<Task>(id)?;
        debug_assert_eq!(task.status, TaskStatus::Closed, "what is not closed does not stay there");
        let record = self.record(Kind::Task, id)?.expect("it was just read");
        let mark = record.mark(self.now());
        self.write(Kind::Task, *id, ARCHIVED, Some(mark))
    }
}

/// What two states have of one entity, by place, as far as that differs.
#[derive(Debug, Default, Clone)]
pub(super) struct Versions {
    /// The blobs of theirs that are sound, and where each belongs.
    theirs: Vec<(ObjectId, String)>,
    /// What is at each of our places, as far as that was looked at.
    ours: BTreeMap<String, Option<ObjectId>>,
}

impl Versions {
    pub(super) fn add(&mut self, path: &str, ours: Option<&ObjectId>, theirs: &ObjectId, place: String) {
        self.ours.insert(path.to_owned(), ours.cloned());
        self.theirs.push((theirs.clone(), place));
    }
}

/// The directory that was looked at last: entities come in the order of their ids.
#[derive(Debug, Default)]
struct Leaf {
    path: String,
    files: BTreeMap<String, ObjectId>,
}

impl Leaf {
    fn find(&mut self, repo: &Repository, root: &ObjectId, path: &str) -> Result<Option<ObjectId>, Error> {
        let (dir, name) = path.rsplit_once('/').expect("no record is at the top");
        if self.path != dir {
            self.files.clear();
            dir.clone_into(&mut self.path);
            if let Some(entry) = repo.find_in_tree(root, dir)?.filter(|e| e.mode == EntryMode::Tree) {
                let blobs = repo.read_tree(&entry.id)?.into_iter().filter(|e| e.mode == EntryMode::Blob);
                self.files = blobs.map(|e| (e.name.to_str_lossy().into_owned(), e.id)).collect();
            }
        }
        Ok(self.files.get(name).cloned())
    }
}

impl Trees<'_> {
    /// Merges what differs, entity by entity: all that there is of one, in whichever places, becomes one record in the
    /// place where that belongs.
    pub(super) fn settle(&mut self, ours: Option<&ObjectId>) -> Result<(), Error> {
        let mut leaves = BTreeMap::<usize, Leaf>::new();
        for ((kind, id), mut versions) in std::mem::take(&mut self.versions) {
            if let Some(ours) = ours {
                for (number, path) in places(kind, &id).enumerate() {
                    if let Entry::Vacant(unseen) = versions.ours.entry(path) {
                        let leaf = leaves.entry(number).or_default();
                        let found = leaf.find(self.repo, ours, unseen.key())?;
                        unseen.insert(found);
                    }
                }
            }
            self.settle_one(kind, id, &versions)?;
        }
        Ok(())
    }

    fn settle_one(&mut self, kind: Kind, id: Id, versions: &Versions) -> Result<(), Error> {
        if let ([(blob, place)], true) =
            (versions.theirs.as_slice(), versions.ours.values().all(Option::is_none))
        {
            self.entities.insert((kind, id));
            self.put(place, blob.clone());
            return Ok(());
        }
        // What cannot be read is not merged: whatever of ours it is gives way.
        let mut sound = BTreeMap::<ObjectId, (Record, Vec<u8>)>::new();
        let theirs = versions.theirs.iter().map(|(blob, _)| blob);
        for blob in versions.ours.values().flatten().chain(theirs) {
            if sound.contains_key(blob) {
                continue;
            }
            let written = self.repo.read_blob(blob)?;
            if let Ok(record) = super::absorb::check(kind, &id, &written) {
                sound.insert(blob.clone(), (record, written));
            }
        }
        let Some((mut blob, mut record)) =
            sound.iter().next().map(|(blob, (record, _))| (blob.clone(), record.clone()))
        else {
            return Ok(());
        };
        for (other, _) in sound.values().skip(1) {
            record = merge::merge(fields(kind), &record, other);
        }
        if sound.len() > 1 {
            let bytes = record.to_bytes();
            let size = bytes.len() as u64;
            if size > super::absorb::MAX_RECORD {
                self.too_large.get_or_insert((kind, id, size));
                return Ok(());
            }
            blob = match as_one_of(&sound, &record, &bytes) {
                Some(blob) => blob,
                None => self.write(&bytes)?,
            };
        }
        let place = place(kind, &id, &record);
        if versions.ours.get(&place).is_none_or(|there| there.as_ref() != Some(&blob)) {
            self.entities.insert((kind, id));
            self.put(&place, blob);
        }
        for (other, there) in &versions.ours {
            if *other != place && there.is_some() {
                self.entities.insert((kind, id));
                self.remove(other);
            }
        }
        Ok(())
    }
}

/// The version that says already what all of them say together, if there is one: what a clock after all times wrote may stand
/// as it was written, and whoever has it has lost nothing.
fn as_one_of(
    versions: &BTreeMap<ObjectId, (Record, Vec<u8>)>,
    all: &Record,
    bytes: &[u8],
) -> Option<ObjectId> {
    let same = || versions.iter().filter(|(_, (record, _))| record == all);
    let is_as_written =
        |written: &[u8]| Record::parse_as_written(written).is_ok_and(|raw| raw.to_bytes() == written);
    let written_so = same().find(|(_, (_, written))| written == bytes);
    let found = written_so.or_else(|| same().find(|(_, (_, written))| is_as_written(written)));
    found.map(|(blob, _)| blob.clone())
}

/// Which entity a path of the state says that it is of, wrongly or not: the kind, and the id if it is at its place.
pub(super) fn entity_at(path: &str) -> Option<(Kind, Option<Id>)> {
    let live = path.strip_prefix(ARCHIVE).and_then(|rest| rest.strip_prefix('/'));
    let first = live.unwrap_or(path).split('/').next().unwrap_or_default();
    let kind = Kind::ALL.into_iter().find(|kind| kind.directory() == first)?;
    if live.is_some() && !has_archive(kind) {
        return None;
    }
    let id = path.rsplit('/').next().and_then(|name| cache::id_of_file(name.as_bytes()));
    Some((kind, id.filter(|id| places(kind, id).any(|place| place == path))))
}

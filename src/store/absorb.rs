//! Taking in the state and the notes of another machine, under the store's lock and by compare-and-swap.
//!
//! Needs no merge base, reads only what differs, and makes the same commit on every machine that merges the same
//! two. What the other side sends is not trusted: what is no record under an id of its own, or would name refs that
//! are not ours, is left out and said.

use super::archive::{Versions, entity_at, place};
use super::layout::{FORMAT, FORMAT_PATH};
use super::state::Format;
use super::{
    Entity, Error, FINDINGS_NOTES, Field, PROVENANCE_NOTES, Record, STATE_REF, Stamp, State, Store, local,
    merge,
};
use crate::git::{self, EntryMode, Expected, Identity, NewCommit, RefEdit, Repository, TreeEdit, TreeEntry};
use crate::model::{Agent, Decision, Finding, Id, Kind, Merge, Name, ObjectId, Pipeline, Task, Timestamp};
use bstr::{BString, ByteSlice};
use std::collections::{BTreeMap, BTreeSet};

/// How often it is tried again when something that does not take our lock moved a ref.
const ATTEMPTS: u32 = 16;
/// How deep a state's tree may be, and how long a name in it: three levels of short names are what it has.
const MAX_DEPTH: usize = 8;
const MAX_NAME: usize = 128;
/// How large a record may be: the longest texts that people write are a hundredth of it.
pub(super) const MAX_RECORD: u64 = 4 << 20;
/// How large one may be when it is written: what two machines wrote at once must have room in one.
pub(super) const MAX_WRITTEN: u64 = 1 << 20;
/// How large a directory may be, in bytes of its tree object: 50,000 records, where sharding leaves a few hundred.
const MAX_DIRECTORY: u64 = 4 << 20;
/// How many of the things that were left out are remembered one by one: a flood is no report.
const MAX_QUARANTINED: usize = 1_000;
/// How much of a path is shown.
const MAX_SHOWN: usize = 120;

/// What another machine has: the objects are in this repository already.
#[derive(Debug, Clone, Default)]
pub struct Incoming {
    /// Its state.
    pub state: Option<ObjectId>,
    /// Its notes: our name of the notes ref, and its tip.
    pub notes: Vec<(String, ObjectId)>,
}

/// Something of another machine's state that was left out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quarantined {
    /// Where it is in that state, with everything but plain characters escaped.
    pub path: String,
    /// Why it was left out.
    pub reason: &'static str,
}

/// What taking in another machine's state changed here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Absorbed {
    /// Refs of ours that moved.
    pub moved: Vec<String>,
    /// Entities that are new or different here now.
    pub entities: BTreeSet<(Kind, Id)>,
    /// Commits whose notes are new or different here now.
    pub notes: usize,
    /// What was left out: the first thousand.
    pub quarantined: Vec<Quarantined>,
}

impl Store {
    /// Merges what another machine has into the state and the notes here: all of it or nothing, on disk when this
    /// returns.
    ///
    /// # Errors
    /// [`Error::Format`] if that state needs a newer build, [`Error::TooMuch`] if a record would become larger than others
    /// take in; nothing changes then.
    pub fn absorb(&self, incoming: &Incoming) -> Result<Absorbed, Error> {
        let _lock = local::lock(self.repo())?;
        for _ in 0..ATTEMPTS {
            let mut absorbed = Absorbed::default();
            let mut written = Vec::new();
            let mut edits = Vec::new();
            if let Some(theirs) = &incoming.state {
                edits.extend(self.absorb_state(theirs, &mut absorbed, &mut written)?);
            }
            for (name, theirs) in &incoming.notes {
                let ours = self.repo().find_ref(name)?;
                let (union, count) = self.repo().union_notes(ours.as_ref(), theirs, &mut written)?;
                absorbed.notes += count;
                edits.extend(
                    self.join(ours, theirs, &union, "notes: merge\n", &mut written)?.map(|(new, old)| {
                        RefEdit { name: name.clone(), new: Some(new), expected: old.into() }
                    }),
                );
            }
            if edits.is_empty() {
                return Ok(absorbed);
            }
            self.repo().sync_objects(&written)?;
            absorbed.moved = edits.iter().map(|edit| edit.name.clone()).collect();
            match self.move_refs(&edits) {
                Ok(()) => return Ok(absorbed),
                Err(Error::Git(git::Error::RefMoved { .. })) => {}
                Err(e) => return Err(e),
            }
        }
        Err(Error::Contended { attempts: ATTEMPTS })
    }

    /// What a later version of a state lacks of an earlier one: states only ever gain, so whoever made it left that
    /// out. Empty if it lacks nothing, or one of them cannot be read here.
    pub fn lost_between(&self, old: &ObjectId, new: &ObjectId) -> Result<BTreeSet<(Kind, Id)>, Error> {
        let tree = |commit: &ObjectId| self.repo().read_commit(commit).map(|read| read.tree);
        let (old, new) = (tree(old)?, tree(new)?);
        let mut trees = Trees::new(self.repo());
        // What it would learn from what came before it.
        trees.merge(Some(&new), &old)?;
        Ok(trees.entities)
    }

    /// Makes the notes that are synced and not there yet, empty: with all of them on a remote, one fetch gets all.
    /// It is the same commit on every machine. Does nothing as long as there is no state.
    pub fn begin_notes(&self) -> Result<(), Error> {
        let names = [STATE_REF, FINDINGS_NOTES, PROVENANCE_NOTES];
        let found = self.repo().find_refs(&names)?;
        if found[0].is_none() || found.iter().all(Option::is_some) {
            return Ok(());
        }
        let _lock = local::lock(self.repo())?;
        let (tree, mut written) = self.repo().edit_tree::<&str>(None, &[])?;
        let commit = self.repo().write_commit(&NewCommit {
            tree: &tree,
            parents: &[],
            author: &merger(),
            committer: &merger(),
            at: Timestamp(0),
            message: "notes: begin\n",
        })?;
        written.extend([tree, commit.clone()]);
        self.repo().sync_objects(&written)?;
        let missing = names.iter().zip(&found).filter(|(_, found)| found.is_none());
        let edits = missing.map(|(name, _)| RefEdit {
            name: (*name).to_owned(),
            new: Some(commit.clone()),
            expected: Expected::Absent,
        });
        match self.move_refs(&edits.collect::<Vec<_>>()) {
            // Somebody else was faster.
            Ok(()) | Err(Error::Git(git::Error::RefMoved { .. })) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn absorb_state(
        &self,
        theirs: &ObjectId,
        absorbed: &mut Absorbed,
        written: &mut Vec<ObjectId>,
    ) -> Result<Vec<RefEdit>, Error> {
        let ours = self.state()?;
        if ours.commit() == Some(theirs) {
            return Ok(Vec::new());
        }
        if let Some(commit) = ours.commit()
            && self.repo().is_ancestor(theirs, commit)?
        {
            return Ok(Vec::new());
        }
        let their_state = State::at(self.repo(), Some(theirs.clone()))?;
        for format in [ours.format()?, their_state.format()?].into_iter().flatten() {
            if format.min_write > FORMAT {
                return Err(Error::Format { what: "write", found: format.min_write, known: FORMAT });
            }
        }
        let mut trees = Trees::new(self.repo());
        let their_tree = their_state.tree().expect("it has a commit");
        let tree = trees.merge(ours.tree(), their_tree)?;
        if let Some((kind, id, size)) = trees.too_large {
            return Err(Error::TooMuch { kind, id, size, limit: MAX_RECORD });
        }
        written.append(&mut trees.written);
        absorbed.entities = trees.entities;
        absorbed.quarantined = trees.quarantined;
        let old = ours.commit().cloned();
        if let Some(commit) = &old
            && ours.epoch()? != their_state.epoch()?
            && !self.repo().is_ancestor(commit, theirs)?
        {
            return self.join_epochs(&ours, &their_state, &tree, written);
        }
        let joined = self.join(old, theirs, &tree, "orchestra: merge\n", written)?;
        let edit = joined.map(|(new, old)| RefEdit {
            name: STATE_REF.to_owned(),
            new: Some(new),
            expected: Expected::from(old),
        });
        Ok(edit.into_iter().collect())
    }

    /// The commit after `ours` and `theirs` whose tree is their merge: theirs itself if that says the same and
    /// follows ours, otherwise a new one. `None` if ours has theirs already. Returns what it was made from too.
    fn join(
        &self,
        ours: Option<ObjectId>,
        theirs: &ObjectId,
        tree: &ObjectId,
        message: &str,
        written: &mut Vec<ObjectId>,
    ) -> Result<Option<(ObjectId, Option<ObjectId>)>, Error> {
        let repo = self.repo();
        let their_commit = repo.read_commit(theirs)?;
        let follows = match &ours {
            None => true,
            Some(ours) if ours == theirs || repo.is_ancestor(theirs, ours)? => return Ok(None),
            Some(ours) => repo.is_ancestor(ours, theirs)?,
        };
        if follows && their_commit.tree == *tree {
            return Ok(Some((theirs.clone(), ours)));
        }
        let mut parents: Vec<ObjectId> = ours.iter().chain([theirs]).cloned().collect();
        parents.sort_unstable();
        let mut at = their_commit.at;
        if let Some(ours) = &ours {
            at = at.max(repo.read_commit(ours)?.at);
        }
        let identity = merger();
        let (author, committer) = (&identity, &identity);
        let commit =
            repo.write_commit(&NewCommit { tree, parents: &parents, author, committer, at, message })?;
        written.push(commit.clone());
        Ok(Some((commit, ours)))
    }
}

/// Nothing depends on who merges or when: two machines that merge the same two make one commit.
pub(super) fn merger() -> Identity {
    Identity::new("git-orchestra", "merge@orchestra.invalid")
}

/// The merge of two trees of state.
pub(super) struct Trees<'r> {
    pub(super) repo: &'r Repository,
    edits: Vec<TreeEdit>,
    pub(super) written: Vec<ObjectId>,
    pub(super) entities: BTreeSet<(Kind, Id)>,
    pub(super) quarantined: Vec<Quarantined>,
    pub(super) versions: BTreeMap<(Kind, Id), Versions>,
    /// The first record that would be larger than one can be, with its size: then this is no merge of both, and neither may
    /// take the other's place.
    pub(super) too_large: Option<(Kind, Id, u64)>,
}

impl<'r> Trees<'r> {
    pub(super) const fn new(repo: &'r Repository) -> Self {
        Self {
            repo,
            edits: Vec::new(),
            written: Vec::new(),
            entities: BTreeSet::new(),
            quarantined: Vec::new(),
            versions: BTreeMap::new(),
            too_large: None,
        }
    }

    /// The tree that holds what `ours` and `theirs` hold. Directories that are equal are not read.
    pub(super) fn merge(&mut self, ours: Option<&ObjectId>, theirs: &ObjectId) -> Result<ObjectId, Error> {
        self.directory("", ours, theirs, 0)?;
        self.settle(ours)?;
        if self.edits.is_empty()
            && let Some(ours) = ours
        {
            return Ok(ours.clone());
        }
        let (tree, mut trees) = self.repo.edit_tree(ours, &self.edits)?;
        self.written.append(&mut trees);
        Ok(tree)
    }

    fn quarantine(&mut self, path: &str, reason: &'static str) {
        if self.quarantined.len() >= MAX_QUARANTINED {
            return;
        }
        let mut path: String = path.chars().take(MAX_SHOWN + 1).collect();
        if path.chars().count() > MAX_SHOWN {
            path = path.chars().take(MAX_SHOWN).collect::<String>() + "…";
        }
        self.quarantined.push(Quarantined { path: path.escape_default().to_string(), reason });
    }

    fn is_larger(&self, id: &ObjectId, limit: u64) -> Result<bool, Error> {
        Ok(self.repo.object_size(id)? > limit)
    }

    fn directory(
        &mut self,
        prefix: &str,
        ours: Option<&ObjectId>,
        theirs: &ObjectId,
        depth: usize,
    ) -> Result<(), Error> {
        if ours == Some(theirs) {
            return Ok(());
        }
        if depth > MAX_DEPTH {
            self.quarantine(prefix, "it lies too deep");
            return Ok(());
        }
        if self.is_larger(theirs, MAX_DIRECTORY)? {
            self.quarantine(
                if prefix.is_empty() { "the state" } else { prefix },
                "it holds too many entries",
            );
            return Ok(());
        }
        let ours = ours.map(|tree| self.repo.read_tree(tree)).transpose()?.unwrap_or_default();
        let ours: BTreeMap<BString, TreeEntry> =
            ours.into_iter().map(|entry| (entry.name.clone(), entry)).collect();
        for entry in self.repo.read_tree(theirs)? {
            let our = ours.get(&entry.name);
            if our == Some(&entry) {
                continue;
            }
            let name = entry.name.to_str_lossy();
            let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
            let our_tree = our.filter(|our| our.mode == EntryMode::Tree).map(|our| &our.id);
            let our_file = our.filter(|our| our.mode == EntryMode::Blob).map(|our| &our.id);
            if !is_plain(&entry.name) {
                self.quarantine(&path, "its name is not plain");
            } else if entry.mode == EntryMode::Tree && (our.is_none() || our_tree.is_some()) {
                self.directory(&path, our_tree, &entry.id, depth + 1)?;
            } else if entry.mode == EntryMode::Blob && (our.is_none() || our_file.is_some()) {
                self.file(&path, our_file, &entry.id)?;
            } else {
                self.quarantine(&path, "it is neither a file nor a directory, or not what it is here");
            }
        }
        Ok(())
    }

    fn file(&mut self, path: &str, ours: Option<&ObjectId>, theirs: &ObjectId) -> Result<(), Error> {
        if let Some((kind, id)) = entity_at(path) {
            return self.entity(kind, id, path, ours, theirs);
        }
        let Some(ours) = ours else {
            self.put(path, theirs.clone());
            return Ok(());
        };
        if self.is_larger(theirs, MAX_RECORD)? || self.is_larger(ours, MAX_RECORD)? {
            self.put(path, ours.max(theirs).clone());
            return Ok(());
        }
        let (our_bytes, their_bytes) = (self.repo.read_blob(ours)?, self.repo.read_blob(theirs)?);
        let merged = if path == FORMAT_PATH {
            gates(&our_bytes, &their_bytes)
        } else {
            // Entities of kinds that this build does not know are merged by what their stamps tell.
            match (Record::parse(&our_bytes), Record::parse(&their_bytes)) {
                (Ok(a), Ok(b)) if !a.stamps.is_empty() && !b.stamps.is_empty() => {
                    Some(merge::merge(&[], &a, &b).to_bytes())
                }
                _ => None,
            }
        };
        let merged = match merged {
            Some(bytes) => self.write(&bytes)?,
            None => ours.max(theirs).clone(),
        };
        if merged != *ours {
            self.put(path, merged);
        }
        Ok(())
    }

    /// Takes a record of theirs for what [`Trees::settle`] merges.
    fn entity(
        &mut self,
        kind: Kind,
        id: Option<Id>,
        path: &str,
        ours: Option<&ObjectId>,
        theirs: &ObjectId,
    ) -> Result<(), Error> {
        let Some(id) = id else {
            self.quarantine(path, "it is not where an entity belongs");
            return Ok(());
        };
        if self.is_larger(theirs, MAX_RECORD)? {
            self.quarantine(path, "it is larger than a record can be");
            return Ok(());
        }
        match check(kind, &id, &self.repo.read_blob(theirs)?) {
            Ok(record) => {
                let place = place(kind, &id, &record);
                self.versions.entry((kind, id)).or_default().add(path, ours, theirs, place);
            }
            Err(reason) => self.quarantine(path, reason),
        }
        Ok(())
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> Result<ObjectId, Error> {
        let blob = self.repo.write_blob(bytes)?;
        self.written.push(blob.clone());
        Ok(blob)
    }

    pub(super) fn put(&mut self, path: &str, blob: ObjectId) {
        self.edits.push((path.to_owned(), Some((EntryMode::Blob, blob))));
    }

    pub(super) fn remove(&mut self, path: &str) {
        self.edits.push((path.to_owned(), None));
    }
}

/// The fields of a kind.
pub(super) const fn fields(kind: Kind) -> &'static [Field] {
    match kind {
        Kind::Task => Task::FIELDS,
        Kind::Agent => Agent::FIELDS,
        Kind::Finding => Finding::FIELDS,
        Kind::Decision => Decision::FIELDS,
        Kind::Merge => Merge::FIELDS,
        Kind::Pipeline => Pipeline::FIELDS,
    }
}

/// Reads a record as what its path says that it is.
pub(super) fn check(kind: Kind, id: &Id, bytes: &[u8]) -> Result<Record, &'static str> {
    fn read<T: Entity>(record: &Record, id: &Id) -> Result<T, &'static str> {
        let entity: T = record.entity().map_err(|_| "it is not what this build reads there")?;
        if entity.id() == *id { Ok(entity) } else { Err("it says that it is another one") }
    }
    let record = Record::parse(bytes).map_err(|_| "it is no record")?;
    if !record.every_stamp().all(Stamp::is_sane) {
        return Err("it says that it was written in a time that never comes");
    }
    match kind {
        Kind::Task => drop(read::<Task>(&record, id)?),
        Kind::Finding => drop(read::<Finding>(&record, id)?),
        Kind::Decision => drop(read::<Decision>(&record, id)?),
        Kind::Agent => {
            let agent: Agent = read(&record, id)?;
            let name = agent.branch.strip_prefix(Agent::BRANCHES).map(str::parse::<Name>);
            if !matches!(name, Some(Ok(_))) {
                return Err("its branch is not one of agents");
            }
            // It becomes an argument of the agent's program.
            if !agent.session.as_deref().is_none_or(|session| is_plain(session.as_bytes())) {
                return Err("its conversation is none");
            }
            if !agent.target.as_deref().is_none_or(is_branch) {
                return Err("its target is no branch");
            }
        }
        Kind::Merge => {
            let merge: Merge = read(&record, id)?;
            if !is_branch(&merge.target) {
                return Err("its target is no branch");
            }
        }
        Kind::Pipeline => {
            let pipeline: Pipeline = read(&record, id)?;
            if !pipeline.target.as_deref().is_none_or(is_branch) {
                return Err("its target is no branch");
            }
            // They become arguments.
            let words = [&pipeline.name, &pipeline.profile, &pipeline.team, &pipeline.push];
            if !words.into_iter().flatten().all(|word| is_plain(word.as_bytes())) {
                return Err("what it names is no name");
            }
        }
    }
    Ok(record)
}

/// Whether a text can be the full name of a branch and nothing else: no option, no path that leads elsewhere.
fn is_branch(name: &str) -> bool {
    let bad = |c: char| c.is_ascii_control() || " ~^:?*[\\".contains(c);
    name.strip_prefix("refs/heads/").is_some_and(|rest| {
        let part = |part: &str| {
            !part.is_empty() && !part.starts_with('.') && !part.to_ascii_lowercase().ends_with(".lock")
        };
        rest.split('/').all(part)
            && !rest.contains(bad)
            && !rest.contains("..")
            && !rest.contains("@{")
            && !rest.ends_with('.')
    })
}

pub(super) fn is_plain(name: &[u8]) -> bool {
    let plain = |b: &u8| b.is_ascii_alphanumeric() || b"-_.".contains(b);
    name.len() <= MAX_NAME && name.iter().all(plain) && !name.starts_with(b".") && !name.starts_with(b"-")
}

/// Every gate is the greater of the two; `None` if one of them cannot be read.
pub(super) fn gates(ours: &[u8], theirs: &[u8]) -> Option<Vec<u8>> {
    type Object = serde_json::Map<String, serde_json::Value>;
    let mut merged: Object = serde_json::from_slice(ours).ok()?;
    for (key, value) in serde_json::from_slice::<Object>(theirs).ok()? {
        let order = |value: &serde_json::Value| (value.as_u64(), value.to_string());
        if merged.get(&key).is_none_or(|ours| order(ours) < order(&value)) {
            merged.insert(key, value);
        }
    }
    // As it is written in the first place, where it is only that.
    let format = serde_json::to_value(&merged).ok().and_then(|v| serde_json::from_value::<Format>(v).ok());
    let mut bytes = match format {
        Some(format) if merged.len() == 5 => serde_json::to_vec_pretty(&format).ok()?,
        _ => serde_json::to_vec_pretty(&merged).ok()?,
    };
    bytes.push(b'\n');
    Some(bytes)
}

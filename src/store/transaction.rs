//! Making a change of the state: lock, read the tip, call the change, write objects. [`super::publish`] gets them to
//! disk and moves the ref.

use super::absorb::{MAX_RECORD, MAX_WRITTEN, fields};
use super::layout::{FORMAT, entity_path, log_ref};
use super::operation::{OPERATION, REF, RefMove};
use super::pending::{Change, Queue};
use super::publish::{REASON, is_ours};
use super::{Cleaner, Entity, Error, Record, STATE_REF, State, Store, archive, journal, local, tip};
use crate::git::{
    self, EntryMode, Expected, Identity, NewCommit, NoteEdit, NoteLines, RefEdit, Repository, TreeEdit,
};
use crate::model::{Id, Kind, ObjectId, Timestamp};
use std::collections::BTreeMap;
use std::io::Read;

/// How often a transaction is tried again when others that do not take our lock (a fetch, a person) moved a ref.
const ATTEMPTS: u32 = 16;

/// One change of the state, as it is being made.
///
/// It sees the state it is based on and its own writes. Whoever builds it may be called again when somebody else
/// was faster, and must not have effects of its own.
#[derive(Debug)]
pub struct Transaction<'s> {
    repo: &'s Repository,
    base: State,
    now: Timestamp,
    actor: &'s str,
    cleaner: Option<Cleaner>,
    records: BTreeMap<(Kind, Id), Record>,
    changes: BTreeMap<(Kind, Id), Vec<&'static str>>,
    subject: Option<String>,
    notes: BTreeMap<String, BTreeMap<ObjectId, NoteLines>>,
    transcripts: Vec<TreeEdit>,
    refs: Vec<RefEdit>,
    moved: Vec<RefMove>,
    written: Vec<ObjectId>,
}

/// An entity with its texts cleaned; nothing if they may stay as they are.
fn clean<T: Entity>(cleaner: &Cleaner, entity: &T) -> Option<T> {
    if T::TEXTS.is_empty() {
        return None;
    }
    let mut fields = serde_json::to_value(entity).ok()?;
    let mut changed = false;
    for name in T::TEXTS {
        if let Some(text) = fields.get_mut(*name)
            && let Some(clean) = text.as_str().and_then(|text| cleaner.clean(text))
        {
            (*text, changed) = (clean.into(), true);
        }
    }
    changed.then(|| serde_json::from_value(fields).ok()).flatten()
}

/// A change that is on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Committed<T> {
    /// What the change returned.
    pub value: T,
    /// The state's commit after it; `None` if nothing had to be written and there is no state.
    pub commit: Option<ObjectId>,
    /// Whether this change made the state.
    pub initialised: bool,
}

impl Transaction<'_> {
    /// The time of this change.
    pub const fn now(&self) -> Timestamp {
        self.now
    }

    /// The state that this change is based on, without its own writes.
    pub const fn base(&self) -> &State {
        &self.base
    }

    /// The entity with this id, this change's own writes included.
    pub fn get<T: Entity>(&self, id: &Id) -> Result<Option<T>, Error> {
        match self.records.get(&(T::KIND, *id)) {
            Some(record) if record.is_deleted() => Ok(None),
            Some(record) => Ok(Some(record.entity().expect("it was written from such an entity"))),
            None => self.base.get(id),
        }
    }

    /// The same, and it must be there.
    pub fn require<T: Entity>(&self, id: &Id) -> Result<T, Error> {
        match self.get(id)? {
            Some(entity) => Ok(entity),
            None if self.records.contains_key(&(T::KIND, *id)) => {
                Err(Error::NotFound { kind: Some(T::KIND), text: id.to_string() })
            }
            None => self.base.require(id),
        }
    }

    /// Every entity of a kind that is not archived, this change's own writes included.
    pub fn all<T: Entity>(&self) -> Result<Vec<T>, Error> {
        let mut all: BTreeMap<Id, T> =
            self.base.all::<T>()?.into_iter().map(|entity| (entity.id(), entity)).collect();
        for ((kind, id), record) in &self.records {
            if *kind != T::KIND {
                continue;
            }
            if record.is_deleted() || record.is_archived() {
                all.remove(id);
            } else {
                all.insert(*id, record.entity().expect("it was written from such an entity"));
            }
        }
        Ok(all.into_values().collect())
    }

    /// The record of an entity as this change has it.
    pub(super) fn record(&self, kind: Kind, id: &Id) -> Result<Option<Record>, Error> {
        match self.records.get(&(kind, *id)) {
            Some(record) => Ok(Some(record.clone())),
            None => self.base.record(kind, id),
        }
    }

    /// Writes an entity: new, or whatever of it changed.
    pub fn put<T: Entity>(&mut self, entity: &T) -> Result<(), Error> {
        let cleaned = self.cleaner.as_ref().and_then(|cleaner| clean(cleaner, entity));
        let entity = cleaned.as_ref().unwrap_or(entity);
        let key = (T::KIND, entity.id());
        let mut record = match self.records.remove(&key) {
            Some(record) => record,
            None => self.base.record(key.0, &key.1)?.unwrap_or_default(),
        };
        let changed = record.update(entity, self.now, self.actor);
        if !changed.is_empty() {
            let fields = self.changes.entry(key).or_default();
            fields.extend(changed);
            fields.sort_unstable();
            fields.dedup();
        }
        self.records.insert(key, record);
        Ok(())
    }

    /// Writes one value of a record by the key of its stamp, or takes it out. The record must be there.
    pub(super) fn write(
        &mut self,
        kind: Kind,
        id: Id,
        key: &str,
        value: Option<serde_json::Value>,
    ) -> Result<(), Error> {
        let record = self.record(kind, &id)?;
        let mut record = record.ok_or_else(|| Error::NotFound { kind: Some(kind), text: id.to_string() })?;
        let field = record.write(fields(kind), key, value, self.now, self.actor);
        self.records.insert((kind, id), record);
        let changed = self.changes.entry((kind, id)).or_default();
        changed.push(field);
        changed.sort_unstable();
        changed.dedup();
        Ok(())
    }

    /// Says what this change is, in one line: `task 4f7kq: claim by blue-heron`. The last word counts.
    pub fn describe(&mut self, subject: impl Into<String>) {
        self.subject = Some(self.cleaned(subject.into()));
    }

    fn cleaned(&self, text: String) -> String {
        self.cleaner.as_ref().and_then(|cleaner| cleaner.clean(&text)).unwrap_or(text)
    }

    /// Adds a line to a commit's note, together with the change.
    pub fn note(&mut self, mut edit: NoteEdit) {
        edit.line = self.cleaned(edit.line);
        self.notes.entry(edit.notes_ref).or_default().entry(edit.commit).or_default().added.push(edit.line);
    }

    /// Takes a line out of a commit's note, together with the change.
    pub fn unnote(&mut self, edit: NoteEdit) {
        self.notes.entry(edit.notes_ref).or_default().entry(edit.commit).or_default().removed.push(edit.line);
    }

    /// Moves another ref together with the change: all move, or none. If that ref is not where it is expected to
    /// be, the whole change fails with [`git::Error::RefMoved`].
    pub fn move_ref(&mut self, edit: RefEdit) {
        self.refs.push(edit);
    }

    /// Says that another ref was moved by git on the way to this change, so that the operation tells of it.
    pub fn record_move(&mut self, moved: RefMove) {
        self.moved.push(moved);
    }

    /// Names objects that the caller wrote and that must be on disk before the change is.
    pub fn depend_on(&mut self, objects: impl IntoIterator<Item = ObjectId>) {
        self.written.extend(objects);
    }

    /// Keeps a run's journal as immutable segments under the machine's log ref. Returns the tree that holds them.
    pub fn keep_transcript(&mut self, agent: &Id, run: u32, journal: impl Read) -> Result<ObjectId, Error> {
        let mut files = Vec::<TreeEdit>::new();
        for (number, segment) in journal::segments(journal).enumerate() {
            let segment =
                segment.map_err(|e| Error::local("read", journal::path(self.repo, agent, run), e))?;
            let blob = self.repo.write_blob(&segment)?;
            self.written.push(blob.clone());
            files.push((format!("{:04}.jsonl", number + 1), Some((EntryMode::Blob, blob))));
        }
        let (tree, written) = self.repo.edit_tree(None, &files)?;
        self.written.extend(written);
        self.transcripts.push((format!("{agent}/{run:03}"), Some((EntryMode::Tree, tree.clone()))));
        Ok(tree)
    }

    fn is_empty(&self) -> bool {
        self.changes.is_empty()
            && self.notes.is_empty()
            && self.refs.is_empty()
            && self.transcripts.is_empty()
            && self.moved.iter().all(|moved| moved.old == moved.new)
    }

    /// Whether the state's ref moves, and no other.
    fn moves_the_state_alone(&self) -> bool {
        !self.changes.is_empty()
            && self.notes.is_empty()
            && self.refs.is_empty()
            && self.moved.is_empty()
            && self.transcripts.is_empty()
    }
}

/// How far a change has come that is made on top of others.
enum Queued<T> {
    /// It is on disk.
    Done(Committed<T>),
    /// The state went another way: it is to be made again.
    Again,
    /// It is not to be made together with others.
    Alone,
}

/// What was written for a change.
struct Made {
    commit: ObjectId,
    written: Vec<ObjectId>,
    refs: Vec<RefEdit>,
    /// Whether other refs than the state's, its notes' and its log's move.
    moves: bool,
    /// Whether it has a commit of the state.
    logged: bool,
}

impl Store {
    /// Makes one change of the state: all of it or nothing, on disk when this returns.
    ///
    /// Safe to call from any number of processes at once: each makes its change on top of the last one under a lock,
    /// and whoever is next to publish gets all that were made meanwhile to disk and moves the ref once. `change` is
    /// called again if the state went another way. A change that writes nothing makes no commit.
    ///
    /// # Errors
    /// Whatever `change` returns, and then nothing was written; otherwise [`Error`].
    pub fn transact<T, E: From<Error>>(
        &self,
        mut change: impl FnMut(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<Committed<T>, E> {
        let actor = self.machine()?;
        for _ in 0..ATTEMPTS {
            match self.transact_queued(&actor, &mut change)? {
                Queued::Done(committed) => return Ok(committed),
                Queued::Again => {}
                Queued::Alone => break,
            }
        }
        self.transact_alone(&actor, &mut change)
    }

    #[expect(clippy::unused_self, reason = "it says whose state it is")]
    pub(super) fn require_writable(&self, state: &State) -> Result<(), Error> {
        match state.format()? {
            Some(format) if format.min_write > FORMAT => {
                Err(Error::Format { what: "write", found: format.min_write, known: FORMAT })
            }
            _ => Ok(()),
        }
    }

    fn begin<'s>(&'s self, base: State, actor: &'s str) -> Result<Transaction<'s>, Error> {
        self.require_writable(&base)?;
        Ok(Transaction {
            repo: self.repo(),
            base,
            now: self.clock().now(),
            actor,
            cleaner: self.cleaner.clone(),
            records: BTreeMap::new(),
            changes: BTreeMap::new(),
            subject: None,
            notes: BTreeMap::new(),
            transcripts: Vec::new(),
            refs: Vec::new(),
            moved: Vec::new(),
            written: Vec::new(),
        })
    }

    /// Makes a change on top of those that wait to be published, and has it published with them.
    fn transact_queued<T, E: From<Error>>(
        &self,
        actor: &str,
        change: &mut impl FnMut(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<Queued<T>, E> {
        let repo = self.repo();
        let writing = local::writing(repo)?;
        let Some(tip) = repo.find_ref(STATE_REF).map_err(Error::from)? else { return Ok(Queued::Alone) };
        let (queue, before) = Queue::join(repo, &tip)?;
        if !before.is_empty() && queue.is_full()? {
            drop(writing);
            self.settle(&queue)?;
            return Ok(Queued::Again);
        }
        let parent = before.last().map_or(tip, |last| last.commit.clone());
        let mut transaction = self.begin(State::at(repo, Some(parent.clone()))?, actor)?;
        let made = change(&mut transaction);
        if !before.is_empty() && (made.is_err() || !transaction.moves_the_state_alone()) {
            // An answer must not rest on what is not on disk, nor other refs move with it.
            drop(writing);
            self.settle(&queue)?;
            return Ok(Queued::Alone);
        }
        let value = made?;
        if transaction.is_empty() {
            return Ok(Queued::Done(Committed { value, commit: Some(parent), initialised: false }));
        }
        let publishing = local::try_publishing(repo)?;
        if !transaction.moves_the_state_alone() {
            if publishing.is_none() {
                return Ok(Queued::Alone);
            }
            return match self.commit(transaction) {
                Ok(commit) => Ok(Queued::Done(Committed { value, commit: Some(commit), initialised: false })),
                Err(Error::Git(git::Error::RefMoved { name })) if is_ours(&name) => Ok(Queued::Again),
                Err(e) => Err(e.into()),
            };
        }
        // Where a git is needed it starts while the objects are written.
        let git = match &publishing {
            Some(_) if !repo.is_plain_ref(STATE_REF) => Some(repo.begin_moving(REASON).map_err(Error::from)?),
            _ => None,
        };
        let Made { commit, written, .. } = self.make(transaction)?;
        queue.append(&Change { parent, commit: commit.clone(), written })?;
        drop(writing);
        if !self.see_published(&queue, &commit, publishing, git)? {
            return Ok(Queued::Again);
        }
        if let Some(operation) = &self.operation {
            operation.count_part();
        }
        Ok(Queued::Done(Committed { value, commit: Some(commit), initialised: false }))
    }

    /// Makes a change with nobody else at it. Changes that wait meanwhile are made again after it.
    fn transact_alone<T, E: From<Error>>(
        &self,
        actor: &str,
        change: &mut impl FnMut(&mut Transaction<'_>) -> Result<T, E>,
    ) -> Result<Committed<T>, E> {
        let _alone = local::lock(self.repo())?;
        for _ in 0..ATTEMPTS {
            let mut transaction = self.begin(self.state()?, actor)?;
            let value = change(&mut transaction)?;
            let initialised = transaction.base.commit().is_none();
            if transaction.is_empty() {
                let commit = transaction.base.commit().cloned();
                return Ok(Committed { value, commit, initialised: false });
            }
            match self.commit(transaction) {
                Ok(commit) => return Ok(Committed { value, commit: Some(commit), initialised }),
                Err(Error::Git(git::Error::RefMoved { name })) if is_ours(&name) => {}
                Err(e) => return Err(e.into()),
            }
        }
        Err(Error::Contended { attempts: ATTEMPTS }.into())
    }

    pub(super) fn write_commit(
        &self,
        actor: &str,
        at: Timestamp,
        tree: &ObjectId,
        parents: &[ObjectId],
        message: &str,
        written: &mut Vec<ObjectId>,
    ) -> Result<ObjectId, Error> {
        let committer = Identity::new("git-orchestra", &format!("{actor}@orchestra.invalid"));
        let (author, committer) = (self.author(), &committer);
        let commit =
            self.repo().write_commit(&NewCommit { tree, parents, author, committer, at, message })?;
        written.push(commit.clone());
        Ok(commit)
    }

    /// Makes a change and moves everything that moves with it. Call with both locks held.
    fn commit(&self, transaction: Transaction<'_>) -> Result<ObjectId, Error> {
        let repo = self.repo();
        // git starts while the objects are written, and locks the refs while they get to disk.
        let mut git = repo.begin_moving(REASON)?;
        let Made { commit, written, refs, moves, logged } = self.make(transaction)?;
        git.prepare(&refs);
        repo.sync_objects(&written)?;
        if let (Some(operation), true) = (&self.operation, moves) {
            local::remember_operation(repo, &operation.id())?;
        }
        match git.finish() {
            Err(git::Error::RefLocked { .. }) => self.move_refs(&refs)?,
            done => done?,
        }
        tip::keep(repo, &refs);
        if let (Some(operation), true) = (&self.operation, logged) {
            operation.count_part();
        }
        Ok(commit)
    }

    /// Writes what a change consists of. It is not on disk for good yet, and no ref has moved.
    fn make(&self, mut transaction: Transaction<'_>) -> Result<Made, Error> {
        let repo = self.repo();
        let (actor, now) = (transaction.actor, transaction.now);
        let mut written = std::mem::take(&mut transaction.written);
        let old = transaction.base.commit().cloned();
        let parent = match &old {
            Some(commit) => commit.clone(),
            None => self.first_commit(actor, now, &mut written)?,
        };
        let parent_tree = match transaction.base.tree() {
            Some(tree) => tree.clone(),
            None => repo.read_commit(&parent)?.tree,
        };

        let mut edits = Vec::new();
        let archive = transaction.base.has_archive()?;
        for (kind, id) in transaction.changes.keys() {
            let record = &transaction.records[&(*kind, *id)];
            if !record.every_stamp().all(super::Stamp::is_sane) {
                return Err(Error::Unwritable { kind: *kind, id: *id });
            }
            let bytes = record.to_bytes();
            let size = bytes.len() as u64;
            // What others wrote in it meanwhile has room beside what is written now.
            if size > MAX_WRITTEN {
                let own = record.without_losing().to_bytes().len() as u64;
                if own > MAX_WRITTEN {
                    return Err(Error::TooLarge { kind: *kind, id: *id, size: own, limit: MAX_WRITTEN });
                }
                // Nobody would take that in.
                if size > MAX_RECORD {
                    return Err(Error::TooLarge { kind: *kind, id: *id, size, limit: MAX_RECORD });
                }
            }
            let blob = repo.write_blob(&bytes)?;
            written.push(blob.clone());
            let place = archive::place(*kind, id, record);
            for other in archive::places(*kind, id).filter(|other| *other != place) {
                let looked_at = archive || place != entity_path(*kind, id);
                if looked_at && repo.find_in_tree(&parent_tree, &other)?.is_some() {
                    edits.push((other, None));
                }
            }
            edits.push((place, Some((EntryMode::Blob, blob))));
        }
        let mut refs = std::mem::take(&mut transaction.refs);
        let moved = self.moves(&refs, std::mem::take(&mut transaction.moved))?;
        let mut commit = parent;
        // Refs that move alone leave a commit too: the chain is the log of operations.
        let logged = !edits.is_empty() || old.is_none() || !moved.is_empty();
        if logged {
            let tree = if edits.is_empty() {
                parent_tree
            } else {
                let (tree, trees) = repo.edit_tree(Some(&parent_tree), &edits)?;
                written.extend(trees);
                tree
            };
            let message = self.message(&transaction, &moved)?;
            commit = self.write_commit(actor, now, &tree, &[commit], &message, &mut written)?;
            refs.insert(
                0,
                RefEdit { name: STATE_REF.to_owned(), new: Some(commit.clone()), expected: old.into() },
            );
        }
        for (notes_ref, lines) in &transaction.notes {
            let tip = repo.find_ref(notes_ref)?;
            let committer = Identity::new("git-orchestra", &format!("{actor}@orchestra.invalid"));
            let (new, objects) = repo.write_notes(tip.as_ref(), lines, self.author(), &committer, now)?;
            written.extend(objects);
            refs.push(RefEdit { name: notes_ref.clone(), new: Some(new), expected: tip.into() });
        }
        if !transaction.transcripts.is_empty() {
            let name = log_ref(actor, now);
            let tip = repo.find_ref(&name)?;
            let tree = tip.as_ref().map(|tip| repo.read_commit(tip)).transpose()?.map(|commit| commit.tree);
            let (tree, trees) = repo.edit_tree(tree.as_ref(), &transaction.transcripts)?;
            written.extend(trees);
            let parents = tip.clone().map(|tip| vec![tip]).unwrap_or_default();
            let paths: Vec<_> = transaction.transcripts.iter().map(|(path, _)| path.as_str()).collect();
            let message = format!("transcript: {}\n", paths.join(", "));
            let new = self.write_commit(actor, now, &tree, &parents, &message, &mut written)?;
            refs.push(RefEdit { name, new: Some(new), expected: tip.into() });
        }
        Ok(Made { commit, written, refs, moves: !moved.is_empty(), logged })
    }

    /// What the moves of refs amount to: those that go nowhere are left out, and those that only say what this clone
    /// knows (of claims, of machines).
    fn moves(&self, edits: &[RefEdit], mut moved: Vec<RefMove>) -> Result<Vec<RefMove>, Error> {
        for RefEdit { name, new, expected } in edits {
            let old = match expected {
                Expected::Absent => None,
                Expected::At(old) => Some(old.clone()),
                Expected::Anything => self.repo().find_ref(name)?,
            };
            moved.push(RefMove { name: name.clone(), old, new: new.clone() });
        }
        let tells = |name: &str| {
            let ours = name.strip_prefix("refs/orchestra/");
            ours.is_none_or(|name| {
                ["epochs/", "log/", "merges/", "rescue/"].iter().any(|kept| name.starts_with(kept))
            })
        };
        moved.retain(|moved| moved.old != moved.new && tells(&moved.name));
        Ok(moved)
    }

    /// Subject, then one `Orchestra-Op:` trailer for each entity that changed, the operation that the change belongs
    /// to with the refs that it moved, and a nonce that makes equal changes on two machines different commits.
    fn message(&self, transaction: &Transaction<'_>, moved: &[RefMove]) -> Result<String, Error> {
        use std::fmt::Write as _;
        let subject = transaction.subject.clone().unwrap_or_else(|| {
            let touched =
                transaction.changes.keys().map(|(kind, id)| format!("{kind} {}", &id.as_str()[..6]));
            format!("{}: change", touched.collect::<Vec<_>>().join(", "))
        });
        let subject = subject.lines().next().unwrap_or_default();
        let mut message = format!("{subject}\n\n");
        let mut trailer = |key: &str, value: &dyn std::fmt::Display| {
            writeln!(message, "{key}: {value}").expect("writing to memory");
        };
        for ((kind, id), fields) in &transaction.changes {
            trailer(
                "Orchestra-Op",
                &serde_json::json!({"put": kind.noun(), "id": id.as_str(), "fields": fields}),
            );
        }
        if let Some(operation) = &self.operation {
            trailer(OPERATION, &json(&operation.next_part()));
        }
        for moved in moved {
            trailer(REF, &json(moved));
        }
        trailer("Orchestra-Nonce", &format_args!("{:032x}", local::random_u128()?));
        Ok(message)
    }
}

/// Plain data on one line.
pub(super) fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("strings and integers serialise")
}

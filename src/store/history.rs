//! The log of operations: read from the chain of the state's commits, nothing else. It writes nothing.
//!
//! What a commit says of itself is a claim: a state that came from elsewhere can hold any commit. Whether refs were
//! moved in this clone is known from a file of this clone alone.

use super::absorb::fields;
use super::operation::{OPERATION, Part, REF, RefMove};
use super::{Error, Record, State, archive, local};
use crate::model::{Id, Kind, ObjectId, Timestamp};
use bstr::ByteSlice;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// How many commits are read at first; four times as many each time that is not enough.
const FIRST: usize = 256;
/// The fields of a commit, each ended by NUL.
const FORMAT: &str = "--format=%H%x00%P%x00%an <%ae>%x00%ce%x00%at%x00%B";
const FORMAT_FIELDS: usize = 6;
/// What the addresses of committers end with: the machine stands before it.
pub(super) const MACHINE: &str = "@orchestra.invalid";
/// The committer of merges of states, which belong to no machine.
pub(super) const NOBODY: &str = "merge";

/// One operation as the chain has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    /// Its id; for a commit that names no operation the id of that commit.
    pub id: String,
    /// The command: its name and the ids it was given. For a commit that names none, its subject.
    pub command: String,
    /// The operation that it undoes.
    pub undoes: Option<String>,
    /// Who did it, as `Name <email>`.
    pub by: String,
    /// The machine that wrote it; absent for a merge of two states.
    pub machine: Option<String>,
    /// When its first commit was made, to the second.
    pub began: Timestamp,
    /// When its last commit was made, to the second.
    pub at: Timestamp,
    /// The subjects of its commits, oldest first.
    pub subjects: Vec<String>,
    /// Its commits, oldest first.
    pub commits: Vec<ObjectId>,
    /// What it wrote, by the commits' own account.
    pub entities: BTreeSet<(Kind, Id)>,
    /// The refs that it moved, from where to where in all.
    pub refs: Vec<RefMove>,
    /// Whether an operation that still holds has undone it.
    pub undone: bool,
    /// Whether it names an operation; otherwise it is one commit that was made without one.
    pub named: bool,
    /// Whether its refs were moved in this clone.
    pub here: bool,
    /// Where it is in a chain that was cut.
    pub side: Side,
    first: u32,
}

/// Where an operation is in a chain that may have been cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// In the chain that goes on.
    Now,
    /// It is what cut the chain.
    Cut,
    /// The chain was cut after it: it is known here, and is not to be undone.
    Before,
}

/// What an operation changed of one entity.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EntityChange {
    /// Its kind.
    pub kind: Kind,
    /// Its id.
    pub id: Id,
    /// Whether the operation made it.
    pub created: bool,
    /// What changed: a field (`title`), a set's element (`labels:ui`) or a map's key (`runs:1`).
    pub fields: BTreeMap<String, FieldChange>,
}

/// What an operation changed of one field; absent is nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldChange {
    /// Its value before.
    pub before: Option<Value>,
    /// Its value as the operation left it.
    pub after: Option<Value>,
}

impl State {
    /// The newest `count` operations, newest first.
    pub fn operations(&self, count: usize) -> Result<Vec<Logged>, Error> {
        let mut operations = self.read_log(|log| log.len() >= count && log[..count].iter().all(is_whole))?;
        operations.truncate(count);
        Ok(operations)
    }

    /// The operation whose id is or starts with `text`.
    ///
    /// # Errors
    /// [`Error::NoOperation`] if there is none, [`Error::Ambiguous`] if there are several.
    pub fn operation(&self, text: &str) -> Result<Logged, Error> {
        let none = || Error::NoOperation { text: text.to_owned() };
        if text.len() < Id::MIN_PREFIX || !text.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Err(none());
        }
        // A whole id names one; a part of one is looked for everywhere.
        let found = |log: &[Logged]| log.iter().any(|logged| logged.id == text && is_whole(logged));
        let mut log = self.read_log(found)?;
        log.retain(|logged| logged.id.starts_with(text));
        match log.len() {
            0 => Err(none()),
            1 => Ok(log.remove(0)),
            _ => {
                let candidates =
                    log.iter().map(|logged| format!("{} {}", logged.id, logged.command)).collect();
                Err(Error::Ambiguous { text: text.to_owned(), candidates })
            }
        }
    }

    /// The newest operation that `wanted` holds for, which is asked of whole ones only.
    pub fn find_operation(&self, wanted: impl Fn(&Logged) -> bool) -> Result<Option<Logged>, Error> {
        let is_wanted = |logged: &Logged| is_whole(logged) && wanted(logged);
        let log = self.read_log(|log| log.iter().any(is_wanted))?;
        Ok(log.into_iter().find(|logged| wanted(logged)))
    }

    /// Reads as much of the chain as is `enough`.
    fn read_log(&self, enough: impl Fn(&[Logged]) -> bool) -> Result<Vec<Logged>, Error> {
        let Some(tip) = self.commit() else { return Ok(Vec::new()) };
        let mut count = FIRST;
        loop {
            let now = self.log(count, &[tip.as_str()], None)?;
            let fields: Vec<&[u8]> = now.split(|&byte| byte == 0).collect();
            let mut commits: Vec<&[&[u8]]> = fields.chunks_exact(FORMAT_FIELDS).collect();
            let cut = commits.len();
            let mut log = collect(self, &commits, cut)?;
            if enough(&log) {
                return Ok(log);
            }
            // What was before a cut is told last, whatever the clocks say.
            let olds = if cut < count { self.repo().list_refs(super::EPOCH_REFS)? } else { Vec::new() };
            let olds: Vec<&str> = olds.iter().map(|(_, old)| old.as_str()).collect();
            let old = if olds.is_empty() { Vec::new() } else { self.log(count, &olds, Some(tip))? };
            let fields: Vec<&[u8]> = old.split(|&byte| byte == 0).collect();
            commits.extend(fields.chunks_exact(FORMAT_FIELDS));
            if commits.len() > cut {
                log = collect(self, &commits, cut)?;
            }
            if cut < count && commits.len() - cut < count || enough(&log) {
                return Ok(log);
            }
            count *= 4;
        }
    }

    /// The newest commits of some chains, without those that `not` has too.
    fn log(&self, count: usize, tips: &[&str], not: Option<&ObjectId>) -> Result<Vec<u8>, Error> {
        // Children before parents, whatever the clocks say: an undoing operation comes before what it undoes.
        let limit = format!("--max-count={count}");
        let not = not.map(|not| format!("^{not}"));
        let args = ["log", "--date-order", "-z", FORMAT, &limit, "--end-of-options"];
        let args = args.into_iter().chain(tips.iter().copied()).chain(not.as_deref());
        Ok(self.repo().git(args).read().map_err(crate::git::Error::from)?)
    }

    /// What an operation changed, entity by entity.
    ///
    /// # Errors
    /// If commits of it, or those before them, are not in this repository.
    pub fn changes(&self, logged: &Logged) -> Result<Vec<EntityChange>, Error> {
        let mut changes = BTreeMap::<(Kind, Id), EntityChange>::new();
        for commit in &logged.commits {
            let commit = self.repo().read_commit(commit)?;
            let parent = commit.parents.first().map(|parent| self.repo().read_commit(parent)).transpose()?;
            for (kind, id) in entities(&commit.message) {
                let read = |tree: &ObjectId| self.record_in(tree, kind, &id);
                let before = parent.as_ref().map(|parent| read(&parent.tree)).transpose()?.flatten();
                let Some(after) = read(&commit.tree)? else { continue };
                let change = changes.entry((kind, id)).or_insert_with(|| EntityChange {
                    kind,
                    id,
                    created: before.is_none(),
                    fields: BTreeMap::new(),
                });
                change.add(&before.unwrap_or_default(), &after);
            }
        }
        let mut changes: Vec<EntityChange> = changes.into_values().collect();
        for change in &mut changes {
            change.fields.retain(|_, field| field.before != field.after);
        }
        changes.retain(|change| change.created || !change.fields.is_empty());
        Ok(changes)
    }

    /// The record of an entity in a tree of the state.
    fn record_in(&self, tree: &ObjectId, kind: Kind, id: &Id) -> Result<Option<Record>, Error> {
        for path in archive::places(kind, id) {
            let Some(entry) = self.repo().find_in_tree(tree, &path)? else { continue };
            let bytes = self.repo().read_blob(&entry.id)?;
            let broken = |source| Error::Broken { path, commit: tree.short().to_owned(), source };
            return Record::parse(&bytes).map(Some).map_err(broken);
        }
        Ok(None)
    }
}

impl EntityChange {
    /// Adds what one commit changed to what earlier ones did.
    fn add(&mut self, before: &Record, after: &Record) {
        let known = fields(self.kind);
        let (before, after) = (before.values(known), after.values(known));
        let keys: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
        for key in keys {
            let (old, new) = (before.get(key).cloned(), after.get(key).cloned());
            if old != new {
                let change = self.fields.entry(key.clone());
                change
                    .and_modify(|change| change.after.clone_from(&new))
                    .or_insert(FieldChange { before: old, after: new });
            }
        }
    }
}

/// Whether its first commit was read.
const fn is_whole(logged: &Logged) -> bool {
    !logged.named || logged.first == 1
}

/// The operations of commits, which come newest first; those from `cut` on are of before a cut.
fn collect(state: &State, commits: &[&[&[u8]]], cut: usize) -> Result<Vec<Logged>, Error> {
    let mut log = Vec::<Logged>::new();
    let mut known = HashMap::<Id, usize>::new();
    for (number, commit) in commits.iter().enumerate() {
        let text = |at: usize| commit[at].trim().to_str_lossy().into_owned();
        let Ok(id) = text(0).parse::<ObjectId>() else { continue };
        let message = text(5);
        let machine = text(3).strip_suffix(MACHINE).filter(|machine| *machine != NOBODY).map(str::to_owned);
        let part: Option<Part> = trailers(&message, OPERATION).next();
        let at = Timestamp(text(4).parse::<u64>().unwrap_or(0).saturating_mul(1_000));
        let subject = message.lines().next().unwrap_or_default().to_owned();
        let moves = trailers::<RefMove>(&message, REF);
        if let Some(part) = &part
            && let Some(logged) = known.get(&part.id).map(|&at| &mut log[at])
            && logged.machine == machine
        {
            logged.began = logged.began.min(at);
            logged.subjects.insert(0, subject);
            logged.commits.insert(0, id);
            logged.entities.extend(entities(&message));
            // Older than what is there: it says where the ref was at first.
            for moved in moves {
                match logged.refs.iter_mut().find(|known| known.name == moved.name) {
                    Some(known) => known.old = moved.old,
                    None => logged.refs.push(moved),
                }
            }
            logged.first = logged.first.min(part.number);
            continue;
        }
        let here = match &part {
            Some(part) => local::knows_operation(state.repo(), part.id.as_str())?,
            None => false,
        };
        if let Some(part) = &part {
            known.insert(part.id, log.len());
        }
        log.push(Logged {
            id: part.as_ref().map_or_else(|| id.to_string(), |part| part.id.to_string()),
            command: part.as_ref().map_or_else(|| subject.clone(), |part| part.command.clone()),
            undoes: part.as_ref().and_then(|part| part.undoes.clone()),
            by: text(2),
            machine,
            began: at,
            at,
            subjects: vec![subject],
            commits: vec![id],
            entities: entities(&message).collect(),
            refs: moves.collect(),
            undone: false,
            named: part.is_some(),
            here,
            side: match super::epoch::begins_epoch(&message) {
                _ if number >= cut => Side::Before,
                true => Side::Cut,
                false => Side::Now,
            },
            first: part.map_or(1, |part| part.number),
        });
    }
    let mut undone = BTreeSet::new();
    for logged in &mut log {
        logged.refs.retain(|moved| moved.old != moved.new);
        logged.undone = undone.contains(&logged.id);
        // What undoes and was undone itself does not count.
        if let (Some(other), false) = (&logged.undoes, logged.undone) {
            undone.insert(other.clone());
        }
    }
    Ok(log)
}

/// The trailers of one key that are what they should be, in order. Only the last paragraph has any.
pub(super) fn trailers<'m, T: serde::de::DeserializeOwned>(
    message: &'m str,
    key: &'m str,
) -> impl Iterator<Item = T> + 'm {
    let last = message.trim_end().rsplit("\n\n").next().unwrap_or_default();
    last.lines()
        .filter_map(move |line| line.strip_prefix(key)?.strip_prefix(": "))
        .filter_map(|value| serde_json::from_str(value).ok())
}

/// The entities that a commit says it wrote.
fn entities(message: &str) -> impl Iterator<Item = (Kind, Id)> {
    #[derive(serde::Deserialize)]
    struct Put {
        put: Kind,
        id: Id,
    }
    trailers::<Put>(message, "Orchestra-Op").map(|put| (put.put, put.id))
}

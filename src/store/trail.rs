//! How one record came to be what it is: read from the commits of the state that changed it. It writes nothing.
//!
//! What a commit says of itself is a claim, as in the log of operations. What changed is not: it is read from the
//! records before and after.

use super::absorb::{MAX_RECORD, fields};
use super::history::{FieldChange, MACHINE, NOBODY, trailers};
use super::operation::{OPERATION, Part};
use super::{Error, Record, Stamp, State, archive};
use crate::git::Commit;
use crate::model::{Id, Kind, ObjectId, Timestamp};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::rc::Rc;

/// What became of one record, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trail {
    /// Its changes.
    pub steps: Vec<Step>,
    /// Whether they reach back to its beginning, or only as far as was asked for.
    pub whole: bool,
}

/// How a step changed a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepKind {
    /// It made it.
    Made,
    /// It wrote some of its fields.
    Changed,
    /// It joined what two machines had written apart.
    Joined,
    /// It is where the chain begins here, with the record in it already.
    Oldest,
    /// The record cannot be read before it or after it.
    Unreadable,
}

/// One commit that changed a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The commit.
    pub commit: ObjectId,
    /// How it changed the record.
    pub kind: StepKind,
    /// The operation that it belongs to, if it names one.
    pub operation: Option<String>,
    /// The command: its name and the ids it was given. For a commit that names none, its subject.
    pub command: String,
    /// The operation that it undoes.
    pub undoes: Option<String>,
    /// Whether an operation that still holds has undone it.
    pub undone: bool,
    /// Who did it, as `Name <email>`.
    pub by: String,
    /// The machine that wrote it; absent where two states were joined, which every machine does alike.
    pub machine: Option<String>,
    /// When, to the second.
    pub at: Timestamp,
    /// What changed: a field (`title`), a set's element (`labels:ui`) or a map's key (`runs:1`). Of a
    /// [`StepKind::Joined`] one what the two had different: the value that counts is `after`, the other `before`.
    pub fields: BTreeMap<String, FieldChange>,
    /// Those of which a value lost: nobody who wrote later had seen it, and it is not the one that counts. It is
    /// `before` of a [`StepKind::Joined`] step, and `after` of any other.
    pub lost: BTreeSet<String>,
    /// Of a [`StepKind::Joined`] one: the machine that wrote the value that counts, by field.
    pub from: BTreeMap<String, String>,
}

/// The records of one entity as commits have them, and the stamps that were seen by who wrote over them.
struct Reader<'s> {
    state: &'s State,
    kind: Kind,
    places: Vec<String>,
    read: HashMap<ObjectId, Option<Rc<Record>>>,
    seen: HashSet<(String, Stamp)>,
}

/// A record in a commit.
enum Version {
    Absent,
    Unreadable,
    There(Rc<Record>),
}

impl State {
    /// The newest `count` changes of a record, or all. It may be of a deleted entity.
    pub fn trail(&self, kind: Kind, id: &Id, count: Option<usize>) -> Result<Trail, Error> {
        let mut trail = Trail { steps: Vec::new(), whole: true };
        let Some(tip) = self.commit() else { return Ok(trail) };
        let places: Vec<String> = archive::places(kind, id).collect();
        let mut reader = Reader { state: self, kind, places, read: HashMap::new(), seen: HashSet::new() };
        let mut written = Vec::new();
        let made = reader.walk(std::slice::from_ref(tip), None, count, &mut trail, &mut written)?;
        if !made && trail.whole {
            // What was before a cut is told last, and of the cut itself nothing: it changed no record.
            let olds = self.repo().list_refs(super::EPOCH_REFS)?;
            let olds: Vec<ObjectId> = olds.into_iter().map(|(_, old)| old).collect();
            let cut = trail.steps.last().is_some_and(|step| step.kind == StepKind::Oldest);
            if !olds.is_empty() && cut {
                trail.steps.pop();
                written.pop();
                reader.walk(&olds, Some(tip), count, &mut trail, &mut written)?;
            }
        }
        if let Some(count) = count
            && trail.steps.len() > count
        {
            trail.steps.truncate(count);
            trail.whole = false;
        }
        let now = self.record(kind, id)?.unwrap_or_default();
        // What stands in between and cannot be read may have been written by who saw it.
        let told = trail.steps.iter().all(|step| step.kind != StepKind::Unreadable);
        let mut undone = HashSet::new();
        for (step, stamps) in trail.steps.iter_mut().zip(written) {
            let counts = |key: &String, stamp: &Stamp| {
                now.stamp(key) == Some(stamp) || reader.seen.contains(&(key.clone(), stamp.clone()))
            };
            // The mark of the archive is nobody's work.
            let lost =
                stamps.iter().filter(|(key, stamp)| told && *key != archive::ARCHIVED && !counts(key, stamp));
            step.lost = lost.map(|(key, _)| key.clone()).collect();
            step.undone = step.operation.as_ref().is_some_and(|operation| undone.contains(operation));
            if let (Some(other), false) = (&step.undoes, step.undone) {
                undone.insert(other.clone());
            }
        }
        Ok(trail)
    }

    /// Whether the state has the directory of the first level that `path` lies in.
    fn has_top(&self, path: &str) -> Result<bool, Error> {
        let Some(tree) = self.tree() else { return Ok(false) };
        Ok(self.repo().find_in_tree(tree, path.split('/').next().unwrap_or_default())?.is_some())
    }
}

impl Reader<'_> {
    /// Adds the changes in some chains to `trail`, and what each wrote to `written`, until `count` are there. Says
    /// whether the one was among them that made the record.
    fn walk(
        &mut self,
        tips: &[ObjectId],
        not: Option<&ObjectId>,
        count: Option<usize>,
        trail: &mut Trail,
        written: &mut Vec<BTreeMap<String, Stamp>>,
    ) -> Result<bool, Error> {
        let begin = trail.steps.len();
        let (mut found, mut made) = (HashSet::new(), false);
        for (number, place) in self.places.clone().into_iter().enumerate() {
            // Nothing is in the archive of a state that has none, and its chain had none.
            if not.is_none() && !self.state.has_top(&place)? {
                continue;
            }
            let mut walk = self.state.repo().commits_touching(tips, not, &place)?;
            let mut of_place = 0;
            while let Some(commit) = walk.find_next()? {
                if count.is_some_and(|count| begin + of_place >= count) {
                    trail.whole = false;
                    break;
                }
                of_place += 1;
                if !found.insert(commit.clone()) {
                    continue;
                }
                let (step, stamps) = self.step(commit)?;
                // Whatever else changed it came after that, and was told before it.
                let first = step.kind == StepKind::Made;
                // Those of one place come in the right order; how others go in between only the time says.
                let older = |other: &Step| number > 0 && other.at <= step.at;
                let at =
                    trail.steps[begin..].iter().position(older).map_or(trail.steps.len(), |at| begin + at);
                trail.steps.insert(at, step);
                written.insert(at, stamps);
                if first {
                    made = true;
                    break;
                }
            }
        }
        Ok(made)
    }

    /// What one commit did to the record, and the stamps of what it wrote.
    fn step(&mut self, id: ObjectId) -> Result<(Step, BTreeMap<String, Stamp>), Error> {
        let commit = self.state.repo().read_commit(&id)?;
        let part: Option<Part> = trailers(&commit.message, OPERATION).next();
        let machine = machine(&commit);
        let mut step = Step {
            commit: id,
            kind: StepKind::Unreadable,
            operation: part.as_ref().map(|part| part.id.to_string()),
            undoes: part.as_ref().and_then(|part| part.undoes.clone()),
            command: part.map_or_else(|| commit.subject().to_owned(), |part| part.command),
            undone: false,
            by: commit.author.clone(),
            machine,
            at: commit.at,
            fields: BTreeMap::new(),
            lost: BTreeSet::new(),
            from: BTreeMap::new(),
        };
        // In a shallow clone a commit names parents that are not here.
        let there = |parent: &&ObjectId| self.state.repo().has_object(parent);
        let parents: Vec<ObjectId> = commit.parents.iter().filter(there).cloned().collect();
        let after = self.version(&commit)?;
        let mut before = Vec::new();
        for parent in &parents {
            let parent = self.state.repo().read_commit(parent)?;
            before.push(self.version(&parent)?);
        }
        let mut stamps = BTreeMap::new();
        if let (Version::There(after), false) =
            (&after, before.iter().any(|one| matches!(one, Version::Unreadable)))
        {
            let before: Vec<Rc<Record>> = before
                .into_iter()
                .filter_map(|version| if let Version::There(record) = version { Some(record) } else { None })
                .collect();
            stamps = self.compare(&before, after, parents.is_empty(), &mut step);
        }
        Ok((step, stamps))
    }

    /// Says in `step` what it changed, and returns the stamps of what it wrote, or of what it joined and left out.
    fn compare(
        &mut self,
        before: &[Rc<Record>],
        after: &Record,
        oldest: bool,
        step: &mut Step,
    ) -> BTreeMap<String, Stamp> {
        let known = fields(self.kind);
        let values = after.values(known);
        let mut stamps = BTreeMap::new();
        step.kind = match before {
            [] if oldest => StepKind::Oldest,
            [] => StepKind::Made,
            [_] => StepKind::Changed,
            _ => StepKind::Joined,
        };
        if let [first, second, ..] = before {
            let (of_first, of_second) = (first.values(known), second.values(known));
            for key in keys(&of_first, &of_second) {
                let (one, other, now) = (of_first.get(key), of_second.get(key), values.get(key));
                if one == other {
                    continue;
                }
                if let Some(stamp) = after.stamp(key) {
                    step.from.insert(key.clone(), stamp.actor.clone());
                }
                let (lost, whose) = if one == now { (other, second) } else { (one, first) };
                if let Some(stamp) = whose.stamp(key) {
                    stamps.insert(key.clone(), stamp.clone());
                }
                step.fields.insert(key.clone(), FieldChange { before: lost.cloned(), after: now.cloned() });
            }
            return stamps;
        }
        let none = Record::default();
        let before = before.first().map_or(&none, |record| record);
        let old = before.values(known);
        for key in keys(&old, &values) {
            let (was, is) = (old.get(key).cloned(), values.get(key).cloned());
            if was == is {
                continue;
            }
            if let Some(stamp) = before.stamp(key) {
                self.seen.insert((key.clone(), stamp.clone()));
            }
            if let Some(stamp) = after.stamp(key) {
                stamps.insert(key.clone(), stamp.clone());
            }
            step.fields.insert(key.clone(), FieldChange { before: was, after: is });
        }
        stamps
    }

    /// The record in a commit, wherever it lies there.
    fn version(&mut self, commit: &Commit) -> Result<Version, Error> {
        for place in &self.places {
            let Some(entry) = self.state.repo().find_in_tree(&commit.tree, place)? else { continue };
            let repo = self.state.repo();
            // Others may have sent anything: what is no record hides no other version.
            let read = || {
                let fits = repo.object_size(&entry.id).is_ok_and(|size| size <= MAX_RECORD);
                let bytes = fits.then(|| repo.read_blob(&entry.id).ok()).flatten()?;
                Record::parse(&bytes).ok().map(Rc::new)
            };
            let record = self.read.entry(entry.id.clone()).or_insert_with(read);
            return Ok(record.clone().map_or(Version::Unreadable, Version::There));
        }
        Ok(Version::Absent)
    }
}

/// The machine that wrote a commit, by the commit's own account.
fn machine(commit: &Commit) -> Option<String> {
    let (_, address) = commit.committer.rsplit_once('<')?;
    let machine = address.strip_suffix('>')?.strip_suffix(MACHINE)?;
    (machine != NOBODY).then(|| machine.to_owned())
}

fn keys<'v>(
    one: &'v BTreeMap<String, serde_json::Value>,
    other: &'v BTreeMap<String, serde_json::Value>,
) -> BTreeSet<&'v String> {
    one.keys().chain(other.keys()).collect()
}

//! Reading the state: one tree, looked up directly.

use super::archive::{self, Place};
use super::cache::{self, Cached, Part};
use super::layout::{FORMAT, FORMAT_PATH};
use super::{Entity, Error, Record, STATE_REF, local, tip};
use crate::git::{EntryMode, Repository};
use crate::model::{Agent, Id, Kind, ObjectId};
use bstr::ByteSlice;
use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

/// Up to so many records are read one by one rather than from the cache.
const FEW: usize = 16;

/// The state at one commit; what happens later does not show in it.
pub struct State {
    repo: Repository,
    tip: Option<(ObjectId, ObjectId)>,
    indexes: [[OnceCell<Option<Arc<Cached>>>; 2]; Kind::ALL.len()],
    ids: OnceCell<ShortIds>,
    left_out: LeftOut,
}

/// What could not be read and was left out of lists, by its path: shared by all who read one store.
pub(super) type LeftOut = Arc<Mutex<BTreeMap<String, String>>>;

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("tip", &self.tip).finish_non_exhaustive()
    }
}

/// Something that an id's prefix names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Found {
    /// Its kind.
    pub kind: Kind,
    /// Its whole id.
    pub id: Id,
}

/// The format's gates, as `format.json` has them.
#[derive(Debug, Clone, Copy, serde::Serialize, serde::Deserialize)]
pub(super) struct Format {
    #[serde(rename = "format")]
    pub(super) number: u64,
    pub(super) min_read: u64,
    pub(super) min_write: u64,
    pub(super) epoch: u64,
    pub(super) floor: u64,
}

impl State {
    pub(super) fn load(repo: &Repository) -> Result<Self, Error> {
        let commit = repo.find_ref(STATE_REF)?;
        if commit.is_none()
            && let Some(commit) = tip::lost(repo)
        {
            return Err(Error::StateGone { commit });
        }
        Self::at(repo, commit)
    }

    pub(super) fn at(repo: &Repository, commit: Option<ObjectId>) -> Result<Self, Error> {
        let tip = match commit {
            Some(commit) => {
                let tree = repo.read_commit(&commit)?.tree;
                Some((commit, tree))
            }
            None => None,
        };
        let state = Self {
            repo: repo.clone(),
            tip,
            indexes: Default::default(),
            ids: OnceCell::new(),
            left_out: LeftOut::default(),
        };
        if let Some(format) = state.format()?
            && format.min_read > FORMAT
        {
            return Err(Error::Format { what: "read", found: format.min_read, known: FORMAT });
        }
        Ok(state)
    }

    /// The same, which says there what it leaves out of lists.
    pub(super) fn saying(mut self, left_out: LeftOut) -> Self {
        self.left_out = left_out;
        self
    }

    /// The state's commit; `None` if the repository has no state yet.
    pub fn commit(&self) -> Option<&ObjectId> {
        self.tip.as_ref().map(|(commit, _)| commit)
    }

    pub(super) const fn repo(&self) -> &Repository {
        &self.repo
    }

    pub(super) fn tree(&self) -> Option<&ObjectId> {
        self.tip.as_ref().map(|(_, tree)| tree)
    }

    pub(super) fn format(&self) -> Result<Option<Format>, Error> {
        self.read_json(FORMAT_PATH)
    }

    fn read_json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<Option<T>, Error> {
        match self.read_path(path)? {
            Some(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| self.broken(path, e)),
            None => Ok(None),
        }
    }

    fn read_path(&self, path: &str) -> Result<Option<Vec<u8>>, Error> {
        let Some(tree) = self.tree() else { return Ok(None) };
        match self.repo.find_in_tree(tree, path)? {
            Some(entry) => Ok(Some(self.repo.read_blob(&entry.id)?)),
            None => Ok(None),
        }
    }

    fn broken(&self, path: &str, source: serde_json::Error) -> Error {
        let commit = self.commit().map(|c| c.short().to_owned()).unwrap_or_default();
        Error::Broken { path: path.to_owned(), commit, source }
    }

    /// The stored record of an entity.
    pub fn record(&self, kind: Kind, id: &Id) -> Result<Option<Record>, Error> {
        for path in archive::places(kind, id) {
            if let Some(bytes) = self.read_path(&path)? {
                return Record::parse(&bytes).map(Some).map_err(|e| self.broken(&path, e));
            }
        }
        Ok(None)
    }

    /// The entity with this id.
    pub fn get<T: Entity>(&self, id: &Id) -> Result<Option<T>, Error> {
        let Some(record) = self.record(T::KIND, id)?.filter(|record| !record.is_deleted()) else {
            return Ok(None);
        };
        let path = || super::layout::entity_path(T::KIND, id);
        record.entity().map(Some).map_err(|e| self.broken(&path(), e))
    }

    /// The entity with this id, which must be there.
    pub fn require<T: Entity>(&self, id: &Id) -> Result<T, Error> {
        if let Some(entity) = self.get(id)? {
            return Ok(entity);
        }
        match self.record(T::KIND, id)?.and_then(|record| record.deleted()) {
            Some(deleted) => Err(Error::Deleted { kind: T::KIND, id: *id, by: deleted.by }),
            None => Err(Error::NotFound { kind: Some(T::KIND), text: id.to_string() }),
        }
    }

    /// Every entity of a kind that is not archived, by id. Served from the cache where it is right. What cannot be read
    /// is left out, so that one bad record hides no other, and [`super::Store::left_out`] names it.
    pub fn all<T: Entity>(&self) -> Result<Vec<T>, Error> {
        self.all_in(Place::Usual)
    }

    /// Every deleted entity of a kind, by id: what its record says all the same.
    pub fn deleted<T: Entity>(&self) -> Result<Vec<T>, Error> {
        let dir = Place::Usual.directory(T::KIND);
        let Some(tree) = self.tree_at(&dir)? else { return Ok(Vec::new()) };
        let cached = Cached::load(&self.repo, &dir, &tree, Part::Whole)?;
        let gone = cached.entries().filter(|entry| is_deleted(entry.body));
        Ok(gone.filter_map(|entry| self.cached(entry)).collect())
    }

    pub(super) fn all_in<T: Entity>(&self, place: Place) -> Result<Vec<T>, Error> {
        let dir = place.directory(T::KIND);
        let Some(tree) = self.tree_at(&dir)? else { return Ok(Vec::new()) };
        let cached = Cached::load(&self.repo, &dir, &tree, Part::Whole)?;
        let mut all = Vec::with_capacity(cached.len());
        let living = cached.entries().filter(|entry| !is_deleted(entry.body));
        all.extend(living.filter_map(|entry| self.cached(entry)));
        Ok(all)
    }

    /// Those of `ids` that are there, by id. A few are read one by one, more from the cache.
    pub fn several<T: Entity>(&self, ids: &BTreeSet<Id>) -> Result<Vec<T>, Error> {
        if ids.len() <= FEW {
            let readable = |id| match self.get(id) {
                Err(Error::Broken { path, source, .. }) => {
                    self.leave_out(path, &source);
                    None
                }
                read => read.transpose(),
            };
            return ids.iter().filter_map(readable).collect();
        }
        let first: BTreeSet<u8> = ids.iter().map(|id| id.as_str().as_bytes()[0]).collect();
        let mut found = Vec::new();
        for dir in archive::places_of(T::KIND).map(|place| place.directory(T::KIND)) {
            let Some(tree) = self.tree_at(&dir)? else { continue };
            let wanted = |name| first.contains(&name);
            let cached = Cached::load_some(&self.repo, &dir, &tree, Part::Whole, wanted)?;
            let there = cached.entries().filter(|entry| ids.contains(&entry.id) && !is_deleted(entry.body));
            found.extend(there.filter_map(|entry| self.cached::<T>(entry)));
        }
        found.sort_by_key(Entity::id);
        found.dedup_by_key(|entity| entity.id());
        Ok(found)
    }

    fn cached<T: Entity>(&self, entry: cache::Entry<'_>) -> Option<T> {
        let path = || super::layout::entity_path(T::KIND, &entry.id);
        // Looked at as a whole, texts need not be looked at one by one.
        let read = match std::str::from_utf8(entry.body) {
            Ok(text) => serde_json::from_str(text),
            Err(_) => serde_json::from_slice(entry.body),
        };
        read.map_err(|error| self.leave_out(path(), &error)).ok()
    }

    fn leave_out(&self, path: String, why: &serde_json::Error) {
        let mut left_out = self.left_out.lock().unwrap_or_else(PoisonError::into_inner);
        left_out.insert(path, why.to_string());
    }

    /// The title of a task or the name of an agent, on one line, without reading its record.
    pub fn title<T: Entity>(&self, id: &Id) -> Result<Option<String>, Error> {
        for place in archive::places_of(T::KIND) {
            let index = self.index(T::KIND, place)?;
            if let Some(entry) = index.and_then(|index| index.find(id)) {
                return Ok(Some(entry.title.to_str_lossy().into_owned()));
            }
        }
        Ok(None)
    }

    /// The titles of all tasks or the names of all agents.
    pub fn titles<T: Entity>(&self) -> Result<HashMap<Id, String>, Error> {
        Ok(self.index(T::KIND, Place::Usual)?.map(titles).unwrap_or_default())
    }

    /// The same of what is archived.
    pub fn archived_titles<T: Entity>(&self) -> Result<HashMap<Id, String>, Error> {
        Ok(self.index(T::KIND, Place::Archive)?.map(titles).unwrap_or_default())
    }

    /// The tasks that come after `id`, without reading their records.
    pub fn tasks_after(&self, id: &Id) -> Result<BTreeSet<Id>, Error> {
        Ok(self.index(Kind::Task, Place::Usual)?.map(|index| index.after(id).collect()).unwrap_or_default())
    }

    /// What is cached of a kind in one place but for its records; read once.
    fn index(&self, kind: Kind, place: Place) -> Result<Option<&Arc<Cached>>, Error> {
        let index = &self.indexes[kind as usize][place as usize];
        if index.get().is_none() {
            let cached = match self.tree_at(&place.directory(kind))? {
                Some(tree) => {
                    Some(Arc::new(Cached::load(&self.repo, &place.directory(kind), &tree, Part::Index)?))
                }
                None => None,
            };
            // Nobody else can have set it: this is one thread's.
            index.set(cached).expect("it was empty");
        }
        Ok(index.get().and_then(Option::as_ref))
    }

    fn tree_at(&self, dir: &str) -> Result<Option<ObjectId>, Error> {
        let Some(tree) = self.tree() else { return Ok(None) };
        let found = self.repo.find_in_tree(tree, dir)?.filter(|entry| entry.mode == EntryMode::Tree);
        Ok(found.map(|entry| entry.id))
    }

    /// Everything whose id starts with `prefix`, of one kind or of any. Reads one directory a kind.
    pub fn find(&self, prefix: &str, kind: Option<Kind>) -> Result<Vec<Found>, Error> {
        if !Id::is_prefix(prefix) {
            return Ok(Vec::new());
        }
        let mut found = self.beside(prefix, kind)?;
        found.retain(|found| found.id.as_str().starts_with(prefix));
        Ok(found)
    }

    /// Everything in the directories in which an id that starts with `prefix` is.
    fn beside(&self, prefix: &str, kind: Option<Kind>) -> Result<Vec<Found>, Error> {
        let mut found = Vec::new();
        let Some(tree) = self.tree() else { return Ok(found) };
        for kind in Kind::ALL.into_iter().filter(|k| kind.is_none_or(|wanted| wanted == *k)) {
            let start = found.len();
            for dir in archive::places_of(kind).map(|place| place.directory(kind)) {
                let shard = format!("{dir}/{}/{}", &prefix[..1], &prefix[1..2]);
                let Some(entry) = self.repo.find_in_tree(tree, &shard)? else { continue };
                let entries = self.repo.read_tree(&entry.id)?;
                let ids = entries.iter().filter_map(|entry| cache::id_of_file(&entry.name));
                found.extend(ids.map(|id| Found { kind, id }));
            }
            found[start..].sort_unstable();
        }
        found.dedup();
        Ok(found)
    }

    /// The one thing that `text` names: an id, a prefix of one, or an agent's name.
    pub fn resolve(&self, text: &str, kind: Option<Kind>) -> Result<Found, Error> {
        let mut found = self.find(text, kind)?;
        if found.is_empty() && kind.is_none_or(|kind| kind == Kind::Agent) {
            found.extend(self.agents_called(text)?);
        }
        match found.as_slice() {
            [one] => Ok(*one),
            [] => Err(Error::NotFound { kind, text: text.to_owned() }),
            several => {
                let candidates = several.iter().map(|found| format!("{} {}", found.kind, found.id)).collect();
                Err(Error::Ambiguous { text: text.to_owned(), candidates })
            }
        }
    }

    /// The entity that `text` names, as [`State::resolve`] finds it.
    pub fn require_named<T: Entity>(&self, text: &str) -> Result<T, Error> {
        let found = self.resolve(text, Some(T::KIND))?;
        self.require(&found.id)
    }

    /// Agents with this name: the one that is not removed, otherwise the last one that was. Machines name theirs without
    /// asking each other: this one's own comes first, and of several of others none is meant.
    fn agents_called(&self, name: &str) -> Result<Option<Found>, Error> {
        let ids = self.titles::<Agent>()?.into_iter().filter(|(_, title)| title == name).map(|(id, _)| id);
        let mut called: Vec<Agent> = self.several(&ids.collect())?;
        called.retain(|agent| agent.name.as_str() == name);
        if called.len() > 1 {
            let here = local::find_machine(&self.repo)?.unwrap_or_default();
            let rank = |agent: &Agent| (agent.removed.is_some(), !agent.is_of(&here));
            called.sort_by_key(|agent| (rank(agent), std::cmp::Reverse(agent.created)));
            let alike: Vec<&Agent> = called.iter().filter(|agent| rank(agent) == (false, true)).collect();
            if rank(&called[0]) == (false, true) && alike.len() > 1 {
                let candidates = alike
                    .iter()
                    .map(|agent| format!("agent {} of machine {}", agent.id, agent.machine))
                    .collect();
                return Err(Error::Ambiguous { text: name.to_owned(), candidates });
            }
        }
        Ok(called.first().map(|agent| Found { kind: Kind::Agent, id: agent.id }))
    }

    /// The shortest unique prefixes of everything in this state.
    pub fn short_ids(&self) -> Result<&ShortIds, Error> {
        if let Some(ids) = self.ids.get() {
            return Ok(ids);
        }
        let mut indexes = Vec::new();
        for kind in Kind::ALL {
            for place in archive::places_of(kind) {
                indexes.extend(self.index(kind, place)?.cloned());
            }
        }
        Ok(self.ids.get_or_init(|| ShortIds { ids: Vec::new(), indexes }))
    }

    /// The same for some ids only, which is right for them alone. Reads one directory a kind and id.
    pub fn short_ids_of<'i>(&self, ids: impl IntoIterator<Item = &'i Id>) -> Result<ShortIds, Error> {
        let shards: BTreeSet<&str> = ids.into_iter().map(|id| &id.as_str()[..2]).collect();
        let mut all = Vec::new();
        for shard in shards {
            all.extend(self.beside(shard, None)?.into_iter().map(|found| found.id));
        }
        all.sort_unstable();
        Ok(ShortIds { ids: all, indexes: Vec::new() })
    }
}

fn titles(index: &Arc<Cached>) -> HashMap<Id, String> {
    index.entries().map(|entry| (entry.id, entry.title.to_str_lossy().into_owned())).collect()
}

/// Whether a record without its stamps is that of a deleted entity: keys are sorted, and this one is the first.
fn is_deleted(json: &[u8]) -> bool {
    json.starts_with(b"{\"_d\":")
}

/// Shortens ids to what people type.
#[derive(Debug, Clone, Default)]
pub struct ShortIds {
    /// In order.
    ids: Vec<Id>,
    indexes: Vec<Arc<Cached>>,
}

impl ShortIds {
    /// The shortest prefix of `id`, of at least [`Id::MIN_PREFIX`] characters, that names nothing else.
    pub fn shorten(&self, id: &Id) -> String {
        let at = self.ids.partition_point(|other| other < id);
        let next = self.ids[at..].iter().find(|other| *other != id);
        let beside = at.checked_sub(1).and_then(|before| self.ids.get(before)).into_iter().chain(next);
        let among = beside.map(|other| id.shared(other.as_str().as_bytes()));
        let shared = among.chain(self.indexes.iter().map(|index| index.shared(id))).max().unwrap_or(0);
        id.as_str()[..(shared + 1).clamp(Id::MIN_PREFIX, Id::LEN)].to_owned()
    }
}

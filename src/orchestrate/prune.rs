//! What can go, and how much room that makes: planned first, done only when somebody says so.
//!
//! Nothing that is saved nowhere else is ever planned, but for history of the age that somebody said; an agent goes the way that `remove` takes, with a rescue ref
//! for what is in no branch.

use super::measure::{bytes, size};
use super::prepare::{builds, require_room};
use super::remove::{IGNORED_LIMIT, is_merged, is_name_of_another, remove_undone};
use super::session::Surroundings;
use super::{Error, RemoveOptions, lease, remove, trust};
use crate::git::{Expected, Ignored, RefEdit, Repository, Worktree};
use crate::model::{Agent, Id, Merge, MergeStatus, ObjectId, Timestamp};
use crate::store::journal;
use crate::store::{LOG_REFS, OldEpoch, RESCUE_REFS, State, Store};
use serde::Serialize;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How old a temporary file is before nobody can be at it.
const OLD_FILE: Duration = Duration::from_secs(24 * 3600);
/// Directories that build tools make and make again.
const BUILDS: [&str; 9] = [
    "node_modules",
    "__pycache__",
    ".tox",
    ".gradle",
    ".mypy_cache",
    ".pytest_cache",
    ".ruff_cache",
    ".next",
    ".turbo",
];
/// The file that says of a directory that it is a cache.
const TAG: &str = "CACHEDIR.TAG";
/// How it begins, which says that its directory can be made again (<https://bford.info/cachedir/>).
const CACHE_TAG: &[u8] = b"Signature: 8a477f597d28d172789f06886806bc55";

/// How much goes.
#[derive(Debug, Clone, Copy)]
pub struct PruneOptions {
    /// How old rescue refs are that go.
    pub older_than: Duration,
    /// How old transcripts are that go; without it none do.
    pub transcripts: Option<Duration>,
    /// For how long the history has been cut of which what was before goes.
    pub epochs: Duration,
}

/// What was seen of remotes.
const TRACKING: &str = "refs/orchestra/remotes/";

/// What keeps open merges together.
const MERGES: &str = "refs/orchestra/merges/";

/// What kind of thing goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An agent whose work has landed: its worktree and its branch.
    Agent,
    /// What a build made in the worktree of an agent at rest.
    Build,
    /// A rescue ref whose commits some branch has.
    Rescue,
    /// A journal whose transcript is kept.
    Journal,
    /// A week of transcripts.
    Transcripts,
    /// The history of the state from before a cut.
    Epoch,
    /// What was seen of a remote that is not configured any more.
    Tracking,
    /// What kept a merge together that has landed.
    Merge,
    /// What the gates of a merge that is over printed.
    Gate,
    /// Caches.
    Cache,
    /// Temporary files of processes that are gone.
    Temporary,
}

impl Kind {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Build => "build",
            Self::Rescue => "rescue",
            Self::Journal => "journal",
            Self::Transcripts => "transcripts",
            Self::Epoch => "epoch",
            Self::Tracking => "tracking",
            Self::Merge => "merge",
            Self::Gate => "gate",
            Self::Cache => "cache",
            Self::Temporary => "temporary",
        }
    }
}

/// Something that can go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Item {
    /// Its kind.
    pub kind: Kind,
    /// What it is: an agent's name, a path, a ref.
    pub subject: String,
    /// Why it can go.
    pub reason: String,
    /// The bytes on disk that go with it; objects of refs go later, when git collects them.
    pub bytes: u64,
    #[serde(skip)]
    what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum What {
    Agent(Id, RemoveOptions),
    /// What is left here of an agent whose record is deleted.
    Undone(Id),
    /// A directory in the worktree of an agent that is at rest.
    Build(Id, PathBuf),
    Path(PathBuf),
    /// A build directory that agents share, as long as none of them runs.
    Shared(PathBuf),
    Ref(String, ObjectId),
    /// The worktree in which merges are tried.
    Trying,
}

/// What became of an item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pruned {
    /// It is gone; what was in no other branch is kept under this ref.
    Gone(Option<String>),
    /// It stays, and this is why.
    Kept(String),
}

/// Everything that can go now. Agents' worktrees are made below `worktree_root`.
pub fn plan(store: &Store, options: PruneOptions, worktree_root: &Path) -> Result<Vec<Item>, Error> {
    let (repo, state) = (store.repo(), store.state()?);
    let now = store.clock().now();
    let live: BTreeSet<Id> = lease::live(repo).into_iter().map(|lease| lease.agent).collect();
    let mut items = Vec::new();
    let agents = state.all::<Agent>()?;
    let kept = kept_transcripts(repo, options, now)?;
    let trusted = trust::require_unchanged(repo).is_ok();
    for agent in agents.iter().filter(|agent| !live.contains(&agent.id)) {
        // What agents wrote is looked at only while git runs here what it ran before they did.
        if trusted && agent.removed.is_none() {
            of_agent(store, &state, agent, &mut items)?;
        }
        journals(repo, &state, agent, &kept, &mut items)?;
    }
    if trusted {
        undone(store, &state, &mut items)?;
    }
    rescues(repo, options, now, &mut items)?;
    refs(repo, &state, options, now, &mut items)?;
    epochs(store, options, now, &mut items)?;
    if live.is_empty() {
        for dir in builds::shared(worktree_root) {
            let item =
                of_path(repo, Kind::Build, dir.clone(), "shared by agents, and made again by the next build");
            items.push(Item { what: What::Shared(dir), ..item });
        }
    }
    gates(store, &state, options, now, &mut items)?;
    let cache = repo.local_dir().join("cache");
    if cache.is_dir() {
        items.push(of_path(repo, Kind::Cache, cache, "made again when it is needed"));
    }
    for file in temporaries(repo) {
        items.push(of_path(repo, Kind::Temporary, file, "whoever wrote it is gone"));
    }
    items.sort_by(|a, b| (a.kind, &a.subject).cmp(&(b.kind, &b.subject)));
    Ok(items)
}

/// Does it. Each item is looked at again where that matters; one that cannot go stays and says why.
/// Agents' worktrees are torn down with what `surroundings` have for that.
pub fn prune(
    store: &Store,
    items: &[Item],
    surroundings: &Surroundings,
    mut told: impl FnMut(&Item, &Pruned),
) -> Vec<Pruned> {
    let mut all = Vec::new();
    for item in items {
        let pruned = match go(store, &item.what, surroundings) {
            Ok(rescue) => Pruned::Gone(rescue),
            Err(error) => Pruned::Kept(super::supervise::chain(&error)),
        };
        told(item, &pruned);
        all.push(pruned);
    }
    all
}

/// Looks that an agent has the room on disk that it needs. Where there is less, what builds left in the worktrees of agents
/// at rest goes, unless that is to be kept ([`Provision::frees_builds`](super::Provision::frees_builds)); `tell` hears it.
///
/// # Errors
/// [`Error::Refused`] if it is too little even so, with both figures and what would help.
pub fn make_room(
    store: &Store,
    surroundings: &Surroundings,
    mut tell: impl FnMut(String),
) -> Result<(), Error> {
    let room = || require_room(&surroundings.worktree_root, surroundings.provision.space_floor);
    let Err(error) = room() else { return Ok(()) };
    if !surroundings.provision.frees_builds || trust::require_unchanged(store.repo()).is_err() {
        return Err(error);
    }
    let state = store.state()?;
    let mut items = Vec::new();
    for agent in state.all::<Agent>()?.iter().filter(|agent| agent.removed.is_none()) {
        if lease::find_live(store.repo(), &agent.id).is_none() {
            builds_of(store.repo(), agent, &mut items)?;
        }
    }
    let (mut freed, mut of) = (0, BTreeSet::new());
    for item in items {
        if go(store, &item.what, surroundings).is_ok()
            && let What::Build(agent, _) = item.what
        {
            (freed, _) = (freed + item.bytes, of.insert(agent));
        }
    }
    if !of.is_empty() {
        let whose = if of.len() == 1 { "an agent".to_owned() } else { format!("{} agents", of.len()) };
        tell(format!(
            "to make room, {} went that builds had left in the worktree of {whose} at rest",
            bytes(freed)
        ));
    }
    room()
}

fn go(store: &Store, what: &What, surroundings: &Surroundings) -> Result<Option<String>, Error> {
    match what {
        What::Agent(id, options) => {
            let removed = remove(store, id, *options, Some(surroundings))?;
            if let Some((_, error)) = removed.left {
                return Err(*error);
            }
            Ok(removed.rescue.map(|(name, _)| name))
        }
        What::Undone(id) => remove_undone(store, id, surroundings),
        What::Build(agent, _) if lease::find_live(store.repo(), agent).is_some() => {
            Err(Error::refused("remove what a build made: its agent runs by now", None))
        }
        What::Shared(_) if !lease::live(store.repo()).is_empty() => {
            Err(Error::refused("remove what agents build into: one of them runs by now", None))
        }
        What::Path(path) | What::Shared(path) | What::Build(_, path) => {
            let gone = match path.symlink_metadata() {
                Ok(meta) if meta.is_dir() => remove_dir(path),
                Ok(_) => std::fs::remove_file(path),
                Err(_) => Ok(()),
            };
            gone.map_err(|e| Error::file("remove", path, e))?;
            Ok(None)
        }
        What::Trying => super::merge::gate::remove(store.repo()).map(|()| None),
        What::Ref(name, tip) => {
            let edit = RefEdit { name: name.clone(), new: None, expected: Expected::At(tip.clone()) };
            store.transact(|transaction| {
                transaction.move_ref(edit.clone());
                transaction.describe(format!("prune: {name}"));
                Ok::<_, Error>(())
            })?;
            Ok(None)
        }
    }
}

fn of_path(repo: &Repository, kind: Kind, path: PathBuf, reason: &str) -> Item {
    let (subject, bytes) = (repo.shown(&path), size(&path));
    Item { kind, subject, reason: reason.to_owned(), bytes, what: What::Path(path) }
}

fn of_ref(kind: Kind, name: String, tip: ObjectId, reason: impl Into<String>) -> Item {
    Item { kind, subject: name.clone(), reason: reason.into(), bytes: 0, what: What::Ref(name, tip) }
}

/// An agent that is at rest: all of it if its work has landed, otherwise what builds left in its worktree.
fn of_agent(store: &Store, state: &State, agent: &Agent, items: &mut Vec<Item>) -> Result<(), Error> {
    let repo = store.repo();
    let ended = agent.last_run().is_some_and(|(_, run)| run.outcome.is_some());
    if !ended || !agent.has_own_branch() || is_name_of_another(store, agent)? {
        return Ok(());
    }
    let worktree = repo.find_worktree(agent.name.as_str())?.filter(Worktree::is_intact);
    let tip = repo.find_ref(&agent.branch)?;
    let landed = match &tip {
        Some(tip) if *tip != agent.base || agent.merged.is_some() => {
            has_landed(store, state, agent, tip)? || is_merged(store, agent, tip)?
        }
        _ => false,
    };
    let Some(worktree) = worktree.filter(|one| !one.is_locked()) else {
        if landed {
            items.push(the_agent(agent, 0, false));
        }
        return Ok(());
    };
    let ignored = repo.ignored_files(&worktree, IGNORED_LIMIT)?;
    let (paths, builds) = ignored_in(&worktree, &ignored);
    // More than what `remove` keeps, and not only what can be built again: a person decides.
    let discard = builds.len() == paths.len();
    let clean = repo.worktree_status(&worktree)?.is_clean() && (discard || ignored.bytes <= IGNORED_LIMIT);
    if landed && clean && Repository::nested_repositories(&worktree).is_empty() {
        items.push(the_agent(agent, size(&worktree.path), discard && !paths.is_empty()));
        return Ok(());
    }
    items.extend(builds.into_iter().map(|build| of_build(agent, &worktree, build)));
    Ok(())
}

/// Agents of this machine that another one took back by undoing what made them: what they made is here still.
fn undone(store: &Store, state: &State, items: &mut Vec<Item>) -> Result<(), Error> {
    let (repo, here) = (store.repo(), store.machine()?);
    let mut agents = state.deleted::<Agent>()?;
    agents.sort_by_key(|agent| std::cmp::Reverse((agent.created, agent.id)));
    let mut seen = BTreeSet::new();
    for agent in agents.into_iter().filter(|agent| agent.is_of(&here) && agent.removed.is_none()) {
        // A name is that of the last that had it.
        if !seen.insert(agent.name.clone())
            || !agent.has_own_branch()
            || lease::find_live(repo, &agent.id).is_some()
            || is_name_of_another(store, &agent)?
        {
            continue;
        }
        let worktree = repo.find_worktree(agent.name.as_str())?;
        if worktree.is_none() && repo.find_ref(&agent.branch)?.is_none() {
            continue;
        }
        let reason = "what made it was undone; what is only here is kept".to_owned();
        let bytes = worktree.map_or(0, |worktree| size(&worktree.path));
        let (kind, subject, what) = (Kind::Agent, agent.name.to_string(), What::Undone(agent.id));
        items.push(Item { kind, subject, reason, bytes, what });
    }
    Ok(())
}

/// What builds left in the worktree of an agent at rest, whatever became of its work.
fn builds_of(repo: &Repository, agent: &Agent, items: &mut Vec<Item>) -> Result<(), Error> {
    let worktree = repo.find_worktree(agent.name.as_str())?.filter(Worktree::is_intact);
    let Some(worktree) = worktree.filter(|one| !one.is_locked() && agent.has_own_branch()) else {
        return Ok(());
    };
    let (_, builds) = ignored_in(&worktree, &repo.ignored_files(&worktree, IGNORED_LIMIT)?);
    items.extend(builds.into_iter().map(|build| of_build(agent, &worktree, build)));
    Ok(())
}

/// What git ignores in a worktree, and what of that builds made.
fn ignored_in(worktree: &Worktree, ignored: &Ignored) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let paths: Vec<PathBuf> =
        ignored.paths.iter().map(|path| worktree.path.join(OsStr::from_bytes(path))).collect();
    let builds = paths.iter().filter(|path| is_build(path)).cloned().collect();
    (paths, builds)
}

fn of_build(agent: &Agent, worktree: &Worktree, build: PathBuf) -> Item {
    let bytes = size(&build);
    let path = build.strip_prefix(&worktree.path).unwrap_or(&build).display().to_string();
    let subject = format!("{}: {}", agent.name, path.trim_end_matches('/'));
    let reason = "ignored, and made again by the next build".to_owned();
    Item { kind: Kind::Build, subject, reason, bytes, what: What::Build(agent.id, build) }
}

fn the_agent(agent: &Agent, bytes: u64, discard_ignored: bool) -> Item {
    let target = agent.target.as_deref().map_or("its target", super::merge::short_branch);
    Item {
        kind: Kind::Agent,
        subject: agent.name.to_string(),
        reason: format!("all of its work is in {target}, its worktree is clean"),
        bytes,
        what: What::Agent(agent.id, RemoveOptions { discard_ignored, ..RemoveOptions::default() }),
    }
}

/// Whether a merge that has landed took exactly this commit of the agent.
fn has_landed(store: &Store, state: &State, agent: &Agent, tip: &ObjectId) -> Result<bool, Error> {
    let took = |merge: &Merge| {
        merge.status == MergeStatus::Landed
            && merge.steps.iter().any(|s| s.agent == agent.id && s.tip == *tip && s.status.is_merged())
    };
    for merge in state.all::<Merge>()?.iter().filter(|merge| took(merge)) {
        // Where the target was reset since, its branch may be all there is of it.
        if super::merge::gone(store, state, merge).map_err(super::pipeline::unmerged)?.is_none() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Removes a directory, what says that it may go last: a removal that is cut short is gone on with.
fn remove_dir(path: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else if entry.file_name() != TAG {
            std::fs::remove_file(entry.path())?;
        }
    }
    std::fs::remove_dir_all(path)
}

/// Whether a directory holds nothing but what a tool makes again.
fn is_build(path: &Path) -> bool {
    let is_dir = path.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    let named = path.file_name().is_some_and(|name| BUILDS.iter().any(|build| name == *build));
    let tagged = || std::fs::read(path.join(TAG)).is_ok_and(|tag| tag.starts_with(CACHE_TAG));
    is_dir && (named || tagged())
}

/// Journals of runs that are over and whose transcript says all that they say.
fn journals(
    repo: &Repository,
    state: &State,
    agent: &Agent,
    kept: &[ObjectId],
    items: &mut Vec<Item>,
) -> Result<(), Error> {
    for (number, run) in agent.runs.iter().filter(|(_, run)| run.outcome.is_some()) {
        let path = journal::path(repo, &agent.id, *number);
        let Some(tree) = &run.transcript else { continue };
        let at = format!("{}/{number:03}", agent.id);
        let mut found = kept.iter().map(|week| repo.find_in_tree(week, &at));
        if !found.any(|found| found.ok().flatten().is_some_and(|found| found.id == *tree)) {
            continue;
        }
        let Ok(bytes) = std::fs::read(&path) else { continue };
        if state.transcript(repo, tree)? == journal::whole(&bytes) {
            let subject = format!("{} run {number}", agent.name);
            let reason = "its transcript is kept".to_owned();
            let bytes = bytes.len() as u64;
            items.push(Item { kind: Kind::Journal, subject, reason, bytes, what: What::Path(path) });
        }
    }
    Ok(())
}

/// The trees of transcripts that stay.
fn kept_transcripts(
    repo: &Repository,
    options: PruneOptions,
    now: Timestamp,
) -> Result<Vec<ObjectId>, Error> {
    let mut kept = Vec::new();
    for (_, tip) in repo.list_refs(LOG_REFS)? {
        let commit = repo.read_commit(&tip)?;
        if options.transcripts.is_none_or(|age| now.since(commit.at) < age) {
            kept.push(commit.tree);
        }
    }
    Ok(kept)
}

/// Old rescue refs of which a branch, a tag or a remote's branch has every commit.
fn rescues(
    repo: &Repository,
    options: PruneOptions,
    now: Timestamp,
    items: &mut Vec<Item>,
) -> Result<(), Error> {
    for (name, tip) in repo.list_refs(RESCUE_REFS)? {
        if now.since(repo.read_commit(&tip)?.at) < options.older_than {
            continue;
        }
        let holder = repo.read([
            "for-each-ref",
            "--count=1",
            "--contains",
            tip.as_str(),
            "--format=%(refname:short)",
            "refs/heads",
            "refs/tags",
            "refs/remotes",
        ])?;
        if !holder.is_empty() {
            items.push(of_ref(Kind::Rescue, name, tip, format!("all of it is in {holder}")));
        }
    }
    Ok(())
}

/// The worktree in which merges are tried, and what gates of merges that are over printed.
fn gates(
    store: &Store,
    state: &State,
    options: PruneOptions,
    now: Timestamp,
    items: &mut Vec<Item>,
) -> Result<(), Error> {
    let repo = store.repo();
    if let Some(worktree) = repo.find_trying()?
        && !super::merge::gate::are_at_work(repo)
    {
        let reason = "merges are tried in it; made again for the next gate";
        let item = of_path(repo, Kind::Build, worktree.path, reason);
        items.push(Item { what: What::Trying, ..item });
    }
    for (id, dir) in super::merge::gate::kept(store) {
        let merge = state.get::<Merge>(&id)?;
        if merge.is_none_or(|merge| !merge.status.is_open() && now.since(merge.created) >= options.older_than)
        {
            items.push(of_path(repo, Kind::Gate, dir, "what its gates printed; that merge is over"));
        }
    }
    Ok(())
}

fn refs(
    repo: &Repository,
    state: &State,
    options: PruneOptions,
    now: Timestamp,
    items: &mut Vec<Item>,
) -> Result<(), Error> {
    if let Some(age) = options.transcripts {
        for (name, tip) in repo.list_refs(LOG_REFS)? {
            if now.since(repo.read_commit(&tip)?.at) >= age {
                items.push(of_ref(Kind::Transcripts, name, tip, "as old as you said; nowhere else here"));
            }
        }
    }
    let remotes: BTreeSet<String> = repo
        .config_section("remote")
        .into_iter()
        .filter_map(|(key, _)| Some(key.rsplit_once('.')?.0.to_owned()))
        .collect();
    for (name, tip) in repo.list_refs(TRACKING)? {
        let rest = name.strip_prefix(TRACKING).unwrap_or_default();
        if !remotes
            .iter()
            .any(|remote| rest.strip_prefix(remote.as_str()).is_some_and(|r| r.starts_with('/')))
        {
            items.push(of_ref(Kind::Tracking, name, tip, "that remote is not configured any more"));
        }
    }
    for (name, tip) in repo.list_refs(MERGES)? {
        let id = name.strip_prefix(MERGES).and_then(|id| id.parse::<Id>().ok());
        let merge = id.map(|id| state.get::<Merge>(&id)).transpose()?.flatten();
        if merge.is_some_and(|merge| merge.status == MergeStatus::Landed) {
            items.push(of_ref(Kind::Merge, name, tip, "that merge has landed"));
        }
    }
    Ok(())
}

/// The history of the state from before cuts that are long ago.
fn epochs(store: &Store, options: PruneOptions, now: Timestamp, items: &mut Vec<Item>) -> Result<(), Error> {
    for OldEpoch { name, tip, commits, cut } in store.old_epochs()? {
        if now.since(cut) < options.epochs {
            continue;
        }
        let changes = if commits == 1 { "1 change".to_owned() } else { format!("{commits} changes") };
        let reason = format!("{changes} from before a cut: `oplog` and `log` will not tell of them");
        items.push(of_ref(Kind::Epoch, name, tip, reason));
    }
    Ok(())
}

/// Temporary files that writers of ours left when they were killed, a day ago or longer.
fn temporaries(repo: &Repository) -> Vec<PathBuf> {
    let mut dirs = vec![repo.local_dir()];
    dirs.extend(["cache", "moving", "leases"].map(|name| repo.local_dir().join(name)));
    let worktrees = repo.own_worktrees().unwrap_or_default();
    dirs.extend(worktrees.into_iter().map(|worktree| worktree.git_dir));
    let mut found = Vec::new();
    for entry in dirs.iter().filter_map(|dir| std::fs::read_dir(dir).ok()).flatten().flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let old = entry.metadata().is_ok_and(|meta| {
            meta.is_file()
                && meta.modified().ok().and_then(|at| at.elapsed().ok()).is_some_and(|age| age > OLD_FILE)
        });
        if old && (name.starts_with(".tmp") || name.starts_with("orchestra-index-")) {
            found.push(entry.path());
        }
    }
    found
}

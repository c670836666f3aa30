//! The radar: what agents at work have in their worktrees, forecast against each other while they work.
//!
//! Each supervisor looks at its own agents, when the system says that something changed there, and publishes what it saw
//! in `orchestra/radar/<agent>.json`: a commit of the worktree as it is, and with whom it would conflict. Whoever watches
//! the other agent is woken by that file and tells it. An agent that is alone is not looked at, and where nothing changes
//! nothing is done. All objects go into a directory of their own (`git::Repository::with_scratch`).

mod published;
mod sight;
mod watch;

use super::lease::{self, LeaseInfo};
use super::{overlap, trust};
use crate::git::{Repository, Worktree, few_paths};
use crate::model::{Agent, Id, Name, ObjectId};
use crate::store::Store;
use published::Published;
pub(in crate::orchestrate) use sight::settle;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use watch::{Signal, Watcher};

/// How long an agent must have been quiet before it is looked at.
const QUIET: Duration = Duration::from_millis(700);
/// After how long it is looked at though it never was quiet; also how long a run has before it is looked at first.
const PATIENCE: Duration = Duration::from_secs(2);
/// A look takes at most one part in this many of the time: one that took 100 ms is not repeated for 2 s.
const SHARE: u32 = 20;
/// How many objects may lie apart before they are thrown away, roughly.
const MAX_OBJECTS: usize = 20_000;

/// What a run is to be told: with whom its work would conflict now, or no more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sighting {
    /// Who is to be told.
    pub(super) agent: Id,
    /// The other one.
    pub(super) other: Name,
    /// Where; nothing if they would merge cleanly again.
    pub(super) paths: BTreeSet<String>,
}

impl Sighting {
    /// In words.
    pub(super) fn words(&self) -> String {
        let other = &self.other;
        if self.paths.is_empty() {
            return format!("its work would merge cleanly with that of {other} again");
        }
        format!(
            "its work would conflict with that of {other}, who is at work too: {}",
            few_paths(&self.paths)
        )
    }
}

/// A radar at work.
#[derive(Debug)]
pub(super) struct Radar {
    signals: Sender<Signal>,
    thread: Option<JoinHandle<()>>,
}

impl Radar {
    /// Begins. What it sees is told by `tell`, from a thread of its own.
    pub(super) fn start(store: &Store, tell: impl Fn(Sighting) + Send + 'static) -> Self {
        let (signals, received) = channel();
        let (store, own) = (store.clone(), signals.clone());
        let run = move || match Station::new(store, own, tell) {
            Ok(mut station) => station.run(&received),
            Err(error) => tracing::warn!("failed to begin to look for conflicts: {error}"),
        };
        let thread = std::thread::Builder::new().name("radar".to_owned()).spawn(run);
        let failed = |error: &_| tracing::warn!("failed to begin to look for conflicts: {error}");
        Self { signals, thread: thread.inspect_err(failed).ok() }
    }

    /// Looks at an agent from here on.
    pub(super) fn enter(&self, agent: &Agent, worktree: &Worktree) {
        let entered = Signal::Enter(Box::new((agent.clone(), worktree.clone())));
        // One that could not begin told why.
        let _ = self.signals.send(entered);
    }

    /// Looks no more: its run is over.
    pub(super) fn leave(&self, agent: &Id) {
        let _ = self.signals.send(Signal::Leave(*agent));
    }

    /// Ends, after the look that it is at: a process that ends in one would leave its files. Blocks.
    pub(super) fn end(self) {
        let _ = self.signals.send(Signal::End);
        if let Some(thread) = self.thread {
            let _ = thread.join();
        }
    }
}

/// One agent that is looked at.
struct Watched {
    agent: Agent,
    worktree: Worktree,
    /// Since when something is new, and when that was heard of last.
    changed: Option<(Instant, Instant)>,
    /// Before that it is not looked at again.
    rests_until: Instant,
    /// The worktree's tree and the tip of its branch when it was published.
    seen: Option<(ObjectId, ObjectId)>,
    /// Whom it would conflict with, as far as it was told.
    told: BTreeMap<Id, BTreeSet<String>>,
}

impl Watched {
    fn due(&self) -> Option<Instant> {
        let (first, last) = self.changed?;
        Some((last + QUIET).min(first + PATIENCE).max(self.rests_until))
    }

    fn mark(&mut self) {
        let now = Instant::now();
        self.changed = Some((self.changed.map_or(now, |(first, _)| first), now));
    }
}

/// Who looks.
struct Station<F> {
    store: Store,
    scratch: Repository,
    dir: PathBuf,
    watcher: Watcher,
    own: HashMap<Id, Watched>,
    tell: F,
}

impl<F: Fn(Sighting)> Station<F> {
    fn new(store: Store, signals: Sender<Signal>, tell: F) -> Result<Self, super::Error> {
        let dir = published::directory(store.repo());
        if lease::live(store.repo()).iter().all(|lease| lease.supervisor == crate::process::Identity::own()) {
            published::clear(&dir);
        }
        let scratch = store.repo().with_scratch(&dir.join("objects"))?;
        let mut watcher = Watcher::new(signals);
        watcher.watch_published(&dir);
        Ok(Self { store, scratch, dir, watcher, own: HashMap::new(), tell })
    }

    fn run(&mut self, signals: &Receiver<Signal>) {
        loop {
            let due = self.own.values().filter_map(Watched::due).min();
            let heard = match due {
                Some(at) => signals.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => signals.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match heard {
                Ok(signal) => {
                    if !std::iter::once(signal).chain(signals.try_iter()).all(|signal| self.take(signal)) {
                        break;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let now = Instant::now();
            let due: Vec<Id> = self
                .own
                .iter()
                .filter(|(_, own)| own.due().is_some_and(|at| at <= now))
                .map(|(id, _)| *id)
                .collect();
            for agent in due {
                if let Err(error) = self.look(&agent) {
                    // The next change is another chance.
                    tracing::debug!("failed to look at {agent} for conflicts: {error}");
                }
            }
        }
        for agent in self.own.keys() {
            published::remove(&self.dir, agent);
        }
    }

    /// Takes in what happened; `false` at the end.
    fn take(&mut self, signal: Signal) -> bool {
        match signal {
            Signal::Enter(entered) => {
                let (agent, worktree) = *entered;
                let now = Instant::now();
                let own = Watched {
                    worktree,
                    changed: Some((now, now)),
                    rests_until: now + PATIENCE,
                    seen: None,
                    told: BTreeMap::new(),
                    agent,
                };
                self.own.insert(own.agent.id, own);
                // Those that were alone are no more.
                self.own.values_mut().filter(|own| own.seen.is_none()).for_each(Watched::mark);
            }
            Signal::Leave(agent) => {
                if self.own.remove(&agent).is_some() {
                    self.watcher.forget(&agent);
                    published::remove(&self.dir, &agent);
                }
            }
            Signal::Changed(paths) => {
                for path in paths {
                    if let Some(agent) = self.watcher.agent_of(&path) {
                        self.watcher.was_touched(&agent, &path);
                        if let Some(own) = self.own.get_mut(&agent) {
                            own.mark();
                        }
                    } else if let Some(agent) = published::agent_of(&path) {
                        self.heard_of(&agent);
                    }
                }
            }
            Signal::Overflow => self.own.values_mut().for_each(Watched::mark),
            Signal::End => return false,
        }
        true
    }

    /// Somebody published an agent, or took it back.
    fn heard_of(&mut self, agent: &Id) {
        let published = Published::read(&self.dir, agent);
        if let Some(own) = self.own.get_mut(agent) {
            // Thrown away with the objects.
            if published.is_none() && own.seen.take().is_some() {
                own.mark();
            }
            return;
        }
        let Some(published) = published else { return };
        let Some(lease) = lease::find_live(self.store.repo(), agent) else { return };
        for own in self.own.values_mut() {
            if own.seen.is_none() {
                own.mark();
            }
            let now = published.conflicts.get(&own.agent.id).cloned().unwrap_or_default();
            tell(&self.tell, own, *agent, &lease.name, now);
        }
    }

    /// Looks at an agent of ours, and at what all others have published.
    fn look(&mut self, id: &Id) -> Result<(), super::Error> {
        let Some(own) = self.own.get_mut(id) else { return Ok(()) };
        own.changed = None;
        let repo = self.store.repo();
        let others: Vec<_> = lease::live(repo).into_iter().filter(|lease| lease.agent != *id).collect();
        if others.is_empty() {
            return Ok(());
        }
        trust::require_unchanged(repo)?;
        let begun = Instant::now();
        published::make_room(&self.dir, MAX_OBJECTS);
        let tree = self.scratch.snapshot(&own.worktree)?;
        // New directories: something may have happened in them before they were watched.
        if self.watcher.watch(id, &own.worktree.path, &self.scratch.directories(&tree)?) {
            own.mark();
        }
        let Some(tip) = repo.find_ref(&own.agent.branch)? else { return Ok(()) };
        let seen = Some((tree, tip));
        if own.seen != seen {
            let (agent, (tree, tip)) = (own.agent.clone(), seen.as_ref().expect("it was just seen"));
            let commit = self.scratch.commit_tree(tree, tip)?;
            self.publish(&agent, commit, &others)?;
        }
        if let Some(own) = self.own.get_mut(id) {
            own.seen = seen;
            own.rests_until = Instant::now() + begun.elapsed() * SHARE;
        }
        Ok(())
    }

    /// Says what an agent of ours has, and compares it with what others have.
    fn publish(&mut self, agent: &Agent, commit: ObjectId, others: &[LeaseInfo]) -> Result<(), super::Error> {
        let before = Published::read(&self.dir, &agent.id).map(|before| before.conflicts).unwrap_or_default();
        let mut published = Published { commit, conflicts: before };
        // First, so that of two at once one sees the other.
        published.write(&self.dir, &agent.id)?;
        let there =
            others.iter().filter_map(|lease| Some((lease, Published::read(&self.dir, &lease.agent)?.commit)));
        let (leases, works): (Vec<&LeaseInfo>, Vec<ObjectId>) = there.unzip();
        let found = overlap::conflicts(&self.scratch, &published.commit, &works)?;
        let state = self.store.state()?;
        let mut conflicts = BTreeMap::new();
        for (other, paths) in leases.into_iter().zip(found) {
            let paths = BTreeSet::from_iter(paths);
            sight::record(&self.store, &state, agent, &other.agent, &other.name, &paths)?;
            for (one, (name, id)) in
                [(agent.id, (&other.name, other.agent)), (other.agent, (&agent.name, agent.id))]
            {
                if let Some(own) = self.own.get_mut(&one) {
                    tell(&self.tell, own, id, name, paths.clone());
                }
            }
            if !paths.is_empty() {
                conflicts.insert(other.agent, paths);
            }
        }
        if published.conflicts != conflicts {
            published.conflicts = conflicts;
            published.write(&self.dir, &agent.id)?;
        }
        Ok(())
    }
}

/// Tells a run what it does not know yet.
fn tell(tell: &impl Fn(Sighting), own: &mut Watched, other: Id, name: &Name, now: BTreeSet<String>) {
    let knew = own.told.remove(&other).unwrap_or_default();
    if knew.is_empty() != now.is_empty() || !now.is_subset(&knew) {
        tell(Sighting { agent: own.agent.id, other: name.clone(), paths: now.clone() });
    }
    if !now.is_empty() {
        own.told.insert(other, now);
    }
}

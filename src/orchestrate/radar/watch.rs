//! By which the radar is woken: changes in worktrees and in what others publish, told by the system.
//!
//! Only directories with files that git tracks, or would take, are watched: not build output. Where the system cannot
//! watch (too many directories, no such service) an agent is looked at when it is heard of otherwise, and that is said
//! once in the log.

use crate::git::Worktree;
use crate::model::{Agent, Id};
use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;

/// The most directories that are watched of one agent: the kernel keeps about a kilobyte of each.
const MAX_DIRECTORIES: usize = 20_000;

/// What wakes the radar.
pub(super) enum Signal {
    /// An agent's run begins.
    Enter(Box<(Agent, Worktree)>),
    /// It is over.
    Leave(Id),
    /// Something changed at these paths.
    Changed(Vec<PathBuf>),
    /// More changed than the system could tell.
    Overflow,
    /// It is enough.
    End,
}

/// What is watched, and whose it is.
pub(super) struct Watcher {
    system: Option<RecommendedWatcher>,
    /// For each agent, the root of its worktree and the directories that are watched.
    watched: HashMap<Id, (PathBuf, HashSet<PathBuf>)>,
}

impl Watcher {
    /// Watches nothing yet.
    pub(super) fn new(signals: Sender<Signal>) -> Self {
        let heard = move |event: notify::Result<Event>| {
            let signal = match event {
                Ok(event) if event.need_rescan() => Signal::Overflow,
                Ok(event) if is_change(event.kind) => Signal::Changed(event.paths),
                Ok(_) => return,
                Err(_) => Signal::Overflow,
            };
            let _ = signals.send(signal);
        };
        let system = notify::recommended_watcher(heard);
        let system = system.inspect_err(|error| tracing::warn!("failed to watch worktrees: {error}")).ok();
        Self { system, watched: HashMap::new() }
    }

    /// Watches what is published.
    pub(super) fn watch_published(&mut self, dir: &Path) {
        if let Some(system) = &mut self.system
            && let Err(error) = system.watch(dir, RecursiveMode::NonRecursive)
        {
            tracing::warn!("failed to watch {}: {error}", dir.display());
        }
    }

    /// Watches these directories of an agent's worktree, and its root, and no others. Returns whether there are some that
    /// were not watched before.
    pub(super) fn watch(&mut self, agent: &Id, root: &Path, directories: &[String]) -> bool {
        let Some(system) = &mut self.system else { return false };
        let wanted = std::iter::once(root.to_owned()).chain(directories.iter().map(|dir| root.join(dir)));
        let wanted: HashSet<PathBuf> = wanted.take(MAX_DIRECTORIES).collect();
        let (_, watched) = self.watched.entry(*agent).or_insert_with(|| (root.to_owned(), HashSet::new()));
        watched.retain(|dir| {
            let stays = wanted.contains(dir);
            if !stays {
                // One that is gone is not watched any more.
                let _ = system.unwatch(dir);
            }
            stays
        });
        let mut new = false;
        for dir in wanted {
            if !watched.contains(&dir) && system.watch(&dir, RecursiveMode::NonRecursive).is_ok() {
                new |= watched.insert(dir);
            }
        }
        new
    }

    /// Watches nothing of an agent any more.
    pub(super) fn forget(&mut self, agent: &Id) {
        let Some((_, watched)) = self.watched.remove(agent) else { return };
        for dir in watched {
            let _ = self.system.as_mut().map(|system| system.unwatch(&dir));
        }
    }

    /// Whose worktree a path lies in.
    pub(super) fn agent_of(&self, path: &Path) -> Option<Id> {
        self.watched.iter().find(|(_, (root, _))| path.starts_with(root)).map(|(agent, _)| *agent)
    }

    /// What changed may be a directory that went and came again: it is to be watched anew then.
    pub(super) fn was_touched(&mut self, agent: &Id, path: &Path) {
        if let Some((root, watched)) = self.watched.get_mut(agent)
            && path != root
            && watched.remove(path)
        {
            let _ = self.system.as_mut().map(|system| system.unwatch(path));
        }
    }
}

/// Whether it says that something is not as it was: reading is nobody's business.
fn is_change(kind: EventKind) -> bool {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => false,
        _ => true,
    }
}

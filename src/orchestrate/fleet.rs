//! The fleet: which machines there are, and what each of them was last heard to say. Nothing is guessed: a machine is
//! as old as its heartbeat was seen unchanged by our own clock, or unseen.

use super::Error;
use super::claim::Queue;
use super::heartbeat::Watch;
use crate::model::{Agent, Id, Task, TaskStatus};
use crate::store::{Heartbeat, LiveAgent, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// One machine, as it is known here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    /// Its name in claims and stamps.
    pub name: String,
    /// What it calls itself; empty if it does not say.
    pub host: String,
    /// Whether it is this clone.
    pub own: bool,
    /// When something was heard of it.
    pub presence: Presence,
    /// The agents that it said run there.
    pub agents: Vec<LiveAgent>,
    /// The tasks that it holds, by the state here.
    pub holds: Vec<Id>,
}

/// What is known of whether a machine is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Its heartbeat was seen unchanged for so long by our own clock: less than it asks others to wait.
    Heard(Duration),
    /// As long as that, or longer.
    Silent(Duration),
    /// The remote has no heartbeat of it.
    Unseen,
}

impl Presence {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Heard(_) => "heard",
            Self::Silent(_) => "silent",
            Self::Unseen => "unseen",
        }
    }

    /// For how long its heartbeat was seen unchanged.
    pub const fn unchanged(self) -> Option<Duration> {
        match self {
            Self::Heard(span) | Self::Silent(span) => Some(span),
            Self::Unseen => None,
        }
    }
}

/// Every machine that the state or the remote names; this one first. Asks the remote, if the queue has one.
pub fn machines(queue: &Queue) -> Result<Vec<Machine>, Error> {
    let view = queue.look()?;
    let mut heard = BTreeMap::new();
    for (name, heartbeat) in queue.read_machines(&view)? {
        let unchanged = queue.machine_silence(&name).unwrap_or_default();
        heard.insert(name, (heartbeat, unchanged));
    }
    assemble(queue.store(), heard)
}

/// The same as the remote had it when it was last asked, and how long ago that was, if that is known. Asks nobody.
pub fn remembered(queue: &Queue) -> Result<(Vec<Machine>, Option<Duration>), Error> {
    let (store, Some(remote)) = (queue.store(), queue.remote()) else {
        return Ok((assemble(queue.store(), BTreeMap::new())?, None));
    };
    let clock = &**store.clock();
    let watch = Watch::load(store.repo(), clock);
    let mut heard = BTreeMap::new();
    for (name, commit, unchanged) in watch.machines(&remote.name) {
        // No ref here holds it, so it may be collected.
        if store.repo().has_object(commit)
            && let Some(heartbeat) = store.read_heartbeat(commit, name)?
        {
            heard.insert(name.to_owned(), (heartbeat, unchanged));
        }
    }
    Ok((assemble(store, heard)?, watch.since_answer(&remote.name, clock)))
}

/// The machines of the state and those that were heard of, with what they said and for how long that is unchanged.
fn assemble(
    store: &Store,
    mut heard: BTreeMap<String, (Heartbeat, Duration)>,
) -> Result<Vec<Machine>, Error> {
    let own = store.machine()?;
    let state = store.state()?;
    let agents = state.all::<Agent>()?;
    let mut names: BTreeSet<String> = heard.keys().cloned().collect();
    names.insert(own.clone());
    names.extend(agents.into_iter().filter(|agent| agent.removed.is_none()).map(|agent| agent.machine));
    let mut holds = BTreeMap::<String, Vec<Id>>::new();
    for task in state.all::<Task>()? {
        if let (Some(holder), TaskStatus::Started) = (task.holder, task.status) {
            names.insert(holder.clone());
            holds.entry(holder).or_default().push(task.id);
        }
    }
    // What the state names comes from elsewhere too.
    names.retain(|name| Store::is_machine(name));
    let mut machines: Vec<Machine> = names
        .into_iter()
        .map(|name| {
            let (presence, host, agents) = match heard.remove(&name) {
                None => (Presence::Unseen, String::new(), Vec::new()),
                Some((heartbeat, unchanged)) => {
                    let is_heard = unchanged < Duration::from_secs(heartbeat.ttl);
                    let presence =
                        if is_heard { Presence::Heard(unchanged) } else { Presence::Silent(unchanged) };
                    (presence, heartbeat.host, heartbeat.agents)
                }
            };
            let (own, holds) = (name == own, holds.remove(&name).unwrap_or_default());
            Machine { name, host, own, presence, agents, holds }
        })
        .collect();
    machines.sort_by_key(|machine| !machine.own);
    Ok(machines)
}

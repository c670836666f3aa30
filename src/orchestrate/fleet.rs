//! The fleet: which machines there are, and what each of them was last heard to say. Nothing is guessed: a machine is
//! as old as its heartbeat was seen unchanged by our own clock, or unseen.

use super::Error;
use super::claim::Queue;
use crate::model::{Agent, Id, Task, TaskStatus};
use crate::store::LiveAgent;
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
    let heartbeats = queue.read_machines(&view)?;
    let store = queue.store();
    let own = store.machine()?;
    let state = store.state()?;
    let agents = state.all::<Agent>()?;
    let mut names: BTreeSet<String> = heartbeats.keys().cloned().collect();
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
    names.retain(|name| crate::store::Store::is_machine(name));
    let mut machines: Vec<Machine> = names
        .into_iter()
        .map(|name| {
            let heartbeat = heartbeats.get(&name);
            let presence = heartbeat.map_or(Presence::Unseen, |heartbeat| {
                let unchanged = queue.machine_silence(&name).unwrap_or_default();
                if unchanged < Duration::from_secs(heartbeat.ttl) {
                    Presence::Heard(unchanged)
                } else {
                    Presence::Silent(unchanged)
                }
            });
            Machine {
                host: heartbeat.map(|heartbeat| heartbeat.host.clone()).unwrap_or_default(),
                own: name == own,
                presence,
                agents: heartbeat.map(|heartbeat| heartbeat.agents.clone()).unwrap_or_default(),
                holds: holds.remove(&name).unwrap_or_default(),
                name,
            }
        })
        .collect();
    machines.sort_by_key(|machine| !machine.own);
    Ok(machines)
}

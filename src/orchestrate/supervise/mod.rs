//! Runs: started, watched, ended, recorded.
//!
//! A dispatcher owns what runs; each run is one task that never talks to the outside but through [`Progress`]. What
//! is true about a run is its exit status, the signals that we sent and its branch's tip, never what its stream
//! claims.

mod aside;
mod bounds;
mod dispatcher;
mod full;
mod heed;
mod meter;
mod notebook;
mod outcome;
mod park;
mod progress;
mod question;
mod record;
mod request;
mod room;
mod run;
mod save;
mod tell;
mod throttle;
mod turn;

pub use dispatcher::{SuperviseOptions, Supervisor};
pub use progress::{Finished, Progress};
pub use question::Ruling;
pub(super) use question::{not_counted, weigh, withdraw_questions};
pub(crate) use record::{RunRecord, chain, write_run};
pub use request::Request;
pub(crate) use save::own_commits;
pub use turn::{Stand, Turn, Turns};

use super::breaker::Breaker;
use super::budget::Purse;
use super::lease::Lease;
use super::prepare::Prepared;
use super::sandbox::Confinement;
use super::slots::Slot;
use super::status::PATIENCE;
use crate::agent::{Adapter, LaunchRequest};
use crate::config::Profile;
use crate::git::Worktree;
use crate::model::{Agent, ObjectId, Sandbox};
use crate::process::Confiners;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

/// A run that is ready to be started: its agent is in the state, its worktree is there, its lease is held.
#[derive(Debug)]
pub struct Plan {
    /// The agent, with this run in it.
    pub agent: Agent,
    /// The run's number.
    pub run: u32,
    /// The lease, which the run holds from here on.
    pub lease: Lease,
    /// The agent's worktree.
    pub worktree: Worktree,
    /// The branch's tip before the run.
    pub tip: ObjectId,
    /// How its program is spoken to.
    pub adapter: Arc<dyn Adapter>,
    /// How it is started.
    pub launch: LaunchRequest,
    /// Its whole environment, but for what the adapter adds.
    pub env: BTreeMap<OsString, OsString>,
    /// When it must be over.
    pub limits: Limits,
    /// What it may use.
    pub purse: Purse,
    /// What opens where its model refuses to serve it for a limit; none for programs without a model of their own.
    pub breaker: Option<Breaker>,
    /// The right to run beside those of other processes, which it gives back while it has no process.
    pub slot: Option<Slot>,
    /// What a person said before, by the questions' subjects.
    pub decided: BTreeMap<String, Ruling>,
    /// What its uncommitted work is called when it is committed for it.
    pub title: String,
    /// How its program is confined, if it is.
    pub(super) confinement: Option<Confinement>,
    /// What confines it.
    pub(super) confiners: Confiners,
    /// What was done for its worktree.
    pub(super) prepared: Prepared,
}

impl Plan {
    /// What its program is confined by.
    pub(super) fn sandbox(&self) -> Sandbox {
        self.confinement.as_ref().map(|confinement| confinement.level).unwrap_or_default()
    }
}

/// How long a run may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long it may be silent.
    pub idle: Option<Duration>,
    /// How long it may take as a whole.
    pub total: Option<Duration>,
    /// After how much silence that nothing explains somebody is told of it.
    pub silence: Duration,
    /// How long it may go on after it said that it is done.
    pub after_result: Duration,
    /// The bytes that must be free where it works, for it to be believed that the disk has room.
    pub space: u64,
}

impl Limits {
    /// The limits of a profile, on a disk of which `space` bytes must be free.
    pub const fn of(profile: &Profile, space: u64) -> Self {
        let (idle, total) = (profile.idle_timeout, profile.timeout);
        Self { idle, total, silence: PATIENCE, after_result: Duration::from_secs(10), space }
    }
}

#[cfg(test)]
mod tests;

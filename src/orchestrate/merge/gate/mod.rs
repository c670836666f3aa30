//! Gates: what must succeed on the accumulated commit before it lands.
//!
//! They run in a worktree of ours ([`bench`]), first on everything that was merged; when that fails, on what was merged
//! up to some branch, until it is known with which one they begin to fail (`bisect`). What they said is kept here
//! ([`kept`]), so that a process that goes on does not run them again, and in the merge's record, for people. What is
//! run comes from settings alone.

mod bench;
mod bisect;
mod judge;
mod kept;
mod stage;

pub use bench::{are_at_work, mend, remove};
pub use stage::GateFailure;
pub(super) use stage::{AGENT, Gated, about, fenced, still_asks};

use crate::model::Id;
use crate::orchestrate::{Hook, Surroundings};
use crate::store::Store;
use std::path::PathBuf;

/// A command that must succeed before a merge lands.
#[derive(Debug, Clone)]
pub struct Gate {
    /// Its name.
    pub name: String,
    /// What is run, how long it may take, and what it sees of the user's environment. A program that is a path with
    /// slashes and does not begin with one is one of what was merged.
    pub hook: Hook,
    /// How often it is run again on the same commit when it fails.
    pub retries: u32,
}

/// What merges have to pass.
#[derive(Debug, Clone, Copy)]
pub enum Gating<'a> {
    /// Nothing, and these are the names of gates that somebody left out.
    LeftOut(&'a [String]),
    /// These.
    Trial(Trial<'a>),
}

/// Gates that are run, and how.
#[derive(Clone, Copy)]
pub struct Trial<'a> {
    /// The gates, in order.
    pub gates: &'a [Gate],
    /// How many agents are asked to mend a branch with which one fails, one after the other, before anything else.
    pub mends: u32,
    /// Whether a branch with which one fails is left out without asking a person.
    pub puts_aside: bool,
    /// What they find around them.
    pub surroundings: &'a Surroundings,
    /// Whether anybody still waits for them.
    pub wanted: &'a dyn Fn() -> bool,
}

impl std::fmt::Debug for Trial<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Trial").field("gates", &self.gates).finish_non_exhaustive()
    }
}

/// Where everything about gates is kept on this machine.
fn directory(store: &Store) -> PathBuf {
    store.repo().local_dir().join("gates")
}

/// Hands what gates said for one merge on to the one that goes on with its commits.
pub(super) fn hand_on(store: &Store, from: &Id, to: &Id) -> Result<(), super::Error> {
    kept::Kept::hand_on(store, from, to)
}

/// What was kept of gates, by the merge.
pub fn kept(store: &Store) -> Vec<(Id, PathBuf)> {
    let entries = std::fs::read_dir(directory(store)).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path()))).collect()
}

//! Which runs go on here, and what each has used so far: the records have nothing of them yet.

use super::evidence::Evidence;
use super::lease;
use crate::git::Repository;
use crate::model::{Id, Usage};
use std::collections::HashMap;

/// The runs that went on when it was made.
#[derive(Debug)]
pub(super) struct Running<'r> {
    repo: &'r Repository,
    runs: HashMap<Id, u32>,
}

impl<'r> Running<'r> {
    pub(super) fn of(repo: &'r Repository) -> Self {
        let runs = lease::live(repo).into_iter().map(|info| (info.agent, info.run)).collect();
        Self { repo, runs }
    }

    /// Whether any run of the agent goes on.
    pub(super) fn has(&self, agent: &Id) -> bool {
        self.runs.contains_key(agent)
    }

    /// Whether this run goes on.
    pub(super) fn is(&self, agent: &Id, run: u32) -> bool {
        self.runs.get(agent) == Some(&run)
    }

    /// What a run that goes on used, as far as its journal says.
    pub(super) fn usage(&self, agent: &Id, run: u32) -> Option<Usage> {
        if !self.is(agent, run) {
            return None;
        }
        Evidence::read(self.repo, agent, run).usage
    }
}

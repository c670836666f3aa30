//! Which runs go on here, and what each has used so far: the records have nothing of them yet.

use super::evidence::Evidence;
use super::lease;
use crate::git::Repository;
use crate::model::{Event, EventKind, Id, Usage};
use crate::store::journal::{self, Entry};
use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;

/// So many bytes of a journal are looked through for what a program says first.
const BEGINNING: u64 = 256 << 10;

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

    /// The model that a run which goes on uses, as its program said when it was ready.
    pub(super) fn model(&self, agent: &Id, run: u32) -> Option<String> {
        if !self.is(agent, run) {
            return None;
        }
        let mut beginning = Vec::new();
        let file = File::open(journal::path(self.repo, agent, run)).ok()?;
        file.take(BEGINNING).read_to_end(&mut beginning).ok()?;
        journal::parse(&beginning).find_map(|entry| match entry {
            Entry::Event(Event { kind: EventKind::Ready { model, .. }, parent: None, .. }) => model,
            _ => None,
        })
    }
}

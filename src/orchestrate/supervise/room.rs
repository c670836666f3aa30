//! Whether another run may start beside those that run: not with too little memory left.

use crate::git::Repository;
use crate::orchestrate::lease::{self, LeaseState};
use crate::orchestrate::measure::bytes;
use crate::process::{Identity, available_memory};
use std::time::Duration;

/// The memory that must be left before another one starts.
pub(super) struct Room {
    repo: Box<Repository>,
    floor: u64,
    /// Whether the next one waits for memory now.
    pub(super) is_short: bool,
}

impl Room {
    /// How often one who waits looks again.
    pub(super) const POLL: Duration = Duration::from_millis(500);

    pub(super) fn new(repo: &Repository, floor: u64) -> Self {
        Self { repo: Box::new(repo.clone()), floor, is_short: false }
    }

    /// Why another one is not to start beside the `active` ones of this session; `None` if it may. With nobody to
    /// wait for it may always: memory that others take is not given back for our waiting.
    pub(super) fn shortage(&mut self, active: usize) -> Option<String> {
        let left = available_memory().filter(|left| *left < self.floor);
        let left = left.filter(|_| active > 0 || self.others_run());
        self.is_short = left.is_some();
        left.map(|left| {
            format!(
                "it waits until another one has ended: {} of memory are left, and `memory-floor` asks for {}",
                bytes(left),
                bytes(self.floor)
            )
        })
    }

    fn others_run(&self) -> bool {
        let own = Identity::own();
        lease::live(&self.repo)
            .iter()
            .any(|lease| lease.state == LeaseState::Running && lease.supervisor != own)
    }
}

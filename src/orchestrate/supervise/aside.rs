//! A run that waits for a person gives its place among those that run at once to another: nobody knows how long that
//! takes.

use super::run::Live;
use crate::orchestrate::Slot;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// The right to wait without a place. There are as many of these as places, as the processes of those that wait stay.
pub(super) struct Aside {
    _permit: OwnedSemaphorePermit,
    _slot: Option<Slot>,
}

impl Live {
    /// Gives its place to somebody else, if all that it waits with are decisions.
    pub(super) fn step_aside(&mut self) {
        if self.aside.is_some() || self.open.iter().any(|open| open.kept.is_none()) {
            return;
        }
        let Ok(permit) = Arc::clone(&self.context.asides).try_acquire_owned() else { return };
        let slot = self.plan.slot.as_ref().map(Slot::aside);
        // One that cannot be told keeps its place.
        if slot.as_ref().is_none_or(|slot| slot.attempt(&self.context.repo).unwrap_or(false)) {
            self.make_room();
            self.aside = Some(Aside { _permit: permit, _slot: slot });
        }
    }

    /// Takes a place again once nothing is open. It goes on in any case: who answered waits for that, and one more for a
    /// while is better.
    pub(super) fn step_back(&mut self) {
        if !self.open.is_empty() || self.aside.take().is_none() {
            return;
        }
        self.take_place();
    }

    /// Takes a place if there is one.
    pub(super) fn take_place(&mut self) {
        if self.seat.is_none() {
            self.seat = Arc::clone(&self.context.seats).try_acquire_owned().ok();
        }
        if let Some(slot) = &self.plan.slot {
            let _ = slot.attempt(&self.context.repo);
        }
    }
}

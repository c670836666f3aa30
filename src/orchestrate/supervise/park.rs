//! A run whose model is over a limit: it waits without a process, and goes on by itself when the limit has passed.

use super::Request;
use super::run::Live;
use super::tell::Pause;
use crate::model::{Event, EventKind, Outcome, Timestamp, Usage};
use crate::orchestrate::Slot;
use crate::orchestrate::breaker::Admission;
use crate::orchestrate::control::{Asked, Refusal};
use crate::process::Child;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// How often one that waits looks whether it still must.
pub(super) const LOOK: Duration = Duration::from_millis(500);

impl Live {
    /// Waits until nothing of its program is over a limit. Whether the run may start then; if not, its outcome is set.
    pub(super) async fn is_admitted(&mut self, requests: &mut mpsc::Receiver<Asked>) -> bool {
        let Some(breaker) = self.plan.breaker.clone() else { return true };
        let mut told: Option<Timestamp> = None;
        loop {
            let now = self.context.clock.now();
            // Only who can start at once is the one to try.
            let admission = if self.seat.is_some() { breaker.admit(now) } else { Ok(breaker.look(now)) };
            match admission {
                Ok(Admission::Wait(open)) => {
                    if told != Some(open.until) {
                        told = Some(open.until);
                        self.begin_journal();
                        let kind = EventKind::Parked { until: open.until, why: open.why };
                        let at = self.context.clock.now();
                        self.tell_event(Event { at, parent: None, kind }).await;
                    }
                    self.make_room();
                }
                _ if self.seat.is_none() => {
                    if !self.takes_its_turn(requests).await {
                        return false;
                    }
                    continue;
                }
                Ok(Admission::Go) => return true,
                Ok(Admission::Try) => {
                    self.begin_journal();
                    self.notice("the limit of its model should have passed: it tries, for all that wait")
                        .await;
                    return true;
                }
                Err(error) => {
                    // Better once too often than never.
                    tracing::warn!("{error}");
                    return true;
                }
            }
            if self.is_over() {
                return false;
            }
            tokio::select! {
                () = sleep_until(Instant::now() + LOOK) => {}
                Some(asked) = requests.recv() => if self.is_ended_by(asked).await { return false },
            }
        }
    }

    /// Lets somebody else run while it has no process.
    pub(super) fn make_room(&mut self) {
        if self.seat.take().is_some() {
            self.context.freed.notify_one();
        }
        if let Some(slot) = &self.plan.slot {
            slot.release();
        }
    }

    /// Waits until it may run beside the others again. If it is not to, its outcome is set.
    async fn takes_its_turn(&mut self, requests: &mut mpsc::Receiver<Asked>) -> bool {
        let (seats, slot) = (Arc::clone(&self.context.seats), self.plan.slot.clone());
        let mut turn = pin!(seats.acquire_owned());
        let mut told = false;
        loop {
            let wait = if told { LOOK } else { Duration::ZERO };
            tokio::select! {
                biased;
                seat = &mut turn, if self.seat.is_none() => self.seat = seat.ok(),
                Some(asked) = requests.recv() => if self.is_ended_by(asked).await { return false },
                () = sleep_until(Instant::now() + wait) => {}
            }
            if self.is_over() {
                return false;
            }
            // Better one too many than one that never goes on.
            let attempt = |slot: &Slot| slot.attempt(&self.context.repo).unwrap_or(true);
            if self.seat.is_some() && slot.as_ref().is_none_or(attempt) {
                return true;
            }
            if !std::mem::replace(&mut told, true) {
                self.notice("the limit of its model should have passed: it waits for its turn").await;
            }
        }
    }

    /// Whether its time is over while it waits; its outcome is set then.
    pub(super) fn is_over(&mut self) -> bool {
        if self.deadline().is_some_and(|at| at <= Instant::now()) {
            self.outcome = Some(Outcome::stopped("deadline"));
            return true;
        }
        let time_over = self.meter.time_over().filter(|at| *at <= Instant::now());
        let over = time_over.and_then(|_| self.meter.purse().used_up(&self.meter.spent()));
        if let Some(over) = over {
            self.outcome = Some(Outcome::used_up(over));
        }
        over.is_some()
    }

    /// Takes a wish while it waits. Whether that ends it; its outcome is set then.
    pub(super) async fn is_ended_by(&mut self, asked: Asked) -> bool {
        match &asked.request {
            // Its next process is about to be told how to go on.
            Request::Message { text, .. } => {
                self.plan.launch.add_words(text);
                self.keep_words(text, " (it hears that when it goes on)").await;
                asked.answer(Ok(()));
                false
            }
            Request::Stop { by, .. } | Request::Kill { by, .. } => {
                self.outcome = Some(Outcome::stopped(by.clone()));
                asked.answer(Ok(()));
                true
            }
            _ => {
                asked.answer(Err(Refusal::Queued));
                false
            }
        }
    }

    /// Says to all others that its model serves it; or ends its process, if it tries in vain.
    pub(super) async fn tell_limits(&mut self, child: &Child) {
        let Some(breaker) = self.plan.breaker.clone() else { return };
        if std::mem::take(&mut self.throttle.news)
            && let Err(error) = breaker.served(self.context.clock.now())
        {
            tracing::warn!("{error}");
        }
        if self.is_ended() {
            return;
        }
        if let Some(limited) = self.throttle.gives_up() {
            let text =
                format!("its model is over a limit ({}): it waits, and goes on by itself", limited.why);
            self.pause = Some(Pause::Limit);
            self.notice(&text).await;
            child.stop();
        }
    }

    /// Whether the process that is over ended for a limit that passes, so that the run goes on later. Opens the breaker.
    pub(super) async fn is_parked(&mut self, pause: Option<Pause>) -> bool {
        let failed = matches!(self.outcome, Some(Outcome::Failed { .. }));
        let (parking, limited) = (pause == Some(Pause::Limit), self.throttle.take());
        let may = !self.is_ended_for_good() && pause != Some(Pause::Interrupt);
        let Some(breaker) = self.plan.breaker.clone().filter(|_| may) else { return false };
        // Served at the last moment, when we had ended its process already, it goes on as well.
        if let Some(limited) = limited.filter(|_| parking || failed) {
            if let Err(error) = breaker.trip(&limited, self.context.clock.now()) {
                tracing::warn!("{error}");
                return false;
            }
            if !parking {
                let why = limited.why;
                self.notice(&format!(
                    "its model is over a limit ({why}): it goes on by itself when that has passed"
                ))
                .await;
            }
        } else if !parking {
            return false;
        }
        true
    }

    /// What all processes of the run used.
    pub(super) fn usage(&self) -> Usage {
        let mut usage = self.carried;
        usage += self.decoder.usage();
        usage
    }

    /// Makes the figures of one process those of the run.
    pub(super) fn add_carried(&self, event: &mut Event) {
        if let EventKind::Usage { usage, .. } | EventKind::Result { usage, .. } = &mut event.kind {
            let own = *usage;
            *usage = self.carried;
            *usage += own;
        }
    }
}

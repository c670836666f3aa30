//! What bounds a run that lives: time, silence, and budgets.

use super::Progress;
use super::record::chain;
use super::run::Live;
use crate::model::Standing;
use crate::orchestrate::budget::way_out;
use crate::process::Child;
use tokio::time::Instant;

impl Live {
    /// The next moment at which it must be ended, and why.
    pub(super) fn next_limit(&self, heard: Instant) -> Option<(Instant, &'static str)> {
        if self.is_ended() {
            return None;
        }
        let limits = self.plan.limits;
        let idle = limits.idle.filter(|_| self.open.is_empty()).map(|span| (heard + span, "idle"));
        let total = self.deadline().map(|at| (at, "deadline"));
        let done = self.done_since.map(|since| (since + limits.after_result, "done"));
        let listening = self.listens_until.map(|at| (at, "listening"));
        let time = self.meter.time_over().map(|at| (at, "budget"));
        [idle, total, done, listening, time].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    /// When it must be over, whatever it waited for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.plan.limits.total.map(|span| self.begun + span)
    }

    /// When somebody is to be told that it says nothing; never twice of one silence, nor of a program that tells nothing
    /// but its output, nor after its turn.
    pub(super) fn silent_at(&self, heard: Instant) -> Option<Instant> {
        let speaks = self.plan.agent.program != "command" && !self.decoder.is_idle();
        let at = heard + self.plan.limits.silence;
        (speaks && !self.told_silent && !self.is_ended()).then_some(at)
    }

    /// Whether we have ended it.
    pub(super) const fn is_ended(&self) -> bool {
        self.stopped_by.is_some()
            || self.overdue
            || self.refused.is_some()
            || self.used_up.is_some()
            || self.pause.is_some()
    }

    /// Tells that it has been silent for long, where nothing explains that: no tool, no question, no pause of its model.
    pub(super) async fn tell_silence(&mut self, heard: Instant) {
        self.told_silent = true;
        let waits = self.evidence.waits(self.context.clock.now()).is_some() || !self.open.is_empty();
        if waits || self.evidence.tool().is_some() {
            return;
        }
        let silent_ms = u64::try_from(heard.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.tell(None, Progress::Silent { agent: self.plan.agent.id, silent_ms }).await;
    }

    pub(super) async fn over(&mut self, child: &mut Child, reason: &'static str) {
        if reason == "budget" {
            return self.measure(child).await;
        }
        if reason == "listening" {
            self.listens_until = None;
            return self.settle(child);
        }
        if reason == "done" {
            self.overdue = true;
            self.notice("it said that it was done and did not end; it was ended").await;
        } else {
            self.stopped_by = Some(reason.to_owned());
            let words = if reason == "idle" { "it was silent for too long" } else { "its time is over" };
            self.notice(&format!("{words}; it is ended")).await;
        }
        child.stop();
    }

    /// Warns of a budget that is used up soon, and ends the run for one that is.
    pub(super) async fn measure(&mut self, child: &mut Child) {
        if self.is_ended() {
            return;
        }
        let verdict = self.meter.verdict(self.decoder.is_idle());
        for near in verdict.near.iter().filter(|near| Some(**near) != verdict.end) {
            let share = (u128::from(near.used) * 100).checked_div(u128::from(near.limit)).unwrap_or(100);
            self.notice(&format!("{share} % of its budget is used ({near})")).await;
        }
        for over in &verdict.over {
            self.notice(&self.spent_words(over)).await;
        }
        if let Some(over) = verdict.end {
            self.used_up = Some(over);
            self.notice(&format!("it is ended, and what it did is kept: {}", self.spent_words(&over))).await;
            child.stop();
        }
    }

    /// Looks what others used of the budgets that are theirs too.
    pub(super) async fn look(&mut self) {
        let (purse, store) = (self.meter.purse().clone(), self.context.store.clone());
        let looked = tokio::task::spawn_blocking(move || purse.look(&store)).await;
        let looked = looked.ok().and_then(|looked| {
            looked
                .inspect_err(|error| tracing::warn!("failed to add up what others used: {}", chain(error)))
                .ok()
        });
        self.meter.looked(looked);
    }

    /// A budget that is used up, and what would help.
    pub(super) fn spent_words(&self, over: &Standing) -> String {
        let way = way_out(over, Some(self.plan.agent.name.as_str()), self.meter.purse().period());
        format!("its budget is used up ({over}); {way}")
    }
}

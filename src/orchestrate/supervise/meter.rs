//! What one run uses of its budgets, from what its program tells while it works. Decides; does nothing itself.

use crate::model::{Budget, ContextUse, Event, EventKind, Measure, Spending, Standing, Usage};
use crate::orchestrate::budget::Purse;
use std::collections::HashSet;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is looked what others use of a budget that is theirs too.
const LOOK: Duration = Duration::from_secs(5);

/// The meter of one run.
#[derive(Debug)]
pub(super) struct Meter {
    purse: Purse,
    begun: Instant,
    used: Usage,
    /// Calls of tools without an answer: the model is asked again when they have one.
    calls: HashSet<String>,
    /// What was used up first, and how many turns there were then.
    crossed: Option<(Standing, u64)>,
    /// When it is looked next what others use.
    pub(super) look_at: Option<Instant>,
}

/// From how full a window is told, in hundredths.
const FULL: u64 = 80;

/// How full the window of a model is.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// What was heard last.
    pub(super) last: Option<ContextUse>,
    told: bool,
}

impl Window {
    /// Takes what an event says of it. Returns it once it is nearly full, and again when it was not meanwhile: a
    /// conversation that was summed up fills anew.
    pub(super) fn learn(&mut self, event: &Event) -> Option<ContextUse> {
        let EventKind::Usage { context: Some(context), .. } = &event.kind else { return None };
        self.last = Some(*context);
        let full = context.percent().is_some_and(|percent| percent >= FULL);
        let told = std::mem::replace(&mut self.told, full);
        (full && !told).then_some(*context)
    }
}

/// What is to be said and done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    /// What is used up soon.
    pub(super) near: Vec<Standing>,
    /// What is used up by one that is done, or beside what it must end for.
    pub(super) over: Vec<Standing>,
    /// Why the run must end now.
    pub(super) end: Option<Standing>,
}

impl Meter {
    pub(super) fn new(purse: Purse) -> Self {
        let (begun, calls) = (Instant::now(), HashSet::new());
        let look_at = purse.is_shared().then(|| begun + LOOK);
        Self { purse, begun, used: Usage::default(), calls, crossed: None, look_at }
    }

    /// The purse, for whoever looks what others used.
    pub(super) const fn purse(&self) -> &Purse {
        &self.purse
    }

    /// What others used was looked up.
    pub(super) fn looked(&mut self, others: Option<[Spending; 2]>) {
        if let Some(others) = others {
            self.purse.settle(&others);
        }
        self.look_at = Some(Instant::now() + LOOK);
    }

    /// What an event says of it.
    pub(super) fn learn(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Usage { usage, .. } => self.used = *usage,
            EventKind::Result { usage, .. } => {
                self.used = *usage;
                if event.parent.is_none() {
                    self.calls.clear();
                }
            }
            EventKind::Turn { number } if event.parent.is_none() => {
                self.used.turns = self.used.turns.max(*number);
            }
            EventKind::ToolCall { call, .. } => {
                self.calls.insert(call.clone());
            }
            EventKind::ToolResult { call, .. } => {
                self.calls.remove(call);
            }
            _ => {}
        }
    }

    /// Another process of the same run begins.
    pub(super) fn go_on(&mut self) {
        self.calls.clear();
    }

    /// What is left of the strictest budgets.
    pub(super) fn left(&self) -> Budget {
        self.purse.left().after(&self.spent())
    }

    /// What the run used by now.
    pub(super) fn spent(&self) -> Spending {
        let time_ms = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        Spending { usage: self.used, time_ms }
    }

    /// What follows from what was used by now. One that is `done` is not ended for what its last answer took; and an
    /// answer that asks for nothing more may come to its end.
    pub(super) fn verdict(&mut self, done: bool) -> Verdict {
        if self.purse.is_empty() {
            return Verdict::default();
        }
        let spent = self.spent();
        let near = self.purse.warnings(&spent);
        let turns = self.used.turns;
        if self.crossed.is_none() {
            self.crossed = self.purse.used_up(&spent).map(|over| (over, turns));
        }
        let goes_on = |(over, then): &(Standing, u64)| {
            matches!(over.measure, Measure::Turns | Measure::Time) || !self.calls.is_empty() || turns > *then
        };
        let over = self.crossed.filter(|_| !done).filter(goes_on);
        // With the figures of now.
        let end = over.map(|(over, _)| self.purse.again(&over, &spent).unwrap_or(over));
        let over = if done || end.is_some() { self.untold(end) } else { Vec::new() };
        Verdict { near, over, end }
    }

    /// What is used up of which nobody was told so, but for what is told as what `ended` the run.
    pub(super) fn untold(&mut self, ended: Option<Standing>) -> Vec<Standing> {
        let spent = self.spent();
        let mut over = self.purse.untold(&spent);
        over.retain(|one| ended.is_none_or(|ended| (ended.scope, ended.measure) != (one.scope, one.measure)));
        over
    }

    /// When its time is used up if it goes on.
    pub(super) fn time_over(&self) -> Option<Instant> {
        let left = self.purse.left().time_ms?;
        Some(self.begun + Duration::from_millis(left))
    }

    /// How the limit stands for which the program ended itself, if it is one of ours.
    pub(super) fn program_kept(&self, limit: Option<Measure>) -> Option<Standing> {
        let (limit, spent) = (limit?, self.spent());
        let crossed = self.crossed.filter(|(over, _)| over.measure == limit);
        let again = crossed.and_then(|(over, _)| self.purse.again(&over, &spent));
        again.or_else(|| self.purse.strictest(limit, &spent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cost, Scope, Timestamp};

    fn meter(budget: Budget) -> Meter {
        Meter::new(Purse::own(budget))
    }

    fn learn(meter: &mut Meter, kind: EventKind) {
        meter.learn(&Event { at: Timestamp(1), parent: None, kind });
    }

    fn usage(output: u64, turns: u64) -> EventKind {
        usage_of(Usage { output, turns, ..Usage::default() })
    }

    fn usage_of(usage: Usage) -> EventKind {
        EventKind::Usage { usage, context: None }
    }

    fn call(id: &str) -> EventKind {
        EventKind::ToolCall { call: id.into(), tool: "Bash".into(), summary: String::new(), target: None }
    }

    fn end(meter: &mut Meter) -> Option<String> {
        meter.verdict(false).end.map(|over| over.to_string())
    }

    #[test]
    fn an_answer_that_asks_for_nothing_more_may_end() {
        let mut meter = meter(Budget { tokens: Some(100), ..Budget::default() });
        learn(&mut meter, EventKind::Turn { number: 1 });
        learn(&mut meter, usage(80, 1));
        let verdict = meter.verdict(false);
        assert_eq!((verdict.near.len(), verdict.end), (1, None));
        learn(&mut meter, usage(120, 1));
        assert_eq!(end(&mut meter), None, "it may be the last answer");
        let done = meter.verdict(true);
        let over: Vec<_> = done.over.iter().map(Standing::to_string).collect();
        assert_eq!((over.as_slice(), done.end), (&["max-tokens: 120 of 100 tokens".to_owned()][..], None));
        assert_eq!(meter.verdict(true), Verdict::default(), "it is done, and that was told");
        learn(&mut meter, EventKind::Turn { number: 2 });
        assert_eq!(end(&mut meter).as_deref(), Some("max-tokens: 120 of 100 tokens"));
    }

    #[test]
    fn one_that_will_ask_again_ends_at_once() {
        let mut meter = meter(Budget { tokens: Some(100), turns: Some(2), ..Budget::default() });
        learn(&mut meter, call("a"));
        learn(&mut meter, usage(99, 1));
        assert_eq!(end(&mut meter), None);
        learn(&mut meter, usage(100, 1));
        assert_eq!(end(&mut meter).as_deref(), Some("max-tokens: 100 of 100 tokens"));
    }

    #[test]
    fn what_was_used_up_first_ends_it() {
        let cost =
            |usd| usage_of(Usage { output: 1, turns: 1, cost: Cost::reported(usd), ..Usage::default() });
        let fleet = |micro_usd| Budget { cost_micro_usd: Some(micro_usd), ..Budget::default() };
        let others = |usd| Spending {
            usage: Usage { output: 1, cost: Cost::reported(usd), ..Usage::default() },
            time_ms: 0,
        };
        let purse = Purse::of(&[(Scope::Task, fleet(3_000_000)), (Scope::Fleet, fleet(5_000_000))]);
        let mut meter = Meter::new(purse);
        meter.looked(Some([Spending::default(), others(4.5)]));
        learn(&mut meter, cost(0.6));
        assert_eq!(meter.verdict(false).end, None, "it may be the last answer");
        meter.looked(Some([others(2.5), others(9.0)]));
        learn(&mut meter, call("a"));
        let verdict = meter.verdict(false);
        assert_eq!(verdict.end.unwrap().to_string(), "fleet.max-cost: $9.60 of $5.00");
        assert_eq!(
            verdict.near.iter().map(Standing::key).collect::<Vec<_>>(),
            ["task.max-cost"],
            "and all others"
        );
        let kept = meter.program_kept(Some(Measure::Cost)).unwrap();
        assert_eq!(kept.key(), "fleet.max-cost");
    }

    #[test]
    fn a_window_that_fills_is_told_once_each_time() {
        let mut window = Window::default();
        let mut at = |used, size| {
            let context = Some(ContextUse { used, window: size });
            let kind = EventKind::Usage { usage: Usage::default(), context };
            window.learn(&Event { at: Timestamp(1), parent: None, kind }).is_some()
        };
        assert_eq!([at(79, Some(100)), at(80, Some(100)), at(95, Some(100))], [false, true, false]);
        assert_eq!([at(20, Some(100)), at(81, Some(100))], [false, true], "it was summed up in between");
        assert!(!at(1_000_000, None), "nobody knows");
    }

    #[test]
    fn turns_that_are_allowed_are_taken_whole() {
        let mut meter = meter(Budget { turns: Some(2), ..Budget::default() });
        for number in 1..=2 {
            learn(&mut meter, EventKind::Turn { number });
            assert_eq!(end(&mut meter), None);
        }
        learn(&mut meter, EventKind::Turn { number: 3 });
        assert_eq!(end(&mut meter).as_deref(), Some("max-turns: 3 of 2 turns"));
        assert_eq!(meter.program_kept(Some(Measure::Turns)).unwrap().limit, 2);
        assert_eq!(meter.program_kept(Some(Measure::Cost)), None);
    }
}

//! What a process used: every answer counted once, those of sub-agents too.

use crate::agent::price;
use crate::model::{Budget, Measure, Spending, Usage};

#[derive(Debug, Default)]
pub(super) struct Tally {
    sum: Usage,
    /// Whether an answer was of a model whose price nobody knows.
    unpriced: bool,
}

impl Tally {
    /// Another turn of the agent itself: its number.
    pub(super) const fn turn(&mut self) -> u64 {
        self.sum.turns += 1;
        self.sum.turns
    }

    /// Adds an answer. Returns whether it is the first of which nobody knows the price.
    pub(super) fn add(&mut self, model: &str, usage: &Usage) -> bool {
        let cost = price::cost(model, usage);
        self.sum += Usage { cost, turns: 0, ..*usage };
        cost.is_none() && !std::mem::replace(&mut self.unpriced, true)
    }

    /// The figures; no cost if it is not that of all.
    pub(super) fn usage(&self) -> Usage {
        Usage { cost: self.sum.cost.filter(|_| !self.unpriced), ..self.sum }
    }

    /// What is used up.
    pub(super) fn over(&self, budget: &Budget) -> Option<Measure> {
        let spent = Spending { usage: self.usage(), time_ms: 0 };
        [Measure::Turns, Measure::Cost, Measure::Tokens].into_iter().find(|measure| {
            budget.of(*measure).is_some_and(|most| spent.of(*measure).is_some_and(|used| used >= most))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::CostSource;

    #[test]
    fn answers_add_up_and_an_unknown_price_leaves_no_cost() {
        let mut tally = Tally::default();
        assert_eq!((tally.turn(), tally.turn()), (1, 2));
        let answer = Usage { input: 100, output: 10, ..Usage::default() };
        assert!(!tally.add("claude-opus-4-8", &answer) && !tally.add("claude-haiku-4-5", &answer));
        let usage = tally.usage();
        assert_eq!((usage.input, usage.output, usage.turns), (200, 20, 2));
        let cost = usage.cost.unwrap();
        assert_eq!((cost.micro_usd, cost.source), (500 + 250 + 100 + 50, CostSource::Computed));
        let budget = |micro_usd| Budget { cost_micro_usd: Some(micro_usd), ..Budget::default() };
        assert_eq!((tally.over(&budget(901)), tally.over(&budget(900))), (None, Some(Measure::Cost)));
        assert_eq!(tally.over(&Budget { turns: Some(2), ..Budget::default() }), Some(Measure::Turns));
        assert_eq!([tally.add("another", &answer), tally.add("another", &answer)], [true, false]);
        assert_eq!(tally.usage().cost, None);
        assert_eq!(tally.over(&budget(1)), None, "nobody knows");
    }
}

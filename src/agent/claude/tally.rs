//! What a run consumed: each message counted once, then settled with what the program itself adds up.
//!
//! Blocks of one message repeat the same usage, with the output count of its start; the true count comes in the
//! stream's `message_delta`. A `result` has three figures: `usage` covers one turn and the main conversation
//! only; `modelUsage` and `total_cost_usd` cover the process so far, sub-agents included. So between two results
//! the messages count, and at a result the growth of `modelUsage` does. An interrupted turn is missing from
//! `modelUsage` although its messages were billed: of both figures for a turn, the greater one stands.

use crate::agent::price;
use crate::model::{Cost, CostSource, Usage};
use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

/// How many messages may still grow: one for each conversation that streams, and an agent has some ten sub-agents at a
/// time. What a run of days said costs nothing beyond that but a number for each message.
const OPEN: usize = 64;

/// The running total of one process.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// The last messages since the last result, the newest first.
    recent: VecDeque<Message>,
    /// Which messages there were, by the hashes of their names.
    known: HashSet<u64, BuildHasherDefault<DefaultHasher>>,
    /// The sum of the messages since the last result.
    open: Usage,
    /// What those cost by the price table, in millionths of a dollar; `None` once a model is unknown.
    open_cost: Option<u64>,
    /// Everything up to the last result.
    settled: Usage,
    /// The program's own sum at the last result.
    reported: Usage,
    reported_cost: Option<u64>,
    turns: u64,
}

#[derive(Debug)]
struct Message {
    id: Box<str>,
    model: Box<str>,
    usage: Usage,
}

impl Tally {
    /// Counts what is known of message `id` by now; of figures that differ the greater one stands. Returns the
    /// number of the turn if it is a new message of the main conversation.
    pub(super) fn message(&mut self, id: &str, model: &str, usage: &Usage, main: bool) -> Option<u64> {
        let new = self.known.insert(self.known.hasher().hash_one(id));
        if new {
            self.recent.truncate(OPEN - 1);
            self.recent.push_front(Message { id: id.into(), model: model.into(), usage: Usage::default() });
        }
        if let Some(message) = self.recent.iter_mut().find(|message| *message.id == *id) {
            if message.model.is_empty() {
                message.model = model.into();
            }
            let before = message.usage;
            message.usage = greater(&before, usage);
            let priced = |usage| price::cost(&message.model, usage).map(|cost| cost.micro_usd);
            self.open_cost = match (self.open_cost, priced(&before), priced(&message.usage)) {
                (None, _, Some(now)) if is_zero(&self.open) => Some(now),
                (Some(sum), Some(before), Some(now)) => Some(sum.saturating_sub(before).saturating_add(now)),
                _ => None,
            };
            self.open = plus(&minus(&self.open, &before), &message.usage);
        }
        (new && main).then(|| {
            self.turns += 1;
            self.turns
        })
    }

    /// What is known of message `id`, if it may still grow.
    pub(super) fn of(&self, id: &str) -> Option<Usage> {
        self.recent.iter().find(|message| *message.id == *id).map(|message| message.usage)
    }

    /// Settles with a result: `process` is the program's own sum for the whole process, `turn` what it says of the
    /// turn, for programs that say no sum; `cost` is for the whole process.
    pub(super) fn settle(&mut self, process: Option<Usage>, turn: Option<Usage>, cost: Option<f64>) {
        let growth = match process {
            Some(sum) => {
                let growth = minus(&sum, &self.reported);
                self.reported = sum;
                growth
            }
            None => turn.unwrap_or_default(),
        };
        self.settled = plus(&self.settled, &greater(&growth, &self.open));
        self.open = Usage::default();
        self.open_cost = None;
        self.recent.clear();
        if let Some(cost) = cost.and_then(Cost::reported) {
            self.reported_cost = Some(cost.micro_usd);
        }
    }

    /// The figures so far.
    pub(super) fn usage(&self) -> Usage {
        let cost = match (self.reported_cost, self.open_cost) {
            (Some(reported), None) => Some(Cost { micro_usd: reported, source: CostSource::Reported }),
            (reported, Some(open)) => Some(Cost {
                micro_usd: reported.unwrap_or(0).saturating_add(open),
                source: CostSource::Computed,
            }),
            (None, None) => None,
        };
        Usage { turns: self.turns, cost, ..plus(&self.settled, &self.open) }
    }
}

fn is_zero(usage: &Usage) -> bool {
    usage.input == 0 && usage.output == 0 && usage.cache_read == 0 && usage.cache_write == 0
}

fn by_field(a: &Usage, b: &Usage, f: impl Fn(u64, u64) -> u64) -> Usage {
    Usage {
        input: f(a.input, b.input),
        output: f(a.output, b.output),
        cache_read: f(a.cache_read, b.cache_read),
        cache_write: f(a.cache_write, b.cache_write),
        ..Usage::default()
    }
}

fn plus(a: &Usage, b: &Usage) -> Usage {
    by_field(a, b, u64::saturating_add)
}

fn minus(a: &Usage, b: &Usage) -> Usage {
    by_field(a, b, u64::saturating_sub)
}

fn greater(a: &Usage, b: &Usage) -> Usage {
    by_field(a, b, u64::max)
}

/// The sum of several models' figures.
pub(super) fn sum(parts: impl Iterator<Item = Usage>) -> Usage {
    parts.fold(Usage::default(), |sum, part| plus(&sum, &part))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODEL: &str = "claude-opus-4-8";

    fn tokens(input: u64, output: u64) -> Usage {
        Usage { input, output, ..Usage::default() }
    }

    fn figures(tally: &Tally) -> (u64, u64) {
        (tally.usage().input, tally.usage().output)
    }

    #[test]
    fn a_message_counts_once_however_often_it_is_repeated() {
        let mut tally = Tally::default();
        assert_eq!(tally.message("a", MODEL, &tokens(100, 1), true), Some(1));
        assert_eq!(tally.message("a", MODEL, &tokens(100, 1), true), None);
        assert_eq!(tally.message("a", "", &tokens(0, 42), true), None);
        assert_eq!(figures(&tally), (100, 42));
        assert_eq!(tally.usage().cost.unwrap(), Cost { micro_usd: 1550, source: CostSource::Computed });
        assert_eq!(tally.message("b", MODEL, &tokens(10, 1), true), Some(2));
        assert_eq!(tally.message("sub", MODEL, &tokens(5, 1), false), None);
        assert_eq!((figures(&tally), tally.usage().turns), ((115, 44), 2));
    }

    #[test]
    fn a_result_settles_what_it_covers_and_its_growth_counts() {
        let mut tally = Tally::default();
        tally.message("a", MODEL, &tokens(100, 7), true);
        tally.settle(Some(tokens(150, 9)), None, Some(0.001));
        assert_eq!(figures(&tally), (150, 9));
        assert_eq!(tally.usage().cost.unwrap(), Cost { micro_usd: 1000, source: CostSource::Reported });
        tally.message("a", MODEL, &tokens(100, 7), true);
        tally.message("b", MODEL, &tokens(10, 3), true);
        assert_eq!(figures(&tally), (160, 12));
        assert_eq!(tally.usage().cost.unwrap(), Cost { micro_usd: 1125, source: CostSource::Computed });
        tally.settle(Some(tokens(160, 12)), None, Some(0.002));
        assert_eq!(figures(&tally), (160, 12));
        assert_eq!(tally.usage().cost.unwrap(), Cost { micro_usd: 2000, source: CostSource::Reported });
    }

    #[test]
    fn an_interrupted_turn_keeps_what_its_messages_said() {
        let mut tally = Tally::default();
        tally.message("a", MODEL, &tokens(100, 1), true);
        tally.settle(Some(Usage::default()), Some(Usage::default()), Some(0.0));
        tally.message("b", MODEL, &tokens(110, 5), true);
        tally.settle(Some(tokens(110, 5)), None, Some(0.00095));
        assert_eq!(figures(&tally), (210, 6));
    }

    #[test]
    fn a_message_of_long_ago_counts_once_and_stays_as_it_was() {
        let mut tally = Tally::default();
        let count = 10 * OPEN as u64;
        for number in 1..=count {
            assert_eq!(tally.message(&number.to_string(), MODEL, &tokens(10, 1), true), Some(number));
            assert_eq!(tally.message(&number.to_string(), MODEL, &tokens(10, 2), true), None);
        }
        assert_eq!(tally.message("1", MODEL, &tokens(10, 9), true), None);
        assert_eq!((figures(&tally), tally.recent.len()), ((10 * count, 2 * count), OPEN));
        assert_eq!(tally.usage().cost.unwrap().micro_usd, count * 100);
    }

    #[test]
    fn an_unknown_model_has_no_computed_cost() {
        let mut tally = Tally::default();
        tally.message("a", "other", &tokens(100, 1), true);
        tally.message("b", MODEL, &tokens(100, 1), true);
        assert_eq!(tally.usage().cost, None);
    }
}

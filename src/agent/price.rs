//! Prices of models, for runs whose program reported no cost. A dated table, so every result is an estimate.

use crate::model::{Cost, CostSource, Usage};

/// The day on which the table below was last compared with what Claude Code 2.1.197 charges for itself, model by
/// model, against a scripted endpoint. Opus 4 and 4.1, which it no longer offers, could not be compared: theirs are
/// the prices at which they were offered, as remembered.
pub const TABLE_DATE: &str = "2026-11-20";

/// Prefix of the model's name, then US dollars a million tokens, which is millionths of a dollar a token: input
/// and output. The longest prefix counts.
const TABLE: [(&str, f64, f64); 17] = [
    ("claude-fable-5", 10.0, 50.0),
    ("claude-mythos-5", 10.0, 50.0),
    ("claude-opus-4-8", 5.0, 25.0),
    ("claude-opus-4-7", 5.0, 25.0),
    ("claude-opus-4-6", 5.0, 25.0),
    ("claude-opus-4-5", 5.0, 25.0),
    ("claude-opus-4-1", 15.0, 75.0),
    ("claude-opus-4-0", 15.0, 75.0),
    ("claude-opus-4-20250514", 15.0, 75.0),
    ("claude-sonnet-5", 3.0, 15.0),
    ("claude-sonnet-4-6", 3.0, 15.0),
    ("claude-sonnet-4-5", 3.0, 15.0),
    ("claude-sonnet-4-0", 3.0, 15.0),
    ("claude-sonnet-4-20250514", 3.0, 15.0),
    ("claude-3-7-sonnet", 3.0, 15.0),
    ("claude-haiku-4-5", 1.0, 5.0),
    ("claude-3-5-haiku", 0.8, 4.0),
];

/// Writing to the prompt cache (five minutes) costs this many times the input price.
const CACHE_WRITE: f64 = 1.25;
/// Reading from it costs this part of the input price.
const CACHE_READ: f64 = 0.1;

/// What tokens of a model cost: US dollars for a million of them, in millionths.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Input that no cache had, and input that was written to one.
    pub input: u64,
    /// Input from a cache.
    pub cached: u64,
    /// Output.
    pub output: u64,
}

impl Price {
    /// What `usage` costs.
    pub fn of(&self, usage: &Usage) -> Cost {
        let parts = [
            (usage.input.saturating_add(usage.cache_write), self.input),
            (usage.cache_read, self.cached),
            (usage.output, self.output),
        ];
        let sum: u128 = parts.into_iter().map(|(tokens, price)| u128::from(tokens) * u128::from(price)).sum();
        let micro_usd = u64::try_from(sum / 1_000_000).unwrap_or(u64::MAX);
        Cost { micro_usd, source: CostSource::Computed }
    }
}

/// How many tokens `model` takes; `None` for one that the table does not know. Before its first result Claude Code
/// does not say; what it says then of these models, and of each with `[1m]`, is this (2.1.197).
pub fn window(model: &str) -> Option<u64> {
    if model.ends_with("[1m]") {
        return Some(1_000_000);
    }
    let known = |(prefix, ..): &(&str, f64, f64)| model.strip_prefix(prefix).is_some_and(is_suffix);
    TABLE.iter().any(known).then_some(200_000)
}

/// What `usage` costs with `model`; `None` for a model that the table does not know.
pub fn cost(model: &str, usage: &Usage) -> Option<Cost> {
    let (_, input, output) = TABLE
        .iter()
        .filter(|(prefix, ..)| model.strip_prefix(prefix).is_some_and(is_suffix))
        .max_by_key(|(prefix, ..)| prefix.len())?;
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^53")]
    let micro_usd = input
        * (usage.input as f64
            + CACHE_WRITE * usage.cache_write as f64
            + CACHE_READ * usage.cache_read as f64)
        + output * usage.output as f64;
    Cost::reported(micro_usd / 1e6).map(|cost| Cost { source: CostSource::Computed, ..cost })
}

/// Whether what follows a prefix leaves the model the same: nothing, a date, or a context window (`[1m]`).
fn is_suffix(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('[') || rest == "-latest" || rest.starts_with("-20")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_agrees_with_what_the_program_charges() {
        // fixtures/agents/claude/text.jsonl: `total_cost_usd` 0.00095.
        let usage = Usage { input: 100, output: 7, cache_read: 300, cache_write: 20, ..Usage::default() };
        let cost = cost("claude-opus-4-8[1m]", &usage).unwrap();
        assert_eq!(cost, Cost { micro_usd: 950, source: CostSource::Computed });
    }

    #[test]
    fn a_window_is_known_with_the_model() {
        assert_eq!(window("claude-opus-4-8[1m]"), Some(1_000_000));
        assert_eq!(window("claude-haiku-4-5-20251001"), Some(200_000));
        assert_eq!(window("gpt"), None);
    }

    #[test]
    fn a_dated_name_is_the_same_model_and_an_unknown_one_is_none() {
        let usage = Usage { output: 1_000_000, ..Usage::default() };
        assert_eq!(cost("claude-opus-4-1-20250805", &usage).unwrap().micro_usd, 75_000_000);
        assert_eq!(cost("claude-haiku-4-5-20251001", &usage).unwrap().micro_usd, 5_000_000);
        assert_eq!(cost("claude-opus-4-9", &usage), None);
        assert_eq!(cost("claude-opus-4-8-fast", &usage), None);
        assert_eq!(cost("gpt", &usage), None);
    }
}

//! What a run consumed: tokens and money.

use serde::{Deserialize, Serialize};
use std::ops::AddAssign;

/// Tokens and cost of a run, as the agent's program reported them, and beside them our own estimate.
///
/// Reported and estimated figures never mix: `estimated_output` is what the streamed text so far would be in
/// tokens, and stands only while the program has not reported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Input tokens that were read without a cache.
    pub input: u64,
    /// Output tokens.
    pub output: u64,
    /// Input tokens read from the prompt cache.
    pub cache_read: u64,
    /// Input tokens written to the prompt cache.
    pub cache_write: u64,
    /// Output tokens estimated by tiktoken from streamed text that no report covers yet.
    #[serde(skip_serializing_if = "is_zero")]
    pub estimated_output: u64,
    /// Model turns.
    pub turns: u64,
    /// What it cost, if known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(value: &u64) -> bool {
    *value == 0
}

/// How full the window of a conversation's model is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContextUse {
    /// Tokens of the last question to the model and its answer.
    pub used: u64,
    /// How many the model takes, if that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
}

impl ContextUse {
    /// In hundredths of the window; `None` if nobody knows how large that is.
    pub fn percent(&self) -> Option<u64> {
        self.used.saturating_mul(100).checked_div(self.window?)
    }
}

/// An amount of money with where the figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    /// Millionths of a US dollar.
    pub micro_usd: u64,
    /// Where the figure comes from.
    pub source: CostSource,
}

/// Where a cost comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CostSource {
    /// The program said so.
    Reported,
    /// Computed from tokens and our dated price table: an estimate.
    Computed,
}

impl Cost {
    /// A cost that a program reported in US dollars; `None` for values that are no amount (negative, NaN).
    pub fn reported(usd: f64) -> Option<Self> {
        if !(usd.is_finite() && usd >= 0.0) {
            return None;
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "finite and not negative; `as` saturates"
        )]
        let micro_usd = (usd * 1e6).round() as u64;
        Some(Self { micro_usd, source: CostSource::Reported })
    }
}

impl Usage {
    /// All tokens that the program reported: input, output and both cache directions. What a program says has no limit;
    /// a sum stops at the greatest number there is.
    pub const fn total(&self) -> u64 {
        let said = self.input.saturating_add(self.output);
        said.saturating_add(self.cache_read).saturating_add(self.cache_write)
    }
}

impl AddAssign for Usage {
    /// Adds another run's figures. A sum of costs is `Reported` only if every part was.
    fn add_assign(&mut self, other: Self) {
        let add = |sum: &mut u64, more: u64| *sum = sum.saturating_add(more);
        add(&mut self.input, other.input);
        add(&mut self.output, other.output);
        add(&mut self.cache_read, other.cache_read);
        add(&mut self.cache_write, other.cache_write);
        add(&mut self.estimated_output, other.estimated_output);
        add(&mut self.turns, other.turns);
        self.cost = match (self.cost, other.cost) {
            (Some(a), Some(b)) => Some(Cost {
                micro_usd: a.micro_usd.saturating_add(b.micro_usd),
                source: if a.source == CostSource::Reported { b.source } else { a.source },
            }),
            (a, b) => a.or(b),
        };
    }
}

//! Budgets: how much may be used, and what was.

use super::{CostSource, Usage};
use serde::{Deserialize, Serialize};
use std::fmt;

/// How much may be used. What is absent has no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Budget {
    /// Millionths of a US dollar.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_micro_usd: Option<u64>,
    /// Tokens, as [`Usage::total`] counts them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Turns of the model.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turns: Option<u64>,
    /// Milliseconds in which a run was under way, all runs added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_ms: Option<u64>,
}

/// What a budget measures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Millionths of a US dollar.
    Cost,
    /// Tokens.
    Tokens,
    /// Turns of the model.
    Turns,
    /// Milliseconds.
    Time,
}

impl Measure {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Cost, Self::Tokens, Self::Turns, Self::Time];

    /// The key and the flag of its limit.
    pub const fn key(self) -> &'static str {
        match self {
            Self::Cost => "max-cost",
            Self::Tokens => "max-tokens",
            Self::Turns => "max-turns",
            Self::Time => "max-time",
        }
    }
}

/// Whose budget it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scope {
    /// One agent's, over all its runs.
    Agent,
    /// One task's, over all agents that work or worked on it.
    Task,
    /// That of all agents together.
    Fleet,
}

/// What was used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spending {
    /// Tokens, turns and cost.
    pub usage: Usage,
    /// Milliseconds in which runs were under way.
    pub time_ms: u64,
}

impl std::ops::AddAssign for Spending {
    fn add_assign(&mut self, other: Self) {
        self.usage += other.usage;
        self.time_ms = self.time_ms.saturating_add(other.time_ms);
    }
}

impl Spending {
    /// How much of one thing was used; `None` for a cost that nobody knows.
    pub fn of(&self, measure: Measure) -> Option<u64> {
        match measure {
            Measure::Cost if self.usage.total() == 0 => {
                Some(self.usage.cost.map_or(0, |cost| cost.micro_usd))
            }
            Measure::Cost => self.usage.cost.map(|cost| cost.micro_usd),
            Measure::Tokens => Some(self.usage.total()),
            Measure::Turns => Some(self.usage.turns),
            Measure::Time => Some(self.time_ms),
        }
    }
}

impl Budget {
    /// Whether it limits nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What it says of one thing.
    pub const fn of(&self, measure: Measure) -> Option<u64> {
        match measure {
            Measure::Cost => self.cost_micro_usd,
            Measure::Tokens => self.tokens,
            Measure::Turns => self.turns,
            Measure::Time => self.time_ms,
        }
    }

    const fn of_mut(&mut self, measure: Measure) -> &mut Option<u64> {
        match measure {
            Measure::Cost => &mut self.cost_micro_usd,
            Measure::Tokens => &mut self.tokens,
            Measure::Turns => &mut self.turns,
            Measure::Time => &mut self.time_ms,
        }
    }

    /// One budget by each thing that it limits.
    fn map(f: impl Fn(Measure) -> Option<u64>) -> Self {
        let mut budget = Self::default();
        for measure in Measure::ALL {
            *budget.of_mut(measure) = f(measure);
        }
        budget
    }

    /// This one, and where it says nothing `other`.
    #[must_use]
    pub fn or(&self, other: &Self) -> Self {
        Self::map(|measure| self.of(measure).or(other.of(measure)))
    }

    /// What of it is left after `spent`. A cost that nobody knows leaves all of it.
    #[must_use]
    pub fn after(&self, spent: &Spending) -> Self {
        Self::map(|measure| Some(self.of(measure)?.saturating_sub(spent.of(measure).unwrap_or(0))))
    }

    /// The stricter of two, thing by thing.
    #[must_use]
    pub fn least(&self, other: &Self) -> Self {
        Self::map(|measure| [self.of(measure), other.of(measure)].into_iter().flatten().min())
    }

    /// What stands against what, where `share` hundredths of a limit are used or more.
    pub fn reached(&self, scope: Scope, spent: &Spending, share: u64) -> impl Iterator<Item = Standing> {
        let (budget, spent) = (*self, *spent);
        Measure::ALL.into_iter().filter_map(move |measure| {
            let (limit, used) = (budget.of(measure)?, spent.of(measure)?);
            let reached = u128::from(used) * 100 >= u128::from(limit) * u128::from(share);
            let estimated = measure == Measure::Cost
                && spent.usage.cost.is_some_and(|cost| cost.source == CostSource::Computed);
            reached.then_some(Standing { scope, measure, used, limit, estimated })
        })
    }
}

/// How much of a limit is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Whose budget it is.
    pub scope: Scope,
    /// What it measures.
    pub measure: Measure,
    /// How much was used.
    pub used: u64,
    /// How much may be used.
    pub limit: u64,
    /// Whether what was used is computed from a table of prices.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub estimated: bool,
}

impl Standing {
    /// The setting that says so: `max-cost` of an agent or its profile, `task.max-cost`, `fleet.max-cost`.
    pub fn key(&self) -> String {
        let scope = match self.scope {
            Scope::Agent => "",
            Scope::Task => "task.",
            Scope::Fleet => "fleet.",
        };
        format!("{scope}{}", self.measure.key())
    }

    /// The figures: `$2.01 of $2.00`.
    pub fn figures(&self) -> String {
        let mark = if self.estimated { "~" } else { "" };
        match self.measure {
            Measure::Cost => format!("{mark}{} of {}", dollars(self.used), dollars(self.limit)),
            Measure::Tokens => self.count("token"),
            Measure::Turns => self.count("turn"),
            Measure::Time => format!("{} of {}", span(self.used), span(self.limit)),
        }
    }
}

impl Standing {
    /// `1 of 1 turn`, `3 of 2 turns`.
    fn count(&self, unit: &str) -> String {
        format!("{} of {} {unit}{}", self.used, self.limit, if self.limit == 1 { "" } else { "s" })
    }
}

impl fmt::Display for Standing {
    /// `max-cost: $2.01 of $2.00`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.key(), self.figures())
    }
}

/// An amount that may be far below a cent: two decimals, and more where those would hide it.
fn dollars(micro_usd: u64) -> String {
    let (whole, part) = (micro_usd / 1_000_000, format!("{:06}", micro_usd % 1_000_000));
    let part = part.trim_end_matches('0');
    format!("${whole}.{part:0<2}")
}

fn span(ms: u64) -> String {
    let secs = ms / 1000;
    match (secs / 3600, secs % 3600 / 60, secs % 60) {
        (0, 0, secs) => format!("{secs}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, secs) => format!("{minutes}m{secs}s"),
        (hours, 0, _) => format!("{hours}h"),
        (hours, minutes, _) => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Cost;
    use super::*;

    fn spent(tokens: u64, cost: Option<f64>) -> Spending {
        let usage =
            Usage { output: tokens, turns: 2, cost: cost.and_then(Cost::reported), ..Usage::default() };
        Spending { usage, time_ms: 61_000 }
    }

    #[test]
    fn what_is_reached_is_told_with_its_figures() {
        let budget = Budget {
            cost_micro_usd: Some(2_000_000),
            tokens: Some(1_000),
            turns: Some(3),
            time_ms: Some(60_000),
        };
        let told = |spent: &Spending, share| -> Vec<String> {
            budget.reached(Scope::Agent, spent, share).map(|one| one.to_string()).collect()
        };
        assert_eq!(told(&spent(10, Some(0.0)), 100), ["max-time: 1m1s of 1m"]);
        assert_eq!(
            told(&spent(800, Some(2.01)), 80),
            ["max-cost: $2.01 of $2.00", "max-tokens: 800 of 1000 tokens", "max-time: 1m1s of 1m"]
        );
        assert_eq!(told(&spent(799, None), 80), ["max-time: 1m1s of 1m"], "an unknown cost reaches nothing");
        let one = Budget { turns: Some(1), ..Budget::default() };
        assert_eq!(one.reached(Scope::Agent, &spent(0, None), 100).next().unwrap().figures(), "2 of 1 turn");
        let fleet = budget.reached(Scope::Fleet, &spent(0, Some(2.0)), 100).next().unwrap();
        assert_eq!(fleet.key(), "fleet.max-cost");
        assert_eq!(
            (dollars(1_500), dollars(2_345_678), dollars(0)),
            ("$0.0015".into(), "$2.345678".into(), "$0.00".into())
        );
        assert_eq!((span(3_600_000), span(5_400_000), span(900)), ("1h".into(), "1h30m".into(), "0s".into()));
    }

    #[test]
    fn budgets_are_put_together() {
        let flags = Budget { turns: Some(9), ..Budget::default() };
        let profile = Budget { turns: Some(3), tokens: Some(500), ..Budget::default() };
        let both = flags.or(&profile);
        assert_eq!((both.turns, both.tokens, both.time_ms), (Some(9), Some(500), None));
        let left = both.after(&spent(600, None));
        assert_eq!((left.turns, left.tokens), (Some(7), Some(0)));
        assert_eq!(left.least(&profile).turns, Some(3));
        assert!(Budget::default().is_empty() && !flags.is_empty());
    }
}

//! What an agent may use, as `spawn`, `resume`, `take` and `worker` take it.

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::config::{parse_count, parse_money, parse_span};
use crate::model::Budget;
use crate::orchestrate::budget::Budgets;
use std::time::Duration;

/// Above these options in the help.
const HEADING: &str = "Budget of each agent, over all its runs";

/// What an agent may use over all its runs; more than its profile says, or less.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct LimitArgs {
    /// What it may cost, in US dollars such as `2.50`
    #[arg(long = "max-cost", value_name = "USD", value_parser = money, help_heading = HEADING)]
    cost: Option<u64>,
    /// How many tokens it may use: `50000`, `200k`, `2M`
    #[arg(long = "max-tokens", value_name = "N", value_parser = count, help_heading = HEADING)]
    tokens: Option<u64>,
    /// How many turns it may take
    #[arg(long = "max-turns", value_name = "N", value_parser = count, help_heading = HEADING)]
    turns: Option<u64>,
    /// How long its runs may take together: `90s`, `10m`, `2h`
    #[arg(long = "max-time", value_name = "TIME", value_parser = span, help_heading = HEADING)]
    time: Option<Duration>,
}

impl LimitArgs {
    /// What was said.
    pub(crate) fn budget(&self) -> Budget {
        Budget {
            cost_micro_usd: self.cost,
            tokens: self.tokens,
            turns: self.turns,
            time_ms: self.time.map(|span| u64::try_from(span.as_millis()).unwrap_or(u64::MAX)),
        }
    }
}

/// What agents may use together, by the settings.
pub(crate) fn budgets(ctx: &Context) -> Result<Budgets, CliError> {
    let settings = ctx.settings()?;
    Ok(Budgets {
        task: settings.budget("task."),
        fleet: settings.budget("fleet."),
        period: settings.fleet_period(),
    })
}

fn money(text: &str) -> Result<u64, String> {
    parse_money(text).ok_or_else(|| "US dollars such as `2.50`".to_owned())
}

fn count(text: &str) -> Result<u64, String> {
    parse_count(text).ok_or_else(|| "a number from 1 such as `50`, `200k` or `2M`".to_owned())
}

fn span(text: &str) -> Result<Duration, String> {
    parse_span(text).ok_or_else(|| "a time such as `90s`, `10m` or `2h`".to_owned())
}

//! `git orchestra cost`: what agents consumed.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::porcelain::ListFormat;
use crate::cli::steer;
use crate::cli::ui::{Align, Label, Painter, Table};
use crate::cli::view;
use crate::model::{Agent, CostSource, Id, Task, Timestamp, Usage};
use crate::orchestrate::cost::{By, Key, Spent, spent};
use crate::store::State;
use clap::ValueEnum as _;
use serde::Serialize;
use std::time::Duration;

/// Show what agents consumed, by agent, role, model, task or day
///
/// Sums the tokens and the cost of every run, removed agents' too; of a run that is not over, what its program has
/// reported so far. What a program did not say itself is computed from a dated table of prices and marked with `~`.
/// Runs of which nobody knows the price are counted, and their cost is missing in the sum.
///
/// With --porcelain each group has a line: key, runs, runs without a price, turns, input, cache read, cache write and
/// output tokens, millionths of a US dollar, where these come from (reported, computed), name or title.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra cost\n  git orchestra cost --by model --since 7d\n  git orchestra cost --by day --json")]
pub(crate) struct Args {
    /// Only these agents
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,
    /// What to put together
    #[arg(short, long, value_enum, default_value_t = Group::Agent)]
    by: Group,
    /// Only runs that began in this span, such as 24h or 7d
    #[arg(long, value_name = "SPAN", value_parser = super::prune::span)]
    since: Option<Duration>,
    #[command(flatten)]
    format: ListFormat,
}

/// What runs are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Group {
    /// Each agent
    Agent,
    /// Each profile, which gives an agent its role
    #[value(alias = "profile")]
    Role,
    /// Each program: claude, codex, gemini, …
    Program,
    /// Each model that a program said it used
    Model,
    /// Each task
    Task,
    /// Each day, in UTC
    Day,
    /// Each machine
    Machine,
}

impl Group {
    const fn by(self) -> By {
        match self {
            Self::Agent => By::Agent,
            Self::Role => By::Profile,
            Self::Program => By::Program,
            Self::Model => By::Model,
            Self::Task => By::Task,
            Self::Day => By::Day,
            Self::Machine => By::Machine,
        }
    }

    const fn heading(self) -> &'static str {
        match self {
            Self::Agent => "AGENT",
            Self::Role => "ROLE",
            Self::Program => "PROGRAM",
            Self::Model => "MODEL",
            Self::Task => "TASK",
            Self::Day => "DAY (UTC)",
            Self::Machine => "MACHINE",
        }
    }
}

#[derive(Debug, Serialize)]
struct Report {
    by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    groups: Vec<Row>,
    total: Figures,
}

#[derive(Debug, Serialize)]
struct Row {
    /// Null where the runs did not say.
    key: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(flatten)]
    figures: Figures,
}

#[derive(Debug, Serialize)]
struct Figures {
    runs: u64,
    unpriced: u64,
    usage: Usage,
}

impl Figures {
    const fn of(spent: &Spent) -> Self {
        Self { runs: spent.runs, unpriced: spent.unpriced, usage: spent.usage }
    }
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let only: Vec<Id> = steer::named(ctx, &args.agents)?.into_iter().map(|agent| agent.id).collect();
    let (store, state) = (ctx.store()?, ctx.state()?);
    let since = args.since.map(|span| ctx.clock().now().before(span));
    let groups = spent(store, &state, args.by.by(), &only, since)?;
    let mut total = Spent { key: Key::Nothing, runs: 0, unpriced: 0, usage: Usage::default() };
    for group in &groups {
        total.add(group);
    }
    let mut rows = Vec::new();
    for group in &groups {
        let (key, name) = named(&state, args.by, &group.key)?;
        rows.push(Row { key, name, figures: Figures::of(group) });
    }
    if args.format.is_porcelain() {
        args.format.print(ctx, rows.iter().map(porcelain))?;
    } else if args.format.json {
        let by = args.by.to_possible_value().map(|value| value.get_name().to_owned());
        json::print(ctx, "cost", &Report { by: by.unwrap_or_default(), since, groups: rows, total: Figures::of(&total) })?;
    } else if rows.is_empty() {
        ctx.ui().note(match (args.since, only.is_empty()) {
            (None, true) => "no agent has run yet; `git orchestra spawn` starts one for each ready task",
            _ => "no run of these agents began in that span",
        });
    } else {
        ctx.ui().page(&table(ctx, args.by, &state, &rows, &total)?)?;
        if total.unpriced > 0 {
            ctx.ui().hint(match total.unpriced {
                1 => "of 1 run nobody knows the price: its cost is missing in the sum".to_owned(),
                runs => format!("of {runs} runs nobody knows the price: their cost is missing in the sum"),
            });
        }
    }
    Ok(Exit::Done)
}

/// A group's key, and what people call it.
fn named(state: &State, by: Group, key: &Key) -> Result<(Option<String>, Option<String>), CliError> {
    Ok(match key {
        Key::Nothing => (None, None),
        Key::Text(text) => (Some(text.clone()), None),
        Key::Entity(id) if by == Group::Agent => (Some(id.to_string()), state.title::<Agent>(id)?),
        Key::Entity(id) => (Some(id.to_string()), state.title::<Task>(id)?),
    })
}

fn porcelain(row: &Row) -> [String; 11] {
    let usage = &row.figures.usage;
    let source = usage.cost.map(|cost| match cost.source {
        CostSource::Reported => "reported",
        CostSource::Computed => "computed",
    });
    [
        row.key.clone().unwrap_or_default(),
        row.figures.runs.to_string(),
        row.figures.unpriced.to_string(),
        usage.turns.to_string(),
        usage.input.to_string(),
        usage.cache_read.to_string(),
        usage.cache_write.to_string(),
        usage.output.to_string(),
        usage.cost.map(|cost| cost.micro_usd.to_string()).unwrap_or_default(),
        source.unwrap_or_default().to_owned(),
        row.name.clone().unwrap_or_default(),
    ]
}

fn table(ctx: &Context, by: Group, state: &State, rows: &[Row], total: &Spent) -> Result<String, CliError> {
    let paint = ctx.ui().painter();
    let columns = [
        (by.heading(), Align::Left),
        ("RUNS", Align::Right),
        ("TURNS", Align::Right),
        ("INPUT", Align::Right),
        ("CACHED", Align::Right),
        ("OUTPUT", Align::Right),
        ("COST", Align::Right),
    ];
    let mut table = Table::new(paint, &columns, 0);
    let ids = state.short_ids()?;
    for row in rows {
        let name = match (&row.key, &row.name) {
            (None, _) => paint.paint(Label::Dim, "(none)"),
            (Some(_), Some(name)) if by == Group::Agent => paint.paint(Label::Agent, name),
            (Some(id), Some(title)) => {
                let short = id.parse::<Id>().map_or_else(|_| id.clone(), |id| ids.shorten(&id));
                format!("{} {}", paint.paint(Label::Id, short), paint.paint(Label::Plain, title))
            }
            (Some(key), None) => paint.paint(Label::Plain, key),
        };
        table.row(cells(paint, name, &row.figures, Label::Plain));
    }
    if rows.len() > 1 {
        let name = paint.paint(Label::Heading, "total");
        table.row(cells(paint, name, &Figures::of(total), Label::Heading));
    }
    Ok(table.render(ctx.ui().columns()))
}

fn cells(paint: Painter, name: String, figures: &Figures, label: Label) -> Vec<String> {
    let usage = &figures.usage;
    let count = |number: u64| paint.paint(label, if number == 0 { String::new() } else { view::count(number) });
    let output = match (usage.output, usage.estimated_output) {
        (0, estimate @ 1..) => paint.paint(label, format!("~{}", view::count(estimate))),
        (output, _) => count(output),
    };
    vec![
        name,
        count(figures.runs),
        count(usage.turns),
        count(usage.input),
        count(usage.cache_read + usage.cache_write),
        output,
        paint.paint(label, view::cost(usage.cost)),
    ]
}

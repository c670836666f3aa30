//! `git orchestra oplog`: what commands did.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::porcelain::ListFormat;
use crate::cli::ui::{Align, Label, Table};
use crate::cli::view::operation::{Shown, ShownChange, ShownPlan, page, plan, short, what};
use crate::cli::view::span;
use crate::orchestrate::UndoPlan;
use crate::store::{Logged, State};
use serde::Serialize;
use std::fmt::Write as _;

/// List what commands did, or show one of them
///
/// Everything that one command did to tasks, agents, findings, decisions, merges, branches and worktrees is one
/// operation, here and on the machines that this one has synced with. With the id of one, shows what it changed, from
/// what to what, and what `undo` would bring back of it and what not.
///
/// What `sync` brings are the operations of others; it is none itself.
///
/// With --porcelain each operation has a line: id, seconds since 1970, machine, author, state (done, undone), command,
/// what it did.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra oplog -n 50\n  git orchestra oplog k3v8w0")]
pub(crate) struct Args {
    /// The operation to show
    #[arg(value_name = "OPERATION")]
    operation: Option<String>,
    /// How many to list, the newest first
    #[arg(short = 'n', long = "max-count", value_name = "N", default_value_t = 20, conflicts_with = "operation")]
    count: usize,
    #[command(flatten)]
    format: ListFormat,
}

/// An operation with what it changed, and what undoing it would do, as JSON shows it.
#[derive(Debug, Serialize)]
struct Whole<'a> {
    #[serde(flatten)]
    operation: Shown<'a>,
    changes: Vec<ShownChange<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    undo: Option<ShownPlan<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refusal: Option<String>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let state = ctx.state()?;
    if let Some(text) = &args.operation {
        let logged = state.operation(text)?;
        let text = show(ctx, &state, &logged, args.format.json)?;
        if !text.is_empty() {
            ctx.ui().page(&text)?;
        }
        return Ok(Exit::Done);
    }
    let operations = state.operations(args.count)?;
    if args.format.is_porcelain() {
        let records = operations.iter().map(|logged| {
            [
                logged.id.clone(),
                logged.at.as_secs().to_string(),
                logged.machine.clone().unwrap_or_default(),
                logged.by.clone(),
                if logged.undone { "undone" } else { "done" }.to_owned(),
                logged.command.clone(),
                what(logged),
            ]
        });
        args.format.print(ctx, records)?;
        return Ok(Exit::Done);
    }
    if args.format.json {
        let shown: Vec<_> = operations.iter().map(Shown::new).collect();
        json::print(ctx, "operation-list", &shown)?;
        return Ok(Exit::Done);
    }
    if operations.is_empty() {
        ctx.ui().note("nothing has happened yet");
        return Ok(Exit::Done);
    }
    list(ctx, &operations)
}

fn list(ctx: &Context, operations: &[Logged]) -> Result<Exit, CliError> {
    let (paint, now) = (ctx.ui().painter(), ctx.clock().now());
    let own = ctx.store()?.machine()?;
    let columns = [
        ("ID", Align::Left),
        ("AGE", Align::Right),
        ("BY", Align::Left),
        ("MACHINE", Align::Left),
        ("STATE", Align::Left),
        ("COMMAND", Align::Left),
        ("WHAT", Align::Left),
    ];
    let mut table = Table::new(paint, &columns, 6);
    for logged in operations {
        let label = |label| if logged.undone { Label::Dim } else { label };
        let machine = logged.machine.as_deref().filter(|machine| *machine != own).unwrap_or_default();
        let by = logged.by.split(" <").next().unwrap_or_default();
        // A commit that names no operation has its subject for a command: it is said once.
        let command = if logged.named { logged.command.as_str() } else { "" };
        table.row(vec![
            paint.paint(label(Label::Id), short(&logged.id)),
            paint.paint(Label::Dim, span(now.since(logged.at))),
            paint.paint(label(Label::Agent), by),
            paint.paint(Label::Dim, machine),
            paint.paint(Label::Attention, if logged.undone { "undone" } else { "" }),
            paint.paint(label(Label::Title), command),
            paint.paint(label(Label::Plain), what(logged)),
        ]);
    }
    ctx.ui().page(&table.render(ctx.ui().columns()))?;
    Ok(Exit::Done)
}

/// One operation: printed as JSON, or returned for people.
pub(crate) fn show(ctx: &Context, state: &State, logged: &Logged, as_json: bool) -> Result<String, CliError> {
    let changes = state.changes(logged)?;
    let undo = UndoPlan::new(ctx.store()?, logged);
    if as_json {
        let whole = Whole {
            operation: Shown::new(logged),
            changes: changes.iter().map(ShownChange::new).collect(),
            undo: undo.as_ref().ok().map(ShownPlan::new),
            refusal: undo.as_ref().err().map(ToString::to_string),
        };
        json::print(ctx, "operation", &whole)?;
        return Ok(String::new());
    }
    let paint = ctx.ui().painter();
    let mut text = page(ctx, state, logged, &changes)?;
    let heading = |words: &str| format!("\n{}\n", paint.paint(Label::Heading, words));
    match undo {
        Ok(undo) => {
            text.push_str(&heading("undo would do this"));
            for line in plan(state, paint, &undo)?.lines() {
                text.push_str("    ");
                text.push_str(line);
                text.push('\n');
            }
        }
        Err(error) => {
            text.push_str(&heading("it cannot be undone now"));
            let _ = writeln!(text, "    failed to {}", paint.paint(Label::Plain, error.to_string()));
        }
    }
    Ok(text)
}

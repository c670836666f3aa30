//! `git orchestra show`: anything that has an id.

use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::ui::printable;
use crate::cli::view;
use crate::model::{Agent, Decision, Finding, Id, Kind, Merge, Task};
use crate::store::{Found, State};
use std::fmt::Write as _;

/// Show a task, agent, finding, decision or merge
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra show k3v8")]
pub(crate) struct Args {
    /// Ids, the beginnings of ids, or names of agents
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    entities(ctx, &args.ids, None, args.json)
}

/// Shows what `texts` name, of one kind or of any.
pub(crate) fn entities(
    ctx: &Context,
    texts: &[String],
    kind: Option<Kind>,
    as_json: bool,
) -> Result<Exit, CliError> {
    let state = ctx.state()?;
    let mut pages = Vec::new();
    for text in texts {
        let found = state.resolve(text, kind).map_err(|error| describe_candidates(&state, error))?;
        match found.kind {
            Kind::Task => show_task(ctx, &state, &found.id, as_json, &mut pages)?,
            Kind::Agent => {
                let agent: Agent = state.require(&found.id)?;
                if as_json {
                    json::print(ctx, "agent", &view::agent::Shown::new(&agent, state.short_ids()?))?;
                } else {
                    pages.push(view::agent::page(&agent, ctx.ui().painter(), state.short_ids()?, ctx.clock().now()));
                }
            }
            Kind::Finding => {
                let finding: Finding = state.require(&found.id)?;
                if as_json {
                    json::print(ctx, "finding", &view::finding::Shown::new(&finding, state.short_ids()?))?;
                } else {
                    let (paint, now) = (ctx.ui().painter(), ctx.clock().now());
                    pages.push(view::finding::page(&finding, paint, state.short_ids()?, now));
                }
            }
            Kind::Decision => {
                let decision: Decision = state.require(&found.id)?;
                if as_json {
                    json::print(ctx, "decision", &view::decision::Shown::new(&decision, state.short_ids()?))?;
                } else {
                    let (paint, now) = (ctx.ui().painter(), ctx.clock().now());
                    pages.push(view::decision::page(&decision, paint, state.short_ids()?, now));
                }
            }
            Kind::Merge => {
                let merge: Merge = state.require(&found.id)?;
                if as_json {
                    json::print(ctx, "merge", &view::merge::Shown::new(&merge, state.short_ids()?))?;
                } else {
                    pages.push(view::merge::page(&merge, ctx.ui().painter(), state.short_ids()?, ctx.clock().now()));
                }
            }
        }
        if !as_json && let Some(page) = pages.last_mut() {
            page.push_str(&losing_texts(&state, found)?);
        }
    }
    if !pages.is_empty() {
        ctx.ui().page(&pages.join("\n"))?;
    }
    Ok(Exit::Done)
}

/// Texts that somebody else wrote at the same time and that lost: nobody has seen them yet.
fn losing_texts(state: &State, found: Found) -> Result<String, CliError> {
    let Some(record) = state.record(found.kind, &found.id)? else { return Ok(String::new()) };
    let mut text = String::new();
    for field in record.contested() {
        for (stamp, losing) in record.losing(field) {
            let field = printable(field);
            let _ = writeln!(text, "\nalso written as {field}, on machine {}:", printable(&stamp.actor));
            for line in losing.lines() {
                let _ = writeln!(text, "    {}", printable(line));
            }
        }
    }
    Ok(text)
}

fn show_task(
    ctx: &Context,
    state: &State,
    id: &Id,
    as_json: bool,
    pages: &mut Vec<String>,
) -> Result<(), CliError> {
    let task: Task = state.require(id)?;
    let tasks = view::task::Tasks::load(state)?;
    if as_json {
        return json::print(ctx, "task", &tasks.shown(&task, state.short_ids()?));
    }
    pages.push(tasks.page(&task, ctx.ui().painter(), state.short_ids()?, ctx.clock().now()));
    Ok(())
}

/// Says of an ambiguous prefix what each candidate is.
fn describe_candidates(state: &State, error: crate::store::Error) -> CliError {
    let crate::store::Error::Ambiguous { text, .. } = &error else { return error.into() };
    let Ok(found) = state.find(text, None) else { return error.into() };
    let mut message = format!("`{text}` could be any of these:");
    for found in found {
        let what = match found.kind {
            Kind::Task => state.get::<Task>(&found.id).ok().flatten().map(|task| task.title),
            Kind::Agent => state.get::<Agent>(&found.id).ok().flatten().map(|agent| agent.name.to_string()),
            Kind::Finding => state.get::<Finding>(&found.id).ok().flatten().map(|finding| finding.message),
            Kind::Decision => state.get::<Decision>(&found.id).ok().flatten().map(|asked| asked.question),
            Kind::Merge => state.get::<Merge>(&found.id).ok().flatten().map(|merge| merge.target),
        };
        let what = what.unwrap_or_default();
        let what = what.lines().next().unwrap_or_default();
        let _ = write!(message, "
{} {} {what}", found.kind, found.id);
    }
    CliError::new(ErrorKind::Ambiguous, message)
}

//! `git orchestra undo`: takes back what a command did.

use super::merge::refuse_agents;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::session;
use crate::cli::ui::{Label, Reply};
use crate::cli::view::operation::{Shown, ShownPlan, losses, plan, short};
use crate::model::ObjectId;
use crate::orchestrate::{self, UndoPlan, UndoStep, Undone};
use serde::Serialize;
use std::fmt::Write as _;

/// Take back what a command did
///
/// Without an id, the last command of this machine that still holds; once more takes back the one before. Records,
/// branches and worktrees go back to what they were, all of it or nothing. What somebody else changed since is named
/// and nothing is done; with --partial that stays as it is. What cannot be brought back is said first.
///
/// An undo is an operation itself: undo that one, by its id, to do again what was undone.
///
/// If anything but the state's records changes, or something cannot be brought back, it asks; where nobody can be asked
/// it needs --yes.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
#[command(after_help = "Examples:\n  git orchestra undo\n  git orchestra undo k3v8w0 --dry-run")]
pub(crate) struct Args {
    /// The operation, as `oplog` lists it
    #[arg(value_name = "OPERATION")]
    operation: Option<String>,
    /// Only say what would be done; exits with 1 if it would be refused
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// Leave as it is what somebody changed since, and undo the rest
    #[arg(long)]
    partial: bool,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

/// What was undone, as JSON shows it.
#[derive(Debug, Serialize)]
struct Done<'a> {
    /// Absent, as is the plan, if there is nothing to undo.
    #[serde(skip_serializing_if = "Option::is_none")]
    undoes: Option<Shown<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    plan: Option<ShownPlan<'a>>,
    /// Absent if nothing was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kept: Vec<Kept<'a>>,
}

#[derive(Debug, Serialize)]
struct Kept<'a> {
    rescue: &'a str,
    commit: &'a ObjectId,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    refuse_agents(ctx)?;
    ctx.recover()?;
    let store = ctx.store()?;
    let state = store.state()?;
    let logged = match &args.operation {
        Some(text) => Some(state.operation(text)?),
        None => orchestrate::find_last(store)?,
    };
    let Some(logged) = logged else {
        ctx.ui().note("nothing to undo: no command of this machine still holds");
        if args.json {
            json::print(ctx, "undo", &Done { undoes: None, plan: None, operation: None, kept: Vec::new() })?;
        }
        return Ok(Exit::Done);
    };
    let undo = UndoPlan::new(store, &logged)?;
    if args.dry_run {
        if args.json {
            print(ctx, &undo, None)?;
        } else {
            let paint = ctx.ui().painter();
            let (id, command) = (paint.paint(Label::Id, short(&logged.id)), paint.paint(Label::Title, &logged.command));
            ctx.ui().print(&format!("would undo {id} {command}\n{}", plan(&state, paint, &undo)?))?;
        }
        return undo.refusal(args.partial).map_or(Ok(Exit::Done), |refusal| Err(refusal.into()));
    }
    if !agreed(ctx, args, &undo)? {
        ctx.ui().note("nothing was undone");
        return Ok(Exit::Error);
    }
    let undo = if tear_down(ctx, &undo)? { UndoPlan::new(store, &logged)? } else { undo };
    let done = orchestrate::undo(store, &undo, &session::worktree_root(ctx)?, args.partial)?;
    if args.json {
        print(ctx, &undo, Some(&done))?;
    } else {
        say(ctx, &undo, &done)?;
    }
    Ok(Exit::Done)
}

/// Runs the teardown command in the worktrees that are about to go. Returns whether it did in any: what is lost may be
/// something else then. Where it fails, that is said, and the worktree goes all the same.
fn tear_down(ctx: &Context, undo: &UndoPlan) -> Result<bool, CliError> {
    if ctx.settings()?.teardown()?.is_empty() {
        return Ok(false);
    }
    let surroundings = session::surroundings(ctx)?;
    let mut any = false;
    for step in &undo.steps {
        let UndoStep::Remove { agent, worktree: true, .. } = step else { continue };
        any = true;
        if let Err(error) = orchestrate::tear_down(ctx.repo()?, agent, &surroundings) {
            ctx.ui().warn(format!("failed to {error}"));
        }
    }
    Ok(any)
}

/// Says what is lost, and asks if it matters.
fn agreed(ctx: &Context, args: &Args, undo: &UndoPlan) -> Result<bool, CliError> {
    let (ui, state) = (ctx.ui(), ctx.state()?);
    if !undo.is_grave() || (!args.partial && !undo.reversal.conflicts.is_empty()) {
        return Ok(true);
    }
    let paint = ui.err_painter();
    if args.yes {
        for line in losses(paint, undo).lines() {
            ui.note(line);
        }
        return Ok(true);
    }
    for line in plan(&state, paint, undo)?.lines() {
        ui.note(line);
    }
    let question = format!("Undo {} ({})?", short(&undo.operation.id), undo.operation.command);
    match ui.confirm(&question, false)? {
        Reply::Chosen(agreed) => Ok(agreed),
        Reply::Cancelled => Ok(false),
        Reply::NoTerminal => Err(CliError::usage("nobody can be asked: there is no terminal")
            .hint("`--yes` undoes it without a question; `--dry-run` says what it would do")),
    }
}

fn say(ctx: &Context, undo: &UndoPlan, done: &Undone) -> Result<(), CliError> {
    let paint = ctx.ui().painter();
    let id = paint.paint(Label::Id, short(&undo.operation.id));
    let mut text = format!("undid {id} {}\n", paint.paint(Label::Title, &undo.operation.command));
    for (name, rescue, commit) in &done.kept {
        let (name, rescue) = (paint.paint(Label::Agent, name.as_str()), paint.paint(Label::Branch, rescue));
        let commit = paint.paint(Label::Commit, commit.short());
        let _ = writeln!(text, "the work of {name} is kept as {rescue} ({commit})");
    }
    ctx.ui().print(&text)?;
    ctx.ui().hint(format!("`git orchestra undo {}` takes that back", short(&done.operation)));
    Ok(())
}

fn print(ctx: &Context, undo: &UndoPlan, done: Option<&Undone>) -> Result<(), CliError> {
    let kept = done.into_iter().flat_map(|done| &done.kept);
    let shown = Done {
        undoes: Some(Shown::new(&undo.operation)),
        plan: Some(ShownPlan::new(undo)),
        operation: done.map(|done| done.operation.as_str()),
        kept: kept.map(|(_, rescue, commit)| Kept { rescue, commit }).collect(),
    };
    json::print(ctx, "undo", &shown)
}

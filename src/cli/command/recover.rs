//! `git orchestra recover`: what a kill, a crash or a moved directory left behind, put in order and told.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::session::worktree_root;
use crate::cli::ui::{Label, printable};
use crate::model::{Agent, Id};
use crate::orchestrate::{RecoverOptions, Recovered, recover_all};
use std::fmt::Write as _;

/// Put in order what a kill, a crash or a moved directory left behind
///
/// Runs whose watcher died are recorded as lost, half-made worktrees are undone, locks of dead processes go, and
/// worktrees that moved are found again. Every command that changes something does most of that by itself; this one
/// looks everywhere and says what it found. What cannot be mended without a decision is listed with the way out.
/// With AGENT, its branch and its worktree are made again if they are gone.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra recover\n  git orchestra recover blue-heron")]
pub(crate) struct Args {
    /// Make the branch and the worktree of these again
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    // Read for names only: the state may be what has to be mended.
    let named = |text: &String| Ok::<Id, CliError>(ctx.state()?.require_named::<Agent>(text)?.id);
    let recreate = args.agents.iter().map(named).collect::<Result<_, _>>()?;
    let found = recover_all(ctx.store()?, &RecoverOptions { worktree_root: worktree_root(ctx)?, recreate })?;
    if args.json {
        json::print(ctx, "recovered", &found)?;
        return Ok(Exit::Done);
    }
    if found.is_empty() {
        ctx.ui().print("nothing to recover\n")?;
        return Ok(Exit::Done);
    }
    ctx.ui().print(&shown(ctx, &found))?;
    Ok(Exit::Done)
}

/// A line for each, and for what is left the way out below it.
fn shown(ctx: &Context, found: &[Recovered]) -> String {
    let paint = ctx.ui().painter();
    let mut text = String::new();
    for one in found {
        let (label, word) = if one.mended { (Label::Good, "mended") } else { (Label::Attention, "left  ") };
        let said = printable(&one.text);
        // Most say of whom they speak; the others do not say it twice.
        let subject = if said.contains(&one.subject) { String::new() } else { format!("{}: ", one.subject) };
        let subject = paint.paint(Label::Agent, subject);
        let _ = writeln!(text, "{}  {subject}{said}", paint.paint(label, word));
        if let Some(way_out) = &one.way_out {
            let _ = writeln!(text, "        {}", paint.paint(Label::Dim, way_out));
        }
    }
    text
}

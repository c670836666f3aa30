//! `git orchestra gc`: what we wrote is packed, and nothing of the user's is touched.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::session::own_program;
use crate::orchestrate::maintain::{Maintained, is_due, maintain};
use crate::orchestrate::measure::bytes;
use crate::process::Command;
use std::fmt::Write as _;

/// Pack what git orchestra wrote: smaller, and quicker to read
///
/// Packs the objects that the state, transcripts and notes reach, and adds their commits to git's commit-graph. Your
/// own `git gc`, its settings and your objects are left alone; both may run at once. It runs by itself, in the
/// background, about every 1,000 changes, unless maintenance.auto is false.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra gc")]
pub(crate) struct Args {
    /// Only if it is time, and without a word
    #[arg(long)]
    auto: bool,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let store = ctx.store()?;
    if args.auto && !is_due(store.repo()) {
        return Ok(Exit::Done);
    }
    if !store.is_initialised()? {
        ctx.ui().note("there is no state yet: nothing to pack");
        return Ok(Exit::Done);
    }
    let Some(done) = maintain(store)? else {
        if !args.auto {
            ctx.ui().note("another process is at it");
        }
        return Ok(Exit::Done);
    };
    if args.json {
        json::print(ctx, "gc", &done)?;
    } else if !args.auto {
        ctx.ui().print(&shown(&done))?;
    }
    Ok(Exit::Done)
}

fn shown(done: &Maintained) -> String {
    let line = |word: &str, counts: &crate::git::ObjectCounts| {
        let packs = if counts.packs == 1 { "1 pack".to_owned() } else { format!("{} packs", counts.packs) };
        let (loose, packed) = (bytes(counts.loose_bytes), bytes(counts.pack_bytes));
        format!("{word}  {} loose objects ({loose}), {packs} ({packed})\n", counts.loose)
    };
    let mut text = line("before", &done.before);
    text.push_str(&line("after ", &done.after));
    if !done.packed {
        text.push_str("nothing of ours was loose\n");
    }
    if done.combined > 0 {
        let _ = writeln!(text, "{} packs of ours became one", done.combined);
    }
    text
}

/// Starts it in the background if it is time. What goes wrong with it is nobody's concern now: the next command asks
/// again.
pub(crate) fn start_if_due(ctx: &Context) {
    let Some(repo) = ctx.opened().filter(|_| ctx.env().agent().is_none()) else { return };
    if !is_due(repo) {
        return;
    }
    let Ok(program) = own_program() else { return };
    let dir = repo.main_dir();
    let command = Command::new(program).args(["gc", "--auto"]).envs(ctx.env().iter()).current_dir(dir);
    let command = command.env("GIT_DIR", repo.common_dir()).without_env("GIT_WORK_TREE");
    if let Err(error) = command.start_and_leave() {
        tracing::debug!("cannot start maintenance: {error}");
    }
}

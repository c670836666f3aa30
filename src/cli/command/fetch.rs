//! `git orchestra fetch`: what a remote has, into tracking refs alone.

use super::sync::{With, remote, seen, short, warn_of_lost};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::ui::printable;
use crate::orchestrate;

/// Look at the state of a remote without merging it
///
/// Moves refs/orchestra/remotes/<remote>/… and nothing else; `git orchestra sync` merges. Without REMOTE, it is the
/// one of orchestra.remote, the one that the current branch follows, origin, or the only one. A remote that went
/// back, or rewrote or deleted what was seen of it, is an error with exit code 6.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra fetch")]
pub(crate) struct Args {
    #[command(flatten)]
    with: With,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let remote = remote(ctx, args.with.remote.as_deref())?;
    ctx.recover()?;
    let found = {
        let _busy = ctx.ui().busy(format!("fetching from {}", printable(&remote.name)));
        orchestrate::sync::fetch(ctx.store()?, &remote)?
    };
    let name = printable(&remote.name);
    let mut exit = Exit::Done;
    for (one, reason) in found.iter().filter_map(|one| Some((one, one.refused.as_deref()?))) {
        ctx.ui().warn(printable(&format!("{} of {name} was not taken in: {reason}", short(&one.name))));
        exit = Exit::Error;
    }
    for lost in found.iter().filter_map(|one| one.lost.as_ref()) {
        warn_of_lost(ctx, &remote.name, lost, false);
        exit = Exit::Alarm;
    }
    if args.with.json {
        json::print(ctx, "fetch", &seen(&remote, &found))?;
        return Ok(exit);
    }
    let mut moved = Vec::new();
    for one in &found {
        if let Some(new) = one.new.as_ref().filter(|_| one.old != one.new)
            && orchestrate::sync::says_something(ctx.store()?, new)?
        {
            moved.push(short(&one.name));
        }
    }
    if !orchestrate::sync::require_same_place(ctx.store()?, &remote)? {
        ctx.ui().print(&format!("{name} has no state of git-orchestra\n"))?;
    } else if moved.is_empty() {
        ctx.ui().print(&format!("nothing new on {name}\n"))?;
    } else {
        ctx.ui().print(&format!("new on {name}: {}\n", moved.join(", ")))?;
        ctx.ui().note("nothing was merged; `git orchestra sync` does that");
    }
    Ok(exit)
}

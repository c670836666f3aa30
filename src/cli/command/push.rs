//! `git orchestra push`: state and notes to a remote, only forward.

use super::sync::{Report, With, remote, settle};
use crate::cli::context::Context;
use crate::cli::session;
use crate::cli::ui::printable;
use crate::cli::error::{CliError, Exit};
use crate::orchestrate;

/// Push state and findings to a remote
///
/// Never forces anything: if others pushed first, their changes are merged and it is tried again. Without REMOTE,
/// it is the one of orchestra.remote, the one that the current branch follows, origin, or the only one.
///
/// A branch whose new commits hold what looks like a secret is not pushed: the commit, file, line and kind are
/// named, and the rest is pushed. `push.allow` lists what is none, by the word in brackets.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra push\n  git orchestra push --branches origin")]
pub(crate) struct Args {
    /// Push the branches of agents too, in the same connection
    #[arg(long)]
    branches: bool,
    #[command(flatten)]
    with: With,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let remote = remote(ctx, args.with.remote.as_deref())?;
    ctx.recover()?;
    let synced = {
        let _busy = ctx.ui().busy(format!("pushing to {}", printable(&remote.name)));
        let guard = args.branches.then(|| session::guard(ctx)).transpose()?;
        orchestrate::sync::push(ctx.store()?, &remote, guard.as_ref())?
    };
    let exit = Report::new(&remote, &synced).show(ctx, args.with.json)?;
    settle(ctx, remote)?;
    Ok(exit)
}

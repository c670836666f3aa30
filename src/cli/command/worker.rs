//! `git orchestra worker`: work on the queue.

use super::confinement::SandboxArgs;
use super::limits::{LimitArgs, budgets};
use super::task::claim::QueueArgs;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::session::{self, SessionOptions};
use crate::orchestrate;
use crate::orchestrate::worker::{Until, Worker};

/// Claim ready tasks of all machines, and run an agent for each
///
/// Of all workers that want a task exactly one gets it. A run's branch is pushed to the remote together with the end
/// of its claim; an agent that changed nothing closes its task, what it changed waits for `merge`, what failed waits
/// for a person. While it works, this machine says that it is alive, and sends what its agents have not committed
/// yet; after orchestra.claimTtl without that (10 minutes unless set) others may take over.
///
/// A worker that is to end by itself ends, with exit code 9, when the budget of all agents (`fleet.max-…`) is used up; one
/// that waits for more work claims nothing until it is not. A task whose own budget (`task.max-…`) is used up waits for a
/// person.
///
/// Ctrl-C claims nothing more, gives back what was not started, and ends what runs; a second one ends it at once.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra worker --jobs 4\n  git orchestra worker --zone parser --until-empty"
)]
pub(crate) struct Args {
    /// How many agents run at once
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: Option<u32>,
    /// Only tasks of this zone
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// The profile to run agents with
    #[arg(short, long, value_name = "PROFILE")]
    profile: Option<String>,
    /// Claim once, and end when that is done
    #[arg(long, conflicts_with = "until_empty")]
    once: bool,
    /// End when there is nothing to claim [default: wait for more]
    #[arg(long)]
    until_empty: bool,
    #[command(flatten)]
    confined: SandboxArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    queue: QueueArgs,
    /// Print events as JSON, one document a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    ctx.recover()?;
    let mut outfit = session::outfit(ctx, args.profile.as_deref(), args.confined.sandbox)?;
    outfit.budget = args.limits.budget();
    orchestrate::budget::check(ctx.store()?, &budgets(ctx)?, &[])?;
    let settings = ctx.settings()?;
    let jobs = args.jobs.unwrap_or_else(|| settings.jobs());
    let worker = Worker {
        queue: args.queue.open(ctx)?,
        outfit,
        zone: args.zone.clone(),
        jobs: usize::try_from(jobs).unwrap_or(usize::MAX),
        holds_back: settings.holds_back(),
        until: match (args.once, args.until_empty) {
            (true, _) => Until::Once,
            (_, true) => Until::Empty,
            _ => Until::Stopped,
        },
        transcripts: settings.sends_transcripts(),
        ttl: settings.claim_ttl(),
        guard: session::guard(ctx)?,
        given: None,
    };
    let options = SessionOptions { jobs: Some(jobs), json: args.json, inner: false, hints: true };
    let session = session::run_worker(ctx, worker, options)?;
    if session.finished.is_empty() && session.signal.is_none() {
        ctx.ui().note("no task was ready that nobody holds");
    }
    Ok(session.exit())
}

//! `git orchestra take`: an agent of another machine goes on here.

use super::confinement::SandboxArgs;
use super::task::claim::QueueArgs;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::session::{self, SessionOptions};
use crate::cli::ui::printable;
use crate::model::Agent;
use crate::orchestrate;
use crate::orchestrate::take::TakeOptions;
use crate::orchestrate::worker::{Given, Until, Worker};

/// Go on here with an agent of another machine
///
/// Its claim, its branch and what a worker's agent had not committed come along; the latter as the last commit of its
/// branch. Its conversation goes on here if its program is Claude Code or Codex and its machine sends what agents said
/// (orchestra.transcripts = remote: redacted, without what they thought, at most 8 MiB). Otherwise another one begins,
/// with a written handoff: its task, the open findings, what it changed, and what is known of what it said.
///
/// Its run is like a worker's: this machine says that it is alive, and its branch is pushed with the end of its claim.
///
/// Only what nobody works on is taken: a run that is over, or a machine that was seen silent for its time, by the
/// clock here. --force takes it all the same; what it did since it was last heard of is lost then, and so is what it
/// still does there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra take blue-heron")]
pub(crate) struct Args {
    /// The agent
    #[arg(value_name = "AGENT")]
    agent: String,
    /// What to tell it beside that
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// The profile to run it with [default: the one it was made with]
    #[arg(short, long, value_name = "PROFILE")]
    profile: Option<String>,
    /// Take it from a machine that may still work on it
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    confined: SandboxArgs,
    #[command(flatten)]
    queue: QueueArgs,
    /// Print events as JSON, one document a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    ctx.recover()?;
    let queue = args.queue.open(ctx)?;
    let mut state = ctx.state()?;
    if state.require_named::<Agent>(&args.agent).is_err() {
        // It may be newer than what is known here.
        queue.look()?;
        state = ctx.state()?;
    }
    let agent: Agent = state.require_named(&args.agent)?;
    let outfit = session::outfit(ctx, Some(args.profile.as_deref().unwrap_or(&agent.profile)), args.confined.sandbox)?;
    let settings = ctx.settings()?;
    let (ttl, transcripts) = (settings.claim_ttl(), settings.sends_transcripts());
    let options = TakeOptions { force: args.force, extra: args.message.clone(), ttl: Some(ttl) };
    let surroundings = session::surroundings(ctx)?;
    let taken = {
        let _busy = ctx.ui().busy(format!("taking {}", agent.name));
        orchestrate::take::take(&queue, &agent.id, &options, &outfit, &surroundings)?
    };
    for said in queue.take_said() {
        ctx.ui().warn(said);
    }
    let mut came = Vec::new();
    if taken.work {
        came.push("its branch");
    }
    if taken.uncommitted {
        came.push("what it had not committed (as the last commit)");
    }
    if taken.events > 0 {
        came.push("its transcript");
    }
    let goes_on = match &taken.conversation {
        Ok(()) => {
            came.push("its conversation");
            "its conversation goes on".to_owned()
        }
        Err(why) => format!("a new conversation begins with a handoff: {}", printable(why)),
    };
    if came.is_empty() {
        came.push("nothing but its record");
    }
    ctx.ui().note(format!("took {} from machine {}: {}", agent.name, taken.from, came.join(", ")));
    if !taken.work {
        let base = agent.base.short();
        ctx.ui().warn(format!("nothing that {} made was sent to the remote: it begins anew from {base}", agent.name));
    }
    ctx.ui().note(goes_on);
    let given = Given { claim: taken.claim, task: agent.task, fence: taken.fence };
    let (zone, until, jobs) = (None, Until::Once, 1);
    let guard = session::guard(ctx)?;
    let worker = Worker { queue, outfit, zone, jobs, holds_back: false, until, transcripts, ttl, guard, given: Some(given) };
    let options = SessionOptions { jobs: Some(1), json: args.json, inner: false, hints: true };
    Ok(session::run_worker(ctx, worker, options)?.exit())
}

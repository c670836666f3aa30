//! `git orchestra attach`: look at a running agent, and speak to it.

use crate::cli::attach;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::model::Agent;
use crate::orchestrate::{lease, status};

/// Show what a running agent does, from the beginning of its run
///
/// Works for agents without a terminal and for those of another one. What is typed is told to the agent; what it may
/// not do by itself is asked here as long as you look. Ctrl-C or Ctrl-D stops looking, and nothing else: the agent
/// works on.
///
/// When its run ends, so does this, with the exit code of `spawn`. Agents may not call this.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra spawn --detach k3v8 && git orchestra attach parse-dates")]
pub(crate) struct Args {
    /// The agent
    #[arg(value_name = "AGENT")]
    agent: String,
    /// Print events as JSON, one document a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    crate::cli::steer::refuse_agents(ctx)?;
    ctx.recover()?;
    let agent: Agent = ctx.state()?.require_named(&args.agent)?;
    let Some(lease) = lease::find_live(ctx.repo()?, &agent.id) else {
        let state = status::activity_of(ctx.store()?, &agent)?;
        let words = format!("{} does not run ({})", agent.name, state.word());
        let name = &agent.name;
        return Err(CliError::new(ErrorKind::Failed, words).hint(format!(
            "`git orchestra log {name}` shows what it did, `git orchestra resume {name} --detach` goes on with it"
        )));
    };
    attach::attach(ctx, &agent, &lease, args.json)
}

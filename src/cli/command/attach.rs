//! `git orchestra attach`: look at running agents, and speak to them.

use crate::cli::attach::{self, Whom};
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::steer;
use crate::model::Agent;
use crate::orchestrate::lease::{self, LeaseInfo};
use crate::orchestrate::status;

/// Show what running agents do
///
/// Works for agents without a terminal and for those of another one. Without AGENT all are shown that run in this
/// repository, in one view, and those that start meanwhile. On a terminal each has a line, and what they say is
/// merged above; `?` tells about keys: to look at one alone, to pause, to tell it something, to interrupt or stop it.
/// Into a pipe every line comes whole, from the beginning of each run.
///
/// One agent alone is shown from the beginning of its run, and what is typed is told to it.
///
/// What agents may not do by themselves is asked here as long as you look. Ctrl-C stops looking, and nothing else: the
/// agents work on. When their runs end, so does this, with the exit code of `spawn`. Agents may not call this.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra spawn --detach k3v8 && git orchestra attach parse-dates\n  git orchestra attach"
)]
pub(crate) struct Args {
    /// The agents [default: all that run here]
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,
    /// Stay when no agent runs any more, and show those that start later
    #[arg(short, long, conflicts_with = "agents")]
    follow: bool,
    /// Print events as JSON, one document a line
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    steer::refuse_agents(ctx)?;
    ctx.recover()?;
    if args.agents.is_empty() {
        return attach::attach(ctx, Whom::Everybody { follow: args.follow }, args.json);
    }
    let agents = steer::named(ctx, &args.agents)?.into_iter().map(|agent| live(ctx, agent));
    attach::attach(ctx, Whom::These(agents.collect::<Result<_, _>>()?), args.json)
}

/// An agent and who watches it.
fn live(ctx: &Context, agent: Agent) -> Result<(Agent, LeaseInfo), CliError> {
    if let Some(lease) = lease::find_live(ctx.repo()?, &agent.id) {
        return Ok((agent, lease));
    }
    let state = status::activity_of(ctx.store()?, &agent)?;
    steer::refuse_elsewhere(ctx, &agent, &state)?;
    let words = format!("{} does not run ({})", agent.name, state.word());
    let name = &agent.name;
    Err(CliError::new(ErrorKind::Failed, words).hint(format!(
        "`git orchestra log {name}` shows what it did, `git orchestra resume {name} --detach` goes on with it"
    )))
}

//! `git orchestra stop`: agents end, wherever they run here.

use super::wait::wait_until_recorded;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::steer::{self, Told, Whom};
use crate::cli::ui::Label;
use crate::model::Agent;
use crate::orchestrate::control::Ask;
use crate::orchestrate::lease;

/// Stop agents, in whichever terminal or without one they run
///
/// Each is asked to end, is killed to its last process if it does not within the grace period, and what it left is
/// committed: `resume` goes on with it. One that waits for its turn does not start. Agents that do not run stay as
/// they are. Names that no agent has are told of (exit code 8), and all others are stopped. A task stands for the
/// agents that work on it: no later step of its team begins.
///
/// Agents may not call this.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
#[command(after_help = "Examples:\n  git orchestra stop blue-heron\n  git orchestra stop 3f2a   # whoever works on that task\n  git orchestra stop --all --wait")]
pub(crate) struct Args {
    /// The agents, or tasks
    #[arg(value_name = "AGENT", required_unless_present = "all", conflicts_with = "all")]
    agents: Vec<String>,
    /// Every agent that runs in this repository on this machine
    #[arg(short, long)]
    all: bool,
    /// Kill them at once; what they left is kept all the same
    #[arg(long)]
    now: bool,
    /// Return when they have ended and are recorded
    #[arg(short, long)]
    wait: bool,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    steer::refuse_agents(ctx)?;
    ctx.recover()?;
    let (agents, unknown) = if args.all { (running(ctx)?, None) } else { known(ctx, &args.agents)? };
    if agents.is_empty() && unknown.is_none() && !args.json {
        ctx.ui().note("no agent runs here");
    }
    let mut all = Vec::new();
    let mut failed = None;
    for agent in agents {
        // One that cannot be reached does not keep the others running.
        match steer::tell(ctx, &agent, &Ask::Stop { agent: Some(agent.id), now: args.now }) {
            Ok(told) => {
                if !args.json {
                    say(ctx, &agent, &told, args.wait)?;
                }
                all.push((agent, told));
            }
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    if args.wait {
        for (agent, _) in &all {
            let ended = wait_until_recorded(ctx, agent)?;
            if !args.json && matches!(all.iter().find(|(one, _)| one.id == agent.id), Some((_, Told::Done))) {
                let name = ctx.ui().painter().paint(Label::Agent, agent.name.as_str());
                ctx.ui().print(&format!("{name}  {}\n", ended.word()))?;
            }
        }
    }
    if args.json {
        steer::print(ctx, &all)?;
    }
    failed.or(unknown).map_or(Ok(Exit::Done), Err)
}

/// The agents that were named, each once, and what to say of names that no agent has: those keep no other one running.
fn known(ctx: &Context, names: &[String]) -> Result<(Vec<Agent>, Option<CliError>), CliError> {
    let (mut known, mut unknown) = (Whom::default(), Vec::new());
    for name in names {
        match known.add(ctx, name) {
            Ok(()) => {}
            Err(error) if error.is_no_agent() => unknown.push(error),
            Err(error) => return Err(error),
        }
    }
    let last = unknown.pop();
    for error in unknown {
        ctx.ui().warn(error.sentence());
    }
    Ok((known.now(ctx.store()?)?, last))
}

/// Every agent that somebody watches here.
fn running(ctx: &Context) -> Result<Vec<Agent>, CliError> {
    let state = ctx.state()?;
    let mut agents = Vec::new();
    for lease in lease::live(ctx.repo()?) {
        agents.extend(state.get::<Agent>(&lease.agent)?);
    }
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(agents)
}

fn say(ctx: &Context, agent: &Agent, told: &Told, waits: bool) -> Result<(), CliError> {
    let name = ctx.ui().painter().paint(Label::Agent, agent.name.as_str());
    match told {
        Told::Idle(activity) => ctx.ui().note(format!("{} does not run ({})", agent.name, activity.word())),
        Told::Refused(why) => ctx.ui().note(format!("{}: {why}", agent.name)),
        Told::Done if waits => ctx.ui().note(format!("stopping {}", agent.name)),
        Told::Done => ctx.ui().print(&format!("{name}  stopping\n"))?,
    }
    Ok(())
}

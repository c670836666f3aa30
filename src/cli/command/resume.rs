//! `git orchestra resume`: an agent goes on.

use super::claiming::{self, ClaimArgs};
use super::confinement::SandboxArgs;
use super::limits::{LimitArgs, budgets};
use crate::cli::apart;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::session::{self, SessionOptions};
use crate::model::Agent;
use crate::orchestrate;

/// Go on with agents whose run has ended
///
/// Continues the recorded conversation in another run, in the same worktree and on the same branch; a worktree that
/// is gone is made again. An agent that never started begins. What was answered to its questions meanwhile holds.
///
/// A task that the remote knows is claimed there again first, as `spawn` does it; if another machine has it by now, that is
/// said, and nobody goes on. A remote that does not answer keeps nobody.
///
/// One whose budget is used up goes on with a greater one: --max-cost and the like count all its runs, and hold from
/// then on. The exit code is 9 while a budget is used up.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra resume blue-heron -m 'The tests fail on an empty file'")]
pub(crate) struct Args {
    /// The agents
    #[arg(value_name = "AGENT", required = true)]
    agents: Vec<String>,
    /// What to tell them [default: to go on]
    #[arg(short, long, value_name = "TEXT")]
    message: Option<String>,
    /// The profile to run them with [default: the one they were made with]
    #[arg(short, long, value_name = "PROFILE")]
    profile: Option<String>,
    #[command(flatten)]
    confined: SandboxArgs,
    #[command(flatten)]
    limits: LimitArgs,
    #[command(flatten)]
    claiming: ClaimArgs,
    /// How many agents run at once
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: Option<u32>,
    /// Run each in the background, in a process of its own, and return when it has begun
    ///
    /// It goes on when the terminal closes. `attach` shows what it does and takes messages, `stop` ends it. As many
    /// as --jobs says run at once, whichever command started them; the others wait. Questions that nobody is there to
    /// answer are kept for `decide`.
    #[arg(short, long)]
    detach: bool,
    /// Print events as JSON, one document a line; with --detach, one document (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

/// Lets an agent that does not run go on, with a message.
pub(super) fn tell(ctx: &Context, agent: &Agent, message: &str, detach: bool) -> Result<Exit, CliError> {
    let args = Args {
        agents: vec![agent.id.to_string()],
        message: Some(message.to_owned()),
        profile: None,
        confined: SandboxArgs::default(),
        limits: LimitArgs::default(),
        claiming: ClaimArgs::default(),
        jobs: None,
        detach,
        json: false,
    };
    run(ctx, &args)
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    ctx.recover()?;
    let surroundings = session::surroundings(ctx)?;
    orchestrate::make_room(ctx.store()?, &surroundings, |said| ctx.ui().note(said))?;
    let state = ctx.state()?;
    let mut wanted = Vec::<Agent>::new();
    for text in &args.agents {
        let agent: Agent = state.require_named(text)?;
        if wanted.iter().all(|other| other.id != agent.id) {
            wanted.push(agent);
        }
    }
    let budgets = budgets(ctx)?;
    let mut outfits = Vec::new();
    for agent in &wanted {
        let profile = args.profile.as_deref().unwrap_or(&agent.profile);
        let mut outfit = session::outfit(ctx, Some(profile), args.confined.sandbox)?;
        outfit.budget = args.limits.budget();
        if outfit.profile.program != agent.program {
            let words = format!("{} was made with {}, not with {}", agent.name, agent.program, outfit.profile.program);
            return Err(CliError::usage(words).hint("name a profile of the same program with --profile"));
        }
        let budget = outfit.budget.or(&agent.budget).or(&outfit.profile.budget);
        orchestrate::budget::check_agent(ctx.store()?, &budgets, agent, &budget)?;
        outfits.push(outfit);
    }
    claiming::reserve_again(ctx, &args.claiming, &wanted)?;
    let mut claims = Vec::new();
    for (agent, outfit) in wanted.iter().zip(outfits) {
        for doubted in orchestrate::doubted_answers(ctx.store()?, &agent.id, outfit.any_answer)? {
            ctx.ui().warn(format!("{}: {doubted}", agent.name));
        }
        claims.push(orchestrate::resume(ctx.store()?, &agent.id, args.message.as_deref(), &outfit)?);
    }
    if args.detach {
        return apart::detach(ctx, claims, args.jobs, args.json, None);
    }
    let options = SessionOptions { jobs: args.jobs, json: args.json, inner: false, hints: true };
    Ok(session::run(ctx, claims, options)?.exit())
}

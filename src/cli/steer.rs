//! What commands that speak to running agents have in common: whom they mean, who may, and what became of it.

use super::context::Context;
use super::error::{CliError, ErrorKind};
use super::json;
use crate::model::{Agent, Id, Name};
use crate::orchestrate::control::{self, Answer, Ask, Refusal};
use crate::orchestrate::lease::{self, LeaseInfo};
use crate::orchestrate::status::{self, Activity};
use serde::Serialize;

/// Refuses agents: what one reads could make it stop or steer the others. Looking and waiting is open to them.
pub(crate) fn refuse_agents(ctx: &Context) -> Result<(), CliError> {
    if ctx.is_of_an_agent() {
        return Err(CliError::new(
            ErrorKind::Failed,
            "agents do not stop, steer or answer agents: people do",
        )
        .hint("`git orchestra finding add` tells people what you noticed"));
    }
    Ok(())
}

/// What became of a wish about one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Told {
    /// It was handed on.
    Done,
    /// It does not run: how it stands.
    Idle(Activity),
    /// It runs, and the wish was refused.
    Refused(Refusal),
}

/// An agent that something was asked of, as JSON shows it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    agent: &'a Id,
    name: &'a Name,
    /// Whether it was handed on.
    done: bool,
    /// How the agent stands, if it does not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'static str>,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<Refusal>,
}

/// The agents that were named, in order, each once.
pub(crate) fn named(ctx: &Context, names: &[String]) -> Result<Vec<Agent>, CliError> {
    let state = ctx.state()?;
    let mut agents: Vec<Agent> = Vec::new();
    for name in names {
        let agent: Agent = state.require_named(name)?;
        if agents.iter().all(|other| other.id != agent.id) {
            agents.push(agent);
        }
    }
    Ok(agents)
}

/// Hands a wish to whoever watches `agent`.
pub(crate) fn tell(ctx: &Context, agent: &Agent, wish: &Ask) -> Result<Told, CliError> {
    let repo = ctx.repo()?;
    let Some(lease) = lease::find_live(repo, &agent.id) else {
        return idle(ctx, agent);
    };
    match control::ask(repo, &lease, wish) {
        Ok(Answer::Refused { why: Refusal::NotUnderstood }) => Err(unreachable(
            CliError::new(
                ErrorKind::Failed,
                format!("failed to speak to the process that watches {}", agent.name),
            ),
            &lease,
        )),
        Ok(Answer::Refused { why }) => Ok(Told::Refused(why)),
        Ok(_) => Ok(Told::Done),
        // It may have ended in this very moment.
        Err(_) if lease::find_live(repo, &agent.id).is_none() => {
            let state = ctx.store()?.state()?;
            let agent = state.get::<Agent>(&agent.id)?.unwrap_or_else(|| agent.clone());
            idle(ctx, &agent)
        }
        Err(error) => Err(unreachable(error.into(), &lease)),
    }
}

/// How an agent stands that nobody watches here; an error if it may run on another machine.
fn idle(ctx: &Context, agent: &Agent) -> Result<Told, CliError> {
    let activity = status::activity_of(ctx.store()?, agent)?;
    refuse_elsewhere(ctx, agent, &activity)?;
    Ok(Told::Idle(activity))
}

/// Refuses an agent that runs on another machine: nothing that is asked here reaches it.
pub(crate) fn refuse_elsewhere(ctx: &Context, agent: &Agent, activity: &Activity) -> Result<(), CliError> {
    if !matches!(activity, Activity::Elsewhere { .. }) {
        return Ok(());
    }
    let name = &agent.name;
    let words = format!("{name} does not run here but {}", activity.evidence(ctx.clock().now()));
    Err(CliError::new(ErrorKind::Failed, words).hint(format!(
        "on that machine `git orchestra stop {name}` ends it, and `send` and `attach` reach it; once that machine is silent, `git orchestra take {name}` goes on with it here"
    )))
}

fn unreachable(error: CliError, lease: &LeaseInfo) -> CliError {
    error.hint(format!(
        "`kill {}` ends it and its agents cleanly; after `kill -9` the next command tidies up",
        lease.supervisor.pid
    ))
}

/// Prints what became of a wish, as JSON.
pub(crate) fn print(ctx: &Context, all: &[(Agent, Told)]) -> Result<(), CliError> {
    let shown: Vec<Shown<'_>> = all
        .iter()
        .map(|(agent, told)| Shown {
            agent: &agent.id,
            name: &agent.name,
            done: *told == Told::Done,
            state: match told {
                Told::Idle(activity) => Some(activity.word()),
                _ => None,
            },
            why: match told {
                Told::Refused(why) => Some(*why),
                _ => None,
            },
        })
        .collect();
    json::print(ctx, "steered", &shown)
}

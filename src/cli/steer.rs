//! What commands that speak to running agents have in common: whom they mean, who may, and what became of it.

use super::context::Context;
use super::error::{CliError, ErrorKind};
use super::json;
use crate::model::{Agent, Id, Kind, Name};
use crate::orchestrate::control::{self, Answer, Ask, Refusal};
use crate::orchestrate::lease::{self, LeaseInfo};
use crate::orchestrate::status::{self, Activity};
use crate::store::{Error::NotFound, Store};
use serde::Serialize;
use std::collections::BTreeSet;

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

/// Agents, and tasks that stand for those who work on them.
#[derive(Debug, Default)]
pub(crate) struct Whom {
    agents: Vec<Agent>,
    tasks: Vec<Id>,
}

impl Whom {
    /// Finds what each of `names` names.
    pub(crate) fn find(ctx: &Context, names: &[String]) -> Result<Self, CliError> {
        let mut whom = Self::default();
        for name in names {
            whom.add(ctx, name)?;
        }
        Ok(whom)
    }

    /// Adds what a name names. An agent comes first: its name may look like the beginning of an id.
    pub(crate) fn add(&mut self, ctx: &Context, name: &str) -> Result<(), CliError> {
        let state = ctx.state()?;
        let error = match state.require_named::<Agent>(name) {
            Ok(agent) => {
                self.agents.push(agent);
                return Ok(());
            }
            Err(error) => CliError::from(error),
        };
        if !error.is_not_found() {
            return Err(error);
        }
        let task = match state.resolve(name, Some(Kind::Task)) {
            Ok(found) => found.id,
            Err(NotFound { .. }) => return Err(error.kind(ErrorKind::NoAgent)),
            Err(error) => return Err(error.into()),
        };
        if who_does(&state.all()?, &task, &|_| false).is_empty() {
            let text = format!("no agent works on task {}", state.short_ids()?.shorten(&task));
            return Err(CliError::new(ErrorKind::NoAgent, text));
        }
        self.tasks.push(task);
        Ok(())
    }

    /// The tasks.
    pub(crate) fn tasks(&self) -> &[Id] {
        &self.tasks
    }

    /// Who that is as of now: those who were named, and of each task those who are at work, or else the last ones.
    pub(crate) fn now(&self, store: &Store) -> Result<Vec<Agent>, CliError> {
        // Only a task asks who is at work.
        let live = if self.tasks.is_empty() { Vec::new() } else { lease::live(store.repo()) };
        let live: BTreeSet<Id> = live.into_iter().map(|lease| lease.agent).collect();
        // After the leases: who let go of one by then is recorded in it.
        let state = store.state()?;
        let mut agents: Vec<Agent> = Vec::new();
        for agent in &self.agents {
            agents.push(state.get(&agent.id)?.unwrap_or_else(|| agent.clone()));
        }
        if !self.tasks.is_empty() {
            let all: Vec<Agent> = state.all()?;
            for task in &self.tasks {
                agents.extend(who_does(&all, task, &|agent| live.contains(&agent.id)).into_iter().cloned());
            }
        }
        let mut seen = BTreeSet::new();
        agents.retain(|agent| seen.insert(agent.id));
        Ok(agents)
    }
}

/// Who works on a task: those who are `live`, and of each step, or where there is none of the task, the youngest.
fn who_does<'a>(all: &'a [Agent], task: &Id, live: &dyn Fn(&Agent) -> bool) -> Vec<&'a Agent> {
    let mut agents: Vec<&Agent> =
        all.iter().filter(|agent| agent.task.as_ref() == Some(task) && agent.removed.is_none()).collect();
    agents.sort_by_key(|agent| std::cmp::Reverse((agent.created, agent.id)));
    let mut steps = BTreeSet::new();
    agents.retain(|agent| {
        let youngest = steps.insert(agent.step.as_ref().map(|of| (&of.team, &of.step)));
        youngest || live(agent)
    });
    agents.reverse();
    agents
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

//! Agents that run without a terminal: each is handed to a process of its own, which goes on when the terminal goes.

use super::command::teamwork;
use super::context::Context;
use super::error::{CliError, ErrorKind, Exit};
use super::json;
use super::notify::Notifier;
use super::session::{self, Staged};
use super::ui::Label;
use crate::model::{EventKind, Id, Name};
use crate::orchestrate::supervise::{Progress, Request};
use crate::orchestrate::team::{self, Onward};
use crate::orchestrate::{Claim, Handed, Handover, Slot, Taken, hand_over, report, run_claims, take_over};
use crate::process::{Command, Interrupt, Interrupts, step_away};
use crate::store::Store;
use serde::Serialize;
use std::ffi::OsStr;
use std::os::unix::net::UnixStream;
use tokio::sync::mpsc;

/// The hidden command that the process of its own runs.
pub(crate) const COMMAND: &str = "__supervise";

/// An agent that was handed over, as JSON shows it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    agent: &'a Id,
    name: &'a Name,
    run: u32,
    #[serde(flatten)]
    handed: &'a Handed,
}

/// Hands each claim to a process of its own, and says how each began. `jobs` of them run at once. With `onward` they
/// are steps of teams, and each process begins those that come after its own.
pub(crate) fn detach(
    ctx: &Context,
    claims: Vec<Claim>,
    jobs: Option<u32>,
    json: bool,
    onward: Option<&Onward>,
) -> Result<Exit, CliError> {
    let jobs = jobs.map_or_else(|| ctx.settings().map(super::super::config::Settings::jobs), Ok)?;
    let (program, operation) = (program(ctx)?, ctx.store()?.operation());
    let mut names: Vec<&str> = claims.iter().map(|claim| claim.agent.name.as_str()).collect();
    names.sort_unstable();
    if !json {
        let paint = ctx.ui().err_painter();
        ctx.ui().note(format!("starting {}", paint.paint(Label::Agent, names.join(", "))));
    }
    let mut handovers: Vec<(Id, u32, Result<Handover, CliError>)> = Vec::new();
    for claim in claims {
        let (agent, run) = (claim.agent.id, claim.agent.last_run().map_or(1, |(run, _)| run));
        handovers.push((
            agent,
            run,
            hand_over(claim, jobs, operation, onward, &program).map_err(CliError::from),
        ));
    }
    let mut all = Vec::new();
    for (agent, run, handover) in handovers {
        let mut handover = handover?;
        let last = handover.hear_out();
        if !json {
            say(ctx, &handover.name, &last)?;
        }
        all.push((agent, handover.name, run, last));
    }
    if json {
        let shown: Vec<_> =
            all.iter().map(|(agent, name, run, handed)| Shown { agent, name, run: *run, handed }).collect();
        json::print(ctx, "detached", &shown)?;
    }
    let failed = all.iter().any(|(_, _, _, handed)| matches!(handed, Handed::Failed { .. }));
    if failed {
        // What a process that died had claimed is free again.
        ctx.recover()?;
    } else if let (false, Some((_, name, ..))) = (json, all.first()) {
        if onward.is_some() {
            ctx.ui().hint("each step begins the next; `git orchestra status` shows how far it is");
        }
        ctx.ui().hint(format!(
            "`git orchestra attach {name}` shows what it does, `git orchestra stop {name}` ends it"
        ));
    }
    Ok(if failed { Exit::AgentFailed } else { Exit::Done })
}

fn say(ctx: &Context, name: &Name, handed: &Handed) -> Result<(), CliError> {
    let paint = ctx.ui().painter();
    let (label, words) = match handed {
        Handed::Started { .. } | Handed::Taken => (Label::Running, "started".to_owned()),
        Handed::Queued => (Label::Waiting, "queued".to_owned()),
        Handed::Failed { why } => (Label::Bad, format!("not started: {why}")),
    };
    let name = paint.paint(Label::Agent, name.as_str());
    ctx.ui().print(&format!("{name}  {}\n", paint.paint(label, words)))
}

/// Ourselves, in the directory that settings and programs are looked for in.
fn program(ctx: &Context) -> Result<Command, CliError> {
    let repo = ctx.repo()?;
    let dir = repo.work_dir().unwrap_or_else(|| repo.main_dir());
    let env = ctx.env().iter().filter(|(key, _)| !["GIT_DIR", "GIT_WORK_TREE"].map(OsStr::new).contains(key));
    let mut command = Command::new(session::own_program()?).arg(COMMAND).envs(env).current_dir(dir);
    if ctx.env().var("GIT_DIR").is_some() {
        command = command.env("GIT_DIR", repo.common_dir());
    }
    Ok(command)
}

/// What the process of its own does: takes the agent over, says how it began, and watches it to its end.
pub(crate) fn supervise(ctx: &Context) -> Result<Exit, CliError> {
    let (socket, lease) =
        step_away().map_err(|error| CliError::failed("failed to leave the terminal", error))?;
    let (mut taken, socket) = take_over(ctx.repo()?, socket, lease)?;
    report(&socket, &Handed::Taken);
    let after = taken.onward.take().map(|onward| (onward, taken.claim.agent.clone()));
    let store = ctx.store()?.clone();
    let (jobs, operation) = (taken.jobs, taken.operation.take());
    let store = operation.map_or_else(|| store.clone(), |operation| store.with_operation(operation));
    let watched = session::runtime().and_then(|runtime| {
        let watched = runtime.block_on(watch(ctx, taken, store.clone(), &mut Some(&socket)));
        runtime.shutdown_background();
        watched
    });
    if let Err(error) = &watched {
        report(&socket, &Handed::Failed { why: error.sentence() });
    }
    if let (Ok(_), Some((onward, agent))) = (&watched, after)
        && let (Some(task), Some(of)) = (agent.task, agent.step)
    {
        // Nobody looks: why a step does not begin is a finding.
        let stuck = go_on(ctx, &store, (&task, &of.team), &onward, jobs)
            .unwrap_or_else(|error| vec![("its next step".to_owned(), error)]);
        for (step, error) in &stuck {
            let why = (error.sentence(), error.hints().next());
            team::note_stuck(&store, &task, &of.team, step, (&why.0, why.1))?;
        }
    }
    watched
}

/// Begins the steps of a task's team that waited for one that is over now. Returns those that could not begin, and why.
fn go_on(
    ctx: &Context,
    store: &Store,
    (task, team): (&Id, &str),
    onward: &Onward,
    jobs: u32,
) -> Result<Vec<(String, CliError)>, CliError> {
    let turn = team::take_turn(store.repo())?;
    let claims = teamwork::claim_wanted(ctx, store, task, team, onward)?;
    drop(turn);
    let program = program(ctx)?;
    let (mut handovers, mut stuck) = (Vec::new(), Vec::new());
    for (step, claim) in claims {
        let handed =
            claim.and_then(|claim| Ok(hand_over(claim, jobs, store.operation(), Some(onward), &program)?));
        match handed {
            Ok(handover) => handovers.push((step, handover)),
            Err(error) => stuck.push((step, error)),
        }
    }
    for (step, mut handover) in handovers {
        if let Handed::Failed { why } = handover.hear_out() {
            stuck.push((step, CliError::new(ErrorKind::Failed, why)));
        }
    }
    Ok(stuck)
}

async fn watch(
    ctx: &Context,
    taken: Taken,
    store: Store,
    socket: &mut Option<&UnixStream>,
) -> Result<Exit, CliError> {
    let mut interrupts =
        Interrupts::listen().map_err(|error| CliError::failed("failed to listen for signals", error))?;
    let Staged { supervisor, mut surroundings, store } =
        session::stage(ctx, store, Some(1), false, session::PATIENCE)?;
    let slot = Slot::one_of(taken.jobs);
    let mut tell = |handed: &Handed| {
        if let Some(socket) = socket.take() {
            report(socket, handed);
            // Whoever listens need not wait any longer.
            let _ = socket.shutdown(std::net::Shutdown::Both);
        }
    };
    if !slot.attempt(store.repo())? {
        tell(&Handed::Queued);
    }
    surroundings.slot = Some(slot);
    let agent = &taken.claim.agent;
    let mut notifier = Notifier::new(ctx, [(agent.id, &agent.name)])?;
    let (requests, receiver) = mpsc::channel(64);
    let (progress, mut told) = mpsc::channel(1024);
    let claims = vec![taken.claim];
    let pulse = session::pulse(ctx, &claims, requests.clone())?;
    let running =
        tokio::spawn(run_claims(claims, surroundings, store, supervisor, receiver, progress, pulse));
    loop {
        tokio::select! {
            next = told.recv() => {
                let Some(next) = next else { break };
                notifier.take(&next, ctx.ui())?;
                match next {
                    Progress::Started { pid, .. } => tell(&Handed::Started { pid }),
                    Progress::Event { event, .. } if matches!(event.kind, EventKind::Parked { .. }) => {
                        tell(&Handed::Queued);
                    }
                    Progress::Finished(finished) => {
                        let why = match (&finished.error, &finished.outcome) {
                            (Some(error), _) => format!("failed to {error}"),
                            (None, Some(outcome)) => super::view::agent::outcome_words(outcome),
                            (None, None) => "it was stopped before it began".to_owned(),
                        };
                        tell(&Handed::Failed { why });
                    }
                    _ => {}
                }
            }
            why = notifier.failed() => tracing::warn!("{why}"),
            interrupt = interrupts.next() => {
                let by = "signal".to_owned();
                let request = match interrupt {
                    Interrupt::Stop(_) => Request::Stop { agent: None, by },
                    Interrupt::Kill(_) => Request::Kill { agent: None, by },
                };
                let _ = requests.try_send(request);
            }
        }
    }
    if let Some(why) = notifier.end().await {
        tracing::warn!("{why}");
    }
    running.await.map_err(|error| CliError::failed("failed to watch the agent", error))?;
    Ok(Exit::Done)
}

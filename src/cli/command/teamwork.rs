//! `git orchestra spawn --team`: the steps of a team, one session after the other.

use super::claiming;
use super::limits::budgets;
use super::spawn::{self, Args};
use crate::cli::apart;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::session::{self, SessionOptions};
use crate::cli::ui::printable;
use crate::config::{AUTO, Team, TeamStep};
use crate::model::{Agent, Id, Kind, Task};
use crate::orchestrate::team::{self, Course, Onward, Stage, StepOptions, claim_step};
use crate::orchestrate::{self, Claim, Outfit};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet};

/// Runs the team on each of the tasks until it is done or cannot go on.
pub(super) fn run(ctx: &Context, args: &Args, name: &str) -> Result<Exit, CliError> {
    ctx.recover()?;
    let mut tasks = Vec::<(Id, Team)>::new();
    for text in &args.tasks {
        let id = ctx.state()?.resolve(text, Some(Kind::Task))?.id;
        if tasks.iter().all(|(other, _)| *other != id) {
            tasks.push((id, choose(ctx, name, &id)?));
        }
    }
    // What would keep any step from starting is said before the first one begins.
    let mut outfits = BTreeMap::<String, Outfit>::new();
    for step in tasks.iter().flat_map(|(_, team)| &team.steps) {
        let mut outfit = session::outfit(ctx, Some(&step.profile), args.confined.sandbox)?;
        outfit.budget = args.limits.budget();
        outfits.insert(step.profile.clone(), outfit);
    }
    spawn::require_places(ctx, args)?;
    let (mut fresh, mut begun) = (Vec::new(), Vec::new());
    for (id, team) in &tasks {
        let course = Course::read(ctx.store()?, team, id)?;
        if let Some((step, agent)) = running(&course) {
            let error = CliError::usage(format!("{} runs already: it is {}", agent.name, step.name));
            return Err(error.hint(format!("`git orchestra wait {}` waits for its end", agent.name)));
        }
        if course.has_begun() {
            begun.extend(course.stages.iter().filter_map(|(_, stage)| stage.agent().cloned()));
        } else {
            fresh.push(*id);
        }
    }
    let ids: Vec<Id> = tasks.iter().map(|(id, _)| *id).collect();
    orchestrate::budget::check(ctx.store()?, &budgets(ctx)?, &ids)?;
    let mut reservation = None;
    if !fresh.is_empty() {
        spawn::refresh_base(ctx, args)?;
        spawn::say_meetings(ctx, &fresh)?;
        reservation = spawn::reserve(ctx, args, &mut fresh)?;
    }
    claiming::reserve_again(ctx, &args.whether.claiming, &begun)?;
    let options = StepOptions {
        extra: args.message.clone(),
        base: args.base.clone(),
        zone: args.zone.clone(),
        force: args.force,
    };
    let (mut tried, mut exit, mut stuck) = (BTreeSet::<(Id, String)>::new(), Exit::Done, None);
    let onward = Onward { options, sandbox: args.confined.sandbox, budget: args.limits.budget() };
    let options = &onward.options;
    loop {
        let mut claims = Vec::new();
        for (id, team) in &tasks {
            let course = Course::read(ctx.store()?, team, id)?;
            for step in course.ready() {
                if !tried.insert((*id, step.name.clone())) {
                    continue;
                }
                match claim_step(ctx.store()?, &course, step, options, &outfits[&step.profile]) {
                    Ok((claim, base)) => {
                        say_step(ctx, &course, step, &claim.agent)?;
                        if let Some(base) = base.filter(|_| step.after.is_empty()) {
                            spawn::say_base(ctx, &base);
                        }
                        claims.push(claim);
                    }
                    // Those that can go on do, and then it is told.
                    Err(error) => stuck = stuck.or(Some(error)),
                }
            }
        }
        if claims.is_empty() {
            break;
        }
        reservation = None;
        if args.detach {
            let begun = apart::detach(ctx, claims, args.jobs, args.json, Some(&onward))?;
            return stuck.map_or(Ok(begun), |error| Err(error.into()));
        }
        let options = SessionOptions { jobs: args.jobs, json: args.json, inner: false, hints: false };
        let session = session::run(ctx, claims, options)?;
        exit = graver(exit, session.exit());
        if session.signal.is_some() {
            break;
        }
    }
    if let Some((queue, held)) = &reservation {
        queue.release(held)?;
    }
    for (id, team) in &tasks {
        exit = graver(exit, say_end(ctx, &Course::read(ctx.store()?, team, id)?)?);
    }
    match stuck {
        Some(error) => Err(error.into()),
        None => Ok(exit),
    }
}

/// A step by its name, and what came of claiming it.
pub(crate) type Claimed = (String, Result<Claim, CliError>);

/// Claims each step that is ready by now and nobody began, for whoever watched the step before it. What was begun and
/// did not end well is for a person.
pub(crate) fn claim_wanted(
    ctx: &Context,
    store: &Store,
    task: &Id,
    team: &str,
    onward: &Onward,
) -> Result<Vec<Claimed>, CliError> {
    let course = Course::read(store, &ctx.settings()?.team(team)?, task)?;
    let mut all = Vec::new();
    for step in course.ready() {
        if course.stage(&step.name) != Some(&Stage::Wanted) {
            continue;
        }
        let claimed = orchestrate::budget::check(store, &budgets(ctx)?, &[*task]).map_err(CliError::from);
        let claimed = claimed.and_then(|()| {
            let mut outfit = session::outfit(ctx, Some(&step.profile), onward.sandbox)?;
            outfit.budget = onward.budget;
            Ok(claim_step(store, &course, step, &onward.options, &outfit)?.0)
        });
        all.push((step.name.clone(), claimed));
    }
    Ok(all)
}

/// The team of this name; for `auto` the one that works on the task already, or that fits it.
fn choose(ctx: &Context, name: &str, id: &Id) -> Result<Team, CliError> {
    let settings = ctx.settings()?;
    if name != AUTO {
        return Ok(settings.team(name)?);
    }
    let known = settings.team_names();
    let state = ctx.state()?;
    let short = state.short_ids()?.shorten(id);
    let (name, why) = match team::find_begun(ctx.store()?, id, &known)? {
        Some(name) => (name, "it works on that already".to_owned()),
        None => team::choose(&state.require::<Task>(id)?, &known),
    };
    ctx.ui().note(printable(&format!("{short}: team {name}, as {why}")));
    Ok(settings.team(&name)?)
}

fn running(course: &Course) -> Option<(&TeamStep, &Agent)> {
    course.stages.iter().find_map(|(step, stage)| match stage {
        Stage::Running(agent) => Some((step, agent)),
        _ => None,
    })
}

fn say_step(ctx: &Context, course: &Course, step: &TeamStep, agent: &Agent) -> Result<(), CliError> {
    let short = ctx.state()?.short_ids()?.shorten(&course.task.id);
    let word = if matches!(course.stage(&step.name), Some(Stage::Halted(_))) { "goes on" } else { "begins" };
    let at = course.stages.iter().position(|(other, _)| other.name == step.name).unwrap_or(0) + 1;
    let of = course.stages.len();
    ctx.ui().note(format!("{short}: {} {at}/{of} of {} {word}: {}", step.name, course.team.name, agent.name));
    Ok(())
}

/// Says how far it came and what goes on from there.
fn say_end(ctx: &Context, course: &Course) -> Result<Exit, CliError> {
    let ui = ctx.ui();
    let short = ctx.state()?.short_ids()?.shorten(&course.task.id);
    let team = &course.team.name;
    if course.is_over() {
        let last = course.stages.last().and_then(|(_, stage)| stage.agent());
        let all = course.stages.len();
        ui.note(format!("{short}: all {all} steps of {team} are done"));
        if let Some(agent) = last {
            ui.hint(format!(
                "`git orchestra log {0}` shows the last word, `git orchestra merge {0}` merges all of it",
                agent.name
            ));
        }
        return Ok(Exit::Done);
    }
    let mut exit = Exit::Done;
    let mut not_begun = Vec::new();
    for (step, stage) in &course.stages {
        match stage {
            Stage::Wanted => not_begun.push(step.name.as_str()),
            Stage::Done(_) => {}
            Stage::Running(agent) => {
                ui.warn(format!("{short}: {} runs elsewhere ({})", step.name, agent.name));
            }
            Stage::Waiting(agent) => {
                ui.warn(format!("{short}: {} waits for an answer ({})", step.name, agent.name));
                ui.hint("`git orchestra decide` lists what is asked");
                exit = graver(exit, Exit::Waiting);
            }
            Stage::Halted(agent) => {
                let outcome = agent.last_run().and_then(|(_, run)| run.outcome.as_ref());
                let word = outcome.map_or("not started", |outcome| outcome.word());
                ui.warn(format!("{short}: {} is not done ({}: {word})", step.name, agent.name));
                if exit == Exit::Done && outcome.is_none_or(|outcome| outcome.over().is_none()) {
                    exit = Exit::AgentFailed;
                }
            }
        }
    }
    if !not_begun.is_empty() {
        ui.note(format!("{short}: not begun: {}", not_begun.join(", ")));
    }
    ui.hint(format!(
        "`git orchestra spawn --team {team} {short}` goes on where it stopped; `git orchestra resume AGENT -m …` tells it something first"
    ));
    Ok(exit)
}

/// The exit code that says more of two.
fn graver(one: Exit, other: Exit) -> Exit {
    let rank = |exit: Exit| match exit {
        Exit::Done => 0,
        Exit::Waiting => 1,
        Exit::UsedUp => 2,
        Exit::Signal(_) => 4,
        _ => 3,
    };
    if rank(other) > rank(one) { other } else { one }
}

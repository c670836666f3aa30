//! `git orchestra run`: tasks from their agents to the branch that they land on.

mod course;

use super::merge::refuse_agents;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::view;
use crate::config;
use crate::model::{Id, Kind, Pipeline, PipelineStatus, Task, TaskStatus};
use crate::orchestrate::merge;
use crate::orchestrate::pipeline;
use std::collections::{BTreeSet, HashMap};

/// Take tasks all the way: agents, merge, gates, landing, push
///
/// Spawns an agent for each task, waits for all, merges what they made, and lands it if the gates succeed. Without
/// tasks, takes every task that is ready, or those that the settings give the pipeline (`pipeline.NAME.labels`), and what
/// comes after them: that begins when they have landed.
///
/// Where something goes wrong it is asked about: an agent that failed, a conflict, a gate. Off a terminal that is a
/// decision (exit code 3): answer it with `git orchestra decide`, and go on with --continue. The same goes on after a
/// kill or Ctrl-C, and with what somebody did by hand meanwhile.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a command line")]
#[command(
    after_help = "Examples:\n  git orchestra run\n  git orchestra run k3v8 m2x0 --team feature\n  git orchestra run nightly\n  git orchestra run --continue"
)]
pub(crate) struct Args {
    /// A pipeline of the settings, or tasks
    #[arg(value_name = "PIPELINE", conflicts_with_all = ["continue", "retry", "cancel"])]
    what: Vec<String>,
    /// The profile of the agents
    #[arg(short, long, value_name = "PROFILE", conflicts_with = "team")]
    profile: Option<String>,
    /// Let this team work on each task, or `auto` for the team that fits it
    #[arg(long, value_name = "TEAM")]
    team: Option<String>,
    /// How many agents run at once
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    jobs: Option<u32>,
    /// The branch to land on, instead of the one that the agents started from
    #[arg(long, value_name = "BRANCH")]
    into: Option<String>,
    /// Run only this gate; can be given several times
    #[arg(long, value_name = "GATE", conflicts_with = "no_gates")]
    gate: Vec<String>,
    /// Land without running any gate
    #[arg(long)]
    no_gates: bool,
    /// Let an agent mend a branch with which a gate fails; what it cannot is asked
    #[arg(long, conflicts_with = "no_gates")]
    mend: bool,
    /// Land what comes before a branch that you are asked about at once
    #[arg(long)]
    land_prefixes: bool,
    /// Push the branch to this remote when it has landed
    #[arg(long, value_name = "REMOTE")]
    push: Option<String>,
    /// Do not ask before a merge begins; problems are still asked about
    #[arg(short, long)]
    yes: bool,
    /// Go on with a pipeline that waited, or that was interrupted
    #[arg(long = "continue", id = "continue", conflicts_with = "cancel")]
    resume: bool,
    /// Go on, and let what failed try again
    #[arg(long, conflicts_with_all = ["continue", "cancel"])]
    retry: bool,
    /// Give a pipeline up; what landed stays, and so do its agents
    #[arg(long)]
    cancel: bool,
    /// Print JSON: events, the result of each merge, and the pipeline, one document after the other
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    refuse_agents(ctx)?;
    ctx.recover()?;
    let store = ctx.store()?;
    if args.cancel {
        return cancel(ctx, args);
    }
    if args.resume || args.retry {
        let open = pipeline::find_open(store)?.ok_or_else(none_open)?;
        let settings = named(ctx, open.name.as_deref())?;
        return course::run(ctx, args, &open, &settings);
    }
    let settings = match args.what.split_first() {
        Some((first, _)) if ctx.settings()?.pipeline_names().contains(first) => named(ctx, Some(first))?,
        _ => config::Pipeline::default(),
    };
    let texts = if settings.name.is_empty() { &args.what[..] } else { &args.what[1..] };
    let tasks = tasks(ctx, texts, &settings)?;
    let full = |name: &String| format!("refs/heads/{}", merge::short_branch(name));
    let begun = Pipeline {
        id: store.new_id()?,
        name: Some(settings.name.clone()).filter(|name| !name.is_empty()),
        status: PipelineStatus::Running,
        tasks,
        profile: args.profile.clone().or_else(|| settings.profile.clone().filter(|_| args.team.is_none())),
        team: args.team.clone().or_else(|| settings.team.clone().filter(|_| args.profile.is_none())),
        target: args.into.as_ref().or(settings.into.as_ref()).map(full),
        push: args.push.clone().or_else(|| settings.push.clone()),
        settled: BTreeSet::new(),
        merge: None,
        result: None,
        created: ctx.clock().now(),
    };
    // What would stop it at the end is said before anything begins.
    course::check(ctx, args, &begun, &settings)?;
    let begun = pipeline::begin(store, &begun)?;
    course::run(ctx, args, &begun, &settings)
}

fn none_open() -> CliError {
    CliError::new(ErrorKind::Failed, "no pipeline is under way").hint("`git orchestra run` begins one")
}

/// What the settings say of a pipeline; nothing of one without a name.
fn named(ctx: &Context, name: Option<&str>) -> Result<config::Pipeline, CliError> {
    match name {
        Some(name) => Ok(ctx.settings()?.pipeline(name)?),
        None => Ok(config::Pipeline::default()),
    }
}

/// The tasks that were named; otherwise those that are ready, and what comes after them, with one of the pipeline's labels
/// if it has some.
fn tasks(ctx: &Context, texts: &[String], settings: &config::Pipeline) -> Result<Vec<Id>, CliError> {
    let state = ctx.state()?;
    let mut ids = Vec::new();
    for text in texts {
        let id = state.resolve(text, Some(Kind::Task))?.id;
        if !ids.contains(&id) {
            ids.push(id);
        }
    }
    if !texts.is_empty() {
        return Ok(ids);
    }
    let all = state.all::<Task>()?;
    let before = state.archived_before(&all)?;
    let status: HashMap<Id, TaskStatus> =
        all.iter().chain(&before).map(|task| (task.id, task.status)).collect();
    let labelled = |task: &&Task| {
        settings.labels.is_empty() || settings.labels.iter().any(|label| task.labels.contains(label))
    };
    let mut ready: Vec<&Task> = Vec::new();
    let mut left: Vec<&Task> = all.iter().filter(labelled).collect();
    // What comes after one that is taken is ready when that has landed.
    loop {
        let taken: BTreeSet<Id> = ready.iter().map(|task| task.id).collect();
        let of = |id: &Id| if taken.contains(id) { Some(TaskStatus::Closed) } else { status.get(id).copied() };
        let (more, rest): (Vec<&Task>, Vec<&Task>) = left.into_iter().partition(|task| task.is_ready(of));
        if more.is_empty() {
            break;
        }
        ready.extend(more);
        left = rest;
    }
    ready.sort_by_key(|task| task.rank());
    if ready.is_empty() {
        let which = if settings.labels.is_empty() { "" } else { " with one of its labels" };
        return Err(CliError::usage(format!("no task{which} is ready, and none was named"))
            .hint("`git orchestra task add TITLE` adds one; `git orchestra run --continue` goes on with what was begun"));
    }
    Ok(ready.into_iter().map(|task| task.id).collect())
}

fn cancel(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let store = ctx.store()?;
    let open = pipeline::find_open(store)?.ok_or_else(none_open)?;
    let _held = pipeline::hold(store, &open.id)?;
    let stands = pipeline::look(store, &open, &std::collections::BTreeMap::new())?;
    let agents: BTreeSet<Id> = stands.iter().filter_map(|(_, at)| Some(at.agent()?.id)).collect();
    if let Some(merge) = pipeline::open_merge(store, open.target.as_deref(), &agents)? {
        merge::abort(store, &merge.id)?;
        ctx.ui().note(format!("gave its merge into {} up", merge::short_branch(&merge.target)));
    }
    let over = pipeline::change(store, &open.id, "cancel", |one| {
        one.status = PipelineStatus::Cancelled;
        one.result = Some("given up".to_owned());
    })?;
    for (_, at) in &stands {
        if let pipeline::Standing::Working(agent) = at {
            ctx.ui().hint(format!("`git orchestra stop {}` ends it; it is still running", agent.name));
        }
    }
    if args.json {
        json::print(ctx, "pipeline", &view::pipeline::Shown::new(&over, store.state()?.short_ids()?))?;
    } else {
        ctx.ui().print("gave the pipeline up; what landed stays, and so do its agents and their branches\n")?;
    }
    Ok(Exit::Done)
}

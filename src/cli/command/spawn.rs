//! `git orchestra spawn`: tasks become agents, and work begins.

use crate::cli::apart;
use super::claiming::{self, ClaimArgs};
use super::confinement::SandboxArgs;
use super::limits::{LimitArgs, budgets};
use super::{log, teamwork};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::session::{self, SessionOptions};
use crate::cli::ui::{Label, printable};
use crate::cli::view::{self, agent::branch_name};
use crate::model::{Id, Kind, Name, Task, TaskStatus};
use crate::orchestrate::claim::Queue;
use crate::orchestrate::hold::{self, Lookout};
use crate::orchestrate::{self, Base, SpawnRequest, base, supervise};
use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

/// Spawn agents: a worktree, a branch and a run for each task
///
/// Without tasks and without -m, every ready task gets an agent. The agents work side by side in this console, where
/// `?` tells about keys: to look at one alone, to pause, to tell it something, to interrupt or stop it. Ctrl-C ends them cleanly, a second one at once; what they did until then is kept, and `resume` goes on.
///
/// Tasks that the remote knows are claimed there first, so that no other machine begins them too. As long as their agents
/// run, it hears of this machine; one that is silent for `claim-ttl` may be taken over from. When the runs are over, a
/// claim lasts until its task is closed or given back (`task release`). Where the remote cannot be reached within ten seconds, this is
/// said, and work begins without. `--no-claim` and `claim = never` ask no remote.
///
/// All of them begin at once, also those whose `touches` will probably meet those of another one that begins or is worked
/// on here: it is said which. `run` and `worker` put such a task off (`hold`).
///
/// If the branch to start from has an upstream, that is fetched first, within `base-timeout` (10 seconds), so that it can
/// be said how far it is behind; `--no-fetch` and `base-fetch = never` do not.
///
/// What an agent may not do by itself is asked here. Where nobody can be asked, the question is recorded for
/// `decide`, the agent is told no for now, and the exit code is 3. It is 4 if an agent failed, and 9 if a budget is used up: one's
/// own (--max-cost and the like, or what its profile says), its task's (`task.max-…`) or that of all agents
/// (`fleet.max-…`). Each is told at 80 %; an agent whose budget is used up is ended, what it did is kept, and
/// `resume --max-…` goes on.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra spawn k3v8 m2x0 --jobs 2\n  git orchestra spawn --team feature k3v8\n  git orchestra spawn -m 'Find out why the build is slow' --name sleuth"
)]
pub(crate) struct Args {
    /// The tasks, an agent each
    #[arg(value_name = "TASK")]
    pub(super) tasks: Vec<String>,
    /// What to tell the agent; with tasks, beside them
    #[arg(short, long, value_name = "PROMPT")]
    pub(super) message: Option<String>,
    /// The agent's name [default: from the task's title]
    #[arg(long, value_name = "NAME")]
    name: Option<Name>,
    /// The profile to run it with
    #[arg(short, long, value_name = "PROFILE")]
    profile: Option<String>,
    /// Let this team work on each task, one step after the other, or `auto` for the team that fits it
    ///
    /// feature, bug-fix, code-review and docs come built in; `team.NAME.steps` sets others. Each step is an agent that
    /// starts from the branch of the one before and is told what that one said; steps side by side are joined for the
    /// next. What fails stops what comes after it; the same command goes on there. With --detach each step's process
    /// begins what comes after it, and what keeps a step from beginning is a finding.
    #[arg(long, value_name = "TEAM", requires = "tasks", conflicts_with_all = ["profile", "name", "record"])]
    team: Option<String>,
    /// Start from this commit or branch [default: the branch that is checked out]
    #[arg(short, long, value_name = "REV")]
    pub(super) base: Option<String>,
    /// How many agents run at once
    #[arg(short, long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=256))]
    pub(super) jobs: Option<u32>,
    /// Take tasks that another agent holds or that wait for others
    #[arg(short, long)]
    pub(super) force: bool,
    /// Check out only the directories of this zone (`zone.NAME.paths`) [default: the task's zone]
    #[arg(long, value_name = "ZONE")]
    pub(super) zone: Option<String>,
    #[command(flatten)]
    pub(super) confined: SandboxArgs,
    #[command(flatten)]
    pub(super) limits: LimitArgs,
    #[command(flatten)]
    pub(super) whether: Whether,
    /// Run each in the background, in a process of its own, and return when it has begun
    ///
    /// It goes on when the terminal closes. `attach` shows what it does and takes messages, `stop` ends it. As many
    /// as --jobs says run at once, whichever command started them; the others wait. Questions that nobody is there to
    /// answer are kept for `decide`.
    #[arg(short, long)]
    pub(super) detach: bool,
    /// Keep the lines that the program prints in FILE, for `replay`; of several agents, in FILE/NAME.jsonl
    #[arg(long, value_name = "FILE", conflicts_with = "detach", value_hint = clap::ValueHint::FilePath)]
    record: Option<PathBuf>,
    /// Print events as JSON, one document a line; with --detach, one document (`git orchestra schema`)
    #[arg(long)]
    pub(super) json: bool,
}

/// What a remote is asked for first.
#[derive(Debug, clap::Args)]
pub(super) struct Whether {
    #[command(flatten)]
    pub(super) claiming: ClaimArgs,
    /// Do not ask the remote whether the branch to start from is behind
    #[arg(long)]
    no_fetch: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    if let Some(team) = &args.team {
        return teamwork::run(ctx, args, team);
    }
    ctx.recover()?;
    let mut outfit = session::outfit(ctx, args.profile.as_deref(), args.confined.sandbox)?;
    outfit.budget = args.limits.budget();
    // What would keep every agent from starting is said before anything is claimed.
    require_places(ctx, args)?;
    let mut tasks = tasks(ctx, args)?;
    orchestrate::budget::check(ctx.store()?, &budgets(ctx)?, &tasks)?;
    let several = tasks.len() > 1;
    let record = args.record.as_ref().map(|file| ctx.dir().join(file));
    if let Some(record) = &record {
        // Now, not when the work is done, it is said that there is no such place.
        let made = if several { fs::create_dir_all(record) } else { fs::write(record, "") };
        made.map_err(|error| not_kept(record, error))?;
    }
    refresh_base(ctx, args)?;
    say_meetings(ctx, &tasks)?;
    let reservation = reserve(ctx, args, &mut tasks)?;
    let request = SpawnRequest {
        tasks,
        prompt: args.message.clone(),
        name: args.name.clone(),
        base: args.base.clone(),
        zone: args.zone.clone(),
        force: args.force,
        step: None,
        outfit,
    };
    let spawned = match (orchestrate::spawn(ctx.store()?, &request), &reservation) {
        (Err(error), Some((queue, held))) => {
            queue.release(held)?;
            return Err(error.into());
        }
        (spawned, _) => spawned?,
    };
    if spawned.initialised {
        ctx.note_init()?;
    }
    say_base(ctx, &spawned.base);
    if args.detach {
        return apart::detach(ctx, spawned.claims, args.jobs, args.json, None);
    }
    let options = SessionOptions { jobs: args.jobs, json: args.json, inner: false, hints: true };
    let session = session::run(ctx, spawned.claims, options)?;
    for one in &session.finished {
        if let Some(record) = &record {
            let file =
                if several { record.join(format!("{}.jsonl", one.name)) } else { record.clone() };
            fs::write(&file, log::recording(ctx, &one.agent, one.run)?)
                .map_err(|error| not_kept(&file, error))?;
        }
    }
    Ok(session.exit())
}

/// Refuses a zone that nobody set, and a disk without room.
pub(super) fn require_places(ctx: &Context, args: &Args) -> Result<(), CliError> {
    let surroundings = session::surroundings(ctx)?;
    if let Some(zone) = args.zone.as_ref().filter(|zone| !surroundings.provision.zones.contains_key(*zone)) {
        return Err(CliError::usage(format!("no directories are set for the zone `{zone}`"))
            .hint(format!("set `zone.{zone}.paths` in orchestra.toml: zone.{zone}.paths = ['src/parser']")));
    }
    orchestrate::make_room(ctx.store()?, &surroundings, |said| ctx.ui().note(said))?;
    Ok(())
}

/// Claims what is to begin, as [`claiming::reserve`] does.
pub(super) fn reserve(ctx: &Context, args: &Args, tasks: &mut Vec<Id>) -> Result<Option<(Queue, Vec<Id>)>, CliError> {
    claiming::reserve(ctx, &args.whether.claiming, tasks, !args.tasks.is_empty(), args.force)
}

fn not_kept(file: &Path, error: std::io::Error) -> CliError {
    CliError::failed(format!("failed to write the record `{}`", file.display()), error)
}

/// The tasks that were named; every ready one if nothing was named at all.
fn tasks(ctx: &Context, args: &Args) -> Result<Vec<Id>, CliError> {
    let state = ctx.state()?;
    if !args.tasks.is_empty() || args.message.is_some() {
        let mut ids = Vec::new();
        for text in &args.tasks {
            let id = state.resolve(text, Some(Kind::Task))?.id;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        return Ok(ids);
    }
    let all = state.all::<Task>()?;
    let before = state.archived_before(&all)?;
    let status: HashMap<Id, TaskStatus> =
        all.iter().chain(&before).map(|task| (task.id, task.status)).collect();
    let mut ready: Vec<&Task> =
        all.iter().filter(|task| task.is_ready(|id| status.get(id).copied())).collect();
    ready.sort_by_key(|task| task.rank());
    if ready.is_empty() {
        return Err(CliError::usage("no task is ready, and none was named")
            .hint("`git orchestra task add TITLE` adds one; -m PROMPT spawns an agent without one"));
    }
    Ok(ready.into_iter().map(|task| task.id).collect())
}

/// Asks the remote of what agents start from what it has by now. That it does not answer keeps nobody from starting.
pub(super) fn refresh_base(ctx: &Context, args: &Args) -> Result<(), CliError> {
    let settings = ctx.settings()?;
    if args.whether.no_fetch || !settings.fetches_base() {
        return Ok(());
    }
    let refreshed = base::refresh(ctx.repo()?, args.base.as_deref(), settings.base_timeout());
    if let Err((remote, error)) = refreshed {
        // Without what every error of git begins with.
        let cause = std::error::Error::source(&error).unwrap_or(&error);
        let why = format!("nothing was fetched from {remote}: failed to {}", supervise::chain(cause));
        ctx.ui().warn(printable(&why));
        ctx.ui().hint("agents start from what is here; --no-fetch does not ask");
    }
    Ok(())
}

/// Of how many tasks it is said that they will probably meet another one.
const MEETINGS: usize = 4;

/// Says which tasks that begin will probably change what another one does that begins too or is worked on here. Whoever
/// says what begins is not made to wait: nobody would begin the rest later.
pub(super) fn say_meetings(ctx: &Context, tasks: &[Id]) -> Result<(), CliError> {
    if tasks.is_empty() || !ctx.settings()?.holds_back() {
        return Ok(());
    }
    let (store, state) = (ctx.store()?, ctx.state()?);
    let wanted: Vec<Task> = tasks.iter().map(|id| state.require(id)).collect::<Result<_, _>>()?;
    let (_, met) = Lookout::default().sift(store, &wanted, &hold::busy(store)?);
    if met.is_empty() {
        return Ok(());
    }
    let ui = ctx.ui();
    let shown = if met.len() <= MEETINGS + 1 { met.len() } else { MEETINGS };
    for one in &met[..shown] {
        ui.note(printable(&one.risk()));
    }
    if shown < met.len() {
        ui.note(format!("and {} more tasks meet others; `git orchestra plan` says which", met.len() - shown));
    }
    ui.hint("they begin all the same; `git orchestra run` lets one land before the next begins");
    Ok(())
}

pub(super) fn say_base(ctx: &Context, base: &Base) {
    let ui = ctx.ui();
    let paint = ui.err_painter();
    let from = base.target.as_deref().map_or("", branch_name);
    let commit = paint.paint(Label::Commit, base.commit.short());
    let from = if from.is_empty() { commit } else { format!("{} at {commit}", paint.paint(Label::Branch, from)) };
    ui.note(format!("starting from {from}"));
    if let Some(behind) = &base.behind {
        ui.warn(view::behind(behind));
        ui.hint(printable(&format!("`git merge --ff-only {0}` brings it up to date, `--base {0}` starts from there", behind.upstream)));
    }
}

//! `git orchestra task claim`, and which queue is meant.

use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::ui::printable;
use crate::config::{Key, Value};
use crate::model::{Id, Kind, Task, TaskStatus};
use crate::orchestrate::claim::{Claimed, Queue, Terms};
use crate::store::ShortIds;
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

/// Claim tasks, so that nobody else takes them, on no machine
///
/// Over a remote, of all machines that want a task exactly one gets it: the claim is a ref there that only one of
/// them can make. It lasts until the task is closed, or given back with `release`; with --ttl only as long as this
/// machine is heard of. Without a remote, or with --local, the state of this repository is the whole queue.
///
/// Prints the ids of what was claimed. Exits with 1 if a task that was named is not to be had, or nothing is ready. Where
/// --next finds nothing, it names what this clone holds and no agent works on: a claim whose command failed or was killed
/// may be among it.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra task claim k3v8\n  git orchestra task claim --next --zone parser"
)]
pub(crate) struct Args {
    /// The tasks
    #[arg(value_name = "TASK", required_unless_present = "next", conflicts_with = "next")]
    tasks: Vec<String>,
    /// Whatever is ready and best: by priority, then each machine in another order
    #[arg(long)]
    next: bool,
    /// With --next, how many at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1, requires = "next", value_parser = clap::value_parser!(u16).range(1..=256))]
    count: u16,
    /// With --next, only tasks of this zone
    #[arg(long, value_name = "ZONE", requires = "next")]
    zone: Option<String>,
    /// After which silence of this machine others may take it over, such as `30m` [default: never]
    #[arg(long, value_name = "SPAN", value_parser = span)]
    ttl: Option<Duration>,
    /// Take tasks that somebody else holds: what they do about it does not count from then on
    #[arg(short, long)]
    force: bool,
    #[command(flatten)]
    queue: QueueArgs,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

/// Which queue is meant.
#[derive(Debug, clap::Args)]
pub(crate) struct QueueArgs {
    /// The remote that the queue is on [default: as for `sync`]
    #[arg(long, value_name = "REMOTE")]
    remote: Option<String>,
    /// Only this repository, whatever remotes it has
    #[arg(long, conflicts_with = "remote")]
    local: bool,
}

impl QueueArgs {
    /// The queue; says over which remote it goes.
    pub(crate) fn open(&self, ctx: &Context) -> Result<Queue, CliError> {
        let alone = self.local || self.remote.is_none() && ctx.repo()?.remotes()?.is_empty();
        let remote = if alone {
            None
        } else {
            Some(crate::cli::command::sync::remote(ctx, self.remote.as_deref())?)
        };
        match &remote {
            Some(remote) => ctx.ui().note(format!("the queue is on {}", remote.name)),
            None if self.local => ctx.ui().note("the queue is this repository alone"),
            None => ctx.ui().note("the queue is this repository alone: it has no remote"),
        }
        Ok(Queue::new(ctx.store()?.clone(), remote, ctx.settings()?.claim_ttl()))
    }
}

/// A time span as settings write it.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let key = Key::find("claim-ttl").expect("it is a key");
    match key.parse(&[text.to_owned()]) {
        Some(Value::Duration(span)) => Ok(span),
        _ => Err("a time span such as `90s`, `10m` or `2h` is expected".to_owned()),
    }
}

#[derive(Debug, Serialize)]
struct Report<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<&'a str>,
    claimed: Vec<Row<'a>>,
    /// How many pushes it took.
    pushes: u32,
    /// What this clone holds already, where nothing was to be had.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    holds: Vec<Held>,
}

#[derive(Debug, Serialize)]
struct Held {
    id: Id,
    short: String,
    title: String,
}

#[derive(Debug, Serialize)]
struct Row<'a> {
    id: Id,
    short: String,
    outcome: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fence: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    ctx.recover()?;
    let queue = args.queue.open(ctx)?;
    let terms = Terms { agent: ctx.agent()?.map(|agent| agent.id), ttl: args.ttl, force: args.force, ..Terms::default() };
    let busy = queue.remote().is_some().then(|| ctx.ui().busy("asking the remote"));
    let answers = if args.next {
        queue.claim_next(usize::from(args.count), args.zone.as_deref(), &terms, &BTreeSet::new())?
    } else {
        let mut ids = Vec::new();
        let mut state = ctx.state()?;
        // What another machine added is known once the remote was asked.
        if queue.remote().is_some()
            && args.tasks.iter().any(|text| state.resolve(text, Some(Kind::Task)).is_err())
        {
            queue.look()?;
            state = ctx.state()?;
        }
        for text in &args.tasks {
            let id = state.resolve(text, Some(Kind::Task))?.id;
            if !ids.contains(&id) {
                ids.push(id);
            }
        }
        queue.claim(&ids, &terms)?
    };
    drop(busy);
    for said in queue.take_said() {
        ctx.ui().warn(said);
    }
    let state = ctx.state()?;
    let ids = state.short_ids()?;
    let holds = if args.next && answers.is_empty() { holds(ctx, args, &terms)? } else { Vec::new() };
    let names: Vec<String> = holds.iter().map(|one| format!("{} ({})", one.short, one.title)).collect();
    let first = holds.first().map(|one| one.short.clone());
    if args.json {
        let report = Report {
            remote: queue.remote().map(|remote| remote.name.as_str()),
            claimed: answers.iter().map(|(id, answer)| row(id, answer, ids)).collect(),
            pushes: queue.pushes(),
            holds,
        };
        json::print(ctx, "claimed", &report)?;
    }
    let mut refused = Vec::new();
    for (id, answer) in &answers {
        let short = ids.shorten(id);
        match answer {
            Claimed::Held { from, .. } => {
                if let Some(machine) = from {
                    ctx.ui().warn(format!("{short} was held by machine {machine}; what it does about it from now on does not count"));
                }
                if !args.json {
                    ctx.ui().print(&format!("{short}\n"))?;
                }
            }
            Claimed::Ours if args.json => {}
            Claimed::Ours => ctx.ui().print(&format!("{short}\n"))?,
            Claimed::Taken { by } => refused.push(format!("{short} is held by {by}")),
            Claimed::Unready { why } => refused.push(format!("{short} is not to be had: {why}")),
            Claimed::Refused { why } => refused.push(format!("the remote refused {short}: {why}")),
        }
    }
    if refused.is_empty() && !answers.is_empty() {
        return Ok(Exit::Done);
    }
    if answers.is_empty() {
        ctx.ui().note("no task is ready that nobody holds");
        if let Some(first) = first {
            ctx.ui().note(printable(&format!("this clone holds {}", names.join(", "))));
            let hint = "`git orchestra task claim {}` goes on with it, `git orchestra task release {}` gives it back";
            ctx.ui().hint(hint.replace("{}", &first));
        }
        return Ok(Exit::Error);
    }
    let error = CliError::new(ErrorKind::Failed, refused.join("\n"));
    let taken = answers.iter().any(|(_, answer)| matches!(answer, Claimed::Taken { .. }));
    Err(if taken { error.hint("--force takes it all the same; what its holder does then does not count") } else { error })
}

/// What this clone holds and no other agent works on. It is not handed out again: another shell here may be at it.
fn holds(ctx: &Context, args: &Args, terms: &Terms) -> Result<Vec<Held>, CliError> {
    let (state, machine) = (ctx.state()?, ctx.store()?.machine()?);
    let ids = state.short_ids()?;
    let mut tasks: Vec<Task> = state.all()?;
    tasks.retain(|task| {
        task.status == TaskStatus::Started
            && task.holder.as_deref() == Some(machine.as_str())
            && (task.assignee.is_none() || task.assignee == terms.agent)
            && (args.zone.is_none() || task.zone == args.zone)
    });
    tasks.sort_by_key(Task::rank);
    let held = |task: Task| {
        let title = task.title.lines().next().unwrap_or_default().to_owned();
        Held { id: task.id, short: ids.shorten(&task.id), title }
    };
    Ok(tasks.into_iter().map(held).collect())
}

fn row<'a>(id: &Id, answer: &'a Claimed, ids: &ShortIds) -> Row<'a> {
    let (outcome, fence, reason) = match answer {
        Claimed::Held { fence, .. } => ("held", Some(*fence), None),
        Claimed::Ours => ("held", None, None),
        Claimed::Taken { by } => ("taken", None, Some(by.as_str())),
        Claimed::Unready { why } => ("unready", None, Some(why.as_str())),
        Claimed::Refused { why } => ("refused", None, Some(why.as_str())),
    };
    Row { id: *id, short: ids.shorten(id), outcome, fence, reason }
}

//! What `spawn` and `resume` ask a remote before an agent begins or goes on.

use super::sync;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind};
use crate::cli::ui::printable;
use crate::model::{Agent, Id, Task, TaskStatus};
use crate::orchestrate::claim::{Queue, Reserved};
use crate::orchestrate::sync::Remote;
use crate::orchestrate::{self, lease, supervise};
use std::time::Duration;

/// Whether a remote is asked.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct ClaimArgs {
    /// Claim the tasks on the remote first, whatever `claim` is set to
    #[arg(long)]
    claim: bool,
    /// Claim nothing on a remote
    #[arg(long, conflicts_with = "claim")]
    no_claim: bool,
}

impl ClaimArgs {
    /// Whether tasks are claimed; `None` for those that the remote knows.
    fn asked(&self, ctx: &Context) -> Result<Option<bool>, CliError> {
        Ok(match (self.claim, self.no_claim) {
            (true, _) => Some(true),
            (_, true) => Some(false),
            _ => ctx.settings()?.claims(),
        })
    }
}

/// How long work that could begin may wait for a remote.
const PATIENCE: Duration = Duration::from_secs(10);

/// Claims the tasks that others may want too, and leaves out of all ready ones those that others have. Returns what
/// was claimed, to be given back if nothing is started.
pub(super) fn reserve(
    ctx: &Context,
    args: &ClaimArgs,
    tasks: &mut Vec<Id>,
    named: bool,
    force: bool,
) -> Result<Option<(Queue, Vec<Id>)>, CliError> {
    let asked = args.asked(ctx)?;
    let Some((queue, wanted)) =
        wanted(ctx, asked, tasks, || Ok(orchestrate::check_tasks(ctx.store()?, tasks, force)?))?
    else {
        return Ok(None);
    };
    let Some(Reserved { held, taken, .. }) = ask(ctx, &queue, asked, |queue| queue.reserve(&wanted, force))?
    else {
        return Ok(None);
    };
    let state = ctx.state()?;
    let ids = state.short_ids()?;
    let word = |(id, why): &(Id, String)| printable(&format!("{}: {why}", ids.shorten(id))).into_owned();
    let words: Vec<String> = taken.iter().map(word).collect();
    tasks.retain(|id| taken.iter().all(|(other, _)| other != id));
    if !taken.is_empty() && (named || tasks.is_empty()) {
        queue.release(&held)?;
        let error = CliError::new(ErrorKind::Failed, format!("failed to claim {}", words.join("; ")));
        return Err(error.hint("--force takes it all the same; what its holder does then does not count"));
    }
    for word in words {
        ctx.ui().note(format!("left to others: {word}"));
    }
    Ok(Some((queue, held)))
}

/// Claims the tasks of agents that are to go on: again where that was over, and what a machine holds that is silent.
///
/// # Errors
/// If somebody else holds one of them by now; who it is, is said.
pub(super) fn reserve_again(ctx: &Context, args: &ClaimArgs, agents: &[Agent]) -> Result<(), CliError> {
    let (asked, state, machine) = (args.asked(ctx)?, ctx.state()?, ctx.store()?.machine()?);
    let mut tasks = Vec::new();
    for agent in agents {
        let ours = agent.is_of(&machine);
        if !ours || agent.removed.is_some() || lease::find_live(ctx.repo()?, &agent.id).is_some() {
            // That it cannot be started is said by whoever would.
            continue;
        }
        let Some(task) = agent.task.map(|id| state.get::<Task>(&id)).transpose()?.flatten() else { continue };
        let own = task.assignee.is_none_or(|assignee| assignee == agent.id);
        if own && task.status != TaskStatus::Closed && !tasks.contains(&task.id) {
            tasks.push(task.id);
        }
    }
    let Some((queue, wanted)) = wanted(ctx, asked, &tasks, || Ok(()))? else { return Ok(()) };
    let Some(Reserved { taken, .. }) = ask(ctx, &queue, asked, |queue| queue.reserve_again(&wanted))? else {
        return Ok(());
    };
    let Some((id, why)) = taken.first() else { return Ok(()) };
    let (state, agent) = (ctx.state()?, agents.iter().find(|agent| agent.task.as_ref() == Some(id)));
    let short = state.short_ids()?.shorten(id);
    let name = agent.map_or("", |agent| agent.name.as_str());
    let words = printable(&format!("failed to resume {name}: its task {short}: {why}")).into_owned();
    let hint = format!(
        "`git orchestra task claim --force {short}` takes it all the same; what its holder does then does not count"
    );
    Err(CliError::new(ErrorKind::Failed, words).hint(hint))
}

/// The queue over the remote, where there is one.
pub(crate) fn queue(ctx: &Context, must: bool) -> Result<Option<Queue>, CliError> {
    if !must && ctx.repo()?.remotes()?.is_empty() {
        return Ok(None);
    }
    let remote = match sync::remote(ctx, None) {
        Ok(remote) => Remote { deadline: remote.deadline.min(PATIENCE), ..remote },
        Err(error) if must => return Err(error),
        Err(_) => return Ok(None),
    };
    Ok(Some(Queue::new(ctx.store()?.clone(), Some(remote), ctx.settings()?.claim_ttl())))
}

/// Those of `tasks` that are to be claimed over the remote, if any; `check` is made before it is looked for.
fn wanted(
    ctx: &Context,
    asked: Option<bool>,
    tasks: &[Id],
    check: impl FnOnce() -> Result<(), CliError>,
) -> Result<Option<(Queue, Vec<Id>)>, CliError> {
    if tasks.is_empty() || asked == Some(false) || asked.is_none() && ctx.repo()?.remotes()?.is_empty() {
        return Ok(None);
    }
    check()?;
    let Some(queue) = queue(ctx, asked.is_some())? else { return Ok(None) };
    let wanted = if asked.is_some() { tasks.to_vec() } else { queue.shared(tasks)? };
    Ok((!wanted.is_empty()).then_some((queue, wanted)))
}

/// Claims; nothing if the remote cannot be asked or makes no claims, and nobody said that it must.
fn ask(
    ctx: &Context,
    queue: &Queue,
    asked: Option<bool>,
    claim: impl FnOnce(&Queue) -> Result<Reserved, orchestrate::Error>,
) -> Result<Option<Reserved>, CliError> {
    let name = queue.remote().map(|remote| remote.name.clone()).unwrap_or_default();
    let alone = |why: &str| {
        ctx.ui().warn(printable(&format!("nothing was claimed on {name}: {why}")));
        ctx.ui().hint("another machine may begin the same; --no-claim asks no remote");
    };
    let reserved = match claim(queue) {
        Ok(reserved) => reserved,
        Err(error) if asked.is_none() && error.is_of_network() => {
            // Without what every error of git begins with.
            let cause = std::error::Error::source(&error).unwrap_or(&error);
            alone(&format!("failed to {}", supervise::chain(cause)));
            return Ok(None);
        }
        Err(error) => return Err(error.into()),
    };
    for said in queue.take_said() {
        ctx.ui().warn(said);
    }
    match &reserved.refused {
        Some(why) if asked.is_some() => {
            queue.release(&reserved.held)?;
            return Err(CliError::new(
                ErrorKind::Failed,
                format!("{name} let nothing be claimed: {}", printable(why)),
            ));
        }
        Some(why) => alone(why),
        None => {}
    }
    Ok(Some(reserved))
}

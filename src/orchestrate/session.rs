//! A session: agents that were claimed for this process, their worktrees, and their runs, to the end.

use super::control::Desk;
use super::lease::Lease;
use super::supervise::{Finished, Limits, Plan, Progress, Request, Supervisor};
use super::{Error, Slot, environment};
use crate::agent::{Adapter, LaunchRequest};
use crate::config::Profile;
use crate::git::{Identity, NewWorktree, Repository, Worktree};
use crate::model::{Agent, ObjectId, Task, TaskStatus, Usage};
use crate::store::Store;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// What a session takes from its surroundings: none of it is state.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// The user's environment, of which agents are given a part.
    pub env: Arc<BTreeMap<OsString, OsString>>,
    /// Where our own executable lies.
    pub program_dir: Option<PathBuf>,
    /// Where agents' worktrees are made.
    pub worktree_root: PathBuf,
    /// What must be got before anything is started; nothing for a session that counts its own.
    pub slot: Option<Slot>,
}

/// A profile with its program found.
#[derive(Debug, Clone)]
pub struct Outfit {
    /// The profile.
    pub profile: Profile,
    /// The program's file and arguments that belong to it.
    pub program: Vec<OsString>,
    /// How it is spoken to.
    pub adapter: Arc<dyn Adapter>,
}

/// An agent that this process has claimed and that no process runs yet.
#[derive(Debug)]
pub struct Claim {
    /// The agent, with the run in it.
    pub agent: Agent,
    pub(super) run: u32,
    pub(super) lease: Lease,
    pub(super) outfit: Outfit,
    pub(super) prompt: String,
    pub(super) system_prompt: String,
    pub(super) resume: bool,
    pub(super) decided: BTreeMap<String, bool>,
    pub(super) title: String,
}

/// The directory for agents' worktrees when nobody says otherwise: `<name>.orchestra` beside the repository.
pub fn default_worktree_root(repo: &Repository) -> PathBuf {
    let dir = repo.main_dir();
    let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let name = name.strip_suffix(".git").filter(|rest| !rest.is_empty()).unwrap_or(&name);
    dir.parent().unwrap_or(dir).join(format!("{name}.orchestra"))
}

/// Makes the claimed agents' worktrees and runs each agent as soon as it has its own, until all are done and
/// recorded.
///
/// An agent whose worktree cannot be made is taken back: its task is free again. After a [`Request::Stop`] of all,
/// agents that were not started stay, and can be resumed.
pub async fn run_claims(
    mut claims: Vec<Claim>,
    surroundings: Surroundings,
    store: Store,
    supervisor: Supervisor,
    requests: mpsc::Receiver<Request>,
    progress: mpsc::Sender<Progress>,
) -> Vec<Finished> {
    let (server, desk) = (supervisor.listen(), supervisor.desk());
    for claim in &mut claims {
        desk.enter(claim.agent.id, &claim.agent.name, claim.run);
        if let Some(server) = &server
            && let Err(error) = claim.lease.answers_at(server.name())
        {
            tracing::warn!("{}", super::supervise::chain(&error));
        }
    }
    // Held until everything is over.
    let slot = surroundings.slot.clone();
    let (sender, plans) = mpsc::channel(1);
    let told = progress.clone();
    let producer =
        tokio::task::spawn_blocking(move || produce(claims, &surroundings, &store, &desk, &sender, &told));
    let mut finished = supervisor.supervise(plans, requests, progress).await;
    finished.extend(producer.await.unwrap_or_default());
    if let Some(server) = server {
        server.close().await;
    }
    drop(slot);
    finished
}

/// How many worktrees are made at once: checking out is what takes the time, and it takes a core.
const MAKERS: usize = 4;

/// Returns what did not start.
fn produce(
    claims: Vec<Claim>,
    surroundings: &Surroundings,
    store: &Store,
    desk: &Desk,
    plans: &mpsc::Sender<Plan>,
    progress: &mpsc::Sender<Progress>,
) -> Vec<Finished> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let makers = cores.min(MAKERS).min(claims.len());
    let queue = Mutex::new(VecDeque::from(claims));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let unstarted = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..makers {
            let (store, next, unstarted) = (store.clone(), &next, &unstarted);
            scope.spawn(move || {
                while let Some(claim) = next() {
                    if let Some(one) = make(claim, surroundings, &store, desk, plans) {
                        let told = Progress::Finished(Box::new(one.clone()));
                        desk.leave(&one.agent, &told);
                        let _ = progress.blocking_send(told);
                        unstarted.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                    }
                }
            });
        }
    });
    unstarted.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Makes one agent's worktree and hands it on. Returns it if it will not start.
pub(super) fn make(
    claim: Claim,
    surroundings: &Surroundings,
    store: &Store,
    desk: &Desk,
    plans: &mpsc::Sender<Plan>,
) -> Option<Finished> {
    if plans.is_closed() || !desk.is_wanted(&claim.agent.id) {
        return Some(forget(store, claim.agent, claim.run, claim.lease));
    }
    let may = || !plans.is_closed() && desk.is_wanted(&claim.agent.id);
    match surroundings.slot.as_ref().map(|slot| slot.wait(store.repo(), may)) {
        None | Some(Ok(true)) => {}
        Some(Ok(false)) => return Some(forget(store, claim.agent, claim.run, claim.lease)),
        Some(Err(error)) => return Some(take_back(store, claim, &error)),
    }
    let (worktree, tip) = match worktree(store.repo(), surroundings, &claim.agent) {
        Ok(made) => made,
        Err(error) => return Some(take_back(store, claim, &error)),
    };
    let sent = plans.blocking_send(plan(claim, worktree, tip, surroundings, store.repo()));
    let mpsc::error::SendError(plan) = sent.err()?;
    Some(forget(store, plan.agent, plan.run, plan.lease))
}

/// The agent's worktree and its branch's tip, made if they are missing.
pub(super) fn worktree(
    repo: &Repository,
    surroundings: &Surroundings,
    agent: &Agent,
) -> Result<(Worktree, ObjectId), Error> {
    if let Some(found) = repo.find_worktree(agent.name.as_str())?
        && found.is_intact()
        && let Some(tip) = repo.find_ref(&agent.branch)?
    {
        return Ok((found, tip));
    }
    let root: &Path = &surroundings.worktree_root;
    if agent.runs.len() > 1
        && let Some(tip) = repo.find_ref(&agent.branch)?
    {
        return Ok((repo.restore_worktree(&agent.name, root, &agent.branch)?, tip));
    }
    let new = NewWorktree { name: &agent.name, root, branch: &agent.branch, base: &agent.base };
    Ok((repo.add_worktree(&new)?, agent.base.clone()))
}

fn plan(
    claim: Claim,
    worktree: Worktree,
    tip: ObjectId,
    surroundings: &Surroundings,
    repo: &Repository,
) -> Plan {
    let Claim { agent, run, lease, outfit, prompt, system_prompt, resume, decided, title } = claim;
    let Outfit { profile, program, adapter } = outfit;
    let mut env = environment(&surroundings.env, &profile, &agent, run, surroundings.program_dir.as_deref());
    if adapter.hides_git_configuration() {
        let Identity { name, email } = repo.identity();
        for person in ["AUTHOR", "COMMITTER"] {
            for (part, value) in [("NAME", &name), ("EMAIL", &email)] {
                env.entry(format!("GIT_{person}_{part}").into()).or_insert_with(|| value.into());
            }
        }
    }
    let limits = Limits::of(&profile);
    // A conversation that no run confirmed starts anew, and nothing was counted in it.
    let before = if resume { agent.usage_here() } else { Usage::default() };
    let launch = LaunchRequest {
        program,
        worktree: worktree.path.clone(),
        session: agent.session.clone().unwrap_or_default(),
        resume,
        prompt,
        system_prompt: Some(system_prompt),
        model: profile.model,
        permissions: profile.permissions,
        max_turns: profile.max_turns,
        max_cost_micro_usd: profile.max_cost_micro_usd,
        extra_args: profile.args,
        before,
    };
    Plan { agent, run, lease, worktree, tip, adapter, launch, env, limits, decided, title }
}

/// A run that did not happen, and whose agent stays.
fn forget(store: &Store, agent: Agent, run: u32, lease: Lease) -> Finished {
    let forgotten = store.transact(|transaction| {
        if let Some(mut agent) = transaction.get::<Agent>(&agent.id)? {
            agent.runs.remove(&run);
            transaction.describe(format!("agent: {} run {run} not started", agent.name));
            transaction.put(&agent)?;
        }
        Ok::<_, Error>(())
    });
    let error = forgotten.map(drop).and_then(|()| lease.release()).err();
    unstarted(agent, run, error.map(|error| super::supervise::chain(&error)))
}

/// An agent that could not get a worktree: as if it had never been, but for the record.
fn take_back(store: &Store, claim: Claim, error: &Error) -> Finished {
    let Claim { agent, run, lease, .. } = claim;
    let mut text = super::supervise::chain(error);
    let undone = store.transact(|transaction| {
        let Some(mut agent) = transaction.get::<Agent>(&agent.id)? else { return Ok(()) };
        agent.runs.remove(&run);
        if agent.runs.is_empty() {
            agent.removed = Some(transaction.now());
            release_task(transaction, &agent)?;
        }
        transaction.describe(format!("agent: {} run {run} not started: no worktree", agent.name));
        transaction.put(&agent)?;
        Ok::<_, Error>(())
    });
    if let Err(error) = undone.map(drop).and_then(|()| lease.release()) {
        text = format!("{text}; and {}", super::supervise::chain(&error));
    }
    unstarted(agent, run, Some(text))
}

/// Frees the task of an agent that will not work on it any more.
pub(super) fn release_task(
    transaction: &mut crate::store::Transaction<'_>,
    agent: &Agent,
) -> Result<(), Error> {
    if let Some(id) = &agent.task
        && let Some(mut task) = transaction.get::<Task>(id)?
        && task.assignee == Some(agent.id)
    {
        task.assignee = None;
        if task.status == TaskStatus::Started {
            task.status = TaskStatus::Open;
            task.changed = transaction.now();
        }
        transaction.put(&task)?;
    }
    Ok(())
}

fn unstarted(agent: Agent, run: u32, error: Option<String>) -> Finished {
    Finished {
        agent: agent.id,
        name: agent.name,
        run,
        outcome: None,
        tip: agent.base,
        commits: 0,
        leftovers: false,
        usage: Usage::default(),
        decisions: Vec::new(),
        error,
    }
}

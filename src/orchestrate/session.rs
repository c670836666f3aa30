//! A session: agents that were claimed for this process, their worktrees, and their runs, to the end.

use super::breaker::{Breaker, Probe};
use super::budget::{Budgets, Purse};
use super::control::Desk;
use super::environment::{self, environment, has_model, is_of_account};
use super::lease::Lease;
use super::prepare::{Prepared, Provision, Readiness, Task as Preparing, builds, prepare};
use super::prune::make_room;
use super::sandbox::{self, Confined, Confinement, Sandboxing};
use super::supervise::{Finished, Limits, Plan, Progress, Request, Ruling, Supervisor};
use super::{Error, Pulse, Slot, next_rescue_ref, trust};
use crate::agent::{Adapter, LaunchRequest, Redactor};
use crate::config::Profile;
use crate::git::{Expected, Identity, NewWorktree, RefEdit, Repository, Worktree};
use crate::model::{Agent, Budget, ObjectId, Task, TaskStatus, Usage};
use crate::store::Store;
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
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
    /// What agents may use together.
    pub budgets: Budgets,
    /// How long agents wait first whose model is over a limit and names no time.
    pub park: Duration,
    /// Where it is written down which models are over a limit.
    pub limits: PathBuf,
    /// What must be got before anything is started; nothing for a session that counts its own.
    pub slot: Option<Slot>,
    /// What worktrees get beside their files.
    pub provision: Provision,
    /// What confines agents' programs, and what they may touch then.
    pub sandboxing: Sandboxing,
    /// A line for the shell that agents' programs ask before each edit; see `agent::claude_hook`.
    pub edit_hook: Option<String>,
    /// What takes secrets out of what commands print.
    pub redactor: Arc<Redactor>,
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
    /// What the agent may use over all its runs, where somebody said so for it alone.
    pub budget: Budget,
    /// Whether somebody said for it alone what it is confined by: what confined it before does not count then.
    pub sandbox_is_said: bool,
    /// Whether an answer to one of its questions counts that came from elsewhere and that nobody verified.
    pub any_answer: bool,
}

impl Outfit {
    /// The same, with what confined the agent's last run if that was stricter and nobody said otherwise: an agent that
    /// goes on is not let out by the way.
    pub(super) fn as_strict_as(&self, agent: &Agent) -> Self {
        let mut outfit = self.clone();
        if !outfit.sandbox_is_said {
            outfit.profile.sandbox = outfit.profile.sandbox.max(agent.sandbox());
        }
        outfit
    }
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
    pub(super) decided: BTreeMap<String, Ruling>,
    pub(super) title: String,
    /// The zone that its worktree is limited to, whatever its task says.
    pub(super) zone: Option<String>,
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
/// Meanwhile `pulse` keeps the claims of their tasks alive, and says when that is over.
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
    pulse: Option<Pulse>,
) -> Vec<Finished> {
    let pulse = pulse.map(|pulse| pulse.start(progress.clone()));
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
    let producer = tokio::task::spawn_blocking(move || {
        let bench = Bench {
            surroundings: &surroundings,
            store: &store,
            desk: &desk,
            plans: &sender,
            progress: &told,
        };
        produce(claims, bench)
    });
    let mut finished = Box::pin(supervisor.supervise(plans, requests, progress)).await;
    finished.extend(producer.await.unwrap_or_default());
    if let Some(server) = server {
        server.close().await;
    }
    drop(slot);
    if let Some(pulse) = pulse {
        pulse.end().await;
    }
    finished
}

/// How many worktrees are made at once: checking out is what takes the time, and it takes a core.
const MAKERS: usize = 4;
/// How many lines of what a command said last are part of an error.
const LAST_LINES: usize = 3;

/// What whoever makes worktrees needs.
#[derive(Clone, Copy)]
pub(super) struct Bench<'a> {
    pub(super) surroundings: &'a Surroundings,
    pub(super) store: &'a Store,
    pub(super) desk: &'a Desk,
    /// Where what is ready goes.
    pub(super) plans: &'a mpsc::Sender<Plan>,
    pub(super) progress: &'a mpsc::Sender<Progress>,
}

/// Returns what did not start.
fn produce(claims: Vec<Claim>, bench: Bench<'_>) -> Vec<Finished> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let makers = cores.min(MAKERS).min(claims.len());
    let queue = Mutex::new(VecDeque::from(claims));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let unstarted = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..makers {
            let (store, next, unstarted) = (bench.store.clone(), &next, &unstarted);
            scope.spawn(move || {
                let bench = Bench { store: &store, ..bench };
                while let Some(claim) = next() {
                    if let Some(one) = make(claim, bench) {
                        let told = Progress::Finished(Box::new(one.clone()));
                        bench.desk.leave(&one.agent, &told);
                        let _ = bench.progress.blocking_send(told);
                        unstarted.lock().unwrap_or_else(PoisonError::into_inner).push(one);
                    }
                }
            });
        }
    });
    unstarted.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Makes one agent's worktree, makes it ready, and hands it on. Returns it if it will not start.
pub(super) fn make(mut claim: Claim, bench: Bench<'_>) -> Option<Finished> {
    let Bench { surroundings, store, desk, plans, progress } = bench;
    let id = claim.agent.id;
    let may = || !plans.is_closed() && desk.is_wanted(&id);
    if !may() {
        return Some(forget(store, claim.agent, claim.run, claim.lease));
    }
    match surroundings.slot.as_ref().map(|slot| slot.wait(store.repo(), may)) {
        None | Some(Ok(true)) => {}
        Some(Ok(false)) => return Some(forget(store, claim.agent, claim.run, claim.lease)),
        Some(Err(error)) => return Some(take_back(store, claim, &error)),
    }
    let room = make_room(store, surroundings, |text| {
        let _ = progress.blocking_send(Progress::Notice { agent: Some(id), text });
    });
    // Others may have been running since the claim, and could have chosen what git runs when it checks out.
    if let Err(error) = trust::require_unchanged(store.repo()) {
        let mut kept = forget(store, claim.agent, claim.run, claim.lease);
        kept.error.get_or_insert(super::supervise::chain(&error));
        return Some(kept);
    }
    let (worktree, tip) = match room.and_then(|()| {
        let sparse = directories(store, surroundings, &claim.agent, claim.zone.as_deref())?;
        worktree(store.repo(), surroundings, &claim.agent, &sparse)
    }) {
        Ok(made) => made,
        Err(error) => return Some(take_back(store, claim, &error)),
    };
    let (profile, budgets) = (&claim.outfit.profile.budget, &surroundings.budgets);
    let purse = match Purse::open(store, &claim.agent, claim.run, profile, budgets) {
        Ok(purse) => purse,
        Err(error) => return Some(unmake(store, claim, &worktree, &error)),
    };
    let tell = |text: String| {
        let _ = progress.blocking_send(Progress::Notice { agent: Some(id), text });
    };
    let preparing = Preparing {
        repo: store.repo(),
        surroundings,
        redactor: &surroundings.redactor,
        agent: &claim.agent,
        run: claim.run,
        wanted: &may,
        tell: &tell,
    };
    if let Err(error) = surroundings.sandboxing.require(claim.outfit.profile.sandbox) {
        error.hint().into_iter().for_each(|hint| tell(format!("hint: {hint}")));
        return Some(unmake(store, claim, &worktree, &error));
    }
    let prepared = match prepare(&preparing, &worktree, &mut claim.lease, store.clock().now()) {
        Ok(Readiness::Ready(prepared)) => prepared,
        Ok(Readiness::Unwanted) => return Some(forget(store, claim.agent, claim.run, claim.lease)),
        Err(error) => {
            if let Error::Hook { output, .. } = &error {
                output.lines().for_each(|line| tell(format!("  {line}")));
            }
            error.hint().into_iter().for_each(|hint| tell(format!("hint: {hint}")));
            return Some(unmake(store, claim, &worktree, &error));
        }
    };
    let stage = match stage(&claim, &worktree, surroundings, store.repo(), &prepared) {
        Ok(stage) => stage,
        Err(error) => return Some(unmake(store, claim, &worktree, &error)),
    };
    let sent =
        plans.blocking_send(plan(claim, worktree, tip, purse, surroundings, store.repo(), prepared, stage));
    let mpsc::error::SendError(plan) = sent.err()?;
    Some(forget(store, plan.agent, plan.run, plan.lease))
}

/// Takes back an agent whose worktree could not be made ready. One that never ran loses worktree and branch again:
/// nobody worked there. What the setup command committed all the same is kept.
fn unmake(store: &Store, claim: Claim, worktree: &Worktree, error: &Error) -> Finished {
    let repo = store.repo();
    let never_ran = claim.agent.runs.keys().all(|run| *run == claim.run);
    let unmade = || -> Result<(), Error> {
        if !never_ran {
            return Ok(());
        }
        // The setup command may have been ended in the middle of a git.
        repo.mend_after_agent(worktree, claim.lease.info().since.as_millis())?;
        repo.remove_worktree(worktree)?;
        let Some(tip) = repo.find_ref(&claim.agent.branch)? else { return Ok(()) };
        let mut edits = vec![RefEdit {
            name: claim.agent.branch.clone(),
            new: None,
            expected: Expected::At(tip.clone()),
        }];
        if tip != claim.agent.base {
            let name = next_rescue_ref(repo, &claim.agent.name)?;
            edits.push(RefEdit { name, new: Some(tip), expected: Expected::Absent });
        }
        Ok(repo.update_refs(&edits, "orchestra: its worktree could not be made ready")?)
    };
    let also = unmade().err();
    let mut finished = take_back(store, claim, error);
    if let (Some(also), Some(text)) = (also, &mut finished.error) {
        *text = format!("{text}; and {}", super::supervise::chain(&also));
    }
    finished
}

/// The directories of the zone that was asked for, or of the agent's task's; none if the settings bind that to none.
fn directories(
    store: &Store,
    surroundings: &Surroundings,
    agent: &Agent,
    zone: Option<&str>,
) -> Result<Vec<String>, Error> {
    let zones = &surroundings.provision.zones;
    if zones.is_empty() {
        return Ok(Vec::new());
    }
    let of_task = match &agent.task {
        Some(task) if zone.is_none() => store.state()?.get::<Task>(task)?.and_then(|task| task.zone),
        _ => None,
    };
    let zone = zone.map(str::to_owned).or(of_task);
    Ok(zone.and_then(|zone| zones.get(&zone).cloned()).unwrap_or_default())
}

/// The agent's worktree and its branch's tip, made if they are missing.
pub(super) fn worktree(
    repo: &Repository,
    surroundings: &Surroundings,
    agent: &Agent,
    sparse: &[String],
) -> Result<(Worktree, ObjectId), Error> {
    if let Some(found) = repo.find_worktree(agent.name.as_str())?
        && found.is_intact()
        && let Some(tip) = repo.find_ref(&agent.branch)?
    {
        return Ok((found, tip));
    }
    let root: &Path = &surroundings.worktree_root;
    // One that never ran has its branch when whoever took it back was killed on the way.
    if let Some(tip) = repo.find_ref(&agent.branch)?
        && (agent.runs.len() > 1 || tip == agent.base)
    {
        return Ok((repo.restore_worktree(&agent.name, root, &agent.branch, sparse)?, tip));
    }
    let new = NewWorktree { name: &agent.name, root, branch: &agent.branch, base: &agent.base, sparse };
    Ok((repo.add_worktree(&new)?, agent.base.clone()))
}

/// What the program of a run finds around it: its environment, and what confines it.
type Stage = (BTreeMap<OsString, OsString>, Option<Confinement>);

fn stage(
    claim: &Claim,
    worktree: &Worktree,
    surroundings: &Surroundings,
    repo: &Repository,
    prepared: &Prepared,
) -> Result<Stage, Error> {
    let Claim { agent, run, outfit: Outfit { profile, program, adapter, .. }, .. } = claim;
    let mut env = environment(&surroundings.env, profile, agent, *run, surroundings.program_dir.as_deref());
    environment::add_places(&mut env, agent, &worktree.path, repo.main_dir());
    prepared.add_to(&mut env);
    if worktree.is_sparse() {
        environment::add_git_config(&mut env, &Worktree::sparse_config());
    }
    if surroundings.provision.shares_builds {
        builds::add(&mut env, &worktree.path, &surroundings.worktree_root);
    }
    if adapter.hides_git_configuration() {
        let Identity { name, email } = repo.identity();
        for person in ["AUTHOR", "COMMITTER"] {
            for (part, value) in [("NAME", &name), ("EMAIL", &email)] {
                env.entry(format!("GIT_{person}_{part}").into()).or_insert_with(|| value.into());
            }
        }
    }
    let adapter = &**adapter;
    let confined = Confined { repo, surroundings, agent, worktree, profile, adapter, program };
    let confinement = sandbox::confine(&confined, &mut env)?;
    Ok((env, confinement))
}

#[expect(clippy::too_many_arguments, reason = "what was made one after the other comes together here")]
fn plan(
    claim: Claim,
    worktree: Worktree,
    tip: ObjectId,
    purse: Purse,
    surroundings: &Surroundings,
    repo: &Repository,
    prepared: Prepared,
    (env, confinement): Stage,
) -> Plan {
    let Claim { agent, run, lease, outfit, prompt, system_prompt, resume, decided, title, .. } = claim;
    let Outfit { profile, program, adapter, .. } = outfit;
    let limits = Limits::of(&profile, surroundings.provision.space_floor);
    let me = Probe::of(repo, agent.id, run);
    // Behind one adapter there may be many programs, each with what the profile passes on to it.
    let behind = program.get(1).filter(|_| profile.program == "acp").map(Path::new).and_then(Path::file_name);
    let says = |name: &OsStr| {
        let passed = behind.is_some() && profile.pass_env.iter().any(|passed| name == OsStr::new(passed));
        passed || is_of_account(&profile.program, &env, name)
    };
    let breaker = has_model(&profile.program).then(|| {
        let behind = behind.map(|name| format!(" {}", name.to_string_lossy())).unwrap_or_default();
        let program = format!("{}{behind}", profile.program);
        Breaker::new(&surroundings.limits, &program, &env, says, me, surroundings.park)
    });
    // A conversation that no run confirmed starts anew, and nothing was counted in it.
    let before = if resume { agent.usage_here() } else { Usage::default() };
    let begun_by = agent.runs.values().filter_map(|run| run.ended).min().filter(|_| resume);
    let price = profile.price();
    let launch = LaunchRequest {
        program,
        worktree: worktree.path.clone(),
        session: agent.session.clone().unwrap_or_default(),
        resume,
        prompt,
        system_prompt: Some(system_prompt),
        model: profile.model,
        permissions: profile.permissions,
        sandbox: profile.sandbox,
        tools: profile.tools,
        denied_tools: profile.denied_tools,
        budget: purse.left(),
        // It could not see what others have.
        edit_hook: surroundings.edit_hook.clone().filter(|_| confinement.is_none()),
        extra_args: profile.args,
        price,
        before,
        begun_by,
    };
    Plan {
        agent,
        run,
        lease,
        worktree,
        tip,
        adapter,
        launch,
        env,
        limits,
        purse,
        breaker,
        slot: surroundings.slot.clone(),
        decided,
        title,
        prepared,
        confinement,
        confiners: surroundings.sandboxing.confiners.clone(),
    }
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

/// What a failure is called where one line is all there is.
fn brief(error: &Error) -> String {
    match error {
        Error::Hook { what, why, output, .. } => {
            let lines: Vec<&str> = output.lines().collect();
            let last = lines[lines.len().saturating_sub(LAST_LINES)..].join(" / ");
            if last.is_empty() { format!("{what}: {why}") } else { format!("{what}: {why}: {last}") }
        }
        error => super::supervise::chain(error),
    }
}

/// An agent that could not get a worktree: as if it had never been, but for the record.
fn take_back(store: &Store, claim: Claim, error: &Error) -> Finished {
    let Claim { agent, run, lease, .. } = claim;
    let mut text = brief(error);
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

//! Spawning: tasks become agents, all of them in one change of the state or none.

use super::base::{Behind, behind};
use super::lease::{Lease, LeaseInfo};
use super::session::{Claim, Outfit};
use super::{Error, title, trust};
use crate::agent::prompt;
use crate::git::Repository;
use crate::model::{
    Agent, Finding, FindingStatus, Id, Kind, Name, ObjectId, Run, Sandbox, Severity, StepOf, Task,
    TaskStatus, Timestamp,
};
use crate::process::FileLock;
use crate::store::{State, Store, Transaction};
use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use std::collections::{BTreeMap, BTreeSet};

/// The longest name that is made out of a title: it becomes a column, a branch and a directory.
const NAME_LEN: usize = 28;

/// How often a name is chosen again because somebody else got it.
const CHOICES: u32 = 256;

/// What agents are wanted for.
#[derive(Debug, Clone)]
pub struct SpawnRequest {
    /// The tasks, an agent each. Without any, one agent for `prompt` alone.
    pub tasks: Vec<Id>,
    /// What it is told; beside its task, if there is one.
    pub prompt: Option<String>,
    /// The agent's name; only for one.
    pub name: Option<Name>,
    /// The commit to start from; `None` for the tip of the branch that is checked out.
    pub base: Option<String>,
    /// The zone that their worktrees are limited to; without it that of each task.
    pub zone: Option<String>,
    /// Whether to take tasks that others hold or that wait for others.
    pub force: bool,
    /// The step of a team that the agent is; only for one with a task.
    pub step: Option<StepRequest>,
    /// The profile, and how its program is started.
    pub outfit: Outfit,
}

/// A step of a team, on top of what those before it did.
#[derive(Debug, Clone)]
pub struct StepRequest {
    /// Which it is.
    pub of: StepOf,
    /// The branch where the team's work is expected to go, a full ref name; `None` for that of the base.
    pub target: Option<String>,
}

/// What was claimed, and what the user should know about it.
#[derive(Debug)]
pub struct Spawned {
    /// The agents, in the order of the tasks.
    pub claims: Vec<Claim>,
    /// Where they start from.
    pub base: Base,
    /// Whether this made the state.
    pub initialised: bool,
}

/// Where agents start from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Base {
    /// The commit.
    pub commit: ObjectId,
    /// The branch that it is the tip of, a full ref name: where the work is expected to go.
    pub target: Option<String>,
    /// How far the target is behind its upstream, if it is.
    pub behind: Option<Behind>,
}

/// Claims tasks for new agents: takes their leases, and writes agents and claims as one change of the state.
/// Nothing is started and no worktree is made: that is [`super::run_claims`].
///
/// # Errors
/// If a task is closed, held by somebody or waits for others, it is named with what would help, and nothing was
/// claimed.
///
/// Of several at once that choose the same name, each but the first chooses again.
pub fn spawn(store: &Store, request: &SpawnRequest) -> Result<Spawned, Error> {
    let mut held = None;
    for _ in 0..CHOICES {
        match attempt(store, request) {
            Err(Error::NameTaken { .. }) if request.name.is_none() => {}
            result => return result,
        }
        // From here on only with those who did not have to choose again yet.
        if held.is_none() {
            let path = store.repo().local_dir().join("names");
            held = Some(FileLock::wait(&path).map_err(|e| Error::file("lock", path, e))?);
        }
    }
    attempt(store, request)
}

fn attempt(store: &Store, request: &SpawnRequest) -> Result<Spawned, Error> {
    let repo = store.repo();
    trust::require_unchanged(repo)?;
    let mut base = find_base(repo, request.base.as_deref())?;
    if let Some(target) = request.step.as_ref().and_then(|step| step.target.as_ref()) {
        // It starts from the work of the step before, which goes where the first one's does.
        base = Base { target: Some(target.clone()), behind: None, ..base };
    }
    if request.name.is_some() && request.tasks.len() > 1 {
        let hint = "name them by their tasks, or spawn them one by one".to_owned();
        return Err(Error::refused("give one name to several agents", hint));
    }
    if request.tasks.is_empty() && request.prompt.as_deref().is_none_or(|prompt| prompt.trim().is_empty()) {
        return Err(Error::refused(
            "spawn an agent for nothing",
            "name a task, or say what to do with -m".to_owned(),
        ));
    }
    let machine = store.machine()?;
    let state = store.state()?;
    let mut taken = taken_names(repo, &state.all::<Agent>()?)?;
    let works: Vec<Option<Task>> = if request.tasks.is_empty() {
        vec![None]
    } else {
        request.tasks.iter().map(|id| state.require::<Task>(id).map(Some)).collect::<Result<_, _>>()?
    };
    let findings: Vec<Finding> =
        state.all::<Finding>()?.into_iter().filter(|finding| finding.status == FindingStatus::Open).collect();
    // A millisecond apart, so that they are listed and merged in the order of their tasks.
    let now = store.clock().now();
    let mut claims = Vec::new();
    for (at, task) in (now.as_millis()..).map(Timestamp).zip(works) {
        let title = title::title(store, task.as_ref(), request.prompt.as_deref().unwrap_or_default());
        let called =
            request.step.as_ref().map_or_else(|| title.clone(), |step| called(&title, &step.of.step));
        let name = choose_name(request.name.as_ref(), &called, &mut taken)?;
        let agent = new_agent(store, request, &base, &machine, name, task.as_ref(), at)?;
        let touching = findings_for(&findings, task.as_ref());
        let mut claim = claim(store, agent, 1, &request.outfit, title, &touching)?;
        claim.zone.clone_from(&request.zone);
        claims.push(claim);
    }
    let agents: Vec<&Agent> = claims.iter().map(|claim| &claim.agent).collect();
    match store.transact(|transaction| write_claims(transaction, &agents, request.force)) {
        Ok(committed) => Ok(Spawned { claims, base, initialised: committed.initialised }),
        Err(error) => {
            for claim in claims {
                claim.lease.give_up(&error)?;
            }
            Err(error)
        }
    }
}

/// Refuses tasks that agents should not begin, by the state here alone, as [`spawn`] does.
pub fn check_tasks(store: &Store, tasks: &[Id], force: bool) -> Result<(), Error> {
    let (state, machine) = (store.state()?, store.machine()?);
    let living: Vec<Agent> =
        state.all::<Agent>()?.into_iter().filter(|agent| agent.removed.is_none()).collect();
    for id in tasks {
        check_claimable(&|id| state.get::<Task>(id), &state.require(id)?, &living, &machine, force)?;
    }
    Ok(())
}

/// Takes the lease of an agent and puts together what its run `number` needs. The state is not touched.
pub(super) fn claim(
    store: &Store,
    agent: Agent,
    number: u32,
    outfit: &Outfit,
    title: String,
    findings: &[Finding],
) -> Result<Claim, Error> {
    let lease = take_lease(store, &agent, number)?;
    claim_with(store, lease, agent, number, outfit, title, findings)
}

/// Takes the lease of an agent for its run `number`.
pub(super) fn take_lease(store: &Store, agent: &Agent, number: u32) -> Result<Lease, Error> {
    let info = LeaseInfo::queued(agent.id, agent.name.clone(), number, store.clock().now());
    Lease::take(store.repo(), info)?
        .ok_or_else(|| Error::refused(format!("start {}: it is running", agent.name), None))
}

/// The same as [`claim`] with a lease that is held already.
pub(super) fn claim_with(
    store: &Store,
    lease: Lease,
    agent: Agent,
    number: u32,
    outfit: &Outfit,
    title: String,
    findings: &[Finding],
) -> Result<Claim, Error> {
    let fence = store.new_id()?.to_string();
    let (state, here) = (store.state()?, store.machine()?);
    let mut machines = BTreeMap::new();
    for finding in findings {
        if let Some(machine) = written_elsewhere(&state, Kind::Finding, &finding.id, "message", &here)? {
            machines.insert(finding.id, machine);
        }
    }
    let system_prompt = prompt::system(&prompt::Brief {
        agent: agent.name.as_str(),
        branch: agent.branch.strip_prefix("refs/heads/").unwrap_or(&agent.branch),
        role: outfit.profile.role.as_deref(),
        findings,
        machines: &machines,
        fence: &fence,
        confined: outfit.profile.sandbox != Sandbox::None,
    });
    Ok(Claim {
        prompt: agent.prompt.clone(),
        agent,
        run: number,
        lease,
        outfit: outfit.clone(),
        system_prompt,
        resume: false,
        decided: BTreeMap::new(),
        title,
        zone: None,
    })
}

fn new_agent(
    store: &Store,
    request: &SpawnRequest,
    base: &Base,
    machine: &str,
    name: Name,
    task: Option<&Task>,
    now: Timestamp,
) -> Result<Agent, Error> {
    let prompt = match task {
        Some(task) => told(store, task, request.prompt.as_deref(), machine)?,
        None => request.prompt.clone().unwrap_or_default(),
    };
    let run = Run { started: now, sandbox: Some(request.outfit.profile.sandbox), ..Run::default() };
    Ok(Agent {
        id: store.new_id()?,
        branch: format!("{}{name}", Agent::BRANCHES),
        name,
        profile: request.outfit.profile.name.clone(),
        program: request.outfit.profile.program.clone(),
        task: task.map(|task| task.id),
        step: request.step.as_ref().map(|step| step.of.clone()),
        prompt,
        base: base.commit.clone(),
        target: base.target.clone(),
        machine: machine.to_owned(),
        taken: None,
        session: Some(uuid::Uuid::new_v4().to_string()),
        budget: request.outfit.budget,
        runs: [(1, Box::new(run))].into(),
        removed: None,
        merged: None,
        created: now,
    })
}

/// What an agent is told of a task, with whose words those are that were not written here.
fn told(store: &Store, task: &Task, extra: Option<&str>, here: &str) -> Result<String, Error> {
    let state = store.state()?;
    let written = |field: &str| written_elsewhere(&state, Kind::Task, &task.id, field, here);
    let machine = match written("body")? {
        Some(machine) => Some(machine),
        None => written("title")?,
    };
    let fence = store.new_id()?.to_string();
    let from = machine.as_deref().map(|machine| prompt::Elsewhere { machine, fence: &fence });
    Ok(prompt::task(task, extra, from))
}

/// The machine that wrote a field last, if it is not this one. The stamp says so, which whoever can push may have written.
fn written_elsewhere(
    state: &State,
    kind: Kind,
    id: &Id,
    field: &str,
    here: &str,
) -> Result<Option<String>, Error> {
    let record = state.record(kind, id)?;
    let stamp = record.as_ref().and_then(|record| record.stamp(field));
    Ok(stamp.map(|stamp| stamp.actor.clone()).filter(|actor| actor != here))
}

fn write_claims(transaction: &mut Transaction<'_>, agents: &[&Agent], force: bool) -> Result<(), Error> {
    let living: Vec<Agent> =
        transaction.all::<Agent>()?.into_iter().filter(|agent| agent.removed.is_none()).collect();
    let mut said = Vec::new();
    for agent in agents {
        if living.iter().any(|other| other.name == agent.name) {
            return Err(Error::NameTaken { name: agent.name.clone() });
        }
        transaction.put(*agent)?;
        let Some(id) = &agent.task else {
            said.push(format!("spawn {}", agent.name));
            continue;
        };
        let mut task = transaction.require::<Task>(id)?;
        let find = |id: &Id| transaction.get::<Task>(id);
        // The agents of a team hand their task on.
        let hands_on = |holder: &Agent| holder.step.is_some() && holder.task == agent.task;
        if agent.step.is_some() && living.iter().any(|a| Some(a.id) == task.assignee && hands_on(a)) {
            task.assignee = None;
        }
        check_claimable(&find, &task, &living, &agent.machine, force)?;
        said.push(format!("claim {} by {}", &id.as_str()[..6], agent.name));
        task.assignee = Some(agent.id);
        if task.status != TaskStatus::Started {
            task.status = TaskStatus::Started;
            task.changed = transaction.now();
        }
        transaction.put(&task)?;
    }
    transaction.describe(format!("task: {}", said.join(", ")));
    Ok(())
}

/// Refuses a task that an agent should not begin, naming it, with what would help.
fn check_claimable(
    find: &dyn Fn(&Id) -> Result<Option<Task>, crate::store::Error>,
    task: &Task,
    living: &[Agent],
    machine: &str,
    force: bool,
) -> Result<(), Error> {
    let short = &task.id.as_str()[..6];
    let named = format!("claim {short} ({})", task.title);
    if task.status == TaskStatus::Closed {
        let hint = format!("`git orchestra task reopen {short}` makes it wanted again");
        return Err(Error::refused(format!("{named}: it is closed"), hint));
    }
    if force {
        return Ok(());
    }
    if let Some(holder) = &task.assignee {
        let name = living.iter().find(|agent| agent.id == *holder).map(|agent| agent.name.to_string());
        let name = name.unwrap_or_else(|| holder.to_string());
        let hint =
            format!("`git orchestra resume {name}` goes on with it; --force spawns another agent for it");
        return Err(Error::refused(format!("{named}: {name} works on it"), hint));
    }
    if let (TaskStatus::Started, Some(holder)) = (task.status, &task.holder)
        && holder != machine
    {
        let hint = "--force takes it all the same; what its holder does then does not count".to_owned();
        return Err(Error::refused(format!("{named}: machine {holder} holds it"), hint));
    }
    let mut waits = Vec::new();
    for id in &task.after {
        let other = find(id)?;
        if other.as_ref().is_none_or(|other| other.status != TaskStatus::Closed) {
            let title = other.map(|other| format!(" ({})", other.title)).unwrap_or_default();
            waits.push(format!("{}{title}", &id.as_str()[..6]));
        }
    }
    if !waits.is_empty() {
        let hint = "close what it waits for, or --force to begin all the same".to_owned();
        return Err(Error::refused(format!("{named}: it comes after {}", waits.join(", ")), hint));
    }
    Ok(())
}

/// The commit that agents start from.
fn find_base(repo: &Repository, revision: Option<&str>) -> Result<Base, Error> {
    let head = repo.head()?;
    let (commit, target) = match revision {
        None => {
            let commit = head.commit.ok_or_else(|| {
                let hint = "make a first commit: agents start from one".to_owned();
                Error::refused("start an agent: the repository has no commit yet", hint)
            })?;
            (commit, head.branch)
        }
        Some(revision) => {
            let commit = repo.resolve_commit(revision)?;
            let full = if revision.starts_with("refs/heads/") {
                revision.to_owned()
            } else {
                format!("refs/heads/{revision}")
            };
            // Another revision than a branch: its work goes where the user is.
            let is_branch = repo.find_ref(&full)?.is_some();
            (commit, if is_branch { Some(full) } else { head.branch })
        }
    };
    let behind = target.as_deref().map(|target| behind(repo, target)).transpose()?.flatten();
    Ok(Base { commit, target, behind })
}

/// What an agent of a team is called: the end says which step it is, so the title gives way.
fn called(title: &str, step: &str) -> String {
    let room = NAME_LEN.saturating_sub(step.len() + 1).max(1);
    match title::name(title, room) {
        Some(title) => format!("{title} {step}"),
        None => step.to_owned(),
    }
}

fn taken_names(repo: &Repository, agents: &[Agent]) -> Result<BTreeSet<String>, Error> {
    let mut taken: BTreeSet<String> =
        agents.iter().filter(|agent| agent.removed.is_none()).map(|agent| agent.name.to_string()).collect();
    for (name, _) in repo.list_refs(Agent::BRANCHES)? {
        // A branch `orchestra/a/b` leaves no room for `orchestra/a` either.
        let rest = name.strip_prefix(Agent::BRANCHES).unwrap_or(&name);
        taken.insert(rest.split('/').next().unwrap_or(rest).to_owned());
    }
    for entry in std::fs::read_dir(repo.common_dir().join("worktrees")).into_iter().flatten().flatten() {
        taken.insert(entry.file_name().to_string_lossy().into_owned());
    }
    Ok(taken)
}

fn choose_name(wanted: Option<&Name>, title: &str, taken: &mut BTreeSet<String>) -> Result<Name, Error> {
    if let Some(name) = wanted {
        if !taken.insert(name.to_string()) {
            let hint = "choose another one with --name, or none".to_owned();
            return Err(Error::refused(
                format!("name an agent {name}: an agent, branch or worktree has that name"),
                hint,
            ));
        }
        return Ok(name.clone());
    }
    let plain = title::name(title, NAME_LEN).map_or_else(|| "agent".to_owned(), |name| name.to_string());
    let candidates = std::iter::once(plain.clone()).chain((2..).map(|n: u32| format!("{plain}-{n}")));
    let free = candidates.into_iter().find(|name| !taken.contains(name)).expect("numbers do not end");
    taken.insert(free.clone());
    free.parse().map_err(|e: crate::model::NameError| Error::refused(e.to_string(), None))
}

/// The open findings that an agent should know before it begins: those about paths that its task touches or about
/// the task itself; without paths to go by, those that nobody should begin without.
pub(super) fn findings_for(findings: &[Finding], task: Option<&Task>) -> Vec<Finding> {
    let touches = task.map(|task| &task.touches).filter(|touches| !touches.is_empty());
    let globs = touches.map(glob_set);
    let concerns = |finding: &Finding| {
        if task.is_some_and(|task| finding.task == Some(task.id)) {
            return true;
        }
        match (&globs, &finding.anchor) {
            (Some(globs), Some(anchor)) => globs.is_match(&anchor.path),
            (Some(_), None) | (None, _) => finding.severity >= Severity::High,
        }
    };
    findings.iter().filter(|finding| concerns(finding)).cloned().collect()
}

/// Paths as tasks name them: a glob, or a directory that stands for everything in it.
pub(super) fn glob_set(patterns: &BTreeSet<String>) -> GlobSet {
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        for pattern in [pattern.clone(), format!("{}/**", pattern.trim_end_matches('/'))] {
            if let Ok(glob) = GlobBuilder::new(&pattern).literal_separator(true).build() {
                set.add(glob);
            }
        }
    }
    set.build().unwrap_or_default()
}

//! Pipelines: what is next for tasks on their way to the branch that they land on.
//!
//! A pipeline runs nothing itself. Where each of its tasks stands follows from the task, its agents and their branches,
//! so whoever comes next, on any machine, after a failure or a kill, sees the same and goes on with spawning, merging or
//! pushing as those would be done by hand.

use super::lease;
use super::merge::find_open as find_open_merge;
use super::outgoing::{Guard, Held};
use super::team::{Course, Stage, stage};
use super::{Error, branch, merge};
use crate::config::Team;
use crate::git::{PushAnswer, PushSpec};
use crate::model::{
    Agent, Choice, Decision, DecisionKind, DecisionStatus, Id, Merge, MergeStatus, ObjectId, Outcome,
    Pipeline, PipelineStatus, StepStatus, Task, TaskStatus,
};
use crate::process::FileLock;
use crate::store::{Store, Transaction};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::time::Duration;

/// Go on with what is done, leave the rest.
pub const GO_ON: &str = "go-on";
/// Let the agents that failed go on.
pub const RETRY: &str = "retry";
/// Give the pipeline up.
pub const CANCEL: &str = "cancel";

/// Where a task of a pipeline stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It is closed, or its agent's work has landed.
    Landed,
    /// No agent has it yet, and one could begin.
    Wanted,
    /// It waits for other tasks.
    Blocked,
    /// Somebody has it who is no agent of this machine.
    Elsewhere(String),
    /// Its agent is at work.
    Working(Agent),
    /// Its agent asked what nobody has answered.
    Asking(Agent),
    /// Its agent was cut short, or was answered since, and can go on.
    CutShort(Agent),
    /// Its agent did not end well.
    Failed(Agent),
    /// Its agent is done, and its work has not landed.
    Ready(Agent),
    /// Nothing more is done with it here.
    Settled(Agent),
}

impl Standing {
    /// The word that listings show.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Landed => "landed",
            Self::Wanted => "not begun",
            Self::Blocked => "waits for others",
            Self::Elsewhere(_) => "taken",
            Self::Working(_) => "running",
            Self::Asking(_) => "waits for an answer",
            Self::CutShort(_) => "cut short",
            Self::Failed(_) => "failed",
            Self::Ready(_) => "done",
            Self::Settled(_) => "left out",
        }
    }

    /// The agent, if it has one here.
    pub const fn agent(&self) -> Option<&Agent> {
        match self {
            Self::Working(agent)
            | Self::Asking(agent)
            | Self::CutShort(agent)
            | Self::Failed(agent)
            | Self::Ready(agent)
            | Self::Settled(agent) => Some(agent),
            Self::Landed | Self::Wanted | Self::Blocked | Self::Elsewhere(_) => None,
        }
    }
}

/// Where every task of a pipeline stands, in its order. `teams` are those that work on tasks, by task.
pub fn look(
    store: &Store,
    pipeline: &Pipeline,
    teams: &BTreeMap<Id, Team>,
) -> Result<Vec<(Task, Standing)>, Error> {
    let (state, machine) = (store.state()?, store.machine()?);
    let agents: Vec<Agent> = state.all()?;
    let decisions: Vec<Decision> = state.all()?;
    let all: Vec<Task> = state.all()?;
    let before = state.archived_before(&all)?;
    let status: HashMap<Id, TaskStatus> =
        all.iter().chain(&before).map(|task| (task.id, task.status)).collect();
    let mut found = Vec::new();
    for id in &pipeline.tasks {
        let Some(task) = state.get::<Task>(id)? else { continue };
        let mut mine: Vec<&Agent> =
            agents.iter().filter(|agent| agent.task == Some(*id) && agent.removed.is_none()).collect();
        mine.sort_by_key(|agent| std::cmp::Reverse((agent.created, agent.id)));
        let here = |agent: &&&Agent| {
            // Of an agent of another machine only a branch that arrived with its end counts.
            if !agent.is_of(&machine) {
                let is_over =
                    agent.last_run().is_some_and(|(_, run)| run.outcome == Some(Outcome::Succeeded));
                return is_over && branch::work_here(store, agent).is_ok_and(|tip| tip.is_some());
            }
            agent.last_run().is_none_or(|(_, run)| run.outcome.is_none())
                || lease::find_live(store.repo(), &agent.id).is_some()
                || store.repo().find_ref(&agent.branch).is_ok_and(|tip| tip.is_some())
        };
        let standing = if task.status == TaskStatus::Closed {
            Standing::Landed
        } else if let Some(team) = teams.get(id) {
            of_team(&Course::read(store, team, id)?, pipeline)
        } else if let Some(agent) = mine.iter().find(here) {
            of_agent(store, agent, &decisions, pipeline)
        } else if let Some(holder) = task.assignee {
            let name = agents.iter().find(|agent| agent.id == holder).map(|agent| agent.name.to_string());
            Standing::Elsewhere(name.unwrap_or_else(|| holder.to_string()))
        } else if task.is_ready(|id| status.get(id).copied()) {
            Standing::Wanted
        } else {
            Standing::Blocked
        };
        found.push((task, standing));
    }
    Ok(found)
}

fn of_agent(store: &Store, agent: &Agent, decisions: &[Decision], pipeline: &Pipeline) -> Standing {
    let agent = agent.clone();
    if agent.merged.is_some() {
        return Standing::Landed;
    }
    match stage(store.repo(), &agent, decisions) {
        Stage::Running(_) => Standing::Working(agent),
        _ if pipeline.settled.contains(&agent.id) => Standing::Settled(agent),
        Stage::Done(_) => Standing::Ready(agent),
        Stage::Waiting(_) => Standing::Asking(agent),
        Stage::Halted(_) | Stage::Wanted if was_cut_short(&agent) => Standing::CutShort(agent),
        Stage::Halted(_) | Stage::Wanted => Standing::Failed(agent),
    }
}

/// Whether nothing speaks against another run: it never ran, nobody knows how it ended, Ctrl-C ended it, or what it asked
/// was answered.
fn was_cut_short(agent: &Agent) -> bool {
    match agent.last_run().map(|(_, run)| &run.outcome) {
        None | Some(None | Some(Outcome::Lost | Outcome::Succeeded)) => true,
        Some(Some(Outcome::Stopped { by, over: None })) => by == "interrupt",
        Some(Some(_)) => false,
    }
}

/// The task of a team stands where its worst step does.
fn of_team(course: &Course, pipeline: &Pipeline) -> Standing {
    let stages = || course.stages.iter().map(|(_, stage)| stage);
    let last = course.stages.last().and_then(|(_, stage)| stage.agent());
    if let Some(agent) = last.filter(|agent| agent.merged.is_some() || pipeline.settled.contains(&agent.id)) {
        return if agent.merged.is_some() { Standing::Landed } else { Standing::Settled(agent.clone()) };
    }
    if let Some(agent) = last.filter(|_| course.is_over()) {
        return Standing::Ready(agent.clone());
    }
    for stage in stages() {
        match stage {
            Stage::Running(agent) => return Standing::Working(agent.clone()),
            Stage::Waiting(agent) => return Standing::Asking(agent.clone()),
            Stage::Halted(agent) if pipeline.settled.contains(&agent.id) => {
                return Standing::Settled(agent.clone());
            }
            Stage::Halted(agent) if !was_cut_short(agent) => return Standing::Failed(agent.clone()),
            _ => {}
        }
    }
    Standing::Wanted
}

/// The pipeline that is not over, the newest one of several.
pub fn find_open(store: &Store) -> Result<Option<Pipeline>, Error> {
    let mut open: Vec<Pipeline> = store.state()?.all()?;
    open.retain(|pipeline| pipeline.status.is_open());
    open.sort_by_key(|pipeline| (pipeline.created, pipeline.id));
    Ok(open.pop())
}

/// Records a new one.
pub fn begin(store: &Store, pipeline: &Pipeline) -> Result<Pipeline, Error> {
    let change = |tx: &mut Transaction<'_>| -> Result<Pipeline, Error> {
        let pipeline = Pipeline { created: tx.now(), ..pipeline.clone() };
        tx.describe(format!("pipeline {}: begin with {} tasks", short(&pipeline.id), pipeline.tasks.len()));
        tx.put(&pipeline)?;
        Ok(pipeline)
    };
    Ok(store.transact(change)?.value)
}

/// Records a change of one that is not over.
///
/// # Errors
/// [`Error::Refused`] if it is over by now.
pub fn change(store: &Store, id: &Id, what: &str, change: impl Fn(&mut Pipeline)) -> Result<Pipeline, Error> {
    let apply = |tx: &mut Transaction<'_>| -> Result<Pipeline, Error> {
        let mut pipeline: Pipeline = tx.require(id)?;
        if !pipeline.status.is_open() {
            let words = format!("go on with pipeline {}: it is {}", short(id), pipeline.status.word());
            return Err(Error::refused(words, None));
        }
        change(&mut pipeline);
        if !pipeline.status.is_open() {
            for mut decision in tx.all::<Decision>()? {
                if is_about(&decision, id) && decision.status == DecisionStatus::Open {
                    decision.status = DecisionStatus::Withdrawn;
                    tx.put(&decision)?;
                }
            }
        }
        tx.describe(format!("pipeline {}: {what}", short(id)));
        tx.put(&pipeline)?;
        Ok(pipeline)
    };
    Ok(store.transact(apply)?.value)
}

fn short(id: &Id) -> &str {
    &id.as_str()[..6]
}

/// What keeps two processes of this clone from going on with one pipeline. Dropping it lets go.
///
/// # Errors
/// [`Error::Refused`] if another process has it.
pub fn hold(store: &Store, id: &Id) -> Result<FileLock, Error> {
    let dir = store.repo().local_dir().join("pipelines");
    let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
    made.map_err(|e| Error::file("create", &dir, e))?;
    let path = dir.join(id.as_str());
    match FileLock::attempt(&path).map_err(|e| Error::file("lock", &path, e))? {
        Some(lock) => Ok(lock),
        None => Err(Error::refused(
            format!("go on with pipeline {}: another process is at it", short(id)),
            "wait for it, or end it with Ctrl-C where it runs".to_owned(),
        )),
    }
}

/// The merge of these agents that is not over, if there is one: all its branches are theirs.
pub fn open_merge(
    store: &Store,
    target: Option<&str>,
    agents: &BTreeSet<Id>,
) -> Result<Option<Merge>, Error> {
    let open = find_open_merge(&store.state()?, target).map_err(unmerged)?;
    Ok(open.filter(|merge| merge.steps.iter().all(|step| agents.contains(&step.mends.unwrap_or(step.agent)))))
}

/// The newest merge with one of these agents that began after the pipeline.
pub fn last_merge(store: &Store, pipeline: &Pipeline, agents: &BTreeSet<Id>) -> Result<Option<Merge>, Error> {
    let mut merges: Vec<Merge> = store.state()?.all()?;
    merges.retain(|merge| {
        merge.created >= pipeline.created && merge.steps.iter().any(|step| agents.contains(&step.agent))
    });
    merges.sort_by_key(|merge| (merge.created, merge.id));
    Ok(merges.pop())
}

/// The first merge that landed the work of a pipeline: the target was there before any of it.
pub fn first_landed(store: &Store, pipeline: &Pipeline) -> Result<Option<Merge>, Error> {
    let mut merges: Vec<Merge> = store.state()?.all()?;
    merges.retain(|merge| {
        merge.status == MergeStatus::Landed
            && merge.created >= pipeline.created
            && Some(&merge.target) == pipeline.target.as_ref()
            && merge.steps.iter().any(|step| step.task.is_some_and(|task| pipeline.tasks.contains(&task)))
    });
    merges.sort_by_key(|merge| std::cmp::Reverse((merge.created, merge.id)));
    Ok(merges.pop())
}

pub(super) fn unmerged(error: merge::Error) -> Error {
    match error {
        merge::Error::Before(error) => *error,
        error => Error::refused(error.to_string(), None),
    }
}

/// How many of the agents' branches a merge has landed.
pub fn landed(merge: &Merge) -> usize {
    let counts = |status| matches!(status, StepStatus::Clean | StepStatus::Resolved);
    match merge.status {
        MergeStatus::Landed => merge.steps.iter().filter(|step| counts(step.status)).count(),
        _ => 0,
    }
}

/// Which of these agents, whose work is done, cannot be merged, each with why in a few words. What else may keep them from
/// it the merge says itself.
pub fn unmergeable(store: &Store, target: Option<&str>, agents: &[Agent]) -> BTreeMap<Id, String> {
    let request = merge::Request {
        agents: agents.iter().map(|agent| agent.id).collect(),
        target: target.map(str::to_owned),
        ..merge::Request::default()
    };
    let found = merge::select(store, &request).and_then(|selection| merge::unmergeable(store, &selection));
    found.unwrap_or_default().into_iter().collect()
}

/// Why a task whose agent this is did not land, in a few words.
///
/// # Errors
/// If the state cannot be read.
pub fn why_left_out(store: &Store, pipeline: &Pipeline, agent: &Agent) -> Result<String, Error> {
    if let Some(why) = merge::ended_badly(agent) {
        return Ok(why.to_owned());
    }
    let merge = last_merge(store, pipeline, &BTreeSet::from([agent.id]))?;
    let mut steps = merge.into_iter().flat_map(|merge| merge.steps);
    if let Some(step) = steps.find(|step| step.agent == agent.id && step.status == StepStatus::Skipped) {
        return Ok(step.reason.unwrap_or_else(|| "left out of the merge, as decided".to_owned()));
    }
    if let Some(why) =
        unmergeable(store, pipeline.target.as_deref(), std::slice::from_ref(agent)).remove(&agent.id)
    {
        return Ok(why);
    }
    let changed = branch::work_here(store, agent)?.is_some_and(|tip| tip != agent.base);
    Ok(if changed { "given up" } else { "it changed nothing" }.to_owned())
}

/// The question what becomes of agents that did not end well, or whose branches cannot be merged (`stuck`, with why): the
/// one that is open or answered, or a new one.
///
/// # Errors
/// If the state cannot be read or written.
pub fn ask(
    store: &Store,
    pipeline: &Pipeline,
    failed: &[Agent],
    stuck: &BTreeMap<Id, String>,
    ready: usize,
) -> Result<Decision, Error> {
    let runs: Vec<String> = failed.iter().map(|agent| format!("{}:{}", agent.id, agent.runs.len())).collect();
    let subject = format!("pipeline/{}/{}", pipeline.id, runs.join(","));
    let asked = store.state()?.all::<Decision>()?.into_iter();
    let mut asked: Vec<Decision> =
        asked.filter(|one| one.subject == subject && one.status != DecisionStatus::Withdrawn).collect();
    if let Some(known) = asked.pop() {
        return Ok(known);
    }
    let names: Vec<&str> = failed.iter().map(|agent| agent.name.as_str()).collect();
    let names = names.join(", ");
    let mut choices = Vec::new();
    let mut add = |key: &str, label: String| choices.push(Choice { key: key.to_owned(), label });
    if ready > 0 {
        add(GO_ON, format!("go on with the {ready} that are done, and leave {names}"));
    } else {
        add(GO_ON, format!("go on without {names}"));
    }
    add(RETRY, format!("let {names} try again"));
    add(CANCEL, "give the pipeline up; what landed stays".to_owned());
    let (unfit, bad): (Vec<&Agent>, Vec<&Agent>) =
        failed.iter().partition(|agent| stuck.contains_key(&agent.id));
    let mut detail = String::new();
    let mut title = Vec::new();
    let list =
        |agents: &[&Agent]| agents.iter().map(|agent| agent.name.as_str()).collect::<Vec<_>>().join(", ");
    if !bad.is_empty() {
        detail.push_str("These agents did not end well:\n\n");
        title.push(format!("{} did not end well", list(&bad)));
    }
    for agent in &bad {
        let outcome = agent.last_run().and_then(|(_, run)| run.outcome.clone());
        let how = match outcome {
            Some(Outcome::Failed { reason }) => reason,
            Some(outcome) => outcome.word().to_owned(),
            None => "not started".to_owned(),
        };
        let _ = writeln!(detail, "- `{}`: {how}", agent.name);
    }
    if !unfit.is_empty() {
        let gap = if detail.is_empty() { "" } else { "\n" };
        let _ = write!(detail, "{gap}These are done, and what they did cannot be merged:\n\n");
        title.push(format!("{} cannot be merged", list(&unfit)));
    }
    for agent in &unfit {
        let _ = writeln!(detail, "- `{}`: {}", agent.name, stuck[&agent.id]);
    }
    let decision = Decision {
        detail,
        choices,
        subject,
        ..Decision::open(store.new_id()?, DecisionKind::Pipeline, title.join(", "), store.clock().now())
    };
    let put = |tx: &mut Transaction<'_>| -> Result<(), Error> {
        tx.describe(format!("pipeline {}: wait for a decision", short(&pipeline.id)));
        let waiting = Pipeline { status: PipelineStatus::Waiting, ..tx.require::<Pipeline>(&pipeline.id)? };
        tx.put(&waiting)?;
        tx.put(&decision)?;
        Ok(())
    };
    store.transact(put)?;
    Ok(decision)
}

/// Whether a decision asks about a pipeline.
pub fn is_about(decision: &Decision, pipeline: &Id) -> bool {
    decision.kind == DecisionKind::Pipeline && decision.subject.split('/').nth(1) == Some(pipeline.as_str())
}

/// An answer that was followed is over: should the same happen again, it is asked again.
pub fn withdraw(store: &Store, decision: &Id) -> Result<(), Error> {
    let change = |tx: &mut Transaction<'_>| -> Result<(), Error> {
        let mut decision: Decision = tx.require(decision)?;
        decision.status = DecisionStatus::Withdrawn;
        tx.describe(format!("decision {}: followed", short(&decision.id)));
        tx.put(&decision)?;
        Ok(())
    };
    store.transact(change)?;
    Ok(())
}

/// Sends a remote the branch that work landed on, only forward. Returns the commit.
///
/// # Errors
/// [`Error::Refused`] if it does not take it.
pub fn push(
    store: &Store,
    remote: &str,
    target: &str,
    from: Option<&ObjectId>,
    guard: &Guard,
    deadline: Duration,
) -> Result<ObjectId, Error> {
    let repo = store.repo();
    let name = merge::short_branch(target);
    let tip = repo.find_ref(target)?;
    let tip = tip.ok_or_else(|| Error::refused(format!("push {name}: there is no such branch"), None))?;
    if let Some(held) = guard.hold(repo, target, &tip, remote, from.map_or(&[], std::slice::from_ref)) {
        let what = format!("push {name} to {remote}: {}", held.words());
        return Err(Error::refused(what, Held::HINT.to_owned()));
    }
    let spec = PushSpec { new: tip.clone(), remote: target.to_owned(), seen: None };
    let refused = |why: &str, hint: &str| {
        Err(Error::refused(format!("push {name} to {remote}: {why}"), hint.to_owned()))
    };
    match repo.push(remote, &[spec], deadline)?.pop() {
        Some(PushAnswer::Landed | PushAnswer::Same) => Ok(tip),
        Some(PushAnswer::Behind) => refused(
            "it has commits that are not here",
            "fetch and merge them, then `git orchestra run --continue` pushes again",
        ),
        Some(PushAnswer::Refused(why) | PushAnswer::Unknown(why)) => {
            refused(&why, "`git orchestra run --continue` tries again")
        }
        None => refused("it did not answer", "`git orchestra run --continue` tries again"),
    }
}

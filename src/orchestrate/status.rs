//! How agents stand: the state, live leases, branches and journals put together. Reads only.
//!
//! No git process is started for an agent that does not run: where branches stand is kept in a cache keyed by the
//! two commits, which can never be wrong about them.

mod activity;
mod position;

pub use super::evidence::{Evidence, Tool, Waits};
pub use activity::Activity;
pub(super) use activity::span;
pub use position::Position;

use super::lease::{self, LeaseInfo, LeaseState};
use super::{Error, branch, heartbeat, merge, trust};
use crate::git::Repository;
use crate::model::{
    Agent, ContextUse, Decision, DecisionStatus, Id, Merge, ObjectId, Outcome, Timestamp, Usage,
};
use crate::process::Identity;
use crate::store::{State, Store};
use position::positions;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

/// How long what a process left may take to be saved after it is gone.
const SAVING: Duration = Duration::from_secs(60);
/// After how much silence something is wrong.
pub(super) const PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The worktrees of so many agents whose last run was cut off are looked at, of those that ran last: each look is a
/// process.
pub const LOOKED_AT: usize = 20;
/// Among how many of them, the newest first, those are sought whose worktree is there.
const SOUGHT: usize = 100;

/// How one agent stands.
#[derive(Debug, Clone)]
pub struct AgentStatus {
    /// The record.
    pub agent: Agent,
    /// What it does.
    pub activity: Activity,
    /// Its branch's tip; `None` if the branch is gone.
    pub tip: Option<ObjectId>,
    /// Where its branch stands beside its target; `None` if one of them is gone.
    pub position: Option<Position>,
    /// Whether its target once contained what was merged of it, and does not any more.
    pub gone: bool,
    /// Paths in its worktree that are not committed; `None` if nobody looked: it is looked for while it runs, and for
    /// some of those whose last run was cut off ([`LOOKED_AT`]).
    pub uncommitted: Option<u32>,
    /// Its process, if it has one as far as is known.
    pub pid: Option<u32>,
    /// What all its runs consumed; of a live one as far as its journal says.
    pub usage: Usage,
    /// How full the window of its model is, or was at the end of its last run.
    pub context: Option<ContextUse>,
    /// When something was last heard of it.
    pub last_event: Timestamp,
}

impl AgentStatus {
    /// What shows what it does, in a few words.
    pub fn evidence(&self, now: Timestamp) -> String {
        self.with_gone(self.activity.evidence(now))
    }

    /// The same in less room.
    pub fn brief(&self, now: Timestamp) -> String {
        self.with_gone(self.activity.brief(now))
    }

    /// Whether any run of it got as far as its worktree, as far as is known.
    pub fn has_begun(&self) -> bool {
        match &self.activity {
            Activity::New => false,
            Activity::Queued | Activity::Running { pid: None, .. } => self.agent.runs.len() > 1,
            _ => true,
        }
    }

    fn with_gone(&self, evidence: String) -> String {
        let target = self.agent.target.as_deref().map_or("its target", merge::short_branch);
        if self.gone { format!("{evidence}, and gone from {target}") } else { evidence }
    }
}

/// Every agent and how it stands, live ones first; removed ones only if they are wanted.
pub fn agents(store: &Store, state: &State, removed: bool) -> Result<Vec<AgentStatus>, Error> {
    let repo = store.repo();
    let mut agents = state.all::<Agent>()?;
    agents.retain(|agent| removed || agent.removed.is_none());
    // Here, where they are smaller; live ones are put first below.
    agents.sort_by_cached_key(|agent| (agent.created, agent.name.clone()));
    let leases: HashMap<Id, LeaseInfo> =
        lease::live(repo).into_iter().map(|info| (info.agent, info)).collect();
    let branches: HashMap<String, ObjectId> = repo.list_refs(Agent::BRANCHES)?.into_iter().collect();
    let machine = store.machine()?;
    let mut tips: HashMap<Id, ObjectId> = HashMap::new();
    for agent in &agents {
        if let Some(tip) = branches.get(&agent.branch)
            && branch::is_work_of(repo, &machine, agent, tip)?
        {
            tips.insert(agent.id, tip.clone());
        }
    }
    let mut targets: BTreeMap<String, Option<ObjectId>> = BTreeMap::new();
    for target in agents.iter().filter_map(|agent| agent.target.as_ref()) {
        if !targets.contains_key(target) {
            targets.insert(target.clone(), repo.find_ref(target)?);
        }
    }
    let pair = |agent: &Agent| -> Option<(ObjectId, ObjectId)> {
        let target = targets.get(agent.target.as_ref()?)?.as_ref()?;
        Some((tips.get(&agent.id)?.clone(), target.clone()))
    };
    let landed: HashMap<Id, (ObjectId, ObjectId)> = agents
        .iter()
        .filter_map(|agent| {
            let merged = agent.merged.as_ref().filter(|merged| repo.has_object(merged))?;
            Some((agent.id, (merged.clone(), targets.get(agent.target.as_ref()?)?.clone()?)))
        })
        .collect();
    let positions =
        positions(repo, &agents.iter().filter_map(&pair).chain(landed.values().cloned()).collect());
    let uncommitted = uncommitted(repo, &agents, &leases, &machine);
    let now = store.clock().now();
    let mut all: Vec<AgentStatus> = agents
        .into_iter()
        .map(|agent| {
            let lease = leases.get(&agent.id);
            let evidence = lease.map(|lease| seen(repo, lease)).unwrap_or_default();
            let activity = activity(store, &agent, lease, asking(state, lease)?, &evidence, now)?;
            let position = pair(&agent).and_then(|pair| positions.get(&pair)).copied();
            let (usage, last_event) =
                if activity.is_live() { live(&agent, &evidence) } else { recorded(&agent) };
            Ok(AgentStatus {
                tip: tips.get(&agent.id).cloned(),
                gone: matches!(activity, Activity::Merged(_))
                    && landed
                        .get(&agent.id)
                        .and_then(|pair| positions.get(pair))
                        .is_some_and(|at| at.ahead > 0)
                    && is_gone(store, state, &agent),
                pid: pid(lease, &activity),
                position,
                uncommitted: uncommitted.get(&agent.id).copied(),
                usage,
                context: if activity.is_live() {
                    evidence.context
                } else {
                    agent.last_run().and_then(|(_, run)| run.context)
                },
                last_event,
                activity,
                agent,
            })
        })
        .collect::<Result<_, Error>>()?;
    all.sort_by_key(|status| !status.activity.is_live());
    Ok(all)
}

/// Whether the merge that landed an agent's work last is gone from its target. One that cannot be looked at is not said
/// to be.
fn is_gone(store: &Store, state: &State, agent: &Agent) -> bool {
    let look = || -> Result<bool, merge::Error> {
        let mut merges: Vec<Merge> = state.all()?;
        merges.retain(|merge| merge.landed.is_some() && merge.landed == agent.merged);
        for merge in &merges {
            if merge::gone(store, state, merge)?.is_some() {
                return Ok(true);
            }
        }
        Ok(false)
    };
    look().unwrap_or_else(|error| {
        tracing::warn!("{error}");
        false
    })
}

/// What one agent does. Looks at its lease before anything else, so that what `agent` was read from may be older.
pub fn activity_of(store: &Store, agent: &Agent) -> Result<Activity, Error> {
    let lease = lease::find_live(store.repo(), &agent.id);
    let state = store.state()?;
    let agent = state.get::<Agent>(&agent.id)?.unwrap_or_else(|| agent.clone());
    let lease = lease.as_ref();
    let evidence = lease.map(|lease| seen(store.repo(), lease)).unwrap_or_default();
    activity(store, &agent, lease, asking(&state, lease)?, &evidence, store.clock().now())
}

/// The decision that a live run waits for. Who says so is whoever watches it: an open decision may be about its branch,
/// or one that it was refused for now and works on without.
fn asking(state: &State, lease: Option<&LeaseInfo>) -> Result<Option<Id>, Error> {
    for decision in lease.iter().flat_map(|lease| &lease.questions).flatten() {
        // One that is answered is told in a moment.
        if state.get::<Decision>(decision)?.is_some_and(|asked| asked.status == DecisionStatus::Open) {
            return Ok(Some(*decision));
        }
    }
    Ok(None)
}

/// What the journal of a live run shows, but for questions that it does not wait with any more.
fn seen(repo: &Repository, lease: &LeaseInfo) -> Evidence {
    let mut evidence = Evidence::read(repo, &lease.agent, lease.run);
    if !lease.questions.contains(&None) {
        evidence.answered(lease.answered);
    }
    evidence
}

fn activity(
    store: &Store,
    agent: &Agent,
    lease: Option<&LeaseInfo>,
    asking: Option<Id>,
    evidence: &Evidence,
    now: Timestamp,
) -> Result<Activity, Error> {
    match (lease, asking) {
        // One that waits before it begins has said so in its journal.
        (Some(lease), _) if lease.state != LeaseState::Running && is_parked(evidence, now) => {
            return Ok(evidence.waits(now).map_or(Activity::Queued, Activity::Waiting));
        }
        (Some(lease), _) if lease.state == LeaseState::Queued => return Ok(Activity::Queued),
        (Some(lease), _) if lease.state == LeaseState::Preparing => {
            let tool =
                Tool { name: "setup".to_owned(), summary: "of its worktree".to_owned(), since: lease.since };
            return Ok(Activity::Running { pid: None, tool: Some(tool) });
        }
        (Some(_), Some(decision)) => return Ok(Activity::Asking(decision)),
        (Some(lease), None) => {
            return Ok(running(&agent.program, lease.since, lease.child.as_ref(), evidence, now));
        }
        (None, _) => {}
    }
    if agent.removed.is_some() {
        return Ok(Activity::Removed);
    }
    Ok(match (&agent.merged, agent.last_run()) {
        (_, None) => Activity::New,
        (merged, Some((_, run))) => match (&run.outcome, merged) {
            (None, _) => unwatched(store, agent)?,
            (Some(_), Some(commit)) => Activity::Merged(commit.clone()),
            (Some(outcome), None) => Activity::Ended(outcome.clone()),
        },
    })
}

/// What can be said of a run that is not over and that nobody watches here. Only of one of this machine that is that
/// nobody watches it at all.
fn unwatched(store: &Store, agent: &Agent) -> Result<Activity, Error> {
    let pid = lease::find_left(store.repo(), &agent.id);
    let machine = if pid.is_none() { store.find_elsewhere(agent)? } else { None };
    Ok(match machine {
        Some(machine) => {
            Activity::Elsewhere { machine: machine.to_owned(), heard: heartbeat::heard(store, machine) }
        }
        None => Activity::Unwatched { pid },
    })
}

/// The process of an agent: that of its lease, or one that nobody watches any more.
fn pid(lease: Option<&LeaseInfo>, activity: &Activity) -> Option<u32> {
    match activity {
        Activity::Unwatched { pid } => *pid,
        Activity::Unknown { pid } => Some(*pid),
        Activity::Waiting(Waits::Parked { .. }) => None,
        _ => lease.filter(|lease| lease.state == LeaseState::Running)?.child.as_ref().map(|child| child.pid),
    }
}

/// Whether it waits for the limit of its model to pass.
fn is_parked(evidence: &Evidence, now: Timestamp) -> bool {
    matches!(evidence.waits(now), Some(Waits::Parked { .. }))
}

/// What a run of `program` does that was started (`since`, with its process) and asks nothing.
pub fn running(
    program: &str,
    since: Timestamp,
    child: Option<&Identity>,
    evidence: &Evidence,
    now: Timestamp,
) -> Activity {
    let heard = evidence.last.map_or(since, |last| last.max(since));
    let silent = now.since(heard);
    // It has no process then, or needs none.
    if let Some(waits @ (Waits::Parked { .. } | Waits::Interrupted)) = evidence.waits(now) {
        return Activity::Waiting(waits);
    }
    if let Some(child) = child.filter(|child| silent > SAVING && !child.is_alive()) {
        return Activity::Unknown { pid: child.pid };
    }
    if let Some(waits) = evidence.waits(now) {
        return Activity::Waiting(waits);
    }
    // Of a program that tells nothing but its output, silence says nothing.
    if evidence.tool().is_none() && silent > PATIENCE && program != "command" {
        return Activity::Stuck { since: heard };
    }
    Activity::Running { pid: child.map(|child| child.pid), tool: evidence.tool().cloned() }
}

/// What the state recorded.
fn recorded(agent: &Agent) -> (Usage, Timestamp) {
    let last = agent.last_run().map(|(_, run)| run.ended.unwrap_or(run.started));
    (agent.usage(), last.unwrap_or(agent.created))
}

/// What the journal of a run that is not over says, added to what the runs before it consumed.
fn live(agent: &Agent, evidence: &Evidence) -> (Usage, Timestamp) {
    let (mut usage, last) = recorded(agent);
    if let Some(reported) = evidence.usage {
        usage += reported;
    }
    (usage, evidence.last.map_or(last, |heard| heard.max(last)))
}

/// Uncommitted paths of live agents, and of those of this machine whose last run was cut off. One that cannot be looked
/// at is left out: if it is at work, the next look may do.
fn uncommitted(
    repo: &Repository,
    agents: &[Agent],
    leases: &HashMap<Id, LeaseInfo>,
    machine: &str,
) -> HashMap<Id, u32> {
    if trust::require_unchanged(repo).is_err() {
        return HashMap::new();
    }
    let (mut looked_at, rest): (Vec<&Agent>, Vec<&Agent>) =
        agents.iter().partition(|agent| leases.contains_key(&agent.id));
    let mut cut_off: Vec<&Agent> = rest
        .into_iter()
        .filter(|agent| was_cut_off(agent) && agent.is_of(machine) && agent.has_own_branch())
        .collect();
    cut_off.sort_by_key(|agent| std::cmp::Reverse(recorded(agent).1));
    let there = |agent: &&Agent| {
        let worktree = repo.find_worktree(agent.name.as_str()).ok().flatten();
        worktree.is_some_and(|worktree| worktree.is_intact())
    };
    // The newest alone, so that many old ones cost nothing.
    looked_at.extend(cut_off.into_iter().take(SOUGHT).filter(there).take(LOOKED_AT));
    let counts = super::uncommitted::uncommitted(repo, &looked_at).into_iter();
    counts.filter_map(|(id, count)| Some((id, u32::try_from(count.ok()?).unwrap_or(u32::MAX)))).collect()
}

/// Whether its last run did not end well, so that there may be work of it which is in no commit.
fn was_cut_off(agent: &Agent) -> bool {
    let ended_well = agent.last_run().is_none_or(|(_, run)| matches!(run.outcome, Some(Outcome::Succeeded)));
    !ended_well && agent.removed.is_none() && agent.merged.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::NewWorktree;
    use crate::git::testing::Sandbox;
    use crate::model::{Event, EventKind};
    use crate::process::{Clock, ManualClock};
    use crate::store::journal::{self, EntryRef};
    use std::sync::Arc;

    #[test]
    fn silence_and_a_process_that_is_gone_are_told_from_lease_and_journal() {
        let sandbox = Sandbox::new(&[]);
        let clock = Arc::new(ManualClock::new(Timestamp(1_000_000)));
        let author = sandbox.open().identity();
        let store = Store::open(sandbox.open(), clock.clone(), author);
        let mut agent = crate::orchestrate::testing_agent("heron");
        agent.program = "claude".to_owned();
        agent.runs.insert(1, Box::new(crate::model::Run { started: clock.now(), ..Default::default() }));
        store.transact(|tx| tx.put(&agent)).unwrap();
        let info = LeaseInfo::queued(agent.id, agent.name.clone(), 1, clock.now());
        let mut lease = lease::Lease::take(store.repo(), info).unwrap().unwrap();
        lease.started(Some(Identity::own()), clock.now()).unwrap();
        let mut journal = journal::Writer::create(store.repo(), &agent.id, 1).unwrap();
        let mut say = |kind: EventKind| {
            let event = Event { at: clock.now(), parent: None, kind };
            journal.append(EntryRef::Event(&event)).unwrap();
            journal.flush().unwrap();
        };
        // The same of one and of all.
        let seen = || {
            let one = activity_of(&store, &agent).unwrap();
            assert_eq!(agents(&store, &store.state().unwrap(), false).unwrap()[0].activity, one);
            one
        };
        say(EventKind::Text { text: "on".to_owned(), partial: false });
        assert!(matches!(seen(), Activity::Running { pid: Some(_), tool: None }));
        clock.advance(10 * 60_000 + 1);
        assert_eq!(seen(), Activity::Stuck { since: Timestamp(1_000_000) });
        let (call, tool) = ("a".to_owned(), "Bash".to_owned());
        say(EventKind::ToolCall { call, tool, summary: "cargo test".to_owned(), target: None });
        clock.advance(60 * 60_000);
        assert!(matches!(seen(), Activity::Running { tool: Some(_), .. }), "a tool may take its time");
        let gone = Identity { started: Identity::own().started + 1, ..Identity::own() };
        lease.started(Some(gone), clock.now()).unwrap();
        assert!(matches!(seen(), Activity::Running { .. }), "what it left is being saved");
        clock.advance(60_001);
        assert_eq!(seen(), Activity::Unknown { pid: std::process::id() });
        // A program that tells nothing but its output may be silent.
        lease.started(Some(Identity::own()), Timestamp(1)).unwrap();
        agent.program = "command".to_owned();
        store.transact(|tx| tx.put(&agent)).unwrap();
        clock.advance(60 * 60_000);
        assert!(matches!(activity_of(&store, &agent).unwrap(), Activity::Running { .. }));
        lease.release().unwrap();
        assert_eq!(activity_of(&store, &agent).unwrap(), Activity::Unwatched { pid: None });
    }
    #[test]
    fn of_many_agents_that_were_cut_off_only_the_newest_worktrees_are_looked_at() {
        let sandbox = Sandbox::new(&[]);
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "start"]);
        let lost = |number: usize| {
            let mut agent = crate::orchestrate::testing_agent(&format!("a{number}"));
            let (started, outcome) = (Timestamp(number as u64), Some(Outcome::Lost));
            agent.runs.insert(1, Box::new(crate::model::Run { started, outcome, ..Default::default() }));
            agent
        };
        let with_worktree = |agents: &[Agent]| {
            let (root, base) = (sandbox.dir.path().join("worktrees"), sandbox.git(&["rev-parse", "HEAD"]));
            for Agent { name, branch, .. } in agents {
                let (root, base) = (&root, &base.parse().unwrap());
                let new = NewWorktree { name, root, branch, base, sparse: &[] };
                let made = sandbox.open().add_worktree(&new).unwrap();
                std::fs::write(made.path.join("new"), "").unwrap();
            }
        };
        let old: Vec<Agent> = (1..=LOOKED_AT + 2).map(lost).collect();
        with_worktree(&old);
        let none = HashMap::new();
        let counted = |agents: &[Agent]| uncommitted(&sandbox.open(), agents, &none, "here");
        let counts = counted(&old);
        assert_eq!(counts.len(), LOOKED_AT);
        assert!(old[2..].iter().all(|agent| counts.get(&agent.id) == Some(&1)), "of the newest: {counts:?}");
        // Newer ones without a worktree: beyond so many nobody seeks.
        let newer: Vec<Agent> = (200..200 + SOUGHT - 1).map(lost).collect();
        let counts = counted(&[old.clone(), newer.clone()].concat());
        assert_eq!(counts.keys().collect::<Vec<_>>(), [&old[LOOKED_AT + 1].id]);
        let newest = lost(1_000);
        assert!(counted(&[old, newer, vec![newest]].concat()).is_empty());
    }
}

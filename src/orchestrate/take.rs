//! Taking an agent over from another machine: its claim, its branch, what it had not committed, its transcript.
//!
//! The conversation goes on where it travelled and its program allows that; otherwise another one begins with a written
//! handoff. Nothing is taken from a machine that is heard of, unless somebody says so who was told what may be lost.

use super::claim::{Claimed, Queue, Terms, View};
use super::remove::is_name_of_another;
use super::session::{Claim, Outfit, Surroundings, worktree};
use super::spawn::{claim_with, findings_for, take_lease};
use super::supervise::chain;
use super::{Error, environment, said, title, trust};
use crate::agent::conversation::Conversation;
use crate::agent::handoff::{Handoff, handoff, moved};
use crate::git::{Expected, RefEdit};
use crate::model::{Agent, Event, Finding, FindingStatus, Id, ObjectId, Run, Task, TaskStatus};
use crate::store::journal::{self, Entry};
use crate::store::{LOG_REFS, SAID_REFS, SNAPSHOT_REFS, Store};
use std::collections::BTreeMap;
use std::time::Duration;

/// How an agent is taken.
#[derive(Debug, Clone, Default)]
pub struct TakeOptions {
    /// Whether to take it from a machine that may still work on it.
    pub force: bool,
    /// What is said to it beside the handoff.
    pub extra: Option<String>,
    /// After which silence of this machine others may take it over from here.
    pub ttl: Option<Duration>,
}

/// An agent that was taken, and what came with it.
#[derive(Debug)]
pub struct Taken {
    /// The agent with its next run, for [`super::run_claims`].
    pub claim: Claim,
    /// Where it was.
    pub from: String,
    /// Whether work came along that it had not committed: it is the last commit of its branch.
    pub uncommitted: bool,
    /// Whether anything that it made came along; otherwise it begins from where it was made.
    pub work: bool,
    /// How many events of its transcript came along.
    pub events: usize,
    /// Whether its conversation goes on; or why another one begins, with a handoff.
    pub conversation: Result<(), String>,
    /// The fence of its task's claim; 0 if it has none.
    pub fence: u64,
}

/// Takes an agent over: claims its task, brings its work here, and makes its next run.
///
/// # Errors
/// If it is this machine's own, if its machine may still work on it (and `force` is not given), or if its work cannot
/// be had. Nothing was changed here then; its task may be claimed by this machine.
pub fn take(
    queue: &Queue,
    id: &Id,
    options: &TakeOptions,
    outfit: &Outfit,
    surroundings: &Surroundings,
) -> Result<Taken, Error> {
    let store = queue.store();
    trust::require_unchanged(store.repo())?;
    if queue.remote().is_none() {
        return Err(Error::refused("take an agent: it comes from a remote, and there is none", None));
    }
    let view = queue.look()?;
    let here = store.machine()?;
    let agent: Agent = store.state()?.require(id)?;
    let refused =
        |why: &str, hint: Option<String>| Error::refused(format!("take {}: {why}", agent.name), hint);
    if agent.machine == here {
        let hint = format!("`git orchestra resume {}` goes on with it", agent.name);
        return Err(refused("it is of this machine", Some(hint)));
    }
    if agent.removed.is_some() {
        return Err(refused("it was removed", Some("spawn another one for its task".to_owned())));
    }
    if !agent.has_own_branch() || is_name_of_another(store, &agent)? {
        return Err(refused("its name or branch is that of another agent here", None));
    }
    if !options.force {
        require_free(queue, &view, &agent)?;
    }
    // Held before the claim is: a worker that begins here meanwhile must not think it a dead one's.
    let outfit = &outfit.as_strict_as(&agent);
    let number = agent.last_run().map_or(1, |(last, _)| last + 1);
    let lease = take_lease(store, &agent, number)?;
    let (started, work, said) = match come(queue, &view, &agent, options, outfit, number) {
        Ok(come) => come,
        Err(error) => {
            lease.give_up(&error)?;
            return Err(error);
        }
    };
    let conversation = said.conversation.and_then(|conversation| {
        let (session, run) = (started.session.as_deref().unwrap_or_default(), number);
        let env = environment(&surroundings.env, &outfit.profile, &started, run, None);
        // It took its time, and agents may be running here.
        trust::require_unchanged(store.repo()).map_err(|error| chain(&error))?;
        let (worktree, _) =
            worktree(store.repo(), surroundings, &started, &[]).map_err(|error| chain(&error))?;
        said::put(store, conversation, outfit, &env, session, &worktree.path)
    });
    let fence = match &started.task {
        Some(task) => store.state()?.get::<Task>(task)?.map_or(0, |task| task.fence),
        None => 0,
    };
    let (next, title, touching) = brief(store, &started, options, &work, &said.events)?;
    let mut claim = claim_with(store, lease, started, number, outfit, title, &touching)?;
    claim.resume = conversation.is_ok();
    claim.prompt = if claim.resume { moved(options.extra.as_deref(), work.uncommitted) } else { next };
    let events = said.events.len();
    let (uncommitted, work) = (work.uncommitted, work.arrived);
    Ok(Taken { claim, from: agent.machine, uncommitted, work, events, conversation, fence })
}

/// Claims an agent's task, brings all that there is of it here, and makes it this machine's.
fn come(
    queue: &Queue,
    view: &View,
    agent: &Agent,
    options: &TakeOptions,
    outfit: &Outfit,
    number: u32,
) -> Result<(Agent, Work, Came), Error> {
    if let Some(task) = &agent.task {
        claim_task(queue, agent, task, options)?;
    }
    let work = bring(queue, view, agent)?;
    let came = what_it_said(queue, view, agent, outfit);
    let started = move_here(queue.store(), agent, number, outfit, &work)?;
    Ok((started, work, came))
}

/// Refuses an agent whose machine may still work on it.
fn require_free(queue: &Queue, view: &View, agent: &Agent) -> Result<(), Error> {
    let lost = "--force takes it all the same: what it did since it was last heard of is lost, and so is what it still does";
    let refused = |why: String| Err(Error::refused(format!("take {}: {why}", agent.name), lost.to_owned()));
    let of = agent.task.unwrap_or(agent.id);
    if let Some(claim) = queue.read_claims(view, &[of])?.remove(&of) {
        // Its claim says who has it, whatever else is known. Ours already: a take that was cut short.
        if claim.machine == queue.store().machine()?
            || claim.over.is_some()
            || queue.is_silent(view, &of, &claim)
        {
            return Ok(());
        }
        return refused(format!("{} holds it", queue.evidence(view, &of, &claim)));
    }
    let heartbeat = queue.read_machines(view)?.remove(&agent.machine);
    let over = agent.last_run().is_none_or(|(_, run)| run.outcome.is_some());
    match heartbeat {
        Some(heartbeat) => {
            let unchanged = queue.machine_silence(&agent.machine).unwrap_or_default();
            let silent = unchanged >= Duration::from_secs(heartbeat.ttl);
            let runs = heartbeat.agents.iter().any(|one| one.id == agent.id);
            if silent || over && !runs {
                return Ok(());
            }
            let (unchanged, ttl) = (unchanged.as_secs(), heartbeat.ttl);
            refused(format!(
                "machine {} was heard of: unchanged for {unchanged} of {ttl} s by this machine's clock",
                agent.machine
            ))
        }
        None if over => Ok(()),
        None => refused(format!("its run is not over, and nothing is known of machine {}", agent.machine)),
    }
}

fn claim_task(queue: &Queue, agent: &Agent, task: &Id, options: &TakeOptions) -> Result<(), Error> {
    // Whether it may be taken was decided before; that nobody was faster, the claim decides.
    let terms = Terms { agent: Some(agent.id), ttl: options.ttl, force: true, ..Terms::default() };
    for (_, answer) in queue.claim(&[*task], &terms)? {
        let why = match answer {
            Claimed::Held { .. } | Claimed::Ours => continue,
            Claimed::Taken { by } => format!("its task is held by {by}"),
            Claimed::Unready { why } | Claimed::Refused { why } => {
                format!("its task is not to be had: {why}")
            }
        };
        return Err(Error::refused(format!("take {}: {why}", agent.name), None));
    }
    Ok(())
}

/// What came of an agent's work.
struct Work {
    tip: ObjectId,
    /// Whether the remote, or a branch here, had any of it.
    arrived: bool,
    uncommitted: bool,
}

/// Fetches an agent's branch and the snapshot of what it had not committed; the later of them counts.
fn bring(queue: &Queue, view: &View, agent: &Agent) -> Result<Work, Error> {
    let (store, remote) = (queue.store(), queue.remote().expect("it was looked for before"));
    let repo = store.repo();
    let branch =
        repo.remote_refs(&remote.name, &[agent.branch.as_str()], remote.deadline)?.remove(&agent.branch);
    let snapshot = view.snapshots.get(&agent.id).cloned();
    let snapshot_ref = remote.there(&format!("{SNAPSHOT_REFS}{}", agent.id));
    let mut wanted = Vec::new();
    wanted.extend(branch.as_ref().map(|_| agent.branch.as_str()));
    wanted.extend(snapshot.as_ref().map(|_| snapshot_ref.as_str()));
    repo.fetch_work(&remote.name, &wanted, remote.deadline)?;
    let local = repo.find_ref(&agent.branch)?;
    let arrived = branch.is_some() || snapshot.is_some() || local.is_some();
    let mut tip = agent.base.clone();
    for next in [local, branch, snapshot.clone()].into_iter().flatten() {
        repo.read_commit(&next)?;
        if repo.is_ancestor(&tip, &next)? {
            tip = next;
        } else if !repo.is_ancestor(&next, &tip)? {
            let what =
                format!("take {}: its branch here and what the remote has of it went apart", agent.name);
            let hint = format!("git log --graph {} {next}", agent.branch);
            return Err(Error::refused(what, hint));
        }
    }
    if !repo.has_object(&tip) {
        let hint = "fetch the branch that it was made from: git fetch".to_owned();
        return Err(Error::refused(
            format!("take {}: the commit that it started from is not here", agent.name),
            hint,
        ));
    }
    // A snapshot that only repeats the branch has the branch's own words.
    let uncommitted = snapshot.as_ref() == Some(&tip)
        && repo.read_commit(&tip)?.subject().starts_with("Uncommitted work of ");
    Ok(Work { tip, arrived, uncommitted })
}

/// What came of what an agent said.
struct Came {
    conversation: Result<Conversation, String>,
    /// The last that it said and did.
    events: Vec<Event>,
}

/// What an agent said and did, if its machine sends that.
fn what_it_said(queue: &Queue, view: &View, agent: &Agent, outfit: &Outfit) -> Came {
    let (store, Some(remote)) = (queue.store(), queue.remote()) else {
        return Came { conversation: Err("there is no remote".to_owned()), events: Vec::new() };
    };
    let fetch = |name: &str| {
        let fetched = store.repo().fetch_work(&remote.name, &[name], remote.deadline);
        fetched.inspect_err(|error| tracing::warn!("no transcript from {name}: {error}")).is_ok()
    };
    let logs = format!("{LOG_REFS}{}/", agent.machine);
    for name in view.logs.iter().filter(|name| name.starts_with(&logs)) {
        fetch(&remote.there(name));
    }
    let sent = view.said.get(&agent.id).filter(|_| fetch(&remote.there(&format!("{SAID_REFS}{}", agent.id))));
    let sent = sent.map(|commit| said::read(store, commit));
    let last = agent.last_run().map_or(0, |(run, _)| run);
    let mut journals = Vec::new();
    if let Ok(state) = store.state() {
        let kept = agent.runs.values().filter_map(|run| run.transcript.as_ref());
        let kept = kept.filter(|tree| store.repo().has_object(tree));
        journals.extend(kept.filter_map(|tree| state.transcript(store.repo(), tree).ok()));
    }
    // A run that nobody saw the end of is in no transcript.
    if agent.runs.get(&last).is_none_or(|run| run.transcript.is_none()) {
        journals.extend(sent.as_ref().map(|sent| sent.journal.clone()));
    }
    let entries = journals.iter().flat_map(|bytes| journal::parse(bytes).collect::<Vec<_>>());
    let events = entries.filter_map(|entry| match entry {
        Entry::Event(event) => Some(event),
        Entry::Raw { .. } => None,
    });
    Came { events: events.collect(), conversation: conversation(agent, outfit, sent, last) }
}

/// The conversation that goes on, or why none does.
fn conversation(
    agent: &Agent,
    outfit: &Outfit,
    sent: Option<said::Said>,
    last: u32,
) -> Result<Conversation, String> {
    let program = outfit.adapter.name();
    if outfit.adapter.conversation_home(&BTreeMap::from([("HOME".into(), "/".into())])).is_none() {
        return Err(format!("{program} goes on with no conversation of another machine"));
    }
    let machine = &agent.machine;
    let sent = sent.ok_or_else(|| format!("machine {machine} sent none (orchestra.transcripts)"))?;
    let conversation = sent.conversation.ok_or_else(|| format!("machine {machine} could send none"))?;
    if conversation.run < last {
        return Err(format!("what machine {machine} sent of it is older than its last run"));
    }
    Ok(conversation)
}

/// Makes the agent this machine's: its branch, its record, a conversation's id of its own, and its next run.
fn move_here(
    store: &Store,
    agent: &Agent,
    number: u32,
    outfit: &Outfit,
    work: &Work,
) -> Result<Agent, Error> {
    let (session, here) = (uuid::Uuid::new_v4().to_string(), store.machine()?);
    let old = store.repo().find_ref(&agent.branch)?;
    let committed = store.transact(|transaction| {
        let mut agent: Agent = transaction.require(&agent.id)?;
        if agent.runs.contains_key(&number) {
            return Err(Error::refused(format!("take {}: it changed meanwhile", agent.name), None));
        }
        if old.as_ref() != Some(&work.tip) {
            let expected = Expected::from(old.clone());
            transaction.move_ref(RefEdit {
                name: agent.branch.clone(),
                new: Some(work.tip.clone()),
                expected,
            });
        }
        agent.profile.clone_from(&outfit.profile.name);
        agent.program.clone_from(&outfit.profile.program);
        here.clone_into(&mut agent.machine);
        agent.taken = Some(number);
        agent.session = Some(session.clone());
        let sandbox = Some(outfit.profile.sandbox);
        agent.runs.insert(number, Run { started: transaction.now(), sandbox, ..Run::default() }.into());
        transaction.put(&agent)?;
        if let Some(task) = &agent.task
            && let Some(mut task) = transaction.get::<Task>(task)?
            && task.status != TaskStatus::Closed
        {
            task.assignee = Some(agent.id);
            task.status = TaskStatus::Started;
            task.result = None;
            transaction.put(&task)?;
        }
        transaction.describe(format!("agent: take {}", agent.name));
        Ok::<_, Error>(agent)
    })?;
    Ok(committed.value)
}

/// What the run that goes on is told if it begins anew, what its work is called, and which findings concern it.
fn brief(
    store: &Store,
    agent: &Agent,
    options: &TakeOptions,
    work: &Work,
    events: &[Event],
) -> Result<(String, String, Vec<Finding>), Error> {
    let state = store.state()?;
    let task = agent.task.map(|task| state.get::<Task>(&task)).transpose()?.flatten();
    let open: Vec<Finding> =
        state.all::<Finding>()?.into_iter().filter(|finding| finding.status == FindingStatus::Open).collect();
    let touching = findings_for(&open, task.as_ref());
    let title = title::title(store, task.as_ref(), &agent.prompt);
    let (number, _) = agent.last_run().expect("it was made just now");
    let runs: Vec<String> = agent
        .runs
        .iter()
        .filter(|(run, _)| **run != number)
        .map(|(run, one)| {
            let ended = one.outcome.as_ref().map_or("not heard of any more", |outcome| outcome.word());
            format!("run {run}, begun {}: {ended}", one.started)
        })
        .collect();
    let stat = store.repo().read([
        "diff",
        "--stat=100",
        "--no-ext-diff",
        "--no-textconv",
        agent.base.as_str(),
        work.tip.as_str(),
    ]);
    let fence = store.new_id()?.to_string();
    let prompt = handoff(&Handoff {
        prompt: &agent.prompt,
        extra: options.extra.as_deref(),
        runs: &runs,
        changes: &stat.unwrap_or_default(),
        uncommitted: work.uncommitted,
        events,
        fence: &fence,
    });
    Ok((prompt, title, touching))
}

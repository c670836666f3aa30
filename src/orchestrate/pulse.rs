//! The pulse of agents that a person started: as long as they run, the remote hears of this machine, so that their
//! claims are nobody else's; when that stops, others may take their tasks over, and whatever still runs here is ended.
//!
//! A heartbeat is one ref of the whole clone. Of the processes that watch agents here whoever holds `heartbeat.lock`
//! sends it, and nobody does while a worker of this clone is heard of.

use super::Error;
use super::claim::Queue;
use super::lease;
use super::session::Claim;
use super::supervise::{Progress, Request, chain};
use crate::model::{Id, ObjectId, Task, TaskStatus};
use crate::process::FileLock;
use crate::store::ClaimRecord;
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

/// How often it is looked at least whether anything is due.
const TICK: Duration = Duration::from_secs(2);

/// What keeps the claims of one process's agents alive.
#[derive(Debug)]
pub struct Pulse {
    queue: Queue,
    /// Agents that run, as far as is known, with their tasks, which are claimed over the remote, and the fences of these.
    runs: Vec<(Id, Id, u64)>,
    /// The tasks of all of them, also of those that are over.
    tasks: BTreeSet<Id>,
    /// Where agents are stopped.
    asks: mpsc::Sender<Request>,
    /// After how long a silence this machine has to be heard of again; by which claims that is known.
    due: Option<(Duration, Vec<(Id, ObjectId)>)>,
    /// Whether a claim of ours has to say that its agent runs.
    mute: bool,
    /// When the remote could not be told last, and what was said of it.
    failed: Option<(Instant, String)>,
}

/// A pulse that beats.
#[derive(Debug)]
pub(super) struct Beating {
    stop: Sender<()>,
    thread: JoinHandle<()>,
}

impl Pulse {
    /// What `claims` need; nothing if the task of none of them is claimed over a remote for as long as its agent runs.
    /// Asks no remote.
    ///
    /// # Errors
    /// If what this clone holds cannot be read.
    pub fn of(queue: Queue, claims: &[Claim], asks: mpsc::Sender<Request>) -> Result<Option<Self>, Error> {
        if queue.remote().is_none() {
            return Ok(None);
        }
        let held = queue.held()?;
        let mut runs = Vec::new();
        for (of, commit) in &held {
            let agents =
                claims.iter().filter(|claim| claim.agent.task == Some(*of)).map(|claim| claim.agent.id);
            let agents: Vec<Id> = agents.collect();
            if agents.is_empty() {
                continue;
            }
            if let Some(claim) = queue.store().read_claim(commit, of)?.filter(is_kept) {
                runs.extend(agents.into_iter().map(|agent| (agent, *of, claim.fence)));
            }
        }
        if runs.is_empty() {
            return Ok(None);
        }
        let tasks = runs.iter().map(|(_, task, _)| *task).collect();
        Ok(Some(Self { queue, runs, tasks, asks, due: None, mute: false, failed: None }))
    }

    pub(super) fn start(self, progress: mpsc::Sender<Progress>) -> Beating {
        let (stop, stopped) = channel();
        Beating { stop, thread: tokio::task::spawn_blocking(move || self.run(&stopped, &progress)) }
    }

    fn run(mut self, stopped: &Receiver<()>, progress: &mpsc::Sender<Progress>) {
        let path = self.queue.store().repo().local_dir().join("heartbeat.lock");
        let mut lock = None;
        loop {
            if let Err(error) = self.look(progress) {
                tracing::debug!("{}", chain(&error));
            }
            let every = self.due.as_ref().map_or(TICK, |(every, _)| *every);
            if lock.is_none() {
                lock = FileLock::attempt(&path).ok().flatten();
            }
            let waits = self.failed.as_ref().is_some_and(|(at, _)| at.elapsed() < every / 4);
            if !waits && (self.mute || lock.is_some() && self.is_due(every)) {
                self.beat(progress);
            }
            match stopped.recv_timeout((every / 4).min(TICK)) {
                Err(RecvTimeoutError::Timeout) => {}
                _ => break,
            }
        }
        drop(lock);
        self.end(progress);
    }

    /// Reads anew what this clone holds where that changed, and stops agents whose tasks are not ours any more.
    fn look(&mut self, progress: &mpsc::Sender<Progress>) -> Result<(), Error> {
        let held = self.queue.held()?;
        if self.due.as_ref().is_some_and(|(_, known)| *known == held) {
            return Ok(());
        }
        let store = self.queue.store();
        let mut live = Vec::new();
        for (agent, task, fence) in &self.runs {
            if lease::look_for(store.repo(), agent)?.is_some() {
                live.push((*agent, *task, *fence));
            }
        }
        let (mut least, mut mute) = (None, false);
        for (of, commit) in &held {
            let Some(claim) = store.read_claim(commit, of)? else { continue };
            if let Some(ttl) = claim.ttl.filter(|_| claim.over.is_none()) {
                least = Some(least.map_or(ttl, |least: u64| least.min(ttl)));
            }
            mute |= is_kept(&claim) && claim.ttl.is_none() && live.iter().any(|(_, task, _)| task == of);
        }
        let (state, here, mut ousted) = (store.state()?, store.machine()?, Vec::new());
        for (agent, task, fence) in &live {
            let gone = held.iter().all(|(of, _)| of != task);
            // A claim goes when its task is closed or given back too, and that is no reason to stop anybody.
            let found = state.get::<Task>(task)?;
            let begun = found.as_ref().is_some_and(|task| task.status == TaskStatus::Started);
            if gone && begun || found.is_some_and(|task| task.is_ousted(&here, *fence)) {
                ousted.push((*agent, *task, *fence));
                let text = "another machine took its task over; it is stopped here".to_owned();
                let _ = progress.blocking_send(Progress::Notice { agent: Some(*agent), text });
                let _ = self
                    .asks
                    .try_send(Request::Stop { agent: Some(*agent), by: "another machine".to_owned() });
            }
        }
        live.retain(|run| !ousted.contains(run));
        self.queue.keep(live.iter().map(|(_, task, _)| *task).collect());
        (self.runs, self.mute) = (live, mute);
        // A third: a worker of this clone, which says it each quarter, is always first.
        self.due = Some((Duration::from_secs(least.unwrap_or(3600)) / 3, held));
        Ok(())
    }

    /// Whether the remote's heartbeat of this machine is one that was there for that long.
    fn is_due(&self, every: Duration) -> bool {
        let Ok(machine) = self.queue.store().machine() else { return false };
        self.queue.machine_silence(&machine).is_none_or(|silent| silent >= every)
    }

    fn beat(&mut self, progress: &mpsc::Sender<Progress>) {
        let beaten = self.queue.beat(|_| Vec::new());
        for text in self.queue.take_said() {
            let _ = progress.blocking_send(Progress::Notice { agent: None, text });
        }
        match beaten {
            Ok(_) => self.failed = None,
            Err(error) => {
                let words = format!("failed to {}; trying again", chain(&error));
                if self.failed.as_ref().is_none_or(|(_, said)| *said != words) {
                    let _ = progress.blocking_send(Progress::Notice { agent: None, text: words.clone() });
                }
                self.failed = Some((Instant::now(), words));
            }
        }
    }

    /// What is over waits for a person: it is nobody else's by mere silence.
    fn end(self, progress: &mpsc::Sender<Progress>) {
        let held = self.queue.held().unwrap_or_default();
        if !held.iter().any(|(of, _)| self.tasks.contains(of)) {
            return;
        }
        self.queue.keep(BTreeSet::new());
        let remote = self.queue.remote().map(|remote| remote.name.clone()).unwrap_or_default();
        let beaten = self.queue.beat(|_| Vec::new());
        for text in self.queue.take_said() {
            let _ = progress.blocking_send(Progress::Notice { agent: None, text });
        }
        if let Err(error) = beaten {
            let text = format!(
                "{remote} was not told that the run is over, so others may take its task over: failed to {}; \
                 `git orchestra sync` tells it",
                chain(&error)
            );
            let _ = progress.blocking_send(Progress::Notice { agent: None, text });
        }
    }
}

impl Beating {
    /// Ends it, when the runs are over.
    pub(super) async fn end(self) {
        drop(self.stop);
        if let Err(error) = self.thread.await {
            tracing::warn!("the pulse broke off: {error}");
        }
    }
}

/// Whether somebody has to be heard of for a claim.
const fn is_kept(claim: &ClaimRecord) -> bool {
    claim.over.is_none() && (claim.spawned || claim.ttl.is_some())
}

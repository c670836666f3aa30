//! Who owns what runs: starts as many as may run at once, hands wishes on, and ends when everything is recorded.

use super::record::{self, Ended};
use super::room::Room;
use super::run::{self, RunContext};
use super::{Finished, Plan, Progress, Request};
use crate::agent::Redactor;
use crate::model::Id;
use crate::orchestrate::control::{Asked, Asks, Desk, Refusal, Server};
use crate::orchestrate::radar::{Radar, Sighting};
use crate::orchestrate::trust;
use crate::process::{Budget, memory_kills, sweep_strays};
use crate::store::Store;
use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until};

/// How many runs that ended are saved at once.
const SAVING: usize = 8;

/// What all runs of one session have in common.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a wish of its own, and any may go with any")]
pub struct SuperviseOptions {
    /// How many run at once, of those that have a process.
    pub jobs: usize,
    /// The bytes of memory that must be left for one to start beside others.
    pub memory_floor: u64,
    /// How long one that was asked to end may take before it is killed.
    pub grace: Duration,
    /// Whether somebody answers permission questions through [`Request::Permission`]. If not, they are recorded as
    /// decisions.
    pub interactive: bool,
    /// How long a program waits for the answer to a question that became a decision, before it is refused for now.
    pub answer_timeout: Duration,
    /// Whether an answer counts that came from elsewhere and that nobody verified.
    pub any_answer: bool,
    /// Whether agents at work are forecast against each other while they work.
    pub radar: bool,
    /// Whether this process starts nothing else, so that strays which nobody recognises may be ended at the end.
    pub sweep: bool,
}

/// Runs agents until they are done.
pub struct Supervisor {
    store: Store,
    redactor: Arc<Redactor>,
    options: SuperviseOptions,
    desk: Arc<Desk>,
    asked: mpsc::Receiver<Asked>,
    /// How many processes of the machine the kernel has ended for want of memory.
    pub(super) memory_kills: fn() -> Option<u64>,
}

impl std::fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Supervisor").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Supervisor {
    /// A supervisor that records in `store`. `redactor` takes secrets out of everything before it is written or
    /// shown.
    pub fn new(store: Store, redactor: Arc<Redactor>, options: SuperviseOptions) -> Self {
        let (desk, asked) = Desk::new();
        Self { store, redactor, options, desk, asked, memory_kills }
    }

    /// What takes secrets out of what its agents say.
    pub(in crate::orchestrate) fn redactor(&self) -> Arc<Redactor> {
        Arc::clone(&self.redactor)
    }

    /// Where others find out about its runs, and ask for things.
    pub(in crate::orchestrate) fn desk(&self) -> Arc<Desk> {
        Arc::clone(&self.desk)
    }

    /// By which this process asks its own runs for things, and hears what becomes of it.
    pub fn asks(&self) -> Asks {
        Asks::at(self.desk())
    }

    /// Begins to answer other processes. A session that cannot (a full disk, a file system without sockets) works all
    /// the same, and is stopped from its own console only.
    pub(in crate::orchestrate) fn listen(&self) -> Option<Server> {
        let opened = Server::open(self.store.repo(), self.desk());
        opened.inspect_err(|error| tracing::warn!("failed to listen for other commands: {error}")).ok()
    }

    /// What all runs of this session have in common, as many as `jobs` at once.
    fn context(&self, jobs: usize, progress: &mpsc::Sender<Progress>) -> RunContext {
        RunContext {
            seats: Arc::new(Semaphore::new(jobs)),
            asides: Arc::new(Semaphore::new(jobs)),
            freed: Arc::default(),
            repo: self.store.repo().clone(),
            clock: Arc::clone(self.store.clock()),
            store: self.store.clone(),
            redactor: Arc::clone(&self.redactor),
            progress: progress.clone(),
            budget: Budget::default(),
            grace: self.options.grace,
            interactive: self.options.interactive,
            answer_timeout: self.options.answer_timeout,
            any_answer: self.options.any_answer,
            memory_kills: self.memory_kills,
            saving: Arc::new(Semaphore::new(SAVING)),
            seen: Arc::new(Mutex::new(self.store.repo().fingerprint().ok())),
        }
    }

    /// Runs every plan that arrives, until the plans' sender is dropped and everything is over and recorded.
    ///
    /// Each run that ends is told through `progress` as [`Progress::Finished`], and returned. After a
    /// [`Request::Stop`] or [`Request::Kill`] of all, plans that were not started are given back unstarted: their
    /// agents stay as they are and can be resumed.
    pub async fn supervise(
        mut self,
        mut plans: mpsc::Receiver<Plan>,
        mut requests: mpsc::Receiver<Request>,
        progress: mpsc::Sender<Progress>,
    ) -> Vec<Finished> {
        // What cannot be written down is known for this session all the same.
        if let Err(error) = trust::remember(self.store.repo()) {
            tracing::warn!("failed to remember the configuration: {error}");
        }
        let jobs = self.options.jobs.clamp(1, Semaphore::MAX_PERMITS);
        let context = self.context(jobs, &progress);
        let (saw, mut sightings) = mpsc::unbounded_channel();
        let radar = self.options.radar.then(|| {
            // After the end nobody is to be told.
            Radar::start(&self.store, move |sighting| drop(saw.send(sighting)))
        });
        let mut room = Room::new(&context.repo, self.options.memory_floor);
        let mut floor = Floor::new(Arc::clone(&self.desk));
        let mut tasks: JoinSet<Ended> = JoinSet::new();
        let mut ended = Batch::default();
        let mut finished = Vec::new();
        let (mut more, mut listening) = (true, true);
        while more || !floor.queue.is_empty() || !tasks.is_empty() || !ended.is_empty() {
            while let Some(next) = floor.waiting() {
                // Whoever waits for one in order to go on comes first.
                let Ok(seat) = Arc::clone(&context.seats).try_acquire_owned() else { break };
                let at_work = jobs - context.seats.available_permits() - 1;
                let was_short = room.is_short;
                if let Some(text) = room.shortage(at_work) {
                    if !was_short {
                        let _ = progress.send(Progress::Notice { agent: Some(next), text }).await;
                    }
                    break;
                }
                let Some((plan, receiver)) = floor.next() else { break };
                let feed = self.desk.enter(plan.agent.id, &plan.agent.name, plan.run);
                if let Some(radar) = &radar {
                    radar.enter(&plan.agent, &plan.worktree);
                }
                tasks.spawn(run::run(plan, context.clone(), feed, receiver, seat));
            }
            floor.unwanted.drain(..).map(Ended::unstarted).for_each(|one| ended.push(one));
            // With nobody to wait for there is nothing to gain by waiting.
            ended.write_if_due(&self.store, !more && floor.queue.is_empty() && tasks.is_empty());
            let due = ended.due();
            tokio::select! {
                plan = plans.recv(), if more => match plan {
                    Some(plan) => {
                        let (agent, name) = (plan.agent.id, plan.agent.name.clone());
                        self.desk.enter(agent, &name, plan.run);
                        let _ = progress.send(Progress::Queued { agent, name }).await;
                        floor.enter(plan);
                    }
                    None => more = false,
                },
                request = requests.recv(), if listening => match request {
                    None => listening = false,
                    Some(request) => floor.take(request.into()),
                },
                Some(asked) = self.asked.recv() => floor.take(asked),
                Some(done) = tasks.join_next(), if !tasks.is_empty() => {
                    if let Ok(done) = done {
                        floor.active.remove(&done.finished.agent);
                        if let Some(radar) = &radar {
                            radar.leave(&done.finished.agent);
                        }
                        ended.push(done);
                    } else {
                        // A bug in a run's task: its lease is dead now and `recover` records it.
                        floor.active.retain(|_, sender| !sender.is_closed());
                    }
                }
                () = context.freed.notified(), if !floor.queue.is_empty() => {}
                Some(sighting) = sightings.recv() => floor.note(&sighting),
                () = due => {}
                () = tokio::time::sleep(Room::POLL), if room.is_short => {}
                recorded = ended.written() => {
                    for one in recorded {
                        let told = Progress::Finished(Box::new(one.clone()));
                        self.desk.leave(&one.agent, &told);
                        let _ = progress.send(told).await;
                        finished.push(one);
                    }
                }
            }
            if floor.stopping {
                plans.close();
            }
        }
        if let Some(radar) = radar {
            let _ = tokio::task::spawn_blocking(|| radar.end()).await;
        }
        if self.options.sweep {
            let grace = self.options.grace.min(Duration::from_secs(1));
            let _ = tokio::task::spawn_blocking(move || sweep_strays(grace)).await;
        }
        trust::forget(self.store.repo());
        finished
    }
}

/// Who runs, who waits, and who is not to run any more.
struct Floor {
    desk: Arc<Desk>,
    active: HashMap<Id, mpsc::Sender<Asked>>,
    queue: VecDeque<Plan>,
    unwanted: Vec<Plan>,
    /// Everybody whose plan has come.
    known: HashSet<Id>,
    /// Whether nobody may start any more.
    stopping: bool,
}

impl Floor {
    fn new(desk: Arc<Desk>) -> Self {
        let (active, queue, unwanted) = (HashMap::new(), VecDeque::new(), Vec::new());
        Self { desk, active, queue, unwanted, known: HashSet::new(), stopping: false }
    }

    fn enter(&mut self, plan: Plan) {
        self.known.insert(plan.agent.id);
        if self.stopping || !self.desk.is_wanted(&plan.agent.id) {
            self.unwanted.push(plan);
        } else {
            self.queue.push_back(plan);
        }
    }

    /// Who starts next.
    fn waiting(&self) -> Option<Id> {
        self.queue.front().map(|plan| plan.agent.id)
    }

    /// The next one, as started.
    fn next(&mut self) -> Option<(Plan, mpsc::Receiver<Asked>)> {
        let plan = self.queue.pop_front()?;
        let (sender, receiver) = mpsc::channel(64);
        self.active.insert(plan.agent.id, sender);
        Some((plan, receiver))
    }

    /// Tells a run what was noticed of it.
    fn note(&self, sighting: &Sighting) {
        if let Some(sender) = self.active.get(&sighting.agent) {
            let note = Request::Note { agent: sighting.agent, text: sighting.words() };
            // One that does not listen is ending.
            let _ = sender.try_send(note.into());
        }
    }

    /// Hands a wish to whom it concerns.
    fn take(&mut self, asked: Asked) {
        let Some(&agent) = asked.request.agent() else {
            self.stopping = true;
            self.unwanted.extend(self.queue.drain(..));
            for sender in self.active.values() {
                // One that is ending does not listen, and one with 64 unread wishes is being stopped anyway.
                let _ = sender.try_send(asked.request.clone().into());
            }
            return asked.answer(Ok(()));
        };
        if let Some(sender) = self.active.get(&agent) {
            if let Err(error) = sender.try_send(asked) {
                let (mpsc::error::TrySendError::Full(asked) | mpsc::error::TrySendError::Closed(asked)) =
                    error;
                asked.answer(Err(Refusal::Ending));
            }
            return;
        }
        let ends = matches!(asked.request, Request::Stop { .. } | Request::Kill { .. });
        if let Some(at) = self.queue.iter().position(|plan| plan.agent.id == agent) {
            if ends {
                self.unwanted.extend(self.queue.remove(at));
            }
        } else if self.known.contains(&agent) {
            return asked.answer(Err(Refusal::Ending));
        } else if self.desk.find(&agent).is_none() {
            return asked.answer(Err(Refusal::Unknown));
        } else if ends {
            // Its worktree is being made.
            self.desk.unwant(agent);
        }
        asked.answer(if ends { Ok(()) } else { Err(Refusal::Queued) });
    }
}

/// Runs that are over and wait for their record, which many share: each record costs its own writes to disk and its
/// own git process.
#[derive(Default)]
struct Batch {
    waiting: Vec<Ended>,
    since: Option<Instant>,
    writing: Option<JoinHandle<Vec<Finished>>>,
}

impl Batch {
    /// How long the first one waits for others.
    const PATIENCE: Duration = Duration::from_millis(100);
    /// The most that are recorded together.
    const SIZE: usize = 64;

    fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.writing.is_none()
    }

    fn push(&mut self, ended: Ended) {
        self.since.get_or_insert_with(Instant::now);
        self.waiting.push(ended);
    }

    fn write_if_due(&mut self, store: &Store, now: bool) {
        let due = now
            || self.waiting.len() >= Self::SIZE
            || self.since.is_some_and(|since| since.elapsed() >= Self::PATIENCE);
        if due && self.writing.is_none() && !self.waiting.is_empty() {
            let (store, batch) = (store.clone(), std::mem::take(&mut self.waiting));
            self.since = None;
            self.writing = Some(tokio::task::spawn_blocking(move || record::record(&store, batch)));
        }
    }

    /// Resolves when the first one has waited long enough and nothing is being written.
    fn due(&self) -> impl Future<Output = ()> + use<> {
        let at = self.since.filter(|_| self.writing.is_none()).map(|since| since + Self::PATIENCE);
        async move {
            match at {
                Some(at) => sleep_until(at).await,
                None => std::future::pending().await,
            }
        }
    }

    /// What was recorded, once it is. Safe to cancel.
    async fn written(&mut self) -> Vec<Finished> {
        let Some(writing) = &mut self.writing else { return std::future::pending().await };
        let done = writing.await.unwrap_or_default();
        self.writing = None;
        done
    }
}

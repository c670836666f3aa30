//! What a worker does between the runs: claim, start, wait, publish, be heard of.

use super::carry::Carried;
use super::publish::{Job, words};
use super::{Given, Until, Worker};
use crate::agent::Redactor;
use crate::model::{Agent, Id, Name, ObjectId, Task, TaskStatus};
use crate::orchestrate::claim::{Claimed, Terms, View, ready_tasks};
use crate::orchestrate::control::Desk;
use crate::orchestrate::hold::{self, Lookout};
use crate::orchestrate::session::{Bench, Claim, Surroundings, make};
use crate::orchestrate::supervise::{Finished, Plan, Progress, Request, chain};
use crate::orchestrate::{Error, SpawnRequest, budget, lease, spawn, sync, title};
use crate::store::Store;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// How often it is looked whether the work was stopped.
const TICK: Duration = Duration::from_millis(100);
/// The first and the longest wait for new tasks.
const IDLE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));
/// How often answers are looked for on the remote while an agent waits for one.
const ANSWERS: Duration = Duration::from_secs(5);
/// How often the remote may fail in a row before a worker that is to end by itself gives up.
const FAILURES: u32 = 3;
/// The longest name that is made out of a title.
const NAME_LEN: usize = 22;

pub(super) struct Shift {
    pub(super) worker: Worker,
    pub(super) store: Store,
    pub(super) surroundings: Surroundings,
    desk: Arc<Desk>,
    address: Option<String>,
    plans: mpsc::Sender<Plan>,
    ends: Receiver<Finished>,
    asks: mpsc::Sender<Request>,
    progress: mpsc::Sender<Progress>,
    /// What runs, by agent.
    pub(super) running: HashMap<Id, Job>,
    /// What is over and could not be published yet.
    pub(super) unpublished: Vec<(Finished, Job)>,
    /// What never started.
    unstarted: Vec<Finished>,
    /// Whether the state has something that the remote does not.
    pub(super) unsynced: bool,
    pub(super) synced: Option<Instant>,
    heard: Instant,
    /// When answers were looked for last, while an agent waits for one.
    asked_at: Option<Instant>,
    claim_at: Instant,
    /// What will probably meet.
    lookout: Lookout,
    /// Which tasks wait for which; each is said once.
    held: BTreeSet<(Id, Id)>,
    /// Why nothing is claimed, if a budget is used up; said once.
    used_up: Option<String>,
    idle: Duration,
    failures: u32,
    /// What the remote has of agents beside their branches.
    pub(super) carried: Carried,
    pub(super) redactor: Arc<Redactor>,
    /// Why the remote would not take the state, as it was said last.
    pub(super) unsent: Option<String>,
    /// The branches that the remote would not take, with their tips then.
    pub(super) stayed: BTreeMap<String, ObjectId>,
}

impl Shift {
    #[expect(clippy::too_many_arguments, reason = "the two ends of five channels")]
    pub(super) fn new(
        worker: Worker,
        surroundings: Surroundings,
        desk: Arc<Desk>,
        address: Option<String>,
        plans: mpsc::Sender<Plan>,
        ends: Receiver<Finished>,
        asks: mpsc::Sender<Request>,
        progress: mpsc::Sender<Progress>,
        redactor: Arc<Redactor>,
    ) -> Self {
        let store = worker.queue.store().clone();
        let now = Instant::now();
        Self {
            worker,
            store,
            surroundings,
            desk,
            address,
            plans,
            ends,
            asks,
            progress,
            running: HashMap::new(),
            unpublished: Vec::new(),
            unstarted: Vec::new(),
            unsynced: true,
            synced: None,
            heard: now,
            asked_at: None,
            claim_at: now,
            lookout: Lookout::default(),
            held: BTreeSet::new(),
            used_up: None,
            idle: IDLE.0,
            failures: 0,
            carried: Carried::default(),
            redactor,
            unsent: None,
            stayed: BTreeMap::new(),
        }
    }

    /// Works to the end. Returns what never started, and what went wrong.
    pub(super) fn run(mut self) -> (Vec<Finished>, Result<(), Error>) {
        let worked = match self.worker.given.take() {
            Some(given) => {
                self.begin(given);
                self.turns(true)
            }
            None => self.tidy().and_then(|()| self.turns(false)),
        };
        // No more plans: the supervisor ends when what runs is over.
        let (none, _) = mpsc::channel(1);
        self.plans = none;
        while let Ok(one) = self.ends.recv() {
            self.over(one);
            self.publish();
        }
        let flushed = self.flush();
        (std::mem::take(&mut self.unstarted), worked.and(flushed))
    }

    /// Starts what was claimed before, and says at once that it runs.
    fn begin(&mut self, given: Given) {
        let Given { mut claim, task, fence } = given;
        self.announce(&mut claim);
        let of = task.unwrap_or(claim.agent.id);
        self.hand_on(claim, of, fence);
        self.beat();
    }

    fn turns(&mut self, mut begun: bool) -> Result<(), Error> {
        while !self.plans.is_closed() {
            let free = self.worker.jobs.saturating_sub(self.running.len());
            if free > 0 && Instant::now() >= self.claim_at && !(begun && self.worker.until == Until::Once) {
                let claimed = self.claim(free)?;
                begun |= claimed.is_some();
                let ends = self.worker.until != Until::Stopped && claimed == Some(0);
                if ends && self.running.is_empty() && self.unpublished.is_empty() {
                    return Ok(());
                }
            }
            if begun && self.worker.until == Until::Once && self.running.is_empty() {
                return Ok(());
            }
            self.wait();
            self.say_all();
            self.carry_questions();
            self.sync_if_due(false);
            if self.heard.elapsed() >= self.worker.ttl / 4 {
                self.beat();
            }
        }
        Ok(())
    }

    /// What an agent asks goes to the remote at once; answers are looked for as long as one waits.
    fn carry_questions(&mut self) {
        let asked = self.desk.is_asked();
        if !asked {
            self.asked_at = None;
            return;
        }
        match (self.asked_at, self.worker.queue.remote()) {
            (None, _) => self.unsynced = true,
            (Some(at), Some(remote)) if at.elapsed() >= ANSWERS => {
                if let Err(error) = sync::sync(&self.store, remote) {
                    self.say(None, format!("failed to {}; trying again", chain(&error)));
                }
            }
            (Some(_), _) => return,
        }
        self.asked_at = Some(Instant::now());
    }

    /// Claims and starts what may begin beside what runs here; `None` if the remote did not say what there is, or nothing
    /// may be claimed now.
    fn claim(&mut self, free: usize) -> Result<Option<usize>, Error> {
        if !self.worker.holds_back {
            return self.claim_some(free, &BTreeSet::new());
        }
        let mut all = 0;
        while all < free {
            let (meets, waits) = self.look_ahead()?;
            // Where some would meet they are claimed one by one: which one it is to be others decide too.
            let count = if meets { 1 } else { free - all };
            match self.claim_some(count, &waits)? {
                None if all == 0 => return Ok(None),
                // They wait, so this is not the end.
                Some(0) if all == 0 && !waits.is_empty() => return Ok(None),
                None | Some(0) => break,
                Some(claimed) => all += claimed,
            }
            if !meets {
                break;
            }
        }
        Ok(Some(all))
    }

    /// Whether two ready tasks, or one and a busy one, will probably meet; and those that would meet a busy one.
    fn look_ahead(&mut self) -> Result<(bool, BTreeSet<Id>), Error> {
        let busy = hold::busy(&self.store)?;
        let state = self.store.state()?;
        let mut all: Vec<Task> = state.all()?;
        // What is archived holds nothing back.
        all.extend(state.archived_before(&all)?);
        let ready = ready_tasks(&all, self.worker.zone.as_deref());
        let mut ready: Vec<Task> = ready.into_iter().cloned().collect();
        ready.sort_by_key(Task::rank);
        let (_, held) = self.lookout.sift(&self.store, &ready, &busy);
        let mut waits = BTreeSet::new();
        for one in held.iter().filter(|one| busy.iter().any(|task| task.id == one.by.id)) {
            waits.insert(one.task.id);
            if self.held.insert((one.task.id, one.by.id)) {
                self.say(None, one.words());
            }
        }
        Ok((!held.is_empty(), waits))
    }

    /// Claims and starts; `None` if the remote did not say what there is, or nothing may be claimed now.
    fn claim_some(&mut self, free: usize, without: &BTreeSet<Id>) -> Result<Option<usize>, Error> {
        if let Err(error) = budget::check(&self.store, &self.surroundings.budgets, &[]) {
            let waits = self.worker.until == Until::Stopped || !self.running.is_empty();
            if !waits && self.unpublished.is_empty() {
                return Err(error);
            }
            let words = chain(&error);
            if self.used_up.replace(words.clone()).is_none_or(|before| before != words) {
                self.say(None, format!("claims nothing more for now: failed to {words}"));
            }
            self.put_off();
            return Ok(None);
        }
        self.used_up = None;
        let terms = Terms { ttl: Some(self.worker.ttl), ..Terms::default() };
        let held = match self.worker.queue.claim_next(free, self.worker.zone.as_deref(), &terms, without) {
            Ok(held) => held,
            Err(error @ Error::Alarm { .. }) => return Err(error),
            Err(error) => {
                self.failures += 1;
                if self.failures >= FAILURES && self.worker.until != Until::Stopped {
                    return Err(error);
                }
                self.say(None, format!("failed to {}; trying again", chain(&error)));
                self.put_off();
                return Ok(None);
            }
        };
        self.failures = 0;
        self.heard = Instant::now();
        if held.is_empty() {
            self.put_off();
        } else {
            self.idle = IDLE.0;
        }
        let count = held.len();
        let mut failed = None;
        for (id, answer) in held {
            let Claimed::Held { fence, from } = answer else { continue };
            self.unsynced = true;
            if self.plans.is_closed() || failed.is_some() {
                self.release(&id);
                continue;
            }
            if let Some(machine) = from {
                let text = format!("took {} over from machine {machine}, which is silent", &id.as_str()[..6]);
                self.say(None, text);
            }
            if let Err(error) = self.start(&id, fence) {
                self.release(&id);
                failed = Some(error);
            }
        }
        failed.map_or(Ok(Some(count)), Err)
    }

    fn put_off(&mut self) {
        // Between half and all of it, as the clock's small change has it: workers that began together part.
        let part = u32::try_from(self.store.clock().now().as_millis() % 64).unwrap_or(0);
        self.claim_at = Instant::now() + self.idle / 2 + self.idle / 2 * part / 64;
        self.idle = (self.idle * 2).min(IDLE.1);
    }

    fn start(&mut self, id: &Id, fence: u64) -> Result<(), Error> {
        let task: Task = self.store.state()?.require(id)?;
        let request = SpawnRequest {
            tasks: vec![*id],
            prompt: None,
            name: name(&task, fence),
            base: None,
            zone: None,
            force: false,
            step: None,
            outfit: self.worker.outfit.clone(),
        };
        for mut claim in spawn(&self.store, &request)?.claims {
            self.announce(&mut claim);
            self.hand_on(claim, *id, fence);
        }
        Ok(())
    }

    fn announce(&self, claim: &mut Claim) {
        self.desk.enter(claim.agent.id, &claim.agent.name, claim.run);
        if let Some(address) = &self.address
            && let Err(error) = claim.lease.answers_at(address)
        {
            tracing::warn!("{}", chain(&error));
        }
    }

    fn hand_on(&mut self, claim: Claim, task: Id, fence: u64) {
        let agent = claim.agent.clone();
        self.running.insert(agent.id, Job { task, fence, agent });
        let bench = Bench {
            surroundings: &self.surroundings,
            store: &self.store,
            desk: &self.desk,
            plans: &self.plans,
            progress: &self.progress,
        };
        if let Some(one) = make(claim, bench) {
            let told = Progress::Finished(Box::new(one.clone()));
            self.desk.leave(&one.agent, &told);
            let _ = self.progress.blocking_send(told);
            self.unstarted.push(one.clone());
            self.over(one);
            self.publish();
        }
    }

    /// Waits for a run to end, a claim to be due or a heartbeat; not long.
    fn wait(&mut self) {
        match self.ends.recv_timeout(TICK) {
            Ok(one) => {
                self.over(one);
                while let Ok(one) = self.ends.try_recv() {
                    self.over(one);
                }
                self.claim_at = Instant::now();
                self.publish();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => std::thread::sleep(TICK),
        }
    }

    fn over(&mut self, one: Finished) {
        if let Some(job) = self.running.remove(&one.agent) {
            self.unpublished.push((one, job));
        }
    }

    pub(super) fn say(&self, agent: Option<Id>, text: String) {
        let _ = self.progress.blocking_send(Progress::Notice { agent, text });
    }

    fn say_all(&self) {
        for said in self.worker.queue.take_said() {
            self.say(None, said);
        }
    }

    /// Gives a claim back whose agent did not start.
    pub(super) fn release(&mut self, id: &Id) {
        self.unsynced = true;
        if let Err(error) = self.worker.queue.release(&[*id]) {
            self.say(None, format!("failed to give {} back: {}", &id.as_str()[..6], chain(&error)));
        }
    }

    /// Says that this machine is alive, sends what its agents have not committed and where asked for what they said,
    /// and stops those whose tasks were taken over.
    pub(super) fn beat(&mut self) {
        self.heard = Instant::now();
        let mut carried = Carried::default();
        let beaten = self.worker.queue.beat(|view| {
            carried = self.carried(view);
            carried.specs()
        });
        match beaten {
            Ok(view) => {
                self.carried = carried;
                self.stop_ousted(&view);
            }
            Err(error) => self.say(None, format!("failed to {}; trying again", chain(&error))),
        }
        self.say_all();
    }

    fn stop_ousted(&self, view: &View) {
        let (Ok(held), Ok(state), Ok(here)) =
            (self.worker.queue.held(), self.store.state(), self.store.machine())
        else {
            return;
        };
        for (id, job) in &self.running {
            let ours = held.iter().find(|(of, _)| *of == job.task).map(|(_, commit)| commit);
            let theirs = view.claims.get(&job.task);
            // Over there already, its claim is gone again.
            let is_over = || {
                let task = state.get::<Task>(&job.task).ok().flatten();
                task.is_some_and(|task| task.is_ousted(&here, job.fence))
            };
            if theirs.is_some() && theirs != ours || is_over() {
                self.say(Some(*id), "another machine took its task over; it is stopped here".to_owned());
                let by = "another machine".to_owned();
                let _ = self.asks.try_send(Request::Stop { agent: Some(*id), by });
            }
        }
    }

    /// Puts in order what a worker that died left: what is over is published, what never began is given back.
    fn tidy(&mut self) -> Result<(), Error> {
        let state = self.store.state()?;
        for (of, commit) in self.worker.queue.held()? {
            let Some(claim) = self.store.read_claim(&commit, &of)? else { continue };
            let Some(task) = state.get::<Task>(&of)? else { continue };
            let worked = claim.ttl.is_some() && !claim.spawned;
            if claim.over.is_some() || !worked || task.status != TaskStatus::Started {
                continue;
            }
            let agent = task.assignee.map(|id| state.get::<Agent>(&id)).transpose()?.flatten();
            let Some(agent) = agent else {
                self.release(&of);
                continue;
            };
            if lease::look_for(self.store.repo(), &agent.id)?.is_some() {
                continue;
            }
            let fence = claim.fence;
            if let Some(one) = words::finished(&self.store, &agent)? {
                self.say(None, format!("{} was over and not published: now it is", agent.name));
                self.unpublished.push((one, Job { task: of, fence, agent }));
            }
        }
        self.publish();
        Ok(())
    }
}

/// A name that no other machine gives: two that have tasks of the same title must not push the same branch.
fn name(task: &Task, fence: u64) -> Option<Name> {
    let title =
        title::name(&task.title, NAME_LEN).map_or_else(|| "agent".to_owned(), |name| name.to_string());
    let again = if fence > 1 { format!("-{fence}") } else { String::new() };
    format!("{title}-{}{again}", &task.id.as_str()[..6]).parse().ok()
}

//! Looking at runs that other processes watch.

mod look;

use super::console::{Console, Role, Wish};
use super::context::Context;
use super::error::{CliError, Exit};
use super::json;
use super::notify::Notifier;
use super::session::{self, Session};
use super::ui::{Actor, Label};
use crate::model::{Agent, Event, EventKind, Id, ObjectId, Outcome, Timestamp};
use crate::orchestrate::control::{Ask, Refusal};
use crate::orchestrate::lease::{self, LeaseInfo, LeaseState};
use crate::orchestrate::status::{self, Activity};
use crate::orchestrate::supervise::{Finished, Progress, Request};
use crate::process::Interrupts;
use crate::store::journal::{self, Entry, Tail};
use look::{How, Seen, look};
use std::collections::HashMap;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// How often somebody looks which agents run.
const POLL: Duration = Duration::from_millis(250);
/// How often somebody looks, where the state has changed, which runs were over before they were seen.
const MISSED: Duration = Duration::from_secs(1);
/// How much of what each of several agents said before is shown.
const BEFORE: usize = 3;

/// Whom to look at.
#[derive(Debug)]
pub(crate) enum Whom {
    /// These.
    These(Vec<(Agent, LeaseInfo)>),
    /// Whoever runs in this repository, and who starts while somebody looks.
    Everybody {
        /// Whether to stay when nobody runs any more.
        follow: bool,
    },
}

/// Shows runs until they end or the person turns away.
pub(crate) fn attach(ctx: &Context, whom: Whom, json: bool) -> Result<Exit, CliError> {
    let runtime = session::runtime()?;
    let ended = runtime.block_on(async {
        // Before the keyboard is taken: whatever ends us gives it back.
        let interrupts = Interrupts::listen();
        let interrupts =
            interrupts.map_err(|error| CliError::failed("failed to listen for signals", error))?;
        let mut party = Party::begin(ctx, whom, json)?;
        let left = party.on(interrupts).await?;
        Ok(party.end(left))
    });
    runtime.shutdown_background();
    ended
}

/// Somebody who looks at runs.
#[expect(clippy::struct_excessive_bools, reason = "independent facts about what was asked for")]
struct Party<'a> {
    ctx: &'a Context,
    /// What is shown as text; nothing with JSON.
    console: Option<Console>,
    notifier: Notifier,
    everybody: bool,
    follow: bool,
    /// Whether one agent alone was asked for.
    single: bool,
    looks: HashMap<Id, Looked>,
    tasks: JoinSet<()>,
    seen: mpsc::Receiver<(Id, Seen)>,
    teller: mpsc::Sender<(Id, Seen)>,
    finished: Vec<Finished>,
    /// Whether one ended without a last word, and not well.
    lost: bool,
    /// When it began to look.
    since: Timestamp,
    /// The state in which it was looked for runs that were missed, and when.
    searched: (Option<ObjectId>, Instant),
}

/// One run that is looked at.
struct Looked {
    run: u32,
    /// Whether it began while somebody looked.
    late: bool,
    /// Whether anything was heard of it.
    heard: bool,
    asks: mpsc::Sender<Ask>,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Runs,
    /// Whoever watches it hung up without a last word: the state will have it, unless they were killed.
    Silent,
    Over,
}

impl<'a> Party<'a> {
    fn begin(ctx: &'a Context, whom: Whom, json: bool) -> Result<Self, CliError> {
        let (agents, everybody, follow) = match whom {
            Whom::These(agents) => (agents, false, false),
            Whom::Everybody { follow } => (running(ctx)?, true, follow),
        };
        let single = !everybody && agents.len() == 1;
        let actors = agents.iter().map(|(agent, _)| actor(agent)).collect();
        let role = if single { Role::Guest } else { Role::Visitor };
        let console = if json { None } else { Some(Console::new(ctx, actors, role)?) };
        let notifier = Notifier::looking(ctx, agents.iter().map(|(agent, _)| (agent.id, &agent.name)))?;
        let (teller, seen) = mpsc::channel(256);
        let mut party = Self {
            ctx,
            console,
            notifier,
            everybody,
            follow,
            single,
            looks: HashMap::new(),
            tasks: JoinSet::new(),
            seen,
            teller,
            finished: Vec::new(),
            lost: false,
            since: ctx.store()?.clock().now(),
            searched: (ctx.state()?.commit().cloned(), Instant::now()),
        };
        for (_, lease) in agents {
            party.look_at(lease, false)?;
        }
        Ok(party)
    }

    /// Begins to look at a run.
    fn look_at(&mut self, lease: LeaseInfo, late: bool) -> Result<(), CliError> {
        let (asks, receiver) = mpsc::channel(16);
        let drawn = self.console.as_ref().is_some_and(|console| console.live.is_drawn());
        let how =
            How { answers: self.console.as_ref().is_some_and(Console::hears), whole: self.single || !drawn };
        if let Some(console) = self.console.as_mut().filter(|_| lease.state == LeaseState::Running) {
            console.live.began(&lease);
        }
        self.looks
            .insert(lease.agent, Looked { run: lease.run, late, heard: false, asks, stage: Stage::Runs });
        self.tasks.spawn(look(self.ctx.repo()?.clone(), lease, how, receiver, self.teller.clone()));
        Ok(())
    }

    /// Whether somebody who is looked at still runs.
    fn is_on(&self) -> bool {
        self.follow || self.looks.values().any(|look| look.stage != Stage::Over)
    }

    /// Looks until everything is over; whether the person turned away before.
    async fn on(&mut self, mut interrupts: Interrupts) -> Result<bool, CliError> {
        let mut poll = tokio::time::interval(POLL);
        poll.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        while self.is_on() {
            tokio::select! {
                Some((agent, seen)) = self.seen.recv() => self.take(agent, seen)?,
                wish = next_wish(&mut self.console) => match wish {
                    Wish::Leave => return Ok(true),
                    Wish::Ask(wish) => self.ask(wish),
                },
                _ = interrupts.next() => return Ok(true),
                _ = poll.tick() => self.poll()?,
            }
        }
        Ok(false)
    }

    /// Takes in what a look told.
    fn take(&mut self, agent: Id, seen: Seen) -> Result<(), CliError> {
        if let Some(look) = self.looks.get_mut(&agent) {
            look.heard |= matches!(seen, Seen::Before { .. });
        }
        match seen {
            Seen::Before { mut events, skipped } => {
                // The last word of a journal is how the run ended: that is told when it is recorded.
                if events.iter().any(|event| matches!(event.kind, EventKind::Exited { .. })) {
                    events.pop_if(|event| matches!(event.kind, EventKind::Notice { .. }));
                }
                self.take_before(agent, &events, skipped)?;
            }
            // Told already, by whoever watched it or by its record.
            Seen::Progress(progress)
                if matches!(*progress, Progress::Finished(_))
                    && self.looks.get(&agent).is_some_and(|look| look.stage == Stage::Over) => {}
            Seen::Progress(progress) => {
                self.show(&progress)?;
                self.notifier.take(&progress, self.ctx.ui())?;
                match *progress {
                    Progress::Finished(finished) => {
                        self.is_over(&agent);
                        self.finished.push(*finished);
                    }
                    Progress::Answered { allowed, answer: Some(answer), .. } => {
                        let how = if allowed { "answered" } else { "refused" };
                        self.say(&agent, Label::Dim, &format!("it was {how}: {answer}"));
                    }
                    Progress::Answered { allowed, .. } => {
                        let text = if allowed { "it was allowed" } else { "it was refused" };
                        self.say(&agent, Label::Dim, text);
                    }
                    _ => {}
                }
            }
            Seen::Asks(questions) => {
                if let Some(console) = &mut self.console {
                    console.asks(agent, questions);
                }
            }
            Seen::Refused(why) => self.say(&agent, Label::Attention, refusal(why)),
            Seen::Skipped(lines) => {
                if let Some(console) = &mut self.console {
                    console.live.skipped(&agent, lines);
                }
            }
            Seen::Gone(why) => {
                if let Some(error) = why {
                    if self.single {
                        return Err(error.into());
                    }
                    self.say(&agent, Label::Bad, &format!("failed to {error}"));
                }
                if let Some(look) = self.looks.get_mut(&agent).filter(|look| look.stage == Stage::Runs) {
                    look.stage = Stage::Silent;
                }
                self.poll()?;
            }
        }
        Ok(())
    }

    /// Takes in what was before anybody looked.
    fn take_before(&mut self, agent: Id, events: &[Event], skipped: u64) -> Result<(), CliError> {
        let Some(console) = &mut self.console else {
            return events
                .iter()
                .try_for_each(|event| self.show(&Progress::Event { agent, event: event.clone() }));
        };
        let shown = if self.single { events.len() } else { BEFORE.min(events.len()) };
        // Of those that were there before us there is more than anybody wants to know.
        if self.looks.get(&agent).is_some_and(|look| look.late) {
            let rest = u64::try_from(events.len() - shown).unwrap_or(u64::MAX);
            console.live.skipped(&agent, skipped + rest);
        }
        console.live.before(&agent, events, shown);
        Ok(())
    }

    fn show(&mut self, progress: &Progress) -> Result<(), CliError> {
        match &mut self.console {
            Some(console) => console.take(progress),
            None => self.ctx.ui().print(&json::line("agent-event", progress)?)?,
        }
        Ok(())
    }

    fn say(&mut self, agent: &Id, label: Label, text: &str) {
        if let Some(console) = &mut self.console {
            console.say(Some(agent), label, text);
        }
    }

    fn is_over(&mut self, agent: &Id) {
        if let Some(look) = self.looks.get_mut(agent) {
            look.stage = Stage::Over;
        }
        if let Some(console) = &mut self.console {
            console.asks(*agent, Vec::new());
        }
    }

    /// Hands a wish to whoever watches the agent.
    fn ask(&mut self, wish: Request) {
        let (agent, ask) = match wish {
            Request::Message { agent, text } => (agent, Ask::Message { agent, text }),
            Request::Stop { agent: Some(agent), .. } => (agent, Ask::Stop { agent: Some(agent), now: false }),
            Request::Interrupt { agent } => (agent, Ask::Interrupt { agent }),
            Request::Permission { agent, request, allow, answer } => {
                (agent, Ask::Permission { agent, request, allow, answer })
            }
            // Those of others are ended one by one.
            Request::Stop { agent: None, .. }
            | Request::Kill { .. }
            | Request::Note { .. }
            | Request::Decided { .. } => return,
        };
        let handed = self.looks.get(&agent).is_some_and(|look| look.asks.try_send(ask).is_ok());
        if !handed {
            self.say(&agent, Label::Bad, "it could not be reached");
        }
    }

    /// Looks who runs: who began since, and what became of those whose watchers said nothing.
    fn poll(&mut self) -> Result<(), CliError> {
        let leases = lease::live(self.ctx.repo()?);
        for lease in &leases {
            if let Some(console) = &mut self.console {
                console.live.know(lease);
            }
            let known = self.looks.get(&lease.agent);
            let again = known.is_some_and(|look| look.stage == Stage::Over && look.run < lease.run);
            if !self.everybody || known.is_some() && !again {
                continue;
            }
            let Some(agent) = self.ctx.store()?.state()?.get::<Agent>(&lease.agent)? else { continue };
            self.enter(&agent)?;
            self.look_at(lease.clone(), true)?;
        }
        if self.everybody {
            self.find_missed(&leases)?;
        }
        let silent: Vec<Id> =
            self.looks.iter().filter(|(_, look)| look.stage == Stage::Silent).map(|(id, _)| *id).collect();
        for id in silent {
            if leases.iter().all(|lease| lease.agent != id) {
                self.silent(id)?;
            }
        }
        Ok(())
    }

    /// Somebody comes who was not there before.
    fn enter(&mut self, agent: &Agent) -> Result<(), CliError> {
        let queued = Progress::Queued { agent: agent.id, name: agent.name.clone() };
        self.notifier.take(&queued, self.ctx.ui())?;
        if let Some(console) = &mut self.console {
            console.live.enter(actor(agent));
        }
        Ok(())
    }

    /// Shows runs of this machine that began and ended between two looks: their leases came and went unseen.
    fn find_missed(&mut self, leases: &[LeaseInfo]) -> Result<(), CliError> {
        if self.searched.1.elapsed() < MISSED {
            return Ok(());
        }
        let store = self.ctx.store()?;
        let state = store.state()?;
        if state.commit() == self.searched.0.as_ref() {
            return Ok(());
        }
        self.searched = (state.commit().cloned(), Instant::now());
        for agent in state.all::<Agent>()? {
            let Some((run, last)) = agent.last_run() else { continue };
            let seen = self.looks.get(&agent.id).is_some_and(|look| look.run >= run);
            if seen || last.started < self.since || leases.iter().any(|lease| lease.agent == agent.id) {
                continue;
            }
            // Another machine's has its journal there.
            if last.ended.is_some() && journal::path(store.repo(), &agent.id, run).exists() {
                self.enter(&agent)?;
                let (asks, _) = mpsc::channel(1);
                let running = Stage::Runs;
                self.looks.insert(agent.id, Looked { run, late: true, heard: false, asks, stage: running });
                self.tell_recorded(&agent)?;
            }
        }
        Ok(())
    }

    /// Tells how an agent's last run ended, by its record, and what it said, if nothing of it was heard. Whether there is
    /// such a record.
    fn tell_recorded(&mut self, agent: &Agent) -> Result<bool, CliError> {
        let repo = self.ctx.repo()?;
        let Some(finished) = Finished::recorded(repo, agent) else { return Ok(false) };
        if !self.looks.get(&agent.id).is_some_and(|look| look.heard) {
            let entries = Tail::new(journal::path(repo, &agent.id, finished.run)).read().unwrap_or_default();
            let event = |entry| if let Entry::Event(event) = entry { Some(event) } else { None };
            let events = entries.into_iter().filter_map(event).collect();
            self.take(agent.id, Seen::Before { events, skipped: 0 })?;
        }
        self.take(agent.id, Seen::Progress(Box::new(Progress::Finished(Box::new(finished)))))?;
        Ok(true)
    }

    /// The session ended without a last word: the state has it, unless it was killed.
    fn silent(&mut self, id: Id) -> Result<(), CliError> {
        let store = self.ctx.store()?;
        let Some(agent) = store.state()?.get::<Agent>(&id)? else { return Ok(()) };
        let state = status::activity_of(store, &agent)?;
        if state.is_live() {
            return Ok(());
        }
        let is_last =
            agent.last_run().is_some_and(|(run, _)| self.looks.get(&id).is_some_and(|look| look.run == run));
        if is_last && self.tell_recorded(&agent)? {
            return Ok(());
        }
        self.is_over(&id);
        self.lost |= !matches!(state, Activity::Ended(Outcome::Succeeded) | Activity::Merged(_));
        if let Some(console) = &mut self.console {
            console.live.gone(&id, &state);
        }
        Ok(())
    }

    /// Gives everything back; the exit code.
    fn end(mut self, left: bool) -> Exit {
        let ui = self.ctx.ui();
        if let Some(console) = &mut self.console {
            console.end();
            let on: Vec<&str> = self
                .looks
                .iter()
                .filter(|(_, look)| look.stage != Stage::Over)
                .map(|(id, _)| console.live.name(id))
                .collect();
            match &on[..] {
                [] if self.looks.is_empty() && !left => {
                    ui.note("no agent runs here");
                    ui.hint("`git orchestra attach --follow` waits for the next one");
                }
                [name] if left => {
                    ui.note(format!("{name} works on; `git orchestra attach {name}` looks again"));
                }
                [_, ..] if left => {
                    ui.note(format!("{} agents work on; `git orchestra attach` looks again", on.len()));
                }
                _ => {}
            }
        }
        self.tasks.abort_all();
        let session = Session { finished: self.finished, signal: None };
        match session.exit() {
            _ if left => Exit::Done,
            Exit::Done | Exit::Waiting if self.lost => Exit::AgentFailed,
            exit => exit,
        }
    }
}

/// The agents that run here, and who watches them.
fn running(ctx: &Context) -> Result<Vec<(Agent, LeaseInfo)>, CliError> {
    let state = ctx.state()?;
    let mut agents = Vec::new();
    for lease in lease::live(ctx.repo()?) {
        agents.extend(state.get::<Agent>(&lease.agent)?.map(|agent| (agent, lease)));
    }
    agents.sort_by(|(a, _), (b, _)| (a.created, &a.name).cmp(&(b.created, &b.name)));
    Ok(agents)
}

/// How an agent is shown.
pub(crate) fn actor(agent: &Agent) -> Actor {
    Actor { id: agent.id, name: agent.name.to_string(), program: agent.program.clone() }
}

/// Why something was not done, and what would do it.
pub(crate) fn refusal(why: Refusal) -> &'static str {
    match why {
        Refusal::TakesNoMessages => {
            "its program takes no messages while it runs; `resume -m` tells it in another run"
        }
        Refusal::NotUnderstood => "whoever watches it does not understand that; it may be of another version",
        Refusal::Unknown => "it is not watched there any more",
        Refusal::Queued => "it waits for its turn",
        Refusal::Ending => "its run is ending",
        Refusal::KnowsNoInterrupt => "its program knows no way to stop a turn; x stops it",
        Refusal::DoesNotRead => "it does not read what was sent to it before",
        Refusal::Answered => "the question was answered already",
        Refusal::Agent => "agents do not stop, steer or answer agents",
    }
}

/// What somebody at the console wants next; nothing where there is none. Safe to cancel.
pub(crate) async fn next_wish(console: &mut Option<Console>) -> Wish {
    match console {
        Some(console) => console.next().await,
        None => std::future::pending().await,
    }
}

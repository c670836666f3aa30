//! One run, from its start to its record.

use super::aside::Aside;
use super::full::Full;
use super::meter::{Meter, Window};
use super::notebook::Notebook;
use super::outcome::{for_want_of_memory, outcome, unless_unsaved};
use super::question::{Answers, Open, Ruling, permission_subject};
use super::record::{Ended, RunRecord, chain};
use super::save::save;
use super::tell::Pause;
use super::throttle::Throttle;
use super::{Finished, Plan, Progress};
use crate::agent::{Decoder, KeyLines, Redactor, priced, transcript};
use crate::git::{Fingerprint, Repository};
use crate::model::{Event, EventKind, Id, Outcome, Run, Standing, Timestamp, Usage};
use crate::orchestrate::Error;
use crate::orchestrate::control::{Asked, Feed};
use crate::orchestrate::lease::LeaseInfo;
use crate::orchestrate::status::Evidence;
use crate::process::{Budget, Child, ChildEvent, ChildOptions, Clock, Command, Exit, Line, Source};
use crate::store::Store;
use crate::store::journal::{self, EntryRef};
use bstr::ByteSlice;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, sleep_until};

/// At which attempt in vain a model that does not know who we are is given up. The first one may only have made a
/// client fetch a new token.
const REFUSALS: u64 = 2;

/// What every run of a session needs.
#[derive(Clone)]
pub(super) struct RunContext {
    pub(super) repo: Repository,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) store: Store,
    pub(super) redactor: Arc<Redactor>,
    pub(super) progress: mpsc::Sender<Progress>,
    pub(super) budget: Budget,
    pub(super) grace: Duration,
    pub(super) interactive: bool,
    pub(super) answer_timeout: Duration,
    pub(super) any_answer: bool,
    /// How many processes of the machine the kernel has ended for want of memory.
    pub(super) memory_kills: fn() -> Option<u64>,
    /// As many may run at once as there are of these.
    pub(super) seats: Arc<Semaphore>,
    /// As many may wait for a person without one.
    pub(super) asides: Arc<Semaphore>,
    /// Told when one of them is given back by a run that is not over.
    pub(super) freed: Arc<Notify>,
    /// How many may be saved at once: each takes a thread and several processes of git.
    pub(super) saving: Arc<Semaphore>,
    /// What the main checkout looked like when somebody looked last.
    pub(super) seen: Arc<Mutex<Option<Fingerprint>>>,
}

/// Runs `plan` to its end. Whatever fails is a failed run. What is left to do is to record it.
pub(super) async fn run(
    plan: Plan,
    context: RunContext,
    feed: Arc<Feed>,
    mut requests: mpsc::Receiver<Asked>,
    seat: OwnedSemaphorePermit,
) -> Ended {
    let mut live = Live::new(plan, context, feed, seat);
    // What others used is of when its worktree was made; it may have waited since.
    if live.meter.purse().is_shared() {
        live.look().await;
    }
    if let Some(over) = live.meter.purse().empty() {
        live.outcome = Some(Outcome::used_up(over));
        live.notice(&format!("it was not started: {}", live.spent_words(&over))).await;
        return Box::pin(live.finish()).await;
    }
    while live.is_admitted(&mut requests).await {
        match live.start().await {
            Ok(child) => {
                // It hears them with its prompt.
                live.untold.clear();
                live.watch(child, &mut requests).await;
            }
            Err(error) => live.outcome = Some(Outcome::Failed { reason: chain(&error) }),
        }
        if !live.goes_on(&mut requests).await {
            break;
        }
    }
    live.tell_untold().await;
    Box::pin(live.finish()).await
}

/// A run while it lives.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, and any may go with any")]
pub(super) struct Live {
    pub(super) plan: Plan,
    pub(super) context: RunContext,
    pub(super) decoder: Box<dyn Decoder>,
    pub(super) journal: Notebook,
    /// Where those who look from elsewhere are told what happens.
    pub(super) feed: Arc<Feed>,
    pub(super) started: Timestamp,
    /// The same by a clock that nobody sets: its time runs from here, whichever of its processes works, or none.
    pub(super) begun: Instant,
    /// What its events show that it does.
    pub(super) evidence: Evidence,
    /// Whether it was told that it says nothing any more.
    pub(super) told_silent: bool,
    pub(super) model: Option<String>,
    pub(super) session: Option<String>,
    /// Who asked us to end it.
    pub(super) stopped_by: Option<String>,
    /// What it uses.
    pub(super) meter: Meter,
    /// The right to run beside the others of this process; none while it waits for a limit or a person.
    pub(super) seat: Option<OwnedSemaphorePermit>,
    /// The right to wait for a person without one.
    pub(super) aside: Option<Aside>,
    /// Whether its model serves it.
    pub(super) throttle: Throttle,
    /// Why we ended its process, if the run goes on with another one.
    pub(super) pause: Option<Pause>,
    /// What it was told and hears from its next process.
    pub(super) untold: Vec<String>,
    /// What earlier processes of this run used: each counts for itself.
    pub(super) carried: Usage,
    /// How full the window of its model is.
    pub(super) window: Window,
    /// The private keys in what it says line by line, on its output and its error output.
    keys: [KeyLines; 2],
    /// What is to be said when the lines at hand are through.
    pub(super) to_say: Vec<String>,
    /// The budget for which we ended it.
    pub(super) used_up: Option<Standing>,
    /// How many processes of the machine had been ended for want of memory when it began.
    memory_kills: Option<u64>,
    /// Whether it said that it was done, did not go, and was ended by us.
    pub(super) overdue: bool,
    /// Whether a message was sent that no result has followed.
    pub(super) unanswered: bool,
    /// Until when its input stays open though its turn is over: a message that came late in it begins another one.
    pub(super) listens_until: Option<Instant>,
    /// Whether its turn was interrupted, and nothing was said to it since.
    pub(super) interrupted: bool,
    /// Why its model does not serve it, if it never will.
    pub(super) refused: Option<String>,
    /// What it was told of full disks.
    pub(super) full: Full,
    /// Since when it says that it is done.
    pub(super) done_since: Option<Instant>,
    /// Questions that its program waits for the answers to.
    pub(super) open: Vec<Open>,
    /// Where answers from elsewhere are looked for.
    pub(super) answers: Answers,
    /// Questions that wait for a person.
    pub(super) decisions: Vec<Id>,
    /// Decisions whose answer its program was told.
    pub(super) decided: Vec<Id>,
    pub(super) outcome: Option<Outcome>,
}

impl Live {
    fn new(plan: Plan, context: RunContext, feed: Arc<Feed>, seat: OwnedSemaphorePermit) -> Self {
        let (decoder, started) = (priced::decoder(&*plan.adapter, &plan.launch), context.clock.now());
        let meter = Meter::new(plan.purse.clone());
        let (throttle, memory_kills) = (Throttle::of(&plan.agent.program), (context.memory_kills)());
        Self {
            plan,
            context,
            decoder,
            journal: Notebook::default(),
            feed,
            started,
            begun: Instant::now(),
            evidence: Evidence::default(),
            told_silent: false,
            model: None,
            session: None,
            stopped_by: None,
            meter,
            throttle,
            seat: Some(seat),
            aside: None,
            pause: None,
            untold: Vec::new(),
            carried: Usage::default(),
            window: Window::default(),
            keys: Default::default(),
            to_say: Vec::new(),
            used_up: None,
            memory_kills,
            overdue: false,
            unanswered: false,
            listens_until: None,
            interrupted: false,
            refused: None,
            full: Full::default(),
            done_since: None,
            open: Vec::new(),
            answers: Answers::default(),
            decisions: Vec::new(),
            decided: Vec::new(),
            outcome: None,
        }
    }

    /// Begins its journal, if it has none. One that cannot be written does not keep it from waiting.
    pub(super) fn begin_journal(&mut self) {
        if !self.journal.has_begun() {
            match journal::Writer::create(&self.context.repo, &self.plan.agent.id, self.plan.run) {
                Ok(writer) => self.journal.begin(writer),
                Err(error) => tracing::warn!("{}", chain(&error)),
            }
        }
    }

    /// Checks that the run is isolated, and starts its process.
    async fn start(&mut self) -> Result<Child, Error> {
        let plan = &mut self.plan;
        let worktree = &plan.worktree;
        if !worktree.is_intact() {
            let path = worktree.path.display();
            return Err(Error::refused(
                format!("work in {path}: it is not the worktree of {}", plan.agent.name),
                None,
            ));
        }
        let head = self.context.repo.worktree_head(worktree)?;
        if head.branch.as_deref() != Some(plan.agent.branch.as_str()) {
            let found = head.branch.unwrap_or_else(|| "a detached HEAD".to_owned());
            let what = format!(
                "work in {}: {found} is checked out, not {}",
                worktree.path.display(),
                plan.agent.branch
            );
            return Err(Error::refused(what, Some("switch the worktree back to its branch".to_owned())));
        }
        if !self.journal.has_begun() {
            self.journal.begin(journal::Writer::create(&self.context.repo, &plan.agent.id, plan.run)?);
        }
        // What an earlier process of this run asked nobody waits for any more.
        self.open.clear();
        self.show_questions();
        let plan = &mut self.plan;
        // Before the process: what a kill of ours leaves running is found by its mark.
        plan.lease.started(None, self.started)?;
        let launch = plan.adapter.launch(&plan.launch);
        let (program, args) = launch.argv.split_first().ok_or_else(|| {
            Error::refused(format!("start {}: its profile names no program", plan.agent.name), None)
        })?;
        let command = Command::new(program)
            .args(args)
            .envs(&plan.env)
            .envs(launch.env)
            .current_dir(&plan.worktree.path);
        let command = match &plan.confinement {
            Some(confinement) => {
                let confined = command.confined(confinement.level, &confinement.reach, &plan.confiners);
                confined.map_err(Error::Confine)?
            }
            None => command,
        };
        let options = ChildOptions {
            grace: self.context.grace,
            budget: self.context.budget.clone(),
            mark: Some((LeaseInfo::MARK.to_owned(), plan.lease.info().mark())),
            streaming: launch.input.is_some(),
            ..ChildOptions::default()
        };
        let mut child = command.start(&options).map_err(Error::Start)?;
        plan.lease.started(Some(child.identity().clone()), self.started)?;
        if let Some(input) = launch.input {
            // A fresh pipe takes what it is given; a child that is gone already says so by its exit.
            let _ = child.write(input);
        }
        if !launch.keeps_input {
            child.close_input();
        }
        let (agent, run, pid) = (plan.agent.id, plan.run, child.identity().pid);
        self.tell(None, Progress::Started { agent, run, pid }).await;
        // What else was prepared is held to the end of the run.
        let prepared = &mut self.plan.prepared;
        let (output, said) = (prepared.output.take(), std::mem::take(&mut prepared.said));
        if let Some(output) = output {
            // To be looked up; whoever waited for it was told that it went well.
            let kind = EventKind::Notice { text: format!("setup said:\n{output}") };
            self.write(EntryRef::Event(&Event { at: self.context.clock.now(), parent: None, kind }));
        }
        for said in said {
            let said = self.context.redactor.redact(&said).0.into_owned();
            self.notice(&said).await;
        }
        for notice in &launch.notices {
            self.notice(notice).await;
        }
        Ok(child)
    }

    async fn watch(&mut self, mut child: Child, requests: &mut mpsc::Receiver<Asked>) {
        let mut askers = self.feed.askers();
        let mut heard = Instant::now();
        let mut listening = true;
        loop {
            let limit = self.next_limit(heard);
            tokio::select! {
                event = child.next() => match event {
                    Some(ChildEvent::Lines { source, lines, budget }) => {
                        (heard, self.told_silent) = (Instant::now(), false);
                        self.lines(&child, source, lines).await;
                        drop(budget);
                        self.settle(&mut child);
                        self.measure(&mut child).await;
                    }
                    Some(ChildEvent::Exited(exit)) => {
                        self.exited(exit).await;
                        return;
                    }
                    None => return,
                },
                request = requests.recv(), if listening => match request {
                    Some(asked) => {
                        self.asked(&mut child, asked).await;
                        self.settle(&mut child);
                    }
                    None => listening = false,
                },
                changed = askers.changed(), if !self.open.is_empty() && !self.context.interactive => {
                    if changed.is_err() || *askers.borrow_and_update() == 0 {
                        self.defer_all(&child).await;
                    }
                }
                () = due(self.answers.look_at) => {
                    self.look_for_answers(&child).await;
                    self.settle(&mut child);
                }
                () = due(self.record_at()) => self.record_open().await,
                () = due(self.meter.look_at) => {
                    self.look().await;
                    self.measure(&mut child).await;
                }
                () = due(self.silent_at(heard)) => self.tell_silence(heard).await,
                () = due(limit.as_ref().map(|(at, _)| *at)) => {
                    let reason = limit.map_or("", |(_, reason)| reason);
                    self.over(&mut child, reason).await;
                }
            }
        }
    }

    /// Takes lines: to the journal, to the decoder, and what they mean to whoever looks.
    async fn lines(&mut self, child: &Child, source: Source, lines: Vec<Line>) {
        let (mut events, mut numbers) = (Vec::new(), Vec::new());
        for line in lines {
            let at = self.context.clock.now();
            let bytes = self.keys[usize::from(source == Source::Stderr)].pass(&line.bytes);
            let text = bytes.to_str_lossy();
            let before = events.len();
            match source {
                Source::Stdout => self.decoder.line(&bytes, at, &mut events),
                Source::Stderr => self.decoder.error_line(&bytes, at, &mut events),
            }
            if line.cut > 0 {
                let text = format!("a line was cut: {} bytes more", line.cut);
                events.push(Event { at, parent: None, kind: EventKind::Notice { text } });
            }
            let stderr = source == Source::Stderr;
            // The whole text follows, and is redacted as a whole.
            if stderr || !self.decoder.was_piece() {
                let redactor = Arc::clone(&self.context.redactor);
                let raw = redactor.redact(&text).0;
                self.write(EntryRef::Raw { raw: &raw, stderr });
            }
            if stderr {
                self.full.learn(&text);
            }
            for event in &mut events[before..] {
                self.add_carried(event);
                self.learn(event);
                numbers.push(self.keep(event));
            }
        }
        self.journal.flush();
        for (event, number) in events.into_iter().zip(numbers) {
            self.show(child, event, number).await;
        }
        for text in std::mem::take(&mut self.to_say) {
            self.notice(&text).await;
        }
        self.tell_limits(child).await;
        if self.stopped_by.is_some() {
            return;
        }
        if self.refused.is_some() {
            child.stop();
        } else {
            self.heed_full_disk(child).await;
        }
    }

    /// Takes secrets out of an event, writes it to the journal, and returns its number there; what is only a piece of
    /// a whole has none. A question stays as it was asked: that is what it is answered with.
    fn keep(&mut self, event: &mut Event) -> Option<u64> {
        if let EventKind::PermissionAsked { .. } = event.kind {
            let mut kept = event.clone();
            transcript::redact(&mut kept, &self.context.redactor);
            return self.write(EntryRef::Event(&kept));
        }
        transcript::redact(event, &self.context.redactor);
        if is_partial(&event.kind) { None } else { self.write(EntryRef::Event(event)) }
    }

    /// What an event says that the record needs. Nothing that decides about success.
    fn learn(&mut self, event: &Event) {
        self.evidence.learn(event);
        self.meter.learn(event);
        self.throttle.learn(event);
        if let Some(full) = self.window.learn(event) {
            let (used, window) = (full.used, full.window.unwrap_or_default());
            let percent = full.percent().unwrap_or_default();
            self.to_say.push(format!("its context window is {percent} % full ({used} of {window} tokens)"));
        }
        match &event.kind {
            EventKind::Ready { model, session, .. } if event.parent.is_none() => {
                self.model = model.clone().or(self.model.take());
                self.session = session.clone().or(self.session.take());
            }
            EventKind::Result { .. } if event.parent.is_none() && self.unanswered => {
                self.unanswered = false;
                self.listens_until = Some(Instant::now() + self.plan.limits.after_result / 3);
            }
            EventKind::ToolResult { ok: false, output, .. } => self.full.learn(output),
            // The program would try for minutes, and nothing changes meanwhile.
            EventKind::Retry { attempt, status: Some(status @ (401 | 403)), error, .. }
                if *attempt >= REFUSALS && event.parent.is_none() =>
            {
                self.refused.get_or_insert_with(|| {
                    format!("its model refuses the API key or the login: {status} {error}")
                });
            }
            _ => {}
        }
    }

    /// Tells an event that was [kept](Self::keep).
    async fn show(&mut self, child: &Child, mut event: Event, number: Option<u64>) {
        let (mut opened, mut answered) = (false, None);
        // As the program said it: that is what it is answered with.
        let asked = matches!(event.kind, EventKind::PermissionAsked { .. }).then(|| event.kind.clone());
        let withdrawn = match &event.kind {
            EventKind::PermissionWithdrawn { request } => Some(request.clone()),
            _ => None,
        };
        if asked.is_some() {
            transcript::redact_shown(&mut event, &self.context.redactor);
        }
        if let Some(EventKind::PermissionAsked { request, tool, input, questions: asks, .. }) = asked
            && let EventKind::PermissionAsked { summary, questions: shown, .. } = &event.kind
        {
            let subject = permission_subject(&tool, &input);
            let (summary, shown) = (summary.clone(), shown.clone());
            let asked = Instant::now();
            let open = Open { request, tool, summary, input, asks, shown, subject, asked, kept: None };
            if let Some(ruling) = self.plan.decided.get(&open.subject).cloned() {
                self.reply(child, &open.request, &open.reply(&ruling)).await;
                answered = Some((open.request, ruling));
            } else if self.context.interactive || *self.feed.askers().borrow() > 0 {
                self.open.push(open);
                opened = true;
            } else {
                let request = open.request.clone();
                opened = self.defer(child, open).await;
                answered = (!opened).then_some((request, Ruling::Refused(None)));
            }
        }
        let agent = self.plan.agent.id;
        self.tell(number, Progress::Event { agent, event }).await;
        if let Some((request, ruling)) = answered {
            self.tell_answer(&request, &ruling).await;
        }
        if let Some(request) = withdrawn {
            self.withdraw(&request).await;
        }
        if opened {
            self.show_questions();
        }
    }

    /// Closes the input of a program that is done, and notes since when it is.
    pub(super) fn settle(&mut self, child: &mut Child) {
        let idle = self.decoder.is_idle();
        if !idle {
            self.listens_until = None;
        }
        let listens = self.unanswered || self.interrupted || self.listens_until.is_some();
        if idle && !listens && self.open.is_empty() {
            if child.is_input_open() {
                child.close_input();
            }
            self.done_since.get_or_insert_with(Instant::now);
        } else {
            self.done_since = None;
        }
    }

    async fn exited(&mut self, exit: Exit) {
        let at = self.context.clock.now();
        let kind = EventKind::Exited { code: exit.code, signal: exit.signal };
        // Nobody waits for what it asked any more; what is a decision stays one.
        self.open.clear();
        self.show_questions();
        let mut events = Vec::new();
        self.decoder.end(at, &mut events);
        for mut event in events {
            let number = self.keep(&mut event);
            if let EventKind::PermissionAsked { .. } = event.kind {
                transcript::redact_shown(&mut event, &self.context.redactor);
            }
            self.tell(number, Progress::Event { agent: self.plan.agent.id, event }).await;
        }
        self.tell_event(Event { at, parent: None, kind }).await;
        if exit.leaked > 0 {
            let word = if exit.leaked == 1 { "process" } else { "processes" };
            self.notice(&format!("it left {} {word} running; they were ended", exit.leaked)).await;
        } else if exit.held {
            self.notice("somebody still held its output open when it was gone").await;
        }
        let starved = (self.context.memory_kills)()
            .zip(self.memory_kills)
            .map_or(0, |(now, then)| now.saturating_sub(then));
        if starved > 0 {
            let who = if starved == 1 { "a process" } else { "processes" };
            self.notice(&format!("while it ran, the kernel ended {who} of this machine for want of memory"))
                .await;
        }
        let reported = self.decoder.reported_failure();
        let refused = self.refused.take();
        let kept = self.meter.program_kept(self.decoder.limit());
        if let (None, Some(over)) = (self.used_up, kept) {
            self.notice(&format!("it ended itself: {}", self.spent_words(&over))).await;
        }
        let used_up = self.used_up.or(kept);
        // Its last answer may have crossed more.
        for over in self.meter.untold(used_up) {
            self.notice(&self.spent_words(&over)).await;
        }
        self.outcome =
            Some(outcome(exit, self.stopped_by.as_deref(), used_up, refused, self.overdue, reported));
        self.outcome = self.outcome.take().map(|outcome| for_want_of_memory(outcome, exit, starved));
    }

    /// Saves what the run left.
    async fn finish(mut self) -> Ended {
        let outcome = self.outcome.take().unwrap_or(Outcome::Lost);
        if let Outcome::Failed { reason } = &outcome {
            let at = self.context.clock.now();
            let kind = EventKind::Notice { text: format!("failed: {reason}") };
            self.write(EntryRef::Event(&Event { at, parent: None, kind }));
        }
        let journal = self.journal.take();
        let usage = self.usage();
        let sandbox = Some(self.plan.sandbox());
        let (context, plan) = (self.context.clone(), self.plan);
        // Closed only with the session, which outlives its runs.
        let turn = Arc::clone(&context.saving).acquire_owned().await;
        let saved = tokio::task::spawn_blocking(move || {
            let saved = save(&context, &plan, journal);
            drop(turn);
            (plan, saved)
        });
        let Ok((plan, saved)) = saved.await else {
            unreachable!("saving returns its errors, and the runtime outlives it")
        };
        for (number, text) in saved.notices {
            let notice = Progress::Notice { agent: Some(plan.agent.id), text };
            self.feed.tell(number, &notice);
            let _ = self.context.progress.send(notice).await;
        }
        // Whoever looks later finds it in the record only.
        let (outcome, error) = unless_unsaved(outcome, saved.error);
        let tip = saved.tip.unwrap_or_else(|| plan.tip.clone());
        let record = RunRecord {
            agent: plan.agent.id,
            number: plan.run,
            run: Run {
                started: self.started,
                sandbox,
                ended: Some(self.context.clock.now()),
                outcome: Some(outcome.clone()),
                tip: Some(tip.clone()),
                usage,
                context: self.window.last,
                model: self.model,
                session: self.session.clone(),
                transcript: None,
            },
            session: self.session.filter(|session| Some(session) != plan.agent.session.as_ref()),
            commits: saved.commits.clone(),
            journal: saved.journal,
        };
        let finished = Finished {
            agent: plan.agent.id,
            name: plan.agent.name,
            run: plan.run,
            outcome: Some(outcome),
            tip,
            commits: saved.commits.len(),
            leftovers: saved.leftovers,
            usage,
            decisions: self.decisions,
            error,
        };
        Ended { record: Some(record), lease: plan.lease, finished }
    }

    pub(super) async fn tell(&mut self, number: Option<u64>, progress: Progress) {
        match &progress {
            Progress::Event { event, .. } if is_partial(&event.kind) => {}
            // The input stays here: an answer names the question.
            Progress::Event {
                agent,
                event: event @ Event { kind: EventKind::PermissionAsked { .. }, .. },
            } => {
                let mut event = event.clone();
                if let EventKind::PermissionAsked { input, .. } = &mut event.kind {
                    input.clear();
                }
                self.feed.tell(number, &Progress::Event { agent: *agent, event });
            }
            progress => self.feed.tell(number, progress),
        }
        // With nobody looking the run goes on.
        let _ = self.context.progress.send(progress).await;
    }

    /// Writes an event of ours down, and tells it.
    pub(super) async fn tell_event(&mut self, event: Event) {
        let number = self.write(EntryRef::Event(&event));
        self.journal.flush();
        self.tell(number, Progress::Event { agent: self.plan.agent.id, event }).await;
    }

    fn write(&mut self, entry: EntryRef<'_>) -> Option<u64> {
        self.journal.write(&*self.context.clock, entry)
    }

    pub(super) async fn notice(&mut self, text: &str) {
        let at = self.context.clock.now();
        let event = Event { at, parent: None, kind: EventKind::Notice { text: text.to_owned() } };
        self.tell_event(event).await;
    }
}

const fn is_partial(kind: &EventKind) -> bool {
    matches!(kind, EventKind::Text { partial: true, .. } | EventKind::Thinking { partial: true, .. })
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

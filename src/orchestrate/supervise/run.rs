//! One run, from its start to its record.

use super::outcome::outcome;
use super::question::{permission_subject, record_question};
use super::record::{Ended, RunRecord, chain};
use super::redact::{redact_event, redact_line};
use super::save::save;
use super::{Finished, Plan, Progress, Request};
use crate::agent::{Decoder, PermissionReply, Redactor};
use crate::git::{Fingerprint, Repository};
use crate::model::{Event, EventKind, Id, Outcome, Run, Timestamp};
use crate::orchestrate::Error;
use crate::orchestrate::lease::LeaseInfo;
use crate::process::{Budget, Child, ChildEvent, ChildOptions, Clock, Command, Exit, Line, Source};
use crate::store::{Store, journal};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// The most bytes of a journal, but for the gist of what follows: it becomes objects of the repository.
const JOURNAL_LIMIT: u64 = 64 << 20;

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
    /// What the main checkout looked like when somebody looked last.
    pub(super) seen: Arc<Mutex<Fingerprint>>,
}

/// Runs `plan` to its end. Whatever fails is a failed run. What is left to do is to record it.
pub(super) async fn run(plan: Plan, context: RunContext, requests: mpsc::Receiver<Request>) -> Ended {
    let mut live = Live::new(plan, context);
    match live.start().await {
        Ok(child) => live.watch(child, requests).await,
        Err(error) => live.outcome = Some(Outcome::Failed { reason: chain(&error) }),
    }
    live.finish().await
}

/// A run while it lives.
struct Live {
    plan: Plan,
    context: RunContext,
    decoder: Box<dyn Decoder>,
    journal: Option<journal::Writer>,
    started: Timestamp,
    model: Option<String>,
    session: Option<String>,
    /// Who asked us to end it.
    stopped_by: Option<String>,
    /// Whether it said that it was done, did not go, and was ended by us.
    overdue: bool,
    /// Whether a message was sent that no result has followed.
    unanswered: bool,
    /// Since when it says that it is done.
    done_since: Option<Instant>,
    /// Permission questions that a person looks at right now.
    asked: usize,
    /// Whether the journal has all it may have.
    full: bool,
    decisions: Vec<Id>,
    outcome: Option<Outcome>,
}

impl Live {
    fn new(plan: Plan, context: RunContext) -> Self {
        let (decoder, started) = (plan.adapter.decoder(), context.clock.now());
        Self {
            plan,
            context,
            decoder,
            journal: None,
            started,
            model: None,
            session: None,
            stopped_by: None,
            overdue: false,
            unanswered: false,
            done_since: None,
            asked: 0,
            full: false,
            decisions: Vec::new(),
            outcome: None,
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
        self.journal = Some(journal::Writer::create(&self.context.repo, &plan.agent.id, plan.run)?);
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
        let options = ChildOptions {
            grace: self.context.grace,
            budget: self.context.budget.clone(),
            mark: Some((LeaseInfo::MARK.to_owned(), plan.lease.info().mark())),
            streaming: launch.input.is_some(),
            ..ChildOptions::default()
        };
        let child = command.start(&options).map_err(Error::Start)?;
        plan.lease.started(Some(child.identity().clone()), self.started)?;
        if let Some(input) = launch.input {
            // A fresh pipe takes what it is given; a child that is gone already says so by its exit.
            let _ = child.write(input);
        }
        let (agent, run, pid) = (plan.agent.id, plan.run, child.identity().pid);
        self.tell(Progress::Started { agent, run, pid }).await;
        Ok(child)
    }

    async fn watch(&mut self, mut child: Child, mut requests: mpsc::Receiver<Request>) {
        let begun = Instant::now();
        let mut heard = begun;
        let mut listening = true;
        loop {
            let limit = self.next_limit(begun, heard);
            tokio::select! {
                event = child.next() => match event {
                    Some(ChildEvent::Lines { source, lines, budget }) => {
                        heard = Instant::now();
                        self.lines(&child, source, lines).await;
                        drop(budget);
                        self.settle(&mut child);
                    }
                    Some(ChildEvent::Exited(exit)) => {
                        self.exited(exit).await;
                        return;
                    }
                    None => return,
                },
                request = requests.recv(), if listening => match request {
                    Some(request) => self.request(&mut child, request).await,
                    None => listening = false,
                },
                () = due(limit.as_ref().map(|(at, _)| *at)) => {
                    let reason = limit.map_or("", |(_, reason)| reason);
                    self.over(&child, reason).await;
                }
            }
        }
    }

    /// The next moment at which it must be ended, and why.
    fn next_limit(&self, begun: Instant, heard: Instant) -> Option<(Instant, &'static str)> {
        if self.stopped_by.is_some() || self.overdue {
            return None;
        }
        let limits = self.plan.limits;
        let idle = limits.idle.filter(|_| self.asked == 0).map(|span| (heard + span, "idle"));
        let total = limits.total.map(|span| (begun + span, "deadline"));
        let done = self.done_since.map(|since| (since + limits.after_result, "done"));
        [idle, total, done].into_iter().flatten().min_by_key(|(at, _)| *at)
    }

    async fn over(&mut self, child: &Child, reason: &'static str) {
        if reason == "done" {
            self.overdue = true;
            self.notice("it said that it was done and did not end; it was ended").await;
        } else {
            self.stopped_by = Some(reason.to_owned());
            let words = if reason == "idle" { "it was silent for too long" } else { "its time is over" };
            self.notice(&format!("{words}; it is ended")).await;
        }
        child.stop();
    }

    /// Takes lines: to the journal, to the decoder, and what they mean to whoever looks.
    async fn lines(&mut self, child: &Child, source: Source, lines: Vec<Line>) {
        let mut events = Vec::new();
        for line in lines {
            let at = self.context.clock.now();
            let text = String::from_utf8_lossy(&line.bytes);
            let before = events.len();
            match source {
                Source::Stdout => self.decoder.line(&line.bytes, at, &mut events),
                Source::Stderr if text.trim().is_empty() => {}
                Source::Stderr => {
                    let text = text.clone().into_owned();
                    events.push(Event { at, parent: None, kind: EventKind::Notice { text } });
                }
            }
            if line.cut > 0 {
                let text = format!("a line was cut: {} bytes more", line.cut);
                events.push(Event { at, parent: None, kind: EventKind::Notice { text } });
            }
            let stderr = source == Source::Stderr;
            // The whole text follows, and is redacted as a whole.
            if stderr || !self.decoder.was_piece() {
                let raw = redact_line(&self.context.redactor, &text).into_owned();
                self.write(&journal::Entry::Raw { raw, stderr });
            }
            for event in &mut events[before..] {
                self.learn(event);
                if !is_partial(&event.kind) {
                    let mut kept = event.clone();
                    redact_event(&self.context.redactor, &mut kept);
                    if let EventKind::PermissionAsked { input, .. } = &mut kept.kind {
                        *input = redact_line(&self.context.redactor, input).into_owned();
                    }
                    self.write(&journal::Entry::Event(kept));
                }
            }
        }
        self.flush();
        for event in events {
            self.show(child, event).await;
        }
    }

    /// What an event says that the record needs. Nothing that decides about success.
    fn learn(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Ready { model, session, .. } if event.parent.is_none() => {
                self.model = model.clone().or(self.model.take());
                self.session = session.clone().or(self.session.take());
            }
            EventKind::Result { .. } if event.parent.is_none() => self.unanswered = false,
            _ => {}
        }
    }

    async fn show(&mut self, child: &Child, mut event: Event) {
        if let EventKind::PermissionAsked { request, tool, summary, input } = &event.kind {
            let subject = permission_subject(tool, input);
            let known = self.plan.decided.get(&subject).copied();
            if let Some(allowed) = known {
                let reply = if allowed {
                    PermissionReply::Allow { input: input.clone() }
                } else {
                    PermissionReply::Deny { message: "A person refused this.".to_owned() }
                };
                self.reply(child, request, &reply).await;
            } else if self.context.interactive {
                self.asked += 1;
            } else {
                self.defer(child, request, tool, summary, subject).await;
            }
        }
        redact_event(&self.context.redactor, &mut event);
        self.tell(Progress::Event { agent: self.plan.agent.id, event }).await;
    }

    async fn reply(&mut self, child: &Child, request: &str, reply: &PermissionReply) {
        if let Some(bytes) = self.plan.adapter.permission_reply(request, reply)
            && let Err(error) = child.write(bytes)
        {
            self.notice(&format!("it could not be answered: {error}")).await;
        }
    }

    /// Records a question for later, and refuses for now.
    async fn defer(&mut self, child: &Child, request: &str, tool: &str, summary: &str, subject: String) {
        let redact = |text: &str| redact_line(&self.context.redactor, text).into_owned();
        let question = format!("{} wants to use {tool}: {}", self.plan.agent.name, redact(summary));
        let (store, agent) = (self.context.store.clone(), self.plan.agent.clone());
        let asked = question.clone();
        let recorded =
            tokio::task::spawn_blocking(move || record_question(&store, &agent.id, &asked, &subject)).await;
        let message = match recorded {
            Ok(Ok(decision)) => {
                self.decisions.push(decision);
                let agent = self.plan.agent.id;
                self.tell(Progress::Waiting { agent, decision, question }).await;
                "Nobody is there to allow this right now. The question was recorded and may be allowed later. \
                 Do what you can without it, say what is left, and end."
                    .to_owned()
            }
            _ => "This is not allowed.".to_owned(),
        };
        self.reply(child, request, &PermissionReply::Deny { message }).await;
    }

    /// Closes the input of a program that is done, and notes since when it is.
    fn settle(&mut self, child: &mut Child) {
        if self.decoder.is_idle() && !self.unanswered && self.asked == 0 {
            if child.is_input_open() {
                child.close_input();
            }
            self.done_since.get_or_insert_with(Instant::now);
        } else {
            self.done_since = None;
        }
    }

    async fn request(&mut self, child: &mut Child, request: Request) {
        match request {
            Request::Stop { by, .. } => {
                self.stopped_by.get_or_insert(by);
                child.stop();
            }
            Request::Kill { .. } => {
                self.stopped_by.get_or_insert_with(|| "interrupt".to_owned());
                child.kill();
            }
            Request::Message { text, .. } => {
                let sent = self.plan.adapter.message(&text).map(|bytes| child.write(bytes));
                match sent {
                    Some(Ok(())) => {
                        self.unanswered = true;
                        self.done_since = None;
                    }
                    Some(Err(error)) => self.notice(&format!("the message did not arrive: {error}")).await,
                    None => self.notice("its program takes no messages while it runs").await,
                }
            }
            Request::Interrupt { .. } => {
                if let Some(bytes) = self.plan.adapter.interrupt() {
                    let _ = child.write(bytes);
                } else {
                    self.notice("its program knows no way to stop a turn").await;
                }
            }
            Request::Permission { request, reply, .. } => {
                self.asked = self.asked.saturating_sub(1);
                self.reply(child, &request, &reply).await;
            }
        }
    }

    async fn exited(&mut self, exit: Exit) {
        let at = self.context.clock.now();
        let kind = EventKind::Exited { code: exit.code, signal: exit.signal };
        let event = Event { at, parent: None, kind };
        self.write(&journal::Entry::Event(event.clone()));
        self.tell(Progress::Event { agent: self.plan.agent.id, event }).await;
        if exit.leaked > 0 {
            let word = if exit.leaked == 1 { "process" } else { "processes" };
            self.notice(&format!("it left {} {word} running; they were ended", exit.leaked)).await;
        } else if exit.held {
            self.notice("somebody still held its output open when it was gone").await;
        }
        self.outcome =
            Some(outcome(exit, self.stopped_by.as_deref(), self.overdue, self.decoder.reported_failure()));
    }

    /// Saves what the run left.
    async fn finish(mut self) -> Ended {
        let outcome = self.outcome.take().unwrap_or(Outcome::Lost);
        if let Outcome::Failed { reason } = &outcome {
            let at = self.context.clock.now();
            let kind = EventKind::Notice { text: format!("failed: {reason}") };
            self.write(&journal::Entry::Event(Event { at, parent: None, kind }));
        }
        let journal = self.journal.take();
        let (context, plan, usage) = (self.context.clone(), self.plan, self.decoder.usage());
        let saved = tokio::task::spawn_blocking(move || {
            let saved = save(&context, &plan, journal);
            (plan, saved)
        });
        let Ok((plan, saved)) = saved.await else {
            unreachable!("saving returns its errors, and the runtime outlives it")
        };
        for text in saved.notices {
            let notice = Progress::Notice { agent: Some(plan.agent.id), text };
            let _ = self.context.progress.send(notice).await;
        }
        let tip = saved.tip.unwrap_or_else(|| plan.tip.clone());
        let record = RunRecord {
            agent: plan.agent.id,
            number: plan.run,
            run: Run {
                started: self.started,
                ended: Some(self.context.clock.now()),
                outcome: Some(outcome.clone()),
                tip: Some(tip.clone()),
                usage,
                model: self.model,
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
            error: None,
        };
        Ended { record: Some(record), lease: plan.lease, finished }
    }

    async fn tell(&mut self, progress: Progress) {
        // With nobody looking the run goes on.
        let _ = self.context.progress.send(progress).await;
    }

    async fn notice(&mut self, text: &str) {
        let at = self.context.clock.now();
        let event = Event { at, parent: None, kind: EventKind::Notice { text: text.to_owned() } };
        self.write(&journal::Entry::Event(event.clone()));
        self.tell(Progress::Event { agent: self.plan.agent.id, event }).await;
    }

    /// A journal that cannot be written (the disk is full) does not end the run; the next flush says so.
    fn write(&mut self, entry: &journal::Entry) {
        let Some(journal) = &mut self.journal else { return };
        let full = journal.size() > JOURNAL_LIMIT;
        let mut written = Ok(());
        if full && !self.full {
            let text = format!(
                "it says too much: of what follows only the gist is kept ({} MiB are)",
                JOURNAL_LIMIT >> 20
            );
            let kind = EventKind::Notice { text };
            written = journal.append(&journal::Entry::Event(Event {
                at: self.context.clock.now(),
                parent: None,
                kind,
            }));
        }
        self.full = full;
        if !full || is_gist(entry) {
            written = written.and_then(|()| journal.append(entry));
        }
        if let Err(error) = written {
            tracing::warn!("{}", chain(&error));
        }
    }

    fn flush(&mut self) {
        if let Some(journal) = &mut self.journal
            && let Err(error) = journal.flush()
        {
            tracing::warn!("{}", chain(&error));
        }
    }
}

/// What is kept of a run that floods its journal: how it goes, not what it says.
const fn is_gist(entry: &journal::Entry) -> bool {
    let journal::Entry::Event(event) = entry else { return false };
    matches!(
        event.kind,
        EventKind::Ready { .. }
            | EventKind::Usage { .. }
            | EventKind::Result { .. }
            | EventKind::PermissionAsked { .. }
            | EventKind::PermissionDenied { .. }
            | EventKind::Exited { .. }
    )
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

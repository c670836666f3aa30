//! What others ask of a run that lives, and what it asks of them: messages, stops, permission questions.

use super::question::{
    Answers, Found, Kept, Open, Ruling, find_answers, record_question, settle_question, withdraw_question,
};
use super::record::chain;
use super::run::Live;
use super::{Progress, Request};
use crate::agent::PermissionReply;
use crate::model::{Event, EventKind, Id};
use crate::orchestrate::control::{Asked, Refusal};
use crate::orchestrate::evidence::TOLD;
use crate::process::{Child, InputError};
use std::time::Duration;
use tokio::time::Instant;

impl Live {
    pub(super) async fn asked(&mut self, child: &mut Child, asked: Asked) {
        let result = self.request(child, &asked.request).await;
        asked.answer(result);
    }

    async fn request(&mut self, child: &mut Child, request: &Request) -> Result<(), Refusal> {
        match request {
            Request::Stop { by, .. } => {
                self.stopped_by.get_or_insert_with(|| by.clone());
                child.stop();
                Ok(())
            }
            Request::Kill { by, .. } => {
                self.stopped_by.get_or_insert_with(|| by.clone());
                child.kill();
                Ok(())
            }
            Request::Message { text, .. } => self.hand_on(child, text).await,
            Request::Interrupt { .. } => {
                if self.plan.adapter.hears_later() {
                    return self.break_off(child).await;
                }
                let bytes = self.plan.adapter.interrupt().ok_or(Refusal::KnowsNoInterrupt);
                bytes.and_then(|bytes| child.write(bytes).map_err(refusal))?;
                // Its input stays open: whoever interrupts has something to say.
                self.interrupted = true;
                let at = self.context.clock.now();
                self.tell_event(Event { at, parent: None, kind: EventKind::Interrupted {} }).await;
                Ok(())
            }
            Request::Note { text, .. } => {
                self.notice(text).await;
                Ok(())
            }
            Request::Permission { request, allow, answer, .. } => {
                let at = self.open.iter().position(|open| open.request == *request);
                let open = self.open.remove(at.ok_or(Refusal::Answered)?);
                let ruling = match answer {
                    Some(text) if *allow => Ruling::Answered(text.clone()),
                    _ if *allow => Ruling::Allowed(None),
                    words => Ruling::Refused(words.clone()),
                };
                self.rule(child, open, ruling).await;
                Ok(())
            }
            Request::Decided { decision, .. } => {
                self.answers.seen = None;
                self.look_for_answers(child).await;
                let waits =
                    self.open.iter().filter_map(|open| open.kept).any(|kept| kept.decision == *decision);
                if waits || !self.decided.contains(decision) { Err(Refusal::Answered) } else { Ok(()) }
            }
        }
    }

    /// Tells the program what a person says to it.
    async fn hand_on(&mut self, child: &Child, text: &str) -> Result<(), Refusal> {
        if self.plan.adapter.hears_later() {
            return self.keep_for_later(text).await;
        }
        let bytes = self.plan.adapter.message(text).ok_or(Refusal::TakesNoMessages);
        bytes.and_then(|bytes| child.write(bytes).map_err(refusal))?;
        (self.unanswered, self.interrupted, self.done_since) = (true, false, None);
        let text = self.context.redactor.redact(text).0.into_owned();
        self.notice(&format!("{TOLD}{text}")).await;
        Ok(())
    }

    /// Tells the program what was answered to a question that it waits with.
    async fn rule(&mut self, child: &Child, open: Open, said: Ruling) {
        let ruling = match open.kept {
            Some(kept) => self.settle_kept(kept.decision, Some(said.clone())).await.unwrap_or(said),
            None => said,
        };
        self.reply(child, &open.request, &open.reply(&ruling)).await;
        self.show_questions();
        self.tell_answer(&open.request, &ruling).await;
        let words = match ruling {
            Ruling::Allowed(words) => words,
            Ruling::Refused(words) if !self.plan.adapter.hears_reasons() => words,
            Ruling::Refused(_) | Ruling::Answered(_) => None,
        };
        let Some(text) = words else { return };
        // The answer itself has no room for them.
        if let Err(why) = self.hand_on(child, &text).await {
            self.notice(&format!("it was not told the words that go with the answer: {why}")).await;
        }
    }

    /// Writes down that the program is told the answer of a decision, and returns the answer that holds.
    async fn settle_kept(&mut self, decision: Id, said: Option<Ruling>) -> Option<Ruling> {
        self.decisions.retain(|one| *one != decision);
        self.decided.push(decision);
        let (store, run, any) = (self.context.store.clone(), self.plan.run, self.context.any_answer);
        let settle = move || settle_question(&store, &decision, said.as_ref(), run, any);
        match tokio::task::spawn_blocking(settle).await {
            Ok(Ok(ruling)) => ruling,
            Ok(Err(error)) => {
                self.notice(&format!("what was answered could not be recorded: {}", chain(&error))).await;
                None
            }
            Err(_) => None,
        }
    }

    /// Looks whether what it waits for was answered elsewhere, or has waited long enough.
    pub(super) async fn look_for_answers(&mut self, child: &Child) {
        let waiting: Vec<Id> =
            self.open.iter().filter_map(|open| open.kept).map(|kept| kept.decision).collect();
        if waiting.is_empty() {
            self.answers.look_at = None;
            return;
        }
        let (store, seen) = (self.context.store.clone(), self.answers.seen.clone());
        let any = self.context.any_answer;
        let look = move || find_answers(&store, seen.as_ref(), &waiting, any);
        let looked = tokio::task::spawn_blocking(look).await;
        let mut found = Vec::new();
        match looked {
            Ok(Ok(looked)) => (self.answers.seen, found) = (looked.seen, looked.found),
            Ok(Err(error)) => tracing::warn!("failed to look for answers: {}", chain(&error)),
            Err(_) => {}
        }
        for (decision, found) in found {
            let of = |open: &Open| open.kept.is_some_and(|kept| kept.decision == decision);
            let Some(at) = self.open.iter().position(of) else { continue };
            match found {
                // It stays open.
                Found::Unverified(words) => {
                    if self.answers.doubted.insert(decision) {
                        self.notice(&words).await;
                    }
                }
                Found::Ruled(ruling, from) => {
                    let open = self.open.remove(at);
                    if let Some(from) = from {
                        self.notice(&from).await;
                    }
                    // What holds for this question holds when it is asked again, too.
                    self.plan.decided.insert(open.subject.clone(), ruling.clone());
                    self.rule(child, open, ruling).await;
                }
                Found::Withdrawn => {
                    let open = self.open.remove(at);
                    self.decisions.retain(|one| *one != decision);
                    self.put_off(child, &open, "Nobody will answer this.").await;
                }
            }
        }
        let now = Instant::now();
        if *self.feed.askers().borrow() > 0 || self.context.interactive {
            // It waits as long as somebody looks.
            let waits = self.open.iter().any(|open| open.kept.is_some());
            self.answers.look_at = waits.then(|| now + Answers::POLL);
            return;
        }
        let over = |open: &mut Open| open.kept.is_some_and(|kept| kept.until <= now);
        let over: Vec<Open> = self.open.extract_if(.., over).collect();
        for open in over {
            let later = later(&open);
            self.put_off(child, &open, &later).await;
        }
        let ends = self.open.iter().filter_map(|open| open.kept).map(|kept| kept.until.max(now));
        self.answers.look_at =
            ends.min().map(|end| end.min(now + Answers::POLL).max(now + Answers::POLL / 20));
    }

    /// Its program does not wait for an answer any more: nobody is asked for it.
    pub(super) async fn withdraw(&mut self, request: &str) {
        let Some(at) = self.open.iter().position(|open| open.request == request) else { return };
        let open = self.open.remove(at);
        if let Some(Kept { decision, .. }) = open.kept {
            // Two sub-agents may ask the same.
            if self.open.iter().any(|other| other.kept.is_some_and(|kept| kept.decision == decision)) {
                return self.show_questions();
            }
            self.decisions.retain(|one| *one != decision);
            let store = self.context.store.clone();
            let withdraw = move || withdraw_question(&store, &decision);
            if let Ok(Err(error)) = tokio::task::spawn_blocking(withdraw).await {
                self.notice(&format!("its question could not be withdrawn: {}", chain(&error))).await;
            }
        }
        self.show_questions();
    }

    /// Refuses for now, and goes on.
    async fn put_off(&mut self, child: &Child, open: &Open, message: &str) {
        let deny = PermissionReply::Deny { message: message.to_owned() };
        self.reply(child, &open.request, &deny).await;
        self.show_questions();
        self.tell_answer(&open.request, &Ruling::Refused(None)).await;
    }

    /// Says with which questions it waits: to those who look at it, and in its lease to all others. As long as all of them
    /// are decisions, its place is somebody else's.
    pub(super) fn show_questions(&mut self) {
        if self.open.is_empty() {
            self.step_back();
        } else {
            self.step_aside();
        }
        self.feed.set_questions(self.open.iter().map(Open::question).collect());
        self.note_questions(false);
    }

    /// The same in its lease alone; `more` if another one is being recorded.
    fn note_questions(&mut self, more: bool) {
        let open = self.open.iter().map(|open| open.kept.map(|kept| kept.decision));
        let questions = open.chain(more.then_some(None)).collect();
        if let Err(error) = self.plan.lease.asks(questions, self.context.clock.now()) {
            tracing::warn!("{}", chain(&error));
        }
    }

    pub(super) async fn reply(&mut self, child: &Child, request: &str, reply: &PermissionReply) {
        if let Some(bytes) = self.plan.adapter.permission_reply(request, reply)
            && let Err(error) = child.write(bytes)
        {
            self.notice(&format!("it could not be answered: {error}")).await;
        }
    }

    /// Says how a question was answered.
    pub(super) async fn tell_answer(&mut self, request: &str, ruling: &Ruling) {
        let answer = match ruling {
            Ruling::Answered(text) => Some(self.context.redactor.redact(text).0.into_owned()),
            Ruling::Refused(Some(words)) => Some(self.context.redactor.redact(words).0.into_owned()),
            // Words with a permission are said to it as a message.
            Ruling::Allowed(_) | Ruling::Refused(None) => None,
        };
        let (agent, request) = (self.plan.agent.id, request.to_owned());
        let allowed = !matches!(ruling, Ruling::Refused(_));
        self.tell(None, Progress::Answered { agent, request, allowed, answer }).await;
    }

    /// Records a question as a decision. Its program waits for the answer as long as it may, and is refused for now
    /// otherwise. Returns whether it waits.
    pub(super) async fn defer(&mut self, child: &Child, mut open: Open) -> bool {
        let waits = !self.context.answer_timeout.is_zero();
        if open.kept.is_none() {
            // Before the decision is there, so that nobody sees it and an agent that works on.
            self.note_questions(waits);
            let Some(decision) = self.record(&open).await else {
                let deny = PermissionReply::Deny { message: "This is not allowed.".to_owned() };
                self.reply(child, &open.request, &deny).await;
                self.note_questions(false);
                return false;
            };
            open.kept = Some(Kept { decision, until: Instant::now() });
        }
        if !waits {
            let deny = PermissionReply::Deny { message: later(&open) };
            self.reply(child, &open.request, &deny).await;
            return false;
        }
        let now = Instant::now();
        open.kept = open.kept.map(|kept| Kept { until: now + self.context.answer_timeout, ..kept });
        self.open.push(open);
        self.answers.look_at = Some(now + Answers::POLL / 20);
        true
    }

    /// When a question is to be recorded that somebody looks at and does not answer: a terminal may be open behind a closed
    /// lid.
    pub(super) fn record_at(&self) -> Option<Instant> {
        let unkept = self.open.iter().filter(|open| open.kept.is_none());
        unkept.map(|open| open.asked + ANSWERED_HERE).min()
    }

    /// Records what nobody has answered who looks, so that it can be answered from elsewhere too. Who is first counts.
    pub(super) async fn record_open(&mut self) {
        let now = Instant::now();
        let due = |open: &mut Open| open.kept.is_none() && open.asked + ANSWERED_HERE <= now;
        let due: Vec<Open> = self.open.extract_if(.., due).collect();
        for mut open in due {
            let until = now + self.context.answer_timeout;
            match self.record(&open).await {
                Some(decision) => open.kept = Some(Kept { decision, until }),
                // Not again at once.
                None => open.asked = now,
            }
            self.open.push(open);
        }
        // The one that was asked first stays the first.
        self.open.sort_by_key(|open| open.asked);
        self.answers.look_at = Some(now + Answers::POLL);
        self.show_questions();
    }

    /// Records a question as a decision, and tells that.
    async fn record(&mut self, open: &Open) -> Option<Id> {
        let (store, agent) = (self.context.store.clone(), self.plan.agent.clone());
        let asked = open.clone();
        let record = move || record_question(&store, &agent.id, &agent.name, &asked);
        let recorded = tokio::task::spawn_blocking(record).await;
        let Ok(Ok((decision, question))) = recorded else { return None };
        if !self.decisions.contains(&decision) {
            self.decisions.push(decision);
        }
        let agent = self.plan.agent.id;
        self.tell(None, Progress::Waiting { agent, decision, question }).await;
        Some(decision)
    }

    /// Everybody who could answer went away.
    pub(super) async fn defer_all(&mut self, child: &Child) {
        for open in std::mem::take(&mut self.open) {
            let request = open.request.clone();
            if !self.defer(child, open).await {
                self.tell_answer(&request, &Ruling::Refused(None)).await;
            }
        }
        self.show_questions();
    }
}

/// How long a question waits for somebody who looks before it can be answered from elsewhere too.
const ANSWERED_HERE: Duration = Duration::from_secs(10);

/// What a program is told whose question is answered later.
fn later(open: &Open) -> String {
    let (to, will) = if open.asks.is_empty() {
        ("allow this", "may be allowed")
    } else {
        ("answer this", "will be answered")
    };
    format!(
        "Nobody is there to {to} right now. The question was recorded and {will} later. Do what you can without it, \
         say what is left, and end."
    )
}

/// Why what was sent did not arrive.
const fn refusal(error: InputError) -> Refusal {
    match error {
        InputError::Closed => Refusal::Ending,
        InputError::Full => Refusal::DoesNotRead,
    }
}

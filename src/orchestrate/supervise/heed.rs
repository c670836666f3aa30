//! What others ask of a run that lives, and what it asks of them: messages, stops, permission questions.

use super::question::{Open, Ruling, record_question};
use super::run::Live;
use super::{Progress, Request};
use crate::agent::PermissionReply;
use crate::orchestrate::control::{Asked, Refusal};
use crate::process::{Child, InputError};

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
            Request::Message { text, .. } => {
                let bytes = self.plan.adapter.message(text).ok_or(Refusal::TakesNoMessages);
                bytes.and_then(|bytes| child.write(bytes).map_err(refusal))?;
                (self.unanswered, self.interrupted, self.done_since) = (true, false, None);
                let text = self.context.redactor.redact(text).0.into_owned();
                self.notice(&format!("a person told it: {text}")).await;
                Ok(())
            }
            Request::Interrupt { .. } => {
                let bytes = self.plan.adapter.interrupt().ok_or(Refusal::KnowsNoInterrupt);
                bytes.and_then(|bytes| child.write(bytes).map_err(refusal))?;
                // Its input stays open: whoever interrupts has something to say.
                self.interrupted = true;
                self.notice("a person interrupted it; it waits for a message").await;
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
                    _ if *allow => Ruling::Allowed,
                    _ => Ruling::Refused,
                };
                self.reply(child, request, &open.reply(&ruling)).await;
                self.show_questions();
                self.tell_answer(request, &ruling).await;
                Ok(())
            }
        }
    }

    pub(super) fn show_questions(&self) {
        self.feed.set_questions(self.open.iter().map(Open::question).collect());
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
            Ruling::Allowed | Ruling::Refused => None,
        };
        let (agent, request) = (self.plan.agent.id, request.to_owned());
        let allowed = *ruling != Ruling::Refused;
        self.tell(None, Progress::Answered { agent, request, allowed, answer }).await;
    }

    /// Records a question for later, and refuses for now.
    pub(super) async fn defer(&mut self, child: &Child, open: Open) {
        let (request, is_question) = (open.request.clone(), !open.asks.is_empty());
        let (store, agent) = (self.context.store.clone(), self.plan.agent.clone());
        let record = move || record_question(&store, &agent.id, &agent.name, &open);
        let message = match tokio::task::spawn_blocking(record).await {
            Ok(Ok((decision, question))) => {
                self.decisions.push(decision);
                let agent = self.plan.agent.id;
                self.tell(None, Progress::Waiting { agent, decision, question }).await;
                let (to, will) = if is_question {
                    ("answer this", "will be answered")
                } else {
                    ("allow this", "may be allowed")
                };
                format!(
                    "Nobody is there to {to} right now. The question was recorded and {will} later. Do what you can \
                     without it, say what is left, and end."
                )
            }
            _ => "This is not allowed.".to_owned(),
        };
        self.reply(child, &request, &PermissionReply::Deny { message }).await;
    }

    /// Everybody who could answer went away.
    pub(super) async fn defer_all(&mut self, child: &Child) {
        for open in std::mem::take(&mut self.open) {
            self.defer(child, open).await;
        }
        self.show_questions();
    }
}

/// Why what was sent did not arrive.
const fn refusal(error: InputError) -> Refusal {
    match error {
        InputError::Closed => Refusal::Ending,
        InputError::Full => Refusal::DoesNotRead,
    }
}

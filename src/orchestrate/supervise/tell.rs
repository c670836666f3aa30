//! What a program that hears nothing while it runs is told: it hears that from another process of the same run, when
//! the one at work has ended. An interrupt ends that at once.

use super::Request;
use super::run::Live;
use crate::agent::priced;
use crate::model::{Event, EventKind, Outcome};
use crate::orchestrate::control::{Asked, Refusal};
use crate::orchestrate::evidence::TOLD;
use crate::orchestrate::status::Evidence;
use crate::process::Child;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// What a conversation is told that goes on, where nobody told it anything.
const GO_ON: &str = "Go on where you stopped.";

/// Why a process was ended whose run goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pause {
    /// Its model is over a limit.
    Limit,
    /// A person broke its turn off.
    Interrupt,
}

impl Live {
    /// Keeps words for its next process.
    pub(super) async fn keep_for_later(&mut self, text: &str) -> Result<(), Refusal> {
        if self.is_ended_for_good() {
            return Err(Refusal::Ending);
        }
        let when = if self.pause.is_some() { "" } else { " (it hears that when its turn is over)" };
        self.keep_words(text, when).await;
        Ok(())
    }

    pub(super) async fn keep_words(&mut self, text: &str, when: &str) {
        self.untold.push(text.to_owned());
        let text = self.context.redactor.redact(text).0.into_owned();
        self.notice(&format!("{TOLD}{text}{when}")).await;
    }

    /// Ends its process, and not its run.
    pub(super) async fn break_off(&mut self, child: &Child) -> Result<(), Refusal> {
        // One that said that it is done has no turn to break off.
        if self.is_ended_for_good() || self.overdue || self.done_since.is_some() {
            return Err(Refusal::Ending);
        }
        if self.pause.replace(Pause::Interrupt) != Some(Pause::Interrupt) {
            self.notice("a person interrupted it: its process is ended, and its conversation goes on").await;
            child.stop();
        }
        Ok(())
    }

    pub(super) const fn is_ended_for_good(&self) -> bool {
        self.stopped_by.is_some() || self.used_up.is_some() || self.refused.is_some()
    }

    /// Whether the run goes on with another process, now that one has ended. Makes ready for it.
    pub(super) async fn goes_on(&mut self, requests: &mut mpsc::Receiver<Asked>) -> bool {
        let (pause, served) = (self.pause.take(), self.throttle.served);
        let goes_on = self.is_parked(pause).await || self.is_told(pause, requests).await;
        if goes_on {
            self.make_ready(served);
        }
        goes_on
    }

    /// Whether something is to be said to it. One that was interrupted waits for that; if it is ended meanwhile, its
    /// outcome is set.
    async fn is_told(&mut self, pause: Option<Pause>, requests: &mut mpsc::Receiver<Asked>) -> bool {
        let told = match &self.outcome {
            Some(Outcome::Stopped { .. }) | None => false,
            _ if pause == Some(Pause::Interrupt) => {
                !self.untold.is_empty() || self.is_told_at_last(requests).await
            }
            Some(Outcome::Succeeded) => !self.untold.is_empty(),
            Some(_) => false,
        };
        if told && let Some(over) = self.meter.purse().used_up(&self.meter.spent()) {
            self.outcome = Some(Outcome::used_up(over));
            self.notice(&self.spent_words(&over)).await;
            return false;
        }
        told
    }

    /// Says so of words that no process of the run hears any more.
    pub(super) async fn tell_untold(&mut self) {
        if !self.untold.is_empty() {
            let name = &self.plan.agent.name;
            let text = format!(
                "it was not told any more what it was sent; `git orchestra resume {name} -m` tells it"
            );
            self.notice(&text).await;
        }
    }

    /// Waits for words, as one whose turn was broken off does, without a process. Whether there are any; if not, its
    /// outcome is set.
    async fn is_told_at_last(&mut self, requests: &mut mpsc::Receiver<Asked>) -> bool {
        let at = self.context.clock.now();
        self.tell_event(Event { at, parent: None, kind: EventKind::Interrupted {} }).await;
        // Nobody knows how long that takes.
        self.make_room();
        let since = Instant::now();
        let idle = self.plan.limits.idle.map(|span| since + span);
        loop {
            let now = Instant::now();
            if self.is_over() {
                return false;
            }
            if idle.is_some_and(|at| at <= now) {
                self.outcome = Some(Outcome::stopped("idle"));
                return false;
            }
            tokio::select! {
                () = sleep_until(now + super::park::LOOK) => {}
                asked = requests.recv() => {
                    let Some(asked) = asked else {
                        // Nobody can tell it anything any more.
                        self.outcome = Some(Outcome::stopped("interrupt"));
                        return false;
                    };
                    match &asked.request {
                        Request::Message { text, .. } => {
                            self.keep_words(text, "").await;
                            asked.answer(Ok(()));
                            self.take_place();
                            return true;
                        }
                        Request::Interrupt { .. } => asked.answer(Ok(())),
                        Request::Stop { .. } | Request::Kill { .. } => {
                            self.is_ended_by(asked).await;
                            return false;
                        }
                        Request::Note { text, .. } => {
                            self.notice(text).await;
                            asked.answer(Ok(()));
                        }
                        Request::Permission { .. } | Request::Decided { .. } => {
                            asked.answer(Err(Refusal::Answered));
                        }
                    }
                }
            }
        }
    }

    /// Makes ready for another process of the same run. A conversation in which the model said anything goes on; of one
    /// in which it did not, its program may know nothing.
    fn make_ready(&mut self, served: bool) {
        let used = self.decoder.usage();
        self.carried += used;
        self.meter.go_on();
        let launch = &mut self.plan.launch;
        launch.before += used;
        launch.budget = self.meter.left();
        let told = self.untold.join("\n\n");
        if served {
            launch.prompt = if told.is_empty() { GO_ON.to_owned() } else { told };
            launch.resume = true;
            launch.begun_by.get_or_insert(self.context.clock.now());
            if let Some(session) = &self.session {
                launch.session.clone_from(session);
            }
        } else {
            if !told.is_empty() {
                launch.add_words(&told);
            }
            if !launch.resume {
                launch.session = uuid::Uuid::new_v4().to_string();
            }
        }
        self.decoder = priced::decoder(&*self.plan.adapter, &self.plan.launch);
        (self.outcome, self.done_since, self.listens_until) = (None, None, None);
        (self.overdue, self.unanswered, self.interrupted) = (false, false, false);
        (self.evidence, self.told_silent) = (Evidence::default(), false);
        self.open.clear();
        self.show_questions();
    }
}

//! Where a supervisor's own tasks and those who talk to it from elsewhere meet.

use super::wire::{Answer, Question, Refusal};
use crate::model::{Id, Name};
use crate::orchestrate::supervise::{Progress, Request};
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

/// How many lines a viewer may be behind before it is told to look into the journal.
const BACKLOG: usize = 1024;

/// A request, and who wants to know what became of it.
#[derive(Debug)]
pub(in crate::orchestrate) struct Asked {
    pub(in crate::orchestrate) request: Request,
    /// Dropped unanswered, it means that the run is ending.
    pub(in crate::orchestrate) reply: Option<oneshot::Sender<Result<(), Refusal>>>,
}

impl From<Request> for Asked {
    fn from(request: Request) -> Self {
        Self { request, reply: None }
    }
}

impl Asked {
    /// Says what became of it.
    pub(in crate::orchestrate) fn answer(self, result: Result<(), Refusal>) {
        if let Some(reply) = self.reply {
            // Whoever asked went away.
            let _ = reply.send(result);
        }
    }
}

/// Everything that those who connect can find out and ask for.
#[derive(Debug)]
pub(in crate::orchestrate) struct Desk {
    asked: mpsc::Sender<Asked>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    feeds: HashMap<Id, Arc<Feed>>,
    unwanted: HashSet<Id>,
}

impl Desk {
    /// A desk, and what is asked there.
    pub(in crate::orchestrate) fn new() -> (Arc<Self>, mpsc::Receiver<Asked>) {
        let (asked, receiver) = mpsc::channel(64);
        (Arc::new(Self { asked, inner: Mutex::default() }), receiver)
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The feed of an agent's run, made if there is none.
    pub(in crate::orchestrate) fn enter(&self, agent: Id, name: &Name, run: u32) -> Arc<Feed> {
        Arc::clone(self.inner().feeds.entry(agent).or_insert_with(|| Arc::new(Feed::new(name.clone(), run))))
    }

    /// The feed of an agent that this session has.
    pub(in crate::orchestrate) fn find(&self, agent: &Id) -> Option<Arc<Feed>> {
        self.inner().feeds.get(agent).cloned()
    }

    /// Tells whoever looks at an agent's run that it is over.
    pub(in crate::orchestrate) fn leave(&self, agent: &Id, last: &Progress) {
        if let Some(feed) = self.inner().feeds.remove(agent) {
            feed.tell(None, last);
        }
    }

    /// Lets go of everybody who looks.
    pub(in crate::orchestrate) fn close(&self) {
        self.inner().feeds.clear();
    }

    /// Notes that an agent which was not started yet is not to be started.
    pub(in crate::orchestrate) fn unwant(&self, agent: Id) {
        self.inner().unwanted.insert(agent);
    }

    /// Whether an agent may be started.
    pub(in crate::orchestrate) fn is_wanted(&self, agent: &Id) -> bool {
        !self.inner().unwanted.contains(agent)
    }

    /// Whether a program waits for an answer.
    pub(in crate::orchestrate) fn is_asked(&self) -> bool {
        self.inner().feeds.values().any(|feed| feed.is_asked())
    }

    /// Asks the supervisor, and waits for what it says.
    pub(super) async fn ask(&self, request: Request) -> Result<(), Refusal> {
        let (reply, answer) = oneshot::channel();
        let asked = Asked { request, reply: Some(reply) };
        self.asked.send(asked).await.map_err(|_| Refusal::Ending)?;
        answer.await.unwrap_or(Err(Refusal::Ending))
    }
}

/// Asks a session of this process for things, as its console does.
#[derive(Debug, Clone)]
pub struct Asks(Arc<Desk>);

impl Asks {
    /// At this desk.
    pub(in crate::orchestrate) const fn at(desk: Arc<Desk>) -> Self {
        Self(desk)
    }

    /// Asks, and waits for what becomes of it.
    ///
    /// # Errors
    /// Why it was not done.
    pub async fn ask(&self, request: Request) -> Result<(), Refusal> {
        self.0.ask(request).await
    }
}

/// What one run says to those who look at it from elsewhere.
#[derive(Debug)]
pub(in crate::orchestrate) struct Feed {
    name: Name,
    run: u32,
    /// Made when somebody looks for the first time: its room for what they are behind takes 40 KiB.
    said: OnceLock<broadcast::Sender<Arc<[u8]>>>,
    /// How many of those who look can answer questions.
    askers: watch::Sender<usize>,
    questions: Mutex<Vec<Question>>,
}

impl Feed {
    fn new(name: Name, run: u32) -> Self {
        Self { name, run, said: OnceLock::new(), askers: watch::Sender::new(0), questions: Mutex::default() }
    }

    /// Tells something, with its number in the journal.
    pub(in crate::orchestrate) fn tell(&self, n: Option<u64>, progress: &Progress) {
        if let Some(said) = self.said.get().filter(|said| said.receiver_count() > 0) {
            let line = Answer::Told { n, progress: progress.clone() }.line();
            // The last one may have gone meanwhile.
            let _ = said.send(line.into());
        }
    }

    /// How many can answer questions, and when that changes.
    pub(in crate::orchestrate) fn askers(&self) -> watch::Receiver<usize> {
        self.askers.subscribe()
    }

    /// Says which questions wait for an answer.
    pub(in crate::orchestrate) fn set_questions(&self, questions: Vec<Question>) {
        let line = Answer::Asks { questions: questions.clone() }.line();
        *self.questions.lock().unwrap_or_else(PoisonError::into_inner) = questions;
        // With nobody looking it is kept for whoever comes.
        if let Some(said) = self.said.get() {
            let _ = said.send(line.into());
        }
    }

    fn is_asked(&self) -> bool {
        !self.questions.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// What is said from now on, and where things stand. Whatever the journal holds by the time that this returns is
    /// either in it or comes through the receiver, or both.
    pub(super) fn look(&self) -> (broadcast::Receiver<Arc<[u8]>>, Answer) {
        let said = self.said.get_or_init(|| broadcast::Sender::new(BACKLOG)).subscribe();
        let questions = self.questions.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (said, Answer::Attached { name: self.name.clone(), run: self.run, questions })
    }

    /// Counts one who can answer questions, as long as the value lives.
    pub(super) fn answering(self: &Arc<Self>) -> Answering {
        self.askers.send_modify(|askers| *askers += 1);
        Answering(Arc::clone(self))
    }
}

/// One who can answer questions.
#[derive(Debug)]
pub(super) struct Answering(Arc<Feed>);

impl Drop for Answering {
    fn drop(&mut self) {
        self.0.askers.send_modify(|askers| *askers = askers.saturating_sub(1));
    }
}

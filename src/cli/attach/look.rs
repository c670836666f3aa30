//! One run that somebody looks at: what its journal has, then what happens, each thing once.

use crate::git::Repository;
use crate::model::{Event, Id};
use crate::orchestrate::Error;
use crate::orchestrate::control::{Answer, Ask, Question, Refusal, Viewer};
use crate::orchestrate::lease::LeaseInfo;
use crate::orchestrate::supervise::Progress;
use crate::store::journal::{self, Entry, Tail};
use tokio::sync::mpsc;

/// How much of the end of a journal is read where not all of it is shown.
const END: u64 = 64 << 10;

/// What a look tells.
#[derive(Debug)]
pub(super) enum Seen {
    /// What was before anybody looked.
    Before {
        /// Events, oldest first.
        events: Vec<Event>,
        /// How many before them are left out.
        skipped: u64,
    },
    /// Something happened.
    Progress(Box<Progress>),
    /// These permission questions wait for an answer now.
    Asks(Vec<Question>),
    /// What was asked for was not done.
    Refused(Refusal),
    /// So many events are left out.
    Skipped(u64),
    /// Whoever watches the run hung up, with the reason if it never answered.
    Gone(Option<Error>),
}

/// How somebody looks.
#[derive(Debug, Clone, Copy)]
pub(super) struct How {
    /// Whether permission questions can be answered here.
    pub(super) answers: bool,
    /// Whether everything is told from the beginning; otherwise what one can read in time.
    pub(super) whole: bool,
}

/// Looks at the run of `lease` until it is over, and hands on what is asked for. What it tells goes to `seen`.
pub(super) async fn look(
    repo: Repository,
    lease: LeaseInfo,
    how: How,
    mut asks: mpsc::Receiver<Ask>,
    seen: mpsc::Sender<(Id, Seen)>,
) {
    let agent = lease.agent;
    let mut look = match Viewer::open(repo.clone(), &lease, how.answers).await {
        Ok(viewer) => {
            let tail = Tail::new(journal::path(&repo, &agent, viewer.run));
            Look { agent, how, tail, viewer, last: 0, seen }
        }
        Err(error) => {
            let _ = seen.send((agent, Seen::Gone(Some(error)))).await;
            return;
        }
    };
    let questions = look.viewer.questions.clone();
    let (events, skipped) = look.read();
    look.tell(Seen::Before { events, skipped }).await;
    look.tell(Seen::Asks(questions)).await;
    loop {
        let answer = tokio::select! {
            answer = look.viewer.next() => answer,
            Some(ask) = asks.recv() => {
                // If it does not arrive, the other side is gone: that is heard next.
                let _ = look.viewer.ask(&ask).await;
                continue;
            }
        };
        match answer {
            Some(answer) => look.heard(answer).await,
            None => return look.tell(Seen::Gone(None)).await,
        }
    }
}

struct Look {
    agent: Id,
    how: How,
    tail: Tail,
    viewer: Viewer,
    /// The number of the last entry of the journal that was told.
    last: u64,
    seen: mpsc::Sender<(Id, Seen)>,
}

impl Look {
    async fn tell(&self, seen: Seen) {
        // Nobody looks any more: then this ends, too.
        let _ = self.seen.send((self.agent, seen)).await;
    }

    /// What the journal has that was not told yet, and how many events of it are left out.
    fn read(&mut self) -> (Vec<Event>, u64) {
        let (whole, last, tail) = (self.how.whole, self.last, &mut self.tail);
        let mut skip = || if whole { Ok(0) } else { tail.skip(END, last) };
        // What cannot be read is not shown; what comes next is.
        let read = skip().and_then(|skipped| Ok((tail.read_numbered()?, skipped)));
        let (entries, skipped) = read.unwrap_or_else(|error| {
            tracing::warn!("{error}");
            (Vec::new(), 0)
        });
        let mut events = Vec::new();
        for (number, entry) in entries {
            if number > self.last {
                self.last = number;
                if let Entry::Event(event) = entry {
                    events.push(event);
                }
            }
        }
        (events, skipped)
    }

    async fn heard(&mut self, answer: Answer) {
        match answer {
            Answer::Told { n: Some(number), .. } if number <= self.last => {}
            Answer::Told { n, progress } => {
                self.last = n.unwrap_or(self.last);
                self.tell(Seen::Progress(Box::new(progress))).await;
            }
            Answer::Behind => {
                let (events, skipped) = self.read();
                self.tell(Seen::Skipped(skipped)).await;
                for event in events {
                    let progress = Progress::Event { agent: self.agent, event };
                    self.tell(Seen::Progress(Box::new(progress))).await;
                }
            }
            Answer::Asks { questions } => self.tell(Seen::Asks(questions)).await,
            Answer::Refused { why } => self.tell(Seen::Refused(why)).await,
            Answer::Done | Answer::Attached { .. } => {}
        }
    }
}

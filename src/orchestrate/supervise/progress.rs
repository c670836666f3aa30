//! What whoever shows runs is told: the only interface between running and showing.

use crate::model::{Event, Id, Name, ObjectId, Outcome, Usage};

/// One thing that happened to an agent. Texts are redacted, and not yet sanitised for a terminal.
#[derive(Debug, Clone)]
pub enum Progress {
    /// It waits for its turn.
    Queued {
        /// The agent.
        agent: Id,
        /// Its name.
        name: Name,
    },
    /// Its process runs.
    Started {
        /// The agent.
        agent: Id,
        /// The run.
        run: u32,
        /// The process.
        pid: u32,
    },
    /// It said or did something.
    Event {
        /// The agent.
        agent: Id,
        /// What.
        event: Event,
    },
    /// A permission question was recorded as a decision, and refused for now.
    Waiting {
        /// The agent.
        agent: Id,
        /// The decision.
        decision: Id,
        /// The question.
        question: String,
    },
    /// Something that the user should know.
    Notice {
        /// The agent that it concerns, if one.
        agent: Option<Id>,
        /// The words.
        text: String,
    },
    /// Its run is over and recorded.
    Finished(Box<Finished>),
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The agent.
    pub agent: Id,
    /// Its name.
    pub name: Name,
    /// The run.
    pub run: u32,
    /// How it ended; absent if it was never started.
    pub outcome: Option<Outcome>,
    /// Its branch's tip.
    pub tip: ObjectId,
    /// How many commits it made, the one that we made of its leftovers included.
    pub commits: usize,
    /// Whether uncommitted work was committed for it.
    pub leftovers: bool,
    /// Tokens and cost.
    pub usage: Usage,
    /// Questions that wait for a person.
    pub decisions: Vec<Id>,
    /// What went wrong while it was recorded, if something did.
    pub error: Option<String>,
}

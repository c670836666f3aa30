//! What may be asked of runs while they run.

use crate::model::Id;

/// A wish about one agent, or about all.
#[derive(Debug, Clone)]
pub enum Request {
    /// End it cleanly; with all, start nothing more.
    Stop {
        /// The agent; all if absent.
        agent: Option<Id>,
        /// Who or what asks: `interrupt`, `stop`.
        by: String,
    },
    /// End it now.
    Kill {
        /// The agent; all if absent.
        agent: Option<Id>,
        /// Who or what asks.
        by: String,
    },
    /// Tell it something.
    Message {
        /// The agent.
        agent: Id,
        /// The words.
        text: String,
    },
    /// Stop its current turn, and nothing else.
    Interrupt {
        /// The agent.
        agent: Id,
    },
    /// Answer its permission question.
    Permission {
        /// The agent.
        agent: Id,
        /// The question, as the event named it.
        request: String,
        /// Whether it may, this once.
        allow: bool,
        /// What is answered, if it asks something.
        answer: Option<String>,
    },
    /// Look at a decision that it waits for: it was answered.
    Decided {
        /// The agent.
        agent: Id,
        /// The decision.
        decision: Id,
    },
    /// Write down, and show, what was noticed of it.
    Note {
        /// The agent.
        agent: Id,
        /// The words.
        text: String,
    },
}

impl Request {
    /// The agent it concerns; `None` for all.
    pub const fn agent(&self) -> Option<&Id> {
        match self {
            Self::Stop { agent, .. } | Self::Kill { agent, .. } => agent.as_ref(),
            Self::Message { agent, .. }
            | Self::Interrupt { agent }
            | Self::Permission { agent, .. }
            | Self::Decided { agent, .. }
            | Self::Note { agent, .. } => Some(agent),
        }
    }
}

//! What is said at a control socket: plain data, one JSON document a line.

use crate::model::{Asked, Id, Name};
use crate::orchestrate::supervise::Progress;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The version of what is said; told in every line that asks.
const VERSION: u32 = 1;

/// What may be asked. An absent agent means all of the session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case")]
pub enum Ask {
    /// End it cleanly; one that waits for its turn will not start.
    Stop {
        /// The agent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<Id>,
        /// Whether to kill it instead.
        #[serde(default)]
        now: bool,
    },
    /// Tell it something.
    Message {
        /// The agent.
        agent: Id,
        /// The words.
        text: String,
    },
    /// Stop its current turn.
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
        /// Whether it may.
        allow: bool,
        /// What is answered, if it asks something.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<String>,
    },
    /// Look at a decision that it waits for. What was answered is read from the state, never from here.
    Decided {
        /// The agent.
        agent: Id,
        /// The decision.
        decision: Id,
    },
    /// Tell what it does from here on, on this connection.
    Attach {
        /// The agent.
        agent: Id,
        /// Whether permission questions can be answered here: as long as somebody can, they are not recorded as
        /// decisions.
        #[serde(default)]
        asks: bool,
    },
}

/// What is answered.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// It was handed on.
    Done,
    /// It was not.
    Refused {
        /// Why not.
        why: Refusal,
    },
    /// From here on this connection tells what the agent does.
    Attached {
        /// The agent's name.
        name: Name,
        /// The run; its journal has what went before.
        run: u32,
        /// Permission questions that wait for an answer, oldest first.
        questions: Vec<Question>,
    },
    /// Something happened.
    Told {
        /// Its number in the journal, if it is there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        n: Option<u64>,
        /// What.
        progress: Progress,
    },
    /// These permission questions wait for an answer now, oldest first.
    Asks {
        /// The questions.
        questions: Vec<Question>,
    },
    /// More happened than this connection could take: the journal has it.
    Behind,
}

/// A permission question that waits for an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The request's id, which the answer repeats.
    pub request: String,
    /// The tool.
    pub tool: String,
    /// What it would be called on.
    pub summary: String,
    /// What is asked, if it is no permission that it wants.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub asks: Vec<Asked>,
}

/// Why something asked was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum Refusal {
    /// The line was not understood.
    #[error("it does not understand what was asked; it may be of another version")]
    NotUnderstood,
    /// The session does not watch this agent.
    #[error("it is not watched there any more")]
    Unknown,
    /// It waits for its turn.
    #[error("it waits for its turn")]
    Queued,
    /// Its run is over, or about to be.
    #[error("its run is ending")]
    Ending,
    /// Its program takes no messages while it runs.
    #[error("its program takes no messages while it runs")]
    TakesNoMessages,
    /// Its program knows no way to stop a turn.
    #[error("its program knows no way to stop a turn")]
    KnowsNoInterrupt,
    /// It does not read what was sent before.
    #[error("it does not read what was sent to it before")]
    DoesNotRead,
    /// The question was answered, or never asked.
    #[error("the question was answered already")]
    Answered,
    /// An agent asks.
    #[error("agents do not stop, steer or answer agents: people do")]
    Agent,
}

#[derive(Serialize, Deserialize)]
struct Versioned<T> {
    v: u32,
    #[serde(flatten)]
    ask: T,
}

impl Ask {
    /// The line that asks it.
    pub(super) fn line(&self) -> Vec<u8> {
        line(&Versioned { v: VERSION, ask: self })
    }

    /// What a line asks, if it is one of this version.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        let read: Versioned<Self> = serde_json::from_slice(line).ok()?;
        (read.v == VERSION).then_some(read.ask)
    }
}

impl Answer {
    /// The line that says it.
    pub(super) fn line(&self) -> Vec<u8> {
        line(self)
    }

    /// What a line says, if that is known.
    pub(super) fn read(line: &[u8]) -> Option<Self> {
        parse(line)
    }
}

fn line<T: Serialize>(value: &T) -> Vec<u8> {
    let mut line = serde_json::to_vec(value).expect("what is said is plain data");
    line.push(b'\n');
    line
}

fn parse<T: DeserializeOwned>(line: &[u8]) -> Option<T> {
    serde_json::from_slice(line).ok()
}

//! What whoever shows runs is told: the only interface between running and showing.

use super::save::own_commits;
use crate::git::Repository;
use crate::model::{Agent, Event, Id, Name, ObjectId, Outcome, Usage};
use serde::{Deserialize, Serialize};

/// One thing that happened to an agent. Texts are redacted, and not yet sanitised for a terminal.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
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
    /// A question was recorded as a decision: it waits for the answer, or was refused for now.
    Waiting {
        /// The agent.
        agent: Id,
        /// The decision.
        decision: Id,
        /// The question.
        question: String,
    },
    /// Its permission question was answered, by whoever was first.
    Answered {
        /// The agent.
        agent: Id,
        /// The question, as the event named it.
        request: String,
        /// Whether it may.
        allowed: bool,
        /// What was answered, if it asked something.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        answer: Option<String>,
    },
    /// It has been silent for long, and nothing explains that; told once of each silence.
    Silent {
        /// The agent.
        agent: Id,
        /// For how long.
        silent_ms: u64,
    },
    /// Something that the user should know.
    Notice {
        /// The agent that it concerns, if one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        agent: Option<Id>,
        /// The words.
        text: String,
    },
    /// Its run is over and recorded.
    Finished(Box<Finished>),
}

/// How a run ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Finished {
    /// The agent.
    pub agent: Id,
    /// Its name.
    pub name: Name,
    /// The run.
    pub run: u32,
    /// How it ended; absent if it was never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decisions: Vec<Id>,
    /// What went wrong while its work was saved or recorded, if something did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Finished {
    /// How an agent's last run ended, by its record; `None` while it is not over. Whether work was committed for it the
    /// record does not say, and of commits that cannot be listed there are none.
    pub fn recorded(repo: &Repository, agent: &Agent) -> Option<Self> {
        let (run, last) = agent.last_run().filter(|(_, last)| last.ended.is_some())?;
        let before = agent.runs.range(..run).next_back().and_then(|(_, run)| run.tip.as_ref());
        let start = before.unwrap_or(&agent.base);
        let tip = last.tip.as_ref().unwrap_or(start);
        Some(Self {
            agent: agent.id,
            name: agent.name.clone(),
            run,
            outcome: last.outcome.clone(),
            tip: tip.clone(),
            commits: own_commits(repo, agent, start, tip).map_or(0, |commits| commits.len()),
            leftovers: false,
            usage: last.usage,
            decisions: Vec::new(),
            error: None,
        })
    }
}

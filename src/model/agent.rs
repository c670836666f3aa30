//! Agents and their runs.

use super::{Budget, ContextUse, Id, Name, ObjectId, Sandbox, Spending, Standing, Timestamp, Usage};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A worker with a name, a worktree, a branch and a conversation; made by `spawn`, ended by `remove`.
///
/// Whether it is running is never stored: that is the question whether its lease is alive on the machine that
/// started it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Agent {
    /// Its identity.
    pub id: Id,
    /// Its label: part of its branch and of its worktree's name.
    pub name: Name,
    /// The profile it was made from.
    pub profile: String,
    /// The program that the profile named: `claude`, `replay`, `command`.
    pub program: String,
    /// The task it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Id>,
    /// The step of a team that it is, if it was made for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<StepOf>,
    /// What it was told at first: the task as it was then, or the prompt given to `spawn -m`.
    #[serde(default)]
    pub prompt: String,
    /// Its branch, a full ref name.
    pub branch: String,
    /// The commit that its branch started from.
    pub base: ObjectId,
    /// The branch that `base` was the tip of, a full ref name: where its work is expected to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The machine (its actor) that made it.
    #[serde(default)]
    pub machine: String,
    /// The first run on that machine, if it was taken over from another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<u32>,
    /// The conversation's id in the program's own terms, chosen before the first start; some programs choose
    /// another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// What it may use over all its runs, where that was said of it and not of its profile.
    #[serde(default, skip_serializing_if = "Budget::is_empty")]
    pub budget: Budget,
    /// Every process life, by number from 1. Boxed, as a node of the map has room for eleven and most agents have one.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub runs: BTreeMap<u32, Box<Run>>,
    /// Set when the agent was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub removed: Option<Timestamp>,
    /// The commit of a merge that landed its work last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merged: Option<ObjectId>,
    /// When it was made.
    #[serde(default)]
    pub created: Timestamp,
}

/// A step of a team that works on a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepOf {
    /// The team's name.
    pub team: String,
    /// The step's name.
    pub step: String,
}

impl Agent {
    /// Whether it is of this machine; one whose record names none is.
    pub fn is_of(&self, machine: &str) -> bool {
        self.machine.is_empty() || self.machine == machine
    }

    /// The namespace of agents' branches.
    pub const BRANCHES: &str = "refs/heads/orchestra/";

    /// Whether its branch is one that `spawn` makes. What arrives from elsewhere may name any ref, and no ref of
    /// the user's is moved or deleted because of that.
    pub fn has_own_branch(&self) -> bool {
        self.branch.strip_prefix(Self::BRANCHES) == Some(self.name.as_str())
    }

    /// The last run, if there was one.
    pub fn last_run(&self) -> Option<(u32, &Run)> {
        self.runs.last_key_value().map(|(&number, run)| (number, &**run))
    }

    /// What its last run was confined by.
    pub fn sandbox(&self) -> Sandbox {
        self.last_run().and_then(|(_, run)| run.sandbox).unwrap_or_default()
    }

    /// What the runs of the present conversation consumed: those since it was taken over, if it was.
    pub fn usage_here(&self) -> Usage {
        self.runs.range(self.taken.unwrap_or(0)..).fold(Usage::default(), |mut sum, (_, run)| {
            sum += run.usage;
            sum
        })
    }

    /// What all runs that are over used of a budget.
    pub fn spending(&self) -> Spending {
        self.runs.values().fold(Spending::default(), |mut sum, run| {
            sum += run.spending();
            sum
        })
    }

    /// What all runs consumed together.
    pub fn usage(&self) -> Usage {
        self.runs.values().fold(Usage::default(), |mut sum, run| {
            sum += run.usage;
            sum
        })
    }
}

/// One process life of an agent, from start to exit.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Run {
    /// When the process was started.
    pub started: Timestamp,
    /// When it was over; absent while it runs, or when whoever watched it died.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<Timestamp>,
    /// What its program is confined by; absent in records of builds that confined none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<Sandbox>,
    /// How it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// The agent's branch tip at the end, uncommitted work included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tip: Option<ObjectId>,
    /// Tokens and cost.
    #[serde(default)]
    pub usage: Usage,
    /// How full the window of its model was at last, where the program told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<ContextUse>,
    /// The model that the program said it used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The conversation that the program said it is; absent while it confirmed none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The tree with the run's redacted transcript, reachable from the machine's log ref.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transcript: Option<ObjectId>,
}

impl Run {
    /// What it used of a budget, if it is over.
    pub fn spending(&self) -> Spending {
        let span = self.ended.map(|ended| ended.since(self.started)).unwrap_or_default();
        Spending { usage: self.usage, time_ms: u64::try_from(span.as_millis()).unwrap_or(u64::MAX) }
    }
}

/// How a run ended: from the exit status and the signals that we sent, never from what the stream claims.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Outcome {
    /// Exit 0, and no result that says error.
    Succeeded,
    /// The program failed.
    Failed {
        /// The reason in a few words: `exit 1`, `signal 9`, `api error 401`.
        reason: String,
    },
    /// We ended it, whatever it claimed while ending.
    Stopped {
        /// Who or what asked: `interrupt`, `deadline`, `max-cost`.
        by: String,
        /// What was used up, if a budget was.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        over: Option<Standing>,
    },
    /// Whoever watched it died, and it is not running any more.
    Lost,
}

impl Outcome {
    /// We ended it because `by` asked.
    pub fn stopped(by: impl Into<String>) -> Self {
        Self::Stopped { by: by.into(), over: None }
    }

    /// We ended it, or did not begin it, because a budget is used up.
    pub fn used_up(over: Standing) -> Self {
        Self::Stopped { by: over.key(), over: Some(over) }
    }

    /// The budget that was used up, if that is why it ended.
    pub const fn over(&self) -> Option<&Standing> {
        match self {
            Self::Stopped { over, .. } => over.as_ref(),
            _ => None,
        }
    }

    /// The word that listings show.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Succeeded => "done",
            Self::Failed { .. } => "failed",
            Self::Stopped { .. } => "stopped",
            Self::Lost => "lost",
        }
    }
}

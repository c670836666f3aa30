//! Pipelines: tasks from their agents to the branch that they land on, as one thing that can be gone on with.

use super::{Id, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One way of several tasks: agents, a merge with its gates, a push.
///
/// What is next follows from its tasks, their agents and merges; here is only what does not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipeline {
    /// Its identity.
    pub id: Id,
    /// What the settings call it; none for one that was put together on the command line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Where it stands.
    pub status: PipelineStatus,
    /// What is worked on.
    pub tasks: Vec<Id>,
    /// The profile of its agents, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// The team that works on each task, by name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub team: Option<String>,
    /// The branch that its work lands on, a full ref name; none for the one that its agents start from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// The remote that is sent what landed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub push: Option<String>,
    /// Agents with which nothing more is done here: merged, left out of a merge, or given up.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub settled: BTreeSet<Id>,
    /// Its last merge.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub merge: Option<Id>,
    /// What came of it, or why it stopped, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// When it was begun.
    #[serde(default)]
    pub created: Timestamp,
}

/// Where a pipeline stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PipelineStatus {
    /// Somebody goes on with it; left so by a process that died.
    Running,
    /// It waits for a person.
    Waiting,
    /// Everything that was to be done is.
    Done,
    /// Given up; what landed stays.
    Cancelled,
}

impl PipelineStatus {
    /// The word that listings show.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether it can still go on.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Waiting)
    }
}

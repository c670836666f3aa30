//! Tasks: what is wanted.

use super::{Id, Timestamp};
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;
use std::collections::BTreeSet;

/// What is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Task {
    /// Its identity.
    pub id: Id,
    /// One line.
    pub title: String,
    /// The description, Markdown by habit; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub body: String,
    /// Where it stands.
    #[serde(default)]
    pub status: TaskStatus,
    /// Higher is sooner; 0 unless said.
    #[serde(default)]
    pub priority: i64,
    /// Tasks that must be closed before this one is ready.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub after: BTreeSet<Id>,
    /// Globs of the paths that it is expected to change, relative to the repository's root.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub touches: BTreeSet<String>,
    /// Free labels.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub labels: BTreeSet<String>,
    /// The zone it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// The agent that works on it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assignee: Option<Id>,
    /// The machine (its actor) that claimed it from the queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holder: Option<String>,
    /// Counts its claims: of what two machines say about a task, the greater one's word counts.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub fence: u64,
    /// How it ended, in words: `merged as 1a2b3c4d`, or what the person who closed it said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
    /// When it was added.
    #[serde(default)]
    pub created: Timestamp,
    /// When its status last changed.
    #[serde(default)]
    pub changed: Timestamp,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands out references")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// Where a task stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TaskStatus {
    /// Wanted, and nobody works on it.
    #[default]
    Open,
    /// Claimed by an agent or started by a person.
    Started,
    /// Over: done, merged or given up, as `result` says.
    Closed,
}

impl TaskStatus {
    /// The word that listings and JSON show.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Started => "started",
            Self::Closed => "closed",
        }
    }
}

impl Task {
    /// Whether nothing holds it back: open, unclaimed, and every task it comes after is closed. A dependency that
    /// `status_of` does not know (deleted, not fetched) holds it back.
    pub fn is_ready(&self, status_of: impl Fn(&Id) -> Option<TaskStatus>) -> bool {
        self.status == TaskStatus::Open
            && self.assignee.is_none()
            && self.after.iter().all(|id| status_of(id) == Some(TaskStatus::Closed))
    }

    /// Whether a claim of it with this fence, of the machine `here`, is one that another machine took over since.
    pub fn is_ousted(&self, here: &str, fence: u64) -> bool {
        self.fence > fence && self.holder.as_deref() != Some(here)
    }

    /// What tasks are put in order by: higher priorities first, then older ones.
    pub const fn rank(&self) -> (Reverse<i64>, Timestamp, Id) {
        (Reverse(self.priority), self.created, self.id)
    }
}

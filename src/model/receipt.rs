//! Receipts: what became of every line that somebody brought to a merge.

use super::{Id, LineRange, Name, ObjectId};
use serde::{Deserialize, Serialize};

/// What became of every line that each agent, and the target itself, added or removed.
///
/// Worked out from trees alone: where the target was, the tips, and what landed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Receipt {
    /// One for each that brought something, in the order in which they were merged.
    pub accounts: Vec<Account>,
    /// The lines that are not there as they were brought: those that were dropped first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub losses: Vec<Loss>,
    /// How many losses are counted and not listed, because there are too many.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unlisted: u32,
}

/// One agent's lines, or the target's.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Account {
    /// The agent; absent for the target and for a branch without an agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Id>,
    /// Its name, or the branch.
    pub name: String,
    /// The lines that it added since its base.
    pub added: Fates,
    /// The lines that it removed since its base: kept if they stayed away.
    pub removed: Fates,
}

/// How many lines went which way. Binary files, links, submodules, empty files and execute bits count as one line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Fates {
    /// As it was brought.
    pub kept: u64,
    /// Somewhere else in what landed.
    pub moved: u64,
    /// Another agent or a decision put something else in its place.
    pub superseded: u64,
    /// Lost, and nothing says why.
    pub dropped: u64,
}

/// Lines that are not there as they were brought.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Loss {
    /// Whose, as its account says.
    pub name: String,
    /// The file that they were added to, or, if they were removed and are back, the file that has them.
    pub path: String,
    /// Which lines of it; a range from 0 is the file as a whole (binary, a link, its mode).
    pub lines: LineRange,
    /// Whether they were added and are gone, or were removed and are back.
    pub change: Brought,
    /// What took their place; absent if they were dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<By>,
    /// The merge commit of somebody's own, in a branch, that dropped them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub inside: Option<ObjectId>,
}

/// What was done to a line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Brought {
    /// It was added.
    Added,
    /// It was removed.
    Removed,
}

/// What took a line's place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum By {
    /// Another agent, whose branch builds on the line or whose change git merged over it.
    Agent {
        /// Which.
        id: Id,
        /// Its name.
        name: Name,
    },
    /// Whoever answered a decision about the file.
    Decision {
        /// Which.
        id: Id,
    },
    /// A line that is in none of the branches and much like it: the merge wrote it anew.
    Rewritten,
    /// git's own merge: a merge driver or attribute.
    Git,
}

impl Loss {
    /// `src/a.rs:4-6`.
    pub fn place(&self) -> String {
        let LineRange { start, len } = self.lines;
        match (start, len) {
            (0, _) => self.path.clone(),
            (_, 0 | 1) => format!("{}:{start}", self.path),
            _ => format!("{}:{start}-{}", self.path, start + len - 1),
        }
    }
}

impl Fates {
    /// All of them.
    pub const fn total(self) -> u64 {
        self.kept + self.moved + self.superseded + self.dropped
    }
}

impl Receipt {
    /// How many lines were lost, of agents and of the target, and nothing says why.
    pub fn dropped(&self) -> u64 {
        self.accounts.iter().map(|account| account.added.dropped + account.removed.dropped).sum()
    }

    /// Lines that are there as they were brought or elsewhere, and how many were brought. Not the target's.
    pub fn present(&self, target: &str) -> (u64, u64) {
        let of = self.accounts.iter().filter(|account| account.agent.is_some() || account.name != target);
        of.flat_map(|account| [account.added, account.removed])
            .fold((0, 0), |(there, all), fates| (there + fates.kept + fates.moved, all + fates.total()))
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
const fn is_zero(count: &u32) -> bool {
    *count == 0
}

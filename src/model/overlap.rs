//! Overlap: how much two branches touch the same places, and what merging them would really do.

use super::Id;
use serde::{Deserialize, Serialize};

/// A range of lines in the common base, from 1; `len` 0 is an insertion before `start`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LineRange {
    /// First line, from 1.
    pub start: u32,
    /// How many lines.
    pub len: u32,
}

impl LineRange {
    /// The line after its last one; of an insertion the line that it stands before.
    pub const fn end(self) -> u32 {
        self.start + self.len
    }

    /// Whether the two ranges share a line or touch at an edge, which is when git calls it a conflict.
    pub const fn touches(self, other: Self) -> bool {
        self.start <= other.end() && other.start <= self.end()
    }
}

/// One file that both branches of a pair changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileOverlap {
    /// The path that both know it by at the base (renames are followed).
    pub path: String,
    /// Lines of the base that both changed.
    pub lines: u32,
}

/// What merging would do, by `git merge-tree`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Forecast {
    /// git merges it without a person.
    Clean,
    /// git stops.
    Conflict {
        /// The paths that conflict.
        paths: Vec<String>,
        /// Those of them where the two have things of different kinds: a file and a directory, a file and a link.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        kinds_differ: Vec<String>,
    },
    /// The two have no history in common, and are not merged.
    Unrelated,
}

impl Forecast {
    /// Whether git would stop.
    pub const fn is_conflict(&self) -> bool {
        matches!(self, Self::Conflict { .. })
    }
}

/// Two branches, or one branch and the target, side by side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pair {
    /// One agent.
    pub a: Id,
    /// The other agent; absent for the target.
    pub b: Option<Id>,
    /// Files that both changed since their merge base.
    pub files: Vec<FileOverlap>,
    /// What merging would do.
    pub forecast: Forecast,
    /// Why it may not work all the same, of a pair that merges cleanly; only where that was asked for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub suspects: Vec<Suspect>,
}

/// Why what git merges may not work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Suspect {
    /// One took a definition away, or renamed it, and the other uses it in a line that it added.
    Gone {
        /// What is defined no more.
        name: String,
        /// Where it was, at the base.
        path: String,
        /// Who took it away; absent for the target.
        by: Option<Id>,
        /// The file that uses it, as the other has it.
        used_in: String,
        /// The line, from 1.
        line: u32,
    },
    /// Both edited lines of one function.
    SameFunction {
        /// The file, at the base.
        path: String,
        /// The line that begins it.
        function: String,
    },
    /// Both changed what says what the project is made of.
    Manifest {
        /// The file, at the base.
        path: String,
    },
}

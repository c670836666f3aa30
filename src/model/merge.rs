//! Merges: one integration of several branches into a target.

use super::{Id, Name, ObjectId, Receipt, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;

/// One integration of agents' branches into a target branch, with its plan and what became of each step.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Merge {
    /// Its identity.
    pub id: Id,
    /// The branch that will move, a full ref name.
    pub target: String,
    /// The target's tip when the merge was planned.
    pub target_tip: ObjectId,
    /// Where it stands.
    pub status: MergeStatus,
    /// The branches, in the order in which they are merged.
    pub steps: Vec<Step>,
    /// What the plan is worth beside the naive one.
    #[serde(default)]
    pub score: PlanScore,
    /// The accumulated commit: the target's tip with every merged step on top.
    pub head: ObjectId,
    /// The commit that the target was moved to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub landed: Option<ObjectId>,
    /// The merge of which this one is the rest: what came before it there has landed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follows: Option<Id>,
    /// What its gates said, in the order in which they did.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gates: Vec<GateRun>,
    /// Which agents were asked to mend a branch with which a gate failed, in the order in which they were.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mends: Vec<Mend>,
    /// What became of everybody's lines; of merges of older builds it is worked out when it is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub receipt: Option<Box<Receipt>>,
    /// When it was planned.
    #[serde(default)]
    pub created: Timestamp,
}

/// What a gate said to one commit.
///
/// It is data: what is run comes from the settings of whoever runs it, never from here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateRun {
    /// Its name.
    pub gate: String,
    /// The commit that it was run on.
    pub commit: ObjectId,
    /// What came of it.
    pub outcome: GateOutcome,
    /// How it failed: `exit code 1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Whether it failed first and passed when it was run again.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub flaky: bool,
    /// How often it was run.
    #[serde(default)]
    pub runs: u32,
    /// How long all of that took, in milliseconds.
    #[serde(default)]
    pub ms: u64,
    /// Where what it printed is, below `.git/orchestra` on the machine that ran it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<String>,
    /// The machine that ran it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub machine: String,
    /// The decision to land all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Id>,
    /// Who left it out, as `Name <email>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was over.
    #[serde(default)]
    pub at: Timestamp,
}

/// What came of a gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GateOutcome {
    /// It succeeded.
    Passed,
    /// It failed.
    Failed,
    /// It was ended because it took too long.
    TimedOut,
    /// It was not run because somebody said so.
    LeftOut,
}

impl GateOutcome {
    /// The word that listings show.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::TimedOut => "timed out",
            Self::LeftOut => "left out",
        }
    }
}

impl GateRun {
    /// Whether it failed, in whichever way.
    pub const fn is_failure(&self) -> bool {
        matches!(self.outcome, GateOutcome::Failed | GateOutcome::TimedOut)
    }
}

/// An agent's attempt to change what another one made so that a gate passes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mend {
    /// The agent with whose branch the gate failed.
    pub of: Id,
    /// The gate.
    pub gate: String,
    /// The commit on which it failed.
    pub commit: ObjectId,
    /// The agent that was asked.
    pub agent: Id,
    /// Its name, for people.
    pub name: Name,
    /// The decision that asked it.
    pub decision: Id,
    /// What came of it.
    pub outcome: MendOutcome,
    /// Why it is not taken: `its run failed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// When its run was over.
    #[serde(default)]
    pub at: Timestamp,
}

/// What came of an agent's attempt to mend a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MendOutcome {
    /// It is a step of the merge, and lands if the gates pass.
    Taken,
    /// It is not part of the merge, or not any more.
    Refused,
}

impl MendOutcome {
    /// The word that listings show.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Taken => "taken",
            Self::Refused => "not taken",
        }
    }
}

impl Merge {
    /// How many agents were asked to mend what an agent made, for a gate.
    pub fn mends_of(&self, agent: &Id, gate: &str) -> usize {
        self.mends.iter().filter(|mend| mend.of == *agent && mend.gate == gate).count()
    }
}

/// Where a merge stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum MergeStatus {
    /// Steps are being merged; left so by a process that died.
    Running,
    /// A decision is open.
    Waiting,
    /// The target was moved.
    Landed,
    /// Given up; nothing was moved.
    Aborted,
}

/// One branch of a merge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The agent whose branch it is.
    pub agent: Id,
    /// Its name, for people.
    pub name: Name,
    /// The task that it worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Id>,
    /// Agents of this merge whose steps come before, because of their tasks or because this branch contains theirs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub after: BTreeSet<Id>,
    /// The agent whose branch this one mends: it is no merge, but a commit right after that of its step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mends: Option<Id>,
    /// The commit that is merged.
    pub tip: ObjectId,
    /// What became of it.
    pub status: StepStatus,
    /// The accumulated commit after this step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<ObjectId>,
    /// Why it was left out, if nobody said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// How each conflicting path was resolved.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resolutions: Vec<Resolution>,
}

/// What became of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepStatus {
    /// Not merged yet.
    Pending,
    /// Merged without a conflict.
    Clean,
    /// Merged after its conflicts were resolved.
    Resolved,
    /// Nothing to merge: the target has it already.
    Empty,
    /// Left out by a decision; its branch is as it was.
    Skipped,
}

impl MergeStatus {
    /// The word that listings show.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Waiting => "waiting",
            Self::Landed => "landed",
            Self::Aborted => "aborted",
        }
    }

    /// Whether it can still go on.
    pub const fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Waiting)
    }
}

impl StepStatus {
    /// The word that listings show.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Clean => "clean",
            Self::Resolved => "resolved",
            Self::Empty => "empty",
            Self::Skipped => "skipped",
        }
    }

    /// Whether the accumulated commit has the branch.
    pub const fn is_merged(self) -> bool {
        matches!(self, Self::Clean | Self::Resolved | Self::Empty)
    }
}

/// How one conflicting path was resolved, and on whose word.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resolution {
    /// Relative to the repository's root.
    pub path: String,
    /// What was taken.
    pub side: Side,
    /// The decision that said so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Id>,
    /// Who decided, as `Name <email>` or the agent's name.
    pub by: String,
}

/// What a resolution took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Side {
    /// What had landed before this step.
    Ours,
    /// The agent's version.
    Theirs,
    /// The lines of both, what had landed first.
    Union,
    /// Each place of the file as it was answered.
    Places,
    /// A version that a person wrote in an editor.
    Edited,
    /// A version that an agent wrote.
    Agent,
    /// What was made of the same conflict before.
    Remembered,
    /// What a rule for files of this kind gives.
    Rule,
}

/// A plan's worth beside that of merging in the order given and stopping at the first conflict.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct PlanScore {
    /// Branches in the plan.
    pub branches: u32,
    /// Branches that merge before a person is needed.
    pub before_person: u32,
    /// Steps that conflict.
    pub conflict_steps: u32,
    /// Branches that would merge before a person is needed in the order given.
    pub naive_before_person: u32,
    /// Steps that would conflict in the order given.
    pub naive_conflict_steps: u32,
}

/// A path that `git merge-tree` could not merge, with the three versions it had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conflict {
    /// Relative to the repository's root.
    pub path: String,
    /// The version of the merge base, as mode and blob.
    pub base: Option<(u32, ObjectId)>,
    /// What had landed.
    pub ours: Option<(u32, ObjectId)>,
    /// The agent's.
    pub theirs: Option<(u32, ObjectId)>,
    /// git's words about it: `CONFLICT (content): Merge conflict in src/a.rs`.
    pub message: String,
}

//! How far a merge came, and what is worth saying on the way.

use super::conflict::ConflictStep;
use super::gate::GateFailure;
use super::ladder::NotLocked;
use super::land::Blocked;
use super::unfinished::Hold;
use crate::model::{Decision, GateRun, Merge, Name, ObjectId, Step};

/// How far a merge came.
#[derive(Debug)]
pub enum Progress {
    /// The target has moved.
    Landed(Merge),
    /// A decision is open.
    Waiting {
        /// The merge.
        merge: Merge,
        /// The question.
        decision: Decision,
        /// What it is about.
        conflict: Box<ConflictStep>,
    },
    /// An agent was chosen to resolve the conflict; its answers are not there yet.
    NeedsAgent {
        /// The merge.
        merge: Merge,
        /// The question, answered with `agent`.
        decision: Decision,
        /// What it is about.
        conflict: Box<ConflictStep>,
    },
    /// A gate fails, and a decision about that is open.
    GateFailed {
        /// The merge.
        merge: Merge,
        /// The question.
        decision: Decision,
        /// How it failed.
        failure: Box<GateFailure>,
    },
    /// An agent was chosen to mend what a gate fails with; its answer is not there yet.
    NeedsMender {
        /// The merge.
        merge: Merge,
        /// The question, answered with `agent`.
        decision: Decision,
    },
    /// A decision is open that is answered for a whole branch.
    Asks {
        /// The merge.
        merge: Merge,
        /// The question.
        decision: Decision,
    },
    /// Everything is merged, and the target's checkout is in the way.
    Blocked {
        /// The merge.
        merge: Merge,
        /// By what.
        blocked: Blocked,
    },
    /// What comes before a branch that somebody is needed for has landed; the rest is a merge of its own.
    Prefix {
        /// What landed.
        landed: Merge,
        /// What is left, to go on with.
        rest: Merge,
        /// Holds the rest.
        hold: Hold,
    },
    /// A decision gave the merge up.
    Aborted(Merge),
}

/// What is worth saying while a merge goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Remark {
    /// A step is done.
    Step(Step),
    /// An agent's branch moved since the merge was planned; it is merged as it is now.
    TipMoved(Name),
    /// What an agent left uncommitted since the merge was planned is committed, and merged with the rest.
    Committed(Name),
    /// What an agent has not committed is not in this merge.
    NotCommitted {
        /// The agent.
        name: Name,
        /// Why: `its worktree is on the branch mine`.
        why: String,
    },
    /// The target moved since the merge was planned; everything is merged again onto what it is now.
    TargetMoved {
        /// The branch.
        target: String,
        /// Where it is now.
        tip: ObjectId,
    },
    /// What an agent made of a conflict is not taken: what it left out.
    Refused(String),
    /// What was answered to a conflict is no answer to it, and it is asked again: why.
    NotTaken(String),
    /// What an agent changed so that a gate passes is not taken.
    NotMended {
        /// The agent.
        name: Name,
        /// Why: `it left out src/a.rs:4 of grey-fox`.
        why: String,
    },
    /// These branches are merged after all others: somebody has to look at what they make run by itself.
    PutLast(Vec<Name>),
    /// The accumulated commit is not in this repository; it is made again.
    Rebuilt,
    /// The lock file at this path is written again by its own program.
    Locking(String),
    /// A lock file that conflicts was not.
    NotLocked(NotLocked),
    /// Something is done that may take a while.
    Busy(&'static str),
    /// A gate is run.
    Gating {
        /// Its name.
        gate: String,
        /// How many branches were merged into what it is run on.
        branches: usize,
        /// The how-manieth time it is run on that.
        run: u32,
    },
    /// A gate has said something.
    Gated {
        /// What.
        run: GateRun,
        /// How many branches were merged into what it was run on.
        branches: usize,
    },
}

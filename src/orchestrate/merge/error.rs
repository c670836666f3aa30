//! Why a merge could not be planned, answered or landed.

use crate::model::{Id, MergeStatus, Name};
use crate::{git, store};

/// What can go wrong with a merge. None of these has moved the target.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The state could not be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// git failed.
    #[error(transparent)]
    Git(#[from] git::Error),
    /// What comes before a merge failed.
    #[error(transparent)]
    Before(#[from] Box<crate::orchestrate::Error>),
    /// The target is no branch.
    #[error("merge into `{0}`: there is no such branch")]
    NoTarget(String),
    /// Nothing says where to.
    #[error("choose the branch to merge into: {0}")]
    ManyTargets(String),
    /// Agents that were named are at work.
    #[error("merge {}: still running", join(.0))]
    Running(Vec<Name>),
    /// An agent that was named only ever resolves a conflict.
    #[error("merge {0}: it was made to resolve a conflict, and its branch starts from one")]
    Resolver(Name),
    /// An agent that was named has no branch.
    #[error("merge {name}: its branch {branch} is gone")]
    NoBranch {
        /// The agent.
        name: Name,
        /// Its branch.
        branch: String,
    },
    /// The work of an agent that was named is on another machine.
    #[error("merge {name}: its work is on machine {machine}, and no branch here has it")]
    OnOtherMachine {
        /// The agent.
        name: Name,
        /// The machine.
        machine: String,
        /// The command that brings it, if it was pushed.
        comes: Option<String>,
    },
    /// A branch has no history in common with the target.
    #[error("merge {name}: its branch shares no history with {target}")]
    Unrelated {
        /// The agent.
        name: Name,
        /// The target.
        target: String,
    },
    /// What an agent left uncommitted could not be committed onto its branch.
    #[error("merge {name}: {place}, with uncommitted work, which is kept as {rescue}")]
    Leftover {
        /// The agent.
        name: Name,
        /// Where its worktree is, as a sentence without its end.
        place: String,
        /// The ref that keeps the work.
        rescue: String,
    },
    /// Another merge into the same branch is not over.
    #[error("merge into {target}: merge {id} is {} there", .status.word())]
    OpenAlready {
        /// That merge.
        id: Id,
        /// Where it stands.
        status: MergeStatus,
        /// The target.
        target: String,
    },
    /// The merge is over.
    #[error("go on with merge {id}: it is {}", .status.word())]
    NotOpen {
        /// The merge.
        id: Id,
        /// Where it stands.
        status: MergeStatus,
    },
    /// Somebody else went on with the merge meanwhile.
    #[error("go on with merge {0}: another process did so meanwhile")]
    MovedOn(Id),
    /// Another process of this clone goes on with the merge.
    #[error("go on with merge {0}: another process is at it")]
    AtWork(Id),
    /// Nobody waits for a gate any more.
    #[error("go on with merge {0}: it was interrupted")]
    Interrupted(Id),
    /// The target moved each time that the merge was about to land.
    #[error("land on {0}: it moved again and again")]
    Restless(String),
    /// The commits of a merge are not in this repository.
    #[error("verify merge {0}: its commits are not in this clone")]
    Elsewhere(Id),
    /// A merge cannot go on here: commits that are merged are not in this repository.
    #[error("go on with merge {id}: the work of {} is not in this clone", join(names))]
    Lacking {
        /// The merge.
        id: Id,
        /// Whose commits are missing.
        names: Vec<Name>,
        /// Their branches, full ref names.
        branches: Vec<String>,
    },
    /// A branch that was not merged, or not all of it.
    #[error("verify {name}: {target} does not contain its branch")]
    NotThere {
        /// The agent.
        name: Name,
        /// The target.
        target: String,
    },
    /// Neither git nor the program that signs made a signature.
    #[error("sign the answer")]
    Sign(#[source] crate::git::Error),
    /// An answer that does not fit its question.
    #[error("answer {id}: {why}")]
    Answer {
        /// The decision.
        id: Id,
        /// What is wrong, as a sentence without its end.
        why: String,
    },
}

impl From<crate::orchestrate::Error> for Error {
    fn from(error: crate::orchestrate::Error) -> Self {
        Self::Before(Box::new(error))
    }
}

fn join(names: &[Name]) -> String {
    names.iter().map(Name::as_str).collect::<Vec<_>>().join(", ")
}

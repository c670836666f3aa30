//! Merging agents' branches into a target: planned, resumable, and invisible to every checkout until it lands.
//!
//! [`select`](select()) says whose work and where to, [`plan`](plan()) in which order and with what result, [`start`]
//! records it, [`advance`] goes on until it has landed or needs a person, [`answer`] records what a person said,
//! [`abort`] gives up, and [`find_unfinished`] finds what a process that died left. Everything between them lives in the merge entity and its decisions, so any process on
//! any clone can go on, also after a kill at any moment.
//!
//! `git merge-tree` decides what is a conflict; commits are made in the object database. One compare-and-swap at
//! the end moves the target. Nothing here prints or asks.

mod advance;
mod align;
mod answer;
mod carry;
mod conflict;
mod digest;
mod error;
mod executable;
pub mod gate;
mod gone;
mod graph;
mod ladder;
mod land;
mod leftovers;
mod mend;
mod owners;
mod places;
mod plan;
mod prefix;
mod progress;
mod proof;
mod receipt;
mod relock;
mod resolve;
mod resolver;
mod select;
mod step;
#[cfg(test)]
mod tests;
mod unfinished;

pub use advance::{abort, advance, find_open, start};
pub use answer::{Answered, On, answer, pending_conflict, reopen};
pub use conflict::{ConflictFile, ConflictStep, Part, Party};
pub use error::Error;
pub use executable::EXECUTABLES;
pub use gate::{Gate, GateFailure, Gating, Trial};
pub use gone::{Gone, gone};
pub use ladder::{LockTools, NotLocked, Rules, lock_files_left_behind, mend_lock_files};
pub use land::Blocked;
pub use leftovers::{commit_uncommitted, leave_out_unmergeable, unmergeable, with_uncommitted};
pub use mend::{MendAnswer, claim_mender, take_mend};
pub use owners::Owned;
pub use plan::{Plan, name_suspects, plan};
pub use progress::{Progress, Remark};
pub(super) use proof::whole_proof;
pub use proof::{Proof, Proven, merge_proofs, proofs};
pub use receipt::{ByHand, Check, by_hand, check, receipt};
pub use resolver::{AgentAnswer, claim_resolver, take_answer};
pub(super) use select::unfinished as ended_badly;
pub use select::{Candidate, LeftOut, Request, Selection, select};
pub use unfinished::{Hold, Unfinished, find_unfinished, hold};

use crate::git::Repository;
use crate::model::{Id, Merge, ObjectId};

/// The ref that keeps a merge's accumulated commit from being pruned until it has landed.
fn keep_ref(merge: &Id) -> String {
    format!("refs/orchestra/merges/{merge}")
}

/// A branch as people write it.
pub fn short_branch(full: &str) -> &str {
    full.strip_prefix("refs/heads/").unwrap_or(full)
}

/// What giving a merge up means, for whoever is asked.
const fn abort_label(merge: &Merge) -> &'static str {
    match merge.follows {
        Some(_) => "give up the rest of the merge; what has landed stays",
        None => "give up the merge; nothing has moved",
    }
}

/// The objects that `head` brings beside what `known` commits have: to be synced before a ref names it.
fn new_objects(repo: &Repository, head: &ObjectId, known: &[&ObjectId]) -> Result<Vec<ObjectId>, Error> {
    Ok(repo.new_objects(head, known)?)
}

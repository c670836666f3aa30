//! The use cases: spawn, supervise, overlap, merge, sync.

mod apply;
pub mod archive;
pub mod base;
pub mod branch;
pub mod breaker;
pub mod budget;
pub mod claim;
pub mod collision;
pub mod control;
pub mod cost;
mod cut;
pub mod doctor;
mod environment;
mod error;
mod evidence;
pub mod fleet;
pub mod foresee;
mod handover;
mod heartbeat;
pub mod hold;
pub mod insider;
pub mod lease;
pub mod maintain;
pub mod measure;
pub mod meeting;
pub mod merge;
pub mod outgoing;
pub mod overlap;
pub mod pipeline;
mod prepare;
pub mod probe;
pub mod prune;
mod pulse;
mod radar;
mod recover;
mod removal;
mod remove;
mod rescue;
mod resume;
mod running;
mod said;
mod sandbox;
mod session;
mod slots;
mod snapshot;
mod spawn;
#[cfg(test)]
mod spawn_tests;
pub mod status;
pub mod supervise;
pub mod sync;
pub mod take;
pub mod team;
#[cfg(test)]
mod testing;
mod title;
pub mod touched;
pub mod trust;
mod uncommitted;
mod undo;
pub mod worker;

pub use apply::{Applied, ApplyRequest, apply};
pub use cut::{CutDone, CutPlan, cut, has_exchanged, plan_cut};
pub use environment::environment;
pub use error::Error;
pub use handover::{Handed, Handover, Taken, hand_over, report, take_over};
pub use prepare::{Hook, Provision, tear_down};
pub use prune::make_room;
pub use pulse::Pulse;
pub use recover::{Fault, RecoverOptions, Recovered, recover, recover_all};
pub use remove::{RemoveOptions, Removed, remove};
pub use rescue::{Aside, kept_aside, next_rescue_ref};
pub use resume::{doubted_answers, resume};
pub use sandbox::Sandboxing;
pub use session::{Claim, Outfit, Surroundings, default_worktree_root, run_claims};
pub use slots::Slot;
pub use spawn::{Base, SpawnRequest, Spawned, StepRequest, check_tasks, spawn};
pub use undo::{Plan as UndoPlan, Step as UndoStep, Undone, find_last, undo};

/// An agent that is in no state, for tests.
#[cfg(test)]
pub(crate) fn testing_agent(name: &str) -> crate::model::Agent {
    crate::model::Agent {
        id: crate::model::Id::from_random(u128::from(crc32fast::hash(name.as_bytes()))),
        name: name.parse().expect("a name"),
        profile: "command".to_owned(),
        program: "command".to_owned(),
        task: None,
        step: None,
        prompt: String::new(),
        branch: format!("refs/heads/orchestra/{name}"),
        base: "0".repeat(40).parse().expect("an id"),
        target: None,
        machine: String::new(),
        taken: None,
        session: None,
        budget: crate::model::Budget::default(),
        runs: std::collections::BTreeMap::new(),
        removed: None,
        merged: None,
        created: crate::model::Timestamp(0),
    }
}

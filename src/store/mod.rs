//! State as refs and notes: no terminal, no processes of its own.
//!
//! All current state is one tree of canonical JSON under `refs/orchestra/state`; every change is one commit with
//! an `Orchestra-Op:` trailer per operation, so the chain is the operation log. [`State`] reads, [`Store::transact`]
//! writes, [`journal`] keeps what a run says while it runs.

mod absorb;
mod archive;
#[cfg(test)]
mod archive_tests;
mod begin;
mod cache;
mod care;
mod claim;
#[cfg(test)]
mod converge_tests;
mod entity;
mod epoch;
#[cfg(test)]
mod epoch_tests;
mod error;
#[cfg(test)]
mod fixtures_tests;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
mod history;
mod home;
pub mod journal;
mod layout;
mod local;
mod merge;
#[cfg(test)]
mod merge_tests;
mod operation;
mod pending;
#[cfg(test)]
mod pending_tests;
mod publish;
mod record;
mod revert;
mod stamp;
mod state;
mod tip;
mod trail;
mod transaction;
mod verify;

pub use absorb::{Absorbed, Incoming, Quarantined};
pub use claim::{
    CLAIM_REFS, ClaimRecord, Heartbeat, LiveAgent, MACHINE_REFS, Over, OverOutcome, SAID_REFS, SNAPSHOT_REFS,
};
pub use entity::{Entity, Field};
pub use epoch::{Cut, EPOCH_REFS, OldEpoch};
pub use error::Error;
pub use history::{EntityChange, FieldChange, Logged, Side};
pub use home::Copied;
pub use layout::{FINDINGS_NOTES, LOG_REFS, PROVENANCE_NOTES, RESCUE_REFS, STATE_REF, log_ref};
pub use operation::{HandedOperation, Operation, RefMove};
pub use record::{Deleted, Record};
pub use revert::{Overtaken, Reversal, Reverted};
pub use stamp::Stamp;
pub use state::{Found, ShortIds, State};
pub use trail::{Step, StepKind, Trail};
pub use transaction::{Committed, Transaction};
pub use verify::Verified;

use crate::git::{Identity, Repository};
use crate::model::{Agent, Answer, Id};
use crate::process::Clock;
use sha2::{Digest, Sha256};
use std::borrow::Cow;
use std::sync::Arc;

/// The state of one repository, open for reading and writing. Cheap to clone; clone one for each thread.
#[derive(Debug, Clone)]
pub struct Store {
    repo: Repository,
    clock: Arc<dyn Clock>,
    author: Identity,
    operation: Option<Operation>,
    left_out: state::LeftOut,
    cleaner: Option<Cleaner>,
}

type Clean = dyn Fn(&str) -> Option<String> + Send + Sync;

/// What takes out of people's and agents' words what must not be stored.
#[derive(Clone)]
pub struct Cleaner(Arc<Clean>);

impl std::fmt::Debug for Cleaner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Cleaner")
    }
}

impl Cleaner {
    /// From a function that returns the text without it, and nothing if it may stay as it is.
    pub fn new(clean: impl Fn(&str) -> Option<String> + Send + Sync + 'static) -> Self {
        Self(Arc::new(clean))
    }

    fn clean(&self, text: &str) -> Option<String> {
        (self.0)(text)
    }
}

impl Store {
    /// Opens the state of `repo` for `author`, who is written into every commit. Touches nothing.
    pub fn open(repo: Repository, clock: Arc<dyn Clock>, author: Identity) -> Self {
        Self { repo, clock, author, operation: None, left_out: state::LeftOut::default(), cleaner: None }
    }

    /// The repository.
    pub const fn repo(&self) -> &Repository {
        &self.repo
    }

    /// The clock.
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    /// Who writes.
    pub const fn author(&self) -> &Identity {
        &self.author
    }

    /// The same state, written to by somebody else: an agent.
    #[must_use]
    pub fn with_author(&self, author: Identity) -> Self {
        Self { author, ..self.clone() }
    }

    /// `text` as it may be stored: without what is cleaned away.
    pub fn cleaned<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let clean = self.cleaner.as_ref().and_then(|cleaner| cleaner.clean(text));
        clean.map_or(Cow::Borrowed(text), Cow::Owned)
    }

    /// The same state, with all texts, notes and subjects that are written to it cleaned first.
    #[must_use]
    pub fn with_cleaner(&self, cleaner: Cleaner) -> Self {
        Self { cleaner: Some(cleaner), ..self.clone() }
    }

    /// The same state, written to as part of `operation`. Without one, each change is an operation of its own.
    #[must_use]
    pub fn with_operation(&self, operation: Operation) -> Self {
        Self { operation: Some(operation), ..self.clone() }
    }

    /// The operation that changes made here belong to.
    pub const fn operation(&self) -> Option<&Operation> {
        self.operation.as_ref()
    }

    /// The state as it is now; what happens later does not show in it. A repository without state is empty.
    pub fn state(&self) -> Result<State, Error> {
        Ok(State::load(&self.repo)?.saying(Arc::clone(&self.left_out)))
    }

    /// The paths of records that could not be read and were left out of lists, here and in clones of this, with what
    /// is wrong with each.
    pub fn left_out(&self) -> Vec<(String, String)> {
        let left_out = self.left_out.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        left_out.iter().map(|(path, why)| (path.clone(), why.clone())).collect()
    }

    /// The state as it was, or as another machine has it: at a commit that is in the repository.
    pub fn state_at(&self, commit: &crate::model::ObjectId) -> Result<State, Error> {
        State::at(&self.repo, Some(commit.clone()))
    }

    /// Whether the repository has state at all.
    pub fn is_initialised(&self) -> Result<bool, Error> {
        Ok(self.repo.find_ref(STATE_REF)?.is_some())
    }

    /// Keeps that an answer is given in this clone. To be called before it is recorded.
    pub fn remember_answer(&self, decision: &Id, answer: &Answer) -> Result<(), Error> {
        local::remember_word(&self.repo, &answer_word(decision, answer))
    }

    /// Whether an answer was given in this clone: what the state says of that others may have written.
    pub fn gave_answer(&self, decision: &Id, answer: &Answer) -> Result<bool, Error> {
        local::knows_word(&self.repo, &answer_word(decision, answer))
    }

    /// A new identity.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn new_id(&self) -> Result<Id, Error> {
        local::random_u128().map(Id::from_random)
    }

    /// The name of this clone among all that share the state: the actor of its stamps. Made on first use.
    pub fn machine(&self) -> Result<String, Error> {
        local::machine(&self.repo)
    }

    /// The machine that `agent` is of, if it is another one than this clone. Names no clone that has no name yet.
    pub fn find_elsewhere<'a>(&self, agent: &'a Agent) -> Result<Option<&'a str>, Error> {
        let machine = Some(agent.machine.as_str()).filter(|machine| local::is_machine(machine));
        let Some(machine) = machine else { return Ok(None) };
        Ok((local::find_machine(&self.repo)?.as_deref() != Some(machine)).then_some(machine))
    }
}

/// What an answer is known by here: its decision, and a digest of all that it says.
fn answer_word(decision: &Id, answer: &Answer) -> String {
    let said = serde_json::to_vec(answer).expect("answers are plain data");
    format!("{decision} {:x}", Sha256::digest(said))
}

#[cfg(test)]
mod tests;

//! The queue that machines share: who may work on which task.
//!
//! A claim is a ref on the remote, `refs/orchestra/claims/<task>`, that one push makes and nobody else can make as
//! well. What the push answers is not believed: the refs are read back, and the claim is ours if our own commit is
//! there, whatever became of the answer. Only then does the state here say so. Without a remote the state here is the
//! whole queue. Nothing is decided by the time that another machine wrote.

mod attempt;
mod choose;
mod finish;
mod look;
mod order;
mod reserve;
mod settle;

pub use attempt::{Claimed, Purpose, Terms};
pub use finish::{Finish, Published};
pub use look::View;
pub(super) use order::ready_tasks;
pub use reserve::Reserved;
pub use settle::Settled;

use super::Error;
use super::sync::{Remote, jittered};
use crate::git::{self, Expected, LeasedSpec, PushAnswer, RefEdit, Trouble};
use crate::model::{Id, ObjectId};
use crate::process::FileLock;
use crate::store::{CLAIM_REFS, MACHINE_REFS, Store};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

/// How often a step that needs the network is tried.
const TRIES: u32 = 5;

/// The queue of one clone: over a remote, or in the state here alone.
#[derive(Debug)]
pub struct Queue {
    store: Store,
    remote: Option<Remote>,
    ttl: Duration,
    pushes: Cell<u32>,
    /// How long the last look at the remote took.
    round: Cell<Duration>,
    /// Set when a remote does not let heartbeats replace each other: then each follows the last one.
    chained: Cell<bool>,
    said: RefCell<Vec<String>>,
    /// Why the state of the remote was not merged, as it was said last.
    unmerged: RefCell<Option<String>>,
    /// What goes with the next push.
    extra: RefCell<Vec<LeasedSpec>>,
    /// Tasks that agents of this process work on.
    kept: RefCell<BTreeSet<Id>>,
}

impl Queue {
    /// A queue over `remote`; `ttl` is after which silence others may take over what agents here work on.
    pub const fn new(store: Store, remote: Option<Remote>, ttl: Duration) -> Self {
        Self {
            store,
            remote,
            ttl,
            pushes: Cell::new(0),
            round: Cell::new(Duration::ZERO),
            chained: Cell::new(false),
            said: RefCell::new(Vec::new()),
            unmerged: RefCell::new(None),
            extra: RefCell::new(Vec::new()),
            kept: RefCell::new(BTreeSet::new()),
        }
    }

    /// The remote; `None` if the state here is the whole queue.
    pub const fn remote(&self) -> Option<&Remote> {
        self.remote.as_ref()
    }

    /// The state.
    pub const fn store(&self) -> &Store {
        &self.store
    }

    /// How many pushes it took so far.
    pub const fn pushes(&self) -> u32 {
        self.pushes.get()
    }

    /// What the user should know of what happened since this was asked last.
    pub fn take_said(&self) -> Vec<String> {
        self.said.take()
    }

    /// Lets the claims of these tasks have a time to live: agents of this process work on them.
    pub(in crate::orchestrate) fn keep(&self, tasks: BTreeSet<Id>) {
        self.kept.replace(tasks);
    }

    /// What this clone holds or held and did not let go of yet: the task or agent, and the claim's commit.
    pub fn held(&self) -> Result<Vec<(Id, ObjectId)>, Error> {
        let refs = self.store.repo().list_refs(CLAIM_REFS)?;
        Ok(refs
            .into_iter()
            .filter_map(|(name, id)| Some((name.strip_prefix(CLAIM_REFS)?.parse().ok()?, id)))
            .collect())
    }

    /// One process of a clone at a time speaks about claims.
    fn lock(&self) -> Result<FileLock, Error> {
        let dir = self.store.repo().local_dir();
        // Asking for the machine's name makes the directory.
        self.store.machine()?;
        let path = dir.join("claims.lock");
        FileLock::wait(&path).map_err(|e| Error::file("lock", path, e))
    }

    fn push(&self, specs: &[LeasedSpec], atomic: bool) -> Result<Vec<PushAnswer>, Error> {
        let Some(remote) = &self.remote else { return Ok(Vec::new()) };
        self.pushes.set(self.pushes.get() + 1);
        let answers = self.store.repo().push_leased(&remote.name, specs, atomic, remote.deadline)?;
        let heartbeats = remote.there(MACHINE_REFS);
        for (spec, answer) in specs.iter().zip(&answers) {
            if spec.name.starts_with(&heartbeats) && !matches!(answer, PushAnswer::Landed | PushAnswer::Same)
            {
                self.chained.set(true);
            }
        }
        Ok(answers)
    }

    /// Claims that were about to be pushed: what a killed process leaves of it may be on the remote.
    fn pending_path(&self) -> PathBuf {
        self.store.repo().local_dir().join("claiming.json")
    }

    fn write_pending(&self, pending: &[(Id, ObjectId)]) -> Result<(), Error> {
        let path = self.pending_path();
        if pending.is_empty() {
            return match std::fs::remove_file(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", path, e)),
                _ => Ok(()),
            };
        }
        let bytes = serde_json::to_vec(pending).map_err(|e| Error::file("write", &path, e.into()))?;
        let temporary = path.with_extension("tmp");
        std::fs::write(&temporary, bytes).map_err(|e| Error::file("write", &temporary, e))?;
        std::fs::rename(&temporary, &path).map_err(|e| Error::file("write", path, e))
    }

    fn read_pending(&self) -> Result<Vec<(Id, ObjectId)>, Error> {
        let path = self.pending_path();
        match std::fs::read(&path) {
            // What was not written whole was not pushed either.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).unwrap_or_default()),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(e) => Err(Error::file("read", path, e)),
        }
    }
}

/// The move of our own note of a claim.
fn note_of(of: &Id, commit: Option<&ObjectId>) -> RefEdit {
    RefEdit { name: format!("{CLAIM_REFS}{of}"), new: commit.cloned(), expected: Expected::Anything }
}

/// Tries a step that needs the network again, after waits that grow and of which each machine takes another part.
/// What is wrong for good stays wrong.
fn retrying<T>(store: &Store, mut step: impl FnMut() -> Result<T, Error>) -> Result<T, Error> {
    let mut attempt = 0;
    loop {
        attempt += 1;
        match step() {
            Err(
                error @ Error::Git(
                    git::Error::Command(_) | git::Error::Remote { trouble: Trouble::Reach, .. },
                ),
            ) if attempt < TRIES => {
                tracing::debug!("again: {error}");
                std::thread::sleep(jittered(store, attempt)?);
            }
            other => return other,
        }
    }
}

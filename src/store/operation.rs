//! Operations: what one command did, as the commits of the state tell it.
//!
//! A command makes one or several commits. Each carries an `Orchestra-Operation:` trailer with the same id, what the
//! command was (its name and the ids it was given, never free text) and which part of the operation the commit is;
//! `Orchestra-Ref:` trailers say which other refs moved in the same instant. Plain data: nothing here reads or writes.

use super::{Error, local};
use crate::model::{Id, ObjectId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// The trailer that says which operation a commit belongs to.
pub(super) const OPERATION: &str = "Orchestra-Operation";
/// The trailer of a ref that moved together with the state.
pub(super) const REF: &str = "Orchestra-Ref";

/// One command while it runs: every change made with it belongs together. Cheap to clone; clones are the same one.
#[derive(Debug, Clone)]
pub struct Operation(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    id: Id,
    command: String,
    undoes: Option<String>,
    parts: AtomicU32,
}

/// What a commit says of the operation that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Part {
    pub(super) command: String,
    pub(super) id: Id,
    /// Counts the operation's commits from 1.
    #[serde(rename = "part")]
    pub(super) number: u32,
    /// The operation that this one undoes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) undoes: Option<String>,
}

/// A ref that an operation moved.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefMove {
    /// Where it was; absent if it was not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<ObjectId>,
    /// Where it went; absent if it was deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<ObjectId>,
    /// The ref, a full name.
    #[serde(rename = "ref")]
    pub name: String,
}

/// An operation on its way to another process that goes on with it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOperation {
    id: Id,
    command: String,
    parts: u32,
}

impl From<HandedOperation> for Operation {
    fn from(handed: HandedOperation) -> Self {
        let HandedOperation { id, command, parts } = handed;
        Self(Arc::new(Inner { id, command, undoes: None, parts: AtomicU32::new(parts) }))
    }
}

impl Operation {
    /// What another process needs to go on with it. The numbers of its parts may come twice then; only the first one
    /// matters.
    pub fn hand_on(&self) -> HandedOperation {
        let parts = self.0.parts.load(Ordering::Relaxed);
        HandedOperation { id: self.0.id, command: self.0.command.clone(), parts }
    }

    /// An operation that begins now. `command` is kept for good and travels: names and ids, nothing that could be
    /// a secret.
    ///
    /// # Errors
    /// Only if the system has no randomness.
    pub fn new(command: impl Into<String>) -> Result<Self, Error> {
        Self::make(command.into(), None)
    }

    /// The same, for one that undoes another.
    pub fn undoing(command: impl Into<String>, undone: impl Into<String>) -> Result<Self, Error> {
        Self::make(command.into(), Some(undone.into()))
    }

    fn make(command: String, undoes: Option<String>) -> Result<Self, Error> {
        let id = Id::from_random(local::random_u128()?);
        Ok(Self(Arc::new(Inner { id, command, undoes, parts: AtomicU32::new(0) })))
    }

    /// Its identity: the same grammar as those of entities.
    pub fn id(&self) -> Id {
        self.0.id
    }

    /// The command.
    pub fn command(&self) -> &str {
        &self.0.command
    }

    /// What the next commit of it says. Call under the store's lock.
    pub(super) fn next_part(&self) -> Part {
        Part {
            command: self.0.command.clone(),
            id: self.0.id,
            number: self.0.parts.load(Ordering::Relaxed) + 1,
            undoes: self.0.undoes.clone(),
        }
    }

    /// Says that the commit with [`Operation::next_part`] is there.
    pub(super) fn count_part(&self) {
        self.0.parts.fetch_add(1, Ordering::Relaxed);
    }
}

//! What can go wrong with the state.

use crate::git;
use crate::model::{Kind, ObjectId};
use std::path::PathBuf;

/// Why the state could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// git failed.
    #[error("use the repository")]
    Git(#[from] git::Error),
    /// A newer build wrote the state, and older ones may not touch it.
    #[error("{what} this repository's orchestra: it has format {found}, and this build knows format {known}")]
    Format {
        /// `read` or `write`.
        what: &'static str,
        /// The format that the state asks for.
        found: u64,
        /// The format that this build has.
        known: u64,
    },
    /// Somebody deleted the state's ref.
    #[error("find the state: {} is gone, and was at {commit}", super::STATE_REF)]
    StateGone {
        /// Where it was last.
        commit: ObjectId,
    },
    /// A file of the state is not what it should be.
    #[error("read {path} of the state at {commit}")]
    Broken {
        /// The path in the state's tree.
        path: String,
        /// The state's commit.
        commit: String,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// Nothing has this id or name.
    #[error("find {} `{}`", match .kind { Some(kind) => kind.noun(), None => "anything called" }, .text.escape_default())]
    NotFound {
        /// What was wanted, if only one kind would do.
        kind: Option<Kind>,
        /// What was asked for.
        text: String,
    },
    /// No operation has this id.
    #[error("find operation `{}`", .text.escape_default())]
    NoOperation {
        /// What was asked for.
        text: String,
    },
    /// It was there, and somebody deleted it.
    #[error("use {kind} {}: {} deleted it", &.id.as_str()[..6], .by.escape_default())]
    Deleted {
        /// What it was.
        kind: Kind,
        /// Its id.
        id: crate::model::Id,
        /// Who deleted it.
        by: String,
    },
    /// Several things have ids that start so.
    #[error("tell which one `{text}` is: {}", .candidates.join(", "))]
    Ambiguous {
        /// What was asked for.
        text: String,
        /// What it could be.
        candidates: Vec<String>,
    },
    /// Others moved the state too often while we tried.
    #[error("write the state: {attempts} attempts met somebody else's change")]
    Contended {
        /// How often it was tried.
        attempts: u32,
    },
    /// A record would be larger than other machines take in.
    #[error("write {kind} {}: it would be {size} bytes, and a record has at most {limit}", &.id.as_str()[..6])]
    TooLarge {
        /// What it is.
        kind: Kind,
        /// Its id.
        id: crate::model::Id,
        /// How large its record would be, in bytes.
        size: u64,
        /// How large it may be, in bytes.
        limit: u64,
    },
    /// A field was written with the last stamp that there is, so that no write comes after it.
    #[error("write {kind} {}: somebody wrote in it at a time after which there is none, so other machines would not take this in; make another one in its place", &.id.as_str()[..6])]
    Unwritable {
        /// What it is.
        kind: Kind,
        /// Its id.
        id: crate::model::Id,
    },
    /// What two machines wrote apart is more than one record can be.
    #[error("merge {kind} {}: what was written apart in it is {size} bytes together, and a record has at most {limit}; nothing of either is lost, and nothing is merged before the longer side is shortened where it was written", &.id.as_str()[..6])]
    TooMuch {
        /// What it is.
        kind: Kind,
        /// Its id.
        id: crate::model::Id,
        /// How large its record would be, in bytes.
        size: u64,
        /// How large it may be, in bytes.
        limit: u64,
    },
    /// A ref is locked by somebody who does not let go.
    #[error("write the state: {} exists and its owner does not let go of it", .lock.display())]
    Locked {
        /// The lock file.
        lock: PathBuf,
    },
    /// A local file could not be read or written.
    #[error("{action} {}", .path.display())]
    Local {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// The system gave no random bytes.
    #[error("get random bytes from the system: {0}")]
    Random(String),
    /// A change was refused by whoever made it; nothing was written.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    pub(crate) fn local(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::Local { action, path: path.into(), source }
    }
}

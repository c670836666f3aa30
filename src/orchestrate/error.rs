//! What can go wrong in a use case.

use crate::model::{Name, Standing};
use crate::{git, process, store};
use std::path::PathBuf;

/// Why a use case was not carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// git failed.
    #[error("use the repository")]
    Git(#[from] git::Error),
    /// The state could not be read or written.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// A program could not be started.
    #[error("start the agent's program")]
    Start(#[source] process::CommandError),
    /// A program could not be confined.
    #[error("confine the agent's program")]
    Confine(#[source] process::SandboxError),
    /// A local file could not be read or written.
    #[error("{action} {}", .path.display())]
    File {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// There are no files of a commit to change.
    #[error("find a checkout here: there is no work tree with a commit")]
    NoCheckout,
    /// Another agent got a name that was chosen.
    #[error("spawn {name}: another agent got this name meanwhile")]
    NameTaken {
        /// The name.
        name: Name,
    },
    /// A command of the settings failed in a worktree.
    #[error("{what}: {why}{}", said(.output))]
    Hook {
        /// What was to be done.
        what: String,
        /// How the command ended.
        why: String,
        /// What it said last, redacted, a line each.
        output: String,
        /// What would help.
        hint: String,
    },
    /// An agent could not be handed to a process of its own.
    #[error("hand {name} to a process of its own")]
    Handover {
        /// The agent.
        name: Name,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Whoever watches an agent does not answer.
    #[error("reach the process {pid} that watches {name}")]
    Unreachable {
        /// The agent.
        name: Name,
        /// The process.
        pid: u32,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// A remote does not have any more what we had seen of it.
    #[error("trust {remote}: it went back, or was rewritten; nothing here was changed")]
    Alarm {
        /// The remote.
        remote: String,
        /// What happened to which ref.
        alarms: Vec<super::sync::Alarm>,
    },
    /// A budget is used up.
    #[error("{what}: {} is used up ({})", .over.key(), .over.figures())]
    UsedUp {
        /// What, completing "failed to …".
        what: String,
        /// The budget and its figures.
        over: Standing,
        /// What would help.
        hint: String,
    },
    /// It was asked for something that must not be, in a sentence that says what and why.
    #[error("{what}")]
    Refused {
        /// What, completing "failed to …".
        what: String,
        /// What would help.
        hint: Option<String>,
    },
}

fn said(output: &str) -> String {
    if output.is_empty() { String::new() } else { format!("; it said last:\n{output}") }
}

impl Error {
    pub(crate) fn file(action: &'static str, path: impl Into<PathBuf>, source: std::io::Error) -> Self {
        Self::File { action, path: path.into(), source }
    }

    pub(crate) fn refused(what: impl Into<String>, hint: impl Into<Option<String>>) -> Self {
        Self::Refused { what: what.into(), hint: hint.into() }
    }

    /// Whether a remote could not be reached or did not answer, and nothing is wrong here.
    pub const fn is_of_network(&self) -> bool {
        matches!(self, Self::Git(git::Error::Remote { .. } | git::Error::Command(_)))
    }

    /// What would help, if anything is known.
    pub fn hint(&self) -> Option<&str> {
        match self {
            Self::Refused { hint, .. } => hint.as_deref(),
            Self::Hook { hint, .. } | Self::UsedUp { hint, .. } => Some(hint),
            _ => None,
        }
    }
}

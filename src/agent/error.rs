//! What can go wrong between an agent's program and us, beyond what decoders keep as unrecognised.

use std::path::PathBuf;

/// Why something about an agent's program failed.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// A stored line is no event.
    #[error("read a transcript line")]
    Transcript(#[source] serde_json::Error),
    /// A line that a program of ours was told is no wish.
    #[error("understand what it was told")]
    Wish(#[source] serde_json::Error),
    /// What a hook was told is not what its program tells hooks.
    #[error("read what the hook was told")]
    Hook(#[source] serde_json::Error),
    /// A script could not be read.
    #[error("read the script `{}`", path.display())]
    ReadScript {
        /// The script.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// What is played could not be printed.
    #[error("print what is played")]
    Print(#[source] std::io::Error),
    /// The program that was to do the work in our place could not be started.
    #[error("start the program that does the work in its place")]
    Start(#[source] crate::process::CommandError),
    /// The loop around a model could not begin.
    #[error("begin to work")]
    Work(#[source] std::io::Error),
}

//! What an agent does, and the words for it.

use super::{Tool, Waits};
use crate::model::{Id, ObjectId, Outcome, Timestamp};
use std::time::Duration;

/// What an agent does, as evidence shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    /// A live lease says that it waits for its turn.
    Queued,
    /// A live lease says that it runs.
    Running {
        /// The agent's process.
        pid: Option<u32>,
        /// The tool that it runs.
        tool: Option<Tool>,
    },
    /// It runs, and asked something that is not answered.
    Asking(Id),
    /// It runs, and waits.
    Waiting(Waits),
    /// It runs no tool, waits for nothing that we know of, and has been silent for long.
    Stuck {
        /// Since when.
        since: Timestamp,
    },
    /// Its process is gone, and whoever watches it has not said how it ended.
    Unknown {
        /// The process.
        pid: u32,
    },
    /// It was made and never ran.
    New,
    /// Its last run ended so.
    Ended(Outcome),
    /// Its last run has no end, and nobody holds its lease.
    Unwatched {
        /// Its process, if that runs all the same.
        pid: Option<u32>,
    },
    /// Its last run has no end, and is another machine's: what became of it, a sync brings.
    Elsewhere {
        /// The machine.
        machine: String,
        /// How long ago that was heard of, by this machine's clock; absent if it never was.
        heard: Option<Duration>,
    },
    /// Its work landed in its target.
    Merged(ObjectId),
    /// It was removed.
    Removed,
}

impl Activity {
    /// The word for it.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::Running { .. } => "running",
            Self::Asking(_) | Self::Waiting(_) => "waiting",
            Self::Stuck { .. } => "stuck",
            Self::Unknown { .. } => "unknown",
            Self::New => "new",
            Self::Ended(outcome) => outcome.word(),
            Self::Unwatched { .. } => "lost",
            Self::Elsewhere { .. } => "elsewhere",
            Self::Merged(_) => "merged",
            Self::Removed => "removed",
        }
    }

    /// What shows it, in a few words; empty if the word says it all.
    pub fn evidence(&self, now: Timestamp) -> String {
        match self {
            Self::Queued => "waits for its turn".to_owned(),
            Self::Running { tool: Some(Tool { name, summary, since }), .. } => {
                format!("{name} {summary}, {}", span(now.since(*since)))
            }
            Self::Running { pid: Some(pid), .. } => format!("pid {pid}"),
            Self::Running { pid: None, .. } => "being started".to_owned(),
            Self::Waiting(Waits::Permission { what }) => format!("may it use {what}"),
            Self::Waiting(Waits::Limit { error, until }) if *until > now => {
                format!("{error}, again in {}", span(until.since(now)))
            }
            Self::Waiting(Waits::Limit { error, .. }) => error.clone(),
            Self::Waiting(Waits::Parked { why, until }) if *until > now => {
                let at = until.to_string();
                let time = at.split_once('T').map_or(at.as_str(), |(_, time)| time);
                format!("parked until {time}, {why}")
            }
            Self::Waiting(Waits::Parked { why, .. }) => format!("parked until it is its turn, {why}"),
            Self::Waiting(Waits::Interrupted | Waits::Message) => "for a message".to_owned(),
            Self::Stuck { since } => format!("silent for {}", span(now.since(*since))),
            Self::Unknown { pid } => format!("pid {pid} is gone"),
            Self::Asking(decision) => format!("decision {}", &decision.as_str()[..Id::MIN_PREFIX]),
            Self::Ended(Outcome::Succeeded) => "exit 0".to_owned(),
            Self::Ended(Outcome::Failed { reason }) => reason.clone(),
            Self::Ended(Outcome::Stopped { over: Some(over), .. }) => format!("by {over}"),
            Self::Ended(Outcome::Stopped { by, .. }) => format!("by {by}"),
            Self::Ended(Outcome::Lost) => "its watcher died".to_owned(),
            Self::Unwatched { pid: None } => "nobody watches it".to_owned(),
            Self::Unwatched { pid: Some(pid) } => {
                format!("its watcher died, pid {pid} still runs: `git orchestra recover` ends it")
            }
            Self::Elsewhere { machine, heard: Some(heard) } => {
                format!("on machine {machine}, heard {} ago", span(*heard))
            }
            Self::Elsewhere { machine, heard: None } => format!("on machine {machine}"),
            Self::Merged(commit) => format!("as {}", commit.short()),
            Self::New | Self::Removed => String::new(),
        }
    }

    /// The same in less room: of a tool its name, and nothing of what could be done.
    pub fn brief(&self, now: Timestamp) -> String {
        match self {
            Self::Running { tool: Some(Tool { name, since, .. }), .. } => {
                format!("{name} {}", span(now.since(*since)))
            }
            Self::Waiting(Waits::Permission { what }) => {
                format!("may it use {}", what.split(' ').next().unwrap_or_default())
            }
            Self::Unwatched { pid: Some(pid) } => format!("its watcher died, pid {pid} still runs"),
            other => other.evidence(now),
        }
    }

    /// Whether it waits for a person, or for a limit of its model to pass.
    pub const fn is_waiting(&self) -> bool {
        matches!(self, Self::Asking(_) | Self::Waiting(_))
    }

    /// Whether nothing of it goes on, here or on another machine, as far as anybody knows.
    pub const fn is_over(&self) -> bool {
        !self.is_live() && !matches!(self, Self::Elsewhere { .. })
    }

    /// Whether somebody alive watches it here.
    pub const fn is_live(&self) -> bool {
        matches!(
            self,
            Self::Queued
                | Self::Running { .. }
                | Self::Asking(_)
                | Self::Waiting(_)
                | Self::Stuck { .. }
                | Self::Unknown { .. }
        )
    }
}

/// `40s`, `3m`, `2h`.
pub(in super::super) fn span(span: Duration) -> String {
    match span.as_secs() {
        secs @ ..60 => format!("{secs}s"),
        secs @ ..3600 => format!("{}m", secs / 60),
        secs => format!("{}h", secs / 3600),
    }
}

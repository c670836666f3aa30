//! Looking at everything that could be wrong, and saying calmly what is.
//!
//! Changes nothing; what can be put in order without losing anything is `recover`'s.

mod local;
mod repository;
mod state;

use super::Error;
use crate::store::Store;
use serde::Serialize;
use std::path::PathBuf;

/// How grave it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Level {
    /// As it should be.
    Ok,
    /// Worth knowing; everything works.
    Warn,
    /// Something does not work, or will not.
    Fail,
}

impl Level {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

/// What one look showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// What was looked at: `git`, `state`, `worktrees`.
    pub name: &'static str,
    /// How it is.
    pub level: Level,
    /// What was seen, in words.
    pub text: String,
    /// What exactly, one thing each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub details: Vec<String>,
    /// What would help.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_out: Option<String>,
}

impl Check {
    /// Something that is as it should be.
    pub fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, level: Level::Ok, text: text.into(), details: Vec::new(), way_out: None }
    }

    /// Something that is worth knowing.
    pub fn warn(name: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Warn, ..Self::ok(name, text) }
    }

    /// Something that does not work.
    pub fn fail(name: &'static str, text: impl Into<String>) -> Self {
        Self { level: Level::Fail, ..Self::ok(name, text) }
    }

    /// Says what exactly.
    #[must_use]
    pub fn details(mut self, details: impl IntoIterator<Item = String>) -> Self {
        self.details.extend(details);
        self
    }

    /// Says what would help.
    #[must_use]
    pub fn way_out(mut self, way_out: impl Into<String>) -> Self {
        self.way_out = Some(way_out.into());
        self
    }
}

/// Where agents' worktrees are made.
#[derive(Debug, Clone, Default)]
pub struct DoctorOptions {
    /// The directory.
    pub worktree_root: PathBuf,
}

/// One look; what keeps it from looking is itself a fault.
type Look = fn(&Store, &DoctorOptions) -> Result<Check, Error>;

/// Every look, in the order in which they are told.
const LOOKS: &[(&str, Look)] = &[
    ("git", repository::git),
    ("repository", repository::repository),
    ("machine", local::machine),
    ("state", state::state),
    ("history", state::history),
    ("notes", state::notes),
    ("transcripts", state::transcripts),
    ("worktrees", local::worktrees),
    ("branches", local::branches),
    ("merges", local::merges),
    ("leases", local::leases),
    ("unfinished", local::unfinished),
    ("journals", local::journals),
    ("locks", repository::locks),
    ("trust", local::trust),
    ("git config", repository::configuration),
    ("caches", local::caches),
    ("disk", repository::disk),
    ("objects", repository::objects),
];

/// Looks at the repository and its state. `told` is called with each result as it is known.
pub fn doctor(store: &Store, options: &DoctorOptions, mut told: impl FnMut(&Check)) -> Vec<Check> {
    let mut checks = Vec::new();
    for (name, look) in LOOKS {
        let check = look(store, options).unwrap_or_else(|error| {
            let check = Check::fail(name, format!("failed to {}", super::supervise::chain(&error)));
            match &error {
                Error::Git(git) | Error::Store(crate::store::Error::Git(git)) => match git.way_out() {
                    Some(way_out) => check.way_out(way_out),
                    None => check,
                },
                _ => check,
            }
        });
        told(&check);
        checks.push(check);
    }
    checks
}

/// `1 branch`, `3 branches`.
fn count(number: usize, one: &str, many: &str) -> String {
    if number == 1 { format!("1 {one}") } else { format!("{number} {many}") }
}

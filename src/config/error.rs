//! Why settings, profiles, programs and approvals could not be had.

use super::Origin;
use std::path::PathBuf;

/// Why settings could not be had.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file is no TOML.
    #[error("read the settings in {origin}")]
    Syntax {
        /// The file.
        origin: Origin,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// A value does not fit its key.
    #[error("use `{key}` from {origin}: {expected} is expected, not `{found}`")]
    Value {
        /// The key.
        key: String,
        /// Who says so.
        origin: Origin,
        /// What would fit.
        expected: &'static str,
        /// What was there.
        found: String,
    },
    /// There is no such profile.
    #[error("find the profile `{name}`; there are {}", .known.join(", "))]
    NoProfile {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no such pipeline.
    #[error("find the pipeline `{name}`; there are {}", .known.join(", "))]
    NoPipeline {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// There is no such team.
    #[error("find the team `{name}`; there are {}", .known.join(", "))]
    NoTeam {
        /// What was asked for.
        name: String,
        /// What there is.
        known: Vec<String>,
    },
    /// A team is not one.
    #[error("use the team `{name}`: {why}")]
    Team {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A gate is not one.
    #[error("use the gate `{name}`: {why}")]
    Gate {
        /// Its name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// The repository wants what the user has not approved.
    #[error("use {}: the repository names it, and you have not approved it", list(.keys))]
    NotApproved {
        /// The keys.
        keys: Vec<String>,
    },
    /// There is no such program.
    #[error("find the program `{name}`{}", .reason)]
    NoProgram {
        /// What was looked for.
        name: String,
        /// Where, or why what was found is no good.
        reason: String,
    },
    /// An approval could not be read or written.
    #[error("keep the approval in `{}`", .path.display())]
    Approval {
        /// Its file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

fn list(keys: &[String]) -> String {
    keys.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ")
}

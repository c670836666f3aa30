//! Programs that reach only what they were given: by Landlock, or by bubblewrap.
//!
//! What a program is given is the caller's to say ([`Reach`]). Here it is only made so, wholly or not at all: what
//! the kernel or the machine cannot give is an error, never a weaker level.

mod bubblewrap;
mod landlock;

pub use landlock::{become_confined, confine};

use super::command::Command;
use crate::model::Sandbox;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What a confined program may touch. What is named nowhere it can neither read nor write.
///
/// A directory stands for everything below it. Paths must exist when the program starts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reach {
    /// What it may read and run.
    pub read: BTreeSet<PathBuf>,
    /// What it may also change.
    pub write: BTreeSet<PathBuf>,
    /// What stays as it is though it is below something of `write`. Bubblewrap alone can do that.
    pub keep: BTreeSet<PathBuf>,
    /// What is empty though it is a directory below something of `read`. Bubblewrap alone can do that.
    pub hide: BTreeSet<PathBuf>,
    /// A directory that takes the place of `/tmp`, if nothing else there is named. Bubblewrap alone can do that.
    pub tmp: Option<PathBuf>,
}

/// The programs that confine others.
#[derive(Debug, Clone, Default)]
pub struct Confiners {
    /// Our own, which understands [`COMMAND`].
    pub own: Option<PathBuf>,
    /// The file of `bwrap`.
    pub bwrap: Option<PathBuf>,
}

/// The hidden command of our own program that confines itself and becomes another one: `__confine [--read PATH]…
/// [--write PATH]… -- PROGRAM ARGUMENT…`.
pub const COMMAND: &str = "__confine";

/// What keeps a level from being had.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// This machine cannot give it.
    #[error("confine it by {level}: {missing}")]
    Missing {
        /// The level.
        level: Sandbox,
        /// What is not there.
        missing: String,
    },
    /// A path could not be opened for a rule.
    #[error("open {} for a rule", .path.display())]
    Path {
        /// The path.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The kernel refused.
    #[error("confine this process")]
    Refused(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// Confined, it could not become the program.
    #[error("start `{}`", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl Confiners {
    /// Tries whether this machine gives `level`, all of it. May start a process; blocks for at most ten seconds.
    ///
    /// # Errors
    /// [`SandboxError::Missing`] with what is not there.
    pub fn require(&self, level: Sandbox) -> Result<(), SandboxError> {
        let tried = match level {
            Sandbox::None => Ok(()),
            Sandbox::Landlock => self.own().and_then(|_| landlock::attempt()),
            Sandbox::Bubblewrap => self.bwrap().and_then(bubblewrap::attempt),
        };
        tried.map_err(|missing| SandboxError::Missing { level, missing })
    }

    fn own(&self) -> Result<&Path, String> {
        self.own.as_deref().ok_or_else(|| "our own program is not found".to_owned())
    }

    fn bwrap(&self) -> Result<&Path, String> {
        let missing = || "there is no program `bwrap` in PATH outside the repository".to_owned();
        self.bwrap.as_deref().ok_or_else(missing)
    }
}

impl Command {
    /// The same command, confined. Its environment and directory stay; its input must be set afterwards.
    ///
    /// # Errors
    /// If what confines it, or its program, is not found. Whether the level can be had says [`Confiners::require`].
    pub fn confined(
        &self,
        level: Sandbox,
        reach: &Reach,
        confiners: &Confiners,
    ) -> Result<Self, SandboxError> {
        let missing = |missing| SandboxError::Missing { level, missing };
        let program = match level {
            Sandbox::None => return Ok(self.clone()),
            // Looked for here, where it can be said that it is not there.
            _ => self.find_program().ok_or_else(|| SandboxError::Start {
                program: self.program_name().into(),
                source: std::io::ErrorKind::NotFound.into(),
            })?,
        };
        let (confiner, args) = match level {
            Sandbox::Landlock => (confiners.own().map_err(missing)?, landlock::args(reach)),
            _ => (confiners.bwrap().map_err(missing)?, bubblewrap::args(reach)),
        };
        Ok(self.by_way_of(confiner, args, &program))
    }
}

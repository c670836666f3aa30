//! What a command runs in: the terminal, the environment, and everything that is opened only when asked for.

use super::Global;
use super::env::Env;
use super::error::CliError;
use super::ui::Ui;
use crate::process::{Clock, SystemClock};
use std::path::{Path, PathBuf};

/// The surroundings of one command.
///
/// Nothing is read or opened before a command asks for it, so that help and completion never look for a
/// repository.
#[derive(Debug)]
pub(crate) struct Context {
    env: Env,
    ui: Ui,
    clock: Box<dyn Clock>,
    dir: PathBuf,
}

impl Context {
    /// The surroundings as the process finds them.
    pub(super) fn new(env: Env, global: &Global) -> Result<Self, CliError> {
        let here = std::env::current_dir()
            .map_err(|error| CliError::failed("failed to read the current directory", error))?;
        let dir = match &global.directory {
            None => here,
            Some(dir) => std::fs::canonicalize(here.join(dir)).map_err(|error| {
                CliError::failed(format!("failed to change to `{}`", dir.display()), error)
            })?,
        };
        let ui = Ui::new(&env, global.color, global.quiet, !global.no_pager);
        Ok(Self { env, ui, clock: Box::new(SystemClock), dir })
    }

    /// The environment.
    pub(crate) const fn env(&self) -> &Env {
        &self.env
    }

    /// The terminal, or whatever takes its place.
    pub(crate) const fn ui(&self) -> &Ui {
        &self.ui
    }

    /// The clock.
    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.clock
    }

    /// The directory the command was started in, or that `-C` named.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }
}

//! The user's pager, chosen as git chooses it.

use super::super::env::Env;
use super::super::error::CliError;
use crate::process::Command;
use std::ffi::OsString;

/// How long output is shown.
#[derive(Debug, Clone)]
pub(crate) struct Pager {
    command: String,
    env: Vec<(OsString, OsString)>,
}

impl Pager {
    /// `GIT_PAGER`, `PAGER` or `less`, with git's own defaults for what less does.
    pub(super) fn from_env(env: &Env) -> Self {
        let command = env.text("GIT_PAGER").or_else(|| env.text("PAGER")).unwrap_or("less").to_owned();
        let mut vars: Vec<(OsString, OsString)> =
            env.iter().map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        for (key, value) in [("LESS", "FRX"), ("LV", "-c")] {
            if env.var(key).is_none() {
                vars.push((key.into(), value.into()));
            }
        }
        Self { command, env: vars }
    }

    /// Shows `text`; `false` if the user wants no pager (`cat`) or it cannot be started.
    pub(super) fn show(&self, text: &str) -> Result<bool, CliError> {
        if matches!(self.command.as_str(), "" | "cat") {
            return Ok(false);
        }
        let shown = Command::new("/bin/sh")
            .args(["-c", &self.command])
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .stdin(text)
            .with_terminal()
            .output()?;
        // The shell's own word for "no such program" and "not a program".
        Ok(!matches!(shown.status.code(), Some(126 | 127)))
    }
}

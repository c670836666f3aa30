//! Pushes that try what a remote takes.

use super::super::{Error, Repository};
use super::push::{PushAnswer, never_began, pushed_lines};
use super::trouble;
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::time::Duration;

/// One ref of a trial: it is moved only from exactly where it is said to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trial {
    /// The full name on the remote.
    pub remote: String,
    /// Where it is; `None` if it must not exist.
    pub old: Option<ObjectId>,
    /// Where it goes; `None` deletes it.
    pub new: Option<ObjectId>,
}

/// How a trial is made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TrialOptions<'a> {
    /// All of the refs or none.
    pub atomic: bool,
    /// An option for the hooks of the remote.
    pub option: Option<&'a str>,
}

impl Repository {
    /// Moves refs on a remote by compare-and-swap, and tells what it said to each of them, in their order. That it
    /// does not know what `options` ask for is a refusal of all.
    pub fn try_push(
        &self,
        remote: &str,
        trials: &[Trial],
        options: TrialOptions<'_>,
        deadline: Duration,
    ) -> Result<Vec<PushAnswer>, Error> {
        let mut args = Vec::new();
        args.extend(options.atomic.then(|| "--atomic".to_owned()));
        args.extend(options.option.map(|option| format!("--push-option={option}")));
        for Trial { remote, old, .. } in trials {
            args.push(format!("--force-with-lease={remote}:{}", old.as_ref().map_or("", ObjectId::as_str)));
        }
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let refspecs = trials.iter().map(|trial| {
            let new = trial.new.as_ref().map_or("", ObjectId::as_str);
            format!("{new}:{}", trial.remote)
        });
        let command = self.push_command(remote, &args).args(refspecs);
        let output =
            command.output_within(deadline).map_err(|error| trouble::of_command(remote, error, deadline))?;
        let found = pushed_lines(&output);
        if found.is_empty() && !output.status.success() {
            if output.stderr.contains_str(UNKNOWN) {
                return Ok(vec![PushAnswer::Refused("not supported".to_owned()); trials.len()]);
            }
            if never_began(&output) {
                return Err(trouble::of_words(remote, &command, &output));
            }
        }
        let words = || PushAnswer::Unknown(output.stderr.trim().to_str_lossy().into_owned());
        Ok(trials.iter().map(|trial| found.get(&trial.remote).cloned().unwrap_or_else(words)).collect())
    }

    /// Sets one key of this repository's own configuration.
    pub fn set_config(&self, key: &str, value: &str) -> Result<(), Error> {
        self.read(["config", "--local", "--", key, value]).map(drop)
    }
}

/// What git says when the other side is too old, or set up without it.
const UNKNOWN: &str = "the receiving end does not support";

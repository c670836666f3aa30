//! The one way in: a fetch whose objects wait apart until they are known to be sound and not too much.

use super::super::{Error, Repository};
use super::place::Side;
use super::quarantine::Quarantine;
use super::trouble::{self, Trouble};
use crate::process::{Command, CommandError, Output};
use std::time::Duration;

/// The greatest piece of memory that git may ask for while it takes in records, so that a hostile object fails
/// instead of filling the machine. What is larger and a blob is streamed; records are far smaller.
const MAX_ALLOCATION: &str = "64m";

/// Everything that comes in is checked, on disk, and held in little memory.
const SETTINGS: &[(&str, &str)] = &[
    ("transfer.fsckObjects", "true"),
    ("fetch.fsckObjects", "true"),
    ("core.fsync", "loose-object,pack,pack-metadata"),
    ("fetch.writeCommitGraph", "false"),
    ("fetch.output", "full"),
    ("core.bigFileThreshold", "4m"),
    ("core.deltaBaseCacheLimit", "16m"),
    ("pack.threads", "1"),
];

/// How much one fetch may bring.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    /// Bytes on disk.
    pub(super) incoming: u64,
    /// Whether it is records alone: then git is given little memory. People's files may be as large as they like.
    pub(super) records: bool,
}

/// A fetch that ended, whatever it came to, and was no flood.
#[derive(Debug)]
pub(super) struct Intake {
    pub(super) command: Command,
    pub(super) output: Output,
    /// What it brought: [`Quarantine::let_in`] takes it in.
    pub(super) quarantine: Quarantine,
}

impl Repository {
    /// `git fetch` with `options`, of `specs`; it moves no ref but those that they name, and nothing of the remote's
    /// configured refspecs counts.
    pub(super) fn intake(
        &self,
        (remote, side): (&str, Side),
        options: &[&str],
        specs: impl IntoIterator<Item = String>,
        limits: Limits,
        deadline: Duration,
    ) -> Result<Intake, Error> {
        const PLAIN: [&str; 9] = [
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--no-prune",
            "--no-force",
            // A clone that fetches contents only when they are asked for needs those of the state now.
            "--no-filter",
            "--refmap=",
            "--upload-pack=git-upload-pack",
        ];
        let quarantine = Quarantine::new(self)?;
        let address = self.address(remote, side)?;
        let where_from = ["--", address.name.as_str()];
        let args = ["fetch"].iter().chain(options).chain(&PLAIN).chain(&where_from);
        let mut command = quarantine.around(self.network_at(&address, args, SETTINGS).args(specs));
        if limits.records {
            command = command.env("GIT_ALLOC_LIMIT", MAX_ALLOCATION);
        }
        let flood = || Error::Remote {
            remote: remote.to_owned(),
            trouble: Trouble::Flood,
            words: format!("more than {} MiB at once", limits.incoming >> 20),
        };
        let output = match command.output_while(deadline, || quarantine.size() <= limits.incoming) {
            Ok(output) => output,
            Err(CommandError::Stopped { .. }) => return Err(flood()),
            Err(error) => return Err(trouble::of_command(remote, error, deadline)),
        };
        if quarantine.size() > limits.incoming {
            return Err(flood());
        }
        Ok(Intake { command, output, quarantine })
    }
}

//! `git orchestra __supervise`: what `spawn --detach` starts; not for people.

use crate::cli::apart;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};

/// Watch the agent that is handed over on standard input
#[derive(Debug, clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(ctx: &Context, _: &Args) -> Result<Exit, CliError> {
    apart::supervise(ctx)
}

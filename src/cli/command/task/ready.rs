//! `git orchestra task ready`.

use super::list;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::porcelain::ListFormat;

/// List the tasks that nothing holds back: no open dependency, nobody at work
///
/// The same as `task list --ready`; they come in the order in which `spawn` takes them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra task ready --porcelain | head -1")]
pub(crate) struct Args {
    #[command(flatten)]
    format: ListFormat,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    list::run(ctx, &list::Args { ready: true, format: args.format, ..list::Args::default() })
}

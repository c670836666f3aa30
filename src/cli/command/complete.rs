//! `git-orchestra __complete`: what the completion scripts ask. Quick and silent, whatever is wrong.

use crate::cli::complete;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use std::ffi::OsString;

/// Candidates for a shell's completion
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Args {
    /// The words behind the program's name, the last one being completed
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    words: Vec<OsString>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    ctx.ui().print(&complete::candidates(ctx, &args.words))?;
    Ok(Exit::Done)
}

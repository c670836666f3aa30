//! `git orchestra init`.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};

/// Prepare this repository
///
/// Makes the ref that holds all state. The first command that writes does it too: nothing else is needed, and
/// neither your files nor the index nor the configuration are touched.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra init")]
pub(crate) struct Args {}

pub(crate) fn run(ctx: &Context, _: &Args) -> Result<Exit, CliError> {
    if ctx.store()?.init()? {
        ctx.note_init()?;
    } else {
        ctx.ui().note("there is state already; nothing was changed");
    }
    Ok(Exit::Done)
}

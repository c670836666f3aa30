//! `git orchestra task release`.

use super::claim::QueueArgs;
use super::fields;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};

/// Give claimed tasks back to the queue
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra task release k3v8")]
pub(crate) struct Args {
    /// The tasks
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<String>,
    #[command(flatten)]
    queue: QueueArgs,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    ctx.recover()?;
    let ids = fields::tasks(&ctx.state()?, &args.tasks)?;
    args.queue.open(ctx)?.release(&ids)?;
    Ok(Exit::Done)
}

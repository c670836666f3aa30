//! `git orchestra task reopen`.

use super::close::change;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::model::TaskStatus;

/// Open tasks again: wanted, and nobody works on them
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra task reopen k3v8")]
pub(crate) struct Args {
    /// The tasks
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<String>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    change(ctx, &args.tasks, "reopen", |_, task| {
        task.status = TaskStatus::Open;
        task.assignee = None;
        task.holder = None;
        task.result = None;
        Ok(())
    })
}

//! `git orchestra task show`.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::model::Kind;

/// Show a task
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra task show k3v8")]
pub(crate) struct Args {
    /// The tasks
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<String>,
    /// Print JSON (`git orchestra schema task`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    crate::cli::command::show::entities(ctx, &args.tasks, Some(Kind::Task), args.json)
}

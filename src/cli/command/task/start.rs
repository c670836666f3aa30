//! `git orchestra task start`.

use super::close::change;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::model::{Agent, TaskStatus};

/// Say that you work on a task yourself, so that no agent takes it
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra task start k3v8")]
pub(crate) struct Args {
    /// The tasks
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<String>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    change(ctx, &args.tasks, "start", |tx, task| {
        if let Some(agent) = task.assignee {
            let name = tx.get::<Agent>(&agent)?.map_or_else(|| agent.to_string(), |agent| agent.name.to_string());
            return Err(CliError::new(
                ErrorKind::Failed,
                format!("`{}` is claimed by the agent {name}", task.title),
            ));
        }
        match task.status {
            TaskStatus::Open => task.status = TaskStatus::Started,
            TaskStatus::Started => {}
            TaskStatus::Closed => {
                return Err(CliError::new(ErrorKind::Failed, format!("`{}` is closed", task.title))
                    .hint("`git orchestra task reopen` opens it again"));
            }
        }
        Ok(())
    })
}

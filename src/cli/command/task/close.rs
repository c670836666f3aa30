//! `git orchestra task close`, and how a task's status is changed.

use super::fields;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::model::{Id, Task, TaskStatus};
use crate::store::Transaction;

/// Close tasks: done, merged or given up
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra task close k3v8 -m 'done by hand'")]
pub(crate) struct Args {
    /// The tasks
    #[arg(value_name = "TASK", required = true)]
    tasks: Vec<String>,
    /// What became of it
    #[arg(short, long, value_name = "RESULT")]
    message: Option<String>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    change(ctx, &args.tasks, "close", |_, task| {
        task.status = TaskStatus::Closed;
        if let Some(message) = &args.message {
            task.result = Some(message.trim().to_owned());
        }
        Ok(())
    })
}

/// Changes the status of tasks: all of them or none. A task that has it already stays as it is.
pub(super) fn change(
    ctx: &Context,
    tasks: &[String],
    verb: &str,
    apply: impl Fn(&mut Transaction<'_>, &mut Task) -> Result<(), CliError>,
) -> Result<Exit, CliError> {
    ctx.transact(|tx| {
        let ids: Vec<Id> = fields::tasks(tx.base(), tasks)?;
        for id in &ids {
            let before: Task = tx.require(id)?;
            let mut task = before.clone();
            apply(tx, &mut task)?;
            if task.status != before.status {
                task.changed = tx.now();
            }
            tx.put(&task)?;
        }
        let shown: Vec<&str> = ids.iter().map(|id| &id.as_str()[..6]).collect();
        tx.describe(format!("task {}: {verb}", shown.join(", ")));
        Ok(())
    })?;
    Ok(Exit::Done)
}

//! `git orchestra task add`.

use super::fields;
use crate::cli::context::Context;
use crate::cli::editor::{self, TextArgs};
use crate::cli::error::{CliError, Exit};
use crate::cli::{json, view};
use crate::model::{Task, TaskStatus};

/// Add a task and print its id
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra task add 'Parse dates' -m 'RFC 3339 only' --touches 'src/date/**'\n  git orchestra task add 'Use the parser' --after k3v8 --priority 2"
)]
pub(crate) struct Args {
    /// What is wanted, in one line
    #[arg(required_unless_present = "edit")]
    title: Option<String>,
    #[command(flatten)]
    text: TextArgs,
    /// A task that must be closed before this one is ready
    #[arg(long, value_name = "TASK")]
    after: Vec<String>,
    /// A glob of the paths that it is expected to change
    #[arg(long, value_name = "GLOB")]
    touches: Vec<String>,
    /// Higher is sooner
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i64,
    /// A label
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// The zone that it belongs to
    #[arg(long, value_name = "ZONE")]
    zone: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let mut title = args.title.clone().unwrap_or_default();
    let mut body = args.text.body(ctx)?.unwrap_or_default();
    if args.text.wants_editor() {
        (title, body) = editor::edit(ctx, &title, &body)?;
    }
    let title = fields::title(&title)?;
    let touches = fields::globs(&args.touches)?;
    let id = ctx.store()?.new_id()?;
    let task = ctx.transact(|tx| {
        let task = Task {
            id,
            title: title.clone(),
            body: body.clone(),
            status: TaskStatus::Open,
            priority: args.priority,
            after: fields::tasks(tx.base(), &args.after)?.into_iter().collect(),
            touches: touches.clone(),
            labels: args.label.iter().cloned().collect(),
            zone: args.zone.clone(),
            assignee: None,
            holder: None,
            fence: 0,
            result: None,
            created: tx.now(),
            changed: tx.now(),
        };
        tx.describe(format!("task {}: add {title:?}", &id.as_str()[..6]));
        tx.put(&task)?;
        Ok(task)
    })?;
    let state = ctx.state()?;
    if args.json {
        let tasks = view::task::Tasks::around(&state, &task)?;
        json::print(ctx, "task", &tasks.shown(&task, &state.short_ids_of([&task.id])?))?;
    } else {
        ctx.ui().print(&format!("{}\n", view::handed(ctx, &state, &id)?))?;
    }
    Ok(Exit::Done)
}

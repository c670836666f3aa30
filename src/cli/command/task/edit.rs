//! `git orchestra task edit`.

use super::fields;
use crate::cli::context::Context;
use crate::cli::editor::{self, TextArgs};
use crate::cli::error::{CliError, Exit};
use crate::model::Task;

/// Change a task
///
/// Without options it opens your editor.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra task edit k3v8 --priority 5 --after m2x9 --no-label later")]
pub(crate) struct Args {
    /// The task
    #[arg(value_name = "TASK")]
    task: String,
    /// A new title
    #[arg(long)]
    title: Option<String>,
    #[command(flatten)]
    text: TextArgs,
    /// A task that must be closed before this one is ready
    #[arg(long, value_name = "TASK")]
    after: Vec<String>,
    /// A task that it no longer has to wait for
    #[arg(long, value_name = "TASK")]
    no_after: Vec<String>,
    /// A glob of the paths that it is expected to change
    #[arg(long, value_name = "GLOB")]
    touches: Vec<String>,
    /// A glob that is no longer expected
    #[arg(long, value_name = "GLOB")]
    no_touches: Vec<String>,
    /// Higher is sooner
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    priority: Option<i64>,
    /// A label to add
    #[arg(long, value_name = "LABEL")]
    label: Vec<String>,
    /// A label to take away
    #[arg(long, value_name = "LABEL")]
    no_label: Vec<String>,
    /// The zone that it belongs to
    #[arg(long, value_name = "ZONE", conflicts_with = "no_zone")]
    zone: Option<String>,
    /// It belongs to no zone
    #[arg(long)]
    no_zone: bool,
}

impl Args {
    fn names_a_change(&self, body: Option<&String>) -> bool {
        self.title.is_some()
            || body.is_some()
            || self.priority.is_some()
            || self.zone.is_some()
            || self.no_zone
            || [&self.after, &self.no_after, &self.touches, &self.no_touches, &self.label, &self.no_label]
                .iter()
                .any(|list| !list.is_empty())
    }
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let mut body = args.text.body(ctx)?;
    let mut title = args.title.as_deref().map(fields::title).transpose()?;
    let touches = fields::globs(&args.touches)?;
    let before: Task = ctx.state()?.require_named(&args.task)?;
    if args.text.wants_editor() || !args.names_a_change(body.as_ref()) {
        let from = body.as_deref().unwrap_or(&before.body);
        let (new_title, new_body) = editor::edit(ctx, title.as_deref().unwrap_or(&before.title), from)?;
        // What the editor did not change must not overwrite what others changed meanwhile.
        title = (new_title != before.title).then_some(new_title);
        body = (new_body != before.body).then_some(new_body);
    }
    ctx.transact(|tx| {
        let mut task: Task = tx.require(&before.id)?;
        if let Some(title) = &title {
            task.title.clone_from(title);
        }
        if let Some(body) = &body {
            task.body.clone_from(body);
        }
        task.priority = args.priority.unwrap_or(task.priority);
        task.after.extend(fields::tasks(tx.base(), &args.after)?);
        for id in fields::tasks(tx.base(), &args.no_after)? {
            task.after.remove(&id);
        }
        task.touches.extend(touches.iter().cloned());
        task.touches.retain(|glob| !args.no_touches.contains(glob));
        task.labels.extend(args.label.iter().cloned());
        task.labels.retain(|label| !args.no_label.contains(label));
        if args.zone.is_some() || args.no_zone {
            task.zone.clone_from(&args.zone);
        }
        fields::refuse_cycle(tx, &task)?;
        tx.describe(format!("task {}: edit {:?}", &task.id.as_str()[..6], task.title));
        tx.put(&task)?;
        Ok(())
    })?;
    Ok(Exit::Done)
}

//! `git orchestra task list`.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::porcelain::ListFormat;
use crate::cli::ui::{Align, Label, Table};
use crate::cli::view::task::{Standing, Tasks};
use crate::model::{Name, Task};

/// List tasks: started ones, ready ones, and those that wait
///
/// With --porcelain each line has: id, state (started, ready, blocked, closed), priority, agent, title.
#[derive(Debug, Default, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra task list --ready\n  git orchestra task list --all --json")]
pub(crate) struct Args {
    /// Only those that nothing holds back
    #[arg(long, conflicts_with = "all")]
    pub(super) ready: bool,
    /// Closed ones too
    #[arg(short, long)]
    pub(super) all: bool,
    /// Only those that `gc` put into the archive
    #[arg(long, conflicts_with_all = ["all", "ready"])]
    pub(super) archived: bool,
    /// Only those with this label
    #[arg(long, value_name = "LABEL")]
    pub(super) label: Vec<String>,
    /// Only those of this zone
    #[arg(long, value_name = "ZONE")]
    pub(super) zone: Option<String>,
    #[command(flatten)]
    pub(super) format: ListFormat,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let state = ctx.state()?;
    let tasks = if args.archived { Tasks::load_archived(&state)? } else { Tasks::load(&state)? };
    let wanted = |task: &Task, standing: Standing| {
        (args.all || args.archived || standing != Standing::Closed)
            && (!args.ready || standing == Standing::Ready)
            && args.label.iter().all(|label| task.labels.contains(label))
            && args.zone.as_ref().is_none_or(|zone| task.zone.as_ref() == Some(zone))
    };
    let mut listed: Vec<(Standing, &Task)> = tasks
        .all
        .iter()
        .map(|task| (tasks.standing(task), task))
        .filter(|(standing, task)| wanted(task, *standing))
        .collect();
    listed.sort_by_key(|(standing, task)| (*standing, task.rank()));

    if args.format.is_porcelain() {
        args.format.print(
            ctx,
            listed.iter().map(|(standing, task)| {
                let agent = tasks.agent(task).map(Name::to_string).unwrap_or_default();
                let id = task.id.to_string();
                [id, standing.word().into(), task.priority.to_string(), agent, task.title.clone()]
            }),
        )?;
        return Ok(Exit::Done);
    }
    let ids = state.short_ids()?;
    if args.format.json {
        let shown: Vec<_> = listed.iter().map(|(_, task)| tasks.shown(task, ids)).collect();
        json::print(ctx, "task-list", &shown)?;
        return Ok(Exit::Done);
    }
    if listed.is_empty() {
        ctx.ui().note(match (tasks.all.is_empty(), args.ready) {
            _ if args.archived => "no task is in the archive; `git orchestra gc` puts old closed ones there",
            (true, _) => "no tasks; `git orchestra task add TITLE` adds one",
            (false, true) => "no task is ready",
            (false, false) => "no tasks (`--all` shows closed ones too)",
        });
        return Ok(Exit::Done);
    }
    let paint = ctx.ui().painter();
    let mut table = Table::new(
        paint,
        &[
            ("ID", Align::Left),
            ("STATE", Align::Left),
            ("PRI", Align::Right),
            ("TITLE", Align::Left),
            ("AGENT", Align::Left),
            ("AFTER", Align::Left),
            ("LABELS", Align::Left),
            ("ZONE", Align::Left),
        ],
        3,
    );
    for (standing, task) in listed {
        let after: Vec<String> = tasks.waits_for(task).map(|id| ids.shorten(id)).collect();
        let labels: Vec<&str> = task.labels.iter().map(String::as_str).collect();
        table.row(vec![
            paint.paint(Label::Id, ids.shorten(&task.id)),
            paint.paint(standing.label(), standing.word()),
            if task.priority == 0 { String::new() } else { task.priority.to_string() },
            paint.paint(Label::Plain, &task.title),
            paint.paint(Label::Agent, tasks.agent(task).map_or("", Name::as_str)),
            paint.paint(Label::Id, if standing == Standing::Closed { String::new() } else { after.join(" ") }),
            paint.paint(Label::Dim, labels.join(" ")),
            paint.paint(Label::Dim, task.zone.as_deref().unwrap_or_default()),
        ]);
    }
    ctx.ui().page(&table.render(ctx.ui().columns()))?;
    Ok(Exit::Done)
}

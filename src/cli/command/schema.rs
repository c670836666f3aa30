//! `git orchestra schema`: what `--json` prints, described.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::ui::{Align, Label, Table};

/// Print the JSON schema of what --json prints
///
/// Every document is `{"schema": "git-orchestra/KIND/1", "data": …}`. The number changes when a field changes its
/// meaning or goes; new fields may come at any time. Absent means nothing, null means unknown.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra schema\n  git orchestra schema status")]
pub(crate) struct Args {
    /// The kind; without one, all kinds are listed
    #[arg(value_parser = clap::builder::PossibleValuesParser::new(KINDS.iter().map(|(kind, _)| *kind)), hide_possible_values = true)]
    kind: Option<String>,
}

/// Every kind with its schema.
const KINDS: &[(&str, &str)] = &[
    ("agent", include_str!("../../../fixtures/schema/agent.json")),
    ("agent-event", include_str!("../../../fixtures/schema/agent-event.json")),
    ("applied", include_str!("../../../fixtures/schema/applied.json")),
    ("check", include_str!("../../../fixtures/schema/check.json")),
    ("claimed", include_str!("../../../fixtures/schema/claimed.json")),
    ("config", include_str!("../../../fixtures/schema/config.json")),
    ("cost", include_str!("../../../fixtures/schema/cost.json")),
    ("cut", include_str!("../../../fixtures/schema/cut.json")),
    ("decision", include_str!("../../../fixtures/schema/decision.json")),
    ("decision-list", include_str!("../../../fixtures/schema/decision-list.json")),
    ("detached", include_str!("../../../fixtures/schema/detached.json")),
    ("doctor", include_str!("../../../fixtures/schema/doctor.json")),
    ("fetch", include_str!("../../../fixtures/schema/fetch.json")),
    ("finding", include_str!("../../../fixtures/schema/finding.json")),
    ("finding-list", include_str!("../../../fixtures/schema/finding-list.json")),
    ("fleet", include_str!("../../../fixtures/schema/fleet.json")),
    ("gc", include_str!("../../../fixtures/schema/gc.json")),
    ("history", include_str!("../../../fixtures/schema/history.json")),
    ("log", include_str!("../../../fixtures/schema/log.json")),
    ("log-event", include_str!("../../../fixtures/schema/log-event.json")),
    ("merge", include_str!("../../../fixtures/schema/merge.json")),
    ("merge-plan", include_str!("../../../fixtures/schema/merge-plan.json")),
    ("merge-result", include_str!("../../../fixtures/schema/merge-result.json")),
    ("notification", include_str!("../../../fixtures/schema/notification.json")),
    ("operation", include_str!("../../../fixtures/schema/operation.json")),
    ("operation-list", include_str!("../../../fixtures/schema/operation-list.json")),
    ("overlap", include_str!("../../../fixtures/schema/overlap.json")),
    ("pipeline", include_str!("../../../fixtures/schema/pipeline.json")),
    ("plan", include_str!("../../../fixtures/schema/plan.json")),
    ("profile", include_str!("../../../fixtures/schema/profile.json")),
    ("profile-list", include_str!("../../../fixtures/schema/profile-list.json")),
    ("prune", include_str!("../../../fixtures/schema/prune.json")),
    ("recovered", include_str!("../../../fixtures/schema/recovered.json")),
    ("remote", include_str!("../../../fixtures/schema/remote.json")),
    ("removed", include_str!("../../../fixtures/schema/removed.json")),
    ("status", include_str!("../../../fixtures/schema/status.json")),
    ("steered", include_str!("../../../fixtures/schema/steered.json")),
    ("sync", include_str!("../../../fixtures/schema/sync.json")),
    ("task", include_str!("../../../fixtures/schema/task.json")),
    ("task-list", include_str!("../../../fixtures/schema/task-list.json")),
    ("undo", include_str!("../../../fixtures/schema/undo.json")),
    ("verified", include_str!("../../../fixtures/schema/verified.json")),
    ("waited", include_str!("../../../fixtures/schema/waited.json")),
];

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    if let Some(kind) = &args.kind {
        let schema = KINDS.iter().find(|(name, _)| name == kind).map(|(_, schema)| *schema);
        ctx.ui().print(schema.expect("only known kinds pass the parser"))?;
        return Ok(Exit::Done);
    }
    let paint = ctx.ui().painter();
    let mut table = Table::new(paint, &[("KIND", Align::Left), ("WHAT IT IS", Align::Left)], 1);
    for (kind, schema) in KINDS {
        let schema: serde_json::Value = serde_json::from_str(schema)
            .map_err(|error| CliError::failed(format!("the schema of {kind} is broken"), error))?;
        let about = schema["description"].as_str().unwrap_or_default();
        table.row(vec![paint.paint(Label::Title, kind), paint.paint(Label::Plain, about)]);
    }
    ctx.ui().print(&table.render(ctx.ui().columns()))?;
    Ok(Exit::Done)
}

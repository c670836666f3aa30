//! `git orchestra finding list`.

use super::add;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::porcelain::ListFormat;
use crate::cli::ui::{Align, Label, Table};
use crate::cli::view::finding::{Shown, severity_label, status_word};
use crate::cli::view::span;
use crate::model::{Finding, FindingStatus, Id, Kind, Severity};
use std::cmp::Reverse;
use std::path::{Path, PathBuf};

/// List findings, the gravest first
///
/// With --porcelain each line has: id, state (open, resolved), severity, path[:line], commit, author, message.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra finding list --severity medium --path src")]
pub(crate) struct Args {
    /// Resolved ones too
    #[arg(long)]
    all: bool,
    /// Only those that matter at least so much
    #[arg(short, long, default_value = "info", value_parser = add::severity())]
    severity: Severity,
    /// Only those at or below this path
    #[arg(short, long, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    path: Option<PathBuf>,
    /// Only those of this agent
    #[arg(short, long, value_name = "AGENT")]
    agent: Option<String>,
    #[command(flatten)]
    format: ListFormat,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let state = ctx.state()?;
    let path = args.path.as_deref().map(|path| add::root_relative(ctx, path)).transpose()?;
    let agent: Option<Id> =
        args.agent.as_ref().map(|text| state.resolve(text, Some(Kind::Agent))).transpose()?.map(|found| found.id);
    let mut findings = state.all::<Finding>()?;
    let any = !findings.is_empty();
    findings.retain(|finding| {
        (args.all || finding.status == FindingStatus::Open)
            && finding.severity >= args.severity
            && agent.is_none_or(|agent| finding.agent == Some(agent))
            && path.as_ref().is_none_or(|path| {
                finding.anchor.as_ref().is_some_and(|anchor| Path::new(&anchor.path).starts_with(path))
            })
    });
    findings.sort_by_key(|finding| (finding.status, Reverse(finding.severity), finding.created, finding.id));
    if args.format.is_porcelain() {
        args.format.print(
            ctx,
            findings.iter().map(|finding| {
                [
                    finding.id.to_string(),
                    status_word(finding.status).to_owned(),
                    finding.severity.word().to_owned(),
                    finding.anchor.as_ref().map(ToString::to_string).unwrap_or_default(),
                    finding.commit.as_ref().map(ToString::to_string).unwrap_or_default(),
                    finding.author.clone(),
                    finding.message.clone(),
                ]
            }),
        )?;
        return Ok(Exit::Done);
    }
    let ids = state.short_ids()?;
    if args.format.json {
        let shown: Vec<_> = findings.iter().map(|finding| Shown::new(finding, ids)).collect();
        json::print(ctx, "finding-list", &shown)?;
        return Ok(Exit::Done);
    }
    if findings.is_empty() {
        ctx.ui().note(if any { "no such findings (`--all` shows resolved ones too)" } else { "no findings" });
        return Ok(Exit::Done);
    }
    let (paint, now) = (ctx.ui().painter(), ctx.clock().now());
    let mut table = Table::new(
        paint,
        &[
            ("ID", Align::Left),
            ("SEVERITY", Align::Left),
            ("WHERE", Align::Left),
            ("MESSAGE", Align::Left),
            ("BY", Align::Left),
            ("AGE", Align::Right),
        ],
        3,
    );
    for finding in &findings {
        let open = finding.status == FindingStatus::Open;
        let label = if open { severity_label(finding.severity) } else { Label::Dim };
        let word = if open { finding.severity.word() } else { "resolved" };
        let by = finding.author.split(" <").next().unwrap_or_default();
        table.row(vec![
            paint.paint(Label::Id, ids.shorten(&finding.id)),
            paint.paint(label, word),
            paint.paint(Label::Path, finding.anchor.as_ref().map(ToString::to_string).unwrap_or_default()),
            paint.paint(Label::Plain, finding.message.lines().next().unwrap_or_default()),
            paint.paint(Label::Agent, by),
            paint.paint(Label::Dim, span(now.since(finding.created))),
        ]);
    }
    ctx.ui().page(&table.render(ctx.ui().columns()))?;
    Ok(Exit::Done)
}

//! `git orchestra config list`.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::ui::{Align, Label, Table};
use crate::config::{Key, Layer, Setting, Settings, Value};
use serde::Serialize;

/// List the settings that count here
///
/// The roles and teams that come built in, and profiles from .claude/agents, are shown by `profile list` and `profile show`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra config list --show-origin")]
pub(crate) struct Args {
    /// Show where each value comes from
    #[arg(long)]
    show_origin: bool,
    /// List every key that there is, with what it is for
    #[arg(long, conflicts_with = "show_origin")]
    keys: bool,
    /// Print JSON (`git orchestra schema config`)
    #[arg(long, conflicts_with = "keys")]
    json: bool,
}

/// A setting as JSON shows it.
#[derive(Debug, Serialize)]
pub(super) struct Shown<'a> {
    key: &'a str,
    value: serde_json::Value,
    origin: String,
    layer: &'static str,
    /// Whether it counts: false for what waits for approval.
    approved: bool,
}

impl<'a> Shown<'a> {
    pub(super) fn new(setting: &'a Setting, settings: &Settings) -> Self {
        Self {
            key: &setting.key,
            value: match &setting.value {
                Value::Integer(number) => (*number).into(),
                Value::List(items) => items.clone().into(),
                value => value.to_string().into(),
            },
            origin: setting.origin.to_string(),
            layer: setting.origin.layer.word(),
            approved: settings.counts(setting),
        }
    }
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let paint = ctx.ui().painter();
    if args.keys {
        let mut table = Table::new(paint, &[("KEY", Align::Left), ("WHAT IT IS FOR", Align::Left)], 1);
        for key in Key::all() {
            let note = if key.is_restricted() { " (approved if the repository says it)" } else { "" };
            let name = key.pattern.replace('*', "NAME");
            table.row(vec![paint.paint(Label::Title, name), format!("{}{note}", key.help)]);
        }
        ctx.ui().page(&table.render(ctx.ui().columns()))?;
        return Ok(Exit::Done);
    }
    let settings = ctx.settings()?;
    if args.json {
        let shown: Vec<_> = settings.iter().map(|setting| Shown::new(setting, settings)).collect();
        json::print(ctx, "config", &shown)?;
        return Ok(Exit::Done);
    }
    let mut text = String::new();
    let mut table = Table::new(paint, &[("SETTING", Align::Left), ("ORIGIN", Align::Left)], 0);
    // Roles and files of agents are whole pages: `profile show` shows them.
    let is_line = |setting: &&Setting| match setting.origin.layer {
        Layer::BuiltIn => {
            !setting.profile().is_some_and(Settings::is_role) && !setting.key.starts_with("team.")
        }
        Layer::AgentFile => false,
        _ => true,
    };
    for setting in settings.iter().filter(is_line) {
        let waits = !settings.counts(setting);
        let value = paint.paint(Label::Plain, setting.value.to_string());
        let mut line = format!("{} = {value}", paint.paint(Label::Title, &setting.key));
        if waits {
            line.push_str(&paint.paint(Label::Attention, "  (waits for approval)"));
        }
        if args.show_origin {
            table.row(vec![line, paint.paint(Label::Dim, setting.origin.to_string())]);
        } else {
            text.push_str(&line);
            text.push('\n');
        }
    }
    if args.show_origin {
        // Nothing is cut: half a path or half a command line is worth nothing.
        text = table.render(None);
    }
    ctx.ui().page(&text)?;
    if settings.restricted().next().is_some() && !settings.is_approved() {
        ctx.ui().hint("`git orchestra config approve` shows what the repository wants to run, and asks");
    }
    Ok(Exit::Done)
}

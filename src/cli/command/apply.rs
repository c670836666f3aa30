//! `git orchestra apply`: an agent's work in the checkout, staged and not committed.

use crate::cli::command::merge::{few, refuse_agents};
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::ui::{Label, Painter};
use crate::model::Agent;
use crate::orchestrate::{self, Applied, ApplyRequest};
use serde::Serialize;
use std::fmt::Write as _;

/// Stage what an agent made in your checkout, without committing it
///
/// Its changes are merged onto what you have checked out, uncommitted work included, and staged: look at them, run them,
/// change them. Nothing is committed, no branch moves, and the agent goes on as before. Your own changes to other files stay as
/// they are; where the two would meet, or git would need a person to merge them, nothing is touched.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra apply blue-heron\n  git orchestra apply blue-heron --dry-run"
)]
pub(crate) struct Args {
    /// The agent
    #[arg(value_name = "AGENT")]
    agent: String,
    /// Leave out what it has not committed
    #[arg(long)]
    committed: bool,
    /// Say which files would change, and touch nothing
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Print JSON (`git orchestra schema applied`)
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    agent: &'a str,
    paths: &'a [String],
    dry_run: bool,
}

/// How many paths a hint names.
const NAMED: usize = 6;

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    refuse_agents(ctx)?;
    if !args.dry_run {
        ctx.recover()?;
    }
    let store = ctx.store()?;
    let agent: Agent = ctx.state()?.require_named(&args.agent)?;
    let request = ApplyRequest { agent: agent.id, committed: args.committed, dry_run: args.dry_run };
    let name = agent.name.as_str();
    let refused = |what: String| CliError::new(ErrorKind::Failed, format!("{what}; nothing was touched"));
    let paths = match orchestrate::apply(store, &request)? {
        Applied::Staged { paths, .. } => paths,
        Applied::Nothing => Vec::new(),
        Applied::Conflict(paths) => {
            return Err(refused(format!("{name} conflicts with what is checked out in {}", few(&paths, Painter::new(false))))
                .hint(format!("`git orchestra merge {name}` asks about each conflict")));
        }
        Applied::InTheWay(paths) => {
            return Err(refused(format!("{} changed here and by {name}", few(&paths, Painter::new(false))))
                .hint("commit or stash your changes first"));
        }
        Applied::Refused(words) => return Err(refused(words)),
    };
    if args.json {
        json::print(ctx, "applied", &Shown { agent: name, paths: &paths, dry_run: args.dry_run })?;
        return Ok(Exit::Done);
    }
    ctx.ui().print(&said(ctx.ui().painter(), name, &paths, args.dry_run))?;
    if !args.dry_run && !paths.is_empty() {
        let quoted: Vec<&str> = paths.iter().map(String::as_str).collect();
        let plain = |path: &&str| path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b));
        let back = if quoted.len() <= NAMED && quoted.iter().all(plain) {
            format!("`git restore --staged --worktree -- {}` takes it back", quoted.join(" "))
        } else {
            "`git restore --staged --worktree` takes files back, by name".to_owned()
        };
        ctx.ui().hint(format!("`git commit` keeps it; {back}"));
    }
    Ok(Exit::Done)
}

fn said(paint: Painter, name: &str, paths: &[String], dry_run: bool) -> String {
    let agent = paint.paint(Label::Agent, name);
    let files = match paths.len() {
        0 => return format!("all that {agent} made is there already\n"),
        1 => "1 file".to_owned(),
        n => format!("{n} files"),
    };
    let verb = if dry_run { "would stage" } else { "staged" };
    let mut text = format!("{verb} {files} of {agent}, nothing is committed\n");
    for path in paths {
        let _ = writeln!(text, "  {}", paint.paint(Label::Path, path));
    }
    text
}

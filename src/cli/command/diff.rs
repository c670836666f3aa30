//! `git orchestra diff`: what an agent changed.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::ui::{Label, Painter};
use crate::git::Repository;
use crate::model::{Agent, ObjectId};
use crate::orchestrate::{branch, trust};
use crate::process::Command;
use std::ffi::OsString;

/// Show what an agent changed
///
/// That is everything since its branch and its target parted, uncommitted work included. No external diff program and no text conversion that the repository names is run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra diff blue-heron\n  git orchestra diff blue-heron --stat -- src")]
#[expect(clippy::struct_excessive_bools, reason = "switches of a command line")]
pub(crate) struct Args {
    /// The agent
    #[arg(value_name = "AGENT")]
    agent: String,
    /// Leave out what is not committed
    #[arg(long)]
    committed: bool,
    /// Show how much changed in each file
    #[arg(long, conflicts_with = "name_only")]
    stat: bool,
    /// Show only the names of changed files
    #[arg(long)]
    name_only: bool,
    /// End names with NUL (with --name-only)
    #[arg(short = 'z', requires = "name_only")]
    null: bool,
    /// Only these paths, relative to the repository's root
    #[arg(last = true, value_name = "PATH", value_hint = clap::ValueHint::AnyPath)]
    paths: Vec<OsString>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let agent: Agent = ctx.state()?.require_named(&args.agent)?;
    let (base, new) = sides(ctx, &agent, args.committed)?;
    let command = diff(ctx)?
        .args(args.stat.then(|| format!("--stat={}", ctx.ui().columns().unwrap_or(80))))
        .args(args.name_only.then_some("--name-only"))
        .args(args.null.then_some("-z"))
        .args([base.as_str(), new.as_str(), "--"])
        .args(&args.paths);
    let out = command.read()?;
    if ctx.ui().is_terminal() {
        let text = String::from_utf8_lossy(&out);
        ctx.ui().page(&painted(&text, ctx.ui().painter()))?;
    } else {
        // Bytes for other programs: files need not be UTF-8.
        ctx.ui().print_bytes(&out)?;
    }
    Ok(Exit::Done)
}

/// A diff that runs nothing which the repository names, with paths relative to its root.
fn diff(ctx: &Context) -> Result<Command, CliError> {
    let repo = ctx.repo()?;
    let command = repo.git(["diff", "--no-ext-diff", "--no-textconv", "--find-renames", "--no-color"]);
    Ok(match repo.work_dir() {
        Some(dir) => command.current_dir(dir),
        None => command,
    })
}

/// What an agent started from, and what it has made of that: a commit, or a tree with what is not committed.
pub(super) fn sides(ctx: &Context, agent: &Agent, committed: bool) -> Result<(ObjectId, ObjectId), CliError> {
    let repo = ctx.repo()?;
    trust::require_unchanged(repo)?;
    let (commit, worktree) = branch::made(ctx.store()?, agent, committed)?;
    let base = base(repo, agent, &commit)?;
    let new = match worktree {
        Some(worktree) => repo.snapshot(&worktree)?,
        None => commit,
    };
    Ok((base, new))
}

/// The diff between two of those.
pub(super) fn between(ctx: &Context, [base, new]: [&ObjectId; 2], paths: &[OsString]) -> Result<Vec<u8>, CliError> {
    Ok(diff(ctx)?.args([base.as_str(), new.as_str(), "--"]).args(paths).read()?)
}

/// A diff in our own colours: what the files themselves contain cannot colour or move anything.
pub(super) fn painted(diff: &str, paint: Painter) -> String {
    let mut text = String::with_capacity(diff.len() * 2);
    let mut in_hunk = false;
    for line in diff.lines() {
        if line.starts_with("diff --git ") {
            in_hunk = false;
        } else if line.starts_with("@@ ") {
            in_hunk = true;
        }
        let label = match (in_hunk, line.as_bytes().first()) {
            (true, Some(b'+')) => Label::Added,
            (true, Some(b'-')) => Label::Removed,
            (true, Some(b'@')) => Label::Running,
            (true, _) | (false, Some(b' ')) => Label::Plain,
            (false, _) => Label::Title,
        };
        text.push_str(&paint.paint_code(label, line));
        text.push('\n');
    }
    text
}

/// Where the agent's changes start: where its branch and its target parted, or where it was made if that work has
/// landed since.
fn base(repo: &Repository, agent: &Agent, tip: &ObjectId) -> Result<ObjectId, CliError> {
    let target = agent.target.as_ref().map(|target| repo.find_ref(target)).transpose()?.flatten();
    let Some(target) = target.filter(|_| agent.merged.is_none()) else { return Ok(agent.base.clone()) };
    if *tip == target {
        return Ok(agent.base.clone());
    }
    let ancestry = repo.ancestry(&[tip.clone(), target.clone()])?;
    match ancestry.merge_bases(tip, &target).first() {
        // The target contains the branch already: its own changes are what came after it was made.
        Some(base) if *base != tip => Ok((*base).clone()),
        _ => Ok(agent.base.clone()),
    }
}

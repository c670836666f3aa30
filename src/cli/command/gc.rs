//! `git orchestra gc`: old closed tasks are archived, what we wrote is packed, and nothing of the user's is touched.

use super::merge::refuse_agents;
use super::sync::remote;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::session::own_program;
use crate::cli::ui::{Align, Bar, Label, Reply, Table};
use crate::cli::view::when;
use crate::model::{Id, ObjectId, Task};
use crate::orchestrate::{CutPlan, archive, cut, has_exchanged, plan_cut};
use crate::store::EPOCH_REFS;
use crate::orchestrate::maintain::{Maintained, is_due, maintain};
use crate::orchestrate::measure::bytes;
use crate::process::Command;
use serde::Serialize;
use std::fmt::Write as _;
use std::time::Duration;

/// Archive old closed tasks, and pack what git orchestra wrote
///
/// Closed tasks that nobody touched for orchestra.archiveAfter (90 days unless set), and that no open task, agent,
/// finding, decision or merge needs, go into the archive: lists leave them out, `task list --archived` lists them, and
/// whoever names one finds it as before. Any change brings a task back; `undo` brings back all. Then the objects that
/// the state, transcripts and notes reach are packed, and a commit-graph of our own, which makes `log ID` quick, learns
/// their commits. Your own `git gc`, its settings, your objects and your commit-graph are left alone; both may run at
/// once. Packing runs by itself as well, in the background, about every 1,000 changes, unless maintenance.auto is false.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of the command line")]
#[command(after_help = "Examples:\n  git orchestra gc --dry-run\n  git orchestra gc --archive-after 30d\n  git orchestra gc --cut-epoch --dry-run")]
pub(crate) struct Args {
    /// Say what would be done, and do nothing
    #[arg(short = 'n', long, conflicts_with = "auto")]
    dry_run: bool,
    /// Archive closed tasks that nobody touched for so long, such as 30d
    #[arg(long, value_name = "AGE", value_parser = super::prune::span, conflicts_with = "auto")]
    archive_after: Option<Duration>,
    /// Begin the history of the state anew, here and on the remote, and do nothing else
    ///
    /// Nothing that the state holds changes. Its chain of commits, which a first clone fetches whole, is replaced by one
    /// commit; the old chain stays here, under refs/orchestra/epochs/, and on machines that have it. Other machines take
    /// that over with their next sync, and keep what they had not sent. What was done before cannot be undone any more.
    #[arg(long, conflicts_with_all = ["auto", "archive_after"])]
    cut_epoch: bool,
    /// Do not ask
    #[arg(short, long, requires = "cut_epoch")]
    yes: bool,
    /// Pack only, only if it is time, and without a word
    #[arg(long)]
    auto: bool,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

/// What was done, or would be.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    done: bool,
    archived: &'a [Id],
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    packed: Option<&'a Maintained>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let store = ctx.store()?;
    if args.auto {
        if is_due(store.repo()) && store.is_initialised()? {
            maintain(store)?;
        }
        return Ok(Exit::Done);
    }
    if !store.is_initialised()? {
        ctx.ui().note("there is no state yet: nothing to pack");
        return Ok(Exit::Done);
    }
    if args.cut_epoch {
        return cut_epoch(ctx, args);
    }
    let age = match args.archive_after {
        Some(age) => age,
        None => ctx.settings()?.archive_after(),
    };
    if !args.dry_run {
        ctx.recover()?;
    }
    let old = archive::plan(store, age)?;
    if args.dry_run {
        return would(ctx, args, &old);
    }
    let archived = {
        let bar = Bar::new(ctx.ui(), "archiving", old.len());
        archive::archive(store, &old, age, |done| bar.set(done))?
    };
    let packed = {
        let _busy = ctx.ui().busy("packing");
        maintain(store)?
    };
    if args.json {
        json::print(ctx, "gc", &Shown { done: true, archived: &archived, packed: packed.as_ref() })?;
        return Ok(Exit::Done);
    }
    if !archived.is_empty() {
        ctx.ui().print(&format!("{} archived\n", tasks(archived.len())))?;
    }
    match packed {
        Some(packed) => ctx.ui().print(&shown(&packed))?,
        None => ctx.ui().note("another process packs"),
    }
    Ok(Exit::Done)
}

/// What cutting the history did, or would do.
#[derive(Debug, Serialize)]
struct ShownCut<'a> {
    done: bool,
    epoch: u64,
    commits: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'a ObjectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<&'a str>,
}

fn cut_epoch(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    refuse_agents(ctx)?;
    let store = ctx.store()?;
    if !args.dry_run {
        ctx.recover()?;
    }
    let mut there = None;
    if !ctx.repo()?.remotes()?.is_empty() {
        there = Some(remote(ctx, None)?);
    }
    let remote = match there {
        Some(remote) if has_exchanged(store, &remote)? => Some(remote),
        _ => None,
    };
    let name = remote.as_ref().map(|remote| remote.name.as_str());
    let plan = plan_cut(store)?;
    let CutPlan { epoch, commits, .. } = plan;
    let places = name.map_or_else(|| "here".to_owned(), |name| format!("here and on {name}"));
    if args.dry_run {
        if args.json {
            let shown = ShownCut { done: false, epoch, commits, remote: name, commit: None, kept: None };
            json::print(ctx, "cut", &shown)?;
        } else {
            let text = format!(
                "the history of {commits} commits would begin anew with epoch {epoch}, {places}\n\
                 kept in this clone, with all that `oplog` tells: the old commits, under {EPOCH_REFS}\n"
            );
            ctx.ui().print(&text)?;
        }
        return Ok(Exit::Done);
    }
    if !args.yes {
        let question = format!("Begin the history of {commits} commits anew, {places}? Nobody can undo that.");
        match ctx.ui().confirm(&question, false)? {
            Reply::Chosen(true) => {}
            Reply::Chosen(false) | Reply::Cancelled => {
                ctx.ui().note("nothing was cut");
                return Ok(Exit::Error);
            }
            Reply::NoTerminal => {
                return Err(CliError::usage("nobody can be asked: there is no terminal")
                    .hint("`--yes` cuts without a question; `--dry-run` says what it would do"));
            }
        }
    }
    let done = cut(store, remote.as_ref())?;
    if args.json {
        let (commit, kept) = (Some(&done.commit), done.kept.as_deref());
        json::print(ctx, "cut", &ShownCut { done: true, epoch: done.epoch, commits, remote: name, commit, kept })?;
        return Ok(Exit::Done);
    }
    let paint = ctx.ui().painter();
    let mut text = format!(
        "the history begins anew with epoch {} ({}), {places}\n",
        done.epoch,
        paint.paint(Label::Commit, done.commit.short())
    );
    if let Some(kept) = &done.kept {
        let _ = writeln!(text, "what was before is kept as {}", paint.paint(Label::Branch, kept));
    }
    ctx.ui().print(&text)?;
    Ok(Exit::Done)
}

/// What would go into the archive.
fn would(ctx: &Context, args: &Args, old: &[Task]) -> Result<Exit, CliError> {
    if args.json {
        let archived: Vec<Id> = old.iter().map(|task| task.id).collect();
        json::print(ctx, "gc", &Shown { done: false, archived: &archived, packed: None })?;
        return Ok(Exit::Done);
    }
    let (paint, ids) = (ctx.ui().painter(), ctx.state()?.short_ids_of(old.iter().map(|task| &task.id))?);
    let headings = [("ID", Align::Left), ("TITLE", Align::Left), ("CLOSED", Align::Right)];
    let mut table = Table::new(paint, &headings, 1);
    for task in old {
        table.row(vec![
            paint.paint(Label::Id, ids.shorten(&task.id)),
            paint.paint(Label::Plain, &task.title),
            paint.paint(Label::Dim, when(task.changed, ctx.clock().now())),
        ]);
    }
    if old.is_empty() {
        ctx.ui().print("no task can be archived\n")?;
    } else {
        let text = format!("{}{} can be archived\n", table.render(ctx.ui().columns()), tasks(old.len()));
        ctx.ui().page(&text)?;
    }
    Ok(Exit::Done)
}

fn tasks(count: usize) -> String {
    if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") }
}

fn shown(done: &Maintained) -> String {
    let line = |word: &str, counts: &crate::git::ObjectCounts| {
        let packs = if counts.packs == 1 { "1 pack".to_owned() } else { format!("{} packs", counts.packs) };
        let (loose, packed) = (bytes(counts.loose_bytes), bytes(counts.pack_bytes));
        format!("{word}  {} loose objects ({loose}), {packs} ({packed})\n", counts.loose)
    };
    let mut text = line("before", &done.before);
    text.push_str(&line("after ", &done.after));
    if !done.packed {
        text.push_str("nothing of ours was loose\n");
    }
    if done.combined > 0 {
        let _ = writeln!(text, "{} packs of ours became one", done.combined);
    }
    text
}

/// Starts it in the background if it is time. What goes wrong with it is nobody's concern now: the next command asks
/// again.
pub(crate) fn start_if_due(ctx: &Context) {
    let Some(repo) = ctx.opened().filter(|_| ctx.env().agent().is_none()) else { return };
    if !is_due(repo) {
        return;
    }
    let Ok(program) = own_program() else { return };
    let dir = repo.main_dir();
    let command = Command::new(program).args(["gc", "--auto"]).envs(ctx.env().iter()).current_dir(dir);
    let command = command.env("GIT_DIR", repo.common_dir()).without_env("GIT_WORK_TREE");
    if let Err(error) = command.start_and_leave() {
        tracing::debug!("cannot start maintenance: {error}");
    }
}

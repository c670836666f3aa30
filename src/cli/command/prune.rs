//! `git orchestra prune`: what can go, with its size; and it goes when told to.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::session;
use crate::cli::ui::{Align, Label, Table};
use crate::orchestrate::default_worktree_root;
use crate::orchestrate::measure::bytes;
use crate::orchestrate::prune::{Item, PruneOptions, Pruned, plan, prune};
use serde::Serialize;
use std::time::Duration;

/// Say what can go, and let it go with --yes
///
/// Agents whose work has landed and whose worktrees are clean, what builds left in the worktrees of others, rescue
/// refs whose commits a branch has, journals whose transcripts are kept, the history of the state from before a cut that
/// is a year ago (orchestra.pruneEpochsAfter), caches, temporary files. Without --yes nothing goes. What is in no other
/// branch is kept under a rescue ref, which is named. `undo` brings refs back until git has collected their commits.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra prune\n  git orchestra prune --yes\n  git orchestra prune --transcripts 26w --yes")]
pub(crate) struct Args {
    /// Do it
    #[arg(short, long, visible_alias = "force")]
    yes: bool,
    /// How old rescue refs are that go, such as 30d
    #[arg(long, value_name = "AGE", value_parser = span, default_value = "30d")]
    older_than: Duration,
    /// Transcripts of this age and older too, such as 26w: they are nowhere else
    #[arg(long, value_name = "AGE", value_parser = span)]
    transcripts: Option<Duration>,
    /// History of the state from before a cut so long ago, such as 26w
    #[arg(long, value_name = "AGE", value_parser = span)]
    epochs: Option<Duration>,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Shown<'a> {
    done: bool,
    bytes: u64,
    items: Vec<ShownItem<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownItem<'a> {
    #[serde(flatten)]
    item: &'a Item,
    #[serde(skip_serializing_if = "Option::is_none")]
    rescue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    kept: Option<&'a str>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    if args.yes {
        ctx.recover()?;
    }
    let store = ctx.store()?;
    let epochs = match args.epochs {
        Some(age) => age,
        None => ctx.settings()?.prune_epochs_after(),
    };
    let options = PruneOptions { older_than: args.older_than, transcripts: args.transcripts, epochs };
    // Where worktrees are made is asked of a setting that may wait for approval: nothing goes by that alone.
    let root = session::worktree_root(ctx).or_else(|_| Ok::<_, CliError>(default_worktree_root(ctx.repo()?)))?;
    let items = {
        let _busy = ctx.ui().busy("looking what can go");
        plan(store, options, &root)?
    };
    let told = |item: &Item, pruned: &Pruned| {
        if args.json {
            return;
        }
        match pruned {
            Pruned::Gone(Some(rescue)) => {
                ctx.ui().note(format!("{}: what was in no other branch is kept as {rescue}", item.subject));
            }
            Pruned::Gone(None) => {}
            Pruned::Kept(why) => ctx.ui().warn(format!("{} stays: failed to {why}", item.subject)),
        }
    };
    let pruned = if args.yes { prune(store, &items, &session::surroundings(ctx)?, told) } else { Vec::new() };
    let gone = |at: usize| !matches!(pruned.get(at), Some(Pruned::Kept(_)));
    let total = items.iter().enumerate().filter(|(at, _)| gone(*at)).map(|(_, item)| item.bytes).sum();
    let exit = if (0..items.len()).all(gone) { Exit::Done } else { Exit::Error };
    if args.json {
        let shown = items.iter().enumerate().map(|(at, item)| {
            let (rescue, kept) = match pruned.get(at) {
                Some(Pruned::Gone(rescue)) => (rescue.as_deref(), None),
                Some(Pruned::Kept(why)) => (None, Some(why.as_str())),
                None => (None, None),
            };
            ShownItem { item, rescue, kept }
        });
        json::print(ctx, "prune", &Shown { done: args.yes, bytes: total, items: shown.collect() })?;
        return Ok(exit);
    }
    if items.is_empty() {
        ctx.ui().print("nothing can go\n")?;
        return Ok(exit);
    }
    let paint = ctx.ui().painter();
    let headings = [("WHAT", Align::Left), ("WHICH", Align::Left), ("SIZE", Align::Right), ("WHY", Align::Left)];
    let mut table = Table::new(paint, &headings, 1);
    for (_, item) in items.iter().enumerate().filter(|(at, _)| gone(*at)) {
        table.row(vec![
            paint.paint(Label::Heading, item.kind.word()),
            paint.paint(Label::Title, &item.subject),
            if item.bytes == 0 { String::new() } else { bytes(item.bytes) },
            paint.paint(Label::Dim, &item.reason),
        ]);
    }
    ctx.ui().page(&table.render(ctx.ui().columns()))?;
    if args.yes {
        ctx.ui().print(&format!("{} freed\n", bytes(total)))?;
    } else {
        ctx.ui().print(&format!("{} can go\n", bytes(total)))?;
        ctx.ui().hint("`git orchestra prune --yes` lets them go");
    }
    Ok(exit)
}

/// An age as it is typed.
pub(super) fn span(text: &str) -> Result<Duration, String> {
    crate::config::parse_span(text).ok_or_else(|| "an age such as `12h`, `30d` or `26w`".to_owned())
}

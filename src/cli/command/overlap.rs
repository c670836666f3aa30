//! `git orchestra overlap`: which places agents change together, and what merging them would do.

use super::merge::{ShownLeftOut, left_out, named_agents};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::porcelain::ListFormat;
use crate::cli::ui::{Align, Label, Painter, Table};
use crate::model::{Forecast, Id, Pair, Suspect};
use crate::orchestrate::merge::{Request, Selection, select, short_branch, with_uncommitted};
use crate::orchestrate::overlap::{Overlap, overlap_and_suspects};
use serde::Serialize;
use std::fmt::Write as _;

/// Show what agents change together, and what of it conflicts
///
/// Compares every two agents, and each with the branch it would be merged into; what they have not committed yet
/// counts. The verdict is git's own: every pair that could conflict is merged, without touching any checkout. Of what
/// merges cleanly it names what may not work together: a definition that one took away and the other uses, a function
/// that both edited, a manifest that both changed.
///
/// With --porcelain each pair has a line: verdict (clean, conflict, unrelated), files in common, conflicting paths, an agent,
/// the other agent or the full name of the target's ref, reasons for a look.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra overlap\n  git orchestra overlap blue-heron grey-fox --into release"
)]
pub(crate) struct Args {
    /// Names or ids; without any, all agents that have work to merge
    #[arg(value_name = "AGENT")]
    agents: Vec<String>,
    /// The branch they would be merged into, instead of the one they started from
    #[arg(long, value_name = "BRANCH")]
    into: Option<String>,
    /// Name every file in common
    #[arg(short, long)]
    verbose: bool,
    #[command(flatten)]
    format: ListFormat,
}

/// Files that are named for each pair unless all are asked for.
const FEW: usize = 6;
/// How wide a text is that goes to a file or another program.
const WIDE: usize = 80;

#[derive(Debug, Serialize)]
struct Shown<'a> {
    target: &'a str,
    target_tip: &'a str,
    branches: Vec<ShownBranch<'a>>,
    pairs: &'a [Pair],
    left_out: Vec<ShownLeftOut<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownBranch<'a> {
    agent: &'a Id,
    name: &'a str,
    work: &'a str,
    uncommitted: bool,
    ahead: u32,
    behind: u32,
    files: u32,
    added: u64,
    removed: u64,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let store = ctx.store()?;
    let request = Request {
        agents: named_agents(ctx, &args.agents)?,
        target: args.into.clone(),
        ..Request::default()
    };
    let (selection, overlap) = {
        let _busy = ctx.ui().busy("comparing branches");
        let mut selection = select(store, &request)?;
        with_uncommitted(store, &mut selection)?;
        let overlap = overlap_and_suspects(store.repo(), &selection.branches(), &selection.target_tip)?;
        (selection, overlap)
    };
    left_out(ctx, &selection.left_out);
    if args.format.is_porcelain() {
        return porcelain(ctx, args.format, &selection, &overlap);
    }
    if args.format.json {
        json::print(ctx, "overlap", &shown(&selection, &overlap))?;
        return Ok(Exit::Done);
    }
    if overlap.branches.is_empty() {
        ctx.ui().note("no agent has work to merge");
        return Ok(Exit::Done);
    }
    let (paint, columns) = (ctx.ui().painter(), ctx.ui().columns());
    let target = short_branch(&selection.target);
    let mut text = standings(&overlap, paint, target, columns.unwrap_or(WIDE));
    match matrix(&overlap, paint, target, columns) {
        Some(matrix) => text.push_str(&matrix),
        None => ctx.ui().note("the matrix is wider than the terminal; here are the pairs"),
    }
    text.push_str(&pairs(&overlap, paint, target, args.verbose));
    ctx.ui().page(&text)?;
    Ok(Exit::Done)
}

fn shown<'a>(selection: &'a Selection, overlap: &'a Overlap) -> Shown<'a> {
    let branches = overlap.branches.iter().map(|standing| ShownBranch {
        agent: &standing.branch.agent,
        name: standing.branch.name.as_str(),
        work: standing.branch.work.as_str(),
        uncommitted: standing.branch.uncommitted,
        ahead: standing.ahead,
        behind: standing.behind,
        files: standing.stat.files,
        added: standing.stat.added,
        removed: standing.stat.removed,
    });
    Shown {
        target: &selection.target,
        target_tip: selection.target_tip.as_str(),
        branches: branches.collect(),
        pairs: &overlap.pairs,
        left_out: ShownLeftOut::all(&selection.left_out),
    }
}

fn porcelain(
    ctx: &Context,
    format: ListFormat,
    selection: &Selection,
    overlap: &Overlap,
) -> Result<Exit, CliError> {
    let name = |id: &Id| {
        let found = overlap.branches.iter().find(|standing| standing.branch.agent == *id);
        found.map(|standing| standing.branch.name.to_string()).unwrap_or_default()
    };
    let records = overlap.pairs.iter().map(|pair| {
        let (verdict, paths) = match &pair.forecast {
            Forecast::Clean => ("clean", 0),
            Forecast::Conflict { paths, .. } => ("conflict", paths.len()),
            Forecast::Unrelated => ("unrelated", 0),
        };
        let other = pair.b.as_ref().map_or_else(|| selection.target.clone(), name);
        let suspects = pair.suspects.len().to_string();
        [verdict.to_owned(), pair.files.len().to_string(), paths.to_string(), name(&pair.a), other, suspects]
    });
    format.print(ctx, records)?;
    Ok(Exit::Done)
}

fn standings(overlap: &Overlap, paint: Painter, target: &str, columns: usize) -> String {
    let mut table = Table::new(
        paint,
        &[
            ("", Align::Right),
            ("AGENT", Align::Left),
            ("AHEAD", Align::Right),
            ("BEHIND", Align::Right),
            ("FILES", Align::Right),
            ("LINES", Align::Left),
            ("", Align::Left),
        ],
        1,
    );
    for (number, standing) in overlap.branches.iter().enumerate() {
        let (added, removed) = (format!("+{}", standing.stat.added), format!("-{}", standing.stat.removed));
        let lines = format!("{} {}", paint.paint(Label::Added, added), paint.paint(Label::Removed, removed));
        let uncommitted = if standing.branch.uncommitted { "not all committed" } else { "" };
        table.row(vec![
            paint.paint(Label::Dim, (number + 1).to_string()),
            paint.paint(Label::Agent, standing.branch.name.as_str()),
            standing.ahead.to_string(),
            standing.behind.to_string(),
            standing.stat.files.to_string(),
            lines,
            paint.paint(Label::Dim, uncommitted),
        ]);
    }
    let into = paint.paint(Label::Branch, target);
    format!("{} {into}\n\n{}", paint.paint(Label::Heading, "into"), table.render(Some(columns)))
}

/// A triangle of cells: `·` nothing in common, `3` files that git merges, `3?` and worth a look, `2!` paths that
/// conflict, `x` no common history. `None` if it does not fit; without `columns`, parts of it, one below the other.
fn matrix(overlap: &Overlap, paint: Painter, target: &str, columns: Option<usize>) -> Option<String> {
    let widest = overlap.pairs.iter().map(|pair| cell(Some(pair), Painter::new(false)).chars().count()).max();
    // As wide as it has to be: the terminal is not.
    let cell_width = widest.unwrap_or(1).max(overlap.branches.len().to_string().len()) + 1;
    let ids: Vec<&Id> = overlap.branches.iter().map(|standing| &standing.branch.agent).collect();
    let name_width = overlap.branches.iter().map(|s| s.branch.name.as_str().len()).max().unwrap_or(0).min(24);
    let first = target.chars().count().clamp(cell_width, 12);
    let left = 4 + name_width;
    let count = ids.len().saturating_sub(1);
    let mut parts = vec![(true, 0..count)];
    match columns {
        Some(columns) if left + 2 + first + count * cell_width > columns => return None,
        Some(_) => {}
        None => {
            let room = |used: usize| (WIDE.saturating_sub(left + 2 + used) / cell_width).max(1);
            let mut at = room(first).min(count);
            parts = vec![(true, 0..at)];
            while at < count {
                let end = (at + room(0)).min(count);
                parts.push((false, at..end));
                at = end;
            }
        }
    }
    let cut = |text: &str, width: usize| console::truncate_str(text, width, "…").into_owned();
    let pad = |cell: &str, width: usize| console::pad_str(cell, width, console::Alignment::Right, None).into_owned();
    let mut text = String::new();
    for (with_target, others) in parts {
        let _ = write!(text, "\n{}", " ".repeat(left + 2));
        if with_target {
            text.push_str(&pad(&paint.paint(Label::Branch, cut(target, first)), first));
        }
        for number in others.clone() {
            text.push_str(&pad(&paint.paint(Label::Dim, (number + 1).to_string()), cell_width));
        }
        text.push('\n');
        // The others are above: a triangle.
        let top = if with_target { 0 } else { others.start + 1 };
        for (row, standing) in overlap.branches.iter().enumerate().skip(top) {
            let name = cut(standing.branch.name.as_str(), name_width);
            let name = paint.paint(Label::Agent, format!("{name:name_width$}"));
            let number = paint.paint(Label::Dim, format!("{:>3}", row + 1));
            let _ = write!(text, "{number} {name}  ");
            if with_target {
                text.push_str(&pad(&cell(overlap.between(ids[row], None), paint), first));
            }
            for other in &ids[others.start..others.end.min(row)] {
                text.push_str(&pad(&cell(overlap.between(ids[row], Some(other)), paint), cell_width));
            }
            text.push('\n');
        }
    }
    let legend = if overlap.pairs.iter().any(|pair| !pair.suspects.is_empty()) {
        "· nothing in common   3 git merges 3 files   3? worth a look   2! paths conflict"
    } else {
        "· nothing in common   3 files in common, git merges them   2! paths conflict"
    };
    let alien = if overlap.pairs.iter().any(|pair| pair.forecast == Forecast::Unrelated) {
        "   x no common history"
    } else {
        ""
    };
    let _ = writeln!(text, "\n{}", paint.paint(Label::Dim, format!("{legend}{alien}")));
    Some(text)
}

fn cell(pair: Option<&Pair>, paint: Painter) -> String {
    match pair {
        Some(Pair { forecast: Forecast::Conflict { paths, .. }, .. }) => {
            paint.paint(Label::Bad, format!("{}!", paths.len().max(1)))
        }
        Some(Pair { forecast: Forecast::Unrelated, .. }) => paint.paint(Label::Bad, "x"),
        Some(pair) if !pair.suspects.is_empty() => {
            paint.paint(Label::Attention, format!("{}?", pair.files.len()))
        }
        Some(pair) if !pair.files.is_empty() => paint.paint(Label::Attention, pair.files.len().to_string()),
        _ => paint.paint(Label::Dim, "·"),
    }
}

/// Every pair with something in common, conflicts first.
fn pairs(overlap: &Overlap, paint: Painter, target: &str, all: bool) -> String {
    let name = |id: &Id| {
        let found = overlap.branches.iter().find(|standing| standing.branch.agent == *id);
        found.map_or("", |standing| standing.branch.name.as_str())
    };
    let is_unrelated = |pair: &Pair| pair.forecast == Forecast::Unrelated;
    let alone = |id: &Id| overlap.between(id, None).is_some_and(is_unrelated);
    let counts = |pair: &&Pair| {
        // One that has nothing in common with the target is said to, once.
        if is_unrelated(pair) {
            return pair.b.as_ref().is_none_or(|b| !alone(&pair.a) && !alone(b));
        }
        pair.forecast.is_conflict() || !pair.files.is_empty() || !pair.suspects.is_empty()
    };
    let mut common: Vec<&Pair> = overlap.pairs.iter().filter(counts).collect();
    common.sort_by_key(|pair| (pair.forecast == Forecast::Clean, pair.suspects.is_empty()));
    let mut text = String::new();
    for pair in common {
        let other = match &pair.b {
            Some(b) => paint.paint(Label::Agent, name(b)),
            None => paint.paint(Label::Branch, target),
        };
        let (label, word) = match pair.forecast {
            Forecast::Conflict { .. } => (Label::Bad, "conflict"),
            Forecast::Unrelated => (Label::Bad, "no history in common, no merge takes it"),
            Forecast::Clean if pair.suspects.is_empty() => (Label::Good, "git merges them"),
            Forecast::Clean => (Label::Attention, "git merges them, and they are worth a look"),
        };
        let _ = writeln!(
            text,
            "\n{} and {other}: {}",
            paint.paint(Label::Agent, name(&pair.a)),
            paint.paint(label, word)
        );
        for reason in &pair.suspects {
            let words = suspect_words(reason, target, &name);
            let _ = writeln!(text, "    {}", paint.paint(Label::Attention, words));
        }
        let lines = file_lines(pair, paint);
        let shown = if all || lines.len() <= FEW + 1 { lines.len() } else { FEW };
        for line in &lines[..shown] {
            let _ = writeln!(text, "    {line}");
        }
        if shown < lines.len() {
            let more = format!("and {} more (--verbose names them)", lines.len() - shown);
            let _ = writeln!(text, "    {}", paint.paint(Label::Dim, more));
        }
    }
    if text.is_empty() { format!("\n{}\n", paint.paint(Label::Good, "nothing overlaps")) } else { text }
}

/// Why two branches may not work together: `blue-heron takes parse_date out of src/dates.rs, and it is used in src/a.rs:2`
pub(crate) fn suspect_words<'a>(reason: &Suspect, target: &'a str, name: &dyn Fn(&Id) -> &'a str) -> String {
    match reason {
        Suspect::Gone { name: gone, path, by, used_in, line } => {
            let by = by.as_ref().map_or(target, name);
            format!("{by} takes {gone} out of {path}, and it is used in {used_in}:{line}")
        }
        Suspect::SameFunction { path, function } => format!("both edit `{function}` in {path}"),
        Suspect::Manifest { path } => format!("both change {path}"),
    }
}

/// The files of a pair: those that conflict first, with the lines that both change.
fn file_lines(pair: &Pair, paint: Painter) -> Vec<String> {
    let (conflicts, kinds_differ): (&[String], &[String]) = match &pair.forecast {
        Forecast::Conflict { paths, kinds_differ } => (paths, kinds_differ),
        Forecast::Clean | Forecast::Unrelated => (&[], &[]),
    };
    let mut files: Vec<(bool, &str, u32)> =
        pair.files.iter().map(|file| (conflicts.contains(&file.path), file.path.as_str(), file.lines)).collect();
    let unlisted = conflicts.iter().filter(|path| pair.files.iter().all(|file| file.path != **path));
    files.extend(unlisted.map(|path| (true, path.as_str(), 0)));
    files.sort_by_key(|&(conflict, path, _)| (!conflict, path));
    let line = |(conflict, path, lines): (bool, &str, u32)| {
        let kinds = if kinds_differ.iter().any(|other| other == path) { "  of different kinds" } else { "" };
        let path = paint.paint(if conflict { Label::Bad } else { Label::Path }, path);
        let common = match lines {
            0 => String::new(),
            1 => "  1 line in common".to_owned(),
            lines => format!("  {lines} lines in common"),
        };
        format!("{path}{}", paint.paint(Label::Dim, format!("{kinds}{common}")))
    };
    files.into_iter().map(line).collect()
}

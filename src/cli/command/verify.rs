//! `git orchestra verify`: whether every line that was merged is still accounted for.

use super::merge::named_agents;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::ui::Label;
use crate::cli::view;
use crate::model::{Agent, Id, Merge, MergeStatus, ObjectId, Receipt};
use crate::orchestrate::merge::{by_hand, gone, receipt, short_branch};
use serde::Serialize;
use std::fmt::Write as _;

/// Prove that a merge dropped nobody's line
///
/// Works out again, from the trees alone, what became of every line that each agent added or removed: it is there, it
/// was moved, it gave way to another agent or to a decision, or it was dropped. Without arguments, of the newest merge
/// that has landed. Ends with 1 if anything was dropped that no decision explains, or if the target does not contain the
/// merge any more and lacks a line of it.
///
/// With --target it judges merges that were made by hand: every merge commit of that branch since --since that brought
/// the work of the agents named, or of any.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra verify\n  git orchestra verify k3v8\n  git orchestra verify --all\n  git orchestra verify --target main --since v1.2 blue-heron"
)]
pub(crate) struct Args {
    /// Merges; with --target, agents
    #[arg(value_name = "MERGE")]
    names: Vec<String>,
    /// Every merge that has landed
    #[arg(long, conflicts_with_all = ["names", "target"])]
    all: bool,
    /// A branch that agents' work was merged into by hand
    #[arg(long, value_name = "BRANCH", requires = "since")]
    target: Option<String>,
    /// Where that branch was before
    #[arg(long, value_name = "REVISION", requires = "target")]
    since: Option<String>,
    /// Print JSON (`git orchestra schema verified`)
    #[arg(long)]
    json: bool,
}

/// One merge that was looked at, as JSON shows it.
#[derive(Debug, Serialize)]
struct Judged {
    #[serde(skip_serializing_if = "Option::is_none")]
    merge: Option<Id>,
    target: String,
    commit: ObjectId,
    dropped: u64,
    /// Whether the target once contained it, and does not any more, nor all of its lines.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
    /// The same, with what can be done.
    #[serde(skip)]
    hint: Option<String>,
    receipt: Receipt,
    /// Whether it says what was stored when the merge landed; absent if nothing was.
    #[serde(skip_serializing_if = "Option::is_none")]
    as_stored: Option<bool>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let judged = match (&args.target, &args.since) {
        (Some(target), Some(since)) => judge_by_hand(ctx, args, target, since)?,
        _ => judge(ctx, args)?,
    };
    let dropped: u64 = judged.iter().map(|judged| judged.dropped).sum();
    if args.json {
        json::print(ctx, "verified", &judged)?;
    } else {
        print(ctx, &judged)?;
    }
    let gone = judged.iter().any(|judged| judged.gone);
    Ok(if dropped > 0 || gone { Exit::Error } else { Exit::Done })
}

fn judge(ctx: &Context, args: &Args) -> Result<Vec<Judged>, CliError> {
    let (store, state) = (ctx.store()?, ctx.state()?);
    let mut merges = Vec::<Merge>::new();
    if args.names.is_empty() {
        merges = state.all()?;
        merges.retain(|merge| merge.status == MergeStatus::Landed);
        merges.sort_by_key(|merge| (merge.created, merge.id));
        if !args.all {
            merges = merges.pop().into_iter().collect();
        }
    }
    for name in &args.names {
        let merge: Merge = state.require_named(name)?;
        if merge.status != MergeStatus::Landed {
            let why = format!("merge {name} has not landed: it is {}", merge.status.word());
            return Err(CliError::new(ErrorKind::Failed, why));
        }
        merges.push(merge);
    }
    if merges.is_empty() {
        ctx.ui().note("no merge has landed");
    }
    let _busy = ctx.ui().busy("looking for every line");
    let mut judged = Vec::new();
    for merge in &merges {
        let receipt = receipt(store, &state, merge)?;
        let gone = gone(store, &state, merge)?;
        judged.push(Judged {
            merge: Some(merge.id),
            target: short_branch(&merge.target).to_owned(),
            commit: merge.landed.clone().unwrap_or_else(|| merge.head.clone()),
            dropped: receipt.dropped(),
            gone: gone.is_some(),
            hint: gone.map(|gone| gone.hint()),
            as_stored: merge.receipt.as_ref().map(|stored| **stored == receipt),
            receipt,
        });
    }
    Ok(judged)
}

fn judge_by_hand(ctx: &Context, args: &Args, target: &str, since: &str) -> Result<Vec<Judged>, CliError> {
    let (store, state) = (ctx.store()?, ctx.state()?);
    let repo = store.repo();
    let target = short_branch(target).to_owned();
    let full = format!("refs/heads/{target}");
    let mut agents = Vec::<Agent>::new();
    for id in named_agents(ctx, &args.names)? {
        agents.push(state.require(&id)?);
    }
    if args.names.is_empty() {
        let tip = repo.find_ref(&full)?;
        for agent in state.all::<Agent>()? {
            if let (Some(tip), Some(of)) = (&tip, repo.find_ref(&agent.branch)?)
                && repo.is_ancestor(&of, tip)?
            {
                agents.push(agent);
            }
        }
    }
    let _busy = ctx.ui().busy("looking for every line");
    let since = repo.resolve_commit(since)?;
    let merges = by_hand(repo, &full, &since, &agents)?;
    if merges.is_empty() {
        ctx.ui().note(format!("no merge commit of {target} since then brought an agent's work"));
    }
    let judged = merges.into_iter().map(|made| Judged {
        merge: None,
        target: target.clone(),
        commit: made.commit,
        dropped: made.receipt.dropped(),
        gone: false,
        hint: None,
        receipt: made.receipt,
        as_stored: None,
    });
    Ok(judged.collect())
}

fn print(ctx: &Context, judged: &[Judged]) -> Result<(), CliError> {
    let (paint, state) = (ctx.ui().painter(), ctx.state()?);
    let ids = state.short_ids()?;
    let mut text = String::new();
    for (at, one) in judged.iter().enumerate() {
        if at > 0 {
            text.push('\n');
        }
        let merge = one.merge.map(|id| format!("merge {} ", paint.paint(Label::Id, ids.shorten(&id))));
        let commit = paint.paint(Label::Commit, one.commit.short());
        let target = paint.paint(Label::Branch, &one.target);
        let _ = writeln!(text, "{}into {target} at {commit}", merge.unwrap_or_default());
        if one.gone {
            let gone = format!("{} does not contain {} any more", one.target, one.commit.short());
            let _ = writeln!(text, "{}: this is what landed", paint.paint(Label::Bad, gone));
        }
        text.push_str(&view::receipt::sentence(&one.receipt, &one.target, paint, ids));
        text.push_str(&view::receipt::accounts(&one.receipt, paint));
        text.push_str(&view::receipt::losses(&one.receipt, paint, ids));
        if one.as_stored == Some(false) {
            ctx.ui().warn("what was stored when it landed says otherwise; this was worked out from the trees now");
        }
    }
    ctx.ui().page(&text)?;
    for hint in judged.iter().filter_map(|one| one.hint.as_ref()) {
        ctx.ui().hint(hint);
    }
    Ok(())
}

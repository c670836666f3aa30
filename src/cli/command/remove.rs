//! `git orchestra remove`: an agent's worktree and branch go, its work stays.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::session;
use crate::cli::ui::Label;
use crate::model::{Agent, Id, Name, ObjectId};
use crate::orchestrate::supervise::chain;
use crate::orchestrate::{self, RemoveOptions, Removed};
use serde::Serialize;

/// Remove agents: worktrees and branches go, nothing is lost
///
/// What is in no other branch, uncommitted and small ignored files included, is kept first under
/// refs/orchestra/rescue/<agent>/<n>, which is named in the output. The agent's record and transcripts stay; its
/// task is free again.
///
/// An agent of another machine stays while its run there is not over, and while its branch is not here: --force removes
/// its record all the same, and what only that machine has stays there.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra remove blue-heron\n  git switch -c again refs/orchestra/rescue/blue-heron/1")]
#[expect(clippy::struct_excessive_bools, reason = "the switches of a command line")]
pub(crate) struct Args {
    /// The agents
    #[arg(value_name = "AGENT", required = true)]
    agents: Vec<String>,
    /// Delete ignored files that are too large to keep (build products, dependencies)
    #[arg(long)]
    discard_ignored: bool,
    /// Also one that may still work on another machine, or whose work is not here
    #[arg(short, long)]
    force: bool,
    /// Do not run the teardown command (`worktree.teardown`)
    #[arg(long)]
    no_teardown: bool,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

/// A removed agent as JSON shows it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    agent: &'a Id,
    name: &'a Name,
    #[serde(skip_serializing_if = "Option::is_none")]
    rescue: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    commit: Option<&'a ObjectId>,
    uncommitted: usize,
    /// Where what it committed outside of its branch is kept.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    aside: Vec<&'a str>,
    /// The other machine that has work of it which was never here.
    #[serde(skip_serializing_if = "Option::is_none")]
    elsewhere: Option<&'a str>,
    /// Its worktree, if that is still there.
    #[serde(skip_serializing_if = "Option::is_none")]
    left: Option<String>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    ctx.recover()?;
    let state = ctx.state()?;
    let options = RemoveOptions { discard_ignored: args.discard_ignored, force: args.force };
    let surroundings = if args.no_teardown { None } else { Some(session::surroundings(ctx)?) };
    let mut removed = Vec::new();
    for text in &args.agents {
        let agent: Agent = state.require_named(text)?;
        let one = orchestrate::remove(ctx.store()?, &agent.id, options, surroundings.as_ref())?;
        if !args.json {
            say(ctx, &one)?;
        }
        removed.push(one);
    }
    if args.json {
        let shown: Vec<_> = removed
            .iter()
            .map(|one| Shown {
                agent: &one.agent.id,
                name: &one.agent.name,
                rescue: one.rescue.as_ref().map(|(name, _)| name.as_str()),
                commit: one.rescue.as_ref().map(|(_, commit)| commit),
                uncommitted: one.uncommitted,
                aside: one.aside.iter().map(|aside| aside.rescue.as_str()).collect(),
                elsewhere: one.elsewhere.as_deref(),
                left: one.left.as_ref().map(|(path, _)| path.display().to_string()),
            })
            .collect();
        json::print(ctx, "removed", &shown)?;
    }
    let left: Vec<_> = removed.iter().filter_map(|one| one.left.as_ref()).collect();
    for (path, error) in &left {
        ctx.ui().warn(format!(
            "{} is still there (failed to {}); `git orchestra recover` removes it when that is possible",
            path.display(),
            chain(&**error)
        ));
    }
    Ok(if left.is_empty() { Exit::Done } else { Exit::Error })
}

fn say(ctx: &Context, removed: &Removed) -> Result<(), CliError> {
    let paint = ctx.ui().painter();
    let name = paint.paint(Label::Agent, removed.agent.name.as_str());
    let aside: Vec<String> =
        removed.aside.iter().map(|aside| format!("{} ({})", aside.rescue, aside.commit.short())).collect();
    let and = if aside.is_empty() {
        String::new()
    } else {
        format!(", what it committed outside of its branch is kept as {}", aside.join(", "))
    };
    let text = match (&removed.rescue, &removed.elsewhere) {
        (Some((rescue, commit)), elsewhere) => {
            let with = match removed.uncommitted {
                0 => String::new(),
                1 => ", 1 uncommitted path included".to_owned(),
                count => format!(", {count} uncommitted paths included"),
            };
            let (rescue, commit) = (paint.paint(Label::Branch, rescue), paint.paint(Label::Commit, commit.short()));
            let rest = elsewhere.as_ref().map(|machine| format!("; what it did since is on machine {machine}"));
            let rest = rest.unwrap_or_default();
            format!("removed {name}; its work is kept as {rescue} ({commit}){with}{and}{rest}\n")
        }
        (None, _) if !removed.own => {
            format!("removed the record of {name}; branches and worktrees under its names are not its own and stay\n")
        }
        (None, Some(machine)) => {
            format!("removed the record of {name}; what it did is on machine {machine}, and nothing of it is kept here\n")
        }
        (None, None) if !aside.is_empty() => {
            format!("removed {name}; all that was on its branch is in other branches{and}\n")
        }
        (None, None) => format!("removed {name}; all of its work is in other branches\n"),
    };
    ctx.ui().print(&text)
}

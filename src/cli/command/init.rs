//! `git orchestra init`.

use super::sync::remote;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::ui::{Align, Label, Reply, Table, printable};
use crate::orchestrate::probe::{self, Capability, Probed};
use crate::orchestrate::sync::Remote;
use serde::Serialize;

/// The key that says where state is on remotes that take only branches.
const PREFIX_KEY: &str = "orchestra.remotePrefix";

/// Prepare this repository, and try what a remote takes
///
/// Makes the ref that holds all state. The first command that writes does it too: nothing else is needed, and
/// neither your files nor the index nor the configuration are touched.
///
/// With --remote it also tries what that remote takes, with refs that it removes again: refs of our own, notes,
/// branches, deleting, compare-and-swap, several refs at once, push options. Where a host takes only branches, state
/// can live in branches of its own: it proposes to set orchestra.remotePrefix in this repository's configuration, and
/// does so when you agree.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra init\n  git orchestra init --remote\n  git orchestra init --remote upstream --yes")]
pub(crate) struct Args {
    /// Try what this remote takes; without a name, the one that `sync` would use
    #[arg(long, value_name = "REMOTE", num_args = 0..=1, default_missing_value = "")]
    remote: Option<String>,
    /// Set what the remote needs without asking
    #[arg(long, short, requires = "remote")]
    yes: bool,
    /// Print JSON (`git orchestra schema`)
    #[arg(long, requires = "remote")]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let made = ctx.store()?.init()?;
    if made {
        ctx.note_init()?;
    }
    let Some(named) = &args.remote else {
        if !made {
            ctx.ui().note("there is state already; nothing was changed");
        }
        return Ok(Exit::Done);
    };
    let remote = remote(ctx, Some(named.as_str()).filter(|name| !name.is_empty()))?;
    let probed = probe::probe(ctx.store()?, &remote)?;
    for name in &probed.left {
        ctx.ui().warn(printable(&format!("{} would not let {name} be removed again", remote.name)));
    }
    if args.json {
        json::print(ctx, "remote", &Document::new(&remote, &probed))?;
    } else {
        ctx.ui().print(&table(ctx, &probed))?;
    }
    settle(ctx, args, &remote, &probed)
}

/// Says where state goes there, and sets what that needs if the user wants it.
fn settle(ctx: &Context, args: &Args, remote: &Remote, probed: &Probed) -> Result<Exit, CliError> {
    let name = printable(&remote.name);
    if let Some(prefix) = &remote.prefix {
        if !probed.can(Capability::Branches) {
            return Err(CliError::new(
                ErrorKind::Failed,
                format!("{name} does not take {prefix}…, which {PREFIX_KEY} names"),
            ));
        }
        ctx.ui().note(format!("state goes to {prefix} on {name}, as {PREFIX_KEY} says"));
        return Ok(Exit::Done);
    }
    let Some(prefix) = probed.prefix_needed() else {
        if !probed.can(Capability::OwnRefs) || !probed.can(Capability::Notes) {
            let hint = "you may need the right to write there";
            let message = format!("{name} takes neither refs of our own nor branches");
            return Err(CliError::new(ErrorKind::Failed, message).hint(hint));
        }
        ctx.ui().note(format!("state goes to refs/orchestra/ and notes on {name}; nothing needs to be set"));
        return Ok(Exit::Done);
    };
    ctx.ui().note(format!("{name} takes only branches: state can live in {prefix} there"));
    let agreed = args.yes
        || match ctx.ui().confirm(&format!("set {PREFIX_KEY} in this repository?"), true)? {
            Reply::Chosen(agreed) => agreed,
            Reply::Cancelled | Reply::NoTerminal => false,
        };
    if !agreed {
        ctx.ui().hint(format!("nothing was set; `git config {PREFIX_KEY} {prefix}` does it"));
        return Ok(Exit::Error);
    }
    ctx.repo()?.set_config(PREFIX_KEY, prefix)?;
    ctx.ui().note(format!("set {PREFIX_KEY} = {prefix}; `git config --unset {PREFIX_KEY}` takes it back"));
    ctx.ui().hint(format!(
        "to keep those branches out of your own `git fetch`: git config --add remote.{name}.fetch '^{prefix}*'"
    ));
    Ok(Exit::Done)
}

/// What it is called, and what we want it for.
const fn words(what: Capability) -> (&'static str, &'static str, &'static str) {
    match what {
        Capability::OwnRefs => ("own-refs", "refs of our own", "state"),
        Capability::Notes => ("notes", "notes", "findings and provenance"),
        Capability::Branches => ("branches", "branches", "agents' branches"),
        Capability::Deletion => ("deletion", "deleting refs", "claims that end"),
        Capability::CompareAndSwap => ("compare-and-swap", "compare-and-swap", "claims"),
        Capability::Atomic => ("atomic", "all or nothing", "several claims at once"),
        Capability::PushOptions => ("push-options", "push options", "nothing yet"),
    }
}

fn table(ctx: &Context, probed: &Probed) -> String {
    let paint = ctx.ui().painter();
    let headings = [("WHAT", Align::Left), ("TAKEN", Align::Left), ("FOR", Align::Left), ("REASON", Align::Left)];
    let mut table = Table::new(paint, &headings, 3);
    for one in &probed.abilities {
        let (_, name, purpose) = words(one.what);
        let (label, answer) = if one.refused.is_none() { (Label::Good, "yes") } else { (Label::Bad, "no") };
        let reason = one.refused.as_deref().map(printable).unwrap_or_default();
        table.row(vec![
            paint.paint(Label::Title, name),
            paint.paint(label, answer),
            paint.paint(Label::Plain, purpose),
            paint.paint(Label::Plain, reason),
        ]);
    }
    table.render(ctx.ui().columns())
}

/// What `init --remote --json` shows.
#[derive(Debug, Serialize)]
struct Document<'a> {
    remote: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prefix_needed: Option<&'a str>,
    takes: Vec<Answer<'a>>,
    left: &'a [String],
}

#[derive(Debug, Serialize)]
struct Answer<'a> {
    what: &'static str,
    taken: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl<'a> Document<'a> {
    fn new(remote: &'a Remote, probed: &'a Probed) -> Self {
        let takes = probed.abilities.iter().map(|one| Answer {
            what: words(one.what).0,
            taken: one.refused.is_none(),
            reason: one.refused.as_deref(),
        });
        Self {
            remote: &remote.name,
            prefix: remote.prefix.as_deref(),
            prefix_needed: probed.prefix_needed().filter(|_| remote.prefix.is_none()),
            takes: takes.collect(),
            left: &probed.left,
        }
    }
}

//! `git orchestra sync`: fetch, merge and push, until both sides have the same.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::ui::printable;
use crate::model::{Id, Kind, ObjectId};
use crate::orchestrate::claim::Queue;
use crate::orchestrate::outgoing::{Held, Secret};
use crate::orchestrate::sync::{Lost, Remote, Seen, Synced, pick_remote};
use serde::Serialize;

/// Bring this machine and a remote to the same state
///
/// Fetches what others changed, merges it field by field, and pushes the result; nothing is ever forced. Where two
/// people wrote the same text, the newer one counts and `show` shows the other. Without REMOTE, it is the one of
/// orchestra.remote, the one that the current branch follows, origin, or the only one. A remote that went back, or
/// rewrote or deleted what was seen of it, is an error with exit code 6, and nothing here changes. A state that went
/// forward to an older one has exit code 6 too: what it lost is said, and sent again.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra sync\n  git orchestra sync upstream")]
pub(crate) struct Args {
    #[command(flatten)]
    with: With,
}

/// With which remote, and how it is told.
#[derive(Debug, clap::Args)]
pub(super) struct With {
    /// The remote
    #[arg(value_name = "REMOTE")]
    pub(super) remote: Option<String>,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    pub(super) json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let remote = remote(ctx, args.with.remote.as_deref())?;
    ctx.recover()?;
    let synced = {
        let _busy = ctx.ui().busy(format!("syncing with {}", printable(&remote.name)));
        crate::orchestrate::sync::sync(ctx.store()?, &remote)?
    };
    let exit = Report::new(&remote, &synced).show(ctx, args.with.json)?;
    settle(ctx, remote)?;
    Ok(exit)
}

/// Lets go of claims whose tasks are over, now that the remote knows it.
pub(super) fn settle(ctx: &Context, remote: Remote) -> Result<(), CliError> {
    let queue = Queue::new(ctx.store()?.clone(), Some(remote), ctx.settings()?.claim_ttl());
    for said in queue.settle()?.said {
        ctx.ui().warn(said);
    }
    Ok(())
}

/// The remote that is meant, with its settings.
pub(in crate::cli) fn remote(ctx: &Context, named: Option<&str>) -> Result<Remote, CliError> {
    let settings = ctx.settings()?;
    let name = pick_remote(ctx.repo()?, named, settings.remote())?;
    let prefix = settings.remote_prefix().map(str::to_owned);
    Ok(Remote::new(name, prefix, settings.remote_timeout())?)
}

/// How many things that were left out are told one by one.
const MAX_TOLD: usize = 10;

/// What a ref of ours is called to people.
pub(super) fn short(name: &str) -> &str {
    match name {
        crate::store::STATE_REF => "state",
        crate::store::FINDINGS_NOTES => "findings",
        crate::store::PROVENANCE_NOTES => "provenance",
        branch => branch.strip_prefix("refs/heads/").unwrap_or(branch),
    }
}

/// What `fetch --json` shows.
#[derive(Debug, Serialize)]
pub(super) struct Fetched<'a> {
    remote: &'a str,
    refs: Vec<FetchedRef<'a>>,
}

#[derive(Debug, Serialize)]
struct FetchedRef<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<&'a ObjectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new: Option<&'a ObjectId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    refused: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<LostRecords<'a>>,
}

/// What a remote's state says no more.
#[derive(Debug, Serialize)]
struct LostRecords<'a> {
    old: &'a ObjectId,
    new: &'a ObjectId,
    records: Vec<Received<'a>>,
}

impl<'a> From<&'a Lost> for LostRecords<'a> {
    fn from(lost: &'a Lost) -> Self {
        let records = lost.entities.iter().map(|(kind, id)| Received { kind: kind.noun(), id });
        Self { old: &lost.old, new: &lost.new, records: records.collect() }
    }
}

/// Says what a remote's state lost, with the evidence.
pub(super) fn warn_of_lost(ctx: &Context, remote: &str, lost: &Lost, again: bool) {
    let end = if again { "; it was sent again" } else { "" };
    ctx.ui().warn(printable(&format!("alarm: {remote} went back: {lost}; nothing is lost here{end}")));
    ctx.ui().hint(format!("`git log --stat {}..{}` shows who did that", lost.old.short(), lost.new.short()));
}

pub(super) fn seen<'a>(remote: &'a Remote, seen: &'a [Seen]) -> Fetched<'a> {
    let refs = seen.iter().map(|one| FetchedRef {
        name: &one.name,
        old: one.old.as_ref(),
        new: one.new.as_ref(),
        refused: one.refused.as_deref(),
        lost: one.lost.as_ref().map(LostRecords::from),
    });
    Fetched { remote: &remote.name, refs: refs.collect() }
}

/// What came and what went, as people and JSON see it.
#[derive(Debug, Serialize)]
pub(super) struct Report<'a> {
    remote: &'a str,
    received: Vec<Received<'a>>,
    received_notes: usize,
    sent: &'a [String],
    refused: Vec<Refused<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    held: Vec<HeldBranch<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    not_taken: Vec<Refused<'a>>,
    quarantined: Vec<Quarantined<'a>>,
    retries: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    lost: Vec<LostRecords<'a>>,
    #[serde(skip)]
    alarms: &'a [Lost],
    #[serde(skip)]
    asked: bool,
    #[serde(skip)]
    nothing: bool,
}

#[derive(Debug, Serialize)]
struct Received<'a> {
    kind: &'static str,
    id: &'a Id,
}

#[derive(Debug, Serialize)]
struct Refused<'a> {
    name: &'a str,
    reason: &'a str,
}

/// A branch that was not offered to the remote.
#[derive(Debug, Serialize)]
struct HeldBranch<'a> {
    name: &'a str,
    reason: String,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    secrets: &'a [Secret],
}

#[derive(Debug, Serialize)]
struct Quarantined<'a> {
    path: &'a str,
    reason: &'a str,
}

impl<'a> Report<'a> {
    pub(super) fn new(remote: &'a Remote, synced: &'a Synced) -> Self {
        let absorbed = &synced.absorbed;
        Self {
            remote: &remote.name,
            received: absorbed.entities.iter().map(|(kind, id)| Received { kind: kind.noun(), id }).collect(),
            received_notes: absorbed.notes,
            sent: &synced.pushed.sent,
            refused: synced.pushed.refused.iter().map(|(name, reason)| Refused { name, reason }).collect(),
            held: synced
                .pushed
                .held
                .iter()
                .map(|one| HeldBranch { name: &one.name, reason: one.words(), secrets: &one.secrets })
                .collect(),
            not_taken: synced.not_taken.iter().map(|(name, reason)| Refused { name, reason }).collect(),
            quarantined: absorbed
                .quarantined
                .iter()
                .map(|one| Quarantined { path: &one.path, reason: one.reason })
                .collect(),
            retries: synced.retries,
            lost: synced.lost.iter().map(LostRecords::from).collect(),
            alarms: &synced.lost,
            asked: synced.asked,
            nothing: synced.nothing,
        }
    }

    /// Prints it; a ref that the remote did not take makes the command fail.
    pub(super) fn show(&self, ctx: &Context, as_json: bool) -> Result<Exit, CliError> {
        for one in self.quarantined.iter().take(MAX_TOLD) {
            ctx.ui().warn(format!("{} of {} was left out: {}", one.path, self.remote, one.reason));
        }
        if let Some(more @ 1..) = self.quarantined.len().checked_sub(MAX_TOLD) {
            ctx.ui().warn(format!("and {more} more; --json lists them"));
        }
        for one in &self.refused {
            ctx.ui().warn(printable(&format!("{} did not take {}: {}", self.remote, one.name, one.reason)));
        }
        for one in &self.held {
            ctx.ui().warn(printable(&format!("{} was not pushed: {}", short(one.name), one.reason)));
        }
        if self.held.iter().any(|one| !one.secrets.is_empty()) {
            ctx.ui().hint(Held::HINT);
        }
        for one in &self.not_taken {
            let what = format!("{} of {} was not taken in: {}", short(one.name), self.remote, one.reason);
            ctx.ui().warn(printable(&what));
        }
        if as_json {
            json::print(ctx, "sync", self)?;
        } else {
            ctx.ui().print(&format!("{}\n", self.line()))?;
        }
        let again = self.sent.iter().any(|name| name == crate::store::STATE_REF);
        for lost in self.alarms {
            warn_of_lost(ctx, self.remote, lost, again);
        }
        let whole = self.refused.is_empty() && self.held.is_empty() && self.not_taken.is_empty();
        if !self.alarms.is_empty() {
            return Ok(Exit::Alarm);
        }
        Ok(if whole { Exit::Done } else { Exit::Error })
    }

    /// `from origin: 2 tasks, 1 finding; to origin: state, findings`.
    fn line(&self) -> String {
        let mut parts = Vec::new();
        let mut came = Vec::new();
        for kind in Kind::ALL {
            match self.received.iter().filter(|one| one.kind == kind.noun()).count() {
                0 => {}
                1 => came.push(format!("1 {}", kind.noun())),
                count => came.push(format!("{count} {}", kind.directory())),
            }
        }
        match self.received_notes {
            0 => {}
            1 => came.push("1 note".to_owned()),
            count => came.push(format!("{count} notes")),
        }
        if !came.is_empty() {
            parts.push(format!("from {}: {}", self.remote, came.join(", ")));
        }
        let mut sent: Vec<&str> = self.sent.iter().map(|name| short(name)).collect();
        sent.dedup();
        if !sent.is_empty() {
            parts.push(format!("to {}: {}", self.remote, sent.join(", ")));
        }
        match (parts.is_empty(), self.refused.is_empty() && self.not_taken.is_empty()) {
            (true, true) if self.nothing => {
                format!("{} has no state of git-orchestra, and there is none here", self.remote)
            }
            (true, true) if !self.asked => {
                format!("nothing here that {} was not sent before; `sync` asks it", self.remote)
            }
            (true, true) => format!("{} has the same", self.remote),
            (true, false) => format!("{} has not the same", self.remote),
            _ => parts.join("; "),
        }
    }
}

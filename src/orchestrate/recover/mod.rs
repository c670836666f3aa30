//! What a killed process left behind, put in order by whoever comes next.

mod thorough;

pub use thorough::{RecoverOptions, recover_all};
pub(super) use thorough::{find_missing, lost_agents};

use super::control;
use super::lease::{self, Lease, LeaseState};
use super::rescue::keep_astray;
use super::supervise::{RunRecord, own_commits, write_run};
use super::{Error, trust};
use crate::git::{Repository, Worktree};
use crate::model::{Agent, Event, EventKind, ObjectId, Outcome};
use crate::process::end_orphans;
use crate::store::journal::{self, Entry};
use crate::store::{STATE_REF, Store};
use serde::Serialize;
use std::path::Path;
use std::time::Duration;

/// How long what a dead supervisor left running may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// What was found to be broken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A process was killed while it made or removed a worktree.
    HalfMadeWorktree,
    /// A process was killed while it undid an operation.
    HalfMadeUndo,
    /// A process was killed while it held a lock of git's.
    StaleLock,
    /// A process was killed while it moved somebody's checkout.
    HalfMovedCheckout,
    /// The power went while something was written.
    EmptyFile,
    /// Whoever watched a run died.
    LostRun,
    /// Whoever waited for a gate of a merge died.
    LostGate,
    /// A run was claimed, and whoever claimed it died before it started.
    UnstartedRun,
    /// The repository or a worktree was moved.
    MovedWorktree,
    /// A worktree's directory is gone.
    LostWorktree,
    /// The ref of the state is gone.
    LostState,
    /// An agent's branch is gone.
    LostBranch,
    /// A merge was begun and is not over.
    OpenMerge,
    /// Something changed what git runs here while agents were running.
    ChangedConfiguration,
}

impl Fault {
    /// The words for it.
    pub const fn words(self) -> &'static str {
        match self {
            Self::HalfMadeWorktree => "half-made worktree",
            Self::HalfMadeUndo => "half-made undo",
            Self::StaleLock => "stale lock",
            Self::HalfMovedCheckout => "half-moved checkout",
            Self::EmptyFile => "empty file",
            Self::LostRun => "lost run",
            Self::LostGate => "lost gate",
            Self::UnstartedRun => "unstarted run",
            Self::MovedWorktree => "moved worktree",
            Self::LostWorktree => "lost worktree",
            Self::LostState => "lost state",
            Self::LostBranch => "lost branch",
            Self::OpenMerge => "open merge",
            Self::ChangedConfiguration => "changed configuration",
        }
    }
}

/// Something that was found, and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Recovered {
    /// What is, or was, broken.
    pub fault: Fault,
    /// Of what: an agent, a worktree, a file, a merge.
    pub subject: String,
    /// What was found and what was done, in words.
    pub text: String,
    /// Whether it is in order again.
    pub mended: bool,
    /// What the user could do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_out: Option<String>,
}

impl Recovered {
    fn mended(fault: Fault, subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self { fault, subject: subject.into(), text: text.into(), mended: true, way_out: None }
    }

    /// A worktree and the repository do not know each other any more.
    pub(super) fn moved(subject: impl Into<String>, text: impl Into<String>) -> Self {
        Self::open(Fault::MovedWorktree, subject, text, "git orchestra recover".to_owned())
    }

    fn open(fault: Fault, subject: impl Into<String>, text: impl Into<String>, way_out: String) -> Self {
        let (subject, text) = (subject.into(), text.into());
        Self { fault, subject, text, mended: false, way_out: Some(way_out) }
    }
}

/// Removes the locks that dead processes of ours left, undoes half-made worktrees, ends what outlived its supervisor,
/// and records runs whose watcher died as lost. Returns what was done.
///
/// Call it at the start of every command that changes something: when nothing is there it costs four directory
/// listings. Safe to run any number of times at once, and to be killed.
pub fn recover(store: &Store) -> Result<Vec<Recovered>, Error> {
    let repo = store.repo();
    let mut found: Vec<Recovered> =
        repo.mend_after_boot()?.iter().map(|path| empty_file(repo, path)).collect();
    found.extend(repo.mend_locks()?.iter().map(|lock| stale_lock(repo, lock)));
    found.extend(repo.mend_checkouts()?.iter().map(|path| {
        let shown = path.display().to_string();
        let text = format!("put {shown} back, which a dead process had begun to move");
        Recovered::mended(Fault::HalfMovedCheckout, shown, text)
    }));
    found.extend(
        repo.mend_worktrees()?
            .iter()
            .map(|mended| Recovered::mended(Fault::HalfMadeWorktree, mended.name(), mended.to_string())),
    );
    if let Some(commit) = store.restore_state()? {
        let text = format!("{STATE_REF} was deleted by somebody: it is there again, at {}", commit.short());
        found.push(Recovered::mended(Fault::LostState, STATE_REF, text));
    }
    let undone = super::undo::recover(store)?.into_iter();
    found.extend(undone.map(|(subject, text)| Recovered::mended(Fault::HalfMadeUndo, subject, text)));
    found.extend(super::removal::recover(store)?.into_iter().map(|going| {
        let (name, path) = (&going.name, going.path.display());
        match going.gone {
            Ok(()) => {
                let text = format!("removed {path}, the worktree of {name}, which went before");
                Recovered::mended(Fault::HalfMadeWorktree, name, text)
            }
            Err(error) => {
                let why = super::supervise::chain(&error);
                let text = format!(
                    "{path} is still there, the worktree of {name}, which was removed: failed to {why}"
                );
                Recovered::open(Fault::HalfMadeWorktree, name, text, "git orchestra recover".to_owned())
            }
        }
    }));
    for lease in lease::take_dead(repo)? {
        let settled = settle(store, &lease, &mut found)?;
        found.extend(settled);
        lease.release()?;
        control::sweep(store.repo());
    }
    let ended = super::merge::gate::mend(repo)?;
    if ended > 0 {
        let text = format!("ended {ended} processes of gates, which a dead process had started");
        found.push(Recovered::mended(Fault::LostGate, "gates", text));
    }
    let (ended, left) = super::merge::mend_lock_files(repo)?;
    if let Some(dir) = left {
        let shown = dir.display().to_string();
        let text = format!("removed {shown}, in which a dead process wrote lock files");
        found.push(Recovered::mended(Fault::LostGate, shown, text));
    }
    if ended > 0 {
        let text = format!("ended {ended} processes that wrote lock files, which a dead process had started");
        found.push(Recovered::mended(Fault::LostGate, "lock files", text));
    }
    trust::forget(repo);
    Ok(found)
}

fn empty_file(repo: &Repository, path: &Path) -> Recovered {
    if path.extension().is_some_and(|end| end == "lock") {
        return stale_lock(repo, path);
    }
    let shown = repo.shown(path);
    let text = format!("removed {shown}, which was empty: the power went while it was written");
    Recovered::mended(Fault::EmptyFile, shown, text)
}

fn stale_lock(repo: &Repository, lock: &Path) -> Recovered {
    let shown = repo.shown(lock);
    let text = format!("removed {shown}, which a dead process left behind");
    Recovered::mended(Fault::StaleLock, shown, text)
}

/// Returns what was done; nothing if there was nothing to do but to let go of the lease. Locks that went are put with
/// `locks`.
fn settle(store: &Store, lease: &Lease, locks: &mut Vec<Recovered>) -> Result<Option<Recovered>, Error> {
    let (repo, info) = (store.repo(), lease.info());
    let (name, number) = (&info.name, info.run);
    let agent = store.state()?.get::<Agent>(&info.agent)?;
    let unrecorded = |agent: &Agent| agent.runs.get(&number).is_some_and(|run| run.outcome.is_none());
    // Killed before the claim, or after the record: either way nothing of it is open.
    let Some(agent) = agent.filter(unrecorded) else { return Ok(None) };
    let mark = format!("{}={}", lease::LeaseInfo::MARK, info.mark());
    let ended =
        if info.state == LeaseState::Queued { 0 } else { end_orphans(info.child.as_ref(), &mark, GRACE) };
    if info.state != LeaseState::Queued
        && let Some(worktree) = repo.find_worktree(name.as_str())?.filter(Worktree::is_intact)
    {
        let removed = repo.mend_after_agent(&worktree, info.since.as_millis())?;
        locks.extend(removed.iter().map(|lock| stale_lock(repo, lock)));
    }
    if info.state != LeaseState::Running {
        // Its number is given out again, and a journal has one life. It may have been made already, with nothing in it.
        let journal = journal::path(store.repo(), &agent.id, number);
        match std::fs::remove_file(&journal) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("remove", journal, e));
            }
            _ => {}
        }
        store.transact(|transaction| {
            if let Some(mut agent) = transaction.get::<Agent>(&info.agent)?.filter(unrecorded) {
                agent.runs.remove(&number);
                transaction.describe(format!("agent: {name} run {number} not started"));
                transaction.put(&agent)?;
            }
            Ok::<_, Error>(())
        })?;
        let text = format!("{name} was not started; `git orchestra resume {name}` starts it");
        return Ok(Some(Recovered::mended(Fault::UnstartedRun, name.as_str(), text)));
    }
    let record = lost(store.repo(), &agent, number)?;
    let uncommitted = uncommitted(store.repo(), &agent);
    let astray = astray(store.repo(), &agent, number);
    store.transact(|transaction| {
        if transaction.get::<Agent>(&info.agent)?.is_some_and(|agent| unrecorded(&agent)) {
            let mut record = record.clone();
            record.run.ended = Some(transaction.now());
            write_run(transaction, &record)?;
            transaction.describe(format!("agent: {name} run {number} lost"));
        }
        Ok::<_, Error>(())
    })?;
    let mut text = format!("{name}: whoever watched its run {number} died; it is lost");
    if ended > 0 {
        text.push_str(", and what still ran was ended");
    }
    if uncommitted > 0 {
        let paths = if uncommitted == 1 { "path is" } else { "paths are" };
        let still = format!("; {uncommitted} uncommitted {paths} still in its worktree");
        text.push_str(&still);
    }
    for said in astray {
        text.push_str("; ");
        text.push_str(&said);
    }
    Ok(Some(Recovered::mended(Fault::LostRun, name.as_str(), text)))
}

/// What is known of a run whose watcher died: its commits, and what its journal says of it.
fn lost(repo: &Repository, agent: &Agent, number: u32) -> Result<RunRecord, Error> {
    let file = journal::path(repo, &agent.id, number);
    let journal = std::fs::read(&file).unwrap_or_default();
    let journal = journal::whole(&journal);
    let mut run = agent.runs.get(&number).cloned().unwrap_or_default();
    run.outcome = Some(Outcome::Lost);
    run.tip = repo.find_ref(&agent.branch)?;
    let mut named = None;
    for entry in journal::parse(journal) {
        let Entry::Event(Event { parent: None, kind, .. }) = entry else { continue };
        match kind {
            EventKind::Ready { model, session, .. } => {
                run.model = model.or(run.model);
                named = session.or(named);
            }
            EventKind::Usage { usage, context: Some(context) } => {
                (run.usage, run.context) = (usage, Some(context));
            }
            EventKind::Usage { usage, .. } | EventKind::Result { usage, .. } => run.usage = usage,
            _ => {}
        }
    }
    run.session.clone_from(&named);
    let commits = match &run.tip {
        // A power cut can leave a branch that cannot be read: then nothing is known of it.
        Some(tip) => own_commits(repo, agent, began(agent, number), tip).unwrap_or_default(),
        None => Vec::new(),
    };
    Ok(RunRecord {
        agent: agent.id,
        number,
        run: *run,
        session: named.filter(|session| Some(session) != agent.session.as_ref()),
        commits,
        journal: journal::Closed::new(file).ok(),
    })
}

/// Keeps what the agent of a run whose watcher died committed outside of its branch, and says what it is.
fn astray(repo: &Repository, agent: &Agent, number: u32) -> Vec<String> {
    if trust::require_unchanged(repo).is_err() {
        return Vec::new();
    }
    let worktree = repo.find_worktree(agent.name.as_str()).ok().flatten().filter(Worktree::is_intact);
    let Some(worktree) = worktree else { return Vec::new() };
    let kept = keep_astray(repo, agent, &worktree, began(agent, number));
    kept.unwrap_or_else(|error| {
        let why = super::supervise::chain(&error);
        vec![format!("failed to look for what it committed outside of its branch: {why}")]
    })
}

/// Where a run began: at the end of the one before it, or where the agent did.
fn began(agent: &Agent, number: u32) -> &ObjectId {
    let earlier = agent.runs.range(..number).rev().find_map(|(_, run)| run.tip.as_ref());
    earlier.unwrap_or(&agent.base)
}

fn uncommitted(repo: &Repository, agent: &Agent) -> usize {
    if trust::require_unchanged(repo).is_err() {
        return 0;
    }
    let worktree = repo.find_worktree(agent.name.as_str()).ok().flatten().filter(Worktree::is_intact);
    worktree.and_then(|worktree| repo.worktree_status(&worktree).ok()).map_or(0, |status| status.count())
}

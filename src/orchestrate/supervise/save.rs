//! What is kept of a run when its process is gone: its work, its commits, its journal.

use super::Plan;
use super::record::chain;
use super::run::RunContext;
use crate::git::{Leftover, NewLeftover, Repository};
use crate::model::{Agent, Event, EventKind, ObjectId};
use crate::orchestrate::merge::short_branch;
use crate::orchestrate::rescue::{keep_astray, next_rescue_ref};
use crate::orchestrate::{Error, trust};
use crate::store::STATE_REF;
use crate::store::journal::{self, EntryRef};
use bstr::ByteSlice;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::sync::PoisonError;

/// What was saved of a run.
#[derive(Default)]
pub(super) struct Saved {
    pub(super) tip: Option<ObjectId>,
    pub(super) commits: Vec<ObjectId>,
    pub(super) leftovers: bool,
    pub(super) journal: Option<journal::Closed>,
    /// What the user should know, each with its number in the journal.
    pub(super) notices: Vec<(Option<u64>, String)>,
    /// What of its work could not be saved.
    pub(super) error: Option<String>,
}

/// Commits what the agent left, finds what it committed, and closes the journal. What fails becomes a notice: a
/// run is recorded whatever happens.
pub(super) fn save(context: &RunContext, plan: &Plan, journal: Option<journal::Writer>) -> Saved {
    let repo = &context.repo;
    let mut saved = Saved::default();
    let mut notices = Vec::new();
    match context.store.restore_state() {
        Ok(None) => {}
        Ok(Some(commit)) => notices.push(format!(
            "somebody deleted {STATE_REF} while it ran: it is there again, at {}",
            commit.short()
        )),
        Err(e) => notices.push(chain(&e)),
    }
    if let Some(danger) = find_danger(context, &mut notices) {
        notices.push(
            "what it left uncommitted stays in its worktree, because git may now run a program that was put there: \
             `git orchestra config approve` shows the change"
                .to_owned(),
        );
        saved.error = Some(format!("save what it left uncommitted: {danger}"));
    } else if plan.worktree.is_intact() {
        // Nobody of it is left: a git of its own that was ended with it holds its locks for ever.
        match repo.mend_after_agent(&plan.worktree, plan.lease.info().since.as_millis()) {
            Ok(locks) => notices.extend(locks.iter().map(|lock| {
                format!("removed {}, which a git of its own left that was killed", repo.shown(lock))
            })),
            Err(e) => notices.push(chain(&e)),
        }
        match repo.restore_branch(&plan.worktree, &plan.agent.branch, &plan.tip) {
            Ok(None) => {}
            Ok(Some(tip)) => notices.push(format!(
                "its branch {} was deleted or renamed while it ran; it is there again, at {}",
                short_branch(&plan.agent.branch),
                tip.short()
            )),
            Err(e) => notices.push(format!("failed to make its branch again: {}", chain(&e))),
        }
        // Before what is uncommitted there: each keeps its own.
        match keep_astray(repo, &plan.agent, &plan.worktree, &plan.tip) {
            Ok(said) => notices.extend(said),
            Err(e) => notices
                .push(format!("failed to look for what it committed outside of its branch: {}", chain(&e))),
        }
        // Again if a git of ours was killed or a file changed meanwhile.
        match commit_leftovers(context, plan).or_else(|_| commit_leftovers(context, plan)) {
            Ok(Leftover::Nothing) => {}
            Ok(Leftover::Committed(_)) => saved.leftovers = true,
            Ok(Leftover::Rescued(commit)) => notices.push(format!(
                "its worktree is not on {}; what it left uncommitted is kept as {}",
                plan.agent.branch,
                commit.short()
            )),
            Err(e) => saved.error = Some(format!("commit what it left in its worktree: {}", chain(&e))),
        }
        notices.extend(loose_repositories(repo, plan));
    } else {
        let path = plan.worktree.path.display();
        notices.push(format!("{path} is not its worktree any more: what it left there was not committed"));
        // What it took away itself is not to be saved.
        if plan.worktree.path.exists() {
            saved.error = Some(format!(
                "commit what it left in {path}: git does not know that as its worktree any more"
            ));
        }
    }
    match repo.find_ref(&plan.agent.branch) {
        Ok(Some(tip)) => saved.tip = Some(tip),
        Ok(None) => notices.push(format!("its branch {} is gone", plan.agent.branch)),
        Err(e) => notices.push(chain(&e)),
    }
    if let Some(tip) = &saved.tip {
        // Before it is said to be done: what its git wrote is not on disk for good.
        if let Err(e) = repo.sync_branch(&plan.agent.branch, tip, &[&plan.tip]) {
            saved.error.get_or_insert(format!("sync its work to disk: {}", chain(&e)));
        }
        match own_commits(repo, &plan.agent, &plan.tip, tip) {
            Ok(commits) => saved.commits = commits,
            Err(e) => notices.push(format!("failed to list its commits: {}", chain(&e))),
        }
    }
    if let Some(mut journal) = journal {
        // Where everybody can read them who was not there.
        let mut write = |text: &str| {
            let kind = EventKind::Notice { text: text.to_owned() };
            let event = Event { at: context.clock.now(), parent: None, kind };
            journal.append(EntryRef::Event(&event)).ok()
        };
        saved.notices = notices.into_iter().map(|text| (write(&text), text)).collect();
        if let Some(error) = &saved.error {
            write(&format!("failed to {error}"));
        }
        // Not synced: what it says is on disk for good when the run is recorded.
        if let Err(e) = journal.flush() {
            saved.notices.push((None, format!("failed to finish its journal: {}", chain(&e))));
        }
        // Closed here: many that end at once wait for one another to be recorded.
        drop(journal);
        saved.journal = journal::Closed::new(journal::path(repo, &plan.agent.id, plan.run)).ok();
    } else {
        saved.notices = notices.into_iter().map(|text| (None, text)).collect();
    }
    saved
}

/// Notices a changed main checkout or shared file, once for all runs of the session. Returns why git must not look at
/// what the agent left, if it must not: what git runs here was changed, or nobody knows that it was not.
fn find_danger(context: &RunContext, notices: &mut Vec<String>) -> Option<String> {
    let not_known = "whether somebody changed the main checkout meanwhile is not known";
    let now = match context.repo.fingerprint() {
        Ok(now) => now,
        Err(error) => {
            let danger = format!("{not_known}: {}", chain(&error));
            notices.push(danger.clone());
            return Some(danger);
        }
    };
    let mut seen = context.seen.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(seen) = seen.as_mut() else {
        // What is there now may be what an agent put there: it does not count as seen.
        notices.push(not_known.to_owned());
        return Some(not_known.to_owned());
    };
    let changes = seen.changes(&now);
    if !changes.is_empty() {
        let changes = changes.join(", ");
        notices
            .push(format!("while it ran, somebody changed the main checkout or what it shares: {changes}"));
        if seen.is_dangerous(&now) && !trust::is_kept(&context.repo, &now) {
            // Not taken as seen: it stays dangerous for every run of this session, until a person accepts it.
            return Some(format!("somebody changed what git runs here ({changes})"));
        }
        *seen = now;
    }
    // What an earlier session remembered counts as well.
    let error = trust::require_unchanged(&context.repo).err()?;
    Some(chain(&error))
}

/// Says which repositories in the worktree are no part of its branch.
fn loose_repositories(repo: &Repository, plan: &Plan) -> Option<String> {
    let nested = Repository::nested_repositories(&plan.worktree);
    if nested.is_empty() {
        return None;
    }
    let untracked = repo.worktree_status(&plan.worktree).ok()?.untracked;
    let loose = nested.iter().filter(|dir| {
        let below =
            |path: &bstr::BString| dir.starts_with(OsStr::from_bytes(path.trim_end_with(|c| c == '/')));
        untracked.iter().any(below)
    });
    let named: Vec<_> = loose.map(|dir| dir.to_string_lossy()).collect();
    let text = "it left repositories of their own in its worktree, which are no part of its branch";
    (!named.is_empty()).then(|| format!("{text}: {}", named.join(", ")))
}

fn commit_leftovers(context: &RunContext, plan: &Plan) -> Result<Leftover, Error> {
    let repo = &context.repo;
    let rescue = next_rescue_ref(repo, &plan.agent.name)?;
    let agent = &plan.agent;
    let mut message = format!(
        "{}\n\nLeft uncommitted by the agent {} in run {}, and committed for it.\n\nOrchestra-Agent: {}\n",
        plan.title, agent.name, plan.run, agent.id
    );
    if let Some(task) = &agent.task {
        writeln!(message, "Orchestra-Task: {task}").expect("writing to memory");
    }
    let author = repo.identity();
    let new = NewLeftover {
        branch: &agent.branch,
        rescue: &rescue,
        author: &author,
        committer: &author,
        at: context.clock.now(),
        message: &message,
    };
    Ok(repo.commit_leftovers(&plan.worktree, &new)?)
}

/// The commits of an agent's branch between `start` and `tip` that are in nobody else's: not what it merged from its
/// target. Newest first.
pub(crate) fn own_commits(
    repo: &Repository,
    agent: &Agent,
    start: &ObjectId,
    tip: &ObjectId,
) -> Result<Vec<ObjectId>, Error> {
    if tip == start {
        return Ok(Vec::new());
    }
    let mut args =
        vec!["rev-list".to_owned(), tip.to_string(), format!("^{start}"), format!("^{}", agent.base)];
    if let Some(target) = &agent.target
        && let Some(target) = repo.find_ref(target)?
    {
        args.push(format!("^{target}"));
    }
    let text = repo.read(args)?;
    Ok(text.lines().filter_map(|line| line.parse().ok()).collect())
}

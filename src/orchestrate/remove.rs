//! Removing an agent: its worktree and its branch go, and nothing that was in them is lost.

use super::lease::LeaseState;
use super::prepare::tear_down;
use super::removal::{self, Going, Removal};
use super::session::{Surroundings, release_task};
use super::supervise::withdraw_questions;
use super::{Aside, Error, kept_aside, lease, next_rescue_ref, trust};
use crate::git::{Expected, NewCommit, RefEdit, Repository, Worktree};
use crate::model::{Agent, Id, Kind, ObjectId};
use crate::store::{Record, Store, Transaction};
use std::path::PathBuf;

/// The most bytes of ignored files that are kept with the rest.
pub(super) const IGNORED_LIMIT: u64 = 16 << 20;

/// How an agent is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RemoveOptions {
    /// Whether ignored files that are too large to keep (build products, dependencies) may be deleted.
    pub discard_ignored: bool,
    /// Whether one of another machine goes although it may still work there, or its work is not here.
    pub force: bool,
}

/// What removing an agent did.
#[derive(Debug)]
pub struct Removed {
    /// The agent.
    pub agent: Agent,
    /// The ref under which everything is that is in no other branch, and its commit; absent if all of it was merged.
    pub rescue: Option<(String, ObjectId)>,
    /// What it committed outside of its branch, which is in neither its branch, its target nor that ref.
    pub aside: Vec<Aside>,
    /// How many uncommitted paths went there.
    pub uncommitted: usize,
    /// Whether a worktree was there.
    pub worktree: bool,
    /// Whether its branch and worktree were its own; otherwise they stay, and only its record went.
    pub own: bool,
    /// The other machine that has work of it which was never here, as far as is known.
    pub elsewhere: Option<String>,
    /// Its worktree and why that is still there, if it could not be removed; the next [`super::recover`] tries again.
    pub left: Option<(PathBuf, Box<Error>)>,
}

/// Removes an agent: keeps what is in no other branch under a rescue ref, removes its branch and says so in the state,
/// all of it or nothing; then its worktree goes. With `teardown`, the teardown command is run in the worktree before. Its record, transcripts and task stay; the task is free again.
///
/// Killed in between, it can be called again.
///
/// # Errors
/// If it runs, if it is another machine's that may have the only copy of its work (unless forced), if its directory is
/// not the worktree that is registered, if ignored files are too large to keep, or if the teardown command failed.
/// Nothing was removed then.
pub fn remove(
    store: &Store,
    id: &Id,
    options: RemoveOptions,
    teardown: Option<&Surroundings>,
) -> Result<Removed, Error> {
    let repo = store.repo();
    trust::require_unchanged(repo)?;
    let agent: Agent = store.state()?.require(id)?;
    if agent.removed.is_some() {
        let hint =
            format!("what was kept of its work: git for-each-ref refs/orchestra/rescue/{}", agent.name);
        return Err(Error::refused(format!("remove {}: it was removed before", agent.name), hint));
    }
    let elsewhere = find_only_elsewhere(store, &agent)?;
    if let Some(only) = elsewhere.as_ref().filter(|_| !options.force) {
        return Err(only.refusal(&agent));
    }
    let leaving = tear_down_and_look("remove", store, &agent, options, teardown)?;
    let rescue = rescue(store, &agent, &leaving)?;
    let mut aside = Vec::new();
    if leaving.own {
        let target = agent.target.as_deref().map(|target| repo.find_ref(target)).transpose()?.flatten();
        let mut looks = usize::MAX;
        let (kept, _) = kept_aside(store, std::slice::from_ref(&agent), target.as_ref(), &mut looks)?;
        for one in kept {
            let held = match &rescue {
                Some((_, commit)) => repo.is_ancestor(&one.commit, commit)?,
                None => false,
            };
            if !held {
                aside.push(one);
            }
        }
    }
    let deletion = leaving.branch_deletion(repo, &agent)?;
    let going = leaving.worktree.as_ref().map(|_| Removal::begin(repo, id)).transpose()?;
    let written = store.transact(|transaction| {
        let mut agent: Agent = transaction.require(id)?;
        let_go(transaction, rescue.as_ref(), deletion.as_ref());
        release_task(transaction, &agent)?;
        withdraw_questions(transaction, id)?;
        agent.removed.get_or_insert(transaction.now());
        transaction.put(&agent)?;
        transaction.describe(format!("agent: remove {}", agent.name));
        Ok::<_, Error>(agent)
    });
    let left = match (going, &written) {
        (None, _) => None,
        (Some(going), Ok(_)) => finish(store, id, going)?,
        (Some(going), Err(_)) => {
            // A disk that is full after the record is written: then the rest is done too. What does not work now is for
            // the next command.
            let _ = finish(store, id, going);
            None
        }
    };
    let removed = written?;
    let Leaving { uncommitted, there, own, .. } = leaving;
    let elsewhere = elsewhere.map(|only| only.machine);
    Ok(Removed { agent: removed.value, rescue, aside, uncommitted, worktree: there, own, elsewhere, left })
}

/// Removes what is left here of an agent whose record is deleted, and keeps what is in no other branch. Killed in between, it
/// can be called again.
///
/// # Errors
/// As [`remove`]; also if its record is there again.
pub(super) fn remove_undone(
    store: &Store,
    id: &Id,
    surroundings: &Surroundings,
) -> Result<Option<String>, Error> {
    let repo = store.repo();
    trust::require_unchanged(repo)?;
    let record = store.state()?.record(Kind::Agent, id)?.filter(Record::is_deleted);
    let agent = record.and_then(|record| record.entity::<Agent>().ok());
    let gone = || Error::refused("remove what is left of an agent: it is there again", None);
    let agent = agent.ok_or_else(gone)?;
    let leaving = tear_down_and_look("prune", store, &agent, RemoveOptions::default(), Some(surroundings))?;
    let rescue = rescue(store, &agent, &leaving)?;
    let deletion = leaving.branch_deletion(repo, &agent)?;
    store.transact(|transaction| {
        if !transaction.base().record(Kind::Agent, id)?.is_some_and(|record| record.is_deleted()) {
            return Err(gone());
        }
        let_go(transaction, rescue.as_ref(), deletion.as_ref());
        transaction.describe(format!("agent: what was left of {}", agent.name));
        Ok::<_, Error>(())
    })?;
    if let Some(worktree) = &leaving.worktree {
        repo.remove_worktree(worktree)?;
    }
    Ok(rescue.map(|(name, _)| name))
}

/// What there is of an agent, as the command that tears its worktree down leaves it, if there is one.
fn tear_down_and_look(
    verb: &str,
    store: &Store,
    agent: &Agent,
    options: RemoveOptions,
    teardown: Option<&Surroundings>,
) -> Result<Leaving, Error> {
    let leaving = look(verb, store, agent, options)?;
    let Some(surroundings) = teardown.filter(|one| leaving.there && one.provision.teardown.is_some()) else {
        return Ok(leaving);
    };
    tear_down(store.repo(), agent, surroundings)?;
    // It may have written, or removed, what would be kept.
    trust::require_unchanged(store.repo())?;
    look(verb, store, agent, options)
}

/// What is in no other branch, as a commit, and the rescue ref that it goes to.
fn rescue(store: &Store, agent: &Agent, leaving: &Leaving) -> Result<Option<(String, ObjectId)>, Error> {
    let Some(commit) = keep(store, agent, leaving)? else { return Ok(None) };
    Ok(Some((next_rescue_ref(store.repo(), &agent.name)?, commit)))
}

/// The branch goes in the same step in which what it had is kept.
fn let_go(
    transaction: &mut Transaction<'_>,
    rescue: Option<&(String, ObjectId)>,
    deletion: Option<&RefEdit>,
) {
    if let Some((name, commit)) = rescue {
        let (name, new) = (name.clone(), Some(commit.clone()));
        transaction.depend_on([commit.clone()]);
        transaction.move_ref(RefEdit { name, new, expected: Expected::Absent });
    }
    if let Some(edit) = deletion {
        transaction.move_ref(edit.clone());
    }
}

/// Removes the worktree if the record says that its agent is removed. Returns it and why it is still there, if so.
fn finish(store: &Store, id: &Id, going: Removal) -> Result<Option<(PathBuf, Box<Error>)>, Error> {
    match removal::finish(store, id)? {
        Some(Going { path, gone: Err(error), .. }) => Ok(Some((path, Box::new(error)))),
        _ => going.forget().map(|()| None),
    }
}

/// Work of an agent that only another machine has.
struct OnlyElsewhere {
    machine: String,
    /// Whether its last run is over; otherwise it may be at work there now.
    over: bool,
}

impl OnlyElsewhere {
    fn refusal(&self, agent: &Agent) -> Error {
        let (name, machine) = (&agent.name, &self.machine);
        let (why, helps) = if self.over {
            let why =
                format!("its branch is not here, and machine {machine} may have the only copy of its work");
            (why, format!("`git orchestra take {name}` brings what that machine published"))
        } else {
            let why = format!("its run on machine {machine} is not over");
            (why, format!("`git orchestra stop {name}` there ends it"))
        };
        let force = "--force takes it out of the state all the same, its task is free again, and what only that machine has stays there";
        Error::refused(format!("remove {name}: {why}"), format!("{helps}; {force}"))
    }
}

/// What only another machine may have of an agent; `None` if nothing.
fn find_only_elsewhere(store: &Store, agent: &Agent) -> Result<Option<OnlyElsewhere>, Error> {
    let Some(machine) = store.find_elsewhere(agent)? else { return Ok(None) };
    let machine = machine.to_owned();
    let last = agent.last_run().map(|(_, run)| run);
    if last.is_some_and(|run| run.outcome.is_none()) {
        return Ok(Some(OnlyElsewhere { machine, over: false }));
    }
    let repo = store.repo();
    let own = agent.has_own_branch() && !is_name_of_another(store, agent)?;
    if own && super::branch::tip_here(store, agent)?.is_some() {
        return Ok(None);
    }
    // What its last run ended with may have landed, wherever its branch is.
    let tip = last.and_then(|run| run.tip.as_ref()).filter(|tip| repo.has_object(tip));
    let landed = match tip {
        Some(tip) => is_merged(store, agent, tip)?,
        None => false,
    };
    Ok((!landed).then_some(OnlyElsewhere { machine, over: true }))
}

/// What an agent leaves behind when it goes, looked at before anything is touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Leaving {
    /// Its worktree, if one is registered.
    pub(super) worktree: Option<Worktree>,
    /// Whether the worktree's directory is there.
    pub(super) there: bool,
    /// The tip of its branch.
    pub(super) tip: Option<ObjectId>,
    /// Ignored files that are kept with the rest.
    ignored: Vec<bstr::BString>,
    /// How many paths are in no commit.
    pub(super) uncommitted: usize,
    /// Whether branch and worktree are its own.
    pub(super) own: bool,
}

impl Leaving {
    /// How its branch goes; a branch that somebody has checked out elsewhere is theirs and stays.
    pub(super) fn branch_deletion(&self, repo: &Repository, agent: &Agent) -> Result<Option<RefEdit>, Error> {
        let Some(tip) = &self.tip else { return Ok(None) };
        let is_own = |path: &std::path::Path| {
            self.worktree.as_ref().is_some_and(|own| {
                own.path == path
                    || own.path.canonicalize().is_ok_and(|own| path.canonicalize().ok() == Some(own))
            })
        };
        let mut checkouts = repo.checkouts()?.into_iter();
        let elsewhere = checkouts
            .any(|checkout| checkout.branch.as_ref() == Some(&agent.branch) && !is_own(&checkout.path));
        let expected = Expected::At(tip.clone());
        Ok((!elsewhere).then(|| RefEdit { name: agent.branch.clone(), new: None, expected }))
    }
}

/// Looks at what an agent would leave behind. `verb` is what is about to happen, for errors.
///
/// # Errors
/// If it runs, if its directory is not the worktree that is registered, or if ignored files are too large to keep.
pub(super) fn look(
    verb: &str,
    store: &Store,
    agent: &Agent,
    options: RemoveOptions,
) -> Result<Leaving, Error> {
    let repo = store.repo();
    let refuse = |why: String, hint: Option<String>| {
        Err(Error::refused(format!("{verb} {}: {why}", agent.name), hint))
    };
    if let Some(lease) = lease::find_live(repo, &agent.id) {
        let (how, what) = match lease.state {
            LeaseState::Queued => ("it waits for its turn", "takes it out of the queue"),
            LeaseState::Preparing | LeaseState::Running => ("it is running", "ends it"),
        };
        return refuse(how.to_owned(), Some(format!("`git orchestra stop {} --wait` {what}", agent.name)));
    }
    // A name is that of the agent that lives under it: a record that came from elsewhere, or that of one removed
    // before, takes nothing of it along.
    let own = agent.has_own_branch() && !is_name_of_another(store, agent)?;
    let worktree = if own { repo.find_worktree(agent.name.as_str())? } else { None };
    let there = worktree.as_ref().filter(|worktree| worktree.path.exists());
    let tip = if own { repo.find_ref(&agent.branch)? } else { None };
    let (mut ignored, mut uncommitted) = (Vec::new(), 0);
    if let Some(worktree) = there {
        if !worktree.is_intact() {
            return refuse(format!("{} is not its worktree any more", worktree.path.display()), None);
        }
        if repo.work_dir() == Some(&worktree.path) {
            let hint = format!("go elsewhere first: cd {}", repo.main_dir().display());
            return refuse("you are in its worktree".to_owned(), Some(hint));
        }
        if worktree.is_locked() {
            return Err(crate::git::Error::WorktreeLocked { name: worktree.name.clone() }.into());
        }
        refuse_nested(verb, agent, worktree)?;
        ignored = keep_ignored(verb, store, agent, worktree, options)?;
        uncommitted = repo.worktree_status(worktree)?.count() + ignored.len();
    }
    let there = there.is_some();
    Ok(Leaving { worktree, there, tip, ignored, uncommitted, own })
}

/// A commit of what is in no other branch: what is in the worktree and not in its branch, or the branch itself.
/// `None` if nothing would be lost. No ref names it yet.
pub(super) fn keep(store: &Store, agent: &Agent, leaving: &Leaving) -> Result<Option<ObjectId>, Error> {
    let mut rescue = None;
    if let Some(worktree) = leaving.worktree.as_ref().filter(|_| leaving.there) {
        rescue = rescue_worktree(store, agent, worktree, leaving.tip.as_ref(), &leaving.ignored)?;
    }
    if rescue.is_none()
        && let Some(tip) = &leaving.tip
        && !is_merged(store, agent, tip)?
    {
        rescue = Some(tip.clone());
    }
    if let Some(commit) = &rescue {
        store.repo().sync_history(commit, &[&agent.base])?;
    }
    Ok(rescue)
}

/// Whether another agent of this machine that was not removed has the same name, or one that runs here: the branch and
/// the worktree of that name are that one's. What other machines call theirs is on them.
pub(super) fn is_name_of_another(store: &Store, agent: &Agent) -> Result<bool, Error> {
    let running = lease::live(store.repo()).into_iter();
    let here = store.machine()?;
    let living = store.state()?.all::<Agent>()?.into_iter();
    let living = living.filter(|other| other.removed.is_none() && other.is_of(&here));
    let mut others = running.map(|lease| (lease.agent, lease.name)).chain(living.map(|o| (o.id, o.name)));
    Ok(others.any(|(id, name)| id != agent.id && name == agent.name))
}

/// A repository inside the worktree would be gone with everything that only it holds.
fn refuse_nested(verb: &str, agent: &Agent, worktree: &Worktree) -> Result<(), Error> {
    let nested = Repository::nested_repositories(worktree);
    if nested.is_empty() {
        return Ok(());
    }
    let named: Vec<_> = nested.iter().take(3).map(|path| path.to_string_lossy()).collect();
    let what = format!(
        "{verb} {}: its worktree holds other repositories ({}), which would be lost",
        agent.name,
        named.join(", ")
    );
    let hint = format!("move what you need of them away, then delete them in {}", worktree.path.display());
    Err(Error::refused(what, hint))
}

/// The ignored files to keep with the rest.
fn keep_ignored(
    verb: &str,
    store: &Store,
    agent: &Agent,
    worktree: &Worktree,
    options: RemoveOptions,
) -> Result<Vec<bstr::BString>, Error> {
    let ignored = store.repo().ignored_files(worktree, IGNORED_LIMIT)?;
    if ignored.bytes <= IGNORED_LIMIT {
        return Ok(ignored.paths);
    }
    if options.discard_ignored {
        return Ok(Vec::new());
    }
    let named: Vec<_> = ignored.paths.iter().take(3).map(ToString::to_string).collect();
    let what = format!(
        "{verb} {}: its worktree holds more than {} MiB of ignored files ({}), too much to keep",
        agent.name,
        IGNORED_LIMIT >> 20,
        named.join(", ")
    );
    Err(Error::refused(what, "--discard-ignored deletes them; move what you need away before".to_owned()))
}

/// A commit of everything in the worktree that its branch does not hold; `None` if the branch holds it all.
fn rescue_worktree(
    store: &Store,
    agent: &Agent,
    worktree: &Worktree,
    tip: Option<&ObjectId>,
    ignored: &[bstr::BString],
) -> Result<Option<ObjectId>, Error> {
    let repo = store.repo();
    let head = repo.worktree_head(worktree)?.commit;
    let tree = repo.snapshot_with(worktree, ignored)?;
    let head_tree = head.as_ref().map(|head| repo.read_commit(head)).transpose()?.map(|commit| commit.tree);
    let detached = head.as_ref().filter(|head| Some(*head) != tip);
    if head_tree.as_ref() == Some(&tree) && detached.is_none() {
        return Ok(None);
    }
    let mut parents: Vec<ObjectId> = head.iter().cloned().collect();
    parents.extend(tip.filter(|tip| Some(*tip) != head.as_ref()).cloned());
    let message = format!(
        "Kept of {}\n\nWhat was in its worktree when it was removed.\n\nOrchestra-Agent: {}\n",
        agent.name, agent.id
    );
    let author = repo.identity();
    let commit = repo.write_commit(&NewCommit {
        tree: &tree,
        parents: &parents,
        author: &author,
        committer: &author,
        at: store.clock().now(),
        message: &message,
    })?;
    Ok(Some(commit))
}

/// Whether everything of the branch is in its target, or there is nothing of its own in it.
pub(super) fn is_merged(store: &Store, agent: &Agent, tip: &ObjectId) -> Result<bool, Error> {
    let repo = store.repo();
    if *tip == agent.base {
        // It starts from a commit that some branch has; should none have it any more, it is kept.
        let holders =
            repo.read(["for-each-ref", "--count=2", "--contains", tip.as_str(), "--format=%(refname)"])?;
        return Ok(holders.lines().any(|name| name != agent.branch));
    }
    let Some(target) = agent.target.as_deref().map(|target| repo.find_ref(target)).transpose()?.flatten()
    else {
        return Ok(false);
    };
    Ok(repo.ancestry(&[target.clone(), tip.clone()])?.contains(&target, tip))
}

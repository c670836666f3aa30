//! Everything that can be broken between the state and the repository: looked for when somebody asks, mended where
//! that loses nothing, made again where that is asked for.

use super::super::remove::is_name_of_another;
use super::super::rescue::rescue_refs;
use super::super::{Error, lease, merge, trust};
use super::{Fault, Recovered, recover, stale_lock};
use crate::git::{Expected, RefEdit, Relinked, Repository, Worktree};
use crate::model::{Agent, Id, Merge, ObjectId};
use crate::store::Store;
use std::path::PathBuf;

/// How thoroughly to recover.
#[derive(Debug, Clone, Default)]
pub struct RecoverOptions {
    /// Where agents' worktrees are made.
    pub worktree_root: PathBuf,
    /// Agents whose branches and worktrees are made again if they are gone.
    pub recreate: Vec<Id>,
}

/// Does what [`recover`] does, breaks locks of the dead, links moved worktrees again, makes again what was asked for,
/// and tells what else is not in order. Returns all of it.
///
/// # Errors
/// If an agent whose worktree is wanted again was removed, runs, or is not one of this repository's.
pub fn recover_all(store: &Store, options: &RecoverOptions) -> Result<Vec<Recovered>, Error> {
    let repo = store.repo();
    for id in &options.recreate {
        let agent: Agent = store.state()?.require(id)?;
        if agent.removed.is_some() {
            let kept = "what was kept of its work: git for-each-ref refs/orchestra/rescue";
            let hint = format!("{kept}/{}", agent.name);
            return Err(Error::refused(format!("make {} again: it was removed", agent.name), hint));
        }
    }
    let mut found = recover(store)?;
    found.extend(store.break_stale_locks()?.iter().map(|lock| stale_lock(repo, lock)));
    let worktrees = repo.own_worktrees()?;
    let live = lease::live(repo);
    for worktree in worktrees.iter().filter(|one| live.iter().all(|lease| lease.name.as_str() != one.name)) {
        found.extend(relink(repo, worktree, options)?);
        if !repo.is_busy() {
            found.extend(repo.break_worktree_locks(worktree)?.iter().map(|lock| stale_lock(repo, lock)));
        }
    }
    if let Some(change) = trust::find_change(repo)? {
        let text = "somebody changed what git runs here while agents were running";
        let way_out = "git orchestra config approve".to_owned();
        found.push(Recovered::open(Fault::ChangedConfiguration, change.files.join(", "), text, way_out));
    }
    let state = store.state()?;
    let agents: Vec<Agent> = state.all::<Agent>()?.into_iter().filter(|a| a.removed.is_none()).collect();
    for agent in &agents {
        let wanted = options.recreate.contains(&agent.id);
        if live.iter().any(|lease| lease.agent == agent.id) {
            if wanted {
                let hint = format!("`git orchestra stop {} --wait` ends it", agent.name);
                return Err(Error::refused(format!("make {} again: it is running", agent.name), hint));
            }
            continue;
        }
        match lost(store, agent)? {
            Some(lost) if wanted => found.push(recreate(store, agent, &lost, options)?),
            Some(lost) => found.push(lost.report(agent)),
            None => {}
        }
    }
    for merge in state.all::<Merge>()?.iter().filter(|merge| merge.status.is_open()) {
        let text = format!("the merge into {} is not over", merge::short_branch(&merge.target));
        let way_out = "git orchestra merge --continue".to_owned();
        found.push(Recovered::open(Fault::OpenMerge, merge.id.as_str(), text, way_out));
    }
    Ok(found)
}

/// What is missing of agents at rest, without mending anything.
pub(in super::super) fn lost_agents(store: &Store) -> Result<Vec<Recovered>, Error> {
    let live = lease::live(store.repo());
    let mut found = Vec::new();
    for agent in store.state()?.all::<Agent>()? {
        if agent.removed.is_none() && live.iter().all(|lease| lease.agent != agent.id) {
            found.extend(lost(store, &agent)?.map(|lost| lost.report(&agent)));
        }
    }
    Ok(found)
}

/// What is missing of an agent that a run of it needs and that is not made again by itself, with the way out.
pub(in super::super) fn find_missing(store: &Store, agent: &Agent) -> Result<Option<Recovered>, Error> {
    let Some(lost) = lost(store, agent)? else { return Ok(None) };
    if lost.branch.is_none() && !matches!(lost.worktree, Some(Gone::Other(_))) {
        return Ok(None);
    }
    let mut missing = lost.report(agent);
    let repo = store.repo();
    // Renamed: the worktree went along with it.
    if let (Some(LostBranch::At(_)), None) = (&lost.branch, &lost.worktree)
        && let Some(worktree) = repo.find_worktree(agent.name.as_str())?
        && let Some(on) = repo.worktree_head(&worktree)?.branch
    {
        let short = |name: &str| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned();
        let (on, own, path) = (short(&on), short(&agent.branch), worktree.path.display());
        missing.text = format!("its branch {own} is gone, and its worktree is on the branch {on}");
        missing.way_out = Some(format!(
            "`git branch -m {on} {own}` gives that its name again; or `git orchestra recover {}` makes its branch again, and \
             `git -C {path} switch {own}` goes there",
            agent.name
        ));
    }
    Ok(Some(missing))
}

fn relink(
    repo: &Repository,
    worktree: &Worktree,
    options: &RecoverOptions,
) -> Result<Option<Recovered>, Error> {
    let text = match repo.relink_worktree(worktree, &options.worktree_root)? {
        None => return Ok(None),
        Some(Relinked::Repository) => {
            format!("{} knows again where the repository is", worktree.path.display())
        }
        Some(Relinked::Worktree(path)) => {
            format!("the repository knows again where it is: {}", path.display())
        }
    };
    Ok(Some(Recovered::mended(Fault::MovedWorktree, &worktree.name, text)))
}

/// What an agent does not have any more.
struct Lost {
    worktree: Option<Gone>,
    branch: Option<LostBranch>,
}

enum LostBranch {
    /// The last commit that is known of it.
    At(ObjectId),
    /// No commit of it is there any more.
    Nowhere,
}

enum Gone {
    /// Nothing is where it was.
    Missing,
    /// Something else is.
    Other(PathBuf),
}

/// What is missing of an agent that was made here and is at rest; `None` if nothing is.
fn lost(store: &Store, agent: &Agent) -> Result<Option<Lost>, Error> {
    let repo = store.repo();
    let registered = repo.find_worktree(agent.name.as_str())?;
    let here = registered.is_some() || agent.machine == store.machine()?;
    // One that never ran has nothing yet, and one whose work has landed needs nothing any more.
    if !here || agent.runs.is_empty() || agent.merged.is_some() || !agent.has_own_branch() {
        return Ok(None);
    }
    if is_name_of_another(store, agent)? {
        return Ok(None);
    }
    let worktree = match &registered {
        Some(worktree) if worktree.is_intact() => None,
        Some(worktree) if worktree.path.symlink_metadata().is_ok() => {
            Some(Gone::Other(worktree.path.clone()))
        }
        _ => Some(Gone::Missing),
    };
    let branch = match repo.find_ref(&agent.branch)? {
        Some(_) => None,
        None => Some(match last_commit(repo, agent, registered.as_ref())? {
            Some(commit) => LostBranch::At(commit),
            None => LostBranch::Nowhere,
        }),
    };
    Ok((worktree.is_some() || branch.is_some()).then_some(Lost { worktree, branch }))
}

/// The last commit that is known of a branch that is gone: of the worktree's own log if that follows the last run's.
fn last_commit(
    repo: &Repository,
    agent: &Agent,
    worktree: Option<&Worktree>,
) -> Result<Option<ObjectId>, Error> {
    let there = |id: &ObjectId| repo.read_commit(id).is_ok();
    let run = agent.runs.values().rev().find_map(|run| run.tip.clone()).filter(there);
    let seen = worktree.and_then(|worktree| repo.head_log(worktree).into_iter().find(there));
    Ok(match (run, seen) {
        (Some(run), Some(seen)) if run == seen || repo.is_ancestor(&run, &seen)? => Some(seen),
        (Some(run), _) => Some(run),
        (None, Some(seen)) => Some(seen),
        (None, None) => Some(agent.base.clone()).filter(there),
    })
}

impl Lost {
    fn report(&self, agent: &Agent) -> Recovered {
        let name = agent.name.as_str();
        let again = format!("git orchestra recover {name}");
        match (&self.branch, &self.worktree) {
            (Some(LostBranch::At(commit)), _) => {
                let text = format!("its branch is gone; its last commit {} is still there", commit.short());
                Recovered::open(Fault::LostBranch, name, text, again)
            }
            (Some(LostBranch::Nowhere), _) => {
                let text = "its branch is gone, and its commits too";
                Recovered::open(Fault::LostBranch, name, text, format!("git orchestra remove {name}"))
            }
            (None, Some(Gone::Other(path))) => {
                let text = format!("{} is not its worktree any more", path.display());
                let way_out = format!("move that away, then: {again}");
                Recovered::open(Fault::LostWorktree, name, text, way_out)
            }
            (None, _) => {
                let text = "its directory is gone; its branch is still there";
                Recovered::open(Fault::LostWorktree, name, text, again)
            }
        }
    }
}

/// Makes again what is gone of an agent.
fn recreate(store: &Store, agent: &Agent, lost: &Lost, options: &RecoverOptions) -> Result<Recovered, Error> {
    let repo = store.repo();
    trust::require_unchanged(repo)?;
    let mut done = Vec::new();
    let mut fault = Fault::LostWorktree;
    match &lost.branch {
        Some(LostBranch::At(commit)) => {
            fault = Fault::LostBranch;
            let tip = recreate_branch(repo, agent, commit)?;
            done.push(format!("made its branch again at {}", tip.short()));
        }
        Some(LostBranch::Nowhere) => return Ok(lost.report(agent)),
        None => {}
    }
    match &lost.worktree {
        Some(Gone::Missing) => {
            let made = repo.restore_worktree(&agent.name, &options.worktree_root, &agent.branch, &[])?;
            let what = match kept(repo, agent)? {
                Some(rescue) => {
                    format!("what was in it and not committed when it was last removed is in {rescue}")
                }
                None => "what was in it and not committed is gone".to_owned(),
            };
            done.push(format!("made its worktree {} again; {what}", made.path.display()));
        }
        Some(Gone::Other(_)) => {
            let mut report = lost.report(agent);
            report.text = [done, vec![report.text]].concat().join(", ");
            return Ok(report);
        }
        None => {}
    }
    Ok(Recovered::mended(fault, agent.name.as_str(), done.join(", ")))
}

/// The last rescue ref with what was in the worktree of an agent; one of another agent with its name is none.
fn kept(repo: &Repository, agent: &Agent) -> Result<Option<String>, Error> {
    let of_it = |commit: &ObjectId| {
        let commit = repo.read_commit(commit);
        commit.is_ok_and(|commit| commit.trailers("Orchestra-Agent").any(|id| id == agent.id.as_str()))
    };
    let mut refs = rescue_refs(repo, &agent.name)?.into_values().rev();
    Ok(refs.find(|(_, commit)| of_it(commit)).map(|(name, _)| name))
}

/// Makes a branch again at the last commit that is known of it; returns where it is.
fn recreate_branch(repo: &Repository, agent: &Agent, commit: &ObjectId) -> Result<ObjectId, Error> {
    let put = |new: &ObjectId, expected| {
        let edit = RefEdit { name: agent.branch.clone(), new: Some(new.clone()), expected };
        repo.update_refs(&[edit], "orchestra: recover")
    };
    put(commit, Expected::Absent)?;
    // Where the log of the worktree can be read only now, it may know more.
    let known = repo.find_worktree(agent.name.as_str())?;
    let known = last_commit(repo, agent, known.as_ref())?.filter(|known| known != commit);
    let Some(known) = known else { return Ok(commit.clone()) };
    if !repo.is_ancestor(commit, &known)? {
        return Ok(commit.clone());
    }
    put(&known, Expected::At(commit.clone()))?;
    Ok(known)
}

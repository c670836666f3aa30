//! An agent's work in the user's checkout, staged and not committed: to look at, try or change before anything is merged.
//!
//! git merges it onto `HEAD` in the object database first; the checkout is touched only if that has no conflict and
//! nothing that is not committed is in the way.

use super::Error;
use crate::git::{self, Checkout, NewCommit, Repository, path_text};
use crate::model::{Agent, Id, ObjectId};
use crate::orchestrate::{branch, trust};
use crate::store::Store;
use std::collections::BTreeSet;
use std::path::PathBuf;

/// What is to be applied, and to what.
#[derive(Debug, Clone)]
pub struct ApplyRequest {
    /// The agent.
    pub agent: Id,
    /// Leave out what it has not committed.
    pub committed: bool,
    /// Say what would happen, and touch nothing.
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Applied {
    /// These paths are staged, or would be.
    Staged {
        /// Relative to the repository's root.
        paths: Vec<String>,
        /// The checkout.
        checkout: PathBuf,
    },
    /// `HEAD` has all of it.
    Nothing,
    /// git cannot merge it onto `HEAD` by itself; the paths that conflict.
    Conflict(Vec<String>),
    /// These paths that it changes have uncommitted changes of the user's.
    InTheWay(Vec<String>),
    /// git refused: its words.
    Refused(String),
}

/// Stages an agent's work in the checkout of `repo`'s work tree.
///
/// # Errors
/// [`Error::NoCheckout`] where there are no files to change.
pub fn apply(store: &Store, request: &ApplyRequest) -> Result<Applied, Error> {
    let repo = store.repo();
    trust::require_unchanged(repo)?;
    let agent: Agent = store.state()?.require(&request.agent)?;
    let checkout = checkout(repo)?.ok_or(Error::NoCheckout)?;
    let head = checkout.commit.clone().ok_or(Error::NoCheckout)?;
    let work = work(store, &agent, request.committed)?;
    let merge = repo.merge_tree(&head, &work)?;
    if !merge.clean {
        return Ok(Applied::Conflict(
            merge.own_paths([&head, &work]).into_iter().map(|(path, _)| path).collect(),
        ));
    }
    let commit = repo.write_commit(&NewCommit {
        tree: &merge.tree,
        parents: std::slice::from_ref(&head),
        author: store.author(),
        committer: store.author(),
        at: store.clock().now(),
        message: &format!("{}, applied", agent.name),
    })?;
    let changes = repo.changes(&head, &commit)?;
    let paths: BTreeSet<String> =
        changes.iter().flat_map(git::FileChange::paths).map(|path| path_text(path.as_ref())).collect();
    if paths.is_empty() {
        return Ok(Applied::Nothing);
    }
    let mut dirty = repo.uncommitted_paths(&checkout, &head)?;
    dirty.retain(|path| paths.contains(path));
    let mut is_there = false;
    if !dirty.is_empty() {
        // What was applied before is not in the way.
        let other = repo.paths_unlike(&checkout, &commit)?;
        dirty.retain(|path| other.contains(path));
        is_there = paths.is_disjoint(&other);
    }
    if !dirty.is_empty() {
        return Ok(Applied::InTheWay(dirty));
    }
    // git does not put a file once more where a directory was.
    if !request.dry_run
        && !is_there
        && let Err(words) = repo.stage(&checkout, &commit)?
    {
        return Ok(Applied::Refused(words));
    }
    Ok(Applied::Staged { paths: paths.into_iter().collect(), checkout: checkout.path })
}

/// The checkout that is looked at from.
fn checkout(repo: &Repository) -> Result<Option<Checkout>, Error> {
    let Some(dir) = repo.work_dir().and_then(|dir| dir.canonicalize().ok()) else { return Ok(None) };
    let is_here = |checkout: &Checkout| checkout.path.canonicalize().is_ok_and(|path| path == dir);
    Ok(repo.checkouts()?.into_iter().find(|checkout| !checkout.bare && is_here(checkout)))
}

/// A commit of all that the agent has made.
fn work(store: &Store, agent: &Agent, committed: bool) -> Result<ObjectId, Error> {
    let repo = store.repo();
    let (tip, worktree) = branch::made(store, agent, committed)?;
    let Some(worktree) = worktree else { return Ok(tip) };
    let tree = repo.snapshot(&worktree)?;
    Ok(repo.write_commit(&NewCommit {
        tree: &tree,
        parents: std::slice::from_ref(&tip),
        author: store.author(),
        committer: store.author(),
        at: store.clock().now(),
        message: &format!("{}, with what is not committed", agent.name),
    })?)
}

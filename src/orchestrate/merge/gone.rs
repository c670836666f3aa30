//! Whether a branch still contains what landed on it: it may have been reset, amended or rewritten since.

use super::receipt::holds_all;
use super::{Error, short_branch};
use crate::git::{self, Repository};
use crate::model::{Merge, MergeStatus, Name, ObjectId, Step};
use crate::store::{State, Store};
use std::fmt::Write as _;

/// How many trees of a branch that was rewritten are looked at, from where it was.
const LOOKED_AT: usize = 8;

/// A merge that landed and that its target does not contain any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gone {
    /// The target, as people write it.
    pub target: String,
    /// The commit that landed.
    pub commit: ObjectId,
    /// Where the target was before.
    pub before: ObjectId,
    /// The agents whose branches it does not contain either: they can be merged again.
    pub branches: Vec<Name>,
}

/// Says that the target of a merge once contained it, in this clone, and does not any more.
///
/// `None` if it does; if it never did here, as in a clone that is behind or has only the state; if the target was
/// rewritten and every line is there; and if all of the merge was merged again. What was undone has not landed.
pub fn gone(store: &Store, state: &State, merge: &Merge) -> Result<Option<Gone>, Error> {
    let repo = store.repo();
    let landed = merge.landed.as_ref().filter(|_| merge.status == MergeStatus::Landed);
    let (Some(landed), Some(tip)) = (landed, repo.find_ref(&merge.target)?) else { return Ok(None) };
    if !repo.has_object(landed)
        || repo.is_ancestor(landed, &tip)?
        || !was_there(repo, &merge.target, landed)?
        || is_merged_again(repo, state, merge, &tip)?
        || is_kept(repo, state, merge, landed, &tip)?
    {
        return Ok(None);
    }
    let mut branches = Vec::new();
    for step in brought(merge) {
        if !repo.is_ancestor(&step.tip, &tip)? {
            branches.push(step.name.clone());
        }
    }
    let target = short_branch(&merge.target).to_owned();
    Ok(Some(Gone { target, commit: landed.clone(), before: merge.target_tip.clone(), branches }))
}

impl Gone {
    /// What can be done about it.
    pub fn hint(&self) -> String {
        let Self { target, before, branches, .. } = self;
        if branches.is_empty() {
            let before = before.short();
            return format!(
                "`git orchestra verify --target {target} --since {before}` judges what is there now"
            );
        }
        let names: Vec<&str> = branches.iter().map(Name::as_str).collect();
        format!(
            "`git orchestra merge {}` merges again what is gone; if it is meant to be, `git orchestra undo` what landed it",
            names.join(" ")
        )
    }
}

fn brought(merge: &Merge) -> impl Iterator<Item = &Step> {
    merge.steps.iter().filter(|step| step.status.is_merged())
}

/// Whether the branch contained the commit at any time that its reflog here tells of. Of one that has none, whether
/// nobody else's branch contains it: where somebody else's does, this one may only be behind.
fn was_there(repo: &Repository, target: &str, landed: &ObjectId) -> Result<bool, Error> {
    // One that cannot be read is as good as none.
    let past = repo.read(["rev-list", "--walk-reflogs", target, "--"]).unwrap_or_default();
    if past.is_empty() {
        let others = ["for-each-ref", "--count=1", "--contains", landed.as_str(), "refs/remotes"];
        return Ok(repo.read(others)?.is_empty());
    }
    if past.lines().any(|commit| commit == landed.as_str()) {
        return Ok(true);
    }
    let mut revisions = format!("{landed}\n");
    for commit in past.lines() {
        let _ = writeln!(revisions, "^{commit}");
    }
    let git = repo.git(["rev-list", "--ignore-missing", "--max-count=1", "--stdin"]);
    Ok(git.stdin(revisions).read().map_err(git::Error::from)?.is_empty())
}

/// Whether later merges, which the target contains, brought all of it again.
fn is_merged_again(repo: &Repository, state: &State, merge: &Merge, tip: &ObjectId) -> Result<bool, Error> {
    let mut later: Vec<Merge> = state.all()?;
    later.retain(|other| {
        other.status == MergeStatus::Landed
            && other.target == merge.target
            && (other.created, other.id) > (merge.created, merge.id)
    });
    for step in brought(merge) {
        let mut again = false;
        for other in &later {
            let Some(landed) = other.landed.as_ref().filter(|landed| repo.has_object(landed)) else {
                continue;
            };
            again = again
                || repo.is_ancestor(landed, tip)?
                    && repo.is_ancestor(&step.tip, landed)?
                    && !repo.is_ancestor(&step.tip, &other.target_tip)?;
        }
        if !again {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Whether the target has a commit since then in which every line is that the agents brought: it was rewritten, and
/// nothing was lost.
fn is_kept(
    repo: &Repository,
    state: &State,
    merge: &Merge,
    landed: &ObjectId,
    tip: &ObjectId,
) -> Result<bool, Error> {
    let without = format!("^{landed}");
    let args = ["rev-list", "--first-parent", "--no-commit-header", "--format=%T", tip.as_str(), &without];
    let since = repo.read(args)?;
    let since: Vec<ObjectId> = since.lines().filter_map(|tree| tree.parse().ok()).collect();
    if since.contains(&repo.read_commit(landed)?.tree) {
        return Ok(true);
    }
    let tip = repo.read_commit(tip)?.tree;
    for tree in std::iter::once(&tip).chain(since.iter().rev().take(LOOKED_AT)) {
        if holds_all(repo, state, merge, tree)? {
            return Ok(true);
        }
    }
    Ok(false)
}

//! Snapshots: what an agent here has done and not committed yet, as a commit that can travel.

use super::{Error, trust};
use crate::git::{Identity, NewCommit, Worktree};
use crate::model::{Agent, ObjectId};
use crate::store::Store;

/// A commit of everything in an agent's worktree that is not ignored, on top of its branch; its branch's tip if that
/// is all there is; `None` if it has done nothing yet. Reads the worktree and leaves it alone.
///
/// # Errors
/// If git must not look at what agents wrote, because what it runs was changed.
pub(super) fn snapshot(store: &Store, agent: &Agent) -> Result<Option<ObjectId>, Error> {
    let repo = store.repo();
    trust::require_unchanged(repo)?;
    let Some(tip) = repo.find_ref(&agent.branch)? else { return Ok(None) };
    let done = (tip != agent.base).then(|| tip.clone());
    let Some(worktree) = repo.find_worktree(agent.name.as_str())?.filter(Worktree::is_intact) else {
        return Ok(done);
    };
    // Where its own HEAD is elsewhere, its branch is what can be continued.
    let head = repo.worktree_head(&worktree)?;
    if head.commit.as_ref() != Some(&tip) || repo.worktree_status(&worktree)?.is_clean() {
        return Ok(done);
    }
    let tree = repo.snapshot(&worktree)?;
    if tree == repo.read_commit(&tip)?.tree {
        return Ok(done);
    }
    let subject = format!("Uncommitted work of {}\n\nWhat was in its worktree while it ran.", agent.name);
    commit(store, agent, &tree, &[tip], &subject).map(Some)
}

/// A commit in an agent's name, to be sent.
pub(super) fn commit(
    store: &Store,
    agent: &Agent,
    tree: &ObjectId,
    parents: &[ObjectId],
    text: &str,
) -> Result<ObjectId, Error> {
    let message = format!("{text}\n\nOrchestra-Agent: {}\n", agent.id);
    let author = Identity::agent(&agent.name);
    let at = store.clock().now();
    let new = NewCommit { tree, parents, author: &author, committer: &author, at, message: &message };
    Ok(store.repo().write_commit(&new)?)
}

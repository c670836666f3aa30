//! Snapshots: what an agent here has done and not committed yet, as a commit that can travel.

use super::{Error, trust};
use crate::agent::Redactor;
use crate::git::{EntryMode, Identity, NewCommit, Repository, Worktree};
use crate::model::{Agent, ObjectId};
use crate::store::Store;
use bstr::BString;

/// What can travel of an agent's work.
#[derive(Debug)]
pub(super) struct Snapshot {
    /// The commit.
    pub(super) commit: ObjectId,
    /// Files that stay here, because they hold what looks like a secret and the branch does not.
    pub(super) left_out: Vec<BString>,
}

/// A commit of everything in an agent's worktree that is not ignored, on top of its branch; its branch's tip if that
/// is all there is; `None` if it has done nothing yet. Reads the worktree and leaves it alone. A changed file with more
/// secrets than the branch has of it is as the branch has it.
///
/// # Errors
/// If git must not look at what agents wrote, because what it runs was changed.
pub(super) fn snapshot(store: &Store, agent: &Agent, redactor: &Redactor) -> Result<Option<Snapshot>, Error> {
    let repo = store.repo();
    trust::require_unchanged(repo)?;
    let Some(tip) = repo.find_ref(&agent.branch)? else { return Ok(None) };
    let done = (tip != agent.base).then(|| Snapshot { commit: tip.clone(), left_out: Vec::new() });
    let Some(worktree) = repo.find_worktree(agent.name.as_str())?.filter(Worktree::is_intact) else {
        return Ok(done);
    };
    // Where its own HEAD is elsewhere, its branch is what can be continued.
    let head = repo.worktree_head(&worktree)?;
    if head.commit.as_ref() != Some(&tip) || repo.worktree_status(&worktree)?.is_clean() {
        return Ok(done);
    }
    let tree = repo.snapshot(&worktree)?;
    let before = repo.read_commit(&tip)?.tree;
    let (tree, left_out) = without_secrets(repo, &before, tree, redactor)?;
    if tree == before {
        return Ok(done.map(|done| Snapshot { left_out, ..done }));
    }
    let mut text = format!("Uncommitted work of {}\n\nWhat was in its worktree while it ran.", agent.name);
    if !left_out.is_empty() {
        text.push_str(" Files with what looks like a secret are left out.");
    }
    let commit = commit(store, agent, &tree, &[tip], &text)?;
    Ok(Some(Snapshot { commit, left_out }))
}

/// `tree` without changes that bring secrets in, and the files that have them.
fn without_secrets(
    repo: &Repository,
    before: &ObjectId,
    tree: ObjectId,
    redactor: &Redactor,
) -> Result<(ObjectId, Vec<BString>), Error> {
    let secrets = |id: &ObjectId| -> Result<usize, Error> {
        Ok(redactor.redact(&String::from_utf8_lossy(&repo.read_blob(id)?)).1)
    };
    let is_file = |mode: EntryMode| !matches!(mode, EntryMode::Tree | EntryMode::Submodule);
    let (mut edits, mut left_out) = (Vec::new(), Vec::new());
    for change in repo.changes(before, &tree)? {
        let Some(new) = repo.find_in_tree(&tree, &change.path)?.filter(|entry| is_file(entry.mode)) else {
            continue;
        };
        let old = repo.find_in_tree(before, change.base_path())?;
        let had = match &old {
            Some(old) if is_file(old.mode) => secrets(&old.id)?,
            _ => 0,
        };
        if secrets(&new.id)? > had {
            let kept = old.filter(|_| change.base_path() == &change.path);
            edits.push((change.path.clone(), kept.map(|old| (old.mode, old.id))));
            left_out.push(change.path);
        }
    }
    if edits.is_empty() {
        return Ok((tree, left_out));
    }
    Ok((repo.edit_tree(Some(&tree), &edits)?.0, left_out))
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

//! One branch onto the accumulated commit, in the object database.

use super::{Error, short_branch};
use crate::git::{Identity, MergeTree, NewCommit, Repository};
use crate::model::{Id, Name, ObjectId, Task, Timestamp};
use crate::orchestrate::trust;

/// What merging a tip onto the accumulated commit gives.
#[derive(Debug)]
pub(super) enum Attempt {
    /// It is contained already.
    Empty,
    /// git merged it; the tree.
    Clean(ObjectId),
    /// git stopped.
    Conflict(MergeTree),
}

/// Asks git. `None` if the two share no history.
pub(super) fn attempt(repo: &Repository, head: &ObjectId, tip: &ObjectId) -> Result<Option<Attempt>, Error> {
    let Some(base) = repo.merge_base(head, tip)? else { return Ok(None) };
    if base == *tip {
        return Ok(Some(Attempt::Empty));
    }
    // A merge driver is run by git here, and agents may be running.
    trust::require_unchanged(repo)?;
    let merge = repo.merge_tree(head, tip)?;
    Ok(Some(if merge.clean { Attempt::Clean(merge.tree) } else { Attempt::Conflict(merge) }))
}

/// What the commit of a step says.
#[derive(Debug, Clone, Copy)]
pub(super) struct Words<'a> {
    pub(super) merge: &'a Id,
    pub(super) target: &'a str,
    pub(super) agent: &'a Id,
    pub(super) name: &'a Name,
    pub(super) task: Option<&'a Task>,
    /// The paths that were not merged by git, with what was taken.
    pub(super) resolved: &'a [String],
}

/// Who makes the commits of a merge, and when.
#[derive(Debug, Clone, Copy)]
pub(super) struct Maker<'a> {
    pub(super) repo: &'a Repository,
    pub(super) author: &'a Identity,
    pub(super) at: Timestamp,
}

impl Maker<'_> {
    /// Makes the commit: parents are the accumulated one and the branch's tip.
    pub(super) fn commit(
        &self,
        head: &ObjectId,
        tip: &ObjectId,
        tree: &ObjectId,
        words: Words<'_>,
    ) -> Result<ObjectId, Error> {
        Ok(self.repo.write_commit(&NewCommit {
            tree,
            parents: &[head.clone(), tip.clone()],
            author: self.author,
            committer: self.author,
            at: self.at,
            message: &words.message(),
        })?)
    }
}

impl Words<'_> {
    fn message(self) -> String {
        let mut message = format!("Merge {} into {}", self.name, short_branch(self.target));
        if let Some(task) = self.task {
            let title = task.title.lines().next().unwrap_or_default();
            message = format!("{message}: {title}");
        }
        message.push_str("\n\n");
        if !self.resolved.is_empty() {
            message = format!("{message}Conflicts:\n{}\n\n", self.resolved.join("\n"));
        }
        let task = self.task.map(|task| format!("Orchestra-Task: {}\n", task.id)).unwrap_or_default();
        format!("{message}Orchestra-Merge: {}\nOrchestra-Agent: {}\n{task}", self.merge, self.agent)
    }
}

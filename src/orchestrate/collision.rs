//! Whether an edit that is about to be made collides with what agents at work have in their worktrees. Reads only.
//!
//! Asked before every edit of every agent, so it looks at one path and runs git only for agents that changed it: two
//! small processes each. Renames are not followed: the file is looked for under its path.

use super::{Error, lease};
use crate::git::{EntryMode, Repository, Worktree};
use crate::model::{Agent, Id, Name, ObjectId, Task};
use crate::store::Store;
use std::path::{Component, Path};

/// The most bytes of one file that are compared.
pub const MAX_FILE: u64 = 4 << 20;

/// A file as it is, and as it would be.
#[derive(Debug, Clone, Copy)]
pub struct Edit<'a> {
    /// Relative to the root of the checkout, with `/`.
    pub path: &'a str,
    /// What it holds; nothing if it is not there.
    pub before: &'a [u8],
    /// What it would hold.
    pub after: &'a [u8],
}

/// An agent at work whose change an edit would conflict with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collision {
    /// The agent.
    pub agent: Name,
    /// What it works on.
    pub task: Option<String>,
    /// Whether it deleted the file.
    pub deleted: bool,
}

/// With which agents that run now the edit would conflict, though the file as it is does not. `head` is the commit of
/// the checkout that is edited, `own` the agent that edits.
///
/// # Errors
/// If the state or an object cannot be read.
pub fn collisions(
    store: &Store,
    head: &ObjectId,
    edit: Edit<'_>,
    own: Option<&Id>,
) -> Result<Vec<Collision>, Error> {
    let repo = store.repo();
    let live: Vec<_> = lease::live(repo).into_iter().filter(|lease| Some(&lease.agent) != own).collect();
    if live.is_empty() || edit.before == edit.after || !is_plain(edit.path) {
        return Ok(Vec::new());
    }
    let state = store.state()?;
    let mut found = Vec::new();
    for lease in &live {
        let Some(agent) = state.get::<Agent>(&lease.agent)? else { continue };
        let Some(deleted) = collides(repo, head, edit, &agent)? else { continue };
        let task = match &agent.task {
            Some(task) => state.get::<Task>(task)?.map(|task| task.title),
            None => None,
        };
        found.push(Collision { agent: agent.name, task, deleted });
    }
    Ok(found)
}

/// Whether the edit collides with what `agent` has, and if so, whether that is that the file is gone.
fn collides(
    repo: &Repository,
    head: &ObjectId,
    edit: Edit<'_>,
    agent: &Agent,
) -> Result<Option<bool>, Error> {
    let Some(worktree) = repo.find_worktree(agent.name.as_str())? else { return Ok(None) };
    let theirs = match read(&worktree, edit.path) {
        Found::File(content) => Some(content),
        Found::Nothing => None,
        Found::Other => return Ok(None),
    };
    // Most agents did not touch it: two reads say so.
    if theirs == blob(repo, &agent.base, edit.path)? {
        return Ok(None);
    }
    let Some(tip) = repo.find_ref(&agent.branch)? else { return Ok(None) };
    let Some(fork) = repo.merge_base(head, &tip)? else { return Ok(None) };
    let base = blob(repo, &fork, edit.path)?;
    if theirs == base {
        return Ok(None);
    }
    let base = base.unwrap_or_default();
    let Some(theirs) = theirs else { return Ok((edit.before == base).then_some(true)) };
    let conflicts = |ours: &[u8]| repo.conflicts_between(&base, ours, &theirs);
    let Some(after) = conflicts(edit.after)?.filter(|&after| after > 0) else { return Ok(None) };
    let before = conflicts(edit.before)?.unwrap_or(0);
    Ok((after > before).then_some(false))
}

/// What lies at a path of a worktree that an agent may have made anything of.
enum Found {
    File(Vec<u8>),
    Nothing,
    /// A link, a directory, something too large: not compared.
    Other,
}

fn read(worktree: &Worktree, path: &str) -> Found {
    let file = worktree.path.join(path);
    let Ok(meta) = file.symlink_metadata() else { return Found::Nothing };
    // No directory on the way may lead out of the worktree.
    let inside = worktree.path.canonicalize().ok().zip(file.canonicalize().ok());
    if !meta.is_file() || meta.len() > MAX_FILE || !inside.is_some_and(|(root, file)| file.starts_with(root))
    {
        return Found::Other;
    }
    std::fs::read(file).map_or(Found::Other, Found::File)
}

fn blob(repo: &Repository, commit: &ObjectId, path: &str) -> Result<Option<Vec<u8>>, Error> {
    let tree = repo.read_commit(commit)?.tree;
    match repo.find_in_tree(&tree, path)? {
        Some(entry) if matches!(entry.mode, EntryMode::Blob | EntryMode::Executable) => {
            Ok(Some(repo.read_blob(&entry.id)?))
        }
        _ => Ok(None),
    }
}

fn is_plain(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

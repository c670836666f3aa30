//! What an agent said, on its way to another machine: the conversation, from its program's own files, and the journal
//! of the run that is not over. It leaves only where `transcripts = remote` asks for that, redacted.
//!
//! It comes back as data: a program gets a file that is written here from it, never one that was sent.

use super::session::Outfit;
use super::{Error, snapshot};
use crate::agent::Redactor;
use crate::agent::conversation::{Conversation, MAX_CONVERSATION, MAX_FILE, Place};
use crate::git::EntryMode;
use crate::model::{Agent, ObjectId};
use crate::store::{Store, journal};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

const CONVERSATION: &str = "conversation.jsonl";
const JOURNAL: &str = "journal.jsonl";
/// How deep below their home programs keep conversations.
const DEPTH: usize = 4;

/// What came of what an agent said.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// Its conversation, if it is one that can be continued.
    pub(super) conversation: Option<Conversation>,
    /// The journal of its last run.
    pub(super) journal: Vec<u8>,
}

/// The tree of what an agent said so far; `None` if there is nothing of it, or too much.
pub(super) fn gather(
    store: &Store,
    agent: &Agent,
    outfit: &Outfit,
    env: &BTreeMap<OsString, OsString>,
    redactor: &Redactor,
) -> Result<Option<ObjectId>, Error> {
    let repo = store.repo();
    let Some((run, _)) = agent.last_run() else { return Ok(None) };
    let mut files = Vec::new();
    let worktree = repo.find_worktree(agent.name.as_str())?;
    if let Some(worktree) = worktree
        && let Some(conversation) = read_own(agent, run, outfit, env)
        && let Some(bytes) = conversation.cleaned(redactor, &worktree.path).to_bytes()
    {
        files.push((CONVERSATION, Some((EntryMode::Blob, repo.write_blob(&bytes)?))));
    }
    // It was redacted when it was written. When the run is over, its transcript has it.
    let journal = std::fs::read(journal::path(repo, &agent.id, run)).unwrap_or_default();
    let journal = journal::whole(&journal);
    if !journal.is_empty() && journal.len() as u64 <= MAX_CONVERSATION {
        files.push((JOURNAL, Some((EntryMode::Blob, repo.write_blob(journal)?))));
    }
    if files.is_empty() {
        return Ok(None);
    }
    Ok(Some(repo.edit_tree(None, &files)?.0))
}

/// A commit of such a tree, to be sent.
pub(super) fn commit(store: &Store, agent: &Agent, tree: &ObjectId) -> Result<ObjectId, Error> {
    let subject = format!("What {} said", agent.name);
    snapshot::commit(store, agent, tree, &[], &subject)
}

/// What another machine sent; what is none is nothing.
pub(super) fn read(store: &Store, commit: &ObjectId) -> Said {
    let repo = store.repo();
    let file = |name: &str| -> Option<Vec<u8>> {
        let tree = repo.read_commit(commit).ok()?.tree;
        let entry = repo.find_in_tree(&tree, name).ok()??;
        let small = repo.object_size(&entry.id).ok()? <= MAX_CONVERSATION;
        small.then(|| repo.read_blob(&entry.id).ok()).flatten()
    };
    Said {
        conversation: file(CONVERSATION).and_then(|bytes| Conversation::parse(&bytes)),
        journal: file(JOURNAL).unwrap_or_default(),
    }
}

/// An agent's conversation, from the file that its program keeps.
fn read_own(
    agent: &Agent,
    run: u32,
    outfit: &Outfit,
    env: &BTreeMap<OsString, OsString>,
) -> Option<Conversation> {
    let session = uuid::Uuid::try_parse(agent.session.as_deref()?).ok()?.to_string();
    let home = outfit.adapter.conversation_home(env)?;
    let file = find(&home, &format!("{session}.jsonl"), DEPTH)?;
    if std::fs::metadata(&file).ok()?.len() > MAX_FILE {
        return None;
    }
    let turns = outfit.adapter.read_conversation(&std::fs::read(file).ok()?);
    let program = outfit.adapter.name().to_owned();
    (!turns.is_empty()).then_some(Conversation { program, run, turns })
}

/// The file whose name ends so, at most `depth` directories down. Follows no links.
fn find(dir: &Path, end: &str, depth: usize) -> Option<PathBuf> {
    let mut below = Vec::new();
    for entry in std::fs::read_dir(dir).ok()?.flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            below.push(entry.path());
        } else if kind.is_file() && entry.file_name().to_string_lossy().ends_with(end) {
            return Some(entry.path());
        }
    }
    let depth = depth.checked_sub(1)?;
    below.into_iter().find_map(|dir| find(&dir, end, depth))
}

/// Puts a conversation where its program finds it as `session`, for a run in `worktree`. Why not, if that cannot be.
pub(super) fn put(
    store: &Store,
    conversation: Conversation,
    outfit: &Outfit,
    env: &BTreeMap<OsString, OsString>,
    session: &str,
    worktree: &Path,
) -> Result<(), String> {
    let program = outfit.adapter.name();
    if conversation.program != program {
        return Err(format!("it was held with {}, and this is {program}", conversation.program));
    }
    let worktree = std::fs::canonicalize(worktree).map_err(|e| format!("{}: {e}", worktree.display()))?;
    let conversation = conversation.arrived(&worktree);
    let at = store.clock().now().to_string();
    let place = Place { session, worktree: &worktree, at: &at, new_id: || uuid::Uuid::new_v4().to_string() };
    let made = outfit.adapter.conversation_home(env).zip(
        // Old words in a new place.
        outfit.adapter.write_conversation(&conversation.turns, &place),
    );
    let Some((home, file)) = made else { return Err(format!("{program} cannot take it over")) };
    let path = home.join(&file.path);
    let written = (|| {
        let dir = path.parent().unwrap_or(&home);
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
        let mut new = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path)?;
        new.write_all(&file.bytes)
    })();
    written.map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_conversation_is_found_by_its_name_and_no_link_is_followed() {
        let dir = tempfile::tempdir().unwrap();
        let deep = dir.path().join("2026/11/20");
        std::fs::create_dir_all(&deep).unwrap();
        std::fs::write(deep.join("rollout-x-one.jsonl"), "").unwrap();
        std::os::unix::fs::symlink(deep.join("rollout-x-one.jsonl"), deep.join("two.jsonl")).unwrap();
        assert_eq!(find(dir.path(), "one.jsonl", DEPTH), Some(deep.join("rollout-x-one.jsonl")));
        assert_eq!(find(dir.path(), "one.jsonl", 2), None);
        assert_eq!(find(dir.path(), "two.jsonl", DEPTH), None);
    }
}

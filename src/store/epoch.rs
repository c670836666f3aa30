//! Cutting the chain of the state's commits: a new first commit with the same content, in the next epoch.
//!
//! What a cut takes away is history, never a record: whoever meets one that does not hold all that was seen, or does
//! not say what it takes the place of, does not follow it. Here the old chain is kept under a ref of its own. A state
//! of an earlier epoch is merged into one of a later epoch by its content, and no commit of the earlier one becomes a
//! parent there: otherwise the first machine that was away would bring all of it back.

use super::absorb::{Trees, merger};
use super::history::trailers;
use super::layout::{FORMAT_PATH, STATE_REF};
use super::operation::OPERATION;
use super::transaction::json;
use super::{Error, State, Store, local};
use crate::git::{EntryMode, Expected, NewCommit, RefEdit, Repository};
use crate::model::{ObjectId, Timestamp};
use bstr::ByteSlice;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What was before a cut: `<epoch>-<commit>` follows. Of this clone alone.
pub const EPOCH_REFS: &str = "refs/orchestra/epochs/";
/// The trailer of the first commit of an epoch.
const EPOCH: &str = "Orchestra-Epoch";
/// The trailer of a merge whose other side is of an earlier epoch, and no parent.
const MERGED: &str = "Orchestra-Merged";
/// More first commits than this are no chain of ours: each cut that two machines make at once adds one.
const MAX_ROOTS: usize = 1_000;

/// What the first commit of an epoch says.
#[derive(Debug, Serialize, Deserialize)]
struct Begins {
    epoch: u64,
    /// The last commit of the chain before.
    replaces: ObjectId,
}

/// A cut that is made and that no ref has yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// The new first commit.
    pub commit: ObjectId,
    /// The epoch that it begins.
    pub epoch: u64,
    /// The commit that it takes the place of.
    pub replaces: ObjectId,
}

/// A chain of the state from before a cut, which this clone has kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OldEpoch {
    /// Its ref.
    pub name: String,
    /// Its last commit.
    pub tip: ObjectId,
    /// How many commits it has.
    pub commits: usize,
    /// When it was cut; when its last commit was made, if no chain that is here tells that.
    pub cut: Timestamp,
}

impl State {
    /// How often the chain was cut before this state.
    pub fn epoch(&self) -> Result<u64, Error> {
        Ok(self.format()?.map_or(0, |format| format.epoch))
    }
}

impl Store {
    /// Writes the commit that cuts the chain after the state as it is now. No ref moves: [`Store::absorb`] takes it
    /// over, here as on every other machine.
    ///
    /// # Errors
    /// [`Error::Refused`] if there is none, [`Error::Format`] if a newer build's is not ours to write.
    pub fn make_cut(&self) -> Result<Cut, Error> {
        let nothing = || Error::Refused("cut the history: there is no state yet".to_owned());
        let repo = self.repo();
        let state = self.state()?;
        self.require_writable(&state)?;
        let (Some(replaces), Some(tree)) = (state.commit().cloned(), state.tree()) else {
            return Err(nothing());
        };
        let epoch = state
            .epoch()?
            .checked_add(1)
            .ok_or_else(|| Error::Refused("cut the history: there is no later epoch".to_owned()))?;
        // Whatever a newer build added to it stays.
        let entry = repo.find_in_tree(tree, FORMAT_PATH)?;
        let bytes = entry.map(|entry| repo.read_blob(&entry.id)).transpose()?.unwrap_or_default();
        let format = super::absorb::gates(&bytes, format!("{{\"epoch\": {epoch}}}").as_bytes());
        let format = repo.write_blob(&format.ok_or_else(nothing)?)?;
        let edit = (FORMAT_PATH, Some((EntryMode::Blob, format.clone())));
        let (tree, mut written) = repo.edit_tree(Some(tree), &[edit])?;
        written.push(format);
        let begins = json(&Begins { epoch, replaces: replaces.clone() });
        let mut message = format!("orchestra: begin epoch {epoch}\n\n{EPOCH}: {begins}\n");
        if let Some(operation) = self.operation() {
            writeln!(message, "{OPERATION}: {}", json(&operation.next_part())).expect("writing to memory");
            operation.count_part();
        }
        writeln!(message, "Orchestra-Nonce: {:032x}", local::random_u128()?).expect("writing to memory");
        let now = self.clock().now();
        let commit = self.write_commit(&self.machine()?, now, &tree, &[], &message, &mut written)?;
        repo.sync_objects(&written)?;
        Ok(Cut { commit, epoch, replaces })
    }

    /// Whether `new`, which does not follow `old`, may take its place all the same: it is of a later epoch, its chain
    /// begins with cuts and nothing else, and it holds all that `old` holds, and all that the commits held that its
    /// cuts replace, as far as those are here.
    pub fn is_cut(&self, old: &ObjectId, new: &ObjectId) -> Result<bool, Error> {
        let repo = self.repo();
        // What cannot be read as a state is none of ours, whatever it is.
        let state = |commit: &ObjectId| State::at(repo, Some(commit.clone()));
        let (Ok(before), Ok(after)) = (state(old), state(new)) else { return Ok(false) };
        let (Ok(from), Ok(to)) = (before.epoch(), after.epoch()) else { return Ok(false) };
        if to <= from || repo.is_ancestor(old, new)? {
            return Ok(false);
        }
        let (Some(after), Some(before)) = (after.tree(), before.tree()) else { return Ok(false) };
        let Some(begins) = begins(repo, new)? else { return Ok(false) };
        if begins.iter().map(|begins| begins.epoch).max() != Some(to) || !covers(repo, after, before)? {
            return Ok(false);
        }
        for begins in begins {
            // On a machine that was away, what it replaces was never seen.
            if let Some(replaced) = repo.find_commit(&begins.replaces)?
                && !covers(repo, after, &replaced.tree)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Whether `new` may be pushed to where `old` is only by taking its place.
    pub fn must_replace(&self, old: &ObjectId, new: &ObjectId) -> Result<bool, Error> {
        let epoch = |commit: &ObjectId| State::at(self.repo(), Some(commit.clone()))?.epoch();
        Ok(epoch(old)? < epoch(new)? && self.is_cut(old, new)?)
    }

    /// How many commits the chain of the state has.
    pub fn chain_length(&self) -> Result<usize, Error> {
        let Some(tip) = self.state()?.commit().cloned() else { return Ok(0) };
        self.count_commits(&tip)
    }

    fn count_commits(&self, tip: &ObjectId) -> Result<usize, Error> {
        let args = ["rev-list", "--count", "--end-of-options", tip.as_str()];
        let out = self.repo().git(args).read().map_err(crate::git::Error::from)?;
        Ok(out.trim().to_str_lossy().parse().unwrap_or(0))
    }

    /// The chains from before cuts that are kept here.
    pub fn old_epochs(&self) -> Result<Vec<OldEpoch>, Error> {
        let repo = self.repo();
        let kept = repo.list_refs(EPOCH_REFS)?;
        if kept.is_empty() {
            return Ok(Vec::new());
        }
        // When each epoch began, as far as the chains that are here say.
        let mut began = BTreeMap::<u64, Timestamp>::new();
        let tips = kept.iter().map(|(_, tip)| tip.clone()).chain(self.state()?.commit().cloned());
        for tip in tips {
            let args = ["rev-list", "--max-parents=0", "--end-of-options", tip.as_str()];
            let out = repo.git(args).read().map_err(crate::git::Error::from)?;
            for root in out.lines().filter_map(|line| line.to_str_lossy().parse::<ObjectId>().ok()) {
                let commit = repo.read_commit(&root)?;
                if let Some(begins) = trailers::<Begins>(&commit.message, EPOCH).next() {
                    let at = began.entry(begins.epoch).or_insert(commit.at);
                    *at = (*at).min(commit.at);
                }
            }
        }
        let mut epochs = Vec::new();
        for (name, tip) in kept {
            let number = name.strip_prefix(EPOCH_REFS).and_then(|rest| rest.split('-').next()?.parse().ok());
            let next = number.and_then(|number: u64| began.range(number + 1..).next());
            let cut = match next {
                Some((_, at)) => *at,
                None => repo.read_commit(&tip)?.at,
            };
            epochs.push(OldEpoch { commits: self.count_commits(&tip)?, name, tip, cut });
        }
        Ok(epochs)
    }

    /// Whether a change of ours is in the history of `tip`, or in that before a cut.
    pub(super) fn has_change(&self, change: &ObjectId, tip: &ObjectId) -> Result<bool, Error> {
        let repo = self.repo();
        if repo.is_ancestor(change, tip)? {
            return Ok(true);
        }
        for (_, old) in repo.list_refs(EPOCH_REFS)? {
            if repo.is_ancestor(change, &old)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// What becomes of two states of which one is of a later epoch, and does not follow the other: `tree` is the merge
    /// of both. The later one stays the only parent.
    pub(super) fn join_epochs(
        &self,
        ours: &State,
        theirs: &State,
        tree: &ObjectId,
        written: &mut Vec<ObjectId>,
    ) -> Result<Vec<RefEdit>, Error> {
        let repo = self.repo();
        let (epoch, we_lead) = (ours.epoch()?, ours.epoch()? > theirs.epoch()?);
        let (later, earlier) = if we_lead { (ours, theirs) } else { (theirs, ours) };
        let commit = |state: &State| state.commit().cloned().expect("both are there");
        let (later_commit, earlier_commit, ours) = (commit(later), commit(earlier), commit(ours));
        let new = if later.tree() == Some(tree) {
            later_commit
        } else {
            let at = repo.read_commit(&later_commit)?.at.max(repo.read_commit(&earlier_commit)?.at);
            let message = format!("orchestra: merge\n\n{MERGED}: {}\n", json(&earlier_commit));
            let (author, committer, parents) = (&merger(), &merger(), &[later_commit]);
            let message = message.as_str();
            let new = repo.write_commit(&NewCommit { tree, parents, author, committer, at, message })?;
            written.push(new.clone());
            new
        };
        if new == ours {
            return Ok(Vec::new());
        }
        let mut edits = vec![RefEdit {
            name: STATE_REF.to_owned(),
            new: Some(new),
            expected: Expected::At(ours.clone()),
        }];
        if !we_lead {
            edits.push(RefEdit {
                name: format!("{EPOCH_REFS}{epoch}-{}", ours.short()),
                new: Some(ours),
                expected: Expected::Anything,
            });
        }
        Ok(edits)
    }
}

/// What the first commits of a chain say; `None` if one of them is no cut.
fn begins(repo: &Repository, tip: &ObjectId) -> Result<Option<Vec<Begins>>, Error> {
    let args = ["rev-list", "--max-parents=0", "--end-of-options", tip.as_str()];
    let out = repo.git(args).read().map_err(crate::git::Error::from)?;
    let mut all = Vec::new();
    for line in out.lines() {
        let Ok(root) = line.to_str_lossy().parse::<ObjectId>() else { return Ok(None) };
        let commit = repo.read_commit(&root)?;
        let Some(begins) = trailers::<Begins>(&commit.message, EPOCH).next() else { return Ok(None) };
        all.push(begins);
        if all.len() > MAX_ROOTS {
            return Ok(None);
        }
    }
    Ok(Some(all))
}

/// Whether a commit with this message begins an epoch.
pub(super) fn begins_epoch(message: &str) -> bool {
    trailers::<Begins>(message, EPOCH).next().is_some()
}

/// Whether a state holds all that another one holds, in that version or a newer one.
fn covers(repo: &Repository, state: &ObjectId, other: &ObjectId) -> Result<bool, Error> {
    let mut trees = Trees::new(repo);
    Ok(trees.merge(Some(state), other)? == *state && trees.too_large.is_none())
}

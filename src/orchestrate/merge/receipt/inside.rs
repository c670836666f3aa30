//! Merges that branches bring with them: what an agent left out of the target when it merged that by itself.
//!
//! Seen from the target such a branch only took lines away, as if it had meant to. Each merge commit in it that has a
//! commit of the target among its parents is judged by itself, as one that was made by hand.

use super::settle::list_few;
use super::{Brings, Case, judge};
use crate::git::{Repository, text_path};
use crate::model::{Account, Brought, Loss, ObjectId, Receipt};
use crate::orchestrate::merge::Error;
use bstr::ByteSlice;
use std::collections::BTreeSet;

/// Adds to a receipt what the merges in these branches dropped of the target, and nothing brought back since.
pub(super) fn add(repo: &Repository, case: &Case<'_>, receipt: &mut Receipt) -> Result<(), Error> {
    let tips: Vec<&ObjectId> = case.brings.iter().map(|one| &one.tip).collect();
    let mut lost = Vec::<Loss>::new();
    for (commit, parents) in repo.merges_between(case.before, &tips)? {
        let (mut theirs, mut own) = (Vec::new(), Vec::new());
        for parent in parents {
            let of_target = repo.is_ancestor(&parent, case.before)?;
            (if of_target { &mut theirs } else { &mut own }).push(parent);
        }
        let (Some(before), Some(merged)) = (own.first(), theirs.first()) else { continue };
        let tree = repo.read_commit(&commit)?.tree;
        let brings = [Brings { agent: None, name: case.target.to_owned(), tip: merged.clone() }];
        let inner = Case { target: "its own", before, brings: &brings, landed: &tree, settled: &[] };
        let made = judge(repo, &inner)?;
        for loss in made.losses.into_iter().filter(|loss| loss.by.is_none() && loss.name == case.target) {
            if is_still_so(repo, case, merged, &tree, &loss)? {
                lost.push(loss);
            }
        }
    }
    // What was dropped once may be told of several merges that have it.
    lost.retain({
        let mut known = BTreeSet::new();
        move |loss| known.insert((loss.path.clone(), loss.lines.start, loss.lines.len, loss.change))
    });
    if lost.is_empty() {
        return Ok(());
    }
    let at =
        receipt.accounts.iter().position(|account| account.agent.is_none() && account.name == case.target);
    let at = at.unwrap_or_else(|| {
        let name = case.target.to_owned();
        receipt.accounts.push(Account { agent: None, name, ..Account::default() });
        receipt.accounts.len() - 1
    });
    for loss in &lost {
        let account = &mut receipt.accounts[at];
        let fates = if loss.change == Brought::Added { &mut account.added } else { &mut account.removed };
        fates.dropped += u64::from(loss.lines.len.max(1));
    }
    receipt.losses.splice(0..0, lost);
    list_few(receipt);
    Ok(())
}

/// Whether lines that a merge dropped are not there in the end, or those that it brought back still are.
fn is_still_so(
    repo: &Repository,
    case: &Case<'_>,
    merged: &ObjectId,
    tree: &ObjectId,
    loss: &Loss,
) -> Result<bool, Error> {
    let read = |tree: &ObjectId| -> Result<Vec<u8>, Error> {
        let entry = repo.find_in_tree(tree, text_path(&loss.path))?.filter(|entry| entry.mode.is_file());
        Ok(entry.map(|entry| repo.read_blob(&entry.id)).transpose()?.unwrap_or_default())
    };
    // A file as a whole is looked at no further.
    let Some(first) = loss.lines.start.checked_sub(1) else { return Ok(true) };
    let from =
        if loss.change == Brought::Added { read(&repo.read_commit(merged)?.tree)? } else { read(tree)? };
    let landed = read(case.landed)?;
    let landed: BTreeSet<&[u8]> = landed.lines().collect();
    let mut said = from.lines().skip(first as usize).take(loss.lines.len as usize);
    let is_there = |line: &[u8]| landed.contains(line);
    Ok(match loss.change {
        Brought::Added => said.any(|line| !is_there(line)),
        Brought::Removed => said.any(is_there),
    })
}

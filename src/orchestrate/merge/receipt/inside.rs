//! Merges that branches bring with them: what an agent left out of the target, or of another agent's work, when it merged
//! that by itself.
//!
//! Seen from the target such a branch only took lines away, as if it had meant to. Each merge commit in it that has a
//! commit of the target, or of another branch of the same merge, among its parents is judged by itself, as one that was
//! made by hand.

use super::settle::list_few;
use super::{Brings, Case, judge};
use crate::git::{Repository, text_path};
use crate::model::{Account, Brought, By, Fates, Loss, ObjectId, Receipt};
use crate::orchestrate::merge::Error;
use bstr::ByteSlice;
use std::collections::BTreeSet;

/// Adds to a receipt what the merges in these branches dropped of the target and of one another, and nothing brought
/// back since.
pub(super) fn add(repo: &Repository, case: &Case<'_>, receipt: &mut Receipt) -> Result<(), Error> {
    let tips: Vec<&ObjectId> = case.brings.iter().map(|one| &one.tip).collect();
    let mut lost = Vec::<Loss>::new();
    for (commit, parents) in repo.merges_between(case.before, &tips)? {
        let (mut others, mut own) = (Vec::new(), Vec::new());
        for parent in parents {
            match whose(repo, case, &commit, &parent)? {
                Some(other) => others.push(other),
                None => own.push(parent),
            }
        }
        let tree = repo.read_commit(&commit)?.tree;
        let mut others = others.into_iter();
        // One that only brings others together drops something of one beside another.
        let Some(before) = own.first().cloned().or_else(|| others.next().map(|other| other.tip)) else {
            continue;
        };
        for other in others {
            let (name, merged) = (other.name.clone(), other.tip.clone());
            let brings = [other];
            let inner =
                Case { target: "its own", before: &before, brings: &brings, landed: &tree, settled: &[] };
            let made = judge(repo, &inner)?;
            for loss in made.losses.into_iter().filter(|loss| loss.by.is_none() && loss.name == name) {
                if is_still_so(repo, case, &merged, &tree, &loss)? {
                    lost.push(Loss { inside: Some(commit.clone()), ..loss });
                }
            }
        }
    }
    // What was dropped once may be told of several merges that have it.
    lost.retain({
        let mut known = BTreeSet::new();
        move |loss| {
            known.insert((
                loss.name.clone(),
                loss.path.clone(),
                loss.lines.start,
                loss.lines.len,
                loss.change,
            ))
        }
    });
    if lost.is_empty() {
        return Ok(());
    }
    for loss in &lost {
        let count = u64::from(loss.lines.len.max(1));
        let fates = fates(receipt, case, loss);
        fates.dropped += count;
        // The merge as a whole has it that the other branch replaced them.
        if loss.name != case.target {
            fates.superseded = fates.superseded.saturating_sub(count);
        }
        receipt.losses.retain(|told| {
            let by_agent = matches!(told.by, Some(By::Agent { .. }));
            !(by_agent && (&told.name, &told.path) == (&loss.name, &loss.path) && told.lines == loss.lines)
        });
    }
    receipt.losses.splice(0..0, lost);
    list_few(receipt);
    Ok(())
}

/// Whose a parent of a merge commit in a branch is, if not the branch's own: the target's, or another branch's that does
/// not build on that merge.
fn whose(
    repo: &Repository,
    case: &Case<'_>,
    commit: &ObjectId,
    parent: &ObjectId,
) -> Result<Option<Brings>, Error> {
    if repo.is_ancestor(parent, case.before)? {
        return Ok(Some(Brings { agent: None, name: case.target.to_owned(), tip: parent.clone() }));
    }
    for one in case.brings {
        if repo.is_ancestor(parent, &one.tip)? && !repo.is_ancestor(commit, &one.tip)? {
            return Ok(Some(Brings { tip: parent.clone(), ..one.clone() }));
        }
    }
    Ok(None)
}

/// What became of the lines of whoever lost some: of the target's there may be no account yet.
fn fates<'a>(receipt: &'a mut Receipt, case: &Case<'_>, loss: &Loss) -> &'a mut Fates {
    let is_target = loss.name == case.target;
    let at = receipt
        .accounts
        .iter()
        .position(|account| account.name == loss.name && (account.agent.is_none() || !is_target));
    let at = at.unwrap_or_else(|| {
        receipt.accounts.push(Account { agent: None, name: loss.name.clone(), ..Account::default() });
        receipt.accounts.len() - 1
    });
    let account = &mut receipt.accounts[at];
    if loss.change == Brought::Added { &mut account.added } else { &mut account.removed }
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

//! What became of everybody's lines in a merge, worked out from trees alone.
//!
//! [`judge`] takes where the target was, the tips and the tree that landed, and believes no record of what happened
//! in between: it judges this program's merges, an agent's resolution, and merges made by hand alike. Where the tree is
//! what git's own merge makes, or what the recorded answers make of its conflicts, that explains it; everywhere else
//! each line is looked for. What a record may add is only which decision chose to leave a line out.

mod anew;
mod bases;
mod by_hand;
mod choice;
mod files;
mod inside;
mod lines;
mod replay;
mod settle;
#[cfg(test)]
mod tests;

pub use by_hand::{ByHand, by_hand};
pub(super) use choice::{LeftOut, left_out};

use super::conflict::{ConflictStep, names};
use super::resolve::Resolved;
use super::{Error, short_branch};
use crate::git::Repository;
use crate::model::{
    Answer, Brought, Decision, Id, Loss, Merge, Name, ObjectId, Receipt, Resolution, Side, Step,
};
use crate::orchestrate::supervise::chain;
use crate::orchestrate::trust;
use crate::store::{State, Store};

/// One who brought lines: an agent's branch, or any.
#[derive(Debug, Clone)]
pub(super) struct Brings {
    pub(super) agent: Option<(Id, Name)>,
    pub(super) name: String,
    pub(super) tip: ObjectId,
}

/// A conflict that somebody answered.
#[derive(Debug, Clone)]
pub(super) struct Settled {
    /// Whose branch conflicted, by position.
    pub(super) who: usize,
    pub(super) resolution: Resolution,
    /// The answer itself, if its decision is still known.
    pub(super) answer: Option<Answer>,
}

/// What is judged.
#[derive(Debug)]
pub(super) struct Case<'a> {
    /// What the target is called.
    pub(super) target: &'a str,
    /// The commit that it was at.
    pub(super) before: &'a ObjectId,
    /// In the order in which they were merged.
    pub(super) brings: &'a [Brings],
    /// The tree that landed.
    pub(super) landed: &'a ObjectId,
    /// What is recorded of its conflicts; nothing of a merge that was made by hand.
    pub(super) settled: &'a [Settled],
}

/// Says of every line that was brought what became of it.
pub(super) fn judge(repo: &Repository, case: &Case<'_>) -> Result<Receipt, Error> {
    let mut receipt = judge_all(repo, case)?;
    settle::list_few(&mut receipt);
    Ok(receipt)
}

/// The same, with all losses listed, however many there are.
fn judge_all(repo: &Repository, case: &Case<'_>) -> Result<Receipt, Error> {
    // A merge driver is run by git here.
    trust::require_unchanged(repo)?;
    let (root, bases) = bases::bases(repo, case.before, case.brings)?;
    let replayed = replay::replay(repo, case)?;
    let files = files::gather(repo, case, &root, &bases, &replayed)?;
    Ok(settle::settle(case, files))
}

/// The receipt of a merge whose accumulated commit is `merge.head`, landed or about to.
pub fn receipt(store: &Store, state: &State, merge: &Merge) -> Result<Receipt, Error> {
    let repo = store.repo();
    let (brings, settled) = brought(state, &merge.steps)?;
    let tips = brings.iter().map(|one| &one.tip);
    let head = merge.landed.as_ref().unwrap_or(&merge.head);
    if !tips.chain([&merge.target_tip, head]).all(|commit| repo.has_object(commit)) {
        return Err(Error::Elsewhere(merge.id));
    }
    let landed = repo.read_commit(head)?.tree;
    let case = Case {
        target: short_branch(&merge.target),
        before: &merge.target_tip,
        brings: &brings,
        landed: &landed,
        settled: &settled,
    };
    let mut receipt = judge_all(repo, &case)?;
    inside::add(repo, &case, &mut receipt)?;
    settle::list_few(&mut receipt);
    Ok(receipt)
}

/// Whether a tree holds every line that the agents of a merge brought and that its own tree holds, as it was brought: where
/// the target was rewritten, this tree may stand for that one.
pub(super) fn holds_all(
    repo: &Repository,
    state: &State,
    merge: &Merge,
    tree: &ObjectId,
) -> Result<bool, Error> {
    let (brings, settled) = brought(state, &merge.steps)?;
    let target = short_branch(&merge.target);
    let lost = |landed: &ObjectId| -> Result<u64, Error> {
        let before = &merge.target_tip;
        let case = Case { target, before, brings: &brings, landed, settled: &settled };
        let accounts = judge(repo, &case)?.accounts;
        let agents = accounts.iter().filter(|account| account.agent.is_some());
        let fates = agents.flat_map(|account| [account.added, account.removed]);
        // A line that is only much like it may be another's.
        Ok(fates.map(|fates| fates.dropped + fates.superseded).sum())
    };
    let head = merge.landed.as_ref().unwrap_or(&merge.head);
    Ok(lost(tree)? <= lost(&repo.read_commit(head)?.tree)?)
}

/// What the trees say of the receipt that is recorded of a merge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Check {
    /// The same.
    Holds,
    /// This, and something else or nothing is recorded.
    Otherwise(Box<Receipt>),
    /// Nothing, and why.
    Not(String),
}

/// Works a merge's receipt out again and holds what is recorded against it. Where that cannot be done, that is an answer:
/// whoever looks at a merge sees the rest of it.
pub fn check(store: &Store, state: &State, merge: &Merge) -> Check {
    match receipt(store, state, merge) {
        Ok(made) if merge.receipt.as_deref() == Some(&made) => Check::Holds,
        Ok(made) => Check::Otherwise(Box::new(made)),
        Err(Error::Elsewhere(_)) => Check::Not("its commits are not in this clone".to_owned()),
        Err(error) => Check::Not(format!("failed to {}", chain(&error))),
    }
}

/// Who brought what by the steps that are merged, and what was answered there.
fn brought(state: &State, steps: &[Step]) -> Result<(Vec<Brings>, Vec<Settled>), Error> {
    let (mut brings, mut settled) = (Vec::new(), Vec::new());
    for (who, step) in steps.iter().filter(|step| step.status.is_merged()).enumerate() {
        brings.push(Brings {
            agent: Some((step.agent, step.name.clone())),
            name: step.name.to_string(),
            tip: step.tip.clone(),
        });
        for resolution in &step.resolutions {
            let decision = resolution.decision.map(|id| state.get::<Decision>(&id)).transpose()?.flatten();
            let answer = decision.and_then(|decision| decision.answer_for(&resolution.path).cloned());
            settled.push(Settled { who, resolution: resolution.clone(), answer });
        }
    }
    Ok((brings, settled))
}

/// Why a tree that an agent made of what the first steps of a merge brought, to mend what the last of them did, is not
/// taken: it lacks lines of another than that one, or all of that one's. `None` if it is taken.
pub(super) fn mend_refusal(
    repo: &Repository,
    state: &State,
    merge: &Merge,
    steps: &[Step],
    tree: &ObjectId,
) -> Result<Option<String>, Error> {
    let (brings, settled) = brought(state, steps)?;
    let target = short_branch(&merge.target);
    let receipt = judge(
        repo,
        &Case { target, before: &merge.target_tip, brings: &brings, landed: tree, settled: &settled },
    )?;
    let Some(own) = brings.last().map(|one| one.name.as_str()) else { return Ok(None) };
    let of_others = receipt.losses.iter().filter(|loss| loss.by.is_none() && loss.name != own);
    if let Some(lost) = left_out_words(of_others) {
        return Ok(Some(lost));
    }
    let nothing_left =
        receipt.accounts.iter().filter(|account| account.agent.is_some() && account.name == own).any(
            |account| {
                let (added, removed) = (&account.added, &account.removed);
                let dropped = added.dropped + removed.dropped;
                dropped > 0 && dropped == added.total() + removed.total()
            },
        );
    Ok(nothing_left.then(|| format!("left nothing of what {own} did")))
}

/// Why what an agent made of a conflict is not taken: lines that it left out, of either side. `None` if it is taken,
/// or if no agent made any of it.
pub(super) fn refusal(
    repo: &Repository,
    conflict: &ConflictStep,
    resolved: &Resolved,
) -> Result<Option<String>, Error> {
    if !resolved.resolutions.iter().any(|resolution| resolution.side == Side::Agent) {
        return Ok(None);
    }
    let brings = [Brings {
        agent: Some((conflict.step.agent, conflict.step.name.clone())),
        name: conflict.theirs.name.clone(),
        tip: conflict.step.tip.clone(),
    }];
    let settled = resolved.resolutions.iter();
    let settled: Vec<Settled> =
        settled.map(|resolution| Settled { who: 0, resolution: resolution.clone(), answer: None }).collect();
    let receipt = judge(
        repo,
        &Case {
            target: &names(&conflict.ours()),
            before: &conflict.head,
            brings: &brings,
            landed: &resolved.tree,
            settled: &settled,
        },
    )?;
    let lost = receipt.losses.iter().filter(|loss| loss.by.is_none());
    let lost =
        lost.filter(|loss| resolved.resolutions.iter().any(|r| r.side == Side::Agent && r.path == loss.path));
    Ok(left_out_words(lost))
}

/// `left out src/a.rs:4 of grey-fox and 2 more`; `None` if nothing is lost.
fn left_out_words<'a>(lost: impl Iterator<Item = &'a Loss>) -> Option<String> {
    let lost: Vec<String> = lost
        .map(|loss| match loss.change {
            Brought::Added => format!("left out {} of {}", loss.place(), loss.name),
            Brought::Removed => format!("brought back {}, removed by {}", loss.place(), loss.name),
        })
        .collect();
    (!lost.is_empty()).then(|| {
        let more = lost.len().saturating_sub(SAID);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        format!("{}{more}", lost[..lost.len().min(SAID)].join(", "))
    })
}

/// How many places a refusal names.
const SAID: usize = 6;

//! What comes before a branch that somebody is needed for lands without waiting for it.
//!
//! The merge becomes two in the transaction that moves the target: one that has landed, with a receipt of its own, and
//! one that is the rest (`follows` names the first). The rest goes on from the same commits, with what gates said about
//! them and what was asked, so nothing is merged, tried or asked again. A kill before that transaction leaves the merge
//! as it was; one between it and the move of a checkout's files is found by where the target is.

use super::advance::Run;
use super::gate::hand_on;
use super::land::{Landing, land};
use super::progress::Progress;
use super::{Error, hold, keep_ref};
use crate::git::{Expected, RefEdit};
use crate::model::{Decision, DecisionStatus, Id, Merge, MergeStatus, ObjectId, PlanScore, Step, StepStatus};
use crate::store::{State, Transaction};

/// How many merges before one are looked at for whose work has landed.
const FAR: usize = 64;

impl Run<'_> {
    /// The commit of a step that the target is at, with steps after it: it has landed, and only the record is missing.
    pub(super) fn find_landed_prefix(&self) -> Result<Option<ObjectId>, Error> {
        let merge = &self.merge;
        let Some(target) = self.store.repo().find_ref(&merge.target)? else { return Ok(None) };
        let is_there = |step: &Step| step.commit.as_ref() == Some(&target);
        let is_part = target != merge.target_tip && target != merge.head && merge.steps.iter().any(is_there);
        Ok((is_part && self.is_sound()?).then_some(target))
    }

    /// Lands what was merged up to `commit`, and makes the rest a merge of its own. `None` if the target moved meanwhile.
    pub(super) fn land_prefix(&mut self, commit: &ObjectId) -> Result<Option<Progress>, Error> {
        // The commits of the rest are kept by this until it has a record.
        self.record(None)?;
        let (landed, rest) = split(&self.merge, commit, self.store.new_id()?);
        let held = hold(self.store, &rest.id)?;
        hand_on(self.store, &landed.id, &rest.id)?;
        match land(self.store, &landed, Some(&rest))? {
            Landing::Landed(landed) => {
                let rest = self.store.state()?.require(&rest.id)?;
                Ok(Some(Progress::Prefix { landed, rest, hold: held }))
            }
            Landing::Blocked(blocked) => {
                held.finish();
                Ok(Some(Progress::Blocked { merge: landed, blocked }))
            }
            Landing::Moved => {
                held.finish();
                Ok(None)
            }
        }
    }
}

/// The steps up to that with `commit`, and the others. What was left out stays with those that are not over.
fn split(merge: &Merge, commit: &ObjectId, id: Id) -> (Merge, Merge) {
    let last = merge.steps.iter().position(|step| step.commit.as_ref() == Some(commit));
    let upto = last.map_or(0, |at| at + 1);
    let (first, after) = merge.steps.split_at(upto);
    let (left_out, first): (Vec<Step>, Vec<Step>) =
        first.iter().cloned().partition(|step| step.status == StepStatus::Skipped);
    let is_first = |at: &ObjectId| {
        *at == merge.target_tip && first.is_empty()
            || first.iter().any(|step| step.commit.as_ref() == Some(at))
    };
    let (gates, later) = merge.gates.iter().cloned().partition(|run| is_first(&run.commit));
    let of_first = |agent: &Id| first.iter().any(|step| step.agent == *agent);
    let (mends, to_mend) = merge.mends.iter().cloned().partition(|mend| of_first(&mend.of));
    let steps: Vec<Step> = left_out.into_iter().chain(after.iter().cloned()).collect();
    let rest = Merge {
        id,
        target: merge.target.clone(),
        target_tip: commit.clone(),
        status: MergeStatus::Running,
        score: PlanScore {
            branches: u32::try_from(steps.len()).unwrap_or(u32::MAX),
            before_person: 0,
            naive_before_person: 0,
            ..merge.score
        },
        steps,
        head: merge.head.clone(),
        landed: None,
        follows: Some(merge.id),
        gates: later,
        mends: to_mend,
        receipt: None,
        created: merge.created,
    };
    let landed = Merge { steps: first, head: commit.clone(), gates, mends, ..merge.clone() };
    (landed, rest)
}

/// Records the rest, and hands on to it what was asked about its branches.
pub(super) fn begin(tx: &mut Transaction<'_>, landed: &Merge, rest: &Merge) -> Result<(), Error> {
    let rest = Merge { created: tx.now(), ..rest.clone() };
    for mut decision in tx.all::<Decision>()? {
        let about = |step: &Step| decision.agent == Some(step.agent);
        if decision.merge == Some(landed.id)
            && decision.status != DecisionStatus::Withdrawn
            && rest.steps.iter().any(about)
        {
            decision.merge = Some(rest.id);
            tx.put(&decision)?;
        }
    }
    tx.move_ref(RefEdit {
        name: keep_ref(&rest.id),
        new: Some(rest.head.clone()),
        expected: Expected::Anything,
    });
    tx.put(&rest)?;
    Ok(())
}

/// The steps of the merges that this one is the rest of: they have landed, in this order.
pub(super) fn before(state: &State, merge: &Merge) -> Result<Vec<Step>, Error> {
    let mut steps = Vec::new();
    let mut next = merge.follows;
    for _ in 0..FAR {
        let Some(merge) = next.map(|id| state.get::<Merge>(&id)).transpose()?.flatten() else { break };
        steps.splice(0..0, merge.steps);
        next = merge.follows;
    }
    Ok(steps)
}

//! Choosing: which tasks are tried, and whether a claim that is there may be followed by another.

use super::attempt::{Claimed, Purpose, Terms, holder_words};
use super::{Queue, View, order};
use crate::model::{Id, ObjectId, Task, TaskStatus};
use crate::orchestrate::Error;
use crate::store::{ClaimRecord, OverOutcome};
use std::collections::BTreeSet;
use std::time::Duration;

/// A machine that was silent for longer has no say in who tries what first.
const PRESENT: Duration = Duration::from_secs(900);
/// With fewer machines beside this one nobody needs to give way: two rarely want the same at once.
const CROWD: usize = 4;

/// A task that is tried, and the claim that is there.
pub(super) struct Candidate {
    pub(super) id: Id,
    /// The fence that the state knows.
    pub(super) fence: u64,
    pub(super) old: Option<ObjectId>,
    pub(super) before: Option<ClaimRecord>,
    /// The machine that is ousted by it.
    pub(super) from: Option<String>,
    /// Whether it is this clone's already, and only what its claim says changes.
    pub(super) ours: bool,
    /// How many machines that are here draw it higher, where that matters: in a crowd.
    pub(super) ahead: usize,
}

impl Candidate {
    /// A task without a claim.
    const fn new(id: Id, fence: u64) -> Self {
        Self { id, fence, old: None, before: None, from: None, ours: false, ahead: 0 }
    }
}

impl Queue {
    /// Whether a named task can be tried, or why not.
    pub(super) fn candidate(
        &self,
        view: &View,
        id: &Id,
        terms: &Terms,
    ) -> Result<Result<Candidate, Claimed>, Error> {
        let state = self.store.state()?;
        let task: Task = state.require(id)?;
        let machine = self.store.machine()?;
        if task.status == TaskStatus::Closed {
            return Ok(Err(Claimed::Unready { why: "it is closed".to_owned() }));
        }
        let ours = task.holder.as_deref() == Some(machine.as_str());
        if ours && task.status == TaskStatus::Started {
            // Its claim is on the remote still, or there is none.
            let mut note = self.held()?.into_iter().find(|(of, _)| of == id).map(|(_, commit)| commit);
            if let (Some(commit), Some(listed)) = (&note, view.claims.get(id))
                && let Some(claim) = self.store.read_claim(commit, id)?
                && self.is_ours(&claim, listed)?
            {
                // Also where whoever made it was killed before it was noted.
                note = Some(listed.clone());
            }
            if note.as_ref() == view.claims.get(id) {
                let claim =
                    note.as_ref().map(|commit| self.store.read_claim(commit, id)).transpose()?.flatten();
                match claim {
                    Some(claim) if is_for_renewal(&claim, terms) => {
                        let candidate =
                            Candidate { old: note, ours: true, ..Candidate::new(*id, task.fence) };
                        return Ok(Ok(Candidate { before: Some(claim), ..candidate }));
                    }
                    // It was begun where no remote was asked.
                    None if terms.purpose == Purpose::Resume && note.is_none() && self.remote.is_some() => {}
                    _ => return Ok(Err(Claimed::Ours)),
                }
            }
        }
        let fence = task.fence;
        let Some(old) = view.claims.get(id).cloned() else {
            if task.status == TaskStatus::Started && !ours && !terms.force && !terms.may_join(&task) {
                return Ok(Err(Claimed::Taken { by: holder_words(&task) }));
            }
            for other in &task.after {
                if !terms.force && state.holds_back(other)? {
                    let why = format!("it comes after {}", &other.as_str()[..6]);
                    return Ok(Err(Claimed::Unready { why }));
                }
            }
            return Ok(Ok(Candidate::new(*id, fence)));
        };
        let before = self.read_claims(view, &[*id])?.remove(id);
        let Some(claim) = &before else {
            if terms.force {
                return Ok(Ok(Candidate { old: Some(old), ..Candidate::new(*id, fence) }));
            }
            return Ok(Err(Claimed::Taken { by: "a claim that this build cannot read".to_owned() }));
        };
        let free = match &claim.over {
            Some(over) => {
                terms.force
                    || over.outcome == OverOutcome::Released
                    || task.fence >= claim.fence && task.status == TaskStatus::Open
            }
            None => claim.machine == machine || terms.force || self.is_silent(view, id, claim),
        };
        if !free {
            return Ok(Err(Claimed::Taken { by: self.evidence(view, id, claim) }));
        }
        let from = (claim.over.is_none() && claim.machine != machine).then(|| claim.machine.clone());
        Ok(Ok(Candidate { old: Some(old), from, before, ..Candidate::new(*id, fence) }))
    }

    /// Whether a claim's holder was silent for the time that it asked others to wait.
    pub(in crate::orchestrate) fn is_silent(&self, view: &View, of: &Id, claim: &ClaimRecord) -> bool {
        let ttl = claim.ttl.map(Duration::from_secs);
        ttl.is_some_and(|ttl| self.silence(view, of, claim).is_some_and(|silent| silent >= ttl))
    }

    /// Who holds a claim, and how that is known.
    pub fn evidence(&self, view: &View, of: &Id, claim: &ClaimRecord) -> String {
        let silent = self.silence(view, of, claim).unwrap_or_default().as_secs();
        match (&claim.over, claim.ttl) {
            (Some(_), _) => format!("machine {}, which is done with it", claim.machine),
            (None, None) => format!("machine {}, until it is released there", claim.machine),
            (None, Some(ttl)) => format!(
                "machine {}, unchanged for {silent} of {ttl} s by this machine's clock",
                claim.machine
            ),
        }
    }

    /// The best tasks to try now: free ones, then what silent machines hold.
    pub(super) fn choose(
        &self,
        view: &View,
        count: usize,
        zone: Option<&str>,
        tried: &BTreeSet<Id>,
    ) -> Result<Vec<Candidate>, Error> {
        let machine = self.store.machine()?;
        let state = self.store.state()?;
        let mut all = state.all::<Task>()?;
        // What is archived holds nothing back.
        all.extend(state.archived_before(&all)?);
        let present = view
            .machines
            .keys()
            .filter(|other| self.machine_silence(other).is_none_or(|silent| silent < PRESENT));
        let present: BTreeSet<String> = present.cloned().collect();
        let crowded = present.len() >= CROWD;
        let ready = order::ready(&all, zone, &machine, &present);
        let ready = ready.into_iter().filter(|(task, _)| !tried.contains(&task.id));
        let (free, taken): (Vec<_>, Vec<_>) =
            ready.partition(|(task, _)| !view.claims.contains_key(&task.id));
        let mut chosen: Vec<Candidate> = free
            .into_iter()
            .take(count)
            .map(|(task, ahead)| Candidate {
                ahead: if crowded { ahead } else { 0 },
                ..Candidate::new(task.id, task.fence)
            })
            .collect();
        if chosen.len() >= count || self.remote.is_none() {
            return Ok(chosen);
        }
        // A claim that is over and left behind, or whose holder is gone. Of tasks that the state knows as begun too.
        let begun = all.iter().filter(|task| {
            task.status == TaskStatus::Started
                && task.holder.as_deref().is_some_and(|holder| holder != machine)
                && zone.is_none_or(|zone| task.zone.as_deref() == Some(zone))
                && view.claims.contains_key(&task.id)
                && !tried.contains(&task.id)
        });
        let others: Vec<&Task> = taken.into_iter().map(|(task, _)| task).chain(begun).collect();
        let ids: Vec<Id> = others.iter().map(|task| task.id).collect();
        let mut claims = self.read_claims(view, &ids)?;
        for task in others {
            let Some(claim) = claims.remove(&task.id) else { continue };
            let left = claim.over.as_ref().is_some_and(|over| {
                task.status == TaskStatus::Open
                    && (over.outcome == OverOutcome::Released || task.fence >= claim.fence)
            });
            if chosen.len() < count
                && (left || claim.over.is_none() && self.is_silent(view, &task.id, &claim))
            {
                let from = (!left && claim.machine != machine).then(|| claim.machine.clone());
                let old = view.claims.get(&task.id).cloned();
                chosen.push(Candidate {
                    old,
                    before: Some(claim),
                    from,
                    ..Candidate::new(task.id, task.fence)
                });
            }
        }
        Ok(chosen)
    }
}

/// Whether a claim of ours is to say that a run is under way. What a person claimed by hand until it is given back says
/// all that it is to say.
const fn is_for_renewal(claim: &ClaimRecord, terms: &Terms) -> bool {
    let by_hand = claim.ttl.is_none() && !claim.spawned && claim.over.is_none();
    let runs = claim.ttl.is_some() && claim.spawned && claim.over.is_none();
    !matches!(terms.purpose, Purpose::Claimant) && !by_hand && !runs
}

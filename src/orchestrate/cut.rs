//! Cutting the chain of the state's commits, on the remote first: what that refuses has changed nothing here.
//!
//! Only when it is asked for. From the moment that the remote has the cut, every machine takes it over with its next
//! sync, this one too: whatever is killed in between is made good by that.

use super::Error;
use super::sync::{self, Remote};
use crate::git::{Expected, Lease, LeasedSpec, PushAnswer, RefEdit};
use crate::model::ObjectId;
use crate::store::{Cut, EPOCH_REFS, Incoming, STATE_REF, Store};

/// How often it is tried again when other machines pushed meanwhile.
const ATTEMPTS: u32 = 4;

/// What a cut would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutPlan {
    /// The epoch that it would begin.
    pub epoch: u64,
    /// How many commits the chain has.
    pub commits: usize,
    /// The commit that it would end with.
    pub tip: ObjectId,
}

/// What a cut did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CutDone {
    /// The epoch that it began.
    pub epoch: u64,
    /// The new first commit.
    pub commit: ObjectId,
    /// The ref under which the old chain is kept here.
    pub kept: Option<String>,
}

/// Says what a cut would do. Changes nothing.
pub fn plan_cut(store: &Store) -> Result<CutPlan, Error> {
    let state = store.state()?;
    let Some(tip) = state.commit().cloned() else {
        return Err(Error::refused("cut the history: there is no state yet", None));
    };
    let epoch = state.epoch()?.saturating_add(1);
    Ok(CutPlan { epoch, commits: store.chain_length()?, tip })
}

/// Whether this clone has exchanged its state with a remote before.
pub fn has_exchanged(store: &Store, remote: &Remote) -> Result<bool, Error> {
    Ok(store.repo().find_ref(&remote.tracking(STATE_REF))?.is_some())
}

/// Cuts the chain, on `remote` if there is one.
pub fn cut(store: &Store, remote: Option<&Remote>) -> Result<CutDone, Error> {
    let cut = match remote {
        Some(remote) => cut_there(store, remote)?,
        None => store.make_cut()?,
    };
    let before = store.repo().list_refs(EPOCH_REFS)?;
    store.absorb(&Incoming { state: Some(cut.commit.clone()), notes: Vec::new() })?;
    let kept = store.repo().list_refs(EPOCH_REFS)?.into_iter().find(|one| !before.contains(one));
    Ok(CutDone { epoch: cut.epoch, commit: cut.commit, kept: kept.map(|(name, _)| name) })
}

/// Makes the cut and brings it to the remote.
fn cut_there(store: &Store, remote: &Remote) -> Result<Cut, Error> {
    let before = store.state()?.epoch()?;
    let tracking = remote.tracking(STATE_REF);
    for _ in 0..ATTEMPTS {
        let synced = sync::sync(store, remote)?;
        let left = synced.pushed.refused.iter().chain(&synced.not_taken).find(|(name, _)| name == STATE_REF);
        if let Some((_, why)) = left {
            let what =
                format!("cut the history: {} does not take {STATE_REF} as it is here ({why})", remote.name);
            return Err(Error::refused(what, Some("`git orchestra sync` says more".to_owned())));
        }
        if store.state()?.epoch()? > before {
            let what = format!("cut the history: another machine did, and {} has that", remote.name);
            return Err(Error::refused(
                what,
                Some("it is taken over here now; nothing is left to do".to_owned()),
            ));
        }
        let Some(there) = store.repo().find_ref(&tracking)? else {
            return Err(Error::refused(format!("cut the history: {} has no state", remote.name), None));
        };
        let cut = store.make_cut()?;
        match replace(store, remote, &there, &cut.commit)? {
            PushAnswer::Landed | PushAnswer::Same => return Ok(cut),
            // Somebody pushed meanwhile, or it takes nothing that does not follow: the next look tells.
            PushAnswer::Behind => {}
            PushAnswer::Refused(why) => return Err(refused(remote, &why)),
            PushAnswer::Unknown(words) => {
                // It may have arrived.
                sync::fetch(store, remote)?;
                if store.repo().find_ref(&tracking)?.as_ref() == Some(&cut.commit) {
                    return Ok(cut);
                }
                let what =
                    format!("cut the history: {} did not answer for {STATE_REF} ({words})", remote.name);
                let hint = "nothing was changed here; `git orchestra sync` tells whether it arrived";
                return Err(Error::refused(what, Some(hint.to_owned())));
            }
        }
    }
    Err(refused(remote, "it says that others were faster, or that a ref may only go forward"))
}

/// Puts `new` into the place of `old` on the remote, from exactly there, and remembers it.
pub(super) fn replace(
    store: &Store,
    remote: &Remote,
    old: &ObjectId,
    new: &ObjectId,
) -> Result<PushAnswer, Error> {
    let spec =
        LeasedSpec { name: remote.there(STATE_REF), new: Some(new.clone()), lease: Lease::At(old.clone()) };
    let mut answers = store.repo().push_leased(&remote.name, &[spec], false, remote.deadline)?;
    let answer = answers.pop().expect("one answer for one ref");
    if matches!(answer, PushAnswer::Landed | PushAnswer::Same) {
        follow(store, &remote.tracking(STATE_REF), old, new)?;
    }
    Ok(answer)
}

/// Moves a tracking ref over a cut.
pub(super) fn follow(store: &Store, tracking: &str, old: &ObjectId, new: &ObjectId) -> Result<(), Error> {
    let edit =
        RefEdit { name: tracking.to_owned(), new: Some(new.clone()), expected: Expected::At(old.clone()) };
    match store.repo().update_refs(&[edit], "git orchestra: the history was cut") {
        // The next fetch tells the same.
        Ok(()) | Err(crate::git::Error::RefMoved { .. } | crate::git::Error::RefLocked { .. }) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// What a remote that refuses a cut is answered with.
pub(super) const WAY_OUT: &str =
    "allow it there for that push: `git config receive.denyNonFastForwards false`, or unprotect the ref";

fn refused(remote: &Remote, why: &str) -> Error {
    let what = format!("cut the history: {} does not take the new {STATE_REF} ({why})", remote.name);
    Error::refused(what, Some(format!("nothing was changed; {WAY_OUT}")))
}

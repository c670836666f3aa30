//! State between machines: fetched into tracking refs, merged here, pushed forward. Never forced, in no direction,
//! but for a cut of the history that holds all that it takes the place of, and then from exactly there.
//!
//! A remote that goes back, rewrites or deletes what we had seen of it is an alarm with the evidence; nothing of
//! ours follows it.

mod remote;

pub use remote::{Remote, pick_remote, require_same_place};

use super::outgoing::{Guard, Held};
use super::{Error, branch, cut};
use crate::git::{Expected, FetchAnswer, FetchSpec, PushAnswer, PushSpec, RefEdit, Repository};
use crate::model::{Agent, Id, Kind, ObjectId};
use crate::store::{Absorbed, FINDINGS_NOTES, Incoming, PROVENANCE_NOTES, STATE_REF, Store};
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

/// How often a push that others were faster than is tried again.
const ATTEMPTS: u32 = 10;
/// How often a remote may say that others were faster while nothing there changed: then it is something else that it
/// does not like, such as a ref where ours needs a directory.
const IDLE_ATTEMPTS: u32 = 3;
/// The first wait between two tries; it doubles, and each machine waits a different part of it.
const BACK_OFF: Duration = Duration::from_millis(50);

/// What is synced: everything that all machines write.
const SYNCED: [&str; 3] = [STATE_REF, FINDINGS_NOTES, PROVENANCE_NOTES];

/// What a remote did to refs that only ever go forward.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alarm {
    /// The ref, as it is called there.
    pub name: String,
    /// What we had seen; it is still here, under [`Alarm::tracking`].
    pub old: ObjectId,
    /// What is there now; `None` if the ref is gone.
    pub new: Option<ObjectId>,
    /// Our tracking ref.
    pub tracking: String,
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.new {
            Some(new) => write!(f, "{} was {} and is {new}, which does not follow it", self.name, self.old),
            None => write!(f, "{} was {} and is gone", self.name, self.old),
        }
    }
}

/// Records that a remote's state had and does not have any more, though it went forward: somebody put an old tree on
/// top of it. Nothing here follows it: merging brings them back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lost {
    /// What we had seen of it.
    pub old: ObjectId,
    /// What it has now.
    pub new: ObjectId,
    /// What is gone there, or older than it was.
    pub entities: BTreeSet<(Kind, Id)>,
}

impl fmt::Display for Lost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = self.entities.len();
        let records = if count == 1 { "record or a part of it" } else { "records or parts of them" };
        let (old, new) = (self.old.short(), self.new.short());
        write!(f, "its state lost {count} {records}: {new} follows {old} and says less")
    }
}

/// A ref of a remote that we have now seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Our name of it.
    pub name: String,
    /// Where we had seen it before.
    pub old: Option<ObjectId>,
    /// Where it is; `None` if the remote does not have it. What was refused is where it was.
    pub new: Option<ObjectId>,
    /// Why what the remote has there now was not taken in.
    pub refused: Option<String>,
    /// What it says no more, of a state that went forward.
    pub lost: Option<Lost>,
}

/// What a push sent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pushed {
    /// Refs that the remote has now and did not have before.
    pub sent: Vec<String>,
    /// Refs that it would not take, and why.
    pub refused: Vec<(String, String)>,
    /// Branches that were not offered to it, because of what is in them.
    pub held: Vec<Held>,
}

/// What a sync did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// What came in.
    pub absorbed: Absorbed,
    /// What went out.
    pub pushed: Pushed,
    /// Refs of the remote that were not taken in, and why. They are not pushed to either.
    pub not_taken: Vec<(String, String)>,
    /// How often others were faster.
    pub retries: u32,
    /// What the remote's state had lost. It has it again, if the state was sent.
    pub lost: Vec<Lost>,
    /// Whether the remote was asked at all: what was sent before is not sent again, and not looked for.
    pub asked: bool,
    /// Whether there is no state, neither there nor here.
    pub nothing: bool,
}

/// Asks a remote what it has, into tracking refs alone.
///
/// # Errors
/// [`Error::Alarm`] if the remote does not have any more what we had seen of it.
pub fn fetch(store: &Store, remote: &Remote) -> Result<Vec<Seen>, Error> {
    let specs = SYNCED.map(|ours| FetchSpec { remote: remote.there(ours), tracking: remote.tracking(ours) });
    let answers = store.repo().fetch(&remote.name, &specs, remote.deadline)?;
    let mut seen = Vec::new();
    let mut alarms = Vec::new();
    for ((ours, spec), answer) in SYNCED.iter().zip(specs).zip(answers) {
        let alarm = |old, new| Alarm { name: spec.remote.clone(), old, new, tracking: spec.tracking.clone() };
        let mut refused = None;
        let (old, new) = match answer {
            FetchAnswer::Same(at) => (Some(at.clone()), Some(at)),
            FetchAnswer::Moved { old, new } => (old, Some(new)),
            FetchAnswer::Rewritten { old, new } if *ours == STATE_REF && store.is_cut(&old, &new)? => {
                cut::follow(store, &spec.tracking, &old, &new)?;
                (Some(old), Some(new))
            }
            FetchAnswer::Rewritten { old, new } => {
                alarms.push(alarm(old, Some(new)));
                continue;
            }
            FetchAnswer::Absent => match store.repo().find_ref(&spec.tracking)? {
                Some(old) => {
                    alarms.push(alarm(old, None));
                    continue;
                }
                None => (None, None),
            },
            FetchAnswer::Refused(reason) => {
                refused = Some(reason);
                let old = store.repo().find_ref(&spec.tracking)?;
                (old.clone(), old)
            }
        };
        let lost = if *ours == STATE_REF { lost(store, old.as_ref(), new.as_ref())? } else { None };
        seen.push(Seen { name: (*ours).to_owned(), old, new, refused, lost });
    }
    if alarms.is_empty() { Ok(seen) } else { Err(Error::Alarm { remote: remote.name.clone(), alarms }) }
}

/// What a state that went forward says no more.
fn lost(store: &Store, old: Option<&ObjectId>, new: Option<&ObjectId>) -> Result<Option<Lost>, Error> {
    let (Some(old), Some(new)) = (old, new.filter(|new| old != Some(new))) else { return Ok(None) };
    let entities = store.lost_between(old, new)?;
    Ok((!entities.is_empty()).then(|| Lost { old: old.clone(), new: new.clone(), entities }))
}

/// Whether a ref that is synced says anything yet: notes begin empty, so that every machine finds them there.
pub fn says_something(store: &Store, tip: &ObjectId) -> Result<bool, Error> {
    let tree = store.repo().read_commit(tip)?.tree;
    Ok(!store.repo().read_tree(&tree)?.is_empty())
}

/// Merges what a fetch saw into the state and the notes here.
pub fn absorb(store: &Store, seen: &[Seen]) -> Result<Absorbed, Error> {
    let mut incoming = Incoming::default();
    for Seen { name, new, .. } in seen {
        match new {
            Some(new) if name == STATE_REF => incoming.state = Some(new.clone()),
            Some(new) => incoming.notes.push((name.clone(), new.clone())),
            None => {}
        }
    }
    Ok(store.absorb(&incoming)?)
}

/// Fetches, merges and pushes until both sides have the same.
pub fn sync(store: &Store, remote: &Remote) -> Result<Synced, Error> {
    let mut synced = Synced::default();
    exchange(store, remote, &mut synced, true, &[])?;
    Ok(synced)
}

/// Pushes state and notes, and merges what others pushed first only if the remote asks for that. With a guard, the
/// branches of the agents that are here go with them, if it finds nothing in them.
pub fn push(store: &Store, remote: &Remote, branches: Option<&Guard>) -> Result<Synced, Error> {
    let mut synced = Synced::default();
    let branches = match branches {
        Some(guard) => own_branches(store, remote, guard, &mut synced.pushed.held)?,
        None => Vec::new(),
    };
    exchange(store, remote, &mut synced, false, &branches)?;
    Ok(synced)
}

/// One fetch and one push, and again only as long as others are faster.
fn exchange(
    store: &Store,
    remote: &Remote,
    synced: &mut Synced,
    mut fetch_first: bool,
    branches: &[PushSpec],
) -> Result<(), Error> {
    store.repo().require_one_place(&remote.name)?;
    let mut unknown = None;
    let mut idle = 0;
    let mut branches = branches.to_vec();
    let mut sent = false;
    for attempt in 0..ATTEMPTS {
        // Before anything was sent, nobody was faster: what a fetch saw is taken in first.
        if sent {
            synced.retries += 1;
            std::thread::sleep(jittered(store, attempt)?);
        }
        if fetch_first {
            synced.asked = true;
            let news = take_in(store, remote, synced, sent)?;
            idle = if news || unknown.is_some() { 0 } else { idle + 1 };
        }
        let asked = std::mem::replace(&mut fetch_first, true);
        store.begin_notes()?;
        let refs = ours_to_send(store, remote, synced)?;
        if !asked && refs.iter().any(Sent::lacks_what_was_seen) {
            continue;
        }
        if !sent && asked | refs.iter().any(|one| one.ours == STATE_REF) {
            synced.nothing = !require_same_place(store, remote)? && store.state()?.commit().is_none();
        }
        let (refs, cuts): (Vec<Sent>, Vec<Sent>) = refs.into_iter().partition(|one| one.replaces.is_none());
        let wire: Vec<PushSpec> = refs.iter().map(|one| one.spec.clone()).chain(branches.clone()).collect();
        if wire.is_empty() && cuts.is_empty() {
            return Ok(());
        }
        (synced.asked, sent) = (true, true);
        let mut answers = Vec::new();
        if !wire.is_empty() {
            answers = store.repo().push(&remote.name, &wire, remote.deadline)?;
        }
        let of_branches = answers.split_off(refs.len().min(answers.len()));
        let mut answered: Vec<(Sent, PushAnswer)> = refs.into_iter().zip(answers).collect();
        for sent in cuts {
            let old = sent.replaces.as_ref().expect("that is what cuts do");
            let answer = cut::replace(store, remote, old, &sent.spec.new)?;
            answered.push((sent, answer));
        }
        let (mut again, mut is_refused) = (false, false);
        let mut landed = Vec::new();
        for (sent, answer) in answered {
            match &answer {
                PushAnswer::Landed | PushAnswer::Same => {
                    if answer == PushAnswer::Landed && says_something(store, &sent.spec.new)? {
                        synced.pushed.sent.push(sent.ours.to_owned());
                    }
                    if sent.replaces.is_none() {
                        landed.push(sent);
                    }
                }
                PushAnswer::Behind => again = true,
                PushAnswer::Unknown(words) => {
                    unknown = Some(words.clone());
                    again = true;
                }
                PushAnswer::Refused(reason) => {
                    let reason = match sent.replaces {
                        Some(_) => format!("{reason}; {}", cut::WAY_OUT),
                        None => reason.clone(),
                    };
                    synced.pushed.refused.push((sent.ours.to_owned(), reason));
                    is_refused = true;
                }
            }
        }
        track(store.repo(), remote, &landed)?;
        let mut left = Vec::new();
        for (spec, answer) in branches.drain(..).zip(of_branches) {
            if let PushAnswer::Unknown(words) = answer {
                unknown = Some(words.clone());
                left.push(spec);
            } else {
                branch_answered(spec, answer.clone(), &mut synced.pushed);
            }
        }
        again |= !left.is_empty();
        branches = left;
        // What keeps a branch of an agent from going keeps back nothing else.
        if !again || is_refused {
            return Ok(());
        }
        if idle >= IDLE_ATTEMPTS {
            let behind = ours_to_send(store, remote, synced)?;
            let why = |one: &Sent| match one.replaces {
                Some(_) => format!("it does not take the cut of the history; {}", cut::WAY_OUT),
                None => "it says that others were faster, and has nothing new".to_owned(),
            };
            synced.pushed.refused.extend(behind.into_iter().map(|one| (one.ours.to_owned(), why(&one))));
            return Ok(());
        }
    }
    let what = match unknown {
        Some(words) => format!("push to {}: it did not answer ({words})", remote.name),
        None => format!("push to {}: others were faster {ATTEMPTS} times", remote.name),
    };
    Err(Error::refused(what, Some("everything is safe here; try again later".to_owned())))
}

/// Fetches and merges. What cannot be taken in is left out, and the rest is not. Whether there was anything new.
fn take_in(store: &Store, remote: &Remote, synced: &mut Synced, again: bool) -> Result<bool, Error> {
    let mut seen = fetch(store, remote)?;
    let news = seen.iter().any(|one| one.old != one.new);
    synced.lost.extend(seen.iter_mut().filter_map(|one| one.lost.take()));
    for one in &seen {
        // What we sent and heard nothing of may have arrived.
        let Some(new) = one.new.as_ref().filter(|new| again && one.old.as_ref() != Some(new)) else {
            continue;
        };
        if store.repo().find_ref(&one.name)?.as_ref() == Some(new) && says_something(store, new)? {
            synced.pushed.sent.push(one.name.clone());
        }
    }
    synced.not_taken = seen.iter().filter_map(|one| Some((one.name.clone(), one.refused.clone()?))).collect();
    let (absorbed, why) = absorb_what_fits(store, seen)?;
    synced.not_taken.extend(why.map(|why| (STATE_REF.to_owned(), why)));
    join(&mut synced.absorbed, absorbed);
    Ok(news)
}

/// Merges what was seen: all of it, or without the state where that cannot be merged with ours, with why not.
fn absorb_what_fits(store: &Store, mut seen: Vec<Seen>) -> Result<(Absorbed, Option<String>), Error> {
    match absorb(store, &seen) {
        // A state of a newer build is for that build to merge, and one that does not fit together with ours for a person;
        // notes have no format.
        Err(Error::Store(
            error @ (crate::store::Error::Format { .. } | crate::store::Error::TooMuch { .. }),
        )) => {
            seen.retain(|one| one.name != STATE_REF);
            let absorbed = absorb(store, &seen)?;
            let mut why = error.to_string();
            if let crate::store::Error::Format { .. } = error {
                why.push_str(
                    "; update git-orchestra here to go on: nothing of ours was sent, nor is it lost",
                );
            }
            Ok((absorbed, Some(why)))
        }
        result => Ok((result?, None)),
    }
}

/// A ref of ours that a remote does not have yet, with what we know that it has.
struct Sent {
    ours: &'static str,
    spec: PushSpec,
    tracked: Option<ObjectId>,
    /// What it takes the place of there, if it does not follow that: the history was cut.
    replaces: Option<ObjectId>,
}

impl Sent {
    /// Whether we saw there what ours has not taken in: to push it, that comes first.
    const fn lacks_what_was_seen(&self) -> bool {
        self.tracked.is_some() && self.spec.seen.is_none() && self.replaces.is_none()
    }
}

fn ours_to_send(store: &Store, remote: &Remote, synced: &Synced) -> Result<Vec<Sent>, Error> {
    let tracking = SYNCED.map(|ours| remote.tracking(ours));
    let names: Vec<&str> = SYNCED.into_iter().chain(tracking.iter().map(String::as_str)).collect();
    let mut found = store.repo().find_refs(&names)?;
    let tracked = found.split_off(SYNCED.len());
    let refs = SYNCED.into_iter().zip(found).zip(tracked).filter_map(|((ours, new), tracked)| {
        let taken = synced.not_taken.iter().all(|(name, _)| name != ours);
        let spec = PushSpec { new: new.filter(|_| taken)?, remote: remote.there(ours), seen: None };
        (tracked.as_ref() != Some(&spec.new)).then_some(Sent { ours, spec, tracked, replaces: None })
    });
    let mut refs: Vec<Sent> = refs.collect();
    for one in &mut refs {
        let Some(tracked) = &one.tracked else { continue };
        if one.ours == STATE_REF && store.must_replace(tracked, &one.spec.new)? {
            one.replaces = Some(tracked.clone());
        } else if store.repo().is_ancestor(tracked, &one.spec.new)? {
            // What went back or is gone is not made again: then it is behind, and the fetch after that raises the alarm.
            one.spec.seen = Some(tracked.clone());
        }
    }
    Ok(refs)
}

fn join(all: &mut Absorbed, one: Absorbed) {
    all.moved.extend(one.moved);
    all.entities.extend(one.entities);
    all.notes += one.notes;
    all.quarantined.extend(one.quarantined);
    all.quarantined.sort();
    all.quarantined.dedup();
}

/// Remembers what a remote said that it has. Somebody else's newer knowledge stays.
fn track(repo: &Repository, remote: &Remote, landed: &[Sent]) -> Result<(), Error> {
    let mut edits = Vec::new();
    for Sent { ours, spec, tracked, .. } in landed {
        // A remote that went back before we pushed took it all the same: the next fetch is to say so.
        if let Some(old) = tracked
            && !repo.is_ancestor(old, &spec.new)?
        {
            continue;
        }
        let (name, new) = (remote.tracking(ours), Some(spec.new.clone()));
        edits.push(RefEdit { name, new, expected: Expected::from(tracked.clone()) });
    }
    if edits.is_empty() {
        return Ok(());
    }
    match repo.update_refs(&edits, "git orchestra push") {
        // The next fetch tells the same.
        Ok(()) | Err(crate::git::Error::RefMoved { .. } | crate::git::Error::RefLocked { .. }) => Ok(()),
        Err(e) => Err(e.into()),
    }
}

/// Between half and all of a wait that doubles: machines that collided do not collide again.
pub(super) fn jittered(store: &Store, attempt: u32) -> Result<Duration, Error> {
    let wait = BACK_OFF * (1 << attempt.min(6));
    let random: u32 = store.new_id()?.as_str().bytes().skip(1).take(4).map(u32::from).sum();
    Ok(wait / 2 + wait / 2 * (random % 64) / 64)
}

/// The branches of agents that are here and that nothing holds; each goes only forward.
fn own_branches(
    store: &Store,
    remote: &Remote,
    guard: &Guard,
    held: &mut Vec<Held>,
) -> Result<Vec<PushSpec>, Error> {
    let mut specs = Vec::new();
    let agents: Vec<Agent> = store.state()?.all()?;
    for agent in &agents {
        if agent.removed.is_none()
            && agent.branch.starts_with(Agent::BRANCHES)
            && specs.iter().all(|spec: &PushSpec| spec.remote != agent.branch)
            && let Some(new) = branch::tip_here(store, agent)?
        {
            match guard.hold_agent(store, &agents, agent, &new, &remote.name) {
                None => specs.push(PushSpec { new, remote: agent.branch.clone(), seen: None }),
                Some(one) => held.push(one),
            }
        }
    }
    Ok(specs)
}

fn branch_answered(spec: PushSpec, answer: PushAnswer, pushed: &mut Pushed) {
    match answer {
        PushAnswer::Landed => pushed.sent.push(spec.remote),
        // One that is pushed once more, because no answer came, is there.
        PushAnswer::Same | PushAnswer::Unknown(_) => {}
        PushAnswer::Behind => {
            pushed.refused.push((spec.remote, "the remote has other commits on it".to_owned()));
        }
        PushAnswer::Refused(reason) => pushed.refused.push((spec.remote, reason)),
    }
}

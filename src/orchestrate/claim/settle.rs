//! Letting go of claims: what the state says is over is over on the remote too, and what the remote knows of needs
//! no claim any more.

use super::{Queue, View, attempt, note_of};
use crate::git::{Lease, LeasedSpec};
use crate::model::{Agent, Id, Kind, ObjectId, Task, TaskStatus};
use crate::orchestrate::{Error, lease};
use crate::store::{ClaimRecord, OverOutcome, STATE_REF, State};

/// What became of claims that were let go of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Settled {
    /// Claims that are over on the remote now, or gone from it.
    pub settled: usize,
    /// What the user should know: claims that others took over.
    pub said: Vec<String>,
}

/// What is to be done about our own claims.
#[derive(Debug, Default)]
pub(super) struct Settling {
    moves: Vec<Move>,
}

#[derive(Debug)]
struct Move {
    of: Id,
    /// What is to be done on the remote, if anything.
    spec: Option<LeasedSpec>,
    /// Where our note goes if nothing is; it is deleted without.
    note: Option<ObjectId>,
    objects: Vec<ObjectId>,
    said: Option<String>,
}

impl Settling {
    pub(super) const fn is_empty(&self) -> bool {
        self.moves.is_empty()
    }

    /// Leaves out what something else is done about in the same push.
    pub(super) fn leave(&mut self, which: impl Fn(&Id) -> bool) {
        self.moves.retain(|one| !which(&one.of));
    }

    pub(super) fn specs(&self) -> impl Iterator<Item = LeasedSpec> + '_ {
        self.moves.iter().filter_map(|one| one.spec.clone())
    }
}

impl Queue {
    /// Brings our own claims on the remote to what the state says, and forgets those that are over there. Nothing
    /// is asked of the remote if there are none.
    pub fn settle(&self) -> Result<Settled, Error> {
        if self.remote.is_none() || self.held()?.is_empty() {
            return Ok(Settled::default());
        }
        let _lock = self.lock()?;
        let mut view = self.look()?;
        let settling = self.settling(&view)?;
        let specs: Vec<LeasedSpec> = settling.specs().collect();
        if !specs.is_empty() {
            self.push(&specs, false)?;
            view = self.look()?;
        }
        self.settled(settling, &view)
    }

    /// What is to be done about our claims, by what the remote has and what the states say.
    pub(super) fn settling(&self, view: &View) -> Result<Settling, Error> {
        let held = self.held()?;
        let mut settling = Settling::default();
        let Some(remote) = self.remote.as_ref().filter(|_| !held.is_empty()) else { return Ok(settling) };
        let state = self.store.state()?;
        let theirs = self.store.repo().find_ref(&remote.tracking(STATE_REF))?;
        let theirs = theirs.map(|commit| self.store.state_at(&commit)).transpose()?;
        for (of, mut commit) in held {
            let forget = |said| Move { of, spec: None, note: None, objects: Vec::new(), said };
            let Some(mut claim) = self.store.read_claim(&commit, &of)? else {
                settling.moves.push(forget(None));
                continue;
            };
            let mut followed = false;
            match view.claims.get(&of) {
                Some(listed) if *listed == commit => {}
                Some(listed) if self.is_ours(&claim, listed)? => {
                    // Whoever made it was killed before it was noted.
                    followed = true;
                    commit = listed.clone();
                    claim = self.store.read_claim(&commit, &of)?.unwrap_or(claim);
                }
                Some(_) => {
                    settling.moves.push(forget(claim.over.is_none().then(|| taken_over(&of))));
                    continue;
                }
                None if claim.over.is_some() => {
                    settling.moves.push(forget(None));
                    continue;
                }
                None => {
                    // It goes when the task is over, also if that was elsewhere.
                    match state.get::<Task>(&of)? {
                        Some(task) if task.fence > claim.fence => {
                            let ends = task.status != TaskStatus::Closed;
                            settling.moves.push(forget(ends.then(|| taken_over(&of))));
                        }
                        None if is_deleted(&state, &of)? => settling.moves.push(forget(None)),
                        _ => {}
                    }
                    continue;
                }
            }
            let delete = || Move { spec: Some(self.deletion(&of, commit.clone())), ..forget(None) };
            let Some(task) = state.get::<Task>(&of)? else {
                // Nobody can have what is deleted; brought back, it is to be had again.
                if is_deleted(&state, &of)? {
                    let known = theirs.as_ref().map_or(Ok(false), |theirs| is_deleted(theirs, &of))?;
                    if known {
                        settling.moves.push(delete());
                    } else if claim.over.is_none() {
                        let next = attempt::over(&claim, OverOutcome::Released, None);
                        settling.moves.push(self.follow(&commit, &next)?);
                    }
                }
                continue;
            };
            let known = is_known(theirs.as_ref(), &task, &claim)?;
            let next = match (&claim.over, task.status) {
                (Some(_), _) | (None, TaskStatus::Closed) if known => {
                    settling.moves.push(delete());
                    continue;
                }
                (None, TaskStatus::Closed | TaskStatus::Open) => {
                    // Open: reopened, or released where the remote could not be reached.
                    let outcome = match task.status {
                        TaskStatus::Closed => OverOutcome::Closed,
                        _ => OverOutcome::Released,
                    };
                    Some(attempt::over(&claim, outcome, task.result.clone()))
                }
                (None, TaskStatus::Started) => self.as_it_runs(&claim, &state)?,
                (Some(_), _) => None,
            };
            if let Some(next) = next {
                settling.moves.push(self.follow(&commit, &next)?);
            } else if followed {
                let objects = vec![commit.clone()];
                settling.moves.push(Move { note: Some(commit), objects, ..forget(None) });
            }
        }
        Ok(settling)
    }

    /// A claim after another one of its task.
    fn follow(&self, commit: &ObjectId, next: &ClaimRecord) -> Result<Move, Error> {
        let of = next.of;
        let objects = self.store.write_claim(next, Some(commit))?;
        let new = objects.last().expect("the commit is one of them");
        let spec = Some(self.succession(&of, commit, new));
        Ok(Move { of, spec, note: None, objects, said: None })
    }

    /// What the claim of a task that a person had an agent begin is to say, if that is something else: it has a time to
    /// live as long as that agent runs. What is over and waits for a person is nobody else's by mere silence.
    fn as_it_runs(&self, claim: &ClaimRecord, state: &State) -> Result<Option<ClaimRecord>, Error> {
        let ttl = if !claim.spawned {
            return Ok(None);
        } else if claim.ttl.is_none() {
            Some(self.ttl.as_secs().max(1)).filter(|_| self.kept.borrow().contains(&claim.of))
        } else {
            for agent in state.all::<Agent>()?.iter().filter(|agent| agent.task == Some(claim.of)) {
                if lease::look_for(self.store.repo(), &agent.id)?.is_some() {
                    return Ok(None);
                }
            }
            None
        };
        Ok((ttl != claim.ttl).then(|| ClaimRecord { ttl, ..claim.clone() }))
    }

    /// Whether what a claim's ref has now is what this clone made of `claim`.
    pub(super) fn is_ours(&self, claim: &ClaimRecord, now: &ObjectId) -> Result<bool, Error> {
        let now = self.store.read_claim(now, &claim.of)?;
        Ok(now.is_some_and(|now| now.machine == claim.machine && now.fence == claim.fence))
    }

    /// Takes over into our notes what the remote has now.
    pub(super) fn settled(&self, settling: Settling, view: &View) -> Result<Settled, Error> {
        let mut settled = Settled::default();
        let mut notes = Vec::new();
        for Move { of, spec, note, objects, said } in settling.moves {
            settled.said.extend(said);
            let now = view.claims.get(&of);
            match spec {
                None => notes.push((note_of(&of, note.as_ref()), objects)),
                Some(LeasedSpec { new: None, .. }) if now.is_none() => {
                    notes.push((note_of(&of, None), objects));
                }
                Some(LeasedSpec { new: Some(new), .. }) if now == Some(&new) => {
                    notes.push((note_of(&of, Some(&new)), objects));
                }
                // It did not arrive: the next time.
                Some(_) => continue,
            }
            settled.settled += 1;
        }
        self.said.borrow_mut().extend(settled.said.iter().cloned());
        if !notes.is_empty() {
            self.store.transact(|transaction| {
                for (edit, objects) in &notes {
                    transaction.depend_on(objects.iter().cloned());
                    transaction.move_ref(edit.clone());
                }
                Ok::<_, Error>(())
            })?;
        }
        Ok(settled)
    }

    /// Gives tasks back to the queue.
    ///
    /// # Errors
    /// If an agent works on one of them here, or somebody else holds it.
    pub fn release(&self, ids: &[Id]) -> Result<(), Error> {
        if ids.is_empty() {
            return Ok(());
        }
        let _lock = self.lock()?;
        let (state, machine) = (self.store.state()?, self.store.machine()?);
        for id in ids {
            let short = &id.as_str()[..6];
            if is_deleted(&state, id)? {
                if self.held()?.iter().all(|(held, _)| held != id) {
                    let what = format!("release {short}: it was deleted, and this clone has no claim of it");
                    return Err(Error::refused(what, None));
                }
                continue;
            }
            let task: Task = state.require(id)?;
            if task.holder.as_deref() != Some(machine.as_str()) {
                let what = match task.status {
                    TaskStatus::Started => {
                        format!("release {short}: {} works on it", attempt::holder_words(&task))
                    }
                    _ => format!("release {short}: this machine does not hold it"),
                };
                return Err(Error::refused(what, None));
            }
            let lease = task.assignee.map(|agent| lease::look_for(self.store.repo(), &agent)).transpose()?;
            if let Some(lease) = lease.flatten() {
                let hint = format!("`git orchestra stop {} --wait` ends it", lease.name);
                return Err(Error::refused(format!("release {short}: {} runs", lease.name), hint));
            }
        }
        let notes: Vec<(Id, ObjectId)> =
            self.held()?.into_iter().filter(|(id, _)| ids.contains(id)).collect();
        let released = if self.remote.is_some() { self.give_back(&notes)? } else { Vec::new() };
        self.store.transact(|transaction| {
            let mut said = Vec::new();
            for id in ids {
                if let Some(mut task) = transaction.get::<Task>(id)?
                    && task.holder.as_deref() == Some(machine.as_str())
                {
                    if task.status == TaskStatus::Started {
                        task.status = TaskStatus::Open;
                        task.changed = transaction.now();
                    }
                    task.assignee = None;
                    task.holder = None;
                    transaction.put(&task)?;
                }
                said.push(id.as_str()[..6].to_owned());
                let note = released.iter().find(|(of, _, _)| of == id);
                if let Some((_, commit, objects)) = note {
                    transaction.depend_on(objects.iter().cloned());
                    transaction.move_ref(note_of(id, Some(commit)));
                } else if notes.iter().any(|(of, _)| of == id) {
                    transaction.move_ref(note_of(id, None));
                }
            }
            transaction.describe(format!("task: release {}", said.join(", ")));
            Ok::<_, Error>(())
        })?;
        Ok(())
    }

    /// Says on the remote that claims are free. They stay there until its state knows of them, so that the next
    /// claim has a greater fence.
    fn give_back(&self, notes: &[(Id, ObjectId)]) -> Result<Vec<(Id, ObjectId, Vec<ObjectId>)>, Error> {
        let (mut specs, mut released) = (Vec::new(), Vec::new());
        for (of, commit) in notes {
            let Some(claim) = self.store.read_claim(commit, of)?.filter(|claim| claim.over.is_none()) else {
                continue;
            };
            let objects =
                self.store.write_claim(&attempt::over(&claim, OverOutcome::Released, None), Some(commit))?;
            let new = objects.last().expect("the commit is one of them").clone();
            specs.push(self.succession(of, commit, &new));
            released.push((*of, new, objects));
        }
        if specs.is_empty() {
            return Ok(released);
        }
        self.push(&specs, false)?;
        let view = self.look()?;
        if let Some((of, _)) = notes.iter().find(|(of, commit)| {
            released.iter().any(|(id, _, _)| id == of) && view.claims.get(of) == Some(commit)
        }) {
            let what = format!("release {}: the remote did not take it", &of.as_str()[..6]);
            return Err(Error::refused(what, "try it again".to_owned()));
        }
        released.retain(|(of, new, _)| view.claims.get(of) == Some(new));
        Ok(released)
    }

    pub(super) fn succession(&self, of: &Id, old: &ObjectId, new: &ObjectId) -> LeasedSpec {
        LeasedSpec { name: self.claim_ref(of), new: Some(new.clone()), lease: Lease::At(old.clone()) }
    }
}

fn taken_over(of: &Id) -> String {
    format!(
        "another machine took over {}; what is written here about it since does not count",
        &of.as_str()[..6]
    )
}

fn is_deleted(state: &State, task: &Id) -> Result<bool, Error> {
    Ok(state.record(Kind::Task, task)?.is_some_and(|record| record.is_deleted()))
}

/// Whether the remote's state says of a task what ours says, under this claim or a later one.
fn is_known(theirs: Option<&State>, task: &Task, claim: &ClaimRecord) -> Result<bool, Error> {
    let Some(theirs) = theirs else { return Ok(false) };
    let there = theirs.get::<Task>(&task.id)?;
    Ok(there.is_some_and(|there| there.fence >= claim.fence && there.status == task.status))
}

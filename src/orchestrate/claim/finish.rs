//! The end of claimed work: its branch and the end of its claim arrive together, or not at all; and until then, that
//! this machine is heard of.

use super::{Queue, View, attempt, note_of, retrying};
use crate::git::{Lease, LeasedSpec, PushAnswer};
use crate::model::{Id, ObjectId, Task};
use crate::orchestrate::{Error, heartbeat};
use crate::store::{CLAIM_REFS, MACHINE_REFS, OverOutcome};

/// Claimed work that is over.
#[derive(Debug, Clone)]
pub struct Finish {
    /// The task, or the agent.
    pub of: Id,
    /// Whether it is the agent: one without a task.
    pub is_agent: bool,
    /// The fence of its claim.
    pub fence: u64,
    /// What became of it.
    pub outcome: OverOutcome,
    /// The same in words.
    pub result: Option<String>,
    /// What is said in place of that if the branch does not arrive, after why: that only this machine has it.
    pub kept: String,
    /// The agent's branch (its full name) and tip, if there is work on it.
    pub branch: Option<(String, ObjectId)>,
}

/// What became of a result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Published {
    /// The remote has it; or there is none.
    Done,
    /// The claim's end is there, but the branch is not.
    WithoutBranch(String),
    /// Somebody took the claim over: nothing of ours counts any more, and nothing was sent.
    Ousted,
    /// The claim is not on the remote any more, though nobody took it over: nothing was sent without it.
    Gone,
}

impl Queue {
    /// Ends claims, each together with its branch, where the remote can do that in one step. Our own note of each
    /// claim follows; what the state says is the caller's.
    ///
    /// # Errors
    /// If the remote cannot be reached, or does not tell what became of it: then nothing is known to have arrived,
    /// and it can be called again.
    pub fn finish(&self, work: &[Finish]) -> Result<Vec<Published>, Error> {
        let Some(remote) = &self.remote else { return Ok(vec![Published::Done; work.len()]) };
        let _lock = self.lock()?;
        let mut answers = Vec::new();
        for one in work {
            let Some((_, commit)) = self.held()?.into_iter().find(|(of, _)| *of == one.of) else {
                answers.push(self.finish_unclaimed(one)?);
                continue;
            };
            answers.push(retrying(&self.store, || self.finish_one(one, &commit))?);
        }
        tracing::debug!("finished {} on {}", work.len(), remote.name);
        Ok(answers)
    }

    /// Work without a claim: it went meanwhile, or the agent has no task. Then its branch arrives all the same.
    fn finish_unclaimed(&self, work: &Finish) -> Result<Published, Error> {
        if self.is_ousted(work)? {
            return Ok(Published::Ousted);
        }
        let Some((name, tip)) = work.branch.clone() else { return Ok(Published::Done) };
        if !work.is_agent {
            return Ok(Published::Gone);
        }
        self.push_branch(Some(LeasedSpec { name, new: Some(tip), lease: Lease::Forward }))
    }

    fn finish_one(&self, work: &Finish, commit: &ObjectId) -> Result<Published, Error> {
        let claim = self.store.read_claim(commit, &work.of)?;
        let claim = claim.ok_or_else(|| Error::refused(format!("read our claim of {}", work.of), None))?;
        if let Some(over) = &claim.over {
            // Ended already: with what was said of the branch then.
            let stayed = over.result.as_ref().and_then(|result| result.strip_prefix(&work.kept));
            let why = stayed.and_then(|rest| rest.strip_prefix(": ")).map(str::to_owned);
            return Ok(why.map_or(Published::Done, Published::WithoutBranch));
        }
        let over = attempt::over(&claim, work.outcome, work.result.clone());
        let objects = self.store.write_claim(&over, Some(commit))?;
        let new = objects.last().expect("the commit is one of them").clone();
        let end = self.succession(&work.of, commit, &new);
        let branch = work.branch.as_ref().map(|(name, tip)| LeasedSpec {
            name: name.clone(),
            new: Some(tip.clone()),
            lease: Lease::Forward,
        });
        let specs: Vec<LeasedSpec> = std::iter::once(end.clone()).chain(branch.clone()).collect();
        let answers = self.push(&specs, true)?;
        let landed = |answer: &PushAnswer| matches!(answer, PushAnswer::Landed | PushAnswer::Same);
        if answers.iter().all(landed) {
            self.note(&work.of, Some(&new), &objects)?;
            return Ok(Published::Done);
        }
        let now = self.claim_now(&work.of)?;
        let is_there = now.is_some();
        let is_known = now.as_ref().is_some_and(|now| *now == new || now == commit);
        // An end of ours whose answer was lost.
        let is_ours = match &now {
            Some(now) if !is_known => self.is_ours(&claim, now)?,
            _ => is_known,
        };
        let Some(now) = now.filter(|_| is_ours) else {
            // A claim goes when its task is over, and the state there says whose it was then.
            if !is_there && let Err(error) = self.look() {
                tracing::debug!("nothing more is known: {error}");
            }
            let is_ousted = is_there || self.is_ousted(work)?;
            self.note(&work.of, None, &objects)?;
            return Ok(if is_ousted { Published::Ousted } else { Published::Gone });
        };
        // It is ours still: the branch was in the way, or the answer and the push were lost. What the claim says of the branch
        // is to be so, whenever somebody reads it.
        let published = self.push_branch(branch)?;
        let (mut new, mut objects, mut end) = (new, objects, end);
        let result = match &published {
            Published::WithoutBranch(why) => Some(format!("{}: {why}", work.kept)),
            _ => work.result.clone(),
        };
        if !is_known || matches!(published, Published::WithoutBranch(_)) {
            let over = attempt::over(&claim, work.outcome, result);
            objects = self.store.write_claim(&over, Some(&now))?;
            new = objects.last().expect("the commit is one of them").clone();
            end = self.succession(&work.of, &now, &new);
        }
        if now != new {
            let ended = self.push(&[end], false)?;
            if !ended.iter().all(landed) && self.claim_now(&work.of)?.as_ref() != Some(&new) {
                let what = format!("publish the end of {}: the remote did not answer", work.of);
                return Err(Error::refused(what, None));
            }
        }
        self.note(&work.of, Some(&new), &objects)?;
        Ok(published)
    }

    /// Whether the state says that another machine took over what was claimed.
    fn is_ousted(&self, work: &Finish) -> Result<bool, Error> {
        let task = self.store.state()?.get::<Task>(&work.of)?;
        let here = self.store.machine()?;
        Ok(task.is_some_and(|task| task.is_ousted(&here, work.fence)))
    }

    fn push_branch(&self, branch: Option<LeasedSpec>) -> Result<Published, Error> {
        let Some(branch) = branch else { return Ok(Published::Done) };
        for _ in 0..super::TRIES {
            match self.push(std::slice::from_ref(&branch), false)?.pop() {
                Some(PushAnswer::Landed | PushAnswer::Same) => return Ok(Published::Done),
                Some(PushAnswer::Behind) => {
                    return Ok(Published::WithoutBranch("the remote has other commits on it".to_owned()));
                }
                Some(PushAnswer::Refused(why)) => return Ok(Published::WithoutBranch(why)),
                Some(PushAnswer::Unknown(_)) | None => {}
            }
        }
        Ok(Published::WithoutBranch("the remote did not answer".to_owned()))
    }

    /// Where the remote has a claim now.
    fn claim_now(&self, of: &Id) -> Result<Option<ObjectId>, Error> {
        let Some(remote) = &self.remote else { return Ok(None) };
        let name = remote.there(&format!("{CLAIM_REFS}{of}"));
        let repo = self.store.repo();
        let refs = retrying(&self.store, || {
            Ok(repo.remote_refs(&remote.name, &[name.as_str()], remote.deadline)?)
        })?;
        Ok(refs.get(&name).cloned())
    }

    fn note(&self, of: &Id, commit: Option<&ObjectId>, objects: &[ObjectId]) -> Result<(), Error> {
        self.store.transact(|transaction| {
            transaction.depend_on(objects.iter().cloned());
            transaction.move_ref(note_of(of, commit));
            Ok::<_, Error>(())
        })?;
        Ok(())
    }

    /// The move of this machine's heartbeat, to go with another push.
    pub(super) fn heartbeat_spec(&self, view: &View) -> Result<Option<LeasedSpec>, Error> {
        let Some(remote) = &self.remote else { return Ok(None) };
        let machine = self.store.machine()?;
        let old = view.machines.get(&machine);
        let last = old.map(|old| self.store.read_heartbeat(old, &machine)).transpose()?.flatten();
        let state = self.store.state()?;
        let heartbeat = heartbeat::own(&self.store, &state, last.as_ref(), self.ttl)?;
        let before = old.filter(|old| self.chained.get() && self.store.repo().has_object(old));
        let new = self.store.write_heartbeat(&heartbeat, before)?.pop();
        let name = remote.there(&format!("{MACHINE_REFS}{machine}"));
        Ok(Some(LeasedSpec { name, new, lease: old.cloned().map_or(Lease::Absent, Lease::At) }))
    }

    /// Says that this machine is alive, with whatever else waits to be sent and `more`, by what the remote has; and looks who took over what
    /// is ours. Returns what was seen after it.
    pub fn beat(&self, more: impl FnOnce(&View) -> Vec<LeasedSpec>) -> Result<View, Error> {
        if self.remote.is_none() {
            return Ok(View::default());
        }
        let _lock = self.lock()?;
        let view = self.look()?;
        let settling = self.settling(&view)?;
        let mut specs: Vec<LeasedSpec> = settling.specs().collect();
        specs.extend(self.heartbeat_spec(&view)?);
        specs.extend(self.extra.borrow_mut().drain(..));
        specs.extend(more(&view));
        self.push(&specs, false)?;
        if settling.is_empty() {
            return Ok(view);
        }
        let view = self.look()?;
        self.settled(settling, &view)?;
        Ok(view)
    }

    /// Sends something with the next push that there is; what does not hold then is left.
    pub fn send_along(&self, spec: LeasedSpec) {
        self.extra.borrow_mut().push(spec);
    }
}

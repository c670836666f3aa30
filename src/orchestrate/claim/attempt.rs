//! Claiming: push, read back, write down.

use super::choose::Candidate;
use super::{Queue, View, note_of};
use crate::git::{Lease, LeasedSpec, PushAnswer};
use crate::model::{Id, ObjectId, Task, TaskStatus};
use crate::orchestrate::Error;
use crate::orchestrate::sync::jittered;
use crate::store::{CLAIM_REFS, ClaimRecord, Over, OverOutcome, Transaction};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How often others may be faster before a search is given up for now.
const ATTEMPTS: u32 = 12;
/// How often a search lets machines go first that draw every task higher which it could try.
const WAYS: u32 = 3;
/// How often one claim is tried that nobody has and that the remote does not make: its holder may just have let go.
const MAKES: u32 = 3;
/// How long at most, each time.
const WAY: Duration = Duration::from_secs(1);

/// How something is claimed.
#[derive(Debug, Clone, Default)]
pub struct Terms {
    /// The agent that will work on it, if it is known.
    pub agent: Option<Id>,
    /// After which silence of this machine others may take it over; absent if only a person may say so.
    pub ttl: Option<Duration>,
    /// Whether to take what others hold, whatever they say.
    pub force: bool,
    /// What it is claimed for.
    pub purpose: Purpose,
}

/// What something is claimed for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Whoever claims it.
    #[default]
    Claimant,
    /// An agent that a person starts, also for what a person began without a claim: only its run has the time to live.
    Spawn,
    /// The same for an agent that goes on: its task is begun, and its own.
    Resume,
}

impl Terms {
    /// Whether a task is one that a person began, and that these terms let an agent join.
    pub(super) const fn may_join(&self, task: &Task) -> bool {
        match self.purpose {
            Purpose::Claimant => false,
            Purpose::Spawn => task.holder.is_none() && task.assignee.is_none(),
            Purpose::Resume => task.holder.is_none(),
        }
    }
}

/// What became of the wish to claim one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claimed {
    /// It is ours.
    Held {
        /// The claim's fence.
        fence: u64,
        /// The machine that held it before and was silent for its time.
        from: Option<String>,
    },
    /// It was ours before.
    Ours,
    /// Somebody else has it.
    Taken {
        /// Who, and how that is known.
        by: String,
    },
    /// It is not to be had: closed, or it waits for others.
    Unready {
        /// Why.
        why: String,
    },
    /// The remote does not take it.
    Refused {
        /// Its words.
        why: String,
    },
}

/// What became of a push of a claim.
enum Tried {
    /// It is known.
    Known(Claimed),
    /// It is not on the remote, nor is anybody else's: why, as far as it was said.
    Unmade(String),
}

/// A claim that was pushed, or is about to be.
struct Attempt {
    candidate: Candidate,
    claim: ClaimRecord,
    commit: ObjectId,
    objects: Vec<ObjectId>,
}

impl Queue {
    /// Claims the tasks that are named. One answer for each, in their order.
    ///
    /// # Errors
    /// If the remote cannot be reached, or does not tell what became of it: then the next claim finds out.
    pub fn claim(&self, ids: &[Id], terms: &Terms) -> Result<Vec<(Id, Claimed)>, Error> {
        let _lock = self.lock()?;
        let view = self.begin()?;
        let mut answers = BTreeMap::new();
        let mut candidates = Vec::new();
        for id in ids {
            match self.candidate(&view, id, terms)? {
                Ok(candidate) => candidates.push(candidate),
                Err(answer) => drop(answers.insert(*id, answer)),
            }
        }
        for (id, tried) in self.attempt(candidates, &view, terms)? {
            let answer = match tried {
                Tried::Known(answer) => answer,
                Tried::Unmade(why) => Claimed::Unready { why: unmade(&why) },
            };
            answers.insert(id, answer);
        }
        Ok(ids.iter().filter_map(|id| Some((*id, answers.remove(id)?))).collect())
    }

    /// Claims up to `count` ready tasks, in this machine's own order; fewer if there are no more. Then takes over
    /// what machines hold that were silent for their time. In a crowd, a machine whose turn it is not at any task waits a
    /// moment, so that few pushes are for nothing.
    ///
    /// # Errors
    /// If the remote cannot be reached, refuses, or makes no claim of what nobody has: an empty answer means that there is
    /// nothing to claim.
    pub fn claim_next(
        &self,
        count: usize,
        zone: Option<&str>,
        terms: &Terms,
        without: &BTreeSet<Id>,
    ) -> Result<Vec<(Id, Claimed)>, Error> {
        let _lock = self.lock()?;
        let mut view = self.begin()?;
        let (mut held, mut tried) = (Vec::new(), without.clone());
        let mut unmade = BTreeMap::<Id, (u32, String)>::new();
        let (mut attempt, mut ways) = (0, 0);
        while attempt < ATTEMPTS {
            let candidates = self.choose(&view, count - held.len(), zone, &tried)?;
            // A look costs the remote less than a push that is refused.
            let ahead = candidates.iter().map(|candidate| candidate.ahead).min();
            let Some(ahead) = ahead else { break };
            if ahead > 0 && ways < WAYS {
                ways += 1;
                let turns = u32::try_from(ahead).unwrap_or(u32::MAX);
                std::thread::sleep(self.round.get().saturating_mul(turns).min(WAY));
                view = self.look()?;
                continue;
            }
            if attempt > 0 {
                std::thread::sleep(jittered(&self.store, attempt.min(4))?);
            }
            for (id, answer) in self.attempt(candidates, &view, terms)? {
                let answer = match answer {
                    Tried::Known(answer) => answer,
                    Tried::Unmade(why) => {
                        let (times, last) = unmade.entry(id).or_default();
                        (*times, *last) = (*times + 1, why);
                        if *times >= MAKES {
                            tried.insert(id);
                        }
                        continue;
                    }
                };
                unmade.remove(&id);
                tried.insert(id);
                if let Claimed::Refused { why } = &answer {
                    return Err(Error::refused(
                        format!("claim {}: the remote refused: {why}", &id.as_str()[..6]),
                        MUST_TAKE.to_owned(),
                    ));
                }
                if matches!(answer, Claimed::Held { .. }) {
                    held.push((id, answer));
                }
            }
            if held.len() >= count || self.remote.is_none() {
                break;
            }
            attempt += 1;
            view = self.look()?;
        }
        // What is there and could not be had is not nothing.
        if let (true, Some((id, (_, why)))) = (held.is_empty(), unmade.iter().next()) {
            let what = format!("claim {}: {}", &id.as_str()[..6], self::unmade(why));
            return Err(Error::refused(what, MUST_TAKE.to_owned()));
        }
        Ok(held)
    }

    /// Looks, and gives back what a process that died had claimed and not written down.
    fn begin(&self) -> Result<View, Error> {
        let mut view = self.look()?;
        let pending = self.read_pending()?;
        if pending.is_empty() {
            return Ok(view);
        }
        let known: BTreeMap<Id, ObjectId> = self.held()?.into_iter().collect();
        let mut specs = Vec::new();
        for (id, commit) in pending {
            if view.claims.get(&id) != Some(&commit) || known.get(&id) == Some(&commit) {
                continue;
            }
            // What was held before is held still: settling notes it.
            let before = known.get(&id).map(|note| self.store.read_claim(note, &id)).transpose()?.flatten();
            if before.map(|claim| self.is_ours(&claim, &commit)).transpose()? != Some(true) {
                specs.push(self.deletion(&id, commit));
            }
        }
        if !specs.is_empty() {
            self.push(&specs, false)?;
            view = self.look()?;
        }
        self.write_pending(&[])?;
        Ok(view)
    }

    pub(super) fn deletion(&self, of: &Id, commit: ObjectId) -> LeasedSpec {
        LeasedSpec { name: self.claim_ref(of), new: None, lease: Lease::At(commit) }
    }

    pub(super) fn claim_ref(&self, of: &Id) -> String {
        let ours = format!("{CLAIM_REFS}{of}");
        self.remote.as_ref().map_or_else(|| ours.clone(), |remote| remote.there(&ours))
    }

    /// Pushes claims, reads back which are ours, and writes those down.
    fn attempt(
        &self,
        candidates: Vec<Candidate>,
        view: &View,
        terms: &Terms,
    ) -> Result<Vec<(Id, Tried)>, Error> {
        if candidates.is_empty() {
            return Ok(Vec::new());
        }
        let machine = self.store.machine()?;
        let mut attempts = Vec::new();
        for candidate in candidates {
            let known = candidate.before.as_ref().map_or(0, |before| before.fence);
            let fence = if candidate.ours { known } else { candidate.fence.max(known) + 1 };
            let at = self.store.clock().now();
            let said = candidate.before.as_ref().filter(|_| candidate.ours).and_then(|before| before.ttl);
            let claim = ClaimRecord {
                agent: terms.agent,
                ttl: said.or(terms.ttl.map(|ttl| ttl.as_secs().max(1))),
                spawned: terms.purpose != Purpose::Claimant,
                ..ClaimRecord::new(candidate.id, machine.clone(), fence, at)?
            };
            // A claim that cannot be read is not here to be followed.
            let before = candidate.old.as_ref().filter(|old| self.store.repo().has_object(old));
            let objects = self.store.write_claim(&claim, before)?;
            let commit = objects.last().expect("the commit is one of them").clone();
            attempts.push(Attempt { candidate, claim, commit, objects });
        }
        let mut answers = vec![PushAnswer::Landed; attempts.len()];
        let mut view_after = View::default();
        if self.remote.is_some() {
            let pending: Vec<_> = attempts.iter().map(|one| (one.candidate.id, one.commit.clone())).collect();
            self.write_pending(&pending)?;
            let mut specs: Vec<LeasedSpec> = attempts
                .iter()
                .map(|one| LeasedSpec {
                    name: self.claim_ref(&one.candidate.id),
                    new: Some(one.commit.clone()),
                    lease: one.candidate.old.clone().map_or(Lease::Absent, Lease::At),
                })
                .collect();
            let mut settling = self.settling(view)?;
            settling.leave(|of| attempts.iter().any(|one| one.candidate.id == *of));
            specs.extend(settling.specs());
            specs.extend(self.heartbeat_spec(view)?);
            specs.extend(self.extra.borrow_mut().drain(..));
            // Whatever goes wrong from here on: the next claim finds out what is ours.
            answers = self.push(&specs, false)?;
            answers.truncate(attempts.len());
            view_after = self.look()?;
            self.settled(settling, &view_after)?;
        }
        let mut claimed = Vec::new();
        let mut won = Vec::new();
        for (attempt, answer) in attempts.into_iter().zip(answers) {
            let id = attempt.candidate.id;
            if self.remote.is_none() || view_after.claims.get(&id) == Some(&attempt.commit) {
                won.push(attempt);
            } else if let PushAnswer::Refused(why) = answer {
                claimed.push((id, Tried::Known(Claimed::Refused { why })));
            } else if !view_after.claims.contains_key(&id) {
                // Another ref is in its way, the holder let go, or it did not get there at all.
                let why = match answer {
                    PushAnswer::Unknown(words) => words,
                    _ => String::new(),
                };
                claimed.push((id, Tried::Unmade(why)));
            } else {
                let by = "another machine, which was faster".to_owned();
                claimed.push((id, Tried::Known(Claimed::Taken { by })));
            }
        }
        let void = self.write_down(&won, &machine, terms)?;
        let specs: Vec<LeasedSpec> = won
            .iter()
            .filter(|one| self.remote.is_some() && void.contains_key(&one.candidate.id))
            .map(|one| self.deletion(&one.candidate.id, one.commit.clone()))
            .collect();
        if !specs.is_empty() {
            self.push(&specs, false)?;
        }
        self.write_pending(&[])?;
        for one in won {
            let answer = match void.get(&one.candidate.id) {
                Some(why) => Claimed::Unready { why: why.clone() },
                None if one.candidate.ours => Claimed::Ours,
                None => Claimed::Held { fence: one.claim.fence, from: one.candidate.from },
            };
            claimed.push((one.candidate.id, Tried::Known(answer)));
        }
        Ok(claimed)
    }

    /// Puts claims that are ours into the state, all in one change. Returns those that are not worth it: somebody
    /// was done with the task before we had it.
    fn write_down(
        &self,
        won: &[Attempt],
        machine: &str,
        terms: &Terms,
    ) -> Result<BTreeMap<Id, String>, Error> {
        if won.is_empty() {
            return Ok(BTreeMap::new());
        }
        let committed = self.store.transact(|transaction| {
            let (mut void, mut said) = (BTreeMap::new(), Vec::new());
            for one in won {
                let id = one.candidate.id;
                if let Some(why) = enter(transaction, one, machine, terms)? {
                    void.insert(id, why);
                    continue;
                }
                let word = if one.candidate.ours { "keep" } else { "claim" };
                said.push(format!("{word} {} by {machine}", &id.as_str()[..6]));
                if self.remote.is_some() {
                    transaction.move_ref(note_of(&id, Some(&one.commit)));
                    transaction.depend_on(one.objects.iter().cloned());
                }
            }
            transaction.describe(format!("task: {}", said.join(", ")));
            Ok::<_, Error>(void)
        })?;
        Ok(committed.value)
    }
}

/// What is to be done about a remote that makes no claims.
const MUST_TAKE: &str = "the remote must let this clone make refs; `orchestra.remotePrefix` names others";

/// Why a claim could not be made that nobody has.
fn unmade(why: &str) -> String {
    let words = if why.is_empty() { String::new() } else { format!(": {why}") };
    format!("the remote could not make its claim{words}")
}

/// Writes one claim into the state; returns why not, if it is not worth it.
fn enter(
    transaction: &mut Transaction<'_>,
    one: &Attempt,
    machine: &str,
    terms: &Terms,
) -> Result<Option<String>, Error> {
    let Some(mut task) = transaction.get::<Task>(&one.candidate.id)? else {
        return Ok(Some("it is gone".to_owned()));
    };
    if task.status == TaskStatus::Closed {
        return Ok(Some("it was closed meanwhile".to_owned()));
    }
    if one.candidate.ours {
        let ours = task.holder.as_deref() == Some(machine) && task.fence == one.claim.fence;
        return Ok((!ours).then(|| format!("{} works on it since", holder_words(&task))));
    }
    let may = task.holder.as_deref() == Some(machine)
        || one.candidate.from.is_some()
        || terms.force
        || terms.may_join(&task);
    if task.fence >= one.claim.fence || task.status == TaskStatus::Started && !may {
        return Ok(Some(format!("{} works on it since", holder_words(&task))));
    }
    if task.status != TaskStatus::Started {
        task.status = TaskStatus::Started;
        task.changed = transaction.now();
    }
    if terms.purpose != Purpose::Resume || one.candidate.from.is_some() {
        task.assignee = one.claim.agent;
    }
    task.holder = Some(machine.to_owned());
    task.fence = one.claim.fence;
    transaction.put(&task)?;
    Ok(None)
}

/// Who works on a task, as the state says.
pub(super) fn holder_words(task: &Task) -> String {
    match (&task.holder, &task.assignee) {
        (Some(machine), _) => format!("machine {machine}"),
        (None, Some(agent)) => format!("the agent {agent}"),
        (None, None) => "somebody".to_owned(),
    }
}

/// The end of work, for the claim's ref.
pub(super) fn over(claim: &ClaimRecord, outcome: OverOutcome, result: Option<String>) -> ClaimRecord {
    ClaimRecord { over: Some(Over { outcome, result }), ..claim.clone() }
}

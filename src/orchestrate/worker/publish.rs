//! What becomes of a run's result: its branch and its claim's end go to the remote first; only then does the state
//! say so, and travels.

use super::shift::Shift;
use crate::model::{Agent, Id, ObjectId, Outcome, Task, TaskStatus};
use crate::orchestrate::claim::{Finish, Published};
use crate::orchestrate::outgoing::Held;
use crate::orchestrate::session::release_task;
use crate::orchestrate::supervise::{Finished, chain};
use crate::orchestrate::{Error, sync};
use crate::store::{OverOutcome, STATE_REF, Store};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// How long what the state has to say may wait for more of it.
const PATIENCE: Duration = Duration::from_secs(2);
/// The same after the remote refused it.
const REFUSED: Duration = Duration::from_secs(30);
/// How often the last push is tried before it is left to the next command.
const LAST_TRIES: usize = 6;

/// What an agent of a worker works on.
#[derive(Debug, Clone)]
pub(super) struct Job {
    pub(super) task: Id,
    pub(super) fence: u64,
    pub(super) agent: Agent,
}

impl Shift {
    /// Publishes what is over. What cannot be published now waits.
    pub(super) fn publish(&mut self) {
        let waiting = std::mem::take(&mut self.unpublished);
        let (over, never): (Vec<_>, Vec<_>) = waiting.into_iter().partition(|(one, _)| one.outcome.is_some());
        for (_, job) in never {
            self.forget(&job);
        }
        for (one, job) in over {
            let mut end = words::end(&one, &job.agent);
            let branch = (one.tip != job.agent.base).then(|| (job.agent.branch.clone(), one.tip.clone()));
            let held = branch.as_ref().and_then(|(_, tip)| self.held(&job.agent, tip));
            let branch = branch.filter(|_| held.is_none());
            let kept = words::kept(&end.result, &job.agent);
            if let Some(held) = held.as_ref().filter(|_| self.worker.queue.remote().is_some()) {
                end.result = format!("{kept}: {}", held.words());
            }
            let finish = Finish {
                of: job.task,
                is_agent: job.task == job.agent.id,
                fence: job.fence,
                outcome: end.outcome,
                result: Some(end.result.clone()),
                kept: kept.clone(),
                branch,
            };
            let published = match self.worker.queue.finish(std::slice::from_ref(&finish)) {
                Ok(mut answers) => answers.pop().unwrap_or(Published::Done),
                Err(error) => {
                    self.say(Some(one.agent), format!("failed to {}; trying again", chain(&error)));
                    self.unpublished.push((one, job));
                    continue;
                }
            };
            if !matches!(published, Published::Ousted | Published::Gone) {
                self.carry_end(&job);
            }
            match published {
                Published::Ousted => {
                    let text = format!(
                        "another machine took its task over: nothing of it was sent; its work is on {} here",
                        job.agent.branch.trim_start_matches("refs/heads/")
                    );
                    self.say(Some(one.agent), text);
                    continue;
                }
                Published::Gone => {
                    let text = format!(
                        "the claim of its task is gone from the remote: the task was taken over and ended there, or closed, or \
                         it or its claim was deleted; nothing of it was sent, its work is on {} here, and `git orchestra push \
                         --branches` sends it",
                        words::branch(&job.agent)
                    );
                    self.say(Some(one.agent), text);
                    continue;
                }
                Published::WithoutBranch(why) => {
                    let branch = words::branch(&job.agent);
                    let text = format!(
                        "{branch} was not pushed, so its work is on this machine alone: {why}; `git orchestra push --branches` tries it again"
                    );
                    self.say(Some(one.agent), text);
                    end.result = format!("{kept}: {why}");
                    self.stayed.insert(job.agent.branch.clone(), one.tip.clone());
                }
                Published::Done => {}
            }
            if let Some(held) = held {
                let (words, branch) = (held.words(), words::branch(&job.agent));
                self.say(Some(one.agent), format!("{branch} was not pushed: {words}; {}", Held::HINT));
            }
            if let Err(error) = write_end(&self.store, &job, &end) {
                self.say(Some(one.agent), format!("failed to {}", chain(&error)));
            }
            self.unsynced = true;
        }
    }

    /// What holds an agent's branch here, if anything does.
    pub(super) fn held(&self, agent: &Agent, tip: &ObjectId) -> Option<Held> {
        let remote = self.worker.queue.remote()?;
        // Without the others it is judged by its own record.
        let agents = self.store.state().and_then(|state| state.all::<Agent>()).unwrap_or_default();
        self.worker.guard.hold_agent(&self.store, &agents, agent, tip, &remote.name)
    }

    /// An agent that never began: its task is anybody's again.
    fn forget(&mut self, job: &Job) {
        if job.task != job.agent.id {
            self.release(&job.task);
        }
        let forgotten = self.store.transact(|transaction| {
            let Some(mut agent) = transaction.get::<Agent>(&job.agent.id)? else { return Ok(()) };
            if agent.runs.is_empty() && agent.removed.is_none() {
                agent.removed = Some(transaction.now());
                release_task(transaction, &agent)?;
                transaction.describe(format!("agent: {} not started", agent.name));
                transaction.put(&agent)?;
            }
            Ok::<_, Error>(())
        });
        if let Err(error) = forgotten {
            self.say(Some(job.agent.id), format!("failed to {}", chain(&error)));
        }
    }

    /// Brings the state to the remote, not more often than worth it.
    pub(super) fn sync_if_due(&mut self, now: bool) {
        let Some(remote) = self.worker.queue.remote() else { return };
        let patience = if self.unsent.is_some() { REFUSED } else { PATIENCE };
        let due = now || self.synced.is_none_or(|last| last.elapsed() >= patience);
        if !self.unsynced || !due {
            return;
        }
        let words = match sync::push(&self.store, remote, None) {
            Ok(synced) => {
                let mut left = synced.pushed.refused.iter().chain(&synced.not_taken);
                let why = left.find(|(name, _)| name == STATE_REF).map(|(_, why)| why.clone());
                self.unsynced = why.is_some();
                if why.is_none() {
                    self.unsent = None;
                }
                why
            }
            Err(error @ Error::Alarm { .. }) => Some(chain(&error)),
            Err(error) => {
                tracing::debug!("later: {}", chain(&error));
                None
            }
        };
        if let Some(words) = words.filter(|words| self.unsent.as_ref() != Some(words)) {
            self.say(None, format!("the state was not sent: {words}"));
            self.unsent = Some(words);
        }
        self.synced = Some(Instant::now());
    }

    /// The end: everything that can be sent is sent.
    pub(super) fn flush(&mut self) -> Result<(), Error> {
        for _ in 0..LAST_TRIES {
            self.publish();
            self.sync_if_due(true);
            if !self.unsynced && self.unpublished.is_empty() {
                break;
            }
        }
        if self.worker.queue.remote().is_some() {
            // Without agents; and what is known there now needs no claim.
            self.beat();
        }
        if self.unpublished.is_empty() && (!self.unsynced || self.worker.queue.remote().is_none()) {
            let branches = self.still_here();
            if branches.is_empty() {
                return Ok(());
            }
            return Err(Error::refused(
                format!("push {}: that work is on this machine alone", branches.join(", ")),
                "`git orchestra push --branches` tries it again, once the remote takes such branches"
                    .to_owned(),
            ));
        }
        Err(Error::refused(
            "bring everything to the remote; it is safe here",
            "`git orchestra worker --until-empty` sends it when the remote is there again".to_owned(),
        ))
    }

    /// The branches that the remote would not take and that it does not have by now: somebody may have pushed them since.
    fn still_here(&self) -> Vec<&str> {
        let (repo, names) = (self.store.repo(), self.stayed.keys().map(String::as_str));
        let names: Vec<&str> = names.collect();
        let Some(remote) = self.worker.queue.remote().filter(|_| !names.is_empty()) else {
            return Vec::new();
        };
        let there = repo.remote_refs(&remote.name, &names, remote.deadline).unwrap_or_else(|error| {
            tracing::debug!("nothing is known of the branches there: {error}");
            BTreeMap::new()
        });
        let is_there = |name: &str, tip: &ObjectId| {
            let now = there.get(name).filter(|now| repo.has_object(now));
            now.is_some_and(|now| repo.is_ancestor(tip, now).unwrap_or(false))
        };
        let left = self.stayed.iter().filter(|(name, tip)| !is_there(name, tip));
        left.map(|(name, _)| name.trim_start_matches("refs/heads/")).collect()
    }
}

/// Writes into the state how the work on a task ended, unless somebody has a greater claim by now.
fn write_end(store: &Store, job: &Job, end: &words::End) -> Result<(), Error> {
    store.transact(|transaction| {
        let Some(mut task) = transaction.get::<Task>(&job.task)? else { return Ok(()) };
        if task.fence != job.fence || task.status != TaskStatus::Started {
            return Ok(());
        }
        task.result = Some(end.result.clone());
        if end.outcome == OverOutcome::Closed {
            task.status = TaskStatus::Closed;
            task.changed = transaction.now();
        }
        transaction.describe(format!("task {}: {}", &job.task.as_str()[..6], end.result));
        transaction.put(&task)?;
        Ok::<_, Error>(())
    })?;
    Ok(())
}

pub(super) mod words {
    //! A run's end in words.

    use super::{Agent, Finished, ObjectId, Outcome, OverOutcome, Store};

    /// What a run means for its task.
    pub(in super::super) struct End {
        pub(in super::super) outcome: OverOutcome,
        pub(in super::super) result: String,
    }

    /// An agent that succeeded without a change is done; what it changed waits for a merge, which closes the task;
    /// what failed waits for a person.
    pub(in super::super) fn end(one: &Finished, agent: &Agent) -> End {
        let branch = branch(agent);
        let changed = one.tip != agent.base;
        let (outcome, result) = match &one.outcome {
            Some(Outcome::Succeeded) if changed => {
                (OverOutcome::Ended, format!("done on {branch}, not merged yet"))
            }
            Some(Outcome::Succeeded) => {
                (OverOutcome::Closed, format!("done by {} without a change", agent.name))
            }
            Some(Outcome::Failed { reason }) => (OverOutcome::Ended, format!("failed: {reason}")),
            Some(Outcome::Stopped { over: Some(over), .. }) => {
                (OverOutcome::Ended, format!("stopped by {over}"))
            }
            Some(Outcome::Stopped { by, .. }) => (OverOutcome::Ended, format!("stopped by {by}")),
            Some(Outcome::Lost) | None => (OverOutcome::Ended, "lost: whoever watched it died".to_owned()),
        };
        End { outcome, result }
    }

    /// An agent's branch, as people call it.
    pub(in super::super) fn branch(agent: &Agent) -> &str {
        agent.branch.trim_start_matches("refs/heads/")
    }

    /// What is said of a run whose branch did not arrive, before why.
    pub(in super::super) fn kept(result: &str, agent: &Agent) -> String {
        format!("{result}; {} is on machine {} alone", branch(agent), agent.machine)
    }

    /// The end of an agent's last run as the state tells it; `None` if it never ran to an end.
    pub(in super::super) fn finished(store: &Store, agent: &Agent) -> Result<Option<Finished>, super::Error> {
        let Some((number, run)) = agent.last_run() else { return Ok(None) };
        let Some(outcome) = run.outcome.clone() else { return Ok(None) };
        let tip: Option<ObjectId> = store.repo().find_ref(&agent.branch)?;
        Ok(Some(Finished {
            agent: agent.id,
            name: agent.name.clone(),
            run: number,
            outcome: Some(outcome),
            tip: tip.or_else(|| run.tip.clone()).unwrap_or_else(|| agent.base.clone()),
            commits: 0,
            leftovers: false,
            usage: run.usage,
            decisions: Vec::new(),
            error: None,
        }))
    }
}

//! What goes to the remote beside branches, for whoever goes on with an agent: what it has not committed, and where
//! that was asked for what it said. What nobody needs any more goes from there.

use super::publish::Job;
use super::shift::Shift;
use crate::agent::sanitise_line;
use crate::git::{Lease, LeasedSpec};
use crate::model::{Agent, Id, ObjectId, Task, TaskStatus};
use crate::orchestrate::claim::View;
use crate::orchestrate::snapshot::{Snapshot, snapshot};
use crate::orchestrate::{Error, environment, said};
use crate::store::{LOG_REFS, SAID_REFS, SNAPSHOT_REFS};
use bstr::{BString, ByteSlice};
use std::collections::{BTreeSet, HashMap};

/// What the remote has of agents, and what it is to have.
#[derive(Debug, Default)]
pub(super) struct Carried {
    snapshots: HashMap<Id, ObjectId>,
    said: HashMap<Id, ObjectId>,
    /// Files that were left out of snapshots.
    left_out: HashMap<Id, Vec<BString>>,
    /// Why nothing of an agent's branch is sent.
    held: HashMap<Id, String>,
    specs: Vec<LeasedSpec>,
}

impl Carried {
    pub(super) fn specs(&self) -> Vec<LeasedSpec> {
        self.specs.clone()
    }
}

impl Shift {
    /// What is to be sent now, by what the remote has.
    pub(super) fn carried(&self, view: &View) -> Carried {
        let mut carried = Carried {
            snapshots: view.snapshots.iter().map(|(id, commit)| (*id, commit.clone())).collect(),
            said: view.said.iter().map(|(id, commit)| (*id, commit.clone())).collect(),
            left_out: HashMap::new(),
            held: HashMap::new(),
            specs: self.logs(),
        };
        for (id, job) in &self.running {
            let snapshot = snapshot(&self.store, &job.agent, &self.redactor);
            if let Ok(Some(Snapshot { left_out, .. })) = &snapshot
                && !left_out.is_empty()
            {
                self.say_left_out(id, left_out);
                carried.left_out.insert(*id, left_out.clone());
            }
            match snapshot.map(|snapshot| snapshot.map(|snapshot| snapshot.commit)) {
                Ok(Some(commit)) if self.is_news(view.snapshots.get(id), &commit) => {
                    if let Some(held) = self.held(&job.agent, &commit) {
                        let words = held.words();
                        if self.carried.held.get(id) != Some(&words) {
                            self.say(Some(*id), format!("what it does is not sent: {words}"));
                        }
                        carried.held.insert(*id, words);
                    } else {
                        let old = view.snapshots.get(id);
                        carried.specs.extend(self.spec(SNAPSHOT_REFS, id, old, Some(&commit)));
                        carried.snapshots.insert(*id, commit);
                    }
                }
                Ok(_) => {}
                Err(error) => tracing::debug!("no snapshot of {}: {error}", job.agent.name),
            }
            let old = view.said.get(id);
            match self.what_was_said(&job.agent) {
                Ok(Some(commit)) if self.is_news(old, &commit) => {
                    carried.specs.extend(self.spec(SAID_REFS, id, old, Some(&commit)));
                    carried.said.insert(*id, commit);
                }
                Ok(_) => {}
                Err(error) => tracing::debug!("not what {} said: {error}", job.agent.name),
            }
        }
        carried.specs.extend(self.useless(view).unwrap_or_default());
        carried
    }

    /// Says once which files stay here.
    fn say_left_out(&self, agent: &Id, files: &[BString]) {
        if self.carried.left_out.get(agent).is_some_and(|said| said == files) {
            return;
        }
        let names: Vec<String> =
            files.iter().map(|file| sanitise_line(&file.to_str_lossy()).into_owned()).collect();
        let text = format!(
            "not sent while it is uncommitted, because it holds what looks like a secret: {}",
            names.join(", ")
        );
        self.say(Some(*agent), text);
    }

    /// When a run is over: its branch has what it did, and what it said is whole. Both go with the next push.
    pub(super) fn carry_end(&mut self, job: &Job) {
        let id = job.agent.id;
        if let Some(old) = self.carried.snapshots.remove(&id) {
            self.spec(SNAPSHOT_REFS, &id, Some(&old), None)
                .into_iter()
                .for_each(|spec| self.worker.queue.send_along(spec));
        }
        // Some programs choose the conversation's id themselves, and the record of the run knows it.
        let agent = self.store.state().and_then(|state| state.get::<Agent>(&id));
        let said = agent.map_err(Error::from).and_then(|agent| match agent {
            Some(agent) => self.what_was_said(&agent),
            None => Ok(None),
        });
        let old = self.carried.said.get(&id).cloned();
        if let Ok(Some(commit)) = said
            && self.is_news(old.as_ref(), &commit)
        {
            self.spec(SAID_REFS, &id, old.as_ref(), Some(&commit))
                .into_iter()
                .for_each(|spec| self.worker.queue.send_along(spec));
        }
    }

    fn what_was_said(&self, agent: &Agent) -> Result<Option<ObjectId>, Error> {
        if !self.worker.transcripts {
            return Ok(None);
        }
        let run = agent.last_run().map_or(0, |(run, _)| run);
        let outfit = &self.worker.outfit;
        let env = environment(&self.surroundings.env, &outfit.profile, agent, run, None);
        let tree = said::gather(&self.store, agent, outfit, &env, &self.redactor)?;
        tree.map(|tree| said::commit(&self.store, agent, &tree)).transpose()
    }

    /// The transcripts of this machine, where they are to be sent: most of them the remote has already.
    fn logs(&self) -> Vec<LeasedSpec> {
        let (Some(remote), true) = (self.worker.queue.remote(), self.worker.transcripts) else {
            return Vec::new();
        };
        let Ok(machine) = self.store.machine() else { return Vec::new() };
        let logs = self.store.repo().list_refs(&format!("{LOG_REFS}{machine}/")).unwrap_or_default();
        let spec = |(name, new): (String, ObjectId)| LeasedSpec {
            name: remote.there(&name),
            new: Some(new),
            lease: Lease::Forward,
        };
        logs.into_iter().map(spec).collect()
    }

    /// Refs of agents of ours whose work is over for good.
    fn useless(&self, view: &View) -> Result<Vec<LeasedSpec>, Error> {
        let ids: BTreeSet<Id> = view.said.keys().chain(view.snapshots.keys()).copied().collect();
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let (state, here) = (self.store.state()?, self.store.machine()?);
        let mut specs = Vec::new();
        for agent in state.several::<Agent>(&ids)? {
            let closed = match &agent.task {
                Some(task) => state.get::<Task>(task)?.is_some_and(|task| task.status == TaskStatus::Closed),
                None => false,
            };
            let over = agent.machine == here && (closed || agent.removed.is_some());
            if !over || self.running.contains_key(&agent.id) {
                continue;
            }
            for (prefix, there) in [(SAID_REFS, &view.said), (SNAPSHOT_REFS, &view.snapshots)] {
                if let Some(old) = there.get(&agent.id) {
                    specs.extend(self.spec(prefix, &agent.id, Some(old), None));
                }
            }
        }
        Ok(specs)
    }

    /// Two commits of the same content differ by their time.
    fn is_news(&self, old: Option<&ObjectId>, new: &ObjectId) -> bool {
        let repo = self.store.repo();
        let content = |commit: &ObjectId| repo.read_commit(commit).map(|read| (read.tree, read.parents)).ok();
        old.is_none_or(|old| old != new && content(old) != content(new))
    }

    fn spec(
        &self,
        prefix: &str,
        agent: &Id,
        old: Option<&ObjectId>,
        new: Option<&ObjectId>,
    ) -> Option<LeasedSpec> {
        let name = self.worker.queue.remote()?.there(&format!("{prefix}{agent}"));
        let lease = old.cloned().map_or(Lease::Absent, Lease::At);
        Some(LeasedSpec { name, new: new.cloned(), lease })
    }
}

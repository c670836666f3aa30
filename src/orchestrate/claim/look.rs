//! What a remote has of the queue: its claims and heartbeats, in one round trip, and its state where that moved.

use super::Queue;
use crate::git::{self, Trouble};
use crate::model::{Id, ObjectId};
use crate::orchestrate::heartbeat::Watch;
use crate::orchestrate::sync::{self, Remote};
use crate::orchestrate::{Error, claim::retrying};
use crate::store::{
    CLAIM_REFS, ClaimRecord, Heartbeat, LOG_REFS, MACHINE_REFS, SAID_REFS, SNAPSHOT_REFS, STATE_REF, Store,
};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a remote had when it was asked.
#[derive(Debug, Default)]
pub struct View {
    /// Claims, by what they are of.
    pub claims: BTreeMap<Id, ObjectId>,
    /// Heartbeats, by machine.
    pub machines: BTreeMap<String, ObjectId>,
    /// Snapshots of agents' uncommitted work.
    pub snapshots: BTreeMap<Id, ObjectId>,
    /// What agents said.
    pub said: BTreeMap<Id, ObjectId>,
    /// Transcripts, by our names of their refs.
    pub logs: Vec<String>,
    /// Names under ours that are none, escaped; nothing is done with them.
    pub quarantined: Vec<String>,
}

impl View {
    /// Sorts what a remote listed; names that do not fit the grammar are kept out.
    fn of(remote: &Remote, listed: BTreeMap<String, ObjectId>) -> Self {
        let mut view = Self::default();
        let [claims, machines, snapshots, said] =
            [CLAIM_REFS, MACHINE_REFS, SNAPSHOT_REFS, SAID_REFS].map(|prefix| remote.there(prefix));
        for (name, commit) in listed {
            if let Some(log) = log_name(remote, &name) {
                view.logs.push(log);
                continue;
            }
            let fits = if let Some(rest) = name.strip_prefix(&claims) {
                rest.parse().map(|id| view.claims.insert(id, commit)).is_ok()
            } else if let Some(rest) = name.strip_prefix(&machines) {
                Store::is_machine(rest) && {
                    view.machines.insert(rest.to_owned(), commit);
                    true
                }
            } else if let Some(rest) = name.strip_prefix(&snapshots) {
                rest.parse().map(|id| view.snapshots.insert(id, commit)).is_ok()
            } else if let Some(rest) = name.strip_prefix(&said) {
                rest.parse().map(|id| view.said.insert(id, commit)).is_ok()
            } else {
                true
            };
            if !fits {
                view.quarantined.push(name.escape_default().to_string());
            }
        }
        view
    }
}

/// Our name of a ref with transcripts: a machine and a week.
fn log_name(remote: &Remote, name: &str) -> Option<String> {
    let rest = name.strip_prefix(&remote.there(LOG_REFS))?;
    let (machine, week) = rest.split_once('/')?;
    let plain = !week.is_empty() && week.bytes().all(|b| b.is_ascii_digit() || b == b'-' || b == b'W');
    (Store::is_machine(machine) && plain).then(|| format!("{LOG_REFS}{rest}"))
}

/// Whether a fetch brought what it was to bring, or what it did not bring is nothing to wait for: it went meanwhile, or
/// no machine of ours wrote it.
fn left_out(fetched: Result<(), git::Error>) -> Result<(), Error> {
    match fetched {
        Err(
            error @ (git::Error::RemoteLacks { .. }
            | git::Error::Remote { trouble: Trouble::Flood | Trouble::Unsound, .. }),
        ) => {
            tracing::debug!("left out: {error}");
            Ok(())
        }
        fetched => Ok(fetched?),
    }
}

impl Queue {
    /// Asks the remote what it has, and merges its state where that is not merged yet.
    ///
    /// # Errors
    /// [`Error::Alarm`] if the remote does not have any more what we had seen of it.
    pub fn look(&self) -> Result<View, Error> {
        let Some(remote) = &self.remote else { return Ok(View::default()) };
        let begun = Instant::now();
        let repo = self.store.repo();
        let root = remote.there("refs/orchestra/");
        let listed = retrying(&self.store, || Ok(repo.list_remote(&remote.name, &root, remote.deadline)?))?;
        let there = listed.get(&remote.there(STATE_REF));
        let seen = repo.find_ref(&remote.tracking(STATE_REF))?;
        // What was seen may not be merged: `fetch` merges nothing, and a kill may have come in between.
        let merged = match (there, repo.find_ref(STATE_REF)?) {
            (Some(there), Some(ours)) => seen.as_ref() == Some(there) && repo.is_ancestor(there, &ours)?,
            (there, _) => there.is_none() && seen.is_none(),
        };
        if !merged {
            let seen = retrying(&self.store, || sync::fetch(&self.store, remote))?;
            for lost in seen.iter().filter_map(|one| one.lost.as_ref()) {
                let text = format!("alarm: {} went back: {lost}; nothing is lost here", remote.name);
                self.said.borrow_mut().push(text);
            }
            let unmerged = match sync::absorb(&self.store, &seen) {
                Ok(_) => None,
                // Claims go on without: whoever cannot merge one record has not lost what he holds.
                Err(Error::Store(error @ crate::store::Error::TooMuch { .. })) => {
                    Some(format!("the state of {} was not merged: {error}", remote.name))
                }
                Err(error) => return Err(error),
            };
            // Once: a worker looks again and again.
            if *self.unmerged.borrow() != unmerged {
                self.said.borrow_mut().extend(unmerged.clone());
                self.unmerged.replace(unmerged);
            }
        }
        let view = View::of(remote, listed);
        let clock = &**self.store.clock();
        let mut watch = Watch::load(repo, clock);
        for (machine, commit) in &view.machines {
            watch.observe(&remote.name, &format!("{MACHINE_REFS}{machine}"), Some(commit), clock);
        }
        watch.answered(&remote.name, clock);
        watch.retain(&remote.name, |name| {
            let claim = name.strip_prefix(CLAIM_REFS).and_then(|id| id.parse::<Id>().ok());
            claim.is_none_or(|id| view.claims.contains_key(&id))
        });
        watch.save(repo);
        self.round.set(begun.elapsed());
        Ok(view)
    }

    /// Brings the commits of claims and heartbeats here that are not here yet. What went meanwhile, or is not sound, is
    /// left out: then nothing is known of it.
    ///
    /// # Errors
    /// If the remote could not be asked, or what it sent could not be taken in.
    pub(in crate::orchestrate) fn fetch_missing(&self, wanted: &[(String, &ObjectId)]) -> Result<(), Error> {
        let Some(remote) = &self.remote else { return Ok(()) };
        let repo = self.store.repo();
        let names: Vec<String> = wanted
            .iter()
            .filter(|(_, commit)| !repo.has_object(commit))
            .map(|(name, _)| remote.there(name))
            .collect();
        for some in names.chunks(200) {
            let some: Vec<&str> = some.iter().map(String::as_str).collect();
            let fetch = |names: &[&str]| repo.fetch_objects(&remote.name, names, remote.deadline);
            match fetch(&some) {
                // One that went meanwhile fails all of them.
                Err(error) if some.len() > 1 => {
                    tracing::debug!("one by one: {error}");
                    some.iter().try_for_each(|one| left_out(fetch(&[one])))?;
                }
                fetched => left_out(fetched)?,
            }
        }
        Ok(())
    }

    /// What the claims of `ids` say, as far as it can be known.
    ///
    /// # Errors
    /// As [`Queue::look`]: what could not be asked is no answer.
    pub fn read_claims(&self, view: &View, ids: &[Id]) -> Result<BTreeMap<Id, ClaimRecord>, Error> {
        let listed: Vec<(&Id, &ObjectId)> =
            ids.iter().filter_map(|id| Some((id, view.claims.get(id)?))).collect();
        let names: Vec<_> =
            listed.iter().map(|(id, commit)| (format!("{CLAIM_REFS}{id}"), *commit)).collect();
        self.fetch_missing(&names)?;
        let mut claims = BTreeMap::new();
        for (id, commit) in listed {
            claims.extend(self.store.read_claim(commit, id)?.map(|claim| (*id, claim)));
        }
        Ok(claims)
    }

    /// What the machines say of themselves, as far as it can be known.
    ///
    /// # Errors
    /// As [`Queue::look`]: what could not be asked is no answer.
    pub fn read_machines(&self, view: &View) -> Result<BTreeMap<String, Heartbeat>, Error> {
        let names: Vec<_> =
            view.machines.iter().map(|(machine, id)| (format!("{MACHINE_REFS}{machine}"), id)).collect();
        self.fetch_missing(&names)?;
        let mut machines = BTreeMap::new();
        for (machine, commit) in &view.machines {
            let heartbeat = self.store.read_heartbeat(commit, machine)?;
            machines.extend(heartbeat.map(|heartbeat| (machine.clone(), heartbeat)));
        }
        Ok(machines)
    }

    /// For how long this machine has seen the holder of a claim say nothing, by its own clock: neither a heartbeat
    /// nor the claim changed. The first look at either begins the time.
    pub fn silence(&self, view: &View, of: &Id, claim: &ClaimRecord) -> Option<Duration> {
        let remote = &self.remote.as_ref()?.name;
        let (repo, clock) = (self.store.repo(), &**self.store.clock());
        let mut watch = Watch::load(repo, clock);
        let (claim_ref, machine_ref) =
            (format!("{CLAIM_REFS}{of}"), format!("{MACHINE_REFS}{}", claim.machine));
        watch.observe(remote, &claim_ref, view.claims.get(of), clock);
        watch.observe(remote, &machine_ref, view.machines.get(&claim.machine), clock);
        watch.save(repo);
        let both = [claim_ref, machine_ref].map(|name| watch.silence(remote, &name, clock));
        both.into_iter().min().flatten()
    }

    /// For how long a machine's heartbeat was seen unchanged, by this machine's clock.
    pub fn machine_silence(&self, machine: &str) -> Option<Duration> {
        let remote = &self.remote.as_ref()?.name;
        let clock = &**self.store.clock();
        Watch::load(self.store.repo(), clock).silence(remote, &format!("{MACHINE_REFS}{machine}"), clock)
    }
}

//! Heartbeats: what this machine says of itself, and for how long it has heard nothing new of others.
//!
//! Silence is measured by this machine's own clock, from when it first saw a heartbeat that is still the same now;
//! no time that another machine wrote is ever compared with ours. What was seen is kept in
//! `orchestra/watched.json` in the git directory, with the boot whose clock it belongs to.

use super::{Error, lease};
use crate::git::Repository;
use crate::model::{Agent, ObjectId, Timestamp};
use crate::process::{Clock, Uptime, host_name};
use crate::store::{Heartbeat, LiveAgent, MACHINE_REFS, State, Store};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::PathBuf;
use std::time::Duration;

/// What was seen of refs that say whether somebody is alive, and since when it is unchanged.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(super) struct Watch {
    boot: String,
    /// By remote and what the ref is called there.
    seen: BTreeMap<String, Sighting>,
    /// By remote, when it was last asked: milliseconds since the boot.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    asked: BTreeMap<String, u64>,
    #[serde(skip)]
    changed: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Sighting {
    /// The commit; absent if there was no such ref.
    commit: Option<ObjectId>,
    /// Milliseconds since the boot.
    since: u64,
}

impl Watch {
    /// What is remembered; nothing if the machine was started anew since: its clock began again.
    pub(super) fn load(repo: &Repository, clock: &dyn Clock) -> Self {
        let Uptime { boot, .. } = clock.up();
        let read =
            std::fs::read(path(repo)).ok().and_then(|bytes| serde_json::from_slice::<Self>(&bytes).ok());
        read.filter(|watch| watch.boot == boot).unwrap_or_else(|| Self { boot, ..Self::default() })
    }

    /// Takes in what a ref of a remote is now.
    pub(super) fn observe(&mut self, remote: &str, name: &str, now: Option<&ObjectId>, clock: &dyn Clock) {
        let key = key(remote, name);
        if self.seen.get(&key).is_some_and(|seen| seen.commit.as_ref() == now) {
            return;
        }
        let sighting = Sighting { commit: now.cloned(), since: millis(clock) };
        self.seen.insert(key, sighting);
        self.changed = true;
    }

    /// A remote said what it has.
    pub(super) fn answered(&mut self, remote: &str, clock: &dyn Clock) {
        self.asked.insert(remote.to_owned(), millis(clock));
        self.changed = true;
    }

    /// How long ago a remote last said what it has, if that is known.
    pub(super) fn since_answer(&self, remote: &str, clock: &dyn Clock) -> Option<Duration> {
        Some(Duration::from_millis(millis(clock).saturating_sub(*self.asked.get(remote)?)))
    }

    /// The machines that a remote had heartbeats of when it was last asked: the commit of each, and for how long that was
    /// unchanged by then.
    pub(super) fn machines(&self, remote: &str) -> Vec<(&str, &ObjectId, Duration)> {
        let prefix = key(remote, MACHINE_REFS);
        let machines = self.seen.iter().filter_map(|(key, seen)| {
            let then = self.asked.get(remote).map_or(0, |asked| asked.saturating_sub(seen.since));
            Some((key.strip_prefix(&prefix)?, seen.commit.as_ref()?, Duration::from_millis(then)))
        });
        machines.collect()
    }

    /// For how long a ref was seen unchanged; nothing if it was never observed.
    pub(super) fn silence(&self, remote: &str, name: &str, clock: &dyn Clock) -> Option<Duration> {
        let seen = self.seen.get(&key(remote, name))?;
        Some(Duration::from_millis(millis(clock).saturating_sub(seen.since)))
    }

    /// The least time for which a ref was seen unchanged on any remote; nothing if none had it.
    fn least_silence(&self, name: &str, clock: &dyn Clock) -> Option<Duration> {
        let of_it = |key: &String| key.split_once(' ').is_some_and(|(_, known)| known == name);
        let seen = self.seen.iter().filter(|(key, seen)| of_it(key) && seen.commit.is_some());
        seen.map(|(_, seen)| Duration::from_millis(millis(clock).saturating_sub(seen.since))).min()
    }

    /// Forgets refs of a remote that are gone.
    pub(super) fn retain(&mut self, remote: &str, keep: impl Fn(&str) -> bool) {
        let before = self.seen.len();
        let prefix = key(remote, "");
        self.seen.retain(|key, _| key.strip_prefix(&prefix).is_none_or(&keep));
        self.changed |= self.seen.len() != before;
    }

    /// Keeps it for the next command. Failing to is no error: then a takeover waits longer.
    pub(super) fn save(&mut self, repo: &Repository) {
        if !std::mem::take(&mut self.changed) {
            return;
        }
        let path = path(repo);
        let written = serde_json::to_vec(self).map_err(std::io::Error::from).and_then(|bytes| {
            let mut file = tempfile::NamedTempFile::new_in(repo.local_dir())?;
            file.write_all(&bytes)?;
            file.persist(&path).map_err(|error| error.error).map(drop)
        });
        if let Err(error) = written {
            tracing::debug!("cannot keep {}: {error}", path.display());
        }
    }
}

fn key(remote: &str, name: &str) -> String {
    // No name of a remote that we use holds a blank.
    format!("{remote} {name}")
}

fn millis(clock: &dyn Clock) -> u64 {
    u64::try_from(clock.up().since_boot.as_millis()).unwrap_or(u64::MAX)
}

fn path(repo: &Repository) -> PathBuf {
    repo.local_dir().join("watched.json")
}

/// How long ago a machine was heard of, by this machine's clock; nothing if no heartbeat of it was ever seen. Asks
/// nobody.
pub(super) fn heard(store: &Store, machine: &str) -> Option<Duration> {
    let clock = &**store.clock();
    Watch::load(store.repo(), clock).least_silence(&format!("{MACHINE_REFS}{machine}"), clock)
}

/// What this machine has to say of itself now, after `last`.
pub(super) fn own(
    store: &Store,
    state: &State,
    last: Option<&Heartbeat>,
    ttl: Duration,
) -> Result<Heartbeat, Error> {
    let mut agents = Vec::new();
    for info in lease::live(store.repo()) {
        let task = state.get::<Agent>(&info.agent)?.and_then(|agent| agent.task);
        agents.push(LiveAgent { id: info.agent, name: info.name, run: info.run, task, since: info.since });
    }
    agents.sort_by_key(|agent| agent.id);
    let at: Timestamp = store.clock().now();
    Ok(Heartbeat {
        machine: store.machine()?,
        host: host_name()
            .chars()
            .filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c))
            .take(63)
            .collect(),
        // Two processes of one clone may say the same number; their words differ by the time.
        counter: last.map_or(0, |last| last.counter).saturating_add(1).max(at.as_millis()),
        ttl: ttl.as_secs().max(1),
        at,
        agents,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;
    use crate::process::ManualClock;

    #[test]
    fn silence_is_measured_by_our_own_clock_and_survives_the_process() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        std::fs::create_dir_all(repo.local_dir()).unwrap();
        let clock = ManualClock::new(Timestamp(50_000));
        let id = |digit: &str| -> ObjectId { digit.repeat(40).parse().unwrap() };
        let (name, one, two) = ("refs/orchestra/machines/k3v8w0", id("1"), id("2"));
        let mut watch = Watch::load(&repo, &clock);
        assert_eq!(watch.silence("origin", name, &clock), None, "never seen");
        watch.observe("origin", name, Some(&one), &clock);
        clock.advance(4_000);
        watch.observe("origin", name, Some(&one), &clock);
        watch.save(&repo);
        let mut watch = Watch::load(&repo, &clock);
        assert_eq!(watch.silence("origin", name, &clock), Some(Duration::from_secs(4)));
        watch.observe("origin", name, Some(&two), &clock);
        assert_eq!(watch.silence("origin", name, &clock), Some(Duration::ZERO), "it spoke");
        clock.advance(1_000);
        watch.observe("origin", name, None, &clock);
        assert_eq!(watch.silence("origin", name, &clock), Some(Duration::ZERO), "going is news too");
        watch.retain("origin", |_| false);
        watch.save(&repo);
        assert_eq!(Watch::load(&repo, &clock).silence("origin", name, &clock), None);
    }

    #[test]
    fn another_boot_has_another_clock() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        std::fs::create_dir_all(repo.local_dir()).unwrap();
        let clock = ManualClock::new(Timestamp(50_000));
        let mut watch = Watch { boot: "the last one".to_owned(), ..Watch::default() };
        watch.observe("origin", "x", None, &clock);
        watch.save(&repo);
        assert_eq!(Watch::load(&repo, &clock).silence("origin", "x", &clock), None);
    }
}

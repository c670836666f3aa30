//! Leases: "running" means that somebody alive holds the agent's lease, never a stored word.
//!
//! Two files an agent under `orchestra/leases/` in the git directory: `<id>.lock`, locked by the process that
//! watches the agent for as long as it lives, and `<id>.json`, which says who that is and what it watches.

use super::Error;
use crate::git::Repository;
use crate::model::{Id, Name, Timestamp};
use crate::process::{FileLock, Identity};
use serde::{Deserialize, Serialize};
use std::fs::DirBuilder;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Who watches an agent, and what.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// The agent.
    pub agent: Id,
    /// Its name.
    pub name: Name,
    /// The run.
    pub run: u32,
    /// Whether its process was started, or waits for its turn.
    pub state: LeaseState,
    /// The process that watches it.
    pub supervisor: Identity,
    /// The agent's process, once started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub child: Option<Identity>,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// The socket at which the process that watches it answers (see `control`), once it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub control: Option<String>,
    /// The questions that its program waits with for an answer, each with its decision where it was recorded as one. A
    /// decision that is not here is not what it waits for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<Option<Id>>,
    /// When one of them was answered last, or was not waited for any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<Timestamp>,
}

/// What the holder of a lease does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LeaseState {
    /// The run waits for its turn.
    Queued,
    /// Its worktree is made ready for it by a command of the settings.
    Preparing,
    /// The run was started.
    Running,
}

/// A lease that this process holds. Dropping it without [`Lease::release`] leaves the files for `recover`.
#[derive(Debug)]
pub struct Lease {
    lock: FileLock,
    dir: PathBuf,
    info: LeaseInfo,
}

impl LeaseInfo {
    /// `KEY` of the variable by which everything that a run started is recognised; [`LeaseInfo::mark`] is its value.
    pub const MARK: &str = "GIT_ORCHESTRA_RUN";

    /// That of a run which waits for its turn, watched by this process.
    pub fn queued(agent: Id, name: Name, run: u32, since: Timestamp) -> Self {
        Self {
            agent,
            name,
            run,
            state: LeaseState::Queued,
            supervisor: Identity::own(),
            child: None,
            since,
            control: None,
            questions: Vec::new(),
            answered: None,
        }
    }

    /// The value of the variable [`LeaseInfo::MARK`].
    pub fn mark(&self) -> String {
        format!("{}/{}", self.agent, self.run)
    }
}

impl Lease {
    /// Takes the lease of an agent that is not started yet; `None` if somebody alive holds it.
    pub fn take(repo: &Repository, info: LeaseInfo) -> Result<Option<Self>, Error> {
        let dir = directory(repo);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| Error::file("create", &dir, e))?;
        let Some(lock) = lock(&dir, &info.agent)? else { return Ok(None) };
        let lease = Self { lock, dir, info };
        lease.write()?;
        Ok(Some(lease))
    }

    /// What it says.
    pub const fn info(&self) -> &LeaseInfo {
        &self.info
    }

    /// Says that the run's process was started, or is about to be (`None`).
    pub fn started(&mut self, child: Option<Identity>, at: Timestamp) -> Result<(), Error> {
        self.info.state = LeaseState::Running;
        self.info.child = child;
        self.info.since = at;
        self.write()
    }

    /// Says that the run's worktree is made ready from here on.
    pub(super) fn preparing(&mut self, at: Timestamp) -> Result<(), Error> {
        self.info.state = LeaseState::Preparing;
        self.info.since = at;
        self.write()
    }

    /// A handle by which another process can hold it too, see [`Lease::adopt`].
    pub(super) fn share(&self) -> Result<OwnedFd, Error> {
        self.lock.share().map_err(|e| Error::file("share", lock_path(&self.dir, &self.info.agent), e))
    }

    /// Holds a lease from here on whose former holder gave a `handle` of it. It is never free in between.
    pub(super) fn adopt(repo: &Repository, info: LeaseInfo, handle: OwnedFd) -> Result<Self, Error> {
        let dir = directory(repo);
        let path = lock_path(&dir, &info.agent);
        let lock = FileLock::adopt(handle, &path).map_err(|e| Error::file("lock", &path, e))?;
        let lock = lock.ok_or_else(|| {
            Error::refused(format!("take over {}: it was not handed over", info.name), None)
        })?;
        let lease = Self {
            lock,
            dir,
            info: LeaseInfo { supervisor: Identity::own(), control: None, questions: Vec::new(), ..info },
        };
        lease.write()?;
        Ok(lease)
    }

    /// Says at which socket its holder answers.
    pub(super) fn answers_at(&mut self, control: &str) -> Result<(), Error> {
        self.info.control = Some(control.to_owned());
        self.write()
    }

    /// Says with which questions its program waits now, from `at` on.
    pub(super) fn asks(&mut self, questions: Vec<Option<Id>>, at: Timestamp) -> Result<(), Error> {
        if self.info.questions == questions {
            return Ok(());
        }
        if questions.len() < self.info.questions.len() {
            self.info.answered = Some(at);
        }
        self.info.questions = questions;
        self.write()
    }

    /// Gives it up: the run is over and recorded.
    pub fn release(self) -> Result<(), Error> {
        let json = json_path(&self.dir, &self.info.agent);
        std::fs::remove_file(&json).map_err(|e| Error::file("remove", json, e))?;
        let path = lock_path(&self.dir, &self.info.agent);
        self.lock.remove(&path).map_err(|e| Error::file("remove", path, e))
    }

    fn write(&self) -> Result<(), Error> {
        let path = json_path(&self.dir, &self.info.agent);
        let temporary = path.with_extension("tmp");
        let bytes = serde_json::to_vec(&self.info).map_err(|e| Error::file("write", &path, e.into()))?;
        std::fs::write(&temporary, bytes).map_err(|e| Error::file("write", &temporary, e))?;
        std::fs::rename(&temporary, &path).map_err(|e| Error::file("write", path, e))
    }

    /// Lets go of it after the change that it was for failed. Was that refused, nothing is there; otherwise it may be in
    /// the state all the same (the disk was full when it had been written), and the files stay for `recover`.
    pub(super) fn give_up(self, error: &Error) -> Result<(), Error> {
        if matches!(error, Error::Refused { .. } | Error::NameTaken { .. }) { self.release() } else { Ok(()) }
    }
}

/// The leases that somebody alive holds, by agent. Reads a few small files; starts nothing.
pub fn live(repo: &Repository) -> Vec<LeaseInfo> {
    let dir = directory(repo);
    let held = agents(&dir).into_iter().filter(|agent| FileLock::is_held(&lock_path(&dir, agent)));
    held.filter_map(|agent| read(&dir, &agent)).collect()
}

/// Every lease that is written down, whether or not somebody alive holds it.
pub(super) fn all(repo: &Repository) -> Vec<LeaseInfo> {
    let dir = directory(repo);
    agents(&dir).iter().filter_map(|agent| read(&dir, agent)).collect()
}

/// The lease of one agent, if somebody alive holds it.
///
/// # Errors
/// If that cannot be told: a file that cannot be read is no lease that nobody holds.
pub(super) fn look_for(repo: &Repository, agent: &Id) -> Result<Option<LeaseInfo>, Error> {
    let dir = directory(repo);
    let path = lock_path(&dir, agent);
    if !FileLock::find_holder(&path).map_err(|e| Error::file("read", &path, e))? {
        return Ok(None);
    }
    let path = json_path(&dir, agent);
    match std::fs::read(&path) {
        // Its holder has not written it yet, or is about to be over.
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
        Err(e) => Err(Error::file("read", &path, e)),
    }
}

/// The lease of one agent, if somebody alive holds it, as far as that can be told.
pub fn find_live(repo: &Repository, agent: &Id) -> Option<LeaseInfo> {
    let dir = directory(repo);
    FileLock::is_held(&lock_path(&dir, agent)).then(|| read(&dir, agent)).flatten()
}

/// The process of an agent that still runs though nobody alive holds its lease.
pub(super) fn find_left(repo: &Repository, agent: &Id) -> Option<u32> {
    let dir = directory(repo);
    let child = read(&dir, agent).filter(|_| !FileLock::is_held(&lock_path(&dir, agent)))?.child?;
    child.is_alive().then_some(child.pid)
}

/// How many leases nobody alive holds any more.
pub fn dead(repo: &Repository) -> usize {
    let dir = directory(repo);
    agents(&dir).iter().filter(|agent| !FileLock::is_held(&lock_path(&dir, agent))).count()
}

/// Takes over the leases whose holders died. One directory listing when there is none.
pub fn take_dead(repo: &Repository) -> Result<Vec<Lease>, Error> {
    let dir = directory(repo);
    let mut dead = Vec::new();
    for agent in agents(&dir) {
        if FileLock::is_held(&lock_path(&dir, &agent)) {
            continue;
        }
        let Some(lock) = lock(&dir, &agent)? else { continue };
        if let Some(info) = read(&dir, &agent) {
            dead.push(Lease { lock, dir: dir.clone(), info });
        } else {
            // Its holder died before it wrote, or after it removed, what it holds: nothing was started.
            let path = lock_path(&dir, &agent);
            lock.remove(&path).map_err(|e| Error::file("remove", path, e))?;
        }
    }
    Ok(dead)
}

/// Whether somebody alive holds the lease of this very run, in the [directory](directory) of whatever repository.
pub(super) fn is_live_in(dir: &Path, agent: &Id, run: u32) -> bool {
    FileLock::is_held(&lock_path(dir, agent)) && read(dir, agent).is_some_and(|info| info.run == run)
}

/// Where a repository keeps them.
pub(super) fn directory(repo: &Repository) -> PathBuf {
    repo.local_dir().join("leases")
}

fn lock_path(dir: &Path, agent: &Id) -> PathBuf {
    dir.join(format!("{agent}.lock"))
}

fn json_path(dir: &Path, agent: &Id) -> PathBuf {
    dir.join(format!("{agent}.json"))
}

fn agents(dir: &Path) -> Vec<Id> {
    let files = std::fs::read_dir(dir).into_iter().flatten().flatten();
    files.filter_map(|file| file.file_name().to_str()?.strip_suffix(".lock")?.parse().ok()).collect()
}

fn read(dir: &Path, agent: &Id) -> Option<LeaseInfo> {
    serde_json::from_slice(&std::fs::read(json_path(dir, agent)).ok()?).ok()
}

/// Somebody who only asks whether it is held keeps us out for a moment: that is no holder.
fn lock(dir: &Path, agent: &Id) -> Result<Option<FileLock>, Error> {
    let path = lock_path(dir, agent);
    for _ in 0..10 {
        if let Some(lock) = FileLock::attempt(&path).map_err(|e| Error::file("lock", &path, e))? {
            return Ok(Some(lock));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    fn info() -> LeaseInfo {
        LeaseInfo::queued(Id::from_random(5), "heron".parse().unwrap(), 1, Timestamp(1))
    }

    #[test]
    fn a_lease_lives_as_long_as_its_holder() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        assert!(live(&repo).is_empty() && take_dead(&repo).unwrap().is_empty());
        let mut lease = Lease::take(&repo, info()).unwrap().expect("nobody holds it");
        assert!(Lease::take(&repo, info()).unwrap().is_none(), "one holder");
        lease.started(Some(Identity::own()), Timestamp(2)).unwrap();
        let seen = find_live(&repo, &info().agent).expect("we hold it");
        assert_eq!(look_for(&repo, &info().agent).unwrap().as_ref(), Some(&seen));
        assert_eq!((seen.state, seen.since), (LeaseState::Running, Timestamp(2)));
        // When a question was answered is not when it was asked, or recorded as a decision.
        let asked = [(1, vec![None]), (2, vec![Some(Id::from_random(8))]), (3, vec![]), (4, vec![None])];
        let answered = asked.map(|(at, questions)| {
            lease.asks(questions, Timestamp(at)).unwrap();
            find_live(&repo, &info().agent).expect("we hold it").answered
        });
        assert_eq!(answered, [None, None, Some(Timestamp(3)), Some(Timestamp(3))]);
        assert!(take_dead(&repo).unwrap().is_empty());
        // A link to itself cannot be opened by anybody, whoever runs the tests.
        let path = lock_path(&directory(&repo), &Id::from_random(6));
        std::os::unix::fs::symlink(&path, &path).unwrap();
        assert!(
            look_for(&repo, &Id::from_random(6)).is_err()
                && look_for(&repo, &Id::from_random(7)).unwrap().is_none()
        );
        std::fs::remove_file(path).unwrap();
        drop(lease);
        // A child that another test forks right now holds our files until it runs its program.
        let limit = std::time::Instant::now() + Duration::from_secs(10);
        let mut dead = take_dead(&repo).unwrap();
        while dead.is_empty() && std::time::Instant::now() < limit {
            dead = take_dead(&repo).unwrap();
        }
        assert_eq!(dead.len(), 1);
        dead.remove(0).release().unwrap();
        assert!(std::fs::read_dir(directory(&repo)).unwrap().next().is_none());
    }
}

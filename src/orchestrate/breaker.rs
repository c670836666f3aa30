//! The circuit breaker: one for each program and account, shared by all agents of this user on this machine.
//!
//! It lies in a file of the user's data directory, `limits.json`, changed under a lock; nobody watches it. While it is open
//! nothing of that program starts. When its time is over one agent tries for all (half-open): if its model serves it
//! the breaker closes, otherwise it opens again, for longer.

use super::Error;
use super::lease;
use crate::git::Repository;
use crate::model::{Id, Timestamp};
use crate::process::FileLock;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::DirBuilder;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The longest pause where the program tells no time.
const LONGEST: Duration = Duration::from_secs(30 * 60);
/// The longest pause that a program's words are believed for: a week, as limits have it.
const BELIEVED: Duration = Duration::from_secs(8 * 86_400);

/// Why a model does not serve, and until when if the program told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limited {
    /// In a few words: `429 rate_limit`.
    pub why: String,
    /// When it serves again, in the program's own words.
    pub until: Option<Timestamp>,
}

/// A breaker that is open, or half-open.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// Since when.
    pub since: Timestamp,
    /// Until when nothing starts.
    pub until: Timestamp,
    /// How often it opened in a row.
    pub strikes: u32,
    /// Why.
    pub why: String,
    /// Whether the program told the time, or we chose it.
    pub told: bool,
    /// Who tries for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probe: Option<Probe>,
}

/// A run that tries for all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The agent.
    pub agent: Id,
    /// The run.
    pub run: u32,
    /// Where its repository keeps leases, by which it is known whether it goes on.
    pub leases: String,
}

impl Probe {
    /// A run of an agent of `repo`.
    pub(super) fn of(repo: &Repository, agent: Id, run: u32) -> Self {
        Self { agent, run, leases: lease::directory(repo).to_string_lossy().into_owned() }
    }

    fn lives(&self) -> bool {
        lease::is_live_in(Path::new(&self.leases), &self.agent, self.run)
    }
}

/// Whether a run may start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Admission {
    /// It may.
    Go,
    /// It may, and tries for all that wait.
    Try,
    /// Not before that time; and not before whoever tries has an answer.
    Wait(Open),
}

impl Open {
    /// One that opens now, or goes on to be open. What happens while it is open (others had asked before) is no further
    /// strike.
    fn tripped(
        before: Option<&Self>,
        limited: &Limited,
        first: Duration,
        now: Timestamp,
        random: u64,
    ) -> Self {
        let told = limited.until.filter(|until| *until > now && until.since(now) <= BELIEVED);
        let strikes = match before {
            Some(open) if now < open.until => open.strikes,
            Some(open) => open.strikes.saturating_add(1),
            None => 1,
        };
        let pause = first.saturating_mul(1 << (strikes - 1).min(16)).min(LONGEST.max(first));
        // Up to a quarter more, so that those who wait in several repositories do not come at once.
        let pause = pause + pause / 4 * u32::try_from(random % 64).unwrap_or(0) / 64;
        let own = now.after(pause);
        let still = before.filter(|open| now < open.until);
        let until = told.or(still.map(|open| open.until)).unwrap_or(own);
        Self {
            since: still.map_or(now, |open| open.since),
            until: still.map_or(until, |open| until.max(open.until)),
            strikes,
            why: limited.why.clone(),
            told: told.is_some() || still.is_some_and(|open| open.told),
            probe: None,
        }
    }

    /// Whether `me` may start now. `lives` says whether a run goes on.
    fn admit(&mut self, me: &Probe, now: Timestamp, lives: impl Fn(&Probe) -> bool) -> Admission {
        let tries = self.probe.as_ref().is_some_and(|probe| probe != me && lives(probe));
        if now < self.until || tries {
            return Admission::Wait(self.clone());
        }
        self.probe = Some(me.clone());
        Admission::Try
    }
}

/// The breaker of one program and account, as one run sees it.
#[derive(Debug, Clone)]
pub struct Breaker {
    dir: PathBuf,
    name: String,
    me: Probe,
    first: Duration,
}

type Board = BTreeMap<String, Open>;

impl Breaker {
    /// The breaker for a run of `program` in `env`. What it is told by, beside the program, is a digest of the variables
    /// that say who the user is and where the model: never those themselves. `dir` is where it lies, and is made if it is
    /// missing; `first` is how long the first pause is.
    pub(super) fn new(
        dir: &Path,
        program: &str,
        env: &BTreeMap<OsString, OsString>,
        says: impl Fn(&OsStr) -> bool,
        me: Probe,
        first: Duration,
    ) -> Self {
        let mut hash = Sha256::new();
        for (key, value) in env.iter().filter(|(key, value)| !value.is_empty() && says(key)) {
            for part in [key, value] {
                hash.update(u64::try_from(part.len()).expect("lengths fit").to_be_bytes());
                hash.update(part.as_encoded_bytes());
            }
        }
        let name = format!("{program} {}", &format!("{:x}", hash.finalize())[..8]);
        Self { dir: dir.to_owned(), name, me, first }
    }

    /// Whether the run may start.
    pub(super) fn admit(&self, now: Timestamp) -> Result<Admission, Error> {
        if !path(&self.dir).exists() {
            return Ok(Admission::Go);
        }
        self.change(|board| {
            board.get_mut(&self.name).map_or(Admission::Go, |open| open.admit(&self.me, now, Probe::lives))
        })
    }

    /// What [`Breaker::admit`] would say now; nothing follows from it.
    pub(super) fn look(&self, now: Timestamp) -> Admission {
        let open = read(&self.dir).remove(&self.name);
        open.map_or(Admission::Go, |mut open| open.admit(&self.me, now, Probe::lives))
    }

    /// Its model does not serve it: the breaker is open from now on.
    pub(super) fn trip(&self, limited: &Limited, now: Timestamp) -> Result<Open, Error> {
        let random = u64::try_from(uuid::Uuid::new_v4().as_u128() & 0xffff).unwrap_or(0);
        self.change(|board| {
            let open = Open::tripped(board.get(&self.name), limited, self.first, now, random);
            board.insert(self.name.clone(), open.clone());
            open
        })
    }

    /// Its model served it: what was open is closed, unless its time is not over. (Another model of the same account
    /// may serve meanwhile.)
    pub(super) fn served(&self, now: Timestamp) -> Result<(), Error> {
        if !path(&self.dir).exists() {
            return Ok(());
        }
        self.change(|board| {
            if board.get(&self.name).is_some_and(|open| now >= open.until) {
                board.remove(&self.name);
            }
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Board) -> T) -> Result<T, Error> {
        let dir = &self.dir;
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| Error::file("create", dir, e))?;
        let (path, lock) = (path(dir), dir.join("limits.lock"));
        let _lock = FileLock::wait(&lock).map_err(|e| Error::file("lock", &lock, e))?;
        let before = read(dir);
        let mut board = before.clone();
        let value = change(&mut board);
        if board != before {
            let write = || {
                let mut file = tempfile::NamedTempFile::new_in(dir)?;
                file.write_all(&serde_json::to_vec(&board)?)?;
                file.persist(&path)?;
                Ok(())
            };
            write().map_err(|e| Error::file("write", &path, e))?;
        }
        Ok(value)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("limits.json")
}

/// What cannot be read is thrown away: the next refusal says it again.
fn read(dir: &Path) -> Board {
    std::fs::read(path(dir)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The breakers of a directory that are open now, by program and account.
pub fn open(dir: &Path) -> BTreeMap<String, Open> {
    read(dir)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    const FIRST: Duration = Duration::from_secs(30);

    fn limited(until: Option<u64>) -> Limited {
        Limited { why: "429 rate_limit".to_owned(), until: until.map(Timestamp) }
    }

    fn me(number: u128) -> Probe {
        Probe { agent: Id::from_random(number), run: 1, leases: "/gone".to_owned() }
    }

    #[test]
    fn pauses_grow_from_strike_to_strike_and_not_while_it_is_open() {
        let trip =
            |before: Option<&Open>, now| Open::tripped(before, &limited(None), FIRST, Timestamp(now), 0);
        let first = trip(None, 1_000);
        assert_eq!((first.until.0, first.strikes, first.told), (31_000, 1, false));
        let others = trip(Some(&first), 2_000);
        assert_eq!((others.until, others.strikes, others.since), (first.until, 1, first.since));
        let second = trip(Some(&first), 31_000);
        assert_eq!((second.until.0, second.strikes), (91_000, 2));
        let late = (0..20).fold(second, |open, _| trip(Some(&open), open.until.0));
        assert_eq!(late.until.since(late.since), LONGEST);
        let jittered = Open::tripped(None, &limited(None), FIRST, Timestamp(0), 63).until.0;
        assert!((37_000..37_500).contains(&jittered), "{jittered}");
    }

    #[test]
    fn the_programs_own_time_counts_before_ours() {
        let trip = |until| Open::tripped(None, &limited(Some(until)), FIRST, Timestamp(1_000), 0);
        assert_eq!((trip(500_000).until.0, trip(500_000).told), (500_000, true));
        assert_eq!((trip(500).until.0, trip(500).told), (31_000, false), "it is past");
        assert!(!trip(u64::MAX).told, "nobody waits for ever");
        let earlier =
            Open::tripped(Some(&trip(500_000)), &limited(Some(400_000)), FIRST, Timestamp(2_000), 0);
        assert_eq!(earlier.until.0, 500_000, "the later one of two counts");
    }

    #[test]
    fn one_tries_for_all() {
        let mut open = Open::tripped(None, &limited(None), FIRST, Timestamp(0), 0);
        let lives = |_: &Probe| true;
        assert!(matches!(open.admit(&me(1), Timestamp(29_999), lives), Admission::Wait(_)));
        assert_eq!(open.admit(&me(1), Timestamp(30_000), lives), Admission::Try);
        assert!(matches!(open.admit(&me(2), Timestamp(30_001), lives), Admission::Wait(_)));
        assert_eq!(open.admit(&me(1), Timestamp(30_002), lives), Admission::Try, "it is the one");
        assert_eq!(
            open.admit(&me(2), Timestamp(30_003), |_: &Probe| false),
            Admission::Try,
            "the first one died"
        );
    }

    #[test]
    fn processes_share_it_by_program_and_account_in_whatever_repository() {
        let (sandbox, elsewhere) = (Sandbox::new(&[]), Sandbox::new(&[]));
        let dir = sandbox.dir.path().join("data/git-orchestra");
        let breaker = |repo: &Repository, key: &str, number| {
            let env = [("HOME", "/home/ada"), ("KEY", key), ("TOKEN", ""), ("TERM", "x")];
            let env = env.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            let me = Probe::of(repo, Id::from_random(number), 1);
            Breaker::new(&dir, "claude", &env, |name| name == "KEY" || name == "TOKEN", me, FIRST)
        };
        let (repo, other) = (sandbox.open(), elsewhere.open());
        let (one, two, three) = (breaker(&repo, "a", 1), breaker(&other, "a", 2), breaker(&repo, "b", 3));
        assert_eq!(
            (one.admit(Timestamp(0)).unwrap(), one.look(Timestamp(0))),
            (Admission::Go, Admission::Go)
        );
        one.trip(&limited(None), Timestamp(0)).unwrap();
        assert!(matches!(two.admit(Timestamp(1)).unwrap(), Admission::Wait(_)));
        assert_eq!(three.admit(Timestamp(1)).unwrap(), Admission::Go, "another account");
        let shown = open(&dir);
        assert!(
            shown.len() == 1
                && shown
                    .keys()
                    .all(|name| name.starts_with("claude ")
                        && !name.contains('a'.to_string().repeat(2).as_str()))
        );
        two.served(Timestamp(1)).unwrap();
        assert_eq!(open(&dir).len(), 1, "its time is not over");
        assert_eq!(two.look(Timestamp(60_000)), Admission::Try);
        assert_eq!(open(&dir).values().next().unwrap().probe, None, "it only looked");
        // Whoever tries is known by its lease, wherever that is.
        let lease = |repo: &Repository, number| {
            let (id, name) = (Id::from_random(number), "heron".parse().unwrap());
            let queued = lease::LeaseInfo::queued(id, name, 1, Timestamp(1));
            let info = lease::LeaseInfo { state: lease::LeaseState::Running, ..queued };
            lease::Lease::take(repo, info).unwrap().unwrap()
        };
        let held = lease(&other, 2);
        assert_eq!(two.admit(Timestamp(60_000)).unwrap(), Admission::Try);
        assert!(matches!(one.admit(Timestamp(60_000)).unwrap(), Admission::Wait(_)));
        held.release().unwrap();
        assert_eq!(one.admit(Timestamp(60_000)).unwrap(), Admission::Try, "the other one is over");
        two.served(Timestamp(60_001)).unwrap();
        assert_eq!((open(&dir).len(), one.admit(Timestamp(60_002)).unwrap()), (0, Admission::Go));
    }
}

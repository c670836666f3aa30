//! The circuit breaker: one for each program and account, shared by all agents of this repository on this machine.
//!
//! It lies in a file under the git directory, `limits.json`, changed under a lock; nobody watches it. While it is open
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
use std::io::Write as _;
use std::path::PathBuf;
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    /// The agent.
    pub agent: Id,
    /// The run.
    pub run: u32,
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
    fn admit(&mut self, me: Probe, now: Timestamp, lives: impl Fn(&Probe) -> bool) -> Admission {
        let tries = self.probe.is_some_and(|probe| probe != me && lives(&probe));
        if now < self.until || tries {
            return Admission::Wait(self.clone());
        }
        self.probe = Some(me);
        Admission::Try
    }
}

/// The breaker of one program and account, as one run sees it.
#[derive(Debug, Clone)]
pub struct Breaker {
    repo: Repository,
    name: String,
    me: Probe,
    first: Duration,
}

type Board = BTreeMap<String, Open>;

impl Breaker {
    /// The breaker for a run of `program` in `env`. What it is told by, beside the program, is a digest of the variables
    /// that say who the user is and where the model: never those themselves. `first` is how long the first pause is.
    pub(super) fn new(
        repo: &Repository,
        program: &str,
        env: &BTreeMap<OsString, OsString>,
        says: impl Fn(&OsStr) -> bool,
        me: Probe,
        first: Duration,
    ) -> Self {
        let mut hash = Sha256::new();
        for (key, value) in env.iter().filter(|(key, _)| says(key)) {
            for part in [key, value] {
                hash.update(u64::try_from(part.len()).expect("lengths fit").to_be_bytes());
                hash.update(part.as_encoded_bytes());
            }
        }
        let name = format!("{program} {}", &format!("{:x}", hash.finalize())[..8]);
        Self { repo: repo.clone(), name, me, first }
    }

    /// Whether the run may start.
    pub(super) fn admit(&self, now: Timestamp) -> Result<Admission, Error> {
        if !path(&self.repo).exists() {
            return Ok(Admission::Go);
        }
        self.change(|board| {
            let lives = |probe: &Probe| {
                lease::find_live(&self.repo, &probe.agent).is_some_and(|info| info.run == probe.run)
            };
            board.get_mut(&self.name).map_or(Admission::Go, |open| open.admit(self.me, now, lives))
        })
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
        if !path(&self.repo).exists() {
            return Ok(());
        }
        self.change(|board| {
            if board.get(&self.name).is_some_and(|open| now >= open.until) {
                board.remove(&self.name);
            }
        })
    }

    fn change<T>(&self, change: impl FnOnce(&mut Board) -> T) -> Result<T, Error> {
        let dir = self.repo.local_dir();
        let (path, lock) = (path(&self.repo), dir.join("limits.lock"));
        let _lock = FileLock::wait(&lock).map_err(|e| Error::file("lock", &lock, e))?;
        let before = read(&self.repo);
        let mut board = before.clone();
        let value = change(&mut board);
        if board != before {
            let write = || {
                let mut file = tempfile::NamedTempFile::new_in(&dir)?;
                file.write_all(&serde_json::to_vec(&board)?)?;
                file.persist(&path)?;
                Ok(())
            };
            write().map_err(|e| Error::file("write", &path, e))?;
        }
        Ok(value)
    }
}

fn path(repo: &Repository) -> PathBuf {
    repo.local_dir().join("limits.json")
}

/// What cannot be read is thrown away: the next refusal says it again.
fn read(repo: &Repository) -> Board {
    std::fs::read(path(repo)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// The breakers that are open now, by program and account.
pub fn open(repo: &Repository) -> BTreeMap<String, Open> {
    read(repo)
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
        Probe { agent: Id::from_random(number), run: 1 }
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
        assert!(matches!(open.admit(me(1), Timestamp(29_999), lives), Admission::Wait(_)));
        assert_eq!(open.admit(me(1), Timestamp(30_000), lives), Admission::Try);
        assert!(matches!(open.admit(me(2), Timestamp(30_001), lives), Admission::Wait(_)));
        assert_eq!(open.admit(me(1), Timestamp(30_002), lives), Admission::Try, "it is the one");
        assert_eq!(
            open.admit(me(2), Timestamp(30_003), |_: &Probe| false),
            Admission::Try,
            "the first one died"
        );
    }

    #[test]
    fn processes_share_it_by_program_and_account() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        std::fs::create_dir_all(repo.local_dir()).unwrap();
        let breaker = |key: &str, number| {
            let env = [("HOME", "/home/ada"), ("KEY", key), ("TERM", "x")];
            let env = env.into_iter().map(|(key, value)| (key.into(), value.into())).collect();
            Breaker::new(&repo, "claude", &env, |name| name == "KEY", me(number), FIRST)
        };
        let (one, two, other) = (breaker("a", 1), breaker("a", 2), breaker("b", 3));
        assert_eq!(one.admit(Timestamp(0)).unwrap(), Admission::Go);
        one.trip(&limited(None), Timestamp(0)).unwrap();
        assert!(matches!(two.admit(Timestamp(1)).unwrap(), Admission::Wait(_)));
        assert_eq!(other.admit(Timestamp(1)).unwrap(), Admission::Go, "another account");
        let shown = open(&repo);
        assert!(
            shown.len() == 1
                && shown
                    .keys()
                    .all(|name| name.starts_with("claude ")
                        && !name.contains('a'.to_string().repeat(2).as_str()))
        );
        two.served(Timestamp(1)).unwrap();
        assert_eq!(open(&repo).len(), 1, "its time is not over");
        assert_eq!(two.admit(Timestamp(60_000)).unwrap(), Admission::Try);
        two.served(Timestamp(60_001)).unwrap();
        assert_eq!((open(&repo).len(), one.admit(Timestamp(60_002)).unwrap()), (0, Admission::Go));
    }
}

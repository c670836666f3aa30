//! What the refs hold that many machines compete for: claims and heartbeats, each one commit without files.
//!
//! Both come from the remote as well, so both are read as what they are: data that somebody claims. What does not
//! fit the grammar of ids, names and machines is no claim and no heartbeat.

use super::{Error, Store, local};
use crate::git::{Identity, NewCommit};
use crate::model::{Id, Name, ObjectId, Timestamp};
use serde::{Deserialize, Serialize};

/// Claims of this clone here, all claims on a remote: the id of a task or an agent follows.
pub const CLAIM_REFS: &str = "refs/orchestra/claims/";
/// Heartbeats: the machine's name follows.
pub const MACHINE_REFS: &str = "refs/orchestra/machines/";
/// What agents had not committed yet when their machine was last heard of: the agent's id follows.
pub const SNAPSHOT_REFS: &str = "refs/orchestra/snapshots/";
/// What agents said when their machine was last heard of, where that may travel: the agent's id follows.
pub const SAID_REFS: &str = "refs/orchestra/said/";

const CLAIM: &str = "Orchestra-Claim";
const MACHINE: &str = "Orchestra-Machine";
/// The longest heartbeat or claim that is read.
const MAX_LINE: usize = 64 << 10;
/// The longest time that a machine may ask others to wait for it.
const MAX_TTL: u64 = 7 * 24 * 3600;

/// Who may work on something, across machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimRecord {
    /// The task; or the agent, of one without a task.
    pub of: Id,
    /// The machine that holds it.
    pub machine: String,
    /// The agent that works on it, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<Id>,
    /// Greater than that of any claim of the same before it.
    pub fence: u64,
    /// Makes equal claims of two machines different commits.
    pub nonce: String,
    /// When it was made, by the holder's clock: information, nothing is decided by it.
    pub at: Timestamp,
    /// After how many seconds without a heartbeat others may take it over; absent if only a person may say so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// Set where a person had an agent begin: then only a run that is under way has a time to live, and when it is over
    /// a person goes on.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub spawned: bool,
    /// Set when the work is over.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Over>,
}

/// How the work on a claimed task ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Over {
    /// What became of it.
    pub outcome: OverOutcome,
    /// The same in words, for the task's `result`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<String>,
}

/// What became of claimed work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OverOutcome {
    /// Nothing is left to do.
    Closed,
    /// An agent worked on it; a person goes on from there.
    Ended,
    /// It was given back: anybody may claim it.
    Released,
}

/// What a machine says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The machine.
    pub machine: String,
    /// What it is called by its owner; may be empty.
    #[serde(default)]
    pub host: String,
    /// Greater with every heartbeat.
    pub counter: u64,
    /// After how many seconds without another one it counts as gone.
    pub ttl: u64,
    /// When, by its own clock: information.
    pub at: Timestamp,
    /// The agents that run there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub agents: Vec<LiveAgent>,
}

/// An agent that runs on another machine, as that machine says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveAgent {
    /// Its identity.
    pub id: Id,
    /// Its name.
    pub name: Name,
    /// The run.
    pub run: u32,
    /// Its task.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<Id>,
    /// Since when it runs, by that machine's clock.
    pub since: Timestamp,
}

impl ClaimRecord {
    /// A claim of `machine`, not over, with a nonce of its own.
    pub fn new(of: Id, machine: String, fence: u64, at: Timestamp) -> Result<Self, Error> {
        let nonce = format!("{:032x}", local::random_u128()?);
        Ok(Self { of, machine, agent: None, fence, nonce, at, ttl: None, spawned: false, over: None })
    }
}

impl Store {
    /// Writes a claim, which follows `before` on its ref. Returns every object that was written, the commit last.
    pub fn write_claim(
        &self,
        claim: &ClaimRecord,
        before: Option<&ObjectId>,
    ) -> Result<Vec<ObjectId>, Error> {
        let word = match &claim.over {
            None => "claim",
            Some(Over { outcome: OverOutcome::Released, .. }) => "release",
            Some(_) => "finish",
        };
        let json = serde_json::to_string(claim).expect("claims are plain data");
        let message =
            format!("{word} {} by {} (fence {})\n\n{CLAIM}: {json}\n", claim.of, claim.machine, claim.fence);
        self.write_bare(&claim.machine, claim.at, &message, before)
    }

    /// The claim of `of` that a commit holds; `None` if it is none, or is not here.
    ///
    /// # Errors
    /// If it is here and could not be read.
    pub fn read_claim(&self, commit: &ObjectId, of: &Id) -> Result<Option<ClaimRecord>, Error> {
        let claim: Option<ClaimRecord> = self.read_line(commit, CLAIM)?;
        let claim = claim.filter(|claim| {
            claim.of == *of && local::is_machine(&claim.machine) && claim.fence < u64::from(u32::MAX)
        });
        Ok(claim.map(|claim| ClaimRecord { ttl: claim.ttl.map(|ttl| ttl.min(MAX_TTL)), ..claim }))
    }

    /// Writes a heartbeat. Returns every object that was written, the commit last.
    pub fn write_heartbeat(
        &self,
        heartbeat: &Heartbeat,
        before: Option<&ObjectId>,
    ) -> Result<Vec<ObjectId>, Error> {
        let json = serde_json::to_string(heartbeat).expect("heartbeats are plain data");
        let message = format!("machine {}: {}\n\n{MACHINE}: {json}\n", heartbeat.machine, heartbeat.counter);
        self.write_bare(&heartbeat.machine, heartbeat.at, &message, before)
    }

    /// The heartbeat of `machine` that a commit holds; `None` if it is none, or is not here.
    ///
    /// # Errors
    /// If it is here and could not be read.
    pub fn read_heartbeat(&self, commit: &ObjectId, machine: &str) -> Result<Option<Heartbeat>, Error> {
        let heartbeat: Option<Heartbeat> = self.read_line(commit, MACHINE)?;
        let heartbeat = heartbeat.filter(|said| said.machine == machine && local::is_machine(machine));
        Ok(heartbeat.map(|said| Heartbeat { ttl: said.ttl.min(MAX_TTL), ..said }))
    }

    /// Whether a text can be a machine's name.
    pub fn is_machine(text: &str) -> bool {
        local::is_machine(text)
    }

    fn write_bare(
        &self,
        machine: &str,
        at: Timestamp,
        message: &str,
        before: Option<&ObjectId>,
    ) -> Result<Vec<ObjectId>, Error> {
        let (tree, mut written) = self.repo().edit_tree::<String>(None, &[])?;
        let committer = Identity::new("git-orchestra", &format!("{machine}@orchestra.invalid"));
        let parents: Vec<ObjectId> = before.into_iter().cloned().collect();
        let commit = self.repo().write_commit(&NewCommit {
            tree: &tree,
            parents: &parents,
            author: self.author(),
            committer: &committer,
            at,
            message,
        })?;
        written.push(commit);
        Ok(written)
    }

    fn read_line<T: serde::de::DeserializeOwned>(
        &self,
        commit: &ObjectId,
        key: &str,
    ) -> Result<Option<T>, Error> {
        let Some(commit) = self.repo().find_commit(commit)? else { return Ok(None) };
        let line = commit.trailers(key).next().filter(|line| line.len() <= MAX_LINE);
        Ok(line.and_then(|line| serde_json::from_str(line).ok()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;
    use crate::process::ManualClock;
    use std::sync::Arc;

    #[test]
    fn a_claim_is_what_its_ref_says_or_none() {
        let sandbox = Sandbox::new(&[]);
        let clock = Arc::new(ManualClock::new(Timestamp(1_000)));
        let store = Store::open(sandbox.open(), clock, Identity::new("Ada", "ada@example.org"));
        let (one, other) = (Id::from_random(1), Id::from_random(2));
        let make = |machine: &str| ClaimRecord::new(one, machine.to_owned(), 3, Timestamp(5)).unwrap();
        let claim = ClaimRecord { ttl: Some(u64::MAX), ..make("k3v8w0") };
        let commit = store.write_claim(&claim, None).unwrap().pop().unwrap();
        let claim_in = |commit: &ObjectId, of: &Id| store.read_claim(commit, of).unwrap();
        let read = claim_in(&commit, &one).unwrap();
        assert_eq!(read, ClaimRecord { ttl: Some(MAX_TTL), ..claim.clone() });
        assert_eq!(claim_in(&commit, &other), None, "it is of another task");
        assert_eq!(store.read_heartbeat(&commit, "k3v8w0").unwrap(), None, "it is no heartbeat");
        let away = "1".repeat(commit.as_str().len()).parse().unwrap();
        assert_eq!(claim_in(&away, &one), None, "it is not here");
        let tree = store.repo().read_commit(&commit).unwrap().tree;
        assert_eq!(claim_in(&tree, &one), None, "it is no commit");
        let again = store.write_claim(&ClaimRecord { ttl: Some(u64::MAX), ..make("k3v8w0") }, None).unwrap();
        assert_ne!(again.last(), Some(&commit), "equal claims are different commits");
        let hostile = store.write_claim(&make("../../x"), None).unwrap().pop().unwrap();
        assert_eq!(claim_in(&hostile, &one), None);
        let over = Over { outcome: OverOutcome::Closed, result: Some("done".to_owned()) };
        let over = ClaimRecord { over: Some(over), ..claim };
        let next = store.write_claim(&over, Some(&commit)).unwrap().pop().unwrap();
        assert_eq!(store.repo().read_commit(&next).unwrap().parents, [commit]);
        assert_eq!(claim_in(&next, &one).unwrap().over, over.over);
    }
}

//! Handing a claimed agent to a process of its own, which watches it from then on.
//!
//! The two talk over one socket: a [`Claim`] goes there as one JSON line, [`Handed`] lines come back. The lease goes
//! along as a handle of its lock, so that it is never free in between.

use super::Error;
use super::lease::{Lease, LeaseInfo};
use super::session::{Claim, Outfit};
use super::supervise::Ruling;
use super::team::Onward;
use crate::agent::find_adapter;
use crate::config::Profile;
use crate::git::Repository;
use crate::model::{Agent, Name};
use crate::process::Command;
use crate::store::{HandedOperation, Operation};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;

/// The longest line that either side takes: a prompt with all its findings.
const MAX_LINE: u64 = 64 << 20;

/// What the process of its own says while it begins. The last word is one of the last three.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum Handed {
    /// It watches the agent from here on.
    Taken,
    /// As many run as may; it starts when one of them has ended.
    Queued,
    /// The agent's process runs.
    Started {
        /// Its number.
        pid: u32,
    },
    /// It could not be started.
    Failed {
        /// Why.
        why: String,
    },
}

#[derive(Serialize, Deserialize)]
struct Package {
    info: LeaseInfo,
    agent: Agent,
    run: u32,
    profile: Profile,
    program: Vec<OsString>,
    prompt: String,
    system_prompt: String,
    resume: bool,
    decided: BTreeMap<String, Ruling>,
    title: String,
    #[serde(default)]
    zone: Option<String>,
    jobs: u32,
    operation: Option<HandedOperation>,
    #[serde(default)]
    onward: Option<Onward>,
}

/// An agent that was handed over, as its former holder sees it.
#[derive(Debug)]
pub struct Handover {
    /// Its name.
    pub name: Name,
    lines: BufReader<UnixStream>,
    /// Held until the other one says that it holds it too.
    lease: Option<Lease>,
}

/// An agent that was taken over.
#[derive(Debug)]
pub struct Taken {
    /// The agent and all that is needed to run it.
    pub claim: Claim,
    /// How many agents without a terminal may run at once.
    pub jobs: u32,
    /// The operation that what is written about it belongs to.
    pub operation: Option<Operation>,
    /// How its team goes on after it, if that is for whoever watches it.
    pub onward: Option<Onward>,
}

/// Starts `program`, which is to call [`take_over`], and hands it `claim`.
pub fn hand_over(
    claim: Claim,
    jobs: u32,
    operation: Option<&Operation>,
    onward: Option<&Onward>,
    program: &Command,
) -> Result<Handover, Error> {
    let name = claim.agent.name.clone();
    let Claim { agent, run, lease, outfit, prompt, system_prompt, resume, decided, title, zone } = claim;
    let Outfit { profile, program: words, .. } = outfit;
    let info = lease.info().clone();
    let handle = lease.share()?;
    let package = Package {
        info,
        agent,
        run,
        profile,
        program: words,
        prompt,
        system_prompt,
        resume,
        decided,
        title,
        zone,
        jobs,
        operation: operation.map(Operation::hand_on),
        onward: onward.cloned(),
    };
    let failed = |error| Error::Handover { name: name.clone(), source: error };
    let (ours, theirs) = UnixStream::pair().map_err(failed)?;
    program.start_apart(theirs.into(), handle).map_err(Error::Start)?;
    let mut line = serde_json::to_vec(&package).map_err(|e| failed(e.into()))?;
    line.push(b'\n');
    (&ours).write_all(&line).map_err(failed)?;
    Ok(Handover { name, lines: BufReader::new(ours), lease: Some(lease) })
}

impl Handover {
    /// What it says next; `None` when it has said everything, or died. Blocks.
    pub fn hear(&mut self) -> Option<Handed> {
        let mut line = String::new();
        let read = self.lines.by_ref().take(MAX_LINE).read_line(&mut line);
        let handed = read.ok().and_then(|_| serde_json::from_str(&line).ok());
        if handed == Some(Handed::Taken) {
            // Ours goes; the files stay, they are the other one's.
            self.lease = None;
        }
        handed
    }

    /// Listens to the end, and returns the last word.
    pub fn hear_out(&mut self) -> Handed {
        let mut last = Handed::Failed { why: "the process that was to watch it died".to_owned() };
        while let Some(handed) = self.hear() {
            if handed != Handed::Taken {
                last = handed;
            }
        }
        last
    }
}

/// Takes over what the process that started this one hands over: its end of the socket and the handle of the lease.
pub fn take_over(repo: &Repository, socket: OwnedFd, lease: OwnedFd) -> Result<(Taken, UnixStream), Error> {
    let socket = UnixStream::from(socket);
    let broken = |source| Error::File { action: "read", path: "what was handed over".into(), source };
    let mut line = String::new();
    BufReader::new(&socket).take(MAX_LINE).read_line(&mut line).map_err(broken)?;
    let package: Package = serde_json::from_str(&line).map_err(|e| broken(e.into()))?;
    let Package {
        info,
        agent,
        run,
        profile,
        program,
        prompt,
        system_prompt,
        resume,
        decided,
        title,
        zone,
        jobs,
        operation,
        onward,
    } = package;
    let lease = Lease::adopt(repo, info, lease)?;
    let adapter = find_adapter(&profile.program)
        .ok_or_else(|| Error::refused(format!("run {}: its program is unknown", agent.name), None))?;
    let outfit =
        Outfit { profile, program, adapter, budget: agent.budget, sandbox_is_said: true, any_answer: false };
    let claim = Claim { agent, run, lease, outfit, prompt, system_prompt, resume, decided, title, zone };
    Ok((Taken { claim, jobs, operation: operation.map(Operation::from), onward }, socket))
}

/// Says how far the beginning is. Whoever handed over may be gone.
pub fn report(mut socket: &UnixStream, handed: &Handed) {
    let mut line = serde_json::to_vec(handed).expect("plain data");
    line.push(b'\n');
    if let Err(error) = socket.write_all(&line) {
        tracing::debug!("nobody hears how it began: {error}");
    }
}

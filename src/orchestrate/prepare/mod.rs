//! Making an agent's worktree ready: room on disk, files that git does not track, the setup command.
//!
//! A worktree that was made and not made ready says so in its private git directory, so that after a kill whoever
//! starts its agent next makes it ready first. It may not run git in a worktree in which an agent worked.

pub(super) mod builds;
mod copies;
mod hook;
mod ports;

pub(super) use hook::Ended;
pub use hook::{Hook, tear_down};
pub(super) use ports::Ports;

use super::measure::bytes;
use super::session::Surroundings;
use super::{Error, lease::Lease};
use crate::agent::Redactor;
use crate::git::{Repository, Worktree};
use crate::model::{Agent, Timestamp};
use crate::process::free_space;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// What worktrees get beside their files, by the settings.
#[derive(Debug, Clone, Default)]
pub struct Provision {
    /// What is run in a new one before its agent begins.
    pub setup: Option<Hook>,
    /// What is run in one before it is removed.
    pub teardown: Option<Hook>,
    /// The bytes that must be free before an agent starts.
    pub space_floor: u64,
    /// Whether what builds left in the worktrees of agents at rest may go where less is free.
    pub frees_builds: bool,
    /// How many ports each running agent has.
    pub ports: u16,
    /// Where it is written down who has which; without it nobody has any.
    pub port_dir: Option<PathBuf>,
    /// Whether agents share build directories.
    pub shares_builds: bool,
    /// Directories of zones, for worktrees that are limited to them.
    pub zones: BTreeMap<String, Vec<String>>,
}

/// What was done for a worktree, for its agent's journal and whoever looks.
#[derive(Debug, Default)]
pub(super) struct Prepared {
    /// What everybody is told.
    pub(super) said: Vec<String>,
    /// What the setup command printed, redacted.
    pub(super) output: Option<String>,
    /// Its ports, held as long as this is.
    pub(super) ports: Option<Ports>,
}

/// How making ready ended, if nothing went wrong.
pub(super) enum Readiness {
    Ready(Prepared),
    /// Nobody wants it any more.
    Unwanted,
}

/// For whom a worktree is made ready, and how.
pub(super) struct Task<'a> {
    pub(super) repo: &'a Repository,
    pub(super) surroundings: &'a Surroundings,
    pub(super) redactor: &'a Redactor,
    pub(super) agent: &'a Agent,
    pub(super) run: u32,
    /// Whether it is still wanted.
    pub(super) wanted: &'a dyn Fn() -> bool,
    /// Hears what takes long, before it begins.
    pub(super) tell: &'a dyn Fn(String),
}

/// Refuses to start anything where less than `floor` bytes are free.
///
/// # Errors
/// [`Error::Refused`] then, with both figures and what would help. A system that does not say is taken at its word.
pub(in crate::orchestrate) fn require_room(root: &Path, floor: u64) -> Result<(), Error> {
    let there = root.ancestors().find(|dir| dir.is_dir()).unwrap_or(root);
    match free_space(there) {
        Some(free) if free < floor => Err(Error::refused(
            format!(
                "start an agent: {} are free at {}, and `space-floor` asks for {}",
                bytes(free),
                there.display(),
                bytes(floor)
            ),
            "`git orchestra prune` says what can go; or set `orchestra.spaceFloor`".to_owned(),
        )),
        _ => Ok(()),
    }
}

/// Makes a worktree ready if it is not: copies what [`crate::git::INCLUDE_FILE`] names, and runs the setup command.
///
/// # Errors
/// If something could not be copied, or the setup command failed. The worktree is as unready as before then.
pub(super) fn prepare(
    task: &Task<'_>,
    worktree: &Worktree,
    lease: &mut Lease,
    now: Timestamp,
) -> Result<Readiness, Error> {
    let mut prepared = Prepared::default();
    // Of a git that was killed with its agent: the next one's git would stop at them.
    for lock in task.repo.break_worktree_locks(worktree)? {
        let shown = task.repo.shown(&lock);
        prepared.said.push(format!("removed {shown}, which a dead process left behind"));
    }
    give_ports(task, worktree, &mut prepared)?;
    if !worktree.is_unprepared() {
        return Ok(Readiness::Ready(prepared));
    }
    if worktree.is_sparse() {
        prepared.said.push("its worktree has a part of the files: git sparse-checkout list".to_owned());
    }
    prepared.said.extend(copies::copy(task.repo, worktree)?);
    if let Some(setup) = &task.surroundings.provision.setup {
        lease.preparing(now)?;
        (task.tell)(task.redactor.redact(&format!("setup: {}", setup.line())).0.into_owned());
        let mut env = hook_env(task.surroundings, setup, task.repo, task.agent, worktree, task.run);
        prepared.add_to(&mut env);
        match setup.run(&worktree.path, env, task.redactor, task.wanted)? {
            Ended::Unwanted => return Ok(Readiness::Unwanted),
            Ended::Done { output, took } => {
                prepared.said.push(format!("setup done after {}s", took.as_secs()));
                prepared.output = Some(output).filter(|output| !output.is_empty());
            }
            Ended::Failed { why, output, .. } => return Err(unready(worktree, why, output)),
        }
    }
    worktree.end_preparing()?;
    Ok(Readiness::Ready(prepared))
}

fn unready(worktree: &Worktree, why: String, output: String) -> Error {
    Error::Hook {
        what: format!("set up {}", worktree.path.display()),
        why,
        output,
        hint: "mend `worktree.setup` (`git orchestra config list --show-origin` says where it is set); \
               the same command again begins anew"
            .to_owned(),
    }
}

/// The same for a worktree in which no agent works: what `env` makes of the variables that its setup may see. `false`
/// if nobody wants it any more.
pub(super) fn prepare_trying(
    repo: &Repository,
    surroundings: &Surroundings,
    worktree: &Worktree,
    env: impl FnOnce(&[String]) -> BTreeMap<OsString, OsString>,
    wanted: &dyn Fn() -> bool,
) -> Result<bool, Error> {
    if !worktree.is_unprepared() {
        return Ok(true);
    }
    copies::copy(repo, worktree)?;
    if let Some(setup) = &surroundings.provision.setup {
        match setup.run(&worktree.path, env(&setup.pass_env), &surroundings.redactor, wanted)? {
            Ended::Unwanted => return Ok(false),
            Ended::Failed { why, output, .. } => return Err(unready(worktree, why, output)),
            Ended::Done { .. } => {}
        }
    }
    worktree.end_preparing()?;
    Ok(true)
}

/// Takes the agent's ports. Which they are stays with the worktree: what its setup wrote into files names them.
fn give_ports(task: &Task<'_>, worktree: &Worktree, prepared: &mut Prepared) -> Result<(), Error> {
    let provision = &task.surroundings.provision;
    let Some(dir) = provision.port_dir.as_deref().filter(|_| provision.ports > 0) else { return Ok(()) };
    let before = worktree.first_port();
    let taken = Ports::take(dir, task.repo, &task.agent.name, provision.ports, before)?;
    let Some(ports) = taken else {
        prepared.said.push("it has no ports of its own: all are taken".to_owned());
        return Ok(());
    };
    if before != Some(ports.first) {
        if let Some(before) = before {
            let (first, last) = (ports.first, ports.last());
            prepared
                .said
                .push(format!("its ports are {first} to {last} now: somebody has those from {before} on"));
        }
        worktree.note_first_port(ports.first)?;
    }
    prepared.ports = Some(ports);
    Ok(())
}

impl Prepared {
    /// Adds what was prepared to an environment.
    pub(super) fn add_to(&self, env: &mut BTreeMap<OsString, OsString>) {
        if let Some(ports) = &self.ports {
            env.insert("GIT_ORCHESTRA_PORT".into(), ports.first.to_string().into());
            env.insert("GIT_ORCHESTRA_PORTS".into(), ports.count.to_string().into());
        }
    }
}

/// What setup and teardown see: what agents do, but nothing of what their programs need to reach their models.
fn hook_env(
    surroundings: &Surroundings,
    hook: &Hook,
    repo: &Repository,
    agent: &Agent,
    worktree: &Worktree,
    run: u32,
) -> BTreeMap<OsString, OsString> {
    let dir = surroundings.program_dir.as_deref();
    let mut env = super::environment::of_hook(&surroundings.env, &hook.pass_env, agent, run, dir);
    super::environment::add_places(&mut env, agent, &worktree.path, repo.main_dir());
    if surroundings.provision.shares_builds {
        builds::add(&mut env, &worktree.path, &surroundings.worktree_root);
    }
    env
}

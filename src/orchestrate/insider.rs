//! Whether a process belongs to an agent that runs here, whatever its environment says.
//!
//! Agents do not stop, answer or approve: people do. What runs under an agent has a variable that says so, and may have
//! cleared it; its parents and its badge (see `process`) lead to the agent's lease all the same. Other systems than Linux
//! do not tell that.

use super::lease::{self, LeaseInfo};
use crate::git::Repository;
use crate::process::descends;

/// Whether the process `pid` belongs to an agent of this repository. Where that cannot be told, it does.
pub fn is_of_an_agent(repo: &Repository, pid: u32) -> bool {
    // Also of one whose watcher died, or was killed by it.
    let leases = lease::all(repo);
    let roots: Vec<_> = leases.iter().filter_map(|lease| lease.child.clone()).collect();
    let marks: Vec<_> = leases.iter().map(|lease| format!("{}={}", LeaseInfo::MARK, lease.mark())).collect();
    !leases.is_empty() && descends(pid, &roots, &marks).unwrap_or(true)
}

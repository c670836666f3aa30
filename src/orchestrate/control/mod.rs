//! Talking to the process that watches an agent, from another one.
//!
//! Every session listens at a socket of its own, `orchestra/control/<pid>-<start>-<n>` in the git directory, which the
//! leases of its agents name. Each line is one JSON document: an [`Ask`] in, [`Answer`]s out. What is asked becomes
//! requests to the supervisor; nothing here decides what they mean.

mod client;
mod desk;
mod server;
mod wire;

pub use client::{Viewer, ask};
pub use desk::Asks;
pub(super) use desk::{Asked, Desk, Feed};
pub(super) use server::Server;
pub use wire::{Answer, Ask, Question, Refusal};

use crate::git::Repository;
use crate::process::Identity;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

/// Where the sockets are.
fn directory(repo: &Repository) -> PathBuf {
    repo.local_dir().join("control")
}

/// A name that no other process, past or present, and no other session of this one has.
fn next_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let own = Identity::own();
    format!("{}-{}-{}", own.pid, own.started, NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Removes sockets whose makers are gone.
pub(super) fn sweep(repo: &Repository) {
    let dir = directory(repo);
    for entry in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let mut numbers = name.to_str().unwrap_or_default().splitn(3, '-');
        let mut number = || numbers.next()?.parse::<u64>().ok();
        let alive = match (number(), number()) {
            (Some(pid), Some(started)) => u32::try_from(pid).is_ok_and(|pid| {
                Identity::of(pid).is_some_and(|found| found.started == started && found.is_alive())
            }),
            // Not one of ours.
            _ => true,
        };
        if !alive {
            // Somebody else may be tidying up as well.
            let _ = std::fs::remove_file(dir.join(name));
        }
    }
}

//! Ports for what agents start: a block each, of which no other agent of this user has one while it runs.
//!
//! Which block follows from the repository and the agent's name, so that it is the same in every run as long as nobody
//! else listens there. A block is held by locked files outside of every repository, which the kernel frees when their
//! holder dies.

use super::super::Error;
use crate::git::Repository;
use crate::model::Name;
use crate::process::{FileLock, is_port_free};
use sha2::{Digest, Sha256};
use std::fs::DirBuilder;
use std::ops::RangeInclusive;
use std::os::unix::fs::DirBuilderExt;
use std::path::Path;

/// The ports that are given out: below those that systems give to whoever asks for any (32768 and up on Linux).
const PORTS: RangeInclusive<u16> = 20_000..=29_999;
/// Blocks begin at a multiple of this, and are held in pieces of it: settings of other repositories may ask for more.
const PIECE: u16 = 10;
const PIECES: u16 = (*PORTS.end() - *PORTS.start() + 1) / PIECE;

/// A block of ports, as long as it is held.
#[derive(Debug)]
pub(in crate::orchestrate) struct Ports {
    /// The first of them.
    pub(in crate::orchestrate) first: u16,
    /// How many they are.
    pub(in crate::orchestrate) count: u16,
    _held: Vec<FileLock>,
}

impl Ports {
    /// Takes `count` ports for an agent, by files in `dir`: those that it had `before`, if they are to be had, then
    /// those that follow from its name, then what comes after them. `None` if all are taken.
    pub(super) fn take(
        dir: &Path,
        repo: &Repository,
        agent: &Name,
        count: u16,
        before: Option<u16>,
    ) -> Result<Option<Self>, Error> {
        let made = DirBuilder::new().recursive(true).mode(0o700).create(dir);
        made.map_err(|e| Error::file("create", dir, e))?;
        let wide = count.div_ceil(PIECE);
        let places = PIECES + 1 - wide;
        let hash = Sha256::new()
            .chain_update(repo.common_dir().as_os_str().as_encoded_bytes())
            .chain_update([0])
            .chain_update(agent.as_str())
            .finalize();
        let start = u16::from_be_bytes([hash[0], hash[1]]) % places;
        let before = before.and_then(|port| port.checked_sub(*PORTS.start())).map(|offset| offset / PIECE);
        let order = (0..places).map(|step| (start + step) % places);
        for piece in before.filter(|piece| *piece < places).into_iter().chain(order) {
            let first = PORTS.start() + piece * PIECE;
            let mut held = Vec::new();
            for port in (first..first + wide * PIECE).step_by(usize::from(PIECE)) {
                let path = dir.join(port.to_string());
                let lock = FileLock::attempt(&path).map_err(|e| Error::file("lock", &path, e))?;
                let Some(lock) = lock else { break };
                held.push(lock);
            }
            if held.len() == usize::from(wide) && (first..first + count).all(is_port_free) {
                return Ok(Some(Self { first, count, _held: held }));
            }
        }
        Ok(None)
    }

    /// The last of them.
    pub(super) const fn last(&self) -> u16 {
        self.first + self.count - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;
    use std::net::TcpListener;

    #[test]
    fn a_name_has_its_ports_and_nobody_else_has_them_meanwhile() {
        // Whether a port is free is asked by listening at it, so whoever else on this machine tries ports in the same
        // instant is in the way.
        assert!((0..5).any(|_| std::panic::catch_unwind(ports_stay_with_a_name).is_ok()));
    }

    fn ports_stay_with_a_name() {
        let sandbox = Sandbox::new(&[]);
        let (repo, dir) = (sandbox.open(), sandbox.dir.path().join("ports"));
        let name: Name = "heron".parse().unwrap();
        let take = |count, before| Ports::take(&dir, &repo, &name, count, before).unwrap().unwrap();
        let first = take(10, None);
        assert!(PORTS.contains(&first.first) && first.first % PIECE == 0);
        let second = take(25, None);
        assert!(second.first > first.last() || second.last() < first.first, "{first:?} {second:?}");
        let (port, other) = (first.first, second.first);
        drop(first);
        drop(second);
        assert_eq!(take(10, None).first, port, "the same again");
        assert_eq!(take(10, Some(other)).first, other, "what it had before");
        // Somebody else's server, which no lock tells of.
        let server = TcpListener::bind(("127.0.0.1", port + 3)).unwrap();
        assert_ne!(take(10, None).first, port);
        drop(server);
        assert_eq!(take(3, None).first, port);
        // A setting that changed, or a file that somebody wrote.
        take(1000, Some(29_990));
        take(1, Some(7));
    }
}

//! By what the descendants of a child are recognised when nothing else leads to it any more.
//!
//! A variable in the environment is inherited, and gone when somebody clears it. So there is a second one: the badge, a
//! number that is the child's limit of file locks. Linux keeps that limit and hands it down, and has not looked at it
//! since 2.4; only a process that sets this very limit takes its badge off.

use sha2::{Digest, Sha256};
use std::ffi::OsString;
use std::path::Path;

/// `KEY=VALUE` in the environment of a child, and the badge that follows from it.
#[derive(Debug, Clone)]
pub(super) struct Mark {
    variable: Vec<u8>,
    badge: Badge,
}

/// A number that nobody has as a limit by chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Badge(u64);

impl Mark {
    pub(super) fn new(variable: &str) -> Self {
        let digest = Sha256::digest(variable);
        let number = digest.iter().take(8).fold(0, |number, &byte| number << 8 | u64::from(byte));
        // Great, so that it is nobody's limit, and still what every program can read as a number with a sign.
        Self { variable: variable.into(), badge: Badge(number >> 2 | 1 << 61) }
    }

    pub(super) fn variable(&self) -> &[u8] {
        &self.variable
    }

    pub(super) const fn badge(&self) -> Badge {
        self.badge
    }
}

#[cfg(target_os = "linux")]
impl Badge {
    /// Where systems have the program that sets a limit and becomes another program, without a fork.
    const PRLIMIT: [&str; 2] = ["/usr/bin/prlimit", "/bin/prlimit"];

    /// The program that gives it to the one that it becomes, and its words before that; `None` if nobody here can.
    pub(super) fn giver(self) -> Option<(&'static Path, Vec<OsString>)> {
        use nix::sys::resource::{RLIM_INFINITY, Resource, getrlimit};
        // Whoever was given less than no limit at all cannot go above that.
        let (_, hard) = getrlimit(Resource::RLIMIT_LOCKS).ok()?;
        let giver = Self::PRLIMIT.iter().map(Path::new).find(|path| path.exists())?;
        // The soft limit alone: an agent may run agents.
        (hard == RLIM_INFINITY).then(|| (giver, vec![format!("--locks={}:", self.0).into()]))
    }

    pub(super) fn is_worn_by(self, pid: u32) -> bool {
        Self::worn_by(pid) == Some(self)
    }

    /// The badge of a process, if its limit is a number; nobody's else than ours is as great.
    pub(super) fn worn_by(pid: u32) -> Option<Self> {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?;
        let line = limits.lines().find_map(|line| line.strip_prefix("Max file locks"))?;
        line.split_ascii_whitespace().next()?.parse().ok().map(Self)
    }
}

#[cfg(not(target_os = "linux"))]
impl Badge {
    pub(super) const fn giver(self) -> Option<(&'static Path, Vec<OsString>)> {
        None
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_badge_is_of_its_mark_alone() {
        let (one, other) = (Mark::new("A=1").badge(), Mark::new("A=2").badge());
        assert!(one != other && one.0 > 1 << 61 && one.0 < 1 << 62);
        assert_eq!(one, Mark::new("A=1").badge());
        assert!(!one.is_worn_by(std::process::id()));
        let (giver, words) = one.giver().expect("this system has `prlimit`");
        assert_eq!((giver.file_name().unwrap(), words.len()), ("prlimit".as_ref(), 1));
    }
}

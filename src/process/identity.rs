//! Which process a number means: a pid alone is reused, a pid with its start time is not.

use serde::{Deserialize, Serialize};

/// A process, told apart from any later one that gets the same number.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
pub struct Identity {
    /// The process id.
    pub pid: u32,
    /// When it started, in the kernel's own unit (clock ticks since boot on Linux); 0 where the system does not
    /// say.
    #[serde(default)]
    pub started: u64,
    /// Which boot of the machine the two belong to; empty where the system does not say.
    #[serde(default)]
    pub boot: String,
}

impl Identity {
    /// This process.
    pub fn own() -> Self {
        let pid = std::process::id();
        Self::of(pid).unwrap_or(Self { pid, started: 0, boot: boot_id() })
    }

    /// The process that has number `pid` now, zombies included; `None` if there is none.
    pub fn of(pid: u32) -> Option<Self> {
        Some(Self { pid, started: started(pid)?, boot: boot_id() })
    }

    /// Whether this very process still runs. A zombie does not.
    pub fn is_alive(&self) -> bool {
        self.boot == boot_id() && runs(self.pid, self.started)
    }
}

/// What this machine calls itself; empty if it does not say.
pub fn host_name() -> String {
    nix::unistd::gethostname().ok().and_then(|name| name.into_string().ok()).unwrap_or_default()
}

#[cfg(target_os = "linux")]
pub(super) fn boot_id() -> String {
    static BOOT: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    BOOT.get_or_init(|| {
        std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
    })
    .clone()
}

#[cfg(target_os = "linux")]
fn started(pid: u32) -> Option<u64> {
    super::tree::stat(pid).map(|stat| stat.started)
}

#[cfg(target_os = "linux")]
fn runs(pid: u32, started: u64) -> bool {
    super::tree::stat(pid).is_some_and(|stat| stat.started == started && !stat.is_zombie())
}

#[cfg(not(target_os = "linux"))]
pub(super) fn boot_id() -> String {
    String::new()
}

#[cfg(not(target_os = "linux"))]
fn started(pid: u32) -> Option<u64> {
    runs(pid, 0).then_some(0)
}

#[cfg(not(target_os = "linux"))]
fn runs(pid: u32, _started: u64) -> bool {
    let Ok(pid) = i32::try_from(pid) else { return false };
    !matches!(nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), None), Err(nix::errno::Errno::ESRCH))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_is_itself_and_no_other() {
        let own = Identity::own();
        assert!(own.is_alive());
        #[cfg(target_os = "linux")]
        {
            assert!(!Identity { started: own.started + 1, ..own.clone() }.is_alive(), "a reused number");
            assert!(!Identity { boot: "another".to_owned(), ..own }.is_alive(), "another boot");
        }
    }
}

//! Who works where, as far as the system tells.

use std::path::Path;

/// Whether another process of the program `name` works in one of `dirs` or below; with `since` (milliseconds since the
/// epoch), whether one does that was there already then. Where the system does not tell, nobody does.
///
/// A `git fsmonitor--daemon` does not count: it stays for ever, and changes nothing.
#[cfg(target_os = "linux")]
pub fn is_at_work(name: &str, dirs: &[&Path], since: Option<u64>) -> bool {
    std::fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
        let process = entry.path();
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { return false };
        std::fs::read(process.join("comm")).is_ok_and(|comm| comm.trim_ascii_end() == name.as_bytes())
            && pid != std::process::id()
            && std::fs::read_link(process.join("cwd"))
                .is_ok_and(|cwd| dirs.iter().any(|dir| cwd.starts_with(dir)))
            && !std::fs::read(process.join("cmdline"))
                .is_ok_and(|words| words.split(|&b| b == 0).any(|word| word == b"fsmonitor--daemon"))
            && since.is_none_or(|since| started(pid).is_none_or(|started| started <= since))
    })
}

/// Whether a process of a program works in one of `dirs`: unknown here.
#[cfg(not(target_os = "linux"))]
pub fn is_at_work(_name: &str, _dirs: &[&Path], _since: Option<u64>) -> bool {
    false
}

/// When a process began at the earliest, in milliseconds since the epoch. The clock may have been set since, and a file
/// system's is coarser: a second is given away for that.
#[cfg(target_os = "linux")]
fn started(pid: u32) -> Option<u64> {
    use super::{Clock as _, SystemClock};
    use std::time::Duration;
    let ticks = super::tree::stat(pid)?.started;
    let per_second = u64::try_from(nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK).ok()??).ok()?;
    let up = SystemClock.up().since_boot;
    let age = up.saturating_sub(Duration::from_millis(ticks.saturating_mul(1000) / per_second.max(1)));
    let age = u64::try_from(age.as_millis()).ok()?;
    Some(SystemClock.now().as_millis().saturating_sub(age).saturating_sub(1000))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::process::{Clock as _, SystemClock};

    #[test]
    fn who_came_later_was_not_there() {
        let now = || SystemClock.now().as_millis();
        let began = started(std::process::id()).unwrap();
        assert!(began <= now() && now() - began < 3_600_000, "{began}");
        let dir = tempfile::tempdir().unwrap();
        let dirs = [dir.path()];
        assert!(!is_at_work("sleep", &dirs, None));
        #[expect(clippy::disallowed_methods, reason = "any program with a name")]
        let mut child =
            std::process::Command::new("sleep").arg("60").current_dir(dir.path()).spawn().unwrap();
        let at_work = |since| {
            // It is `sleep` as soon as it has begun.
            let limit = std::time::Instant::now() + std::time::Duration::from_secs(10);
            while !is_at_work("sleep", &dirs, None) && std::time::Instant::now() < limit {
                std::thread::yield_now();
            }
            is_at_work("sleep", &dirs, since)
        };
        assert!(at_work(None) && at_work(Some(now())) && !at_work(Some(now() - 60_000)));
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(!is_at_work("sleep", &dirs, None));
    }
}

//! How much memory is left, and whether the kernel ended processes for want of it.

use std::path::{Path, PathBuf};

/// Bytes of memory that programs can still have here: what the machine has left, or less where this process is in a
/// control group with a limit. `None` if the system does not say.
pub fn available_memory() -> Option<u64> {
    let machine =
        line(&std::fs::read_to_string("/proc/meminfo").ok()?, "MemAvailable:")?.checked_mul(1024)?;
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = group.lines().find_map(|line| line.strip_prefix("0::"));
    let limit = group.and_then(|group| left_in(Path::new("/sys/fs/cgroup"), group));
    Some(limit.map_or(machine, |limit| limit.min(machine)))
}

/// How many processes of this machine the kernel has ended for want of memory since it started; `None` if it does not
/// say.
pub fn memory_kills() -> Option<u64> {
    line(&std::fs::read_to_string("/proc/vmstat").ok()?, "oom_kill ")
}

/// The least that a control group (version 2) and those it is in have left; `None` without a limit. What is only
/// cached counts as left.
fn left_in(root: &Path, group: &str) -> Option<u64> {
    let mut at: PathBuf = root.join(group.trim_start_matches('/'));
    let mut least = None;
    while at.starts_with(root) {
        let read = |name: &str| std::fs::read_to_string(at.join(name)).unwrap_or_default();
        if let (Ok(max), Ok(used)) =
            (read("memory.max").trim().parse::<u64>(), read("memory.current").trim().parse())
        {
            let cached = line(&read("memory.stat"), "inactive_file ").unwrap_or(0);
            let left = max.saturating_sub(u64::saturating_sub(used, cached));
            least = Some(least.map_or(left, |least: u64| least.min(left)));
        }
        at.pop();
    }
    least
}

/// The number in the line that begins with `key`.
fn line(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.split_ascii_whitespace().next()?.parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn the_system_says_what_is_left() {
        let left = available_memory().unwrap();
        assert!(left > 1 << 20 && left < 1 << 50, "{left}");
        assert!(memory_kills().is_some());
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let group = |path: &str, max: &str, used: &str, cached: u32| {
            let dir = root.path().join(path);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("memory.max"), format!("{max}\n")).unwrap();
            std::fs::write(dir.join("memory.current"), format!("{used}\n")).unwrap();
            std::fs::write(dir.join("memory.stat"), format!("anon 5\ninactive_file {cached}\n")).unwrap();
        };
        group("user/a", "1000", "400", 100);
        group("user", "2000", "1800", 0);
        group("free", "max", "5", 0);
        assert_eq!(left_in(root.path(), "/user/a"), Some(200));
        assert_eq!(left_in(root.path(), "/free"), None);
        assert_eq!(left_in(root.path(), "/gone"), None);
        group("user", "3000", "1000", 0);
        assert_eq!(left_in(root.path(), "/user/a"), Some(700));
    }
}

//! Who is at work in a directory, as far as the system tells.

use std::path::Path;

/// Whether another process of the program `name` works in one of `dirs` or below. Where the system does not tell,
/// nobody does.
#[cfg(target_os = "linux")]
pub fn is_at_work(name: &str, dirs: &[&Path]) -> bool {
    std::fs::read_dir("/proc").into_iter().flatten().flatten().any(|entry| {
        let process = entry.path();
        std::fs::read(process.join("comm")).is_ok_and(|comm| comm.trim_ascii_end() == name.as_bytes())
            && entry.file_name().to_string_lossy() != std::process::id().to_string()
            && std::fs::read_link(process.join("cwd"))
                .is_ok_and(|cwd| dirs.iter().any(|dir| cwd.starts_with(dir)))
    })
}

/// Whether a process of a program works in one of `dirs`: unknown here.
#[cfg(not(target_os = "linux"))]
pub fn is_at_work(_name: &str, _dirs: &[&Path]) -> bool {
    false
}

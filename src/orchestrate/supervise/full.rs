//! A run that is told that the disk is full: it is stopped where that is so, whatever it prints.

use super::run::Live;
use crate::orchestrate::measure::bytes;
use crate::process::{Child, free_files, free_space};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// From which such error on somebody looks: the first may be of a file that was too large.
const ERRORS: u32 = 2;
/// With fewer bytes than these nobody can work, wherever no more are asked for.
const LEAST: u64 = 16 << 20;

/// What a run was told of full disks, in failed calls and on standard error. Words alone are no proof: a program that
/// watches files says `ENOSPC` when it watches too many, and a test may have it in its name.
#[derive(Debug, Default)]
pub(super) struct Full {
    /// How often a disk was said to be full.
    disk: u32,
    /// How often a quota was, of which the system tells us nothing.
    quota: u32,
    /// How many of these somebody has looked after.
    seen: u32,
    /// Whether it was told that there is room.
    told: bool,
}

impl Full {
    /// Takes what a failure says.
    pub(super) fn learn(&mut self, text: &str) {
        if text.contains("Disk quota exceeded") {
            self.quota += 1;
        } else if text.contains("No space left on device") || text.contains("ENOSPC") {
            self.disk += 1;
        }
    }
}

/// Why nothing more can be written at one of `places`, each with the bytes that must be free there.
fn shortage(places: &[(PathBuf, u64)]) -> Option<String> {
    places.iter().find_map(|(path, floor)| {
        if free_files(path) == Some(0) {
            return Some(format!("no more files can be made at {}", path.display()));
        }
        let free = free_space(path).filter(|free| free < floor)?;
        Some(format!("{} are free at {}", bytes(free), path.display()))
    })
}

impl Live {
    /// Ends a run that cannot write any more: what it would do next is to make it worse, or to take what it cannot write
    /// for written. It can be resumed.
    pub(super) async fn heed_full_disk(&mut self, child: &Child) {
        let Full { disk, quota, seen, told } = self.full;
        let times = disk + quota;
        if times < ERRORS || times == seen {
            return;
        }
        self.full.seen = times;
        let full = if quota >= ERRORS {
            Some("that a disk quota is used up".to_owned())
        } else {
            shortage(&self.written_places()).map(|short| format!("that the disk is full, {short}"))
        };
        let Some(full) = full else {
            if !told {
                self.full.told = true;
                let free = free_space(&self.plan.worktree.path).map(bytes).unwrap_or_default();
                self.notice(&format!(
                    "it was told {times} times that the disk is full; {free} are free, so it goes on"
                ))
                .await;
            }
            return;
        };
        self.stopped_by = Some("a full disk".to_owned());
        let name = &self.plan.agent.name;
        let text = format!(
            "it was told {times} times {full}; it is stopped. `git orchestra prune` says what can go, \
             `git orchestra resume {name}` goes on"
        );
        self.notice(&text).await;
        child.stop();
    }

    /// Where it writes, with the bytes that must be free there. What is only temporary may lie on a small disk.
    fn written_places(&self) -> [(PathBuf, u64); 3] {
        let floor = self.plan.limits.space.max(LEAST);
        let temporary = self.plan.env.get(OsStr::new("TMPDIR")).map_or(Path::new("/tmp"), Path::new);
        [
            (self.plan.worktree.path.clone(), floor),
            (self.context.repo.local_dir(), floor),
            (temporary.to_owned(), LEAST),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_full_where_less_is_free_than_must_be() {
        let dir = tempfile::tempdir().unwrap();
        let place = |floor| (dir.path().to_owned(), floor);
        assert_eq!(shortage(&[place(0), place(1)]), None);
        let short = shortage(&[place(0), place(u64::MAX)]).unwrap();
        assert!(short.contains("are free at /"), "{short}");
        assert_eq!(shortage(&[(dir.path().join("gone"), u64::MAX)]), None, "nobody knows");
        let mut full = Full::default();
        for text in
            ["cp: x: No space left on device", "ENOSPC: file watchers", "cp: Disk quota exceeded", "ok"]
        {
            full.learn(text);
        }
        assert_eq!((full.disk, full.quota), (2, 1));
    }
}

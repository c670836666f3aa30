//! Getting files and directories to disk for good, many at once.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

/// Syncs files and directories, in no order. One that is gone (packed, or removed as empty) needs no syncing any
/// more: what took its place was synced by whoever did that.
///
/// # Errors
/// The first path that could not be synced.
pub(super) fn sync_all(paths: &[PathBuf]) -> Result<(), (PathBuf, io::Error)> {
    for path in paths {
        begin_writing(path);
    }
    paths.iter().try_for_each(|path| sync(path).map_err(|error| (path.clone(), error)))
}

/// Has the system begin to write a file, without waiting. A file system gives a new file its place on the disk when
/// it is written, and its journal takes a commit for that: where all of them have theirs before the first is waited
/// for, one commit serves all. Nothing rests on it.
#[cfg(target_os = "linux")]
fn begin_writing(path: &Path) {
    if let Ok(file) = File::open(path) {
        // Advice that writes what is not written yet, of which nothing can be dropped meanwhile.
        let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed);
    }
}

#[cfg(not(target_os = "linux"))]
const fn begin_writing(_path: &Path) {}

/// Whether a file that was synced keeps the name that it had then, without a sync of its directory. POSIX does not
/// promise it. ext4 and XFS do: their journals keep the order of all that happened to names, and a file's sync waits
/// for what happened before it. btrfs keeps a synced file's names with it.
#[cfg(target_os = "linux")]
pub(super) fn keeps_names(dir: &Path) -> bool {
    const EXT4: i64 = 0xEF53;
    const XFS: i64 = 0x5846_5342;
    const BTRFS: i64 = 0x9123_683E;
    rustix::fs::statfs(dir).is_ok_and(|system| [EXT4, XFS, BTRFS].contains(&system.f_type))
}

#[cfg(not(target_os = "linux"))]
pub(super) const fn keeps_names(_dir: &Path) -> bool {
    false
}

fn sync(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_all(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_synced_and_what_cannot_be_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut paths: Vec<PathBuf> = (0..40).map(|number| dir.path().join(number.to_string())).collect();
        for path in &paths {
            std::fs::write(path, "x").unwrap();
        }
        paths.extend([dir.path().to_owned(), dir.path().join("gone")]);
        sync_all(&paths).unwrap();
        sync_all(&[]).unwrap();
        let under_a_file = paths[3].join("below");
        paths.insert(20, under_a_file.clone());
        let (path, error) = sync_all(&paths).unwrap_err();
        assert_eq!((path, error.kind()), (under_a_file, io::ErrorKind::NotADirectory));
    }
}

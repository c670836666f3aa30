//! Getting files and directories to disk for good, many at once.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many are waited for at once. They wait for the disk and need no processor, and where the file system has a
/// journal, what they ask for together becomes one commit of it instead of one each.
const AT_ONCE: usize = 4;
/// Fewer than these are not worth a thread: it costs about as much as waiting for a file that is on disk already.
const FEW: usize = 4;

/// Syncs files and directories, in no order. One that is gone (packed, or removed as empty) needs no syncing any
/// more: what took its place was synced by whoever did that.
///
/// # Errors
/// The first path that could not be synced.
pub(super) fn sync_all(paths: &[PathBuf]) -> Result<(), (PathBuf, io::Error)> {
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(path) = paths.get(next.fetch_add(1, Ordering::Relaxed)) {
            sync(path).map_err(|error| (path.clone(), error))?;
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads = if paths.len() < FEW { 1 } else { paths.len().min(AT_ONCE) };
        // A thread that cannot be had is one fewer: the others do its part.
        let spawn = |_| std::thread::Builder::new().spawn_scoped(scope, work).ok();
        let others: Vec<_> = (1..threads).filter_map(spawn).collect();
        let own = work();
        others.into_iter().map(|other| other.join().expect("syncing does not panic")).fold(own, Result::and)
    })
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

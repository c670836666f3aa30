//! Advisory locks on files: the kernel drops them when their holder dies, however it dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// A file that this process holds exclusively until the value is dropped.
#[derive(Debug)]
pub struct FileLock {
    /// Open as long as the lock is held.
    file: File,
}

impl FileLock {
    /// Waits until nobody else holds `path`, creating it when it is missing. Blocks the thread.
    pub fn wait(path: &Path) -> io::Result<Self> {
        loop {
            let file = open(path)?;
            file.lock()?;
            if is_at(&file, path) {
                return Ok(Self { file });
            }
        }
    }

    /// Takes `path` if nobody holds it, creating it when it is missing.
    pub fn attempt(path: &Path) -> io::Result<Option<Self>> {
        loop {
            let file = open(path)?;
            match file.try_lock() {
                Ok(()) if is_at(&file, path) => return Ok(Some(Self { file })),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Another handle of the same lock, for a process that is to hold it too: it is free when all are closed.
    pub fn share(&self) -> io::Result<OwnedFd> {
        self.file.try_clone().map(Into::into)
    }

    /// Takes over a handle that [`FileLock::share`] gave. `None` if it does not hold `path`.
    pub fn adopt(handle: OwnedFd, path: &Path) -> io::Result<Option<Self>> {
        let file = File::from(handle);
        // Whoever holds it gets it again; for anybody else it is an attempt.
        match file.try_lock() {
            Ok(()) => Ok(is_at(&file, path).then_some(Self { file })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// Whether somebody holds `path` now. Does not create it, and does not get in the way of another such question.
    pub fn is_held(path: &Path) -> bool {
        File::open(path).is_ok_and(|file| matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }

    /// Whether somebody holds `path` now, or that this cannot be told. Otherwise as [`FileLock::is_held`].
    pub fn find_holder(path: &Path) -> io::Result<bool> {
        match File::open(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(error)) => Err(error),
            },
        }
    }

    /// Removes the file while it is held, then lets go.
    pub fn remove(self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }
}

/// Whether `file` is what `path` names now: its last holder may have removed it while we waited.
fn is_at(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(ours), Ok(there)) => (ours.dev(), ours.ino()) == (there.dev(), there.ino()),
        _ => false,
    }
}

fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_that_is_handed_over_is_never_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let first = FileLock::attempt(&path).unwrap().unwrap();
        let handle = first.share().unwrap();
        assert!(
            FileLock::adopt(File::open(&path).unwrap().into(), &path).unwrap().is_none(),
            "not a handle of it"
        );
        drop(first);
        assert!(FileLock::is_held(&path));
        let second = FileLock::adopt(handle, &path).unwrap().expect("it holds the lock");
        assert!(FileLock::is_held(&path) && FileLock::attempt(&path).unwrap().is_none());
        drop(second);
        is_free_soon(&path);
    }

    #[test]
    fn one_holder_at_a_time_and_a_removed_file_is_nobodys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        assert!(!FileLock::is_held(&path));
        let first = FileLock::attempt(&path).unwrap().expect("nobody holds it");
        assert!(FileLock::is_held(&path) && FileLock::is_held(&path));
        assert!(FileLock::attempt(&path).unwrap().is_none());
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || FileLock::wait(&path).unwrap()
        });
        first.remove(&path).unwrap();
        let second = waiter.join().unwrap();
        assert!(path.exists(), "the waiter holds a file that is there");
        drop(second);
        is_free_soon(&path);
    }

    /// A child that another test starts holds all our files until it has begun.
    fn is_free_soon(path: &Path) {
        let begun = std::time::Instant::now();
        while FileLock::is_held(path) {
            assert!(begun.elapsed().as_secs() < 10, "nobody holds it any more");
            std::thread::yield_now();
        }
    }
}

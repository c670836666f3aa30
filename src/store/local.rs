//! What never leaves this machine: the directory under the git directory, its lock, and this clone's name.

use super::Error;
use crate::git::Repository;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The operations that moved refs in this clone, a line each.
const OPERATIONS: &str = "operations";
/// What was answered in this clone, a line each.
const ANSWERED: &str = "answered";

/// 128 random bits.
pub(super) fn random_u128() -> Result<u128, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|e| Error::Random(e.to_string()))?;
    Ok(u128::from_le_bytes(bytes))
}

/// The local directory, made if need be, readable by the user alone.
pub(super) fn directory(repo: &Repository) -> Result<PathBuf, Error> {
    let dir = repo.local_dir();
    create_private(&dir)?;
    Ok(dir)
}

/// Makes a directory and its parents with mode 0700; one that is there is left as it is.
pub(super) fn create_private(dir: &Path) -> Result<(), Error> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| Error::local("create", dir, e))
}

/// Both locks of the state: whoever holds them is alone.
#[derive(Debug)]
pub(super) struct Alone {
    #[expect(dead_code, reason = "held, never read")]
    publishing: File,
    #[expect(dead_code, reason = "held, never read")]
    writing: File,
}

/// Takes both locks. While they are held nobody else makes changes of the state, or moves its ref.
pub(super) fn lock(repo: &Repository) -> Result<Alone, Error> {
    // In this order everywhere: whoever holds the second never waits for the first.
    Ok(Alone { publishing: publishing(repo)?, writing: writing(repo)? })
}

/// Waits for the lock under which changes are made, one on top of the other. The kernel releases it when its holder
/// dies.
pub(super) fn writing(repo: &Repository) -> Result<File, Error> {
    wait(repo, "lock")
}

/// Waits for the lock under which changes get to disk and refs are moved.
pub(super) fn publishing(repo: &Repository) -> Result<File, Error> {
    wait(repo, "publish")
}

/// The same, if nobody holds it.
pub(super) fn try_publishing(repo: &Repository) -> Result<Option<File>, Error> {
    let (file, path) = open(repo, "publish")?;
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(TryLockError::WouldBlock) => Ok(None),
        Err(TryLockError::Error(e)) => Err(Error::local("lock", &path, e)),
    }
}

/// Waits until whoever holds that lock lets go of it. All who wait so go on at the same time.
pub(super) fn await_publishing(repo: &Repository) -> Result<(), Error> {
    let (file, path) = open(repo, "publish")?;
    file.lock_shared().map_err(|e| Error::local("lock", &path, e))
}

fn wait(repo: &Repository, name: &str) -> Result<File, Error> {
    let (file, path) = open(repo, name)?;
    file.lock().map_err(|e| Error::local("lock", &path, e))?;
    Ok(file)
}

fn open(repo: &Repository, name: &str) -> Result<(File, PathBuf), Error> {
    let path = directory(repo)?.join(name);
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    Ok((file.map_err(|e| Error::local("open", &path, e))?, path))
}

/// Keeps that an operation moved refs here, before it does: what a state that came from elsewhere says of refs is
/// only a claim.
pub(super) fn remember_operation(repo: &Repository, id: &crate::model::Id) -> Result<(), Error> {
    let known = std::fs::read_to_string(directory(repo)?.join(OPERATIONS)).unwrap_or_default();
    if known.lines().last() == Some(id.as_str()) {
        return Ok(());
    }
    append(repo, OPERATIONS, id.as_str())
}

/// Whether an operation moved refs in this clone.
pub(super) fn knows_operation(repo: &Repository, id: &str) -> Result<bool, Error> {
    contains(repo, OPERATIONS, id)
}

/// Keeps that words were said in this clone, before they are recorded: who said something the state can only claim.
pub(super) fn remember_word(repo: &Repository, word: &str) -> Result<(), Error> {
    append(repo, ANSWERED, word)
}

/// Whether words were said in this clone.
pub(super) fn knows_word(repo: &Repository, word: &str) -> Result<bool, Error> {
    contains(repo, ANSWERED, word)
}

fn append(repo: &Repository, name: &str, line: &str) -> Result<(), Error> {
    let path = directory(repo)?.join(name);
    let file = File::options().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| writeln!(file, "{line}"));
    written.map_err(|e| Error::local("write", &path, e))
}

fn contains(repo: &Repository, name: &str, wanted: &str) -> Result<bool, Error> {
    let path = repo.local_dir().join(name);
    match std::fs::read_to_string(&path) {
        Ok(known) => Ok(known.lines().any(|line| line == wanted)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(e) => Err(Error::local("read", &path, e)),
    }
}

/// This clone's name: six characters, made once. What cannot be read is not made anew.
pub(super) fn machine(repo: &Repository) -> Result<String, Error> {
    if let Some(name) = find_machine(repo)? {
        return Ok(name);
    }
    let (file, path) = new_machine(repo)?;
    // Of two processes that are the first at once, one names the clone and the other reads that name.
    match file.persist_noclobber(&path) {
        Ok(_) => {}
        Err(e) if e.error.kind() == std::io::ErrorKind::AlreadyExists && find_machine(repo)?.is_some() => {}
        Err(e) => {
            e.file.persist(&path).map_err(|e| Error::local("write", &path, e.error))?;
        }
    }
    let name = find_machine(repo)?;
    let name = name.ok_or_else(|| Error::local("read", &path, std::io::ErrorKind::NotFound.into()))?;
    // Whoever does not know where it is takes it for what it is, so that may fail.
    if let Err(error) = super::home::write(repo, &name, None) {
        tracing::debug!("cannot keep where this clone is: {error}");
    }
    Ok(name)
}

/// This clone's name; `None` if it has none yet, or something that is no name.
pub(super) fn find_machine(repo: &Repository) -> Result<Option<String>, Error> {
    let path = repo.local_dir().join("machine");
    match std::fs::read(&path) {
        Ok(text) => {
            Ok(String::from_utf8(text).ok().map(|text| text.trim().to_owned()).filter(|n| is_machine(n)))
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::local("read", &path, e)),
    }
}

/// Gives this clone another name. Call it alone.
pub(super) fn rename_machine(repo: &Repository) -> Result<String, Error> {
    let (file, path) = new_machine(repo)?;
    file.persist(&path).map_err(|e| Error::local("write", &path, e.error))?;
    let name = find_machine(repo)?;
    name.ok_or_else(|| Error::local("read", &path, std::io::ErrorKind::NotFound.into()))
}

/// A file with a new name, and where it belongs.
fn new_machine(repo: &Repository) -> Result<(tempfile::NamedTempFile, PathBuf), Error> {
    let path = repo.local_dir().join("machine");
    let dir = directory(repo)?;
    let id = crate::model::Id::from_random(random_u128()?);
    let mut file =
        tempfile::NamedTempFile::new_in(&dir).map_err(|e| Error::local("create a file in", &dir, e))?;
    let written = writeln!(file, "{}", &id.as_str()[..6]).and_then(|()| file.as_file().sync_all());
    written.map_err(|e| Error::local("write", &path, e))?;
    Ok((file, path))
}

pub(super) fn is_machine(name: &str) -> bool {
    name.len() == 6 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

//! What never leaves this machine: the directory under the git directory, its lock, and this clone's name.

use super::Error;
use crate::git::Repository;
use std::fs::{DirBuilder, File};
use std::io::Write;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

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

/// Takes the one lock under which the state is written. Held until the file is dropped; the kernel releases it
/// when a process dies.
pub(super) fn lock(repo: &Repository) -> Result<File, Error> {
    let path = directory(repo)?.join("lock");
    let file = File::options().create(true).truncate(false).write(true).open(&path);
    let file = file.map_err(|e| Error::local("open", &path, e))?;
    file.lock().map_err(|e| Error::local("lock", &path, e))?;
    // Whoever held it last may have been killed between two refs: the others move before anything else does.
    repo.mend_locks()?;
    Ok(file)
}

/// Keeps that an operation moved refs here, before it does: what a state that came from elsewhere says of refs is
/// only a claim.
pub(super) fn remember_operation(repo: &Repository, id: &crate::model::Id) -> Result<(), Error> {
    let path = directory(repo)?.join("operations");
    let known = std::fs::read_to_string(&path).unwrap_or_default();
    if known.lines().last() == Some(id.as_str()) {
        return Ok(());
    }
    let file = File::options().create(true).append(true).open(&path);
    let written = file.and_then(|mut file| writeln!(file, "{id}"));
    written.map_err(|e| Error::local("write", &path, e))
}

/// Whether an operation moved refs in this clone.
pub(super) fn knows_operation(repo: &Repository, id: &str) -> bool {
    let known = std::fs::read_to_string(repo.local_dir().join("operations")).unwrap_or_default();
    known.lines().any(|line| line == id)
}

/// This clone's name: six characters, made once.
pub(super) fn machine(repo: &Repository) -> Result<String, Error> {
    let path = repo.local_dir().join("machine");
    let read = || std::fs::read_to_string(&path).map(|text| text.trim().to_owned());
    if let Ok(name) = read()
        && is_machine(&name)
    {
        return Ok(name);
    }
    let dir = directory(repo)?;
    let id = crate::model::Id::from_random(random_u128()?);
    let mut file =
        tempfile::NamedTempFile::new_in(&dir).map_err(|e| Error::local("create a file in", &dir, e))?;
    let failed = |e| Error::local("write", &path, e);
    writeln!(file, "{}", &id.as_str()[..6]).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
    // Of two processes that are the first at once, one names the clone and the other reads that name.
    match file.persist_noclobber(&path) {
        Ok(_) => {}
        Err(e)
            if e.error.kind() == std::io::ErrorKind::AlreadyExists
                && read().is_ok_and(|n| is_machine(&n)) => {}
        Err(e) => {
            e.file.persist(&path).map_err(|e| failed(e.error))?;
        }
    }
    read().map_err(|e| Error::local("read", &path, e))
}

pub(super) fn is_machine(name: &str) -> bool {
    name.len() == 6 && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
}

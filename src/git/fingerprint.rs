//! Whether somebody touched the main checkout or what all worktrees share.

use super::{Error, Repository};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// What the main checkout and the shared files looked like at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint(BTreeMap<String, [u8; 32]>);

impl Fingerprint {
    /// What differs in `later`, in words and sorted: `HEAD`, `config`, `hooks/pre-commit`.
    pub fn changes(&self, later: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<_> = self.0.keys().chain(later.0.keys()).collect();
        names.into_iter().filter(|&name| self.0.get(name) != later.0.get(name)).cloned().collect()
    }

    /// Whether a file among `changes` can make git run a program: the configuration or a hook.
    pub fn is_dangerous(changes: &[String]) -> bool {
        changes.iter().any(|name| name.starts_with("config") || name.starts_with("hooks/"))
    }
}

impl Repository {
    /// Looks at the main checkout's `HEAD` and index, and at the configuration, hooks and attributes that all
    /// worktrees share. Reads files only, a few kilobytes.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        let common = self.common_dir();
        let mut seen = BTreeMap::new();
        for name in ["HEAD", "config", "config.worktree", "info/attributes", "info/exclude", "info/grafts"] {
            if let Some(hash) = hash(&common.join(name), None)? {
                seen.insert(name.to_owned(), hash);
            }
        }
        // An index ends with a hash of itself.
        if let Some(hash) = hash(&common.join("index"), Some(64))? {
            seen.insert("index".to_owned(), hash);
        }
        for entry in std::fs::read_dir(common.join("hooks")).into_iter().flatten().flatten() {
            if let Some(hash) = hash(&entry.path(), None)? {
                seen.insert(format!("hooks/{}", entry.file_name().to_string_lossy()), hash);
            }
        }
        Ok(Fingerprint(seen))
    }
}

/// The hash of a file, or of its size and its last `tail` bytes; `None` if there is no such file.
fn hash(path: &Path, tail: Option<u64>) -> Result<Option<[u8; 32]>, Error> {
    let read = || -> std::io::Result<[u8; 32]> {
        let mut file = std::fs::File::open(path)?;
        let mut hasher = Sha256::new();
        let size = file.metadata()?.len();
        hasher.update(size.to_le_bytes());
        if let Some(tail) = tail {
            file.seek(SeekFrom::Start(size.saturating_sub(tail)))?;
        }
        let mut content = Vec::new();
        file.read_to_end(&mut content)?;
        hasher.update(&content);
        Ok(hasher.finalize().into())
    };
    if !path.is_file() {
        return Ok(None);
    }
    match read() {
        Ok(hash) => Ok(Some(hash)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file("read", path, e)),
    }
}

#[cfg(test)]
mod tests {
    use crate::git::Fingerprint;
    use crate::git::testing::Sandbox;

    #[test]
    fn changes_are_named() {
        let sandbox = Sandbox::new(&[]);
        let repository = sandbox.open();
        let before = repository.fingerprint().unwrap();
        assert!(before.changes(&repository.fingerprint().unwrap()).is_empty());
        sandbox.git(&["config", "alias.x", "!true"]);
        std::fs::write(repository.common_dir().join("hooks/pre-commit"), "#!/bin/sh\n").unwrap();
        std::fs::write(sandbox.path().join("new"), "new").unwrap();
        sandbox.git(&["add", "new"]);
        let changes = before.changes(&repository.fingerprint().unwrap());
        assert_eq!(changes, ["config", "hooks/pre-commit", "index"]);
        assert!(Fingerprint::is_dangerous(&changes));
        assert!(!Fingerprint::is_dangerous(&["index".to_owned()]));
    }
}

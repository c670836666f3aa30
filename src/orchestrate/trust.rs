//! What git is told to run here, from before the first agent began until nothing of theirs runs any more.
//!
//! An agent can write the configuration and the hooks that all worktrees share, and with a filter, a merge driver or
//! a hook choose what git runs as the user afterwards. What they were before is kept in
//! `orchestra/trusted.json` in the git directory; while they differ, nothing here lets git look at what agents
//! wrote. It may not run git itself.

use super::{Error, lease};
use crate::git::{Fingerprint, Repository};
use crate::process::FileLock;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// The files whose words are kept, so that a change can be shown.
const SHOWN: [&str; 2] = ["config", "config.worktree"];

/// What was there when nobody but the user could have written it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Trusted {
    /// Hashes, in hexadecimal, by the file's name in the git directory.
    hashes: BTreeMap<String, String>,
    /// The content of some of them.
    #[serde(default)]
    texts: BTreeMap<String, String>,
}

/// What somebody changed since agents began to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The files, by their names in the git directory.
    pub files: Vec<String>,
    /// The lines of configuration that are gone, and those that are new: file and line.
    pub gone: Vec<(String, String)>,
    /// See `gone`.
    pub new: Vec<(String, String)>,
    /// The hash of what is there now, by which it can be accepted.
    pub hash: String,
}

/// Remembers what is there, before an agent is started. What an earlier session remembered counts on.
pub(super) fn remember(repo: &Repository) -> Result<(), Error> {
    let path = path(repo);
    // Of several sessions that begin at once one remembers: what the others would see later an agent of the first one
    // may have written.
    let _lock = lock(repo)?;
    if path.exists() {
        return Ok(());
    }
    write(repo, &path, &Trusted::of(repo, &repo.fingerprint()?))
}

/// Forgets what was remembered once it is what is there and nobody runs.
pub(super) fn forget(repo: &Repository) {
    if !path(repo).exists() {
        return;
    }
    // Whoever begins meanwhile has their lease first, and then waits here to remember.
    let Ok(_lock) = lock(repo) else { return };
    if path(repo).exists()
        && lease::live(repo).is_empty()
        && !super::merge::gate::are_at_work(repo)
        && matches!(find_change(repo), Ok(None))
    {
        let _ = std::fs::remove_file(path(repo));
    }
}

/// What was changed since agents began to run, if anything.
///
/// # Errors
/// If it cannot be known.
pub fn find_change(repo: &Repository) -> Result<Option<Change>, Error> {
    let path = path(repo);
    let bytes = match std::fs::read(&path) {
        Ok(bytes) => bytes,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(Error::file("read", path, e)),
    };
    // A file that cannot be understood was not written by us: everything counts as changed.
    let before: Trusted = serde_json::from_slice(&bytes).unwrap_or_default();
    let now = Trusted::of(repo, &repo.fingerprint()?);
    if before.hashes == now.hashes {
        return Ok(None);
    }
    let names: BTreeSet<&String> = before.hashes.keys().chain(now.hashes.keys()).collect();
    let files = names.into_iter().filter(|&name| before.hashes.get(name) != now.hashes.get(name)).cloned();
    let lines = |one: &Trusted, other: &Trusted| -> Vec<(String, String)> {
        let mut lines = Vec::new();
        for name in SHOWN {
            let of =
                |trusted: &Trusted| trusted.texts.get(name).map(|text| settings(text)).unwrap_or_default();
            let known = of(other);
            lines.extend(
                of(one).into_iter().filter(|line| !known.contains(line)).map(|l| (name.to_owned(), l)),
            );
        }
        lines
    };
    Ok(Some(Change {
        files: files.collect(),
        gone: lines(&before, &now),
        new: lines(&now, &before),
        hash: now.hash(),
    }))
}

/// Refuses to let git look at what agents wrote while what it is told to run is not what it was.
///
/// # Errors
/// [`Error::Refused`] then, with what would help.
pub fn require_unchanged(repo: &Repository) -> Result<(), Error> {
    match find_change(repo)? {
        None => Ok(()),
        Some(change) => Err(Error::refused(
            format!(
                "let git look at what agents wrote: since they began, somebody changed what it runs here ({})",
                change.files.join(", ")
            ),
            "`git orchestra config approve` shows the change and accepts it; or put it back as it was"
                .to_owned(),
        )),
    }
}

/// Whether what `now` shows is what was remembered, or accepted since. Not so where nothing is kept: an agent may have
/// removed it.
pub(super) fn is_kept(repo: &Repository, now: &Fingerprint) -> bool {
    let kept =
        std::fs::read(path(repo)).ok().and_then(|bytes| serde_json::from_slice::<Trusted>(&bytes).ok());
    kept.is_some_and(|kept| kept.hashes == Trusted::of(repo, now).hashes)
}

/// Takes what is there now for what the user wants.
pub fn accept(repo: &Repository, change: &Change) -> Result<(), Error> {
    let now = Trusted::of(repo, &repo.fingerprint()?);
    if now.hash() != change.hash {
        return Err(Error::refused("accept the change: it is another one by now", None));
    }
    write(repo, &path(repo), &now)?;
    forget(repo);
    Ok(())
}

impl Trusted {
    fn of(repo: &Repository, fingerprint: &Fingerprint) -> Self {
        let hashes = fingerprint.dangerous().iter().map(|(name, hash)| {
            let hex = hash.iter().fold(String::new(), |mut hex, byte| {
                write!(hex, "{byte:02x}").expect("writing to memory");
                hex
            });
            (name.clone(), hex)
        });
        let text = |name: &&str| Some(((*name).to_owned(), read(&repo.common_dir().join(name))?));
        Self { hashes: hashes.collect(), texts: SHOWN.iter().filter_map(text).collect() }
    }

    fn hash(&self) -> String {
        let mut hash = Sha256::new();
        for (name, value) in &self.hashes {
            hash.update(format!("{}:{name}={value}\n", name.len()));
        }
        format!("{:x}", hash.finalize())
    }
}

/// The lines of a configuration file, each with its section's header before it.
fn settings(text: &str) -> Vec<String> {
    let mut section = "";
    let mut lines = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if line.starts_with('[') {
            section = line;
            if line.ends_with(']') {
                continue;
            }
            lines.push(line.to_owned());
        } else {
            lines.push(format!("{section} {line}"));
        }
    }
    lines
}

fn read(path: &Path) -> Option<String> {
    std::fs::read(path).ok().map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn write(repo: &Repository, path: &Path, trusted: &Trusted) -> Result<(), Error> {
    let dir = repo.local_dir();
    let failed = |e: std::io::Error| Error::file("write", path, e);
    std::fs::create_dir_all(&dir).map_err(failed)?;
    let file = tempfile::NamedTempFile::new_in(&dir).map_err(failed)?;
    serde_json::to_writer(&file, trusted).map_err(|e| failed(e.into()))?;
    file.persist(path).map_err(|e| failed(e.error))?;
    Ok(())
}

/// Held while it is remembered or forgotten.
fn lock(repo: &Repository) -> Result<FileLock, Error> {
    let dir = repo.local_dir();
    std::fs::create_dir_all(&dir).map_err(|e| Error::file("create", &dir, e))?;
    let path = dir.join("trusted.lock");
    FileLock::wait(&path).map_err(|e| Error::file("lock", path, e))
}

fn path(repo: &Repository) -> PathBuf {
    repo.local_dir().join("trusted.json")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    #[test]
    fn what_was_there_before_agents_ran_counts_until_it_is_accepted_or_put_back() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        require_unchanged(&repo).unwrap();
        sandbox.git(&["config", "alias.mine", "!true"]);
        remember(&repo).unwrap();
        sandbox.git(&["config", "branch.main.remote", "origin"]);
        require_unchanged(&repo).unwrap();
        sandbox.git(&["config", "filter.x.clean", "evil"]);
        std::fs::write(repo.common_dir().join("hooks/pre-push"), "#!/bin/sh\n").unwrap();
        // A session that begins now does not take it for the user's.
        remember(&repo).unwrap();
        forget(&repo);
        let change = find_change(&repo).unwrap().unwrap();
        assert_eq!(change.files, ["config", "hooks/pre-push"]);
        assert!(change.gone.is_empty());
        let line = ("config".to_owned(), "[filter \"x\"] clean = evil".to_owned());
        assert!(change.new.contains(&line), "{change:?}");
        let error = require_unchanged(&repo).unwrap_err();
        assert!(error.to_string().ends_with("(config, hooks/pre-push)"), "{error}");
        sandbox.git(&["config", "--remove-section", "filter.x"]);
        std::fs::remove_file(repo.common_dir().join("hooks/pre-push")).unwrap();
        require_unchanged(&repo).unwrap();
        assert!(accept(&repo, &change).is_err(), "it is not there any more");
        sandbox.git(&["config", "filter.x.clean", "cat"]);
        let change = find_change(&repo).unwrap().unwrap();
        accept(&repo, &change).unwrap();
        require_unchanged(&repo).unwrap();
        assert!(!path(&repo).exists());
        // With nobody running and nothing remembered, the user may do what they like.
        sandbox.git(&["config", "filter.y.clean", "cat"]);
        require_unchanged(&repo).unwrap();
    }
}

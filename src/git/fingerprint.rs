//! Whether somebody touched the main checkout or what all worktrees share.

use super::{Error, Repository};
use bstr::ByteSlice;
use gix::config::Source;
use nix::errno::Errno;
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::DirEntry;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// What the main checkout and the shared files looked like at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Fingerprint {
    seen: BTreeMap<String, [u8; 32]>,
    /// The same for what can make git run a program: configuration without what branches track, and hooks.
    dangerous: BTreeMap<String, [u8; 32]>,
}

impl Fingerprint {
    /// What differs in `later`, in words and sorted: `HEAD`, `config`, `hooks/pre-commit`.
    pub fn changes(&self, later: &Self) -> Vec<String> {
        let names: BTreeSet<_> = self.seen.keys().chain(later.seen.keys()).collect();
        names.into_iter().filter(|&name| self.seen.get(name) != later.seen.get(name)).cloned().collect()
    }

    /// Hashes, by name, of what can make git run a program.
    pub const fn dangerous(&self) -> &BTreeMap<String, [u8; 32]> {
        &self.dangerous
    }

    /// Whether `later` differs in what can make git run a program: a hook, or the configuration beyond what branches
    /// track (which `git push -u` writes).
    pub fn is_dangerous(&self, later: &Self) -> bool {
        self.dangerous != later.dangerous
    }
}

impl Repository {
    /// Looks at the main checkout's `HEAD` and index, and at the configuration, hooks and attributes that all
    /// worktrees share, those of submodules and the user's own included. Reads files only, a few kilobytes.
    pub fn fingerprint(&self) -> Result<Fingerprint, Error> {
        let common = self.common_dir();
        let (mut seen, mut dangerous) = (BTreeMap::new(), BTreeMap::new());
        for name in ["HEAD", "config", "config.worktree", "info/attributes", "info/exclude", "info/grafts"] {
            if let Some(hash) = hash(&common.join(name), None)? {
                seen.insert(name.to_owned(), hash);
            }
        }
        for name in ["config", "config.worktree"] {
            if let Some(text) = read(&common.join(name))? {
                dangerous.insert(name.to_owned(), Sha256::digest(without_branches(&text)).into());
            }
        }
        // Read where `extensions.worktreeConfig` says so; `git worktree add` makes them as copies of the common one.
        for entry in list(&common.join("worktrees"))? {
            if let Some(text) = read(&entry.path().join("config.worktree"))? {
                let hash = Sha256::digest(without_branches(&text)).into();
                if dangerous.get("config.worktree") != Some(&hash) {
                    let name = format!("worktrees/{}/config.worktree", entry.file_name().to_string_lossy());
                    seen.insert(name.clone(), hash);
                    dangerous.insert(name, hash);
                }
            }
        }
        // An index ends with a hash of itself.
        if let Some(hash) = hash(&common.join("index"), Some(64))? {
            seen.insert("index".to_owned(), hash);
        }
        for entry in list(&common.join("hooks"))? {
            if let Some(hash) = hash(&entry.path(), None)? {
                let name = format!("hooks/{}", entry.file_name().to_string_lossy());
                seen.insert(name.clone(), hash);
                dangerous.insert(name, hash);
            }
        }
        // Submodules have repositories of their own here, in which git runs what their configuration says.
        self.submodules(&common.join("modules"), 0, &mut |name, hash| {
            seen.insert(name.clone(), hash);
            dangerous.insert(name, hash);
        })?;
        // What the configuration here includes, and the user's own: agents run as the user.
        for file in self.configuration_files()? {
            if !file.starts_with(common)
                && let Some(text) = read(&file)?
                && let kept = without_harmless(&text)
                && !kept.is_empty()
            {
                let (name, hash) = (file.to_string_lossy().into_owned(), Sha256::digest(kept).into());
                seen.insert(name.clone(), hash);
                dangerous.insert(name, hash);
            }
        }
        Ok(Fingerprint { seen, dangerous })
    }

    /// Every file that git's configuration is read from now, the user's and included ones too.
    ///
    /// # Errors
    /// If one of them is there and cannot be read for want of something: it is not known then which it includes.
    pub fn configuration_files(&self) -> Result<BTreeSet<PathBuf>, Error> {
        // Opened anew: what is included may have changed since this repository was.
        let options = gix::open::Options::default().with(gix::sec::Trust::Full);
        let gix = gix::open_opts(self.common_dir(), options)
            .map_err(|e| Error::file("open", self.common_dir(), std::io::Error::other(e)))?;
        let snapshot = gix.config_snapshot();
        let files: BTreeSet<PathBuf> =
            snapshot.plumbing().sections().filter_map(|section| section.meta().path.clone()).collect();
        // gix goes on without a file that it cannot open, with too many open say. What it would have said is not known
        // then; that it says nothing is.
        for source in [Source::GitInstallation, Source::System, Source::Git, Source::User] {
            if let Some(file) = source.storage_location(&mut gix::path::env::var)
                && !files.contains(&file)
                && read(&file)?.is_some_and(|text| text.contains(&b'['))
            {
                return Err(Error::file(
                    "read",
                    file,
                    std::io::Error::other("it could not be opened at first"),
                ));
            }
        }
        Ok(files)
    }

    fn submodules(
        &self,
        dir: &Path,
        depth: usize,
        found: &mut dyn FnMut(String, [u8; 32]),
    ) -> Result<(), Error> {
        for entry in list(dir)? {
            let path = entry.path();
            if depth > MODULES_DEPTH || !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                continue;
            }
            if !path.join("HEAD").exists() {
                // A submodule's name may have slashes.
                self.submodules(&path, depth + 1, found)?;
                continue;
            }
            let hooks = list(&path.join("hooks"))?.into_iter().map(|hook| hook.path());
            let files = hooks.chain([path.join("config"), path.join("config.worktree")]);
            for file in files {
                if let Some(hash) = hash(&file, None)? {
                    let name = file.strip_prefix(self.common_dir()).unwrap_or(&file);
                    found(name.to_string_lossy().into_owned(), hash);
                }
            }
            self.submodules(&path.join("modules"), depth + 1, found)?;
        }
        Ok(())
    }
}

/// How deep submodules' repositories are looked for.
const MODULES_DEPTH: usize = 8;

/// Sections of a user's configuration in which nothing names a program, and which programs of all kinds write.
const HARMLESS: [&str; 12] =
    ["advice", "color", "column", "commit", "fetch", "help", "log", "pull", "push", "status", "tag", "user"];

/// A configuration file without comments and sections that can make git run nothing. Whatever is written in an
/// unusual way stays in.
fn without_harmless(text: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut harmless = false;
    for line in text.lines() {
        let plain = line.trim();
        if plain.is_empty() || plain.starts_with(b"#") || plain.starts_with(b";") {
            continue;
        }
        if let Some(header) = plain.strip_prefix(b"[").and_then(|rest| rest.strip_suffix(b"]")) {
            let end = header.iter().position(|b| matches!(b, b' ' | b'.' | b'\t')).unwrap_or(header.len());
            let name = header[..end].to_ascii_lowercase();
            harmless = !header.contains(&b'[') && HARMLESS.iter().any(|known| known.as_bytes() == name);
        } else if plain.starts_with(b"[") || plain.ends_with(b"\\") {
            harmless = false;
        }
        if !harmless {
            kept.extend_from_slice(plain);
            kept.push(b'\n');
        }
    }
    kept
}

/// A configuration file without plain `[branch "…"]` sections. Whatever is written in an unusual way stays in.
fn without_branches(text: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut in_branch = false;
    for line in text.lines_with_terminator() {
        let plain = line.trim();
        if plain.starts_with(b"[") {
            let name = plain.strip_prefix(b"[branch \"").and_then(|rest| rest.strip_suffix(b"\"]"));
            in_branch =
                name.is_some_and(|name| !name.iter().any(|b| matches!(b, b'"' | b'\\' | b'[' | b']')));
        } else if in_branch {
            let key = plain.split(|b| matches!(b, b' ' | b'=' | b'\t')).next().unwrap_or_default();
            let known = ["remote", "merge", "rebase", "pushremote", "description"];
            let known = known.iter().any(|name| key.eq_ignore_ascii_case(name.as_bytes()));
            in_branch = known && !plain.contains(&b'\\');
        }
        if !in_branch {
            kept.extend_from_slice(line);
        }
    }
    kept
}

/// What a directory has; nothing if there is no such directory. What cannot be read is no directory without entries:
/// then nothing is known.
fn list(dir: &Path) -> Result<Vec<DirEntry>, Error> {
    match std::fs::read_dir(dir).and_then(Iterator::collect) {
        Err(e) if is_absent(&e) => Ok(Vec::new()),
        entries => entries.map_err(|e| Error::file("read", dir, e)),
    }
}

/// What a file says; `None` if there is no such file.
fn read(file: &Path) -> Result<Option<Vec<u8>>, Error> {
    let content = strange(file)
        .and_then(|is_strange| if is_strange { Ok(STRANGE.to_vec()) } else { std::fs::read(file) });
    match content {
        Err(e) if is_absent(&e) => Ok(None),
        content => content.map(Some).map_err(|e| Error::file("read", file, e)),
    }
}

/// What stands for the content of what is no file and no directory.
const STRANGE: &[u8] = b"no file";

/// Whether there is something that nobody can ever read, which is not the same as nothing: a link to itself; or
/// something whose reader may wait for ever, as a pipe is.
fn strange(path: &Path) -> std::io::Result<bool> {
    match std::fs::metadata(path) {
        Err(e) if e.raw_os_error() == Some(Errno::ELOOP as i32) => Ok(true),
        known => known.map(|known| !known.is_file() && !known.is_dir()),
    }
}

/// Whether there is nothing for us, nor for a git that the same user runs.
fn is_absent(error: &std::io::Error) -> bool {
    use ErrorKind::{IsADirectory, NotADirectory, NotFound, PermissionDenied};
    matches!(error.kind(), NotFound | NotADirectory | IsADirectory | PermissionDenied)
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
    match strange(path) {
        Err(e) if is_absent(&e) => return Ok(None),
        Ok(true) => return Ok(Some(Sha256::digest(STRANGE).into())),
        Ok(false) if !path.is_file() => return Ok(None),
        Ok(false) | Err(_) => {}
    }
    match read() {
        Ok(hash) => Ok(Some(hash)),
        Err(e) if is_absent(&e) => Ok(None),
        Err(e) => Err(Error::file("read", path, e)),
    }
}

#[cfg(test)]
mod tests {
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
        let after = repository.fingerprint().unwrap();
        let changes = before.changes(&after);
        assert_eq!(changes, ["config", "hooks/pre-commit", "index"]);
        assert!(before.is_dangerous(&after));
        sandbox.git(&["config", "branch.main.remote", "origin"]);
        sandbox.git(&["config", "branch.main.merge", "refs/heads/main"]);
        let tracking = repository.fingerprint().unwrap();
        assert_eq!(after.changes(&tracking), ["config"]);
        assert!(!after.is_dangerous(&tracking));
        for hidden in [
            "[branch \"x\"]\n\tremote = a\n\t[core] fsmonitor = x\n",
            "[branch \"x\"] [core]\nfsmonitor = x\n",
        ] {
            let config = repository.common_dir().join("config");
            let text = std::fs::read_to_string(&config).unwrap();
            std::fs::write(&config, format!("{text}{hidden}")).unwrap();
            assert!(tracking.is_dangerous(&repository.fingerprint().unwrap()), "{hidden}");
            std::fs::write(&config, text).unwrap();
        }
    }

    #[test]
    fn what_is_included_and_what_submodules_have_counts_too() {
        let sandbox = Sandbox::new(&[]);
        let repository = sandbox.open();
        let included = sandbox.dir.path().join("included");
        std::fs::write(&included, "[user]\n\tname = Ada\n").unwrap();
        sandbox.git(&["config", "include.path", included.to_str().unwrap()]);
        let module = repository.common_dir().join("modules/group/one");
        std::fs::create_dir_all(module.join("hooks")).unwrap();
        std::fs::write(module.join("HEAD"), "ref: refs/heads/main\n").unwrap();
        std::fs::write(module.join("config"), "[core]\n").unwrap();
        let before = repository.fingerprint().unwrap();
        std::fs::write(&included, "# Hello\n[user]\n\tname = Bob\n[color \"x\"]\n\tui = always\n").unwrap();
        assert!(!before.is_dangerous(&repository.fingerprint().unwrap()), "no program is named");
        for hidden in ["[filter \"x\"]\n\tclean = evil\n", "[user][core]\nfsmonitor = evil\n"] {
            std::fs::write(&included, format!("[user]\n\tname = Ada\n{hidden}")).unwrap();
            let after = repository.fingerprint().unwrap();
            assert_eq!(before.changes(&after), [included.to_str().unwrap()], "{hidden}");
            assert!(before.is_dangerous(&after));
        }
        std::fs::write(&included, "").unwrap();
        std::fs::write(module.join("config"), "[core]\n\tfsmonitor = evil\n").unwrap();
        std::fs::write(module.join("hooks/post-checkout"), "evil").unwrap();
        let after = repository.fingerprint().unwrap();
        let changed = ["modules/group/one/config", "modules/group/one/hooks/post-checkout"];
        assert_eq!(before.changes(&after), changed);
        assert!(before.is_dangerous(&after));
    }
}

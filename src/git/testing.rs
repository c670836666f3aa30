//! Real throwaway repositories for the unit tests of this crate.

use super::Repository;
use crate::process::Command;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

/// A repository in a temporary directory, with an environment of its own.
pub(crate) struct Sandbox {
    pub(crate) dir: TempDir,
    env: Arc<BTreeMap<OsString, OsString>>,
}

impl Sandbox {
    /// `git init` with these options, and one commit on `main` unless it is bare.
    pub(crate) fn new(options: &[&str]) -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let home = dir.path().join("home");
        std::fs::create_dir(&home).expect("a home");
        let pairs = [
            ("PATH", "/usr/local/bin:/usr/bin:/bin"),
            ("HOME", home.to_str().expect("UTF-8")),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "Ada"),
            ("GIT_AUTHOR_EMAIL", "ada@example.org"),
            ("GIT_COMMITTER_NAME", "Ada"),
            ("GIT_COMMITTER_EMAIL", "ada@example.org"),
        ];
        let env = Arc::new(pairs.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect());
        let sandbox = Self { dir, env };
        std::fs::create_dir(sandbox.path()).expect("a directory for the repository");
        sandbox.git(&[&["init", "-q", "-b", "main"], options, &["."]].concat());
        if !options.contains(&"--bare") {
            sandbox.git(&["commit", "-q", "--allow-empty", "-m", "first"]);
        }
        sandbox
    }

    /// Where the repository is.
    pub(crate) fn path(&self) -> std::path::PathBuf {
        self.dir.path().join("repo")
    }

    /// Runs plain git there.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        self.git_in(&self.path(), args)
    }

    /// Runs plain git in another directory.
    pub(crate) fn git_in(&self, dir: &Path, args: &[&str]) -> String {
        let out = Command::new("git").envs(self.env.iter()).current_dir(dir).args(args).read();
        String::from_utf8(out.expect("git works")).expect("UTF-8").trim_end().to_owned()
    }

    /// Opens it.
    pub(crate) fn open(&self) -> Repository {
        self.open_in(&self.path())
    }

    /// Opens what `dir` lies in.
    pub(crate) fn open_in(&self, dir: &Path) -> Repository {
        Repository::discover(dir, Arc::clone(&self.env)).expect("a repository")
    }
}

/// Every combination of ref format and hash that git offers here.
pub(crate) const FORMATS: [[&str; 2]; 4] = [
    ["--ref-format=files", "--object-format=sha1"],
    ["--ref-format=files", "--object-format=sha256"],
    ["--ref-format=reftable", "--object-format=sha1"],
    ["--ref-format=reftable", "--object-format=sha256"],
];

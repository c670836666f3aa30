//! The one hardened way to run git.

use super::{Error, Repository, sparse};
use crate::process::Command;
use bstr::ByteSlice;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// Configuration that no repository may choose for the git processes that we start: nothing here runs a program
/// that an agent or a remote could have named, and refs reach the disk.
const PINNED: &[(&str, &str)] = &[
    ("core.fsmonitor", "false"),
    // Before a ref takes the place of the one before it: a power cut must not leave an empty one.
    ("core.fsync", "reference"),
    ("core.hooksPath", "/dev/null"),
    ("core.pager", "cat"),
    ("core.editor", ":"),
    ("core.askPass", ""),
    ("core.quotePath", "false"),
    ("core.sshCommand", "ssh -oBatchMode=yes"),
    ("diff.external", ""),
    ("diff.submodule", "short"),
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("commit.gpgSign", "false"),
    ("tag.gpgSign", "false"),
    ("log.showSignature", "false"),
    ("protocol.ext.allow", "never"),
    ("rerere.enabled", "false"),
    ("advice.detachedHead", "false"),
];

/// Gives a git command settings behind the pinned ones, in place of any that it was given there before. In the environment and
/// not as arguments: an error that quotes the command line stays readable, and a list of processes tells nothing.
pub(super) fn with_settings<K: AsRef<OsStr>, V: AsRef<OsStr>>(
    mut command: Command,
    settings: impl IntoIterator<Item = (K, V)>,
) -> Command {
    let mut count = PINNED.len();
    for (key, value) in settings {
        command = command
            .env(format!("GIT_CONFIG_KEY_{count}"), key)
            .env(format!("GIT_CONFIG_VALUE_{count}"), value);
        count += 1;
    }
    command.env("GIT_CONFIG_COUNT", count.to_string())
}

/// What is not worth a process of its own.
const FEW: usize = 8;

/// Variables of the user's environment that git is given.
const PASSED: &[&str] = &[
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "XDG_CONFIG_HOME",
    "SSH_AUTH_SOCK",
    "GIT_CONFIG_GLOBAL",
    "GIT_CONFIG_NOSYSTEM",
    "GIT_CONFIG_SYSTEM",
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_AUTHOR_DATE",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_COMMITTER_DATE",
];

impl Repository {
    /// A git command in this checkout (or bare repository), with hooks, pagers, editors, external diffs and
    /// prompts off, in the C locale, and without taking optional locks.
    pub fn git<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        self.git_at(self.git_dir(), self.work_dir(), args)
    }

    /// The same in a named git directory and working copy: those of an agent. They are passed explicitly and never
    /// discovered, because a worktree's `.git` file is the agent's to write.
    pub fn git_at<A: AsRef<OsStr>>(
        &self,
        git_dir: &Path,
        work_dir: Option<&Path>,
        args: impl IntoIterator<Item = A>,
    ) -> Command {
        let passed = PASSED.iter().filter_map(|&key| {
            let key: &OsStr = key.as_ref();
            self.env.get(key).map(|value| (key.to_owned(), value.clone()))
        });
        let mut command = Command::new("git").envs(passed).env("LC_ALL", "C");
        command = command.env("GIT_TERMINAL_PROMPT", "0").env("GIT_OPTIONAL_LOCKS", "0");
        command = command.env("GIT_DIR", git_dir).current_dir(work_dir.unwrap_or(git_dir));
        // A worktree's `commondir` file is the agent's to write as well, and says whose configuration counts.
        if git_dir != self.common_dir() {
            command = command.env("GIT_COMMON_DIR", self.common_dir());
        }
        if let Some(dir) = work_dir {
            command = command.env("GIT_WORK_TREE", dir);
        }
        if let Some(scratch) = &self.scratch {
            command = command.env("GIT_OBJECT_DIRECTORY", &**scratch);
            command = command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", self.common_dir().join("objects"));
        }
        for (at, (key, value)) in PINNED.iter().enumerate() {
            command =
                command.env(format!("GIT_CONFIG_KEY_{at}"), key).env(format!("GIT_CONFIG_VALUE_{at}"), value);
        }
        let is_sparse = git_dir != self.common_dir() && sparse::is_sparse(git_dir);
        with_settings(command, sparse::CONFIG.iter().copied().filter(|_| is_sparse)).args(args)
    }

    /// Puts one question about each of `items`, in as many processes at once as there are processors; the answers come in the
    /// order of the items. A few items are one question.
    pub(super) fn in_parts<I: Sync, T: Send>(
        &self,
        items: &[I],
        ask: impl Fn(&Self, &[I]) -> Result<Vec<T>, Error> + Sync,
    ) -> Result<Vec<T>, Error> {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let parts = processors.min(items.len() / FEW).max(1);
        let mut chunks = items.chunks(items.len().div_ceil(parts).max(1));
        let first = chunks.next().unwrap_or_default();
        std::thread::scope(|scope| {
            let ask = &ask;
            let others: Vec<_> = chunks
                .map(|chunk| {
                    let repo = self.clone();
                    scope.spawn(move || ask(&repo, chunk))
                })
                .collect();
            let mut all = ask(self, first)?;
            for other in others {
                all.extend(other.join().expect("a question does not panic")?);
            }
            Ok(all)
        })
    }

    /// Runs a git command and returns what it printed, without the final newline, as text.
    pub fn read<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Result<String, Error> {
        let out = self.git(args).read()?;
        Ok(out.strip_suffix(b"\n").unwrap_or(&out).to_str_lossy().into_owned())
    }

    /// The environment that git processes are given: for children that are no git but need the same.
    pub fn env(&self, key: &str) -> Option<&OsString> {
        self.env.get(OsStr::new(key))
    }
}

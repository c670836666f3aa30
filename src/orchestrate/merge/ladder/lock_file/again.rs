//! A lock file that conflicts, written again by its own program.

use super::stage::{Stage, mark_value};
use super::tool::{Case, Tool};
use crate::agent::sanitise_text;
use crate::git::{EntryMode, Repository};
use crate::model::ObjectId;
use crate::orchestrate::lease::LeaseInfo;
use crate::orchestrate::merge::Error;
use crate::orchestrate::merge::conflict::{ConflictFile, ConflictStep};
use crate::orchestrate::prepare::Ended;
use crate::orchestrate::supervise::chain;
use crate::orchestrate::{Hook, Surroundings, environment, trust};
use crate::process::Watch;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a program may take to say its version.
const VERSION: Duration = Duration::from_secs(30);

/// The programs that may write lock files again.
#[derive(Debug, Clone)]
pub struct LockTools {
    /// Those that the user allows, by their names in settings: the program's file, or why it is not found.
    pub allowed: BTreeMap<String, Result<PathBuf, String>>,
    /// Those that the repository names and the user has not approved.
    pub waiting: BTreeSet<String>,
    /// How long each command may take.
    pub deadline: Duration,
    /// How long it may take to end when it is asked to.
    pub grace: Duration,
    /// Names of variables of the user's environment that it gets beside the usual ones.
    pub pass_env: Vec<String>,
    /// What it finds around it, and what says that nobody waits any more; only where there is something to run.
    pub around: Option<(Surroundings, Watch)>,
}

impl Default for LockTools {
    fn default() -> Self {
        Self {
            allowed: BTreeMap::new(),
            waiting: BTreeSet::new(),
            deadline: Duration::from_secs(300),
            grace: Duration::from_secs(5),
            pass_env: Vec::new(),
            around: None,
        }
    }
}

/// Why a lock file was not written again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotLocked {
    /// The lock file.
    pub path: String,
    /// What would write it.
    pub tool: &'static str,
    /// Why it did not.
    pub why: String,
    /// The last lines that it printed: redacted, and safe to show.
    pub output: String,
    /// The command that lets it, if that is all that is missing.
    pub allow: Option<String>,
}

/// What came of it.
pub(in super::super::super) enum Locked {
    /// The new content, and what wrote it.
    Done {
        text: String,
        by: String,
    },
    Not(NotLocked),
    /// Nobody wants it any more.
    Unwanted,
}

impl LockTools {
    /// The names that settings may have.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Tool::names()
    }

    /// The program that a tool is started by.
    pub fn program(name: &str) -> Option<&'static str> {
        Tool::named(name).map(|tool| tool.program)
    }

    /// Whether the lock file at `path` is one that a program may write again here.
    pub(in super::super::super) fn allows(&self, path: &str) -> bool {
        Tool::of(path).is_some_and(|tool| matches!(self.allowed.get(tool.name), Some(Ok(_))))
    }

    /// Whether the answer that says to be `by` somebody for the lock file at `path` is one of its program.
    pub(in super::super::super) fn wrote(path: &str, by: &str) -> bool {
        let name = path.rsplit('/').next().unwrap_or(path);
        let rest = by.strip_prefix(name).and_then(|rest| rest.strip_prefix(" by "));
        Tool::of(path).zip(rest).is_some_and(|(tool, rest)| rest.split(' ').next() == Some(tool.name))
    }

    /// Whether any program writes the lock file at `path`.
    pub(in super::super::super) fn knows(path: &str) -> bool {
        Tool::of(path).is_some()
    }

    /// Writes the lock file of `file` again, where `instead` says what became of the step's other conflicts.
    pub(in super::super::super) fn lock(
        &self,
        repo: &Repository,
        step: &ConflictStep,
        file: &ConflictFile,
        instead: &BTreeMap<String, Option<(EntryMode, ObjectId)>>,
    ) -> Result<Locked, Error> {
        let path = file.conflict.path.as_str();
        let tool = Tool::of(path).expect("a lock file that is known");
        let not = |why: String, output: String, allow: Option<String>| {
            Ok(Locked::Not(NotLocked { path: path.to_owned(), tool: tool.name, why, output, allow }))
        };
        let program = match (self.allowed.get(tool.name), &self.around) {
            (Some(Ok(program)), Some(_)) => program,
            (Some(Err(why)), _) => return not(why.clone(), String::new(), None),
            _ if self.waiting.contains(tool.name) => {
                let why = "the repository allows it, and you have not approved that".to_owned();
                return not(why, String::new(), Some("git orchestra config approve".to_owned()));
            }
            _ => {
                let allow = format!("git config --global --add orchestra.merge.lockTools {}", tool.name);
                return not("`merge.lock-tools` does not name it".to_owned(), String::new(), Some(allow));
            }
        };
        let (surroundings, watch) = self.around.as_ref().expect("it is there");
        let wanted = || watch.signal().is_none();
        let Some(start) = tool.start(repo, file, &step.theirs)? else {
            return not("it is not text on both sides".to_owned(), String::new(), None);
        };
        // It reads what agents wrote, and may run it: it could choose what git runs afterwards.
        trust::remember(repo)?;
        let shift = Shift { repo, tools: self, tool, program, surroundings, wanted: &wanted };
        let done = shift.work(step, path, &start, instead);
        trust::require_unchanged(repo)?;
        trust::forget(repo);
        match done? {
            Outcome::Done { text, version } => {
                let name = path.rsplit('/').next().unwrap_or(path);
                Ok(Locked::Done { text, by: format!("{name} by {} {version}", tool.name) })
            }
            Outcome::Failed { why, output } => not(why, output, None),
            Outcome::Unwanted => Ok(Locked::Unwanted),
        }
    }
}

enum Outcome {
    Done { text: String, version: String },
    Failed { why: String, output: String },
    Unwanted,
}

fn failed(why: impl Into<String>) -> Outcome {
    Outcome::Failed { why: why.into(), output: String::new() }
}

struct Shift<'a> {
    repo: &'a Repository,
    tools: &'a LockTools,
    tool: &'static Tool,
    program: &'a Path,
    surroundings: &'a Surroundings,
    wanted: &'a dyn Fn() -> bool,
}

impl Shift<'_> {
    fn work(
        &self,
        step: &ConflictStep,
        path: &str,
        start: &str,
        instead: &BTreeMap<String, Option<(EntryMode, ObjectId)>>,
    ) -> Result<Outcome, Error> {
        let Some(stage) = Stage::open(self.repo, self.surroundings, self.wanted)? else {
            return Ok(Outcome::Unwanted);
        };
        // Before anything of the repository is there that could choose another version.
        let version = match self.run(&["--version".to_owned()], stage.dir(), stage.dir(), VERSION) {
            Ok(Ended::Done { output, .. }) => find_version(&output),
            Ok(Ended::Unwanted) => return Ok(Outcome::Unwanted),
            Ok(Ended::Failed { why, output, .. }) => {
                return Ok(self.says("does not say its version", &why, &output));
            }
            Err(error) => return Ok(failed(chain(&error))),
        };
        let Some(version) = version else { return Ok(failed("it does not say its version")) };
        let shown = stage.fill(self.repo, self.tool, &step.merge.tree, instead)?;
        let (dir, below) =
            path.rsplit_once('/').map_or(("", String::new()), |(dir, _)| (dir, format!("{dir}/")));
        let manifest = format!("{below}{}", self.tool.manifest);
        let manifest = shown.iter().find(|(path, _)| *path == manifest);
        let Some(manifest) = manifest.and_then(|(_, content)| std::str::from_utf8(content).ok()) else {
            return Ok(failed(format!("there is no {} beside it", self.tool.manifest)));
        };
        let case = Case { version: &version, start, manifest, shown: &shown };
        let lines = match (self.tool.lines)(&case) {
            Ok(lines) => lines,
            Err(why) => return Ok(failed(why)),
        };
        stage.write(path, start.as_bytes())?;
        for line in lines {
            match self.run(&line, &stage.dir().join(dir), stage.dir(), self.tools.deadline) {
                Ok(Ended::Done { .. }) => {}
                Ok(Ended::Unwanted) => return Ok(Outcome::Unwanted),
                Ok(Ended::Failed { why, output, .. }) => {
                    let words = line.join(" ");
                    return Ok(self.says(
                        &format!("{version} failed: `{} {words}`", self.tool.program),
                        &why,
                        &output,
                    ));
                }
                Err(error) => return Ok(failed(chain(&error))),
            }
        }
        let Some(text) = stage.read(path) else {
            return Ok(failed(format!("{} {version} left no such file", self.tool.name)));
        };
        if text.lines().any(|line| line.starts_with("<<<<<<< ") || line.starts_with(">>>>>>> ")) {
            return Ok(failed(format!("{} {version} left conflict markers in it", self.tool.name)));
        }
        Ok(Outcome::Done { text, version })
    }

    fn says(&self, what: &str, why: &str, output: &str) -> Outcome {
        let output = sanitise_text(output).trim_end().to_owned();
        Outcome::Failed { why: format!("{} {what}: {why}", self.tool.name), output }
    }

    fn run(
        &self,
        words: &[String],
        dir: &Path,
        root: &Path,
        deadline: Duration,
    ) -> Result<Ended, crate::orchestrate::Error> {
        let words = words.iter().map(OsString::from);
        let hook = Hook {
            words: std::iter::once(self.program.as_os_str().to_owned()).chain(words).collect(),
            deadline,
            grace: self.tools.grace,
            pass_env: Vec::new(),
        };
        let mut env = environment::of_gate(&self.surroundings.env, &self.tools.pass_env);
        let mut set = |key: &str, value: OsString| env.insert(key.into(), value);
        for (key, value) in self.tool.env {
            set(key, value.into());
        }
        set(LeaseInfo::MARK, mark_value(self.repo).into());
        // No git that it starts is to find a repository around it.
        set("GIT_CEILING_DIRECTORIES", root.parent().unwrap_or(root).into());
        hook.run(dir, env, &self.surroundings.redactor, self.wanted)
    }
}

/// `10.8.2` of what a program prints for `--version`.
fn find_version(output: &str) -> Option<String> {
    let words = output.lines().flat_map(|line| line.split([' ', '(', ')', ',']));
    let mut words = words.map(|word| word.strip_prefix('v').unwrap_or(word));
    let is_version = |word: &&str| {
        word.starts_with(|c: char| c.is_ascii_digit())
            && word.contains('.')
            && word.len() < 40
            && word.chars().all(|c| c.is_ascii_alphanumeric() || "._+-".contains(c))
    };
    words.find(is_version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found_in_what_programs_say() {
        for (said, version) in [
            ("10.8.2\n", "10.8.2"),
            ("npm warn old\nv10.8.2\n", "10.8.2"),
            ("Poetry (version 2.5.1)\n", "2.5.1"),
            ("Bundler version 2.3.15", "2.3.15"),
            ("Composer version 2.5.5 2023-03-21 11:50:05", "2.5.5"),
            ("cargo 1.89.0 (c24e10642 2025-06-23)", "1.89.0"),
        ] {
            assert_eq!(find_version(said).as_deref(), Some(version));
        }
        assert_eq!(find_version("no idea\n"), None);
    }
}

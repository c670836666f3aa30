//! Setup and teardown commands: run like an agent's program, with a deadline, and ended to their last descendant.

use super::super::session::Surroundings;
use super::super::{Error, lease::LeaseInfo};
use super::hook_env;
use crate::agent::Redactor;
use crate::git::Repository;
use crate::model::Agent;
use crate::process::{ChildOptions, Command, Cut};
use std::collections::{BTreeMap, VecDeque};
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::{Duration, Instant};

/// How much of what a command prints is kept: the end of it.
const KEPT: usize = 64 << 10;
/// How many lines of it are shown when it fails.
const SHOWN: usize = 20;
/// The most bytes that are kept of one line.
const LINE: usize = 4 << 10;

/// A command that is run in a worktree.
#[derive(Debug, Clone)]
pub struct Hook {
    /// The program's file and its arguments.
    pub words: Vec<OsString>,
    /// How long it may take.
    pub deadline: Duration,
    /// How long it may take to end when it is asked to.
    pub grace: Duration,
    /// Names of variables of the user's environment that it gets beside the usual ones.
    pub pass_env: Vec<String>,
}

/// How a command ended. What it printed is redacted.
pub(in super::super) enum Ended {
    Done {
        output: String,
        took: Duration,
    },
    /// `late` if it was ended because it took too long.
    Failed {
        why: String,
        output: String,
        late: bool,
        took: Duration,
    },
    Unwanted,
}

impl Hook {
    /// Its command line, for messages.
    pub(super) fn line(&self) -> String {
        self.words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    /// Runs it in `dir` to its end, or until nobody wants it.
    ///
    /// # Errors
    /// If it could not be started.
    pub(in super::super) fn run(
        &self,
        dir: &Path,
        env: BTreeMap<OsString, OsString>,
        redactor: &Redactor,
        wanted: &dyn Fn() -> bool,
    ) -> Result<Ended, Error> {
        self.run_heard(dir, env, redactor, wanted, &mut |_| ())
    }

    /// The same; `hear` is told each line that it prints, redacted.
    pub(in super::super) fn run_heard(
        &self,
        dir: &Path,
        env: BTreeMap<OsString, OsString>,
        redactor: &Redactor,
        wanted: &dyn Fn() -> bool,
        hear: &mut dyn FnMut(&str),
    ) -> Result<Ended, Error> {
        let (program, args) = self.words.split_first().expect("a hook has words");
        let mark = env.get(OsStr::new(LeaseInfo::MARK)).map(|mark| mark.to_string_lossy().into_owned());
        let options = ChildOptions {
            grace: self.grace,
            line_limit: LINE,
            error_line_limit: LINE,
            mark: mark.map(|mark| (LeaseInfo::MARK.to_owned(), mark)),
            ..ChildOptions::default()
        };
        let command = Command::new(program).args(args).envs(env).current_dir(dir);
        let (mut lines, mut size) = (VecDeque::new(), 0);
        let begun = Instant::now();
        let ended = command.run_watched(&options, self.deadline, wanted, |_, line| {
            let text = redactor.redact(&String::from_utf8_lossy(&line.bytes)).0.into_owned();
            hear(&text);
            size += text.len() + 1;
            lines.push_back(text);
            while size > KEPT {
                size -= lines.pop_front().map_or(size, |line: String| line.len() + 1);
            }
        });
        let (exit, cut) = ended.map_err(Error::Start)?;
        let why = match (cut, exit.code, exit.signal) {
            (Some(Cut::Unwanted), ..) => return Ok(Ended::Unwanted),
            // Ended with everything else by whoever does not want it, before it was asked here.
            (None, code, _) if code != Some(0) && !wanted() => return Ok(Ended::Unwanted),
            (Some(Cut::Late), ..) => format!("it was ended after {} s", self.deadline.as_secs()),
            (None, Some(0), _) => {
                let output = lines.make_contiguous().join("\n");
                return Ok(Ended::Done { output, took: begun.elapsed() });
            }
            (None, Some(code), _) => format!("exit code {code}"),
            (None, None, Some(signal)) => format!("signal {signal}"),
            (None, None, None) => "it died".to_owned(),
        };
        lines.drain(..lines.len().saturating_sub(SHOWN));
        let (output, late) = (lines.make_contiguous().join("\n"), cut == Some(Cut::Late));
        Ok(Ended::Failed { why, output, late, took: begun.elapsed() })
    }
}

/// Runs the teardown command in the worktree of an agent that is about to be removed, if there are both.
///
/// # Errors
/// If it failed, with what it said last.
pub fn tear_down(repo: &Repository, agent: &Agent, surroundings: &Surroundings) -> Result<(), Error> {
    let Some(hook) = &surroundings.provision.teardown else { return Ok(()) };
    let worktree = repo.find_worktree(agent.name.as_str())?.filter(crate::git::Worktree::is_intact);
    let Some(worktree) = worktree else { return Ok(()) };
    let run = agent.last_run().map_or(1, |(run, _)| run);
    let mut env = hook_env(surroundings, hook, repo, agent, &worktree, run);
    if let Some(port) = worktree.first_port() {
        // Where what it began listens, as far as anybody knows.
        env.insert("GIT_ORCHESTRA_PORT".into(), port.to_string().into());
    }
    let ended = hook.run(&worktree.path, env, &surroundings.redactor, &|| true)?;
    let Ended::Failed { why, output, .. } = ended else { return Ok(()) };
    Err(Error::Hook {
        what: format!("tear down {}", worktree.path.display()),
        why,
        output,
        hint: "mend `worktree.teardown`; `git orchestra remove --no-teardown` removes without it".to_owned(),
    })
}

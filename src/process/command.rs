//! Short-lived children whose whole output is wanted: git, editors, gates.
//!
//! Long-lived ones that are watched line by line are `super::child`'s.

use super::badge::Badge;
use bstr::ByteSlice;
use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

/// A child that is about to be started, with an explicit environment.
///
/// Nothing is inherited that was not named: `Command::env_clear` is the default, and callers pass what the
/// child needs.
#[derive(Debug, Clone)]
pub struct Command {
    program: OsString,
    args: Vec<OsString>,
    env: BTreeMap<OsString, OsString>,
    cwd: Option<PathBuf>,
    stdin: Input,
    inherit_terminal: bool,
}

/// What a child reads on its standard input.
#[derive(Debug, Clone, Default)]
pub enum Input {
    /// Nothing.
    #[default]
    Null,
    /// These bytes, then the end.
    Bytes(Vec<u8>),
}

/// What became of a child.
#[derive(Debug, Clone)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Everything it wrote to standard output; empty if it had the terminal.
    pub stdout: Vec<u8>,
    /// Everything it wrote to standard error; empty if it had the terminal.
    pub stderr: Vec<u8>,
}

/// Why a child gave no usable output.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It could not be started.
    #[error("start `{program}`")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It could not be fed or read.
    #[error("talk to `{program}`")]
    Talk {
        /// The program.
        program: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// It did not end in time and was killed.
    #[error("run `{line}`: no end after {} s", .deadline.as_secs_f32())]
    TimedOut {
        /// The command line.
        line: String,
        /// How long it was given.
        deadline: std::time::Duration,
    },
    /// It was stopped because of what it did.
    #[error("run `{line}`: it was stopped")]
    Stopped {
        /// The command line.
        line: String,
    },
    /// It ended with an error.
    #[error("run `{line}` ({status}){}", stderr_suffix(.stderr))]
    Failed {
        /// The command line.
        line: String,
        /// How it ended.
        status: ExitStatus,
        /// What it said.
        stderr: String,
    },
}

/// What an empty pipe takes without anybody reading (POSIX), so that no thread is needed to write it.
const SURE: usize = 512;

/// Where systems have the program that starts another one in a session of its own. It does so without a fork, so that
/// the number of the child stays: it is no group leader yet.
const SETSID: [&str; 2] = ["/usr/bin/setsid", "/bin/setsid"];

fn is_executable(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

fn stderr_suffix(stderr: &str) -> String {
    if stderr.is_empty() { String::new() } else { format!(": {stderr}") }
}

impl Command {
    /// A command without arguments and with an empty environment.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            program: program.as_ref().to_owned(),
            args: Vec::new(),
            env: BTreeMap::new(),
            cwd: None,
            stdin: Input::Null,
            inherit_terminal: false,
        }
    }

    /// Adds one argument.
    #[must_use]
    pub fn arg(mut self, arg: impl AsRef<OsStr>) -> Self {
        self.args.push(arg.as_ref().to_owned());
        self
    }

    /// Adds arguments.
    #[must_use]
    pub fn args<A: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(|arg| arg.as_ref().to_owned()));
        self
    }

    /// Sets one variable of the child's environment.
    #[must_use]
    pub fn env(mut self, key: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.env.insert(key.as_ref().to_owned(), value.as_ref().to_owned());
        self
    }

    /// Sets variables of the child's environment.
    #[must_use]
    pub fn envs<K: AsRef<OsStr>, V: AsRef<OsStr>>(mut self, vars: impl IntoIterator<Item = (K, V)>) -> Self {
        for (key, value) in vars {
            self.env.insert(key.as_ref().to_owned(), value.as_ref().to_owned());
        }
        self
    }

    /// Takes one variable out of the child's environment again.
    #[must_use]
    pub fn without_env(mut self, key: impl AsRef<OsStr>) -> Self {
        self.env.remove(key.as_ref());
        self
    }

    /// Runs it in `dir`.
    #[must_use]
    pub fn current_dir(mut self, dir: impl AsRef<Path>) -> Self {
        self.cwd = Some(dir.as_ref().to_owned());
        self
    }

    /// Gives it `bytes` to read.
    #[must_use]
    pub fn stdin(mut self, bytes: impl Into<Vec<u8>>) -> Self {
        self.stdin = Input::Bytes(bytes.into());
        self
    }

    /// Gives it our terminal: for editors and pagers only. Bytes given by [`Command::stdin`] are still what it
    /// reads; without them it reads the terminal.
    #[must_use]
    pub const fn with_terminal(mut self) -> Self {
        self.inherit_terminal = true;
        self
    }

    /// The command line, for messages.
    pub fn line(&self) -> String {
        std::iter::once(&self.program)
            .chain(&self.args)
            .map(|arg| arg.to_string_lossy())
            .collect::<Vec<_>>()
            .join(" ")
    }

    /// The standard library's command, away from our terminal if we have one: in a session of its own where the
    /// system can do that, otherwise in a group of its own.
    pub(super) fn apart(&self) -> std::process::Command {
        let has_terminal = std::fs::File::open("/dev/tty").is_ok();
        let setsid = SETSID.iter().map(Path::new).find(|path| has_terminal && path.exists());
        if let (Some(setsid), Some(program)) = (setsid, self.find_program()) {
            return self.by_way_of(setsid, Vec::new(), &program).prepared();
        }
        let mut command = self.prepared();
        command.process_group(0);
        command
    }

    /// The same by way of `other`, which is given `args` and then `program` and our own arguments.
    pub(super) fn by_way_of(&self, other: &Path, args: Vec<OsString>, program: &Path) -> Self {
        let by_way = Self { program: other.into(), args, ..self.clone() };
        by_way.arg(program).args(&self.args)
    }

    pub(super) fn start_error(&self, source: std::io::Error) -> CommandError {
        CommandError::Start { program: self.program_name(), source }
    }

    pub(super) const fn input(&self) -> &Input {
        &self.stdin
    }

    pub(super) fn program_name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    /// The standard library's command with our program, arguments, environment and directory, and no more.
    pub(super) fn prepared(&self) -> std::process::Command {
        // Found here and named by its path: the standard library copies our whole address space (fork) for a child
        // that has another `PATH` and must be looked for in it, and shares it (vfork) otherwise.
        let found = self.find_program().filter(|path| path.is_absolute());
        #[expect(clippy::disallowed_methods, reason = "the one home of child processes")]
        let mut command = std::process::Command::new(
            found.as_ref().map_or(self.program.as_os_str(), |path| path.as_os_str()),
        );
        command.arg0(&self.program).args(&self.args).env_clear().envs(&self.env);
        if let Some(dir) = &self.cwd {
            command.current_dir(dir);
        }
        command
    }

    /// The same for tokio, away from our terminal: in a session of its own, so that not even `/dev/tty` leads to it.
    ///
    /// Where the system can, it has `badge` as well: all that descends from it has, whatever it does to its environment.
    pub(super) fn detached(&self, badge: Option<Badge>) -> Result<tokio::process::Command, CommandError> {
        let Some(setsid) = SETSID.iter().map(Path::new).find(|path| path.exists()) else {
            let mut command = tokio::process::Command::from(self.prepared());
            command.process_group(0);
            return Ok(command);
        };
        // Looked for here, because a start by way of another program always succeeds.
        let missing = || CommandError::Start {
            program: self.program_name(),
            source: std::io::ErrorKind::NotFound.into(),
        };
        let program = self.find_program().ok_or_else(missing)?;
        let mut command = self.by_way_of(setsid, Vec::new(), &program);
        if let Some((giver, words)) = badge.and_then(Badge::giver) {
            command = command.by_way_of(giver, words, setsid);
        }
        Ok(tokio::process::Command::from(command.prepared()))
    }

    /// The program's file, looked for in the `PATH` of its own environment.
    pub(super) fn find_program(&self) -> Option<PathBuf> {
        let given = Path::new(&self.program);
        if self.program.as_encoded_bytes().contains(&b'/') {
            return is_executable(given).then(|| given.to_owned());
        }
        let path = self.env.get(OsStr::new("PATH"))?;
        std::env::split_paths(path).map(|dir| dir.join(given)).find(|file| is_executable(file))
    }

    /// Runs it to its end, whatever the exit status.
    pub fn output(&self) -> Result<Output, CommandError> {
        let mut command = self.prepared();
        if self.inherit_terminal {
            if matches!(self.stdin, Input::Bytes(_)) {
                command.stdin(Stdio::piped());
            }
            let mut child = command.spawn().map_err(|source| self.cannot_start(source))?;
            if let (Some(mut pipe), Input::Bytes(bytes)) = (child.stdin.take(), &self.stdin) {
                // A pager that is left before its end closes the pipe: that is no failure.
                pipe.write_all(bytes).ok();
            }
            let status = child.wait().map_err(|source| self.cannot_talk(source))?;
            return Ok(Output { status, stdout: Vec::new(), stderr: Vec::new() });
        }
        let (stdin, input) = match &self.stdin {
            Input::Null => (Stdio::null(), None),
            Input::Bytes(bytes) => (Stdio::piped(), Some(bytes)),
        };
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        // In a group of its own, so that a Ctrl-C of the terminal reaches us alone: we decide what it means for
        // a git that is half-way.
        command.process_group(0);
        let mut child = command.spawn().map_err(|source| self.cannot_start(source))?;
        let mut pipe = child.stdin.take();
        let mut input = input;
        if let (Some(open), Some(bytes)) = (&mut pipe, input)
            && bytes.len() <= SURE
        {
            open.write_all(bytes).ok();
            (pipe, input) = (None, None);
        }
        // The input is written beside the reading: a child that answers before it has read everything would
        // otherwise fill its pipe and wait for us for ever.
        let output = std::thread::scope(|scope| {
            if let (Some(mut pipe), Some(bytes)) = (pipe, input) {
                // A child that stops reading early says so by its exit status, not by our broken pipe.
                scope.spawn(move || pipe.write_all(bytes).ok());
            }
            child.wait_with_output()
        })
        .map_err(|source| self.cannot_talk(source))?;
        Ok(Output { status: output.status, stdout: output.stdout, stderr: output.stderr })
    }

    /// Starts it away from our terminal and our output, and does not wait for it: it goes on when we have gone.
    pub fn start_and_leave(&self) -> Result<(), CommandError> {
        let by_way = SETSID.iter().map(Path::new).find(|path| path.exists()).zip(self.find_program());
        let mut command = match by_way {
            Some((setsid, program)) => {
                let by_way = Self { program: setsid.into(), args: Vec::new(), ..self.clone() };
                by_way.arg(program).args(&self.args).prepared()
            }
            None => self.prepared(),
        };
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let started = command.spawn();
        started.map(drop).map_err(|source| CommandError::Start { program: self.program_name(), source })
    }

    /// Runs it to its end and returns what it printed; any exit status but 0 is an error with its words.
    pub fn read(&self) -> Result<Vec<u8>, CommandError> {
        let output = self.output()?;
        if output.status.success() { Ok(output.stdout) } else { Err(self.failed(&output)) }
    }

    pub(super) fn cannot_start(&self, source: std::io::Error) -> CommandError {
        CommandError::Start { program: self.program_name(), source }
    }

    pub(super) fn cannot_talk(&self, source: std::io::Error) -> CommandError {
        CommandError::Talk { program: self.program_name(), source }
    }

    /// The error that `output` amounts to.
    pub fn failed(&self, output: &Output) -> CommandError {
        CommandError::Failed {
            line: self.line(),
            status: output.status,
            stderr: output.stderr.trim().to_str_lossy().into_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_what_was_named() {
        let out = Command::new("/usr/bin/env").env("A", "1").read().unwrap();
        assert_eq!(out, b"A=1\n");
    }

    #[test]
    fn large_input_and_output_do_not_block_each_other() {
        let bytes = vec![b'x'; 4 << 20];
        let out = Command::new("cat").env("PATH", "/usr/bin:/bin").stdin(bytes.clone()).read().unwrap();
        assert_eq!(out.len(), bytes.len());
    }

    #[test]
    fn a_failure_carries_the_childs_words() {
        let error = Command::new("/bin/sh").args(["-c", "echo no >&2; exit 3"]).read().unwrap_err();
        assert_eq!(error.to_string(), "run `/bin/sh -c echo no >&2; exit 3` (exit status: 3): no");
    }
}

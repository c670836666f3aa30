//! Runs the program under ptrace, counts the system calls by which it and its gits change files, and at the one that
//! is asked for kills them or makes the call fail.
//!
//! strace can do the same (`-e inject=…:when=N`), but it counts in each process apart: the N-th call of a whole
//! command, its gits included, cannot be named, and only one process dies of it. Here one number names a moment.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use super::calls::{Calls, launcher};
use crate::harness::{Output, Sandbox};

/// How long any one command may take.
const LIMIT: Duration = Duration::from_secs(90);

/// Whose calls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Those of the program and of every git it starts.
    All,
    /// The program's own.
    Orchestra,
    /// Those of the gits it starts.
    Git,
}

/// What happens at the call that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Act {
    /// Nothing: it is only counted.
    Nothing,
    /// The program and all its gits are killed, before the call is made.
    KillAll,
    /// The process that makes the call is killed; the others go on.
    KillOne,
    /// The call fails, and once more calls that count are made: those as well if `on`.
    Fail { errno: Errno, on: bool },
    /// No process may have more than so many files open: calls fail by themselves.
    Limit(u64),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Fault {
    pub(super) whose: Whose,
    pub(super) calls: Calls,
    /// The first is 1; 0 is never reached.
    pub(super) at: usize,
    pub(super) act: Act,
}

impl Fault {
    pub(super) const fn none(whose: Whose, calls: Calls) -> Self {
        Self { whose, calls, at: 0, act: Act::Nothing }
    }
}

/// What came of a run.
#[derive(Debug)]
pub(super) struct Traced {
    /// What the program answered; 137 as its code if it was killed.
    pub(super) output: Output,
    /// How many calls counted, those after the fault included.
    pub(super) calls: usize,
    /// What the fault struck, if it was reached: `git rename`.
    pub(super) struck: Option<String>,
    /// What it was asked for.
    pub(super) fault: Fault,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Not yet the program under test.
    Before,
    Orchestra,
    Git,
    /// An agent's program, and all that it starts: no part of us, nobody's to kill here.
    Other,
}

struct Thread {
    group: Pid,
    kind: Kind,
}

/// Runs `git-orchestra` in the sandbox with a fault, until it and all its gits are gone.
pub(super) fn run(sandbox: &Sandbox, args: &[&str], fault: Fault) -> Traced {
    let place = sandbox.root();
    let (out, err) = (place.with_extension("stdout"), place.with_extension("stderr"));
    let limit = if let Act::Limit(limit) = fault.act { Some(limit) } else { None };
    let mut command = launcher(sandbox, args, fault.calls, limit);
    command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    // Only the thread that seized a process may go on with it, and agents outlive the command.
    let (ended, end) = mpsc::channel();
    std::thread::spawn(move || Tracer::start(&mut command, fault).run(&ended));
    let (code, calls, struck) = match end.recv_timeout(LIMIT) {
        Ok(End { code, calls, struck }) => (code, calls, struck),
        Err(error) => panic!("{args:?} did not end within {LIMIT:?}: {error}"),
    };
    let read = |path: &Path| {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        std::fs::remove_file(path).unwrap();
        text
    };
    let output = Output { stdout: read(&out), stderr: read(&err), code };
    Traced { output, calls, struck, fault }
}

/// How the command, its gits included, ended.
struct End {
    code: i32,
    calls: usize,
    struck: Option<String>,
}

struct Tracer {
    root: Pid,
    fault: Fault,
    threads: HashMap<Pid, Thread>,
    calls: usize,
    struck: Option<String>,
}

impl Tracer {
    /// Starts the command, seized before it does anything.
    fn start(command: &mut Command, fault: Fault) -> Self {
        let root = Pid::from_raw(i32::try_from(command.spawn().unwrap().id()).unwrap());
        while !matches!(
            waitpid(root, Some(WaitPidFlag::WUNTRACED)).unwrap(),
            WaitStatus::Stopped(_, Signal::SIGSTOP)
        ) {}
        let options = Options::PTRACE_O_TRACESECCOMP
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        // The launcher has more threads than one, and not the first one starts the program.
        let mut threads = HashMap::new();
        for task in std::fs::read_dir(format!("/proc/{root}/task")).unwrap() {
            let task = Pid::from_raw(task.unwrap().file_name().to_str().unwrap().parse().unwrap());
            ptrace::seize(task, options).unwrap();
            threads.insert(task, Thread { group: root, kind: Kind::Before });
        }
        nix::sys::signal::kill(root, Signal::SIGCONT).unwrap();
        Self { root, fault, threads, calls: 0, struck: None }
    }

    /// Until everything that is traced is gone; says so when nothing of ours is left.
    fn run(&mut self, ended: &mpsc::Sender<End>) {
        let (mut code, mut told) = (None, false);
        while !self.threads.is_empty() {
            // Of this thread's children only: other tests run beside it.
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let status = match waitpid(None, Some(flags)) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => {
                    self.threads.clear();
                    WaitStatus::StillAlive
                }
                Err(error) => panic!("waitpid: {error}"),
            };
            match status {
                WaitStatus::Exited(pid, exit) => {
                    self.threads.remove(&pid);
                    if pid == self.root {
                        code = Some(exit);
                    }
                }
                WaitStatus::Signaled(pid, signal, _) => {
                    self.threads.remove(&pid);
                    if pid == self.root {
                        code = Some(128 + signal as i32);
                    }
                }
                WaitStatus::PtraceEvent(pid, _, libc::PTRACE_EVENT_SECCOMP) => self.call(pid),
                WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
                WaitStatus::Stopped(pid, signal) => resume(pid, Some(signal)),
                WaitStatus::StillAlive => {}
                other => panic!("{other:?}"),
            }
            if !told && self.threads.values().all(|thread| thread.kind == Kind::Other) {
                let code = code.unwrap_or(128 + Signal::SIGKILL as i32);
                let _ = ended.send(End { code, calls: self.calls, struck: self.struck.clone() });
                told = true;
            }
        }
    }

    fn event(&mut self, pid: Pid, event: i32) {
        match event {
            libc::PTRACE_EVENT_FORK | libc::PTRACE_EVENT_VFORK | libc::PTRACE_EVENT_CLONE => {
                let child = Pid::from_raw(i32::try_from(ptrace::getevent(pid).unwrap_or(0)).unwrap());
                let kind = self.threads.get(&pid).map_or(Kind::Before, |thread| thread.kind);
                self.threads.entry(child).or_insert_with(|| born(child)).kind = kind;
            }
            libc::PTRACE_EVENT_EXEC => {
                let program = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
                let name = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
                // The one that did it goes by the number of the first, and the others are gone.
                self.threads.retain(|task, thread| thread.group != pid || *task == pid);
                let thread = self.threads.entry(pid).or_insert_with(|| born(pid));
                thread.kind = match thread.kind {
                    Kind::Other => Kind::Other,
                    _ if name == "git-orchestra" => Kind::Orchestra,
                    _ if name.starts_with("git") => Kind::Git,
                    Kind::Before => Kind::Before,
                    Kind::Orchestra | Kind::Git => Kind::Other,
                };
            }
            _ => {
                self.threads.entry(pid).or_insert_with(|| born(pid));
            }
        }
        resume(pid, None);
    }

    /// A process is about to make a call that counts, if it is one of those whose calls do.
    fn call(&mut self, pid: Pid) {
        let Ok(mut regs) = ptrace::getregs(pid) else { return resume(pid, None) };
        let thread = self.threads.entry(pid).or_insert_with(|| born(pid));
        let counts = match self.fault.whose {
            Whose::All => matches!(thread.kind, Kind::Orchestra | Kind::Git),
            Whose::Orchestra => thread.kind == Kind::Orchestra,
            Whose::Git => thread.kind == Kind::Git,
        };
        let Some(name) = counts.then(|| self.fault.calls.name(pid, &regs)).flatten() else {
            return resume(pid, None);
        };
        self.calls += 1;
        let Fault { at, act, .. } = self.fault;
        let strikes = match act {
            Act::Fail { on: true, .. } => at > 0 && self.calls >= at,
            _ => self.calls == at,
        };
        if !strikes {
            return resume(pid, None);
        }
        let (kind, group) = (thread.kind, thread.group);
        if self.struck.is_none() {
            self.struck = Some(format!("{} {name}", if kind == Kind::Git { "git" } else { "orchestra" }));
        }
        match act {
            Act::Nothing | Act::Limit(_) => resume(pid, None),
            Act::Fail { errno, .. } => {
                // No such call: nothing happens, and this is its answer.
                regs.orig_rax = u64::MAX;
                regs.rax = i64::from(-(errno as i32)).cast_unsigned();
                let _ = ptrace::setregs(pid, regs);
                resume(pid, None);
            }
            Act::KillAll => {
                // The program first: it must not see its gits die.
                let ours = self.threads.values().filter(|thread| thread.kind != Kind::Other);
                let mut groups: Vec<_> = ours.map(|t| (t.group != self.root, t.group)).collect();
                groups.sort_unstable();
                groups.dedup();
                for (_, group) in groups {
                    kill(group);
                }
            }
            Act::KillOne => {
                kill(group);
                self.fault.at = 0;
            }
        }
    }
}

fn born(pid: Pid) -> Thread {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let group = status.lines().find_map(|line| line.strip_prefix("Tgid:")?.trim().parse().ok());
    Thread { group: group.map_or(pid, Pid::from_raw), kind: Kind::Before }
}

fn kill(group: Pid) {
    let _ = nix::sys::signal::kill(group, Signal::SIGKILL);
}

fn resume(pid: Pid, signal: Option<Signal>) {
    // It may have been killed meanwhile.
    let _ = ptrace::cont(pid, signal);
}

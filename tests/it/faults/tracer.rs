//! Runs the program under ptrace, counts the system calls by which it and its gits change files, and at the one that
//! is asked for kills them or makes the call fail.
//!
//! strace can do the same (`-e inject=…:when=N`), but it counts in each process apart: the N-th call of a whole
//! command, its gits included, cannot be named, and only one process dies of it. Here one number names a moment.

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

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

/// Which calls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// Those that change a file, a directory, or what is on disk for good.
    Mutating,
    /// Those of them that can find a disk full.
    Allocating,
    /// Those that open a file descriptor.
    Opening,
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
}

struct Thread {
    group: Pid,
    kind: Kind,
    /// The error that the call it is in returns.
    failing: Option<Errno>,
}

/// Runs `git-orchestra` in the sandbox with a fault, until it and all its gits are gone.
pub(super) fn run(sandbox: &Sandbox, args: &[&str], fault: Fault) -> Traced {
    let place = sandbox.root();
    let (out, err) = (place.with_extension("stdout"), place.with_extension("stderr"));
    // It stops itself, so that it can be seized before it begins.
    let mut command = sandbox.command("/bin/sh");
    command.args(["-c", "kill -STOP $$; exec \"$@\"", "sh", crate::harness::sandbox::ORCHESTRA]).args(args);
    command.stdin(Stdio::null()).stdout(File::create(&out).unwrap()).stderr(File::create(&err).unwrap());
    let mut tracer = Tracer::start(&mut command, fault);
    let code = guarded(tracer.root, args, || tracer.run());
    let read = |path: &Path| {
        let text = String::from_utf8_lossy(&std::fs::read(path).unwrap()).into_owned();
        std::fs::remove_file(path).unwrap();
        text
    };
    let output = Output { stdout: read(&out), stderr: read(&err), code };
    Traced { output, calls: tracer.calls, struck: tracer.struck, fault }
}

/// Kills `root` when it does not end in time.
fn guarded<T>(root: Pid, args: &[&str], work: impl FnOnce() -> T) -> T {
    let (done, wait) = std::sync::mpsc::channel::<()>();
    let shown = format!("{args:?}");
    let guard = std::thread::spawn(move || {
        if wait.recv_timeout(LIMIT) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            println!("{shown} did not end within {LIMIT:?}");
            kill(root);
        }
    });
    let value = work();
    drop(done);
    guard.join().unwrap();
    value
}

struct Tracer {
    root: Pid,
    fault: Fault,
    threads: HashMap<Pid, Thread>,
    calls: usize,
    struck: Option<String>,
}

impl Tracer {
    fn start(command: &mut Command, fault: Fault) -> Self {
        let root = Pid::from_raw(i32::try_from(command.spawn().unwrap().id()).unwrap());
        while !matches!(
            waitpid(root, Some(WaitPidFlag::WUNTRACED)).unwrap(),
            WaitStatus::Stopped(_, Signal::SIGSTOP)
        ) {}
        let options = Options::PTRACE_O_TRACESYSGOOD
            | Options::PTRACE_O_TRACEFORK
            | Options::PTRACE_O_TRACEVFORK
            | Options::PTRACE_O_TRACECLONE
            | Options::PTRACE_O_TRACEEXEC
            | Options::PTRACE_O_EXITKILL;
        ptrace::seize(root, options).unwrap();
        nix::sys::signal::kill(root, Signal::SIGCONT).unwrap();
        let first = Thread { group: root, kind: Kind::Before, failing: None };
        let threads = HashMap::from([(root, first)]);
        Self { root, fault, threads, calls: 0, struck: None }
    }

    /// Until everything that is traced is gone. Returns the exit code of the program.
    fn run(&mut self) -> i32 {
        let mut code = None;
        while !self.threads.is_empty() {
            // Of this thread's children only: other tests run beside it.
            let flags = WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD;
            let status = match waitpid(None, Some(flags)) {
                Ok(status) => status,
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => break,
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
                WaitStatus::PtraceSyscall(pid) => self.syscall(pid),
                WaitStatus::PtraceEvent(pid, _, event) => self.event(pid, event),
                WaitStatus::Stopped(pid, signal) => resume(pid, Some(signal)),
                other => panic!("{other:?}"),
            }
        }
        code.unwrap_or(128 + Signal::SIGKILL as i32)
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
                let thread = self.threads.entry(pid).or_insert_with(|| born(pid));
                if name == "git-orchestra" {
                    thread.kind = Kind::Orchestra;
                } else if name.starts_with("git") {
                    thread.kind = Kind::Git;
                } else if thread.kind != Kind::Before {
                    // An agent's program is no part of us: it is nobody's to kill here.
                    self.threads.remove(&pid);
                    let _ = ptrace::detach(pid, None);
                    return;
                }
            }
            _ => {
                self.threads.entry(pid).or_insert_with(|| born(pid));
            }
        }
        resume(pid, None);
    }

    fn syscall(&mut self, pid: Pid) {
        let Ok(mut regs) = ptrace::getregs(pid) else { return resume(pid, None) };
        let thread = self.threads.entry(pid).or_insert_with(|| born(pid));
        // What a call begins with in its answer's place: one question for each stop is what a run mostly costs.
        let is_entry =
            thread.failing.is_none() && regs.rax.cast_signed() == i64::from(-(Errno::ENOSYS as i32));
        if !is_entry {
            if let Some(errno) = thread.failing.take() {
                regs.rax = i64::from(-(errno as i32)).cast_unsigned();
                let _ = ptrace::setregs(pid, regs);
            }
            return resume(pid, None);
        }
        let counts = match self.fault.whose {
            Whose::All => thread.kind != Kind::Before,
            Whose::Orchestra => thread.kind == Kind::Orchestra,
            Whose::Git => thread.kind == Kind::Git,
        };
        let Some(name) = counts.then(|| matching(pid, &regs, self.fault.calls)).flatten() else {
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
            Act::Nothing => resume(pid, None),
            Act::Fail { errno, .. } => {
                thread.failing = Some(errno);
                // No such call: nothing happens, and the answer is put in at its end.
                regs.orig_rax = u64::MAX;
                let _ = ptrace::setregs(pid, regs);
                resume(pid, None);
            }
            Act::KillAll => {
                // The program first: it must not see its gits die.
                let mut groups: Vec<(bool, Pid)> =
                    self.threads.values().map(|t| (t.group != self.root, t.group)).collect();
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
    Thread { group: group.map_or(pid, Pid::from_raw), kind: Kind::Before, failing: None }
}

fn kill(group: Pid) {
    let _ = nix::sys::signal::kill(group, Signal::SIGKILL);
}

fn resume(pid: Pid, signal: Option<Signal>) {
    // It may have been killed meanwhile.
    let _ = ptrace::syscall(pid, signal);
}

/// The name of the call if it counts.
fn matching(pid: Pid, regs: &libc::user_regs_struct, calls: Calls) -> Option<&'static str> {
    let creates = |flags: u64| flags & u64::from((libc::O_CREAT | libc::O_TRUNC).cast_unsigned()) != 0;
    let is_file = |fd: u64| {
        let target = std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap_or_default();
        target.is_absolute() && !target.starts_with("/dev")
    };
    let number = i64::try_from(regs.orig_rax).ok()?;
    if calls == Calls::Opening {
        return Some(match number {
            libc::SYS_open | libc::SYS_openat | libc::SYS_openat2 | libc::SYS_creat => "open",
            libc::SYS_pipe | libc::SYS_pipe2 => "pipe",
            libc::SYS_dup => "dup",
            libc::SYS_fcntl if [1030, 0].contains(&regs.rsi) => "dup",
            libc::SYS_socket | libc::SYS_socketpair => "socket",
            libc::SYS_epoll_create1 => "epoll",
            libc::SYS_eventfd2 => "eventfd",
            libc::SYS_pidfd_open => "pidfd",
            _ => return None,
        });
    }
    let name = match number {
        libc::SYS_open if creates(regs.rsi) => "open",
        libc::SYS_openat if creates(regs.rdx) => "open",
        libc::SYS_creat => "open",
        libc::SYS_write | libc::SYS_writev | libc::SYS_pwrite64 | libc::SYS_pwritev | libc::SYS_pwritev2
            if is_file(regs.rdi) =>
        {
            "write"
        }
        libc::SYS_rename | libc::SYS_renameat | libc::SYS_renameat2 => "rename",
        libc::SYS_link | libc::SYS_linkat => "link",
        libc::SYS_symlink | libc::SYS_symlinkat => "symlink",
        libc::SYS_mkdir | libc::SYS_mkdirat => "mkdir",
        libc::SYS_fallocate => "fallocate",
        libc::SYS_copy_file_range => "copy",
        libc::SYS_fsync | libc::SYS_fdatasync => "sync",
        _ if calls == Calls::Allocating => return None,
        libc::SYS_unlink | libc::SYS_unlinkat => "unlink",
        libc::SYS_rmdir => "rmdir",
        libc::SYS_truncate | libc::SYS_ftruncate => "truncate",
        libc::SYS_chmod | libc::SYS_fchmod | libc::SYS_fchmodat => "chmod",
        libc::SYS_utimensat => "utimes",
        _ => return None,
    };
    Some(name)
}

//! Which system calls count, and how a command is started so that it stops at those alone.
//!
//! A filter of the kernel (seccomp) picks them: stopping at every call would cost a run more than all its work.

use std::collections::BTreeMap;
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use nix::sys::resource::{Resource, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{Pid, Whence};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch,
};

use crate::harness::{Sandbox, sandbox};

/// Where the launcher finds what it has to start, as JSON: which calls, how many files may be open, the arguments.
const LAUNCH: &str = "ORCHESTRA_LAUNCH";

/// Which calls count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Calls {
    /// Those that change a file, a directory, or what is on disk for good.
    Mutating,
    /// Those of them that can find a disk full.
    Allocating,
    /// Those that open a file descriptor.
    Opening,
    /// Those that remove a file.
    Removing,
}

const CREATES: [i32; 2] = [libc::O_CREAT, libc::O_TRUNC];
const DUPLICATES: [i32; 2] = [libc::F_DUPFD, libc::F_DUPFD_CLOEXEC];

const OPENING: &[(libc::c_long, &str)] = &[
    (libc::SYS_open, "open"),
    (libc::SYS_openat, "open"),
    (libc::SYS_openat2, "open"),
    (libc::SYS_creat, "open"),
    (libc::SYS_pipe, "pipe"),
    (libc::SYS_pipe2, "pipe"),
    (libc::SYS_dup, "dup"),
    (libc::SYS_fcntl, "dup"),
    (libc::SYS_socket, "socket"),
    (libc::SYS_socketpair, "socket"),
    (libc::SYS_epoll_create1, "epoll"),
    (libc::SYS_eventfd2, "eventfd"),
    (libc::SYS_pidfd_open, "pidfd"),
];
const ALLOCATING: &[(libc::c_long, &str)] = &[
    (libc::SYS_open, "open"),
    (libc::SYS_openat, "open"),
    (libc::SYS_creat, "open"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "write"),
    (libc::SYS_pwrite64, "write"),
    (libc::SYS_pwritev, "write"),
    (libc::SYS_pwritev2, "write"),
    (libc::SYS_rename, "rename"),
    (libc::SYS_renameat, "rename"),
    (libc::SYS_renameat2, "rename"),
    (libc::SYS_link, "link"),
    (libc::SYS_linkat, "link"),
    (libc::SYS_symlink, "symlink"),
    (libc::SYS_symlinkat, "symlink"),
    (libc::SYS_mkdir, "mkdir"),
    (libc::SYS_mkdirat, "mkdir"),
    (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_copy_file_range, "copy"),
    (libc::SYS_fsync, "sync"),
    (libc::SYS_fdatasync, "sync"),
];
const REMOVING: &[(libc::c_long, &str)] = &[(libc::SYS_unlink, "unlink"), (libc::SYS_unlinkat, "unlink")];
const MUTATING_ONLY: &[(libc::c_long, &str)] = &[
    (libc::SYS_unlink, "unlink"),
    (libc::SYS_unlinkat, "unlink"),
    (libc::SYS_rmdir, "rmdir"),
    (libc::SYS_truncate, "truncate"),
    (libc::SYS_ftruncate, "truncate"),
    (libc::SYS_chmod, "chmod"),
    (libc::SYS_fchmod, "chmod"),
    (libc::SYS_fchmodat, "chmod"),
    (libc::SYS_utimensat, "utimes"),
];

impl Calls {
    fn all(self) -> impl Iterator<Item = &'static (libc::c_long, &'static str)> {
        let lists: &[&[_]] = match self {
            Self::Opening => &[OPENING],
            Self::Allocating => &[ALLOCATING],
            Self::Mutating => &[ALLOCATING, MUTATING_ONLY],
            Self::Removing => &[REMOVING],
        };
        lists.iter().copied().flatten()
    }

    /// Which argument of a call says whether it counts, and by which bits or values; `None` if it always may.
    fn condition(self, number: libc::c_long) -> Option<(u8, [SeccompCmpOp; 2], [u64; 2])> {
        let values = |values: [i32; 2]| values.map(|value| u64::from(value.cast_unsigned()));
        let creates = values(CREATES);
        match number {
            libc::SYS_open if self != Self::Opening => {
                Some((1, creates.map(SeccompCmpOp::MaskedEq), creates))
            }
            libc::SYS_openat if self != Self::Opening => {
                Some((2, creates.map(SeccompCmpOp::MaskedEq), creates))
            }
            libc::SYS_fcntl => Some((1, [SeccompCmpOp::Eq, SeccompCmpOp::Eq], values(DUPLICATES))),
            _ => None,
        }
    }

    /// Has the kernel stop the process, and those it starts, at these calls.
    fn filter(self) -> BpfProgram {
        let mut rules = BTreeMap::<i64, Vec<SeccompRule>>::new();
        for (number, _) in self.all() {
            let conditions = self.condition(*number).map(|(argument, ops, values)| {
                let rule = |(op, value)| {
                    let condition = SeccompCondition::new(argument, SeccompCmpArgLen::Dword, op, value);
                    SeccompRule::new(vec![condition.unwrap()]).unwrap()
                };
                ops.into_iter().zip(values).map(rule).collect()
            });
            rules.insert(*number, conditions.unwrap_or_default());
        }
        let (others, these) = (SeccompAction::Allow, SeccompAction::Trace(0));
        SeccompFilter::new(rules, others, these, TargetArch::x86_64).unwrap().try_into().unwrap()
    }

    /// The name of the call that a process is about to make, if it counts: one that writes does if it writes to a file.
    pub(super) fn name(self, pid: Pid, regs: &libc::user_regs_struct) -> Option<&'static str> {
        let number = i64::try_from(regs.orig_rax).ok()?;
        let (_, name) = self.all().find(|(known, _)| *known == number)?;
        let is_file = || {
            let target = std::fs::read_link(format!("/proc/{pid}/fd/{}", regs.rdi)).unwrap_or_default();
            target.is_absolute() && !target.starts_with("/dev")
        };
        (*name != "write" || is_file()).then_some(name)
    }

    fn word(self) -> &'static str {
        match self {
            Self::Mutating => "mutating",
            Self::Allocating => "allocating",
            Self::Opening => "opening",
            Self::Removing => "removing",
        }
    }
}

/// The command that starts `git-orchestra` with these arguments. It stops itself first, so that it can be seized; after
/// that it stops at the calls that count, and those fail if nobody traces it. `files` is how many files each process may
/// have open, if that is limited.
pub(super) fn launcher(sandbox: &Sandbox, args: &[&str], calls: Calls, files: Option<u64>) -> Command {
    let mut command = sandbox.command(std::env::current_exe().unwrap().to_str().unwrap());
    command.args(["--exact", "faults::calls::launch", "--ignored", "--nocapture", "--test-threads=1"]);
    command.env(LAUNCH, serde_json::to_string(&(calls.word(), files, args)).unwrap());
    command
}

#[test]
#[ignore = "what the fault suites start themselves with"]
fn launch() {
    let Ok(what) = std::env::var(LAUNCH) else { return };
    let (word, files, args): (String, Option<u64>, Vec<String>) = serde_json::from_str(&what).unwrap();
    let kinds = [Calls::Mutating, Calls::Allocating, Calls::Opening, Calls::Removing];
    let calls = kinds.into_iter().find(|calls| calls.word() == word).unwrap();
    let filter = calls.filter();
    // What the test harness said goes.
    let out = std::io::stdout();
    nix::unistd::ftruncate(&out, 0).unwrap();
    nix::unistd::lseek(&out, 0, Whence::SeekSet).unwrap();
    nix::sys::signal::raise(Signal::SIGSTOP).unwrap();
    if let Some(files) = files {
        setrlimit(Resource::RLIMIT_NOFILE, files, files).unwrap();
    }
    seccompiler::apply_filter(&filter).unwrap();
    panic!("{}", Command::new(sandbox::ORCHESTRA).args(args).env_remove(LAUNCH).exec());
}

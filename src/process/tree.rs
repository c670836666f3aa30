//! The processes that descend from a child, wherever they went: another process group, another session, another
//! parent.
//!
//! On Linux this process is a child subreaper, so that whatever loses its parent below it becomes its own child
//! instead of init's. An adopted process is recognised by its group or session, or by the mark that its
//! environment, or its badge, inherited (see `badge`). Elsewhere the child's process group is all that is known.

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use std::time::{Duration, Instant};

#[cfg(target_os = "linux")]
pub(super) use linux::{Tree, stat};
#[cfg(target_os = "linux")]
pub use linux::{descends, end_orphans, sweep_strays};
#[cfg(not(target_os = "linux"))]
pub(super) use portable::Tree;
#[cfg(not(target_os = "linux"))]
pub use portable::{descends, end_orphans, sweep_strays};

fn signal_pid(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        // A process that is gone already is what we wanted.
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn signal_group(pid: u32, signal: Signal) {
    if let Ok(pid) = i32::try_from(pid)
        && pid > 1
    {
        let _ = killpg(Pid::from_raw(pid), signal);
    }
}

/// How long killing goes on.
///
/// Who forks faster than we look is somebody else each time, and on a busy machine it takes many looks to catch it. Who
/// stays the same does not die of a signal: it waits for a disk or a network that is gone.
#[derive(Debug)]
pub(super) struct Patience {
    last: Vec<u32>,
    /// When we give up on those, and when on anybody.
    until: Instant,
    at_most: Instant,
}

impl Patience {
    const WITH_THE_SAME: Duration = Duration::from_secs(2);
    const AT_MOST: Duration = Duration::from_secs(60);

    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { last: Vec::new(), until: now + Self::WITH_THE_SAME, at_most: now + Self::AT_MOST }
    }

    /// Whether to go on killing: somebody is `living`, and not the very same for too long.
    pub(super) fn holds(&mut self, living: &[u32]) -> bool {
        let now = Instant::now();
        if self.last != living {
            self.last = living.to_vec();
            self.until = now + Self::WITH_THE_SAME;
        }
        !living.is_empty() && now < self.until.min(self.at_most)
    }
}

/// `TERM`, `grace` of patience, then `KILL` until `living` finds none or [`Patience`] ends. Returns how many were found
/// at first.
fn end_all(grace: Duration, mut living: impl FnMut() -> Vec<u32>) -> usize {
    let step = Duration::from_millis(5);
    // A process that is just starting a program has no environment to be recognised by: nobody is nobody only when
    // asked again.
    let mut living = || {
        let first = living();
        if first.is_empty() {
            std::thread::sleep(step);
            return living();
        }
        first
    };
    let mut pids = living();
    let found = pids.len();
    for &pid in &pids {
        signal_pid(pid, Signal::SIGTERM);
        signal_pid(pid, Signal::SIGCONT);
    }
    let patience = Instant::now() + grace;
    while !pids.is_empty() && Instant::now() < patience {
        std::thread::sleep(step);
        pids = living();
    }
    let mut patience = Patience::new();
    while patience.holds(&pids) {
        for &pid in &pids {
            signal_pid(pid, Signal::SIGKILL);
        }
        std::thread::sleep(step);
        pids = living();
    }
    found
}

#[cfg(target_os = "linux")]
mod linux {
    use super::super::badge::{Badge, Mark};
    use super::super::identity::Identity;
    use super::{Signal, end_all, signal_group, signal_pid};
    use nix::sys::wait::{WaitPidFlag, waitpid};
    use nix::unistd::Pid;
    use std::collections::{BTreeMap, BTreeSet};
    use std::fs;
    use std::sync::Once;
    use std::time::{Duration, Instant};

    /// What `/proc/PID/stat` says that matters here.
    #[derive(Debug, Clone, Copy)]
    pub(in super::super) struct Stat {
        pub(in super::super) state: u8,
        pub(in super::super) parent: u32,
        pub(in super::super) group: u32,
        pub(in super::super) session: u32,
        pub(in super::super) started: u64,
        flags: u64,
        /// Where its code and its environment begin in its memory: another place for each program that it starts.
        program: (u64, u64),
    }

    impl Stat {
        /// Whether it is between two programs: the memory of the old one is gone, and the new one's is not filled yet.
        const fn is_starting_a_program(&self) -> bool {
            /// `PF_EXITING` and `PF_KTHREAD` of the kernel's `sched.h`: such have no memory either.
            const NO_PROGRAM: u64 = 0x4 | 0x20_0000;
            self.program.0 == 0 && self.flags & NO_PROGRAM == 0 && !self.is_zombie()
        }

        pub(in super::super) const fn is_zombie(&self) -> bool {
            matches!(self.state, b'Z' | b'X')
        }
    }

    /// Reads `/proc/PID/stat`; `None` if there is no such process.
    pub(in super::super) fn stat(pid: u32) -> Option<Stat> {
        parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Fields count from 1 as in proc(5). The second one is the program's name in parentheses, which may itself
    /// hold parentheses and spaces: everything is counted from the last closing one.
    fn parse_stat(bytes: &[u8]) -> Option<Stat> {
        let name_end = bytes.iter().rposition(|&b| b == b')')?;
        let text = std::str::from_utf8(bytes.get(name_end + 2..)?).ok()?;
        let fields: Vec<&str> = text.split_ascii_whitespace().collect();
        let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
        let pid = |field: usize| u32::try_from(number(field)?).ok();
        Some(Stat {
            state: *fields.first()?.as_bytes().first()?,
            parent: pid(4)?,
            group: pid(5)?,
            session: pid(6)?,
            started: number(22)?,
            flags: number(9)?,
            // The kernel writes the first one last. Who may not look into the process reads 1 and 0.
            program: (number(26)?, number(50).unwrap_or(0)),
        })
    }

    /// The children of `pid` now, adopted ones included.
    fn children(pid: u32) -> Vec<u32> {
        let mut found = Vec::new();
        let mut readable = false;
        for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
            if let Ok(text) = fs::read_to_string(task.path().join("children")) {
                readable = true;
                found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
            }
        }
        // Kernels without CONFIG_PROC_CHILDREN: ask everybody for their parent.
        if !readable && fs::exists(format!("/proc/{pid}")).unwrap_or(false) {
            found
                .extend(all_pids().into_iter().filter(|&child| stat(child).is_some_and(|s| s.parent == pid)));
        }
        found
    }

    fn all_pids() -> Vec<u32> {
        fs::read_dir("/proc")
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .collect()
    }

    /// Everybody of whom `is_ours` holds. One that forks and is gone before it was asked has left somebody with a new
    /// number: nobody is nobody only when no new number was given out from one look to the next.
    fn all_of(mut is_ours: impl FnMut(u32) -> bool) -> Vec<u32> {
        /// More looks than that only a machine needs that starts processes all the time.
        const LOOKS: usize = 500;
        let mut asked = BTreeSet::new();
        for _ in 0..LOOKS {
            let new: Vec<u32> = all_pids().into_iter().filter(|&pid| asked.insert(pid)).collect();
            if new.is_empty() {
                break;
            }
            let ours: Vec<u32> = new.into_iter().filter(|&pid| is_ours(pid)).collect();
            if !ours.is_empty() {
                return ours;
            }
        }
        Vec::new()
    }

    /// Waits for a process that is just starting a program: it has no environment to be recognised by, and on a busy
    /// machine that can last longer than any pause between two looks.
    fn has_mark(pid: u32, mark: &Mark) -> bool {
        if mark.badge().is_worn_by(pid) {
            return true;
        }
        let path = format!("/proc/{pid}/environ");
        let limit = Instant::now() + Duration::from_secs(1);
        let mut before = stat(pid);
        loop {
            let Ok(environ) = fs::read(&path) else { return false };
            if !environ.is_empty() {
                return environ.split(|&b| b == 0).any(|variable| variable == mark.variable());
            }
            // Empty counts only if it ran one and the same program all the while.
            let (Some(first), Some(then)) = (before, stat(pid)) else { return false };
            let is_settled = first.program == then.program && !then.is_starting_a_program();
            if is_settled || Instant::now() > limit {
                return false;
            }
            std::thread::sleep(Duration::from_micros(200));
            before = stat(pid);
        }
    }

    fn own_session() -> Option<u32> {
        stat(std::process::id()).map(|stat| stat.session)
    }

    fn is_subreaper() {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            // Refused only by kernels before 3.4; the process group is then what is left to kill by.
            let _ = nix::sys::prctl::set_child_subreaper(true);
        });
    }

    /// One child of ours and everything below it.
    #[derive(Debug)]
    pub(in super::super) struct Tree {
        root: u32,
        /// What the child has, and whatever descends from it and did not take it off.
        mark: Option<Mark>,
        /// Who was seen to belong, by number and start time; also the sessions and groups they lead.
        seen: BTreeMap<u32, u64>,
        root_is_gone: bool,
    }

    impl Tree {
        /// Must be called before the child is started.
        pub(in super::super) fn prepare() {
            is_subreaper();
        }

        pub(in super::super) fn new(root: &Identity, mark: Option<Mark>) -> Self {
            Self { root: root.pid, mark, seen: [(root.pid, root.started)].into(), root_is_gone: false }
        }

        /// Says that the child itself was waited for, so that its number may mean another process.
        pub(in super::super) const fn root_exited(&mut self) {
            self.root_is_gone = true;
        }

        /// Everybody of the tree who still runs. Zombies that we adopted are reaped on the way.
        ///
        /// While processes come and go the kernel may leave one out of its lists: "nobody" is to be confirmed by
        /// [`Tree::scan`].
        pub(in super::super) fn living(&mut self) -> Vec<u32> {
            self.living_among(children(std::process::id()))
        }

        /// The same, slower, and not easily wrong: asks every process of the machine for its parent and its badge.
        pub(in super::super) fn scan(&mut self) -> Vec<u32> {
            let own = std::process::id();
            let badge = self.mark.as_ref().map(Mark::badge);
            let living = all_of(|pid| {
                let may_be = stat(pid).is_some_and(|stat| stat.parent == own)
                    || badge.is_some_and(|badge| badge.is_worn_by(pid));
                may_be && !self.living_among(vec![pid]).is_empty()
            });
            self.living_among(living)
        }

        fn living_among(&mut self, candidates: Vec<u32>) -> Vec<u32> {
            let mut living = BTreeSet::new();
            let mut queue: Vec<u32> = Vec::new();
            for child in candidates {
                if child == self.root && !self.root_is_gone {
                    queue.push(child);
                    continue;
                }
                let Some(stat) = stat(child) else { continue };
                let known = self.seen.get(&child) == Some(&stat.started)
                    || self.seen.contains_key(&stat.group)
                    || self.seen.contains_key(&stat.session)
                    || self.mark.as_ref().is_some_and(|mark| has_mark(child, mark));
                if !known {
                    continue;
                }
                if stat.is_zombie() {
                    reap(child);
                } else {
                    queue.push(child);
                }
            }
            while let Some(pid) = queue.pop() {
                let Some(stat) = stat(pid) else { continue };
                if !stat.is_zombie() && living.insert(pid) {
                    self.seen.insert(pid, stat.started);
                    queue.extend(children(pid));
                }
            }
            living.into_iter().collect()
        }

        /// Sends `signal` to everybody who is alive.
        pub(in super::super) fn signal(&mut self, signal: Signal) {
            for pid in self.living() {
                signal_pid(pid, signal);
            }
            if !self.root_is_gone {
                signal_group(self.root, signal);
            }
        }
    }

    /// Reaps a zombie that is ours by adoption. Nobody else waits for it.
    fn reap(pid: u32) {
        if let Ok(pid) = i32::try_from(pid) {
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }

    /// Ends what is left of a child of a process that died: `root` itself, what descends from it, and whatever
    /// carries `mark` (`KEY=VALUE`) in its environment, or the badge that follows from it. Blocks for `grace`, then as
    /// long as it finds others each time: two seconds beyond the last new one, a minute at most. Returns how many there were.
    pub fn end_orphans(root: Option<&Identity>, mark: &str, grace: Duration) -> usize {
        let own = std::process::id();
        let mark = Mark::new(mark);
        end_all(grace, || {
            let mut living = BTreeSet::new();
            let mut queue: Vec<u32> =
                root.filter(|root| root.is_alive()).map(|root| root.pid).into_iter().collect();
            let is_ours =
                |pid| stat(pid).is_some_and(|stat| !stat.is_zombie()) && pid != own && has_mark(pid, &mark);
            queue.extend(all_of(is_ours));
            while let Some(pid) = queue.pop() {
                if pid != own && stat(pid).is_some_and(|stat| !stat.is_zombie()) && living.insert(pid) {
                    queue.extend(children(pid));
                }
            }
            living.into_iter().collect()
        })
    }

    /// Whether a process, or one that it descends from, is one of `roots`, or has one of `marks` (`KEY=VALUE`) in the
    /// environment that it began with or the badge that follows from it. `None` if that cannot be told: it is gone, or
    /// its parents die faster than we look.
    ///
    /// Unseen goes only who has left its parents, cleared its environment and taken its badge off.
    pub fn descends(pid: u32, roots: &[Identity], marks: &[String]) -> Option<bool> {
        /// Nobody has so many ancestors; and so often the parents of one may change while we look.
        const LOOKS: usize = 1000;
        let marks: Vec<Mark> = marks.iter().map(|mark| Mark::new(mark)).collect();
        let mut next = pid;
        for _ in 0..LOOKS {
            let Some(stat) = stat(next) else {
                if next == pid {
                    return None;
                }
                // Whoever it was parent of has another one now.
                next = pid;
                continue;
            };
            if next == pid && stat.is_zombie() {
                return None;
            }
            let badge = Badge::worn_by(next);
            let environ = fs::read(format!("/proc/{next}/environ")).unwrap_or_default();
            let is_marked = marks.iter().any(|mark| {
                badge == Some(mark.badge()) || environ.split(|&b| b == 0).any(|had| had == mark.variable())
            });
            if is_marked || roots.iter().any(|root| root.pid == next && root.started == stat.started) {
                return Some(true);
            }
            if stat.parent <= 1 {
                return Some(false);
            }
            next = stat.parent;
        }
        None
    }

    /// Ends processes that this process adopted and that no tree recognised: they cleared their environment and
    /// opened a session of their own. Only a process that starts nothing else in sessions of their own may call
    /// this, when its last child is gone. Blocks as [`end_orphans`] does. Returns how many there were.
    pub fn sweep_strays(grace: Duration) -> usize {
        let own = own_session();
        end_all(grace, || {
            let mut living = BTreeSet::new();
            let mut queue: Vec<u32> = children(std::process::id())
                .into_iter()
                .filter(|&pid| stat(pid).is_some_and(|stat| Some(stat.session) != own))
                .collect();
            while let Some(pid) = queue.pop() {
                let Some(stat) = stat(pid) else { continue };
                if stat.is_zombie() {
                    if stat.parent == std::process::id() {
                        reap(pid);
                    }
                } else if living.insert(pid) {
                    queue.extend(children(pid));
                }
            }
            living.into_iter().collect()
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_name_with_parentheses_does_not_shift_the_fields() {
            let line = b"77 (a) b (c)) S 5 77 70 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4242 99 1 1 94 95";
            let stat = parse_stat(line).unwrap();
            assert_eq!((stat.state, stat.parent, stat.group), (b'S', 5, 77));
            assert_eq!((stat.session, stat.started), (70, 4242));
            assert!(parse_stat(b"77 (x) S 5").is_none());
        }

        #[expect(
            clippy::disallowed_methods,
            reason = "shells that nobody is to recognise by their environment"
        )]
        #[test]
        fn who_descends_is_found_by_parents_environment_and_badge() {
            let mark = "MARK_OF_ANOTHER_TEST=1".to_owned();
            let (giver, words) = Mark::new(&mark).badge().giver().expect("this system has `prlimit`");
            let start = |mut command: std::process::Command| {
                let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
                let mut line = String::new();
                let output = child.stdout.take().unwrap();
                std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).unwrap();
                (child, line.trim().parse::<u32>().unwrap())
            };
            let own = std::process::id();
            assert_eq!(descends(own, &[], std::slice::from_ref(&mark)), Some(false));
            assert_eq!(descends(own, &[Identity::own()], &[]), Some(true));
            // A grandchild without environment, with and without a badge; one whose grandparent has the variable.
            let below = "env -i sh -c 'echo $$; exec sleep 100' & wait";
            let mut plain = std::process::Command::new("/bin/sh");
            plain.args(["-c", below]);
            let mut badged = std::process::Command::new(giver);
            badged.args(words).args(["/bin/sh", "-c", below]);
            let mut marked = std::process::Command::new("/bin/sh");
            marked.args(["-c", below]).env("MARK_OF_ANOTHER_TEST", "1");
            for (command, is_found) in [(plain, false), (badged, true), (marked, true)] {
                let (mut child, pid) = start(command);
                assert_eq!(descends(pid, &[], std::slice::from_ref(&mark)), Some(is_found));
                let root = Identity::of(child.id()).unwrap();
                assert_eq!(descends(pid, std::slice::from_ref(&root), &[]), Some(true));
                let later = Identity { started: root.started + 1, ..root };
                assert_eq!(descends(pid, &[later], &[]), Some(false), "another one with its number");
                signal_pid(pid, Signal::SIGKILL);
                child.wait().unwrap();
                assert_eq!(descends(child.id(), &[], &[]), None, "it is gone");
            }
        }

        /// A process that forks and starts programs all the time, looked at as often as we can: whenever a child of
        /// it is there before and after the look, the look must recognise it.
        #[expect(clippy::disallowed_methods, reason = "a shell with an environment of one variable")]
        #[test]
        fn a_process_that_is_starting_a_program_is_recognised() {
            let mut shell = std::process::Command::new("/bin/sh")
                .args(["-c", "while :; do /bin/true; done"])
                .env("MARK_OF_A_TEST", "1")
                .spawn()
                .unwrap();
            let (mut looks, mut missed) = (0, 0);
            let limit = Instant::now() + Duration::from_secs(20);
            while looks < 3000 && Instant::now() < limit {
                for child in children(shell.id()) {
                    let recognised = has_mark(child, &Mark::new("MARK_OF_A_TEST=1"));
                    let Some(after) = stat(child) else { continue };
                    if after.parent == shell.id() && !after.is_zombie() && after.flags & 0x4 == 0 {
                        looks += 1;
                        missed += usize::from(!recognised);
                    }
                }
            }
            shell.kill().unwrap();
            shell.wait().unwrap();
            assert!(looks > 100 && missed == 0, "{missed} of {looks}");
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod portable {
    use super::super::identity::Identity;
    use super::{Signal, end_all, signal_group};
    use nix::sys::signal::killpg;
    use nix::unistd::Pid;
    use std::time::Duration;

    /// One child of ours and its process group.
    #[derive(Debug)]
    pub(in super::super) struct Tree {
        root: u32,
    }

    impl Tree {
        pub(in super::super) const fn prepare() {}

        pub(in super::super) fn new(root: &Identity, _mark: Option<super::super::badge::Mark>) -> Self {
            Self { root: root.pid }
        }

        pub(in super::super) const fn root_exited(&mut self) {}

        /// The group's number, if anybody is left in it.
        pub(in super::super) fn living(&mut self) -> Vec<u32> {
            let group = i32::try_from(self.root).map(Pid::from_raw);
            group.is_ok_and(|group| killpg(group, None).is_ok()).then_some(self.root).into_iter().collect()
        }

        pub(in super::super) fn scan(&mut self) -> Vec<u32> {
            self.living()
        }

        pub(in super::super) fn signal(&mut self, signal: Signal) {
            signal_group(self.root, signal);
        }
    }

    /// Ends what is left of a child of a process that died: `root` alone, on this system.
    pub fn end_orphans(root: Option<&Identity>, _mark: &str, grace: Duration) -> usize {
        end_all(grace, || root.filter(|root| root.is_alive()).map(|root| root.pid).into_iter().collect())
    }

    /// Finds nobody on this system.
    pub const fn descends(_pid: u32, _roots: &[Identity], _marks: &[String]) -> Option<bool> {
        Some(false)
    }

    /// Does nothing on this system: nobody is adopted.
    pub const fn sweep_strays(_grace: Duration) -> usize {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn killing_goes_on_while_somebody_new_turns_up() {
        let long_ago = |patience: &mut Patience| patience.until -= Patience::WITH_THE_SAME;
        let mut patience = Patience::new();
        assert!(patience.holds(&[7]));
        long_ago(&mut patience);
        assert!(patience.holds(&[8]), "another one");
        assert!(patience.holds(&[8]), "for a while");
        long_ago(&mut patience);
        assert!(!patience.holds(&[8]), "it does not die of it");
        assert!(!Patience::new().holds(&[]));
        patience.at_most = Instant::now();
        assert!(!patience.holds(&[9]), "they never end");
    }
}

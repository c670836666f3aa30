//! One command, struck again and again: each time in the same repository, restored from a copy.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::calls::Calls;
use super::tracer::{self, Act, Fault, Traced, Whose};
use crate::harness::Sandbox;
use crate::harness::sandbox::Fingerprint;

/// Looks whether what must hold does. Told whether the command was acknowledged.
pub(super) type Check = dyn Fn(&Sandbox, bool);

/// A command that changes something, and what must hold after it was struck.
pub(super) struct Case {
    pub(super) name: &'static str,
    pub(super) sandbox: Sandbox,
    pub(super) args: Vec<String>,
    /// An ordinary command that comes next, and recovers.
    pub(super) next: Vec<String>,
    /// The exit code by which it acknowledges.
    pub(super) done: i32,
    /// Whether it moves the checkout, or leaves it as it is.
    pub(super) moves: bool,
    /// Whether it can be given again whatever came of it; otherwise its check does what is missing.
    pub(super) again: bool,
    /// Looks at what is there, runs the next ordinary commands, and looks again.
    pub(super) check: Box<Check>,
}

/// What a campaign came to.
#[derive(Debug, Default)]
pub(super) struct Figures {
    points: usize,
    struck: usize,
    acknowledged: usize,
    /// Each with the point at which it happened.
    failures: Vec<String>,
    took: Duration,
}

/// One strike: a fault, or two of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct Point {
    pub(super) fault: Fault,
    /// At which call the next command is killed, recovery included.
    pub(super) again: Option<usize>,
}

/// A case whose repository can be put back.
pub(super) struct Stage {
    pub(super) case: Case,
    copy: PathBuf,
    before: Fingerprint,
}

impl Stage {
    pub(super) fn new(case: Case) -> Self {
        let root = case.sandbox.root();
        let copy = root.with_extension("copy");
        fs::create_dir(&copy).unwrap();
        duplicate(&root, &copy);
        let before = case.sandbox.fingerprint();
        Self { case, copy, before }
    }

    fn restore(&self) {
        let root = self.case.sandbox.root();
        for entry in fs::read_dir(&root).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
        }
        duplicate(&self.copy, &root);
    }

    /// How many calls count when nothing happens.
    pub(super) fn count(&self, whose: Whose, calls: Calls) -> usize {
        self.restore();
        let traced = self.run(Fault::none(whose, calls));
        assert_eq!(traced.output.code, self.case.done, "{}\n{}", self.case.name, traced.output);
        traced.calls
    }

    /// Strikes once, and only tells what came of it.
    pub(super) fn tries(&self, fault: Fault) -> Traced {
        self.restore();
        self.run(fault)
    }

    fn run(&self, fault: Fault) -> Traced {
        let args: Vec<&str> = self.case.args.iter().map(String::as_str).collect();
        tracer::run(&self.case.sandbox, &args, fault)
    }

    /// Strikes once, and looks whether everything holds that must.
    fn strike(&self, fault: Fault, figures: &mut Figures, look: &Look) {
        self.restore();
        let traced = self.run(fault);
        if let Ok(keep) = std::env::var("ORCHESTRA_FAULT_KEEP") {
            let keep = Path::new(&keep).join(format!("{:?}-{}", fault.act, fault.at));
            fs::create_dir_all(&keep).unwrap();
            duplicate(&self.case.sandbox.root(), &keep);
        }
        figures.points += 1;
        figures.struck += usize::from(traced.struck.is_some());
        let acknowledged = traced.output.code == self.case.done;
        figures.acknowledged += usize::from(acknowledged);
        let sound = catch_unwind(AssertUnwindSafe(|| {
            look(&traced, self.case.done);
            if matches!(fault.act, Act::Fail { .. } | Act::Limit(_))
                && self.case.again
                && !acknowledged
                && fault.at % 2 == 1
            {
                self.give_again();
            }
            (self.case.check)(&self.case.sandbox, acknowledged);
            self.is_sound();
        }));
        if let Err(panic) = sound {
            let words = panic.downcast_ref::<String>().cloned();
            let words = words.or_else(|| panic.downcast_ref::<&str>().map(|words| (*words).to_owned()));
            let (name, struck) = (self.case.name, traced.struck.as_deref().unwrap_or("nothing"));
            let Fault { whose, calls, at, act } = fault;
            figures.fail(format!(
                "{name}: {act:?} at {calls:?} call {at} of {whose:?} ({struck})\n{}\nthen: {}",
                traced.output,
                words.unwrap_or_default()
            ));
        }
    }

    /// The same command once more: it does its work, or says that it was done.
    fn give_again(&self) {
        let args: Vec<&str> = self.case.args.iter().map(String::as_str).collect();
        let out = self.case.sandbox.orchestra(&args);
        let errors = out.stderr.lines().filter(|line| line.starts_with("error: ")).count();
        let is_done = out.code < 9 && errors == 1 && !out.stderr.contains("caused by: ");
        assert!(out.code == self.case.done || is_done, "given again\n{out}");
    }

    /// What holds after every fault and the next command, whatever the command was.
    fn is_sound(&self) {
        let sandbox = &self.case.sandbox;
        sandbox.assert_sound();
        let after = sandbox.fingerprint();
        if self.case.moves {
            let (config, shared) = (&self.before.config, &self.before.shared);
            assert_eq!((&after.head, &after.config, &after.shared), (&self.before.head, config, shared));
            assert_eq!(sandbox.git(&["status", "--porcelain"]), "", "the checkout is clean");
        } else {
            assert_eq!(after, self.before, "the checkout is the user's");
        }
        let mut locks = Vec::new();
        find_locks(&sandbox.git_dir(), &mut locks);
        assert!(locks.is_empty(), "locks that nobody holds: {locks:?}");
        // The user's own git.
        sandbox.git(&["status"]);
        sandbox.git(&["fetch", "--quiet", "--all"]);
        sandbox.git(&["worktree", "list"]);
        sandbox.git(&["pack-refs", "--all"]);
        sandbox.git(&["gc", "--quiet"]);
    }

    /// Strikes, and then strikes the next command at its call `at`, recovery included.
    fn strike_twice(&self, first: Fault, at: usize, figures: &mut Figures) {
        self.restore();
        let _ = self.run(first);
        let args: Vec<&str> = self.case.next.iter().map(String::as_str).collect();
        let second = Fault { whose: Whose::All, calls: Calls::Mutating, at, act: Act::KillAll };
        let traced = tracer::run(&self.case.sandbox, &args, second);
        figures.points += 1;
        figures.struck += usize::from(traced.struck.is_some());
        let sound = catch_unwind(AssertUnwindSafe(|| {
            (self.case.check)(&self.case.sandbox, false);
            self.is_sound();
        }));
        if let Err(panic) = sound {
            let words = panic.downcast_ref::<String>().cloned().unwrap_or_default();
            figures.fail(format!(
                "{}: killed at {}, then in {args:?} at {at} ({:?})\n{}\nthen: {words}",
                self.case.name, first.at, traced.struck, traced.output
            ));
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.copy);
    }
}

/// Looks at what a run that was struck said; told the exit code by which it acknowledges.
pub(super) type Look = dyn Fn(&Traced, i32) + Sync;

/// Strikes a command at every point, and says what came of it. Most of the time goes by waiting for what a dead process
/// might still hold, so several are struck at once, each in a repository of its own.
pub(super) fn strike_all(what: &str, stage: Stage, points: &[Point], look: &Look) -> Figures {
    /// Fewer are not worth another repository.
    const EACH: usize = 10;
    let (name, start) = (stage.case.name, Instant::now());
    let (next, all) = (AtomicUsize::new(0), Mutex::new(Figures::default()));
    let work = |stage: Stage| {
        let mut figures = Figures::default();
        while let Some(point) = points.get(next.fetch_add(1, Ordering::Relaxed)) {
            match point.again {
                Some(at) => stage.strike_twice(point.fault, at, &mut figures),
                None => stage.strike(point.fault, &mut figures, look),
            }
        }
        all.lock().unwrap().add(figures);
    };
    std::thread::scope(|scope| {
        for _ in 1..threads().min(points.len() / EACH) {
            scope.spawn(|| work(Stage::new(super::cases::make(name))));
        }
        work(stage);
    });
    let mut all = all.into_inner().unwrap();
    all.took = start.elapsed();
    println!("{what} {name}: {}", all.words());
    all
}

/// How many points are struck at once.
fn threads() -> usize {
    let wish = std::env::var("ORCHESTRA_FAULT_THREADS").ok();
    wish.map_or_else(
        || 3 * std::thread::available_parallelism().map_or(1, usize::from),
        |number| number.parse().expect("ORCHESTRA_FAULT_THREADS is a number"),
    )
}

impl Figures {
    pub(super) fn add(&mut self, other: Self) {
        self.points += other.points;
        self.struck += other.struck;
        self.acknowledged += other.acknowledged;
        self.failures.extend(other.failures);
        self.took += other.took;
    }

    /// Tells how many points there would be, and strikes none.
    pub(super) fn count(what: &str, name: &str, points: &[Point]) -> Self {
        println!("{what} {name}: {} points", points.len());
        Self { points: points.len(), ..Self::default() }
    }

    fn words(&self) -> String {
        format!(
            "{} points, {} struck, {} acknowledged, {} failed, in {:.0?}",
            self.points,
            self.struck,
            self.acknowledged,
            self.failures.len(),
            self.took
        )
    }

    fn fail(&mut self, failure: String) {
        println!("---- {failure}\n");
        self.failures.push(failure);
    }

    pub(super) fn conclude(&self, what: &str) {
        println!("{what}: {}", self.words());
        assert!(self.failures.is_empty(), "{what}: {} of {} points failed", self.failures.len(), self.points);
    }
}

/// How many points are taken of each command and each way: all of them, so many, or the few of the short form.
fn wish() -> Option<usize> {
    let wish = std::env::var("ORCHESTRA_FAULTS").ok()?;
    Some(if wish == "all" || wish == "count" {
        usize::MAX
    } else {
        wish.parse().expect("ORCHESTRA_FAULTS is `all` or a number")
    })
}

/// Whether points are only to be counted.
pub(super) fn only_counted() -> bool {
    std::env::var("ORCHESTRA_FAULTS").is_ok_and(|wish| wish == "count")
}

/// The commands that are struck: those that `ORCHESTRA_FAULT_COMMAND` names (`spawn,merge`), otherwise all in the long
/// form and `few` in the short one. Each with its number.
pub(super) fn wanted(few: &[&'static str]) -> Vec<(usize, &'static str)> {
    let only = std::env::var("ORCHESTRA_FAULT_COMMAND").ok();
    let is_wanted = |name: &str| match &only {
        Some(only) => only.split(',').any(|only| only == name),
        None => wish().is_some() || few.contains(&name),
    };
    super::cases::NAMES.iter().copied().enumerate().filter(|(_, name)| is_wanted(name)).collect()
}

/// Points of `1..=count`: as many as are wished for, otherwise `few`, spread evenly and shifted by `turn`.
pub(super) fn points(count: usize, few: usize, turn: usize) -> Vec<usize> {
    if let Ok(only) = std::env::var("ORCHESTRA_FAULT_POINT") {
        return vec![only.parse().expect("ORCHESTRA_FAULT_POINT is a number")];
    }
    let wanted = wish().unwrap_or(few).min(count);
    (0..wanted).map(|n| (n * count / wanted + turn) % count + 1).collect()
}

fn duplicate(from: &Path, to: &Path) {
    // Links, modes and times as they are; no process for each file.
    let status = Command::new("cp").arg("-a").arg(from.join(".")).arg(to).status().unwrap();
    assert!(status.success());
}

/// Lock files in a git directory, but for those that we lock with `flock`, which mean nothing when nobody holds them.
fn find_locks(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if !path.ends_with("orchestra") || path.parent().is_some_and(|p| p.ends_with("refs")) {
                find_locks(&path, found);
            }
        } else if path.extension().is_some_and(|end| end == "lock") {
            found.push(path);
        }
    }
}

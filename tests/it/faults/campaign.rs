//! One command, struck again and again: each time in the same repository, restored from a copy.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::tracer::{self, Act, Calls, Fault, Traced, Whose};
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
    /// Looks at what is there, runs the next ordinary commands, and looks again.
    pub(super) check: Box<Check>,
}

/// What a campaign came to.
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) points: usize,
    pub(super) struck: usize,
    pub(super) acknowledged: usize,
    /// Each with the point at which it happened.
    pub(super) failures: Vec<String>,
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

    pub(super) fn restore(&self) {
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

    pub(super) fn run(&self, fault: Fault) -> Traced {
        let args: Vec<&str> = self.case.args.iter().map(String::as_str).collect();
        tracer::run(&self.case.sandbox, &args, fault)
    }

    /// Strikes once, and looks whether everything holds that must.
    pub(super) fn strike(&self, fault: Fault, figures: &mut Figures, look: impl Fn(&Traced)) {
        self.restore();
        let traced = self.run(fault);
        figures.points += 1;
        figures.struck += usize::from(traced.struck.is_some());
        let acknowledged = traced.output.code == self.case.done;
        figures.acknowledged += usize::from(acknowledged);
        let sound = catch_unwind(AssertUnwindSafe(|| {
            look(&traced);
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
    pub(super) fn strike_twice(&self, first: Fault, at: usize, figures: &mut Figures) {
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

impl Figures {
    pub(super) fn add(&mut self, other: Self) {
        self.points += other.points;
        self.struck += other.struck;
        self.acknowledged += other.acknowledged;
        self.failures.extend(other.failures);
    }

    fn fail(&mut self, failure: String) {
        println!("---- {failure}\n");
        self.failures.push(failure);
    }

    pub(super) fn conclude(&self, what: &str) {
        println!(
            "{what}: {} points, {} struck, {} acknowledged, {} failed",
            self.points,
            self.struck,
            self.acknowledged,
            self.failures.len()
        );
        assert!(self.failures.is_empty(), "{what}: {} of {} points failed", self.failures.len(), self.points);
    }
}

/// How many points are taken of each command and each way: all of them, so many, or the few of the short form.
fn wish() -> Option<usize> {
    let wish = std::env::var("ORCHESTRA_FAULTS").ok()?;
    Some(if wish == "all" {
        usize::MAX
    } else {
        wish.parse().expect("ORCHESTRA_FAULTS is `all` or a number")
    })
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

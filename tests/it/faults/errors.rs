//! Calls that fail: a full disk, a broken one, no more file descriptors. Once, and from then on.

use nix::errno::Errno;

use super::calls::Calls;
use super::campaign::{Figures, Point, Stage, only_counted, points, strike_all, wanted};
use super::cases;
use super::tracer::{Act, Fault, Traced, Whose};

const KINDS: [(Errno, Calls); 3] =
    [(Errno::ENOSPC, Calls::Allocating), (Errno::EIO, Calls::Mutating), (Errno::EMFILE, Calls::Opening)];

/// What did not work is said in one sentence that names it, without a panic. Where no call works from then on, the
/// words cannot be written either: the exit code tells.
fn is_clean(traced: &Traced, done: i32) {
    let out = &traced.output;
    let mute = matches!(traced.fault.act, Act::Fail { on: true, .. }) && traced.fault.calls != Calls::Opening;
    assert!(!out.stderr.contains("panicked"), "a panic");
    assert!(out.code < 128, "it was killed");
    if mute || out.code == done {
        return;
    }
    // What could not be done for one agent is a line of the output.
    let words: Vec<&str> = out
        .stderr
        .lines()
        .filter(|line| ["error: ", "caused by: ", "warning: "].iter().any(|start| line.starts_with(start)))
        .chain(out.stdout.lines().filter(|line| line.contains("failed")))
        .collect();
    assert!(!words.is_empty(), "it says nothing");
    assert!(words.iter().any(|words| names_something(words)), "it does not say what");
}

/// What says what could not be done, where it names no path.
const NAMES: [&str; 8] = [
    "write a ",
    "undo ",
    "`",
    "start the runtime",
    "listen for signals",
    "push to ",
    "release ",
    "is not to be had",
];

/// Whether words say what could not be done to what: a path, a ref, an object, a program, an operation.
fn names_something(words: &str) -> bool {
    let is_path = |word: &str| word.contains('/') && !word.contains("Input/output");
    words.split_whitespace().any(is_path) || NAMES.iter().any(|mark| words.contains(mark))
}

fn fails_at_every_call(errno: Errno) {
    let (errno, calls) = KINDS.into_iter().find(|(kind, ..)| *kind == errno).unwrap();
    let mut all = Figures::default();
    for (turn, name) in wanted(&["task-add", "finding-add", "spawn", "merge"]) {
        let stage = Stage::new(cases::make(name));
        let count = stage.count(Whose::All, calls);
        let mut chosen = Vec::new();
        for on in [false, true] {
            chosen.extend(points(count, 1, turn * 7 + usize::from(on) * 3).into_iter().map(|at| {
                let fault = Fault { whose: Whose::All, calls, at, act: Act::Fail { errno, on } };
                Point { fault, again: None }
            }));
        }
        all.add(if only_counted() {
            Figures::count(errno.desc(), name, &chosen)
        } else {
            strike_all(errno.desc(), stage, &chosen, &is_clean)
        });
    }
    all.conclude(errno.desc());
}

#[test]
fn no_space_is_left() {
    fails_at_every_call(Errno::ENOSPC);
}

#[test]
fn the_disk_is_broken() {
    fails_at_every_call(Errno::EIO);
}

/// git says that it could not write an index, and neither which nor why.
#[test]
fn what_git_cannot_write_is_named() {
    const WHAT: &str = "what git cannot write";
    let mut all = Figures::default();
    // All of it is in `no_space_is_left`, of which a short run has little.
    for (_, name) in wanted(&["apply"]).into_iter().filter(|(_, name)| *name == "apply") {
        let stage = Stage::new(cases::make(name));
        let count = stage.count(Whose::Git, Calls::Allocating);
        let act = Act::Fail { errno: Errno::ENOSPC, on: false };
        let fault = |at| Fault { whose: Whose::Git, calls: Calls::Allocating, at, act };
        let chosen: Vec<Point> = (1..=count).map(|at| Point { fault: fault(at), again: None }).collect();
        all.add(if only_counted() {
            Figures::count(WHAT, name, &chosen)
        } else {
            strike_all(WHAT, stage, &chosen, &is_clean)
        });
    }
    all.conclude(WHAT);
}

/// git says nothing of a lock that the system did not let it remove; it stays, and stops everybody's git.
#[test]
fn what_git_cannot_remove_goes_later() {
    const WHAT: &str = "what git cannot remove";
    let mut all = Figures::default();
    for (_, name) in wanted(&["merge-abort"]) {
        let stage = Stage::new(cases::make(name));
        let count = stage.count(Whose::Git, Calls::Removing);
        let act = Act::Fail { errno: Errno::EIO, on: false };
        let fault = |at| Fault { whose: Whose::Git, calls: Calls::Removing, at, act };
        let chosen: Vec<Point> = (1..=count).map(|at| Point { fault: fault(at), again: None }).collect();
        assert!(name != "merge-abort" || !chosen.is_empty(), "{name}: git removes nothing");
        all.add(if only_counted() {
            Figures::count(WHAT, name, &chosen)
        } else {
            strike_all(WHAT, stage, &chosen, &is_clean)
        });
    }
    all.conclude(WHAT);
}

#[test]
fn too_many_files_are_open() {
    fails_at_every_call(Errno::EMFILE);
}

/// Real limits, from what the program can just start with to what the command needs: whichever call comes too late
/// fails, in whichever process.
#[test]
fn fewer_files_may_be_open_than_it_takes() {
    const WHAT: &str = "files";
    const ENOUGH: u64 = 256;
    const NOT_LOADED: i32 = 127;
    let strike = |stage: &Stage, limit| {
        stage.tries(Fault { whose: Whose::All, calls: Calls::Opening, at: 0, act: Act::Limit(limit) })
    };
    let mut all = Figures::default();
    for (turn, name) in wanted(&["task-add", "finding-add", "spawn", "merge"]) {
        let stage = Stage::new(cases::make(name));
        let done = stage.case.done;
        // With less it is the system that says so, before the program begins.
        let least = (4..ENOUGH).find(|limit| strike(&stage, *limit).output.code != NOT_LOADED);
        let least = least.expect("it is loaded at last");
        let enough = (least..ENOUGH).find(|limit| strike(&stage, *limit).output.code == done);
        let enough = enough.expect("it is enough at last");
        let count = usize::try_from(enough - least).unwrap();
        let chosen: Vec<Point> = points(count, 2, turn * 7)
            .into_iter()
            .map(|at| {
                let limit = least - 1 + at as u64;
                let fault = Fault { whose: Whose::All, calls: Calls::Opening, at: 0, act: Act::Limit(limit) };
                Point { fault, again: None }
            })
            .collect();
        all.add(if only_counted() {
            Figures::count(WHAT, name, &chosen)
        } else {
            strike_all(WHAT, stage, &chosen, &is_clean)
        });
    }
    all.conclude(WHAT);
}

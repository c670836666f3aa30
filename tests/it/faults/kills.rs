//! kill -9 at every system call by which a command, or a git that it started, changes a file.

use super::calls::Calls;
use super::campaign::{Figures, Point, Stage, only_counted, points, strike_all, wanted};
use super::cases;
use super::tracer::{Act, Fault, Whose};

/// The ways to die: everything at once, the program alone, the git that makes the call alone.
const WAYS: [(Whose, Act); 3] =
    [(Whose::All, Act::KillAll), (Whose::Orchestra, Act::KillOne), (Whose::Git, Act::KillOne)];

#[test]
fn killed_at_every_call() {
    const WHAT: &str = "kill -9";
    let mut all = Figures::default();
    for (turn, name) in wanted(&["task-add", "finding-add", "spawn", "remove", "merge-continue", "sync"]) {
        let stage = Stage::new(cases::make(name));
        let mut chosen = Vec::new();
        for (way, (whose, act)) in WAYS.into_iter().enumerate() {
            let count = stage.count(whose, Calls::Mutating);
            let few = if way == 0 { 2 } else { 1 };
            chosen.extend(points(count, few, turn * 7 + way * 3).into_iter().map(|at| {
                let fault = Fault { whose, calls: Calls::Mutating, at, act };
                Point { fault, again: None }
            }));
        }
        all.add(if only_counted() {
            Figures::count(WHAT, name, &chosen)
        } else {
            strike_all(WHAT, stage, &chosen, &|_, _| {})
        });
    }
    all.conclude(WHAT);
}

#[test]
fn killed_again_during_the_recovery() {
    const WHAT: &str = "kill -9 twice";
    let mut all = Figures::default();
    for (turn, name) in wanted(&["finding-add", "spawn", "merge"]) {
        let stage = Stage::new(cases::make(name));
        let count = stage.count(Whose::All, Calls::Mutating);
        let mut chosen = Vec::new();
        // How long the next command may be, recovery included, is not known before: points beyond it strike nothing.
        for (n, at) in points(count, 1, turn * 5).into_iter().enumerate() {
            let fault = Fault { whose: Whose::All, calls: Calls::Mutating, at, act: Act::KillAll };
            chosen.extend([1 + n * 7 % 23, 24 + n * 11 % 40].map(|at| Point { fault, again: Some(at) }));
        }
        all.add(if only_counted() {
            Figures::count(WHAT, name, &chosen)
        } else {
            strike_all(WHAT, stage, &chosen, &|_, _| {})
        });
    }
    all.conclude(WHAT);
}

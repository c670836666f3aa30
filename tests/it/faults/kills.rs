//! kill -9 at every system call by which a command, or a git that it started, changes a file.

use super::campaign::{Figures, Stage, points, wanted};
use super::cases;
use super::tracer::{Act, Calls, Fault, Whose};

/// The ways to die: everything at once, the program alone, the git that makes the call alone.
const WAYS: [(Whose, Act); 3] =
    [(Whose::All, Act::KillAll), (Whose::Orchestra, Act::KillOne), (Whose::Git, Act::KillOne)];

#[test]
fn killed_at_every_call() {
    let mut all = Figures::default();
    for (turn, name) in wanted(&["task-add", "finding-add", "spawn", "remove", "merge-continue", "sync"]) {
        let stage = Stage::new(cases::make(name));
        let mut figures = Figures::default();
        for (way, (whose, act)) in WAYS.into_iter().enumerate() {
            let count = stage.count(whose, Calls::Mutating);
            let few = if way == 0 { 2 } else { 1 };
            for at in points(count, few, turn * 7 + way * 3) {
                let fault = Fault { whose, calls: Calls::Mutating, at, act };
                stage.strike(fault, &mut figures, |_| {});
            }
        }
        report("kill -9", name, &figures);
        all.add(figures);
    }
    all.conclude("kill -9");
}

#[test]
fn killed_again_during_the_recovery() {
    let mut all = Figures::default();
    for (turn, name) in wanted(&["finding-add", "spawn", "merge"]) {
        let stage = Stage::new(cases::make(name));
        let count = stage.count(Whose::All, Calls::Mutating);
        let mut figures = Figures::default();
        // How long the next command may be, recovery included, is not known before: points beyond it strike nothing.
        for (n, at) in points(count, 1, turn * 5).into_iter().enumerate() {
            let first = Fault { whose: Whose::All, calls: Calls::Mutating, at, act: Act::KillAll };
            for again in [1 + n * 7 % 23, 24 + n * 11 % 40] {
                stage.strike_twice(first, again, &mut figures);
            }
        }
        report("kill -9 twice", name, &figures);
        all.add(figures);
    }
    all.conclude("kill -9 twice");
}

pub(super) fn report(what: &str, name: &str, figures: &Figures) {
    println!(
        "{what} {name}: {} points, {} struck, {} acknowledged, {} failed",
        figures.points,
        figures.struck,
        figures.acknowledged,
        figures.failures.len()
    );
}

//! kill -9 at random moments, and many processes at once: acknowledged work survives, unacknowledged work is wholly
//! there or wholly absent, and the next command needs no human.
//!
//! In CI a few kills of each kind; `ORCHESTRA_KILLS=200` makes the campaign that long. The moments follow from a
//! seed that is printed, and `ORCHESTRA_KILL_SEED` repeats them (as far as the machine's own timing lets it).

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::harness::sandbox::ORCHESTRA;
use crate::harness::{Output, Sandbox};

/// How often each campaign kills.
fn kills() -> usize {
    std::env::var("ORCHESTRA_KILLS").map_or(7, |count| count.parse().expect("ORCHESTRA_KILLS is a number"))
}

/// Moments between nothing and a little more than a whole run.
struct Moments {
    state: u64,
    span: Duration,
}

impl Moments {
    fn new(span: Duration) -> Self {
        let seed = std::env::var("ORCHESTRA_KILL_SEED").ok().map_or_else(
            || u64::from_ne_bytes(uuid::Uuid::new_v4().as_bytes()[..8].try_into().unwrap()),
            |seed| seed.parse().expect("ORCHESTRA_KILL_SEED is a number"),
        );
        println!("ORCHESTRA_KILL_SEED={seed}, moments within {span:?}");
        Self { state: seed | 1, span }
    }

    fn next(&mut self) -> Duration {
        // xorshift: any spread of moments will do.
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        let part = u32::try_from(self.state >> 40 & 0xffff).unwrap();
        self.span * part / 0xffff
    }
}

/// What became of a command that was to be killed.
enum Ended {
    /// It was done first: what it acknowledged must last.
    Done(Output),
    Killed,
}

/// Runs `git-orchestra` and kills it after `moment`, unless it is done by then.
fn kill_after(sandbox: &Sandbox, args: &[&str], moment: Duration) -> Ended {
    let mut command = sandbox.command(ORCHESTRA);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let start = Instant::now();
    let mut child = command.spawn().unwrap();
    while start.elapsed() < moment {
        if child.try_wait().unwrap().is_some() {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    child.kill().unwrap();
    let output = child.wait_with_output().unwrap();
    if output.status.code().is_some() { Ended::Done(Output::from(output)) } else { Ended::Killed }
}

/// How long a command takes here and now.
fn span_of(sandbox: &Sandbox, args: &[&str]) -> Duration {
    let start = Instant::now();
    let output = sandbox.orchestra(args);
    assert_eq!(output.code, 0, "{args:?}\n{output}");
    start.elapsed().mul_f64(1.3)
}

fn titles(sandbox: &Sandbox) -> Vec<String> {
    let list = sandbox.json(&["task", "list", "--all"]);
    let tasks = list["data"].as_array().unwrap();
    tasks.iter().map(|task| task["title"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn tasks_outlive_kills() {
    let sandbox = Sandbox::new();
    let mut moments = Moments::new(span_of(&sandbox, &["task", "add", "the first"]));
    let mut acknowledged = BTreeSet::from(["the first".to_owned()]);
    let mut killed = 0;
    while killed < kills() {
        let title = format!("task {killed}.{}", acknowledged.len());
        match kill_after(&sandbox, &["task", "add", &title, "-m", "With a body."], moments.next()) {
            Ended::Done(output) => {
                assert_eq!(output.code, 0, "{output}");
                acknowledged.insert(title);
            }
            Ended::Killed => killed += 1,
        }
        let titles = titles(&sandbox);
        let present: BTreeSet<String> = titles.iter().cloned().collect();
        assert_eq!(titles.len(), present.len(), "nothing is there twice");
        let missing: Vec<_> = acknowledged.difference(&present).collect();
        assert!(missing.is_empty(), "acknowledged and gone: {missing:?}");
    }
    // The next writer needs nobody's help either, whatever lock the last kill left behind.
    sandbox.ok(&["task", "add", "the last"]);
    let left = titles(&sandbox).len() - acknowledged.len() - 1;
    println!(
        "{killed} kills, {} acknowledged and there, {left} unacknowledged and wholly there",
        acknowledged.len()
    );
    sandbox.assert_sound();
    assert_no_leftovers(&sandbox);
}

/// No lock is left that would block the user's own git.
fn assert_no_leftovers(sandbox: &Sandbox) {
    sandbox.git(&["pack-refs", "--all"]);
    sandbox.git(&["gc", "--quiet"]);
    sandbox.git(&["worktree", "list"]);
    sandbox.git(&["branch", "after-the-kills"]);
    sandbox.git(&["status"]);
}

#[test]
fn writers_at_once_lose_nothing() {
    const WRITERS: usize = 8;
    const EACH: usize = 20;
    let sandbox = Sandbox::new();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let sandbox = &sandbox;
            scope.spawn(move || {
                for number in 0..EACH {
                    sandbox.ok(&["task", "add", &format!("{writer}/{number}")]);
                }
            });
        }
    });
    let titles: BTreeSet<String> = titles(&sandbox).into_iter().collect();
    let expected: BTreeSet<String> =
        (0..WRITERS).flat_map(|writer| (0..EACH).map(move |number| format!("{writer}/{number}"))).collect();
    assert_eq!(titles, expected);
    assert_eq!(
        sandbox.git(&["rev-list", "--count", "refs/orchestra/state"]),
        (WRITERS * EACH + 1).to_string()
    );
    sandbox.assert_sound();
}

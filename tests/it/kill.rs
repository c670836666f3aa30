//! kill -9 at random moments, and many processes at once: acknowledged work survives, unacknowledged work is wholly
//! there or wholly absent, and the next command needs no human.
//!
//! In CI a few kills of each kind; `ORCHESTRA_KILLS=200` makes the campaign that long. The moments follow from a
//! seed that is printed, and `ORCHESTRA_KILL_SEED` repeats them (as far as the machine's own timing lets it).

use std::collections::BTreeSet;
use std::process::Stdio;
use std::time::{Duration, Instant};

use git_orchestra::model::{Agent, Merge, MergeStatus, Outcome};
use serde_json::json;

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

pub(crate) fn titles(sandbox: &Sandbox) -> Vec<String> {
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

/// A profile `player` whose agents commit one file, leave another uncommitted, and take about a tenth of a second.
pub(crate) fn with_players() -> Sandbox {
    let sandbox = Sandbox::new();
    let name = "name=$(basename $(git branch --show-current))";
    let lines = [
        json!({"type": "tool_call", "tool": "bash", "args": {"command":
            format!("{name}; echo one > $name.committed; git add --all; git commit --quiet -m 'the first half'")}}),
        json!({"type": "wait", "ms": 30}),
        json!({"type": "tool_call", "tool": "bash", "args": {"command": format!("{name}; echo two > $name.left")}}),
        json!({"type": "result", "content": "Both halves are there."}),
    ];
    sandbox.write("../script.jsonl", &lines.map(|line| line.to_string()).join("\n"));
    let script = sandbox.root().join("script.jsonl");
    let profile = format!("[profile.player]\nprogram = \"replay\"\nargs = [\"{}\"]\n", script.display());
    sandbox.write("../home/.config/git-orchestra/config.toml", &profile);
    sandbox
}

/// Every record of a kind, by plain git: reading needs no command of ours to work.
pub(crate) fn records<T: serde::de::DeserializeOwned>(sandbox: &Sandbox, directory: &str) -> Vec<T> {
    let files = sandbox.git(&["ls-tree", "-r", "--name-only", "refs/orchestra/state", directory]);
    let read = |path: &str| sandbox.git(&["show", &format!("refs/orchestra/state:{path}")]);
    files.lines().map(|path| serde_json::from_str(&read(path)).unwrap()).collect()
}

pub(crate) fn is_whole(sandbox: &Sandbox, agent: &Agent) -> bool {
    let has = |part: &str| {
        let file = format!("{}:{}.{part}", agent.branch, agent.name);
        sandbox.try_git_in(sandbox.repo(), &["cat-file", "-e", &file], b"").code == 0
    };
    has("committed") && has("left")
}

#[test]
fn spawned_agents_outlive_kills() {
    let sandbox = with_players();
    let user = sandbox.fingerprint();
    let add = |title: &str| sandbox.ok(&["task", "add", title]);
    let first = add("warm up");
    let mut moments = Moments::new(span_of(&sandbox, &["spawn", "--profile", "player", &first]));
    let (mut killed, mut round) = (0, 0);
    while killed < kills() {
        round += 1;
        let tasks = [add(&format!("left {round}")), add(&format!("right {round}"))];
        let ended =
            kill_after(&sandbox, &["spawn", "--profile", "player", &tasks[0], &tasks[1]], moments.next());
        if let Ended::Done(output) = &ended {
            assert_eq!(output.code, 0, "{output}");
        }
        killed += usize::from(matches!(ended, Ended::Killed));

        // The next commands: reading, then whatever is missing is made good without a person.
        sandbox.ok(&["status"]);
        for task in tasks {
            let agents: Vec<Agent> = records(&sandbox, "agents");
            let agent =
                agents.iter().find(|agent| agent.task.is_some_and(|id| id.as_str().starts_with(&task)));
            let Some(agent) = agent else {
                assert!(matches!(ended, Ended::Killed), "acknowledged and gone: the agent of {task}");
                sandbox.ok(&["spawn", "--profile", "player", &task]);
                continue;
            };
            if matches!(ended, Ended::Done(_)) {
                assert!(is_whole(&sandbox, agent), "acknowledged and gone: the work of {}", agent.name);
                continue;
            }
            let outcome = agent.last_run().and_then(|(_, run)| run.outcome.clone());
            if outcome != Some(Outcome::Succeeded) {
                sandbox.ok(&["resume", agent.name.as_str(), "-m", "Go on."]);
            }
        }
        let live = |agent: &Agent| agent.removed.is_none();
        for agent in records::<Agent>(&sandbox, "agents").into_iter().filter(live) {
            assert!(is_whole(&sandbox, &agent), "the work of {}", agent.name);
            // A long campaign does not grow: nothing of it is lost, a rescue ref keeps it.
            sandbox.ok(&["remove", agent.name.as_str()]);
        }
    }
    println!("{killed} kills in {round} spawns of two agents each: all work is there");
    assert_eq!(sandbox.fingerprint(), user);
    sandbox.assert_sound();
    assert_no_leftovers(&sandbox);
}

#[test]
fn merges_outlive_kills() {
    let sandbox = with_players();
    let spawn = |round: usize| {
        let tasks = ["a", "b", "c"].map(|letter| sandbox.ok(&["task", "add", &format!("{letter} {round}")]));
        sandbox.ok(&["spawn", "--profile", "player", &tasks[0], &tasks[1], &tasks[2]]);
    };
    spawn(0);
    let mut moments = Moments::new(span_of(&sandbox, &["merge"]));
    let (mut killed, mut round) = (0, 0);
    while killed < kills() {
        round += 1;
        spawn(round);
        let before = sandbox.git(&["rev-parse", "main"]);
        let ended = kill_after(&sandbox, &["merge"], moments.next());
        killed += usize::from(matches!(ended, Ended::Killed));
        // Once: a git that the killed process had started may still be moving the branch.
        let main = sandbox.git(&["rev-parse", "main"]);
        let has = |commit: &str, letter: &str| {
            let file = format!("{commit}:{letter}-{round}.left");
            sandbox.try_git_in(sandbox.repo(), &["cat-file", "-e", &file], b"").code == 0
        };
        let landed = ["a", "b", "c"].into_iter().filter(|letter| has(&main, letter)).count();
        match ended {
            Ended::Done(output) => assert_eq!((output.code, landed), (0, 3), "{output}"),
            Ended::Killed if main == before => assert_eq!(landed, 0),
            Ended::Killed => assert_eq!(landed, 3, "wholly there or wholly absent"),
        }
        sandbox.ok(&["status"]);
        // Killed at whatever moment, also between the landing and its record: the ordinary command goes on.
        let is_open = |merge: &Merge| matches!(merge.status, MergeStatus::Running | MergeStatus::Waiting);
        sandbox.ok(&["merge"]);
        assert!(["a", "b", "c"].into_iter().all(|letter| has("main", letter)));
        assert!(!records::<Merge>(&sandbox, "merges").iter().any(is_open));
        assert_eq!(sandbox.git(&["status", "--porcelain"]), "", "the checkout moved with its branch");
        sandbox.ok(&["remove", &format!("a-{round}"), &format!("b-{round}"), &format!("c-{round}")]);
    }
    println!("{killed} kills in {round} merges of three agents each: all landed");
    sandbox.assert_sound();
    assert_no_leftovers(&sandbox);
}

#[test]
fn undos_outlive_kills() {
    let sandbox = with_players();
    let spawn = |title: &str| {
        let task = sandbox.ok(&["task", "add", title]);
        sandbox.ok(&["spawn", "--profile", "player", &task]);
    };
    let last = || sandbox.json(&["oplog", "-n", "1"])["data"][0]["id"].as_str().unwrap().to_owned();
    let is_undone = |operation: &str| sandbox.json(&["oplog", operation])["data"]["undone"] == true;
    spawn("warm up");
    let mut moments = Moments::new(span_of(&sandbox, &["undo", "--yes"]));
    let (mut killed, mut round, mut done) = (0, 0, 0);
    while killed < kills() {
        round += 1;
        let name = format!("round-{round}");
        spawn(&name);
        let spawned = last();
        let before = sandbox.git(&["rev-parse", "main"]);
        sandbox.ok(&["merge", &name]);
        let (merged, landed) = (last(), sandbox.git(&["rev-parse", "main"]));
        for operation in [&merged, &spawned] {
            let ended = kill_after(&sandbox, &["undo", "--yes", operation], moments.next());
            killed += usize::from(matches!(ended, Ended::Killed));
            // The next command that changes something finishes it or takes it back.
            sandbox.ok(&["task", "add", "next"]);
            let undone = is_undone(operation);
            if let Ended::Done(output) = ended {
                assert_eq!((output.code, undone), (0, true), "{output}");
            }
            done += usize::from(undone);
            if operation == &merged {
                let expected = if undone { &before } else { &landed };
                assert_eq!(sandbox.git(&["rev-parse", "main"]), *expected);
                assert_eq!(sandbox.git(&["status", "--porcelain"]), "", "the checkout moved with its branch");
            } else {
                let listed =
                    sandbox.json(&["status"])["data"].as_array().unwrap().iter().any(|a| a["name"] == *name);
                let exists = |args: &[&str]| !sandbox.git(args).is_empty();
                let branch = exists(&["for-each-ref", &format!("refs/heads/orchestra/{name}")]);
                let worktree = sandbox.git(&["worktree", "list"]).contains(&name);
                let rescue = exists(&["for-each-ref", &format!("refs/orchestra/rescue/{name}/")]);
                let there = !undone;
                assert_eq!((listed, branch, worktree, rescue), (there, there, there, undone));
            }
            if !undone {
                sandbox.ok(&["undo", "--yes", operation]);
            }
        }
    }
    println!("{killed} kills in {round} rounds of two undos: {done} were wholly done, the others wholly not");
    sandbox.assert_sound();
    assert_no_leftovers(&sandbox);
}

//! Commands that take back, put in order and tidy up.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use git_orchestra::model::{Agent, Outcome, Task};

use super::{agent_of, begin, case, sandbox_with_profile};
use crate::faults::campaign::Case;
use crate::harness::sandbox::{ORCHESTRA, write_in};
use crate::harness::{Sandbox, wait_for};
use crate::kill::{records, titles, with_players};
use crate::recover::worktree;

/// The id of the last operation.
fn last(sandbox: &Sandbox) -> String {
    sandbox.json(&["oplog", "-n", "1"])["data"][0]["id"].as_str().unwrap().to_owned()
}

fn is_undone(sandbox: &Sandbox, operation: &str) -> bool {
    sandbox.json(&["oplog", operation])["data"]["undone"] == true
}

/// Undoes the last command of the sandbox; `look` is told whether it was undone, before and after the rest is.
fn undo(name: &'static str, sandbox: Sandbox, look: impl Fn(&Sandbox, bool) + 'static) -> Case {
    let operation = last(&sandbox);
    let args = ["undo", "--yes", &operation];
    case(name, sandbox, &args, &["task", "add", "next"], {
        let operation = operation.clone();
        move |sandbox, acknowledged| {
            // The next command that changes something finishes it or takes it back.
            sandbox.ok(&["task", "add", "next"]);
            let undone = is_undone(sandbox, &operation);
            assert!(undone || !acknowledged, "acknowledged and not undone");
            look(sandbox, undone);
            if !undone {
                sandbox.ok(&["undo", "--yes", &operation]);
            }
            look(sandbox, true);
        }
    })
}

pub(super) fn undo_edit(name: &'static str) -> Case {
    let sandbox = Sandbox::new();
    let id = begin(&sandbox);
    sandbox.ok(&["task", "edit", &id, "--title", "changed", "--priority", "5"]);
    undo(name, sandbox, |sandbox, undone| {
        let tasks: Vec<Task> = records(sandbox, "tasks");
        let found = tasks.iter().filter(|task| task.title != "next").map(|t| (t.title.as_str(), t.priority));
        let expected = if undone { ("the first", 0) } else { ("changed", 5) };
        assert_eq!(found.collect::<Vec<_>>(), [expected]);
    })
}

pub(super) fn undo_spawn(name: &'static str) -> Case {
    let sandbox = with_players();
    let task = sandbox.ok(&["task", "add", "left"]);
    sandbox.ok(&["spawn", "--profile", "player", &task]);
    undo(name, sandbox, |sandbox, undone| {
        let some = |args: &[&str]| !sandbox.git(args).is_empty();
        let listed =
            sandbox.json(&["status"])["data"].as_array().unwrap().iter().any(|a| a["name"] == "left");
        let branch = some(&["for-each-ref", "refs/heads/orchestra/left"]);
        let rescue = some(&["for-each-ref", "refs/orchestra/rescue/left/"]);
        let worktree = sandbox.git(&["worktree", "list"]).lines().count() == 2;
        let there = !undone;
        assert_eq!((listed, branch, worktree, rescue), (there, there, there, undone));
    })
}

pub(super) fn undo_merge(name: &'static str) -> Case {
    let sandbox = with_players();
    let task = sandbox.ok(&["task", "add", "left"]);
    sandbox.ok(&["spawn", "--profile", "player", &task]);
    let before = sandbox.git(&["rev-parse", "main"]);
    sandbox.ok(&["merge", "left"]);
    let landed = sandbox.git(&["rev-parse", "main"]);
    let mut case = undo(name, sandbox, move |sandbox, undone| {
        assert_eq!(sandbox.git(&["rev-parse", "main"]), if undone { &*before } else { &*landed });
        assert_eq!(sandbox.git(&["status", "--porcelain"]), "", "the checkout moved with its branch");
        let merged = records::<Agent>(sandbox, "agents").iter().any(|agent| agent.merged.is_some());
        assert_eq!(merged, !undone);
    });
    case.moves = true;
    case
}

/// What kills, crashes and other people leave: a run that nobody watches, locks that nobody holds, a worktree that git
/// began to make, a branch that is gone.
fn broken() -> Sandbox {
    let sandbox = sandbox_with_profile("echo half >half; touch started; test -e again || exec sleep 1000");
    let spawn = ["spawn", "--profile", "player", "-m", "Do it.", "--name", "heron"];
    let mut command = sandbox.command(ORCHESTRA);
    command.args(spawn).stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let started = sandbox.root().join("repo.orchestra/heron/started");
    wait_for("the agent", || started.exists().then_some(()));
    child.kill().unwrap();
    child.wait().unwrap();
    let other = sandbox.root().join("other");
    sandbox.git(&["worktree", "add", "--quiet", "-b", "other", other.to_str().unwrap()]);
    let git_dir = sandbox.git_dir();
    std::fs::write(git_dir.join("worktrees/other/commondir"), "").unwrap();
    for lock in ["refs/orchestra/state.lock", "worktrees/heron/index.lock"] {
        std::fs::write(git_dir.join(lock), "").unwrap();
    }
    sandbox
}

/// `recover`, or what does it among other things.
pub(super) fn mend(name: &'static str, args: &[&str]) -> Case {
    case(name, broken(), args, &["task", "add", "next"], |sandbox, acknowledged| {
        if acknowledged {
            assert_eq!(sandbox.ok(&["recover"]), "nothing to recover");
        }
        sandbox.ok(&["recover"]);
        assert_eq!(sandbox.ok(&["recover"]), "nothing to recover");
        let [agent] = &records::<Agent>(sandbox, "agents")[..] else { panic!("one agent") };
        assert_eq!(agent.runs[&1].outcome, Some(Outcome::Lost));
        let half = worktree(sandbox, "heron").join("half");
        assert_eq!(std::fs::read_to_string(half).unwrap(), "half\n", "what it had not committed is there");
        write_in(&worktree(sandbox, "heron"), "again", "");
        sandbox.ok(&["resume", "heron", "-m", "Go on."]);
        assert_eq!(sandbox.git(&["show", "orchestra/heron:half"]), "half");
    })
}

pub(super) fn prune(name: &'static str) -> Case {
    let sandbox = sandbox_with_profile("basename $PWD >$(basename $PWD).txt");
    sandbox.write(".gitignore", "target/\n");
    sandbox.commit("ignore");
    for name in ["landed", "open"] {
        sandbox.ok(&["spawn", "--profile", "player", "-m", "Do it.", "--name", name]);
    }
    sandbox.ok(&["merge", "landed"]);
    let tag = "Signature: 8a477f597d28d172789f06886806bc55\n";
    write_in(&worktree(&sandbox, "open"), "target/CACHEDIR.TAG", tag);
    write_in(&worktree(&sandbox, "open"), "target/debug/built", "x");
    write_in(&worktree(&sandbox, "open"), "target/other", "x");
    let temporary = sandbox.git_dir().join("orchestra/.tmpAbCdEf");
    std::fs::write(&temporary, "x").unwrap();
    let old = SystemTime::now() - Duration::from_secs(2 * 24 * 3600);
    std::fs::File::options().write(true).open(&temporary).unwrap().set_modified(old).unwrap();
    let log = ["open", "landed"].map(|name| sandbox.ok(&["log", name]));
    let open = sandbox.git(&["rev-parse", "orchestra/open"]);
    case(name, sandbox, &["prune", "--yes"], &["prune", "--yes"], move |sandbox, acknowledged| {
        // What is looked up meanwhile is cached again.
        let items = || {
            let planned = sandbox.json(&["prune"]);
            let items = planned["data"]["items"].as_array().unwrap().iter();
            items.filter(|item| item["kind"] != "cache").count()
        };
        assert!(!acknowledged || items() == 0, "acknowledged, and something can still go");
        sandbox.ok(&["prune", "--yes"]);
        // What goes can let something else go.
        sandbox.ok(&["prune", "--yes"]);
        assert_eq!(items(), 0);
        assert_eq!(sandbox.git(&["rev-parse", "orchestra/open"]), open);
        assert!(worktree(sandbox, "open").join("open.txt").exists());
        // Killed after all of it, it may leave a directory with nothing in it.
        let left = std::fs::read_dir(worktree(sandbox, "open").join("target"));
        assert!(left.map_or(true, |mut left| left.next().is_none()));
        assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 2);
        assert_eq!(sandbox.git(&["for-each-ref", "refs/heads/orchestra/landed"]), "");
        assert_eq!(sandbox.git(&["show", "main:landed.txt"]), "landed", "what landed is there");
        assert_eq!(["open", "landed"].map(|name| sandbox.ok(&["log", name])), log);
    })
}

pub(super) fn gc(name: &'static str) -> Case {
    let sandbox = Sandbox::new();
    for number in 0..20 {
        sandbox.ok(&["task", "add", &format!("task {number}"), "--label", "all"]);
    }
    sandbox.ok(&["finding", "add", "noticed"]);
    let tip = sandbox.git(&["rev-parse", "refs/orchestra/state"]);
    case(name, sandbox, &["gc"], &["task", "add", "next"], move |sandbox, acknowledged| {
        let all: BTreeSet<String> = (0..20).map(|number| format!("task {number}")).collect();
        let titles: BTreeSet<String> = titles(sandbox).into_iter().filter(|title| title != "next").collect();
        assert_eq!(titles, all);
        sandbox.git(&["rev-list", "--objects", "--quiet", &tip]);
        let out = sandbox.ok(&["gc"]);
        assert!(!acknowledged || out.contains("nothing of ours was loose"), "{out}");
        sandbox.ok(&["task", "add", "the last"]);
        sandbox.ok(&["gc"]);
        sandbox.git(&["rev-list", "--objects", "--quiet", "refs/orchestra/state"]);
    })
}

pub(super) fn archive(name: &'static str) -> Case {
    const MANY: usize = 5;
    let sandbox = Sandbox::new();
    for number in 0..MANY {
        let id = sandbox.ok(&["task", "add", &format!("task {number}")]);
        sandbox.ok(&["task", "close", &id]);
    }
    let args = ["gc", "--archive-after", "0s"];
    case(name, sandbox, &args, &["task", "add", "next"], |sandbox, acknowledged| {
        let listed = |switch: &str| -> Vec<String> {
            let list = sandbox.json(&["task", "list", switch]);
            let titles = list["data"].as_array().unwrap().iter();
            titles.map(|task| task["title"].as_str().unwrap().to_owned()).collect()
        };
        let (live, archived) = (listed("--all"), listed("--archived"));
        assert!(archived.is_empty() || archived.len() == MANY, "all of one transaction: {archived:?}");
        assert!(!acknowledged || archived.len() == MANY, "{live:?}");
        let all: BTreeSet<String> =
            live.into_iter().chain(archived).filter(|title| title != "next").collect();
        assert_eq!(all, (0..MANY).map(|number| format!("task {number}")).collect());
        sandbox.ok(&["gc", "--archive-after", "0s"]);
        assert_eq!(listed("--archived").len(), MANY);
        sandbox.ok(&["doctor"]);
    })
}

/// An agent that goes on in the background.
pub(super) fn detached(name: &'static str) -> Case {
    let sandbox = super::with_commands();
    let task = sandbox.ok(&["task", "add", "left"]);
    let args = ["spawn", "--detach", "--profile", "player", &task];
    case(name, sandbox, &args, &["task", "add", "next"], {
        let task = task.clone();
        move |sandbox, acknowledged| {
            sandbox.ok(&["status"]);
            let agent = agent_of(sandbox, &task);
            assert!(!acknowledged || agent.is_some(), "acknowledged and gone");
            super::make_whole(sandbox, &task);
            sandbox.ok(&["remove", "left"]);
            assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 1);
        }
    })
}

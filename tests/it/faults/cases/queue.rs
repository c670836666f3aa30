//! Commands on the queue that several machines share, over a remote that is a path.

use std::path::PathBuf;

use git_orchestra::model::{Outcome, Task, TaskStatus};

use super::{agent_of, case, sandbox_with_profile};
use crate::faults::campaign::Case;
use crate::harness::Sandbox;
use crate::kill::{is_whole, records};

/// A clone with a remote, another clone of it, and one task that all of them know.
struct Shared {
    sandbox: Sandbox,
    task: String,
}

fn remote(sandbox: &Sandbox) -> PathBuf {
    sandbox.root().join("remote.git")
}

fn other(sandbox: &Sandbox) -> PathBuf {
    sandbox.root().join("other")
}

fn there(sandbox: &Sandbox, args: &[&str]) {
    let out = sandbox.orchestra_in(&other(sandbox), args);
    assert_eq!(out.code, 0, "in the other clone: {args:?}\n{out}");
}

fn shared(sandbox: Sandbox) -> Shared {
    let (remote, other) = (remote(&sandbox), other(&sandbox));
    let (remote, other) = (remote.to_str().unwrap(), other.to_str().unwrap());
    sandbox.git(&["init", "--quiet", "--bare", "-b", "main", remote]);
    sandbox.git(&["remote", "add", "origin", remote]);
    sandbox.git(&["push", "--quiet", "origin", "main"]);
    let task = sandbox.json(&["task", "add", "left"])["data"]["id"].as_str().unwrap().to_owned();
    sandbox.ok(&["sync"]);
    sandbox.git(&["clone", "--quiet", remote, other]);
    there(&sandbox, &["sync"]);
    Shared { sandbox, task }
}

/// The claims that the remote knows.
fn claims(sandbox: &Sandbox) -> Vec<String> {
    let list = ["for-each-ref", "--format=%(refname:lstrip=3)", "refs/orchestra/claims"];
    sandbox.git_in(&remote(sandbox), &list).lines().map(str::to_owned).collect()
}

fn status(sandbox: &Sandbox) -> TaskStatus {
    let [task] = &records::<Task>(sandbox, "tasks")[..] else { panic!("one task") };
    task.status
}

/// Exactly one machine gets it: after a release here, the other one.
fn goes_round(sandbox: &Sandbox, task: &str) {
    let refused = sandbox.orchestra_in(&other(sandbox), &["task", "claim", task]);
    assert_eq!(refused.code, 1, "it is held here\n{refused}");
    assert_eq!(claims(sandbox), [task]);
    sandbox.ok(&["task", "release", task]);
    assert_eq!(status(sandbox), TaskStatus::Open);
    there(sandbox, &["task", "claim", task]);
    let refused = sandbox.orchestra(&["task", "claim", task]);
    assert_eq!(refused.code, 1, "it is held there\n{refused}");
    there(sandbox, &["task", "release", task]);
    sandbox.ok(&["sync"]);
    there(sandbox, &["sync"]);
    sandbox.ok(&["sync"]);
    assert!(claims(sandbox).is_empty(), "what everybody knows to be free needs no claim");
}

pub(super) fn claim(name: &'static str) -> Case {
    let Shared { sandbox, task } = shared(Sandbox::new());
    let args = ["task", "claim", &task];
    case(name, sandbox, &args, &["task", "claim", "--next"], {
        let task = task.clone();
        move |sandbox, acknowledged| {
            if acknowledged {
                assert_eq!(status(sandbox), TaskStatus::Started);
                assert_eq!(claims(sandbox), [task.as_str()]);
            }
            sandbox.ok(&["task", "claim", &task]);
            assert_eq!(status(sandbox), TaskStatus::Started);
            goes_round(sandbox, &task);
        }
    })
}

pub(super) fn claim_alone(name: &'static str) -> Case {
    let sandbox = Sandbox::new();
    let task = super::begin(&sandbox);
    case(
        name,
        sandbox,
        &["task", "claim", "--next"],
        &["task", "add", "next"],
        move |sandbox, acknowledged| {
            let now = sandbox.json(&["task", "show", &task])["data"]["status"].clone();
            assert!(now == "started" || now == "open" && !acknowledged, "{now}");
            sandbox.ok(&["task", "claim", &task]);
            sandbox.ok(&["task", "release", &task]);
            assert_eq!(sandbox.json(&["task", "show", &task])["data"]["status"], "open");
        },
    )
}

pub(super) fn release(name: &'static str) -> Case {
    let Shared { sandbox, task } = shared(Sandbox::new());
    sandbox.ok(&["task", "claim", &task]);
    let args = ["task", "release", &task];
    case(name, sandbox, &args, &["task", "add", "next"], {
        let task = task.clone();
        move |sandbox, acknowledged| {
            let free = records::<Task>(sandbox, "tasks")
                .iter()
                .any(|one| one.id.as_str() == task && one.status == TaskStatus::Open);
            assert!(free || !acknowledged);
            if acknowledged {
                there(sandbox, &["task", "claim", &task]);
                there(sandbox, &["task", "release", &task]);
            } else {
                // Whichever of the two came: the next command knows.
                if !free {
                    sandbox.ok(&["task", "release", &task]);
                }
                sandbox.ok(&["task", "claim", &task]);
                sandbox.ok(&["task", "release", &task]);
            }
            sandbox.ok(&["task", "claim", &task]);
            let refused = sandbox.orchestra_in(&other(sandbox), &["task", "claim", &task]);
            assert_eq!(refused.code, 1, "it is held here\n{refused}");
            sandbox.ok(&["task", "release", &task]);
            for _ in 0..2 {
                sandbox.ok(&["sync"]);
                there(sandbox, &["sync"]);
            }
            assert!(claims(sandbox).is_empty(), "what everybody knows to be free needs no claim");
        }
    })
}

pub(super) fn cut(name: &'static str) -> Case {
    let Shared { sandbox, task } = shared(Sandbox::new());
    sandbox.ok(&["task", "add", "not sent"]);
    there(&sandbox, &["task", "edit", &task, "--priority", "7"]);
    case(name, sandbox, &["gc", "--cut-epoch", "--yes"], &["sync"], move |sandbox, acknowledged| {
        let epoch = |sandbox: &Sandbox| {
            let format = sandbox.git(&["show", "refs/orchestra/state:format.json"]);
            format.contains(r#""epoch": 1"#)
        };
        assert!(!acknowledged || epoch(sandbox));
        sandbox.ok(&["sync"]);
        let cut = epoch(sandbox);
        for round in ["first", "second"] {
            there(sandbox, &["sync"]);
            sandbox.ok(&["sync"]);
            assert_eq!(epoch(sandbox), cut, "{round}");
        }
        let mut tasks: Vec<(String, i64)> =
            records::<Task>(sandbox, "tasks").into_iter().map(|task| (task.title, task.priority)).collect();
        tasks.sort();
        assert_eq!(tasks, [("left".to_owned(), 7), ("not sent".to_owned(), 0)]);
        if cut {
            let kept = ["for-each-ref", "--format=%(refname)", "refs/orchestra/epochs"];
            assert!(!sandbox.git(&kept).is_empty(), "the old chain is kept here");
            let count: usize = sandbox.git(&["rev-list", "--count", "refs/orchestra/state"]).parse().unwrap();
            assert!(count <= 4, "the old chain does not come back: {count}");
        }
    })
}

pub(super) fn worker(name: &'static str) -> Case {
    let Shared { sandbox, task } = shared(super::with_commands());
    let args = ["worker", "--once", "--profile", "player"];
    case(
        name,
        sandbox,
        &args,
        &["worker", "--until-empty", "--profile", "player"],
        move |sandbox, acknowledged| {
            let is_there = |sandbox: &Sandbox| {
                let heads = ["for-each-ref", "--format=%(refname)", "refs/heads/orchestra"];
                let heads = sandbox.git_in(&remote(sandbox), &heads);
                heads.lines().any(|branch| {
                    let name = branch.rsplit('/').next().unwrap();
                    let has = |part: &str| {
                        let file = format!("{branch}:{name}.{part}");
                        sandbox.try_git_in(&remote(sandbox), &["cat-file", "-e", &file], b"").code == 0
                    };
                    has("committed") && has("left")
                })
            };
            assert!(!acknowledged || is_there(sandbox), "acknowledged, and its work did not arrive");
            // The next worker sends what could not be sent, and takes the task if nobody has it.
            let out = sandbox.orchestra(&["worker", "--until-empty", "--profile", "player"]);
            assert!(out.code == 0 || out.code == 4, "{out}");
            let agent = agent_of(sandbox, &task).unwrap_or_else(|| panic!("nobody works on it\n{out}"));
            let outcome = agent.last_run().and_then(|(_, run)| run.outcome.clone());
            if outcome != Some(Outcome::Succeeded) {
                // What was lost waits for a person.
                sandbox.ok(&["resume", agent.name.as_str(), "-m", "Go on."]);
                sandbox.ok(&["worker", "--until-empty", "--profile", "player"]);
            }
            assert!(is_whole(sandbox, &agent), "the work of {}", agent.name);
            sandbox.ok(&["remove", agent.name.as_str()]);
            sandbox.ok(&["task", "close", &task]);
            for _ in 0..2 {
                sandbox.ok(&["sync"]);
                there(sandbox, &["sync"]);
            }
            assert!(claims(sandbox).is_empty(), "what everybody knows to be closed needs no claim");
            assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 1);
        },
    )
}

/// An agent of the other clone has failed at the task; it goes on here.
pub(super) fn take(name: &'static str) -> Case {
    let script = "if test -e one.txt; then echo two >two.txt; else echo one >one.txt; exit 3; fi";
    let Shared { sandbox, task } = shared(sandbox_with_profile(script));
    let out = sandbox.orchestra_in(&other(&sandbox), &["worker", "--once", "--profile", "player"]);
    assert_eq!(out.code, 4, "{out}");
    sandbox.ok(&["sync"]);
    let agent = agent_of(&sandbox, &task).unwrap().name.to_string();
    case(name, sandbox, &["take", &agent], &["task", "add", "next"], {
        let agent = agent.clone();
        move |sandbox, acknowledged| {
            let has = |file: &str| {
                let file = format!("refs/heads/orchestra/{agent}:{file}");
                sandbox.try_git_in(sandbox.repo(), &["cat-file", "-e", &file], b"").code == 0
            };
            assert!(!acknowledged || has("two.txt"), "acknowledged and gone");
            let out = sandbox.orchestra(&["take", &agent]);
            assert!(out.code == 0 || out.stderr.contains("it is of this machine"), "{out}");
            if out.code != 0 && !has("two.txt") {
                sandbox.ok(&["resume", &agent, "-m", "Go on."]);
            }
            assert!(has("one.txt") && has("two.txt"));
            sandbox.ok(&["sync"]);
            there(sandbox, &["sync"]);
            let refused = sandbox.orchestra_in(&other(sandbox), &["resume", &agent]);
            assert!(refused.code == 1 && refused.stderr.contains("git orchestra take"), "{refused}");
            sandbox.ok(&["remove", &agent]);
            assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 1);
        }
    })
}

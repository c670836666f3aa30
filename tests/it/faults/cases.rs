//! The commands that change something, each with a repository in which it has something to do, and what holds after.

mod queue;
mod upkeep;

use std::collections::BTreeSet;
use std::path::Path;

use git_orchestra::model::{Agent, Decision, DecisionStatus, Finding, Merge, MergeStatus, Outcome, Task};
use serde_json::json;

use super::campaign::Case;
use crate::harness::Sandbox;
use crate::kill::{is_whole, records, titles, with_players};
use crate::merge::{clashing, fleet, open_decision};

/// The names of all cases.
pub(super) const NAMES: &[&str] = &[
    "init",
    "task-add",
    "task-edit",
    "task-close",
    "task-start",
    "finding-add",
    "config-approve",
    "spawn",
    "spawn-command",
    "spawn-setup",
    "resume",
    "remove",
    "merge",
    "merge-conflict",
    "decide",
    "merge-continue",
    "merge-abort",
    "merge-gated",
    "merge-prefixes",
    "apply",
    "run",
    "fetch",
    "push",
    "sync",
    "task-reopen",
    "finding-resolve",
    "spawn-detach",
    "claim",
    "claim-alone",
    "release",
    "worker",
    "take",
    "undo-edit",
    "undo-spawn",
    "undo-merge",
    "recover",
    "doctor-fix",
    "prune",
    "gc",
    "archive",
    "cut",
];

/// The case called `name`, with its repository.
pub(super) fn make(name: &'static str) -> Case {
    match name {
        "init" => init(name),
        "task-add" => task_add(name),
        "task-edit" => task_edit(name),
        "task-close" => task_status(name, &["task", "close"], "closed"),
        "task-start" => task_status(name, &["task", "start"], "started"),
        "finding-add" => finding_add(name),
        "config-approve" => config_approve(name),
        "spawn" => spawn(name, with_players()),
        "spawn-command" => spawn(name, with_commands()),
        "spawn-setup" => spawn(name, with_setup()),
        "resume" => resume(name),
        "remove" => remove(name),
        "merge" => merge(name),
        "merge-conflict" => merge_conflict(name),
        "decide" => decide(name),
        "merge-continue" => merge_continue(name),
        "merge-abort" => merge_abort(name),
        "merge-gated" => merge_gated(name),
        "merge-prefixes" => merge_prefixes(name),
        "apply" => apply(name),
        "run" => run(name),
        "fetch" | "push" | "sync" => exchange(name),
        "task-reopen" => task_reopen(name),
        "finding-resolve" => finding_resolve(name),
        "spawn-detach" => upkeep::detached(name),
        "claim" => queue::claim(name),
        "claim-alone" => queue::claim_alone(name),
        "release" => queue::release(name),
        "worker" => queue::worker(name),
        "take" => queue::take(name),
        "undo-edit" => upkeep::undo_edit(name),
        "undo-spawn" => upkeep::undo_spawn(name),
        "undo-merge" => upkeep::undo_merge(name),
        "recover" => upkeep::mend(name, &["recover"]),
        "doctor-fix" => upkeep::mend(name, &["doctor", "--fix"]),
        "prune" => upkeep::prune(name),
        "gc" => upkeep::gc(name),
        "archive" => upkeep::archive(name),
        "cut" => queue::cut(name),
        _ => panic!("no case {name}"),
    }
}

fn case(
    name: &'static str,
    sandbox: Sandbox,
    args: &[&str],
    next: &[&str],
    check: impl Fn(&Sandbox, bool) + 'static,
) -> Case {
    let owned = |args: &[&str]| args.iter().map(|arg| (*arg).to_owned()).collect();
    let (args, next) = (owned(args), owned(next));
    // What makes something new makes another one.
    let again = !matches!(
        name,
        "task-add"
            | "finding-add"
            | "spawn"
            | "spawn-command"
            | "spawn-setup"
            | "spawn-detach"
            | "resume"
            | "worker"
            | "take"
            | "run"
    );
    Case { name, sandbox, args, next, done: 0, moves: false, again, check: Box::new(check) }
}

/// Some state to begin with; returns the short id of its one task.
fn begin(sandbox: &Sandbox) -> String {
    sandbox.ok(&["task", "add", "the first", "-m", "With a body."])
}

fn init(name: &'static str) -> Case {
    case(name, Sandbox::new(), &["init"], &["init"], |sandbox, acknowledged| {
        let tip = sandbox.git(&["for-each-ref", "refs/orchestra/state"]);
        assert!(!acknowledged || !tip.is_empty());
        sandbox.ok(&["init"]);
        sandbox.ok(&["task", "add", "the first"]);
        assert_eq!(titles(sandbox), ["the first"]);
    })
}

fn task_add(name: &'static str) -> Case {
    let sandbox = Sandbox::new();
    begin(&sandbox);
    let args = ["task", "add", "wanted", "-m", "With a body.", "--touches", "src/**"];
    case(name, sandbox, &args, &["task", "add", "next"], |sandbox, acknowledged| {
        let tasks: Vec<Task> = records(sandbox, "tasks");
        let wanted: Vec<&Task> = tasks.iter().filter(|task| task.title == "wanted").collect();
        assert!(wanted.len() <= 1 && (!acknowledged || wanted.len() == 1), "{tasks:#?}");
        assert!(wanted.iter().all(|task| task.touches.contains("src/**")));
        sandbox.ok(&["task", "add", "the last"]);
        assert!(titles(sandbox).iter().any(|title| title == "the last"));
    })
}

fn task_edit(name: &'static str) -> Case {
    let sandbox = Sandbox::new();
    let id = begin(&sandbox);
    let args = ["task", "edit", &id, "--title", "changed", "--priority", "5"];
    case(name, sandbox, &args, &["task", "edit", &id, "--priority", "7"], {
        let id = id.clone();
        move |sandbox, acknowledged| {
            let [task] = &records::<Task>(sandbox, "tasks")[..] else { panic!("one task") };
            let changed = task.title == "changed";
            assert!(changed || !acknowledged);
            assert!(
                changed && [5, 7].contains(&task.priority) || !changed && task.priority != 5,
                "{task:#?}"
            );
            sandbox.ok(&["task", "edit", &id, "--title", "the last"]);
            assert_eq!(titles(sandbox), ["the last"]);
        }
    })
}

fn task_status(name: &'static str, verb: &[&str], word: &'static str) -> Case {
    let sandbox = Sandbox::new();
    let id = begin(&sandbox);
    set_status(name, sandbox, &id, verb, ["open", word])
}

fn task_reopen(name: &'static str) -> Case {
    let sandbox = Sandbox::new();
    let id = begin(&sandbox);
    sandbox.ok(&["task", "close", &id]);
    set_status(name, sandbox, &id, &["task", "reopen"], ["closed", "open"])
}

fn set_status(
    name: &'static str,
    sandbox: Sandbox,
    id: &str,
    verb: &[&str],
    [from, word]: [&'static str; 2],
) -> Case {
    let id = id.to_owned();
    let args = [verb, &[&id]].concat();
    case(name, sandbox, &args, &["task", "add", "next"], {
        let id = id.clone();
        move |sandbox, acknowledged| {
            let status = |sandbox: &Sandbox| sandbox.json(&["task", "show", &id])["data"]["status"].clone();
            let now = status(sandbox);
            assert!(now == word || now == from && !acknowledged, "{now}");
            sandbox.ok(&["task", "edit", &id, "--title", "the last"]);
            assert_eq!(status(sandbox), now);
        }
    })
}

fn finding_add(name: &'static str) -> Case {
    let sandbox = Sandbox::new();
    begin(&sandbox);
    let args = ["finding", "add", "noticed", "--severity", "low", "--path", "README.md:1"];
    case(name, sandbox, &args, &["finding", "add", "next"], |sandbox, acknowledged| {
        let count = |wanted: &str| {
            let found: Vec<Finding> = records(sandbox, "findings");
            let record = found.iter().filter(|finding| finding.message == wanted).count();
            let notes = sandbox.try_git_in(
                sandbox.repo(),
                &["notes", "--ref=refs/notes/orchestra/findings", "show", "HEAD"],
                b"",
            );
            let note = notes.stdout.lines().filter(|line| line.contains(wanted)).count();
            assert_eq!(record, note, "the record and its note come together");
            record
        };
        assert!(!acknowledged || count("noticed") == 1);
        // git moves the two refs one after the other: killed in between, the next command moves the second.
        sandbox.ok(&["finding", "add", "the last"]);
        assert_eq!(count("the last"), 1);
        assert!(count("noticed") <= 1);
    })
}

fn finding_resolve(name: &'static str) -> Case {
    let sandbox = Sandbox::new();
    let id = sandbox.ok(&["finding", "add", "noticed"]);
    let args = ["finding", "resolve", &id, "-m", "It does not."];
    case(name, sandbox, &args, &["finding", "add", "next"], {
        let id = id.clone();
        move |sandbox, acknowledged| {
            let status = || sandbox.json(&["finding", "show", &id])["data"]["status"].clone();
            let now = status();
            assert!(now == "resolved" || now == "open" && !acknowledged, "{now}");
            let out = sandbox.orchestra(&["finding", "resolve", &id]);
            assert!(out.code == 0 || now == "resolved", "{out}");
            assert_eq!(status(), "resolved");
        }
    })
}

fn config_approve(name: &'static str) -> Case {
    let sandbox = Sandbox::new();
    sandbox.write("orchestra.toml", "[profile.local]\nprogram = 'command'\ncommand = ['sh', '-c', 'true']\n");
    begin(&sandbox);
    let asked = sandbox.orchestra(&["config", "approve"]);
    let hash = asked.stdout.lines().find_map(|line| line.strip_prefix("hash ")).unwrap().to_owned();
    let args = ["config", "approve", "--hash", &hash];
    case(name, sandbox, &args, &["config", "list"], {
        let hash = hash.clone();
        move |sandbox, acknowledged| {
            let again = sandbox.orchestra(&["config", "approve"]);
            let approved = again.stderr.contains("approved already");
            assert!(approved || again.code == 1 && !acknowledged, "{again}");
            sandbox.ok(&["config", "approve", "--hash", &hash]);
            assert!(sandbox.orchestra(&["config", "approve"]).stderr.contains("approved already"));
        }
    })
}

/// The profile `player` as a plain command that leaves its work uncommitted.
fn with_commands() -> Sandbox {
    sandbox_with_profile(
        "name=$(basename $(git branch --show-current)); echo one > $name.committed; git add --all; \
         git commit --quiet -m half; echo two > $name.left",
    )
}

/// The same with a worktree that is made ready first: without that there is nothing to commit.
fn with_setup() -> Sandbox {
    let sandbox = with_commands();
    let config = "../home/.config/git-orchestra/config.toml";
    let text = sandbox.read(config).replace("echo one >", "cat made .env >");
    let hooks = "worktree.setup = ['sh', '-c', 'echo one >made']\nworktree.teardown = ['rm', 'made']\n";
    sandbox.write(config, &format!("{hooks}{text}"));
    sandbox.write(".gitignore", "made\n.env\n");
    sandbox.commit("ignore");
    sandbox.write(".worktreeinclude", ".env\n");
    sandbox.write(".env", "two\n");
    sandbox
}

/// The profile `player` as a shell script.
fn sandbox_with_profile(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let command = toml_array(&["sh", "-c", script]);
    let profile = format!("[profile.player]\nprogram = \"command\"\ncommand = {command}\n");
    sandbox.write("../home/.config/git-orchestra/config.toml", &profile);
    sandbox
}

fn toml_array(words: &[&str]) -> String {
    json!(words).to_string()
}

fn agent_of(sandbox: &Sandbox, task: &str) -> Option<Agent> {
    let mut agents: Vec<Agent> = records(sandbox, "agents");
    // One that could not be started was taken back as a whole, and its task is free.
    agents.retain(|agent| {
        agent.removed.is_none() && agent.task.is_some_and(|id| id.as_str().starts_with(task))
    });
    assert!(agents.len() <= 1, "{agents:#?}");
    agents.pop()
}

fn spawn(name: &'static str, sandbox: Sandbox) -> Case {
    let tasks = ["left", "right"].map(|title| sandbox.ok(&["task", "add", title]));
    let args = ["spawn", "--profile", "player", &tasks[0]];
    case(name, sandbox, &args, &["spawn", "--profile", "player", &tasks[1]], {
        let tasks = tasks.clone();
        move |sandbox, acknowledged| {
            sandbox.ok(&["status"]);
            let agent = agent_of(sandbox, &tasks[0]);
            assert!(!acknowledged || agent.as_ref().is_some_and(|agent| is_whole(sandbox, agent)));
            for task in &tasks {
                make_whole(sandbox, task);
            }
            sandbox.ok(&["remove", "left", "right"]);
            assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 1);
            assert_eq!(sandbox.git(&["for-each-ref", "refs/heads/orchestra/"]), "");
        }
    })
}

/// Spawns or resumes the agent of a task, whatever is missing, and looks whether its work is there.
fn make_whole(sandbox: &Sandbox, task: &str) {
    match agent_of(sandbox, task) {
        None => drop(sandbox.ok(&["spawn", "--profile", "player", task])),
        Some(agent) => {
            let outcome = agent.last_run().and_then(|(_, run)| run.outcome.clone());
            if outcome != Some(Outcome::Succeeded) {
                sandbox.ok(&["resume", agent.name.as_str(), "-m", "Go on."]);
            }
        }
    }
    let agent = agent_of(sandbox, task).expect("it was made");
    assert!(is_whole(sandbox, &agent), "the work of {}", agent.name);
}

fn resume(name: &'static str) -> Case {
    let sandbox = with_players();
    let task = sandbox.ok(&["task", "add", "left"]);
    sandbox.ok(&["spawn", "--profile", "player", &task]);
    let args = ["resume", "left", "-m", "Once more."];
    case(name, sandbox, &args, &["task", "add", "next"], move |sandbox, acknowledged| {
        let runs = |sandbox: &Sandbox| agent_of(sandbox, &task).expect("it was there").runs;
        let before = runs(sandbox);
        assert_eq!(before[&1].outcome, Some(Outcome::Succeeded));
        let second = before.get(&2).and_then(|run| run.outcome.clone());
        assert!(!acknowledged || second == Some(Outcome::Succeeded), "{before:#?}");
        sandbox.ok(&["resume", "left", "-m", "Go on."]);
        let after = runs(sandbox);
        assert_eq!(after.last_key_value().unwrap().1.outcome, Some(Outcome::Succeeded));
        assert!(after.values().all(|run| run.outcome.is_some()), "every run has an end: {after:#?}");
        make_whole(sandbox, &task);
        sandbox.ok(&["remove", "left"]);
    })
}

fn remove(name: &'static str) -> Case {
    let sandbox = with_players();
    let tasks = ["left", "right"].map(|title| sandbox.ok(&["task", "add", title]));
    sandbox.ok(&["spawn", "--profile", "player", &tasks[0], &tasks[1]]);
    let agent = agent_of(&sandbox, &tasks[0]).unwrap();
    let tip = sandbox.git(&["rev-parse", &agent.branch]);
    let path = sandbox.git(&["worktree", "list", "--porcelain"]);
    let path = path.lines().find_map(|l| l.strip_prefix("worktree ").filter(|p| p.ends_with("left")));
    std::fs::write(Path::new(path.unwrap()).join("unsaved"), "unsaved\n").unwrap();
    case(name, sandbox, &["remove", "left"], &["remove", "right"], {
        move |sandbox, acknowledged| {
            let removed = |sandbox: &Sandbox| {
                records::<Agent>(sandbox, "agents")
                    .iter()
                    .any(|a| a.name.as_str() == "left" && a.removed.is_some())
            };
            let kept = |sandbox: &Sandbox| {
                let refs =
                    sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/rescue/left"]);
                refs.lines().any(|kept| {
                    let has = |file: &str| {
                        let file = format!("{kept}:{file}");
                        sandbox.try_git_in(sandbox.repo(), &["cat-file", "-e", &file], b"").code == 0
                    };
                    let is_ancestor = ["merge-base", "--is-ancestor", &tip, kept];
                    has("unsaved") && sandbox.try_git_in(sandbox.repo(), &is_ancestor, b"").code == 0
                })
            };
            let done = removed(sandbox);
            assert!(done || !acknowledged);
            if !done {
                sandbox.ok(&["remove", "left"]);
            }
            assert!(removed(sandbox) && kept(sandbox), "the work is kept");
            if !records::<Agent>(sandbox, "agents")
                .iter()
                .any(|a| a.name.as_str() == "right" && a.removed.is_some())
            {
                sandbox.ok(&["remove", "right"]);
            }
            assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 1);
            assert_eq!(sandbox.git(&["for-each-ref", "refs/heads/orchestra/"]), "");
        }
    })
}

const GREY: &str = "1\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n";

fn open_merges(sandbox: &Sandbox) -> Vec<Merge> {
    let mut merges: Vec<Merge> = records(sandbox, "merges");
    merges.retain(|merge| matches!(merge.status, MergeStatus::Running | MergeStatus::Waiting));
    merges
}

fn merge(name: &'static str) -> Case {
    let mut case = case(
        name,
        clashing(),
        &["merge", "blue-heron", "red-owl"],
        &["merge", "red-owl"],
        |sandbox, acknowledged| {
            let has = |revision: &str| {
                let show = |path: &str| sandbox.git(&["show", &format!("{revision}:{path}")]);
                (show("src/f").contains("blue"), show("src/g") == "gg")
            };
            let landed = has("main");
            assert!(landed.0 || !acknowledged);
            assert!(landed == (true, true) || landed == (false, false) || open_merges(sandbox).is_empty());
            sandbox.ok(&["merge", "blue-heron", "red-owl"]);
            assert_eq!(has("main"), (true, true));
            assert_eq!(sandbox.read("src/g"), "gg\n");
            assert!(open_merges(sandbox).is_empty());
            assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "");
            let merged = records::<Agent>(sandbox, "agents");
            assert_eq!(merged.iter().filter(|agent| agent.merged.is_some()).count(), 2);
        },
    );
    case.moves = true;
    case
}

/// Answers what is open and goes on until everything has landed, with ordinary commands.
fn land_all(sandbox: &Sandbox) {
    for _ in 0..4 {
        let open: Vec<Decision> = records(sandbox, "decisions");
        for _ in open.iter().filter(|decision| decision.status == DecisionStatus::Open) {
            sandbox.ok(&["decide", &open_decision(sandbox), "theirs"]);
        }
        let waits = open_merges(sandbox).iter().any(|merge| merge.status == MergeStatus::Waiting);
        let out = sandbox.orchestra(if waits { &["merge", "--continue"] } else { &["merge"] });
        assert!(out.code == 0 || out.code == 3, "{out}");
        if out.code == 0 {
            break;
        }
    }
    assert_eq!((sandbox.read("src/f"), sandbox.read("src/g")), (GREY.to_owned(), "gg\n".to_owned()));
    assert!(open_merges(sandbox).is_empty());
    let decisions: Vec<Decision> = records(sandbox, "decisions");
    assert!(decisions.iter().all(|decision| decision.status != DecisionStatus::Open));
    assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "");
}

fn merge_conflict(name: &'static str) -> Case {
    let mut case = case(name, clashing(), &["merge"], &["task", "add", "next"], |sandbox, acknowledged| {
        let open: Vec<Decision> = records(sandbox, "decisions");
        assert!(open.len() <= 1 && (!acknowledged || open.len() == 1), "{open:#?}");
        land_all(sandbox);
    });
    (case.done, case.moves) = (3, true);
    case
}

fn waiting() -> (Sandbox, String) {
    let sandbox = clashing();
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    let id = open_decision(&sandbox);
    (sandbox, id)
}

fn decide(name: &'static str) -> Case {
    let (sandbox, id) = waiting();
    let mut case = case(name, sandbox, &["decide", &id, "theirs"], &["status"], |sandbox, acknowledged| {
        let [decision] = &records::<Decision>(sandbox, "decisions")[..] else { panic!("one decision") };
        assert!(decision.status == DecisionStatus::Answered || !acknowledged);
        assert_eq!(decision.status == DecisionStatus::Answered, decision.answer.is_some());
        land_all(sandbox);
    });
    case.moves = true;
    case
}

fn merge_continue(name: &'static str) -> Case {
    let (sandbox, id) = waiting();
    sandbox.ok(&["decide", &id, "theirs"]);
    let mut case = case(name, sandbox, &["merge", "--continue"], &["merge"], |sandbox, acknowledged| {
        let landed = sandbox.git(&["show", "main:src/f"]) == GREY.trim_end();
        assert!(landed || !acknowledged);
        let merged = sandbox.git(&["rev-list", "--count", "--merges", "main"]);
        assert!(
            if landed { merged == "3" } else { merged == "0" },
            "wholly there or wholly absent: {merged}"
        );
        land_all(sandbox);
    });
    case.moves = true;
    case
}

fn merge_abort(name: &'static str) -> Case {
    let (sandbox, _) = waiting();
    let mut case =
        case(name, sandbox, &["merge", "--abort"], &["task", "add", "next"], |sandbox, acknowledged| {
            let open = open_merges(sandbox).len();
            assert!(open == 0 || open == 1 && !acknowledged);
            if open == 1 {
                sandbox.ok(&["merge", "--abort"]);
            } else {
                sandbox.ok(&["task", "add", "next"]);
            }
            let refs = sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]);
            assert_eq!(refs, "", "what keeps its commits goes with it");
            sandbox.ok(&["merge", "red-owl"]);
            assert_eq!(sandbox.read("src/g"), "gg\n");
        });
    case.moves = true;
    case
}

/// Two conflicts that are answered, and a gate that one branch fails: it is put aside, and the rest lands.
fn merge_gated(name: &'static str) -> Case {
    let sandbox = fleet(&[
        ("ash-crow", &[("broken", "b\n")]),
        ("blue-heron", &[("src/f", "1\nblue\n3\n4\n5\n6\n7\n8\n9\n10\n"), ("new", "n\n")]),
        ("grey-fox", &[("src/f", GREY)]),
        ("red-owl", &[("src/g", "gg\n")]),
        ("tan-wren", &[("src/g", "wren\n")]),
    ]);
    let settings =
        "gate-failure = 'put-aside'\n[gate.test]\nrun = ['sh', '-c', 'test ! -e broken']\nretries = 0\n";
    sandbox.write("../home/.config/git-orchestra/config.toml", settings);
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"]);
    assert_eq!(sandbox.orchestra(&["merge", "--continue"]).code, 3);
    sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"]);
    let mut case = case(name, sandbox, &["merge", "--continue"], &["status"], |sandbox, acknowledged| {
        let landed = || sandbox.git(&["ls-tree", "-r", "--name-only", "main"]).contains("new");
        assert!(landed() || !acknowledged);
        for _ in 0..4 {
            if open_merges(sandbox).is_empty() {
                break;
            }
            let out = sandbox.orchestra(&["merge", "--continue"]);
            assert_eq!(out.code, 0, "{out}");
        }
        assert!(landed() && open_merges(sandbox).is_empty());
        // Killed after it had landed, nothing but reading followed: what its git had begun is finished by the next change.
        sandbox.ok(&["task", "add", "next"]);
        let files = ["src/f", "src/g", "new"].map(|path| sandbox.read(path));
        assert_eq!(files, [GREY, "wren\n", "n\n"], "the same each time");
        assert!(!sandbox.git(&["ls-tree", "-r", "--name-only", "main"]).contains("broken"));
        assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "");
        sandbox.ok(&["verify"]);
    });
    case.moves = true;
    case
}

/// Two branches that land at once, one that a gate fails with, and one that lands after it was put aside.
fn merge_prefixes(name: &'static str) -> Case {
    let sandbox = fleet(&[
        ("ash-crow", &[("a", "a\n")]),
        ("blue-heron", &[("b", "b\n")]),
        ("grey-fox", &[("broken", "b\n")]),
        ("red-owl", &[("d", "d\n")]),
    ]);
    let settings = "gate-failure = 'put-aside'\nmerge.landing = 'prefixes'\n\
                    [gate.test]\nrun = ['sh', '-c', 'test ! -e broken']\nretries = 0\n";
    sandbox.write("../home/.config/git-orchestra/config.toml", settings);
    let mut case = case(name, sandbox, &["merge"], &["status"], |sandbox, acknowledged| {
        let files = || sandbox.git(&["ls-tree", "-r", "--name-only", "main"]).replace('\n', " ");
        let all = "README.md a b d src/f src/g";
        assert!(files() == all || !acknowledged, "{}", files());
        for _ in 0..4 {
            if files() == all && open_merges(sandbox).is_empty() {
                break;
            }
            let open = !open_merges(sandbox).is_empty();
            let out = sandbox.orchestra(if open { &["merge", "--continue"] } else { &["merge"] });
            assert_eq!(out.code, 0, "{out}");
        }
        assert!(files() == all && open_merges(sandbox).is_empty(), "{}", files());
        sandbox.ok(&["task", "add", "next"]);
        let here = ["a", "b", "d"].map(|path| sandbox.read(path));
        assert_eq!(here, ["a\n", "b\n", "d\n"], "the files of the checkout moved with it");
        assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "");
        sandbox.ok(&["verify", "--all"]);
    });
    case.moves = true;
    case
}

fn apply(name: &'static str) -> Case {
    let sandbox = clashing();
    sandbox.write("src/g", "mine\n");
    let mut case = case(name, sandbox, &["apply", "blue-heron"], &["recover"], |sandbox, acknowledged| {
        let status = || sandbox.git(&["status", "--porcelain"]);
        let (staged, untouched) = ("A  new\nM  src/f\n M src/g", " M src/g");
        // A git that was killed with us may have been dying still when the first one looked.
        sandbox.ok(&["recover"]);
        let now = status();
        assert!(now == staged || now == untouched && !acknowledged, "{now}");
        sandbox.ok(&["apply", "blue-heron"]);
        assert_eq!(status(), staged);
        assert_eq!(sandbox.read("src/g"), "mine\n", "what is the user's own");
        sandbox.git(&["reset", "--quiet", "--hard"]);
    });
    case.moves = true;
    case
}

/// Two tasks from their agents over a gate to the branch that they land on.
fn run(name: &'static str) -> Case {
    let sandbox = with_commands();
    let file = "../home/.config/git-orchestra/config.toml";
    let profile = sandbox.read(file);
    let gate = "[gate.both]\nrun = 'ls *.left'\nretries = 0\n";
    sandbox.write(file, &format!("default-profile = 'player'\ngates = ['both']\n{profile}{gate}"));
    for title in ["left", "right"] {
        sandbox.ok(&["task", "add", title]);
    }
    let mut case = case(name, sandbox, &["run"], &["run", "--continue"], |sandbox, acknowledged| {
        let landed = || {
            let files = sandbox.git(&["ls-tree", "--name-only", "main"]);
            let names = ["left.committed", "left.left", "right.committed", "right.left"];
            names.iter().all(|name| files.lines().any(|file| file == *name))
        };
        assert!(!acknowledged || landed(), "acknowledged, and not landed");
        // Whatever was cut short is gone on with; one that never began begins.
        for round in 0.. {
            if landed() {
                break;
            }
            let words: &[&str] = if round % 2 == 0 { &["run", "--retry"] } else { &["run"] };
            let out = sandbox.orchestra(words);
            assert!(round < 6, "it does not come to its end\n{out}");
        }
        // Killed when the branch had moved and the state had not: it says so, and is over.
        let out = sandbox.orchestra(&["run", "--continue"]);
        assert!(out.code == 0 || out.stderr.contains("no pipeline is under way"), "{out}");
        sandbox.ok(&["task", "add", "next"]);
        assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "");
        // Of the two agents and the gates, and the checkout itself.
        assert!(sandbox.git(&["worktree", "list"]).lines().count() <= 4);
        sandbox.ok(&["verify"]);
    });
    case.moves = true;
    case
}

/// Two clones that have something to tell each other; the command runs in one, the other's news are at the remote.
fn exchange(name: &'static str) -> Case {
    let sandbox = Sandbox::new();
    let remote = sandbox.root().join("remote.git");
    let layout = ["init", "--quiet", "--bare", "-b", "main", remote.to_str().unwrap()];
    sandbox.git(&layout);
    sandbox.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    begin(&sandbox);
    sandbox.ok(&["finding", "add", "shared"]);
    sandbox.ok(&["sync"]);
    let other = sandbox.root().join("other");
    sandbox.git(&["clone", "--quiet", remote.to_str().unwrap(), other.to_str().unwrap()]);
    let there = |args: &[&str]| {
        let out = sandbox.orchestra_in(&other, args);
        assert_eq!(out.code, 0, "{args:?}\n{out}");
    };
    there(&["sync"]);
    if name != "push" {
        there(&["task", "add", "theirs"]);
        there(&["sync"]);
    }
    sandbox.ok(&["task", "add", "ours"]);
    sandbox.ok(&["finding", "add", "ours too"]);
    case(name, sandbox, &[name], &["sync"], move |sandbox, acknowledged| {
        let list = |dir: &Path| -> BTreeSet<String> {
            let out = sandbox.orchestra_in(dir, &["task", "list", "--all", "--json"]);
            assert_eq!(out.code, 0, "{out}");
            let list: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
            let tasks = list["data"].as_array().unwrap();
            tasks.iter().map(|task| task["title"].as_str().unwrap().to_owned()).collect()
        };
        let (other, remote) = (sandbox.root().join("other"), sandbox.root().join("remote.git"));
        let here = list(sandbox.repo());
        assert!(here.contains("ours"));
        if acknowledged && name == "sync" {
            assert!(here.contains("theirs"), "acknowledged and gone: {here:?}");
        }
        if acknowledged && name != "fetch" {
            let tip = sandbox.git(&["rev-parse", "refs/orchestra/state"]);
            assert_eq!(sandbox.git_in(&remote, &["rev-parse", "refs/orchestra/state"]), tip);
        }
        sandbox.ok(&["sync"]);
        let there = sandbox.orchestra_in(&other, &["sync"]);
        assert_eq!(there.code, 0, "{there}");
        sandbox.ok(&["sync"]);
        assert_eq!(list(&other), list(sandbox.repo()));
        let tips = [sandbox.repo(), &other, &remote].map(|dir| {
            sandbox.git_in(dir, &["for-each-ref", "refs/orchestra/state", "refs/notes/orchestra/"])
        });
        assert!(tips.iter().all(|tip| *tip == tips[0]), "{tips:#?}");
        let notes = ["notes", "--ref=refs/notes/orchestra/findings", "show", "HEAD"];
        assert_eq!(sandbox.git(&notes).lines().count(), 2);
    })
}

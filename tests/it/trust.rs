//! What git is told to run here may change while agents run: nothing of theirs is looked at from then on, nobody else gets
//! a worktree, and whoever looks later is told.

use serde_json::json;

use crate::harness::Sandbox;
use crate::harness::sandbox::{Output, write_in};

/// A sandbox whose profile runs a shell script, with `ROOT` for a directory of the test's.
fn sandbox(script: &str, more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    let words = json!(["/bin/sh", "-c", script.replace("ROOT", root.to_str().unwrap())]);
    let more = more.replace("ROOT", root.to_str().unwrap());
    let text = format!(
        "grace = \"1s\"\ndefault-profile = \"sh\"\n{more}\n[profile.sh]\nprogram = \"command\"\ncommand = {words}\n"
    );
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &text);
    sandbox
}

/// Filters for every file, by the configuration and the attributes that all worktrees share.
const PLANT: &str = "dir=$(git rev-parse --git-common-dir); mkdir -p $dir/info; \
    git config filter.x.clean 'echo clean >>ROOT/canary; cat'; git config filter.x.smudge 'echo smudge >>ROOT/canary; cat'; \
    echo '* filter=x' >$dir/info/attributes; echo '* filter=x' >.gitattributes; echo new >file";

fn row(sandbox: &Sandbox, name: &str) -> serde_json::Value {
    let all = sandbox.json(&["status", "--all"]);
    let found = all["data"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("no {name} in {all}"))
}

/// Git ran nothing that an agent planted.
fn assert_silent(sandbox: &Sandbox) {
    let sung = std::fs::read_to_string(sandbox.root().join("canary"));
    assert!(sung.is_err(), "git ran what the agent planted: {sung:?}");
}

fn assert_told(sandbox: &Sandbox, why: &str) -> Output {
    let waited = sandbox.orchestra(&["wait", "plant"]);
    assert_eq!(waited.code, 4, "{waited}");
    assert!(!sandbox.root().join("canary").exists(), "git ran what the agent planted");
    assert_eq!(row(sandbox, "plant")["state"], "failed");
    let shown = sandbox.ok(&["show", "plant"]);
    assert!(shown.contains("could not save what it left uncommitted") && shown.contains(why), "{shown}");
    let log = sandbox.ok(&["log", "plant"]);
    assert!(log.contains("what it left uncommitted stays in its worktree") && log.contains(why), "{log}");
    let status = sandbox.orchestra(&["status"]);
    assert_eq!(status.stderr.matches("`git orchestra config approve` accepts it").count(), 1, "{status}");
    status
}

#[test]
fn a_change_that_a_detached_agent_made_is_in_its_record_and_its_log() {
    let sandbox = sandbox(PLANT, "");
    sandbox.ok(&["spawn", "--detach", "-m", "Plant", "--name", "plant"]);
    let status = assert_told(&sandbox, "changed what git runs here (config, info/attributes)");
    assert!(status.stderr.contains("(config)"), "{status}");
    // Accepted, it goes on.
    let shown = sandbox.orchestra(&["config", "approve"]);
    let hash = shown.stdout.lines().find_map(|line| line.strip_prefix("hash ")).unwrap().to_owned();
    sandbox.ok(&["config", "approve", "--hash", &hash]);
    assert!(!sandbox.orchestra(&["status"]).stderr.contains("approve"));
    let merged = sandbox.orchestra(&["merge", "plant", "--yes"]);
    assert!(merged.stderr.contains("committed what plant left uncommitted"), "{merged}");
    assert!(sandbox.root().join("canary").exists(), "it was there to be run");
}

#[test]
fn what_cannot_be_read_counts_as_changed() {
    // One that is a change like another, and one with which nobody knows.
    for (link, why) in [("config.worktree", "config.worktree"), ("hooks", "is not known")] {
        let sandbox = sandbox(&format!("{PLANT}; rm -rf $dir/{link}; ln -s {link} $dir/{link}"), "");
        sandbox.ok(&["spawn", "--detach", "-m", "Plant", "--name", "plant"]);
        assert_told(&sandbox, why);
        let merged = sandbox.orchestra(&["merge", "plant", "--yes"]);
        assert_eq!(merged.code, 1, "{merged}");
        assert_silent(&sandbox);
    }
}

#[test]
fn who_waits_for_a_place_gets_no_worktree_with_what_the_one_before_it_planted() {
    let sandbox = sandbox(PLANT, "");
    for task in ["First", "Second"] {
        sandbox.ok(&["task", "add", task]);
    }
    sandbox.ok(&["spawn", "--detach", "--jobs", "1"]);
    // Each may end in a way of its own. `status` would ask git about the worktree of one that is planting right now.
    for name in ["first", "second"] {
        sandbox.orchestra(&["wait", name]);
    }
    assert_silent(&sandbox);
    // Either may have got the place.
    let (ran, waited) =
        if row(&sandbox, "first")["runs"] == 1 { ("first", "second") } else { ("second", "first") };
    assert_eq!(row(&sandbox, ran)["state"], "failed");
    assert!(!sandbox.git_dir().join("worktrees").join(waited).exists());
    // It was not started, and can be when the change was looked at.
    assert_eq!(row(&sandbox, waited)["runs"], 0);
    let resumed = sandbox.orchestra(&["resume", waited]);
    assert!(resumed.code == 1 && resumed.stderr.contains("changed what it runs here"), "{resumed}");
}

#[test]
fn nor_does_one_of_many_in_the_foreground() {
    // The first one plants when everybody who makes worktrees has made one more, and stands still in its setup.
    let script = format!(
        "[ -e ROOT/planted ] && exit 0; \
         while [ $(ls ROOT | grep -c began) -lt $(cat ROOT/makers) ]; do sleep 0.05; done; {PLANT}; touch ROOT/planted"
    );
    let setup = "[worktree]\nsetup = ['sh', '-c', 'mkdir ROOT/first 2>/dev/null && exit 0; touch ROOT/began-$$; \
                 while [ ! -e ROOT/planted ]; do sleep 0.05; done']";
    let sandbox = sandbox(&script, setup);
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    write_in(&sandbox.root(), "makers", &cores.min(4).to_string());
    for number in 1..=9 {
        sandbox.ok(&["task", "add", &format!("Task {number}")]);
    }
    let spawned = sandbox.orchestra(&["spawn", "--jobs", "1"]);
    assert!(sandbox.root().join("planted").exists(), "{spawned}");
    assert_silent(&sandbox);
    assert_eq!(spawned.code, 4, "{spawned}");
    assert!(spawned.stdout.contains("not started"), "{spawned}");
    assert!(
        spawned.stdout.contains("since they began, somebody changed what it runs here (config"),
        "{spawned}"
    );
    assert!(!sandbox.git_dir().join("worktrees/task-9").exists());
}

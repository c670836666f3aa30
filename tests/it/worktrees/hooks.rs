//! Setup and teardown: what they see, what a failure leaves, who may name them, and what a kill leaves.

use std::fs;
use std::process::Stdio;

use nix::sys::signal::Signal;

use super::{agents, assert_no_trace, configure, hook, path, sandbox};
use crate::harness::sandbox::{ORCHESTRA, kill, poll, wait_for};
use crate::harness::{Sandbox, Terminal};
use crate::spawn::{runs, seconds};

const AGENT: &str = "cat made; echo work >file";

#[test]
fn setup_sees_where_it_is_and_its_agent_finds_what_it_made() {
    let setup = "env | sort | grep -E '^GIT_ORCHESTRA|TOKEN|ANTHROPIC' >made; echo node_modules ready; \
                 echo key sk-ant-api03-0123456789abcdefghijklmnopqrstuvwxyz-0123456789 >&2";
    let settings = hook("setup", setup) + "worktree.pass-env = ['NPM_TOKEN']\n";
    let mut sandbox = sandbox(AGENT, &settings);
    sandbox.set_env("NPM_TOKEN", "for-setup");
    sandbox.set_env("GITHUB_TOKEN", "for-nobody");
    sandbox.set_env("ANTHROPIC_API_KEY", "for-claude");
    sandbox.write(".gitignore", "made\n");
    let base = sandbox.commit("ignore");
    let out = sandbox.orchestra(&["spawn", "-m", "Work"]);
    assert_eq!(out.code, 0, "{out}");
    let root = sandbox.root();
    for line in [
        "GIT_ORCHESTRA_AGENT_NAME=work".to_owned(),
        "GIT_ORCHESTRA_BRANCH=orchestra/work".to_owned(),
        "GIT_ORCHESTRA_TARGET=main".to_owned(),
        format!("GIT_ORCHESTRA_BASE={base}"),
        format!("GIT_ORCHESTRA_WORKTREE={}", root.join("repo.orchestra/work").display()),
        format!("GIT_ORCHESTRA_MAIN_WORKTREE={}", root.join("repo").display()),
        "NPM_TOKEN=[redacted:NPM_TOKEN]".to_owned(),
    ] {
        assert!(out.stdout.contains(&line), "{line}\n{out}");
    }
    assert!(!out.stdout.contains("for-nobody") && !out.stdout.contains("for-claude"), "{out}");
    assert!(out.stdout.contains("setup: ") && out.stdout.contains("setup done after"), "{out}");
    let log = sandbox.ok(&["log", "work"]);
    assert!(log.contains("setup said:") && log.contains("node_modules ready"), "{log}");
    assert!(!log.contains("sk-ant-api03") && !out.stdout.contains("sk-ant-api03"), "{log}");
    let made = fs::read_to_string(path(&sandbox, "work").join("made")).unwrap();
    assert!(
        made.contains("NPM_TOKEN=for-setup") && !made.contains("for-nobody") && !made.contains("for-claude"),
        "{made}"
    );
    // Once for a worktree, not for each run.
    fs::remove_file(path(&sandbox, "work").join("made")).unwrap();
    let again = sandbox.orchestra(&["resume", "work"]);
    assert!(!again.stdout.contains("setup"), "{again}");
}

#[test]
fn a_setup_that_fails_leaves_nothing_and_says_why() {
    let sandbox =
        sandbox(AGENT, &hook("setup", "echo x >made; echo first; echo no such package >&2; exit 3"));
    sandbox.ok(&["task", "add", "Work"]);
    let out = sandbox.orchestra(&["spawn"]);
    assert_eq!(out.code, 4, "{out}");
    assert!(out.stdout.contains("exit code 3") && out.stdout.contains("no such package"), "{out}");
    assert!(out.stdout.contains("hint: mend `worktree.setup`"), "{out}");
    assert_no_trace(&sandbox);
    assert!(!path(&sandbox, "work").exists());
    assert_eq!(sandbox.json(&["task", "list"])["data"][0]["status"], "open");
    let detached = sandbox.orchestra(&["spawn", "--detach"]);
    assert!(detached.code == 4 && detached.stdout.contains("no such package"), "{detached}");
    assert_no_trace(&sandbox);
    configure(&sandbox, AGENT, &hook("setup", "echo x >made"));
    assert_eq!(sandbox.orchestra(&["spawn"]).code, 0);
    assert_eq!(agents(&sandbox), [("work".to_owned(), "done".to_owned())]);
    // What it made is the agent's from here on, and the whole spawn is one operation.
    sandbox.ok(&["undo", "--yes"]);
    assert_no_trace(&sandbox);
}

#[test]
fn what_a_setup_committed_is_kept_when_it_fails() {
    let sandbox = sandbox(AGENT, &hook("setup", "git commit --quiet --allow-empty -m mine; exit 1"));
    assert_eq!(sandbox.orchestra(&["spawn", "-m", "Work"]).code, 4);
    assert_no_trace(&sandbox);
    assert_eq!(sandbox.git(&["log", "-1", "--format=%s", "refs/orchestra/rescue/work/1"]), "mine");
}

#[test]
fn a_setup_that_does_not_end_is_ended_to_its_last_process() {
    let seconds = seconds(5);
    let settings =
        hook("setup", &format!("trap '' TERM; setsid sleep {seconds} & echo waiting; sleep {seconds}"))
            + "worktree.timeout = '1s'\n";
    let sandbox = sandbox(AGENT, &settings);
    let out = sandbox.orchestra(&["spawn", "-m", "Work"]);
    assert!(out.code == 4 && out.stdout.contains("it was ended after 1 s"), "{out}");
    assert!(poll(|| (!runs(&seconds)).then_some(())).is_some());
    assert_no_trace(&sandbox);
}

#[test]
fn a_setup_that_the_repository_names_waits_for_approval() {
    let sandbox = sandbox("echo work >file", "");
    sandbox.write("orchestra.toml", &hook("setup", "touch ../../canary"));
    sandbox.commit("settings");
    let out = sandbox.orchestra(&["spawn", "-m", "Work"]);
    assert!(out.code == 1 && out.stderr.contains("`worktree.setup`: the repository names it"), "{out}");
    assert!(!sandbox.root().join("canary").exists());
    assert_no_trace(&sandbox);
    let shown = sandbox.orchestra(&["config", "approve"]);
    let hash = shown.stdout.lines().find_map(|line| line.strip_prefix("hash ")).unwrap().to_owned();
    sandbox.ok(&["config", "approve", "--hash", &hash]);
    assert_eq!(sandbox.orchestra(&["spawn", "-m", "Work"]).code, 0);
    assert!(sandbox.root().join("canary").exists());
    // A program of the repository's own, which agents could change, is none.
    configure(&sandbox, "true", &format!("worktree.setup = ['{}']\n", sandbox.repo().join("x.sh").display()));
    sandbox.write("x.sh", "#!/bin/sh\n");
    let out = sandbox.orchestra(&["spawn", "-m", "Work"]);
    assert!(out.code == 1 && out.stderr.contains("x.sh"), "{out}");
}

/// A sandbox whose setup waits until the file `go` is there, and a command that spawns in it.
fn waiting(seconds: &str) -> Sandbox {
    let script = format!(
        "echo begun >>../../begun; test -e ../../go || {{ setsid sleep {seconds} & sleep {seconds}; }}"
    );
    sandbox("echo work >file", &hook("setup", &script))
}

fn begun(sandbox: &Sandbox) -> usize {
    fs::read_to_string(sandbox.root().join("begun")).unwrap_or_default().lines().count()
}

#[test]
fn a_kill_in_the_middle_of_a_setup_is_mended_by_the_next_command() {
    let seconds = seconds(6);
    let sandbox = waiting(&seconds);
    let mut command = sandbox.command(ORCHESTRA);
    command.args(["spawn", "-m", "Work"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for("the setup", || (begun(&sandbox) == 1 && runs(&seconds)).then_some(()));
    let row = sandbox.json(&["status"])["data"][0].clone();
    assert_eq!(row["state"], "running", "{row}");
    assert!(row["evidence"].as_str().unwrap().starts_with("setup of its worktree, "), "{row}");
    kill(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    let out = sandbox.orchestra(&["task", "add", "Another"]);
    assert!(out.stderr.contains("work was not started; `git orchestra resume work` starts it"), "{out}");
    assert!(poll(|| (!runs(&seconds)).then_some(())).is_some());
    fs::write(sandbox.root().join("go"), "").unwrap();
    let out = sandbox.orchestra(&["resume", "work"]);
    assert!(out.code == 0 && begun(&sandbox) == 2, "it begins anew: {out}");
    sandbox.ok(&["remove", "work"]);
    assert_no_trace(&sandbox);
}

#[test]
fn ctrl_c_ends_a_setup_and_its_agent_can_be_started_later() {
    let seconds = seconds(7);
    let sandbox = waiting(&seconds);
    let mut terminal = Terminal::orchestra(&sandbox, &["spawn", "-m", "Work"], 24, 100);
    wait_for("the setup", || (begun(&sandbox) == 1 && runs(&seconds)).then_some(()));
    terminal.type_in("\u{3}");
    assert_eq!(terminal.end(), 130, "{}", terminal.screen());
    assert!(poll(|| (!runs(&seconds)).then_some(())).is_some());
    assert_eq!(agents(&sandbox), [("work".to_owned(), "new".to_owned())]);
    fs::write(sandbox.root().join("go"), "").unwrap();
    assert_eq!(sandbox.orchestra(&["resume", "work"]).code, 0);
    assert_eq!(begun(&sandbox), 2);
}

#[test]
fn teardown_runs_before_a_worktree_goes_whoever_removes_it() {
    let teardown = "echo $GIT_ORCHESTRA_AGENT_NAME $(cat file) >>../../torn; test ! -e ../../fail";
    let sandbox = sandbox("echo work >file", &hook("teardown", teardown));
    let torn = |sandbox: &Sandbox| fs::read_to_string(sandbox.root().join("torn")).unwrap_or_default();
    for name in ["one", "two", "three"] {
        sandbox.ok(&["spawn", "-m", "Work", "--name", name]);
    }
    sandbox.ok(&["undo", "--yes"]);
    assert_eq!(torn(&sandbox), "three work\n");
    sandbox.ok(&["remove", "one"]);
    assert_eq!(torn(&sandbox), "three work\none work\n");
    sandbox.ok(&["merge"]);
    sandbox.ok(&["prune", "--yes"]);
    assert_eq!(torn(&sandbox), "three work\none work\ntwo work\n");
    assert_no_trace(&sandbox);
    sandbox.ok(&["spawn", "-m", "Work", "--name", "four"]);
    fs::write(sandbox.root().join("fail"), "").unwrap();
    let out = sandbox.orchestra(&["remove", "four"]);
    assert!(out.code == 1 && out.stderr.contains("exit code 1"), "{out}");
    assert!(out.stderr.contains("--no-teardown"), "{out}");
    assert_eq!(agents(&sandbox), [("four".to_owned(), "done".to_owned())], "nothing was removed");
    sandbox.ok(&["remove", "four", "--no-teardown"]);
    assert_no_trace(&sandbox);
}

//! Every fault of the table is planted for real; each is noticed, told and mended, or made again when asked for.

use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use serde_json::Value;

use crate::harness::sandbox::{Layout, ORCHESTRA, kill};
use crate::harness::{Sandbox, wait_for};
use crate::life::watcher;

/// A sandbox with a profile `worker` that runs `script`.
pub(crate) fn with_worker(layout: Layout, script: &str) -> Sandbox {
    let mut sandbox = Sandbox::with(layout);
    sandbox.set_env("COLUMNS", "100");
    let profile = format!("[profile.worker]\nprogram = 'command'\ncommand = ['sh', '-c', '''{script}''']\n");
    sandbox.write("../home/.config/git-orchestra/config.toml", &profile);
    sandbox
}

/// One agent called `heron` that has committed `done` to its branch; returns its worktree.
pub(crate) fn heron(sandbox: &Sandbox) -> PathBuf {
    sandbox.ok(&["spawn", "--profile", "worker", "-m", "Do it.", "--name", "heron"]);
    worktree(sandbox, "heron")
}

/// The same of one whose script made the file `started` and goes on, with the process that watches it.
fn heron_that_started(sandbox: &Sandbox) -> (Child, PathBuf) {
    let mut command = sandbox.command(ORCHESTRA);
    command.args(["spawn", "--profile", "worker", "-m", "Do it.", "--name", "heron"]);
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let root = sandbox.root();
    (child, wait_for("the agent", || find(&root, "started")))
}

pub(crate) fn worktree(sandbox: &Sandbox, name: &str) -> PathBuf {
    let listed = sandbox.git(&["worktree", "list", "--porcelain"]);
    let mut paths = listed.lines().filter_map(|line| line.strip_prefix("worktree "));
    paths.find(|path| path.ends_with(name)).unwrap_or_else(|| panic!("no {name}\n{listed}")).into()
}

fn found(sandbox: &Sandbox, args: &[&str]) -> Vec<Value> {
    sandbox.json(&[&["recover"], args].concat())["data"].as_array().unwrap().clone()
}

/// The one thing that `recover` tells.
fn only(sandbox: &Sandbox, args: &[&str]) -> Value {
    let mut found = found(sandbox, args);
    assert_eq!(found.len(), 1, "{found:#?}");
    found.remove(0)
}

fn assert_nothing_left(sandbox: &Sandbox) {
    assert_eq!(sandbox.ok(&["recover"]), "nothing to recover");
    sandbox.assert_sound();
}

#[test]
fn a_sound_repository_has_nothing_to_recover() {
    let sandbox = with_worker(Layout::default(), "echo done >done");
    assert_nothing_left(&sandbox);
    assert!(!sandbox.git_dir().join("orchestra").exists(), "looking makes nothing");
    heron(&sandbox);
    let before = sandbox.fingerprint();
    assert_nothing_left(&sandbox);
    assert_eq!(sandbox.fingerprint(), before);
}

#[test]
fn a_killed_worktree_add_no_longer_breaks_fetch_and_gc() {
    let sandbox = with_worker(Layout::default(), "echo done >done");
    sandbox.ok(&["init"]);
    let other = sandbox.root().join("other");
    sandbox.git(&["worktree", "add", "--quiet", "-b", "other", other.to_str().unwrap()]);
    // What a kill in the middle of `git worktree add` leaves.
    std::fs::write(sandbox.git_dir().join("worktrees/other/commondir"), "").unwrap();
    let broken = sandbox.try_git_in(sandbox.repo(), &["gc", "--quiet"], b"");
    assert_ne!(broken.code, 0, "the fault is real: {broken}");
    let one = only(&sandbox, &[]);
    assert_eq!((one["fault"].as_str(), one["mended"].as_bool()), (Some("half-made-worktree"), Some(true)));
    sandbox.git(&["gc", "--quiet"]);
    assert_nothing_left(&sandbox);
}

#[test]
fn a_killed_supervisor_leaves_a_lost_run_and_nothing_that_still_runs() {
    let sandbox = with_worker(Layout::default(), "echo half >half; touch started; exec sleep 1000");
    let (mut child, path) = heron_that_started(&sandbox);
    let running = |path: &Path| {
        std::fs::read_dir("/proc")
            .unwrap()
            .flatten()
            .any(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == path))
    };
    assert!(running(&path));
    child.kill().unwrap();
    child.wait().unwrap();
    // Any command that changes something does it; `recover` says it.
    let one = only(&sandbox, &[]);
    assert_eq!((one["fault"].as_str(), one["subject"].as_str()), (Some("lost-run"), Some("heron")));
    assert!(one["text"].as_str().unwrap().contains("what still ran was ended"), "{one:#}");
    assert!(!running(&path));
    assert_eq!(sandbox.json(&["status"])["data"][0]["state"], "lost");
    assert_nothing_left(&sandbox);
}

#[test]
fn what_a_lost_run_committed_outside_of_its_branch_is_kept_and_told() {
    let script = "echo one >one; git add one; git commit -q -m one; git checkout -q --detach; \
                  echo two >two; git add two; git commit -q -m two; touch started; exec sleep 1000";
    let sandbox = with_worker(Layout::default(), script);
    let (mut child, _) = heron_that_started(&sandbox);
    child.kill().unwrap();
    child.wait().unwrap();
    let one = only(&sandbox, &[]);
    assert_eq!(one["fault"].as_str(), Some("lost-run"));
    let text = one["text"].as_str().unwrap();
    assert!(text.contains("it committed on no branch, and not on orchestra/heron: "), "{one:#}");
    assert!(text.contains(" two; that is kept as refs/orchestra/rescue/heron/1 "), "{one:#}");
    assert_eq!(sandbox.git(&["log", "-1", "--format=%s", "refs/orchestra/rescue/heron/1"]), "two");
    for command in ["status", "check"] {
        let told = sandbox.orchestra(&[command]);
        let words = "heron committed something outside of its branch, which is not merged: refs/orchestra/rescue/heron/1";
        assert!(told.stderr.contains(words), "{command}: {told}");
    }
    assert_nothing_left(&sandbox);
}

/// The directory below `root` that holds `name`.
fn find(root: &Path, name: &str) -> Option<PathBuf> {
    let entries = std::fs::read_dir(root.join("repo.orchestra")).ok()?;
    entries.flatten().map(|entry| entry.path()).find(|path| path.join(name).exists())
}

#[test]
fn locks_of_dead_processes_go() {
    let sandbox = with_worker(Layout::default(), "echo done >done");
    heron(&sandbox);
    let git_dir = sandbox.git_dir();
    for lock in ["refs/orchestra/state.lock", "worktrees/heron/index.lock"] {
        std::fs::write(git_dir.join(lock), "").unwrap();
        let one = only(&sandbox, &[]);
        assert_eq!((one["fault"].as_str(), one["subject"].as_str()), (Some("stale-lock"), Some(lock)));
        assert!(!git_dir.join(lock).exists());
    }
    // A lock of the user's own is the user's, however old it is.
    std::fs::write(git_dir.join("index.lock"), "").unwrap();
    assert_nothing_left(&sandbox);
    assert!(git_dir.join("index.lock").exists());
}

#[test]
fn locks_of_a_git_that_was_killed_with_its_agent_do_not_stop_the_next_run() {
    let sandbox = with_worker(Layout::default(), "git commit --quiet --allow-empty -m mine");
    let path = heron(&sandbox);
    let locks = ["HEAD.lock", "index.lock"].map(|name| sandbox.git_dir().join("worktrees/heron").join(name));
    let plant = || locks.iter().for_each(|lock| std::fs::write(lock, "").unwrap());
    plant();
    let out = sandbox.orchestra(&["resume", "heron"]);
    assert_eq!(out.code, 0, "{out}");
    assert!(out.stderr.contains("removed worktrees/heron/HEAD.lock, which a dead process left"), "{out}");
    assert!(locks.iter().all(|lock| !lock.exists()));
    assert_eq!(sandbox.git(&["rev-list", "--count", "main..orchestra/heron"]), "2");

    // A git that is at work there may hold them.
    plant();
    let mut git = sandbox.command("git");
    git.args(["cat-file", "--batch"]).current_dir(&path).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut git = git.spawn().unwrap();
    wait_for("the git", || {
        let cwd = std::fs::read_link(format!("/proc/{}/cwd", git.id())).ok()?;
        let comm = std::fs::read(format!("/proc/{}/comm", git.id())).ok()?;
        (comm == b"git\n" && cwd == path.canonicalize().unwrap()).then_some(())
    });
    let out = sandbox.orchestra(&["resume", "heron"]);
    assert_eq!(out.code, 4, "{out}");
    assert!(locks.iter().all(|lock| lock.exists()), "{out}");
    drop(git.stdin.take());
    git.wait().unwrap();
    assert_eq!(sandbox.orchestra(&["resume", "heron"]).code, 0);
    assert_eq!(sandbox.git(&["rev-list", "--count", "main..orchestra/heron"]), "3");
}

#[test]
fn locks_that_an_agents_git_left_go_with_its_run() {
    let locks = ["refs/heads/orchestra/heron.lock", "worktrees/heron/HEAD.lock", "packed-refs.lock"];
    let script = format!(
        "git_dir=$(git rev-parse --git-common-dir); for lock in {}; do : >$git_dir/$lock; done; echo done >done; \
         if [ -e wait ]; then : >waiting; sleep 600; fi",
        locks.join(" ")
    );
    let sandbox = with_worker(Layout::default(), &script);
    let there = || locks.iter().filter(|lock| sandbox.git_dir().join(lock).exists()).count();
    let path = heron(&sandbox);
    assert_eq!(there(), 0);
    assert_eq!(sandbox.git(&["show", "orchestra/heron:done"]), "done", "its work is committed all the same");
    // And where nobody was left to do it.
    std::fs::write(path.join("wait"), "").unwrap();
    sandbox.ok(&["resume", "heron", "--detach"]);
    wait_for("the agent", || path.join("waiting").exists().then_some(()));
    assert_eq!(there(), 3);
    kill(watcher(&sandbox), Signal::SIGKILL);
    wait_for("its end", || (sandbox.json(&["status"])["data"][0]["state"] == "lost").then_some(()));
    let out = sandbox.orchestra(&["task", "add", "next"]);
    assert!(
        out.code == 0 && out.stderr.contains("removed packed-refs.lock, which a dead process left"),
        "{out}"
    );
    assert_eq!(there(), 0);
    sandbox.ok(&["remove", "heron"]);
    sandbox.assert_sound();
}

#[test]
fn a_worktree_that_was_removed_by_hand_is_told_and_made_again() {
    for layout in [Layout::default(), Layout { reftable: true, sha256: true, ..Layout::default() }] {
        let sandbox = with_worker(layout, "echo done >done");
        let path = heron(&sandbox);
        std::fs::remove_dir_all(&path).unwrap();
        let one = only(&sandbox, &[]);
        assert_eq!((one["fault"].as_str(), one["mended"].as_bool()), (Some("lost-worktree"), Some(false)));
        assert_eq!(one["way_out"], "git orchestra recover heron");
        let one = only(&sandbox, &["heron"]);
        assert!(one["mended"].as_bool().unwrap(), "{one:#}");
        assert_eq!(std::fs::read_to_string(path.join("done")).unwrap(), "done\n");
        assert_nothing_left(&sandbox);
        // With its registration, as `git worktree remove` does it.
        sandbox.git(&["worktree", "remove", "--force", path.to_str().unwrap()]);
        assert_eq!(only(&sandbox, &[])["fault"], "lost-worktree");
        only(&sandbox, &["heron"]);
        assert_eq!(std::fs::read_to_string(path.join("done")).unwrap(), "done\n");
        assert_nothing_left(&sandbox);
    }
}

#[test]
fn what_took_a_worktrees_place_stays() {
    let sandbox = with_worker(Layout::default(), "echo done >done");
    let path = heron(&sandbox);
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("mine"), "mine").unwrap();
    let one = only(&sandbox, &["heron"]);
    assert_eq!((one["fault"].as_str(), one["mended"].as_bool()), (Some("lost-worktree"), Some(false)));
    assert!(one["way_out"].as_str().unwrap().starts_with("move that away"), "{one:#}");
    assert_eq!(std::fs::read_to_string(path.join("mine")).unwrap(), "mine");
}

#[test]
fn a_branch_that_was_deleted_is_told_and_made_again_where_it_was() {
    for layout in [Layout::default(), Layout { reftable: true, ..Layout::default() }] {
        let sandbox = with_worker(layout, "echo done >done");
        let path = heron(&sandbox);
        // Somebody went on in the worktree: the last commit is known to its log alone.
        let tip = sandbox.commit_in(&path, "by hand");
        sandbox.git(&["update-ref", "-d", "refs/heads/orchestra/heron"]);
        let one = only(&sandbox, &[]);
        assert_eq!((one["fault"].as_str(), one["mended"].as_bool()), (Some("lost-branch"), Some(false)));
        let one = only(&sandbox, &["heron"]);
        assert!(one["mended"].as_bool().unwrap(), "{one:#}");
        assert_eq!(sandbox.git(&["rev-parse", "orchestra/heron"]), tip, "{layout:?}");
        assert_eq!(sandbox.git_in(&path, &["status", "--porcelain"]), "");
        assert_nothing_left(&sandbox);
        // Branch and worktree at once: what the run committed is there.
        std::fs::remove_dir_all(&path).unwrap();
        sandbox.git(&["worktree", "prune"]);
        sandbox.git(&["branch", "-D", "orchestra/heron"]);
        only(&sandbox, &["heron"]);
        assert_eq!(std::fs::read_to_string(path.join("done")).unwrap(), "done\n");
        assert_nothing_left(&sandbox);
    }
}

#[test]
fn a_repository_that_was_moved_finds_its_worktrees_again() {
    let sandbox = with_worker(Layout::default(), "echo done >done");
    let path = heron(&sandbox);
    std::fs::write(path.join("unsaved"), "unsaved").unwrap();
    let renamed = sandbox.root().join("renamed");
    std::fs::rename(sandbox.repo(), &renamed).unwrap();
    let recover = |dir: &Path| {
        let out = sandbox.orchestra_in(dir, &["recover"]);
        assert_eq!(out.code, 0, "{out}");
        out.stdout
    };
    let said = recover(&renamed);
    assert!(said.starts_with("mended  heron: ") || said.starts_with("mended  /"), "{said}");
    assert_eq!(sandbox.git_in(&path, &["status", "--porcelain"]), "?? unsaved");
    // Together with everything beside it.
    let elsewhere = sandbox.root().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::rename(&renamed, elsewhere.join("repo")).unwrap();
    std::fs::rename(sandbox.root().join("repo.orchestra"), elsewhere.join("repo.orchestra")).unwrap();
    let said = recover(&elsewhere.join("repo"));
    assert!(said.contains("knows again where it is"), "{said}");
    let path = elsewhere.join("repo.orchestra/heron");
    assert_eq!(sandbox.git_in(&path, &["status", "--porcelain"]), "?? unsaved");
    assert_eq!(recover(&elsewhere.join("repo")), "nothing to recover\n");
    // The agent is whole: it goes on, and it can be removed.
    let out = sandbox.orchestra_in(&elsewhere.join("repo"), &["resume", "heron", "-m", "More."]);
    assert_eq!(out.code, 0, "{out}");
    let out = sandbox.orchestra_in(&elsewhere.join("repo"), &["remove", "heron"]);
    assert_eq!(out.code, 0, "{out}");
}

#[test]
fn what_is_running_or_removed_is_not_made_again() {
    let sandbox = with_worker(Layout::default(), "echo done >done");
    heron(&sandbox);
    sandbox.ok(&["remove", "heron"]);
    let out = sandbox.orchestra(&["recover", "heron"]);
    assert!(out.code == 1 && out.stderr.contains("it was removed"), "{out}");
    assert_nothing_left(&sandbox);
}

#[test]
fn an_open_merge_and_a_changed_configuration_are_told_with_the_way_out() {
    let sandbox = with_worker(Layout::default(), "basename $PWD >same");
    sandbox.ok(&["spawn", "--profile", "worker", "-m", "Do it.", "--name", "heron"]);
    sandbox.ok(&["spawn", "--profile", "worker", "-m", "Do it.", "--name", "crane"]);
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    let one = only(&sandbox, &[]);
    assert_eq!(
        (one["fault"].as_str(), one["way_out"].as_str()),
        (Some("open-merge"), Some("git orchestra merge --continue"))
    );
    sandbox.ok(&["merge", "--abort"]);
    let evil = with_worker(Layout::default(), "git config filter.x.clean evil; echo done >done");
    evil.orchestra(&["spawn", "--profile", "worker", "-m", "Do it.", "--name", "heron"]);
    let one = only(&evil, &[]);
    assert_eq!(
        (one["fault"].as_str(), one["subject"].as_str()),
        (Some("changed-configuration"), Some("config"))
    );
    assert_eq!(one["way_out"], "git orchestra config approve");
}

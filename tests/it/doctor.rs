//! The doctor sees what is planted, says the way out, and changes nothing unless told to.

use serde_json::Value;

use crate::harness::Sandbox;
use crate::harness::sandbox::Layout;
use crate::recover::{heron, with_worker};

fn with_heron() -> Sandbox {
    let sandbox = with_worker(Layout::default(), "echo done >done");
    heron(&sandbox);
    sandbox
}

/// What the doctor says of one thing, with its exit code.
fn check(sandbox: &Sandbox, args: &[&str], name: &str) -> (Value, i32) {
    let out = sandbox.orchestra(&[&["doctor", "--json"], args].concat());
    let document: Value = serde_json::from_str(&out.stdout).unwrap_or_else(|error| panic!("{error}\n{out}"));
    let checks = document["data"]["checks"].as_array().unwrap();
    let found = checks.iter().find(|check| check["name"] == name);
    (found.unwrap_or_else(|| panic!("no {name}\n{out}")).clone(), out.code)
}

fn assert_level(sandbox: &Sandbox, name: &str, level: &str) -> Value {
    let (found, code) = check(sandbox, &[], name);
    assert_eq!(found["level"], level, "{found:#}");
    if level != "ok" {
        assert!(found["way_out"].is_string(), "{found:#}");
    }
    assert!(level != "fail" || code == 1, "exit {code}");
    found
}

#[test]
fn all_is_well_where_all_is_well() {
    for layout in [
        Layout::default(),
        Layout { bare: true, ..Layout::default() },
        Layout { reftable: true, sha256: true, ..Layout::default() },
        Layout { linked: true, ..Layout::default() },
        Layout { unborn: true, ..Layout::default() },
    ] {
        let mut sandbox = with_worker(layout, "echo done >done");
        sandbox.set_env("COLUMNS", "80");
        let fresh = sandbox.orchestra(&["doctor"]);
        assert!(fresh.code == 0 && !sandbox.git_dir().join("orchestra").exists(), "{fresh}");
        if !layout.unborn {
            heron(&sandbox);
        }
        let before = (!layout.bare).then(|| sandbox.fingerprint());
        let out = sandbox.orchestra(&["doctor"]);
        assert!(
            out.code == 0 && out.stdout.contains("all works") || out.stdout.contains("all is well"),
            "{out}"
        );
        assert!(out.stdout.lines().all(|line| line.chars().count() <= 80), "{out}");
        assert!(!out.stdout.contains("fail"), "{out}");
        assert_eq!((!layout.bare).then(|| sandbox.fingerprint()), before);
        let fixed = sandbox.orchestra(&["doctor", "--fix", "--brief"]);
        assert_eq!(fixed.code, 0, "{fixed}");
    }
}

#[test]
fn records_that_cannot_be_read_are_named() {
    let sandbox = with_heron();
    let task = sandbox.ok(&["task", "add", "Parse"]);
    assert_level(&sandbox, "state", "ok");
    let path = sandbox.git(&["ls-tree", "-r", "--name-only", "refs/orchestra/state", "tasks"]);
    let good = sandbox.git(&["rev-parse", "refs/orchestra/state"]);
    sandbox.plumb_commit("refs/orchestra/state", "broken", &[(path.as_str(), "no record")]);
    let found = assert_level(&sandbox, "state", "fail");
    assert!(found["details"][0].as_str().unwrap().starts_with(&path), "{found:#}");
    sandbox.git(&["update-ref", "refs/orchestra/state", &good]);
    // A task that comes after one that nobody has.
    let record = sandbox.git(&["show", &format!("refs/orchestra/state:{path}")]);
    let mut record: Value = serde_json::from_str(&record).unwrap();
    record["after"] = serde_json::json!(["zzzzzzzzzzzzzzzz"]);
    let text = format!("{}\n", serde_json::to_string_pretty(&record).unwrap());
    sandbox.plumb_commit("refs/orchestra/state", "dangling", &[(path.as_str(), &text)]);
    let found = assert_level(&sandbox, "state", "warn");
    assert!(found["details"][0].as_str().unwrap().contains("zzzzzzzzzzzzzzzz"), "{found:#}");
    // A clock that is two days ahead.
    let stamp = record["_s"].as_object().unwrap().keys().next().unwrap().clone();
    let (millis, rest) = stamp.split_once('-').unwrap();
    let ahead = format!("{}-{rest}", millis.parse::<u64>().unwrap() + 2 * 24 * 3600 * 1000);
    record.as_object_mut().unwrap().remove("after");
    let fields = record["_s"].as_object_mut().unwrap().remove(&stamp).unwrap();
    record["_s"][ahead] = fields;
    let text = format!("{}\n", serde_json::to_string_pretty(&record).unwrap());
    sandbox.plumb_commit("refs/orchestra/state", "ahead", &[(path.as_str(), &text)]);
    let found = assert_level(&sandbox, "state", "warn");
    assert!(found["text"].as_str().unwrap().contains("more than a day"), "{found:#}");
    assert!(!task.is_empty());
}

#[test]
fn missing_objects_are_a_fault() {
    let sandbox = with_heron();
    sandbox.ok(&["task", "add", "First"]);
    sandbox.ok(&["task", "add", "Second"]);
    assert_level(&sandbox, "history", "ok");
    let old = sandbox.git(&["rev-parse", "refs/orchestra/state~1^{tree}"]);
    let (first, rest) = old.split_at(2);
    std::fs::remove_file(sandbox.git_dir().join("objects").join(first).join(rest)).unwrap();
    let found = assert_level(&sandbox, "history", "fail");
    assert!(found["details"][0].as_str().unwrap().contains(&old), "{found:#}");
}

#[test]
fn what_is_broken_on_this_machine_is_told_and_fixed_when_told_to() {
    let sandbox = with_heron();
    let git_dir = sandbox.git_dir();
    // A pointer that leads nowhere, a half-made worktree, a lease of the dead.
    let path = crate::recover::worktree(&sandbox, "heron");
    std::fs::write(path.join(".git"), "gitdir: /nowhere/worktrees/heron\n").unwrap();
    let other = sandbox.root().join("other");
    sandbox.git(&["worktree", "add", "--quiet", "-b", "other", other.to_str().unwrap()]);
    std::fs::write(git_dir.join("worktrees/other/commondir"), "").unwrap();
    std::fs::write(git_dir.join("orchestra/leases/zzzzzzzzzzzzzzzz.lock"), "").unwrap();
    for name in ["worktrees", "unfinished", "leases"] {
        assert_level(&sandbox, name, "fail");
    }
    let out = sandbox.orchestra(&["doctor", "--fix"]);
    assert_eq!(out.code, 0, "{out}");
    assert!(out.stderr.contains("mended: ") && out.stderr.contains("commondir"), "{out}");
    for name in ["worktrees", "unfinished", "leases"] {
        assert_level(&sandbox, name, "ok");
    }
    sandbox.git(&["gc", "--quiet"]);
}

#[test]
fn strays_and_locks_are_told_and_left_alone() {
    let sandbox = with_heron();
    let git_dir = sandbox.git_dir();
    sandbox.git(&["branch", "orchestra/nobody"]);
    let found = assert_level(&sandbox, "branches", "warn");
    assert!(found["details"][0].as_str().unwrap().starts_with("orchestra/nobody at "), "{found:#}");
    let stray = git_dir.join("orchestra/journal/zzzzzzzzzzzzzzzz/001.jsonl");
    std::fs::create_dir_all(stray.parent().unwrap()).unwrap();
    std::fs::write(&stray, "").unwrap();
    assert_level(&sandbox, "journals", "warn");
    let lock = git_dir.join("packed-refs.lock");
    std::fs::write(&lock, "").unwrap();
    assert_level(&sandbox, "locks", "ok");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(600);
    std::fs::File::open(&lock).unwrap().set_modified(old).unwrap();
    let found = assert_level(&sandbox, "locks", "fail");
    assert_eq!(found["details"][0], "packed-refs.lock");
    sandbox.orchestra(&["doctor", "--fix"]);
    assert!(lock.exists() && stray.exists(), "they may be somebody's");
    assert!(!sandbox.git(&["branch", "--list", "orchestra/nobody"]).is_empty());
}

#[test]
fn settings_programs_and_what_git_runs_are_looked_at() {
    let sandbox = with_heron();
    let (found, _) = check(&sandbox, &[], "settings");
    assert_eq!(found["level"], "ok", "{found:#}");
    sandbox.git(&["config", "orchestra.jbos", "3"]);
    assert_level(&sandbox, "settings", "warn");
    sandbox.git(&["config", "--unset", "orchestra.jbos"]);
    sandbox.git(&["config", "filter.x.clean", "evil"]);
    let found = assert_level(&sandbox, "git config", "warn");
    assert_eq!(found["details"][0], "filter.x.clean = evil");
    // A program inside the repository is not run, not even to ask for its version.
    let canary = sandbox.root().join("canary");
    let evil = sandbox.repo().join("claude");
    std::fs::write(&evil, format!("#!/bin/sh\ntouch '{}'\necho 9.9.9\n", canary.display())).unwrap();
    std::fs::set_permissions(&evil, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let mut sandbox = sandbox;
    let path = format!("{}:/usr/bin:/bin", sandbox.repo().display());
    sandbox.set_env("PATH", path);
    let (found, _) = check(&sandbox, &[], "programs");
    assert!(found["details"].to_string().contains("is inside"), "{found:#}");
    assert!(!canary.exists());
    // The same outside is.
    let outside = sandbox.root().join("bin");
    std::fs::create_dir(&outside).unwrap();
    std::fs::rename(&evil, outside.join("claude")).unwrap();
    sandbox.set_env("PATH", format!("{}:/usr/bin:/bin", outside.display()));
    let (found, _) = check(&sandbox, &[], "programs");
    assert!(found["details"].to_string().contains("claude (9.9.9)"), "{found:#}");
}

#[test]
fn what_an_agent_writes_into_the_users_own_configuration_is_a_fault() {
    let script = "git config --global filter.x.clean evil; echo done >done";
    let sandbox = with_worker(Layout::default(), script);
    sandbox.orchestra(&["spawn", "--profile", "worker", "-m", "Do it.", "--name", "heron"]);
    let found = assert_level(&sandbox, "trust", "fail");
    assert!(found["details"][0].as_str().unwrap().ends_with("home/.gitconfig"), "{found:#}");
    let refused = sandbox.orchestra(&["remove", "heron"]);
    assert!(refused.code == 1 && refused.stderr.contains(".gitconfig"), "{refused}");
    sandbox.git(&["config", "--global", "--remove-section", "filter.x"]);
    sandbox.ok(&["remove", "heron"]);
    assert_level(&sandbox, "trust", "ok");
}

//! What we wrote is packed beside the user's own git, and the gates of newer formats hold.

use std::fmt::Write as _;

use crate::harness::sandbox::{Layout, ORCHESTRA};
use crate::harness::{Sandbox, wait_for};

fn loose(sandbox: &Sandbox) -> u64 {
    let counts = sandbox.git(&["count-objects", "-v"]);
    counts.lines().find_map(|line| line.strip_prefix("count: ")?.parse().ok()).unwrap()
}

#[test]
fn what_is_ours_is_packed_and_what_is_the_users_stays_as_it_is() {
    for layout in [
        Layout::default(),
        Layout { reftable: true, sha256: true, ..Layout::default() },
        Layout { bare: true, ..Layout::default() },
    ] {
        let sandbox = Sandbox::with(layout);
        let users = loose(&sandbox);
        let nothing = sandbox.orchestra(&["gc"]);
        assert!(nothing.code == 0 && loose(&sandbox) == users, "{nothing}");
        for number in 0..20 {
            sandbox.ok(&["task", "add", &format!("Task {number}"), "--label", "all"]);
        }
        // git's own maintenance would do nothing now and say that all is well.
        std::fs::write(sandbox.git_dir().join("objects/maintenance.lock"), "").unwrap();
        let before = sandbox.json(&["task", "list"]);
        let done = sandbox.json(&["gc"]);
        assert_eq!(done["data"]["packed"], true, "{done:#}");
        assert_eq!(done["data"]["commit_graph"], true, "{done:#}");
        assert_eq!(loose(&sandbox), users, "only what is the user's is loose: {done:#}");
        assert_eq!(sandbox.json(&["task", "list"]), before);
        assert!(sandbox.ok(&["gc"]).contains("nothing of ours was loose"));
        sandbox.ok(&["task", "add", "After"]);
        sandbox.assert_sound();
        std::fs::remove_file(sandbox.git_dir().join("objects/maintenance.lock")).unwrap();
        sandbox.git(&["gc", "--quiet", "--prune=now"]);
        assert_eq!(sandbox.json(&["task", "list"])["data"].as_array().unwrap().len(), 21);
        sandbox.ok(&["gc"]);
        sandbox.assert_sound();
    }
}

#[test]
fn many_packs_of_ours_become_one_and_the_users_stay() {
    let sandbox = Sandbox::new();
    sandbox.git(&["repack", "-q", "-a", "-d"]);
    let packs = || -> Vec<std::path::PathBuf> {
        let dir = std::fs::read_dir(sandbox.git_dir().join("objects/pack")).unwrap();
        let files = dir.map(|entry| entry.unwrap().path());
        files.filter(|file| file.extension().is_some_and(|end| end == "pack")).collect()
    };
    let users = packs();
    let mut combined = 0;
    for number in 0..9 {
        sandbox.ok(&["task", "add", &format!("Task {number}")]);
        combined += sandbox.json(&["gc"])["data"]["combined"].as_u64().unwrap();
    }
    assert_eq!((combined, packs().len()), (9, 2));
    assert!(packs().contains(&users[0]));
    assert_eq!(sandbox.json(&["task", "list"])["data"].as_array().unwrap().len(), 9);
    sandbox.assert_sound();
}

#[test]
fn packing_beside_writers_and_gits_own_gc_loses_nothing() {
    const WRITERS: usize = 3;
    const EACH: usize = 12;
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let sandbox = &sandbox;
                scope.spawn(move || {
                    for number in 0..EACH {
                        sandbox.ok(&["task", "add", &format!("{writer}/{number}")]);
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            let ours = scope.spawn(|| sandbox.ok(&["gc"]));
            sandbox.git(&["gc", "--quiet"]);
            ours.join().unwrap();
        }
    });
    sandbox.ok(&["gc"]);
    assert_eq!(sandbox.json(&["task", "list"])["data"].as_array().unwrap().len(), WRITERS * EACH);
    sandbox.assert_sound();
}

#[test]
fn it_runs_by_itself_once_enough_is_loose() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["task", "add", "First"]);
    let marker = sandbox.git_dir().join("orchestra/maintained.json");
    // As many loose objects as a thousand changes leave: of the user's, which stay as they are.
    let mut paths = String::new();
    for number in 0..6_000 {
        sandbox.write(&format!("../loose/{number}"), &number.to_string());
        writeln!(paths, "{}", sandbox.root().join(format!("loose/{number}")).display()).unwrap();
    }
    sandbox.try_git_in(sandbox.repo(), &["hash-object", "-w", "--stdin-paths"], paths.as_bytes());
    sandbox.ok(&["task", "add", "Second"]);
    assert!(!marker.exists(), "the user switched maintenance off");
    sandbox.git(&["config", "maintenance.auto", "true"]);
    let mut agent = sandbox.command(ORCHESTRA);
    agent.args(["task", "list"]).env("GIT_ORCHESTRA_AGENT", "zzzzzzzzzzzzzzzz");
    assert!(agent.output().unwrap().status.success());
    assert!(!marker.exists(), "an agent leaves nothing running");
    sandbox.ok(&["task", "add", "Third"]);
    wait_for("maintenance in the background", || marker.exists().then_some(()));
    assert!(loose(&sandbox) >= 6_000);
    let packed = sandbox.git(&["verify-pack", "-v", &pack(&sandbox)]);
    let tip = sandbox.git(&["rev-parse", "refs/orchestra/state"]);
    assert!(packed.contains(&tip), "{packed}");
    let before = std::fs::read(&marker).unwrap();
    sandbox.ok(&["task", "add", "Fourth"]);
    assert_eq!(std::fs::read(&marker).unwrap(), before, "not again for the same objects");
}

fn pack(sandbox: &Sandbox) -> String {
    let dir = std::fs::read_dir(sandbox.git_dir().join("objects/pack")).unwrap();
    let mut found =
        dir.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "idx"));
    found.next().unwrap().to_str().unwrap().to_owned()
}

/// Replaces the gates of the state.
fn set_gates(sandbox: &Sandbox, min_read: u32, min_write: u32) {
    let format = format!(
        "{{\n  \"format\": 2,\n  \"min_read\": {min_read},\n  \"min_write\": {min_write},\n  \"epoch\": 0,\n  \"floor\": 0\n}}\n"
    );
    sandbox.plumb_commit("refs/orchestra/state", "a newer build", &[("format.json", &format)]);
}

#[test]
fn a_newer_format_is_read_as_long_as_it_says_so_and_never_written() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["task", "add", "Before"]);
    set_gates(&sandbox, 1, 2);
    let tip = sandbox.git(&["rev-parse", "refs/orchestra/state"]);
    assert!(sandbox.ok(&["task", "list"]).contains("Before"), "min_read lets us read");
    assert_eq!(sandbox.orchestra(&["doctor"]).code, 0);
    for args in [&["task", "add", "After"][..], &["finding", "add", "x"], &["task", "close", "--help"]] {
        let out = sandbox.orchestra(args);
        if args.contains(&"--help") {
            assert_eq!(out.code, 0);
            continue;
        }
        assert_eq!(out.code, 1, "{out}");
        let error = "error: failed to write this repository's orchestra: it has format 2, and this build knows format 1";
        assert_eq!(out.stderr.lines().next(), Some(error), "{out}");
    }
    assert_eq!(sandbox.git(&["rev-parse", "refs/orchestra/state"]), tip);
    set_gates(&sandbox, 2, 2);
    let out = sandbox.orchestra(&["task", "list"]);
    let error =
        "error: failed to read this repository's orchestra: it has format 2, and this build knows format 1";
    assert!(out.code == 1 && out.stderr.starts_with(error), "{out}");
}

#[test]
fn a_remote_with_a_newer_format_changes_nothing_here() {
    let sandbox = Sandbox::new();
    let remote = sandbox.root().join("remote.git");
    sandbox.git(&["init", "--quiet", "--bare", remote.to_str().unwrap()]);
    sandbox.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    sandbox.ok(&["task", "add", "Ours"]);
    let ours = sandbox.git(&["rev-parse", "refs/orchestra/state"]);
    set_gates(&sandbox, 1, 2);
    sandbox.git(&["push", "--quiet", "origin", "refs/orchestra/state:refs/orchestra/state"]);
    sandbox.git(&["update-ref", "refs/orchestra/state", &ours]);
    let out = sandbox.orchestra(&["sync"]);
    assert!(out.code == 1 && out.stderr.contains("it has format 2"), "{out}");
    assert_eq!(sandbox.git(&["rev-parse", "refs/orchestra/state"]), ours);
}

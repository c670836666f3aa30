//! Whether what agents start from is behind: asked for in time, said, and no reason not to start.

use std::net::TcpListener;
use std::time::Instant;

use super::{agents, sandbox};
use crate::harness::Sandbox;

/// A clone whose remote has two commits more than it knows of.
fn behind() -> Sandbox {
    let sandbox = sandbox("echo work >file", "");
    let root = sandbox.root();
    let (remote, other) = (root.join("remote.git"), root.join("other"));
    sandbox.git(&["init", "--quiet", "--bare", "-b", "main", remote.to_str().unwrap()]);
    sandbox.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    sandbox.git(&["push", "--quiet", "--set-upstream", "origin", "main"]);
    sandbox.git(&["clone", "--quiet", remote.to_str().unwrap(), other.to_str().unwrap()]);
    for name in ["one", "two"] {
        crate::harness::sandbox::write_in(&other, name, name);
        sandbox.commit_in(&other, name);
    }
    sandbox.git_in(&other, &["push", "--quiet"]);
    sandbox
}

#[test]
fn what_is_behind_is_said_before_an_agent_begins_and_afterwards() {
    let sandbox = behind();
    let before = sandbox.fingerprint();
    let out = sandbox.orchestra(&["spawn", "-m", "Work"]);
    assert!(out.code == 0 && out.stderr.contains("warning: main is 2 commits behind origin/main"), "{out}");
    assert_eq!(sandbox.fingerprint(), before);
    let base = sandbox.json(&["show", "work"])["data"]["base"].clone();
    assert_eq!(base, sandbox.git(&["rev-parse", "main"]), "where it starts from is not decided by that");
    let status = sandbox.orchestra(&["status"]);
    assert!(status.stderr.contains("main is 2 commits behind origin/main"), "{status}");
    let out = sandbox.orchestra(&["spawn", "-m", "More", "--base", "origin/main"]);
    assert!(out.code == 0, "{out}");
    let base = sandbox.json(&["show", "more"])["data"]["base"].clone();
    assert_eq!(base, sandbox.git(&["rev-parse", "origin/main"]));
    sandbox.git(&["merge", "--quiet", "--ff-only", "origin/main"]);
    assert!(!sandbox.orchestra(&["status"]).stderr.contains("behind"));
}

#[test]
fn a_base_that_is_named_by_its_remote_is_fetched_too() {
    let sandbox = behind();
    let wanted = sandbox.git_in(&sandbox.root().join("other"), &["rev-parse", "HEAD"]);
    sandbox.ok(&["spawn", "-m", "Work", "--base", "origin/main"]);
    assert_eq!(sandbox.json(&["show", "work"])["data"]["base"], wanted);
}

#[test]
fn a_remote_that_does_not_answer_keeps_nobody_from_starting() {
    let mut sandbox = behind();
    let seen = sandbox.git(&["rev-parse", "origin/main"]);
    let never = sandbox.orchestra(&["spawn", "-m", "Unasked", "--no-fetch"]);
    assert!(never.code == 0 && !never.stderr.contains("behind"), "{never}");
    assert_eq!(sandbox.git(&["rev-parse", "origin/main"]), seen);
    sandbox.set_env("ORCHESTRA_BASE_FETCH", "never");
    sandbox.ok(&["spawn", "-m", "Never"]);
    assert_eq!(sandbox.git(&["rev-parse", "origin/main"]), seen);
    sandbox.set_env("ORCHESTRA_BASE_FETCH", "auto");
    // It takes connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/repo.git", silent.local_addr().unwrap());
    sandbox.git(&["remote", "set-url", "origin", &url]);
    sandbox.set_env("ORCHESTRA_BASE_TIMEOUT", "1s");
    let begun = Instant::now();
    let out = sandbox.orchestra(&["spawn", "-m", "Late", "--no-claim"]);
    assert!(out.code == 0 && out.stderr.contains("nothing was fetched from origin"), "{out}");
    assert!(out.stderr.contains("--no-fetch does not ask"), "{out}");
    assert!(begun.elapsed().as_secs() < 60);
    sandbox.git(&["remote", "set-url", "origin", "/nowhere/at/all"]);
    let out = sandbox.orchestra(&["spawn", "-m", "Gone", "--no-claim"]);
    assert!(out.code == 0 && out.stderr.contains("nothing was fetched from origin"), "{out}");
    assert_eq!(agents(&sandbox).len(), 4);
}

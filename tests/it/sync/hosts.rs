//! Hosts that take less than git can: what they take is asked, and state lives where they let it.

use std::os::unix::fs::PermissionsExt as _;

use super::*;
use crate::harness::Terminal;

/// Gives the bare remote a hook that judges pushes; each line of its input is `<old> <new> <ref>`.
fn hook(stage: &Stage, name: &str, script: &str) {
    let hook = stage.remote.repo().join("hooks").join(name);
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\n{script}\n")).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
}

const ONLY_BRANCHES: &str =
    "while read o n r; do case $r in refs/heads/*) ;; *) echo only branches here; exit 1;; esac; done";
const PREFIX: &str = "refs/heads/orchestra-state/";

/// What `init --remote` found, by name.
fn taken(machine: &Sandbox) -> serde_json::Map<String, serde_json::Value> {
    let out = machine.orchestra(&["init", "--remote", "--json"]);
    let document: serde_json::Value = serde_json::from_str(&out.stdout).unwrap_or_else(|_| panic!("{out}"));
    let takes = document["data"]["takes"].as_array().unwrap().clone();
    assert_eq!(document["data"]["left"], serde_json::json!([]), "{out}");
    takes.iter().map(|one| (one["what"].as_str().unwrap().to_owned(), one["taken"].clone())).collect()
}

#[test]
fn a_host_that_takes_only_branches_gets_branches() {
    let stage = Stage::new();
    hook(&stage, "pre-receive", ONLY_BRANCHES);
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    ada.ok(&["task", "add", "One"]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 1 && out.stderr.contains("pre-receive hook declined"), "{out}");
    let head = ada.git(&["rev-parse", "HEAD"]);
    ada.ok(&["finding", "add", "--commit", &head, "a note"]);
    for machine in [&ada, &bob] {
        machine.git(&["config", "orchestra.remotePrefix", PREFIX]);
        machine.ok(&["sync"]);
    }
    assert_eq!(stage.tip("refs/heads/orchestra-state/state"), state(&bob));
    assert_eq!(titles(&bob), ["One"]);
    assert!(bob.git(&["notes", "--ref=orchestra/findings", "show", &head]).contains("a note"));
    bob.ok(&["task", "add", "Two"]);
    bob.ok(&["push"]);
    assert_eq!(ada.ok(&["fetch"]), "new on origin: state");
    assert_eq!(ada.ok(&["sync"]), "from origin: 1 task");

    let last = state(&ada);
    stage.remote.git(&["update-ref", "refs/heads/orchestra-state/state", &format!("{last}~1")]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 6 && out.stderr.contains("refs/heads/orchestra-state/state was"), "{out}");
    for bad in ["refs/heads/orchestra/", "refs/heads/", "heads/x/", "refs/heads/x", "refs/heads/../x/"] {
        ada.git(&["config", "orchestra.remotePrefix", bad]);
        let out = ada.orchestra(&["sync"]);
        assert!(out.code == 1 && out.stderr.contains("failed to use the remote prefix"), "{bad}: {out}");
    }
}

#[test]
fn what_a_host_takes_is_tried_and_nothing_stays() {
    let stage = Stage::new();
    let ada = machine(&stage.path());
    ada.ok(&["init"]);
    let before = (ada.fingerprint(), stage.remote.git(&["for-each-ref"]));
    let out = ada.orchestra(&["init", "--remote"]);
    assert_eq!(out.code, 0, "{out}");
    insta::assert_snapshot!(out.to_string(), @r"
    exit 0
    --- stdout
    WHAT              TAKEN  FOR                      REASON
    refs of our own   yes    state
    notes             yes    findings and provenance
    branches          yes    agents' branches
    deleting refs     yes    claims that end
    compare-and-swap  yes    claims
    all or nothing    yes    several claims at once
    push options      no     nothing yet              not supported
    --- stderr
    state goes to refs/orchestra/ and notes on origin; nothing needs to be set
    ");
    assert_eq!((ada.fingerprint(), stage.remote.git(&["for-each-ref"])), before);
    stage.remote.git(&["config", "receive.advertisePushOptions", "true"]);
    assert!(taken(&ada).values().all(|taken| taken == true));
}

#[test]
fn a_prefix_is_proposed_and_set_only_when_the_user_agrees() {
    let stage = Stage::new();
    hook(&stage, "pre-receive", ONLY_BRANCHES);
    let ada = machine(&stage.path());
    ada.ok(&["init"]);
    let before = ada.fingerprint();
    let out = ada.orchestra(&["init", "--remote", "origin"]);
    assert_eq!(out.code, 1, "{out}");
    insta::assert_snapshot!(out.to_string(), @r"
    exit 1
    --- stdout
    WHAT              TAKEN  FOR                      REASON
    refs of our own   no     state                    pre-receive hook declined
    notes             no     findings and provenance  pre-receive hook declined
    branches          yes    agents' branches
    deleting refs     yes    claims that end
    compare-and-swap  yes    claims
    all or nothing    yes    several claims at once
    push options      no     nothing yet              not supported
    --- stderr
    origin takes only branches: state can live in refs/heads/orchestra-state/ there
    hint: nothing was set; `git config orchestra.remotePrefix refs/heads/orchestra-state/` does it
    ");
    assert_eq!(ada.fingerprint(), before, "nobody agreed");
    let out = ada.orchestra(&["init", "--remote", "origin", "--yes"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(ada.git(&["config", "orchestra.remotePrefix"]), PREFIX);
    assert_eq!(stage.remote.git(&["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
    ada.ok(&["task", "add", "One"]);
    ada.ok(&["sync"]);
    let out = ada.orchestra(&["init", "--remote"]);
    assert!(out.code == 0 && out.stderr.contains("as orchestra.remotePrefix says"), "{out}");
}

#[test]
fn what_a_host_does_not_do_is_said() {
    let stage = Stage::new();
    let ada = machine(&stage.path());
    stage.remote.git(&["config", "receive.advertiseAtomic", "false"]);
    stage.remote.git(&["config", "receive.denyNonFastForwards", "true"]);
    let takes = taken(&ada);
    assert_eq!((&takes["atomic"], &takes["compare-and-swap"]), (&false.into(), &true.into()));
    // That setting is about branches.
    hook(&stage, "pre-receive", ONLY_BRANCHES);
    let takes = taken(&ada);
    assert_eq!((&takes["own-refs"], &takes["compare-and-swap"]), (&false.into(), &false.into()));
    assert_eq!((&takes["branches"], &takes["deletion"]), (&true.into(), &true.into()));
    std::fs::remove_file(stage.remote.repo().join("hooks/pre-receive")).unwrap();

    hook(&stage, "update", "case $3 in 000*) exit 1;; esac; case $1 in refs/notes/*) exit 1;; esac");
    let out = ada.orchestra(&["init", "--remote"]);
    assert!(out.stderr.contains("would not let refs/orchestra/probe/"), "what is left is named: {out}");
    assert!(out.stdout.lines().any(|line| line.starts_with("deleting refs") && line.contains("no")), "{out}");

    hook(&stage, "pre-receive", "exit 1");
    let out = ada.orchestra(&["init", "--remote", "--yes"]);
    assert!(out.code == 1 && out.stderr.contains("takes neither refs of our own nor branches"), "{out}");
    let out = machine("/nowhere.git").orchestra(&["init", "--remote"]);
    assert!(out.code == 1 && out.stderr.contains("failed to reach origin: "), "{out}");
}

#[test]
fn what_takes_longer_than_a_glance_says_what_it_does_and_leaves_no_trace() {
    let stage = Stage::new();
    let gate = stage.remote.root().join("gate");
    hook(&stage, "pre-receive", &format!("while [ ! -e '{}' ]; do sleep 0.05; done", gate.display()));
    let ada = machine(&stage.path());
    ada.ok(&["task", "add", "One"]);
    let mut terminal = Terminal::orchestra(&ada, &["sync"], 24, 80);
    terminal.wait_for("syncing with origin 0s");
    terminal.wait_for("syncing with origin 1s");
    std::fs::write(gate, "").unwrap();
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    assert!(!terminal.screen().contains("syncing with"), "{}", terminal.screen());
    assert!(terminal.screen().contains("origin"), "{}", terminal.screen());
}

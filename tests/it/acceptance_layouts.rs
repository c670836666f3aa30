//! The state works in every kind of repository that users have, and touches nothing of theirs.

use crate::harness::{Layout, Sandbox};

fn works_in(layout: Layout) {
    let sandbox = Sandbox::with(layout);
    // A bare repository has no checkout to look at.
    let before = (!layout.bare).then(|| sandbox.fingerprint());
    let user_refs = || sandbox.git(&["for-each-ref", "refs/heads", "refs/tags", "refs/remotes"]);
    let refs = user_refs();

    let first = sandbox.ok(&["task", "add", "First", "-m", "A body.", "--priority", "3"]);
    let second = sandbox.ok(&["task", "add", "Second", "--after", &first]);
    // As people are shown them.
    let (one, other) = (&first[..4], &second[..4]);
    let ready = sandbox.ok(&["task", "ready"]);
    assert!(ready.contains(one) && !ready.contains(other), "{ready}");
    let cycle = sandbox.orchestra(&["task", "edit", &first, "--after", &second]);
    assert_eq!(cycle.code, 1, "{cycle}");
    assert!(cycle.stderr.contains(one) && cycle.stderr.contains(other), "the cycle is named: {cycle}");
    if !layout.unborn {
        sandbox.ok(&["finding", "add", "Too short", "--path", "README.md:1", "--severity", "medium"]);
        let notes = sandbox.git(&["log", "--all", "--notes=orchestra/*", "--format=%N"]);
        assert!(notes.contains("Too short"), "{notes}");
        assert!(sandbox.ok(&["finding", "list"]).contains("README.md:1"));
    }
    sandbox.ok(&["task", "close", &first]);
    assert!(sandbox.ok(&["task", "ready"]).contains(other));
    let log = sandbox.git(&["log", "--format=%an|%s", "refs/orchestra/state"]);
    assert!(log.lines().filter(|line| line.starts_with("Ada Example|")).count() >= 4, "{log}");
    assert_eq!(sandbox.git(&["show", "refs/orchestra/state:format.json"]).matches("\"format\"").count(), 1);

    assert_eq!(user_refs(), refs);
    if let Some(before) = before {
        assert_eq!(sandbox.fingerprint(), before);
    }
    sandbox.assert_sound();
}

#[test]
fn a_plain_repository() {
    works_in(Layout::default());
}

#[test]
fn a_linked_worktree() {
    works_in(Layout { linked: true, ..Layout::default() });
}

#[test]
fn a_bare_repository() {
    works_in(Layout { bare: true, ..Layout::default() });
}

#[test]
fn refs_in_a_reftable() {
    works_in(Layout { reftable: true, ..Layout::default() });
}

#[test]
fn objects_named_by_sha256() {
    works_in(Layout { sha256: true, ..Layout::default() });
}

#[test]
fn no_commit_yet() {
    works_in(Layout { unborn: true, ..Layout::default() });
}

#[test]
fn outside_of_any_repository_there_is_one_sentence() {
    let sandbox = Sandbox::new();
    let output = sandbox.orchestra_in(sandbox.home(), &["task", "list"]);
    assert_eq!(output.code, 1, "{output}");
    assert_eq!(output.stdout, "");
    assert_eq!(output.stderr.lines().filter(|line| line.starts_with("error: ")).count(), 1, "{output}");
}

//! A removal takes everything or nothing, and what it took is told.

use std::fs;

use crate::harness::Sandbox;
use crate::harness::sandbox::Layout;
use crate::recover::{heron, with_worker};

fn rescued(sandbox: &Sandbox) -> String {
    sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/rescue"])
}

fn id(sandbox: &Sandbox) -> String {
    sandbox.json(&["show", "heron"])["data"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_removal_that_fails_takes_nothing() {
    let sandbox = with_worker(Layout::default(), "echo done >done");
    let path = heron(&sandbox);
    fs::write(path.join("precious.txt"), "precious\n").unwrap();
    let lock = sandbox.git_dir().join("packed-refs.lock");
    fs::write(&lock, "").unwrap();
    let out = sandbox.orchestra(&["remove", "heron"]);
    assert_eq!(out.code, 1, "{out}");
    assert_eq!(fs::read_to_string(path.join("precious.txt")).unwrap(), "precious\n");
    assert_eq!(rescued(&sandbox), "", "nothing that nobody names");
    fs::remove_file(&lock).unwrap();
    assert_eq!(sandbox.ok(&["recover"]), "nothing to recover");
    assert_eq!(sandbox.json(&["status"])["data"][0]["state"], "done");
    let said = sandbox.ok(&["remove", "heron"]);
    assert!(said.contains("refs/orchestra/rescue/heron/1") && !path.exists(), "{said}");
    assert_eq!(sandbox.git(&["show", "refs/orchestra/rescue/heron/1:precious.txt"]), "precious");
    sandbox.ok(&["undo", "--yes"]);
    assert_eq!(fs::read_to_string(path.join("precious.txt")).unwrap(), "precious\n");
    assert_eq!(sandbox.ok(&["recover"]), "nothing to recover");
    sandbox.assert_sound();
}

#[test]
fn what_a_removal_left_goes_with_the_next_command() {
    let sandbox = with_worker(Layout::default(), "echo done >done");
    let path = heron(&sandbox);
    let pending = sandbox.git_dir().join("orchestra/removals").join(id(&sandbox));
    // Killed before the record was written: nothing was removed.
    fs::create_dir_all(pending.parent().unwrap()).unwrap();
    fs::write(&pending, "").unwrap();
    assert_eq!(sandbox.ok(&["recover"]), "nothing to recover");
    assert!(path.join("done").exists() && !pending.exists());
    // And after it.
    sandbox.ok(&["remove", "heron"]);
    assert!(!path.exists() && !pending.exists());
    sandbox.git(&["worktree", "add", "-q", "--detach", path.to_str().unwrap()]);
    fs::write(sandbox.git_dir().join("worktrees/heron/orchestra"), "").unwrap();
    fs::write(&pending, "").unwrap();
    let said = sandbox.ok(&["recover"]);
    assert!(said.contains("the worktree of heron, which went before"), "{said}");
    assert!(!path.exists() && !pending.exists());
    sandbox.assert_sound();
}

#[test]
fn a_worktree_that_is_made_again_names_what_was_kept_of_it() {
    let sandbox = with_worker(Layout::default(), "echo done >done");
    let path = heron(&sandbox);
    let keep = |agent: &str, number: u32| {
        let message = format!("Kept of heron\n\nOrchestra-Agent: {agent}");
        let commit = sandbox.git(&["commit-tree", "-m", &message, "HEAD^{tree}"]);
        sandbox.git(&["update-ref", &format!("refs/orchestra/rescue/heron/{number}"), &commit]);
    };
    let again = || {
        fs::remove_dir_all(&path).unwrap();
        sandbox.ok(&["recover", "heron"])
    };
    keep("k3v8w0zzzzzzzzzz", 1);
    assert!(again().contains("not committed is gone"), "that was another agent's");
    keep(&id(&sandbox), 2);
    let said = again();
    assert!(said.contains("refs/orchestra/rescue/heron/2") && !said.contains("gone"), "{said}");
}

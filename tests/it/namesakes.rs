//! Agents of two machines with one name, and agents that went on elsewhere: a branch here is not what it is called.

use crate::claims::{field, remote, task};
use crate::worker::workshop;

#[test]
fn an_agent_of_another_machine_with_the_same_name_is_not_merged_for_it() {
    let remote = remote();
    let (ada, bob) = (workshop(&remote, "echo ada >ada.txt"), workshop(&remote, "echo bob >bob.txt"));
    let (first, second) = (task(&ada, "First"), task(&ada, "Second"));
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    ada.ok(&["spawn", &first, "--name", "fixer"]);
    bob.ok(&["spawn", &second, "--name", "fixer"]);
    for machine in [&bob, &ada, &bob] {
        machine.ok(&["sync"]);
    }

    // Each command means this machine's own, and both branches can be sent, though only one of them fits there.
    assert!(
        ada.ok(&["show", "fixer"]).contains(&first[..4]) && bob.ok(&["show", "fixer"]).contains(&second[..4])
    );
    assert!(ada.ok(&["diff", "fixer"]).contains("ada.txt"));
    ada.ok(&["resume", "fixer", "-m", "Again."]);
    ada.ok(&["push", "--branches"]);
    let out = bob.orchestra(&["push", "--branches"]);
    assert!(out.code == 1 && out.stderr.contains("the remote has other commits on it"), "{out}");

    let plan = ada.json(&["merge", "--dry-run"]);
    assert!(plan.to_string().contains("its work is on another machine"), "{plan:#}");
    let out = ada.orchestra(&["merge"]);
    assert!(out.code == 0 && out.stdout.contains("of 1 agent is there"), "{out}");
    let closed = |task: &str| ada.json(&["show", task])["data"]["status"].clone();
    assert_eq!((closed(&first), closed(&second)), ("closed".into(), "started".into()));
    // By its id, it is said where it is.
    let rows = ada.json(&["status", "--all"])["data"].clone();
    let other = rows.as_array().unwrap().iter().find(|row| row["task"] == second.as_str()).unwrap();
    let out = ada.orchestra(&["merge", other["id"].as_str().unwrap()]);
    assert!(out.code == 1 && out.stderr.contains("its work is on machine"), "{out}");

    // Its own machine lands it.
    ada.git(&["push", "--quiet", "origin", "main"]);
    ada.ok(&["sync"]);
    bob.git(&["pull", "--quiet", "--ff-only", "origin", "main"]);
    bob.ok(&["sync"]);
    bob.ok(&["merge"]);
    let files = bob.git(&["ls-tree", "--name-only", "main"]);
    assert!(files.contains("ada.txt") && files.contains("bob.txt"), "{files}");
    bob.ok(&["remove", "fixer"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    assert!(ada.ok(&["status"]).contains("fixer"), "the other one's removal is not ours");
}

#[test]
fn what_an_agent_did_where_it_was_taken_to_is_not_landed_without() {
    let remote = remote();
    let (ada, bob) = (workshop(&remote, "echo one >one.txt"), workshop(&remote, "echo two >two.txt"));
    let id = task(&ada, "Quick");
    ada.ok(&["worker", "--once"]);
    let name = format!("quick-{}", &id[..6]);
    bob.ok(&["take", &name]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    let out = ada.orchestra(&["merge"]);
    assert!(out.stderr.contains("its work is on another machine"), "{out}");
    assert!(!ada.git(&["ls-tree", "--name-only", "main"]).contains("one.txt"), "{out}");
    assert_eq!(field(&ada, &id, "status"), "started");
    // What is on the remote is its work, and once the branch here has it that is merged.
    let branch = format!("orchestra/{name}");
    let worktree = ada.root().join("repo.orchestra").join(&name);
    ada.git_in(&worktree, &["pull", "--quiet", "--ff-only", "origin", &branch]);
    ada.ok(&["merge"]);
    let files = ada.git(&["ls-tree", "--name-only", "main"]);
    assert!(files.contains("one.txt") && files.contains("two.txt"), "{files}");
}

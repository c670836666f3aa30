//! `undo` of what works by itself or with other machines: worker, take, prune, gc, detached spawns.

use crate::claims::{claims, field, machine, remote, task};
use crate::harness::wait_for;
use crate::undo::{last, visible, worktrees};
use crate::worker::{with_task, workshop};

#[test]
fn what_a_worker_did_goes_back_on_all_machines_but_for_what_is_said() {
    let remote = remote();
    let bob = workshop(&remote, "echo one >one.txt; git add -A; git commit -qm one; echo two >two.txt");
    let ada = machine(&remote);
    let id = task(&bob, "Write it");
    bob.ok(&["sync"]);
    let before = visible(&bob);
    bob.ok(&["worker", "--until-empty"]);
    let (after, worked) = (visible(&bob), last(&bob));
    ada.ok(&["sync"]);
    let name = format!("write-it-{}", &id[..6]);

    let shown = bob.ok(&["undo", "--dry-run"]);
    for words in [
        format!("undo {} worker --until-empty", &worked[..6]),
        format!("not brought back: the tokens and money that {name} spent"),
        format!("not brought back: origin/orchestra/{name}, which the remote has and keeps"),
        format!("removes the worktree and branch of {name}; what is only there is kept"),
    ] {
        assert!(shown.contains(&words), "{words}: {shown}");
    }
    let out = ada.ok(&["undo", "--dry-run", &worked]);
    assert!(out.contains(&format!("the worktree and branch of {name} on machine")), "{out}");
    let out = bob.ok(&["undo", "--yes"]);
    assert_eq!(visible(&bob), before, "{out}");
    let kept = bob.git(&["log", "--format=%s", "-2", &format!("refs/orchestra/rescue/{name}/1")]);
    assert_eq!(kept, "Write it\none", "its work is kept");
    // There and back.
    bob.ok(&["undo", "--yes", &last(&bob)]);
    assert_eq!(visible(&bob), after);
    bob.ok(&["undo", "--yes", &last(&bob)]);
    assert_eq!(visible(&bob), before);

    bob.ok(&["sync"]);
    assert!(claims(&remote).is_empty());
    ada.ok(&["sync"]);
    assert_eq!(field(&ada, &id, "status"), "open");
    assert_eq!(ada.ok(&["task", "claim", &id]), id[..4], "anybody may have it");
    assert_eq!(field(&ada, &id, "fence"), 2, "and what was is not forgotten");
    bob.ok(&["sync"]);
    // Others went on from there: it is theirs now.
    let out = bob.orchestra(&["undo", "--yes", &worked]);
    assert!(out.code == 1 && out.stderr.contains("undone already"), "{out}");
    bob.assert_sound();
    ada.assert_sound();
}

#[test]
fn an_agent_that_was_taken_goes_back_to_its_machine() {
    let (remote, ada, id) =
        with_task("echo $GIT_ORCHESTRA_RUN >>one.txt; git add -A; git commit -qm one; exit 3", "Write it");
    assert_eq!(ada.orchestra(&["worker", "--once"]).code, 4);
    let bob = workshop(&remote, "echo two >two.txt");
    let name = format!("write-it-{}", &id[..6]);
    let before = visible(&bob);
    bob.ok(&["take", &name]);
    let shown = bob.ok(&["undo", "--dry-run"]);
    assert!(shown.contains(&format!("origin/orchestra/{name}, which the remote has and keeps")), "{shown}");
    assert!(shown.contains(&format!("removes the worktree and branch of {name}")), "{shown}");
    bob.ok(&["undo", "--yes"]);
    assert_eq!(visible(&bob), before);
    let kept = bob.git(&["show", &format!("refs/orchestra/rescue/{name}/1:two.txt")]);
    assert_eq!(kept, "two", "what it did here is kept");
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    assert_eq!(field(&ada, &id, "result"), "failed: exit 3");
    assert!(claims(&remote).is_empty());
    assert_eq!(ada.orchestra(&["resume", &name]).code, 4, "it is hers again");
    let out = bob.orchestra(&["resume", &name]);
    assert!(out.code == 1 && out.stderr.contains("git orchestra take"), "{out}");
    ada.assert_sound();
    bob.assert_sound();
}

#[test]
fn a_detached_spawn_and_a_prune_go_back() {
    let gate = tempfile::tempdir().unwrap();
    let wait = format!("while ! test -e {}/go; do sleep 0.05; done", gate.path().display());
    let bob = workshop(&remote(), &format!("echo one >one.txt; {wait}"));
    let id = task(&bob, "Write it");
    let before = visible(&bob);
    bob.ok(&["spawn", "--detach", &id]);
    let spawned = last(&bob);
    let out = bob.orchestra(&["undo", "--yes"]);
    assert!(out.code == 1 && out.stderr.contains("write-it is running"), "{out}");
    std::fs::write(gate.path().join("go"), "").unwrap();
    assert_eq!(bob.orchestra(&["wait", "write-it", "--timeout", "60s"]).code, 0);
    assert_eq!(last(&bob), spawned, "what the process of its own wrote belongs to the command");
    // It says that it is over a moment before it is gone.
    wait_for("its end", || (bob.orchestra(&["undo", "--yes"]).code == 0).then_some(()));
    assert_eq!(visible(&bob), before);
    bob.ok(&["undo", "--yes", &last(&bob)]);
    assert_eq!(worktrees(&bob).len(), 2);

    bob.ok(&["merge"]);
    let merged = visible(&bob);
    let rescues = || bob.git(&["for-each-ref", "--format=%(refname) %(objectname)", "refs/orchestra/rescue"]);
    let kept = rescues();
    let out = bob.ok(&["prune", "--yes", "--older-than", "0s"]);
    assert!(out.contains("rescue") && rescues().is_empty() && worktrees(&bob).len() == 1, "{out}");
    let shown = bob.ok(&["undo", "--dry-run"]);
    for words in [
        "brings back the worktree and branch of write-it",
        "brings back refs/orchestra/rescue/write-it/1",
        "not brought back: files that it deleted",
    ] {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    bob.ok(&["undo", "--yes"]);
    assert_eq!((visible(&bob), rescues()), (merged, kept));
    let operation = last(&bob);
    bob.ok(&["gc"]);
    assert_eq!(last(&bob), operation, "packing is nothing to undo");
    bob.assert_sound();
}

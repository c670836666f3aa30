//! An agent of another machine goes on here; and what is known of other machines.

use nix::sys::signal::Signal;

use crate::claims::{claims, field, machine, remote, task};
use crate::harness::wait_for;
use crate::worker::{Running, workshop};

#[test]
fn an_agent_of_a_dead_machine_goes_on_here() {
    let remote = remote();
    let script = "echo one >one.txt; git add -A; git commit -qm one; echo half >half.txt; echo said this; exec sleep 600";
    let mut ada = workshop(&remote, script);
    ada.set_env("ORCHESTRA_CLAIM_TTL", "2s");
    ada.set_env("ORCHESTRA_TRANSCRIPTS", "remote");
    let id = task(&ada, "Slow");
    ada.ok(&["sync"]);
    let bob = workshop(&remote, "printf %s \"$GIT_ORCHESTRA_PROMPT\" >prompt.txt; echo two >two.txt");
    let name = format!("slow-{}", &id[..6]);
    let worker = Running::start(&ada, &["--once"]);
    let snapshot = || remote.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/snapshots"]);
    wait_for("a snapshot of all that it did", || {
        let names = remote.try_git_in(remote.repo(), &["show", "--name-only", "--format=", &snapshot()], b"");
        names.stdout.contains("half.txt").then_some(())
    });
    bob.ok(&["sync"]);
    let fleet = bob.ok(&["status", "--machines"]);
    assert!(fleet.contains(&name) && fleet.contains("old by our clock"), "{fleet}");
    let out = bob.orchestra(&["take", &name]);
    assert!(
        out.code == 1
            && out.stderr.contains("of 2 s by this machine's clock")
            && out.stderr.contains("is lost"),
        "{out}"
    );
    worker.signal(Signal::SIGKILL);
    drop(worker);
    let out = wait_for("the time to pass", || {
        let out = bob.orchestra(&["take", &name, "-m", "Be quick."]);
        (out.code == 0).then_some(out)
    });
    assert!(out.stderr.contains("its branch, what it had not committed"), "{out}");
    let branch = format!("orchestra/{name}");
    let prompt = bob.git(&["show", &format!("{branch}:prompt.txt")]);
    for words in
        ["Slow", "Be quick.", "Another agent has begun with this", "half.txt", "not heard of any more"]
    {
        assert!(prompt.contains(words), "{words}: {prompt}");
    }
    let subjects = bob.git(&["log", "--format=%s", "-3", &branch]);
    assert_eq!(subjects, format!("Slow\nUncommitted work of {name}\none"));
    assert_eq!(field(&bob, &id, "fence"), 2);
    assert_eq!(claims(&remote), [id.as_str()]);
    bob.ok(&["sync"]);
    // The machine that was dead comes back: it is not its agent any more.
    ada.orchestra(&["recover"]);
    ada.ok(&["sync"]);
    let out = ada.orchestra(&["resume", &name]);
    assert!(out.code == 1 && out.stderr.contains("git orchestra take"), "{out}");
    assert_eq!(field(&ada, &id, "fence"), 2);
    bob.ok(&["resume", &name]);
}

#[test]
fn an_agent_that_is_done_goes_on_anywhere() {
    let remote = remote();
    let mut ada = workshop(&remote, "echo one >one.txt; echo said this; exit 3");
    ada.set_env("ORCHESTRA_TRANSCRIPTS", "remote");
    let id = task(&ada, "Quick");
    assert_eq!(ada.orchestra(&["worker", "--once"]).code, 4);
    let bob = workshop(&remote, "printf %s \"$GIT_ORCHESTRA_PROMPT\" >prompt.txt");
    let name = format!("quick-{}", &id[..6]);
    let out = ada.orchestra(&["take", &name]);
    assert!(out.code == 1 && out.stderr.contains("it is of this machine"), "{out}");
    let out = bob.orchestra(&["take", &name]);
    assert!(out.code == 0 && out.stderr.contains("its transcript"), "{out}");
    let prompt = bob.git(&["show", &format!("orchestra/{name}:prompt.txt")]);
    assert!(prompt.contains("it said: said this") && prompt.contains("one.txt"), "{prompt}");
}

#[test]
fn machines_are_as_old_as_we_know_them_to_be() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    assert!(ada.orchestra(&["status", "--machines"]).stderr.contains("no other machine is known"));
    let id = task(&ada, "One");
    ada.ok(&["sync"]);
    ada.ok(&["task", "claim", &id]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    let fleet = bob.json(&["status", "--machines"]);
    let fleet = fleet["data"].as_array().unwrap();
    assert_eq!(fleet.len(), 2, "{fleet:?}");
    assert!(fleet[0]["own"] == true && fleet[0]["presence"] == "unseen", "we said nothing yet: {fleet:?}");
    assert!(fleet[1]["presence"] == "heard" && fleet[1]["holds"][0] == id.as_str(), "{fleet:?}");
    remote.git(&[
        "update-ref",
        "-d",
        &format!("refs/orchestra/machines/{}", fleet[1]["machine"].as_str().unwrap()),
    ]);
    let text = bob.ok(&["status", "--all"]);
    assert!(text.contains("unseen") && text.contains("this one"), "{text}");
}

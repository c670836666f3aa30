//! Agents of another machine: known by what it said, and touched by nothing that is done here.

use nix::sys::signal::Signal;

use crate::claims::{field, remote, task};
use crate::harness::{Sandbox, wait_for};
use crate::worker::{Running, workshop};

/// How an agent stands, as `status` says.
fn standing(machine: &Sandbox, name: &str) -> Option<serde_json::Value> {
    let all = machine.json(&["status"]);
    all["data"].as_array().unwrap().iter().find(|one| one["name"] == name).cloned()
}

fn machine_name(machine: &Sandbox) -> String {
    std::fs::read_to_string(machine.repo().join(".git/orchestra/machine")).unwrap().trim().to_owned()
}

#[test]
fn a_run_on_another_machine_is_neither_lost_nor_ours() {
    let remote = remote();
    let ada = workshop(&remote, "echo one >one.txt; git add -A; git commit -qm one; exec sleep 600");
    let id = task(&ada, "Slow");
    ada.ok(&["sync"]);
    let bob = workshop(&remote, "true");
    let (name, there) = (format!("slow-{}", &id[..6]), machine_name(&ada));
    let worker = Running::start(&ada, &["--once"]);
    let seen = wait_for("its run to be known", || {
        bob.ok(&["sync"]);
        standing(&bob, &name).filter(|one| one["runs"] == 1)
    });
    assert_eq!(seen["state"], "elsewhere", "{seen}");
    // Heartbeats are asked for here.
    bob.ok(&["status", "--machines"]);
    let evidence = standing(&bob, &name).unwrap()["evidence"].as_str().unwrap().to_owned();
    assert!(evidence.starts_with(&format!("on machine {there}, heard ")), "{evidence}");
    let text = bob.ok(&["status"]);
    assert!(text.contains("not here") && !text.contains("lost") && !text.contains("gone"), "{text}");
    let line = bob.ok(&["status", "--porcelain"]);
    assert_eq!(line.split('\t').nth(2), Some("elsewhere"), "{line}");
    let out = bob.orchestra(&["wait", &name, "--timeout", "1s"]);
    assert!(out.code == 7 && out.stderr.contains("a sync brings"), "{out}");
    for asked in [&["stop", &name][..], &["send", &name, "hello"], &["interrupt", &name], &["attach", &name]]
    {
        let out = bob.orchestra(asked);
        assert!(
            out.code == 1 && out.stderr.contains(&there) && out.stderr.contains("git orchestra take"),
            "{asked:?}: {out}"
        );
    }
    let out = bob.orchestra(&["remove", &name]);
    assert!(
        out.code == 1
            && out.stderr.contains(&format!("its run on machine {there} is not over"))
            && out.stderr.contains("--force"),
        "{out}"
    );
    assert_eq!(field(&bob, &id, "status"), "started", "its task is still its own");
    assert_eq!(standing(&ada, &name).unwrap()["state"], "running", "and it works on");
    worker.signal(Signal::SIGINT);
    worker.end();
    wait_for("its end to be known", || {
        bob.ok(&["sync"]);
        (standing(&bob, &name)?["state"] == "stopped").then_some(())
    });
    assert_eq!(bob.orchestra(&["wait", &name]).code, 4);
    // Over or not: what is not here is not taken for what is elsewhere too.
    let out = bob.orchestra(&["remove", &name]);
    assert!(
        out.code == 1 && out.stderr.contains(&format!("machine {there} may have the only copy")),
        "{out}"
    );
    let said = bob.ok(&["remove", &name, "--force"]);
    assert!(said.contains(&format!("what it did is on machine {there}")), "{said}");
    assert!(!said.contains("all of its work"), "{said}");
    assert!(ada.git(&["show", &format!("orchestra/{name}:one.txt")]) == "one");
}

//! Agents of another machine: known by what it said, and touched by nothing that is done here.

use nix::sys::signal::Signal;

use crate::claims::{field, remote, task};
use crate::harness::{Sandbox, wait_for};
use crate::worker::{Running, with_task, workshop};

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
    let (remote, ada, id) =
        with_task("echo one >one.txt; git add -A; git commit -qm one; exec sleep 600", "Slow");
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

#[test]
fn a_log_that_is_not_here_is_said_and_hides_no_other() {
    let remote = remote();
    let ada = workshop(&remote, "echo said by ada; exit 3");
    let id = task(&ada, "Quick");
    assert_eq!(ada.orchestra(&["worker", "--once"]).code, 4);
    let name = format!("quick-{}", &id[..6]);
    let bob = workshop(&remote, "echo said by bob");
    let absent = |machine: &Sandbox| format!("its transcript is on machine {}", machine_name(machine));
    let text = bob.ok(&["log", &name]);
    assert!(text.contains("run 1, started") && text.contains(&absent(&ada)), "{text}");
    let json = bob.json(&["log", &name]);
    let run = &json["data"][0];
    assert!(run["absent"] == absent(&ada).as_str() && run["events"].as_array().unwrap().is_empty(), "{json}");
    assert!(bob.orchestra(&["log", &name, "--raw"]).stderr.contains(&absent(&ada)));
    bob.ok(&["take", &name]);
    let text = bob.ok(&["log", &name]);
    assert!(text.contains("on the machine where it ran") && text.contains("said by bob"), "{text}");
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    let text = ada.ok(&["log", &name]);
    assert!(text.contains("said by ada") && text.contains(&absent(&bob)), "{text}");
    // Journal and transcript went, as with time.
    let agent = bob.json(&["show", &name])["data"].clone();
    let tree = agent["runs"]["2"]["transcript"].as_str().unwrap();
    let git = bob.repo().join(".git");
    std::fs::remove_file(git.join("objects").join(&tree[..2]).join(&tree[2..])).unwrap();
    let journal = git.join("orchestra/journal").join(agent["id"].as_str().unwrap());
    // It may have gone already.
    std::fs::remove_dir_all(journal).ok();
    assert!(bob.ok(&["log", &name]).contains("its transcript is not kept any more"));
}

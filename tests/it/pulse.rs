//! Claims of agents that a person started: kept alive as long as they run, a person's when they are over.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use nix::sys::signal::Signal;

use crate::claims::{claims, field, hook, kill_who_pushes, machine, remote, task};
use crate::harness::{Sandbox, sandbox, wait_for};
use crate::life::watcher;
use crate::worker::workshop;

const TTL: &str = "2s";

/// A remote, a machine whose agents work until the gate is open, another machine, and a task that both know.
struct Stage {
    remote: Sandbox,
    ada: Sandbox,
    bob: Sandbox,
    id: String,
    gate: PathBuf,
}

fn stage() -> Stage {
    let remote = remote();
    let gate = remote.root().join("gate");
    let script = format!("echo mine >mine.txt; while ! test -e {}; do sleep 0.05; done", gate.display());
    let mut ada = workshop(&remote, &script);
    ada.set_env("ORCHESTRA_CLAIM_TTL", TTL);
    let id = task(&ada, "Slow");
    ada.ok(&["sync"]);
    let bob = machine(&remote);
    bob.ok(&["sync"]);
    Stage { remote, ada, bob, id, gate }
}

impl Stage {
    /// What the claim on the remote says.
    fn claim(&self) -> serde_json::Value {
        let name = format!("refs/orchestra/claims/{}", self.id);
        let line = self.remote.git(&[
            "log",
            "-1",
            "--format=%(trailers:key=Orchestra-Claim,valueonly,unfold)",
            &name,
        ]);
        serde_json::from_str(&line).unwrap()
    }

    fn heartbeat(&self) -> String {
        self.remote.git(&["for-each-ref", "--format=%(objectname)", "refs/orchestra/machines"])
    }

    /// Waits for so many heartbeats, while Bob wants the task all the time.
    fn is_kept_for(&self, beats: usize) {
        let mut heard = BTreeSet::new();
        wait_for("heartbeats", || {
            let out = self.bob.orchestra(&["task", "claim", &self.id]);
            assert!(out.code == 1 && out.stderr.contains("of 2 s by this machine's clock"), "{out}");
            heard.insert(self.heartbeat());
            (heard.len() > beats).then_some(())
        });
    }

    fn waits_for_a_person(&self) {
        wait_for("the end to be told", || self.claim()["ttl"].is_null().then_some(()));
        assert!(self.claim()["over"].is_null() && self.claim()["spawned"] == true, "{}", self.claim());
        let out = self.bob.orchestra(&["task", "claim", &self.id]);
        assert!(out.code == 1 && out.stderr.contains("until it is released there"), "{out}");
    }
}

#[test]
fn what_a_detached_agent_works_on_is_kept_until_its_machine_dies() {
    let stage = stage();
    let Stage { ada, bob, id, remote, .. } = &stage;
    ada.ok(&["spawn", "--detach", id]);
    // Beyond the time to live, four times a third of it.
    stage.is_kept_for(5);
    sandbox::kill(watcher(ada), Signal::SIGKILL);
    wait_for("a takeover", || (bob.orchestra(&["task", "claim", id]).code == 0).then_some(()));
    assert_eq!(field(bob, id, "fence"), 2);
    bob.ok(&["sync"]);
    // Ada is there again.
    let out = ada.orchestra(&["resume", "slow"]);
    assert!(
        out.code == 1 && out.stderr.contains("holds it") && out.stderr.contains("task claim --force"),
        "{out}"
    );
    let out = ada.orchestra(&["resume", "--no-claim", "slow"]);
    assert!(out.code == 1 && out.stderr.contains("holds its task"), "by the state alone: {out}");
    // What was begun lands if a person wants it, and is not what became of the task.
    ada.ok(&["merge", "slow"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    for one in [ada, bob] {
        assert_eq!((field(one, id, "status"), field(one, id, "fence")), ("started".into(), 2.into()));
        assert!(field(one, id, "result").is_null());
    }
    assert_eq!(claims(remote), [id.as_str()], "it is Bob's");
    // A person may take it back.
    ada.ok(&["task", "claim", "--force", id]);
    fs::write(&stage.gate, "").unwrap();
    ada.ok(&["task", "release", id]);
}

#[test]
fn an_agent_whose_task_was_taken_over_is_stopped() {
    let stage = stage();
    let Stage { ada, bob, id, .. } = &stage;
    ada.ok(&["spawn", "--detach", id]);
    bob.ok(&["task", "claim", "--force", id]);
    let out = ada.orchestra(&["wait", "slow", "--timeout", "60"]);
    assert_eq!(out.code, 4, "{out}");
    let status = ada.ok(&["show", "slow"]);
    assert!(status.contains("another machine"), "{status}");
    assert_eq!(ada.git(&["show", "orchestra/slow:mine.txt"]), "mine", "what it did is safe");
    assert_eq!(stage.claim()["fence"], 2);
}

#[test]
fn what_is_over_waits_for_a_person_and_what_goes_on_is_kept_again() {
    let mut stage = stage();
    stage.ada.set_env("ORCHESTRA_CLAIM_TTL", "10m");
    let Stage { ada, id, remote, gate, .. } = &stage;
    let pushes = remote.root().join("pushes");
    hook(remote, "post-receive", &format!("cat >/dev/null; echo x >>{}", pushes.display()));
    fs::write(gate, "").unwrap();
    ada.ok(&["spawn", id]);
    let count = fs::read_to_string(&pushes).unwrap().lines().count();
    assert_eq!(count, 2, "its claim and its end");
    stage.waits_for_a_person();
    assert_eq!(stage.claim()["fence"], 1);

    stage.ada.set_env("ORCHESTRA_CLAIM_TTL", TTL);
    let Stage { ada, bob, id, remote, gate } = &stage;
    fs::remove_file(gate).unwrap();
    ada.ok(&["resume", "--detach", "slow"]);
    assert_eq!((stage.claim()["ttl"].clone(), stage.claim()["fence"].clone()), (2.into(), 1.into()));
    stage.is_kept_for(5);
    fs::write(gate, "").unwrap();
    ada.ok(&["wait", "slow"]);
    stage.waits_for_a_person();

    // What was given back meanwhile is claimed anew, and stays the agent's.
    let agent = field(ada, id, "assignee");
    remote.git(&["update-ref", "-d", &format!("refs/orchestra/claims/{id}")]);
    ada.git(&["update-ref", "-d", &format!("refs/orchestra/claims/{id}")]);
    ada.ok(&["resume", "slow"]);
    stage.waits_for_a_person();
    assert_eq!((field(ada, id, "assignee"), field(ada, id, "fence")), (agent, 2.into()));

    bob.ok(&["task", "claim", "--force", id]);
    let out = ada.orchestra(&["resume", "slow"]);
    assert!(out.code == 1 && out.stderr.contains("until it is released there holds it"), "{out}");
    ada.assert_sound();
}

#[test]
fn a_kill_after_the_claim_was_told_anew_loses_nothing() {
    let stage = stage();
    let Stage { ada, id, gate, remote, .. } = &stage;
    fs::write(gate, "").unwrap();
    ada.ok(&["spawn", id]);
    stage.waits_for_a_person();
    for then in [vec!["sync"], vec!["resume", "slow"]] {
        kill_who_pushes(remote);
        let out = ada.orchestra(&["resume", "slow"]);
        assert_eq!(out.code, 137, "{out}");
        fs::remove_file(remote.repo().join("hooks/post-receive")).unwrap();
        wait_for("the claim", || (!stage.claim()["ttl"].is_null()).then_some(()));
        let out = ada.orchestra(&then);
        assert!(out.code == 0 && !out.stderr.contains("another machine"), "{out}");
        stage.waits_for_a_person();
        assert_eq!(stage.claim()["fence"], 1);
    }
    ada.assert_sound();
}

#[test]
fn an_end_that_the_remote_did_not_hear_is_told_with_the_next_sync() {
    let mut stage = stage();
    stage.ada.set_env("ORCHESTRA_CLAIM_TTL", "10m");
    let Stage { ada, id, gate, remote, .. } = &stage;
    let mut command = ada.command(sandbox::ORCHESTRA);
    command.args(["spawn", id]).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let file = ada.root().join("repo.orchestra/slow/mine.txt");
    wait_for("the run", || file.exists().then_some(()));
    // Not by the configuration: who changes that while an agent runs is taken for the agent.
    let away = remote.root().join("away");
    fs::rename(remote.repo(), &away).unwrap();
    fs::write(gate, "").unwrap();
    let out = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&out.stdout) + String::from_utf8_lossy(&out.stderr);
    assert!(out.status.success() && said.contains("origin was not told that the run is over"), "{said}");
    fs::rename(&away, remote.repo()).unwrap();
    assert_eq!(stage.claim()["ttl"], 600);
    ada.ok(&["sync"]);
    stage.waits_for_a_person();
}

#[test]
fn of_two_agents_of_a_clone_one_speaks() {
    let stage = stage();
    let Stage { ada, id, gate, remote, .. } = &stage;
    let other = task(ada, "Other");
    ada.ok(&["sync"]);
    ada.ok(&["spawn", "--detach", id, &other]);
    let pushes = remote.root().join("pushes");
    hook(remote, "post-receive", &format!("cat >>{}", pushes.display()));
    stage.is_kept_for(5);
    let told = fs::read_to_string(&pushes).unwrap();
    let mut heartbeats: Vec<&str> = told.lines().filter(|line| line.contains("/machines/")).collect();
    let all = heartbeats.len();
    heartbeats.dedup();
    assert_eq!(all, heartbeats.len(), "{told}");
    let lines = |what: &str| told.lines().filter(|line| line.contains(what)).count();
    assert_eq!(lines("/claims/"), 0, "a heartbeat is one ref: {told}");
    fs::write(gate, "").unwrap();
    ada.ok(&["wait", "slow", "other"]);
    stage.waits_for_a_person();
}

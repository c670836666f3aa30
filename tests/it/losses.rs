//! Nothing that somebody wrote is lost between machines, and nothing is said to be where it is not.

use std::fs;

use crate::claims::{claims, field, hook, machine, remote, task};
use crate::harness::Sandbox;
use crate::worker::{Running, workshop};

const STATE: &str = "refs/orchestra/state";

fn tip(repo: &Sandbox, name: &str) -> String {
    repo.git(&["for-each-ref", "--format=%(objectname)", name])
}

#[test]
fn a_push_makes_nothing_again_that_the_remote_has_no_more() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    task(&ada, "One");
    ada.ok(&["push"]);
    bob.ok(&["sync"]);
    let first = tip(&ada, STATE);
    task(&ada, "Two");
    ada.ok(&["push"]);
    let second = tip(&ada, STATE);

    // Deleted there, while a change here waits to be sent.
    task(&ada, "Three");
    remote.git(&["update-ref", "-d", STATE]);
    let out = ada.orchestra(&["push"]);
    assert!(out.code == 6 && out.stderr.contains("is gone") && out.stderr.contains(&second), "{out}");
    assert_eq!(tip(&remote, STATE), "", "nothing was made again");
    // Brought back to what it was before.
    remote.git(&["update-ref", STATE, &first]);
    let out = ada.orchestra(&["push"]);
    assert!(out.code == 6 && out.stderr.contains(&second), "{out}");
    assert_eq!(tip(&remote, STATE), first);
    // Of what was only looked at, the same.
    remote.git(&["update-ref", STATE, &second]);
    bob.ok(&["fetch"]);
    task(&bob, "Four");
    remote.git(&["update-ref", STATE, &first]);
    let out = bob.orchestra(&["push"]);
    assert!(out.code == 6 && out.stderr.contains(&second), "{out}");
    assert_eq!(tip(&remote, STATE), first);
    // Notes too.
    remote.git(&["update-ref", STATE, &second]);
    let notes = "refs/notes/orchestra/findings";
    remote.git(&["update-ref", "-d", notes]);
    let head = ada.git(&["rev-parse", "HEAD"]);
    ada.ok(&["finding", "add", "--commit", &head, "a note"]);
    let out = ada.orchestra(&["push"]);
    assert!(out.code == 6 && tip(&remote, notes).is_empty(), "{out}");
}

#[test]
fn texts_that_have_no_room_in_one_record_stay_where_they_are() {
    let remote = remote();
    let first = machine(&remote);
    let id = task(&first, "Long");
    first.ok(&["sync"]);
    let all: Vec<Sandbox> = (0..5).map(|_| machine(&remote)).collect();
    for one in &all {
        one.ok(&["sync"]);
    }
    for (number, one) in all.iter().enumerate() {
        let file = one.root().join("long.txt");
        fs::write(&file, number.to_string().repeat(900 << 10)).unwrap();
        one.ok(&["task", "edit", &id, "-F", file.to_str().unwrap()]);
    }
    for one in &all[..4] {
        one.ok(&["sync"]);
    }
    // What four wrote has room in one, and whoever changes it has not written that much.
    all[3].ok(&["task", "edit", &id, "--priority", "3"]);
    all[3].ok(&["sync"]);
    let (there, own) = (tip(&remote, STATE), tip(&all[4], STATE));
    let out = all[4].orchestra(&["sync"]);
    assert!(out.code == 1 && out.stderr.contains("what was written apart in it"), "{out}");
    assert!(out.stderr.contains(&id[..6]), "{out}");
    assert_eq!((tip(&remote, STATE), tip(&all[4], STATE)), (there, own), "neither takes the other's place");
    let out = all[4].orchestra(&["push"]);
    assert!(out.code == 1 && out.stderr.contains("what was written apart in it"), "{out}");
    all[4].ok(&["task", "edit", &id, "-m", "Short."]);
    all[4].ok(&["sync"]);
    first.ok(&["sync"]);
    let shown = first.ok(&["show", &id]);
    for part in ["Short.", "0000", "1111", "2222", "3333"] {
        assert!(shown.contains(part), "{part}");
    }
}

#[test]
fn what_a_wrong_clock_wrote_is_kept_and_can_be_written_over() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    let id = task(&ada, "From now");
    ada.ok(&["sync"]);
    // The machine that wrote it has it so, whatever others make of it.
    let path = format!("tasks/{}/{}/{id}.json", &id[..1], &id[1..2]);
    let text = ada.git(&["show", &format!("{STATE}:{path}")]);
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["title"] = "From 2150".into();
    let stamps = record["_s"].as_object_mut().unwrap();
    for keys in stamps.values_mut() {
        keys.as_array_mut().unwrap().retain(|key| key != "title");
    }
    stamps.insert("5680281600000-0-m1".to_owned(), serde_json::json!(["title"]));
    let index = ada.root().join("index");
    let git = |args: &[&str], input: &str| {
        let mut command = ada.command("git");
        command.env("GIT_INDEX_FILE", &index).args(args);
        let out = crate::harness::sandbox::run(command, input.as_bytes());
        assert_eq!(out.code, 0, "{args:?}\n{out}");
        out.stdout.trim().to_owned()
    };
    let written = git(&["hash-object", "-w", "--stdin"], &record.to_string());
    git(&["read-tree", STATE], "");
    git(&["update-index", "--cacheinfo", &format!("100644,{written},{path}")], "");
    let tree = git(&["write-tree"], "");
    let commit = ada.git(&["commit-tree", "-p", STATE, "-m", "2150", &tree]);
    ada.git(&["update-ref", STATE, &commit]);
    ada.ok(&["push"]);

    let out = bob.orchestra(&["sync"]);
    assert!(out.code == 0 && !out.stderr.contains("left out"), "{out}");
    assert_eq!(field(&bob, &id, "title"), "From 2150");
    for one in [&ada, &bob, &ada] {
        let out = one.orchestra(&["sync"]);
        assert!(out.code == 0 && !out.stderr.contains("alarm"), "{out}");
    }
    assert_eq!(tip(&ada, STATE), tip(&bob, STATE), "they agree");
    bob.ok(&["task", "edit", &id, "--title", "From now again"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    assert_eq!(field(&ada, &id, "title"), "From now again");
}

#[test]
fn a_worker_whose_branch_is_refused_says_where_its_work_is() {
    let remote = remote();
    let bob = workshop(&remote, "echo done >done.txt");
    let id = task(&bob, "Write it");
    bob.ok(&["sync"]);
    hook(&remote, "update", "case $1 in refs/heads/*) echo no branches of agents here >&2; exit 1;; esac");
    let out = bob.orchestra(&["worker", "--once"]);
    let branch = format!("orchestra/write-it-{}", &id[..6]);
    assert!(
        out.code == 1 && out.stderr.contains(&format!("push {branch}: that work is on this machine alone")),
        "{out}"
    );
    assert!(out.stdout.contains("so its work is on this machine alone"), "{out}");
    let ada = machine(&remote);
    ada.ok(&["sync"]);
    let result = field(&ada, &id, "result");
    let result = result.as_str().unwrap();
    assert!(result.contains(&format!("{branch} is on machine ")) && result.contains("alone"), "{result}");
    assert_eq!(field(&ada, &id, "status"), "started");
    // What the claim said before its ref went says the same.
    fs::remove_file(remote.repo().join("hooks/update")).unwrap();
    bob.ok(&["push", "--branches"]);
    assert_eq!(remote.git(&["show", &format!("{branch}:done.txt")]), "done");
}

#[test]
fn a_worker_whose_state_is_refused_says_so() {
    let remote = remote();
    let bob = workshop(&remote, "echo done >done.txt");
    task(&bob, "Write it");
    bob.ok(&["sync"]);
    hook(&remote, "update", "case $1 in */state) echo no more states >&2; exit 1;; esac");
    let out = bob.orchestra(&["worker", "--once"]);
    assert!(out.code == 1 && out.stdout.contains("the state was not sent: hook declined"), "{out}");
    assert_eq!(out.stdout.matches("the state was not sent").count(), 1, "{out}");
    assert!(out.stderr.contains("bring everything to the remote; it is safe here"), "{out}");
}

#[test]
fn what_was_pushed_elsewhere_is_merged_without_a_branch_here() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), workshop(&remote, "echo done >done.txt"));
    let id = task(&bob, "Write it");
    bob.ok(&["sync"]);
    bob.ok(&["worker", "--once"]);
    ada.ok(&["sync"]);
    let name = format!("write-it-{}", &id[..6]);
    let comes = format!("git fetch origin orchestra/{name}");
    let out = ada.orchestra(&["merge", &name]);
    assert!(out.code == 1 && out.stderr.contains(&comes), "{out}");
    let out = ada.orchestra(&["merge"]);
    assert!(out.stderr.contains(&format!("its work is on another machine; `{comes}` brings it")), "{out}");
    let out = ada.orchestra(&["overlap"]);
    assert!(out.stderr.contains(&comes), "{out}");
    ada.git(&["fetch", "--quiet", "origin", &format!("orchestra/{name}")]);
    let out = ada.orchestra(&["overlap"]);
    assert!(out.code == 0 && out.stdout.contains(&name), "{out}");
    ada.ok(&["diff", &name]);
    let out = ada.orchestra(&["merge"]);
    assert!(out.code == 0, "{out}");
    assert_eq!(ada.git(&["show", "main:done.txt"]), "done");
    assert_eq!(field(&ada, &id, "status"), "closed");
    let out = ada.orchestra(&["merge"]);
    assert!(out.code == 0 && !out.stdout.contains("done.txt"), "{out}");
}

#[test]
fn the_claim_of_a_deleted_task_goes() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    let (one, two) = (task(&ada, "One"), task(&ada, "Two"));
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    bob.ok(&["task", "claim", &one, &two]);
    assert_eq!(claims(&remote).len(), 2);
    // Ada does not know that, and wants neither any more.
    ada.ok(&["undo", "--yes"]);
    ada.ok(&["undo", "--yes", &operation(&ada, "task add", 1)]);
    ada.ok(&["sync"]);
    let out = bob.orchestra(&["task", "release", &one]);
    assert_eq!(out.code, 0, "{out}");
    bob.ok(&["sync"]);
    let out = bob.orchestra(&["task", "release", &two]);
    assert!(
        out.code == 0 || out.stderr.contains("it was deleted, and this clone has no claim of it"),
        "{out}"
    );
    bob.ok(&["sync"]);
    bob.ok(&["sync"]);
    assert!(claims(&remote).is_empty());
    assert_eq!(tip(&bob, "refs/orchestra/claims"), "");
}

/// The id of an operation of this command, the newest first.
fn operation(machine: &Sandbox, command: &str, number: usize) -> String {
    let log = machine.json(&["oplog"]);
    let all = log["data"].as_array().unwrap().clone();
    let mut found =
        all.iter().filter(|one| one["command"].as_str().is_some_and(|text| text.starts_with(command)));
    found.nth(number).unwrap()["id"].as_str().unwrap().to_owned()
}

#[test]
fn the_result_of_who_was_ousted_is_shown() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    let id = task(&ada, "One");
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    ada.ok(&["task", "claim", &id]);
    bob.ok(&["task", "claim", "--force", &id]);
    bob.ok(&["task", "close", &id, "-m", "done by hand, of Bob"]);
    ada.ok(&["task", "close", &id, "-m", "given up, for a reason that Ada found"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    for one in [&ada, &bob] {
        assert_eq!(field(one, &id, "result"), "done by hand, of Bob");
        let shown = one.ok(&["show", &id]);
        assert!(shown.contains("also written as result") && shown.contains("that Ada found"), "{shown}");
    }
    let log = ada.ok(&["log", &id]);
    assert!(log.contains("in place of: given up, for a reason that Ada found"), "{log}");
    assert!(log.contains("which had taken the task over"), "{log}");
}

#[test]
fn a_state_under_another_prefix_is_found() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    let out = bob.orchestra(&["sync"]);
    assert!(out.code == 0 && out.stdout.contains("origin has no state of git-orchestra"), "{out}");
    ada.git(&["config", "orchestra.remotePrefix", "refs/heads/agents/"]);
    task(&ada, "One");
    ada.ok(&["sync"]);
    for command in ["sync", "fetch"] {
        let out = bob.orchestra(&[command]);
        assert!(
            out.code == 1 && out.stderr.contains("git config orchestra.remotePrefix refs/heads/agents/"),
            "{out}"
        );
    }
    task(&bob, "Two");
    for command in ["sync", "push"] {
        let out = bob.orchestra(&[command]);
        assert!(out.code == 1 && out.stderr.contains("it is under refs/heads/agents/"), "{out}");
    }
    assert_eq!(tip(&remote, STATE), "", "no second queue");
    bob.git(&["config", "orchestra.remotePrefix", "refs/heads/agents/"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    assert!(ada.ok(&["task", "list"]).contains("Two"));
    // The other way round.
    let other = crate::claims::remote();
    let eve = machine(&other);
    task(&eve, "Three");
    eve.ok(&["sync"]);
    bob.git(&["remote", "set-url", "origin", other.repo().to_str().unwrap()]);
    bob.git(&["update-ref", "-d", "refs/orchestra/remotes/origin/state"]);
    let out = bob.orchestra(&["push"]);
    assert!(out.code == 1 && out.stderr.contains("--unset orchestra.remotePrefix"), "{out}");
}

#[test]
fn a_mirror_that_is_fetched_from_is_no_alarm() {
    let (mirror, remote) = (remote(), remote());
    let ada = machine(&mirror);
    ada.git(&["config", "remote.origin.pushurl", remote.repo().to_str().unwrap()]);
    task(&ada, "One");
    ada.ok(&["sync"]);
    task(&ada, "Two");
    let out = ada.orchestra(&["sync"]);
    assert_eq!(out.code, 0, "{out}");
    ada.ok(&["task", "claim", "--next"]);
    ada.ok(&["fetch"]);
    assert_eq!(tip(&remote, STATE), tip(&ada, "refs/orchestra/remotes/origin/state"));
    assert_eq!(tip(&mirror, STATE), "");
    // One whose tracking refs would lie within those of another one.
    ada.git(&["remote", "add", "origin/state", mirror.repo().to_str().unwrap()]);
    let out = ada.orchestra(&["sync", "origin/state"]);
    assert!(out.code == 1 && out.stderr.contains("git remote rename origin/state origin-state"), "{out}");
}

#[test]
fn what_ended_without_a_claim_on_the_remote_is_not_said_to_be_another_machines() {
    let remote = remote();
    let gate = remote.root().join("gate");
    let script = format!("echo mine >mine.txt; while ! test -e {}; do sleep 0.05; done", gate.display());
    let bob = workshop(&remote, &script);
    let id = task(&bob, "Slow");
    bob.ok(&["sync"]);
    let worker = Running::start(&bob, &["--once"]);
    crate::harness::wait_for("the claim", || (!claims(&remote).is_empty()).then_some(()));
    crate::harness::wait_for("its run", || {
        let list = bob.json(&["status"]);
        list["data"].as_array().unwrap().iter().any(|one| one["state"] == "running").then_some(())
    });
    remote.git(&["update-ref", "-d", &format!("refs/orchestra/claims/{id}")]);
    fs::write(gate, "").unwrap();
    let out = worker.end();
    assert!(out.stdout.contains("the claim of its task is gone from the remote"), "{out}");
    assert!(!out.stdout.contains("another machine"), "{out}");
}

#[test]
fn a_task_that_was_closed_elsewhere_while_this_machine_slept_stops_its_run_here() {
    for detached in [false, true] {
        let remote = remote();
        let mut ada = workshop(&remote, "echo mine >mine.txt; exec sleep 600");
        ada.set_env("ORCHESTRA_CLAIM_TTL", "2s");
        let id = task(&ada, "Slow");
        ada.ok(&["sync"]);
        let bob = machine(&remote);
        bob.ok(&["sync"]);
        let worker = (!detached).then(|| Running::start(&ada, &["--once"]));
        if detached {
            ada.ok(&["spawn", "--detach", &id]);
        }
        let running = || {
            let list = ada.json(&["status", "--all"]);
            list["data"].as_array().unwrap().iter().any(|one| one["state"] == "running")
        };
        crate::harness::wait_for("its run", || running().then_some(()));
        let watcher = crate::life::watcher(&ada);
        crate::harness::sandbox::kill(watcher, nix::sys::signal::Signal::SIGSTOP);
        bob.ok(&["task", "claim", "--force", &id]);
        bob.ok(&["task", "close", &id, "-m", "done by Bob"]);
        crate::harness::wait_for("its claim to go", || {
            bob.ok(&["sync"]);
            claims(&remote).is_empty().then_some(())
        });
        crate::harness::sandbox::kill(watcher, nix::sys::signal::Signal::SIGCONT);
        crate::harness::wait_for("its end", || (!running()).then_some(()));
        if let Some(worker) = worker {
            let out = worker.end();
            assert!(out.stdout.contains("another machine took its task over"), "{out}");
        }
        assert_eq!(field(&ada, &id, "result"), "done by Bob");
        let branches = remote.git(&["for-each-ref", "refs/heads/orchestra"]);
        assert_eq!(branches, "", "nothing of it was sent");
    }
}

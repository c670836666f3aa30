//! Many clones drain one queue: each task exactly once, though answers of the remote are lost.
//!
//! `ORCHESTRA_DRAIN=<clones>x<tasks>` chooses another size; the figures are printed.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::claims::{claims, hook, machine, remote};
use crate::harness::{Sandbox, sandbox};

/// How often a clone brings what it did to the remote: after so many tasks.
const SYNC_EVERY: usize = 8;

fn size() -> (usize, usize) {
    let size = std::env::var("ORCHESTRA_DRAIN").unwrap_or_else(|_| "4x24".to_owned());
    let (clones, tasks) = size.split_once('x').expect("CLONESxTASKS");
    (clones.parse().unwrap(), tasks.parse().unwrap())
}

/// Runs a command of a clone. Without the harness's deadline: 64 of them wait for each other on one machine.
fn call(machine: &Sandbox, args: &[&str]) -> sandbox::Output {
    let mut command = machine.command(sandbox::ORCHESTRA);
    command.args(args).stdin(std::process::Stdio::null()).output().unwrap().into()
}

/// Runs until it succeeds; a remote whose answers are lost makes commands fail now and then, and nothing worse.
fn insist(machine: &Sandbox, args: &[&str], failures: &AtomicUsize) -> sandbox::Output {
    let until = Instant::now() + Duration::from_secs(1_800);
    loop {
        let out = call(machine, args);
        if out.code == 0 || Instant::now() > until {
            assert_eq!(out.code, 0, "{args:?}: {out}");
            return out;
        }
        failures.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn clones_drain_a_queue_exactly_once() {
    let (clones, tasks) = size();
    let remote = remote();
    let ada = machine(&remote);
    for n in 0..tasks {
        ada.ok(&["task", "add", &format!("Task {n}"), "--quiet"]);
    }
    ada.ok(&["sync"]);
    let machines: Vec<Sandbox> = (0..clones).map(|_| machine(&remote)).collect();
    // One answer of twenty is cut off after the refs moved; the parent of the hook is the server.
    let cut = remote.root().join("cut");
    hook(
        &remote,
        "post-receive",
        &format!(
            "cat >/dev/null; echo >>{0}.all; \
         if [ $(($(od -An -N2 -tu2 /dev/urandom) % 20)) = 0 ]; then echo >>{0}; kill -9 $PPID; fi",
            cut.display()
        ),
    );
    let done = Mutex::new(Vec::<String>::new());
    let (pushes, failures) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        for machine in &machines {
            let (done, pushes, failures) = (&done, &pushes, &failures);
            scope.spawn(move || drain(machine, done, pushes, failures));
        }
    });
    let took = start.elapsed();
    for machine in machines.iter().chain([&ada]) {
        insist(machine, &["sync"], &failures);
    }
    let mut times = BTreeMap::<String, usize>::new();
    for id in done.into_inner().unwrap() {
        *times.entry(id).or_default() += 1;
    }
    let duplicates = times.values().filter(|times| **times > 1).count();
    let (pushes, failures) = (pushes.into_inner(), failures.into_inner());
    let lines = |name: &str| fs::read_to_string(remote.root().join(name)).unwrap_or_default().lines().count();
    let list = ada.json(&["task", "list", "--all"]);
    let list = list["data"].as_array().unwrap();
    let closed = list.iter().filter(|task| task["status"] == "closed").count();
    #[expect(clippy::cast_precision_loss, reason = "it is printed")]
    let ratio = pushes as f64 / tasks as f64;
    let text = format!(
        "{clones} clones, {tasks} tasks in {:.1} s: {pushes} pushes ({ratio:.3} per claim), {duplicates} duplicates, \
         {} losses, {} of {} answers cut off, {failures} commands repeated, {} claims left\n",
        took.as_secs_f64(),
        tasks - times.len(),
        lines("cut"),
        lines("cut.all"),
        claims(&remote).len()
    );
    std::io::stderr().write_all(text.as_bytes()).unwrap();
    assert_eq!((times.len(), duplicates, closed), (tasks, 0, tasks), "{text}");
    remote.git(&["fsck", "--strict"]);
    ada.assert_sound();
}

/// One clone: claim, do, close, until nothing is left.
fn drain(machine: &Sandbox, done: &Mutex<Vec<String>>, pushes: &AtomicUsize, failures: &AtomicUsize) {
    for round in 1.. {
        let out = call(machine, &["task", "claim", "--next", "--json", "--quiet"]);
        let Ok(answer) = serde_json::from_str::<serde_json::Value>(&out.stdout) else {
            // It could not be told what became of it: the next claim finds out.
            assert!(out.stderr.contains("error:"), "{out}");
            failures.fetch_add(1, Ordering::Relaxed);
            continue;
        };
        let count = usize::try_from(answer["data"]["pushes"].as_u64().unwrap()).unwrap();
        pushes.fetch_add(count, Ordering::Relaxed);
        let held: Vec<&str> = answer["data"]["claimed"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["outcome"] == "held")
            .map(|one| one["id"].as_str().unwrap())
            .collect();
        let Some(id) = held.first() else { break };
        done.lock().unwrap().push((*id).to_owned());
        let out = call(machine, &["task", "close", id, "-m", "done"]);
        assert_eq!(out.code, 0, "{out}");
        if round % SYNC_EVERY == 0 {
            // That others are faster is no loss: the next one brings it.
            if call(machine, &["push", "--quiet"]).code != 0 {
                failures.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    insist(machine, &["sync", "--quiet"], failures);
}

//! Workers: machines that take tasks from one queue and run agents on them.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;

use crate::claims::{claims, field, hook, machine, remote, task};
use crate::harness::{Output, Sandbox, sandbox, wait_for};

/// A machine whose profile `hand` runs `script`, with what the remote has.
pub(crate) fn workshop(remote: &Sandbox, script: &str) -> Sandbox {
    let machine = machine(remote);
    let file = machine.home().join(".config/git-orchestra/config.toml");
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    let profile = format!(
        "default-profile = 'hand'\n[profile.hand]\nprogram = 'command'\ncommand = ['sh', '-c', '''{script}''']\n"
    );
    fs::write(file, profile).unwrap();
    machine.ok(&["sync"]);
    machine
}

/// A remote, a machine whose profile `hand` runs `script`, and a task that both know, with its id.
pub(crate) fn with_task(script: &str, title: &str) -> (Sandbox, Sandbox, String) {
    let remote = remote();
    let machine = workshop(&remote, script);
    let id = task(&machine, title);
    machine.ok(&["sync"]);
    (remote, machine, id)
}

/// A worker in the background; its output goes to a file.
pub(crate) struct Running {
    child: Child,
    log: PathBuf,
}

impl Running {
    pub(crate) fn start(machine: &Sandbox, args: &[&str]) -> Self {
        let log =
            machine.root().join(format!("worker-{}.log", fs::read_dir(machine.root()).unwrap().count()));
        let file = fs::File::create(&log).unwrap();
        let mut command = machine.command(sandbox::ORCHESTRA);
        command.arg("worker").args(args).stdin(Stdio::null());
        command.stdout(file.try_clone().unwrap()).stderr(file);
        Self { child: command.spawn().unwrap(), log }
    }

    pub(crate) fn signal(&self, signal: Signal) {
        sandbox::kill(self.child.id(), signal);
    }

    /// What it has said so far.
    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    pub(crate) fn end(mut self) -> Output {
        let status = wait_for("the worker's end", || self.child.try_wait().unwrap());
        let output = std::process::Output { status, stdout: self.said().into_bytes(), stderr: Vec::new() };
        Output::from(output)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What programs wrote down: a line a run, `<task>`.
fn runs(log: &Path) -> BTreeMap<String, usize> {
    let mut runs = BTreeMap::new();
    for line in fs::read_to_string(log).unwrap_or_default().lines() {
        *runs.entry(line.to_owned()).or_default() += 1;
    }
    runs
}

#[test]
fn two_workers_share_one_queue() {
    let remote = remote();
    let log = remote.root().join("runs");
    let script = format!("echo $GIT_ORCHESTRA_TASK >>{}", log.display());
    let ada = machine(&remote);
    let ids: Vec<String> = (0..8).map(|n| task(&ada, &format!("Task {n}"))).collect();
    ada.ok(&["sync"]);
    let machines = [workshop(&remote, &script), workshop(&remote, &script)];
    let workers = machines.each_ref().map(|one| Running::start(one, &["--until-empty", "--jobs", "2"]));
    for worker in workers {
        let out = worker.end();
        assert_eq!(out.code, 0, "{out}");
    }
    let runs = runs(&log);
    assert_eq!(runs, ids.iter().map(|id| (id.clone(), 1)).collect(), "each exactly once");
    ada.ok(&["sync"]);
    for id in &ids {
        assert_eq!(field(&ada, id, "status"), "closed");
        assert!(field(&ada, id, "result").as_str().unwrap().ends_with("without a change"));
    }
    for one in &machines {
        one.ok(&["sync"]);
        one.assert_sound();
    }
    assert!(claims(&remote).is_empty());
    let beats = remote.git(&["for-each-ref", "refs/orchestra/machines"]);
    assert_eq!(beats.lines().count(), 2, "{beats}");
}

/// git's own children hit the limit first, and what they leave out looks like an answer.
#[test]
fn a_git_that_may_open_too_few_files_is_no_empty_queue() {
    let (_remote, bob, id) = with_task("true", "Wanted");
    let bin = bob.root().join("bin");
    fs::create_dir(&bin).unwrap();
    let path =
        bob.command("git").get_envs().find_map(|(key, value)| (key == "PATH").then_some(value?.to_owned()));
    let path = path.unwrap();
    let git = std::env::split_paths(&path).map(|dir| dir.join("git")).find(|git| git.exists()).unwrap();
    let mut searched = vec![bin.clone()];
    searched.extend(std::env::split_paths(&path));
    let searched = std::env::join_paths(searched).unwrap();
    for files in 5..64 {
        let script = format!("#!/bin/sh\nulimit -n {files}\nexec {} \"$@\"\n", git.display());
        fs::write(bin.join("git"), script).unwrap();
        fs::set_permissions(bin.join("git"), fs::Permissions::from_mode(0o755)).unwrap();
        let mut command = bob.command(sandbox::ORCHESTRA);
        command.args(["worker", "--once"]).env("PATH", &searched);
        let out = sandbox::run(command, b"");
        if field(&bob, &id, "status") == "closed" {
            assert!(files > 5, "{files} files were enough");
            return;
        }
        assert!(!out.stderr.contains("no task was ready"), "with {files} files\n{out}");
        assert!(out.code != 0 && out.stderr.contains("Too many open files"), "with {files} files\n{out}");
    }
    panic!("never enough files");
}

#[test]
fn work_arrives_with_the_end_of_its_claim() {
    let remote = remote();
    let bob = workshop(&remote, "echo done >\"$GIT_ORCHESTRA_AGENT_NAME.txt\"");
    let (good, after) = (task(&bob, "Write it"), task(&bob, "Read it"));
    bob.ok(&["task", "edit", &after, "--after", &good]);
    bob.ok(&["sync"]);
    let out = bob.orchestra(&["worker", "--until-empty"]);
    assert_eq!(out.code, 0, "{out}");
    let branch = format!("refs/heads/orchestra/write-it-{}", &good[..6]);
    assert_eq!(remote.git(&["log", "-1", "--format=%s", &branch]), "Write it");
    assert!(claims(&remote).is_empty(), "the remote's state says what became of it");
    let ada = machine(&remote);
    ada.ok(&["sync"]);
    assert_eq!(field(&ada, &good, "status"), "started", "its work waits for a merge");
    let result = field(&ada, &good, "result");
    assert!(result.as_str().unwrap().contains("not merged yet"), "{result}");
    assert_eq!(field(&ada, &after, "status"), "open", "so what comes after it waits too");
    bob.ok(&["merge"]);
    let out = bob.orchestra(&["worker", "--once"]);
    assert_eq!(out.code, 0, "{out}");
    ada.ok(&["sync"]);
    assert!(field(&ada, &good, "result").as_str().unwrap().starts_with("merged as"));
    assert_eq!(field(&ada, &after, "status"), "started");
}

#[test]
fn a_branch_that_was_refused_and_pushed_by_hand_is_not_said_to_be_here_alone() {
    for by_hand in [true, false] {
        let gate = tempfile::tempdir().unwrap();
        let open = gate.path().join("open");
        let script = format!(
            "case $GIT_ORCHESTRA_AGENT_NAME in one*) echo done >done.txt;; *) while ! test -e {}; do sleep 0.05; done;; esac",
            open.display()
        );
        let (remote, bob, one) = with_task(&script, "One");
        task(&bob, "Two");
        bob.ok(&["sync"]);
        hook(
            &remote,
            "update",
            "case $1 in refs/heads/*) echo no branches of agents here >&2; exit 1;; esac",
        );
        let worker = Running::start(&bob, &["--until-empty", "--jobs", "2"]);
        wait_for("its end", || field(&bob, &one, "result").as_str()?.contains("alone").then_some(()));
        let branch = format!("orchestra/one-{}", &one[..6]);
        if by_hand {
            fs::remove_file(remote.repo().join("hooks/update")).unwrap();
            bob.git(&["push", "-q", "origin", &branch]);
        }
        fs::write(open, "").unwrap();
        let out = worker.end();
        let says = out.stdout.contains(&format!("push {branch}: that work is on this machine alone"));
        assert_eq!((out.code, says), (i32::from(!by_hand), !by_hand), "{out}");
    }
}

#[test]
fn what_another_machine_took_over_and_ended_is_said_to_be_its() {
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let script = format!("echo mine >mine.txt; while ! test -e {}; do sleep 0.05; done", open.display());
    let (remote, bob, id) = with_task(&script, "Slow");
    let ada = machine(&remote);
    ada.ok(&["sync"]);
    let worker = Running::start(&bob, &["--once"]);
    wait_for("its run", || bob.ok(&["status", "--porcelain"]).contains("\trunning\t").then_some(()));
    ada.ok(&["task", "claim", "--force", &id]);
    ada.ok(&["task", "close", &id, "-m", "done by Ada"]);
    wait_for("its claim to go", || {
        ada.ok(&["sync"]);
        claims(&remote).is_empty().then_some(())
    });
    fs::write(open, "").unwrap();
    let out = worker.end();
    assert!(out.stdout.contains("another machine took its task over: nothing of it was sent"), "{out}");
    assert!(!out.stdout.contains("is gone from the remote"), "{out}");
    assert_eq!(remote.git(&["for-each-ref", "refs/heads/orchestra"]), "");
}

#[test]
fn an_end_whose_answer_was_lost_is_no_takeover() {
    let (remote, bob, id) = with_task("echo done >done.txt", "Write it");
    // It refuses the branch, takes the end that tells it, says nothing, and is not there for a while.
    hook(&remote, "update", "case $1 in refs/heads/*) exit 1;; esac");
    let script = "if test \"$1\" = committed && ! test -e lost && \
                  grep -q '^[0-9a-f]*[1-9a-f][0-9a-f]* .* refs/orchestra/claims/'; then \
                  touch lost; mv HEAD HEAD.away; kill -9 $PPID; fi";
    hook(&remote, "reference-transaction", script);
    let worker = Running::start(&bob, &["--once"]);
    wait_for("the answer to be lost", || remote.repo().join("lost").exists().then_some(()));
    wait_for("the next try", || worker.said().contains("trying again").then_some(()));
    fs::rename(remote.repo().join("HEAD.away"), remote.repo().join("HEAD")).unwrap();
    let out = worker.end();
    assert!(out.code == 1 && !out.stdout.contains("another machine"), "{out}");
    assert!(out.stdout.contains("was not pushed, so its work is on this machine alone"), "{out}");
    assert!(field(&bob, &id, "result").as_str().unwrap().contains("alone: hook declined"), "{out}");
    bob.ok(&["sync"]);
    assert!(claims(&remote).is_empty());
}

#[test]
fn work_on_a_task_that_was_deleted_meanwhile_is_said_to_be_here() {
    let gate = tempfile::tempdir().unwrap();
    let open = gate.path().join("open");
    let script = format!("echo mine >mine.txt; while ! test -e {}; do sleep 0.05; done", open.display());
    let remote = remote();
    let ada = machine(&remote);
    task(&ada, "Slow");
    ada.ok(&["sync"]);
    let mut bob = workshop(&remote, &script);
    bob.set_env("ORCHESTRA_CLAIM_TTL", "2s");
    let worker = Running::start(&bob, &["--once"]);
    wait_for("its run", || bob.ok(&["status", "--porcelain"]).contains("\trunning\t").then_some(()));
    ada.ok(&["undo", "--yes"]);
    ada.ok(&["sync"]);
    wait_for("its claim to go", || claims(&remote).is_empty().then_some(()));
    let noted = || bob.git(&["for-each-ref", "refs/orchestra/claims"]);
    wait_for("the note of it to go", || noted().is_empty().then_some(()));
    fs::write(open, "").unwrap();
    let out = worker.end();
    assert!(out.stdout.contains("its work is on orchestra/slow-"), "{out}");
    assert_eq!(remote.git(&["for-each-ref", "refs/heads/orchestra"]), "");
}

#[test]
fn what_fails_waits_for_a_person() {
    let remote = remote();
    let bob = workshop(&remote, "exit 3");
    let id = task(&bob, "Try it");
    let out = bob.orchestra(&["worker", "--until-empty"]);
    assert_eq!(out.code, 4, "{out}");
    assert_eq!(field(&bob, &id, "status"), "started");
    assert_eq!(field(&bob, &id, "result"), "failed: exit 3");
    let out = bob.orchestra(&["worker", "--until-empty"]);
    assert_eq!(out.code, 0, "nothing is tried again by itself: {out}");
    assert!(out.stderr.contains("no task was ready"), "{out}");
    // Without a remote it is the same.
    bob.ok(&["task", "reopen", &id]);
    let out = bob.orchestra(&["worker", "--once", "--local"]);
    assert_eq!(out.code, 4, "{out}");
    assert_eq!(field(&bob, &id, "fence"), 2);
}

#[test]
fn a_worker_that_slept_too_long_publishes_nothing() {
    let remote = remote();
    let ada = machine(&remote);
    let id = task(&ada, "Slow");
    ada.ok(&["sync"]);
    let gate = remote.root().join("gate");
    let script = format!("echo mine >mine.txt; while ! test -e {}; do sleep 0.05; done", gate.display());
    let mut slow = workshop(&remote, &script);
    slow.set_env("ORCHESTRA_CLAIM_TTL", "2s");
    let quick = workshop(&remote, "echo theirs >theirs.txt");
    let worker = Running::start(&slow, &["--once"]);
    let snapshot = || remote.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/snapshots"]);
    wait_for("a snapshot of its uncommitted work", || (!snapshot().is_empty()).then_some(()));
    assert_eq!(remote.git(&["show", &format!("{}:mine.txt", snapshot())]), "mine");
    worker.signal(Signal::SIGSTOP);
    // By the clock of the other machine, from when it looks first.
    let out = wait_for("a takeover", || {
        let out = quick.orchestra(&["worker", "--once"]);
        (!out.stderr.contains("no task was ready")).then_some(out)
    });
    assert!(out.code == 0 && out.stdout.contains("which is silent"), "{out}");
    let theirs = format!("refs/heads/orchestra/slow-{}-2", &id[..6]);
    assert_eq!(remote.git(&["show", &format!("{theirs}:theirs.txt")]), "theirs");
    fs::write(gate, "").unwrap();
    worker.signal(Signal::SIGCONT);
    let out = worker.end();
    assert!(out.stdout.contains("another machine took its task over"), "{out}");
    let branches = remote.git(&["for-each-ref", "--format=%(refname)", "refs/heads/orchestra"]);
    assert_eq!(branches, theirs, "nothing of the ousted one arrived");
    let here = slow.git(&["for-each-ref", "--format=%(refname)", "refs/heads/orchestra"]);
    assert!(here.lines().count() == 1, "its work is safe where it was done: {here}");
    slow.ok(&["sync"]);
    quick.ok(&["sync"]);
    ada.ok(&["sync"]);
    for one in [&slow, &quick, &ada] {
        assert_eq!(field(one, &id, "fence"), 2);
        assert!(field(one, &id, "result").as_str().unwrap().contains(&format!("slow-{}-2", &id[..6])));
    }
}

#[test]
fn an_interrupted_worker_keeps_what_was_done_and_claims_nothing_more() {
    let remote = remote();
    let bob = workshop(&remote, "echo half >half.txt; exec sleep 600");
    let ids = [task(&bob, "One"), task(&bob, "Two"), task(&bob, "Three")];
    let worker = Running::start(&bob, &["--jobs", "1"]);
    wait_for("a run", || {
        let worktrees = bob.root().join("repo.orchestra");
        fs::read_dir(worktrees).ok()?.flatten().find(|one| one.path().join("half.txt").exists())
    });
    worker.signal(Signal::SIGINT);
    let out = worker.end();
    assert_eq!(out.code, 130, "{out}");
    let open = ids.iter().filter(|id| field(&bob, id, "status") == "open").count();
    assert_eq!(open, 2, "{out}");
    let begun = ids.iter().find(|id| field(&bob, id, "status") == "started").unwrap();
    assert_eq!(field(&bob, begun, "result"), "stopped by interrupt");
    let branch = remote.git(&["for-each-ref", "--format=%(refname)", "refs/heads/orchestra"]);
    assert_eq!(remote.git(&["show", &format!("{branch}:half.txt")]), "half");
    bob.ok(&["sync"]);
    assert!(claims(&remote).is_empty());
}

#[test]
fn what_a_killed_worker_left_is_published_by_the_next() {
    let remote = remote();
    let bob = workshop(&remote, "echo half >half.txt; git add -A; git commit -qm half; exec sleep 600");
    let id = task(&bob, "One");
    let worker = Running::start(&bob, &["--jobs", "1"]);
    let branch = format!("refs/heads/orchestra/one-{}", &id[..6]);
    wait_for("a commit", || {
        let subject = bob.try_git_in(bob.repo(), &["log", "-1", "--format=%s", &branch], b"");
        (subject.stdout == "half\n").then_some(())
    });
    worker.signal(Signal::SIGKILL);
    drop(worker);
    assert_eq!(claims(&remote), [id.as_str()]);
    let out = bob.orchestra(&["worker", "--until-empty"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(remote.git(&["show", &format!("{branch}:half.txt")]), "half");
    assert_eq!(field(&bob, &id, "result"), "lost: whoever watched it died");
    assert!(claims(&remote).is_empty());
}

/// What an agent has not committed goes to the remote while it runs: not what looks like a secret in it.
#[test]
fn secrets_stay_out_of_what_travels_uncommitted() {
    let remote = remote();
    let ada = machine(&remote);
    task(&ada, "Slow");
    ada.ok(&["sync"]);
    let gate = remote.root().join("gate");
    let key = format!("AKIA{}", "QYLPMN5HHHFPZAM2");
    let script = format!(
        "echo 'aws_access_key_id = {key}' > key.ini; echo '{key}' >> README.md; echo mine > mine.txt; \
         while ! test -e {}; do sleep 0.05; done; rm key.ini; git checkout -q README.md",
        gate.display()
    );
    let mut slow = workshop(&remote, &script);
    slow.set_env("ORCHESTRA_CLAIM_TTL", "2s");
    let worker = Running::start(&slow, &["--once"]);
    let snapshot = || remote.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/snapshots"]);
    wait_for("a snapshot of its uncommitted work", || {
        let name = snapshot();
        let shown = remote.try_git_in(remote.repo(), &["show", &format!("{name}:mine.txt")], b"");
        (!name.is_empty() && shown.stdout == "mine\n").then_some(())
    });
    let files = remote.git(&["ls-tree", "-r", "--name-only", &snapshot()]);
    assert!(files.contains("mine.txt") && !files.contains("key.ini"), "{files}");
    assert_eq!(remote.git(&["show", &format!("{}:README.md", snapshot())]), "# sandbox");
    fs::write(gate, "").unwrap();
    let out = worker.end();
    let words =
        "not sent while it is uncommitted, because it holds what looks like a secret: README.md, key.ini";
    assert!(out.stdout.contains(words) || out.stderr.contains(words), "{out}");
    let objects =
        remote.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objecttype) %(objectname)"]);
    let blobs: Vec<&str> = objects.lines().filter_map(|line| line.strip_prefix("blob ")).collect();
    assert!(blobs.len() > 1, "{objects}");
    for blob in blobs {
        assert!(!remote.git(&["cat-file", "blob", blob]).contains(&key), "{blob} of the remote has it");
    }
}

#[test]
fn a_task_that_would_meet_one_at_work_waits_for_it() {
    let remote = remote();
    for (hold, together) in [("touches", false), ("off", true)] {
        // Each says that it runs, and goes on until the test lets it.
        let script = "touch \"$HOME/runs-$GIT_ORCHESTRA_AGENT_NAME\"; while ! test -e \"$HOME/go\"; do sleep 0.1; done; \
                      rm \"$HOME/runs-$GIT_ORCHESTRA_AGENT_NAME\"; echo x >>\"$HOME/done\"";
        let machine = workshop(&remote, script);
        machine.git(&["config", "--global", "orchestra.hold", hold]);
        for (title, touches) in [("Fish", "README.md"), ("Rice", "README.md"), ("Docs", "docs")] {
            machine.ok(&["task", "add", title, "--touches", touches]);
        }
        machine.ok(&["sync"]);
        let worker = Running::start(&machine, &["--until-empty", "--jobs", "3"]);
        let runs = || -> BTreeSet<String> {
            let names = fs::read_dir(machine.home()).unwrap().flatten();
            let names = names.filter_map(|one| one.file_name().to_str().map(str::to_owned));
            names.filter(|name| name.starts_with("runs-")).map(|name| name[5..9].to_owned()).collect()
        };
        let expected = if together { 3 } else { 2 };
        wait_for("the agents", || (runs().len() == expected).then_some(()));
        assert!(runs().contains("docs"), "whoever meets nobody is not held back: {:?}", runs());
        if !together {
            let listed = machine.json(&["task", "list"]);
            let open =
                listed["data"].as_array().unwrap().iter().filter(|task| task["status"] == "open").count();
            assert_eq!(open, 1, "the third is nobody's yet: {listed:#}");
        }
        fs::write(machine.home().join("go"), "").unwrap();
        let out = worker.end();
        assert_eq!(out.code, 0, "{out}");
        let done = fs::read_to_string(machine.home().join("done")).unwrap();
        assert_eq!(done.lines().count(), 3, "it was only put off\n{out}");
        assert_eq!(out.stdout.contains("is done: both will probably change README.md"), !together, "{out}");
    }
}

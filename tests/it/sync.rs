//! Two machines and a remote between them: nothing is lost, nothing is forced, nothing hangs.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::harness::{Layout, Sandbox};

/// A bare repository, and machines that have it as `origin`.
struct Stage {
    remote: Sandbox,
}

impl Stage {
    fn new() -> Self {
        Self { remote: Sandbox::with(Layout { bare: true, ..Default::default() }) }
    }

    fn path(&self) -> String {
        self.remote.repo().to_str().unwrap().to_owned()
    }

    fn tip(&self, name: &str) -> String {
        self.remote.git(&["rev-parse", name])
    }
}

/// A machine of its own that has `url` as `origin`.
fn machine(url: &str) -> Sandbox {
    let machine = Sandbox::new();
    machine.git(&["remote", "add", "origin", url]);
    machine
}

const STATE: &str = "refs/orchestra/state";
const TRACKING: &str = "refs/orchestra/remotes/origin/state";

fn state(machine: &Sandbox) -> String {
    machine.git(&["rev-parse", STATE])
}

fn titles(machine: &Sandbox) -> Vec<String> {
    let list = machine.json(&["task", "list", "--all"]);
    let mut titles: Vec<String> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["title"].as_str().unwrap().to_owned())
        .collect();
    titles.sort();
    titles
}

fn id_of(machine: &Sandbox, title: &str) -> String {
    let list = machine.json(&["task", "list", "--all"]);
    let tasks = list["data"].as_array().unwrap().clone();
    let task = tasks.iter().find(|task| task["title"] == title).unwrap();
    task["id"].as_str().unwrap().to_owned()
}

/// Both machines add, sync and end with one state.
fn meet(stage: &Stage, url: &str) {
    let (ada, bob) = (machine(url), machine(url));
    let before = (ada.fingerprint(), bob.fingerprint());
    ada.ok(&["task", "add", "From Ada"]);
    bob.ok(&["task", "add", "From Bob"]);
    assert_eq!(ada.ok(&["sync"]), "to origin: state");
    assert_eq!(bob.ok(&["sync"]), "from origin: 1 task; to origin: state");
    assert_eq!(ada.ok(&["sync"]), "from origin: 1 task");
    assert_eq!(ada.ok(&["sync"]), "origin has the same");
    assert_eq!(state(&ada), state(&bob));
    assert_eq!(state(&ada), stage.tip(STATE));
    assert_eq!(titles(&ada), ["From Ada", "From Bob"]);
    assert_eq!(titles(&ada), titles(&bob));
    for machine in [&ada, &bob] {
        machine.assert_sound();
        assert!(machine.git(&["for-each-ref", "refs/remotes", "refs/tags"]).is_empty());
    }
    stage.remote.git(&["fsck", "--strict"]);
    assert_eq!((ada.fingerprint(), bob.fingerprint()), before, "checkout and configuration are the user's");
}

#[test]
fn two_machines_meet_over_a_path() {
    let stage = Stage::new();
    meet(&stage, &stage.path());
}

/// A server that ends with the test.
struct Daemon {
    child: Child,
    url: String,
    port: u16,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn daemon(stage: &Stage) -> Daemon {
    // Not `git daemon`: that is a parent which leaves its child behind when it is killed.
    let program = Path::new(&stage.remote.git(&["--exec-path"])).join("git-daemon");
    let base = stage.remote.repo().parent().unwrap().to_owned();
    for _ in 0..20 {
        let port = free_port();
        let mut command = stage.remote.command(&program);
        command.args(["--export-all", "--enable=receive-pack", "--reuseaddr", "--listen=127.0.0.1"]);
        command.arg(format!("--port={port}")).arg(format!("--base-path={}", base.display()));
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut daemon = Daemon { child, url: format!("git://127.0.0.1:{port}/repo.git"), port };
        let until = Instant::now() + Duration::from_secs(20);
        while Instant::now() < until && daemon.child.try_wait().unwrap().is_none() {
            if TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok() {
                return daemon;
            }
            std::thread::yield_now();
        }
    }
    panic!("no git daemon came up");
}

#[test]
fn two_machines_meet_over_git_daemon() {
    let stage = Stage::new();
    let daemon = daemon(&stage);
    meet(&stage, &daemon.url);
}

#[test]
fn the_same_text_written_twice_is_shown_twice() {
    let stage = Stage::new();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    ada.ok(&["task", "add", "Parse", "--label", "core"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    let id = id_of(&ada, "Parse");
    ada.ok(&["task", "edit", &id, "--title", "Parse headers"]);
    bob.ok(&["task", "edit", &id, "--title", "Parse trailers", "--priority", "3"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    assert_eq!(state(&ada), state(&bob));
    assert_eq!(titles(&ada), ["Parse trailers"]);
    let shown = ada.ok(&["show", &id]);
    assert!(shown.contains("also written as title") && shown.contains("Parse headers"), "{shown}");
    ada.ok(&["task", "edit", &id, "--title", "Parse both"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    assert_eq!(titles(&bob), ["Parse both"]);
    assert!(!bob.ok(&["show", &id]).contains("also written"), "whoever wrote last had seen both");
}

#[test]
fn findings_of_both_are_in_the_notes_of_both() {
    let stage = Stage::new();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    let head = ada.git(&["rev-parse", "HEAD"]);
    assert_eq!(head, bob.git(&["rev-parse", "HEAD"]), "commits of the harness depend on nothing else");
    ada.ok(&["finding", "add", "--commit", &head, "Ada saw this"]);
    bob.ok(&["finding", "add", "--commit", &head, "Bob saw that"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    for machine in [&ada, &bob] {
        let note = machine.git(&["notes", "--ref=orchestra/findings", "show", &head]);
        assert!(note.contains("Ada saw this") && note.contains("Bob saw that"), "{note}");
    }
    let notes = "refs/notes/orchestra/findings";
    assert_eq!(ada.git(&["rev-parse", notes]), bob.git(&["rev-parse", notes]));
    assert_eq!(state(&ada), state(&bob));
    assert_eq!(ada.ok(&["sync"]), "origin has the same");
}

#[test]
fn a_remote_that_goes_back_or_forgets_is_an_alarm() {
    let stage = Stage::new();
    let ada = machine(&stage.path());
    ada.ok(&["task", "add", "One"]);
    ada.ok(&["sync"]);
    let first = state(&ada);
    ada.ok(&["task", "add", "Two"]);
    ada.ok(&["sync"]);
    let second = state(&ada);

    stage.remote.git(&["update-ref", STATE, &first]);
    for command in ["fetch", "sync"] {
        let out = ada.orchestra(&[command]);
        assert_eq!(out.code, 6, "{out}");
        assert!(out.stderr.contains(&first) && out.stderr.contains(&second), "{out}");
    }
    assert_eq!(state(&ada), second);
    assert_eq!(ada.git(&["rev-parse", TRACKING]), second, "the evidence stays");
    assert_eq!(stage.tip(STATE), first, "and the remote is not overwritten");

    let other = ada.git(&["commit-tree", "-m", "rewritten", &format!("{first}^{{tree}}")]);
    ada.git(&["push", "--quiet", "--force", "origin", &format!("{other}:{STATE}")]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 6 && out.stderr.contains(&other), "{out}");

    stage.remote.git(&["update-ref", "-d", STATE]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 6 && out.stderr.contains("is gone") && out.stderr.contains(&second), "{out}");
    assert_eq!(state(&ada), second);

    // What the hint says.
    let accept = out.stderr.lines().find_map(|line| line.split_once("git update-ref -d ")).unwrap().1;
    let accept: Vec<&str> = accept.split(' ').collect();
    ada.git(&["update-ref", "-d", accept[0], accept[1]]);
    assert_eq!(ada.ok(&["sync"]), "to origin: state");
    assert_eq!(stage.tip(STATE), second);
}

#[test]
fn fetch_moves_tracking_refs_alone_and_push_merges_what_was_first() {
    let stage = Stage::new();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    ada.ok(&["task", "add", "From Ada"]);
    ada.ok(&["push"]);
    bob.ok(&["task", "add", "From Bob"]);
    let own = state(&bob);
    assert_eq!(bob.ok(&["fetch"]), "new on origin: state");
    assert_eq!((state(&bob), bob.git(&["rev-parse", TRACKING])), (own, state(&ada)));
    assert!(!bob.git_dir().join("FETCH_HEAD").exists());
    let pushed = bob.json(&["push"]);
    assert_eq!(pushed["data"]["received"].as_array().unwrap().len(), 1, "{pushed:#}");
    assert_eq!(stage.tip(STATE), state(&bob));
    assert_eq!(titles(&bob), ["From Ada", "From Bob"]);
}

#[test]
fn many_machines_at_once_lose_nothing() {
    let stage = Stage::new();
    let machines: Vec<Sandbox> = (0..4).map(|_| machine(&stage.path())).collect();
    std::thread::scope(|scope| {
        for (number, machine) in machines.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..3 {
                    machine.ok(&["task", "add", &format!("{number}.{round}")]);
                    machine.ok(&["sync"]);
                }
            });
        }
    });
    for machine in &machines {
        machine.ok(&["sync"]);
        assert_eq!(titles(machine).len(), 12);
        assert_eq!(state(machine), stage.tip(STATE));
    }
}

#[test]
fn a_host_that_takes_only_branches_gets_branches() {
    let stage = Stage::new();
    let hook = stage.remote.repo().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(
        &hook,
        "#!/bin/sh\nwhile read o n r; do case $r in refs/heads/*) ;; *) echo no; exit 1;; esac; done\n",
    )
    .unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    ada.ok(&["task", "add", "One"]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 1 && out.stderr.contains("pre-receive hook declined"), "{out}");
    for machine in [&ada, &bob] {
        machine.git(&["config", "orchestra.remotePrefix", "refs/heads/orchestra-state/"]);
        machine.ok(&["sync"]);
    }
    assert_eq!(stage.tip("refs/heads/orchestra-state/state"), state(&bob));
    assert_eq!(titles(&bob), ["One"]);
    ada.git(&["config", "orchestra.remotePrefix", "refs/heads/orchestra/"]);
    assert_eq!(ada.orchestra(&["sync"]).code, 1, "branches of agents are theirs");
}

#[test]
fn what_the_configuration_says_of_a_remote_runs_nothing() {
    let stage = Stage::new();
    let ada = machine(&stage.path());
    let witness = ada.root().join("ran");
    let command = format!("touch {}; git-upload-pack", witness.display());
    let keys = ["remote.origin.uploadpack", "remote.origin.receivepack", "core.askPass", "core.sshCommand"];
    for key in keys {
        ada.git(&["config", key, &command]);
    }
    ada.git(&["config", "remote.origin.mirror", "true"]);
    ada.git(&["config", "remote.origin.fetch", "+refs/*:refs/*"]);
    ada.ok(&["task", "add", "One"]);
    ada.ok(&["sync"]);
    ada.ok(&["task", "add", "Two"]);
    ada.ok(&["sync"]);
    assert!(!witness.exists());
    let refs = stage.remote.git(&["for-each-ref", "--format=%(refname)"]);
    assert_eq!(refs.lines().collect::<Vec<_>>(), ["refs/heads/main", STATE], "nothing is mirrored");
}

#[test]
fn who_signs_in_is_told_by_the_user_alone() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let ada = machine(&format!("http://127.0.0.1:{}/repo.git", listener.local_addr().unwrap().port()));
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let mut client = client;
            let mut buffer = [0; 4096];
            if !client.read(&mut buffer).is_ok_and(|count| count > 0) {
                continue;
            }
            let answer = "HTTP/1.1 401 No\r\nWWW-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\
                          Connection: close\r\n\r\n";
            client.write_all(answer.as_bytes()).ok();
        }
    });
    let (trusted, planted) = (ada.root().join("trusted"), ada.root().join("planted"));
    ada.git(&["config", "--global", "credential.helper", &format!("!touch {}; true", trusted.display())]);
    for key in ["credential.helper", "credential.http://127.0.0.1.helper"] {
        ada.git(&["config", key, &format!("!touch {}; true", planted.display())]);
    }
    ada.ok(&["task", "add", "One"]);
    let start = Instant::now();
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 1 && out.stderr.contains("terminal prompts disabled"), "{out}");
    assert!(start.elapsed() < Duration::from_secs(30));
    assert!(trusted.exists() && !planted.exists(), "what an agent may write names no program");
}

#[test]
fn every_format_of_repository_syncs() {
    for (reftable, sha256) in [(true, false), (false, true), (true, true)] {
        let layout = Layout { reftable, sha256, ..Layout::default() };
        let stage = Stage { remote: Sandbox::with(Layout { bare: true, ..layout }) };
        let machines = [Sandbox::with(layout), Sandbox::with(layout)];
        for (number, machine) in machines.iter().enumerate() {
            machine.git(&["remote", "add", "origin", &stage.path()]);
            machine.ok(&["task", "add", &format!("{number}")]);
            machine.ok(&["sync"]);
        }
        machines[0].ok(&["sync"]);
        assert_eq!(state(&machines[0]), state(&machines[1]), "{layout:?}");
        assert_eq!(titles(&machines[0]), ["0", "1"]);
        machines[0].assert_sound();
    }
}

#[test]
fn a_remote_that_never_answers_is_given_up() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("git://127.0.0.1:{}/repo.git", listener.local_addr().unwrap().port());
    let ada = machine(&url);
    ada.git(&["config", "orchestra.remoteTimeout", "1s"]);
    ada.ok(&["task", "add", "One"]);
    let own = state(&ada);
    for command in ["sync", "fetch"] {
        let start = Instant::now();
        let out = ada.orchestra(&[command]);
        assert!(out.code == 1 && out.stderr.contains("no end after 1 s"), "{out}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    assert_eq!(state(&ada), own);
    drop(listener);
}

/// Stands between a machine and the daemon; of the first push it swallows every answer.
fn deaf_proxy(upstream: u16, swallowed: &Arc<AtomicUsize>) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("git://127.0.0.1:{}/repo.git", listener.local_addr().unwrap().port());
    let swallowed = Arc::clone(swallowed);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), Ok(server)) = (client, TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)))
            else {
                return;
            };
            let swallowed = Arc::clone(&swallowed);
            std::thread::spawn(move || relay(client, server, &swallowed));
        }
    });
    url
}

fn relay(mut client: TcpStream, mut server: TcpStream, swallowed: &AtomicUsize) {
    let mut buffer = vec![0; 64 << 10];
    let Ok(count) = client.read(&mut buffer) else { return };
    let request = buffer[..count].to_vec();
    let is_push = request.windows(12).any(|window| window == b"receive-pack");
    let cut = is_push && swallowed.load(Ordering::SeqCst) == 0;
    if server.write_all(&request).is_err() {
        return;
    }
    let deaf = Arc::new(AtomicBool::new(false));
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = {
        let deaf = Arc::clone(&deaf);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if !deaf.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            // Only when the server is through: the push has been carried out.
            to.shutdown(Shutdown::Both).ok();
        })
    };
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        if cut && !deaf.swap(true, Ordering::SeqCst) {
            swallowed.fetch_add(1, Ordering::SeqCst);
        }
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    server.shutdown(Shutdown::Write).ok();
    back.join().ok();
}

#[test]
fn a_push_whose_answer_is_lost_is_read_back() {
    let stage = Stage::new();
    let daemon = daemon(&stage);
    let swallowed = Arc::new(AtomicUsize::new(0));
    let ada = machine(&deaf_proxy(daemon.port, &swallowed));
    ada.ok(&["task", "add", "One"]);
    let said = ada.ok(&["sync"]);
    assert_eq!(swallowed.load(Ordering::SeqCst), 1, "the answer was lost");
    assert_eq!(said, "to origin: state");
    assert_eq!(stage.tip(STATE), state(&ada));
    assert_eq!(ada.git(&["rev-parse", TRACKING]), state(&ada));
}

#[test]
fn branches_of_agents_go_on_request() {
    let stage = Stage::new();
    let ada = machine(&stage.path());
    let file = ada.home().join(".config/git-orchestra/config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let profile = "[profile.worker]\nprogram = 'command'\ncommand = ['sh', '-c', 'echo done >work.txt']\n";
    std::fs::write(file, profile).unwrap();
    ada.ok(&["task", "add", "Work"]);
    ada.ok(&["spawn", "--profile", "worker", "--name", "blue-heron"]);
    ada.ok(&["push"]);
    let branch = "refs/heads/orchestra/blue-heron";
    assert_eq!(stage.remote.git(&["for-each-ref", branch]), "");
    let said = ada.ok(&["push", "--branches"]);
    assert_eq!(said, "to origin: orchestra/blue-heron");
    assert_eq!(stage.tip(branch), ada.git(&["rev-parse", branch]));
}

#[test]
fn a_remote_has_to_be_there() {
    let machine = Sandbox::new();
    let out = machine.orchestra(&["sync"]);
    assert!(out.code == 1 && out.stderr.contains("this repository has none"), "{out}");
    machine.git(&["remote", "add", "a", "/nowhere/a.git"]);
    machine.git(&["remote", "add", "b", "/nowhere/b.git"]);
    let out = machine.orchestra(&["sync"]);
    assert!(out.code == 1 && out.stderr.contains("choose a remote among a, b"), "{out}");
    let out = machine.orchestra(&["sync", "--", "--upload-pack=touch x"]);
    assert!(out.code == 1 && out.stderr.contains("find the remote"), "{out}");
    let out = machine.orchestra(&["sync", "a"]);
    assert!(out.code == 1 && out.stderr.contains("does not appear to be a git repository"), "{out}");
}

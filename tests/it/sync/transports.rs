//! Every way to a remote: each is a real server, or a real file, and none can ask or hang.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::*;
use crate::harness::servers::{self, PASSWORD, USER};

/// What every way to a remote must be able to do. `prepare` lets a new machine in.
fn meet(stage: &Stage, url: &str, prepare: impl Fn(&Sandbox)) {
    let new_machine = || {
        let machine = machine(url);
        prepare(&machine);
        machine
    };
    let (ada, bob) = (new_machine(), new_machine());
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

    // A machine that has nothing but its clone.
    let new = new_machine();
    let clone = new.root().join("clone");
    new.git(&["clone", "--quiet", url, clone.to_str().unwrap()]);
    let out = new.orchestra_in(&clone, &["sync"]);
    assert_eq!((out.code, out.stdout.as_str()), (0, "from origin: 2 tasks\n"), "{out}");

    // All at once.
    std::thread::scope(|scope| {
        for (number, machine) in [&ada, &bob].into_iter().enumerate() {
            scope.spawn(move || {
                for round in 0..2 {
                    machine.ok(&["task", "add", &format!("{number}.{round}")]);
                    machine.ok(&["push"]);
                }
            });
        }
    });
    let out = new.orchestra_in(&clone, &["sync"]);
    assert_eq!((out.code, out.stdout.as_str()), (0, "from origin: 4 tasks\n"), "{out}");
    for machine in [&ada, &bob] {
        machine.ok(&["sync"]);
        assert_eq!(state(machine), stage.tip(STATE));
        machine.assert_sound();
        assert!(machine.git(&["for-each-ref", "refs/remotes", "refs/tags"]).is_empty());
    }
    stage.remote.git(&["fsck", "--strict"]);
    assert_eq!((ada.fingerprint(), bob.fingerprint()), before, "checkout and configuration are the user's");

    // And it does not go back.
    let last = stage.tip(STATE);
    stage.remote.git(&["update-ref", STATE, &stage.tip(&format!("{STATE}~1"))]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 6 && out.stderr.contains(&last), "{out}");
    assert_eq!(state(&ada), last);
}

fn no_preparation(_: &Sandbox) {}

/// A machine whose user has a helper that knows this password.
fn with_password(machine: &Sandbox, password: &str) {
    let helper = format!("!f() {{ echo username={USER}; echo 'password={password}'; }}; f");
    machine.git(&["config", "--global", "credential.helper", &helper]);
}

/// It fails at once, says why and what to do, asks nobody, and everything stays.
fn assert_not_let_in(machine: &Sandbox, words: &str) {
    machine.ok(&["task", "add", "One"]);
    let own = state(machine);
    for command in ["sync", "fetch", "push"] {
        let start = Instant::now();
        let out = machine.orchestra(&[command]);
        assert_eq!(out.code, 1, "{out}");
        assert!(out.stderr.contains("failed to sign in to origin: ") && out.stderr.contains(words), "{out}");
        assert!(out.stderr.contains("credential.helper"), "{out}");
        assert!(start.elapsed() < Duration::from_secs(30));
    }
    assert_eq!(state(machine), own);
}

#[test]
fn machines_meet_over_a_path() {
    let stage = Stage::new();
    meet(&stage, &stage.path(), no_preparation);
}

#[test]
fn machines_meet_over_git_daemon() {
    let stage = Stage::new();
    let server = servers::git_daemon(&stage.remote);
    meet(&stage, &server.url, no_preparation);
}

#[test]
fn machines_meet_over_http_with_a_password() {
    let stage = Stage::new();
    let server = servers::lighttpd(&stage.remote);
    meet(&stage, &server.url, |machine| with_password(machine, PASSWORD));

    let wrong = machine(&server.url);
    with_password(&wrong, "guessed");
    assert_not_let_in(&wrong, "Authentication failed");
    assert_not_let_in(&machine(&server.url), "terminal prompts disabled");
}

#[test]
fn machines_meet_over_ssh() {
    let stage = Stage::new();
    let server = servers::sshd(&stage.remote);
    let (right, wrong) = (servers::ssh(&stage.remote, "user_key"), servers::ssh(&stage.remote, "other_key"));
    meet(&stage, &server.url, |machine| {
        machine.git(&["config", "--global", "core.sshCommand", &right]);
    });

    let mut by_variable = machine(&server.url);
    by_variable.set_env("GIT_SSH_COMMAND", &right);
    by_variable.ok(&["fetch"]);
    by_variable.set_env("GIT_SSH_COMMAND", &wrong);
    assert_not_let_in(&by_variable, "Permission denied (publickey)");
    // A key that nobody vouched for is not taken from the network.
    let unknown = right.replace("known_hosts", "no_known_hosts");
    by_variable.set_env("GIT_SSH_COMMAND", unknown);
    assert_not_let_in(&by_variable, "Host key verification failed");
}

#[test]
fn an_old_git_is_refused_in_one_sentence() {
    let stage = Stage::new();
    let mut ada = machine(&stage.path());
    ada.ok(&["task", "add", "One"]);
    let bin = ada.root().join("old");
    std::fs::create_dir(&bin).unwrap();
    let real = std::env::split_paths(&std::env::var_os("PATH").unwrap())
        .map(|dir| dir.join("git"))
        .find(|file| file.exists())
        .unwrap();
    let script = format!(
        "#!/bin/sh\ncase \"$*\" in\n*--porcelain*refs/orchestra/remotes*) echo \"error: unknown option \\`porcelain'\" >&2; \
         exit 129 ;;\nversion) echo git version 2.39.5 ;;\n*) exec {} \"$@\" ;;\nesac\n",
        real.display()
    );
    std::fs::write(bin.join("git"), script).unwrap();
    std::fs::set_permissions(bin.join("git"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::iter::once(bin).chain(std::env::split_paths(&path));
    ada.set_env("PATH", std::env::join_paths(path).unwrap());
    let out = ada.orchestra(&["sync"]);
    let words = "error: failed to sync with `git version 2.39.5`: git 2.41 or newer is needed\n";
    assert_eq!((out.code, out.stderr.as_str()), (1, words), "{out}");
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

/// Stands between a machine and the daemon.
struct Proxy {
    url: String,
    /// What each connection asked for: `upload-pack` to fetch, `receive-pack` to push.
    asked: Arc<Mutex<Vec<String>>>,
    /// Of how many pushes it still swallows every answer.
    deaf: Arc<AtomicUsize>,
}

impl Proxy {
    fn new(upstream: u16, deaf: usize) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("git://127.0.0.1:{}/repo.git", listener.local_addr().unwrap().port());
        let proxy = Self { url, asked: Arc::default(), deaf: Arc::new(AtomicUsize::new(deaf)) };
        let (asked, deaf) = (Arc::clone(&proxy.asked), Arc::clone(&proxy.deaf));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(client), Ok(server)) = (client, TcpStream::connect((Ipv4Addr::LOCALHOST, upstream)))
                else {
                    return;
                };
                let (asked, deaf) = (Arc::clone(&asked), Arc::clone(&deaf));
                std::thread::spawn(move || relay(client, server, &asked, &deaf));
            }
        });
        proxy
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn length_of(request: &[u8]) -> usize {
    let digits = std::str::from_utf8(&request[..4]).unwrap();
    usize::from_str_radix(digits, 16).unwrap()
}

fn relay(mut client: TcpStream, mut server: TcpStream, asked: &Mutex<Vec<String>>, deaf: &AtomicUsize) {
    let mut buffer = vec![0; 64 << 10];
    let mut request = Vec::new();
    // Its length stands before it, in four digits.
    while request.len() < 4 || request.len() < length_of(&request) {
        let Ok(count @ 1..) = client.read(&mut buffer) else { return };
        request.extend_from_slice(&buffer[..count]);
    }
    let service = String::from_utf8_lossy(&request[4..]);
    let service = service.split_once(' ').unwrap().0.trim_start_matches("git-").to_owned();
    let cut = service == "receive-pack" && deaf.load(Ordering::SeqCst) > 0;
    asked.lock().unwrap().push(service);
    if server.write_all(&request).is_err() {
        return;
    }
    let is_deaf = Arc::new(AtomicBool::new(false));
    let (mut from, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
    let back = {
        let is_deaf = Arc::clone(&is_deaf);
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(count @ 1..) = from.read(&mut buffer) {
                if !is_deaf.load(Ordering::SeqCst) && to.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
            // Only when the server is through: the push has been carried out.
            to.shutdown(Shutdown::Both).ok();
        })
    };
    while let Ok(count @ 1..) = client.read(&mut buffer) {
        if cut && !is_deaf.swap(true, Ordering::SeqCst) {
            deaf.fetch_sub(1, Ordering::SeqCst);
        }
        if server.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    server.shutdown(Shutdown::Write).ok();
    back.join().ok();
}

#[test]
fn a_sync_is_one_fetch_and_one_push() {
    let stage = Stage::new();
    let daemon = servers::git_daemon(&stage.remote);
    let proxy = Proxy::new(daemon.port, 0);
    let (ada, bob) = (machine(&proxy.url), machine(&proxy.url));
    ada.ok(&["task", "add", "One"]);
    ada.ok(&["sync"]);
    proxy.asked();
    bob.ok(&["task", "add", "Two"]);
    bob.ok(&["sync"]);
    assert_eq!(proxy.asked(), ["upload-pack", "receive-pack"], "a machine that is new");
    let head = ada.git(&["rev-parse", "HEAD"]);
    ada.ok(&["finding", "add", "--commit", &head, "a note"]);
    ada.ok(&["sync"]);
    assert_eq!(proxy.asked(), ["upload-pack", "receive-pack"], "state and notes, in both directions");
    ada.ok(&["sync"]);
    assert_eq!(proxy.asked(), ["upload-pack"], "nothing new");
    bob.ok(&["fetch"]);
    assert_eq!(proxy.asked(), ["upload-pack"]);
    ada.ok(&["task", "add", "Three"]);
    ada.ok(&["push"]);
    assert_eq!(proxy.asked(), ["receive-pack"]);
    bob.ok(&["sync"]);
    assert_eq!((proxy.asked().as_slice(), titles(&bob).len()), (["upload-pack".to_owned()].as_slice(), 3));
}

#[test]
fn a_push_whose_answer_is_lost_is_read_back() {
    let stage = Stage::new();
    let daemon = servers::git_daemon(&stage.remote);
    let proxy = Proxy::new(daemon.port, 1);
    let ada = machine(&proxy.url);
    ada.ok(&["task", "add", "One"]);
    let said = ada.ok(&["sync"]);
    assert_eq!(proxy.deaf.load(Ordering::SeqCst), 0, "the answer was lost");
    assert_eq!(said, "to origin: state");
    assert_eq!(stage.tip(STATE), state(&ada));
    assert_eq!(ada.git(&["rev-parse", TRACKING]), state(&ada));
}

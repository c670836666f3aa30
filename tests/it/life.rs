//! The life of an agent as seen from another terminal: stopped, told, interrupted, waited for.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::process::{Child, Stdio};

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::programs::use_claude;
use crate::harness::sandbox::{ORCHESTRA, kill, poll, wait_for, write_in};
use crate::harness::{Endpoint, Sandbox, Step, Terminal};

/// A sandbox whose profile `sh` runs a shell script.
pub(crate) fn sandbox(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    set_profile(&sandbox, &["/bin/sh", "-c", script]);
    sandbox
}

/// Makes `command` what the profile `sh` runs.
pub(crate) fn set_profile(sandbox: &Sandbox, command: &[&str]) {
    let command = json!(command);
    let text = format!("grace = \"1s\"\n[profile.sh]\nprogram = \"command\"\ncommand = {command}\n");
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &text);
}

/// A console of its own, without a terminal.
pub(crate) fn console(sandbox: &Sandbox, args: &[&str]) -> Child {
    let mut command = sandbox.command(ORCHESTRA);
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.spawn().unwrap()
}

/// Waits until a console has printed `word`; what follows is read away.
fn heard(child: &mut Child, word: &str) {
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains(word)), "`{word}` never came");
    std::thread::spawn(move || lines.for_each(drop));
}

pub(crate) fn state(sandbox: &Sandbox, name: &str) -> Value {
    let all = sandbox.json(&["status", "--all"]);
    let found = all["data"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("no {name} in {all}"))
}

/// A number of seconds that no other process of the machine sleeps: suites may run side by side.
fn seconds(number: u32) -> String {
    format!("8{number}.{:07}", std::process::id())
}

/// Whether a process runs with this word in its command line.
fn runs(word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|&b| b == 0).any(|part| part == word.as_bytes())
    })
}

fn sockets(sandbox: &Sandbox) -> Vec<std::path::PathBuf> {
    let dir = std::fs::read_dir(sandbox.git_dir().join("orchestra/control"));
    dir.into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

#[test]
fn an_agent_is_stopped_from_another_terminal_to_its_last_process() {
    let seconds = seconds(1);
    let sandbox = sandbox(&format!(
        "echo work >file; (setsid sh -c 'trap \"\" TERM; while :; do sleep {seconds}; done' &); echo ready; exec sleep {seconds}"
    ));
    let mut child = console(&sandbox, &["spawn", "-m", "Work", "--profile", "sh"]);
    heard(&mut child, "ready");
    assert_eq!(sandbox.orchestra(&["wait", "work", "--timeout", "0"]).code, 7);
    assert_eq!(sandbox.orchestra(&["wait", "work", "--for", "running"]).code, 0);
    let stopped = sandbox.orchestra(&["stop", "work", "--wait"]);
    assert_eq!((stopped.code, stopped.stdout.as_str()), (0, "work  stopped\n"), "{stopped}");
    assert!(!runs(&seconds), "nobody is left");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let shown = state(&sandbox, "work");
    assert_eq!((&shown["state"], &shown["evidence"]), (&json!("stopped"), &json!("by stop")));
    assert_eq!(sandbox.git(&["show", "orchestra/work:file"]), "work", "what it left is kept");
    assert!(sockets(&sandbox).is_empty());
    // Once more is no error, and what waits for it knows.
    let again = sandbox.orchestra(&["stop", "work"]);
    assert!(again.code == 0 && again.stderr.contains("work does not run (stopped)"), "{again}");
    assert_eq!(sandbox.orchestra(&["wait", "work"]).code, 4);
    assert_eq!(sandbox.orchestra(&["wait", "work", "--for", "stopped"]).code, 0);
    assert_eq!(sandbox.orchestra(&["wait", "work", "--for", "done"]).code, 4);
    assert_eq!(sandbox.orchestra(&["wait", "nobody"]).code, 8);
    sandbox.ok(&["remove", "work", "--force"]);
    assert_eq!(sandbox.orchestra(&["wait", "work"]).code, 4, "its removal is no good end");
}

#[test]
fn whoever_waits_for_any_hears_of_the_first() {
    let sandbox = sandbox("until test -e ../../go-$GIT_ORCHESTRA_AGENT_NAME; do sleep 0.05; done");
    let names = ["one", "two"];
    for name in names {
        sandbox.ok(&["spawn", "--detach", "-m", "Work", "--name", name, "--profile", "sh"]);
    }
    let wait = |more: &[&str]| sandbox.orchestra(&[&["wait", "one", "two"], more].concat());
    assert_eq!(wait(&["--any", "--timeout", "0"]).code, 7, "both run");
    std::fs::write(sandbox.root().join("go-two"), "").unwrap();
    let waited = wait(&["--any", "--timeout", "60s", "--json"]);
    assert_eq!(waited.code, 0, "{waited}");
    let seen: Value = serde_json::from_str(&waited.stdout).unwrap();
    let of = |name: &str| seen["data"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap();
    assert_eq!((&of("two")["state"], &of("two")["reached"]), (&json!("done"), &json!(true)), "{seen}");
    assert_eq!((&of("one")["state"], &of("one")["reached"]), (&json!("running"), &json!(false)), "{seen}");
    assert_eq!(wait(&["--timeout", "0"]).code, 7, "of both it is not so");
    // One that will never get there does not count while another one may.
    assert_eq!(wait(&["--any", "--for", "failed", "--timeout", "0"]).code, 7);
    sandbox.ok(&["stop", "one", "--wait"]);
    assert_eq!(wait(&["--any", "--for", "failed"]).code, 4, "none will");
    assert_eq!(wait(&["--any", "--for", "stopped"]).code, 0);
}

#[test]
fn one_that_waits_for_its_turn_is_stopped_too_and_all_at_once() {
    let sandbox = sandbox("echo ready; exec sleep 600");
    for title in ["First", "Second", "Third"] {
        sandbox.ok(&["task", "add", title]);
    }
    let mut child = console(&sandbox, &["spawn", "--profile", "sh", "--jobs", "1"]);
    heard(&mut child, "ready");
    let queued = || {
        let all = sandbox.json(&["status"]);
        let rows = all["data"].as_array().unwrap().iter();
        rows.filter(|row| row["state"] == "queued")
            .map(|row| row["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let waiting = queued();
    assert_eq!(waiting.len(), 2);
    let sent = sandbox.orchestra(&["send", &waiting[0], "hello"]);
    assert!(sent.code == 1 && sent.stderr.contains("waits for its turn"), "{sent}");
    assert!(sent.stderr.contains(&format!("`git orchestra wait {} --for running`", waiting[0])), "{sent}");
    let stopped = sandbox.orchestra(&["stop", &waiting[0], "--wait"]);
    assert_eq!(stopped.stdout, format!("{}  new\n", waiting[0]), "{stopped}");
    assert_eq!(sandbox.orchestra(&["wait", &waiting[0]]).code, 4, "it never ran");
    assert_eq!(queued(), waiting[1..]);
    let all = sandbox.orchestra(&["stop", "--all", "--now", "--wait"]);
    assert_eq!(all.code, 0, "{all}");
    assert!(all.stdout.contains("stopped") && all.stdout.contains("new"), "{all}");
    assert_eq!(child.wait().unwrap().code(), Some(4));
    let none = sandbox.orchestra(&["stop", "--all"]);
    assert!(none.code == 0 && none.stderr.contains("no agent runs here"), "{none}");
}

#[test]
fn what_cannot_be_told_says_so_and_says_what_can_be_done() {
    let sandbox = sandbox("echo ready; read x <stop || exec sleep 600");
    let mut child = console(&sandbox, &["spawn", "-m", "Work", "--profile", "sh"]);
    heard(&mut child, "ready");
    let sent = sandbox.orchestra(&["send", "work", "hello"]);
    assert!(sent.code == 1 && sent.stderr.contains("takes no messages while it runs"), "{sent}");
    assert!(sent.stderr.contains("git orchestra resume work -m TEXT"), "{sent}");
    let interrupted = sandbox.orchestra(&["interrupt", "work"]);
    assert!(
        interrupted.code == 1 && interrupted.stderr.contains("knows no way to stop a turn"),
        "{interrupted}"
    );
    // Agents steer nobody.
    for args in [&["stop", "work"][..], &["send", "work", "hello"], &["interrupt", "work"]] {
        let mut agent = sandbox.command(ORCHESTRA);
        let out = agent.args(args).env("GIT_ORCHESTRA_AGENT", "g000000000000000").output().unwrap();
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(out.status.code() == Some(1) && said.contains("people do"), "{args:?} {said}");
    }
    sandbox.ok(&["stop", "work", "--wait"]);
    child.wait().unwrap();
    let sent = sandbox.orchestra(&["send", "work", "hello"]);
    assert!(sent.code == 1 && sent.stderr.contains("does not run (stopped)"), "{sent}");
    assert!(sent.stderr.contains("git orchestra resume work -m TEXT"), "{sent}");
    let json = sandbox.orchestra(&["send", "work", "hello", "--json"]);
    let document: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(
        (&document["data"][0]["done"], &document["data"][0]["state"]),
        (&json!(false), &json!("stopped"))
    );
}

#[test]
fn nonsense_at_the_socket_harms_nobody() {
    let sandbox = sandbox("echo ready; exec sleep 600");
    let mut child = console(&sandbox, &["spawn", "-m", "Work", "--profile", "sh"]);
    heard(&mut child, "ready");
    let [socket] = &sockets(&sandbox)[..] else { panic!("one socket") };
    let talk = |bytes: &[u8]| {
        let mut stream = UnixStream::connect(socket).unwrap();
        // It may hang up in the middle.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    let id = state(&sandbox, "work")["id"].as_str().unwrap().to_owned();
    for (bytes, answers) in [
        ("\n\0\u{fffd}\n{}\n[1,2]\n{\"v\":1}\n".to_owned(), 5),
        (format!("{{\"v\":99,\"ask\":\"stop\",\"agent\":\"{id}\"}}\n"), 1),
        ("{\"v\":1,\"ask\":\"stop\",\"agent\":\"nobody\"}\n".to_owned(), 1),
        ("{\"v\":1,\"ask\":\"stop\",\"agent\":\"g000000000000000\"}\n".to_owned(), 1),
        (
            format!(
                "{{\"v\":1,\"ask\":\"permission\",\"agent\":\"{id}\",\"request\":\"x\",\"allow\":true}}\n"
            ),
            1,
        ),
        ("[".repeat(100_000) + "\n", 1),
        (format!("{{\"v\":1,\"ask\":\"stop\",\"agent\":\"{id}\"}}"), 0),
        ("x".repeat(5 << 20), 0),
    ] {
        let answer = talk(bytes.as_bytes());
        assert_eq!(answer.matches("\"answer\":\"refused\"").count(), answers, "{answer}");
        assert_eq!(answer.lines().count(), answers, "{answer}");
    }
    // Fifty who say nothing keep nobody out.
    let silent: Vec<_> = (0..50).map(|_| UnixStream::connect(socket).unwrap()).collect();
    assert_eq!(state(&sandbox, "work")["state"], "running");
    sandbox.ok(&["stop", "work", "--wait"]);
    drop(silent);
    child.wait().unwrap();
}

#[test]
fn the_socket_of_a_killed_session_is_removed_with_what_it_left() {
    let seconds = seconds(2);
    let sandbox = sandbox(&format!("echo ready; exec sleep {seconds}"));
    let mut child = console(&sandbox, &["spawn", "-m", "Work", "--profile", "sh"]);
    heard(&mut child, "ready");
    kill(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    assert_eq!(sockets(&sandbox).len(), 1);
    let left = state(&sandbox, "work");
    let evidence = left["evidence"].as_str().unwrap();
    assert_eq!(left["state"], "lost", "{left}");
    assert!(
        evidence.starts_with("its watcher died, pid ") && evidence.contains("git orchestra recover"),
        "{left}"
    );
    let stopped = sandbox.orchestra(&["stop", "work"]);
    assert!(
        stopped.code == 0 && stopped.stderr.contains("it is lost, and what still ran was ended"),
        "{stopped}"
    );
    assert!(stopped.stderr.contains("work does not run (lost)"), "{stopped}");
    assert!(poll(|| (!runs(&seconds)).then_some(())).is_some());
    assert!(sockets(&sandbox).is_empty());
}

#[test]
fn claude_is_told_something_while_it_works() {
    let script =
        vec![Step::write("note", "noted\n"), Step::say("Written.").behind("hold"), Step::say("Heard.")];
    let endpoint = Endpoint::start([("Write the note", script)]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    let mut child = console(&sandbox, &["spawn", "-m", "Write the note", "--name", "heron"]);
    wait_for("the second request", || (endpoint.waiting_at("hold") > 0).then_some(()));
    assert_eq!(sandbox.ok(&["send", "heron", "And mind the commas"]), "heron  told");
    endpoint.open("hold");
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert!(said.contains("a person told it: And mind the commas"), "{said}");
    let last = format!("{:?}", endpoint.seen().pop().unwrap());
    assert!(last.contains("And mind the commas"), "{last}");
    let log = sandbox.ok(&["log", "heron"]);
    assert!(log.contains("And mind the commas"), "{log}");
}

#[test]
fn claude_is_interrupted_and_told_what_to_do_instead() {
    let long = vec![Step::say("Thinking long.").behind("hold")];
    let other = vec![Step::write("other", "this\n"), Step::say("That is better.")];
    let endpoint = Endpoint::start([("Do one thing", long), ("the other", other)]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    let mut child = console(&sandbox, &["spawn", "-m", "Do one thing", "--name", "heron"]);
    wait_for("the request", || (endpoint.waiting_at("hold") > 0).then_some(()));
    let out = sandbox.orchestra(&["interrupt", "heron"]);
    assert_eq!((out.code, out.stdout.as_str()), (0, "heron  interrupted\n"), "{out}");
    // It drops its turn, and stays.
    let dropped = poll(|| sandbox.ok(&["log", "heron"]).contains("error_during_execution").then_some(()));
    assert!(dropped.is_some(), "{}", sandbox.ok(&["log", "heron"]));
    assert_eq!(sandbox.orchestra(&["wait", "heron", "--timeout", "1"]).code, 7, "it waits for a word");
    sandbox.ok(&["send", "heron", "Do the other [script:the other]"]);
    assert_eq!(child.wait().unwrap().code(), Some(0), "{}", sandbox.ok(&["log", "heron"]));
    assert_eq!(sandbox.git(&["show", "orchestra/heron:other"]), "this");
    endpoint.open("hold");
}

/// The process that watches an agent, as its lease says.
pub(crate) fn watcher(sandbox: &Sandbox) -> u32 {
    let leases = std::fs::read_dir(sandbox.git_dir().join("orchestra/leases")).unwrap().flatten();
    let files = leases.map(|entry| entry.path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    let found: Vec<Value> =
        files.map(|path| serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()).collect();
    assert_eq!(found.len(), 1, "{found:?}");
    u32::try_from(found[0]["supervisor"]["pid"].as_u64().unwrap()).unwrap()
}

#[test]
fn a_detached_agent_outlives_its_terminal() {
    let gate = Sandbox::new();
    let gate = gate.root().join("gate");
    let sandbox = sandbox(&format!(
        "echo begun; while [ ! -e {} ]; do sleep 0.05; done; echo work >file; tty; ls -l /proc/self/fd",
        gate.display()
    ));
    std::fs::create_dir_all(gate.parent().unwrap()).unwrap();
    sandbox.ok(&["task", "add", "Work"]);
    let mut terminal = Terminal::orchestra(&sandbox, &["spawn", "--detach", "--profile", "sh"], 24, 80);
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    assert!(terminal.screen().contains("work  started"), "{}", terminal.screen());
    drop(terminal);
    let pid = watcher(&sandbox);
    let fields = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = fields.rsplit(") ").next().unwrap().split(' ').collect();
    assert_eq!((fields[3], fields[4]), (pid.to_string().as_str(), "0"), "a session of its own, no terminal");
    let links = (0..3).map(|fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).unwrap());
    assert!(links.into_iter().all(|link| link.to_str() == Some("/dev/null")));
    assert_eq!(state(&sandbox, "work")["state"], "running");
    // Another one cannot take it, and nothing tidies it up.
    assert!(!format!("{}", sandbox.orchestra(&["recover"])).contains("lost"));
    assert_ne!(sandbox.orchestra(&["resume", "work"]).code, 0);
    std::fs::write(&gate, "").unwrap();
    assert_eq!(sandbox.orchestra(&["wait", "work"]).code, 0);
    assert_eq!(sandbox.git(&["show", "orchestra/work:file"]), "work");
    let log = sandbox.ok(&["log", "work"]);
    assert!(log.contains("begun") && log.contains("not a tty"), "{log}");
    assert!(poll(|| sockets(&sandbox).is_empty().then_some(())).is_some());
    // And once more, in another run.
    let resumed = sandbox.ok(&["resume", "work", "--detach", "--json"]);
    let resumed: Value = serde_json::from_str(&resumed).unwrap();
    assert_eq!((&resumed["data"][0]["state"], &resumed["data"][0]["run"]), (&json!("started"), &json!(2)));
    assert_eq!(sandbox.orchestra(&["wait", "work"]).code, 0);
    std::fs::remove_dir_all(gate.parent().unwrap()).unwrap();
    sandbox.assert_sound();
}

#[test]
fn a_detached_agent_keeps_nothing_open_of_whoever_started_it() {
    let seconds = seconds(9);
    let sandbox = sandbox(&format!("exec sleep {seconds}"));
    let mut command = sandbox.command("/bin/sh");
    // A script's lock or pipe at a descriptor of its own: here the pipe whose end this test waits for.
    command.args(["-c", "exec \"$0\" \"$@\" 9>&1", ORCHESTRA]);
    command.args(["spawn", "--detach", "-m", "Work", "--profile", "sh"]);
    let out = command.stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "{out:?}");
    poll(|| runs(&seconds).then_some(())).expect("it runs on");
    sandbox.ok(&["stop", "work", "--wait"]);
}

#[test]
fn as_many_detached_agents_run_as_may_whichever_command_started_them() {
    let sandbox = sandbox("echo up; exec sleep 600");
    let first = sandbox.orchestra(&["spawn", "--detach", "-m", "First", "--profile", "sh", "--jobs", "1"]);
    assert_eq!((first.code, first.stdout.as_str()), (0, "first  started\n"), "{first}");
    for name in ["Second", "Third"] {
        let next = sandbox.orchestra(&["spawn", "--detach", "-m", name, "--profile", "sh", "--jobs", "1"]);
        assert!(next.code == 0 && next.stdout.ends_with("queued\n"), "{next}");
    }
    assert_eq!(state(&sandbox, "second")["state"], "queued");
    let stopped = sandbox.orchestra(&["stop", "second", "--wait"]);
    assert_eq!(stopped.stdout, "second  new\n", "{stopped}");
    sandbox.ok(&["stop", "first", "--wait"]);
    assert_eq!(sandbox.orchestra(&["wait", "third", "--for", "running", "--timeout", "60"]).code, 0);
    sandbox.ok(&["stop", "--all", "--wait"]);
    // Whoever watched says that it is over before it goes.
    wait_for("the sockets' end", || sockets(&sandbox).is_empty().then_some(()));
}

#[test]
fn what_keeps_a_detached_agent_from_starting_is_told_where_it_was_started() {
    let mut sandbox = sandbox("echo up");
    let file = sandbox.root().join("file");
    std::fs::write(&file, "").unwrap();
    sandbox.set_env("ORCHESTRA_WORKTREE_ROOT", file.join("below"));
    sandbox.ok(&["task", "add", "Work"]);
    let out = sandbox.orchestra(&["spawn", "--detach", "--profile", "sh"]);
    assert_eq!(out.code, 4, "{out}");
    assert!(
        out.stdout.contains("work  not started: failed to ") && out.stdout.contains("Not a directory"),
        "{out}"
    );
    assert!(sandbox.ok(&["task", "ready"]).contains("Work"), "its task is free again");
}

#[test]
fn a_detached_agent_dies_with_the_process_that_watches_it() {
    let seconds = seconds(3);
    let sandbox = sandbox(&format!(
        "[ -e file ] || echo work >file; (setsid sh -c 'trap \"\" TERM; while :; do sleep {seconds}; done' &); exec sleep {seconds}"
    ));
    sandbox.ok(&["spawn", "--detach", "-m", "Work", "--profile", "sh"]);
    assert!(poll(|| runs(&seconds).then_some(())).is_some());
    kill(watcher(&sandbox), Signal::SIGKILL);
    assert!(poll(|| (state(&sandbox, "work")["state"] == "lost").then_some(())).is_some());
    let out = sandbox.orchestra(&["recover"]);
    assert!(format!("{out}").contains("it is lost, and what still ran was ended"), "{out}");
    assert!(!runs(&seconds), "to its last descendant");
    assert!(sockets(&sandbox).is_empty());
    assert_eq!(sandbox.orchestra(&["wait", "work"]).code, 4);
    // And a signal that it can hear ends it cleanly.
    sandbox.ok(&["resume", "work", "--detach"]);
    kill(watcher(&sandbox), Signal::SIGTERM);
    assert_eq!(sandbox.orchestra(&["wait", "work", "--for", "stopped"]).code, 0);
    assert!(!runs(&seconds));
    assert_eq!(sandbox.git(&["show", "orchestra/work:file"]), "work");
}

#[test]
fn whoever_attaches_sees_everything_once_whenever_they_come() {
    let sandbox = sandbox(
        "n=0; while [ ! -e stop ]; do n=$((n+1)); echo line $n; [ $((n % 50)) -eq 0 ] && sleep 0.02; done; rm stop; echo last $n",
    );
    sandbox.ok(&["spawn", "--detach", "-m", "Count", "--profile", "sh"]);
    let viewers: Vec<Child> = (0..4)
        .map(|_| {
            let seen = poll(|| sandbox.ok(&["log", "count"]).contains("line 100").then_some(()));
            assert!(seen.is_some());
            console(&sandbox, &["attach", "count"])
        })
        .collect();
    let mut json = console(&sandbox, &["attach", "count", "--json"]);
    let readers: Vec<_> = viewers
        .into_iter()
        .map(|mut viewer| {
            std::thread::spawn(move || {
                let mut said = String::new();
                viewer.stdout.take().unwrap().read_to_string(&mut said).unwrap();
                (said, viewer.wait().unwrap().code())
            })
        })
        .collect();
    let mut lines = BufReader::new(json.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("line 2000\"")));
    let worktree = sandbox.git(&["worktree", "list", "--porcelain"]);
    let worktree =
        worktree.lines().filter_map(|line| line.strip_prefix("worktree ")).next_back().unwrap().to_owned();
    std::fs::write(format!("{worktree}/stop"), "").unwrap();
    let last = lines.last().unwrap();
    let last: Value = serde_json::from_str(&last).unwrap();
    assert_eq!(
        (&last["data"]["is"], &last["data"]["outcome"]["is"]),
        (&json!("finished"), &json!("succeeded"))
    );
    assert_eq!(json.wait().unwrap().code(), Some(0));
    for reader in readers {
        let (said, code) = reader.join().unwrap();
        assert_eq!(code, Some(0), "{said}");
        let numbers: Vec<u64> =
            said.lines().filter_map(|line| line.strip_prefix("count  line ")?.parse().ok()).collect();
        let count = u64::try_from(numbers.len()).unwrap();
        assert!(count >= 2000, "{count}");
        assert!(numbers.into_iter().eq(1..=count), "every line once, in order");
        assert!(
            said.contains(&format!("count  last {count}\n")) && said.ends_with("count  done\n"),
            "{count}"
        );
    }
    let late = sandbox.orchestra(&["attach", "count"]);
    assert!(late.code == 1 && late.stderr.contains("count does not run (done)"), "{late}");
}

#[test]
fn claude_is_spoken_to_and_answered_where_somebody_attached() {
    let script = vec![
        Step::read("README.md").saying("I begin.").behind("begin"),
        Step::bash("sh -c 'date >marker'"),
        Step::say("Finished."),
    ];
    let endpoint = Endpoint::start([("Touch the marker", script)]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    sandbox.ok(&["spawn", "--detach", "-m", "Touch the marker", "--name", "heron"]);
    wait_for("the first request", || (endpoint.waiting_at("begin") > 0).then_some(()));
    // The terminal is as it was afterwards.
    let script = format!("{ORCHESTRA} attach heron; echo \"code $?\"; stty -a");
    let mut terminal = Terminal::start(&sandbox, "sh", &["-c", &script], sandbox.repo(), 30, 100);
    terminal.wait_for("say ›");
    terminal.type_in("Mind the commaX\u{7f}s\r");
    terminal.wait_for("a person told it: Mind the commas");
    endpoint.open("begin");
    terminal.wait_for("let it use Bash? y/n");
    terminal.type_in("perhaps\r");
    terminal.wait_for("y allows it this once");
    terminal.type_in("y\r");
    terminal.wait_for("it was allowed");
    terminal.wait_for("code 0");
    terminal.wait_for(" icanon");
    assert!(terminal.screen().contains(" echo "), "{}", terminal.screen());
    assert_eq!(terminal.end(), 0);
    sandbox.git(&["cat-file", "-e", "orchestra/heron:marker"]);
    assert!(format!("{:?}", endpoint.seen().pop().unwrap()).contains("Mind the commas"));
}

/// A model that asks which colour it should be, writes it down, and ends.
fn asks_for_a_colour() -> Vec<Step> {
    let option = |label: &str, description: &str| json!({"label": label, "description": description});
    let question = json!({"questions": [{
        "question": "Which colour should it be?",
        "header": "Colour",
        "options": [option("red", "as the old one"), option("blue", "calm")],
        "multiSelect": false,
    }]});
    vec![
        Step::read("README.md").saying("I begin.").behind("begin"),
        Step::call("AskUserQuestion", question),
        Step::say("Finished."),
    ]
}

/// What the model was sent as the answer to its question.
fn answered(endpoint: &Endpoint) -> String {
    let messages = endpoint.seen().pop().unwrap().body["messages"].clone();
    messages.as_array().unwrap().last().unwrap().to_string()
}

#[test]
fn what_claude_asks_is_answered_where_somebody_attached() {
    let endpoint = Endpoint::start([("Paint it", asks_for_a_colour())]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    sandbox.ok(&["spawn", "--detach", "-m", "Paint it", "--name", "heron"]);
    wait_for("the first request", || (endpoint.waiting_at("begin") > 0).then_some(()));
    let mut terminal = Terminal::orchestra(&sandbox, &["attach", "heron"], 30, 100);
    terminal.wait_for("say ›");
    endpoint.open("begin");
    terminal.wait_for("heron asks: a number, or your own words ›");
    let screen = terminal.screen();
    assert!(screen.contains("Which colour should it be?"), "{screen}");
    assert!(screen.contains("1 red: as the old one") && screen.contains("2 blue: calm"), "{screen}");
    let evidence = state(&sandbox, "heron")["evidence"].to_string();
    assert!(evidence.contains("Which colour should it be?"), "{evidence}");
    terminal.type_in("2\r");
    terminal.wait_for("it was answered: 2");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    let told = answered(&endpoint);
    assert!(told.contains("blue") && !told.contains("is_error\":true"), "{told}");
}

#[test]
fn what_claude_asks_is_answered_in_ones_own_words_on_the_console() {
    let endpoint = Endpoint::start([("Paint it", asks_for_a_colour())]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    endpoint.open("begin");
    let mut terminal =
        Terminal::orchestra(&sandbox, &["spawn", "-m", "Paint it", "--name", "heron"], 30, 100);
    terminal.wait_for("heron asks: a number, r for your own words ›");
    terminal.type_in("r\r");
    terminal.wait_for("the number of an answer, or your own words");
    terminal.type_in("rgreen, if I may\r");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    assert!(answered(&endpoint).contains("green, if I may"));
}

#[test]
fn what_claude_asks_when_nobody_is_there_is_a_decision() {
    let again = vec![Step::say("Painted.")];
    let endpoint = Endpoint::start([("Paint it", asks_for_a_colour()), ("again", again)]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    endpoint.open("begin");
    let spawned = sandbox.orchestra(&["spawn", "-m", "Paint it", "--name", "heron"]);
    assert_eq!(spawned.code, 3, "{spawned}");
    assert!(answered(&endpoint).contains("Nobody is there to answer this right now"));
    let decisions = sandbox.json(&["decide"]);
    let decision = &decisions["data"][0];
    assert_eq!(decision["kind"], "question", "{decisions}");
    let id = decision["id"].as_str().unwrap();
    let shown = sandbox.ok(&["show", id]);
    assert!(
        shown.contains("heron asks: Which colour should it be?") && shown.contains("as the old one"),
        "{shown}"
    );
    assert_eq!(sandbox.orchestra(&["decide", id, "3"]).code, 1, "no such answer");
    let out = sandbox.orchestra(&["decide", id, "answer"]);
    assert!(out.code == 1 && out.stderr.contains("say the answer with `-m TEXT`"), "{out}");
    let out = sandbox.orchestra(&["decide", id, "1"]);
    assert!(out.code == 0 && out.stderr.contains("git orchestra resume heron"), "{out}");
    sandbox.ok(&["resume", "heron", "-m", "Go on [script:again]"]);
    let asked = answered(&endpoint);
    assert!(asked.contains("A person answered your question") && asked.contains("red"), "{asked}");
}

#[test]
fn a_question_is_kept_for_later_when_everybody_has_gone() {
    let script = vec![
        Step::read("README.md").saying("I begin.").behind("begin"),
        Step::bash("sh -c 'date >marker'"),
        Step::say("Finished."),
    ];
    let endpoint = Endpoint::start([("Touch the marker", script)]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", "answer-timeout = '0s'\n");
    sandbox.ok(&["spawn", "--detach", "-m", "Touch the marker", "--name", "heron"]);
    wait_for("the first request", || (endpoint.waiting_at("begin") > 0).then_some(()));
    let mut terminal = Terminal::orchestra(&sandbox, &["attach", "heron"], 30, 100);
    terminal.wait_for("say ›");
    endpoint.open("begin");
    terminal.wait_for("let it use Bash? y/n");
    assert_eq!(sandbox.orchestra(&["wait", "heron", "--timeout", "0"]).code, 7, "it waits for us");
    terminal.type_in("\u{3}");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    assert!(terminal.screen().contains("heron works on"), "{}", terminal.screen());
    assert_eq!(sandbox.orchestra(&["wait", "heron"]).code, 3, "a decision waits");
    let decisions = sandbox.json(&["decide"]);
    assert_eq!(decisions["data"].as_array().unwrap().len(), 1, "{decisions}");
}

#[test]
fn one_attaches_to_an_agent_of_another_terminal_and_stops_it_from_a_third() {
    let sandbox = sandbox("echo ready; exec sleep 600");
    let mut console = Terminal::orchestra(&sandbox, &["spawn", "-m", "Work", "--profile", "sh"], 24, 80);
    console.wait_for("ready");
    let mut other = Terminal::orchestra(&sandbox, &["attach", "work"], 24, 80);
    other.wait_for("ready");
    other.type_in("hello\r");
    other.wait_for("takes no messages while it runs");
    sandbox.ok(&["stop", "work", "--wait"]);
    assert_eq!((other.end(), console.end()), (4, 4), "{}", other.screen());
    assert!(other.screen().contains("stopped by stop"), "{}", other.screen());
}

#[test]
fn what_an_agent_does_is_said_with_its_evidence() {
    let script = vec![Step::bash("mkdir started; exec tail -f /dev/null"), Step::say("Never.")];
    let busy = Step::say("Here I am.").failing(100, 429, None);
    let endpoint = Endpoint::start([("Run it", script), ("busy", vec![busy])]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    let config = "[profile.claude]\nargs = [\"--allowed-tools\", \"Bash\"]\n";
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", config);
    sandbox.set_env("CLAUDE_CODE_MAX_RETRIES", "10");
    sandbox.ok(&["spawn", "--detach", "-m", "Run it", "--name", "heron"]);
    sandbox.ok(&["spawn", "--detach", "-m", "Say something [script:busy]", "--name", "patient"]);
    let shown = |name: &str, words: &str| {
        let found = poll(|| state(&sandbox, name)["evidence"].as_str()?.contains(words).then_some(()));
        assert!(found.is_some(), "{}", state(&sandbox, name));
    };
    shown("heron", "Bash mkdir started");
    assert_eq!(state(&sandbox, "heron")["state"], "running");
    shown("patient", "429 rate_limit, again in");
    assert_eq!(state(&sandbox, "patient")["state"], "waiting");
    assert_eq!(sandbox.orchestra(&["wait", "patient", "--for", "waiting"]).code, 0);
    let mut wide = sandbox.command(ORCHESTRA);
    let out = wide.args(["status"]).env("COLUMNS", "80").output().unwrap();
    let out = String::from_utf8(out.stdout).unwrap();
    assert!(out.contains("(Bash ") && out.lines().all(|line| line.chars().count() <= 80), "{out}");
    sandbox.ok(&["stop", "--all", "--now", "--wait"]);
}

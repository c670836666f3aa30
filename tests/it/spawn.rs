//! Agents in the foreground console: what a person sees and does there, and what a kill leaves behind.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::programs::use_claude;
use crate::harness::sandbox::{ORCHESTRA, kill, poll, wait_for, write_in};
use crate::harness::terminal::Terminal;
use crate::harness::{Endpoint, Sandbox, Step};

/// A sandbox whose profile `sh` runs a shell script.
fn sandbox(script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    profile(&sandbox, "sh", script);
    sandbox
}

fn profile(sandbox: &Sandbox, name: &str, script: &str) {
    let config = sandbox.home().join(".config/git-orchestra/config.toml");
    let mut text = std::fs::read_to_string(&config).unwrap_or_else(|_| "grace = \"1s\"\n".to_owned());
    let words = json!(["/bin/sh", "-c", script]);
    let table = format!("[profile.{name}]\nprogram = \"command\"\ncommand = {words}\n");
    text.push_str(&table);
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &text);
}

fn status(sandbox: &Sandbox, name: &str) -> Value {
    let all = sandbox.json(&["status", "--all"]);
    let found = all["data"].as_array().unwrap().iter().find(|row| row["name"] == name).cloned();
    found.unwrap_or_else(|| panic!("no {name} in {all}"))
}

/// A number of seconds that no other process of the machine sleeps: suites may run side by side.
pub(crate) fn seconds(number: u32) -> String {
    format!("7{number}.{:07}", std::process::id())
}

/// Whether a process runs with this word in its command line.
pub(crate) fn runs(word: &str) -> bool {
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        line.split(|&b| b == 0).any(|part| part == word.as_bytes())
    })
}

#[test]
fn into_a_pipe_events_are_lines_and_with_json_documents() {
    let sandbox = sandbox("echo hello; echo work >file");
    let out = sandbox.orchestra(&["spawn", "-m", "First", "--profile", "sh"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(
        out.stdout, "first  hello\nfirst  done\nfirst  done       orchestra/first  1 commit\n",
        "{out}"
    );
    let out = sandbox.orchestra(&["spawn", "-m", "Second", "--profile", "sh", "--json"]);
    let said: Vec<Value> = out.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(said.iter().all(|line| line["schema"] == "git-orchestra/agent-event/1"), "{out}");
    let last = &said.last().unwrap()["data"];
    assert_eq!(
        (&last["is"], &last["commits"], &last["outcome"]["is"]),
        (&json!("finished"), &json!(1), &json!("succeeded"))
    );
    assert!(said.iter().any(|line| line["data"]["event"]["text"] == "hello"), "{out}");
}

#[test]
fn tasks_that_will_probably_meet_begin_all_the_same_and_it_is_told() {
    let sandbox = sandbox("while ! test -e \"$HOME/go\"; do sleep 0.1; done");
    let add = |title: &str, touches: &str| sandbox.ok(&["task", "add", title, "--touches", touches]);
    let (fish, rice, docs) = (add("Fish", "README.md"), add("Rice", "README.md"), add("Docs", "docs"));
    let told = "“Fish” and “Rice” will probably both change README.md\nhint: they begin all the same";
    let out = sandbox.orchestra(&["spawn", &fish, &docs, "--profile", "sh", "--detach"]);
    assert!(out.code == 0 && !out.stderr.contains("will probably"), "{out}");
    // Fish is worked on.
    let out = sandbox.orchestra(&["spawn", &rice, "--profile", "sh", "--detach"]);
    assert!(out.code == 0 && out.stderr.contains(told), "{out}");
    std::fs::write(sandbox.home().join("go"), "").unwrap();
    sandbox.ok(&["wait", "fish", "rice", "docs"]);

    // Those that begin together; whoever switched that off hears nothing.
    for (dish, hold) in [("Beans", "touches"), ("Salad", "off")] {
        sandbox.git(&["config", "orchestra.hold", hold]);
        let dishes = [add(dish, "README.md"), add("Bread", "README.md")];
        let out = sandbox.orchestra(&["spawn", &dishes[0], &dishes[1], "--profile", "sh"]);
        assert_eq!(out.code, 0, "{out}");
        let said = out.stderr.contains(&format!("“{dish}” and “Bread” will probably both change README.md"));
        assert_eq!(said, hold == "touches", "{out}");
    }
}

#[test]
fn the_console_fits_eighty_columns_and_goes_without_colours() {
    let mut sandbox =
        sandbox("printf 'a long line: %0200d\\n' 7; echo '\u{1b}[31mred\u{7}'; sleep 1; echo x >x");
    for title in ["Parse dates in every format", "Mend the tests of the HTTP client"] {
        sandbox.ok(&["task", "add", title]);
    }
    sandbox.set_env("NO_COLOR", "1");
    let mut terminal = Terminal::orchestra(&sandbox, &["spawn", "--profile", "sh"], 24, 80);
    terminal.wait_for("running");
    assert_eq!(terminal.end(), 0);
    let screen = terminal.screen();
    assert!(screen.contains("orchestra/parse-dates-in-every-format"), "{screen}");
    let lines: Vec<&str> = screen.lines().filter(|line| line.contains("a long line")).collect();
    assert_eq!(lines.len(), 2, "cut or broken, never wrapped by the terminal:\n{screen}");
    let mut bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    for name in ["parse-dates-in-every-format", "mend-the-tests-of-the-http"] {
        // Our own bell and words.
        let told = format!("\u{7}\u{1b}]9;{name} done\u{7}");
        assert!(bytes.contains(&told), "{bytes:?}");
        bytes = bytes.replace(&told, "");
    }
    assert!(!bytes.contains('\u{7}') && !bytes.contains("\u{1b}[31m"), "{bytes:?}");
}

#[test]
fn ctrl_c_stops_cleanly_and_a_second_one_kills() {
    let (quick, deaf) = (seconds(1), seconds(2));
    let sandbox = sandbox(&format!("echo work >file; echo ready; exec sleep {quick}"));
    profile(&sandbox, "deaf", &format!("trap '' TERM; echo ready; while :; do sleep {deaf}; done"));
    let mut terminal = Terminal::orchestra(&sandbox, &["spawn", "-m", "One", "--profile", "sh"], 24, 80);
    terminal.wait_for("ready");
    terminal.type_in("\u{3}");
    assert_eq!(terminal.end(), 130, "{}", terminal.screen());
    assert_eq!(status(&sandbox, "one")["state"], "stopped");
    assert_eq!(sandbox.git(&["show", "orchestra/one:file"]), "work", "what it left is kept");
    assert!(!runs(&quick));

    let mut sandbox = sandbox;
    sandbox.set_env("ORCHESTRA_GRACE", "60s");
    let mut terminal = Terminal::orchestra(&sandbox, &["spawn", "-m", "Two", "--profile", "deaf"], 24, 80);
    terminal.wait_for("ready");
    terminal.type_in("\u{3}");
    terminal.wait_for("stopping");
    terminal.type_in("\u{3}");
    assert_eq!(terminal.end(), 130, "{}", terminal.screen());
    assert_eq!(status(&sandbox, "two")["state"], "stopped");
    assert!(!runs(&deaf));
}

#[test]
fn a_killed_console_is_recovered_by_the_next_command() {
    let seconds = seconds(3);
    let script = format!("echo work >file; echo ready; (setsid sleep {seconds} &); exec sleep {seconds}");
    let sandbox = sandbox(&script);
    sandbox.ok(&["task", "add", "Work"]);
    let mut command = sandbox.command(ORCHESTRA);
    command
        .args(["spawn", "--profile", "sh"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    assert!(lines.any(|line| line.contains("ready")));
    assert_eq!(status(&sandbox, "work")["state"], "running");
    kill(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    assert_ne!(status(&sandbox, "work")["state"], "running", "nobody watches it");
    let out = sandbox.orchestra(&["task", "add", "Another"]);
    assert!(out.code == 0 && out.stderr.contains("it is lost, and what still ran was ended"), "{out}");
    assert!(out.stderr.contains("1 uncommitted path"), "{out}");
    assert_eq!(status(&sandbox, "work")["state"], "lost");
    assert!(poll(|| (!runs(&seconds)).then_some(())).is_some());
    assert!(sandbox.orchestra(&["task", "add", "Third"]).stderr.is_empty(), "once");
    // And it goes on, with its work.
    profile(&sandbox, "again", "cat file; echo more >>file");
    let out = sandbox.orchestra(&["resume", "work", "--profile", "again"]);
    assert!(out.code == 0 && out.stdout.contains("work  work\n"), "{out}");
    assert_eq!(sandbox.git(&["show", "orchestra/work:file"]), "work\nmore");
    sandbox.assert_sound();
}

#[test]
fn sixteen_kills_of_a_spawn_need_no_repair_by_hand() {
    let sandbox = sandbox("echo x >>x");
    let before = sandbox.fingerprint();
    for number in 0..16 {
        let mut command = sandbox.command(ORCHESTRA);
        command.args(["spawn", "-m", "Work", "--profile", "sh"]);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_millis(7 * number));
        kill(child.id(), Signal::SIGKILL);
        child.wait().unwrap();
        sandbox.git(&["fetch", "--quiet", "."]);
    }
    let out = sandbox.orchestra(&["spawn", "-m", "Last", "--profile", "sh"]);
    assert_eq!(out.code, 0, "{out}");
    let all = sandbox.json(&["status"]);
    for row in all["data"].as_array().unwrap() {
        let (name, state) = (row["name"].as_str().unwrap(), row["state"].as_str().unwrap());
        assert!(matches!(state, "done" | "lost" | "new"), "{name}: {state}");
        if state == "new" {
            sandbox.ok(&["resume", name]);
        }
        sandbox.ok(&["remove", name]);
    }
    assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 1);
    assert_eq!(sandbox.git(&["for-each-ref", "refs/heads/orchestra"]), "");
    assert_eq!(sandbox.fingerprint(), before);
    sandbox.git(&["gc", "--quiet"]);
    sandbox.assert_sound();
}

#[test]
fn claude_is_asked_for_on_the_console_and_off_it_the_question_is_kept() {
    let endpoint = Endpoint::start([(
        "Touch the marker",
        vec![Step::bash("sh -c 'date >marker'"), Step::say("Finished.")],
    )]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    // On the console.
    let mut terminal = Terminal::orchestra(&sandbox, &["spawn", "-m", "Touch the marker"], 30, 100);
    terminal.wait_for("asks to use Bash: sh -c");
    terminal.wait_for("touch-the-marker: let it use Bash? y/n");
    terminal.type_in("y\r");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    sandbox.git(&["cat-file", "-e", "orchestra/touch-the-marker:marker"]);
    // Off it.
    let out = sandbox.orchestra(&["spawn", "-m", "Touch the marker", "--name", "alone"]);
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stdout.contains("wants to use Bash: sh -c"), "{out}");
    assert!(sandbox.try_git_in(sandbox.repo(), &["cat-file", "-e", "orchestra/alone:marker"], b"").code != 0);
    // Answered later, it is not asked again.
    let decisions = sandbox.json(&["decide"]);
    let id = decisions["data"][0]["id"].as_str().unwrap_or_else(|| panic!("{decisions}"));
    sandbox.ok(&["decide", id, "allow"]);
    let out = sandbox.orchestra(&["resume", "alone", "-m", "Touch the marker"]);
    assert_eq!(out.code, 0, "{out}");
    sandbox.git(&["cat-file", "-e", "orchestra/alone:marker"]);
}

#[test]
fn a_conversation_goes_on_after_its_console_was_killed() {
    let script = vec![Step::write("note", "noted\n"), Step::say("Noted.").behind("hold")];
    let endpoint = Endpoint::start([("Write the note", script)]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    let mut command = sandbox.command(ORCHESTRA);
    command.args(["spawn", "-m", "Write the note", "--name", "heron"]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for("the second request", || (endpoint.waiting_at("hold") > 0).then_some(()));
    kill(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    endpoint.open("hold");
    let out = sandbox.orchestra(&["resume", "heron"]);
    assert_eq!(out.code, 0, "{out}");
    assert!(out.stderr.contains("it is lost"), "{out}");
    let agent = sandbox.json(&["show", "heron"]);
    let runs = &agent["data"]["runs"];
    assert_eq!(
        (&runs["1"]["outcome"]["is"], &runs["2"]["outcome"]["is"]),
        (&json!("lost"), &json!("succeeded")),
        "{agent}"
    );
    assert!(runs["1"]["model"].is_string(), "the journal told it: {agent}");
    assert_eq!(sandbox.git(&["show", "orchestra/heron:note"]), "noted");
    let last = endpoint.seen().pop().unwrap();
    let text = format!("{last:?}");
    assert!(text.contains("Go on where you stopped"), "{text}");
    sandbox.assert_sound();
}

#[test]
fn an_agent_cannot_reach_the_terminal() {
    let sandbox =
        sandbox("(printf '\\033]0;owned\\007' >/dev/tty) 2>/dev/null && echo reached || echo kept out");
    let mut terminal = Terminal::orchestra(&sandbox, &["spawn", "-m", "One", "--profile", "sh"], 24, 80);
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    assert!(terminal.screen().contains("kept out"), "{}", terminal.screen());
    assert!(!String::from_utf8_lossy(&terminal.bytes()).contains("owned"));
}

#[test]
fn of_many_agents_the_console_shows_those_that_run() {
    let sandbox = sandbox("sleep 0.5");
    for number in 1..=12 {
        sandbox.ok(&["task", "add", &format!("Task {number}")]);
    }
    let mut terminal = Terminal::orchestra(&sandbox, &["spawn", "--profile", "sh", "--jobs", "3"], 24, 80);
    terminal.wait_for("9 queued");
    let screen = terminal.screen();
    assert_eq!(screen.matches("running").count(), 3, "{screen}");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    assert!(!terminal.screen().contains("queued"), "{}", terminal.screen());
}

#[test]
fn what_an_agent_told_git_to_run_does_not_run_until_somebody_accepts_it() {
    let sandbox = sandbox(
        "git config filter.x.clean 'touch ../../canary; cat'; git config merge.x.driver 'touch ../../canary'; \
         echo '* filter=x merge=x' >.gitattributes; echo new >file; echo more >>README.md",
    );
    let spawned = sandbox.orchestra(&["spawn", "-m", "Plant", "--profile", "sh"]);
    assert!(spawned.stdout.contains("changed the main checkout or what it shares: config"), "{spawned}");
    let canary = sandbox.root().join("canary");
    sandbox.ok(&["status"]);
    let refused: [&[&str]; 6] = [
        &["diff", "plant"],
        &["overlap"],
        &["merge"],
        &["remove", "plant"],
        &["resume", "plant"],
        &["spawn", "-m", "x", "--profile", "sh"],
    ];
    for args in refused {
        let out = sandbox.orchestra(args);
        assert!(out.code == 1 && out.stderr.contains("changed what it runs here (config)"), "{args:?} {out}");
        assert!(out.stderr.contains("hint: `git orchestra config approve`"), "{args:?} {out}");
        assert!(!canary.exists(), "{args:?}");
    }
    // Put back as it was, all of it goes on.
    sandbox.git(&["config", "--remove-section", "filter.x"]);
    sandbox.git(&["config", "--remove-section", "merge.x"]);
    assert!(sandbox.ok(&["diff", "plant", "--name-only"]).contains("file"));
    // And accepted by whoever saw it, it is the user's own wish. An agent is not asked.
    let config = sandbox.git_dir().join("config");
    let text = std::fs::read_to_string(&config).unwrap();
    let spawned = sandbox.orchestra(&["spawn", "-m", "Again", "--profile", "sh"]);
    assert_eq!(spawned.code, 4, "{spawned}");
    assert_ne!(std::fs::read_to_string(&config).unwrap(), text);
    let shown = sandbox.orchestra(&["config", "approve"]);
    assert!(shown.stdout.contains("+ config: [filter \"x\"] clean ="), "{shown}");
    let hash = shown.stdout.lines().find_map(|line| line.strip_prefix("hash ")).unwrap().to_owned();
    let mut agent = sandbox.command(ORCHESTRA);
    agent.args(["config", "approve", "--hash", &hash]).env("GIT_ORCHESTRA_AGENT", "g000000000000000");
    assert!(!agent.output().unwrap().status.success());
    sandbox.ok(&["config", "approve", "--hash", &hash]);
    sandbox.ok(&["diff", "again"]);
    assert!(canary.exists());
}

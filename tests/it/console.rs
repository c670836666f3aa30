//! The live view: many agents on one screen, in the foreground and in the background, as a person sees it and what
//! keys do there.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::harness::programs::use_claude;
use crate::harness::sandbox::{ORCHESTRA, poll, wait_for, write_in};
use crate::harness::{Endpoint, Sandbox, Step, Terminal};

/// A sandbox with these profiles: a name and a shell script. `$GATE` in one is a file that [`open`] makes.
fn sandbox(profiles: &[(&str, &str)]) -> Sandbox {
    let sandbox = Sandbox::new();
    let mut text = "grace = \"1s\"\njobs = 64\n".to_owned();
    for (name, script) in profiles {
        let words = json!(["/bin/sh", "-c", script.replace("$GATE", gate(&sandbox).to_str().unwrap())]);
        let _ = write!(text, "[profile.{name}]\nprogram = \"command\"\ncommand = {words}\n");
    }
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &text);
    sandbox
}

fn gate(sandbox: &Sandbox) -> PathBuf {
    sandbox.root().join("gate")
}

fn open(sandbox: &Sandbox) {
    std::fs::write(gate(sandbox), "").unwrap();
}

fn detach(sandbox: &Sandbox, name: &str, profile: &str) {
    sandbox.ok(&["spawn", "--detach", "-m", "Work", "--name", name, "--profile", profile]);
}

/// Waits until the screen is as it should be.
fn wait_until(terminal: &Terminal, what: &str, mut fits: impl FnMut(&str) -> bool) {
    let found = poll(|| fits(&terminal.screen()).then_some(()));
    assert!(found.is_some(), "{what}:\n{}", terminal.screen());
}

/// The line of an agent: the lines of the feed begin with the name, its own one with a mark.
fn row(screen: &str, name: &str) -> String {
    let is_row = |line: &&str| line.chars().skip(3).collect::<String>().starts_with(&format!("{name} "));
    screen.lines().rfind(is_row).unwrap_or_default().to_owned()
}

/// Waits until an agent's line has these words.
fn shows(terminal: &Terminal, name: &str, words: &[&str]) {
    wait_until(terminal, name, |screen| words.iter().all(|word| row(screen, name).contains(word)));
}

const HOLD: &str = "echo ready; until [ -e $GATE ]; do sleep 0.5; done";

/// Profiles of seven agents, each of which does something else until the gate is open.
fn seven_profiles() -> Sandbox {
    let sandbox = Sandbox::new();
    let gate = gate(&sandbox);
    sandbox.write(
        "check",
        &format!("#!/bin/sh\nuntil [ -e {0} ] || [ -e {0}$1 ]; do sleep 0.1; done\n", gate.display()),
    );
    sandbox.git(&["update-index", "--add", "--chmod=+x", "check"]);
    sandbox.commit("a check");
    let figures = |cost: f64| json!({"type": "usage", "input": 9_000, "output": 1_500, "cost_usd": cost});
    let tool = |command: &str| json!({"type": "tool_call", "tool": "Bash", "args": {"command": command}});
    let says = |text: &str| json!({"type": "text", "content": text});
    let pause = json!({"type": "wait", "ms": 1_200});
    let scripts = [
        (
            "http",
            vec![
                says("The client gives up too early."),
                pause.clone(),
                figures(0.12),
                tool("sh check --http"),
            ],
        ),
        (
            "cache",
            vec![
                says("I begin with the tests."),
                figures(0.03),
                tool("sh check --cache"),
                json!({"type": "exit", "code": 3}),
            ],
        ),
        (
            "docs",
            vec![
                json!({"type": "tool_call", "tool": "Write", "args": {"path": "FORMATS.md", "content": "ISO\n"}}),
                figures(0.05),
                tool("sh check --docs"),
                json!({"type": "result", "content": "The formats are explained."}),
            ],
        ),
        (
            "search",
            vec![says("Two indexes do the same."), pause.clone(), figures(0.31), tool("sh check --search")],
        ),
        (
            "types",
            vec![
                json!({"type": "thinking", "content": "Which of the two is the newer one?"}),
                tool("sh check"),
            ],
        ),
        (
            "imports",
            vec![figures(0.02), tool("ls"), says("They are sorted by hand."), tool("sh check --imports")],
        ),
    ];
    let mut text = "grace = \"1s\"\njobs = 64\n".to_owned();
    for (name, lines) in scripts {
        let lines: Vec<String> = lines.iter().map(Value::to_string).collect();
        sandbox.write(&format!("../{name}.jsonl"), &lines.join("\n"));
        let file = sandbox.root().join(format!("{name}.jsonl"));
        let _ = write!(text, "[profile.{name}]\nprogram = \"replay\"\nargs = [{}]\n", json!(file));
    }
    let words =
        json!(["/bin/sh", "-c", format!("yes 'checked a\u{1b}[31m line\u{7}' | head -3000; sh check")]);
    let _ = write!(text, "[profile.logs]\nprogram = \"command\"\ncommand = {words}\n");
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &text);
    sandbox
}

#[test]
fn eight_agents_of_several_programs_fit_a_screen() {
    let mut sandbox = seven_profiles();
    let asks = vec![
        Step::read("README.md").saying("I look at what is there.").tokens(4_000, 120, 0, 0),
        Step::bash("sh -c 'date >marker'").tokens(5_000, 340, 0, 0),
        Step::say("Finished."),
    ];
    let endpoint = Endpoint::start([("Parse the dates", asks)]);
    use_claude(&mut sandbox, &endpoint);
    if std::env::var_os("BLESS").is_none() {
        sandbox.set_env("NO_COLOR", "1");
    }

    // The first one is there, the others come while somebody looks.
    detach(&sandbox, "http", "http");
    let mut terminal = Terminal::orchestra(&sandbox, &["attach", "--follow"], 24, 80);
    terminal.wait_for("http");
    shows(&terminal, "http", &["running", "Bash sh check --http", "/s", "10k", "$0.12"]);
    for name in ["docs", "cache", "search", "types", "imports", "logs"] {
        detach(&sandbox, name, name);
    }
    sandbox.ok(&["spawn", "--detach", "-m", "Parse the dates", "--name", "dates"]);
    terminal.wait_for("dates: let it use Bash? y/n");
    for name in ["cache", "docs"] {
        shows(&terminal, name, &["Bash sh check"]);
        std::fs::write(format!("{}--{name}", gate(&sandbox).display()), "").unwrap();
    }
    shows(&terminal, "cache", &["failed", "exit 3", "$0.03"]);
    shows(&terminal, "docs", &["done", "1 commit", "$0.05"]);
    shows(&terminal, "search", &["running", "Bash sh check"]);
    shows(&terminal, "types", &["running", "Bash sh check"]);
    shows(&terminal, "logs", &["running"]);
    shows(&terminal, "dates", &["waiting", "may it use Bash"]);
    terminal.wait_for("8 agents");
    terminal.wait_for("  Bash: sh -c 'date >marker'");
    let folded = || String::from_utf8_lossy(&terminal.bytes()).contains("lines left out").then_some(());
    wait_for("what is folded", folded);
    let screen = terminal.screen();
    assert!(screen.lines().all(|line| line.chars().count() <= 80), "{screen}");
    if std::env::var_os("BLESS").is_some() {
        let picture = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/live.svg");
        std::fs::write(picture, terminal.picture("git orchestra attach")).unwrap();
    } else {
        let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
        let coloured = regex::Regex::new("\u{1b}\\[[0-9;]*m").unwrap();
        assert!(!coloured.is_match(&bytes), "without colours");
    }
    // The question is answered here; the agent goes on.
    terminal.type_in("y\r");
    shows(&terminal, "dates", &["done"]);
    sandbox.git(&["cat-file", "-e", "orchestra/dates:marker"]);
    open(&sandbox);
    for name in ["http", "search", "types", "imports", "logs"] {
        shows(&terminal, name, &["done"]);
    }
    // It stays until somebody leaves.
    terminal.type_in("q");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
}

#[test]
fn of_fifty_agents_the_most_urgent_are_shown_and_the_others_counted() {
    let sandbox = sandbox(&[("hold", HOLD), ("fail", "echo no; exit 9")]);
    for number in 1..=49 {
        sandbox.ok(&["task", "add", &format!("Task {number}")]);
    }
    let mut terminal = Terminal::orchestra(&sandbox, &["spawn", "--profile", "hold"], 24, 80);
    wait_until(&terminal, "all run", |screen| screen.contains("49 agents") && screen.contains("running ·"));
    // In another process, and it failed.
    let mut other = Terminal::orchestra(&sandbox, &["attach"], 24, 80);
    wait_until(&other, "all are looked at", |screen| screen.contains("49 agents"));
    detach(&sandbox, "broken", "fail");
    wait_until(&other, "the failed one is above", |screen| {
        let rows: Vec<&str> = screen.lines().filter(|line| line.contains(" running ")).collect();
        screen.contains("50 agents")
            && row(screen, "broken").contains("exit 9")
            && rows.len() >= 8
            && screen.find("✗ broken") < screen.find(rows[1])
    });
    for terminal in [&terminal, &other] {
        // A screen may be seen while it is drawn.
        wait_until(terminal, "all of it fits", |screen| {
            let lines: Vec<&str> = screen.lines().collect();
            assert!(lines.len() <= 24 && lines.iter().all(|line| line.chars().count() <= 80), "{screen}");
            let said = lines.iter().filter(|line| line.ends_with("ready")).count();
            // The feed keeps its room.
            screen.contains("more: ") && screen.contains(" running") && said >= 5
        });
    }
    // Those without a line can be chosen too.
    let chosen = |other: &Terminal| {
        let screen = other.screen();
        let line = screen.lines().find(|line| line.starts_with('›'))?;
        Some(line.chars().skip(3).take_while(|c| *c != ' ').collect::<String>())
    };
    let mut all = BTreeSet::from([wait_for("the first one", || chosen(&other))]);
    for _ in 1..50 {
        other.type_in("j");
        let another = poll(|| chosen(&other).filter(|name| !all.contains(name)));
        all.insert(another.unwrap_or_else(|| panic!("{all:?}\n{}", other.screen())));
    }
    other.type_in("q");
    assert_eq!(other.end(), 0);
    assert!(
        other.screen().contains("49 agents work on; `git orchestra attach` looks again"),
        "{}",
        other.screen()
    );
    open(&sandbox);
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
}

#[test]
fn runs_that_are_over_at_once_are_shown_too() {
    let sandbox = sandbox(&[("short", "echo done; exit 9")]);
    let mut terminal = Terminal::orchestra(&sandbox, &["attach", "--follow"], 40, 80);
    terminal.wait_for("? for keys");
    // Some begin and end between two looks at who runs.
    let names: Vec<String> = (1..=8).map(|number| format!("brief-{number}")).collect();
    for name in &names {
        detach(&sandbox, name, "short");
    }
    for name in &names {
        shows(&terminal, name, &["exit 9"]);
        let lines = |screen: &str, words: &str| {
            screen.lines().filter(|line| line.starts_with(&format!("{name}  {words}"))).count()
        };
        wait_until(&terminal, name, |screen| {
            lines(screen, "done") == 1 && lines(screen, "failed: exit 9") == 1
        });
    }
    terminal.type_in("q");
    assert_eq!(terminal.end(), 0);
}

#[test]
fn one_that_floods_hides_nobody_and_is_folded() {
    let flood =
        "yes 'flood flood flood' | head -200000; echo the last word; until [ -e $GATE ]; do sleep 0.05; done";
    let calm = "n=0; until [ -e $GATE ]; do n=$((n+1)); echo calm $n; sleep 0.4; done; echo calm end";
    let sandbox = sandbox(&[("flood", flood), ("calm", calm)]);
    detach(&sandbox, "still", "calm");
    let mut terminal = Terminal::orchestra(&sandbox, &["attach", "--follow"], 24, 80);
    terminal.wait_for("calm 2");
    detach(&sandbox, "torrent", "flood");
    terminal.wait_for("the last word");
    open(&sandbox);
    terminal.wait_for("calm end");
    terminal.type_in("q");
    assert_eq!(terminal.end(), 0);
    let bytes = String::from_utf8_lossy(&terminal.bytes()).into_owned();
    let all = regex::Regex::new("\u{1b}\\[[0-9;]*[A-Za-z]").unwrap().replace_all(&bytes, "").into_owned();
    let shown = regex::Regex::new("torrent +flood flood").unwrap().find_iter(&all).count();
    assert!((20..2_000).contains(&shown), "{shown} of 200,000 lines");
    let folded = regex::Regex::new(r"torrent +… (\d+) lines left out").unwrap();
    let folded: usize = folded.captures_iter(&all).map(|found| found[1].parse::<usize>().unwrap()).sum();
    let sum = folded + shown;
    assert!((198_000..202_000).contains(&sum), "every line is shown or counted: {sum}");
    // Everything that the calm one said is there, in order.
    let calm = regex::Regex::new(r"still +calm (\d+)").unwrap();
    let numbers: Vec<usize> = calm.captures_iter(&all).map(|found| found[1].parse().unwrap()).collect();
    assert!(numbers.len() > 1 && numbers.windows(2).all(|pair| pair[1] == pair[0] + 1), "{numbers:?}");
}

#[test]
fn keys_look_at_one_pause_tell_interrupt_and_stop() {
    let mut sandbox =
        sandbox(&[("hold", "n=0; until [ -e $GATE ]; do n=$((n+1)); echo line $n; sleep 0.1; done")]);
    let script = vec![
        Step::read("README.md").saying("I begin.").behind("begin"),
        Step::say("I heard it.").behind("heard"),
    ];
    let endpoint = Endpoint::start([("Wait for me", script)]);
    use_claude(&mut sandbox, &endpoint);
    for name in ["ada", "bob"] {
        detach(&sandbox, name, "hold");
    }
    sandbox.ok(&["spawn", "--detach", "-m", "Wait for me", "--name", "cleo"]);
    wait_for("the first request", || (endpoint.waiting_at("begin") > 0).then_some(()));
    let mut terminal = Terminal::orchestra(&sandbox, &["attach", "ada", "bob", "cleo"], 30, 100);
    terminal.wait_for("3 agents · ? for keys");
    wait_until(&terminal, "both say something", |s| s.contains("ada   line") && s.contains("bob   line"));
    terminal.type_in("?");
    terminal.wait_for("q leave: they work on");
    terminal.type_in("?");
    wait_until(&terminal, "help goes", |screen| !screen.contains("they work on"));
    // One alone: what the other says is not shown.
    terminal.type_in("j\r");
    terminal.wait_for("── bob alone ──");
    let after = |screen: &str| screen.rsplit("alone ──").next().unwrap_or_default().to_owned();
    wait_until(&terminal, "bob goes on", |screen| after(screen).matches("bob   line").count() > 5);
    assert!(!after(&terminal.screen()).contains("ada   line"), "{}", terminal.screen());
    // A pause: nothing of what they say comes, and it is counted.
    terminal.type_in("p");
    terminal.wait_for("paused, ");
    let feed = |screen: &str| {
        screen.lines().filter(|line| line.starts_with("bob ")).map(str::to_owned).collect::<Vec<_>>()
    };
    let before = feed(&terminal.screen());
    wait_until(&terminal, "lines wait", |screen| {
        screen.contains("lines wait") && !screen.contains("paused, 0 ")
    });
    assert_eq!(feed(&terminal.screen()), before);
    terminal.type_in("p");
    wait_until(&terminal, "it goes on", |screen| feed(screen) != before && !screen.contains("paused"));
    terminal.type_in("\u{1b}");
    terminal.wait_for("── all agents ──");
    // It cannot be told, and says so.
    terminal.type_in("m");
    terminal.wait_for("tell bob ›");
    terminal.type_in("hello\r");
    terminal.wait_for("takes no messages while it runs");
    terminal.type_in("i");
    terminal.wait_for("knows no way to stop a turn");
    // The real one can.
    terminal.type_in("\u{1b}[B");
    wait_until(&terminal, "chosen", |screen| row(screen, "cleo").starts_with('›'));
    terminal.type_in("mMind the commas\r");
    terminal.wait_for("a person told it: Mind the commas");
    terminal.type_in("i");
    terminal.wait_for("a person interrupted it; it waits for a message");
    // Nothing ends without an answer.
    terminal.type_in("x");
    terminal.wait_for("stop cleo? y/n ›");
    terminal.type_in("n");
    wait_until(&terminal, "asked no more", |screen| !screen.contains("y/n"));
    assert!(
        row(&terminal.screen(), "cleo").contains("running")
            || row(&terminal.screen(), "cleo").contains("waiting")
    );
    terminal.type_in("x");
    terminal.wait_for("stop cleo? y/n ›");
    terminal.type_in("y");
    wait_until(&terminal, "it stops", |screen| row(screen, "cleo").contains("stopped"));
    terminal.type_in("m");
    terminal.wait_for("it does not run");
    endpoint.open("begin");
    // They end, and so does it: one did not end well.
    open(&sandbox);
    assert_eq!(terminal.end(), 4, "{}", terminal.screen());
}

#[test]
fn foreground_agents_are_stopped_one_by_one_and_all_at_once() {
    let sandbox = sandbox(&[("hold", HOLD)]);
    for title in ["First", "Second", "Third"] {
        sandbox.ok(&["task", "add", title]);
    }
    let mut terminal = Terminal::orchestra(&sandbox, &["spawn", "--profile", "hold"], 24, 80);
    wait_until(&terminal, "all run", |screen| screen.matches(" running ").count() == 3);
    let chosen = |screen: &str| screen.lines().find_map(|line| line.strip_prefix('›').map(str::to_owned));
    let first = chosen(&terminal.screen()).unwrap();
    let first = first.split_whitespace().nth(1).unwrap().to_owned();
    terminal.type_in("x");
    terminal.wait_for(&format!("stop {first}? y/n ›"));
    terminal.type_in("y\r");
    wait_until(&terminal, "one stops", |screen| row(screen, &first).contains("stopped"));
    assert_eq!(terminal.screen().matches(" running ").count(), 2, "{}", terminal.screen());
    // All keys are told at 80 columns, the one that ends everything too.
    terminal.type_in("?");
    terminal.wait_for("q stop all and end");
    terminal.type_in("?");
    wait_until(&terminal, "help goes", |screen| !screen.contains("q stop all and end"));
    terminal.type_in("q");
    terminal.wait_for("stop all 2 and end? y/n ›");
    terminal.type_in("\u{1b}");
    wait_until(&terminal, "asked no more", |screen| !screen.contains("y/n"));
    terminal.type_in("q");
    terminal.wait_for("stop all 2 and end? y/n ›");
    terminal.type_in("y\r");
    assert_eq!(terminal.end(), 4, "{}", terminal.screen());
    assert_eq!(terminal.screen().matches("stopped ").count(), 3 + 3, "{}", terminal.screen());
}

#[test]
fn another_size_of_the_terminal_leaves_nothing_behind() {
    let sandbox = sandbox(&[("hold", HOLD)]);
    for name in ["ada", "bob", "cleo"] {
        detach(&sandbox, name, "hold");
    }
    let mut terminal = Terminal::orchestra(&sandbox, &["attach"], 24, 100);
    wait_until(&terminal, "all run", |screen| screen.matches(" running ").count() == 3);
    for (rows, columns) in [(20, 50), (12, 44), (40, 120)] {
        terminal.resize(rows, columns);
        let width = usize::from(columns);
        wait_until(&terminal, "it is drawn anew", |screen| {
            let rows: Vec<&str> = screen.lines().filter(|line| line.contains(" running ")).collect();
            let fits = |line: &&str| (width - 3..width).contains(&line.chars().count());
            rows.len() == 3 && rows.iter().all(fits) && screen.matches("3 agents").count() == 1
        });
    }
    terminal.type_in("q");
    assert_eq!(terminal.end(), 0);
    sandbox.ok(&["stop", "--all", "--now", "--wait"]);
}

#[test]
fn the_terminal_is_as_it_was_however_it_ends() {
    let sandbox = sandbox(&[("hold", HOLD)]);
    detach(&sandbox, "ada", "hold");
    detach(&sandbox, "bob", "hold");
    let flags = "stty -a | tr ' ;' '\\n\\n' | grep -x -e '-*icanon' -e '-*echo' | tr '\\n' ' '";
    // A shell that has jobs: what is stopped there can go on.
    let script = format!(
        "set -m; {ORCHESTRA} attach; echo stopped as $?; {flags}; echo asked; \
         read go; fg >/dev/null; echo ended as $?; {flags}; echo over"
    );
    let mut terminal = Terminal::start(&sandbox, "bash", &["-c", &script], sandbox.repo(), 24, 80);
    terminal.wait_for("2 agents · ? for keys");
    terminal.type_in("\u{1a}");
    // Both rows went, and the shell has its terminal back.
    terminal.wait_for("stopped as 147");
    terminal.wait_for("icanon echo asked");
    assert!(!terminal.screen().contains("2 agents · ? for keys"), "{}", terminal.screen());
    terminal.type_in("on\n");
    terminal.wait_for("2 agents · ? for keys");
    terminal.type_in("?");
    terminal.wait_for("q leave");
    terminal.type_in("q");
    terminal.wait_for("icanon echo over");
    assert!(terminal.screen().contains("ended as 0"), "{}", terminal.screen());
    assert_eq!(terminal.end(), 0);

    // Signals that end it.
    for signal in [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        let outer = format!("trap : TERM INT HUP; {ORCHESTRA} attach; echo \"code $?\"; {flags}; echo over");
        let mut terminal = Terminal::start(&sandbox, "sh", &["-c", &outer], sandbox.repo(), 24, 80);
        terminal.wait_for("2 agents · ? for keys");
        crate::harness::sandbox::kill(child_of(terminal.pid()), signal);
        terminal.wait_for("icanon echo over");
        let screen = terminal.screen();
        assert!(screen.contains("code 0") && !screen.contains("2 agents ·"), "{screen}");
        assert_eq!(terminal.end(), 0);
    }
    sandbox.ok(&["stop", "--all", "--now", "--wait"]);
}

/// The one child of a process.
fn child_of(pid: u32) -> u32 {
    wait_for("a child", || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).ok()?;
        children.split_whitespace().next()?.parse().ok()
    })
}

/// A program whose output goes into a pipe, and what came of it so far.
struct Piped {
    child: Child,
    said: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Piped {
    fn start(sandbox: &Sandbox, args: &[&str]) -> Self {
        let mut command = sandbox.command(ORCHESTRA);
        command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let said = Arc::new(Mutex::new(String::new()));
        let all = Arc::clone(&said);
        let reader = std::thread::spawn(move || {
            for line in lines {
                all.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, said, reader }
    }

    fn said(&self) -> String {
        self.said.lock().unwrap().clone()
    }

    /// Everything that it said; it ends well.
    fn end(mut self) -> String {
        assert!(self.child.wait().unwrap().success());
        self.reader.join().unwrap();
        let said = self.said.lock().unwrap();
        said.clone()
    }
}

#[test]
fn into_a_pipe_all_agents_are_lines_or_documents_and_it_ends_with_the_last() {
    let sandbox = sandbox(&[("hold", "echo begun; until [ -e $GATE ]; do sleep 0.05; done; echo ended")]);
    let none = sandbox.orchestra(&["attach"]);
    assert!(none.code == 0 && none.stdout.is_empty(), "{none}");
    assert!(none.stderr.contains("no agent runs here"), "{none}");
    assert!(none.stderr.contains("hint: `git orchestra attach --follow`"), "{none}");
    detach(&sandbox, "ada", "hold");
    let (lines, documents) =
        (Piped::start(&sandbox, &["attach"]), Piped::start(&sandbox, &["attach", "--json"]));
    detach(&sandbox, "bob", "hold");
    let mut terminal = Terminal::orchestra(&sandbox, &["attach"], 24, 80);
    wait_until(&terminal, "both", |screen| screen.contains("2 agents"));
    for piped in [&lines, &documents] {
        wait_for("who came later", || (piped.said().matches("begun").count() == 2).then_some(()));
    }
    open(&sandbox);
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    let lines = lines.end();
    for name in ["ada", "bob"] {
        let said: Vec<&str> =
            lines.lines().filter_map(|line| line.strip_prefix(name)).map(str::trim).collect();
        assert_eq!(said, ["begun", "ended", "done"], "{lines}");
    }
    let documents = documents.end();
    let documents: Vec<Value> = documents.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(documents.iter().all(|line| line["schema"] == "git-orchestra/agent-event/1"));
    let count = |word: &str| documents.iter().filter(|line| line["data"]["event"]["text"] == word).count();
    assert_eq!((count("begun"), count("ended")), (2, 2), "{documents:?}");
    let over = documents.iter().filter(|line| line["data"]["is"] == "finished").count();
    assert_eq!(over, 2);
}

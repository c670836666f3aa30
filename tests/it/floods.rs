//! Agents that say too much, or in pieces: through the whole way, from a process to the screen.
//!
//! In CI a flood is of 48 MiB; `ORCHESTRA_STREAM=1024` makes it 1 GiB. What the processes that watch an agent take at
//! most is read from /proc and printed.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::sandbox::{ORCHESTRA, wait_for, write_in};
use crate::harness::{Sandbox, Terminal};
use crate::life::watcher;

/// What watching one agent may take at worst.
const MOST: u64 = 192 << 20;

fn megabytes() -> u64 {
    std::env::var("ORCHESTRA_STREAM").map_or(48, |size| size.parse().expect("ORCHESTRA_STREAM is a number"))
}

/// A sandbox with a profile for each program of these names, all of which run `script`.
fn sandbox(programs: &[&str], script: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    write_in(&sandbox.root(), "script.sh", script);
    let mut text = "grace = \"1s\"\n".to_owned();
    for program in programs {
        let words = json!(["/bin/sh", sandbox.root().join("script.sh"), program]);
        writeln!(text, "[profile.{program}]\nprogram = \"{program}\"\ncommand = {words}").unwrap();
    }
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &text);
    sandbox
}

/// The most memory that a process had, and that those below it have now.
fn memory(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? << 10)
}

/// Watches an agent that runs without a terminal to its end; the most memory that its watcher took.
fn most_memory(sandbox: &Sandbox, mut meanwhile: impl FnMut()) -> u64 {
    let pid = watcher(sandbox);
    let mut most = 0;
    while let Some(now) = memory(pid) {
        most = now.max(most);
        meanwhile();
        std::thread::sleep(Duration::from_millis(5));
    }
    most
}

/// What an agent said, and what is said of it.
fn texts(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let log = sandbox.json(&["log", name]);
    let runs = log["data"].as_array().unwrap().iter();
    runs.flat_map(|run| run["events"].as_array().unwrap()).filter_map(find_text).collect()
}

fn find_text(event: &Value) -> Option<String> {
    match event {
        Value::Object(map) => map
            .get("text")
            .and_then(Value::as_str)
            .map(str::to_owned)
            .or_else(|| map.values().find_map(find_text)),
        Value::Array(all) => all.iter().find_map(find_text),
        _ => None,
    }
}

#[test]
fn a_line_of_50_megabytes_costs_no_line_after_it_and_little_memory() {
    let sandbox = sandbox(
        &["command", "claude"],
        r#"
case $1 in
command) echo before; head -c 50000000 /dev/zero | tr '\0' x; echo; echo after ;;
claude)
    said() { printf '{"type":"assistant","message":{"id":"m%s","role":"assistant","model":"m","content":[{"type":"text","text":"' $1; }
    said 1; printf before; echo '"}]}}'
    said 2; head -c 50000000 /dev/zero | tr '\0' x; echo '"}]}}'
    said 3; printf after; echo '"}]}}'
    echo '{"type":"result","subtype":"success","is_error":false,"result":"done"}' ;;
esac
sleep 0.3
"#,
    );
    for program in ["command", "claude"] {
        sandbox.ok(&["spawn", "--detach", "-m", program, "--profile", program]);
        let most = most_memory(&sandbox, || {});
        assert_eq!(sandbox.orchestra(&["wait", program, "--timeout", "2m"]).code, 0);
        let texts = texts(&sandbox, program);
        let place = |word: &str| texts.iter().position(|text| text == word);
        let cut = texts.iter().position(|text| text.starts_with("a line was cut: 3322"));
        assert!(place("before") < cut && cut < place("after"), "{texts:.300?}");
        assert!(place("before").is_some() && cut.is_some(), "{texts:.300?}");
        println!("{program}: a line of 50 MB, at most {} MiB", most >> 20);
        assert!(most > 0 && most < MOST, "{program}: {} MiB", most >> 20);
    }
}

#[test]
fn a_flood_is_bounded_and_everybody_else_goes_on() {
    let sandbox = sandbox(
        &["command"],
        &format!(
            "echo begun; yes 'a line of a flood, which is as long as lines are that agents print' | head -c {}; echo; echo done",
            megabytes() << 20
        ),
    );
    let begun = Instant::now();
    sandbox.ok(&["spawn", "--detach", "-m", "Flood", "--profile", "command"]);
    let mut slowest = Duration::ZERO;
    let mut last = Instant::now();
    let mut seen = 0;
    let mut screen = Terminal::orchestra(&sandbox, &["attach", "flood"], 24, 100);
    let most = most_memory(&sandbox, || {
        if last.elapsed() < Duration::from_millis(500) {
            return;
        }
        last = Instant::now();
        let rows = sandbox.json(&["status", "--all"]);
        slowest = slowest.max(last.elapsed());
        seen += usize::from(rows["data"][0]["state"] == "running");
    });
    let took = begun.elapsed();
    wait_for("the screen to hear of the end", || screen.screen().contains("flood").then_some(()));
    screen.end();
    assert_eq!(sandbox.orchestra(&["wait", "flood", "--timeout", "2m"]).code, 0);
    let texts = texts(&sandbox, "flood");
    assert_eq!(texts.first().map(String::as_str), Some("begun"));
    let said = texts.iter().filter(|text| text.contains("a line of a flood")).count();
    let kept = texts.iter().any(|text| text.contains("only the gist is kept"));
    println!(
        "{} MiB in {took:?}, at most {} MiB, `status` {seen} times within {slowest:?}, {said} texts kept, bounded: {kept}",
        megabytes(),
        most >> 20
    );
    assert!(most > 0 && most < MOST, "{} MiB", most >> 20);
    assert!(seen > 0 && slowest < Duration::from_secs(10), "{seen} times, {slowest:?}");
    let journal: u64 = std::fs::read_dir(sandbox.git_dir().join("orchestra/journal"))
        .unwrap()
        .flatten()
        .flat_map(|agent| std::fs::read_dir(agent.path()).unwrap().flatten())
        .map(|file| file.metadata().unwrap().len())
        .sum();
    assert!(journal < 66 << 20, "{journal}");
}

#[test]
fn each_line_of_agents_that_talk_at_once_is_told_in_order() {
    const LINES: usize = 3_000;
    let sandbox = sandbox(&["command"], &format!("seq -f 'line %.0f of many' {LINES}"));
    let tasks = ["One", "Other"].map(|title| sandbox.ok(&["task", "add", title]));
    let out = sandbox.ok(&["spawn", "--profile", "command", "--json", &tasks[0], &tasks[1]]);
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in out.lines() {
        let document: Value = serde_json::from_str(line).unwrap();
        let Some(text) = find_text(&document["data"]).filter(|text| text.ends_with("of many")) else {
            continue;
        };
        told.entry(document["data"]["agent"].as_str().unwrap().to_owned()).or_default().push(text);
    }
    let expected: Vec<String> = (1..=LINES).map(|number| format!("line {number} of many")).collect();
    assert_eq!(told.len(), 2);
    assert!(
        told.values().all(|told| *told == expected),
        "{:?}",
        told.values().map(Vec::len).collect::<Vec<_>>()
    );
    for name in ["one", "other"] {
        let kept: Vec<String> =
            texts(&sandbox, name).into_iter().filter(|text| text.ends_with("of many")).collect();
        assert!(kept == expected, "{name}: {}", kept.len());
    }
}

/// The short form of `benches/fleet`, which has 200 of them and takes the time.
#[test]
fn the_watcher_of_many_that_talk_stays_small_and_keeps_every_word() {
    const AGENTS: usize = 20;
    const MESSAGES: usize = 300;
    /// For all of them, in a build without optimisation; it takes some 45.
    const MOST_OF_MANY: u64 = 96 << 20;
    let sandbox = sandbox(&["claude"], "cat \"${0%/*}/stream\"");
    let mut stream = String::new();
    for number in 1..=MESSAGES {
        let text = format!("message {number} of many {}", "and more words of it ".repeat(150));
        let content = json!([{"type": "text", "text": text}]);
        let usage = json!({"input_tokens": 4, "output_tokens": 9});
        let message = json!({"id": format!("m{number}"), "model": "m", "usage": usage, "content": content});
        writeln!(stream, "{}", json!({"type": "assistant", "message": message})).unwrap();
    }
    let result = json!({"type": "result", "subtype": "success", "is_error": false, "result": "done"});
    writeln!(stream, "{result}").unwrap();
    write_in(&sandbox.root(), "stream", &stream);
    let jobs = AGENTS.to_string();
    let mut args =
        vec!["spawn".to_owned(), "--profile".to_owned(), "claude".to_owned(), "--jobs".to_owned(), jobs];
    args.extend((0..AGENTS).map(|number| sandbox.ok(&["task", "add", &format!("Talk {number}")])));
    let mut session = sandbox.command(ORCHESTRA);
    session.args(&args).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut session = session.spawn().unwrap();
    let mut most = 0;
    let ended = wait_for("all of them to end", || {
        most = memory(session.id()).unwrap_or(0).max(most);
        session.try_wait().unwrap()
    });
    assert!(ended.success());
    println!("{AGENTS} agents, {} kB each: at most {} MiB", stream.len() / 1000, most >> 20);
    assert!(most > 0 && most < MOST_OF_MANY, "{} MiB", most >> 20);
    for number in 0..AGENTS {
        let texts = texts(&sandbox, &format!("talk-{number}"));
        let said = texts
            .iter()
            .filter_map(|text| text.strip_prefix("message ")?.split(' ').next()?.parse::<usize>().ok());
        assert!(said.eq(1..=MESSAGES), "talk-{number}");
    }
}

#[test]
fn a_character_that_comes_in_pieces_is_whole() {
    let text = "aä€😀é漢";
    let mut script = String::from(
        r#"
head() { case $1 in
    claude) printf '{"type":"assistant","message":{"id":"m%s","role":"assistant","model":"m","content":[{"type":"text","text":"' "$2" ;;
    codex) printf '{"type":"item.completed","item":{"id":"i%s","type":"agent_message","text":"' "$2" ;;
    gemini) printf '{"type":"message","role":"assistant","content":"' ;;
    esac; }
tail() { case $1 in claude) echo '"}]}}' ;; codex) echo '"}}' ;; *) echo '"}' ;; esac; }
"#,
    );
    for at in 1..text.len() {
        let octal = |bytes: &[u8]| bytes.iter().fold(String::new(), |all, byte| format!("{all}\\{byte:03o}"));
        let (one, other) = text.as_bytes().split_at(at);
        writeln!(
            script,
            "[ $1 = command ] || head $1 {at}; printf '{}'; sleep 0.01; printf '{}'; [ $1 = command ] && echo || tail $1",
            octal(one),
            octal(other)
        )
        .unwrap();
    }
    script += "case $1 in
    claude) echo '{\"type\":\"result\",\"subtype\":\"success\",\"is_error\":false,\"result\":\"done\"}' ;;
    codex) echo '{\"type\":\"turn.completed\",\"usage\":{}}' ;;
    gemini) echo '{\"type\":\"result\",\"status\":\"success\"}' ;;
    esac\nexit 0\n";
    let programs = ["command", "claude", "codex", "gemini"];
    let sandbox = sandbox(&programs, &script);
    let mut whole = BTreeMap::new();
    for program in programs {
        sandbox.orchestra(&["spawn", "-m", program, "--profile", program]);
        let texts = texts(&sandbox, program);
        let all: String = texts.concat();
        assert!(!all.contains('\u{fffd}'), "{program}: {texts:?}");
        whole.insert(program, all.matches(text).count());
    }
    assert!(whole.values().all(|&count| count >= text.len() - 1), "{whole:?}");
}

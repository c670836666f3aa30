//! Somebody who looks away is told that an agent waits, is stuck, failed or is done: once each.

use crate::harness::Terminal;
use crate::harness::sandbox::{Sandbox, wait_for};

/// A command that keeps what it is told, and agents that end in each way.
fn stage(notify: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let streams = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/agents/claude");
    let settings = format!(
        "{notify}
        [profile.good]
        program = 'command'
        command = ['true']
        [profile.bad]
        program = 'command'
        command = ['sh', '-c', 'exit 3']
        [profile.asks]
        program = 'replay'
        args = ['{streams}/denied.jsonl']
        "
    );
    let file = sandbox.home().join(".config/git-orchestra/config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, settings).unwrap();
    sandbox
}

const KEEP: &str = "[notify]\ncommand = ['sh', '-c', 'echo \"$NOTIFY_AGENT|$NOTIFY_STATE|$NOTIFY_WHY\" >>\"$HOME/told\"; cat >>\"$HOME/read\"']";

fn told(sandbox: &Sandbox) -> Vec<String> {
    let text = std::fs::read_to_string(sandbox.home().join("told")).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

#[test]
fn a_command_hears_each_turn_once() {
    let sandbox = stage(KEEP);
    sandbox.ok(&["spawn", "-m", "Work", "--name", "blue", "--profile", "good"]);
    assert_eq!(told(&sandbox), ["blue|done|"]);
    assert_eq!(sandbox.orchestra(&["spawn", "-m", "Work", "--name", "red", "--profile", "bad"]).code, 4);
    assert_eq!(told(&sandbox)[1..], ["red|failed|exit 3"]);
    let read = std::fs::read_to_string(sandbox.home().join("read")).unwrap();
    let first: serde_json::Value = serde_json::from_str(read.lines().next().unwrap()).unwrap();
    assert_eq!(first["schema"], "git-orchestra/notification/1");
    assert_eq!((&first["data"]["name"], &first["data"]["state"]), (&"blue".into(), &"done".into()));

    // An agent in the background has whoever watches it to tell of it.
    sandbox.ok(&["spawn", "-m", "Work", "--name", "green", "--profile", "good", "--detach"]);
    wait_for("the command", || told(&sandbox).contains(&"green|done|".to_owned()).then_some(()));

    // A question is told, and the end as well.
    let out = sandbox.orchestra(&["spawn", "-m", "Work", "--name", "asker", "--profile", "asks"]);
    assert_eq!(out.code, 3, "{out}");
    let asked = "asker|waiting|wants to use Bash: python3 -c 'print(1)'";
    assert_eq!(told(&sandbox)[3..], [asked, "asker|done|"]);
}

#[test]
fn a_command_that_fails_is_named_and_changes_nothing() {
    let sandbox = stage("[notify]\ncommand = ['sh', '-c', 'echo broken >&2; exit 9']");
    let out = sandbox.orchestra(&["spawn", "-m", "Work", "--name", "blue", "--profile", "good"]);
    assert_eq!(out.code, 0, "{out}");
    let warned = out.stderr.contains("notify.command failed") || out.stdout.contains("notify.command failed");
    assert!(warned, "{out}");
    let sandbox = stage("[notify]\ncommand = ['no-such-program']");
    let out = sandbox.orchestra(&["spawn", "-m", "Work", "--name", "blue", "--profile", "good"]);
    assert_eq!(out.code, 1, "{out}");
    assert!(out.stderr.contains("find the program `no-such-program`"), "{out}");
    // One that only the repository names is not run.
    let sandbox = stage("");
    sandbox.write("orchestra.toml", &KEEP.replace("$HOME/told", "$HOME/planted"));
    let out = sandbox.orchestra(&["spawn", "-m", "Work", "--name", "blue", "--profile", "good"]);
    assert_eq!(out.code, 1, "{out}");
    assert!(out.stderr.contains("`notify.command`") && !sandbox.home().join("planted").exists(), "{out}");
}

#[test]
fn a_terminal_rings_and_shows_words_unless_it_is_told_not_to() {
    for (setting, words, bells) in [("words", 1, 2), ("bell", 0, 1), ("off", 0, 0)] {
        let sandbox = stage(&format!("[notify]\nterminal = '{setting}'"));
        let args = ["spawn", "-m", "Work", "--name", "blue", "--profile", "good"];
        let mut terminal = Terminal::orchestra(&sandbox, &args, 24, 80);
        assert_eq!(terminal.end(), 0, "{}", terminal.screen());
        let bytes = terminal.bytes();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(text.matches("\x1b]9;blue done\x07").count(), words, "{setting}");
        // The second one ends the words.
        assert_eq!(text.matches('\x07').count(), bells, "{setting}");
    }
}

#[test]
fn a_terminal_is_told_of_those_that_wait_and_fail_too() {
    for (setting, profile, state) in [
        ("words", "bad", "failed: exit 3"),
        ("words", "asks", "waiting: wants to use Bash: python3 -c 'print(1)'"),
        ("bell", "bad", ""),
        ("bell", "asks", ""),
        ("off", "asks", ""),
    ] {
        let sandbox = stage(&format!("[notify]\nterminal = '{setting}'"));
        let args = ["spawn", "-m", "Work", "--name", "blue", "--profile", profile];
        let mut terminal = Terminal::orchestra(&sandbox, &args, 24, 80);
        if profile == "asks" {
            terminal.wait_for("let it use Bash? y/n");
            terminal.type_in("n");
        }
        terminal.end();
        let bytes = terminal.bytes();
        let text = String::from_utf8_lossy(&bytes);
        let shown = text.matches("\x1b]9;").count();
        // The end is told as well where it waited.
        let turns = if profile == "asks" { 2 } else { 1 };
        assert_eq!(shown, if setting == "words" { turns } else { 0 }, "{setting} {profile}");
        if setting == "words" {
            assert_eq!(text.matches(&format!("\x07\x1b]9;blue {state}\x07")).count(), 1, "{text:?}");
        }
        let bells = if setting == "off" { 0 } else { turns + shown };
        assert_eq!(text.matches('\x07').count(), bells, "{setting} {profile}");
    }
}

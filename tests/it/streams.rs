//! What goes to which stream: answers that a script can read, and nothing that a terminal would obey.

use std::process::Stdio;

use crate::harness::sandbox::{ORCHESTRA, run};
use crate::harness::{Output, Sandbox, Terminal};

/// Clears the screen, sets the title, hides what follows, and reverses the reading direction.
const HOSTILE: &str = "ok\u{1b}[2J\u{1b}]0;owned\u{7}\u{1b}[8m\u{202e}gnp.exe\u{9b}31m";

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let sandbox = Sandbox::new();
    for number in 0..30 {
        sandbox.ok(&["task", "add", &format!("{number} {}", "long ".repeat(400))]);
    }
    for args in [&["task", "list"][..], &["task", "list", "--json"], &["--help"], &["task", "list", "-z"]] {
        let mut command = sandbox.command(ORCHESTRA);
        let mut child = command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let output = Output::from(child.wait_with_output().unwrap());
        assert_eq!(output.stderr, "", "{args:?}");
        assert!([0, 141].contains(&output.code), "{args:?}: {output}");
    }
    let mut command = sandbox.command("sh");
    command.args(["-c", "git orchestra task list | head -n 1"]);
    let output = run(command, b"");
    assert_eq!((output.stdout.lines().count(), output.stderr.as_str()), (1, ""), "{output}");
}

#[test]
fn what_others_wrote_cannot_drive_the_terminal() {
    let sandbox = Sandbox::new();
    let id = sandbox.ok(&["task", "add", HOSTILE, "-m", HOSTILE]);
    sandbox.ok(&["finding", "add", HOSTILE, "--path", "README.md"]);
    for args in
        [&["task", "list"][..], &["task", "show", &id], &["show", &id], &["finding", "list"], &["status"]]
    {
        let mut terminal = Terminal::orchestra(&sandbox, &[&["--no-pager"], args].concat(), 40, 100);
        assert_eq!(terminal.end(), 0, "{args:?}\n{}", terminal.screen());
        let text = String::from_utf8(terminal.bytes()).unwrap();
        for forbidden in ["\u{1b}[2J", "\u{1b}]", "\u{1b}[8m", "\u{7}", "\u{202e}", "\u{9b}"] {
            assert!(!text.contains(forbidden), "{args:?} printed {forbidden:?}: {text:?}");
        }
        let piped = sandbox.ok(args);
        let control = piped.chars().find(|character| character.is_control() && *character != '\n');
        assert_eq!(control, None, "{args:?} off a terminal: {piped:?}");
    }
}

#[test]
fn colours_are_for_terminals_and_can_be_refused() {
    let mut sandbox = Sandbox::new();
    sandbox.ok(&["task", "add", "A task"]);
    let colourful = |sandbox: &Sandbox, args: &[&str]| {
        let mut terminal = Terminal::orchestra(sandbox, args, 20, 100);
        assert_eq!(terminal.end(), 0, "{}", terminal.screen());
        terminal.bytes().contains(&0x1b)
    };
    assert!(colourful(&sandbox, &["task", "list"]));
    assert!(!colourful(&sandbox, &["--color", "never", "task", "list"]));
    assert!(!sandbox.ok(&["task", "list"]).contains('\u{1b}'));
    assert!(sandbox.ok(&["--color", "always", "task", "list"]).contains('\u{1b}'));
    sandbox.set_env("NO_COLOR", "1");
    assert!(!colourful(&sandbox, &["task", "list"]));
}

#[test]
fn answers_go_to_stdout_and_everything_else_to_stderr() {
    let sandbox = Sandbox::new();
    let added = sandbox.orchestra(&["task", "add", "A task"]);
    assert_eq!(added.stdout.trim().len(), 16, "the id alone, and all of it: {added}");
    let missing = sandbox.orchestra(&["task", "show", "zzzz"]);
    assert_eq!((missing.code, missing.stdout.as_str()), (1, ""), "{missing}");
    assert!(missing.stderr.starts_with("error: "), "{missing}");
    let usage = sandbox.orchestra(&["task", "ad"]);
    assert_eq!((usage.code, usage.stdout.as_str()), (2, ""), "{usage}");
    for args in [&["task", "list"][..], &["finding", "list"], &["status"], &["config", "list"]] {
        let document = sandbox.json(args);
        assert!(document["schema"].as_str().unwrap().starts_with("git-orchestra/"), "{document:#}");
    }
}

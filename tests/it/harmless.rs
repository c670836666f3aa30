//! What reaches the terminal, byte by byte as a terminal reads it: text, line ends, and the few sequences of our own.
//!
//! Hostile words are put wherever words of others come in: titles, findings, what agents print and run, file names,
//! contents, branches, commits, people's names, gates, remotes. Every command that shows something shows them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use serde_json::json;
use vte::{Params, Parser, Perform};

use crate::harness::sandbox::{poll, write_in};
use crate::harness::{Sandbox, Terminal};

/// What a terminal obeys, or a reader does not see.
const HOSTILE: &[&str] = &[
    "\u{1b}[2J",
    "\u{1b}[3;1H",
    "\u{1b}[8m",
    "\u{1b}[?1049h",
    "\u{1b}[6n",
    "\u{1b}[>c",
    "\u{1b}[20t",
    "\u{1b}[!p",
    "\u{1b}c",
    "\u{1b}(0",
    "\u{1b}#8",
    "\u{1b}]0;owned\u{7}",
    "\u{1b}]8;;https://example.org\u{1b}\\link\u{1b}]8;;\u{1b}\\",
    "\u{1b}]52;c;b3duZWQ=\u{7}",
    "\u{1b}P$q\"p\u{1b}\\",
    "\u{1b}_app\u{1b}\\",
    "\u{1b}^privacy\u{1b}\\",
    "\u{9b}31m",
    "\u{9d}0;owned\u{9c}",
    "\u{90}q\u{9c}",
    "\u{7}\u{8}\u{b}\u{c}\u{e}\u{f}\u{7f}",
    "\rover",
    "\u{202e}gnp.exe\u{202c}",
    "\u{2066}a\u{2069}\u{200b}\u{200d}\u{feff}\u{e0041}",
];

/// Sequences that do not end: they would take what comes after them.
const ENDLESS: [&str; 3] = ["\u{1b}]2;", "\u{1b}P", "\u{1b}["];

/// All of it, between words that are to be seen.
fn hostile(name: &str) -> String {
    let all = HOSTILE.iter().enumerate();
    let all = all.fold(name.to_owned(), |all, (number, one)| format!("{all} {one}{number}"));
    format!("{all} end {}", ENDLESS.join("x"))
}

/// The same as far as a file may be called so.
fn hostile_path(name: &str) -> String {
    hostile(name).replace(['/', '\0'], "_").chars().take(60).collect::<String>() + ".txt"
}

/// The same as far as git lets a branch be called so: no ASCII control characters.
const HOSTILE_BRANCH: &str = "b\u{9b}31m\u{202e}x\u{200b}y\u{9d}0;z";

/// What a terminal made of the bytes that came.
#[derive(Default)]
struct Seen {
    text: String,
    wrong: Vec<String>,
    /// Whether the cursor may be moved: a screen, or a bar.
    moves: bool,
    /// Whether the bell rang, which it does before a notification only.
    rang: bool,
}

/// The looks that we have: none, bold, dim, underlined, and the eight colours.
fn is_look(number: u16) -> bool {
    matches!(number, 0 | 1 | 2 | 4 | 22 | 24 | 30..=37 | 39)
}

impl Perform for Seen {
    fn print(&mut self, c: char) {
        if git_orchestra::agent::is_hidden(c) {
            self.wrong.push(format!("character {c:?} after {:?}", tail(&self.text)));
        }
        if !self.moves && self.text.ends_with('\r') {
            self.wrong.push(format!("a line is written over after {:?}", tail(&self.text)));
        }
        if std::mem::take(&mut self.rang) {
            self.wrong.push(format!("the bell rings after {:?}", tail(&self.text)));
        }
        self.text.push(c);
    }

    fn execute(&mut self, byte: u8) {
        match byte {
            b'\n' | b'\r' | b'\t' => self.text.push(char::from(byte)),
            // The bell of a notification.
            0x07 if self.moves && !self.rang => self.rang = true,
            _ => self.wrong.push(format!("control {byte:#04x} after {:?}", tail(&self.text))),
        }
    }

    fn csi_dispatch(&mut self, params: &Params, intermediates: &[u8], _: bool, action: char) {
        let numbers: Vec<u16> = params.iter().flatten().copied().collect();
        let ours = match (action, intermediates) {
            ('m', []) => numbers.iter().all(|&number| is_look(number)),
            // Up, down, right, left, to a column, home; erase a line, or the rest of the screen.
            ('A' | 'B' | 'C' | 'D' | 'G', []) => self.moves,
            ('H', []) => self.moves && numbers.iter().all(|&number| number <= 1),
            ('K', []) => self.moves && numbers.iter().all(|&number| matches!(number, 0 | 2)),
            ('J', []) => self.moves && numbers == [0],
            // The cursor hidden and shown.
            ('h' | 'l', [b'?']) => self.moves && numbers == [25],
            _ => false,
        };
        if !ours {
            let intermediates = String::from_utf8_lossy(intermediates).into_owned();
            self.wrong.push(format!("CSI {intermediates}{numbers:?}{action} after {:?}", tail(&self.text)));
        }
    }

    fn esc_dispatch(&mut self, intermediates: &[u8], _: bool, byte: u8) {
        let intermediates = String::from_utf8_lossy(intermediates);
        self.wrong.push(format!("ESC {intermediates}{} after {:?}", char::from(byte), tail(&self.text)));
    }

    fn osc_dispatch(&mut self, params: &[&[u8]], _: bool) {
        // A notification of ours, in words that are harmless.
        let is_notice = |words: &[u8]| {
            let words = String::from_utf8_lossy(words);
            words.starts_with(|c: char| c.is_ascii_alphanumeric())
                && !words.contains(git_orchestra::agent::is_hidden)
        };
        let rang = std::mem::take(&mut self.rang);
        if rang && params.first() == Some(&&b"9"[..]) && params[1..].iter().copied().all(is_notice) {
            return;
        }
        self.wrong.push(format!("OSC {params:?} after {:?}", tail(&self.text)));
    }

    fn hook(&mut self, _: &Params, _: &[u8], _: bool, action: char) {
        self.wrong.push(format!("DCS {action} after {:?}", tail(&self.text)));
    }
}

fn tail(text: &str) -> String {
    let all: Vec<char> = text.chars().collect();
    all[all.len().saturating_sub(40)..].iter().collect()
}

/// Reads bytes as a terminal does.
fn read(bytes: &[u8], moves: bool) -> Seen {
    let mut seen = Seen { moves, ..Seen::default() };
    let mut parser = Parser::new();
    parser.advance(&mut seen, bytes);
    // A sequence that was begun and not ended would take what comes next.
    let before = seen.text.len();
    parser.advance(&mut seen, b"Q");
    if seen.text.len() == before {
        seen.wrong.push("a sequence that does not end".to_owned());
    }
    seen
}

/// The stage on which everything hostile was said, and what was seen of it.
struct Stage {
    sandbox: Sandbox,
    wrong: Vec<String>,
    used: BTreeSet<String>,
    /// Commands that were not understood: they show nothing of what they are there for.
    refused: Vec<String>,
}

impl Stage {
    /// Runs a command on a terminal to its end. What asks is answered, wrongly first.
    fn show(&mut self, args: &[&str], asks: bool, moves: bool) -> String {
        let mut terminal = Terminal::orchestra(&self.sandbox, &[&["--no-pager"], args].concat(), 50, 160);
        let mut keys = ["y\r", "?\r", "d\r", "q\r", "n\r", "\u{4}", "\u{3}", "\u{3}"].into_iter();
        while asks && is_alive(terminal.pid()) {
            let before = terminal.bytes().len();
            std::thread::sleep(Duration::from_millis(700));
            // Nothing more comes: it waits for us.
            if terminal.bytes().len() == before
                && let Some(keys) = keys.next()
                && is_alive(terminal.pid())
            {
                terminal.type_in(keys);
            }
        }
        let code = terminal.end();
        // Not what was meant to be shown.
        if code == 2 {
            self.refused.push(format!("{args:.120?}: {:.300}", terminal.screen()));
        }
        self.judge(args, &terminal.bytes(), moves)
    }

    /// A command that only shows.
    fn plain(&mut self, args: &[&str]) -> String {
        self.show(args, false, false)
    }

    fn judge(&mut self, args: &[&str], bytes: &[u8], moves: bool) -> String {
        let verbs: Vec<&str> = args.iter().copied().take_while(|arg| !arg.starts_with('-')).take(2).collect();
        self.used.insert(verbs.first().copied().unwrap_or_default().to_owned());
        self.used.insert(verbs.join(" "));
        let seen = read(bytes, moves);
        let shown: Vec<&str> = args.iter().map(|arg| arg.get(..40).unwrap_or(arg)).collect();
        self.wrong.extend(seen.wrong.iter().take(3).map(|wrong| format!("{shown:?}: {wrong}")));
        seen.text
    }
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| !rest.is_empty() && !rest.starts_with('Z'))
}

/// A string of TOML.
fn toml(text: &str) -> String {
    let plain = |c: char| c == ' ' || c.is_ascii_alphanumeric();
    let body = text.chars().fold(String::new(), |all, c| {
        if plain(c) { format!("{all}{c}") } else { format!("{all}\\U{:08X}", u32::from(c)) }
    });
    format!("\"{body}\"")
}

/// A shell word with octal escapes, for `printf`.
fn octal(text: &[u8]) -> String {
    text.iter().fold(String::new(), |all, byte| format!("{all}\\{byte:03o}"))
}

/// What the agents are: one that prints, one that prints what Claude Code prints.
fn profiles(sandbox: &Sandbox) {
    let words = hostile("said");
    let mut raw = words.clone().into_bytes();
    raw.extend(b" raw \x9b31m \x9d0;owned\x9c \xff\xfe end");
    let (file, path) = (hostile_path("file"), hostile_path("other"));
    let mut script = String::from("#!/bin/sh\n");
    // In one piece, in two that meet in the middle of a sequence, and on the other stream.
    writeln!(script, "printf '{}\\n'; printf '{}\\n' >&2", octal(&raw), octal(&raw)).unwrap();
    for one in HOSTILE.iter().chain(&ENDLESS) {
        let (first, second) = one.as_bytes().split_at(one.len() / 2);
        writeln!(script, "printf 'x{}'; sleep 0.01; printf '{}y\\n'", octal(first), octal(second)).unwrap();
    }
    writeln!(
        script,
        "n=$(printf '{}'); printf '{}\\n' >\"$n\"; git add -A",
        octal(file.as_bytes()),
        octal(&raw)
    )
    .unwrap();
    writeln!(script, "printf '{}' >shared.txt; git add -A", octal(format!("{words}\n").as_bytes())).unwrap();
    writeln!(
        script,
        "n=$(printf '{}'); git -c user.name=\"$n\" commit -qm \"$n\"; printf left >\"$(printf '{}')\"",
        octal(words.as_bytes()),
        octal(path.as_bytes())
    )
    .unwrap();
    // What waits for the gate stays to be looked at.
    script += "case $1 in hold) until [ -e \"$2\" ]; do sleep 0.1; done ;; esac\n";
    write_in(&sandbox.root(), "print.sh", &script);
    let message = |content: serde_json::Value| json!({"type": "assistant", "message": {"id": words, "role": "assistant", "model": words, "content": [content]}});
    let delta = |text: &str| json!({"type": "stream_event", "event": {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}}});
    let mut lines = vec![
        json!({"type": "system", "subtype": "init", "model": words, "session_id": words, "claude_code_version": words, "permissionMode": words}),
        json!({"type": "stream_event", "event": {"type": "message_start", "message": {"id": "m", "model": "m", "usage": {}}}}),
    ];
    // Each half of a sequence in a piece of its own.
    for one in HOSTILE.iter().chain(&ENDLESS) {
        let middle = one.char_indices().nth(one.chars().count() / 2).unwrap().0;
        lines.extend([delta(&format!("a{}", &one[..middle])), delta(&format!("{}b \n", &one[middle..]))]);
    }
    lines.extend([
        message(json!({"type": "text", "text": words})),
        message(json!({"type": "thinking", "thinking": words})),
        message(json!({"type": "tool_use", "id": "c1", "name": words, "input": {"file_path": words, "command": words, "description": words}})),
        message(json!({"type": "tool_use", "id": "c2", "name": "Bash", "input": {"command": words, "description": words}})),
        message(json!({"type": "tool_use", "id": "c3", "name": "Write", "input": {"file_path": words, "content": words}})),
        json!({"type": "user", "message": {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "c1", "content": words, "is_error": true}]}}),
        json!({"type": words, "what": words}),
        json!({"type": "result", "subtype": words, "is_error": true, "result": words, "permission_denials": [{"tool_name": words, "tool_use_id": "c2", "tool_input": {"command": words}}]}),
    ]);
    let lines: String = lines.iter().fold(String::new(), |all, line| format!("{all}{line}\n"));
    write_in(&sandbox.root(), "claude.jsonl", &lines);
    write_in(
        &sandbox.root(),
        "claude.sh",
        "#!/bin/sh\ncat \"$1/claude.jsonl\"; printf '\\033]0;x\\007\\n' >&2\n",
    );
    let root = sandbox.root();
    let (root, gate) = (root.to_str().unwrap(), root.join("gate"));
    let gate_script = format!("printf '{}\\n'; printf '{}\\n' >&2; exit 1", octal(&raw), octal(&raw));
    let text = format!(
        "grace = '1s'\n\
         [profile.print]\nprogram = 'command'\ncommand = ['/bin/sh', '{root}/print.sh']\nrole = {}\n\
         [profile.hold]\nprogram = 'command'\ncommand = ['/bin/sh', '{root}/print.sh', 'hold', '{}']\n\
         [profile.speak]\nprogram = 'claude'\ncommand = ['/bin/sh', '{root}/claude.sh', '{root}']\n\
         [gate.loud]\nrun = ['sh', '-c', {}]\n",
        toml(&words),
        gate.display(),
        toml(&gate_script),
    );
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &text);
}

#[test]
#[expect(clippy::too_many_lines, reason = "the table of all commands, in the order in which they make sense")]
fn only_text_and_our_own_looks_reach_the_terminal() {
    let mut sandbox = Sandbox::new();
    sandbox.set_env("GIT_EDITOR", "true");
    profiles(&sandbox);
    let words = hostile("title");
    // A remote that speaks, too.
    let remote = sandbox.add_remote();
    let hook = format!("#!/bin/sh\nprintf '{}\\n' >&2\n", octal(hostile("remote").as_bytes()));
    write_in(&remote, "hooks/pre-receive", &hook);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(remote.join("hooks/pre-receive"), mode).unwrap();
    sandbox.git(&["branch", HOSTILE_BRANCH]);
    // What the repository itself wants to run, and does not get without being asked.
    let asked = format!("[gate.sly]\nrun = ['sh', '-c', {}]\n", toml(&hostile("gate")));
    sandbox.write("orchestra.toml", &asked);
    sandbox.write(
        ".claude/agents/sly.md",
        &format!("---\nname: sly\ndescription: {}\n---\n{}\n", json!(words), words),
    );
    sandbox.commit("settings");
    let mut stage = Stage { sandbox, wrong: Vec::new(), used: BTreeSet::new(), refused: Vec::new() };

    let task = stage.sandbox.ok(&["task", "add", &words, "-m", &hostile("body"), "--label", "ok"]);
    stage.sandbox.ok(&["finding", "add", &hostile("finding"), "--path", &hostile_path("path")]);
    let finding = stage.sandbox.json(&["finding", "list"])["data"][0]["id"].as_str().unwrap().to_owned();
    stage.plain(&["task", "add", &words]);
    stage.plain(&["task", "list"]);
    stage.plain(&["task", "show", &task]);
    stage.plain(&["task", "ready"]);
    stage.plain(&["task", "edit", &task, "--title", &words]);
    stage.plain(&["task", "claim", "--local", &task]);
    stage.plain(&["task", "release", &task]);
    stage.plain(&["finding", "add", &hostile("another"), "--path", "x"]);
    stage.plain(&["finding", "list"]);
    stage.plain(&["finding", "show", &finding]);
    stage.plain(&["plan"]);

    // Agents: in the foreground with a screen, one after the other, and without a terminal.
    stage.show(&["spawn", "--profile", "print", "--name", "printer", &task], false, true);
    stage.show(&["spawn", "--profile", "speak", "--name", "speaker", "-m", &words], false, true);
    stage.show(&["resume", "speaker", "-m", &words], false, true);
    stage.show(&["spawn", "--profile", "print", "--name", "clash", "-m", &hostile("clash")], false, true);
    stage.plain(&["spawn", "--profile", "hold", "--name", "holder", "-m", &hostile("held"), "--detach"]);
    stage.plain(&["send", "holder", &words]);
    stage.plain(&["interrupt", "holder"]);
    attach(&mut stage);
    stage.plain(&["status"]);
    stage.plain(&["status", "--all"]);
    stage.plain(&["stop", "holder"]);
    stage.plain(&["wait", "holder", "--timeout", "60"]);
    for agent in ["printer", "speaker", "clash", "holder"] {
        stage.plain(&["log", agent]);
        stage.plain(&["log", agent, "--raw"]);
        stage.plain(&["show", agent]);
        stage.plain(&["diff", agent]);
        stage.plain(&["diff", agent, "--stat"]);
        stage.plain(&["review", agent, "--print"]);
    }
    let seen = stage.plain(&["log", "printer"]);
    assert!(seen.contains("said") && seen.contains(" end"), "it is shown, and harmless: {seen}");
    stage.plain(&["log", &task]);
    stage.plain(&["show", &task]);
    for args in [
        &["log", "printer", "--json"][..],
        &["status", "--all", "--json"],
        &["task", "list", "--json"],
        &["task", "list", "--porcelain"],
        &["finding", "list", "--porcelain"],
        &["show", "printer", "--json"],
    ] {
        stage.plain(args);
    }
    stage.plain(&["cost"]);
    stage.plain(&["cost", "--by", "model"]);
    stage.plain(&["overlap"]);
    stage.plain(&["overlap", "printer", "clash"]);
    stage.plain(&["apply", "speaker"]);
    stage.plain(&["apply", "printer"]);
    stage.sandbox.git(&["reset", "-q", "--hard"]);
    stage.sandbox.git(&["clean", "-qfd"]);

    // Merges: a gate that speaks and fails, a conflict in a file that is called so, and its questions.
    stage.show(&["merge", "printer", "--gate", "loud"], true, true);
    stage.plain(&["decide"]);
    stage.show(&["merge", "--abort"], true, true);
    stage.show(&["merge", "printer", "--no-gates", "--yes"], true, true);
    conflict(&mut stage);
    stage.plain(&["verify"]);
    stage.plain(&["check"]);
    stage.sandbox.ok(&["task", "add", &hostile("run")]);
    stage.show(&["run", "--profile", "print", "--no-gates", "--yes"], true, true);
    stage.plain(&["oplog"]);
    stage.plain(&["oplog", "-n", "3"]);
    stage.show(&["undo", "--dry-run"], false, true);

    // Other machines, settings, order.
    stage.show(&["init"], true, true);
    stage.show(&["push"], false, true);
    stage.show(&["push", "--branches"], false, true);
    stage.show(&["fetch"], false, true);
    stage.show(&["sync"], false, true);
    stage.show(&["take", "printer"], true, true);
    stage.show(&["worker", "--once"], true, true);
    stage.plain(&["config", "list"]);
    stage.plain(&["config", "get", "gates"]);
    stage.show(&["config", "approve"], true, true);
    stage.plain(&["profile", "list"]);
    stage.plain(&["profile", "show", "print"]);
    stage.plain(&["profile", "show", "sly"]);
    stage.plain(&["recover"]);
    stage.show(&["doctor"], false, true);
    stage.show(&["prune"], false, true);
    stage.show(&["gc"], false, true);
    stage.plain(&["hook", "install"]);
    stage.plain(&["hook", "pre-commit"]);
    stage.plain(&["hook", "uninstall"]);
    stage.plain(&["remove", "speaker"]);
    stage.plain(&["task", "start", &task]);
    stage.plain(&["task", "close", &task]);
    stage.plain(&["task", "reopen", &task]);
    stage.plain(&["finding", "resolve", &finding]);
    assert!(stage.refused.is_empty(), "{:#?}", stage.refused);
    // What was typed is shown again when it is wrong.
    for args in
        [&["show", &words][..], &["task", "show", &words], &["spawn", &words], &[&words], &["log", &words]]
    {
        stage.plain(args);
        stage.plain(&["--color", "always", args[0]]);
    }

    // These print texts of our own alone, or speak to programs.
    let ours = ["demo", "completion", "man", "schema", "help"];
    let commands = stage.sandbox.listed_commands();
    let missing: Vec<&String> = commands
        .iter()
        .filter(|name| !stage.used.contains(*name) && !ours.contains(&name.as_str()))
        .collect();
    assert!(missing.is_empty(), "commands that are not looked at: {missing:?}");
    assert!(stage.wrong.is_empty(), "{:#?}", stage.wrong);
}

/// The screen of an agent that runs, looked at and left.
fn attach(stage: &mut Stage) {
    let mut terminal = Terminal::orchestra(&stage.sandbox, &["attach", "holder"], 30, 100);
    terminal.wait_for("holder");
    let _ = poll(|| terminal.screen().contains("end").then_some(()));
    for keys in ["\u{1b}[A", "\t", "?", "q"] {
        terminal.type_in(keys);
        std::thread::sleep(Duration::from_millis(100));
    }
    terminal.type_in("\u{3}");
    terminal.end();
    stage.judge(&["attach", "holder"], &terminal.bytes(), true);
}

/// A merge that stops at a file whose name and lines are hostile, and asks.
fn conflict(stage: &mut Stage) {
    stage.sandbox.write("shared.txt", &(hostile("mine") + "\n"));
    stage.sandbox.write(&hostile_path("file"), "another\n");
    stage.sandbox.commit(&hostile("commit"));
    stage.show(&["merge", "clash", "--no-gates", "--ask"], true, true);
    stage.plain(&["decide"]);
    let decisions = stage.sandbox.json(&["decide"]);
    if let Some(id) = decisions["data"][0]["id"].as_str() {
        let id = id.to_owned();
        stage.plain(&["show", &id]);
        stage.show(&["decide", &id], true, true);
    }
    stage.plain(&["merge", "--abort"]);
}

#[test]
fn a_terminal_would_have_obeyed() {
    // The reader of bytes above sees what it is there for.
    for one in HOSTILE.iter().chain(&ENDLESS) {
        assert!(!read(format!("a{one}").as_bytes(), false).wrong.is_empty(), "{one:?}");
    }
    assert!(read("\u{1b}[33mg123\u{1b}[0m plain\r\n\tcode".as_bytes(), false).wrong.is_empty());
    assert!(!read(b"\x1b[2K", false).wrong.is_empty());
}

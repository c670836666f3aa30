//! Completion, by driving a real bash.

use std::fmt::Write as _;
use std::path::Path;

use super::Stage;
use crate::harness::Terminal;

/// Where git's own completion is on the systems that we know; `git orchestra <TAB>` needs it.
const GITS: &[&str] = &[
    "/usr/share/bash-completion/completions/git",
    "/usr/share/git/completion/git-completion.bash",
    "/usr/share/doc/git/contrib/completion/git-completion.bash",
];

struct Bash {
    terminal: Terminal,
    line: usize,
}

impl Bash {
    fn start(stage: &Stage, scripts: &[&Path]) -> Self {
        let mut rc = String::from(
            "PS1='> '; HISTFILE=; bind 'set bell-style none'; bind 'set page-completions off'\n",
        );
        for script in scripts {
            let _ = writeln!(rc, "source '{}'", script.display());
        }
        let file = stage.sandbox.root().join("bashrc");
        std::fs::write(&file, rc).unwrap();
        let args = ["--noprofile", "--rcfile", file.to_str().unwrap(), "-i"];
        let terminal = Terminal::start(&stage.sandbox, "bash", &args, stage.sandbox.repo(), 40, 120);
        terminal.wait_for("> ");
        Self { terminal, line: 0 }
    }

    /// Types `text`, which ends with TAB, and waits for the line to read `expected`.
    fn completes(&mut self, text: &str, expected: &str) {
        self.line += 1;
        // A word that cannot be completed by anybody marks the line, so that an earlier one is not taken for it.
        let mark = format!("L{}=1 ", self.line);
        self.terminal.type_in(&format!("{mark}{text}"));
        self.terminal.wait_for(&format!("> {mark}{expected}"));
        self.terminal.type_in("\u{15}");
    }
}

#[test]
fn bash_completes_both_spellings() {
    let mut stage = Stage::new();
    let task = stage.add("<a>", &["task", "add", "Parse dates"])[..4].to_owned();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let ours = root.join("completions/git-orchestra.bash");
    let gits: Vec<&Path> = GITS.iter().map(Path::new).filter(|path| path.exists()).take(1).collect();
    let scripts: Vec<&Path> = gits.iter().copied().chain([ours.as_path()]).collect();
    let mut bash = Bash::start(&stage, &scripts);

    bash.completes("git-orchestra tas\t", "git-orchestra task ");
    bash.completes("git-orchestra task sh\t", "git-orchestra task show ");
    bash.completes("git-orchestra task show \t", &format!("git-orchestra task show {task} "));
    bash.completes("git-orchestra task list --po\t", "git-orchestra task list --porcelain ");
    bash.completes("git-orchestra --color=al\t", "git-orchestra --color=always ");
    bash.completes(
        "git-orchestra finding add x --severity cr\t",
        "git-orchestra finding add x --severity critical ",
    );
    let dir = stage.sandbox.repo().display().to_string();
    bash.completes(
        &format!("git-orchestra -C {dir} task show \t"),
        &format!("git-orchestra -C {dir} task show {task} "),
    );

    if gits.is_empty() {
        println!("git's own completion is not installed: `git orchestra <TAB>` was not tried");
        return;
    }
    bash.completes("git orches\t", "git orchestra ");
    bash.completes("git orchestra tas\t", "git orchestra task ");
    bash.completes("git orchestra task show \t", &format!("git orchestra task show {task} "));
    bash.completes("git orchestra --color=al\t", "git orchestra --color=always ");
    bash.completes(
        &format!("git -C {dir} orchestra task show \t"),
        &format!("git -C {dir} orchestra task show {task} "),
    );
}

#[test]
fn completion_is_silent_where_nothing_can_be_known() {
    let stage = Stage::new();
    let out = stage.sandbox.orchestra(&["-C", "/", "__complete", "--", "task", "show", ""]);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str(), out.code), ("", "", 0));
    stage.sandbox.write("orchestra.toml", "not [ toml");
    let out = stage.sandbox.orchestra(&["__complete", "--", "config", "get", ""]);
    assert_eq!((out.stdout.as_str(), out.stderr.as_str(), out.code), ("", "", 0));
}

#[test]
fn what_needs_no_repository_looks_at_none() {
    let stage = Stage::new();
    // Whoever opened this repository, or read its settings, would fail.
    std::fs::write(stage.sandbox.git_dir().join("config"), "[broken").unwrap();
    stage.sandbox.write("orchestra.toml", "not [ toml");
    assert_eq!(stage.sandbox.orchestra(&["task", "list"]).code, 1);
    for args in
        [&["-h"][..], &["task", "add", "-h"], &["--version"], &["completion", "bash"], &["schema"], &["man"]]
    {
        let out = stage.sandbox.orchestra(args);
        assert!(out.code == 0 && !out.stdout.is_empty() && out.stderr.is_empty(), "{args:?}: {out}");
    }
}

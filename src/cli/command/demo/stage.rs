//! The demo's throwaway repository, its scripts, and an environment in which nothing of the user's is seen.

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::process::Command;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The agents' scripts, named like the agents.
const SCRIPTS: [(&str, &str); 4] = [
    ("greet-politely", include_str!("../../../../fixtures/agents/demo/greet-politely.jsonl")),
    ("greet-in-french", include_str!("../../../../fixtures/agents/demo/greet-in-french.jsonl")),
    ("say-goodbye", include_str!("../../../../fixtures/agents/demo/say-goodbye.jsonl")),
    ("test-the-greeting", include_str!("../../../../fixtures/agents/demo/test-the-greeting.jsonl")),
];

/// The repository's files.
const FILES: [(&str, &str); 3] = [
    ("README.md", "# greeter\n\n    $ sh greet.sh Ada\n    Hello, Ada!\n\nSmall on purpose.\n"),
    (
        "greet.sh",
        "#!/bin/sh\n# greet.sh [NAME]: greets NAME.\n. \"$(dirname \"$0\")/words.sh\"\necho \"$hello, ${1:-world}$end\"\n",
    ),
    ("words.sh", "# What is said first.\nhello='Hello'\n\n# What ends a line.\nend='!'\n"),
];

/// Variables of the user's that tell where programs are and what the terminal can do.
const PASSED: [&str; 10] =
    ["PATH", "TERM", "COLORTERM", "COLUMNS", "NO_COLOR", "LANG", "LC_ALL", "LC_CTYPE", "TMPDIR", "TZ"];

/// The throwaway directory; removed when dropped, unless kept.
#[derive(Debug)]
pub(super) struct Stage {
    dir: TempDir,
    program: PathBuf,
    env: Arc<BTreeMap<OsString, OsString>>,
}

impl Stage {
    /// Makes the repository with one commit, and settings by which every agent plays the script of its name.
    pub(super) fn build(ctx: &Context) -> Result<Self, CliError> {
        let program = std::env::current_exe()
            .map_err(|error| CliError::failed("failed to find the program's own file", error))?;
        let dir = tempfile::Builder::new()
            .prefix("git-orchestra-demo-")
            .tempdir()
            .map_err(|error| CliError::failed("failed to make a temporary directory", error))?;
        let env = environment(ctx, dir.path());
        let stage = Self { dir, program, env: Arc::new(env) };
        stage.furnish().map_err(|error| CliError::failed("failed to write the demo's files", error))?;
        for words in [
            ["git", "init", "--quiet", "--initial-branch=main"].as_slice(),
            &["git", "add", "."],
            &["git", "commit", "--quiet", "-m", "greeter: say hello"],
        ] {
            stage.command(words[0]).args(&words[1..]).read()?;
        }
        Ok(stage)
    }

    /// The repository.
    pub(super) fn repo(&self) -> PathBuf {
        self.dir.path().join("greeter")
    }

    /// The environment of every command of the demo.
    pub(super) fn env(&self) -> Arc<BTreeMap<OsString, OsString>> {
        Arc::clone(&self.env)
    }

    /// Keeps the directory when the demo ends, and says where the repository is.
    pub(super) fn keep(&mut self) -> PathBuf {
        self.dir.disable_cleanup(true);
        self.repo()
    }

    /// Runs one of our own commands with our terminal, without input; returns its exit code.
    pub(super) fn orchestra(&self, words: &[&str]) -> Result<i32, CliError> {
        show(&self.command(&self.program).args(words))
    }

    /// Runs another program in the same way.
    pub(super) fn run(&self, words: &[&str]) -> Result<i32, CliError> {
        show(&self.command(words[0]).args(&words[1..]))
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        Command::new(program).envs(self.env.iter()).current_dir(self.repo())
    }

    fn furnish(&self) -> std::io::Result<()> {
        let scripts = self.dir.path().join("scripts");
        let settings = self.dir.path().join("home/.config/git-orchestra");
        for dir in [&scripts, &settings, &self.repo()] {
            std::fs::create_dir_all(dir)?;
        }
        for (name, script) in SCRIPTS {
            std::fs::write(scripts.join(format!("{name}.jsonl")), script)?;
        }
        for (name, text) in FILES {
            std::fs::write(self.repo().join(name), text)?;
        }
        // A JSON string is a TOML string.
        let args = serde_json::json!([scripts.to_string_lossy()]);
        // What the radar says depends on who is how fast; here the merge is to show it.
        let profile = format!("default-profile = \"demo\"\nradar.watch = \"off\"\nprofile.demo = {{ program = \"replay\", args = {args} }}\n");
        std::fs::write(settings.join("config.toml"), profile)?;
        let identity = "[user]\n\tname = Ada Example\n\temail = ada@example.org\n[gc]\n\tauto = 0\n[maintenance]\n\tauto = false\n";
        std::fs::write(self.dir.path().join("home/.gitconfig"), identity)
    }
}

fn show(command: &Command) -> Result<i32, CliError> {
    // Bytes to read, though none: the terminal's keyboard stays ours, so that nothing asks and waits.
    let status = command.clone().with_terminal().stdin(Vec::new()).output()?.status;
    Ok(status.code().unwrap_or(128))
}

fn environment(ctx: &Context, dir: &Path) -> BTreeMap<OsString, OsString> {
    let home = dir.join("home");
    let mut env: BTreeMap<OsString, OsString> = PASSED
        .iter()
        .filter_map(|name| Some(((*name).into(), ctx.env().var(name)?.to_owned())))
        .collect();
    env.insert("HOME".into(), home.clone().into());
    env.insert("GIT_CONFIG_GLOBAL".into(), home.join(".gitconfig").into());
    env.insert("GIT_CONFIG_NOSYSTEM".into(), "1".into());
    env.insert("GIT_PAGER".into(), "cat".into());
    env
}

//! The player: performs a script's edits and commands in a directory, and prints it line by line.
//!
//! Files are touched inside the stage only, links included, and never in `.git`. Commands are the script's own:
//! play only what you would run.

use super::wire::{Args, Assistant, Line};
use crate::agent::AgentError;
use crate::agent::codex::without_shell;
use crate::agent::lenient::Object;
use crate::process::Command;
use serde_json::json;
use serde_json::value::RawValue;
use std::ffi::OsString;
use std::io::{BufRead, Write};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

/// The longest pause between two lines of a transcript of events: its agent may have waited hours for a person.
const MAX_PAUSE: u64 = 2_000;
/// How much of a command's output is printed.
const MAX_OUTPUT: usize = 16 * 1024;

/// Where a script is played.
#[derive(Debug, Clone)]
pub struct Stage {
    /// The directory that it works in.
    pub dir: PathBuf,
    /// The environment of its commands.
    pub env: Vec<(OsString, OsString)>,
    /// `git-orchestra` itself, by which findings are added.
    pub program: PathBuf,
    /// Pauses are divided by this; 0 leaves them out.
    pub speed: u32,
}

/// Plays `script` on `stage`, printing to `out`; returns the exit code that the script asks for, 0 if it asks for
/// none.
///
/// A tool that fails is told in its `tool_result`, or in a `notice` if a recorded result follows anyway; the script
/// goes on, as a model would. Of a recorded stream of Claude Code the Write, Edit and Bash calls are performed; of
/// Gemini CLI's the calls to write, replace and run; of Codex's the commands only, as it does not tell what it wrote; of
/// a transcript of events nothing, for the same reason.
pub fn play(script: impl BufRead, out: &mut impl Write, stage: &Stage) -> Result<u8, AgentError> {
    let mut player = Player { out, stage, calls: 0, recorded_in: String::new(), last: None };
    for line in script.split(b'\n') {
        let line =
            line.map_err(|source| AgentError::ReadScript { path: PathBuf::from("standard input"), source })?;
        let line = String::from_utf8_lossy(&line);
        if let Some(code) = player.line(line.trim())? {
            return Ok(code);
        }
    }
    Ok(0)
}

struct Player<'p, W> {
    out: &'p mut W,
    stage: &'p Stage,
    calls: u32,
    /// The directory that a recorded stream was recorded in.
    recorded_in: String,
    last: Option<u64>,
}

impl<W: Write> Player<'_, W> {
    /// Plays one line; returns the exit code if it is the end.
    fn line(&mut self, text: &str) -> Result<Option<u8>, AgentError> {
        if text.is_empty() {
            return Ok(None);
        }
        let Ok(line) = serde_json::from_str::<Line<'_>>(text) else {
            self.print(text)?;
            return Ok(None);
        };
        if line.is_claude() {
            self.print(text)?;
            self.recorded(text, &line)?;
        } else if line.is_gemini() || line.is_codex() {
            self.print(text)?;
            self.recorded_elsewhere(&line)?;
        } else if line.is_event() {
            let pause = self.last.map_or(0, |last| line.at().saturating_sub(last).min(MAX_PAUSE));
            self.last = Some(line.at());
            self.wait(pause);
            self.print(text)?;
        } else {
            match line.kind.text() {
                "wait" => self.wait(line.ms.int()),
                "exit" => return Ok(Some(u8::try_from(line.code.int()).unwrap_or(u8::MAX))),
                "tool_call" => {
                    let args = line.args.map_or("{}", RawValue::get);
                    let call = self.announce(text)?;
                    let outcome = self.perform(line.tool.text(), args);
                    self.answer(&call, outcome)?;
                }
                "finding" => {
                    let call = self.announce(text)?;
                    let outcome = self.finding(&line);
                    self.answer(&call, outcome)?;
                }
                _ => self.print(text)?,
            }
        }
        Ok(None)
    }

    fn print(&mut self, line: &str) -> Result<(), AgentError> {
        let print = |out: &mut W| {
            out.write_all(line.as_bytes())?;
            out.write_all(b"\n")?;
            out.flush()
        };
        print(self.out).map_err(AgentError::Print)
    }

    fn wait(&self, ms: u64) {
        if let Some(ms) = ms.checked_div(u64::from(self.stage.speed)) {
            std::thread::sleep(Duration::from_millis(ms));
        }
    }

    /// Prints a call with an id of our own.
    fn announce(&mut self, text: &str) -> Result<String, AgentError> {
        self.calls += 1;
        let call = format!("call-{}", self.calls);
        let mut line: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        line["call"] = call.clone().into();
        self.print(&line.to_string())?;
        Ok(call)
    }

    fn answer(&mut self, call: &str, outcome: Result<String, String>) -> Result<(), AgentError> {
        let (ok, output) = match outcome {
            Ok(output) => (true, output),
            Err(output) => (false, output),
        };
        self.print(&json!({"type": "tool_result", "call": call, "ok": ok, "output": output}).to_string())
    }

    /// Performs the tools of a recorded line.
    fn recorded(&mut self, text: &str, line: &Line<'_>) -> Result<(), AgentError> {
        if let Some(cwd) = line.cwd.owned() {
            self.recorded_in = cwd;
        }
        if line.kind.text() != "assistant" {
            return Ok(());
        }
        let Ok(assistant) = serde_json::from_str::<Assistant<'_>>(text) else { return Ok(()) };
        for block in assistant.message.content {
            let name = block.name.text();
            if block.kind.text() != "tool_use" || !matches!(name, "Write" | "Edit" | "Bash") {
                continue;
            }
            let outcome = self.perform(name, block.input.map_or("{}", RawValue::get));
            self.complain(name, outcome)?;
        }
        Ok(())
    }

    /// Performs what a recorded line of Gemini CLI or Codex calls, once: where its call begins.
    fn recorded_elsewhere(&mut self, line: &Line<'_>) -> Result<(), AgentError> {
        let name = line.tool_name.text();
        let ours = match name {
            "write_file" => "write",
            "replace" => "edit",
            "run_shell_command" => "bash",
            _ => "",
        };
        if line.kind.text() == "tool_use" && !ours.is_empty() {
            let outcome = self.perform(ours, line.parameters.map_or("{}", RawValue::get));
            return self.complain(name, outcome);
        }
        if let Object(Some(item)) = &line.item
            && line.kind.text() == "item.started"
            && item.kind.text() == "command_execution"
        {
            let outcome = self.shell(&without_shell(item.command.text()));
            return self.complain("command_execution", outcome);
        }
        Ok(())
    }

    fn complain(&mut self, name: &str, outcome: Result<String, String>) -> Result<(), AgentError> {
        let Err(why) = outcome else { return Ok(()) };
        let content = format!("playing {name}: {why}");
        self.print(&json!({"type": "notice", "content": content}).to_string())
    }

    fn perform(&self, tool: &str, args: &str) -> Result<String, String> {
        let args: Args<'_> = serde_json::from_str(args).map_err(|error| error.to_string())?;
        let path = || self.inside(args.path.text());
        match tool.to_ascii_lowercase().as_str() {
            "bash" => self.shell(args.command.text()),
            "write" => {
                let (path, content) = (path()?, args.content.text());
                if let Some(parent) = path.parent() {
                    std::fs::create_dir_all(parent).map_err(|error| error.to_string())?;
                }
                std::fs::write(&path, content).map_err(|error| error.to_string())?;
                Ok(format!("wrote {} bytes", content.len()))
            }
            "edit" => edit(&path()?, &args),
            "read" => std::fs::read_to_string(path()?).map_err(|error| error.to_string()),
            _ => Err(format!("a script has no tool `{tool}`: bash, write, edit and read are there")),
        }
    }

    fn shell(&self, command: &str) -> Result<String, String> {
        let shell = Command::new("/bin/sh").args(["-c", command]);
        self.run(&shell)
    }

    fn finding(&self, line: &Line<'_>) -> Result<String, String> {
        let mut command = Command::new(&self.stage.program).args(["finding", "add"]);
        for (option, value) in [("--severity", &line.severity), ("--path", &line.path)] {
            if let Some(value) = value.some_text() {
                command = command.arg(option).arg(value);
            }
        }
        self.run(&command.arg("--").arg(line.message.text()))
    }

    fn run(&self, command: &Command) -> Result<String, String> {
        let command = command.clone().envs(self.stage.env.iter().cloned()).current_dir(&self.stage.dir);
        let output = command.output().map_err(|error| error.to_string())?;
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        let text = crate::agent::tool::start(text.trim_end(), MAX_OUTPUT).to_owned();
        if output.status.success() { Ok(text) } else { Err(format!("{}\n{text}", output.status)) }
    }

    /// Where `path` is on the stage, if it is.
    fn inside(&self, path: &str) -> Result<PathBuf, String> {
        let recorded = Path::new(path);
        let relative = match recorded.strip_prefix(&self.recorded_in) {
            Ok(relative) if !self.recorded_in.is_empty() => relative,
            _ => recorded.strip_prefix(&self.stage.dir).unwrap_or(recorded),
        };
        let plain =
            relative.components().all(|part| matches!(part, Component::Normal(name) if name != ".git"));
        let outside = || format!("`{path}` is not inside the worktree");
        if !plain || relative.as_os_str().is_empty() {
            return Err(outside());
        }
        let path = self.stage.dir.join(relative);
        let stage = self.stage.dir.canonicalize().map_err(|error| error.to_string())?;
        // A link may lead elsewhere: what exists of the path is judged by where it really is.
        let existing = path.ancestors().find(|path| path.symlink_metadata().is_ok());
        let real = existing.and_then(|path| path.canonicalize().ok());
        match real {
            Some(real) if real.starts_with(&stage) && !real.starts_with(stage.join(".git")) => Ok(path),
            _ => Err(outside()),
        }
    }
}

fn edit(path: &Path, args: &Args<'_>) -> Result<String, String> {
    let before = std::fs::read_to_string(path).map_err(|error| error.to_string())?;
    let (old, new) = (args.old.text(), args.new.text());
    let found = if old.is_empty() { 0 } else { before.matches(old).count() };
    let after = match found {
        0 => return Err("the text to replace is not there".to_owned()),
        1 => before.replacen(old, new, 1),
        _ if args.all.is_true() => before.replace(old, new),
        _ => return Err(format!("the text to replace is there {found} times")),
    };
    std::fs::write(path, after).map_err(|error| error.to_string())?;
    Ok(format!("replaced {found}"))
}

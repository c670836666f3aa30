//! Telling somebody who looks away that an agent waits, is stuck, failed or is done: a bell, the terminal's own notification,
//! and a command of the user's.

use super::context::Context;
use super::error::CliError;
use super::json;
use super::session::search;
use super::ui::Ui;
use crate::agent::sanitise_line;
use crate::model::{Id, Name};
use crate::orchestrate::supervise::{Progress, Stand, Turn, Turns};
use crate::process::Command;
use serde::Serialize;
use std::collections::HashMap;
use std::time::Duration;
use tokio::task::JoinSet;

/// How long the user's command may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// No notification of a terminal is longer.
const CHARS: usize = 200;

/// How a terminal is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Nothing,
    Bell,
    /// A bell, and words by OSC 9, which terminals that do not know it ignore.
    Words,
}

/// What the user's command reads.
#[derive(Debug, Serialize)]
struct Notification<'a> {
    agent: &'a Id,
    name: &'a str,
    state: Stand,
    why: &'a str,
}

/// Hears what happens and tells the turns in it.
#[derive(Debug)]
pub(crate) struct Notifier {
    turns: Turns,
    names: HashMap<Id, String>,
    signal: Signal,
    command: Option<Command>,
    running: JoinSet<Result<(), String>>,
}

impl Notifier {
    /// A notifier by the settings, which knows these agents.
    ///
    /// # Errors
    /// When the command is one that the repository names and the user has not approved, or is not there.
    pub(crate) fn new<'a>(
        ctx: &Context,
        agents: impl IntoIterator<Item = (Id, &'a Name)>,
    ) -> Result<Self, CliError> {
        let command = match ctx.settings()?.notify_command()?.split_first() {
            Some((program, args)) => {
                let command = Command::new(search(ctx)?.find(program)?).args(args).envs(ctx.env().iter());
                Some(command.current_dir(ctx.repo()?.main_dir()))
            }
            None => None,
        };
        Ok(Self { command, ..Self::looking(ctx, agents)? })
    }

    /// The same for somebody who only looks at these agents: whoever watches them runs the command.
    pub(crate) fn looking<'a>(
        ctx: &Context,
        agents: impl IntoIterator<Item = (Id, &'a Name)>,
    ) -> Result<Self, CliError> {
        let signal = match ctx.settings()?.notify_terminal() {
            _ if ctx.ui().is_quiet() || !ctx.ui().has_terminal() => Signal::Nothing,
            "off" => Signal::Nothing,
            "bell" => Signal::Bell,
            _ => Signal::Words,
        };
        let names = agents.into_iter().map(|(id, name)| (id, name.to_string())).collect();
        Ok(Self { turns: Turns::default(), names, signal, command: None, running: JoinSet::new() })
    }

    /// Takes in what happened, and tells it if it was a turn. The command runs on beside everything else.
    pub(crate) fn take(&mut self, progress: &Progress, ui: &Ui) -> Result<(), CliError> {
        if let Progress::Queued { agent, name } = progress {
            self.names.insert(*agent, name.to_string());
        }
        let Some(Turn { agent, to, why }) = self.turns.take(progress) else { return Ok(()) };
        let name = self.names.get(&agent).map_or(agent.as_str(), String::as_str);
        // Questions name who asks, and so do we.
        let why = why.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')).unwrap_or(&why);
        let why = sanitise_line(why);
        match self.signal {
            Signal::Nothing => {}
            Signal::Bell => ui.signal("\x07"),
            Signal::Words => ui.signal(&osc_9(name, to, &why)),
        }
        if let Some(command) = &self.command {
            let notification = Notification { agent: &agent, name, state: to, why: &why };
            let line = json::line("notification", &notification)?;
            let command = command
                .clone()
                .env("NOTIFY_AGENT", name)
                .env("NOTIFY_STATE", to.word())
                .env("NOTIFY_WHY", why.as_ref())
                .stdin(line);
            self.running.spawn_blocking(move || {
                let output = command.output_within(DEADLINE).map_err(|error| error.to_string())?;
                if output.status.success() { Ok(()) } else { Err(command.failed(&output).to_string()) }
            });
        }
        Ok(())
    }

    /// Why a command failed, once one did. Safe to cancel; never, while none runs.
    pub(crate) async fn failed(&mut self) -> String {
        loop {
            match self.running.join_next().await {
                Some(Ok(Err(why))) => return format!("the command of notify.command failed: {why}"),
                Some(_) => {}
                None => std::future::pending().await,
            }
        }
    }

    /// Waits for the commands that still run, each no longer than its deadline. Says why the first that failed did.
    pub(crate) async fn end(mut self) -> Option<String> {
        let mut failed = None;
        while let Some(ended) = self.running.join_next().await {
            if let Ok(Err(why)) = ended {
                failed.get_or_insert(format!("the command of notify.command failed: {why}"));
            }
        }
        failed
    }
}

/// A bell, and a notification in the terminal's own way.
fn osc_9(name: &str, to: Stand, why: &str) -> String {
    let colon = if why.is_empty() { "" } else { ": " };
    let words: String = format!("{name} {}{colon}{why}", to.word()).chars().take(CHARS).collect();
    // A line that was sanitised has no character that could end the sequence.
    format!("\x07\x1b]9;{}\x07", sanitise_line(&words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_an_agent_said_gets_out_of_the_notification() {
        assert_eq!(osc_9("blue", Stand::Done, ""), "\x07\x1b]9;blue done\x07");
        let evil = osc_9("blue", Stand::Waiting, "a\x07\x1b]52;c;eA==\x07\u{9d}b\n");
        assert_eq!(evil.matches('\x07').count(), 2, "{evil:?}");
        assert_eq!(evil.matches('\x1b').count(), 1, "{evil:?}");
        assert!(!evil.contains(['\n', '\u{9d}']), "{evil:?}");
        assert!(osc_9("blue", Stand::Failed, &"x".repeat(9_000)).len() < 250);
    }
}

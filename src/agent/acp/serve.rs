//! The program that stands between the supervisor and an agent behind the protocol.

use super::client::{Client, Out, Phase};
use crate::agent::AgentError;
use crate::agent::bridge::{Wish, event_line};
use crate::model::{Event, EventKind, Usage};
use crate::process::{Child, ChildEvent, ChildOptions, Clock, Command, Exit, InputError, Source};
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout_at};

/// How long is waited for the agent.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// For an answer to what is no work: a greeting, a conversation that is opened, a turn that is to end.
    pub answer: Duration,
    /// For more of an earlier conversation that it tells.
    pub quiet: Duration,
    /// For its end, when its input is closed.
    pub end: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            // Beside fifteen others that start, and with servers of tools that it starts itself.
            answer: Duration::from_secs(120),
            quiet: Duration::from_millis(300),
            end: Duration::from_secs(3),
        }
    }
}

/// Starts the agent that `command` is, in `worktree`, and does what `wishes` say, to the end of both. Events go to `out`, what
/// the agent writes to its standard error goes to `complaints`.
///
/// # Errors
/// If nobody takes what is printed. What goes wrong with the agent is an event.
pub async fn serve(
    command: &Command,
    worktree: &Path,
    mut wishes: mpsc::Receiver<Wish>,
    clock: &dyn Clock,
    patience: Patience,
    out: &mut dyn Write,
    complaints: &mut dyn Write,
) -> Result<(), AgentError> {
    let Some(Wish::Begin(begin)) = wishes.recv().await else { return Ok(()) };
    let mut printer = Printer { clock, out };
    let options = ChildOptions { streaming: true, grace: patience.end, ..ChildOptions::default() };
    let mut child = match command.start(&options) {
        Ok(child) => child,
        Err(error) => {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}"));
            let text = format!("failed to {error}{}", source.unwrap_or_default());
            let (subtype, usage) = ("start".to_owned(), Usage::default());
            return printer.print(vec![EventKind::Result { subtype, error: true, text, usage }]);
        }
    };
    let mut said = Out::default();
    let mut client = Client::new(*begin, worktree, &mut said);
    let mut phase = client.phase;
    let mut since = Instant::now();
    loop {
        tell(&child, &mut client, &mut said);
        printer.print(std::mem::take(&mut said.events))?;
        if client.phase == Phase::Over {
            break;
        }
        if phase != client.phase {
            (phase, since) = (client.phase, Instant::now());
        }
        let limit = match phase {
            Phase::Idle | Phase::Prompting => None,
            Phase::Settling => Some(patience.quiet),
            Phase::Waiting => Some(client.hold),
            _ => Some(patience.answer),
        };
        tokio::select! {
                   event = child.next() => match event {
                       Some(ChildEvent::Lines { source: Source::Stdout, lines, .. }) => {
                           let at = clock.now();
                           for line in &lines {
        client.heard(&line.bytes, at, &mut said);
        }
                           if phase == Phase::Settling {
                               since = Instant::now();
                           }
                       }
                       Some(ChildEvent::Lines { source: Source::Stderr, lines, .. }) => {
                           pass_on(&lines, complaints)?;
                       }
                       Some(ChildEvent::Exited(exit)) => client.gone(&words(exit), &mut said),
                       None => client.gone("nobody knows how", &mut said),
                   },
                   wish = wishes.recv() => match wish {
                       Some(wish) => client.wish(wish, &mut said),
                       None => break,
                   },
                   () = due(limit.map(|limit| since + limit)) => {
                       client.late(patience.answer.as_secs(), &mut said);
                   }
               }
    }
    end(child, patience.end, complaints).await
}

/// Sends the agent what it is to be told.
fn tell(child: &Child, client: &mut Client, said: &mut Out) {
    for line in std::mem::take(&mut said.lines) {
        let mut bytes = line.to_string().into_bytes();
        bytes.push(b'\n');
        match child.write(bytes) {
            // One that is gone says so by its exit.
            Ok(()) | Err(InputError::Closed) => {}
            Err(error @ InputError::Full) => return client.fail("deaf", &error.to_string(), said),
        }
    }
}

/// Lets the agent end by itself for a while, and ends what is left of it.
async fn end(mut child: Child, within: Duration, complaints: &mut dyn Write) -> Result<(), AgentError> {
    child.close_input();
    let until = Instant::now() + within;
    let mut asked = false;
    loop {
        let event = if asked { Ok(child.next().await) } else { timeout_at(until, child.next()).await };
        match event {
            Ok(Some(ChildEvent::Lines { source: Source::Stderr, lines, .. })) => pass_on(&lines, complaints)?,
            Ok(Some(ChildEvent::Lines { .. })) => {}
            Ok(Some(ChildEvent::Exited(_)) | None) => return Ok(()),
            Err(_) => {
                child.stop();
                asked = true;
            }
        }
    }
}

fn pass_on(lines: &[crate::process::Line], complaints: &mut dyn Write) -> Result<(), AgentError> {
    let mut bytes = Vec::new();
    for line in lines {
        bytes.extend_from_slice(&line.bytes);
        bytes.push(b'\n');
    }
    complaints.write_all(&bytes).map_err(AgentError::Print)
}

fn words(exit: Exit) -> String {
    match (exit.code, exit.signal) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "nobody knows how".to_owned(),
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

struct Printer<'a> {
    clock: &'a dyn Clock,
    out: &'a mut dyn Write,
}

impl Printer<'_> {
    fn print(&mut self, kinds: Vec<EventKind>) -> Result<(), AgentError> {
        if kinds.is_empty() {
            return Ok(());
        }
        let at = self.clock.now();
        let lines = kinds.into_iter().flat_map(|kind| event_line(&Event { at, parent: None, kind }));
        let bytes: Vec<u8> = lines.collect();
        self.out.write_all(&bytes).and_then(|()| self.out.flush()).map_err(AgentError::Print)
    }
}

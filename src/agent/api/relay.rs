//! The way round: Claude Code does the work where its model's API is not to be had. It is started and understood as
//! always; here its events become those of a program of our own, and wishes become what it understands.

use crate::agent::bridge::{Begin, Wish, event_line};
use crate::agent::{Adapter, AgentError, Claude, Decoder, LaunchRequest};
use crate::model::{Event, EventKind};
use crate::process::{Child, ChildEvent, ChildOptions, Clock, Command, Line, Source};
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use tokio::sync::mpsc;

/// What says whose account the API is used with: it was no good, and Claude Code has a login of its own.
const KEYS: [&str; 2] = ["ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"];
/// By which its processes are known.
const MARK: &str = "GIT_ORCHESTRA_COMMAND";

/// Claude Code, and what it is started with.
pub(super) struct Relay<'a> {
    /// Its file, and arguments that belong to it.
    pub(super) program: &'a [OsString],
    pub(super) worktree: &'a Path,
    pub(super) env: &'a [(OsString, OsString)],
    pub(super) clock: &'a dyn Clock,
    pub(super) out: &'a mut dyn Write,
}

impl Relay<'_> {
    /// Lets it work to its end. Returns its exit code, as a shell would.
    pub(super) async fn run(
        mut self,
        begin: Begin,
        said: Vec<String>,
        mut wishes: mpsc::Receiver<Wish>,
    ) -> Result<u8, AgentError> {
        let request = request(begin, self.program, self.worktree);
        let launch = Claude.launch(&request);
        let Some((program, args)) = launch.argv.split_first() else { return Ok(1) };
        let env = self.env.iter().filter(|(name, _)| !KEYS.iter().any(|key| name == key)).cloned();
        let command = Command::new(program).args(args).envs(env).envs(launch.env).current_dir(self.worktree);
        let options = ChildOptions {
            mark: Some((MARK.to_owned(), uuid::Uuid::new_v4().to_string())),
            streaming: true,
            ..ChildOptions::default()
        };
        let mut child = command.start(&options).map_err(AgentError::Start)?;
        let first = launch.input.into_iter().chain(said.iter().filter_map(|text| Claude.message(text)));
        for bytes in first {
            // A child that is gone says so by its exit.
            let _ = child.write(bytes);
        }
        let mut decoder = Claude.decoder(&request);
        let mut listening = true;
        loop {
            tokio::select! {
                event = child.next() => match event {
                    Some(ChildEvent::Lines { source, lines, .. }) => self.tell(&mut *decoder, source, &lines)?,
                    Some(ChildEvent::Exited(exit)) => {
                        let mut events = Vec::new();
                        decoder.end(self.clock.now(), &mut events);
                        self.print(&events)?;
                        let signalled = exit.signal.and_then(|signal| u8::try_from(128 + signal).ok());
                        return Ok(exit.code.and_then(|code| u8::try_from(code).ok()).or(signalled).unwrap_or(1));
                    }
                    None => return Ok(1),
                },
                wish = wishes.recv(), if listening => {
                    listening = wish.is_some();
                    match wish {
                        Some(wish) => self.pass_on(&child, wish)?,
                        None => child.close_input(),
                    }
                }
            }
        }
    }

    fn tell(&mut self, decoder: &mut dyn Decoder, source: Source, lines: &[Line]) -> Result<(), AgentError> {
        let mut events = Vec::new();
        let at = self.clock.now();
        for line in lines {
            match source {
                Source::Stdout => decoder.line(&line.bytes, at, &mut events),
                Source::Stderr => decoder.error_line(&line.bytes, at, &mut events),
            }
            name_limit(&*decoder, &mut events);
        }
        self.print(&events)
    }

    fn pass_on(&mut self, child: &Child, wish: Wish) -> Result<(), AgentError> {
        let bytes = match wish {
            Wish::Message { text } => Claude.message(&text),
            Wish::Interrupt => Claude.interrupt(),
            Wish::Reply { request, reply } => Claude.permission_reply(&request, &reply),
            Wish::Begin(_) => None,
        };
        match bytes.map(|bytes| child.write(bytes)) {
            Some(Err(error)) => self.notice(format!("it could not be told: {error}")),
            _ => Ok(()),
        }
    }

    /// Says something of our own.
    pub(super) fn notice(&mut self, text: String) -> Result<(), AgentError> {
        let at = self.clock.now();
        self.print(&[Event { at, parent: None, kind: EventKind::Notice { text } }])
    }

    fn print(&mut self, events: &[Event]) -> Result<(), AgentError> {
        let print = |out: &mut dyn Write| {
            events.iter().try_for_each(|event| out.write_all(&event_line(event)))?;
            out.flush()
        };
        print(&mut *self.out).map_err(AgentError::Print)
    }
}

/// A program of our own says in one word for which of our limits it ended itself; Claude Code has a word of its own.
fn name_limit(decoder: &dyn Decoder, events: &mut [Event]) {
    if let Some(limit) = decoder.limit()
        && let Some(Event { parent: None, kind: EventKind::Result { subtype, .. }, .. }) = events.last_mut()
    {
        limit.key().clone_into(subtype);
    }
}

/// What it is asked to do, as the supervisor would ask it.
fn request(begin: Begin, program: &[OsString], worktree: &Path) -> LaunchRequest {
    LaunchRequest {
        program: program.to_vec(),
        worktree: worktree.to_owned(),
        session: begin.session,
        resume: begin.resume,
        prompt: begin.prompt,
        system_prompt: begin.system_prompt,
        model: begin.model,
        permissions: begin.permissions,
        tools: begin.tools,
        denied_tools: begin.denied_tools,
        budget: begin.budget,
        ..LaunchRequest::default()
    }
}

//! Looking at a run that another process watches: what its journal has, then what happens, each thing once.

use super::command::wait::wait_until_recorded;
use super::context::Context;
use super::error::{CliError, Exit};
use super::json;
use super::notify::Notifier;
use super::session::{self, Session};
use super::ui::{Actor, Key, Keyboard, Label, Live};
use crate::agent::sanitise_line;
use crate::model::{Agent, Id, Outcome};
use crate::orchestrate::control::{Answer, Question, Refusal, Viewer};
use crate::orchestrate::lease::{LeaseInfo, LeaseState};
use crate::orchestrate::status::Activity;
use crate::orchestrate::supervise::{Finished, Progress};
use crate::process::Interrupts;
use crate::store::journal::{self, Entry, Tail};
use std::time::Duration;

/// Shows the run that `lease` is about until it ends or the person turns away.
pub(crate) fn attach(ctx: &Context, agent: &Agent, lease: &LeaseInfo, json: bool) -> Result<Exit, CliError> {
    let runtime = session::runtime()?;
    let ended = runtime.block_on(async {
        let mut look = Look::begin(ctx, agent, lease, json).await?;
        let ended = look.on().await;
        look.end();
        ended
    });
    runtime.shutdown_background();
    match ended? {
        Ended::Finished(finished) => Ok(Session { finished: vec![*finished], signal: None }.exit()),
        Ended::Detached => {
            if !json {
                let name = &agent.name;
                ctx.ui().note(format!("{name} works on; `git orchestra attach {name}` looks again"));
            }
            Ok(Exit::Done)
        }
        Ended::Gone => gone(ctx, agent),
    }
}

/// How looking ended.
enum Ended {
    Finished(Box<Finished>),
    /// The person turned away.
    Detached,
    /// Whoever watches the agent hung up.
    Gone,
}

/// The session ended without a last word: the state has it, unless it was killed.
fn gone(ctx: &Context, agent: &Agent) -> Result<Exit, CliError> {
    let state = wait_until_recorded(ctx, agent)?;
    ctx.ui().note(format!("{}: {}", agent.name, state.word()));
    let well = matches!(state, Activity::Ended(Outcome::Succeeded) | Activity::Merged(_));
    Ok(if well { Exit::Done } else { Exit::AgentFailed })
}

/// Somebody who looks at one run.
struct Look<'a> {
    ctx: &'a Context,
    agent: Id,
    viewer: Viewer,
    /// What is shown as text; nothing with JSON.
    live: Option<Live>,
    keyboard: Option<Keyboard>,
    typed: String,
    questions: Vec<Question>,
    tail: Tail,
    notifier: Notifier,
    /// The number of the last entry of the journal that was shown.
    last: u64,
}

impl<'a> Look<'a> {
    async fn begin(ctx: &'a Context, agent: &Agent, lease: &LeaseInfo, json: bool) -> Result<Self, CliError> {
        let actor = Actor { id: agent.id, name: agent.name.to_string() };
        let mut live = (!json).then(|| Live::new(ctx.ui(), &[actor]));
        let types = ctx.ui().is_interactive() && live.as_ref().is_some_and(Live::takes_input);
        let viewer = Viewer::open(ctx.repo()?, lease, types).await?;
        if let Some(live) = live.as_mut().filter(|_| lease.state == LeaseState::Running) {
            live.began(&agent.id, ctx.clock().now().since(lease.since));
        }
        let keyboard = if types { Some(Keyboard::take()?) } else { None };
        let tail = Tail::new(journal::path(ctx.repo()?, &agent.id, viewer.run));
        let questions = viewer.questions.clone();
        let notifier = Notifier::looking(ctx, [(agent.id, &agent.name)])?;
        let mut look = Self {
            ctx,
            agent: agent.id,
            viewer,
            live,
            keyboard,
            typed: String::new(),
            questions: Vec::new(),
            tail,
            notifier,
            last: 0,
        };
        look.catch_up()?;
        look.ask(questions);
        Ok(look)
    }

    /// Shows what the journal has that was not shown yet.
    fn catch_up(&mut self) -> Result<(), CliError> {
        for (number, entry) in self.tail.read_numbered()? {
            if number > self.last {
                self.last = number;
                if let Entry::Event(event) = entry {
                    self.show(&Progress::Event { agent: self.agent, event })?;
                }
            }
        }
        Ok(())
    }

    fn show(&mut self, progress: &Progress) -> Result<(), CliError> {
        match &mut self.live {
            Some(live) => live.take(progress),
            None => self.ctx.ui().print(&json::line("agent-event", progress)?)?,
        }
        Ok(())
    }

    fn say(&mut self, label: Label, text: &str) {
        if let Some(live) = &mut self.live {
            live.say(Some(&self.agent), label, text);
        }
    }

    /// Shows which question is open, and what is being typed.
    fn redraw(&mut self) {
        let prompt = match self.questions.first() {
            None => "say ›".to_owned(),
            Some(question) => {
                let tool: String = sanitise_line(&question.tool).chars().take(20).collect();
                format!("let it use {tool}? y/n ›")
            }
        };
        if let (Some(live), Some(_)) = (&mut self.live, &self.keyboard) {
            live.show_input(&prompt, &self.typed);
        }
    }

    /// These questions wait for an answer now.
    fn ask(&mut self, questions: Vec<Question>) {
        self.questions = questions;
        self.redraw();
    }

    async fn on(&mut self) -> Result<Ended, CliError> {
        let mut interrupts =
            Interrupts::listen().map_err(|error| CliError::failed("failed to listen for signals", error))?;
        let mut tick = tokio::time::interval(Duration::from_millis(100));
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                answer = self.viewer.next() => match answer {
                    None => return Ok(Ended::Gone),
                    Some(answer) => if let Some(finished) = self.heard(answer)? {
                        return Ok(Ended::Finished(finished));
                    },
                },
                key = next_key(&mut self.keyboard) => match key {
                    Key::End => return Ok(Ended::Detached),
                    Key::Typing(text) => {
                        self.typed = text;
                        self.redraw();
                    }
                    Key::Line(text) => {
                        self.typed.clear();
                        self.entered(&text).await;
                        self.redraw();
                    }
                },
                _ = interrupts.next() => return Ok(Ended::Detached),
                _ = tick.tick() => if let Some(live) = &mut self.live {
                    live.tick();
                },
            }
        }
    }

    /// Takes in what the other side says; returns how the run ended once it has.
    fn heard(&mut self, answer: Answer) -> Result<Option<Box<Finished>>, CliError> {
        match answer {
            Answer::Told { n: Some(number), .. } if number <= self.last => {}
            Answer::Told { n, progress } => {
                self.last = n.unwrap_or(self.last);
                self.show(&progress)?;
                self.notifier.take(&progress, self.ctx.ui())?;
                match progress {
                    Progress::Finished(finished) => return Ok(Some(finished)),
                    Progress::Answered { allowed, .. } => {
                        self.say(Label::Dim, if allowed { "it was allowed" } else { "it was refused" });
                    }
                    _ => {}
                }
            }
            Answer::Behind => self.catch_up()?,
            Answer::Asks { questions } => self.ask(questions),
            Answer::Refused { why: Refusal::TakesNoMessages } => {
                let text = "its program takes no messages while it runs; `resume -m` tells it in another run";
                self.say(Label::Attention, text);
            }
            Answer::Refused { why } => self.say(Label::Attention, &why.to_string()),
            Answer::Done | Answer::Attached { .. } => {}
        }
        Ok(None)
    }

    /// A line was entered: the answer to the question that is open, or a word to the agent.
    async fn entered(&mut self, text: &str) {
        let word = text.trim();
        let sent = match self.questions.first() {
            Some(question) => match word.to_lowercase().as_str() {
                "y" | "yes" => self.viewer.permission(question.request.clone(), true).await,
                "n" | "no" => self.viewer.permission(question.request.clone(), false).await,
                _ => {
                    self.say(Label::Attention, "y allows it this once, n refuses it");
                    Ok(())
                }
            },
            None if word.is_empty() => Ok(()),
            None => self.viewer.message(text.to_owned()).await,
        };
        if let Err(error) = sent {
            self.say(Label::Bad, &format!("it could not be reached: {error}"));
        }
    }

    /// Takes everything that moves off the screen, and gives the keyboard back.
    fn end(&mut self) {
        if let Some(live) = &mut self.live {
            live.end();
        }
        self.keyboard = None;
    }
}

async fn next_key(keyboard: &mut Option<Keyboard>) -> Key {
    match keyboard {
        Some(keyboard) => keyboard.next().await,
        None => std::future::pending().await,
    }
}

//! What keys do in the console of running agents, whoever watches these: what comes of it is a wish.
//!
//! Nothing that ends or allows something follows from one key: it is asked, and answered with a line.

use super::context::Context;
use super::error::CliError;
use super::ui::{Actor, Key, Keyboard, Label, Live, edit};
use crate::agent::sanitise_line;
use crate::model::{Event, EventKind, Id};
use crate::orchestrate::control::Question;
use crate::orchestrate::supervise::{Progress, Request};
use crate::process::{Change, Changes, is_in_front};
use std::time::Duration;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How often the console is looked after.
const TICK: Duration = Duration::from_millis(100);

/// What somebody at the console wants.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    /// Something of runs.
    Ask(Request),
    /// To look no more.
    Leave,
}

/// Whose agents the console shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Its own: they end with it.
    Watcher,
    /// Those of other processes.
    Visitor,
    /// One of another process: what is typed is for it.
    Guest,
}

/// The console of one session.
#[derive(Debug)]
pub(crate) struct Console {
    /// What is shown.
    pub(crate) live: Live,
    role: Role,
    keyboard: Option<Keyboard>,
    changes: Option<Changes>,
    tick: Interval,
    /// Whether a shell has the terminal now.
    away: bool,
    mode: Mode,
    help: bool,
    /// Whether a question was answered by the key before this one: some type Enter behind it.
    answered: bool,
    /// Permission questions that wait for an answer, oldest first.
    questions: Vec<(Id, Question)>,
}

#[derive(Debug)]
enum Mode {
    /// Keys do things.
    Keys,
    /// A line is typed.
    Line { of: Purpose, text: String },
}

/// What a line is typed for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Purpose {
    /// Everything that is typed is for this agent, or answers its questions.
    Talk(Id),
    Say(Id),
    Stop(Option<Id>),
    Permission(Id, Question),
}

impl Console {
    /// A console for these agents; keys are heard where somebody is at a terminal that it can draw on. Must be called
    /// inside a tokio runtime.
    pub(crate) fn new(ctx: &Context, actors: Vec<Actor>, role: Role) -> Result<Self, CliError> {
        let first = actors.first().map(|actor| actor.id);
        let mut live = Live::new(ctx.ui(), ctx.clock(), actors);
        let hears = ctx.ui().is_interactive() && live.is_drawn() && is_in_front(std::io::stdin());
        let (mut keyboard, mut changes) = (None, None);
        if hears {
            let failed = |error| CliError::failed("failed to listen for signals", error);
            changes = Some(Changes::listen().map_err(failed)?);
            keyboard = Some(Keyboard::take()?);
            live.set_hint(if role == Role::Guest { "Esc for keys" } else { "? for keys" });
        }
        let mode = match first.filter(|_| hears && role == Role::Guest) {
            Some(agent) => Mode::Line { of: Purpose::Talk(agent), text: String::new() },
            None => Mode::Keys,
        };
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let questions = Vec::new();
        let mut console = Self {
            live,
            role,
            keyboard,
            changes,
            tick,
            away: false,
            mode,
            help: false,
            answered: false,
            questions,
        };
        console.draw();
        Ok(console)
    }

    /// Whether somebody can be asked here.
    pub(crate) const fn hears(&self) -> bool {
        self.keyboard.is_some()
    }

    /// Takes in what happened, and shows what there is to see of it.
    pub(crate) fn take(&mut self, progress: &Progress) {
        self.live.take(progress);
        if self.role != Role::Watcher || !self.hears() {
            return;
        }
        match progress {
            Progress::Event {
                agent,
                event:
                    Event { kind: EventKind::PermissionAsked { request, tool, summary, questions, .. }, .. },
            } => {
                let (request, tool, summary) = (request.clone(), tool.clone(), summary.clone());
                let asks = questions.clone();
                self.questions.push((*agent, Question { request, tool, summary, asks }));
            }
            Progress::Answered { agent, request, .. }
            | Progress::Event {
                agent,
                event: Event { kind: EventKind::PermissionWithdrawn { request }, .. },
            } => {
                self.questions.retain(|(who, question)| who != agent || question.request != *request);
            }
            Progress::Finished(finished) => self.questions.retain(|(who, _)| *who != finished.agent),
            _ => return,
        }
        self.draw();
    }

    /// These questions of an agent wait for an answer now.
    pub(crate) fn asks(&mut self, agent: Id, questions: Vec<Question>) {
        self.questions.retain(|(who, question)| *who != agent || questions.contains(question));
        for question in questions {
            if !self.questions.iter().any(|(who, known)| (*who, known) == (agent, &question)) {
                self.questions.push((agent, question));
            }
        }
        self.draw();
    }

    /// A line about one agent, or about all.
    pub(crate) fn say(&mut self, agent: Option<&Id>, label: Label, text: &str) {
        self.live.say(agent, label, text);
    }

    /// What somebody wants next. Looks after the screen meanwhile. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Wish {
        loop {
            tokio::select! {
                key = next_key(&mut self.keyboard) => {
                    let wish = self.key(key);
                    self.draw();
                    if let Some(wish) = wish {
                        return wish;
                    }
                }
                change = next_change(&mut self.changes) => self.change(change),
                _ = self.tick.tick() => self.look_after(),
            }
        }
    }

    /// Takes everything that moves off the screen, and gives the keyboard back.
    pub(crate) fn end(&mut self) {
        self.live.end();
        self.keyboard = None;
    }

    fn look_after(&mut self) {
        if self.away && is_in_front(std::io::stdin()) {
            self.away = false;
            // If it cannot be taken, nothing is heard.
            if self.keyboard.as_ref().is_some_and(|keyboard| keyboard.resume().is_err()) {
                self.keyboard = None;
            }
            self.live.show();
            self.draw();
        }
        self.live.tick();
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Resized => self.live.resized(),
            Change::Suspended => {
                self.live.hide();
                if let Some(keyboard) = &self.keyboard {
                    keyboard.pause();
                }
                Changes::pause();
                // It may go on in the background.
                self.away = true;
                self.look_after();
            }
        }
    }

    fn key(&mut self, key: Key) -> Option<Wish> {
        if key == Key::Gone {
            self.keyboard = None;
            return (self.role != Role::Watcher).then_some(Wish::Leave);
        }
        if std::mem::take(&mut self.answered) && key == Key::Enter {
            return None;
        }
        match std::mem::replace(&mut self.mode, Mode::Keys) {
            Mode::Keys => self.command(key),
            Mode::Line { of: Purpose::Stop(agent), text } => match key {
                Key::Char('y' | 'Y') => {
                    self.answered = true;
                    Some(Wish::Ask(Request::Stop { agent, by: "stop".to_owned() }))
                }
                Key::Char('n' | 'N') => {
                    self.answered = true;
                    None
                }
                Key::Escape | Key::Enter | Key::End => None,
                _ => {
                    self.mode = Mode::Line { of: Purpose::Stop(agent), text };
                    None
                }
            },
            Mode::Line { of, mut text } => {
                let talk = matches!(of, Purpose::Talk(_));
                match key {
                    Key::Escape => {
                        self.live.set_hint("? for keys");
                        return None;
                    }
                    Key::End if text.is_empty() && talk => return Some(Wish::Leave),
                    Key::End if text.is_empty() => return None,
                    Key::Enter => {
                        let wish = self.entered(&of, &text);
                        if talk {
                            self.mode = Mode::Line { of, text: String::new() };
                        }
                        return wish;
                    }
                    key => edit(&mut text, key),
                };
                self.mode = Mode::Line { of, text };
                None
            }
        }
    }

    fn command(&mut self, key: Key) -> Option<Wish> {
        let chosen = self.live.chosen();
        let alive = chosen.filter(|agent| self.live.is_live(agent));
        match key {
            Key::Char('?' | 'h') => self.help = !self.help,
            Key::Char('p' | ' ') => self.live.pause(),
            Key::Up | Key::Char('k') => self.live.choose_next(false),
            Key::Down | Key::Char('j') => self.live.choose_next(true),
            Key::Enter | Key::Char('f') => {
                let alone = chosen.filter(|agent| self.live.focus() != Some(*agent));
                self.live.look_at(alone);
            }
            Key::Escape | Key::Char('a') => {
                self.help = false;
                self.live.look_at(None);
            }
            Key::Char(c @ ('y' | 'n' | 'r' | '1'..='9')) => {
                let (agent, question) = self.questions.first().cloned()?;
                let text = match (question.asks.is_empty(), c) {
                    (true, 'y' | 'n') | (false, '1'..='9') => c.to_string(),
                    (false, 'r') => String::new(),
                    _ => return None,
                };
                self.mode = Mode::Line { of: Purpose::Permission(agent, question), text };
            }
            Key::Char('m' | 'x' | 'i') if alive.is_none() => {
                self.live.say(chosen.as_ref(), Label::Attention, "it does not run");
            }
            Key::Char('m') => {
                let of = if self.role == Role::Guest { Purpose::Talk } else { Purpose::Say };
                self.mode = Mode::Line { of: of(alive?), text: String::new() };
            }
            Key::Char('x') => self.mode = Mode::Line { of: Purpose::Stop(alive), text: String::new() },
            Key::Char('i') => return Some(Wish::Ask(Request::Interrupt { agent: alive? })),
            Key::Char('q') | Key::End if self.role != Role::Watcher => return Some(Wish::Leave),
            Key::Char('q') | Key::End => {
                self.mode = Mode::Line { of: Purpose::Stop(None), text: String::new() };
            }
            _ => {}
        }
        None
    }

    /// A line was entered.
    fn entered(&mut self, of: &Purpose, text: &str) -> Option<Wish> {
        let word = text.trim();
        let yes = match word.to_lowercase().as_str() {
            "y" | "yes" => Some(true),
            "n" | "no" => Some(false),
            _ => None,
        };
        let asked = match of {
            Purpose::Permission(agent, question) => Some((*agent, question.clone())),
            Purpose::Talk(agent) => self.questions.iter().find(|(who, _)| who == agent).cloned(),
            Purpose::Say(_) | Purpose::Stop(_) => None,
        };
        match (of, asked) {
            (_, Some((agent, question))) => {
                let answer = (!question.asks.is_empty()).then(|| word.to_owned());
                let allow = match &answer {
                    Some(answer) if answer.is_empty() => {
                        self.live.say(
                            Some(&agent),
                            Label::Attention,
                            "the number of an answer, or your own words",
                        );
                        return None;
                    }
                    Some(_) => Some(true),
                    None => yes,
                };
                let Some(allow) = allow else {
                    self.live.say(Some(&agent), Label::Attention, "y allows it this once, n refuses it");
                    return None;
                };
                // What was answered elsewhere meanwhile is not asked any more.
                let request = question.request;
                Some(Wish::Ask(Request::Permission { agent, request, allow, answer }))
            }
            // Answered by a key alone.
            (Purpose::Stop(_), None) => None,
            (Purpose::Say(agent) | Purpose::Talk(agent) | Purpose::Permission(agent, _), None) => (!word
                .is_empty())
            .then(|| Wish::Ask(Request::Message { agent: *agent, text: text.to_owned() })),
        }
    }

    /// Shows what is asked, and what is being typed.
    fn draw(&mut self) {
        if !self.hears() {
            return;
        }
        let mut lines = Vec::new();
        let name = |agent: &Id| self.live.name(agent).to_owned();
        let ask = |agent: &Id, question: &Question, lines: &mut Vec<String>| {
            if !question.asks.is_empty() {
                for asked in &question.asks {
                    lines.push(self.live.aside(&format!("  {}", sanitise_line(&asked.text))));
                    for (number, option) in (1..).zip(&asked.options) {
                        let (label, about) = (&option.label, &option.description);
                        let about = if about.is_empty() { String::new() } else { format!(": {about}") };
                        let line = sanitise_line(&format!("{label}{about}")).into_owned();
                        lines.push(self.live.aside(&format!("    {number} {line}")));
                    }
                }
                let own = if matches!(self.mode, Mode::Keys) {
                    "r for your own words"
                } else {
                    "or your own words"
                };
                let many = if question.asks.len() > 1 { ", semicolons between answers" } else { "" };
                return format!("{} asks: a number, {own}{many} ›", name(agent));
            }
            let tool: String = sanitise_line(&question.tool).chars().take(20).collect();
            lines.push(self.live.aside(&format!("  {tool}: {}", sanitise_line(&question.summary))));
            format!("{}: let it use {tool}? y/n ›", name(agent))
        };
        match &self.mode {
            Mode::Keys => {
                if let Some((agent, question)) = self.questions.first() {
                    let prompt = ask(agent, question, &mut lines);
                    lines.push(self.live.input(&prompt, ""));
                }
            }
            Mode::Line { of, text } => {
                let asked = match of {
                    Purpose::Permission(agent, question) => Some((*agent, question.clone())),
                    Purpose::Talk(agent) => self.questions.iter().find(|(who, _)| who == agent).cloned(),
                    Purpose::Say(_) | Purpose::Stop(_) => None,
                };
                let prompt = match (of, &asked) {
                    (_, Some((agent, question))) => ask(agent, question, &mut lines),
                    (Purpose::Talk(_), None) => "say ›".to_owned(),
                    (Purpose::Say(agent) | Purpose::Permission(agent, _), None) => {
                        format!("tell {} ›", name(agent))
                    }
                    (Purpose::Stop(Some(agent)), None) => format!("stop {}? y/n ›", name(agent)),
                    (Purpose::Stop(None), None) => {
                        format!("stop all {} and end? y/n ›", self.live.running())
                    }
                };
                lines.push(self.live.input(&prompt, text));
            }
        }
        if self.help {
            let leave = match self.role {
                Role::Watcher => "q stop all and end",
                Role::Visitor | Role::Guest => "q leave: they work on",
            };
            lines.extend(self.live.asides(&[
                "↑ ↓ choose",
                "Enter its lines alone",
                "Esc those of all",
                "p pause the lines",
                "m tell it something",
                "i interrupt",
                "x stop",
                "y n 1-9 r answer",
                leave,
            ]));
        }
        self.live.set_footer(lines);
    }
}

async fn next_key(keyboard: &mut Option<Keyboard>) -> Key {
    match keyboard {
        Some(keyboard) => keyboard.next().await,
        None => std::future::pending().await,
    }
}

async fn next_change(changes: &mut Option<Changes>) -> Change {
    match changes {
        Some(changes) => changes.next().await,
        None => std::future::pending().await,
    }
}

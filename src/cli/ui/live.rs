//! The console of running agents: one line an agent that is redrawn, and above it what they say as it comes.
//!
//! On a terminal both; into a pipe only what they say, a line each; with JSON one document a line. Everything that
//! an agent said passes the sanitiser on its way here.

use super::{Label, Painter, Ui};
use crate::agent::{sanitise_line, sanitise_text};
use crate::cli::view::{self, agent::outcome_label, agent::outcome_words, event};
use crate::model::{Event, EventKind, Id, Usage};
use crate::orchestrate::supervise::{Finished, Progress};
use console::{Alignment, measure_text_width, pad_str, truncate_str};
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Columns when nobody says how many there are.
const COLUMNS: usize = 80;
/// The most columns that names take.
const NAME_WIDTH: usize = 20;
/// Up to so many agents have a line each from beginning to end; of more, only those that run.
const ALL_ROWS: usize = 8;
/// Lines that wait while a question is on the screen.
const HELD_LINES: usize = 10_000;
const SPINNER: [&str; 8] = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠧", "⠇", "⠏"];

/// An agent that will be shown.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    /// Its identity.
    pub(crate) id: Id,
    /// Its name.
    pub(crate) name: String,
}

#[derive(Debug)]
struct Row {
    number: usize,
    name: String,
    bar: Option<ProgressBar>,
    phase: Phase,
    doing: String,
    usage: Usage,
    since: Instant,
    took: Option<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Queued,
    Running,
    Over(Label, &'static str),
}

/// The console.
#[derive(Debug)]
pub(crate) struct Live {
    ui: Ui,
    rows: HashMap<Id, Row>,
    width: usize,
    bars: Option<MultiProgress>,
    /// Counts those that wait for their turn, where they have no lines.
    queued: Option<ProgressBar>,
    /// What is being typed, below everything else.
    input: Option<ProgressBar>,
    held: Option<Vec<String>>,
    frame: usize,
    out_is_gone: bool,
}

impl Live {
    /// A console for `actors`. Nothing of it is redrawn unless both streams are terminals.
    pub(crate) fn new(ui: &Ui, actors: &[Actor]) -> Self {
        let redraws = ui.is_terminal() && std::io::stderr().is_terminal() && !ui.is_quiet();
        let bars = redraws.then(|| MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(12)));
        let width = actors.iter().map(|actor| measure_text_width(&actor.name)).max().unwrap_or(0);
        let rows = actors.iter().enumerate().map(|(number, actor)| {
            let bar = bars.as_ref().filter(|_| actors.len() <= ALL_ROWS).map(|bars| bars.add(plain_bar()));
            (actor.id, Row::new(number, actor.name.clone(), bar))
        });
        let rows = rows.collect();
        let queued = bars.as_ref().filter(|_| actors.len() > ALL_ROWS).map(|bars| bars.add(plain_bar()));
        let mut live = Self {
            ui: ui.clone(),
            rows,
            width: width.min(NAME_WIDTH),
            bars,
            queued,
            input: None,
            held: None,
            frame: 0,
            out_is_gone: false,
        };
        live.tick();
        live
    }

    /// Takes in what happened, and shows what there is to see of it.
    pub(crate) fn take(&mut self, progress: &Progress) {
        match progress {
            Progress::Queued { agent, name } => self.enter(*agent, name.as_str()),
            Progress::Answered { .. } => {}
            Progress::Started { agent, .. } => {
                if let Some(row) = self.rows.get_mut(agent) {
                    if let (Some(bars), Some(queued)) = (&self.bars, &self.queued) {
                        row.bar = Some(bars.insert_before(queued, plain_bar()));
                    }
                    row.phase = Phase::Running;
                    row.since = Instant::now();
                    "starting".clone_into(&mut row.doing);
                }
            }
            Progress::Event { agent, event } => {
                if let Some(row) = self.rows.get_mut(agent) {
                    row.learn(event);
                }
                self.feed(agent, event);
            }
            Progress::Waiting { agent, decision, question } => {
                let id = &decision.as_str()[..6];
                let text = format!("decision {id}: {}", sanitise_line(question));
                self.say(Some(agent), Label::Attention, &text);
            }
            Progress::Notice { agent, text } => {
                self.say(agent.as_ref(), Label::Attention, &sanitise_line(text));
            }
            Progress::Finished(finished) => self.finished(finished),
        }
    }

    /// An agent that nobody knew of at the beginning.
    fn enter(&mut self, id: Id, name: &str) {
        if self.rows.contains_key(&id) {
            return;
        }
        self.width = self.width.max(measure_text_width(name)).min(NAME_WIDTH);
        if let Some(bars) = self.bars.as_ref().filter(|_| self.queued.is_none()) {
            self.queued = Some(bars.add(plain_bar()));
        }
        self.rows.insert(id, Row::new(self.rows.len(), name.to_owned(), None));
    }

    /// What an agent is called; empty if it was never heard of.
    pub(crate) fn name(&self, agent: &Id) -> &str {
        self.rows.get(agent).map_or("", |row| row.name.as_str())
    }

    fn finished(&mut self, finished: &Finished) {
        let (label, text) = match &finished.outcome {
            Some(outcome) => (outcome_label(outcome), outcome_words(outcome)),
            None => (Label::Attention, "not started".to_owned()),
        };
        if let Some(row) = self.rows.get_mut(&finished.agent) {
            let word = finished.outcome.as_ref().map_or("unstarted", crate::model::Outcome::word);
            row.phase = Phase::Over(label, word);
            row.usage = finished.usage;
            row.doing = commits(finished.commits);
            row.took = Some(row.since.elapsed());
            if self.queued.is_some()
                && let Some(bar) = row.bar.take()
            {
                bar.finish_and_clear();
            }
        }
        self.say(Some(&finished.agent), label, &text);
        if let Some(error) = &finished.error {
            self.say(Some(&finished.agent), Label::Bad, &format!("failed to {}", sanitise_line(error)));
        }
    }

    /// Whether a line can be typed below what is shown.
    pub(crate) const fn takes_input(&self) -> bool {
        self.bars.is_some()
    }

    /// Shows what is being typed behind `prompt`, as far as it fits.
    pub(crate) fn show_input(&mut self, prompt: &str, text: &str) {
        let Some(bars) = &self.bars else { return };
        let input = self.input.get_or_insert_with(|| bars.add(plain_bar()));
        let paint = self.ui.err_painter();
        let room = self.ui.columns().unwrap_or(COLUMNS).max(40) - measure_text_width(prompt) - 4;
        // The end is where the typing happens.
        let mut shown = text;
        while measure_text_width(shown) > room {
            let mut rest = shown.chars();
            rest.next();
            shown = rest.as_str();
        }
        input.set_message(format!(
            "{} {}▏",
            paint.paint(Label::Title, prompt),
            paint.paint(Label::Plain, shown)
        ));
    }

    /// Says that an agent has been running for `ago` already.
    pub(crate) fn began(&mut self, agent: &Id, ago: Duration) {
        if let Some(row) = self.rows.get_mut(agent) {
            row.phase = Phase::Running;
            row.since = Instant::now().checked_sub(ago).unwrap_or_else(Instant::now);
        }
    }

    /// Redraws what moves by itself: spinners and clocks.
    pub(crate) fn tick(&mut self) {
        self.frame += 1;
        let (columns, width, paint) = (self.columns(), self.width, self.ui.err_painter());
        for row in self.rows.values() {
            if let Some(bar) = &row.bar {
                bar.set_message(row.line(paint, width, columns, self.frame));
            }
        }
        if let Some(queued) = &self.queued {
            let count = self.rows.values().filter(|row| row.phase == Phase::Queued).count();
            let text = if count == 0 { String::new() } else { format!("· {count} queued") };
            queued.set_message(paint.paint(Label::Waiting, text));
        }
    }

    /// Takes everything that moves off the screen and keeps what comes, until [`Live::go_on`]: somebody is asked
    /// something.
    pub(crate) fn hold(&mut self) {
        self.held.get_or_insert_with(Vec::new);
        if let Some(bars) = &self.bars {
            let _ = bars.clear();
            bars.set_draw_target(ProgressDrawTarget::hidden());
        }
    }

    /// Shows everything again.
    pub(crate) fn go_on(&mut self) {
        if let Some(bars) = &self.bars {
            bars.set_draw_target(ProgressDrawTarget::stderr_with_hz(12));
        }
        for line in self.held.take().unwrap_or_default() {
            self.print(line);
        }
        self.tick();
    }

    /// Takes everything that moves off the screen for good.
    pub(crate) fn end(&mut self) {
        if let Some(bars) = self.bars.take() {
            let _ = bars.clear();
        }
    }

    /// A line about one agent, or about all of them.
    pub(crate) fn say(&mut self, agent: Option<&Id>, label: Label, text: &str) {
        let paint = self.ui.painter();
        self.line(agent, &paint.paint(label, text));
    }

    fn feed(&mut self, agent: &Id, event: &Event) {
        let paint = self.ui.painter();
        let room = self.columns().saturating_sub(self.width + 2).max(20);
        let lines = match &event.kind {
            EventKind::Text { text, partial: false } => wrap(&sanitise_text(text), room)
                .into_iter()
                .map(|line| paint.paint(Label::Plain, line))
                .collect(),
            // How it ended is said when the run is recorded.
            EventKind::Exited { .. } => Vec::new(),
            _ => event::lines(paint, event, None),
        };
        for line in lines {
            let indent = if event.parent.is_some() { "│ " } else { "" };
            let line = format!("{indent}{line}");
            // Into a file or another program lines go whole.
            let cut =
                if self.ui.is_terminal() { truncate_str(&line, room, "…") } else { line.as_str().into() };
            self.line(Some(agent), &cut);
        }
    }

    fn line(&mut self, agent: Option<&Id>, text: &str) {
        let row = agent.and_then(|agent| self.rows.get(agent));
        let name = row.map_or("", |row| row.name.as_str());
        let name = pad_str(name, self.width, Alignment::Left, Some("…")).into_owned();
        let name = match row {
            Some(row) => self.ui.painter().paint_nth(row.number, &name),
            None => name,
        };
        self.print(format!("{name}  {text}").trim_end().to_owned());
    }

    fn print(&mut self, line: String) {
        if self.ui.is_quiet() || self.out_is_gone {
            return;
        }
        if let Some(held) = &mut self.held {
            if held.len() < HELD_LINES {
                held.push(line);
            }
            return;
        }
        let write = || writeln!(std::io::stdout().lock(), "{line}");
        let written = match &self.bars {
            Some(bars) => bars.suspend(write),
            None => write(),
        };
        // Whoever read us went away; the agents work on.
        self.out_is_gone = written.is_err();
    }

    fn columns(&self) -> usize {
        self.ui.columns().unwrap_or(COLUMNS).max(40)
    }
}

impl Row {
    fn new(number: usize, name: String, bar: Option<ProgressBar>) -> Self {
        Self {
            number,
            name,
            bar,
            phase: Phase::Queued,
            doing: String::new(),
            usage: Usage::default(),
            since: Instant::now(),
            took: None,
        }
    }

    /// What its line shows of an event.
    fn learn(&mut self, event: &Event) {
        if event.parent.is_some() {
            return;
        }
        match &event.kind {
            EventKind::Usage { usage } | EventKind::Result { usage, .. } => self.usage = *usage,
            EventKind::ToolCall { tool, summary, .. } => {
                self.doing = format!("{} {}", sanitise_line(tool), sanitise_line(summary));
            }
            EventKind::Text { .. } => "writing".clone_into(&mut self.doing),
            EventKind::Thinking { .. } => "thinking".clone_into(&mut self.doing),
            EventKind::PermissionAsked { tool, .. } => {
                self.doing = format!("asks to use {}", sanitise_line(tool));
            }
            EventKind::Retry { error, attempt, max, .. } => {
                let of = if *max > 0 { format!(" of {max}") } else { String::new() };
                self.doing = format!("{}, attempt {attempt}{of}", sanitise_line(error));
            }
            EventKind::Exited { .. } => "ending".clone_into(&mut self.doing),
            _ => {}
        }
    }

    /// `⠙ name  state  what it does          12k  $0.10   8s`, in `columns`.
    fn line(&self, paint: Painter, width: usize, columns: usize, frame: usize) -> String {
        let (mark, label, word) = match self.phase {
            Phase::Queued => ("·", Label::Waiting, "queued"),
            Phase::Running => (SPINNER[frame % SPINNER.len()], Label::Running, "running"),
            Phase::Over(label, word) => (if label == Label::Good { "✓" } else { "✗" }, label, word),
        };
        let spent = match self.phase {
            Phase::Queued => String::new(),
            _ => view::span(self.took.unwrap_or_else(|| self.since.elapsed())),
        };
        let figures =
            format!("{:>6} {:>7} {spent:>4}", view::tokens(&self.usage), view::cost(self.usage.cost));
        let name = pad_str(&self.name, width, Alignment::Left, Some("…"));
        // One column is left free: a full line wraps on some terminals.
        let room = columns.saturating_sub(2 + width + 2 + 9 + 2 + 1 + measure_text_width(&figures) + 1);
        let doing = pad_str(&self.doing, room, Alignment::Left, Some("…"));
        format!(
            "{} {}  {}  {doing} {}",
            paint.paint(label, mark),
            paint.paint_nth(self.number, &name),
            paint.paint(label, format!("{word:<9}")),
            paint.paint(Label::Dim, figures)
        )
    }
}

fn plain_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{msg}").expect("a template of one word");
    ProgressBar::new_spinner().with_style(style)
}

/// A bar for something that is counted, from the moment that it takes longer than a glance. Gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar of `total`; `what` says what is being done.
    pub(crate) fn new(ui: &Ui, what: &str, total: usize) -> Self {
        if !std::io::stderr().is_terminal() || ui.is_quiet() {
            return Self(None);
        }
        let template = format!("{what} {{bar:24}} {{pos}}/{{len}}");
        let style = ProgressStyle::with_template(&template).expect("a template of plain words");
        let target = ProgressDrawTarget::stderr_with_hz(12);
        let bar = ProgressBar::with_draw_target(Some(u64::try_from(total).unwrap_or(u64::MAX)), target);
        Self(Some(bar.with_style(style)))
    }

    /// Says how much is done.
    pub(crate) fn set(&self, done: usize) {
        if let Some(bar) = &self.0 {
            bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// `3 commits`.
pub(crate) fn commits(count: usize) -> String {
    match count {
        0 => "no commits".to_owned(),
        1 => "1 commit".to_owned(),
        count => format!("{count} commits"),
    }
}

/// Breaks text at spaces into lines of at most `room` columns; its own line ends stay, a longer word is cut.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.trim_end().lines() {
        let indent: String = line.chars().take_while(|c| *c == ' ').take(room / 2).collect();
        let mut current = indent.clone();
        let mut empty = true;
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            let mut word = word.to_owned();
            if !empty && measure_text_width(&current) + 1 + measure_text_width(&word) > room {
                lines.push(std::mem::replace(&mut current, indent.clone()));
                empty = true;
            }
            while empty && measure_text_width(&current) + measure_text_width(&word) > room {
                let fits = truncate_str(&word, room - measure_text_width(&current), "").into_owned();
                let rest = word.split_off(fits.len().max(word.chars().next().map_or(1, char::len_utf8)));
                lines.push(format!("{current}{word}"));
                current.clone_from(&indent);
                word = rest;
            }
            if !empty {
                current.push(' ');
            }
            current.push_str(&word);
            empty = false;
        }
        lines.push(current);
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_broken_at_words_and_keeps_its_shape() {
        assert_eq!(
            wrap("one two three\n\n  - four five\n", 9),
            ["one two", "three", "", "  - four", "  five"]
        );
        assert_eq!(wrap("abcdefghij kl", 4), ["abcd", "efgh", "ij", "kl"]);
        assert_eq!(wrap("漢字漢字 x", 4), ["漢字", "漢字", "x"]);
        assert!(wrap("", 10).is_empty());
    }

    #[test]
    fn a_row_fits_its_columns() {
        let mut row = Row {
            number: 0,
            name: "a-name-that-is-much-too-long-for-it".to_owned(),
            bar: None,
            phase: Phase::Running,
            doing: "Bash cargo test --workspace --all-features -- --nocapture".to_owned(),
            usage: Usage { input: 123_456, ..Usage::default() },
            since: Instant::now(),
            took: Some(Duration::from_secs(95)),
        };
        for columns in [60, 80, 120] {
            for phase in [Phase::Queued, Phase::Running, Phase::Over(Label::Good, "done")] {
                row.phase = phase;
                let line = row.line(Painter::new(true), 20, columns, 3);
                assert!(measure_text_width(&line) < columns, "{line}");
            }
        }
        let line = row.line(Painter::new(false), 20, 80, 3);
        assert_eq!(line, "✓ a-name-that-is-much…  done       Bash cargo test --works…   123k           1m");
    }
}

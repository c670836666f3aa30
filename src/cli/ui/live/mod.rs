//! The console of running agents: one line an agent that is redrawn, and above it what they say as it comes.
//!
//! On a terminal both; into a pipe only what they say, a line each; with JSON one document a line. Everything that
//! an agent said passes the sanitiser on its way here. What keys do is decided in `cli::console`.

mod feed;
mod lines;
mod row;
mod screen;
mod words;

use super::{Label, Ui};
use crate::agent::sanitise_line;
use crate::cli::view::{self, agent::outcome_label, agent::outcome_words};
use crate::model::{Event, EventKind, Id, Outcome, Timestamp};
use crate::orchestrate::lease::{LeaseInfo, LeaseState};
use crate::orchestrate::status::Activity;
use crate::orchestrate::supervise::{Finished, Progress};
use crate::process::Clock;
use console::{Alignment, measure_text_width, pad_str, truncate_str};
use feed::{Feed, Item};
use row::{Columns, Row};
use screen::Screen;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Columns when nobody says how many there are.
const COLUMNS: usize = 80;
/// The most columns that names take, and on a terminal of less than [`WIDE`].
const NAME_WIDTH: usize = 20;
const SHORT_NAME_WIDTH: usize = 16;
const WIDE: usize = 100;
/// Up to so many agents have a line each from beginning to end; of more, only those that matter now.
const ALL_ROWS: usize = 8;
/// Rows of the terminal that are left to the feed.
const FEED_ROWS: usize = 9;
/// How often clocks are drawn.
const CLOCKS: Duration = Duration::from_millis(500);
/// The last lines, which are written anew when the terminal's size changed.
const LAST: usize = 100;

/// An agent that will be shown.
#[derive(Debug, Clone)]
pub(crate) struct Actor {
    /// Its identity.
    pub(crate) id: Id,
    /// Its name.
    pub(crate) name: String,
    /// Its program.
    pub(crate) program: String,
}

/// The console.
#[derive(Debug)]
pub(crate) struct Live {
    ui: Ui,
    clock: Arc<dyn Clock>,
    rows: Vec<Row>,
    places: HashMap<Id, usize>,
    width: usize,
    /// The terminal's columns, looked up with each tick: a look for each line would cost more than most lines.
    columns: Option<usize>,
    feed: Feed,
    /// What is redrawn; nothing unless both streams are terminals.
    screen: Option<Screen>,
    /// Below the agents' lines: what is being typed, or what could be.
    footer: Vec<String>,
    hint: &'static str,
    chosen: Option<Id>,
    last: VecDeque<String>,
    /// When it was drawn, and whether anything happened since.
    drawn: Option<Instant>,
    changed: bool,
    out_is_gone: bool,
}

impl Live {
    /// A console for `actors`. Nothing of it is redrawn unless both streams are terminals.
    pub(crate) fn new(ui: &Ui, clock: &Arc<dyn Clock>, actors: Vec<Actor>) -> Self {
        let redraws = ui.is_terminal() && std::io::stderr().is_terminal() && Screen::is_there();
        let mut live = Self {
            ui: ui.clone(),
            clock: Arc::clone(clock),
            rows: Vec::new(),
            places: HashMap::new(),
            width: 0,
            columns: ui.columns(),
            feed: Feed::default(),
            screen: redraws.then(Screen::default),
            footer: Vec::new(),
            hint: "",
            chosen: None,
            last: VecDeque::new(),
            drawn: None,
            changed: true,
            out_is_gone: false,
        };
        for actor in actors {
            live.enter(actor);
        }
        live.tick();
        live
    }

    /// An agent that nobody knew of yet.
    pub(crate) fn enter(&mut self, actor: Actor) {
        let Actor { id, name, program } = actor;
        if self.places.contains_key(&id) {
            return;
        }
        self.width = self.width.max(measure_text_width(&name));
        self.places.insert(id, self.rows.len());
        self.rows.push(Row::new(self.rows.len(), name, program));
        self.chosen.get_or_insert(id);
    }

    fn row(&mut self, agent: &Id) -> Option<&mut Row> {
        self.changed = true;
        self.places.get(agent).map(|&at| &mut self.rows[at])
    }

    /// Takes in what happened, and shows what there is to see of it.
    pub(crate) fn take(&mut self, progress: &Progress) {
        match progress {
            Progress::Queued { agent, name } => {
                // Of a program that nobody knows silence says nothing, as of a plain command.
                let program = "command".to_owned();
                self.enter(Actor { id: *agent, name: name.to_string(), program });
            }
            Progress::Answered { agent, .. } => {
                let now = self.clock.now();
                if let Some(row) = self.row(agent) {
                    row.answered(now);
                }
            }
            Progress::Started { agent, pid, .. } => {
                let (now, pid) = (self.clock.now(), *pid);
                if let Some(row) = self.row(agent) {
                    row.began(now, None, Some(pid));
                }
            }
            Progress::Event { agent, event } => {
                self.learn(agent, event);
                self.tell(agent, event, false);
            }
            Progress::Waiting { agent, decision, question } => {
                if let Some(row) = self.row(agent) {
                    row.asks(*decision);
                }
                let id = &decision.as_str()[..6];
                let text = format!("decision {id}: {}", sanitise_line(question));
                self.say(Some(agent), Label::Attention, &text);
            }
            Progress::Silent { agent, silent_ms } => {
                let text = format!(
                    "silent for {} min; `git orchestra log` shows its last words",
                    silent_ms / 60_000
                );
                self.say(Some(agent), Label::Attention, &text);
            }
            Progress::Notice { agent, text } => {
                self.say(agent.as_ref(), Label::Attention, &sanitise_line(text));
            }
            Progress::Finished(finished) => self.finished(finished),
        }
    }

    /// Says that an agent has been running for a while already.
    pub(crate) fn began(&mut self, lease: &LeaseInfo) {
        let pid = lease.child.as_ref().map(|child| child.pid);
        if let Some(row) = self.row(&lease.agent).filter(|row| row.is_live()) {
            row.began(lease.since, lease.child.clone(), pid);
        }
    }

    /// Takes in what was before anybody looked, and shows the last of it.
    pub(crate) fn before(&mut self, agent: &Id, events: &[Event], shown: usize) {
        let skip = events.len().saturating_sub(shown);
        for (number, event) in events.iter().enumerate() {
            self.learn(agent, event);
            if number >= skip {
                self.tell(agent, event, true);
            }
            if number % 50 == 49 {
                self.flush();
            }
        }
    }

    /// Notes what a lease says: that it began may have been told before anybody listened.
    pub(crate) fn know(&mut self, lease: &LeaseInfo) {
        let Some(row) = self.row(&lease.agent) else { return };
        if row.is_queued() && lease.state == LeaseState::Running {
            self.began(lease);
        } else {
            row.know(lease.child.as_ref());
        }
    }

    /// An agent's run ended, and nobody said how: the state does.
    pub(crate) fn gone(&mut self, agent: &Id, state: &Activity) {
        let now = self.clock.now();
        if let Some(row) = self.row(agent) {
            let outcome = match state {
                Activity::Ended(outcome) => outcome.clone(),
                Activity::Merged(_) => Outcome::Succeeded,
                _ => Outcome::Lost,
            };
            let (words, usage) = (state.evidence(now), row.usage);
            row.ended(Some(outcome), words, usage, now);
        }
        self.say(Some(agent), Label::Attention, state.word());
    }

    fn learn(&mut self, agent: &Id, event: &Event) {
        if let Some(row) = self.row(agent) {
            row.learn(event);
        }
    }

    /// What an agent is called; empty if it was never heard of.
    pub(crate) fn name(&self, agent: &Id) -> &str {
        self.places.get(agent).map_or("", |&at| self.rows[at].name.as_str())
    }

    /// How many agents' runs are not over.
    pub(crate) fn running(&self) -> usize {
        self.rows.iter().filter(|row| row.is_live()).count()
    }

    /// Whether an agent's run is not over.
    pub(crate) fn is_live(&self, agent: &Id) -> bool {
        self.places.get(agent).is_some_and(|&at| self.rows[at].is_live())
    }

    fn finished(&mut self, finished: &Finished) {
        let (label, text) = match &finished.outcome {
            Some(outcome) => (outcome_label(outcome), outcome_words(outcome)),
            None => (Label::Attention, "not started".to_owned()),
        };
        let now = self.clock.now();
        if let Some(row) = self.row(&finished.agent) {
            let words = match &finished.outcome {
                Some(Outcome::Failed { reason }) => reason.clone(),
                _ => commits(finished.commits),
            };
            row.ended(finished.outcome.clone(), words, finished.usage, now);
        }
        self.say(Some(&finished.agent), label, &text);
        if let Some(error) = &finished.error {
            self.say(Some(&finished.agent), Label::Bad, &format!("failed to {}", sanitise_line(error)));
        }
    }

    /// Whether it is drawn on a terminal.
    pub(crate) const fn is_drawn(&self) -> bool {
        self.screen.is_some()
    }

    /// Shows these lines below everything else.
    pub(crate) fn set_footer(&mut self, lines: Vec<String>) {
        self.footer = lines;
        self.draw();
    }

    /// Says which key tells about keys.
    pub(crate) const fn set_hint(&mut self, hint: &'static str) {
        self.hint = hint;
    }

    /// `prompt`, and as much of what is typed behind it as fits: the end is where the typing happens.
    pub(crate) fn input(&self, prompt: &str, text: &str) -> String {
        let paint = self.ui.err_painter();
        let prompt = truncate_str(prompt, self.columns().saturating_sub(16), "…");
        let room = self.columns().saturating_sub(measure_text_width(&prompt) + 4);
        let mut shown = text;
        while measure_text_width(shown) > room {
            let mut rest = shown.chars();
            rest.next();
            shown = rest.as_str();
        }
        format!("{} {}▏", paint.paint(Label::Title, prompt), paint.paint(Label::Plain, shown))
    }

    /// Words below everything else that nothing is typed behind.
    pub(crate) fn aside(&self, text: &str) -> String {
        let text = truncate_str(text, self.columns().saturating_sub(1), "…");
        self.ui.err_painter().paint(Label::Dim, text)
    }

    /// Short words of that kind one after the other, on as many lines as they need.
    pub(crate) fn asides(&self, words: &[&str]) -> Vec<String> {
        let room = self.columns().saturating_sub(1);
        let mut lines = Vec::<String>::new();
        for word in words {
            match lines.last_mut() {
                Some(line) if measure_text_width(line) + 3 + measure_text_width(word) <= room => {
                    line.push_str(" · ");
                    line.push_str(word);
                }
                _ => lines.push(format!("  {word}")),
            }
        }
        lines.iter().map(|line| self.aside(line)).collect()
    }

    /// The agent that keys are about.
    pub(crate) const fn chosen(&self) -> Option<Id> {
        self.chosen
    }

    /// Chooses the next agent, or the one before: of those that have a line, and of those that live and have none.
    pub(crate) fn choose_next(&mut self, forward: bool) {
        let now = self.clock.now();
        let shown = self.in_order(now, self.places_for_rows());
        let at = self.chosen.and_then(|chosen| {
            let place = *self.places.get(&chosen)?;
            shown.iter().position(|&row| row == place)
        });
        let count = shown.len().max(1);
        let next = match at {
            Some(at) if forward => (at + 1) % count,
            Some(at) => (at + count - 1) % count,
            None => 0,
        };
        if let Some(&place) = shown.get(next) {
            self.chosen = self.places.iter().find(|(_, at)| **at == place).map(|(id, _)| *id);
        }
        self.draw();
    }

    /// Shows what one agent says alone, or what all say.
    pub(crate) fn look_at(&mut self, agent: Option<Id>) {
        if self.feed.focus() == agent {
            return;
        }
        self.flush();
        let recent = self.feed.look_at(agent, Instant::now());
        let text = match agent {
            Some(agent) => format!("── {} alone ──", self.name(&agent)),
            None => "── all agents ──".to_owned(),
        };
        let mut lines = vec![self.ui.painter().paint(Label::Dim, text)];
        lines.extend(recent.iter().map(|line| self.named(agent.as_ref(), line)));
        self.print(&lines);
        self.draw();
    }

    /// Whose lines alone are shown, if that is so.
    pub(crate) const fn focus(&self) -> Option<Id> {
        self.feed.focus()
    }

    /// Shows nothing of what they say until it is called again.
    pub(crate) fn pause(&mut self) {
        self.feed.pause(!self.feed.is_paused());
        self.tick();
    }

    /// Redraws what moves by itself, and writes what was said since.
    pub(crate) fn tick(&mut self) {
        self.columns = self.ui.columns();
        if self.screen.is_some() {
            let items = self.feed.take(Instant::now());
            self.write(items);
            // Where nothing happens only the clocks go on.
            let old = self.drawn.is_none_or(|at| at.elapsed() >= CLOCKS);
            if std::mem::take(&mut self.changed) || old {
                self.draw();
            }
        }
    }

    /// Writes what waits to be written now.
    pub(crate) fn flush(&mut self) {
        let items = self.feed.take(Instant::now());
        self.write(items);
    }

    /// Takes everything that moves off the screen.
    pub(crate) fn hide(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.hide();
        }
    }

    /// Shows it again.
    pub(crate) fn show(&mut self) {
        if let Some(screen) = &mut self.screen {
            screen.show();
        }
        self.tick();
    }

    /// Draws everything anew: the terminal has another size.
    pub(crate) fn resized(&mut self) {
        self.columns = self.ui.columns();
        let (columns, rows) = Screen::size();
        let Some(screen) = &mut self.screen else { return };
        screen.wipe();
        let skip = self.last.len().saturating_sub(rows / 2);
        let mut text = String::new();
        for line in self.last.iter().skip(skip) {
            let _ = writeln!(text, "{}", truncate_str(line, columns.saturating_sub(1), "…"));
        }
        self.out_is_gone |= !screen.print(&text);
        self.draw();
    }

    /// Takes everything that moves off the screen for good, after everything was written that waits.
    pub(crate) fn end(&mut self) {
        self.feed.pause(false);
        let rest = self.feed.rest();
        self.write(rest);
        if let Some(mut screen) = self.screen.take() {
            screen.hide();
        }
    }

    /// A line about one agent, or about all of them.
    pub(crate) fn say(&mut self, agent: Option<&Id>, label: Label, text: &str) {
        let text = self.ui.painter().paint(label, text);
        let text = match &self.screen {
            Some(_) => truncate_str(&text, self.room(), "…").into_owned(),
            None => text,
        };
        self.line(agent, text, true);
    }

    /// So many things that an agent said are left out.
    pub(crate) fn skipped(&mut self, agent: &Id, lines: u64) {
        self.feed.skip(*agent, lines, Instant::now());
    }

    fn tell(&mut self, agent: &Id, event: &Event, free: bool) {
        let (lines, more) = words::lines(self.ui.painter(), event, self.room(), self.ui.is_terminal());
        let free = free || matches!(event.kind, EventKind::PermissionAsked { .. } | EventKind::Result { .. });
        for line in lines {
            self.line(Some(agent), line, free);
        }
        if self.screen.is_some() {
            self.feed.skip(*agent, more, Instant::now());
        }
    }

    fn line(&mut self, agent: Option<&Id>, text: String, free: bool) {
        if self.ui.is_quiet() || self.out_is_gone {
            return;
        }
        if self.screen.is_some() {
            // Most lines of many agents are never shown: names are put before those that are.
            self.feed.push(agent.copied(), text, free, Instant::now());
        } else {
            let line = self.named(agent, &text);
            // Whoever read us went away; the agents work on.
            self.out_is_gone = writeln!(std::io::stdout().lock(), "{line}").is_err();
        }
    }

    fn named(&self, agent: Option<&Id>, text: &str) -> String {
        let row = agent.and_then(|agent| self.places.get(agent)).map(|&at| &self.rows[at]);
        let name = row.map_or("", |row| row.name.as_str());
        // Nothing is cut where there is no line to keep within.
        let name = if self.screen.is_some() { cut_name(name, self.name_width()) } else { name.into() };
        let name = pad_str(&name, self.name_width(), Alignment::Left, None).into_owned();
        let name = match row {
            Some(row) => self.ui.painter().paint_nth(row.number, &name),
            None => name,
        };
        format!("{name}  {text}").trim_end().to_owned()
    }

    fn write(&mut self, items: Vec<Item>) {
        let line = |item| match item {
            Item::Line(agent, line) => self.named(agent.as_ref(), &line),
            Item::Folded(agent, lines) => {
                let lines = if lines == 1 { "1 line".to_owned() } else { format!("{lines} lines") };
                let text = self.ui.painter().paint(Label::Dim, format!("… {lines} left out"));
                self.named(agent.as_ref(), &text)
            }
        };
        let lines: Vec<String> = items.into_iter().map(line).collect();
        self.print(&lines);
    }

    fn print(&mut self, lines: &[String]) {
        if lines.is_empty() || self.out_is_gone {
            return;
        }
        let Some(screen) = &self.screen else { return };
        let mut text = lines.join("\n");
        text.push('\n');
        // Whoever read us went away; the agents work on.
        self.out_is_gone = !screen.print(&text);
        self.last.extend(lines.iter().skip(lines.len().saturating_sub(LAST)).cloned());
        self.last.drain(..self.last.len().saturating_sub(LAST));
    }

    fn draw(&mut self) {
        if self.screen.is_none() {
            return;
        }
        self.drawn = Some(Instant::now());
        let lines = if self.ui.is_quiet() { self.footer.clone() } else { self.lines() };
        if let Some(screen) = &mut self.screen {
            screen.draw(&lines);
        }
    }

    /// How many agents can have a line.
    fn places_for_rows(&self) -> usize {
        let rows = Screen::size().1.saturating_sub(FEED_ROWS + self.footer.len() + 1);
        rows.max(3)
    }

    /// Everything that is redrawn.
    fn lines(&self) -> Vec<String> {
        let (now, paint) = (self.clock.now(), self.ui.err_painter());
        let shown = self.shown(now, self.places_for_rows());
        let columns = Columns {
            all: self.columns(),
            name: self.name_width(),
            tokens: self.rows.iter().any(|row| !view::tokens(&row.usage).is_empty()),
            rate: self.rows.iter().any(|row| row.rate(now).is_some()),
            cost: self.rows.iter().any(|row| row.usage.cost.is_some()),
        };
        let chosen = self.chosen.filter(|_| self.rows.len() > 1 && !self.hint.is_empty());
        let chosen = chosen.and_then(|chosen| self.places.get(&chosen));
        let mut lines: Vec<String> =
            shown.iter().map(|at| self.rows[*at].line(paint, columns, chosen == Some(at), now)).collect();
        lines.extend(self.status(&shown, now).map(|line| paint.paint(Label::Dim, line)));
        lines.extend(self.footer.iter().cloned());
        lines
    }

    /// Which agents have a line: all if there is room, otherwise those that matter most, in the order in which they
    /// were heard of.
    fn shown(&self, now: Timestamp, room: usize) -> Vec<usize> {
        let mut shown: Vec<usize> = (0..self.rows.len()).collect();
        let chosen = self.chosen.and_then(|chosen| self.places.get(&chosen)).copied();
        if self.rows.len() > ALL_ROWS {
            let quiet = |word| matches!(word, "queued" | "done" | "merged");
            shown.retain(|&at| !quiet(self.rows[at].word(now)));
        }
        if shown.len() > room {
            // The chosen one keeps its line, whatever it does.
            shown.sort_by_key(|&at| (Some(at) != chosen, self.rows[at].urgency(now), at));
            shown.truncate(room);
            shown.sort_by_key(|&at| (self.rows[at].urgency(now), at));
        }
        shown
    }

    /// Those that can be chosen, in the order in which they would stand if there were room for all.
    fn in_order(&self, now: Timestamp, room: usize) -> Vec<usize> {
        let shown = self.shown(now, room);
        let mut all: Vec<usize> =
            (0..self.rows.len()).filter(|at| self.rows[*at].is_live() || shown.contains(at)).collect();
        if all.len() > shown.len() {
            all.sort_by_key(|&at| (self.rows[at].urgency(now), at));
        }
        all
    }

    /// What is not in the lines: how many more there are, and the figures of all.
    fn status(&self, shown: &[usize], now: Timestamp) -> Option<String> {
        let mut parts = Vec::new();
        let mut others: BTreeMap<&str, usize> = BTreeMap::new();
        for (at, row) in self.rows.iter().enumerate().filter(|(at, _)| !shown.contains(at)) {
            let _ = at;
            *others.entry(row.word(now)).or_default() += 1;
        }
        if !others.is_empty() {
            let words: Vec<String> = others.iter().map(|(word, count)| format!("{count} {word}")).collect();
            parts.push(format!("+{} more: {}", others.values().sum::<usize>(), words.join(", ")));
        }
        if self.rows.len() > 1 {
            let mut all = format!("{} agents", self.rows.len());
            let rate: u64 = self.rows.iter().filter_map(|row| row.rate(now)).sum();
            if rate > 0 {
                let _ = write!(all, ", {}/s", view::count(rate));
            }
            let mut usage = crate::model::Usage::default();
            self.rows.iter().for_each(|row| usage += row.usage);
            for figure in [view::tokens(&usage), view::cost(usage.cost)] {
                if !figure.is_empty() {
                    let _ = write!(all, ", {figure}");
                }
            }
            parts.push(all);
        }
        if let Some(agent) = self.feed.focus() {
            parts.push(format!("{} alone", self.name(&agent)));
        }
        if self.feed.is_paused() {
            parts.push(format!("paused, {} lines wait", self.feed.held()));
        }
        if !self.hint.is_empty() {
            parts.push(self.hint.to_owned());
        }
        let line = format!("  {}", parts.join(" · "));
        let line = truncate_str(&line, self.columns().saturating_sub(1), "…").into_owned();
        (!parts.is_empty()).then_some(line)
    }

    fn name_width(&self) -> usize {
        let most =
            if self.columns.is_some_and(|columns| columns < WIDE) { SHORT_NAME_WIDTH } else { NAME_WIDTH };
        self.width.min(most)
    }

    /// The columns behind a name.
    fn room(&self) -> usize {
        self.columns().saturating_sub(self.name_width() + 2).max(20)
    }

    fn columns(&self) -> usize {
        self.columns.unwrap_or(COLUMNS).max(40)
    }
}

/// A name within `width` columns. Names of one task differ at their ends.
fn cut_name(name: &str, width: usize) -> Cow<'_, str> {
    let count = name.chars().count();
    if count <= width {
        return name.into();
    }
    let end = width.saturating_sub(1) / 2;
    let begin = width.saturating_sub(1 + end);
    let (first, last) = (name.chars().take(begin), name.chars().skip(count - end));
    first.chain(['…']).chain(last).collect::<String>().into()
}

/// `3 commits`.
pub(crate) fn commits(count: usize) -> String {
    match count {
        0 => "no commits".to_owned(),
        1 => "1 commit".to_owned(),
        count => format!("{count} commits"),
    }
}

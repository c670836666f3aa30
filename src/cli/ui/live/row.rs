//! One agent's line.

use super::cut_name;
use crate::agent::sanitise_line;
use crate::cli::ui::{Label, Painter};
use crate::cli::view::{self, agent::activity_label};
use crate::model::{Event, EventKind, Id, Outcome, Timestamp, Usage};
use crate::orchestrate::status::{self, Activity, Evidence, Waits};
use crate::process::Identity;
use console::{Alignment, measure_text_width, pad_str};
use std::collections::VecDeque;
use std::fmt::Write as _;
use std::time::Duration;

const SPINNER: [&str; 8] = ["⠋", "⠙", "⠸", "⠴", "⠦", "⠧", "⠇", "⠏"];
/// The stretch over which tokens a second are counted, in milliseconds.
const WINDOW: u64 = 60_000;
/// Reports that are remembered for it.
const REPORTS: usize = 64;

/// Below so many columns there are fewer figures.
const NARROW: usize = 70;

/// What is known of one agent.
#[derive(Debug)]
pub(super) struct Row {
    /// Its place in the order in which they were heard of, which chooses its colour.
    pub(super) number: usize,
    pub(super) name: String,
    program: String,
    stage: Stage,
    evidence: Evidence,
    /// What it did last, for the time between two tools.
    doing: &'static str,
    asking: Option<Id>,
    pub(super) usage: Usage,
    rate: Rate,
    /// How often it was heard of, for what turns.
    heard: usize,
}

#[derive(Debug)]
enum Stage {
    Queued,
    Running { since: Timestamp, child: Option<Identity>, pid: Option<u32> },
    Over { outcome: Option<Outcome>, words: String, took: Option<Duration> },
}

/// Which columns of figures anybody has.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Columns {
    /// All columns of the terminal.
    pub(super) all: usize,
    /// Of names.
    pub(super) name: usize,
    /// Whether there are tokens, tokens a second, costs.
    pub(super) tokens: bool,
    pub(super) rate: bool,
    pub(super) cost: bool,
}

impl Row {
    pub(super) fn new(number: usize, name: String, program: String) -> Self {
        Self {
            number,
            name,
            program,
            stage: Stage::Queued,
            evidence: Evidence::default(),
            doing: "starting",
            asking: None,
            usage: Usage::default(),
            rate: Rate::default(),
            heard: 0,
        }
    }

    /// Its process runs since then.
    pub(super) fn began(&mut self, since: Timestamp, child: Option<Identity>, pid: Option<u32>) {
        self.stage = Stage::Running { since, child, pid };
        self.rate.report(since, 0);
    }

    /// Which process it has.
    pub(super) fn know(&mut self, process: Option<&Identity>) {
        if let Stage::Running { child, .. } = &mut self.stage {
            *child = process.cloned();
        }
    }

    /// What is asked of a person as a decision.
    pub(super) const fn asks(&mut self, decision: Id) {
        self.asking = Some(decision);
    }

    /// It has an answer, or works on without.
    pub(super) fn answered(&mut self, now: Timestamp) {
        self.asking = None;
        self.evidence.answered(Some(now));
    }

    /// Its run is over.
    pub(super) fn ended(&mut self, outcome: Option<Outcome>, words: String, usage: Usage, now: Timestamp) {
        let took = match &self.stage {
            Stage::Running { since, .. } => Some(now.since(*since)),
            _ => None,
        };
        (self.usage, self.stage) = (usage, Stage::Over { outcome, words, took });
    }

    /// Takes in an event.
    pub(super) fn learn(&mut self, event: &Event) {
        self.heard += 1;
        self.evidence.learn(event);
        // What it asks now is no decision yet, and what it asks no more is none.
        if matches!(event.kind, EventKind::PermissionAsked { .. } | EventKind::PermissionWithdrawn { .. }) {
            self.asking = None;
        }
        if event.parent.is_some() {
            return;
        }
        match &event.kind {
            EventKind::Usage { usage, .. } | EventKind::Result { usage, .. } => {
                self.usage = *usage;
                self.rate.report(event.at, usage.output + usage.estimated_output);
            }
            _ => {}
        }
        self.doing = match &event.kind {
            EventKind::Ready { .. } => "was ready",
            EventKind::Text { .. } => "wrote",
            EventKind::Thinking { .. } => "thought",
            EventKind::ToolResult { .. } => "a tool answered",
            EventKind::Result { .. } => "ended its turn",
            EventKind::Exited { .. } => "exited",
            _ => self.doing,
        };
    }

    /// What it does, as evidence shows it.
    pub(super) fn activity(&self, now: Timestamp) -> Activity {
        match (&self.stage, &self.asking) {
            (Stage::Queued, _) => Activity::Queued,
            (Stage::Over { outcome, .. }, _) => outcome.clone().map_or(Activity::New, Activity::Ended),
            (Stage::Running { .. }, Some(decision)) => Activity::Asking(*decision),
            (Stage::Running { since, child, .. }, None) => {
                status::running(&self.program, *since, child.as_ref(), &self.evidence, now)
            }
        }
    }

    /// The less, the sooner somebody should look at it.
    pub(super) fn urgency(&self, now: Timestamp) -> u8 {
        match self.activity(now) {
            Activity::Asking(_) | Activity::Waiting(Waits::Permission { .. } | Waits::Interrupted) => 0,
            Activity::Ended(Outcome::Failed { .. } | Outcome::Lost)
            | Activity::Unwatched { .. }
            | Activity::New => 1,
            Activity::Stuck { .. } | Activity::Unknown { .. } => 2,
            Activity::Waiting(_) => 3,
            Activity::Running { .. } | Activity::Elsewhere { .. } => 4,
            Activity::Ended(Outcome::Stopped { .. }) => 5,
            Activity::Queued => 6,
            Activity::Ended(Outcome::Succeeded) | Activity::Merged(_) | Activity::Removed => 7,
        }
    }

    /// The word for how it stands.
    pub(super) fn word(&self, now: Timestamp) -> &'static str {
        match &self.stage {
            Stage::Over { outcome: None, .. } => "unstarted",
            _ => self.activity(now).word(),
        }
    }

    /// Whether its process was not started, as far as is known.
    pub(super) const fn is_queued(&self) -> bool {
        matches!(self.stage, Stage::Queued)
    }

    /// Whether its run is not over.
    pub(super) const fn is_live(&self) -> bool {
        !matches!(self.stage, Stage::Over { .. })
    }

    /// Tokens a second, if it is at work and reported some lately.
    pub(super) fn rate(&self, now: Timestamp) -> Option<u64> {
        let works = matches!(self.activity(now), Activity::Running { .. }) && !self.evidence.is_turn_over();
        if works { self.rate.at(now) } else { None }
    }

    /// What shows how it stands.
    fn shown(&self, activity: &Activity, now: Timestamp) -> String {
        match (&self.stage, activity) {
            (Stage::Over { words, .. }, _) => words.clone(),
            (Stage::Running { .. }, Activity::Running { tool: None, .. }) => {
                match (self.evidence.last, &self.stage) {
                    (Some(last), _) => format!("{} {} ago", self.doing, view::span(now.since(last))),
                    (None, Stage::Running { pid: Some(pid), .. }) => format!("{}, pid {pid}", self.doing),
                    (None, _) => self.doing.to_owned(),
                }
            }
            _ => activity.evidence(now),
        }
    }

    /// `⠙ name  state  what shows it          41/s  12k  $0.10   8s`, within the columns.
    pub(super) fn line(&self, paint: Painter, columns: Columns, chosen: bool, now: Timestamp) -> String {
        let activity = self.activity(now);
        let label = match &self.stage {
            Stage::Over { outcome: None, .. } => Label::Attention,
            _ => activity_label(&activity),
        };
        let mark = match (&activity, label) {
            (Activity::Running { .. }, _) => SPINNER[self.heard % SPINNER.len()],
            (Activity::Asking(_) | Activity::Waiting(Waits::Permission { .. }), _) => "?",
            (Activity::Queued | Activity::Waiting(_), _) => "·",
            (Activity::Stuck { .. } | Activity::Unknown { .. }, _) => "!",
            (_, Label::Good) => "✓",
            _ => "✗",
        };
        let took = match &self.stage {
            Stage::Queued => None,
            Stage::Running { since, .. } => Some(now.since(*since)),
            Stage::Over { took, .. } => *took,
        };
        let mut figures = String::new();
        // On a narrow terminal how an agent stands matters more than how fast it is.
        let wide = columns.all >= NARROW;
        if columns.rate && wide {
            let rate = self.rate(now).map(|rate| format!("{}/s", view::count(rate))).unwrap_or_default();
            let _ = write!(figures, " {rate:>5}");
        }
        if columns.tokens {
            let _ = write!(figures, " {:>5}", view::tokens(&self.usage));
        }
        if columns.cost && wide {
            let _ = write!(figures, " {:>6}", view::cost(self.usage.cost));
        }
        let _ = write!(figures, " {:>3}", took.map(view::span).unwrap_or_default());
        let name = cut_name(&self.name, columns.name);
        let name = pad_str(&name, columns.name, Alignment::Left, None);
        let word = format!("{:<7}", self.word(now));
        // One column is left free: a full line wraps on some terminals.
        let taken = 3 + columns.name + 2 + measure_text_width(&word) + 2 + measure_text_width(&figures) + 1;
        let shown = self.shown(&activity, now);
        let shown = sanitise_line(&shown);
        let room = columns.all.saturating_sub(taken);
        let shown = pad_str(&shown, room, Alignment::Left, Some("…"));
        format!(
            "{}{} {}  {}  {}{}",
            if chosen { "›" } else { " " },
            paint.paint(label, mark),
            paint.paint_nth(self.number, &name),
            paint.paint(label, word),
            paint.paint(Label::Plain, shown),
            paint.paint(Label::Dim, figures)
        )
    }
}

/// How many tokens come in a second, by what the program reports.
#[derive(Debug, Default)]
struct Rate(VecDeque<(Timestamp, u64)>);

impl Rate {
    /// So many had come by then.
    fn report(&mut self, at: Timestamp, tokens: u64) {
        // A count that goes back is another count.
        if self.0.back().is_some_and(|(last, before)| tokens < *before || at < *last) {
            self.0.clear();
        }
        if self.0.back().is_some_and(|(_, before)| tokens == *before) && self.0.len() > 1 {
            return;
        }
        self.0.push_back((at, tokens));
        let old = |(first, _): &(Timestamp, u64)| at.0.saturating_sub(first.0) > WINDOW;
        while self.0.len() > REPORTS || self.0.len() > 2 && self.0.front().is_some_and(old) {
            self.0.pop_front();
        }
    }

    /// From the first of the last reports up to now, if there were some lately: while nothing comes it falls.
    fn at(&self, now: Timestamp) -> Option<u64> {
        let (&(first, before), &(last, tokens)) = (self.0.front()?, self.0.back()?);
        let time = now.0.max(last.0).saturating_sub(first.0);
        let lately = now.0.saturating_sub(last.0) <= WINDOW;
        let came = tokens.saturating_sub(before);
        (lately && time > 0 && came > 0).then(|| (came * 1_000).div_ceil(time))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, kind: EventKind) -> Event {
        Event { at: Timestamp(at), parent: None, kind }
    }

    fn bash(at: u64) -> Event {
        let (call, tool) = ("c".to_owned(), "Bash".to_owned());
        let summary = "cargo test --workspace --all-features -- --nocapture".to_owned();
        event(at, EventKind::ToolCall { call, tool, summary, target: None })
    }

    fn usage(at: u64, output: u64) -> Event {
        let cost = crate::model::Cost::reported(0.104);
        let usage = Usage { input: 123_000, output, cost, ..Usage::default() };
        event(at, EventKind::Usage { usage, context: None })
    }

    const WIDE: Columns = Columns { all: 80, name: 20, tokens: true, rate: true, cost: true };

    fn running(name: &str) -> Row {
        let mut row = Row::new(0, name.to_owned(), "claude".to_owned());
        row.began(Timestamp(1_000), None, Some(7));
        row
    }

    #[test]
    fn a_row_says_how_an_agent_stands_and_by_what_evidence() {
        let paint = Painter::new(false);
        let mut row = Row::new(0, "heron".to_owned(), "claude".to_owned());
        let line = |row: &Row, now| row.line(paint, WIDE, false, Timestamp(now)).trim_end().to_owned();
        assert_eq!(line(&row, 0), " · heron                 queued   waits for its turn");
        row.began(Timestamp(1_000), None, Some(7));
        let starting = " ⠋ heron                 running  starting, pid 7                            2s";
        assert_eq!(line(&row, 3_000), starting);
        row.learn(&bash(4_000));
        row.learn(&usage(11_000, 400));
        assert_eq!(
            line(&row, 16_000),
            " ⠸ heron                 running  Bash cargo test --wor…  27/s  123k  $0.10 15s"
        );
        row.asks(Id::from_random(3));
        assert!(line(&row, 16_000).starts_with(" ? heron                 waiting  decision "));
        let failed = Outcome::Failed { reason: "exit 1".to_owned() };
        row.ended(Some(failed), "exit 1".to_owned(), row.usage, Timestamp(62_000));
        assert!(line(&row, 90_000).starts_with(" ✗ heron                 failed   exit 1 "));
        assert!(line(&row, 90_000).ends_with("$0.10  1m"), "{}", line(&row, 90_000));
    }

    #[test]
    fn a_rate_falls_while_nothing_comes_and_goes_when_nothing_will() {
        let mut row = running("heron");
        row.learn(&usage(11_000, 400));
        let rates = |row: &Row| [11_000, 21_000, 41_000, 72_000].map(|now| row.rate(Timestamp(now)));
        assert_eq!(rates(&row), [Some(40), Some(20), Some(10), None]);
        row.asks(Id::from_random(3));
        assert_eq!(rates(&row), [None; 4], "it waits");
        row.answered(Timestamp(11_000));
        assert!(row.rate(Timestamp(21_000)).is_some());
        let (subtype, text) = ("success".to_owned(), String::new());
        let usage = Usage { output: 500, ..Usage::default() };
        row.learn(&event(12_000, EventKind::Result { subtype, error: false, text, usage }));
        assert_eq!(rates(&row), [None; 4], "its turn is over");
    }

    #[test]
    fn what_needs_a_person_comes_first() {
        let now = Timestamp(1_000);
        let queued = Row::new(0, "queued".to_owned(), "claude".to_owned());
        let working = running("working");
        let mut asking = running("asking");
        asking.asks(Id::from_random(3));
        let ended = |outcome| {
            let mut row = running("over");
            row.ended(Some(outcome), String::new(), Usage::default(), now);
            row
        };
        let failed = ended(Outcome::Failed { reason: "exit 1".to_owned() });
        let done = ended(Outcome::Succeeded);
        let mut limited = running("limited");
        let error = "rate_limit".to_owned();
        let retry = EventKind::Retry { attempt: 1, max: 10, delay_ms: 5_000, status: Some(429), error };
        limited.learn(&event(1_000, retry));
        let stuck = running("stuck");
        let late = Timestamp(3_600_000);
        assert_eq!(stuck.word(late), "stuck");
        let order = [
            asking.urgency(now),
            failed.urgency(now),
            stuck.urgency(late),
            limited.urgency(now),
            working.urgency(now),
            queued.urgency(now),
            done.urgency(now),
        ];
        assert!(order.is_sorted_by(|a, b| a < b), "{order:?}");
    }

    #[test]
    fn a_question_that_is_gone_or_new_is_no_decision_any_more() {
        let asked = |at, request: &str| {
            let (tool, summary) = ("Bash".to_owned(), "rm -rf x".to_owned());
            let (request, input, questions) = (request.to_owned(), String::new(), Vec::new());
            event(at, EventKind::PermissionAsked { request, tool, summary, input, questions })
        };
        let mut row = running("heron");
        row.learn(&asked(2_000, "q1"));
        row.asks(Id::from_random(3));
        assert!(matches!(row.activity(Timestamp(3_000)), Activity::Asking(_)));
        row.learn(&event(4_000, EventKind::PermissionWithdrawn { request: "q1".to_owned() }));
        assert!(matches!(row.activity(Timestamp(5_000)), Activity::Running { .. }));
        row.asks(Id::from_random(3));
        row.learn(&asked(6_000, "q2"));
        assert!(matches!(row.activity(Timestamp(7_000)), Activity::Waiting(Waits::Permission { .. })));
    }

    #[test]
    fn names_of_one_task_can_be_told_apart() {
        assert_eq!(cut_name("chatty-task-number-1", 16), "chatty-t…umber-1");
        assert_eq!(cut_name("fix-the-crash-in-parser-reviewer", 20), "fix-the-cr…-reviewer");
        assert_eq!(cut_name("heron", 16), "heron");
    }

    #[test]
    fn a_row_fits_its_columns() {
        let mut row = running("a-name-that-is-much-too-long-for-it");
        row.learn(&bash(2_000));
        row.learn(&usage(11_000, 400));
        for all in [60, 80, 120] {
            for ended in [false, true] {
                if ended {
                    let outcome = Outcome::Failed { reason: "漢字 ".repeat(40) };
                    row.ended(Some(outcome), "漢字 ".repeat(40), row.usage, Timestamp(60_000));
                }
                let line = row.line(Painter::new(true), Columns { all, ..WIDE }, true, Timestamp(61_000));
                assert!(measure_text_width(&line) < all, "{line}");
            }
        }
    }

    #[test]
    fn tokens_a_second_are_those_that_were_reported_lately() {
        let mut row = running("heron");
        assert_eq!(row.rate(Timestamp(2_000)), None);
        row.learn(&usage(11_000, 400));
        assert_eq!(row.rate(Timestamp(12_000)), Some(37));
        row.learn(&usage(21_000, 400));
        row.learn(&usage(31_000, 1_000));
        assert_eq!(row.rate(Timestamp(32_000)), Some(33));
        assert_eq!(row.rate(Timestamp(120_000)), None, "it is silent");
        row.learn(&usage(121_000, 50));
        assert_eq!(row.rate(Timestamp(121_000)), None, "another count begins");
    }
}

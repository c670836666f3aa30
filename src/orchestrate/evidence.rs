//! What a live run does, as the end of its journal shows it. Reads only, and never guesses "working" where nothing
//! says so.

use crate::git::Repository;
use crate::model::{ContextUse, Event, EventKind, Id, Timestamp, Usage};
use crate::store::journal::{self, Entry};
use std::time::Duration;

/// The end of a journal that holds the last figures.
const TAIL: u64 = 256 << 10;
/// So many calls without an answer are remembered.
const TOOLS: usize = 64;
/// How long after its last turn a program may take to end.
const ENDING: Duration = Duration::from_secs(15);
/// How a notice begins that says that a person told it something: words that go to a program are no event of their own.
pub(super) const TOLD: &str = "a person told it: ";

/// What the end of a journal shows, or whatever else tells the events of a run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    /// What the run consumed, as far as it was reported.
    pub usage: Option<Usage>,
    /// How full the window of its model is.
    pub context: Option<ContextUse>,
    /// When something was last heard.
    pub last: Option<Timestamp>,
    doing: Doing,
    /// Whether its turn was broken off and it was told nothing since. What its program still says of that turn does not
    /// change that.
    interrupted: bool,
    /// Tool calls without an answer, oldest first.
    tools: Vec<Called>,
}

/// A tool call without an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Called {
    id: String,
    tool: Tool,
    /// Whether it was asked for and nobody said yet when that was answered.
    asked: bool,
}

/// A tool that runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tool {
    /// The tool's name.
    pub name: String,
    /// What it was called on.
    pub summary: String,
    /// Since when.
    pub since: Timestamp,
}

/// What a run waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// Somebody who looks at it was asked whether it may do something.
    Permission {
        /// The tool and what it would be called on.
        what: String,
    },
    /// Its model serves it again later.
    Limit {
        /// The HTTP status and the error's name.
        error: String,
        /// When it tries again.
        until: Timestamp,
    },
    /// Nothing of its program starts before then.
    Parked {
        /// Why.
        why: String,
        /// Until when.
        until: Timestamp,
    },
    /// Its turn was broken off, and it was told nothing since.
    Interrupted,
    /// Its turn is over and it can be told something.
    Message,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum Doing {
    #[default]
    Something,
    Waits(Waits),
    /// Its turn was over then.
    Done(Timestamp),
}

impl Evidence {
    /// What the journal of a run shows. A journal that cannot be read shows nothing.
    pub(super) fn read(repo: &Repository, agent: &Id, run: u32) -> Self {
        let path = journal::path(repo, agent, run);
        let entries = journal::Tail::near_end(path, TAIL).and_then(|mut tail| tail.read());
        let mut evidence = Self::default();
        for entry in entries.unwrap_or_default() {
            if let Entry::Event(event) = entry {
                evidence.learn(&event);
            }
        }
        evidence
    }

    /// Takes in what came next.
    pub fn learn(&mut self, event: &Event) {
        let Event { at, parent, kind } = event;
        let at = *at;
        self.last = self.last.max(Some(at));
        if let EventKind::Usage { context: Some(context), .. } = kind {
            self.context = Some(*context);
        }
        if let EventKind::Usage { usage, .. } | EventKind::Result { usage, .. } = kind {
            self.usage = Some(*usage);
        }
        // What a sub-agent does is one tool of the agent itself.
        if parent.is_some() {
            return;
        }
        let doing = match kind {
            EventKind::Notice { text } if text.starts_with(TOLD) => {
                self.told();
                return;
            }
            EventKind::Usage { .. } | EventKind::Notice { .. } | EventKind::Unrecognised { .. } => return,
            EventKind::ToolCall { call, tool, summary, .. } => {
                let tool = Tool { name: tool.clone(), summary: summary.clone(), since: at };
                if self.tools.len() < TOOLS {
                    self.tools.push(Called { id: call.clone(), tool, asked: false });
                }
                Doing::Something
            }
            EventKind::ToolResult { call, .. } => {
                self.tools.retain(|open| open.id != *call);
                Doing::Something
            }
            EventKind::PermissionAsked { tool, summary, .. } => {
                let is_it = |open: &Called| (&open.tool.name, &open.tool.summary) == (tool, summary);
                // Not every program asks in the words in which it calls.
                let at = self.tools.iter().rposition(is_it).or(self.tools.len().checked_sub(1));
                if let Some(at) = at {
                    self.tools[at].asked = true;
                }
                Doing::Waits(Waits::Permission { what: format!("{tool} {summary}") })
            }
            EventKind::PermissionWithdrawn { .. } => {
                self.answered(Some(at));
                return;
            }
            EventKind::Retry { delay_ms, status, error, .. } => {
                let status = status.map(|status| format!("{status} ")).unwrap_or_default();
                let until = Timestamp(at.0.saturating_add(*delay_ms));
                Doing::Waits(Waits::Limit { error: format!("{status}{error}"), until })
            }
            EventKind::Parked { until, why } => {
                self.tools.clear();
                Doing::Waits(Waits::Parked { why: why.clone(), until: *until })
            }
            EventKind::Interrupted {} => {
                self.tools.clear();
                self.interrupted = true;
                Doing::Waits(Waits::Interrupted)
            }
            EventKind::Result { .. } => {
                self.tools.clear();
                if self.interrupted { Doing::Waits(Waits::Interrupted) } else { Doing::Done(at) }
            }
            EventKind::Exited { .. } => {
                self.interrupted = false;
                Doing::Something
            }
            _ => Doing::Something,
        };
        self.doing = doing;
    }

    /// What it asked was answered then, or is not waited for any more. No event of its own says so. The tool that it asked
    /// for runs since then, as far as that is known.
    pub fn answered(&mut self, at: Option<Timestamp>) {
        let asked = self.tools.iter_mut().rfind(|open| open.asked);
        if let (Some(open), Some(at)) = (asked, at) {
            (open.asked, open.tool.since) = (false, open.tool.since.max(at));
        }
        if let Doing::Waits(Waits::Permission { .. }) = self.doing {
            self.doing = Doing::Something;
        }
    }

    /// It was told something: whatever it waited for, it has something to do.
    fn told(&mut self) {
        self.interrupted = false;
        if matches!(self.doing, Doing::Waits(Waits::Interrupted) | Doing::Done(_)) {
            self.doing = Doing::Something;
        }
    }

    /// What it waits for, if it does.
    pub(super) fn waits(&self, now: Timestamp) -> Option<Waits> {
        match &self.doing {
            Doing::Waits(waits) => Some(waits.clone()),
            Doing::Done(at) if now.since(*at) > ENDING => Some(Waits::Message),
            Doing::Done(_) | Doing::Something => None,
        }
    }

    /// Whether its turn is over and nothing of another one was heard.
    pub fn is_turn_over(&self) -> bool {
        matches!(self.doing, Doing::Done(_))
    }

    /// The tool that runs, the one that was called last if several do.
    pub(super) fn tool(&self) -> Option<&Tool> {
        self.tools.last().map(|open| &open.tool)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(events: Vec<(u64, EventKind)>) -> Evidence {
        let mut evidence = Evidence::default();
        for (at, kind) in events {
            evidence.learn(&Event { at: Timestamp(at), parent: None, kind });
        }
        evidence
    }

    fn call(id: &str) -> EventKind {
        let (tool, summary) = ("Bash".to_owned(), format!("run {id}"));
        EventKind::ToolCall { call: id.to_owned(), tool, summary, target: None }
    }

    fn answered(id: &str) -> EventKind {
        EventKind::ToolResult { call: id.to_owned(), ok: true, output: String::new() }
    }

    fn result() -> EventKind {
        let (subtype, text) = ("success".to_owned(), String::new());
        EventKind::Result { subtype, error: false, text, usage: Usage { input: 7, ..Usage::default() } }
    }

    #[test]
    fn the_tool_that_runs_is_the_one_without_an_answer() {
        let evidence = seen(vec![(1, call("a")), (2, call("b")), (3, answered("b"))]);
        assert_eq!(evidence.tool().map(|tool| (tool.summary.as_str(), tool.since.0)), Some(("run a", 1)));
        assert_eq!((evidence.waits(Timestamp(4)), evidence.last), (None, Some(Timestamp(3))));
        assert!(seen(vec![(1, call("a")), (2, answered("a"))]).tool().is_none());
        let over = seen(vec![(1, call("a")), (2, result())]);
        assert!(over.tool().is_none() && over.usage.is_some_and(|usage| usage.input == 7));
    }

    #[test]
    fn what_it_waits_for_is_said_until_something_else_happens() {
        let retry = || EventKind::Retry {
            attempt: 1,
            max: 10,
            delay_ms: 5_000,
            status: Some(429),
            error: "rate_limit".to_owned(),
        };
        let notice = || EventKind::Notice { text: "x".to_owned() };
        let limit = Some(Waits::Limit { error: "429 rate_limit".to_owned(), until: Timestamp(5_010) });
        assert_eq!(seen(vec![(10, retry()), (11, notice())]).waits(Timestamp(12)), limit);
        let text = || EventKind::Text { text: "on".to_owned(), partial: false };
        assert_eq!(seen(vec![(10, retry()), (11, text())]).waits(Timestamp(12)), None);
        let asked = || EventKind::PermissionAsked {
            request: "r".to_owned(),
            tool: "Bash".to_owned(),
            summary: "rm x".to_owned(),
            input: String::new(),
            questions: Vec::new(),
        };
        let permission = Some(Waits::Permission { what: "Bash rm x".to_owned() });
        assert_eq!(seen(vec![(1, call("a")), (2, asked())]).waits(Timestamp(9)), permission);
        assert_eq!(seen(vec![(2, asked()), (3, answered("a"))]).waits(Timestamp(9)), None);
        let over = seen(vec![(1_000, result())]);
        assert_eq!(over.waits(Timestamp(2_000)), None, "it may be ending");
        assert_eq!(over.waits(Timestamp(60_000)), Some(Waits::Message));
    }

    #[test]
    fn one_whose_turn_was_broken_off_waits_until_it_is_told_something() {
        let told = || EventKind::Notice { text: format!("{TOLD}go on") };
        let broken_off = || vec![(1, call("a")), (2, EventKind::Interrupted {}), (3, answered("a"))];
        let with = |more: Vec<(u64, EventKind)>| seen([broken_off(), more].concat()).waits(Timestamp(9));
        assert_eq!(with(vec![(4, result())]), Some(Waits::Interrupted), "the end of that turn is no end");
        assert_eq!(with(vec![(4, result()), (5, told())]), None);
        assert_eq!(with(vec![(4, told()), (5, result())]), None, "it goes on with what it was told");
        let exited = EventKind::Exited { code: Some(0), signal: None };
        assert_eq!(with(vec![(4, exited), (5, result())]), None, "another process of the run");
        let late = Timestamp(60_000);
        assert_eq!(seen(vec![(1_000, result()), (2_000, told())]).waits(late), None, "its model is asked");
    }

    #[test]
    fn a_tool_that_had_to_be_allowed_runs_since_it_was() {
        let asked = |summary: &str| EventKind::PermissionAsked {
            request: "r".to_owned(),
            tool: "Bash".to_owned(),
            summary: summary.to_owned(),
            input: String::new(),
            questions: Vec::new(),
        };
        let since = |summary, at: Option<u64>| {
            // What another tool says meanwhile is no answer.
            let events = vec![(1, call("a")), (2, call("b")), (3, asked(summary)), (4, answered("c"))];
            let mut evidence = seen(events);
            evidence.answered(at.map(Timestamp));
            let tools: Vec<u64> = evidence.tools.iter().map(|open| open.tool.since.0).collect();
            if at.is_some() {
                let before = evidence.clone();
                evidence.answered(Some(Timestamp(99_000)));
                assert_eq!(evidence, before, "that was another question");
            }
            tools
        };
        assert_eq!(since("run b", Some(57_000)), [1, 57_000]);
        assert_eq!(since("run a", Some(57_000)), [57_000, 2], "the one that was asked about");
        assert_eq!(since("a title", Some(57_000)), [1, 57_000], "the last one");
        assert_eq!(since("run b", None), [1, 2], "nobody knows when");
        let mut waits = seen(vec![(1, call("a")), (2, asked("run a"))]);
        waits.answered(Some(Timestamp(57_000)));
        assert_eq!(waits.waits(Timestamp(58_000)), None);
        assert_eq!(waits.tool().map(|tool| tool.since.0), Some(57_000));
    }
}

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
    /// Tool calls without an answer, oldest first: id, words, since when.
    tools: Vec<(String, Tool)>,
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
            EventKind::Usage { .. } | EventKind::Notice { .. } | EventKind::Unrecognised { .. } => return,
            EventKind::ToolCall { call, tool, summary, .. } => {
                let tool = Tool { name: tool.clone(), summary: summary.clone(), since: at };
                if self.tools.len() < TOOLS {
                    self.tools.push((call.clone(), tool));
                }
                Doing::Something
            }
            EventKind::ToolResult { call, .. } => {
                self.tools.retain(|(open, _)| open != call);
                Doing::Something
            }
            EventKind::PermissionAsked { tool, summary, .. } => {
                Doing::Waits(Waits::Permission { what: format!("{tool} {summary}") })
            }
            EventKind::PermissionWithdrawn { .. } => {
                self.answered();
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
                Doing::Waits(Waits::Interrupted)
            }
            EventKind::Result { .. } => {
                self.tools.clear();
                Doing::Done(at)
            }
            _ => Doing::Something,
        };
        self.doing = doing;
    }

    /// What it asked was answered, or is not waited for any more. No event of its own says so.
    pub fn answered(&mut self) {
        if let Doing::Waits(Waits::Permission { .. }) = self.doing {
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
        self.tools.last().map(|(_, tool)| tool)
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
}

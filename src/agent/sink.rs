//! Where the events of one line go: what all decoders of a program's stream do with them.

use super::tool::{few_lines, start};
use crate::model::{Event, EventKind, Timestamp, ToolTarget};

/// How much of a line that nobody knows is kept in its event, in bytes.
pub(super) const MAX_RAW: usize = 4 * 1024;
/// How much of a tool's answer becomes an event: lines, then bytes.
pub(super) const MAX_OUTPUT: (usize, usize) = (20, 2 * 1024);

/// Where the events of one line go.
pub(super) struct Sink<'e> {
    pub(super) at: Timestamp,
    /// The call of the sub-agent that the line is of; `None` if it is of the agent itself.
    pub(super) parent: Option<String>,
    pub(super) events: &'e mut Vec<Event>,
}

impl Sink<'_> {
    pub(super) fn push(&mut self, kind: EventKind) {
        self.events.push(Event { at: self.at, parent: self.parent.clone(), kind });
    }

    pub(super) fn notice(&mut self, text: impl Into<String>) {
        self.push(EventKind::Notice { text: text.into() });
    }

    pub(super) fn unrecognised(&mut self, line: &str) {
        self.push(EventKind::Unrecognised { raw: start(line, MAX_RAW).to_owned() });
    }

    pub(super) fn called(&mut self, call: &str, tool: &str, summary: String, target: Option<ToolTarget>) {
        self.push(EventKind::ToolCall { call: call.to_owned(), tool: tool.to_owned(), summary, target });
    }

    /// `output` is cut to [`MAX_OUTPUT`].
    pub(super) fn answered(&mut self, call: &str, ok: bool, output: &str) {
        let output = few_lines(output, MAX_OUTPUT.0, MAX_OUTPUT.1);
        self.push(EventKind::ToolResult { call: call.to_owned(), ok, output });
    }
}

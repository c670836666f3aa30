//! What the tests of decoders share.

use super::Decoder;
use crate::model::{Event, EventKind, Timestamp, Usage};
use std::fmt::Write;

/// Everything that `decoder` makes of standard output and, after it, of standard error, up to the end.
pub(super) fn decode(decoder: &mut dyn Decoder, stdout: &[u8], stderr: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    for line in stdout.split(|&byte| byte == b'\n') {
        decoder.line(line, Timestamp(0), &mut events);
    }
    for line in stderr.split(|&byte| byte == b'\n') {
        decoder.error_line(line, Timestamp(0), &mut events);
    }
    decoder.end(Timestamp(0), &mut events);
    events
}

/// The events, one a line, without usage events and pieces.
pub(super) fn told(events: Vec<Event>) -> String {
    let mut out = String::new();
    for Event { kind, .. } in events {
        match kind {
            EventKind::Text { partial: true, .. }
            | EventKind::Thinking { partial: true, .. }
            | EventKind::Parked { .. }
            | EventKind::Interrupted {}
            | EventKind::Usage { .. } => Ok(()),
            EventKind::Ready { model, session, .. } => writeln!(out, "ready {model:?} {session:?}"),
            EventKind::Turn { number } => writeln!(out, "turn {number}"),
            EventKind::Text { text, .. } => writeln!(out, "text {text:?}"),
            EventKind::Thinking { text, .. } => writeln!(out, "thinking {text:?}"),
            EventKind::ToolCall { call, tool, summary, target } => {
                writeln!(out, "call {} {tool} {summary:?} {target:?}", short(&call))
            }
            EventKind::ToolResult { call, ok, output } => {
                writeln!(out, "result {} {ok} {output:?}", short(&call))
            }
            EventKind::PermissionWithdrawn { request } => writeln!(out, "withdrawn {}", short(&request)),
            EventKind::PermissionDenied { tool, summary } => writeln!(out, "denied {tool} {summary:?}"),
            EventKind::Retry { attempt, max, delay_ms, status, error } => {
                writeln!(out, "retry {attempt}/{max} in {delay_ms} {status:?} {error}")
            }
            EventKind::Result { subtype, error, text, usage } => {
                writeln!(out, "end {subtype} {error} {text:?} {}", figures(usage))
            }
            EventKind::Notice { text } => writeln!(out, "notice {text:?}"),
            other => writeln!(out, "{other:?}"),
        }
        .unwrap();
    }
    out
}

/// Without the time that some programs put into the ids of calls.
fn short(call: &str) -> &str {
    call.split("__").next().unwrap()
}

pub(super) fn figures(usage: Usage) -> String {
    let Usage { input, output, cache_read, cache_write, turns, .. } = usage;
    assert_eq!(usage.cost, None, "it reports none");
    format!("{input}+{cache_read}+{cache_write}->{output} {turns}")
}

/// Compares line by line, without the indentation of `expected`.
#[track_caller]
pub(super) fn assert_lines(told: &str, expected: &str) {
    let expected: String =
        expected.trim().lines().fold(String::new(), |all, line| all + line.trim_start() + "\n");
    assert_eq!(told, expected);
}

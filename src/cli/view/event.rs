//! Events, as lines of a transcript. Agents' words pass the sanitiser first.

use super::{cost, count};
use crate::agent::{sanitise_line, sanitise_text};
use crate::cli::ui::{Label, Painter, cut, width as width_of, wrap};
use crate::model::{Event, EventKind};
use console::truncate_str;
use std::fmt::Write as _;

/// How many lines of a tool's answer are shown.
const OUTPUT_LINES: usize = 4;

/// The lines that show an event, without a time; empty for what would only repeat something. With a `width`, words
/// are wrapped at it, and commands and their output cut.
pub(crate) fn lines(paint: Painter, event: &Event, width: Option<usize>) -> Vec<String> {
    let width = width.unwrap_or(usize::MAX);
    let one = |label: Label, text: &str| -> Vec<String> {
        wrap(&sanitise_line(text), width).into_iter().map(|line| paint.paint(label, line)).collect()
    };
    let many = |label: Label, text: &str| -> Vec<String> {
        let text = sanitise_text(text);
        let lines = text.trim().lines().flat_map(|line| wrap(line, width));
        lines.map(|line| paint.paint(label, line)).collect()
    };
    match &event.kind {
        // The whole text follows.
        EventKind::Text { partial: true, .. }
        | EventKind::Thinking { partial: true, .. }
        | EventKind::Usage { .. }
        | EventKind::Turn { .. } => Vec::new(),
        EventKind::Ready { model, session, version, permissions } => {
            let parts =
                [("model", model), ("version", version), ("permissions", permissions), ("session", session)];
            let parts: Vec<String> = parts
                .into_iter()
                .filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)))
                .collect();
            one(Label::Dim, &format!("ready: {}", parts.join(", ")))
        }
        EventKind::Text { text, .. } => many(Label::Plain, text),
        EventKind::Thinking { text, .. } => many(Label::Dim, text),
        EventKind::ToolCall { tool, summary, .. } => {
            let (tool, summary) = (sanitise_line(tool), sanitise_line(summary));
            let room = width_of(&tool) + 1 + width_of(&summary);
            let line = format!("{} {}", paint.paint(Label::Title, tool), paint.paint(Label::Path, summary));
            vec![if room <= width { line } else { truncate_str(&line, width, "…").into_owned() }]
        }
        EventKind::ToolResult { ok, output, .. } => {
            let label = if *ok { Label::Dim } else { Label::Bad };
            let text = sanitise_text(output);
            let all: Vec<&str> = text.trim().lines().collect();
            let more = all.len().saturating_sub(OUTPUT_LINES);
            let line = |line: &&str| format!("  {}", cut(line, width.saturating_sub(2)));
            let mut shown: Vec<String> =
                all.iter().take(OUTPUT_LINES).map(line).map(|line| paint.paint(label, line)).collect();
            if more > 0 {
                shown.push(paint.paint(Label::Dim, format!("  … {more} more lines")));
            }
            shown
        }
        EventKind::PermissionAsked { tool, summary, .. } => {
            one(Label::Attention, &format!("asks to use {tool}: {summary}"))
        }
        EventKind::PermissionWithdrawn { .. } => one(Label::Dim, "does not ask that any more"),
        EventKind::PermissionDenied { tool, summary } => {
            one(Label::Attention, &format!("may not use {tool}: {summary}"))
        }
        EventKind::Retry { attempt, max, delay_ms, status, error } => {
            let status = status.map(|status| format!("{status} ")).unwrap_or_default();
            // Not every program says how often it tries, or how long it waits.
            let of = if *max > 0 { format!(" of {max}") } else { String::new() };
            let next = match delay_ms.div_ceil(1000) {
                0 => String::new(),
                seconds => format!(", the next one in {seconds}s"),
            };
            one(Label::Attention, &format!("{status}{error}: attempt {attempt}{of} failed{next}"))
        }
        EventKind::Parked { until, why } => {
            one(Label::Attention, &format!("parked until {}: {why}", super::clock(*until)))
        }
        EventKind::Interrupted {} => one(Label::Attention, "a person interrupted it; it waits for a message"),
        EventKind::Result { subtype, error, text: _, usage } => {
            let turns = if usage.turns == 1 { "turn" } else { "turns" };
            let mut line =
                format!("result: {subtype}, {} {turns}, {} tokens", usage.turns, count(usage.total()));
            let cost = cost(usage.cost);
            if !cost.is_empty() {
                let _ = write!(line, ", {cost}");
            }
            one(if *error { Label::Bad } else { Label::Good }, &line)
        }
        EventKind::Notice { text } => many(Label::Attention, text),
        EventKind::Unrecognised { raw } => one(Label::Dim, &format!("unrecognised: {raw}")),
        EventKind::Exited { code: Some(0), .. } => one(Label::Good, "exited with 0"),
        EventKind::Exited { code: Some(code), .. } => one(Label::Bad, &format!("exited with {code}")),
        EventKind::Exited { signal: Some(signal), .. } => {
            one(Label::Bad, &format!("ended by signal {signal}"))
        }
        EventKind::Exited { .. } => one(Label::Bad, "exited"),
    }
}

//! What agents say, as lines of a feed.

use crate::agent::sanitise_text;
use crate::cli::ui::{Label, Painter, width};
use crate::cli::view::event;
use crate::model::{Event, EventKind};
use console::truncate_str;

/// Of a longer text only the beginning is shown on a terminal.
const LONG: usize = 16 << 10;

/// An event as lines, and how many more lines it would have: on a terminal of `room` columns what is wider is broken
/// or cut, and what is very long is not shown whole.
pub(super) fn lines(paint: Painter, event: &Event, room: usize, terminal: bool) -> (Vec<String>, u64) {
    let mut more = 0;
    let indent = if event.parent.is_some() { "│ " } else { "" };
    let lines = match &event.kind {
        EventKind::Text { text, partial: false } => {
            let mut shown = text.as_str();
            if terminal && shown.len() > LONG {
                let end = (0..=LONG).rev().find(|&at| shown.is_char_boundary(at)).unwrap_or(0);
                shown = &shown[..end];
                let rest = &text.as_bytes()[shown.len()..];
                more = u64::try_from(memchr::memchr_iter(b'\n', rest).count()).unwrap_or(u64::MAX).max(1);
            }
            let lines = wrap(&sanitise_text(shown), room).into_iter();
            lines.map(|line| paint.paint(Label::Plain, line)).collect()
        }
        // How it ended is said when the run is recorded.
        EventKind::Exited { .. } => Vec::new(),
        // Cut before they are painted, which is cheaper by far.
        EventKind::ToolCall { .. } | EventKind::ToolResult { .. } if terminal => {
            let lines = event::lines(paint, event, Some(room - width(indent))).into_iter();
            return (lines.map(|line| format!("{indent}{line}")).collect(), more);
        }
        _ => event::lines(paint, event, None),
    };
    let fit = |line: String| {
        let line = format!("{indent}{line}");
        // Into a file or another program lines go whole.
        if terminal { truncate_str(&line, room, "…").into_owned() } else { line }
    };
    (lines.into_iter().map(fit).collect(), more)
}

/// Breaks text at spaces into lines of at most `room` columns; its own line ends stay, a longer word is cut.
pub(super) fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = Vec::new();
    for line in text.trim_end().lines() {
        let indent: String = line.chars().take_while(|c| *c == ' ').take(room / 2).collect();
        let mut current = indent.clone();
        let mut used = indent.len();
        let mut empty = true;
        for word in line.split(' ').filter(|word| !word.is_empty()) {
            let mut word = word.to_owned();
            let mut wide = width(&word);
            if !empty && used + 1 + wide > room {
                lines.push(std::mem::replace(&mut current, indent.clone()));
                (used, empty) = (indent.len(), true);
            }
            while empty && used + wide > room {
                let fits = truncate_str(&word, room - used, "").into_owned();
                let rest = word.split_off(fits.len().max(word.chars().next().map_or(1, char::len_utf8)));
                lines.push(format!("{current}{word}"));
                current.clone_from(&indent);
                used = indent.len();
                word = rest;
                wide = width(&word);
            }
            if !empty {
                current.push(' ');
                used += 1;
            }
            current.push_str(&word);
            used += wide;
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
}

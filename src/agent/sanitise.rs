//! The one sanitiser of everything that is shown and not ours: agents' words, file contents, names from a remote.
//!
//! What it lets through moves no cursor, sets no title, writes no clipboard and hides no character. Sequences that
//! start with ESC are removed whole, so that coloured output of tools stays readable; control characters, bidi
//! controls and characters without a shape are removed one by one.

use std::borrow::Cow;

/// How long an unterminated control string (a window title, say) may be before it counts as text again.
const MAX_CONTROL_STRING: usize = 4 * 1024;

/// `text` made safe to show as it stands in its lines: newlines and tabs stay.
pub fn sanitise_text(text: &str) -> Cow<'_, str> {
    sanitise(text, Breaks::Kept)
}

/// `text` made safe to show on one line: newlines and tabs become spaces.
pub fn sanitise_line(text: &str) -> Cow<'_, str> {
    sanitise(text, Breaks::Spaces)
}

#[derive(Clone, Copy, PartialEq)]
enum Breaks {
    Kept,
    Spaces,
}

fn sanitise(text: &str, breaks: Breaks) -> Cow<'_, str> {
    let Some(first) = find_hidden(text, 0, breaks) else { return Cow::Borrowed(text) };
    let mut out = String::with_capacity(text.len());
    strip(text, first, breaks, |shown, _| out.push_str(shown));
    Cow::Owned(out)
}

/// A text as [`sanitise_text`] shows it, and where in the text what is shown stands.
pub(super) struct Shown {
    /// What is shown.
    pub(super) text: String,
    /// Where stretches begin that stand in both: in what is shown, and in the text.
    stretches: Vec<(usize, usize)>,
}

impl Shown {
    /// Nothing for a text that is shown as it is: that takes one fast look.
    pub(super) fn new(text: &str) -> Option<Self> {
        let first = find_hidden(text, 0, Breaks::Kept)?;
        let mut shown = Self { text: String::with_capacity(text.len()), stretches: Vec::new() };
        strip(text, first, Breaks::Kept, |stretch, at| {
            if !stretch.is_empty() {
                shown.stretches.push((shown.text.len(), at));
                shown.text.push_str(stretch);
            }
        });
        Some(shown)
    }

    /// Where in `text`, of which this was made, the byte stands that is shown at `at`.
    pub(super) fn place(&self, at: usize) -> usize {
        let (from, there) = self.stretches[self.stretches.partition_point(|(from, _)| *from <= at) - 1];
        there + (at - from)
    }

    /// From where to where in `text`, of which this was made, stands what is shown from `start` to `end` and what is hidden
    /// in it. It is not empty.
    pub(super) fn span(&self, text: &str, start: usize, end: usize) -> (usize, usize) {
        let last = self.place(end - 1) + 1;
        // To the end of the last character.
        let end = (last..text.len()).find(|&end| text.is_char_boundary(end)).unwrap_or(text.len());
        (self.place(start), end)
    }
}

/// The first character at `from` or behind it that is not shown as it is.
fn find_hidden(text: &str, from: usize, breaks: Breaks) -> Option<usize> {
    let (bytes, kept) = (text.as_bytes(), breaks == Breaks::Kept);
    let plain = |byte: &u8| matches!(byte, b' '..=b'~') || kept && matches!(byte, b'\n' | b'\t');
    let mut at = from;
    while at < bytes.len() {
        // Most of it, piece by piece, so that many bytes are compared at once.
        let end = bytes.len().min(at + 64);
        if bytes[at..end].iter().fold(true, |all, byte| all & plain(byte)) {
            at = end;
        }
        while at < end {
            let fine = match bytes[at..] {
                [byte, ..] if byte.is_ascii() => plain(&byte),
                [one, two, ..] if may_hide(one, two) => !text[at..].starts_with(is_hidden),
                _ => true,
            };
            if !fine {
                return Some(at);
            }
            at += match bytes[at] {
                0..0x80 => 1,
                0x80..0xe0 => 2,
                0xe0..0xf0 => 3,
                _ => 4,
            };
        }
    }
    None
}

/// Whether a character beyond ASCII may be hidden, by the first two of its bytes. Most are told by them.
const fn may_hide(one: u8, two: u8) -> bool {
    matches!(
        (one, two),
        (0xc2, ..0xa0 | 0xad)
            | (0xcd, 0x8f)
            | (0xd8, 0x9c)
            | (0xe1, 0x85 | 0x9e | 0xa0)
            | (0xe2, 0x80 | 0x81)
            | (0xe3, 0x85)
            | (0xef, 0xb8 | 0xbb | 0xbe | 0xbf)
            | (0xf0, 0x9b | 0x9d)
            | (0xf3, 0xa0)
    )
}

/// Hands on what is shown of a text, stretch by stretch, each with where it stands. What is hidden first stands at `first`.
fn strip<'t>(text: &'t str, first: usize, breaks: Breaks, mut hand_on: impl FnMut(&'t str, usize)) {
    let (mut from, mut next) = (0, Some(first));
    while let Some(at) = next {
        hand_on(&text[from..at], from);
        let mut chars = text[at..].chars();
        let c = chars.next();
        let after = chars.as_str();
        let mut rest = after;
        match c {
            Some('\n' | '\t') => hand_on(" ", at),
            Some('\r') if after.starts_with('\n') => {}
            // A lone carriage return rewrites the line (progress bars); a line separator ends it.
            Some('\r' | '\u{2028}' | '\u{2029}' | '\u{85}') => {
                hand_on(if breaks == Breaks::Kept { "\n" } else { " " }, at);
            }
            Some('\u{1b}') => rest = after_escape(after),
            Some('\u{9b}') => rest = after_csi(after),
            Some('\u{90}' | '\u{98}' | '\u{9d}'..='\u{9f}') => rest = after_control_string(after),
            _ => {}
        }
        from = text.len() - rest.len();
        next = find_hidden(text, from, breaks);
    }
    hand_on(&text[from..], from);
}

/// What follows the sequence that an ESC before `text` starts.
fn after_escape(text: &str) -> &str {
    match text.as_bytes().first() {
        Some(b'[') => after_csi(&text[1..]),
        Some(b']' | b'P' | b'X' | b'^' | b'_') => after_control_string(&text[1..]),
        // Intermediate bytes, then a final one: `ESC ( B`.
        Some(0x20..=0x2f) => {
            let rest = text.trim_start_matches(|c: char| matches!(c, ' '..='/'));
            rest.strip_prefix(|c: char| matches!(c, '0'..='~')).unwrap_or(rest)
        }
        Some(0x30..=0x7e) => &text[1..],
        _ => text,
    }
}

/// What follows the parameters and the final byte of a control sequence.
fn after_csi(text: &str) -> &str {
    let rest = text.trim_start_matches(|c: char| matches!(c, ' '..='?'));
    rest.strip_prefix(|c: char| matches!(c, '@'..='~')).unwrap_or(rest)
}

/// What follows the end of a control string: BEL, `ESC \` or its one-character form. One that does not end on its
/// line is removed to the end of the line.
fn after_control_string(text: &str) -> &str {
    let limit = super::tool::start(text, MAX_CONTROL_STRING);
    let end = limit.find(['\u{7}', '\u{1b}', '\u{9c}', '\n', '\r']).unwrap_or(limit.len());
    let rest = &text[end..];
    ["\u{7}", "\u{1b}\\", "\u{9c}"].into_iter().find_map(|end| rest.strip_prefix(end)).unwrap_or(rest)
}

/// Whether a character must not reach a terminal as it is: a control character (newline and tab too), or one that
/// reorders others or has no shape. For texts that show such characters instead of removing them.
pub const fn is_hidden(c: char) -> bool {
    is_control(c) || is_invisible(c)
}

const fn is_control(c: char) -> bool {
    matches!(c, '\0'..='\u{1f}' | '\u{7f}'..='\u{9f}')
}

/// Characters that change the order of others or have no shape of their own. The presentation selectors of emoji
/// (U+FE0E, U+FE0F) are let through.
pub(super) const fn is_invisible(c: char) -> bool {
    matches!(
        c,
        '\u{ad}'                        // soft hyphen
            | '\u{34f}'                 // grapheme joiner
            | '\u{61c}'                 // Arabic letter mark
            | '\u{115f}' | '\u{1160}'   // Hangul fillers
            | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}'   // zero width, marks of direction
            | '\u{2028}'..='\u{202e}'   // separators, embedding and override
            | '\u{2060}'..='\u{206f}'   // joiner, invisible operators, isolates
            | '\u{3164}' | '\u{ffa0}'
            | '\u{fe00}'..='\u{fe0d}'   // variation selectors, used to smuggle text
            | '\u{feff}'
            | '\u{fff0}'..='\u{fffb}'
            | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}'
            | '\u{e0000}'..='\u{e0fff}' // tags, more variation selectors
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn harmless_text_is_borrowed() {
        for text in ["", "plain", "naïve 日本 👩 ❤\u{fe0f}", "two\nlines\tand a tab"] {
            assert!(matches!(sanitise_text(text), Cow::Borrowed(same) if same == text), "{text:?}");
        }
    }

    #[test]
    fn sequences_are_removed_whole() {
        for (text, safe) in [
            ("\u{1b}[1;31mred\u{1b}[0m", "red"),
            ("\u{1b}]0;title\u{7}text", "text"),
            ("\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\", "link"),
            ("\u{1b}]52;c;ZXZpbA==\u{9c}clip", "clip"),
            ("a\u{1b}(Bb\u{1b}cc\u{1b}", "abc"),
            ("\u{9b}2Jgone", "gone"),
            ("\u{1b}P+q\u{1b}\\dcs", "dcs"),
            ("\u{1b}]0;never ends\nnext line", "\nnext line"),
            ("\u{1b}\u{1b}[2Kx", "x"),
            ("bell\u{7} back\u{8}space del\u{7f}", "bell backspace del"),
        ] {
            assert_eq!(sanitise_text(text), safe, "{text:?}");
        }
    }

    #[test]
    fn every_character_is_told_by_its_bytes() {
        for c in '\0'..=char::MAX {
            let text = format!("a{c}b");
            let hidden = |kept: bool| (is_hidden(c) && !(kept && matches!(c, '\n' | '\t'))).then_some(1);
            let found = [Breaks::Kept, Breaks::Spaces].map(|breaks| find_hidden(&text, 0, breaks));
            assert_eq!(found, [hidden(true), hidden(false)], "{c:?}");
        }
    }

    #[test]
    fn order_and_invisible_characters_are_removed() {
        assert_eq!(sanitise_text("if \u{202e}admin\u{2066} x\u{200b}y\u{feff}\u{e0041}"), "if admin xy");
    }

    #[test]
    fn breaks_are_kept_in_text_and_spaces_on_a_line() {
        assert_eq!(sanitise_text("a\r\nb\rc\u{2028}d\te"), "a\nb\nc\nd\te");
        assert_eq!(sanitise_line("a\r\nb\rc\u{2028}d\te"), "a b c d e");
    }

    #[test]
    fn what_is_shown_is_found_where_it_stands() {
        let text = "a\u{1b}[1mb\u{200b}c\r\nd\u{2028}é\u{1b}]0;t\u{7}\r";
        let shown = Shown::new(text).unwrap();
        assert_eq!(shown.text, "abc\nd\né\n");
        let there = |part: &str| {
            let at = shown.text.find(part).unwrap();
            let (start, end) = shown.span(text, at, at + part.len());
            &text[start..end]
        };
        assert_eq!((there("ab"), there("bc"), there("c\n")), ("a\u{1b}[1mb", "b\u{200b}c", "c\r\n"));
        assert_eq!((there("d\n"), there("é"), there("é\n")), ("d\u{2028}", "é", "é\u{1b}]0;t\u{7}\r"));
        assert!(Shown::new("naïve 日本 👩 ❤\u{fe0f}\n\t").is_none());
    }

    proptest! {
        #[test]
        fn nothing_unsafe_is_left(text in "(\\PC|\\pC|[\u{1b}\u{9b}\\[\\]\u{7}\n\r]){0,80}") {
            let safe = sanitise_text(&text);
            prop_assert!(safe.chars().all(|c| matches!(c, '\n' | '\t') || !is_control(c) && !is_invisible(c)));
            prop_assert_eq!(sanitise_text(&safe).into_owned(), safe.clone().into_owned());
            let line = sanitise_line(&text);
            prop_assert_eq!(line.find(['\n', '\t', '\r', '\u{1b}']), None);
            let shown = Shown::new(&text);
            prop_assert_eq!(shown.as_ref().map_or(&*text, |shown| &*shown.text), &*safe);
            for (at, c) in shown.iter().flat_map(|shown| shown.text.char_indices()) {
                let (start, end) = shown.as_ref().unwrap().span(&text, at, at + c.len_utf8());
                let there = &text[start..end];
                let breaks = ["\r", "\u{85}", "\u{2028}", "\u{2029}"].contains(&there);
                prop_assert!(there.starts_with(c) || c == '\n' && breaks, "{:?} {:?}", c, there);
            }
        }
    }
}

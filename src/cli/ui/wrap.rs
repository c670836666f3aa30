//! Lines that fit the terminal.

use console::{measure_text_width, truncate_str};
use std::borrow::Cow;

/// How many columns a text takes. Nearly all are plain, and cost no look at each character.
pub(crate) fn width(text: &str) -> usize {
    if is_plain(text) { text.len() } else { measure_text_width(text) }
}

/// `text` in at most `width` columns, with `…` where it was cut.
pub(crate) fn cut(text: &str, width: usize) -> Cow<'_, str> {
    if text.len() <= width && is_plain(text) {
        return Cow::Borrowed(text);
    }
    truncate_str(text, width, "…")
}

/// Whether each byte is a character of one column.
fn is_plain(text: &str) -> bool {
    // Piece by piece, so that many bytes are compared at once.
    let plain = |piece: &[u8]| piece.iter().fold(true, |all, byte| all & matches!(byte, b' '..=b'~'));
    text.as_bytes().chunks(64).all(plain)
}

/// Breaks `line` between words so that no piece is wider than `width`, unless a single word is. Blanks at the line's
/// beginning stand before every piece: lists and code keep their shape.
pub(crate) fn wrap(line: &str, width: usize) -> Vec<String> {
    let words = line.trim_start();
    let indent = &line[..line.len() - words.len()];
    if self::width(line) <= width || indent.len() * 2 > width {
        return vec![line.to_owned()];
    }
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for word in words.split(' ') {
        let grown = indent.len() + self::width(&piece) + 1 + self::width(word);
        if !piece.is_empty() && grown > width {
            pieces.push(format!("{indent}{}", piece.trim_end()));
            piece.clear();
        }
        if !piece.is_empty() {
            piece.push(' ');
        }
        piece.push_str(word);
    }
    pieces.push(format!("{indent}{piece}"));
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_break_between_words_and_keep_their_indent() {
        assert_eq!(wrap("  one two three", 9), ["  one two", "  three"]);
        assert_eq!(wrap("short", 9), ["short"]);
        assert_eq!(wrap("unbreakably-long word", 5), ["unbreakably-long", "word"]);
        assert_eq!(wrap("漢字 漢字", 5), ["漢字", "漢字"]);
    }
}

//! Lines that fit the terminal.

use console::measure_text_width;

/// Breaks `line` between words so that no piece is wider than `width`, unless a single word is. Blanks at the line's
/// beginning stand before every piece: lists and code keep their shape.
pub(crate) fn wrap(line: &str, width: usize) -> Vec<String> {
    let words = line.trim_start();
    let indent = &line[..line.len() - words.len()];
    if measure_text_width(line) <= width || indent.len() * 2 > width {
        return vec![line.to_owned()];
    }
    let mut pieces = Vec::new();
    let mut piece = String::new();
    for word in words.split(' ') {
        let grown = indent.len() + measure_text_width(&piece) + 1 + measure_text_width(word);
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

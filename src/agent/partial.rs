//! Streamed text, gathered into pieces that are worth showing.

use super::{is_hidden, tokens};
use crate::model::{EventKind, Timestamp};
use std::cell::RefCell;

/// A piece is handed on when it is this long, ends a line, or has waited for [`MAX_WAIT`].
const PIECE: usize = 120;
/// A word without end is handed on in stretches of this length.
const MAX_WORD: usize = 2 * 1024;
/// Milliseconds.
const MAX_WAIT: u64 = 200;
/// How much unreported text is kept for the estimate while the tables are loading.
const MAX_UNCOUNTED: usize = 256 * 1024;

/// Whose words are streamed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Voice {
    /// It speaks.
    #[default]
    Says,
    /// It thinks aloud.
    Thinks,
}

/// The message that is being streamed in one conversation.
#[derive(Debug, Default)]
pub(super) struct Partial {
    voice: Voice,
    piece: String,
    handed_on: Timestamp,
    uncounted: RefCell<Uncounted>,
}

#[derive(Debug, Default)]
struct Uncounted {
    text: String,
    tokens: u64,
}

impl Partial {
    /// Takes the next delta; returns a piece if one is due.
    pub(super) fn push(&mut self, voice: Voice, delta: &str, at: Timestamp) -> Option<EventKind> {
        self.generated(delta);
        if self.voice != voice {
            self.piece.clear();
            self.voice = voice;
        }
        if self.piece.is_empty() {
            self.handed_on = at;
        }
        self.piece.push_str(delta);
        let waited = at.0.saturating_sub(self.handed_on.0) >= MAX_WAIT;
        if !(waited || self.piece.len() >= PIECE || delta.contains('\n')) {
            return None;
        }
        // Whole words only: half a secret would not be known as one. Nor would one around half an escape.
        let escapes = self.piece.contains(|c| matches!(c, '\u{1b}' | '\u{80}'..='\u{9f}'));
        let end = match self.piece.rfind(|c| parts(c, escapes)) {
            Some(at) => at + self.piece[at..].chars().next().map_or(0, char::len_utf8),
            None if self.piece.len() >= MAX_WORD => self.piece.len(),
            None => return None,
        };
        let text: String = self.piece.drain(..end).collect();
        self.handed_on = at;
        Some(match voice {
            Voice::Says => EventKind::Text { text, partial: true },
            Voice::Thinks => EventKind::Thinking { text, partial: true },
        })
    }

    /// Counts text that the model generates without showing it as words: a tool's input.
    pub(super) fn generated(&mut self, delta: &str) {
        let uncounted = self.uncounted.get_mut();
        if uncounted.text.len() + delta.len() <= MAX_UNCOUNTED {
            uncounted.text.push_str(delta);
        }
    }

    /// Forgets the rest of the block: the whole one has arrived.
    pub(super) fn block_is_whole(&mut self) {
        self.piece.clear();
    }

    /// Forgets the estimate: the program has reported.
    pub(super) fn reported(&mut self) {
        *self.uncounted.get_mut() = Uncounted::default();
    }

    /// How many tokens the streamed text is that no report covers yet; 0 until the tables are loaded.
    pub(super) fn estimate(&self) -> u64 {
        let mut uncounted = self.uncounted.borrow_mut();
        if !uncounted.text.is_empty()
            && let Some(tokens) = tokens::estimate(&uncounted.text)
        {
            uncounted.tokens += tokens;
            uncounted.text.clear();
        }
        uncounted.tokens
    }
}

/// Whether a text may be cut behind a character: at a blank that is shown; among escapes, which may hold one and end with
/// their line, at the end of a line.
fn parts(c: char, escapes: bool) -> bool {
    c == '\n' || !escapes && c.is_whitespace() && (matches!(c, '\t' | '\r') || !is_hidden(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deltas_are_gathered_until_a_piece_is_worth_showing() {
        let mut partial = Partial::default();
        let mut push = |delta: &str, at| match partial.push(Voice::Says, delta, Timestamp(at)) {
            Some(EventKind::Text { text, partial: true }) => Some(text),
            Some(other) => panic!("{other:?}"),
            None => None,
        };
        assert_eq!(push("a ", 1_000), None);
        assert_eq!(push("b\n", 1_010), Some("a b\n".into()));
        assert_eq!(push("c ", 1_020), None);
        assert_eq!(push("d", 1_220), Some("c ".into()));
        assert_eq!(push("e\u{1b}]0;a title", 1_450), None, "an escape is not cut");
        assert_eq!(push("\u{7}f \n", 1_460), Some("de\u{1b}]0;a title\u{7}f \n".into()));
        assert_eq!(push("g\u{b}h", 1_700), None, "nor a word, where nobody sees it");
        assert_eq!(push(" d", 1_950), Some("g\u{b}h ".into()));
        assert_eq!(push(&"x".repeat(PIECE), 1_230), None);
        assert_eq!(push(&"x".repeat(MAX_WORD), 1_240).map(|text| text.len()), Some(1 + PIECE + MAX_WORD));
    }
}

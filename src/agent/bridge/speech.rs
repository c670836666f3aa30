//! Words that come in pieces: shown as they come, and whole once they end.

use crate::agent::partial::{Partial, Voice};
use crate::model::{EventKind, Timestamp};

/// Words without end become a whole at about this length, in bytes.
const MAX_WHOLE: usize = 256 * 1024;

/// What one voice says right now.
#[derive(Debug, Default)]
pub struct Speech {
    voice: Voice,
    partial: Partial,
    whole: String,
}

impl Speech {
    /// Takes the next words. Another voice ends what the first one said.
    pub fn push(&mut self, voice: Voice, words: &str, at: Timestamp, events: &mut Vec<EventKind>) {
        if voice != self.voice {
            self.end(events);
            self.voice = voice;
        }
        self.whole.push_str(words);
        events.extend(self.partial.push(voice, words, at));
        if self.whole.len() >= MAX_WHOLE {
            // Between words: half a secret would not be known as one.
            let end = self.whole.rfind(char::is_whitespace).filter(|at| *at >= MAX_WHOLE / 2);
            let rest = self.whole.split_off(end.unwrap_or(self.whole.len()));
            self.end(events);
            self.whole = rest;
        }
    }

    /// What was said is whole.
    pub fn end(&mut self, events: &mut Vec<EventKind>) {
        self.partial.block_is_whole();
        // Those who count are on the other side.
        self.partial.reported();
        let text = std::mem::take(&mut self.whole);
        if text.trim().is_empty() {
            return;
        }
        events.push(match self.voice {
            Voice::Says => EventKind::Text { text, partial: false },
            Voice::Thinks => EventKind::Thinking { text, partial: false },
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: Vec<EventKind>) -> Vec<(char, bool, String)> {
        let told = events.into_iter().map(|kind| match kind {
            EventKind::Text { text, partial } => ('s', partial, text),
            EventKind::Thinking { text, partial } => ('t', partial, text),
            other => panic!("{other:?}"),
        });
        told.collect()
    }

    #[test]
    fn pieces_come_first_and_the_whole_repeats_them() {
        let (mut speech, mut events) = (Speech::default(), Vec::new());
        for (voice, words) in [
            (Voice::Thinks, "hm\n"),
            (Voice::Thinks, "well"),
            (Voice::Says, "I "),
            (Voice::Says, "will.\n"),
            (Voice::Says, "Now"),
        ] {
            speech.push(voice, words, Timestamp(1), &mut events);
        }
        speech.end(&mut events);
        speech.end(&mut events);
        let whole = |voice, text: &str| (voice, false, text.to_owned());
        let piece = |voice, text: &str| (voice, true, text.to_owned());
        assert_eq!(
            told(events),
            [piece('t', "hm\n"), whole('t', "hm\nwell"), piece('s', "I will.\n"), whole('s', "I will.\nNow")]
        );
    }

    #[test]
    fn a_flood_of_words_is_cut_between_words() {
        let (mut speech, mut events) = (Speech::default(), Vec::new());
        for _ in 0..MAX_WHOLE / 8 + 10 {
            speech.push(Voice::Says, "word 12", Timestamp(1), &mut events);
            speech.push(Voice::Says, "\n", Timestamp(1), &mut events);
        }
        speech.end(&mut events);
        let wholes: Vec<_> = told(events).into_iter().filter(|(_, partial, _)| !partial).collect();
        assert_eq!(wholes.len(), 2);
        assert!(wholes[0].2.ends_with("word 12") && wholes[0].2.len() <= MAX_WHOLE);
    }
}

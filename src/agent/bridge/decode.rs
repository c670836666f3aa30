//! What programs of our own print, as events.

use crate::agent::partial::Partial;
use crate::agent::sink::Sink;
use crate::agent::tool::one_line;
use crate::agent::{Decoder, lenient, transcript};
use crate::model::{Event, EventKind, Measure, Timestamp, Usage};

/// Decodes the standard output of a program of our own. It prints events: what it says of tokens is of the whole
/// process so far, and its result is the end of its turn.
#[derive(Debug, Default)]
pub struct BridgeDecoder {
    usage: Usage,
    /// Its words since it reported tokens last, for the estimate.
    words: Partial,
    piece: bool,
    idle: bool,
    failure: Option<String>,
    limit: Option<Measure>,
}

impl Decoder for BridgeDecoder {
    fn line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
        self.piece = false;
        let text = lenient::text(line.trim_ascii());
        if text.is_empty() {
            return;
        }
        match transcript::decode(&text) {
            // Only who watches it can say these.
            Ok(Event {
                kind: EventKind::Exited { .. } | EventKind::Parked { .. } | EventKind::Interrupted {},
                ..
            })
            | Err(_) => {
                Sink { at, parent: None, events }.unrecognised(&text);
            }
            Ok(event) => {
                self.learn(&event);
                events.push(Event { at, ..event });
            }
        }
    }

    /// What begins with white space goes on with what was said before it (the rest of a trace), and is in the journal.
    fn error_line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
        let begins = line.first().is_some_and(|first| !first.is_ascii_whitespace() && *first != b'}');
        if begins {
            let text = String::from_utf8_lossy(line).into_owned();
            events.push(Event { at, parent: None, kind: EventKind::Notice { text } });
        }
    }

    fn was_piece(&self) -> bool {
        self.piece
    }

    fn usage(&self) -> Usage {
        Usage { estimated_output: self.words.estimate(), ..self.usage }
    }

    fn is_idle(&self) -> bool {
        self.idle
    }

    fn reported_failure(&self) -> Option<String> {
        self.failure.clone()
    }

    fn limit(&self) -> Option<Measure> {
        self.limit
    }
}

impl BridgeDecoder {
    fn learn(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Usage { usage, .. } => self.count(usage),
            EventKind::Result { subtype, error, text, usage } if event.parent.is_none() => {
                self.count(usage);
                self.idle = true;
                let words = if text.trim().is_empty() { subtype } else { text };
                self.failure = error.then(|| one_line(words));
                self.limit = Measure::ALL.into_iter().find(|measure| *error && measure.key() == subtype);
            }
            EventKind::Text { partial: true, .. } | EventKind::Thinking { partial: true, .. } => {
                self.piece = true;
                self.idle = false;
            }
            EventKind::Text { text, .. } | EventKind::Thinking { text, .. } => {
                self.words.generated(text);
                self.idle = false;
            }
            EventKind::Turn { number } if event.parent.is_none() => {
                self.usage.turns = self.usage.turns.max(*number);
                self.idle = false;
            }
            EventKind::Turn { .. }
            | EventKind::ToolCall { .. }
            | EventKind::ToolResult { .. }
            | EventKind::PermissionAsked { .. } => self.idle = false,
            _ => {}
        }
    }

    /// A report without a figure is none: the estimate stands on.
    fn count(&mut self, usage: &Usage) {
        let turns = self.usage.turns.max(usage.turns);
        if usage.total() > 0 {
            self.words.reported();
            self.usage = *usage;
        }
        self.usage.turns = turns;
    }
}

#[cfg(test)]
mod tests {
    use super::super::event_line;
    use super::*;
    use crate::agent::testing::{assert_lines, told};

    fn decode(decoder: &mut BridgeDecoder, kinds: Vec<EventKind>) -> Vec<Event> {
        let mut events = Vec::new();
        for kind in kinds {
            let line = event_line(&Event { at: Timestamp(9), parent: None, kind });
            decoder.line(line.trim_ascii_end(), Timestamp(1), &mut events);
        }
        events
    }

    fn text(text: &str, partial: bool) -> EventKind {
        EventKind::Text { text: text.into(), partial }
    }

    fn result(subtype: &str, error: bool, text: &str, usage: Usage) -> EventKind {
        EventKind::Result { subtype: subtype.into(), error, text: text.into(), usage }
    }

    #[test]
    fn events_come_out_as_they_went_in_with_our_time() {
        let mut decoder = BridgeDecoder::default();
        let usage = Usage { input: 5, output: 2, turns: 1, ..Usage::default() };
        let kinds = vec![
            EventKind::Ready {
                model: Some("m".into()),
                session: Some("s".into()),
                version: None,
                permissions: None,
            },
            EventKind::Turn { number: 1 },
            text("a b", false),
            result("end_turn", false, "a b", usage),
        ];
        let events = decode(&mut decoder, kinds);
        assert!(events.iter().all(|event| event.at == Timestamp(1)));
        assert_lines(
            &told(events),
            "ready Some(\"m\") Some(\"s\")
             turn 1
             text \"a b\"
             end end_turn false \"a b\" 5+0+0->2 1",
        );
        assert!(decoder.is_idle() && decoder.reported_failure().is_none());
        assert_eq!(decoder.usage(), usage);
        decode(&mut decoder, vec![EventKind::Turn { number: 2 }]);
        assert!(!decoder.is_idle());
        assert_eq!(decoder.usage().turns, 2);
    }

    #[test]
    fn pieces_are_told_from_wholes() {
        let mut decoder = BridgeDecoder::default();
        for (kind, piece) in [(text("a", true), true), (text("a b", false), false)] {
            decode(&mut decoder, vec![kind]);
            assert_eq!(decoder.was_piece(), piece);
        }
        let thinks = EventKind::Thinking { text: "hm".into(), partial: true };
        decode(&mut decoder, vec![thinks]);
        assert!(decoder.was_piece());
    }

    #[test]
    fn failures_and_limits_are_of_the_last_result() {
        let mut decoder = BridgeDecoder::default();
        decode(&mut decoder, vec![result("max-turns", true, "", Usage::default())]);
        assert_eq!(decoder.limit(), Some(Measure::Turns));
        assert_eq!(decoder.reported_failure().as_deref(), Some("max-turns"));
        decode(&mut decoder, vec![result("refusal", true, "no\nnever", Usage::default())]);
        assert_eq!((decoder.limit(), decoder.reported_failure().as_deref()), (None, Some("no …")));
        decode(&mut decoder, vec![result("end_turn", false, "", Usage::default())]);
        assert_eq!((decoder.limit(), decoder.reported_failure()), (None, None));
    }

    #[test]
    fn what_is_no_event_of_its_own_is_kept_and_believed_by_nobody() {
        let mut decoder = BridgeDecoder::default();
        let mut events = Vec::new();
        let exited = event_line(&Event {
            at: Timestamp(1),
            parent: None,
            kind: EventKind::Exited { code: Some(0), signal: None },
        });
        for line in [&b"panicked at"[..], b"{}", b"\xff\xfe", b"{\"type\":\"new\",\"at\":1}", &exited, b" "] {
            decoder.line(line, Timestamp(1), &mut events);
        }
        assert_eq!(events.len(), 5);
        assert!(
            events.iter().all(|event| matches!(event.kind, EventKind::Unrecognised { .. })),
            "{events:?}"
        );
        assert!(!decoder.is_idle());
    }
}

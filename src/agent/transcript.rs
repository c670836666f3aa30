//! One line of a transcript: an event as JSON, redacted. The lines' frame (sequence, CRC) is the journal's.

use super::{AgentError, Redactor};
use crate::model::Event;
use serde_json::Value;

/// `event` as one line of JSON without its newline, every string in it redacted.
///
/// Pieces of streamed text (`partial`) are split between words at best, so a secret of several lines can be spread
/// over two of them: keep the whole texts, not the pieces.
pub fn encode(event: &Event, redactor: &Redactor) -> String {
    let line = serde_json::to_string(event).expect("events are plain data with string keys");
    // Without an escape the line holds its strings as they are: what is clean as a whole is clean in its parts.
    if !line.contains('\\') && redactor.is_clean(&line) {
        return line;
    }
    let mut value: Value = serde_json::from_str(&line).expect("it was written just now");
    redact(&mut value, redactor);
    value.to_string()
}

/// The event that a line holds.
pub fn decode(line: &str) -> Result<Event, AgentError> {
    serde_json::from_str(line).map_err(AgentError::Transcript)
}

fn redact(value: &mut Value, redactor: &Redactor) {
    match value {
        Value::String(text) => {
            if let (std::borrow::Cow::Owned(redacted), _) = redactor.redact(text) {
                *text = redacted;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| redact(value, redactor)),
        Value::Object(fields) => fields.values_mut().for_each(|value| redact(value, redactor)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cost, CostSource, EventKind, Timestamp, ToolTarget, Usage};

    fn kinds() -> Vec<EventKind> {
        let usage = Usage {
            input: 1,
            output: 2,
            cost: Some(Cost { micro_usd: 3, source: CostSource::Computed }),
            ..Usage::default()
        };
        vec![
            EventKind::Ready { model: Some("m".into()), session: None, version: None, permissions: None },
            EventKind::Turn { number: 1 },
            EventKind::Text { text: "a \"b\"\n\u{1b}".into(), partial: false },
            EventKind::Thinking { text: "é😀".into(), partial: true },
            EventKind::ToolCall {
                call: "c".into(),
                tool: "Bash".into(),
                summary: "make".into(),
                target: Some(ToolTarget::Runs("make".into())),
            },
            EventKind::ToolResult { call: "c".into(), ok: true, output: "ok".into() },
            EventKind::PermissionAsked {
                request: "r".into(),
                tool: "Bash".into(),
                summary: "x".into(),
                input: "{\"command\":\"x\"}".into(),
            },
            EventKind::PermissionDenied { tool: "Bash".into(), summary: "x".into() },
            EventKind::Retry {
                attempt: 1,
                max: 10,
                delay_ms: 500,
                status: Some(529),
                error: "overloaded".into(),
            },
            EventKind::Usage { usage },
            EventKind::Result { subtype: "success".into(), error: false, text: "done".into(), usage },
            EventKind::Notice { text: "n".into() },
            EventKind::Unrecognised { raw: "{\"type\":\"x\"}".into() },
            EventKind::Exited { code: Some(0), signal: None },
        ]
    }

    #[test]
    fn every_kind_of_event_survives() {
        let redactor = Redactor::new([("A", "not in there")]);
        for kind in kinds() {
            for parent in [None, Some("toolu_1".to_owned())] {
                let event = Event { at: Timestamp(1_700_000_000_000), parent, kind: kind.clone() };
                let line = encode(&event, &redactor);
                assert!(!line.contains('\n'), "{line}");
                assert_eq!(decode(&line).unwrap(), event);
            }
        }
        assert_eq!(decode("{").unwrap_err().to_string(), "read a transcript line");
    }

    #[test]
    fn secrets_are_removed_from_every_string() {
        let secret = "correct horse battery";
        let redactor = Redactor::new([("KEY", secret)]);
        for kind in kinds() {
            let mut value = serde_json::to_value(Event { at: Timestamp(1), parent: None, kind }).unwrap();
            for (name, field) in value.as_object_mut().unwrap() {
                if field.is_string() && name != "type" {
                    *field = Value::String(format!("say \"{secret}\" or password=hunter22"));
                }
            }
            let event: Event = serde_json::from_value(value).unwrap();
            let line = encode(&event, &redactor);
            assert!(!line.contains(secret) && !line.contains("hunter22"), "{line}");
            assert!(decode(&line).is_ok());
        }
        // Escaped by JSON, the secret is not there as it is.
        let redactor = Redactor::new([("KEY", "line one\nline two")]);
        let kind = EventKind::Notice { text: "x line one\nline two".into() };
        let line = encode(&Event { at: Timestamp(1), parent: None, kind }, &redactor);
        assert!(line.contains("x [redacted:KEY]"), "{line}");
    }
}

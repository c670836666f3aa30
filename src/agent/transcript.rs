//! Events without secrets, and as the lines of a transcript. The lines' frame (sequence, CRC) is the journal's.

use super::{AgentError, Redactor};
use crate::model::{Event, EventKind, Timestamp, ToolTarget};
use serde::Deserialize;
use std::borrow::Cow;

/// `event` as one line of JSON without its newline, every text in it redacted.
///
/// Pieces of streamed text (`partial`) are split between words at best, so a secret of several lines can be spread
/// over two of them: keep the whole texts, not the pieces.
pub fn encode(event: &Event, redactor: &Redactor) -> String {
    let mut event = event.clone();
    redact(&mut event, redactor);
    serde_json::to_string(&event).expect("events are plain data with string keys")
}

/// Takes secrets out of every text of an event: to be kept.
pub fn redact(event: &mut Event, redactor: &Redactor) {
    redact_shown(event, redactor);
    let one = |text: &mut String| clean(text, redactor);
    event.parent.iter_mut().for_each(one);
    match &mut event.kind {
        EventKind::PermissionAsked { request, input, .. } => {
            one(request);
            one(input);
        }
        EventKind::ToolCall { call, .. } | EventKind::ToolResult { call, .. } => one(call),
        _ => {}
    }
}

/// Takes secrets out of what is shown of an event, and leaves what it takes to answer it: the request and its input.
pub fn redact_shown(event: &mut Event, redactor: &Redactor) {
    let one = |text: &mut String| clean(text, redactor);
    match &mut event.kind {
        EventKind::Ready { model, session, version, permissions } => {
            [model, session, version, permissions].into_iter().flatten().for_each(one);
        }
        EventKind::Text { text, .. } | EventKind::Thinking { text, .. } | EventKind::Notice { text } => {
            one(text);
        }
        EventKind::ToolCall { tool, summary, target, .. } => {
            one(tool);
            one(summary);
            if let Some(ToolTarget::Reads(text) | ToolTarget::Writes(text) | ToolTarget::Runs(text)) = target
            {
                one(text);
            }
        }
        EventKind::ToolResult { output, .. } => one(output),
        EventKind::PermissionAsked { tool, summary, questions, .. } => {
            one(tool);
            one(summary);
            for question in questions {
                one(&mut question.text);
                for option in &mut question.options {
                    one(&mut option.label);
                    one(&mut option.description);
                }
            }
        }
        EventKind::PermissionDenied { tool, summary } => {
            one(tool);
            one(summary);
        }
        EventKind::Retry { error, .. } => one(error),
        EventKind::Parked { why, .. } => one(why),
        EventKind::Result { subtype, text, .. } => {
            one(subtype);
            one(text);
        }
        EventKind::Unrecognised { raw } => one(raw),
        EventKind::Turn { .. }
        | EventKind::PermissionWithdrawn { .. }
        | EventKind::Interrupted {}
        | EventKind::Usage { .. }
        | EventKind::Exited { .. } => {}
    }
}

fn clean(text: &mut String, redactor: &Redactor) {
    if let (Cow::Owned(clean), _) = redactor.redact(text) {
        *text = clean;
    }
}

/// The event that a line holds.
pub fn decode(line: &str) -> Result<Event, AgentError> {
    match decode_usual(line) {
        Some(event) => Ok(event),
        None => serde_json::from_str(line).map_err(AgentError::Transcript),
    }
}

/// What nearly all lines hold, in one pass: an event of any kind is gathered field by field before its kind is known.
fn decode_usual(line: &str) -> Option<Event> {
    #[derive(Deserialize)]
    struct Usual<'a> {
        at: Timestamp,
        parent: Option<String>,
        #[serde(borrow, rename = "type")]
        kind: Cow<'a, str>,
        text: Option<String>,
        #[serde(default)]
        partial: bool,
        call: Option<String>,
        tool: Option<String>,
        summary: Option<String>,
        target: Option<ToolTarget>,
        ok: Option<bool>,
        output: Option<String>,
    }
    let Usual { at, parent, kind, text, partial, call, tool, summary, target, ok, output } =
        serde_json::from_str(line).ok()?;
    let kind = match &*kind {
        "text" => EventKind::Text { text: text?, partial },
        "thinking" => EventKind::Thinking { text: text?, partial },
        "tool-call" => EventKind::ToolCall { call: call?, tool: tool?, summary: summary?, target },
        "tool-result" => EventKind::ToolResult { call: call?, ok: ok?, output: output? },
        _ => return None,
    };
    Some(Event { at, parent, kind })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Asked, AskedOption};
    use crate::model::{Cost, CostSource, Usage};
    use serde_json::Value;

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
                questions: vec![Asked {
                    text: "Which?".into(),
                    options: vec![AskedOption { label: "x".into(), description: "y".into() }],
                    several: false,
                }],
            },
            EventKind::PermissionDenied { tool: "Bash".into(), summary: "x".into() },
            EventKind::Retry {
                attempt: 1,
                max: 10,
                delay_ms: 500,
                status: Some(529),
                error: "overloaded".into(),
            },
            EventKind::Usage { usage, context: None },
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
                // With a field gone, or of another type, it is read as by the derived reader, or not at all.
                let whole: serde_json::Map<String, Value> = serde_json::from_str(&line).unwrap();
                for name in whole.keys() {
                    for other in [None, Some(Value::Null), Some(Value::from(7)), Some(Value::from("x"))] {
                        let mut bent = whole.clone();
                        match other {
                            Some(value) => drop(bent.insert(name.clone(), value)),
                            None => drop(bent.remove(name)),
                        }
                        let bent = Value::Object(bent).to_string();
                        assert_eq!(decode(&bent).ok(), serde_json::from_str(&bent).ok(), "{bent}");
                    }
                }
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

//! Secrets taken out of what an agent said, before it is written or shown.

use crate::agent::Redactor;
use crate::model::{Event, EventKind, ToolTarget};
use std::borrow::Cow;

/// A raw line without secrets.
pub(super) fn redact_line<'t>(redactor: &Redactor, text: &'t str) -> Cow<'t, str> {
    redactor.redact(text).0
}

/// Takes secrets out of every text of an event.
pub(super) fn redact_event(redactor: &Redactor, event: &mut Event) {
    let one = |text: &mut String| {
        if let (Cow::Owned(clean), _) = redactor.redact(text) {
            *text = clean;
        }
    };
    let optional = |text: &mut Option<String>| {
        if let Some(text) = text {
            one(text);
        }
    };
    match &mut event.kind {
        EventKind::Ready { model, session, version, permissions } => {
            [model, session, version, permissions].into_iter().for_each(optional);
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
        EventKind::PermissionAsked { tool, summary, .. } | EventKind::PermissionDenied { tool, summary } => {
            one(tool);
            one(summary);
        }
        EventKind::Retry { error, .. } => one(error),
        EventKind::Result { subtype, text, .. } => {
            one(subtype);
            one(text);
        }
        EventKind::Unrecognised { raw } => one(raw),
        EventKind::Turn { .. } | EventKind::Usage { .. } | EventKind::Exited { .. } => {}
    }
}

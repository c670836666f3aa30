//! Gemini CLI's lines as events.

use super::complaints::Complaints;
use super::wire::{Failure, Line, Stats};
use crate::agent::Decoder;
use crate::agent::lenient::{self, Object, Scalar, string_start, without_lone_surrogates};
use crate::agent::partial::{Partial, Voice};
use crate::agent::sink::{MAX_OUTPUT, Sink};
use crate::agent::tool::{self, one_line, start};
use crate::model::{Event, EventKind, Timestamp, Usage};
use serde_json::value::RawValue;
use std::collections::HashMap;
use std::path::Path;

/// A text that is streamed is told whole at this length, in bytes, and then goes on as another.
const MAX_TEXT: usize = 256 * 1024;

/// Decodes the output of one `gemini -o stream-json` process.
///
/// It prints its answers in pieces and never whole, so the whole text is put together here: the pieces are shown as
/// they come and are not stored, as a secret may be spread over several of them.
#[derive(Debug, Default)]
pub struct GeminiDecoder {
    worktree: String,
    usage: Usage,
    partial: Partial,
    /// The text that is being said.
    text: String,
    /// The last whole text.
    last_words: String,
    /// Whether the model answers since it was told something.
    answering: bool,
    /// Calls without a result: tool and summary.
    open: HashMap<String, (String, String)>,
    complaints: Complaints,
    piece: bool,
    idle: bool,
    failure: Option<String>,
}

impl Decoder for GeminiDecoder {
    fn line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
        self.piece = false;
        let text = lenient::text(line.trim_ascii());
        if text.is_empty() {
            return;
        }
        let mut sink = Sink { at, parent: None, events };
        if let Ok(line) = serde_json::from_str::<Line<'_>>(&text) {
            return self.decode(&line, &text, &mut sink);
        }
        let repaired = without_lone_surrogates(&text);
        match serde_json::from_str::<Line<'_>>(&repaired) {
            Ok(line) => self.decode(&line, &text, &mut sink),
            Err(_) => sink.unrecognised(&text),
        }
    }

    fn error_line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
        let mut push = |kind| events.push(Event { at, parent: None, kind });
        self.complaints.line(&String::from_utf8_lossy(line), &mut push);
    }

    fn end(&mut self, at: Timestamp, events: &mut Vec<Event>) {
        self.complaints.end(&mut |kind| events.push(Event { at, parent: None, kind }));
        self.text_is_whole(&mut Sink { at, parent: None, events });
    }

    fn was_piece(&self) -> bool {
        self.piece
    }

    fn usage(&self) -> Usage {
        Usage { estimated_output: self.partial.estimate(), ..self.usage }
    }

    fn is_idle(&self) -> bool {
        self.idle
    }

    fn reported_failure(&self) -> Option<String> {
        self.failure.clone()
    }
}

impl GeminiDecoder {
    /// For a run in `worktree`.
    pub fn new(worktree: &Path) -> Self {
        Self { worktree: worktree.to_string_lossy().into_owned(), ..Self::default() }
    }

    fn decode(&mut self, line: &Line<'_>, raw: &str, sink: &mut Sink<'_>) {
        let kind = line.kind.text();
        let says = kind == "message" && line.role.text() == "assistant";
        if !says {
            self.text_is_whole(sink);
        }
        match kind {
            "init" => {
                self.idle = false;
                sink.push(EventKind::Ready {
                    model: line.model.owned(),
                    session: line.session_id.owned(),
                    version: None,
                    permissions: None,
                });
            }
            "message" if says => {
                self.answers(sink);
                self.says(&line.content, line.delta.is_true(), sink);
            }
            // Our own words.
            "message" if line.role.text() == "user" => self.answering = false,
            "tool_use" => {
                self.answers(sink);
                self.tool_call(line, sink);
            }
            "tool_result" => self.tool_result(line, sink),
            "error" => sink.push(EventKind::Notice { text: line.message.text().to_owned() }),
            "result" => self.result(line, sink),
            _ => sink.unrecognised(raw),
        }
    }

    /// Announces a turn when the model answers after it was told something.
    fn answers(&mut self, sink: &mut Sink<'_>) {
        self.idle = false;
        if !std::mem::replace(&mut self.answering, true) {
            self.usage.turns += 1;
            sink.push(EventKind::Turn { number: self.usage.turns });
        }
    }

    fn says(&mut self, content: &Scalar<'_>, delta: bool, sink: &mut Sink<'_>) {
        if !delta {
            self.text_is_whole(sink);
            self.text.push_str(content.text());
            return self.text_is_whole(sink);
        }
        self.piece = true;
        if self.text.len() > MAX_TEXT {
            self.text_is_whole(sink);
        }
        self.text.push_str(content.text());
        if let Some(piece) = self.partial.push(Voice::Says, content.text(), sink.at) {
            sink.push(piece);
        }
    }

    fn text_is_whole(&mut self, sink: &mut Sink<'_>) {
        self.partial.block_is_whole();
        let text = std::mem::take(&mut self.text);
        if !text.trim().is_empty() {
            self.last_words.clone_from(&text);
            sink.push(EventKind::Text { text, partial: false });
        }
    }

    fn tool_call(&mut self, line: &Line<'_>, sink: &mut Sink<'_>) {
        let input = line.parameters.map_or("{}", RawValue::get);
        let (tool, call) = (line.tool_name.text().to_owned(), line.tool_id.text().to_owned());
        self.partial.generated(start(input, MAX_TEXT));
        let (summary, target) = tool::describe(&tool, input, &self.worktree);
        self.open.insert(call.clone(), (tool.clone(), summary.clone()));
        sink.push(EventKind::ToolCall { call, tool, summary, target });
    }

    fn tool_result(&mut self, line: &Line<'_>, sink: &mut Sink<'_>) {
        self.answering = false;
        let call = line.tool_id.text().to_owned();
        let known = self.open.remove(&call);
        let mut output =
            line.output.map_or_else(String::new, |output| string_start(output, 2 * MAX_OUTPUT.1));
        if let Object(Some(error)) = &line.error {
            // What it prints of some errors is less than what it tells the model.
            if error.message.text().len() > output.len() {
                error.message.text().clone_into(&mut output);
            }
            if error.kind.text() == "policy_violation" {
                let (tool, summary) = known.unwrap_or_default();
                sink.push(EventKind::PermissionDenied { tool, summary });
            }
        }
        let ok = line.status.text() != "error";
        sink.answered(&call, ok, &output);
    }

    fn result(&mut self, line: &Line<'_>, sink: &mut Sink<'_>) {
        let stats = line.stats.0.as_ref().map(Stats::usage).unwrap_or_default();
        self.usage = Usage { turns: self.usage.turns, ..stats };
        self.partial.reported();
        self.idle = true;
        let error = line.status.text() == "error";
        self.failure = error.then(|| failure(&line.error));
        let text = self.failure.clone().unwrap_or_else(|| std::mem::take(&mut self.last_words));
        let subtype = line.status.text().to_owned();
        sink.push(EventKind::Result { subtype, error, text, usage: self.usage });
    }
}

/// Why a result calls itself failed, in one line: `[API Error: {"error":{"code":401,"message":"…"}}]` is `401: …`.
fn failure(error: &Object<Failure<'_>>) -> String {
    let Object(Some(error)) = error else { return "it failed".to_owned() };
    let words = error.message.text();
    let inner = || -> Option<String> {
        let json = words.strip_prefix("[API Error: ")?.strip_suffix(']')?;
        let value: serde_json::Value = serde_json::from_str(json).ok()?;
        let message = value["error"]["message"].as_str()?;
        Some(match value["error"]["code"].as_u64() {
            Some(code) => format!("{code}: {message}"),
            None => message.to_owned(),
        })
    };
    let words = inner().unwrap_or_else(|| words.to_owned());
    one_line(if words.is_empty() { error.kind.text() } else { &words })
}

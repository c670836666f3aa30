//! `replay`: a recorded or hand-written transcript as a program like any other, without account or network.
//!
//! The program is our own (`git-orchestra replay FILE`, see [`play`]); this is the side that starts it and reads
//! what it prints. Three formats are played and read, and may be mixed line by line:
//!
//! - the project's own script (see `wire`): `{"type":"tool_call","tool":"bash","args":{"command":"make"}}`;
//! - a recorded stream of Claude Code, Codex or Gemini CLI (what `git orchestra log --raw` prints);
//! - a transcript of normalised events, as `transcript` writes it.

mod play;
#[cfg(test)]
mod tests;
mod wire;

pub use play::{Stage, play};

use super::claude::ClaudeDecoder;
use super::codex::CodexDecoder;
use super::command::{PROMPT_VARIABLE, whole_prompt};
use super::gemini::GeminiDecoder;
use super::lenient::{self, Scalar};
use super::sink::MAX_RAW;
use super::tool::{self, few_lines};
use super::{Adapter, Decoder, Launch, LaunchRequest, price, transcript};
use crate::model::{ContextUse, Cost, Event, EventKind, Measure, Timestamp, Usage};
use serde_json::value::RawValue;
use wire::Line;

/// Adapter for scripts: runs `PROGRAM replay ARGUMENTS…`, where the program is `git-orchestra` itself and the
/// profile's arguments name the script. The prompt is in `GIT_ORCHESTRA_PROMPT`, for the commands of a script.
#[derive(Debug, Clone, Copy, Default)]
pub struct Replay;

impl Adapter for Replay {
    fn name(&self) -> &'static str {
        "replay"
    }

    fn launch(&self, request: &LaunchRequest) -> Launch {
        let mut argv = request.program.clone();
        argv.push("replay".into());
        argv.extend(request.extra_args.iter().cloned());
        Launch {
            argv,
            env: vec![(PROMPT_VARIABLE.into(), whole_prompt(request).into())],
            ..Launch::default()
        }
    }

    fn decoder(&self, request: &LaunchRequest) -> Box<dyn Decoder> {
        let window = request.model.as_deref().and_then(price::window);
        Box::new(ReplayDecoder { window, ..ReplayDecoder::default() })
    }
}

/// Decodes what `git-orchestra replay` prints.
#[derive(Debug, Default)]
pub struct ReplayDecoder {
    claude: ClaudeDecoder,
    codex: CodexDecoder,
    gemini: GeminiDecoder,
    own: Usage,
    /// How many tokens the model takes that the project's own format speaks of.
    window: Option<u64>,
    piece: bool,
    failure: Option<String>,
}

impl Decoder for ReplayDecoder {
    fn line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
        let text = lenient::text(line.trim_ascii());
        if text.is_empty() {
            return;
        }
        let mut push = |kind| events.push(Event { at, parent: None, kind });
        self.piece = false;
        let Ok(parsed) = serde_json::from_str::<Line<'_>>(&text) else {
            return push(EventKind::Unrecognised { raw: tool::start(&text, MAX_RAW).to_owned() });
        };
        if parsed.is_claude() {
            self.claude.line(line, at, events);
            self.piece = self.claude.was_piece();
            return;
        }
        if parsed.is_gemini() {
            self.gemini.line(line, at, events);
            self.piece = self.gemini.was_piece();
            return;
        }
        if parsed.is_codex() {
            return self.codex.line(line, at, events);
        }
        if parsed.is_event() {
            match transcript::decode(&text) {
                // That process is long gone; how this one ends its own exit tells.
                Ok(Event { kind: EventKind::Exited { .. }, .. }) => {}
                Ok(event) => {
                    match &event.kind {
                        EventKind::Usage { usage, .. } | EventKind::Result { usage, .. } => self.own = *usage,
                        _ => {}
                    }
                    events.push(Event { at, ..event });
                }
                Err(_) => push(EventKind::Unrecognised { raw: tool::start(&text, MAX_RAW).to_owned() }),
            }
            return;
        }
        match self.own_line(&parsed) {
            Some(kind) => push(kind),
            // Those speak to the player only.
            None if matches!(parsed.kind.text(), "wait" | "exit") => {}
            None => push(EventKind::Unrecognised { raw: tool::start(&text, MAX_RAW).to_owned() }),
        }
    }

    fn end(&mut self, at: Timestamp, events: &mut Vec<Event>) {
        self.codex.end(at, events);
        self.gemini.end(at, events);
    }

    fn was_piece(&self) -> bool {
        self.piece
    }

    fn usage(&self) -> Usage {
        let mut usage = self.own;
        for one in [self.claude.usage(), self.codex.usage(), self.gemini.usage()] {
            usage += one;
        }
        usage
    }

    fn is_idle(&self) -> bool {
        self.claude.is_idle() || self.codex.is_idle() || self.gemini.is_idle()
    }

    fn limit(&self) -> Option<Measure> {
        self.claude.limit()
    }

    fn reported_failure(&self) -> Option<String> {
        let own = self.failure.clone().or_else(|| self.claude.reported_failure());
        own.or_else(|| self.codex.reported_failure()).or_else(|| self.gemini.reported_failure())
    }
}

impl ReplayDecoder {
    /// The event of a line in the project's own format.
    fn own_line(&mut self, line: &Line<'_>) -> Option<EventKind> {
        let content = || line.content.text().to_owned();
        Some(match line.kind.text() {
            "ready" => {
                let said = Some(line.window.int()).filter(|window| *window > 0);
                self.window = said.or_else(|| price::window(line.model.text())).or(self.window);
                EventKind::Ready {
                    model: line.model.owned(),
                    session: None,
                    version: line.version.owned(),
                    permissions: None,
                }
            }
            "turn" => {
                self.own.turns = line.number.int().max(self.own.turns.saturating_add(1));
                EventKind::Turn { number: self.own.turns }
            }
            "text" => EventKind::Text { text: content(), partial: false },
            "thinking" => EventKind::Thinking { text: content(), partial: false },
            "notice" => EventKind::Notice { text: content() },
            "tool_call" => {
                let args = line.args.map_or("{}", RawValue::get);
                let (summary, target) = tool::describe(line.tool.text(), args, "");
                let (call, tool) = (line.call.text().to_owned(), line.tool.text().to_owned());
                EventKind::ToolCall { call, tool, summary, target }
            }
            "finding" => EventKind::ToolCall {
                call: line.call.text().to_owned(),
                tool: "finding".to_owned(),
                summary: tool::one_line(line.message.text()),
                target: None,
            },
            "tool_result" => EventKind::ToolResult {
                call: line.call.text().to_owned(),
                ok: !matches!(line.ok, Scalar::Bool(false)),
                output: few_lines(line.output.text(), 20, 2048),
            },
            "usage" => {
                // Each line is what one more message took.
                let message = Usage {
                    input: line.input.int(),
                    output: line.output.int(),
                    cache_read: line.cache_read.int(),
                    cache_write: line.cache_write.int(),
                    cost: line.cost_usd.real().and_then(Cost::reported),
                    ..Usage::default()
                };
                self.own += message;
                let used = message.total();
                let window = self.window.filter(|_| used > 0);
                let fill = window.map(|window| ContextUse { used, window: Some(window) });
                EventKind::Usage { usage: self.own, context: fill }
            }
            "result" => {
                let error = line.error.is_true();
                self.failure = error.then(|| tool::one_line(line.content.text()));
                let subtype = if error { "error" } else { "success" }.to_owned();
                EventKind::Result { subtype, error, text: content(), usage: self.own }
            }
            _ => return None,
        })
    }
}

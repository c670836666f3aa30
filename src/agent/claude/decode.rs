//! Claude Code's lines as events.

use super::tally::{self, Tally};
use super::wire::{self, Block, Delta, Line, Message, RateLimit, StreamEvent, TokenCounts};
use crate::agent::Decoder;
use crate::agent::lenient::{self, Object, Scalar, Shape, string_start, without_lone_surrogates};
use crate::agent::partial::{Partial, Voice};
use crate::agent::price;
use crate::agent::sink::{MAX_OUTPUT, Sink};
use crate::agent::tool::{self, one_line};
use crate::model::{ContextUse, Event, EventKind, Measure, Timestamp, Usage};
use serde_json::value::RawValue;
use std::collections::HashSet;

/// The tool by which the model asks a person, of whom it wants answers and no permission.
const QUESTION_TOOL: &str = "AskUserQuestion";

/// Decodes the standard output of one `claude -p --output-format stream-json` process.
#[derive(Debug, Default)]
pub struct ClaudeDecoder {
    tally: Tally,
    /// The conversations that stream right now: the agent's own (empty parent) and its sub-agents'.
    streams: Vec<Stream>,
    /// The worktree, as the program calls it.
    cwd: String,
    /// Calls whose refusal was told already: the program repeats them with every result.
    denied: HashSet<String>,
    /// Its agents that are at work, beside it or for it. While one is, it is not done.
    agents: HashSet<String>,
    ready: bool,
    idle: bool,
    piece: bool,
    failure: Option<String>,
    limit: Option<Measure>,
    /// The window of the agent's own model.
    window: Option<u64>,
    model: String,
}

#[derive(Debug, Default)]
struct Stream {
    parent: String,
    message: String,
    partial: Partial,
}

impl Decoder for ClaudeDecoder {
    fn line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
        self.piece = false;
        let text = lenient::text(line.trim_ascii());
        if text.is_empty() {
            return;
        }
        if let Ok(line) = serde_json::from_str::<Line<'_>>(&text) {
            return self.decode(line, &text, at, events);
        }
        let repaired = without_lone_surrogates(&text);
        match serde_json::from_str::<Line<'_>>(&repaired) {
            Ok(line) => self.decode(line, &text, at, events),
            Err(_) => Sink { at, parent: None, events }.unrecognised(&text),
        }
    }

    fn was_piece(&self) -> bool {
        self.piece
    }

    fn usage(&self) -> Usage {
        let estimated_output = self.streams.iter().map(|stream| stream.partial.estimate()).sum();
        Usage { estimated_output, ..self.tally.usage() }
    }

    fn is_idle(&self) -> bool {
        self.idle && self.agents.is_empty()
    }

    fn reported_failure(&self) -> Option<String> {
        self.failure.clone()
    }

    fn limit(&self) -> Option<Measure> {
        self.limit
    }
}

impl ClaudeDecoder {
    fn decode(&mut self, line: Line<'_>, raw: &str, at: Timestamp, events: &mut Vec<Event>) {
        let mut sink = Sink { at, parent: line.parent_tool_use_id.owned(), events };
        match line.kind.text() {
            "stream_event" => match line.event {
                Object(Some(event)) => self.stream_event(event, &mut sink),
                Object(None) => sink.unrecognised(raw),
            },
            "assistant" => match line.message {
                Object(Some(message)) => self.assistant(message, raw, &mut sink),
                Object(None) => sink.unrecognised(raw),
            },
            "user" => match line.message {
                Object(Some(message)) => user(message, raw, &mut sink),
                Object(None) => sink.unrecognised(raw),
            },
            "system" => self.system(&line, raw, &mut sink),
            "result" => self.result(line, &mut sink),
            "control_request" => self.control_request(&line, raw, &mut sink),
            "control_response" => {
                if let Object(Some(response)) = &line.response
                    && response.subtype.text() == "error"
                {
                    sink.notice(format!("a request was refused: {}", response.error.text()));
                }
            }
            "control_cancel_request" => {
                sink.push(EventKind::PermissionWithdrawn { request: line.request_id.text().to_owned() });
            }
            "rate_limit_event" => match &line.rate_limit_info {
                Object(Some(info)) => rate_limit(info, at, &mut sink),
                Object(None) => sink.unrecognised(raw),
            },
            "keep_alive" | "tool_progress" => {}
            _ => sink.unrecognised(raw),
        }
    }

    fn system(&mut self, line: &Line<'_>, raw: &str, sink: &mut Sink<'_>) {
        match line.subtype.text() {
            "init" => {
                self.idle = false;
                line.cwd.text().clone_into(&mut self.cwd);
                line.model.text().clone_into(&mut self.model);
                self.window = self.window.or_else(|| price::window(&self.model));
                // With streaming input it comes again with each turn.
                if !std::mem::replace(&mut self.ready, true) {
                    sink.push(EventKind::Ready {
                        model: line.model.owned(),
                        session: line.session_id.owned(),
                        version: line.claude_code_version.owned(),
                        permissions: line.permission_mode.owned(),
                    });
                }
            }
            "api_retry" => sink.push(EventKind::Retry {
                attempt: line.attempt.int(),
                max: line.max_retries.int(),
                delay_ms: line.retry_delay_ms.int(),
                status: u16::try_from(line.error_status.int()).ok().filter(|&status| status > 0),
                error: line.error.text().to_owned(),
            }),
            "status" => {
                if let Some(status) = line.status.some_text().filter(|&status| status != "requesting") {
                    sink.notice(status);
                }
            }
            "compact_boundary" => sink.notice("the conversation was summed up to make room"),
            "hook_response" => {
                let failed = !matches!(line.outcome.text(), "" | "success") || line.exit_code.int() > 0;
                if failed {
                    let why = one_line(line.stderr.text());
                    sink.notice(format!("hook {} failed: {why}", line.hook_name.text()));
                }
            }
            // What it started for good (a server) is not waited for.
            "task_started" if line.task_type.text() == "local_agent" => {
                self.agents.insert(line.task_id.text().to_owned());
            }
            "task_notification" => drop(self.agents.remove(line.task_id.text())),
            "task_updated" => {
                let status = line.patch.0.as_ref().map_or("", |patch| patch.status.text());
                if !matches!(status, "" | "pending" | "running") {
                    self.agents.remove(line.task_id.text());
                }
            }
            // The same is said by other lines: the call of the sub-agent and its result, deltas, usage.
            "hook_started" | "hook_progress" | "thinking_tokens" | "task_started" | "task_progress" => {}
            _ => sink.unrecognised(raw),
        }
    }

    fn stream_event(&mut self, event: StreamEvent<'_>, sink: &mut Sink<'_>) {
        match event.kind.text() {
            "content_block_delta" => {
                self.piece = true;
                if let Object(Some(delta)) = event.delta {
                    self.delta(&delta, sink);
                }
            }
            "content_block_stop" => self.stream(sink).partial.block_is_whole(),
            "message_start" => {
                if let Object(Some(message)) = event.message {
                    self.idle = false;
                    self.message(&message, sink);
                    let stream = self.stream(sink);
                    *stream = Stream {
                        parent: std::mem::take(&mut stream.parent),
                        message: message.id.text().to_owned(),
                        partial: Partial::default(),
                    };
                }
            }
            "message_delta" => {
                if let Object(Some(counts)) = event.usage {
                    let main = sink.parent.is_none();
                    let stream = self.stream(sink);
                    stream.partial.reported();
                    let id = std::mem::take(&mut stream.message);
                    if !id.is_empty() {
                        self.tally.message(&id, "", &counts.usage(), main);
                    }
                    // What a sub-agent says fills another window.
                    let used = self.tally.of(&id).filter(|_| main);
                    let context = used.map(|used| ContextUse { used: used.total(), window: self.window });
                    self.stream(sink).message = id;
                    sink.push(EventKind::Usage { usage: self.tally.usage(), context });
                }
            }
            "message_stop" => {
                let parent = sink.parent.as_deref().unwrap_or_default();
                self.streams.retain(|stream| stream.parent != parent);
            }
            // `content_block_start` is empty, `ping` too; of what may come later the whole message tells.
            _ => {}
        }
    }

    fn delta(&mut self, delta: &Delta<'_>, sink: &mut Sink<'_>) {
        let at = sink.at;
        let partial = &mut self.stream(sink).partial;
        let piece = match delta.kind.text() {
            "text_delta" => partial.push(Voice::Says, delta.text.text(), at),
            "thinking_delta" => partial.push(Voice::Thinks, delta.thinking.text(), at),
            "input_json_delta" => {
                partial.generated(delta.partial_json.text());
                None
            }
            _ => None,
        };
        if let Some(piece) = piece {
            sink.push(piece);
        }
    }

    /// The stream of the conversation that the line belongs to.
    fn stream(&mut self, sink: &Sink<'_>) -> &mut Stream {
        let parent = sink.parent.as_deref().unwrap_or_default();
        let at = self.streams.iter().position(|stream| stream.parent == parent).unwrap_or_else(|| {
            self.streams.push(Stream { parent: parent.to_owned(), ..Stream::default() });
            self.streams.len() - 1
        });
        &mut self.streams[at]
    }

    /// Counts a message, and announces the turn that it starts.
    fn message(&mut self, message: &Message<'_>, sink: &mut Sink<'_>) {
        let Some(id) = message.id.some_text() else { return };
        let usage = message.usage.0.as_ref().map(TokenCounts::usage).unwrap_or_default();
        let main = sink.parent.is_none();
        if let Some(number) = self.tally.message(id, message.model.text(), &usage, main) {
            sink.push(EventKind::Turn { number });
        }
    }

    fn assistant(&mut self, message: Message<'_>, raw: &str, sink: &mut Sink<'_>) {
        self.idle = false;
        // Words of the program itself (`API Error: …`) come from a model of this name, without tokens.
        if message.model.text() != "<synthetic>" {
            self.message(&message, sink);
        }
        let blocks = match message.content {
            Shape::List(blocks) => blocks,
            Shape::Text(text) => {
                return sink.push(EventKind::Text { text: text.into_owned(), partial: false });
            }
            Shape::Object(_) | Shape::Other => return sink.unrecognised(raw),
        };
        if let Some(stream) =
            self.streams.iter_mut().find(|s| s.parent == sink.parent.as_deref().unwrap_or(""))
        {
            stream.partial.block_is_whole();
        }
        for block in blocks {
            match block.kind.text() {
                "text" => {
                    sink.push(EventKind::Text { text: block.text.into_text().into_owned(), partial: false });
                }
                "thinking" => sink.push(EventKind::Thinking {
                    text: block.thinking.into_text().into_owned(),
                    partial: false,
                }),
                "redacted_thinking" => {}
                "tool_use" | "server_tool_use" | "mcp_tool_use" => self.tool_call(&block, sink),
                kind if kind.ends_with("tool_result") => tool_result(&block, sink),
                _ => sink.unrecognised(raw),
            }
        }
    }

    fn tool_call(&self, block: &Block<'_>, sink: &mut Sink<'_>) {
        let input = block.input.map_or("{}", RawValue::get);
        let (summary, target) = tool::describe(block.name.text(), input, &self.cwd);
        sink.push(EventKind::ToolCall {
            call: block.id.text().to_owned(),
            tool: block.name.text().to_owned(),
            summary,
            target,
        });
    }

    fn control_request(&self, line: &Line<'_>, raw: &str, sink: &mut Sink<'_>) {
        match &line.request {
            Object(Some(request)) if request.subtype.text() == "can_use_tool" => {
                let input = request.input.map_or("{}", RawValue::get);
                let tool = request.tool_name.text();
                let (mut summary, _) = tool::describe(tool, input, &self.cwd);
                let questions = if tool == QUESTION_TOOL { wire::questions(input) } else { Vec::new() };
                if let Some(first) = questions.first() {
                    summary = tool::one_line(&first.text);
                }
                sink.push(EventKind::PermissionAsked {
                    request: line.request_id.text().to_owned(),
                    tool: tool.to_owned(),
                    summary,
                    input: input.to_owned(),
                    questions,
                });
            }
            _ => sink.unrecognised(raw),
        }
    }

    fn result(&mut self, line: Line<'_>, sink: &mut Sink<'_>) {
        let process = line.model_usage.0.as_ref().map(|models| {
            tally::sum(models.values().filter_map(|Object(usage)| usage.as_ref().map(TokenCounts::usage)))
        });
        let own = line.model_usage.0.as_ref().and_then(|models| models.get(self.model.as_str())?.0.as_ref());
        self.window = own.and_then(TokenCounts::window).or(self.window);
        let turn = line.usage.0.as_ref().map(TokenCounts::usage);
        self.tally.settle(process, turn, line.total_cost_usd.real());
        self.streams.clear();
        self.idle = true;
        let error = line.is_error.is_true() || line.subtype.text().starts_with("error");
        self.failure = error.then(|| failure(&line));
        self.limit = match line.subtype.text() {
            "error_max_turns" => Some(Measure::Turns),
            "error_max_budget_usd" => Some(Measure::Cost),
            _ => None,
        };
        if let Shape::List(denials) = line.permission_denials {
            for denial in denials {
                if self.denied.insert(denial.call.text().to_owned()) {
                    let input = denial.input.map_or("{}", RawValue::get);
                    let (summary, _) = tool::describe(denial.tool.text(), input, &self.cwd);
                    sink.push(EventKind::PermissionDenied { tool: denial.tool.text().to_owned(), summary });
                }
            }
        }
        let text = match self.failure.clone() {
            Some(failure) if line.result.text().is_empty() => failure,
            _ => line.result.into_text().into_owned(),
        };
        sink.push(EventKind::Result {
            subtype: line.subtype.text().to_owned(),
            error,
            text,
            usage: self.tally.usage(),
        });
    }
}

/// What an account's limits allow, as the program's types have it; on the wire it was not seen, as only subscriptions have
/// these limits.
fn rate_limit(info: &RateLimit<'_>, at: Timestamp, sink: &mut Sink<'_>) {
    let resets = info.resets_at.int().saturating_mul(1000);
    let what = info.kind.text();
    match info.status.text() {
        "rejected" => sink.push(EventKind::Retry {
            attempt: 0,
            max: 0,
            delay_ms: resets.saturating_sub(at.0),
            status: Some(429),
            error: format!("rate_limit {what}").trim_end().to_owned(),
        }),
        "allowed_warning" => sink.notice(format!("the limit of its account is near: {what}")),
        _ => {}
    }
}

/// Why a result calls itself failed, in one line.
fn failure(line: &Line<'_>) -> String {
    if line.terminal_reason.text().starts_with("aborted") {
        return "interrupted".to_owned();
    }
    let words = line.errors.0.iter().find_map(Scalar::some_text).or_else(|| line.result.some_text());
    one_line(words.unwrap_or_else(|| line.subtype.text()))
}

fn user(message: Message<'_>, raw: &str, sink: &mut Sink<'_>) {
    match message.content {
        Shape::Text(text) => sink.notice(one_line(&text)),
        Shape::List(blocks) => {
            for block in blocks {
                match block.kind.text() {
                    kind if kind.ends_with("tool_result") => tool_result(&block, sink),
                    "text" => sink.notice(one_line(block.text.text())),
                    "image" | "document" => {}
                    _ => sink.unrecognised(raw),
                }
            }
        }
        Shape::Object(_) | Shape::Other => sink.unrecognised(raw),
    }
}

fn tool_result(block: &Block<'_>, sink: &mut Sink<'_>) {
    let output = match block.content {
        Some(content) if content.get().starts_with('"') => string_start(content, 2 * MAX_OUTPUT.1),
        Some(content) if content.get().starts_with('[') => {
            let blocks: Vec<Object<Block<'_>>> = serde_json::from_str(content.get()).unwrap_or_default();
            let blocks = blocks.into_iter().filter_map(|Object(block)| block);
            let texts = blocks.map(|block| match block.kind.text() {
                "text" => block.text.into_text().into_owned(),
                kind => format!("[{kind}]"),
            });
            texts.collect::<Vec<_>>().join("\n")
        }
        Some(content) => content.get().to_owned(),
        None => String::new(),
    };
    sink.answered(block.tool_use_id.text(), !block.is_error.is_true(), &output);
}

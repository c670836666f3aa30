//! Codex's lines as events.

use super::wire::{Item, Line, Todo, TokenCounts};
use crate::agent::Decoder;
use crate::agent::lenient::{self, Object, Shape, string_start, without_lone_surrogates};
use crate::agent::refusal::{named_status, pause_ms};
use crate::agent::sink::{MAX_OUTPUT, Sink};
use crate::agent::tool::{self, one_line, relative};
use crate::model::{Event, EventKind, Timestamp, ToolTarget, Usage};
use serde_json::value::RawValue;
use std::collections::HashSet;
use std::path::Path;

/// Decodes the standard output of one `codex exec --json` process.
#[derive(Debug, Default)]
pub struct CodexDecoder {
    worktree: String,
    /// What earlier runs of the conversation took: the program counts them in.
    before: Usage,
    usage: Usage,
    /// Calls that began and did not end.
    open: HashSet<String>,
    /// An error that the end of the turn most often repeats.
    error: Option<String>,
    last_words: String,
    todo: String,
    idle: bool,
    failure: Option<String>,
}

impl Decoder for CodexDecoder {
    fn line(&mut self, line: &[u8], at: Timestamp, events: &mut Vec<Event>) {
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

    fn end(&mut self, at: Timestamp, events: &mut Vec<Event>) {
        self.tell_error(&mut Sink { at, parent: None, events });
    }

    fn usage(&self) -> Usage {
        self.usage
    }

    fn is_idle(&self) -> bool {
        self.idle
    }

    fn reported_failure(&self) -> Option<String> {
        self.failure.clone()
    }
}

impl CodexDecoder {
    /// For a run in `worktree` that goes on with a conversation in which earlier runs took `before`.
    pub fn new(worktree: &Path, before: Usage) -> Self {
        Self { worktree: worktree.to_string_lossy().into_owned(), before, ..Self::default() }
    }

    fn decode(&mut self, line: &Line<'_>, raw: &str, sink: &mut Sink<'_>) {
        let kind = line.kind.text();
        if kind != "turn.failed" {
            self.tell_error(sink);
        }
        match kind {
            "thread.started" => sink.push(EventKind::Ready {
                model: None,
                session: line.thread_id.owned(),
                version: None,
                permissions: None,
            }),
            "turn.started" => {
                self.idle = false;
                self.usage.turns += 1;
                sink.push(EventKind::Turn { number: self.usage.turns });
            }
            "turn.completed" => {
                let counts = line.usage.0.as_ref().map(TokenCounts::usage);
                self.count(&counts.unwrap_or_default());
                self.failure = None;
                sink.push(EventKind::Usage { usage: self.usage, context: None });
                let words = std::mem::take(&mut self.last_words);
                self.over("completed", words, sink);
            }
            "turn.failed" => {
                let told = self.error.take();
                let words = line.error.0.as_ref().and_then(|error| error.message.some_text());
                let words = words.map(one_line).or(told).unwrap_or_else(|| "the turn failed".to_owned());
                self.failure = Some(words.clone());
                self.over("failed", words, sink);
            }
            "error" => self.complaint(line.message.text(), sink),
            "item.started" | "item.updated" | "item.completed" => match &line.item {
                Object(Some(item)) => self.item(item, kind == "item.completed", raw, sink),
                Object(None) => sink.unrecognised(raw),
            },
            _ => sink.unrecognised(raw),
        }
    }

    fn over(&mut self, subtype: &str, text: String, sink: &mut Sink<'_>) {
        self.idle = true;
        let (subtype, error) = (subtype.to_owned(), self.failure.is_some());
        sink.push(EventKind::Result { subtype, error, text, usage: self.usage });
    }

    /// Takes the figures of the whole conversation; this run's are what is new in them.
    fn count(&mut self, sum: &Usage) {
        let Self { before, usage, .. } = self;
        usage.input = sum.input.saturating_sub(before.input).max(usage.input);
        usage.output = sum.output.saturating_sub(before.output).max(usage.output);
        usage.cache_read = sum.cache_read.saturating_sub(before.cache_read).max(usage.cache_read);
        usage.cache_write = sum.cache_write.saturating_sub(before.cache_write).max(usage.cache_write);
    }

    /// `Reconnecting... 2/5 (why)` is a retry; anything else is what the turn will fail with.
    fn complaint(&mut self, words: &str, sink: &mut Sink<'_>) {
        let Some((attempt, max, why)) = reconnecting(words) else {
            self.failure = Some(one_line(words));
            self.error = Some(one_line(words));
            return;
        };
        sink.push(EventKind::Retry {
            attempt,
            max,
            delay_ms: pause_ms(why).unwrap_or(0),
            status: named_status(why),
            error: one_line(why),
        });
    }

    fn tell_error(&mut self, sink: &mut Sink<'_>) {
        if let Some(error) = self.error.take() {
            sink.notice(error);
        }
    }

    fn item(&mut self, item: &Item<'_>, done: bool, raw: &str, sink: &mut Sink<'_>) {
        match item.kind.text() {
            "agent_message" | "plan" if done => {
                item.text.text().clone_into(&mut self.last_words);
                sink.push(EventKind::Text { text: self.last_words.clone(), partial: false });
            }
            "reasoning" if done => {
                sink.push(EventKind::Thinking { text: item.text.text().to_owned(), partial: false });
            }
            // The whole one follows.
            "agent_message" | "plan" | "reasoning" => {}
            "error" => sink.notice(item.message.text()),
            "todo_list" => self.todo_list(&item.items, sink),
            "file_change" => self.file_change(item, done, sink),
            kind @ ("command_execution" | "mcp_tool_call" | "collab_tool_call" | "web_search") => {
                self.tool(kind, item, done, sink);
            }
            _ => sink.unrecognised(raw),
        }
    }

    fn tool(&mut self, kind: &str, item: &Item<'_>, done: bool, sink: &mut Sink<'_>) {
        let id = item.id.text();
        // Of a call that nobody saw beginning the end tells both.
        if self.begins(id, done) {
            let (tool, summary, target) = self.call(kind, item);
            sink.called(id, &tool, summary, target);
        }
        if done {
            let output = match (item.aggregated_output, &item.error, &item.result) {
                (_, Object(Some(error)), _) => error.message.text().to_owned(),
                (Some(output), ..) => string_start(output, 2 * MAX_OUTPUT.1),
                (None, _, Object(Some(answer))) => match &answer.content {
                    Shape::List(blocks) => {
                        blocks.iter().map(|block| block.message.text()).collect::<Vec<_>>().join("\n")
                    }
                    _ => String::new(),
                },
                _ => String::new(),
            };
            sink.answered(id, !matches!(item.status.text(), "failed" | "declined"), &output);
            if item.status.text() == "declined" {
                let (tool, summary, _) = self.call(kind, item);
                sink.push(EventKind::PermissionDenied { tool, summary });
            }
        }
    }

    /// Tool, summary and target of a call.
    fn call(&self, kind: &str, item: &Item<'_>) -> (String, String, Option<ToolTarget>) {
        match kind {
            "command_execution" => {
                let command = without_shell(item.command.text());
                let (summary, target) = tool::describe_command(&command);
                (kind.to_owned(), summary, Some(target))
            }
            "mcp_tool_call" => {
                let input = item.arguments.map_or("{}", RawValue::get);
                let (summary, _) = tool::describe(item.tool.text(), input, &self.worktree);
                (format!("{}/{}", item.server.text(), item.tool.text()), summary, None)
            }
            "collab_tool_call" => (item.tool.text().to_owned(), one_line(item.prompt.text()), None),
            _ => (kind.to_owned(), one_line(item.query.text()), None),
        }
    }

    /// One call for each file.
    fn file_change(&mut self, item: &Item<'_>, done: bool, sink: &mut Sink<'_>) {
        let Shape::List(changes) = &item.changes else { return };
        let begins = self.begins(item.id.text(), done);
        for (number, change) in changes.iter().enumerate() {
            let call = match number {
                0 => item.id.text().to_owned(),
                _ => format!("{}/{number}", item.id.text()),
            };
            let path = relative(change.path.text(), &self.worktree);
            if begins {
                let summary = match change.kind.text() {
                    "" | "update" => one_line(path),
                    kind => one_line(&format!("{kind} {path}")),
                };
                sink.called(&call, "file_change", summary, Some(ToolTarget::Writes(path.to_owned())));
            }
            if done {
                sink.answered(&call, item.status.text() != "failed", "");
            }
        }
    }

    /// Notes that a call goes on, or that it is over; whether it was not known before.
    fn begins(&mut self, id: &str, done: bool) -> bool {
        if done { !self.open.remove(id) } else { self.open.insert(id.to_owned()) }
    }

    fn todo_list(&mut self, items: &Shape<'_, Todo<'_>>, sink: &mut Sink<'_>) {
        let Shape::List(items) = items else { return };
        let done = items.iter().filter(|item| item.completed.is_true()).count();
        let next = items.iter().find(|item| !item.completed.is_true()).map_or("", |item| item.text.text());
        let text = one_line(&format!("plan: {done} of {} done; {next}", items.len()));
        let text = text.trim_end_matches("; ").to_owned();
        if self.todo != text {
            sink.notice(text.as_str());
            self.todo = text;
        }
    }
}

/// The parts of `Reconnecting... 2/5 (why)`.
fn reconnecting(words: &str) -> Option<(u64, u64, &str)> {
    let rest = words.strip_prefix("Reconnecting...")?.trim_start();
    let (count, why) = rest.split_once(' ').unwrap_or((rest, ""));
    let (attempt, max) = count.split_once('/')?;
    let why = why.trim().strip_prefix('(').unwrap_or(why);
    Some((attempt.parse().ok()?, max.parse().ok()?, why.strip_suffix(')').unwrap_or(why)))
}

/// The command inside `/bin/bash -lc '…'`, as the model wrote it; anything else as it is.
pub(in crate::agent) fn without_shell(command: &str) -> String {
    let inner = [" -lc ", " -c "].into_iter().find_map(|flag| {
        let (shell, word) = command.split_once(flag)?;
        (shell.ends_with("sh") && !shell.contains(' ')).then_some(word)
    });
    let Some(word) = inner else { return command.to_owned() };
    let quoted = |quote: char| word.strip_prefix(quote)?.strip_suffix(quote);
    if let Some(inside) = quoted('\'')
        && !inside.replace("'\\''", "").contains('\'')
    {
        return inside.replace("'\\''", "'");
    }
    match quoted('"') {
        Some(inside) => unescaped(inside),
        None => word.to_owned(),
    }
}

/// What stands in double quotes, as a shell reads it.
fn unescaped(quoted: &str) -> String {
    let mut out = String::with_capacity(quoted.len());
    let mut characters = quoted.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\\'
            && let Some(next) = characters.next_if(|next| "\"\\$`".contains(*next))
        {
            out.push(next);
        } else {
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_shown_without_their_shell() {
        assert_eq!(without_shell("/bin/bash -lc 'ls; echo hi'"), "ls; echo hi");
        assert_eq!(without_shell("/usr/bin/zsh -lc ls"), "ls");
        assert_eq!(without_shell(r"/bin/bash -lc 'echo '\''a b'\'''"), "echo 'a b'");
        assert_eq!(without_shell(r#"/bin/bash -lc "echo 'a' \"b\" \$x""#), "echo 'a' \"b\" $x");
        assert_eq!(without_shell("grep -c x"), "grep -c x");
        assert_eq!(without_shell(r"bash -lc 'a' 'b'"), "'a' 'b'");
        assert_eq!(without_shell(""), "");
    }

    #[test]
    fn a_retry_is_told_from_an_error() {
        assert_eq!(reconnecting("Reconnecting... 2/5 (why (so))"), Some((2, 5, "why (so)")));
        assert_eq!(reconnecting("Reconnecting... 1/5"), Some((1, 5, "")));
        assert_eq!(reconnecting("Quota exceeded."), None);
    }
}

//! A scripted model behind the Anthropic API on 127.0.0.1: it makes the real Claude Code do what a test says.
//!
//! A conversation chooses its script by what the user says: a marker `[script:NAME]`, or, for scripts whose name is
//! a phrase of several words, the phrase itself; the last one counts. Each request takes the step whose number is
//! how often the model has answered since. So the same conversation always gets the same answers, however often a
//! client repeats a request, resumes or restarts.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use super::http::{Pieces, Request, Responder, Server};

/// One answer of the model.
#[derive(Debug, Clone, Default)]
pub(crate) struct Step {
    /// What it thinks first, with the signature of that; may be empty.
    thinking: [String; 2],
    /// What it says then; may be empty when it calls tools.
    text: String,
    /// The tools it calls then, with their inputs. Without any, its turn ends.
    calls: Vec<(String, Value)>,
    /// What this answer consumed.
    tokens: Tokens,
    /// Failures that come first.
    failures: Vec<Failure>,
    /// Waits at this gate before it answers.
    gate: Option<Gate>,
    /// Answers after this time.
    delay: Duration,
    /// Begins to answer and never goes on.
    hangs: bool,
}

/// The figures that an answer reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub(crate) input: u64,
    pub(crate) output: u64,
    pub(crate) cache_read: u64,
    pub(crate) cache_write: u64,
}

impl Default for Tokens {
    fn default() -> Self {
        Self { input: 100, output: 20, cache_read: 0, cache_write: 0 }
    }
}

#[derive(Debug, Clone)]
enum Failure {
    Refused { status: u16, retry_after: Option<u64> },
    Odd(Odd),
}

/// How an answer goes wrong that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Odd {
    /// It ends in the middle of its first block.
    Cut,
    /// What comes is no JSON.
    Garbled,
    /// A line that has no end for 9 MiB.
    LongLine,
    /// It never ends.
    Endless,
    /// It is refused after it has begun.
    Overloaded,
}

#[derive(Debug, Clone)]
struct Gate {
    name: String,
    /// Opens by itself when so many requests wait at it; `None`: only by [`Endpoint::open`].
    meet: Option<usize>,
}

impl Step {
    /// The model says `text`, and its turn is over.
    pub(crate) fn say(text: &str) -> Self {
        Self { text: text.to_owned(), ..Self::default() }
    }

    /// The model calls a tool.
    pub(crate) fn call(tool: &str, input: Value) -> Self {
        Self::default().and(tool, input)
    }

    /// …writes a file. `{cwd}` in a path or command stands for the client's working directory.
    pub(crate) fn write(path: &str, content: &str) -> Self {
        Self::call("Write", json!({"file_path": format!("{{cwd}}/{path}"), "content": content}))
    }

    /// …replaces `old` by `new` in a file that it has read.
    pub(crate) fn edit(path: &str, old: &str, new: &str) -> Self {
        let path = format!("{{cwd}}/{path}");
        Self::call("Edit", json!({"file_path": path, "old_string": old, "new_string": new}))
    }

    /// …reads a file.
    pub(crate) fn read(path: &str) -> Self {
        Self::call("Read", json!({"file_path": format!("{{cwd}}/{path}")}))
    }

    /// …runs a command.
    pub(crate) fn bash(command: &str) -> Self {
        Self::call("Bash", json!({"command": command, "description": "As the script says"}))
    }

    /// A further tool call in the same answer.
    pub(crate) fn and(mut self, tool: &str, input: Value) -> Self {
        self.calls.push((tool.to_owned(), input));
        self
    }

    /// Says this before it calls its tools.
    pub(crate) fn saying(mut self, text: &str) -> Self {
        text.clone_into(&mut self.text);
        self
    }

    /// What the answer consumed.
    pub(crate) fn tokens(mut self, input: u64, output: u64, cache_read: u64, cache_write: u64) -> Self {
        self.tokens = Tokens { input, output, cache_read, cache_write };
        self
    }

    /// Before it answers, `times` requests fail with this HTTP status.
    pub(crate) fn failing(mut self, times: usize, status: u16, retry_after: Option<u64>) -> Self {
        self.failures.extend(std::iter::repeat_n(Failure::Refused { status, retry_after }, times));
        self
    }

    /// Before it answers, one answer goes wrong.
    pub(crate) fn odd(mut self, odd: Odd) -> Self {
        self.failures.push(Failure::Odd(odd));
        self
    }

    /// Thinks this before, with a signature.
    pub(crate) fn thinking(mut self, text: &str, signature: &str) -> Self {
        self.thinking = [text.to_owned(), signature.to_owned()];
        self
    }

    /// Does not answer before `n` conversations have come to the gate `name`: proof that they run at once.
    pub(crate) fn meeting(mut self, name: &str, n: usize) -> Self {
        self.gate = Some(Gate { name: name.to_owned(), meet: Some(n) });
        self
    }

    /// Does not answer before the test opens the gate `name`.
    pub(crate) fn behind(mut self, name: &str) -> Self {
        self.gate = Some(Gate { name: name.to_owned(), meet: None });
        self
    }

    /// Answers only after a while.
    pub(crate) fn after(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Begins to answer and never goes on.
    pub(crate) fn hang() -> Self {
        Self { hangs: true, ..Self::say("I am thinking about") }
    }
}

/// The endpoint: it serves until dropped.
#[derive(Debug)]
pub(crate) struct Endpoint {
    server: Server,
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    scripts: BTreeMap<String, Vec<Step>>,
    answers: AtomicU64,
    seen: Mutex<Vec<Seen>>,
    /// How often each step of each script has failed already.
    failed: Mutex<BTreeMap<(String, usize), usize>>,
    gates: Mutex<Gates>,
    moved: Condvar,
}

#[derive(Debug, Default)]
struct Gates {
    waiting: BTreeMap<String, usize>,
    open: BTreeSet<String>,
}

/// A request that came, without its keys.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// `/v1/messages`
    pub(crate) path: String,
    /// Names in lower case, those that carry credentials left out.
    pub(crate) headers: Vec<(String, String)>,
    /// The body; null if it was no JSON.
    pub(crate) body: Value,
    /// The script and step that answered it; `None` for the client's side requests.
    pub(crate) step: Option<(String, usize)>,
}

impl Endpoint {
    /// Serves these scripts.
    pub(crate) fn start<const N: usize>(scripts: [(&str, Vec<Step>); N]) -> Self {
        let scripts = scripts.map(|(name, steps)| (name.to_owned(), steps)).into();
        let shared = Arc::new(Shared { scripts, ..Shared::default() });
        let serving = Arc::clone(&shared);
        Self { server: Server::start(move |request, responder| serving.serve(request, responder)), shared }
    }

    /// What points the real Claude Code at this endpoint and keeps it from everything else.
    pub(crate) fn env(&self) -> [(&'static str, String); 5] {
        [
            ("ANTHROPIC_BASE_URL", self.server.url()),
            ("ANTHROPIC_API_KEY", "sk-ant-not-a-key".to_owned()),
            ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1".to_owned()),
            ("DISABLE_AUTOUPDATER", "1".to_owned()),
            ("DISABLE_TELEMETRY", "1".to_owned()),
        ]
    }

    /// Every request so far.
    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// The requests that a script answered, in order.
    pub(crate) fn seen_by(&self, script: &str) -> Vec<Seen> {
        let mut seen = self.seen();
        seen.retain(|seen| seen.step.as_ref().is_some_and(|(name, _)| name == script));
        seen
    }

    /// Opens a gate for all who wait there and all who come.
    pub(crate) fn open(&self, gate: &str) {
        self.shared.gates.lock().unwrap().open.insert(gate.to_owned());
        self.shared.moved.notify_all();
    }

    /// How many requests came to a gate.
    pub(crate) fn waiting_at(&self, gate: &str) -> usize {
        self.shared.gates.lock().unwrap().waiting.get(gate).copied().unwrap_or_default()
    }
}

impl Shared {
    fn serve(&self, request: &Request, responder: Responder) -> io::Result<()> {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let secret = |name: &String| name == "x-api-key" || name == "authorization" || name == "cookie";
        let headers = request.headers.iter().filter(|(name, _)| !secret(name)).cloned().collect();
        let chosen = (request.path == "/v1/messages").then(|| self.choose(&body)).flatten();
        let step = chosen.as_ref().map(|(script, number, _)| (script.clone(), *number));
        self.seen.lock().unwrap().push(Seen {
            path: request.path.clone(),
            headers,
            body: body.clone(),
            step,
        });
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/v1/messages/count_tokens") => {
                responder.whole(200, &[], json!({"input_tokens": 100}).to_string().as_bytes())
            }
            ("POST", "/v1/messages") => match chosen {
                Some((script, number, step)) => self.play(&script, number, &step, &body, responder),
                None => self.answer(&Step::say(&side_answer(&body)), &body, responder),
            },
            ("HEAD" | "GET", "/") => responder.whole(200, &[], b""),
            _ => {
                let error =
                    json!({"type": "error", "error": {"type": "not_found_error", "message": "not scripted"}});
                responder.whole(404, &[], error.to_string().as_bytes())
            }
        }
    }

    /// The script that the conversation named last, and its next step.
    fn choose(&self, body: &Value) -> Option<(String, usize, Step)> {
        // The client's own side requests (titles, summaries) bring no tools.
        body["tools"].as_array().filter(|tools| !tools.is_empty())?;
        let mut script = None;
        let mut answers = 0;
        for message in body["messages"].as_array()? {
            if message["role"] == "assistant" {
                answers += 1;
            }
            if let Some(name) = user_texts(message).iter().rev().find_map(|text| self.named_in(text)) {
                script = Some(name);
                answers = 0;
            }
        }
        let name = script?;
        let step = self.scripts[&name]
            .get(answers)
            .cloned()
            .unwrap_or_else(|| Step::say("There is nothing left to do."));
        Some((name, answers, step))
    }

    /// The script that a text names, the last one if there are several.
    fn named_in(&self, text: &str) -> Option<String> {
        let place = |name: &String| {
            let marker = format!("[script:{name}]");
            text.rfind(&marker).or_else(|| if name.contains(' ') { text.rfind(name.as_str()) } else { None })
        };
        self.scripts.keys().filter_map(|name| Some((place(name)?, name))).max().map(|(_, name)| name.clone())
    }

    fn play(&self, script: &str, number: usize, step: &Step, body: &Value, to: Responder) -> io::Result<()> {
        if let Some(gate) = &step.gate {
            self.pass(gate);
        }
        std::thread::sleep(step.delay);
        let failure = {
            let mut failed = self.failed.lock().unwrap();
            let times = failed.entry((script.to_owned(), number)).or_default();
            *times += 1;
            step.failures.get(*times - 1).cloned()
        };
        let (status, retry_after) = match failure {
            None => return self.answer(step, body, to),
            Some(Failure::Odd(odd)) => return answer_oddly(odd, body, to),
            Some(Failure::Refused { status, retry_after }) => (status, retry_after),
        };
        let (kind, message) = match status {
            400 => ("invalid_request_error", "max_tokens: too large"),
            401 => ("authentication_error", "invalid x-api-key"),
            429 => ("rate_limit_error", "too many requests"),
            529 => ("overloaded_error", "Overloaded"),
            _ => ("api_error", "scripted failure"),
        };
        let headers: Vec<_> =
            retry_after.iter().map(|seconds| ("retry-after", seconds.to_string())).collect();
        let error = json!({"type": "error", "error": {"type": kind, "message": message}});
        to.whole(status, &headers, error.to_string().as_bytes())
    }

    fn pass(&self, gate: &Gate) {
        let mut gates = self.gates.lock().unwrap();
        let waiting = gates.waiting.entry(gate.name.clone()).or_default();
        *waiting += 1;
        if gate.meet.is_some_and(|n| *waiting >= n) {
            gates.open.insert(gate.name.clone());
        }
        self.moved.notify_all();
        // A gate that never opens fails the test by its own deadline; the thread ends with the test.
        let limit = Duration::from_secs(120);
        drop(self.moved.wait_timeout_while(gates, limit, |gates| !gates.open.contains(&gate.name)));
    }

    /// Answers as the API does: one message, streamed or whole.
    fn answer(&self, step: &Step, body: &Value, to: Responder) -> io::Result<()> {
        let number = self.answers.fetch_add(1, Ordering::Relaxed);
        let cwd = working_directory(body);
        let mut blocks = Vec::new();
        let [thinking, signature] = &step.thinking;
        if !thinking.is_empty() {
            blocks.push(json!({"type": "thinking", "thinking": thinking, "signature": signature}));
        }
        if !step.text.is_empty() {
            blocks.push(json!({"type": "text", "text": step.text}));
        }
        for (at, (tool, input)) in step.calls.iter().enumerate() {
            let input: Value = serde_json::from_str(&input.to_string().replace("{cwd}", &cwd)).unwrap();
            blocks.push(json!({"type": "tool_use", "id": format!("toolu_{number:04}_{at}"), "name": tool, "input": input}));
        }
        let Tokens { input, output, cache_read, cache_write } = step.tokens;
        let mut message = json!({
            "id": format!("msg_{number:06}"),
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": blocks,
            "stop_reason": if step.calls.is_empty() { "end_turn" } else { "tool_use" },
            "stop_sequence": null,
            "usage": {
                "input_tokens": input,
                "cache_creation_input_tokens": cache_write,
                "cache_read_input_tokens": cache_read,
                "output_tokens": output,
            },
        });
        let headers = [("request-id", format!("req_{number:06}"))];
        if body["stream"] != true {
            return to.whole(200, &headers, message.to_string().as_bytes());
        }
        let ending = json!({"stop_reason": message["stop_reason"].take(), "stop_sequence": null});
        let usage = message["usage"].clone();
        message["content"] = json!([]);
        // The real API says 1 here, whatever follows.
        message["usage"]["output_tokens"] = json!(1);
        let mut pieces = to.stream(&headers)?;
        event(&mut pieces, &json!({"type": "message_start", "message": message}))?;
        for (index, block) in blocks.iter().enumerate() {
            stream_block(&mut pieces, index, block)?;
            if step.hangs {
                return pieces.hang();
            }
        }
        event(&mut pieces, &json!({"type": "message_delta", "delta": ending, "usage": usage}))?;
        event(&mut pieces, &json!({"type": "message_stop"}))?;
        pieces.end()
    }
}

fn stream_block(pieces: &mut Pieces, index: usize, block: &Value) -> io::Result<()> {
    let (start, whole, delta, field) = if block["type"] == "text" {
        let text = block["text"].as_str().unwrap_or_default().to_owned();
        (json!({"type": "text", "text": ""}), text, "text_delta", "text")
    } else {
        let mut start = block.clone();
        start["input"] = json!({});
        (start, block["input"].to_string(), "input_json_delta", "partial_json")
    };
    let (start, whole, delta, field) = if block["type"] == "thinking" {
        let text = block["thinking"].as_str().unwrap_or_default().to_owned();
        (json!({"type": "thinking", "thinking": "", "signature": ""}), text, "thinking_delta", "thinking")
    } else {
        (start, whole, delta, field)
    };
    event(pieces, &json!({"type": "content_block_start", "index": index, "content_block": start}))?;
    let characters: Vec<char> = whole.chars().collect();
    for part in characters.chunks(24) {
        let part: String = part.iter().collect();
        event(
            pieces,
            &json!({"type": "content_block_delta", "index": index, "delta": {"type": delta, field: part}}),
        )?;
    }
    if let Some(signature) = block["signature"].as_str() {
        let delta = json!({"type": "signature_delta", "signature": signature});
        event(pieces, &json!({"type": "content_block_delta", "index": index, "delta": delta}))?;
    }
    event(pieces, &json!({"type": "content_block_stop", "index": index}))
}

/// An answer that begins with a call of a tool that nobody may make, and goes wrong.
fn answer_oddly(odd: Odd, body: &Value, to: Responder) -> io::Result<()> {
    let mut pieces = to.stream(&[])?;
    let usage = json!({"input_tokens": 7, "output_tokens": 1});
    let message = json!({"id": "msg_odd", "type": "message", "role": "assistant", "model": body["model"],
        "content": [], "usage": usage});
    event(&mut pieces, &json!({"type": "message_start", "message": message}))?;
    let call = json!({"type": "tool_use", "id": "toolu_odd", "name": "Bash", "input": {}});
    event(&mut pieces, &json!({"type": "content_block_start", "index": 0, "content_block": call}))?;
    let delta = json!({"type": "input_json_delta", "partial_json": "{\"command\": \"touch odd; "});
    event(&mut pieces, &json!({"type": "content_block_delta", "index": 0, "delta": delta}))?;
    match odd {
        Odd::Cut => Ok(()),
        Odd::Garbled => {
            pieces.send("event: content_block_delta\ndata: {\"type\": oops\n\n")?;
            pieces.hang()
        }
        Odd::LongLine => {
            pieces.send("data: ")?;
            for _ in 0..9 {
                pieces.send(&"x".repeat(1 << 20))?;
            }
            pieces.hang()
        }
        Odd::Endless => {
            let ping = format!(
                "event: ping\ndata: {{\"type\": \"ping\", \"pad\": \"{}\"}}\n\n",
                "x".repeat(1 << 20)
            );
            loop {
                pieces.send(&ping)?;
            }
        }
        Odd::Overloaded => {
            let error = json!({"type": "overloaded_error", "message": "Overloaded"});
            event(&mut pieces, &json!({"type": "error", "error": error}))?;
            pieces.end()
        }
    }
}

fn event(pieces: &mut Pieces, data: &Value) -> io::Result<()> {
    pieces.send(&format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default()))
}

/// What a side request gets: a title where one is asked for as JSON, otherwise a word.
fn side_answer(body: &Value) -> String {
    let asks_json = body.get("output_format").or(body.get("output_config")).is_some();
    if asks_json { json!({"title": "A scripted task"}).to_string() } else { "A scripted task".to_owned() }
}

/// The texts that a user message brings, without tool results and what the client says in the user's name (of hooks, of
/// its surroundings).
fn user_texts(message: &Value) -> Vec<&str> {
    let mut texts = all_texts(message);
    texts.retain(|text| !text.starts_with("<system-reminder>"));
    texts
}

fn all_texts(message: &Value) -> Vec<&str> {
    if message["role"] != "user" {
        return Vec::new();
    }
    match &message["content"] {
        Value::String(text) => vec![text],
        Value::Array(blocks) => blocks.iter().filter_map(|block| block["text"].as_str()).collect(),
        _ => Vec::new(),
    }
}

/// The directory that the client says it works in: real Claude Code puts it into its system prompt.
fn working_directory(body: &Value) -> String {
    let text = body["system"].to_string();
    let after = text.split("orking directory: ").nth(1).unwrap_or_default();
    after.split(['\\', '"', '\n']).next().unwrap_or_default().to_owned()
}

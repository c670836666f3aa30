//! The client's side of the conversation, without input or output: lines and wishes in, lines and events out.

use super::permit::{Verdict, judge, option};
use super::scene::{Scene, described};
use crate::agent::bridge::{Begin, Wish};
use crate::agent::lenient::{self, without_lone_surrogates};
use crate::agent::sink::MAX_RAW;
use crate::agent::tool::{one_line, start};
use crate::agent::{PermissionReply, Permissions};
use crate::model::{EventKind, Timestamp, Usage};
use serde_json::{Value, json};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The version of the protocol that this is.
const VERSION: u64 = 1;
/// The code of an error for somebody who has to sign in first.
const AUTH_REQUIRED: i64 = -32000;
const NO_METHOD: i64 = -32601;
/// Gemini CLI 0.61.0 keeps a conversation in a file that is named by the minute in which it began, and begins that file
/// anew when the conversation is loaded in the same minute.
const FORGETFUL: &str = "gemini-cli";
const MINUTE: u64 = 60_000;
/// How many lines that nobody knows are kept; of the others it is told how many they were.
const MAX_STRANGE: u32 = 20;
/// How many questions may be open at once.
const MAX_QUESTIONS: usize = 100;

/// What is to be done next.
#[derive(Debug, Default)]
pub(super) struct Out {
    /// What happened.
    pub(super) events: Vec<EventKind>,
    /// What the agent is told.
    pub(super) lines: Vec<Value>,
}

/// How far the conversation is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It was asked who it is.
    Greeting,
    /// It would lose the conversation if it was loaded now.
    Waiting,
    /// A conversation is being opened.
    Opening,
    /// An earlier conversation may still be told.
    Settling,
    /// Its model, then its mode, are being chosen.
    ChoosingModel,
    ChoosingMode,
    /// It waits to be told something.
    Idle,
    Prompting,
    /// It was asked to break the turn off.
    Cancelling,
    /// Nothing more comes of it.
    Over,
}

/// The client of one agent.
#[derive(Debug)]
pub(super) struct Client {
    begin: Begin,
    worktree: PathBuf,
    pub(super) phase: Phase,
    /// The id of the only question of ours that waits for an answer.
    asked: u64,
    session: String,
    /// How long it waits until it loads the conversation.
    pub(super) hold: Duration,
    /// How it goes on with it.
    again: &'static str,
    /// Whether it says that it can go on with a conversation.
    resumes: bool,
    /// The names of the ways to sign in.
    sign_in: Vec<String>,
    version: Option<String>,
    opened: Value,
    /// What it is to be told, oldest first.
    queue: VecDeque<String>,
    scene: Scene,
    /// What it asks, by the id of its request.
    questions: BTreeMap<String, Question>,
    usage: Usage,
    told_usage: bool,
    strange: u32,
}

#[derive(Debug)]
struct Question {
    id: Value,
    call: Value,
    options: Value,
}

impl Client {
    /// A client that greets.
    pub(super) fn new(begin: Begin, worktree: &Path, out: &mut Out) -> Self {
        let first = match &begin.system_prompt {
            Some(system) => format!("{system}\n\n{}", begin.prompt),
            None => begin.prompt.clone(),
        };
        let mut client = Self {
            scene: Scene::new(worktree.to_string_lossy().into_owned()),
            session: begin.session.clone(),
            begin,
            worktree: worktree.to_owned(),
            phase: Phase::Greeting,
            asked: 0,
            hold: Duration::ZERO,
            again: "session/load",
            resumes: false,
            sign_in: Vec::new(),
            version: None,
            opened: Value::Null,
            queue: [first].into(),
            questions: BTreeMap::new(),
            usage: Usage::default(),
            told_usage: false,
            strange: 0,
        };
        let params = json!({
            "protocolVersion": VERSION,
            "clientCapabilities": {"fs": {"readTextFile": false, "writeTextFile": false}, "terminal": false},
            "clientInfo": {"name": "git-orchestra", "title": "git orchestra", "version": env!("CARGO_PKG_VERSION")},
        });
        client.ask("initialize", &params, Phase::Greeting, out);
        client
    }

    /// Takes a line of the agent.
    pub(super) fn heard(&mut self, line: &[u8], at: Timestamp, out: &mut Out) {
        let text = lenient::text(line.trim_ascii());
        if text.is_empty() || self.phase == Phase::Over {
            return;
        }
        let parsed =
            serde_json::from_str(&text).or_else(|_| serde_json::from_str(&without_lone_surrogates(&text)));
        let message: Value = parsed.unwrap_or_default();
        let known = match (message["method"].as_str(), message.get("id")) {
            (Some(method), Some(id)) if !id.is_null() => {
                self.request(method, id, &message["params"], out);
                true
            }
            (Some("session/update"), _) => self.update(&message["params"], at, out),
            // Others may be left out, says the protocol of those that begin so.
            (Some(method), _) => method.starts_with(['$', '_']),
            (None, Some(id))
                if *id == self.asked && (message.get("result").is_some() || message["error"].is_object()) =>
            {
                self.answered(&message, at, out);
                true
            }
            _ => false,
        };
        if !known {
            self.strange(&text, out);
        }
    }

    fn strange(&mut self, text: &str, out: &mut Out) {
        self.strange += 1;
        if self.strange <= MAX_STRANGE {
            out.events.push(EventKind::Unrecognised { raw: start(text, MAX_RAW).to_owned() });
        } else if self.phase == Phase::Greeting {
            self.fail("strange", "it does not speak the Agent Client Protocol", out);
        }
    }

    /// Takes a wish.
    pub(super) fn wish(&mut self, wish: Wish, out: &mut Out) {
        match wish {
            Wish::Begin(_) => {}
            Wish::Message { text } => {
                self.queue.push_back(text);
                if self.phase == Phase::Idle {
                    self.prompt(out);
                }
            }
            Wish::Interrupt => self.interrupt(out),
            Wish::Reply { request, reply } => {
                let Some(question) = self.questions.remove(&request) else { return };
                self.reply(&question, !matches!(reply, PermissionReply::Deny { .. }), out);
            }
        }
    }

    fn interrupt(&mut self, out: &mut Out) {
        match self.phase {
            Phase::Prompting => {
                self.withdraw(out);
                out.lines.push(notification("session/cancel", &json!({"sessionId": self.session})));
                self.phase = Phase::Cancelling;
            }
            Phase::Idle | Phase::Cancelling | Phase::Over => {}
            // It has not been told anything yet, and is not.
            _ => {
                self.queue.clear();
                self.result("cancelled", true, "interrupted", out);
            }
        }
    }

    /// What it waits for came too late, or not at all. `Settling` ends so.
    pub(super) fn late(&mut self, seconds: u64, out: &mut Out) {
        let awaited = match self.phase {
            Phase::Settling => return self.choose_model(out),
            Phase::Waiting => return self.go_on(out),
            Phase::Greeting => {
                "no answer to `initialize`: it may not speak the Agent Client Protocol, or want an argument for it"
            }
            Phase::Cancelling => "it did not break its turn off",
            _ => "it opens no conversation",
        };
        self.fail("late", &format!("{awaited} ({seconds} s)"), out);
    }

    /// The agent's process is gone, as `how` says.
    pub(super) fn gone(&mut self, how: &str, out: &mut Out) {
        match self.phase {
            Phase::Over => {}
            Phase::Idle => {
                out.events.push(EventKind::Notice { text: format!("it ended by itself ({how})") });
                self.phase = Phase::Over;
            }
            _ => self.fail("gone", &format!("it ended in the middle of its work ({how})"), out),
        }
    }

    /// Nothing more comes of it.
    pub(super) fn fail(&mut self, subtype: &str, why: &str, out: &mut Out) {
        self.scene.end(&mut out.events);
        self.result(subtype, true, why, out);
        self.phase = Phase::Over;
    }

    fn result(&mut self, subtype: &str, error: bool, text: &str, out: &mut Out) {
        if self.strange > MAX_STRANGE {
            let text = format!("{} more lines that nobody knows", self.strange - MAX_STRANGE);
            out.events.push(EventKind::Notice { text });
            self.strange = MAX_STRANGE;
        }
        let (subtype, text) = (subtype.to_owned(), text.to_owned());
        out.events.push(EventKind::Result { subtype, error, text, usage: self.usage });
    }

    fn ask(&mut self, method: &str, params: &Value, phase: Phase, out: &mut Out) {
        self.asked += 1;
        self.phase = phase;
        out.lines.push(json!({"jsonrpc": "2.0", "id": self.asked, "method": method, "params": params}));
    }

    fn answered(&mut self, message: &Value, at: Timestamp, out: &mut Out) {
        // Asked once, answered once.
        self.asked += 1;
        let (result, error) = (&message["result"], &message["error"]);
        match self.phase {
            Phase::Greeting if error.is_null() => self.greeted(result, at, out),
            Phase::Opening if error.is_null() => self.open(result, out),
            Phase::Greeting | Phase::Opening => self.shut(error, out),
            Phase::ChoosingModel | Phase::ChoosingMode => {
                if !error.is_null() {
                    let what = if self.phase == Phase::ChoosingModel { "model" } else { "mode" };
                    return self.fail(
                        "refused",
                        &format!("it refuses its {what}: {}", Trouble::of(error).words),
                        out,
                    );
                }
                if self.phase == Phase::ChoosingModel { self.choose_mode(out) } else { self.ready(out) }
            }
            Phase::Prompting | Phase::Cancelling if error.is_null() => self.turned(result, out),
            Phase::Prompting | Phase::Cancelling => self.broke(error, out),
            Phase::Waiting | Phase::Settling | Phase::Idle | Phase::Over => {}
        }
    }

    fn greeted(&mut self, result: &Value, at: Timestamp, out: &mut Out) {
        let version = &result["protocolVersion"];
        if *version != VERSION {
            let why =
                format!("it speaks version {version} of the Agent Client Protocol, and this is {VERSION}");
            return self.fail("version", &why, out);
        }
        let info = &result["agentInfo"];
        let words = [&info["name"], &info["version"]].into_iter().filter_map(Value::as_str);
        self.version = Some(words.collect::<Vec<_>>().join(" ")).filter(|words| !words.is_empty());
        let methods = result["authMethods"].as_array().map(Vec::as_slice).unwrap_or_default();
        let names = methods.iter().filter_map(|method| method["name"].as_str().map(one_line));
        self.sign_in = names.take(9).collect();
        let can = &result["agentCapabilities"];
        if can["sessionCapabilities"]["resume"].is_object() {
            self.again = "session/resume";
        }
        self.resumes = self.again == "session/resume" || can["loadSession"] == true;
        if !self.begin.resume {
            return self.ask("session/new", &self.place(), Phase::Opening, out);
        }
        if !self.resumes {
            let why = "it cannot go on with a conversation: spawn another agent for the task";
            return self.fail("resume", why, out);
        }
        let forgets =
            info["name"] == FORGETFUL && self.begin.begun_by.is_some_and(|by| by.0 / MINUTE >= at.0 / MINUTE);
        if !forgets {
            return self.go_on(out);
        }
        self.hold = Duration::from_millis(MINUTE - at.0 % MINUTE + 100);
        let seconds = self.hold.as_secs() + 1;
        let text = format!(
            "Gemini CLI loses a conversation that is continued in the minute in which it began: it goes on in {seconds} s"
        );
        out.events.push(EventKind::Notice { text });
        self.phase = Phase::Waiting;
    }

    fn go_on(&mut self, out: &mut Out) {
        let mut params = self.place();
        params["sessionId"] = json!(self.begin.session);
        self.ask(self.again, &params, Phase::Opening, out);
    }

    fn place(&self) -> Value {
        json!({"cwd": self.worktree, "mcpServers": []})
    }

    /// The conversation cannot be opened.
    fn shut(&mut self, error: &Value, out: &mut Out) {
        let trouble = Trouble::of(error);
        let why = if trouble.code == AUTH_REQUIRED {
            let ways = self.sign_in.join(", ");
            format!(
                "it wants you to sign in ({}): do that with the program itself, or pass its key with `pass-env` (it offers: {ways})",
                trouble.words
            )
        } else if self.begin.resume {
            format!("it cannot go on with the conversation: {}", trouble.words)
        } else {
            trouble.words
        };
        self.fail("refused", &why, out);
    }

    fn open(&mut self, result: &Value, out: &mut Out) {
        if let Some(session) = result["sessionId"].as_str() {
            session.clone_into(&mut self.session);
        }
        self.opened = result.clone();
        if self.begin.resume {
            // Some answer before they have told the conversation, as Gemini CLI 0.61.0 does.
            self.phase = Phase::Settling;
        } else {
            self.choose_model(out);
        }
    }

    fn choose_model(&mut self, out: &mut Out) {
        let models = &self.opened["models"];
        match self.begin.model.clone() {
            Some(model) if models["currentModelId"] != model.as_str() && models.is_object() => {
                let params = json!({"sessionId": self.session, "modelId": model});
                self.ask("session/set_model", &params, Phase::ChoosingModel, out);
            }
            Some(_) if !models.is_object() => {
                let text = "it takes no model: name it among its arguments".to_owned();
                out.events.push(EventKind::Notice { text });
                self.choose_mode(out);
            }
            _ => self.choose_mode(out),
        }
    }

    fn choose_mode(&mut self, out: &mut Out) {
        let modes = self.opened["modes"]["availableModes"].as_array().map(Vec::as_slice).unwrap_or_default();
        let plans = modes.iter().any(|mode| mode["id"] == "plan");
        match self.begin.permissions {
            Permissions::Plan if plans => {
                let params = json!({"sessionId": self.session, "modeId": "plan"});
                return self.ask("session/set_mode", &params, Phase::ChoosingMode, out);
            }
            Permissions::Plan => {
                let text = "it has no mode `plan`: what it asks to change is refused; what it does not ask about is not"
                    .to_owned();
                out.events.push(EventKind::Notice { text });
            }
            Permissions::AcceptEdits | Permissions::Bypass => {}
        }
        self.ready(out);
    }

    fn ready(&mut self, out: &mut Out) {
        let model = self.opened["models"]["currentModelId"].as_str().map(str::to_owned);
        out.events.push(EventKind::Ready {
            // What is told here is taken for a conversation that can go on.
            model: self.begin.model.clone().or(model).filter(|_| self.resumes),
            session: Some(self.session.clone()).filter(|_| self.resumes),
            version: self.version.clone(),
            permissions: None,
        });
        self.phase = Phase::Idle;
        self.prompt(out);
    }

    /// Tells it what it is to be told next, if there is something.
    fn prompt(&mut self, out: &mut Out) {
        let Some(text) = self.queue.pop_front() else { return };
        self.usage.turns += 1;
        self.scene.said.clear();
        out.events.push(EventKind::Turn { number: self.usage.turns });
        let params = json!({"sessionId": self.session, "prompt": [{"type": "text", "text": text}]});
        self.ask("session/prompt", &params, Phase::Prompting, out);
    }

    fn update(&mut self, params: &Value, at: Timestamp, out: &mut Out) -> bool {
        // The rest is of an earlier turn, or of another conversation.
        if !matches!(self.phase, Phase::Prompting | Phase::Cancelling)
            || params["sessionId"] != self.session.as_str()
        {
            return true;
        }
        let before = self.scene.context;
        let known = self.scene.take(&params["update"], at, &mut out.events);
        if self.scene.context != before {
            out.events.push(EventKind::Usage { usage: self.usage, context: self.scene.context });
        }
        known
    }

    /// A turn ended.
    fn turned(&mut self, result: &Value, out: &mut Out) {
        self.scene.end(&mut out.events);
        self.withdraw(out);
        self.count(&result["_meta"]["quota"]["token_count"], out);
        let said = std::mem::take(&mut self.scene.said);
        let reason = result["stopReason"].as_str().unwrap_or("end_turn").to_owned();
        match reason.as_str() {
            "end_turn" => self.result(&reason, false, &said, out),
            "cancelled" => self.result(&reason, true, "interrupted", out),
            "refusal" => self.result(&reason, true, "its model refuses to go on", out),
            "max_tokens" => self.result(&reason, true, "its model's answer became too long", out),
            "max_turn_requests" => self.result(&reason, true, "it asked its model too often", out),
            _ => self.result(&reason, true, &format!("it stopped: {}", one_line(&reason)), out),
        }
        self.phase = Phase::Idle;
        self.prompt(out);
    }

    /// What a turn took, as Gemini CLI tells it: all input, and output without thoughts. The protocol has no figures for
    /// that yet.
    fn count(&mut self, counts: &Value, out: &mut Out) {
        let figure = |key: &str| counts[key].as_u64();
        if let (Some(input), Some(output)) = (figure("input_tokens"), figure("output_tokens")) {
            self.usage.input = self.usage.input.saturating_add(input);
            self.usage.output = self.usage.output.saturating_add(output);
            out.events.push(EventKind::Usage { usage: self.usage, context: self.scene.context });
        } else if !std::mem::replace(&mut self.told_usage, true) {
            let text = "it does not tell how many tokens it used".to_owned();
            out.events.push(EventKind::Notice { text });
        }
    }

    /// A turn ended with an error.
    fn broke(&mut self, error: &Value, out: &mut Out) {
        self.scene.end(&mut out.events);
        self.withdraw(out);
        let Trouble { code, words } = Trouble::of(error);
        let status = u16::try_from(code).ok().filter(|status| (400..600).contains(status));
        if let Some(status @ (429 | 503 | 529)) = status {
            // It has tried for itself; what passes is waited for.
            let error = words.clone();
            out.events.push(EventKind::Retry {
                attempt: 0,
                max: 0,
                delay_ms: 0,
                status: Some(status),
                error,
            });
        }
        let text = status.map_or_else(|| words.clone(), |status| format!("{status}: {words}"));
        self.result("error", true, &text, out);
        self.phase = Phase::Idle;
        self.prompt(out);
    }

    /// It asks for something.
    fn request(&mut self, method: &str, id: &Value, params: &Value, out: &mut Out) {
        if method != "session/request_permission" {
            let error = json!({"code": NO_METHOD, "message": "Method not found"});
            out.lines.push(json!({"jsonrpc": "2.0", "id": id, "error": error}));
            return;
        }
        let call = &params["toolCall"];
        let question = Question { id: id.clone(), call: call.clone(), options: params["options"].clone() };
        if self.phase != Phase::Prompting || self.questions.len() >= MAX_QUESTIONS {
            out.lines.push(outcome(id, None));
            return;
        }
        self.scene.pause(&mut out.events);
        match judge(self.begin.permissions, call, &self.worktree) {
            Verdict::Allow => self.reply(&question, true, out),
            Verdict::Refuse => self.reply(&question, false, out),
            Verdict::Ask => {
                let (tool, summary, _) = described(call, &self.worktree.to_string_lossy());
                let request = id.to_string();
                // What it is about, without what is new each time: by that it is known again.
                let about = ["kind", "title", "locations", "rawInput", "content"];
                let input: Value = about.iter().map(|&key| (key.to_owned(), call[key].clone())).collect();
                let input = input.to_string();
                self.questions.insert(request.clone(), question);
                let questions = Vec::new();
                out.events.push(EventKind::PermissionAsked { request, tool, summary, input, questions });
            }
        }
    }

    fn reply(&mut self, question: &Question, allow: bool, out: &mut Out) {
        let chosen = option(&question.options, allow);
        out.lines.push(outcome(&question.id, chosen));
        if allow && chosen.is_some() {
            self.scene.begins(&question.call, &mut out.events);
        } else {
            let (tool, summary, _) = described(&question.call, &self.worktree.to_string_lossy());
            out.events.push(EventKind::PermissionDenied { tool, summary });
        }
    }

    /// The turn is over, and its questions with it.
    fn withdraw(&mut self, out: &mut Out) {
        for (request, question) in std::mem::take(&mut self.questions) {
            out.lines.push(outcome(&question.id, None));
            out.events.push(EventKind::PermissionWithdrawn { request });
        }
    }
}

/// An error, in words.
struct Trouble {
    code: i64,
    words: String,
}

impl Trouble {
    fn of(error: &Value) -> Self {
        let message = error["message"].as_str().unwrap_or("an error without words");
        // What a model's provider said may be in there as it came.
        let inner: Value = serde_json::from_str(message).unwrap_or_default();
        let message = inner["error"]["message"].as_str().unwrap_or(message);
        let details = error["data"]["details"].as_str().map(|details| format!(": {}", one_line(details)));
        let words = one_line(message) + &details.unwrap_or_default();
        Self { code: error["code"].as_i64().unwrap_or_default(), words }
    }
}

fn notification(method: &str, params: &Value) -> Value {
    json!({"jsonrpc": "2.0", "method": method, "params": params})
}

/// The answer to a question: the option that was chosen, or none.
fn outcome(id: &Value, chosen: Option<&str>) -> Value {
    let outcome = match chosen {
        Some(option) => json!({"outcome": "selected", "optionId": option}),
        None => json!({"outcome": "cancelled"}),
    };
    json!({"jsonrpc": "2.0", "id": id, "result": {"outcome": outcome}})
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;

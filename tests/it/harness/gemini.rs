//! A scripted model behind the Gemini API on 127.0.0.1: it makes the real Gemini CLI do what a test says.

use std::io;

use serde_json::{Value, json};

use super::Sandbox;
use super::http::Responder;
use super::scripted::{Answer, Dialect, Model, Part};

/// Serves these scripts to Gemini CLI.
pub(crate) fn start<const N: usize>(scripts: [(&str, Vec<Answer>); N]) -> Model {
    Model::start::<Generate, N>(scripts)
}

/// Points the real Gemini CLI of every later command at the endpoint. Its settings say how the user signs in, as
/// they do once a user has.
pub(crate) fn use_model(sandbox: &mut Sandbox, model: &Model) {
    let settings = sandbox.home().join(".gemini/settings.json");
    std::fs::create_dir_all(settings.parent().unwrap()).unwrap();
    let text = json!({
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "general": {"disableAutoUpdate": true, "disableUpdateNag": true},
        "privacy": {"usageStatisticsEnabled": false},
    });
    std::fs::write(settings, text.to_string()).unwrap();
    sandbox.set_env("GEMINI_API_KEY", "not-a-key");
    sandbox.set_env("GOOGLE_GEMINI_BASE_URL", model.url());
}

/// What stands for a 429 that a day's quota is used up.
pub(crate) const DAILY: u16 = 4290;

struct Generate;

impl Dialect for Generate {
    fn asks(path: &str) -> bool {
        path.ends_with(":streamGenerateContent")
    }

    fn conversation(body: &Value) -> Vec<Option<String>> {
        let contents = body["contents"].as_array().map(Vec::as_slice).unwrap_or_default();
        let turn = |content: &Value| {
            (content["role"] != "model").then(|| {
                let parts = content["parts"].as_array().map(Vec::as_slice).unwrap_or_default();
                parts.iter().filter_map(|part| part["text"].as_str()).collect()
            })
        };
        contents.iter().map(turn).collect()
    }

    fn refuse(status: u16, to: Responder) -> io::Result<()> {
        // Of a day's quota: the client does not try again.
        let quota = json!({"@type": "type.googleapis.com/google.rpc.QuotaFailure",
            "violations": [{"quotaId": "GenerateRequestsPerDayPerProjectPerModel"}]});
        let (status, details) = if status == DAILY { (429, json!([quota])) } else { (status, json!([])) };
        let (word, message) = match status {
            401 => ("UNAUTHENTICATED", "API key not valid"),
            429 => ("RESOURCE_EXHAUSTED", "Resource exhausted"),
            _ => ("UNAVAILABLE", "The model is overloaded. Please try again later."),
        };
        let error =
            json!({"error": {"code": status, "message": message, "status": word, "details": details}});
        to.whole(status, &[], error.to_string().as_bytes())
    }

    fn answer(answer: &Answer, number: u64, to: Responder) -> io::Result<()> {
        let [input, cached, output, thoughts] = answer.tokens;
        let usage = json!({
            "promptTokenCount": input,
            "cachedContentTokenCount": cached,
            "candidatesTokenCount": output,
            "thoughtsTokenCount": thoughts,
            "totalTokenCount": input + output + thoughts,
        });
        let mut parts = Vec::new();
        for part in &answer.parts {
            match part {
                Part::Thinks(text) => parts.push(json!({"text": text, "thought": true})),
                // In pieces, as the real one does.
                Part::Says(text) => {
                    parts.extend(text.split_inclusive(' ').map(|piece| json!({"text": piece})));
                }
                Part::Writes { path, content } => {
                    parts.push(call("write_file", &json!({"file_path": path, "content": content})));
                }
                Part::Replaces { path, old, new } => parts.push(call(
                    "replace",
                    &json!({"file_path": path, "instruction": "x", "old_string": old, "new_string": new}),
                )),
                Part::Runs(command) => parts
                    .push(call("run_shell_command", &json!({"command": command, "description": "As told"}))),
                Part::Hangs => parts.push(Value::Null),
            }
        }
        let mut pieces = to.stream(&[])?;
        let last = parts.len();
        for (at, part) in parts.into_iter().enumerate() {
            if part.is_null() {
                return pieces.hang();
            }
            let mut candidate = json!({"index": 0, "content": {"role": "model", "parts": [part]}});
            if at + 1 == last {
                candidate["finishReason"] = json!("STOP");
            }
            let chunk = json!({
                "candidates": [candidate],
                "usageMetadata": usage,
                "modelVersion": "gemini-scripted",
                "responseId": format!("response-{number}"),
            });
            pieces.send(&format!("data: {chunk}\r\n\r\n"))?;
        }
        pieces.end()
    }
}

fn call(name: &str, args: &Value) -> Value {
    json!({"functionCall": {"name": name, "args": args}})
}

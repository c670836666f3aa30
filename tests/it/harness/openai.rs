//! A scripted model behind the `OpenAI` Responses API on 127.0.0.1: it makes the real Codex do what a test says.

use std::io;

use serde_json::{Value, json};

use super::Sandbox;
use super::http::{Pieces, Responder};
use super::scripted::{Answer, Dialect, Model, Part};

/// Serves these scripts to Codex.
pub(crate) fn start<const N: usize>(scripts: [(&str, Vec<Answer>); N]) -> Model {
    Model::start::<Responses, N>(scripts)
}

/// Points the real Codex of every later command at the endpoint, as a user would: by its own configuration.
pub(crate) fn use_model(sandbox: &mut Sandbox, model: &Model) {
    let home = sandbox.home().join(".codex");
    std::fs::create_dir_all(&home).unwrap();
    let url = model.url();
    let config = format!(
        "model_provider = 'scripted'\n[model_providers.scripted]\nname = 'scripted'\nbase_url = '{url}/v1'\n\
         wire_api = 'responses'\nenv_key = 'OPENAI_API_KEY'\n"
    );
    std::fs::write(home.join("config.toml"), config).unwrap();
    sandbox.set_env("CODEX_HOME", home);
    sandbox.set_env("OPENAI_API_KEY", "sk-not-a-key");
}

struct Responses;

impl Dialect for Responses {
    fn asks(path: &str) -> bool {
        path == "/v1/responses"
    }

    fn conversation(body: &Value) -> Vec<Option<String>> {
        let items = body["input"].as_array().map(Vec::as_slice).unwrap_or_default();
        let turn = |item: &Value| match item["type"].as_str()? {
            // Each scripted answer that is not the last one of its turn calls one tool.
            "function_call" | "custom_tool_call" => Some(None),
            "message" if item["role"] == "user" => Some(Some(item["content"].to_string())),
            _ => None,
        };
        items.iter().filter_map(turn).collect()
    }

    fn refuse(status: u16, to: Responder) -> io::Result<()> {
        let message = match status {
            401 => "Incorrect API key provided",
            429 => "Rate limit reached",
            _ => "overloaded",
        };
        let error = json!({"error": {"message": message, "type": "scripted", "code": null}});
        to.whole(status, &[("retry-after", "0".to_owned())], error.to_string().as_bytes())
    }

    fn answer(answer: &Answer, number: u64, to: Responder) -> io::Result<()> {
        let mut pieces = to.stream(&[])?;
        let id = format!("resp_{number}");
        event(&mut pieces, &json!({"type": "response.created", "response": {"id": id}}))?;
        for (at, part) in answer.parts.iter().enumerate() {
            let mut item = match part {
                Part::Thinks(text) => {
                    json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": text}]})
                }
                Part::Says(text) => json!({"type": "message", "role": "assistant",
                    "content": [{"type": "output_text", "text": text}]}),
                Part::Writes { path, content } => {
                    let lines: Vec<&str> = content.lines().collect();
                    patch(&format!("*** Add File: {path}\n+{}\n", lines.join("\n+")))
                }
                Part::Replaces { path, old, new } => {
                    patch(&format!("*** Update File: {path}\n@@\n-{old}\n+{new}\n"))
                }
                Part::Runs(command) => json!({"type": "function_call", "name": "exec_command",
                    "arguments": json!({"cmd": command, "yield_time_ms": 60_000}).to_string()}),
                Part::Hangs => return pieces.hang(),
            };
            item["id"] = json!(format!("item_{number}_{at}"));
            if item["type"] == "function_call" || item["type"] == "custom_tool_call" {
                item["call_id"] = json!(format!("call_{number}_{at}"));
            }
            event(
                &mut pieces,
                &json!({"type": "response.output_item.done", "output_index": at, "item": item}),
            )?;
        }
        let [input, cached, output, reasoning] = answer.tokens;
        let usage = json!({
            "input_tokens": input,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": output,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": input + output,
        });
        event(&mut pieces, &json!({"type": "response.completed", "response": {"id": id, "usage": usage}}))?;
        pieces.end()
    }
}

fn patch(hunk: &str) -> Value {
    let input = format!("*** Begin Patch\n{hunk}*** End Patch\n");
    json!({"type": "custom_tool_call", "name": "apply_patch", "input": input})
}

fn event(pieces: &mut Pieces, data: &Value) -> io::Result<()> {
    pieces.send(&format!("event: {}\ndata: {data}\n\n", data["type"].as_str().unwrap_or_default()))
}

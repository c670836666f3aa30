//! Codex's own record of a conversation: `sessions/<year>/<month>/<day>/rollout-<time>-<id>.jsonl` below its home.
//!
//! As seen with 0.169.0: `resume <id>` finds the file by its name. Of its first line only the ids, time and
//! directory are needed; instructions and rules of this machine are given to it anew.

use crate::agent::conversation::{ConversationFile, Place, Turn, lines, text_of};
use serde_json::{Value, json};

/// What was said, from its file.
pub(super) fn read(file: &[u8]) -> Vec<Turn> {
    let items =
        lines(file).filter(|line| line["type"] == "response_item").map(|line| line["payload"].clone());
    items.filter_map(|item| turn(&item)).collect()
}

fn turn(item: &Value) -> Option<Turn> {
    let word = |key: &str| item[key].as_str().unwrap_or_default().to_owned();
    match item["type"].as_str()? {
        "message" => {
            let text = text_of(&item["content"]);
            match item["role"].as_str()? {
                // It says so itself, of the machine that it is on.
                "user" if text.starts_with("<environment_context>") => None,
                "user" => Some(Turn::Told { text }),
                "assistant" => Some(Turn::Said { text }),
                _ => None,
            }
        }
        "function_call" => {
            let input = serde_json::from_str(item["arguments"].as_str()?).ok()?;
            Some(Turn::Called { call: word("call_id"), tool: word("name"), input })
        }
        "custom_tool_call" => Some(Turn::Called {
            call: word("call_id"),
            tool: word("name"),
            input: Value::String(word("input")),
        }),
        "function_call_output" | "custom_tool_call_output" => {
            Some(Turn::Answered { call: word("call_id"), ok: true, output: text_of(&item["output"]) })
        }
        // What it thought is sealed for its own account.
        _ => None,
    }
}

/// A file that it goes on with; `None` if there is nothing to go on with.
pub(super) fn write(turns: &[Turn], place: &Place<'_>) -> Option<ConversationFile> {
    let (day, time) = place.at.trim_end_matches('Z').split_once('T')?;
    if turns.is_empty() {
        return None;
    }
    let meta = json!({
        "id": place.session,
        "session_id": place.session,
        "timestamp": place.at,
        "cwd": place.worktree.to_string_lossy(),
        "originator": "codex_exec",
        "cli_version": "0.169.0",
        "source": "exec",
    });
    let mut bytes = Vec::new();
    let mut push = |kind: &str, payload: Value| {
        let line = json!({"timestamp": place.at, "type": kind, "payload": payload});
        bytes.extend(line.to_string().into_bytes());
        bytes.push(b'\n');
    };
    push("session_meta", meta);
    // An answer has the form of its call.
    let mut custom = Vec::new();
    for turn in turns {
        let item = match turn {
            Turn::Told { text } => {
                json!({"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]})
            }
            Turn::Said { text } => {
                json!({"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": text}]})
            }
            Turn::Called { call, tool, input: Value::String(input) } => {
                custom.push(call);
                json!({"type": "custom_tool_call", "call_id": call, "name": tool, "input": input})
            }
            Turn::Called { call, tool, input } => {
                json!({"type": "function_call", "call_id": call, "name": tool, "arguments": input.to_string()})
            }
            Turn::Answered { call, output, .. } => {
                let kind =
                    if custom.contains(&call) { "custom_tool_call_output" } else { "function_call_output" };
                json!({"type": kind, "call_id": call, "output": output})
            }
        };
        push("response_item", item);
    }
    let name = format!("rollout-{day}T{}-{}.jsonl", time.replace(':', "-"), place.session);
    let path = ["sessions"].into_iter().chain(day.split('-')).chain([name.as_str()]).collect();
    Some(ConversationFile { path, bytes })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::Path;

    #[test]
    fn what_was_said_is_read_and_written_again() {
        let file = r#"{"type":"session_meta","payload":{"id":"x","base_instructions":"obey"}}
{"type":"turn_context","payload":{"sandbox_policy":"danger-full-access"}}
{"type":"response_item","payload":{"type":"message","role":"developer","content":[{"type":"input_text","text":"rules"}]}}
{"type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"<environment_context>\n</environment_context>"}]}}
{"type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"do it"}]}}
{"type":"response_item","payload":{"type":"reasoning","encrypted_content":"…"}}
{"type":"response_item","payload":{"type":"function_call","name":"shell","arguments":"{\"command\":[\"ls\"]}","call_id":"a"}}
{"type":"response_item","payload":{"type":"function_call_output","call_id":"a","output":"one"}}
{"type":"response_item","payload":{"type":"custom_tool_call","name":"exec","input":"x()","call_id":"b"}}
{"type":"response_item","payload":{"type":"custom_tool_call_output","call_id":"b","output":[{"type":"input_text","text":"two"}]}}
{"type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"done"}]}}"#;
        let turns = read(file.as_bytes());
        assert_eq!(turns.len(), 6, "{turns:?}");
        let place = Place {
            session: "s-1",
            worktree: Path::new("/w"),
            at: "2026-01-02T03:04:05Z",
            new_id: String::new,
        };
        let written = write(&turns, &place).unwrap();
        assert_eq!(written.path, Path::new("sessions/2026/01/02/rollout-2026-01-02T03-04-05-s-1.jsonl"));
        assert_eq!(read(&written.bytes), turns, "nothing is lost on the way");
        let text = String::from_utf8(written.bytes).unwrap();
        assert!(!text.contains("obey") && !text.contains("danger") && !text.contains("rules"), "{text}");
    }
}

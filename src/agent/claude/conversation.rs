//! Claude Code's own record of a conversation: `projects/<directory's name>/<id>.jsonl` below its configuration.
//!
//! As seen with 2.1.197: `--resume <id>` looks only in the directory that is named after where it runs; what a line
//! says about `cwd`, version and attachments does not matter to it, only the chain of `parentUuid`.

use crate::agent::conversation::{ConversationFile, Place, Turn, lines, text_of};
use serde_json::{Value, json};
use std::path::Path;

/// Of longer paths it makes names with a sum at the end that only it knows how to make.
const MAX_NAME: usize = 200;

/// What was said, from its file.
pub(super) fn read(file: &[u8]) -> Vec<Turn> {
    let mut turns = Vec::new();
    for line in lines(file) {
        if line["type"] == "system" && line["subtype"] == "compact_boundary" {
            // What was before is summed up in what follows.
            turns.clear();
        }
        let is_message = line["type"] == "user" || line["type"] == "assistant";
        let aside = ["isSidechain", "isMeta", "isApiErrorMessage"].iter().any(|key| line[*key] == true);
        if !is_message || aside {
            continue;
        }
        let (agent, content) = (line["type"] == "assistant", &line["message"]["content"]);
        let say = |text: String| if agent { Turn::Said { text } } else { Turn::Told { text } };
        let Some(blocks) = content.as_array() else {
            turns.push(say(text_of(content)));
            continue;
        };
        for block in blocks {
            let word = |key: &str| block[key].as_str().unwrap_or_default().to_owned();
            match block["type"].as_str() {
                Some("text") => turns.push(say(word("text"))),
                Some("tool_use") if agent => turns.push(Turn::Called {
                    call: word("id"),
                    tool: word("name"),
                    input: block["input"].clone(),
                }),
                Some("tool_result") if !agent => turns.push(Turn::Answered {
                    call: word("tool_use_id"),
                    ok: block["is_error"] != true,
                    output: text_of(&block["content"]),
                }),
                // What it thought is signed for its own account, and pictures are large.
                _ => {}
            }
        }
    }
    turns
}

/// A file that it goes on with; `None` if it would not find one.
pub(super) fn write(turns: &[Turn], place: &Place<'_>) -> Option<ConversationFile> {
    let mut bytes = Vec::new();
    let mut parent = Value::Null;
    for (agent, content) in messages(turns) {
        let id = (place.new_id)();
        let mut message = json!({"role": if agent { "assistant" } else { "user" }, "content": content});
        if agent {
            message["id"] = json!(format!("msg_{}", id.replace('-', "")));
            message["type"] = json!("message");
            message["model"] = json!("unknown");
            message["stop_reason"] = Value::Null;
            message["usage"] = json!({"input_tokens": 0, "output_tokens": 0});
        }
        let line = json!({
            "parentUuid": parent,
            "isSidechain": false,
            "type": if agent { "assistant" } else { "user" },
            "message": message,
            "uuid": id,
            "timestamp": place.at,
            "userType": "external",
            "cwd": place.worktree.to_string_lossy(),
            "sessionId": place.session,
            "version": "2.1.197",
        });
        bytes.extend(line.to_string().into_bytes());
        bytes.push(b'\n');
        parent = json!(id);
    }
    let directory = directory_name(place.worktree)?;
    let path = Path::new("projects").join(directory).join(format!("{}.jsonl", place.session));
    (!parent.is_null()).then_some(ConversationFile { path, bytes })
}

/// What is said in turn, as messages of the API: answers right after their calls, in one message.
fn messages(turns: &[Turn]) -> Vec<(bool, Vec<Value>)> {
    let mut messages: Vec<(bool, Vec<Value>)> = Vec::new();
    for turn in turns {
        let (agent, block) = match turn {
            Turn::Told { text } => (false, json!({"type": "text", "text": text})),
            Turn::Said { text } => (true, json!({"type": "text", "text": text})),
            Turn::Called { call, tool, input } => {
                (true, json!({"type": "tool_use", "id": call, "name": tool, "input": input}))
            }
            Turn::Answered { call, ok, output } => (
                false,
                json!({"type": "tool_result", "tool_use_id": call, "content": output, "is_error": !ok}),
            ),
        };
        match messages.last_mut() {
            Some((last, blocks)) if *last == agent => blocks.push(block),
            _ => messages.push((agent, vec![block])),
        }
    }
    messages
}

/// What it calls the directory of conversations that are held in `worktree`.
fn directory_name(worktree: &Path) -> Option<String> {
    let path = worktree.to_str()?;
    // It counts UTF-16 units.
    let name: String = path
        .chars()
        .flat_map(|c| if c.is_ascii_alphanumeric() { vec![c] } else { vec!['-'; c.len_utf16()] })
        .collect();
    (name.len() <= MAX_NAME).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_said_is_read_and_written_again() {
        let file = r#"{"type":"queue-operation","content":"x"}
{"type":"user","message":{"role":"user","content":"old words"},"uuid":"0"}
{"type":"system","subtype":"compact_boundary"}
{"type":"user","message":{"role":"user","content":"do it"},"uuid":"1"}
{"type":"user","isMeta":true,"message":{"role":"user","content":"aside"}}
{"type":"attachment","attachment":{"type":"hook","command":"rm -rf /"}}
{"type":"assistant","isSidechain":true,"message":{"content":[{"type":"text","text":"a sub-agent"}]}}
{"type":"assistant","message":{"content":[{"type":"thinking","thinking":"hm","signature":"s"}]}}
{"type":"assistant","message":{"content":[{"type":"tool_use","id":"a","name":"Bash","input":{"command":"x"}}]}}
{"type":"assistant","message":{"content":[{"type":"tool_use","id":"b","name":"Read","input":{}}]}}
{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"one"},{"type":"image","source":{}}]}]}}
{"type":"user","message":{"content":[{"type":"tool_result","tool_use_id":"b","content":"no","is_error":true}]}}
{"type":"assistant","message":{"content":[{"type":"text","text":"done"}]}}
{"type":"assistant","isApiErrorMessage":true,"message":{"content":[{"type":"text","text":"API Error"}]}}
torn {"#;
        let turns = read(file.as_bytes());
        assert_eq!(turns.len(), 6, "{turns:?}");
        assert_eq!(turns[3], Turn::Answered { call: "a".into(), ok: true, output: "one\n[image]".into() });
        let new_id = || uuid::Uuid::new_v4().to_string();
        let place =
            Place {
                session: "s-1", worktree: Path::new("/w/re po.x/ä"), at: "2026-01-01T00:00:00Z", new_id
            };
        let file = write(&turns, &place).unwrap();
        assert_eq!(file.path, Path::new("projects/-w-re-po-x--/s-1.jsonl"));
        assert_eq!(read(&file.bytes), turns, "nothing is lost on the way");
        let lines: Vec<Value> = lines(&file.bytes).collect();
        let roles: Vec<&str> = lines.iter().map(|line| line["type"].as_str().unwrap()).collect();
        assert_eq!(roles, ["user", "assistant", "user", "assistant"]);
        assert_eq!(
            lines[2]["message"]["content"].as_array().unwrap().len(),
            2,
            "both answers in one message"
        );
        assert_eq!((&lines[0]["parentUuid"], &lines[1]["parentUuid"]), (&Value::Null, &lines[0]["uuid"]));
        let long = format!("/{}", "x".repeat(MAX_NAME));
        assert_eq!(write(&turns, &Place { worktree: Path::new(&long), ..place }), None);
        assert_eq!(write(&[], &place), None);
    }
}

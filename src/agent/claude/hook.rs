//! Claude Code's hook before a tool is used: what it is told on standard input, and what it is answered.
//!
//! Seen with 2.1.197: `permissionDecision: deny` and its reason reach the model as the tool's error, also where
//! permissions are bypassed; `additionalContext` reaches it beside the tool's result.

use crate::agent::AgentError;
use bstr::ByteSlice;
use serde::Deserialize;
use serde_json::{Value, json};

/// The tools that edit a file, as a matcher of hooks.
const EDITORS: &str = "Edit|MultiEdit|Write|NotebookEdit";

/// Seconds after which it no longer waits for the hook's answer.
const PATIENCE: u64 = 10;

/// A tool that is about to be used on a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EditCall {
    /// The file, as the tool was given it: usually absolute.
    pub path: String,
    change: Change,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Whole(String),
    Parts(Vec<Part>),
    /// Cells of a notebook: what its file would hold is not known here.
    Unknown,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Part {
    old_string: String,
    new_string: String,
    #[serde(default)]
    replace_all: bool,
}

#[derive(Debug, Deserialize)]
struct Use {
    tool_name: String,
    #[serde(default)]
    tool_input: Value,
}

#[derive(Debug, Deserialize)]
struct Edit {
    file_path: String,
    #[serde(flatten)]
    part: Part,
}

#[derive(Debug, Deserialize)]
struct MultiEdit {
    file_path: String,
    edits: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Write {
    file_path: String,
    content: String,
}

#[derive(Debug, Deserialize)]
struct NotebookEdit {
    notebook_path: String,
}

fn read<T: serde::de::DeserializeOwned>(input: Value) -> Option<T> {
    serde_json::from_value(input).ok()
}

impl EditCall {
    /// What the hook's standard input says; `None` for a tool that edits no file, or one that is called wrongly: its
    /// program says that itself.
    ///
    /// # Errors
    /// If it is not what Claude Code tells a hook.
    pub fn parse(input: &[u8]) -> Result<Option<Self>, AgentError> {
        let call: Use = serde_json::from_slice(input).map_err(AgentError::Hook)?;
        let input = call.tool_input;
        Ok(match call.tool_name.as_str() {
            "Edit" => read(input)
                .map(|Edit { file_path: path, part }| Self { path, change: Change::Parts(vec![part]) }),
            "MultiEdit" => read(input)
                .map(|MultiEdit { file_path: path, edits }| Self { path, change: Change::Parts(edits) }),
            "Write" => read(input)
                .map(|Write { file_path: path, content }| Self { path, change: Change::Whole(content) }),
            "NotebookEdit" => {
                read(input).map(|NotebookEdit { notebook_path: path }| Self { path, change: Change::Unknown })
            }
            _ => None,
        })
    }

    /// What the file would hold, of which `before` is what it holds now; `None` if the tool would refuse, or if that
    /// cannot be told.
    pub fn applied_to(&self, before: &[u8]) -> Option<Vec<u8>> {
        match &self.change {
            Change::Whole(content) => Some(content.clone().into_bytes()),
            Change::Unknown => None,
            Change::Parts(parts) => {
                let mut content = before.to_vec();
                for Part { old_string: old, new_string: new, replace_all } in parts {
                    content = match old.as_str() {
                        "" if content.is_empty() => new.clone().into_bytes(),
                        "" => return None,
                        old if !content.contains_str(old) => return None,
                        old if *replace_all => content.replace(old, new),
                        old => content.replacen(old, new, 1),
                    };
                }
                Some(content)
            }
        }
    }
}

/// What the hook prints so that the tool is not used; the model is told `reason`.
pub fn deny(reason: &str) -> String {
    answer(&json!({"permissionDecision": "deny", "permissionDecisionReason": reason}))
}

/// What the hook prints so that the model is told `words`, and nothing else changes.
pub fn inform(words: &str) -> String {
    answer(&json!({"additionalContext": words}))
}

fn answer(own: &Value) -> String {
    let mut output = json!({"hookEventName": "PreToolUse"});
    if let (Some(output), Some(own)) = (output.as_object_mut(), own.as_object()) {
        output.extend(own.clone());
    }
    format!("{}\n", json!({"hookSpecificOutput": output}))
}

/// Settings that have Claude Code ask `command`, a line for the shell, before it edits a file.
pub fn hook_settings(command: &str) -> Value {
    let hook = json!({"type": "command", "command": command, "timeout": PATIENCE});
    json!({"hooks": {"PreToolUse": [{"matcher": EDITORS, "hooks": [hook]}]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(tool: &str, input: &Value) -> Option<EditCall> {
        let told = json!({"session_id": "s", "cwd": "/w", "hook_event_name": "PreToolUse", "tool_name": tool,
            "tool_input": input, "tool_use_id": "t"});
        EditCall::parse(told.to_string().as_bytes()).unwrap()
    }

    fn edited(tool: &str, input: &Value, before: &str) -> Option<String> {
        Some(String::from_utf8(call(tool, input)?.applied_to(before.as_bytes())?).unwrap())
    }

    #[test]
    fn what_each_tool_would_write() {
        let edit = json!({"file_path": "/w/f", "old_string": "a", "new_string": "b"});
        assert_eq!(edited("Edit", &edit, "a a"), Some("b a".to_owned()));
        assert_eq!(edited("Edit", &edit, "x"), None, "the tool itself refuses");
        let all = json!({"file_path": "/w/f", "old_string": "a", "new_string": "b", "replace_all": true});
        assert_eq!(edited("Edit", &all, "a a"), Some("b b".to_owned()));
        let new = json!({"file_path": "/w/f", "old_string": "", "new_string": "all of it"});
        assert_eq!(edited("Edit", &new, ""), Some("all of it".to_owned()));
        assert_eq!(edited("Edit", &new, "there"), None);
        let several = json!({"file_path": "/w/f", "edits": [
            {"old_string": "a", "new_string": "b"}, {"old_string": "b c", "new_string": "d"}]});
        assert_eq!(edited("MultiEdit", &several, "a c"), Some("d".to_owned()));
        let write = json!({"file_path": "/w/f", "content": "new"});
        assert_eq!(edited("Write", &write, "old"), Some("new".to_owned()));
        let notebook = json!({"notebook_path": "/w/n.ipynb", "new_source": "1"});
        assert_eq!(call("NotebookEdit", &notebook).unwrap().path, "/w/n.ipynb");
        assert_eq!(edited("NotebookEdit", &notebook, "{}"), None);
    }

    #[test]
    fn what_edits_nothing_and_what_is_no_call() {
        assert_eq!(call("Bash", &json!({"command": "sed -i s/a/b/ f"})), None);
        assert_eq!(call("Edit", &json!({"file_path": "/w/f"})), None);
        assert_eq!(call("Edit", &Value::Null), None);
        for broken in ["", "[]", "{}", "{\"tool_name\":1}", "\u{0}"] {
            assert!(EditCall::parse(broken.as_bytes()).is_err(), "{broken}");
        }
    }
}

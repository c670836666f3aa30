//! The project's own line format, for scripted and home-made agents.
//!
//! | line | meaning |
//! |---|---|
//! | `{"type":"ready","model":"…","window":200000}` | the program is up; how many tokens its model takes, for one that the table of prices does not know |
//! | `{"type":"turn","number":1}` | a turn of the model began |
//! | `{"type":"thinking","content":"…"}`, `text`, `notice` | words |
//! | `{"type":"tool_call","tool":"bash","args":{"command":"…"}}` | also `write` {path, content}, `edit` {path, old, new} and `read` {path}; played, then answered by a `tool_result` |
//! | `{"type":"finding","message":"…","severity":"high","path":"src/a.rs:3"}` | adds a finding |
//! | `{"type":"usage","input":1,"output":2,"cache_read":0,"cache_write":0,"cost_usd":0.01}` | one more message's figures: their sum is what is in its model's window |
//! | `{"type":"wait","ms":200}` | a pause |
//! | `{"type":"result","content":"…","error":false}` | its last words |
//! | `{"type":"exit","code":1}` | the end |

use crate::agent::lenient::{Object, Scalar};
use serde::Deserialize;
use serde_json::value::RawValue;

/// One line.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    pub(super) number: Scalar<'a>,
    pub(super) content: Scalar<'a>,
    pub(super) model: Scalar<'a>,
    pub(super) window: Scalar<'a>,
    pub(super) version: Scalar<'a>,
    pub(super) tool: Scalar<'a>,
    #[serde(borrow)]
    pub(super) args: Option<&'a RawValue>,
    pub(super) call: Scalar<'a>,
    pub(super) ok: Scalar<'a>,
    /// The words of a `tool_result`, the tokens of `usage`.
    pub(super) output: Scalar<'a>,
    pub(super) input: Scalar<'a>,
    pub(super) cache_read: Scalar<'a>,
    pub(super) cache_write: Scalar<'a>,
    pub(super) cost_usd: Scalar<'a>,
    pub(super) error: Scalar<'a>,
    pub(super) message: Scalar<'a>,
    pub(super) severity: Scalar<'a>,
    pub(super) path: Scalar<'a>,
    pub(super) ms: Scalar<'a>,
    pub(super) code: Scalar<'a>,
    /// Only lines of a transcript of events have it.
    at: Scalar<'a>,
    /// Only results of Claude Code have it.
    subtype: Scalar<'a>,
    /// Where a recorded stream of Claude Code was recorded.
    pub(super) cwd: Scalar<'a>,
    /// Only lines of Gemini CLI have it.
    timestamp: Scalar<'a>,
    /// A call of Gemini CLI.
    pub(super) tool_name: Scalar<'a>,
    #[serde(borrow)]
    pub(super) parameters: Option<&'a RawValue>,
    /// Something that Codex does.
    pub(super) item: Object<Item<'a>>,
}

impl Line<'_> {
    /// Whether it is a line of Claude Code's stream.
    pub(super) fn is_claude(&self) -> bool {
        match self.kind.text() {
            "system" | "assistant" | "user" | "stream_event" => true,
            "result" => self.subtype != Scalar::Absent && self.at == Scalar::Absent,
            kind => kind.starts_with("control_"),
        }
    }

    /// Whether it is a line of Codex's stream.
    pub(super) fn is_codex(&self) -> bool {
        let kind = self.kind.text();
        ["thread.", "turn.", "item."].iter().any(|prefix| kind.starts_with(prefix))
            || kind == "error" && self.timestamp == Scalar::Absent && self.message.some_text().is_some()
    }

    /// Whether it is a line of Gemini CLI's stream.
    pub(super) fn is_gemini(&self) -> bool {
        self.timestamp.some_text().is_some()
    }

    /// Whether it is a normalised event.
    pub(super) fn is_event(&self) -> bool {
        self.at != Scalar::Absent
    }

    /// When it was read, if it is an event.
    pub(super) fn at(&self) -> u64 {
        self.at.int()
    }
}

/// What the tools of a script, and of Claude Code, are called with.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Args<'a> {
    #[serde(borrow)]
    pub(super) command: Scalar<'a>,
    #[serde(alias = "file_path")]
    pub(super) path: Scalar<'a>,
    pub(super) content: Scalar<'a>,
    #[serde(alias = "old_string")]
    pub(super) old: Scalar<'a>,
    #[serde(alias = "new_string")]
    pub(super) new: Scalar<'a>,
    #[serde(alias = "replace_all")]
    pub(super) all: Scalar<'a>,
}

/// An item of Codex's stream.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Item<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    pub(super) command: Scalar<'a>,
}

/// An assistant's line of Claude Code's stream, for the tools in it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Assistant<'a> {
    #[serde(borrow)]
    pub(super) message: Message<'a>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) content: Vec<Block<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Block<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    pub(super) name: Scalar<'a>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
}

//! The lines that `codex exec --json` prints, as borrowed data: only the fields that become events.
//!
//! Seen on the wire of 0.169.0, but for sub-agents and MCP calls, whose fields are those of its sources; every field
//! may be missing or of another kind (see `lenient`).

use crate::agent::lenient::{Object, Scalar, Shape};
use crate::model::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One line. `type` says which of the fields are there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    /// `thread.started`.
    pub(super) thread_id: Scalar<'a>,
    /// `item.started`, `item.updated`, `item.completed`.
    pub(super) item: Object<Item<'a>>,
    /// `turn.completed`.
    pub(super) usage: Object<TokenCounts<'a>>,
    /// `turn.failed`.
    pub(super) error: Object<Words<'a>>,
    /// `error`.
    pub(super) message: Scalar<'a>,
}

/// Something that it says or does.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Item<'a> {
    #[serde(borrow)]
    pub(super) id: Scalar<'a>,
    #[serde(rename = "type")]
    pub(super) kind: Scalar<'a>,
    pub(super) status: Scalar<'a>,
    /// `agent_message`, `reasoning`, `plan`.
    pub(super) text: Scalar<'a>,
    /// `command_execution`.
    pub(super) command: Scalar<'a>,
    #[serde(borrow)]
    pub(super) aggregated_output: Option<&'a RawValue>,
    /// `file_change`.
    pub(super) changes: Shape<'a, Change<'a>>,
    /// `mcp_tool_call`; `tool` and `prompt` also of `collab_tool_call`.
    pub(super) server: Scalar<'a>,
    pub(super) tool: Scalar<'a>,
    #[serde(borrow)]
    pub(super) arguments: Option<&'a RawValue>,
    pub(super) result: Object<Answer<'a>>,
    pub(super) error: Object<Words<'a>>,
    pub(super) prompt: Scalar<'a>,
    /// `web_search`.
    pub(super) query: Scalar<'a>,
    /// `todo_list`.
    pub(super) items: Shape<'a, Todo<'a>>,
    /// `error`.
    pub(super) message: Scalar<'a>,
}

/// A file that was changed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Change<'a> {
    #[serde(borrow)]
    pub(super) path: Scalar<'a>,
    pub(super) kind: Scalar<'a>,
}

/// What an MCP server answered.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer<'a> {
    #[serde(borrow)]
    pub(super) content: Shape<'a, Words<'a>>,
}

/// One thing to do.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Todo<'a> {
    #[serde(borrow)]
    pub(super) text: Scalar<'a>,
    pub(super) completed: Scalar<'a>,
}

/// An error's message, or a block of text.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Words<'a> {
    #[serde(borrow, alias = "text")]
    pub(super) message: Scalar<'a>,
}

/// Token counts of the whole conversation so far, runs that it continues included.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenCounts<'a> {
    /// All input, from the cache or not.
    #[serde(borrow, rename = "input_tokens")]
    input: Scalar<'a>,
    #[serde(rename = "cached_input_tokens")]
    cache_read: Scalar<'a>,
    #[serde(rename = "cache_write_input_tokens")]
    cache_write: Scalar<'a>,
    /// Reasoning included.
    #[serde(rename = "output_tokens")]
    output: Scalar<'a>,
}

impl TokenCounts<'_> {
    pub(super) fn usage(&self) -> Usage {
        let (cache_read, cache_write) = (self.cache_read.int(), self.cache_write.int());
        Usage {
            input: self.input.int().saturating_sub(cache_read).saturating_sub(cache_write),
            output: self.output.int(),
            cache_read,
            cache_write,
            ..Usage::default()
        }
    }
}

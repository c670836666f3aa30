//! The lines that Gemini CLI prints, as borrowed data: only the fields that become events.
//!
//! Seen on the wire of 0.61.0; every field may be missing or of another kind (see `lenient`).

use crate::agent::lenient::{Object, Scalar};
use crate::model::Usage;
use serde::Deserialize;
use serde_json::value::RawValue;

/// One line. `type` says which of the fields are there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    /// `init`.
    pub(super) session_id: Scalar<'a>,
    pub(super) model: Scalar<'a>,
    /// `message`.
    pub(super) role: Scalar<'a>,
    pub(super) content: Scalar<'a>,
    pub(super) delta: Scalar<'a>,
    /// `tool_use`, and its `tool_result`.
    pub(super) tool_name: Scalar<'a>,
    pub(super) tool_id: Scalar<'a>,
    #[serde(borrow)]
    pub(super) parameters: Option<&'a RawValue>,
    #[serde(borrow)]
    pub(super) output: Option<&'a RawValue>,
    /// `success` or `error`: of `tool_result` and of `result`.
    pub(super) status: Scalar<'a>,
    pub(super) error: Object<Failure<'a>>,
    /// `error`.
    pub(super) message: Scalar<'a>,
    /// `result`.
    pub(super) stats: Object<Stats<'a>>,
}

/// What went wrong.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Failure<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    pub(super) message: Scalar<'a>,
}

/// The figures of one process, all its models together.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Stats<'a> {
    /// Input, output and thoughts.
    #[serde(borrow)]
    total_tokens: Scalar<'a>,
    /// All input, from the cache or not.
    input_tokens: Scalar<'a>,
    /// Without thoughts, which only the total holds.
    output_tokens: Scalar<'a>,
    cached: Scalar<'a>,
}

impl Stats<'_> {
    pub(super) fn usage(&self) -> Usage {
        let (all, cache_read) = (self.input_tokens.int(), self.cached.int());
        Usage {
            input: all.saturating_sub(cache_read),
            output: self.output_tokens.int().max(self.total_tokens.int().saturating_sub(all)),
            cache_read,
            ..Usage::default()
        }
    }
}

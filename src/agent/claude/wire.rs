//! The lines that Claude Code prints, as borrowed data: only the fields that become events.
//!
//! Seen on the wire of 2.1.197; every field may be missing or of another kind (see `lenient`).

use crate::agent::lenient::{Object, Scalar, Shape};
use crate::model::{Asked, AskedOption, Usage};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// One line. `type` says which of the fields are there.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Line<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    pub(super) subtype: Scalar<'a>,
    pub(super) parent_tool_use_id: Scalar<'a>,
    /// `assistant` and `user`.
    pub(super) message: Object<Message<'a>>,
    /// `stream_event`.
    pub(super) event: Object<StreamEvent<'a>>,
    /// `control_request`.
    pub(super) request_id: Scalar<'a>,
    pub(super) request: Object<Request<'a>>,
    /// `control_response`.
    pub(super) response: Object<Response<'a>>,
    /// `system/init`.
    pub(super) cwd: Scalar<'a>,
    pub(super) session_id: Scalar<'a>,
    pub(super) model: Scalar<'a>,
    #[serde(rename = "permissionMode")]
    pub(super) permission_mode: Scalar<'a>,
    pub(super) claude_code_version: Scalar<'a>,
    /// `system/status`.
    pub(super) status: Scalar<'a>,
    /// `system/api_retry`; `error` also elsewhere.
    pub(super) attempt: Scalar<'a>,
    pub(super) max_retries: Scalar<'a>,
    pub(super) retry_delay_ms: Scalar<'a>,
    pub(super) error_status: Scalar<'a>,
    pub(super) error: Scalar<'a>,
    /// `system/hook_response`.
    pub(super) hook_name: Scalar<'a>,
    pub(super) outcome: Scalar<'a>,
    pub(super) exit_code: Scalar<'a>,
    pub(super) stderr: Scalar<'a>,
    /// `system/task_started`, `task_updated` and `task_notification`.
    pub(super) task_id: Scalar<'a>,
    pub(super) task_type: Scalar<'a>,
    pub(super) patch: Object<Patch<'a>>,
    /// `rate_limit_event`.
    pub(super) rate_limit_info: Object<RateLimit<'a>>,
    /// `result`.
    pub(super) is_error: Scalar<'a>,
    pub(super) result: Scalar<'a>,
    pub(super) errors: Strings<'a>,
    pub(super) terminal_reason: Scalar<'a>,
    pub(super) total_cost_usd: Scalar<'a>,
    pub(super) usage: Object<TokenCounts<'a>>,
    #[serde(rename = "modelUsage")]
    pub(super) model_usage: Object<BTreeMap<String, Object<TokenCounts<'a>>>>,
    pub(super) permission_denials: Shape<'a, Denial<'a>>,
}

/// What changed of a task.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Patch<'a> {
    #[serde(borrow)]
    pub(super) status: Scalar<'a>,
}

/// How an account stands with its limits.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct RateLimit<'a> {
    #[serde(borrow)]
    pub(super) status: Scalar<'a>,
    /// Seconds since 1970.
    #[serde(rename = "resetsAt")]
    pub(super) resets_at: Scalar<'a>,
    #[serde(rename = "rateLimitType")]
    pub(super) kind: Scalar<'a>,
}

/// A message of the model, or one with tool results.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Message<'a> {
    #[serde(borrow)]
    pub(super) id: Scalar<'a>,
    pub(super) model: Scalar<'a>,
    pub(super) usage: Object<TokenCounts<'a>>,
    pub(super) content: Shape<'a, Block<'a>>,
}

/// A content block.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Block<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    pub(super) text: Scalar<'a>,
    pub(super) thinking: Scalar<'a>,
    /// `tool_use`.
    pub(super) id: Scalar<'a>,
    pub(super) name: Scalar<'a>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
    /// `tool_result`: a string or a list of blocks.
    pub(super) tool_use_id: Scalar<'a>,
    #[serde(borrow)]
    pub(super) content: Option<&'a RawValue>,
    pub(super) is_error: Scalar<'a>,
}

/// The model's own stream, passed through.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct StreamEvent<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    pub(super) message: Object<Message<'a>>,
    pub(super) delta: Object<Delta<'a>>,
    pub(super) usage: Object<TokenCounts<'a>>,
}

/// A piece of a content block.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Delta<'a> {
    #[serde(borrow, rename = "type")]
    pub(super) kind: Scalar<'a>,
    pub(super) text: Scalar<'a>,
    pub(super) thinking: Scalar<'a>,
    pub(super) partial_json: Scalar<'a>,
}

/// A request of the program to us.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Request<'a> {
    #[serde(borrow)]
    pub(super) subtype: Scalar<'a>,
    pub(super) tool_name: Scalar<'a>,
    #[serde(borrow)]
    pub(super) input: Option<&'a RawValue>,
}

/// The program's answer to a request of ours.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Response<'a> {
    #[serde(borrow)]
    pub(super) subtype: Scalar<'a>,
    pub(super) error: Scalar<'a>,
}

/// Token counts, in the model's words or in the program's own.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct TokenCounts<'a> {
    #[serde(borrow, rename = "input_tokens", alias = "inputTokens")]
    input: Scalar<'a>,
    #[serde(rename = "output_tokens", alias = "outputTokens")]
    output: Scalar<'a>,
    #[serde(rename = "cache_creation_input_tokens", alias = "cacheCreationInputTokens")]
    cache_write: Scalar<'a>,
    #[serde(rename = "cache_read_input_tokens", alias = "cacheReadInputTokens")]
    cache_read: Scalar<'a>,
    /// Only the program's own sums have it.
    #[serde(rename = "contextWindow")]
    window: Scalar<'a>,
}

impl TokenCounts<'_> {
    /// How many tokens the model takes, if it says.
    pub(super) fn window(&self) -> Option<u64> {
        Some(self.window.int()).filter(|window| *window > 0)
    }

    pub(super) fn usage(&self) -> Usage {
        Usage {
            input: self.input.int(),
            output: self.output.int(),
            cache_read: self.cache_read.int(),
            cache_write: self.cache_write.int(),
            ..Usage::default()
        }
    }
}

/// A tool that was refused.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Denial<'a> {
    #[serde(borrow, rename = "tool_name")]
    pub(super) tool: Scalar<'a>,
    #[serde(rename = "tool_use_id")]
    pub(super) call: Scalar<'a>,
    #[serde(borrow, rename = "tool_input")]
    pub(super) input: Option<&'a RawValue>,
}

/// A list of texts; what is none is left out.
#[derive(Debug, Default)]
pub(super) struct Strings<'a>(pub(super) Vec<Scalar<'a>>);

impl<'de: 'a, 'a> Deserialize<'de> for Strings<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = <&RawValue>::deserialize(deserializer)?;
        Ok(Self(serde_json::from_str(raw.get()).unwrap_or_default()))
    }
}

/// The input of the tool by which the model asks a person.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Questions<'a> {
    #[serde(borrow)]
    questions: Vec<Object<QuestionInput<'a>>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct QuestionInput<'a> {
    #[serde(borrow)]
    question: Scalar<'a>,
    options: Vec<Object<OptionInput<'a>>>,
    #[serde(rename = "multiSelect")]
    multi_select: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct OptionInput<'a> {
    #[serde(borrow)]
    label: Scalar<'a>,
    description: Scalar<'a>,
}

/// What the model asks with this input (JSON); nothing if it is not understood.
pub(super) fn questions(input: &str) -> Vec<Asked> {
    let input: Questions<'_> = serde_json::from_str(input).unwrap_or_default();
    let option = |Object(option): Object<OptionInput<'_>>| {
        let option = option?;
        Some(AskedOption {
            label: option.label.some_text()?.to_owned(),
            description: option.description.text().to_owned(),
        })
    };
    let asked = |Object(question): Object<QuestionInput<'_>>| {
        let question = question?;
        Some(Asked {
            text: question.question.some_text()?.to_owned(),
            options: question.options.into_iter().filter_map(option).collect(),
            several: question.multi_select,
        })
    };
    input.questions.into_iter().filter_map(asked).collect()
}

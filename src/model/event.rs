//! Events: what an agent said or did, in one form for every program.

use super::{Asked, ContextUse, Timestamp, Usage};
use serde::{Deserialize, Serialize};

/// One normalised thing that an agent said or did.
///
/// Events are claims: no state, approval or outcome follows from one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When we read it.
    pub at: Timestamp,
    /// The tool call of the sub-agent that said it; absent for the agent itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// What it is.
    #[serde(flatten)]
    pub kind: EventKind,
}

/// What an event is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum EventKind {
    /// The program is up and said what it is.
    Ready {
        /// The model it will use.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// The conversation's id.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
        /// The program's version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        version: Option<String>,
        /// Its permission mode, in its own words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        permissions: Option<String>,
    },
    /// A turn of the model began.
    Turn {
        /// From 1.
        number: u64,
    },
    /// Something it says. Consecutive pieces with `partial` belong together until one without.
    Text {
        /// The words.
        text: String,
        /// Whether this is a piece of a text that a whole one will repeat.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        partial: bool,
    },
    /// Something it thinks aloud.
    Thinking {
        /// The words.
        text: String,
        /// As in `Text`.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        partial: bool,
    },
    /// It calls a tool.
    ToolCall {
        /// The call's id, which the result repeats.
        call: String,
        /// The tool's name in the program's own words.
        tool: String,
        /// What it is called on, in one line: a path, a command, a pattern.
        summary: String,
        /// What it may touch.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        target: Option<ToolTarget>,
    },
    /// A tool answered.
    ToolResult {
        /// The call it answers.
        call: String,
        /// Whether it worked.
        ok: bool,
        /// What it said, cut to a few lines.
        output: String,
    },
    /// It wants to do what it may not do by itself, and waits.
    PermissionAsked {
        /// The request's id, which the reply repeats.
        request: String,
        /// The tool.
        tool: String,
        /// What it would be called on.
        summary: String,
        /// The tool's whole input as JSON, to be sent back when allowed.
        input: String,
        /// What it asks a person, if that is what the tool is for.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        questions: Vec<Asked>,
    },
    /// It does not wait for that answer any more: the turn that asked was broken off.
    PermissionWithdrawn {
        /// The request's id.
        request: String,
    },
    /// A tool was refused.
    PermissionDenied {
        /// The tool.
        tool: String,
        /// Why or on what.
        summary: String,
    },
    /// The program tries its model again.
    Retry {
        /// From 1.
        attempt: u64,
        /// After how many it gives up.
        max: u64,
        /// How long it waits, in milliseconds.
        delay_ms: u64,
        /// The HTTP status: 401, 429, 529.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
        /// The error's name: `rate_limit`.
        error: String,
    },
    /// It does not run before then: its model served nobody of this account.
    Parked {
        /// Until when.
        until: Timestamp,
        /// Why: `429 rate_limit`.
        why: String,
    },
    /// A person broke its turn off: it waits until it is told something.
    Interrupted {},
    /// Tokens so far in this run, all messages counted once.
    Usage {
        /// The figures.
        usage: Usage,
        /// How full the window of its model is, where the program tells.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        context: Option<ContextUse>,
    },
    /// A turn, or the whole conversation, is over as the program sees it.
    Result {
        /// The program's own word: `success`, `error_max_turns`.
        subtype: String,
        /// Whether it calls itself failed.
        error: bool,
        /// Its last words.
        text: String,
        /// The figures of the whole run so far.
        usage: Usage,
    },
    /// A line that the program wrote to stderr, or that we have to say about the stream.
    Notice {
        /// The words.
        text: String,
    },
    /// A line that no decoder knows, kept as it was.
    Unrecognised {
        /// The line, cut to a sane length; the raw journal has it whole.
        raw: String,
    },
    /// The process is gone.
    Exited {
        /// The exit code.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        code: Option<i32>,
        /// The signal that ended it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        signal: Option<i32>,
    },
}

/// What a tool call may touch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToolTarget {
    /// It reads this path.
    Reads(String),
    /// It writes this path.
    Writes(String),
    /// It runs this command.
    Runs(String),
}

//! What `--json` prints: one document with a versioned envelope.

use super::context::Context;
use super::error::CliError;
use serde::Serialize;

/// `{"schema": "git-orchestra/<kind>/1", "data": …}`: the number changes when a field changes its meaning or
/// goes; new fields may appear at any time. Absent means nothing, `null` means unknown.
#[derive(Debug, Serialize)]
struct Envelope<'a, T> {
    schema: String,
    data: &'a T,
}

/// The version of every schema so far.
const VERSION: u32 = 1;

/// One document on one line, for streams.
pub(crate) fn line<T: Serialize>(kind: &str, data: &T) -> Result<String, CliError> {
    let envelope = Envelope { schema: format!("git-orchestra/{kind}/{VERSION}"), data };
    let mut text = serde_json::to_string(&envelope)
        .map_err(|error| CliError::failed(format!("failed to write {kind} as JSON"), error))?;
    text.push('\n');
    Ok(text)
}

/// Prints `data` as the answer; `kind` names its schema (`git orchestra schema <kind>`).
pub(crate) fn print<T: Serialize>(ctx: &Context, kind: &str, data: &T) -> Result<(), CliError> {
    let envelope = Envelope { schema: format!("git-orchestra/{kind}/{VERSION}"), data };
    let mut text = serde_json::to_string_pretty(&envelope)
        .map_err(|error| CliError::failed(format!("failed to write {kind} as JSON"), error))?;
    text.push('\n');
    ctx.ui().print(&text)
}

//! What `--json` prints: one document with a versioned envelope.

use super::context::Context;
use super::error::CliError;
use crate::agent::is_hidden;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// `{"schema": "git-orchestra/<kind>/1", "data": …}`: the number changes when a field changes its meaning or
/// goes; new fields may appear at any time. Absent means nothing, `null` means unknown.
#[derive(Debug, Serialize)]
struct Envelope<'a, T> {
    schema: String,
    data: &'a T,
    #[serde(flatten)]
    beside: BTreeMap<&'a str, serde_json::Value>,
}

impl<'a, T> Envelope<'a, T> {
    fn new(kind: &str, data: &'a T) -> Self {
        Self { schema: format!("git-orchestra/{kind}/{VERSION}"), data, beside: BTreeMap::new() }
    }
}

/// The version of every schema so far.
const VERSION: u32 = 1;

/// One document on one line, for streams.
pub(crate) fn line<T: Serialize>(kind: &str, data: &T) -> Result<String, CliError> {
    let mut text =
        serde_json::to_string(&Envelope::new(kind, data)).map_err(|error| unwritten(kind, error))?;
    text.push('\n');
    Ok(escaped(text))
}

/// Prints `data` as the answer; `kind` names its schema (`git orchestra schema <kind>`).
pub(crate) fn print<T: Serialize>(ctx: &Context, kind: &str, data: &T) -> Result<(), CliError> {
    print_document(ctx, kind, &Envelope::new(kind, data))
}

/// The same with something beside the data, by a name of its own.
pub(crate) fn print_beside<T: Serialize, U: Serialize>(
    ctx: &Context,
    kind: &str,
    data: &T,
    name: &str,
    more: &U,
) -> Result<(), CliError> {
    let mut document = Envelope::new(kind, data);
    document.beside.insert(name, serde_json::to_value(more).map_err(|error| unwritten(kind, error))?);
    print_document(ctx, kind, &document)
}

fn print_document<T: Serialize>(
    ctx: &Context,
    kind: &str,
    document: &Envelope<'_, T>,
) -> Result<(), CliError> {
    let mut text = serde_json::to_string_pretty(document).map_err(|error| unwritten(kind, error))?;
    text.push('\n');
    ctx.ui().print(&escaped(text))
}

fn unwritten(kind: &str, error: serde_json::Error) -> CliError {
    CliError::failed(format!("failed to write {kind} as JSON"), error)
}

/// The same document, whose strings are written without characters that a terminal would obey or not show: somebody may
/// look at it. JSON itself leaves out only some of them.
fn escaped(text: String) -> String {
    let is_harmless = |c: char| c == '\n' || !is_hidden(c);
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\n')) || text.chars().all(is_harmless) {
        return text;
    }
    let mut safe = String::with_capacity(text.len() + 64);
    for c in text.chars() {
        if is_harmless(c) {
            safe.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                let _ = write!(safe, "\\u{unit:04x}");
            }
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_says_the_same_and_drives_no_terminal() {
        let words = "a\u{9b}31m\u{202e}b\u{e0041}\u{7f}ä\n";
        let text = line("words", &words).unwrap();
        assert!(text.contains("a\\u009b31m\\u202eb\\udb40\\udc41\\u007fä\\n"), "{text}");
        let read: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(read["data"], words);
    }
}

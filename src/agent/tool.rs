//! What a tool call is called on, in one line: a path, a command, a pattern. Shared by all decoders.

use super::lenient::Scalar;
use crate::model::ToolTarget;
use serde::Deserialize;

/// The longest command that a [`ToolTarget::Runs`] keeps, in bytes.
const MAX_COMMAND: usize = 8 * 1024;
/// The longest summary, in bytes.
const MAX_SUMMARY: usize = 400;

/// The fields of all known tools' inputs; contents are not among them, so that a large file is skipped unread.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Input<'a> {
    #[serde(borrow)]
    file_path: Scalar<'a>,
    notebook_path: Scalar<'a>,
    path: Scalar<'a>,
    dir_path: Scalar<'a>,
    command: Scalar<'a>,
    pattern: Scalar<'a>,
    url: Scalar<'a>,
    query: Scalar<'a>,
    description: Scalar<'a>,
    skill: Scalar<'a>,
    prompt: Scalar<'a>,
}

/// The summary and the target of a call of `tool` with `input` (JSON). Paths inside `worktree` are shown
/// relative to it; an input that is no JSON object summarises to nothing.
pub(super) fn describe(tool: &str, input: &str, worktree: &str) -> (String, Option<ToolTarget>) {
    let input: Input<'_> = serde_json::from_str(input).unwrap_or_default();
    let places = [&input.file_path, &input.notebook_path, &input.path, &input.dir_path];
    let path = places.into_iter().find_map(Scalar::some_text);
    let path = path.map(|path| relative(path, worktree));
    let target = match tool.to_ascii_lowercase().as_str() {
        "write" | "edit" | "multiedit" | "notebookedit" | "write_file" | "replace" => {
            path.map(|path| ToolTarget::Writes(path.to_owned()))
        }
        "read" | "notebookread" | "ls" | "read_file" | "list_directory" => {
            path.map(|path| ToolTarget::Reads(path.to_owned()))
        }
        "bash" | "shell" | "run_shell_command" => input
            .command
            .some_text()
            .map(|command| ToolTarget::Runs(start_words(command, MAX_COMMAND).to_owned())),
        _ => None,
    };
    let pattern = input.pattern.some_text();
    let summary = match (pattern, path) {
        (Some(pattern), Some(path)) => format!("{pattern} in {path}"),
        (Some(pattern), None) => pattern.to_owned(),
        (None, Some(path)) => path.to_owned(),
        (None, None) => {
            [&input.command, &input.url, &input.query, &input.description, &input.skill, &input.prompt]
                .into_iter()
                .find_map(Scalar::some_text)
                .unwrap_or_default()
                .to_owned()
        }
    };
    (one_line(&summary), target)
}

/// The summary and the target of running `command`.
pub(super) fn describe_command(command: &str) -> (String, ToolTarget) {
    (one_line(command), ToolTarget::Runs(start_words(command, MAX_COMMAND).to_owned()))
}

/// `path` relative to `worktree` if it lies inside.
pub(super) fn relative<'p>(path: &'p str, worktree: &str) -> &'p str {
    match path.strip_prefix(worktree.trim_end_matches('/')) {
        Some(inside) if !worktree.is_empty() => match inside.strip_prefix('/') {
            Some("") => ".",
            Some(inside) => inside,
            None if inside.is_empty() => ".",
            None => path,
        },
        _ => path,
    }
}

/// The first line of `text` that says something, with `…` if there is more.
pub(super) fn one_line(text: &str) -> String {
    let text = text.trim();
    let line = text.lines().next().unwrap_or_default().trim_end();
    let cut = start_words(line, MAX_SUMMARY);
    if cut.len() < text.len() { format!("{cut} …") } else { cut.to_owned() }
}

/// At most `lines` lines and about `bytes` bytes of `text`, with `…` where something was left out.
pub(super) fn few_lines(text: &str, lines: usize, bytes: usize) -> String {
    let text = text.trim_end();
    let cut = start_words(text, bytes);
    let end = cut.match_indices('\n').nth(lines - 1).map_or(cut.len(), |(at, _)| at);
    if end < text.len() { format!("{}\n…", cut[..end].trim_end()) } else { text.to_owned() }
}

/// The start of `text`, at most `max` bytes, that ends between words: half a secret would not be known as one. A
/// word longer than half of `max` is cut all the same.
fn start_words(text: &str, max: usize) -> &str {
    let cut = start(text, max);
    if cut.len() == text.len() {
        return cut;
    }
    match cut.rfind(char::is_whitespace) {
        Some(at) if at >= max / 2 => &cut[..at],
        _ => cut,
    }
}

/// The longest prefix of `text` of at most `max` bytes that is whole characters.
pub(super) fn start(text: &str, max: usize) -> &str {
    let mut end = max.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_up_by_what_they_touch() {
        let describe = |tool, input| describe(tool, input, "/repo");
        assert_eq!(
            describe("Write", r#"{"file_path":"/repo/src/a.rs","content":"x"}"#),
            ("src/a.rs".into(), Some(ToolTarget::Writes("src/a.rs".into())))
        );
        assert_eq!(
            describe("Read", r#"{"file_path":"/repository/a"}"#),
            ("/repository/a".into(), Some(ToolTarget::Reads("/repository/a".into())))
        );
        assert_eq!(
            describe("Bash", "{\"command\":\"cd src\\nmake\",\"description\":\"Build\"}"),
            ("cd src …".into(), Some(ToolTarget::Runs("cd src\nmake".into())))
        );
        assert_eq!(
            describe("Grep", r#"{"pattern":"fn main","path":"/repo"}"#),
            ("fn main in .".into(), None)
        );
        assert_eq!(describe("Task", r#"{"description":"Look","prompt":"p"}"#), ("Look".into(), None));
        assert_eq!(describe("Odd", "[1"), (String::new(), None));
    }

    #[test]
    fn long_outputs_are_cut_with_a_mark() {
        assert_eq!(few_lines("a\nb\nc\n", 3, 100), "a\nb\nc");
        assert_eq!(few_lines("a\nb\nc\nd", 3, 100), "a\nb\nc\n…");
        assert_eq!(few_lines("éé", 3, 3), "é\n…");
        assert_eq!(few_lines("some words here", 3, 12), "some words\n…");
    }
}

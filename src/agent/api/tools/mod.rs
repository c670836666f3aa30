//! The tools that the model has, as it is told of them.

mod bash;
mod files;
mod place;

pub(super) use bash::Shell;
pub(super) use files::Files;

use serde_json::{Map, Value, json};

/// The input of a call, as the model gave it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Input<'a>(Option<&'a Map<String, Value>>);

impl<'a> Input<'a> {
    pub(super) fn new(input: &'a Value) -> Self {
        Self(input.as_object())
    }

    /// A text that must be there.
    pub(super) fn need(self, key: &str) -> Result<&'a str, String> {
        self.text(key).ok_or_else(|| format!("`{key}` is missing, or is no text"))
    }

    pub(super) fn text(self, key: &str) -> Option<&'a str> {
        self.0?.get(key)?.as_str()
    }

    /// A whole number; models now and then write one as a text.
    pub(super) fn number(self, key: &str) -> Option<u64> {
        let value = self.0?.get(key)?;
        value.as_u64().or_else(|| value.as_str()?.trim().parse().ok())
    }

    pub(super) fn is_true(self, key: &str) -> bool {
        self.0.and_then(|map| map.get(key)).is_some_and(|value| *value == true || value == "true")
    }

    pub(super) fn list(self, key: &str) -> &'a [Value] {
        self.0.and_then(|map| map.get(key)).and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }
}

/// How far a step of a list is.
const STATES: [&str; 3] = ["pending", "in_progress", "completed"];

/// Takes a list of steps, and shows it. It is kept by being said.
pub(super) fn todo(input: Input<'_>) -> Result<String, String> {
    let mut lines = Vec::new();
    for step in input.list("todos") {
        let step = Input::new(step);
        let state = step.need("status")?;
        let mark = match STATES.iter().position(|known| *known == state) {
            Some(0) => ' ',
            Some(1) => '>',
            Some(_) => 'x',
            None => return Err(format!("`{state}` is none of {}", STATES.join(", "))),
        };
        lines.push(format!("[{mark}] {}", step.need("content")?));
    }
    Ok(if lines.is_empty() { "the list is empty".to_owned() } else { lines.join("\n") })
}

/// What a tool is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tool {
    Bash,
    Read,
    Write,
    Edit,
    Todo,
    Task,
}

impl Tool {
    /// In the order in which the model is told of them, which never changes: what is equal is found in its cache.
    pub(super) const ALL: [Self; 6] =
        [Self::Bash, Self::Read, Self::Write, Self::Edit, Self::Todo, Self::Task];

    /// Its name, the same as in Claude Code: so the limits of a profile mean the same for both.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Bash => "Bash",
            Self::Read => "Read",
            Self::Write => "Write",
            Self::Edit => "Edit",
            Self::Todo => "TodoWrite",
            Self::Task => "Task",
        }
    }

    /// Whether it may change anything.
    pub(super) const fn changes(self) -> bool {
        matches!(self, Self::Bash | Self::Write | Self::Edit)
    }

    pub(super) fn find(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tool| tool.name() == name)
    }

    /// What the model is told of it.
    pub(super) fn definition(self) -> Value {
        let (description, properties, required): (String, Value, &[&str]) = match self {
            Self::Bash => (
                format!(
                    "Runs a command with bash in the working directory and returns what it prints. Each call is a shell of \
                     its own: directory and variables do not stay, and what it leaves running in the background is ended. \
                     Its input is empty. Of long output the middle is left out. It may take {} s, or `timeout` milliseconds, \
                     at most {} s.",
                    bash::DEFAULT.as_secs(),
                    bash::MOST.as_secs()
                ),
                json!({
                    "command": {"type": "string", "description": "the command"},
                    "timeout": {"type": "integer", "description": "milliseconds"},
                    "description": {"type": "string", "description": "what it is for, in a few words"},
                }),
                &["command"],
            ),
            Self::Read => (
                "Reads a text file, each line behind its number and a tab, or lists a directory. Paths are absolute or \
                 relative to the working directory."
                    .to_owned(),
                json!({
                    "file_path": {"type": "string", "description": "the file or directory"},
                    "offset": {"type": "integer", "description": "the first line, from 1"},
                    "limit": {"type": "integer", "description": "how many lines"},
                }),
                &["file_path"],
            ),
            Self::Write => (
                "Makes a file in the working directory, with the directories above it, or replaces the whole of one that \
                 you have read. To change a part of a file, use Edit."
                    .to_owned(),
                json!({
                    "file_path": {"type": "string", "description": "the file"},
                    "content": {"type": "string", "description": "all that is to be in it"},
                }),
                &["file_path", "content"],
            ),
            Self::Edit => (
                "Replaces a text in a file in the working directory that you have read. The text must be there exactly \
                 once, letter by letter and without the numbers of lines, unless `replace_all` is set."
                    .to_owned(),
                json!({
                    "file_path": {"type": "string", "description": "the file"},
                    "old_string": {"type": "string", "description": "the text to replace"},
                    "new_string": {"type": "string", "description": "what comes in its place"},
                    "replace_all": {"type": "boolean", "description": "replace it wherever it is"},
                }),
                &["file_path", "old_string", "new_string"],
            ),
            Self::Todo => (
                "Keeps your list of what is to be done: give all of it each time. For work of several steps.".to_owned(),
                json!({
                    "todos": {"type": "array", "items": {
                        "type": "object",
                        "properties": {
                            "content": {"type": "string", "description": "the step"},
                            "status": {"type": "string", "enum": STATES},
                        },
                        "required": ["content", "status"],
                    }},
                }),
                &["todos"],
            ),
            Self::Task => (
                "Gives a part of the work to a sub-agent that has the same tools and sees nothing of this conversation. It \
                 returns its last message. For what needs much reading and has a short answer."
                    .to_owned(),
                json!({
                    "description": {"type": "string", "description": "what it is for, in a few words"},
                    "prompt": {"type": "string", "description": "all that it needs to know"},
                }),
                &["description", "prompt"],
            ),
        };
        json!({
            "name": self.name(),
            "description": description,
            "input_schema": {"type": "object", "properties": properties, "required": required},
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_is_shown_with_how_far_each_step_is() {
        let todo = |input: Value| todo(Input::new(&input));
        let steps = STATES.map(|state| json!({"content": "a step", "status": state}));
        assert_eq!(todo(json!({"todos": steps})).unwrap(), "[ ] a step\n[>] a step\n[x] a step");
        assert_eq!(todo(json!({"todos": []})).unwrap(), "the list is empty");
        assert!(todo(json!({"todos": [{"content": "x", "status": "soon"}]})).is_err());
        assert!(todo(json!({"todos": ["x"]})).is_err());
        assert!(todo(json!([])).is_ok(), "a model that gives none has none");
    }

    #[test]
    fn every_tool_is_found_by_its_name_and_says_what_it_needs() {
        for tool in Tool::ALL {
            assert_eq!(Tool::find(tool.name()), Some(tool));
            let definition = tool.definition();
            let schema = &definition["input_schema"];
            for key in schema["required"].as_array().unwrap() {
                assert!(schema["properties"][key.as_str().unwrap()].is_object(), "{definition:#}");
            }
        }
        assert_eq!(Tool::find("bash"), None);
    }
}

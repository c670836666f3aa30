//! A conversation on its way to another machine, in a form of our own: what was said, which tools were called, and
//! what they answered. Nothing else of a program's own files travels, so nothing else can be smuggled in with them.

use super::redact::Redactor;
use super::sanitise::sanitise_text;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The most bytes of a conversation that travels.
pub const MAX_CONVERSATION: u64 = 8 << 20;
/// The largest file of a program that is read for one.
pub const MAX_FILE: u64 = 64 << 20;
/// Stands for the agent's worktree, which is elsewhere on the other machine.
const WORKTREE: &str = "<worktree>";

/// What was said to and by an agent, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The program whose conversation it is; no other one continues it.
    pub program: String,
    /// The last run in it.
    pub run: u32,
    /// What was said.
    pub turns: Vec<Turn>,
}

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
pub enum Turn {
    /// To the agent.
    Told {
        /// The words.
        text: String,
    },
    /// By the agent.
    Said {
        /// The words.
        text: String,
    },
    /// The agent calls a tool.
    Called {
        /// What the answer repeats.
        call: String,
        /// The tool, in the program's own words.
        tool: String,
        /// Its input, as the model gave it.
        input: Value,
    },
    /// A tool answered.
    Answered {
        /// The call.
        call: String,
        /// Whether it worked.
        ok: bool,
        /// What it said.
        output: String,
    },
}

#[derive(Debug, Serialize, Deserialize)]
struct Header {
    format: u32,
    program: String,
    run: u32,
}

impl Conversation {
    /// Without secrets and without the place where the worktree is.
    #[must_use]
    pub fn cleaned(mut self, redactor: &Redactor, worktree: &Path) -> Self {
        let place = worktree.to_string_lossy().into_owned();
        self.change(&|text| redactor.redact(&text.replace(&place, WORKTREE)).0.into_owned());
        self
    }

    /// As it is continued in a worktree: with its place, without escape sequences and invisible characters, and
    /// whole: calls without an answer, and answers to nothing, are left out.
    #[must_use]
    pub fn arrived(mut self, worktree: &Path) -> Self {
        let place = worktree.to_string_lossy().into_owned();
        self.change(&|text| sanitise_text(text).replace(WORKTREE, &place));
        let (mut called, mut answered) = (BTreeSet::new(), BTreeSet::new());
        for turn in &self.turns {
            match turn {
                Turn::Called { call, .. } => drop(called.insert(call.clone())),
                Turn::Answered { call, .. } if called.contains(call) => drop(answered.insert(call.clone())),
                _ => {}
            }
        }
        let (mut calls, mut answers) = (answered.clone(), answered);
        self.turns.retain(|turn| match turn {
            Turn::Called { call, .. } => calls.remove(call),
            Turn::Answered { call, .. } => answers.remove(call),
            Turn::Told { text } | Turn::Said { text } => !text.trim().is_empty(),
        });
        // It begins with what the agent was told.
        let first = self.turns.iter().position(|turn| matches!(turn, Turn::Told { .. }));
        self.turns.drain(..first.unwrap_or(self.turns.len()));
        self
    }

    fn change(&mut self, by: &dyn Fn(&str) -> String) {
        for turn in &mut self.turns {
            match turn {
                Turn::Told { text } | Turn::Said { text } => *text = by(text),
                Turn::Called { input, .. } => change_strings(input, by),
                Turn::Answered { output, .. } => *output = by(output),
            }
        }
    }

    /// Its lines; `None` if it is larger than what travels.
    pub fn to_bytes(&self) -> Option<Vec<u8>> {
        let header = Header { format: 1, program: self.program.clone(), run: self.run };
        let mut bytes = serde_json::to_vec(&header).ok()?;
        for turn in &self.turns {
            bytes.push(b'\n');
            serde_json::to_writer(&mut bytes, turn).ok()?;
        }
        bytes.push(b'\n');
        (bytes.len() as u64 <= MAX_CONVERSATION).then_some(bytes)
    }

    /// What arrived; `None` if this is none, or one of a newer build.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let header: Header = serde_json::from_slice(lines.next()?).ok()?;
        if header.format != 1 {
            return None;
        }
        let turns = lines.map(serde_json::from_slice).collect::<Result<_, _>>().ok()?;
        Some(Self { program: header.program, run: header.run, turns })
    }
}

pub(super) fn change_strings(value: &mut Value, by: &dyn Fn(&str) -> String) {
    match value {
        Value::String(text) => *text = by(text),
        Value::Array(values) => values.iter_mut().for_each(|value| change_strings(value, by)),
        Value::Object(map) => {
            let changed = std::mem::take(map).into_iter().map(|(key, mut value)| {
                change_strings(&mut value, by);
                (by(&key), value)
            });
            *map = changed.collect();
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A conversation that a program is to find.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its id there.
    pub session: &'a str,
    /// Where the program will run.
    pub worktree: &'a Path,
    /// Now, `2026-11-20T19:04:01Z`.
    pub at: &'a str,
    /// A new id for whatever needs one.
    pub new_id: fn() -> String,
}

/// A file that a program takes for a conversation of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConversationFile {
    /// Where, below [`super::Adapter::conversation_home`].
    pub path: PathBuf,
    /// What is in it.
    pub bytes: Vec<u8>,
}

/// What a variable names, or a directory of the user's own; only absolute paths count.
pub(super) fn conversation_home(
    env: &BTreeMap<OsString, OsString>,
    variable: &str,
    directory: &str,
) -> Option<PathBuf> {
    let get = |key: &str| env.get(OsStr::new(key)).map(PathBuf::from).filter(|path| path.is_absolute());
    get(variable).or_else(|| get("HOME").map(|home| home.join(directory)))
}

/// Lines of JSON; what is none is left out.
pub(super) fn lines(file: &[u8]) -> impl Iterator<Item = Value> {
    file.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok())
}

/// The text of a string, or of a list of blocks; what is no text is named in its place.
pub(super) fn text_of(content: &Value) -> String {
    match content {
        Value::String(text) => text.clone(),
        Value::Array(blocks) => {
            let words = blocks.iter().map(|block| match block["text"].as_str() {
                Some(text) => text.to_owned(),
                None => format!("[{}]", block["type"].as_str().unwrap_or("something")),
            });
            words.collect::<Vec<_>>().join("\n")
        }
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn told(text: &str) -> Turn {
        Turn::Told { text: text.to_owned() }
    }

    fn called(call: &str) -> Turn {
        Turn::Called {
            call: call.to_owned(),
            tool: "Bash".to_owned(),
            input: json!({"command": ["cd /w/one"], "hunter2-hunter2": 1}),
        }
    }

    fn answered(call: &str) -> Turn {
        Turn::Answered { call: call.to_owned(), ok: true, output: "a\u{1b}[31m\u{202e}b".to_owned() }
    }

    #[test]
    fn a_conversation_travels_without_secrets_and_arrives_whole() {
        let secret = "hunter2-hunter2";
        let turns = vec![
            answered("never"),
            told(&format!("Do it with {secret}")),
            Turn::Said { text: "sk-ant-api03-".to_owned() + &"x".repeat(90) },
            called("one"),
            answered("one"),
            answered("one"),
            called("cut"),
        ];
        let ours = Conversation { program: "claude".to_owned(), run: 2, turns };
        let redactor = Redactor::new([("PASSWORD", secret)]);
        let bytes = ours.cleaned(&redactor, Path::new("/w/one")).to_bytes().unwrap();
        let text = String::from_utf8(bytes.clone()).unwrap();
        assert!(!text.contains(secret) && !text.contains("xxxx") && !text.contains("/w/one"), "{text}");
        let there = Conversation::parse(&bytes).unwrap().arrived(Path::new("/elsewhere/two"));
        assert_eq!((there.program.as_str(), there.run), ("claude", 2));
        let [
            Turn::Told { text },
            Turn::Said { .. },
            Turn::Called { call, input, .. },
            Turn::Answered { output, .. },
        ] = there.turns.as_slice()
        else {
            panic!("{there:?}")
        };
        assert_eq!(text, "Do it with [redacted:PASSWORD]");
        assert_eq!(input["[redacted:PASSWORD]"], 1);
        assert_eq!(
            (call.as_str(), &input["command"][0], output.as_str()),
            ("one", &json!("cd /elsewhere/two"), "ab")
        );
        assert_eq!(Conversation::parse(b"{\"format\":2,\"program\":\"claude\",\"run\":1}\n"), None);
        assert_eq!(
            Conversation::parse(b"{\"format\":1,\"program\":\"claude\",\"run\":1}\n{\"is\":\"new\"}"),
            None
        );
    }
}

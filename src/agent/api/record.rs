//! A conversation and its file: one message a line, on disk before anything is done that follows from it.
//!
//! In memory is what was said; in the file it is without secrets. What a kill left unfinished is set right when the file
//! is read: a line that was cut off does not count, and a call without an answer gets one that says so.

use super::wire::{Message, text, tool_result};
use crate::agent::conversation::{Turn, change_strings, lines, text_of};
use crate::agent::redact::Redactor;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;

/// The first line of each file.
const FORMAT: &str = r#"{"format":1,"program":"api"}"#;
/// What stands for an answer that was not given any more.
const UNANSWERED: &str = "The program was ended before this call was answered. Whatever it had done by then is done: look before you repeat it.";
/// What stands for an answer that was taken out.
const CLEARED: &str = "(taken out to make room; call the tool again if you need it)";
/// In how many of the newest messages the answers of tools stay.
const KEPT: usize = 6;

/// What was said, and where it is kept; a sub-agent's is kept nowhere.
#[derive(Debug, Default)]
pub(super) struct Record {
    messages: Vec<Message>,
    file: Option<File>,
}

impl Record {
    /// A conversation in a file of its own, or the one that is in the file if it is continued.
    pub(super) fn open(path: &Path, resume: bool) -> io::Result<Self> {
        let parent = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        DirBuilder::new().recursive(true).mode(0o700).create(parent)?;
        let mut options = OpenOptions::new();
        options.read(true).append(true).mode(0o600);
        if !resume {
            let mut file = options.create_new(true).open(path)?;
            append(&mut file, FORMAT.as_bytes())?;
            File::open(parent)?.sync_all()?;
            return Ok(Self { messages: Vec::new(), file: Some(file) });
        }
        let mut file = options.open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let whole = bytes.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        if whole < bytes.len() {
            file.set_len(whole as u64)?;
            file.seek(io::SeekFrom::End(0))?;
        }
        Ok(Self { messages: mended(read(&bytes[..whole])), file: Some(file) })
    }

    pub(super) fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Adds what the user said, to what the user said before if the model has not answered that.
    pub(super) fn tell(&mut self, content: Vec<Value>, redactor: &Redactor) -> io::Result<()> {
        self.add(Message::user(content), redactor)
    }

    pub(super) fn add(&mut self, message: Message, redactor: &Redactor) -> io::Result<()> {
        if let Some(file) = &mut self.file {
            let line = serde_json::to_vec(&clean(&message, redactor)).map_err(io::Error::other)?;
            append(file, &line)?;
        }
        join(&mut self.messages, message);
        Ok(())
    }

    /// Takes the answers of tools out, but for the newest. Returns how many bytes that gave.
    pub(super) fn clear(&mut self) -> io::Result<usize> {
        let upto = self.messages.len().saturating_sub(KEPT);
        let freed = clear(&mut self.messages, upto);
        if let Some(file) = self.file.as_mut().filter(|_| freed > 0) {
            append(file, json!({"cleared": upto}).to_string().as_bytes())?;
        }
        Ok(freed)
    }
}

/// Writes a line, and waits until it is on disk.
fn append(file: &mut File, line: &[u8]) -> io::Result<()> {
    let mut whole = Vec::with_capacity(line.len() + 1);
    whole.extend_from_slice(line);
    whole.push(b'\n');
    file.write_all(&whole)?;
    file.sync_data()
}

fn join(messages: &mut Vec<Message>, message: Message) {
    match messages.last_mut() {
        Some(last) if last.role == message.role => last.content.extend(message.content),
        _ => messages.push(message),
    }
}

fn clear(messages: &mut [Message], upto: usize) -> usize {
    let upto = upto.min(messages.len());
    let blocks = messages[..upto].iter_mut().flat_map(|message| &mut message.content);
    let mut freed = 0;
    for block in blocks.filter(|block| block["type"] == "tool_result") {
        let length = block["content"].as_str().map_or(0, str::len);
        if length > CLEARED.len() {
            block["content"] = json!(CLEARED);
            freed += length - CLEARED.len();
        }
    }
    freed
}

/// A message as it is kept. What the model thought is signed: changed, it would be refused, so it is left out then.
fn clean(message: &Message, redactor: &Redactor) -> Message {
    let clean = |block: &Value| {
        let mut clean = block.clone();
        change_strings(&mut clean, &|text| redactor.redact(text).0.into_owned());
        let is_thought = matches!(block["type"].as_str(), Some("thinking" | "redacted_thinking"));
        (!is_thought || clean == *block).then_some(clean)
    };
    Message { role: message.role.clone(), content: message.content.iter().filter_map(clean).collect() }
}

/// The messages of a file; what is none is left out.
fn read(file: &[u8]) -> Vec<Message> {
    let mut messages = Vec::new();
    for line in lines(file) {
        if let Some(upto) = line["cleared"].as_u64() {
            clear(&mut messages, usize::try_from(upto).unwrap_or(usize::MAX));
        } else if let Ok(message) = serde_json::from_value::<Message>(line) {
            join(&mut messages, message);
        }
    }
    messages
}

/// Sets right what the endpoint would refuse: each call has one answer, in the next message, and nothing else has one.
fn mended(messages: Vec<Message>) -> Vec<Message> {
    let mut whole: Vec<Message> = Vec::new();
    for mut message in messages {
        message.content.retain(Value::is_object);
        if message.is_user() {
            let asked = whole.last().map(calls_of).unwrap_or_default();
            answer(&mut message, &asked);
        } else if whole.last().is_none_or(|last| !last.is_user()) {
            continue;
        }
        if !message.content.is_empty() {
            whole.push(message);
        }
    }
    if let Some(last) = whole.last().filter(|last| !last.is_user()) {
        let asked = calls_of(last);
        let mut answers = Message::user(Vec::new());
        answer(&mut answers, &asked);
        if !answers.content.is_empty() {
            whole.push(answers);
        }
    }
    whole
}

fn calls_of(message: &Message) -> BTreeSet<String> {
    message.calls().map(str::to_owned).collect()
}

/// Answers first, one for each call; then the rest.
fn answer(message: &mut Message, asked: &BTreeSet<String>) {
    let mut open = asked.clone();
    let content = std::mem::take(&mut message.content);
    let (answers, rest): (Vec<_>, Vec<_>) =
        content.into_iter().partition(|block| block["type"] == "tool_result");
    let known =
        answers.into_iter().filter(|block| block["tool_use_id"].as_str().is_some_and(|id| open.remove(id)));
    message.content.extend(known.collect::<Vec<_>>());
    message.content.extend(open.iter().map(|id| tool_result(id, false, UNANSWERED)));
    message.content.extend(rest);
}

/// What was said, for another machine.
pub(super) fn turns(file: &[u8]) -> Vec<Turn> {
    let mut turns = Vec::new();
    for message in mended(read(file)) {
        for block in &message.content {
            let word = |key: &str| block[key].as_str().unwrap_or_default().to_owned();
            match (block["type"].as_str(), message.is_user()) {
                (Some("text"), true) => turns.push(Turn::Told { text: word("text") }),
                (Some("text"), false) => turns.push(Turn::Said { text: word("text") }),
                (Some("tool_use"), false) => {
                    let input = block["input"].clone();
                    turns.push(Turn::Called { call: word("id"), tool: word("name"), input });
                }
                (Some("tool_result"), true) => turns.push(Turn::Answered {
                    call: word("tool_use_id"),
                    ok: block["is_error"] != true,
                    output: text_of(&block["content"]),
                }),
                _ => {}
            }
        }
    }
    turns
}

/// A file with what was said elsewhere; `None` if that is nothing.
pub(super) fn file_of(said: &[Turn]) -> Option<Vec<u8>> {
    let mut messages = Vec::new();
    for turn in said {
        let (role, block) = match turn {
            Turn::Told { text: words } => ("user", text(words)),
            Turn::Said { text: words } => ("assistant", text(words)),
            Turn::Called { call, tool, input } => {
                ("assistant", json!({"type": "tool_use", "id": call, "name": tool, "input": input}))
            }
            Turn::Answered { call, ok, output } => ("user", tool_result(call, *ok, output)),
        };
        join(&mut messages, Message { role: role.to_owned(), content: vec![block] });
    }
    let mut bytes = format!("{FORMAT}\n").into_bytes();
    for message in &messages {
        serde_json::to_writer(&mut bytes, message).ok()?;
        bytes.push(b'\n');
    }
    (!messages.is_empty()).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

    fn redactor() -> Redactor {
        Redactor::new([("KEY", "correct horse battery")])
    }

    fn call(id: &str) -> Message {
        let block = json!({"type": "tool_use", "id": id, "name": "Bash", "input": {"command": "ls"}});
        Message { role: "assistant".into(), content: vec![block] }
    }

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/s.jsonl");
        (dir, path)
    }

    fn told(words: &str) -> Vec<Value> {
        vec![text(words)]
    }

    #[test]
    fn what_was_said_is_there_again_without_secrets() {
        let (_dir, path) = place();
        let mut record = Record::open(&path, false).unwrap();
        record.tell(told("use correct horse battery"), &redactor()).unwrap();
        let thought = json!({"type": "thinking", "thinking": "correct horse battery", "signature": "s"});
        let other = json!({"type": "thinking", "thinking": "hm", "signature": "s"});
        let answer = Message { role: "assistant".into(), content: vec![thought, other.clone(), text("yes")] };
        record.add(answer.clone(), &redactor()).unwrap();
        assert_eq!(record.messages()[1], answer, "in memory it stays as it was");
        drop(record);
        assert!(Record::open(&path, false).is_err(), "another conversation is not written over");
        let bytes = std::fs::read(&path).unwrap();
        assert!(!String::from_utf8_lossy(&bytes).contains("horse"));
        let again = Record::open(&path, true).unwrap();
        assert_eq!(again.messages()[0].content, told("use [redacted:KEY]"));
        assert_eq!(again.messages()[1].content, vec![other, text("yes")]);
    }

    #[test]
    fn a_torn_end_does_not_count_and_nothing_is_written_behind_it() {
        let (_dir, path) = place();
        let mut record = Record::open(&path, false).unwrap();
        record.tell(told("one"), &redactor()).unwrap();
        drop(record);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"{\"role\":\"assistant\",\"cont").unwrap();
        let mut record = Record::open(&path, true).unwrap();
        assert_eq!(record.messages(), [Message::user(told("one"))]);
        record.tell(told("two"), &redactor()).unwrap();
        let again = Record::open(&path, true).unwrap();
        assert_eq!(again.messages(), [Message::user([told("one"), told("two")].concat())]);
    }

    #[test]
    fn a_call_without_an_answer_gets_one_that_says_so() {
        let (_dir, path) = place();
        let mut record = Record::open(&path, false).unwrap();
        record.tell(told("go"), &redactor()).unwrap();
        record.add(call("a"), &redactor()).unwrap();
        drop(record);
        let mut record = Record::open(&path, true).unwrap();
        record.tell(told("go on"), &redactor()).unwrap();
        let content = &record.messages()[2].content;
        assert_eq!(content[0], tool_result("a", false, UNANSWERED));
        assert_eq!(content[1], text("go on"));
        // The file holds only what was said; it is mended again.
        let again = Record::open(&path, true).unwrap();
        assert_eq!(again.messages(), record.messages());
    }

    #[test]
    fn what_the_endpoint_would_refuse_is_set_right() {
        let stray = Message::user(vec![tool_result("never", true, "x"), text("hello")]);
        let messages = vec![call("a"), stray, call("b"), Message::user(told("no answer"))];
        let mended = mended(messages);
        assert_eq!(mended[0].content, told("hello"));
        assert_eq!(mended[2].content, [tool_result("b", false, UNANSWERED), text("no answer")]);
    }

    #[test]
    fn old_answers_are_taken_out_and_stay_out() {
        let (_dir, path) = place();
        let mut record = Record::open(&path, false).unwrap();
        record.tell(told("go"), &redactor()).unwrap();
        for at in 0..6 {
            let id = format!("c{at}");
            record.add(call(&id), &redactor()).unwrap();
            record.tell(vec![tool_result(&id, true, &"long ".repeat(100))], &redactor()).unwrap();
        }
        assert_eq!(record.clear().unwrap(), 3 * (500 - CLEARED.len()));
        assert_eq!(record.clear().unwrap(), 0);
        let cleared = |record: &Record| {
            let blocks = record.messages().iter().flat_map(|message| &message.content);
            blocks.filter(|block| block["content"] == CLEARED).count()
        };
        assert_eq!(cleared(&record), 3);
        let again = Record::open(&path, true).unwrap();
        assert_eq!(again.messages(), record.messages());
    }

    #[test]
    fn a_conversation_travels() {
        let said = vec![
            Turn::Told { text: "go".into() },
            Turn::Said { text: "I look.".into() },
            Turn::Called { call: "a".into(), tool: "Bash".into(), input: json!({"command": "ls"}) },
            Turn::Answered { call: "a".into(), ok: false, output: "no".into() },
        ];
        let file = file_of(&said).unwrap();
        assert_eq!(turns(&file), said);
        assert_eq!(read(&file).len(), 3);
        assert_eq!(file_of(&[]), None);
    }
}

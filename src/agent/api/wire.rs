//! The words of the Messages API: what is asked, and how a streamed answer becomes whole.

use crate::agent::lenient::{Object, Scalar};
use crate::agent::partial::Voice;
use crate::model::Usage;
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// One message of a conversation. What the model said goes back as it came, blocks that nobody here knows included.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Message {
    /// `user` or `assistant`.
    pub(super) role: String,
    pub(super) content: Vec<Value>,
}

impl Message {
    pub(super) fn user(content: Vec<Value>) -> Self {
        Self { role: "user".to_owned(), content }
    }

    pub(super) fn is_user(&self) -> bool {
        self.role == "user"
    }

    /// The ids of the tools that it calls.
    pub(super) fn calls(&self) -> impl Iterator<Item = &str> {
        let calls = self.content.iter().filter(|block| block["type"] == "tool_use");
        calls.filter_map(|block| block["id"].as_str())
    }
}

/// A block of words.
pub(super) fn text(words: &str) -> Value {
    json!({"type": "text", "text": words})
}

/// The answer of a tool.
pub(super) fn tool_result(call: &str, ok: bool, output: &str) -> Value {
    json!({"type": "tool_result", "tool_use_id": call, "content": output, "is_error": !ok})
}

/// A question to the model. Everything that stays equal from question to question comes first, so that the endpoint
/// finds it in its cache.
#[derive(Serialize)]
pub(super) struct Question<'a> {
    pub(super) model: &'a str,
    pub(super) max_tokens: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) thinking: Option<Value>,
    pub(super) stream: bool,
    pub(super) tools: &'a [Value],
    pub(super) system: Value,
    #[serde(serialize_with = "marked")]
    pub(super) messages: &'a [Message],
}

/// What the endpoint keeps, up to the block that carries it.
pub(super) fn cache_mark() -> Value {
    json!({"type": "ephemeral"})
}

/// Messages, the last two of the user's marked as ends of what is kept: the later one for the next question, the
/// earlier one because this question finds it.
fn marked<S: Serializer>(messages: &&[Message], serializer: S) -> Result<S::Ok, S::Error> {
    let marks: Vec<usize> = (0..messages.len()).rev().filter(|&at| messages[at].is_user()).take(2).collect();
    let mut seq = serializer.serialize_seq(Some(messages.len()))?;
    for (at, message) in messages.iter().enumerate() {
        if marks.contains(&at) {
            let mut message = message.clone();
            if let Some(Value::Object(last)) = message.content.last_mut() {
                last.insert("cache_control".to_owned(), cache_mark());
            }
            seq.serialize_element(&message)?;
        } else {
            seq.serialize_element(message)?;
        }
    }
    seq.end()
}

/// A line of the stream.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Line<'a> {
    #[serde(rename = "type", borrow)]
    kind: Scalar<'a>,
    index: Scalar<'a>,
    #[serde(borrow)]
    message: Object<Start<'a>>,
    content_block: Option<Map<String, Value>>,
    #[serde(borrow)]
    delta: Object<Delta<'a>>,
    #[serde(borrow)]
    usage: Object<Counts<'a>>,
    #[serde(borrow)]
    error: Object<Error<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Start<'a> {
    #[serde(borrow)]
    model: Scalar<'a>,
    #[serde(borrow)]
    usage: Object<Counts<'a>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Delta<'a> {
    #[serde(rename = "type", borrow)]
    kind: Scalar<'a>,
    #[serde(borrow)]
    text: Scalar<'a>,
    #[serde(borrow)]
    thinking: Scalar<'a>,
    #[serde(borrow)]
    signature: Scalar<'a>,
    #[serde(borrow)]
    partial_json: Scalar<'a>,
    #[serde(borrow)]
    stop_reason: Scalar<'a>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Counts<'a> {
    #[serde(rename = "input_tokens", borrow)]
    input: Scalar<'a>,
    #[serde(rename = "output_tokens", borrow)]
    output: Scalar<'a>,
    #[serde(rename = "cache_read_input_tokens", borrow)]
    cache_read: Scalar<'a>,
    #[serde(rename = "cache_creation_input_tokens", borrow)]
    cache_write: Scalar<'a>,
}

/// What an endpoint says of itself when it refuses.
#[derive(Deserialize, Default)]
#[serde(default)]
pub(super) struct Error<'a> {
    #[serde(rename = "type", borrow)]
    pub(super) kind: Scalar<'a>,
    #[serde(borrow)]
    pub(super) message: Scalar<'a>,
}

/// What a line of the stream brought.
#[derive(Debug, PartialEq)]
pub(super) enum Heard {
    /// Nothing to tell.
    Nothing,
    /// A piece of what it says or thinks.
    Piece(Voice, String),
    /// A block is whole.
    Block,
    /// Figures.
    Figures,
    /// The answer is whole.
    End,
    /// It is refused in the middle: a name, and words.
    Refused(String, String),
}

/// An answer, as far as it has come.
#[derive(Debug, Default)]
pub(super) struct Answer {
    pub(super) model: String,
    pub(super) blocks: Vec<Value>,
    pub(super) stop: String,
    pub(super) usage: Usage,
    /// Calls whose input did not come whole.
    pub(super) cut: Vec<String>,
    /// The input of the call that comes just now.
    input: String,
    open: bool,
}

impl Answer {
    /// Takes the data of one event of the stream; an error says what does not fit.
    pub(super) fn take(&mut self, data: &str) -> Result<Heard, String> {
        let line: Line<'_> =
            serde_json::from_str(data).map_err(|error| format!("its stream is garbled: {error}"))?;
        let index = usize::try_from(line.index.int()).unwrap_or(usize::MAX);
        match line.kind.text() {
            "message_start" => {
                let Object(Some(start)) = line.message else { return Err(odd("message_start")) };
                start.model.text().clone_into(&mut self.model);
                self.count(&start.usage);
                Ok(Heard::Figures)
            }
            "content_block_start" => {
                let Some(block) = line.content_block.filter(|_| index == self.blocks.len() && !self.open)
                else {
                    return Err(odd("content_block_start"));
                };
                self.blocks.push(Value::Object(block));
                (self.open, self.input) = (true, String::new());
                Ok(Heard::Nothing)
            }
            "content_block_delta" => {
                let is_open = self.open && index + 1 == self.blocks.len();
                let (Object(Some(delta)), true) = (line.delta, is_open) else {
                    return Err(odd("content_block_delta"));
                };
                Ok(self.delta(&delta))
            }
            "content_block_stop" => {
                if !std::mem::take(&mut self.open) {
                    return Err(odd("content_block_stop"));
                }
                self.close();
                Ok(Heard::Block)
            }
            "message_delta" => {
                self.count(&line.usage);
                if let Object(Some(delta)) = line.delta {
                    delta.stop_reason.text().clone_into(&mut self.stop);
                }
                Ok(Heard::Figures)
            }
            "message_stop" if self.open => Err(odd("message_stop")),
            "message_stop" => Ok(Heard::End),
            "error" => {
                let error = line.error.0.unwrap_or_default();
                Ok(Heard::Refused(error.kind.text().to_owned(), error.message.text().to_owned()))
            }
            // `ping`, and what is new.
            _ => Ok(Heard::Nothing),
        }
    }

    fn delta(&mut self, delta: &Delta<'_>) -> Heard {
        let Some(Value::Object(block)) = self.blocks.last_mut() else { return Heard::Nothing };
        let mut add = |key: &str, piece: &str| match block.get_mut(key) {
            Some(Value::String(text)) => text.push_str(piece),
            _ => drop(block.insert(key.to_owned(), json!(piece))),
        };
        match delta.kind.text() {
            "text_delta" => {
                add("text", delta.text.text());
                Heard::Piece(Voice::Says, delta.text.text().to_owned())
            }
            "thinking_delta" => {
                add("thinking", delta.thinking.text());
                Heard::Piece(Voice::Thinks, delta.thinking.text().to_owned())
            }
            "signature_delta" => {
                add("signature", delta.signature.text());
                Heard::Nothing
            }
            "input_json_delta" => {
                self.input.push_str(delta.partial_json.text());
                Heard::Nothing
            }
            _ => Heard::Nothing,
        }
    }

    /// The block that came last is whole: so is the input of a call, if it can be read.
    fn close(&mut self) {
        let input = std::mem::take(&mut self.input);
        let Some(Value::Object(block)) = self.blocks.last_mut() else { return };
        if block.get("type").and_then(Value::as_str) != Some("tool_use") {
            return;
        }
        let given = if input.is_empty() {
            block.get("input").and_then(Value::as_object).cloned()
        } else {
            serde_json::from_str::<Map<String, Value>>(&input).ok()
        };
        if given.is_none() {
            self.cut.extend(block.get("id").and_then(Value::as_str).map(str::to_owned));
        }
        block.insert("input".to_owned(), Value::Object(given.unwrap_or_default()));
    }

    /// Of figures that come twice the greater one stands.
    fn count(&mut self, counts: &Object<Counts<'_>>) {
        let Object(Some(counts)) = counts else { return };
        let usage = &mut self.usage;
        for (field, count) in [
            (&mut usage.input, &counts.input),
            (&mut usage.output, &counts.output),
            (&mut usage.cache_read, &counts.cache_read),
            (&mut usage.cache_write, &counts.cache_write),
        ] {
            *field = (*field).max(count.int());
        }
    }

    /// What it says, all of it.
    pub(super) fn words(&self) -> String {
        let texts = self.blocks.iter().filter(|block| block["type"] == "text");
        texts.filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
    }
}

fn odd(what: &str) -> String {
    format!("its stream is garbled: `{what}` does not fit where it came")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(answer: &mut Answer, lines: &[Value]) -> Result<Vec<Heard>, String> {
        lines.iter().map(|line| answer.take(&line.to_string())).collect()
    }

    fn start(index: usize, block: &Value) -> Value {
        json!({"type": "content_block_start", "index": index, "content_block": block})
    }

    fn delta(index: usize, delta: &Value) -> Value {
        json!({"type": "content_block_delta", "index": index, "delta": delta})
    }

    fn stop(index: usize) -> Value {
        json!({"type": "content_block_stop", "index": index})
    }

    #[test]
    fn pieces_become_blocks_that_go_back_as_they_came() {
        let mut answer = Answer::default();
        let usage = json!({"input_tokens": 9, "output_tokens": 1, "cache_read_input_tokens": 4});
        all(&mut answer, &[
            json!({"type": "message_start", "message": {"model": "m", "usage": usage}}),
            json!({"type": "ping"}),
            start(0, &json!({"type": "thinking", "thinking": "", "signature": ""})),
            delta(0, &json!({"type": "thinking_delta", "thinking": "h\u{e9}"})),
            delta(0, &json!({"type": "thinking_delta", "thinking": "m\n"})),
            delta(0, &json!({"type": "signature_delta", "signature": "c2ln"})),
            stop(0),
            start(1, &json!({"type": "new_kind", "data": [1]})),
            stop(1),
            start(2, &json!({"type": "tool_use", "id": "t1", "name": "Bash", "input": {}})),
            delta(2, &json!({"type": "input_json_delta", "partial_json": "{\"command\": \"l"})),
            delta(2, &json!({"type": "input_json_delta", "partial_json": "s\"}"})),
            stop(2),
            start(3, &json!({"type": "tool_use", "id": "t2", "name": "Bash", "input": {}})),
            delta(3, &json!({"type": "input_json_delta", "partial_json": "{\"command\": \"l"})),
            stop(3),
            json!({"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 30}}),
        ])
        .unwrap();
        assert_eq!(answer.take("{\"type\":\"message_stop\"}"), Ok(Heard::End));
        assert_eq!(
            answer.blocks,
            [
                json!({"type": "thinking", "thinking": "hém\n", "signature": "c2ln"}),
                json!({"type": "new_kind", "data": [1]}),
                json!({"type": "tool_use", "id": "t1", "name": "Bash", "input": {"command": "ls"}}),
                json!({"type": "tool_use", "id": "t2", "name": "Bash", "input": {}}),
            ]
        );
        assert_eq!((answer.cut, answer.stop.as_str()), (vec!["t2".to_owned()], "max_tokens"));
        assert_eq!(answer.usage, Usage { input: 9, output: 30, cache_read: 4, ..Usage::default() });
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_no_panic() {
        for lines in [
            vec![delta(0, &json!({"type": "text_delta", "text": "x"}))],
            vec![stop(0)],
            vec![start(7, &json!({"type": "text"}))],
            vec![start(0, &json!({"type": "text"})), start(1, &json!({"type": "text"}))],
            vec![start(0, &json!({"type": "text"})), delta(u32::MAX as usize, &json!({}))],
            vec![start(0, &json!({"type": "text"})), json!({"type": "message_stop"})],
            vec![json!({"type": "message_start", "message": 7})],
        ] {
            assert!(all(&mut Answer::default(), &lines).is_err(), "{lines:?}");
        }
        assert!(Answer::default().take("{\"type\":").is_err());
        let refused =
            json!({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}});
        assert_eq!(
            Answer::default().take(&refused.to_string()),
            Ok(Heard::Refused("overloaded_error".into(), "Overloaded".into()))
        );
    }

    #[test]
    fn only_the_last_two_messages_of_the_user_are_marked() {
        let message = |role: &str, words: &str| Message { role: role.into(), content: vec![text(words)] };
        let messages: Vec<_> =
            ["user", "assistant", "user", "assistant", "user"].map(|role| message(role, "x")).into();
        let question = Question {
            model: "m",
            max_tokens: 1,
            thinking: None,
            stream: true,
            tools: &[],
            system: json!([]),
            messages: &messages,
        };
        let body = serde_json::to_value(&question).unwrap();
        let marks: Vec<bool> =
            (0..5).map(|at| body["messages"][at]["content"][0]["cache_control"].is_object()).collect();
        assert_eq!(marks, [false, false, true, false, true]);
    }
}

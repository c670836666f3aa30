//! Throughput of the Claude Code decoder: `cargo bench --bench decoder`.
//!
//! Three transcripts, built from the shapes of recorded lines: a session as sessions are (streamed text and tool
//! inputs, edits, command output, file contents repeated in `tool_use_result`), one of small deltas only, and one of
//! large tool results only. One core, the best of several passes over tens of megabytes.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a bench prints its result")]

use git_orchestra::agent::{ClaudeDecoder, Decoder, Redactor, transcript};
use git_orchestra::model::{Event, Timestamp};
use serde_json::json;
use std::hint::black_box;
use std::time::Instant;

const SIZE: usize = 32 << 20;
const PASSES: usize = 5;
// ASCII, so that it can be cut anywhere.
const SOURCE: &str = include_str!("../src/agent/claude/launch.rs");

fn main() {
    let session = transcript_of(Mix { deltas: true, results: true });
    for (name, bytes) in [
        ("session", &session),
        ("deltas", &transcript_of(Mix { deltas: true, results: false })),
        ("tool results", &transcript_of(Mix { deltas: false, results: true })),
    ] {
        let (seconds, events) = best(|| decode(bytes).len());
        report(
            &format!("decode {name}"),
            bytes.len(),
            bytes.split(|&b| b == b'\n').count() - 1,
            events,
            seconds,
        );
    }
    let redactor = Redactor::new([("TOKEN", "correct horse battery staple")]);
    let (seconds, events) = best(|| {
        let events = decode(&session);
        events.iter().map(|event| transcript::encode(event, &redactor).len()).filter(|&len| len > 0).count()
    });
    report("decode, redact, encode session", session.len(), 0, events, seconds);
}

fn report(name: &str, bytes: usize, lines: usize, events: usize, seconds: f64) {
    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    let megabytes = bytes as f64 / 1e6;
    println!(
        "{name:32} {:7.0} MB/s   {megabytes:5.1} MB, {lines} lines, {events} events",
        megabytes / seconds
    );
}

fn best(mut pass: impl FnMut() -> usize) -> (f64, usize) {
    let mut events = 0;
    let mut seconds = f64::INFINITY;
    for _ in 0..PASSES {
        let start = Instant::now();
        events = black_box(pass());
        seconds = seconds.min(start.elapsed().as_secs_f64());
    }
    (seconds, events)
}

fn decode(bytes: &[u8]) -> Vec<Event> {
    let mut decoder = ClaudeDecoder::default();
    let mut events = Vec::new();
    for (number, line) in (0..).zip(bytes.split(|&b| b == b'\n')) {
        decoder.line(line, Timestamp(number), &mut events);
    }
    events
}

#[derive(Clone, Copy)]
struct Mix {
    deltas: bool,
    results: bool,
}

/// A session of about `SIZE` bytes.
fn transcript_of(mix: Mix) -> Vec<u8> {
    let mut out = Vec::with_capacity(SIZE + (1 << 20));
    let mut turn = 0;
    while out.len() < SIZE {
        turn += 1;
        message(&mut out, turn, mix);
    }
    out
}

fn push(out: &mut Vec<u8>, mut line: serde_json::Value) {
    line["session_id"] = "b5e8897b-45fc-4fe1-8db3-2feac77f8254".into();
    line["parent_tool_use_id"] = serde_json::Value::Null;
    line["uuid"] = "d24183cd-4efe-4ac3-acda-e47878d4e924".into();
    serde_json::to_writer(&mut *out, &line).unwrap();
    out.push(b'\n');
}

fn stream(out: &mut Vec<u8>, mix: Mix, event: &serde_json::Value) {
    if mix.deltas {
        push(out, json!({"type": "stream_event", "event": event}));
    }
}

/// One message of the model with a text and a tool call, and the tool's result.
fn message(out: &mut Vec<u8>, turn: usize, mix: Mix) {
    let id = format!("msg_{turn:08}");
    let usage = json!({"input_tokens": 4, "cache_creation_input_tokens": 700, "cache_read_input_tokens": 52_000, "output_tokens": 1});
    let head = json!({"id": id, "type": "message", "role": "assistant", "model": "claude-opus-4-8", "content": [], "usage": usage});
    stream(out, mix, &json!({"type": "message_start", "message": head}));
    let text =
        "I will look at how the decoder keeps its streams apart, then change the place where a message ends.";
    for word in text.split_inclusive(' ') {
        stream(
            out,
            mix,
            &json!({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": word}}),
        );
    }
    let block = |content: serde_json::Value| {
        let mut message = head.clone();
        message["content"] = json!([content]);
        json!({"type": "assistant", "message": message})
    };
    push(out, block(json!({"type": "text", "text": text})));
    stream(out, mix, &json!({"type": "content_block_stop", "index": 0}));
    let call = format!("toolu_{turn:08}");
    let part = &SOURCE[..600 + turn % 7 * 400];
    let (name, input) = match turn % 4 {
        0 => ("Read", json!({"file_path": "/repo/src/agent/claude/decode.rs"})),
        1 => (
            "Bash",
            json!({"command": "cargo test --lib agent:: 2>&1 | tail -20", "description": "Run the tests"}),
        ),
        2 => (
            "Edit",
            json!({"file_path": "/repo/src/agent/claude/decode.rs", "old_string": part, "new_string": part, "replace_all": false}),
        ),
        _ => ("Write", json!({"file_path": "/repo/src/agent/new.rs", "content": part})),
    };
    for piece in input.to_string().as_bytes().chunks(24) {
        let piece = String::from_utf8_lossy(piece);
        stream(
            out,
            mix,
            &json!({"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta", "partial_json": piece}}),
        );
    }
    push(out, block(json!({"type": "tool_use", "id": call, "name": name, "input": input})));
    stream(out, mix, &json!({"type": "content_block_stop", "index": 1}));
    stream(
        out,
        mix,
        &json!({"type": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 412}}),
    );
    stream(out, mix, &json!({"type": "message_stop"}));
    if mix.results {
        let (content, detail) = match turn % 4 {
            0 => {
                let numbered: String = (1..)
                    .zip(SOURCE.lines())
                    .fold(String::new(), |all, (n, line)| all + &format!("{n}\t{line}\n"));
                (
                    numbered,
                    json!({"type": "text", "file": {"filePath": "/repo/src/agent/claude/decode.rs", "content": SOURCE}}),
                )
            }
            1 => (part.to_owned(), json!({"stdout": part, "stderr": "", "interrupted": false})),
            _ => (
                "The file has been updated successfully.".to_owned(),
                json!({"filePath": "/repo/x", "originalFile": SOURCE, "structuredPatch": []}),
            ),
        };
        let result = json!({"type": "tool_result", "tool_use_id": call, "content": content});
        push(
            out,
            json!({"type": "user", "message": {"role": "user", "content": [result]}, "tool_use_result": detail}),
        );
    }
}

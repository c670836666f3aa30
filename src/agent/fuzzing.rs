//! What holds of any bytes that a program, an endpoint or a file may send: for the fuzzers, and for the tests.
//!
//! Each function fails by a panic.

use super::acp::fuzzing as acp;
use super::api::fuzzing as api;
use super::{
    Decoder, LaunchRequest, Redactor, bridge, find_adapter, is_hidden, sanitise_line, sanitise_text,
    transcript,
};
use crate::model::{Event, Timestamp};
use crate::process::LineSplitter;
use std::sync::OnceLock;

const AT: Timestamp = Timestamp(1);
/// A secret that is known, beside those that are known by their shape.
const SECRET: &str = "correct horse battery staple";

pub use acp::client as acp_client;
pub use api::stream as api_stream;

/// The programs whose lines are decoded, by their names.
pub const PROGRAMS: [&str; 6] = ["claude", "codex", "gemini", "replay", "acp", "command"];

/// A decoder makes the same of the lines around a broken one as of those lines alone, whichever pieces they come in, and
/// every event of it can be written down and read again.
pub fn decoder(program: &str, data: &[u8]) {
    let adapter = find_adapter(program).expect("a program that there is");
    let fresh = || adapter.decoder(&LaunchRequest::default());
    let lines = split(data, data.len().max(1));
    assert_eq!(lines, split(data, 1 + data.first().map_or(0, |&byte| usize::from(byte))), "in pieces");
    let before = usize::from(data.last().copied().unwrap_or_default()) % (lines.len() + 1);

    let mut decoder = fresh();
    let whole = decode(&mut *decoder, &lines);
    let mut other = fresh();
    let mut around = decode_lines(&mut *other, &lines[..before]);
    // Cut off and followed by what nothing can begin with: no document.
    let mut broken = lines.get(before).cloned().unwrap_or_default();
    broken.truncate(broken.len() / 2);
    broken.extend_from_slice(b"\x01{");
    if program != "command" {
        other.line(&broken, AT, &mut Vec::new());
    }
    around.extend(decode(&mut *other, &lines[before..]));
    assert_eq!(whole, around, "{program} is out of step");
    assert_eq!(decoder.usage(), other.usage());
    assert_eq!(decoder.is_idle(), other.is_idle());
    assert_eq!(decoder.reported_failure(), other.reported_failure());
    assert_eq!(decoder.limit(), other.limit());

    for event in &whole {
        // As it is: what is taken out of it `redactor` tries.
        let line = serde_json::to_string(event).expect("events are plain data with string keys");
        assert!(!line.contains('\n'), "{line}");
        let again = transcript::decode(&line).expect("what we wrote can be read");
        assert_eq!(&again, event);
    }
    for line in &lines {
        decoder.error_line(line, AT, &mut Vec::new());
    }
    adapter.read_conversation(data);
    let _ = bridge::Wish::decode(data);
}

/// What the sanitiser lets through has no character that a terminal obeys or does not show, and passes again as it is.
pub fn sanitiser(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let line = sanitise_line(&text);
    assert!(!line.chars().any(is_hidden), "{line:?}");
    assert_eq!(sanitise_line(&line), line);
    let lines = sanitise_text(&text);
    assert!(!lines.chars().any(|c| is_hidden(c) && !matches!(c, '\n' | '\t')), "{lines:?}");
    assert_eq!(sanitise_text(&lines), lines);
    if !text.chars().any(is_hidden) {
        assert_eq!((&line, &lines), (&text, &text), "what is harmless stays");
    }
}

/// What is redacted has no secret left, nor as it is shown, and passes again as it is.
pub fn redactor(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let (once, count) = secrets().redact(&text);
    assert_eq!(count == 0, once == text, "what has no secret stays");
    assert_eq!(count == 0, secrets().is_clean(&text));
    assert!(!once.contains(SECRET), "{once:?}");
    let (again, _) = secrets().redact(&once);
    assert_eq!(again, once);
    let shown = sanitise_text(&once);
    assert!(secrets().is_clean(&shown), "what is hidden held it apart: {shown:?}");
}

fn secrets() -> &'static Redactor {
    static REDACTOR: OnceLock<Redactor> = OnceLock::new();
    REDACTOR.get_or_init(|| Redactor::new([("PASSPHRASE", SECRET)]))
}

fn split(data: &[u8], piece: usize) -> Vec<Vec<u8>> {
    let mut splitter = LineSplitter::new(1 << 20);
    let mut lines = Vec::new();
    for piece in data.chunks(piece) {
        splitter.push(piece, &mut lines);
    }
    lines.extend(splitter.finish());
    lines.into_iter().map(|line| line.bytes).collect()
}

fn decode_lines(decoder: &mut dyn Decoder, lines: &[Vec<u8>]) -> Vec<Event> {
    let mut events = Vec::new();
    for line in lines {
        decoder.line(line, AT, &mut events);
    }
    events
}

fn decode(decoder: &mut dyn Decoder, lines: &[Vec<u8>]) -> Vec<Event> {
    let mut events = decode_lines(decoder, lines);
    decoder.end(AT, &mut events);
    events
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every line that was recorded of any program.
    fn recorded() -> &'static [Vec<u8>] {
        static LINES: OnceLock<Vec<Vec<u8>>> = OnceLock::new();
        LINES.get_or_init(|| {
            let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/agents");
            let mut lines: Vec<Vec<u8>> = Vec::new();
            for program in std::fs::read_dir(root).unwrap().flatten().filter(|entry| entry.path().is_dir()) {
                for file in std::fs::read_dir(program.path()).unwrap().flatten() {
                    let text = std::fs::read(file.path()).unwrap();
                    lines.extend(text.split(|&byte| byte == b'\n').map(<[u8]>::to_vec));
                }
            }
            lines.sort();
            lines.dedup();
            lines
        })
    }

    /// Recorded lines, each perhaps with a part replaced by other bytes, or cut.
    fn stream() -> impl Strategy<Value = Vec<u8>> {
        let junk = prop_oneof![
            Just(Vec::new()),
            proptest::collection::vec(any::<u8>(), 0..6),
            Just(b"\\ud800".to_vec()),
            Just(b"\"".to_vec()),
            Just(b"18446744073709551616".to_vec()),
            Just(b"-1".to_vec()),
            Just(b"null".to_vec()),
            Just(b"[[[[".to_vec()),
        ];
        let line =
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 0_usize..30, junk, any::<bool>());
        proptest::collection::vec(line, 0..6).prop_map(|lines| {
            let mut data = Vec::new();
            for (line, at, len, junk, whole) in lines {
                let mut line = line.get(recorded()).clone();
                if !whole && !line.is_empty() {
                    let start = at.index(line.len());
                    let end = (start + len).min(line.len());
                    line.splice(start..end, junk);
                }
                data.extend(line);
                data.push(b'\n');
            }
            data
        })
    }

    /// Found by fuzzing: without the second token the first one looked like a secret.
    #[test]
    fn a_secret_within_what_looks_like_none_is_taken_out_with_it() {
        redactor(
            "(`token=xapp-abc\0\u{fffd}\u{fffd}dejklmno\u{fffd}hf_abcdefghijklmnopqrst+\0\0next(…)`, `$TOKE`"
                .as_bytes(),
        );
    }

    proptest! {
        #[test]
        fn decoders_stay_in_step(data in stream()) {
            for program in PROGRAMS {
                decoder(program, &data);
            }
            acp_client(&data);
            api_stream(&data);
        }

        #[test]
        fn what_is_shown_is_harmless_and_what_is_kept_has_no_secret(
            data in prop_oneof![
                stream(),
                "(\\PC|\\pC|[\u{1b}\u{9b}\u{9d}\\[\\]\u{7}\n\r]|correct horse battery staple|ghp_[a-zA-Z0-9]{36}|sk-ant-api03-[a-z]{40}|\
                 Bearer [a-z0-9]{20}|password=[a-z]{8}|://a:[a-z]{9}@){0,12}".prop_map(String::into_bytes),
            ]
        ) {
            sanitiser(&data);
            redactor(&data);
        }
    }
}

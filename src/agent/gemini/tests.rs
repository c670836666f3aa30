//! The decoder against recorded streams of the real program (see `fixtures/agents/README.md`).

use super::GeminiDecoder;
use crate::agent::Decoder;
use crate::agent::testing::{assert_lines, decode, figures, told};
use crate::model::{Event, EventKind, Timestamp};
use proptest::prelude::*;
use std::path::Path;

macro_rules! fixtures {
    ($($name:literal),*) => {
        const FIXTURES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../fixtures/agents/gemini/", $name, ".jsonl")))),*];
    };
}
fixtures!("denied", "refused-401", "resume", "retry-429", "retry-503", "stopped", "tools");

macro_rules! stderr {
    ($name:literal) => {
        include_bytes!(concat!("../../../fixtures/agents/gemini/", $name, ".stderr"))
    };
}

fn fixture(name: &str) -> &'static str {
    FIXTURES.iter().find(|(known, _)| *known == name).unwrap().1
}

fn run(stdout: &[u8], stderr: &[u8]) -> (GeminiDecoder, Vec<Event>) {
    let mut decoder = GeminiDecoder::new(Path::new("/repo"));
    let events = decode(&mut decoder, stdout, stderr);
    (decoder, events)
}

#[track_caller]
fn assert_told(name: &str, stderr: &[u8], expected: &str) {
    let told = told(run(fixture(name).as_bytes(), stderr).1);
    let (ready, told) = told.split_once('\n').unwrap();
    assert!(ready.starts_with("ready Some(\"gemini-2.5-pro\") Some("), "{ready}");
    assert_lines(told, expected);
}

#[test]
fn tools_and_their_results() {
    assert_told(
        "tools",
        stderr!("tools"),
        r#"
        turn 1
        text "I will write a file.\nThen more of it."
        call write_file write_file "src/new.txt" Some(Writes("src/new.txt"))
        result write_file true ""
        turn 2
        call read_file read_file "made.txt" Some(Reads("made.txt"))
        call run_shell_command run_shell_command "ls no-such-file; echo out" Some(Runs("ls no-such-file; echo out"))
        result read_file true ""
        result run_shell_command true "out\nls: cannot access 'no-such-file': No such file or directory"
        turn 3
        call replace replace "made.txt" Some(Writes("made.txt"))
        result replace true ""
        turn 4
        call nosuch nosuch "" None
        call read_file read_file "nofile.txt" Some(Reads("nofile.txt"))
        call list_directory list_directory "src" Some(Reads("src"))
        call grep_search grep_search "one" None
        result nosuch false "Tool \"nosuch\" not found. Did you mean one of: \"glob\", \"replace\", \"web_fetch\"?"
        result read_file false "File not found: /repo/nofile.txt"
        result list_directory true ""
        result grep_search true ""
        turn 5
        text "All done."
        end success false "All done." 1350+150+0->125 5
        "#,
    );
}

#[test]
fn what_its_policy_refuses_is_told_although_the_result_says_success() {
    let told = told(run(fixture("denied").as_bytes(), b"").1);
    let denied: Vec<&str> = told.lines().filter(|line| line.starts_with("denied")).collect();
    assert_eq!(denied, [r#"denied write_file "in.txt""#]);
    assert!(told.ends_with("end success false \"All done.\" 880+120+0->100 4\n"), "{told}");
}

#[test]
fn a_continued_conversation_starts_its_figures_anew() {
    assert_told(
        "resume",
        b"",
        r#"
        turn 1
        text "I remember."
        end success false "I remember." 70+30+0->25 1
        "#,
    );
}

#[test]
fn retries_are_told_on_standard_error() {
    let retries = |stderr: &[u8]| told(run(b"", stderr).1);
    assert_lines(&retries(stderr!("retry-503")), "retry 1/0 in 0 Some(503) status 503");
    assert_lines(&retries(stderr!("retry-429")), "retry 1/0 in 5122 Some(429) Resource exhausted");
    // Nothing follows, or something else.
    let cut = "Attempt 3 failed: Resource exhausted\n";
    assert_lines(&retries(cut.as_bytes()), "retry 3/0 in 0 Some(429) Resource exhausted");
    assert_lines(
        &retries(format!("{cut}Something else\n").as_bytes()),
        "retry 3/0 in 0 Some(429) Resource exhausted\nnotice \"Something else\"",
    );
}

#[test]
fn a_program_that_gave_up_says_why() {
    let (decoder, events) = run(fixture("refused-401").as_bytes(), stderr!("refused-401"));
    assert_eq!(decoder.reported_failure().as_deref(), Some("401: API key not valid"));
    assert!(decoder.is_idle());
    let told = told(events);
    // No stack traces.
    let (_, after) = told.split_once("end error true \"401: API key not valid\" 0+0+0->0 0\n").unwrap();
    assert!(
        after.starts_with("notice \"Error when talking to Gemini API") && after.lines().count() == 1,
        "{after}"
    );
}

#[test]
fn a_stopped_run_keeps_what_it_said() {
    assert_told(
        "stopped",
        b"",
        r#"
        turn 1
        text "I begin now. "
        call run_shell_command run_shell_command "touch begun; tail -f made.txt" Some(Runs("touch begun; tail -f made.txt"))
        "#,
    );
    let said = fixture("stopped").lines().take_while(|line| !line.contains("tool_use"));
    let (decoder, events) = run(said.collect::<Vec<_>>().join("\n").as_bytes(), b"");
    assert!(told(events).ends_with("text \"I begin now. \"\n"));
    assert!(!decoder.is_idle());
}

#[test]
fn nothing_recorded_is_unrecognised() {
    for (name, lines) in FIXTURES {
        let (_, events) = run(lines.as_bytes(), b"");
        let odd: Vec<_> =
            events.iter().filter(|event| matches!(event.kind, EventKind::Unrecognised { .. })).collect();
        assert!(odd.is_empty(), "{name}: {odd:?}");
    }
}

#[test]
fn pieces_of_a_text_come_before_the_whole_are_part_of_it_and_are_not_stored() {
    let mut decoder = GeminiDecoder::new(Path::new("/repo"));
    let mut events = Vec::new();
    let mut stored = String::new();
    for line in fixture("tools").lines() {
        decoder.line(line.as_bytes(), Timestamp(0), &mut events);
        if !decoder.was_piece() {
            stored.push_str(line);
        }
    }
    let text = |partial: bool| {
        let texts = events.iter().filter_map(move |event| match &event.kind {
            EventKind::Text { text, partial: is } if *is == partial => Some(text.as_str()),
            _ => None,
        });
        texts.collect::<String>()
    };
    assert!(!text(true).is_empty() && text(false).starts_with(&text(true)), "{:?}", text(true));
    assert!(!stored.contains("\"delta\":true") && stored.contains("\"result\""));
}

#[test]
fn unknown_and_broken_lines_are_kept_and_the_rest_still_counts() {
    let mut bytes = Vec::new();
    for line in fixture("tools").split_inclusive('\n') {
        bytes.extend_from_slice(
            b"{\"type\":\"tomorrow\"}\n\n \n\0\xff\xfe{\n{\"type\":\"message\",\"ro\n[]\n",
        );
        bytes.extend_from_slice(line.as_bytes());
    }
    let (decoder, events) = run(&bytes, b"");
    let odd = events.iter().filter(|event| matches!(event.kind, EventKind::Unrecognised { .. })).count();
    assert_eq!(odd, 4 * fixture("tools").lines().count());
    assert_eq!(figures(decoder.usage()), "1350+150+0->125 5");
}

#[test]
fn a_field_of_another_kind_does_not_lose_the_line() {
    let line = r#"{"type":"message","role":"assistant","delta":7,"content":"still here \ud83d","stats":3,"error":[]}"#;
    assert_lines(&told(run(line.as_bytes(), b"").1), "turn 1\ntext \"still here \u{fffd}\"");
}

/// Wherever the stream is cut, what was whole before is told, and nothing panics.
#[test]
fn a_stream_that_ends_at_any_byte_keeps_its_whole_lines() {
    for (name, lines) in FIXTURES {
        for end in 0..lines.len() {
            let cut = &lines.as_bytes()[..end];
            let whole = cut.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
            let (_, mut torn) = run(cut, b"");
            torn.retain(|event| !matches!(event.kind, EventKind::Unrecognised { .. }));
            let (_, kept) = run(&lines.as_bytes()[..whole], b"");
            assert!(torn.len() >= kept.len(), "{name} at {end}");
        }
    }
}

fn any_fixture() -> impl Strategy<Value = &'static str> {
    (0..FIXTURES.len()).prop_map(|index| FIXTURES[index].1)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(
        stdout in prop::collection::vec(any::<u8>(), 0..300),
        stderr in prop::collection::vec(any::<u8>(), 0..300),
    ) {
        run(&stdout, &stderr);
    }

    #[test]
    fn arbitrary_complaints_never_panic(
        lines in prop::collection::vec("(Attempt [0-9]{1,3} failed( with status [0-9]{0,4}|: [a-z ]{0,9})|\\}|  at x|.{0,9}_ApiError: .{0,5}|Retrying after [0-9.]{0,9}m?s?)", 0..9),
    ) {
        run(b"", lines.join("\n").as_bytes());
    }

    #[test]
    fn a_flipped_byte_never_panics(lines in any_fixture(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = lines.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        run(&bytes, b"");
    }
}

//! The decoder against recorded streams of the real program (see `fixtures/agents/README.md`).

use super::ClaudeDecoder;
use crate::agent::Decoder;
use crate::model::{Cost, CostSource, Event, EventKind, Timestamp, Usage};
use proptest::prelude::*;
use std::fmt::Write;

macro_rules! fixtures {
    ($($name:literal),*) => {
        const FIXTURES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../fixtures/agents/claude/", $name, ".jsonl")))),*];
    };
}
fixtures!(
    "denied",
    "hooks",
    "interrupt",
    "max-turns",
    "rate-limit",
    "resume",
    "retry-401",
    "retry-529",
    "stopped",
    "sub-agent",
    "text",
    "tools",
    "two-turns"
);

fn fixture(name: &str) -> &'static str {
    FIXTURES.iter().find(|(known, _)| *known == name).unwrap().1
}

fn decode(bytes: &[u8]) -> (ClaudeDecoder, Vec<Event>) {
    let mut decoder = ClaudeDecoder::default();
    let mut events = Vec::new();
    for line in bytes.split(|&b| b == b'\n') {
        decoder.line(line, Timestamp(0), &mut events);
    }
    (decoder, events)
}

/// The events, one a line, without usage events and pieces.
fn told(name: &str) -> String {
    let (_, events) = decode(fixture(name).as_bytes());
    let mut out = String::new();
    for event in events {
        if let Some(parent) = &event.parent {
            write!(out, "[{parent}] ").unwrap();
        }
        match event.kind {
            EventKind::Ready { model, permissions, version, .. } => {
                writeln!(out, "ready {model:?} {permissions:?} {version:?}").unwrap();
            }
            EventKind::Turn { number } => writeln!(out, "turn {number}").unwrap(),
            EventKind::Text { partial: true, .. }
            | EventKind::Thinking { partial: true, .. }
            | EventKind::Usage { .. } => {}
            EventKind::Text { text, .. } => writeln!(out, "text {text:?}").unwrap(),
            EventKind::Thinking { text, .. } => writeln!(out, "thinking {text:?}").unwrap(),
            EventKind::ToolCall { tool, summary, target, .. } => {
                writeln!(out, "call {tool} {summary:?} {target:?}").unwrap();
            }
            EventKind::ToolResult { ok, output, .. } => writeln!(out, "result {ok} {output:?}").unwrap(),
            EventKind::PermissionAsked { tool, summary, input, .. } => {
                writeln!(out, "asked {tool} {summary:?} {input}").unwrap();
            }
            EventKind::PermissionDenied { tool, summary } => {
                writeln!(out, "denied {tool} {summary:?}").unwrap();
            }
            EventKind::Retry { attempt, max, delay_ms, status, error } => {
                writeln!(out, "retry {attempt}/{max} in {delay_ms} {status:?} {error}").unwrap();
            }
            EventKind::Result { subtype, error, text, usage } => {
                writeln!(out, "end {subtype} {error} {text:?} {}", figures(usage)).unwrap();
            }
            other => writeln!(out, "{other:?}").unwrap(),
        }
    }
    out
}

fn figures(usage: Usage) -> String {
    let Usage { input, output, cache_read, cache_write, turns, cost, .. } = usage;
    let cost = cost.map(|cost| (cost.micro_usd, cost.source));
    format!("{input}+{cache_read}+{cache_write}->{output} {turns} {cost:?}")
}

#[track_caller]
fn assert_told(name: &str, expected: &str) {
    let told = told(name);
    let (ready, told) = told.split_once('\n').unwrap();
    assert!(
        ready.starts_with("ready Some(\"claude-opus-4-8") && ready.ends_with("Some(\"2.1.197\")"),
        "{ready}"
    );
    let expected: String =
        expected.trim().lines().fold(String::new(), |all, line| all + line.trim_start() + "\n");
    assert_eq!(told, expected);
}

#[test]
fn tools_and_their_results() {
    assert_told(
        "tools",
        r#"
        turn 1
        thinking "I should look first."
        text "I will write a file."
        call Write "src/greet.txt" Some(Writes("src/greet.txt"))
        result true "File created successfully at: /repo/src/greet.txt (file state is current in your context — no need to Read it back)"
        turn 2
        call Read "notes.txt" Some(Reads("notes.txt"))
        call Grep "two" None
        result false "<tool_use_error>Error: No such tool available: Grep. Grep is not available in this session — search file contents with `grep` via the Bash tool instead.</tool_use_error>"
        result true "1\tone\n2\ttwo\n3\tthree\n4"
        turn 3
        call Edit "notes.txt" Some(Writes("notes.txt"))
        result true "The file /repo/notes.txt has been updated successfully. (file state is current in your context — no need to Read it back)"
        turn 4
        call Bash "python3 -c 'print(6*7)'" Some(Runs("python3 -c 'print(6*7)'"))
        asked Bash "python3 -c 'print(6*7)'" {"command":"python3 -c 'print(6*7)'","description":"Count lines"}
        result true "42"
        turn 5
        call Bash "ls no-such-file" Some(Runs("ls no-such-file"))
        result false "Exit code 2\nls: cannot access 'no-such-file': No such file or directory"
        turn 6
        text "All done: greeting written, notes edited."
        end success false "All done: greeting written, notes edited." 750+1800+120->111 6 Some((8175, Reported))
        "#,
    );
}

#[test]
fn a_refused_tool_is_told_although_the_result_says_success() {
    assert_told(
        "denied",
        r#"
        turn 1
        call Bash "python3 -c 'print(1)'" Some(Runs("python3 -c 'print(1)'"))
        asked Bash "python3 -c 'print(1)'" {"command":"python3 -c 'print(1)'","description":"Make a file"}
        result false "not in this repository"
        turn 2
        text "I was not allowed to do that."
        denied Bash "python3 -c 'print(1)'"
        end success false "I was not allowed to do that." 210+600+40->17 2 Some((2025, Reported))
        "#,
    );
    assert_told(
        "hooks",
        r#"
        turn 1
        call Write "a.txt" Some(Writes("a.txt"))
        result false "not that file"
        turn 2
        text "done"
        denied Write "a.txt"
        end success false "done" 210+600+40->11 2 Some((1875, Reported))
        "#,
    );
}

#[test]
fn two_results_of_one_process_count_once_each() {
    assert_told(
        "two-turns",
        r#"
        turn 1
        text "First answer."
        end success false "First answer." 100+300+20->7 1 Some((950, Reported))
        turn 2
        call Bash "python3 -c 'print(2)'" Some(Runs("python3 -c 'print(2)'"))
        asked Bash "python3 -c 'print(2)'" {"command":"python3 -c 'print(2)'","description":"Echo"}
        result true "2"
        turn 3
        text "Second answer."
        end success false "Second answer." 330+900+60->31 3 Some((3250, Reported))
        "#,
    );
}

#[test]
fn a_continued_conversation_starts_its_figures_anew() {
    assert_told(
        "resume",
        r#"
        turn 1
        text "Third answer, after resuming."
        end success false "Third answer, after resuming." 100+300+20->11 1 Some((1050, Reported))
        "#,
    );
}

#[test]
fn a_sub_agent_is_told_apart_and_its_tokens_count() {
    assert_told(
        "sub-agent",
        r#"
        turn 1
        call Task "Look around" None
        [toolu_main_1_0] Notice { text: "SUBTASK: write sub.txt" }
        [toolu_main_1_0] call Write "sub.txt" Some(Writes("sub.txt"))
        [toolu_main_1_0] result true "File created successfully at: /repo/sub.txt (file state is current in your context — no need to Read it back)"
        result true "Wrote sub.txt.\nagentId: a9dcfac01b26bec39 (use SendMessage with to: 'a9dcfac01b26bec39', summary: '<5-10 word recap>' to continue this agent)\n<usage>subagent_tokens: 432\ntool_uses: 1\nduration_ms: 85</usage>"
        turn 2
        text "The sub-agent finished."
        end success false "The sub-agent finished." 420+1200+80->28 2 Some((3900, Reported))
        "#,
    );
}

#[test]
fn waiting_for_the_model_is_told() {
    assert_told(
        "retry-529",
        r#"
        retry 1/10 in 589 Some(529) overloaded
        retry 2/10 in 1218 Some(529) overloaded
        turn 1
        text "Recovered."
        end success false "Recovered." 120+300+20->1 1 Some((900, Reported))
        "#,
    );
    assert_told(
        "retry-401",
        "retry 1/10 in 500 Some(401) authentication_failed\nretry 2/10 in 1090 Some(401) authentication_failed",
    );
}

#[test]
fn the_limit_of_an_account_is_told_with_its_time() {
    assert_told(
        "rate-limit",
        r#"
        Notice { text: "the limit of its account is near: five_hour" }
        retry 0/0 in 1795358700000 Some(429) rate_limit five_hour
        text "You've hit your session limit · resets 3:45pm (Europe/Berlin)"
        end success true "You've hit your session limit · resets 3:45pm (Europe/Berlin)" 0+0+0->0 0 Some((0, Reported))
        "#,
    );
}

#[test]
fn an_interrupted_turn_failed_and_the_next_one_did_not() {
    let told = told("interrupt");
    assert!(
        told.contains(r#"end error_during_execution true "interrupted" 100+300+20->1 1 Some((0, Reported))"#),
        "{told}"
    );
    let (decoder, _) = decode(fixture("interrupt").as_bytes());
    assert_eq!((decoder.is_idle(), decoder.reported_failure()), (true, None));
    let first = fixture("interrupt").split_inclusive('\n').take_while(|line| !line.contains("msg_main_002"));
    let (decoder, _) = decode(first.collect::<String>().as_bytes());
    assert_eq!(decoder.reported_failure().as_deref(), Some("interrupted"));
}

#[test]
fn a_program_that_gave_up_says_why() {
    let (decoder, _) = decode(fixture("max-turns").as_bytes());
    assert_eq!(decoder.reported_failure().as_deref(), Some("Reached maximum number of turns (2)"));
}

#[test]
fn a_run_without_a_result_is_counted_by_its_messages() {
    let (decoder, _) = decode(fixture("stopped").as_bytes());
    assert!(!decoder.is_idle());
    assert_eq!(figures(decoder.usage()), "100+300+20->10 1 Some((1025, Computed))");
}

#[test]
fn before_the_result_the_figures_are_those_of_the_stream() {
    for name in ["text", "tools", "two-turns", "denied", "hooks", "max-turns", "resume"] {
        let results = |line: &&str| !line.contains(r#""type":"result""#);
        let without: String = fixture(name).split_inclusive('\n').filter(results).collect();
        let (with, without) =
            (decode(fixture(name).as_bytes()).0.usage(), decode(without.as_bytes()).0.usage());
        let source = CostSource::Reported;
        let computed = without.cost.map(|cost| Cost { source, ..cost });
        assert_eq!(Usage { cost: computed, ..without }, with, "{name}");
    }
}

#[test]
fn nothing_recorded_is_unrecognised() {
    for (name, lines) in FIXTURES {
        let (_, events) = decode(lines.as_bytes());
        let odd: Vec<_> =
            events.iter().filter(|event| matches!(event.kind, EventKind::Unrecognised { .. })).collect();
        assert!(odd.is_empty(), "{name}: {odd:?}");
    }
}

#[test]
fn pieces_of_a_text_come_before_the_whole_and_are_part_of_it() {
    let (_, events) = decode(fixture("interrupt").as_bytes());
    let mut pieces = String::new();
    for event in &events {
        match &event.kind {
            EventKind::Text { text, partial: true } => pieces.push_str(text),
            EventKind::Text { text, partial: false } => {
                assert!(!pieces.is_empty() && text.starts_with(&pieces), "{pieces:?} {text:?}");
                return;
            }
            _ => {}
        }
    }
    panic!("no whole text");
}

#[test]
fn what_may_be_stored_holds_no_piece_of_a_text() {
    let mut decoder = ClaudeDecoder::default();
    let mut events = Vec::new();
    let (mut pieces, mut stored) = (0, String::new());
    for line in fixture("tools").lines() {
        decoder.line(line.as_bytes(), Timestamp(0), &mut events);
        if decoder.was_piece() {
            pieces += 1;
        } else {
            stored.push_str(line);
        }
    }
    assert!(pieces > 20 && !stored.contains("partial_json") && !stored.contains("text_delta"));
    assert!(stored.contains("message_delta") && stored.contains("\"result\""));
}

#[test]
fn streamed_text_is_estimated_until_it_is_reported() {
    let streamed: String = fixture("text")
        .split_inclusive('\n')
        .take_while(|line| !line.contains(r#""assistant","message""#))
        .collect();
    let (decoder, _) = decode(streamed.as_bytes());
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    while decoder.usage().estimated_output == 0 {
        assert!(std::time::Instant::now() < deadline, "no estimate");
        std::thread::yield_now();
    }
    assert_eq!(decoder.usage().estimated_output, 9);
    assert_eq!(decoder.usage().output, 1);
    assert_eq!(decode(fixture("text").as_bytes()).0.usage().estimated_output, 0);
}

#[test]
fn unknown_and_broken_lines_are_kept_and_the_rest_still_counts() {
    let mut bytes = Vec::new();
    for line in fixture("tools").split_inclusive('\n') {
        bytes.extend_from_slice(
            b"{\"type\":\"tomorrow\",\"message\":[]}\n\n \n\0\xff\xfe{\n{\"type\":\"assistant\",\"mess\n[]\n",
        );
        bytes.extend_from_slice(line.as_bytes());
    }
    let (decoder, events) = decode(&bytes);
    let odd = events.iter().filter(|event| matches!(event.kind, EventKind::Unrecognised { .. })).count();
    assert_eq!(odd, 4 * fixture("tools").lines().count());
    assert_eq!(figures(decoder.usage()), "750+1800+120->111 6 Some((8175, Reported))");
}

#[test]
fn a_field_of_another_kind_does_not_lose_the_line() {
    let line = r#"{"type":"assistant","parent_tool_use_id":7,"message":{"id":null,"usage":"much","content":[7,
        {"type":"text","text":"still here \ud83d"},{"type":"tool_use","name":"Bash","input":"ls"}]}}"#;
    let (_, events) = decode(line.replace('\n', " ").as_bytes());
    let kinds: Vec<_> = events.into_iter().map(|event| event.kind).collect();
    assert_eq!(kinds[0], EventKind::Text { text: "still here \u{fffd}".into(), partial: false });
    assert!(matches!(&kinds[1], EventKind::ToolCall { tool, .. } if tool == "Bash"), "{kinds:?}");
}

#[test]
fn a_line_that_is_no_utf8_is_still_decoded() {
    let (_, events) = decode(b"{\"type\":\"assistant\",\"message\":{\"content\":\"caf\xe9\"}}");
    assert_eq!(events[0].kind, EventKind::Text { text: "caf\u{fffd}".into(), partial: false });
}

fn any_fixture() -> impl Strategy<Value = &'static str> {
    (0..FIXTURES.len()).prop_map(|index| FIXTURES[index].1)
}

#[test]
fn it_is_not_done_while_an_agent_of_its_own_works_on() {
    let mut decoder = ClaudeDecoder::default();
    let mut idle = |line: &str| {
        decoder.line(line.as_bytes(), Timestamp(0), &mut Vec::new());
        decoder.is_idle()
    };
    let started = |id: &str, kind: &str| {
        format!(r#"{{"type":"system","subtype":"task_started","task_id":"{id}","task_type":"{kind}"}}"#)
    };
    assert!(!idle(&started("a", "local_agent")) && !idle(&started("b", "local_agent")));
    assert!(!idle(&started("server", "local_bash")));
    assert!(!idle(r#"{"type":"result","subtype":"success"}"#));
    assert!(!idle(
        r#"{"type":"system","subtype":"task_updated","task_id":"a","patch":{"status":"running"}}"#
    ));
    assert!(!idle(r#"{"type":"system","subtype":"task_updated","task_id":"a","patch":{"status":"failed"}}"#));
    assert!(idle(r#"{"type":"system","subtype":"task_notification","task_id":"b","status":"completed"}"#));
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        decode(&bytes);
    }

    #[test]
    fn a_flipped_byte_never_panics(lines in any_fixture(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = lines.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        decode(&bytes);
    }

    /// A torn line loses itself only: what comes before and after is told as without it.
    #[test]
    fn a_line_torn_in_two_loses_only_itself(lines in any_fixture(), at in any::<prop::sample::Index>()) {
        let at = at.index(lines.len());
        prop_assume!(lines.is_char_boundary(at));
        let start = lines[..at].rfind('\n').map_or(0, |newline| newline + 1);
        let end = at + lines[at..].find('\n').map_or(lines.len() - at, |newline| newline + 1);
        let (_, torn) = decode(format!("{}\n{}", &lines[..at], &lines[at..]).as_bytes());
        let (_, without) = decode(format!("{}{}", &lines[..start], &lines[end..]).as_bytes());
        let (_, whole) = decode(lines.as_bytes());
        let kept = torn.iter().filter(|event| !matches!(event.kind, EventKind::Unrecognised { .. })).count();
        let odd = torn.len() - kept;
        // Torn at its very start or end the line is whole; otherwise each half is kept as it is.
        if odd == 0 {
            prop_assert_eq!(torn, whole);
        } else {
            prop_assert_eq!((odd, kept), (2, without.len()));
        }
    }
}

//! The decoder against recorded streams of the real program (see `fixtures/agents/README.md`).

use super::CodexDecoder;
use crate::agent::Decoder;
use crate::agent::testing::{assert_lines, decode, figures, told};
use crate::model::{Event, EventKind, Usage};
use proptest::prelude::*;
use std::path::Path;

macro_rules! fixtures {
    ($($name:literal),*) => {
        const FIXTURES: &[(&str, &str)] =
            &[$(($name, include_str!(concat!("../../../fixtures/agents/codex/", $name, ".jsonl")))),*];
    };
}
fixtures!(
    "quota",
    "resume",
    "retry-401",
    "retry-429",
    "retry-529",
    "stopped",
    "text",
    "tools",
    "unknown-model"
);

fn fixture(name: &str) -> &'static str {
    FIXTURES.iter().find(|(known, _)| *known == name).unwrap().1
}

fn run(bytes: &[u8]) -> (CodexDecoder, Vec<Event>) {
    let mut decoder = CodexDecoder::new(Path::new("/repo"), Usage::default());
    let events = decode(&mut decoder, bytes, b"");
    (decoder, events)
}

#[track_caller]
fn assert_told(name: &str, expected: &str) {
    let told = told(run(fixture(name).as_bytes()).1);
    let (ready, told) = told.split_once('\n').unwrap();
    assert!(ready.starts_with("ready None Some(\"01a1f9d"), "{ready}");
    assert_lines(told, expected);
}

#[test]
fn tools_and_their_results() {
    let mut decoder = CodexDecoder::new(Path::new("/repo"), Usage::default());
    let stderr = include_str!("../../../fixtures/agents/codex/tools.stderr");
    let told = told(decode(&mut decoder, fixture("tools").as_bytes(), stderr.as_bytes()));
    let (_, told) = told.split_once('\n').unwrap();
    assert_lines(
        told,
        r#"
        turn 1
        text "I will write a file."
        call item_1 file_change "made.txt" Some(Writes("made.txt"))
        call item_1/1 file_change "add src/new.txt" Some(Writes("src/new.txt"))
        result item_1 true ""
        result item_1/1 true ""
        call item_2 command_execution "ls no-such-file" Some(Runs("ls no-such-file"))
        result item_2 false "ls: cannot access 'no-such-file': No such file or directory"
        call item_3 command_execution "git add -A" Some(Runs("git add -A"))
        result item_3 false "fatal: Unable to create '/repo/.git/index.lock': Read-only file system"
        call item_4 command_execution "echo 'from js'; sed -n 1p src/new.txt" Some(Runs("echo 'from js'; sed -n 1p src/new.txt"))
        result item_4 true "from js\none"
        call item_5 file_change "delete src/new.txt" Some(Writes("src/new.txt"))
        result item_5 true ""
        text "All done."
        end completed false "All done." 1920+180+0->120 1
        notice "2026-11-20T16:42:19.499974Z ERROR codex_core::tools::router: error=apply_patch verification failed: Failed to read file to update /repo/nofile.txt: No such file or directory (os error 2)"
        "#,
    );
    assert!(decoder.is_idle() && decoder.reported_failure().is_none());
}

#[test]
fn a_continued_conversation_counts_what_is_new() {
    assert_told(
        "text",
        r#"
        turn 1
        thinking "**Looking** first"
        text "Hello there, said and done."
        end completed false "Hello there, said and done." 70+30+0->20 1
        "#,
    );
    let before = run(fixture("text").as_bytes()).0.usage();
    let mut decoder = CodexDecoder::new(Path::new("/repo"), before);
    decode(&mut decoder, fixture("resume").as_bytes(), b"");
    assert_eq!(figures(decoder.usage()), "70+30+0->20 1");
    // Of a conversation that another machine counted we know nothing: all of it is new.
    assert_eq!(figures(run(fixture("resume").as_bytes()).0.usage()), "140+60+0->40 1");
}

#[test]
fn waiting_for_the_model_is_told() {
    assert_told(
        "retry-429",
        r#"
        turn 1
        retry 1/5 in 0 Some(429) exceeded retry limit, last status: 429 Too Many Requests
        retry 2/5 in 0 Some(429) exceeded retry limit, last status: 429 Too Many Requests
        text "ok"
        end completed false "ok" 70+30+0->20 1
        "#,
    );
    let (decoder, events) = run(fixture("retry-401").as_bytes());
    let told = told(events);
    assert_eq!(told.matches("retry ").count(), 5, "{told}");
    let why = "unexpected status 401 Unauthorized: Incorrect API key provided, url: http://127.0.0.1:8080/v1/responses";
    // Said twice by the program, and once by us.
    assert_lines(
        told.split_once("retry 5/5 ").unwrap().1,
        &format!("in 0 Some(401) {why}\nend failed true {why:?} 0+0+0->0 1"),
    );
    assert_eq!((decoder.is_idle(), decoder.reported_failure().as_deref()), (true, Some(why)));
    let (decoder, _) = run(fixture("retry-529").as_bytes());
    assert!(decoder.reported_failure().unwrap().contains("status 529"));
    let (decoder, events) = run(fixture("quota").as_bytes());
    assert_eq!(
        decoder.reported_failure().as_deref(),
        Some("Quota exceeded. Check your plan and billing details.")
    );
    assert!(!events.iter().any(|event| matches!(event.kind, EventKind::Retry { .. })));
}

#[test]
fn an_error_that_nothing_follows_is_told() {
    let lines = fixture("quota").lines().filter(|line| !line.contains("turn.failed"));
    let (decoder, events) = run(lines.collect::<Vec<_>>().join("\n").as_bytes());
    assert!(told(events).ends_with("notice \"Quota exceeded. Check your plan and billing details.\"\n"));
    assert!(decoder.reported_failure().is_some() && !decoder.is_idle());
}

#[test]
fn a_stopped_run_ends_in_the_middle() {
    assert_told(
        "stopped",
        r#"
        turn 1
        text "I begin."
        call item_1 command_execution "touch begun; tail -f made.txt" Some(Runs("touch begun; tail -f made.txt"))
        "#,
    );
    assert!(!run(fixture("stopped").as_bytes()).0.is_idle());
}

/// Not recorded: what a scripted model cannot make it do. The fields are those of its sources.
#[test]
fn items_of_other_kinds() {
    let lines = r#"
        {"type":"item.started","item":{"id":"a","type":"mcp_tool_call","server":"db","tool":"query","arguments":{"query":"all"},"status":"in_progress"}}
        {"type":"item.completed","item":{"id":"a","type":"mcp_tool_call","server":"db","tool":"query","arguments":{"query":"all"},"result":{"content":[{"type":"text","text":"one"},{"type":"text","text":"two"}]},"error":null,"status":"completed"}}
        {"type":"item.completed","item":{"id":"b","type":"mcp_tool_call","server":"db","tool":"drop","arguments":{},"error":{"message":"no"},"status":"failed"}}
        {"type":"item.completed","item":{"id":"c","type":"web_search","query":"rust"}}
        {"type":"item.started","item":{"id":"d","type":"todo_list","items":[{"text":"one","completed":false},{"text":"two","completed":false}]}}
        {"type":"item.updated","item":{"id":"d","type":"todo_list","items":[{"text":"one","completed":true},{"text":"two","completed":false}]}}
        {"type":"item.completed","item":{"id":"d","type":"todo_list","items":[{"text":"one","completed":true},{"text":"two","completed":false}]}}
        {"type":"item.started","item":{"id":"e","type":"collab_tool_call","tool":"spawn_agent","prompt":"Look around","status":"in_progress"}}
        {"type":"item.completed","item":{"id":"f","type":"command_execution","command":"rm -rf /","aggregated_output":"","status":"declined"}}
        {"type":"item.completed","item":{"id":"g","type":"error","message":"careful"}}
        {"type":"item.completed","item":{"id":"h","type":"tomorrow"}}
        "#;
    assert_lines(
        &told(run(lines.as_bytes()).1),
        r#"
        call a db/query "all" None
        result a true "one\ntwo"
        call b db/drop "" None
        result b false "no"
        call c web_search "rust" None
        result c true ""
        notice "plan: 0 of 2 done; one"
        notice "plan: 1 of 2 done; two"
        call e spawn_agent "Look around" None
        call f command_execution "rm -rf /" Some(Runs("rm -rf /"))
        result f false ""
        denied command_execution "rm -rf /"
        notice "careful"
        Unrecognised { raw: "{\"type\":\"item.completed\",\"item\":{\"id\":\"h\",\"type\":\"tomorrow\"}}" }
        "#,
    );
}

#[test]
fn nothing_recorded_is_unrecognised() {
    for (name, lines) in FIXTURES {
        let (_, events) = run(lines.as_bytes());
        let odd: Vec<_> =
            events.iter().filter(|event| matches!(event.kind, EventKind::Unrecognised { .. })).collect();
        assert!(odd.is_empty(), "{name}: {odd:?}");
    }
}

#[test]
fn unknown_and_broken_lines_are_kept_and_the_rest_still_counts() {
    let mut bytes = Vec::new();
    for line in fixture("tools").split_inclusive('\n') {
        bytes.extend_from_slice(
            b"{\"type\":\"tomorrow\"}\n\n \n\0\xff\xfe{\n{\"type\":\"item.started\",\"it\n[]\n",
        );
        bytes.extend_from_slice(line.as_bytes());
    }
    let (decoder, events) = run(&bytes);
    let odd = events.iter().filter(|event| matches!(event.kind, EventKind::Unrecognised { .. })).count();
    assert_eq!(odd, 4 * fixture("tools").lines().count());
    assert_eq!(figures(decoder.usage()), "1920+180+0->120 1");
}

#[test]
fn a_field_of_another_kind_does_not_lose_the_line() {
    let line = r#"{"type":"item.completed","usage":"much","item":{"id":7,"type":"agent_message","text":"still here \ud83d","changes":3}}"#;
    assert_lines(&told(run(line.as_bytes()).1), "text \"still here \u{fffd}\"");
}

/// Wherever the stream is cut, what was whole before is told, and nothing panics.
#[test]
fn a_stream_that_ends_at_any_byte_keeps_its_whole_lines() {
    for (name, lines) in FIXTURES {
        for end in 0..lines.len() {
            let cut = &lines.as_bytes()[..end];
            let whole = cut.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
            let (_, mut torn) = run(cut);
            torn.retain(|event| !matches!(event.kind, EventKind::Unrecognised { .. }));
            let (_, kept) = run(&lines.as_bytes()[..whole]);
            // A line without its newline may be whole.
            assert!(torn.len() >= kept.len(), "{name} at {end}");
        }
    }
}

fn any_fixture() -> impl Strategy<Value = &'static str> {
    (0..FIXTURES.len()).prop_map(|index| FIXTURES[index].1)
}

proptest! {
    #[test]
    fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        run(&bytes);
    }

    #[test]
    fn a_flipped_byte_never_panics(lines in any_fixture(), at in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = lines.as_bytes().to_vec();
        let at = at.index(bytes.len());
        bytes[at] = byte;
        run(&bytes);
    }
}

use super::*;
use proptest::prelude::*;
use std::path::Path;

fn stage(dir: &Path) -> Stage {
    let env = vec![("PATH".into(), "/usr/bin:/bin".into())];
    Stage { dir: dir.to_owned(), env, program: "/bin/echo".into(), speed: 0 }
}

/// Plays a script in `dir` and decodes what it prints.
fn play_in(dir: &Path, script: &str) -> (u8, Vec<EventKind>, ReplayDecoder) {
    let mut out = Vec::new();
    let code = play(script.as_bytes(), &mut out, &stage(dir)).unwrap();
    let mut decoder = ReplayDecoder::default();
    let mut events = Vec::new();
    for line in out.split(|&byte| byte == b'\n') {
        decoder.line(line, Timestamp(7), &mut events);
    }
    (code, events.into_iter().map(|event| event.kind).collect(), decoder)
}

fn results(kinds: &[EventKind]) -> Vec<(bool, &str)> {
    kinds
        .iter()
        .filter_map(|kind| match kind {
            EventKind::ToolResult { ok, output, .. } => Some((*ok, output.as_str())),
            _ => None,
        })
        .collect()
}

#[test]
fn a_script_edits_files_and_runs_commands() {
    let dir = tempfile::tempdir().unwrap();
    let script = r#"
        {"type":"ready","model":"scripted"}
        {"type":"turn","number":1}
        {"type":"thinking","content":"Where to start?"}
        {"type":"tool_call","tool":"write","args":{"path":"src/a.txt","content":"one\ntwo\n"}}
        {"type":"tool_call","tool":"edit","args":{"path":"src/a.txt","old":"two","new":"2"}}
        {"type":"usage","input":100,"output":20,"cost_usd":0.001}
        {"type":"turn"}
        {"type":"wait","ms":60000}
        {"type":"tool_call","tool":"bash","args":{"command":"cat src/a.txt; exit 3"}}
        {"type":"tool_call","tool":"read","args":{"path":"src/a.txt"}}
        {"type":"finding","message":"a is odd","severity":"high","path":"src/a.txt:2"}
        {"type":"usage","input":1,"output":2,"cost_usd":0.002}
        {"type":"text","content":"Done."}
        {"type":"result","content":"Done."}
        {"type":"exit","code":4}
        {"type":"text","content":"never said"}
    "#;
    let (code, kinds, decoder) = play_in(dir.path(), script);
    assert_eq!(code, 4);
    assert_eq!(std::fs::read_to_string(dir.path().join("src/a.txt")).unwrap(), "one\n2\n");
    assert_eq!(
        results(&kinds),
        [
            (true, "wrote 8 bytes"),
            (true, "replaced 1"),
            (false, "exit status: 3\none\n2"),
            (true, "one\n2"),
            (true, "finding add --severity high --path src/a.txt:2 -- a is odd"),
        ]
    );
    let usage = decoder.usage();
    assert_eq!((usage.input, usage.output, usage.turns, usage.cost.unwrap().micro_usd), (101, 22, 2, 3000));
    assert!(kinds.contains(&EventKind::Text { text: "Done.".into(), partial: false }));
    assert!(!kinds.iter().any(|kind| matches!(kind, EventKind::Unrecognised { .. })), "{kinds:?}");
    let calls: Vec<_> = kinds
        .iter()
        .filter_map(|kind| match kind {
            EventKind::ToolCall { call, summary, .. } => Some(format!("{call} {summary}")),
            _ => None,
        })
        .collect();
    assert_eq!(
        calls,
        [
            "call-1 src/a.txt",
            "call-2 src/a.txt",
            "call-3 cat src/a.txt; exit 3",
            "call-4 src/a.txt",
            "call-5 a is odd"
        ]
    );
}

#[test]
fn how_full_a_window_is_follows_from_the_last_message_and_the_model() {
    let usage = |tokens| format!("{{\"type\":\"usage\",\"input\":1000,\"cache_read\":{tokens}}}\n");
    let decode = |request: &LaunchRequest, script: &str| {
        let (mut decoder, mut events) = (Replay.decoder(request), Vec::new());
        script.lines().for_each(|line| decoder.line(line.as_bytes(), Timestamp(7), &mut events));
        let contexts = events.into_iter().filter_map(|event| match event.kind {
            EventKind::Usage { context, .. } => Some(context.map(|context| (context.used, context.window))),
            _ => None,
        });
        contexts.collect::<Vec<_>>()
    };
    let anybody = LaunchRequest::default();
    let both = usage(9_000) + &usage(169_000);
    let known = Some(200_000);
    let script = format!("{{\"type\":\"ready\",\"model\":\"claude-opus-4-8\"}}\n{both}");
    assert_eq!(decode(&anybody, &script), [Some((10_000, known)), Some((170_000, known))]);
    let script = format!("{{\"type\":\"ready\",\"model\":\"scripted\",\"window\":200000}}\n{both}");
    assert_eq!(decode(&anybody, &script), [Some((10_000, known)), Some((170_000, known))]);
    assert_eq!(decode(&anybody, &both), [None, None], "nobody knows its window");
    let named = LaunchRequest { model: Some("claude-haiku-4-5".into()), ..anybody };
    let script = format!("{}{{\"type\":\"usage\",\"cost_usd\":0.1}}", usage(169_000));
    assert_eq!(decode(&named, &script), [Some((170_000, known)), None], "of money there is no window");
    let huge = format!("{{\"type\":\"usage\",\"input\":{0},\"output\":{0}}}\n", u64::MAX).repeat(2);
    assert_eq!(decode(&named, &huge), [Some((u64::MAX, known)); 2], "it says what it likes");
}

#[test]
fn nothing_outside_the_stage_is_touched() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("stage");
    std::fs::create_dir_all(dir.join(".git")).unwrap();
    std::os::unix::fs::symlink(root.path(), dir.join("up")).unwrap();
    std::os::unix::fs::symlink(root.path().join("nowhere"), dir.join("dangling")).unwrap();
    std::os::unix::fs::symlink(".git", dir.join("git")).unwrap();
    for path in ["../x", "/etc/x", "up/x", "a/../../x", ".git/config", "git/config", "dangling", "", "."] {
        let line = json_line(&serde_json::json!({"path": path, "content": "x"}));
        let (_, kinds, _) = play_in(&dir, &line);
        assert!(!results(&kinds)[0].0, "{path}");
    }
    assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(dir.join(".git")).unwrap().count(), 0);
    let inside = json_line(&serde_json::json!({"path": dir.join("x"), "content": "x"}));
    assert!(results(&play_in(&dir, &inside).1)[0].0);
}

fn json_line(args: &serde_json::Value) -> String {
    serde_json::json!({"type": "tool_call", "tool": "write", "args": args}).to_string()
}

#[test]
fn a_recorded_stream_is_performed_where_it_is_played() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("notes.txt"), "one\ntwo\nthree\n").unwrap();
    let recorded = include_str!("../../../fixtures/agents/claude/tools.jsonl");
    let (code, kinds, decoder) = play_in(dir.path(), recorded);
    assert_eq!(code, 0);
    assert_eq!(std::fs::read_to_string(dir.path().join("src/greet.txt")).unwrap(), "hello\nworld\n");
    assert_eq!(std::fs::read_to_string(dir.path().join("notes.txt")).unwrap(), "one\nTWO\nthree\n");
    assert_eq!(decoder.usage().cost.unwrap().micro_usd, 8175);
    // As recorded, but for what one of its commands said when it was played.
    let mut direct = Vec::new();
    let mut claude = ClaudeDecoder::default();
    recorded.lines().for_each(|line| claude.line(line.as_bytes(), Timestamp(7), &mut direct));
    let mut kinds = kinds;
    let notices = kinds.iter().filter(|kind| matches!(kind, EventKind::Notice { .. })).count();
    kinds.retain(|kind| !matches!(kind, EventKind::Notice { .. }));
    assert_eq!(notices, 1);
    assert_eq!(kinds, direct.into_iter().map(|event| event.kind).collect::<Vec<_>>());
}

#[test]
fn recorded_streams_of_other_programs_are_played_as_they_were() {
    for (recorded, decoder) in [
        (
            include_str!("../../../fixtures/agents/codex/tools.jsonl"),
            &mut CodexDecoder::default() as &mut dyn Decoder,
        ),
        (include_str!("../../../fixtures/agents/gemini/tools.jsonl"), &mut GeminiDecoder::default()),
        (include_str!("../../../fixtures/agents/codex/retry-401.jsonl"), &mut CodexDecoder::default()),
        (include_str!("../../../fixtures/agents/gemini/refused-401.jsonl"), &mut GeminiDecoder::default()),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let script = recorded.replace("/repo/", "");
        let direct = crate::agent::testing::decode(decoder, script.as_bytes(), b"");
        let (_, mut told, player) = play_in(dir.path(), &script);
        told.retain(|kind| !matches!(kind, EventKind::Notice { text } if text.starts_with("playing ")));
        assert_eq!(told, direct.into_iter().map(|event| event.kind).collect::<Vec<_>>());
        assert_eq!(player.usage(), decoder.usage());
        assert_eq!(player.reported_failure(), decoder.reported_failure());
        assert_eq!(player.is_idle(), decoder.is_idle());
    }
    // Files are written and commands run where the recording tells what.
    let dir = tempfile::tempdir().unwrap();
    let line = |tool: &str, parameters: serde_json::Value| {
        let line = serde_json::json!({"type": "tool_use", "timestamp": "t", "tool_name": tool, "parameters": parameters});
        format!("{line}\n")
    };
    let script = [
        line("write_file", serde_json::json!({"file_path": "a.txt", "content": "one\n"})),
        line("replace", serde_json::json!({"file_path": "a.txt", "old_string": "one", "new_string": "two"})),
        line("run_shell_command", serde_json::json!({"command": "cp a.txt b.txt"})),
        r#"{"type":"item.started","item":{"type":"command_execution","command":"/bin/bash -lc 'cat b.txt > c.txt'"}}"#
            .to_owned(),
    ];
    play_in(dir.path(), &script.concat());
    assert_eq!(std::fs::read_to_string(dir.path().join("c.txt")).unwrap(), "two\n");
}

#[test]
fn a_transcript_of_events_is_told_again() {
    let dir = tempfile::tempdir().unwrap();
    let usage = Usage { input: 5, turns: 1, ..Usage::default() };
    let kinds = [
        EventKind::Turn { number: 1 },
        EventKind::Text { text: "hello".into(), partial: false },
        EventKind::Result { subtype: "success".into(), error: false, text: "bye".into(), usage },
        EventKind::Exited { code: Some(0), signal: None },
    ];
    let redactor = crate::agent::Redactor::new([("", "")]);
    let lines = kinds.iter().map(|kind| Event { at: Timestamp(1), parent: None, kind: kind.clone() });
    let script: Vec<String> = lines.map(|event| transcript::encode(&event, &redactor)).collect();
    let (_, told, decoder) = play_in(dir.path(), &script.join("\n"));
    assert_eq!(told, kinds[..3]);
    assert_eq!(decoder.usage(), usage);
}

#[test]
fn lines_that_nobody_knows_are_kept() {
    let mut decoder = ReplayDecoder::default();
    let mut events = Vec::new();
    for line in ["{\"type\":\"tomorrow\"}", "{", "{\"at\":1,\"type\":\"tomorrow\"}", "", "[]"] {
        decoder.line(line.as_bytes(), Timestamp(0), &mut events);
    }
    assert_eq!(events.len(), 4);
    assert!(events.iter().all(|event| matches!(event.kind, EventKind::Unrecognised { .. })), "{events:?}");
}

#[test]
fn the_program_is_ourselves() {
    let request = LaunchRequest {
        program: vec!["/bin/git-orchestra".into()],
        prompt: "task".into(),
        extra_args: vec!["/scripts/a.jsonl".into()],
        ..LaunchRequest::default()
    };
    let launch = Replay.launch(&request);
    assert_eq!(launch.argv, ["/bin/git-orchestra", "replay", "/scripts/a.jsonl"]);
    assert_eq!(launch.env, [("GIT_ORCHESTRA_PROMPT".into(), "task".into())]);
}

proptest! {
    #[test]
    fn arbitrary_lines_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), kind in "[a-z_]{0,12}") {
        let mut decoder = ReplayDecoder::default();
        let mut events = Vec::new();
        decoder.line(&bytes, Timestamp(0), &mut events);
        let line = format!("{{\"type\":\"{kind}\",\"at\":{},\"content\":[]}}", bytes.len());
        decoder.line(line.as_bytes(), Timestamp(0), &mut events);
    }
}

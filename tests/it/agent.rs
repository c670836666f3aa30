//! The Claude Code adapter against the program itself: what it is started with, told and answered.

use crate::harness::programs::{Dialogue, claude};
use crate::harness::{Endpoint, Sandbox, Step};
use git_orchestra::agent::{Adapter, Claude, Decoder, LaunchRequest, PermissionReply};
use git_orchestra::model::{Budget, Cost, CostSource, Event, EventKind, Timestamp};
use serde_json::Value;

const SESSION: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";

struct Run {
    dialogue: Dialogue,
    decoder: Box<dyn Decoder>,
    events: Vec<Event>,
    decoded: usize,
}

impl Run {
    fn start(sandbox: &Sandbox, request: LaunchRequest) -> Self {
        let program = vec![claude().into()];
        let launch = Claude.launch(&LaunchRequest {
            program,
            worktree: sandbox.repo().to_owned(),
            session: SESSION.to_owned(),
            ..request
        });
        let (program, args) = launch.argv.split_first().unwrap();
        let mut command = sandbox.command(program);
        command.args(args).envs(launch.env);
        let mut run = Self {
            dialogue: Dialogue::start(command),
            decoder: Claude.decoder(&LaunchRequest::default()),
            events: Vec::new(),
            decoded: 0,
        };
        run.send(launch.input);
        run
    }

    fn send(&mut self, bytes: Option<Vec<u8>>) {
        self.dialogue.send(&serde_json::from_slice(&bytes.unwrap()).unwrap());
    }

    /// Waits for a line of this type and decodes up to it.
    fn until(&mut self, kind: &str) -> Value {
        let line = self.dialogue.expect(kind);
        for line in &self.dialogue.heard[self.decoded..] {
            self.decoder.line(line.to_string().as_bytes(), Timestamp(0), &mut self.events);
        }
        self.decoded = self.dialogue.heard.len();
        line
    }

    fn has(&self, wanted: impl Fn(&EventKind) -> bool) -> bool {
        self.events.iter().any(|event| wanted(&event.kind))
    }

    fn last_question(&self) -> (String, String) {
        let question = self.events.iter().rev().find_map(|event| match &event.kind {
            EventKind::PermissionAsked { request, input, .. } => Some((request.clone(), input.clone())),
            _ => None,
        });
        question.unwrap_or_else(|| panic!("nothing was asked: {:#?}", self.events))
    }

    /// The figures are the program's own: those of its last result cover the whole process.
    fn assert_counted(&self, result: &Value) {
        let usage = self.decoder.usage();
        let models = result["modelUsage"].as_object().unwrap().values();
        let sum = |name: &str| models.clone().map(|model| model[name].as_u64().unwrap()).sum::<u64>();
        assert_eq!(
            [usage.input, usage.output, usage.cache_read, usage.cache_write],
            ["inputTokens", "outputTokens", "cacheReadInputTokens", "cacheCreationInputTokens"].map(sum)
        );
        assert_eq!(usage.cost, Cost::reported(result["total_cost_usd"].as_f64().unwrap()));
        assert_eq!(usage.cost.unwrap().source, CostSource::Reported);
        assert!(!self.has(|kind| matches!(kind, EventKind::Unrecognised { .. })), "{:#?}", self.events);
    }
}

fn sandbox_for(endpoint: &Endpoint) -> Sandbox {
    let mut sandbox = Sandbox::new();
    for (key, value) in endpoint.env() {
        sandbox.set_env(key, value);
    }
    sandbox
}

#[test]
fn questions_are_answered_and_all_turns_of_a_process_are_counted() {
    let endpoint = Endpoint::start([
        (
            "ask",
            vec![
                Step::write("kept.txt", "kept\n").saying("Writing.").tokens(120, 31, 40, 5),
                Step::bash("curl --version >/dev/null; touch allowed").tokens(130, 32, 50, 6),
                Step::bash("curl --version >/dev/null; touch refused").tokens(140, 33, 60, 7),
                Step::say("As far as I could.").tokens(150, 34, 70, 8),
            ],
        ),
        ("more", vec![Step::say("Once more.").tokens(10, 3, 900, 0)]),
    ]);
    let sandbox = sandbox_for(&endpoint);
    let request = LaunchRequest {
        prompt: "[script:ask]".to_owned(),
        system_prompt: Some("RULE-OF-THE-HOUSE".to_owned()),
        budget: Budget { turns: Some(20), cost_micro_usd: Some(5_000_000), ..Budget::default() },
        ..LaunchRequest::default()
    };
    let mut run = Run::start(&sandbox, request);
    run.until("control_request");
    let (id, input) = run.last_question();
    run.send(Claude.permission_reply(&id, &PermissionReply::Allow { input }));
    run.until("control_request");
    let (id, _) = run.last_question();
    run.send(Claude.permission_reply(&id, &PermissionReply::Deny { message: "not here".to_owned() }));
    let first = run.until("result");
    assert!(run.decoder.is_idle());
    run.assert_counted(&first);
    assert!(sandbox.repo().join("allowed").exists() && !sandbox.repo().join("refused").exists());
    assert_eq!(sandbox.read("kept.txt"), "kept\n");
    assert!(run.has(|kind| matches!(kind, EventKind::ToolCall { tool, summary, .. } if tool == "Write" && summary == "kept.txt")));
    assert!(run.has(|kind| matches!(kind, EventKind::PermissionDenied { tool, .. } if tool == "Bash")));
    assert!(
        run.has(|kind| matches!(kind, EventKind::Ready { session: Some(session), .. } if session == SESSION))
    );
    assert!(endpoint.seen_by("ask")[0].body.to_string().contains("RULE-OF-THE-HOUSE"));

    run.send(Claude.message("[script:more]"));
    let second = run.until("result");
    run.assert_counted(&second);
    assert_eq!((run.decoder.usage().turns, run.decoder.usage().output), (5, 31 + 32 + 33 + 34 + 3));
    assert!(run.dialogue.end().success());

    // A further process goes on with the same conversation, and counts for itself.
    let request =
        LaunchRequest { prompt: "[script:more] again".to_owned(), resume: true, ..LaunchRequest::default() };
    let mut run = Run::start(&sandbox, request);
    let third = run.until("result");
    run.assert_counted(&third);
    assert_eq!(run.decoder.usage().turns, 1);
    assert!(run.dialogue.end().success());
}

#[test]
fn an_interrupt_ends_the_turn_and_not_the_program() {
    let endpoint = Endpoint::start([
        ("hang", vec![Step::hang()]),
        ("more", vec![Step::say("Still here.").tokens(10, 3, 0, 0)]),
    ]);
    let sandbox = sandbox_for(&endpoint);
    let request = LaunchRequest { prompt: "[script:hang]".to_owned(), ..LaunchRequest::default() };
    let mut run = Run::start(&sandbox, request);
    run.until("stream_event");
    run.send(Claude.interrupt());
    run.until("result");
    assert_eq!(run.decoder.reported_failure().as_deref(), Some("interrupted"));
    run.send(Claude.message("[script:more]"));
    run.until("result");
    assert_eq!(run.decoder.reported_failure(), None);
    assert!(
        run.has(|kind| matches!(kind, EventKind::Text { text, partial: false } if text == "Still here."))
    );
    assert!(run.dialogue.end().success());
}

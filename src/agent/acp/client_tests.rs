//! The client against agents of all manners, without a process.

use super::*;
use crate::agent::testing::{assert_lines, told};
use crate::model::Event;

const AT: Timestamp = Timestamp(1);

struct Stage {
    client: Client,
    out: Out,
}

impl Stage {
    fn new(begin: Begin) -> Self {
        let mut out = Out::default();
        Self { client: Client::new(begin, Path::new("/w"), &mut out), out }
    }

    /// The agent says this.
    fn says(&mut self, message: &Value) {
        self.client.heard(message.to_string().as_bytes(), AT, &mut self.out);
    }

    /// The agent answers the last question of ours.
    fn answers(&mut self, mut answer: Value) {
        answer["id"] = json!(self.client.asked);
        self.says(&answer);
    }

    fn updates(&mut self, update: &Value) {
        self.says(&json!({"method": "session/update", "params": {"sessionId": "s", "update": update}}));
    }

    /// What the agent was told since this was asked last: methods, or outcomes.
    fn told(&mut self) -> Vec<String> {
        let lines = std::mem::take(&mut self.out.lines);
        let word = |line: Value| match line["method"].as_str() {
            Some(method) => method.to_owned(),
            None if line["error"].is_object() => line["error"]["code"].to_string(),
            None => {
                let outcome = &line["result"]["outcome"];
                outcome["optionId"].as_str().or(outcome["outcome"].as_str()).unwrap_or("?").to_owned()
            }
        };
        lines.into_iter().map(word).collect()
    }

    fn events(&mut self) -> String {
        let events = std::mem::take(&mut self.out.events).into_iter();
        told(events.map(|kind| Event { at: AT, parent: None, kind }).collect())
    }

    /// Up to its first turn.
    fn prompting(begin: Begin) -> Self {
        let mut stage = Self::new(begin);
        stage.answers(json!({"result": {"protocolVersion": 1, "agentInfo": {"name": "fake", "version": "1"},
            "agentCapabilities": {"loadSession": true}, "authMethods": [{"name": "A key"}]}}));
        stage.answers(json!({"result": {"sessionId": "s"}}));
        assert_eq!(stage.client.phase, Phase::Prompting);
        stage.told();
        stage.events();
        stage
    }
}

fn begin() -> Begin {
    Begin { session: "ours".into(), prompt: "do it".into(), ..Begin::default() }
}

fn asks(id: &Value, kind: &str) -> Value {
    json!({"id": id, "method": "session/request_permission", "params": {"sessionId": "s",
        "options": [{"optionId": "yes", "kind": "allow_once"}, {"optionId": "no", "kind": "reject_once"}],
        "toolCall": {"toolCallId": "c", "kind": kind, "title": "make it so"}}})
}

#[test]
fn a_conversation_from_its_greeting_to_its_second_turn() {
    let mut stage =
        Stage::new(Begin { system_prompt: Some("Be kind.".into()), model: Some("m2".into()), ..begin() });
    assert_eq!(stage.out.lines[0]["params"]["clientCapabilities"]["terminal"], false);
    stage.answers(json!({"result": {"protocolVersion": 1, "agentInfo": {"name": "fake", "version": "1"},
        "agentCapabilities": {"loadSession": true}}}));
    assert_eq!(stage.out.lines[1]["params"]["cwd"], "/w");
    stage.answers(json!({"result": {"sessionId": "s", "models": {"currentModelId": "m1"}}}));
    stage.answers(json!({"result": {}}));
    assert_eq!(stage.out.lines[3]["params"]["prompt"][0]["text"], "Be kind.\n\ndo it");
    assert_eq!(stage.told(), ["initialize", "session/new", "session/set_model", "session/prompt"]);
    stage.updates(
        &json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "Done."}}),
    );
    stage.client.wish(Wish::Message { text: "more".into() }, &mut stage.out);
    assert_eq!(stage.told(), [""; 0], "it comes when the turn is over");
    let quota = json!({"quota": {"token_count": {"input_tokens": 7, "output_tokens": 2}}});
    stage.answers(json!({"result": {"stopReason": "end_turn", "_meta": quota}}));
    assert_eq!(stage.told(), ["session/prompt"]);
    stage.answers(json!({"result": {"stopReason": "max_tokens", "_meta": quota}}));
    assert_lines(
        &stage.events(),
        r#"ready Some("m2") Some("s")
           turn 1
           text "Done."
           end end_turn false "Done." 7+0+0->2 1
           turn 2
           end max_tokens true "its model's answer became too long" 14+0+0->4 2"#,
    );
    assert_eq!(stage.client.phase, Phase::Idle);
}

#[test]
fn a_conversation_is_continued_and_what_was_said_before_is_not_said_again() {
    let mut stage = Stage::new(Begin { resume: true, session: "s".into(), ..begin() });
    stage.answers(json!({"result": {"protocolVersion": 1, "agentCapabilities": {"loadSession": true}}}));
    let old = json!({"sessionUpdate": "agent_message_chunk", "content": {"type": "text", "text": "old"}});
    stage.updates(&old);
    stage.answers(json!({"result": {}}));
    stage.updates(&old);
    assert_eq!(
        (stage.client.phase, stage.told()),
        (Phase::Settling, vec!["initialize".into(), "session/load".into()])
    );
    stage.client.late(1, &mut stage.out);
    assert_eq!(stage.told(), ["session/prompt"]);
    stage.answers(json!({"result": {"stopReason": "end_turn"}}));
    stage.updates(&old);
    assert_lines(
        &stage.events(),
        r#"ready None Some("s")
           turn 1
           notice "it does not tell how many tokens it used"
           end end_turn false "" 0+0+0->0 1"#,
    );

    // In the minute in which it began Gemini CLI would begin it anew.
    let gemini = json!({"protocolVersion": 1, "agentInfo": {"name": "gemini-cli"}, "agentCapabilities": {"loadSession": true}});
    let mut stage = Stage::new(Begin { resume: true, begun_by: Some(Timestamp(59_999)), ..begin() });
    stage.answers(json!({"result": gemini}));
    assert_eq!((stage.client.phase, stage.told().len()), (Phase::Waiting, 1));
    assert_eq!(stage.client.hold.as_millis(), 60_099, "to the next minute");
    stage.client.late(1, &mut stage.out);
    assert_eq!((stage.told(), stage.client.phase), (vec!["session/load".to_owned()], Phase::Opening));
    let mut stage = Stage::new(Begin { resume: true, begun_by: Some(Timestamp(59_999)), ..begin() });
    let line = json!({"id": 1, "result": gemini}).to_string();
    stage.client.heard(line.as_bytes(), Timestamp(60_000), &mut stage.out);
    assert_eq!(stage.client.phase, Phase::Opening);

    let mut stage = Stage::new(Begin { resume: true, ..begin() });
    stage.answers(json!({"result": {"protocolVersion": 1, "agentCapabilities": {}}}));
    assert!(stage.events().contains("it cannot go on with a conversation"));
    assert_eq!(stage.client.phase, Phase::Over);
    let mut stage = Stage::new(begin());
    stage.answers(json!({"result": {"protocolVersion": 1}}));
    stage.answers(json!({"result": {"sessionId": "s"}}));
    assert!(stage.events().starts_with("ready None None"), "nobody takes it for one that can be continued");
}

#[test]
fn questions_are_answered_by_the_profile_or_a_person_and_end_with_the_turn() {
    let mut stage = Stage::prompting(begin());
    stage.says(&asks(&json!(0), "execute"));
    stage.says(&asks(&json!("x"), "execute"));
    assert_eq!(stage.told(), [""; 0]);
    let kinds: Vec<_> = stage.out.events.iter().collect();
    let [
        EventKind::PermissionAsked { request, input, tool, .. },
        EventKind::PermissionAsked { input: again, .. },
    ] = kinds[..]
    else {
        panic!("{kinds:?}")
    };
    assert_eq!((request.as_str(), tool.as_str()), ("0", "execute"));
    assert!(input == again && !input.contains("toolCallId"), "{input}");
    stage.events();
    let allow = PermissionReply::Allow { input: String::new() };
    for (request, reply) in
        [("0", allow.clone()), ("0", allow), ("\"x\"", PermissionReply::Deny { message: "no".into() })]
    {
        stage.client.wish(Wish::Reply { request: request.into(), reply }, &mut stage.out);
    }
    assert_eq!(stage.told(), ["yes", "no"]);
    assert_lines(
        &stage.events(),
        r#"call c execute "make it so" Some(Runs("make it so"))
           denied execute "make it so""#,
    );
    stage.says(&asks(&json!(2), "execute"));
    stage.client.wish(Wish::Interrupt, &mut stage.out);
    assert_eq!(stage.told(), ["cancelled", "session/cancel"]);
    stage.events();
    stage.answers(json!({"result": {"stopReason": "cancelled"}}));
    assert!(stage.events().contains("end cancelled true \"interrupted\""));
    stage.says(&asks(&json!(3), "execute"));
    assert_eq!((stage.told(), stage.events()), (vec!["cancelled".to_owned()], String::new()));

    for (permissions, answer) in [(Permissions::Bypass, "yes"), (Permissions::Plan, "no")] {
        let mut stage = Stage::prompting(Begin { permissions, ..begin() });
        stage.says(&asks(&json!(0), "execute"));
        assert_eq!(stage.told(), [answer]);
    }
}

#[test]
fn errors_are_told_in_words_that_help() {
    let mut stage = Stage::prompting(begin());
    let inner = r#"{"error":{"code":401,"message":"API key not valid"}}"#;
    stage.answers(json!({"error": {"code": 401, "message": inner}}));
    assert_lines(&stage.events(), r#"end error true "401: API key not valid" 0+0+0->0 1"#);
    for (turn, limit) in (2..).zip([429, 503, 529]) {
        stage.client.wish(Wish::Message { text: "again".into() }, &mut stage.out);
        stage.answers(json!({"error": {"code": limit, "message": "quota"}}));
        assert_lines(
            &stage.events(),
            &format!(
                "turn {turn}
                 retry 0/0 in 0 Some({limit}) quota
                 end error true \"{limit}: quota\" 0+0+0->0 {turn}"
            ),
        );
    }
    let mut stage = Stage::new(begin());
    stage.answers(json!({"result": {"protocolVersion": 1, "authMethods": [{"name": "A key"}]}}));
    stage.answers(json!({"error": {"code": -32000, "message": "Authentication required"}}));
    let said = stage.events();
    assert!(
        said.contains("it wants you to sign in (Authentication required)") && said.contains("A key"),
        "{said}"
    );
    let mut stage = Stage::new(begin());
    stage.answers(json!({"result": {"protocolVersion": 2}}));
    assert!(stage.events().contains("it speaks version 2"));
    for (phase, words) in
        [(Phase::Greeting, "initialize"), (Phase::Opening, "opens no"), (Phase::Cancelling, "break")]
    {
        let mut stage = Stage::new(begin());
        stage.client.phase = phase;
        stage.client.late(9, &mut stage.out);
        let said = stage.events();
        assert!(said.contains(words) && said.contains("(9 s)"), "{said}");
    }
}

#[test]
fn rubbish_and_floods_are_bounded() {
    let mut stage = Stage::prompting(begin());
    for line in [
        &b"npm WARN"[..],
        b"[1,2]",
        b"{}",
        b"7",
        b"\xff{",
        b"{\"id\":99,\"result\":{}}",
        b"{\"id\":null}",
        b"",
    ] {
        stage.client.heard(line, AT, &mut stage.out);
    }
    assert_eq!(stage.events().lines().count(), 7);
    stage.says(&json!({"id": 5, "method": "fs/read_text_file", "params": {"path": "/etc/passwd"}}));
    stage.says(&json!({"id": 6, "method": "terminal/create"}));
    stage.says(&json!({"method": "$/whatever"}));
    stage.says(&json!({"method": "session/update", "params": {"sessionId": "other", "update": {}}}));
    assert_eq!((stage.told(), stage.events()), (vec!["-32601".to_owned(); 2], String::new()));
    for number in 0..1000 {
        stage.updates(&json!({"sessionUpdate": format!("new-{number}")}));
        stage.says(&asks(&json!(number), "execute"));
    }
    assert_eq!(stage.told().len(), 1000 - MAX_QUESTIONS, "too many at once are turned down");
    assert_eq!(stage.events().lines().count(), MAX_QUESTIONS + 20 - 7);
    stage.answers(json!({"result": {"stopReason": "end_turn"}}));
    assert!(stage.events().contains("987 more lines that nobody knows"));

    let mut stage = Stage::new(begin());
    for _ in 0..=MAX_STRANGE {
        stage.client.heard(b"hello", AT, &mut stage.out);
    }
    assert!(stage.events().contains("it does not speak the Agent Client Protocol"));
    stage.client.gone("exit 1", &mut stage.out);
    assert_eq!(stage.events(), "", "said once");
}

#[test]
fn one_that_goes_is_told_with_what_it_was_doing() {
    let mut stage = Stage::prompting(begin());
    stage.client.gone("exit 3", &mut stage.out);
    assert!(stage.events().contains("it ended in the middle of its work (exit 3)"));
    let mut stage = Stage::prompting(begin());
    stage.answers(json!({"result": {"stopReason": "end_turn"}}));
    stage.events();
    stage.client.gone("exit 0", &mut stage.out);
    assert_eq!(stage.events(), "notice \"it ended by itself (exit 0)\"\n");
    let mut stage = Stage::new(begin());
    stage.client.wish(Wish::Interrupt, &mut stage.out);
    stage.answers(json!({"result": {"protocolVersion": 1}}));
    stage.answers(json!({"result": {"sessionId": "s"}}));
    assert!(!stage.told().contains(&"session/prompt".to_owned()), "it is not told what was taken back");
}

//! The real Claude Code with its experimental teams: what the profile changes, whose words are whose, and when it is over.

use git_orchestra::model::Outcome;
use serde_json::{Value, json};

use crate::acceptance_codex::{configure, outcome, processes_with, wait_for_file};
use crate::harness::programs::use_claude;
use crate::harness::{Endpoint, Sandbox, Step};

fn with_teams<const N: usize>(scripts: [(&str, Vec<Step>); N]) -> (Sandbox, Endpoint) {
    let mut sandbox = Sandbox::new();
    let endpoint = Endpoint::start(scripts);
    use_claude(&mut sandbox, &endpoint);
    sandbox.set_env("IS_SANDBOX", "1");
    configure(&sandbox, "[profile.agent-teams]\npermissions = 'bypass'\n");
    (sandbox, endpoint)
}

/// The call that starts a teammate which says what the script `mate` says.
fn starts_a_mate() -> Step {
    let call = json!({"description": "Write it", "prompt": "Please [script:mate]", "name": "mate",
        "subagent_type": "general-purpose", "run_in_background": true});
    Step::call("Agent", call)
}

/// What the model was told of a tool.
fn tool(endpoint: &Endpoint, script: &str, name: &str) -> Value {
    let tools = endpoint.seen_by(script)[0].body["tools"].clone();
    tools.as_array().unwrap().iter().find(|tool| tool["name"] == name).unwrap().clone()
}

#[test]
fn a_teammate_works_on_after_the_lead_spoke_and_its_words_are_its_own() {
    let lead = vec![
        starts_a_mate(),
        Step::say("I started a teammate."),
        Step::say("It wrote."),
        Step::say("That is all."),
    ];
    // Longer than one that said that it was done may take to go.
    let mate = vec![
        Step::bash("n=0; while [ $n -lt 13 ]; do sleep 1; n=$((n+1)); done; echo hi > mate.txt"),
        Step::call("SendMessage", json!({"to": "main", "summary": "done", "message": "I wrote mate.txt"})),
        Step::say("Mate is done."),
    ];
    let (sandbox, endpoint) =
        with_teams([("lead", lead), ("mate", mate), ("plain", vec![Step::say("Nothing of teams here.")])]);
    let spawned = sandbox.orchestra(&[
        "spawn",
        "--profile",
        "agent-teams",
        "-m",
        "Go [script:lead]",
        "--name",
        "heron",
    ]);
    let log = sandbox.ok(&["log", "heron"]);
    assert_eq!(spawned.code, 0, "{spawned}\n{log}");
    assert_eq!(outcome(&sandbox, "heron"), Outcome::Succeeded);
    assert_eq!(sandbox.git(&["show", "orchestra/heron:mate.txt"]), "hi", "{log}");
    let line = |words: &str| {
        log.lines().find(|line| line.contains(words)).unwrap_or_else(|| panic!("{words}: {log}"))
    };
    for (words, of_the_mate) in
        [("I started a teammate.", false), ("Bash n=0", true), ("Mate is done.", true), ("It wrote.", false)]
    {
        assert_eq!(line(words).contains('│'), of_the_mate, "{words}: {log}");
    }
    assert!(format!("{:?}", endpoint.seen_by("lead").last().unwrap().body).contains("I wrote mate.txt"));

    // What the profile changes of what the model is told.
    sandbox.ok(&["spawn", "--profile", "claude", "-m", "Go [script:plain]", "--name", "fox"]);
    let can_be_named =
        |script| tool(&endpoint, script, "Agent")["input_schema"]["properties"]["name"].is_object();
    let shuts_down = |script| tool(&endpoint, script, "SendMessage").to_string().contains("shutdown_request");
    assert_eq!([can_be_named("lead"), can_be_named("plain")], [true, false]);
    assert_eq!([shuts_down("lead"), shuts_down("plain")], [true, false]);
}

#[test]
fn teammates_end_with_their_lead() {
    let lead = vec![starts_a_mate(), Step::say("I started a teammate.")];
    let mate = vec![Step::bash("touch begun mate-lives.txt; tail -f mate-lives.txt")];
    let (sandbox, _endpoint) = with_teams([("lead", lead), ("mate", mate)]);
    sandbox.ok(&[
        "spawn",
        "--detach",
        "--profile",
        "agent-teams",
        "-m",
        "Go [script:lead]",
        "--name",
        "heron",
    ]);
    wait_for_file(&sandbox, "begun");
    sandbox.ok(&["stop", "heron", "--wait"]);
    assert!(matches!(outcome(&sandbox, "heron"), Outcome::Stopped { .. }));
    assert_eq!(processes_with("tail -f mate-lives.txt"), Vec::<String>::new());
}

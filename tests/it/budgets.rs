//! Budgets, with the real programs: what is over its budget ends, is told with its figures, and goes on with more.

use git_orchestra::model::{Measure, Outcome, Scope, Standing};

use crate::acceptance_codex::{configure, outcome, the_agent};
use crate::harness::programs::{codex, use_claude};
use crate::harness::{Answer, Endpoint, Sandbox, Step, openai};

fn with_claude<const N: usize>(scripts: [(&str, Vec<Step>); N]) -> (Sandbox, Endpoint) {
    let mut sandbox = Sandbox::new();
    let endpoint = Endpoint::start(scripts);
    use_claude(&mut sandbox, &endpoint);
    (sandbox, endpoint)
}

/// Writes so many files, an answer each, at 1,000 tokens and 0.0055 dollars an answer.
fn many(count: usize) -> Vec<Step> {
    let write = |number| Step::write(&format!("{number}.txt"), "x\n").tokens(900, 100, 0, 0);
    let mut steps: Vec<Step> = (1..=count).map(write).collect();
    steps.push(Step::say("Written.").tokens(900, 100, 0, 0));
    steps
}

/// What was used up in its last run.
fn over(sandbox: &Sandbox, name: &str) -> Standing {
    match outcome(sandbox, name) {
        Outcome::Stopped { over: Some(over), by } => {
            assert_eq!(by, over.key());
            over
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn claude_ends_itself_at_its_turns_and_goes_on_with_more() {
    let (sandbox, endpoint) = with_claude([("many", many(4)), ("more", many(1))]);
    let spawned =
        sandbox.orchestra(&["spawn", "-m", "Write [script:many]", "--name", "heron", "--max-turns", "2"]);
    assert_eq!(spawned.code, 9, "{spawned}");
    let all = spawned.stdout.clone() + &spawned.stderr;
    assert!(all.contains("resume heron --max-turns"), "the way out: {spawned}");
    let over = over(&sandbox, "heron");
    assert_eq!((over.scope, over.measure, over.limit), (Scope::Agent, Measure::Turns, 2));
    assert_eq!(endpoint.seen_by("many").len(), 2, "the program kept the limit itself");
    let raw = sandbox.ok(&["log", "heron", "--raw"]);
    assert!(raw.contains("error_max_turns"), "{raw}");
    assert_eq!(sandbox.git(&["show", "orchestra/heron:2.txt"]), "x", "its work is kept");
    let status = sandbox.ok(&["status"]);
    assert!(status.contains("by max-turns: 2 of 2"), "{status}");
    assert_eq!(sandbox.orchestra(&["wait", "heron"]).code, 9);

    let refused = sandbox.orchestra(&["resume", "heron"]);
    assert_eq!(refused.code, 9, "{refused}");
    assert!(refused.stderr.contains("max-turns is used up (2 of 2 turns)"), "{refused}");
    let resumed = sandbox.orchestra(&["resume", "heron", "-m", "Go on [script:more]", "--max-turns", "9"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    assert_eq!(the_agent(&sandbox, "heron").budget.turns, Some(9), "it holds from then on");
}

#[test]
fn claude_is_ended_when_its_tokens_are_used_up() {
    let (sandbox, endpoint) = with_claude([("many", many(8)), ("more", vec![Step::say("On.")])]);
    let args = ["spawn", "-m", "Write [script:many]", "--name", "heron", "--max-tokens", "3k"];
    let spawned = sandbox.orchestra(&args);
    assert_eq!(spawned.code, 9, "{spawned}");
    let over = over(&sandbox, "heron");
    assert_eq!((over.measure, over.limit), (Measure::Tokens, 3_000));
    assert!((3_000..=5_000).contains(&over.used), "{over}");
    assert!(endpoint.seen_by("many").len() <= 5, "it was ended, not run to its end");
    assert_eq!(sandbox.git(&["show", "orchestra/heron:1.txt"]), "x");
    let log = sandbox.ok(&["log", "heron"]);
    assert!(log.contains("its budget is used up (max-tokens: "), "{log}");
    let refused = sandbox.orchestra(&["resume", "heron", "--max-tokens", "2k"]);
    assert_eq!(refused.code, 9, "{refused}");
    let resumed = sandbox.orchestra(&["resume", "heron", "-m", "[script:more]", "--max-tokens", "1M"]);
    assert_eq!(resumed.code, 0, "{resumed}");
}

#[test]
fn a_budget_is_warned_of_before_it_is_used_up() {
    let (sandbox, _endpoint) = with_claude([("many", many(3))]);
    // Four answers of 1,000 tokens.
    let args = ["spawn", "-m", "Write [script:many]", "--name", "heron", "--max-tokens", "4900"];
    let spawned = sandbox.orchestra(&args);
    assert_eq!(spawned.code, 0, "{spawned}");
    let log = sandbox.ok(&["log", "heron"]);
    assert!(log.contains("81 % of its budget is used (max-tokens: 4000 of 4900 tokens)"), "{log}");
}

#[test]
fn claude_keeps_to_its_money_over_all_its_runs() {
    let (sandbox, endpoint) = with_claude([("many", many(9)), ("more", vec![Step::say("On.")])]);
    let args = ["spawn", "-m", "Write [script:many]", "--name", "heron", "--max-cost", "0.02"];
    let spawned = sandbox.orchestra(&args);
    assert_eq!(spawned.code, 9, "{spawned}");
    let over = over(&sandbox, "heron");
    assert_eq!((over.measure, over.limit), (Measure::Cost, 20_000));
    assert!(over.used >= 20_000 && endpoint.seen_by("many").len() <= 6, "{over}");
    assert_eq!(sandbox.orchestra(&["resume", "heron", "--max-cost", "0.01"]).code, 9);
    let resumed = sandbox.orchestra(&["resume", "heron", "-m", "[script:more]", "--max-cost", "1"]);
    assert_eq!(resumed.code, 0, "{resumed}");
}

#[test]
fn claude_keeps_to_its_money_with_a_model_that_nobody_knows() {
    let (sandbox, endpoint) = with_claude([("many", many(9))]);
    configure(&sandbox, "profile.claude.model = 'mystery-model-9'\n");
    let args = ["spawn", "-m", "Write [script:many]", "--name", "heron", "--max-cost", "0.02"];
    let spawned = sandbox.orchestra(&args);
    assert_eq!(spawned.code, 9, "{spawned}\n{}", sandbox.ok(&["log", "heron"]));
    let over = over(&sandbox, "heron");
    assert!(over.used >= 20_000 && endpoint.seen_by("many").len() <= 6, "{over}");
}

#[test]
fn an_agent_that_hangs_is_ended_when_its_time_is_used_up() {
    let (sandbox, _endpoint) = with_claude([("hang", vec![Step::write("a.txt", "a\n"), Step::hang()])]);
    let args = ["spawn", "-m", "Work [script:hang]", "--name", "heron", "--max-time", "8s"];
    let spawned = sandbox.orchestra(&args);
    assert_eq!(spawned.code, 9, "{spawned}");
    assert_eq!(over(&sandbox, "heron").key(), "max-time");
}

#[test]
fn codex_tells_late_and_its_budget_counts_between_runs() {
    let mut sandbox = Sandbox::new();
    let model = openai::start([("count", vec![Answer::say("One.").tokens([1_000, 0, 50, 0])])]);
    openai::use_model(&mut sandbox, &model);
    configure(
        &sandbox,
        &format!("default-profile = 'codex'\n[profile.codex]\ncommand = ['{}']\n", codex().display()),
    );
    let args =
        ["spawn", "-m", "Count [script:count]", "--name", "heron", "--max-tokens", "500", "--max-cost", "1"];
    let spawned = sandbox.orchestra(&args);
    assert_eq!(spawned.code, 0, "what it did is done: {spawned}");
    let log = sandbox.ok(&["log", "heron"]);
    assert!(log.contains("`max-tokens` counts between runs"), "{log}");
    assert!(log.contains("`max-cost` is not in force"), "{log}");
    let refused = sandbox.orchestra(&["resume", "heron"]);
    assert_eq!(refused.code, 9, "{refused}");
    assert!(refused.stderr.contains("max-tokens is used up (1050 of 500 tokens)"), "{refused}");
}

#[test]
fn gemini_is_ended_when_its_turns_are_used_up() {
    let writes = (1..9).map(|number| Answer::write(&format!("{number}.txt"), "x\n"));
    let (sandbox, model) = crate::acceptance_gemini::with_scripts("bypass", [("many", writes.collect())]);
    let args = ["spawn", "-m", "Write [script:many]", "--name", "heron", "--max-turns", "2"];
    let spawned = sandbox.orchestra(&args);
    assert_eq!(spawned.code, 9, "{spawned}");
    assert_eq!(over(&sandbox, "heron").to_string(), "max-turns: 3 of 2 turns");
    assert!(model.asked_by("many").len() < 8, "it was ended");
    assert_eq!(sandbox.git(&["show", "orchestra/heron:1.txt"]), "x");
}

/// A sandbox whose agents are played: 1,000 tokens and one cent each.
fn played() -> Sandbox {
    playing(
        r#"{"type":"turn","number":1}
{"type":"usage","input":900,"output":100,"cost_usd":0.01}
{"type":"result","content":"Done."}
"#,
    )
}

/// A sandbox whose agents play this.
fn playing(lines: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let script = sandbox.root().join("script.jsonl");
    std::fs::write(&script, lines).unwrap();
    let profile = "default-profile = 'replay'\nprofile.replay.args";
    configure(&sandbox, &format!("{profile} = ['{}']\n", script.display()));
    sandbox
}

#[test]
fn one_that_is_done_says_what_its_last_answer_used_up() {
    let sandbox = playing(
        r#"{"type":"ready","model":"claude-opus-4-8"}
{"type":"turn","number":1}
{"type":"usage","input":900,"output":100,"cost_usd":2.2}
{"type":"tool_call","tool":"bash","args":{"command":"until grep -qs '88 %' \"$(git rev-parse --git-common-dir)\"/orchestra/journal/*/001.jsonl; do sleep 0.05; done"}}
{"type":"turn","number":2}
{"type":"usage","input":900,"output":100,"cache_read":169000,"cost_usd":1.0}
{"type":"result","content":"Done."}
"#,
    );
    let spawned = sandbox.orchestra(&["spawn", "-m", "One", "--name", "heron", "--max-cost", "2.50"]);
    assert_eq!(spawned.code, 0, "what is done stays done: {spawned}");
    let log = sandbox.ok(&["log", "heron"]);
    assert!(log.contains("88 % of its budget is used (max-cost: $2.20 of $2.50)"), "{log}");
    let over =
        "its budget is used up (max-cost: $3.20 of $2.50); `git orchestra resume heron --max-cost …` goes on";
    assert_eq!(log.matches(over).count(), 1, "{log}");
    // What its messages took says how full the window of its model is.
    assert!(log.contains("its context window is 85 % full (170000 of 200000 tokens)"), "{log}");
    let status = sandbox.ok(&["status"]);
    assert!(status.contains("CTX") && status.contains("85%"), "{status}");
}

#[test]
fn the_fleets_budget_refuses_new_starts() {
    let sandbox = played();
    sandbox.git(&["config", "--global", "orchestra.fleet.max-tokens", "2k"]);
    sandbox.ok(&["spawn", "-m", "One"]);
    let second = sandbox.orchestra(&["spawn", "-m", "Two"]);
    assert_eq!(second.code, 0, "{second}");
    let log = sandbox.ok(&["log", "two"]);
    assert!(log.contains("100 % of its budget is used (fleet.max-tokens: 2000 of 2000 tokens)"), "{log}");
    let task = sandbox.ok(&["task", "add", "Three"]);
    for refused in [
        sandbox.orchestra(&["spawn", &task]),
        sandbox.orchestra(&["resume", "one"]),
        sandbox.orchestra(&["worker", "--until-empty"]),
    ] {
        assert_eq!(refused.code, 9, "{refused}");
        assert!(refused.stderr.contains("fleet.max-tokens is used up (2000 of 2000 tokens)"), "{refused}");
        assert!(refused.stderr.contains("git config orchestra.fleet.max-tokens"), "{refused}");
    }
    let shown = sandbox.ok(&["task", "show", &task]);
    assert!(shown.contains("ready"), "it was not claimed: {shown}");
    sandbox.git(&["config", "--global", "orchestra.fleet.max-tokens", "10k"]);
    sandbox.ok(&["worker", "--until-empty"]);
}

#[test]
fn those_that_wait_for_their_turn_do_not_start_on_an_empty_budget() {
    let sandbox = played();
    sandbox.git(&["config", "--global", "orchestra.fleet.max-cost", "0.02"]);
    let tasks: Vec<String> =
        ["One", "Two", "Three", "Four"].map(|title| sandbox.ok(&["task", "add", title])).into();
    let tasks: Vec<&str> = tasks.iter().map(String::as_str).collect();
    let spawned = sandbox.orchestra(&[&["spawn", "--jobs", "1"], &tasks[..]].concat());
    assert_eq!(spawned.code, 9, "{spawned}");
    let ended = ["one", "two", "three", "four"].map(|name| outcome(&sandbox, name));
    // Whose worktree is ready first begins first.
    let well = ended.iter().filter(|ended| **ended == Outcome::Succeeded).count();
    let over =
        ended.iter().filter(|ended| ended.over().is_some_and(|over| over.scope == Scope::Fleet)).count();
    assert_eq!((well, over), (2, 2), "{ended:?}");
    assert!(spawned.stdout.contains("it was not started"), "{spawned}");
}

#[test]
fn the_runs_for_one_task_share_its_budget() {
    let sandbox = played();
    sandbox.git(&["config", "--global", "orchestra.task.max-turns", "1"]);
    let task = sandbox.ok(&["task", "add", "One"]);
    sandbox.ok(&["spawn", &task]);
    let again = sandbox.orchestra(&["spawn", "--force", &task]);
    assert_eq!(again.code, 9, "{again}");
    assert!(again.stderr.contains("task.max-turns is used up (1 of 1 turn)"), "{again}");
    sandbox.ok(&["spawn", "-m", "Another"]);
}

//! What tasks will probably change, and whether that came true.

use crate::harness::Sandbox;
use crate::merge::add_agents;
use serde_json::Value;

/// A repository whose parser and its tests were always changed together.
fn project() -> Sandbox {
    let sandbox = Sandbox::new();
    for number in 0..3 {
        sandbox.write("src/parse.rs", &format!("parse {number}\n"));
        sandbox.write("tests/parse.rs", &format!("test {number}\n"));
        sandbox.write(&format!("docs/{number}.md"), "words\n");
        sandbox.commit("change the parser");
    }
    sandbox
}

#[test]
fn tasks_that_will_probably_meet_are_told_and_wait_for_each_other() {
    let sandbox = project();
    let parser = sandbox.ok(&["task", "add", "Parse dates", "--touches", "src/parse.rs", "--priority", "3"]);
    let tests =
        sandbox.ok(&["task", "add", "Test the parser", "-m", "See tests/parse.rs.", "--priority", "2"]);
    let docs = sandbox.ok(&["task", "add", "Explain", "--touches", "docs", "--priority", "1"]);
    let unknown = sandbox.ok(&["task", "add", "Do better"]);
    let user = sandbox.fingerprint();
    let shown = sandbox.orchestra(&["plan"]);
    assert_eq!(sandbox.fingerprint(), user);
    let table = shown
        .stdout
        .replace(&parser[..4], "PPPP")
        .replace(&tests[..4], "TTTT")
        .replace(&docs[..4], "DDDD")
        .replace(&unknown[..4], "UUUU");
    insta::assert_snapshot!(table, @r"
    WAVE  ID    TASK             WILL PROBABLY CHANGE
       1  PPPP  Parse dates      src/parse.rs, tests/parse.rs
       1  DDDD  Explain          docs/0.md, docs/1.md, docs/2.md
       1  UUUU  Do better        ?
       2  TTTT  Test the parser  src/parse.rs, tests/parse.rs

    PPPP and TTTT will probably meet (96 %): src/parse.rs, tests/parse.rs
    ");
    assert!(shown.stderr.contains("nothing is known of one task"), "{shown}");

    let plan = sandbox.json(&["plan", &tests, &docs]);
    let waves: Vec<&Value> =
        plan["data"]["tasks"].as_array().unwrap().iter().map(|task| &task["wave"]).collect();
    assert_eq!(waves, [1, 1]);
    assert_eq!(plan["data"]["clashes"], serde_json::json!([]));
    let bad = sandbox.orchestra(&["plan", "nothing"]);
    assert!(bad.code == 1 && bad.stderr.contains("nothing"), "{bad}");
}

#[test]
fn what_was_expected_is_held_against_what_happened() {
    let sandbox = project();
    let none = sandbox.orchestra(&["plan", "--score"]);
    assert!(none.code == 0 && none.stderr.contains("no two agents"), "{none}");
    // Their tasks are called after them and touch nothing: what happened was not expected.
    add_agents(
        &sandbox,
        &[
            ("blue-heron", &[("src/parse.rs", "blue\n")]),
            ("grey-fox", &[("src/parse.rs", "grey\n")]),
            ("red-owl", &[("docs/0.md", "red\n")]),
        ],
    );
    let score = &sandbox.json(&["plan", "--score"])["data"]["score"];
    let figures = |score: &Value| {
        ["pairs", "expected", "met", "came_true", "conflicts"].map(|key| score[key].as_u64().unwrap())
    };
    assert_eq!(figures(score), [3, 0, 0, 0, 1]);
    let tasks = sandbox.json(&["task", "list", "--all"]);
    for (task, touches) in
        tasks["data"].as_array().unwrap().iter().zip(["src/parse.rs", "src/*", "src/parse.rs"])
    {
        sandbox.ok(&["task", "edit", task["id"].as_str().unwrap(), "--touches", touches]);
    }
    let score = &sandbox.json(&["plan", "--score"])["data"]["score"];
    assert_eq!(figures(score), [3, 3, 1, 1, 1]);
    let words = sandbox.ok(&["plan", "--score"]);
    assert_eq!(
        words,
        "of 3 pairs of agents, 3 were expected to meet\n  1 of them changed a file together\n  1 of them conflict, of 1 that do"
    );
}

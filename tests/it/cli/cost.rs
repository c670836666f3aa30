//! `cost`: what agents consumed. Recorded streams of the real programs are the agents.

use super::Stage;
use crate::harness::Sandbox;
use insta::assert_snapshot;

#[test]
fn what_agents_consumed_is_summed_by_what_is_asked_for() {
    let mut sandbox = Sandbox::new();
    sandbox.set_env("COLUMNS", "80");
    let streams = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/agents");
    let profile = |name: &str, file: &str| {
        format!("[profile.{name}]\nprogram = 'replay'\nargs = ['{streams}/{file}']\n")
    };
    let profiles = [profile("builder", "claude/text.jsonl"), profile("reviewer", "codex/text.jsonl")];
    let file = sandbox.home().join(".config/git-orchestra/config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, profiles.concat()).unwrap();
    let stage = Stage { sandbox, ids: Vec::new() };

    assert_snapshot!(stage.run(&["cost"]), @r#"
    $ git orchestra cost
    --- stderr
    no agent has run yet; `git orchestra spawn` starts one for each ready task
    --- exit 0
    "#);
    for (name, profile) in [("blue", "builder"), ("green", "builder"), ("red", "reviewer")] {
        let out = stage.sandbox.orchestra(&["spawn", "-m", "Work", "--name", name, "--profile", profile]);
        assert_eq!(out.code, 0, "{out}");
    }
    assert_snapshot!(stage.run(&["cost"]), @r#"
    $ git orchestra cost
    AGENT  RUNS  TURNS  INPUT  CACHED  OUTPUT    COST
    blue      1      1    100     320       7  <$0.01
    green     1      1    100     320       7  <$0.01
    red       1      1     70      30      20
    total     3      3    270     670      34  <$0.01
    --- stderr
    hint: of 1 run nobody knows the price: its cost is missing in the sum
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["cost", "--by", "role"]), @r#"
    $ git orchestra cost --by role
    ROLE      RUNS  TURNS  INPUT  CACHED  OUTPUT    COST
    builder      2      2    200     640      14  <$0.01
    reviewer     1      1     70      30      20
    total        3      3    270     670      34  <$0.01
    --- stderr
    hint: of 1 run nobody knows the price: its cost is missing in the sum
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["cost", "--by", "model", "blue", "red"]), @r#"
    $ git orchestra cost --by model blue red
    MODEL                RUNS  TURNS  INPUT  CACHED  OUTPUT    COST
    claude-opus-4-8[1m]     1      1    100     320       7  <$0.01
    (none)                  1      1     70      30      20
    total                   2      2    170     350      27  <$0.01
    --- stderr
    hint: of 1 run nobody knows the price: its cost is missing in the sum
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["cost", "--by", "task", "--porcelain"]), @r#"
    $ git orchestra cost --by task --porcelain
    -	3	1	3	270	630	40	34	1900	reported	-
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["cost", "nobody"]), @r#"
    $ git orchestra cost nobody
    --- stderr
    error: failed to find agent `nobody`
    hint: `git orchestra status --all` lists the agents
    --- exit 1
    "#);
    let days = stage.sandbox.json(&["cost", "--by", "day"]);
    let whole = stage.sandbox.json(&["cost", "--by", "program", "--since", "1h"]);
    assert_eq!(days["data"]["total"], whole["data"]["total"]);
    assert_eq!(whole["data"]["groups"][0]["key"], "replay");

    // What was removed was paid for as well.
    stage.sandbox.ok(&["remove", "blue"]);
    assert_eq!(stage.sandbox.json(&["cost"])["data"]["total"], whole["data"]["total"]);
}

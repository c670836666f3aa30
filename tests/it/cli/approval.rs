//! Settings, and what a repository wants to run.

use insta::assert_snapshot;

use super::Stage;
use crate::harness::Terminal;

const WANTS: &str =
    "jobs = 2\njob = 3\n\n[profile.local]\nprogram = 'command'\ncommand = ['sh', '-c', 'true']\n";

#[test]
fn settings_say_where_they_come_from() {
    let mut stage = Stage::new();
    stage.sandbox.write("orchestra.toml", WANTS);
    stage.sandbox.git(&["config", "--global", "--remove-section", "orchestra.radar"]);
    stage.sandbox.git(&["config", "--global", "orchestra.profile.claude.maxTurns", "30"]);
    stage.sandbox.set_env("ORCHESTRA_GRACE", "10s");
    assert_snapshot!(stage.run(&["config", "list", "--show-origin"]), @r#"
    $ git orchestra config list --show-origin
    SETTING                                                                              ORIGIN
    default-profile = claude                                                             built in
    grace = 10s                                                                          ORCHESTRA_GRACE
    jobs = 2                                                                             <root>/repo/orchestra.toml
    profile.acp.program = acp                                                            built in
    profile.agent-teams.description = Claude Code with its experimental teams of agents  built in
    profile.agent-teams.env.CLAUDE_CODE_EXPERIMENTAL_AGENT_TEAMS = 1                     built in
    profile.agent-teams.permissions = accept-edits                                       built in
    profile.agent-teams.program = claude                                                 built in
    profile.api.permissions = accept-edits                                               built in
    profile.api.program = api                                                            built in
    profile.claude.max-turns = 30                                                        git config (<root>/home/.gitconfig)
    profile.claude.permissions = accept-edits                                            built in
    profile.claude.program = claude                                                      built in
    profile.codex.permissions = accept-edits                                             built in
    profile.codex.program = codex                                                        built in
    profile.command.program = command                                                    built in
    profile.gemini.permissions = accept-edits                                            built in
    profile.gemini.program = gemini                                                      built in
    profile.hybrid.permissions = accept-edits                                            built in
    profile.hybrid.program = hybrid                                                      built in
    profile.local.command = ["sh", "-c", "true"]  (waits for approval)                   <root>/repo/orchestra.toml
    profile.local.program = command  (waits for approval)                                <root>/repo/orchestra.toml
    profile.replay.program = replay                                                      built in
    --- stderr
    warning: unknown setting `job` in <root>/repo/orchestra.toml; did you mean `jobs`?
    hint: `git orchestra config approve` shows what the repository wants to run, and asks
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["config", "get", "jobs"]), @r#"
    $ git orchestra config get jobs
    2
    --- stderr
    warning: unknown setting `job` in <root>/repo/orchestra.toml; did you mean `jobs`?
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["config", "get", "nonsense"]), @r#"
    $ git orchestra config get nonsense
    --- stderr
    warning: unknown setting `job` in <root>/repo/orchestra.toml; did you mean `jobs`?
    error: `nonsense` is not set
    hint: `git orchestra config list --keys` lists what can be set
    --- exit 1
    "#);
    stage.sandbox.set_env("ORCHESTRA_JOBS", "many");
    assert_snapshot!(stage.run(&["config", "get", "jobs"]), @r#"
    $ git orchestra config get jobs
    --- stderr
    error: failed to use `jobs` from ORCHESTRA_JOBS: a number from 1 to 256 is expected, not `many`
    --- exit 1
    "#);
}

#[test]
fn an_approval_needs_a_person_or_the_hash() {
    let mut stage = Stage::new();
    stage.sandbox.write("orchestra.toml", &WANTS.replace("job = 3\n", ""));
    assert_snapshot!(stage.run(&["config", "approve"]), @r#"
    $ git orchestra config approve
    profile.local.command = ["sh", "-c", "true"]
    profile.local.program = command
    hash <hash>
    --- stderr
    error: nobody can be asked: there is no terminal
    hint: approve it on a terminal, or name what you approve: `--hash HASH`
    --- exit 1
    "#);
    let mut terminal = Terminal::orchestra(&stage.sandbox, &["config", "approve"], 24, 100);
    terminal.wait_for("Let this repository run this?");
    terminal.type_in("y\r");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    assert_snapshot!(stage.run(&["config", "approve"]), @r#"
    $ git orchestra config approve
    --- stderr
    approved already
    --- exit 0
    "#);
    // A changed word asks again, and the hash that was shown approves it without a terminal.
    stage.sandbox.write("orchestra.toml", &WANTS.replace("job = 3\n", "").replace("true", "false"));
    let out = stage.sandbox.orchestra(&["config", "approve", "--hash", "0"]);
    assert_eq!(out.code, 1, "{out}");
    let hash = out.stdout.lines().last().unwrap().strip_prefix("hash ").unwrap().to_owned();
    stage.sandbox.ok(&["config", "approve", "--hash", &hash]);
    // Agents approve nothing, hash or not.
    stage.sandbox.write("orchestra.toml", WANTS);
    stage.sandbox.set_env("GIT_ORCHESTRA_AGENT", "gggggggggggggggg");
    let out = stage.sandbox.orchestra(&["config", "approve", "--hash", &hash]);
    assert!(out.code == 1 && out.stderr.contains("people do"), "{out}");
}

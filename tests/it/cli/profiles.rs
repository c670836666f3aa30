//! Profiles: roles that come built in, and Claude Code's own files of agents.

use insta::assert_snapshot;

use super::Stage;
use crate::harness::Terminal;
use crate::harness::programs::use_claude;
use crate::harness::sandbox::write_in;
use crate::harness::{Endpoint, Step};

const STRICT: &str = "---\nname: strict\ndescription: Use it: when it matters\ntools: Read, Grep, Bash(git log *)\n\
                      disallowedTools: Glob\ncolor: red\n---\nYou are strict.\n\nAnd brief.\n";

/// As strict as the profile that a role runs as, or stricter.
#[test]
fn a_role_is_confined_as_what_it_runs_as() {
    let stage = Stage::new();
    let config = ".config/git-orchestra/config.toml";
    let level = |name: &str| stage.sandbox.json(&["profile", "show", name])["data"]["sandbox"].clone();
    assert_eq!((level("claude"), level("reviewer")), ("none".into(), "none".into()));
    write_in(stage.sandbox.home(), config, "[profile.claude]\nsandbox = 'landlock'\n");
    assert_eq!(
        (level("claude"), level("reviewer"), level("codex")),
        ("landlock".into(), "landlock".into(), "none".into())
    );
    assert!(stage.sandbox.ok(&["profile", "show", "reviewer"]).contains("\nsandbox      landlock"));
    write_in(
        stage.sandbox.home(),
        config,
        "sandbox = 'landlock'\n[profile.reviewer]\nsandbox = 'bubblewrap'\n",
    );
    assert_eq!((level("claude"), level("reviewer")), ("landlock".into(), "bubblewrap".into()));
}

#[test]
fn roles_are_there_and_each_key_can_be_set() {
    let mut stage = Stage::new();
    stage.sandbox.set_env("COLUMNS", "150");
    stage.sandbox.write("orchestra.toml", "[profile.reviewer]\nmodel = 'opus'\npermissions = 'bypass'\n");
    write_in(
        stage.sandbox.home(),
        ".config/git-orchestra/config.toml",
        "[profile.sh]\nprogram = 'command'\ncommand = ['sh', '-c', 'printf %s \"$GIT_ORCHESTRA_PROMPT\" >told']\n\
         [profile.builder]\nmax-cost = 2.50\ntimeout = '10m'\nrole = 'Build it.'\n",
    );
    assert_snapshot!(stage.run(&["profile", "list"]), @r#"
    $ git orchestra profile list
    PROFILE      PROGRAM  MODEL  MAY           FROM                             WHAT IT IS FOR
    acp          acp             accept-edits  built-in
    agent-teams  claude          accept-edits  built-in                         Claude Code with its experimental teams of agents
    analyst      claude          plan          built-in                         finds out how something is and reports; changes nothing
    api          api             accept-edits  built-in
    builder      claude          accept-edits  user                             makes the change, with its tests
    claude       claude          accept-edits  built-in
    codex        codex           accept-edits  built-in
    command      command         accept-edits  built-in
    documenter   claude          accept-edits  built-in                         writes the documents that belong to a change
    gemini       gemini          accept-edits  built-in
    hybrid       hybrid          accept-edits  built-in
    planner      claude          plan          built-in                         reads the code and writes a plan; changes nothing
    replay       replay          accept-edits  built-in
    reviewer     claude   opus   bypass        repository (waits for approval)  judges a change and reports findings; changes nothing
    sh           command         accept-edits  user
    tester       claude          accept-edits  built-in                         tests a change, and adds the tests that are missing
    --- stderr
    hint: `git orchestra config approve` shows what the repository wants, and asks
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["profile", "show", "builder"]), @r#"
    $ git orchestra profile show builder
    profile      builder
    from         built in, <root>/home/.config/git-orchestra/config.toml
    description  makes the change, with its tests  (built in)
    program      claude
    permissions  accept-edits  (built in)
    max-cost     $2.50  (<root>/home/.config/git-orchestra/config.toml)
    timeout      10m  (<root>/home/.config/git-orchestra/config.toml)
    role         Build it.  (<root>/home/.config/git-orchestra/config.toml)
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["profile", "show", "nobody"]), @r#"
    $ git orchestra profile show nobody
    --- stderr
    error: failed to find the profile `nobody`; there are acp, agent-teams, analyst, api, builder, claude, codex, command, documenter, gemini, hybrid, planner, replay, reviewer, sh, tester
    --- exit 1
    "#);
    let out = stage.sandbox.orchestra(&["spawn", "-m", "x", "--profile", "reviewer"]);
    assert!(out.code == 1 && out.stderr.contains("`profile.reviewer.permissions`"), "{out}");
    // A role runs as the default profile does, and its prompt is what it says.
    stage.sandbox.set_env("ORCHESTRA_DEFAULT_PROFILE", "sh");
    stage.sandbox.ok(&["spawn", "-m", "Do it", "--profile", "planner", "--name", "one"]);
    let told = stage.sandbox.git(&["show", "orchestra/one:told"]);
    assert!(told.contains("\nYou plan, and change nothing.") && told.ends_with("\n\nDo it"), "{told}");
    let shown = stage.sandbox.json(&["profile", "show", "planner"]);
    assert_eq!(shown["data"]["program"], "command", "{shown:#}");
    // Tools are limited where the program can be told, and never silently not.
    stage.sandbox.write("orchestra.toml", "");
    stage.sandbox.git(&["config", "--global", "--add", "orchestra.profile.planner.tools", "Read"]);
    let out = stage.sandbox.orchestra(&["spawn", "-m", "x", "--profile", "planner"]);
    assert!(out.code == 2 && out.stderr.contains("`planner` limits the tools of `command`"), "{out}");
    let offered = stage.sandbox.ok(&["__complete", "profile", "show", "pl"]);
    assert!(offered.starts_with("planner"), "{offered}");
}

#[test]
fn a_file_of_claude_code_is_a_profile_once_it_is_approved() {
    let mut stage = Stage::new();
    stage.sandbox.set_env("COLUMNS", "150");
    stage.sandbox.write(".claude/agents/strict.md", STRICT);
    stage.sandbox.write(".claude/agents/broken.md", "You have no front.\n");
    stage.sandbox.write(".claude/agents/twice.md", &STRICT.replace("brief", "long"));
    std::os::unix::fs::symlink("/etc/hostname", stage.sandbox.repo().join(".claude/agents/link.md")).unwrap();
    write_in(
        stage.sandbox.home(),
        ".claude/agents/mine.md",
        "---\nname: mine\ndescription: Of my own\nmodel: sonnet\n---\nYou are mine.\n",
    );
    let endpoint = Endpoint::start([("strict", vec![Step::say("So it is.")])]);
    use_claude(&mut stage.sandbox, &endpoint);
    assert_snapshot!(stage.run(&["profile", "show", "strict"]), @r#"
    $ git orchestra profile show strict
    profile      strict
    from         <root>/repo/.claude/agents/strict.md
    description  Use it: when it matters  (<root>/repo/.claude/agents/strict.md)
    program      claude  (<root>/repo/.claude/agents/strict.md)
    permissions  accept-edits
    tools        Read, Grep, Bash(git log *)  (<root>/repo/.claude/agents/strict.md)
    denied-tools Glob  (<root>/repo/.claude/agents/strict.md)
    role         You are strict.  (<root>/repo/.claude/agents/strict.md)

                 And brief.
    not used     color
    --- stderr
    warning: left out `<root>/repo/.claude/agents/broken.md`: it does not begin with a line `---`
    warning: left out `<root>/repo/.claude/agents/link.md`: it is no plain file
    warning: left out `<root>/repo/.claude/agents/twice.md`: `<root>/repo/.claude/agents/strict.md` has the same `name`
    warning: `strict` does not count before you approve what the repository says of it
    hint: `git orchestra config approve` shows it, and asks
    --- exit 0
    "#);
    let list = stage.sandbox.ok(&["profile", "list"]);
    assert!(list.contains("agent-file (waits for approval)") && list.contains("Of my own"), "{list}");
    let out = stage.sandbox.orchestra(&["spawn", "-m", "x", "--profile", "strict"]);
    assert!(out.code == 1 && out.stderr.contains("`profile.strict.role`"), "{out}");
    let out = stage.sandbox.orchestra(&["spawn", "-m", "x", "--profile", "broken"]);
    assert!(out.code == 1 && out.stderr.contains("it does not begin with a line `---`"), "{out}");
    assert!(stage.sandbox.ok(&["doctor"]).contains("config approve"));

    let mut terminal = Terminal::orchestra(&stage.sandbox, &["config", "approve"], 40, 120);
    terminal.wait_for("Let the profile `strict` be what this repository's file says?");
    assert!(terminal.screen().contains("And brief."), "all of it is seen:\n{}", terminal.screen());
    terminal.type_in("y\r");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());

    // The real program is told the prompt, and has those tools and no others.
    stage.sandbox.ok(&["spawn", "-m", "Is it so? [script:strict]", "--profile", "strict", "--name", "one"]);
    let asked = &endpoint.seen_by("strict")[0].body;
    assert!(asked["system"].to_string().contains("You are strict."), "{}", asked["system"]);
    let mut tools: Vec<&str> =
        asked["tools"].as_array().unwrap().iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    tools.sort_unstable();
    assert_eq!(tools, ["Bash", "Grep", "Read"]);

    // A changed word asks again, for this profile alone.
    stage.sandbox.write(".claude/agents/strict.md", &STRICT.replace("strict.\n", "lax.\n"));
    assert_eq!(stage.sandbox.orchestra(&["spawn", "-m", "x", "--profile", "strict"]).code, 1);
    let shown = stage.sandbox.json(&["profile", "show", "mine"]);
    assert!(shown["data"]["approved"] == true && shown["data"]["model"] == "sonnet", "{shown:#}");
}

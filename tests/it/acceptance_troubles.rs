//! What goes wrong with the real Claude Code, and what is said and kept then.

use git_orchestra::model::{Agent, Decision, DecisionKind, Outcome};
use nix::sys::signal::Signal;

use crate::harness::programs::use_claude;
use crate::harness::{Endpoint, Sandbox, Step, Terminal, wait_for};

/// A sandbox whose agents talk to these scripts.
fn with_scripts<const N: usize>(scripts: [(&str, Vec<Step>); N]) -> (Sandbox, Endpoint) {
    let mut sandbox = Sandbox::new();
    let endpoint = Endpoint::start(scripts);
    use_claude(&mut sandbox, &endpoint);
    (sandbox, endpoint)
}

fn the_agent(sandbox: &Sandbox) -> Agent {
    let path = sandbox.git(&["ls-tree", "-r", "--name-only", "refs/orchestra/state", "agents"]);
    assert_eq!(path.lines().count(), 1, "{path}");
    serde_json::from_str(&sandbox.git(&["show", &format!("refs/orchestra/state:{path}")])).unwrap()
}

fn outcome(sandbox: &Sandbox) -> Outcome {
    let agent = the_agent(sandbox);
    let (_, run) = agent.last_run().unwrap();
    run.outcome.clone().expect("the run is over")
}

#[test]
fn an_overloaded_model_is_a_retry_that_is_shown() {
    let busy = Step::say("Here I am.").failing(2, 529, Some(0)).failing(1, 429, Some(0));
    let (sandbox, endpoint) = with_scripts([("busy", vec![busy])]);
    let spawned = sandbox.orchestra(&["spawn", "-m", "Say something [script:busy]", "--name", "patient"]);
    assert_eq!(spawned.code, 0, "{spawned}");
    assert_eq!(endpoint.seen_by("busy").len(), 4);
    assert!((spawned.stdout + &spawned.stderr).contains("529"), "retries are shown as they happen");
    let log = sandbox.ok(&["log", "patient"]);
    assert!(log.contains("529") && log.contains("429") && log.contains("Here I am."), "{log}");
    assert_eq!(outcome(&sandbox), Outcome::Succeeded);
}

#[test]
fn a_rejected_key_is_a_failure() {
    let (mut sandbox, _endpoint) =
        with_scripts([("locked", vec![Step::say("Never.").failing(100, 401, None)])]);
    // By itself the client tries ten times, for three minutes.
    sandbox.set_env("CLAUDE_CODE_MAX_RETRIES", "1");
    let spawned =
        sandbox.orchestra(&["spawn", "-m", "Say something [script:locked]", "--name", "locked-out"]);
    assert_eq!(spawned.code, 4, "an agent failed: {spawned}");
    assert!((spawned.stdout.clone() + &spawned.stderr).contains("401"), "{spawned}");
    let Outcome::Failed { reason } = outcome(&sandbox) else { panic!("{:?}", outcome(&sandbox)) };
    assert!(reason.contains("API key"), "in the words of the program: {reason}");
    let status = sandbox.ok(&["status"]);
    assert!(status.contains("failed") && status.contains("API key"), "{status}");
}

#[test]
fn a_rejected_key_does_not_cost_minutes() {
    let (sandbox, endpoint) = with_scripts([("locked", vec![Step::say("Never.").failing(100, 401, None)])]);
    let spawned =
        sandbox.orchestra(&["spawn", "-m", "Say something [script:locked]", "--name", "locked-out"]);
    assert_eq!(spawned.code, 4, "an agent failed: {spawned}");
    let Outcome::Failed { reason } = outcome(&sandbox) else { panic!("{:?}", outcome(&sandbox)) };
    assert!(reason.contains("refuses the API key or the login: 401"), "{reason}");
    let tries = endpoint.seen_by("locked").len();
    assert!((2..=4).contains(&tries), "of the eleven that the client would make: {tries}");
}

#[test]
fn a_run_that_we_stopped_is_never_a_success_and_its_work_is_kept() {
    let work = vec![
        Step::write("half.txt", "half of it\n"),
        Step::bash("mkdir started; tail -f half.txt"),
        Step::say("The rest is done, too."),
    ];
    let more = vec![Step::say("I remember.")];
    let (sandbox, endpoint) = with_scripts([("long", work), ("more", more)]);
    let config = sandbox.home().join(".config/git-orchestra/config.toml");
    std::fs::create_dir_all(config.parent().unwrap()).unwrap();
    std::fs::write(config, "[profile.claude]\nargs = [\"--allowed-tools\", \"Bash\"]\n").unwrap();
    let args = ["spawn", "-m", "Do it [script:long]", "--name", "walker"];
    let mut terminal = Terminal::orchestra(&sandbox, &args, 30, 100);
    wait_for("the agent's command", || find(&sandbox, "started"));
    terminal.signal(Signal::SIGINT);
    assert_eq!(terminal.end(), 130, "{}", terminal.screen());
    let Outcome::Stopped { by, .. } = outcome(&sandbox) else { panic!("{:?}", outcome(&sandbox)) };
    assert!(!by.is_empty());
    assert_eq!(sandbox.git(&["show", "orchestra/walker:half.txt"]), "half of it");
    let survivors = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let line = std::fs::read(entry.unwrap().path().join("cmdline")).ok()?;
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        line.contains("tail -f half.txt").then_some(line)
    });
    assert_eq!(survivors.collect::<Vec<_>>(), Vec::<String>::new(), "the tool's command ended with it");

    // The conversation goes on where it was.
    let resumed = sandbox.orchestra(&["resume", "walker", "-m", "And now [script:more]"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    let last = endpoint.seen_by("more").pop().unwrap().body["messages"].to_string();
    assert!(last.contains("[script:long]") && last.contains("half of it"), "the conversation so far: {last}");
    assert_eq!(the_agent(&sandbox).runs.len(), 2);
    assert_eq!(outcome(&sandbox), Outcome::Succeeded);
}

/// A directory that an agent made in its worktree, wherever that is.
fn find(sandbox: &Sandbox, name: &str) -> Option<()> {
    // While a worktree is being made, git may fail to list it.
    let listed = sandbox.try_git_in(sandbox.repo(), &["worktree", "list", "--porcelain"], b"");
    let places = listed.stdout.lines().filter_map(|line| line.strip_prefix("worktree "));
    places.map(std::path::Path::new).any(|place| place.join(name).exists()).then_some(())
}

#[test]
fn what_an_agent_may_not_do_becomes_a_decision() {
    let script = vec![Step::bash("curl --version > tools.txt"), Step::say("I tried.")];
    let again = vec![Step::bash("curl --version > tools.txt"), Step::say("It worked.")];
    let (sandbox, _endpoint) = with_scripts([("ask", script), ("again", again)]);
    let spawned = sandbox.orchestra(&["spawn", "-m", "Look at the tools [script:ask]", "--name", "asker"]);
    assert!(spawned.code == 3 || spawned.code == 0, "{spawned}");
    let path = sandbox.git(&["ls-tree", "-r", "--name-only", "refs/orchestra/state", "decisions"]);
    let decision: Decision =
        serde_json::from_str(&sandbox.git(&["show", &format!("refs/orchestra/state:{path}")])).unwrap();
    assert_eq!(decision.kind, DecisionKind::Permission);
    assert!(sandbox.ok(&["show", decision.id.as_str()]).contains("curl --version"));
    assert_eq!(
        sandbox.try_git_in(sandbox.repo(), &["cat-file", "-e", "orchestra/asker:tools.txt"], b"").code,
        128
    );
    sandbox.ok(&["decide", decision.id.as_str(), "allow"]);
    let resumed = sandbox.orchestra(&["resume", "asker", "-m", "You may now [script:again]"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    assert!(sandbox.git(&["show", "orchestra/asker:tools.txt"]).contains("curl"));
}

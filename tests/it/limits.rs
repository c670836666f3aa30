//! What the real Claude Code does at the limits of its account and of its model's window.

use std::os::unix::fs::PermissionsExt as _;

use git_orchestra::model::Outcome;
use serde_json::Value;

use crate::acceptance_codex::{configure, outcome, the_agent};
use crate::harness::programs::use_claude;
use crate::harness::sandbox::write_in;
use crate::harness::{Endpoint, Sandbox, Step, wait_for};

fn with_claude<const N: usize>(scripts: [(&str, Vec<Step>); N], park: &str) -> (Sandbox, Endpoint) {
    let mut sandbox = Sandbox::new();
    let endpoint = Endpoint::start(scripts);
    use_claude(&mut sandbox, &endpoint);
    configure(&sandbox, &format!("park = '{park}'\n"));
    (sandbox, endpoint)
}

/// What `status` says of an agent: its state and the evidence for it.
fn stands(sandbox: &Sandbox, name: &str) -> (String, String) {
    let status = sandbox.json(&["status"]);
    let row = status["data"].as_array().unwrap().iter().find(|row| row["name"] == name).unwrap().clone();
    (row["state"].as_str().unwrap().to_owned(), row["evidence"].as_str().unwrap_or_default().to_owned())
}

fn wait_until_parked(sandbox: &Sandbox, name: &str) -> String {
    wait_for("a parked agent", || {
        let (state, evidence) = stands(sandbox, name);
        (state == "waiting" && evidence.starts_with("parked until")).then_some(evidence)
    })
}

/// The breakers that are open.
fn breakers(sandbox: &Sandbox) -> Value {
    let path = sandbox.home().join(".local/share/git-orchestra/limits.json");
    let text = std::fs::read_to_string(path).unwrap();
    serde_json::from_str(&text).unwrap()
}

#[test]
fn a_run_over_a_limit_waits_and_goes_on_by_itself() {
    let script = vec![
        Step::write("one.txt", "one\n"),
        Step::write("two.txt", "two\n").failing(6, 529, Some(0)),
        Step::say("Both written."),
    ];
    let on = vec![Step::write("two.txt", "two\n"), Step::say("Both written.")];
    let (sandbox, endpoint) = with_claude([("limit", script), ("Go on where you stopped.", on)], "1s");
    let spawned = sandbox.orchestra(&["spawn", "-m", "Write two files [script:limit]", "--name", "heron"]);
    assert_eq!(spawned.code, 0, "{spawned}");
    let agent = the_agent(&sandbox, "heron");
    assert_eq!(
        (agent.runs.len(), outcome(&sandbox, "heron")),
        (1, Outcome::Succeeded),
        "one run, over two processes"
    );
    assert_eq!(sandbox.git(&["show", "orchestra/heron:one.txt"]), "one");
    assert_eq!(sandbox.git(&["show", "orchestra/heron:two.txt"]), "two");
    let log = sandbox.ok(&["log", "heron"]);
    for words in ["its model is over a limit (529", "parked until", "it tries, for all that wait"] {
        assert!(log.contains(words), "{words}: {log}");
    }
    // What both processes used: an answer of the first, and two of the second.
    assert_eq!((agent.runs[&1].usage.turns, agent.runs[&1].usage.output), (3, 60));
    let last = endpoint.seen().pop().unwrap().body["messages"].to_string();
    assert!(last.contains("[script:limit]"), "the same conversation: {last}");
    assert_eq!(breakers(&sandbox), serde_json::json!({}), "it is closed again");
}

#[test]
fn others_of_the_account_wait_until_one_was_served() {
    let script = vec![Step::say("At last.").failing(8, 429, Some(0))];
    let (sandbox, endpoint) = with_claude([("limit", script), ("other", vec![Step::say("Me, too.")])], "4s");
    sandbox.ok(&["spawn", "--detach", "-m", "Say it [script:limit]", "--name", "heron"]);
    let evidence = wait_until_parked(&sandbox, "heron");
    assert!(evidence.contains("429"), "{evidence}");
    let second = sandbox.ok(&["spawn", "--detach", "-m", "Say it, too [script:other]", "--name", "fox"]);
    assert!(second.contains("queued"), "{second}");
    wait_until_parked(&sandbox, "fox");
    assert_eq!(endpoint.seen_by("other").len(), 0, "nothing was asked for it");
    let waited = sandbox.orchestra(&["wait", "heron", "fox", "--timeout", "2m"]);
    assert_eq!(waited.code, 0, "{waited}\n{}", sandbox.ok(&["log", "heron"]));
    let tried = |name: &str| sandbox.ok(&["log", name]).matches("it tries, for all that wait").count();
    assert_eq!(tried("heron") + tried("fox"), 1, "one tried, for both");
    assert_eq!(breakers(&sandbox), serde_json::json!({}));
}

#[test]
fn one_that_is_parked_can_be_stopped() {
    let script = vec![Step::say("Never.").failing(99, 529, Some(0))];
    let (sandbox, endpoint) = with_claude([("limit", script)], "1h");
    sandbox.ok(&["spawn", "--detach", "-m", "Say it [script:limit]", "--name", "heron"]);
    let evidence = wait_until_parked(&sandbox, "heron");
    assert!(evidence.contains("529"), "{evidence}");
    let open = breakers(&sandbox);
    let (name, breaker) = open.as_object().unwrap().iter().next().unwrap();
    assert!(name.starts_with("claude ") && !name.contains("sk-ant"), "{name}");
    assert_eq!((&breaker["strikes"], &breaker["told"]), (&1.into(), &false.into()));
    let asked = endpoint.seen_by("limit").len();
    assert!(asked < 9, "of the eleven that the client would make: {asked}");
    sandbox.ok(&["stop", "heron", "--wait"]);
    assert_eq!(stands(&sandbox, "heron").0, "stopped");
    assert_eq!(endpoint.seen_by("limit").len(), asked, "while it was parked nothing was asked");
}

#[test]
fn repositories_profiles_and_other_programs_share_a_limit_as_far_as_the_account_goes() {
    let script = vec![Step::say("Never.").failing(99, 529, Some(0))];
    let (sandbox, endpoint) = with_claude([("limit", script), ("other", vec![Step::say("Me, too.")])], "1h");
    configure(
        &sandbox,
        "park = '1h'\n[profile.deep]\nprogram = 'claude'\nenv.CLAUDE_CODE_EFFORT_LEVEL = 'high'\n\
         [profile.sh]\nprogram = 'command'\ncommand = ['true']\n",
    );
    sandbox.ok(&["spawn", "--detach", "--jobs", "1", "-m", "Say it [script:limit]", "--name", "heron"]);
    wait_until_parked(&sandbox, "heron");
    // It has no process, so another one may run in its place.
    sandbox.ok(&["spawn", "--detach", "--jobs", "1", "-m", "Work", "--name", "plain", "--profile", "sh"]);
    let waited = sandbox.orchestra(&["wait", "plain", "--timeout", "60s"]);
    assert_eq!(waited.code, 0, "{waited}");
    let second = sandbox.root().join("second");
    std::fs::create_dir(&second).unwrap();
    sandbox.git_in(&second, &["init", "--quiet", "-b", "main"]);
    sandbox.commit_in(&second, "first");
    let spawn =
        ["spawn", "--detach", "-m", "Say it, too [script:other]", "--name", "fox", "--profile", "deep"];
    let spawned = sandbox.orchestra_in(&second, &spawn);
    assert!(spawned.code == 0 && spawned.stdout.contains("queued"), "{spawned}");
    wait_for("the other repository's agent", || {
        let status = sandbox.orchestra_in(&second, &["status"]).stdout;
        status.contains("parked until").then_some(())
    });
    assert_eq!(breakers(&sandbox).as_object().unwrap().len(), 1);
    assert_eq!(endpoint.seen_by("other").len(), 0, "nothing was asked for it");
    assert_eq!(sandbox.orchestra_in(&second, &["stop", "fox", "--wait"]).code, 0);
    sandbox.ok(&["stop", "heron", "--wait"]);
}

/// A program in the place of Gemini CLI, which prints what that prints: five attempts in vain the first time, and the
/// recorded stream of a conversation the next time. The real one takes minutes for them.
fn with_busy_gemini(status: u16) -> Sandbox {
    let mut sandbox = Sandbox::new();
    let answer = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/agents/gemini/resume.jsonl");
    let script = format!(
        "#!/bin/sh\ncat >/dev/null\nif mkdir \"$HOME/tried\" 2>/dev/null; then\n\
         for n in 1 2 3 4 5; do echo \"Attempt $n failed with status {status}. Retrying with backoff...\" >&2; done\n\
         exec sleep 600\nfi\nexec cat {answer}\n"
    );
    write_in(&sandbox.root(), "bin/gemini", &script);
    let bin = sandbox.root().join("bin");
    std::fs::set_permissions(bin.join("gemini"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let command = sandbox.command("true");
    let path = command.get_envs().find_map(|(key, value)| (key == "PATH").then_some(value?)).unwrap();
    let path = std::env::join_paths([bin].into_iter().chain(std::env::split_paths(path))).unwrap();
    drop(command);
    sandbox.set_env("PATH", path);
    configure(&sandbox, "park = '1s'\ndefault-profile = 'gemini'\n");
    sandbox
}

#[test]
fn a_gemini_whose_model_has_too_much_to_do_waits_and_goes_on() {
    for status in [503, 529] {
        let sandbox = with_busy_gemini(status);
        let spawned = sandbox.orchestra(&["spawn", "-m", "Work", "--name", "heron"]);
        let log = sandbox.ok(&["log", "heron"]);
        assert_eq!(spawned.code, 0, "{spawned}\n{log}");
        for words in [&format!("its model is over a limit ({status}"), "parked until", "I remember."] {
            assert!(log.contains(words), "{words}: {log}");
        }
        assert_eq!(the_agent(&sandbox, "heron").runs.len(), 1, "one run, over two processes");
    }
}

#[test]
fn a_window_that_fills_is_told_and_files_are_listed() {
    let script = vec![
        Step::read("README.md").tokens(10, 20, 400_000, 0),
        Step::write("new.txt", "new\n").tokens(10, 20, 840_000, 0),
        Step::say("Done.").tokens(10, 20, 850_000, 0),
    ];
    let (sandbox, _endpoint) = with_claude([("full", script)], "30s");
    let spawned = sandbox.orchestra(&["spawn", "-m", "Work [script:full]", "--name", "heron"]);
    assert_eq!(spawned.code, 0, "{spawned}");
    let log = sandbox.ok(&["log", "heron"]);
    let told = "its context window is 84 % full (840030 of 1000000 tokens)";
    assert_eq!(log.matches("its context window is").count(), 1, "{log}");
    assert!(log.contains(told), "{log}");
    let status = sandbox.ok(&["status"]);
    assert!(status.contains("CTX") && status.contains("85%"), "{status}");
    let row = sandbox.json(&["status"])["data"][0]["context"].clone();
    assert_eq!(row, serde_json::json!({"used": 850_030, "window": 1_000_000}));
    let shown = sandbox.json(&["show", "heron"])["data"]["files"].clone();
    let files =
        serde_json::json!({"read": {"README.md": 1}, "written": {"new.txt": 1}, "committed": ["new.txt"]});
    assert_eq!(shown, files);
    let page = sandbox.ok(&["show", "heron"]);
    assert!(page.contains("read:       README.md") && page.contains("context 85 % of 1.0M"), "{page}");
}

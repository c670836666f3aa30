//! What an agent asks when nobody looks is a decision, and its program waits: an answer from another terminal or another
//! clone reaches it where it stands.

use git_orchestra::model::{Outcome, Timestamp};
use serde_json::{Value, json};

use crate::acceptance_acp;
use crate::acceptance_api;
use crate::acceptance_codex::{configure, outcome, the_agent};
use crate::claims::{machine, remote, task};
use crate::harness::programs::use_claude;
use crate::harness::sandbox::wait_for;
use crate::harness::{Answer, Endpoint, Sandbox, Step, Terminal};
use crate::worker::Running;

fn touches_the_marker() -> Vec<Step> {
    vec![Step::bash("sh -c 'date >marker'"), Step::say("Finished.")]
}

/// A user of the real Claude Code, with an agent that waits with its question.
fn waiting(script: Vec<Step>) -> (Sandbox, Endpoint, String) {
    let endpoint = Endpoint::start([("Do the work", script)]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    sandbox.ok(&["spawn", "--detach", "-m", "Do the work", "--name", "heron"]);
    let id = decision(&sandbox);
    (sandbox, endpoint, id)
}

/// Two clones, and an agent in the first one that waits with a question which both know.
struct Both {
    ada: Sandbox,
    bob: Sandbox,
    /// The decision.
    id: String,
    _remote: Sandbox,
    _endpoint: Endpoint,
}

/// The agent takes which `answers`, where that is said.
fn asked_in_both(answers: Option<&str>) -> Both {
    let remote = remote();
    let endpoint = Endpoint::start([("Do the work", touches_the_marker())]);
    let (mut ada, bob) = (machine(&remote), machine(&remote));
    use_claude(&mut ada, &endpoint);
    if let Some(answers) = answers {
        ada.git(&["config", "--global", "orchestra.answers", answers]);
    }
    ada.ok(&["spawn", "--detach", "-m", "Do the work", "--name", "heron"]);
    let id = decision(&ada);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    Both { ada, bob, id, _remote: remote, _endpoint: endpoint }
}

/// The id of the decision that waits, once there is one.
fn decision(sandbox: &Sandbox) -> String {
    wait_for("a decision", || sandbox.json(&["decide"])["data"][0]["id"].as_str().map(str::to_owned))
}

fn state(sandbox: &Sandbox) -> String {
    sandbox.json(&["status", "--all"])["data"][0]["state"].as_str().unwrap().to_owned()
}

fn has_marker(sandbox: &Sandbox) -> bool {
    sandbox.try_git_in(sandbox.repo(), &["cat-file", "-e", "orchestra/heron:marker"], b"").code == 0
}

/// What the model was told last.
fn told(endpoint: &Endpoint) -> String {
    let messages = endpoint.seen().pop().unwrap().body["messages"].clone();
    messages.as_array().unwrap().last().unwrap().to_string()
}

/// Its first run went on to its end, and the decision says so.
fn went_on(sandbox: &Sandbox, id: &str) {
    let waited = sandbox.orchestra(&["wait", "heron", "--timeout", "60s"]);
    assert_eq!(waited.code, 0, "{waited}\n{}", sandbox.ok(&["log", "heron"]));
    assert_eq!(outcome(sandbox, "heron"), Outcome::Succeeded);
    assert_eq!(the_agent(sandbox, "heron").runs.len(), 1, "no other run was needed");
    assert_eq!(sandbox.json(&["show", id])["data"]["told"], json!(1));
    assert_eq!(sandbox.json(&["decide"])["data"], Value::Array(Vec::new()));
    sandbox.assert_sound();
}

#[test]
fn what_claude_may_do_is_decided_from_another_terminal() {
    let (sandbox, endpoint, id) = waiting(touches_the_marker());
    assert_eq!(state(&sandbox), "waiting");
    let decided = sandbox.orchestra(&["decide", &id, "allow"]);
    assert!(
        decided.code == 0 && decided.stderr.contains("heron waited for it, was told, and goes on"),
        "{decided}"
    );
    went_on(&sandbox, &id);
    assert!(has_marker(&sandbox) && !told(&endpoint).contains("is_error\":true"), "{}", told(&endpoint));
    // What it was told is not told again.
    sandbox.ok(&["resume", "heron", "-m", "Say what you did"]);
    let asked = endpoint.seen().pop().unwrap().body["messages"].to_string();
    assert!(asked.contains("Say what you did") && !asked.contains("A person answered"), "{asked}");
}

#[test]
fn what_claude_may_not_do_is_decided_from_another_terminal() {
    let (sandbox, endpoint, id) = waiting(touches_the_marker());
    sandbox.ok(&["decide", &id, "deny"]);
    went_on(&sandbox, &id);
    assert!(
        !has_marker(&sandbox) && told(&endpoint).contains("A person refused this."),
        "{}",
        told(&endpoint)
    );
}

#[test]
fn the_words_that_go_with_an_answer_are_told() {
    let (sandbox, endpoint, id) = waiting(touches_the_marker());
    sandbox.ok(&["decide", &id, "deny", "-m", "The clock is wrong: take the log's time"]);
    went_on(&sandbox, &id);
    let heard = "A person refused this, and says: The clock is wrong: take the log's time";
    assert!(told(&endpoint).contains(heard), "{}", told(&endpoint));
    assert!(!has_marker(&sandbox));

    let (sandbox, endpoint, id) = waiting(touches_the_marker());
    sandbox.ok(&["decide", &id, "allow", "-m", "But mind the time zone"]);
    went_on(&sandbox, &id);
    let heard = endpoint
        .seen()
        .iter()
        .any(|seen| seen.body["messages"].to_string().contains("But mind the time zone"));
    assert!(has_marker(&sandbox) && heard, "{}", sandbox.ok(&["log", "heron"]));
}

#[test]
fn and_by_its_next_run() {
    for (answer, heard) in [
        ("deny", "refused for good. They say: Take the log"),
        ("allow", "allowed: try it again. They say: Take the log"),
    ] {
        let endpoint =
            Endpoint::start([("Do the work", touches_the_marker()), ("once more", vec![Step::say("Done.")])]);
        let mut sandbox = Sandbox::new();
        use_claude(&mut sandbox, &endpoint);
        configure(&sandbox, "answer-timeout = '0s'\n");
        let spawned = sandbox.orchestra(&["spawn", "-m", "Do the work", "--name", "heron"]);
        assert_eq!(spawned.code, 3, "{spawned}");
        sandbox.ok(&["decide", &decision(&sandbox), answer, "-m", "Take the log"]);
        sandbox.ok(&["resume", "heron", "-m", "Do it once more"]);
        assert!(told(&endpoint).contains(heard), "{}", told(&endpoint));
    }
}

#[test]
fn what_claude_asks_is_answered_from_another_terminal() {
    let options =
        json!([{"label": "red", "description": "as the old one"}, {"label": "blue", "description": "calm"}]);
    let question = json!({"questions": [
        {"question": "Which colour?", "header": "Colour", "multiSelect": false, "options": options},
    ]});
    let (sandbox, endpoint, id) =
        waiting(vec![Step::call("AskUserQuestion", question), Step::say("Painted.")]);
    let shown = sandbox.json(&["decide", &id, "2"]);
    assert_eq!(
        (&shown["data"]["status"], &shown["data"]["told"]),
        (&json!("answered"), &json!(1)),
        "{shown}"
    );
    went_on(&sandbox, &id);
    assert!(told(&endpoint).contains("blue"), "{}", told(&endpoint));
}

#[test]
fn an_answer_of_another_clone_comes_with_a_sync() {
    let both = asked_in_both(Some("any"));
    let Both { ada, bob, id, .. } = &both;
    let decided = bob.orchestra(&["decide", id, "allow"]);
    assert!(decided.code == 0 && !decided.stderr.contains("was told"), "{decided}");
    bob.ok(&["sync"]);
    assert_eq!(state(ada), "waiting");
    ada.ok(&["sync"]);
    went_on(ada, id);
    assert!(has_marker(ada));
}

#[test]
fn what_nobody_verified_is_told_to_the_user_and_not_to_the_agent() {
    let both = asked_in_both(None);
    let Both { ada, bob, id, .. } = &both;
    bob.ok(&["decide", id, "allow"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    let log = wait_for("the notice", || {
        let log = ada.ok(&["log", "heron"]);
        log.contains("answered allow (unverified, not signed), which does not count here").then_some(log)
    });
    assert!(log.contains(&format!("`git orchestra decide {} allow`", &id[..6])), "{log}");
    assert!(!has_marker(ada) && ada.json(&["show", id])["data"].get("told").is_none());
    // As one's own it counts.
    ada.ok(&["decide", id, "allow"]);
    went_on(ada, id);
    assert!(has_marker(ada));
    let again = ada.orchestra(&["decide", id, "deny"]);
    assert!(again.code == 1 && again.stderr.contains("it is not open any more"), "{again}");
}

#[test]
fn nor_does_resume_tell_it() {
    let remote = remote();
    let script = vec![Step::bash("sh -c 'date >marker'"), Step::say("Finished.")];
    let endpoint = Endpoint::start([("Do the work", touches_the_marker()), ("Go on", script)]);
    let (mut ada, bob) = (machine(&remote), machine(&remote));
    use_claude(&mut ada, &endpoint);
    ada.git(&["config", "orchestra.answerTimeout", "0s"]);
    let spawned = ada.orchestra(&["spawn", "-m", "Do the work", "--name", "heron"]);
    assert_eq!(spawned.code, 3, "{spawned}");
    let id = decision(&ada);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    bob.ok(&["decide", &id, "allow"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    let resumed = ada.orchestra(&["resume", "heron"]);
    assert!(resumed.stderr.contains("which does not count here"), "{resumed}");
    assert!(!has_marker(&ada) && !told(&endpoint).contains("A person answered"), "{}", told(&endpoint));
}

#[test]
fn a_worker_brings_its_questions_to_the_remote_and_fetches_the_answers() {
    let remote = remote();
    let endpoint = Endpoint::start([("Do the work", touches_the_marker())]);
    let (mut ada, bob) = (machine(&remote), machine(&remote));
    use_claude(&mut ada, &endpoint);
    ada.git(&["config", "--global", "orchestra.answers", "any"]);
    let of = task(&bob, "Do the work");
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    let worker = Running::start(&ada, &["--once"]);
    let id = wait_for("the question", || {
        bob.ok(&["sync"]);
        bob.json(&["decide"])["data"][0]["id"].as_str().map(str::to_owned)
    });
    bob.ok(&["decide", &id, "allow"]);
    bob.ok(&["sync"]);
    let ended = worker.end();
    assert_eq!(ended.code, 0, "{ended}");
    bob.ok(&["sync"]);
    // Whose words it worked on it was told.
    let name = ada.json(&["status", "--all"])["data"][0]["name"].as_str().unwrap().to_owned();
    let prompt = the_agent(&ada, &name).prompt;
    assert!(prompt.starts_with("Do the work\n\nThis task was written on machine "), "{prompt}");
    let result = bob.json(&["task", "show", &of])["data"]["result"].to_string();
    assert!(result.contains("done on"), "{result}");
    assert_eq!(bob.json(&["show", &id])["data"]["told"], json!(1));
}

#[test]
fn whoever_attaches_to_one_that_waits_answers_it_there() {
    let (sandbox, _endpoint, id) = waiting(touches_the_marker());
    let mut terminal = Terminal::orchestra(&sandbox, &["attach", "heron"], 30, 100);
    terminal.wait_for("let it use Bash? y/n");
    terminal.type_in("y\r");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    went_on(&sandbox, &id);
    let shown = sandbox.json(&["show", &id]);
    assert_eq!(
        (&shown["data"]["status"], &shown["data"]["answer"]["key"]),
        (&json!("answered"), &json!("allow"))
    );
    assert!(has_marker(&sandbox));
}

/// A terminal may be open behind a closed lid.
#[test]
fn what_nobody_answers_who_looks_is_answered_from_elsewhere() {
    let endpoint = Endpoint::start([("Do the work", touches_the_marker())]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    let spawn = ["spawn", "-m", "Do the work", "--name", "heron"];
    let mut terminal = Terminal::orchestra(&sandbox, &spawn, 30, 100);
    terminal.wait_for("let it use Bash? y/n");
    let id = decision(&sandbox);
    assert!(terminal.screen().contains("let it use Bash? y/n"), "{}", terminal.screen());
    let decided = sandbox.orchestra(&["decide", &id, "allow"]);
    assert!(decided.stderr.contains("heron waited for it, was told, and goes on"), "{decided}");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    went_on(&sandbox, &id);
    assert!(has_marker(&sandbox));
}

#[test]
fn one_that_waited_long_enough_goes_on_without() {
    let endpoint =
        Endpoint::start([("Do the work", touches_the_marker()), ("once more", touches_the_marker())]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    configure(&sandbox, "answer-timeout = '1s'\n");
    // Also where somebody waits for its end.
    let spawned = sandbox.orchestra(&["spawn", "-m", "Do the work", "--name", "heron"]);
    assert_eq!(spawned.code, 3, "{spawned}");
    assert!(!has_marker(&sandbox) && told(&endpoint).contains("Nobody is there"), "{}", told(&endpoint));
    let id = decision(&sandbox);
    let decided = sandbox.orchestra(&["decide", &id, "allow"]);
    assert!(decided.stderr.contains("`git orchestra resume heron` goes on with it"), "{decided}");
    sandbox.ok(&["resume", "heron", "-m", "Do it once more"]);
    assert!(has_marker(&sandbox));
    assert_eq!(sandbox.json(&["show", &id])["data"]["told"], json!(2), "its next run was told");
}

#[test]
fn one_that_is_stopped_while_it_waits_leaves_its_question() {
    let (sandbox, _endpoint, id) = waiting(touches_the_marker());
    sandbox.ok(&["stop", "heron", "--wait"]);
    assert_eq!(decision(&sandbox), id);
    // Nobody hears of an answer any more once it is removed, and everybody once that is undone.
    sandbox.ok(&["remove", "heron"]);
    assert_eq!(sandbox.json(&["decide"])["data"], json!([]));
    assert_eq!(sandbox.json(&["show", &id])["data"]["status"], "withdrawn");
    assert_eq!(sandbox.orchestra(&["check"]).code, 0);
    sandbox.ok(&["undo", "--yes"]);
    assert_eq!(decision(&sandbox), id);
    let decided = sandbox.orchestra(&["decide", &id, "allow"]);
    assert!(decided.stderr.contains("`git orchestra resume heron` goes on with it"), "{decided}");
}

#[test]
fn the_built_in_program_waits_for_its_answer() {
    let script =
        vec![Step::bash("while [ ! -e go ]; do sleep 0.05; done; mv go marker"), Step::say("Touched.")];
    let (sandbox, _endpoint) = acceptance_api::with_api([("Do the work", script)], "");
    sandbox.ok(&["spawn", "--detach", "-m", "Do the work", "--name", "heron"]);
    let id = decision(&sandbox);
    sandbox.ok(&["decide", &id, "allow"]);
    // Its command runs since it may, not since it was called.
    let (since, asked) = wait_for("its command", || {
        let status = sandbox.json(&["status"])["data"][0].clone();
        let at = |value: &Value| serde_json::from_value::<Timestamp>(value.clone()).ok();
        Some((at(&status["tool"]["since"])?, at(&status["last_event"])?))
    });
    assert!(since > asked, "{since} {asked}");
    std::fs::write(acceptance_api::worktree(&sandbox).join("go"), "").unwrap();
    went_on(&sandbox, &id);
    assert!(has_marker(&sandbox));
}

#[test]
fn an_agent_behind_the_protocol_waits_for_its_answer() {
    let work = vec![Answer::run("curl --version > /dev/null; touch marker"), Answer::say("Touched.")];
    let (sandbox, _model) = acceptance_acp::with_scripts("accept-edits", [("work", work)]);
    sandbox.ok(&["spawn", "--detach", "-m", "Do the work [script:work]", "--name", "heron"]);
    let id = decision(&sandbox);
    sandbox.ok(&["decide", &id, "allow"]);
    went_on(&sandbox, &id);
    assert!(has_marker(&sandbox));
}

#[test]
fn and_hears_as_a_message_why_it_may_not() {
    let work = vec![
        Answer::run("curl --version > /dev/null; touch marker"),
        Answer::say("Not touched."),
        Answer::say("Heard."),
    ];
    let (sandbox, _model) = acceptance_acp::with_scripts("accept-edits", [("work", work)]);
    sandbox.ok(&["spawn", "--detach", "-m", "Do the work [script:work]", "--name", "heron"]);
    sandbox.ok(&["decide", &decision(&sandbox), "deny", "-m", "Leave the marker alone"]);
    let waited = sandbox.orchestra(&["wait", "heron", "--timeout", "60s"]);
    let log = sandbox.ok(&["log", "heron"]);
    assert!(waited.code == 0 && log.contains("a person told it: Leave the marker alone"), "{waited}\n{log}");
    assert!(!has_marker(&sandbox));
}

/// An interrupt ends the turn, and what was asked in it: nobody is asked any more, and the run goes on and ends.
fn is_asked_no_more(sandbox: &Sandbox, id: &str, instead: &str) {
    sandbox.ok(&["interrupt", "heron"]);
    wait_for("no question", || {
        sandbox.json(&["decide"])["data"].as_array().unwrap().is_empty().then_some(())
    });
    assert_eq!(sandbox.json(&["show", id])["data"]["status"], "withdrawn");
    let late = sandbox.orchestra(&["decide", id, "allow"]);
    assert!(late.code != 0 && !late.stderr.contains("was told"), "{late}");
    sandbox.ok(&["send", "heron", instead]);
    let waited = sandbox.orchestra(&["wait", "heron", "--timeout", "60s"]);
    assert_eq!(waited.code, 0, "{waited}\n{}", sandbox.ok(&["log", "heron"]));
    assert_eq!(outcome(sandbox, "heron"), Outcome::Succeeded);
    assert!(!has_marker(sandbox));
}

#[test]
fn claude_that_is_interrupted_asks_no_more() {
    let endpoint = Endpoint::start([
        ("Do the work", touches_the_marker()),
        ("the other", vec![Step::say("I leave it.")]),
    ]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    sandbox.ok(&["spawn", "--detach", "-m", "Do the work", "--name", "heron"]);
    let id = decision(&sandbox);
    is_asked_no_more(&sandbox, &id, "Leave it [script:the other]");
}

#[test]
fn the_built_in_program_that_is_interrupted_asks_no_more() {
    let script = vec![Step::bash("touch marker"), Step::say("Touched.")];
    let other = vec![Step::say("I leave it.")];
    let (sandbox, _endpoint) = acceptance_api::with_api([("Do the work", script), ("the other", other)], "");
    sandbox.ok(&["spawn", "--detach", "-m", "Do the work", "--name", "heron"]);
    let id = decision(&sandbox);
    is_asked_no_more(&sandbox, &id, "Leave it [script:the other]");
}

#[test]
fn an_agent_behind_the_protocol_that_is_interrupted_asks_no_more() {
    let work = vec![Answer::run("curl --version > /dev/null; touch marker"), Answer::say("Touched.")];
    let other = vec![Answer::say("I leave it.")];
    let (sandbox, _model) = acceptance_acp::with_scripts("accept-edits", [("work", work), ("other", other)]);
    sandbox.ok(&["spawn", "--detach", "-m", "Do the work [script:work]", "--name", "heron"]);
    let id = decision(&sandbox);
    is_asked_no_more(&sandbox, &id, "Leave it [script:other]");
}

#[test]
fn one_that_waits_for_an_answer_gives_its_place_to_another() {
    let endpoint = Endpoint::start([
        ("Do the work", touches_the_marker()),
        ("Do more", touches_the_marker()),
        ("Do the rest", vec![Step::say("Done.")]),
    ]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    sandbox.git(&["config", "--global", "orchestra.jobs", "1"]);
    let spawn = |prompt: &str, name: &str| {
        sandbox.ok(&["spawn", "--detach", "-m", prompt, "--name", name]);
    };
    let asked = |count: usize| {
        wait_for("the decisions", || {
            let open = sandbox.json(&["decide"])["data"].as_array().unwrap().clone();
            (open.len() == count).then_some(open)
        })
    };
    let of = |name: &str| {
        let rows = sandbox.json(&["status", "--all"])["data"].as_array().unwrap().clone();
        rows.into_iter().find(|row| row["name"] == name).unwrap()["state"].as_str().unwrap().to_owned()
    };
    spawn("Do the work", "heron");
    let first = asked(1)[0]["id"].as_str().unwrap().to_owned();
    spawn("Do more", "robin");
    let second = asked(2).iter().find(|one| one["id"] != *first).unwrap()["id"].as_str().unwrap().to_owned();
    // As many wait without a place as there are places.
    spawn("Do the rest", "wren");
    assert_eq!((of("heron"), of("robin"), of("wren")), ("waiting".into(), "waiting".into(), "queued".into()));
    sandbox.ok(&["decide", &second, "deny"]);
    assert_eq!(sandbox.orchestra(&["wait", "robin", "wren", "--timeout", "60s"]).code, 0);
    assert_eq!(of("heron"), "waiting");
    sandbox.ok(&["decide", &first, "allow"]);
    went_on(&sandbox, &first);
    assert!(has_marker(&sandbox));
}

//! A branch with which a gate fails, mended by an agent: the real Claude Code with a scripted model.

use crate::gates::{files, four, gate, ran, settings};
use crate::harness::programs::use_claude;
use crate::harness::sandbox::{ORCHESTRA, kill, wait_for};
use crate::harness::{Endpoint, Output, Sandbox, Step};
use crate::merge::open_decision;
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Stdio;

/// What the profile of the agents is: Claude Code, which may do everything.
const PROFILE: &str = "[profile.p]\nprogram = 'claude'\npermissions = 'bypass'\n";
/// What the first words of the prompt are.
const ASKED: &str = "Mend cedar: test fails";

/// As [`four`], with Claude Code, whose model does what the scripts say.
fn with_claude<const N: usize>(
    more: &str,
    check: &str,
    scripts: [(&str, Vec<Step>); N],
) -> (Sandbox, Endpoint) {
    let mut sandbox = four();
    settings(&sandbox, &format!("{more}\n{}{PROFILE}", gate("test", check)));
    let endpoint = Endpoint::start(scripts);
    use_claude(&mut sandbox, &endpoint);
    // Claude Code refuses `bypass` as root unless it is told that nothing is at stake.
    sandbox.set_env("IS_SANDBOX", "1");
    (sandbox, endpoint)
}

const WANTS_NONE: &str = "if test -e broken; then echo it is broken >&2; exit 3; fi";

fn does(command: &str) -> Vec<Step> {
    vec![Step::bash(command), Step::say("Done.")]
}

/// The names and the reasons of those who were asked.
fn asked(merge: &Value) -> Vec<(String, String)> {
    let word = |mend: &Value, key: &str| mend[key].as_str().unwrap_or_default().to_owned();
    let mends = merge["mends"].as_array().cloned().unwrap_or_default();
    mends.iter().map(|mend| (word(mend, "outcome"), word(mend, "why"))).collect()
}

/// The merge in the last document that was printed; those before are what the agent said.
fn merged(out: &Output) -> Value {
    let documents = serde_json::Deserializer::from_str(&out.stdout).into_iter::<Value>();
    documents.last().unwrap().unwrap()["data"]["merge"].clone()
}

fn names(merge: &Value) -> Vec<&str> {
    merge["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect()
}

#[test]
fn an_agent_mends_a_branch_and_what_it_made_lands_with_it() {
    let (sandbox, endpoint) = with_claude("", WANTS_NONE, [(ASKED, does("rm broken && echo whole >mended"))]);
    let out = sandbox.orchestra(&["merge", "--mend", "--json"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(files(&sandbox), "a b c d mended src");
    let merge = &merged(&out);
    assert_eq!(names(merge), ["ash", "birch", "cedar", "mend-cedar-test-fails", "dogwood"], "{merge:#}");
    assert_eq!(asked(merge), [("taken".to_owned(), String::new())], "{merge:#}");
    assert_eq!(merge["steps"][3]["mends"], merge["steps"][2]["agent"], "{merge:#}");
    // What was gated is what landed, and nothing was tried twice: all, two, three; all again.
    let last = merge["gates"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["outcome"], &last["commit"]), (&"passed".into(), &merge["landed"]), "{merge:#}");
    assert_eq!(ran(&sandbox).len(), 6);
    // It was told what it needs, and nothing was left behind.
    let told = endpoint.seen_by(ASKED)[0].body["messages"].to_string();
    for words in ["The task of cedar", "- birch: The task of birch", "it is broken", "test -e broken"] {
        assert!(told.contains(words), "{words}\n{told}");
    }
    let subjects = sandbox.git(&["log", "--first-parent", "--format=%s", "-3", "main"]);
    let expected = "Merge dogwood into main: The task of dogwood\nMend cedar: test passes\n\
                    Merge cedar into main: The task of cedar";
    assert_eq!(subjects, expected);
    assert_eq!(sandbox.git(&["for-each-ref", "refs/heads/orchestra/mend-*"]), "");
    let shown = sandbox.ok(&["show", merge["id"].as_str().unwrap()]);
    assert!(shown.contains("asked to mend\n  mend-cedar-test-fails for test of cedar: taken"), "{shown}");
    assert!(shown.contains("     mends cedar"), "{shown}");
    // cedar's own line gave way to whoever mended it, by name; nobody else's did, and `verify` agrees.
    let verified = sandbox.ok(&["verify", merge["id"].as_str().unwrap()]);
    assert!(verified.contains("1 gave way to mend-cedar-test-fails"), "{verified}");
    let note = sandbox.git(&["notes", "--ref", "orchestra/provenance", "show", "main~1"]);
    assert!(note.contains("mend-cedar-test-fails"), "{note}");
    assert_eq!(sandbox.orchestra(&["merge"]).stderr, "no agent has anything to merge\n");
    sandbox.assert_sound();
}

#[test]
fn whoever_mends_in_vain_is_followed_by_as_many_as_are_allowed_and_then_a_person() {
    let (sandbox, _endpoint) =
        with_claude("gate-mends = 2", WANTS_NONE, [(ASKED, does("echo more >>note; echo worse >broken"))]);
    let before = sandbox.fingerprint();
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 3, "{out}");
    assert_eq!(sandbox.fingerprint(), before);
    let said = out.stderr.matches("is not taken: the gate test fails with it (exit code 3)").count();
    assert_eq!(said, 2, "{out}");
    let id = open_decision(&sandbox);
    let shown = sandbox.json(&["show", &id])["data"].clone();
    let detail = shown["detail"].as_str().unwrap();
    assert_eq!(detail.matches("was asked to mend it: the gate test fails with it").count(), 2, "{detail}");
    let merge = sandbox.json(&["show", shown["merge"].as_str().unwrap()])["data"].clone();
    let refused = ("refused".to_owned(), "the gate test fails with it (exit code 3)".to_owned());
    assert_eq!(asked(&merge), [refused.clone(), refused], "{merge:#}");
    assert_eq!(names(&merge), ["ash", "birch", "cedar", "dogwood"]);
    // Nobody is asked a third time, and a person decides.
    assert_eq!(sandbox.orchestra(&["merge", "--continue"]).code, 3);
    sandbox.ok(&["decide", &open_decision(&sandbox), "put-aside"]);
    sandbox.ok(&["merge", "--continue"]);
    assert_eq!(files(&sandbox), "a b d src");
    sandbox.assert_sound();
}

#[test]
fn an_answer_that_drops_a_line_of_another_is_refused() {
    let better = ("better", does("rm broken"));
    let check = format!("if test -e x; then touch \"$HOME/tried\"; fi; {WANTS_NONE}");
    let (sandbox, _endpoint) = with_claude("", &check, [(ASKED, does("rm broken b; echo x >x")), better]);
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    let id = open_decision(&sandbox);
    sandbox.ok(&["decide", &id, "agent"]);
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stderr.contains("is not taken: it left out b:1 of birch"), "{out}");
    assert!(!sandbox.home().join("tried").exists(), "no gate runs on it");
    assert_eq!(open_decision(&sandbox), id, "the same question is open again");
    let changes = sandbox.git(&["log", "--format=%s", "refs/orchestra/state"]);
    assert!(!changes.contains("open again"), "with the record of the merge\n{changes}");
    // With words of the person who decides it does better.
    sandbox.ok(&["decide", &id, "agent", "-m", "[script:better]"]);
    let landed = sandbox.orchestra(&["merge", "--continue", "--json"]);
    assert_eq!((landed.code, files(&sandbox)), (0, "a b c d src".to_owned()), "{landed}");
    let outcomes = asked(&merged(&landed));
    assert_eq!(outcomes[0], ("refused".to_owned(), "it left out b:1 of birch".to_owned()));
    assert_eq!(outcomes[1].0, "taken");
    sandbox.assert_sound();
}

#[test]
fn an_answer_that_is_none_is_written_down_with_the_question_that_is_open_again() {
    let (sandbox, _endpoint) = with_claude("", WANTS_NONE, [(ASKED, vec![Step::say("I do not know.")])]);
    let out = sandbox.orchestra(&["merge", "--mend"]);
    assert_eq!(out.code, 3, "{out}");
    let shown = sandbox.json(&["show", &open_decision(&sandbox)])["data"].clone();
    let detail = shown["detail"].as_str().unwrap();
    assert!(detail.contains("was asked to mend it: it changed nothing."), "{detail}");
    let merge = sandbox.json(&["show", shown["merge"].as_str().unwrap()])["data"].clone();
    assert_eq!(asked(&merge), [("refused".to_owned(), "it changed nothing".to_owned())]);
    let changes = sandbox.git(&["log", "--format=%s", "refs/orchestra/state"]);
    assert!(changes.contains("mended nothing") && !changes.contains("open again"), "{changes}");
    sandbox.assert_sound();
}

#[test]
fn what_was_mended_stays_mended_when_the_target_moves() {
    let check = "test ! -e broken && test ! -e d";
    let (sandbox, endpoint) = with_claude("", check, [(ASKED, does("rm broken"))]);
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    sandbox.ok(&["decide", &open_decision(&sandbox), "agent"]);
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert!(out.code == 3 && out.stderr.contains("the gate test fails with dogwood"), "{out}");
    sandbox.write("next", "n\n");
    sandbox.commit("next");
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert!(out.code == 3 && out.stderr.contains("has moved to"), "{out}");
    sandbox.ok(&["decide", &open_decision(&sandbox), "put-aside"]);
    sandbox.ok(&["merge", "--continue"]);
    assert_eq!(files(&sandbox), "a b c next src");
    let asked = endpoint.seen_by(ASKED).iter().filter(|seen| seen.step.as_ref().unwrap().1 == 0).count();
    assert_eq!(asked, 1, "nobody was asked again");
    assert_eq!(
        sandbox.git(&["rev-list", "--count", "--merges", "main"]),
        "3",
        "no merge of before came along"
    );
    sandbox.ok(&["verify"]);
    sandbox.assert_sound();
}

#[test]
fn a_kill_while_an_agent_mends_is_gone_on_from() {
    let mut steps = does("rm broken");
    steps[0] = steps[0].clone().behind("go");
    let (sandbox, endpoint) = with_claude("", WANTS_NONE, [(ASKED, steps)]);
    let before = sandbox.fingerprint();
    let mut command = sandbox.command(ORCHESTRA);
    command.args(["merge", "--mend"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for("the agent", || (endpoint.waiting_at("go") > 0).then_some(()));
    kill(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    assert_eq!(sandbox.fingerprint(), before);
    endpoint.open("go");
    let gates = ran(&sandbox).len();
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!((out.code, files(&sandbox)), (0, "a b c d src".to_owned()), "{out}");
    assert_eq!(ran(&sandbox).len(), gates + 1, "what gates had said was not asked again");
    assert_eq!(sandbox.git(&["for-each-ref", "refs/heads/orchestra/mend-*"]), "");
    sandbox.assert_sound();
}

//! The real programs that hear nothing while they run, Codex and Gemini CLI: they are told something all the same, and
//! interrupted.

use std::io::Read;

use git_orchestra::model::Outcome;

use crate::acceptance_codex::{self, outcome, processes_with, the_agent, wait_for_file};
use crate::acceptance_gemini;
use crate::harness::{Answer, Model, Sandbox, wait_for};
use crate::life::{console, state};

type Scripts = [(&'static str, Vec<Answer>); 3];

fn scripts(half: &str) -> Scripts {
    let work = vec![
        Answer::run("touch started; while [ ! -e go ]; do sleep 0.05; done; rm go"),
        Answer::say("That is done."),
    ];
    let long = vec![
        Answer::write(half, "half of it\n"),
        Answer::run(&format!("touch started; tail -f {half}")),
        Answer::say("Never."),
    ];
    [
        ("work", work),
        ("long", long),
        ("other", vec![Answer::write("other.txt", "this\n"), Answer::say("Heard.")]),
    ]
}

/// What is sent while it works it hears in the same conversation and the same run, when its turn is over.
fn hears_later(sandbox: &Sandbox, model: &Model) {
    let mut child = console(sandbox, &["spawn", "-m", "Do it [script:work]", "--name", "heron"]);
    wait_for_file(sandbox, "started");
    let sent = sandbox.orchestra(&["send", "heron", "And then [script:other]"]);
    assert_eq!((sent.code, sent.stdout.as_str()), (0, "heron  is told when its turn is over\n"), "{sent}");
    assert!(sent.stderr.contains("`git orchestra interrupt heron`"), "{sent}");
    assert_eq!(model.asked_by("other").len(), 0, "it works on");
    let list = sandbox.git(&["worktree", "list", "--porcelain"]);
    let place =
        list.lines().filter_map(|line| line.strip_prefix("worktree ")).next_back().unwrap().to_owned();
    std::fs::write(std::path::Path::new(&place).join("go"), "").unwrap();
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert!(said.contains("a person told it: And then [script:other] (it hears that when"), "{said}");
    assert_eq!(sandbox.git(&["show", "orchestra/heron:other.txt"]), "this");
    let heard = format!("{:?}", model.asked_by("other").pop().unwrap().body);
    assert!(heard.contains("That is done."), "the conversation so far: {heard}");
    assert_eq!((the_agent(sandbox, "heron").runs.len(), outcome(sandbox, "heron")), (1, Outcome::Succeeded));
}

/// An interrupt ends its process to the last descendant, and what it is told next goes on.
fn is_interrupted(sandbox: &Sandbox, model: &Model, half: &str) {
    let mut child = console(sandbox, &["spawn", "-m", "Do it [script:long]", "--name", "wren"]);
    wait_for_file(sandbox, "started");
    let out = sandbox.orchestra(&["interrupt", "wren"]);
    assert_eq!((out.code, out.stdout.as_str()), (0, "wren  interrupted\n"), "{out}");
    wait_for("its end", || processes_with(half).is_empty().then_some(()));
    wait_for("its state", || (state(sandbox, "wren")["state"] == "waiting").then_some(()));
    assert_eq!(state(sandbox, "wren")["evidence"], "for a message");
    // Twice is no harm.
    sandbox.ok(&["interrupt", "wren"]);
    assert_eq!(sandbox.orchestra(&["wait", "wren", "--timeout", "1"]).code, 7, "it waits for a word");
    sandbox.ok(&["send", "wren", "Do the other [script:other]"]);
    let mut said = String::new();
    child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0), "{said}");
    assert_eq!(sandbox.git(&["show", "orchestra/wren:other.txt"]), "this");
    assert_eq!(sandbox.git(&["show", &format!("orchestra/wren:{half}")]), "half of it");
    let heard = format!("{:?}", model.asked_by("other").pop().unwrap().body);
    assert!(heard.contains("[script:long]") && heard.contains(half), "the conversation so far: {heard}");
    assert_eq!((the_agent(sandbox, "wren").runs.len(), outcome(sandbox, "wren")), (1, Outcome::Succeeded));
    sandbox.assert_sound();
}

/// One that waits for a word can be stopped, and `resume` goes on.
fn is_stopped(sandbox: &Sandbox) {
    sandbox.ok(&["spawn", "-m", "Do it [script:long]", "--name", "robin", "--detach"]);
    wait_for_file(sandbox, "started");
    sandbox.ok(&["interrupt", "robin"]);
    wait_for("its state", || (state(sandbox, "robin")["state"] == "waiting").then_some(()));
    sandbox.ok(&["stop", "robin", "--wait"]);
    assert!(matches!(outcome(sandbox, "robin"), Outcome::Stopped { .. }));
    let resumed = sandbox.orchestra(&["resume", "robin", "-m", "And now [script:other]"]);
    assert_eq!(resumed.code, 0, "{resumed}");
    assert_eq!(sandbox.git(&["show", "orchestra/robin:other.txt"]), "this");
}

#[test]
fn codex_is_told_something_while_it_works() {
    let (sandbox, model) = acceptance_codex::with_scripts(scripts("half-a.txt"));
    hears_later(&sandbox, &model);
}

#[test]
fn codex_is_interrupted_and_told_what_to_do_instead() {
    let (sandbox, model) = acceptance_codex::with_scripts(scripts("half-b.txt"));
    is_interrupted(&sandbox, &model, "half-b.txt");
}

#[test]
fn codex_is_stopped_while_it_waits_for_a_word() {
    let (sandbox, _model) = acceptance_codex::with_scripts(scripts("half-c.txt"));
    is_stopped(&sandbox);
}

#[test]
fn gemini_is_told_something_while_it_works() {
    let (sandbox, model) = acceptance_gemini::with_scripts("bypass", scripts("half-d.txt"));
    hears_later(&sandbox, &model);
}

#[test]
fn gemini_is_interrupted_and_told_what_to_do_instead() {
    let (sandbox, model) = acceptance_gemini::with_scripts("bypass", scripts("half-e.txt"));
    is_interrupted(&sandbox, &model, "half-e.txt");
}

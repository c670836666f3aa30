//! Gates of merges, with real commands: who is guilty, what is asked, what lands, and what a kill leaves.

use crate::harness::sandbox::{ORCHESTRA, kill, poll, wait_for};
use crate::harness::{Sandbox, Terminal};
use crate::merge::{fleet, open_decision};
use crate::spawn::{runs, seconds};
use nix::sys::signal::Signal;
use std::process::Stdio;

/// The user's own settings.
pub(crate) fn settings(sandbox: &Sandbox, text: &str) {
    let dir = sandbox.home().join(".config/git-orchestra");
    std::fs::create_dir_all(&dir).unwrap();
    std::fs::write(dir.join("config.toml"), text).unwrap();
}

/// A gate that notes on which commit it runs, and then does what `script` says.
pub(crate) fn gate(name: &str, script: &str) -> String {
    let script = format!("echo {name} $GIT_ORCHESTRA_COMMIT >>\"$HOME/ran\"; {script}");
    format!("[gate.{name}]\nrun = ['sh', '-c', '''{script}''']\n")
}

/// Which gates were run.
pub(crate) fn ran(sandbox: &Sandbox) -> Vec<String> {
    let text = std::fs::read_to_string(sandbox.home().join("ran")).unwrap_or_default();
    text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
}

/// Four branches, of which the third makes a file `broken`, and a gate that wants none.
pub(crate) fn four() -> Sandbox {
    let sandbox = fleet(&[
        ("ash", &[("a", "a\n")]),
        ("birch", &[("b", "b\n")]),
        ("cedar", &[("broken", "c\n"), ("c", "c\n")]),
        ("dogwood", &[("d", "d\n")]),
    ]);
    settings(
        &sandbox,
        &gate("test", "echo looking; if test -e broken; then echo it is broken >&2; exit 3; fi"),
    );
    sandbox
}

pub(crate) fn files(sandbox: &Sandbox) -> String {
    sandbox.git(&["ls-tree", "--name-only", "main"]).replace('\n', " ").replace("README.md ", "")
}

#[test]
fn the_guilty_branch_of_four_is_found_and_asked_about() {
    let sandbox = four();
    let before = sandbox.fingerprint();
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stderr.contains("the gate test fails with cedar; nothing has moved yet"), "{out}");
    assert!(out.stderr.contains("    it is broken\n"), "{out}");
    assert!(out.stderr.contains("gate test failed on 4 branches"), "{out}");
    assert!(out.stderr.contains("gate test passed on 2 branches"), "{out}");
    // All four, twice; the first two; the first three, twice.
    assert_eq!(ran(&sandbox).len(), 5, "{out}");
    assert_eq!(sandbox.fingerprint(), before);
    let log = out.stderr.lines().find_map(|line| line.strip_prefix("all of it: ")).unwrap().to_owned();
    let printed = std::fs::read_to_string(&log).unwrap();
    assert_eq!(printed.matches("it is broken").count(), 2, "{printed}");

    let id = open_decision(&sandbox);
    let shown = sandbox.ok(&["show", &id]);
    for words in
        ["passes with `ash`, `birch` alone", "The task of cedar", "exit code 3, 2 times", "it is broken"]
    {
        assert!(shown.contains(words), "{words}\n{shown}");
    }
    // Nothing is run again to ask the same.
    let again = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!((again.code, open_decision(&sandbox), ran(&sandbox).len()), (3, id.clone(), 5), "{again}");

    sandbox.ok(&["decide", &id, "put-aside"]);
    let landed = sandbox.json(&["merge", "--continue"]);
    assert_eq!(files(&sandbox), "a b d src");
    let merge = &landed["data"]["merge"];
    assert_eq!(merge["steps"][2]["status"], "skipped");
    assert_eq!(merge["steps"][2]["reason"], "the gate test fails with it (exit code 3)");
    // What was gated is what landed.
    let last = merge["gates"].as_array().unwrap().last().unwrap();
    assert_eq!((&last["outcome"], &last["commit"]), (&"passed".into(), &merge["landed"]), "{merge:#}");
    assert_eq!(merge["landed"], sandbox.git(&["rev-parse", "main"]));
    assert_eq!(sandbox.git(&["status", "--porcelain"]), "");
    let findings = sandbox.json(&["finding", "list"]);
    let [finding] = &findings["data"].as_array().unwrap()[..] else { panic!("{findings}") };
    let message = finding["message"].as_str().unwrap();
    assert!(message.starts_with("the gate test fails with what cedar made (exit code 3)"), "{message}");
    assert!(message.contains("it is broken") && finding["severity"] == "high", "{message}");
    let shown = sandbox.ok(&["show", merge["id"].as_str().unwrap()]);
    assert!(shown.contains("test failed with cedar at") || shown.contains("test failed at"), "{shown}");
    assert!(shown.contains("test passed with birch at"), "{shown}");
    assert!(!sandbox.ok(&["doctor"]).contains("of agents that the state does not know"));
    sandbox.assert_sound();
}

#[test]
fn branches_are_put_aside_without_asking_where_that_is_set_and_nothing_left_is_exit_5() {
    let sandbox = four();
    let text = gate("test", "test ! -e broken && test ! -e b");
    settings(&sandbox, &format!("gate-failure = 'put-aside'\n{text}"));
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(files(&sandbox), "a d src");
    assert!(out.stderr.contains("left birch out: the gate test fails with it (exit code 1)"), "{out}");
    assert!(out.stdout.contains("left out: birch, cedar"), "{out}");
    let tip = sandbox.git(&["rev-parse", "main"]);
    let out = sandbox.orchestra(&["merge", "cedar"]);
    assert_eq!(out.code, 5, "{out}");
    assert_eq!(sandbox.git(&["rev-parse", "main"]), tip);
    sandbox.assert_sound();
}

#[test]
fn a_gate_that_fails_once_is_told_as_flaky() {
    let sandbox = fleet(&[("ash", &[("a", "a\n")])]);
    let marker = "\"$HOME/seen-$GIT_ORCHESTRA_COMMIT\"";
    settings(&sandbox, &gate("test", &format!("test -e {marker} || {{ touch {marker}; exit 1; }}")));
    let out = sandbox.orchestra(&["merge", "--json"]);
    assert_eq!(out.code, 0, "{out}");
    let landed: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    let [run] = &landed["data"]["merge"]["gates"].as_array().unwrap()[..] else { panic!("{landed:#}") };
    assert_eq!((&run["flaky"], &run["runs"]), (&true.into(), &2.into()), "{run}");
    let shown = sandbox.ok(&["show", landed["data"]["merge"]["id"].as_str().unwrap()]);
    assert!(shown.contains("test passed with ash at") && shown.contains(", flaky"), "{shown}");
}

#[test]
fn one_that_takes_too_long_is_ended_to_its_last_process() {
    let sandbox = fleet(&[("ash", &[("a", "a\n")])]);
    let seconds = seconds(21);
    let script = format!(
        "test ! -e a || {{ trap \"\" TERM; setsid sleep {seconds} & echo waiting; sleep {seconds}; }}"
    );
    settings(&sandbox, &format!("grace = '1s'\n{}timeout = '1s'\n", gate("slow", &script)));
    let out = sandbox.orchestra(&["merge"]);
    assert!(out.code == 3 && out.stderr.contains("it was ended after 1 s"), "{out}");
    assert!(poll(|| (!runs(&seconds)).then_some(())).is_some());
    let merge = sandbox.json(&["merge", "--abort"]);
    assert_eq!(merge["data"]["merge"]["gates"][0]["outcome"], "timed-out", "{merge:#}");
}

#[test]
fn a_gate_of_the_repository_waits_for_approval_and_is_never_left_out_silently() {
    let sandbox = fleet(&[("ash", &[("a", "a\n")])]);
    sandbox.write("orchestra.toml", "[gate.test]\nrun = 'touch ../../canary'\n");
    sandbox.commit("settings");
    let tip = sandbox.git(&["rev-parse", "main"]);
    let out = sandbox.orchestra(&["merge"]);
    assert!(out.code == 1 && out.stderr.contains("`gate.test.run`: the repository names it"), "{out}");
    assert!(out.stderr.contains("--no-gates") && out.stderr.contains("config approve"), "{out}");
    assert!(!sandbox.root().join("canary").exists());
    assert_eq!(sandbox.git(&["rev-parse", "main"]), tip);
    let dry = sandbox.orchestra(&["merge", "--dry-run"]);
    assert!(dry.code == 0 && dry.stderr.contains("`gate.test.run`: the repository names it"), "{dry}");
    let shown = sandbox.orchestra(&["config", "approve"]);
    assert!(shown.stdout.contains("gate.test.run = touch ../../canary"), "{shown}");
    let hash = shown.stdout.lines().find_map(|line| line.strip_prefix("hash ")).unwrap().to_owned();
    sandbox.ok(&["config", "approve", "--hash", &hash]);
    assert_eq!(sandbox.orchestra(&["merge"]).code, 0);
    assert!(sandbox.root().join("canary").exists());
}

#[test]
fn no_branch_is_blamed_for_a_target_that_fails_by_itself() {
    let sandbox = four();
    let script = "echo always; test -e \"$HOME/mended\"";
    settings(&sandbox, &format!("gate-failure = 'put-aside'\n{}", gate("test", script)));
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stderr.contains("the gate test fails on main itself, before anything is merged"), "{out}");
    assert!(out.stderr.contains("gate test failed on the target alone"), "{out}");
    let id = open_decision(&sandbox);
    let refused = sandbox.orchestra(&["decide", &id, "put-aside"]);
    let keys = "`put-aside` is no answer to it; retry, land-anyway, abort are";
    assert!(refused.stderr.contains(keys), "{refused}");
    let before = ran(&sandbox).len();
    sandbox.ok(&["decide", &id, "retry"]);
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert!(out.code == 3 && ran(&sandbox).len() > before, "{out}");
    let other = open_decision(&sandbox);
    assert_ne!(other, id);
    sandbox.ok(&["decide", &other, "land-anyway"]);
    let before = ran(&sandbox).len();
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!((out.code, ran(&sandbox).len()), (0, before), "{out}");
    assert!(out.stderr.contains("landed as decided, though the gate test fails"), "{out}");
    assert_eq!(files(&sandbox), "a b broken c d src");

    // One that passes after another try.
    sandbox.plumb_commit("refs/heads/orchestra/ash", "more", &[("more", "m\n")]);
    assert_eq!(sandbox.orchestra(&["merge", "ash"]).code, 3);
    std::fs::write(sandbox.home().join("mended"), "").unwrap();
    sandbox.ok(&["decide", &open_decision(&sandbox), "retry"]);
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert!(out.code == 0 && out.stderr.contains("gate test passed on 1 branch"), "{out}");
    // And one that is given up.
    std::fs::remove_file(sandbox.home().join("mended")).unwrap();
    sandbox.plumb_commit("refs/heads/orchestra/ash", "even more", &[("even-more", "m\n")]);
    assert_eq!(sandbox.orchestra(&["merge", "ash"]).code, 3);
    sandbox.ok(&["decide", &open_decision(&sandbox), "abort"]);
    assert_eq!(sandbox.orchestra(&["merge", "--continue"]).code, 5);
    sandbox.assert_sound();
}

#[test]
fn a_target_that_moves_meanwhile_is_gated_again() {
    let sandbox = fleet(&[("ash", &[("a", "a\n")])]);
    let base = sandbox.git(&["rev-parse", "main"]);
    sandbox.git(&["update-ref", "refs/heads/next", &base]);
    let moved = sandbox.plumb_commit("refs/heads/next", "next", &[("next", "n\n")]);
    sandbox.git(&["checkout", "--quiet", "--detach"]);
    let script = format!("test -e next || git update-ref refs/heads/main {moved}");
    settings(&sandbox, &gate("test", &script));
    let out = sandbox.orchestra(&["merge", "--json"]);
    assert_eq!(out.code, 0, "{out}");
    let merge = serde_json::from_str::<serde_json::Value>(&out.stdout).unwrap()["data"]["merge"].clone();
    assert_eq!(ran(&sandbox).len(), 2);
    assert_eq!(merge["gates"][1]["commit"], merge["landed"], "{merge:#}");
    assert_ne!(merge["gates"][0]["commit"], merge["landed"]);
    assert_eq!(files(&sandbox), "a next src");
}

#[test]
fn a_kill_in_a_gate_is_gone_on_from() {
    let sandbox = four();
    let seconds = seconds(22);
    let wait =
        format!("test -e \"$HOME/go\" || {{ setsid sleep {seconds} & sleep {seconds}; }}; test ! -e broken");
    settings(&sandbox, &(gate("build", "true") + &gate("test", &wait)));
    let before = sandbox.fingerprint();
    let mut command = sandbox.command(ORCHESTRA);
    command.arg("merge").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for("the gate", || (ran(&sandbox).len() == 2 && runs(&seconds)).then_some(()));
    kill(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    let recovered = sandbox.ok(&["recover"]);
    assert!(recovered.contains("processes of gates, which a dead process had started"), "{recovered}");
    assert!(poll(|| (!runs(&seconds)).then_some(())).is_some(), "what the gate left is ended");
    assert_eq!(sandbox.fingerprint(), before);
    std::fs::write(sandbox.home().join("go"), "").unwrap();
    let out = sandbox.orchestra(&["merge"]);
    assert!(out.code == 3 && out.stderr.contains("was cut short: going on with that first"), "{out}");
    assert!(out.stderr.contains("the gate test fails with cedar"), "{out}");
    let builds = ran(&sandbox).iter().filter(|name| *name == "build").count();
    assert_eq!(builds, 3, "what it had said was not asked again");
    sandbox.ok(&["decide", &open_decision(&sandbox), "put-aside"]);
    sandbox.ok(&["merge", "--continue"]);
    assert_eq!(files(&sandbox), "a b d src");
    sandbox.assert_sound();
}

#[test]
fn ctrl_c_ends_a_gate_and_the_merge_goes_on_later() {
    let sandbox = fleet(&[("ash", &[("a", "a\n")])]);
    let seconds = seconds(23);
    let wait = format!("test -e \"$HOME/go\" || {{ setsid sleep {seconds} & sleep {seconds}; }}");
    settings(&sandbox, &gate("test", &wait));
    let mut terminal = Terminal::orchestra(&sandbox, &["merge", "--yes"], 24, 100);
    wait_for("the gate", || runs(&seconds).then_some(()));
    terminal.wait_for("gate test on 1 branch");
    terminal.type_in("\x03");
    assert_eq!(terminal.end(), 130, "{}", terminal.screen());
    assert!(terminal.screen().contains("interrupted; nothing has moved yet"), "{}", terminal.screen());
    assert!(poll(|| (!runs(&seconds)).then_some(())).is_some());
    std::fs::write(sandbox.home().join("go"), "").unwrap();
    sandbox.ok(&["merge", "--continue"]);
    assert_eq!(files(&sandbox), "a src");
}

#[test]
fn on_a_terminal_it_is_asked() {
    let sandbox = four();
    let mut terminal = Terminal::orchestra(&sandbox, &["merge", "--yes"], 40, 100);
    terminal.wait_for("[p/a/r/l/q/?]");
    let screen = terminal.screen();
    assert!(screen.contains("leave cedar out of this merge") && screen.contains("it is broken"), "{screen}");
    terminal.type_in("p\r");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    assert_eq!(files(&sandbox), "a b d src");
    // At a question a signal ends it as ever.
    let mut terminal = Terminal::orchestra(&sandbox, &["merge", "--yes", "cedar"], 40, 100);
    terminal.wait_for("[p/a/r/l/q/?]");
    terminal.signal(Signal::SIGTERM);
    assert_eq!(terminal.end(), 143);
}

#[test]
fn gates_can_be_chosen_and_left_out_aloud() {
    let sandbox = four();
    settings(&sandbox, &(gate("test", "exit 1") + &gate("build", "true")));
    let out = sandbox.orchestra(&["merge", "--gate", "build", "ash"]);
    assert_eq!((out.code, ran(&sandbox)), (0, vec!["build".to_owned()]), "{out}");
    let out = sandbox.orchestra(&["merge", "--no-gates", "--json", "birch"]);
    assert!(out.code == 0 && out.stderr.contains("without gates, as you say: build, test not run"), "{out}");
    let landed: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!(landed["data"]["merge"]["gates"][0]["outcome"], "left-out", "{landed:#}");
    let shown = sandbox.ok(&["show", landed["data"]["merge"]["id"].as_str().unwrap()]);
    assert!(shown.contains("build left out with birch") && shown.contains("by Ada Example"), "{shown}");
    assert_eq!(ran(&sandbox).len(), 1);
    let unknown = sandbox.orchestra(&["merge", "--gate", "lint"]);
    assert!(unknown.stderr.contains("there are build, test"), "{unknown}");
}

#[test]
fn builds_go_on_from_what_they_have_and_leftovers_go() {
    let mut sandbox = four();
    sandbox.write(".gitignore", "built\n");
    sandbox.write("src/slow", "s\n");
    sandbox.commit("ignore");
    let build = "test ! -e left; touch left; echo x >>built; echo edited >src/f; grep -q s src/slow \
                 && test \"$TOKEN\" = secret && test -z \"$GITHUB_TOKEN$GIT_DIR\" \
                 && wc -l <built >\"$HOME/lines\"; git diff --quiet HEAD -- src/slow";
    settings(&sandbox, &format!("{}pass-env = ['TOKEN']\n", gate("build", build)));
    sandbox.set_env("TOKEN", "secret");
    sandbox.set_env("GITHUB_TOKEN", "other");
    let lines =
        |sandbox: &Sandbox| std::fs::read_to_string(sandbox.home().join("lines")).unwrap().trim().to_owned();
    for name in ["ash", "birch"] {
        sandbox.ok(&["merge", name]);
    }
    assert_eq!(lines(&sandbox), "2");
    let tried = sandbox.root().join("repo.orchestra/merges-are-tried-here");
    assert!(tried.join("built").exists());
    let pruned = sandbox.ok(&["prune", "--yes"]);
    assert!(pruned.contains("merges-are-tried-here") && !tried.exists(), "{pruned}");
    sandbox.ok(&["merge", "dogwood"]);
    assert_eq!(lines(&sandbox), "1");
    // Removed by hand, it is made again.
    std::fs::remove_dir_all(&tried).unwrap();
    sandbox.ok(&["merge", "cedar"]);
    assert_eq!(lines(&sandbox), "1");
    sandbox.assert_sound();
}

#[test]
fn what_runs_by_itself_later_is_asked_about_before_anything_of_it_runs() {
    let workflow = ".github/workflows/ci.yml";
    let sandbox = fleet(&[("ash", &[("a", "a\n")]), ("birch", &[(workflow, "on: push\n"), ("b", "b\n")])]);
    settings(&sandbox, &gate("test", "true"));
    // Not even `--yes` answers that.
    let out = sandbox.orchestra(&["merge", "--yes"]);
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stderr.contains("birch changes what is run by itself: .github/workflows/ci.yml"), "{out}");
    assert!(ran(&sandbox).is_empty(), "{out}");
    let id = open_decision(&sandbox);
    let shown = sandbox.ok(&["show", &id]);
    assert!(shown.contains("- .github/workflows/ci.yml: +1 -0") && shown.contains("git diff "), "{shown}");
    assert_eq!(sandbox.orchestra(&["merge", "--continue"]).code, 3);
    assert_eq!(open_decision(&sandbox), id, "the same is not asked twice");
    // Another content is another question.
    sandbox.plumb_commit("refs/heads/orchestra/birch", "more", &[(workflow, "on: [push, pull_request]\n")]);
    assert_eq!(sandbox.orchestra(&["merge", "--continue"]).code, 3);
    let other = open_decision(&sandbox);
    assert_ne!(other, id);
    sandbox.ok(&["decide", &other, "approve"]);
    sandbox.ok(&["merge", "--continue"]);
    assert_eq!(files(&sandbox), ".github a b src");

    sandbox.plumb_commit("refs/heads/orchestra/ash", "hooks", &[(".gitattributes", "* filter=x\n")]);
    let mut terminal = Terminal::orchestra(&sandbox, &["merge", "--yes", "--no-gates"], 40, 100);
    terminal.wait_for("[y/p/q/?]");
    terminal.type_in("p\r");
    assert_eq!(terminal.end(), 0, "{}", terminal.screen());
    assert_eq!(files(&sandbox), ".github a b src");
    sandbox.git(&["config", "--global", "orchestra.merge.executables", "land"]);
    sandbox.ok(&["merge", "--no-gates"]);
    assert_eq!(files(&sandbox), ".gitattributes .github a b src");
}

#[test]
fn a_gate_that_changes_what_git_runs_lands_nothing() {
    let sandbox = fleet(&[("ash", &[("a", "a\n")])]);
    settings(&sandbox, &gate("test", "git config core.fsmonitor \"touch $HOME/canary\""));
    let tip = sandbox.git(&["rev-parse", "main"]);
    let out = sandbox.orchestra(&["merge"]);
    assert!(out.code == 1 && out.stderr.contains("somebody changed what it runs here (config)"), "{out}");
    assert_eq!(sandbox.git(&["-c", "core.fsmonitor=false", "rev-parse", "main"]), tip);
    assert!(!sandbox.home().join("canary").exists());
}

//! `run`: tasks from their agents to the branch that they land on, through failures, gates, kills and by hand.

use crate::harness::sandbox::{ORCHESTRA, kill, poll, wait_for, write_in};
use crate::harness::{Sandbox, Terminal};
use crate::merge::open_decision;
use crate::spawn::{runs, seconds};
use nix::sys::signal::Signal;
use serde_json::Value;
use std::process::Stdio;

/// Each agent makes a file that is called like itself. One for which there is `fail-NAME` in HOME fails; of one that is
/// called `broken` the gate does not like what it made.
const AGENT: &str = "n=$GIT_ORCHESTRA_AGENT_NAME; echo work >$n; test ! -e \"$HOME/fail-$n\"";

fn sandbox(more: &str) -> Sandbox {
    scripted(AGENT, more)
}

fn scripted(script: &str, more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let words = serde_json::json!(["/bin/sh", "-c", script]);
    let config = format!(
        "default-profile = 'sh'\n{more}\n[profile.sh]\nprogram = 'command'\ncommand = {words}\n\
         [gate.test]\nrun = 'echo gate >>\"$HOME/gates\"; test ! -e broken'\nretries = 0\n"
    );
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &config);
    sandbox
}

fn add(sandbox: &Sandbox, title: &str) -> String {
    sandbox.ok(&["task", "add", title]).trim().to_owned()
}

fn files(sandbox: &Sandbox) -> String {
    sandbox.git(&["ls-tree", "--name-only", "main"]).replace('\n', " ").replace("README.md ", "")
}

/// The newest pipeline, as its record says.
fn pipeline(sandbox: &Sandbox) -> Value {
    let listed = sandbox.git(&["ls-tree", "-r", "--name-only", "refs/orchestra/state", "pipelines/"]);
    let ids = listed.lines().map(|path| path.rsplit('/').next().unwrap().strip_suffix(".json").unwrap());
    let all = ids.map(|id| sandbox.json(&["show", id])["data"].clone());
    all.max_by_key(|one| one["created"].as_u64().unwrap()).unwrap()
}

#[test]
fn tasks_go_all_the_way_those_that_come_after_others_too() {
    let sandbox = sandbox("");
    let remote = sandbox.root().join("remote.git");
    sandbox.git(&["init", "--quiet", "--bare", "-b", "main", remote.to_str().unwrap()]);
    sandbox.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    let (one, two) = (add(&sandbox, "One"), add(&sandbox, "Two"));
    let three = sandbox.ok(&["task", "add", "Three", "--after", &one]).trim().to_owned();
    let out = sandbox.orchestra(&["run", &one, &two, &three, "--push", "origin"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(files(&sandbox), "one three two");
    assert!(sandbox.repo().join("three").exists(), "the files of the checkout moved with it");
    assert!(out.stderr.contains("is done: 3 of 3 tasks landed"), "{out}");
    assert!(out.stdout.contains("pushed main at"), "{out}");
    let there = sandbox.git_in(&remote, &["rev-parse", "main"]);
    assert_eq!(there, sandbox.git(&["rev-parse", "main"]));
    let gates = std::fs::read_to_string(sandbox.home().join("gates")).unwrap();
    assert_eq!(gates.lines().count(), 2, "once for each merge");
    let record = pipeline(&sandbox);
    assert_eq!((&record["status"], &record["push"]), (&"done".into(), &"origin".into()), "{record:#}");
    let shown = sandbox.ok(&["show", record["short"].as_str().unwrap()]);
    assert!(shown.contains("Three  landed"), "{shown}");
    assert!(sandbox.orchestra(&["run", "--continue"]).stderr.contains("no pipeline is under way"));
    // All of it is one operation.
    let undone = sandbox.orchestra(&["undo", "--yes"]);
    assert_eq!((undone.code, files(&sandbox)), (0, "README.md".to_owned()), "{undone}");
    assert_eq!(sandbox.json(&["task", "list"])["data"].as_array().unwrap().len(), 3);
    sandbox.assert_sound();
}

#[test]
fn an_agent_that_failed_is_asked_about_and_can_be_left_or_try_again() {
    let sandbox = sandbox("");
    for title in ["One", "Two"] {
        add(&sandbox, title);
    }
    std::fs::write(sandbox.home().join("fail-two"), "").unwrap();
    let before = sandbox.fingerprint();
    let out = sandbox.orchestra(&["run"]);
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stderr.contains("two did not end well") && out.stderr.contains("run --continue"), "{out}");
    assert_eq!(sandbox.fingerprint(), before);
    let id = open_decision(&sandbox);
    let shown = sandbox.ok(&["show", &id]);
    assert!(shown.contains("go on with the 1 that are done, and leave two"), "{shown}");
    // The same question is not asked twice.
    assert_eq!(sandbox.orchestra(&["run", "--continue"]).code, 3);
    assert_eq!(open_decision(&sandbox), id);
    sandbox.ok(&["decide", &id, "retry"]);
    assert_eq!(sandbox.orchestra(&["run", "--continue"]).code, 3, "it failed again");
    let other = open_decision(&sandbox);
    assert_ne!(other, id);
    sandbox.ok(&["decide", &other, "go-on"]);
    let overlap = sandbox.orchestra(&["overlap", "--json"]);
    assert!(overlap.stderr.contains("two is left out: its last run failed"), "{overlap}");
    let overlap: Value = serde_json::from_str(&overlap.stdout).unwrap();
    let left = serde_json::json!([{"name": "two", "why": "its last run failed"}]);
    assert_eq!(overlap["data"]["left_out"], left);
    let out = sandbox.orchestra(&["run", "--continue"]);
    let result = "is done: 1 of 2 tasks landed; left out: two (its last run failed)";
    assert!(out.code == 0 && out.stderr.contains(result), "{out}");
    assert_eq!(files(&sandbox), "one");

    add(&sandbox, "Three");
    std::fs::write(sandbox.home().join("fail-three"), "").unwrap();
    assert_eq!(sandbox.orchestra(&["run"]).code, 3);
    std::fs::remove_file(sandbox.home().join("fail-three")).unwrap();
    let out = sandbox.orchestra(&["run", "--retry"]);
    assert_eq!((out.code, files(&sandbox)), (0, "one three".to_owned()), "{out}");
    sandbox.assert_sound();
}

#[test]
fn a_pipeline_of_which_nothing_landed_since_its_agents_failed_ends_as_they_did() {
    let sandbox = sandbox("");
    add(&sandbox, "Two");
    std::fs::write(sandbox.home().join("fail-two"), "").unwrap();
    assert_eq!(sandbox.orchestra(&["run"]).code, 3);
    sandbox.ok(&["decide", &open_decision(&sandbox), "go-on"]);
    let out = sandbox.orchestra(&["run", "--continue"]);
    let result = "is done: 0 of 1 tasks landed; left out: two (its last run failed)";
    assert!(out.code == 4 && out.stderr.contains(result), "{out}");
}

/// An agent that rewrote its branch without its history, and one that left its branch with work it did not commit.
#[test]
fn what_cannot_be_merged_is_asked_about_and_holds_back_nothing() {
    let script = "n=$GIT_ORCHESTRA_AGENT_NAME; echo work >$n; test -e \"$HOME/again\" && exit; case $n in \
                  orphan*) git add $n; c=$(git commit-tree -m $n $(git write-tree)); \
                  git update-ref $(git symbolic-ref HEAD) $c;; \
                  astray*) git checkout -q -b mine;; esac";
    let sandbox = scripted(script, "");
    for title in ["One", "Orphan", "Astray"] {
        add(&sandbox, title);
    }
    let out = sandbox.orchestra(&["run"]);
    assert_eq!(out.code, 3, "{out}");
    assert!(
        out.stderr.contains("astray, orphan cannot be merged")
            || out.stderr.contains("orphan, astray cannot be merged"),
        "{out}"
    );
    let id = open_decision(&sandbox);
    let shown = sandbox.ok(&["show", &id]);
    assert!(shown.contains("`orphan`: its branch shares no history with main"), "{shown}");
    assert!(shown.contains("`astray`: its worktree is on the branch mine, with uncommitted work"), "{shown}");
    assert!(shown.contains("go on with the 1 that are done, and leave"), "{shown}");

    // The forecast says so too.
    let overlap = sandbox.ok(&["overlap"]);
    let last = overlap.trim_end().lines().last();
    assert_eq!(last, Some("orphan and main: no history in common, no merge takes it"), "{overlap}");
    let row = |name: &str| {
        let line = overlap.lines().filter(|line| line.contains(name)).nth(1);
        line.map(|line| line.split_whitespace().skip(2).collect::<Vec<_>>()).unwrap_or_default()
    };
    assert_eq!(row(" orphan").first(), Some(&"x"), "{overlap}");
    assert_eq!(row(" one").first(), Some(&"·"), "{overlap}");
    assert!(overlap.contains("2! paths conflict   x no common history"), "{overlap}");
    let json = sandbox.json(&["overlap", "orphan"]);
    assert_eq!(json["data"]["pairs"][0]["forecast"], serde_json::json!({"is": "unrelated"}));
    assert!(sandbox.ok(&["overlap", "--porcelain", "orphan"]).starts_with("unrelated\t0\t0\torphan\t"));

    // By hand, without naming anybody, the others land too; whom somebody names is an error.
    let planned = sandbox.orchestra(&["merge", "--dry-run", "--json"]);
    let planned: Value = serde_json::from_str(&planned.stdout).unwrap();
    let left = serde_json::json!([
        {"name": "orphan", "why": "its branch shares no history with main"},
        {"name": "astray", "why": "its worktree is on the branch mine, with uncommitted work"},
    ]);
    assert_eq!(planned["data"]["left_out"], left);
    let named = sandbox.orchestra(&["merge", "one", "orphan"]);
    assert!(named.code == 1 && named.stderr.contains("shares no history with main"), "{named}");
    let named = sandbox.orchestra(&["merge", "one", "astray"]);
    let kept = "merge astray: its worktree is on the branch mine, with uncommitted work, which is kept as \
                refs/orchestra/rescue/astray/";
    assert!(named.code == 1 && named.stderr.contains(kept), "{named}");
    let merged = sandbox.orchestra(&["merge"]);
    assert_eq!((merged.code, files(&sandbox)), (0, "one".to_owned()), "{merged}");
    assert!(merged.stderr.contains("orphan is left out: its branch shares no history with main"), "{merged}");

    sandbox.ok(&["decide", &id, "go-on"]);
    let out = sandbox.orchestra(&["run", "--continue"]);
    assert_eq!((out.code, files(&sandbox)), (0, "one".to_owned()), "{out}");
    let result = pipeline(&sandbox)["result"].to_string();
    assert!(result.contains("1 of 3 tasks landed; left out: orphan (its branch shares no history with main), astray (its worktree is on the branch mine"), "{result}");
    sandbox.assert_sound();
}

#[test]
fn what_a_gate_fails_with_is_mended_on_the_way_where_that_is_set() {
    let script = "n=$GIT_ORCHESTRA_AGENT_NAME; case $n in mend-*) rm broken;; broken*) echo work >broken; echo more >with-$n;; *) echo work >$n; echo more >with-$n;; esac";
    let settings = "[pipeline.night]\nlabels = ['night']\nmends = 1\n[pipeline.day]\nlabels = ['day']\n";
    let sandbox = scripted(script, settings);
    for (title, label) in [("One", "night"), ("Broken", "night"), ("Two", "day")] {
        sandbox.ok(&["task", "add", title, "--label", label]);
    }
    let out = sandbox.orchestra(&["run", "night"]);
    assert_eq!((out.code, files(&sandbox)), (0, "one with-broken with-one".to_owned()), "{out}");
    assert_eq!(pipeline(&sandbox)["result"], "2 of 2 tasks landed");
    let out = sandbox.orchestra(&["run", "day"]);
    assert_eq!(out.code, 0, "{out}");
    sandbox.ok(&["task", "add", "Broken", "--label", "day"]);
    assert_eq!(sandbox.orchestra(&["run", "day"]).code, 3, "nobody is asked where nothing says so");
    let out = sandbox.orchestra(&["run", "--continue", "--mend"]);
    assert_eq!(out.code, 0, "{out}");
    assert!(files(&sandbox).starts_with("one two with-broken"), "{}", files(&sandbox));
    sandbox.assert_sound();
}

#[test]
fn a_task_that_would_meet_another_begins_where_that_one_landed() {
    let script = "n=$GIT_ORCHESTRA_AGENT_NAME; echo $n $(git rev-list --count HEAD) >>\"$HOME/began\"; \
                  case $n in docs*) echo $n >docs;; *) sed -i \"1s/.*/$n $(head -1 menu)/\" menu;; esac";
    let began = |sandbox: &Sandbox| -> Vec<String> {
        let text = std::fs::read_to_string(sandbox.home().join("began")).unwrap_or_default();
        text.lines().map(|line| line.split(' ').next().unwrap().to_owned()).collect()
    };
    for hold in ["touches", "off"] {
        let sandbox = scripted(script, &format!("hold = '{hold}'\n"));
        sandbox.write("menu", "soup\n");
        sandbox.commit("a menu");
        for (title, touches) in [("Fish", "menu"), ("Rice", "menu"), ("Docs", "docs")] {
            sandbox.ok(&["task", "add", title, "--touches", touches]);
        }
        let out = sandbox.orchestra(&["run", "--json"]);
        let told = "holding back “Rice” until “Fish” is done: both will probably change menu";
        assert_eq!(out.stdout.contains(told), hold == "touches", "{out}");
        if hold == "off" {
            assert_eq!(out.code, 3, "they conflict, as was to be expected\n{out}");
            continue;
        }
        assert_eq!((out.code, sandbox.read("menu").as_str()), (0, "rice fish soup\n"), "{out}");
        assert_eq!(began(&sandbox).last().map(String::as_str), Some("rice"));
        assert_eq!(pipeline(&sandbox)["result"], "3 of 3 tasks landed");
        // On a console too, and one that nobody is at work beside is never held back.
        for title in ["Beans", "Salad"] {
            sandbox.ok(&["task", "add", title, "--touches", "menu"]);
        }
        let out = sandbox.orchestra(&["run"]);
        assert!(out.code == 0 && out.stderr.contains("holding back “Salad” until “Beans” is done"), "{out}");
        assert_eq!(sandbox.read("menu"), "salad beans rice fish soup\n");
        sandbox.assert_sound();
    }
}

#[test]
fn what_passed_lands_before_the_pipeline_waits_where_that_is_set() {
    let sandbox = sandbox("[pipeline.night]\nlabels = ['night']\nlanding = 'prefixes'\n");
    for title in ["One", "Broken", "Two"] {
        sandbox.ok(&["task", "add", title, "--label", "night"]);
    }
    let out = sandbox.orchestra(&["run", "night"]);
    assert_eq!(out.code, 3, "{out}");
    let landed = files(&sandbox);
    assert!(landed.contains("one") && !landed.contains("broken"), "{landed}\n{out}");
    assert_eq!(pipeline(&sandbox)["result"], "the merge waits");
    assert_eq!(sandbox.orchestra(&["run", "--continue"]).code, 3, "and goes on to wait");
    sandbox.ok(&["decide", &open_decision(&sandbox), "put-aside"]);
    let out = sandbox.orchestra(&["run", "--continue"]);
    assert_eq!((out.code, files(&sandbox)), (0, "one two".to_owned()), "{out}");
    assert_eq!(
        pipeline(&sandbox)["result"],
        "2 of 3 tasks landed; left out: broken (the gate test fails with it (exit code 1))"
    );
    sandbox.assert_sound();
}

#[test]
fn a_gate_that_fails_stops_it_and_an_answer_goes_on() {
    let sandbox = sandbox("[pipeline.night]\nlabels = ['night']\ngates = ['test']\napprove = 'problems'\n");
    for title in ["One", "Broken"] {
        sandbox.ok(&["task", "add", title, "--label", "night"]);
    }
    add(&sandbox, "Another");
    let out = sandbox.orchestra(&["run", "night"]);
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stderr.contains("the gate test fails with broken"), "{out}");
    assert_eq!(pipeline(&sandbox)["result"], "the merge waits");
    let decided = sandbox.orchestra(&["decide", &open_decision(&sandbox), "put-aside"]);
    assert!(decided.stderr.contains("`git orchestra run --continue` goes on with the pipeline"), "{decided}");
    let out = sandbox.orchestra(&["run", "--continue"]);
    assert_eq!((out.code, files(&sandbox)), (0, "one".to_owned()), "{out}");
    let record = pipeline(&sandbox);
    let left = "1 of 2 tasks landed; left out: broken (the gate test fails with it (exit code 1))";
    assert_eq!(record["result"], left, "{record:#}");
    assert_eq!(record["name"], "night");

    // What one that is given up has begun stays, and nothing moved.
    sandbox.ok(&["task", "add", "Worse", "--label", "night"]);
    std::fs::write(sandbox.home().join("fail-worse"), "").unwrap();
    assert_eq!(sandbox.orchestra(&["run", "night"]).code, 3);
    sandbox.ok(&["run", "--cancel"]);
    assert!(sandbox.json(&["decide"])["data"].as_array().unwrap().is_empty());
    assert_eq!(
        (pipeline(&sandbox)["status"].clone(), files(&sandbox)),
        ("cancelled".into(), "one".to_owned())
    );
}

#[test]
fn on_a_terminal_each_problem_is_asked_there() {
    let sandbox = sandbox("");
    for title in ["One", "Two"] {
        add(&sandbox, title);
    }
    std::fs::write(sandbox.home().join("fail-two"), "").unwrap();
    let mut terminal = Terminal::orchestra(&sandbox, &["run"], 40, 100);
    terminal.wait_for("[g/r/c/?]");
    assert!(terminal.screen().contains("two did not end well"), "{}", terminal.screen());
    terminal.type_in("g\r");
    terminal.wait_for("merge this branch into main? [Y/n]");
    terminal.type_in("n\r");
    assert_eq!(terminal.end(), 1, "{}", terminal.screen());
    assert_eq!(pipeline(&sandbox)["result"], "the merge did not land");
    let out = sandbox.orchestra(&["run", "--continue"]);
    assert_eq!((out.code, files(&sandbox)), (0, "one".to_owned()), "{out}");
}

#[test]
fn a_merge_that_was_ended_by_hand_is_seen() {
    let sandbox = sandbox("");
    for title in ["One", "Broken"] {
        add(&sandbox, title);
    }
    assert_eq!(sandbox.orchestra(&["run"]).code, 3);
    sandbox.ok(&["decide", &open_decision(&sandbox), "land-anyway"]);
    sandbox.ok(&["merge", "--continue"]);
    let out = sandbox.orchestra(&["run", "--continue"]);
    assert!(out.code == 0 && out.stderr.contains("2 of 2 tasks landed"), "{out}");
}

#[test]
fn a_kill_while_agents_work_is_gone_on_from() {
    let seconds = seconds(24);
    let script = format!("{AGENT}; test -e \"$HOME/go\" || sleep {seconds}");
    let sandbox = scripted(&script, "grace = '1s'");
    for title in ["One", "Two"] {
        add(&sandbox, title);
    }
    let mut command = sandbox.command(ORCHESTRA);
    command.arg("run").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for("the agents", || runs(&seconds).then_some(()));
    let busy = sandbox.orchestra(&["run", "--continue"]);
    assert!(busy.code == 1 && busy.stderr.contains("another process is at it"), "{busy}");
    kill(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    std::fs::write(sandbox.home().join("go"), "").unwrap();
    let out = sandbox.orchestra(&["run", "--continue"]);
    assert_eq!((out.code, files(&sandbox)), (0, "one two".to_owned()), "{out}");
    assert!(poll(|| (!runs(&seconds)).then_some(())).is_some());
    sandbox.assert_sound();
}

#[test]
fn what_could_not_come_to_its_end_does_not_begin() {
    let sandbox = sandbox("");
    add(&sandbox, "One");
    for (args, words) in [
        (&["run", "--push", "nowhere"][..], "nowhere"),
        (&["run", "--profile", "nobody"], "find the profile `nobody`"),
        (&["run", "--gate", "lint"], "`gate.lint.run` is not set"),
    ] {
        let out = sandbox.orchestra(args);
        assert!(out.code != 0 && out.stderr.contains(words), "{out}");
        assert_eq!(sandbox.json(&["status", "--all"])["data"].as_array().unwrap().len(), 0);
    }
    sandbox.write("orchestra.toml", "[pipeline.all]\npush = 'origin'\n");
    let out = sandbox.orchestra(&["run", "all"]);
    assert!(out.code == 1 && out.stderr.contains("`pipeline.all.push`: the repository names it"), "{out}");
}

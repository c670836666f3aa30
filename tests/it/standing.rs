//! What is told of how agents stand: by `status`, `wait`, `log`, `cost`, and by those who are asked to change it.

use serde_json::{Value, json};

use crate::harness::programs::use_claude;
use crate::harness::sandbox::{kill, wait_for};
use crate::harness::{Endpoint, Sandbox, Step};
use crate::life::{sandbox, set_profile, state, watcher};
use crate::recover::worktree;

fn spawn(sandbox: &Sandbox, name: &str, how: &[&str]) {
    sandbox.orchestra(&[&["spawn", "-m", "Work", "--profile", "sh", "--name", name], how].concat());
}

/// An agent's line in the table.
fn line(sandbox: &Sandbox, name: &str) -> String {
    let table = sandbox.ok(&["status"]);
    table.lines().find(|line| line.starts_with(name)).unwrap_or_else(|| panic!("{table}")).to_owned()
}

#[test]
fn one_that_waits_for_its_turn_has_no_branch_that_could_be_gone() {
    let sandbox = sandbox("exec sleep 600");
    for name in ["ada", "bob"] {
        spawn(&sandbox, name, &["--detach", "--jobs", "1"]);
    }
    assert_eq!(state(&sandbox, "bob")["state"], "queued");
    assert!(!line(&sandbox, "bob").contains("gone"), "{}", line(&sandbox, "bob"));
    let removed = sandbox.orchestra(&["remove", "bob"]);
    assert!(
        removed.code == 1
            && removed.stderr.contains("remove bob: it waits for its turn")
            && removed.stderr.contains("`git orchestra stop bob --wait` takes it out of the queue"),
        "{removed}"
    );
    // Those that exist are stopped, whatever else was named.
    let stopped = sandbox.orchestra(&["stop", "nosuch", "ada", "nobody", "bob", "--wait"]);
    assert_eq!(stopped.code, 8, "{stopped}");
    assert!(stopped.stderr.contains("nosuch") && stopped.stderr.contains("nobody"), "{stopped}");
    assert_eq!(
        (&state(&sandbox, "ada")["state"], &state(&sandbox, "bob")["state"]),
        (&json!("stopped"), &json!("new"))
    );
    assert!(!line(&sandbox, "bob").contains("gone"), "{}", line(&sandbox, "bob"));
    // What had a branch and lost it is told as before.
    sandbox.git(&["worktree", "remove", "--force", worktree(&sandbox, "ada").to_str().unwrap()]);
    sandbox.git(&["branch", "-D", "orchestra/ada"]);
    assert!(line(&sandbox, "ada").contains("gone"), "{}", line(&sandbox, "ada"));
}

#[test]
fn what_one_that_was_cut_off_did_not_commit_is_counted() {
    let sandbox = sandbox("echo up >up; [ ! -e ../../fail ] || exit 1");
    spawn(&sandbox, "well", &[]);
    set_profile(&sandbox, &["/bin/sh", "-c", "exit 3"]);
    spawn(&sandbox, "failed", &[]);
    for name in ["well", "failed"] {
        std::fs::write(worktree(&sandbox, name).join("more.txt"), "more\n").unwrap();
    }
    assert_eq!(state(&sandbox, "failed")["state"], "failed");
    assert_eq!(state(&sandbox, "failed")["uncommitted"], 1);
    assert!(line(&sandbox, "failed").contains(" 1* "), "{}", line(&sandbox, "failed"));
    assert_eq!(state(&sandbox, "well")["uncommitted"], Value::Null, "nobody looked");
    std::fs::remove_dir_all(worktree(&sandbox, "failed")).unwrap();
    assert_eq!(state(&sandbox, "failed")["uncommitted"], Value::Null);
}

#[test]
fn what_one_does_is_there_in_fields_and_its_question_is_told_to_whoever_waits() {
    let script = vec![Step::bash("sh -c 'date >marker; sleep 600'"), Step::say("Finished.")];
    let endpoint = Endpoint::start([("Do the work", script)]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    sandbox.ok(&["spawn", "--detach", "-m", "Do the work", "--name", "heron"]);
    let id =
        wait_for("a decision", || sandbox.json(&["decide"])["data"][0]["id"].as_str().map(str::to_owned));
    // Its journal has the question before its lease names the decision.
    let seen = wait_for("the question", || {
        let seen = state(&sandbox, "heron");
        (seen["decision"] == json!(id)).then_some(seen)
    });
    assert!(seen["state"] == "waiting" && seen["pid"].is_u64() && seen["tool"].is_null(), "{seen:#}");
    let waited = sandbox.orchestra(&["wait", "heron", "--timeout", "1s"]);
    assert_eq!(waited.code, 7, "{waited}");
    let short = sandbox.json(&["show", &id])["data"]["short"].as_str().unwrap().to_owned();
    let said = format!("heron waits for decision {short}; `git orchestra decide` answers it\n");
    assert_eq!(waited.stderr, said);
    for quiet in [
        &["wait", "heron", "--timeout", "1s", "--json"][..],
        &["wait", "heron", "--timeout", "1s", "--quiet"],
    ] {
        assert_eq!(sandbox.orchestra(quiet).stderr, "");
    }
    // Its record has no model yet; its program has named it.
    let costs = sandbox.json(&["cost", "--by", "model"]);
    assert!(
        costs["data"]["groups"][0]["model"].is_string() || costs.to_string().contains("claude"),
        "{costs:#}"
    );
    assert!(!sandbox.ok(&["cost", "--by", "model"]).contains("(none)"));
    sandbox.ok(&["decide", &id, "allow"]);
    let seen = wait_for("the tool", || {
        let seen = state(&sandbox, "heron");
        seen["tool"].is_object().then_some(seen)
    });
    let tool = &seen["tool"];
    assert!(tool["name"] == "Bash" && tool["since"].is_u64() && seen["decision"].is_null(), "{seen:#}");
    assert!(tool["summary"].as_str().unwrap().contains("date >marker"), "{seen:#}");
    sandbox.ok(&["stop", "heron", "--now", "--wait"]);
    let seen = state(&sandbox, "heron");
    assert!(seen["tool"].is_null() && seen["pid"].is_null(), "{seen:#}");
}

#[test]
fn one_that_runs_on_unwatched_does_not_widen_the_table() {
    let sandbox = sandbox("echo up; exec sleep 600");
    spawn(&sandbox, "ada", &["--detach"]);
    wait_for("its process", || state(&sandbox, "ada")["pid"].as_u64());
    kill(watcher(&sandbox), nix::sys::signal::Signal::SIGKILL);
    let shown = wait_for("its end", || {
        let shown = sandbox.orchestra(&["status"]);
        shown.stdout.contains("lost").then_some(shown)
    });
    assert!(shown.stdout.contains("still runs)") && !shown.stdout.contains("recover"), "{shown}");
    assert!(shown.stderr.contains("hint: `git orchestra recover` ends process "), "{shown}");
    assert!(state(&sandbox, "ada")["pid"].is_u64());
    sandbox.ok(&["recover"]);
}

#[test]
fn the_end_of_what_one_said_is_shown_alone() {
    let sandbox = sandbox("i=0; while [ $i -lt 500 ]; do echo line $i; i=$((i+1)); done");
    spawn(&sandbox, "ada", &[]);
    sandbox.ok(&["resume", "ada"]);
    let shown = sandbox.orchestra(&["log", "ada", "-n", "3"]);
    assert!(
        shown.code == 0 && shown.stdout.starts_with("run 2, ") && !shown.stdout.contains("run 1"),
        "{shown}"
    );
    assert!(shown.stdout.lines().count() == 4 && shown.stdout.contains("line 499"), "{shown}");
    assert!(shown.stderr.contains(" earlier events are left out; without `-n` all are shown"), "{shown}");
    let first = sandbox.ok(&["log", "ada", "-n", "3", "--run", "1"]);
    assert!(first.starts_with("run 1, ") && first.lines().count() == 4, "{first}");
    assert_eq!(sandbox.ok(&["log", "ada", "-n", "2", "--raw"]), "line 498\nline 499");
    let data = &sandbox.json(&["log", "ada", "-n", "4"])["data"];
    assert_eq!(
        (data.as_array().unwrap().len(), data[0]["events"].as_array().unwrap().len()),
        (1, 4),
        "{data:#}"
    );
    let followed = sandbox.ok(&["log", "ada", "-n", "2", "--follow"]);
    assert!(followed.lines().count() == 3 && followed.contains("line 499"), "{followed}");
    assert_eq!(sandbox.ok(&["log", "ada", "-n", "0"]), sandbox.ok(&["log", "ada"]));
}

#[test]
fn one_that_cannot_go_on_says_what_is_missing_and_how_it_comes_back() {
    let sandbox = sandbox("echo more >>done");
    spawn(&sandbox, "ada", &[]);
    let path = worktree(&sandbox, "ada");
    // Renamed: the worktree goes along.
    sandbox.git_in(&path, &["branch", "-m", "mine"]);
    let refused = sandbox.orchestra(&["resume", "ada"]);
    assert_eq!(refused.code, 1, "{refused}");
    for words in [
        "resume ada: its branch orchestra/ada is gone, and its worktree is on the branch mine",
        "`git branch -m mine orchestra/ada` gives that its name again",
        "`git orchestra recover ada` makes its branch again",
        "switch orchestra/ada` goes there",
    ] {
        assert!(refused.stderr.contains(words), "{words}\n{refused}");
    }
    assert_eq!(state(&sandbox, "ada")["runs"], 1);
    sandbox.git(&["branch", "-m", "mine", "orchestra/ada"]);
    assert_eq!(sandbox.orchestra(&["resume", "ada"]).code, 0);
    // Something else is where its worktree was.
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("mine"), "").unwrap();
    let refused = sandbox.orchestra(&["resume", "ada"]);
    assert!(
        refused.code == 1
            && refused.stderr.contains("is not its worktree any more")
            && refused.stderr.contains("hint: move that away, then: git orchestra recover ada"),
        "{refused}"
    );
    std::fs::remove_dir_all(&path).unwrap();
    sandbox.ok(&["recover", "ada"]);
    assert_eq!(sandbox.orchestra(&["resume", "ada"]).code, 0);
    // And removed.
    sandbox.ok(&["remove", "ada"]);
    let refused = sandbox.orchestra(&["resume", "ada"]);
    assert!(
        refused.stderr.contains("`git orchestra undo` brings it back")
            && !refused.stderr.contains("for its task"),
        "{refused}"
    );
    sandbox.ok(&["undo", "--yes"]);
    assert_eq!(sandbox.orchestra(&["resume", "ada"]).code, 0);
    sandbox.assert_sound();
}

#[test]
fn what_a_command_wrote_is_counted_by_what_was_committed_of_it() {
    let sandbox =
        sandbox("echo one >one; git add one; git commit -qm one; mkdir -p d; echo two >'d/two words'");
    spawn(&sandbox, "ada", &[]);
    let files = || sandbox.json(&["show", "ada"])["data"]["files"].clone();
    let expected = json!({"read": {}, "written": {}, "committed": ["d/two words", "one"]});
    assert_eq!(files(), expected);
    // What it merges of others is not its own; what landed is still.
    sandbox.write("theirs", "theirs\n");
    sandbox.commit("theirs");
    sandbox.git_in(&worktree(&sandbox, "ada"), &["merge", "-q", "--no-edit", "main"]);
    assert_eq!(files(), expected);
    sandbox.ok(&["merge"]);
    assert_eq!(files(), expected);
    assert!(sandbox.ok(&["show", "ada"]).contains("committed:  d/two words, one"));
}

//! What a new worktree gets: files that git does not track, a setup command, room; and what its end brings.

mod base;
mod hooks;
mod include;
mod shared;
mod zones;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::harness::Sandbox;
use crate::harness::sandbox::{ORCHESTRA, wait_for, write_in};

/// A sandbox whose profile `sh` runs `script`, with more settings of the user's.
pub(crate) fn sandbox(script: &str, settings: &str) -> Sandbox {
    let mut sandbox = Sandbox::new();
    sandbox.set_env("COLUMNS", "200");
    configure(&sandbox, script, settings);
    sandbox
}

/// Writes the user's settings.
pub(crate) fn configure(sandbox: &Sandbox, script: &str, settings: &str) {
    let words = json!(["/bin/sh", "-c", script]);
    let text = format!(
        "grace = \"1s\"\ndefault-profile = \"sh\"\n{settings}\n[profile.sh]\nprogram = \"command\"\ncommand = {words}\n"
    );
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &text);
}

/// Settings with a command, as TOML.
pub(crate) fn hook(which: &str, script: &str) -> String {
    format!("worktree.{which} = {}\n", json!(["sh", "-c", script]))
}

pub(crate) fn path(sandbox: &Sandbox, name: &str) -> PathBuf {
    sandbox.root().join("repo.orchestra").join(name)
}

/// Every agent that was not removed, by its name and its state.
pub(crate) fn agents(sandbox: &Sandbox) -> Vec<(String, String)> {
    let all = sandbox.json(&["status"]);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    all["data"].as_array().unwrap().iter().map(|row| (text(&row["name"]), text(&row["state"]))).collect()
}

/// Nothing of an agent is there: no record, no branch, no worktree, nothing to mend.
pub(crate) fn assert_no_trace(sandbox: &Sandbox) {
    assert_eq!(agents(sandbox), []);
    assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 1);
    assert_eq!(sandbox.git(&["for-each-ref", "refs/heads/orchestra/"]), "");
    assert_eq!(sandbox.ok(&["recover"]), "nothing to recover");
    sandbox.assert_sound();
}

/// Also where the others run in processes of their own.
#[test]
fn with_little_memory_left_one_waits_for_the_other() {
    let script = "echo up; while [ ! -e go ]; do sleep 0.05; done; rm go; echo work >file";
    let sandbox = sandbox(script, "memory-floor = '4194304G'\n");
    let go = |name: &str| std::fs::write(path(&sandbox, name).join("go"), "").unwrap();
    let is = |name: &str, state: &str| agents(&sandbox).contains(&(name.to_owned(), state.to_owned()));
    let wait = |name: &str, state: &str| wait_for(state, || is(name, state).then_some(()));
    sandbox.ok(&["spawn", "--detach", "-m", "One", "--name", "one"]);
    wait("one", "running");
    let mut command = sandbox.command("/bin/sh");
    command.args(["-c", &format!("exec {ORCHESTRA} spawn -m Two --name two 2>&1")]);
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    let said = lines.find(|line| line.contains("memory")).unwrap();
    assert!(said.contains("it waits until another one has ended: "), "{said}");
    assert!(said.ends_with("of memory are left, and `memory-floor` asks for 4503599.6 GB"), "{said}");
    assert!(is("two", "queued"));
    go("one");
    wait("one", "done");
    wait("two", "running");
    go("two");
    assert!(lines.any(|line| line == "two  done"));
    assert!(child.wait().unwrap().success());
}

#[test]
fn nothing_starts_where_there_is_too_little_room() {
    let mut sandbox = sandbox("echo work >file", "");
    sandbox.ok(&["task", "add", "Work"]);
    sandbox.set_env("ORCHESTRA_SPACE_FLOOR", "4096T");
    let out = sandbox.orchestra(&["spawn"]);
    assert!(out.code == 1 && out.stderr.contains("`space-floor` asks for 4503599.6 GB"), "{out}");
    assert!(out.stderr.contains("hint: `git orchestra prune`"), "{out}");
    assert_no_trace(&sandbox);
    assert_eq!(sandbox.json(&["task", "list"])["data"][0]["status"], "open");
    sandbox.set_env("ORCHESTRA_SPACE_FLOOR", "0");
    sandbox.ok(&["spawn"]);
    assert_eq!(agents(&sandbox), [("work".to_owned(), "done".to_owned())]);
    sandbox.set_env("ORCHESTRA_SPACE_FLOOR", "4096T");
    assert_eq!(sandbox.orchestra(&["resume", "work"]).code, 1);
}

#[test]
fn where_room_is_short_what_builds_left_goes_first() {
    let script = "mkdir -p target/debug kept && echo 'Signature: 8a477f597d28d172789f06886806bc55' >target/CACHEDIR.TAG && \
                  head -c 3000000 /dev/zero >target/debug/big && echo mine >kept/notes";
    let mut sandbox = sandbox(script, "");
    sandbox.write(".gitignore", "target\nkept\n");
    sandbox.commit("ignore what builds make");
    sandbox.ok(&["spawn", "-m", "One", "--name", "one"]);
    let one = path(&sandbox, "one");
    let left = |name: &str| one.join(name).exists();
    sandbox.set_env("ORCHESTRA_SPACE_FLOOR", "4096T");
    sandbox.set_env("ORCHESTRA_PRUNE_BUILDS", "never");
    assert_eq!(sandbox.orchestra(&["spawn", "-m", "Two"]).code, 1);
    assert!(left("target"));
    sandbox.set_env("ORCHESTRA_PRUNE_BUILDS", "below-floor");
    let out = sandbox.orchestra(&["spawn", "-m", "Two"]);
    assert_eq!(out.code, 1, "even so it is too little\n{out}");
    let said = "to make room, 3.0 MB went that builds had left in the worktree of an agent at rest";
    assert!(out.stderr.contains(said), "{out}");
    assert!(!left("target") && left("kept/notes"), "only what is made again goes");
    assert_eq!(sandbox.orchestra(&["spawn", "-m", "Two"]).stderr.matches("to make room").count(), 0);
}

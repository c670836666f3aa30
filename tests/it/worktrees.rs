//! What a new worktree gets: files that git does not track, a setup command, room; and what its end brings.

mod base;
mod hooks;
mod include;
mod shared;
mod zones;

use std::path::PathBuf;

use serde_json::{Value, json};

use crate::harness::Sandbox;
use crate::harness::sandbox::write_in;

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

//! Old closed tasks are archived: out of the lists, found by whoever names one, back with any change, on all machines.

use crate::harness::{Layout, Sandbox};

/// Adds a task, closed unless said, and returns its id.
fn add(sandbox: &Sandbox, title: &str, args: &[&str], close: bool) -> String {
    let added = sandbox.json(&[&["task", "add", title][..], args].concat());
    let id = added["data"]["id"].as_str().unwrap().to_owned();
    if close {
        sandbox.ok(&["task", "close", &id]);
    }
    id
}

fn listed(sandbox: &Sandbox, args: &[&str]) -> Vec<String> {
    let list = sandbox.json(&[&["task", "list"][..], args].concat());
    let titles = list["data"].as_array().unwrap().iter();
    let mut titles: Vec<String> = titles.map(|task| task["title"].as_str().unwrap().to_owned()).collect();
    titles.sort();
    titles
}

const NOW: [&str; 3] = ["gc", "--archive-after", "0s"];

#[test]
fn what_is_archived_is_out_of_the_way_found_by_name_and_back_with_any_change() {
    let sandbox = Sandbox::new();
    let old = add(&sandbox, "Old", &[], true);
    let older = add(&sandbox, "Older", &[], true);
    let open = add(&sandbox, "Open", &[], false);
    assert!(!sandbox.ok(&["gc"]).contains("archived"), "nothing is 90 days old");
    let state = sandbox.git(&["rev-parse", "refs/orchestra/state"]);
    let dry = sandbox.ok(&["gc", "--archive-after", "0s", "--dry-run"]);
    assert!(dry.contains("Older") && dry.contains("2 tasks can be archived"), "{dry}");
    assert_eq!(sandbox.git(&["rev-parse", "refs/orchestra/state"]), state, "it was only said");
    assert!(sandbox.ok(&NOW).starts_with("2 tasks archived\n"));

    assert_eq!(listed(&sandbox, &["--all"]), ["Open"]);
    assert_eq!(listed(&sandbox, &["--archived"]), ["Old", "Older"]);
    let shown = sandbox.ok(&["show", &old[..8]]);
    assert!(shown.contains("Old") && shown.contains("archived"), "{shown}");
    assert_eq!(sandbox.json(&["task", "show", &old])["data"]["archived"], true);
    assert!(sandbox.ok(&["__complete", "task", "reopen", ""]).contains("Older"));
    assert_eq!(sandbox.orchestra(&["doctor"]).code, 0, "{}", sandbox.ok(&["doctor"]));
    // One that comes after archived ones is ready.
    sandbox.ok(&["task", "edit", &open, "--after", &old, "--after", &older]);
    assert_eq!(listed(&sandbox, &["--ready"]), ["Open"]);
    assert_eq!(sandbox.json(&["task", "show", &open])["data"]["standing"], "ready");
    let blocked = sandbox.orchestra(&["task", "edit", &old, "--after", &open]);
    assert!(blocked.code != 0, "a cycle through the archive is one: {blocked}");
    assert_eq!(listed(&sandbox, &["--archived"]).len(), 2);

    sandbox.ok(&["task", "edit", &older, "--label", "again"]);
    assert_eq!(listed(&sandbox, &["--all"]), ["Older", "Open"]);
    sandbox.ok(&["task", "reopen", &old]);
    assert_eq!(listed(&sandbox, &["--archived"]), [""; 0]);
    assert_eq!(listed(&sandbox, &["--ready"]), ["Old"]);
    sandbox.assert_sound();
}

#[test]
fn what_something_needs_stays_and_undo_brings_back_what_was_archived() {
    let sandbox = Sandbox::new();
    let needed = add(&sandbox, "Needed", &[], true);
    add(&sandbox, "Open", &["--after", &needed], false);
    add(&sandbox, "Free", &[], true);
    let done = sandbox.json(&NOW);
    assert_eq!(done["data"]["archived"].as_array().unwrap().len(), 1, "{done:#}");
    assert_eq!(listed(&sandbox, &["--archived"]), ["Free"]);
    let log = sandbox.ok(&["oplog", "-n", "1"]);
    assert!(log.contains("archive: 1 task"), "{log}");
    sandbox.ok(&["undo"]);
    assert_eq!(listed(&sandbox, &["--all"]), ["Free", "Needed", "Open"]);
    let undoing = sandbox.json(&["oplog", "-n", "1"])["data"][0]["id"].as_str().unwrap().to_owned();
    sandbox.ok(&["undo", &undoing]);
    assert_eq!(listed(&sandbox, &["--archived"]), ["Free"], "undoing that does it again");
    sandbox.assert_sound();
}

#[test]
fn many_go_in_bounded_steps_of_one_operation() {
    const MANY: usize = 510;
    let sandbox = Sandbox::new();
    sandbox.ok(&["task", "add", "First"]);
    // As `task add` and `close` would have made them, in one commit.
    let paths: Vec<(String, String)> = (0..MANY)
        .map(|number| {
            let id = format!("k{}{number:014}", number % 10);
            let record = format!(
                "{{\n  \"_s\": {{\n    \"1-0-aaaaaa\": [\n      \"id\",\n      \"status\",\n      \"title\"\n    ]\n  }},\n  \"id\": \"{id}\",\n  \"status\": \"closed\",\n  \"title\": \"Task {number}\"\n}}\n"
            );
            (format!("tasks/k/{}/{id}.json", number % 10), record)
        })
        .collect();
    let files: Vec<(&str, &str)> = paths.iter().map(|(p, r)| (p.as_str(), r.as_str())).collect();
    sandbox.plumb_commit("refs/orchestra/state", "many", &files);
    assert_eq!(listed(&sandbox, &["--all"]).len(), MANY + 1);
    let before = sandbox.git(&["rev-parse", "refs/orchestra/state"]);
    let done = sandbox.json(&["gc"]);
    assert_eq!(done["data"]["archived"].as_array().unwrap().len(), MANY);
    let commits = sandbox.git(&["rev-list", "--count", &format!("{before}..refs/orchestra/state")]);
    assert_eq!(commits, "2");
    assert_eq!(listed(&sandbox, &["--all"]), ["First"]);
    sandbox.ok(&["undo", "--yes"]);
    assert_eq!(listed(&sandbox, &["--all"]).len(), MANY + 1);
}

#[test]
fn one_machine_archives_while_another_edits_and_both_have_the_same() {
    let remote = Sandbox::with(Layout { bare: true, ..Default::default() });
    let machine = || {
        let machine = Sandbox::new();
        machine.git(&["remote", "add", "origin", remote.repo().to_str().unwrap()]);
        machine
    };
    let (ada, bob) = (machine(), machine());
    let (edited, quiet) = (add(&ada, "Edited", &[], true), add(&ada, "Quiet", &[], true));
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    ada.ok(&NOW);
    bob.ok(&["task", "reopen", &edited]);
    for machine in [&bob, &ada, &bob] {
        machine.ok(&["sync"]);
    }
    let state = |machine: &Sandbox| machine.git(&["rev-parse", "refs/orchestra/state"]);
    assert_eq!(state(&ada), state(&bob));
    for machine in [&ada, &bob] {
        assert_eq!(listed(machine, &["--all"]), ["Edited"]);
        assert_eq!(listed(machine, &["--archived"]), ["Quiet"]);
        assert!(machine.ok(&["show", &quiet]).contains("Quiet"));
        machine.assert_sound();
    }
    // A machine that is new here gets all of it.
    let eve = machine();
    eve.ok(&["sync"]);
    assert_eq!((state(&eve), listed(&eve, &["--archived"])), (state(&ada), vec!["Quiet".to_owned()]));
}

//! `log` of a task, a finding, a decision, a merge or an agent's record: who changed what, when, and where.

use std::fs;

use serde_json::Value;

use crate::harness::{Layout, Sandbox};

/// A bare repository, and a machine that has it as `origin`.
fn remote_and_machine() -> (Sandbox, Sandbox) {
    let remote = Sandbox::with(Layout { bare: true, ..Default::default() });
    let machine = machine(&remote);
    (remote, machine)
}

fn machine(remote: &Sandbox) -> Sandbox {
    let machine = Sandbox::new();
    machine.git(&["remote", "add", "origin", remote.repo().to_str().unwrap()]);
    machine
}

/// The changes of a record, the newest first.
fn changes(sandbox: &Sandbox, args: &[&str]) -> Vec<Value> {
    sandbox.json(&[&["log"], args].concat())["data"]["changes"].as_array().unwrap().clone()
}

/// What a change did to one field: before, after.
fn field<'c>(change: &'c Value, name: &str) -> Option<&'c Value> {
    change["fields"].as_array().unwrap().iter().find(|field| field["field"] == name)
}

fn commands(changes: &[Value]) -> Vec<&str> {
    changes.iter().map(|change| change["command"].as_str().unwrap()).collect()
}

#[test]
fn a_task_tells_what_became_of_it_on_two_machines() {
    let (remote, ada) = remote_and_machine();
    let id = ada.ok(&["task", "add", "Parse dates", "-m", "One.\nTwo.\nThree.", "--quiet"]);
    ada.ok(&["task", "add", "Another one"]);
    ada.ok(&["task", "edit", &id, "--priority", "3"]);
    ada.ok(&["sync"]);
    let bob = machine(&remote);
    bob.ok(&["sync"]);
    ada.ok(&["task", "edit", &id, "--priority", "4", "--title", "Parse all dates"]);
    bob.ok(&["task", "edit", &id, "--priority", "5", "--label", "api", "-m", "One.\n2.\nThree."]);
    for machine in [&ada, &bob, &ada] {
        machine.ok(&["sync"]);
    }
    ada.ok(&["task", "close", &id, "-m", "done"]);
    ada.ok(&["undo", "--yes"]);

    let all = changes(&ada, &[&id]);
    let kinds: Vec<&str> = all.iter().map(|change| change["is"].as_str().unwrap()).collect();
    assert_eq!(kinds, ["changed", "changed", "joined", "changed", "changed", "changed", "made"], "{all:#?}");
    assert!(all[0]["undoes"] == all[1]["operation"] && all[1]["undone"] == true, "{all:#?}");
    assert_eq!(field(&all[1], "status").unwrap()["after"], "closed");
    // Of the priority one value counts, and the other is told to have lost, where it was written and where they met.
    let bobs = all[3..5].iter().find(|change| field(change, "labels:api").is_some()).unwrap();
    let adas = all[3..5].iter().find(|change| field(change, "title").is_some()).unwrap();
    assert_ne!(bobs["machine"], adas["machine"]);
    assert_eq!(all[6]["machine"], adas["machine"]);
    let counts = field(&all[2], "priority").unwrap()["after"].as_i64().unwrap();
    let (won, lost) = if counts == 5 { (bobs, adas) } else { (adas, bobs) };
    assert_eq!(field(won, "priority").unwrap().get("lost"), None);
    assert_eq!(field(lost, "priority").unwrap()["lost"], true);
    let joined = field(&all[2], "priority").unwrap();
    assert!(joined["lost"] == true && joined["machine"] == won["machine"], "{joined}");
    let title = field(&all[2], "title").unwrap();
    assert!(title.get("lost").is_none() && title["machine"] == adas["machine"], "{title}");
    assert!(all[2].get("machine").is_none(), "both machines make the same one");

    let text = ada.ok(&["log", &id]);
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert_eq!(text.matches("unverified").count(), 1, "{text}");
    for part in [
        "task close",
        "  undone\n",
        "    status: open → closed\n",
        "    body:\n        One.\n      - Two.\n      + 2.\n        Three.\n",
        "joins what two machines wrote apart",
        "    of this machine: title\n",
        "lost: another machine's came later",
        "      + One.\n      + Two.\n      + Three.\n",
    ] {
        assert!(text.contains(part), "{part:?}\n{text}");
    }
    // The same changes on the other machine, with the same winner.
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    assert_eq!(changes(&bob, &[&id]), all);
}

#[test]
fn as_much_as_is_wanted_of_everything_that_has_an_id() {
    let sandbox = Sandbox::new();
    let id = sandbox.ok(&["task", "add", "Parse dates", "--quiet"]);
    for priority in ["1", "2", "3"] {
        sandbox.ok(&["task", "edit", &id, "--priority", priority]);
    }
    let body = |word: &str| {
        (1..=20)
            .map(|n| if n % 6 == 0 { format!("{word} {n}\n") } else { format!("{n}\n") })
            .collect::<String>()
    };
    sandbox.ok(&["task", "edit", &id, "-m", &body("old")]);
    sandbox.ok(&["task", "edit", &id, "-m", &body("new")]);
    assert_eq!(changes(&sandbox, &[&id]).len(), 6);
    let two = sandbox.orchestra(&["log", &id, "-n", "2", "--json"]);
    assert!(two.stdout.contains("\"whole\": false"), "{two}");
    let two = sandbox.orchestra(&["log", &id, "-n", "2"]);
    assert!(two.stderr.contains("`-n 0` shows all"), "{two}");
    assert_eq!(changes(&sandbox, &[&id, "-n", "6"]).len(), 6);
    assert!(!sandbox.orchestra(&["log", &id, "-n", "6"]).stderr.contains("-n 0"), "they are all");
    let short = sandbox.ok(&["log", &id, "-n", "1"]);
    assert!(short.contains("more lines, which --patch shows") && !short.contains("new 18"), "{short}");
    let full = sandbox.ok(&["log", &id, "-n", "1", "--patch"]);
    assert!(
        full.contains("+ new 18") && full.ends_with("        20") && !full.contains("more lines"),
        "{full}"
    );

    // Deleted: nothing but `show` and `log` knows it any more.
    let gone = sandbox.ok(&["task", "add", "Not this one", "--quiet"]);
    sandbox.ok(&["undo", "--yes"]);
    let all = changes(&sandbox, &[&gone]);
    assert_eq!(all.len(), 2);
    assert!(field(&all[0], "_d").unwrap()["after"].is_object());
    assert!(sandbox.ok(&["log", &gone]).contains("    deleted: + by "));

    // To the archive and back: one history, whichever of the two places it is looked for in.
    sandbox.ok(&["task", "close", &id]);
    sandbox.ok(&["gc", "--archive-after", "0d"]);
    assert!(sandbox.ok(&["log", &id, "-n", "1"]).contains("    archived: + "));
    assert_eq!(changes(&sandbox, &[&id]).len(), 8);
    sandbox.ok(&["task", "reopen", &id]);
    let all = changes(&sandbox, &[&id]);
    let names: Vec<&str> =
        commands(&all)[..4].iter().map(|command| command.trim_end_matches(id.as_str()).trim_end()).collect();
    assert_eq!(names, ["task reopen", "gc", "task close", "task edit"], "{all:#?}");
    assert!(all.len() == 9 && all[8]["is"] == "made", "{all:#?}");

    let finding = sandbox.ok(&["finding", "add", "It leaks", "--quiet"]);
    sandbox.ok(&["finding", "resolve", &finding, "-m", "It is tight."]);
    assert_eq!(commands(&changes(&sandbox, &[&finding])).len(), 2);

    let unknown = sandbox.orchestra(&["log", "zzzz"]);
    assert!(unknown.code == 1 && unknown.stderr.contains("failed to find anything"), "{unknown}");
    let refused = sandbox.orchestra(&["log", &id, "--follow"]);
    assert!(refused.code == 2 && refused.stderr.contains("are for agents"), "{refused}");
}

#[test]
fn an_agent_has_a_log_and_a_record() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "../home/.config/git-orchestra/config.toml",
        "[profile.nothing]\nprogram = \"command\"\ncommand = [\"true\"]\n",
    );
    let task = sandbox.ok(&["task", "add", "Do it", "--quiet"]);
    sandbox.ok(&["spawn", "--profile", "nothing", "--name", "blue-heron", &task]);
    assert!(sandbox.ok(&["log", "blue-heron"]).starts_with("run 1, started "));
    let record = sandbox.ok(&["log", "--record", "blue-heron"]);
    assert!(record.starts_with("agent ") && record.contains("    name: + blue-heron\n"), "{record}");
    assert!(sandbox.ok(&["log", "blue-heron", "-n", "1"]).ends_with("exited with 0"));
    let refused = sandbox.orchestra(&["log", "blue-heron", "--patch"]);
    assert!(refused.code == 2 && refused.stderr.contains("--record"), "{refused}");
}

#[test]
fn the_commit_graph_makes_it_quick_and_changes_nothing() {
    for layout in [Layout::default(), Layout { reftable: true, sha256: true, ..Layout::default() }] {
        let sandbox = Sandbox::with(layout);
        let ids: Vec<String> =
            (0..4).map(|n| sandbox.ok(&["task", "add", &format!("Task {n}"), "--quiet"])).collect();
        for priority in ["1", "2"] {
            for id in &ids {
                sandbox.ok(&["task", "edit", id, "--priority", priority]);
            }
        }
        sandbox.git(&["commit-graph", "write", "--reachable"]);
        let users = sandbox.git_dir().join("objects/info/commit-graph");
        let before = fs::read(&users).unwrap();
        let told: Vec<_> = ids.iter().map(|id| changes(&sandbox, &[id])).collect();
        assert_eq!(sandbox.json(&["gc"])["data"]["commit_graph"], true);
        assert_eq!(fs::read(&users).unwrap(), before, "the user's is the user's");
        assert!(!sandbox.git_dir().join("objects/info/commit-graphs").exists());
        let again: Vec<_> = ids.iter().map(|id| changes(&sandbox, &[id])).collect();
        assert_eq!(again, told);
        // What came after it, what git itself did about its own, and one that is broken.
        sandbox.ok(&["task", "edit", &ids[0], "--priority", "3"]);
        assert_eq!(changes(&sandbox, &[&ids[0]]).len(), told[0].len() + 1);
        sandbox.git(&["gc", "--quiet", "--prune=now"]);
        let ours = sandbox.git_dir().join("orchestra/cache/graph/info/commit-graph");
        let bytes = fs::read(&ours).unwrap();
        fs::remove_file(&ours).unwrap();
        fs::write(&ours, &bytes[..bytes.len() / 2]).unwrap();
        assert_eq!(changes(&sandbox, &[&ids[1]]), told[1]);
        sandbox.assert_sound();
    }
}

#[test]
fn a_cut_of_the_chain_ends_it_for_those_who_come_later() {
    let (remote, ada) = remote_and_machine();
    let id = ada.ok(&["task", "add", "Parse dates", "--quiet"]);
    ada.ok(&["task", "edit", &id, "--priority", "1"]);
    ada.ok(&["gc", "--cut-epoch", "--yes"]);
    ada.ok(&["task", "edit", &id, "--priority", "2"]);
    ada.ok(&["sync"]);
    let bob = machine(&remote);
    bob.ok(&["sync"]);
    let kinds = |sandbox: &Sandbox| -> Vec<String> {
        let changes = changes(sandbox, &[&id]);
        changes.iter().map(|change| change["is"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&ada), ["changed", "changed", "made"]);
    assert_eq!(kinds(&bob), ["changed", "oldest"]);
    assert!(bob.ok(&["log", &id]).contains("the chain of commits begins here"));
}

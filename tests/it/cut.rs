//! The history of the state begins anew: nothing of the state is lost by it, on any machine, and what only looks like
//! that is an alarm.

use crate::harness::{Layout, Sandbox};

const STATE: &str = "refs/orchestra/state";
const TRACKING: &str = "refs/orchestra/remotes/origin/state";
/// Where hosts that take only branches have it.
const THERE: &str = "refs/heads/orchestra-state/state";
const CUT: [&str; 3] = ["gc", "--cut-epoch", "--yes"];

fn remote() -> Sandbox {
    Sandbox::with(Layout { bare: true, ..Default::default() })
}

fn machine(remote: &Sandbox) -> Sandbox {
    let machine = Sandbox::new();
    machine.git(&["remote", "add", "origin", remote.repo().to_str().unwrap()]);
    machine
}

fn add(sandbox: &Sandbox, title: &str) -> String {
    sandbox.json(&["task", "add", title])["data"]["id"].as_str().unwrap().to_owned()
}

fn titles(sandbox: &Sandbox) -> Vec<String> {
    let list = sandbox.json(&["task", "list", "--all"]);
    let titles = list["data"].as_array().unwrap().iter();
    let mut titles: Vec<String> = titles.map(|task| task["title"].as_str().unwrap().to_owned()).collect();
    titles.sort();
    titles
}

fn tip(sandbox: &Sandbox, name: &str) -> String {
    sandbox.git(&["rev-parse", name])
}

fn chain(sandbox: &Sandbox) -> usize {
    sandbox.git(&["rev-list", "--count", STATE]).parse().unwrap()
}

/// Both sync until they have the same.
fn meet(one: &Sandbox, other: &Sandbox) {
    for machine in [one, other, one] {
        machine.ok(&["sync"]);
    }
    assert_eq!(tip(one, STATE), tip(other, STATE));
}

#[test]
fn the_state_stays_what_was_before_is_told_and_undo_ends_there() {
    let sandbox = Sandbox::new();
    for title in ["One", "Two", "Three"] {
        add(&sandbox, title);
    }
    let (old, before) = (tip(&sandbox, STATE), sandbox.json(&["task", "list"]));
    let refused = sandbox.orchestra(&["gc", "--cut-epoch"]);
    assert!(refused.code != 0 && refused.stderr.contains("--yes"), "{refused}");
    let dry = sandbox.ok(&["gc", "--cut-epoch", "--dry-run"]);
    assert!(dry.contains("the history of 4 commits would begin anew with epoch 1, here\n"), "{dry}");
    assert_eq!(tip(&sandbox, STATE), old);
    let said = sandbox.ok(&CUT);
    assert!(said.contains("begins anew with epoch 1"), "{said}");
    assert_eq!((chain(&sandbox), sandbox.json(&["task", "list"])), (1, before));
    let kept = sandbox.git(&["for-each-ref", "--format=%(objectname)", "refs/orchestra/epochs/"]);
    assert_eq!(kept, old);
    assert!(sandbox.git(&["show", &format!("{STATE}:format.json")]).contains(r#""epoch": 1"#));

    let log = sandbox.json(&["oplog"]);
    let log = log["data"].as_array().unwrap();
    assert_eq!(log.len(), 4 + 1, "{log:#?}");
    assert_eq!(log[0]["command"], "gc --cut-epoch");
    let out = sandbox.orchestra(&["undo", log[0]["id"].as_str().unwrap()]);
    assert!(out.code == 1 && out.stderr.contains("a cut of the history stays"), "{out}");
    let out = sandbox.orchestra(&["undo"]);
    assert!(out.code == 1 && out.stderr.contains("the history was cut after it"), "{out}");
    assert!(sandbox.ok(&["oplog", log[1]["id"].as_str().unwrap()]).contains("Three"));
    add(&sandbox, "Four");
    sandbox.ok(&["undo"]);
    assert_eq!(titles(&sandbox), ["One", "Three", "Two"]);
    sandbox.ok(&["gc"]);
    assert_eq!(sandbox.orchestra(&["doctor"]).code, 0);
    sandbox.assert_sound();
    // Once more, on top of that.
    sandbox.ok(&CUT);
    assert_eq!(chain(&sandbox), 1);
    assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/epochs/"]).lines().count(), 2);
    assert_eq!(sandbox.json(&["oplog", "-n", "100"])["data"].as_array().unwrap().len(), 4 + 1 + 2 + 1);
}

#[test]
fn other_machines_take_it_over_and_keep_what_they_had_not_sent() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    let first = add(&ada, "First");
    meet(&ada, &bob);
    ada.ok(&["task", "edit", &first, "--title", "First, by Ada"]);
    bob.ok(&["task", "edit", &first, "--priority", "7"]);
    add(&bob, "Unsent");
    let unsent = tip(&bob, STATE);
    let said = ada.ok(&CUT);
    assert!(said.contains("here and on origin"), "{said}");
    assert_eq!((chain(&ada), tip(&ada, STATE)), (1, tip(&remote, STATE)));
    assert_eq!(tip(&ada, TRACKING), tip(&ada, STATE));

    assert_eq!(bob.orchestra(&["fetch"]).code, 0, "it is no alarm");
    add(&bob, "Unsent too");
    bob.ok(&["push"]);
    assert!(chain(&bob) <= 3, "the old chain does not come back: {}", chain(&bob));
    let kept = bob.git(&["for-each-ref", "--format=%(objectname)", "refs/orchestra/epochs/"]);
    bob.git(&["merge-base", "--is-ancestor", &unsent, &kept]);
    meet(&ada, &bob);
    for machine in [&ada, &bob] {
        assert_eq!(titles(machine), ["First, by Ada", "Unsent", "Unsent too"]);
        let first = machine.json(&["task", "show", &first]);
        assert_eq!(first["data"]["priority"], 7);
        machine.assert_sound();
    }
    // What it had not sent is told there still, and not undone.
    assert!(bob.ok(&["oplog"]).contains("Unsent too"));
    // A machine that is new gets the new chain alone.
    let eve = machine(&remote);
    eve.ok(&["sync"]);
    assert_eq!((tip(&eve, STATE), chain(&eve)), (tip(&ada, STATE), chain(&ada)));
    let kept = eve.try_git_in(eve.repo(), &["cat-file", "-e", &unsent], b"");
    assert!(kept.code != 0, "{kept}");
}

#[test]
fn two_machines_that_cut_at_once_end_with_one_history() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    add(&ada, "Shared");
    meet(&ada, &bob);
    // Bob cuts where nobody can be reached, and both go on.
    bob.git(&["remote", "rename", "origin", "away"]);
    bob.ok(&CUT);
    bob.git(&["remote", "rename", "away", "origin"]);
    bob.git(&["update-ref", TRACKING, &tip(&remote, STATE)]);
    add(&bob, "Of Bob");
    ada.ok(&CUT);
    add(&ada, "Of Ada");
    meet(&bob, &ada);
    assert_eq!(titles(&bob), ["Of Ada", "Of Bob", "Shared"]);
    assert!(chain(&bob) <= 6, "{}", chain(&bob));
    assert!(ada.git(&["show", &format!("{STATE}:format.json")]).contains(r#""epoch": 1"#));
    // One that comes later finds that it was done, and cuts nothing more.
    let carol = machine(&remote);
    carol.ok(&["sync"]);
    ada.ok(&CUT);
    let out = carol.orchestra(&CUT);
    assert!(out.code == 1 && out.stderr.contains("another machine did"), "{out}");
    assert_eq!(tip(&carol, STATE), tip(&ada, STATE));
}

#[test]
fn a_machine_that_was_away_through_two_cuts_comes_back() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    add(&ada, "Before");
    meet(&ada, &bob);
    add(&bob, "Away");
    for title in ["Between", "After"] {
        add(&ada, title);
        ada.ok(&CUT);
    }
    meet(&bob, &ada);
    assert_eq!(titles(&ada), ["After", "Away", "Before", "Between"]);
    assert!(chain(&bob) <= 2, "{}", chain(&bob));
    assert!(ada.git(&["show", &format!("{STATE}:format.json")]).contains(r#""epoch": 2"#));
    bob.assert_sound();
}

#[test]
fn what_a_kill_leaves_between_the_remote_and_here_is_made_good_by_the_next_sync() {
    let remote = remote();
    let ada = machine(&remote);
    add(&ada, "One");
    ada.ok(&["sync"]);
    let (old, notes) = (tip(&ada, STATE), ada.git(&["for-each-ref", "refs/notes/"]));
    ada.ok(&CUT);
    let new = tip(&ada, STATE);
    let kept = ada.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/epochs/"]);
    // The remote has it; here neither ref has moved, or only what we know of the remote.
    for tracked in [&old, &new] {
        ada.git(&["update-ref", STATE, &old]);
        ada.git(&["update-ref", TRACKING, tracked]);
        ada.git(&["update-ref", "-d", &kept]);
        ada.ok(&["sync"]);
        assert_eq!((tip(&ada, STATE), tip(&ada, TRACKING)), (new.clone(), new.clone()));
        assert_eq!(tip(&ada, &kept), old);
    }
    assert_eq!(ada.git(&["for-each-ref", "refs/notes/"]), notes);
    assert_eq!(titles(&ada), ["One"]);
}

/// A commit without parents: `tree` with `changes` in the words of fast-import.
fn forge(sandbox: &Sandbox, message: &str, tree: &str, changes: &str) -> String {
    let length = message.len();
    let stream = format!(
        "commit refs/forged/x\ncommitter Eve <eve@example.org> 1767225600 +0000\ndata {length}\n{message}\nM 040000 {tree} \n{changes}\n"
    );
    let out = sandbox.try_git_in(sandbox.repo(), &["fast-import", "--quiet", "--force"], stream.as_bytes());
    assert!(out.code == 0, "{out}");
    let forged = tip(sandbox, "refs/forged/x");
    sandbox.git(&["update-ref", "-d", "refs/forged/x"]);
    forged
}

#[test]
fn what_drops_or_rewinds_a_record_or_names_nothing_is_an_alarm() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    let id = add(&ada, "Old title");
    add(&ada, "Other");
    meet(&ada, &bob);
    let path = format!("tasks/{}/{}/{id}.json", &id[..1], &id[1..2]);
    let rewound = tip(&ada, &format!("{STATE}:{path}"));
    ada.ok(&["task", "edit", &id, "--title", "New title"]);
    meet(&ada, &bob);
    let seen = tip(&bob, STATE);
    let made = bob.json(&["task", "list"]);

    // What a true cut has, made in a copy that never syncs.
    ada.git(&["remote", "remove", "origin"]);
    ada.ok(&CUT);
    let (cut, tree) = (tip(&ada, STATE), tip(&ada, &format!("{STATE}^{{tree}}")));
    let message = ada.git(&["log", "-1", "--format=%B", &cut]);
    let format = ada.git(&["show", &format!("{cut}:format.json")]);
    let same_epoch = format.replace(r#""epoch": 1"#, r#""epoch": 0"#);
    let data = |text: &str| format!("M 100644 inline format.json\ndata {}\n{text}", text.len());
    let forged = [
        ("it drops a record", forge(&ada, &message, &tree, &format!("D {path}"))),
        ("it takes one back", forge(&ada, &message, &tree, &format!("M 100644 {rewound} {path}"))),
        ("it drops all", forge(&ada, &message, &tree, "D tasks")),
        ("it says nothing of what it replaces", forge(&ada, "orchestra: init", &tree, "")),
        ("it is of no later epoch", forge(&ada, &message, &tree, &data(&same_epoch))),
        ("its epoch is another one", forge(&ada, &message.replace("\"epoch\":1", "\"epoch\":5"), &tree, "")),
    ];
    let url = remote.repo().to_str().unwrap();
    for (what, commit) in forged {
        ada.git(&["push", "--quiet", "--force", url, &format!("{commit}:{STATE}")]);
        for command in ["fetch", "sync"] {
            let out = bob.orchestra(&[command]);
            assert!(out.code == 6 && out.stderr.contains(&commit), "{what}: {out}");
        }
        assert_eq!((tip(&bob, STATE), tip(&bob, TRACKING)), (seen.clone(), seen.clone()), "{what}");
        assert_eq!(tip(&remote, STATE), commit, "and nothing is pushed over it: {what}");
        assert_eq!(bob.json(&["task", "list"]), made);
    }
    // The true one is none, and going back behind it is one again.
    ada.git(&["push", "--quiet", "--force", url, &format!("{cut}:{STATE}")]);
    bob.ok(&["sync"]);
    assert_eq!(tip(&bob, STATE), cut);
    ada.git(&["push", "--quiet", "--force", url, &format!("{seen}:{STATE}")]);
    let out = bob.orchestra(&["sync"]);
    assert!(out.code == 6 && out.stderr.contains(&seen), "{out}");
    assert_eq!(tip(&bob, STATE), cut);
}

#[test]
fn a_remote_that_takes_nothing_but_what_follows_is_said_with_the_way_out() {
    let remote = remote();
    // git itself holds branches alone to that.
    remote.git(&["config", "receive.denyNonFastForwards", "true"]);
    let ada = machine(&remote);
    ada.git(&["config", "orchestra.remotePrefix", "refs/heads/orchestra-state/"]);
    add(&ada, "One");
    ada.ok(&["sync"]);
    let old = tip(&ada, STATE);
    let out = ada.orchestra(&CUT);
    assert!(out.code == 1 && out.stderr.contains("receive.denyNonFastForwards false"), "{out}");
    assert_eq!((tip(&ada, STATE), tip(&remote, THERE)), (old.clone(), old), "nothing was changed");
    add(&ada, "Two");
    ada.ok(&["sync"]);
    // One that was cut without it is said so too, as often as it is asked, and goes when it may.
    ada.git(&["remote", "rename", "origin", "away"]);
    let there = tip(&remote, THERE);
    ada.ok(&CUT);
    ada.git(&["remote", "rename", "away", "origin"]);
    ada.git(&["update-ref", TRACKING, &there]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 1 && out.stderr.contains("does not take the cut"), "{out}");
    assert_eq!(tip(&remote, THERE), there);
    remote.git(&["config", "receive.denyNonFastForwards", "false"]);
    ada.ok(&["sync"]);
    assert_eq!(tip(&remote, THERE), tip(&ada, STATE));
}

#[test]
fn a_remote_that_declines_is_quoted_and_another_remote_gets_the_cut_with_its_next_sync() {
    use std::os::unix::fs::PermissionsExt as _;
    let (remote, second) = (remote(), remote());
    let ada = machine(&remote);
    ada.git(&["remote", "add", "second", second.repo().to_str().unwrap()]);
    ada.git(&["config", "orchestra.remote", "origin"]);
    add(&ada, "One");
    ada.ok(&["sync"]);
    ada.ok(&["sync", "second"]);
    let bob = machine(&second);
    bob.ok(&["sync"]);
    add(&bob, "Of Bob");
    bob.ok(&["sync"]);

    let hook = remote.repo().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\nexit 1\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let old = tip(&ada, STATE);
    let out = ada.orchestra(&CUT);
    assert!(out.code == 1 && out.stderr.contains("hook declined"), "{out}");
    assert_eq!((tip(&ada, STATE), tip(&ada, TRACKING), tip(&remote, STATE)), (old.clone(), old.clone(), old));
    std::fs::remove_file(&hook).unwrap();
    ada.ok(&CUT);

    // The other remote is of the earlier epoch still, and has gone on.
    ada.ok(&["sync", "second"]);
    assert_eq!(tip(&second, STATE), tip(&ada, STATE));
    assert_eq!(titles(&ada), ["Of Bob", "One"]);
    assert!(chain(&ada) <= 2, "{}", chain(&ada));
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    assert_eq!((tip(&bob, STATE), tip(&remote, STATE)), (tip(&ada, STATE), tip(&ada, STATE)));
}

//! A remote that is pushed to elsewhere than it is fetched from, or to several repositories at once.

use super::{Stage, machine};
use crate::harness::Sandbox;

/// Every ref of ours that a remote has.
fn refs(stage: &Stage) -> String {
    stage.remote.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra", "refs/notes"])
}

#[test]
fn several_repositories_behind_one_remote_are_refused_before_anything_is_sent() {
    for key in ["remote.origin.url", "remote.origin.pushurl"] {
        let (one, two) = (Stage::new(), Stage::new());
        let ada = machine(&one.path());
        if key == "remote.origin.pushurl" {
            ada.git(&["config", key, &one.path()]);
        }
        ada.git(&["config", "--add", key, &two.path()]);
        ada.ok(&["task", "add", "One"]);
        for command in [["sync"].as_slice(), &["push"], &["fetch"], &["task", "claim", "--next"]] {
            let out = ada.orchestra(command);
            assert!(out.code == 1 && out.stderr.contains("goes to several repositories"), "{key}\n{out}");
            assert!(out.stderr.contains("git config orchestra.remote NAME"), "{out}");
        }
        assert_eq!((refs(&one), refs(&two)), (String::new(), String::new()));
        // The way out.
        ada.git(&["remote", "add", "queue", &one.path()]);
        ada.git(&["config", "orchestra.remote", "queue"]);
        ada.ok(&["sync"]);
        assert_eq!(one.tip("refs/orchestra/state"), ada.git(&["rev-parse", "refs/orchestra/state"]));
        assert_eq!(refs(&two), "");
    }
}

#[test]
fn what_a_rule_sends_elsewhere_is_asked_about_there() {
    let (mirror, place) = (Stage::new(), Stage::new());
    let ada = machine(&mirror.path());
    ada.git(&["config", &format!("url.{}.pushInsteadOf", place.path()), &mirror.path()]);
    // That what is fetched is rewritten back says nothing of a push.
    ada.git(&["config", &format!("url.{}.insteadOf", mirror.path()), &place.path()]);
    ada.ok(&["task", "add", "One"]);
    ada.ok(&["sync"]);
    ada.ok(&["task", "add", "Two"]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 0 && !out.stderr.contains("alarm"), "{out}");
    ada.ok(&["task", "claim", "--next"]);
    ada.ok(&["fetch"]);
    assert_eq!(
        place.tip("refs/orchestra/state"),
        ada.git(&["rev-parse", "refs/orchestra/remotes/origin/state"])
    );
    assert_eq!(refs(&mirror), "");
}

#[test]
fn what_agents_start_from_is_asked_for_where_it_is_fetched_from() {
    let (upstream, fork) = (Stage::new(), Stage::new());
    let ada = machine(&upstream.path());
    ada.git(&["push", "-q", "-u", "origin", "main"]);
    ada.git(&["push", "-q", &fork.path(), "main"]);
    ada.git(&["config", "remote.origin.pushurl", &fork.path()]);
    let others = Sandbox::new();
    others.git(&["fetch", "-q", &upstream.path(), "main"]);
    others.git(&["reset", "-q", "--hard", "FETCH_HEAD"]);
    others.write("theirs.txt", "theirs");
    let newer = others.commit("theirs");
    others.git(&["push", "-q", &upstream.path(), "main"]);
    let profile = "[profile.worker]\nprogram = 'command'\ncommand = ['true']\n";
    ada.write("../home/.config/git-orchestra/config.toml", profile);
    let out = ada.orchestra(&["spawn", "--profile", "worker", "-m", "x"]);
    assert!(out.code == 0 && out.stderr.contains("main is 1 commit behind origin/main"), "{out}");
    assert_eq!(ada.git(&["rev-parse", "origin/main"]), newer);
}

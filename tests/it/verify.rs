//! `verify` as a user meets it: merges of ours, merges made by hand, and those that lost something.

use crate::harness::Sandbox;
use crate::merge::{clashing, fleet, open_decision, store};
use git_orchestra::model::Merge;

/// What was said, without what differs from run to run.
fn steady(sandbox: &Sandbox, text: &str) -> String {
    let ids = regex::Regex::new(r"\b(merge|decision) [ghjkmnp-tv-z][0-9a-hjkmnp-tv-z]{3,}").unwrap();
    let text = ids.replace_all(text, "$1 <id>").into_owned();
    text.replace(&sandbox.git(&["rev-parse", "main"])[..8], "<tip>")
}

#[test]
fn a_merge_that_lost_nothing_says_so_and_a_decision_answers_for_its_choice() {
    let sandbox = clashing();
    assert_eq!(sandbox.orchestra(&["verify"]).code, 0, "nothing has landed");
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    let decision = open_decision(&sandbox);
    sandbox.ok(&["decide", &decision, "ours"]);
    let landed = sandbox.ok(&["merge", "--continue"]);
    insta::assert_snapshot!(steady(&sandbox, &landed), @r"
    main is at <tip> with blue-heron, red-owl, grey-fox
    receipt: 8 of 9 changed lines of 3 agents are there, 1 gave way to decision <id>
    ");
    let refs = sandbox.git(&["for-each-ref"]);
    insta::assert_snapshot!(steady(&sandbox, &sandbox.ok(&["verify"])), @r"
    merge <id> into main at <tip>
    receipt: 8 of 9 changed lines of 3 agents are there, 1 gave way to decision <id>
      blue-heron  +2 -1  all there
      red-owl     +1 -1  all there
      grey-fox    +2 -2  1 gave way
        src/f:2 of grey-fox: gave way to decision <id>
    ");
    let json = sandbox.json(&["verify", "--all"]);
    assert_eq!(json["data"][0]["dropped"], 0);
    assert_eq!(json["data"][0]["as_stored"], true, "{json}");
    assert_eq!(json["data"][0]["receipt"]["losses"][0]["by"]["is"], "decision");
    let id = json["data"][0]["merge"].as_str().unwrap();
    assert_eq!(sandbox.ok(&["verify", id]), sandbox.ok(&["verify"]));
    let shown = sandbox.ok(&["show", id]);
    assert!(shown.contains("grey-fox    +2 -2"), "{shown}");
    assert!(shown.contains("1 gave way\n  verified: the trees say the same\n"), "{shown}");
    let answered = "ours by Ada Example <ada@example.org>, unverified, not signed";
    assert!(shown.contains(&format!("answers\n  {decision} {answered}")), "{shown}");
    let json = sandbox.json(&["show", id])["data"].clone();
    assert_eq!(json["checked"], serde_json::json!({"is": "verified", "dropped": 0}));
    let answer = &json["answers"][0];
    assert_eq!((&answer["about"], &answer["is"]), (&"conflict".into(), &"unsigned".into()), "{answer}");
    assert_eq!(sandbox.git(&["for-each-ref"]), refs, "looking changes nothing");
    assert_eq!(sandbox.orchestra(&["verify", "k3v8zzzz"]).code, 1);
}

#[test]
fn a_receipt_that_the_trees_do_not_bear_out_is_told() {
    let sandbox = clashing();
    sandbox.orchestra(&["merge"]);
    sandbox.ok(&["decide", &open_decision(&sandbox), "skip"]);
    sandbox.ok(&["merge", "--continue"]);
    let store = store(&sandbox);
    let [landed] = &store.state().unwrap().all::<Merge>().unwrap()[..] else { panic!() };
    let id = landed.id.to_string();
    let write = |receipt| {
        let merge = Merge { receipt, ..landed.clone() };
        store
            .transact(|tx| tx.put(&merge))
            .unwrap_or_else(|error: git_orchestra::store::Error| panic!("{error}"));
        (sandbox.ok(&["show", &id]), sandbox.json(&["show", &id])["data"]["checked"].clone())
    };
    let mut other = landed.receipt.clone().unwrap();
    other.accounts.pop();
    let (shown, checked) = write(Some(other));
    assert!(shown.contains("unverified: the trees say otherwise; `git orchestra verify"), "{shown}");
    assert_eq!(checked, serde_json::json!({"is": "otherwise", "dropped": 0}));
    let (shown, checked) = write(None);
    assert!(shown.contains("receipt: 5 of 5 changed lines of 2 agents are there\n"), "{shown}");
    assert!(shown.contains("  not recorded when it landed: this is what the trees say\n"), "{shown}");
    assert_eq!(checked["is"], "not-recorded");
}

/// A commit of `main` with `text` as `src/f` that says it merges `branches`.
fn merged_by_hand(sandbox: &Sandbox, branches: &[&str], text: &str) {
    let before = sandbox.git(&["rev-parse", "main"]);
    sandbox.plumb_commit("refs/heads/main", "Merge by hand", &[("src/f", text), ("new", "n\n")]);
    let tree = sandbox.git(&["rev-parse", "main^{tree}"]);
    let mut args =
        vec!["commit-tree".to_owned(), tree, "-m".into(), "Merge by hand".into(), "-p".into(), before];
    for branch in branches {
        args.extend(["-p".to_owned(), format!("orchestra/{branch}")]);
    }
    let commit = sandbox.git(&args.iter().map(String::as_str).collect::<Vec<_>>());
    sandbox.git(&["update-ref", "refs/heads/main", &commit]);
}

#[test]
fn a_merge_by_hand_that_drops_a_line_fails() {
    let sandbox = clashing();
    let since = sandbox.git(&["rev-parse", "main"]);
    let verify = |agents: &[&str]| {
        sandbox.orchestra(&[&["verify", "--target", "main", "--since", &since], agents].concat())
    };
    merged_by_hand(&sandbox, &["blue-heron", "grey-fox"], "1\nblue\n3\n4\n5\n6\n7\n8\nnine\n10\n");
    let lost = verify(&[]);
    assert_eq!(lost.code, 1, "{lost}");
    insta::assert_snapshot!(steady(&sandbox, &lost.stdout), @r"
    into main at <tip>
    receipt: 6 of 7 changed lines of 2 agents are there, 1 was dropped
      blue-heron  +2 -1  all there
      grey-fox    +2 -2  1 dropped
        src/f:2 of grey-fox: dropped
    ");
    assert_eq!(verify(&["grey-fox"]).code, 1);
    let other = verify(&["red-owl"]);
    assert!(other.code == 1 && other.stderr.contains("main does not contain its branch"), "{other}");
    let none = sandbox.orchestra(&["verify", "--target", "main", "--since", "main"]);
    assert!(none.code == 0 && none.stderr.contains("no merge commit of main since then"), "{none}");
    assert_eq!(sandbox.orchestra(&["verify", "--target", "main"]).code, 2);

    let sandbox = clashing();
    let since = sandbox.git(&["rev-parse", "main"]);
    merged_by_hand(&sandbox, &["blue-heron", "grey-fox"], "1\nblue\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n");
    let whole = sandbox.orchestra(&["verify", "--target", "main", "--since", &since]);
    assert_eq!(whole.code, 0, "{whole}");
    assert!(whole.stdout.contains("receipt: 7 of 7 changed lines of 2 agents are there"), "{whole}");
}

#[test]
fn what_an_editor_leaves_out_is_shown_and_allowed() {
    let sandbox = clashing();
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    let decision = open_decision(&sandbox);
    sandbox.write("../edited", "1\nneither of them\n3\n4\n5\n6\n7\n8\n9\n10\n");
    sandbox.ok(&["decide", &decision, "edit", "--file", "../edited"]);
    let landed = sandbox.ok(&["merge", "--continue"]);
    assert!(landed.contains("gave way to decision"), "{landed}");
    let verified = sandbox.orchestra(&["verify"]);
    assert_eq!(verified.code, 0, "{verified}");
    assert!(verified.stdout.contains("src/f:9 of grey-fox: gave way to decision"), "{verified}");
}

#[test]
fn a_clean_merge_has_one_line_more() {
    let sandbox = fleet(&[("blue-heron", &[("new", "n\n")]), ("red-owl", &[("src/g", "gg\n")])]);
    let landed = sandbox.ok(&["merge"]);
    assert!(landed.ends_with("receipt: 3 of 3 changed lines of 2 agents are there"), "{landed}");
}

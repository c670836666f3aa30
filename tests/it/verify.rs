//! `verify` as a user meets it: merges of ours, merges made by hand, and those that lost something.

use crate::harness::Sandbox;
use crate::merge::{clashing, fleet, open_decision, store};
use git_orchestra::model::{Agent, Merge};

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

/// What `verify --all`, `check`, the hook before a push and `status` say: each its exit code, but for the last, and all
/// of their words.
fn looked_at(sandbox: &Sandbox) -> ([i32; 3], String) {
    let all = [
        sandbox.orchestra(&["verify", "--all"]),
        sandbox.orchestra(&["check"]),
        sandbox.orchestra(&["hook", "pre-push", "origin", "url"]),
        sandbox.orchestra(&["status"]),
    ];
    let codes = [all[0].code, all[1].code, all[2].code];
    (codes, all.iter().flat_map(|out| [out.stdout.as_str(), &out.stderr]).collect())
}

fn assert_whole(sandbox: &Sandbox) {
    let (codes, said) = looked_at(sandbox);
    assert_eq!(codes, [0; 3], "{said}");
    assert!(!said.contains("any more") && !said.contains("gone from"), "{said}");
}

/// A landed merge of one agent that added `one` and `two` to a new file, and where `main` was before.
fn two_lines_landed() -> (Sandbox, String) {
    let sandbox = fleet(&[("blue-heron", &[("new", "one\ntwo\n")])]);
    let before = sandbox.git(&["rev-parse", "main"]);
    let store = store(&sandbox);
    let agent = store.state().unwrap().all::<Agent>().unwrap().remove(0);
    let run = serde_json::json!({"started": 1, "ended": 2, "outcome": {"is": "succeeded"}});
    store
        .transact(|tx| {
            let mut agent = agent.clone();
            agent.runs.insert(1, Box::new(serde_json::from_value(run.clone()).unwrap()));
            tx.put(&agent)
        })
        .unwrap_or_else(|error: git_orchestra::store::Error| panic!("{error}"));
    sandbox.ok(&["merge"]);
    assert_whole(&sandbox);
    (sandbox, before)
}

#[test]
fn a_branch_that_lost_a_merge_is_told_everywhere() {
    // Amended, with a line less.
    let (sandbox, before) = two_lines_landed();
    let landed = sandbox.git(&["rev-parse", "main"]);
    sandbox.write("new", "one\n");
    sandbox.git(&["commit", "--quiet", "--all", "--amend", "--no-edit"]);
    let gone = format!("main does not contain {} any more: this is what landed\n", &landed[..8]);
    let (codes, said) = looked_at(&sandbox);
    assert_eq!(codes, [1; 3], "{said}");
    assert!(said.contains(&gone) && said.contains(", and gone from main"), "{said}");
    let judge = format!("`git orchestra verify --target main --since {}`", &before[..8]);
    assert!(said.contains(&judge), "{said}");
    assert_eq!(sandbox.orchestra(&["verify", "--target", "main", "--since", &before]).code, 1);
    let json = sandbox.orchestra(&["verify", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["data"][0]["gone"], &json["data"][0]["dropped"]), (&true.into(), &0.into()));
    let row = sandbox.json(&["status"])["data"][0].clone();
    assert_eq!((&row["state"], &row["gone"]), (&"merged".into(), &true.into()), "{row}");
    let check = sandbox.orchestra(&["check", "--ci", "--sarif", "report.sarif"]);
    assert!(check.code == 1 && check.stdout.starts_with("::error::main does not contain merge "), "{check}");
    let report: serde_json::Value = serde_json::from_str(&sandbox.read("report.sarif")).unwrap();
    assert_eq!(report["runs"][0]["results"][0]["ruleId"], "gone");
    // And put back.
    sandbox.git(&["reset", "--quiet", "--hard", &landed]);
    assert_whole(&sandbox);

    // Reset: it can be merged again, and all is well.
    let (sandbox, before) = two_lines_landed();
    sandbox.git(&["reset", "--quiet", "--hard", &before]);
    let (codes, said) = looked_at(&sandbox);
    assert_eq!(codes, [1; 3], "{said}");
    assert!(said.contains("hint: `git orchestra merge blue-heron` merges again what is gone"), "{said}");
    sandbox.plumb_commit("refs/heads/main", "other", &[("other", "o\n")]);
    sandbox.git(&["reset", "--quiet", "--hard"]);
    assert_eq!(looked_at(&sandbox).0, [1; 3], "what came instead holds none of it");
    let pruned = sandbox.orchestra(&["prune"]);
    assert!(!pruned.stdout.contains("blue-heron"), "{pruned}");
    sandbox.ok(&["merge", "blue-heron"]);
    assert_whole(&sandbox);
}

#[test]
fn a_branch_that_was_undone_rewritten_or_never_had_a_merge_lost_nothing() {
    let (sandbox, before) = two_lines_landed();
    let landed = sandbox.git(&["rev-parse", "main"]);
    // Another message, and a commit on top.
    sandbox.git(&["commit", "--quiet", "--amend", "-m", "Another message"]);
    sandbox.write("new", "one\n");
    sandbox.git(&["commit", "--quiet", "--all", "-m", "Without two, and said so"]);
    assert_whole(&sandbox);
    // The same lines on top of something else, without the merge.
    sandbox.git(&["reset", "--quiet", "--hard", &before]);
    sandbox.write("src/g", "other\n");
    sandbox.git(&["commit", "--quiet", "--all", "-m", "other"]);
    sandbox.git(&["cherry-pick", "--no-commit", "orchestra/blue-heron"]);
    sandbox.git(&["commit", "--quiet", "-m", "squashed"]);
    assert_whole(&sandbox);
    sandbox.git(&["reset", "--quiet", "--hard", &landed]);
    sandbox.ok(&["undo", "--yes"]);
    assert_eq!(sandbox.git(&["rev-parse", "main"]), before);
    assert_whole(&sandbox);

    let (sandbox, before) = two_lines_landed();
    let remote = sandbox.root().join("remote.git");
    sandbox.git(&["init", "--quiet", "--bare", remote.to_str().unwrap()]);
    sandbox.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    sandbox.git(&["push", "--quiet", "origin", &format!("{before}:refs/heads/main")]);
    sandbox.ok(&["sync", "origin"]);
    let clone = sandbox.root().join("clone");
    sandbox.git(&["clone", "--quiet", "--branch", "main", remote.to_str().unwrap(), clone.to_str().unwrap()]);
    let there = |args: &[&str]| sandbox.orchestra_in(&clone, args);
    assert_eq!(there(&["sync", "origin"]).code, 0);
    assert_eq!(there(&["check"]).code, 0, "it has the state alone");
    // Its own branch is behind what it has fetched.
    sandbox.git(&["push", "--quiet", "origin", "main"]);
    sandbox.git_in(&clone, &["fetch", "--quiet"]);
    for args in [&["check"][..], &["verify", "--all"]] {
        let behind = there(args);
        assert!(behind.code == 0 && !behind.stdout.contains("any more"), "{behind}");
    }
}

#[test]
fn what_landed_before_the_rest_of_a_merge_can_be_gone_by_itself() {
    let sandbox = clashing();
    assert_eq!(sandbox.orchestra(&["merge", "--land-prefixes"]).code, 3);
    let prefix = sandbox.git(&["rev-parse", "main"]);
    sandbox.git(&["reset", "--quiet", "--hard", "main~2"]);
    let gone = format!("main does not contain {} any more", &prefix[..8]);
    let said = sandbox.orchestra(&["verify", "--all"]);
    assert!(said.code == 1 && said.stdout.contains(&gone), "{said}");
    // What lands after it does not stand for it, though it may be much like it.
    sandbox.ok(&["decide", &open_decision(&sandbox), "union"]);
    sandbox.ok(&["merge", "--continue"]);
    assert_eq!(sandbox.read("src/f"), "1\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n");
    let said = sandbox.orchestra(&["verify", "--all"]);
    assert!(said.code == 1 && said.stdout.contains(&gone), "{said}");
}

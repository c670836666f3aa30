//! What comes before a branch that somebody is asked about lands at once: `merge --land-prefixes`.

use crate::gates::{files, four, gate, ran, settings};
use crate::harness::Sandbox;
use crate::merge::{clashing, fleet, open_decision};
use serde_json::Value;

/// Every merge, oldest first.
fn merges(sandbox: &Sandbox) -> Vec<Value> {
    let listed = sandbox.git(&["ls-tree", "-r", "--name-only", "refs/orchestra/state", "merges/"]);
    let ids = listed.lines().map(|path| path.rsplit('/').next().unwrap().strip_suffix(".json").unwrap());
    let mut all: Vec<Value> = ids.map(|id| sandbox.json(&["show", id])["data"].clone()).collect();
    all.sort_by_key(|one| one["created"].as_u64().unwrap());
    all
}

fn names(merge: &Value) -> Vec<&str> {
    merge["steps"].as_array().unwrap().iter().map(|step| step["name"].as_str().unwrap()).collect()
}

#[test]
fn what_passed_lands_at_once_and_the_rest_is_asked_about() {
    let sandbox = four();
    let base = sandbox.git(&["rev-parse", "main"]);
    let out = sandbox.orchestra(&["merge", "--land-prefixes"]);
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stdout.contains("with ash, birch\nreceipt: 2 of 2 changed lines of 2 agents"), "{out}");
    assert!(out.stderr.contains("the gate test fails with cedar; what comes before it has landed"), "{out}");
    assert_eq!(files(&sandbox), "a b src");
    assert!(sandbox.repo().join("b").exists(), "the files of the checkout moved with it");
    assert_eq!(ran(&sandbox).len(), 5, "nothing was run again for the rest");
    let [first, rest] = &merges(&sandbox)[..] else { panic!() };
    assert_eq!((names(first), &first["status"]), (vec!["ash", "birch"], &"landed".into()), "{first:#}");
    assert_eq!((names(rest), &rest["status"]), (vec!["cedar", "dogwood"], &"waiting".into()), "{rest:#}");
    assert_eq!((&rest["follows"], &rest["target_tip"]), (&first["id"], &first["landed"]));
    assert_eq!(
        (&first["target_tip"], &first["landed"]),
        (&base.into(), &sandbox.git(&["rev-parse", "main"]).into())
    );
    let open = |sandbox: &Sandbox| -> Vec<String> {
        let tasks = sandbox.json(&["task", "list"])["data"].clone();
        tasks.as_array().unwrap().iter().map(|task| task["title"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(open(&sandbox).len(), 2, "{:?}", open(&sandbox));
    sandbox.ok(&["verify"]);

    let id = open_decision(&sandbox);
    assert!(sandbox.ok(&["show", &id]).contains("give up the rest of the merge; what has landed stays"));
    assert_eq!((sandbox.orchestra(&["merge", "--continue"]).code, open_decision(&sandbox)), (3, id.clone()));
    sandbox.ok(&["decide", &id, "put-aside"]);
    sandbox.ok(&["merge", "--continue"]);
    assert_eq!(files(&sandbox), "a b d src");
    assert_eq!(ran(&sandbox).len(), 6, "dogwood, without cedar");
    let shown = sandbox.ok(&["show", rest["id"].as_str().unwrap()]);
    assert!(shown.contains("the rest of"), "{shown}");
    sandbox.ok(&["verify", "--all"]);
    assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "");
    sandbox.assert_sound();
}

#[test]
fn a_conflict_holds_back_only_what_conflicts() {
    let sandbox = clashing();
    let seen = "echo $(git diff --name-only $GIT_ORCHESTRA_BASE HEAD) >>\"$HOME/seen\"";
    settings(&sandbox, &format!("[merge]\nlanding = 'prefixes'\n{}", gate("test", seen)));
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 3, "{out}");
    let asked = "grey-fox conflicts with blue-heron in src/f; what comes before it has landed";
    assert!(out.stderr.contains(asked), "{out}");
    assert_eq!(sandbox.read("src/g"), "gg\n");
    sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"]);
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(sandbox.read("src/f"), "1\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n");
    let seen = std::fs::read_to_string(sandbox.home().join("seen")).unwrap();
    assert_eq!(seen, "new src/f src/g\nsrc/f\n", "each part passed its gates");
    sandbox.ok(&["verify", "--all"]);

    // What is given up later does not take back what has landed.
    let sandbox = clashing();
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    let id = open_decision(&sandbox);
    let out = sandbox.orchestra(&["merge", "--continue", "--land-prefixes"]);
    assert!(out.code == 3 && out.stdout.contains("with blue-heron, red-owl"), "{out}");
    assert_eq!(open_decision(&sandbox), id, "it was asked before, and is not asked anew");
    let out = sandbox.orchestra(&["merge", "--abort"]);
    assert!(out.stdout.contains("gave the rest of the merge up; what has landed on main stays"), "{out}");
    assert_eq!(sandbox.read("src/g"), "gg\n");
    assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "");
    sandbox.assert_sound();
}

#[test]
fn each_bad_branch_is_put_aside_and_each_good_stretch_lands() {
    let sandbox = four();
    let text = gate("test", "test ! -e broken && test ! -e b");
    settings(&sandbox, &format!("gate-failure = 'put-aside'\nmerge.landing = 'prefixes'\n{text}"));
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!((out.code, files(&sandbox)), (0, "a d src".to_owned()), "{out}");
    let all = merges(&sandbox);
    assert!(all.iter().all(|merge| merge["status"] == "landed"), "{all:#?}");
    assert_eq!(
        (names(&all[0]), names(all.last().unwrap())),
        (vec!["ash"], vec!["birch", "cedar", "dogwood"])
    );
    assert!(out.stdout.contains("left out: birch, cedar"), "{out}");
    assert_eq!(sandbox.git(&["rev-list", "--count", "--merges", "main"]), "2");
    // One where nothing passes lands nothing, and says so.
    assert_eq!(sandbox.orchestra(&["merge", "cedar"]).code, 5);
    sandbox.assert_sound();
}

/// As [`four`], but birch brings a workflow, and dogwood builds on it.
fn with_a_workflow() -> Sandbox {
    let sandbox = fleet(&[
        ("ash", &[("a", "a\n")]),
        ("birch", &[(WORKFLOW, "on: push\n"), ("b", "b\n")]),
        ("cedar", &[("c", "c\n")]),
        ("dogwood", &[("d", "d\n")]),
    ]);
    settings(&sandbox, &gate("test", "true"));
    sandbox.git(&["update-ref", "refs/heads/orchestra/dogwood", "orchestra/birch"]);
    sandbox.plumb_commit("refs/heads/orchestra/dogwood", "more", &[("d", "d\n")]);
    sandbox
}

const WORKFLOW: &str = ".github/workflows/ci.yml";

#[test]
fn what_runs_by_itself_holds_back_only_what_brings_it_and_builds_on_it() {
    for gates in [&[][..], &["--no-gates"]] {
        let sandbox = with_a_workflow();
        let out = sandbox.orchestra(&[&["merge", "--land-prefixes"], gates].concat());
        assert_eq!(out.code, 3, "{out}");
        assert!(out.stderr.contains("merged last: birch, dogwood; somebody has to look"), "{out}");
        assert!(out.stdout.contains("with ash, cedar\nreceipt: 2 of 2 changed lines of 2 agents"), "{out}");
        let asked =
            format!("birch changes what is run by itself: {WORKFLOW}; what comes before it has landed");
        assert!(out.stderr.contains(&asked), "{out}");
        assert_eq!((files(&sandbox), ran(&sandbox).len()), ("a c src".to_owned(), 1 - gates.len()));
        let [first, rest] = &merges(&sandbox)[..] else { panic!() };
        assert_eq!((names(first), names(rest)), (vec!["ash", "cedar"], vec!["birch", "dogwood"]));
        assert_eq!(first["gates"][0]["commit"], first["landed"], "{first:#}");
        let id = open_decision(&sandbox);
        let again = [&["merge", "--continue", "--land-prefixes"], gates].concat();
        assert_eq!((sandbox.orchestra(&again).code, open_decision(&sandbox)), (3, id.clone()));
        sandbox.ok(&["decide", &id, "approve"]);
        let out = sandbox.orchestra(&again);
        assert_eq!((out.code, files(&sandbox)), (0, ".github a b c d src".to_owned()), "{out}");
        sandbox.ok(&["verify", "--all"]);
        sandbox.assert_sound();
    }
    // Without prefixes nothing is put off, and nothing lands.
    let sandbox = with_a_workflow();
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!((out.code, files(&sandbox)), (3, "src".to_owned()), "{out}");
    assert_eq!(names(&merges(&sandbox)[0]), ["ash", "birch", "cedar", "dogwood"]);
    // What is put aside takes along what builds on it.
    sandbox.orchestra(&["merge", "--continue", "--land-prefixes"]);
    assert_eq!(files(&sandbox), "a c src");
    sandbox.ok(&["decide", &open_decision(&sandbox), "put-aside"]);
    sandbox.ok(&["merge", "--continue", "--land-prefixes"]);
    assert_eq!(files(&sandbox), "a c src");
    assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "");
    sandbox.assert_sound();
}

#[test]
fn what_runs_by_itself_stays_where_a_conflict_was_answered() {
    let sandbox = clashing();
    sandbox.plumb_commit("refs/heads/orchestra/blue-heron", "ci", &[(WORKFLOW, "on: push\n")]);
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"]);
    // grey-fox was answered for as coming after blue-heron.
    let out = sandbox.orchestra(&["merge", "--continue", "--land-prefixes"]);
    assert!(out.code == 3 && out.stderr.contains("blue-heron changes what is run by itself"), "{out}");
    assert_eq!(names(&merges(&sandbox)[0]), ["blue-heron", "red-owl", "grey-fox"]);
    sandbox.ok(&["decide", &open_decision(&sandbox), "approve"]);
    sandbox.ok(&["merge", "--continue", "--land-prefixes"]);
    assert_eq!(sandbox.read("src/f"), "1\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n");
    sandbox.assert_sound();

    // One that waits for an answer comes after it, and is asked about when its turn comes.
    let sandbox = clashing();
    sandbox.plumb_commit("refs/heads/orchestra/blue-heron", "ci", &[(WORKFLOW, "on: push\n")]);
    let out = sandbox.orchestra(&["merge", "--land-prefixes"]);
    assert!(out.code == 3 && out.stdout.contains("with red-owl"), "{out}");
    sandbox.ok(&["decide", &open_decision(&sandbox), "approve"]);
    let out = sandbox.orchestra(&["merge", "--continue", "--land-prefixes"]);
    assert!(out.code == 3 && out.stdout.contains("with blue-heron"), "{out}");
    sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"]);
    sandbox.ok(&["merge", "--continue", "--land-prefixes"]);
    assert_eq!(sandbox.read("src/f"), "1\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n");
    sandbox.ok(&["verify", "--all"]);
    sandbox.assert_sound();
}

#[test]
fn a_checkout_in_the_way_is_left_alone_and_what_landed_by_hand_is_seen() {
    let sandbox = four();
    sandbox.write("README.md", "mine\n");
    sandbox.write("b", "mine too\n");
    let before = sandbox.fingerprint();
    let out = sandbox.orchestra(&["merge", "--land-prefixes"]);
    assert!(out.code == 3 && out.stderr.contains("it has uncommitted changes in"), "{out}");
    assert_eq!(sandbox.fingerprint(), before);
    let [only] = &merges(&sandbox)[..] else { panic!() };
    assert_eq!(names(only).len(), 4, "{only:#}");
    std::fs::remove_file(sandbox.repo().join("b")).unwrap();
    sandbox.git(&["checkout", "--quiet", "README.md"]);
    // As a kill between the move of the files and the record would leave it.
    let command = out.stderr.lines().find(|line| line.contains("merge --ff-only")).unwrap().trim();
    let commit = command.rsplit(' ').next().unwrap().to_owned();
    sandbox.git(&["merge", "--quiet", "--ff-only", &commit]);
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert!(out.code == 3 && out.stdout.contains("with ash, birch"), "{out}");
    let [first, rest] = &merges(&sandbox)[..] else { panic!() };
    assert_eq!((names(first), names(rest)), (vec!["ash", "birch"], vec!["cedar", "dogwood"]));
    assert!(first["receipt"]["accounts"].as_array().is_some_and(|all| all.len() == 2), "{first:#}");
    sandbox.ok(&["decide", &open_decision(&sandbox), "put-aside"]);
    sandbox.ok(&["merge", "--continue"]);
    assert_eq!(files(&sandbox), "a b d src");
    sandbox.assert_sound();
}

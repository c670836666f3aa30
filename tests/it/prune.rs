//! Pruning says what can go, does nothing unless told to, and never takes what is saved nowhere else.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::Sandbox;
use crate::harness::sandbox::Layout;
use crate::recover::{with_worker, worktree};

/// Agents that commit a file of their own name.
fn stage(names: &[&str]) -> Sandbox {
    let sandbox = with_worker(Layout::default(), "basename $PWD >$(basename $PWD).txt");
    sandbox.write(".gitignore", "node_modules/\ntarget/\n*.env\n");
    sandbox.commit("ignore");
    for name in names {
        sandbox.ok(&["spawn", "--profile", "worker", "-m", "Do it.", "--name", name]);
    }
    sandbox
}

fn prune(sandbox: &Sandbox, args: &[&str]) -> BTreeMap<(String, String), Value> {
    let document = sandbox.json(&[&["prune"], args].concat());
    let items = document["data"]["items"].as_array().unwrap().iter();
    let key = |item: &Value| {
        (item["kind"].as_str().unwrap().to_owned(), item["subject"].as_str().unwrap().to_owned())
    };
    items.map(|item| (key(item), item.clone())).collect()
}

fn subjects(items: &BTreeMap<(String, String), Value>, kind: &str) -> Vec<String> {
    items.keys().filter(|(of, _)| of == kind).map(|(_, subject)| subject.clone()).collect()
}

#[test]
fn agents_go_when_their_work_has_landed_and_nothing_is_unsaved() {
    let sandbox = stage(&["landed", "unsaved", "secret"]);
    assert!(subjects(&prune(&sandbox, &[]), "agent").is_empty(), "nothing has landed");
    sandbox.ok(&["merge"]);
    sandbox.ok(&["spawn", "--profile", "worker", "-m", "Do it.", "--name", "open"]);
    std::fs::write(worktree(&sandbox, "unsaved").join("note"), "unsaved").unwrap();
    std::fs::write(worktree(&sandbox, "secret").join("x.env"), vec![b'x'; 17 << 20]).unwrap();
    let before = sandbox.git(&["for-each-ref"]);
    assert_eq!(subjects(&prune(&sandbox, &[]), "agent"), ["landed"]);
    let shown = sandbox.orchestra(&["prune"]);
    assert!(shown.code == 0 && shown.stdout.contains("can go") && shown.stderr.contains("--yes"), "{shown}");
    assert_eq!(sandbox.git(&["for-each-ref"]), before, "nothing went");
    let user = sandbox.fingerprint();
    let done = sandbox.orchestra(&["prune", "--yes"]);
    assert!(done.code == 0 && done.stdout.contains("freed"), "{done}");
    assert_eq!(sandbox.fingerprint(), user);
    assert!(sandbox.git(&["branch", "--list", "orchestra/landed"]).is_empty());
    for name in ["unsaved", "secret", "open"] {
        assert!(
            worktree(&sandbox, name).exists()
                && !sandbox.git(&["branch", "--list", &format!("orchestra/{name}")]).is_empty()
        );
    }
    assert_eq!(std::fs::read_to_string(worktree(&sandbox, "unsaved").join("note")).unwrap(), "unsaved");
    sandbox.assert_sound();
}

#[test]
fn what_builds_made_goes_and_what_was_written_stays() {
    let sandbox = stage(&["heron"]);
    let path = worktree(&sandbox, "heron");
    for (file, text) in [
        ("node_modules/a/index.js", "x"),
        ("target/CACHEDIR.TAG", "Signature: 8a477f597d28d172789f06886806bc55\n"),
        ("target/debug/x", "x"),
        ("sub/target/mine", "ignored, and nobody says that it can be made again"),
    ] {
        crate::harness::sandbox::write_in(&path, file, text);
    }
    let planned = prune(&sandbox, &[]);
    assert_eq!(subjects(&planned, "build"), ["heron: node_modules", "heron: target"]);
    assert!(subjects(&planned, "agent").is_empty());
    prune(&sandbox, &["--yes"]);
    assert!(!path.join("node_modules").exists() && !path.join("target").exists());
    assert!(path.join("sub/target/mine").exists() && path.join("heron.txt").exists());
}

#[test]
fn journals_go_once_their_transcript_is_kept() {
    let sandbox = stage(&["heron"]);
    let log = sandbox.ok(&["log", "heron"]);
    assert_eq!(subjects(&prune(&sandbox, &[]), "journal"), ["heron run 1"]);
    // A journal that says more than its transcript stays.
    let id = sandbox.json(&["show", "heron"])["data"]["id"].as_str().unwrap().to_owned();
    let journal = sandbox.git_dir().join(format!("orchestra/journal/{id}/001.jsonl"));
    let kept = std::fs::read(&journal).unwrap();
    let lines = kept.split_inclusive(|&b| b == b'\n').collect::<Vec<_>>();
    std::fs::write(&journal, [kept.as_slice(), lines[0]].concat()).unwrap();
    assert!(subjects(&prune(&sandbox, &[]), "journal").is_empty());
    std::fs::write(&journal, &kept).unwrap();
    // Nor does one whose transcripts are about to go.
    let planned = prune(&sandbox, &["--transcripts", "0s"]);
    assert_eq!(subjects(&planned, "transcripts").len(), 1);
    assert!(subjects(&planned, "journal").is_empty());
    prune(&sandbox, &["--yes"]);
    assert!(!journal.exists());
    assert_eq!(sandbox.ok(&["log", "heron"]), log, "the transcript says the same");
    assert!(subjects(&prune(&sandbox, &["--transcripts", "1d"]), "transcripts").is_empty());
    // What goes so is what the next `undo` brings back, and not what was done before it.
    let transcripts = || sandbox.git(&["for-each-ref", "refs/orchestra/log"]);
    let before = transcripts();
    prune(&sandbox, &["--transcripts", "0s", "--yes"]);
    assert_eq!(transcripts(), "");
    sandbox.ok(&["undo", "--yes"]);
    assert_eq!(transcripts(), before);
    assert_eq!(sandbox.ok(&["log", "heron"]), log);
}

#[test]
fn rescue_refs_go_when_a_branch_has_all_of_them() {
    let sandbox = stage(&["heron", "crane"]);
    for name in ["heron", "crane"] {
        sandbox.ok(&["remove", name]);
    }
    let rescue = "refs/orchestra/rescue/heron/1";
    assert!(subjects(&prune(&sandbox, &["--older-than", "0s"]), "rescue").is_empty());
    sandbox.git(&["merge", "--quiet", "--no-edit", rescue]);
    assert!(subjects(&prune(&sandbox, &[]), "rescue").is_empty(), "younger than 30 days");
    assert_eq!(subjects(&prune(&sandbox, &["--older-than", "0s"]), "rescue"), [rescue]);
    prune(&sandbox, &["--older-than", "0s", "--yes"]);
    let left = sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/rescue"]);
    assert_eq!(left, "refs/orchestra/rescue/crane/1");
}

#[test]
fn history_from_before_an_old_cut_goes_and_comes_back() {
    let sandbox = Sandbox::new();
    for title in ["One", "Two"] {
        sandbox.ok(&["task", "add", title]);
    }
    let old = sandbox.git(&["rev-parse", "refs/orchestra/state"]);
    sandbox.ok(&["gc", "--cut-epoch", "--yes"]);
    sandbox.ok(&["task", "add", "Three"]);
    let kept = || sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/epochs/"]);
    let name = kept();
    assert_eq!(name, format!("refs/orchestra/epochs/0-{}", &old[..8]));
    assert!(subjects(&prune(&sandbox, &[]), "epoch").is_empty(), "it was cut today");
    let planned = prune(&sandbox, &["--epochs", "0s"]);
    assert_eq!(subjects(&planned, "epoch"), [name.as_str()]);
    let why = planned[&("epoch".to_owned(), name.clone())]["reason"].as_str().unwrap();
    assert!(why.starts_with("3 changes from before a cut") && why.contains("oplog"), "{why}");
    assert_eq!(kept(), name, "it was only said");
    let commands = || sandbox.json(&["oplog"])["data"].as_array().unwrap().len();
    let before = commands();
    sandbox.git(&["config", "orchestra.pruneEpochsAfter", "0s"]);
    sandbox.ok(&["prune", "--yes"]);
    assert_eq!(kept(), "");
    assert!(commands() < before, "what was before the cut is not told any more");
    assert_eq!(sandbox.json(&["task", "list"])["data"].as_array().unwrap().len(), 3, "no record went");
    sandbox.ok(&["undo", "--yes"]);
    assert_eq!(sandbox.git(&["rev-parse", &name]), old, "it is back");
    assert!(commands() > before);
}

#[test]
fn leftovers_go_and_what_is_configured_stays() {
    let sandbox = stage(&["heron"]);
    let remote = sandbox.root().join("remote.git");
    sandbox.git(&["init", "--quiet", "--bare", remote.to_str().unwrap()]);
    sandbox.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    sandbox.ok(&["sync"]);
    assert!(subjects(&prune(&sandbox, &[]), "tracking").is_empty());
    sandbox.git(&["config", "--remove-section", "remote.origin"]);
    let tracking = subjects(&prune(&sandbox, &[]), "tracking");
    assert!(tracking.contains(&"refs/orchestra/remotes/origin/state".to_owned()), "{tracking:?}");
    let temporary = sandbox.git_dir().join("orchestra/.tmpAbCdEf");
    std::fs::write(&temporary, "x").unwrap();
    assert!(subjects(&prune(&sandbox, &[]), "temporary").is_empty(), "somebody may be at it");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(2 * 24 * 3600);
    std::fs::File::options().write(true).open(&temporary).unwrap().set_modified(old).unwrap();
    assert_eq!(subjects(&prune(&sandbox, &[]), "temporary"), ["orchestra/.tmpAbCdEf"]);
    prune(&sandbox, &["--yes"]);
    assert!(!temporary.exists());
    assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/remotes"]), "");
    sandbox.ok(&["status"]);
}

#[test]
fn what_agents_wrote_is_not_looked_at_while_somebody_changed_what_git_runs() {
    let sandbox = with_worker(
        Layout::default(),
        "git config filter.x.clean 'touch evil; cat'; echo '* filter=x' >.gitattributes",
    );
    sandbox.orchestra(&["spawn", "--profile", "worker", "-m", "Do it.", "--name", "heron"]);
    let planned = prune(&sandbox, &[]);
    assert!(subjects(&planned, "agent").is_empty() && subjects(&planned, "build").is_empty());
    assert!(!sandbox.repo().join("evil").exists() && !worktree(&sandbox, "heron").join("evil").exists());
}

//! `git orchestra apply`: an agent's work in the user's checkout, staged, with everything else of theirs as it was.

use crate::merge::{clashing, fleet};

#[test]
fn an_agents_work_is_staged_and_nothing_else_changes() {
    let sandbox = clashing();
    sandbox.write("src/g", "mine\n");
    sandbox.write("notes", "mine too\n");
    let (head, refs) = (sandbox.git(&["rev-parse", "HEAD"]), sandbox.git(&["for-each-ref"]));
    let before = sandbox.fingerprint();
    assert_eq!(
        sandbox.ok(&["apply", "blue-heron", "--dry-run"]),
        "would stage 2 files of blue-heron, nothing is committed\n  new\n  src/f"
    );
    assert_eq!(sandbox.fingerprint(), before);

    let applied = sandbox.orchestra(&["apply", "blue-heron"]);
    assert_eq!(applied.code, 0, "{applied}");
    assert_eq!(applied.stdout, "staged 2 files of blue-heron, nothing is committed\n  new\n  src/f\n");
    assert!(
        applied.stderr.contains("`git restore --staged --worktree -- new src/f` takes it back"),
        "{applied}"
    );
    assert_eq!(sandbox.git(&["status", "--porcelain"]), "A  new\nM  src/f\n M src/g\n?? notes");
    assert_eq!((sandbox.git(&["rev-parse", "HEAD"]), sandbox.git(&["for-each-ref"])), (head, refs));
    assert_eq!(sandbox.read("src/f").lines().nth(1), Some("blue"));
    assert_eq!((sandbox.read("src/g"), sandbox.read("notes")), ("mine\n".into(), "mine too\n".into()));
    assert_eq!(sandbox.json(&["apply", "blue-heron"])["data"]["paths"], serde_json::json!(["new", "src/f"]));

    sandbox.git(&["restore", "--staged", "--worktree", "--", "new", "src/f"]);
    assert_eq!(sandbox.git(&["status", "--porcelain"]), " M src/g\n?? notes");
    sandbox.assert_sound();
}

#[test]
fn what_is_there_already_is_staged_once_a_link_in_the_place_of_a_directory_too() {
    let sandbox = fleet(&[("blue-heron", &[("src/d/x", "x\n"), ("src/d/y", "y\n")])]);
    sandbox.git(&["merge", "--quiet", "--ff-only", "orchestra/blue-heron"]);
    let dir = sandbox.root().join("linking");
    sandbox.git(&["worktree", "add", "--quiet", dir.to_str().unwrap(), "orchestra/blue-heron"]);
    std::fs::remove_dir_all(dir.join("src/d")).unwrap();
    std::os::unix::fs::symlink("g", dir.join("src/d")).unwrap();
    sandbox.git_in(&dir, &["add", "--all"]);
    sandbox.git_in(&dir, &["commit", "--quiet", "-m", "a link"]);
    let first = sandbox.ok(&["apply", "blue-heron"]);
    let status = sandbox.git(&["status", "--porcelain"]);
    assert_eq!(status, "A  src/d\nD  src/d/x\nD  src/d/y");
    let again = sandbox.orchestra(&["apply", "blue-heron"]);
    assert_eq!((again.code, again.stdout.trim_end()), (0, first.as_str()), "{again}");
    assert_eq!(sandbox.git(&["status", "--porcelain"]), status);
    assert_eq!(std::fs::read_link(sandbox.repo().join("src/d")).unwrap().to_str(), Some("g"));
}

#[test]
fn what_is_in_the_way_is_named_and_nothing_is_touched() {
    let sandbox = clashing();
    let refused = |agent: &str, words: &str| {
        let before = sandbox.fingerprint();
        let out = sandbox.orchestra(&["apply", agent]);
        assert_eq!(out.code, 1, "{out}");
        assert!(out.stderr.contains(words) && out.stderr.contains("nothing was touched"), "{out}");
        assert_eq!(sandbox.fingerprint(), before);
    };
    sandbox.write("src/f", "mine\n");
    refused("blue-heron", "src/f changed here and by blue-heron");
    sandbox.git(&["add", "src/f"]);
    sandbox.git(&["show", "HEAD:src/f"]);
    refused("blue-heron", "src/f changed here and by blue-heron");
    // Staged, and back to what it was in the file alone.
    let old = sandbox.git(&["show", "HEAD:src/f"]);
    sandbox.write("src/f", &format!("{old}\n"));
    refused("blue-heron", "src/f changed here and by blue-heron");
    sandbox.git(&["reset", "--quiet", "--hard"]);
    sandbox.write("new", "mine\n");
    refused("blue-heron", "new");
    std::fs::remove_file(sandbox.repo().join("new")).unwrap();
    sandbox.ok(&["apply", "blue-heron"]);
    sandbox.git(&["commit", "--quiet", "-m", "kept"]);
    refused("grey-fox", "grey-fox conflicts with what is checked out in src/f");
    assert_eq!(sandbox.ok(&["apply", "blue-heron"]), "all that blue-heron made is there already");
}

#[test]
fn a_repository_without_files_says_so() {
    let sandbox = fleet(&[("red-owl", &[("src/g", "gg\n")])]);
    let bare = sandbox.root().join("bare.git");
    sandbox.git(&["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    sandbox.git_in(&bare, &["fetch", "--quiet", "origin", "refs/orchestra/state:refs/orchestra/state"]);
    let out = sandbox.orchestra_in(&bare, &["apply", "red-owl"]);
    assert_eq!(out.code, 1, "{out}");
    assert!(out.stderr.contains("there is no work tree with a commit"), "{out}");
}

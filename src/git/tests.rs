//! The layer against real repositories of every format, with git's own answer as the baseline.

use super::testing::{FORMATS, Sandbox};
use super::*;
use crate::model::Timestamp;
use std::collections::BTreeMap;

fn commit(repo: &Repository, tree: &crate::model::ObjectId, message: &str) -> crate::model::ObjectId {
    let who = Identity::new("Ada", "ada@example.org");
    let at = Timestamp(1_700_000_000_000);
    repo.write_commit(&NewCommit { tree, parents: &[], author: &who, committer: &who, at, message }).unwrap()
}

#[test]
fn objects_and_refs_are_what_git_sees_in_every_format() {
    for format in FORMATS {
        let sandbox = Sandbox::new(&format);
        let repo = sandbox.open();
        let blob = repo.write_blob(b"hello\n").unwrap();
        let edits = [("a/b/c.txt".to_owned(), Some((EntryMode::Blob, blob.clone())))];
        let (tree, written) = repo.edit_tree(None, &edits).unwrap();
        assert_eq!(written.len(), 3, "one tree a level");
        let id = commit(&repo, &tree, "subject\n\nKey: value\n");
        repo.sync_objects(written.iter().chain([&blob, &id])).unwrap();

        let edit = |new: Option<_>, expected| RefEdit { name: "refs/orchestra/x".into(), new, expected };
        repo.update_refs(&[edit(Some(id.clone()), Expected::Absent)], "test").unwrap();
        assert_eq!(sandbox.git(&["rev-parse", "refs/orchestra/x"]), id.as_str(), "{format:?}");
        assert_eq!(sandbox.git(&["show", "refs/orchestra/x:a/b/c.txt"]), "hello");
        assert_eq!(repo.find_ref("refs/orchestra/x").unwrap(), Some(id.clone()));
        assert_eq!(repo.find_ref("refs/orchestra/y").unwrap(), None);
        assert_eq!(repo.list_refs("refs/orchestra/").unwrap(), [("refs/orchestra/x".to_owned(), id.clone())]);

        let again = repo.update_refs(&[edit(Some(id.clone()), Expected::Absent)], "test");
        assert!(matches!(again, Err(Error::RefMoved { .. })), "{again:?}");
        let read = repo.read_commit(&id).unwrap();
        assert_eq!((read.subject(), read.author.as_str()), ("subject", "Ada <ada@example.org>"));
        assert_eq!(read.trailers("Key").collect::<Vec<_>>(), ["value"]);
        assert_eq!(repo.find_in_tree(&tree, "a/b/c.txt").unwrap().unwrap().id, blob);
        assert_eq!(repo.find_in_tree(&tree, "a/b/nothing").unwrap(), None);
        assert_eq!(repo.head().unwrap().branch.as_deref(), Some("refs/heads/main"));
        assert_eq!(repo.head().unwrap().commit, repo.find_ref("refs/heads/main").unwrap());

        repo.update_refs(&[edit(None, Expected::At(id))], "test").unwrap();
        assert_eq!(repo.find_ref("refs/orchestra/x").unwrap(), None);
        sandbox.git(&["fsck", "--strict"]);
    }
}

#[test]
fn one_moved_ref_holds_back_all() {
    let sandbox = Sandbox::new(&[]);
    let repo = sandbox.open();
    let head = repo.head().unwrap().commit.unwrap();
    let edits = [
        RefEdit { name: "refs/orchestra/a".into(), new: Some(head.clone()), expected: Expected::Absent },
        RefEdit { name: "refs/orchestra/b".into(), new: Some(head.clone()), expected: Expected::At(head) },
    ];
    let error = repo.update_refs(&edits, "test").unwrap_err();
    assert!(matches!(&error, Error::RefMoved { name } if name == "refs/orchestra/b"), "{error}");
    assert_eq!(repo.find_ref("refs/orchestra/a").unwrap(), None);
}

#[test]
fn a_lock_file_is_told_from_a_move() {
    let sandbox = Sandbox::new(&[]);
    let repo = sandbox.open();
    let head = repo.head().unwrap().commit;
    let lock = repo.common_dir().join("refs/orchestra/a.lock");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    std::fs::write(&lock, "").unwrap();
    let edit = RefEdit { name: "refs/orchestra/a".into(), new: head, expected: Expected::Absent };
    let error = repo.update_refs(&[edit], "test").unwrap_err();
    assert!(matches!(&error, Error::RefLocked { name } if name == "refs/orchestra/a"), "{error}");
}

#[test]
fn packed_refs_and_linked_worktrees_are_followed() {
    let sandbox = Sandbox::new(&[]);
    let repo = sandbox.open();
    sandbox.git(&["branch", "topic"]);
    sandbox.git(&["pack-refs", "--all"]);
    assert!(repo.find_ref("refs/heads/topic").unwrap().is_some());
    let linked = sandbox.dir.path().join("linked");
    sandbox.git(&["worktree", "add", "-q", linked.to_str().unwrap(), "topic"]);
    let there = sandbox.open_in(&linked);
    assert_eq!(there.common_dir(), repo.common_dir());
    assert_eq!(there.head().unwrap().branch.as_deref(), Some("refs/heads/topic"));
    assert_eq!(there.main_dir(), repo.work_dir().unwrap());
}

#[test]
fn an_empty_git_directory_on_the_way_up_is_passed_by() {
    let sandbox = Sandbox::new(&[]);
    let repo = sandbox.open();
    let below = repo.work_dir().unwrap().join("a/b");
    std::fs::create_dir_all(below.join(".git")).unwrap();
    assert_eq!(sandbox.open_in(&below).common_dir(), repo.common_dir());
    std::fs::create_dir_all(sandbox.dir.path().join("home/c/.git")).unwrap();
    let nowhere = Repository::discover(&sandbox.dir.path().join("home/c"), std::sync::Arc::default());
    assert!(matches!(nowhere, Err(Error::NotARepository { .. })), "{nowhere:?}");
}

#[test]
fn bare_repositories_open_and_others_are_refused() {
    let sandbox = Sandbox::new(&["--bare"]);
    let repo = sandbox.open();
    assert_eq!(repo.work_dir(), None);
    assert_eq!(repo.head().unwrap().commit, None);
    let nowhere = Repository::discover(&sandbox.dir.path().join("home"), std::sync::Arc::default());
    assert!(matches!(nowhere, Err(Error::NotARepository { .. })), "{nowhere:?}");
}

#[test]
fn notes_are_added_line_by_line_at_any_fan_out() {
    for format in FORMATS {
        let sandbox = Sandbox::new(&format);
        let repo = sandbox.open();
        let head = repo.head().unwrap().commit.unwrap();
        sandbox.git(&["notes", "--ref", "orchestra/findings", "add", "-m", "by git", "HEAD"]);
        let notes_ref = "refs/notes/orchestra/findings";
        let who = Identity::new("Ada", "ada@example.org");
        let added = vec!["ours".to_owned(), "by git".to_owned()];
        let lines = BTreeMap::from([(head.clone(), NoteLines { added, ..NoteLines::default() })]);
        let tip = repo.find_ref(notes_ref).unwrap();
        let (new, _) =
            repo.write_notes(tip.as_ref(), &lines, &who, &who, Timestamp(1_700_000_000_000)).unwrap();
        let edit = RefEdit { name: notes_ref.into(), new: Some(new), expected: tip.into() };
        repo.update_refs(&[edit], "test").unwrap();
        assert_eq!(sandbox.git(&["notes", "--ref", "orchestra/findings", "show"]), "by git\nours");
        assert_eq!(repo.find_note(notes_ref, &head).unwrap().unwrap(), "by git\nours\n");

        // Lines are taken out one by one, and a note without any is gone.
        for (gone, left) in [("by git", Some("ours\n")), ("ours", None)] {
            let removed = vec![gone.to_owned()];
            let lines = BTreeMap::from([(head.clone(), NoteLines { removed, ..NoteLines::default() })]);
            let tip = repo.find_ref(notes_ref).unwrap();
            let (new, _) =
                repo.write_notes(tip.as_ref(), &lines, &who, &who, Timestamp(1_700_000_000_000)).unwrap();
            let edit = RefEdit { name: notes_ref.into(), new: Some(new), expected: tip.into() };
            repo.update_refs(&[edit], "test").unwrap();
            assert_eq!(repo.find_note(notes_ref, &head).unwrap().as_deref(), left);
        }
    }
}

#[test]
fn planted_configuration_runs_nothing() {
    let sandbox = Sandbox::new(&[]);
    let canary = sandbox.dir.path().join("canary");
    let plant = format!("touch {}", canary.display());
    for key in
        ["core.fsmonitor", "core.pager", "core.editor", "diff.external", "core.sshCommand", "core.askPass"]
    {
        sandbox.git(&["config", key, &plant]);
    }
    let hooks = sandbox.path().join(".git/hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let hook = hooks.join("reference-transaction");
    std::fs::write(&hook, format!("#!/bin/sh\n{plant}\n")).unwrap();
    std::fs::set_permissions(&hook, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let repo = sandbox.open();
    let head = repo.head().unwrap().commit;
    let edit = RefEdit { name: "refs/orchestra/a".into(), new: head, expected: Expected::Absent };
    repo.update_refs(&[edit], "test").unwrap();
    repo.read(["status", "--porcelain"]).unwrap();
    repo.read(["diff", "HEAD"]).unwrap();
    repo.read(["log", "-1"]).unwrap();
    assert!(!canary.exists(), "a program named by the repository's configuration ran");
}

#[test]
fn a_repository_of_somebody_else_is_opened_only_if_git_would() {
    let sandbox = Sandbox::new(&[]);
    if !nix::unistd::geteuid().is_root() {
        // Nobody else can give files away.
        return;
    }
    let env = sandbox.open().env;
    let path = sandbox.path();
    for dir in [&path, &path.join(".git")] {
        std::os::unix::fs::chown(dir, Some(65534), None).unwrap();
    }
    let error = Repository::discover(&path, std::sync::Arc::clone(&env)).unwrap_err();
    assert!(error.to_string().contains("dubious ownership"), "{error}");
    sandbox.git(&["config", "--global", "--add", "safe.directory", path.to_str().unwrap()]);
    sandbox.git(&["config", "orchestra.jobs", "3"]);
    let trusted = Repository::discover(&path, env).unwrap();
    assert_eq!(trusted.config("orchestra.jobs").as_deref(), Some("3"));
}

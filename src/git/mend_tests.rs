//! Faults as they really happen: moved directories, and a process that was killed with refs half moved.

use super::*;
use crate::git::testing::{FORMATS, Sandbox};
use crate::git::{Expected, NewWorktree};
use crate::model::Name;

fn add(repository: &Repository, root: &Path, name: &str) -> Worktree {
    let base = repository.resolve_commit("HEAD").unwrap();
    let branch = format!("refs/heads/orchestra/{name}");
    let name: Name = name.parse().unwrap();
    repository
        .add_worktree(&NewWorktree { name: &name, root, branch: &branch, base: &base, sparse: &[] })
        .unwrap()
}

/// Somebody who was: a process of another boot.
fn dead() -> Identity {
    Identity { pid: 1, started: 1, boot: "another".to_owned() }
}

#[test]
fn locks_of_the_dead_go_and_locks_of_the_living_stay() {
    for format in FORMATS {
        let sandbox = Sandbox::new(&format);
        let repository = sandbox.open();
        create_private(&repository.moving_dir()).unwrap();
        assert!(repository.mend_locks().unwrap().is_empty());
        let reftable = format[0].ends_with("reftable");
        let lock = if reftable { "reftable/tables.list.lock" } else { "packed-refs.lock" };
        let lock = repository.common_dir().join(lock);
        std::fs::write(&lock, "").unwrap();
        let note = |owner: Identity| {
            let name = "refs/heads/orchestra/heron".to_owned();
            let moving = Moving {
                owner,
                edits: vec![RefEdit { name, new: None, expected: Expected::Anything }],
                left: Vec::new(),
            };
            let file = repository.moving_dir().join("7-0.json");
            std::fs::write(file, serde_json::to_vec(&moving).unwrap()).unwrap();
        };
        assert!(repository.mend_locks().unwrap().is_empty(), "nobody of ours left it");
        note(Identity::own());
        assert!(repository.mend_locks().unwrap().is_empty(), "its owner lives");
        note(dead());
        std::fs::write(&lock, "later").unwrap();
        assert_eq!(repository.mend_locks().unwrap(), std::slice::from_ref(&lock), "{format:?}");
        assert!(!lock.exists());
        sandbox.git(&["branch", "after"]);
        sandbox.git(&["branch", "-D", "after"]);
        sandbox.git(&["pack-refs", "--all"]);
        let tip = repository.resolve_commit("HEAD").unwrap();
        let edit = RefEdit { name: "refs/orchestra/x".into(), new: Some(tip), expected: Expected::Absent };
        repository.update_refs(&[edit], "test").unwrap();
        assert_eq!(
            std::fs::read_dir(repository.moving_dir()).unwrap().count(),
            0,
            "notes go when git is done"
        );
    }
}

#[test]
fn locks_that_git_could_not_remove_go_and_those_that_took_their_place_stay() {
    for format in FORMATS.iter().filter(|format| !format[0].ends_with("reftable")) {
        let sandbox = Sandbox::new(format);
        let repository = sandbox.open();
        create_private(&repository.moving_dir()).unwrap();
        let tip = repository.resolve_commit("HEAD").unwrap();
        let edit = |new| RefEdit { name: "refs/orchestra/x".into(), new, expected: Expected::Anything };
        repository.update_refs(&[edit(Some(tip))], "test").unwrap();
        let mut mover = repository.begin_moving("test").unwrap();
        mover.prepare(&[edit(None)]);
        // While git holds them, they are known to be its own.
        let limit = Instant::now() + Duration::from_secs(30);
        let wanted = 2;
        let mut held = repository.held_by(&[edit(None)]);
        while held.len() < wanted && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(5));
            held = repository.held_by(&[edit(None)]);
        }
        assert!(!held.is_empty(), "{format:?}");
        let names: Vec<String> = held.iter().map(|HeldLock(lock)| lock.name.clone()).collect();
        let lock = repository.common_dir().join(names.last().unwrap().replace(".new", ".lock"));
        // The system keeps git's file: a second name of it, which takes its place when git has ended.
        let kept = sandbox.dir.path().join("kept");
        std::fs::hard_link(&lock, &kept).unwrap();
        mover.finish().unwrap();
        assert!(!lock.exists() && repository.left_locks().is_empty());
        let left: Vec<LeftLock> = held.into_iter().map(|HeldLock(lock)| lock).collect();
        let note = || {
            let moving = Moving { owner: Identity::own(), edits: Vec::new(), left: left.clone() };
            let file = repository.moving_dir().join("7-0-left.json");
            std::fs::write(file, serde_json::to_vec(&moving).unwrap()).unwrap();
        };
        note();
        std::fs::write(&lock, "").unwrap();
        assert!(repository.left_locks().is_empty(), "it is somebody else's");
        assert!(repository.mend_locks().unwrap().is_empty() && lock.exists());
        std::fs::remove_file(&lock).unwrap();
        note();
        std::fs::rename(&kept, &lock).unwrap();
        assert_eq!(repository.left_locks(), std::slice::from_ref(&lock), "{format:?}");
        assert_eq!(
            repository.mend_locks().unwrap(),
            std::slice::from_ref(&lock),
            "its writer lives, git does not"
        );
        assert!(!lock.exists() && std::fs::read_dir(repository.moving_dir()).unwrap().next().is_none());
    }
}

#[test]
fn a_lock_that_comes_and_goes_is_left_alone() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    let lock = repository.common_dir().join("refs/orchestra/state.lock");
    std::fs::create_dir_all(lock.parent().unwrap()).unwrap();
    std::fs::write(&lock, "").unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy = std::thread::spawn({
        let (stop, lock) = (stop.clone(), lock.clone());
        move || {
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                std::fs::write(&lock, number.to_string()).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    });
    let removed = repository.break_locks_below("refs/orchestra").unwrap();
    stop.store(true, Ordering::Relaxed);
    busy.join().unwrap();
    assert!(removed.is_empty() && lock.exists());
    assert_eq!(repository.break_locks_below("refs/orchestra").unwrap(), [lock]);
}

#[test]
fn worktrees_are_found_again_after_a_move() {
    let sandbox = Sandbox::new(&[]);
    let root = sandbox.dir.path().join("repo.orchestra");
    let made = add(&sandbox.open(), &root, "heron");
    std::fs::write(made.path.join("kept"), "kept").unwrap();
    // The repository is renamed: the worktree's pointer leads nowhere.
    let renamed = sandbox.dir.path().join("renamed");
    std::fs::rename(sandbox.path(), &renamed).unwrap();
    let repository = sandbox.open_in(&renamed);
    let found = repository.find_worktree("heron").unwrap().unwrap();
    assert!(!found.is_intact());
    assert_eq!(repository.relink_worktree(&found, &root).unwrap(), Some(Relinked::Repository));
    assert!(found.is_intact());
    assert_eq!(repository.relink_worktree(&found, &root).unwrap(), None, "once");
    assert_eq!(sandbox.git_in(&found.path, &["status", "--porcelain"]), "?? kept");
    // Both are moved: the repository's pointer leads nowhere either.
    let elsewhere = sandbox.dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::rename(&renamed, elsewhere.join("repo")).unwrap();
    std::fs::rename(&root, elsewhere.join("repo.orchestra")).unwrap();
    let root = elsewhere.join("repo.orchestra");
    let repository = sandbox.open_in(&elsewhere.join("repo"));
    let found = repository.find_worktree("heron").unwrap().unwrap();
    let moved = root.join("heron");
    let done = repository.relink_worktree(&found, &root).unwrap();
    assert_eq!(done, Some(Relinked::Worktree(moved.clone())));
    assert!(repository.find_worktree("heron").unwrap().unwrap().is_intact());
    assert_eq!(sandbox.git_in(&moved, &["branch", "--show-current"]), "orchestra/heron");
    assert_eq!(sandbox.git_in(&moved, &["status", "--porcelain"]), "?? kept");
}

#[test]
fn a_pointer_to_something_that_is_there_is_not_changed() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    let root = sandbox.dir.path().join("agents");
    let made = add(&repository, &root, "heron");
    let other = sandbox.dir.path().join("other/worktrees/heron");
    std::fs::create_dir_all(&other).unwrap();
    std::fs::write(made.path.join(".git"), format!("gitdir: {}\n", other.display())).unwrap();
    assert_eq!(repository.relink_worktree(&made, &root).unwrap(), None);
    std::fs::write(made.path.join(".git"), "gitdir: /nowhere/worktrees/crane\n").unwrap();
    assert_eq!(repository.relink_worktree(&made, &root).unwrap(), None, "another name");
}

#[test]
fn refs_that_were_to_move_together_do_so_after_a_kill_in_between() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    create_private(&repository.moving_dir()).unwrap();
    let tip = repository.resolve_commit("HEAD").unwrap();
    let new = |name: &str| RefEdit { name: name.into(), new: Some(tip.clone()), expected: Expected::Absent };
    let gone = RefEdit { name: "refs/orchestra/kept".into(), new: None, expected: Expected::Anything };
    let edits = vec![new("refs/orchestra/a"), new("refs/orchestra/b"), gone];
    let file = repository.moving_dir().join("7-0.json");
    let note = || {
        let moving = Moving { owner: dead(), edits: edits.clone(), left: Vec::new() };
        std::fs::write(&file, serde_json::to_vec(&moving).unwrap()).unwrap();
    };
    repository.update_refs(&[new("refs/orchestra/kept")], "test").unwrap();

    // Nothing had moved: nothing moves.
    note();
    repository.mend_locks().unwrap();
    assert!(!file.exists() && repository.find_ref("refs/orchestra/a").unwrap().is_none());

    repository.update_refs(&edits[..1], "test").unwrap();
    note();
    repository.mend_locks().unwrap();
    assert!(!file.exists());
    assert_eq!(repository.find_ref("refs/orchestra/b").unwrap(), Some(tip));
    assert_eq!(repository.find_ref("refs/orchestra/kept").unwrap(), None);
}

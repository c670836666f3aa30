//! Where a merge lands: the target moves once, and a checkout of it only if that is safe.

use super::*;

#[test]
fn a_clean_merge_lands_in_the_clean_checkout_and_settles_everything() {
    let fleet = Fleet::with(&[("blue-heron", &[("f", "one\n")]), ("red-owl", &[("g", "gg\n")])]);
    let config = std::fs::read(fleet.sandbox.path().join(".git/config")).unwrap();
    let merge = fleet.start();
    let landed = fleet.landed(&merge);
    assert_eq!(fleet.at("main"), landed.head);
    assert_eq!(
        std::fs::read_to_string(fleet.sandbox.path().join("g")).unwrap(),
        "gg\n",
        "the files went along"
    );
    assert_eq!(fleet.sandbox.git(&["status", "--porcelain"]), "");
    assert_eq!(std::fs::read(fleet.sandbox.path().join(".git/config")).unwrap(), config);
    let agent = fleet.named("blue-heron");
    assert_eq!(agent.merged.as_ref(), Some(&landed.head));
    let task: Task = fleet.store.state().unwrap().require(&agent.task.unwrap()).unwrap();
    assert_eq!(task.status, TaskStatus::Closed);
    assert_eq!(task.result, Some(format!("merged as {}", landed.head.short())));
    let log = fleet.sandbox.git(&["log", "-1", "--format=%an %s", "main"]);
    assert_eq!(log, "Ada Merge red-owl into main: The task of red-owl");
    assert!(fleet.sandbox.git(&["log", "-1", "--notes=orchestra/*", "main"]).contains(r#""name":"red-owl""#));
    assert_eq!(fleet.sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "", "nothing is kept");
    assert!(fleet.plan().steps.is_empty(), "nothing is left to merge");
    assert_eq!(fleet.sandbox.git(&["fsck", "--no-dangling"]), "");
}

#[test]
fn a_bare_target_moves_with_the_state_in_one_step() {
    let fleet = clashing();
    fleet.sandbox.git(&["checkout", "-q", "--detach"]);
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    assert_eq!(fleet.at("main"), merge.target_tip, "nothing moves before the end");
    fleet.answer(&decision, "theirs");
    let landed = fleet.landed(&merge);
    assert_eq!(fleet.at("main"), landed.head);
    assert_eq!(fleet.sandbox.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_dirty_checkout_is_left_alone() {
    let fleet = Fleet::with(&[("blue-heron", &[("f", "one\n")])]);
    std::fs::write(fleet.sandbox.path().join("g"), "precious\n").unwrap();
    let index = std::fs::read(fleet.sandbox.path().join(".git/index")).unwrap();
    let merge = fleet.start();
    let Progress::Blocked { blocked, merge: ready } = fleet.advance(&merge) else { panic!() };
    assert_eq!(blocked.dirty, ["g"]);
    assert!(blocked.command.ends_with(&format!("merge --ff-only {}", ready.head.short())));
    assert_eq!(fleet.at("main"), merge.target_tip);
    assert_eq!(std::fs::read_to_string(fleet.sandbox.path().join("g")).unwrap(), "precious\n");
    assert_eq!(std::fs::read(fleet.sandbox.path().join(".git/index")).unwrap(), index);
    // A file that git does not know is in the way: git refuses, and so do we.
    fleet.sandbox.git(&["checkout", "-q", "g"]);
    fleet.commit("refs/heads/orchestra/blue-heron", &merge.target_tip, &[("untracked", "agent\n")]);
    std::fs::write(fleet.sandbox.path().join("untracked"), "mine\n").unwrap();
    let Progress::Blocked { blocked, .. } = fleet.advance(&merge) else { panic!() };
    assert!(blocked.words.contains("untracked"), "{}", blocked.words);
    assert_eq!(std::fs::read_to_string(fleet.sandbox.path().join("untracked")).unwrap(), "mine\n");
    // The person does what we said; going on notices.
    std::fs::remove_file(fleet.sandbox.path().join("untracked")).unwrap();
    let stored: Merge = fleet.store.state().unwrap().require(&merge.id).unwrap();
    fleet.sandbox.git(&["merge", "-q", "--ff-only", stored.head.as_str()]);
    assert_eq!(fleet.landed(&merge).landed, Some(stored.head));
}

#[test]
fn a_fast_forward_that_was_cut_short_is_finished() {
    let fleet = Fleet::with(&[("blue-heron", &[("f", "one\n"), ("new/file", "n\n")])]);
    let merge = fleet.start();
    fleet.sandbox.git(&["read-tree", "-m", "-u", "HEAD", merge.head.as_str()]);
    assert_ne!(fleet.sandbox.git(&["status", "--porcelain"]), "");
    fleet.landed(&merge);
    assert_eq!(fleet.at("main"), merge.head);
    assert_eq!(fleet.sandbox.git(&["status", "--porcelain"]), "");
}

#[test]
fn a_record_that_names_any_commit_lands_what_its_steps_say() {
    let fleet = Fleet::with(&[("blue-heron", &[("f", "one\n")]), ("red-owl", &[("g", "two\n")])]);
    let planned = fleet.start();
    assert!(planned.steps.iter().all(|step| step.commit.is_some()), "{planned:#?}");
    let evil = fleet.commit("refs/heads/evil", &planned.target_tip, &[("evil", "evil\n")]);
    let tree = fleet.sandbox.git(&["rev-parse", "evil^{tree}"]);
    let tip = planned.steps[0].tip.to_string();
    let parents = ["-p", planned.target_tip.as_str(), "-p", &tip];
    let dressed = fleet.sandbox.git(&[&["commit-tree", &tree, "-m", "x"][..], &parents].concat());
    for forge in [0, 1, 2] {
        let mut merge = Merge { id: fleet.store.new_id().unwrap(), ..planned.clone() };
        match forge {
            0 => (merge.head, merge.steps) = (evil.clone(), Vec::new()),
            1 => merge.head = evil.clone(),
            _ => {
                merge.head = dressed.parse().unwrap();
                merge.steps.truncate(1);
                merge.steps[0].commit = Some(merge.head.clone());
            }
        }
        fleet.store.transact(|tx| tx.put(&merge)).unwrap();
        fleet.landed(&merge);
        assert_eq!(fleet.sandbox.git(&["ls-tree", "main", "evil"]), "", "{forge}");
    }
    let merge = Merge {
        id: fleet.store.new_id().unwrap(),
        target: "refs/tags/v1".to_owned(),
        target_tip: evil.clone(),
        head: evil,
        steps: Vec::new(),
        ..planned
    };
    fleet.sandbox.git(&["tag", "v1", "main~"]);
    fleet.store.transact(|tx| tx.put(&merge)).unwrap();
    let landed = advance(&fleet.store, &merge.id, &Rules::default(), &Gating::LeftOut(&[]), &mut |_| {});
    assert!(matches!(landed, Err(Error::NoTarget(_))), "{landed:?}");
}

#[test]
fn a_target_that_is_checked_out_twice_is_left_alone() {
    let fleet = Fleet::with(&[("blue-heron", &[("f", "one\n")])]);
    let second = fleet.sandbox.dir.path().join("second");
    fleet.sandbox.git(&["worktree", "add", "-q", "--force", second.to_str().unwrap(), "main"]);
    let merge = fleet.start();
    let Progress::Blocked { blocked, .. } = fleet.advance(&merge) else { panic!() };
    assert!(blocked.words.contains("second"), "{}", blocked.words);
    assert_eq!(fleet.at("main"), merge.target_tip);
    assert_eq!(fleet.sandbox.git_in(&second, &["status", "--porcelain"]), "");
    fleet.sandbox.git_in(&second, &["checkout", "-q", "--detach"]);
    fleet.landed(&merge);
}

//! Worktrees in real repositories, half-made ones too.

use super::*;
use crate::git::testing::{FORMATS, Sandbox};

fn add(repository: &Repository, root: &Path, name: &str) -> Result<Worktree, Error> {
    let base = repository.resolve_commit("HEAD").unwrap();
    let branch = format!("refs/heads/orchestra/{name}");
    let name: Name = name.parse().unwrap();
    repository.add_worktree(&NewWorktree { name: &name, root, branch: &branch, base: &base, sparse: &[] })
}

#[test]
fn a_worktree_is_made_found_and_removed_in_every_format() {
    for format in FORMATS {
        let sandbox = Sandbox::new(&format);
        let repository = sandbox.open();
        let root = sandbox.dir.path().join("agents");
        let made = add(&repository, &root, "heron").unwrap();
        assert_eq!(repository.find_worktree("heron").unwrap().as_ref(), Some(&made), "{format:?}");
        assert!(made.is_intact());
        let head = repository.worktree_head(&made).unwrap();
        assert_eq!(head.branch.as_deref(), Some("refs/heads/orchestra/heron"));
        assert_eq!(head.commit, repository.resolve_commit("main").ok());
        let listed = repository.checkouts().unwrap();
        assert_eq!(listed.len(), 2);
        assert_eq!((&listed[1].path, &listed[1].branch), (&made.path, &head.branch));
        sandbox.git_in(&made.path, &["checkout", "-q", "--detach"]);
        let head = repository.worktree_head(&made).unwrap();
        assert_eq!((head.branch, head.commit), (None, repository.resolve_commit("main").ok()));
        repository.remove_worktree(&made).unwrap();
        assert!(!made.path.exists());
        assert_eq!(repository.find_worktree("heron").unwrap(), None);
        assert_eq!(repository.checkouts().unwrap().len(), 1);
        assert!(repository.find_ref("refs/heads/orchestra/heron").unwrap().is_some(), "the branch stays");
        sandbox.git(&["fsck", "--strict"]);
    }
}

#[test]
fn a_bare_repository_has_worktrees_too() {
    let full = Sandbox::new(&[]);
    let bare = Sandbox::new(&["--bare"]);
    full.git(&["push", "-q", bare.path().to_str().unwrap(), "main"]);
    let repository = bare.open();
    let made = add(&repository, &bare.dir.path().join("agents"), "heron").unwrap();
    assert!(made.is_intact());
    repository.remove_worktree(&made).unwrap();
}

#[test]
fn what_exists_is_not_touched() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    let root = sandbox.dir.path().join("agents");
    add(&repository, &root, "heron").unwrap();
    assert!(matches!(add(&repository, &root, "heron"), Err(Error::Taken { what: "directory", .. })));
    let elsewhere = sandbox.dir.path().join("elsewhere");
    assert!(matches!(add(&repository, &elsewhere, "heron"), Err(Error::Taken { what: "worktree", .. })));
    sandbox.git(&["branch", "orchestra/crane"]);
    assert!(matches!(add(&repository, &root, "crane"), Err(Error::Taken { what: "branch", .. })));
    sandbox.git(&["pack-refs", "--all"]);
    assert!(add(&repository, &root, "crane").is_err(), "git knows packed ones");
    assert!(!root.join("crane").exists());
    assert!(!has_entries(&repository.intents()));
}

#[test]
fn a_directory_that_became_something_else_is_not_removed() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    let made = add(&repository, &sandbox.dir.path().join("agents"), "heron").unwrap();
    std::fs::write(made.path.join(".git"), "gitdir: /tmp\n").unwrap();
    assert!(matches!(repository.remove_worktree(&made), Err(Error::NotOurs { .. })));
    assert!(made.path.exists());
}

#[test]
fn a_worktree_whose_directory_is_gone_is_removed_and_can_be_restored() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    let root = sandbox.dir.path().join("agents");
    let made = add(&repository, &root, "heron").unwrap();
    std::fs::remove_dir_all(&made.path).unwrap();
    let name = "heron".parse().unwrap();
    let again = repository.restore_worktree(&name, &root, "refs/heads/orchestra/heron", &[]).unwrap();
    assert_eq!(again, made);
    assert!(again.is_intact());
    std::fs::remove_dir_all(&made.path).unwrap();
    repository.remove_worktree(&made).unwrap();
    assert_eq!(repository.find_worktree("heron").unwrap(), None);
}

#[test]
fn a_half_made_worktree_is_undone() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    let root = sandbox.dir.path().join("agents");
    assert!(repository.mend_worktrees().unwrap().is_empty());
    let made = add(&repository, &root, "heron").unwrap();
    // What a kill in the middle leaves: the intent, and the registration without its contents.
    let intent = Intent {
        action: Action::Add,
        name: "heron".parse().unwrap(),
        path: made.path.clone(),
        branch: "refs/heads/orchestra/heron".to_owned(),
        base: repository.resolve_commit("HEAD").ok(),
        had_branch: false,
    };
    drop(repository.write_intent(&intent).unwrap());
    std::fs::write(made.git_dir.join("commondir"), "").unwrap();
    std::fs::write(repository.common_dir().join("refs/heads/orchestra/heron.lock"), "").unwrap();
    let held = FileLock::attempt(&repository.intents().join("heron.json")).unwrap();
    let said = repository.mend_worktrees().unwrap();
    assert!(said == [Mended::Commondir("heron".to_owned())], "its maker is alive: {said:?}");
    drop(held);
    std::fs::write(made.git_dir.join("commondir"), "").unwrap();
    assert_eq!(repository.mend_worktrees().unwrap(), [Mended::Undone("heron".to_owned())]);
    assert!(!made.path.exists() && !made.git_dir.exists());
    assert_eq!(repository.find_ref("refs/heads/orchestra/heron").unwrap(), None);
    sandbox.git(&["gc", "-q"]);
    add(&repository, &root, "heron").unwrap();
}

#[test]
fn a_worktree_that_was_cut_short_before_its_pointer_was_written_is_undone() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    let root = sandbox.dir.path().join("agents");
    let intent = Intent {
        action: Action::Add,
        name: "heron".parse().unwrap(),
        path: root.join("heron"),
        branch: "refs/heads/orchestra/heron".to_owned(),
        base: repository.resolve_commit("HEAD").ok(),
        had_branch: false,
    };
    std::fs::create_dir_all(&intent.path).unwrap();
    std::fs::write(intent.path.join(".git"), "").unwrap();
    drop(repository.write_intent(&intent).unwrap());
    assert_eq!(repository.mend_worktrees().unwrap(), [Mended::Undone("heron".to_owned())]);
    assert!(!intent.path.exists());
    // Whatever else is there is somebody's.
    std::fs::create_dir_all(&intent.path).unwrap();
    std::fs::write(intent.path.join("mine"), "").unwrap();
    drop(repository.write_intent(&intent).unwrap());
    repository.mend_worktrees().unwrap();
    assert!(intent.path.join("mine").exists());
}

#[test]
fn an_empty_commondir_of_anybody_is_mended() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    let other = sandbox.dir.path().join("other");
    sandbox.git(&["worktree", "add", "-q", "-b", "other", other.to_str().unwrap()]);
    std::fs::write(repository.common_dir().join("worktrees/other/commondir"), "").unwrap();
    assert_eq!(repository.mend_worktrees().unwrap().len(), 1);
    sandbox.git(&["gc", "-q"]);
    assert_eq!(sandbox.git_in(&other, &["branch", "--show-current"]), "other");
}

#[test]
fn a_removal_that_was_cut_short_is_finished() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    let made = add(&repository, &sandbox.dir.path().join("agents"), "heron").unwrap();
    let intent = Intent {
        action: Action::Remove,
        name: "heron".parse().unwrap(),
        path: made.path.clone(),
        branch: String::new(),
        base: None,
        had_branch: true,
    };
    drop(repository.write_intent(&intent).unwrap());
    std::fs::remove_file(made.path.join(".git")).unwrap();
    assert_eq!(repository.mend_worktrees().unwrap(), [Mended::Removed("heron".to_owned())]);
    assert!(!made.path.exists() && !made.git_dir.exists());
}

#[test]
fn a_worktree_that_somebody_else_made_is_not_ours() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    let root = sandbox.dir.path().join("agents");
    let theirs = sandbox.dir.path().join("hotfix");
    sandbox.git(&["worktree", "add", "-q", "-b", "hotfix", theirs.to_str().unwrap()]);
    assert_eq!(repository.find_worktree("hotfix").unwrap(), None);
    let restored = repository.restore_worktree(&"hotfix".parse().unwrap(), &root, "refs/heads/main", &[]);
    assert!(matches!(restored, Err(Error::Taken { what: "worktree", .. })), "{restored:?}");
    assert!(add(&repository, &root, "hotfix").is_err());
    assert!(theirs.join(".git").exists());
}

#[test]
fn what_an_agent_writes_into_its_git_directory_chooses_no_configuration() {
    let sandbox = Sandbox::new(&[]);
    let repository = sandbox.open();
    let made = add(&repository, &sandbox.dir.path().join("agents"), "heron").unwrap();
    let (evil, canary) = (sandbox.dir.path().join("evil"), sandbox.dir.path().join("canary"));
    sandbox.git(&["clone", "-q", "--bare", ".", evil.to_str().unwrap()]);
    let clean = format!("touch '{}'; cat", canary.display());
    sandbox.git(&["config", "--file", evil.join("config").to_str().unwrap(), "filter.x.clean", &clean]);
    std::fs::write(made.path.join(".gitattributes"), "* filter=x\n").unwrap();
    std::fs::write(made.git_dir.join("commondir"), format!("{}\n", evil.display())).unwrap();
    repository.worktree_status(&made).unwrap();
    repository.snapshot(&made).unwrap();
    assert!(!canary.exists());
}

//! Uncommitted work in real worktrees.

use super::*;
use crate::git::NewWorktree;
use crate::git::testing::Sandbox;

struct Left {
    sandbox: Sandbox,
    repository: Repository,
    worktree: Worktree,
}

const BRANCH: &str = "refs/heads/orchestra/heron";
const RESCUE: &str = "refs/orchestra/rescue/heron/1";

impl Left {
    fn new() -> Self {
        let sandbox = Sandbox::new(&[]);
        std::fs::write(sandbox.path().join(".gitignore"), "ignored\n").unwrap();
        std::fs::write(sandbox.path().join("old"), "old\n").unwrap();
        sandbox.git(&["add", "-A"]);
        sandbox.git(&["commit", "-q", "-m", "second"]);
        let repository = sandbox.open();
        let base = repository.resolve_commit("HEAD").unwrap();
        let root = sandbox.dir.path().join("agents");
        let name = "heron".parse().unwrap();
        let new = NewWorktree { name: &name, root: &root, branch: BRANCH, base: &base, sparse: &[] };
        let worktree = repository.add_worktree(&new).unwrap();
        Self { sandbox, repository, worktree }
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.worktree.path.join(name), content).unwrap();
    }

    fn commit(&self) -> Leftover {
        let author = Identity::new("heron", "heron@orchestra");
        let new = NewLeftover {
            branch: BRANCH,
            rescue: RESCUE,
            author: &author,
            committer: &author,
            at: Timestamp(1_700_000_000_000),
            message: "left\n",
        };
        self.repository.commit_leftovers(&self.worktree, &new).unwrap()
    }

    fn in_worktree(&self, args: &[&str]) -> String {
        self.sandbox.git_in(&self.worktree.path, args)
    }
}

#[test]
fn a_clean_worktree_leaves_nothing() {
    let left = Left::new();
    left.write("ignored", "x");
    assert!(left.repository.worktree_status(&left.worktree).unwrap().is_clean());
    assert_eq!(left.commit(), Leftover::Nothing);
}

/// As it is where an agent is quick: nothing but the file's content tells that it was changed.
#[test]
fn a_change_in_the_second_of_the_checkout_without_another_size_is_seen() {
    let left = Left::new();
    left.sandbox.git(&["config", "core.trustctime", "false"]);
    let second = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
    let set = |path: &Path| File::options().write(true).open(path).unwrap().set_modified(second).unwrap();
    let (old, index) = (left.worktree.path.join("old"), left.worktree.git_dir.join("index"));
    set(&old);
    left.in_worktree(&["update-index", "--refresh"]);
    left.write("old", "new\n");
    set(&old);
    set(&index);
    left.write("other", "x\n");
    let tree = left.repository.snapshot(&left.worktree).unwrap();
    let entry = left.repository.find_in_tree(&tree, "old").unwrap().unwrap();
    assert_eq!(left.repository.read_blob(&entry.id).unwrap(), b"new\n");
    assert!(matches!(left.commit(), Leftover::Committed(_)));
    assert_eq!(left.sandbox.git(&["show", "orchestra/heron:old"]), "new");
    assert!(left.repository.worktree_status(&left.worktree).unwrap().is_clean());
}

#[test]
fn the_status_tells_kinds_apart_and_survives_odd_names() {
    let left = Left::new();
    left.write("old", "changed\n");
    left.write("new with space\nand line", "x");
    left.write("staged one", "x");
    left.in_worktree(&["add", "staged one"]);
    let status = left.repository.worktree_status(&left.worktree).unwrap();
    assert_eq!(status.changed, ["old", "staged one"]);
    assert_eq!(status.untracked, ["new with space\nand line"]);
    assert_eq!(status.count(), 3);
}

#[test]
fn a_snapshot_has_everything_and_changes_nothing() {
    let left = Left::new();
    left.write("old", "changed\n");
    left.write("new", "new\n");
    left.write("ignored", "x");
    let index = std::fs::read(left.worktree.git_dir.join("index")).unwrap();
    let tree = left.repository.snapshot(&left.worktree).unwrap();
    assert_eq!(left.sandbox.git(&["ls-tree", "--name-only", tree.as_str()]), ".gitignore\nnew\nold");
    assert_eq!(left.sandbox.git(&["show", &format!("{tree}:old")]), "changed");
    assert_eq!(std::fs::read(left.worktree.git_dir.join("index")).unwrap(), index);
    assert_eq!(left.in_worktree(&["status", "--porcelain"]), " M old\n?? new");
    let names: Vec<_> = std::fs::read_dir(&left.worktree.git_dir).unwrap().flatten().collect();
    assert!(names.iter().all(|e| !e.file_name().to_string_lossy().starts_with("orchestra-index")));
}

#[test]
fn leftovers_become_the_tip_and_the_worktree_is_clean() {
    let left = Left::new();
    left.write("new", "new\n");
    std::fs::remove_file(left.worktree.path.join("old")).unwrap();
    // Of a git that was killed with its agent.
    std::fs::write(left.worktree.git_dir.join("index.lock"), "").unwrap();
    let Leftover::Committed(commit) = left.commit() else { panic!("there was something") };
    assert_eq!(left.repository.find_ref(BRANCH).unwrap(), Some(commit.clone()));
    assert_eq!(left.in_worktree(&["status", "--porcelain"]), "");
    assert_eq!(left.sandbox.git(&["log", "-1", "--format=%an %s", commit.as_str()]), "heron left");
    assert_eq!(left.commit(), Leftover::Nothing);
    assert_eq!(left.sandbox.git(&["status", "--porcelain"]), "", "the main checkout");
}

#[test]
fn away_from_its_branch_the_work_is_rescued() {
    let left = Left::new();
    let tip = left.repository.find_ref(BRANCH).unwrap();
    left.in_worktree(&["checkout", "-q", "--detach"]);
    left.write("new", "new\n");
    let Leftover::Rescued(commit) = left.commit() else { panic!("it is detached") };
    assert_eq!(left.repository.find_ref(RESCUE).unwrap(), Some(commit));
    assert_eq!(left.repository.find_ref(BRANCH).unwrap(), tip);
    assert_eq!(left.in_worktree(&["status", "--porcelain"]), "?? new", "the worktree is as it was");
}

/// A repository in the worktree whose configuration runs a program on `git status`.
fn trap(left: &Left, name: &str, tracked: bool) -> std::path::PathBuf {
    let (dir, canary) = (left.worktree.path.join(name), left.sandbox.dir.path().join("canary"));
    std::fs::create_dir_all(&dir).unwrap();
    left.sandbox.git_in(&dir, &["init", "-q"]);
    std::fs::write(dir.join("p"), "p\n").unwrap();
    left.sandbox.git_in(&dir, &["add", "p"]);
    left.sandbox.git_in(&dir, &["commit", "-q", "-m", "inner"]);
    if tracked {
        left.in_worktree(&["-c", "advice.addEmbeddedRepo=false", "add", name]);
    }
    left.sandbox.git_in(&dir, &["config", "filter.x.clean", &format!("touch '{}'; cat", canary.display())]);
    std::fs::write(dir.join(".git/info/attributes"), "* filter=x\n").unwrap();
    // The same size and another time: git has to read it to know.
    std::fs::write(dir.join("p"), "q\n").unwrap();
    std::fs::File::open(dir.join("p")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
    canary
}

#[test]
fn repositories_inside_are_neither_entered_nor_taken_for_submodules() {
    let left = Left::new();
    let canary = trap(&left, "tracked", true);
    trap(&left, "new/loose", false);
    left.sandbox.git_in(&left.worktree.path, &["init", "-q", "unborn"]);
    left.write("new/file", "new\n");
    left.repository.worktree_status(&left.worktree).unwrap();
    left.repository.snapshot(&left.worktree).unwrap();
    let Leftover::Committed(commit) = left.commit() else { panic!("there was something") };
    assert!(!canary.exists());
    let names = left.sandbox.git(&["ls-tree", "-r", "--name-only", commit.as_str()]);
    assert_eq!(names, ".gitignore\nnew/file\nold\ntracked");
    let nested = Repository::nested_repositories(&left.worktree);
    assert_eq!(nested, ["new/loose", "tracked", "unborn"].map(PathBuf::from));
}

#[test]
fn a_last_snapshot_has_what_git_was_told_not_to_look_at() {
    let left = Left::new();
    left.write("gone", "x");
    assert!(matches!(left.commit(), Leftover::Committed(_)));
    left.in_worktree(&["update-index", "--assume-unchanged", "old"]);
    left.in_worktree(&["update-index", "--skip-worktree", ".gitignore", "gone"]);
    std::fs::remove_file(left.worktree.path.join("gone")).unwrap();
    left.write("old", "precious\n");
    left.write(".gitignore", "precious\n");
    assert_eq!(left.commit(), Leftover::Nothing);
    let tree = left.repository.snapshot_with(&left.worktree, &[]).unwrap();
    for path in ["old", ".gitignore"] {
        assert_eq!(left.sandbox.git(&["show", &format!("{tree}:{path}")]), "precious");
    }
    assert_eq!(left.sandbox.git(&["show", &format!("{tree}:gone")]), "x", "left out is not deleted");
}

#[test]
fn files_become_directories_and_directories_files() {
    let left = Left::new();
    left.write("dir", "x");
    assert!(matches!(left.commit(), Leftover::Committed(_)));
    for (gone, path) in [("old", "old/inner"), ("dir", "dir/a/b")] {
        std::fs::remove_file(left.worktree.path.join(gone)).unwrap();
        std::fs::create_dir_all(left.worktree.path.join(path).parent().unwrap()).unwrap();
        left.write(path, "x");
    }
    left.write(".gitignore", "");
    std::os::unix::fs::symlink("nowhere", left.worktree.path.join("link")).unwrap();
    let Leftover::Committed(commit) = left.commit() else { panic!("there was something") };
    let names = left.sandbox.git(&["ls-tree", "-r", "--name-only", commit.as_str()]);
    assert_eq!(names, ".gitignore\ndir/a/b\nlink\nold/inner");
    assert_eq!(left.in_worktree(&["status", "--porcelain"]), "");
    std::fs::remove_dir_all(left.worktree.path.join("dir")).unwrap();
    left.write("dir", "again");
    let Leftover::Committed(commit) = left.commit() else { panic!("there was something") };
    assert_eq!(left.sandbox.git(&["show", &format!("{commit}:dir")]), "again");
}

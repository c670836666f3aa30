//! A worktree of ours that has a commit checked out and no branch: what merges are tried in before they land.

use super::worktree::{Action, Intent, free_path, taken};
use super::{Error, Repository, Worktree};
use crate::model::{Name, ObjectId};
use std::path::Path;

/// The file in a worktree's private git directory that says that no agent works in it.
const TRIES: &str = "orchestra-tries";

impl Worktree {
    /// Whether it was made to try commits in, and belongs to no agent.
    pub fn is_for_trying(&self) -> bool {
        self.git_dir.join(TRIES).exists()
    }
}

impl Repository {
    /// The worktree of ours to try commits in; `None` if there is none.
    pub fn find_trying(&self) -> Result<Option<Worktree>, Error> {
        Ok(self.own_worktrees()?.into_iter().find(Worktree::is_for_trying))
    }

    /// Makes a worktree without a branch at `commit`, below `root`. Written down before, like those of agents.
    ///
    /// # Errors
    /// [`Error::Taken`] if something is called `name` already; nothing was made then.
    pub fn add_trying(&self, name: &Name, root: &Path, commit: &ObjectId) -> Result<Worktree, Error> {
        let lock = self.worktree_lock()?;
        if self.common_dir().join("worktrees").join(name.as_str()).exists() {
            return Err(taken("worktree", name.as_str()));
        }
        let intent = Intent {
            action: Action::Add,
            name: name.clone(),
            path: free_path(root, name)?,
            branch: String::new(),
            base: None,
            had_branch: true,
        };
        let worktree = self.make_worktree(lock, &intent, &["--detach"], commit.as_str(), &[])?;
        let file = worktree.git_dir.join(TRIES);
        std::fs::write(&file, "commits are tried here before they land\n")
            .map_err(|e| Error::file("write", file, e))?;
        Ok(worktree)
    }

    /// Checks `commit` out in a worktree to try commits in. Files that are the same keep their times, so that builds
    /// go on from what they have; changed and new ones go, except what git ignores.
    pub fn try_commit(&self, worktree: &Worktree, commit: &ObjectId) -> Result<(), Error> {
        let git =
            |args: &[&str]| self.git_at(&worktree.git_dir, Some(&worktree.path), args.iter().copied()).read();
        git(&["read-tree", "--reset", "-u", "--no-recurse-submodules", commit.as_str()])?;
        git(&["update-ref", "--no-deref", "HEAD", commit.as_str()])?;
        git(&["clean", "-ffdq"])?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::git::testing::Sandbox;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn what_is_the_same_keeps_its_time_and_what_a_try_left_goes() {
        let sandbox = Sandbox::new(&[]);
        let write = |path: &str, text: &str| std::fs::write(sandbox.path().join(path), text).unwrap();
        let commit = |message: &str| {
            sandbox.git(&["add", "-A"]);
            sandbox.git(&["commit", "-q", "-m", message]);
            sandbox.git(&["rev-parse", "HEAD"]).parse().unwrap()
        };
        write("same", "1\n");
        write("other", "1\n");
        write(".gitignore", "built\n");
        let first = commit("first");
        write("other", "2\n");
        let second = commit("second");
        let repo = sandbox.open();
        assert_eq!(repo.find_trying().unwrap(), None);
        let root = sandbox.dir.path().join("trees");
        let made = repo.add_trying(&"tries".parse().unwrap(), &root, &first).unwrap();
        assert_eq!(repo.find_trying().unwrap(), Some(made.clone()));
        assert!(repo.add_trying(&"tries".parse().unwrap(), &root, &first).is_err());
        let at = |path: &str| made.path.join(path);
        let time = || std::fs::metadata(at("same")).map(|meta| (meta.ino(), meta.mtime_nsec())).unwrap();
        let before = time();
        std::fs::write(at("built"), "b").unwrap();
        std::fs::write(at("left"), "l").unwrap();
        std::fs::write(at("other"), "broken").unwrap();
        sandbox.git_in(&made.path, &["checkout", "-q", "-b", "mine"]);
        repo.try_commit(&made, &second).unwrap();
        assert_eq!(std::fs::read_to_string(at("other")).unwrap(), "2\n");
        assert!(at("built").exists() && !at("left").exists());
        assert_eq!(time(), before);
        assert_eq!(sandbox.git_in(&made.path, &["rev-parse", "HEAD"]), second.to_string());
        assert_eq!(sandbox.git(&["rev-parse", "mine"]), first.to_string(), "no branch is moved");
        assert_eq!(sandbox.git_in(&made.path, &["status", "--porcelain", "--branch"]), "## HEAD (no branch)");
        std::fs::write(at("other"), "broken again").unwrap();
        repo.try_commit(&made, &second).unwrap();
        assert_eq!(std::fs::read_to_string(at("other")).unwrap(), "2\n");
    }
}

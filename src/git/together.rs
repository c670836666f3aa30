//! Which files were changed together: the history as sets of paths.

use super::{Error, Repository, path_text};
use crate::model::ObjectId;
use bstr::{BStr, ByteSlice};

/// What stands before each commit in git's answer: no path begins with it.
const MARK: u8 = 1;

impl Repository {
    /// The paths that each of the last `limit` commits before and at `tip` changed, newest first. Merges are left out, and
    /// renames are not followed.
    pub fn changed_together(&self, tip: &ObjectId, limit: usize) -> Result<Vec<Vec<String>>, Error> {
        let args =
            ["log", "--no-merges", "--no-renames", "--no-ext-diff", "--name-only", "-z", "--format=%x01"];
        let out = self.git(args).arg(format!("--max-count={limit}")).arg(tip.as_str()).read()?;
        let paths = |commit: &[u8]| {
            let commit = commit.strip_prefix(b"\0").unwrap_or(commit);
            let commit = commit.strip_prefix(b"\n").unwrap_or(commit);
            commit.split_str(b"\0").filter(|path| !path.is_empty()).map(text).collect::<Vec<_>>()
        };
        Ok(out.split(|&byte| byte == MARK).skip(1).map(paths).collect())
    }

    /// The paths of all files of a tree or a commit.
    pub fn files(&self, of: &ObjectId) -> Result<Vec<String>, Error> {
        let out = self.git(["ls-tree", "-r", "-z", "--name-only", "--full-tree", of.as_str()]).read()?;
        Ok(out.split_str(b"\0").filter(|path| !path.is_empty()).map(text).collect())
    }
}

fn text(path: &[u8]) -> String {
    let path: &BStr = path.as_bstr();
    path_text(path)
}

#[cfg(test)]
mod tests {
    use crate::git::testing::Sandbox;

    #[test]
    fn each_commit_is_its_paths() {
        let sandbox = Sandbox::new(&[]);
        let dir = sandbox.path();
        for (message, files) in [("one", vec!["a", "b c"]), ("two", vec!["a", "ä\nö"]), ("empty", vec![])] {
            for file in files {
                std::fs::write(dir.join(file), message).unwrap();
            }
            sandbox.git(&["add", "-A"]);
            sandbox.git(&["commit", "-q", "--allow-empty", "-m", message]);
        }
        let repo = sandbox.open();
        let head = repo.head().unwrap().commit.unwrap();
        let history = repo.changed_together(&head, 10).unwrap();
        let odd = crate::git::path_text("ä\nö".into());
        assert_eq!(history[..3], [vec![], vec!["a".to_owned(), odd.clone()], vec!["a".into(), "b c".into()]]);
        assert_eq!(repo.changed_together(&head, 1).unwrap().len(), 1);
        assert!(
            ["a", "b c", &odd].iter().all(|path| repo.files(&head).unwrap().contains(&(*path).to_owned()))
        );
    }
}

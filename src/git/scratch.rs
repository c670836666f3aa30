//! Objects that nobody is to keep: in a directory of their own, which can be thrown away whole.
//!
//! Whoever looks at uncommitted work every few seconds would otherwise fill the repository with loose objects until
//! its next `git gc`.

use super::object::{from_gix, to_gix};
use super::{Error, Repository};
use crate::model::ObjectId;
use gix::objs::{Write as _, tree::EntryKind};
use std::path::Path;

impl Repository {
    /// The same repository, but what its git processes write lands in `dir`, which is made if it is not there. They read
    /// what lies there and in the repository; so are trees and commits that are read without git. Blobs that are, are the repository's alone.
    pub fn with_scratch(&self, dir: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(dir).map_err(|e| Error::file("create", dir, e))?;
        let mut with = self.clone();
        with.scratch = Some(dir.into());
        Ok(with)
    }

    /// Writes a tree of plain files into `dir`, a directory of objects that nobody is to keep. The files are given by name,
    /// in the order of their bytes.
    pub(super) fn write_scratch_tree<'a>(
        &self,
        dir: &Path,
        files: impl Iterator<Item = (String, &'a ObjectId)>,
    ) -> Result<ObjectId, Error> {
        let entry = |(name, id): (String, &ObjectId)| gix::objs::tree::Entry {
            mode: EntryKind::Blob.into(),
            filename: name.into(),
            oid: to_gix(id),
        };
        let tree = gix::objs::Tree { entries: files.map(entry).collect() };
        let written = gix::odb::loose::Store::at(dir, self.gix.object_hash()).write(&tree);
        Ok(from_gix(&written.map_err(|e| Error::write("tree", e))?))
    }

    /// A commit of `tree` on top of `parent`, by git and in nobody's name: it lies where git writes.
    pub fn commit_tree(&self, tree: &ObjectId, parent: &ObjectId) -> Result<ObjectId, Error> {
        let mut command = self.git(["commit-tree", tree.as_str(), "-p", parent.as_str(), "-m", "snapshot"]);
        for who in ["AUTHOR", "COMMITTER"] {
            command = command.env(format!("GIT_{who}_NAME"), "git-orchestra");
            command = command.env(format!("GIT_{who}_EMAIL"), "git-orchestra@localhost");
            // Equal trees are equal commits.
            command = command.env(format!("GIT_{who}_DATE"), "@0 +0000");
        }
        let out = command.read()?;
        let text = String::from_utf8_lossy(&out);
        text.trim().parse().map_err(|_| Error::unexpected("commit-tree", &out))
    }

    /// The directories of a tree, with `/` and without the root.
    pub fn directories(&self, tree: &ObjectId) -> Result<Vec<String>, Error> {
        let out = self.git(["ls-tree", "-r", "-d", "-z", "--name-only", tree.as_str()]).read()?;
        let names = out.split(|&byte| byte == 0).filter(|name| !name.is_empty());
        Ok(names.filter_map(|name| std::str::from_utf8(name).ok().map(str::to_owned)).collect())
    }
}

#[cfg(test)]
mod tests {
    use crate::git::testing::Sandbox;

    #[test]
    fn what_is_written_lands_apart_and_is_read_by_git() {
        let sandbox = Sandbox::new(&[]);
        std::fs::create_dir_all(sandbox.path().join("a/b")).unwrap();
        std::fs::write(sandbox.path().join("a/b/file"), "one\n").unwrap();
        sandbox.git(&["add", "."]);
        sandbox.git(&["commit", "-q", "-m", "one"]);
        let repo = sandbox.open();
        let apart = sandbox.path().join(".git/apart");
        let scratch = repo.with_scratch(&apart).unwrap();
        let head = repo.head().unwrap().commit.unwrap();
        let tree = repo.read_commit(&head).unwrap().tree;
        let first = scratch.commit_tree(&tree, &head).unwrap();
        assert_eq!(scratch.commit_tree(&tree, &head).unwrap(), first);
        assert!(!repo.has_object(&first));
        assert!(repo.read(["cat-file", "-e", first.as_str()]).is_err());
        assert_eq!(scratch.read(["cat-file", "-t", first.as_str()]).unwrap(), "commit");
        assert_eq!(scratch.directories(&tree).unwrap(), ["a", "a/b"]);
        std::fs::remove_dir_all(&apart).unwrap();
        std::fs::create_dir(&apart).unwrap();
        assert!(scratch.read(["cat-file", "-e", first.as_str()]).is_err(), "gone with its directory");
        assert_eq!(scratch.read(["cat-file", "-t", head.as_str()]).unwrap(), "commit");
    }
}

//! A commit-graph of our own, with the paths that each commit changed, and the walk that asks it.
//!
//! It lies in a directory for objects of its own, that has the repository's as its alternate: the user's commit-graph
//! stays as it is. (Adding ours to theirs would make their next `git gc` work out the changed paths of their whole
//! history, because git keeps doing what some of a graph has.) It holds nothing but this file, may be thrown away at
//! any time, and is never needed: without it the same walk reads every tree.

use super::{Error, Repository};
use crate::model::ObjectId;
use crate::process::{Command, Conversation};
use bstr::ByteSlice;
use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;

/// Where it lies, below the directory of what never leaves this machine.
const DIR: &str = "cache/graph";
/// The repository's own objects, seen from there.
const ALTERNATE: &str = "../../../objects\n";

impl Repository {
    /// Writes what `tips` reach into a commit-graph of our own, with the paths that each commit changed. Those that
    /// were worked out before are taken over. One process at a time.
    pub fn write_commit_graph(&self, tips: &[ObjectId]) -> Result<(), Error> {
        let info = self.graph_dir().join("info");
        std::fs::create_dir_all(&info).map_err(|e| Error::file("create", &info, e))?;
        let alternates = info.join("alternates");
        if std::fs::read(&alternates).ok().as_deref() != Some(ALTERNATE.as_bytes()) {
            let failed = |e| Error::file("write", &alternates, e);
            let mut file = tempfile::NamedTempFile::new_in(&info).map_err(failed)?;
            file.write_all(ALTERNATE.as_bytes()).map_err(failed)?;
            file.persist(&alternates).map_err(|e| failed(e.error))?;
        }
        // Nobody else writes here: one that is there is that of a git that was killed.
        let lock = info.join("commit-graph.lock");
        match std::fs::remove_file(&lock) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::file("remove", &lock, e));
            }
            _ => {}
        }
        let input = tips.iter().map(ObjectId::as_str).collect::<Vec<_>>().join("\n");
        // On disk before it has its name: a filter that a power cut emptied would hide commits.
        let args = [
            "-c",
            "core.fsync=all",
            "commit-graph",
            "write",
            "--stdin-commits",
            "--changed-paths",
            "--no-progress",
        ];
        self.with_graph(args).stdin(input).read()?;
        Ok(())
    }

    /// The commits that `tips` reach and `not` does not, and in which `path` (one file, nothing else) is otherwise than in
    /// each of their parents; children before parents, whatever their clocks said.
    pub fn commits_touching(
        &self,
        tips: &[ObjectId],
        not: Option<&ObjectId>,
        path: &str,
    ) -> Result<Touching<'_>, Error> {
        let graph = self.graph_dir().join("info/commit-graph").is_file();
        let mut touching = Touching {
            repo: self,
            tips: tips.iter().map(ToString::to_string).chain(not.map(|not| format!("^{not}"))).collect(),
            path: path.to_owned(),
            graph,
            seen: HashSet::new(),
            talk: None,
        };
        touching.start()?;
        Ok(touching)
    }

    fn graph_dir(&self) -> PathBuf {
        self.local_dir().join(DIR)
    }

    /// A git that reads our commit-graph, whatever the user's configuration says of theirs.
    fn with_graph<const N: usize>(&self, args: [&str; N]) -> Command {
        let on = ["-c", "core.commitGraph=true", "-c", "commitGraph.readChangedPaths=true"];
        // Replaced commits would switch the graph off, and nothing of ours is ever one.
        let command = self.git(on).env("GIT_OBJECT_DIRECTORY", self.graph_dir());
        command.env("GIT_NO_REPLACE_OBJECTS", "1").args(args)
    }
}

/// The commits that changed one path, as git finds them.
#[derive(Debug)]
pub struct Touching<'r> {
    repo: &'r Repository,
    tips: Vec<String>,
    path: String,
    graph: bool,
    seen: HashSet<ObjectId>,
    talk: Option<(Command, Conversation)>,
}

impl Touching<'_> {
    fn start(&mut self) -> Result<(), Error> {
        // All parents of a merge are followed: what lost in it against the other side is history too. One path each:
        // git asks its filters for a single one only.
        let args = ["rev-list", "--full-history", "--date-order"];
        let command = if self.graph { self.repo.with_graph(args) } else { self.repo.git(args) };
        let command = command.env("GIT_LITERAL_PATHSPECS", "1").args(&self.tips).args(["--", &self.path]);
        let talk = command.converse()?;
        self.talk = Some((command, talk));
        Ok(())
    }

    /// The next one; `None` when there are no more. Whoever has enough drops it, and git stops.
    pub fn find_next(&mut self) -> Result<Option<ObjectId>, Error> {
        loop {
            let Some((_, talk)) = &mut self.talk else { return Ok(None) };
            while let Some(line) = talk.hear()? {
                let id: ObjectId =
                    line.parse().map_err(|_| Error::Output { command: "rev-list", detail: line })?;
                if self.seen.insert(id.clone()) {
                    return Ok(Some(id));
                }
            }
            let Some((command, talk)) = self.talk.take() else { return Ok(None) };
            let output = talk.end()?;
            if output.status.success() {
                return Ok(None);
            }
            if !self.graph {
                return Err(command.failed(&output).into());
            }
            // A graph that cannot be read is as good as none.
            tracing::debug!("without the commit-graph: {}", output.stderr.trim().to_str_lossy());
            self.graph = false;
            self.start()?;
        }
    }
}

impl Drop for Touching<'_> {
    fn drop(&mut self) {
        if let Some((_, talk)) = self.talk.take() {
            talk.stop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sandbox;
    use super::*;

    fn touching(repo: &Repository, tip: &ObjectId, path: &str) -> Vec<ObjectId> {
        let mut walk = repo.commits_touching(std::slice::from_ref(tip), None, path).unwrap();
        std::iter::from_fn(|| walk.find_next().unwrap()).collect()
    }

    #[test]
    fn the_users_graph_stays_and_a_broken_one_of_ours_is_done_without() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        std::fs::create_dir_all(repo.local_dir()).unwrap();
        let mut wanted = Vec::new();
        for number in 0..12 {
            let path = if number % 3 == 0 { "a/[b]" } else { "a/b" };
            let file = sandbox.path().join(path);
            std::fs::create_dir_all(file.parent().unwrap()).unwrap();
            std::fs::write(file, number.to_string()).unwrap();
            sandbox.git(&["add", "--all"]);
            sandbox.git(&["commit", "--quiet", "--message", "change"]);
            if number % 3 == 0 {
                wanted.insert(0, repo.resolve_commit("HEAD").unwrap());
            }
        }
        sandbox.git(&["commit-graph", "write", "--reachable"]);
        let users = repo.common_dir().join("objects/info/commit-graph");
        let before = std::fs::read(&users).unwrap();
        let tip = wanted[0].clone();
        assert_eq!(touching(&repo, &tip, "a/[b]"), wanted, "without a graph");
        repo.write_commit_graph(std::slice::from_ref(&tip)).unwrap();
        assert_eq!(std::fs::read(&users).unwrap(), before);
        assert!(!repo.common_dir().join("objects/info/commit-graphs").exists());
        let ours = repo.graph_dir().join("info/commit-graph");
        std::fs::write(repo.graph_dir().join("info/commit-graph.lock"), "").unwrap();
        repo.write_commit_graph(std::slice::from_ref(&tip)).unwrap();
        assert!(std::fs::read(&ours).unwrap().find("BDAT").is_some(), "it has the changed paths");
        assert_eq!(touching(&repo, &tip, "a/[b]"), wanted);
        let mut walk = repo.commits_touching(std::slice::from_ref(&tip), None, "a/[b]").unwrap();
        assert_eq!(walk.find_next().unwrap().as_ref(), wanted.first());
        drop(walk);
        let bytes = std::fs::read(&ours).unwrap();
        for broken in [&bytes[..bytes.len() / 2], &bytes[..0], b"what is this"] {
            std::fs::remove_file(&ours).unwrap();
            std::fs::write(&ours, broken).unwrap();
            assert_eq!(touching(&repo, &tip, "a/[b]"), wanted, "a broken one of {} bytes", broken.len());
        }
    }
}

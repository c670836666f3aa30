//! What commits bring that somebody else does not have: their messages, and the files that they add or change. Reads
//! only: one `git rev-list` and one `git diff-tree`, whatever there is.

use super::{Error, FileChange, Repository};
use crate::model::ObjectId;
use bstr::{BString, ByteSlice};
use std::collections::BTreeMap;

/// What one commit brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Brought {
    /// The commit.
    pub commit: ObjectId,
    /// Its message.
    pub message: String,
    /// Its files that none of its parents has like that.
    pub files: Vec<BroughtFile>,
}

/// A file as a commit leaves it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BroughtFile {
    /// Its path.
    pub path: BString,
    /// Its content.
    pub blob: ObjectId,
    /// What its commit's parents had there.
    pub before: Vec<ObjectId>,
}

impl Repository {
    /// What `tip` brings beside everything that `known` have, commit by commit, the oldest first.
    ///
    /// # Errors
    /// If anything of it cannot be read.
    pub fn brought(&self, tip: &ObjectId, known: &[ObjectId]) -> Result<Vec<Brought>, Error> {
        let mut input = format!("{tip}\n");
        // One that is not here has nothing that could be excluded.
        for id in known.iter().filter(|id| self.has_object(id)) {
            input.push('^');
            input.push_str(id.as_str());
            input.push('\n');
        }
        let list = self.git(["rev-list", "--reverse", "--topo-order", "--stdin"]).stdin(input).read()?;
        let mut pairs = Vec::new();
        let mut commits = Vec::new();
        for line in list.lines() {
            let id = line.to_str().ok().and_then(|line| line.parse().ok());
            let id: ObjectId = id.ok_or_else(|| Error::unexpected("rev-list", line))?;
            let commit = self.read_commit(&id)?;
            let mut before = Vec::new();
            // Parents that a shallow clone does not have cannot be compared with.
            for parent in commit.parents.iter().filter(|parent| self.has_object(parent)) {
                before.push(self.read_commit(parent)?.tree);
            }
            if before.is_empty() {
                before.push(self.empty_tree());
            }
            let parents = before.len();
            pairs.extend(before.into_iter().map(|old| (old, commit.tree.clone())));
            commits.push((id, commit, parents));
        }
        let mut changes = self.entries_between(&pairs)?.into_iter();
        let mut all = Vec::with_capacity(commits.len());
        for (id, commit, parents) in commits {
            let mut files: BTreeMap<BString, (ObjectId, Vec<ObjectId>, usize)> = BTreeMap::new();
            for change in changes.by_ref().take(parents).flatten() {
                let blob = |mode: u32, id| (mode != FileChange::SUBMODULE).then_some(id).flatten();
                let Some(now) = blob(change.new_mode, change.new_id) else { continue };
                let file = files.entry(change.path).or_insert_with(|| (now, Vec::new(), 0));
                file.1.extend(blob(change.old_mode, change.old_id));
                file.2 += 1;
            }
            // What a merge has from one of its parents is that parent's.
            let files = files.into_iter().filter(|(_, (_, _, times))| *times == parents);
            let files = files.map(|(path, (blob, before, _))| BroughtFile { path, blob, before }).collect();
            all.push(Brought { commit: id, message: commit.message, files });
        }
        Ok(all)
    }

    /// Which lines of a commit's files hold one of `words` (none of which has a line break), one after the other.
    pub fn lines_with(&self, commit: &ObjectId, words: &[Vec<u8>]) -> Result<Vec<u8>, Error> {
        let args = ["grep", "-a", "-h", "-F", "--no-color", "--no-line-number", "--no-column"];
        let more = ["--no-recurse-submodules", "-f", "-", commit.as_str(), "--"];
        let command = self.git(args).args(more).stdin(bstr::join("\n", words));
        let output = command.output()?;
        match output.status.code() {
            // Nothing was found.
            Some(1) => Ok(Vec::new()),
            _ => Ok(command.read()?),
        }
    }

    fn empty_tree(&self) -> ObjectId {
        let id = match self.id_len() {
            40 => "4b825dc642cb6eb9a060e54bf8d69288fbee4904",
            _ => "6ef19b41225c5369f1c104d45d8d85efa9b057b53b14b4b9b939dd74decc5321",
        };
        id.parse().expect("both are ids")
    }
}

#[cfg(test)]
mod tests {
    use crate::git::testing::Sandbox;

    #[test]
    fn what_commits_bring_is_told_once_and_what_a_merge_has_of_a_parent_is_not_its_own() {
        let sandbox = Sandbox::new(&[]);
        let at = |rev: &str| sandbox.git(&["rev-parse", rev]).parse().unwrap();
        let write = |path: &str, text: &str| std::fs::write(sandbox.path().join(path), text).unwrap();
        let commit = |message: &str| {
            sandbox.git(&["add", "."]);
            sandbox.git(&["commit", "-q", "-m", message]);
        };
        let base = at("HEAD");
        sandbox.git(&["checkout", "-q", "-b", "side"]);
        write("side file", "1\n");
        commit("On the side");
        sandbox.git(&["checkout", "-q", "-"]);
        write("a", "1\n");
        commit("First");
        write("a", "2\n");
        commit("Second");
        sandbox.git(&["merge", "-q", "--no-edit", "side"]);
        let brought = sandbox.open().brought(&at("HEAD"), std::slice::from_ref(&base)).unwrap();
        let mut told: Vec<_> = brought
            .iter()
            .map(|one| {
                let files: Vec<_> =
                    one.files.iter().map(|file| format!("{}:{}", file.path, file.before.len())).collect();
                (one.message.lines().next().unwrap().to_owned(), files.join(","))
            })
            .collect();
        assert!(told.pop().unwrap().1.is_empty(), "the merge brings nothing: {brought:?}");
        told.sort();
        let one = |message: &str, files: &str| (message.to_owned(), files.to_owned());
        assert_eq!(told, [one("First", "a:0"), one("On the side", "side file:0"), one("Second", "a:1")]);
        let nothing = sandbox.open().brought(&base, std::slice::from_ref(&base)).unwrap();
        assert!(nothing.is_empty());
        let lines = sandbox.open().lines_with(&at("HEAD"), &[b"2".to_vec(), b"none".to_vec()]).unwrap();
        assert_eq!(lines, b"2\n");
        assert!(sandbox.open().lines_with(&at("HEAD"), &[b"none".to_vec()]).unwrap().is_empty());
        let all = sandbox.open().brought(&at("HEAD"), &[]).unwrap();
        assert_eq!(all.len(), brought.len() + 1, "and the first commit of all");
    }
}

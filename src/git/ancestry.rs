//! How several commits descend from each other: merge bases and distances of every pair, from two processes.

use super::{Error, Repository};
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::collections::HashMap;

/// The part of the history that lies between some tips and their common ancestor.
///
/// Made by [`Repository::ancestry`]; it answers for the commits it was made for, and for no others.
#[derive(Debug, Clone)]
pub struct Ancestry {
    /// Children before parents.
    commits: Vec<Node>,
    index: HashMap<ObjectId, usize>,
    /// For each tip, by position in `commits`, which commits it contains.
    reach: HashMap<usize, Vec<u64>>,
}

#[derive(Debug, Clone)]
struct Node {
    id: ObjectId,
    tree: ObjectId,
    parents: Vec<usize>,
}

impl Repository {
    /// Reads how `tips` (commits) descend from each other.
    pub fn ancestry(&self, tips: &[ObjectId]) -> Result<Ancestry, Error> {
        let mut tips = tips.to_vec();
        tips.sort_unstable();
        tips.dedup();
        let mut input: Vec<_> = tips.iter().map(|tip| format!("{tip}\n")).collect();
        // Every merge base of two tips is either a descendant of any common ancestor of all of them, or that
        // ancestor itself: what lies behind it can be left out.
        if let Some(common) = self.common_ancestor(&tips)? {
            // Its parents by git's word: in a shallow clone the commit itself names some that are not there.
            input.push(format!("^{common}^@\n"));
        }
        let out = self
            .git(["rev-list", "--topo-order", "--no-commit-header", "--format=%H %T %P", "--stdin"])
            .stdin(input.concat())
            .read()?;
        Ancestry::parse(&out, &tips)
    }

    /// The merge commits that `tip` has and `since` does not, each with its parents; parents before children.
    pub fn merges_between(
        &self,
        since: &ObjectId,
        tip: &ObjectId,
    ) -> Result<Vec<(ObjectId, Vec<ObjectId>)>, Error> {
        let args = ["rev-list", "--merges", "--parents", "--topo-order", "--reverse"];
        let out = self.git(args).args([tip.as_str(), &format!("^{since}")]).read()?;
        let parse = |line: &[u8]| {
            let ids =
                line.to_str_lossy().split_ascii_whitespace().map(str::parse).collect::<Result<Vec<_>, _>>();
            let mut ids = ids.map_err(|_| Error::unexpected("rev-list", line))?;
            Ok((ids.remove(0), ids))
        };
        out.lines().map(parse).collect()
    }

    /// A commit that all of `tips` contain, the best there is; `None` for unrelated histories.
    pub fn common_ancestor(&self, tips: &[ObjectId]) -> Result<Option<ObjectId>, Error> {
        if let [only] = tips {
            return Ok(Some(only.clone()));
        }
        let command = self.git(["merge-base", "--octopus"]).args(tips.iter().map(ObjectId::as_str));
        let output = command.output()?;
        match output.status.code() {
            Some(0) => Ok(output.stdout.trim().to_str_lossy().parse().ok()),
            Some(1) => Ok(None),
            _ => Err(command.failed(&output).into()),
        }
    }
}

impl Ancestry {
    fn parse(out: &[u8], tips: &[ObjectId]) -> Result<Self, Error> {
        let mut lines = Vec::new();
        let mut index = HashMap::new();
        for line in out.lines() {
            let mut ids = line.to_str_lossy().split_ascii_whitespace().map(str::parse).collect::<Vec<_>>();
            if ids.len() < 2 || ids.iter().any(Result::is_err) {
                return Err(Error::unexpected("rev-list", line));
            }
            let parents: Vec<ObjectId> = ids.drain(2..).flatten().collect();
            let mut own = ids.into_iter().flatten();
            let (Some(id), Some(tree)) = (own.next(), own.next()) else {
                return Err(Error::unexpected("rev-list", line));
            };
            index.insert(id.clone(), lines.len());
            lines.push((id, tree, parents));
        }
        let commits: Vec<Node> = lines
            .into_iter()
            .map(|(id, tree, parents)| Node {
                id,
                tree,
                parents: parents.iter().filter_map(|p| index.get(p).copied()).collect(),
            })
            .collect();
        let mut ancestry = Self { commits, index, reach: HashMap::new() };
        for tip in tips {
            let at = ancestry.position(tip);
            let reach = ancestry.walk(at);
            ancestry.reach.insert(at, reach);
        }
        Ok(ancestry)
    }

    fn walk(&self, tip: usize) -> Vec<u64> {
        let mut bits = vec![0_u64; self.commits.len().div_ceil(64)];
        bits[tip / 64] |= 1 << (tip % 64);
        // Children come first, so one pass reaches everything.
        for (at, node) in self.commits.iter().enumerate().skip(tip) {
            if has(&bits, at) {
                for &parent in &node.parents {
                    bits[parent / 64] |= 1 << (parent % 64);
                }
            }
        }
        bits
    }

    fn position(&self, commit: &ObjectId) -> usize {
        *self.index.get(commit).expect("asked only for commits that it was made for")
    }

    /// The best common ancestors of two tips: none for unrelated histories, several after criss-cross merges.
    ///
    /// # Panics
    /// If it was not made for both.
    pub fn merge_bases(&self, a: &ObjectId, b: &ObjectId) -> Vec<&ObjectId> {
        let (a, b) = (&self.reach[&self.position(a)], &self.reach[&self.position(b)]);
        let mut covered = vec![false; self.commits.len()];
        let mut bases = Vec::new();
        for (at, node) in self.commits.iter().enumerate() {
            if has(a, at) && has(b, at) {
                if !covered[at] {
                    bases.push(&node.id);
                }
                for &parent in &node.parents {
                    covered[parent] = true;
                }
            }
        }
        bases
    }

    /// How many commits only `a` has, and how many only `b`.
    ///
    /// # Panics
    /// If it was not made for both.
    pub fn ahead_behind(&self, a: &ObjectId, b: &ObjectId) -> (u32, u32) {
        let (a, b) = (&self.reach[&self.position(a)], &self.reach[&self.position(b)]);
        let only = |x: &[u64], y: &[u64]| x.iter().zip(y).map(|(x, y)| (x & !y).count_ones()).sum();
        (only(a, b), only(b, a))
    }

    /// Whether `descendant` contains `ancestor`, or is it.
    ///
    /// # Panics
    /// If it was not made for both.
    pub fn contains(&self, descendant: &ObjectId, ancestor: &ObjectId) -> bool {
        has(&self.reach[&self.position(descendant)], self.position(ancestor))
    }

    /// The tree of one of its commits, merge bases included.
    ///
    /// # Panics
    /// If the commit is not part of it.
    pub fn tree(&self, commit: &ObjectId) -> &ObjectId {
        &self.commits[self.position(commit)].tree
    }
}

fn has(bits: &[u64], at: usize) -> bool {
    bits[at / 64] & (1 << (at % 64)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    #[test]
    fn a_shallow_clone_ends_where_it_ends() {
        let sandbox = Sandbox::new(&[]);
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "second"]);
        let url = format!("file://{}", sandbox.path().display());
        let clone = sandbox.dir.path().join("clone");
        sandbox.git(&["clone", "-q", "--depth", "1", &url, clone.to_str().unwrap()]);
        let commit = |name: &str| -> ObjectId {
            sandbox.git_in(&clone, &["commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", name]).parse().unwrap()
        };
        let (a, b) = (commit("a"), commit("b"));
        let head: ObjectId = sandbox.git_in(&clone, &["rev-parse", "HEAD"]).parse().unwrap();
        let ancestry = sandbox.open_in(&clone).ancestry(&[a.clone(), b.clone()]).unwrap();
        assert_eq!(ancestry.merge_bases(&a, &b), [&head]);
    }

    #[test]
    fn every_pair_agrees_with_git() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        let commit = |name: &str, parents: &[&str]| {
            let mut args = vec!["commit-tree", "HEAD^{tree}", "-m", name];
            args.extend(parents.iter().flat_map(|&parent| ["-p", parent]));
            let id = sandbox.git(&args);
            sandbox.git(&["update-ref", &format!("refs/heads/{name}"), &id]);
        };
        // A criss-cross (c, d), a stacked branch (e on c), one that stayed at the root, and an unrelated history.
        commit("root", &[]);
        commit("a", &["root"]);
        commit("b", &["root"]);
        commit("c", &["a", "b"]);
        commit("d", &["b", "a"]);
        commit("e", &["c"]);
        commit("stays", &["root"]);
        commit("alien", &[]);
        let id = |name: &str| -> ObjectId { sandbox.git(&["rev-parse", name]).parse().unwrap() };
        for names in
            [&["a", "b", "c", "d", "e", "stays", "root"][..], &["c", "d", "e"], &["d", "alien", "a"], &["e"]]
        {
            let tips: Vec<_> = names.iter().map(|name| id(name)).collect();
            let ancestry = repo.ancestry(&tips).unwrap();
            for a in &tips {
                for b in &tips {
                    let bases = sandbox_bases(&sandbox, a, b);
                    let mut found: Vec<_> = ancestry.merge_bases(a, b).into_iter().cloned().collect();
                    found.sort();
                    assert_eq!(found, bases, "{names:?} {a} {b}");
                    assert_eq!(ancestry.ahead_behind(a, b), repo.ahead_behind(a, b).unwrap());
                    assert_eq!(ancestry.contains(a, b), bases == [b.clone()]);
                }
                assert_eq!(ancestry.tree(a), &id("HEAD^{tree}"));
            }
        }
    }

    fn sandbox_bases(sandbox: &Sandbox, a: &ObjectId, b: &ObjectId) -> Vec<ObjectId> {
        let script = format!("git merge-base --all {a} {b} || true");
        let out = sandbox.git(&["-c", &format!("alias.bases=!{script}"), "bases"]);
        let mut bases: Vec<_> = out.lines().map(|line| line.parse().unwrap()).collect();
        bases.sort();
        bases
    }
}

//! How several commits descend from each other: merge bases and distances of every pair, from one walk by gix.

use super::object::{from_gix, to_gix};
use super::{Error, Repository};
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

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
    /// Reads how `tips` (commits) descend from each other: one walk down from all of them, to where nothing but what all
    /// of them contain is left.
    ///
    /// Where clocks were wrong it can go on for too little among what all contain: then a pair may seem to have several
    /// merge bases where git knows one of them to be enough, and never fewer.
    pub fn ancestry(&self, tips: &[ObjectId]) -> Result<Ancestry, Error> {
        let mut tips = tips.to_vec();
        tips.sort_unstable();
        tips.dedup();
        Walk::new(self, tips.len())?.run(&tips)
    }

    /// The merge commits that one of `tips` has and `since` does not, each with its parents; parents before children.
    pub fn merges_between(
        &self,
        since: &ObjectId,
        tips: &[&ObjectId],
    ) -> Result<Vec<(ObjectId, Vec<ObjectId>)>, Error> {
        let args = ["rev-list", "--merges", "--parents", "--topo-order", "--reverse"];
        let (tips, since) = (tips.iter().map(|tip| tip.as_str()), format!("^{since}"));
        let out = self.git(args).args(tips).arg(since).read()?;
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
    /// Of nodes in any order, whose parents are given by position.
    fn new(nodes: Vec<Node>, tips: &[ObjectId]) -> Self {
        let mut children = vec![0_u32; nodes.len()];
        for &parent in nodes.iter().flat_map(|node| &node.parents) {
            children[parent] += 1;
        }
        let mut order: Vec<usize> = (0..nodes.len()).filter(|&at| children[at] == 0).collect();
        let mut next = 0;
        while let Some(&at) = order.get(next) {
            next += 1;
            for &parent in &nodes[at].parents {
                children[parent] -= 1;
                if children[parent] == 0 {
                    order.push(parent);
                }
            }
        }
        let mut place = vec![0; nodes.len()];
        for (to, &from) in order.iter().enumerate() {
            place[from] = to;
        }
        let mut commits = nodes;
        for node in &mut commits {
            for parent in &mut node.parents {
                *parent = place[*parent];
            }
        }
        let mut placed: Vec<_> = commits.into_iter().enumerate().collect();
        placed.sort_by_key(|&(from, _)| place[from]);
        let commits: Vec<Node> = placed.into_iter().map(|(_, node)| node).collect();
        let index = commits.iter().enumerate().map(|(at, node)| (node.id.clone(), at)).collect();
        let mut ancestry = Self { commits, index, reach: HashMap::new() };
        for tip in tips {
            let at = ancestry.position(tip);
            let reach = ancestry.walk(at);
            ancestry.reach.insert(at, reach);
        }
        ancestry
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

/// A walk down from several tips, newest commits first.
struct Walk<'a> {
    repo: &'a Repository,
    graph: Option<gix::commitgraph::Graph>,
    /// Commits that have no parents here.
    shallow: HashSet<gix::ObjectId>,
    tips: usize,
    known: HashMap<gix::ObjectId, usize>,
    seen: Vec<Seen>,
    /// What is to be looked at: by the commit's time, then the earliest first.
    queue: BinaryHeap<(i64, Reverse<usize>)>,
    /// How many entries of the queue stand for commits that can still be, or lead to, somebody's merge base.
    open: usize,
    buffer: Vec<u8>,
}

/// A commit that was met.
struct Seen {
    id: gix::ObjectId,
    tree: gix::ObjectId,
    parents: Vec<gix::ObjectId>,
    time: i64,
    /// Which tips contain it.
    tips: Vec<u64>,
    /// Whether a commit that all tips contain has it among its ancestors.
    stale: bool,
    queued: bool,
    /// Whether its parents were looked at, and are known.
    entered: bool,
}

impl<'a> Walk<'a> {
    fn new(repo: &'a Repository, tips: usize) -> Result<Self, Error> {
        let failed = |e: gix::Error| Error::Open { dir: repo.common_dir().to_owned(), source: e.into() };
        let shallow: HashSet<_> = repo
            .gix
            .shallow_commits()
            .map_err(failed)?
            .map(|ids| ids.iter().copied().collect())
            .unwrap_or_default();
        // It knows nothing of where a clone was cut off; one that cannot be read is only slower.
        let graph = if shallow.is_empty() { repo.gix.commit_graph_if_enabled().ok().flatten() } else { None };
        let (known, seen, queue) = (HashMap::new(), Vec::new(), BinaryHeap::new());
        Ok(Self { repo, graph, shallow, tips, known, seen, queue, open: 0, buffer: Vec::new() })
    }

    fn run(mut self, tips: &[ObjectId]) -> Result<Ancestry, Error> {
        for (number, tip) in tips.iter().enumerate() {
            let at = self.meet(to_gix(tip))?;
            self.seen[at].tips[number / 64] |= 1 << (number % 64);
            self.push(at);
        }
        while self.open > 0 {
            let Some((_, Reverse(at))) = self.queue.pop() else { break };
            self.seen[at].queued = false;
            self.open -= usize::from(!self.seen[at].stale);
            self.enter(at)?;
        }
        // What was not entered leads to nothing that counts.
        let parents = |seen: &Seen| {
            let parents = seen.parents.iter().filter(|_| seen.entered);
            parents.filter_map(|parent| self.known.get(parent).copied()).collect()
        };
        let node =
            |seen: &Seen| Node { id: from_gix(&seen.id), tree: from_gix(&seen.tree), parents: parents(seen) };
        Ok(Ancestry::new(self.seen.iter().map(node).collect(), tips))
    }

    /// Hands on to its parents what is known of a commit.
    fn enter(&mut self, at: usize) -> Result<(), Error> {
        self.seen[at].entered = true;
        let stale = self.seen[at].stale || self.is_common(at);
        for parent in self.seen[at].parents.clone() {
            let parent = self.meet(parent)?;
            let bits = self.seen[at].tips.clone();
            let was_open = self.seen[parent].queued && !self.seen[parent].stale;
            let node = &mut self.seen[parent];
            let mut changed = stale && !node.stale;
            node.stale |= stale;
            for (bits, more) in node.tips.iter_mut().zip(bits) {
                changed |= more & !*bits != 0;
                *bits |= more;
            }
            if node.queued {
                self.open -= usize::from(was_open && node.stale);
            } else if changed || !node.entered {
                self.push(parent);
            }
        }
        Ok(())
    }

    fn push(&mut self, at: usize) {
        let node = &mut self.seen[at];
        if !node.queued {
            node.queued = true;
            self.open += usize::from(!node.stale);
            self.queue.push((node.time, Reverse(at)));
        }
    }

    /// Whether all tips contain it.
    fn is_common(&self, at: usize) -> bool {
        self.seen[at].tips.iter().map(|bits| bits.count_ones() as usize).sum::<usize>() == self.tips
    }

    fn meet(&mut self, id: gix::ObjectId) -> Result<usize, Error> {
        if let Some(&at) = self.known.get(&id) {
            return Ok(at);
        }
        let (tree, mut parents, time) = match self.in_graph(&id) {
            Some(found) => found,
            None => self.read(id)?,
        };
        if self.shallow.contains(&id) {
            parents.clear();
        }
        let tips = vec![0; self.tips.div_ceil(64)];
        let at = self.seen.len();
        self.seen.push(Seen { id, tree, parents, time, tips, stale: false, queued: false, entered: false });
        self.known.insert(id, at);
        Ok(at)
    }

    fn in_graph(&self, id: &gix::oid) -> Option<(gix::ObjectId, Vec<gix::ObjectId>, i64)> {
        let graph = self.graph.as_ref()?;
        let commit = graph.commit_by_id(id)?;
        let parent = |at: gix::Result<gix::commitgraph::Position>| Some(graph.id_at(at.ok()?).to_owned());
        let parents = commit.iter_parents().map(parent).collect::<Option<Vec<_>>>()?;
        let time = i64::try_from(commit.committer_timestamp()).ok()?;
        Some((commit.root_tree_id().to_owned(), parents, time))
    }

    fn read(&mut self, id: gix::ObjectId) -> Result<(gix::ObjectId, Vec<gix::ObjectId>, i64), Error> {
        self.repo.find_raw_commit(id, &mut self.buffer)?;
        let commit = gix::objs::CommitRef::from_bytes(&self.buffer, id.kind());
        let commit = commit.map_err(|e| Error::read("commit", &from_gix(&id), e))?;
        // A time that nobody can read is as old as can be.
        let time = commit.committer().ok().and_then(|who| who.time().ok()).map_or(0, |time| time.seconds);
        Ok((commit.tree(), commit.parents().collect(), time))
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

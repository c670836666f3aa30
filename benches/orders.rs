//! What other orders than the plan's come to, by git alone, on the real accumulating tree; for `benches/forecast.rs`.

use crate::Failure;
use git_orchestra::git::{Identity, NewCommit, Repository};
use git_orchestra::model::{ObjectId, Timestamp};
use std::collections::{BTreeSet, HashMap};

/// The largest number of branches that depend on each other of which every order is tried.
const TRIED: usize = 9;

/// Branches that are merged into a target in one order or another.
pub(crate) struct Walk<'a> {
    repo: &'a Repository,
    target: &'a ObjectId,
    tips: &'a [ObjectId],
    author: Identity,
    known: HashMap<(ObjectId, usize), Option<ObjectId>>,
}

impl<'a> Walk<'a> {
    pub(crate) fn new(repo: &'a Repository, target: &'a ObjectId, tips: &'a [ObjectId]) -> Self {
        let author = Identity::new("Bench", "bench@example.org");
        Self { repo, target, tips, author, known: HashMap::new() }
    }

    /// How many land before the first conflict, and how many conflict at all, if what conflicts is left out.
    pub(crate) fn stop(&mut self, order: &[usize]) -> Result<(usize, usize), Failure> {
        let (mut head, mut landed, mut stops) = (self.target.clone(), 0, 0);
        for &at in order {
            match self.merge(&head, at)? {
                Some(merged) => {
                    head = merged;
                    landed += usize::from(stops == 0);
                }
                None => stops += 1,
            }
        }
        Ok((landed, stops))
    }

    /// The same, if a conflict is put off until everything else has landed.
    pub(crate) fn put_off(&mut self, order: &[usize]) -> Result<(usize, usize), Failure> {
        let (_, stops) = self.stop(order)?;
        Ok((self.tips.len() - stops, stops))
    }

    /// The branches in the order of how many files they have in common with the others, fewest first.
    pub(crate) fn by_files(&self) -> Result<Vec<usize>, Failure> {
        let files = self.files()?;
        let common = |at: usize| -> usize {
            let others = (0..files.len()).filter(|other| *other != at);
            others.map(|other| files[at].intersection(&files[other]).count()).sum()
        };
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by_key(|&at| common(at));
        Ok(order)
    }

    /// How many branches land at most in any order, where a plan lands `landed`.
    ///
    /// Two that conflict (`conflict`; with the target: `None`) are taken to conflict in company too, so no order lands more
    /// than the largest set without a conflict. Where the plan does not reach that, every order of those that meet is tried;
    /// branches that have no file in common and do not conflict are taken to say nothing about each other. `None` where too
    /// many meet.
    pub(crate) fn best(
        &mut self,
        landed: usize,
        conflict: impl Fn(usize, Option<usize>) -> bool,
    ) -> Result<Option<usize>, Failure> {
        if landed >= largest(self.tips.len(), &conflict) {
            return Ok(Some(landed));
        }
        let files = self.files()?;
        let meet = |a: usize, b: usize| conflict(a, Some(b)) || !files[a].is_disjoint(&files[b]);
        let mut left: Vec<usize> = (0..self.tips.len()).collect();
        let mut best = 0;
        while let Some(first) = left.pop() {
            let mut group = vec![first];
            let mut at = 0;
            while at < group.len() {
                let near: Vec<usize> = left.iter().copied().filter(|&other| meet(group[at], other)).collect();
                left.retain(|other| !near.contains(other));
                group.extend(near);
                at += 1;
            }
            if group.len() > TRIED {
                return Ok(None);
            }
            best += self.best_of(&group)?;
        }
        Ok(Some(best))
    }

    /// Every subset of a group, by what it can be made of.
    fn best_of(&mut self, group: &[usize]) -> Result<usize, Failure> {
        let mut level = HashMap::from([(0_usize, self.target.clone())]);
        for landed in 0..group.len() {
            let wider = |mask: usize| (0..group.len()).filter(move |at| mask >> at & 1 == 0);
            let asked: Vec<_> = level
                .iter()
                .flat_map(|(&mask, head)| wider(mask).map(move |at| (head.clone(), group[at])))
                .collect();
            self.ask(&asked)?;
            let mut next = HashMap::new();
            for (&mask, head) in &level {
                for at in wider(mask) {
                    if let Some(merged) = &self.known[&(head.clone(), group[at])] {
                        next.insert(mask | 1 << at, merged.clone());
                    }
                }
            }
            if next.is_empty() {
                return Ok(landed);
            }
            level = next;
        }
        Ok(group.len())
    }

    fn merge(&mut self, head: &ObjectId, at: usize) -> Result<Option<ObjectId>, Failure> {
        let key = (head.clone(), at);
        self.ask(std::slice::from_ref(&key))?;
        Ok(self.known[&key].clone())
    }

    /// Asks git for what is not known yet.
    fn ask(&mut self, merges: &[(ObjectId, usize)]) -> Result<(), Failure> {
        let new: Vec<_> = merges.iter().filter(|merge| !self.known.contains_key(merge)).collect();
        if new.is_empty() {
            return Ok(());
        }
        let pairs: Vec<_> = new.iter().map(|(head, at)| (head.clone(), self.tips[*at].clone())).collect();
        for ((head, at), merge) in new.into_iter().zip(self.repo.merge_trees(&pairs)?) {
            let commit = |tree| {
                self.repo.write_commit(&NewCommit {
                    tree,
                    parents: &[head.clone(), self.tips[*at].clone()],
                    author: &self.author,
                    committer: &self.author,
                    at: Timestamp(0),
                    message: "m",
                })
            };
            let both = if merge.clean { Some(commit(&merge.tree)?) } else { None };
            self.known.insert((head.clone(), *at), both);
        }
        Ok(())
    }

    /// The paths that each branch changed since it left the target, old and new ones.
    fn files(&self) -> Result<Vec<BTreeSet<Vec<u8>>>, Failure> {
        let mut pairs = Vec::new();
        for tip in self.tips {
            let base = self.repo.merge_base(self.target, tip)?.ok_or("a branch without a base")?;
            pairs.push((self.repo.read_commit(&base)?.tree, self.repo.read_commit(tip)?.tree));
        }
        let changes = self.repo.paths_between(&pairs)?;
        let paths = |changes: Vec<git_orchestra::git::FileChange>| {
            changes.iter().flat_map(|change| change.paths().map(|path| path.to_vec())).collect()
        };
        Ok(changes.into_iter().map(paths).collect())
    }
}

/// The size of the largest set of branches that do not conflict with each other nor with the target.
fn largest(branches: usize, conflict: impl Fn(usize, Option<usize>) -> bool) -> usize {
    let rivals: Vec<usize> = (0..branches)
        .map(|a| (0..branches).filter(|&b| a != b && conflict(a, Some(b))).fold(0, |set, b| set | 1 << b))
        .collect();
    let free = (0..branches).filter(|&a| !conflict(a, None)).fold(0_usize, |set, a| set | 1 << a);
    let members = |set: usize| (0..branches).filter(move |at| set >> at & 1 == 1);
    let alone = |set: &usize| set & !free == 0 && members(*set).all(|at| rivals[at] & set == 0);
    (0..1_usize << branches).filter(alone).map(|set| set.count_ones() as usize).max().unwrap_or(0)
}

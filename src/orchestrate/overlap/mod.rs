//! Overlap: which places several branches change together, and what git would say to merging each pair.
//!
//! Reads only. A handful of git processes answer for any number of branches (see [`compare`]); the verdict is always git's.

mod compare;

use self::compare::{Compared, compare, judge};
use crate::git::{Ancestry, DiffStat, Error, Repository};
use crate::model::{Forecast, Id, Name, ObjectId, Pair};

/// An agent's work as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branch {
    /// The agent.
    pub agent: Id,
    /// Its name, for people.
    pub name: Name,
    /// The commit that stands for its work: the branch's tip, or a commit of uncommitted work on top of it.
    pub work: ObjectId,
    /// Whether `work` holds what the agent has not committed.
    pub uncommitted: bool,
}

/// How several branches and their target overlap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overlap {
    /// The branches, in the order asked for.
    pub branches: Vec<Standing>,
    /// Every two branches, then every branch with the target (`b` is `None`), in the order asked for.
    pub pairs: Vec<Pair>,
}

/// One branch beside the target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// The branch.
    pub branch: Branch,
    /// Commits that only it has; a commit of uncommitted work does not count.
    pub ahead: u32,
    /// Commits that only the target has.
    pub behind: u32,
    /// How much it changes since the two parted.
    pub stat: DiffStat,
}

impl Overlap {
    /// The pair of two agents, in either order, or of an agent and the target.
    pub fn between(&self, a: &Id, b: Option<&Id>) -> Option<&Pair> {
        self.pairs.iter().find(|pair| {
            let found = (Some(&pair.a), pair.b.as_ref());
            found == (Some(a), b) || (b.is_some() && found == (b, Some(a)))
        })
    }

    /// Pairs that git would not merge by itself.
    pub fn conflicts(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(|pair| pair.forecast.is_conflict())
    }
}

/// Compares `branches` with each other and with `target`, a commit.
///
/// # Errors
/// If git cannot read one of the commits, or is too old to merge without a checkout.
pub fn overlap(repo: &Repository, branches: &[Branch], target: &ObjectId) -> Result<Overlap, Error> {
    let mut tips: Vec<_> = branches.iter().map(|branch| branch.work.clone()).collect();
    tips.push(target.clone());
    let ancestry = repo.ancestry(&tips)?;
    let target_at = branches.len();
    let mut sides = Vec::new();
    for a in 0..branches.len() {
        sides.extend((a + 1..branches.len()).map(|b| (a, b)));
    }
    sides.extend((0..branches.len()).map(|a| (a, target_at)));

    // The side that is merged into comes first, as it would in a merge.
    let merges = sides.iter().map(|&(a, b)| if b == target_at { (b, a) } else { (a, b) });
    let merges: Vec<_> = merges.map(|(ours, theirs)| (tips[ours].clone(), tips[theirs].clone())).collect();
    let compared = compare(repo, &ancestry, &merges)?;
    let pair = |(&(a, b), Compared { files, forecast }): (&(usize, usize), Compared)| Pair {
        a: branches[a].agent,
        b: branches.get(b).map(|branch| branch.agent),
        files,
        forecast,
    };
    let pairs = sides.iter().zip(compared).map(pair).collect();
    Ok(Overlap { branches: standings(repo, branches, target, &ancestry)?, pairs })
}

/// Where `one`, a commit, would conflict with each of `others`: nothing where git merges them.
///
/// # Errors
/// As [`overlap`].
pub fn conflicts(repo: &Repository, one: &ObjectId, others: &[ObjectId]) -> Result<Vec<Vec<String>>, Error> {
    if others.is_empty() {
        return Ok(Vec::new());
    }
    let tips: Vec<ObjectId> = others.iter().chain([one]).cloned().collect();
    let ancestry = repo.ancestry(&tips)?;
    let merges: Vec<_> = others.iter().map(|other| (one.clone(), other.clone())).collect();
    let paths = |forecast| match forecast {
        Forecast::Clean => Vec::new(),
        Forecast::Conflict { paths } => paths,
    };
    Ok(judge(repo, &ancestry, &merges)?.into_iter().map(paths).collect())
}

fn standings(
    repo: &Repository,
    branches: &[Branch],
    target: &ObjectId,
    ancestry: &Ancestry,
) -> Result<Vec<Standing>, Error> {
    // What a branch changed is told only beside exactly one merge base.
    let own = |branch: &Branch| match ancestry.merge_bases(&branch.work, target)[..] {
        [base] => Some((ancestry.tree(base).clone(), ancestry.tree(&branch.work).clone())),
        _ => None,
    };
    let trees: Vec<_> = branches.iter().map(own).collect();
    let mut stats = repo.diff_stats(&trees.iter().flatten().cloned().collect::<Vec<_>>())?.into_iter();
    let standing = |(branch, trees): (&Branch, &Option<_>)| {
        let (ahead, behind) = ancestry.ahead_behind(&branch.work, target);
        Standing {
            branch: branch.clone(),
            ahead: ahead - u32::from(branch.uncommitted),
            behind,
            stat: trees.as_ref().and_then(|_| stats.next()).unwrap_or_default(),
        }
    };
    Ok(branches.iter().zip(&trees).map(standing).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrate::testing::history;

    fn git_says_clean(sandbox: &crate::git::testing::Sandbox, ours: &ObjectId, theirs: &ObjectId) -> bool {
        let script =
            format!("!git merge-tree --write-tree {ours} {theirs} >/dev/null && echo clean || echo conflict");
        sandbox.git(&["-c", &format!("alias.judge={script}"), "judge"]) == "clean"
    }

    #[test]
    fn every_verdict_is_gits() {
        let (mut clean, mut conflicts) = (0, 0);
        for seed in 0..12 {
            let (sandbox, tips) = history(seed, 6);
            let target: ObjectId = sandbox.git(&["rev-parse", "main"]).parse().unwrap();
            let branches: Vec<_> = tips
                .iter()
                .zip(1_u128..)
                .map(|(work, n)| Branch {
                    agent: Id::from_random(n),
                    name: format!("b{n}").parse().unwrap(),
                    work: work.clone(),
                    uncommitted: false,
                })
                .collect();
            let overlap = overlap(&sandbox.open(), &branches, &target).unwrap();
            assert_eq!(overlap.pairs.len(), 6 * 5 / 2 + 6);
            for (i, a) in branches.iter().enumerate() {
                for b in &branches[i + 1..] {
                    let pair = overlap.between(&b.agent, Some(&a.agent)).unwrap();
                    let clean = git_says_clean(&sandbox, &a.work, &b.work);
                    assert_eq!(!pair.forecast.is_conflict(), clean, "seed {seed}: {} {}", a.name, b.name);
                }
                let pair = overlap.between(&a.agent, None).unwrap();
                assert_eq!(
                    !pair.forecast.is_conflict(),
                    git_says_clean(&sandbox, &target, &a.work),
                    "seed {seed}"
                );
            }
            conflicts += overlap.conflicts().count();
            clean += overlap.pairs.len() - overlap.conflicts().count();
        }
        assert!(
            clean > 50 && conflicts > 50,
            "the histories are worth something: {clean} clean, {conflicts} not"
        );
    }
}

//! Overlap: which places several branches change together, and what git would say to merging each pair.
//!
//! Reads only. A handful of git processes answer for any number of branches (see `compare`); the verdict is always git's.

mod compare;
mod suspect;

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
    overlap_within(repo, &repo.ancestry(&tips(branches, target))?, branches, target)
}

/// The same, and of every clean pair why it may not work all the same.
///
/// # Errors
/// As [`overlap`].
pub fn overlap_and_suspects(
    repo: &Repository,
    branches: &[Branch],
    target: &ObjectId,
) -> Result<Overlap, Error> {
    let ancestry = repo.ancestry(&tips(branches, target))?;
    let mut overlap = overlap_within(repo, &ancestry, branches, target)?;
    suspect::name(repo, &ancestry, branches, target, &mut overlap)?;
    Ok(overlap)
}

/// Names for every clean pair of an overlap of `branches` why it may not work all the same.
///
/// # Errors
/// If git cannot read one of the commits.
pub(super) fn name_suspects(
    repo: &Repository,
    branches: &[Branch],
    target: &ObjectId,
    overlap: &mut Overlap,
) -> Result<(), Error> {
    suspect::name(repo, &repo.ancestry(&tips(branches, target))?, branches, target, overlap)
}

/// The same as [`overlap`], where it is known how all of them descend from each other ([`tips`]).
pub(super) fn overlap_within(
    repo: &Repository,
    ancestry: &Ancestry,
    branches: &[Branch],
    target: &ObjectId,
) -> Result<Overlap, Error> {
    let tips = tips(branches, target);
    let target_at = branches.len();
    let mut sides = Vec::new();
    for a in 0..branches.len() {
        sides.extend((a + 1..branches.len()).map(|b| (a, b)));
    }
    sides.extend((0..branches.len()).map(|a| (a, target_at)));

    // The side that is merged into comes first, as it would in a merge.
    let merges = sides.iter().map(|&(a, b)| if b == target_at { (b, a) } else { (a, b) });
    let merges: Vec<_> = merges.map(|(ours, theirs)| (tips[ours].clone(), tips[theirs].clone())).collect();
    let (compared, standings) = std::thread::scope(|scope| {
        let beside = repo.clone();
        let standings = scope.spawn(move || standings(&beside, branches, target, ancestry));
        let compared = compare(repo, ancestry, &merges);
        (compared, standings.join().expect("a question does not panic"))
    });
    let (compared, standings) = (compared?, standings?);
    let pair = |(&(a, b), Compared { files, forecast }): (&(usize, usize), Compared)| Pair {
        a: branches[a].agent,
        b: branches.get(b).map(|branch| branch.agent),
        files,
        forecast,
        suspects: Vec::new(),
    };
    let pairs = sides.iter().zip(compared).map(pair).collect();
    Ok(Overlap { branches: standings, pairs })
}

/// The commits that are compared: every branch's work, then the target.
pub(super) fn tips(branches: &[Branch], target: &ObjectId) -> Vec<ObjectId> {
    branches.iter().map(|branch| &branch.work).chain([target]).cloned().collect()
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
        Forecast::Clean | Forecast::Unrelated => Vec::new(),
        Forecast::Conflict { paths, .. } => paths,
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
    use crate::orchestrate::testing::{history, odd_history};
    use crate::process::Command;

    fn git_says_clean(sandbox: &crate::git::testing::Sandbox, ours: &ObjectId, theirs: &ObjectId) -> bool {
        let git = Command::new("git").env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(sandbox.path());
        let git = git.args(["merge-tree", "--write-tree", ours.as_str(), theirs.as_str()]);
        match git.output().unwrap().status.code() {
            Some(0) => true,
            Some(1) => false,
            other => panic!("git merge-tree: {other:?}"),
        }
    }

    /// Asks git about every pair of a history with six branches, and about each branch with the target; how many were clean,
    /// and how many not.
    fn agree((sandbox, tips): (crate::git::testing::Sandbox, Vec<ObjectId>), what: &str) -> (usize, usize) {
        let target: ObjectId = sandbox.git(&["rev-parse", "main"]).parse().unwrap();
        let branch = |(work, n): (&ObjectId, u128)| Branch {
            agent: Id::from_random(n),
            name: format!("b{n}").parse().unwrap(),
            work: work.clone(),
            uncommitted: false,
        };
        let branches: Vec<_> = tips.iter().zip(1..).map(branch).collect();
        let before = sandbox.git(&["count-objects"]);
        let overlap = overlap(&sandbox.open(), &branches, &target).unwrap();
        assert_eq!(sandbox.git(&["count-objects"]), before, "{what}: a forecast leaves nothing");
        let n = branches.len();
        assert_eq!(overlap.pairs.len(), n * (n - 1) / 2 + n);
        for (i, a) in branches.iter().enumerate() {
            for b in &branches[i + 1..] {
                let pair = overlap.between(&b.agent, Some(&a.agent)).unwrap();
                let clean = git_says_clean(&sandbox, &a.work, &b.work);
                assert_eq!(!pair.forecast.is_conflict(), clean, "{what}: {} {}", a.name, b.name);
            }
            let pair = overlap.between(&a.agent, None).unwrap();
            let clean = git_says_clean(&sandbox, &target, &a.work);
            assert_eq!(!pair.forecast.is_conflict(), clean, "{what}: {} and main", a.name);
            let others: Vec<_> = tips.iter().filter(|&tip| *tip != a.work).cloned().collect();
            let conflicts = conflicts(&sandbox.open(), &a.work, &others).unwrap();
            for (other, paths) in others.iter().zip(conflicts) {
                assert_eq!(paths.is_empty(), git_says_clean(&sandbox, &a.work, other), "{what}");
            }
        }
        let conflicts = overlap.conflicts().count();
        (overlap.pairs.len() - conflicts, conflicts)
    }

    #[test]
    fn every_verdict_is_gits() {
        // 256 is what nobody asked for.
        let asked = proptest::prelude::ProptestConfig::default().cases;
        let histories = if asked == 256 { 6 } else { u64::from(asked) };
        let (mut clean, mut conflicts) = (0, 0);
        for seed in 0..histories {
            let plain = agree(history(seed, 6), &format!("history {seed}"));
            let odd = agree(odd_history(seed, 6), &format!("odd history {seed}"));
            clean += plain.0 + odd.0;
            conflicts += plain.1 + odd.1;
        }
        assert!(
            clean > 50 && conflicts > 50,
            "the histories are worth something: {clean} clean, {conflicts} not"
        );
    }
}

//! Overlap: which places several branches change together, and what git would say to merging each pair.
//!
//! Reads only. Four git processes answer for any number of branches: two for the merge bases, one for all
//! changes, one for all verdicts. The verdict is always `git merge-tree`'s; it is not asked only for pairs that
//! cannot conflict: those that touch no path in common, and where no rename or directory can make them meet.

use crate::git::{
    Ancestry, ChangeStatus, DiffStat, Error, FileChange, Hunk, MergeTree, Repository, path_text,
};
use crate::model::{FileOverlap, Forecast, Id, LineRange, Name, ObjectId, Pair};
use bstr::{BStr, BString, ByteSlice};
use std::collections::{BTreeMap, HashMap, HashSet};

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

    let changes = Changes::read(repo, &ancestry, sides.iter().map(|&(a, b)| (&tips[a], &tips[b])))?;
    // The side that is merged into comes first, as it would in a merge.
    let merges = sides.iter().map(|&(a, b)| if b == target_at { (b, a) } else { (a, b) });
    let merges: Vec<_> = merges.map(|(ours, theirs)| (tips[ours].clone(), tips[theirs].clone())).collect();
    let forecasts = forecasts(repo, &ancestry, &changes, &merges)?;
    let pair = |(&(a, b), forecast): (&(usize, usize), Forecast)| {
        let known = changes.of(&ancestry, &tips[a], &tips[b]);
        let files = known.map(|(ours, theirs)| common_files(ours, theirs)).unwrap_or_default();
        Pair { a: branches[a].agent, b: branches.get(b).map(|branch| branch.agent), files, forecast }
    };
    let pairs = sides.iter().zip(forecasts).map(pair).collect();
    let standings = branches.iter().map(|branch| standing(branch, target, &ancestry, &changes)).collect();
    Ok(Overlap { branches: standings, pairs })
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
    let changes = Changes::read(repo, &ancestry, others.iter().map(|other| (one, other)))?;
    let merges: Vec<_> = others.iter().map(|other| (one.clone(), other.clone())).collect();
    let paths = |forecast| match forecast {
        Forecast::Clean => Vec::new(),
        Forecast::Conflict { paths } => paths,
    };
    Ok(forecasts(repo, &ancestry, &changes, &merges)?.into_iter().map(paths).collect())
}

/// What git would make of each merge of two commits, the one that is merged into first. It is asked only about those
/// that could conflict.
fn forecasts(
    repo: &Repository,
    ancestry: &Ancestry,
    changes: &Changes,
    merges: &[(ObjectId, ObjectId)],
) -> Result<Vec<Forecast>, Error> {
    // With several merge bases, or none, only git knows what it would compare.
    let may = |(ours, theirs): &(ObjectId, ObjectId)| {
        changes.of(ancestry, ours, theirs).is_none_or(|(ours, theirs)| may_conflict(ours, theirs))
    };
    let asked: Vec<usize> = (0..merges.len()).filter(|&at| may(&merges[at])).collect();
    let questions: Vec<_> = asked.iter().map(|&at| merges[at].clone()).collect();
    let mut forecasts = vec![Forecast::Clean; merges.len()];
    for (at, merge) in asked.into_iter().zip(repo.merge_trees(&questions)?) {
        if !merge.clean {
            forecasts[at] = Forecast::Conflict { paths: conflicting(merge) };
        }
    }
    Ok(forecasts)
}

/// The paths of a merge that is not clean.
fn conflicting(merge: MergeTree) -> Vec<String> {
    let mut paths: Vec<_> = merge.conflicts.into_iter().map(|conflict| conflict.path).collect();
    if paths.is_empty() {
        paths = merge.messages.into_iter().flat_map(|message| message.paths).collect();
        paths.sort();
        paths.dedup();
    }
    paths
}

fn standing(branch: &Branch, target: &ObjectId, ancestry: &Ancestry, changes: &Changes) -> Standing {
    let (ahead, behind) = ancestry.ahead_behind(&branch.work, target);
    let own = changes.of(ancestry, &branch.work, target).map(|(own, _)| DiffStat::of(own));
    Standing {
        branch: branch.clone(),
        ahead: ahead - u32::from(branch.uncommitted),
        behind,
        stat: own.unwrap_or_default(),
    }
}

/// What each tip changed since the merge base of each of its pairs.
struct Changes(HashMap<(ObjectId, ObjectId), Vec<FileChange>>);

impl Changes {
    fn read<'a>(
        repo: &Repository,
        ancestry: &Ancestry,
        pairs: impl Iterator<Item = (&'a ObjectId, &'a ObjectId)>,
    ) -> Result<Self, Error> {
        let mut wanted = Vec::new();
        let mut seen = HashSet::new();
        for (a, b) in pairs {
            if let [base] = ancestry.merge_bases(a, b)[..] {
                for tip in [a, b] {
                    let trees = (ancestry.tree(base).clone(), ancestry.tree(tip).clone());
                    if seen.insert(trees.clone()) {
                        wanted.push(trees);
                    }
                }
            }
        }
        let changes = repo.changes_between(&wanted)?;
        Ok(Self(wanted.into_iter().zip(changes).collect()))
    }

    /// What both changed since their merge base; `None` if they have none, or several.
    fn of(&self, ancestry: &Ancestry, a: &ObjectId, b: &ObjectId) -> Option<(&[FileChange], &[FileChange])> {
        let [base] = ancestry.merge_bases(a, b)[..] else { return None };
        let since = |tip: &ObjectId| {
            let trees = (ancestry.tree(base).clone(), ancestry.tree(tip).clone());
            self.0.get(&trees).map(Vec::as_slice)
        };
        since(a).zip(since(b))
    }
}

/// Whether merging could be anything but clean. Without a path in common it is clean, unless a directory stands
/// where the other side has a file, or a moved directory could take the other side's new files with it.
fn may_conflict(ours: &[FileChange], theirs: &[FileChange]) -> bool {
    let paths = |changes: &[FileChange]| -> HashSet<BString> {
        changes.iter().flat_map(FileChange::paths).cloned().collect()
    };
    let (our_paths, their_paths) = (paths(ours), paths(theirs));
    !our_paths.is_disjoint(&their_paths)
        || our_paths.iter().any(|path| parents(path.as_ref()).any(|dir| their_paths.contains(dir)))
        || their_paths.iter().any(|path| parents(path.as_ref()).any(|dir| our_paths.contains(dir)))
        || (moves_between_directories(ours) && brings_paths(theirs))
        || (moves_between_directories(theirs) && brings_paths(ours))
}

fn parents(path: &BStr) -> impl Iterator<Item = &BStr> {
    path.find_iter(b"/").map(move |slash| path[..slash].as_bstr())
}

/// Whether files moved to another directory, as far as git looked for moves at all.
fn moves_between_directories(changes: &[FileChange]) -> bool {
    let directory = |path: &BString| path.rfind_byte(b'/').map(|slash| path[..slash].to_vec());
    let count = |status: ChangeStatus| changes.iter().filter(|change| change.status == status).count();
    let moved = |change: &FileChange| {
        change.old_path.as_ref().is_some_and(|old| directory(old) != directory(&change.path))
    };
    // Beyond the rename limit of the diff, moves look like additions and deletions.
    changes.iter().any(moved) || count(ChangeStatus::Added) * count(ChangeStatus::Deleted) > 1_000_000
}

fn brings_paths(changes: &[FileChange]) -> bool {
    changes.iter().any(|change| matches!(change.status, ChangeStatus::Added | ChangeStatus::Renamed))
}

/// The files that both sides changed, by the base's path, with how many lines of the base both changed.
fn common_files(ours: &[FileChange], theirs: &[FileChange]) -> Vec<FileOverlap> {
    let mut by_path = HashMap::<&BString, &FileChange>::new();
    for change in theirs {
        by_path.insert(&change.path, change);
        by_path.insert(change.base_path(), change);
    }
    let mut files = BTreeMap::new();
    for change in ours {
        let other = by_path.get(change.base_path()).or_else(|| by_path.get(&change.path));
        if let Some(other) = other {
            let path =
                if other.base_path() == change.base_path() { change.base_path() } else { &change.path };
            files.insert(path_text(path.as_ref()), common_lines(&change.hunks, &other.hunks));
        }
    }
    files.into_iter().map(|(path, lines)| FileOverlap { path, lines }).collect()
}

/// Lines in both sets of hunks; two insertions at one place, or an edit beside an insertion, count as one.
fn common_lines(ours: &[Hunk], theirs: &[Hunk]) -> u32 {
    let (mut lines, mut a, mut b) = (0, 0, 0);
    while let (Some(our), Some(their)) = (ours.get(a), theirs.get(b)) {
        let (our, their) = (our.old, their.old);
        if our.touches(their) {
            let shared = end(our).min(end(their)).saturating_sub(our.start.max(their.start));
            let insertion = our.len == 0 || their.len == 0;
            lines += if insertion { 1 } else { shared };
        }
        if end(our) <= end(their) { a += 1 } else { b += 1 }
    }
    lines
}

const fn end(range: LineRange) -> u32 {
    range.start + range.len
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orchestrate::testing::history;

    fn hunk(start: u32, len: u32) -> Hunk {
        Hunk { old: LineRange { start, len }, new: LineRange { start, len } }
    }

    fn change(status: ChangeStatus, path: &str, old: Option<&str>) -> FileChange {
        FileChange {
            path: path.into(),
            old_path: old.map(Into::into),
            status,
            old_mode: 0o100_644,
            new_mode: 0o100_644,
            binary: false,
            hunks: vec![hunk(3, 2)],
        }
    }

    #[test]
    fn lines_in_common_are_counted_once() {
        assert_eq!(common_lines(&[hunk(1, 5)], &[hunk(3, 5)]), 3);
        assert_eq!(common_lines(&[hunk(1, 2)], &[hunk(3, 2)]), 0, "beside each other");
        assert_eq!(common_lines(&[hunk(4, 0)], &[hunk(4, 0)]), 1, "two insertions at one place");
        assert_eq!(common_lines(&[hunk(1, 9)], &[hunk(2, 1), hunk(4, 2), hunk(20, 1)]), 3);
        assert_eq!(common_lines(&[hunk(1, 1), hunk(8, 2)], &[hunk(9, 4)]), 1);
    }

    #[test]
    fn only_what_can_meet_is_asked_of_git() {
        use ChangeStatus::{Added, Deleted, Modified, Renamed};
        let edit = |path: &str| vec![change(Modified, path, None)];
        assert!(!may_conflict(&edit("a/x"), &edit("a/y")));
        assert!(may_conflict(&edit("a/x"), &edit("a/x")));
        assert!(may_conflict(&[change(Renamed, "b/x", Some("a/x"))], &edit("a/x")), "renamed and edited");
        assert!(
            may_conflict(&[change(Added, "a", None)], &[change(Added, "a/b/c", None)]),
            "file and directory"
        );
        let moved = [change(Renamed, "new/x", Some("old/x"))];
        assert!(
            may_conflict(&moved, &[change(Added, "old/y", None)]),
            "a moved directory takes new files along"
        );
        assert!(!may_conflict(&moved, &edit("old/y")));
        assert!(!may_conflict(&[change(Renamed, "a/y", Some("a/x"))], &[change(Added, "a/z", None)]));
        assert!(!may_conflict(&[change(Deleted, "a/y", None)], &[change(Added, "a/z", None)]));
    }

    #[test]
    fn a_file_is_known_by_its_path_at_the_base() {
        use ChangeStatus::{Added, Modified, Renamed};
        let renamed = [change(Renamed, "new", Some("old"))];
        let files = |ours: &[FileChange], theirs: &[FileChange]| {
            common_files(ours, theirs).into_iter().map(|file| (file.path, file.lines)).collect::<Vec<_>>()
        };
        assert_eq!(files(&renamed, &[change(Modified, "old", None)]), [("old".to_owned(), 2)]);
        assert_eq!(files(&[change(Modified, "old", None)], &renamed), [("old".to_owned(), 2)]);
        assert_eq!(files(&renamed, &[change(Added, "new", None)]), [("new".to_owned(), 2)]);
        assert_eq!(files(&renamed, &[change(Modified, "other", None)]), []);
    }

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

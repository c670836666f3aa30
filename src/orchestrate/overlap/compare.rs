//! What pairs of commits changed together, and what git makes of it.
//!
//! Whatever only one side changed merges by itself. Where both changed the same plain file, git merges its lines, and
//! conflicts only where changed lines touch: git is asked for the changed lines of every such content once, for all pairs.
//! A pair in which none touch is clean, and that is all there is to ask about it. Everything else (touching lines, files
//! that one side moved, deleted, added or retyped, binary files, submodules, merge drivers, several merge bases) is
//! merged by git itself. So the verdict is always git's.

use crate::git::{
    Ancestry, Contents, EntryMode, Error, FileChange, Hunk, MergeTree, Repository, ThreeWay, path_text,
};
use crate::model::{FileOverlap, Forecast, LineRange, ObjectId};
use bstr::{BString, ByteSlice};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// What two commits changed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Compared {
    /// The files, with the lines that both changed; none if the two have no merge base, or several.
    pub(super) files: Vec<FileOverlap>,
    /// What git makes of merging them.
    pub(super) forecast: Forecast,
}

/// Compares each two commits, the one that is merged into first.
pub(super) fn compare(
    repo: &Repository,
    ancestry: &Ancestry,
    merges: &[(ObjectId, ObjectId)],
) -> Result<Vec<Compared>, Error> {
    let sets = with_bases(ancestry, merges);
    let contended = contended(repo, &sets)?;
    let read = || {
        let moved = Moved::read(repo, &sets, &contended)?;
        Ok((Lines::read(repo, &contended, &moved)?, moved))
    };
    let (forecasts, (lines, moved)) = forecasts(repo, &sets, &contended, read, |(lines, _)| lines)?;
    let with_files = |(at, forecast): (usize, Forecast)| {
        let files = contended[at].as_deref().map(|paths| match moved.sides(&sets[at]) {
            Some((ours, theirs)) => common_files(ours, theirs, &lines),
            None => edited_files(paths, &lines),
        });
        Compared { files: files.unwrap_or_default(), forecast }
    };
    Ok(forecasts.into_iter().enumerate().map(with_files).collect())
}

/// What git makes of each merge: as [`compare`], without the files.
pub(super) fn judge(
    repo: &Repository,
    ancestry: &Ancestry,
    merges: &[(ObjectId, ObjectId)],
) -> Result<Vec<Forecast>, Error> {
    let sets = with_bases(ancestry, merges);
    let contended = contended(repo, &sets)?;
    let read = || Lines::read(repo, &contended, &Moved::default());
    Ok(forecasts(repo, &sets, &contended, read, |lines| lines)?.0)
}

/// Two commits that are merged, and what they have in common.
struct Merge<'a> {
    ours: &'a ObjectId,
    theirs: &'a ObjectId,
    /// The merge base, if there is exactly one.
    base: Option<&'a ObjectId>,
    /// Whether there is any.
    is_related: bool,
    /// The trees of the base and each side.
    trees: Option<[&'a ObjectId; 3]>,
}

impl Merge<'_> {
    /// The base's tree with that of each side.
    fn sides(&self) -> Option<[(ObjectId, ObjectId); 2]> {
        let [base, ours, theirs] = self.trees?;
        Some([ours, theirs].map(|side| (base.clone(), side.clone())))
    }
}

fn with_bases<'a>(ancestry: &'a Ancestry, merges: &'a [(ObjectId, ObjectId)]) -> Vec<Merge<'a>> {
    let merge = |(ours, theirs): &'a (ObjectId, ObjectId)| {
        let bases = ancestry.merge_bases(ours, theirs);
        let base = match bases[..] {
            [base] => Some(base),
            _ => None,
        };
        let is_related = !bases.is_empty();
        let trees = base.map(|base| [base, ours, theirs].map(|commit| ancestry.tree(commit)));
        Merge { ours, theirs, base, is_related, trees }
    };
    merges.iter().map(merge).collect()
}

/// The paths that both sides of each pair changed; `None` without exactly one merge base: then only git knows what it
/// would compare.
type Contended = Vec<Option<Vec<ThreeWay>>>;

fn contended(repo: &Repository, merges: &[Merge<'_>]) -> Result<Contended, Error> {
    let mut trees = repo.three_ways();
    let paths = |merge: &Merge<'_>| {
        let paths = merge.trees.map(|[base, ours, theirs]| trees.between(base, ours, theirs));
        paths.transpose()
    };
    merges.iter().map(paths).collect()
}

/// A file that both sides edited, and did nothing else with: its contents in the base and on both sides.
fn edited(path: &ThreeWay) -> Option<[&ObjectId; 3]> {
    let ((mode, base), (our_mode, ours), (their_mode, theirs)) =
        (path.base.as_ref()?, path.ours.as_ref()?, path.theirs.as_ref()?);
    let plain = mode.is_file() && mode == our_mode && mode == their_mode;
    plain.then_some([base, ours, theirs])
}

/// What git makes of each merge, and what `read` read: the lines and whatever comes with them.
///
/// git is asked about what lines do not decide while the lines are read.
fn forecasts<T>(
    repo: &Repository,
    merges: &[Merge<'_>],
    contended: &Contended,
    read: impl FnOnce() -> Result<T, Error>,
    lines: impl FnOnce(&T) -> &Lines,
) -> Result<(Vec<Forecast>, T), Error> {
    let by_lines = |at: &usize| {
        contended[*at].as_ref().is_some_and(|paths| paths.iter().all(|path| edited(path).is_some()))
    };
    let (related, unrelated): (Vec<usize>, Vec<usize>) =
        (0..merges.len()).partition(|&at| merges[at].is_related);
    let (by_lines, by_git): (Vec<usize>, Vec<usize>) = related.into_iter().partition(by_lines);
    std::thread::scope(|scope| {
        let beside = repo.clone();
        let asked = scope.spawn(move || ask(&beside, merges, by_git));
        let read = read()?;
        let lines = lines(&read);
        let touching = |at: &usize| !contended[*at].iter().flatten().all(|path| lines.part(path));
        let touching = ask(repo, merges, by_lines.into_iter().filter(touching).collect())?;
        let asked = asked.join().expect("a question does not panic")?;
        let mut forecasts = vec![Forecast::Clean; merges.len()];
        for (at, merge) in touching.into_iter().chain(asked).filter(|(_, merge)| !merge.clean) {
            let paths = merge.own_paths([merges[at].ours, merges[at].theirs]);
            let kinds_differ =
                paths.iter().filter(|(_, aside)| *aside).map(|(path, _)| path.clone()).collect();
            let paths = paths.into_iter().map(|(path, _)| path).collect();
            forecasts[at] = Forecast::Conflict { paths, kinds_differ };
        }
        for at in unrelated {
            forecasts[at] = Forecast::Unrelated;
        }
        Ok((forecasts, read))
    })
}

/// Asks git about those of the merges.
fn ask(repo: &Repository, merges: &[Merge<'_>], which: Vec<usize>) -> Result<Vec<(usize, MergeTree)>, Error> {
    let questions = which.iter().map(|&at| &merges[at]);
    let questions: Vec<_> = questions.map(|merge| (merge.base, merge.ours, merge.theirs)).collect();
    Ok(which.into_iter().zip(repo.forecast_merges(&questions)?).collect())
}

/// The lines at which contents differ, and the paths whose merge is not a matter of lines.
#[derive(Debug, Default)]
struct Lines {
    hunks: HashMap<Contents, Option<Vec<Hunk>>>,
    otherwise: HashSet<BString>,
}

impl Lines {
    fn read(repo: &Repository, contended: &Contended, moved: &Moved) -> Result<Self, Error> {
        let (mut wanted, mut paths) = (BTreeSet::<Contents>::new(), BTreeSet::new());
        for path in contended.iter().flatten().flatten() {
            if let Some([base, ours, theirs]) = edited(path) {
                wanted.extend([ours, theirs].map(|side| (Some(base.clone()), Some(side.clone()))));
                paths.insert(path.path.as_bstr());
            }
        }
        wanted.extend(moved.contended(contended).map(contents));
        let wanted: Vec<_> = wanted.into_iter().collect();
        let hunks = repo.lines_between(&wanted)?;
        let otherwise = if paths.is_empty() { HashSet::new() } else { repo.merged_otherwise(&paths)? };
        Ok(Self { hunks: wanted.into_iter().zip(hunks).collect(), otherwise })
    }

    /// The changed lines; `None` for binary content.
    fn of(&self, contents: &Contents) -> Option<&[Hunk]> {
        self.hunks.get(contents)?.as_deref()
    }

    /// Whether git merges a path that both sides changed without a conflict, because they changed it alike, or lines
    /// that do not touch.
    fn part(&self, path: &ThreeWay) -> bool {
        let Some([base, ours, theirs]) = edited(path) else { return false };
        if ours == theirs {
            return true;
        }
        let since = |side: &ObjectId| self.of(&(Some(base.clone()), Some(side.clone())));
        !self.otherwise.contains(&path.path)
            && since(ours).zip(since(theirs)).is_some_and(|(ours, theirs)| !touch(ours, theirs))
    }
}

fn contents(change: &FileChange) -> Contents {
    let file = |mode: u32, id: &Option<ObjectId>| {
        id.clone().filter(|_| EntryMode::from_octal(mode) != EntryMode::Submodule)
    };
    (file(change.old_mode, &change.old_id), file(change.new_mode, &change.new_id))
}

/// What the sides of those pairs changed in which something was moved, added, deleted or retyped: by merge base and tip.
#[derive(Debug, Default)]
struct Moved(HashMap<(ObjectId, ObjectId), Vec<FileChange>>);

impl Moved {
    fn read(repo: &Repository, merges: &[Merge<'_>], contended: &Contended) -> Result<Self, Error> {
        let mut wanted = BTreeSet::new();
        for (merge, paths) in merges.iter().zip(contended) {
            if paths.iter().flatten().any(|path| edited(path).is_none()) {
                wanted.extend(merge.sides().into_iter().flatten());
            }
        }
        let wanted: Vec<_> = wanted.into_iter().collect();
        let changes = repo.paths_between(&wanted)?;
        Ok(Self(wanted.into_iter().zip(changes).collect()))
    }

    /// What both sides of a merge changed, if it is one of those.
    fn sides(&self, merge: &Merge<'_>) -> Option<(&[FileChange], &[FileChange])> {
        let [ours, theirs] = merge.sides()?;
        Some((self.0.get(&ours)?, self.0.get(&theirs)?))
    }

    /// The changes whose lines count: of paths that some pair changed together.
    fn contended<'a>(&'a self, contended: &'a Contended) -> impl Iterator<Item = &'a FileChange> {
        let paths: HashSet<_> =
            contended.iter().flatten().flatten().map(|path| path.path.as_bstr()).collect();
        let below = move |path: &BString| {
            paths.contains(path.as_bstr())
                || path.find_iter(b"/").any(|slash| paths.contains(path[..slash].as_bstr()))
        };
        self.0.values().flatten().filter(move |change| change.paths().any(&below))
    }
}

/// The files that both sides edited.
fn edited_files(paths: &[ThreeWay], lines: &Lines) -> Vec<FileOverlap> {
    let file = |path: &ThreeWay| {
        let [base, ours, theirs] = edited(path)?;
        let since = |side: &ObjectId| lines.of(&(Some(base.clone()), Some(side.clone()))).unwrap_or_default();
        Some(FileOverlap {
            path: path_text(path.path.as_ref()),
            lines: common_lines(since(ours), since(theirs)),
        })
    };
    let mut files: Vec<_> = paths.iter().filter_map(file).collect();
    files.sort_by(|one, other| one.path.cmp(&other.path));
    files
}

/// The files that both sides changed, by the base's path, with how many lines of the base both changed.
fn common_files(ours: &[FileChange], theirs: &[FileChange], lines: &Lines) -> Vec<FileOverlap> {
    let mut by_path = HashMap::<&BString, &FileChange>::new();
    for change in theirs {
        by_path.insert(&change.path, change);
        by_path.insert(change.base_path(), change);
    }
    let hunks = |change: &FileChange| lines.of(&contents(change)).unwrap_or_default();
    let mut files = BTreeMap::new();
    for change in ours {
        let other = by_path.get(change.base_path()).or_else(|| by_path.get(&change.path));
        if let Some(other) = other {
            let path =
                if other.base_path() == change.base_path() { change.base_path() } else { &change.path };
            files.insert(path_text(path.as_ref()), common_lines(hunks(change), hunks(other)));
        }
    }
    files.into_iter().map(|(path, lines)| FileOverlap { path, lines }).collect()
}

/// Whether a change of one side touches one of the other, which is when git compares them line by line.
fn touch(ours: &[Hunk], theirs: &[Hunk]) -> bool {
    meetings(ours, theirs).next().is_some()
}

/// Lines in both sets of hunks; two insertions at one place, or an edit beside an insertion, count as one.
fn common_lines(ours: &[Hunk], theirs: &[Hunk]) -> u32 {
    let shared = |(our, their): (LineRange, LineRange)| {
        let insertion = our.len == 0 || their.len == 0;
        let shared = our.end().min(their.end()).saturating_sub(our.start.max(their.start));
        if insertion { 1 } else { shared }
    };
    meetings(ours, theirs).map(shared).sum()
}

/// Every change of one side with every change of the other that it touches, by lines of the base.
fn meetings<'a>(
    mut ours: &'a [Hunk],
    mut theirs: &'a [Hunk],
) -> impl Iterator<Item = (LineRange, LineRange)> + 'a {
    std::iter::from_fn(move || {
        while let ([our, our_rest @ ..], [their, their_rest @ ..]) = (ours, theirs) {
            let (our, their) = (our.old, their.old);
            if our.end() <= their.end() {
                ours = our_rest;
            } else {
                theirs = their_rest;
            }
            if our.touches(their) {
                return Some((our, their));
            }
        }
        None
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hunk(start: u32, len: u32) -> Hunk {
        Hunk { old: LineRange { start, len }, new: LineRange { start, len } }
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
    fn changes_touch_where_git_would_compare_their_lines() {
        assert!(touch(&[hunk(1, 2)], &[hunk(3, 2)]), "beside each other");
        assert!(!touch(&[hunk(1, 2)], &[hunk(4, 2)]), "a line between them");
        assert!(touch(&[hunk(4, 0)], &[hunk(4, 0)]));
        assert!(touch(&[hunk(1, 1), hunk(9, 1)], &[hunk(3, 1), hunk(8, 0), hunk(10, 0)]));
        assert!(!touch(&[hunk(1, 1), hunk(9, 1)], &[hunk(3, 1), hunk(7, 1), hunk(12, 0)]));
        assert!(!touch(&[], &[hunk(1, 9)]));
    }

    fn change(old: Option<&str>, path: &str) -> FileChange {
        let id = |digit: &str| Some(digit.repeat(40).parse().unwrap());
        FileChange {
            path: path.into(),
            old_path: old.map(Into::into),
            status: crate::git::ChangeStatus::Modified,
            old_mode: 0o100_644,
            new_mode: 0o100_644,
            old_id: id("1"),
            new_id: id("2"),
            binary: false,
            hunks: Vec::new(),
        }
    }

    #[test]
    fn a_file_is_known_by_its_path_at_the_base() {
        let renamed = [change(Some("old"), "new")];
        let hunks = HashMap::from([(contents(&renamed[0]), Some(vec![hunk(3, 2)]))]);
        let lines = Lines { hunks, otherwise: HashSet::new() };
        let files = |ours: &[FileChange], theirs: &[FileChange]| {
            let files = common_files(ours, theirs, &lines).into_iter();
            files.map(|file| (file.path, file.lines)).collect::<Vec<_>>()
        };
        assert_eq!(files(&renamed, &[change(None, "old")]), [("old".to_owned(), 2)]);
        assert_eq!(files(&[change(None, "old")], &renamed), [("old".to_owned(), 2)]);
        assert_eq!(files(&renamed, &[change(None, "new")]), [("new".to_owned(), 2)]);
        assert_eq!(files(&renamed, &[change(None, "other")]), []);
    }
}

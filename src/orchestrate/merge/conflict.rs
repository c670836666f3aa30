//! A conflict, taken apart so that a person or an agent can see and answer it.

use super::digest::Digest;
use super::owners::{Owned, TARGET, course, owned};
use super::{Error, prefix, short_branch};
use crate::git::{Driver, EntryMode, Favour, FileMerge, MergeMessage, MergeTree, Repository, text_path};
use crate::model::{Conflict, Id, Merge, ObjectId, Step, Task};
use crate::store::State;
use bstr::{BStr, BString, ByteSlice};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// A step that git could not merge by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictStep {
    /// The branch that is being merged.
    pub step: Step,
    /// The accumulated commit it is merged onto.
    pub head: ObjectId,
    /// What git made of it.
    pub merge: MergeTree,
    /// Who the branch belongs to.
    pub theirs: Party,
    /// The conflicting paths, in git's order.
    pub files: Vec<ConflictFile>,
    /// What identifies the same conflict when it comes up again: paths and contents, hashed.
    pub subject: String,
}

/// One conflicting path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConflictFile {
    /// What git says about it.
    pub conflict: Conflict,
    /// Whose work at this path has landed and conflicts: one or more agents, or the target itself.
    pub ours: Vec<Party>,
    /// Whose the lines of each place are, or of the file as a whole, by position in `ours`; nothing where nobody knows.
    pub owned: Vec<Owned>,
    /// The path that git moved this side's file away from, because the other side has something else there.
    pub aside_of: Option<String>,
    /// Whether one of its versions has to be taken as it is although both are text: the attribute `merge` says so, or the
    /// program that it names refused.
    pub whole: bool,
    /// Its lines, where both sides are text; otherwise only a whole side can be taken.
    pub parts: Option<Vec<Part>>,
}

/// One side of a conflict.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Party {
    /// The agent's name, or the target branch.
    pub name: String,
    /// The agent; absent for the target.
    pub agent: Option<Id>,
    /// Its task.
    pub task: Option<Task>,
}

/// A stretch of a file that is being merged, with its line ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    /// What git merged.
    Common(Vec<u8>),
    /// What it could not.
    Clash {
        /// The lines that have landed.
        ours: Vec<u8>,
        /// The lines before both.
        base: Vec<u8>,
        /// The branch's lines.
        theirs: Vec<u8>,
    },
}

/// Long enough that no file has such lines by itself.
const MARKER: usize = 61;
/// How markers look to people and programs.
const USUAL_MARKER: usize = 7;

impl ConflictStep {
    /// Takes apart what git said to merging `step` onto the accumulated commit of `merge`.
    pub(super) fn new(
        repo: &Repository,
        state: &State,
        merge: &Merge,
        step: &Step,
        mut result: MergeTree,
    ) -> Result<Self, Error> {
        let whole = whole_files(repo, &result)?;
        let aside = name_displaced(
            repo,
            &mut result,
            &[(&merge.head, &short_branch(&merge.target).replace('/', "_")), (&step.tip, step.name.as_str())],
        )?;
        let of_step = |step: &Step| -> Result<Party, Error> {
            let task = step.task.map(|id| state.get::<Task>(&id)).transpose()?.flatten();
            Ok(Party { name: step.name.to_string(), agent: Some(step.agent), task })
        };
        let before = prefix::before(state, merge)?;
        let landed = before.iter().chain(&merge.steps).filter(|before| before.commit.is_some());
        let landed: Vec<&Step> = landed.collect();
        let target = || Party { name: short_branch(&merge.target).to_owned(), agent: None, task: None };
        let (course, mut alone) = (course(repo, &merge.head, &landed)?, None);
        let mut files = Vec::new();
        for conflict in &result.conflicts {
            let whole = whole.contains(&conflict.path);
            let parts = if whole { None } else { parts(repo, conflict)? };
            let mut owned = owned(repo, &course, conflict, parts.as_deref())?.unwrap_or_default();
            let mut ours = Vec::new();
            for who in name_owners(&mut owned) {
                ours.push(if who == TARGET { target() } else { of_step(landed[who - 1])? });
            }
            if ours.is_empty() {
                owned.clear();
                let alone = match &mut alone {
                    Some(alone) => alone,
                    None => alone.insert(merged_alone(repo, &landed, step)?),
                };
                for before in beside(repo, &landed, alone, &conflict.path)? {
                    ours.push(of_step(before)?);
                }
            }
            if ours.is_empty() {
                ours.push(target());
            }
            let aside_of = aside.get(&conflict.path).cloned();
            files.push(ConflictFile { conflict: conflict.clone(), ours, owned, aside_of, whole, parts });
        }
        let subject = subject(&result);
        let theirs = of_step(step)?;
        Ok(Self { step: step.clone(), head: merge.head.clone(), merge: result, theirs, files, subject })
    }

    /// The paths that somebody has to decide about: not those that neither side has any more.
    pub fn undecided(&self) -> impl Iterator<Item = &ConflictFile> {
        self.files.iter().filter(|file| !file.is_gone())
    }

    /// The conflict at a path.
    pub fn file(&self, path: &str) -> Option<&ConflictFile> {
        self.files.iter().find(|file| file.conflict.path == path)
    }

    /// Whose landed work it conflicts with, over all paths, in the order in which it landed.
    pub fn ours(&self) -> Vec<&Party> {
        let mut all = Vec::<&Party>::new();
        for party in self.files.iter().flat_map(|file| &file.ours) {
            if !all.contains(&party) {
                all.push(party);
            }
        }
        all
    }

    /// What git said about what it could not merge.
    pub fn messages(&self) -> impl Iterator<Item = &str> {
        let about = |message: &&MergeMessage| message.kind != "Auto-merging";
        self.merge.messages.iter().filter(about).map(|message| message.text.as_str())
    }
}

impl ConflictFile {
    /// The file with markers around each clash, named after the sides; `None` if it has no lines to merge.
    pub fn with_markers(&self, theirs: &Party) -> Option<Vec<u8>> {
        Some(self.marked(self.parts.as_ref()?, theirs))
    }

    /// One of its places, counted from 1, with such markers.
    pub fn place_with_markers(&self, place: usize, theirs: &Party) -> Option<Vec<u8>> {
        let at = self.place_at(place)?;
        Some(self.marked(&self.parts.as_ref()?[at..=at], theirs))
    }

    /// Where one of its places, counted from 1, is among its parts.
    pub fn place_at(&self, place: usize) -> Option<usize> {
        let parts = self.parts.as_ref()?.iter().enumerate();
        let mut clashes = parts.filter(|(_, part)| matches!(part, Part::Clash { .. }));
        clashes.nth(place.checked_sub(1)?).map(|(at, _)| at)
    }

    fn marked(&self, parts: &[Part], theirs: &Party) -> Vec<u8> {
        let mut text = Vec::new();
        let line = |text: &mut Vec<u8>, sign: char, label: &str| {
            let marker: String = std::iter::repeat_n(sign, USUAL_MARKER).collect();
            let line = if label.is_empty() { format!("{marker}\n") } else { format!("{marker} {label}\n") };
            text.extend_from_slice(line.as_bytes());
        };
        for part in parts {
            match part {
                Part::Common(lines) => text.extend_from_slice(lines),
                Part::Clash { ours, base, theirs: other } => {
                    line(&mut text, '<', &names(&self.ours.iter().collect::<Vec<_>>()));
                    text.extend_from_slice(ours);
                    line(&mut text, '|', "before both");
                    text.extend_from_slice(base);
                    line(&mut text, '=', "");
                    text.extend_from_slice(other);
                    line(&mut text, '>', &theirs.name);
                }
            }
        }
        text
    }

    /// Whether both sides moved or deleted it: the conflict is where they moved it to.
    pub fn is_gone(&self) -> bool {
        self.conflict.ours.is_none() && self.conflict.theirs.is_none()
    }

    /// How many places of the file clash; 1 for a file that can only be taken whole.
    pub fn clashes(&self) -> usize {
        let clash = |part: &&Part| matches!(part, Part::Clash { .. });
        self.parts.as_ref().map_or(1, |parts| parts.iter().filter(clash).count())
    }
}

/// `blue-heron`, `blue-heron and grey-fox`, `a, b and c`.
pub(super) fn names(parties: &[&Party]) -> String {
    let mut text = String::new();
    for (at, party) in parties.iter().enumerate() {
        let joint = match at {
            0 => "",
            _ if at + 1 == parties.len() => " and ",
            _ => ", ",
        };
        write!(text, "{joint}{}", party.name).expect("a string takes everything");
    }
    text
}

/// Where a file and a directory want the same place, git moves the file aside, to `<path>~<commit>` for us who merge
/// by commit ids. Moves it on to `<path>~<name>`, and says names in git's messages too.
pub(super) fn name_displaced(
    repo: &Repository,
    result: &mut MergeTree,
    names: &[(&ObjectId, &str)],
) -> Result<BTreeMap<String, String>, Error> {
    let mut aside = BTreeMap::new();
    let say =
        |text: &str| names.iter().fold(text.to_owned(), |text, (id, name)| text.replace(id.as_str(), name));
    let mut edits = Vec::new();
    for conflict in &mut result.conflicts {
        let path = say(&conflict.path);
        if path != conflict.path
            && let Some(entry) = repo.find_in_tree(&result.tree, text_path(&conflict.path))?
            && repo.find_in_tree(&result.tree, text_path(&path))?.is_none()
        {
            edits.push((text_path(&conflict.path), None));
            edits.push((text_path(&path), Some((entry.mode, entry.id))));
            let before = names.iter().find_map(|(id, _)| conflict.path.split_once(&format!("~{id}")));
            if let Some((before, _)) = before {
                aside.insert(path.clone(), before.to_owned());
            }
            conflict.path = path;
        }
        conflict.message = say(&conflict.message);
    }
    if !edits.is_empty() {
        result.tree = repo.edit_tree(Some(&result.tree), &edits)?.0;
    }
    for message in &mut result.messages {
        message.text = say(&message.text);
        message.paths = message.paths.iter().map(|path| say(path)).collect();
    }
    Ok(aside)
}

/// Counts the owners of lines anew, by their position among those who own any. Returns these, in their order.
fn name_owners(owned: &mut [Owned]) -> Vec<usize> {
    let lines = |place: &Owned| [place.brought.clone(), place.removed.clone()].concat();
    let mut all: Vec<usize> = owned.iter().flat_map(lines).flatten().collect();
    all.sort_unstable();
    all.dedup();
    for line in owned.iter_mut().flat_map(|place| place.brought.iter_mut().chain(&mut place.removed)) {
        *line = line.and_then(|who| all.binary_search(&who).ok());
    }
    all
}

/// What git makes of the branch with each of those that landed, without the others.
fn merged_alone(repo: &Repository, landed: &[&Step], step: &Step) -> Result<Vec<MergeTree>, Error> {
    let pairs: Vec<_> = landed.iter().map(|before| (before.tip.clone(), step.tip.clone())).collect();
    Ok(repo.merge_trees(&pairs)?)
}

/// Whoever conflicts by himself at a path, where no lines say whose it is; if none does, whoever landed something there.
fn beside<'a>(
    repo: &Repository,
    landed: &[&'a Step],
    alone: &[MergeTree],
    path: &str,
) -> Result<Vec<&'a Step>, Error> {
    let own: Vec<&Step> = landed
        .iter()
        .zip(alone)
        .filter(|(_, merge)| has_conflict(merge, path))
        .map(|(step, _)| *step)
        .collect();
    if !own.is_empty() {
        return Ok(own);
    }
    let mut others = Vec::new();
    for &step in landed {
        if let Some(commit) = &step.commit
            && touched(repo, commit, path)?
        {
            others.push(step);
        }
    }
    Ok(others)
}

fn has_conflict(merge: &MergeTree, path: &str) -> bool {
    merge.conflicts.iter().any(|conflict| conflict.path == path)
}

/// Whether a merge commit changed a path beside its first parent.
fn touched(repo: &Repository, commit: &ObjectId, path: &str) -> Result<bool, Error> {
    let commit = repo.read_commit(commit)?;
    let Some(parent) = commit.parents.first() else { return Ok(true) };
    let (before, path) = (repo.read_commit(parent)?.tree, text_path(path));
    Ok(repo.find_in_tree(&commit.tree, &path)? != repo.find_in_tree(&before, &path)?)
}

/// The same conflict has the same subject, whatever commits it comes from.
fn subject(merge: &MergeTree) -> String {
    let mut digest = Digest::default();
    for conflict in &merge.conflicts {
        digest.add(&conflict.path);
        for side in [&conflict.base, &conflict.ours, &conflict.theirs] {
            let entry = side.as_ref().map(|(mode, id)| format!("{mode:o} {id}"));
            digest.add(entry.unwrap_or_default());
        }
    }
    if merge.conflicts.is_empty() {
        for message in &merge.messages {
            digest.add(&message.kind);
            digest.extend(&message.paths);
        }
    }
    digest.finish()
}

/// The conflicting files that have lines and are not merged by them: those that attributes keep from it, and those that
/// the user's own program refused. Where that left markers, it went by lines itself.
pub(super) fn whole_files(repo: &Repository, merge: &MergeTree) -> Result<BTreeSet<String>, Error> {
    let with_lines = merge.conflicts.iter().filter(|conflict| line_merge(conflict).is_some());
    let with_lines: Vec<(&Conflict, BString)> =
        with_lines.map(|conflict| (conflict, text_path(&conflict.path))).collect();
    let drivers = repo.merge_drivers(&with_lines.iter().map(|(_, path)| BStr::new(path)).collect())?;
    let mut whole = BTreeSet::new();
    for (conflict, path) in &with_lines {
        let is_whole = match drivers.get(path) {
            None | Some(Driver::Lines) => false,
            Some(Driver::Nothing) => true,
            Some(Driver::Program) => !is_marked(repo, merge, conflict, path)?,
        };
        if is_whole {
            whole.insert(conflict.path.clone());
        }
    }
    Ok(whole)
}

/// Whether what a merge left at a path has a conflict's markers that neither side has.
fn is_marked(
    repo: &Repository,
    merge: &MergeTree,
    conflict: &Conflict,
    path: &BString,
) -> Result<bool, Error> {
    let opens = |text: &[u8]| {
        let marker = [b'<'; USUAL_MARKER];
        text.lines().filter(|line| line.starts_with(&marker)).count()
    };
    let Some(left) = repo.find_in_tree(&merge.tree, path)?.filter(|entry| entry.mode.is_file()) else {
        return Ok(false);
    };
    let mut known = 0;
    for (_, id) in [&conflict.ours, &conflict.theirs].into_iter().flatten() {
        known = known.max(opens(&repo.read_blob(id)?));
    }
    Ok(opens(&repo.read_blob(&left.id)?) > known)
}

/// The stretches of a conflicting file; `None` if it has no lines to merge.
pub(super) fn parts(repo: &Repository, conflict: &Conflict) -> Result<Option<Vec<Part>>, Error> {
    let Some(file) = line_merge(conflict) else { return Ok(None) };
    Ok(repo.merge_file(file, Favour::Markers(MARKER))?.map(|text| split(&text)))
}

/// The three versions, if all that are there are files with lines.
pub(super) fn line_merge(conflict: &Conflict) -> Option<FileMerge<'_>> {
    let file = |side: &Option<(u32, ObjectId)>| {
        side.as_ref().is_some_and(|(mode, _)| EntryMode::from_octal(*mode).is_file())
    };
    let base = conflict.base.as_ref();
    if !file(&conflict.ours) || !file(&conflict.theirs) || (base.is_some() && !file(&conflict.base)) {
        return None;
    }
    let ((_, ours), (_, theirs)) = conflict.ours.as_ref().zip(conflict.theirs.as_ref())?;
    Some(FileMerge { base: base.map(|(_, id)| id), ours, theirs, labels: ["ours", "base", "theirs"] })
}

/// Takes a merged file apart at its markers.
fn split(text: &[u8]) -> Vec<Part> {
    let marker = |line: &[u8], sign: u8, label: &str| {
        let line = line.trim_end_with(|c| matches!(c, '\r' | '\n'));
        let rest = line.get(MARKER..).unwrap_or_default();
        line.len() >= MARKER
            && line[..MARKER].iter().all(|&byte| byte == sign)
            && rest.strip_prefix(b" ").unwrap_or(rest) == label.as_bytes()
    };
    let (mut parts, mut common) = (Vec::new(), Vec::new());
    let mut lines = text.lines_with_terminator();
    let until = |sign: u8, label: &str, lines: &mut bstr::LinesWithTerminator<'_>| -> Vec<u8> {
        lines.take_while(|line| !marker(line, sign, label)).flatten().copied().collect()
    };
    while let Some(line) = lines.next() {
        if !marker(line, b'<', "ours") {
            common.extend_from_slice(line);
            continue;
        }
        if !common.is_empty() {
            parts.push(Part::Common(std::mem::take(&mut common)));
        }
        let ours = until(b'|', "base", &mut lines);
        let base = until(b'=', "", &mut lines);
        let theirs = until(b'>', "theirs", &mut lines);
        parts.push(Part::Clash { ours, base, theirs });
    }
    if !common.is_empty() {
        parts.push(Part::Common(common));
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_taken_apart_and_put_together_again() {
        let m = |sign: &str, label: &str| format!("{}{label}\n", sign.repeat(MARKER));
        let text = [
            "a\n<<<<<<< ours\n".to_owned(),
            m("<", " ours"),
            "x\r\n".to_owned(),
            m("|", " base"),
            m("=", ""),
            "y\n".to_owned(),
            m(">", " theirs"),
            "z".to_owned(),
        ]
        .concat();
        let parts = split(text.as_bytes());
        let clash = Part::Clash { ours: b"x\r\n".to_vec(), base: Vec::new(), theirs: b"y\n".to_vec() };
        let expected = [Part::Common(b"a\n<<<<<<< ours\n".to_vec()), clash, Part::Common(b"z".to_vec())];
        assert_eq!(parts, expected);
        let called = |name: &str| Party { name: name.to_owned(), agent: None, task: None };
        let conflict =
            Conflict { path: "f".into(), base: None, ours: None, theirs: None, message: String::new() };
        let file = ConflictFile {
            conflict,
            ours: vec![called("blue-heron"), called("red-fox")],
            owned: Vec::new(),
            aside_of: None,
            whole: false,
            parts: Some(parts),
        };
        let shown = String::from_utf8(file.with_markers(&called("grey-fox")).unwrap()).unwrap();
        let expected = "a\n<<<<<<< ours\n<<<<<<< blue-heron and red-fox\nx\r\n||||||| before both\n=======\ny\n\
                        >>>>>>> grey-fox\nz";
        assert_eq!(shown, expected);
        assert_eq!(file.clashes(), 1);
    }
}

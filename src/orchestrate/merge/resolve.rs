//! From answers to a tree.

use super::conflict::{ConflictFile, ConflictStep, line_merge, parts};
use super::{Error, ladder};
use crate::git::{EntryMode, Favour, Repository, text_path};
use crate::model::{Answer, Conflict, Decision, ObjectId, Resolution, Side};
use bstr::{BString, ByteSlice};

/// A step whose every conflict is answered, as a tree.
#[derive(Debug)]
pub(super) struct Resolved {
    pub(super) tree: ObjectId,
    pub(super) resolutions: Vec<Resolution>,
    /// What the step's commit says about each path.
    pub(super) words: Vec<String>,
}

/// Applies the answers of `decision` to the tree that git left. `None` if one is missing.
///
/// Where lines can be merged, a side is taken where the two clash and only there; everything else of a file is
/// what git merged. Where they cannot (deleted, binary, a link, kept from it by an attribute), the whole of a side's version
/// is taken.
pub(super) fn resolve(
    repo: &Repository,
    step: &ConflictStep,
    decision: &Decision,
) -> Result<Option<Resolved>, Error> {
    let mut edits = Vec::<(BString, Option<(EntryMode, ObjectId)>)>::new();
    let mut resolutions = Vec::new();
    let mut words = Vec::new();
    for file in &step.files {
        let path = &file.conflict.path;
        if file.is_gone() {
            edits.push((text_path(path), None));
            continue;
        }
        let Some((side, answer)) = decision.answer_for(path).and_then(|answer| Some((side(answer)?, answer)))
        else {
            return Ok(None);
        };
        // An agent that was asked for everything answers path by path.
        if side == Side::Agent && !decision.answers.contains_key(path) {
            return Ok(None);
        }
        edits.push((text_path(path), entry(repo, file, side, answer)?));
        resolutions.push(Resolution {
            path: path.clone(),
            side,
            decision: Some(decision.id),
            by: answer.by.clone(),
        });
        words.push(format!("  {path}: {}", taken(step, file, side, &answer.by)));
    }
    if step.files.is_empty() && decision.answer.as_ref().is_none_or(|answer| answer.key != ACCEPT) {
        return Ok(None);
    }
    put_back(repo, step, &mut edits)?;
    let tree = if edits.is_empty() {
        step.merge.tree.clone()
    } else {
        repo.edit_tree(Some(&step.merge.tree), &edits)?.0
    };
    Ok(Some(Resolved { tree, resolutions, words }))
}

/// Gives a file that git moved aside its own path again where the answers left that path empty.
fn put_back(
    repo: &Repository,
    step: &ConflictStep,
    edits: &mut Vec<(BString, Option<(EntryMode, ObjectId)>)>,
) -> Result<(), Error> {
    for file in &step.files {
        let (aside, Some(path)) = (text_path(&file.conflict.path), &file.aside_of) else { continue };
        let path = text_path(path);
        let taken = match edits.iter().rfind(|(edited, _)| *edited == path) {
            Some((_, entry)) => entry.is_some(),
            None => repo.find_in_tree(&step.merge.tree, &path)?.is_some(),
        };
        let kept = edits.iter_mut().rfind(|(edited, _)| *edited == aside).filter(|_| !taken);
        if let Some(entry) = kept.and_then(|(_, entry)| entry.take()) {
            edits.retain(|(edited, _)| *edited != path);
            edits.push((path, Some(entry)));
        }
    }
    Ok(())
}

/// The answer to a conflict without a conflicting path: what git made is right.
pub(super) const ACCEPT: &str = "accept";
/// The answer that is put together from those for the places of a file.
pub(super) const PLACES: &str = "places";
/// The answers that nobody gave: what the same conflict became before, and what a rule gives.
pub(super) const REMEMBERED: &str = "remembered";
pub(super) const RULE: &str = "rule";

pub(super) fn side(answer: &Answer) -> Option<Side> {
    match answer.key.as_str() {
        "ours" => Some(Side::Ours),
        "theirs" => Some(Side::Theirs),
        "union" => Some(Side::Union),
        "edit" => Some(Side::Edited),
        PLACES => Some(Side::Places),
        "agent" => Some(Side::Agent),
        REMEMBERED => Some(Side::Remembered),
        RULE => Some(Side::Rule),
        _ => None,
    }
}

fn taken(step: &ConflictStep, file: &ConflictFile, side: Side, by: &str) -> String {
    match side {
        Side::Ours => {
            format!("kept what landed from {}", super::conflict::names(&file.ours.iter().collect::<Vec<_>>()))
        }
        Side::Theirs => format!("took {}", step.theirs.name),
        Side::Union => "kept the lines of both".to_owned(),
        Side::Places => "decided place by place".to_owned(),
        Side::Edited => "edited".to_owned(),
        Side::Agent => "resolved by an agent".to_owned(),
        Side::Remembered => format!("as {by} decided before"),
        Side::Rule => format!("by rule: {by}"),
    }
}

/// What becomes of the path; `None` deletes it.
pub(super) fn entry(
    repo: &Repository,
    file: &ConflictFile,
    side: Side,
    answer: &Answer,
) -> Result<Option<(EntryMode, ObjectId)>, Error> {
    let conflict = &file.conflict;
    let (favour, whole) = match side {
        Side::Ours => (Favour::Ours, &conflict.ours),
        Side::Theirs => (Favour::Theirs, &conflict.theirs),
        Side::Union => {
            let Some(parts) = parts(repo, conflict)? else { return Ok(None) };
            return Ok(Some((mode(conflict, side), repo.write_blob(&ladder::union_of(&parts))?)));
        }
        Side::Places | Side::Edited | Side::Agent | Side::Remembered | Side::Rule => {
            let Some(text) = &answer.text else { return Ok(None) };
            return Ok(Some((mode(conflict, side), repo.write_blob(text.as_bytes())?)));
        }
    };
    if !file.whole
        && let Some(lines) = line_merge(conflict)
        && let Some(content) = repo.merge_file(lines, favour)?
    {
        return Ok(Some((mode(conflict, side), repo.write_blob(&content)?)));
    }
    Ok(whole.as_ref().map(|(mode, id)| (EntryMode::from_octal(*mode), id.clone())))
}

/// The mode that both sides agree on; where they differ, that of whoever changed it; where both did, the side's.
fn mode(conflict: &Conflict, side: Side) -> EntryMode {
    let of = |entry: &Option<(u32, ObjectId)>| entry.as_ref().map(|(mode, _)| *mode);
    let (base, ours, theirs) = (of(&conflict.base), of(&conflict.ours), of(&conflict.theirs));
    let mode = match (ours, theirs) {
        (Some(ours), Some(theirs)) if ours == theirs || base == Some(theirs) => ours,
        (Some(ours), Some(theirs)) if base == Some(ours) || side == Side::Theirs => theirs,
        (Some(mode), _) | (None, Some(mode)) => mode,
        (None, None) => 0o100_644,
    };
    EntryMode::from_octal(mode)
}

/// Lines of `text` that look like a conflict's markers and are in neither side: somebody forgot them.
pub(super) fn markers_left(
    repo: &Repository,
    conflict: Option<&Conflict>,
    text: &[u8],
) -> Result<usize, Error> {
    let sides = conflict.map(|conflict| [&conflict.base, &conflict.ours, &conflict.theirs]);
    let mut known = Vec::new();
    for (_, id) in sides.into_iter().flatten().flatten() {
        known.push(repo.read_blob(id)?);
    }
    let is_marker = |line: &[u8]| {
        let marked =
            |sign: &[u8]| line.strip_prefix(sign).is_some_and(|rest| rest.is_empty() || rest[0] == b' ');
        marked(b"<<<<<<<") || marked(b"|||||||") || marked(b"=======") || marked(b">>>>>>>")
    };
    let new =
        |line: &&[u8]| is_marker(line) && !known.iter().any(|side| side.lines().any(|other| other == *line));
    Ok(text.lines().filter(new).count())
}

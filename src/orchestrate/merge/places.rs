//! The places of a conflict one by one: what each answer leaves out there, and a file put together from answers.

use super::conflict::{ConflictFile, ConflictStep, Part, names};
use super::receipt::{LeftOut, left_out};
use super::resolve::{PLACES, REMEMBERED};
use super::{Error, ladder};
use crate::git::{EntryMode, Repository};
use crate::model::{Answer, ChoiceLoss, Clash, Decision, LineRange, ObjectId};
use bstr::ByteSlice;
use std::collections::BTreeMap;

/// The answers that are known before anybody writes anything.
const KNOWN: [&str; 3] = ["ours", "theirs", "union"];

/// Every place of every path that somebody has to decide about.
pub(super) fn clashes(repo: &Repository, conflict: &ConflictStep) -> Result<Vec<Clash>, Error> {
    let mut all = Vec::new();
    for file in conflict.undecided() {
        let path = &file.conflict.path;
        let sides = Sides { file, theirs: &conflict.theirs.name };
        let Some(parts) = &file.parts else {
            let leaves_out = sides.losses(0, |key| whole(repo, file, key))?;
            let lines = LineRange { start: 0, len: 0 };
            all.push(Clash { path: path.clone(), place: 0, lines, leaves_out });
            continue;
        };
        // A record holds text: bytes that are none are taken whole.
        let is_text = parts.iter().all(|part| match part {
            Part::Common(lines) => lines.is_utf8(),
            Part::Clash { ours, base, theirs } => [ours, base, theirs].iter().all(|lines| lines.is_utf8()),
        });
        let (mut place, mut line) = (0, 1);
        for part in parts {
            let landed = match part {
                Part::Common(lines) => lines,
                Part::Clash { ours, base, theirs } => {
                    place += 1;
                    let lines = LineRange { start: line, len: count(ours) };
                    let leaves_out = sides.losses(place - 1, |key| {
                        let chosen = taken(key, None, part).unwrap_or_default();
                        Ok(left_out(base, [ours, theirs], &chosen))
                    })?;
                    let place = if is_text { place } else { 0 };
                    all.push(Clash { path: path.clone(), place, lines, leaves_out });
                    ours
                }
            };
            line += count(landed);
        }
    }
    Ok(all)
}

fn count(lines: &[u8]) -> u32 {
    u32::try_from(lines.lines().count()).unwrap_or(u32::MAX)
}

/// Who is on either side of a file.
struct Sides<'a> {
    file: &'a ConflictFile,
    theirs: &'a str,
}

impl Sides<'_> {
    /// What each answer that is known leaves out at a place, counted from 0, of each whose lines they are.
    fn losses(
        &self,
        place: usize,
        mut left: impl FnMut(&str) -> Result<[Vec<LeftOut>; 2], Error>,
    ) -> Result<Vec<ChoiceLoss>, Error> {
        let mut losses = Vec::new();
        for key in KNOWN {
            let [ours, theirs] = left(key)?;
            let mut by_owner = BTreeMap::<Option<usize>, Vec<&LeftOut>>::new();
            for line in &ours {
                by_owner.entry(self.owner(place, line)).or_default().push(line);
            }
            let everybody = || names(&self.file.ours.iter().collect::<Vec<_>>());
            let of_ours = by_owner.into_iter().map(|(who, lines)| {
                (who.map_or_else(everybody, |who| self.file.ours[who].name.clone()), lines)
            });
            let of_theirs = (self.theirs.to_owned(), theirs.iter().collect::<Vec<_>>());
            for (of, lines) in of_ours.chain([of_theirs]).filter(|(_, lines)| !lines.is_empty()) {
                let added = lines.iter().filter(|line| matches!(line, LeftOut::Added(_))).count();
                let removed = lines.len() - added;
                losses.push(ChoiceLoss { answer: key.to_owned(), of, added, removed });
            }
        }
        Ok(losses)
    }

    /// Whose a line of what has landed is, or who of those who landed removed it.
    fn owner(&self, place: usize, line: &LeftOut) -> Option<usize> {
        let owned = self.file.owned.get(place)?;
        match line {
            LeftOut::Added(at) => owned.brought.get(*at).copied().flatten(),
            LeftOut::Removed(was) => was.iter().find_map(|at| owned.removed.get(*at).copied().flatten()),
        }
    }
}

/// What taking one side of a file that cannot be merged by lines leaves out.
fn whole(repo: &Repository, file: &ConflictFile, key: &str) -> Result<[Vec<LeftOut>; 2], Error> {
    let conflict = &file.conflict;
    let content = |side: &Option<(u32, ObjectId)>| -> Result<Option<Vec<u8>>, Error> {
        match side {
            None => Ok(Some(Vec::new())),
            Some((mode, id)) if EntryMode::from_octal(*mode).is_file() => {
                Ok(Some(repo.read_blob(id)?).filter(|content| !content.contains(&0)))
            }
            Some(_) => Ok(None),
        }
    };
    let taken = match key {
        "ours" => 0,
        "theirs" => 1,
        _ => return Ok(Default::default()),
    };
    let versions = [content(&conflict.base)?, content(&conflict.ours)?, content(&conflict.theirs)?];
    if let [Some(base), Some(ours), Some(theirs)] = &versions {
        return Ok(left_out(base, [ours, theirs], [ours, theirs][taken]));
    }
    // What has no lines counts as one, as in a receipt.
    let mut left = [Vec::new(), Vec::new()];
    let is_there = [conflict.ours.is_some(), conflict.theirs.is_some()][1 - taken];
    left[1 - taken].push(if is_there { LeftOut::Added(0) } else { LeftOut::Removed(Vec::new()) });
    Ok(left)
}

/// The lines that an answer puts in the place of a clash; `None` for an answer that is none for a place.
fn taken(key: &str, text: Option<&str>, clash: &Part) -> Option<Vec<u8>> {
    let Part::Clash { ours, theirs, .. } = clash else { return None };
    match key {
        "ours" => Some(ours.clone()),
        "theirs" => Some(theirs.clone()),
        "union" => Some(ladder::both(ours, theirs)),
        "edit" | REMEMBERED => Some(text.unwrap_or_default().as_bytes().to_vec()),
        _ => None,
    }
}

/// Makes of the answers for places the answers for their paths. A place without one is as the answer for everything
/// says; where that leaves it to an agent, the agent has the whole file. `None` if the places are not there.
pub(super) fn fold(decision: &Decision, conflict: &ConflictStep) -> Option<Decision> {
    let mut folded = decision.clone();
    let to_agent = decision.answer.as_ref().is_some_and(|answer| answer.key == "agent");
    for file in conflict.undecided() {
        let path = &file.conflict.path;
        let answered = |place| decision.places.contains_key(&Decision::place_key(path, place));
        if !to_agent && !decision.answers.contains_key(path) && (1..=decision.places_of(path)).any(answered) {
            folded.answers.insert(path.clone(), put_together(file, decision)?);
        }
    }
    Some(folded)
}

/// A file from the answers for its places; `None` if one is missing.
fn put_together(file: &ConflictFile, decision: &Decision) -> Option<Answer> {
    let (path, parts) = (&file.conflict.path, file.parts.as_ref()?);
    let (mut place, mut text, mut by) = (0, Vec::new(), Vec::<&str>::new());
    let mut last = None::<&Answer>;
    for (at, part) in parts.iter().enumerate() {
        if let Part::Common(lines) = part {
            text.extend_from_slice(lines);
            continue;
        }
        place += 1;
        let own = decision.places.get(&Decision::place_key(path, place));
        last = last.into_iter().chain(own).max_by_key(|answer| answer.at);
        let answer = own.or(decision.answer.as_ref())?;
        if !by.contains(&answer.by.as_str()) {
            by.push(&answer.by);
        }
        text.extend(taken(&answer.key, answer.text.as_deref(), part)?);
        // An edited last line may lack its end, and something follows.
        if at + 1 < parts.len() && !text.is_empty() && !text.ends_with(b"\n") {
            text.push(b'\n');
        }
    }
    Some(Answer {
        key: PLACES.to_owned(),
        text: Some(String::from_utf8(text).ok()?),
        by: by.join(", "),
        signature: None,
        like: None,
        at: last?.at,
    })
}

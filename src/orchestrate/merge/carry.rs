//! Answers that go on holding when a step is asked about anew, because the target or a branch moved: those to files and
//! places whose three sides are as they were.

use super::conflict::{ConflictStep, Part};
use super::digest::Digest;
use super::resolve::{PLACES, REMEMBERED, RULE};
use crate::model::{Answer, Decision, DecisionKind, ObjectId};
use std::collections::BTreeMap;

/// What each file, as its place 0, and each of its places has on its three sides, by [`Decision::place_key`].
pub(super) fn sides(conflict: &ConflictStep) -> BTreeMap<String, String> {
    let mut sides = BTreeMap::new();
    for file in conflict.undecided() {
        let path = &file.conflict.path;
        let entry = |side: &Option<(u32, ObjectId)>| {
            side.as_ref().map_or_else(String::new, |(mode, id)| format!("{mode:o} {id}"))
        };
        let entries = [&file.conflict.base, &file.conflict.ours, &file.conflict.theirs].map(entry);
        sides.insert(Decision::place_key(path, 0), Digest::short(&entries));
        let clashes = file.parts.iter().flatten().filter_map(|part| match part {
            Part::Common(_) => None,
            Part::Clash { ours, base, theirs } => Some([base, ours, theirs]),
        });
        for (place, lines) in clashes.enumerate() {
            sides.insert(Decision::place_key(path, place + 1), Digest::short(&lines));
        }
    }
    sides
}

/// Gives a new question what was answered to earlier ones of the same merge about the same branch, the newest answer
/// first. Each is told as the answer that it repeats.
pub(super) fn carry(asked: &mut Decision, earlier: &[Decision]) {
    let same = |old: &&Decision| {
        old.kind == DecisionKind::Conflict && old.merge == asked.merge && old.agent == asked.agent
    };
    let mut before: Vec<&Decision> = earlier.iter().filter(same).collect();
    before.sort_by_key(|old| std::cmp::Reverse((old.created, old.id)));
    for path in asked.paths.clone() {
        // What a rule had taken out of a question, or nobody had asked yet, nobody answered.
        let before: Vec<&Decision> = before.iter().filter(|old| old.paths.contains(&path)).copied().collect();
        let here = |place| asked.sides.get(&Decision::place_key(&path, place));
        let file = before.iter().filter(|old| old.sides.get(&Decision::place_key(&path, 0)) == here(0));
        if let Some(answer) = file.clone().find_map(|old| of_file(old, asked, &path)) {
            asked.answers.insert(path, answer);
            continue;
        }
        let mut places = BTreeMap::new();
        for place in 1..=asked.places_of(&path) {
            let Some(here) = here(place) else { continue };
            if let Some(answer) = before.iter().find_map(|old| of_place(old, &path, here)) {
                places.insert(Decision::place_key(&path, place), answer);
            }
        }
        asked.places.extend(places);
    }
}

/// What was said of a whole file.
fn of_file(old: &Decision, asked: &Decision, path: &str) -> Option<Answer> {
    let own = old.answers.get(path).filter(|answer| !is_made(answer));
    let of_all = old
        .answer
        .as_ref()
        .filter(|answer| is_side(answer) && !asked.has_lines(path) && !old.answers.contains_key(path));
    own.or(of_all).map(|answer| repeat(answer, old))
}

/// What was said of the place with these sides; nothing if there were several and they were answered differently.
fn of_place(old: &Decision, path: &str, sides: &str) -> Option<Answer> {
    let mut said = BTreeMap::new();
    for place in 1..=old.places_of(path) {
        let key = Decision::place_key(path, place);
        if old.sides.get(&key).map(String::as_str) != Some(sides) {
            continue;
        }
        let answer = match old.answers.get(path) {
            // A file that was edited, or made otherwise, says nothing of one place.
            Some(answer) if answer.key != PLACES => Some(answer).filter(|answer| is_side(answer)),
            _ => old.places.get(&key).or(old.answer.as_ref().filter(|answer| is_side(answer))),
        };
        let answer = answer?;
        said.entry((answer.key.as_str(), answer.text.as_deref())).or_insert(answer);
    }
    let mut said = said.into_values();
    said.next().filter(|_| said.next().is_none()).map(|answer| repeat(answer, old))
}

/// Whether it takes sides, so that it holds for each place of what it was said of.
fn is_side(answer: &Answer) -> bool {
    matches!(answer.key.as_str(), "ours" | "theirs" | "union")
}

/// Whether nobody gave it: it is made again.
fn is_made(answer: &Answer) -> bool {
    [PLACES, REMEMBERED, RULE].contains(&answer.key.as_str())
}

/// The same, as one that is said again: its signature is one of the earlier question.
fn repeat(answer: &Answer, old: &Decision) -> Answer {
    Answer { signature: None, like: Some(answer.like.unwrap_or(old.id)), ..answer.clone() }
}

/// The files and places with an answer from an earlier question, each with what was said and by whom.
pub(super) fn carried(asked: &Decision) -> Vec<String> {
    let all = asked.answers.iter().chain(&asked.places);
    let kept = all.filter(|(_, answer)| answer.like.is_some() && !is_made(answer));
    kept.map(|(on, answer)| format!("{on}: `{}` by {}", answer.key, answer.by)).collect()
}

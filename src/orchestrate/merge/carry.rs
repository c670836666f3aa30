//! Answers that go on holding when a step is asked about anew, because the target or a branch moved: those to files and
//! places whose three sides are as they were.

use super::Error;
use super::align::align;
use super::conflict::{ConflictStep, Part};
use super::digest::Digest;
use super::resolve::{PLACES, REMEMBERED, RULE};
use crate::git::Repository;
use crate::model::{Answer, Decision, DecisionKind, ObjectId};
use bstr::ByteSlice;
use std::collections::BTreeMap;

/// What each file, as its place 0, and each of its places has on its three sides, by [`Decision::place_key`]. Of a place
/// that includes where it is in the version before both, and in which: the same lines elsewhere are another place.
pub(super) fn sides(repo: &Repository, conflict: &ConflictStep) -> Result<BTreeMap<String, String>, Error> {
    let mut sides = BTreeMap::new();
    for file in conflict.undecided() {
        let path = &file.conflict.path;
        let entry = |side: &Option<(u32, ObjectId)>| {
            side.as_ref().map_or_else(String::new, |(mode, id)| format!("{mode:o} {id}"))
        };
        let entries = [&file.conflict.base, &file.conflict.ours, &file.conflict.theirs].map(entry);
        sides.insert(Decision::place_key(path, 0), Digest::short(&entries));
        let Some(parts) = &file.parts else { continue };
        let before = file.conflict.base.as_ref().map(|(_, id)| repo.read_blob(id)).transpose()?;
        let starts = starts(parts, &before.unwrap_or_default());
        let clashes = parts.iter().filter_map(|part| match part {
            Part::Common(_) => None,
            Part::Clash { ours, base, theirs } => Some([base, ours, theirs]),
        });
        for (place, ([base, ours, theirs], start)) in clashes.zip(starts).enumerate() {
            let at = format!("{} {start}", entries[0]);
            let fields = [at.as_bytes(), base, ours, theirs];
            sides.insert(Decision::place_key(path, place + 1), Digest::short(&fields));
        }
    }
    Ok(sides)
}

/// Before which line of the version before both each clash begins, from 0.
fn starts(parts: &[Part], before: &[u8]) -> Vec<usize> {
    let lines = |part: &Part| -> Vec<Vec<u8>> {
        let (Part::Common(text) | Part::Clash { base: text, .. }) = part;
        text.lines_with_terminator().map(<[u8]>::to_vec).collect()
    };
    let all: Vec<Vec<Vec<u8>>> = parts.iter().map(lines).collect();
    let before: Vec<Vec<u8>> = before.lines_with_terminator().map(<[u8]>::to_vec).collect();
    let aligned = align(&before, &all.concat());
    let (mut at, mut next, mut starts) = (0, 0, Vec::new());
    for (part, lines) in parts.iter().zip(&all) {
        let here = &aligned[at..at + lines.len()];
        if matches!(part, Part::Clash { .. }) {
            let first =
                here.iter().enumerate().find_map(|(offset, line)| line.map(|line| line - offset.min(line)));
            starts.push(first.unwrap_or(next));
        }
        next = here.iter().flatten().next_back().map_or(next, |line| line + 1);
        at += lines.len();
    }
    starts
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
            let alike = places_with(asked, &path, here).count();
            if let Some(answer) = before.iter().find_map(|old| of_place(old, &path, here, alike)) {
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
    // Where one side has to be taken whole now, there are no lines of both.
    let fits = |answer: &&Answer| answer.key != "union" || asked.has_lines(path);
    own.or(of_all).filter(fits).map(|answer| repeat(answer, old))
}

/// The places of a path with these sides, by [`Decision::place_key`].
fn places_with<'a>(
    decision: &'a Decision,
    path: &'a str,
    sides: &'a str,
) -> impl Iterator<Item = String> + 'a {
    let keys = (1..=decision.places_of(path)).map(|place| Decision::place_key(path, place));
    keys.filter(move |key| decision.sides.get(key).is_some_and(|own| own == sides))
}

/// What was said of the place with these sides. Of several that nothing tells apart, `alike` by now: only if there were as
/// many, and all were answered alike.
fn of_place(old: &Decision, path: &str, sides: &str, alike: usize) -> Option<Answer> {
    let mut said = BTreeMap::new();
    if places_with(old, path, sides).count() != alike {
        return None;
    }
    for key in places_with(old, path, sides) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Clash, Id, LineRange, Timestamp};

    fn answer(key: &str) -> Answer {
        serde_json::from_value(serde_json::json!({"key": key, "by": "Ada", "at": 1})).unwrap()
    }

    /// A question about these paths; each that conflicts has one place, or none without lines.
    fn question(id: u64, paths: &[&str], conflicts: &[(&str, bool)]) -> Decision {
        let mut asked = Decision::open(
            Id::from_random(u128::from(id)),
            DecisionKind::Conflict,
            String::new(),
            Timestamp(id),
        );
        asked.paths = paths.iter().map(|path| (*path).to_owned()).collect();
        for &(path, has_lines) in conflicts {
            let lines = LineRange { start: u32::from(has_lines), len: 1 };
            let place = usize::from(has_lines);
            asked.clashes.push(Clash { path: path.to_owned(), place, lines, leaves_out: Vec::new() });
            for place in 0..=place {
                asked.sides.insert(Decision::place_key(path, place), format!("sides of {path} {place}"));
            }
        }
        asked
    }

    /// A lock file that a program was to write is in no question, until it could not: the answer to the rest is none to it.
    #[test]
    fn an_answer_to_everything_is_none_to_what_was_not_asked_about() {
        let conflicts = [("manifest", true), ("lock", true), ("image", false)];
        let mut old = question(1, &["manifest"], &conflicts);
        old.answer = Some(answer("theirs"));
        let mut asked = question(2, &["manifest", "lock", "image"], &conflicts);
        carry(&mut asked, &[old.clone()]);
        assert_eq!(asked.places.keys().collect::<Vec<_>>(), ["manifest:1"]);
        assert!(asked.answers.is_empty(), "{asked:#?}");
        // Nor to what a rule had answered.
        old.paths.extend(["lock", "image"].map(str::to_owned));
        old.answers = ["lock", "image"].map(|path| (path.to_owned(), answer(RULE))).into();
        let mut asked = question(2, &["manifest", "lock", "image"], &conflicts);
        carry(&mut asked, &[old]);
        assert_eq!(asked.places.keys().collect::<Vec<_>>(), ["manifest:1"]);
        assert!(asked.answers.is_empty(), "{asked:#?}");
    }

    #[test]
    fn of_places_that_nothing_tells_apart_none_is_taken_for_another() {
        let with = |id, places: usize| {
            let mut asked = question(id, &["f"], &[]);
            for place in 1..=places {
                let lines = LineRange { start: 1, len: 1 };
                asked.clashes.push(Clash { path: "f".to_owned(), place, lines, leaves_out: Vec::new() });
                asked.sides.insert(Decision::place_key("f", place), "the same".to_owned());
            }
            asked
        };
        for (then, now, keys, kept) in [
            (1, 1, &["ours"][..], 1),
            (1, 2, &["ours"], 0),
            (2, 2, &["ours", "ours"], 2),
            (2, 2, &["ours", "theirs"], 0),
            (2, 1, &["ours", "ours"], 0),
        ] {
            let (mut old, mut asked) = (with(1, then), with(2, now));
            for (at, key) in keys.iter().enumerate() {
                old.places.insert(Decision::place_key("f", at + 1), answer(key));
            }
            carry(&mut asked, &[old]);
            assert_eq!(asked.places.len(), kept, "{then} {now} {keys:?}");
        }
    }
}

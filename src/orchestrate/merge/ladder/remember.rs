//! What was made of a clash before, so that nobody is asked the same thing twice, on any machine.
//!
//! A clash is known by its path, the lines before it and the lines of both sides, whichever side they are on; nothing
//! around it counts. What it became is kept in the decision that said so ([`Decision::remembers`]), so it travels with the
//! state, is undone with it, and says whose answer it was. git's own `rerere` is never touched: a directory `rr-cache`
//! would turn it on for the user's merges.

use crate::git::Repository;
use crate::model::{Decision, DecisionKind, DecisionStatus, Id, ObjectId};
use crate::orchestrate::merge::Error;
use crate::orchestrate::merge::conflict::{ConflictFile, ConflictStep, Part};
use crate::orchestrate::merge::digest::Digest;
use crate::orchestrate::merge::resolve::{REMEMBERED, RULE};
use bstr::ByteSlice;
use std::collections::{BTreeMap, BTreeSet};

/// How many bytes of one decision's answers are remembered.
const LIMIT: usize = 512 << 10;

/// All that is remembered, the newest answer of each clash.
#[derive(Debug)]
pub(super) struct Memory<'a> {
    answers: BTreeMap<&'a str, (&'a str, &'a Decision)>,
}

/// A file, or a place of one, as it was made of the same clashes before.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Recalled {
    /// All of it, or what stands in that place.
    pub(super) text: String,
    /// Who decided.
    pub(super) by: String,
    /// Where.
    pub(super) decision: Id,
}

impl<'a> Memory<'a> {
    /// Of all answered decisions.
    pub(super) fn of(decisions: &'a [Decision]) -> Self {
        let mut answered: Vec<&Decision> = decisions
            .iter()
            .filter(|decision| {
                decision.kind == DecisionKind::Conflict && decision.status == DecisionStatus::Answered
            })
            .collect();
        answered.sort_by_key(|decision| (decision.created, decision.id));
        let answers = answered.into_iter().flat_map(|decision| {
            decision.remembers.iter().map(move |(place, text)| (place.as_str(), (text.as_str(), decision)))
        });
        Self { answers: answers.collect() }
    }

    /// The file with each of its clashes as it was answered before; `None` if one is new.
    pub(super) fn recall(&self, file: &ConflictFile) -> Option<Recalled> {
        let path = &file.conflict.path;
        let parts = file.parts.as_ref()?;
        if let Some((text, decision)) = self.answers.get(whole(path, parts).as_str()) {
            return said(path, text, decision);
        }
        let (mut text, mut last) = (Vec::new(), None);
        for part in parts {
            match part {
                Part::Common(lines) => text.extend_from_slice(lines),
                Part::Clash { ours, base, theirs } => {
                    let (answer, decision) = self.answers.get(place(path, ours, base, theirs).as_str())?;
                    text.extend_from_slice(answer.as_bytes());
                    last = Some(*decision);
                }
            }
        }
        said(path, &String::from_utf8(text).ok()?, last?)
    }

    /// One of its places, counted from 1, as it was answered before.
    pub(super) fn recall_place(&self, file: &ConflictFile, at: usize) -> Option<Recalled> {
        let path = &file.conflict.path;
        let part = &file.parts.as_ref()?[file.place_at(at)?];
        let Part::Clash { ours, base, theirs } = part else { return None };
        let (text, decision) = self.answers.get(place(path, ours, base, theirs).as_str())?;
        said(path, text, decision)
    }
}

fn said(path: &str, text: &str, decision: &Decision) -> Option<Recalled> {
    let by = decision.answer_for(path).or(decision.answers.values().next());
    by.map(|answer| Recalled { text: text.to_owned(), by: answer.by.clone(), decision: decision.id })
}

/// What the answers of `decision` made of each place of its files, from the tree that they led to.
pub(in super::super) fn learn(
    repo: &Repository,
    conflict: &ConflictStep,
    decision: &Decision,
    tree: &ObjectId,
) -> Result<BTreeMap<String, String>, Error> {
    let (mut learned, mut size) = (BTreeMap::new(), 0);
    for file in conflict.undecided() {
        let path = &file.conflict.path;
        let Some(parts) = &file.parts else { continue };
        // What a rule gave it gives again, and what was remembered is.
        let known = |key: &str| key == REMEMBERED || key == RULE;
        if decision.answer_for(path).is_none_or(|answer| known(&answer.key)) {
            continue;
        }
        let Some(entry) = repo.find_in_tree(tree, crate::git::text_path(path))? else { continue };
        let Ok(text) = String::from_utf8(repo.read_blob(&entry.id)?) else { continue };
        let places = match places(path, parts, &text) {
            Some(places) => places,
            // Something beside the clashes was changed for them: only all of it together says how.
            None => vec![(whole(path, parts), text)],
        };
        size += places.iter().map(|(_, text)| text.len()).sum::<usize>();
        if size > LIMIT {
            break;
        }
        learned.extend(places);
    }
    Ok(learned)
}

/// Each clash with what stands in its place in `text`. `None` if that cannot be told for certain.
fn places(path: &str, parts: &[Part], text: &str) -> Option<Vec<(String, String)>> {
    let mut rest = text.as_bytes();
    let (mut found, mut different) = (BTreeMap::<String, String>::new(), BTreeSet::new());
    let mut keep = |clash: &Part, lines: &[u8]| -> Option<()> {
        let Part::Clash { ours, base, theirs } = clash else { return Some(()) };
        let (place, lines) = (place(path, ours, base, theirs), lines.to_str().ok()?.to_owned());
        // The same clash twice, decided differently: each of them is another question.
        if let Some(before) = found.insert(place.clone(), lines.clone())
            && before != lines
        {
            different.insert(place);
        }
        Some(())
    };
    let mut open: Option<&Part> = None;
    for (at, part) in parts.iter().enumerate() {
        match (part, open) {
            (Part::Common(lines), None) => rest = rest.strip_prefix(lines.as_slice())?,
            (Part::Common(lines), Some(clash)) if at + 1 == parts.len() => {
                keep(clash, rest.strip_suffix(lines.as_slice())?)?;
                (rest, open) = (&[], None);
            }
            (Part::Common(lines), Some(clash)) => {
                let starts: Vec<usize> = rest
                    .find_iter(lines)
                    .filter(|&start| start == 0 || rest[start - 1] == b'\n')
                    .take(2)
                    .collect();
                let &[start] = starts.as_slice() else { return None };
                keep(clash, &rest[..start])?;
                (rest, open) = (&rest[start + lines.len()..], None);
            }
            // Two clashes with nothing between them: where one ends nobody can tell.
            (Part::Clash { .. }, Some(_)) => return None,
            (Part::Clash { .. }, None) => open = Some(part),
        }
    }
    if let Some(clash) = open {
        keep(clash, rest)?;
    } else if !rest.is_empty() {
        return None;
    }
    if different.is_empty() { Some(found.into_iter().collect()) } else { None }
}

/// What a clash is known by.
fn place(path: &str, ours: &[u8], base: &[u8], theirs: &[u8]) -> String {
    let (first, second) = if ours <= theirs { (ours, theirs) } else { (theirs, ours) };
    Digest::short(&[b"place", path.as_bytes(), base, first, second])
}

/// What a file with all its clashes and everything around them is known by.
fn whole(path: &str, parts: &[Part]) -> String {
    let mut fields: Vec<&[u8]> = vec![b"file", path.as_bytes()];
    for part in parts {
        match part {
            Part::Common(lines) => fields.extend([b"common".as_slice(), lines]),
            Part::Clash { ours, base, theirs } => {
                let (first, second) = if ours <= theirs { (ours, theirs) } else { (theirs, ours) };
                fields.extend([b"clash".as_slice(), base, first, second]);
            }
        }
    }
    Digest::short(&fields)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn clash(ours: &str, theirs: &str) -> Part {
        Part::Clash { ours: ours.into(), base: b"old\n".to_vec(), theirs: theirs.into() }
    }

    fn common(text: &str) -> Part {
        Part::Common(text.into())
    }

    #[test]
    fn a_clash_is_the_same_from_either_side_and_nowhere_else() {
        let same = place("f", b"a\n", b"", b"b\n");
        assert_eq!(same, place("f", b"b\n", b"", b"a\n"));
        for other in [
            place("g", b"a\n", b"", b"b\n"),
            place("f", b"a\n", b"x\n", b"b\n"),
            place("f", b"a", b"\n", b"b\n"),
        ] {
            assert_ne!(same, other);
        }
    }

    #[test]
    fn what_stands_in_the_place_of_a_clash_is_found_or_nothing_is_said() {
        let parts =
            [common("top\n"), clash("a\n", "b\n"), common("mid\n"), clash("c\n", "d\n"), common("end\n")];
        let found =
            |text: &str| places("f", &parts, text).map(|all| all.into_iter().collect::<BTreeMap<_, _>>());
        let both = found("top\na\nb\nmid\nend\n").unwrap();
        assert_eq!(both[&place("f", b"a\n", b"old\n", b"b\n")], "a\nb\n");
        assert_eq!(both[&place("f", b"c\n", b"old\n", b"d\n")], "");
        assert_eq!(found("new\ntop\na\nmid\nd\nend\n"), None, "more was changed");
        assert_eq!(found("top\nmid\nmid\nd\nend\n"), None, "either could be the middle");
        let twice = [clash("a\n", "b\n"), common("mid\n"), clash("a\n", "b\n")];
        assert_eq!(places("f", &twice, "a\nmid\nb\n"), None, "the same question, answered differently");
        assert_eq!(places("f", &twice, "a\nmid\na\n").unwrap().len(), 1);
    }

    proptest! {
        /// Putting what was found back between what is common gives the text again.
        #[test]
        fn what_is_found_puts_the_text_together_again(
            clashes in prop::collection::vec(("[ab\n]{0,4}", "[ab\n]{0,4}", "[abm\n]{0,5}"), 1..4),
            commons in prop::collection::vec("[abm\n]{1,4}", 5),
        ) {
            let (mut parts, mut text) = (Vec::new(), String::new());
            for ((ours, theirs, taken), lines) in clashes.iter().zip(&commons) {
                let lines = format!("{lines}\n");
                parts.extend([common(&lines), clash(ours, theirs)]);
                text += &lines;
                text += taken;
            }
            parts.push(common("end\n"));
            text += "end\n";
            if let Some(found) = places("f", &parts, &text) {
                let found: BTreeMap<_, _> = found.into_iter().collect();
                let again: String = parts
                    .iter()
                    .map(|part| match part {
                        Part::Common(lines) => lines.to_str().unwrap(),
                        Part::Clash { ours, base, theirs } => &found[&place("f", ours, base, theirs)],
                    })
                    .collect();
                prop_assert_eq!(again, text);
            }
        }
    }
}

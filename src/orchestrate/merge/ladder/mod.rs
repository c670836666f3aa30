//! Conflicts that need nobody: answered before, or of files that a rule knows how to merge.
//!
//! A conflict goes up the rungs path by path: what was made of the same clash before ([`remember`]), lock files that can
//! be put together again ([`lock_file`]), files that the user wants both sides of. What no rung settles is asked. What one
//! settles is written down as an answer like a person's, with the rule or the decision that it comes from.

mod lock_file;
mod remember;

pub(super) use lock_file::Locked;
pub use lock_file::{LockTools, NotLocked, left_behind as lock_files_left_behind, mend as mend_lock_files};
pub(super) use remember::learn;

use super::Error;
use super::conflict::{ConflictFile, ConflictStep, Part, line_merge};
use super::resolve::{REMEMBERED, RULE};
use crate::git::Repository;
use crate::model::{Answer, Decision};
use bstr::ByteSlice;
use globset::{GlobBuilder, GlobSet};

/// Which rungs there are, and what waits for a person: what the user's settings say.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of settings and of a command line")]
pub struct Rules {
    /// Whether a clash that was answered before is answered the same way.
    pub remembered: bool,
    /// Whether lock files are merged by what they list.
    pub lock_files: bool,
    /// The programs that may write other lock files again.
    pub tools: LockTools,
    /// Files of which every clash keeps the lines of both sides.
    pub union: GlobSet,
    /// Whether work that changes what is run by itself lands without a question.
    pub lands_unseen: bool,
    /// Whether what comes before a branch that somebody is needed for lands without waiting for it.
    pub lands_prefixes: bool,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            remembered: true,
            lock_files: true,
            tools: LockTools::default(),
            union: GlobSet::empty(),
            lands_unseen: false,
            lands_prefixes: false,
        }
    }
}

impl Rules {
    /// Nobody is spared a question.
    pub fn ask() -> Self {
        Self { remembered: false, lock_files: false, ..Self::default() }
    }

    /// With the files that `globs` name as those of which both sides are kept.
    pub fn with_union(self, globs: &[String]) -> Result<Self, globset::Error> {
        let mut union = GlobSet::builder();
        for glob in globs {
            union.add(GlobBuilder::new(glob).literal_separator(true).build()?);
        }
        Ok(Self { union: union.build()?, ..self })
    }
}

/// Gives a question the answers that nobody has to give. `earlier` are all decisions that were ever made.
pub(super) fn climb(
    repo: &Repository,
    rules: &Rules,
    conflict: &ConflictStep,
    earlier: &[Decision],
    asked: &mut Decision,
) -> Result<(), Error> {
    let memory = rules.remembered.then(|| remember::Memory::of(earlier));
    let at = asked.created;
    let recall = |recalled: remember::Recalled| Answer {
        key: REMEMBERED.to_owned(),
        text: Some(recalled.text),
        by: recalled.by,
        at,
        signature: None,
        like: Some(recalled.decision),
    };
    for file in conflict.undecided() {
        let path = &file.conflict.path;
        let places = 1..=asked.places_of(path);
        let has_own = |place| asked.places.contains_key(&Decision::place_key(path, place));
        // What somebody said of it goes before what was said of another merge, and before rules.
        let is_begun = places.clone().any(has_own);
        if asked.answers.contains_key(path) {
            continue;
        }
        let remembered = memory.as_ref().filter(|_| !is_begun).and_then(|memory| memory.recall(file));
        let answer = match remembered {
            Some(recalled) => Some(recall(recalled)),
            None if is_begun => None,
            None => by_rule(repo, rules, file)?.map(|(rule, text)| Answer {
                key: RULE.to_owned(),
                text: Some(text),
                by: rule.to_owned(),
                at,
                signature: None,
                like: None,
            }),
        };
        if let Some(answer) = answer {
            asked.answers.insert(path.clone(), answer);
            continue;
        }
        for place in places {
            let known = memory.as_ref().and_then(|memory| memory.recall_place(file, place));
            if let Some(recalled) = known {
                asked.places.entry(Decision::place_key(path, place)).or_insert_with(|| recall(recalled));
            }
        }
    }
    Ok(())
}

/// What a rule makes of a file, with the rule's name.
fn by_rule(
    repo: &Repository,
    rules: &Rules,
    file: &ConflictFile,
) -> Result<Option<(&'static str, String)>, Error> {
    let path = file.conflict.path.as_str();
    if rules.lock_files
        && let Some((rule, merge)) = lock_file::rule(path)
        && let Some(versions) = line_merge(&file.conflict)
    {
        let read = |id| -> Result<Option<String>, Error> { Ok(String::from_utf8(repo.read_blob(id)?).ok()) };
        let base = versions.base.map(read).transpose()?.flatten().unwrap_or_default();
        if let (Some(ours), Some(theirs)) = (read(versions.ours)?, read(versions.theirs)?)
            && let Some(text) = merge(&base, &ours, &theirs)
        {
            return Ok(Some((rule, text)));
        }
    }
    if rules.union.is_match(path) {
        return Ok(union(file).map(|text| ("union of both sides", text)));
    }
    Ok(None)
}

/// The lines of both sides, what has landed first; those that both begin or end with once.
pub(super) fn both(ours: &[u8], theirs: &[u8]) -> Vec<u8> {
    let (first, other): (Vec<&[u8]>, Vec<&[u8]>) =
        (ours.lines_with_terminator().collect(), theirs.lines_with_terminator().collect());
    let start = first.iter().zip(&other).take_while(|(a, b)| a == b).count();
    let rest = first[start..].iter().rev().zip(other[start..].iter().rev());
    let end = rest.take_while(|(a, b)| a == b).count();
    let mut text = first[..first.len() - end].concat();
    let added = &other[start..other.len() - end];
    if !added.is_empty() && !text.is_empty() && !text.ends_with(b"\n") {
        text.push(b'\n');
    }
    text.extend(added.concat());
    text.extend(first[first.len() - end..].concat());
    text
}

/// The lines of both sides wherever they clash.
fn union(file: &ConflictFile) -> Option<String> {
    String::from_utf8(union_of(file.parts.as_ref()?)).ok()
}

/// A file with the lines of both sides wherever they clash.
pub(super) fn union_of(parts: &[Part]) -> Vec<u8> {
    let mut text = Vec::new();
    for part in parts {
        match part {
            Part::Common(lines) => text.extend_from_slice(lines),
            Part::Clash { ours, theirs, .. } => text.extend(both(ours, theirs)),
        }
    }
    text
}

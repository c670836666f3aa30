//! The notes that show findings follow the findings, as far as nobody else has them yet.

use super::super::Error;
use crate::git::{NoteEdit, Repository};
use crate::model::{Finding, Kind, ObjectId};
use crate::store::{EntityChange, FINDINGS_NOTES, Transaction};
use std::collections::BTreeSet;

/// A line of a commit's note.
type Line = (ObjectId, String);

/// Takes out of the notes what findings said before the reversal and do not say after it, and adds what they say now.
/// What a remote has stays: notes are only ever united with those of others.
pub(super) fn follow(
    repo: &Repository,
    transaction: &mut Transaction<'_>,
    changes: &[EntityChange],
) -> Result<(), Error> {
    let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
    for change in changes.iter().filter(|change| change.kind == Kind::Finding) {
        before.extend(lines(transaction.base().get(&change.id)?));
        after.extend(lines(transaction.get(&change.id)?));
    }
    let edit = |(commit, line): &Line| NoteEdit {
        notes_ref: FINDINGS_NOTES.to_owned(),
        commit: commit.clone(),
        line: line.clone(),
    };
    for gone in before.difference(&after) {
        if !is_shared(repo, gone)? {
            transaction.unnote(edit(gone));
        }
    }
    for new in after.difference(&before) {
        transaction.note(edit(new));
    }
    Ok(())
}

/// What of the notes on findings stays because a remote has it, if they go.
pub(super) fn shared(repo: &Repository, findings: &[Finding]) -> Result<Vec<ObjectId>, Error> {
    let mut commits = Vec::new();
    for line in findings.iter().flat_map(|finding| lines(Some(finding.clone()))) {
        if is_shared(repo, &line)? && !commits.contains(&line.0) {
            commits.push(line.0);
        }
    }
    Ok(commits)
}

fn lines(finding: Option<Finding>) -> Vec<Line> {
    let Some(finding) = finding else { return Vec::new() };
    let lines = finding.note_lines().into_iter();
    lines.filter_map(|line| Some((finding.commit.clone()?, line))).collect()
}

/// Whether a remote has a line, as far as was fetched.
fn is_shared(repo: &Repository, (commit, line): &Line) -> Result<bool, Error> {
    for (name, _) in repo.list_refs("refs/orchestra/remotes/")? {
        if name.ends_with("/notes/findings")
            && let Some(note) = repo.find_note(&name, commit)?
            && note.lines().any(|other| other == line)
        {
            return Ok(true);
        }
    }
    Ok(false)
}

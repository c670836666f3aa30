//! Lock files of a step whose other conflicts are answered: written again by their own programs.
//!
//! Such a file is not asked about as long as something else is, and not while a program may write it. It is written for one
//! conflict at a time and never repeated from an earlier one: what it must hold follows from manifests that need not conflict.

use super::Error;
use super::advance::Run;
use super::conflict::{ConflictFile, ConflictStep, line_merge};
use super::gate::fenced;
use super::ladder::{LockTools, Locked, NotLocked};
use super::places::fold;
use super::progress::Remark;
use super::resolve::{ACCEPT, RULE, entry, side};
use crate::git::{EntryMode, Repository};
use crate::model::{Answer, Decision, DecisionStatus, ObjectId, Timestamp};
use crate::store::{Store, Transaction};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What begins the part of a decision's text that is about lock files.
const HEADING: &str = "\n## Lock files\n\n";

impl Run<'_> {
    /// Has the lock files among the conflicts written again, once all others are answered, and notes in the decision
    /// what came of it. `is_new` if nobody has seen the decision yet.
    pub(super) fn lock_again(
        &mut self,
        conflict: &ConflictStep,
        mut decision: Decision,
        is_new: bool,
    ) -> Result<Decision, Error> {
        let said = decision.answer.as_ref().map(|answer| answer.key.clone());
        if !self.rules.lock_files || matches!(said.as_deref(), Some("skip" | "abort" | ACCEPT)) {
            return Ok(decision);
        }
        // A file with answers for some of its places alone is open.
        let folded = fold(&decision, conflict).unwrap_or_else(|| decision.clone());
        let tools = &self.rules.tools;
        let files: Vec<&ConflictFile> = conflict
            .undecided()
            .filter(|file| {
                let path = &file.conflict.path;
                // Of an earlier look at the same conflict: the manifests may be others now.
                let again = |answer: &Answer| {
                    let by_program = answer.key == RULE && LockTools::wrote(path, &answer.by);
                    answer.key == "agent" && tools.allows(path) || by_program && !is_new
                };
                LockTools::knows(path)
                    && line_merge(&file.conflict).is_some()
                    && folded.answers.get(path).is_none_or(again)
            })
            .collect();
        let is_lock = |path: &str| files.iter().any(|file| file.conflict.path == path);
        let is_open = |file: &&ConflictFile| {
            let path = &file.conflict.path;
            let of_all = decision.answer.as_ref().filter(|answer| answer.key != "agent");
            !is_lock(path) && folded.answers.get(path).or(of_all).is_none()
        };
        if files.is_empty() {
            return Ok(decision);
        }
        if conflict.undecided().any(|file| is_open(&file)) {
            if is_new {
                let later = |path: &String| is_lock(path) && tools.allows(path);
                decision.paths.retain(|path| !later(path));
                let mut missing = Vec::new();
                for file in files.iter().filter(|file| !tools.allows(&file.conflict.path)) {
                    match tools.lock(self.store.repo(), conflict, file, &BTreeMap::new())? {
                        Locked::Not(not) => missing.push(not),
                        Locked::Done { .. } | Locked::Unwanted => {}
                    }
                }
                self.note(&mut decision, &missing);
            }
            return Ok(decision);
        }
        let (mut written, mut missing) = (BTreeMap::new(), Vec::new());
        let mut instead = answered(self.store.repo(), conflict, &folded, &is_lock)?;
        for file in &files {
            let path = &file.conflict.path;
            if tools.allows(path) {
                (self.say)(Remark::Locking(path.clone()));
            }
            match tools.lock(self.store.repo(), conflict, file, &instead)? {
                Locked::Unwanted => return Err(Error::Interrupted(self.merge.id)),
                Locked::Done { text, by } => {
                    let at = self.store.clock().now();
                    let answer = by_rule(text, by, at);
                    // One program may read what another one wrote: `Cargo.lock` of a package beside `uv.lock`.
                    instead.insert(
                        path.clone(),
                        entry(self.store.repo(), file, crate::model::Side::Rule, &answer)?,
                    );
                    written.insert(path.clone(), answer);
                }
                Locked::Not(not) => {
                    // What a person said of everything holds for this file too.
                    let said = decision.answer_for(path).filter(|answer| answer.key != RULE);
                    if tools.allows(path) || said.is_none() {
                        missing.push(not);
                    }
                }
            }
        }
        if is_new {
            settle(&mut decision, conflict, &written);
        } else {
            decision = record(self.store, &decision, &written)?;
        }
        decision.answers.retain(|path, answer| {
            let is_missing = missing.iter().any(|not| not.path == *path);
            !(is_missing && answer.key == RULE && LockTools::wrote(path, &answer.by))
        });
        let open: Vec<String> = files
            .iter()
            .map(|file| file.conflict.path.clone())
            .filter(|path| {
                decision
                    .answer_for(path)
                    .is_none_or(|answer| answer.key == "agent" && !decision.answers.contains_key(path))
            })
            .collect();
        if decision.status != DecisionStatus::Withdrawn && !open.is_empty() {
            decision.status = DecisionStatus::Open;
            let new = open.into_iter().filter(|path| !decision.paths.contains(path));
            decision.paths.extend(new.collect::<Vec<_>>());
        }
        self.note(&mut decision, &missing);
        Ok(decision)
    }

    /// Says why lock files were not written, in the decision and to whoever looks.
    fn note(&mut self, decision: &mut Decision, missing: &[NotLocked]) {
        if let Some(at) = decision.detail.find(HEADING) {
            decision.detail.truncate(at);
        }
        if missing.is_empty() {
            return;
        }
        decision.detail.push_str(HEADING);
        for not in missing {
            let NotLocked { path, tool, why, output, allow } = not;
            let mut text = format!("`{path}` could be written again by {tool}, which did not: {why}.\n");
            if !output.is_empty() {
                let _ = write!(text, "\n{}\n", fenced(output));
            }
            if let Some(allow) = allow {
                let _ = write!(text, "\n`{allow}` lets it; then `git orchestra merge --continue`.\n");
            }
            decision.detail.push_str(&text);
            (self.say)(Remark::NotLocked(not.clone()));
        }
    }
}

/// What the answers make of the conflicts that are not `left_out`, by path.
fn answered(
    repo: &Repository,
    conflict: &ConflictStep,
    decision: &Decision,
    left_out: &dyn Fn(&str) -> bool,
) -> Result<BTreeMap<String, Option<(EntryMode, ObjectId)>>, Error> {
    let mut made = BTreeMap::new();
    for file in &conflict.files {
        let path = &file.conflict.path;
        let answer = decision.answer_for(path).and_then(|answer| Some((side(answer)?, answer)));
        let entry = match answer {
            _ if left_out(path) || file.is_gone() => None,
            Some((side, answer)) => entry(repo, file, side, answer)?,
            None => None,
        };
        made.insert(path.clone(), entry);
    }
    Ok(made)
}

fn settle(decision: &mut Decision, conflict: &ConflictStep, written: &BTreeMap<String, Answer>) {
    for (path, answer) in written {
        if !decision.paths.contains(path) {
            decision.paths.push(path.clone());
        }
        decision.answers.insert(path.clone(), answer.clone());
    }
    let in_order = conflict.undecided().map(|file| &file.conflict.path);
    decision.paths = in_order.filter(|path| decision.paths.contains(path)).cloned().collect();
    if decision.open_places().is_empty() {
        decision.status = DecisionStatus::Answered;
    }
}

/// Records what was written for a decision that somebody may have answered meanwhile: what a person said of a file holds.
fn record(store: &Store, decision: &Decision, written: &BTreeMap<String, Answer>) -> Result<Decision, Error> {
    let id = decision.id;
    if written.is_empty() {
        return Ok(store.state()?.require(&id)?);
    }
    let change = |tx: &mut Transaction<'_>| -> Result<Decision, Error> {
        let mut stored: Decision = tx.require(&id)?;
        for (path, answer) in written {
            let known = stored.answers.get(path);
            if known.is_none_or(|known| known.key == "agent" || known.key == RULE) {
                stored.answers.insert(path.clone(), answer.clone());
                if !stored.paths.contains(path) {
                    stored.paths.push(path.clone());
                }
            }
        }
        if stored.status == DecisionStatus::Open && stored.open_places().is_empty() {
            stored.status = DecisionStatus::Answered;
        }
        let names: Vec<&str> = written.values().map(|answer| answer.by.as_str()).collect();
        tx.describe(format!("decision {}: {}", &id.as_str()[..6], names.join(", ")));
        tx.put(&stored)?;
        Ok(stored)
    };
    Ok(store.transact(change)?.value)
}

fn by_rule(text: String, by: String, at: Timestamp) -> Answer {
    Answer { key: RULE.to_owned(), text: Some(text), by, at, signature: None, like: None }
}

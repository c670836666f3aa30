//! Reverting what an operation wrote: worked out on one state, written by a transaction. Pure until then.
//!
//! Each field goes back to what it was before the operation if it still is what the operation made of it; a field that
//! somebody wrote since is a conflict, and nobody's later work is overwritten. What the operation made is deleted, and
//! its record stays. Whatever is written gets new stamps, so it merges as any other change.

use super::absorb::fields;
use super::archive::ARCHIVED;
use super::history::EntityChange;
use super::record::DELETED;
use super::{Deleted, Error, Record, State, Transaction};
use crate::model::{Agent, Decision, Finding, Id, Kind, Merge, Pipeline, Task};
use serde_json::Value;
use std::collections::BTreeSet;

/// What reverting an operation comes to, on the state that it was worked out on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reversal {
    /// Fields that get a value, or lose theirs.
    pub writes: Vec<Reverted>,
    /// Entities that are deleted: the operation made them.
    pub deleted: Vec<(Kind, Id)>,
    /// What stays as it is because somebody wrote it since.
    pub conflicts: Vec<Overtaken>,
}

/// A field that goes back to what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverted {
    /// The kind of the entity.
    pub kind: Kind,
    /// The entity.
    pub id: Id,
    /// The field, as [`EntityChange::fields`] names it.
    pub key: String,
    /// Its value; absent is nothing.
    pub value: Option<Value>,
}

/// Something that is not any more what the operation made of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Overtaken {
    /// The kind of the entity.
    pub kind: Kind,
    /// The entity.
    pub id: Id,
    /// What of it, completing "because …": `its title was changed since`.
    pub why: String,
}

/// What happened, whatever is undone: what a run was and with which conversation it went, and how often a task was
/// claimed. (A claim's count that went back would lose against every machine that knows the claim.)
fn is_history(kind: Kind, key: &str) -> bool {
    match kind {
        Kind::Agent => key.starts_with("runs:") || key == "session",
        Kind::Task => key == "fence",
        _ => false,
    }
}

impl Reversal {
    /// Works out how to revert `changes` on `state`.
    pub fn plan(state: &State, changes: &[EntityChange]) -> Result<Self, Error> {
        let mut reversal = Self::default();
        for change in changes {
            let Some(record) = state.record(change.kind, &change.id)? else { continue };
            reversal.plan_entity(change, &record);
        }
        // Whoever else speaks of what would be deleted would speak of nothing then.
        loop {
            let gone: BTreeSet<(Kind, Id)> = reversal.deleted.iter().copied().collect();
            if gone.is_empty() {
                break;
            }
            let held = reversal.still_named(state, &gone)?;
            if held.is_empty() {
                break;
            }
            for one in held {
                reversal.deleted.retain(|key| *key != (one.kind, one.id));
                if !reversal.conflicts.iter().any(|other| other.id == one.id) {
                    reversal.conflicts.push(one);
                }
            }
        }
        Ok(reversal)
    }

    /// Whether there is nothing to write.
    pub const fn is_empty(&self) -> bool {
        self.writes.is_empty() && self.deleted.is_empty()
    }

    /// Whether the operation wrote nothing that could go back.
    pub const fn is_nothing(&self) -> bool {
        self.is_empty() && self.conflicts.is_empty()
    }

    fn plan_entity(&mut self, change: &EntityChange, record: &Record) {
        let (kind, id) = (change.kind, change.id);
        let now = record.values(fields(kind));
        let mut overtaken = Vec::new();
        let mut writes = Vec::new();
        for (key, field) in &change.fields {
            if now.get(key) != field.after.as_ref() {
                overtaken.push(key.clone());
            } else if !is_history(kind, key) {
                writes.push(Reverted { kind, id, key: key.clone(), value: field.before.clone() });
            }
        }
        if change.created {
            if record.is_deleted() {
                return;
            }
            overtaken.extend(now.into_keys().filter(|key| !change.fields.contains_key(key)));
        }
        // Nobody's conflict.
        overtaken.retain(|key| !is_history(kind, key));
        let mut names: Vec<String> = overtaken.into_iter().map(|key| words(&key)).collect();
        names.dedup();
        if change.created {
            if names.is_empty() {
                self.deleted.push((kind, id));
                return;
            }
        } else {
            self.writes.extend(writes);
        }
        if !names.is_empty() {
            let verb = if names.len() == 1 { "was" } else { "were" };
            let why = format!("its {} {verb} changed since", names.join(" and "));
            self.conflicts.push(Overtaken { kind, id, why });
        }
    }

    /// What of `gone` something needs that stays, and what that is.
    fn still_named(&self, state: &State, gone: &BTreeSet<(Kind, Id)>) -> Result<Vec<Overtaken>, Error> {
        let mut held = Vec::new();
        let mut add = |kind: Kind, id: Option<Id>, key: String, by: (Kind, Id)| {
            let Some(id) = id.filter(|id| gone.contains(&(kind, *id)) && !gone.contains(&by)) else { return };
            // A field that goes back at the same time names it no more.
            let goes = |write: &Reverted| (write.kind, write.id) == by && write.key == key;
            if !self.writes.iter().any(goes) {
                let why = format!("{} {} needs it", by.0, &by.1.as_str()[..6]);
                held.push(Overtaken { kind, id, why });
            }
        };
        for task in state.everything::<Task>()? {
            for after in &task.after {
                add(Kind::Task, Some(*after), format!("after:{after}"), (Kind::Task, task.id));
            }
            add(Kind::Agent, task.assignee, "assignee".to_owned(), (Kind::Task, task.id));
        }
        for agent in state.all::<Agent>()? {
            add(Kind::Task, agent.task, "task".to_owned(), (Kind::Agent, agent.id));
        }
        for finding in state.all::<Finding>()? {
            add(Kind::Agent, finding.agent, "agent".to_owned(), (Kind::Finding, finding.id));
            add(Kind::Task, finding.task, "task".to_owned(), (Kind::Finding, finding.id));
        }
        for decision in state.all::<Decision>()? {
            add(Kind::Agent, decision.agent, "agent".to_owned(), (Kind::Decision, decision.id));
            add(Kind::Merge, decision.merge, "merge".to_owned(), (Kind::Decision, decision.id));
        }
        for merge in state.all::<Merge>()? {
            for step in &merge.steps {
                add(Kind::Agent, Some(step.agent), "steps".to_owned(), (Kind::Merge, merge.id));
                add(Kind::Task, step.task, "steps".to_owned(), (Kind::Merge, merge.id));
            }
        }
        for pipeline in state.all::<Pipeline>()? {
            for task in &pipeline.tasks {
                add(Kind::Task, Some(*task), "tasks".to_owned(), (Kind::Pipeline, pipeline.id));
            }
            add(Kind::Merge, pipeline.merge, "merge".to_owned(), (Kind::Pipeline, pipeline.id));
        }
        Ok(held)
    }
}

impl Transaction<'_> {
    /// Writes a reversal that was worked out on [`Transaction::base`].
    pub fn revert(&mut self, reversal: &Reversal, by: &str, operation: &str) -> Result<(), Error> {
        for Reverted { kind, id, key, value } in &reversal.writes {
            self.write(*kind, *id, key, value.clone())?;
        }
        let deleted = Deleted { by: by.to_owned(), at: self.now(), operation: Some(operation.to_owned()) };
        let deleted = serde_json::to_value(deleted).expect("plain data serialises");
        for (kind, id) in &reversal.deleted {
            self.write(*kind, *id, DELETED, Some(deleted.clone()))?;
        }
        Ok(())
    }
}

/// A key of a record as people say it: `labels:ui` is the label `ui`, `_d` whether it is there.
fn words(key: &str) -> String {
    match key.split_once(':') {
        _ if key == DELETED => "being deleted".to_owned(),
        _ if key == ARCHIVED => "being archived".to_owned(),
        Some((name, _)) => name.to_owned(),
        None => key.to_owned(),
    }
}

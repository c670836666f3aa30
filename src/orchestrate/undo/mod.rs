//! Undoing an operation: its fields, its refs and its worktrees, all of it or nothing, as an operation of its own.
//!
//! [`Plan::new`] says what would happen and what does not come back; [`undo`] does it. Records and refs go back in one
//! transaction. What cannot be in it (worktrees, the files of a checkout) is written down before, so that whoever comes
//! next after a kill finishes it, or takes it back if the transaction was not made.

mod journal;
mod notes;
mod plan;
#[cfg(test)]
mod tests;

pub(super) use journal::recover;
pub use plan::{Plan, Step};

use super::remove::keep;
use super::{Error, next_rescue_ref};
use crate::git::{Expected, RefEdit, Repository};
use crate::model::{Agent, Name, ObjectId};
use crate::store::{Logged, Operation, RESCUE_REFS, RefMove, Reversal, Store};
use journal::{Journal, MovedCheckout, Restored};
use plan::named;
use std::path::Path;

/// How many operations are looked at first for one that could be undone.
const FIRST: usize = 32;

/// What undoing did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undone {
    /// The operation that did it, by which it can be undone.
    pub operation: String,
    /// Where work was kept that would have been lost: the agent, the ref, the commit.
    pub kept: Vec<(Name, String, ObjectId)>,
}

/// The operation that `undo` means when none is named: the newest of this machine that still holds, that is no undo
/// itself, and that did something.
pub fn find_last(store: &Store) -> Result<Option<Logged>, Error> {
    let (machine, state) = (store.machine()?, store.state()?);
    let is_candidate = |logged: &Logged| {
        logged.machine.as_ref() == Some(&machine)
            && !logged.undone
            && logged.undoes.is_none()
            && logged.named
            && logged.command != "recover"
    };
    let mut count = FIRST;
    loop {
        let log = state.operations(count)?;
        for logged in log.iter().filter(|logged| is_candidate(logged)) {
            let moved = |moved: &RefMove| !moved.name.starts_with(RESCUE_REFS);
            if logged.refs.iter().any(moved) || !Reversal::plan(&state, &state.changes(logged)?)?.is_nothing()
            {
                return Ok(Some(logged.clone()));
            }
        }
        if log.len() < count {
            return Ok(None);
        }
        count *= 8;
    }
}

/// Does what `plan` says. Worktrees that come back are made under `root`. With `partial`, what others wrote since is
/// left as it is.
///
/// # Errors
/// If others wrote something since (without `partial`), or if anything is not as the plan found it. Nothing was
/// undone then.
pub fn undo(store: &Store, plan: &Plan, root: &Path, partial: bool) -> Result<Undone, Error> {
    let operation = &plan.operation;
    if let Some(refusal) = plan.refusal(partial) {
        return Err(refusal);
    }
    let again = store.state()?.operation(&operation.id)?;
    if Plan::new(store, &again)? != *plan {
        return Err(changed(operation));
    }
    let repo = store.repo();
    let words = format!("undo {}", operation.id.get(..6).unwrap_or(&operation.id));
    let store = store.with_operation(Operation::undoing(words, &operation.id)?);
    let mut work = Work::of(&store, plan, root)?;
    let journal = Journal::write(repo, &work.journal)?;
    if let Err(error) = work.move_checkouts(repo).and_then(|()| work.write(&store, plan)) {
        // A disk that is full after the records are written: then the rest is done too. What does not work now is for
        // the next command, which finds the journal.
        if journal::settle(&store, &work.journal).is_ok() {
            journal.forget()?;
        }
        return Err(error);
    }
    journal::finish(repo, &work.journal)?;
    journal.forget()?;
    Ok(Undone { operation: work.journal.operation, kept: work.kept })
}

fn changed(operation: &Logged) -> Error {
    let hint = "look at it again: `git orchestra undo --dry-run`".to_owned();
    Error::refused(format!("undo {}: something changed meanwhile", named(operation)), hint)
}

/// Everything that is to be done, with the objects that it needs.
struct Work {
    journal: journal::Content,
    refs: Vec<RefEdit>,
    moved: Vec<RefMove>,
    kept: Vec<(Name, String, ObjectId)>,
    objects: Vec<ObjectId>,
}

impl Work {
    fn of(store: &Store, plan: &Plan, root: &Path) -> Result<Self, Error> {
        let operation = store.operation().expect("undoing is an operation").id().to_string();
        let journal = journal::Content { operation, root: root.to_owned(), ..journal::Content::default() };
        let (refs, moved, kept, objects) = Default::default();
        let mut work = Self { journal, refs, moved, kept, objects };
        for step in &plan.steps {
            work.add(store, step)?;
        }
        Ok(work)
    }

    fn add(&mut self, store: &Store, step: &Step) -> Result<(), Error> {
        let repo = store.repo();
        match step {
            Step::Remove { agent, leaving, .. } => {
                let commit = keep(store, agent, &leaving.0)?;
                self.keep(repo, agent, commit)?;
                self.refs.extend(leaving.0.branch_deletion(repo, agent)?);
                if leaving.0.worktree.is_some() {
                    self.journal.remove.push(agent.name.clone());
                }
            }
            Step::Restore { agent, tip, rescue } => {
                let new = Some(tip.clone());
                self.refs.push(RefEdit { name: agent.branch.clone(), new, expected: Expected::Absent });
                self.objects.push(tip.clone());
                let files = rescue.as_ref().map(|(_, commit)| commit.clone());
                let (name, branch) = (agent.name.clone(), agent.branch.clone());
                self.journal.restore.push(Restored { name, branch, files });
            }
            Step::Move { branch, from, to, checkout, agent } => {
                if let Some(agent) = agent {
                    self.keep(repo, agent, Some(from.clone()))?;
                }
                match checkout {
                    Some(checkout) => {
                        let path = checkout.path.clone();
                        let (from, to) = (from.clone(), to.clone());
                        self.moved.push(RefMove {
                            name: branch.clone(),
                            old: Some(from.clone()),
                            new: Some(to.clone()),
                        });
                        self.journal.checkouts.push(MovedCheckout { path, branch: branch.clone(), from, to });
                    }
                    None => self.refs.push(RefEdit {
                        name: branch.clone(),
                        new: Some(to.clone()),
                        expected: Expected::At(from.clone()),
                    }),
                }
            }
            Step::Keep(moved) => self.refs.push(RefEdit {
                name: moved.name.clone(),
                new: moved.old.clone(),
                expected: moved.new.clone().into(),
            }),
        }
        Ok(())
    }

    /// Puts a commit under the next rescue ref of an agent, together with everything else.
    fn keep(&mut self, repo: &Repository, agent: &Agent, commit: Option<ObjectId>) -> Result<(), Error> {
        let Some(commit) = commit else { return Ok(()) };
        let name = next_rescue_ref(repo, &agent.name)?;
        let new = Some(commit.clone());
        self.refs.push(RefEdit { name: name.clone(), new, expected: Expected::Absent });
        self.objects.push(commit.clone());
        self.kept.push((agent.name.clone(), name, commit));
        Ok(())
    }

    /// Moves the branches that somebody has checked out, with their files.
    fn move_checkouts(&mut self, repo: &Repository) -> Result<(), Error> {
        for moved in &self.journal.checkouts {
            journal::move_checkout(repo, moved, &moved.from, &moved.to)?;
        }
        Ok(())
    }

    /// Writes records and refs: the moment from which the operation is undone.
    fn write(&mut self, store: &Store, plan: &Plan) -> Result<(), Error> {
        let by = store.author().to_string();
        store.transact(|transaction| {
            let now = Reversal::plan(transaction.base(), &plan.changes)?;
            if now != plan.reversal {
                return Err(changed(&plan.operation));
            }
            transaction.revert(&now, &by, &self.journal.operation)?;
            notes::follow(store.repo(), transaction, &plan.changes)?;
            transaction.depend_on(self.objects.iter().cloned());
            for edit in &self.refs {
                transaction.move_ref(edit.clone());
            }
            for moved in &self.moved {
                transaction.record_move(moved.clone());
            }
            transaction.describe(format!("undo {}", named(&plan.operation)));
            Ok::<_, Error>(())
        })?;
        Ok(())
    }
}

//! Moving the target: once, and with the files of whoever has it checked out, or not at all.

use super::{Error, keep_ref, new_objects, prefix, receipt, short_branch};
use crate::git::{self, Checkout, Expected, NoteEdit, RefEdit};
use crate::model::{
    Agent, Decision, DecisionStatus, Merge, MergeStatus, ObjectId, Step, StepStatus, Task, TaskStatus,
};
use crate::orchestrate::{radar, trust};
use crate::store::{PROVENANCE_NOTES, RefMove, Store, Transaction};
use std::path::PathBuf;

/// Why the target was left where it is, with everything ready to land.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Blocked {
    /// The checkout that has the target checked out.
    pub checkout: PathBuf,
    /// Paths in it that are not committed; none if git refused for another reason.
    pub dirty: Vec<String>,
    /// git's words, if it refused.
    pub words: String,
    /// What to run there; `merge --continue` does the same once the checkout is clean.
    pub command: String,
}

/// What came of trying to land.
#[derive(Debug)]
pub(super) enum Landing {
    /// The target is there, and the state says so.
    Landed(Merge),
    /// The target is elsewhere than the merge was made for.
    Moved,
    /// Somebody's checkout is in the way.
    Blocked(Blocked),
}

/// Lands a merge in which no step is pending; `rest` is recorded with it, as what is left of what it was.
pub(super) fn land(store: &Store, merge: &Merge, rest: Option<&Merge>) -> Result<Landing, Error> {
    let repo = store.repo();
    if !merge.target.starts_with("refs/heads/") {
        return Err(Error::NoTarget(merge.target.clone()));
    }
    let now = repo.find_ref(&merge.target)?;
    let now = now.ok_or_else(|| Error::NoTarget(short_branch(&merge.target).to_owned()))?;
    // Also when a process died between the move and its record, or a person ran the command we named.
    if now == merge.head || repo.merge_base(&now, &merge.head)?.as_ref() == Some(&merge.head) {
        return Ok(Landing::Landed(record(store, merge, rest, None)?));
    }
    if now != merge.target_tip {
        return Ok(Landing::Moved);
    }
    let holders: Vec<Checkout> = repo
        .checkouts()?
        .into_iter()
        .filter(|checkout| {
            checkout.branch.as_ref() == Some(&merge.target) && !checkout.bare && !checkout.prunable
        })
        .collect();
    if holders.is_empty() {
        let edit = RefEdit {
            name: merge.target.clone(),
            new: Some(merge.head.clone()),
            expected: Expected::At(merge.target_tip.clone()),
        };
        return match record(store, merge, rest, Some(&edit)) {
            Ok(landed) => Ok(Landing::Landed(landed)),
            Err(Error::Store(crate::store::Error::Git(git::Error::RefMoved { name })))
                if name == merge.target =>
            {
                Ok(Landing::Moved)
            }
            Err(error) => Err(error),
        };
    }
    if let [first, second, ..] = &holders[..] {
        // git moves the files of one; the other would show all of this as undone, ready to be committed.
        let words = format!("it is checked out in {} too; leave it there", second.path.display());
        let mut blocked = blocked(first, merge, Vec::new(), words);
        blocked.command = format!("git -C {} checkout --detach && {}", quoted(second), blocked.command);
        return Ok(Landing::Blocked(blocked));
    }
    // Gates may have taken long, and agents may have been running beside them.
    trust::require_unchanged(repo)?;
    for checkout in &holders {
        let dirty = repo.uncommitted_paths(checkout, &merge.head)?;
        if !dirty.is_empty() {
            return Ok(Landing::Blocked(blocked(checkout, merge, dirty, String::new())));
        }
    }
    // Objects first: git syncs neither what merge-tree nor what gix wrote.
    repo.sync_objects(&new_objects(repo, &merge.head, &known(merge))?)?;
    if let Err(words) = repo.fast_forward(&holders[0], short_branch(&merge.target), &merge.head)? {
        let now = repo.find_ref(&merge.target)?;
        return Ok(match now {
            Some(now) if now != merge.target_tip && now != merge.head => Landing::Moved,
            _ => Landing::Blocked(blocked(&holders[0], merge, Vec::new(), words)),
        });
    }
    Ok(Landing::Landed(record(store, merge, rest, None)?))
}

fn blocked(checkout: &Checkout, merge: &Merge, dirty: Vec<String>, words: String) -> Blocked {
    Blocked {
        checkout: checkout.path.clone(),
        dirty,
        words,
        command: format!("git -C {} merge --ff-only {}", quoted(checkout), merge.head.short()),
    }
}

/// The checkout's directory as a word of a command line.
fn quoted(checkout: &Checkout) -> String {
    let path = checkout.path.display().to_string();
    let plain = path.bytes().all(|b| b.is_ascii_alphanumeric() || b"/._-+".contains(&b));
    if plain { path } else { format!("'{}'", path.replace('\'', r"'\''")) }
}

/// The commits whose objects are in the repository for good already.
pub(super) fn known(merge: &Merge) -> Vec<&ObjectId> {
    std::iter::once(&merge.target_tip).chain(merge.steps.iter().map(|step| &step.tip)).collect()
}

/// Writes down that the merge has landed: itself, its agents, their tasks, provenance, and what nobody needs to
/// decide any more. `target` moves in the same instant, if it has not moved before.
fn record(
    store: &Store,
    merge: &Merge,
    rest: Option<&Merge>,
    target: Option<&RefEdit>,
) -> Result<Merge, Error> {
    let objects = new_objects(store.repo(), &merge.head, &known(merge))?;
    // What lands has landed, or will: a receipt that cannot be made now is worked out when somebody asks for it.
    let receipt =
        store.state().map_err(Error::from).and_then(|state| receipt(store, &state, merge)).map(Box::new);
    let receipt =
        receipt.inspect_err(|error| tracing::warn!("no receipt of merge {}: {error}", merge.id)).ok();
    let change = |tx: &mut Transaction<'_>| -> Result<Merge, Error> {
        let stored: Merge = tx.require(&merge.id)?;
        if !stored.status.is_open() {
            return if stored.status == MergeStatus::Landed {
                Ok(stored)
            } else {
                Err(Error::MovedOn(merge.id))
            };
        }
        let landed = Merge {
            status: MergeStatus::Landed,
            landed: Some(merge.head.clone()),
            receipt: receipt.clone(),
            ..merge.clone()
        };
        for step in landed.steps.iter().filter(|step| step.status.is_merged()) {
            settle(tx, &landed, step)?;
            settle_team(tx, store.repo(), &landed, step)?;
        }
        if let Some(rest) = rest {
            prefix::begin(tx, &landed, rest)?;
        }
        withdraw_decisions(tx, &landed)?;
        let merged = landed.steps.iter().filter(|step| step.status.is_merged()).map(|step| step.agent);
        radar::settle(tx, &merged.collect(), &format!("merge {}", &landed.id.as_str()[..6]))?;
        tx.depend_on(objects.iter().cloned());
        tx.move_ref(RefEdit { name: keep_ref(&landed.id), new: None, expected: Expected::Anything });
        match target {
            Some(edit) => tx.move_ref(edit.clone()),
            // git moved it, with the files of its checkout.
            None => tx.record_move(RefMove {
                name: landed.target.clone(),
                old: Some(landed.target_tip.clone()),
                new: Some(landed.head.clone()),
            }),
        }
        let names: Vec<_> =
            landed.steps.iter().filter(|s| s.status.is_merged()).map(|step| step.name.as_str()).collect();
        tx.describe(format!(
            "merge {}: land {} on {} as {}",
            &landed.id.as_str()[..6],
            names.join(", "),
            short_branch(&landed.target),
            merge.head.short()
        ));
        tx.put(&landed)?;
        Ok(landed)
    };
    Ok(store.transact(change)?.value)
}

fn settle(tx: &mut Transaction<'_>, merge: &Merge, step: &Step) -> Result<(), Error> {
    let ran = tx.get::<Agent>(&step.agent)?.map(|agent| agent.machine);
    if let Some(mut agent) = tx.get::<Agent>(&step.agent)? {
        if step.tip == agent.base && agent.step.is_none() {
            // It did nothing, and so did its merge.
            return Ok(());
        }
        agent.merged = Some(merge.head.clone());
        tx.put(&agent)?;
    }
    if let Some(mut task) = step.task.map(|id| tx.get::<Task>(&id)).transpose()?.flatten()
        && task.status != TaskStatus::Closed
        && !is_ousted(&task, step, ran.as_deref())
    {
        task.status = TaskStatus::Closed;
        task.result = Some(format!("merged as {}", merge.head.short()));
        task.changed = tx.now();
        tx.put(&task)?;
    }
    if let (Some(commit), StepStatus::Clean | StepStatus::Resolved) = (&step.commit, step.status) {
        let mut line = serde_json::json!({"merge": merge.id, "agent": step.agent, "name": step.name});
        if let Some(task) = &step.task {
            line["task"] = serde_json::json!(task);
        }
        if step.status == StepStatus::Resolved {
            line["resolved"] = serde_json::json!(step.resolutions.len());
        }
        let line = line.to_string();
        tx.note(NoteEdit { notes_ref: PROVENANCE_NOTES.to_owned(), commit: commit.clone(), line });
    }
    Ok(())
}

/// Whether another machine than the agent's took the task over: what was done here is not its result.
fn is_ousted(task: &Task, step: &Step, ran: Option<&str>) -> bool {
    let ran = ran.filter(|ran| !ran.is_empty());
    task.assignee != Some(step.agent)
        && task.holder.as_deref().zip(ran).is_some_and(|(holder, ran)| holder != ran)
}

/// The last of a team brings what those before it did: that has landed too.
fn settle_team(
    tx: &mut Transaction<'_>,
    repo: &git::Repository,
    merge: &Merge,
    step: &Step,
) -> Result<(), Error> {
    let Some(last) = tx.get::<Agent>(&step.agent)?.filter(|agent| agent.step.is_some()) else {
        return Ok(());
    };
    for mut agent in tx.all::<Agent>()? {
        let of_team = agent.step.is_some() && agent.task == last.task && agent.id != last.id;
        if !of_team || agent.removed.is_some() || agent.merged.is_some() {
            continue;
        }
        if let Some(tip) = repo.find_ref(&agent.branch)?
            && tip != agent.base
            && repo.is_ancestor(&tip, &step.tip)?
        {
            agent.merged = Some(merge.head.clone());
            tx.put(&agent)?;
        }
    }
    Ok(())
}

/// Withdraws the open decisions of a merge that is over.
pub(super) fn withdraw_decisions(tx: &mut Transaction<'_>, merge: &Merge) -> Result<(), Error> {
    for mut decision in tx.all::<Decision>()? {
        if decision.merge == Some(merge.id) && decision.status == DecisionStatus::Open {
            decision.status = DecisionStatus::Withdrawn;
            tx.put(&decision)?;
        }
    }
    Ok(())
}

//! Archiving: closed tasks that nobody touched for long and nothing needs go out of the way of listings.
//!
//! Only when it is asked for, never in the background. Nothing is lost by it: whatever names a task still finds it, and
//! any change brings it back.

use super::Error;
use crate::model::{
    Agent, Decision, DecisionStatus, Finding, FindingStatus, Id, Kind, Merge, MergeStatus, Task, TaskStatus,
    Timestamp,
};
use crate::store::{CLAIM_REFS, State, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How many go in one transaction: others wait for no longer than that takes.
const AT_ONCE: usize = 500;

/// The tasks that can be archived, by id. Changes nothing.
pub fn plan(store: &Store, age: Duration) -> Result<Vec<Task>, Error> {
    let state = store.state()?;
    candidates(&state, &claimed(store)?, store.clock().now().before(age))
}

/// Archives `tasks`, as far as they still can be; `told` hears how many of them are done with. Returns those that were
/// archived.
pub fn archive(
    store: &Store,
    tasks: &[Task],
    age: Duration,
    mut told: impl FnMut(usize),
) -> Result<Vec<Id>, Error> {
    let since = store.clock().now().before(age);
    let claimed = claimed(store)?;
    let mut archived = Vec::new();
    for (number, batch) in tasks.chunks(AT_ONCE).enumerate() {
        told(number * AT_ONCE);
        let wanted: BTreeSet<Id> = batch.iter().map(|task| task.id).collect();
        let done = store.transact::<_, Error>(|tx| {
            // Others may have written since this was planned.
            let mut still: Vec<Id> =
                candidates(tx.base(), &claimed, since)?.into_iter().map(|task| task.id).collect();
            still.retain(|id| wanted.contains(id));
            for id in &still {
                tx.archive(id)?;
            }
            tx.describe(match still.len() {
                1 => "archive: 1 task".to_owned(),
                count => format!("archive: {count} tasks"),
            });
            Ok(still)
        })?;
        archived.extend(done.value);
    }
    told(tasks.len());
    Ok(archived)
}

/// Tasks whose claims this clone has, or has seen.
fn claimed(store: &Store) -> Result<BTreeSet<Id>, Error> {
    let refs = store.repo().list_refs(CLAIM_REFS)?;
    Ok(refs.iter().filter_map(|(name, _)| name.strip_prefix(CLAIM_REFS)?.parse().ok()).collect())
}

fn candidates(state: &State, claimed: &BTreeSet<Id>, since: Timestamp) -> Result<Vec<Task>, Error> {
    let all = state.all::<Task>()?;
    let needed = needed(state, &all)?;
    let mut old = Vec::new();
    for task in all {
        if task.status == TaskStatus::Closed
            && task.changed <= since
            && !needed.contains(&task.id)
            && !claimed.contains(&task.id)
            && state.is_untouched(Kind::Task, &task.id, since)?
        {
            old.push(task);
        }
    }
    Ok(old)
}

/// Tasks that something needs which is not over.
fn needed(state: &State, tasks: &[Task]) -> Result<BTreeSet<Id>, Error> {
    let mut needed = BTreeSet::new();
    let open = tasks.iter().filter(|task| task.status != TaskStatus::Closed);
    needed.extend(open.flat_map(|task| task.after.iter().copied()));
    let agents: BTreeMap<Id, Agent> =
        state.all::<Agent>()?.into_iter().map(|agent| (agent.id, agent)).collect();
    let of_agent = |id: Option<Id>| agents.get(&id?)?.task;
    for task in tasks {
        let assignee = task.assignee.and_then(|id| agents.get(&id));
        if assignee.is_some_and(|agent| agent.removed.is_none()) {
            needed.insert(task.id);
        }
    }
    needed.extend(agents.values().filter(|agent| agent.removed.is_none()).filter_map(|agent| agent.task));
    for finding in state.all::<Finding>()? {
        if finding.status == FindingStatus::Open {
            needed.extend(finding.task.into_iter().chain(of_agent(finding.agent)));
        }
    }
    let mut merges = BTreeSet::new();
    for decision in state.all::<Decision>()? {
        if decision.status == DecisionStatus::Open {
            needed.extend(of_agent(decision.agent));
            merges.extend(decision.merge);
        }
    }
    for merge in state.all::<Merge>()? {
        let open = matches!(merge.status, MergeStatus::Running | MergeStatus::Waiting);
        if open || merges.contains(&merge.id) {
            for step in &merge.steps {
                needed.extend(step.after.iter().copied().chain(step.task));
            }
        }
    }
    Ok(needed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::Identity;
    use crate::git::testing::Sandbox;
    use crate::process::ManualClock;
    use serde_json::json;
    use std::sync::Arc;

    const DAY: u64 = 86_400_000;

    #[test]
    fn what_is_new_open_or_needed_stays() {
        let sandbox = Sandbox::new(&[]);
        let clock = Arc::new(ManualClock::new(Timestamp(100 * DAY)));
        let store = Store::open(sandbox.open(), clock.clone(), Identity::new("Ada", "ada@example.org"));
        let id = |number: u128| Id::from_random(number);
        let task = |number: u128, more: serde_json::Value| -> Task {
            let mut task = json!({"id": id(number), "title": format!("{number}"), "status": "closed"});
            task.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            serde_json::from_value(task).unwrap()
        };
        let agent = |number: u128, task: u128, removed: Option<u64>| -> Agent {
            serde_json::from_value(json!({"id": id(number), "name": "x", "profile": "p", "program": "command",
                "task": id(task), "branch": "refs/heads/orchestra/x", "base": "0".repeat(40), "removed": removed}))
            .unwrap()
        };
        let finding: Finding =
            serde_json::from_value(json!({"id": id(30), "message": "m", "severity": "low",
            "status": "open", "author": "x", "task": id(6)}))
            .unwrap();
        let decision: Decision = serde_json::from_value(json!({"id": id(31), "kind": "question",
            "status": "open", "question": "q", "choices": [], "subject": "s", "agent": id(21)}))
        .unwrap();
        let merge: Merge = serde_json::from_value(json!({"id": id(32), "target": "refs/heads/main",
            "target_tip": "0".repeat(40), "status": "waiting", "head": "0".repeat(40), "created": 0,
            "score": {"branches": 1, "before_person": 1, "conflict_steps": 0, "naive_before_person": 1,
                "naive_conflict_steps": 0},
            "steps": [{"agent": id(22), "name": "x", "task": id(9), "tip": "0".repeat(40),
                "status": "pending"}]}))
        .unwrap();
        let put = |tx: &mut crate::store::Transaction<'_>| -> Result<(), Error> {
            // 1 is free; 2 is open and needs 3; agents are there for 4, and were for 5 and 7; 8 has a claim.
            tx.put(&task(2, json!({"status": "open", "after": [id(3)]})))?;
            for number in [1, 3, 4, 5, 6, 7, 8, 9, 10] {
                tx.put(&task(number, json!({})))?;
            }
            tx.put(&agent(20, 4, None))?;
            tx.put(&agent(21, 5, Some(1)))?;
            tx.put(&agent(22, 7, Some(1)))?;
            tx.put(&finding)?;
            tx.put(&decision)?;
            tx.put(&merge)?;
            Ok(())
        };
        store.transact(put).unwrap();
        sandbox.git(&["update-ref", &format!("{CLAIM_REFS}{}", id(8)), "HEAD"]);
        clock.advance(90 * DAY);
        // Somebody touched 10 since, whatever it was.
        let touched = task(10, json!({"labels": ["new"]}));
        store.transact::<_, Error>(|tx| Ok(tx.put(&touched)?)).unwrap();

        let days = |days: u64| Duration::from_millis(days * DAY);
        assert!(plan(&store, days(91)).unwrap().is_empty());
        let old = plan(&store, days(90)).unwrap();
        assert_eq!(old.iter().map(|task| task.id).collect::<Vec<_>>(), [id(1), id(7)]);
        // What somebody opens between the plan and its being carried out stays.
        let opened = task(7, json!({"status": "open"}));
        store.transact::<_, Error>(|tx| Ok(tx.put(&opened)?)).unwrap();
        let mut told = Vec::new();
        assert_eq!(archive(&store, &old, days(90), |done| told.push(done)).unwrap(), [id(1)]);
        assert_eq!(told, [0, 2]);
        assert_eq!(store.state().unwrap().archived::<Task>().unwrap().len(), 1);
        assert!(plan(&store, days(90)).unwrap().is_empty());
    }
}

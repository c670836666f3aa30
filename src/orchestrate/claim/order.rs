//! In which order a machine tries tasks: each machine in another one, so that they rarely want the same.

use crate::model::{Id, Task, TaskStatus};
use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

/// Ready tasks, best first, each with how many of the other machines that are known draw it higher: by priority; among
/// equals those first that fewest others draw higher, then in an order of this machine's own.
pub(super) fn ready<'t>(
    all: &'t [Task],
    zone: Option<&str>,
    machine: &str,
    machines: &BTreeSet<String>,
) -> Vec<(&'t Task, usize)> {
    let mut keyed: Vec<_> = ready_tasks(all, zone)
        .into_iter()
        .map(|task| {
            let own = lot(machine, &task.id);
            let before = machines.iter().filter(|other| *other != machine && lot(other, &task.id) > own);
            ((std::cmp::Reverse(task.priority), before.count(), own, task.id), task)
        })
        .collect();
    keyed.sort_unstable_by_key(|(key, _)| *key);
    keyed.into_iter().map(|((_, before, ..), task)| (task, before)).collect()
}

/// The ready tasks of one zone, or of all.
pub(in crate::orchestrate) fn ready_tasks<'t>(all: &'t [Task], zone: Option<&str>) -> Vec<&'t Task> {
    let status: HashMap<Id, TaskStatus> = all.iter().map(|task| (task.id, task.status)).collect();
    let wanted = |task: &&Task| {
        zone.is_none_or(|zone| task.zone.as_deref() == Some(zone))
            && task.is_ready(|id| status.get(id).copied())
    };
    all.iter().filter(wanted).collect()
}

/// What a machine draws for a task. Two builds may disagree: that costs a push, not the truth.
fn lot(machine: &str, task: &Id) -> u64 {
    let mut hasher = DefaultHasher::new();
    (machine, task.as_str()).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(number: u64, priority: i64) -> Task {
        let id = Id::from_random(u128::from(number) << 5);
        let json = format!(r#"{{"id": "{id}", "title": "t", "priority": {priority}}}"#);
        serde_json::from_str(&json).unwrap()
    }

    #[test]
    fn machines_that_know_each_other_begin_with_different_tasks() {
        let tasks: Vec<Task> = (0..400).map(|n| task(n, 0)).collect();
        let machines: BTreeSet<String> = (0..16).map(|n| format!("m{n:05}")).collect();
        let mut first = BTreeSet::new();
        for machine in &machines {
            let order = ready(&tasks, None, machine, &machines);
            assert_eq!(order.len(), tasks.len());
            for (task, before) in &order[..10] {
                assert_eq!(*before, 0);
                assert!(first.insert(task.id), "two machines want {}", task.id);
            }
        }
    }

    #[test]
    fn priority_comes_before_the_draw_and_zones_are_kept_apart() {
        let mut tasks: Vec<Task> = (0..20).map(|n| task(n, i64::try_from(n % 3).unwrap())).collect();
        tasks[4].zone = Some("ui".to_owned());
        tasks[5].status = TaskStatus::Started;
        let order = ready(&tasks, None, "m00000", &BTreeSet::new());
        assert!(order.is_sorted_by_key(|(task, _)| std::cmp::Reverse(task.priority)));
        assert_eq!(order.len(), 19);
        let zone = ready(&tasks, Some("ui"), "m00000", &BTreeSet::new());
        assert_eq!(zone.iter().map(|(task, _)| task.id).collect::<Vec<_>>(), [tasks[4].id]);
    }
}

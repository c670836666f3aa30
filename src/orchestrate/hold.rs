//! Which tasks do not begin yet, because they would probably change what an agent at work changes. Reads only.
//!
//! A rule for whoever starts many agents by itself (`worker`, `run`). Who says `spawn` says what begins, and is only told
//! what will probably meet. It only puts off: where nobody is at work nothing is held back, so there is always something that begins.

use super::foresee::{Clash, LIKELY, foresee};
use super::{Error, lease};
use crate::model::{Agent, Id, ObjectId, Task};
use crate::store::Store;
use std::collections::{BTreeSet, HashMap};

/// Of how many tasks it is looked at whether they meet: those at work, and the best of the others.
const MOST: usize = 256;

/// A task that does not begin yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    /// The task.
    pub task: Task,
    /// The one that it would probably meet, which is worked on or begins before it.
    pub by: Task,
    /// What both will probably change, likeliest first.
    pub files: Vec<String>,
}

impl Held {
    /// `holding back "Dates" until "Times" is done: both will probably change src/dates.rs`
    pub fn words(&self) -> String {
        let (task, by, files) = (title(&self.task), title(&self.by), self.what());
        format!("holding back “{task}” until “{by}” is done: both will probably change {files}")
    }
}

impl Held {
    /// Of one that begins all the same: `“Dates” and “Times” will probably both change src/dates.rs`
    pub fn risk(&self) -> String {
        let (task, by) = (title(&self.task), title(&self.by));
        format!("“{by}” and “{task}” will probably both change {}", self.what())
    }

    fn what(&self) -> String {
        match &self.files[..] {
            [] => "the same files".to_owned(),
            [one] => one.clone(),
            [one, rest @ ..] => format!("{one} and {} more", rest.len()),
        }
    }
}

fn title(task: &Task) -> &str {
    task.title.lines().next().unwrap_or_default()
}

/// What is known of tasks that may meet; asked again only when one of them, or what they begin from, changed.
#[derive(Debug, Default)]
pub struct Lookout {
    of: Option<(ObjectId, Vec<Task>)>,
    clashes: Vec<Clash>,
}

impl Lookout {
    /// Of `wanted`, in order, those that begin now beside `busy`, and those that are held back: each meets one that is
    /// busy, or one that begins now. Tasks that do not say what they touch neither wait nor are waited for, and what cannot
    /// be foreseen holds nobody back.
    pub fn sift(&mut self, store: &Store, wanted: &[Task], busy: &[Task]) -> (Vec<Task>, Vec<Held>) {
        if let Err(error) = self.look(store, wanted, busy) {
            tracing::warn!("failed to foresee what tasks will change: {error}");
            self.clashes.clear();
        }
        sift(&self.clashes, wanted, busy)
    }

    fn look(&mut self, store: &Store, wanted: &[Task], busy: &[Task]) -> Result<(), Error> {
        let says = busy.iter().chain(wanted).filter(|task| !task.touches.is_empty());
        let mut all: Vec<Task> = says.take(MOST).cloned().collect();
        all.sort_by_key(|task| task.id);
        all.dedup_by_key(|task| task.id);
        let repo = store.repo();
        let tip = if all.len() > 1 { repo.head()?.commit } else { None };
        let Some(tip) = tip else {
            self.clashes.clear();
            self.of = None;
            return Ok(());
        };
        let now = (tip, all);
        if self.of.as_ref() != Some(&now) {
            self.clashes = foresee(repo, &now.0, &now.1)?.clashes;
            self.of = Some(now);
        }
        Ok(())
    }
}

fn sift(clashes: &[Clash], wanted: &[Task], busy: &[Task]) -> (Vec<Task>, Vec<Held>) {
    // Nearly all tasks meet nobody, and there may be thousands: they cost one look each.
    let mut met = HashMap::<Id, HashMap<Id, &Clash>>::new();
    for clash in clashes.iter().filter(|clash| clash.likelihood >= LIKELY) {
        for (one, other) in [(clash.a, clash.b), (clash.b, clash.a)] {
            met.entry(one).or_default().entry(other).or_insert(clash);
        }
    }
    let (mut begin, mut held) = (Vec::<Task>::new(), Vec::new());
    for task in wanted {
        let hit = met.get(&task.id).and_then(|met| {
            let mut before = busy.iter().chain(&begin).filter(|other| other.id != task.id);
            before.find_map(|other| Some((other, *met.get(&other.id)?)))
        });
        match hit {
            Some((by, clash)) => {
                held.push(Held { task: task.clone(), by: by.clone(), files: clash.files.clone() });
            }
            None => begin.push(task.clone()),
        }
    }
    (begin, held)
}

/// The tasks that agents of this clone work on right now.
pub fn busy(store: &Store) -> Result<Vec<Task>, Error> {
    let state = store.state()?;
    let mut tasks = BTreeSet::new();
    for live in lease::live(store.repo()) {
        tasks.extend(state.get::<Agent>(&live.agent)?.and_then(|agent| agent.task));
    }
    let tasks = tasks.iter().map(|id| state.get::<Task>(id)).collect::<Result<Vec<_>, _>>()?;
    Ok(tasks.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn task(number: u64) -> Task {
        let id = Id::from_random(u128::from(number) << 5);
        serde_json::from_str(&format!(r#"{{"id": "{id}", "title": "t{number}"}}"#)).unwrap()
    }

    fn clash(a: &Task, b: &Task, likelihood: f64) -> Clash {
        Clash { a: a.id, b: b.id, likelihood, files: vec!["f".to_owned()] }
    }

    #[test]
    fn whoever_would_meet_one_at_work_waits_and_others_go() {
        let tasks: Vec<Task> = (1..5).map(task).collect();
        let [one, two, three, four] = &tasks[..] else { panic!() };
        let clashes = [clash(one, two, 0.9), clash(three, two, 0.3), clash(one, four, 0.1)];
        let (begin, held) = sift(&clashes, &tasks[1..], &tasks[..1]);
        assert_eq!(begin, [three.clone(), four.clone()], "unlikely is not held");
        assert_eq!((&held[0].task, &held[0].by), (two, one));
        assert_eq!(held[0].words(), "holding back “t2” until “t1” is done: both will probably change f");
        let (begin, held) = sift(&clashes, &tasks, &[]);
        assert_eq!((begin.len(), held.len()), (3, 1), "and of two that would meet one begins");
    }

    proptest! {
        #[test]
        fn somebody_always_begins_and_no_two_that_meet(pairs in proptest::collection::vec((0_usize..8, 0_usize..8, 0.0..1.0), 0..30)) {
            let tasks: Vec<Task> = (1..9).map(task).collect();
            let clashes: Vec<Clash> =
                pairs.iter().filter(|(a, b, _)| a != b).map(|(a, b, p)| clash(&tasks[*a], &tasks[*b], *p)).collect();
            let (begin, held) = sift(&clashes, &tasks, &[]);
            prop_assert_eq!(begin.len() + held.len(), tasks.len());
            prop_assert_eq!(&begin[0], &tasks[0]);
            let (again, _) = sift(&clashes, &begin, &[]);
            prop_assert_eq!(again, begin);
        }
    }
}

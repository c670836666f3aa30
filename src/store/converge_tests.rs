//! Clones that edit apart, with clocks a day wrong, and sync in any order: real repositories, transactions and merges.
//!
//! `PROPTEST_CASES=500 cargo test --lib store::converge` plays more of them.

use super::absorb::{Incoming, Trees};
use super::record::DELETED;
use super::*;
use crate::git::testing::Sandbox;
use crate::model::{Id, Kind, ObjectId, Task, TaskStatus, Timestamp};
use crate::process::ManualClock;
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;

const DAY: u64 = 86_400_000;
/// Cases of one run of the suite; each plays up to thirty steps on up to five repositories.
const CASES: u32 = 10;

/// One machine. All share one directory of objects, as if every fetch had been made already.
struct Clone {
    sandbox: Sandbox,
    store: Store,
    clock: Arc<ManualClock>,
}

/// Clones, and what a remote between them has.
struct Fleet {
    clones: Vec<Clone>,
    remote: Option<Incoming>,
    /// Every task and title that was ever written, newest last.
    tasks: Vec<Id>,
}

#[derive(Debug, Clone)]
enum Step {
    Add,
    Title(usize, u8),
    Body(usize, u8),
    Status(usize, u8),
    Label(usize, u8, bool),
    /// Takes the task over: what was held before is ousted.
    Take(usize),
    Result(usize, u8),
    Delete(usize),
    /// Archives the task if it is closed, as this clone has it.
    Archive(usize),
    /// Cuts the history of this clone.
    Cut,
    Note(u8),
    Sync,
    Push,
}

fn steps() -> impl Strategy<Value = Vec<(usize, u64, Step)>> {
    let task = 0..6_usize;
    let step = prop_oneof![
        2 => Just(Step::Add),
        3 => (task.clone(), any::<u8>()).prop_map(|(task, n)| Step::Title(task, n)),
        2 => (task.clone(), 0..3_u8).prop_map(|(task, n)| Step::Body(task, n)),
        2 => (task.clone(), 0..3_u8).prop_map(|(task, n)| Step::Status(task, n)),
        2 => (task.clone(), 0..3_u8, any::<bool>()).prop_map(|(task, n, there)| Step::Label(task, n, there)),
        2 => task.clone().prop_map(Step::Take),
        1 => (task.clone(), any::<u8>()).prop_map(|(task, n)| Step::Result(task, n)),
        1 => task.clone().prop_map(Step::Delete),
        3 => task.prop_map(Step::Archive),
        1 => any::<u8>().prop_map(Step::Note),
        1 => Just(Step::Cut),
        4 => Just(Step::Sync),
        1 => Just(Step::Push),
    ];
    proptest::collection::vec((0..5_usize, 0..5_000_u64, step), 4..30)
}

impl Fleet {
    /// `count` clones whose clocks differ by up to a day.
    fn new(count: usize) -> Self {
        let clones: Vec<Clone> = (0..count)
            .map(|number| {
                let sandbox = Sandbox::new(&[]);
                let clock =
                    Arc::new(ManualClock::new(Timestamp(100 * DAY + DAY * number as u64 / count as u64)));
                let repo = sandbox.open();
                let author = repo.identity();
                let store = Store::open(repo, Arc::clone(&clock) as Arc<dyn crate::process::Clock>, author);
                Clone { sandbox, store, clock }
            })
            .collect();
        let shared = clones[0].sandbox.path().join(".git/objects");
        for clone in &clones[1..] {
            let own = clone.sandbox.path().join(".git/objects");
            std::fs::remove_dir_all(&own).unwrap();
            std::os::unix::fs::symlink(&shared, &own).unwrap();
        }
        Self { clones, remote: None, tasks: Vec::new() }
    }

    fn play(&mut self, steps: &[(usize, u64, Step)]) {
        for (who, later, step) in steps {
            for clone in &self.clones {
                clone.clock.advance(*later);
            }
            self.step(who % self.clones.len(), step);
        }
    }

    fn step(&mut self, who: usize, step: &Step) {
        match step {
            Step::Add => {
                let store = &self.clones[who].store;
                let id = store.new_id().unwrap();
                let task: Task = serde_json::from_value(json!({"id": id, "title": "new"})).unwrap();
                store.transact::<_, Error>(|tx| tx.put(&task)).unwrap();
                self.tasks.push(id);
            }
            Step::Title(task, n) => self.edit(who, *task, |task| task.title = format!("title {n}")),
            Step::Body(task, n) => self.edit(who, *task, |task| task.body = "x".repeat(usize::from(*n))),
            Step::Status(task, n) => self.edit(who, *task, |task| {
                task.status = [TaskStatus::Open, TaskStatus::Started, TaskStatus::Closed][usize::from(*n)];
            }),
            Step::Label(task, n, true) => self.edit(who, *task, |task| {
                task.labels.insert(format!("l{n}"));
            }),
            Step::Label(task, n, false) => self.edit(who, *task, |task| {
                task.labels.remove(&format!("l{n}"));
            }),
            Step::Result(task, n) => {
                self.edit(who, *task, |task| task.result = Some(format!("result {n} of {who}")));
            }
            Step::Take(task) => self.write(who, *task, |record| {
                let fence = record.fields.get("fence").and_then(serde_json::Value::as_i64).unwrap_or(0);
                vec![("fence", json!(fence + 1)), ("result", json!(format!("taken by {who}")))]
            }),
            Step::Delete(task) => self.write(who, *task, |_| {
                let deleted = json!({"by": "Ada", "at": 1});
                vec![(DELETED, deleted)]
            }),
            Step::Archive(task) => {
                let Some(id) = self.tasks.get(*task) else { return };
                let archive = |tx: &mut Transaction<'_>| match tx.get::<Task>(id)? {
                    Some(task) if task.status == TaskStatus::Closed => tx.archive(id),
                    _ => Ok(()),
                };
                self.clones[who].store.transact::<_, Error>(archive).unwrap();
            }
            Step::Cut => {
                let store = &self.clones[who].store;
                if store.is_initialised().unwrap() {
                    let cut = store.make_cut().unwrap();
                    store.absorb(&Incoming { state: Some(cut.commit), notes: Vec::new() }).unwrap();
                }
            }
            Step::Note(n) => {
                let store = &self.clones[who].store;
                let commit: ObjectId = self.clones[0].sandbox.git(&["rev-parse", "HEAD"]).parse().unwrap();
                let line = format!("note {n} of {who}");
                let notes_ref = FINDINGS_NOTES.to_owned();
                store
                    .transact::<_, Error>(|tx| {
                        tx.note(crate::git::NoteEdit {
                            notes_ref: notes_ref.clone(),
                            commit: commit.clone(),
                            line: line.clone(),
                        });
                        Ok(())
                    })
                    .unwrap();
            }
            Step::Sync => {
                if let Some(remote) = &self.remote {
                    let store = &self.clones[who].store;
                    store.absorb(remote).unwrap();
                    // What is pushed then follows what is there, or is a cut that holds all of it.
                    let ours = store.state().unwrap().commit().cloned();
                    if let (Some(old), Some(new)) = (&remote.state, ours) {
                        let follows = store.repo().is_ancestor(old, &new).unwrap();
                        assert!(follows || store.must_replace(old, &new).unwrap(), "{old} {new}");
                    }
                }
                self.publish(who);
            }
            Step::Push => {
                // Only forward, as every push.
                let (ours, theirs) = (self.tips(who), self.remote.clone().unwrap_or_default());
                let repo = self.clones[who].store.repo();
                let forward = |old: &ObjectId, new: Option<&ObjectId>| {
                    new.is_some_and(|new| repo.is_ancestor(old, new).unwrap())
                };
                let of = |tips: &Incoming, name: &str| {
                    tips.notes.iter().find(|(other, _)| other == name).map(|(_, tip)| tip.clone())
                };
                let store = &self.clones[who].store;
                let replaces = |old: &ObjectId| {
                    ours.state.as_ref().is_some_and(|new| store.must_replace(old, new).unwrap())
                };
                let state = theirs
                    .state
                    .as_ref()
                    .is_none_or(|old| forward(old, ours.state.as_ref()) || replaces(old));
                let notes = theirs.notes.iter().all(|(name, old)| forward(old, of(&ours, name).as_ref()));
                if state && notes {
                    self.publish(who);
                }
            }
        }
    }

    /// Changes a task that this clone has.
    fn edit(&self, who: usize, task: usize, change: impl Fn(&mut Task)) {
        let Some(id) = self.tasks.get(task) else { return };
        let store = &self.clones[who].store;
        store
            .transact::<_, Error>(|tx| {
                let Some(mut task) = tx.get::<Task>(id)? else { return Ok(()) };
                change(&mut task);
                tx.put(&task)
            })
            .unwrap();
    }

    fn write(
        &self,
        who: usize,
        task: usize,
        values: impl Fn(&Record) -> Vec<(&'static str, serde_json::Value)>,
    ) {
        let Some(id) = self.tasks.get(task) else { return };
        let store = &self.clones[who].store;
        let Some(record) = store.state().unwrap().record(Kind::Task, id).unwrap() else { return };
        store
            .transact::<_, Error>(|tx| {
                for (key, value) in values(&record) {
                    tx.write(Kind::Task, *id, key, Some(value))?;
                }
                Ok(())
            })
            .unwrap();
    }

    fn tips(&self, who: usize) -> Incoming {
        let repo = self.clones[who].store.repo();
        let notes = repo.find_ref(FINDINGS_NOTES).unwrap();
        Incoming {
            state: repo.find_ref(STATE_REF).unwrap(),
            notes: notes.map(|tip| (FINDINGS_NOTES.to_owned(), tip)).into_iter().collect(),
        }
    }

    fn publish(&mut self, who: usize) {
        let tips = self.tips(who);
        if tips.state.is_some() {
            self.remote = Some(tips);
        }
    }

    fn tree(&self, who: usize) -> Option<ObjectId> {
        self.clones[who].store.state().unwrap().tree().cloned()
    }

    /// The merge of all clones' trees in this order.
    fn fold(&self, order: &[usize]) -> Option<ObjectId> {
        let repo = self.clones[0].store.repo();
        order
            .iter()
            .filter_map(|who| self.tree(*who))
            .fold(None, |merged, tree| Some(Trees::new(repo).merge(merged.as_ref(), &tree).unwrap()))
    }
}

fn config() -> ProptestConfig {
    let default = ProptestConfig::default();
    // 256 is what nobody asked for.
    let cases = if default.cases == 256 { CASES } else { default.cases };
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 64, ..default }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn clones_that_sync_in_any_order_have_the_same(
        count in 2..6_usize,
        steps in steps(),
        order in Just([0_usize, 1, 2, 3, 4]).prop_shuffle(),
    ) {
        let mut fleet = Fleet::new(count);
        fleet.step(0, &Step::Add);
        fleet.step(0, &Step::Sync);
        fleet.play(&steps);

        // The content does not depend on the order, and merging it once more changes nothing.
        let order: Vec<usize> = order.into_iter().filter(|who| *who < count).collect();
        let merged = fleet.fold(&order).unwrap();
        let backwards: Vec<usize> = order.iter().rev().copied().collect();
        prop_assert_eq!(&fleet.fold(&backwards).unwrap(), &merged, "associative and commutative");
        let repo = fleet.clones[0].store.repo();
        for who in 0..count {
            if let Some(tree) = fleet.tree(who) {
                let again = Trees::new(repo).merge(Some(&merged), &tree).unwrap();
                prop_assert_eq!(&again, &merged, "idempotent");
            }
        }

        // Two that take in each other at once make the same commits.
        let (a, b) = (order[0], order[1]);
        let (of_a, of_b) = (fleet.tips(a), fleet.tips(b));
        fleet.clones[a].store.absorb(&of_b).unwrap();
        fleet.clones[b].store.absorb(&of_a).unwrap();
        let (of_a, of_b) = (fleet.tips(a), fleet.tips(b));
        prop_assert_eq!((of_a.state, of_a.notes), (of_b.state, of_b.notes));

        // All of them sync, twice round: the same bytes everywhere.
        for who in order.iter().chain(&backwards) {
            fleet.step(*who, &Step::Sync);
        }
        let end = fleet.tips(order[0]);
        for who in 0..count {
            let tips = fleet.tips(who);
            prop_assert_eq!((&tips.state, &tips.notes), (&end.state, &end.notes));
        }
        prop_assert_eq!(fleet.tree(0), Some(merged));
        let state = fleet.clones[0].store.state().unwrap();
        for id in &fleet.tasks {
            // One that was only ever on its own clone is there too.
            prop_assert!(state.record(Kind::Task, id).unwrap().is_some());
        }
        // Each is in the place that its record says, and in no other.
        let verified = state.verify(Timestamp(u64::MAX / 2)).unwrap();
        prop_assert_eq!((&verified.broken, &verified.unknown), (&vec![], &vec![]));
        prop_assert_eq!(verified.entities.get(&Kind::Task).copied(), Some(fleet.tasks.len()));
        for task in state.archived::<Task>().unwrap() {
            prop_assert_eq!(task.status, TaskStatus::Closed);
        }
    }
}

#[test]
fn an_ousted_holder_overwrites_nothing_and_a_losing_text_is_kept() {
    let mut fleet = Fleet::new(2);
    fleet.step(0, &Step::Add);
    for who in [0, 1] {
        fleet.step(who, &Step::Sync);
    }
    // The ousted one's clock is half a day ahead.
    fleet.step(0, &Step::Take(0));
    fleet.step(0, &Step::Title(0, 1));
    fleet.step(1, &Step::Result(0, 7));
    fleet.step(1, &Step::Status(0, 2));
    fleet.step(1, &Step::Title(0, 2));
    for who in [1, 0, 1] {
        fleet.step(who, &Step::Sync);
    }
    for clone in &fleet.clones {
        let state = clone.store.state().unwrap();
        let task: Task = state.require(&fleet.tasks[0]).unwrap();
        assert_eq!((task.status, task.result.as_deref()), (TaskStatus::Open, Some("taken by 0")));
        assert_eq!(task.title, "title 2");
        let record = state.record(Kind::Task, &fleet.tasks[0]).unwrap().unwrap();
        assert_eq!(record.losing("title").iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["title 1"]);
    }
}

#[test]
fn what_was_deleted_stays_deleted_and_an_edit_elsewhere_is_not_lost() {
    let mut fleet = Fleet::new(3);
    fleet.step(0, &Step::Add);
    for who in [0, 1, 2] {
        fleet.step(who, &Step::Sync);
    }
    fleet.step(1, &Step::Delete(0));
    fleet.step(2, &Step::Title(0, 9));
    for who in [2, 1, 0, 2, 1] {
        fleet.step(who, &Step::Sync);
    }
    for clone in &fleet.clones {
        let state = clone.store.state().unwrap();
        assert!(state.all::<Task>().unwrap().is_empty());
        let record = state.record(Kind::Task, &fleet.tasks[0]).unwrap().unwrap();
        assert!(record.is_deleted());
        assert_eq!(record.fields["title"], json!("title 9"), "it is there for whoever brings it back");
    }
}

#[test]
fn what_one_archives_while_another_edits_comes_back_with_the_edit() {
    // Whichever clock is ahead: that of who archives (1) or that of who edits (0).
    for (archives, edits) in [(1, 0), (0, 1)] {
        let mut fleet = Fleet::new(2);
        fleet.step(0, &Step::Add);
        fleet.step(0, &Step::Status(0, 2));
        for who in [0, 1] {
            fleet.step(who, &Step::Sync);
        }
        fleet.step(archives, &Step::Archive(0));
        let id = fleet.tasks[0];
        let state = fleet.clones[archives].store.state().unwrap();
        assert!(state.all::<Task>().unwrap().is_empty() && state.get::<Task>(&id).unwrap().is_some());
        fleet.step(edits, &Step::Label(0, 1, true));
        for who in [archives, edits, archives] {
            fleet.step(who, &Step::Sync);
        }
        for clone in &fleet.clones {
            let state = clone.store.state().unwrap();
            assert_eq!(state.all::<Task>().unwrap()[0].labels.len(), 1);
            assert!(state.archived::<Task>().unwrap().is_empty());
        }
        // Archived once more, by both at once: both have it there, and a change of either brings it back.
        for who in [0, 1] {
            fleet.step(who, &Step::Archive(0));
        }
        for who in [0, 1, 0] {
            fleet.step(who, &Step::Sync);
        }
        let (a, b) = (fleet.tips(0), fleet.tips(1));
        assert_eq!(a.state, b.state);
        assert_eq!(fleet.clones[0].store.state().unwrap().archived::<Task>().unwrap().len(), 1);
        fleet.step(1, &Step::Status(0, 0));
        assert_eq!(fleet.clones[1].store.state().unwrap().all::<Task>().unwrap().len(), 1);
    }
}

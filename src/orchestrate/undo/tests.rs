//! Any operations, undone all the way, leave what was there at first.

use super::*;
use crate::git::testing::Sandbox;
use crate::model::{Finding, Id, Task, TaskStatus};
use crate::process::SystemClock;
use crate::store;
use proptest::prelude::*;
use serde_json::json;
use std::sync::Arc;

/// What a person does next; numbers choose among the tasks that there are.
#[derive(Debug, Clone, Copy)]
enum Step {
    Add(usize),
    Title(usize, u8),
    Label(usize, u8),
    Close(usize),
    Reopen(usize),
    Note(usize),
    /// One operation of two transactions, on two tasks.
    Two(usize, usize),
    Undo,
    Redo,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let n = || 0..8_usize;
    let step = prop_oneof![
        4 => n().prop_map(Step::Add),
        2 => (n(), any::<u8>()).prop_map(|(n, text)| Step::Title(n, text)),
        2 => (n(), 0..3_u8).prop_map(|(n, label)| Step::Label(n, label)),
        2 => n().prop_map(Step::Close),
        1 => n().prop_map(Step::Reopen),
        1 => n().prop_map(Step::Note),
        1 => (n(), n()).prop_map(|(a, b)| Step::Two(a, b)),
        3 => Just(Step::Undo),
        2 => Just(Step::Redo),
    ];
    proptest::collection::vec(step, 1..16)
}

/// What is changed of a task.
type Change = Box<dyn Fn(&mut Task)>;

/// Everything that lists show.
type Seen = (Vec<Task>, Vec<Finding>);

struct Stage {
    sandbox: Sandbox,
    store: Store,
    /// What was there before each operation that holds.
    before: Vec<Seen>,
    /// The undoing operations that can be undone in turn, with what was there before them and before what they undid.
    undone: Vec<(String, Seen, Seen)>,
}

impl Stage {
    fn new() -> Self {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        let author = repo.identity();
        let store = Store::open(repo, Arc::new(SystemClock), author);
        Self { sandbox, store, before: Vec::new(), undone: Vec::new() }
    }

    fn seen(&self) -> Seen {
        let state = self.store.state().unwrap();
        (state.all().unwrap(), state.all().unwrap())
    }

    /// The nth task, round and round.
    fn task(&self, n: usize) -> Option<Id> {
        let tasks: Vec<Task> = self.store.state().unwrap().all().unwrap();
        (!tasks.is_empty()).then(|| tasks[n % tasks.len()].id)
    }

    /// Makes an operation of one transaction a change.
    fn operate(&mut self, changes: Vec<(Id, Change)>) {
        let before = self.seen();
        let store = self.store.with_operation(Operation::new("change").unwrap());
        for (id, change) in changes {
            let made = store.transact(|tx| {
                let new = || {
                    serde_json::from_value(json!({"id": id, "title": "new", "created": tx.now()})).unwrap()
                };
                let mut task: Task = tx.get(&id)?.unwrap_or_else(new);
                change(&mut task);
                task.changed = tx.now();
                tx.put(&task)
            });
            made.unwrap_or_else(|error: store::Error| panic!("{error}"));
        }
        if self.seen() != before {
            self.before.push(before);
            self.undone.clear();
        }
    }

    fn play(&mut self, step: Step) {
        let id = self.store.new_id().unwrap();
        match step {
            Step::Add(n) => {
                let after = self.task(n);
                self.operate(vec![(id, Box::new(move |task| task.after.extend(after)))]);
            }
            Step::Title(n, text) => self.change(n, move |task| task.title = format!("title {text}")),
            Step::Label(n, label) => self.change(n, move |task| {
                let label = format!("l{label}:x");
                if !task.labels.remove(&label) {
                    task.labels.insert(label);
                }
            }),
            Step::Close(n) => self.change(n, |task| {
                task.status = TaskStatus::Closed;
                task.result = Some("done".into());
            }),
            Step::Reopen(n) => self.change(n, |task| {
                task.status = TaskStatus::Open;
                task.result = None;
            }),
            Step::Note(n) => {
                let (before, task) = (self.seen(), self.task(n));
                let store = self.store.with_operation(Operation::new("note").unwrap());
                let finding: Finding =
                    serde_json::from_value(json!({"id": id, "message": "seen", "task": task})).unwrap();
                store.transact(|tx| tx.put(&finding)).unwrap_or_else(|error: store::Error| panic!("{error}"));
                self.before.push(before);
                self.undone.clear();
            }
            Step::Two(a, b) => {
                let Some((a, b)) = self.task(a).zip(self.task(b)) else { return };
                let raise = |task: &mut Task| task.priority += 1;
                self.operate(vec![(a, Box::new(raise)), (b, Box::new(raise))]);
            }
            Step::Undo => drop(self.undo()),
            Step::Redo => {
                let Some((undo, expected, before)) = self.undone.pop() else { return };
                let logged = self.store.state().unwrap().operation(&undo).unwrap();
                self.take_back(&logged);
                assert_eq!(self.seen(), expected);
                self.before.push(before);
            }
        }
    }

    fn change(&mut self, n: usize, change: impl Fn(&mut Task) + 'static) {
        if let Some(id) = self.task(n) {
            self.operate(vec![(id, Box::new(change))]);
        }
    }

    /// Undoes the last operation that holds, if there is one.
    fn undo(&mut self) -> bool {
        let found = find_last(&self.store).unwrap();
        let Some(expected) = self.before.pop() else {
            assert_eq!(found, None);
            return false;
        };
        let now = self.seen();
        let undone = self.take_back(&found.expect("an operation holds"));
        assert_eq!(self.seen(), expected);
        self.undone.push((undone, now, expected));
        true
    }

    fn take_back(&self, logged: &Logged) -> String {
        let plan = Plan::new(&self.store, logged).unwrap();
        assert_eq!(plan.reversal.conflicts, []);
        undo(&self.store, &plan, self.sandbox.dir.path(), false).unwrap().operation
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, failure_persistence: None, max_shrink_iters: 64, ..ProptestConfig::default() })]

    #[test]
    fn undone_all_the_way_nothing_is_left_and_done_again_everything_is_there(steps in steps()) {
        let mut stage = Stage::new();
        for step in steps {
            stage.play(step);
        }
        let end = stage.seen();
        let count = stage.before.len();
        stage.undone.clear();
        while stage.undo() {}
        prop_assert_eq!(stage.seen(), (Vec::new(), Vec::new()));
        for _ in 0..count {
            stage.play(Step::Redo);
        }
        prop_assert_eq!(stage.seen(), end);
    }
}

//! Fills the repository in the current directory with many tasks and agents, for `benches/compare`.
//!
//! `seed TASKS AGENTS [CHANGES]` prints the id of one task, after so many changes of one task each, by several writers at
//! once. It writes through the product's own store, so what is
//! measured afterwards is what the product would have written.

use git_orchestra::git::{Identity, Repository};
use git_orchestra::model::{Agent, Id, Name, Outcome, Run, Task, TaskStatus, Timestamp, Usage};
use git_orchestra::process::{Clock, SystemClock};
use git_orchestra::store::{Error, Store};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// How many records one change writes.
const BATCH: u64 = 500;
/// How many write at once, where each change is of one record.
const WRITERS: usize = 16;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut counts = std::env::args().skip(1).map(|count| count.parse::<u64>());
    let (tasks, agents) =
        (counts.next().ok_or("how many tasks?")??, counts.next().ok_or("how many agents?")??);
    #[expect(clippy::disallowed_methods, reason = "a program of its own, with the environment it was given")]
    let env = Arc::new(std::env::vars_os().collect());
    let repo = Repository::discover(Path::new("."), env)?;
    let base = repo.resolve_commit("HEAD")?;
    let store = Store::open(repo, Arc::new(SystemClock), Identity::new("Seed", "seed@example.org"));
    let now = SystemClock.now();

    let mut ids = Vec::new();
    for batch in batches(tasks) {
        store.transact(|change| -> Result<(), Error> {
            for number in batch.clone() {
                let task = task(store.new_id()?, number, now);
                ids.push(task.id);
                change.put(&task)?;
            }
            change.describe(format!("seed: {BATCH} tasks"));
            Ok(())
        })?;
    }
    for batch in batches(agents) {
        store.transact(|change| -> Result<(), Error> {
            for number in batch.clone() {
                let task = usize::try_from(number).ok().and_then(|at| ids.get(at)).copied();
                change.put(&Agent {
                    id: store.new_id()?,
                    name: Name::try_from(format!("agent-{number}")).expect("the grammar of names"),
                    profile: "claude".to_owned(),
                    program: "claude".to_owned(),
                    task,
                    step: None,
                    prompt: format!("Do what task {number} says."),
                    branch: format!("{}agent-{number}", Agent::BRANCHES),
                    base: base.clone(),
                    target: Some("refs/heads/main".to_owned()),
                    machine: String::new(),
                    taken: None,
                    session: None,
                    budget: git_orchestra::model::Budget::default(),
                    runs: BTreeMap::from([(1, Box::new(run(number, now)))]),
                    removed: None,
                    merged: None,
                    created: now,
                })?;
            }
            change.describe(format!("seed: {BATCH} agents"));
            Ok(())
        })?;
    }

    if let Some(changes) = counts.next().transpose()? {
        let changes = usize::try_from(changes)?;
        std::thread::scope(|scope| {
            let (ids, store) = (&ids, &store);
            let writers: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let store = store.clone();
                    scope.spawn(move || edit(&store, ids, (writer..changes).step_by(WRITERS)))
                })
                .collect();
            writers.into_iter().try_for_each(|writer| writer.join().expect("a writer does not panic"))
        })?;
    }
    let first = ids.first().map(ToString::to_string).unwrap_or_default();
    writeln!(std::io::stdout(), "{first}")?;
    Ok(())
}

/// Edits one task after the other, a change each.
fn edit(store: &Store, ids: &[Id], numbers: impl Iterator<Item = usize>) -> Result<(), Error> {
    for number in numbers {
        store.transact(|change| -> Result<(), Error> {
            let mut task: Task = change.require(&ids[number % ids.len()])?;
            task.priority += 1;
            change.put(&task)
        })?;
    }
    Ok(())
}

fn batches(count: u64) -> impl Iterator<Item = std::ops::Range<u64>> {
    (0..count.div_ceil(BATCH)).map(move |batch| batch * BATCH..count.min((batch + 1) * BATCH))
}

fn task(id: Id, number: u64, now: Timestamp) -> Task {
    Task {
        id,
        title: format!("Task {number}: parse what the others left"),
        body: "A few lines of what is wanted,\nas a person would write them.\n".repeat(3),
        status: if number.is_multiple_of(10) { TaskStatus::Open } else { TaskStatus::Closed },
        priority: i64::try_from(number % 100).unwrap_or_default(),
        after: BTreeSet::new(),
        touches: BTreeSet::from([format!("src/part{}/**", number % 40)]),
        labels: BTreeSet::new(),
        zone: None,
        assignee: None,
        holder: None,
        fence: 0,
        result: None,
        created: now,
        changed: now,
    }
}

fn run(number: u64, now: Timestamp) -> Run {
    Run {
        started: now,
        ended: Some(now),
        outcome: Some(Outcome::Succeeded),
        usage: Usage { input: 1_000 + number, output: 100 + number, turns: 7, ..Usage::default() },
        model: Some("claude-opus-4-8".to_owned()),
        ..Run::default()
    }
}

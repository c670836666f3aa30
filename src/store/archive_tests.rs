//! What is archived is out of the way and found, and lies where its record says, whatever others send.

use super::absorb::Trees;
use super::archive::{ARCHIVED, place, places};
use super::layout::{archive_path, entity_path};
use super::*;
use crate::git::testing::Sandbox;
use crate::git::{EntryMode, Identity, TreeEdit};
use crate::model::{Kind, ObjectId, Task, TaskStatus, Timestamp};
use crate::process::ManualClock;
use serde_json::json;
use std::collections::BTreeSet;

fn store(sandbox: &Sandbox) -> Store {
    let clock = Arc::new(ManualClock::new(Timestamp(1_000)));
    Store::open(sandbox.open(), clock, Identity::new("Ada", "ada@example.org"))
}

fn add(store: &Store, title: &str, status: TaskStatus) -> Task {
    let id = store.new_id().unwrap();
    let mut task: Task = serde_json::from_value(json!({"id": id, "title": title})).unwrap();
    task.status = status;
    store.transact(|tx| tx.put(&task)).unwrap();
    task
}

fn archive(store: &Store, id: &Id) {
    store.transact(|tx| tx.archive(id)).unwrap();
}

fn paths(sandbox: &Sandbox) -> BTreeSet<String> {
    let files = sandbox.git(&["ls-tree", "-r", "--name-only", STATE_REF]);
    files.lines().filter(|path| path.contains("tasks/")).map(str::to_owned).collect()
}

#[test]
fn what_is_archived_is_in_no_list_and_found_by_its_id() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let old = add(&store, "old", TaskStatus::Closed);
    let mut next = add(&store, "next", TaskStatus::Open);
    let before = store.state().unwrap().record(Kind::Task, &old.id).unwrap().unwrap();
    archive(&store, &old.id);
    let expected = BTreeSet::from([archive_path(Kind::Task, &old.id), entity_path(Kind::Task, &next.id)]);
    assert_eq!(paths(&sandbox), expected);
    let state = store.state().unwrap();
    assert_eq!(state.all::<Task>().unwrap(), [next.clone()]);
    assert_eq!(state.archived::<Task>().unwrap(), std::slice::from_ref(&old));
    assert_eq!(state.require::<Task>(&old.id).unwrap(), old);
    assert_eq!(state.resolve(&old.id.as_str()[..8], None).unwrap().id, old.id);
    assert_eq!(state.archived_titles::<Task>().unwrap()[&old.id], "old");
    assert!(!state.titles::<Task>().unwrap().contains_key(&old.id));
    assert!(state.verify(Timestamp(5_000)).unwrap().broken.is_empty());
    // Nothing of the record but the mark has changed.
    let mut record = state.record(Kind::Task, &old.id).unwrap().unwrap();
    assert_eq!(record.archived(), Some(Timestamp(1_000)));
    record.fields.remove(ARCHIVED);
    record.stamps.remove(ARCHIVED);
    assert_eq!(record, before);

    // It holds nothing back.
    next.after.insert(old.id);
    store.transact(|tx| tx.put(&next)).unwrap();
    let state = store.state().unwrap();
    assert_eq!(state.archived_before(&state.all().unwrap()).unwrap(), std::slice::from_ref(&old));
    assert!(next.is_ready(|id| state.get::<Task>(id).unwrap().map(|task| task.status)));
    let many: BTreeSet<Id> = (0..40).map(Id::from_random).chain([old.id, next.id]).collect();
    assert_eq!(state.several::<Task>(&many).unwrap().len(), 2);

    // Any change brings it back, also one that a transaction sees of itself.
    let seen = store.transact(|tx| {
        let mut task: Task = tx.require(&old.id)?;
        task.labels.insert("again".to_owned());
        tx.put(&task)?;
        Ok::<_, Error>(tx.all::<Task>()?.len())
    });
    assert_eq!(seen.unwrap().value, 2);
    let live = [old.id, next.id].map(|id| entity_path(Kind::Task, &id));
    assert_eq!(paths(&sandbox), BTreeSet::from(live));
    assert!(store.state().unwrap().archived::<Task>().unwrap().is_empty());
    let gone = store.transact(|tx| {
        tx.archive(&old.id)?;
        Ok::<_, Error>(tx.all::<Task>()?.len())
    });
    assert_eq!(gone.unwrap().value, 1);
    assert!(sandbox.git(&["log", "-1", "--format=%B", STATE_REF]).contains(r#""fields":["archived"]"#));
}

#[test]
fn an_id_is_shortened_to_what_is_unique_in_both_places() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let mut twins = Vec::new();
    for id in ["k3v8w0000000000z", "k3v8w0000000001z"] {
        let json = json!({"id": id, "title": id, "status": "closed"});
        let task: Task = serde_json::from_value(json).unwrap();
        store.transact(|tx| tx.put(&task)).unwrap();
        twins.push(task.id);
    }
    archive(&store, &twins[0]);
    let state = store.state().unwrap();
    assert_eq!(state.short_ids().unwrap().shorten(&twins[1]).len(), 15);
    assert_eq!(state.short_ids_of([&twins[1]]).unwrap().shorten(&twins[1]).len(), 15);
    assert!(matches!(state.resolve("k3v8w", None), Err(Error::Ambiguous { .. })));
}

/// A state with these files beside what `store` has, as whoever can push may send it.
fn state_with(store: &Store, files: &[(String, Vec<u8>)]) -> ObjectId {
    let repo = store.repo();
    let edits: Vec<TreeEdit> = files
        .iter()
        .map(|(path, bytes)| (path.clone(), Some((EntryMode::Blob, repo.write_blob(bytes).unwrap()))))
        .collect();
    repo.edit_tree(store.state().unwrap().tree(), &edits).unwrap().0
}

#[test]
fn what_others_send_in_a_wrong_place_is_put_into_the_right_one() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let task = add(&store, "old", TaskStatus::Closed);
    let id = task.id;
    let live = store.state().unwrap().record(Kind::Task, &id).unwrap().unwrap();
    archive(&store, &id);
    let archived = store.state().unwrap().record(Kind::Task, &id).unwrap().unwrap();
    assert_eq!(place(Kind::Task, &id, &live), entity_path(Kind::Task, &id));
    let mut edited = live.clone();
    edited.update(&Task { title: "edited".to_owned(), ..task }, Timestamp(1), "zzzzzz");
    let mut open = archived.clone();
    open.write(Task::FIELDS, "status", Some(json!("open")), Timestamp(1), "zzzzzz");
    let forged = open.mark(Timestamp(1));
    open.write(Task::FIELDS, ARCHIVED, Some(forged), Timestamp(1), "zzzzzz");
    let [tasks, archive] = places(Kind::Task, &id).collect::<Vec<_>>().try_into().unwrap();

    let repo = store.repo();
    let empty = repo.edit_tree::<&str>(None, &[]).unwrap().0;
    let states: Vec<ObjectId> = [
        vec![(archive.clone(), &archived)],
        vec![(tasks.clone(), &live)],
        // In both, as a build that knows no archive leaves it.
        vec![(tasks.clone(), &live), (archive.clone(), &archived)],
        vec![(tasks.clone(), &archived), (archive.clone(), &live)],
        // Without a mark, or with one that is of something else.
        vec![(archive.clone(), &live)],
        vec![(archive.clone(), &edited)],
        vec![(archive.clone(), &open)],
        vec![(tasks.clone(), &archived)],
    ]
    .into_iter()
    .map(|files| {
        let edits: Vec<TreeEdit> = files
            .into_iter()
            .map(|(path, record)| {
                (path, Some((EntryMode::Blob, repo.write_blob(&record.to_bytes()).unwrap())))
            })
            .collect();
        repo.edit_tree(None, &edits).unwrap().0
    })
    .collect();
    let merge = |ours: Option<&ObjectId>, theirs: &ObjectId| Trees::new(repo).merge(ours, theirs).unwrap();
    // Each comes in by a merge, and lies in one place then.
    let sound: Vec<ObjectId> = states.iter().map(|state| merge(None, state)).collect();
    for tree in &sound {
        let files = sandbox.git(&["ls-tree", "-r", "--name-only", tree.as_str()]);
        assert_eq!(files.lines().count(), 1, "{files}");
        let bytes = sandbox.git(&["show", &format!("{tree}:{files}")]);
        let record = Record::parse(bytes.as_bytes()).unwrap();
        assert_eq!(place(Kind::Task, &id, &record), files.trim());
    }
    assert_eq!((&sound[2], &sound[3], &sound[7]), (&sound[0], &sound[0], &sound[0]));
    assert_eq!(sound[4], sound[1]);
    for a in &sound {
        for (b, raw) in sound.iter().zip(&states) {
            let both = merge(Some(a), b);
            assert_eq!(merge(Some(b), a), both, "commutative");
            assert_eq!(merge(Some(a), raw), both, "whatever place it is sent in");
            assert_eq!(merge(Some(&both), b), both, "idempotent");
            for c in &sound {
                assert_eq!(merge(Some(&both), c), merge(Some(a), &merge(Some(b), c)), "associative");
            }
        }
    }
    assert_ne!(sound[0], empty);
}

#[test]
fn what_is_no_record_of_the_archive_is_left_out_and_what_a_newer_build_put_there_stays() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let task = add(&store, "old", TaskStatus::Closed);
    archive(&store, &task.id);
    let good = store.state().unwrap().record(Kind::Task, &task.id).unwrap().unwrap();
    let path = archive_path(Kind::Task, &task.id);
    let theirs = state_with(
        &store,
        &[
            (path.clone(), b"no JSON".to_vec()),
            ("archive/tasks/k/3/k3v8w0000000000z.json".to_owned(), good.to_bytes()),
            ("archive/tasks/k/4/k3v8w0000000000z.json".to_owned(), good.to_bytes()),
            ("archive/agents/k/3/k3v8w0000000000z.json".to_owned(), b"{}".to_vec()),
            ("archive/2027.bin".to_owned(), b"\0future".to_vec()),
        ],
    );
    let state = store.state().unwrap();
    let mut trees = Trees::new(store.repo());
    let merged = trees.merge(state.tree(), &theirs).unwrap();
    let left_out: Vec<&str> = trees.quarantined.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(left_out.len(), 3, "{left_out:?}");
    let files = sandbox.git(&["ls-tree", "-r", "--name-only", merged.as_str(), "archive/"]);
    let kept = ["archive/2027.bin", "archive/agents/k/3/k3v8w0000000000z.json", &path];
    assert_eq!(files.lines().collect::<Vec<_>>(), kept);

    // One that is in both places here is named, read, and in one of them after the next change of it.
    let twice = state_with(&store, &[(entity_path(Kind::Task, &task.id), good.to_bytes())]);
    let commit = sandbox.git(&["commit-tree", "-m", "x", "-p", STATE_REF, twice.as_str()]);
    sandbox.git(&["update-ref", STATE_REF, &commit]);
    let state = store.state().unwrap();
    assert_eq!(state.verify(Timestamp(9_000)).unwrap().broken.len(), 2);
    assert_eq!(state.find(task.id.as_str(), None).unwrap().len(), 1);
    let changed = Task { title: "again".to_owned(), ..task };
    store.transact(|tx| tx.put(&changed)).unwrap();
    assert_eq!(paths(&sandbox), BTreeSet::from([entity_path(Kind::Task, &changed.id)]));
}

#[test]
fn archiving_is_an_operation_that_goes_back() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let tasks = ["a", "b"].map(|title| add(&store, title, TaskStatus::Closed));
    let gc = store.with_operation(Operation::new("gc").unwrap());
    for task in &tasks {
        archive(&gc, &task.id);
    }
    let state = store.state().unwrap();
    let logged = state.operations(1).unwrap().remove(0);
    let changes = state.changes(&logged).unwrap();
    assert_eq!(changes.len(), 2);
    let reversal = Reversal::plan(&state, &changes).unwrap();
    assert!(reversal.conflicts.is_empty() && reversal.deleted.is_empty(), "{reversal:?}");
    store.transact(|tx| tx.revert(&reversal, "Ada", &logged.id)).unwrap();
    let state = store.state().unwrap();
    assert_eq!(state.all::<Task>().unwrap().len(), 2);
    assert!(state.archived::<Task>().unwrap().is_empty());
}

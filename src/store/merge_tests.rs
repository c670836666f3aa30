//! The laws of merging, on histories that clones with wrong clocks could have written.

use super::absorb::{Incoming, Trees};
use super::merge::merge;
use super::stamp::{MAX_AT, MAX_COUNTER};
use super::*;
use crate::git::testing::Sandbox;
use crate::git::{EntryMode, TreeEdit};
use crate::model::{Agent, Kind, ObjectId, Task, TaskStatus, Timestamp};
use crate::process::ManualClock;
use proptest::prelude::*;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};

const DAY: u64 = 86_400_000;

fn task() -> Task {
    serde_json::from_value(json!({"id": "k3v8w0000000000z", "title": "t"})).unwrap()
}

/// What one clone does next.
#[derive(Debug, Clone)]
enum Step {
    Title(u8),
    Body(u8),
    Status(u8),
    Label(u8, bool),
    Foreign(u8),
    Count(u8),
    Fence,
    Result(u8),
    Delete(bool),
    Archive,
    Pull(usize),
}

fn steps() -> impl Strategy<Value = Vec<(usize, u64, Step)>> {
    let step = prop_oneof![
        3 => any::<u8>().prop_map(Step::Title),
        2 => (0..3_u8).prop_map(Step::Body),
        2 => (0..3_u8).prop_map(Step::Status),
        3 => (0..4_u8, any::<bool>()).prop_map(|(label, there)| Step::Label(label, there)),
        1 => any::<u8>().prop_map(Step::Foreign),
        2 => (1..4_u8).prop_map(Step::Count),
        1 => Just(Step::Fence),
        2 => any::<u8>().prop_map(Step::Result),
        1 => any::<bool>().prop_map(Step::Delete),
        2 => Just(Step::Archive),
        4 => (0..5_usize).prop_map(Step::Pull),
    ];
    proptest::collection::vec((0..5_usize, 0..50_u64, step), 1..40)
}

/// Plays a history on `clones` clones, the clocks of which differ by up to a day. Returns what each has, and the
/// newest stamp that any of them ever wrote of each field.
fn play(clones: usize, steps: &[(usize, u64, Step)]) -> (Vec<Record>, BTreeMap<String, Stamp>) {
    let mut first = Record::default();
    first.update(&task(), Timestamp(1), "m9");
    let mut records = vec![first; clones];
    let mut newest = BTreeMap::<String, Stamp>::new();
    let mut time = 2 * DAY;
    for (who, later, step) in steps {
        time += later;
        let who = who % clones;
        let now = Timestamp(time + DAY / 4 * who as u64 - DAY / 2);
        let actor = format!("m{who}");
        let mut entity: Task = records[who].entity().unwrap();
        match step {
            Step::Title(n) => entity.title = format!("title {n}"),
            Step::Body(n) => entity.body = "x".repeat(usize::from(*n)),
            Step::Status(n) => {
                entity.status = [TaskStatus::Open, TaskStatus::Started, TaskStatus::Closed][usize::from(*n)];
            }
            Step::Label(n, true) => drop(entity.labels.insert(format!("l{n}:x"))),
            Step::Label(n, false) => drop(entity.labels.remove(&format!("l{n}:x"))),
            Step::Foreign(n) => {
                let stamp = Stamp::after(now, &actor, records[who].stamp("foreign"));
                records[who].stamps.insert("foreign".into(), stamp);
                records[who].fields.insert("foreign".into(), json!({"a": n}));
            }
            // A counter is a map in which each machine counts for itself; its value is the sum.
            Step::Count(n) => {
                let key = format!("tries:{actor}");
                let stamp = Stamp::after(now, &actor, records[who].stamp(&key));
                records[who].stamps.insert(key, stamp);
                let tries = records[who].fields.entry("tries").or_insert_with(|| json!({}));
                tries[&actor] = json!(tries[&actor].as_u64().unwrap_or(0) + u64::from(*n));
            }
            Step::Fence => {
                let fence = records[who].fields.get("fence").and_then(serde_json::Value::as_i64).unwrap_or(0);
                let stamp = Stamp::after(now, &actor, records[who].stamp("fence"));
                records[who].stamps.insert("fence".into(), stamp);
                records[who].fields.insert("fence".into(), json!(fence + 1));
                entity.status = TaskStatus::Started;
            }
            Step::Result(n) => entity.result = (*n > 0).then(|| format!("result {n}")),
            Step::Delete(there) => {
                let value = there.then(|| json!({"by": actor, "at": now}));
                records[who].write(Task::FIELDS, "_d", value, now, &actor);
            }
            Step::Archive => {
                let mark = records[who].mark(now);
                records[who].write(Task::FIELDS, "_a", Some(mark), now, &actor);
                let closed = entity.status == TaskStatus::Closed && !records[who].is_deleted();
                assert_eq!(records[who].is_archived(), closed);
            }
            Step::Pull(from) => {
                records[who] = merge(Task::FIELDS, &records[who], &records[from % clones].clone());
                continue;
            }
        }
        records[who].update(&entity, now, &actor);
        for (key, stamp) in &records[who].stamps {
            if newest.get(key).is_none_or(|old| old < stamp) {
                newest.insert(key.clone(), stamp.clone());
            }
        }
    }
    (records, newest)
}

/// A record as a build without an end of times wrote it whose clock went over that end `since` the first day, and then
/// so many times `faster`.
fn late(record: &Record, since: u64, faster: u64) -> Record {
    let mut record = record.clone();
    let begin = DAY + since;
    let late = |stamp: &Stamp| {
        let late = stamp.at.0.checked_sub(begin).map(|span| MAX_AT.0 + span * faster);
        Stamp { at: Timestamp(late.unwrap_or(stamp.at.0)), ..stamp.clone() }
    };
    for stamp in record.stamps.values_mut() {
        *stamp = late(stamp);
    }
    for rivals in record.rivals.values_mut() {
        rivals.losing = rivals.losing.iter().map(|(stamp, text)| (late(stamp), text.clone())).collect();
        rivals.seen = rivals.seen.iter().map(late).collect();
    }
    record
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merging_is_commutative_associative_and_idempotent(steps in steps()) {
        let (r, _) = play(3, &steps);
        let m = |a: &Record, b: &Record| merge(Task::FIELDS, a, b);
        prop_assert_eq!(m(&r[0], &r[1]).to_bytes(), m(&r[1], &r[0]).to_bytes());
        prop_assert_eq!(
            m(&m(&r[0], &r[1]), &r[2]).to_bytes(),
            m(&r[0], &m(&r[1], &r[2])).to_bytes()
        );
        prop_assert_eq!(m(&r[0], &r[0]).to_bytes(), r[0].to_bytes());
        let once = m(&r[0], &r[1]);
        prop_assert_eq!(m(&once, &r[1]).to_bytes(), once.to_bytes());
        prop_assert_eq!(Record::parse(&once.to_bytes()).unwrap().is_archived(), once.is_archived());
        prop_assert_eq!(Record::parse(&once.to_bytes()).unwrap(), once);
    }

    #[test]
    fn what_a_clock_after_all_times_wrote_merges_alike_everywhere(
        steps in steps(),
        since in 0..DAY,
        faster in prop_oneof![Just(1_u64), 1..1_000_000_000_u64],
    ) {
        let (played, _) = play(3, &steps);
        let written: Vec<Vec<u8>> = played.iter().map(|record| late(record, since, faster).to_bytes()).collect();
        let r: Vec<Record> = written.iter().map(|bytes| Record::parse(bytes).unwrap()).collect();
        let m = |a: &Record, b: &Record| merge(Task::FIELDS, a, b);
        for one in &r {
            prop_assert!(one.every_stamp().all(|stamp| stamp.at <= MAX_AT && stamp.is_sane()));
            prop_assert_eq!(&Record::parse(&one.to_bytes()).unwrap(), one, "written anew it says the same");
            prop_assert_eq!(m(one, one).to_bytes(), one.to_bytes());
        }
        prop_assert_eq!(m(&r[0], &r[1]).to_bytes(), m(&r[1], &r[0]).to_bytes());
        let ends = [[0, 1, 2], [1, 2, 0], [2, 0, 1]].map(|[a, b, c]| m(&m(&r[a], &r[b]), &r[c]).to_bytes());
        prop_assert!(ends.iter().all(|end| *end == ends[0]));
        let once = m(&r[0], &r[1]);
        prop_assert_eq!(m(&once, &r[1]).to_bytes(), once.to_bytes());
        // As long as the span has room nothing is taken for something else.
        if faster == 1 && since > DAY - (1 << 23) {
            let end = |of: &[Record]| m(&m(&of[0], &of[1]), &of[2]).fields;
            prop_assert_eq!(end(&r), end(&played));
        }
    }

    #[test]
    fn every_order_of_syncs_ends_alike_and_loses_nothing_newer(
        clones in 2..6_usize,
        steps in steps(),
        order in proptest::collection::vec((0..5_usize, 0..5_usize), 0..12),
    ) {
        let (records, newest) = play(clones, &steps);
        let all = |order: &[(usize, usize)]| {
            let mut records = records.clone();
            // Any syncs first, then round and round: a chain passes everything on in both directions.
            let chain = (1..clones).map(|n| (n - 1, n)).chain((1..clones).rev().map(|n| (n - 1, n)));
            for (a, b) in order.iter().map(|(a, b)| (a % clones, b % clones)).chain(chain) {
                let merged = merge(Task::FIELDS, &records[a], &records[b]);
                (records[a], records[b]) = (merged.clone(), merged);
            }
            for other in &records[1..] {
                assert_eq!(other.to_bytes(), records[0].to_bytes());
            }
            records.swap_remove(0)
        };
        let end = all(&order);
        prop_assert_eq!(all(&[]).to_bytes(), end.to_bytes());
        for (key, stamp) in &newest {
            // A fence outranks the clock.
            if !["status", "fence", "result"].contains(&key.as_str()) {
                prop_assert_eq!(end.stamp(key), Some(stamp), "{}", key);
            }
        }
        for actor in (0..clones).map(|who| format!("m{who}")) {
            let count = |record: &Record| record.fields.get("tries").and_then(|tries| tries[&actor].as_u64());
            prop_assert_eq!(count(&end), records.iter().filter_map(count).max(), "no count is lost");
        }
        prop_assert!(end.entity::<Task>().is_ok());
    }
}

fn titled(record: &Record, title: &str, now: u64, actor: &str) -> Record {
    let mut record = record.clone();
    let mut task: Task = record.entity().unwrap();
    title.clone_into(&mut task.title);
    record.update(&task, Timestamp(now), actor);
    record
}

#[test]
fn a_text_that_lost_unseen_is_kept_until_somebody_writes_over_it() {
    let mut first = Record::default();
    first.update(&task(), Timestamp(1), "m0");
    let a = titled(&first, "mine", 10, "m1");
    let b = titled(&first, "yours", 20, "m2");
    let both = merge(Task::FIELDS, &a, &b);
    assert_eq!(both.entity::<Task>().unwrap().title, "yours");
    assert_eq!(both.losing("title").iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["mine"]);
    assert_eq!(both.contested().collect::<Vec<_>>(), ["title"]);

    let settled = titled(&both, "ours", 15, "m1");
    assert!(settled.losing("title").is_empty());
    for old in [&first, &a, &b, &both] {
        let again = merge(Task::FIELDS, old, &settled);
        assert_eq!(again.to_bytes(), settled.to_bytes(), "what was seen does not come back");
    }
    let unseen = titled(&a, "mine, better", 30, "m1");
    let merged = merge(Task::FIELDS, &unseen, &b);
    assert_eq!(merged.losing("title").iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["yours"]);
}

#[test]
fn the_greater_fence_decides_whatever_the_clocks_say() {
    let mut first = Record::default();
    first.update(&task(), Timestamp(1), "m0");
    let mut holder = first.clone();
    let mut entity: Task = holder.entity().unwrap();
    entity.fence = 2;
    entity.status = TaskStatus::Started;
    holder.update(&entity, Timestamp(10), "m1");
    let mut ousted = first;
    entity.fence = 1;
    entity.status = TaskStatus::Closed;
    entity.result = Some("mine".into());
    ousted.update(&entity, Timestamp(DAY), "m2");
    let merged = merge(Task::FIELDS, &ousted, &holder);
    let task: Task = merged.entity().unwrap();
    assert_eq!((task.status, task.result), (TaskStatus::Started, None));
    assert_eq!(merged.losing("result").iter().map(|(_, text)| *text).collect::<Vec<_>>(), ["mine"]);
    assert_eq!(merged.fields["fence"], json!(2));
}

#[test]
fn maps_merge_by_key_and_unknown_fields_by_the_shape_of_their_stamps() {
    let record = |text: serde_json::Value| Record::parse(text.to_string().as_bytes()).unwrap();
    let a = record(json!({
        "runs": {"1": {"started": 1}, "2": {"started": 5}}, "tags": ["x"], "odd": 1,
        "_s": {"1-0-a": ["runs:1", "tags:x"], "5-0-a": ["runs:2", "odd"], "9-0-a": ["tags:y"]}
    }));
    let b = record(json!({
        "runs": {"1": {"started": 1, "ended": 3}}, "tags": ["y", "z"], "odd": 2,
        "_s": {"3-0-b": ["runs:1", "tags:y", "tags:z"], "4-0-b": ["odd"]}
    }));
    let merged = merge(Agent::FIELDS, &a, &b);
    assert_eq!(merged.fields["runs"], json!({"1": {"started": 1, "ended": 3}, "2": {"started": 5}}));
    assert_eq!(merged.fields["tags"], json!(["x", "z"]), "y was removed later than it was added");
    assert_eq!(merged.fields["odd"], json!(1));
    assert_eq!(merge(Agent::FIELDS, &b, &a).to_bytes(), merged.to_bytes());
}

fn store(sandbox: &Sandbox, now: u64) -> Store {
    let repo = sandbox.open();
    let author = repo.identity();
    Store::open(repo, std::sync::Arc::new(ManualClock::new(Timestamp(now))), author)
}

fn add(store: &Store, title: &str) -> Id {
    let id = store.new_id().unwrap();
    let task = Task { id, title: title.to_owned(), ..task() };
    store.transact(|tx| tx.put(&task)).unwrap();
    id
}

/// Brings the state of `from` over as `refs/from`, as a fetch would.
fn fetch(sandbox: &Sandbox, from: &Sandbox) -> Incoming {
    let path = from.path();
    let spec = "+refs/orchestra/state:refs/from/state";
    sandbox.git(&["fetch", "-q", "--no-tags", path.to_str().unwrap(), spec]);
    Incoming { state: sandbox.open().find_ref("refs/from/state").unwrap(), notes: Vec::new() }
}

#[test]
fn two_machines_make_the_same_commit() {
    for format in [["--object-format=sha1"], ["--object-format=sha256"]] {
        let (left, right) = (Sandbox::new(&format), Sandbox::new(&format));
        let (a, b) = (store(&left, DAY), store(&right, 2 * DAY));
        add(&a, "left");
        let shared = add(&b, "right");
        let (to_a, to_b) = (fetch(&left, &right), fetch(&right, &left));
        let absorbed = a.absorb(&to_a).unwrap();
        assert_eq!(absorbed.entities, BTreeSet::from([(Kind::Task, shared)]));
        b.absorb(&to_b).unwrap();
        let tip = |store: &Store| store.state().unwrap().commit().cloned().unwrap();
        assert_eq!(tip(&a), tip(&b));
        assert_eq!(a.state().unwrap().all::<Task>().unwrap().len(), 2);
        left.git(&["fsck", "--strict"]);

        assert_eq!(a.absorb(&to_a).unwrap().moved, [""; 0], "once is enough");
        add(&b, "later");
        let newer = fetch(&left, &right);
        a.absorb(&newer).unwrap();
        assert_eq!(tip(&a), newer.state.unwrap(), "what follows is taken as it is");
    }
}

/// Puts a record into the state of a machine as it stands, as another build would.
fn plant(sandbox: &Sandbox, store: &Store, kind: Kind, id: &Id, record: &Record) {
    let state = store.state().unwrap();
    let blob = store.repo().write_blob(&record.to_bytes()).unwrap();
    let edit: TreeEdit = (layout::entity_path(kind, id), Some((EntryMode::Blob, blob)));
    let (tree, _) = store.repo().edit_tree(state.tree(), &[edit]).unwrap();
    let tip = state.commit().unwrap().to_string();
    let commit = sandbox.git(&["commit-tree", "-p", &tip, "-m", "planted", tree.as_str()]);
    sandbox.git(&["update-ref", STATE_REF, &commit]);
}

/// A task's title with another stamp.
fn restamped(store: &Store, id: &Id, stamp: &str) -> Record {
    let mut record = store.state().unwrap().record(Kind::Task, id).unwrap().unwrap();
    record.stamps.insert("title".to_owned(), stamp.parse().unwrap());
    record
}

#[test]
fn what_a_wrong_clock_wrote_is_the_same_commit_on_both_sides() {
    let (left, right) = (Sandbox::new(&[]), Sandbox::new(&[]));
    let (a, b) = (store(&left, DAY), store(&right, 2 * DAY));
    let id = add(&a, "late");
    let late = restamped(&a, &id, &format!("5680281600000-0-{}", a.machine().unwrap()));
    let before = a.state().unwrap().commit().cloned().unwrap();
    plant(&left, &a, Kind::Task, &id, &late);
    let planted = a.state().unwrap().commit().cloned().unwrap();
    assert!(a.lost_between(&before, &planted).unwrap().is_empty(), "it says more than what was there");
    assert_eq!(a.lost_between(&planted, &before).unwrap().len(), 1);
    add(&b, "other");
    let (to_a, to_b) = (fetch(&left, &right), fetch(&right, &left));
    a.absorb(&to_a).unwrap();
    assert!(b.absorb(&to_b).unwrap().quarantined.is_empty());
    let tip = |store: &Store| store.state().unwrap().commit().cloned().unwrap();
    assert_eq!(tip(&a), tip(&b));
    let unsound = |store: &Store| store.state().unwrap().verify(Timestamp(DAY)).unwrap().broken;
    assert_eq!((unsound(&a), unsound(&b)), (Vec::new(), Vec::new()));
    // Written apart on top of that.
    let write = |store: &Store, title: &str| {
        let mut task: Task = store.state().unwrap().require(&id).unwrap();
        task.title = title.to_owned();
        store.transact(|tx| tx.put(&task)).unwrap();
    };
    write(&a, "by a");
    write(&b, "by b");
    let (to_a, to_b) = (fetch(&left, &right), fetch(&right, &left));
    a.absorb(&to_a).unwrap();
    b.absorb(&to_b).unwrap();
    assert_eq!(tip(&a), tip(&b));
    let record = a.state().unwrap().record(Kind::Task, &id).unwrap().unwrap();
    assert_eq!(record.losing("title").len(), 1, "neither of the two is lost");
}

#[test]
fn a_counter_at_its_end_stops_no_write_but_the_one_that_nothing_comes_after() {
    let (left, right) = (Sandbox::new(&[]), Sandbox::new(&[]));
    let (a, b) = (store(&left, DAY), store(&right, DAY));
    let id = add(&a, "old");
    let full = restamped(&a, &id, &format!("{}-{MAX_COUNTER}-zz", 3 * DAY));
    plant(&left, &a, Kind::Task, &id, &full);
    let write = |title: &str| {
        let mut task: Task = a.state().unwrap().require(&id).unwrap();
        task.title = title.to_owned();
        a.transact(|tx| tx.put(&task))
    };
    write("new").unwrap();
    let absorbed = b.absorb(&fetch(&right, &left)).unwrap();
    assert!(absorbed.quarantined.is_empty(), "{:?}", absorbed.quarantined);
    assert_eq!(b.state().unwrap().require::<Task>(&id).unwrap().title, "new");

    let last = restamped(&a, &id, &format!("{}-{MAX_COUNTER}-zz", MAX_AT.0));
    plant(&left, &a, Kind::Task, &id, &last);
    let before = a.state().unwrap().commit().cloned();
    let error = write("newest").unwrap_err();
    assert!(matches!(error, Error::Unwritable { kind: Kind::Task, id: of } if of == id), "{error}");
    assert_eq!(a.state().unwrap().commit().cloned(), before);
    // All the rest of it can be written.
    let mut task: Task = a.state().unwrap().require(&id).unwrap();
    task.status = TaskStatus::Closed;
    a.transact(|tx| tx.put(&task)).unwrap();
}

#[test]
fn a_write_that_no_other_machine_would_take_in_is_refused() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox, DAY);
    let id = add(&store, "crowded");
    let mut record = store.state().unwrap().record(Kind::Task, &id).unwrap().unwrap();
    record.fields.insert("body".to_owned(), json!("short"));
    for machine in 1..=4_u64 {
        let text = json!(machine.to_string().repeat(1_000_000));
        let lost = format!("{machine}-0-m{machine}").parse().unwrap();
        record.rivals.entry("body".to_owned()).or_default().losing.insert(lost, text);
    }
    plant(&sandbox, &store, Kind::Task, &id, &record);
    let before = store.state().unwrap().commit().cloned();
    let write = |change: &dyn Fn(&mut Task)| {
        let mut task: Task = store.state().unwrap().require(&id).unwrap();
        change(&mut task);
        store.transact(|tx| tx.put(&task)).map(drop)
    };
    let long = "t".repeat(300_000);
    let error = write(&|task| task.title.clone_from(&long)).unwrap_err();
    assert!(matches!(error, Error::TooLarge { limit: absorb::MAX_RECORD, .. }), "{error}");
    assert_eq!(store.state().unwrap().commit().cloned(), before);
    // There is room for less, and for more by whoever has seen what lost.
    write(&|task| task.title = "short".to_owned()).unwrap();
    write(&|task| task.body = "all of them".to_owned()).unwrap();
    write(&|task| task.title.clone_from(&long)).unwrap();
}

#[test]
fn what_is_hostile_is_left_out_and_said() {
    let (left, right) = (Sandbox::new(&[]), Sandbox::new(&[]));
    let (a, b) = (store(&left, DAY), store(&right, DAY));
    add(&a, "mine");
    let good = add(&b, "good");
    let agent = b.new_id().unwrap();
    let repo = b.repo();
    let record = json!({
        "id": agent, "name": "x", "profile": "p", "program": "command", "branch": "refs/heads/main",
        "base": "0".repeat(40),
    });
    let blob = repo.write_blob(record.to_string().as_bytes()).unwrap();
    let text = repo.write_blob(b"{}").unwrap();
    let put = |path: &str, blob: &ObjectId| -> TreeEdit {
        (path.to_owned(), Some((EntryMode::Blob, blob.clone())))
    };
    let state = b.state().unwrap();
    let edits = [
        put(&layout::entity_path(Kind::Agent, &agent), &blob),
        put(&layout::entity_path(Kind::Finding, &agent), &text),
        put("tasks/k/3/\u{1b}[2J.json", &text),
        put("tasks/..json", &text),
        put("later/a/b.json", &text),
        ("zz".to_owned(), Some((EntryMode::Link, text.clone()))),
    ];
    let (tree, _) = repo.edit_tree(state.tree(), &edits).unwrap();
    let tip = state.commit().unwrap().to_string();
    let commit = right.git(&["commit-tree", "-p", &tip, "-m", "evil", tree.as_str()]);
    right.git(&["update-ref", STATE_REF, &commit]);

    let absorbed = a.absorb(&fetch(&left, &right)).unwrap();
    assert_eq!(absorbed.entities, BTreeSet::from([(Kind::Task, good)]));
    let said: Vec<_> = absorbed.quarantined.iter().map(|one| one.path.as_str()).collect();
    assert_eq!(said.len(), 5, "{said:?}");
    assert!(said.iter().any(|path| path.contains(r"\u{1b}[2J")), "{said:?}");
    let state = a.state().unwrap();
    assert!(state.all::<Agent>().unwrap().is_empty());
    assert_eq!(state.all::<Task>().unwrap().len(), 2);
    let files = left.git(&["ls-tree", "-r", "--name-only", STATE_REF]);
    assert!(files.contains("later/a/b.json"), "kinds of newer builds survive: {files}");
    assert!(a.absorb(&fetch(&left, &right)).unwrap().moved.is_empty(), "and it is history now");
}

#[test]
fn a_state_of_a_newer_format_is_refused_whole() {
    let (left, right) = (Sandbox::new(&[]), Sandbox::new(&[]));
    let (a, b) = (store(&left, DAY), store(&right, DAY));
    add(&a, "mine");
    add(&b, "theirs");
    let repo = b.repo();
    let format = json!({"format": 2, "min_read": 1, "min_write": 2, "epoch": 0, "floor": 0});
    let blob = repo.write_blob(format.to_string().as_bytes()).unwrap();
    let edit: TreeEdit = ("format.json".to_owned(), Some((EntryMode::Blob, blob)));
    let (tree, _) = repo.edit_tree(b.state().unwrap().tree(), &[edit]).unwrap();
    let commit = right.git(&["commit-tree", "-m", "newer", tree.as_str()]);
    right.git(&["update-ref", STATE_REF, &commit]);
    let before = a.state().unwrap().commit().cloned();
    assert!(matches!(a.absorb(&fetch(&left, &right)), Err(Error::Format { what: "write", .. })));
    assert_eq!(a.state().unwrap().commit().cloned(), before);
}

#[test]
fn directories_that_are_equal_are_not_read() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox, DAY);
    for _ in 0..20 {
        add(&store, "t");
    }
    let before = store.state().unwrap().tree().cloned().unwrap();
    let id = add(&store, "one more");
    let after = store.state().unwrap().tree().cloned().unwrap();
    let mut trees = Trees::new(store.repo());
    assert_eq!(trees.merge(Some(&before), &after).unwrap(), after);
    assert_eq!(trees.entities, BTreeSet::from([(Kind::Task, id)]));
}

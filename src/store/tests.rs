//! The store against real repositories: many writers, stale locks, old and foreign content.

use super::*;
use crate::git::testing::{FORMATS, Sandbox};
use crate::git::{Expected, NoteEdit, RefEdit};
use crate::model::{Kind, Severity, Task, TaskStatus, Timestamp};
use crate::process::{ManualClock, SystemClock};
use std::error::Error as _;

fn store(sandbox: &Sandbox) -> Store {
    let repo = sandbox.open();
    let author = repo.identity();
    Store::open(repo, Arc::new(SystemClock), author)
}

fn task(id: Id, title: &str) -> Task {
    serde_json::from_value(serde_json::json!({"id": id.as_str(), "title": title})).unwrap()
}

fn add(store: &Store, title: &str) -> Id {
    let id = store.new_id().unwrap();
    let done = store.transact(|tx| {
        tx.describe(format!("task {id}: add"));
        tx.put(&task(id, title))
    });
    done.unwrap();
    id
}

#[test]
fn state_is_readable_with_plain_git_in_every_format() {
    for format in FORMATS {
        let sandbox = Sandbox::new(&format);
        let store = store(&sandbox);
        assert!(!store.is_initialised().unwrap());
        assert!(store.state().unwrap().all::<Task>().unwrap().is_empty());
        let id = add(&store, "Parse headers");
        let path = format!("refs/orchestra/state:{}", layout::entity_path(Kind::Task, &id));
        assert!(sandbox.git(&["show", &path]).contains("Parse headers"), "{format:?}");
        let log = sandbox.git(&["log", "--format=%s|%an|%(trailers:key=Orchestra-Op,valueonly)", STATE_REF]);
        assert!(
            log.starts_with(&format!("task {id}: add|Ada|{{\"fields\":[\"changed\",\"created\"")),
            "{log}"
        );
        assert!(log.ends_with("orchestra: init|Ada|"), "{log}");
        sandbox.git(&["fsck", "--strict"]);
        assert_eq!(sandbox.git(&["status", "--porcelain"]), "");

        let state = store.state().unwrap();
        assert_eq!(state.get::<Task>(&id).unwrap().unwrap().title, "Parse headers");
        assert_eq!(state.all::<Task>().unwrap().len(), 1);
        assert_eq!(state.resolve(&id.as_str()[..5], None).unwrap(), Found { kind: Kind::Task, id });
        assert!(matches!(state.resolve("zzzz", None), Err(Error::NotFound { .. })));
    }
}

#[test]
fn what_others_would_not_take_in_is_refused_when_it_is_written() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let id = add(&store, "One");
    let before = sandbox.git(&["for-each-ref"]);
    let long = "x".repeat(2 << 20);
    let done: Result<_, Error> = store.transact(|tx| {
        let mut task: Task = tx.require(&id)?;
        task.body = long.clone();
        tx.put(&task)
    });
    let text = done.unwrap_err().to_string();
    assert!(text.contains(&format!("write task {}: it would be 2097", &id.as_str()[..6])), "{text}");

    sandbox.git(&["commit", "-q", "--allow-empty", "-m", "one"]);
    let commit = store.repo().resolve_commit("HEAD").unwrap();
    let before = before + "\n" + sandbox.git(&["for-each-ref", "refs/heads"]).as_str();
    let done: Result<_, Error> = store.transact(|tx| {
        tx.note(NoteEdit {
            notes_ref: "refs/notes/orchestra/findings".to_owned(),
            commit: commit.clone(),
            line: long.clone(),
        });
        Ok(())
    });
    let text = done.unwrap_err().source().unwrap().to_string();
    assert!(text.contains(&format!("write the note of {commit}: it would be 2097")), "{text}");
    let after = sandbox.git(&["for-each-ref"]);
    assert!(after.lines().all(|line| before.contains(line)), "nothing was written: {after}");
}

#[test]
fn a_change_that_changes_nothing_makes_no_commit() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let id = add(&store, "One");
    let before = store.state().unwrap().commit().cloned();
    let done = store.transact(|tx| {
        let task = tx.require::<Task>(&id)?;
        tx.put(&task)
    });
    assert_eq!(done.unwrap().commit, before);
    let refused = store.transact(|tx| {
        let mut task = tx.require::<Task>(&id)?;
        task.title = "Two".into();
        tx.put(&task)?;
        Err::<(), _>(Error::Refused("no".into()))
    });
    assert_eq!(refused.unwrap_err().to_string(), "no");
    assert_eq!(store.state().unwrap().commit().cloned(), before);
}

#[test]
fn writers_in_parallel_lose_nothing() {
    let sandbox = Sandbox::new(&[]);
    let first = store(&sandbox);
    let counter = add(&first, "counter");
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let store = store(&sandbox);
            scope.spawn(move || {
                for n in 0..10 {
                    add(&store, &format!("task {writer}.{n}"));
                    let bump = store.transact(|tx| {
                        let mut task = tx.require::<Task>(&counter)?;
                        task.priority += 1;
                        tx.put(&task)
                    });
                    bump.unwrap();
                }
            });
        }
    });
    let state = first.state().unwrap();
    assert_eq!(state.all::<Task>().unwrap().len(), 41);
    assert_eq!(state.get::<Task>(&counter).unwrap().unwrap().priority, 40, "no update was lost");
    assert_eq!(sandbox.git(&["rev-list", "--count", STATE_REF]), "82");
}

#[test]
fn a_lock_that_a_dead_process_left_is_broken_and_the_users_is_not() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let id = add(&store, "One");
    let lock = store.repo().common_dir().join("refs/orchestra/state.lock");
    std::fs::write(&lock, "").unwrap();
    add(&store, "Two");
    assert!(!lock.exists());

    let theirs = store.repo().common_dir().join("refs/heads/topic.lock");
    std::fs::write(&theirs, "").unwrap();
    let head = store.repo().head().unwrap().commit;
    let before = store.state().unwrap().commit().cloned();
    let refused = store.transact(|tx| {
        let mut task = tx.require::<Task>(&id)?;
        task.status = TaskStatus::Closed;
        tx.put(&task)?;
        tx.move_ref(RefEdit { name: "refs/heads/topic".into(), new: head.clone(), expected: None.into() });
        Ok::<_, Error>(())
    });
    assert!(matches!(refused, Err(Error::Locked { .. })), "{refused:?}");
    assert!(theirs.exists());
    assert_eq!(store.state().unwrap().commit().cloned(), before, "all refs move or none");
}

#[test]
fn notes_and_other_refs_move_with_the_state() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let head = store.repo().head().unwrap().commit.unwrap();
    let id = store.new_id().unwrap();
    let agent = store.new_id().unwrap();
    let journal = b"{\"n\":1,\"c\":\"00000000\",\"e\":{}}\n";
    let kept = store.transact(|tx| {
        tx.put(&task(id, "One"))?;
        let (notes_ref, line) = (FINDINGS_NOTES.to_owned(), "high: mind the gap".to_owned());
        tx.note(NoteEdit { notes_ref, commit: head.clone(), line });
        tx.move_ref(RefEdit {
            name: "refs/heads/topic".into(),
            new: Some(head.clone()),
            expected: None.into(),
        });
        tx.keep_transcript(&agent, 1, &journal[..])
    });
    let tree = kept.unwrap().value;
    assert_eq!(sandbox.git(&["log", "-1", "--format=%N", "--notes=orchestra/*"]), "high: mind the gap");
    assert_eq!(sandbox.git(&["rev-parse", "topic"]), head.as_str());
    assert_eq!(store.state().unwrap().transcript(store.repo(), &tree).unwrap(), journal);
    let logs = store.repo().list_refs("refs/orchestra/log/").unwrap();
    assert_eq!(logs.len(), 1);
    assert_eq!(sandbox.git(&["ls-tree", "-r", "--name-only", &logs[0].0]), format!("{agent}/001/0001.jsonl"));
}

#[test]
fn a_state_of_a_newer_format_is_refused_in_one_sentence() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    add(&store, "One");
    let format = br#"{"format": 3, "min_read": 1, "min_write": 3, "epoch": 0, "floor": 0}"#;
    replace(&store, "format.json", format);
    assert_eq!(store.state().unwrap().all::<Task>().unwrap().len(), 1);
    let write = store.transact(|tx| tx.put(&task(Id::from_random(3), "Two"))).unwrap_err();
    assert_eq!(
        write.to_string(),
        "write this repository's orchestra: it has format 3, and this build knows format 1"
    );
    replace(&store, "format.json", &format.to_vec().replace_first(b"\"min_read\": 1", b"\"min_read\": 2"));
    assert!(matches!(store.state(), Err(Error::Format { what: "read", found: 2, .. })));
}

#[test]
fn foreign_files_survive_and_broken_ones_are_named() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let id = add(&store, "One");
    replace(&store, "archive/2027.bin", b"\0future");
    let second = add(&store, "Two");
    assert_eq!(sandbox.git(&["show", "refs/orchestra/state:archive/2027.bin"]).len(), 7);
    let path = layout::entity_path(Kind::Task, &id);
    replace(&store, &path, b"{ not json");
    let state = store.state().unwrap();
    assert!(state.get::<Task>(&second).unwrap().is_some());
    let error = state.get::<Task>(&id).unwrap_err();
    assert!(error.to_string().contains(&path), "{error}");
    // One bad record hides no other, whether it is no JSON or no task.
    for content in [&b"{ not json"[..], b"{\"id\": 7}\n"] {
        replace(&store, &path, content);
        let state = store.state().unwrap();
        let listed: Vec<Id> = state.all::<Task>().unwrap().into_iter().map(|task| task.id).collect();
        assert_eq!(listed, [second]);
        assert_eq!(state.several::<Task>(&[id, second].into()).unwrap().len(), 1);
        let left_out: Vec<String> = store.left_out().into_iter().map(|(path, _)| path).collect();
        assert_eq!(left_out, [path.as_str()]);
    }
}

#[test]
fn the_cache_never_changes_an_answer() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let ids: Vec<Id> = (0..20).map(|n| format!("k3v8w{n:02}00000000z").parse().unwrap()).collect();
    let put = |id: Id, title: &str| store.transact(|tx| tx.put(&task(id, title))).unwrap();
    for id in &ids {
        put(*id, "title");
    }
    let file = store.repo().local_dir().join("cache/tasks-k");
    let state = || store.state().unwrap();
    let all = || state().all::<Task>().unwrap();
    let fresh = all();
    let whole = std::fs::read(&file).unwrap();
    let flipped = |at: usize| {
        let mut bytes = whole.clone();
        bytes[at] ^= 1;
        bytes
    };
    let mut doubtful =
        vec![Vec::new(), b"garbage".to_vec(), flipped(30), flipped(200), flipped(whole.len() - 9)];
    doubtful.extend([5, whole.len() / 2, whole.len() - 3].map(|cut| whole[..cut].to_vec()));
    doubtful.extend([vec![0; whole.len()], [&whole[..], b"more"].concat()]);
    for content in doubtful {
        std::fs::write(&file, &content).unwrap();
        assert_eq!(state().short_ids().unwrap().shorten(&ids[1]), "k3v8w01");
        std::fs::write(&file, &content).unwrap();
        assert_eq!(all(), fresh);
        assert_eq!(std::fs::read(&file).unwrap(), whole, "and it is mended");
    }

    // Brought forward by what changed, and never by more: a file made anew from nothing is the same.
    let mut changed: Task = state().require(&ids[3]).unwrap();
    changed.title = "changed".into();
    changed.after = ids[5..7].iter().copied().collect();
    let elsewhere: Id = "zzv8w0000000000z".parse().unwrap();
    let other: Id = "k4v8w0000000000z".parse().unwrap();
    store.transact(|tx| tx.put(&changed)).unwrap();
    put(elsewhere, "elsewhere");
    put(other, "in another directory");
    let after = all();
    assert_eq!(after.len(), 22);
    assert_eq!(after.iter().filter(|task| task.title == "changed").count(), 1);
    assert_eq!(state().titles::<Task>().unwrap()[&ids[3]], "changed");
    assert_eq!(state().tasks_after(&ids[6]).unwrap(), [ids[3]].into());
    assert_eq!(state().tasks_after(&ids[3]).unwrap(), [].into());
    let forward = std::fs::read(&file).unwrap();
    std::fs::remove_file(&file).unwrap();
    assert_eq!(all(), after);
    assert_eq!(std::fs::read(&file).unwrap(), forward);
    let many: std::collections::BTreeSet<Id> = ids.iter().copied().chain([elsewhere]).collect();
    assert_eq!(state().several::<Task>(&many).unwrap().len(), 21);
    let short = state().short_ids_of([&ids[1], &elsewhere]).unwrap();
    assert_eq!((short.shorten(&ids[1]), short.shorten(&elsewhere)), ("k3v8w01".into(), "zzv8".into()));
}

#[test]
fn short_ids_are_unique_and_resolve() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let twins: [Id; 2] = ["k3v8w0000000000z".parse().unwrap(), "k3v8w1000000000z".parse().unwrap()];
    store.transact(|tx| twins.iter().try_for_each(|id| tx.put(&task(*id, "twin")))).unwrap();
    let state = store.state().unwrap();
    let short = state.short_ids().unwrap();
    assert_eq!(short.shorten(&twins[0]), "k3v8w0");
    assert_eq!(state.resolve("k3v8w0", Some(Kind::Task)).unwrap().id, twins[0]);
    let error = state.resolve("k3v8", None).unwrap_err();
    assert_eq!(error.to_string(), format!("tell which one `k3v8` is: task {}, task {}", twins[0], twins[1]));
    assert_eq!(short.shorten(&Id::from_random(1)).len(), 4, "one that is not there is shortened too");
}

#[test]
fn a_slow_clock_never_loses_a_write() {
    let sandbox = Sandbox::new(&[]);
    let fast = store(&sandbox);
    let id = add(&fast, "One");
    let repo = sandbox.open();
    let slow = Store::open(repo, Arc::new(ManualClock::new(Timestamp(1_000))), fast.author().clone());
    let write = slow.transact(|tx| {
        let mut task = tx.require::<Task>(&id)?;
        task.title = "Two".into();
        tx.put(&task)
    });
    write.unwrap();
    let record = slow.state().unwrap().record(Kind::Task, &id).unwrap().unwrap();
    assert!(record.stamp("title") > record.stamp("body").or(record.stamp("created")));
}

#[test]
fn every_field_of_every_kind_is_declared() {
    // `Record::update` asserts it in debug builds; here each kind is written once with everything set.
    let id = Id::from_random(5);
    let finding = crate::model::Finding {
        id,
        message: "m".into(),
        severity: Severity::High,
        status: crate::model::FindingStatus::Resolved,
        anchor: Some(crate::model::Anchor { path: "a".into(), line: Some(1) }),
        commit: Some("0".repeat(40).parse().unwrap()),
        agent: Some(id),
        author: "a".into(),
        task: Some(id),
        between: [id].into(),
        resolution: Some("r".into()),
        created: Timestamp(1),
    };
    let changed = Record::default().update(&finding, Timestamp(1), "m1");
    assert_eq!(changed.len(), <crate::model::Finding as Entity>::FIELDS.len());
}

fn replace(store: &Store, path: &str, content: &[u8]) {
    let repo = store.repo();
    let tip = repo.find_ref(STATE_REF).unwrap().unwrap();
    let blob = repo.write_blob(content).unwrap();
    let tree = repo.read_commit(&tip).unwrap().tree;
    let edit = (path.to_owned(), Some((crate::git::EntryMode::Blob, blob)));
    let (tree, _) = repo.edit_tree(Some(&tree), &[edit]).unwrap();
    let (who, at) = (repo.identity(), Timestamp(1_700_000_000_000));
    let parents = [tip.clone()];
    let new = crate::git::NewCommit {
        tree: &tree,
        parents: &parents,
        author: &who,
        committer: &who,
        at,
        message: "by hand",
    };
    let new = repo.write_commit(&new).unwrap();
    let edit = RefEdit { name: STATE_REF.into(), new: Some(new), expected: Some(tip).into() };
    repo.update_refs(&[edit], "test").unwrap();
}

/// `replacen(…, 1)` for bytes.
trait ReplaceFirst {
    fn replace_first(&self, from: &[u8], to: &[u8]) -> Vec<u8>;
}

impl ReplaceFirst for Vec<u8> {
    fn replace_first(&self, from: &[u8], to: &[u8]) -> Vec<u8> {
        bstr::ByteSlice::replacen(self.as_slice(), from, to, 1)
    }
}

#[test]
fn the_commits_of_one_command_say_that_they_belong_together_and_which_refs_they_moved() {
    let sandbox = Sandbox::new(&[]);
    let plain = store(&sandbox);
    let operation = Operation::new("task add").unwrap();
    let store = plain.with_operation(operation.clone());
    add(&store, "One");
    add(&store.clone(), "Two");
    let head = sandbox.open().head().unwrap().commit.unwrap();
    let name = "refs/orchestra/merges/x".to_owned();
    let keep = RefEdit { name: name.clone(), new: Some(head.clone()), expected: Expected::Anything };
    let moved = |tx: &mut Transaction<'_>| -> Result<(), Error> {
        tx.move_ref(keep.clone());
        Ok(())
    };
    // Refs that move alone are an operation too; a move to where it is already is none.
    let first = store.transact(moved).unwrap().commit;
    assert_eq!(store.transact(moved).unwrap().commit, first);
    add(&plain, "Three");

    let format = "--format=%(trailers:key=Orchestra-Operation,valueonly,separator=%x2C)\t%(trailers:key=Orchestra-Ref,valueonly)";
    let log = sandbox.git(&["log", "--reverse", format, STATE_REF]);
    let part = |n: u32| format!("{{\"command\":\"task add\",\"id\":\"{}\",\"part\":{n}}}", operation.id());
    let lines: Vec<&str> = log.lines().filter(|line| !line.trim().is_empty()).collect();
    assert_eq!(lines[0], format!("{}\t", part(1)));
    assert_eq!(lines[1], format!("{}\t", part(2)));
    assert_eq!(lines[2], format!("{}\t{{\"new\":\"{head}\",\"ref\":\"{name}\"}}", part(3)));
    assert_eq!(lines.len(), 3, "{log}");
}

#[test]
fn what_is_deleted_is_found_by_nobody_and_its_record_stays() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    let (gone, stays) = (add(&store, "gone"), add(&store, "stays"));
    let path = layout::entity_path(Kind::Task, &gone);
    let mut record = store.state().unwrap().record(Kind::Task, &gone).unwrap().unwrap();
    assert!(!record.is_deleted());
    let mut json: serde_json::Value = serde_json::from_slice(&record.to_bytes()).unwrap();
    json["_d"] = serde_json::json!({"by": "Ada <ada@example.org>", "at": 5});
    json["_s"]["99-0-m1"] = serde_json::json!(["_d"]);
    record = Record::parse(&serde_json::to_vec(&json).unwrap()).unwrap();
    replace(&store, &path, &record.to_bytes());

    let state = store.state().unwrap();
    let titles: Vec<String> = state.all::<Task>().unwrap().into_iter().map(|task| task.title).collect();
    assert_eq!(titles, ["stays"]);
    assert_eq!(state.several::<Task>(&[gone, stays].into()).unwrap().len(), 1);
    assert!(state.get::<Task>(&gone).unwrap().is_none());
    let error = state.require::<Task>(&gone).unwrap_err().to_string();
    assert_eq!(error, format!("use task {}: Ada <ada@example.org> deleted it", &gone.as_str()[..6]));
    assert_eq!(state.resolve(gone.as_str(), None).unwrap().id, gone, "`show` tells of it");
    let seen = store.transact(|tx| {
        assert!(tx.require::<Task>(&gone).is_err());
        Ok::<_, Error>(tx.all::<Task>()?.len())
    });
    assert_eq!(seen.unwrap().value, 1);
}

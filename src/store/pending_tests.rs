//! The queue, as kills and other people's moves of the ref leave it.

use crate::git::testing::Sandbox;
use crate::git::{Expected, RefEdit};
use crate::model::{Id, ObjectId, Task};
use crate::process::SystemClock;
use crate::store::pending::{Change, Queue, Standing};
use crate::store::{Error, STATE_REF, Store, local};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

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
    store.transact(|tx| tx.put(&task(id, title))).unwrap();
    id
}

fn titles(store: &Store) -> Vec<String> {
    let mut titles: Vec<String> =
        store.state().unwrap().all::<Task>().unwrap().into_iter().map(|task| task.title).collect();
    titles.sort();
    titles
}

fn tip(store: &Store) -> ObjectId {
    store.state().unwrap().commit().unwrap().clone()
}

fn file(store: &Store) -> PathBuf {
    store.repo().local_dir().join("pending")
}

/// A change that waits in the queue, as a writer leaves it that was killed before it published: made in a clone of
/// the state's history, with the ref put back.
fn made(store: &Store, title: &str) -> Change {
    let parent = tip(store);
    add(store, title);
    let commit = tip(store);
    let edit = RefEdit {
        name: STATE_REF.to_owned(),
        new: Some(parent.clone()),
        expected: Expected::At(commit.clone()),
    };
    store.repo().update_refs(&[edit], "test").unwrap();
    Change { parent, written: vec![commit.clone()], commit }
}

#[test]
fn what_a_killed_writer_left_in_the_queue_is_absent_and_in_nobodys_way() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    add(&store, "first");
    let left = made(&store, "left");
    let queue = Queue::join(store.repo(), &left.parent).unwrap().0;
    queue.append(&left).unwrap();
    // Its process dies: nobody holds the file.
    drop(queue);
    add(&store, "second");
    assert_eq!(titles(&store), ["first", "second"]);
    sandbox.git(&["fsck", "--strict", "--connectivity-only"]);
}

#[test]
fn what_waits_is_published_by_whoever_comes_next() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    add(&store, "first");
    let waiting = made(&store, "waiting");
    let queue = Queue::join(store.repo(), &waiting.parent).unwrap().0;
    queue.append(&waiting).unwrap();
    // And a writer after it was killed in the middle of its line.
    let bytes = std::fs::read(file(&store)).unwrap();
    std::fs::write(file(&store), [&bytes[..], b"0badc0de 1234"].concat()).unwrap();
    add(&store, "second");
    assert_eq!(titles(&store), ["first", "second", "waiting"]);
    let now = tip(&store);
    let standing = queue.standing(Some(&now), Some(&waiting.commit)).unwrap();
    assert_eq!(standing, Standing::Published { on_disk: true });
    assert!(queue.is_on_disk(&waiting.commit).unwrap());
    let publishing = local::publishing(store.repo()).unwrap();
    assert!(store.publish(&queue, Some(&waiting.commit), None).unwrap(), "its maker sees that it is");
    drop(publishing);
    assert_eq!(tip(&store), now);

    // An answer, and a change that moves more than the state, wait until what they rest on is on disk.
    // (Made while the queue is held, a change is in it by itself.)
    let waiting = made(&store, "waiting too");
    let refused = store.transact(|tx| {
        assert_eq!(tx.all::<Task>()?.len(), 4);
        Err::<(), _>(Error::Refused("no".into()))
    });
    assert_eq!(refused.unwrap_err().to_string(), "no");
    assert_eq!(tip(&store), waiting.commit);
    made(&store, "waiting as well");
    let head = store.repo().head().unwrap().commit;
    store
        .transact(|tx| {
            tx.move_ref(RefEdit {
                name: "refs/heads/topic".into(),
                new: head.clone(),
                expected: Expected::Absent,
            });
            tx.put(&task(store.new_id()?, "with a branch"))
        })
        .unwrap();
    assert_eq!(titles(&store).len(), 6);
}

#[test]
fn what_somebody_said_is_on_disk_counts_for_all_before_it_and_for_nothing_else() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    add(&store, "first");
    let first = made(&store, "waiting");
    let queue = Queue::join(store.repo(), &first.parent).unwrap().0;
    let next = |parent: &Change, byte: &str| {
        let commit: ObjectId = byte.repeat(store.repo().id_len() / 2).parse().unwrap();
        Change { parent: parent.commit.clone(), written: vec![commit.clone()], commit }
    };
    let second = next(&first, "12");
    let third = next(&second, "34");
    for change in [&first, &second, &third] {
        queue.append(change).unwrap();
    }
    let known = || [&first, &second, &third].map(|change| queue.is_on_disk(&change.commit).unwrap());
    assert_eq!(known(), [false; 3]);
    // Of a change that is not in it.
    queue.say_on_disk(&first.parent).unwrap();
    assert_eq!(known(), [false; 3]);
    let standing = queue.standing(Some(&second.commit), Some(&first.commit)).unwrap();
    assert_eq!(standing, Standing::Published { on_disk: false }, "its name may not be on disk");
    queue.say_on_disk(&second.commit).unwrap();
    queue.say_on_disk(&first.commit).unwrap();
    assert_eq!(known(), [true, true, false]);
    // What is said does not make a change, and stays where the queue is given up.
    queue.give_up().unwrap();
    assert_eq!(known(), [true, true, false]);
    let standing = queue.standing(Some(&second.commit), Some(&third.commit)).unwrap();
    assert_eq!(standing, Standing::Lost);
}

#[test]
fn a_queue_that_the_state_has_left_is_given_up_and_its_changes_are_made_again() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    add(&store, "first");
    let (lost, other) = (made(&store, "lost"), made(&store, "other"));
    let queue = Queue::join(store.repo(), &lost.parent).unwrap().0;
    queue.append(&lost).unwrap();
    // Somebody who takes no lock of ours moves the ref.
    sandbox.git(&["update-ref", STATE_REF, other.commit.as_str()]);
    add(&store, "second");
    assert_eq!(titles(&store), ["first", "other", "second"]);
    let publishing = local::publishing(store.repo()).unwrap();
    assert!(!store.publish(&queue, Some(&lost.commit), None).unwrap());
    // Had others gone on from it, it would not be made twice.
    assert!(store.publish(&queue, Some(&tip(&store)), None).unwrap());
    drop(publishing);

    // A change that finds its queue given up while it waits is called again.
    let calls = AtomicU32::new(0);
    let publishing = local::publishing(store.repo()).unwrap();
    std::thread::scope(|scope| {
        let (other, calls) = (store.clone(), &calls);
        let writer = scope.spawn(move || {
            other.transact(|tx| {
                calls.fetch_add(1, Ordering::Relaxed);
                tx.put(&task("k3v8w0000000000z".parse().unwrap(), "third"))
            })
        });
        let deadline = Instant::now() + Duration::from_secs(30);
        let waiting = loop {
            let _writing = local::writing(store.repo()).unwrap();
            let (queue, changes) = Queue::join(store.repo(), &tip(&store)).unwrap();
            if changes.len() == 1 {
                break queue;
            }
            assert!(Instant::now() < deadline, "the change does not come");
        };
        waiting.give_up().unwrap();
        drop(publishing);
        writer.join().unwrap().unwrap();
    });
    assert_eq!(calls.into_inner(), 2);
    assert_eq!(titles(&store), ["first", "other", "second", "third"]);
}

#[test]
fn a_failed_sync_fails_its_change_and_nobody_publishes_it() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    add(&store, "first");
    let mut broken = made(&store, "broken");
    // What is nowhere cannot be synced.
    broken.written.push("12".repeat(store.repo().id_len() / 2).parse().unwrap());
    let queue = Queue::join(store.repo(), &broken.parent).unwrap().0;
    queue.append(&broken).unwrap();
    let publishing = local::publishing(store.repo()).unwrap();
    assert!(store.publish(&queue, Some(&broken.commit), None).is_err());
    assert_eq!(tip(&store), broken.parent);
    assert!(!store.publish(&queue, Some(&broken.commit), None).unwrap(), "it was given up");
    drop(publishing);
    add(&store, "second");
    assert_eq!(titles(&store), ["first", "second"]);
}

#[test]
fn many_writers_share_syncs_and_a_full_queue_is_followed_by_another() {
    let sandbox = Sandbox::new(&[]);
    let first = store(&sandbox);
    add(&first, "first");
    let (writers, each) = (12, 12);
    std::thread::scope(|scope| {
        for writer in 0..writers {
            let store = store(&sandbox);
            scope.spawn(move || {
                for n in 0..each {
                    add(&store, &format!("{writer}/{n}"));
                }
            });
        }
    });
    assert_eq!(titles(&first).len(), writers * each + 1);
    let commits = sandbox.git(&["rev-list", "--count", STATE_REF]);
    assert_eq!(commits, (writers * each + 2).to_string(), "one commit a change, whoever published it");
    sandbox.git(&["fsck", "--strict"]);
}

#[test]
fn who_waited_while_the_history_was_cut_sees_that_its_change_is_made() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    add(&store, "first");
    let waiting = made(&store, "waiting");
    let queue = Queue::join(store.repo(), &waiting.parent).unwrap().0;
    queue.append(&waiting).unwrap();
    store.settle(&queue).unwrap();
    let cut = store.make_cut().unwrap();
    let incoming = crate::store::Incoming { state: Some(cut.commit.clone()), notes: Vec::new() };
    store.absorb(&incoming).unwrap();
    // The queue does not know where the state went.
    assert_eq!(queue.standing(Some(&cut.commit), Some(&waiting.commit)).unwrap(), Standing::Lost);
    let publishing = local::publishing(store.repo()).unwrap();
    assert!(store.publish(&queue, Some(&waiting.commit), None).unwrap(), "it is not made once more");
    drop(publishing);
    assert_eq!((tip(&store), titles(&store)), (cut.commit, ["first", "waiting"].map(str::to_owned).to_vec()));
}

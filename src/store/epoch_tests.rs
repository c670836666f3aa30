//! Cuts beside writers, and what a cut must hold.

use super::absorb::Incoming;
use super::*;
use crate::git::testing::Sandbox;
use crate::model::{Kind, ObjectId, Task};
use crate::process::SystemClock;
use serde_json::json;
use std::collections::BTreeSet;

fn store(sandbox: &Sandbox) -> Store {
    let repo = sandbox.open();
    let author = repo.identity();
    Store::open(repo, Arc::new(SystemClock), author)
}

fn add(store: &Store, title: &str) -> ObjectId {
    let task: Task = serde_json::from_value(json!({"id": store.new_id().unwrap(), "title": title})).unwrap();
    store.transact::<_, Error>(|tx| tx.put(&task)).unwrap().commit.unwrap()
}

fn cut(store: &Store) -> Cut {
    let cut = store.make_cut().unwrap();
    let moved = store.absorb(&Incoming { state: Some(cut.commit.clone()), notes: Vec::new() }).unwrap().moved;
    assert_eq!(moved.len(), 2, "{moved:?}");
    cut
}

#[test]
fn writers_beside_cuts_lose_nothing_and_do_nothing_twice() {
    const WRITERS: usize = 4;
    const EACH: usize = 12;
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    add(&store, "first");
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = store.clone();
                scope.spawn(move || {
                    for number in 0..EACH {
                        add(&store, &format!("{writer}/{number}"));
                    }
                })
            })
            .collect();
        let mut cuts = 0;
        while cuts < 6 || writers.iter().any(|writer| !writer.is_finished()) {
            cut(&store);
            cuts += 1;
        }
    });
    let state = store.state().unwrap();
    let titles: Vec<String> = state.all::<Task>().unwrap().into_iter().map(|task| task.title).collect();
    let unique: BTreeSet<&String> = titles.iter().collect();
    assert_eq!((titles.len(), unique.len()), (WRITERS * EACH + 1, WRITERS * EACH + 1), "{titles:?}");
    sandbox.git(&["fsck", "--strict"]);
}

#[test]
fn a_change_of_before_a_cut_is_known_to_be_made() {
    let sandbox = Sandbox::new(&[]);
    let store = store(&sandbox);
    assert!(matches!(store.make_cut(), Err(Error::Refused(_))));
    let change = add(&store, "one");
    let first = cut(&store);
    assert_eq!((first.epoch, &first.replaces), (1, &change));
    let tip = add(&store, "two");
    assert!(store.has_change(&change, &tip).unwrap());
    assert!(store.is_cut(&change, &tip).unwrap() && !store.is_cut(&tip, &change).unwrap());
    assert!(!store.is_cut(&first.commit, &tip).unwrap(), "it follows");
    let second = cut(&store);
    assert_eq!(second.epoch, 2);
    for old in [&change, &first.commit, &tip] {
        assert!(store.is_cut(old, &second.commit).unwrap());
        assert!(store.has_change(old, &second.commit).unwrap());
    }
    assert!(store.is_cut(&change, &change).is_ok_and(|cut| !cut));
    let blob = store.repo().write_blob(b"no commit").unwrap();
    assert!(store.is_cut(&change, &blob).is_ok_and(|cut| !cut));
    assert_eq!(store.state().unwrap().all::<Task>().unwrap().len(), 2);
    assert!(store.state().unwrap().verify(crate::model::Timestamp(u64::MAX / 2)).unwrap().broken.is_empty());
    assert_eq!(store.state().unwrap().find("k", Some(Kind::Agent)).unwrap(), []);
}

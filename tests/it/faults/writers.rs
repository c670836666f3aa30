//! Many processes at once, while git tidies up under them: nothing that was acknowledged is lost.
//!
//! `ORCHESTRA_WRITERS=64x1000` makes it 64 processes of 1,000 operations each.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use git_orchestra::model::Finding;

use crate::harness::Sandbox;
use crate::kill::{records, titles};

#[test]
fn writers_beside_a_tidy_git_lose_nothing() {
    let wish = std::env::var("ORCHESTRA_WRITERS").unwrap_or_else(|_| "8x25".to_owned());
    let (writers, each) = wish.split_once('x').expect("ORCHESTRA_WRITERS is like 64x1000");
    let (writers, each): (usize, usize) = (writers.parse().unwrap(), each.parse().unwrap());
    let sandbox = Sandbox::new();
    sandbox.ok(&["init"]);
    let (done, tidied, refused) = (AtomicBool::new(false), AtomicUsize::new(0), AtomicUsize::new(0));
    let start = Instant::now();
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..writers)
            .map(|writer| {
                let (sandbox, refused) = (&sandbox, &refused);
                scope.spawn(move || {
                    for number in 0..each {
                        let name = format!("{writer}/{number}");
                        // Every fifth moves two refs at once.
                        let verb = if number % 5 == 4 { ["finding", "add"] } else { ["task", "add"] };
                        let out = sandbox.orchestra(&[verb[0], verb[1], &name]);
                        if out.code != 0 {
                            println!("{name}: {out}");
                            refused.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                })
            })
            .collect();
        for args in [["pack-refs", "--all"], ["gc", "--quiet"]] {
            let (sandbox, done, tidied) = (&sandbox, &done, &tidied);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    // The user's git may find a ref locked for a moment, as beside any other git.
                    let out = sandbox.try_git_in(sandbox.repo(), &args, b"");
                    tidied.fetch_add(usize::from(out.code == 0), Ordering::Relaxed);
                }
            });
        }
        let all: Vec<_> = working.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(all.iter().all(Result::is_ok));
    });
    let took = start.elapsed();
    let findings = records::<Finding>(&sandbox, "findings").into_iter().map(|finding| finding.message);
    let present: BTreeSet<String> = titles(&sandbox).into_iter().chain(findings).collect();
    let expected: BTreeSet<String> =
        (0..writers).flat_map(|writer| (0..each).map(move |number| format!("{writer}/{number}"))).collect();
    let lost = expected.difference(&present).count();
    let (tidied, refused) = (tidied.into_inner(), refused.into_inner());
    println!(
        "{writers} processes at once, {} operations in {took:.1?}, git tidied up {tidied} times: {lost} lost, {refused} refused",
        writers * each
    );
    assert_eq!((lost, refused, present.len()), (0, 0, expected.len()));
    assert!(tidied > 0);
    let notes = sandbox.git(&["notes", "--ref=refs/notes/orchestra/findings", "show", "HEAD"]);
    assert_eq!(notes.lines().count(), writers * (each / 5));
    sandbox.assert_sound();
}

//! `demo`: the whole workflow, alone in a temporary directory.

use crate::harness::Sandbox;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

fn sandbox() -> (Sandbox, PathBuf) {
    let mut sandbox = Sandbox::new();
    let tmp = sandbox.root().join("tmp");
    std::fs::create_dir(&tmp).unwrap();
    sandbox.set_env("TMPDIR", &tmp);
    (sandbox, tmp)
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn four_agents_are_merged_in_time_and_nothing_is_left() {
    let (sandbox, tmp) = sandbox();
    let before = sandbox.fingerprint();
    let begun = Instant::now();
    let out = sandbox.orchestra(&["demo"]);
    assert_eq!(out.code, 0, "{out}");
    assert!(begun.elapsed() < Duration::from_secs(20), "it took {:?}", begun.elapsed());
    assert!(out.stdout.contains("Done: 4 of 4 agents merged, 1 decision, 1 finding, "), "{out}");
    assert!(out.stdout.contains("all greetings are right"), "{out}");
    assert!(!out.stderr.contains("error") && !out.stderr.contains("warning"), "{out}");
    assert_eq!(entries(&tmp), Vec::<PathBuf>::new());
    assert_eq!(sandbox.fingerprint(), before, "it must not see the repository that it is started in");
}

#[test]
fn what_it_keeps_is_a_sound_repository() {
    let (sandbox, tmp) = sandbox();
    let out = sandbox.orchestra(&["demo", "--keep"]);
    assert_eq!(out.code, 0, "{out}");
    let [dir] = entries(&tmp).try_into().unwrap();
    let repo = dir.join("greeter");
    assert!(out.stdout.contains(&format!("cd {}", repo.display())), "{out}");
    let words = std::fs::read_to_string(repo.join("words.sh")).unwrap();
    assert!(words.contains("hello='Bonjour'") && words.contains("bye='Goodbye'"), "{words}");
    assert_eq!(sandbox.git_in(&repo, &["status", "--porcelain"]), "");
    assert_eq!(sandbox.git_in(&repo, &["fsck", "--strict", "--no-dangling"]), "");
    let notes = sandbox.git_in(&repo, &["log", "--notes=orchestra/*", "main"]);
    assert!(notes.contains("Notes (orchestra/provenance)"), "{notes}");
}

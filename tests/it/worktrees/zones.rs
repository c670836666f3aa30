//! Worktrees with a part of the files, and that nothing of the rest is lost by that.

use std::fs;

use super::{assert_no_trace, path, sandbox};
use crate::harness::Sandbox;

const ZONES: &str = "zone.parser.paths = ['src/parser', 'docs/']\n";

fn stage(script: &str) -> Sandbox {
    let sandbox = sandbox(script, ZONES);
    for file in ["src/parser/a", "src/parser/deep/b", "src/near", "src/other/c", "docs/d", "big/e", "big/f"] {
        sandbox.write(file, "one\n");
    }
    sandbox.commit("files");
    sandbox
}

fn files(sandbox: &Sandbox, name: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut queue = vec![path(sandbox, name)];
    while let Some(dir) = queue.pop() {
        for entry in fs::read_dir(dir).unwrap().flatten() {
            let list = if entry.file_type().unwrap().is_dir() { &mut queue } else { &mut found };
            list.push(entry.path());
        }
    }
    let root = path(sandbox, name);
    let mut names: Vec<String> =
        found.iter().map(|file| file.strip_prefix(&root).unwrap().display().to_string()).collect();
    names.retain(|name| name != ".git");
    names.sort();
    names
}

#[test]
fn a_zone_has_its_directories_and_its_work_merges_with_all_others() {
    let script = "echo two >>src/parser/a; echo new >src/parser/new; git sparse-checkout list >../../listed";
    let sandbox = stage(script);
    let config = fs::read(sandbox.git_dir().join("config")).unwrap();
    let id = sandbox.ok(&["task", "add", "Parse it", "--zone", "parser"]);
    let out = sandbox.orchestra(&["spawn", &id]);
    assert!(out.code == 0 && out.stdout.contains("a part of the files"), "{out}");
    let here = ["README.md", "docs/d", "src/near", "src/parser/a", "src/parser/deep/b", "src/parser/new"];
    assert_eq!(files(&sandbox, "parse-it"), here);
    assert_eq!(fs::read_to_string(sandbox.root().join("listed")).unwrap(), "docs\nsrc/parser\n");
    assert_eq!(fs::read(sandbox.git_dir().join("config")).unwrap(), config);
    // Also for a git that nobody told: nothing is missing there.
    assert_eq!(sandbox.git_in(&path(&sandbox, "parse-it"), &["status", "--short"]), "");
    let all = sandbox.git(&["ls-tree", "-r", "--name-only", "orchestra/parse-it"]);
    assert_eq!(all.lines().count(), 9, "{all}");
    sandbox.write("big/e", "changed meanwhile\n");
    sandbox.commit("meanwhile");
    sandbox.ok(&["merge"]);
    assert_eq!(sandbox.read("src/parser/a"), "one\ntwo\n");
    assert_eq!(
        (sandbox.read("big/e"), sandbox.read("big/f")),
        ("changed meanwhile\n".into(), "one\n".into())
    );
    sandbox.ok(&["remove", "parse-it"]);
    assert_no_trace(&sandbox);
}

#[test]
fn what_is_written_outside_of_the_zone_is_work_like_any_other() {
    let sandbox = stage("mkdir -p big other; echo mine >big/e; echo new >big/new; echo new >other/new");
    let out = sandbox.orchestra(&["spawn", "-m", "Work", "--zone", "parser"]);
    assert_eq!(out.code, 0, "{out}");
    for (file, text) in [("big/e", "mine"), ("big/new", "new"), ("other/new", "new"), ("big/f", "one")] {
        assert_eq!(sandbox.git(&["show", &format!("orchestra/work:{file}")]), text, "{file}");
    }
    fs::write(path(&sandbox, "work").join("big/f"), "later").unwrap();
    sandbox.ok(&["remove", "work"]);
    assert_eq!(sandbox.git(&["show", "refs/orchestra/rescue/work/1:big/f"]), "later");
    assert_no_trace(&sandbox);
}

#[test]
fn a_zone_without_directories_is_a_label_and_one_that_is_asked_for_must_have_some() {
    let sandbox = stage("true");
    let id = sandbox.ok(&["task", "add", "Anything", "--zone", "elsewhere"]);
    sandbox.ok(&["spawn", &id]);
    assert_eq!(files(&sandbox, "anything").len(), 8);
    let out = sandbox.orchestra(&["spawn", "-m", "Work", "--zone", "elsewhere"]);
    assert!(out.code == 2 && out.stderr.contains("zone.elsewhere.paths"), "{out}");
}

//! Every command once in every kind of repository: it works, or it refuses in one sentence.

use std::path::Path;

use crate::harness::{Layout, Output, Sandbox};

/// Files or reftable, SHA-1 or SHA-256, and each of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Plain,
    Bare,
    Linked,
    Shallow,
    Detached,
    Unborn,
    Submodule,
    /// Files that git stores as pointers, by a filter that must run, as Git LFS does.
    Filter,
}

const SHAPES: [Shape; 8] = [
    Shape::Plain,
    Shape::Bare,
    Shape::Linked,
    Shape::Shallow,
    Shape::Detached,
    Shape::Unborn,
    Shape::Submodule,
    Shape::Filter,
];

/// The first words of what is refused where nothing can be merged, or nothing can be started from.
const REFUSED_DETACHED: [&str; 3] = ["overlap", "merge", "merge"];
const REFUSED_UNBORN: [&str; 10] =
    ["spawn", "log", "show", "diff", "overlap", "merge", "resume", "merge", "remove", "worker"];

fn sandbox(shape: Shape, reftable: bool, sha256: bool) -> Sandbox {
    let layout = Layout {
        bare: shape == Shape::Bare,
        linked: shape == Shape::Linked,
        unborn: shape == Shape::Unborn,
        reftable,
        sha256,
    };
    let sandbox = Sandbox::with(layout);
    let player =
        "[profile.player]\nprogram = \"command\"\ncommand = [\"sh\", \"-c\", \"echo done > done.txt\"]\n";
    let config = sandbox.home().join(".config/git-orchestra");
    std::fs::create_dir_all(&config).unwrap();
    std::fs::write(config.join("config.toml"), player).unwrap();
    match shape {
        Shape::Detached => drop(sandbox.git(&["checkout", "--quiet", "--detach"])),
        Shape::Shallow => {
            for number in 0..3 {
                sandbox.plumb_commit("refs/heads/main", "more", &[("more.txt", &number.to_string())]);
            }
            // The same repository, with no history before its tip.
            let tip = sandbox.git(&["rev-parse", "main"]);
            std::fs::write(sandbox.git_dir().join("shallow"), format!("{tip}\n")).unwrap();
            sandbox.git(&["reset", "--quiet", "--hard"]);
        }
        Shape::Submodule => {
            let part = sandbox.root().join("part");
            let mut init = vec!["init", "--quiet", "-b", "main"];
            init.extend(sha256.then_some("--object-format=sha256"));
            std::fs::create_dir(&part).unwrap();
            sandbox.git_in(&part, &init);
            std::fs::write(part.join("p"), "p\n").unwrap();
            sandbox.commit_in(&part, "a part");
            let add = ["-c", "protocol.file.allow=always", "submodule", "--quiet", "add"];
            sandbox.git(&[&add[..], &[part.to_str().unwrap(), "part"]].concat());
            sandbox.commit("with a part");
        }
        Shape::Filter => {
            for (key, command) in [("clean", "sed s/^/stored:/"), ("smudge", "sed s/^stored://")] {
                sandbox.git(&["config", "--global", &format!("filter.lfs.{key}"), command]);
            }
            sandbox.git(&["config", "--global", "filter.lfs.required", "true"]);
            sandbox.write(".gitattributes", "*.txt filter=lfs diff=lfs merge=lfs -text\n");
            sandbox.write("big.txt", "big\n");
            sandbox.commit("with a filter");
            assert_eq!(sandbox.git(&["show", "HEAD:big.txt"]), "stored:big");
        }
        _ => {}
    }
    let remote = sandbox.root().join("remote.git");
    let mut init = vec!["init", "--quiet", "--bare", "-b", "main"];
    init.extend(sha256.then_some("--object-format=sha256"));
    init.push(remote.to_str().unwrap());
    sandbox.git_in(&sandbox.root(), &init);
    sandbox.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    sandbox
}

/// Works, or refuses in one sentence and a way out.
fn is_clean(args: &[&str], out: &Output, context: &str) -> bool {
    let errors = out.stderr.lines().filter(|line| line.starts_with("error: ")).count();
    let causes = out.stderr.lines().filter(|line| line.starts_with("caused by: ")).count();
    let works = out.code == 0;
    assert!(!out.stderr.contains("panicked"), "{context}: {args:?}\n{out}");
    assert!(works || out.code < 8 && errors == 1 && causes == 0, "{context}: {args:?}\n{out}");
    works
}

/// Every command, in an order in which each has something to do. Returns those that refused.
fn walk(sandbox: &Sandbox, dir: &Path, context: &str) -> Vec<String> {
    let mut refused = Vec::new();
    let mut run = |args: &[&str]| {
        let out = sandbox.orchestra_in(dir, args);
        if !is_clean(args, &out, context) {
            refused.push(format!("{}: {}", args.join(" "), out.stderr.lines().next().unwrap_or_default()));
        }
        out.stdout.trim().to_owned()
    };
    run(&["init"]);
    let task = run(&["task", "add", "First", "-m", "body", "--touches", "src/**"]);
    run(&["task", "edit", &task, "--priority", "3"]);
    run(&["task", "list"]);
    run(&["task", "show", &task]);
    run(&["task", "ready"]);
    run(&["task", "start", &task]);
    run(&["task", "close", &task]);
    run(&["task", "reopen", &task]);
    let finding = run(&["finding", "add", "Noticed", "--severity", "low"]);
    run(&["finding", "list"]);
    run(&["finding", "show", &finding]);
    run(&["spawn", "--profile", "player", &task]);
    run(&["status"]);
    run(&["log", "first"]);
    run(&["show", "first"]);
    run(&["diff", "first"]);
    run(&["overlap"]);
    run(&["merge", "--dry-run"]);
    run(&["resume", "first", "-m", "Go on."]);
    run(&["merge"]);
    run(&["decide"]);
    run(&["remove", "first"]);
    run(&["finding", "resolve", &finding]);
    run(&["oplog"]);
    run(&["undo"]);
    run(&["recover"]);
    run(&["doctor", "--fix"]);
    run(&["prune", "--yes"]);
    run(&["gc"]);
    run(&["task", "add", "Second"]);
    run(&["worker", "--once", "--local", "--profile", "player"]);
    run(&["push"]);
    run(&["fetch"]);
    run(&["sync"]);
    run(&["config", "list"]);
    run(&["config", "approve"]);
    refused
}

#[test]
fn every_command_in_every_kind_of_repository() {
    let all = std::env::var("ORCHESTRA_LAYOUTS").is_ok_and(|which| which == "all");
    let mut number = 0;
    let mut done = 0;
    for shape in SHAPES {
        for (reftable, sha256) in [(false, false), (false, true), (true, false), (true, true)] {
            number += 1;
            // In the short form each shape in one format, and each format with one or two shapes.
            if !all && number % 5 != 1 {
                continue;
            }
            let context = format!("{shape:?}, reftable {reftable}, SHA-256 {sha256}");
            let sandbox = sandbox(shape, reftable, sha256);
            let refused = walk(&sandbox, sandbox.repo(), &context);
            sandbox.assert_sound();
            println!("{context}: {} refused", refused.len());
            for one in &refused {
                println!("    {one}");
            }
            let verbs: Vec<&str> = refused.iter().filter_map(|one| one.split([' ', ':']).next()).collect();
            let expected: &[&str] = match shape {
                Shape::Detached => &REFUSED_DETACHED,
                Shape::Unborn => &REFUSED_UNBORN,
                _ => &[],
            };
            assert_eq!(verbs, expected, "{context}");
            if shape == Shape::Filter {
                let branch = sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/heads/orchestra"]);
                assert_eq!(sandbox.git(&["show", &format!("{branch}:done.txt")]), "stored:done");
                let listed = sandbox.git(&["worktree", "list", "--porcelain"]);
                let agents = listed.lines().filter_map(|line| line.strip_prefix("worktree ")).skip(1);
                for agent in agents {
                    assert_eq!(std::fs::read_to_string(Path::new(agent).join("big.txt")).unwrap(), "big\n");
                }
            }
            done += 1;
        }
    }
    println!("{done} kinds of repository");
}

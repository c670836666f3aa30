//! Receipts of merges in real repositories: git's own, and those that somebody spoiled.

use super::bases::join;
use super::*;
use crate::git::EntryMode;
use crate::git::testing::Sandbox;
use crate::model::{Brought, By, Fates, LineRange, Side};
use crate::orchestrate::testing::{Rng, history};
use bstr::ByteSlice;

fn brings(name: &str, tip: &ObjectId) -> Brings {
    let agent = (Id::from_random(7), name.parse().unwrap());
    Brings { agent: Some(agent), name: name.to_owned(), tip: tip.clone() }
}

fn judged(repo: &Repository, before: &ObjectId, brings: &[Brings], landed: &ObjectId) -> Receipt {
    judge(repo, &Case { target: "main", before, brings, landed, settled: &[] }).unwrap()
}

/// Merges what git merges by itself, one after the other.
fn cleanly(repo: &Repository, before: &ObjectId, tips: &[ObjectId]) -> (Vec<Brings>, ObjectId) {
    let (mut head, mut all) = (before.clone(), Vec::new());
    for (at, tip) in tips.iter().enumerate() {
        let merge = repo.merge_tree(&head, tip).unwrap();
        if merge.clean {
            head = join(repo, &head, tip, &merge.tree).unwrap();
            all.push(brings(&format!("b{at}"), tip));
        }
    }
    (all, repo.read_commit(&head).unwrap().tree)
}

#[test]
fn what_git_merges_by_itself_is_never_called_dropped_and_a_line_taken_from_it_always() {
    let (mut lines, mut taken, mut superseded) = (0, 0, 0);
    for seed in 0..16 {
        let (sandbox, tips) = history(500 + seed, 7);
        let repo = sandbox.open();
        let before: ObjectId = sandbox.git(&["rev-parse", "main"]).parse().unwrap();
        let (brings, landed) = cleanly(&repo, &before, &tips);
        let receipt = judged(&repo, &before, &brings, &landed);
        assert_eq!(receipt.dropped(), 0, "seed {seed}: {receipt:#?}");
        assert!(receipt.losses.iter().all(|loss| loss.by.is_some()), "seed {seed}: {receipt:#?}");
        lines += receipt.present("main").1;
        superseded += receipt.losses.len();
        let mut rng = Rng::new(seed);
        for _ in 0..2 {
            let Some(spoiled) = without_a_line(&repo, &mut rng, &landed) else { continue };
            let receipt = judged(&repo, &before, &brings, &spoiled);
            assert!(receipt.dropped() > 0, "seed {seed}: {receipt:#?}");
            taken += 1;
        }
    }
    assert!(lines > 300 && taken > 20, "{lines} lines, {superseded} superseded, {taken} taken away");
}

/// The tree without one line of one of its files.
fn without_a_line(repo: &Repository, rng: &mut Rng, tree: &ObjectId) -> Option<ObjectId> {
    let mut files = Vec::new();
    let mut open = vec![(String::new(), tree.clone())];
    while let Some((above, tree)) = open.pop() {
        for entry in repo.read_tree(&tree).unwrap() {
            let path = format!("{above}{}", entry.name.to_str().unwrap());
            match entry.mode {
                EntryMode::Tree => open.push((format!("{path}/"), entry.id)),
                EntryMode::Blob => files.push((path, entry)),
                _ => {}
            }
        }
    }
    let (path, entry) = files.get(rng.below(files.len().max(1)))?;
    let content = repo.read_blob(&entry.id).unwrap();
    let mut lines: Vec<&[u8]> = content.lines_with_terminator().collect();
    lines.remove(rng.below(lines.len()));
    let blob = repo.write_blob(&lines.concat()).unwrap();
    Some(repo.edit_tree(Some(tree), &[(path, Some((entry.mode, blob)))]).unwrap().0)
}

/// A repository, and commits made of whole files in it.
struct Bench {
    sandbox: Sandbox,
    repo: Repository,
}

impl Bench {
    fn new() -> Self {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        Self { sandbox, repo }
    }

    fn tree(&self, from: Option<&ObjectId>, files: &[(&str, &str)]) -> ObjectId {
        let edits: Vec<_> = files
            .iter()
            .map(|(path, text)| {
                let blob = || self.repo.write_blob(text.as_bytes()).unwrap();
                (*path, if *text == "-" { None } else { Some((EntryMode::Blob, blob())) })
            })
            .collect();
        self.repo.edit_tree(from, &edits).unwrap().0
    }

    fn commit(&self, parents: &[&ObjectId], tree: &ObjectId) -> ObjectId {
        let mut args = vec!["commit-tree", tree.as_str(), "-m", "c"];
        args.extend(parents.iter().flat_map(|parent| ["-p", parent.as_str()]));
        self.sandbox.git(&args).parse().unwrap()
    }

    fn on(&self, parent: &ObjectId, files: &[(&str, &str)]) -> ObjectId {
        let tree = self.tree(Some(&self.repo.read_commit(parent).unwrap().tree), files);
        self.commit(&[parent], &tree)
    }

    fn base(&self, files: &[(&str, &str)]) -> ObjectId {
        self.commit(&[], &self.tree(None, files))
    }

    /// The receipt of a tree that landed, with what merges in the branches dropped.
    fn with_inside(&self, before: &ObjectId, brings: &[Brings], landed: &ObjectId) -> Receipt {
        let case = Case { target: "main", before, brings, landed, settled: &[] };
        let mut receipt = judge(&self.repo, &case).unwrap();
        inside::add(&self.repo, &case, &mut receipt).unwrap();
        receipt
    }

    /// The receipt of `files` landed on `before`, with everything else as it was there.
    fn landed(&self, before: &ObjectId, brings: &[Brings], files: &[(&str, &str)]) -> Receipt {
        let tree = self.tree(Some(&self.repo.read_commit(before).unwrap().tree), files);
        judged(&self.repo, before, brings, &tree)
    }
}

fn fates(kept: u64, moved: u64, superseded: u64, dropped: u64) -> Fates {
    Fates { kept, moved, superseded, dropped }
}

#[test]
fn a_resolution_by_hand_is_judged_line_by_line() {
    let bench = Bench::new();
    let base = bench.base(&[("f", "fn one() {\n}\n\nfn two() {\n}\n")]);
    let a =
        bench.on(&base, &[("f", "fn one() {\n}\n\n#[test]\nfn a() {\n    check(1);\n}\n\nfn two() {\n}\n")]);
    let b =
        bench.on(&base, &[("f", "fn one() {\n}\n\n#[test]\nfn b() {\n    check(2);\n}\n\nfn two() {\n}\n")]);
    let both = [brings("a", &a), brings("b", &b)];
    let head = "fn one() {\n}\n\n";
    let first = "#[test]\nfn a() {\n    check(1);\n}\n\n";
    let second = "#[test]\nfn b() {\n    check(2);\n}\n\n";
    let whole = bench.landed(&base, &both, &[("f", &format!("{head}{first}{second}fn two() {{\n}}\n"))]);
    assert_eq!((whole.dropped(), whole.present("main")), (0, (10, 10)), "{whole:#?}");

    let untested = second.replace("#[test]\n", "");
    let spoiled = bench.landed(&base, &both, &[("f", &format!("{head}{first}{untested}fn two() {{\n}}\n"))]);
    assert_eq!(spoiled.dropped(), 1, "{spoiled:#?}");
    let [loss] = &spoiled.losses[..] else { panic!("{spoiled:#?}") };
    assert_eq!(
        (loss.name.as_str(), loss.lines, loss.change),
        ("b", LineRange { start: 4, len: 1 }, Brought::Added)
    );

    let none = bench.landed(&base, &both, &[("f", &format!("{head}{first}fn two() {{\n}}\n"))]);
    assert_eq!(none.accounts[1].added, fates(0, 0, 0, 5), "{none:#?}");
    assert_eq!(none.losses[0].lines, LineRange { start: 4, len: 5 });

    // Both are called in one line that neither has.
    let base = bench.base(&[("g", "before\ncall(x)\nafter\n")]);
    let a = bench.on(&base, &[("g", "before\ncall(x, alpha)\nafter\n")]);
    let b = bench.on(&base, &[("g", "before\ncall(x, beta)\nafter\n")]);
    let both = [brings("a", &a), brings("b", &b)];
    let joined = bench.landed(&base, &both, &[("g", "before\ncall(x, alpha, beta)\nafter\n")]);
    assert_eq!(joined.dropped(), 0, "{joined:#?}");
    assert!(joined.losses.iter().all(|loss| loss.by == Some(By::Rewritten)), "{joined:#?}");
    let back = bench.landed(&base, &both, &[("g", "before\ncall(x)\nafter\n")]);
    assert_eq!(back.accounts[0].added.dropped + back.accounts[1].added.dropped, 2, "{back:#?}");
    assert!(back.losses.iter().any(|loss| loss.change == Brought::Removed), "{back:#?}");
}

#[test]
fn lines_that_went_elsewhere_are_found_there() {
    let bench = Bench::new();
    let base = bench.base(&[("f", "one\ntwo\nthree\n"), ("g", "other\n")]);
    let a = bench.on(&base, &[("f", "one\nalpha {\n    body\n}\ntwo\nthree\n")]);
    let agents = [brings("a", &a)];
    let moved =
        bench.landed(&base, &agents, &[("f", "one\ntwo\nthree\n"), ("g", "other\nalpha {\n    body\n}\n")]);
    assert_eq!(moved.accounts[0].added, fates(0, 3, 0, 0), "{moved:#?}");
    let partly =
        bench.landed(&base, &agents, &[("f", "one\ntwo\nthree\n"), ("g", "other\nalpha {\n    body\n")]);
    assert_eq!(partly.accounts[0].added, fates(0, 2, 0, 1), "{partly:#?}");
    let renamed =
        bench.landed(&base, &agents, &[("f", "-"), ("h", "one\nalpha {\n    body\n}\ntwo\nthree\n")]);
    assert_eq!(renamed.dropped(), 0, "{renamed:#?}");
}

#[test]
fn whoever_builds_on_a_line_may_take_it_away() {
    let bench = Bench::new();
    let base = bench.base(&[("f", "one\ntwo\n")]);
    let a = bench.on(&base, &[("f", "one\nalpha\nalpha 2\ntwo\n")]);
    let b = bench.on(&a, &[("f", "one\nbeta\nalpha 2\ntwo\n")]);
    let stacked = [brings("a", &a), brings("b", &b)];
    let receipt = bench.landed(&base, &stacked, &[("f", "one\nbeta\nalpha 2\ntwo\n")]);
    assert_eq!(receipt.accounts[0].added, fates(1, 0, 1, 0), "{receipt:#?}");
    assert_eq!(receipt.accounts[1].added, fates(1, 0, 0, 0), "lines belong to whoever made them");
    assert!(matches!(&receipt.losses[0].by, Some(By::Agent { name, .. }) if name.as_str() == "b"));
}

#[test]
fn files_without_lines_are_one_each() {
    let bench = Bench::new();
    let base = bench.base(&[("bin", "\0one"), ("gone", "a\nb\n"), ("dos", "x\r\ny\r\n"), ("end", "z")]);
    let (a, b) = (
        bench.on(&base, &[("bin", "\0two"), ("gone", "-"), ("dos", "x\r\nz\r\ny\r\n"), ("empty", "")]),
        bench.on(&base, &[("bin", "\0three"), ("gone", "a\nb\nc\n"), ("end", "z\nmore")]),
    );
    let both = [brings("a", &a), brings("b", &b)];
    let files =
        [("dos", "x\r\nz\r\ny\r\n"), ("end", "z\nmore"), ("empty", ""), ("bin", "\0two"), ("gone", "-")];
    let receipt = bench.landed(&base, &both, &files);
    assert_eq!(
        (receipt.accounts[0].added.dropped, receipt.accounts[0].removed.dropped),
        (0, 0),
        "{receipt:#?}"
    );
    // The binary version, and the line added to a file that is deleted.
    assert_eq!(receipt.accounts[1].added.dropped, 2, "{receipt:#?}");
    let back = bench.landed(
        &base,
        &both,
        &[("dos", "x\ny\n"), ("end", "z"), ("bin", "\0three"), ("gone", "a\nb\nc\n")],
    );
    let of_a = &back.accounts[0];
    assert_eq!(of_a.removed.dropped, 2, "a deleted file is back: {back:#?}");
    assert!(of_a.added.dropped >= 3, "binary, line, empty file: {back:#?}");
    assert_eq!(back.accounts[1].added.dropped, 1, "the last line without its end: {back:#?}");

    sandboxed_mode(&bench, &base);
}

/// An execute bit is somebody's work too.
fn sandboxed_mode(bench: &Bench, base: &ObjectId) {
    let tree = &bench.repo.read_commit(base).unwrap().tree;
    let entry = bench.repo.find_in_tree(tree, "dos").unwrap().unwrap();
    let runs =
        bench.repo.edit_tree(Some(tree), &[("dos", Some((EntryMode::Executable, entry.id)))]).unwrap().0;
    let agents = [brings("a", &bench.commit(&[base], &runs))];
    assert_eq!(judged(&bench.repo, base, &agents, &runs).present("main"), (1, 1));
    assert_eq!(judged(&bench.repo, base, &agents, tree).dropped(), 1);
}

#[test]
fn a_decision_answers_for_what_it_chose_and_for_no_more() {
    let bench = Bench::new();
    let base = bench.base(&[("f", "one\ntwo\n3\n4\n5\n6\nseven\n")]);
    let a = bench.on(&base, &[("f", "one\nalpha\nalpha 2\n3\n4\n5\n6\nseven\n")]);
    let b = bench.on(&base, &[("f", "one\nbeta\n3\n4\n5\n6\nseven\nafter\n")]);
    let both = [brings("a", &a), brings("b", &b)];
    let decision = Id::from_random(9);
    let answer: Answer =
        serde_json::from_value(serde_json::json!({"key": "ours", "by": "Ada", "at": 0})).unwrap();
    let settled = |side| {
        let resolution = Resolution { path: "f".into(), side, decision: Some(decision), by: "Ada".into() };
        [Settled { who: 1, resolution, answer: Some(answer.clone()) }]
    };
    let tree = |text: &str| bench.tree(Some(&bench.repo.read_commit(&base).unwrap().tree), &[("f", text)]);
    let judged = |side, text: &str| {
        let (settled, landed) = (settled(side), tree(text));
        let case = Case { target: "main", before: &base, brings: &both, landed: &landed, settled: &settled };
        judge(&bench.repo, &case).unwrap()
    };
    let as_chosen = judged(Side::Ours, "one\nalpha\nalpha 2\n3\n4\n5\n6\nseven\nafter\n");
    assert_eq!(as_chosen.dropped(), 0, "{as_chosen:#?}");
    assert_eq!(as_chosen.accounts[1].added, fates(1, 0, 1, 0));
    assert_eq!(as_chosen.losses[0].by, Some(By::Decision { id: decision }));
    // `after` did not clash: nobody chose to leave it out. Nor a line of the side that was chosen.
    let more = judged(Side::Ours, "one\nalpha\nalpha 2\n3\n4\n5\n6\nseven\n");
    assert_eq!(more.dropped(), 1, "{more:#?}");
    let less = judged(Side::Ours, "one\nalpha\n3\n4\n5\n6\nseven\nafter\n");
    assert_eq!(less.accounts[0].added, fates(1, 0, 0, 1), "{less:#?}");
    // What an agent leaves out, nobody chose.
    let silent = judged(Side::Agent, "one\nalpha\nalpha 2\n3\n4\n5\n6\nseven\nafter\n");
    assert_eq!(silent.accounts[1].added, fates(1, 0, 0, 1), "{silent:#?}");
}

/// Seen from the target, a branch that left its lines out while merging it has merely removed them.
#[test]
fn what_an_agent_left_out_when_it_merged_the_target_by_itself_is_dropped() {
    let bench = Bench::new();
    let base = bench.base(&[("f", "one\ntwo\n3\n4\n5\n6\nseven\n")]);
    let target = bench.on(&base, &[("f", "one\nalpha\nalpha 2\ntwo\n3\n4\n5\n6\nseven\n")]);
    let own = bench.on(&base, &[("f", "one\ntwo\n3\n4\n5\n6\nbeta\n")]);
    let tree = |text: &str| bench.tree(Some(&bench.repo.read_commit(&base).unwrap().tree), &[("f", text)]);
    let judged = |merged: &str, landed: &str| {
        let merge = bench.commit(&[&own, &target], &tree(merged));
        let tip = bench.commit(&[&merge], &tree(landed));
        bench.with_inside(&target, &[brings("b", &tip)], &tree(landed))
    };
    let (whole, without) = ("one\nalpha\nalpha 2\ntwo\n3\n4\n5\n6\nbeta\n", "one\ntwo\n3\n4\n5\n6\nbeta\n");
    assert_eq!(judged(whole, whole).dropped(), 0);
    let lost = judged(without, without);
    assert_eq!(lost.dropped(), 2, "{lost:#?}");
    assert_eq!((lost.losses[0].place(), lost.losses[0].name.as_str()), ("f:2-3".to_owned(), "main"));
    assert!(lost.losses[0].inside.is_some(), "{lost:#?}");
    assert_eq!(judged(without, whole).dropped(), 0, "it brought them back");
    // What it removes on purpose it removes in a commit of its own.
    assert_eq!(judged(whole, without).dropped(), 0);
}

/// The same of another agent's work that has not landed yet.
#[test]
fn what_an_agent_left_out_when_it_merged_another_agents_branch_is_dropped() {
    let bench = Bench::new();
    let base = bench.base(&[("f", "one\ntwo\n3\n4\n5\n6\nseven\n")]);
    let other = bench.on(&base, &[("f", "one\nalpha\nalpha 2\ntwo\n3\n4\n5\n6\nseven\n")]);
    let own = bench.on(&base, &[("f", "one\ntwo\n3\n4\n5\n6\nbeta\n")]);
    let tree = |text: &str| bench.tree(Some(&bench.repo.read_commit(&base).unwrap().tree), &[("f", text)]);
    let judged = |merged: &str| {
        let merge = bench.commit(&[&own, &other], &tree(merged));
        let both = [brings("a", &other), brings("b", &merge)];
        (bench.with_inside(&base, &both, &tree(merged)), merge)
    };
    let (whole, _) = judged("one\nalpha\nalpha 2\ntwo\n3\n4\n5\n6\nbeta\n");
    assert_eq!((whole.dropped(), whole.losses.len()), (0, 0), "{whole:#?}");
    let (lost, merge) = judged("one\ntwo\n3\n4\n5\n6\nbeta\n");
    assert_eq!(lost.accounts[0].added, fates(0, 0, 0, 2), "{lost:#?}");
    let [told] = &lost.losses[..] else { panic!("{lost:#?}") };
    assert_eq!((told.place(), told.name.as_str()), ("f:2-3".to_owned(), "a"));
    assert_eq!((told.by.as_ref(), told.inside.as_ref()), (None, Some(&merge)));
}

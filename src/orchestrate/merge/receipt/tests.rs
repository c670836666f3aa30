//! Receipts of merges in real repositories: git's own, and those that somebody spoiled.

use super::bases::join;
use super::*;
use crate::git::testing::Sandbox;
use crate::git::{EntryMode, TreeEntry};
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
            let Some((spoiled, _)) = without_a_line(&repo, &mut rng, &landed) else { continue };
            let receipt = judged(&repo, &before, &brings, &spoiled);
            assert!(receipt.dropped() > 0, "seed {seed}: {receipt:#?}");
            taken += 1;
        }
    }
    assert!(lines > 300 && taken > 20, "{lines} lines, {superseded} superseded, {taken} taken away");
}

/// The tree without one line of one of its files, and that line.
fn without_a_line(repo: &Repository, rng: &mut Rng, tree: &ObjectId) -> Option<(ObjectId, Vec<u8>)> {
    let files = files_of(repo, tree);
    let (path, entry) = files.get(rng.below(files.len().max(1)))?;
    let content = repo.read_blob(&entry.id).unwrap();
    let mut lines: Vec<&[u8]> = content.lines_with_terminator().collect();
    let line = lines.remove(rng.below(lines.len())).to_vec();
    let blob = repo.write_blob(&lines.concat()).unwrap();
    Some((repo.edit_tree(Some(tree), &[(path, Some((entry.mode, blob)))]).unwrap().0, line))
}

fn files_of(repo: &Repository, tree: &ObjectId) -> Vec<(String, TreeEntry)> {
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
    files
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
        let mut receipt = judge_all(&self.repo, &case).unwrap();
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

/// A file of numbers with these lines put in before or in place of others, one pair after the other.
fn numbers(changes: &[(&str, &str)]) -> String {
    let text = "one\ntwo\n3\n4\n5\n6\nseven\n8\n9\nten\n".to_owned();
    changes.iter().fold(text, |text, (old, new)| {
        assert!(text.contains(old), "{old} in {text}");
        text.replacen(old, new, 1)
    })
}

/// Commits of whole versions of `f`, and merges in branches.
impl Bench {
    fn says(&self, parents: &[&ObjectId], text: &str) -> ObjectId {
        let tree = self.tree(Some(&self.repo.read_commit(parents[0]).unwrap().tree), &[("f", text)]);
        self.commit(parents, &tree)
    }

    /// What is told of `text` landed as `f`: how many lines were dropped, and where.
    fn told(&self, before: &ObjectId, all: &[(&str, &ObjectId)], text: &str) -> (u64, Vec<String>) {
        let all: Vec<Brings> = all.iter().map(|(name, tip)| brings(name, tip)).collect();
        let landed = self.tree(Some(&self.repo.read_commit(before).unwrap().tree), &[("f", text)]);
        let receipt = self.with_inside(before, &all, &landed);
        let dropped = receipt.losses.iter().filter(|loss| loss.by.is_none());
        (receipt.dropped(), dropped.map(|loss| format!("{} {}", loss.name, loss.place())).collect())
    }
}

const ALPHA: (&str, &str) = ("two\n", "alpha\nalpha 2\ntwo\n");
const BETA: (&str, &str) = ("ten\n", "beta\n");

fn places<const N: usize>(places: [&str; N]) -> Vec<String> {
    places.map(str::to_owned).to_vec()
}

/// The same text elsewhere in the file is another line.
#[test]
fn a_line_that_a_merge_in_a_branch_dropped_is_missed_although_its_like_is_there() {
    let bench = Bench::new();
    let base = bench.base(&[("f", &numbers(&[]))]);
    let target = bench.says(&[&base], &numbers(&[("two\n", "alpha\ntwo\n")]));
    let own = bench.says(&[&base], &numbers(&[BETA]));
    let merge = bench.says(&[&own, &target], &numbers(&[BETA]));
    let other = bench.says(&[&base], &numbers(&[("6\n", "6\nalpha\n")]));
    let landed = numbers(&[BETA, ("6\n", "6\nalpha\n")]);
    let told = bench.told(&target, &[("b", &merge), ("c", &other)], &landed);
    assert_eq!(told, (1, places(["main f:2"])));
    let whole = numbers(&[BETA, ("6\n", "6\nalpha\n"), ("two\n", "alpha\ntwo\n")]);
    let again = bench.says(&[&merge], &numbers(&[("two\n", "alpha\ntwo\n"), BETA]));
    assert_eq!(bench.told(&target, &[("b", &again), ("c", &other)], &whole), (0, places([])));
}

#[test]
fn a_line_that_a_merge_in_a_branch_brought_back_is_told_only_as_long_as_it_is_back() {
    let bench = Bench::new();
    let [first, second] = [("two\n", "check\ntwo\n"), ("8\n", "8\ncheck\n")];
    let base = bench.base(&[("f", &numbers(&[first, second]))]);
    let target = bench.says(&[&base], &numbers(&[second]));
    let own = bench.says(&[&base], &numbers(&[first, second, BETA]));
    let merge = bench.says(&[&own, &target], &numbers(&[first, second, BETA]));
    let back = numbers(&[first, second, BETA]);
    assert_eq!(bench.told(&target, &[("b", &merge)], &back), (1, places(["main f:2"])));
    let without = numbers(&[second, BETA]);
    let again = bench.says(&[&merge], &without);
    assert_eq!(bench.told(&target, &[("b", &again)], &without), (0, places([])));
}

#[test]
fn of_lines_that_a_merge_in_a_branch_dropped_those_that_came_back_are_not_counted() {
    let bench = Bench::new();
    let base = bench.base(&[("f", &numbers(&[]))]);
    let target = bench.says(&[&base], &numbers(&[ALPHA]));
    let own = bench.says(&[&base], &numbers(&[BETA]));
    let merge = bench.says(&[&own, &target], &numbers(&[BETA]));
    let some = numbers(&[("two\n", "alpha 2\ntwo\n"), BETA]);
    let tip = bench.says(&[&merge], &some);
    assert_eq!(bench.told(&target, &[("b", &tip)], &some), (1, places(["main f:2"])));
    // Under another name they are there too.
    let (path, whole) = ("h", numbers(&[ALPHA, BETA]));
    let tip = bench.on(&merge, &[("f", "-"), (path, &whole)]);
    let landed = bench.repo.read_commit(&tip).unwrap().tree;
    let receipt = bench.with_inside(&target, &[brings("b", &tip)], &landed);
    assert_eq!(receipt.dropped(), 0, "{receipt:#?}");
}

#[test]
fn two_merges_in_a_branch_that_drop_lines_at_one_place_are_told_as_two() {
    let bench = Bench::new();
    let base = bench.base(&[("f", &numbers(&[]))]);
    let first = bench.says(&[&base], &numbers(&[("two\n", "alpha\ntwo\n")]));
    let second = bench.says(&[&first], &numbers(&[("two\n", "gamma\nalpha\ntwo\n")]));
    let own = bench.says(&[&base], &numbers(&[BETA]));
    let merge = bench.says(&[&own, &first], &numbers(&[BETA]));
    let merge = bench.says(&[&merge, &second], &numbers(&[BETA]));
    let told = bench.told(&second, &[("b", &merge)], &numbers(&[BETA]));
    assert_eq!(told, (2, places(["main f:3", "main f:2"])));
}

/// One line that two branches leave out is lost once.
#[test]
fn a_line_that_merges_in_two_branches_dropped_is_counted_once() {
    let bench = Bench::new();
    let base = bench.base(&[("f", &numbers(&[]))]);
    let target = bench.says(&[&base], &numbers(&[("two\n", "alpha\ntwo\n")]));
    let later = bench.says(&[&target], &numbers(&[("one\n", "zero\none\n"), ("two\n", "alpha\ntwo\n")]));
    let [gamma, zero] = [("seven\n", "gamma\n"), ("one\n", "zero\none\n")];
    let own = [BETA, gamma].map(|change| bench.says(&[&base], &numbers(&[change])));
    let first = bench.says(&[&own[0], &target], &numbers(&[BETA]));
    let second = bench.says(&[&own[1], &later], &numbers(&[gamma, zero]));
    let told = bench.told(&later, &[("b", &first), ("c", &second)], &numbers(&[BETA, gamma, zero]));
    assert_eq!(told, (1, places(["main f:3"])));
}

#[test]
fn what_its_owner_took_away_himself_no_merge_in_a_branch_dropped() {
    let bench = Bench::new();
    let base = bench.base(&[("f", &numbers(&[]))]);
    let first = bench.says(&[&base], &numbers(&[ALPHA]));
    let last = bench.says(&[&first], &numbers(&[("two\n", "alpha 2\ntwo\n")]));
    let own = bench.says(&[&base], &numbers(&[BETA]));
    let merge = bench.says(&[&own, &first], &numbers(&[BETA]));
    for (before, is_agent) in [(&last, false), (&base, true)] {
        let mut all = vec![("b", &merge)];
        if is_agent {
            all.insert(0, ("a", &last));
        }
        let told = bench.told(before, &all, &numbers(&[BETA]));
        let name = if is_agent { "a" } else { "main" };
        assert_eq!(told, (1, places([&*format!("{name} f:2")])));
    }
}

#[test]
fn merges_in_branches_are_told_of_what_they_dropped_and_of_nothing_else() {
    let (mut clean, mut spoiled) = (0, 0);
    for seed in 0..10 {
        let (sandbox, tips) = history(900 + seed, 6);
        let repo = sandbox.open();
        let before: ObjectId = sandbox.git(&["rev-parse", "main"]).parse().unwrap();
        let mut rng = Rng::new(seed);
        let judged = |merge: &ObjectId, other: usize| {
            let rest = tips.iter().enumerate().filter(|(at, _)| *at > 0).map(|(_, tip)| tip.clone());
            let mut all: Vec<ObjectId> = rest.collect();
            all.insert(other, merge.clone());
            let (brings, landed) = cleanly(&repo, &before, &all);
            let case =
                Case { target: "main", before: &before, brings: &brings, landed: &landed, settled: &[] };
            let mut receipt = judge_all(&repo, &case).unwrap();
            inside::add(&repo, &case, &mut receipt).unwrap();
            let is_brought = brings.iter().any(|one| one.tip == tips[other]);
            (receipt, landed, is_brought)
        };
        for (other, tip) in tips.iter().enumerate().skip(1) {
            let merge = repo.merge_tree(&tips[0], tip).unwrap();
            if !merge.clean || repo.merge_base(&tips[0], tip).unwrap().as_ref() == Some(tip) {
                continue;
            }
            let (receipt, ..) = judged(&join(&repo, &tips[0], tip, &merge.tree).unwrap(), other);
            assert_eq!(receipt.dropped(), 0, "seed {seed}, {other}: {receipt:#?}");
            clean += 1;
            // A line of the other's that is nowhere else.
            let own = repo.read_commit(&tips[0]).unwrap().tree;
            let has = |tree: &ObjectId, line: &[u8]| has_line(&repo, tree, line);
            let theirs = repo.read_commit(tip).unwrap().tree;
            let less = (0..30).find_map(|_| {
                without_a_line(&repo, &mut rng, &merge.tree)
                    .filter(|(less, line)| !has(&own, line) && !has(less, line) && has(&theirs, line))
            });
            let Some((less, line)) = less else { continue };
            let (receipt, landed, is_brought) = judged(&join(&repo, &tips[0], tip, &less).unwrap(), other);
            let is_told = receipt.losses.iter().any(|loss| loss.by.is_none());
            let is_lost = is_brought && !has(&landed, &line);
            assert_eq!(is_told, is_lost, "seed {seed}, {other}: {} {receipt:#?}", line.as_bstr());
            spoiled += u32::from(is_told);
        }
    }
    assert!(clean > 12 && spoiled > 5, "{clean} clean, {spoiled} spoiled");
}

/// Whether a file of the tree has this line.
fn has_line(repo: &Repository, tree: &ObjectId, line: &[u8]) -> bool {
    let all = files_of(repo, tree);
    all.iter().any(|(_, entry)| {
        repo.read_blob(&entry.id).unwrap().lines().any(|other| other == line.trim_end_with(|c| c == '\n'))
    })
}

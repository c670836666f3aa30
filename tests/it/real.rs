//! Branches that were really open at once, merged by the program and by `git merge`: the same verdicts, the same trees,
//! and receipts without an alarm.
//!
//! The long form takes them from the repositories that `ORCHESTRA_REPOSITORIES=path:path` names (nothing is written there),
//! `ORCHESTRA_SETS` sets of each, and prints figures; the short one from a generated repository.

#[path = "../../benches/sets.rs"]
mod sets;

use crate::harness::{Layout, Sandbox};
use crate::merge::record_agents;
use serde_json::Value;
use sets::{Set, Wanted};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// What was looked at, and how much of it was not as it should be.
#[derive(Debug, Default)]
struct Figures {
    sets: usize,
    /// Sets of which git itself cannot merge some pair: objects are missing.
    unreadable: usize,
    pairs: usize,
    conflicts: usize,
    /// Merges that landed, with how many branches.
    landed: usize,
    branches: usize,
    /// Lines that receipts account for.
    lines: u64,
    /// What differs, in words.
    wrong: Vec<String>,
}

/// A repository with a checkout of its own for `git merge`.
struct Bench {
    sandbox: Sandbox,
    checkout: PathBuf,
}

impl Bench {
    /// With the objects of another repository, and HEAD's history of it.
    fn borrowing(source: &Path) -> (Self, String) {
        let sandbox = Sandbox::with(Layout { unborn: true, ..Layout::default() });
        let git = |args: &[&str]| sandbox.git_in(source, args);
        let objects = git(&["rev-parse", "--path-format=absolute", "--git-path", "objects"]);
        std::fs::write(sandbox.git_dir().join("objects/info/alternates"), objects + "\n").unwrap();
        let head = git(&["rev-parse", "HEAD"]);
        (Self::at(sandbox, &head), head)
    }

    /// With a generated repository.
    fn generated(files: usize, branches: usize) -> (Self, String) {
        let sandbox = Sandbox::with(Layout { unborn: true, ..Layout::default() });
        let stream = sets::generated(files, branches, 1);
        let out = sandbox.try_git_in(sandbox.repo(), &["fast-import", "--quiet", "--done"], &stream);
        assert_eq!(out.code, 0, "{out}");
        let head = sandbox.git(&["rev-parse", "main"]);
        (Self::at(sandbox, &head), head)
    }

    fn at(sandbox: Sandbox, head: &str) -> Self {
        sandbox.git(&["update-ref", "refs/heads/main", head]);
        sandbox.git(&["reset", "--quiet", "--hard"]);
        sandbox.git(&["commit-graph", "write", "--reachable"]);
        // Whatever runs by itself lands without a question: nobody is there to be asked.
        sandbox.git(&["config", "--global", "orchestra.merge.executables", "land"]);
        let checkout = sandbox.root().join("checkout");
        sandbox.git(&["worktree", "add", "--quiet", "--detach", checkout.to_str().unwrap(), head]);
        Self { sandbox, checkout }
    }

    fn sets(&self, head: &str, wanted: Wanted) -> Vec<Set> {
        sets::sets(&self.sandbox.git(&["rev-list", "--topo-order", "--reverse", "--parents", head]), wanted)
    }

    /// Makes the branches of `set` those of agents, and forgets whoever was there.
    fn open(&self, set: &Set) -> Vec<String> {
        let git = |args: &[&str]| self.sandbox.git(args);
        for place in ["refs/orchestra", "refs/heads/orchestra", "refs/notes"] {
            for name in git(&["for-each-ref", "--format=%(refname)", place]).lines() {
                git(&["update-ref", "-d", name]);
            }
        }
        match std::fs::remove_dir_all(self.sandbox.repo().join(".git/orchestra")) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
            _ => {}
        }
        git(&["reset", "--quiet", "--hard", &set.target]);
        git(&["clean", "--quiet", "-ffdx"]);
        let names: Vec<String> = (0..set.tips.len()).map(|n| format!("branch-{n:02}")).collect();
        for (name, tip) in names.iter().zip(&set.tips) {
            git(&["update-ref", &format!("refs/heads/orchestra/{name}"), tip]);
        }
        let bases: Vec<String> = set.tips.iter().map(|tip| git(&["merge-base", &set.target, tip])).collect();
        record_agents(&self.sandbox, names.iter().map(String::as_str).zip(bases.iter().map(String::as_str)));
        names
    }

    /// Whether git merges each two commits by itself, one process a pair; `None` if it cannot say of all.
    fn git_says(&self, pairs: &[(&str, &str)]) -> Option<Vec<bool>> {
        let script = "mkdir objects && GIT_ALTERNATE_OBJECT_DIRECTORIES=$1/objects GIT_OBJECT_DIRECTORY=$PWD/objects \
                      && export GIT_ALTERNATE_OBJECT_DIRECTORIES GIT_OBJECT_DIRECTORY \
                      && while read a b; do git -C $2 merge-tree --write-tree $a $b >/dev/null 2>&1; echo $?; done";
        let lines =
            pairs.iter().map(|(ours, theirs)| format!("{ours} {theirs}\n")).collect::<Vec<_>>().concat();
        let quarantine = tempfile::tempdir_in(self.sandbox.root()).unwrap();
        let mut command = self.sandbox.command("sh");
        command.args(["-c", script, "sh"]).arg(self.sandbox.git_dir()).arg(self.sandbox.repo());
        command.current_dir(quarantine.path()).stdin(std::process::Stdio::piped());
        let mut child = command.stdout(std::process::Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut stdin, lines.as_bytes()));
        let out = child.wait_with_output().unwrap();
        writer.join().unwrap().unwrap();
        let said: Vec<String> = String::from_utf8(out.stdout).unwrap().lines().map(str::to_owned).collect();
        assert_eq!(said.len(), pairs.len(), "an answer for every pair");
        let verdict = |code: &String| match code.as_str() {
            "0" => Some(true),
            "1" => Some(false),
            _ => None,
        };
        said.iter().map(verdict).collect()
    }

    /// Merges commits one after the other in a checkout onto `target`, and returns the tree; or where git stops.
    fn git_merges(&self, target: &str, tips: &[&str]) -> Result<String, String> {
        let git = |args: &[&str]| self.sandbox.git_in(&self.checkout, args);
        git(&["reset", "--quiet", "--hard", target]);
        git(&["clean", "--quiet", "-ffdx"]);
        for tip in tips {
            let args = ["merge", "--quiet", "--no-ff", "--no-edit", tip];
            let out = self.sandbox.try_git_in(&self.checkout, &args, b"");
            if out.code != 0 {
                git(&["merge", "--abort"]);
                return Err(format!("git merge {tip}: {}", out.stdout.trim_end()));
            }
        }
        Ok(git(&["rev-parse", "HEAD^{tree}"]))
    }

    fn examine(&self, set: &Set, figures: &mut Figures) {
        let names = self.open(set);
        let mut wrong = |what: String| {
            let what = format!("{what}\n  of {} {}", set.target, set.tips.join(" "));
            println!("{what}");
            figures.wrong.push(what);
        };
        // Verdicts.
        let overlap = self.sandbox.json(&["overlap"]);
        let (branches, pairs) = (&overlap["data"]["branches"], overlap["data"]["pairs"].as_array().unwrap());
        let branches = branches.as_array().unwrap();
        assert_eq!((branches.len(), pairs.len()), (names.len(), names.len() * (names.len() + 1) / 2));
        let tip = |agent: &Value| {
            let branch = branches.iter().find(|branch| branch["agent"] == *agent);
            branch.and_then(|branch| branch["work"].as_str()).expect("one of them")
        };
        let asked: Vec<(&str, &str)> = pairs
            .iter()
            .map(|pair| match &pair["b"] {
                Value::Null => (set.target.as_str(), tip(&pair["a"])),
                other => (tip(&pair["a"]), tip(other)),
            })
            .collect();
        let Some(clean) = self.git_says(&asked) else {
            figures.unreadable += 1;
            return;
        };
        figures.sets += 1;
        figures.pairs += pairs.len();
        figures.conflicts += clean.iter().filter(|clean| !**clean).count();
        for ((pair, (ours, theirs)), clean) in pairs.iter().zip(&asked).zip(clean) {
            if (pair["forecast"]["is"] == "clean") != clean {
                wrong(format!("forecast: {}; git: {clean}, of {ours} and {theirs}", pair["forecast"]));
            }
        }

        // What merges without a person, landed by the program and by git in a checkout.
        let plan = self.sandbox.json(&["merge", "--dry-run"]);
        let steps = plan["data"]["steps"].as_array().unwrap();
        let clean = |step: &&Value| step["status"] != "pending";
        let steps: Vec<&Value> = steps.iter().filter(clean).collect();
        let landing: Vec<&str> = steps.iter().map(|step| step["name"].as_str().unwrap()).collect();
        if landing.is_empty() {
            return;
        }
        let out = self.sandbox.orchestra(&[&["merge", "--yes", "--json"], &landing[..]].concat());
        if out.code != 0 {
            wrong(format!("what the plan calls clean does not land: {out}"));
            return;
        }
        let landed: Value = serde_json::from_str(&out.stdout).unwrap();
        let merge = &landed["data"]["merge"];
        let merged = merge["steps"].as_array().unwrap();
        let tips = |steps: &[&Value]| -> BTreeSet<String> {
            steps.iter().map(|step| step["tip"].as_str().unwrap().to_owned()).collect()
        };
        let order: Vec<&str> = merged.iter().map(|step| step["tip"].as_str().unwrap()).collect();
        assert_eq!(tips(&merged.iter().collect::<Vec<_>>()), tips(&steps));
        figures.landed += 1;
        figures.branches += order.len();
        let ours = self.sandbox.git(&["rev-parse", "main^{tree}"]);
        match self.git_merges(&set.target, &order) {
            Ok(tree) if tree == ours => {}
            Ok(tree) => wrong(format!("the landed tree is {ours}; git merges {order:?} to {tree}")),
            Err(stopped) => wrong(format!("landed, but not by git: {stopped}; of {order:?}")),
        }
        if !self.sandbox.git(&["status", "--porcelain"]).is_empty() {
            wrong("the checkout did not follow".to_owned());
        }

        // Receipts: of the program's merge, and of git's as if a person had made them. Merges in the branches themselves are
        // somebody's, who may have dropped something.
        let by_hand = self.sandbox.git_in(&self.checkout, &["rev-parse", "HEAD"]);
        self.sandbox.git(&["update-ref", "refs/heads/by-hand", &by_hand]);
        let made = self.sandbox.git(&["rev-list", "--first-parent", "by-hand", &format!("^{}", set.target)]);
        let of_git = ["verify", "--json", "--target", "by-hand", "--since", &set.target];
        for args in [&["verify", "--json"][..], &of_git] {
            let out = self.sandbox.orchestra(args);
            let verified: Value =
                serde_json::from_str(&out.stdout).unwrap_or_else(|_| panic!("{args:?}: {out}"));
            for judged in verified["data"].as_array().unwrap() {
                if judged["merge"].is_null() && !made.contains(judged["commit"].as_str().unwrap()) {
                    continue;
                }
                if judged["dropped"] != 0 {
                    wrong(format!("a false alarm of {args:?}: {judged}"));
                }
                for account in judged["receipt"]["accounts"].as_array().unwrap() {
                    let of = |what: &str| -> u64 {
                        account[what].as_object().unwrap().values().filter_map(Value::as_u64).sum()
                    };
                    figures.lines += of("added") + of("removed");
                }
            }
        }
    }
}

fn number(variable: &str, otherwise: usize) -> usize {
    std::env::var(variable).map_or(otherwise, |number| number.parse().unwrap())
}

#[test]
fn branches_of_a_generated_repository_are_merged_as_by_git() {
    let (bench, head) = Bench::generated(600, 8);
    let found = bench.sets(&head, Wanted { least: 6, most: 8, ahead: 12 });
    assert_eq!(found.len(), 4);
    let mut figures = Figures::default();
    for set in &found {
        bench.examine(set, &mut figures);
    }
    assert_eq!(figures.wrong, [""; 0]);
    assert_eq!((figures.sets, figures.landed), (4, 4), "{figures:?}");
    assert!(figures.conflicts > 5 && figures.branches > 16 && figures.lines > 100, "{figures:?}");
}

#[test]
#[ignore = "takes repositories of others, and minutes"]
fn branches_of_real_repositories_are_merged_as_by_git() {
    let named = std::env::var("ORCHESTRA_REPOSITORIES").expect("ORCHESTRA_REPOSITORIES=path:path");
    let mut wrong = Vec::new();
    for path in named.split(':').map(Path::new) {
        let (bench, head) = Bench::borrowing(path);
        let wanted = Wanted { least: 4, most: 12, ahead: 60 };
        let found = bench.sets(&head, wanted);
        // From all of its history.
        let count = number("ORCHESTRA_SETS", 40).min(found.len());
        let mut figures = Figures::default();
        for n in 0..count {
            bench.examine(&found[n * found.len() / count], &mut figures);
        }
        println!(
            "{}: {} sets of {} ({} more with objects that are missing), {} pairs, {} conflicts; {} merges of {} branches landed; \
             receipts of {} lines; {} differences",
            path.display(),
            figures.sets,
            found.len(),
            figures.unreadable,
            figures.pairs,
            figures.conflicts,
            figures.landed,
            figures.branches,
            figures.lines,
            figures.wrong.len(),
        );
        assert!(figures.sets > 0, "{}: no branches were open at once", path.display());
        wrong.extend(figures.wrong);
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

//! The engine on real repositories: equal to git where git needs nobody, and resumable everywhere else.

mod kinds;
mod ladder;
mod landing;
mod places;
mod resolver;

use super::*;
use crate::git::testing::Sandbox;
use crate::git::{EntryMode, Identity, Repository};
use crate::model::{
    Agent, Decision, DecisionStatus, Merge, MergeStatus, StepStatus, Task, TaskStatus, Timestamp,
};
use crate::orchestrate::testing::history;
use crate::process::SystemClock;
use crate::store::Store;
use std::sync::Arc;

/// A repository with agents whose branches exist, without any program having run.
pub(super) struct Fleet {
    sandbox: Sandbox,
    pub(super) store: Store,
}

impl Fleet {
    fn new(sandbox: Sandbox) -> Self {
        let repo = sandbox.open();
        let store = Store::open(repo, Arc::new(SystemClock), Identity::new("Ada", "ada@example.org"));
        Self { sandbox, store }
    }

    /// `main` with files `f` of ten lines and `g`, and a commit on top for each agent.
    pub(super) fn with(agents: &[(&str, &[(&str, &str)])]) -> Self {
        let sandbox = Sandbox::new(&[]);
        for (path, text) in [("f", NUMBERS), ("g", "g\n")] {
            std::fs::write(sandbox.path().join(path), text).unwrap();
        }
        sandbox.git(&["add", "-A"]);
        sandbox.git(&["commit", "-q", "-m", "base"]);
        let fleet = Self::new(sandbox);
        for (name, files) in agents {
            fleet.agent(name, files);
        }
        fleet
    }

    fn repo(&self) -> &Repository {
        self.store.repo()
    }

    fn at(&self, revision: &str) -> ObjectId {
        self.sandbox.git(&["rev-parse", revision]).parse().unwrap()
    }

    /// Commits files onto a branch without any checkout.
    fn commit(&self, branch: &str, from: &ObjectId, files: &[(&str, &str)]) -> ObjectId {
        let edits: Vec<_> = files
            .iter()
            .map(|(path, text)| {
                let blob = self.repo().write_blob(text.as_bytes()).unwrap();
                ((*path).to_owned(), if text.is_empty() { None } else { Some((EntryMode::Blob, blob)) })
            })
            .collect();
        let parent = self.repo().read_commit(from).unwrap();
        let (tree, _) = self.repo().edit_tree(Some(&parent.tree), &edits).unwrap();
        let commit = self.sandbox.git(&["commit-tree", tree.as_str(), "-p", from.as_str(), "-m", branch]);
        self.sandbox.git(&["update-ref", branch, &commit]);
        commit.parse().unwrap()
    }

    fn agent(&self, name: &str, files: &[(&str, &str)]) -> Agent {
        let base = self.at("main");
        self.commit(&format!("refs/heads/orchestra/{name}"), &base, files);
        self.register(name, &format!("refs/heads/orchestra/{name}"), &base)
    }

    fn register(&self, name: &str, branch: &str, base: &ObjectId) -> Agent {
        let (id, task) = (self.store.new_id().unwrap(), self.store.new_id().unwrap());
        let committed = self.store.transact(|tx| {
            let task: Task = serde_json::from_value(serde_json::json!({
                "id": task, "title": format!("The task of {name}"), "status": "started", "assignee": id,
            }))
            .unwrap();
            let agent: Agent = serde_json::from_value(serde_json::json!({
                "id": id, "name": name, "profile": "p", "program": "replay", "task": task.id, "branch": branch,
                "base": base, "target": "refs/heads/main", "created": tx.now(),
            }))
            .unwrap();
            tx.put(&task)?;
            tx.put(&agent)?;
            Ok::<_, crate::store::Error>(agent)
        });
        committed.unwrap().value
    }

    fn named(&self, name: &str) -> Agent {
        self.store.state().unwrap().require_named(name).unwrap()
    }

    fn change_task(&self, agent: &str, change: impl Fn(&mut Task)) {
        let id = self.named(agent).task.unwrap();
        let change = |tx: &mut crate::store::Transaction<'_>| {
            let mut task: Task = tx.require(&id)?;
            change(&mut task);
            tx.put(&task)
        };
        self.store.transact(change).unwrap();
    }

    fn plan(&self) -> Plan {
        plan(&self.store, &select(&self.store, &Request::default()).unwrap()).unwrap()
    }

    fn start(&self) -> Merge {
        start(&self.store, &self.plan()).unwrap()
    }

    fn advance(&self, merge: &Merge) -> Progress {
        advance(&self.store, &merge.id, &Rules::default(), &Gating::LeftOut(&[]), &mut |_| {}).unwrap()
    }

    fn waiting(&self, merge: &Merge) -> Decision {
        match self.advance(merge) {
            Progress::Waiting { decision, .. } => decision,
            other => panic!("it should wait: {other:#?}"),
        }
    }

    fn landed(&self, merge: &Merge) -> Merge {
        match self.advance(merge) {
            Progress::Landed(merge) => {
                let receipt = merge.receipt.as_ref().expect("a receipt");
                assert_eq!(receipt.dropped(), 0, "{receipt:#?}");
                merge
            }
            other => panic!("it should have landed: {other:#?}"),
        }
    }

    fn show(&self, path: &str) -> String {
        self.sandbox.git(&["show", &format!("main:{path}")])
    }

    fn answer(&self, decision: &Decision, key: &str) -> Answered {
        answer(&self.store, &decision.id, On::Everything, key, None).unwrap()
    }
}

const NUMBERS: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";

/// blue-heron and grey-fox change line 2 of `f`; grey-fox also line 9; red-owl only `g`.
fn clashing() -> Fleet {
    Fleet::with(&[
        ("blue-heron", &[("f", "1\nblue\n3\n4\n5\n6\n7\n8\n9\n10\n"), ("new", "n\n")]),
        ("grey-fox", &[("f", "1\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n")]),
        ("red-owl", &[("g", "gg\n")]),
    ])
}

fn names(merge: &[crate::model::Step]) -> Vec<&str> {
    merge.iter().map(|step| step.name.as_str()).collect()
}

/// Merges `tips` one after the other with plain `git merge` in a worktree, and returns the tree.
fn merged_by_git<'a>(fleet: &Fleet, tips: impl Iterator<Item = &'a ObjectId>) -> String {
    let dir = fleet.sandbox.dir.path().join("sequential");
    let start = fleet.at("main");
    fleet.sandbox.git(&["worktree", "add", "-q", "--detach", dir.to_str().unwrap(), start.as_str()]);
    for tip in tips {
        fleet.sandbox.git_in(&dir, &["merge", "-q", "--no-ff", "-m", "m", tip.as_str()]);
    }
    fleet.sandbox.git_in(&dir, &["rev-parse", "HEAD^{tree}"])
}

#[test]
fn what_lands_is_what_git_merge_makes_one_after_the_other() {
    let (mut merged, mut skipped) = (0, 0);
    for seed in 100..110 {
        let (sandbox, tips) = history(seed, 7);
        let fleet = Fleet::new(sandbox);
        let base = fleet.at("main");
        for n in 0..tips.len() {
            fleet.register(&format!("b{n}"), &format!("refs/heads/b{n}"), &base);
        }
        let plan = fleet.plan();
        let merge = start(&fleet.store, &plan).unwrap();
        let expected = merge.clone();
        let landed = loop {
            match fleet.advance(&merge) {
                Progress::Waiting { decision, .. } => drop(fleet.answer(&decision, "skip")),
                Progress::Landed(merge) => break merge,
                other => panic!("seed {seed}: {other:#?}"),
            }
        };
        assert_eq!(landed.receipt.as_ref().map(|receipt| receipt.dropped()), Some(0), "seed {seed}");
        let clean = plan.steps.iter().filter(|step| step.status == StepStatus::Clean).count();
        assert_eq!(clean, plan.score.before_person as usize, "seed {seed}");
        assert!(plan.score.before_person >= plan.score.naive_before_person, "seed {seed}");
        let taken = || landed.steps.iter().filter(|step| step.status.is_merged());
        fleet.sandbox.git(&["reset", "-q", "--hard", expected.target_tip.as_str()]);
        let tree = merged_by_git(&fleet, taken().map(|step| &step.tip));
        assert_eq!(fleet.repo().read_commit(&landed.head).unwrap().tree.as_str(), tree, "seed {seed}");
        merged += taken().count();
        skipped += landed.steps.iter().filter(|step| step.status == StepStatus::Skipped).count();
    }
    assert!(merged > 25 && skipped > 12, "the histories are worth something: {merged} merged, {skipped} not");
}

#[test]
fn conflicts_are_put_off_and_told_with_names() {
    let fleet = clashing();
    let plan = fleet.plan();
    assert_eq!(names(&plan.steps), ["blue-heron", "red-owl", "grey-fox"]);
    let score = plan.score;
    assert_eq!((score.branches, score.before_person, score.conflict_steps), (3, 2, 1));
    assert_eq!((score.naive_before_person, score.naive_conflict_steps), (1, 1));
    assert_eq!(plan.conflicts[&fleet.named("grey-fox").id], ["f"]);
    assert!(fleet.store.state().unwrap().all::<Merge>().unwrap().is_empty(), "a plan records nothing");

    let merge = start(&fleet.store, &plan).unwrap();
    let decision = fleet.waiting(&merge);
    assert_eq!(decision.question, "grey-fox conflicts with blue-heron in f");
    assert_eq!(decision.paths, ["f"]);
    let keys: Vec<_> = decision.choices.iter().map(|choice| choice.key.as_str()).collect();
    assert_eq!(keys, ["agent", "ours", "theirs", "union", "edit", "skip", "abort"]);
    assert_eq!(decision.choices[1].label, "keep what landed from blue-heron");
    let shown = "<<<<<<< blue-heron\nblue\n||||||| before both\n2\n=======\ngrey\n>>>>>>> grey-fox\n";
    assert!(decision.detail.contains(shown), "{}", decision.detail);
    assert!(
        decision.detail.contains("The task of grey-fox") && decision.detail.contains("CONFLICT (content)")
    );
    assert_eq!(fleet.waiting(&merge).id, decision.id, "asked once");
    assert!(matches!(
        start(&fleet.store, &Plan { id: fleet.store.new_id().unwrap(), ..plan }),
        Err(Error::OpenAlready { .. })
    ));
}

#[test]
fn a_conflict_is_answered_each_way() {
    let edited = "1\nboth\n3\n4\n5\n6\n7\n8\nnine\n10\n";
    for (key, text, line_2) in
        [("ours", None, "blue"), ("theirs", None, "grey"), ("edit", Some(edited), "both")]
    {
        let fleet = clashing();
        let merge = fleet.start();
        let decision = fleet.waiting(&merge);
        answer(&fleet.store, &decision.id, On::Everything, key, text).unwrap();
        let landed = fleet.landed(&merge);
        assert_eq!(
            fleet.show("f"),
            format!("1\n{line_2}\n3\n4\n5\n6\n7\n8\nnine\n10"),
            "line 9 is no conflict"
        );
        let step = landed.steps.last().unwrap();
        assert_eq!(step.status, StepStatus::Resolved);
        assert_eq!(step.resolutions[0].decision, Some(decision.id));
        assert_eq!(step.resolutions[0].by, "Ada <ada@example.org>");
        assert!(fleet.sandbox.git(&["log", "-1", "--format=%b", "main"]).contains("Conflicts:\n  f: "));
    }
}

#[test]
fn an_answer_that_is_given_while_the_merge_looks_is_kept() {
    let fleet = clashing();
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    let tip = fleet.at("orchestra/red-owl");
    fleet.commit("refs/heads/orchestra/red-owl", &tip, &[("g", "ggg\n")]);
    // It has read the state, and goes on to ask what it found open there.
    let mut say = |remark| {
        if matches!(remark, Remark::TipMoved(_)) {
            fleet.answer(&decision, "theirs");
        }
    };
    advance(&fleet.store, &merge.id, &Rules::default(), &Gating::LeftOut(&[]), &mut say).unwrap();
    let stored: Decision = fleet.store.state().unwrap().require(&decision.id).unwrap();
    assert_eq!(stored.status, DecisionStatus::Answered);
    assert_eq!(stored.answer.map(|answer| answer.key).as_deref(), Some("theirs"));
    fleet.landed(&merge);
    assert!(fleet.show("f").contains("grey"));
}

#[test]
fn skipping_leaves_one_out_with_what_builds_on_it_and_aborting_leaves_everything() {
    let fleet = clashing();
    let fox = fleet.named("grey-fox");
    let tip = fleet.at("orchestra/grey-fox");
    fleet.commit("refs/heads/orchestra/cub", &tip, &[("h", "h\n")]);
    fleet.register("cub", "refs/heads/orchestra/cub", &fox.base);
    fleet.change_task("blue-heron", |task| task.priority = 9);
    fleet.change_task("grey-fox", |task| task.priority = -9);
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    fleet.answer(&decision, "skip");
    let landed = fleet.landed(&merge);
    let of = |name: &str| landed.steps.iter().find(|step| step.name.as_str() == name).unwrap();
    assert_eq!(of("grey-fox").status, StepStatus::Skipped);
    assert_eq!(of("cub").reason.as_deref(), Some("it builds on grey-fox, which was left out"));
    assert!(fleet.show("f").contains("blue") && fleet.named("grey-fox").merged.is_none());

    let fleet = clashing();
    let before = fleet.sandbox.git(&["for-each-ref", "refs/heads/"]);
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    fleet.answer(&decision, "abort");
    assert!(matches!(fleet.advance(&merge), Progress::Aborted(_)));
    assert_eq!(fleet.sandbox.git(&["for-each-ref", "refs/heads/"]), before);
    assert_eq!(fleet.sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "");
    assert!(matches!(
        advance(&fleet.store, &merge.id, &Rules::default(), &Gating::LeftOut(&[]), &mut |_| {}),
        Err(Error::NotOpen { status: MergeStatus::Aborted, .. })
    ));
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    abort(&fleet.store, &merge.id).unwrap();
    let withdrawn: Decision = fleet.store.state().unwrap().require(&decision.id).unwrap();
    assert_eq!(withdrawn.status, DecisionStatus::Withdrawn);
}

#[test]
fn paths_are_answered_one_by_one_and_bad_answers_are_refused() {
    let fleet = Fleet::with(&[
        ("blue-heron", &[("f", "blue\n"), ("g", "blue\n")]),
        ("grey-fox", &[("f", "grey\n"), ("g", "")]),
    ]);
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    assert_eq!(decision.paths, ["f", "g"]);
    let say = |on: On<'_>, key: &str, text: Option<&str>| answer(&fleet.store, &decision.id, on, key, text);
    for (on, key, text) in [
        (On::Everything, "all", None),
        (On::Everything, "union", None),
        (On::Path("nothing"), "ours", None),
        (On::Path("f"), "skip", None),
        (On::Path("g"), "union", None),
        (On::Place("g", 1), "ours", None),
        (On::Place("f", 0), "ours", None),
        (On::Place("f", 2), "ours", None),
        (On::Everything, "edit", Some("x")),
        (On::Path("f"), "edit", Some("<<<<<<< blue-heron\nx\n")),
        (On::Place("f", 1), "edit", Some("<<<<<<< blue-heron\nx\n")),
        (On::Path("g"), "edit", Some("a deleted file has no lines\n")),
    ] {
        assert!(matches!(say(on, key, text), Err(Error::Answer { .. })), "{on:?} {key}");
    }
    let answered = say(On::Path("f"), "edit", Some("edited\n")).unwrap();
    assert_eq!(answered.open, ["g"]);
    assert_eq!(fleet.waiting(&merge).id, decision.id, "half an answer is none");
    assert!(say(On::Path("g"), "theirs", None).unwrap().open.is_empty());
    assert!(say(On::Everything, "ours", None).is_err(), "answered already");
    fleet.landed(&merge);
    assert_eq!(fleet.show("f"), "edited");
    assert_eq!(fleet.sandbox.git(&["ls-tree", "--name-only", "main"]), "f", "grey-fox deleted g");
}

#[test]
fn a_target_or_a_branch_that_moved_is_merged_as_it_is_now() {
    let fleet = clashing();
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    fleet.answer(&decision, "theirs");
    // Somebody lands something else, and red-owl goes on.
    let moved = fleet.commit("refs/heads/main", &merge.target_tip, &[("other", "o\n")]);
    fleet.sandbox.git(&["reset", "-q", "--hard"]);
    let owl = fleet.at("orchestra/red-owl");
    fleet.commit("refs/heads/orchestra/red-owl", &owl, &[("late", "l\n")]);
    let mut said = Vec::new();
    let progress =
        advance(&fleet.store, &merge.id, &Rules::default(), &Gating::LeftOut(&[]), &mut |remark| {
            said.push(remark);
        })
        .unwrap();
    let Progress::Landed(landed) = progress else {
        panic!("the same conflict is not asked again: {progress:?}")
    };
    assert!(said.contains(&Remark::TargetMoved { target: "refs/heads/main".into(), tip: moved.clone() }));
    assert!(said.iter().any(|remark| matches!(remark, Remark::TipMoved(name) if name.as_str() == "red-owl")));
    assert_eq!((landed.target_tip, fleet.show("late"), fleet.show("other")), (moved, "l".into(), "o".into()));
    assert!(fleet.show("f").contains("grey"));

    // Another conflict than the one that was answered is asked about again, and the old question is withdrawn.
    let fleet = clashing();
    let merge = fleet.start();
    let first = fleet.waiting(&merge);
    let fox = fleet.at("orchestra/grey-fox");
    fleet.commit("refs/heads/orchestra/grey-fox", &fox, &[("f", "1\nfox\n3\n4\n5\n6\n7\n8\n9\n10\n")]);
    let second = fleet.waiting(&merge);
    assert_ne!(first.id, second.id);
    let first: Decision = fleet.store.state().unwrap().require(&first.id).unwrap();
    assert_eq!(first.status, DecisionStatus::Withdrawn);
}

#[test]
fn tasks_that_come_after_others_are_merged_after_them_and_priority_decides_who_waits() {
    let fleet = clashing();
    let owl = fleet.named("red-owl").task.unwrap();
    fleet.change_task("blue-heron", |task| task.after = [owl].into());
    fleet.change_task("grey-fox", |task| task.priority = 5);
    let plan = fleet.plan();
    assert_eq!(names(&plan.steps), ["grey-fox", "red-owl", "blue-heron"]);
    assert_eq!(plan.steps[2].after, [fleet.named("red-owl").id].into());
}

#[test]
fn who_is_merged() {
    let fleet = clashing();
    let owl = fleet.named("red-owl");
    let running = [owl.id].into();
    let request = Request { running, ..Request::default() };
    let selection = select(&fleet.store, &request).unwrap();
    assert_eq!(selection.candidates.len(), 2);
    assert_eq!(selection.left_out[0].why, "still running");
    let named = Request { agents: vec![owl.id], ..request };
    assert!(matches!(select(&fleet.store, &named), Err(Error::Running(who)) if who[0].as_str() == "red-owl"));
    let elsewhere = Request { target: Some("nowhere".into()), ..Request::default() };
    assert!(matches!(select(&fleet.store, &elsewhere), Err(Error::NoTarget(name)) if name == "nowhere"));

    // An agent that failed is merged only if somebody says so.
    let fail = |tx: &mut crate::store::Transaction<'_>| {
        let mut owl = owl.clone();
        let outcome = Some(crate::model::Outcome::Failed { reason: "exit 1".into() });
        owl.runs.insert(1, crate::model::Run { outcome, ..crate::model::Run::default() }.into());
        tx.put(&owl)
    };
    fleet.store.transact(fail).unwrap();
    let selection = select(&fleet.store, &Request::default()).unwrap();
    assert_eq!((selection.candidates.len(), selection.left_out[0].why.as_str()), (2, "its last run failed"));
    let named = Request { agents: vec![owl.id], ..Request::default() };
    assert_eq!(select(&fleet.store, &named).unwrap().candidates.len(), 1);
    fleet.store.transact(|tx| tx.put(&crate::model::Agent { runs: [].into(), ..owl.clone() })).unwrap();

    // What a stopped agent left uncommitted is part of the forecast, and is committed before the merge.
    fleet.sandbox.git(&["worktree", "add", "-q", "../red-owl", "orchestra/red-owl"]);
    std::fs::write(fleet.sandbox.path().join(".git/worktrees/red-owl/orchestra"), "").unwrap();
    std::fs::write(fleet.sandbox.dir.path().join("red-owl/left"), "left\n").unwrap();
    let mut selection = select(&fleet.store, &Request::default()).unwrap();
    assert_eq!(selection.candidates[2].uncommitted, 1);
    let mut forecast = selection.clone();
    with_uncommitted(&fleet.store, &mut forecast).unwrap();
    assert!(plan(&fleet.store, &forecast).unwrap().overlap.branches[2].branch.uncommitted);
    assert_eq!(commit_uncommitted(&fleet.store, &mut selection).unwrap()[0].as_str(), "red-owl");
    assert_eq!(selection.candidates[2].tip, fleet.at("orchestra/red-owl"));
    assert_eq!(fleet.sandbox.git(&["show", "orchestra/red-owl:left"]), "left");
    assert_eq!(fleet.sandbox.git(&["log", "-1", "--format=%an", "orchestra/red-owl"]), "Ada");
}

#[test]
fn two_processes_cannot_both_go_on() {
    let fleet = clashing();
    let merge = fleet.start();
    let moved = |_: Remark| {
        // Another process records the same step first.
        let change = |tx: &mut crate::store::Transaction<'_>| {
            let mut other: Merge = tx.require(&merge.id)?;
            other.created = Timestamp(1);
            tx.put(&other)
        };
        fleet.store.transact(change).unwrap();
    };
    let fox = fleet.at("orchestra/grey-fox");
    fleet.commit("refs/heads/orchestra/grey-fox", &fox, &[("f", NUMBERS)]);
    let mut moved = moved;
    assert!(matches!(
        advance(&fleet.store, &merge.id, &Rules::default(), &Gating::LeftOut(&[]), &mut moved),
        Err(Error::MovedOn(_))
    ));
    fleet.landed(&merge);
}

#[test]
fn histories_in_every_format_merge_and_land() {
    for format in crate::git::testing::FORMATS {
        let sandbox = Sandbox::new(&format);
        let fleet = Fleet::new(sandbox);
        fleet.agent("blue-heron", &[("a", "1\n")]);
        fleet.agent("grey-fox", &[("b", "2\n")]);
        let merge = fleet.start();
        fleet.landed(&merge);
        assert_eq!(fleet.sandbox.git(&["ls-tree", "--name-only", "main"]), "a\nb");
    }
}

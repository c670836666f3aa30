//! Conflicts that an agent resolves, with real programs.

use super::*;
use crate::agent::{Redactor, find_adapter};
use crate::config::{Settings, Sources};
use crate::model::{Budget, Side};
use crate::orchestrate::budget::Budgets;
use crate::orchestrate::supervise::{Finished, SuperviseOptions, Supervisor};
use crate::orchestrate::{Claim, Outfit, Surroundings, default_worktree_root, run_claims};
use std::ffi::OsString;
use std::time::Duration;
use tokio::sync::mpsc;

fn outfit(script: &str) -> Outfit {
    let profile = Settings::load(&Sources::default()).unwrap().profile("command").unwrap();
    let program = ["/bin/sh", "-c", script].map(OsString::from).into();
    Outfit {
        profile,
        program,
        adapter: find_adapter("command").unwrap(),
        budget: Budget::default(),
        sandbox_is_said: false,
        any_answer: false,
    }
}

fn run(fleet: &Fleet, claim: Claim) -> Finished {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let grace = Duration::from_millis(500);
        let options = SuperviseOptions {
            jobs: 1,
            memory_floor: 0,
            grace,
            interactive: false,
            answer_timeout: Duration::ZERO,
            any_answer: false,
            radar: false,
            sweep: false,
        };
        let redactor = Arc::new(Redactor::new(Vec::<(String, String)>::new()));
        let supervisor = Supervisor::new(fleet.store.clone(), redactor, options);
        let (_requests, receiver) = mpsc::channel(1);
        let (progress, mut told) = mpsc::channel(64);
        let env =
            [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", fleet.sandbox.dir.path().to_str().unwrap())];
        let surroundings = Surroundings {
            env: Arc::new(env.map(|(key, value)| (key.into(), value.into())).into()),
            program_dir: None,
            edit_hook: None,
            worktree_root: default_worktree_root(fleet.repo()),
            budgets: Budgets::default(),
            park: Duration::from_secs(30),
            limits: fleet.repo().local_dir(),
            slot: None,
            provision: crate::orchestrate::Provision::default(),
            sandboxing: crate::orchestrate::Sandboxing::default(),
            redactor: Arc::new(Redactor::new(Vec::<(String, String)>::new())),
        };
        let running = tokio::spawn(run_claims(
            vec![claim],
            surroundings,
            fleet.store.clone(),
            supervisor,
            receiver,
            progress,
            None,
        ));
        while told.recv().await.is_some() {}
        running.await.unwrap().pop().unwrap()
    })
}

/// Starts a merge, asks for an agent that runs `script`, and returns what came of it.
fn resolved_by(fleet: &Fleet, script: &str) -> (Merge, Decision, AgentAnswer) {
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    answer(&fleet.store, &decision.id, On::Everything, "agent", Some("keep both words")).unwrap();
    let Progress::NeedsAgent { decision, conflict, .. } = fleet.advance(&merge) else { panic!() };
    let claim = claim_resolver(&fleet.store, &decision, &conflict, outfit(script), None).unwrap();
    let prompt = &claim.agent.prompt;
    for words in ["The task of grey-fox", "The task of blue-heron", "- f\n", "keep both words"] {
        assert!(prompt.contains(words), "{words}\n{prompt}");
    }
    let finished = run(fleet, claim);
    let taken = take_answer(&fleet.store, &decision.id, &conflict, &finished, None).unwrap();
    (merge, decision, taken)
}

#[test]
fn an_agents_files_are_taken_and_nothing_else_of_it() {
    let fleet = clashing();
    let script = "grep '^<<<<<<< blue-heron$' f && grep '^>>>>>>> grey-fox$' f || exit 1; \
                  sed -i '/^[<|=>]\\{7\\}/d; /^2$/d; s/^blue$/blue and grey/; /^grey$/d' f; echo more >g";
    let (merge, _, taken) = resolved_by(&fleet, script);
    assert_eq!(taken, AgentAnswer::Taken { ignored: vec!["g".to_owned()] });
    let landed = fleet.landed(&merge);
    assert_eq!(fleet.show("f"), "1\nblue and grey\n3\n4\n5\n6\n7\n8\nnine\n10");
    assert_eq!(fleet.show("g"), "gg");
    let resolution = &landed.steps.last().unwrap().resolutions[0];
    assert_eq!((resolution.side, resolution.by.as_str()), (Side::Agent, "resolve-grey-fox-against"));
    let resolver = fleet.named("resolve-grey-fox-against");
    assert!(resolver.removed.is_some() && resolver.runs[&1].transcript.is_some());
    assert_eq!(fleet.sandbox.git(&["worktree", "list"]).lines().count(), 1, "its worktree is gone");
    assert!(fleet.plan().steps.is_empty(), "nobody is left to merge");
}

#[test]
fn an_agent_is_asked_about_what_nobody_has_answered() {
    let ten = |line: &str| NUMBERS.replacen("2\n", &format!("{line}\n"), 1);
    let fleet = Fleet::with(&[
        ("blue-heron", &[("f", &ten("blue")), ("g", "blue\n")]),
        ("grey-fox", &[("f", &ten("grey")), ("g", "")]),
    ]);
    fleet.change_task("blue-heron", |task| task.priority = 9);
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    answer(&fleet.store, &decision.id, On::Path("g"), "theirs", None).unwrap();
    let main = fleet.at("main");
    fleet.commit("refs/heads/main", &main, &[("f", "1\n2\n3\n4\n5\n6\n7\nmain\n9\n10\n")]);
    fleet.sandbox.git(&["reset", "-q", "--hard"]);
    let decision = fleet.waiting(&merge);
    answer(&fleet.store, &decision.id, On::Everything, "agent", None).unwrap();
    let Progress::NeedsAgent { decision, conflict, .. } = fleet.advance(&merge) else { panic!() };
    let script = "test ! -e g && sed -i '/^[<|=>]\\{7\\}/d; /^2$/d; s/^blue$/blue and grey/; /^grey$/d' f";
    let claim = claim_resolver(&fleet.store, &decision, &conflict, outfit(script), None).unwrap();
    let prompt = &claim.agent.prompt;
    assert!(prompt.contains("- f\n") && !prompt.contains("- g\n"), "{prompt}");
    let finished = run(&fleet, claim);
    let taken = take_answer(&fleet.store, &decision.id, &conflict, &finished, None).unwrap();
    assert_eq!(taken, AgentAnswer::Taken { ignored: Vec::new() });
    fleet.landed(&merge);
    assert_eq!(fleet.show("f"), "1\nblue and grey\n3\n4\n5\n6\n7\nmain\n9\n10");
    assert_eq!(fleet.sandbox.git(&["ls-tree", "--name-only", "main", "g"]), "");
}

#[test]
fn an_agent_that_leaves_markers_or_fails_is_no_answer() {
    for (script, why) in [
        ("true", "f still has 4 lines of conflict markers"),
        ("sed -i '/^<<<<<<</d' f", "f still has 3 lines of conflict markers"),
        ("echo whole >f; exit 3", "its run failed"),
    ] {
        let fleet = clashing();
        let (merge, decision, taken) = resolved_by(&fleet, script);
        assert_eq!(taken, AgentAnswer::Refused(why.to_owned()), "{script}");
        let again = fleet.waiting(&merge);
        assert_eq!((again.id, again.answer), (decision.id, None));
        assert!(
            again.detail.starts_with("resolve-grey-fox-against was asked to resolve it: "),
            "{}",
            again.detail
        );
        fleet.answer(&decision, "ours");
        fleet.landed(&merge);
    }
}

#[test]
fn an_agent_that_leaves_out_somebodys_line_is_no_answer() {
    let fleet = clashing();
    let script = "sed -i '/^[<|=>]\\{7\\}/d; /^2$/d; /^grey$/d' f";
    let (merge, decision, taken) = resolved_by(&fleet, script);
    assert!(matches!(taken, AgentAnswer::Taken { .. }), "its files are well formed");
    let mut said = Vec::new();
    let progress =
        advance(&fleet.store, &merge.id, &Rules::default(), &Gating::LeftOut(&[]), &mut |remark| {
            said.push(remark);
        })
        .unwrap();
    let Progress::Waiting { decision: again, .. } = progress else { panic!("{progress:#?}") };
    assert_eq!((again.id, &again.answer), (decision.id, &None));
    let lost = "left out f:2 of grey-fox";
    assert!(said.contains(&Remark::Refused(lost.to_owned())), "{said:#?}");
    assert!(again.detail.contains(lost), "{}", again.detail);
    let changes = fleet.sandbox.git(&["log", "--format=%s", "refs/orchestra/state"]);
    assert!(!changes.contains("open again"), "one change says all of it\n{changes}");
    assert_eq!(fleet.waiting(&merge).id, decision.id, "it stays open");
    fleet.answer(&decision, "ours");
    let receipt = fleet.landed(&merge).receipt.unwrap();
    assert_eq!(receipt.dropped(), 0, "{receipt:#?}");
}

#[test]
fn what_an_agent_changed_beside_the_conflict_or_took_out_of_use_is_refused() {
    let beside = "sed -i '/^[<|=>]\\{7\\}/d; /^2$/d; s/^blue$/blue and grey/; /^grey$/d; s/^5$/5 or more/' f";
    let fleet = clashing();
    let (_, _, taken) = resolved_by(&fleet, beside);
    let AgentAnswer::Refused(why) = taken else { panic!("{taken:?}") };
    assert_eq!(why, "it changed `5` of f, which is in no conflict");
    let more = "sed -i '/^[<|=>]\\{7\\}/d; /^2$/d; s/^blue$/blue and grey/; /^grey$/d; s/^5$/5\\nfive and a half/' f";
    let fleet = clashing();
    let (merge, _, taken) = resolved_by(&fleet, more);
    assert_eq!(
        taken,
        AgentAnswer::Taken { ignored: Vec::new() },
        "what comes between them takes nothing away"
    );
    let landed = fleet.landed(&merge);
    let losses = &landed.receipt.unwrap().losses;
    assert!(
        losses.iter().all(|loss| loss.by == Some(crate::model::By::Rewritten)),
        "no decision said so: {losses:#?}"
    );

    let comment = "sed -i '/^[<|=>]\\{7\\}/d; /^2$/d; s/^blue$/# blue/' f";
    let fleet = clashing();
    let (merge, decision, taken) = resolved_by(&fleet, comment);
    assert_eq!(taken, AgentAnswer::Taken { ignored: Vec::new() }, "its markers are gone");
    // What it made is held against what both brought before anything lands.
    let Progress::Waiting { .. } = fleet.advance(&merge) else { panic!("it is asked again") };
    let again = fleet.store.state().unwrap().require::<Decision>(&decision.id).unwrap();
    assert!(again.detail.contains("left out f:2 of blue-heron"), "{}", again.detail);
}

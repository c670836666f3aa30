//! Conflicts that need nobody.

use super::*;
use crate::model::{Resolution, Side};

/// A merge of the two that clash in line 2 of `f`; `first` lands first.
fn pair(fleet: &Fleet, first: &str) -> Merge {
    for agent in ["blue-heron", "grey-fox"] {
        fleet.change_task(agent, |task| task.priority = if agent == first { 9 } else { 0 });
    }
    let agents = ["blue-heron", "grey-fox"].map(|name| fleet.named(name).id).to_vec();
    let request = Request { agents, ..Request::default() };
    let plan = plan(&fleet.store, &select(&fleet.store, &request).unwrap()).unwrap();
    assert_eq!(names(&plan.steps)[0], first);
    start(&fleet.store, &plan).unwrap()
}

fn resolutions(merge: &Merge) -> Vec<&Resolution> {
    merge.steps.iter().flat_map(|step| &step.resolutions).collect()
}

#[test]
fn a_clash_that_was_answered_is_not_asked_about_again_whoever_lands_first() {
    for (key, text) in [("ours", "blue"), ("theirs", "grey"), ("edit", "both")] {
        let fleet = clashing();
        let back = fleet.at("main");
        let merge = pair(&fleet, "blue-heron");
        let decision = fleet.waiting(&merge);
        let edited = NUMBERS.replacen("2\n", "both\n", 1).replacen("9\n", "nine\n", 1);
        let content = (key == "edit").then_some(edited.as_str());
        answer(&fleet.store, &decision.id, On::Everything, key, content).unwrap();
        fleet.landed(&merge);
        let stored: Decision = fleet.store.state().unwrap().require(&decision.id).unwrap();
        assert_eq!(stored.remembers.values().collect::<Vec<_>>(), [&format!("{text}\n")]);

        fleet.sandbox.git(&["reset", "-q", "--hard", back.as_str()]);
        let landed = fleet.landed(&pair(&fleet, "grey-fox"));
        assert_eq!(fleet.show("f").lines().nth(1), Some(text));
        let [resolution] = &resolutions(&landed)[..] else { panic!() };
        assert_eq!((resolution.side, resolution.by.as_str()), (Side::Remembered, "Ada <ada@example.org>"));
        let repeated: Decision = fleet.store.state().unwrap().require(&resolution.decision.unwrap()).unwrap();
        assert_eq!(repeated.status, DecisionStatus::Answered);
        assert_eq!(repeated.answers["f"].like, Some(decision.id));
        assert!(repeated.remembers.is_empty(), "it is remembered where it was said");
    }
}

#[test]
fn who_wants_to_be_asked_is_asked_and_the_newest_answer_counts() {
    let fleet = clashing();
    let back = fleet.at("main");
    let undo = || fleet.sandbox.git(&["reset", "-q", "--hard", back.as_str()]);
    let answers = [("ours", "blue"), ("theirs", "grey")];
    for (key, text) in answers {
        let merge = pair(&fleet, "blue-heron");
        let asked =
            advance(&fleet.store, &merge.id, &Rules::ask(), &Gating::LeftOut(&[]), &mut |_| {}).unwrap();
        let Progress::Waiting { decision, .. } = asked else { panic!("{asked:#?}") };
        assert!(decision.answers.is_empty());
        fleet.answer(&decision, key);
        fleet.landed(&merge);
        assert_eq!(fleet.show("f").lines().nth(1), Some(text));
        undo();
    }
    fleet.landed(&pair(&fleet, "grey-fox"));
    assert_eq!(fleet.show("f").lines().nth(1), Some("grey"));
}

#[test]
fn only_what_is_new_is_asked() {
    let fleet = Fleet::with(&[
        ("blue-heron", &[("f", "blue\n"), ("g", "g\n- blue\n")]),
        ("grey-fox", &[("f", "grey\n"), ("g", "g\n- grey\n")]),
    ]);
    let rules = Rules::default().with_union(&["g*".to_owned()]).unwrap();
    let merge = fleet.start();
    let asked = advance(&fleet.store, &merge.id, &rules, &Gating::LeftOut(&[]), &mut |_| {}).unwrap();
    let Progress::Waiting { decision, .. } = asked else { panic!("{asked:#?}") };
    assert_eq!(decision.paths, ["f", "g"]);
    assert_eq!(decision.answers.keys().collect::<Vec<_>>(), ["g"], "the other is open");
    assert!(decision.question.ends_with(" in f"), "{}", decision.question);
    let losses = decision.losses("ours", None, None);
    assert_eq!(losses.iter().map(|loss| loss.added).collect::<Vec<_>>(), [1], "of what is open: {losses:?}");
    let answered = answer(&fleet.store, &decision.id, On::Path("f"), "theirs", None).unwrap();
    assert_eq!((answered.open.len(), answered.decision.status), (0, DecisionStatus::Answered));
    let landed = advance(&fleet.store, &merge.id, &rules, &Gating::LeftOut(&[]), &mut |_| {}).unwrap();
    let Progress::Landed(landed) = landed else { panic!("{landed:#?}") };
    let second = names(&landed.steps)[1].split('-').next().unwrap().to_owned();
    let first = if second == "grey" { "blue" } else { "grey" };
    assert_eq!(fleet.show("g"), format!("g\n- {first}\n- {second}"));
    assert_eq!(fleet.show("f"), second);
    let sides: Vec<_> = resolutions(&landed).iter().map(|one| (one.path.as_str(), one.side)).collect();
    assert_eq!(sides, [("f", Side::Theirs), ("g", Side::Rule)]);
    let message = fleet.sandbox.git(&["log", "-1", "--format=%B", "main"]);
    assert!(message.contains("g: by rule: union of both sides"), "{message}");
}

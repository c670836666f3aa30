//! The places of a conflict, answered one by one.

use super::*;
use crate::model::{Account, Side};

/// Two agents that clash in lines 2, 5 and 9 of `f`, and in all of `g`, which one of them deleted.
fn clashing_thrice() -> Fleet {
    let with = |second: &str, fifth: &str, ninth: &str| {
        NUMBERS.replacen("2\n", second, 1).replacen("5\n", fifth, 1).replacen("9\n", ninth, 1)
    };
    let blue = with("blue 2\n", "blue 5\n", "blue 9\n");
    let grey = with("grey 2\ngrey more\n", "", "grey 9\n");
    Fleet::with(&[("blue-heron", &[("f", &blue)]), ("grey-fox", &[("f", &grey)])])
}

/// Merges with blue-heron first.
fn asked(fleet: &Fleet) -> (Merge, Decision) {
    fleet.change_task("blue-heron", |task| task.priority = 9);
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    (merge, decision)
}

fn say(fleet: &Fleet, decision: &Decision, place: usize, key: &str, text: Option<&str>) -> Answered {
    answer(&fleet.store, &decision.id, On::Place("f", place), key, text).unwrap()
}

#[test]
fn each_place_is_answered_by_itself_and_the_file_is_put_together() {
    let fleet = clashing_thrice();
    let (merge, decision) = asked(&fleet);
    let lines: Vec<_> = decision.clashes.iter().map(|c| (c.place, c.lines.start, c.lines.len)).collect();
    assert_eq!(lines, [(1, 2, 1), (2, 5, 1), (3, 9, 1)]);

    assert_eq!(say(&fleet, &decision, 2, "theirs", None).open, ["f:1", "f:3"]);
    assert_eq!(fleet.waiting(&merge).id, decision.id, "a third of an answer is none");
    assert_eq!(say(&fleet, &decision, 1, "union", None).open, ["f:3"]);
    let text = Some("edited 9");
    let answered = say(&fleet, &decision, 3, "edit", text);
    assert_eq!((answered.open.len(), answered.decision.status), (0, DecisionStatus::Answered));
    let landed = fleet.landed(&merge);
    assert_eq!(fleet.show("f"), "1\nblue 2\ngrey 2\ngrey more\n3\n4\n6\n7\n8\nedited 9\n10");
    let resolution = &landed.steps[1].resolutions[0];
    assert_eq!((resolution.side, resolution.by.as_str()), (Side::Places, "Ada <ada@example.org>"));
    let stored: Decision = fleet.store.state().unwrap().require(&decision.id).unwrap();
    assert_eq!(stored.answers["f"].key, "places", "who looks later sees what landed");
    assert_eq!(stored.remembers.len(), 3, "each is answered the same way when it comes up again");
    let message = fleet.sandbox.git(&["log", "-1", "--format=%B", "main"]);
    assert!(message.contains("f: decided place by place"), "{message}");
}

#[test]
fn an_answer_for_a_path_or_for_everything_fills_what_is_left() {
    let fleet = clashing_thrice();
    let (merge, decision) = asked(&fleet);
    say(&fleet, &decision, 2, "theirs", None);
    assert!(answer(&fleet.store, &decision.id, On::Everything, "ours", None).unwrap().open.is_empty());
    fleet.landed(&merge);
    assert_eq!(fleet.show("f"), "1\nblue 2\n3\n4\n6\n7\n8\nblue 9\n10");

    let fleet = clashing_thrice();
    let (merge, decision) = asked(&fleet);
    say(&fleet, &decision, 2, "theirs", None);
    answer(&fleet.store, &decision.id, On::Path("f"), "ours", None).unwrap();
    fleet.landed(&merge);
    assert_eq!(
        fleet.show("f"),
        "1\nblue 2\n3\n4\nblue 5\n6\n7\n8\nblue 9\n10",
        "said last, and of all of it"
    );
}

/// What is said before an answer is what the receipt says after it.
#[test]
fn what_an_answer_leaves_out_is_said_before_and_counted_after() {
    for (key, of, added, removed) in
        [("ours", "grey-fox", 3, 0), ("theirs", "blue-heron", 3, 0), ("union", "grey-fox", 0, 0)]
    {
        let fleet = clashing_thrice();
        let (merge, decision) = asked(&fleet);
        let losses = decision.losses(key, None, None);
        let said = losses.iter().find(|loss| loss.of == of).map_or((0, 0), |loss| (loss.added, loss.removed));
        assert_eq!(said, (added, removed), "{key}: {losses:?}");
        answer(&fleet.store, &decision.id, On::Everything, key, None).unwrap();
        let receipt = fleet.landed(&merge).receipt.unwrap();
        let lost = |account: &Account| (account.added.superseded, account.removed.superseded);
        let account = receipt.accounts.iter().find(|account| account.name == of).unwrap();
        assert_eq!(lost(account), (added as u64, removed as u64), "{key}: {receipt:#?}");
    }
}

#[test]
fn what_can_only_be_taken_whole_says_what_that_costs() {
    let fleet = Fleet::with(&[
        ("blue-heron", &[("f", &NUMBERS.replacen("2\n", "blue\n", 1))]),
        ("grey-fox", &[("f", "")]),
    ]);
    let (_, decision) = asked(&fleet);
    assert_eq!((decision.clashes[0].place, decision.has_lines("f"), decision.places_of("f")), (0, false, 0));
    let words = |key| {
        decision.losses(key, Some("f"), None).iter().map(crate::model::ChoiceLoss::words).collect::<Vec<_>>()
    };
    assert_eq!(words("ours"), ["brings back 9 lines that grey-fox removed"]);
    assert_eq!(words("theirs"), ["leaves out 1 line of blue-heron"]);
    assert!(decision.detail.contains("- `theirs` leaves out 1 line of blue-heron"), "{}", decision.detail);
    assert!(!decision.detail.contains("`union`"), "{}", decision.detail);
}

#[test]
fn places_that_git_does_not_see_any_more_are_asked_about_again() {
    let fleet = clashing_thrice();
    let (merge, decision) = asked(&fleet);
    for place in 1..=3 {
        say(&fleet, &decision, place, "ours", None);
    }
    // As another git would have cut it, or another version of this program.
    let change = |tx: &mut crate::store::Transaction<'_>| {
        let mut decision: Decision = tx.require(&decision.id)?;
        decision.places.remove("f:3");
        tx.put(&decision)
    };
    fleet.store.transact(change).unwrap();
    let again = fleet.waiting(&merge);
    assert_eq!((again.id, again.status, again.places.len()), (decision.id, DecisionStatus::Open, 0));
    assert!(again.detail.starts_with("git sees other places"), "{}", again.detail);
    fleet.answer(&again, "theirs");
    fleet.landed(&merge);
}

/// Two agents that changed one line of `f` each, the target that changed a third, and one that changed all three.
fn clashing_with_each() -> Fleet {
    let with = |lines: &[(&str, &str)]| {
        lines.iter().fold(NUMBERS.to_owned(), |text, (old, new)| text.replacen(old, new, 1))
    };
    let all = with(&[("2\n", "grey 2\n"), ("5\n", "grey 5\n"), ("8\n", "grey 8\n")]);
    let fleet = Fleet::with(&[
        ("blue-heron", &[("f", &with(&[("2\n", "blue 2\n")]))]),
        ("red-owl", &[("f", &with(&[("5\n", "red 5\nred more\n")]))]),
        ("grey-fox", &[("f", &all)]),
    ]);
    let main = fleet.at("main");
    fleet.commit("refs/heads/main", &main, &[("f", &with(&[("8\n", "main 8\n")]))]);
    fleet.sandbox.git(&["reset", "-q", "--hard"]);
    fleet.change_task("blue-heron", |task| task.priority = 9);
    fleet.change_task("red-owl", |task| task.priority = 8);
    fleet
}

#[test]
fn each_place_says_whose_lines_an_answer_leaves_out_there() {
    let fleet = clashing_with_each();
    let merge = fleet.start();
    let decision = fleet.waiting(&merge);
    assert_eq!(decision.question, "grey-fox conflicts with main, blue-heron and red-owl in f");
    let words = |key, place| {
        let losses = decision.losses(key, Some("f"), place);
        losses.iter().map(crate::model::ChoiceLoss::words).collect::<Vec<_>>()
    };
    assert_eq!(words("theirs", Some(1)), ["leaves out 1 line of blue-heron"]);
    assert_eq!(words("theirs", Some(2)), ["leaves out 2 lines of red-owl"]);
    assert_eq!(words("theirs", Some(3)), ["leaves out 1 line of main"]);
    assert_eq!(words("ours", None), ["leaves out 3 lines of grey-fox"]);
}

#[test]
fn a_loss_is_put_down_to_the_decision_that_made_it() {
    let with = |name: &str, lines: [&str; 2]| {
        let change = |text: String, line| text.replacen(line, &format!("{name} {line}"), 1);
        lines.into_iter().fold(NUMBERS.to_owned(), change)
    };
    let fleet = Fleet::with(&[
        ("blue-heron", &[("f", &with("blue", ["2\n", "8\n"]))]),
        ("red-owl", &[("f", &with("red", ["2\n", "5\n"]))]),
        ("grey-fox", &[("f", &with("grey", ["5\n", "8\n"]))]),
    ]);
    fleet.change_task("blue-heron", |task| task.priority = 9);
    fleet.change_task("red-owl", |task| task.priority = 8);
    let merge = fleet.start();
    let mut asked = Vec::new();
    for _ in 0..2 {
        let decision = fleet.waiting(&merge);
        fleet.answer(&decision, "theirs");
        asked.push((decision.question, decision.id));
    }
    assert_eq!(asked[0].0, "red-owl conflicts with blue-heron in f");
    assert_eq!(asked[1].0, "grey-fox conflicts with blue-heron and red-owl in f");
    let receipt = fleet.landed(&merge).receipt.unwrap();
    let of_blue: Vec<_> = receipt.losses.iter().filter(|loss| loss.name == "blue-heron").collect();
    let mut by: Vec<_> = of_blue.iter().map(|loss| (loss.lines.start, loss.by.clone())).collect();
    by.sort();
    let decision = |at: usize| Some(crate::model::By::Decision { id: asked[at].1 });
    assert_eq!(by, [(2, decision(0)), (8, decision(1))]);
}

/// Two agents that change the same line of `f`, and another each; `attributes` are those of the repository.
fn clashing_under(attributes: &str) -> (Fleet, [String; 2]) {
    let blue = NUMBERS.replacen("2\n", "blue\n", 1).replacen("9\n", "blue 9\n", 1);
    let grey = NUMBERS.replacen("2\n", "grey\n", 1).replacen("6\n", "grey 6\n", 1);
    let fleet = Fleet::with(&[("blue-heron", &[("f", &blue)]), ("grey-fox", &[("f", &grey)])]);
    std::fs::write(fleet.sandbox.path().join(".git/info/attributes"), attributes).unwrap();
    (fleet, [blue, grey])
}

#[test]
fn what_attributes_keep_from_being_merged_is_taken_whole() {
    for (attributes, driver) in [("f -merge\n", None), ("f merge=mine\n", Some("exit 1"))] {
        for (at, key) in ["ours", "theirs"].into_iter().enumerate() {
            let (fleet, sides) = clashing_under(attributes);
            if let Some(driver) = driver {
                fleet.sandbox.git(&["config", "merge.mine.driver", driver]);
            }
            let fleet = Fleet::new(fleet.sandbox);
            let (merge, decision) = asked(&fleet);
            let keys: Vec<_> = decision.choices.iter().map(|choice| choice.key.as_str()).collect();
            assert_eq!(keys, ["ours", "theirs", "skip", "abort"], "{attributes}");
            assert!(decision.detail.contains("The attribute `merge` keeps it"), "{}", decision.detail);
            fleet.answer(&decision, key);
            fleet.landed(&merge);
            assert_eq!(fleet.show("f"), sides[at].trim_end(), "{attributes}: {key}");
        }
    }
}

#[test]
fn what_a_driver_left_markers_in_is_answered_by_lines() {
    let (fleet, _) = clashing_under("f merge=mine\n");
    let driver = "git merge-file --marker-size=%L %A %O %B";
    fleet.sandbox.git(&["config", "merge.mine.driver", driver]);
    let fleet = Fleet::new(fleet.sandbox);
    let (merge, decision) = asked(&fleet);
    assert_eq!(decision.places_of("f"), 1);
    fleet.answer(&decision, "theirs");
    fleet.landed(&merge);
    assert_eq!(fleet.show("f"), "1\ngrey\n3\n4\n5\ngrey 6\n7\n8\nblue 9\n10");
}

#[test]
fn answers_to_places_that_did_not_change_go_on_holding() {
    let fleet = clashing_thrice();
    let (merge, decision) = asked(&fleet);
    say(&fleet, &decision, 1, "theirs", None);
    say(&fleet, &decision, 2, "edit", Some("edited 5\n"));
    say(&fleet, &decision, 3, "theirs", None);
    // Beside all of them, and in the third: that one is another question now.
    let main = fleet.at("main");
    let moved = NUMBERS.replacen("7\n", "main 7\n", 1).replacen("9\n", "main 9\n", 1);
    fleet.commit("refs/heads/main", &main, &[("f", &moved)]);
    fleet.sandbox.git(&["reset", "-q", "--hard"]);
    let blue = fleet.waiting(&merge);
    assert_eq!(blue.question, "blue-heron conflicts with main in f");
    fleet.answer(&blue, "ours");

    let again = fleet.waiting(&merge);
    assert_ne!((again.id, &again.subject), (decision.id, &decision.subject));
    assert_eq!(again.open_places(), ["f:3"], "{again:#?}");
    for (place, key, text) in [(1, "theirs", None), (2, "edit", Some("edited 5\n"))] {
        let kept = &again.places[&Decision::place_key("f", place)];
        assert_eq!((kept.key.as_str(), kept.text.as_deref()), (key, text));
        assert_eq!((kept.by.as_str(), kept.like), ("Ada <ada@example.org>", Some(decision.id)));
    }
    assert!(again.detail.contains("- f:1: `theirs` by Ada"), "{}", again.detail);
    assert_eq!(again.losses("ours", None, None).len(), 1, "only what is open is lost: {again:#?}");
    fleet.answer(&again, "ours");
    fleet.landed(&merge);
    assert_eq!(fleet.show("f"), "1\ngrey 2\ngrey more\n3\n4\nedited 5\n6\nmain 7\n8\nmain 9\n10");
}

#[test]
fn an_answer_to_a_file_that_did_not_change_goes_on_holding_and_nothing_is_asked_of_it() {
    let ten = |line: &str| NUMBERS.replacen("2\n", &format!("{line}\n"), 1);
    let fleet = Fleet::with(&[
        ("blue-heron", &[("f", &ten("blue")), ("g", "blue\n"), ("new", "blue\n")]),
        ("grey-fox", &[("f", &ten("grey")), ("g", ""), ("new", "grey\n")]),
    ]);
    let (merge, decision) = asked(&fleet);
    let keys = |decision: &Decision| -> Vec<String> {
        decision.choices.iter().map(|choice| choice.key.clone()).collect()
    };
    assert!(!keys(&decision).contains(&"agent".to_owned()), "g has no lines to resolve");
    let on = |path, key, text| answer(&fleet.store, &decision.id, On::Path(path), key, text).unwrap();
    on("new", "edit", Some("edited\n"));
    on("g", "ours", None);
    let main = fleet.at("main");
    fleet.commit("refs/heads/main", &main, &[("f", "1\n2\n3\n4\n5\n6\n7\nmain\n9\n10\n")]);
    fleet.sandbox.git(&["reset", "-q", "--hard"]);
    let again = fleet.waiting(&merge);
    assert_eq!(
        (again.open_places(), &again.paths[..]),
        (vec!["f".to_owned()], &["f", "g", "new"].map(str::to_owned)[..])
    );
    assert_eq!(again.question, "grey-fox conflicts with blue-heron in f");
    assert!(keys(&again).contains(&"agent".to_owned()), "{again:#?}");
    fleet.answer(&again, "theirs");
    fleet.landed(&merge);
    assert_eq!((fleet.show("new"), fleet.show("g")), ("edited".to_owned(), "blue".to_owned()));
}

/// What a question offers, in its order.
fn keys(decision: &Decision) -> Vec<&str> {
    decision.choices.iter().map(|choice| choice.key.as_str()).collect()
}

/// blue-heron and grey-fox clash in line 2 of `f`, and in `g`, which grey-fox deleted.
fn clashing_with_and_without_lines() -> Fleet {
    let ten = |line: &str| NUMBERS.replacen("2\n", &format!("{line}\n"), 1);
    Fleet::with(&[
        ("blue-heron", &[("f", &ten("blue")), ("g", "blue\n")]),
        ("grey-fox", &[("f", &ten("grey")), ("g", "")]),
    ])
}

#[test]
fn a_question_is_about_what_is_open_now() {
    let fleet = clashing_with_and_without_lines();
    let (merge, decision) = asked(&fleet);
    assert_eq!(decision.question, "grey-fox conflicts with blue-heron in f and 1 more");
    assert_eq!(keys(&decision), ["ours", "theirs", "union", "edit", "skip", "abort"]);
    let narrowed = answer(&fleet.store, &decision.id, On::Path("g"), "ours", None).unwrap().decision;
    let now = ("grey-fox conflicts with blue-heron in f", "agent ours theirs union edit skip abort");
    assert_eq!((&*narrowed.question, &*keys(&narrowed).join(" ")), now);
    // One that another clone narrowed, which lacks the branches, or an older version.
    let stale = Decision { answers: narrowed.answers.clone(), ..decision };
    fleet.store.transact(|tx| tx.put(&stale)).unwrap();
    let again = fleet.waiting(&merge);
    assert_eq!((&*again.question, &*keys(&again).join(" ")), now);
    let stored: Decision = fleet.store.state().unwrap().require(&again.id).unwrap();
    assert_eq!(stored.choices, again.choices);
    fleet.answer(&again, "theirs");
    fleet.landed(&merge);
    assert_eq!((fleet.show("f").lines().nth(1), &*fleet.show("g")), (Some("grey"), "blue"));
}

#[test]
fn a_path_that_has_its_answer_can_be_edited_although_what_is_open_cannot() {
    let fleet = clashing_with_and_without_lines();
    let (merge, decision) = asked(&fleet);
    answer(&fleet.store, &decision.id, On::Path("f"), "theirs", None).unwrap();
    let blue = fleet.at("orchestra/blue-heron");
    fleet.commit("refs/heads/orchestra/blue-heron", &blue, &[("g", "blue 2\n")]);
    let again = fleet.waiting(&merge);
    assert_eq!((again.open_places(), again.answers["f"].like), (vec!["g".to_owned()], Some(decision.id)));
    assert_eq!(keys(&again), ["ours", "theirs", "skip", "abort"]);
    let on = |on, key| answer(&fleet.store, &again.id, on, key, Some("edited\n"));
    for (path, key) in [("g", "edit"), ("g", "union")] {
        let refused = on(On::Path(path), key).unwrap_err().to_string();
        assert!(refused.contains("g has no lines to"), "{refused}");
    }
    assert!(on(On::Everything, "edit").is_err() && on(On::Everything, "union").is_err());
    on(On::Path("f"), "edit").unwrap();
    on(On::Path("g"), "ours").unwrap();
    fleet.landed(&merge);
    assert_eq!((&*fleet.show("f"), &*fleet.show("g")), ("edited", "blue 2"));
}

/// Both change `x` to the same two things, first in line 2, then, after blue-heron moved, in line 9.
#[test]
fn an_answer_stays_with_its_place_although_another_has_the_same_lines() {
    let text = |second: &str, ninth: &str| format!("1\n{second}\n3\n4\n5\n6\n7\n8\n{ninth}\n10\n");
    let base = text("x", "x");
    for (blue, then, kept) in [
        (text("blue", "x"), text("x", "blue"), None),
        // Above both: they are the same places, also where they were answered differently.
        (text("blue", "blue"), text("blue", "blue").replacen("1\n", "0\n1\n", 1), Some(["theirs", "ours"])),
    ] {
        let fleet = Fleet::with(&[]);
        let main = fleet.at("main");
        fleet.commit("refs/heads/main", &main, &[("f", &base)]);
        fleet.sandbox.git(&["reset", "-q", "--hard"]);
        fleet.agent("blue-heron", &[("f", &blue)]);
        fleet.agent("grey-fox", &[("f", &text("grey", "grey"))]);
        let (merge, decision) = asked(&fleet);
        let open = say(&fleet, &decision, 1, "theirs", None).open;
        if kept.is_some() {
            assert_eq!(open, ["f:2"]);
            say(&fleet, &decision, 2, "ours", None);
        }
        let tip = fleet.at("orchestra/blue-heron");
        fleet.commit("refs/heads/orchestra/blue-heron", &tip, &[("f", &then)]);
        let Some(kept) = kept else {
            let again = fleet.waiting(&merge);
            assert_eq!((again.open_places(), again.places.len()), (vec!["f".to_owned()], 0), "{again:#?}");
            continue;
        };
        fleet.landed(&merge);
        let all: Vec<Decision> = fleet.store.state().unwrap().all().unwrap();
        let again = all.iter().find(|other| other.id != decision.id).unwrap();
        let keys = [1, 2].map(|place| again.places[&Decision::place_key("f", place)].key.as_str());
        assert_eq!(keys, kept);
        assert_eq!(fleet.show("f"), "0\n1\ngrey\n3\n4\n5\n6\n7\n8\nblue\n10");
    }
}

/// As an older version recorded it, or one that saw lines there.
#[test]
fn the_lines_of_both_of_a_file_without_lines_are_asked_about_again() {
    let union = |store: &Store, decision: &Decision, path: Option<&str>| {
        let given: crate::model::Answer =
            serde_json::from_value(serde_json::json!({"key": "union", "by": "Ada <a@b.c>", "at": 1}))
                .unwrap();
        let change = |tx: &mut crate::store::Transaction<'_>| {
            let mut decision: Decision = tx.require(&decision.id)?;
            match path {
                Some(path) => drop(decision.answers.insert(path.to_owned(), given.clone())),
                None => decision.answer = Some(given.clone()),
            }
            if decision.open_places().is_empty() {
                decision.status = DecisionStatus::Answered;
            }
            tx.put(&decision)
        };
        store.transact(change).unwrap();
    };
    for path in [None, Some("g")] {
        let fleet = clashing_with_and_without_lines();
        let (merge, decision) = asked(&fleet);
        if path.is_some() {
            answer(&fleet.store, &decision.id, On::Path("f"), "theirs", None).unwrap();
        }
        union(&fleet.store, &decision, path);
        let again = fleet.waiting(&merge);
        assert_eq!((again.id, again.status), (decision.id, DecisionStatus::Open));
        assert!(again.detail.starts_with("g has no lines to keep of both"), "{}", again.detail);
        assert_eq!(again.open_places().contains(&"f".to_owned()), path.is_none());
        fleet.answer(&again, "ours");
        fleet.landed(&merge);
        assert_eq!(fleet.show("g"), "blue", "nobody deleted it");
    }
    // The same answer is not repeated where an attribute keeps a file whole since.
    let (fleet, _) = clashing_under("");
    let (merge, decision) = asked(&fleet);
    answer(&fleet.store, &decision.id, On::Path("f"), "union", None).unwrap();
    std::fs::write(fleet.sandbox.path().join(".git/info/attributes"), "f -merge\n").unwrap();
    let again = fleet.waiting(&merge);
    assert_eq!((again.id, again.answers.len()), (decision.id, 0));
    let blue = fleet.at("orchestra/blue-heron");
    fleet.commit("refs/heads/orchestra/blue-heron", &blue, &[("g", "blue\n")]);
    fleet.answer(&again, "theirs");
    fleet.landed(&merge);
}

#[test]
fn places_of_a_file_that_is_no_text_do_not_hold_the_merge_up() {
    let bytes = |line: &[u8]| [b"1\n2 \xff\n3\n".as_slice(), line, b"5\n"].concat();
    let fleet = Fleet::with(&[("blue-heron", &[]), ("grey-fox", &[])]);
    for (name, line) in [("blue-heron", b"blue\n"), ("grey-fox", b"grey\n")] {
        let blob = fleet.repo().write_blob(&bytes(line)).unwrap();
        let tip = fleet.at(&format!("orchestra/{name}"));
        let tree = fleet.repo().read_commit(&tip).unwrap().tree;
        let (tree, _) = fleet.repo().edit_tree(Some(&tree), &[("f", Some((EntryMode::Blob, blob)))]).unwrap();
        let commit = fleet.sandbox.git(&["commit-tree", tree.as_str(), "-p", tip.as_str(), "-m", "c"]);
        fleet.sandbox.git(&["update-ref", &format!("refs/heads/orchestra/{name}"), &commit]);
    }
    let (merge, decision) = asked(&fleet);
    assert_eq!((decision.places_of("f"), decision.has_lines("f")), (0, true));
    // As if somebody had cut it into places, and answered each.
    let change = |tx: &mut crate::store::Transaction<'_>| {
        let mut decision: Decision = tx.require(&decision.id)?;
        let given = serde_json::json!({"key": "union", "by": "Ada <a@b.c>", "at": 1});
        for (at, clash) in decision.clashes.iter_mut().enumerate() {
            clash.place = at + 1;
            let key = Decision::place_key("f", clash.place);
            decision.places.insert(key, serde_json::from_value(given.clone()).unwrap());
        }
        decision.status = DecisionStatus::Answered;
        tx.put(&decision)
    };
    fleet.store.transact(change).unwrap();
    let again = fleet.waiting(&merge);
    assert_eq!((again.status, again.places.len()), (DecisionStatus::Open, 0));
    fleet.answer(&again, "theirs");
    fleet.landed(&merge);
    let theirs = fleet.at("orchestra/grey-fox:f");
    assert_eq!(fleet.at("main:f"), theirs);
}

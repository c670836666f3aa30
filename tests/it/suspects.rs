//! What git merges and may not work together all the same, as `overlap` names it.

use crate::harness::Sandbox;
use crate::merge::add_agents;
use serde_json::{Value, json};

const DATES: &str = "pub fn parse_date(text: &str) -> Date {
    let text = text.trim();
    let year = text[..4].parse();
    let month = text[5..7].parse();
    let day = text[8..10].parse();
    let date = Date { year, month, day };
    check(&date);
    date
}

pub fn today() -> Date {
    clock()
}
";
const MAIN: &str = "fn main() {\n    show(parse_date(\"2026-11-22\"));\n}\n";
const CARGO: &str = "[package]\nname = \"dates\"\nversion = \"0.1.0\"\n\n[dependencies]\nserde = \"1\"\n\n[dev-dependencies]\ninsta = \"1\"\n";

fn fleet() -> Sandbox {
    let sandbox = Sandbox::new();
    for (path, text) in [("src/dates.rs", DATES), ("src/main.rs", MAIN), ("Cargo.toml", CARGO)] {
        sandbox.write(path, text);
    }
    sandbox.git(&["add", "--all"]);
    sandbox.commit("base");
    add_agents(
        &sandbox,
        &[
            // Takes the name away everywhere.
            (
                "blue-heron",
                &[
                    ("src/dates.rs", &DATES.replace("parse_date", "read_date")),
                    ("src/main.rs", &MAIN.replace("parse_date", "read_date")),
                ],
            ),
            // Uses it anew, in a file of its own.
            ("grey-fox", &[("src/report.rs", "pub fn report() {\n    let day = parse_date(input());\n}\n")]),
            // Both edit one function, far enough from each other; and both change the manifest.
            (
                "red-owl",
                &[
                    ("src/dates.rs", &DATES.replace("text.trim()", "text.trim_start()")),
                    ("Cargo.toml", &CARGO.replace("serde = \"1\"", "serde = \"1\"\ntime = \"0.3\"")),
                ],
            ),
            (
                "shy-newt",
                &[
                    ("src/dates.rs", &DATES.replace("    check(&date);\n", "    check(&date)?;\n")),
                    ("Cargo.toml", &CARGO.replace("insta = \"1\"", "insta = \"1.40\"")),
                ],
            ),
            // Adds a function below, and moves one to another file: nobody loses anything.
            (
                "tall-wren",
                &[
                    (
                        "src/dates.rs",
                        &DATES.replace(
                            "pub fn today() -> Date {\n    clock()\n}\n",
                            "pub fn tomorrow() -> Date {\n    clock()\n}\n",
                        ),
                    ),
                    ("src/clock.rs", "pub fn today() -> Date {\n    clock()\n}\n"),
                ],
            ),
        ],
    );
    sandbox
}

/// The reasons of a pair, without ids.
fn suspects(overlap: &Value, one: &str, other: &str) -> Vec<Value> {
    let branches = overlap["data"]["branches"].as_array().unwrap();
    let id = |name: &str| branches.iter().find(|branch| branch["name"] == name).unwrap()["agent"].clone();
    let (one, other) = (id(one), id(other));
    let pairs = overlap["data"]["pairs"].as_array().unwrap();
    let pair = pairs
        .iter()
        .find(|pair| (pair["a"] == one && pair["b"] == other) || (pair["a"] == other && pair["b"] == one));
    let pair = pair.unwrap();
    assert_eq!(pair["forecast"]["is"], "clean", "{pair}");
    let mut reasons = pair["suspects"].as_array().cloned().unwrap_or_default();
    for reason in &mut reasons {
        if let Some(by) = reason.get("by").cloned() {
            reason["by"] = branches.iter().find(|branch| branch["agent"] == by).unwrap()["name"].clone();
        }
    }
    reasons
}

#[test]
fn what_merges_and_may_not_work_is_named_with_the_reason() {
    let sandbox = fleet();
    let overlap = sandbox.json(&["overlap"]);
    assert_eq!(
        suspects(&overlap, "blue-heron", "grey-fox"),
        [json!({"is": "gone", "name": "parse_date", "path": "src/dates.rs", "by": "blue-heron",
            "used_in": "src/report.rs", "line": 2})]
    );
    assert_eq!(
        suspects(&overlap, "red-owl", "shy-newt"),
        [
            json!({"is": "same-function", "path": "src/dates.rs", "function": "pub fn parse_date(text: &str) -> Date"}),
            json!({"is": "manifest", "path": "Cargo.toml"})
        ]
    );
    for (one, other) in [
        ("red-owl", "grey-fox"),
        ("tall-wren", "grey-fox"),
        ("tall-wren", "red-owl"),
        ("tall-wren", "shy-newt"),
    ] {
        assert_eq!(suspects(&overlap, one, other), Vec::<Value>::new(), "{one} {other}");
    }

    let shown = sandbox.ok(&["overlap"]);
    for words in [
        "blue-heron and grey-fox: git merges them, and they are worth a look",
        "    blue-heron takes parse_date out of src/dates.rs, and it is used in src/report.rs:2",
        "    both edit `pub fn parse_date(text: &str) -> Date` in src/dates.rs",
        "3? worth a look",
    ] {
        assert!(shown.contains(words), "{words}\n{shown}");
    }
    // The plan of a merge says so too, folded: the clearest reasons first.
    let plan = sandbox.ok(&["merge", "--dry-run"]);
    let at = plan.find("git merges these, and they are worth a look:\n").expect(&plan);
    insta::assert_snapshot!(&plan[at..], @r"
    git merges these, and they are worth a look:
      blue-heron and grey-fox: blue-heron takes parse_date out of src/dates.rs, and it is used in src/report.rs:2
      red-owl and shy-newt: both edit `pub fn parse_date(text: &str) -> Date` in src/dates.rs, and 1 more
    ");
    let plan = sandbox.json(&["merge", "--dry-run"])["data"].clone();
    let pair = |plan: &Value, one: &str, other: &str| -> Value {
        let steps = plan["steps"].as_array().unwrap();
        let id = |name: &str| steps.iter().find(|step| step["name"] == name).unwrap()["agent"].clone();
        let all = plan["suspects"].as_array().unwrap();
        let found = all.iter().find(|pair| pair["a"] == id(one) && pair["b"] == id(other));
        found.map(|pair| pair["reasons"].clone()).unwrap_or_default()
    };
    assert_eq!(pair(&plan, "blue-heron", "grey-fox")[0]["is"], "gone", "{plan:#}");
    assert_eq!(pair(&plan, "red-owl", "shy-newt")[1]["path"], "Cargo.toml", "{plan:#}");
    assert_eq!(pair(&plan, "tall-wren", "grey-fox"), Value::Null);

    let lines = sandbox.ok(&["overlap", "--porcelain"]);
    assert!(lines.contains("clean\t0\t0\tblue-heron\tgrey-fox\t1\n"), "{lines}");
}

#[test]
fn a_branch_that_builds_on_another_knew_what_that_one_did() {
    let sandbox = fleet();
    let trimmed = DATES.replace("text.trim()", "text.trim_start()");
    // On top of red-owl, in the function that red-owl edited and the manifest that it changed.
    sandbox.git(&["update-ref", "refs/heads/orchestra/shy-newt", "orchestra/red-owl"]);
    let checked = trimmed.replace("    check(&date);\n", "    check(&date)?;\n");
    let manifest = CARGO.replace("serde = \"1\"", "serde = \"1\"\ntime = \"0.4\"");
    sandbox.plumb_commit(
        "refs/heads/orchestra/shy-newt",
        "more",
        &[("src/dates.rs", &checked), ("Cargo.toml", &manifest)],
    );
    assert_eq!(suspects(&sandbox.json(&["overlap"]), "red-owl", "shy-newt"), Vec::<Value>::new());
    assert!(!sandbox.ok(&["merge", "--dry-run", "red-owl", "shy-newt"]).contains("worth a look"));
}

#[test]
fn what_the_target_lost_meanwhile_is_named_too() {
    let sandbox = fleet();
    sandbox.write("src/dates.rs", &DATES.replace("parse_date", "read_date"));
    sandbox.write("src/main.rs", &MAIN.replace("parse_date", "read_date"));
    sandbox.commit("rename");
    let shown = sandbox.ok(&["overlap", "grey-fox"]);
    assert!(
        shown.contains("main takes parse_date out of src/dates.rs, and it is used in src/report.rs:2"),
        "{shown}"
    );
}

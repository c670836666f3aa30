//! Records of every kind with every field, as builds of the past wrote them: they must read for ever.
//!
//! `fixtures/records/v1` was written by the first build of format 1 and is never written again. A field that is added
//! later gets a file of its own, in the directory of the build that added it.

use super::absorb::check;
use super::state::Format;
use super::{Entity, Record};
use crate::model::{Agent, Decision, Finding, Id, Kind, Merge, Pipeline, Sandbox, Task, Timestamp};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/records")
}

fn id(number: u128) -> String {
    Id::from_random(number).to_string()
}

fn oid(digit: &str) -> String {
    digit.repeat(40)
}

/// A record that two machines wrote, one after the other, so that it has stamps of both.
fn written<T: Entity>(entity: &Value) -> Record {
    let entity: T =
        serde_json::from_value(entity.clone()).unwrap_or_else(|error| panic!("{error}: {entity:#}"));
    let mut record = Record::default();
    record.update(&entity, Timestamp(1_795_000_000_000), "g3mvk8");
    record
}

/// What this build writes, by file.
fn samples() -> Vec<(&'static str, Record)> {
    let usage = json!({"input": 1210, "output": 64, "cache_read": 3, "cache_write": 14200, "estimated_output": 60,
        "turns": 2, "cost": {"micro_usd": 12_345, "source": "reported"}});
    let task = json!({"id": id(1), "title": "Parse dates", "body": "RFC 3339 only.\n\nNothing else.",
        "status": "started", "priority": 2, "after": [id(11), id(12)], "touches": ["src/date/**", "tests/**"],
        "labels": ["parser"], "zone": "core", "assignee": id(2), "holder": "g3mvk8", "fence": 3,
        "result": "half done", "created": 1_795_000_000_000_u64, "changed": 1_795_000_000_500_u64});
    let run = |outcome: Value| {
        json!({"started": 1_795_000_000_000_u64, "ended": 1_795_000_060_000_u64, "outcome": outcome,
            "tip": oid("a"), "usage": usage, "model": "opus", "transcript": oid("b")})
    };
    let agent = json!({"id": id(2), "name": "parse-dates", "profile": "careful", "program": "claude",
        "task": id(1), "prompt": "Parse dates.", "branch": "refs/heads/orchestra/parse-dates", "base": oid("c"),
        "target": "refs/heads/main", "machine": "g3mvk8", "session": "0b6b2f9e-8f5e-4a49-9f4c-0d4d1f5a7a10",
        "runs": {"1": run(json!({"is": "failed", "reason": "exit 1"})),
            "2": run(json!({"is": "stopped", "by": "interrupt"})),
            "3": run(json!({"is": "lost"})), "4": run(json!({"is": "succeeded"})),
            "5": {"started": 1_795_000_070_000_u64}},
        "removed": 1_795_000_080_000_u64, "merged": oid("d"), "created": 1_795_000_000_000_u64});
    let mut taken = agent.clone();
    taken["taken"] = json!(5);
    taken["runs"]["5"]["session"] = json!("0b6b2f9e-8f5e-4a49-9f4c-0d4d1f5a7a10");
    let mut limited = agent.clone();
    limited["budget"] =
        json!({"cost_micro_usd": 2_000_000, "tokens": 100_000, "turns": 9, "time_ms": 60_000});
    let over = json!({"scope": "agent", "measure": "cost", "used": 2_010_000, "limit": 2_000_000, "estimated": true});
    limited["runs"]["4"]["context"] = json!({"used": 150_000, "window": 200_000});
    limited["runs"]["5"] = run(json!({"is": "stopped", "by": "max-cost", "over": over}));
    let mut confined = agent.clone();
    for (run, level) in [("1", "none"), ("4", "landlock"), ("5", "bubblewrap")] {
        confined["runs"][run]["sandbox"] = json!(level);
    }
    let mut stepping = agent.clone();
    stepping["step"] = json!({"team": "feature", "step": "planner"});
    let finding = json!({"id": id(3), "message": "needs GNU date", "severity": "medium", "status": "resolved",
        "anchor": {"path": "src/dates.sh", "line": 4}, "commit": oid("e"), "agent": id(2), "author": "parse-dates",
        "task": id(1), "resolution": "uses awk now", "created": 1_795_000_000_000_u64});
    let decision = json!({"id": id(4), "kind": "conflict", "status": "answered", "question": "Which side?",
        "detail": "both changed one line", "choices": [{"key": "ours", "label": "keep main"},
            {"key": "theirs", "label": "take parse-dates"}],
        "merge": id(5), "agent": id(2), "subject": "src/dates.sh", "paths": ["src/dates.sh"],
        "answers": {"src/dates.sh": {"key": "theirs", "text": "both lines", "by": "Ada", "at": 1_795_000_000_000_u64}},
        "answer": {"key": "theirs", "by": "Ada", "at": 1_795_000_000_000_u64}, "created": 1_795_000_000_000_u64});
    let mut remembering = decision.clone();
    remembering["answers"]["src/dates.sh"] = json!({"key": "remembered", "text": "both lines", "by": "Ada",
        "at": 1_795_000_000_000_u64, "like": id(10)});
    let mut placed = decision.clone();
    placed["clashes"] = json!([
        {"path": "src/dates.sh", "place": 1, "lines": {"start": 4, "len": 2}, "leaves_out": [
            {"answer": "ours", "of": "parse-dates", "added": 3, "removed": 0}]},
        {"path": "src/dates.sh", "place": 2, "lines": {"start": 9, "len": 0}},
        {"path": "logo.png", "place": 0, "lines": {"start": 0, "len": 0}}]);
    placed["places"] = json!({
        "src/dates.sh:1": {"key": "union", "by": "Ada", "at": 1_795_000_000_000_u64,
            "signature": "tree 4b825dc642cb6eb9a060e54bf8d69288fbee4904\nauthor Ada\n\ngit-orchestra answer\n"},
        "src/dates.sh:2": {"key": "edit", "text": "both", "by": "Bob", "at": 1_795_000_000_001_u64}});
    let mut carried = decision.clone();
    carried["sides"] = json!({"src/dates.sh:0": "3f786850e387550fdab836ed7e6dc881de23001b",
        "src/dates.sh:1": "89e6c98d92887913cadf06b2adb97f26cde4849b"});
    let mut told = decision.clone();
    told["told"] = json!(2);
    remembering["remembers"] = json!({"3f786850e387550fdab836ed7e6dc881de23001b": "both lines"});
    let merge = json!({"id": id(5), "target": "refs/heads/main", "target_tip": oid("f"), "status": "landed",
        "steps": [{"agent": id(2), "name": "parse-dates", "task": id(1), "after": [id(11)], "tip": oid("a"),
            "status": "resolved", "commit": oid("1"), "reason": "a reason",
            "resolutions": [{"path": "src/dates.sh", "side": "theirs", "decision": id(4), "by": "Ada"}]}],
        "score": {"branches": 3, "before_person": 2, "conflict_steps": 1, "naive_before_person": 1,
            "naive_conflict_steps": 2},
        "head": oid("1"), "landed": oid("1"), "created": 1_795_000_000_000_u64});
    let mut gated = merge.clone();
    gated["gates"] = json!([
        {"gate": "test", "commit": oid("1"), "outcome": "failed", "why": "exit code 1", "runs": 2, "ms": 1200,
            "output": "gates/merge/2-test.log", "machine": "g3mvk8", "decision": id(4), "at": 1_795_000_000_000_u64},
        {"gate": "build", "commit": oid("1"), "outcome": "passed", "flaky": true, "runs": 2, "ms": 900,
            "machine": "g3mvk8", "at": 1_795_000_000_000_u64},
        {"gate": "lint", "commit": oid("1"), "outcome": "left-out", "by": "Ada <ada@example.org>"}]);
    let mut mended = gated.clone();
    mended["steps"][0]["mends"] = json!(id(2));
    mended["mends"] = json!([{"of": id(2), "gate": "test", "commit": oid("1"), "agent": id(12), "name": "mend-dates",
        "decision": id(4), "outcome": "refused", "why": "its run failed", "at": 1_795_000_000_000_u64}]);
    let mut rest = gated.clone();
    rest["follows"] = json!(id(9));
    let pipeline = json!({"id": id(7), "name": "nightly", "status": "waiting", "tasks": [id(1), id(11)],
        "profile": "careful", "team": "feature", "target": "refs/heads/main", "push": "origin",
        "settled": [id(2)], "merge": id(5), "result": "1 agent failed", "created": 1_795_000_000_000_u64});
    let mut of_pipeline = decision.clone();
    of_pipeline["kind"] = json!("pipeline");
    let mut executable = decision.clone();
    executable["kind"] = json!("executable");
    let mut asked = decision.clone();
    asked["kind"] = json!("gate");
    let mut receipted = merge.clone();
    let (there, lost) =
        (json!({"kept": 9, "moved": 1, "superseded": 3, "dropped": 1}), json!({"start": 4, "len": 2}));
    receipted["receipt"] = json!({"accounts": [{"agent": id(2), "name": "parse-dates", "added": there, "removed": there},
            {"name": "main", "added": there, "removed": there}],
        "losses": [{"name": "main", "path": "src/dates.sh", "lines": lost, "change": "added"},
            {"name": "parse-dates", "path": "a", "lines": lost, "change": "removed", "by": {"is": "decision", "id": id(4)}},
            {"name": "parse-dates", "path": "b", "lines": lost, "change": "added",
                "by": {"is": "agent", "id": id(12), "name": "grey-fox"}},
            {"name": "parse-dates", "path": "c", "lines": lost, "change": "added", "by": {"is": "rewritten"}},
            {"name": "parse-dates", "path": "d", "lines": lost, "change": "added", "by": {"is": "git"}}],
        "unlisted": 2});
    let mut contested = written::<Task>(&task);
    let mut other = contested.clone();
    let mut edited: Task = contested.entity().unwrap();
    edited.title = "Parse dates and times".to_owned();
    contested.update(&edited, Timestamp(1_795_000_001_000), "g3mvk8");
    edited.title = "Parse all dates".to_owned();
    edited.labels.clear();
    other.update(&edited, Timestamp(1_795_000_002_000), "h7qqq2");
    let contested = super::merge::merge(Task::FIELDS, &contested, &other);
    let between = json!({"id": id(13), "message": "grey-fox and red-owl would conflict in src/a.rs", "severity": "medium",
        "status": "open", "anchor": {"path": "src/a.rs"}, "author": "radar", "between": [id(2), id(4)],
        "created": 1_795_000_002_000_u64});
    let mut deleted = written::<Finding>(&finding);
    let by = json!({"by": "Ada <ada@example.org>", "at": 1_795_000_003_000_u64, "operation": id(9)});
    deleted.write(Finding::FIELDS, super::record::DELETED, Some(by), Timestamp(1_795_000_003_000), "g3mvk8");
    let mut archived = written::<Task>(&json!({"id": id(6), "title": "Over", "status": "closed"}));
    let mark = archived.mark(Timestamp(1_795_000_004_000));
    archived.write(
        Task::FIELDS,
        super::archive::ARCHIVED,
        Some(mark),
        Timestamp(1_795_000_004_000),
        "g3mvk8",
    );
    vec![
        ("task", written::<Task>(&task)),
        ("task-contested", contested),
        ("task-archived", archived),
        ("agent", written::<Agent>(&agent)),
        ("agent-taken", written::<Agent>(&taken)),
        ("agent-limited", written::<Agent>(&limited)),
        ("agent-confined", written::<Agent>(&confined)),
        ("agent-step", written::<Agent>(&stepping)),
        ("finding", written::<Finding>(&finding)),
        ("finding-deleted", deleted),
        ("finding-between", written::<Finding>(&between)),
        ("decision", written::<Decision>(&decision)),
        ("decision-remembering", written::<Decision>(&remembering)),
        ("decision-told", written::<Decision>(&told)),
        ("decision-placed", written::<Decision>(&placed)),
        ("decision-carried", written::<Decision>(&carried)),
        ("merge", written::<Merge>(&merge)),
        ("merge-gated", written::<Merge>(&gated)),
        ("merge-mended", written::<Merge>(&mended)),
        ("merge-rest", written::<Merge>(&rest)),
        ("decision-gate", written::<Decision>(&asked)),
        ("decision-executable", written::<Decision>(&executable)),
        ("decision-pipeline", written::<Decision>(&of_pipeline)),
        ("pipeline", written::<Pipeline>(&pipeline)),
        ("merge-receipt", written::<Merge>(&receipted)),
    ]
}

fn kind_of(file: &Path) -> Kind {
    let stem = file.file_stem().unwrap().to_str().unwrap();
    let noun = stem.split('-').next().unwrap();
    Kind::ALL.into_iter().find(|kind| kind.noun() == noun).unwrap_or_else(|| panic!("{stem} is of no kind"))
}

fn files() -> Vec<PathBuf> {
    let builds = std::fs::read_dir(root()).unwrap().map(|entry| entry.unwrap().path());
    let files = builds.flat_map(|dir| std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()));
    let mut files: Vec<PathBuf> = files.filter(|file| !file.ends_with("format.json")).collect();
    files.sort();
    files
}

#[test]
#[ignore = "writes fixtures/records/v1 where a file is missing: cargo test --lib fixtures -- --ignored"]
fn write_what_is_missing() {
    let dir = root().join("v1");
    std::fs::create_dir_all(&dir).unwrap();
    for (name, record) in samples() {
        let file = dir.join(format!("{name}.json"));
        if !file.exists() {
            std::fs::write(file, record.to_bytes()).unwrap();
        }
    }
}

#[test]
fn records_of_every_build_read_for_ever() {
    let mut seen: BTreeSet<(Kind, String)> = BTreeSet::new();
    for file in files() {
        let shown = file.display();
        let bytes = std::fs::read(&file).unwrap();
        let kind = kind_of(&file);
        let value: Value = serde_json::from_slice(&bytes).unwrap();
        let id: Id = value["id"].as_str().unwrap().parse().unwrap();
        let record = check(kind, &id, &bytes).unwrap_or_else(|reason| panic!("{shown}: {reason}"));
        assert_eq!(record.to_bytes(), bytes, "{shown} is written as it was");
        seen.extend(record.fields.keys().map(|field| (kind, field.clone())));
    }
    for (kind, fields) in [
        (Kind::Task, Task::FIELDS),
        (Kind::Agent, Agent::FIELDS),
        (Kind::Finding, Finding::FIELDS),
        (Kind::Decision, Decision::FIELDS),
        (Kind::Merge, Merge::FIELDS),
        (Kind::Pipeline, Pipeline::FIELDS),
    ] {
        for field in fields {
            let known = seen.contains(&(kind, field.name().to_owned()));
            assert!(known, "{} of {kind} is in no record of fixtures/records", field.name());
        }
    }
}

/// The entity of `kind` in a record, written again over the record: what a change by this build does to it.
fn rewritten(kind: Kind, record: &Record) -> Record {
    fn again<T: Entity>(record: &Record) -> Record {
        let mut again = record.clone();
        let changed = again.update(&record.entity::<T>().unwrap(), Timestamp(u64::MAX / 2), "zzzzzz");
        assert!(changed.is_empty(), "reading and writing changes nothing: {changed:?}");
        again
    }
    match kind {
        Kind::Task => again::<Task>(record),
        Kind::Agent => again::<Agent>(record),
        Kind::Finding => again::<Finding>(record),
        Kind::Decision => again::<Decision>(record),
        Kind::Merge => again::<Merge>(record),
        Kind::Pipeline => again::<Pipeline>(record),
    }
}

#[test]
fn what_a_newer_build_added_survives_reading_writing_and_merging() {
    for file in files() {
        let kind = kind_of(&file);
        let mut value: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
        value["from_the_future"] = json!({"a": [1, {"b": null}]});
        value["_s"]["1795000009000-0-futur3"] = json!(["from_the_future"]);
        let text = format!("{}\n", serde_json::to_string_pretty(&value).unwrap());
        let record = Record::parse(text.as_bytes()).unwrap();
        assert_eq!(
            String::from_utf8(rewritten(kind, &record).to_bytes()).unwrap(),
            text,
            "{}",
            file.display()
        );
        let old = Record::parse(&std::fs::read(&file).unwrap()).unwrap();
        for merged in [super::merge::merge(&[], &record, &old), super::merge::merge(&[], &old, &record)] {
            assert_eq!(merged.fields["from_the_future"], value["from_the_future"], "{}", file.display());
        }
    }
}

#[test]
fn what_confined_a_run_reads_as_it_was_and_is_unknown_before() {
    let read = |name: &str| {
        let record = Record::parse(&std::fs::read(root().join("v1").join(name)).unwrap()).unwrap();
        record.entity::<Agent>().unwrap()
    };
    let levels: Vec<_> = read("agent-confined.json").runs.values().map(|run| run.sandbox).collect();
    let (none, landlock, bubblewrap) =
        (Some(Sandbox::None), Some(Sandbox::Landlock), Some(Sandbox::Bubblewrap));
    assert_eq!(levels, [none, None, None, landlock, bubblewrap]);
    assert!(read("agent.json").runs.values().all(|run| run.sandbox.is_none()));
}

#[test]
fn the_gates_of_the_first_build_read() {
    let bytes = std::fs::read(root().join("v1/format.json")).unwrap();
    let format: Format = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(
        (format.number, format.min_read, format.min_write, format.epoch, format.floor),
        (1, 1, 1, 0, 0)
    );
}

#[test]
fn what_a_past_build_archived_stays_archived() {
    let record = Record::parse(&std::fs::read(root().join("v1/task-archived.json")).unwrap()).unwrap();
    assert_eq!(record.archived(), Some(Timestamp(1_795_000_004_000)));
}

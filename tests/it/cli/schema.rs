//! Every document that `--json` prints is what its schema says, and nothing in it goes unsaid.

use std::collections::BTreeSet;

use regex::Regex;
use serde_json::Value;

use crate::harness::Sandbox;

/// What we use of JSON Schema. Beyond it, properties that the schema does not name are faults here: readers may not
/// mind them, but then they are not documented.
fn check(schema: &Value, root: &Value, value: &Value, at: &str, faults: &mut Vec<String>) {
    let mut fault = |text: String| faults.push(format!("{at}: {text}"));
    if let Some(name) = schema["$ref"].as_str() {
        let target = &root["$defs"][name.strip_prefix("#/$defs/").unwrap()];
        assert!(target.is_object(), "{name} is not defined");
        return check(target, root, value, at, faults);
    }
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = |schema: &Value| {
            let mut inner = Vec::new();
            check(schema, root, value, at, &mut inner);
            inner.is_empty()
        };
        if !any.iter().any(fits) {
            fault(format!("{value} fits nothing of {any:?}"));
        }
        return;
    }
    if let Some(expected) = schema.get("const").filter(|expected| *expected != value) {
        fault(format!("{value} is not {expected}"));
    }
    if let Some(allowed) = schema["enum"].as_array().filter(|allowed| !allowed.contains(value)) {
        fault(format!("{value} is none of {allowed:?}"));
    }
    let types: Vec<&str> = match &schema["type"] {
        Value::String(one) => vec![one],
        Value::Array(several) => several.iter().map(|one| one.as_str().unwrap()).collect(),
        _ => Vec::new(),
    };
    let is = |name: &str| match name {
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "boolean" => value.is_boolean(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        "null" => value.is_null(),
        other => panic!("unknown type {other}"),
    };
    if !types.is_empty() && !types.iter().any(|name| is(name)) {
        fault(format!("{value} is no {types:?}"));
    }
    if let (Some(pattern), Some(text)) = (schema["pattern"].as_str(), value.as_str())
        && !Regex::new(pattern).unwrap().is_match(text)
    {
        fault(format!("{text:?} does not match {pattern}"));
    }
    if let (Some(items), Some(values)) = (schema.get("items"), value.as_array()) {
        for (number, value) in values.iter().enumerate() {
            check(items, root, value, &format!("{at}[{number}]"), faults);
        }
    }
    let Some(fields) = value.as_object() else { return };
    for name in schema["required"].as_array().into_iter().flatten() {
        if !fields.contains_key(name.as_str().unwrap()) {
            faults.push(format!("{at}: {name} is missing"));
        }
    }
    for (name, value) in fields {
        let at = format!("{at}.{name}");
        match schema["properties"].get(name).or(schema.get("additionalProperties")) {
            Some(schema) => check(schema, root, value, &at, faults),
            None => faults.push(format!("{at} is not in the schema")),
        }
    }
}

/// Checks documents, and remembers which kinds it saw.
#[derive(Default)]
struct Seen(BTreeSet<String>);

impl Seen {
    fn document(&mut self, sandbox: &Sandbox, text: &str) -> Value {
        let document: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        let name = document["schema"].as_str().unwrap();
        let kind = name.strip_prefix("git-orchestra/").and_then(|name| name.strip_suffix("/1")).unwrap();
        let schema: Value = serde_json::from_str(&sandbox.ok(&["schema", kind])).unwrap();
        let mut faults = Vec::new();
        check(&schema, &schema, &document, kind, &mut faults);
        assert!(faults.is_empty(), "{}\n{document:#}", faults.join("\n"));
        self.0.insert(kind.to_owned());
        document
    }

    fn run(&mut self, sandbox: &Sandbox, args: &[&str]) -> Value {
        let out = sandbox.orchestra(args);
        assert!(matches!(out.code, 0 | 3), "{args:?}\n{out}");
        self.document(sandbox, &out.stdout)
    }

    fn lines(&mut self, sandbox: &Sandbox, args: &[&str]) {
        let out = sandbox.orchestra(args);
        assert!(out.code == 0 && !out.stdout.is_empty(), "{args:?}\n{out}");
        out.stdout.lines().for_each(|line| drop(self.document(sandbox, line)));
    }
}

#[test]
fn every_document_is_what_its_schema_says() {
    let sandbox = super::agents::stage();
    let mut seen = Seen::default();
    seen.lines(&sandbox, &["spawn", "--json", "--profile", "worker"]);
    seen.run(&sandbox, &["task", "list", "--all", "--json"]);
    let status = seen.run(&sandbox, &["status", "--json"]);
    let names: Vec<&str> =
        status["data"].as_array().unwrap().iter().map(|row| row["name"].as_str().unwrap()).collect();
    assert_eq!(names.len(), 2, "{status:#}");
    seen.run(&sandbox, &["log", names[0], "--json"]);
    seen.lines(&sandbox, &["log", names[0], "--json", "--follow"]);
    seen.run(&sandbox, &["log", names[0], "--json", "--record"]);
    seen.run(&sandbox, &["show", names[0], "--json"]);
    seen.run(&sandbox, &["cost", "--by", "task", "--since", "1d", "--json"]);
    seen.run(&sandbox, &["plan", "--score", "--json"]);
    let findings = seen.run(&sandbox, &["finding", "list", "--json"]);
    seen.run(&sandbox, &["show", findings["data"][0]["id"].as_str().unwrap(), "--json"]);
    let task = seen.run(
        &sandbox,
        &["task", "add", "Later", "--after", status["data"][0]["task"].as_str().unwrap(), "--json"],
    );
    for title in ["Mend README.md", "Read README.md"] {
        sandbox.ok(&["task", "add", title]);
    }
    seen.run(&sandbox, &["plan", "--json"]);
    seen.run(&sandbox, &["show", task["data"]["id"].as_str().unwrap(), "--json"]);
    seen.run(&sandbox, &["log", task["data"]["id"].as_str().unwrap(), "--json"]);
    seen.run(&sandbox, &["overlap", "--json"]);
    seen.run(&sandbox, &["apply", names[0], "--dry-run", "--json"]);
    seen.run(&sandbox, &["merge", "--dry-run", "--json"]);
    sandbox.git(&["config", "--global", "orchestra.gate.check.run", "true"]);
    let waiting = seen.run(&sandbox, &["merge", "--json"]);
    let decision = waiting["data"]["decision"]["id"].as_str().unwrap().to_owned();
    seen.run(&sandbox, &["check", "--severity", "critical", "--json"]);
    seen.run(&sandbox, &["decide", "--json"]);
    seen.run(&sandbox, &["show", &decision, "--json"]);
    seen.run(&sandbox, &["decide", &decision, "theirs", "--json"]);
    let merged = seen.run(&sandbox, &["merge", "--continue", "--json"]);
    assert_eq!(merged["data"]["merge"]["gates"][0]["outcome"], "passed", "{merged:#}");
    seen.run(&sandbox, &["show", merged["data"]["merge"]["id"].as_str().unwrap(), "--json"]);
    seen.run(&sandbox, &["verify", "--json"]);
    seen.run(&sandbox, &["merge", "--json"]);
    seen.run(&sandbox, &["config", "list", "--json"]);
    seen.run(&sandbox, &["profile", "list", "--json"]);
    seen.run(&sandbox, &["profile", "show", "worker", "--json"]);
    seen.run(&sandbox, &["wait", names[0], "--json"]);
    seen.run(&sandbox, &["stop", names[0], "--json"]);
    sandbox.git(&["worktree", "add", "--quiet", "-b", "other", "../other"]);
    let broken = sandbox.git_dir().join("worktrees/other/commondir");
    std::fs::write(&broken, "").unwrap();
    let recovered = seen.run(&sandbox, &["recover", "--json"]);
    assert_eq!(recovered["data"][0]["fault"], "half-made-worktree");
    std::fs::write(&broken, "").unwrap();
    let doctor = seen.run(&sandbox, &["doctor", "--fix", "--json"]);
    assert_eq!(doctor["data"]["fixed"][0]["fault"], "half-made-worktree");
    seen.run(&sandbox, &["prune", "--json"]);
    seen.run(&sandbox, &["gc", "--json"]);
    seen.run(&sandbox, &["remove", names[0], "--json"]);
    let log = seen.run(&sandbox, &["oplog", "-n", "50", "--json"]);
    for operation in log["data"].as_array().unwrap() {
        seen.run(&sandbox, &["oplog", operation["id"].as_str().unwrap(), "--json"]);
    }
    seen.run(&sandbox, &["undo", "--dry-run", "--json"]);
    seen.run(&sandbox, &["gc", "--dry-run", "--json"]);
    seen.run(&sandbox, &["gc", "--cut-epoch", "--dry-run", "--json"]);
    seen.run(&sandbox, &["undo", "--yes", "--json"]);
    seen.run(&sandbox, &["undo", "--yes", "--json"]);
    seen.run(&sandbox, &["gc", "--cut-epoch", "--yes", "--json"]);
    let remote = sandbox.root().join("remote.git");
    sandbox.git(&["init", "--quiet", "--bare", remote.to_str().unwrap()]);
    sandbox.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    seen.run(&sandbox, &["init", "--remote", "--json"]);
    seen.run(&sandbox, &["sync", "--json"]);
    seen.run(&sandbox, &["fetch", "--json"]);
    sandbox.ok(&["task", "add", "Claim this"]);
    seen.run(&sandbox, &["task", "claim", "--next", "--json"]);
    seen.run(&sandbox, &["status", "--all", "--json"]);
    seen.run(&sandbox, &["status", "--machines", "--json"]);
    seen.run(
        &sandbox,
        &["spawn", "-m", "More", "--name", "more", "--profile", "worker", "--detach", "--json"],
    );
    sandbox.orchestra(&["wait", "more"]);
    let file = sandbox.home().join(".config/git-orchestra/config.toml");
    let settings = std::fs::read_to_string(&file).unwrap();
    let notify = "[notify]\ncommand = ['sh', '-c', 'cat >\"$HOME/read\"']\n";
    std::fs::write(&file, format!("{notify}{settings}")).unwrap();
    sandbox.ok(&["spawn", "-m", "Last", "--name", "last", "--profile", "worker"]);
    seen.document(&sandbox, &std::fs::read_to_string(sandbox.home().join("read")).unwrap());
    let task = sandbox.ok(&["task", "add", "All the way"]);
    sandbox.orchestra(&["run", task.trim(), "--profile", "worker", "--yes"]);
    let pipelines = sandbox.git(&["ls-tree", "-r", "--name-only", "refs/orchestra/state", "pipelines/"]);
    let id = pipelines.rsplit('/').next().unwrap().strip_suffix(".json").unwrap();
    seen.run(&sandbox, &["show", id, "--json"]);
    let all: BTreeSet<String> = sandbox
        .ok(&["schema"])
        .lines()
        .skip(1)
        .map(|line| line.split(' ').next().unwrap().to_owned())
        .collect();
    assert_eq!(seen.0, all, "every kind was seen");
}

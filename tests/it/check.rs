//! `check` and `hook` as git and a build server call them.

use crate::harness::Sandbox;
use crate::harness::sandbox::ORCHESTRA;
use crate::merge::{clashing, fleet, open_decision};
use git_orchestra::git::Repository;
use git_orchestra::model::Timestamp;
use git_orchestra::orchestrate::lease::{Lease, LeaseInfo, LeaseState};
use git_orchestra::process::Identity;
use std::path::Path;
use std::sync::Arc;

/// Puts the program where git finds it.
fn installed(mut sandbox: Sandbox) -> Sandbox {
    let dir = Path::new(ORCHESTRA).parent().unwrap().to_str().unwrap();
    sandbox.set_env("PATH", format!("{dir}:/usr/local/bin:/usr/bin:/bin"));
    sandbox
}

/// As if the agent ran, for as long as the lease is held.
fn running(sandbox: &Sandbox, name: &str) -> Lease {
    let env = sandbox.command("git").get_envs().map(|(k, v)| (k.to_owned(), v.unwrap().to_owned())).collect();
    let repo = Repository::discover(sandbox.repo(), Arc::new(env)).unwrap();
    let status = sandbox.json(&["show", name]);
    let info = LeaseInfo {
        agent: status["data"]["id"].as_str().unwrap().parse().unwrap(),
        name: name.parse().unwrap(),
        run: 1,
        state: LeaseState::Running,
        supervisor: Identity::own(),
        child: None,
        since: Timestamp(0),
        control: None,
        questions: Vec::new(),
        answered: None,
    };
    Lease::take(&repo, info).unwrap().expect("nobody holds it")
}

#[test]
fn a_check_fails_for_what_must_not_be_passed_over() {
    let sandbox = clashing();
    assert_eq!(sandbox.orchestra(&["check"]).code, 0);
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    let decision = open_decision(&sandbox);
    let waits = sandbox.orchestra(&["check", "--ci"]);
    assert_eq!(waits.code, 3, "{waits}");
    let said = format!(
        "::warning file=src/f::decision {decision} waits: grey-fox conflicts with blue-heron in src/f\n"
    );
    assert_eq!(waits.stdout, said);
    sandbox.ok(&["finding", "add", "50% of: this, fails", "--severity", "high", "--path", "src/f:3"]);
    sandbox.ok(&["finding", "add", "not grave", "--severity", "low"]);
    let grave = sandbox.orchestra(&["check", "--ci", "--sarif", "report.sarif"]);
    assert_eq!(grave.code, 1, "{grave}");
    assert!(grave.stdout.contains("::error file=src/f,line=3::high finding "), "{grave}");
    assert!(
        grave.stdout.contains(": 50%25 of: this, fails\n") && !grave.stdout.contains("not grave"),
        "{grave}"
    );
    let report: serde_json::Value = serde_json::from_str(&sandbox.read("report.sarif")).unwrap();
    let results = report["runs"][0]["results"].as_array().unwrap();
    assert_eq!(results.len(), 2, "{report:#}");
    let place = &results[1]["locations"][0]["physicalLocation"];
    assert_eq!(
        (&place["artifactLocation"]["uri"], &place["region"]["startLine"]),
        (&"src/f".into(), &3.into())
    );
    let json = sandbox.orchestra(&["check", "--severity", "low", "--json"]);
    assert_eq!(json.code, 1, "{json}");
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let rules: Vec<_> =
        json["data"].as_array().unwrap().iter().map(|problem| problem["rule"].as_str().unwrap()).collect();
    assert_eq!(rules, ["decision", "finding", "finding"]);
}

#[test]
fn a_push_is_stopped_by_a_critical_finding_and_told_of_a_grave_one() {
    let sandbox = installed(fleet(&[]));
    let add = |words: &str, severity: &str| -> String {
        sandbox.ok(&["finding", "add", words, "--severity", severity]).trim().to_owned()
    };
    add("not grave", "medium");
    add("half of it fails", "high");
    let push = ["hook", "pre-push", "origin", "url"];
    let told = sandbox.orchestra(&push);
    assert!(told.code == 0 && told.stderr.contains("half of it fails"), "{told}");
    assert!(!told.stderr.contains("not grave"), "{told}");
    assert_eq!(sandbox.orchestra(&[&push[..], &["--strict"]].concat()).code, 1);

    let critical = add("it loses data", "critical");
    let stopped = sandbox.orchestra(&push);
    assert!(stopped.code == 1 && stopped.stderr.contains(": it loses data"), "{stopped}");
    assert!(stopped.stderr.contains("`git orchestra finding resolve ID` closes a finding"), "{stopped}");
    sandbox.ok(&["finding", "resolve", &critical]);
    assert_eq!(sandbox.orchestra(&push).code, 0);
}

#[test]
fn a_push_is_stopped_by_a_line_that_was_dropped() {
    let sandbox = installed(fleet(&[("blue-heron", &[("src/f", "1\nblue\n3\n4\n5\n6\n7\n8\n9\n10\n")])]));
    sandbox.ok(&["merge"]);
    assert_eq!(sandbox.orchestra(&["hook", "pre-push", "origin", "url"]).code, 0);
    // A record that says another commit landed: its tree lacks a line, and that is found from the trees.
    sandbox.git(&["update-ref", "refs/heads/spoiled", "main"]);
    let spoiled =
        sandbox.plumb_commit("refs/heads/spoiled", "spoiled", &[("src/f", "1\n3\n4\n5\n6\n7\n8\n9\n10\n")]);
    let tree = sandbox.git(&["rev-parse", &format!("{spoiled}^{{tree}}")]);
    let merge = sandbox.json(&["verify"])["data"][0]["merge"].as_str().unwrap().to_owned();
    let (before, tip) = (sandbox.git(&["rev-parse", "main^1"]), sandbox.git(&["rev-parse", "main^2"]));
    let commit = sandbox.git(&["commit-tree", &tree, "-p", &before, "-p", &tip, "-m", "spoiled"]);
    let path = format!("merges/{}/{}/{merge}.json", &merge[..1], &merge[1..2]);
    let record = sandbox.git(&["show", &format!("refs/orchestra/state:{path}")]);
    let head = sandbox.git(&["rev-parse", "main"]);
    sandbox.plumb_commit(
        "refs/orchestra/state",
        "by hand",
        &[(&path, &format!("{}\n", record.replace(&head, &commit)))],
    );
    let stopped = sandbox.orchestra(&["hook", "pre-push", "origin", "url"]);
    assert!(stopped.code == 1 && stopped.stderr.contains("into main dropped"), "{stopped}");
    let check = sandbox.orchestra(&["check"]);
    assert!(check.code == 1 && check.stdout.starts_with("src/f:2: merge "), "{check}");
    assert_eq!(sandbox.orchestra(&["verify"]).code, 1);
}

#[test]
fn a_commit_is_warned_of_what_an_agent_at_work_is_changing() {
    let sandbox = installed(clashing());
    let hooks = sandbox.ok(&["hook", "install", "--pre-commit"]);
    assert!(hooks.ends_with("hooks/pre-commit"), "{hooks}");
    let commit = |path: &str| {
        sandbox.write(path, "mine\n");
        sandbox.try_git_in(sandbox.repo(), &["commit", "--quiet", "-m", "mine", "-a"], b"")
    };
    let quiet = commit("src/f");
    assert_eq!((quiet.code, quiet.stderr.as_str()), (0, ""), "nobody is at work: {quiet}");
    let lease = running(&sandbox, "blue-heron");
    let warned = commit("src/g");
    assert_eq!((warned.code, warned.stderr.as_str()), (0, ""), "it changes another file: {warned}");
    sandbox.write("src/f", "again\n");
    let warned = sandbox.try_git_in(sandbox.repo(), &["commit", "--quiet", "-m", "mine", "-a"], b"");
    assert!(warned.code == 0 && warned.stderr.contains("src/f: blue-heron has changed it too"), "{warned}");
    sandbox.write("src/f", "and again\n");
    sandbox.git(&["add", "src/f"]);
    let strict = sandbox.orchestra(&["hook", "pre-commit", "--strict"]);
    assert_eq!(strict.code, 1, "{strict}");
    let refused = sandbox.orchestra(&["hook", "install"]);
    assert!(refused.code == 1 && refused.stderr.contains("agents run now"), "{refused}");
    drop(lease);
    let over = sandbox.orchestra(&["hook", "pre-commit", "--strict"]);
    assert_eq!(over.code, 0, "{over}");
}

#[test]
fn hooks_of_the_user_stay_and_ours_go() {
    let sandbox = installed(clashing());
    let hooks = sandbox.git_dir().join("hooks");
    std::fs::create_dir_all(&hooks).unwrap();
    let own = hooks.join("pre-push");
    std::fs::write(&own, "#!/bin/sh\nexit 0\n").unwrap();
    let refused = sandbox.orchestra(&["hook", "install"]);
    assert_eq!(refused.code, 1, "{refused}");
    assert!(
        refused.stderr.contains("add this line to it: `git orchestra hook pre-push || exit`"),
        "{refused}"
    );
    assert!(!hooks.join("pre-commit").exists(), "all or none");
    std::fs::remove_file(&own).unwrap();
    sandbox.ok(&["hook", "install", "--strict"]);
    sandbox.ok(&["hook", "install"]);
    let script = std::fs::read_to_string(&own).unwrap();
    assert!(!script.contains("--strict"), "installed again as it is wanted now: {script}");
    std::fs::write(hooks.join("pre-commit"), "#!/bin/sh\nmine now\n").unwrap();
    let gone = sandbox.orchestra(&["hook", "uninstall"]);
    assert!(gone.code == 0 && gone.stderr.contains("it stays"), "{gone}");
    assert!(!own.exists() && hooks.join("pre-commit").exists());
    sandbox.git(&["config", "core.hooksPath", "own hooks"]);
    sandbox.ok(&["hook", "install"]);
    assert!(sandbox.repo().join("own hooks/pre-push").exists(), "where git looks for them");
    assert!(!own.exists());
}

#[test]
fn the_sample_workflow_runs_as_written() {
    let sandbox = installed(clashing());
    let remote = sandbox.root().join("remote.git");
    sandbox.git(&["init", "--quiet", "--bare", remote.to_str().unwrap()]);
    sandbox.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    sandbox.git(&["push", "--quiet", "origin", "main"]);
    sandbox.ok(&["finding", "add", "grave", "--severity", "critical", "--path", "src/f:1"]);
    sandbox.ok(&["sync", "origin"]);
    let clone = sandbox.root().join("clone");
    sandbox.git(&["clone", "--quiet", "--branch", "main", remote.to_str().unwrap(), clone.to_str().unwrap()]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/orchestra-ci.yml");
    let workflow = std::fs::read_to_string(file).unwrap();
    let steps: Vec<&str> = workflow.lines().filter_map(|line| line.trim().strip_prefix("- run: ")).collect();
    assert_eq!(steps.len(), 2);
    let mut codes = Vec::new();
    for step in steps {
        let mut shell = sandbox.command("sh");
        let out = shell.args(["-c", step]).current_dir(&clone).output().unwrap();
        codes.push(out.status.code().unwrap());
        if codes.len() == 2 {
            let said = String::from_utf8(out.stdout).unwrap();
            assert!(said.starts_with("::error file=src/f,line=1::critical finding"), "{said}");
        }
    }
    assert_eq!(codes, [0, 1]);
    assert!(clone.join("orchestra.sarif").exists());
}

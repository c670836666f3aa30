//! Findings.

use insta::assert_snapshot;

use super::Stage;

#[test]
fn findings_are_records_and_notes() {
    let mut stage = Stage::new();
    stage.sandbox.write("src/date.rs", "fn date() {}\n");
    stage.sandbox.commit("dates");
    let grave = stage.add(
        "<g>",
        &["finding", "add", "Leap seconds\nare ignored", "--severity", "high", "--path", "src/date.rs:40"],
    );
    stage.add("<s>", &["finding", "add", "Name is odd", "--commit", "HEAD~1"]);
    assert_snapshot!(stage.run(&["finding", "list"]), @r#"
    $ git orchestra finding list
    ID    SEVERITY  WHERE           MESSAGE       BY           AGE
    <g>   high      src/date.rs:40  Leap seconds  Ada Example <age>
    <s>   info                      Name is odd   Ada Example <age>
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["finding", "list", "--severity", "high", "--path", "src", "--porcelain"]), @r#"
    $ git orchestra finding list --severity high --path src --porcelain
    <g>	open	high	src/date.rs:40	<commit>	Ada Example <ada@example.org>	Leap seconds<U+000A>are ignored
    --- exit 0
    "#);
    assert_snapshot!(stage.run(&["finding", "show", &grave]), @r#"
    $ git orchestra finding show <g>
    finding <g>
    severity:   high
    state:      open
    where:      src/date.rs:40
    commit:     <commit>
    by:         Ada Example <ada@example.org>
    noticed:    <time> (<age> ago)

        Leap seconds
        are ignored
    --- exit 0
    "#);
    stage.sandbox.ok(&["finding", "resolve", &grave, "-m", "they are not"]);
    assert_snapshot!(stage.run(&["finding", "list", "--all"]), @r#"
    $ git orchestra finding list --all
    ID    SEVERITY  WHERE           MESSAGE       BY           AGE
    <s>   info                      Name is odd   Ada Example <age>
    <g>   resolved  src/date.rs:40  Leap seconds  Ada Example <age>
    --- exit 0
    "#);
    let log = stage.sandbox.git(&["log", "--notes=orchestra/*", "--format=%s%n%N"]);
    assert_snapshot!(stage.filter(&log), @r#"
    dates
    finding <g> high src/date.rs:40: Leap seconds are ignored (Ada Example <ada@example.org>)
    finding <g> resolved: they are not

    first commit
    finding <s> info: Name is odd (Ada Example <ada@example.org>)
    "#);
    stage.sandbox.assert_sound();
}

#[test]
fn paths_are_those_of_the_repository() {
    let stage = Stage::new();
    stage.sandbox.write("src/deep/x.rs", "");
    let deep = stage.sandbox.repo().join("src/deep");
    let id = stage.sandbox.orchestra_in(&deep, &["finding", "add", "here", "--path", "../deep/x.rs:3"]);
    let shown = stage.sandbox.json(&["show", id.stdout.trim()]);
    assert_eq!(shown["data"]["anchor"], serde_json::json!({"path": "src/deep/x.rs", "line": 3}));
    assert_snapshot!(stage.run(&["finding", "add", "x", "--path", "/etc/passwd"]), @r#"
    $ git orchestra finding add x --path /etc/passwd
    --- stderr
    error: `/etc/passwd` is not a path inside the repository
    --- exit 2
    "#);
    assert_snapshot!(stage.run(&["finding", "add", "x", "--path", ".git/config"]), @r#"
    $ git orchestra finding add x --path .git/config
    --- stderr
    error: `.git/config` is not a path inside the repository
    --- exit 2
    "#);
}

#[test]
fn a_repository_without_commits_has_findings_too() {
    let mut stage = Stage::new();
    stage.sandbox =
        crate::harness::Sandbox::with(crate::harness::Layout { unborn: true, ..Default::default() });
    let id = stage.sandbox.ok(&["finding", "add", "nothing here yet"]);
    let listed = stage.sandbox.json(&["finding", "list"]);
    assert_eq!(
        listed["data"][0]["id"],
        id.as_str(),
        "a script gets all of it: a short one may mean two some day"
    );
    assert_eq!(listed["data"][0]["short"], id[..4]);
}

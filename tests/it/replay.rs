//! `replay`: a script as an agent's program.

use crate::harness::sandbox::{Sandbox, wait_for};
use std::process::Stdio;

#[test]
fn a_script_works_in_the_current_directory_and_says_how_it_ends() {
    let sandbox = Sandbox::new();
    sandbox.write(
        "../script.jsonl",
        r#"
{"type":"turn","number":1}
{"type":"tool_call","tool":"write","args":{"path":"src/a.txt","content":"one\n"}}
{"type":"tool_call","tool":"bash","args":{"command":"git add src && git commit -qm 'add a' && git orchestra finding list"}}
{"type":"finding","message":"a is short","severity":"low","path":"src/a.txt:1"}
{"type":"exit","code":7}
"#,
    );
    let out = sandbox.orchestra(&["replay", "../script.jsonl"]);
    assert_eq!((out.code, out.stderr.as_str()), (7, ""), "{out}");
    assert!(out.stdout.lines().count() == 7 && !out.stdout.contains("\"ok\":false"), "{out}");
    assert_eq!(sandbox.git(&["log", "-1", "--format=%s"]), "add a");
    assert!(sandbox.ok(&["finding", "list"]).contains("a is short"));
    let out = sandbox.orchestra(&["replay", "nowhere.jsonl"]);
    assert_eq!(out.code, 1, "{out}");
    assert!(out.stderr.starts_with("error: failed to read the script"), "{out}");
}

#[test]
fn a_signal_ends_it_as_it_ends_any_program() {
    use std::os::unix::process::ExitStatusExt as _;
    let sandbox = Sandbox::new();
    sandbox.write(
        "../slow.jsonl",
        "{\"type\":\"tool_call\",\"tool\":\"write\",\"args\":{\"path\":\"started\",\"content\":\"x\"}}\n{\"type\":\"wait\",\"ms\":600000}\n",
    );
    let mut command = sandbox.command(crate::harness::sandbox::ORCHESTRA);
    let mut child = command.args(["replay", "../slow.jsonl"]).stdout(Stdio::null()).spawn().unwrap();
    wait_for("the script to begin", || sandbox.repo().join("started").exists().then_some(()));
    crate::harness::sandbox::kill(child.id(), nix::sys::signal::Signal::SIGTERM);
    assert_eq!(child.wait().unwrap().signal(), Some(15));
}

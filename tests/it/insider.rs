//! Agents that hide what they are: with an environment that says nothing of it, in a session of their own, by the socket
//! itself. They stop nobody and approve nothing, and what agents may do they may do that way too.

use std::fs;

use git_orchestra::model::Sandbox as Level;
use serde_json::json;

use crate::confined::levels;
use crate::harness::Sandbox;
use crate::harness::sandbox::write_in;

/// A sandbox with an agent `victim` at work, and a profile `culprit` that runs a script. In it `ROOT` is a directory of the
/// test's, and `hidden` a command that clears the environment.
fn sandbox(script: &str, more: &str) -> Sandbox {
    let sandbox = Sandbox::new();
    let root = sandbox.root();
    let hidden = "hidden() { env -i HOME=\"$HOME\" PATH=\"$PATH\" \"$@\"; }";
    let script = format!("{hidden}; {script}").replace("ROOT", root.to_str().unwrap());
    let words = json!(["/bin/sh", "-c", script]);
    let text = format!(
        "grace = \"1s\"\n[profile.still]\nprogram = \"command\"\ncommand = [\"sleep\", \"600\"]\n\
         [profile.culprit]\nprogram = \"command\"\ncommand = {words}\n{more}"
    );
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &text);
    sandbox.ok(&["spawn", "--detach", "-m", "Be still", "--name", "victim", "--profile", "still"]);
    sandbox
}

/// The victim is at work still, and a person can stop it.
fn assert_unhurt(sandbox: &Sandbox) {
    let rows = sandbox.json(&["status"]);
    let victim = rows["data"].as_array().unwrap().iter().find(|row| row["name"] == "victim").unwrap();
    assert_eq!(victim["state"], "running", "{rows}");
    let stopped = sandbox.orchestra(&["stop", "victim", "--wait"]);
    assert_eq!((stopped.code, stopped.stdout.as_str()), (0, "victim  stopped\n"), "{stopped}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_cleared_environment_makes_nobody_a_person() {
    let sandbox = sandbox(
        "hidden git orchestra stop victim 2>ROOT/stop; \
         hidden setsid git orchestra stop --all 2>ROOT/all; \
         (hidden setsid sh -c 'git orchestra send victim hello 2>ROOT/send; : >ROOT/sent' &); \
         while [ ! -e ROOT/sent ]; do sleep 0.05; done; \
         git config filter.x.clean cat; hidden git orchestra config approve --hash x 2>ROOT/approve; \
         git config --remove-section filter.x; \
         hidden git orchestra decide x allow 2>ROOT/decide; \
         hidden git orchestra status >ROOT/status 2>&1 && hidden git orchestra finding add Noticed && \
         hidden git orchestra task add More && : >ROOT/may",
        "",
    );
    let spawned = sandbox.orchestra(&["spawn", "-m", "Hide", "--name", "culprit", "--profile", "culprit"]);
    let said = |name: &str| fs::read_to_string(sandbox.root().join(name)).unwrap_or_default();
    for (name, what) in [
        ("stop", "agents do not stop, steer or answer agents"),
        ("all", "agents do not stop, steer or answer agents"),
        ("send", "agents do not stop, steer or answer agents"),
        ("approve", "agents neither merge nor decide nor approve"),
        ("decide", "agents neither merge nor decide nor approve"),
    ] {
        assert!(said(name).contains(what), "{name}: {} {spawned}", said(name));
    }
    assert!(sandbox.root().join("may").exists(), "{} {spawned}", said("status"));
    assert_unhurt(&sandbox);
}

/// Asks each socket there is to stop the victim, as whoever has read the source may.
const KNOCK: &str = r#"cd $(git rev-parse --git-common-dir)/orchestra/control;
    victim=$(basename $(grep -l '"name":"victim"' ../leases/*.json) .json);
    for socket in *; do env -i PATH="$PATH" perl -MSocket -e '
        # Who is refused at once is answered and hung up on before it has asked.
        $SIG{PIPE} = "IGNORE";
        socket(my $s, PF_UNIX, SOCK_STREAM, 0) or die; connect($s, sockaddr_un($ARGV[0])) or die "no way: $!\n";
        syswrite $s, "{\"v\":1,\"ask\":\"stop\",\"agent\":\"$ARGV[1]\",\"now\":true}\n";
        print "answer: ", scalar(<$s>)' "$socket" "$victim"; done"#;

#[cfg(target_os = "linux")]
#[test]
fn nobody_is_stopped_by_way_of_the_socket() {
    for level in [Level::None, Level::Landlock] {
        if level != Level::None && !levels().contains(&level) {
            continue;
        }
        let sandbox = sandbox(KNOCK, "");
        let knocks =
            ["spawn", "-m", "Knock", "--name", "culprit", "--profile", "culprit", "--sandbox", level.word()];
        let spawned = sandbox.orchestra(&knocks);
        let log = sandbox.ok(&["log", "culprit"]);
        let refused = r#"answer: {"answer":"refused","why":"agent"}"#;
        assert!(log.contains(refused) && !log.contains("done\"}"), "{level:?}: {log} {spawned}");
        assert_unhurt(&sandbox);
    }
}

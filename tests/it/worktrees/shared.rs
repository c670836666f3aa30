//! What agents share and what each has for itself: ports, build directories, names; many of them at once.

use std::collections::BTreeSet;
use std::fs;
use std::process::Stdio;

use super::{agents, assert_no_trace, hook, path, sandbox};
use crate::harness::sandbox::{ORCHESTRA, wait_for, write_in};

const PORTS: &str = "echo $GIT_ORCHESTRA_PORT $GIT_ORCHESTRA_PORTS";

#[test]
fn an_agent_has_the_same_ports_in_setup_and_in_every_run() {
    let sandbox = sandbox(PORTS, &(hook("setup", &format!("{PORTS} >ports")) + "worktree.ports = 4\n"));
    sandbox.write(".gitignore", "ports\n");
    sandbox.commit("ignore");
    let out = sandbox.orchestra(&["spawn", "-m", "Work"]);
    let made = fs::read_to_string(path(&sandbox, "work").join("ports")).unwrap();
    let port: u16 = made.split(' ').next().unwrap().parse().unwrap();
    assert!((20_000..30_000).contains(&port) && made.ends_with(" 4\n"), "{made}");
    assert!(out.stdout.contains(&format!("work  {port} 4\n")), "{out}");
    assert!(sandbox.ok(&["resume", "work"]).contains(&format!("work  {port} 4\n")));
    // Whoever listens there is not asked to go.
    let server = std::net::TcpListener::bind(("127.0.0.1", port + 1)).unwrap();
    let out = sandbox.ok(&["resume", "work"]);
    assert!(out.contains(&format!("somebody has those from {port} on")), "{out}");
    assert!(!out.contains(&format!("work  {port} 4\n")), "{out}");
    drop(server);
    // It keeps those that it was told of last.
    assert!(!sandbox.ok(&["resume", "work"]).contains("its ports are"));
}

#[test]
fn builds_are_shared_where_the_user_wants_that() {
    let script = "echo in ${CARGO_TARGET_DIR-its own}; mkdir -p ${CARGO_TARGET_DIR-target}/debug";
    let mut sandbox = sandbox(script, "");
    sandbox.write("Cargo.toml", "[package]\n");
    sandbox.write(".gitignore", "target/\n");
    sandbox.commit("a crate");
    assert!(sandbox.ok(&["spawn", "-m", "Own"]).contains("in its own"));
    sandbox.set_env("COLUMNS", "200");
    let config = sandbox.home().join(".config/git-orchestra/config.toml");
    let text = format!("worktree.builds = 'shared'\n{}", fs::read_to_string(&config).unwrap());
    fs::write(&config, text).unwrap();
    let shared = sandbox.root().join("repo.orchestra/.shared/cargo");
    for name in ["one", "two"] {
        let out = sandbox.ok(&["spawn", "-m", "Work", "--name", name]);
        assert!(out.contains(&format!("in {}", shared.display())), "{out}");
        assert!(!path(&sandbox, name).join("target").exists());
    }
    write_in(&shared, "debug/one", "built");
    let planned = sandbox.ok(&["prune"]);
    assert!(planned.contains("repo.orchestra/.shared/cargo"), "{planned}");
    assert!(shared.exists(), "it was only said");
    sandbox.ok(&["prune", "--yes"]);
    assert!(!shared.exists());
}

/// `ORCHESTRA_SPAWNS=64` is the long form.
#[test]
fn agents_that_are_spawned_at_once_are_all_there_and_nothing_else_is() {
    let count: usize = std::env::var("ORCHESTRA_SPAWNS").ok().and_then(|n| n.parse().ok()).unwrap_or(8);
    let script = "echo $GIT_ORCHESTRA_PORT >port; echo x >>../../begun; \
                  until test -e ../../go; do sleep 0.2; done";
    let sandbox = sandbox(script, &hook("setup", "echo ready >made"));
    sandbox.write(".gitignore", "made\n.env\n");
    sandbox.commit("ignore");
    sandbox.write(".worktreeinclude", ".env\n");
    sandbox.write(".env", "x\n");
    let start = |number: usize| {
        let mut command = sandbox.command(ORCHESTRA);
        // The same words: they all want the same name.
        command.args(["spawn", "-m", "Do the work"]);
        if number % 4 == 3 {
            command.arg("--detach");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let children: Vec<_> = (0..count).map(start).collect();
    let begun = || fs::read_to_string(sandbox.root().join("begun")).unwrap_or_default().lines().count();
    // More agents without a terminal than may run at once wait for their turn: those of four.
    let detached = (0..count).filter(|number| number % 4 == 3).count();
    let at_once = count - detached + detached.min(4);
    let limit = std::time::Instant::now() + std::time::Duration::from_secs(20 + 6 * count as u64);
    while begun() < at_once && std::time::Instant::now() < limit {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(begun(), at_once, "{:?}", agents(&sandbox));
    fs::write(sandbox.root().join("go"), "").unwrap();
    for child in children {
        let out = child.wait_with_output().unwrap();
        let words = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{words}\n{}", String::from_utf8_lossy(&out.stdout));
    }
    wait_for("those in the background", || {
        agents(&sandbox).iter().all(|(_, state)| state == "done").then_some(())
    });
    let names: BTreeSet<String> = agents(&sandbox).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), count);
    let branches = sandbox.git(&["for-each-ref", "--format=%(refname:lstrip=3)", "refs/heads/orchestra/"]);
    assert_eq!(branches.lines().map(str::to_owned).collect::<BTreeSet<_>>(), names);
    assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), count + 1);
    let mut ports = BTreeSet::new();
    for name in &names {
        for file in [".env", "made"] {
            assert!(path(&sandbox, name).join(file).exists(), "{file} of {name}");
        }
        ports.insert(sandbox.git(&["show", &format!("orchestra/{name}:port")]));
    }
    assert!(ports.len() >= at_once, "no two that run have the same ports: {ports:?}");
    for name in &names {
        sandbox.ok(&["remove", name]);
    }
    assert_no_trace(&sandbox);
}

#[test]
fn words_of_a_full_disk_stop_nobody_whose_disk_has_room() {
    let script = "echo work >file; for at in 1 2 3; do echo 'test enospc ... ENOSPC: no space left' >&2; done; echo more";
    let sandbox = sandbox(script, "");
    let out = sandbox.orchestra(&["spawn", "-m", "Work"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(out.stdout.matches("are free, so it goes on").count(), 1, "{out}");
    assert_eq!(agents(&sandbox), [("work".to_owned(), "done".to_owned())]);
    assert_eq!(sandbox.git(&["show", "orchestra/work:file"]), "work");
}

#[test]
fn two_errors_of_a_full_quota_stop_an_agent_and_it_can_be_resumed() {
    let script = "echo work >file; echo 'cp: writing x: Disk quota exceeded' >&2; test -e go && exit 0; \
                  echo again; echo 'tar: y: Disk quota exceeded' >&2; exec sleep 600";
    let sandbox = sandbox(script, "");
    let out = sandbox.orchestra(&["spawn", "-m", "Work"]);
    assert_eq!(out.code, 4, "{out}");
    assert!(out.stdout.contains("told 2 times that a disk quota is used up; it is stopped"), "{out}");
    assert!(out.stdout.contains("git orchestra resume work"), "{out}");
    assert_eq!(agents(&sandbox), [("work".to_owned(), "stopped".to_owned())]);
    assert_eq!(sandbox.git(&["show", "orchestra/work:file"]), "work", "what it had is kept");
    fs::write(path(&sandbox, "work").join("go"), "").unwrap();
    assert_eq!(sandbox.orchestra(&["resume", "work"]).code, 0, "one is no reason");
}

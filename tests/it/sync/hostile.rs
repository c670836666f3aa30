//! What whoever can write to the remote may try: it finishes or refuses, runs nothing, and keeps nothing good out.
//!
//! The floods are small here; `ORCHESTRA_FLOOD=MIB` makes the large one that large.

use std::fmt::Write as _;

use super::*;
use crate::harness::sandbox;
use crate::harness::servers;

/// What every process of a sync may have of memory of its own, in KiB.
const MEMORY: u32 = 200 << 10;

/// Runs the program with little memory and a deadline, and returns what it answered.
fn within_limits(machine: &Sandbox, args: &[&str]) -> crate::harness::Output {
    machine.git(&["config", "orchestra.remoteTimeout", "30s"]);
    let mut shell = machine.command("sh");
    shell.args(["-c", &format!("ulimit -d {MEMORY}; exec \"$@\""), "sh", sandbox::ORCHESTRA]).args(args);
    sandbox::run(shell, b"")
}

fn input(remote: &Sandbox, args: &[&str], bytes: &[u8]) -> String {
    let out = remote.try_git_in(remote.repo(), args, bytes);
    assert_eq!(out.code, 0, "{args:?}\n{out}");
    out.stdout.trim().to_owned()
}

/// Adds entries of `mktree` to a directory of the remote's state, on top of what is there.
fn plant(stage: &Stage, directory: &str, entries: &[String]) -> String {
    let remote = &stage.remote;
    let tip = stage.tip(STATE);
    let there = remote.try_git_in(remote.repo(), &["ls-tree", "-z", &format!("{tip}:{directory}")], b"");
    let all = there.stdout + &entries.join("\0") + "\0";
    let tree = input(remote, &["mktree", "-z"], all.as_bytes());
    let root = remote.git(&["ls-tree", "-z", &tip]);
    let kept = root.split('\0').filter(|line| !line.is_empty() && !line.ends_with(&format!("\t{directory}")));
    let all = kept.map(str::to_owned).chain([format!("040000 tree {tree}\t{directory}")]);
    let root = input(remote, &["mktree", "-z"], all.collect::<Vec<_>>().join("\0").as_bytes());
    publish(stage, &root)
}

/// `tree` with another blob at `path`.
fn replaced(stage: &Stage, tree: &str, path: &str, blob: &str) -> String {
    let index = stage.remote.root().join("replaced-index");
    let git = |args: &[&str]| {
        let mut command = stage.remote.command("git");
        command.env("GIT_INDEX_FILE", &index).args(args);
        let out = sandbox::run(command, b"");
        assert_eq!(out.code, 0, "{args:?}\n{out}");
        out.stdout.trim().to_owned()
    };
    git(&["read-tree", tree]);
    git(&["update-index", "--add", "--cacheinfo", &format!("100644,{blob},{path}")]);
    git(&["write-tree"])
}

/// A commit of `tree` on top of the remote's state.
fn publish(stage: &Stage, tree: &str) -> String {
    let commit = stage.remote.git(&["commit-tree", "-p", STATE, "-m", "evil", tree]);
    stage.remote.git(&["update-ref", STATE, &commit]);
    commit
}

fn blob(stage: &Stage, bytes: &[u8]) -> String {
    input(&stage.remote, &["hash-object", "-w", "--stdin"], bytes)
}

/// Two machines that have met, Bob's notes and task being new to Ada. Between them and the remote is a server, whose
/// processes have no part in our limits.
fn stage() -> (Stage, Sandbox, Sandbox, servers::Server) {
    let stage = Stage::new();
    let server = servers::git_daemon(&stage.remote);
    let (ada, bob) = (machine(&server.url), machine(&server.url));
    ada.ok(&["task", "add", "From Ada"]);
    ada.ok(&["sync"]);
    let head = bob.git(&["rev-parse", "HEAD"]);
    bob.ok(&["finding", "add", "--commit", &head, "a good note"]);
    bob.ok(&["task", "add", "From Bob"]);
    bob.ok(&["sync"]);
    (stage, ada, bob, server)
}

fn note(machine: &Sandbox) -> String {
    let head = machine.git(&["rev-parse", "HEAD"]);
    machine.try_git_in(machine.repo(), &["notes", "--ref=orchestra/findings", "show", &head], b"").stdout
}

/// Nothing that a terminal would obey or that would read backwards.
fn assert_calm(out: &crate::harness::Output) {
    let bad = |c: char| (c.is_control() && c != '\n') || (('\u{200b}'..='\u{202e}').contains(&c) && c != '…');
    assert!(!out.stdout.contains(bad) && !out.stderr.contains(bad), "{out}");
}

#[test]
fn names_are_left_out_and_said_and_what_is_good_comes() {
    let (stage, ada, _, _server) = stage();
    let (canary, record) = (ada.root().join("canary"), blob(&stage, b"{\"id\": \"x\"}\n"));
    let long = "x".repeat(4_000);
    let command = format!("$(touch {})", canary.display().to_string().replace('/', "%"));
    let names =
        [command.as_str(), "--upload-pack=x", "\u{202e}txt.json", "a\u{200b}b", "\u{1b}[2J", &long, "k\n3"];
    let entries: Vec<String> = names.iter().map(|name| format!("100644 blob {record}\t{name}")).collect();
    plant(&stage, "tasks", &entries);
    let evil = stage.tip(STATE);
    for name in ["$(id)", "-x", "\u{202e}x", &"y".repeat(200)] {
        stage.remote.git(&["update-ref", &format!("refs/orchestra/claims/{name}"), &evil]);
        stage.remote.git(&["update-ref", &format!("refs/notes/orchestra/{name}"), &evil]);
    }
    let out = within_limits(&ada, &["sync"]);
    assert_eq!(out.code, 0, "{out}");
    assert_calm(&out);
    assert_eq!(out.stderr.matches("was left out").count(), names.len(), "{out}");
    assert!(out.stderr.lines().all(|line| line.len() < 1_000), "{out}");
    assert_eq!(titles(&ada), ["From Ada", "From Bob"]);
    assert!(note(&ada).contains("a good note"));
    let files = ada.git(&["ls-tree", "-r", "--name-only", STATE]);
    assert!(files.lines().all(|file| file.is_ascii() && file.len() < 60), "{files}");
    for command in [&["status"][..], &["task", "list", "--all"], &["oplog"], &["show", "--help"]] {
        let out = ada.orchestra(command);
        assert_calm(&out);
    }
    assert!(!canary.exists());
    ada.assert_sound();
}

#[test]
fn a_hundred_thousand_refs_do_not_matter() {
    let (stage, ada, _, server) = stage();
    let tip = stage.tip("refs/heads/main");
    let mut packed = "# pack-refs with: peeled fully-peeled sorted \n".to_owned();
    for number in 0..100_000 {
        writeln!(packed, "{tip} refs/orchestra/state-{number:06}").unwrap();
    }
    std::fs::write(stage.remote.repo().join("packed-refs"), packed).unwrap();
    let out = within_limits(&ada, &["sync"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(titles(&ada).len(), 2);
    let tracking = ada.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/remotes"]);
    assert_eq!(tracking.lines().count(), 3, "{tracking}");

    // A server that sends all of them, asked or not, because it speaks the old protocol.
    let carol = machine(&server.url);
    stage.remote.git(&["config", "protocol.version", "0"]);
    stage.remote.git(&["config", "uploadpack.advertiseRefs", "true"]);
    let out = within_limits(&carol, &["sync"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(titles(&carol).len(), 2);
}

#[test]
fn an_object_that_would_fill_the_memory_is_refused_and_the_notes_come() {
    let (stage, ada, _, _server) = stage();
    // 96 MiB of one letter: small on the way, large in memory, and no blob that could be streamed.
    let mut commit = stage.remote.git(&["cat-file", "commit", STATE]);
    commit.push_str(&"a".repeat(96 << 20));
    let id = input(&stage.remote, &["hash-object", "-t", "commit", "-w", "--stdin"], commit.as_bytes());
    let before = state(&ada);
    stage.remote.git(&["update-ref", STATE, &id]);
    let out = within_limits(&ada, &["sync"]);
    assert!(out.code == 1 && out.stderr.contains("state of origin was not taken in: "), "{out}");
    assert!(note(&ada).contains("a good note"), "{out}");
    assert_eq!(state(&ada), before);
    assert_eq!(ada.git(&["for-each-ref", "--format=%(objectname)", TRACKING]), before);
    assert_nothing_left(&ada);
}

fn assert_nothing_left(machine: &Sandbox) {
    let objects = std::fs::read_dir(machine.git_dir().join("objects")).unwrap();
    let left: Vec<_> = objects.map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with("tmp_")), "{left:?}");
    machine.assert_sound();
}

#[test]
fn a_flood_is_cut_and_leaves_nothing() {
    let (stage, ada, _, _server) = stage();
    let mib: usize = std::env::var("ORCHESTRA_FLOOD").map_or(272, |mib| mib.parse().unwrap());
    // Stored as it is: what git would make small again is no flood.
    stage.remote.git(&["config", "core.compression", "0"]);
    stage.remote.git(&["config", "core.bigFileThreshold", "1m"]);
    let script = format!("head -c {mib}M /dev/urandom | git hash-object -w --stdin");
    let mut shell = stage.remote.command("sh");
    shell.args(["-c", &script]);
    let flood = sandbox::run(shell, b"").stdout.trim().to_owned();
    plant(&stage, "later", &[format!("100644 blob {flood}\tflood")]);
    let before = state(&ada);
    let out = within_limits(&ada, &["sync"]);
    assert!(out.code == 1 && out.stderr.contains("more than 256 MiB at once"), "{out}");
    assert!(note(&ada).contains("a good note"), "{out}");
    assert_eq!(state(&ada), before);
    assert_nothing_left(&ada);
}

#[test]
fn what_is_small_on_the_way_and_large_here_is_left_out() {
    let (stage, ada, _, _server) = stage();
    let zeros = blob(&stage, &vec![b' '; 100 << 20]);
    let path = "tasks/k/3/k3v8w0000000000z.json";
    let root = replaced(&stage, &format!("{STATE}^{{tree}}"), path, &zeros);
    publish(&stage, &root);
    let out = within_limits(&ada, &["sync"]);
    assert!(out.code == 0 && out.stderr.contains("larger than a record"), "{out}");
    assert_eq!(titles(&ada), ["From Ada", "From Bob"]);
    assert!(!ada.git(&["ls-tree", "-r", STATE]).contains(&zeros));
}

#[test]
fn absurd_depth_and_width_are_refused_or_left_out() {
    for (depth, refused) in [(200, false), (6_000, true)] {
        let (stage, ada, _, _server) = stage();
        let path = "d/".repeat(depth) + "f";
        let import = format!(
            "commit refs/orchestra/deep\ncommitter E <e@e> 0 +0000\ndata 0\nfrom {}\nM 644 inline {path}\ndata 1\nx\n",
            stage.tip(STATE)
        );
        input(&stage.remote, &["fast-import", "--quiet", "--force"], import.as_bytes());
        let deep = stage.tip("refs/orchestra/deep");
        stage.remote.git(&["update-ref", STATE, &deep]);
        let out = within_limits(&ada, &["sync"]);
        if refused {
            assert!(out.code == 1 && out.stderr.contains("was not taken in"), "{out}");
        } else {
            assert!(out.code == 0 && out.stderr.contains("lies too deep"), "{out}");
            assert_eq!(titles(&ada).len(), 2);
        }
        assert!(note(&ada).contains("a good note"), "{out}");
    }
    let (stage, ada, _, _server) = stage();
    let record = blob(&stage, b"{}");
    let entries: Vec<String> = (0..120_000).map(|n| format!("100644 blob {record}\t{n:012}.json")).collect();
    plant(&stage, "tasks", &entries);
    let out = within_limits(&ada, &["sync"]);
    assert!(out.code == 0 && out.stderr.contains("it holds too many entries"), "{out}");
    assert_eq!(titles(&ada), ["From Ada"], "what lies among them waits");
}

#[test]
fn a_ref_in_the_way_is_said_and_the_notes_come() {
    let (stage, _, bob, server) = stage();
    let tip = stage.tip(STATE);
    stage.remote.git(&["update-ref", "-d", STATE]);
    stage.remote.git(&["update-ref", &format!("{STATE}/x"), &tip]);
    let carol = machine(&server.url);
    carol.ok(&["task", "add", "From Carol"]);
    let out = within_limits(&carol, &["sync"]);
    assert!(out.code == 1 && out.stderr.contains("did not take refs/orchestra/state"), "{out}");
    assert!(note(&carol).contains("a good note"), "{out}");
    let out = within_limits(&bob, &["sync"]);
    assert_eq!(out.code, 6, "for whoever had seen it, it is gone: {out}");
}

#[test]
fn what_was_is_not_written_over_what_is() {
    let (stage, ada, bob, _server) = stage();
    ada.ok(&["sync"]);
    let id = id_of(&ada, "From Bob");
    let old = stage.tip(&format!("{STATE}^{{tree}}"));
    bob.ok(&["task", "edit", &id, "--title", "From Bob, again", "--label", "new"]);
    bob.ok(&["task", "close", &id]);
    bob.ok(&["sync"]);
    let now = stage.tip(&format!("{STATE}^{{tree}}"));
    // The tree of yesterday as the newest commit: it goes forward, and says nothing new.
    publish(&stage, &old);
    // Whoever has what is newer brings it back, and says so.
    for (machine, code) in [(&bob, 6), (&ada, 0)] {
        let out = machine.orchestra(&["sync"]);
        assert!(out.code == code && out.stderr.contains("alarm") == (code == 6), "{out}");
        assert_eq!(titles(machine), ["From Ada", "From Bob, again"]);
        assert_eq!(machine.json(&["show", &id])["data"]["status"], "closed");
    }
    assert_eq!(stage.tip(&format!("{STATE}^{{tree}}")), now);
}

#[test]
fn a_state_of_a_newer_build_is_left_and_the_notes_come() {
    let (stage, ada, _, _server) = stage();
    let format = r#"{"format": 9, "min_read": 9, "min_write": 9, "epoch": 0, "floor": 0}"#;
    let format = blob(&stage, format.as_bytes());
    let root = replaced(&stage, &format!("{STATE}^{{tree}}"), "format.json", &format);
    let newer = publish(&stage, &root);
    let before = state(&ada);
    let out = within_limits(&ada, &["sync"]);
    assert!(out.code == 1 && out.stderr.contains("state of origin was not taken in: "), "{out}");
    assert!(out.stderr.contains("update git-orchestra here to go on"), "{out}");
    assert!(note(&ada).contains("a good note"), "{out}");
    assert_eq!((state(&ada), stage.tip(STATE)), (before, newer));
    // The same of what is looked at on the way to something else.
    let out = within_limits(&ada, &["task", "claim", "--next"]);
    assert!(out.code == 1 && out.stderr.contains("a newer git-orchestra wrote there"), "{out}");
}

#[test]
fn stamps_that_nobody_could_outdo_are_left_out() {
    let (stage, ada, _, _server) = stage();
    ada.ok(&["sync"]);
    let id = id_of(&ada, "From Ada");
    let path = format!("tasks/{}/{}/{id}.json", &id[..1], &id[1..2]);
    let text = stage.remote.git(&["show", &format!("{STATE}:{path}")]);
    let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
    record["title"] = "Mine for ever".into();
    let stamps = record["_s"].as_object_mut().unwrap();
    for keys in stamps.values_mut() {
        keys.as_array_mut().unwrap().retain(|key| key != "title");
    }
    stamps.insert(format!("{}-{}-zz", u64::MAX, u32::MAX), serde_json::json!(["title"]));
    let forged = blob(&stage, record.to_string().as_bytes());
    let root = replaced(&stage, &format!("{STATE}^{{tree}}"), &path, &forged);
    publish(&stage, &root);
    let out = within_limits(&ada, &["sync"]);
    assert!(out.stderr.contains("in a time that never comes"), "{out}");
    assert!(titles(&ada).contains(&"From Ada".to_owned()));
}

#[test]
fn records_are_data_whatever_they_name() {
    let (stage, ada, bob, _server) = stage();
    let profiles = |machine: &Sandbox| {
        let file = machine.home().join(".config/git-orchestra/config.toml");
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        let text = "[profile.worker]\nprogram = 'command'\ncommand = ['sh', '-c', 'echo done >work.txt']\n";
        std::fs::write(file, text).unwrap();
    };
    profiles(&bob);
    profiles(&ada);
    bob.ok(&["spawn", "--profile", "worker", "--name", "blue-heron", &id_of(&bob, "From Bob")]);
    bob.ok(&["push", "--branches"]);
    let canary = ada.root().join("canary");
    let touch = format!("touch {}", canary.display());
    let agent = bob.json(&["show", "blue-heron"])["data"]["id"].as_str().unwrap().to_owned();
    let path = format!("agents/{}/{}/{agent}.json", &agent[..1], &agent[1..2]);
    let text = stage.remote.git(&["show", &format!("{STATE}:{path}")]);
    let tampered = |change: &dyn Fn(&mut serde_json::Value)| {
        let mut record: serde_json::Value = serde_json::from_str(&text).unwrap();
        change(&mut record);
        let forged = blob(&stage, record.to_string().as_bytes());
        publish(&stage, &replaced(&stage, &format!("{STATE}^{{tree}}"), &path, &forged));
    };
    tampered(&|record| record["session"] = "--dangerously-skip-permissions".into());
    let out = within_limits(&ada, &["sync"]);
    assert!(out.code == 0 && out.stderr.contains("its conversation is none"), "{out}");
    tampered(&|record| {
        for key in ["program", "profile", "machine", "prompt"] {
            record[key] = format!("$({touch})").into();
        }
        record["env"] = serde_json::json!({"GIT_SSH_COMMAND": touch, "LD_PRELOAD": canary});
        record["command"] = serde_json::json!(["sh", "-c", touch]);
        record["permissions"] = "bypass".into();
    });
    within_limits(&ada, &["sync"]);
    for command in [
        &["status", "--all"][..],
        &["show", &agent],
        &["log", &agent],
        &["log", "--record", &agent],
        &["resume", &agent],
        &["overlap"],
        &["merge", "--dry-run"],
        &["merge", "--yes"],
        &["recover"],
        &["doctor"],
        &["prune"],
        &["remove", &agent],
        &["spawn", "--name", "grey-owl", "--profile", "worker", "Do it"],
        &["sync"],
    ] {
        let out = ada.orchestra(command);
        assert!((0..=6).contains(&out.code), "{command:?}\n{out}");
        assert!(!canary.exists(), "{command:?} ran what a record names\n{out}");
        assert_calm(&out);
    }
    let shown = ada.ok(&["show", &id_of(&ada, "From Bob")]);
    assert!(shown.contains("unverified"), "{shown}");
    assert!(!ada.ok(&["show", &id_of(&ada, "From Ada")]).contains("unverified"));
}

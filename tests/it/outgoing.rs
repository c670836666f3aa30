//! What agents commit is looked through before it is pushed: nothing with a secret leaves, and the rest does.

use crate::claims::{machine, remote, task};
use crate::harness::sandbox::write_in;
use crate::harness::{Sandbox, sandbox::Output, wait_for};
use crate::worker::{Running, workshop};

/// A token of the right shape, made up here so that no scanner of this repository takes it for a leak.
fn made_up(seed: u64) -> String {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        char::from(b"abcdefghijkmnpqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"[(state % 56) as usize])
    };
    format!("gh{}_{}", "p", (0..36).map(|_| next()).collect::<String>())
}

/// A machine whose agents do nothing, so that tests commit for them.
fn idle(remote: &Sandbox) -> Sandbox {
    let machine = machine(remote);
    let config =
        "default-profile = 'sh'\n[profile.sh]\nprogram = 'command'\ncommand = ['sh', '-c', 'true']\n";
    write_in(machine.home(), ".config/git-orchestra/config.toml", config);
    machine
}

fn commit(machine: &Sandbox, agent: &str, message: &str, files: &[(&str, &str)]) -> String {
    machine.plumb_commit(&format!("refs/heads/orchestra/{agent}"), message, files)
}

/// Everything that a repository has, as one text.
fn everything(of: &Sandbox) -> String {
    let ids = of.git(&["cat-file", "--batch-all-objects", "--batch-check=%(objectname)"]);
    let (mut plain, blobs) = (String::new(), of.git(&["cat-file", "--batch-all-objects", "--batch-check"]));
    for (id, line) in ids.lines().zip(blobs.lines()) {
        // Trees hold bytes that are no text, and nothing but names.
        if line.contains(" tree ") {
            continue;
        }
        plain.push_str(&of.git(&["cat-file", "-p", id]));
    }
    plain
}

fn branches(remote: &Sandbox) -> Vec<String> {
    let refs = remote.git(&["for-each-ref", "--format=%(refname:lstrip=3)", "refs/heads/orchestra/"]);
    refs.lines().map(str::to_owned).collect()
}

fn push(machine: &Sandbox) -> Output {
    machine.orchestra(&["push", "--branches"])
}

#[test]
fn branches_with_secrets_stay_and_the_rest_is_pushed() {
    let remote = remote();
    let ada = idle(&remote);
    let [file, past, words, known] = [1, 2, 3, 4].map(made_up);
    // The user's own repository has a key for its tests.
    ada.write("tests/key", &format!("one\n{known}\n"));
    ada.commit("A key for tests");
    for name in ["clean", "file", "past", "words", "mover"] {
        ada.ok(&["spawn", "-m", "Nothing", "--name", name]);
    }
    commit(
        &ada,
        "clean",
        "Work",
        &[("a", "password = \"changeme\"\n"), ("tests/key", &format!("zero\n{known}\n"))],
    );
    commit(&ada, "mover", "Move the key", &[("moved/key", &format!("one more\nx = {known}\n"))]);
    let at = commit(&ada, "file", "Work", &[("src/a.rs", &format!("fn a() {{}}\n\nlet t = \"{file}\";\n"))]);
    let had = commit(&ada, "past", "Work", &[("b", &format!("{past}\n"))]);
    commit(&ada, "past", "Without it", &[("b", "\n")]);
    let told = commit(&ada, "words", &format!("Work\n\nUsing {words}."), &[("c", "c\n")]);

    let out = push(&ada);
    assert_eq!(out.code, 1, "{out}");
    for (branch, commit, place) in
        [("file", &at, "src/a.rs:3"), ("past", &had, "b:1"), ("words", &told, "message:3")]
    {
        let line =
            out.stderr.lines().find(|line| line.contains(&format!("orchestra/{branch} was not pushed")));
        let line = line.unwrap_or_else(|| panic!("{branch}: {out}"));
        assert!(line.contains(&format!("github in {} {place} (", &commit[..8])), "{line}");
    }
    assert!(out.stderr.contains("git commit --amend") && out.stderr.contains("push.allow"), "{out}");
    assert_eq!(branches(&remote), ["clean", "mover"]);
    let there = everything(&remote);
    for secret in [&file, &past, &words] {
        assert!(!there.contains(secret.as_str()) && !out.to_string().contains(secret.as_str()), "{out}");
    }
    assert!(there.contains(&known), "the look goes through objects");

    // As JSON; and what the user says is none is pushed.
    let json = ada.orchestra(&["push", "--branches", "--json"]);
    assert_eq!(json.code, 1, "{json}");
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let held = json["data"]["held"].as_array().unwrap();
    assert_eq!(held.len(), 3, "{json:#}");
    let of =
        |name: &str| held.iter().find(|one| one["name"] == format!("refs/heads/orchestra/{name}")).unwrap();
    assert_eq!(
        (&of("file")["secrets"][0]["line"], &of("file")["secrets"][0]["path"]),
        (&3.into(), &"src/a.rs".into())
    );
    let fingerprint = of("file")["secrets"][0]["fingerprint"].as_str().unwrap();
    let config = format!("push.allow = ['{fingerprint}']\n");
    let path = ada.home().join(".config/git-orchestra/config.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("{config}{before}")).unwrap();
    assert_eq!(push(&ada).code, 1);
    assert_eq!(branches(&remote), ["clean", "file", "mover"]);
    // Taken out of the commits, it is pushed as well.
    ada.git(&["update-ref", "refs/heads/orchestra/past", "main"]);
    ada.git(&["update-ref", "refs/heads/orchestra/words", "main"]);
    assert_eq!(push(&ada).code, 0);
}

#[test]
fn what_one_agent_committed_holds_those_that_began_from_it() {
    let remote = remote();
    let ada = idle(&remote);
    let secret = made_up(5);
    ada.ok(&["spawn", "-m", "Nothing", "--name", "first"]);
    commit(&ada, "first", "Work", &[("a", &format!("{secret}\n"))]);
    ada.ok(&["spawn", "-m", "Nothing", "--name", "second", "--base", "orchestra/first"]);
    commit(&ada, "second", "More", &[("b", "b\n")]);
    let out = push(&ada);
    assert!(out.code == 1 && out.stderr.contains("orchestra/second was not pushed"), "{out}");
    assert!(branches(&remote).is_empty() && !everything(&remote).contains(&secret));
}

#[test]
fn what_cannot_be_looked_through_is_not_pushed() {
    let remote = remote();
    let ada = idle(&remote);
    for name in ["broken", "clean"] {
        ada.ok(&["spawn", "-m", "Nothing", "--name", name]);
        commit(&ada, name, "Work", &[("a", &format!("of {name}\n"))]);
    }
    let blob = ada.git(&["rev-parse", "orchestra/broken:a"]);
    let (directory, file) = blob.split_at(2);
    std::fs::remove_file(ada.git_dir().join("objects").join(directory).join(file)).unwrap();
    let out = push(&ada);
    assert_eq!(out.code, 1, "{out}");
    assert!(
        out.stderr.contains("orchestra/broken was not pushed: its commits could not be looked through"),
        "{out}"
    );
    assert_eq!(branches(&remote), ["clean"]);
}

#[test]
fn a_worker_keeps_a_branch_with_a_secret() {
    let remote = remote();
    let secret = made_up(6);
    let ada = machine(&remote);
    let id = task(&ada, "Plant a key");
    ada.ok(&["sync"]);
    let script = format!(
        "echo '{secret}' >key; git add key; git commit -qm 'A key'; echo more >more; while [ ! -e {{go}} ]; do sleep 0.1; done"
    );
    let go = remote.root().join("go");
    let bob = workshop(&remote, &script.replace("{go}", &go.display().to_string()));
    let path = bob.home().join(".config/git-orchestra/config.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    // It is heard of every quarter of that, with what is not committed yet.
    std::fs::write(&path, format!("claim-ttl = '4s'\n{before}")).unwrap();
    let worker = Running::start(&bob, &["--once"]);
    let name = wait_for("the agent", || {
        let agents = bob.json(&["status", "--all"]);
        agents["data"][0]["name"].as_str().map(str::to_owned)
    });
    wait_for("its commit", || {
        let out = bob.try_git_in(bob.repo(), &["cat-file", "-e", &format!("orchestra/{name}:key")], b"");
        (out.code == 0).then_some(())
    });
    // At least one heartbeat later.
    std::thread::sleep(std::time::Duration::from_secs(3));
    std::fs::write(&go, "").unwrap();
    let ended = worker.end();
    assert!(
        ended.stdout.contains("was not pushed: its commits hold what looks like a secret: github in"),
        "{ended}"
    );
    assert!(ended.stdout.contains("what it does is not sent"), "{ended}");
    assert!(branches(&remote).is_empty() && !everything(&remote).contains(&secret), "{ended}");
    assert!(!ended.stdout.contains(&secret), "{ended}");
    ada.ok(&["sync"]);
    assert_eq!(ada.json(&["task", "show", &id])["data"]["status"], "started", "its work is there, and waits");
}

#[test]
fn what_a_pipeline_landed_is_looked_through_too() {
    let remote = remote();
    let ada = machine(&remote);
    let secret = made_up(7);
    ada.git(&["push", "-q", "origin", "main"]);
    let script = format!("echo '{secret}' >key; git add key; git commit -qm 'A key'");
    let config = format!(
        "default-profile = 'hand'\n[profile.hand]\nprogram = 'command'\ncommand = ['sh', '-c', '''{script}''']\n"
    );
    write_in(ada.home(), ".config/git-orchestra/config.toml", &config);
    let id = task(&ada, "Plant a key");
    let out = ada.orchestra(&["run", &id, "--push", "origin"]);
    assert!(out.code == 1 && out.stderr.contains("github in"), "{out}");
    assert!(!everything(&remote).contains(&secret) && !out.to_string().contains(&secret), "{out}");
}

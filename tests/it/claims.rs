//! One queue: of machines that want the same task exactly one gets it, whatever becomes of the answers.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Layout, Sandbox, wait_for};

const CLAIMS: &str = "refs/orchestra/claims";

pub(crate) fn remote() -> Sandbox {
    Sandbox::with(Layout { bare: true, ..Default::default() })
}

/// A machine of its own that has `remote` as `origin`.
pub(crate) fn machine(remote: &Sandbox) -> Sandbox {
    let machine = Sandbox::new();
    machine.git(&["remote", "add", "origin", remote.repo().to_str().unwrap()]);
    machine
}

pub(crate) fn claims(remote: &Sandbox) -> Vec<String> {
    let refs = remote.git(&["for-each-ref", "--format=%(refname:lstrip=3)", CLAIMS]);
    refs.lines().map(str::to_owned).collect()
}

pub(crate) fn task(machine: &Sandbox, title: &str) -> String {
    let task = machine.json(&["task", "add", title]);
    task["data"]["id"].as_str().unwrap().to_owned()
}

pub(crate) fn field(machine: &Sandbox, id: &str, name: &str) -> serde_json::Value {
    machine.json(&["task", "show", id])["data"][name].clone()
}

/// A hook of the remote: a script that gets the updates on its standard input.
pub(crate) fn hook(remote: &Sandbox, name: &str, script: &str) {
    let path = remote.repo().join("hooks").join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Lets `git-receive-pack` die right after it moved the refs, whenever `when` says so: the answer never leaves.
pub(crate) fn cut_answers(remote: &Sandbox, when: &str) {
    // The hook's parent is receive-pack, or a shell in between that git starts it with.
    // After it had moved them and told so `post-receive` runs.
    let script =
        format!("test \"$1\" = committed || exit 0\ncat >/dev/null\nif {when}; then kill -9 $PPID; fi");
    hook(remote, "reference-transaction", &script);
}

/// The remote kills whoever pushes, after the ref moved: the parent of `git push` is the program under test.
pub(crate) fn kill_who_pushes(remote: &Sandbox) {
    let script = "cat >/dev/null; p=$PPID; for i in 1 2 3 4 5 6; do \
                  if grep -q '^Name:.git-orchestra' /proc/$p/status; then kill -9 $p; break; fi; \
                  p=$(sed -n 's/^PPid:.//p' /proc/$p/status); done";
    hook(remote, "post-receive", script);
}

fn two(remote: &Sandbox) -> (Sandbox, Sandbox, String) {
    let (ada, bob) = (machine(remote), machine(remote));
    let id = task(&ada, "Parse headers");
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    (ada, bob, id)
}

#[test]
fn of_two_machines_one_gets_the_task() {
    let remote = remote();
    let (ada, bob, id) = two(&remote);
    assert_eq!(ada.ok(&["task", "claim", &id]), id[..4]);
    assert_eq!(claims(&remote), [id.as_str()]);
    // The state of the claim did not travel: the claim alone decides.
    let out = bob.orchestra(&["task", "claim", &id]);
    assert_eq!(out.code, 1, "{out}");
    assert!(out.stderr.contains("is held by machine") && out.stderr.contains("--force"), "{out}");
    let out = bob.orchestra(&["task", "claim", "--next"]);
    assert_eq!((out.code, out.stdout.as_str()), (1, ""), "{out}");
    assert_eq!(ada.ok(&["task", "claim", &id]), id[..4], "it is ours already");
    assert_eq!(field(&ada, &id, "status"), "started");
    assert_eq!(field(&ada, &id, "fence"), 1);

    ada.ok(&["task", "close", &id, "-m", "done by Ada"]);
    ada.ok(&["sync"]);
    assert!(claims(&remote).is_empty(), "what the remote knows needs no claim");
    assert!(ada.git(&["for-each-ref", CLAIMS]).is_empty());
    let out = bob.orchestra(&["task", "claim", &id]);
    assert!(out.code == 1 && out.stderr.contains("it is closed"), "{out}");
    assert_eq!(field(&bob, &id, "result"), "done by Ada");
    ada.assert_sound();
    bob.assert_sound();
}

#[test]
fn a_claim_is_given_back() {
    let remote = remote();
    let (ada, bob, id) = two(&remote);
    ada.ok(&["task", "claim", "--next"]);
    let out = bob.orchestra(&["task", "release", &id]);
    assert!(out.code == 1 && out.stderr.contains("does not hold it"), "{out}");
    ada.ok(&["task", "release", &id]);
    assert_eq!(field(&ada, &id, "status"), "open");
    // Nobody synced: that it is free is known from the claim alone.
    assert_eq!(bob.ok(&["task", "claim", "--next"]), id[..4]);
    bob.ok(&["task", "release", &id]);
    ada.ok(&["task", "claim", &id]);
    assert_eq!(field(&ada, &id, "fence"), 3, "greater than that of every claim before");
    let log = remote.git(&["log", "--format=%s", &format!("{CLAIMS}/{id}")]);
    assert_eq!(log.lines().count(), 5, "{log}");
    ada.ok(&["task", "release", &id]);
    ada.ok(&["sync"]);
    assert!(claims(&remote).is_empty(), "what the remote knows needs no claim");
}

#[test]
fn without_a_remote_the_state_here_is_the_queue() {
    let ada = Sandbox::new();
    let (first, second) = (task(&ada, "One"), task(&ada, "Two"));
    ada.ok(&["task", "edit", &second, "--priority", "5"]);
    let out = ada.orchestra(&["task", "claim", "--next"]);
    assert_eq!(out.stdout.trim(), &second[..4], "{out}");
    assert!(out.stderr.contains("it has no remote"), "{out}");
    assert_eq!(ada.ok(&["task", "claim", "--next", "-n", "5"]), first[..4]);
    // A script whose claim failed after it was made learns what it has.
    let out = ada.orchestra(&["task", "claim", "--next"]);
    assert_eq!((out.code, out.stdout.as_str()), (1, ""), "{out}");
    let (one, two) = (&first[..4], &second[..4]);
    assert!(out.stderr.contains(&format!("this clone holds {two} (Two), {one} (One)")), "{out}");
    assert!(out.stderr.contains(&format!("`git orchestra task claim {two}` goes on with it")), "{out}");
    let out = ada.orchestra(&["task", "claim", "--next", "--json"]);
    let told: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    assert_eq!((out.code, told["data"]["claimed"].as_array().unwrap().len()), (1, 0), "{out}");
    let holds = told["data"]["holds"].as_array().unwrap();
    assert_eq!(holds.iter().map(|one| &one["id"]).collect::<Vec<_>>(), [&second, &first]);
    ada.ok(&["task", "release", &first]);
    assert_eq!(field(&ada, &first, "status"), "open");
    assert_eq!(ada.ok(&["task", "claim", &first]), first[..4]);
    assert_eq!(field(&ada, &first, "fence"), 2);
    assert!(ada.git(&["for-each-ref", CLAIMS]).is_empty());
}

#[test]
fn an_answer_that_is_lost_is_read_back() {
    let remote = remote();
    let (ada, bob, id) = two(&remote);
    cut_answers(&remote, "true");
    let claimed = ada.json(&["task", "claim", &id]);
    assert_eq!(claimed["data"]["claimed"][0]["outcome"], "held", "{claimed}");
    assert_eq!(claimed["data"]["pushes"], 1, "nothing is sent twice: {claimed}");
    let out = bob.orchestra(&["task", "claim", "--next"]);
    assert_eq!(out.code, 1, "{out}");
    ada.ok(&["task", "release", &id]);
    assert_eq!(bob.ok(&["task", "claim", "--next"]), id[..4]);
}

#[test]
fn what_a_killed_process_claimed_is_given_back() {
    let remote = remote();
    let (ada, bob, id) = two(&remote);
    kill_who_pushes(&remote);
    let out = ada.orchestra(&["task", "claim", &id]);
    assert_eq!(out.code, 137, "{out}");
    fs::remove_file(remote.repo().join("hooks/post-receive")).unwrap();
    wait_for("the claim", || (claims(&remote) == [id.as_str()]).then_some(()));
    assert_eq!(field(&ada, &id, "status"), "open", "it was not acknowledged");
    assert_eq!(bob.orchestra(&["task", "claim", &id]).code, 1, "nobody else may have it");
    assert_eq!(ada.ok(&["task", "claim", &id]), id[..4], "the next command needs no help");
    assert_eq!(claims(&remote), [id.as_str()]);
}

#[test]
fn a_silent_holder_is_ousted_and_cannot_undo_it() {
    let remote = remote();
    let (ada, bob, id) = two(&remote);
    ada.ok(&["task", "claim", &id, "--ttl", "2s"]);
    let out = bob.orchestra(&["task", "claim", &id]);
    assert!(out.code == 1 && out.stderr.contains("unchanged for 0 of 2 s by this machine's clock"), "{out}");
    wait_for("the time to pass", || {
        let out = bob.orchestra(&["task", "claim", &id]);
        (out.code == 0).then_some(())
    });
    assert_eq!(field(&bob, &id, "fence"), 2);
    // Ada wakes up and does what she was about to do.
    ada.ok(&["task", "close", &id, "-m", "Ada's result"]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 0 && out.stderr.contains("another machine took over"), "{out}");
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    for machine in [&ada, &bob] {
        assert_eq!(field(machine, &id, "status"), "started");
        assert_eq!(field(machine, &id, "fence"), 2);
        assert!(field(machine, &id, "result").is_null());
    }
    assert_eq!(claims(&remote), [id.as_str()], "it is Bob's");
}

#[test]
fn a_person_who_says_nothing_keeps_what_they_claimed() {
    let remote = remote();
    let (ada, bob, id) = two(&remote);
    ada.ok(&["task", "claim", &id]);
    let out = bob.orchestra(&["task", "claim", &id]);
    assert!(out.code == 1 && out.stderr.contains("until it is released there"), "{out}");
    assert_eq!(bob.ok(&["task", "claim", &id, "--force"]), id[..4]);
    assert_eq!(field(&bob, &id, "fence"), 2);
}

#[test]
fn of_a_deleted_task_whose_claim_is_gone_no_note_is_left() {
    let remote = remote();
    let (ada, bob, id) = two(&remote);
    bob.ok(&["task", "claim", &id]);
    ada.ok(&["undo", "--yes"]);
    ada.ok(&["sync"]);
    remote.git(&["update-ref", "-d", &format!("{CLAIMS}/{id}")]);
    assert_ne!(bob.git(&["for-each-ref", CLAIMS]), "");
    bob.ok(&["sync"]);
    assert_eq!(bob.git(&["for-each-ref", CLAIMS]), "");
}

/// A task of which more was written on other machines than has room in one record beside what `last` wrote.
pub(crate) fn overfill(remote: &Sandbox, last: &Sandbox, id: &str) {
    let others: Vec<Sandbox> = (0..4).map(|_| machine(remote)).collect();
    for one in others.iter().chain([last]) {
        one.ok(&["sync"]);
    }
    for (number, one) in others.iter().chain([last]).enumerate() {
        let file = one.root().join("long.txt");
        fs::write(&file, number.to_string().repeat(900 << 10)).unwrap();
        one.ok(&["task", "edit", id, "-F", file.to_str().unwrap()]);
    }
    for one in &others {
        one.ok(&["sync"]);
    }
}

#[test]
fn a_record_that_does_not_fit_stops_neither_claims_nor_workers_nor_takes() {
    let remote = remote();
    let ada = crate::worker::workshop(&remote, "echo one >one.txt; exit 3");
    let (long, quick) = (task(&ada, "Long"), task(&ada, "Quick"));
    ada.ok(&["task", "claim", &long]);
    assert_eq!(ada.orchestra(&["worker", "--once"]).code, 4);
    let (slow, open) = (task(&ada, "Slow"), task(&ada, "Open"));
    ada.ok(&["sync"]);
    let bob = crate::worker::workshop(&remote, "echo two >two.txt");
    overfill(&remote, &bob, &long);
    let tip = || remote.git(&["rev-parse", "refs/orchestra/state"]);
    let before = tip();
    let out = bob.orchestra(&["task", "claim", &open]);
    assert!(out.code == 0 && out.stderr.contains("the state of origin was not merged"), "{out}");
    assert!(claims(&remote).contains(&open), "{out}");

    let out = bob.orchestra(&["worker", "--once"]);
    assert!(out.code == 1 && out.stdout.contains("the state was not sent"), "{out}");
    let said = format!("{out}").matches("the state of origin was not merged").count();
    assert_eq!(said, 1, "however often it looks: {out}");
    let branch = format!("refs/heads/orchestra/slow-{}", &slow[..6]);
    assert_eq!(remote.git(&["show", &format!("{branch}:two.txt")]), "two", "{out}");
    let machine = fs::read_to_string(bob.repo().join(".git/orchestra/machine")).unwrap();
    let beats = remote.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/machines"]);
    assert!(beats.contains(machine.trim()), "it is heard of: {beats}");

    let name = format!("quick-{}", &quick[..6]);
    let out = bob.orchestra(&["take", &name]);
    assert!(out.stderr.contains("its branch"), "{out}");
    assert_eq!(remote.git(&["show", &format!("orchestra/{name}:two.txt")]), "two", "{out}");
    assert_eq!(tip(), before, "and nothing took the place of what was written there");
}

#[test]
fn names_that_are_none_stay_out() {
    let remote = remote();
    let (ada, _, id) = two(&remote);
    let tip = remote.git(&["rev-parse", "main"]);
    let other = "k3v8w0000000000z";
    let names =
        ["claims/$(touch${IFS}x)", "claims/-x", "claims/gggg", "claims/G3V8W0000000000Z", "machines/é"];
    let hostile =
        names.into_iter().map(str::to_owned).chain([format!("claims/{other}"), format!("claims/{id}/x")]);
    for name in hostile {
        let line = format!("create refs/orchestra/{name} {tip}\n");
        let out = remote.try_git_in(remote.repo(), &["update-ref", "--stdin"], line.as_bytes());
        assert_eq!(out.code, 0, "{name}: {out}");
    }
    let before = ada.fingerprint();
    // The directory in the way of the claim is somebody's doing on the remote, and said.
    let out = ada.orchestra(&["task", "claim", &id]);
    assert!(out.code == 1 && out.stderr.contains("could not make its claim"), "{out}");
    remote.git(&["update-ref", "-d", &format!("{CLAIMS}/{id}/x")]);
    assert_eq!(ada.ok(&["task", "claim", "--next"]), id[..4]);
    assert_eq!(ada.fingerprint(), before);
    assert_eq!(ada.git(&["for-each-ref", CLAIMS]).lines().count(), 1, "only our own");
}

/// A machine with the profile `hand`, which does a little, and with what the remote has.
fn spawner(remote: &Sandbox) -> Sandbox {
    crate::worker::workshop(remote, "echo one >\"$GIT_ORCHESTRA_AGENT_NAME.txt\"")
}

#[test]
fn of_two_machines_that_spawn_for_one_task_one_does() {
    let remote = remote();
    let ada = spawner(&remote);
    let ids: Vec<String> = (0..3).map(|n| task(&ada, &format!("Task {n}"))).collect();
    ada.ok(&["sync"]);
    let machines = [spawner(&remote), spawner(&remote), ada];
    let outs: Vec<_> = std::thread::scope(|scope| {
        let spawning = machines.each_ref().map(|one| scope.spawn(|| one.orchestra(&["spawn", &ids[0]])));
        spawning.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let won: Vec<_> = outs.iter().filter(|out| out.code == 0).collect();
    assert!(won.len() == 1, "exactly one: {outs:#?}");
    for out in outs.iter().filter(|out| out.code != 0) {
        assert!(out.code == 1 && out.stderr.contains("machine") && out.stderr.contains("--force"), "{out}");
    }
    for (one, out) in machines.iter().zip(&outs) {
        let agents = one.json(&["status"])["data"].as_array().unwrap().len();
        assert_eq!(agents, usize::from(out.code == 0), "nothing was begun in vain");
        one.assert_sound();
    }
    assert_eq!(claims(&remote), [ids[0].as_str()], "until it is closed");
    // Whoever names none gets what is left.
    let out = machines[0].orchestra(&["spawn"]);
    assert_eq!(out.code, 0, "{out}");
    let winner = &machines[outs.iter().position(|out| out.code == 0).unwrap()];
    winner.ok(&["merge"]);
    winner.ok(&["sync"]);
    assert!(!claims(&remote).contains(&ids[0]), "what was merged needs no claim");
    assert_eq!(field(winner, &ids[0], "fence"), 1);
}

#[test]
fn a_spawn_uses_and_ends_the_claim_of_this_clone_and_respects_those_of_others() {
    let remote = remote();
    let (ada, bob) = (spawner(&remote), spawner(&remote));
    let id = task(&ada, "Parse headers");
    ada.ok(&["sync"]);
    ada.ok(&["task", "claim", &id]);
    let out = bob.orchestra(&["sync"]);
    assert_eq!(out.code, 0, "{out}");
    let out = bob.orchestra(&["spawn", &id]);
    assert!(out.code == 1 && out.stderr.contains("until it is released there"), "{out}");
    // What the state says is known without asking too.
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    let out = bob.orchestra(&["spawn", "--no-claim", &id]);
    assert!(out.code == 1 && out.stderr.contains("holds it"), "{out}");
    let before = field(&ada, &id, "fence");
    ada.ok(&["spawn", &id]);
    assert_eq!(field(&ada, &id, "fence"), before, "it was ours");
    ada.ok(&["merge"]);
    ada.ok(&["sync"]);
    assert!(claims(&remote).is_empty());
    bob.ok(&["sync"]);
    assert_eq!(field(&bob, &id, "status"), "closed");
}

#[test]
fn a_spawn_needs_no_remote() {
    let remote = remote();
    let ada = spawner(&remote);
    let (known, own) = (task(&ada, "Known"), task(&ada, "Own"));
    ada.ok(&["sync"]);
    let later = task(&ada, "Nobody else knows it");
    ada.git(&["remote", "set-url", "origin", "/nowhere/at/all"]);
    let out = ada.orchestra(&["spawn", &later]);
    assert!(out.code == 0 && !out.stderr.contains("origin"), "nobody is asked: {out}");
    let out = ada.orchestra(&["spawn", "--claim", &known]);
    assert!(out.code == 1 && field(&ada, &known, "status") == "open", "{out}");
    let out = ada.orchestra(&["spawn", &known]);
    assert!(out.code == 0 && out.stderr.contains("nothing was claimed on origin"), "{out}");
    assert!(out.stderr.contains("another machine may begin the same"), "{out}");
    let out = ada.orchestra(&["spawn", "--no-claim", &own]);
    assert!(out.code == 0 && !out.stderr.contains("origin"), "{out}");
    // A remote that lets us make no refs is no reason to stop either.
    ada.git(&["remote", "set-url", "origin", remote.repo().to_str().unwrap()]);
    let third = task(&ada, "Third");
    ada.ok(&["sync"]);
    hook(&remote, "pre-receive", "cat >/dev/null; exit 1");
    let out = ada.orchestra(&["spawn", &third]);
    assert!(out.code == 0 && out.stderr.contains("nothing was claimed"), "{out}");
}

#[test]

fn what_was_fetched_and_not_merged_is_in_the_queue() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    let id = task(&ada, "Parse headers");
    ada.ok(&["sync"]);
    bob.ok(&["fetch"]);
    let claimed = bob.json(&["task", "claim", "--next"]);
    assert_eq!(claimed["data"]["claimed"][0]["id"], id, "{claimed:#}");
}

#[test]
fn a_remote_that_is_silent_keeps_nobody_from_beginning() {
    let remote = remote();
    let mut ada = spawner(&remote);
    let id = task(&ada, "Known");
    ada.ok(&["sync"]);
    // It takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("git://{}/x.git", silent.local_addr().unwrap());
    ada.git(&["remote", "set-url", "origin", &url]);
    ada.set_env("ORCHESTRA_REMOTE_TIMEOUT", "1s");
    let out = ada.orchestra(&["spawn", &id]);
    assert!(
        out.code == 0 && out.stderr.contains("nothing was claimed on origin: failed to hear from"),
        "{out}"
    );
}

#[test]
fn a_claim_that_would_fill_the_memory_does_not_come_in() {
    let remote = remote();
    let (_, bob, id) = two(&remote);
    // On the way it is a few kilobytes.
    let words = vec![b'x'; 80 << 20];
    let out = remote.try_git_in(remote.repo(), &["commit-tree", "main^{tree}", "-F", "-"], &words);
    let commit = out.stdout.trim();
    remote.git(&["update-ref", &format!("{CLAIMS}/{id}"), commit]);
    let out = bob.orchestra(&["task", "claim", &id]);
    assert!(out.code == 1 && out.stderr.contains("a claim that this build cannot read"), "{out}");
    assert_ne!(bob.try_git_in(bob.repo(), &["cat-file", "-e", commit], b"").code, 0, "it is not here");
    assert_eq!(bob.ok(&["task", "claim", "--force", &id]), id[..4]);
}

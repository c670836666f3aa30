//! Two machines and a remote between them: nothing is lost, nothing is forced, nothing hangs.

mod hostile;
mod hosts;
mod places;
mod transports;

use std::os::unix::fs::PermissionsExt as _;

use crate::harness::{Layout, Sandbox};

/// A bare repository, and machines that have it as `origin`.
struct Stage {
    remote: Sandbox,
}

impl Stage {
    fn new() -> Self {
        Self { remote: Sandbox::with(Layout { bare: true, ..Default::default() }) }
    }

    fn path(&self) -> String {
        self.remote.repo().to_str().unwrap().to_owned()
    }

    fn tip(&self, name: &str) -> String {
        self.remote.git(&["rev-parse", name])
    }
}

/// A machine of its own that has `url` as `origin`.
fn machine(url: &str) -> Sandbox {
    let machine = Sandbox::new();
    machine.git(&["remote", "add", "origin", url]);
    machine
}

/// Which git commands that talk to a remote a command of ours runs.
fn connections(machine: &Sandbox, args: &[&str]) -> Vec<String> {
    let (bin, log) = (machine.root().join("counting"), machine.root().join("connections"));
    let _ = std::fs::remove_file(&log);
    std::fs::create_dir_all(&bin).unwrap();
    let envs = machine.command("git");
    let path = envs.get_envs().find_map(|(key, value)| (key == "PATH").then_some(value?)).unwrap();
    let git = std::env::split_paths(path).map(|dir| dir.join("git")).find(|git| git.exists()).unwrap();
    let script = format!(
        "#!/bin/sh\nfor word; do case $word in ls-remote|fetch|push) echo $word >>{}; break;; esac; done\nexec {} \"$@\"\n",
        log.display(),
        git.display()
    );
    std::fs::write(bin.join("git"), script).unwrap();
    std::fs::set_permissions(bin.join("git"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let searched = std::env::join_paths(std::iter::once(bin).chain(std::env::split_paths(path))).unwrap();
    let mut command = machine.command(crate::harness::sandbox::ORCHESTRA);
    command.args(args).env("PATH", searched);
    let out = crate::harness::sandbox::run(command, b"");
    assert_eq!(out.code, 0, "{out}");
    std::fs::read_to_string(&log).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[test]
fn what_a_fetch_saw_is_no_race_that_was_lost() {
    let stage = Stage::new();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    ada.ok(&["task", "add", "One"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    ada.ok(&["task", "add", "Two"]);
    ada.ok(&["sync"]);
    bob.ok(&["task", "add", "Three"]);
    bob.ok(&["fetch"]);
    let pushed = bob.json(&["push"]);
    assert_eq!(pushed["data"]["retries"], 0, "{pushed}");
    assert_eq!(stage.tip("refs/orchestra/state"), bob.git(&["rev-parse", "refs/orchestra/state"]));
    // Where it was not seen before, somebody was faster.
    ada.ok(&["task", "add", "Four"]);
    let pushed = ada.json(&["push"]);
    assert_eq!(pushed["data"]["retries"], 1, "{pushed}");
}

#[test]
fn two_connections_are_enough() {
    let stage = Stage::new();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    ada.ok(&["task", "add", "One"]);
    assert_eq!(
        connections(&ada, &["sync"]),
        ["fetch", "ls-remote", "push"],
        "of an empty remote it is asked once what else it has"
    );
    bob.ok(&["task", "add", "Two"]);
    assert_eq!(connections(&bob, &["sync"]), ["fetch", "push"], "it is new here");
    assert_eq!(connections(&ada, &["sync"]), ["fetch"], "nothing is to be sent");
    ada.ok(&["task", "add", "Three"]);
    assert_eq!(connections(&ada, &["sync"]), ["fetch", "push"]);
    assert_eq!(titles(&ada), ["One", "Three", "Two"]);
}

const STATE: &str = "refs/orchestra/state";
const TRACKING: &str = "refs/orchestra/remotes/origin/state";

fn state(machine: &Sandbox) -> String {
    machine.git(&["rev-parse", STATE])
}

fn titles(machine: &Sandbox) -> Vec<String> {
    let list = machine.json(&["task", "list", "--all"]);
    let mut titles: Vec<String> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["title"].as_str().unwrap().to_owned())
        .collect();
    titles.sort();
    titles
}

fn id_of(machine: &Sandbox, title: &str) -> String {
    let list = machine.json(&["task", "list", "--all"]);
    let tasks = list["data"].as_array().unwrap().clone();
    let task = tasks.iter().find(|task| task["title"] == title).unwrap();
    task["id"].as_str().unwrap().to_owned()
}

#[test]
fn the_same_text_written_twice_is_shown_twice() {
    let stage = Stage::new();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    ada.ok(&["task", "add", "Parse", "--label", "core"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    let id = id_of(&ada, "Parse");
    ada.ok(&["task", "edit", &id, "--title", "Parse headers"]);
    bob.ok(&["task", "edit", &id, "--title", "Parse trailers", "--priority", "3"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    assert_eq!(state(&ada), state(&bob));
    assert_eq!(titles(&ada), ["Parse trailers"]);
    let shown = ada.ok(&["show", &id]);
    assert!(shown.contains("also written as title") && shown.contains("Parse headers"), "{shown}");
    ada.ok(&["task", "edit", &id, "--title", "Parse both"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    assert_eq!(titles(&bob), ["Parse both"]);
    assert!(!bob.ok(&["show", &id]).contains("also written"), "whoever wrote last had seen both");
}

#[test]
fn findings_of_both_are_in_the_notes_of_both() {
    let stage = Stage::new();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    let head = ada.git(&["rev-parse", "HEAD"]);
    assert_eq!(head, bob.git(&["rev-parse", "HEAD"]), "commits of the harness depend on nothing else");
    ada.ok(&["finding", "add", "--commit", &head, "Ada saw this"]);
    bob.ok(&["finding", "add", "--commit", &head, "Bob saw that"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    for machine in [&ada, &bob] {
        let note = machine.git(&["notes", "--ref=orchestra/findings", "show", &head]);
        assert!(note.contains("Ada saw this") && note.contains("Bob saw that"), "{note}");
    }
    let notes = "refs/notes/orchestra/findings";
    assert_eq!(ada.git(&["rev-parse", notes]), bob.git(&["rev-parse", notes]));
    assert_eq!(state(&ada), state(&bob));
    assert_eq!(ada.ok(&["sync"]), "origin has the same");
}

#[test]
fn a_remote_that_goes_forward_to_an_old_tree_is_an_alarm_and_loses_nothing() {
    let stage = Stage::new();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    let one = ada.ok(&["task", "add", "One"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    let first = state(&ada);
    ada.ok(&["task", "edit", &one, "--title", "One and a half"]);
    ada.ok(&["task", "add", "Two"]);
    ada.ok(&["sync"]);
    let second = state(&ada);
    let everything = format!("{STATE}^{{tree}}");
    let tree = ada.git(&["rev-parse", &everything]);

    // Whoever may push puts the old tree on top: for git that is only forward.
    let old = ada.git(&["commit-tree", "-p", &second, "-m", "tidied", &format!("{first}^{{tree}}")]);
    ada.git(&["push", "--quiet", "origin", &format!("{old}:{STATE}")]);
    let out = bob.orchestra(&["sync"]);
    assert_eq!(out.code, 0, "Bob had not seen more: {out}");
    ada.ok(&["task", "add", "Three"]);
    let out = ada.orchestra(&["sync", "--json"]);
    assert_eq!(out.code, 6, "{out}");
    let lost = &serde_json::from_str::<serde_json::Value>(&out.stdout).unwrap()["data"]["lost"][0];
    assert_eq!(lost["records"].as_array().unwrap().len(), 2, "an edit and a task: {out}");
    assert!(lost["old"] == second.as_str() && lost["new"] == old.as_str(), "{out}");
    assert!(out.stderr.contains("lost 2 records or parts of them"), "{out}");
    assert!(out.stderr.contains("nothing is lost here; it was sent again"), "{out}");
    let listed = ada.ok(&["task", "list"]);
    for title in ["One and a half", "Two", "Three"] {
        assert!(listed.contains(title), "{listed}");
    }
    assert_eq!(stage.tip(STATE), state(&ada), "and the remote has it again");
    let difference = ada.git(&["diff", "--name-status", &tree, &everything]);
    assert!(difference.lines().count() == 1 && difference.starts_with('A'), "{difference}");
    assert_eq!(ada.ok(&["sync"]), "origin has the same", "it is said once");
    assert_eq!(bob.orchestra(&["sync"]).code, 0, "what comes back is no alarm");
    assert_eq!(state(&bob), state(&ada));

    // A look alone says it as well.
    let old = ada.git(&["commit-tree", "-p", STATE, "-m", "again", &format!("{first}^{{tree}}")]);
    ada.git(&["push", "--quiet", "origin", &format!("{old}:{STATE}")]);
    let out = ada.orchestra(&["fetch"]);
    assert!(out.code == 6 && out.stderr.contains("lost 3 records"), "{out}");
    let out = bob.orchestra(&["task", "claim", "--next"]);
    assert!(out.stderr.contains("alarm: origin went back"), "{out}");
    ada.ok(&["sync"]);
    assert_eq!(ada.git(&["diff", "--name-only", &everything, &format!("{TRACKING}^{{tree}}")]), "");
}

#[test]
fn a_remote_that_goes_back_or_forgets_is_an_alarm() {
    let stage = Stage::new();
    let ada = machine(&stage.path());
    ada.ok(&["task", "add", "One"]);
    ada.ok(&["sync"]);
    let first = state(&ada);
    ada.ok(&["task", "add", "Two"]);
    ada.ok(&["sync"]);
    let second = state(&ada);

    stage.remote.git(&["update-ref", STATE, &first]);
    for command in ["fetch", "sync"] {
        let out = ada.orchestra(&[command]);
        assert_eq!(out.code, 6, "{out}");
        assert!(out.stderr.contains(&first) && out.stderr.contains(&second), "{out}");
    }
    assert_eq!(state(&ada), second);
    assert_eq!(ada.git(&["rev-parse", TRACKING]), second, "the evidence stays");
    assert_eq!(stage.tip(STATE), first, "and the remote is not overwritten");

    let other = ada.git(&["commit-tree", "-m", "rewritten", &format!("{first}^{{tree}}")]);
    ada.git(&["push", "--quiet", "--force", "origin", &format!("{other}:{STATE}")]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 6 && out.stderr.contains(&other), "{out}");

    stage.remote.git(&["update-ref", "-d", STATE]);
    let out = ada.orchestra(&["sync"]);
    assert!(out.code == 6 && out.stderr.contains("is gone") && out.stderr.contains(&second), "{out}");
    assert_eq!(state(&ada), second);

    // What the hint says.
    let accept = out.stderr.lines().find_map(|line| line.split_once("git update-ref -d ")).unwrap().1;
    let accept: Vec<&str> = accept.split(' ').collect();
    ada.git(&["update-ref", "-d", accept[0], accept[1]]);
    assert_eq!(ada.ok(&["sync"]), "to origin: state");
    assert_eq!(stage.tip(STATE), second);
}

#[test]
fn fetch_moves_tracking_refs_alone_and_push_merges_what_was_first() {
    let stage = Stage::new();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    ada.ok(&["task", "add", "From Ada"]);
    ada.ok(&["push"]);
    bob.ok(&["task", "add", "From Bob"]);
    let own = state(&bob);
    assert_eq!(bob.ok(&["fetch"]), "new on origin: state");
    assert_eq!((state(&bob), bob.git(&["rev-parse", TRACKING])), (own, state(&ada)));
    assert!(!bob.git_dir().join("FETCH_HEAD").exists());
    let pushed = bob.json(&["push"]);
    assert_eq!(pushed["data"]["received"].as_array().unwrap().len(), 1, "{pushed:#}");
    assert_eq!(stage.tip(STATE), state(&bob));
    assert_eq!(titles(&bob), ["From Ada", "From Bob"]);
}

#[test]
fn many_machines_at_once_lose_nothing() {
    let stage = Stage::new();
    let machines: Vec<Sandbox> = (0..4).map(|_| machine(&stage.path())).collect();
    std::thread::scope(|scope| {
        for (number, machine) in machines.iter().enumerate() {
            scope.spawn(move || {
                for round in 0..3 {
                    machine.ok(&["task", "add", &format!("{number}.{round}")]);
                    machine.ok(&["sync"]);
                }
            });
        }
    });
    for machine in &machines {
        machine.ok(&["sync"]);
        assert_eq!(titles(machine).len(), 12);
        assert_eq!(state(machine), stage.tip(STATE));
    }
}

#[test]
fn what_the_configuration_says_of_a_remote_runs_nothing() {
    let stage = Stage::new();
    let ada = machine(&stage.path());
    let witness = ada.root().join("ran");
    let command = format!("touch {}; git-upload-pack", witness.display());
    let keys = ["remote.origin.uploadpack", "remote.origin.receivepack", "core.askPass", "core.sshCommand"];
    for key in keys {
        ada.git(&["config", key, &command]);
    }
    ada.git(&["config", "remote.origin.mirror", "true"]);
    ada.git(&["config", "remote.origin.fetch", "+refs/*:refs/*"]);
    ada.ok(&["task", "add", "One"]);
    ada.ok(&["sync"]);
    ada.ok(&["task", "add", "Two"]);
    ada.ok(&["sync"]);
    assert!(!witness.exists());
    let refs = stage.remote.git(&["for-each-ref", "--format=%(refname)"]);
    let notes = ["refs/notes/orchestra/findings", "refs/notes/orchestra/provenance"];
    let all = ["refs/heads/main", notes[0], notes[1], STATE];
    assert_eq!(refs.lines().collect::<Vec<_>>(), all, "nothing is mirrored");
}

#[test]
fn every_format_of_repository_syncs() {
    for (reftable, sha256) in [(true, false), (false, true), (true, true)] {
        let layout = Layout { reftable, sha256, ..Layout::default() };
        let stage = Stage { remote: Sandbox::with(Layout { bare: true, ..layout }) };
        let machines = [Sandbox::with(layout), Sandbox::with(layout)];
        for (number, machine) in machines.iter().enumerate() {
            machine.git(&["remote", "add", "origin", &stage.path()]);
            machine.ok(&["task", "add", &format!("{number}")]);
            machine.ok(&["sync"]);
        }
        machines[0].ok(&["sync"]);
        assert_eq!(state(&machines[0]), state(&machines[1]), "{layout:?}");
        assert_eq!(titles(&machines[0]), ["0", "1"]);
        machines[0].assert_sound();
    }
}

#[test]
fn branches_of_agents_go_on_request() {
    let stage = Stage::new();
    let ada = machine(&stage.path());
    let file = ada.home().join(".config/git-orchestra/config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let profile = "[profile.worker]\nprogram = 'command'\ncommand = ['sh', '-c', 'echo done >work.txt']\n";
    std::fs::write(file, profile).unwrap();
    ada.ok(&["task", "add", "Work"]);
    ada.ok(&["spawn", "--profile", "worker", "--name", "blue-heron"]);
    ada.ok(&["push"]);
    let branch = "refs/heads/orchestra/blue-heron";
    assert_eq!(stage.remote.git(&["for-each-ref", branch]), "");
    let said = ada.ok(&["push", "--branches"]);
    assert_eq!(said, "to origin: orchestra/blue-heron");
    // A push does not look what is there, and does not say that it did.
    assert_eq!(ada.ok(&["push"]), "nothing here that origin was not sent before; `sync` asks it");
    assert_eq!(stage.tip(branch), ada.git(&["rev-parse", branch]));
}

#[test]
fn a_branch_that_the_remote_does_not_take_keeps_back_no_state() {
    let stage = Stage::new();
    let (ada, bob) = (machine(&stage.path()), machine(&stage.path()));
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    let file = bob.home().join(".config/git-orchestra/config.toml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let profile = "[profile.worker]\nprogram = 'command'\ncommand = ['sh', '-c', 'echo done >work.txt']\n";
    std::fs::write(file, profile).unwrap();
    bob.ok(&["spawn", "--profile", "worker", "--name", "blue-heron", "-m", "Work"]);
    // Another history has that name there, and the state is ahead of what this machine knows of it.
    bob.git(&["push", "--quiet", "origin", "main:refs/heads/orchestra/blue-heron"]);
    let other = stage.remote.git(&["commit-tree", "-m", "other", "main^{tree}"]);
    stage.remote.git(&["update-ref", "refs/heads/orchestra/blue-heron", &other]);
    ada.ok(&["task", "add", "First"]);
    ada.ok(&["sync"]);
    bob.ok(&["task", "add", "Second"]);
    let out = bob.orchestra(&["push", "--branches"]);
    assert!(out.code == 1 && out.stderr.contains("the remote has other commits on it"), "{out}");
    assert!(out.stdout.contains("state"), "{out}");
    assert_eq!(stage.tip(STATE), bob.git(&["rev-parse", STATE]));
}

#[test]
fn a_clone_without_contents_gets_those_of_the_state() {
    let stage = Stage::new();
    stage.remote.git(&["config", "uploadpack.allowFilter", "true"]);
    let ada = machine(&stage.path());
    ada.ok(&["task", "add", "First"]);
    ada.ok(&["sync"]);
    let bob = machine(&format!("file://{}", stage.path()));
    for (key, value) in [
        ("core.repositoryFormatVersion", "1"),
        ("extensions.partialClone", "origin"),
        ("remote.origin.promisor", "true"),
        ("remote.origin.partialCloneFilter", "blob:none"),
    ] {
        bob.git(&["config", key, value]);
    }
    bob.ok(&["sync"]);
    assert_eq!(titles(&bob), ["First"]);
    bob.ok(&["task", "add", "Second"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    assert_eq!(titles(&ada), ["First", "Second"]);
}

#[test]
fn a_remote_has_to_be_there() {
    let machine = Sandbox::new();
    let out = machine.orchestra(&["sync"]);
    assert!(out.code == 1 && out.stderr.contains("this repository has none"), "{out}");
    machine.git(&["remote", "add", "a", "/nowhere/a.git"]);
    machine.git(&["remote", "add", "b", "/nowhere/b.git"]);
    let out = machine.orchestra(&["sync"]);
    assert!(out.code == 1 && out.stderr.contains("choose a remote among a, b"), "{out}");
    let out = machine.orchestra(&["sync", "--", "--upload-pack=touch x"]);
    assert!(out.code == 1 && out.stderr.contains("find the remote"), "{out}");
    let out = machine.orchestra(&["sync", "a"]);
    assert!(out.code == 1 && out.stderr.contains("does not appear to be a git repository"), "{out}");
}

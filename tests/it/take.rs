//! An agent of another machine goes on here; and what is known of other machines.

use nix::sys::signal::Signal;

use crate::acceptance_codex::{configure, figures, the_agent};
use crate::claims::{claims, field, machine, remote, task};
use crate::harness::programs::{codex, use_claude};
use crate::harness::{Answer, Endpoint, Sandbox, Step, openai, wait_for};
use crate::worker::{Running, with_task, workshop};

#[test]
fn an_agent_of_a_dead_machine_goes_on_here() {
    let remote = remote();
    let script = "echo one >one.txt; git add -A; git commit -qm one; echo half >half.txt; echo said this; exec sleep 600";
    let mut ada = workshop(&remote, script);
    ada.set_env("ORCHESTRA_CLAIM_TTL", "2s");
    ada.set_env("ORCHESTRA_TRANSCRIPTS", "remote");
    let id = task(&ada, "Slow");
    ada.ok(&["sync"]);
    let bob = workshop(&remote, "printf %s \"$GIT_ORCHESTRA_PROMPT\" >prompt.txt; echo two >two.txt");
    let name = format!("slow-{}", &id[..6]);
    let worker = Running::start(&ada, &["--once"]);
    let snapshot = || remote.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/snapshots"]);
    wait_for("a snapshot of all that it did", || {
        let names = remote.try_git_in(remote.repo(), &["show", "--name-only", "--format=", &snapshot()], b"");
        names.stdout.contains("half.txt").then_some(())
    });
    bob.ok(&["sync"]);
    let fleet = bob.ok(&["status", "--machines"]);
    assert!(fleet.contains(&name) && fleet.contains("old by our clock"), "{fleet}");
    let out = bob.orchestra(&["take", &name]);
    assert!(
        out.code == 1
            && out.stderr.contains("of 2 s by this machine's clock")
            && out.stderr.contains("is lost"),
        "{out}"
    );
    worker.signal(Signal::SIGKILL);
    drop(worker);
    let out = wait_for("the time to pass", || {
        let out = bob.orchestra(&["take", &name, "-m", "Be quick."]);
        (out.code == 0).then_some(out)
    });
    assert!(out.stderr.contains("its branch, what it had not committed"), "{out}");
    let branch = format!("orchestra/{name}");
    let prompt = bob.git(&["show", &format!("{branch}:prompt.txt")]);
    for words in
        ["Slow", "Be quick.", "Another agent has begun with this", "half.txt", "not heard of any more"]
    {
        assert!(prompt.contains(words), "{words}: {prompt}");
    }
    let subjects = bob.git(&["log", "--format=%s", "-3", &branch]);
    assert_eq!(subjects, format!("Slow\nUncommitted work of {name}\none"));
    assert_eq!(field(&bob, &id, "fence"), 2);
    assert!(out.stderr.contains("command goes on with no conversation of another machine"), "{out}");
    assert_eq!(remote.git(&["show", &format!("{branch}:two.txt")]), "two", "its result arrived");
    assert!(claims(&remote).is_empty(), "and the claim is over");
    // The machine that was dead comes back: it is not its agent any more.
    ada.orchestra(&["recover"]);
    ada.ok(&["sync"]);
    let out = ada.orchestra(&["resume", &name]);
    assert!(out.code == 1 && out.stderr.contains("git orchestra take"), "{out}");
    assert_eq!(field(&ada, &id, "fence"), 2);
    bob.ok(&["resume", &name]);
}

#[test]
fn an_agent_that_is_done_goes_on_anywhere() {
    let remote = remote();
    let mut ada = workshop(&remote, "echo one >one.txt; echo said this; exit 3");
    ada.set_env("ORCHESTRA_TRANSCRIPTS", "remote");
    let id = task(&ada, "Quick");
    assert_eq!(ada.orchestra(&["worker", "--once"]).code, 4);
    let bob = workshop(&remote, "printf %s \"$GIT_ORCHESTRA_PROMPT\" >prompt.txt");
    let name = format!("quick-{}", &id[..6]);
    let out = ada.orchestra(&["take", &name]);
    assert!(out.code == 1 && out.stderr.contains("it is of this machine"), "{out}");
    let out = bob.orchestra(&["take", &name]);
    assert!(out.code == 0 && out.stderr.contains("its transcript"), "{out}");
    let prompt = bob.git(&["show", &format!("orchestra/{name}:prompt.txt")]);
    assert!(prompt.contains("it said: said this") && prompt.contains("one.txt"), "{prompt}");
}

#[test]
fn an_agent_of_which_nothing_was_sent_is_not_said_to_come_with_its_branch() {
    let (remote, ada, id) = with_task("echo one >one.txt", "Quick");
    ada.ok(&["spawn", &id]);
    ada.ok(&["sync"]);
    let bob = workshop(&remote, "echo two >two.txt");
    let out = bob.orchestra(&["take", "quick", "--force"]);
    assert!(out.stderr.contains("nothing but its record"), "{out}");
    assert!(out.stderr.contains("nothing that quick made was sent to the remote"), "{out}");
    // What was sent comes along, whoever sent it.
    let id = task(&ada, "Slow");
    ada.ok(&["sync"]);
    ada.ok(&["spawn", &id]);
    ada.ok(&["push", "--branches"]);
    ada.ok(&["sync"]);
    let out = bob.orchestra(&["take", "slow", "--force"]);
    assert!(out.stderr.contains(": its branch"), "{out}");
    assert_eq!(bob.git(&["show", "orchestra/slow:one.txt"]), "one");
}

#[test]
fn the_fleet_of_the_last_look_is_shown_when_nobody_can_be_asked() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    let id = task(&ada, "One");
    let new = ada.orchestra(&["status", "--all"]);
    assert!(new.stderr.contains("nothing was exchanged with origin yet"), "{new}");
    let new = ada.json(&["status", "--all"]);
    assert!(new["fleet"]["reason"].as_str().unwrap().contains("nothing was exchanged with origin"), "{new}");
    ada.ok(&["sync"]);
    ada.ok(&["task", "claim", &id]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    bob.ok(&["status", "--machines"]);

    // The remote is off. As JSON nobody is asked in any case.
    let url = remote.repo().to_str().unwrap().to_owned();
    bob.git(&["remote", "set-url", "origin", "/nowhere.git"]);
    let off = bob.json(&["status", "--all"]);
    let machines = off["fleet"]["machines"].as_array().unwrap();
    let presence: Vec<&str> = machines.iter().map(|one| one["presence"].as_str().unwrap()).collect();
    assert_eq!(presence, ["unseen", "heard"], "{off}");
    assert!(off["fleet"]["age"].is_u64() && off["fleet"].get("reason").is_none(), "{off}");
    for args in [["status", "--all"], ["status", "--machines"]] {
        let out = bob.orchestra(&args);
        assert!(out.code == 0 && out.stdout.contains(&id[..4]), "{out}");
        assert!(out.stdout.contains("old by our clock"), "{out}");
        assert!(out.stderr.contains("other machines are as the remote had them"), "{out}");
    }
    // It went back.
    bob.git(&["remote", "set-url", "origin", &url]);
    remote.git(&["update-ref", "-d", "refs/orchestra/state"]);
    for args in [["status", "--all"], ["status", "--machines"]] {
        let out = bob.orchestra(&args);
        assert!(out.code == 6 && out.stdout.contains(&id[..4]), "{out}");
        assert!(out.stderr.contains("is gone") && out.stderr.contains("had them"), "{out}");
    }
}

#[test]
fn machines_are_as_old_as_we_know_them_to_be() {
    let remote = remote();
    let (ada, bob) = (machine(&remote), machine(&remote));
    assert!(ada.orchestra(&["status", "--machines"]).stderr.contains("no other machine is known"));
    let id = task(&ada, "One");
    ada.ok(&["sync"]);
    ada.ok(&["task", "claim", &id]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    let fleet = bob.json(&["status", "--machines"]);
    let fleet = fleet["data"].as_array().unwrap();
    assert_eq!(fleet.len(), 2, "{fleet:?}");
    assert!(fleet[0]["own"] == true && fleet[0]["presence"] == "unseen", "we said nothing yet: {fleet:?}");
    assert!(fleet[1]["presence"] == "heard" && fleet[1]["holds"][0] == id.as_str(), "{fleet:?}");
    remote.git(&[
        "update-ref",
        "-d",
        &format!("refs/orchestra/machines/{}", fleet[1]["machine"].as_str().unwrap()),
    ]);
    let text = bob.ok(&["status", "--all"]);
    assert!(text.contains("unseen") && text.contains("this one"), "{text}");
}

/// A machine whose agents are the real Claude Code.
fn with_claude(remote: &Sandbox, endpoint: &Endpoint) -> Sandbox {
    let mut machine = machine(remote);
    use_claude(&mut machine, endpoint);
    machine.set_env("ORCHESTRA_TRANSCRIPTS", "remote");
    machine.set_env("ORCHESTRA_CLAIM_TTL", "2s");
    machine.ok(&["sync"]);
    machine
}

#[test]
fn a_conversation_goes_on_on_another_machine_and_is_nobody_elses_meanwhile() {
    const SECRET: &str = "sk-ant-api03-ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let endpoint = Endpoint::start([
        (
            "begin",
            vec![
                Step::write("one.txt", "one\n").saying("The word is heron."),
                Step::read("one.txt").saying(&format!("The key is {SECRET}.")),
                Step::say("Never said.").behind("never"),
            ],
        ),
        ("more", vec![Step::write("two.txt", "two\n").behind("gate"), Step::say("It was heron.")]),
    ]);
    let remote = remote();
    let ada = with_claude(&remote, &endpoint);
    let id = task(&ada, "Remember [script:begin]");
    ada.ok(&["sync"]);
    let worker = Running::start(&ada, &["--once"]);
    wait_for("the third request", || (endpoint.seen_by("begin").len() >= 3).then_some(()));
    let said = || remote.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/said"]);
    wait_for("what it said", || {
        let file = format!("{}:conversation.jsonl", said());
        let text = remote.try_git_in(remote.repo(), &["show", &file], b"").stdout;
        assert!(!text.contains("ABCDEFGHIJ"), "a secret travelled: {text}");
        text.contains("[redacted:").then_some(())
    });
    worker.signal(Signal::SIGKILL);
    drop(worker);

    let (bob, eve) = (with_claude(&remote, &endpoint), with_claude(&remote, &endpoint));
    let agents = bob.json(&["status", "--all"]);
    let name = agents["data"][0]["name"].as_str().unwrap_or_else(|| panic!("{agents}")).to_owned();
    let taking = std::thread::scope(|scope| {
        let taking = scope.spawn(|| {
            wait_for("the time to pass", || {
                let out = bob.orchestra(&["take", &name, "-m", "[script:more]"]);
                (!out.stderr.contains("by this machine's clock")).then_some(out)
            })
        });
        wait_for("Bob's request", || (endpoint.waiting_at("gate") > 0).then_some(()));
        // Longer than its time: it is heard of, so it keeps it.
        let beats = || remote.git(&["for-each-ref", "refs/orchestra/machines"]);
        for _ in 0..6 {
            let (out, before) = (eve.orchestra(&["take", &name]), beats());
            assert!(out.code == 1 && out.stderr.contains("by this machine's clock"), "{out}");
            wait_for("another heartbeat", || (beats() != before).then_some(()));
        }
        endpoint.open("gate");
        taking.join().unwrap()
    });
    assert_eq!(taking.code, 0, "{taking}");
    assert!(taking.stderr.contains("its conversation goes on"), "{taking}");
    let request = &endpoint.seen_by("more")[0].body["messages"].to_string();
    for words in
        ["Remember", "The word is heron.", "tool_result", "The key is [redacted:", "another machine now"]
    {
        assert!(request.contains(words), "{words}: {request}");
    }
    assert!(!request.contains(ada.root().to_str().unwrap()), "paths of the other machine: {request}");
    assert!(request.contains("one.txt"), "{request}");
    let branch = format!("refs/heads/orchestra/{name}");
    assert_eq!(remote.git(&["show", &format!("{branch}:two.txt")]), "two", "its result arrived");
    assert_eq!(remote.git(&["show", &format!("{branch}:one.txt")]), "one");
    assert!(claims(&remote).is_empty(), "and the claim is over");
    assert_eq!(field(&bob, &id, "fence"), 2);
    // The one that it was taken from publishes nothing any more.
    let tip = remote.git(&["rev-parse", &branch]);
    let out = ada.orchestra(&["worker", "--until-empty"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(remote.git(&["rev-parse", &branch]), tip);
    // Here it is one conversation from now on.
    let out = bob.orchestra(&["resume", &name, "-m", "[script:more] again"]);
    assert_eq!(out.code, 0, "{out}");
    let last = endpoint.seen_by("more").pop().unwrap().body["messages"].to_string();
    assert!(last.contains("The word is heron.") && last.contains("It was heron."), "{last}");
}

#[test]
fn a_conversation_of_codex_goes_on_too() {
    let model = openai::start([
        ("begin", vec![Answer::write("one.txt", "one\n").saying("The word is heron."), Answer::say("Done.")]),
        ("more", vec![Answer::run("cat one.txt").tokens([70, 0, 7, 0]), Answer::say("It was heron.")]),
    ]);
    let remote = remote();
    let [ada, bob] = [(), ()].map(|()| {
        let mut machine = machine(&remote);
        openai::use_model(&mut machine, &model);
        let profile = format!("[profile.codex]\ncommand = ['{}']\n", codex().display());
        configure(&machine, &format!("default-profile = 'codex'\ntranscripts = 'remote'\n{profile}"));
        machine
    });
    let id = task(&ada, "Remember [script:begin]");
    let out = ada.orchestra(&["worker", "--once"]);
    assert_eq!(out.code, 0, "{out}");
    bob.ok(&["sync"]);
    let agents = bob.json(&["status", "--all"]);
    let name = agents["data"][0]["name"].as_str().unwrap();
    let out = bob.orchestra(&["take", name, "-m", "[script:more]"]);
    assert_eq!(out.code, 0, "{out}");
    assert!(out.stderr.contains("its conversation goes on"), "{out}");
    let request = model.asked_by("more")[0].body["input"].to_string();
    for words in ["Remember", "The word is heron.", "one.txt", "another machine now"] {
        assert!(request.contains(words), "{words}: {request}");
    }
    assert!(!request.contains(ada.root().to_str().unwrap()), "paths of the other machine: {request}");
    assert_eq!(field(&bob, &id, "fence"), 2);
    let agent = the_agent(&bob, name);
    assert_eq!(figures(&agent, 2)[0], 70 + 100, "only its own tokens: {:?}", agent.runs);
}

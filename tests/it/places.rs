//! The places of a conflict, answered one by one: on a terminal, off one, and from another clone.

use crate::harness::Sandbox;
use crate::harness::terminal::Terminal;
use crate::merge::{fleet, open_decision};
use std::process::Stdio;

/// Two agents that clash in lines 2 and 9 of `src/f`, and meet nowhere else.
fn clashing_twice() -> Sandbox {
    fleet(&[
        ("blue-heron", &[("src/f", "1\nblue 2\n3\n4\n5\n6\n7\n8\nblue 9\n10\n"), ("new", "n\n")]),
        ("grey-fox", &[("src/f", "1\ngrey 2\n3\n4\n5\n6\n7\n8\ngrey 9\nmore\n10\n")]),
    ])
}

#[test]
fn off_a_terminal_each_place_has_its_answer() {
    let sandbox = clashing_twice();
    let waiting = sandbox.orchestra(&["merge"]);
    assert_eq!(waiting.code, 3, "{waiting}");
    assert!(waiting.stderr.contains("with --path PATH --place N for one place of it alone"), "{waiting}");
    let id = open_decision(&sandbox);
    let asked = sandbox.json(&["show", &id]);
    let clashes = asked["data"]["clashes"].as_array().unwrap();
    assert_eq!(clashes.len(), 2, "{asked}");
    assert_eq!(clashes[1]["lines"], serde_json::json!({"start": 9, "len": 1}));
    let lost = serde_json::json!({"answer": "ours", "of": "grey-fox", "added": 2, "removed": 0});
    assert!(clashes[1]["leaves_out"].as_array().unwrap().contains(&lost), "{asked}");

    let shown = sandbox.ok(&["show", &id]);
    for words in [
        "<<<<<<< blue-heron (place 2)",
        "Place 2:\n\n    - `ours` leaves out 2 lines of grey-fox\n    - `theirs` leaves out 1 line of blue-heron\n",
        "    - `union` leaves nothing out",
        "take grey-fox, leaves out 2 lines of blue-heron",
    ] {
        assert!(shown.contains(words), "{words}\n{shown}");
    }
    let no_place = sandbox.orchestra(&["decide", &id, "ours", "--place", "3"]);
    assert!(no_place.stderr.contains("src/f clashes in 2 places, numbered from 1"), "{no_place}");
    assert_eq!(sandbox.orchestra(&["decide", &id, "skip", "--place", "1"]).code, 1, "not for one place");

    let first = sandbox.orchestra(&["decide", &id, "theirs", "--place", "1"]);
    assert!(first.stderr.contains("src/f, place 1: take grey-fox\nstill open: src/f:2"), "{first}");
    assert_eq!(sandbox.orchestra(&["merge", "--continue"]).code, 3, "half an answer is none");
    sandbox.ok(&["decide", &id, "union", "--path", "src/f", "--place", "2"]);
    sandbox.ok(&["merge", "--continue"]);
    assert_eq!(sandbox.read("src/f"), "1\ngrey 2\n3\n4\n5\n6\n7\n8\nblue 9\ngrey 9\nmore\n10\n");
    assert_eq!(sandbox.orchestra(&["verify"]).code, 0);
    assert!(sandbox.ok(&["show", &id]).contains("src/f:1: theirs by Ada Example"));
    sandbox.assert_sound();
}

#[test]
fn on_a_terminal_each_place_is_shown_and_asked_about() {
    let sandbox = clashing_twice();
    let mut terminal = Terminal::orchestra(&sandbox, &["merge", "--yes"], 60, 100);
    terminal.wait_for("[a/o/t/u/e/p/s/q/?]");
    let screen = terminal.screen();
    for words in [
        "p  decide each of its 2 places by itself",
        "t  take grey-fox, leaves out 2 lines of blue-heron",
        "u  keep the lines of both, those of blue-heron first",
    ] {
        assert!(screen.contains(words), "{words}\n{screen}");
    }
    terminal.type_in("p\r");
    terminal.wait_for("src/f place 1 of 2");
    terminal.wait_for("[o/t/u/e/w/s/q/?]");
    terminal.type_in("u\r");
    terminal.wait_for("src/f place 2 of 2");
    terminal.type_in("w\r");
    terminal.wait_for("p  decide each of its 2 places by itself");
    terminal.type_in("p\r");
    terminal.type_in("o\r");
    terminal.type_in("t\r");
    terminal.wait_for("main is at");
    assert_eq!(terminal.end(), 0);
    assert_eq!(
        sandbox.read("src/f"),
        "1\nblue 2\n3\n4\n5\n6\n7\n8\ngrey 9\nmore\n10\n",
        "the last word counts"
    );
}

#[test]
fn another_clone_answers_without_having_the_branches() {
    let ada = clashing_twice();
    let remote = ada.add_remote();
    ada.git(&["push", "--quiet", "origin", "main"]);
    assert_eq!(ada.orchestra(&["merge"]).code, 3);
    let id = open_decision(&ada);
    ada.ok(&["sync"]);

    let bob = Sandbox::new();
    bob.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    bob.ok(&["sync"]);
    assert!(bob.ok(&["show", &id]).contains("- `union` leaves nothing out"));
    assert_eq!(bob.orchestra(&["decide", &id, "ours", "--place", "3"]).code, 1, "known there too");
    bob.ok(&["decide", &id, "edit", "--place", "1", "-m", "both 2"]);
    bob.ok(&["decide", &id, "theirs", "--place", "2"]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    ada.ok(&["merge", "--continue"]);
    assert_eq!(ada.read("src/f"), "1\nboth 2\n3\n4\n5\n6\n7\n8\ngrey 9\nmore\n10\n");
}

/// Whoever comes second finds it landed, or finds nothing to go on with.
#[test]
fn of_two_that_go_on_at_once_one_lands_it_and_the_other_says_so() {
    for _ in 0..3 {
        let sandbox = clashing_twice();
        assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
        sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"]);
        let go_on = || {
            let mut command = sandbox.command(crate::harness::sandbox::ORCHESTRA);
            command
                .args(["merge", "--continue"])
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        };
        let both = [go_on(), go_on()].map(|child| child.wait_with_output().unwrap());
        let said = both.map(|out| (out.status.code(), String::from_utf8(out.stderr).unwrap()));
        assert!(said.iter().any(|(code, _)| *code == Some(0)), "{said:?}");
        for (code, words) in &said {
            let is_over = words.contains("another process went on with it meanwhile, and it has landed");
            assert!(!words.contains("it is landed"), "{said:?}");
            assert!(*code == Some(0) || !is_over, "{said:?}");
        }
        assert!(sandbox.read("src/f").contains("grey 9"));
    }
}

#[test]
fn a_path_that_git_makes_up_for_a_conflict_is_shown_as_the_one_it_is_of() {
    let sandbox =
        fleet(&[("blue-heron", &[("src/new", "a file\n")]), ("grey-fox", &[("src/new/one", "below\n")])]);
    let overlap = sandbox.ok(&["overlap"]);
    assert!(
        overlap.contains("blue-heron and grey-fox: conflict\n    src/new  of different kinds"),
        "{overlap}"
    );
    let json = sandbox.json(&["overlap"]);
    let pairs = json["data"]["pairs"].as_array().unwrap();
    let found = pairs.iter().find(|pair| pair["forecast"]["is"] == "conflict").unwrap();
    let told = serde_json::json!({"is": "conflict", "paths": ["src/new"], "kinds_differ": ["src/new"]});
    assert_eq!(found["forecast"], told);
    let plan = sandbox.ok(&["merge", "--dry-run"]);
    assert!(plan.contains("conflicts in src/new (of different kinds)\n"), "{plan}");
    let plan = sandbox.json(&["merge", "--dry-run"]);
    let conflicts: Vec<_> = plan["data"]["conflicts"].as_object().unwrap().values().collect();
    assert_eq!(conflicts, [&serde_json::json!(["src/new"])]);
}

#[test]
fn a_clone_without_the_work_says_what_is_missing_and_goes_on_once_it_is_there() {
    let ada = clashing_twice();
    let remote = ada.add_remote();
    ada.git(&["push", "--quiet", "origin", "main"]);
    assert_eq!(ada.orchestra(&["merge"]).code, 3);
    ada.ok(&["sync"]);
    let bob = Sandbox::new();
    bob.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    bob.git(&["fetch", "--quiet", "origin", "main"]);
    bob.git(&["reset", "--quiet", "--hard", "FETCH_HEAD"]);
    bob.ok(&["sync"]);
    let refused = bob.orchestra(&["merge", "--continue"]);
    assert_eq!(refused.code, 1, "{refused}");
    for words in [
        ": the work of blue-heron, grey-fox is not in this clone",
        "`git fetch REMOTE orchestra/blue-heron orchestra/grey-fox` brings what a remote has of it",
        "`git orchestra push --branches`, where the merge was begun, sends it there",
    ] {
        assert!(refused.stderr.contains(words), "{words}\n{refused}");
    }
    assert!(!refused.stderr.contains("fatal:"), "{refused}");

    ada.ok(&["push", "--branches"]);
    bob.git(&["fetch", "--quiet", "origin", "orchestra/blue-heron", "orchestra/grey-fox"]);
    assert_eq!(bob.orchestra(&["merge", "--continue"]).code, 3);
    bob.ok(&["decide", &open_decision(&bob), "theirs"]);
    bob.ok(&["merge", "--continue"]);
    assert_eq!(bob.read("src/f"), "1\ngrey 2\n3\n4\n5\n6\n7\n8\ngrey 9\nmore\n10\n");
}

#[test]
fn what_was_answered_is_not_asked_again_when_the_target_moves() {
    let sandbox = clashing_twice();
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    let first = open_decision(&sandbox);
    sandbox.ok(&["decide", &first, "theirs", "--place", "1"]);
    sandbox.plumb_commit("refs/heads/main", "moved", &[("src/f", "1\n2\n3\n4\n5\nmain 6\n7\n8\n9\n10\n")]);
    sandbox.git(&["reset", "--quiet", "--hard"]);
    let waiting = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(waiting.code, 3, "{waiting}");
    assert!(waiting.stderr.contains("still open: src/f:2; the rest has its answers"), "{waiting}");
    let again = open_decision(&sandbox);
    assert_ne!(again, first);
    let shown = sandbox.ok(&["show", &again]);
    assert!(shown.contains("src/f:1: theirs by Ada Example"), "{shown}");
    assert!(shown.contains(&format!("src/f:1: repeats decision {first}")), "{shown}");

    let mut terminal = Terminal::orchestra(&sandbox, &["merge", "--continue"], 60, 100);
    terminal.wait_for("[o/t/u/e/w/s/q/?]");
    let screen = terminal.screen();
    assert!(screen.contains("1 place keeps its answer") && screen.contains("src/f place 2 of 2"), "{screen}");
    terminal.type_in("o\r");
    assert_eq!(terminal.end(), 0);
    assert_eq!(sandbox.read("src/f"), "1\ngrey 2\n3\n4\n5\nmain 6\n7\n8\nblue 9\n10\n");
}

/// Ada signs commits with an SSH key, and this user knows whose it is.
fn knows_adas_key(sandbox: &Sandbox, public: &str) {
    let known = sandbox.home().join("known");
    std::fs::write(&known, format!("ada@example.org {public}\n")).unwrap();
    sandbox.git(&["config", "--global", "gpg.ssh.allowedSignersFile", known.to_str().unwrap()]);
    sandbox.git(&["config", "--global", "gpg.format", "ssh"]);
}

#[test]
fn an_answer_is_signed_where_commits_are_and_verified_anywhere() {
    let ada = clashing_twice();
    let key = ada.home().join("key");
    let mut keygen = ada.command("ssh-keygen");
    keygen.args(["-q", "-t", "ed25519", "-N", "", "-C", "", "-f"]).arg(&key);
    assert!(keygen.status().unwrap().success());
    let public = std::fs::read_to_string(key.with_extension("pub")).unwrap();
    knows_adas_key(&ada, &public);
    let remote = ada.add_remote();
    assert_eq!(ada.orchestra(&["merge"]).code, 3);
    let id = open_decision(&ada);
    ada.ok(&["decide", &id, "ours", "--place", "1"]);

    ada.git(&["config", "commit.gpgSign", "true"]);
    let failed = ada.orchestra(&["decide", &id, "theirs", "--place", "2"]);
    assert!(failed.code == 1 && failed.stderr.contains("sign the answer"), "no key yet: {failed}");
    ada.git(&["config", "user.signingKey", key.to_str().unwrap()]);
    ada.ok(&["decide", &id, "theirs", "--place", "2"]);
    let proofs = ada.json(&["show", &id])["data"]["proofs"].clone();
    let is = |proofs: &serde_json::Value, on: &str| {
        let found = proofs.as_array().unwrap().iter().find(|proof| proof["on"] == on).unwrap();
        found["is"].as_str().unwrap().to_owned()
    };
    assert_eq!(
        (is(&proofs, "place src/f:1"), is(&proofs, "place src/f:2")),
        ("unsigned".into(), "verified".into())
    );
    ada.ok(&["merge", "--continue"]);
    ada.ok(&["sync"]);

    let bob = Sandbox::new();
    bob.git(&["remote", "add", "origin", remote.to_str().unwrap()]);
    bob.ok(&["sync"]);
    let proofs = bob.json(&["show", &id])["data"]["proofs"].clone();
    assert_eq!(is(&proofs, "place src/f:2"), "unknown", "whose key it is nobody has told Bob: {proofs}");
    let missing = "signed, and `gpg.ssh.allowedSignersFile` is not set in your own configuration";
    assert!(bob.ok(&["show", &id]).contains(missing), "{proofs}");
    knows_adas_key(&bob, &public);
    let shown = bob.ok(&["show", &id]);
    assert!(shown.contains("src/f:1: unverified, not signed"), "{shown}");
    assert!(shown.contains("src/f:2: verified, signed by ada@example.org with SHA256:"), "{shown}");
    // Of the merge the same is said, and that its receipt cannot be held against trees that are not here.
    let merge = bob.json(&["show", &id])["data"]["merge"].as_str().unwrap().to_owned();
    let shown = bob.ok(&["show", &merge]);
    assert!(
        shown.contains("src/f:1: ours by Ada Example <ada@example.org>, unverified, not signed"),
        "{shown}"
    );
    assert!(
        shown.contains("src/f:2: theirs by Ada Example <ada@example.org>, verified, signed by"),
        "{shown}"
    );
    assert!(shown.contains("  unverified: its commits are not in this clone\n"), "{shown}");
    assert_eq!(bob.json(&["show", &merge])["data"]["checked"]["is"], "not-checked");
    assert!(ada.ok(&["show", &merge]).contains("  verified: the trees say the same\n"));
}

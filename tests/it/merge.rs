//! `overlap`, `merge` and `decide` as a user meets them: on a terminal, off one, killed half-way.

use crate::harness::sandbox::{ORCHESTRA, write_in};
use crate::harness::terminal::Terminal;
use crate::harness::{Layout, Sandbox};
use git_orchestra::git::{Identity, Repository};
use git_orchestra::model::{Agent, Task};
use git_orchestra::process::SystemClock;
use git_orchestra::store::Store;
use std::process::Stdio;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NUMBERS: &str = "1\n2\n3\n4\n5\n6\n7\n8\n9\n10\n";

/// A repository with agents whose branches exist, without any program having run.
pub(crate) fn fleet(agents: &[(&str, &[(&str, &str)])]) -> Sandbox {
    fleet_in(Layout::default(), agents)
}

fn fleet_in(layout: Layout, agents: &[(&str, &[(&str, &str)])]) -> Sandbox {
    let sandbox = Sandbox::with(layout);
    sandbox.plumb_commit("refs/heads/main", "base", &[("src/f", NUMBERS), ("src/g", "g\n")]);
    for checkout in sandbox.git(&["worktree", "list", "--porcelain"]).split("\n\n") {
        if checkout.contains("branch refs/heads/main") {
            let dir = checkout.lines().next().unwrap().strip_prefix("worktree ").unwrap().to_owned();
            sandbox.git_in(dir.as_ref(), &["reset", "--quiet", "--hard"]);
        }
    }
    add_agents(&sandbox, agents);
    sandbox
}

/// Agents with a commit on top of `main` each, without any program having run.
pub(crate) fn add_agents(sandbox: &Sandbox, agents: &[(&str, &[(&str, &str)])]) {
    let base = sandbox.git(&["rev-parse", "main"]);
    for (name, files) in agents {
        let branch = format!("refs/heads/orchestra/{name}");
        sandbox.git(&["update-ref", &branch, &base]);
        sandbox.plumb_commit(&branch, "work", files);
    }
    record_agents(sandbox, agents.iter().map(|(name, _)| (*name, base.as_str())));
}

/// The state, to be written without any command.
pub(crate) fn store(sandbox: &Sandbox) -> Store {
    let env = sandbox.command("git").get_envs().map(|(k, v)| (k.to_owned(), v.unwrap().to_owned())).collect();
    let repo = Repository::discover(sandbox.repo(), Arc::new(env)).unwrap();
    Store::open(repo, Arc::new(SystemClock), Identity::new("Ada Example", "ada@example.org"))
}

/// Records agents and their tasks, each with the commit that it started from: their branches are there already.
pub(crate) fn record_agents<'a>(sandbox: &Sandbox, agents: impl Iterator<Item = (&'a str, &'a str)>) {
    let store = store(sandbox);
    for (name, base) in agents {
        let (agent, task) = (store.new_id().unwrap(), store.new_id().unwrap());
        let written = store.transact(|tx| {
            let task: Task = serde_json::from_value(serde_json::json!({
                "id": task, "title": format!("The task of {name}"), "status": "started", "assignee": agent,
            }))
            .unwrap();
            let agent: Agent = serde_json::from_value(serde_json::json!({
                "id": agent, "name": name, "profile": "p", "program": "replay", "task": task.id,
                "branch": format!("refs/heads/orchestra/{name}"), "base": base,
                "target": "refs/heads/main", "created": tx.now(),
            }))
            .unwrap();
            tx.put(&task)?;
            tx.put(&agent)
        });
        written.unwrap_or_else(|error: git_orchestra::store::Error| panic!("{error}"));
    }
}

/// blue-heron and grey-fox change line 2 of `src/f`; grey-fox also line 9; red-owl only `src/g`.
pub(crate) fn clashing() -> Sandbox {
    fleet(&[
        ("blue-heron", &[("src/f", "1\nblue\n3\n4\n5\n6\n7\n8\n9\n10\n"), ("new", "n\n")]),
        ("grey-fox", &[("src/f", "1\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n")]),
        ("red-owl", &[("src/g", "gg\n")]),
    ])
}

/// The id of the one open decision.
pub(crate) fn open_decision(sandbox: &Sandbox) -> String {
    let listed = sandbox.json(&["decide"]);
    let [decision] = &listed["data"].as_array().unwrap()[..] else { panic!("{listed}") };
    decision["short"].as_str().unwrap().to_owned()
}

#[test]
fn overlap_is_readable_at_eighty_columns() {
    let mut sandbox = clashing();
    sandbox.set_env("COLUMNS", "80");
    let before = sandbox.fingerprint();
    insta::assert_snapshot!(sandbox.ok(&["overlap"]), @r"
    into main

       AGENT       AHEAD  BEHIND  FILES  LINES
    1  blue-heron      1       0      2  +2 -1
    2  grey-fox        1       0      1  +2 -2
    3  red-owl         1       0      1  +1 -1

                    main  1  2
      1 blue-heron     ·
      2 grey-fox       · 1!
      3 red-owl        ·  ·  ·

    · nothing in common   3 files in common, git merges them   2! paths conflict

    blue-heron and grey-fox: conflict
        src/f  1 line in common
    ");
    let json = sandbox.json(&["overlap", "grey-fox", "blue-heron"]);
    let [between, ..] = &json["data"]["pairs"].as_array().unwrap()[..] else { panic!("{json}") };
    assert_eq!(between["forecast"], serde_json::json!({"is": "conflict", "paths": ["src/f"]}));
    assert_eq!(between["files"], serde_json::json!([{"path": "src/f", "lines": 1}]));
    assert_eq!(json["data"]["branches"][0]["added"], 2);
    let lines = sandbox.ok(&["overlap", "--porcelain", "grey-fox", "blue-heron"]);
    assert_eq!(lines.lines().next(), Some("conflict\t1\t1\tgrey-fox\tblue-heron\t0"), "{lines}");
    assert_eq!(sandbox.fingerprint(), before);
    assert_eq!(sandbox.orchestra(&["overlap", "nobody"]).code, 1);
}

#[test]
fn a_matrix_that_goes_to_a_pipe_comes_in_parts() {
    let names: Vec<String> = (1..=40).map(|n| format!("agent-{n:02}")).collect();
    let text = "x\n";
    let files: Vec<[(&str, &str); 1]> = names.iter().map(|name| [(name.as_str(), text)]).collect();
    let agents: Vec<(&str, &[(&str, &str)])> =
        names.iter().zip(&files).map(|(name, files)| (name.as_str(), &files[..])).collect();
    let sandbox = fleet(&agents);
    let out = sandbox.orchestra(&["overlap"]);
    assert_eq!((out.code, out.stderr.as_str()), (0, ""));
    assert!(out.stdout.lines().all(|line| line.chars().count() <= 80), "{out}");
    // A cell for every pair, and for each with the target.
    let legend = out.stdout.lines().find(|line| line.starts_with('·')).unwrap();
    let cells = out.stdout.replace(legend, "").matches('·').count();
    assert_eq!(cells, 40 * 39 / 2 + 40, "{out}");
    // A terminal that is too narrow for it still shows the pairs alone.
    let mut narrow = sandbox.command(ORCHESTRA);
    let narrow = narrow.arg("overlap").env("COLUMNS", "80").output().unwrap();
    assert!(String::from_utf8_lossy(&narrow.stderr).contains("wider than the terminal"));
}

#[test]
fn a_dry_run_says_the_order_and_changes_nothing() {
    let sandbox = clashing();
    let refs = sandbox.git(&["for-each-ref"]);
    let shown = sandbox.ok(&["merge", "--dry-run"]);
    let tip = &sandbox.git(&["rev-parse", "main"])[..8];
    insta::assert_snapshot!(shown.replace(tip, "<tip>"), @r"
    merging into main at <tip>
      1. blue-heron  merges by itself
      2. red-owl     merges by itself
      3. grey-fox    conflicts in src/f
    2 of 3 merge without you, 1 conflict (in the order given: 1 of 3, 1 conflict)
    ");
    let json = sandbox.json(&["merge", "--dry-run"]);
    assert_eq!(json["data"]["score"]["before_person"], 2);
    assert_eq!(sandbox.git(&["for-each-ref"]), refs);
}

#[test]
fn off_a_terminal_a_conflict_is_a_decision_that_is_answered_later() {
    let sandbox = clashing();
    let before = sandbox.fingerprint();
    let waiting = sandbox.orchestra(&["merge"]);
    assert_eq!(waiting.code, 3, "{waiting}");
    let id = open_decision(&sandbox);
    let said =
        waiting.stderr.replace(&id, "<id>").replace(&sandbox.git(&["rev-parse", "main"])[..8], "<tip>");
    insta::assert_snapshot!(said, @r"
    merging into main at <tip>
      1. blue-heron  merges by itself
      2. red-owl     merges by itself
      3. grey-fox    conflicts in src/f
    2 of 3 merge without you, 1 conflict (in the order given: 1 of 3, 1 conflict)
    grey-fox conflicts with blue-heron in src/f; nothing has moved yet
      git orchestra show <id>
      git orchestra decide <id> agent   let an agent resolve it
      git orchestra decide <id> ours    keep what landed from blue-heron, leaves out 1 line of grey-fox
      git orchestra decide <id> theirs  take grey-fox, leaves out 1 line of blue-heron
      git orchestra decide <id> union   keep the lines of both, those of blue-heron first
      git orchestra decide <id> edit    edit the file
      git orchestra decide <id> skip    leave grey-fox out of this merge
      git orchestra decide <id> abort   give up the merge; nothing has moved
    then
      git orchestra merge --continue
    ");
    assert_eq!(sandbox.fingerprint(), before, "nothing has moved");
    let line = sandbox.ok(&["decide", "--porcelain"]);
    assert!(
        line.starts_with(&id) && line.ends_with("\tgrey-fox conflicts with blue-heron in src/f"),
        "{line}"
    );
    assert_eq!(sandbox.orchestra(&["merge"]).code, 1, "one merge at a time");
    assert_eq!(sandbox.orchestra(&["merge", "--continue"]).code, 3, "still waiting");
    assert!(sandbox.ok(&["show", &id]).contains("||||||| before both"));

    let mut agent = sandbox.command(ORCHESTRA);
    agent.args(["decide", &id, "ours"]).env("GIT_ORCHESTRA_AGENT", "g000000000000000");
    assert_eq!(agent.status().unwrap().code(), Some(1), "approval never comes from an agent");
    assert_eq!(sandbox.orchestra(&["decide", &id, "both"]).code, 1, "no such answer");
    assert_eq!(sandbox.orchestra(&["decide", &id, "edit"]).code, 2, "no terminal for an editor");

    sandbox.ok(&["decide", &id, "theirs", "--path", "src/f"]);
    let landed = sandbox.ok(&["merge", "--continue"]);
    assert!(
        landed.contains("with blue-heron, red-owl, grey-fox\nreceipt: 8 of 9 changed lines of 3 agents"),
        "{landed}"
    );
    assert_eq!(sandbox.read("src/f"), "1\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n");
    assert_eq!(sandbox.git(&["status", "--porcelain"]), "");
    let after = sandbox.fingerprint();
    assert_eq!(
        (after.config, after.user_config, after.shared),
        (before.config, before.user_config, before.shared)
    );
    let tasks = sandbox.json(&["task", "list", "--all"]);
    assert!(tasks["data"].as_array().unwrap().iter().all(|task| task["status"] == "closed"), "{tasks}");
    assert_eq!(sandbox.orchestra(&["merge"]).code, 0, "nothing is left to merge");
    sandbox.assert_sound();
}

#[test]
fn a_conflict_is_asked_about_on_a_terminal() {
    let mut sandbox = clashing();
    let script = sandbox.root().join("editor");
    std::fs::write(
        &script,
        "#!/bin/sh\ngrep -v '^[<|=>]\\{7\\}' \"$1\" > \"$1.new\" && mv \"$1.new\" \"$1\"\n",
    )
    .unwrap();
    sandbox.set_env("GIT_EDITOR", format!("sh {}", script.display()));
    let mut terminal = Terminal::orchestra(&sandbox, &["merge"], 50, 100);
    terminal.wait_for("merge these 3 branches into main?");
    terminal.type_in("y\r");
    terminal.wait_for("[a/o/t/u/e/s/q/?]");
    let screen = terminal.screen();
    for words in [
        "src/f conflicts in one place",
        "blue-heron has landed: The task of blue-heron",
        "grey-fox is being merged: The task of grey-fox",
        "keep what landed from blue-heron",
        "take grey-fox",
    ] {
        assert!(screen.contains(words), "{words}\n{screen}");
    }
    terminal.type_in("x\r");
    terminal.wait_for("q  give up the merge");
    terminal.type_in("e\r");
    terminal.wait_for("main is at");
    assert_eq!(terminal.end(), 0);
    assert_eq!(sandbox.read("src/f"), "1\nblue\n2\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n");

    let sandbox = clashing();
    let before = sandbox.fingerprint();
    let mut terminal = Terminal::orchestra(&sandbox, &["merge", "--yes"], 50, 100);
    terminal.wait_for("[a/o/t/u/e/s/q/?]");
    terminal.type_in("q\r");
    terminal.wait_for("gave the merge up");
    assert_eq!(terminal.end(), 0);
    assert_eq!(sandbox.fingerprint(), before);
    let mut terminal = Terminal::orchestra(&sandbox, &["merge", "--yes"], 50, 100);
    terminal.wait_for("[a/o/t/u/e/s/q/?]");
    terminal.type_in("s\r");
    terminal.wait_for("left out: grey-fox");
    assert_eq!(terminal.end(), 0);
    assert_eq!(sandbox.read("src/f"), "1\nblue\n3\n4\n5\n6\n7\n8\n9\n10\n");
}

#[test]
fn a_dirty_checkout_is_left_alone_and_told_about() {
    let sandbox = fleet(&[("blue-heron", &[("src/f", "one\n")])]);
    sandbox.write("src/g", "precious\n");
    let before = sandbox.fingerprint();
    let blocked = sandbox.orchestra(&["merge"]);
    assert_eq!(blocked.code, 3, "{blocked}");
    assert!(blocked.stderr.contains("uncommitted changes in src/g"), "{blocked}");
    assert_eq!(sandbox.fingerprint(), before);
    // The command that was named does it, word for word.
    let command = blocked.stderr.lines().find(|line| line.starts_with("  git -C ")).unwrap().trim();
    sandbox.git(&["stash", "-q"]);
    let args: Vec<&str> = command.split(' ').skip(1).collect();
    sandbox.git(&args);
    assert!(sandbox.ok(&["merge", "--continue"]).contains("with blue-heron"));
    assert_eq!(sandbox.read("src/f"), "one\n");
}

/// As a process that dies between the move of the branch and its record leaves it.
#[test]
fn the_next_merge_records_what_landed_unrecorded_and_goes_on() {
    let sandbox = fleet(&[("blue-heron", &[("new", "n\n")]), ("red-owl", &[("src/g", "gg\n")])]);
    sandbox.write("src/g", "mine\n");
    let blocked = sandbox.orchestra(&["merge", "red-owl"]);
    assert_eq!(blocked.code, 3, "{blocked}");
    let command = blocked.stderr.lines().find(|line| line.starts_with("  git -C ")).unwrap().trim();
    let head = command.rsplit(' ').next().unwrap().to_owned();

    // Not landed: the next merge takes it up again, whoever it names.
    let again = sandbox.orchestra(&["merge", "blue-heron"]);
    assert_eq!(again.code, 3, "{again}");
    assert!(
        again.stderr.starts_with("an earlier merge of red-owl into main was cut short: going on"),
        "{again}"
    );
    assert!(again.stderr.contains(&format!("everything is merged as {head}")), "{again}");

    sandbox.write("src/g", "g\n");
    sandbox.git(&["merge", "--quiet", "--ff-only", &head]);
    let merged = sandbox.orchestra(&["merge", "blue-heron"]);
    assert_eq!(merged.code, 0, "{merged}");
    let said = "an earlier merge of red-owl had landed on main unrecorded; that is recorded now\n";
    assert!(merged.stderr.starts_with(said), "{merged}");
    assert_eq!((sandbox.read("src/g"), sandbox.read("new")), ("gg\n".to_owned(), "n\n".to_owned()));
    let none = sandbox.orchestra(&["merge"]);
    assert_eq!((none.code, none.stderr.as_str()), (0, "no agent has anything to merge\n"));
    assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "");
    let left = sandbox.git_dir().join("orchestra/merges");
    assert_eq!(std::fs::read_dir(left).unwrap().count(), 0);
}

#[test]
fn uncommitted_work_counts_and_is_committed_first() {
    let sandbox = fleet(&[("blue-heron", &[("src/f", "one\n")]), ("red-owl", &[("src/g", "gg\n")])]);
    let worktree = sandbox.root().join("red-owl");
    sandbox.git(&["worktree", "add", "--quiet", worktree.to_str().unwrap(), "orchestra/red-owl"]);
    // As `spawn` marks those that it makes.
    std::fs::write(sandbox.git_dir().join("worktrees/red-owl/orchestra"), "").unwrap();
    std::fs::write(worktree.join("src/f"), "two\n").unwrap();
    let overlap = sandbox.json(&["overlap"]);
    assert_eq!(overlap["data"]["branches"][1]["uncommitted"], true);
    assert_eq!(overlap["data"]["pairs"][0]["forecast"]["is"], "conflict", "{overlap}");
    let waiting = sandbox.orchestra(&["merge", "red-owl"]);
    assert_eq!(waiting.code, 0, "{waiting}");
    assert!(waiting.stderr.contains("committed what red-owl left uncommitted"), "{waiting}");
    assert_eq!(sandbox.read("src/f"), "two\n");
}

/// The worktree of an agent, as `spawn` makes it.
fn worktree(sandbox: &Sandbox, name: &str) -> std::path::PathBuf {
    let worktree = sandbox.root().join(name);
    sandbox.git(&["worktree", "add", "--quiet", worktree.to_str().unwrap(), &format!("orchestra/{name}")]);
    std::fs::write(sandbox.git_dir().join("worktrees").join(name).join("orchestra"), "").unwrap();
    worktree
}

#[test]
fn what_is_left_uncommitted_while_a_decision_waits_lands_too_or_is_named() {
    let sandbox = clashing();
    let [heron, fox, owl] = ["blue-heron", "grey-fox", "red-owl"].map(|name| worktree(&sandbox, name));
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"]);
    // A commit and an edit; a new file; another branch.
    std::fs::write(fox.join("extra"), "extra\n").unwrap();
    sandbox.commit_in(&fox, "extra");
    std::fs::write(fox.join("extra"), "more\n").unwrap();
    std::fs::write(owl.join("fresh"), "fresh\n").unwrap();
    sandbox.git_in(&heron, &["checkout", "--quiet", "-b", "mine"]);
    std::fs::write(heron.join("astray"), "astray\n").unwrap();
    let landed = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(landed.code, 0, "{landed}");
    for words in [
        "committed what grey-fox left uncommitted",
        "committed what red-owl left uncommitted",
        "what blue-heron has not committed is not in this merge: its worktree is on the branch mine",
    ] {
        assert_eq!(landed.stderr.matches(words).count(), 1, "{words}\n{landed}");
    }
    assert_eq!(sandbox.read("src/f"), "1\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n", "nothing is asked twice");
    assert_eq!((sandbox.read("fresh"), sandbox.read("extra")), ("fresh\n".to_owned(), "more\n".to_owned()));
    assert_eq!(sandbox.git_in(&fox, &["status", "--porcelain"]), "");
    assert!(!sandbox.repo().join("astray").exists() && heron.join("astray").exists());
    sandbox.assert_sound();
}

/// What comes while a gate runs is gated and lands with the rest.
#[test]
fn what_is_left_uncommitted_while_a_gate_runs_lands_too() {
    let sandbox = fleet(&[("red-owl", &[("src/g", "gg\n")])]);
    let owl = worktree(&sandbox, "red-owl");
    let gate =
        format!("[gate.test]\nrun = 'echo late >\"{}/late\"; echo >>\"$HOME/gates\"'\n", owl.display());
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &gate);
    let landed = sandbox.orchestra(&["merge"]);
    assert_eq!(landed.code, 0, "{landed}");
    assert!(landed.stderr.contains("committed what red-owl left uncommitted"), "{landed}");
    assert_eq!(sandbox.read("late"), "late\n");
    let gates = std::fs::read_to_string(sandbox.home().join("gates")).unwrap();
    assert_eq!(gates.lines().count(), 2, "what lands is what was gated");
}

#[test]
fn a_branch_that_is_rewritten_while_a_decision_waits_holds_back_nothing() {
    let sandbox = clashing();
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"]);
    let tree = sandbox.git(&["rev-parse", "orchestra/red-owl^{tree}"]);
    let orphan = sandbox.git(&["commit-tree", "-m", "orphan", &tree]);
    sandbox.git(&["update-ref", "refs/heads/orchestra/red-owl", &orphan]);
    let landed = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(landed.code, 0, "{landed}");
    assert!(landed.stderr.contains("left red-owl out: its branch shares no history with main"), "{landed}");
    assert_eq!((sandbox.read("src/g").as_str(), sandbox.read("new").as_str()), ("g\n", "n\n"));
    sandbox.assert_sound();
}

/// Runs `merge --yes` or `--continue` until it is over, killing it at moments spread over its run.
#[test]
fn a_merge_that_is_killed_anywhere_goes_on() {
    let campaign = if std::env::var_os("ORCHESTRA_KILLS").is_some() { 60 } else { 10 };
    let mut killed = 0;
    for round in 0..campaign {
        let sandbox = clashing();
        let wanted = "1\ngrey\n3\n4\n5\n6\n7\n8\nnine\n10\n";
        let mut moment = Duration::from_millis(4 + 23 * round % 190);
        for attempt in 0..40 {
            let open = sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]);
            let mut command = sandbox.command(ORCHESTRA);
            command.args(if open.is_empty() { ["merge", "--yes"] } else { ["merge", "--continue"] });
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().unwrap();
            let start = Instant::now();
            while attempt < 6 && start.elapsed() < moment && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(500));
            }
            if attempt < 6 {
                let _ = child.kill();
            }
            let status = child.wait().unwrap();
            killed += usize::from(status.code().is_none());
            moment += Duration::from_millis(31);
            match status.code() {
                Some(0) if sandbox.git(&["show", "main:src/f"]) == wanted.trim_end() => break,
                Some(3) => drop(sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"])),
                _ => {}
            }
            assert!(attempt < 39, "it never ends");
        }
        // git itself may have outlived us and hold its locks for a moment; what counts is where it ends.
        assert_eq!(sandbox.read("src/f"), wanted, "round {round}");
        assert_eq!(sandbox.read("src/g"), "gg\n");
        assert_eq!(sandbox.git(&["status", "--porcelain"]), "", "round {round}");
        assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/merges/"]), "");
        sandbox.assert_sound();
    }
    println!("{killed} kills in {campaign} merges");
    assert!(killed >= usize::try_from(campaign).unwrap(), "{killed}");
}

/// The profile `p`, which the agents have, as a script of the user's.
fn resolver(sandbox: &Sandbox, script: &str) {
    let file = sandbox.root().join("resolve.sh");
    std::fs::write(&file, script).unwrap();
    let dir = sandbox.home().join(".config/git-orchestra");
    std::fs::create_dir_all(&dir).unwrap();
    let profile = format!("[profile.p]\nprogram = \"command\"\ncommand = [\"sh\", \"{}\"]\n", file.display());
    std::fs::write(dir.join("config.toml"), profile).unwrap();
}

#[test]
fn an_agent_resolves_when_it_is_asked_to() {
    let sandbox = clashing();
    resolver(&sandbox, "exit 3\n");
    let before = sandbox.fingerprint();
    assert_eq!(sandbox.orchestra(&["merge"]).code, 3);
    let id = open_decision(&sandbox);
    sandbox.ok(&["decide", &id, "agent", "-m", "keep both words"]);
    let failed = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(failed.code, 3, "{failed}");
    assert!(failed.stderr.contains("gave no answer: its run failed"), "{failed}");
    assert_eq!(open_decision(&sandbox), id, "the same question is open again");
    assert!(sandbox.ok(&["show", &id]).contains("was asked to resolve it: its run failed"));

    resolver(&sandbox, "sed -i '/^[<|=>]\\{7\\}/d; /^2$/d; s/^blue$/blue and grey/; /^grey$/d' src/f\n");
    assert_eq!(sandbox.fingerprint(), before);
    sandbox.ok(&["decide", &id, "agent"]);
    let landed = sandbox.json(&["merge", "--continue"]);
    let resolution = &landed["data"]["merge"]["steps"][2]["resolutions"][0];
    assert_eq!((&resolution["side"], &resolution["path"]), (&"agent".into(), &"src/f".into()), "{landed}");
    assert_eq!(sandbox.read("src/f"), "1\nblue and grey\n3\n4\n5\n6\n7\n8\nnine\n10\n");
    assert_eq!(sandbox.git(&["worktree", "list"]).lines().count(), 1);
    assert_eq!(sandbox.git(&["for-each-ref", "refs/heads/orchestra/resolve-*"]), "");
    sandbox.assert_sound();
}

#[test]
fn an_agent_is_asked_before_a_person_and_once() {
    let sandbox = clashing();
    resolver(&sandbox, "exit 3\n");
    let failed = sandbox.orchestra(&["merge", "--agent"]);
    assert_eq!(failed.code, 3, "{failed}");
    assert_eq!(failed.stderr.matches("gave no answer").count(), 1, "{failed}");
    open_decision(&sandbox);
    resolver(&sandbox, "sed -i '/^[<|=>]\\{7\\}/d; /^2$/d; s/^blue$/blue and grey/; /^grey$/d' src/f\n");
    let landed = sandbox.orchestra(&["merge", "--continue", "--agent"]);
    assert_eq!(landed.code, 0, "{landed}");
    assert_eq!(sandbox.read("src/f"), "1\nblue and grey\n3\n4\n5\n6\n7\n8\nnine\n10\n");
}

#[test]
fn every_layout_of_a_repository_can_be_merged_into() {
    let bare = Layout { bare: true, ..Layout::default() };
    let linked = Layout { linked: true, ..Layout::default() };
    let reftable = Layout { reftable: true, sha256: true, ..Layout::default() };
    for layout in [bare, linked, reftable] {
        let owl: &[(&str, &str)] = &[("src/g", "gg\n")];
        let agents = [
            ("blue-heron", &[("src/f", "one\n")] as &[_]),
            ("red-owl", owl),
            ("grey-fox", &[("src/f", "two\n")]),
        ];
        let sandbox = fleet_in(layout, &agents);
        let waiting = sandbox.orchestra(&["merge"]);
        assert_eq!(waiting.code, 3, "{layout:?}\n{waiting}");
        sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"]);
        sandbox.ok(&["merge", "--continue"]);
        assert_eq!(sandbox.git(&["show", "main:src/f"]), "two", "{layout:?}");
        assert_eq!(sandbox.git(&["show", "main:src/g"]), "gg", "{layout:?}");
        if layout.linked {
            let main = sandbox.root().join("repo");
            assert_eq!(
                std::fs::read_to_string(main.join("src/f")).unwrap(),
                "two\n",
                "its files moved with it"
            );
            assert_eq!(sandbox.git_in(&main, &["status", "--porcelain"]), "");
        }
        sandbox.assert_sound();
    }
}

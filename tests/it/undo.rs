//! `oplog` and `undo`: what each command did can be looked at, taken back, and done again.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::harness::{Sandbox, Terminal};

/// A profile `player` whose agents commit one file and leave another uncommitted, and a HOME to keep it in.
fn stage() -> Sandbox {
    let sandbox = Sandbox::new();
    let name = "name=$(basename $(git branch --show-current))";
    let lines = [
        json!({"type": "tool_call", "tool": "bash", "args": {"command":
            format!("{name}; echo one >> $name.committed; git add --all; git commit --quiet -m 'the first half'")}}),
        json!({"type": "tool_call", "tool": "bash", "args": {"command": format!("{name}; echo two >> $name.left")}}),
        json!({"type": "result", "content": "Both halves are there."}),
    ];
    sandbox.write("../script.jsonl", &lines.map(|line| line.to_string()).join("\n"));
    let script = sandbox.root().join("script.jsonl");
    let profile = format!("[profile.player]\nprogram = \"replay\"\nargs = [\"{}\"]\n", script.display());
    sandbox.write("../home/.config/git-orchestra/config.toml", &profile);
    sandbox.ok(&["task", "add", "Warm up"]);
    sandbox
}

/// Everything that commands show and plain git sees, but for what only tells of the past: every living record without
/// its stamps, the branches, the worktrees with their files, the merges that are not over, and the findings' notes.
pub(crate) fn visible(sandbox: &Sandbox) -> Value {
    let mut records = Vec::new();
    for path in sandbox.git(&["ls-tree", "-r", "--name-only", "refs/orchestra/state"]).lines() {
        if !path.contains('/') {
            continue;
        }
        let mut record: Value =
            serde_json::from_str(&sandbox.git(&["show", &format!("refs/orchestra/state:{path}")])).unwrap();
        let fields = record.as_object_mut().unwrap();
        if fields.contains_key("_d") {
            continue;
        }
        // The stamps of a merge; what a run was, how its program called the conversation, and how often a task was
        // claimed is history.
        for key in ["_s", "_l", "_v", "runs", "session", "fence"] {
            fields.remove(key);
        }
        records.push((path.to_owned(), record));
    }
    let refs = ["refs/heads/", "refs/orchestra/merges/"]
        .map(|prefix| sandbox.git(&["for-each-ref", "--format=%(refname) %(objectname)", prefix]));
    let mut files = Vec::new();
    for dir in worktrees(sandbox) {
        files.push((dir.clone(), sandbox.git_in(&dir, &["status", "--porcelain", "--untracked-files=all"])));
        files.push((dir.clone(), sandbox.git_in(&dir, &["symbolic-ref", "HEAD"])));
    }
    let notes =
        sandbox.try_git_in(sandbox.repo(), &["notes", "--ref=orchestra/findings", "list"], b"").stdout;
    let notes: Vec<String> =
        notes.lines().map(|line| sandbox.git(&["cat-file", "-p", line.split(' ').next().unwrap()])).collect();
    json!({"records": records, "refs": refs, "files": files, "notes": notes})
}

pub(crate) fn worktrees(sandbox: &Sandbox) -> Vec<PathBuf> {
    let list = sandbox.git(&["worktree", "list", "--porcelain"]);
    list.lines().filter_map(|line| line.strip_prefix("worktree ").map(PathBuf::from)).collect()
}

fn worktree(sandbox: &Sandbox, name: &str) -> PathBuf {
    let found = worktrees(sandbox).into_iter().find(|dir| dir.ends_with(name));
    found.unwrap_or_else(|| panic!("no worktree {name}"))
}

/// The newest operation.
pub(crate) fn last(sandbox: &Sandbox) -> String {
    sandbox.json(&["oplog", "-n", "1"])["data"][0]["id"].as_str().unwrap().to_owned()
}

/// Runs a command, undoes it, does it again by undoing that, and undoes it once more: each time everything is as it
/// was. Leaves it undone.
fn there_and_back(sandbox: &Sandbox, args: &[&str]) {
    let before = visible(sandbox);
    let out = sandbox.orchestra(args);
    assert!(matches!(out.code, 0 | 3), "{args:?}\n{out}");
    let after = visible(sandbox);
    assert_ne!(before, after, "{args:?} does something");
    let done = last(sandbox);
    sandbox.ok(&["undo", "--yes"]);
    assert_eq!(visible(sandbox), before, "{args:?} undone");
    let undone = last(sandbox);
    sandbox.ok(&["undo", "--yes", &undone]);
    assert_eq!(visible(sandbox), after, "{args:?} done again");
    sandbox.ok(&["undo", "--yes", &done]);
    assert_eq!(visible(sandbox), before, "{args:?} undone again");
    assert_eq!(sandbox.orchestra(&["undo", "--yes", &done]).code, 1, "it is undone already");
}

/// Runs a command and leaves it done, after [`there_and_back`]. Returns what it printed.
fn and_forth(sandbox: &Sandbox, args: &[&str]) {
    there_and_back(sandbox, args);
    sandbox.ok(&["undo", "--yes", &last(sandbox)]);
}

#[test]
fn each_command_on_records_goes_back_and_forth() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["task", "add", "First"]);
    let user = sandbox.fingerprint();
    let first = sandbox.ok(&["task", "add", "Parse dates", "--label", "ui", "--touches", "src/**"]);
    there_and_back(
        &sandbox,
        &["task", "add", "Parse times", "--after", &first, "-m", "As they are written."],
    );
    and_forth(
        &sandbox,
        &["task", "edit", &first, "--title", "Parse all dates", "--label", "api", "--priority", "3"],
    );
    there_and_back(&sandbox, &["task", "claim", &first]);
    and_forth(&sandbox, &["task", "start", &first]);
    and_forth(&sandbox, &["task", "close", &first, "-m", "Done by hand."]);
    there_and_back(&sandbox, &["task", "reopen", &first]);
    there_and_back(&sandbox, &["finding", "add", "It leaks", "--path", "README.md:1", "--commit", "HEAD"]);
    let finding = sandbox.ok(&["finding", "add", "It still leaks", "--commit", "HEAD"]);
    there_and_back(&sandbox, &["finding", "resolve", &finding, "-m", "It does not."]);
    assert_eq!(sandbox.fingerprint(), user);
    sandbox.assert_sound();
}

#[test]
fn undo_goes_back_command_by_command() {
    let sandbox = Sandbox::new();
    let mut seen = Vec::new();
    sandbox.ok(&["init"]);
    for title in ["One", "Two", "Three"] {
        seen.push(visible(&sandbox));
        sandbox.ok(&["task", "add", title]);
    }
    let offered = sandbox.ok(&["__complete", "undo", ""]);
    let (id, words) = offered.lines().next().unwrap().split_once('\t').unwrap();
    assert!(last(&sandbox).starts_with(id) && words.starts_with("task add: task "), "{offered}");
    while let Some(before) = seen.pop() {
        sandbox.ok(&["undo"]);
        assert_eq!(visible(&sandbox), before);
    }
    let out = sandbox.orchestra(&["undo"]);
    assert_eq!(
        (out.code, out.stderr.as_str()),
        (0, "nothing to undo: no command of this machine still holds\n")
    );
    assert_eq!(sandbox.ok(&["task", "list", "--all"]), "");

    // A deleted task is told of, and completes, lists and edits no more.
    let log = sandbox.json(&["oplog"]);
    let id = log["data"][3]["entities"][0]["id"].as_str().unwrap();
    let out = sandbox.orchestra(&["task", "edit", id, "--title", "x"]);
    assert!(out.code == 1 && out.stderr.contains("Ada Example <ada@example.org> deleted it"), "{out}");
    let shown = sandbox.ok(&["show", id]);
    assert!(shown.contains("deleted by Ada Example <ada@example.org>"), "{shown}");
}

#[test]
fn agents_go_and_come_back_with_what_is_uncommitted() {
    let sandbox = stage();
    let user = sandbox.fingerprint();
    let task = sandbox.ok(&["task", "add", "Alpha"]);
    there_and_back(&sandbox, &["spawn", "--profile", "player", &task]);
    and_forth(&sandbox, &["spawn", "--profile", "player", &task]);
    let dir = worktree(&sandbox, "alpha");
    std::fs::write(dir.join("README.md"), "changed\n").unwrap();
    std::fs::write(dir.join("alpha.more"), "more\n").unwrap();
    std::fs::remove_file(dir.join("alpha.left")).unwrap();
    and_forth(&sandbox, &["remove", "alpha"]);
    let kept = sandbox.git(&["for-each-ref", "--format=%(refname)", "refs/orchestra/rescue/alpha/"]);
    assert!(!kept.is_empty(), "what is kept stays kept");
    sandbox.ok(&["undo", "--yes"]);
    let dir = worktree(&sandbox, "alpha");
    assert_eq!(std::fs::read_to_string(dir.join("README.md")).unwrap(), "changed\n");
    assert_eq!(std::fs::read_to_string(dir.join("alpha.more")).unwrap(), "more\n");
    assert!(!dir.join("alpha.left").exists());

    // A run that is undone takes its commits along; what it cost stays known.
    sandbox.git_in(&dir, &["checkout", "--quiet", "--", "."]);
    std::fs::remove_file(dir.join("alpha.more")).unwrap();
    there_and_back(&sandbox, &["resume", "alpha"]);
    let runs = sandbox.json(&["show", "alpha"])["data"]["runs"].as_object().unwrap().len();
    assert_eq!(runs, 2, "both runs happened");
    assert_eq!(sandbox.fingerprint(), user);
    sandbox.assert_sound();
}

/// Two tasks whose agents merge by themselves, and what they are called.
fn two_done(sandbox: &Sandbox) {
    for title in ["Alpha", "Beta"] {
        let task = sandbox.ok(&["task", "add", title]);
        sandbox.ok(&["spawn", "--profile", "player", &task]);
    }
}

#[test]
fn a_landed_merge_goes_back_with_the_files_of_the_checkout() {
    let sandbox = stage();
    two_done(&sandbox);
    let before = sandbox.git(&["rev-parse", "main"]);
    and_forth(&sandbox, &["merge"]);
    let landed = sandbox.git(&["rev-parse", "main"]);
    assert_ne!(before, landed);
    assert!(sandbox.repo().join("alpha.left").exists());
    let operation = last(&sandbox);

    // Not while something in the way is not committed, and not past what came on top.
    sandbox.write("README.md", "mine\n");
    let merge = sandbox.json(&["oplog"])["data"]
        .as_array()
        .unwrap()
        .iter()
        .find(|operation| operation["command"] == "merge")
        .unwrap()["id"]
        .as_str()
        .unwrap()
        .to_owned();
    let out = sandbox.orchestra(&["undo", "--yes", &merge]);
    assert!(out.code == 1 && out.stderr.contains("not all there is committed"), "{out}");
    assert_eq!(sandbox.read("README.md"), "mine\n");
    sandbox.commit("on top");
    let out = sandbox.orchestra(&["undo", "--yes", &merge]);
    assert!(out.code == 1 && out.stderr.contains("main has moved on from"), "{out}");
    assert_eq!(last(&sandbox), operation, "nothing was done");
    sandbox.git(&["reset", "--quiet", "--hard", &landed]);

    // Checked out nowhere, only the branch moves.
    sandbox.git(&["checkout", "--quiet", "--detach"]);
    sandbox.ok(&["undo", "--yes"]);
    assert_eq!(sandbox.git(&["rev-parse", "main"]), before);
    assert_eq!(sandbox.git(&["rev-parse", "HEAD"]), landed);
    sandbox.git(&["checkout", "--quiet", "main"]);
    sandbox.ok(&["merge"]);
    assert!(sandbox.repo().join("beta.left").exists(), "it can be merged again");
}

#[test]
fn every_station_of_a_merge_with_a_question_goes_back() {
    let sandbox = super::cli::agents::stage();
    sandbox.ok(&["spawn", "--profile", "worker", "--jobs", "1"]);
    and_forth(&sandbox, &["merge"]);
    there_and_back(&sandbox, &["merge", "--abort"]);
    let decision = sandbox.json(&["decide"])["data"][0]["id"].as_str().unwrap().to_owned();
    and_forth(&sandbox, &["decide", &decision, "theirs"]);
    there_and_back(&sandbox, &["merge", "--continue"]);
    sandbox.ok(&["merge", "--continue"]);
}

#[test]
fn what_somebody_wrote_since_is_named_and_kept() {
    let sandbox = Sandbox::new();
    let task = sandbox.ok(&["task", "add", "Parse dates"]);
    sandbox.ok(&["task", "edit", &task, "--title", "Parse all dates", "--priority", "3"]);
    let edit = last(&sandbox);
    sandbox.ok(&["task", "edit", &task, "--title", "Parse times"]);
    let before = visible(&sandbox);
    let out = sandbox.orchestra(&["undo", &edit]);
    assert!(out.code == 1 && out.stderr.contains("its title was changed since"), "{out}");
    let refused = sandbox.orchestra(&["undo", "--dry-run", &edit]);
    assert!(refused.code == 1 && refused.stdout.contains("priority: 3 → 0"), "as it would be: {refused}");
    assert!(refused.stderr.contains("its title was changed since"), "{refused}");
    sandbox.ok(&["undo", "--dry-run", "--partial", &edit]);
    assert_eq!(visible(&sandbox), before);
    let shown = sandbox.ok(&["oplog", &edit]);
    assert!(shown.contains("stays: task") && shown.contains("priority: 3 → 0"), "{shown}");
    sandbox.ok(&["undo", &edit, "--partial"]);
    let shown = sandbox.json(&["show", &task]);
    assert_eq!((&shown["data"]["title"], &shown["data"]["priority"]), (&json!("Parse times"), &json!(0)));

    // What others build on stays too.
    let first = sandbox.ok(&["task", "add", "First"]);
    let add = last(&sandbox);
    sandbox.ok(&["task", "add", "Second", "--after", &first]);
    let out = sandbox.orchestra(&["undo", &add]);
    assert!(out.code == 1 && out.stderr.contains("needs it"), "{out}");
    for args in [&["undo", &add, "--partial"] as &[&str], &["undo", &add], &["undo", &add, "--dry-run"]] {
        let out = sandbox.orchestra(args);
        assert!(out.code == 1 && !out.stderr.contains("`--partial`"), "nothing would be left to undo: {out}");
        assert!(out.stderr.contains("undo what came after it first"), "{out}");
    }
    let empty = Sandbox::new();
    let nothing = empty.json(&["undo"]);
    assert_eq!(nothing["data"], json!({}), "{nothing}");
}

#[test]
fn it_asks_on_a_terminal_and_needs_a_word_elsewhere() {
    let mut sandbox = stage();
    sandbox.set_env("COLUMNS", "100");
    sandbox.ok(&["spawn", "--profile", "player", "-m", "Do it.", "--name", "solo"]);
    let out = sandbox.orchestra(&["undo"]);
    assert!(out.code == 2 && out.stderr.contains("--yes"), "{out}");
    let mut terminal = Terminal::orchestra(&sandbox, &["undo"], 24, 100);
    terminal.wait_for("[y/N]");
    let screen = terminal.screen();
    assert!(screen.contains("not brought back: the tokens and money that solo spent"), "{screen}");
    assert!(screen.contains("removes the worktree and branch of solo"), "{screen}");
    terminal.type_in("n\n");
    assert_eq!(terminal.end(), 1);
    assert!(worktree(&sandbox, "solo").exists());
    let mut terminal = Terminal::orchestra(&sandbox, &["undo"], 24, 100);
    terminal.wait_for("[y/N]");
    terminal.type_in("y\n");
    terminal.wait_for("undid");
    assert_eq!(terminal.end(), 0);
    assert!(worktrees(&sandbox).len() == 1);

    // Nobody but people undoes.
    sandbox.set_env("GIT_ORCHESTRA_AGENT", "k3v8w0000000000z");
    assert_eq!(sandbox.orchestra(&["undo", "--yes"]).code, 1);
}

#[test]
fn what_runs_is_not_undone() {
    let sandbox = stage();
    let go = sandbox.root().join("go");
    let script = format!("echo first; while [ ! -e {} ]; do sleep 0.05; done", go.display());
    let profile = format!("[profile.slow]\nprogram = 'command'\ncommand = ['sh', '-c', '''{script}''']\n");
    sandbox.write("../home/.config/git-orchestra/config.toml", &profile);
    let args = ["spawn", "--profile", "slow", "-m", "x", "--name", "slow"];
    let mut spawn = Terminal::orchestra(&sandbox, &args, 24, 100);
    spawn.wait_for("first");
    let out = sandbox.orchestra(&["undo", "--yes"]);
    assert!(out.code == 1 && out.stderr.contains("slow is running"), "{out}");
    std::fs::write(go, "").unwrap();
    assert_eq!(spawn.end(), 0);
    sandbox.ok(&["undo", "--yes"]);
}

/// A machine of its own that has `url` as `origin`.
fn machine(url: &Path) -> Sandbox {
    let machine = stage();
    machine.git(&["remote", "add", "origin", url.to_str().unwrap()]);
    machine
}

/// A remote, two machines that have it, and a task that the first of them just made.
fn two_machines_and_a_task(title: &str) -> (Sandbox, Sandbox, Sandbox, String) {
    let remote = Sandbox::with(crate::harness::Layout { bare: true, ..Default::default() });
    let (ada, bob) = (machine(remote.repo()), machine(remote.repo()));
    let task = ada.ok(&["task", "add", title]);
    (remote, ada, bob, task)
}

#[test]
fn what_another_machine_did_is_undone_as_far_as_it_can_be_from_here() {
    let (_remote, ada, bob, task) = two_machines_and_a_task("From Ada");
    let before = ada.json(&["task", "list", "--all"]);
    ada.ok(&["task", "edit", &task, "--title", "From Ada, edited"]);
    let edit = last(&ada);
    ada.ok(&["spawn", "--profile", "player", &task]);
    let spawn = last(&ada);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    assert_eq!(bob.json(&["oplog", &edit])["data"]["command"], format!("task edit {task}"));
    // Without a name it is one's own last command that is undone, not what came last.
    assert_eq!(bob.json(&["undo", "--dry-run"])["data"]["undoes"]["command"], "task add");

    let shown = bob.ok(&["undo", "--dry-run", &spawn]);
    assert!(shown.contains("the worktree and branch of from-ada-edited on machine"), "{shown}");
    bob.ok(&["undo", "--yes", &spawn]);
    bob.ok(&["undo", "--yes", &edit]);
    bob.ok(&["sync"]);
    ada.ok(&["sync"]);
    let after = ada.json(&["task", "list", "--all"]);
    let named =
        |list: &Value| list["data"].as_array().unwrap().iter().find(|t| t["short"] == task.as_str()).cloned();
    assert_eq!(named(&after), named(&before));
    assert_eq!(
        ada.git(&["rev-parse", "refs/orchestra/state"]),
        bob.git(&["rev-parse", "refs/orchestra/state"])
    );
    assert_eq!(ada.json(&["oplog", &edit])["data"]["undone"], true);
    assert!(worktree(&ada, "from-ada-edited").exists(), "what is local stays");
    // Until somebody lets it go.
    let left = worktree(&ada, "from-ada-edited");
    std::fs::write(left.join("mine.txt"), "mine").unwrap();
    let plan = ada.ok(&["prune"]);
    assert!(plan.contains("from-ada-edited") && plan.contains("was undone"), "{plan}");
    ada.ok(&["prune", "--yes"]);
    assert!(!left.exists(), "{plan}");
    assert_eq!(ada.git(&["for-each-ref", "refs/heads/orchestra"]), "");
    assert_eq!(ada.git(&["show", "refs/orchestra/rescue/from-ada-edited/1:mine.txt"]), "mine");
    assert!(!ada.ok(&["prune"]).contains("from-ada-edited"));
}

#[test]
fn what_comes_after_a_task_whose_making_was_undone_is_not_blocked() {
    let (_remote, ada, bob, first) = two_machines_and_a_task("First");
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    // Apart: Bob builds on what Ada takes back.
    let second = bob.ok(&["task", "add", "Second", "--after", &first]);
    ada.ok(&["undo"]);
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    assert!(bob.ok(&["task", "ready"]).contains("Second"));
    bob.ok(&["task", "claim", &second]);
    bob.ok(&["task", "release", &second]);
}

#[test]
fn a_claim_that_is_undone_is_given_back_by_the_next_sync() {
    let (_remote, ada, bob, task) = two_machines_and_a_task("Wanted");
    ada.ok(&["sync"]);
    bob.ok(&["sync"]);
    ada.ok(&["task", "claim", &task]);
    assert_ne!(bob.orchestra(&["task", "claim", &task]).code, 0, "it is Ada's");
    let shown = ada.ok(&["undo", "--dry-run"]);
    assert!(shown.contains("the claim of") && shown.contains("the next sync gives back"), "{shown}");
    ada.ok(&["undo", "--yes"]);
    ada.ok(&["sync"]);
    bob.ok(&["task", "claim", &task]);
    // What a sync notes about claims is nothing to undo.
    assert_eq!(ada.json(&["undo", "--dry-run"])["data"]["undoes"]["command"], "task add");
}

#[test]
fn a_state_that_claims_to_have_moved_a_branch_moves_none() {
    let sandbox = Sandbox::new();
    let task = sandbox.ok(&["task", "add", "Bait"]);
    let first = sandbox.git(&["rev-parse", "main"]);
    sandbox.write("more", "more\n");
    let second = sandbox.commit("second");
    let id = sandbox.json(&["show", &task])["data"]["id"].as_str().unwrap().to_owned();
    let committer = sandbox.git(&["log", "-1", "--format=%ce", "refs/orchestra/state"]);
    let forged = [
        "task: edit".to_owned(),
        String::new(),
        format!("Orchestra-Op: {}", json!({"fields": ["title"], "id": id, "put": "task"})),
        format!("Orchestra-Operation: {}", json!({"command": "merge", "id": "k3v8w0000000000z", "part": 1})),
        format!("Orchestra-Ref: {}", json!({"old": first, "new": second, "ref": "refs/heads/main"})),
    ];
    let path = format!("tasks/{}/{}/{id}.json", &id[..1], &id[1..2]);
    let text = sandbox.git(&["show", &format!("refs/orchestra/state:{path}")]).replace("Bait", "Hook");
    let commit = sandbox.plumb_commit("refs/orchestra/state", &forged.join("\n"), &[(&path, &text)]);
    // As if this machine had written it.
    let raw = sandbox.git(&["cat-file", "-p", &commit]);
    let raw: Vec<String> = raw
        .lines()
        .map(|line| {
            if line.starts_with("committer ") {
                format!("committer x <{committer}> 1 +0000")
            } else {
                line.into()
            }
        })
        .collect();
    let commit = sandbox
        .try_git_in(
            sandbox.repo(),
            &["hash-object", "-t", "commit", "-w", "--stdin"],
            (raw.join("\n") + "\n").as_bytes(),
        )
        .stdout;
    sandbox.git(&["update-ref", "refs/orchestra/state", commit.trim()]);
    let shown = sandbox.ok(&["undo", "--dry-run"]);
    assert!(shown.contains("main, which moved elsewhere") && !shown.contains("moves main"), "{shown}");
    sandbox.ok(&["undo", "--yes"]);
    assert_eq!(sandbox.git(&["rev-parse", "main"]), second);
}

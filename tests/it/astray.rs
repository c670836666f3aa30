//! What agents commit outside of their branches: kept, told, and never taken for nothing.

use crate::harness::Sandbox;
use crate::harness::sandbox::{Output, write_in};

/// A repository with one commit, and an agent `heron` that ran a script, in which `ci FILE` commits a file of that name.
fn after(script: &str) -> (Sandbox, String) {
    let (sandbox, out) = run(script);
    assert_eq!(out.code, 0, "{out}");
    (sandbox, format!("{}{}", out.stdout, out.stderr))
}

fn run(script: &str) -> (Sandbox, Output) {
    let sandbox = Sandbox::new();
    let script = format!("ci() {{ echo $1 >$1; git add $1; git commit -q -m \"add $1\"; }}\n{script}");
    let words = serde_json::json!(["/bin/sh", "-ec", script]);
    let config = format!("[profile.sh]\nprogram = \"command\"\ncommand = {words}\n");
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &config);
    let out = sandbox.orchestra(&["spawn", "--profile", "sh", "--name", "heron", "-m", "Work"]);
    (sandbox, out)
}

fn rescued(sandbox: &Sandbox) -> String {
    sandbox.git(&["for-each-ref", "--format=%(refname:lstrip=3) %(subject)", "refs/orchestra/rescue"])
}

#[test]
fn commits_on_another_branch_are_told_and_can_be_taken_in() {
    let (sandbox, said) = after("git checkout -q -b mine; ci x; ci y");
    assert_eq!(rescued(&sandbox), "heron/1 add y");
    let [x, y] = ["mine~", "mine"].map(|name| sandbox.git(&["rev-parse", name])[..8].to_owned());
    let told =
        format!("it committed on mine, and not on orchestra/heron: {y} add y, {x} add x; that is kept as");
    assert!(said.contains(&told), "{said}");
    let log = sandbox.ok(&["log", "heron"]);
    assert!(log.contains("it committed on mine"), "whoever looks later reads it: {log}");

    let merged = sandbox.orchestra(&["merge"]);
    let warned = format!(
        "heron committed something outside of its branch, which is not merged: refs/orchestra/rescue/heron/1 ({y})"
    );
    assert!(merged.code == 0 && merged.stderr.contains(&warned), "{merged}");
    // As it was told.
    let from = said.find("`git -C ").unwrap() + 1;
    let way = &said[from..from + said[from..].find('`').unwrap()];
    let out = sandbox.command("sh").args(["-c", way]).current_dir(sandbox.repo()).output().unwrap();
    assert!(out.status.success(), "{way}\n{}", String::from_utf8_lossy(&out.stderr));
    let merged = sandbox.orchestra(&["merge"]);
    assert!(merged.code == 0 && !merged.stderr.contains("outside"), "{merged}");
    assert_eq!(sandbox.git(&["ls-tree", "--name-only", "main", "x", "y"]), "x\ny");
    let removed = sandbox.ok(&["remove", "heron"]);
    assert!(removed.contains("all of its work is in other branches"), "{removed}");
}

#[test]
fn a_commit_on_no_branch_is_kept_wherever_head_is() {
    // Still there, with something uncommitted on top of it.
    let (sandbox, said) = after("ci one; git checkout -q --detach; ci two; echo three >two");
    assert!(said.contains("it committed on no branch, and not on orchestra/heron: "), "{said}");
    assert!(said.contains("heron  done       orchestra/heron  1 commit"), "{said}");
    let kept = rescued(&sandbox);
    assert!(kept.starts_with("heron/1 add two\nheron/2 Work"), "each for itself: {kept}");

    // Back on its branch: nothing else has it.
    let (sandbox, said) = after("ci one; git checkout -q --detach; ci two; git checkout -q -");
    assert!(said.contains(" add two; that is kept as refs/orchestra/rescue/heron/1 "), "{said}");
    assert_eq!(rescued(&sandbox), "heron/1 add two");
    let merged = sandbox.orchestra(&["merge"]);
    assert!(merged.code == 0 && merged.stderr.contains("which is not merged"), "{merged}");
    let removed = sandbox.ok(&["remove", "heron"]);
    let told = "all that was on its branch is in other branches, what it committed outside of its branch is kept as refs/orchestra/rescue/heron/1";
    assert!(removed.contains(told), "{removed}");
    assert_eq!(rescued(&sandbox), "heron/1 add two");

    // And so has nothing what was on a branch that it deleted.
    let (sandbox, said) =
        after("git checkout -q -b mine; ci one; git checkout -q -; ci two; git branch -q -D mine");
    assert!(said.contains("it committed on no branch, and not on orchestra/heron: "), "{said}");
    assert_eq!(rescued(&sandbox), "heron/1 add one");
}

#[test]
fn what_an_agent_replaced_itself_or_brought_home_is_not_astray() {
    for script in [
        "ci one; git commit -q --amend -m again; ci two; git reset -q --hard HEAD~1",
        "git checkout -q -b side; ci one; git checkout -q -; git merge -q --no-ff -m joined side; git branch -q -D side",
        "git checkout -q --detach; ci one; git checkout -q -; ci two; git cherry-pick HEAD@{2} >/dev/null",
        "ci one; git checkout -q HEAD~1; git checkout -q -; git commit -q --amend -m again",
        "ci one; ci two; git -c sequence.editor=: rebase -q -i --force-rebase HEAD~2",
        "git checkout -q --detach main; git checkout -q -; ci one",
    ] {
        let (sandbox, said) = after(script);
        assert!(!said.contains("it committed on"), "{script}\n{said}");
        assert_eq!(rescued(&sandbox), "", "{script}\n{said}");
    }
}

#[test]
fn a_state_that_is_deleted_under_its_agent_is_there_again() {
    let (sandbox, said) = after("echo two >two; git update-ref -d refs/orchestra/state");
    assert!(said.contains("somebody deleted refs/orchestra/state while it ran: it is there again"), "{said}");
    let shown = sandbox.json(&["show", "heron"]);
    assert_eq!(shown["data"]["runs"]["1"]["outcome"]["is"], "succeeded", "{shown:#}");
    assert!(sandbox.ok(&["log", "heron"]).contains("it is there again"));
    sandbox.assert_sound();
}

#[test]
fn a_state_that_is_deleted_by_hand_is_no_repository_without_one() {
    let sandbox = Sandbox::new();
    let task = sandbox.ok(&["task", "add", "Soup"]);
    let tip = sandbox.git(&["rev-parse", "refs/orchestra/state"]);
    let delete = || sandbox.git(&["update-ref", "-d", "refs/orchestra/state"]);
    delete();
    // Whoever only looks is told, and changes nothing.
    let looked = sandbox.orchestra(&["task", "list"]);
    assert!(looked.code == 1 && looked.stderr.contains("refs/orchestra/state is gone"), "{looked}");
    assert!(looked.stderr.contains("`git orchestra recover` brings it back"), "{looked}");
    assert_eq!(sandbox.git(&["for-each-ref", "refs/orchestra/state"]), "");
    let recovered = sandbox.orchestra(&["recover"]);
    assert!(recovered.code == 0 && recovered.stdout.contains("it is there again"), "{recovered}");
    assert_eq!(sandbox.git(&["rev-parse", "refs/orchestra/state"]), tip);
    // Whoever changes something brings it back.
    delete();
    let added = sandbox.orchestra(&["task", "add", "Salad"]);
    assert!(added.code == 0 && added.stderr.contains("it is there again"), "{added}");
    let list = sandbox.ok(&["task", "list"]);
    assert!(list.contains("Soup") && list.contains("Salad") && list.contains(&task[..4]), "{list}");
    // One that was taken away on purpose is not missed.
    delete();
    std::fs::remove_dir_all(sandbox.repo().join(".git/orchestra")).unwrap();
    assert_eq!(sandbox.ok(&["task", "list"]), "");
    sandbox.ok(&["init"]);
}

#[test]
fn what_is_left_where_git_knows_no_worktree_any_more_is_no_success() {
    let (sandbox, out) = run("echo two >two; echo 'gitdir: /nowhere' >.git");
    let said = "is not its worktree any more: what it left there was not committed";
    assert!(out.code == 4 && out.stdout.contains(said), "{out}");
    let shown = sandbox.json(&["show", "heron"]);
    assert_eq!(shown["data"]["runs"]["1"]["outcome"]["is"], "failed", "{shown:#}");
}

#[test]
fn a_branch_that_is_deleted_under_its_agent_is_made_again() {
    let (sandbox, said) = after("ci one; echo two >two; git update-ref -d $(git symbolic-ref HEAD)");
    assert!(said.contains("its branch orchestra/heron was deleted or renamed while it ran"), "{said}");
    assert!(said.contains("heron  done       orchestra/heron  2 commits"), "{said}");
    assert_eq!(sandbox.git(&["log", "--format=%s", "main..orchestra/heron"]), "Work\nadd one");
    assert_eq!(sandbox.git(&["ls-tree", "--name-only", "orchestra/heron", "one", "two"]), "one\ntwo");
    sandbox.ok(&["merge"]);
    assert_eq!(sandbox.git(&["ls-tree", "--name-only", "main", "one", "two"]), "one\ntwo");

    // Renamed, what it does afterwards is kept, and the way that is told takes it in.
    let (sandbox, said) = after("git branch -q -m better; ci one");
    assert!(said.contains("its branch orchestra/heron was deleted or renamed while it ran"), "{said}");
    assert_eq!(rescued(&sandbox), "heron/1 add one");
    let from = said.find("`git -C ").unwrap() + 1;
    let way = &said[from..from + said[from..].find('`').unwrap()];
    let out = sandbox.command("sh").args(["-c", way]).current_dir(sandbox.repo()).output().unwrap();
    assert!(out.status.success(), "{way}\n{}", String::from_utf8_lossy(&out.stderr));
    sandbox.ok(&["merge"]);
    assert_eq!(sandbox.git(&["ls-tree", "--name-only", "main", "one"]), "one");

    // What it had committed there before it left it is on it again.
    let (sandbox, said) = after(
        "ci one; own=$(git symbolic-ref --short HEAD); git checkout -q --detach main; git branch -q -D $own",
    );
    assert!(said.contains("its branch orchestra/heron was deleted or renamed while it ran"), "{said}");
    assert_eq!(sandbox.git(&["log", "--format=%s", "main..orchestra/heron"]), "add one");
}

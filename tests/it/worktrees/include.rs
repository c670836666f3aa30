//! `.worktreeinclude`: what is copied, what is not, and that no secret gets into an object by it.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::{path, sandbox};
use crate::harness::programs::use_claude;
use crate::harness::{Endpoint, Sandbox, Step};

const SECRET: &str = "correct-horse-battery-staple";

/// A repository with files that are ignored, untracked, linked and tracked, all of them named in the list.
fn stage(script: &str) -> Sandbox {
    let sandbox = sandbox(script, "");
    sandbox.write(".gitignore", ".env*\nkeys/\nlinks/\nconf/.env\nbuild/\n");
    sandbox.write("tracked.env", "tracked\n");
    sandbox.write("elsewhere/kept", "");
    symlink("elsewhere", sandbox.repo().join("conf")).unwrap();
    sandbox.commit("ignore");
    sandbox.write(".worktreeinclude", ".env*\n!.env.sample\nkeys/\nlinks/\nconf/\nnotes.txt\ntracked.env\n");
    sandbox.write(".env", &format!("PASSWORD={SECRET}\n"));
    sandbox.write(".env.sample", "PASSWORD=\n");
    sandbox.write("keys/a", "a\n");
    sandbox.write("keys/deep/b", "b\n");
    fs::set_permissions(sandbox.repo().join("keys/a"), fs::Permissions::from_mode(0o600)).unwrap();
    sandbox.write("notes.txt", "not ignored\n");
    sandbox.write("tracked.env", "changed, and tracked\n");
    sandbox.write("build/out", "not named\n");
    fs::create_dir(sandbox.repo().join("links")).unwrap();
    symlink("../.env", sandbox.repo().join("links/in")).unwrap();
    symlink("../../home/.gitconfig", sandbox.repo().join("links/out")).unwrap();
    symlink("/etc/passwd", sandbox.repo().join("links/absolute")).unwrap();
    // What is a link in the commit is a directory here: copied through the link, this would land elsewhere.
    fs::remove_file(sandbox.repo().join("conf")).unwrap();
    sandbox.write("conf/.env", "conf\n");
    sandbox
}

/// Whether any object of the repository holds the secret.
fn is_stored(sandbox: &Sandbox) -> bool {
    let all = sandbox.git(&["cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname)"]);
    all.lines().any(|id| {
        let kind = sandbox.git(&["cat-file", "-t", id]);
        if kind == "tree" {
            return false;
        }
        sandbox.try_git_in(sandbox.repo(), &["cat-file", &kind, id], b"").stdout.contains(SECRET)
    })
}

#[test]
fn ignored_files_come_along_and_nothing_else_does() {
    let sandbox = stage("cat .env >/dev/null && echo work >file; find . -name .git -prune -o -print | sort");
    let before = sandbox.fingerprint();
    let out = sandbox.orchestra(&["spawn", "-m", "Work"]);
    assert_eq!(out.code, 0, "{out}");
    assert_eq!(sandbox.fingerprint(), before);
    let there = path(&sandbox, "work");
    let read = |file: &str| fs::read_to_string(there.join(file)).unwrap();
    assert_eq!(read(".env"), format!("PASSWORD={SECRET}\n"));
    assert_eq!((read("keys/a"), read("keys/deep/b")), ("a\n".into(), "b\n".into()));
    assert_eq!(fs::metadata(there.join("keys/a")).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(read("tracked.env"), "tracked\n", "what is tracked is as its commit says");
    assert_eq!(fs::read_link(there.join("links/in")).unwrap().to_str(), Some("../.env"));
    for absent in ["notes.txt", ".env.sample", "build", "links/out", "links/absolute", "elsewhere/.env"] {
        assert!(there.join(absent).symlink_metadata().is_err(), "{absent}");
    }
    assert!(there.join("conf").is_symlink());
    for said in [
        "copied 4 files by .worktreeinclude",
        "not copied: notes.txt (git does not ignore it there, so it would be committed)",
        "not copied: links/absolute, links/out (it is a link that leads out of the repository)",
        "not copied: conf/.env (there is a link on the way)",
    ] {
        assert!(out.stdout.contains(said), "{said}\n{out}");
        assert!(sandbox.ok(&["log", "work"]).contains(said), "{said}");
    }
    // Only what was worked on is kept when it goes; a copy is nobody's work.
    assert!(!is_stored(&sandbox));
    sandbox.ok(&["remove", "work"]);
    assert!(!is_stored(&sandbox));
    let kept = sandbox.git(&["ls-tree", "-r", "--name-only", "refs/orchestra/rescue/work/1"]);
    assert!(kept.contains("file") && !kept.contains("keys/a"), "{kept}");
    sandbox.assert_sound();
}

#[test]
fn a_copy_that_somebody_changed_is_work_and_is_kept() {
    let sandbox = stage("echo more >>keys/a; echo new >keys/new");
    sandbox.ok(&["spawn", "-m", "Work"]);
    sandbox.ok(&["remove", "work"]);
    let rescue = "refs/orchestra/rescue/work/1";
    assert_eq!(sandbox.git(&["show", &format!("{rescue}:keys/a")]), "a\nmore");
    assert_eq!(sandbox.git(&["show", &format!("{rescue}:keys/new")]), "new");
    assert!(!is_stored(&sandbox), "the others are not");
    let kept = sandbox.git(&["ls-tree", "-r", "--name-only", rescue]);
    assert!(!kept.contains("keys/deep/b"), "{kept}");
}

#[test]
fn a_worktree_that_is_made_again_gets_its_files_again() {
    let sandbox = stage("test -e .env && echo there");
    sandbox.ok(&["spawn", "-m", "Work"]);
    fs::remove_dir_all(path(&sandbox, "work")).unwrap();
    let out = sandbox.orchestra(&["resume", "work"]);
    assert!(out.code == 0 && out.stdout.contains("there"), "{out}");
    // And one that is there keeps what it has.
    fs::write(path(&sandbox, "work").join(".env"), "mine").unwrap();
    let out = sandbox.orchestra(&["resume", "work"]);
    assert!(!out.stdout.contains("copied"), "{out}");
    assert_eq!(fs::read_to_string(path(&sandbox, "work").join(".env")).unwrap(), "mine");
}

#[test]
fn claude_finds_what_its_worktree_was_given() {
    let script = vec![Step::bash("wc -c <.env >size; cat made >>size"), Step::say("Done.")];
    let endpoint = Endpoint::start([("Measure it", script)]);
    let mut sandbox = Sandbox::new();
    use_claude(&mut sandbox, &endpoint);
    sandbox.write(".gitignore", ".env\nmade\n");
    sandbox.commit("ignore");
    sandbox.write(".worktreeinclude", ".env\n");
    sandbox.write(".env", "0123456789");
    for word in ["sh", "-c", "echo $GIT_ORCHESTRA_AGENT_NAME on $GIT_ORCHESTRA_BRANCH >made"] {
        sandbox.git(&["config", "--global", "--add", "orchestra.worktree.setup", word]);
    }
    let out = sandbox.orchestra(&["spawn", "-m", "Measure it", "--name", "heron"]);
    assert!(out.code == 0 || out.code == 3, "{out}");
    assert_eq!(sandbox.git(&["show", "orchestra/heron:size"]), "10\nheron on orchestra/heron");
}

//! Agents whose programs are confined: what they cannot touch, what they still can, and that nothing less is given
//! for a level that this machine does not have.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::sync::OnceLock;

use git_orchestra::model::{Outcome, Sandbox as Level};
use serde_json::json;

use crate::acceptance_codex::the_agent;
use crate::harness::programs::use_claude;
use crate::harness::sandbox::{ORCHESTRA, wait_for, write_in};
use crate::harness::{Answer, Endpoint, Sandbox, Step, openai, programs};
use crate::spawn::{runs, seconds};

/// The levels that this machine's kernel gives. One that it does not give starts nothing: that is looked at instead.
pub(crate) fn levels() -> Vec<Level> {
    static GIVEN: OnceLock<Vec<Level>> = OnceLock::new();
    let look = || {
        let mut sandbox = Sandbox::new();
        give_bwrap(&mut sandbox);
        let config = "[profile.sh]\nprogram = 'command'\ncommand = ['/bin/sh', '-c', 'echo ran']\n";
        write_in(sandbox.home(), ".config/git-orchestra/config.toml", config);
        let doctor = sandbox.orchestra(&["doctor", "--json"]).stdout;
        let doctor: serde_json::Value = serde_json::from_str(&doctor).unwrap();
        let checks = doctor["data"]["checks"].as_array().unwrap();
        let check = checks.iter().find(|check| check["name"] == "sandbox").unwrap();
        let (text, details) = (check["text"].as_str().unwrap(), check["details"].to_string());
        [Level::Landlock, Level::Bubblewrap]
            .into_iter()
            .filter(|level| {
                let is_given = text.contains(level.word());
                if !is_given {
                    let out = sandbox.orchestra(&["spawn", "-m", "x", "-p", "sh", "--sandbox", level.word()]);
                    assert!(out.code == 1 && !out.stdout.contains("ran"), "{out}");
                    assert!(details.contains(level.word()), "{details}");
                }
                is_given
            })
            .collect()
    };
    GIVEN.get_or_init(look).clone()
}

/// What is outside of an agent's reach, below the sandbox's root; each is there before.
const PLANTED: &str = "planted-7f3a9";

/// A user with secrets, whose profile `sh` runs a script.
fn with_secrets(script: &str) -> Sandbox {
    let mut sandbox = Sandbox::new();
    give_bwrap(&mut sandbox);
    plant(&sandbox);
    let words = json!(["/bin/sh", "-c", script]);
    let config = format!("grace = '2s'\n[profile.sh]\nprogram = 'command'\ncommand = {words}\n");
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &config);
    sandbox
}

/// Files of the user's that nobody else is to read or change.
fn plant(sandbox: &Sandbox) {
    write_in(sandbox.home(), ".ssh/id_ed25519", PLANTED);
    write_in(sandbox.home(), "x", "");
    write_in(&sandbox.root(), "other-home/notes", PLANTED);
    write_in(sandbox.repo(), ".env", PLANTED);
    write_in(sandbox.repo(), ".gitignore", ".env\n");
    sandbox.git(&["add", ".gitignore"]);
    sandbox.git(&["commit", "--quiet", "-m", "ignore secrets"]);
    let other = sandbox.root().join("repo.orchestra/other-worktree");
    sandbox.git(&["worktree", "add", "--quiet", "-b", "other", other.to_str().unwrap()]);
    write_in(&other, "file", "mine\n");
}

fn give_bwrap(sandbox: &mut Sandbox) {
    let bwrap = programs::bwrap();
    let command = sandbox.command("true");
    let path = command.get_envs().find_map(|(key, value)| (key == "PATH").then_some(value?)).unwrap();
    let dirs = std::env::split_paths(path).chain([bwrap.parent().unwrap().to_owned()]);
    let path = std::env::join_paths(dirs).unwrap();
    sandbox.set_env("PATH", path);
}

/// Words of a shell that try what is not allowed, and say of each whether it could be done. The variables are what
/// every agent knows.
fn tries(sandbox: &Sandbox) -> String {
    let (home, root) = (sandbox.home().display().to_string(), sandbox.root().display().to_string());
    let common = sandbox.git_dir().display().to_string();
    let main = sandbox.repo().display().to_string();
    let mut script = String::from(
        "try() { if (eval \"$2\") >/dev/null 2>&1; then echo \"CAN $1\"; else echo \"cannot $1\"; fi; }\n",
    );
    for (what, how) in [
        ("write-config", format!("echo '[x]' >> {common}/config")),
        ("git-config", "git config x.y z".to_owned()),
        ("write-hook", format!("echo exit >> {common}/hooks/x")),
        ("write-attributes", format!("echo x >> {common}/info/attributes")),
        ("write-packed-refs", format!(": >> {common}/packed-refs")),
        ("move-main", "git update-ref refs/heads/main HEAD~1".to_owned()),
        ("move-state", "git update-ref refs/orchestra/state refs/orchestra/state".to_owned()),
        ("write-other-worktree", "echo x > ../other-worktree/file".to_owned()),
        ("make-in-other-worktree", "echo x > ../other-worktree/made".to_owned()),
        ("write-other-git-dir", format!("echo x > {common}/worktrees/other-worktree/HEAD")),
        ("write-main-checkout", format!("echo x > {main}/README.md")),
        ("write-home", format!("echo x > {home}/x")),
        ("make-in-home", format!("echo x > {home}/made")),
        ("truncate-home", format!("truncate -s 0 {home}/x")),
        ("move-into-home", format!("echo x > a && mv a {home}/x")),
        ("read-key", format!("cat {home}/.ssh/id_ed25519")),
        ("read-key-by-link", format!("ln -sf {home}/.ssh/id_ed25519 link && cat link")),
        ("read-other-home", format!("cat {root}/other-home/notes")),
        ("read-main-checkout", format!("cat {main}/.env")),
        ("read-environment", "grep -q HOME /proc/$OUTSIDE/environ".to_owned()),
        ("signal-outside", "kill -0 $OUTSIDE".to_owned()),
    ] {
        writeln!(script, "try {what} {}", quoted(&how)).unwrap();
    }
    script.push_str("rm -f a link\n");
    script
}

fn quoted(words: &str) -> String {
    format!("'{}'", words.replace('\'', "'\\''"))
}

fn what_could_be_done(said: &str) -> Vec<&str> {
    said.lines().filter_map(|line| line.split_once("CAN ").map(|(_, what)| what)).collect()
}

/// Nothing outside is another than before.
fn assert_untouched(sandbox: &Sandbox) {
    let read = |path: &Path| std::fs::read_to_string(path).unwrap();
    assert_eq!(read(&sandbox.root().join("repo.orchestra/other-worktree/file")), "mine\n");
    assert_eq!(read(&sandbox.home().join("x")), "");
    assert!(!sandbox.home().join("made").exists());
    assert!(!sandbox.root().join("repo.orchestra/other-worktree/made").exists());
}

#[test]
fn a_confined_agent_edits_and_commits_and_reaches_nothing_else() {
    for level in levels() {
        let mut sandbox = with_secrets("exit 9");
        let outside = std::process::id().to_string();
        let script = format!(
            "{}\nset -e\necho work > file\ngit add file\ngit commit -q -m 'its own commit'\nmv file moved\n\
             git mv README.md docs.md\necho temporary > $TMPDIR/t\nprintf 'x' > /dev/null\necho left >> docs.md\necho DONE",
            tries(&sandbox)
        );
        let words = json!(["/bin/sh", "-c", script]);
        let config = format!(
            "[profile.sh]\nprogram = 'command'\ncommand = {words}\npass-env = ['OUTSIDE']\nsandbox = '{level}'\n"
        );
        write_in(sandbox.home(), ".config/git-orchestra/config.toml", &config);
        sandbox.set_env("OUTSIDE", outside);
        let user = sandbox.fingerprint();

        let spawned = sandbox.orchestra(&["spawn", "-m", "Try it", "--profile", "sh", "--name", "caged"]);
        assert_eq!(spawned.code, 0, "{level}: {spawned}");
        assert!(spawned.stdout.contains("DONE"), "{level}: {spawned}");
        assert_eq!(what_could_be_done(&spawned.stdout), Vec::<&str>::new(), "{level}: {spawned}");
        assert!(!spawned.stdout.contains(PLANTED));
        assert_eq!(sandbox.fingerprint(), user, "{level}");
        assert_untouched(&sandbox);

        let log = sandbox.git(&["log", "--format=%s", "main..orchestra/caged"]);
        assert_eq!(log.lines().last(), Some("its own commit"), "{level}: {spawned}");
        let show = |path: &str| sandbox.git(&["show", &format!("orchestra/caged:{path}")]);
        assert_eq!((show("moved"), show("docs.md")), ("work".to_owned(), "# sandbox\nleft".to_owned()));
        sandbox.assert_sound();

        // What confined it is kept and shown.
        assert_eq!(the_agent(&sandbox, "caged").runs[&1].sandbox, Some(level));
        let page = sandbox.ok(&["show", "caged"]);
        assert!(page.contains(level.word()), "{page}");
        let rows = sandbox.json(&["status", "--all"]);
        assert_eq!(rows["data"][0]["sandbox"], level.word(), "{rows}");
    }
}

/// The same words do all of it where nothing confines them: otherwise the test above would prove nothing.
#[test]
fn what_a_confined_agent_is_kept_from_can_be_done() {
    let mut sandbox = with_secrets("exit 9");
    let words = json!(["/bin/sh", "-c", tries(&sandbox)]);
    let config = format!("[profile.sh]\nprogram = 'command'\ncommand = {words}\npass-env = ['OUTSIDE']\n");
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &config);
    sandbox.set_env("OUTSIDE", std::process::id().to_string());
    let spawned = sandbox.orchestra(&["spawn", "-m", "Try it", "--profile", "sh", "--name", "free"]);
    assert!(!spawned.stdout.contains("cannot"), "{spawned}");
    assert_eq!(what_could_be_done(&spawned.stdout).len(), 21, "{spawned}");
    assert_eq!(the_agent(&sandbox, "free").runs[&1].sandbox, Some(Level::None));
}

/// The words of a model that tries what it may not, with its program's own tools, and then does its work.
fn claude_script(sandbox: &Sandbox) -> Vec<Step> {
    let (home, common) = (sandbox.home().display().to_string(), sandbox.git_dir().display().to_string());
    vec![
        Step::bash(&tries(sandbox)),
        Step::bash(&format!("cat {home}/.ssh/id_ed25519")),
        Step::read(&format!("{home}/.ssh/id_ed25519")),
        Step::write(&format!("{common}/hooks/pre-commit"), "#!/bin/sh\n"),
        Step::write("file.txt", "one\ntwo\n"),
        Step::edit("file.txt", "two", "three"),
        Step::bash("git add file.txt && git commit -q -m 'its own commit' && echo COMMITTED"),
        Step::write("left.txt", "left\n"),
        Step::say("All done."),
    ]
}

#[test]
fn the_real_claude_code_works_confined_and_reaches_nothing_else() {
    for level in levels() {
        let mut sandbox = with_secrets("exit 9");
        let endpoint = Endpoint::start([("work", claude_script(&sandbox))]);
        use_claude(&mut sandbox, &endpoint);
        sandbox.set_env("IS_SANDBOX", "1");
        sandbox.set_env("OUTSIDE", std::process::id().to_string());
        let config = "[profile.claude]\npermissions = 'bypass'\npass-env = ['OUTSIDE']\n";
        write_in(sandbox.home(), ".config/git-orchestra/config.toml", config);
        let user = sandbox.fingerprint();
        let words = ["spawn", "-m", "Try it [script:work]", "--name", "caged", "--sandbox", level.word()];
        let spawned = sandbox.orchestra(&words);
        let raw = sandbox.ok(&["log", "caged", "--raw"]);
        assert_eq!(spawned.code, 0, "{level}: {spawned}\n{raw}");
        assert!(raw.contains("cannot write-config") && raw.contains("cannot read-key"), "{level}: {raw}");
        assert!(
            ["write", "read", "move", "make", "git", "signal"]
                .iter()
                .all(|what| !raw.contains(&format!("CAN {what}-")))
                && !raw.contains(PLANTED),
            "{level}: {raw}"
        );
        assert!(raw.contains("COMMITTED\\n") || raw.contains("COMMITTED\""), "{level}: {raw}");
        assert_eq!(sandbox.fingerprint(), user);
        assert_untouched(&sandbox);
        let show = |path: &str| sandbox.git(&["show", &format!("orchestra/caged:{path}")]);
        assert_eq!((show("file.txt"), show("left.txt")), ("one\nthree".to_owned(), "left".to_owned()));
        let log = sandbox.git(&["log", "--format=%s", "main..orchestra/caged"]);
        assert_eq!(log.lines().last(), Some("its own commit"));
        let agent = the_agent(&sandbox, "caged");
        assert_eq!(agent.runs[&1].outcome, Some(Outcome::Succeeded));
        assert_eq!(agent.runs[&1].sandbox, Some(level));

        // It goes on as confined as it was, and remembers.
        let more = Endpoint::start([(
            "more",
            vec![
                Step::bash(&format!("cat {0}/.ssh/id_ed25519 || echo KEPT", sandbox.home().display())),
                Step::say("I remember."),
            ],
        )]);
        use_claude(&mut sandbox, &more);
        let resumed = sandbox.orchestra(&["resume", "caged", "-m", "And now [script:more]"]);
        assert_eq!(resumed.code, 0, "{level}: {resumed}");
        let raw = sandbox.ok(&["log", "caged", "--raw"]);
        assert!(raw.contains("KEPT") && !raw.contains(PLANTED), "{level}: {raw}");
        assert_eq!(the_agent(&sandbox, "caged").runs[&2].sandbox, Some(level));
        let asked = more.seen().pop().unwrap().body["messages"].to_string();
        assert!(asked.contains("All done."), "the conversation went on: {asked}");
    }
}

#[test]
fn the_real_codex_works_confined() {
    for level in levels() {
        let mut sandbox = with_secrets("exit 9");
        let key = sandbox.home().join(".ssh/id_ed25519").display().to_string();
        let work = vec![
            Answer::write("src/new.txt", "one\ntwo\n"),
            Answer::run(&format!(
                "sed -n 2p src/new.txt > second.txt; cat {key} || echo KE''PT; echo x > ~/x"
            )),
            Answer::say("All done."),
        ];
        let model = openai::start([("work", work)]);
        openai::use_model(&mut sandbox, &model);
        let config = format!("[profile.codex]\ncommand = ['{}']\n", programs::codex().display());
        write_in(sandbox.home(), ".config/git-orchestra/config.toml", &config);
        let words = [
            "spawn",
            "-m",
            "Try it [script:work]",
            "-p",
            "codex",
            "--name",
            "caged",
            "--sandbox",
            level.word(),
        ];
        let spawned = sandbox.orchestra(&words);
        let raw = sandbox.ok(&["log", "caged", "--raw"]);
        assert_eq!(spawned.code, 0, "{level}: {spawned}\n{raw}");
        assert!(raw.contains("KEPT") && !raw.contains(PLANTED), "{level}: {raw}");
        assert_untouched(&sandbox);
        let show = |path: &str| sandbox.git(&["show", &format!("orchestra/caged:{path}")]);
        assert_eq!((show("src/new.txt"), show("second.txt")), ("one\ntwo".to_owned(), "two".to_owned()));
        assert_eq!(the_agent(&sandbox, "caged").runs[&1].sandbox, Some(level));
    }
}

#[test]
fn the_real_gemini_cli_works_confined() {
    for level in levels() {
        let key = "$HOME/.ssh/id_ed25519";
        let work = vec![
            Answer::write("src/new.txt", "one\ntwo\n"),
            Answer::run(&format!(
                "sed -n 2p src/new.txt > second.txt; cat {key} || echo KE''PT; echo x > ~/x; git add . && git commit -qm own"
            )),
            Answer::say("All done."),
        ];
        let (mut sandbox, _model) = crate::acceptance_gemini::with_scripts("bypass", [("work", work)]);
        give_bwrap(&mut sandbox);
        plant(&sandbox);
        let words = ["spawn", "-m", "Try it [script:work]", "--name", "caged", "--sandbox", level.word()];
        let spawned = sandbox.orchestra(&words);
        let raw = sandbox.ok(&["log", "caged", "--raw"]);
        assert_eq!(spawned.code, 0, "{level}: {spawned}\n{raw}");
        assert!(raw.contains("KEPT") && !raw.contains(PLANTED), "{level}: {raw}");
        assert_untouched(&sandbox);
        let show = |path: &str| sandbox.git(&["show", &format!("orchestra/caged:{path}")]);
        assert_eq!((show("src/new.txt"), show("second.txt")), ("one\ntwo".to_owned(), "two".to_owned()));
        assert_eq!(sandbox.git(&["log", "--format=%s", "main..orchestra/caged"]), "own", "{level}: {raw}");
    }
}

/// Without `bwrap`, nothing is started, claimed or made, and it is said what would help.
#[test]
fn a_level_that_the_machine_lacks_starts_nothing() {
    let mut sandbox = Sandbox::new();
    let config = "[profile.sh]\nprogram = 'command'\ncommand = ['/bin/sh', '-c', 'echo ran > ran']\n";
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", config);
    let path = std::env::var_os("PATH").unwrap();
    let git = std::env::split_paths(&path).map(|dir| dir.join("git")).find(|git| git.is_file()).unwrap();
    let bin = sandbox.root().join("bin");
    std::fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(git, bin.join("git")).unwrap();
    sandbox.set_env("PATH", &bin);
    let task = sandbox.ok(&["task", "add", "Try it"]);
    let before = sandbox.git(&["for-each-ref"]);
    for words in [vec!["--sandbox", "bubblewrap"], vec![]] {
        if words.is_empty() {
            sandbox.set_env("ORCHESTRA_SANDBOX", "bubblewrap");
        }
        let out = sandbox.orchestra(&[&["spawn", &task, "--profile", "sh"], &words[..]].concat());
        assert_eq!(out.code, 1, "{out}");
        assert!(out.stderr.contains("there is no program `bwrap` in PATH"), "{out}");
        let landlock = levels().contains(&Level::Landlock);
        assert_eq!(out.stderr.contains("`--sandbox landlock` works here"), landlock, "{out}");
        assert_eq!(sandbox.git(&["for-each-ref"]), before, "nothing was claimed or made");
    }
    // One that cannot do it counts as little as none.
    write_in(&bin, "bwrap", "#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n");
    let file = bin.join("bwrap");
    let mut mode = std::fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut mode, 0o755);
    std::fs::set_permissions(&file, mode).unwrap();
    let out = sandbox.orchestra(&["spawn", &task, "--profile", "sh"]);
    assert!(out.code == 1 && out.stderr.contains("setting up uid map"), "{out}");
    assert_eq!(sandbox.git(&["for-each-ref"]), before);
    if !levels().contains(&Level::Landlock) {
        return;
    }
    // An agent that was confined is not let out because what confined it is gone.
    sandbox.set_env("ORCHESTRA_SANDBOX", "landlock");
    let out = sandbox.orchestra(&["spawn", &task, "--profile", "sh", "--name", "caged"]);
    assert_eq!(out.code, 0, "{out}");
    sandbox.set_env("ORCHESTRA_SANDBOX", "none");
    assert_eq!(sandbox.orchestra(&["resume", "caged"]).code, 0);
    let levels = the_agent(&sandbox, "caged").runs;
    assert_eq!(levels[&2].sandbox, Some(Level::Landlock), "as strict as before");
    assert_eq!(sandbox.orchestra(&["resume", "caged", "--sandbox", "none"]).code, 0);
    assert_eq!(the_agent(&sandbox, "caged").runs[&3].sandbox, Some(Level::None), "it was said");
}

/// Whoever watches a confined program ends it to its last descendant, hears how it ended, and lets it end in peace.
#[test]
fn a_confined_agent_is_watched_and_ended_like_any_other() {
    for level in levels() {
        let mut sandbox = Sandbox::new();
        give_bwrap(&mut sandbox);
        let second = |number| seconds(number + 10 * level as u32);
        let profile = |name: &str, script: &str| {
            let words = json!(["/bin/sh", "-c", script]);
            format!("[profile.{name}]\nprogram = 'command'\ncommand = {words}\nsandbox = '{level}'\n")
        };
        let leaving =
            format!("setsid sleep {} & setsid env -i sleep {} & echo left; exit 7", second(1), second(2));
        let ending = format!(
            "trap 'echo ENDING; echo saved > saved; exit 0' TERM; setsid sleep {} & echo BEGUN; while :; do sleep 0.1; done",
            second(3)
        );
        let deaf = format!(
            "trap '' TERM; setsid sleep {} & echo BEGUN > begun; while :; do sleep 0.1; done",
            second(4)
        );
        let config = [
            "grace = '3s'\n".to_owned(),
            profile("leaving", &leaving),
            profile("ending", &ending),
            profile("deaf", &deaf),
        ];
        write_in(sandbox.home(), ".config/git-orchestra/config.toml", &config.concat());

        // Its exit code is its own, and what it left is gone.
        let out = sandbox.orchestra(&["spawn", "-m", "Leave", "-p", "leaving", "--name", "leaving"]);
        assert_eq!(out.code, 4, "{level}: {out}");
        let run = the_agent(&sandbox, "leaving").runs[&1].clone();
        assert_eq!(run.outcome, Some(Outcome::Failed { reason: "exit 7".into() }), "{level}");
        assert!(!runs(&second(1)) && !runs(&second(2)), "{level}: {out}");

        // Asked to end it ends in peace: what it says and saves then is kept. In the background it is the same.
        let out = sandbox.orchestra(&["spawn", "--detach", "-m", "End", "-p", "ending", "--name", "ending"]);
        assert_eq!(out.code, 0, "{level}: {out}");
        wait_for("the agent", || {
            (sandbox.ok(&["log", "ending"]).contains("BEGUN") && runs(&second(3))).then_some(())
        });
        sandbox.ok(&["stop", "ending", "--wait"]);
        assert!(!runs(&second(3)), "{level}");
        let log = sandbox.ok(&["log", "ending"]);
        assert!(log.contains("ENDING"), "{level}: {log}");
        assert_eq!(sandbox.git(&["show", "orchestra/ending:saved"]), "saved");
        let run = the_agent(&sandbox, "ending").runs[&1].clone();
        assert!(matches!(run.outcome, Some(Outcome::Stopped { .. })), "{level}: {run:?}");

        // One that is deaf is killed, and one whose supervisor was killed is found.
        let mut command = sandbox.command(ORCHESTRA);
        command.args(["spawn", "-m", "Stay", "-p", "deaf", "--name", "deaf"]);
        let mut supervisor = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        wait_for("the agent", || runs(&second(4)).then_some(()));
        supervisor.kill().unwrap();
        supervisor.wait().unwrap();
        sandbox.ok(&["recover"]);
        assert!(!runs(&second(4)), "{level}");
        let run = the_agent(&sandbox, "deaf").runs[&1].clone();
        assert_eq!((run.outcome, run.sandbox), (Some(Outcome::Lost), Some(level)));
    }
}

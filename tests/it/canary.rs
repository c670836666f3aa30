//! What an agent or a remote tells git to run is run by none of our commands.
//!
//! Each key and each hook has a program of its own that leaves a file with its name: whatever is there afterwards was
//! run, and is named.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use crate::harness::sandbox::write_in;
use crate::harness::{Sandbox, Terminal};

/// Keys that name a program, or lead to one. `{}` is a program of the key's own.
const KEYS: [(&str, &str); 44] = [
    ("core.fsmonitor", "{}"),
    ("core.pager", "{}"),
    ("core.editor", "{}"),
    ("core.sshCommand", "{}"),
    ("core.gitProxy", "{}"),
    ("core.askPass", "{}"),
    ("core.alternateRefsCommand", "{}"),
    ("diff.external", "{}"),
    ("diff.evil.command", "{}"),
    ("diff.evil.textconv", "{}"),
    ("filter.evil.clean", "{}"),
    ("filter.evil.smudge", "{}"),
    ("filter.evil.process", "{}"),
    ("merge.evil.driver", "{}"),
    ("merge.default", "evil"),
    ("credential.helper", "{}"),
    ("credential.https://example.org.helper", "{}"),
    ("gpg.program", "{}"),
    ("gpg.openpgp.program", "{}"),
    ("gpg.x509.program", "{}"),
    ("gpg.ssh.program", "{}"),
    ("gpg.ssh.defaultKeyCommand", "{}"),
    ("commit.gpgSign", "true"),
    ("tag.gpgSign", "true"),
    ("log.showSignature", "true"),
    ("push.gpgSign", "if-asked"),
    ("sequence.editor", "{}"),
    ("pager.log", "{}"),
    ("pager.diff", "{}"),
    ("pager.status", "{}"),
    ("alias.status", "!{}"),
    ("alias.orchestra", "!{}"),
    ("interactive.diffFilter", "{}"),
    ("trailer.evil.command", "{}"),
    ("trailer.evil.cmd", "{}"),
    ("uploadpack.packObjectsHook", "{}"),
    ("gc.recentObjectsHook", "{}"),
    ("submodule.sub.update", "!{}"),
    ("difftool.evil.cmd", "{}"),
    ("mergetool.evil.cmd", "{}"),
    ("tar.tar.gz.command", "{}"),
    ("protocol.ext.allow", "always"),
    ("remote.evil.url", "ext::{} %S"),
    ("remote.other.vcs", "evil"),
];

/// The hooks that git runs, of which any can be there.
const HOOKS: [&str; 18] = [
    "applypatch-msg",
    "commit-msg",
    "fsmonitor-watchman",
    "post-applypatch",
    "post-checkout",
    "post-commit",
    "post-index-change",
    "post-merge",
    "post-rewrite",
    "pre-applypatch",
    "pre-auto-gc",
    "pre-commit",
    "pre-merge-commit",
    "pre-push",
    "pre-rebase",
    "prepare-commit-msg",
    "reference-transaction",
    "update",
];

/// What is run leaves a file here.
struct Canaries(PathBuf);

impl Canaries {
    fn new(sandbox: &Sandbox) -> Self {
        let dir = sandbox.root().join("canaries");
        std::fs::create_dir(&dir).unwrap();
        std::fs::create_dir(sandbox.root().join("plants")).unwrap();
        Self(dir)
    }

    /// A program that leaves a file called `name`, and passes on what it is given.
    fn program(&self, name: &str) -> PathBuf {
        let name: String = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
        let path = self.0.parent().unwrap().join("plants").join(&name);
        // A remote that says nothing would be waited for.
        let then = if name.starts_with("remote") { "exit 1" } else { "cat" };
        std::fs::write(&path, format!("#!/bin/sh\ntouch {}/{name}\n{then}\n", self.0.display())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// What was run since the last look.
    fn sung(&self) -> BTreeSet<String> {
        let entries = std::fs::read_dir(&self.0).unwrap().map(|entry| entry.unwrap());
        let sung = entries.map(|entry| {
            std::fs::remove_file(entry.path()).unwrap();
            entry.file_name().into_string().unwrap()
        });
        sung.collect()
    }

    /// A script that plants all of it in the repository with this git directory.
    fn plant(&self, git_dir: &Path) -> String {
        let mut script = String::new();
        for (key, value) in KEYS {
            let value = value.replace("{}", self.program(key).to_str().unwrap());
            writeln!(script, "git config '{key}' '{value}'").unwrap();
        }
        let git_dir = git_dir.display();
        for hook in HOOKS {
            let program = self.program(&format!("hook-{hook}"));
            writeln!(script, "mkdir -p {git_dir}/hooks; cp {} {git_dir}/hooks/{hook}", program.display())
                .unwrap();
        }
        let elsewhere = self.0.parent().unwrap().join("elsewhere");
        std::fs::create_dir_all(&elsewhere).unwrap();
        for hook in HOOKS {
            let program = self.program(&format!("hooks-path-{hook}"));
            std::fs::copy(program, elsewhere.join(hook)).unwrap();
        }
        writeln!(
            script,
            "mkdir -p {git_dir}/info; echo '* filter=evil diff=evil merge=evil' >{git_dir}/info/attributes"
        )
        .unwrap();
        writeln!(script, "git config core.hooksPath {}", elsewhere.display()).unwrap();
        // What cannot be read must not look like what is not there.
        writeln!(script, "ln -s config.worktree {git_dir}/config.worktree").unwrap();
        script
    }
}

/// A repository with a file, and a remote that has it too.
fn with_remote() -> (Sandbox, Canaries) {
    let sandbox = Sandbox::new();
    let canaries = Canaries::new(&sandbox);
    sandbox.add_remote();
    sandbox.write("file", "1\n2\n3\n");
    sandbox.git(&["add", "--all"]);
    sandbox.commit("file");
    sandbox.git(&["push", "-q", "origin", "main"]);
    (sandbox, canaries)
}

/// A repository with a remote and the work of two agents; the second one planted everything at the end of its run.
fn hostile() -> (Sandbox, Canaries) {
    let (sandbox, canaries) = with_remote();
    let plant = canaries.plant(&sandbox.git_dir());
    let work = "echo $1 >file; echo '* filter=evil diff=evil merge=evil' >.gitattributes; \
                printf '[submodule \"sub\"]\\n\\tpath = sub\\n\\turl = ext::sh -c true\\n' >.gitmodules; \
                git add --all; git commit -qm work; echo left >>file\n";
    write_in(&sandbox.root(), "work.sh", &format!("#!/bin/sh\n{work}"));
    write_in(&sandbox.root(), "plant.sh", &format!("#!/bin/sh\nset -e\n{work}{plant}"));
    let root = sandbox.root();
    let root = root.display();
    let settings = format!(
        "[profile.works]\nprogram = 'command'\ncommand = ['/bin/sh', '{root}/work.sh', 'heron']\n\
         [profile.plants]\nprogram = 'command'\ncommand = ['/bin/sh', '{root}/plant.sh', 'fox']\n\
         [gate.test]\nrun = 'true'\n"
    );
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", &settings);
    let clean = sandbox.orchestra(&["spawn", "-m", "Work", "--name", "heron", "--profile", "works"]);
    assert_eq!(clean.code, 0, "{clean}");
    let planted = sandbox.orchestra(&["spawn", "-m", "Plant", "--name", "fox", "--profile", "plants"]);
    assert!(planted.stdout.contains("changed the main checkout or what it shares"), "{planted}");
    (sandbox, canaries)
}

/// Keys that are never followed, whoever set them: no git of ours needs what they name.
const NEVER: [&str; 12] = [
    "core.fsmonitor",
    "core.sshCommand",
    "core.askPass",
    "diff.external",
    "gpg.program",
    "gpg.openpgp.program",
    "commit.gpgSign",
    "tag.gpgSign",
    "log.showSignature",
    "protocol.ext.allow",
    "remote.evil.url",
    "pager.log",
];

/// Every command, with arguments that lead as far in as it goes.
fn commands(task: &str, finding: &str) -> Vec<Vec<String>> {
    let lines = "
        init
        init --remote origin
        task add Another
        task list
        task list --all
        task show TASK
        task ready
        task edit TASK --title Other
        task start TASK
        task claim --local TASK
        task release TASK
        task close TASK
        task reopen TASK
        finding add Look --path file
        finding list
        finding show FINDING
        finding resolve FINDING
        plan
        plan --score
        spawn -m More --profile works
        spawn -m More --profile works --detach
        status
        status --all
        status --machines
        wait heron --timeout 1
        send heron words
        interrupt heron
        stop heron
        stop --all
        attach heron
        resume heron -m more
        resume fox
        log heron
        log fox --raw
        show heron
        show fox --json
        diff heron
        diff fox
        diff fox --stat
        diff fox --name-only
        review fox --print
        overlap
        overlap --json
        cost
        merge --dry-run
        merge --yes
        merge --continue
        merge --abort
        decide
        run --yes --profile works
        run --continue
        verify
        apply fox
        verify --target main --since main~1
        check
        check --ci
        oplog
        undo --dry-run
        undo
        push
        push evil
        push other
        push --branches
        fetch
        fetch evil
        fetch other
        sync
        sync evil
        take fox
        worker --once --profile works
        config list
        config get gates
        config approve
        profile list
        profile show works
        recover
        doctor
        doctor --fix
        prune
        prune --yes
        gc
        hook install --pre-commit
        hook pre-commit
        hook uninstall
        remove fox
        remove fox --discard-ignored
    ";
    let word = |word: &str| word.replace("TASK", task).replace("FINDING", finding);
    let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty());
    lines.map(|line| line.split(' ').map(word).collect()).collect()
}

/// Those that print texts of our own alone, speak to another program, or are tried elsewhere with nothing of the repository.
const OURS: [&str; 5] = ["demo", "completion", "man", "schema", "help"];

#[test]
fn no_command_runs_what_an_agent_planted() {
    let (sandbox, canaries) = hostile();
    let sung = canaries.sung();
    assert!(sung.is_empty(), "the end of the run itself: {sung:?}");
    let task = sandbox.ok(&["task", "add", "Something"]);
    sandbox.ok(&["finding", "add", "Something"]);
    let finding = sandbox.json(&["finding", "list"])["data"][0]["id"].as_str().unwrap().to_owned();
    let commands = commands(task.trim(), &finding);
    let mut wrong = Vec::new();
    let mut judge = |args: &[&str], how: &str| {
        let sung = canaries.sung();
        if !sung.is_empty() {
            wrong.push(format!("{args:?} {how}: {sung:?}"));
        }
    };
    let mut misread = Vec::new();
    for args in &commands {
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let out = sandbox.orchestra(&args);
        judge(&args, "off a terminal");
        if out.stderr.contains("Usage:") {
            misread.push(format!("{args:?}: {out}"));
        }
    }
    assert!(misread.is_empty(), "commands that were not understood: {misread:#?}");
    // With its pager and its editor.
    for args in [
        &["status"][..],
        &["log", "heron"],
        &["show", "heron"],
        &["task", "list"],
        &["task", "edit", task.trim(), "--edit"],
        &["oplog"],
        &["config", "list"],
        &["decide"],
        &["diff", "heron"],
        &["overlap"],
    ] {
        let mut terminal = Terminal::orchestra(&sandbox, args, 24, 80);
        terminal.type_in("q\u{4}\u{3}");
        terminal.end();
        judge(args, "on a terminal");
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    let used: BTreeSet<&str> = commands.iter().map(|args| args[0].as_str()).collect();
    let all = sandbox.listed_commands();
    let missing: Vec<_> =
        all.iter().map(String::as_str).filter(|name| !used.contains(name) && !OURS.contains(name)).collect();
    assert!(missing.is_empty(), "commands that are not tried: {missing:?}");

    // All of it was there to be run: plain git does.
    sandbox.write("file", "changed\n");
    for args in [&["status"][..], &["diff"], &["add", "--all"], &["commit", "-qm", "x"], &["fetch", "evil"]] {
        sandbox.try_git_in(sandbox.repo(), args, b"");
    }
    let sung = canaries.sung();
    for name in ["core-fsmonitor", "diff-evil-command", "filter-evil-process", "remote-evil-url"] {
        assert!(sung.contains(name), "{name}: {sung:?}");
    }
    assert!(sung.iter().any(|name| name.starts_with("hooks-path-")), "{sung:?}");
}

/// Here everything goes all the way: agents run, their work is committed for them, merged, gated, pushed and undone.
#[test]
fn what_is_never_followed_is_not_followed_from_the_start_either() {
    let (sandbox, canaries) = with_remote();
    let root = sandbox.root();
    let settings = "[profile.works]\nprogram = 'command'\ncommand = ['/bin/sh', '-c', 'pwd >$$.txt']\n\
                    [gate.test]\nrun = 'true'\n";
    write_in(sandbox.home(), ".config/git-orchestra/config.toml", settings);
    for (key, value) in KEYS.iter().filter(|(key, _)| NEVER.contains(key)) {
        sandbox.git(&["config", key, &value.replace("{}", canaries.program(key).to_str().unwrap())]);
    }
    for hook in HOOKS {
        let path = sandbox.git_dir().join("hooks").join(hook);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::copy(canaries.program(&format!("hook-{hook}")), path).unwrap();
    }
    canaries.sung();
    let mut wrong = Vec::new();
    let mut run = |args: &[&str]| {
        let out = sandbox.orchestra(args);
        let sung = canaries.sung();
        if !sung.is_empty() {
            wrong.push(format!("{args:?}: {sung:?}"));
        }
        out
    };
    for name in ["heron", "fox"] {
        assert_eq!(run(&["spawn", "-m", "Work", "--name", name, "--profile", "works"]).code, 0);
    }
    let task = run(&["task", "add", "Something"]).stdout.trim().to_owned();
    run(&["finding", "add", "Something"]);
    let listed: serde_json::Value =
        serde_json::from_str(&run(&["finding", "list", "--json"]).stdout).unwrap();
    let finding = listed["data"][0]["id"].as_str().unwrap().to_owned();
    for args in commands(&task, &finding) {
        run(&args.iter().map(String::as_str).collect::<Vec<_>>());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    // It got somewhere: work landed and was pushed.
    let log = sandbox.git(&["log", "--format=%s", "main"]);
    assert!(log.contains("Merge heron into main"), "{log}");
    assert!(sandbox.git_in(&root.join("remote.git"), &["for-each-ref"]).contains("refs/orchestra/state"));
}

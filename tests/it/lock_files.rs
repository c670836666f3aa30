//! Lock files that conflict, written again by the real programs: npm, pnpm, Yarn and Cargo, and by their own command uv,
//! Poetry, Bundler and Composer. All that they lock lies in the repository, so none of them needs a registry.

use crate::harness::programs;
use crate::harness::sandbox::{ORCHESTRA, kill, poll, wait_for};
use crate::harness::{Output, Sandbox};
use crate::merge::{add_agents, fleet, open_decision};
use nix::sys::signal::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

mod others;

type Files = Vec<(String, String)>;

fn owned(files: &[(&str, &str)]) -> Files {
    files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect()
}

/// Lets settings name the programs that may lock, as the message says.
fn allow(sandbox: &Sandbox, tool: &str) {
    sandbox.git(&["config", "--global", "--add", "orchestra.merge.lockTools", tool]);
}

/// Runs a program in `dir`, which must succeed.
fn run_in(sandbox: &Sandbox, dir: &Path, words: &[&str]) -> String {
    let output = sandbox.command(words[0]).current_dir(dir).args(&words[1..]).output();
    let output = output.unwrap_or_else(|error| panic!("the tests need {}: {error}", words[0]));
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "{words:?}: {said}");
    said
}

/// `files` with the lock file that `words` make of them.
fn locked(sandbox: &Sandbox, files: &Files, lock: &str, words: &[&str]) -> Files {
    let dir = tempfile::tempdir_in(sandbox.root()).unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    run_in(sandbox, dir.path(), words);
    let text = std::fs::read_to_string(dir.path().join(lock)).unwrap();
    files.iter().cloned().chain([(lock.to_owned(), text)]).collect()
}

/// A repository whose `main` has `base`, and two agents with one of `sides` each.
fn two(sandbox: &Sandbox, base: &Files, sides: [&Files; 2]) {
    let borrow = |files: &Files| -> Vec<(&'static str, &'static str)> {
        let keep = |text: &String| -> &'static str { Box::leak(text.clone().into_boxed_str()) };
        files.iter().map(|(path, text)| (keep(path), keep(text))).collect()
    };
    sandbox.plumb_commit("refs/heads/main", "project", &borrow(base));
    sandbox.git(&["reset", "--quiet", "--hard"]);
    let [heron, fox] = sides.map(borrow);
    add_agents(sandbox, &[("blue-heron", &heron), ("grey-fox", &fox)]);
}

/// A workspace with the packages `one` and `two` and their dependencies, and what is vendored, with its versions. Whatever
/// runs a script of anything vendored leaves a canary in HOME.
fn workspace(one: &[&str], two: &[&str], vendored: &[(&str, &str)]) -> Files {
    let package = |name: &str, dependencies: &[&str]| {
        let ranges: serde_json::Map<String, serde_json::Value> = dependencies
            .iter()
            .map(|name| ((*name).to_owned(), format!("file:../../vendor/{name}").into()))
            .collect();
        serde_json::json!({ "name": name, "version": "1.0.0", "dependencies": ranges })
    };
    let mut files = owned(&[
        ("package.json", "{ \"name\": \"root\", \"private\": true, \"workspaces\": [\"packages/*\"] }\n"),
        ("pnpm-workspace.yaml", "packages:\n  - packages/*\n"),
        ("packages/one/package.json", &format!("{:#}\n", package("one", one))),
        ("packages/two/package.json", &format!("{:#}\n", package("two", two))),
    ]);
    for (name, version) in vendored {
        let script = format!("touch \"$HOME/canary-{name}\"");
        let package = serde_json::json!({
            "name": name, "version": version,
            "scripts": { "preinstall": script, "install": script, "postinstall": script, "prepare": script },
        });
        files.push((format!("vendor/{name}/package.json"), format!("{package:#}\n")));
    }
    files
}

fn canaries(sandbox: &Sandbox) -> Vec<String> {
    let entries = std::fs::read_dir(sandbox.home()).unwrap().flatten();
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| name.starts_with("canary"));
    names
}

/// A package manager of JavaScript.
struct Manager {
    name: &'static str,
    lock: &'static str,
    /// Makes a lock file.
    locks: &'static [&'static str],
    /// Takes the lock file as it is, or fails.
    accepts: &'static [&'static str],
}

const NPM: Manager = Manager {
    name: "npm",
    lock: "package-lock.json",
    locks: &[
        "npm",
        "install",
        "--package-lock-only",
        "--ignore-scripts",
        "--offline",
        "--no-audit",
        "--no-fund",
    ],
    accepts: &["npm", "ci", "--offline", "--ignore-scripts", "--no-audit", "--no-fund"],
};

const PNPM: Manager = Manager {
    name: "pnpm",
    lock: "pnpm-lock.yaml",
    locks: &["pnpm", "install", "--lockfile-only", "--ignore-scripts", "--offline"],
    accepts: &["pnpm", "install", "--frozen-lockfile", "--ignore-scripts", "--offline"],
};

const YARN: Manager = Manager {
    name: "yarn",
    lock: "yarn.lock",
    locks: &["sh", "-c", "touch yarn.lock && yarn install --mode=update-lockfile"],
    accepts: &["yarn", "install", "--immutable", "--mode=skip-build"],
};

/// A sandbox in which `program` is found first.
fn sandbox_with(program: Option<&Path>) -> Sandbox {
    let mut sandbox = fleet(&[]);
    let path =
        sandbox.command("git").get_envs().find(|(key, _)| *key == "PATH").unwrap().1.unwrap().to_owned();
    if let Some(dir) = program.and_then(Path::parent) {
        let dirs = std::iter::once(dir.to_owned()).chain(std::env::split_paths(&path));
        sandbox.set_env("PATH", std::env::join_paths(dirs).unwrap());
    }
    sandbox.set_env("YARN_ENABLE_TELEMETRY", "0");
    // The packages have scripts of their own, about which a merge asks otherwise.
    sandbox.git(&["config", "--global", "orchestra.merge.executables", "land"]);
    sandbox
}

/// Both agents add a dependency each: `heron` 1.2.0 to the package one, `fox` 2.3.0 to the package two.
fn clash(sandbox: &Sandbox, manager: &Manager) {
    let make = |files: Files| locked(sandbox, &files, manager.lock, manager.locks);
    let base = make(workspace(&[], &[], &[]));
    let heron = make(workspace(&["heron"], &[], &[("heron", "1.2.0")]));
    let fox = make(workspace(&[], &["fox"], &[("fox", "2.3.0")]));
    two(sandbox, &base, [&heron, &fox]);
    assert_eq!(canaries(sandbox), [""; 0], "the test itself ran a script");
}

fn is_merged(sandbox: &Sandbox, manager: &Manager) {
    let lock = sandbox.git(&["show", &format!("main:{}", manager.lock)]);
    for name in ["vendor/heron", "vendor/fox"] {
        assert!(lock.contains(name), "{name}: {lock}");
    }
    let checkout = tempfile::tempdir_in(sandbox.root()).unwrap();
    sandbox.git(&["worktree", "add", "--quiet", "--detach", checkout.path().to_str().unwrap(), "main"]);
    run_in(sandbox, checkout.path(), manager.accepts);
    assert_eq!(sandbox.git_in(checkout.path(), &["status", "--porcelain", "--", manager.lock]), "");
    assert_eq!(canaries(sandbox), [""; 0]);
}

fn is_asked_then_locked(manager: &Manager, program: Option<&Path>) {
    let sandbox = sandbox_with(program);
    clash(&sandbox, manager);
    let before = sandbox.fingerprint();
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 3, "{out}");
    let words = format!(
        "{} could be written again by {}, which did not: `merge.lock-tools`",
        manager.lock, manager.name
    );
    let way = format!("git config --global --add orchestra.merge.lockTools {}", manager.name);
    assert!(out.stderr.contains(&words) && out.stderr.contains(&way), "{out}");
    let shown = sandbox.json(&["show", &open_decision(&sandbox)]);
    let detail = shown["data"]["detail"].as_str().unwrap();
    assert!(
        detail.contains("which did not: `merge.lock-tools` does not name it") && detail.contains(&way),
        "{detail}"
    );
    assert_eq!(sandbox.fingerprint(), before);

    allow(&sandbox, manager.name);
    let out = sandbox.orchestra(&["merge", "--continue", "--json"]);
    assert_eq!(out.code, 0, "{out}");
    let landed: serde_json::Value = serde_json::from_str(&out.stdout).unwrap();
    let resolutions = landed["data"]["merge"]["steps"][1]["resolutions"].as_array().unwrap();
    let [resolution] = &resolutions[..] else { panic!("{landed:#}") };
    assert_eq!((&resolution["side"], &resolution["path"]), (&"rule".into(), &manager.lock.into()));
    let by = resolution["by"].as_str().unwrap();
    assert!(by.starts_with(&format!("{} by {} ", manager.lock, manager.name)), "{by}");
    is_merged(&sandbox, manager);
    let message = sandbox.git(&["log", "-1", "--format=%B", "main"]);
    assert!(message.contains(&format!("  {}: by rule: {by}", manager.lock)), "{message}");
    // What was written is no lost line, and nothing is left over.
    assert_eq!(sandbox.orchestra(&["verify"]).code, 0);
    let left = std::fs::read_dir(sandbox.root().join("repo.orchestra")).into_iter().flatten().count();
    assert_eq!(left, 0);
    sandbox.assert_sound();
}

#[test]
fn package_lock_json_is_written_again_by_npm_where_that_is_allowed() {
    is_asked_then_locked(&NPM, None);
}

#[test]
fn pnpm_lock_yaml_is_written_again_by_pnpm_where_that_is_allowed() {
    is_asked_then_locked(&PNPM, Some(&programs::pnpm()));
}

#[test]
fn yarn_lock_is_written_again_by_yarn_where_that_is_allowed() {
    is_asked_then_locked(&YARN, Some(&programs::yarn()));
}

#[test]
fn a_lock_file_waits_for_the_answer_about_its_manifest() {
    let sandbox = sandbox_with(None);
    let root = |name: &str, version: &str| -> Files {
        let (dependencies, vendored) = if name.is_empty() {
            (serde_json::json!({}), vec![])
        } else {
            let package = format!("{{ \"name\": \"{name}\", \"version\": \"{version}\" }}\n");
            (
                serde_json::json!({ name: format!("file:vendor/{name}") }),
                vec![(format!("vendor/{name}/package.json"), package)],
            )
        };
        let manifest =
            serde_json::json!({ "name": "root", "version": "1.0.0", "dependencies": dependencies });
        let files =
            std::iter::once(("package.json".to_owned(), format!("{manifest:#}\n"))).chain(vendored).collect();
        locked(&sandbox, &files, NPM.lock, NPM.locks)
    };
    two(&sandbox, &root("", ""), [&root("heron", "1.2.0"), &root("fox", "2.3.0")]);
    allow(&sandbox, "npm");
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 3, "{out}");
    let id = open_decision(&sandbox);
    let asked = sandbox.json(&["show", &id]);
    assert_eq!(
        asked["data"]["paths"],
        serde_json::json!(["package.json"]),
        "the lock file is nobody's to answer"
    );
    // With what nobody has, it cannot be locked: then it is asked about, and it alone.
    let edited = sandbox.root().join("edited");
    std::fs::write(&edited, "{ \"name\": \"root\", \"dependencies\": { \"fox\": \"file:gone.tgz\" } }\n")
        .unwrap();
    sandbox.ok(&["decide", &id, "edit", "-F", edited.to_str().unwrap()]);
    assert_eq!(sandbox.orchestra(&["merge", "--continue"]).code, 3);
    let asked = sandbox.json(&["show", &id])["data"].clone();
    let question = asked["question"].as_str().unwrap();
    assert!(question.ends_with(" in package-lock.json") && asked["status"] == "open", "{asked:#}");
    let both = "{\n  \"name\": \"root\",\n  \"version\": \"1.0.0\",\n  \"dependencies\": { \"fox\": \"file:vendor/fox\", \"heron\": \"file:vendor/heron\" }\n}\n";
    std::fs::write(&edited, both).unwrap();
    sandbox.ok(&["decide", &id, "edit", "--path", "package.json", "-F", edited.to_str().unwrap()]);
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(out.code, 0, "{out}");
    assert!(out.stderr.contains("2 conflicts resolved (1 by rule)"), "{out}");
    assert_eq!(sandbox.git(&["show", "main:package.json"]), both.trim_end());
    let shown = sandbox.json(&["show", &id]);
    assert_eq!(shown["data"]["answers"][NPM.lock]["key"], "rule", "{shown:#}");
    is_merged(&sandbox, &NPM);
}

#[test]
fn cargo_lock_that_cannot_be_merged_is_written_again_by_cargo() {
    let sandbox = sandbox_with(Some(Path::new(env!("CARGO"))));
    // Both raise the version of the same package, and add one each.
    let crates = |version: &str, own: Option<&str>| -> Files {
        let package = |name: &str, version: &str, rest: &str| {
            format!("[package]\nname = \"{name}\"\nversion = \"{version}\"\nedition = \"2021\"\n{rest}")
        };
        let mut files = owned(&[
            ("Cargo.toml", "[workspace]\nmembers = [\"crates/*\"]\nresolver = \"2\"\n"),
            ("crates/core/Cargo.toml", &package("core", version, "")),
            ("crates/core/src/lib.rs", "compile_error!(\"nothing is built\");\n"),
            ("crates/core/build.rs", "compile_error!(\"nothing is built\");\n"),
        ]);
        if let Some(name) = own {
            let needs = "\n[dependencies]\ncore = { path = \"../core\" }\n";
            files.push((format!("crates/{name}/Cargo.toml"), package(name, "3.0.0", needs)));
            files.push((format!("crates/{name}/src/lib.rs"), String::new()));
        }
        locked(&sandbox, &files, "Cargo.lock", &["cargo", "generate-lockfile", "--offline"])
    };
    two(&sandbox, &crates("0.1.0", None), [&crates("0.2.0", Some("heron")), &crates("0.3.0", Some("fox"))]);
    allow(&sandbox, "cargo");
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 3, "{out}");
    let id = open_decision(&sandbox);
    assert_eq!(sandbox.json(&["show", &id])["data"]["paths"], serde_json::json!(["crates/core/Cargo.toml"]));
    sandbox.ok(&["decide", &id, "theirs"]);
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(out.code, 0, "{out}");
    let shown = sandbox.json(&["show", &id]);
    let by = shown["data"]["answers"]["Cargo.lock"]["by"].as_str().unwrap();
    assert!(by.starts_with("Cargo.lock by cargo 1."), "{by}");
    run_in(
        &sandbox,
        sandbox.repo(),
        &["cargo", "metadata", "--locked", "--offline", "--format-version", "1"],
    );
    let lock = sandbox.read("Cargo.lock");
    let landed = sandbox.read("crates/core/Cargo.toml");
    let version = landed.lines().find(|line| line.starts_with("version")).unwrap();
    assert!(["\"heron\"", "\"fox\"", version].iter().all(|word| lock.contains(word)), "{lock}");
}

#[test]
fn settings_and_scripts_of_the_repository_choose_nothing_that_runs() {
    let sandbox = sandbox_with(None);
    // A dependency from git whose scripts tell, and a setting that names another git.
    let gift = sandbox.root().join("gift");
    sandbox.git(&["init", "--quiet", gift.to_str().unwrap()]);
    let script = "touch \"$HOME/canary-gift\"";
    let package = serde_json::json!({ "name": "gift", "version": "1.0.0", "scripts": { "prepare": script, "preinstall": script } });
    std::fs::write(gift.join("package.json"), package.to_string()).unwrap();
    sandbox.git_in(&gift, &["add", "."]);
    sandbox.git_in(&gift, &["commit", "--quiet", "-m", "gift"]);
    let evil = sandbox.root().join("evil");
    std::fs::write(&evil, "#!/bin/sh\ntouch \"$HOME/canary-git\"\nexec git \"$@\"\n").unwrap();
    std::fs::set_permissions(&evil, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let npmrc = format!("git={}\nscript-shell={}\nignore-scripts=false\n", evil.display(), evil.display());

    let make = |files: Files| locked(&sandbox, &files, NPM.lock, NPM.locks);
    let mut base = make(workspace(&[], &[], &[]));
    let heron = make(workspace(&["heron"], &[], &[("heron", "1.2.0")]));
    let mut fox = make(workspace(&[], &["fox"], &[("fox", "2.3.0")]));
    base.push((".npmrc".to_owned(), npmrc));
    let manifest = fox.iter_mut().find(|(path, _)| path == "packages/two/package.json").unwrap();
    let url = format!("git+file://{}", gift.display());
    manifest.1 =
        manifest.1.replace("\"dependencies\": {", &format!("\"dependencies\": {{ \"gift\": \"{url}\","));
    assert!(manifest.1.contains(&url));
    two(&sandbox, &base, [&heron, &fox]);
    allow(&sandbox, "npm");
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 0, "{out}");
    let lock = sandbox.git(&["show", "main:package-lock.json"]);
    assert!(
        ["vendor/heron", "vendor/fox", "node_modules/gift"].iter().all(|name| lock.contains(name)),
        "{lock}"
    );
    assert_eq!(canaries(&sandbox), [""; 0]);
    // The same in a checkout, without what is left out here, does run it.
    let lock = sandbox.repo().join("package-lock.json");
    std::fs::remove_file(lock).unwrap();
    run_in(&sandbox, sandbox.repo(), &["npm", "install", "--package-lock-only", "--no-audit", "--no-fund"]);
    assert_eq!(canaries(&sandbox), ["canary-git"]);
}

#[test]
fn what_the_program_says_when_it_fails_is_in_the_decision() {
    let mut sandbox = sandbox_with(None);
    sandbox.set_env("SECRET_TOKEN", "ghp_0123456789abcdefghijABCDEFGHIJ012345");
    clash(&sandbox, &NPM);
    allow(&sandbox, "npm");
    // Merged, the manifests want something that is not there; its name is a secret.
    let broken = "{ \"name\": \"two\", \"version\": \"1.0.0\", \"dependencies\": { \"gone\": \"file:../../ghp_0123456789abcdefghijABCDEFGHIJ012345.tgz\", \"fox\": \"file:../../vendor/fox\" } }\n";
    sandbox.plumb_commit(
        "refs/heads/orchestra/grey-fox",
        "break it",
        &[("packages/two/package.json", broken)],
    );
    let before = sandbox.fingerprint();
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 3, "{out}");
    assert!(
        out.stderr.contains("package-lock.json could be written again by npm, which did not: npm "),
        "{out}"
    );
    assert!(out.stderr.contains("exit code") && out.stderr.contains("ENOENT"), "{out}");
    let detail =
        sandbox.json(&["show", &open_decision(&sandbox)])["data"]["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("install --package-lock-only") && detail.contains("ENOENT"), "{detail}");
    let said = &detail[detail.find("## Lock files").unwrap()..];
    assert!(!said.contains("ghp_0123456789") && !out.stderr.contains("ghp_0123456789"), "{said}");
    assert_eq!(sandbox.fingerprint(), before);
    // It is still an ordinary conflict.
    sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"]);
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(out.code, 0, "{out}");
}

#[test]
fn what_was_locked_is_locked_again_where_a_manifest_has_changed_since() {
    let sandbox = sandbox_with(None);
    clash(&sandbox, &NPM);
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 3, "{out}");
    allow(&sandbox, "npm");
    // Merged, but not landed: the checkout is in the way.
    for (path, text) in workspace(&["late"], &[], &[("late", "4.0.0")]) {
        if path.starts_with("vendor/") {
            sandbox.write(&path, &text);
        }
    }
    let manifest = "{ \"name\": \"root\", \"private\": true, \"workspaces\": [\"packages/*\"], \"dependencies\": { \"late\": \"file:vendor/late\" } }\n";
    sandbox.write("package.json", manifest);
    sandbox.write("packages/one/package.json", "dirty\n");
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert!(out.code != 0 && out.stderr.contains("1 conflict resolved (1 by rule)"), "{out}");
    sandbox.git(&["checkout", "--", "packages/one/package.json"]);
    sandbox.commit("another dependency");
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(out.code, 0, "{out}");
    assert!(sandbox.git(&["show", "main:package-lock.json"]).contains("vendor/late"));
    is_merged(&sandbox, &NPM);
}

/// A registry that knows the package `slow`, and answers as soon as it is told to.
struct Registry {
    port: u16,
    asked: Arc<AtomicUsize>,
    answers: Arc<AtomicBool>,
}

impl Registry {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (asked, answers) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, may) = (Arc::clone(&asked), Arc::clone(&answers));
        std::thread::spawn(move || {
            let mut held = Vec::new();
            for mut stream in listener.incoming().flatten() {
                count.fetch_add(1, Ordering::SeqCst);
                if !may.load(Ordering::SeqCst) {
                    held.push(stream);
                    continue;
                }
                let _ = stream.read(&mut [0; 4096]);
                let hash = "z4PhNX7vuL3xVChQ1m2AB9Yg5AULVxXcg/SpIdNs6c5H0NE8XYXysP+DGNKHfuwvY7kxvUdBeoGlODJ6+SfaPg==";
                let version = |number: &str| {
                    let tarball = format!("http://127.0.0.1:{port}/slow-{number}.tgz");
                    let dist =
                        serde_json::json!({ "tarball": tarball, "integrity": format!("sha512-{hash}") });
                    serde_json::json!({ "name": "slow", "version": number, "dist": dist })
                };
                let body = serde_json::json!({
                    "name": "slow", "dist-tags": { "latest": "1.1.0" },
                    "versions": { "1.0.0": version("1.0.0"), "1.1.0": version("1.1.0") },
                })
                .to_string();
                let header = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close";
                let _ = write!(stream, "{header}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
            }
        });
        Self { port, asked, answers }
    }

    fn is_asked(&self) -> Option<()> {
        (self.asked.load(Ordering::SeqCst) > 0).then_some(())
    }
}

/// Two agents whose lock files conflict, one with a dependency that must be asked for.
fn slow(registry: &Registry) -> Sandbox {
    let sandbox = sandbox_with(None);
    clash(&sandbox, &NPM);
    let npmrc = format!("registry=http://127.0.0.1:{}/\n", registry.port);
    let manifest = sandbox.git(&["show", "orchestra/grey-fox:packages/two/package.json"]);
    let manifest = manifest.replace("\"dependencies\": {", "\"dependencies\": { \"slow\": \"^1.0.0\",");
    sandbox.plumb_commit(
        "refs/heads/orchestra/grey-fox",
        "slow",
        &[("packages/two/package.json", &manifest)],
    );
    sandbox.plumb_commit("refs/heads/main", "registry", &[(".npmrc", &npmrc)]);
    sandbox.git(&["reset", "--quiet", "--hard"]);
    allow(&sandbox, "npm");
    sandbox
}

/// Whether anything runs that was started to lock for this repository.
fn locks(sandbox: &Sandbox) -> bool {
    let mark = format!("lock-files@{}", sandbox.git_dir().display());
    std::fs::read_dir("/proc").unwrap().flatten().any(|entry| {
        let env = std::fs::read(entry.path().join("environ")).unwrap_or_default();
        env.split(|&byte| byte == 0).any(|variable| variable.ends_with(mark.as_bytes()))
    })
}

#[test]
fn one_that_hangs_is_ended_at_its_deadline() {
    let registry = Registry::start();
    let sandbox = slow(&registry);
    sandbox.git(&["config", "--global", "orchestra.merge.lockTimeout", "3s"]);
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 3, "{out}");
    assert!(out.stderr.contains("it was ended after 3 s"), "{out}");
    registry.is_asked().expect("it hung on what it asked for");
    assert!(poll(|| (!locks(&sandbox)).then_some(())).is_some());
    sandbox.assert_sound();
}

#[test]
fn a_kill_while_it_locks_loses_nothing_and_the_merge_goes_on() {
    let registry = Registry::start();
    let sandbox = slow(&registry);
    let before = sandbox.fingerprint();
    let mut command = sandbox.command(ORCHESTRA);
    command.arg("merge").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for("npm", || registry.is_asked());
    assert!(locks(&sandbox));
    kill(child.id(), Signal::SIGKILL);
    child.wait().unwrap();
    let left = || -> Vec<_> {
        std::fs::read_dir(sandbox.root().join("repo.orchestra")).into_iter().flatten().flatten().collect()
    };
    let [dir] = &left()[..] else { panic!("where it was locking: {:?}", left()) };
    let dir = dir.path().display().to_string();
    let seen = sandbox.orchestra(&["doctor"]).stdout;
    assert!(seen.contains("a process was killed that wrote lock files") && seen.contains(&dir), "{seen}");
    // Settings that name another place since do not hide it.
    sandbox.git(&["config", "--global", "orchestra.worktreeRoot", "/nowhere"]);
    let recovered = sandbox.ok(&["recover"]);
    sandbox.git(&["config", "--global", "--unset", "orchestra.worktreeRoot"]);
    assert!(
        recovered.contains("processes that wrote lock files, which a dead process had started"),
        "{recovered}"
    );
    assert!(recovered.contains("in which a dead process wrote lock files"), "{recovered}");
    assert!(left().is_empty(), "{:?}", left());
    assert!(!sandbox.orchestra(&["doctor"]).stdout.contains("wrote lock files"));
    assert!(poll(|| (!locks(&sandbox)).then_some(())).is_some());
    assert_eq!(sandbox.fingerprint(), before);
    registry.answers.store(true, Ordering::SeqCst);
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(out.code, 0, "{out}");
    let lock = sandbox.git(&["show", "main:package-lock.json"]);
    assert!(
        ["vendor/heron", "vendor/fox", "node_modules/slow"].iter().all(|name| lock.contains(name)),
        "{lock}"
    );
    assert!(left().is_empty(), "{:?}", left());
    sandbox.assert_sound();
}

#[test]
fn a_version_that_the_branch_locked_stays_where_there_is_a_newer_one() {
    let registry = Registry::start();
    registry.answers.store(true, Ordering::SeqCst);
    let sandbox = sandbox_with(None);
    let url = format!("--registry=http://127.0.0.1:{}/", registry.port);
    let words =
        ["npm", "install", "--package-lock-only", "--ignore-scripts", "--no-audit", "--no-fund", &url];
    let make = |files: Files| locked(&sandbox, &files, NPM.lock, &words);
    let mut base = make(workspace(&[], &[], &[]));
    base.push((".npmrc".to_owned(), format!("registry=http://127.0.0.1:{}/\n", registry.port)));
    let heron = make(workspace(&["heron"], &[], &[("heron", "1.2.0")]));
    let fox = workspace(&[], &[], &[]).into_iter().map(|(path, text)| {
        let slow = text.replace("\"dependencies\": {", "\"dependencies\": { \"slow\": \"1.0.0\"");
        (path.clone(), if path == "packages/two/package.json" { slow } else { text })
    });
    let mut fox = make(fox.collect());
    for (_, text) in &mut fox {
        *text = text.replace("\"slow\": \"1.0.0\"", "\"slow\": \"^1.0.0\"");
    }
    two(&sandbox, &base, [&heron, &fox]);
    allow(&sandbox, "npm");
    let out = sandbox.orchestra(&["merge"]);
    assert_eq!(out.code, 0, "{out}");
    let lock: serde_json::Value =
        serde_json::from_str(&sandbox.git(&["show", "main:package-lock.json"])).unwrap();
    assert_eq!(lock["packages"]["node_modules/slow"]["version"], "1.0.0", "{lock:#}");
    assert_eq!(lock["packages"]["vendor/heron"]["version"], "1.2.0", "{lock:#}");
    assert_eq!(lock["packages"]["packages/two"]["dependencies"]["slow"], "^1.0.0", "{lock:#}");
}

#[test]
fn the_repository_allows_nothing_by_itself() {
    let sandbox = sandbox_with(None);
    clash(&sandbox, &NPM);
    sandbox.plumb_commit(
        "refs/heads/main",
        "settings",
        &[("orchestra.toml", "merge.lock-tools = ['npm']\n")],
    );
    sandbox.git(&["reset", "--quiet", "--hard"]);
    let out = sandbox.orchestra(&["merge"]);
    assert!(
        out.code == 3 && out.stderr.contains("the repository allows it, and you have not approved that"),
        "{out}"
    );
    assert!(out.stderr.contains("`git orchestra config approve` lets it"), "{out}");
    let shown = sandbox.orchestra(&["config", "approve"]);
    let hash = shown.stdout.lines().find_map(|line| line.strip_prefix("hash ")).unwrap().to_owned();
    sandbox.ok(&["config", "approve", "--hash", &hash]);
    assert_eq!(sandbox.orchestra(&["merge", "--continue"]).code, 0);
    is_merged(&sandbox, &NPM);

    let wrong = |sandbox: &Sandbox| -> Output {
        sandbox.git(&["config", "--global", "--add", "orchestra.merge.lockTools", "make"]);
        sandbox.orchestra(&["merge"])
    };
    let out = wrong(&sandbox);
    assert!(
        out.code == 1 && out.stderr.contains("`merge.lock-tools` names `make`, which locks nothing"),
        "{out}"
    );
}

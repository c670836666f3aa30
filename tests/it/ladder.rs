//! Conflicts that need nobody, as a user meets them: answered before, or of lock files; with the real Cargo.

use crate::harness::Sandbox;
use crate::merge::{add_agents, clashing, fleet, open_decision};
use std::path::Path;

#[test]
fn what_was_decided_for_one_branch_holds_for_the_next() {
    let sandbox = clashing();
    sandbox.git(&["branch", "release"]);
    assert_eq!(sandbox.orchestra(&["merge", "blue-heron", "grey-fox"]).code, 3);
    sandbox.ok(&["decide", &open_decision(&sandbox), "theirs"]);
    sandbox.ok(&["merge", "--continue"]);

    let again = sandbox.orchestra(&["merge", "blue-heron", "grey-fox", "--into", "release"]);
    assert!(again.stderr.contains("merged grey-fox, 1 conflict resolved (1 as before)"), "{}", again.stderr);
    assert_eq!(again.code, 0);
    assert_eq!(sandbox.git(&["show", "release:src/f"]), sandbox.git(&["show", "main:src/f"]));
    let merge = sandbox.json(&["verify"])["data"][0]["merge"].as_str().unwrap().to_owned();
    let shown = sandbox.ok(&["show", &merge]);
    let whose = "src/f: remembered by Ada Example <ada@example.org>, repeats decision ";
    assert!(shown.contains(whose) && shown.contains(": unverified, not signed"), "{shown}");
    let answer = sandbox.json(&["show", &merge])["data"]["answers"][0].clone();
    assert_eq!((&answer["is"], &answer["original"]), (&"repeats".into(), &"unsigned".into()), "{answer}");
    let listed = sandbox.git(&["log", "-1", "--format=%B", "release"]);
    assert!(listed.contains("src/f: as Ada Example <ada@example.org> decided before"), "{listed}");

    sandbox.git(&["branch", "careful", "main~2"]);
    let merge = ["merge", "blue-heron", "grey-fox", "--into", "careful"];
    assert_eq!(sandbox.orchestra(&[&merge[..], &["--ask"]].concat()).code, 3);
    sandbox.ok(&["merge", "--abort"]);
    sandbox.git(&["config", "orchestra.merge.remembered", "ask"]);
    assert_eq!(sandbox.orchestra(&merge).code, 3);
}

const ROOT: &str = "[workspace]\nmembers = [\"crates/*\"]\nresolver = \"2\"\n";

fn manifest(name: &str, dependencies: &[&str]) -> String {
    let lines: Vec<String> =
        dependencies.iter().map(|name| format!("{name} = {{ path = \"../{name}\" }}\n")).collect();
    format!(
        "[package]\nname = \"{name}\"\nversion = \"0.1.0\"\nedition = \"2021\"\n\n[dependencies]\n{}",
        lines.concat()
    )
}

/// Runs the Cargo that runs the tests, offline and with a home of its own.
fn cargo(sandbox: &Sandbox, dir: &Path, args: &[&str]) -> String {
    let program = Path::new(env!("CARGO"));
    let mut command = sandbox.command(program.to_str().unwrap());
    let tools = program.parent().unwrap().display();
    command.current_dir(dir).args(args).env("PATH", format!("{tools}:/usr/bin:/bin"));
    let output = command.env("CARGO_NET_OFFLINE", "true").output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "cargo {args:?}: {err}");
    out.into_owned()
}

/// The files of a workspace, with the lock file that Cargo makes of them.
fn locked(sandbox: &Sandbox, crates: &[(&str, &[&str])]) -> Vec<(String, String)> {
    let dir = tempfile::tempdir().unwrap();
    let mut files = vec![("Cargo.toml".to_owned(), ROOT.to_owned())];
    for (name, dependencies) in crates {
        files.push((format!("crates/{name}/Cargo.toml"), manifest(name, dependencies)));
        files.push((format!("crates/{name}/src/lib.rs"), String::new()));
    }
    for (path, text) in &files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    cargo(sandbox, dir.path(), &["generate-lockfile"]);
    files.push(("Cargo.lock".to_owned(), std::fs::read_to_string(dir.path().join("Cargo.lock")).unwrap()));
    files
}

#[test]
fn what_agents_add_to_a_workspace_is_locked_together_and_cargo_takes_it() {
    let sandbox = fleet(&[]);
    let borrowed = |files: &'_ [(String, String)]| -> Vec<(&'static str, &'static str)> {
        let keep = |text: &String| -> &'static str { Box::leak(text.clone().into_boxed_str()) };
        files.iter().map(|(path, text)| (keep(path), keep(text))).collect()
    };
    let base = locked(&sandbox, &[("core", &[]), ("shell", &["core"])]);
    sandbox.plumb_commit("refs/heads/main", "workspace", &borrowed(&base));
    sandbox.git(&["reset", "--quiet", "--hard"]);
    // Both change what `shell` needs, and add packages at the same place.
    let heron =
        borrowed(&locked(&sandbox, &[("core", &[]), ("heron", &["core"]), ("shell", &["core", "heron"])]));
    let fox = borrowed(&locked(&sandbox, &[("core", &[]), ("fox", &["core"]), ("shell", &["core"])]));
    add_agents(&sandbox, &[("blue-heron", &heron), ("grey-fox", &fox)]);

    let merged = sandbox.orchestra(&["merge"]);
    assert!(merged.stderr.contains("1 conflict resolved (1 by rule)"), "{}", merged.stderr);
    assert_eq!(merged.code, 0);
    let told = cargo(&sandbox, sandbox.repo(), &["metadata", "--locked", "--format-version", "1"]);
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    let mut names: Vec<_> = told["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| package["name"].as_str().unwrap())
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["core", "fox", "heron", "shell"]);
}

//! Generated files are what the program generates: completion scripts and the manual.
//!
//! `BLESS=1 cargo test --test it generated` rewrites them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use crate::harness::Sandbox;

/// The files that `directory` has to hold, and nothing else.
fn compare(directory: &str, expected: &BTreeMap<String, Vec<u8>>) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join(directory);
    if std::env::var_os("BLESS").is_some() {
        let _ = fs::remove_dir_all(&dir);
        fs::create_dir_all(&dir).unwrap();
        for (name, bytes) in expected {
            fs::write(dir.join(name), bytes).unwrap();
        }
        return;
    }
    let found: BTreeMap<String, Vec<u8>> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| {
            let entry = entry.unwrap();
            (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
        })
        .collect();
    let stale: Vec<&String> =
        expected.keys().chain(found.keys()).filter(|name| expected.get(*name) != found.get(*name)).collect();
    assert!(stale.is_empty(), "{directory}/ is stale: {stale:?}; BLESS=1 cargo test --test it generated");
}

#[test]
fn completions_are_current() {
    let sandbox = Sandbox::new();
    let files = [
        ("bash", "git-orchestra.bash"),
        ("zsh", "_git-orchestra"),
        ("fish", "git-orchestra.fish"),
        ("powershell", "git-orchestra.ps1"),
        ("elvish", "git-orchestra.elv"),
    ];
    let script = |shell: &str| sandbox.orchestra(&["completion", shell]).stdout.into_bytes();
    let expected = files.map(|(shell, file)| (file.to_owned(), script(shell)));
    compare("completions", &expected.into_iter().collect());
}

#[test]
fn the_manual_is_current() {
    let sandbox = Sandbox::new();
    let dir = sandbox.root().join("man");
    sandbox.ok(&["man", "--install", dir.to_str().unwrap()]);
    let expected: BTreeMap<String, Vec<u8>> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read(path).unwrap()))
        .collect();
    assert!(expected.contains_key("git-orchestra-task-add.1"));
    compare("man", &expected);
}

#[test]
fn the_manual_is_installed_where_man_looks() {
    let sandbox = Sandbox::new();
    sandbox.ok(&["man", "--install"]);
    let page = sandbox.home().join(".local/share/man/man1/git-orchestra.1");
    assert!(fs::read_to_string(page).unwrap().starts_with(".ie"));
}

//! The arrows of ARCHITECTURE.md, read from the sources: what each layer may import, and the one home of gix, of
//! child processes and of the terminal.

use std::path::{Path, PathBuf};

use regex::Regex;

/// What each layer may name beside itself and `model`.
const ARROWS: &[(&str, &[&str])] = &[
    ("model", &[]),
    ("process", &[]),
    ("git", &["process"]),
    // The store starts no processes: it takes the clock, see `homes`.
    ("store", &["git", "process"]),
    ("agent", &["process"]),
    ("config", &["git", "agent"]),
    ("orchestrate", &["agent", "config", "git", "process", "store"]),
    ("cli", &["agent", "config", "git", "orchestrate", "process", "store"]),
];

/// What may be named in one place only: a pattern, and the files or directories below `src/` that may.
const HOMES: &[(&str, &[&str])] = &[
    (r"\bgix(_\w+)?::", &["git/"]),
    (r"\b(std|tokio)::process::(Command\b|\{[^}]*\bCommand\b)", &["process/"]),
    (r"\b(clap|clap_complete|clap_mangen|console|indicatif|strsim|tracing_subscriber)::", &["cli/"]),
    (r"\benv::(var|vars|var_os|vars_os)\(", &["cli/env.rs"]),
    (r"\b(SystemTime|Zoned)::now\(", &["process/"]),
    (r"\b(println|eprintln|print|eprint)!", &["cli/"]),
];

struct Source {
    /// Below `src/`.
    path: String,
    text: String,
}

fn sources() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    files
        .into_iter()
        .map(|file| {
            let path = file.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            let text = std::fs::read_to_string(&file).unwrap();
            // Comments may speak of anything.
            let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
            Source { path, text: code.collect::<Vec<_>>().join("\n") }
        })
        .collect()
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}

/// Every module of the crate's root that a file names, as `crate::x` or in `crate::{x, y::z}`.
fn imports(text: &str) -> Vec<String> {
    let single = Regex::new(r"\bcrate::(\w+)").unwrap();
    let group = Regex::new(r"\bcrate::\{([^;]*)\};").unwrap();
    let mut found: Vec<String> = single.captures_iter(text).map(|found| found[1].to_owned()).collect();
    for list in group.captures_iter(text) {
        let mut depth = 0;
        let mut name = String::new();
        for character in list[1].chars().chain([',']) {
            match character {
                '{' => depth += 1,
                '}' => depth -= 1,
                ',' if depth == 0 => {
                    found.push(std::mem::take(&mut name).split("::").next().unwrap().trim().to_owned());
                }
                _ if depth == 0 => name.push(character),
                _ => {}
            }
        }
    }
    found
}

#[test]
fn imports_follow_the_arrows() {
    let layers: Vec<&str> = ARROWS.iter().map(|(layer, _)| *layer).collect();
    let mut wrong = Vec::new();
    for source in sources() {
        let Some((layer, allowed)) =
            ARROWS.iter().find(|(layer, _)| source.path.starts_with(&format!("{layer}/")))
        else {
            assert!(["lib.rs", "main.rs"].contains(&source.path.as_str()), "{} is in no layer", source.path);
            continue;
        };
        for name in imports(&source.text) {
            let known = layers.contains(&name.as_str());
            if known && name != *layer && name != "model" && !allowed.contains(&name.as_str()) {
                wrong.push(format!("{} names crate::{name}, and {layer} may not", source.path));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn what_has_one_home_stays_there() {
    let mut wrong = Vec::new();
    for (pattern, homes) in HOMES {
        let pattern = Regex::new(pattern).unwrap();
        for source in sources() {
            if homes.iter().any(|home| source.path.starts_with(home)) {
                continue;
            }
            if let Some(found) = pattern.find(&source.text) {
                wrong.push(format!("{} names {}, whose home is {homes:?}", source.path, found.as_str()));
            }
        }
    }
    let from_process = Regex::new(r"crate::process::[^;]*;").unwrap();
    let names = Regex::new(r"\b[A-Z]\w+").unwrap();
    for source in sources().iter().filter(|source| source.path.starts_with("store/")) {
        for found in from_process.find_iter(&source.text).flat_map(|found| names.find_iter(found.as_str())) {
            if !found.as_str().ends_with("Clock") {
                wrong.push(format!("{} takes {} from process", source.path, found.as_str()));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn groups_of_imports_are_read() {
    let text =
        "use crate::{git::{self, Repository}, model, store::Store};\nlet x = crate::agent::Redactor::new();";
    assert_eq!(imports(text), ["agent", "git", "model", "store"]);
}

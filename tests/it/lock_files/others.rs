//! Those that not every machine has. Each of these tests fails where its program is missing: they have their own command
//! (CONTRIBUTING.md).

use super::{Files, allow, canaries, locked, owned, run_in, sandbox_with, two};
use crate::harness::Sandbox;

/// A project in a language: what is in it with these dependencies, which are vendored.
struct Language {
    tool: &'static str,
    lock: &'static str,
    files: fn(&[(&str, &str)]) -> Files,
    locks: &'static [&'static str],
    accepts: &'static [&'static str],
}

/// Two agents add a dependency each; the manifest has a place for each, so only the lock file conflicts.
fn is_locked(language: &Language) {
    let sandbox = sandbox_with(None);
    let make =
        |names: &[(&str, &str)]| locked(&sandbox, &(language.files)(names), language.lock, language.locks);
    let (base, heron, fox) = (make(&[]), make(&[("heron", "1.2.0")]), make(&[("fox", "2.3.0")]));
    two(&sandbox, &base, [&heron, &fox]);
    let out = sandbox.orchestra(&["merge"]);
    assert!(out.code == 3 && out.stderr.contains(&format!("lockTools {}", language.tool)), "{out}");
    allow(&sandbox, language.tool);
    let out = sandbox.orchestra(&["merge", "--continue"]);
    assert_eq!(out.code, 0, "{out}");
    assert!(out.stderr.contains("1 conflict resolved (1 by rule)"), "{out}");
    accepted(&sandbox, language);
    sandbox.assert_sound();
}

fn accepted(sandbox: &Sandbox, language: &Language) {
    let lock = sandbox.git(&["show", &format!("main:{}", language.lock)]);
    assert!(["heron", "1.2.0", "fox", "2.3.0"].iter().all(|word| lock.contains(word)), "{lock}");
    run_in(sandbox, sandbox.repo(), language.accepts);
    assert_eq!(sandbox.git(&["status", "--porcelain", "--", language.lock]), "");
    assert_eq!(canaries(sandbox), [""; 0]);
}

/// A file with a place for each of two names, far enough apart that git merges both.
fn places(names: &[(&str, &str)], line: impl Fn(&str) -> String) -> String {
    let place = |name: &str| {
        names.iter().filter(|(known, _)| *known == name).map(|(known, _)| line(known)).collect::<String>()
    };
    format!("{}# 1\n# 2\n# 3\n# 4\n{}", place("fox"), place("heron"))
}

fn python(names: &[(&str, &str)], head: &str, line: impl Fn(&str) -> String) -> Files {
    let mut files = owned(&[("pyproject.toml", &format!("{head}{}", places(names, line)))]);
    for (name, version) in names {
        let text = format!(
            "[project]\nname = \"{name}\"\nversion = \"{version}\"\nrequires-python = \">=3.9\"\n\n[build-system]\nrequires = [\"hatchling\"]\nbuild-backend = \"hatchling.build\"\n"
        );
        files.push((format!("vendor/{name}/pyproject.toml"), text));
    }
    files
}

#[test]
#[ignore = "needs uv"]
fn uv_lock_is_written_again_by_uv() {
    is_locked(&Language {
        tool: "uv",
        lock: "uv.lock",
        files: |names| {
            let groups = places(names, |name| format!("{name} = [\"{name}\"]\n"));
            let head = format!(
                "[project]\nname = \"root\"\nversion = \"1.0.0\"\nrequires-python = \">=3.9\"\n\n[dependency-groups]\n{groups}\n[tool.uv.sources]\n"
            );
            python(names, &head, |name| format!("{name} = {{ path = \"vendor/{name}\" }}\n"))
        },
        locks: &["uv", "lock", "--offline"],
        accepts: &["uv", "lock", "--check", "--offline"],
    });
}

#[test]
#[ignore = "needs Poetry"]
fn poetry_lock_is_written_again_by_poetry() {
    is_locked(&Language {
        tool: "poetry",
        lock: "poetry.lock",
        files: |names| {
            let head = "[tool.poetry]\nname = \"root\"\nversion = \"1.0.0\"\ndescription = \"\"\nauthors = []\npackage-mode = false\n\n\
                        [tool.poetry.dependencies]\npython = \">=3.9\"\n";
            python(names, head, |name| format!("{name} = {{ path = \"vendor/{name}\" }}\n"))
        },
        locks: &["poetry", "--no-interaction", "lock"],
        accepts: &["poetry", "--no-interaction", "check", "--lock"],
    });
}

#[test]
#[ignore = "needs Bundler"]
fn gemfile_lock_is_written_again_by_bundler() {
    is_locked(&Language {
        tool: "bundler",
        lock: "Gemfile.lock",
        files: |names| {
            let mut files = owned(&[(
                "Gemfile",
                &places(names, |name| format!("gem \"{name}\", path: \"vendor/{name}\"\n")),
            )]);
            for (name, version) in names {
                let text = format!(
                    "Gem::Specification.new do |s|\n  s.name = \"{name}\"\n  s.version = \"{version}\"\n  s.summary = \"x\"\n  s.authors = [\"x\"]\nend\n"
                );
                files.push((format!("vendor/{name}/{name}.gemspec"), text));
            }
            files
        },
        locks: &["bundle", "lock"],
        accepts: &["sh", "-c", "BUNDLE_FROZEN=true bundle install --local"],
    });
}

#[test]
#[ignore = "needs Composer"]
fn composer_lock_is_written_again_by_composer() {
    is_locked(&Language {
        tool: "composer",
        lock: "composer.lock",
        files: |names| {
            let required = |name: &str| {
                names
                    .iter()
                    .find(|(known, _)| *known == name)
                    .map(|(name, version)| format!("    \"x/{name}\": \"{version}\"\n"))
            };
            let manifest = format!(
                "{{\n  \"name\": \"x/root\",\n  \"scripts\": {{ \"pre-update-cmd\": \"touch $HOME/canary\", \"post-update-cmd\": \"touch $HOME/canary\" }},\n  \
                 \"require\": {{\n{}  }},\n  \"repositories\": [\n    {{ \"type\": \"path\", \"url\": \"vendored/*\" }},\n    {{ \"packagist.org\": false }}\n  ],\n  \
                 \"require-dev\": {{\n{}  }}\n}}\n",
                required("fox").unwrap_or_default(),
                required("heron").unwrap_or_default()
            );
            let mut files = owned(&[("composer.json", &manifest)]);
            files.push(("vendored/.keep".to_owned(), String::new()));
            for (name, version) in names {
                let text = format!("{{ \"name\": \"x/{name}\", \"version\": \"{version}\" }}\n");
                files.push((format!("vendored/{name}/composer.json"), text));
            }
            files
        },
        locks: &["composer", "update", "--no-install", "--no-scripts", "--no-interaction"],
        accepts: &["composer", "install", "--dry-run", "--no-interaction", "--no-scripts"],
    });
}

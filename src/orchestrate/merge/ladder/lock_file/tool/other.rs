//! Cargo, Bundler and Composer.

use super::{Case, Sees, Tool, ends, line, start};
use serde_json::Value;

/// `cargo update --workspace` locks what the members need and keeps the rest. Only for what cannot be merged package by
/// package. It sees no configuration, which may name programs, and of sources only that they are there.
pub(super) const CARGO: Tool = Tool {
    name: "cargo",
    program: "cargo",
    file: "Cargo.lock",
    manifest: "Cargo.toml",
    sees: |name| match name {
        "Cargo.toml" => Some(Sees::Whole),
        name if ends(name, &[".rs"]) => Some(Sees::Empty),
        _ => None,
    },
    start: |versions| Some(start::packages(&versions.base, &versions.ours, &versions.theirs)),
    lines: |_| Ok(vec![line(&["update", "--workspace", "--quiet"])]),
    env: &[],
};

/// `bundle lock` keeps what is locked. It evaluates the `Gemfile` and what gems of the repository say of themselves.
pub(super) const BUNDLER: Tool = Tool {
    name: "bundler",
    program: "bundle",
    file: "Gemfile.lock",
    manifest: "Gemfile",
    sees: |name| match name {
        "Gemfile" | ".ruby-version" | ".tool-versions" => Some(Sees::Whole),
        name if ends(name, &[".gemspec", ".rb"]) => Some(Sees::Whole),
        _ => None,
    },
    start: |versions| Some(start::gems(&versions.base, &versions.ours, &versions.theirs)),
    lines: |_| Ok(vec![line(&["lock"])]),
    env: &[("BUNDLE_IGNORE_CONFIG", "1")],
};

/// Composer locks what the lock file lacks, and then checks all of it: `--lock` alone says yes to one that lacks a package.
pub(super) const COMPOSER: Tool = Tool {
    name: "composer",
    program: "composer",
    file: "composer.lock",
    manifest: "composer.json",
    sees: |name| match name {
        "composer.json" => Some(Sees::Whole),
        name if ends(name, &[".zip"]) => Some(Sees::Whole),
        _ => None,
    },
    start: |versions| start::json(&versions.base, &versions.ours, &versions.theirs),
    lines: composer,
    env: &[("COMPOSER_ALLOW_SUPERUSER", "1"), ("COMPOSER_DISABLE_XDEBUG_WARN", "1")],
};

const QUIET: [&str; 3] = ["--no-interaction", "--no-plugins", "--no-scripts"];

fn composer(case: &Case<'_>) -> Result<Vec<Vec<String>>, String> {
    let read = |text: &str| serde_json::from_str::<Value>(text).map_err(|error| error.to_string());
    let (manifest, lock) = (read(case.manifest)?, read(case.start)?);
    let locked = |name: &str| {
        let all = ["packages", "packages-dev"].iter().filter_map(|list| lock.get(list)?.as_array()).flatten();
        all.filter_map(|package| package.get("name")?.as_str()).any(|other| other.eq_ignore_ascii_case(name))
    };
    let required =
        ["require", "require-dev"].iter().filter_map(|list| manifest.get(list)?.as_object()).flatten();
    // Those without a slash are the platform's: PHP and its extensions.
    let missing = required.map(|(name, _)| name).filter(|name| name.contains('/') && !locked(name));
    let mut update = line(&["update", "--no-install"]);
    update.extend(missing.filter(|name| !name.starts_with('-')).cloned());
    if update.len() == 2 {
        update.push("--lock".to_owned());
    }
    update.extend(line(&QUIET));
    let mut check = line(&["install", "--dry-run"]);
    check.extend(line(&QUIET));
    Ok(vec![update, check])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn composer_is_asked_for_what_is_not_locked_and_then_to_check() {
        let lines = |manifest: &str| {
            let start = r#"{ "packages": [{ "name": "x/a" }], "packages-dev": [{ "name": "x/b" }] }"#;
            composer(&Case { version: "2.5.5", start, manifest, shown: &[] }).unwrap()
        };
        let known = lines(r#"{ "require": { "php": ">=8", "x/a": "1" }, "require-dev": { "X/B": "1" } }"#);
        assert_eq!(known[0][..3], ["update", "--no-install", "--lock"]);
        let new = lines(r#"{ "require": { "x/a": "1", "x/c": "1", "--evil/x": "1" } }"#);
        assert_eq!(new[0][..3], ["update", "--no-install", "x/c"]);
        assert_eq!(new[0][3..], QUIET);
        assert_eq!(new[1][..2], ["install", "--dry-run"]);
    }
}

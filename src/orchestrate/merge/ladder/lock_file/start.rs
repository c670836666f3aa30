//! What a program begins with that locks again: the entries of both sides, so that it keeps their versions.
//!
//! Nothing here has to be right: the program reads it beside the manifests, leaves out what nobody needs and adds what is
//! missing. So what one side took out stays in, and where both changed an entry that of the landed side does.

use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What only one side changed, as that side has it; otherwise what has landed. Nothing is taken out.
fn either<T: PartialEq>(base: Option<&T>, ours: Option<T>, theirs: Option<T>) -> Option<T> {
    match (ours, theirs) {
        (Some(ours), Some(theirs)) => Some(if Some(&ours) == base { theirs } else { ours }),
        (ours, theirs) => ours.or(theirs),
    }
}

/// JSON: `package-lock.json`, `composer.lock`. `None` if one of them is none.
pub(super) fn json(base: &str, ours: &str, theirs: &str) -> Option<String> {
    let read = |text: &str| serde_json::from_str::<Value>(text).ok();
    let merged = value(read(base).as_ref(), Some(&read(ours)?), Some(&read(theirs)?))?;
    serde_json::to_string_pretty(&merged).ok().map(|text| text + "\n")
}

fn value(base: Option<&Value>, ours: Option<&Value>, theirs: Option<&Value>) -> Option<Value> {
    if ours == theirs || theirs == base {
        return ours.cloned();
    }
    if ours == base {
        return theirs.cloned();
    }
    match (ours, theirs) {
        // A package is one thing: its version and its checksum belong together.
        (Some(Value::Object(one)), Some(Value::Object(other))) if !is_package(one) && !is_package(other) => {
            let none = Map::new();
            let base = base.and_then(Value::as_object).unwrap_or(&none);
            let keys: BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            let entry =
                |key: &String| Some((key.clone(), value(base.get(key), one.get(key), other.get(key))?));
            Some(Value::Object(keys.into_iter().filter_map(entry).collect()))
        }
        (Some(Value::Array(one)), Some(Value::Array(other))) => {
            let (Some(first), Some(second)) = (named(one), named(other)) else { return ours.cloned() };
            let base = base.and_then(Value::as_array).and_then(|list| named(list)).unwrap_or_default();
            let names: BTreeSet<&str> = first.keys().chain(second.keys()).copied().collect();
            let at = |list: &BTreeMap<&str, &Value>, name: &str| list.get(name).copied().cloned();
            let entry = |name: &str| {
                value(at(&base, name).as_ref(), at(&first, name).as_ref(), at(&second, name).as_ref())
            };
            Some(Value::Array(names.into_iter().filter_map(entry).collect()))
        }
        (ours, theirs) => ours.or(theirs).cloned(),
    }
}

fn is_package(object: &Map<String, Value>) -> bool {
    object.contains_key("version")
        && ["resolved", "integrity", "dist", "source"].iter().any(|key| object.contains_key(*key))
}

/// A list of things that have names.
fn named(list: &[Value]) -> Option<BTreeMap<&str, &Value>> {
    list.iter().map(|item| Some((item.get("name")?.as_str()?, item))).collect()
}

/// Blocks `[[package]]` of TOML: `uv.lock`, `poetry.lock`, `Cargo.lock`. Two versions of one package stay together: with
/// those of the other side they would be told apart no more.
pub(super) fn packages(base: &str, ours: &str, theirs: &str) -> String {
    let (base, one, other) = (Blocks::read(base), Blocks::read(ours), Blocks::read(theirs));
    let names: BTreeSet<&String> = one.packages.keys().chain(other.packages.keys()).collect();
    let text = |name: &String| {
        let of = |blocks: &Blocks| blocks.packages.get(name).cloned();
        either(of(&base).as_ref(), of(&one), of(&other)).unwrap_or_default()
    };
    let packages: String = names.into_iter().map(text).collect();
    [one.head, packages, one.tail].concat()
}

#[derive(Debug, Default)]
struct Blocks {
    head: String,
    /// By name: all blocks of it.
    packages: BTreeMap<String, String>,
    tail: String,
}

impl Blocks {
    fn read(text: &str) -> Self {
        let mut read = Self::default();
        let (mut block, mut name, mut is_tail) = (String::new(), None, false);
        let mut end = |block: &mut String, name: &mut Option<String>| {
            let text = std::mem::take(block);
            if let Some(name) = name.take() {
                let all: &mut String = read.packages.entry(name).or_default();
                all.push_str(&text);
                if !all.ends_with("\n\n") {
                    all.push('\n');
                }
            }
        };
        for line in text.lines() {
            let begins = line == "[[package]]";
            if begins
                || (line.starts_with('[')
                    && !line.starts_with("[package.")
                    && !line.starts_with("[[package."))
            {
                end(&mut block, &mut name);
                is_tail = !begins;
            }
            let part = match (is_tail, begins || !block.is_empty()) {
                (true, _) => &mut read.tail,
                (false, true) => &mut block,
                (false, false) => &mut read.head,
            };
            part.extend([line, "\n"]);
            if name.is_none()
                && !is_tail
                && let Some(word) = line.strip_prefix("name = ")
            {
                name = Some(word.to_owned());
            }
        }
        end(&mut block, &mut name);
        read
    }
}

/// `yarn.lock` of Yarn 2 and newer: what each range was resolved to.
pub(super) fn yarn(base: &str, ours: &str, theirs: &str) -> String {
    let (base, one, other) = (Ranges::read(base), Ranges::read(ours), Ranges::read(theirs));
    let ranges: BTreeSet<&&str> = one.packages.keys().chain(other.packages.keys()).collect();
    let mut by_package = BTreeMap::<&str, Vec<&str>>::new();
    for range in ranges {
        let of = |ranges: &Ranges<'_>| ranges.packages.get(range).map(|&package| package.to_owned());
        let package = either(of(&base).as_ref(), of(&one), of(&other));
        let known = one.packages.get(range).into_iter().chain(other.packages.get(range));
        if let Some(package) = known.copied().find(|known| Some(*known) == package.as_deref()) {
            by_package.entry(package).or_default().push(range);
        }
    }
    let mut blocks: Vec<String> = by_package
        .into_iter()
        .map(|(package, ranges)| format!("\"{}\":\n{package}", ranges.join(", ")))
        .collect();
    blocks.sort();
    format!("{}\n\n{}\n", one.head.join("\n\n"), blocks.join("\n\n"))
}

#[derive(Debug, Default)]
struct Ranges<'a> {
    head: Vec<&'a str>,
    /// What is indented below the ranges.
    packages: BTreeMap<&'a str, &'a str>,
}

impl<'a> Ranges<'a> {
    fn read(text: &'a str) -> Self {
        let mut read = Self::default();
        for block in
            text.split("\n\n").map(|block| block.trim_matches('\n')).filter(|block| !block.is_empty())
        {
            match block.split_once(":\n") {
                Some((ranges, package)) if !block.starts_with('#') && !block.starts_with("__metadata") => {
                    let ranges = ranges.trim_matches('"').split(", ");
                    read.packages.extend(ranges.map(|range| (range, package)));
                }
                _ => read.head.push(block),
            }
        }
        read
    }
}

/// `Gemfile.lock`: the gems below each source, and the lists.
pub(super) fn gems(base: &str, ours: &str, theirs: &str) -> String {
    let (base, one, other) = (sections(base), sections(ours), sections(theirs));
    let new = other.iter().filter(|(title, _)| one.iter().all(|(known, _)| known != title));
    let mut titles: Vec<&str> = one.iter().chain(new).map(|(title, _)| *title).collect();
    // Bundler reads where gems come from before what is wanted of them.
    titles.sort_by_key(|title| !title.ends_with("specs:"));
    let section = |title: &str| {
        let (base, one, other) = (listed(&base, title), listed(&one, title), listed(&other, title));
        let names: BTreeSet<&&str> = one.keys().chain(other.keys()).collect();
        let entry = |name: &&str| {
            let at = |entries: &Entries<'_>| entries.get(name).cloned();
            either(at(&base).as_ref(), at(&one), at(&other)).unwrap_or_default()
        };
        let entries: String = names.into_iter().map(entry).collect();
        format!("{title}\n{entries}")
    };
    titles.into_iter().map(section).collect::<Vec<_>>().join("\n")
}

/// What is listed in a section, by name.
type Entries<'a> = BTreeMap<&'a str, String>;

fn listed<'a>(sections: &[(&'a str, Entries<'a>)], title: &str) -> Entries<'a> {
    sections.iter().find(|(known, _)| *known == title).map(|(_, entries)| entries.clone()).unwrap_or_default()
}

/// The sections of a `Gemfile.lock`: all up to `specs:` or the first line, and what is listed below, by name.
fn sections(text: &str) -> Vec<(&str, Entries<'_>)> {
    let read = |section: &'_ str| -> usize {
        let specs = section.find("\n  specs:").map(|at| at + "\n  specs:".len());
        specs.unwrap_or_else(|| section.find('\n').unwrap_or(section.len()))
    };
    let blocks =
        text.split("\n\n").map(|block| block.trim_end_matches('\n')).filter(|block| !block.is_empty());
    let mut found = Vec::new();
    for block in blocks {
        let (title, below) = block.split_at(read(block));
        let depth = |line: &str| line.len() - line.trim_start().len();
        let least = below.lines().filter(|line| !line.is_empty()).map(depth).min().unwrap_or(0);
        let (mut entries, mut name) = (Entries::new(), "");
        for line in below.lines().filter(|line| !line.is_empty()) {
            if depth(line) == least {
                // One gem may be there for several platforms: `name (1.0-java)`.
                name = line.trim().split([' ', '!']).next().unwrap_or_default();
            }
            entries.entry(name).or_default().extend([line, "\n"]);
        }
        found.push((title, entries));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packages_of_json_are_there_from_both_sides_and_stay_whole() {
        let lock = |entries: &[(&str, &str)]| {
            let entries = entries.iter().map(|(name, version)| {
                (
                    format!("node_modules/{name}"),
                    serde_json::json!({ "version": version, "integrity": format!("i-{version}") }),
                )
            });
            let packages: Map<String, Value> = entries.collect();
            serde_json::json!({ "lockfileVersion": 3, "packages": packages })
        };
        let base = lock(&[("a", "1"), ("b", "1"), ("gone", "1")]);
        let ours = lock(&[("a", "2"), ("b", "1"), ("c", "1")]);
        let theirs = lock(&[("a", "3"), ("b", "2"), ("d", "1"), ("gone", "1")]);
        let merged = json(&base.to_string(), &ours.to_string(), &theirs.to_string()).unwrap();
        let merged: Value = serde_json::from_str(&merged).unwrap();
        assert_eq!(merged, lock(&[("a", "2"), ("b", "2"), ("c", "1"), ("d", "1")]));
        assert_eq!(json("", "<<<<<<<", "{}"), None);
        let list = |names: &[&str]| {
            let packages: Vec<Value> = names.iter().map(|name| serde_json::json!({ "name": name })).collect();
            serde_json::json!({ "content-hash": names.len().to_string(), "packages": packages })
        };
        let merged = json(
            &list(&["a"]).to_string(),
            &list(&["a", "b"]).to_string(),
            &list(&["a", "c", "d"]).to_string(),
        );
        let mut expected = list(&["a", "b", "c", "d"]);
        expected["content-hash"] = "2".into();
        assert_eq!(serde_json::from_str::<Value>(&merged.unwrap()).unwrap(), expected);
    }

    #[test]
    fn packages_of_toml_are_there_from_both_sides() {
        let lock = |packages: &[(&str, &str)]| {
            let block = |(name, version): &(&str, &str)| {
                format!(
                    "[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n\n[package.source]\nx = 1\n\n"
                )
            };
            format!(
                "version = 1\n\n{}[metadata]\nhash = \"x\"\n",
                packages.iter().map(block).collect::<String>()
            )
        };
        let base = lock(&[("a", "1"), ("b", "1")]);
        let ours = lock(&[("a", "2"), ("b", "1"), ("c", "1")]);
        let theirs = lock(&[("a", "3"), ("b", "2"), ("d", "1"), ("d", "2")]);
        let expected = lock(&[("a", "2"), ("b", "2"), ("c", "1"), ("d", "1"), ("d", "2")]);
        assert_eq!(packages(&base, &ours, &theirs), expected);
        assert_eq!(packages(&base, &base, &base), base);
    }

    #[test]
    fn ranges_of_yarn_are_there_from_both_sides() {
        let lock = |blocks: &[(&str, &str)]| {
            let block = |(ranges, version): &(&str, &str)| {
                format!("\"{ranges}\":\n  version: {version}\n  linkType: hard")
            };
            let blocks: Vec<String> = blocks.iter().map(block).collect();
            format!("# generated\n\n__metadata:\n  version: 8\n\n{}\n", blocks.join("\n\n"))
        };
        let base = lock(&[("a@npm:^1.0.0", "1.0.0")]);
        let ours = lock(&[("a@npm:^1.0.0, a@npm:^1.1.0", "1.2.0")]);
        let theirs = lock(&[("a@npm:^1.0.0, a@npm:~1.0.0", "1.0.0"), ("b@npm:*", "3.0.0")]);
        let expected =
            lock(&[("a@npm:^1.0.0, a@npm:^1.1.0", "1.2.0"), ("a@npm:~1.0.0", "1.0.0"), ("b@npm:*", "3.0.0")]);
        assert_eq!(yarn(&base, &ours, &theirs), expected);
        assert_eq!(yarn(&base, &base, &base), base);
    }

    #[test]
    fn gems_are_there_from_both_sides() {
        let lock = |specs: &str, wanted: &str| {
            format!(
                "GEM\n  remote: https://r.example/\n  specs:\n{specs}\nPLATFORMS\n  ruby\n\nDEPENDENCIES\n{wanted}\nBUNDLED WITH\n   2.3.15\n"
            )
        };
        let base = lock("    a (1.0)\n      b\n    b (1.0)\n", "  a\n");
        let ours = lock("    a (1.0)\n      b\n    b (2.0)\n    c (1.0)\n    c (1.0-java)\n", "  a\n  c\n");
        let theirs = lock("    a (1.1)\n      b\n    b (1.0)\n    d (1.0)\n", "  a\n  d (~> 1.0)\n");
        let expected = lock(
            "    a (1.1)\n      b\n    b (2.0)\n    c (1.0)\n    c (1.0-java)\n    d (1.0)\n",
            "  a\n  c\n  d (~> 1.0)\n",
        );
        assert_eq!(gems(&base, &ours, &theirs), expected);
        assert_eq!(gems(&base, &base, &base), base);
        let path = "PATH\n  remote: x\n  specs:\n    x (1.0)\n\n";
        let (gem, rest) = expected.split_once("PLATFORMS").unwrap();
        let with_path = format!("{gem}{path}PLATFORMS{rest}");
        assert_eq!(gems(&base, &ours, &format!("{path}{theirs}")), with_path, "sources come first");
    }
}

//! `Cargo.lock`: a set of packages, each with what it depends on.
//!
//! The three versions are read with every dependency spelled out, merged package by package, and written as Cargo writes
//! them (format 3 and 4). What nothing depends on any more is left out, as Cargo would. If a dependency has no package
//! then, or both sides changed one package, or there is a part that this does not know, it stays a conflict.
//!
//! (The crate `cargo-lock` reads and writes them too; it brings an URL parser with the tables of Unicode for a field that
//! is only compared here.)

use super::three_way;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use toml::{Table, Value};

/// Name, version and source. A package of the workspace has neither of the last two: there is one of that name, and its
/// version is a thing that changes.
type Key = (String, Option<(String, String)>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Package {
    version: String,
    checksum: Option<String>,
    dependencies: BTreeSet<Key>,
}

#[derive(Debug, PartialEq, Eq)]
struct Lock {
    format: i64,
    packages: BTreeMap<Key, Package>,
}

pub(super) fn merge(base: &str, ours: &str, theirs: &str) -> Option<String> {
    let base = if base.is_empty() { None } else { Some(Lock::parse(base)?) };
    let (ours, theirs) = (Lock::parse(ours)?, Lock::parse(theirs)?);
    let keys: BTreeSet<&Key> = ours.packages.keys().chain(theirs.packages.keys()).collect();
    let mut merged = Lock { format: ours.format.max(theirs.format), packages: BTreeMap::new() };
    for key in keys {
        let package = match (ours.packages.get(key), theirs.packages.get(key)) {
            (Some(ours), Some(theirs)) => {
                package(base.as_ref().and_then(|base| base.packages.get(key)), ours, theirs)?
            }
            // Whether one that only one side has is needed is said by those that need it.
            (one, other) => one.or(other)?.clone(),
        };
        merged.packages.insert(key.clone(), package);
    }
    merged.unify(base.as_ref(), |key| {
        let had = base.as_ref().is_some_and(|base| base.packages.contains_key(key));
        had && !(ours.packages.contains_key(key) && theirs.packages.contains_key(key))
    })?;
    merged.prune()?;
    Some(merged.to_text())
}

/// One package that both have; both may have changed what it depends on.
fn package(base: Option<&Package>, ours: &Package, theirs: &Package) -> Option<Package> {
    let had = |key: &Key| base.is_some_and(|base| base.dependencies.contains(key));
    let all = ours.dependencies.union(&theirs.dependencies);
    let kept =
        |key: &&Key| !had(key) || ours.dependencies.contains(*key) && theirs.dependencies.contains(*key);
    let version = three_way(base.map(|base| &base.version), Some(&ours.version), Some(&theirs.version))?;
    let checksum = three_way(base.map(|base| &base.checksum), Some(&ours.checksum), Some(&theirs.checksum))?;
    Some(Package {
        version: version?.clone(),
        checksum: checksum?.clone(),
        dependencies: all.filter(kept).cloned().collect(),
    })
}

impl Lock {
    /// `None` for what is no lock file of format 3 or 4, or says something that is not known here.
    fn parse(text: &str) -> Option<Self> {
        // Nothing that a lock file lists has to be escaped.
        if text.contains('\\') || text.contains('\r') {
            return None;
        }
        let table: Table = text.parse().ok()?;
        if table.keys().any(|key| key != "version" && key != "package") {
            return None;
        }
        let format = table.get("version")?.as_integer()?;
        if !(3..=4).contains(&format) {
            return None;
        }
        let mut read = Vec::new();
        for package in table.get("package")?.as_array()? {
            let package = package.as_table()?;
            let known = ["name", "version", "source", "checksum", "dependencies"];
            if package.keys().any(|key| !known.contains(&key.as_str())) {
                return None;
            }
            let word = |key: &str| package.get(key).and_then(Value::as_str).map(str::to_owned);
            let dependencies = match package.get("dependencies") {
                None => Vec::new(),
                Some(list) => list.as_array()?.iter().map(Value::as_str).collect::<Option<Vec<_>>>()?,
            };
            let version = word("version")?;
            let key = (word("name")?, word("source").map(|source| (version.clone(), source)));
            read.push((key, version, word("checksum"), dependencies));
        }
        let keys: BTreeMap<&Key, &str> =
            read.iter().map(|(key, version, ..)| (key, version.as_str())).collect();
        let mut packages = BTreeMap::new();
        for (key, version, checksum, dependencies) in &read {
            let dependencies =
                dependencies.iter().map(|spelled| find(&keys, spelled)).collect::<Option<_>>()?;
            let package = Package { version: version.clone(), checksum: checksum.clone(), dependencies };
            packages.insert(key.clone(), package);
        }
        (packages.len() == read.len()).then_some(Self { format, packages })
    }

    /// Of versions that can stand for each other the highest stays: both sides raised one dependency, or one did while
    /// the other began to use it. Cargo never locks two such. One of `base` that a side let go (`let_go`) gives way also
    /// to a lower one. `None` if something new uses the higher one then.
    fn unify(&mut self, base: Option<&Self>, let_go: impl Fn(&Key) -> bool) -> Option<()> {
        let mut highest = BTreeMap::<Key, Key>::new();
        for key in self.packages.keys() {
            let Some((class, number)) = key.1.as_ref().and_then(|(version, source)| {
                let numbers = numbers(version)?;
                Some(((key.0.clone(), Some((compatible(numbers), source.clone()))), numbers))
            }) else {
                continue;
            };
            let best = highest.entry(class).or_insert_with(|| key.clone());
            let of_best = best.1.as_ref().and_then(|(version, _)| numbers(version));
            // What one side let go gives way to what it took instead, a lower version too.
            if (!let_go(best), of_best) < (!let_go(key), Some(number)) {
                *best = key.clone();
            }
        }
        let instead: BTreeMap<Key, Key> = self
            .packages
            .keys()
            .filter_map(|key| {
                let (version, source) = key.1.as_ref()?;
                let class = (key.0.clone(), Some((compatible(numbers(version)?), source.clone())));
                let best = highest.get(&class)?;
                (best != key).then(|| (key.clone(), best.clone()))
            })
            .collect();
        let is_lower = |key: &Key| {
            let number = |key: &Key| key.1.as_ref().and_then(|(version, _)| numbers(version));
            instead.get(key).is_some_and(|best| number(best) < number(key))
        };
        for (key, package) in &mut self.packages {
            let dependencies = std::mem::take(&mut package.dependencies);
            // Whether what is new here can do with less, nobody has said.
            let is_new = !base.is_some_and(|base| base.packages.contains_key(key));
            if is_new && dependencies.iter().any(is_lower) {
                return None;
            }
            package.dependencies =
                dependencies.into_iter().map(|key| instead.get(&key).cloned().unwrap_or(key)).collect();
        }
        self.packages.retain(|key, _| !instead.contains_key(key));
        Some(())
    }

    /// Leaves out what nothing needs. `None` if something that is needed is not there.
    fn prune(&mut self) -> Option<()> {
        let mut open: Vec<Key> =
            self.packages.keys().filter(|(_, source)| source.is_none()).cloned().collect();
        let mut needed = BTreeSet::new();
        while let Some(key) = open.pop() {
            let package = self.packages.get(&key)?;
            if needed.insert(key) {
                open.extend(package.dependencies.iter().cloned());
            }
        }
        self.packages.retain(|key, _| needed.contains(key));
        Some(())
    }

    fn to_text(&self) -> String {
        let mut text = format!(
            "# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\nversion = {}\n",
            self.format
        );
        let quoted = |word: &str| format!("\"{word}\"");
        let mut sorted: Vec<_> = self.packages.iter().collect();
        sorted.sort_by(|(a, one), (b, other)| {
            let version = |package: &Package| (numbers(&package.version), package.version.clone());
            (&a.0, version(one), &a.1).cmp(&(&b.0, version(other), &b.1))
        });
        for ((name, origin), package) in sorted {
            let mut line = |line: String| writeln!(text, "{line}").expect("a string takes everything");
            line(format!("\n[[package]]\nname = {}\nversion = {}", quoted(name), quoted(&package.version)));
            if let Some((_, source)) = origin {
                line(format!("source = {}", quoted(source)));
            }
            if let Some(checksum) = &package.checksum {
                line(format!("checksum = {}", quoted(checksum)));
            }
            if !package.dependencies.is_empty() {
                let mut spelled: Vec<_> = package.dependencies.iter().map(|key| self.spell(key)).collect();
                spelled.sort();
                line("dependencies = [".to_owned());
                for word in &spelled {
                    line(format!(" {},", quoted(word)));
                }
                line("]".to_owned());
            }
        }
        text
    }

    /// As short as it can be told apart: `name`, `name version`, `name version (source)`.
    fn spell(&self, key: &Key) -> String {
        let version = |key: &Key| self.packages.get(key).map(|package| package.version.as_str());
        let named: Vec<&Key> = self.packages.keys().filter(|other| other.0 == key.0).collect();
        let same = named.iter().filter(|other| version(other) == version(key)).count();
        let (name, number) = (&key.0, version(key).unwrap_or_default());
        match (named.len(), same, &key.1) {
            (..=1, ..) => name.clone(),
            (_, ..=1, _) | (.., None) => format!("{name} {number}"),
            (.., Some((_, source))) => format!("{name} {number} ({source})"),
        }
    }
}

/// The one package that a dependency means.
fn find(keys: &BTreeMap<&Key, &str>, spelled: &str) -> Option<Key> {
    let mut words = spelled.splitn(3, ' ');
    let (name, version, source) = (words.next()?, words.next(), words.next());
    let source = source.map(|source| source.trim_start_matches('(').trim_end_matches(')'));
    let mut found = keys.iter().filter(|(key, of)| {
        key.0 == name
            && version.is_none_or(|version| **of == version)
            && source.is_none_or(|source| key.1.as_ref().is_some_and(|(_, from)| from == source))
    });
    match (found.next(), found.next()) {
        (Some((only, _)), None) => Some((*only).clone()),
        _ => None,
    }
}

/// Major, minor, patch; `None` for a version that leads to a release: Cargo takes such only when told to.
fn numbers(version: &str) -> Option<[u64; 3]> {
    let version = version.split_once('+').map_or(version, |(version, _)| version);
    let mut parts = version.split('.').map(|number| number.parse().ok());
    let numbers = [parts.next()??, parts.next()??, parts.next()??];
    parts.next().is_none().then_some(numbers)
}

/// Equal for versions of which the higher can stand for the lower: their first number that is not 0 is the same one.
fn compatible(numbers: [u64; 3]) -> String {
    let first = numbers.iter().position(|&number| number != 0).unwrap_or(2);
    format!("{:?}", &numbers[..=first])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A lock file as Cargo writes it: `name version [registry] -> dependencies`.
    fn lock(packages: &[(&str, &str, &[&str])]) -> String {
        let mut text = String::from(
            "# This file is automatically @generated by Cargo.\n# It is not intended for manual editing.\nversion = 4\n",
        );
        for (name, version, dependencies) in packages {
            let own = name.starts_with("own");
            write!(text, "\n[[package]]\nname = \"{name}\"\nversion = \"{version}\"\n").unwrap();
            if !own {
                let source = "registry+https://example.org/index";
                write!(text, "source = \"{source}\"\nchecksum = \"{name}-{version}\"\n").unwrap();
            }
            if !dependencies.is_empty() {
                text += "dependencies = [\n";
                for one in *dependencies {
                    writeln!(text, " \"{one}\",").unwrap();
                }
                text += "]\n";
            }
        }
        text
    }

    #[test]
    fn what_cargo_wrote_is_written_again_byte_by_byte() {
        let own = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.lock"));
        assert!(own.contains("bitflags 2."), "it has a package in two versions");
        assert_eq!(merge(own, own, own).as_deref(), Some(own));
    }

    #[test]
    fn both_sides_additions_are_there() {
        let base = lock(&[("a", "1.0.0", &[]), ("own", "0.1.0", &["a"])]);
        let ours = lock(&[("a", "1.0.0", &[]), ("b", "2.0.0", &["a"]), ("own", "0.2.0", &["a", "b"])]);
        let theirs = lock(&[
            ("a", "1.0.0", &[]),
            ("c", "3.0.0", &["d"]),
            ("d", "0.1.0", &[]),
            ("own", "0.1.0", &["a", "c"]),
        ]);
        let expected = lock(&[
            ("a", "1.0.0", &[]),
            ("b", "2.0.0", &["a"]),
            ("c", "3.0.0", &["d"]),
            ("d", "0.1.0", &[]),
            ("own", "0.2.0", &["a", "b", "c"]),
        ]);
        assert_eq!(merge(&base, &ours, &theirs), Some(expected.clone()));
        assert_eq!(merge(&base, &theirs, &ours), Some(expected));
    }

    #[test]
    fn the_higher_of_two_versions_stays_and_what_nobody_needs_goes() {
        let base = lock(&[("a", "1.0.0", &["old"]), ("old", "1.0.0", &[]), ("own", "0.1.0", &["a"])]);
        let ours = lock(&[("a", "1.2.0", &[]), ("own", "0.1.0", &["a"])]);
        let theirs = lock(&[
            ("a", "1.0.0", &["old"]),
            ("b", "1.0.0", &["a"]),
            ("old", "1.0.0", &[]),
            ("own", "0.1.0", &["a", "b"]),
        ]);
        let expected = lock(&[("a", "1.2.0", &[]), ("b", "1.0.0", &["a"]), ("own", "0.1.0", &["a", "b"])]);
        assert_eq!(merge(&base, &ours, &theirs), Some(expected.clone()));
        assert_eq!(merge(&base, &theirs, &ours), Some(expected));
    }

    #[test]
    fn a_version_that_one_side_lowered_stays_low() {
        let base = lock(&[("a", "0.1.3", &[]), ("own", "0.1.0", &["a"])]);
        let lowered = lock(&[("a", "0.1.2", &[]), ("own", "0.1.0", &["a"])]);
        let grown = lock(&[("a", "0.1.3", &[]), ("b", "1.0.0", &[]), ("own", "0.1.0", &["a", "b"])]);
        let expected = lock(&[("a", "0.1.2", &[]), ("b", "1.0.0", &[]), ("own", "0.1.0", &["a", "b"])]);
        assert_eq!(merge(&base, &lowered, &grown), Some(expected.clone()));
        assert_eq!(merge(&base, &grown, &lowered), Some(expected));
        let wants_more = lock(&[("a", "0.1.3", &[]), ("b", "1.0.0", &["a"]), ("own", "0.1.0", &["a", "b"])]);
        assert_eq!(
            merge(&base, &lowered, &wants_more),
            None,
            "nobody knows whether b can do with the lower one"
        );
    }

    #[test]
    fn versions_that_cannot_stand_for_each_other_are_told_apart() {
        let base = lock(&[("a", "1.0.0", &[]), ("own", "0.1.0", &["a"])]);
        let ours = lock(&[("a", "1.0.0", &[]), ("b", "1.0.0", &["a"]), ("own", "0.1.0", &["a", "b"])]);
        let theirs = lock(&[("a", "10.0.0", &[]), ("own", "0.1.0", &["a"])]);
        let expected = lock(&[
            ("a", "1.0.0", &[]),
            ("a", "10.0.0", &[]),
            ("b", "1.0.0", &["a 1.0.0"]),
            ("own", "0.1.0", &["a 10.0.0", "b"]),
        ]);
        assert_eq!(merge(&base, &ours, &theirs), Some(expected));
    }

    #[test]
    fn what_is_not_certain_stays_a_conflict() {
        let base = lock(&[("own", "0.1.0", &[])]);
        let ours = lock(&[("own", "0.2.0", &[])]);
        let theirs = lock(&[("own", "0.3.0", &[])]);
        assert_eq!(merge(&base, &ours, &theirs), None, "two new versions of one's own package");
        let forged = lock(&[("a", "1.0.0", &[]), ("own", "0.1.0", &["a"])]);
        let other = forged.replace("a-1.0.0", "evil");
        assert_eq!(merge(&base, &forged, &other), None, "two checksums of one version");
        assert_eq!(
            merge(&base, &format!("{ours}\n[metadata]\nx = \"y\"\n"), &theirs),
            None,
            "a part of another kind"
        );
        assert_eq!(merge(&base, "<<<<<<< HEAD\n", &theirs), None);
        assert_eq!(merge(&base, &ours.replace("version = 4", "version = 2"), &ours), None);
    }
}

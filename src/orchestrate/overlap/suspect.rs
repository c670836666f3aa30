//! What may be wrong with branches that git merges: lines that do not touch and do not work together.
//!
//! Read from the lines that each branch changed since it left the target, in any language: a definition that one took away
//! and another uses anew, a function that both edited, a manifest that both changed. These are hints, not verdicts, so only
//! what can be named is said, and only of pairs that are clean.

use super::{Branch, Overlap};
use crate::git::{Ancestry, ChangeStatus, EntryMode, Error, FileChange, Repository, path_text};
use crate::model::{Forecast, Id, ObjectId, Suspect};
use bstr::ByteSlice;
use regex::Regex;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::LazyLock;

/// Larger files, longer lines and more changed lines of one branch are not looked at: they are generated.
const LARGEST: usize = 1 << 20;
const LONGEST: usize = 400;
const MOST: usize = 50_000;
/// How many definitions are looked for in whole trees, for all pairs.
const LOOKED_FOR: usize = 64;
/// How many reasons one pair is given.
const REASONS: usize = 8;

/// Files that say what a project is made of: what two add to one may not fit together.
const MANIFESTS: [&str; 14] = [
    "Cargo.toml",
    "package.json",
    "pyproject.toml",
    "requirements.txt",
    "setup.py",
    "go.mod",
    "Gemfile",
    "composer.json",
    "pom.xml",
    "build.gradle",
    "build.gradle.kts",
    "CMakeLists.txt",
    "meson.build",
    "Package.swift",
];

/// What begins a definition, in the languages that have words for it.
const DEFINES: &str =
    "fn|def|class|struct|enum|trait|interface|func|function|fun|type|macro_rules!|const|static";

static DEFINITION: LazyLock<Regex> = LazyLock::new(|| {
    let pattern = format!(r"(?:^|[^\w])(?:{DEFINES})\s+(?:\([^)]*\)\s*)?([A-Za-z_]\w{{3,}})");
    Regex::new(&pattern).expect("a pattern that compiles")
});
static FUNCTION: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?:^|[^\w])(?:fn|def|func|function|fun|sub)(?:\s|\()").expect("a pattern that compiles")
});
static WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"[A-Za-z_]\w{3,}").expect("a pattern that compiles"));

/// Words before a bracket that begin no function.
const CONTROL: [&str; 14] = [
    "if", "for", "while", "switch", "match", "else", "catch", "return", "do", "loop", "try", "with", "elif",
    "unless",
];

/// Names for every clean pair of `overlap` what may be wrong with it all the same.
pub(super) fn name(
    repo: &Repository,
    ancestry: &Ancestry,
    branches: &[Branch],
    target: &ObjectId,
    overlap: &mut Overlap,
) -> Result<(), Error> {
    let sides = Sides::read(repo, ancestry, branches, target)?;
    let work: HashMap<Id, &ObjectId> = branches.iter().map(|branch| (branch.agent, &branch.work)).collect();
    let mut defined = Defined { repo, known: HashMap::new() };
    for pair in overlap.pairs.iter_mut().filter(|pair| pair.forecast == Forecast::Clean) {
        let Some(a) = sides.own.get(&pair.a) else { continue };
        // Of two of which one builds on the other, one knew what the other did.
        let stacked = |a: &ObjectId, b: &ObjectId| ancestry.contains(a, b) || ancestry.contains(b, a);
        if pair.b.as_ref().is_some_and(|b| stacked(work[&pair.a], work[b])) {
            continue;
        }
        // The target's side is what it did since this branch left it.
        let (b, other) = match &pair.b {
            Some(b) => (sides.own.get(b), work.get(b).copied()),
            None => (a.base.as_ref().and_then(|base| sides.targets.get(base)), Some(target)),
        };
        let (Some(b), Some(other)) = (b, other) else { continue };
        let mut found = Vec::new();
        defined.gone((a, Some(pair.a), work[&pair.a]), b, &mut found)?;
        defined.gone((b, pair.b, other), a, &mut found)?;
        found.extend(a.functions.intersection(&b.functions).map(|(path, function)| Suspect::SameFunction {
            path: path.clone(),
            function: function.clone(),
        }));
        found.extend(
            a.manifests.intersection(&b.manifests).map(|path| Suspect::Manifest { path: path.clone() }),
        );
        found.truncate(REASONS);
        pair.suspects = found;
    }
    Ok(())
}

/// What each branch changed since it left the target, and what the target did since.
struct Sides {
    own: HashMap<Id, Side>,
    /// By the tree where a branch left it.
    targets: HashMap<ObjectId, Side>,
}

/// What one side changed.
#[derive(Debug, Default)]
struct Side {
    /// The tree it began with.
    base: Option<ObjectId>,
    /// Definitions that it took away, with where they were.
    gone: BTreeMap<String, String>,
    /// Words of lines that it added, each with its first path and line.
    words: HashMap<String, (String, u32)>,
    /// Functions whose lines it edited: path at the base, and the line that begins it.
    functions: BTreeSet<(String, String)>,
    manifests: BTreeSet<String>,
}

impl Sides {
    fn read(
        repo: &Repository,
        ancestry: &Ancestry,
        branches: &[Branch],
        target: &ObjectId,
    ) -> Result<Self, Error> {
        let target_tree = ancestry.tree(target);
        let mut wanted = Vec::new();
        let mut agents = Vec::new();
        for branch in branches {
            // What a branch changed is told only beside exactly one merge base.
            if let [base] = ancestry.merge_bases(&branch.work, target)[..] {
                wanted.push((ancestry.tree(base).clone(), ancestry.tree(&branch.work).clone()));
                agents.push(branch.agent);
            }
        }
        let bases: BTreeSet<ObjectId> = wanted.iter().map(|(base, _)| base.clone()).collect();
        let own = wanted.len();
        wanted.extend(bases.into_iter().map(|base| (base, target_tree.clone())));
        let mut sides = Self { own: HashMap::new(), targets: HashMap::new() };
        for (at, ((base, _), changes)) in wanted.iter().zip(repo.changes_between(&wanted)?).enumerate() {
            let side = Side { base: Some(base.clone()), ..Side::of(repo, &changes)? };
            match agents.get(at) {
                Some(agent) if at < own => sides.own.insert(*agent, side),
                _ => sides.targets.insert(base.clone(), side),
            };
        }
        Ok(sides)
    }
}

impl Side {
    fn of(repo: &Repository, changes: &[FileChange]) -> Result<Self, Error> {
        let (mut side, mut added, mut lines) = (Self::default(), HashSet::<String>::new(), 0);
        for change in changes {
            let path = path_text(change.base_path().as_ref());
            if MANIFESTS.contains(&path.rsplit('/').next().unwrap_or_default()) {
                side.manifests.insert(path.clone());
            }
            if change.binary || change.hunks.is_empty() || lines > MOST {
                continue;
            }
            let old = text(repo, change.old_mode, change.old_id.as_ref())?;
            let new = text(repo, change.new_mode, change.new_id.as_ref())?;
            let (Some(old), Some(new)) = (old, new) else { continue };
            let (old, new): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
            for hunk in &change.hunks {
                let (removed, inserted) =
                    (slice(&old, hunk.old.start, hunk.old.len), slice(&new, hunk.new.start, hunk.new.len));
                lines += removed.len() + inserted.len();
                for name in definitions(removed) {
                    side.gone.entry(name.to_owned()).or_insert_with(|| path.clone());
                }
                added.extend(definitions(inserted).map(str::to_owned));
                for (line, at) in inserted.iter().zip(hunk.new.start..) {
                    for word in WORD.find_iter(line) {
                        let place = || (path_text(change.path.as_ref()), at);
                        side.words.entry(word.as_str().to_owned()).or_insert_with(place);
                    }
                }
                // What adds a function beside others edits none of them.
                let adds = removed.is_empty() && definitions(inserted).next().is_some();
                if change.status != ChangeStatus::Added
                    && !adds
                    && let Some(function) = around(&old, hunk.old.start, removed.first().or(inserted.first()))
                {
                    side.functions.insert((path.clone(), function));
                }
            }
        }
        // What is defined elsewhere now was moved.
        side.gone.retain(|name, _| !added.contains(name));
        Ok(side)
    }
}

/// The text of a file; `None` if it has none that is worth a look.
fn text(repo: &Repository, mode: u32, id: Option<&ObjectId>) -> Result<Option<String>, Error> {
    match id {
        None => Ok(Some(String::new())),
        Some(id) if EntryMode::from_octal(mode).is_file() => {
            let content = repo.read_blob(id)?;
            let is_text = content.len() <= LARGEST && !content.contains(&0);
            Ok(is_text.then(|| content.to_str_lossy().into_owned()))
        }
        Some(_) => Ok(None),
    }
}

/// Lines of a file, from 1.
fn slice<'a, 't>(lines: &'a [&'t str], start: u32, len: u32) -> &'a [&'t str] {
    let start = (start as usize).saturating_sub(1).min(lines.len());
    &lines[start..(start + len as usize).min(lines.len())]
}

/// The names that lines define.
fn definitions<'a>(lines: &'a [&'a str]) -> impl Iterator<Item = &'a str> {
    let short = lines.iter().filter(|line| line.len() <= LONGEST);
    short.flat_map(|line| DEFINITION.captures_iter(line).filter_map(|found| Some(found.get(1)?.as_str())))
}

fn indent(line: &str) -> usize {
    line.chars().take_while(|c| matches!(c, ' ' | '\t')).count()
}

/// The line that begins the function in which a change at line `at` of a file lies; `first` is the first line that is
/// changed or put there. Found by indentation, so in most languages.
fn around(lines: &[&str], at: u32, first: Option<&&str>) -> Option<String> {
    let first = first.filter(|line| !line.trim().is_empty() && line.len() <= LONGEST)?;
    if is_function(first) {
        return None;
    }
    let mut depth = indent(first);
    for line in lines[..(at as usize).saturating_sub(1).min(lines.len())].iter().rev() {
        if depth == 0 {
            return None;
        }
        let (words, own) = (line.trim(), indent(line));
        if words.is_empty() || own >= depth {
            continue;
        }
        if is_function(line) {
            let words = words.trim_end_matches(['{', ':', ' ', '(']).chars();
            return Some(words.take(80).collect());
        }
        // The end of a head that spans lines: what begins it stands as far out.
        let goes_on = words.starts_with([')', ']', '{', '>']) || words.starts_with("where");
        depth = if goes_on { own + 1 } else { own };
    }
    None
}

fn is_function(line: &str) -> bool {
    let words = line.trim();
    if words.len() > LONGEST || words.starts_with(['/', '#', '*', '}']) {
        return false;
    }
    if FUNCTION.is_match(words) {
        return true;
    }
    // `int parse(char *text) {`, `parse(text) {`
    let Some((before, _)) = words.strip_suffix('{').and_then(|words| words.split_once('(')) else {
        return false;
    };
    let first = before.split_whitespace().next().unwrap_or_default();
    let plain = |c: char| {
        c.is_alphanumeric()
            || matches!(c, '_' | ' ' | '<' | '>' | '*' | '&' | ':' | ',' | '~' | '@' | '[' | ']' | '$')
    };
    !before.trim().is_empty() && before.chars().all(plain) && !CONTROL.contains(&first)
}

/// Whether names are defined anywhere in a tree, each looked for once.
struct Defined<'a> {
    repo: &'a Repository,
    known: HashMap<(ObjectId, String), bool>,
}

impl Defined<'_> {
    /// What one side (and the commit of its work) took away and the other uses anew.
    fn gone(
        &mut self,
        (one, by, work): (&Side, Option<Id>, &ObjectId),
        other: &Side,
        found: &mut Vec<Suspect>,
    ) -> Result<(), Error> {
        for (name, path) in &one.gone {
            let Some((used_in, line)) = other.words.get(name) else { continue };
            if other.gone.contains_key(name) || self.is_defined(work, name)? {
                continue;
            }
            found.push(Suspect::Gone {
                name: name.clone(),
                path: path.clone(),
                by,
                used_in: used_in.clone(),
                line: *line,
            });
        }
        Ok(())
    }

    fn is_defined(&mut self, work: &ObjectId, name: &str) -> Result<bool, Error> {
        let key = (work.clone(), name.to_owned());
        if let Some(known) = self.known.get(&key) {
            return Ok(*known);
        }
        if self.known.len() >= LOOKED_FOR {
            return Ok(true);
        }
        let pattern = format!("({DEFINES})[[:space:]]+{name}($|[^A-Za-z0-9_])");
        let is_defined = self.repo.has_line(work, &pattern)?;
        self.known.insert(key, is_defined);
        Ok(is_defined)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(text: &str, at: u32) -> Option<String> {
        let lines: Vec<&str> = text.lines().collect();
        around(&lines, at, lines.get(at as usize - 1))
    }

    #[test]
    fn the_function_around_a_line_is_found_in_most_languages() {
        let rust = "impl Parser {\n    fn parse(\n        &self,\n        text: &str,\n    ) -> Date {\n        if x {\n            one();\n        }\n        two()\n    }\n}\n";
        assert_eq!(function(rust, 7).as_deref(), Some("fn parse"));
        assert_eq!(function(rust, 9).as_deref(), Some("fn parse"));
        assert_eq!(function(rust, 2), None, "the head itself");
        let python = "class A:\n    def parse(self, text):\n        for x in text:\n            one(x)\n\n    top = 1\n";
        assert_eq!(function(python, 4).as_deref(), Some("def parse(self, text)"));
        assert_eq!(function(python, 6), None, "of the class, not of the function above it");
        let go = "func (p *Parser) Parse(text string) Date {\n\treturn one(text)\n}\n\nvar x = 1\n";
        assert_eq!(function(go, 2).as_deref(), Some("func (p *Parser) Parse(text string) Date"));
        assert_eq!(function(go, 5), None);
        let c = "static int parse(const char *text) {\n    if (text) {\n        one();\n    }\n}\n";
        assert_eq!(function(c, 3).as_deref(), Some("static int parse(const char *text)"));
        let script =
            "class A {\n  parse(text) {\n    items.map((item) => {\n      one(item)\n    })\n  }\n}\n";
        assert_eq!(function(script, 4).as_deref(), Some("parse(text)"));
        assert_eq!(function("# Title\n\nwords\n", 3), None);
    }

    #[test]
    fn names_that_are_defined_are_read_in_most_languages() {
        let lines = [
            "pub(crate) async fn parse_date(text: &str) {",
            "    def relative_date(self):",
            "func (p *Parser) ParseDate() {",
            "export class DateParser extends Parser {",
            "pub const LONGEST: usize = 3;",
            "fn of() {",
            "defines = 3",
        ];
        let names: Vec<&str> = definitions(&lines).collect();
        assert_eq!(names, ["parse_date", "relative_date", "ParseDate", "DateParser", "LONGEST"]);
    }
}

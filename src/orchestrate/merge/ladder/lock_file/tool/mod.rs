//! The programs that write lock files: what each is shown of the tree, where it begins, how it is called.
//!
//! What agents wrote is what these programs read, so each is shown manifests alone, and of its own settings only those
//! that name no program. How it is called keeps scripts from running wherever the program has a way to say that; what
//! runs code all the same (a `Gemfile` is Ruby, Poetry builds what says nothing of itself) is why none runs unasked.

mod javascript;
mod other;
mod python;

use super::start;
use crate::git::Repository;
use crate::orchestrate::merge::Error;
use crate::orchestrate::merge::conflict::{ConflictFile, Party, line_merge};

/// A program that writes a lock file from manifests.
#[derive(Debug)]
pub(in super::super) struct Tool {
    /// What settings and people call it.
    pub(in super::super) name: &'static str,
    /// What is started.
    pub(in super::super) program: &'static str,
    /// The name of the lock file.
    pub(super) file: &'static str,
    /// The name of the manifest that stands beside it.
    pub(super) manifest: &'static str,
    /// What it is shown of a file, by the file's name; `None` for nothing.
    pub(super) sees: fn(&str) -> Option<Sees>,
    /// The lock file that it begins with, so that versions of both sides stay.
    start: fn(&Versions) -> Option<String>,
    /// How it is called, one command after the other; or why it is not.
    pub(super) lines: fn(&Case<'_>) -> Result<Vec<Vec<String>>, String>,
    /// Variables that it is given.
    pub(super) env: &'static [(&'static str, &'static str)],
}

/// What of a file is shown.
#[derive(Debug, Clone, Copy)]
pub(super) enum Sees {
    Whole,
    /// What this leaves of it.
    Part(fn(&str) -> String),
    /// That it is there.
    Empty,
}

/// What a command line may depend on.
#[derive(Debug)]
pub(super) struct Case<'a> {
    /// The program's version: `2.5.1`.
    pub(super) version: &'a str,
    /// The lock file that it begins with.
    pub(super) start: &'a str,
    /// The manifest beside it.
    pub(super) manifest: &'a str,
    /// All that it is shown, by path.
    pub(super) shown: &'a [(String, Vec<u8>)],
}

impl Case<'_> {
    /// The first number of the version.
    fn major(&self) -> u64 {
        self.version.split('.').next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// The files of this name that it is shown, as text.
    fn named<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        let named = self.shown.iter().filter(move |(path, _)| path.rsplit('/').next() == Some(name));
        named.filter_map(|(_, content)| std::str::from_utf8(content).ok())
    }
}

/// A lock file before both, as it has landed, on the branch, and with the markers of git.
#[derive(Debug, Default)]
pub(super) struct Versions {
    pub(super) base: String,
    pub(super) ours: String,
    pub(super) theirs: String,
    marked: Option<String>,
}

const TOOLS: &[Tool] = &[
    javascript::NPM,
    javascript::PNPM,
    javascript::YARN,
    python::UV,
    python::POETRY,
    other::CARGO,
    other::BUNDLER,
    other::COMPOSER,
];

impl Tool {
    /// The one that writes the lock file at `path`.
    pub(in super::super) fn of(path: &str) -> Option<&'static Self> {
        let name = path.rsplit('/').next()?;
        TOOLS.iter().find(|tool| tool.file == name)
    }

    /// The one that settings call `name`.
    pub(in super::super) fn named(name: &str) -> Option<&'static Self> {
        TOOLS.iter().find(|tool| tool.name == name)
    }

    /// What all are called.
    pub(in super::super) fn names() -> impl Iterator<Item = &'static str> {
        TOOLS.iter().map(|tool| tool.name)
    }

    /// The lock file that it begins with: of both sides where that can be put together, otherwise what has landed.
    /// `None` if there are no two texts.
    pub(super) fn start(
        &self,
        repo: &Repository,
        file: &ConflictFile,
        theirs: &Party,
    ) -> Result<Option<String>, Error> {
        let Some(ids) = line_merge(&file.conflict) else { return Ok(None) };
        let read = |id| -> Result<Option<String>, Error> { Ok(String::from_utf8(repo.read_blob(id)?).ok()) };
        let base = ids.base.map(read).transpose()?.flatten().unwrap_or_default();
        let (Some(ours), Some(other)) = (read(ids.ours)?, read(ids.theirs)?) else { return Ok(None) };
        let marked = file.with_markers(theirs).and_then(|text| String::from_utf8(text).ok());
        let versions = Versions { base, ours, theirs: other, marked };
        Ok(Some((self.start)(&versions).unwrap_or(versions.ours)))
    }
}

/// Whether a file's name ends in one of these ways.
fn ends(name: &str, with: &[&str]) -> bool {
    with.iter().any(|end| name.ends_with(end))
}

fn line(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

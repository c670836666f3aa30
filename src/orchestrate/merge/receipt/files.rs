//! The files that somebody changed, each in all its versions.

use super::lines::{Change, Found, Token, compare};
use super::replay::{Chosen, Replayed, Taken};
use super::{Case, Error};
use crate::git::{EntryMode, FileChange, Repository};
use crate::model::{Brought, ObjectId};
use bstr::{BString, ByteSlice};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Everything that was compared.
#[derive(Debug)]
pub(super) struct Files {
    pub(super) lines: Lines,
    /// For each who brings (the target first) lines that are kept without a closer look: added and removed.
    pub(super) kept: Vec<(u64, u64)>,
    pub(super) compared: Vec<Compared>,
    /// For each answer that is recorded what it left out, as far as that is known.
    pub(super) left_out: Vec<Option<LeftOut>>,
}

/// How often an answer left a line out, or brought one back.
pub(super) type LeftOut = BTreeMap<(Token, Brought), usize>;

/// One file, or several that renames or a conflict tie together.
#[derive(Debug)]
pub(super) struct Compared {
    pub(super) paths: Vec<BString>,
    /// Who changed it, by position; the target is 0.
    pub(super) who: Vec<usize>,
    /// The places of each one's tip.
    pub(super) tips: Vec<Content>,
    pub(super) landed: Content,
    pub(super) found: Found,
    /// Why it is as it is.
    pub(super) why: Why,
}

/// What explains a file's content.
#[derive(Debug)]
pub(super) enum Why {
    /// git's own merge.
    Git,
    /// The answers to its conflicts.
    Decided,
    /// Nothing that is known; what the answers would have made of it, if it had conflicts.
    Unknown(Option<Box<Found>>),
}

/// A version of a file: its lines, and where each is, as a path by position and a line from 1.
#[derive(Debug, Default)]
pub(super) struct Content {
    pub(super) tokens: Vec<Token>,
    pub(super) places: Vec<(usize, u32)>,
}

/// Every line's content, once.
#[derive(Debug, Default)]
pub(super) struct Lines {
    known: HashMap<Vec<u8>, Token>,
    texts: Vec<Vec<u8>>,
}

impl Lines {
    fn token(&mut self, line: &[u8]) -> Token {
        if let Some(token) = self.known.get(line) {
            return *token;
        }
        let token = Token::try_from(self.texts.len()).expect("fewer lines than that");
        self.known.insert(line.to_vec(), token);
        self.texts.push(line.to_vec());
        token
    }

    /// All lines of a text.
    pub(super) fn tokens(&mut self, text: &[u8]) -> Vec<Token> {
        let lines = text.lines_with_terminator();
        lines.map(|line| self.token(line.strip_suffix(b"\n").unwrap_or(line))).collect()
    }

    /// The line, without its end.
    pub(super) fn text(&self, token: Token) -> &[u8] {
        &self.texts[token as usize]
    }

    /// Whether a line is more than brackets and blanks.
    pub(super) fn tells(&self, token: Token) -> bool {
        self.text(token).iter().any(|&byte| byte == 0 || byte >= 0x80 || byte.is_ascii_alphanumeric())
    }

    /// The content of `paths` in a tree. What has no lines, an execute bit and an empty file are a line each.
    pub(super) fn read(
        &mut self,
        repo: &Repository,
        tree: &ObjectId,
        paths: &[BString],
    ) -> Result<Content, Error> {
        let mut content = Content::default();
        for (at, path) in paths.iter().enumerate() {
            let Some(entry) = repo.find_in_tree(tree, path)?.filter(|entry| entry.mode != EntryMode::Tree)
            else {
                continue;
            };
            self.read_entry(repo, (entry.mode, &entry.id), at, &mut content)?;
        }
        Ok(content)
    }

    /// Adds what a file has to the content of the path at `at`.
    fn read_entry(
        &mut self,
        repo: &Repository,
        (mode, id): (EntryMode, &ObjectId),
        at: usize,
        content: &mut Content,
    ) -> Result<(), Error> {
        let mut push = |line: &[u8], number: u32| {
            content.tokens.push(self.token(line));
            content.places.push((at, number));
        };
        let text = if mode.is_file() { Some(repo.read_blob(id)?) } else { None };
        match text {
            Some(text) if is_text(&text) => {
                if text.is_empty() {
                    push(b"\0empty", 0);
                }
                for (number, line) in text.lines_with_terminator().enumerate() {
                    let line = line.strip_suffix(b"\n").unwrap_or(line);
                    push(line, u32::try_from(number + 1).unwrap_or(u32::MAX));
                }
            }
            _ => push(format!("\0{:?} {id}", mode.is_file()).as_bytes(), 0),
        }
        if mode == EntryMode::Executable {
            push(b"\0executable", 0);
        }
        Ok(())
    }

    /// What an answer left out of what it chose from.
    fn left_out(&mut self, repo: &Repository, chosen: &Chosen) -> Result<LeftOut, Error> {
        let mut tokens = |version: &Taken| -> Result<Vec<Token>, Error> {
            let mut content = Content::default();
            if let Some((mode, id)) = version {
                self.read_entry(repo, (*mode, id), 0, &mut content)?;
            }
            Ok(content.tokens)
        };
        let [base, ours, theirs] = &chosen.versions;
        let (base, ours, theirs) = (tokens(base)?, tokens(ours)?, tokens(theirs)?);
        let taken = tokens(&chosen.taken)?;
        let sides = [&ours, &theirs];
        let found =
            compare(&sides.map(|tip| Change { base: &base, tip }), &taken, &|token| self.tells(token));
        let missing = found.missing.iter().map(|line| line.token);
        let built_on = found.superseded.iter().map(|&(who, at, _)| sides[who][at]);
        let gone = missing.chain(built_on).map(|token| (token, Brought::Added));
        let mut left_out = LeftOut::new();
        for line in gone.chain(found.back.iter().map(|line| (line.token, Brought::Removed))) {
            *left_out.entry(line).or_default() += 1;
        }
        Ok(left_out)
    }
}

/// As git tells it.
fn is_text(content: &[u8]) -> bool {
    !content[..content.len().min(8000)].contains(&0)
}

/// Finds the files that agents changed or that are not as they should be, and compares them.
pub(super) fn gather(
    repo: &Repository,
    case: &Case<'_>,
    root: &ObjectId,
    bases: &[ObjectId],
    replayed: &Replayed,
) -> Result<Files, Error> {
    let mut trees = vec![(root.clone(), repo.read_commit(case.before)?.tree)];
    for (one, base) in case.brings.iter().zip(bases) {
        trees.push((base.clone(), repo.read_commit(&one.tip)?.tree));
    }
    let mut changes = repo.changes_between(&trees[1..])?;
    changes.insert(0, Vec::new());
    let odd = [trees[0].clone(), (replayed.tree.clone(), case.landed.clone())];
    let mut odd = repo.paths_between(&odd)?;
    let (differing, target) = (odd.pop().unwrap_or_default(), odd.pop().unwrap_or_default());

    let mut groups = Groups::default();
    for change in changes.iter().flatten().chain(&differing) {
        groups.tie(change.paths());
    }
    for change in target.iter().filter(|change| change.old_path.is_some()) {
        groups.tie(change.paths());
    }
    for paths in &replayed.conflicts {
        groups.tie(paths.iter());
    }
    let differing: BTreeSet<&BString> = differing.iter().flat_map(FileChange::paths).collect();
    let disputed: BTreeSet<&BString> = replayed.conflicts.iter().flatten().collect();
    let mut files = Files {
        lines: Lines::default(),
        kept: vec![(0, 0); trees.len()],
        compared: Vec::new(),
        left_out: vec![None; case.settled.len()],
    };
    for chosen in &replayed.chosen {
        files.left_out[chosen.settled] = Some(files.lines.left_out(repo, chosen)?);
    }
    let mut by_path = BTreeMap::<&BString, Vec<(usize, &FileChange)>>::new();
    for (who, change) in changes.iter().enumerate().flat_map(|(who, all)| all.iter().map(move |c| (who, c))) {
        by_path.entry(&change.path).or_default().push((who, change));
    }
    for paths in groups.into_sets() {
        let touched: Vec<_> = paths.iter().filter_map(|path| by_path.get(path)).flatten().copied().collect();
        let is_odd = paths.iter().any(|path| differing.contains(path));
        let is_disputed = paths.iter().any(|path| disputed.contains(path));
        if !is_odd
            && !is_disputed
            && (touched.is_empty() || as_brought(repo, case, &trees, &touched, &paths)?)
        {
            for (who, change) in touched {
                keep(&mut files.kept[who], change);
            }
            continue;
        }
        let mut who: Vec<usize> = touched.iter().map(|(who, _)| *who).collect();
        who.push(0);
        who.sort_unstable();
        who.dedup();
        let mut read = |tree: &ObjectId| files.lines.read(repo, tree, &paths);
        let mut versions = Vec::new();
        for &one in &who {
            versions.push((read(&trees[one].0)?, read(&trees[one].1)?));
        }
        let (landed, expected) = (read(case.landed)?, read(&replayed.tree)?);
        let sides: Vec<Change<'_>> =
            versions.iter().map(|(base, tip)| Change { base: &base.tokens, tip: &tip.tokens }).collect();
        let tells = |token| files.lines.tells(token);
        let found = compare(&sides, &landed.tokens, &tells);
        let why = match (is_odd, is_disputed) {
            (false, false) => Why::Git,
            (false, true) => Why::Decided,
            (true, true) => Why::Unknown(Some(Box::new(compare(&sides, &expected.tokens, &tells)))),
            (true, false) => Why::Unknown(None),
        };
        let tips = versions.into_iter().map(|(_, tip)| tip).collect();
        files.compared.push(Compared { paths, who, tips, landed, found, why });
    }
    Ok(files)
}

/// Whether the files are, in what landed, as each of those who changed them left them.
fn as_brought(
    repo: &Repository,
    case: &Case<'_>,
    trees: &[(ObjectId, ObjectId)],
    touched: &[(usize, &FileChange)],
    paths: &[BString],
) -> Result<bool, Error> {
    let who: BTreeSet<usize> = touched.iter().map(|(who, _)| *who).collect();
    for path in paths {
        let landed = repo.find_in_tree(case.landed, path)?;
        for &who in &who {
            if repo.find_in_tree(&trees[who].1, path)? != landed {
                return Ok(false);
            }
        }
    }
    Ok(true)
}

fn keep(kept: &mut (u64, u64), change: &FileChange) {
    for hunk in &change.hunks {
        kept.0 += u64::from(hunk.new.len);
        kept.1 += u64::from(hunk.old.len);
    }
    if change.binary {
        kept.0 += u64::from(change.new_mode != 0);
        kept.1 += u64::from(change.old_mode != 0);
    }
    let executable = |mode| u64::from(mode == 0o100_755);
    kept.0 += executable(change.new_mode).saturating_sub(executable(change.old_mode));
    kept.1 += executable(change.old_mode).saturating_sub(executable(change.new_mode));
}

/// Paths that belong together.
#[derive(Debug, Default)]
struct Groups {
    at: BTreeMap<BString, usize>,
    sets: Vec<Option<BTreeSet<BString>>>,
}

impl Groups {
    fn tie<'a>(&mut self, paths: impl Iterator<Item = &'a BString>) {
        let mut set = BTreeSet::new();
        for path in paths {
            if let Some(old) = self.at.get(path).and_then(|&at| self.sets[at].take()) {
                set.extend(old);
            }
            set.insert(path.clone());
        }
        for path in &set {
            self.at.insert(path.clone(), self.sets.len());
        }
        self.sets.push(Some(set));
    }

    fn into_sets(self) -> impl Iterator<Item = Vec<BString>> {
        self.sets
            .into_iter()
            .flatten()
            .map(|set| set.into_iter().collect::<Vec<_>>())
            .filter(|set| !set.is_empty())
    }
}

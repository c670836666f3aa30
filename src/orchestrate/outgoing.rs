//! What goes to a remote in people's branches is looked through for secrets first: nothing of a branch is pushed as long
//! as one is in a commit that the remote does not have.
//!
//! Judged is what the new commits add, their messages included: what the base has already, there or elsewhere in its
//! tree, is the user's business. What cannot be read, or is too large to be looked through, holds the branch as well.

use super::Error;
use crate::agent::{Found, Redactor};
use crate::git::{Brought, Repository};
use crate::model::{Agent, Id, ObjectId};
use crate::orchestrate::supervise::chain;
use crate::store::Store;
use bstr::ByteSlice;
use serde::Serialize;
use sha2::{Digest, Sha256};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::fmt::{self, Write as _};
use std::sync::Arc;

/// The largest file that is looked through.
const MAX_FILE: u64 = 32 << 20;
/// Of so many finds each is told.
const TOLD: usize = 3;
/// A guess (`password=…`) counts here if its value has so many characters, and so many bits a character.
const GUESS: (usize, f64) = (16, 3.5);
/// And so often goes from small letters to large ones or digits, or back.
const GUESS_TURNS: usize = 4;

/// What is looked for, and what may be pushed all the same.
#[derive(Debug, Clone)]
pub struct Guard {
    redactor: Arc<Redactor>,
    allowed: BTreeSet<String>,
}

/// What holds a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// The ref.
    pub name: String,
    /// What was found.
    pub secrets: Vec<Secret>,
    /// Why it could not be looked through, if it could not.
    pub why: Option<String>,
}

/// Something in a commit that looks like a secret. It is never said itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Secret {
    /// The commit.
    pub commit: ObjectId,
    /// The file; none in the commit's message. Without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The line.
    pub line: u64,
    /// Its family, or the name of the known value.
    pub family: String,
    /// By what `push.allow` names it.
    pub fingerprint: String,
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { commit, line, family, fingerprint, .. } = self;
        let place = self.path.as_deref().map_or_else(|| "message".to_owned(), str::to_owned);
        write!(f, "{family} in {} {place}:{line} ({fingerprint})", commit.short())
    }
}

impl Held {
    /// Why it is held, in words.
    pub fn words(&self) -> String {
        if let Some(why) = &self.why {
            return format!("its commits could not be looked through for secrets: {why}");
        }
        let mut words = "its commits hold what looks like a secret: ".to_owned();
        let told: Vec<String> = self.secrets.iter().take(TOLD).map(Secret::to_string).collect();
        words.push_str(&told.join(", "));
        if let Some(more @ 1..) = self.secrets.len().checked_sub(TOLD) {
            let _ = write!(words, ", and {more} more");
        }
        words
    }

    /// What helps.
    pub const HINT: &str = "take it out of the commits (`git commit --amend`, `git rebase -i`) and replace a key that was real; \
                            what is none goes into `push.allow` by the word in brackets";
}

impl Guard {
    /// Looks for what `redactor` takes out elsewhere, but for the fingerprints in `allowed`.
    pub fn new(redactor: Arc<Redactor>, allowed: impl IntoIterator<Item = String>) -> Self {
        Self { redactor, allowed: allowed.into_iter().collect() }
    }

    /// What holds the branch of an agent, if anything does.
    pub(super) fn hold_agent(
        &self,
        store: &Store,
        agents: &[Agent],
        agent: &Agent,
        tip: &ObjectId,
        remote: &str,
    ) -> Option<Held> {
        let bases = bases(store.repo(), agents, agent);
        self.hold(store.repo(), &agent.branch, tip, remote, &bases)
    }

    /// What holds `name`, which is to go to `tip` on `remote`, if anything does. What `bases` have is not judged.
    pub fn hold(
        &self,
        repo: &Repository,
        name: &str,
        tip: &ObjectId,
        remote: &str,
        bases: &[ObjectId],
    ) -> Option<Held> {
        let held = |secrets, why| Held { name: name.to_owned(), secrets, why };
        match self.look(repo, tip, remote, bases) {
            Ok(secrets) if secrets.is_empty() => None,
            Ok(secrets) => Some(held(secrets, None)),
            Err(error) => Some(held(Vec::new(), Some(chain(&error)))),
        }
    }

    fn look(
        &self,
        repo: &Repository,
        tip: &ObjectId,
        remote: &str,
        bases: &[ObjectId],
    ) -> Result<Vec<Secret>, Error> {
        let seen = repo.list_refs(&format!("refs/remotes/{remote}/")).unwrap_or_default();
        let known: Vec<ObjectId> = seen.into_iter().map(|(_, id)| id).chain(bases.iter().cloned()).collect();
        let mut looked = HashSet::new();
        let mut suspects = Vec::new();
        for Brought { commit, message, files } in repo.brought(tip, &known)? {
            self.suspect(&commit, None, &message, false, &mut suspects);
            for file in files {
                if !looked.insert(file.blob.clone()) {
                    continue;
                }
                let path = self.redactor.redact(&file.path.to_str_lossy()).0.into_owned();
                self.suspect(&commit, Some(&path), &file.path.to_str_lossy(), false, &mut suspects);
                if repo.object_size(&file.blob)? > MAX_FILE {
                    let fingerprint = fingerprint("too-large", file.blob.as_str().as_bytes());
                    let family = format!("more than {} MiB, too large to be looked through", MAX_FILE >> 20);
                    let secret =
                        Secret { commit: commit.clone(), path: Some(path), line: 1, family, fingerprint };
                    if !self.allowed.contains(&secret.fingerprint) {
                        suspects.push((secret, None));
                    }
                    continue;
                }
                let content = repo.read_blob(&file.blob)?;
                let binary = content.iter().take(8000).any(|&byte| byte == 0);
                let from = suspects.len();
                self.suspect(&commit, Some(&path), &content.to_str_lossy(), binary, &mut suspects);
                if suspects.len() > from {
                    let mut before = Vec::new();
                    for blob in &file.before {
                        if repo.object_size(blob)? <= MAX_FILE {
                            before.push(repo.read_blob(blob)?);
                        }
                    }
                    let mut at = 0;
                    suspects.retain(|(_, text)| {
                        at += 1;
                        at <= from || !before.iter().any(|before| has(before, text.as_deref()))
                    });
                }
            }
        }
        let needles: Vec<Vec<u8>> =
            suspects.iter().filter_map(|(_, text)| needle(text.as_deref()?)).collect();
        if !needles.is_empty() {
            for base in bases {
                // A base that is not here (a record of elsewhere names it) excuses nothing.
                if repo.has_object(base) {
                    let lines = repo.lines_with(base, &needles)?;
                    suspects.retain(|(_, text)| {
                        let needle = text.as_deref().and_then(needle);
                        needle.is_none_or(|needle| lines.find(&needle).is_none())
                    });
                }
            }
        }
        Ok(suspects.into_iter().map(|(secret, _)| secret).collect())
    }

    /// Adds what looks like a secret in a text, with the secret itself.
    fn suspect(
        &self,
        commit: &ObjectId,
        path: Option<&str>,
        text: &str,
        binary: bool,
        suspects: &mut Vec<(Secret, Option<String>)>,
    ) {
        let mut known = HashSet::new();
        for Found { family, start, end, guess } in self.redactor.find(text) {
            let secret = &text[start..end];
            if guess && (binary || !is_random(secret)) {
                continue;
            }
            let fingerprint = fingerprint(family, secret.as_bytes());
            // Once a text.
            if self.allowed.contains(&fingerprint) || !known.insert(fingerprint.clone()) {
                continue;
            }
            let line = text[..start].bytes().filter(|&byte| byte == b'\n').count() as u64 + 1;
            let found = Secret {
                commit: commit.clone(),
                path: path.map(str::to_owned),
                line,
                family: family.to_owned(),
                fingerprint,
            };
            suspects.push((found, Some(secret.to_owned())));
        }
    }
}

/// Where an agent's own work begins. One that was made from another one's branch carries that one's commits too: then it
/// is where that one began.
pub(super) fn bases(repo: &Repository, agents: &[Agent], agent: &Agent) -> Vec<ObjectId> {
    let mut tips: HashMap<&ObjectId, Vec<&Agent>> = HashMap::new();
    let branches: HashMap<Id, ObjectId> =
        agents.iter().filter_map(|one| Some((one.id, repo.find_ref(&one.branch).ok().flatten()?))).collect();
    for one in agents.iter().filter(|one| one.id != agent.id) {
        let runs = one.runs.values().filter_map(|run| run.tip.as_ref());
        for tip in runs.chain(branches.get(&one.id)).filter(|tip| **tip != one.base) {
            tips.entry(tip).or_default().push(one);
        }
    }
    let (mut bases, mut seen, mut wanted) = (Vec::new(), HashSet::new(), vec![agent.base.clone()]);
    while let Some(base) = wanted.pop() {
        if !seen.insert(base.clone()) {
            continue;
        }
        if let Some(of) = tips.get(&base) {
            wanted.extend(of.iter().map(|one| one.base.clone()));
            continue;
        }
        // Several steps before it may have been merged for it.
        let parents = repo.read_commit(&base).map(|commit| commit.parents).unwrap_or_default();
        if parents.len() > 1 && parents.iter().any(|parent| tips.contains_key(parent)) {
            wanted.extend(parents);
            continue;
        }
        bases.push(base);
    }
    bases
}

/// By what a secret is allowed: enough of a digest to tell it from others, and nothing to find it by.
fn fingerprint(family: &str, secret: &[u8]) -> String {
    let mut digest = Sha256::new();
    digest.update(family.as_bytes());
    digest.update(b"\0");
    digest.update(secret);
    digest.finalize().iter().take(6).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Whether a text holds the secret.
fn has(text: &[u8], secret: Option<&str>) -> bool {
    secret.is_some_and(|secret| text.find(secret).is_some())
}

/// What a secret is looked for by, line by line: its longest one.
fn needle(secret: &str) -> Option<Vec<u8>> {
    secret
        .lines()
        .map(str::trim)
        .max_by_key(|line| line.len())
        .filter(|line| !line.is_empty())
        .map(Into::into)
}

/// Whether a word is made up by a machine rather than by people: letters and digits without a pattern.
fn is_random(word: &str) -> bool {
    let (mut counts, mut total) = ([0_u32; 256], 0_u32);
    for byte in word.bytes() {
        counts[usize::from(byte)] += 1;
        total += 1;
    }
    let bits: f64 = counts
        .iter()
        .filter(|&&count| count > 0)
        .map(|&count| f64::from(count) / f64::from(total))
        .map(|share| -share * share.log2())
        .sum();
    let kind = |byte: u8| (byte.is_ascii_digit(), byte.is_ascii_uppercase());
    let letters: Vec<u8> = word.bytes().filter(u8::is_ascii_alphanumeric).collect();
    let turns = letters.windows(2).filter(|pair| kind(pair[0]) != kind(pair[1])).count();
    let mixed = letters.iter().any(u8::is_ascii_digit) && turns >= GUESS_TURNS;
    word.len() >= GUESS.0 && mixed && bits >= GUESS.1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_people_are_no_secrets_by_guess() {
        for word in [
            "changeme",
            "hunter22",
            "correct-horse-battery-staple",
            "aaaaaaaaaaaaaaaa1111",
            "your-token-here-123",
        ] {
            assert!(!is_random(word), "{word}");
        }
        assert!(is_random("q8Zr2LxV9mTn4KcB7sWd"));
    }

    #[test]
    fn a_key_of_several_lines_is_looked_for_by_one() {
        assert_eq!(
            needle("-----BEGIN-----\n  abcdefghijklmnopqrstuvwxyz\n-----END-----"),
            Some(b"abcdefghijklmnopqrstuvwxyz".to_vec())
        );
        assert_eq!(needle("\n"), None);
    }
}

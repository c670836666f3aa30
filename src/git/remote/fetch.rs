//! Fetching: one connection, into tracking refs that only move forward, and only what is sound and not too much.

use super::super::{Error, Expected, RefEdit, Repository};
use super::intake::{Intake, Limits};
use super::leased::LACKS;
use super::place::Side;
use super::quarantine::MAX_INCOMING;
use super::trouble::{self, Trouble};
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often a fetch is made again because another process moved a tracking ref meanwhile.
const ATTEMPTS: u32 = 5;

/// One ref that is fetched: where it is there, and the tracking ref here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FetchSpec {
    /// The full name on the remote.
    pub remote: String,
    /// The full name of the tracking ref.
    pub tracking: String,
}

/// What a fetch found of one ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FetchAnswer {
    /// The remote has what we had seen.
    Same(ObjectId),
    /// The tracking ref moved forward.
    Moved {
        /// Where it was; `None` if it is new.
        old: Option<ObjectId>,
        /// Where it is.
        new: ObjectId,
    },
    /// The remote has no such ref.
    Absent,
    /// The remote has something that does not follow what we had seen; the tracking ref stays.
    Rewritten {
        /// What we had seen.
        old: ObjectId,
        /// What the remote has.
        new: ObjectId,
    },
    /// What the remote has there was not taken in, and why; the tracking ref stays.
    Refused(String),
}

impl Repository {
    /// Fetches refs into their tracking refs and nothing else: no tags, no `FETCH_HEAD`, none of the remote's
    /// configured refspecs. One answer for each of `specs`, in their order.
    ///
    /// A tracking ref only ever moves forward, and objects come into the repository only when they are sound
    /// and together no more than 256 MiB. Where the remote has all of the refs, or none was seen of it before, it is
    /// one connection; otherwise it is asked first what it has.
    pub fn fetch(
        &self,
        remote: &str,
        specs: &[FetchSpec],
        deadline: Duration,
    ) -> Result<Vec<FetchAnswer>, Error> {
        let old = self.find_refs(&specs.iter().map(|spec| spec.tracking.as_str()).collect::<Vec<_>>())?;
        let known = old.iter().flatten().count();
        let all: Vec<&FetchSpec> = specs.iter().collect();
        // Who knows none of them is new here, and the remote may have nothing yet: a fetch by patterns does not mind.
        let how = if known == 0 { Asked::AsPattern } else { Asked::ByName };
        if (known == specs.len() || known == 0)
            && let Some(answers) = self.fetch_each(remote, &all, how, deadline)?
        {
            return Ok(answers);
        }
        let names: Vec<&str> = specs.iter().map(|spec| spec.remote.as_str()).collect();
        let there = self.remote_refs(remote, &names, deadline)?;
        let wanted: Vec<&FetchSpec> = specs
            .iter()
            .zip(&old)
            .filter(|(spec, old)| there.get(&spec.remote) != old.as_ref())
            .map(|(s, _)| s)
            .filter(|spec| there.contains_key(&spec.remote))
            .collect();
        let mut fetched = match wanted.as_slice() {
            [] => Vec::new(),
            wanted => {
                self.fetch_each(remote, wanted, Asked::ByName, deadline)?.ok_or_else(|| Error::Output {
                    command: "fetch",
                    detail: "the remote named a ref that it then did not have".to_owned(),
                })?
            }
        }
        .into_iter();
        let answers = specs.iter().zip(old).map(|(spec, old)| match (there.get(&spec.remote), old) {
            (None, _) => FetchAnswer::Absent,
            (Some(new), Some(old)) if *new == old => FetchAnswer::Same(old),
            (Some(_), _) => fetched.next().expect("one answer for each that was wanted"),
        });
        Ok(answers.collect())
    }

    /// Fetches refs that are all there, together, or each alone where one of them is not to be taken in; `None` if
    /// one is not there.
    fn fetch_each(
        &self,
        remote: &str,
        specs: &[&FetchSpec],
        how: Asked,
        deadline: Duration,
    ) -> Result<Option<Vec<FetchAnswer>>, Error> {
        let refused = |error: &Error| match error {
            Error::Remote { trouble: Trouble::Flood | Trouble::Unsound, words, .. } => Some(words.clone()),
            _ => None,
        };
        match self.fetch_again(remote, specs, how, deadline) {
            Err(error) if refused(&error).is_some() && specs.len() > 1 => {}
            result => return result,
        }
        let mut answers = Vec::new();
        for spec in specs {
            match self.fetch_again(remote, &[spec], how, deadline) {
                Ok(Some(answer)) => answers.extend(answer),
                Ok(None) => return Ok(None),
                Err(error) => match refused(&error) {
                    Some(words) => answers.push(FetchAnswer::Refused(words)),
                    None => return Err(error),
                },
            }
        }
        Ok(Some(answers))
    }

    /// Fetches, and once more if another process was at the same tracking refs.
    fn fetch_again(
        &self,
        remote: &str,
        specs: &[&FetchSpec],
        how: Asked,
        deadline: Duration,
    ) -> Result<Option<Vec<FetchAnswer>>, Error> {
        let mut attempt = 1;
        loop {
            match self.fetch_present(remote, specs, how, deadline) {
                Err(Error::RefMoved { .. } | Error::RefLocked { .. }) if attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    fn fetch_present(
        &self,
        remote: &str,
        specs: &[&FetchSpec],
        how: Asked,
        deadline: Duration,
    ) -> Result<Option<Vec<FetchAnswer>>, Error> {
        // The objects come, and git tells where the refs would go; we move them.
        let options = ["--dry-run", "--porcelain", "--verbose"];
        let refspecs = specs.iter().map(|spec| match how {
            Asked::ByName => format!("{}:{}", spec.remote, spec.tracking),
            Asked::AsPattern => format!("{}:{}", pattern(&spec.remote), pattern(&spec.tracking)),
        });
        let limits = Limits { incoming: MAX_INCOMING, records: true };
        let Intake { command, output, quarantine } =
            self.intake((remote, Side::Pushed), &options, refspecs, limits, deadline)?;
        if output.stderr.contains_str(LACKS) {
            return Ok(None);
        }
        if output.status.code() == Some(USAGE) && output.stderr.contains_str("unknown option") {
            let found = self.read(["version"])?;
            return Err(Error::TooOld { what: "sync", found, needed: "2.41".to_owned() });
        }
        let mut found = BTreeMap::new();
        for line in output.stdout.lines() {
            let (name, answer) = fetched_line(line).ok_or_else(|| Error::unexpected("fetch", line))?;
            found.insert(name, answer);
        }
        let rewritten = |answer: &FetchAnswer| matches!(answer, FetchAnswer::Rewritten { .. });
        if !output.status.success() && !found.values().any(rewritten) {
            return Err(trouble::of_words(remote, &command, &output));
        }
        quarantine.let_in()?;
        let mut answers = Vec::new();
        for spec in specs {
            match (found.remove(&spec.tracking), how) {
                (Some(answer), _) => answers.push(self.only_commits(answer)?),
                (None, Asked::AsPattern) if output.status.success() => answers.push(FetchAnswer::Absent),
                (None, _) => return Err(command.failed(&output).into()),
            }
        }
        let moves = specs.iter().zip(&answers).filter_map(|(spec, answer)| match answer {
            FetchAnswer::Moved { old, new } => Some(RefEdit {
                name: spec.tracking.clone(),
                new: Some(new.clone()),
                expected: Expected::from(old.clone()),
            }),
            _ => None,
        });
        let moves: Vec<RefEdit> = moves.collect();
        if !moves.is_empty() {
            self.update_refs(&moves, "git orchestra fetch")?;
        }
        Ok(Some(answers))
    }

    /// git lets a ref of ours move to what is no commit without asking whether that follows.
    fn only_commits(&self, answer: FetchAnswer) -> Result<FetchAnswer, Error> {
        Ok(match answer {
            FetchAnswer::Moved { old, new } if self.find_commit(&new)?.is_none() => match old {
                Some(old) => FetchAnswer::Rewritten { old, new },
                None => FetchAnswer::Refused(format!("{new} is no commit")),
            },
            answer => answer,
        })
    }
}

/// How refs are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    /// By name: one that is not there fails the fetch.
    ByName,
    /// By a pattern that hardly another name fits: one that is not there does not come.
    AsPattern,
}

/// A name with its last character left open. What else comes by it goes with the quarantine, or is collected.
fn pattern(name: &str) -> String {
    format!("{}*", &name[..name.len() - 1])
}

/// How git ends when it does not know an option.
const USAGE: i32 = 129;

/// `* <old> <new> <tracking ref>`.
fn fetched_line(line: &[u8]) -> Option<(String, FetchAnswer)> {
    let line = line.to_str().ok()?;
    let (flag, rest) = (line.chars().next()?, line.get(2..)?);
    let mut parts = rest.splitn(3, ' ');
    let (old, new, name) = (parts.next()?, parts.next()?, parts.next()?);
    let old = Some(old).filter(|old| old.bytes().any(|b| b != b'0')).map(str::parse).transpose().ok()?;
    let new: ObjectId = new.parse().ok()?;
    let answer = match (flag, old) {
        ('=', _) => FetchAnswer::Same(new),
        (' ' | '*' | 't', old) => FetchAnswer::Moved { old, new },
        ('!', Some(old)) => FetchAnswer::Rewritten { old, new },
        _ => return None,
    };
    Some((name.to_owned(), answer))
}

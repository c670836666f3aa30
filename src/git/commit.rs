//! Commits: made in the object database, read without a checkout.

use super::{Error, Repository};
use crate::model::{Name, ObjectId, Timestamp};
use bstr::{ByteSlice, ByteVec};
use std::fmt;

/// A name and an address, as git writes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The address.
    pub email: String,
}

impl Identity {
    /// An identity without the characters that end a field in a commit: `<`, `>` and line ends.
    pub fn new(name: &str, email: &str) -> Self {
        let clean = |text: &str| {
            text.chars().filter(|c| !matches!(c, '<' | '>' | '\n' | '\r' | '\0')).collect::<String>()
        };
        Self { name: clean(name).trim().to_owned(), email: clean(email).trim().to_owned() }
    }
}

impl Identity {
    /// Who an agent is to git. The address leads nowhere: the domain is reserved for that (RFC 2606).
    pub fn agent(name: &Name) -> Self {
        Self::new(name.as_str(), &format!("{name}@orchestra.invalid"))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} <{}>", self.name, self.email)
    }
}

/// A commit that is about to be written.
#[derive(Debug, Clone)]
pub struct NewCommit<'a> {
    /// Its tree.
    pub tree: &'a ObjectId,
    /// Its parents, in order.
    pub parents: &'a [ObjectId],
    /// Who did it.
    pub author: &'a Identity,
    /// Who wrote it down.
    pub committer: &'a Identity,
    /// When, to the second, in UTC.
    pub at: Timestamp,
    /// Subject, body and trailers.
    pub message: &'a str,
}

/// A commit that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Its tree.
    pub tree: ObjectId,
    /// Its parents, in order.
    pub parents: Vec<ObjectId>,
    /// `Name <email>` of the author.
    pub author: String,
    /// `Name <email>` of the committer.
    pub committer: String,
    /// When it was authored.
    pub at: Timestamp,
    /// Everything after the headers.
    pub message: String,
}

impl Commit {
    /// The first line of the message.
    pub fn subject(&self) -> &str {
        self.message.lines().next().unwrap_or_default()
    }

    /// The values of a trailer, in order. (Ours stand one to a line at the end.)
    pub fn trailers<'a>(&'a self, key: &'a str) -> impl Iterator<Item = &'a str> {
        self.message.lines().filter_map(move |line| line.strip_prefix(key)?.strip_prefix(": "))
    }
}

impl Repository {
    /// Writes a commit object. No ref moves, no hook runs, and nothing is signed.
    pub fn write_commit(&self, commit: &NewCommit<'_>) -> Result<ObjectId, Error> {
        let mut raw = Vec::with_capacity(512);
        raw.push_str(format!("tree {}\n", commit.tree));
        for parent in commit.parents {
            raw.push_str(format!("parent {parent}\n"));
        }
        let seconds = commit.at.as_secs();
        raw.push_str(format!("author {} {seconds} +0000\n", commit.author));
        raw.push_str(format!("committer {} {seconds} +0000\n\n", commit.committer));
        raw.push_str(commit.message);
        if !commit.message.ends_with('\n') {
            raw.push(b'\n');
        }
        self.write_raw_commit(&raw)
    }

    /// Reads a commit.
    pub fn read_commit(&self, id: &ObjectId) -> Result<Commit, Error> {
        parse(id, &self.read_raw_commit(id)?)
    }

    /// Reads what may be a commit; `None` if there is no such object, or it is no commit that can be understood.
    ///
    /// # Errors
    /// If it is there and could not be read.
    pub fn find_commit(&self, id: &ObjectId) -> Result<Option<Commit>, Error> {
        Ok(if self.is_commit(id)? { parse(id, &self.read_raw_commit(id)?).ok() } else { None })
    }

    /// The commit that a revision names: a branch, a tag, `HEAD~2`.
    pub fn resolve_commit(&self, revision: &str) -> Result<ObjectId, Error> {
        let spec = format!("{revision}^{{commit}}");
        let output = self.git(["rev-parse", "--verify", "--quiet", "--end-of-options", &spec]).output()?;
        let text = output.stdout.trim().to_str_lossy().into_owned();
        text.parse().map_err(|_| Error::NoSuchRevision { revision: revision.to_owned() })
    }
}

fn parse(id: &ObjectId, raw: &[u8]) -> Result<Commit, Error> {
    let broken = |what: &str| Error::read("commit", id, format!("it has no readable {what}"));
    let (headers, message) = raw.split_once_str("\n\n").unwrap_or((raw, &b""[..]));
    let (mut tree, mut parents, mut author, mut committer) = (None, Vec::new(), None, "");
    for line in headers.lines() {
        match line.split_once_str(" ") {
            Some((b"tree", value)) => tree = value.to_str().ok().and_then(|v| v.parse().ok()),
            Some((b"parent", value)) => {
                let parent = value.to_str().ok().and_then(|v| v.parse().ok());
                parents.push(parent.ok_or_else(|| broken("parent"))?);
            }
            Some((b"author", value)) => author = Some(value.to_str_lossy().into_owned()),
            Some((b"committer", value)) => committer = value.to_str().unwrap_or_default(),
            _ => {}
        }
    }
    let author = author.ok_or_else(|| broken("author"))?;
    let (who, when) = author.rsplit_once("> ").ok_or_else(|| broken("author"))?;
    let seconds = when.split(' ').next().and_then(|s| s.parse::<u64>().ok()).unwrap_or(0);
    Ok(Commit {
        tree: tree.ok_or_else(|| broken("tree"))?,
        parents,
        author: format!("{who}>"),
        committer: committer.rsplit_once("> ").map(|(who, _)| format!("{who}>")).unwrap_or_default(),
        at: Timestamp(seconds.saturating_mul(1_000)),
        message: message.to_str_lossy().into_owned(),
    })
}

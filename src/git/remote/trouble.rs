//! What went wrong with a remote, told from git's words so that people learn what to do about it.

use super::super::Error;
use crate::process::{Command, CommandError, Output};
use bstr::ByteSlice;
use std::fmt;
use std::time::Duration;

/// The kinds of trouble with a remote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// It is not there, or there is no repository.
    Reach,
    /// It does not let us in.
    SignIn,
    /// It does not answer.
    Silent,
    /// It sent more than anybody's state is.
    Flood,
    /// What it sent is no sound history.
    Unsound,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Reach => "reach",
            Self::SignIn => "sign in to",
            Self::Silent => "hear from",
            Self::Flood | Self::Unsound => "take in what was sent by",
        })
    }
}

/// Words of git, ssh and curl that tell what it was; the first kind that has one of its words there counts.
const WORDS: &[(Trouble, &[&str])] = &[
    (Trouble::Flood, &["over limit", "Out of memory", "out of memory", "malloc"]),
    (
        Trouble::SignIn,
        &[
            "Authentication failed",
            "could not read Username",
            "could not read Password",
            "Permission denied (",
            "Host key verification failed",
            "error: 401",
            "error: 403",
            "access denied",
        ],
    ),
    (
        Trouble::Unsound,
        &[
            "fsck error",
            "error in object",
            "exceeded maximum allowed tree depth",
            "did not send all necessary objects",
            "index-pack failed",
            "unpack-objects failed",
            "invalid index-pack output",
            "bad object",
        ],
    ),
    (
        Trouble::Reach,
        &[
            "does not appear to be a git repository",
            "Could not read from remote repository",
            "Could not resolve host",
            "unable to look up",
            "unable to access",
            "unable to connect",
            "Repository not found",
            "repository not exported",
            "service not enabled",
            "No such remote",
            "not found",
            "unable to find remote helper",
        ],
    ),
];

/// What the system says when it has nothing left, or something is broken: of whichever side's git, it is no race and
/// nothing about what was sent.
const SYSTEM: &[&str] = &[
    "Too many open files",
    "No space left on device",
    "Disk quota exceeded",
    "Input/output error",
    "Read-only file system",
    "Cannot allocate memory",
    "Resource temporarily unavailable",
];

/// The line of git's, or of the remote's, that tells of a failure of the system.
pub(super) fn of_system(stderr: &[u8]) -> Option<String> {
    let line = stderr.lines().find(|line| SYSTEM.iter().any(|words| line.contains_str(words)))?;
    Some(essence(line.strip_prefix(b"remote: ").unwrap_or(line)))
}

/// The kind of trouble that git tells of, if it is one that we know. What our own side's system does not give is none:
/// git's words about what came of it are those about a remote.
pub(super) fn kind(stderr: &[u8]) -> Option<Trouble> {
    let ours = stderr.lines().filter(|line| !line.starts_with(b"remote: "));
    if ours.into_iter().any(|line| of_system(line).is_some()) {
        return None;
    }
    WORDS
        .iter()
        .find(|(_, words)| words.iter().any(|words| stderr.contains_str(words)))
        .map(|(trouble, _)| *trouble)
}

/// The error of a network command that ended badly.
pub(super) fn of_words(remote: &str, command: &Command, output: &Output) -> Error {
    match kind(&output.stderr) {
        Some(trouble) => Error::Remote { remote: remote.to_owned(), trouble, words: essence(&output.stderr) },
        None => command.failed(output).into(),
    }
}

/// The error of a network command that did not end by itself.
pub(super) fn of_command(remote: &str, error: CommandError, deadline: Duration) -> Error {
    match error {
        CommandError::TimedOut { .. } => Error::Remote {
            remote: remote.to_owned(),
            trouble: Trouble::Silent,
            words: format!("no end after {} s", deadline.as_secs_f32()),
        },
        error => error.into(),
    }
}

/// What git said, without what it repeats and advises.
fn essence(stderr: &[u8]) -> String {
    const NOISE: &[&str] = &[
        "Please make sure you have the correct access rights",
        "and the repository exists.",
        "fatal: Could not read from remote repository.",
    ];
    let text = stderr.to_str_lossy();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    let told: Vec<&str> = lines.iter().copied().filter(|line| !NOISE.contains(line)).collect();
    let lines = if told.is_empty() { lines } else { told };
    let plain = lines.iter().map(|line| line.trim_start_matches("fatal: ").trim_start_matches("error: "));
    let mut words = plain.collect::<Vec<_>>().join("; ");
    if let Some((end, _)) = words.char_indices().nth(MAX_WORDS) {
        words.truncate(end);
        words.push('…');
    }
    words
}

/// How much of a remote's own words is shown: it may have sent a book.
const MAX_WORDS: usize = 400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_is_told_from_gits_words() {
        for (words, trouble) in [
            (
                "fatal: could not read Username for 'http://h': terminal prompts disabled",
                Some(Trouble::SignIn),
            ),
            ("ada@h: Permission denied (publickey).\nfatal: Could not read from remote repository.", {
                Some(Trouble::SignIn)
            }),
            ("fatal: unable to access 'http://h/': Failed to connect to h port 1", Some(Trouble::Reach)),
            (
                "fatal: unable to access 'http://h/': The requested URL returned error: 403",
                Some(Trouble::SignIn),
            ),
            ("fatal: attempting to allocate 1073741824 over limit 67108864", Some(Trouble::Flood)),
            ("error: object f: treeNotSorted: not properly sorted\nfatal: fsck error in packed object", {
                Some(Trouble::Unsound)
            }),
            ("fatal: something new", None),
        ] {
            assert_eq!(kind(words.as_bytes()), trouble, "{words}");
        }
    }

    #[test]
    fn advice_is_left_out_and_books_are_cut() {
        let stderr = "a: Permission denied (publickey).\nfatal: Could not read from remote repository.\n\n\
                      Please make sure you have the correct access rights\nand the repository exists.\n";
        assert_eq!(essence(stderr.as_bytes()), "a: Permission denied (publickey).");
        assert_eq!(essence("é".repeat(5000).as_bytes()).chars().count(), MAX_WORDS + 1);
    }
}

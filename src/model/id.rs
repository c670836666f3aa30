//! Identifiers of entities, and the one grammar of what may become part of a ref or a path.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// Crockford's base 32 in lower case: no `i`, `l`, `o` or `u`.
const ALPHABET: &[u8; 32] = b"0123456789abcdefghjkmnpqrstvwxyz";
/// The index of `g`: ids start at or after it, so that none ever reads as a hexadecimal commit id.
const FIRST: usize = 16;

/// The identity of a task, agent, finding, decision or merge: 16 characters of lower-case Crockford base 32
/// from 80 random bits, of which the first character keeps four (`g` to `z`).
///
/// People see the shortest unique prefix of at least [`Id::MIN_PREFIX`] characters.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Id([u8; Self::LEN]);

/// Why a text is not an id or a prefix of one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an id: ids are 4 to 16 characters of 0-9 and a-z without i, l, o and u, and start with g or later"
)]
pub struct IdError(pub String);

impl Id {
    /// Characters in a whole id.
    pub const LEN: usize = 16;
    /// The fewest characters that name an entity.
    pub const MIN_PREFIX: usize = 4;

    /// Makes an id from 80 random bits (the low ones of `random`).
    pub fn from_random(random: u128) -> Self {
        let mut id = [0; Self::LEN];
        for (position, byte) in id.iter_mut().enumerate() {
            let five = usize::try_from((random >> (5 * position)) & 31).expect("five bits fit");
            *byte = ALPHABET[if position == 0 { FIRST + five % 16 } else { five }];
        }
        Self(id)
    }

    /// The whole id.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("ids are ASCII")
    }

    /// How many of its first characters `other` has too.
    pub fn shared(&self, other: &[u8]) -> usize {
        self.0.iter().zip(other).take_while(|(a, b)| a == b).count()
    }

    /// Whether `text` could be a prefix of an id: right characters, right length.
    pub fn is_prefix(text: &str) -> bool {
        (Self::MIN_PREFIX..=Self::LEN).contains(&text.len()) && has_grammar(text)
    }
}

fn has_grammar(text: &str) -> bool {
    // Asked for every record of the state: ranges, not a search in the alphabet.
    let in_alphabet = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'h' | b'j' | b'k' | b'm' | b'n' | b'p'..=b't' | b'v'..=b'z');
    text.bytes().all(in_alphabet) && text.bytes().next().is_none_or(|first| first >= ALPHABET[FIRST])
}

impl FromStr for Id {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match <[u8; Self::LEN]>::try_from(text.as_bytes()) {
            Ok(bytes) if has_grammar(text) => Ok(Self(bytes)),
            _ => Err(IdError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Id {
    type Error = IdError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Id> for String {
    fn from(id: Id) -> Self {
        id.as_str().to_owned()
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Id({})", self.as_str())
    }
}

/// What kinds of entities the state holds; also the names of their directories in the state's tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// What is wanted.
    Task,
    /// A worker with a worktree, a branch and a conversation.
    Agent,
    /// What was noticed.
    Finding,
    /// A question to a person and its answer.
    Decision,
    /// One integration of several branches into a target.
    Merge,
    /// Tasks on their way from agents to the branch that they land on.
    Pipeline,
}

impl Kind {
    /// Every kind, in the order in which listings show them.
    pub const ALL: [Self; 6] =
        [Self::Task, Self::Agent, Self::Finding, Self::Decision, Self::Merge, Self::Pipeline];

    /// The directory of this kind in the state's tree.
    pub const fn directory(self) -> &'static str {
        match self {
            Self::Task => "tasks",
            Self::Agent => "agents",
            Self::Finding => "findings",
            Self::Decision => "decisions",
            Self::Merge => "merges",
            Self::Pipeline => "pipelines",
        }
    }

    /// The word for one of this kind.
    pub const fn noun(self) -> &'static str {
        match self {
            Self::Task => "task",
            Self::Agent => "agent",
            Self::Finding => "finding",
            Self::Decision => "decision",
            Self::Merge => "merge",
            Self::Pipeline => "pipeline",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.noun())
    }
}

/// A label that may become part of a ref or a path: `[a-z0-9][a-z0-9-]{0,62}`.
///
/// Names of agents are labels; nothing else that arrives from outside ever reaches a ref or a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(Box<str>);

/// Why a text is not a name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is not a name: 1 to 63 of a-z, 0-9 and `-` are expected, starting with a letter or digit", .0.escape_default())]
pub struct NameError(pub String);

impl Name {
    /// The most characters a name has.
    pub const MAX_LEN: usize = 63;

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Makes a name out of free text (a task's title): words joined by `-`, at most `max` characters, cut at a
    /// word where one ends. `None` if nothing usable is left.
    pub fn from_text(text: &str, max: usize) -> Option<Self> {
        let max = max.min(Self::MAX_LEN);
        let mut name = String::new();
        for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()) {
            let room = max.saturating_sub(name.len() + usize::from(!name.is_empty()));
            if word.len() > room {
                if name.is_empty() {
                    name.push_str(&word[..room].to_ascii_lowercase());
                }
                break;
            }
            if !name.is_empty() {
                name.push('-');
            }
            name.push_str(&word.to_ascii_lowercase());
        }
        name.parse().ok()
    }
}

impl FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=Self::MAX_LEN).contains(&text.len()) && !text.starts_with('-') && text.bytes().all(good) {
            Ok(Self(text.into()))
        } else {
            Err(NameError(text.to_owned()))
        }
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> Self {
        name.0.into()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_never_read_as_commit_ids() {
        for seed in 0..200_u128 {
            let id = Id::from_random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c834));
            assert!(id.as_str().as_bytes()[0] >= b'g', "{id}");
            assert_eq!(id.as_str().parse::<Id>(), Ok(id));
            assert!(Id::is_prefix(&id.as_str()[..4]));
        }
        assert!("0123456789abcdef".parse::<Id>().is_err());
        assert!(!Id::is_prefix("gil0"), "i, l, o and u are not in the alphabet");
        assert!(!Id::is_prefix("gab"), "three characters are too few");
    }

    #[test]
    fn the_grammar_is_the_alphabet() {
        for byte in 0..=127_u8 {
            let inside = ALPHABET.contains(&byte);
            let text = format!("g{}00", char::from(byte));
            assert_eq!(Id::is_prefix(&text), inside, "{text}");
            let first = format!("{}000", char::from(byte));
            assert_eq!(Id::is_prefix(&first), ALPHABET[FIRST..].contains(&byte), "{first}");
        }
    }

    #[test]
    fn names_are_a_strict_grammar() {
        for bad in ["", "-x", "A", "a/b", "a..b", "a b", "ä", "$(id)", "--force", &"a".repeat(64)] {
            assert!(bad.parse::<Name>().is_err(), "{bad:?}");
        }
        assert_eq!("blue-heron".parse::<Name>().unwrap().as_str(), "blue-heron");
        assert_eq!(Name::from_text("Fix: the HTTP/2 parser!", 14).unwrap().as_str(), "fix-the-http-2");
        assert_eq!(Name::from_text("«»", 20), None);
        assert_eq!(Name::from_text("Überaus", 20).unwrap().as_str(), "beraus");
    }
}

//! How an agent's program is confined.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// What keeps an agent's program from what is not its own, the weakest first: each keeps from at least what the one
/// before it keeps from. What exactly, `orchestrate::sandbox` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sandbox {
    /// Nothing: it may do what the user may.
    #[default]
    None,
    /// A rule of the Linux kernel about files, that the program imposes on itself before it begins.
    Landlock,
    /// A file system and processes of its own, made by the program `bwrap`.
    Bubblewrap,
}

impl Sandbox {
    /// All levels, the weakest first.
    pub const ALL: [Self; 3] = [Self::None, Self::Landlock, Self::Bubblewrap];

    /// The word for it, in settings and everywhere else.
    pub const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Landlock => "landlock",
            Self::Bubblewrap => "bubblewrap",
        }
    }
}

impl fmt::Display for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Sandbox {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|level| level.word() == text);
        found.ok_or_else(|| "`none`, `landlock` or `bubblewrap`".to_owned())
    }
}

//! Stamps: when a field was last written, and by which machine.

use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The latest time of a stamp, the year 2100: one that nobody could outdo would make a field the property of whoever wrote
/// it.
pub(super) const MAX_AT: Timestamp = Timestamp(4_102_444_800_000);

/// The time of a write as merging compares it: `<ms>-<counter>-<actor>`.
///
/// Ordered by time, then counter, then actor; a write takes a stamp greater than the one it replaces, whatever the
/// machine's clock says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Stamp {
    /// Milliseconds since the epoch, by the writer's clock.
    pub at: Timestamp,
    /// Tells writes of one millisecond apart.
    pub counter: u32,
    /// The machine that wrote.
    pub actor: String,
}

impl Stamp {
    /// The stamp of a write now by `actor` over a field that was last written at `replaced`.
    ///
    /// A clock that is after the year 2100 is wrong: it counts as that, so that whoever has a right one can write over it.
    #[must_use]
    pub fn after(now: Timestamp, actor: &str, replaced: Option<&Self>) -> Self {
        let fresh = Self { at: now.min(MAX_AT), counter: 0, actor: actor.to_owned() };
        match replaced {
            Some(old) if *old >= fresh => {
                Self { at: old.at, counter: old.counter.saturating_add(1), ..fresh }
            }
            _ => fresh,
        }
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.at.0, self.counter, self.actor)
    }
}

impl FromStr for Stamp {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '-');
        let (at, counter, actor) = (parts.next(), parts.next(), parts.next());
        let stamp = at.and_then(|at| at.parse().ok()).zip(counter.and_then(|c| c.parse().ok())).zip(actor);
        match stamp {
            Some(((at, counter), actor)) if !actor.is_empty() => {
                Ok(Self { at: Timestamp(at), counter, actor: actor.to_owned() })
            }
            _ => Err(format!("`{text}` is not a stamp")),
        }
    }
}

impl TryFrom<String> for Stamp {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Stamp> for String {
    fn from(stamp: Stamp) -> Self {
        stamp.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_write_is_always_newer_than_what_it_replaces() {
        let slow_clock = Timestamp(5);
        let old = Stamp { at: Timestamp(9), counter: 3, actor: "zz".into() };
        let new = Stamp::after(slow_clock, "aa", Some(&old));
        assert!(new > old);
        assert_eq!(new.to_string(), "9-4-aa");
        assert_eq!(new.to_string().parse::<Stamp>(), Ok(new));
        assert_eq!(Stamp::after(Timestamp(10), "aa", Some(&old)).to_string(), "10-0-aa");
    }
}

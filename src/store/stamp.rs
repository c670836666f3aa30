//! Stamps: when a field was last written, and by which machine.

use crate::model::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The latest time of a stamp, the year 2100: one that nobody could outdo would make a field the property of whoever wrote
/// it.
pub(super) const MAX_AT: Timestamp = Timestamp(4_102_444_800_000);
/// The highest counter of a stamp, for the same reason.
pub(super) const MAX_COUNTER: u32 = 1 << 30;
/// So many bits of a span after [`MAX_AT`] are told apart.
const SPAN_BITS: u32 = 24;

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
    /// After the last stamp of all there is one that is not sane (`is_sane`).
    #[must_use]
    pub fn after(now: Timestamp, actor: &str, replaced: Option<&Self>) -> Self {
        let fresh = Self { at: now.min(MAX_AT), counter: 0, actor: actor.to_owned() };
        match replaced {
            Some(old) if *old >= fresh => {
                // As if the clock had gone on a little.
                let is_full = old.counter >= MAX_COUNTER && old.at < MAX_AT;
                let next = (Timestamp(old.at.0.saturating_add(1)), 0);
                let (at, counter) = if is_full { next } else { (old.at, old.counter.saturating_add(1)) };
                Self { at, counter, ..fresh }
            }
            _ => fresh,
        }
    }

    /// Whether another write could outdo it, and its actor is the name of one.
    pub(super) fn is_sane(&self) -> bool {
        self.counter <= MAX_COUNTER && super::absorb::is_plain(self.actor.as_bytes())
    }

    /// The stamp as it counts: one from after [`MAX_AT`] is of then, with a counter that puts it behind those of then, in the
    /// order in which they were written as far as that has room (a few minutes in the year 2200).
    pub(super) fn in_time(&self) -> Self {
        let Some(late) = self.at.0.checked_sub(MAX_AT.0).filter(|late| *late > 0) else {
            return self.clone();
        };
        // One that is not sane stays so.
        let is_high = self.counter > MAX_COUNTER;
        let counter = if is_high { self.counter } else { squeezed(late) + self.counter.min(MAX_COUNTER / 2) };
        Self { at: MAX_AT, counter, actor: self.actor.clone() }
    }
}

/// A span in less than half of what a counter has room for: exact if it is short, and of a longer one its first
/// [`SPAN_BITS`] bits. Never less for a longer span.
fn squeezed(span: u64) -> u32 {
    let shift = (u64::BITS - span.leading_zeros()).saturating_sub(SPAN_BITS);
    let first = u32::try_from(span >> shift).expect("only so many bits are left");
    (shift << (SPAN_BITS - 1)) + first
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
        let full = Stamp { counter: MAX_COUNTER, ..old };
        let new = Stamp::after(slow_clock, "aa", Some(&full));
        assert!(new > full && new.is_sane());
        assert_eq!(new.to_string(), "10-0-aa");
        let last = Stamp { at: MAX_AT, ..full };
        let beyond = Stamp::after(slow_clock, "aa", Some(&last));
        assert!(beyond > last && !beyond.is_sane(), "there is none");
    }

    #[test]
    fn stamps_of_a_clock_that_is_wrong_keep_their_order_and_can_be_outdone() {
        let stamp = |at: u64, counter: u32| Stamp { at: Timestamp(at), counter, actor: "m".into() };
        let (end, year) = (MAX_AT.0, 31_557_600_000_u64);
        let mut written = vec![stamp(end - 1, 0), stamp(end, 0), stamp(end + 1, 0), stamp(end + 2, 0)];
        written.extend([stamp(end + (1 << 24), 0), stamp(end + (1 << 24) + 2, 0), stamp(end + year, 0)]);
        // Some minutes apart, and of one moment.
        written.extend([
            stamp(end + 100 * year, 0),
            stamp(end + 100 * year, 1),
            stamp(end + 100 * year + 600_000, 0),
        ]);
        written.extend([stamp(end + 8_000 * year, 0), stamp(u64::MAX, 0), stamp(u64::MAX, MAX_COUNTER)]);
        let counted: Vec<Stamp> = written.iter().map(Stamp::in_time).collect();
        for (raw, pair) in written.windows(2).zip(counted.windows(2)) {
            assert!(pair[0] < pair[1], "{} and {} are {} and {}", raw[0], raw[1], pair[0], pair[1]);
        }
        assert!(!stamp(u64::MAX, MAX_COUNTER + 1).in_time().is_sane());
        for one in &counted {
            assert!(one.at <= MAX_AT && one.is_sane() && one.in_time() == *one, "{one}");
            let over = Stamp::after(Timestamp(5), "a", Some(one));
            assert!(over > *one && over.is_sane(), "{over} over {one}");
        }
    }
}

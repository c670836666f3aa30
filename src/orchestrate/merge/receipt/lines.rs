//! One file in all its versions: which lines should be there and are not, and which are there and should not be.
//!
//! What a branch did to a file is what its tip has of each line more or less than its base. So after a merge the file
//! has each line as often as the base of all had it, and what each branch did to that: whatever the order was, and
//! however a diff aligns braces and blank lines. This is counted stretch by stretch, between lines that all versions
//! have, so that something that is missing here is not made good by something that is too much elsewhere.

use crate::orchestrate::merge::align::align;
use similar::{Algorithm, DiffTag, capture_diff_slices};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// A line: the same content is the same number.
pub(super) type Token = u32;

/// What one did to the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) base: &'a [Token],
    pub(super) tip: &'a [Token],
}

/// What a comparison found. Positions are lines of the tip, of the base or of what landed, from 0.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// How many lines each added and removed.
    pub(super) counts: Vec<(u64, u64)>,
    /// Added lines that are not there.
    pub(super) missing: Vec<Missing>,
    /// Removed lines that are there again.
    pub(super) back: Vec<Back>,
    /// Lines that nobody brought.
    pub(super) fresh: Vec<Fresh>,
    /// Added lines (of whom, where in its tip) that another (who) built on and removed.
    pub(super) superseded: Vec<(usize, usize, usize)>,
    /// Added lines (of whom, where in its tip) that are in another stretch of the file.
    pub(super) moved: Vec<(usize, usize)>,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Missing {
    pub(super) who: usize,
    /// Where in the tip.
    pub(super) at: usize,
    pub(super) token: Token,
    pub(super) stretch: usize,
    /// Whether `who` added it; otherwise it is one that was there before everybody.
    pub(super) added: bool,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Back {
    pub(super) who: usize,
    /// Where in what landed.
    pub(super) at: usize,
    pub(super) token: Token,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Fresh {
    pub(super) token: Token,
    pub(super) stretch: usize,
}

/// The stretches of a file between the lines that all versions share.
struct Stretch {
    landed: Range<usize>,
    /// By version.
    versions: Vec<Range<usize>>,
}

/// Lines that were replaced, in a stretch.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hunk {
    old: Range<usize>,
    new: Range<usize>,
}

/// Compares what `changes` bring (the first is the target's, from the base of all) with what `landed`. `tells` says of
/// a line whether it is more than brackets and blanks.
pub(super) fn compare(changes: &[Change<'_>], landed: &[Token], tells: &dyn Fn(Token) -> bool) -> Found {
    let mut versions = Vec::<&[Token]>::new();
    let mut number = |version| {
        versions.iter().position(|known| *known == version).unwrap_or_else(|| {
            versions.push(version);
            versions.len() - 1
        })
    };
    let numbers: Vec<(usize, usize)> = changes.iter().map(|c| (number(c.base), number(c.tip))).collect();
    let mut found = Found { counts: vec![(0, 0); changes.len()], ..Found::default() };
    let mut extra = Vec::<Extra>::new();
    for (at, stretch) in stretches(&versions, landed, tells).iter().enumerate() {
        let slice = |version: usize| &versions[version][stretch.versions[version].clone()];
        let parts = numbers.iter().map(|&(base, tip)| Part {
            base: slice(base),
            tip: slice(tip),
            tip_start: stretch.versions[tip].start,
        });
        let parts: Vec<Part<'_>> = parts.collect();
        let here = &landed[stretch.landed.clone()];
        if parts.iter().all(|part| part.base == here && part.tip == here) {
            continue;
        }
        weigh(&parts, here, (at, stretch.landed.start), tells, &mut found, &mut extra);
    }
    slide(&mut found, &mut extra, tells);
    let told: BTreeSet<usize> = extra
        .iter()
        .filter(|line| line.removed_by.is_some() && tells(line.token))
        .map(|l| l.stretch)
        .collect();
    for line in extra {
        match line.removed_by {
            // A bracket alone is back only with the line it belongs to.
            Some(who) if tells(line.token) || told.contains(&line.stretch) => {
                found.back.push(Back { who, at: line.at, token: line.token });
            }
            _ => found.fresh.push(Fresh { token: line.token, stretch: line.stretch }),
        }
    }
    found
}

/// A line too many.
#[derive(Debug, Clone, Copy)]
struct Extra {
    token: Token,
    stretch: usize,
    /// Where in what landed.
    at: usize,
    removed_by: Option<usize>,
}

/// One's version of a stretch.
struct Part<'a> {
    base: &'a [Token],
    tip: &'a [Token],
    tip_start: usize,
}

/// Cuts the file at the lines that all versions have, in runs that hold at least one line that cannot be mistaken.
fn stretches(versions: &[&[Token]], landed: &[Token], tells: &dyn Fn(Token) -> bool) -> Vec<Stretch> {
    let aligned: Vec<Vec<Option<usize>>> = versions.iter().map(|version| align(version, landed)).collect();
    let mut times = HashMap::<Token, u32>::new();
    for &token in landed {
        *times.entry(token).or_default() += 1;
    }
    let place = |at: usize| aligned.iter().map(|version| version[at]).collect::<Option<Vec<usize>>>();
    let mut stretches = Vec::new();
    let (mut start, mut starts) = (0, vec![0; versions.len()]);
    let mut at = 0;
    while at < landed.len() {
        let Some(first) = place(at) else {
            at += 1;
            continue;
        };
        let mut end = at + 1;
        while end < landed.len()
            && place(end).is_some_and(|next| next.iter().zip(&first).all(|(n, f)| *n == f + end - at))
        {
            end += 1;
        }
        if landed[at..end].iter().any(|token| times[token] == 1 && tells(*token)) {
            let cut = starts.iter().zip(&first).map(|(from, to)| *from..*to).collect();
            stretches.push(Stretch { landed: start..at, versions: cut });
            start = end;
            starts = first.iter().map(|first| first + end - at).collect();
        }
        at = end;
    }
    let rest = starts.iter().zip(versions).map(|(from, version)| *from..version.len()).collect();
    stretches.push(Stretch { landed: start..landed.len(), versions: rest });
    stretches
}

fn hunks(part: &Part<'_>) -> Vec<Hunk> {
    if part.base == part.tip {
        return Vec::new();
    }
    let ops = capture_diff_slices(Algorithm::Histogram, part.base, part.tip);
    let mut hunks = Vec::<Hunk>::new();
    for op in &ops {
        let (tag, old, new) = op.as_tag_tuple();
        match hunks.last_mut() {
            _ if tag == DiffTag::Equal => {}
            Some(last) if last.old.end == old.start && last.new.end == new.start => {
                (last.old.end, last.new.end) = (old.end, new.end);
            }
            _ => hunks.push(Hunk { old, new }),
        }
    }
    hunks
}

/// Whether `one` did nothing in `first` that `other` did not do in `second`, at the same place.
fn covers(first: (&Part<'_>, &Hunk), second: (&Part<'_>, &Hunk), tells: &dyn Fn(Token) -> bool) -> bool {
    let ((part, one), (wide, other)) = (first, second);
    let (less, more) = (&part.tip[one.new.clone()], &wide.tip[other.new.clone()]);
    if part.base != wide.base || one.old.start < other.old.start || one.old.end > other.old.end {
        return false;
    }
    if one.old == other.old && less == more {
        return true;
    }
    let mut rest = more.iter();
    less.iter().any(|token| tells(*token)) && less.iter().all(|token| rest.any(|other| other == token))
}

/// How many lines of each content one took away and put back, in this stretch: whether that is a move, or only how
/// the diff has it, the file has them as often as before.
fn carried(part: &Part<'_>, hunks: &[Hunk]) -> HashMap<Token, usize> {
    let mut gone = HashMap::<Token, usize>::new();
    for at in hunks.iter().flat_map(|hunk| hunk.old.clone()) {
        *gone.entry(part.base[at]).or_default() += 1;
    }
    let mut carried = HashMap::<Token, usize>::new();
    for at in hunks.iter().flat_map(|hunk| hunk.new.clone()) {
        if let Some(left) = gone.get_mut(&part.tip[at]).filter(|left| **left > 0) {
            *left -= 1;
            *carried.entry(part.tip[at]).or_default() += 1;
        }
    }
    carried
}

/// An added line.
struct Added {
    who: usize,
    at: usize,
    token: Token,
    there: bool,
}

/// Counts one stretch.
#[expect(clippy::too_many_lines, reason = "one account, from its items to its balance")]
fn weigh(
    parts: &[Part<'_>],
    landed: &[Token],
    (stretch, start): (usize, usize),
    tells: &dyn Fn(Token) -> bool,
    found: &mut Found,
    extra: &mut Vec<Extra>,
) {
    let all: Vec<Vec<Hunk>> = parts.iter().map(hunks).collect();
    let mut balance = BTreeMap::<Token, i64>::new();
    for token in parts[0].base {
        *balance.entry(*token).or_default() += 1;
    }
    let mut removed = BTreeMap::<&[Token], BTreeSet<usize>>::new();
    let mut removers = BTreeMap::<Token, Vec<usize>>::new();
    let (mut added, mut doubles) = (Vec::<Added>::new(), Vec::<(usize, usize, Token, usize)>::new());
    let mut there_of = Vec::new();
    for (who, (part, hunks)) in parts.iter().zip(&all).enumerate() {
        let mut there = vec![false; part.tip.len()];
        for at in align(part.tip, landed).into_iter().flatten() {
            there[at] = true;
        }
        let mut carried = carried(part, hunks);
        let mut brought = carried.clone();
        let carry = |carried: &mut HashMap<Token, usize>, token: Token| {
            carried.get_mut(&token).filter(|left| **left > 0).map(|left| *left -= 1).is_some()
        };
        for hunk in hunks {
            let (count_added, count_removed) = &mut found.counts[who];
            *count_added += hunk.new.len() as u64;
            *count_removed += hunk.old.len() as u64;
            for at in hunk.old.clone() {
                if carry(&mut carried, part.base[at]) {
                    continue;
                }
                if removed.entry(part.base).or_default().insert(at) {
                    *balance.entry(part.base[at]).or_default() -= 1;
                }
                removers.entry(part.base[at]).or_default().push(who);
            }
            let owner = all.iter().enumerate().find_map(|(other, theirs)| {
                let wider = |wide: &&Hunk| {
                    covers((part, hunk), (&parts[other], wide), tells)
                        && (other < who || !covers((&parts[other], wide), (part, hunk), tells))
                };
                (other != who).then(|| theirs.iter().find(wider)).flatten().map(|_| other)
            });
            for at in hunk.new.clone() {
                let token = part.tip[at];
                if carry(&mut brought, token) {
                    continue;
                }
                if let Some(owner) = owner {
                    doubles.push((who, part.tip_start + at, token, owner));
                } else {
                    *balance.entry(token).or_default() += 1;
                    added.push(Added { who, at: part.tip_start + at, token, there: there[at] });
                }
            }
        }
        there_of.push(there);
    }
    // What one added and another, whose base has it, removed.
    for (who, part) in parts.iter().enumerate().filter(|(who, _)| !all[*who].is_empty()) {
        for (other, on) in parts.iter().enumerate() {
            if other == who || on.base != part.tip {
                continue;
            }
            for hunk in &all[other] {
                let gone = hunk.old.start + part.tip_start..hunk.old.end + part.tip_start;
                added.retain(|line| {
                    let superseded = line.who == who && gone.contains(&line.at);
                    if superseded {
                        found.superseded.push((who, line.at, other));
                    }
                    !superseded
                });
            }
        }
    }
    for token in landed {
        *balance.entry(*token).or_default() -= 1;
    }
    // Whoever has least of what he added there lacks it first.
    let share = |who: usize| {
        let (there, all) = added
            .iter()
            .filter(|line| line.who == who)
            .fold((0_u64, 0_u64), |(t, n), line| (t + u64::from(line.there), n + 1));
        there * 1000 / all.max(1)
    };
    let mut order: Vec<usize> = (0..parts.len()).collect();
    order.sort_by_key(|who| (share(*who), std::cmp::Reverse(*who)));
    for (&token, &count) in balance.iter().filter(|(_, count)| **count > 0) {
        let mut short = usize::try_from(count).expect("it is positive");
        let mut lacking: Vec<&Added> = added.iter().filter(|line| line.token == token).collect();
        lacking.sort_by_key(|line| (line.there, order.iter().position(|who| *who == line.who)));
        for line in lacking.into_iter().take(short) {
            found.missing.push(Missing { who: line.who, at: line.at, token, stretch, added: true });
            for &(who, at, double, owner) in &doubles {
                let known = |m: &Missing| m.who == who && m.at == at;
                if owner == line.who && double == token && !found.missing.iter().any(known) {
                    found.missing.push(Missing { who, at, token, stretch, added: true });
                }
            }
            short -= 1;
        }
        // Not an added one: a line of everybody's base that nobody removed.
        for (who, part) in parts.iter().enumerate() {
            let mut own: Vec<usize> = (0..part.tip.len()).filter(|&at| part.tip[at] == token).collect();
            own.retain(|at| !added.iter().any(|line| line.who == who && line.at == part.tip_start + at));
            own.sort_by_key(|&at| there_of[who][at]);
            for at in own.into_iter().take(short) {
                let at = part.tip_start + at;
                found.missing.push(Missing { who, at, token, stretch, added: false });
                short -= 1;
            }
        }
    }
    let known: BTreeSet<usize> = parts
        .iter()
        .flat_map(|part| align(part.tip, landed).into_iter().enumerate())
        .filter_map(|(at, from)| from.map(|_| at))
        .collect();
    for (&token, &count) in balance.iter().filter(|(_, count)| **count < 0) {
        let mut places: Vec<usize> = (0..landed.len()).filter(|&at| landed[at] == token).collect();
        places.sort_by_key(|at| (known.contains(at), std::cmp::Reverse(*at)));
        let mut removers = removers.get(&token).cloned().unwrap_or_default().into_iter();
        for at in places.into_iter().take(usize::try_from(-count).expect("it is negative")) {
            extra.push(Extra { token, stretch, at: start + at, removed_by: removers.next() });
        }
    }
}

/// What is missing in one stretch and too much in another has slid over its edge, or was moved.
fn slide(found: &mut Found, extra: &mut Vec<Extra>, tells: &dyn Fn(Token) -> bool) {
    let mut moved = Vec::new();
    found.missing.retain(|line| {
        let near = extra
            .iter()
            .enumerate()
            .filter(|(_, other)| other.token == line.token)
            .min_by_key(|(_, other)| other.stretch.abs_diff(line.stretch))
            .map(|(at, _)| at);
        let Some(near) = near else { return true };
        extra.remove(near);
        if line.added && tells(line.token) {
            moved.push((line.who, line.at));
        }
        false
    });
    found.moved = moved;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// What two did to a base: before each of its lines and at the end what each inserted, and whether each deleted it.
    #[derive(Debug, Clone)]
    struct Edits {
        base: Vec<Token>,
        slots: Vec<[(Vec<Token>, bool); 2]>,
    }

    /// Blanks and brackets; they are everywhere.
    const DULL: Token = 4;

    fn edits() -> impl Strategy<Value = Edits> {
        let base = prop::collection::vec(prop_oneof![2 => 0..DULL, 3 => Just(DULL)], 0..30);
        let base = base.prop_map(|base| {
            let own = |(at, line)| if line < DULL { line } else { DULL + u32::try_from(at).unwrap() };
            base.into_iter().enumerate().map(own).collect::<Vec<Token>>()
        });
        base.prop_flat_map(|base| {
            let side = |tag: u32| {
                let line = prop_oneof![0..DULL, tag..tag + 6];
                let block = prop::collection::vec(line, 0..4).prop_map(move |mut rest| {
                    // Its own, so that the two never do the very same.
                    rest.insert(0, tag + 10);
                    rest
                });
                (prop_oneof![4 => Just(Vec::new()), 1 => block], prop::bool::weighted(0.15))
            };
            let slot = (side(100), side(200)).prop_map(|(a, b)| [a, b]);
            let slots = prop::collection::vec(slot, base.len() + 1);
            (Just(base), slots).prop_map(|(base, mut slots)| {
                for (line, [_, b]) in base.iter().zip(&mut slots) {
                    // If both delete brackets, nobody can say whether they are the same.
                    b.1 &= *line >= DULL;
                }
                Edits { base, slots }
            })
        })
    }

    impl Edits {
        /// The base with what `sides` did.
        fn with(&self, sides: &[usize]) -> Vec<Token> {
            let mut text = Vec::new();
            for (at, slot) in self.slots.iter().enumerate() {
                for &side in sides {
                    text.extend_from_slice(&slot[side].0);
                }
                if !sides.iter().any(|&side| slot[side].1) {
                    text.extend(self.base.get(at));
                }
            }
            text
        }

        fn compare(&self, landed: &[Token]) -> Found {
            let (a, b) = (self.with(&[0]), self.with(&[1]));
            let [target, a, b] = [&self.base, &a, &b].map(|tip| Change { base: &self.base, tip });
            compare(&[target, a, b], landed, &|token| token >= DULL)
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn whatever_line_is_dropped_is_missed_and_nothing_else(edits in edits()) {
            let whole = edits.with(&[0, 1]);
            let found = edits.compare(&whole);
            prop_assert!(found.missing.is_empty() && found.back.is_empty(), "{found:#?}");
            for at in 0..whole.len() {
                let mut less = whole.clone();
                let line = less.remove(at);
                let found = edits.compare(&less);
                prop_assert!(found.missing.iter().any(|m| m.token == line), "line {at}, {line}: {found:#?}");
            }
        }

        #[test]
        fn a_removed_line_that_comes_back_is_found(edits in edits()) {
            for at in (0..edits.base.len()).filter(|&at| edits.base[at] >= DULL) {
                let mut back = edits.clone();
                back.slots[at][0].1 = false;
                back.slots[at][1].1 = false;
                if edits.slots[at].iter().any(|side| side.1) {
                    let found = edits.compare(&back.with(&[0, 1]));
                    let line = edits.base[at];
                    prop_assert!(found.back.iter().any(|back| back.token == line), "line {at}: {found:#?}");
                }
            }
        }
    }
}

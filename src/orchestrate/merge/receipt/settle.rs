//! From lines that are missing or back to a receipt: where they went, or on whose word they are gone.

use super::anew::Anew;
use super::files::{Compared, Files, LeftOut, Lines, Why};
use super::lines::{Found, Token};
use super::{Case, Settled};
use crate::git::{path_text, text_path};
use crate::model::{Account, Brought, By, Fates, LineRange, Loss, Receipt, Side};
use bstr::ByteSlice;
use std::collections::{BTreeMap, HashMap};

/// How many losses a receipt lists.
const LISTED: usize = 200;

/// One line that is not there as it was brought: whose, of what file, where, how, and what took its place.
type Lost = (usize, usize, usize, u32, Brought, Option<By>);

/// Closes the accounts. All losses are listed.
pub(super) fn settle(case: &Case<'_>, files: Files) -> Receipt {
    let Files { lines, kept, mut compared, left_out } = files;
    let mut book = Book {
        case,
        lines: &lines,
        left_out,
        fates: kept.iter().map(|_| Default::default()).collect(),
        lost: Vec::new(),
    };
    for (fates, (added, removed)) in book.fates.iter_mut().zip(&kept) {
        fates.0.kept = *added;
        fates.1.kept = *removed;
    }
    for file in &compared {
        for (at, &who) in file.who.iter().enumerate() {
            let (added, removed) = file.found.counts[at];
            book.fates[who].0.kept += added;
            book.fates[who].1.kept += removed;
        }
    }
    elsewhere(&mut book, &mut compared);
    for (at, file) in compared.iter().enumerate() {
        book.close(at, file);
    }
    book.receipt(&compared)
}

/// Finds missing lines among those that nobody brought to another file: they were moved there.
fn elsewhere(book: &mut Book<'_>, compared: &mut [Compared]) {
    let mut pool = HashMap::<Token, Vec<usize>>::new();
    for (at, file) in compared.iter().enumerate() {
        for fresh in &file.found.fresh {
            pool.entry(fresh.token).or_default().push(at);
        }
    }
    for at in 0..compared.len() {
        let mut missing = std::mem::take(&mut compared[at].found.missing);
        missing.sort_by_key(|line| (line.who, line.at));
        let mut last = None::<(usize, usize, usize)>;
        let mut left = Vec::new();
        for line in missing {
            let places = pool.get(&line.token).filter(|_| !matches!(compared[at].why, Why::Git));
            // A bracket has moved only if the line before it went the same way.
            let follows = last.filter(|(who, before, _)| *who == line.who && before + 1 == line.at);
            let to = match (places, follows) {
                (Some(places), Some((_, _, to))) if places.contains(&to) => Some(to),
                (Some(places), _) if book.lines.tells(line.token) => {
                    places.iter().copied().find(|place| *place != at)
                }
                _ => None,
            };
            let Some(to) = to else {
                left.push(line);
                continue;
            };
            last = Some((line.who, line.at, to));
            if let Some(places) = pool.get_mut(&line.token)
                && let Some(place) = places.iter().position(|place| *place == to)
            {
                places.swap_remove(place);
            }
            let fresh = &mut compared[to].found.fresh;
            if let Some(place) = fresh.iter().position(|fresh| fresh.token == line.token) {
                fresh.swap_remove(place);
            }
            if line.added {
                let who = compared[at].who[line.who];
                book.moved(who);
            }
        }
        compared[at].found.missing = left;
    }
}

struct Book<'a> {
    case: &'a Case<'a>,
    lines: &'a Lines,
    /// What each answer left out and no loss was put down to it for yet, by its position in the case.
    left_out: Vec<Option<LeftOut>>,
    /// Added and removed, of each who brings; the target first.
    fates: Vec<(Fates, Fates)>,
    lost: Vec<Lost>,
}

impl Book<'_> {
    fn moved(&mut self, who: usize) {
        let added = &mut self.fates[who].0;
        added.kept = added.kept.saturating_sub(1);
        added.moved += 1;
    }

    fn lose(&mut self, who: usize, file: usize, place: (usize, u32), change: Brought, by: Option<By>) {
        let (added, removed) = &mut self.fates[who];
        let fates = if change == Brought::Added { added } else { removed };
        fates.kept = fates.kept.saturating_sub(1);
        *if by.is_some() { &mut fates.superseded } else { &mut fates.dropped } += 1;
        self.lost.push((who, file, place.0, place.1, change, by));
    }

    fn close(&mut self, at: usize, file: &Compared) {
        let found = &file.found;
        for &(one, _) in &found.moved {
            self.moved(file.who[one]);
        }
        for &(one, place, other) in &found.superseded {
            let by = self.agent(file.who[other]);
            self.lose(file.who[one], at, file.tips[one].places[place], Brought::Added, Some(by));
        }
        let mut excuses = Excuses::new(self.case, file);
        let mut anew = Anew::new(self.lines, found);
        for line in &found.missing {
            let who = file.who[line.who];
            let place = file.tips[line.who].places[line.at];
            let by = match &file.why {
                Why::Git if file.landed.tokens.contains(&line.token) || !line.added => continue,
                Why::Git => Some(self.overtaken(file, who)),
                _ if anew.covers(line) => {
                    Some(excuses.anyone(line.token, &mut self.left_out).unwrap_or(By::Rewritten))
                }
                _ => excuses.find(who, (line.who, line.token), Brought::Added, &mut self.left_out),
            };
            if !line.added {
                // One of before everybody: it is in no account yet.
                self.fates[who].0.kept += 1;
            }
            self.lose(who, at, place, Brought::Added, by);
        }
        for line in found.back.iter().filter(|_| !matches!(file.why, Why::Git)) {
            let who = file.who[line.who];
            let by = excuses.find(who, (line.who, line.token), Brought::Removed, &mut self.left_out);
            self.lose(who, at, file.landed.places[line.at], Brought::Removed, by);
        }
    }

    /// The one who was merged last into a file that git merged by itself.
    fn overtaken(&self, file: &Compared, who: usize) -> By {
        let last = file.who.iter().rev().find(|other| **other != who && **other > 0);
        last.map_or(By::Git, |other| self.agent(*other))
    }

    fn agent(&self, who: usize) -> By {
        let agent = who.checked_sub(1).and_then(|at| self.case.brings[at].agent.clone());
        agent.map_or(By::Git, |(id, name)| By::Agent { id, name })
    }

    fn receipt(mut self, compared: &[Compared]) -> Receipt {
        let mut receipt = Receipt::default();
        for (one, (added, removed)) in self.case.brings.iter().zip(&self.fates[1..]) {
            let agent = one.agent.as_ref().map(|(id, _)| *id);
            receipt.accounts.push(Account {
                agent,
                name: one.name.clone(),
                added: *added,
                removed: *removed,
            });
        }
        let (added, removed) = self.fates[0];
        if added.superseded + added.dropped + removed.superseded + removed.dropped > 0 {
            receipt.accounts.push(Account { agent: None, name: self.case.target.to_owned(), added, removed });
        }
        self.lost.sort_by(|a, b| (a.0, a.1, a.2, a.4, &a.5, a.3).cmp(&(b.0, b.1, b.2, b.4, &b.5, b.3)));
        let mut losses = Vec::<Loss>::new();
        for (who, file, path, line, change, by) in self.lost {
            let name = who.checked_sub(1).map_or(self.case.target, |at| &self.case.brings[at].name);
            let path = path_text(compared[file].paths[path].as_bstr());
            let len = u32::from(line > 0);
            match losses.last_mut() {
                Some(last)
                    if (&last.name[..], &last.path, last.change, &last.by) == (name, &path, change, &by)
                        && line > 0
                        && last.lines.start + last.lines.len == line =>
                {
                    last.lines.len += 1;
                }
                _ => losses.push(Loss {
                    name: name.to_owned(),
                    path,
                    lines: LineRange { start: line, len },
                    change,
                    by,
                    inside: None,
                }),
            }
        }
        losses.sort_by_key(|loss| loss.by.is_some());
        receipt.losses = losses;
        receipt
    }
}

/// Lists no more losses than a record has room for; the others are counted.
pub(super) fn list_few(receipt: &mut Receipt) {
    let more = u32::try_from(receipt.losses.len().saturating_sub(LISTED)).unwrap_or(u32::MAX);
    receipt.unlisted = receipt.unlisted.saturating_add(more);
    receipt.losses.truncate(LISTED);
}

/// What the recorded answers say about a file.
struct Excuses<'a> {
    /// Each with its position in the case.
    settled: Vec<(usize, &'a Settled)>,
    /// What their own result lacks, where what landed is another: no more than that is their doing.
    limit: Option<BTreeMap<(usize, Token, Brought), usize>>,
}

impl<'a> Excuses<'a> {
    fn new(case: &'a Case<'_>, file: &Compared) -> Self {
        let about =
            |(_, settled): &(usize, &Settled)| file.paths.contains(&text_path(&settled.resolution.path));
        let settled = case.settled.iter().enumerate().filter(about).collect();
        let limit = match &file.why {
            Why::Unknown(Some(expected)) => Some(limit(expected)),
            Why::Unknown(None) => Some(BTreeMap::new()),
            _ => None,
        };
        Self { settled, limit }
    }

    /// The decision about the file that took a line away which somebody wrote anew, if one did. What an agent wrote
    /// anew nobody decided.
    fn anyone(&self, token: Token, left_out: &mut [Option<LeftOut>]) -> Option<By> {
        let decided =
            self.settled.iter().filter(|(_, settled)| settled.resolution.side != Side::Agent).copied();
        let decided: Vec<_> = decided.filter(|(_, settled)| settled.resolution.decision.is_some()).collect();
        let id = whose(&decided, (token, Brought::Added), left_out)?.resolution.decision?;
        Some(By::Decision { id })
    }

    /// The decision that left a line of `who` out.
    fn find(
        &mut self,
        who: usize,
        line: (usize, Token),
        change: Brought,
        left_out: &mut [Option<LeftOut>],
    ) -> Option<By> {
        let says = |settled: &Settled| match settled.resolution.side {
            Side::Ours => settled.who + 1 == who,
            Side::Theirs => who <= settled.who,
            Side::Union | Side::Places | Side::Edited | Side::Remembered | Side::Rule => {
                who <= settled.who + 1
            }
            Side::Agent => false,
        };
        let could: Vec<_> = self.settled.iter().filter(|(_, settled)| says(settled)).copied().collect();
        if could.is_empty() {
            return None;
        }
        if let Some(limit) = &mut self.limit {
            let left = limit.get_mut(&(line.0, line.1, change)).filter(|left| **left > 0)?;
            *left -= 1;
        }
        let id = whose(&could, (line.1, change), left_out)?.resolution.decision?;
        Some(By::Decision { id })
    }
}

/// Of answers that may have left a line out the one that did, and once more than it was told of; else one of which
/// nobody knows what it left out; else the first.
fn whose<'a>(
    answers: &[(usize, &'a Settled)],
    line: (Token, Brought),
    left_out: &mut [Option<LeftOut>],
) -> Option<&'a Settled> {
    for (at, settled) in answers {
        let left = left_out[*at].as_mut().and_then(|lines| lines.get_mut(&line)).filter(|left| **left > 0);
        if let Some(left) = left {
            *left -= 1;
            return Some(settled);
        }
    }
    let unknown = answers.iter().find(|(at, _)| left_out[*at].is_none());
    unknown.or(answers.first()).map(|(_, settled)| *settled)
}

fn limit(expected: &Found) -> BTreeMap<(usize, Token, Brought), usize> {
    let mut limit = BTreeMap::new();
    for line in &expected.missing {
        *limit.entry((line.who, line.token, Brought::Added)).or_default() += 1;
    }
    for line in &expected.back {
        *limit.entry((line.who, line.token, Brought::Removed)).or_default() += 1;
    }
    limit
}

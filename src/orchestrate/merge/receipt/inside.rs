//! Merges that branches bring with them: what an agent left out of the target, or of another agent's work, when it merged
//! that by itself.
//!
//! Seen from the target such a branch only took lines away, as if it had meant to. Each merge commit in it that has a
//! commit of the target, or of another branch of the same merge, among its parents is judged by itself, as one that was
//! made by hand. What it dropped is told if it is so in the end: whoever brought the lines wants them still, and nobody put
//! them back, counted beside what all others did to the file since.

use super::files::{Content, Lines};
use super::lines::{Change, Token, compare};
use super::{Brings, Case, bases, judge_all};
use crate::git::{Repository, path_text, text_path};
use crate::model::{Account, Brought, By, Fates, LineRange, Loss, ObjectId, Receipt};
use crate::orchestrate::merge::Error;
use crate::orchestrate::merge::align::align;
use bstr::BString;
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// Adds to a receipt what the merges in these branches dropped of the target and of one another, and nothing brought
/// back since. It lists all losses.
pub(super) fn add(repo: &Repository, case: &Case<'_>, receipt: &mut Receipt) -> Result<(), Error> {
    let spoiled = spoiled(repo, case)?;
    let (mut lines, mut known, mut dropped) = (Lines::default(), BTreeSet::new(), Vec::<Loss>::new());
    for files in spoiled.chunk_by(|one, next| one.merge() == next.merge()) {
        let Some(around) = Around::of(repo, case, &files[0])? else { continue };
        for one in files {
            // Those that another branch spoiled in the same way took nothing away on purpose.
            let is_alike = |two: &&Spoiled| {
                two.merge() != one.merge()
                    && (&two.path, two.change, &two.of.name) == (&one.path, one.change, &one.of.name)
            };
            let alike: Vec<&Spoiled> = spoiled.iter().filter(is_alike).collect();
            for line in still_lost(repo, case, &mut lines, one, (&around, &alike))? {
                let is_new = known.insert((&one.of.name, one.change, line.path.clone(), line.key));
                if is_new && !is_told(receipt, &one.of, one.change, &line) {
                    one.list(line, &mut dropped);
                }
            }
        }
    }
    receipt.losses.splice(0..0, dropped);
    Ok(())
}

/// What one merge in a branch did to lines of one file that another brought.
struct Spoiled {
    /// The merge, its tree, and the commit of the other that it merged.
    commit: ObjectId,
    tree: ObjectId,
    merged: ObjectId,
    /// Whose lines they are, at his tip.
    of: Brings,
    path: String,
    /// Whether he added them and they are gone, or removed them and they are back.
    change: Brought,
    /// Where they are in the file: that of `merged` if they are gone, that of `tree` if they are back.
    lines: Vec<LineRange>,
}

impl Spoiled {
    /// The merge, and what it merged.
    fn merge(&self) -> (&ObjectId, &ObjectId) {
        (&self.commit, &self.merged)
    }

    /// Adds a line to what is lost.
    fn list(&self, line: LostLine, losses: &mut Vec<Loss>) {
        match losses.last_mut() {
            Some(last)
                if last.inside.as_ref() == Some(&self.commit)
                    && (&last.name, &last.path, last.change) == (&self.of.name, &line.path, self.change)
                    && line.number > 0
                    && last.lines.start + last.lines.len == line.number =>
            {
                last.lines.len += 1;
            }
            _ => losses.push(Loss {
                name: self.of.name.clone(),
                path: line.path,
                lines: LineRange { start: line.number, len: u32::from(line.number > 0) },
                change: self.change,
                by: None,
                inside: Some(self.commit.clone()),
            }),
        }
    }
}

/// A line that is lost in the end.
struct LostLine {
    /// Where it is at the tip of whose it is, or, of one that is back, in what landed.
    path: String,
    number: u32,
    /// The same for the same line, whichever merge lost it.
    key: (Token, Option<usize>, u32),
}

/// What the merges in the branches dropped, by merge, owner, file and direction.
fn spoiled(repo: &Repository, case: &Case<'_>) -> Result<Vec<Spoiled>, Error> {
    let tips: Vec<&ObjectId> = case.brings.iter().map(|one| &one.tip).collect();
    let mut all = Vec::<Spoiled>::new();
    for (commit, parents) in repo.merges_between(case.before, &tips)? {
        let (mut others, mut own) = (Vec::new(), Vec::new());
        for parent in parents {
            match whose(repo, case, &commit, &parent)? {
                Some(other) => others.push((other, parent)),
                None => own.push(parent),
            }
        }
        let tree = repo.read_commit(&commit)?.tree;
        let mut others = others.into_iter();
        // One that only brings others together drops something of one beside another.
        let Some(before) = own.first().cloned().or_else(|| others.next().map(|(_, parent)| parent)) else {
            continue;
        };
        for (of, merged) in others {
            let brings = [Brings { tip: merged.clone(), ..of.clone() }];
            let inner =
                Case { target: "its own", before: &before, brings: &brings, landed: &tree, settled: &[] };
            let losses = judge_all(repo, &inner)?.losses;
            let mut by_file = BTreeMap::<(String, Brought), Vec<LineRange>>::new();
            for loss in losses.into_iter().filter(|loss| loss.by.is_none() && loss.name == of.name) {
                by_file.entry((loss.path, loss.change)).or_default().push(loss.lines);
            }
            all.extend(by_file.into_iter().map(|((path, change), lines)| Spoiled {
                commit: commit.clone(),
                tree: tree.clone(),
                merged: merged.clone(),
                of: of.clone(),
                path,
                change,
                lines,
            }));
        }
    }
    Ok(all)
}

/// Whose a parent of a merge commit in a branch is, if not the branch's own: the target's, or another branch's that does
/// not build on that merge.
fn whose(
    repo: &Repository,
    case: &Case<'_>,
    commit: &ObjectId,
    parent: &ObjectId,
) -> Result<Option<Brings>, Error> {
    if repo.is_ancestor(parent, case.before)? {
        return Ok(Some(target(case)));
    }
    for one in case.brings {
        if repo.is_ancestor(parent, &one.tip)? && !repo.is_ancestor(commit, &one.tip)? {
            return Ok(Some(one.clone()));
        }
    }
    Ok(None)
}

/// The target as one of those who bring something.
fn target(case: &Case<'_>) -> Brings {
    Brings { agent: None, name: case.target.to_owned(), tip: case.before.clone() }
}

/// A file as a merge left it, and as it would be had nothing been dropped there, or brought back.
struct Mended {
    spoiled: Vec<Token>,
    whole: Vec<Token>,
    /// The version that was merged.
    merged: Content,
    /// Of each line of `whole` which of `merged` it is, if it was put back.
    from: Vec<Option<usize>>,
}

/// What everybody did since a merge in a branch.
struct Around {
    /// The tip of a branch that has the merge.
    holder: ObjectId,
    /// All others, the target first.
    rest: Vec<Brings>,
    /// What the branch changed since the merge, and each other since it left that branch.
    trees: Vec<(ObjectId, ObjectId)>,
    /// The tree of whose lines it dropped, at his tip.
    wanted: ObjectId,
    renamed: Vec<[BString; 2]>,
}

impl Around {
    fn of(repo: &Repository, case: &Case<'_>, one: &Spoiled) -> Result<Option<Self>, Error> {
        let mut rest = vec![target(case)];
        let mut holder = None;
        for brings in case.brings {
            if holder.is_none() && repo.is_ancestor(&one.commit, &brings.tip)? {
                holder = Some(brings.tip.clone());
            } else {
                rest.push(brings.clone());
            }
        }
        let Some(holder) = holder else { return Ok(None) };
        let (_, bases) = bases::bases(repo, &holder, &rest)?;
        let mut trees = vec![(one.tree.clone(), repo.read_commit(&holder)?.tree)];
        for (brings, base) in rest.iter().zip(bases) {
            trees.push((base, repo.read_commit(&brings.tip)?.tree));
        }
        let wanted = repo.read_commit(&one.of.tip)?.tree;
        let merged = repo.read_commit(&one.merged)?.tree;
        let more = [(one.tree.clone(), case.landed.clone()), (merged, wanted.clone())];
        let changes = repo.paths_between(&[&trees[..], &more].concat())?.into_iter().flatten();
        let renamed = changes.filter_map(|change| Some([change.old_path?, change.path])).collect();
        Ok(Some(Self { holder, rest, trees, wanted, renamed }))
    }

    /// The paths that a file has in any of these versions, followed through renames.
    fn known_as(&self, path: &str) -> Vec<BString> {
        let mut known = BTreeSet::from([text_path(path)]);
        loop {
            let before = known.len();
            for [old, new] in &self.renamed {
                if known.contains(old) || known.contains(new) {
                    known.extend([old.clone(), new.clone()]);
                }
            }
            if known.len() == before {
                return known.into_iter().collect();
            }
        }
    }
}

/// The lines of a spoiled file that are lost in the end, after all that was done `around` the merge. `alike` are other
/// merges that lost lines of the same file.
fn still_lost(
    repo: &Repository,
    case: &Case<'_>,
    lines: &mut Lines,
    one: &Spoiled,
    (around, alike): (&Around, &[&Spoiled]),
) -> Result<Vec<LostLine>, Error> {
    let Around { holder, rest, trees, wanted: wanted_tree, .. } = around;
    let paths = around.known_as(&one.path);
    let mended = mend(repo, lines, one, &paths)?;
    let mut versions = vec![(mended.spoiled.clone(), mended.whole.clone())];
    for (at, (base, tip)) in trees.iter().enumerate() {
        let (base, mut tip) = (lines.read(repo, base, &paths)?.tokens, lines.read(repo, tip, &paths)?.tokens);
        if let Some(brings) = at.checked_sub(1).map(|at| &rest[at]) {
            for other in alike {
                if repo.is_ancestor(&other.commit, &brings.tip)?
                    && !repo.is_ancestor(&other.commit, holder)?
                {
                    let other = mend(repo, lines, other, &paths)?;
                    tip = other.make_good(lines, &tip);
                }
            }
        }
        versions.push((base, tip));
    }
    let changes: Vec<Change<'_>> = versions.iter().map(|(base, tip)| Change { base, tip }).collect();
    let landed = lines.read(repo, case.landed, &paths)?;
    let found = compare(&changes, &landed.tokens, &|token| lines.tells(token));
    let wanted = lines.read(repo, wanted_tree, &paths)?;
    let (before, after) = (counts(&mended.merged.tokens), counts(&wanted.tokens));
    // What its owner took away, or put back, himself.
    let mut own = HashMap::<Token, usize>::new();
    let by_owner = |token: Token| {
        let [before, after] = [&before, &after].map(|all| all.get(&token).copied().unwrap_or(0));
        if one.change == Brought::Added { before.saturating_sub(after) } else { after.saturating_sub(before) }
    };
    let mut did_himself = |token: Token| {
        let left = own.entry(token).or_insert_with(|| by_owner(token));
        let did = *left > 0;
        *left = left.saturating_sub(1);
        did
    };
    let mut lost = Vec::new();
    let said = |(path, number): (usize, u32)| (path_text(paths[path].as_ref()), number);
    if one.change == Brought::Removed {
        for line in found.back.iter().filter(|line| line.who == 0) {
            if !did_himself(line.token) {
                let (path, number) = said(landed.places[line.at]);
                lost.push(LostLine { path, number, key: (line.token, Some(line.at), 0) });
            }
        }
        return Ok(lost);
    }
    let mut kept = vec![None; mended.merged.tokens.len()];
    for (at, from) in align(&mended.merged.tokens, &wanted.tokens).into_iter().enumerate() {
        if let Some(from) = from {
            kept[from] = Some(at);
        }
    }
    for line in found.missing.iter().filter(|line| line.who == 0 && line.added) {
        let Some(from) = mended.from[line.at] else { continue };
        let place = match kept[from] {
            Some(at) => wanted.places[at],
            None if did_himself(line.token) => continue,
            None => mended.merged.places[from],
        };
        let (path, number) = said(place);
        let key = (line.token, kept[from], if kept[from].is_some() { 0 } else { number });
        lost.push(LostLine { path, number, key });
    }
    lost.sort_by(|a, b| (&a.path, a.number).cmp(&(&b.path, b.number)));
    Ok(lost)
}

/// Takes back what a merge did to a file.
fn mend(repo: &Repository, lines: &mut Lines, one: &Spoiled, paths: &[BString]) -> Result<Mended, Error> {
    let spoiled = lines.read(repo, &one.tree, paths)?;
    let merged = lines.read(repo, &repo.read_commit(&one.merged)?.tree, paths)?;
    let own = text_path(&one.path);
    // What has no lines is told as a file as a whole; what the other version has of that is not meant.
    let find = |content: &Content, other: &Content| -> BTreeSet<usize> {
        let is_meant = |at: &usize| {
            let (path, number) = content.places[*at];
            let is_said = |range: &LineRange| match range.start {
                0 => number == 0 && !other.tokens.contains(&content.tokens[*at]),
                start => (start..start + range.len).contains(&number),
            };
            paths[path] == own && one.lines.iter().any(is_said)
        };
        (0..content.tokens.len()).filter(is_meant).collect()
    };
    let (whole, from) = if one.change == Brought::Added {
        put_back(&spoiled.tokens, &merged.tokens, &find(&merged, &spoiled))
    } else {
        let back = find(&spoiled, &merged);
        let whole = (0..spoiled.tokens.len()).filter(|at| !back.contains(at)).map(|at| spoiled.tokens[at]);
        let whole: Vec<Token> = whole.collect();
        let from = vec![None; whole.len()];
        (whole, from)
    };
    Ok(Mended { spoiled: spoiled.tokens, whole, merged, from })
}

impl Mended {
    /// A later version, with what it still lacks for this merge, and without what it still has.
    fn make_good(&self, lines: &Lines, later: &[Token]) -> Vec<Token> {
        let changes = [&self.whole[..], later].map(|tip| Change { base: &self.spoiled, tip });
        let found = compare(&changes, later, &|token| lines.tells(token));
        let back: BTreeSet<usize> =
            found.back.iter().filter(|line| line.who == 0).map(|line| line.at).collect();
        let kept = (0..later.len()).filter(|at| !back.contains(at)).map(|at| later[at]);
        let missing = found.missing.iter().filter(|line| line.who == 0 && line.added).map(|line| line.at);
        put_back(&kept.collect::<Vec<_>>(), &self.whole, &missing.collect()).0
    }
}

/// A version with these lines of another, each before what follows it there; and which line each of them was.
fn put_back(version: &[Token], other: &[Token], lines: &BTreeSet<usize>) -> (Vec<Token>, Vec<Option<usize>>) {
    let (mut whole, mut from) = (Vec::new(), Vec::new());
    let mut rest = lines.iter().copied().peekable();
    for (&token, here) in version.iter().zip(align(other, version)) {
        while let Some(line) = here.and_then(|here| rest.next_if(|line| *line < here)) {
            whole.push(other[line]);
            from.push(Some(line));
        }
        whole.push(token);
        from.push(None);
    }
    for line in rest {
        whole.push(other[line]);
        from.push(Some(line));
    }
    (whole, from)
}

fn counts(version: &[Token]) -> HashMap<Token, usize> {
    let mut counts = HashMap::new();
    for token in version {
        *counts.entry(*token).or_default() += 1;
    }
    counts
}

/// Whether a receipt says of a lost line what became of it. Otherwise it is counted as dropped now: of one that another's
/// branch seemed to build on that is taken back.
fn is_told(receipt: &mut Receipt, of: &Brings, change: Brought, line: &LostLine) -> bool {
    let told = receipt.losses.iter().position(|loss| {
        let LineRange { start, len } = loss.lines;
        (&loss.name, &loss.path, loss.change) == (&of.name, &line.path, change)
            && (start == line.number || (start..start + len).contains(&line.number))
    });
    match told.map(|at| &receipt.losses[at].by) {
        Some(Some(By::Agent { .. })) | None => {}
        Some(_) => return true,
    }
    let fates = fates(receipt, of, change);
    let was = if told.is_some() { &mut fates.superseded } else { &mut fates.kept };
    *was = was.saturating_sub(1);
    fates.dropped += 1;
    if let Some(at) = told {
        let loss = receipt.losses.remove(at);
        let LineRange { start, len } = loss.lines;
        let parts =
            [(start, line.number - start), (line.number + 1, len.saturating_sub(line.number + 1 - start))];
        let parts = parts.into_iter().filter(|(_, len)| *len > 0);
        let parts = parts.map(|(start, len)| Loss { lines: LineRange { start, len }, ..loss.clone() });
        receipt.losses.splice(at..at, parts.collect::<Vec<_>>());
    }
    false
}

/// What became of the lines of whoever lost some: of the target's there may be no account yet.
fn fates<'a>(receipt: &'a mut Receipt, of: &Brings, change: Brought) -> &'a mut Fates {
    let agent = of.agent.as_ref().map(|(id, _)| *id);
    let is_its = |account: &Account| account.agent == agent && account.name == of.name;
    let at = receipt.accounts.iter().position(is_its).unwrap_or_else(|| {
        receipt.accounts.push(Account { agent, name: of.name.clone(), ..Account::default() });
        receipt.accounts.len() - 1
    });
    let account = &mut receipt.accounts[at];
    if change == Brought::Added { &mut account.added } else { &mut account.removed }
}

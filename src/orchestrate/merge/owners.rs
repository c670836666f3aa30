//! Whose lines a conflict is about: of what has landed who brought each line, and who removed each of before.
//!
//! A file is followed from the version before both sides through everything that landed, one after the other. Nobody's
//! record is asked: only trees.

use super::Error;
use super::align::align;
use super::conflict::Part;
use crate::git::{Repository, text_path};
use crate::model::{Conflict, ObjectId, Step};
use bstr::ByteSlice;
use std::collections::HashSet;

/// Who landed, by position: nobody's own is the target's, at 0.
pub(super) const TARGET: usize = 0;

/// The lines of one place, each with who brought it, or removed it, by position. None: nobody that is known of.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Owned {
    /// The lines that have landed.
    pub brought: Vec<Option<usize>>,
    /// The lines before both sides.
    pub removed: Vec<Option<usize>>,
}

/// The trees that the target had, one after the other, each with who made it so: a position among those who landed
/// counted from 1, or [`TARGET`].
pub(super) fn course(
    repo: &Repository,
    head: &ObjectId,
    landed: &[&Step],
) -> Result<Vec<(usize, ObjectId)>, Error> {
    let mut course = Vec::new();
    for (at, commit) in landed.iter().enumerate().filter_map(|(at, step)| Some((at, step.commit.as_ref()?))) {
        // What a clone lacks of what landed before is told as the target's.
        let Some(commit) = repo.find_commit(commit)? else { continue };
        if let Some(parent) = commit.parents.first().map(|id| repo.find_commit(id)).transpose()?.flatten() {
            course.push((TARGET, parent.tree));
        }
        course.push((at + 1, commit.tree));
    }
    course.push((TARGET, repo.read_commit(head)?.tree));
    Ok(course)
}

/// Who brought and removed the lines of a conflict: of each of its places, or of the file as a whole without `parts`.
/// `None` if one version is no text, or if what has landed is known by another name.
pub(super) fn owned(
    repo: &Repository,
    course: &[(usize, ObjectId)],
    conflict: &Conflict,
    parts: Option<&[Part]>,
) -> Result<Option<Vec<Owned>>, Error> {
    let mut texts = Vec::new();
    for side in [&conflict.base, &conflict.ours] {
        let text = match side {
            None => Vec::new(),
            Some((mode, id)) if crate::git::EntryMode::from_octal(*mode).is_file() => repo.read_blob(id)?,
            Some(_) => return Ok(None),
        };
        if text.contains(&0) {
            return Ok(None);
        }
        texts.push(text);
    }
    let (base, path) = (lines(&texts[0]), text_path(&conflict.path));
    let mut followed = Followed::new(&base);
    let mut last = None::<ObjectId>;
    let mut versions = Vec::new();
    for (who, tree) in course {
        let entry = repo.find_in_tree(tree, &path)?.filter(|entry| entry.mode.is_file());
        match entry {
            Some(entry) if last.as_ref() != Some(&entry.id) => {
                versions.push((*who, repo.read_blob(&entry.id)?));
                last = Some(entry.id);
            }
            None if last.take().is_some() => versions.push((*who, Vec::new())),
            // Where it was never there it had another name, or is new.
            _ => {}
        }
    }
    if versions.is_empty() && conflict.ours.is_none() {
        versions.push((TARGET, Vec::new()));
    }
    for (who, text) in &versions {
        followed.on(lines(text), *who);
    }
    let end = lines(&texts[1]);
    if followed.lines != end {
        return Ok(None);
    }
    let Followed { brought, removed, .. } = followed;
    let Some(parts) = parts else { return Ok(Some(vec![Owned { brought, removed }])) };
    let landed = placed(parts, &end, &brought, |part| match part {
        Part::Common(lines) | Part::Clash { ours: lines, .. } => lines,
    });
    let before = placed(parts, &base, &removed, |part| match part {
        Part::Common(lines) | Part::Clash { base: lines, .. } => lines,
    });
    Ok(Some(landed.into_iter().zip(before).map(|(brought, removed)| Owned { brought, removed }).collect()))
}

fn lines(text: &[u8]) -> Vec<&[u8]> {
    text.lines_with_terminator().collect()
}

/// A file on its way from version to version.
struct Followed<'a> {
    lines: Vec<&'a [u8]>,
    /// Of each line who brought it, and which of the first version's it is.
    brought: Vec<Option<usize>>,
    first: Vec<Option<usize>>,
    /// Of each line of the first version who removed it.
    removed: Vec<Option<usize>>,
}

impl<'a> Followed<'a> {
    fn new(base: &[&'a [u8]]) -> Self {
        Self {
            lines: base.to_vec(),
            brought: vec![None; base.len()],
            first: (0..base.len()).map(Some).collect(),
            removed: vec![None; base.len()],
        }
    }

    /// The next version, and who made it.
    fn on(&mut self, lines: Vec<&'a [u8]>, who: usize) {
        let aligned = align(&self.lines, &lines);
        let brought = aligned.iter().map(|from| from.map_or(Some(who), |from| self.brought[from])).collect();
        let first: Vec<_> = aligned.iter().map(|from| from.and_then(|from| self.first[from])).collect();
        let left: HashSet<usize> = first.iter().flatten().copied().collect();
        for gone in self.first.iter().flatten().filter(|line| !left.contains(line)) {
            self.removed[*gone] = Some(who);
        }
        (self.lines, self.brought, self.first) = (lines, brought, first);
    }
}

/// Of the lines of each clash who they are of: `of` says so of all lines of a version, which `side` has in each part.
fn placed(
    parts: &[Part],
    version: &[&[u8]],
    of: &[Option<usize>],
    side: impl Fn(&Part) -> &Vec<u8>,
) -> Vec<Vec<Option<usize>>> {
    let all: Vec<Vec<&[u8]>> = parts.iter().map(|part| lines(side(part))).collect();
    let aligned = align(version, &all.concat());
    let (mut at, mut places) = (0, Vec::new());
    for (part, lines) in parts.iter().zip(&all) {
        if matches!(part, Part::Clash { .. }) {
            let here = &aligned[at..at + lines.len()];
            places.push(here.iter().map(|line| line.and_then(|line| of[line])).collect());
        }
        at += lines.len();
    }
    places
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_followed_from_version_to_version() {
        let base = lines(b"1\n2\n3\n4\n");
        let mut followed = Followed::new(&base);
        followed.on(lines(b"1\nblue\n3\n4\n"), 1);
        followed.on(lines(b"blue\n3\n4\ngrey\n"), 2);
        assert_eq!(followed.brought, [Some(1), None, None, Some(2)]);
        assert_eq!(followed.removed, [Some(2), Some(1), None, None]);
    }

    #[test]
    fn each_clash_has_the_owners_of_its_own_lines() {
        let clash = |ours: &str| Part::Clash { ours: ours.into(), base: b"x\n".to_vec(), theirs: Vec::new() };
        let parts = [clash("a\n"), Part::Common(b"mid\nnew\n".to_vec()), clash("a\nb\n")];
        let version = lines(b"a\nmid\na\nb\n");
        let of = [Some(1), None, Some(2), Some(3)];
        let places = placed(&parts, &version, &of, |part| match part {
            Part::Common(lines) | Part::Clash { ours: lines, .. } => lines,
        });
        assert_eq!(places, [vec![Some(1)], vec![Some(2), Some(3)]]);
    }
}

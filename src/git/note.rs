//! Notes: lines attached to commits, written through our own compare-and-swap.
//!
//! Never `git notes append`: 279 of 320 concurrent acknowledged appends were lost with it.

use super::{EntryMode, Error, Identity, NewCommit, Repository, TreeEdit, TreeEntry};
use crate::model::{ObjectId, Timestamp};
use bstr::ByteSlice;
use std::collections::BTreeMap;

/// Lines to be added to the note of one commit; lines that are there already are not added again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteEdit {
    /// The notes ref, a full name.
    pub notes_ref: String,
    /// The commit that the note speaks of.
    pub commit: ObjectId,
    /// One line, without its end.
    pub line: String,
}

/// What becomes of one commit's note.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NoteLines {
    /// Lines that are added unless they are there.
    pub added: Vec<String>,
    /// Lines that are taken out. Where notes are united with those of a machine that has them, they come back.
    pub removed: Vec<String>,
}

/// How large a note, and a directory of notes, of somebody else may be to be taken in: notes are lines about one
/// commit each.
const MAX_NOTE: u64 = 1 << 20;
const MAX_DIRECTORY: u64 = 16 << 20;
/// How large one may be when it is written: what two machines wrote at once must have room in one.
const MAX_WRITTEN: u64 = MAX_NOTE / 2;

impl Repository {
    /// The note of a commit under `notes_ref`; `None` if it has none.
    pub fn find_note(&self, notes_ref: &str, commit: &ObjectId) -> Result<Option<String>, Error> {
        let Some(tip) = self.find_ref(notes_ref)? else { return Ok(None) };
        let tree = self.read_commit(&tip)?.tree;
        Ok(self.note_at(&tree, commit)?.map(|(_, text)| text))
    }

    /// Changes lines of notes in a new commit on top of `tip`. Returns the commit, and every object that was written.
    pub fn write_notes(
        &self,
        tip: Option<&ObjectId>,
        lines: &BTreeMap<ObjectId, NoteLines>,
        author: &Identity,
        committer: &Identity,
        at: Timestamp,
    ) -> Result<(ObjectId, Vec<ObjectId>), Error> {
        let tree = tip.map(|tip| self.read_commit(tip)).transpose()?.map(|commit| commit.tree);
        let mut edits = Vec::<TreeEdit>::new();
        let mut written = Vec::new();
        for (commit, NoteLines { added, removed }) in lines {
            let old = tree.as_ref().map(|tree| self.note_at(tree, commit)).transpose()?.flatten();
            let path = fan_out(commit);
            let mut text = String::new();
            if let Some((old_path, old_text)) = old {
                text = old_text;
                if old_path != path {
                    edits.push((old_path, None));
                }
            }
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
            for line in added {
                if !text.lines().any(|present| present == line) {
                    text.push_str(line);
                    text.push('\n');
                }
            }
            if !removed.is_empty() {
                let left = text.lines().filter(|line| !removed.iter().any(|removed| removed == line));
                text = left.flat_map(|line| [line, "\n"]).collect();
            }
            if text.is_empty() {
                edits.push((path, None));
                continue;
            }
            let (size, limit) = (text.len() as u64, MAX_WRITTEN);
            if size > limit {
                return Err(Error::NoteTooLarge { commit: commit.clone(), size, limit });
            }
            let blob = self.write_blob(text.as_bytes())?;
            written.push(blob.clone());
            edits.push((path, Some((EntryMode::Blob, blob))));
        }
        let (tree, trees) = self.edit_tree(tree.as_ref(), &edits)?;
        written.extend(trees);
        let parents = tip.cloned().map(|tip| vec![tip]).unwrap_or_default();
        let message = "notes: git orchestra\n";
        let commit =
            self.write_commit(&NewCommit { tree: &tree, parents: &parents, author, committer, at, message })?;
        written.push(commit.clone());
        Ok((commit, written))
    }

    /// The tree of notes that has every line of `ours` and `theirs` (commits of notes), and how many notes it changes
    /// in ours. What is written is added to `written`.
    ///
    /// Does not depend on which side is which: a note that has all lines of the other stays as it is, two that
    /// each have more become their lines in order. Only what differs is read. Entries that name no object are ours
    /// alone.
    pub fn union_notes(
        &self,
        ours: Option<&ObjectId>,
        theirs: &ObjectId,
        written: &mut Vec<ObjectId>,
    ) -> Result<(ObjectId, usize), Error> {
        let our_tree = ours.map(|tip| self.read_commit(tip)).transpose()?.map(|commit| commit.tree);
        let their_tree = self.read_commit(theirs)?.tree;
        let (mut in_ours, mut in_theirs) = (BTreeMap::new(), BTreeMap::new());
        self.differing_notes("", our_tree.as_ref(), Some(&their_tree), &mut in_ours, &mut in_theirs)?;
        let mut edits = Vec::<TreeEdit>::new();
        let mut changed = 0;
        let commits: std::collections::BTreeSet<_> =
            in_ours.keys().chain(in_theirs.keys()).cloned().collect();
        for commit in commits {
            let read = |notes: &BTreeMap<ObjectId, Vec<(String, ObjectId)>>| {
                let blobs = notes.get(&commit).into_iter().flatten().map(|(_, blob)| self.read_blob(blob));
                blobs.collect::<Result<Vec<_>, _>>()
            };
            let before = read(&in_ours)?.into_iter().reduce(|a, b| union_lines(&a, &b));
            let all = before.iter().cloned().chain(read(&in_theirs)?).reduce(|a, b| union_lines(&a, &b));
            let Some(text) = all.filter(|text| text.len() as u64 <= 2 * MAX_NOTE) else { continue };
            changed += usize::from(before.as_ref() != Some(&text));
            // At one depth, whatever fan-out git or another machine chose.
            let path = fan_out(&commit);
            let old = in_ours.remove(&commit).unwrap_or_default();
            edits.extend(old.into_iter().filter(|(old, _)| *old != path).map(|(old, _)| (old, None)));
            let blob = self.write_blob(&text)?;
            written.push(blob.clone());
            edits.push((path, Some((EntryMode::Blob, blob))));
        }
        let (tree, trees) = self.edit_tree(our_tree.as_ref(), &edits)?;
        written.extend(trees);
        Ok((tree, changed))
    }

    /// Every commit that has a note in `tip`, a notes commit.
    pub fn noted_commits(&self, tip: &ObjectId) -> Result<Vec<ObjectId>, Error> {
        let tree = self.read_commit(tip)?.tree;
        let (mut none, mut all) = (BTreeMap::new(), BTreeMap::new());
        self.differing_notes("", None, Some(&tree), &mut none, &mut all)?;
        Ok(all.into_keys().collect())
    }

    /// The notes of two trees that are not the same entry in both, by commit, with their paths.
    fn differing_notes(
        &self,
        prefix: &str,
        ours: Option<&ObjectId>,
        theirs: Option<&ObjectId>,
        in_ours: &mut BTreeMap<ObjectId, Vec<(String, ObjectId)>>,
        in_theirs: &mut BTreeMap<ObjectId, Vec<(String, ObjectId)>>,
    ) -> Result<(), Error> {
        // A path of a note has 40 or 64 digits: what goes deeper is none.
        if ours == theirs || prefix.len() > 128 {
            return Ok(());
        }
        if let Some(theirs) = theirs
            && self.object_size(theirs)? > MAX_DIRECTORY
        {
            return Ok(());
        }
        let read = |tree: Option<&ObjectId>| {
            let entries = tree.map(|tree| self.read_tree(tree)).transpose()?.unwrap_or_default();
            Ok::<_, Error>(entries.into_iter().map(|e| (e.name.clone(), e)).collect::<BTreeMap<_, _>>())
        };
        let (ours, theirs) = (read(ours)?, read(theirs)?);
        let names: std::collections::BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
        for name in names {
            let (our, their) = (ours.get(name), theirs.get(name));
            if our == their || !name.iter().all(u8::is_ascii_hexdigit) {
                continue;
            }
            let path = if prefix.is_empty() { name.to_string() } else { format!("{prefix}/{name}") };
            let tree = |entry: Option<&TreeEntry>| {
                entry.filter(|entry| entry.mode == EntryMode::Tree).map(|entry| entry.id.clone())
            };
            let (our_tree, their_tree) = (tree(our), tree(their));
            if our_tree.is_some() || their_tree.is_some() {
                self.differing_notes(&path, our_tree.as_ref(), their_tree.as_ref(), in_ours, in_theirs)?;
            }
            if let Ok(commit) = path.replace('/', "").parse::<ObjectId>() {
                for (entry, notes) in [(our, &mut *in_ours), (their, &mut *in_theirs)] {
                    if let Some(entry) = entry.filter(|entry| entry.mode == EntryMode::Blob)
                        && self.object_size(&entry.id)? <= MAX_NOTE
                    {
                        notes.entry(commit.clone()).or_default().push((path.clone(), entry.id.clone()));
                    }
                }
            }
        }
        Ok(())
    }

    /// The path and text of a commit's note, at whatever fan-out git or we left it.
    fn note_at(&self, tree: &ObjectId, commit: &ObjectId) -> Result<Option<(String, String)>, Error> {
        let id = commit.as_str();
        let deeper = format!("{}/{}/{}", &id[..2], &id[2..4], &id[4..]);
        for path in [fan_out(commit), id.to_owned(), deeper] {
            if let Some(entry) = self.find_in_tree(tree, &path)? {
                let text = self.read_blob(&entry.id)?.to_str_lossy().into_owned();
                return Ok(Some((path, text)));
            }
        }
        Ok(None)
    }
}

/// The lines of both. See [`Repository::union_notes`].
fn union_lines(a: &[u8], b: &[u8]) -> Vec<u8> {
    let lines = |text| ByteSlice::lines(text).collect::<std::collections::BTreeSet<&[u8]>>();
    let (in_a, in_b): (std::collections::BTreeSet<&[u8]>, _) = (lines(a), lines(b));
    if in_a == in_b {
        return a.max(b).to_owned();
    }
    if in_a.is_superset(&in_b) {
        return a.to_owned();
    }
    if in_b.is_superset(&in_a) {
        return b.to_owned();
    }
    let mut text = Vec::new();
    for line in in_a.union(&in_b) {
        text.extend_from_slice(line);
        text.push(b'\n');
    }
    text
}

fn fan_out(commit: &ObjectId) -> String {
    let (first, rest) = commit.as_str().split_at(2);
    format!("{first}/{rest}")
}

//! What git makes of the same branches, with the same answers.

use super::bases::join;
use super::{Case, Settled};
use crate::git::{EntryMode, MergeTree, Repository, text_path};
use crate::model::{Conflict, ObjectId};
use crate::orchestrate::merge::Error;
use crate::orchestrate::merge::conflict::{ConflictFile, name_displaced, whole_files};
use crate::orchestrate::merge::resolve::entry;
use bstr::BString;

/// What should have landed.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) tree: ObjectId,
    /// The paths of each conflict that git had: here somebody decided.
    pub(super) conflicts: Vec<Vec<BString>>,
    /// What each answer chose from, and what it chose, as far as that is known.
    pub(super) chosen: Vec<Chosen>,
}

/// One conflict and what its answer made of it.
#[derive(Debug)]
pub(super) struct Chosen {
    /// Which of what is recorded, by position.
    pub(super) settled: usize,
    /// The version before both, that of what had been merged, and that of the branch.
    pub(super) versions: [Taken; 3],
    pub(super) taken: Taken,
}

/// Merges branch after branch, as git does. Where git stops, what was decided is taken; where nobody knows that, what
/// has landed there.
pub(super) fn replay(repo: &Repository, case: &Case<'_>) -> Result<Replayed, Error> {
    let mut head = case.before.clone();
    let tree = repo.read_commit(&head)?.tree;
    let mut replayed = Replayed { tree, conflicts: Vec::new(), chosen: Vec::new() };
    for (who, one) in case.brings.iter().enumerate() {
        if one.tip == head || repo.merge_base(&head, &one.tip)?.as_ref() == Some(&one.tip) {
            continue;
        }
        let mut merge = repo.merge_tree(&head, &one.tip)?;
        let mut tree = merge.tree.clone();
        if !merge.clean {
            let whole = whole_files(repo, &merge)?;
            let names = [(&head, &*case.target.replace('/', "_")), (&one.tip, one.name.as_str())];
            let aside = name_displaced(repo, &mut merge, &names)?;
            tree.clone_from(&merge.tree);
            let mut edits = Vec::<(BString, Taken)>::new();
            for conflict in &merge.conflicts {
                let path = text_path(&conflict.path);
                let mut decided = case.settled.iter().enumerate().filter(|(_, settled)| settled.who == who);
                let decided = decided.find(|(_, settled)| text_path(&settled.resolution.path) == path);
                // One that git put aside may have its own place again, once the answers are given.
                let put_aside =
                    aside.contains_key(&conflict.path) || aside.values().any(|of| *of == conflict.path);
                let decided = decided.filter(|_| !put_aside);
                let whole = whole.contains(&conflict.path);
                let taken = decided.map(|(_, settled)| decide(repo, conflict, whole, settled));
                let taken = taken.transpose()?.flatten();
                if let (Some((settled, _)), Some(taken)) = (decided, &taken) {
                    let of = |side: &Option<(u32, ObjectId)>| {
                        side.as_ref().map(|(mode, id)| (EntryMode::from_octal(*mode), id.clone()))
                    };
                    let versions = [of(&conflict.base), of(&conflict.ours), of(&conflict.theirs)];
                    replayed.chosen.push(Chosen { settled, versions, taken: taken.clone() });
                }
                edits.push(match taken {
                    Some(taken) => (path, taken),
                    None => as_landed(repo, case, path)?,
                });
            }
            for (path, of) in &aside {
                edits.push(as_landed(repo, case, text_path(of))?);
                replayed.conflicts.push(vec![text_path(path), text_path(of)]);
            }
            edits.retain(|(_, taken)| taken.as_ref().is_none_or(|(mode, _)| *mode != EntryMode::Tree));
            replayed.conflicts.extend(conflicting(&merge));
            tree = repo.edit_tree(Some(&tree), &edits)?.0;
        }
        head = join(repo, &head, &one.tip, &tree)?;
        replayed.tree = tree;
    }
    Ok(replayed)
}

/// The path as it has landed.
fn as_landed(repo: &Repository, case: &Case<'_>, path: BString) -> Result<(BString, Taken), Error> {
    let entry = repo.find_in_tree(case.landed, &path)?;
    Ok((path, entry.map(|entry| (entry.mode, entry.id))))
}

/// The paths of each conflict: those that git names together belong together.
fn conflicting(merge: &MergeTree) -> Vec<Vec<BString>> {
    let messages = merge.messages.iter().filter(|message| message.kind.starts_with("CONFLICT"));
    let named = messages.map(|message| message.paths.iter().map(|path| text_path(path)).collect());
    merge.conflicts.iter().map(|conflict| vec![text_path(&conflict.path)]).chain(named).collect()
}

pub(super) type Taken = Option<(EntryMode, ObjectId)>;

/// What the answer puts at the path; `None` if that is not known any more.
fn decide(
    repo: &Repository,
    conflict: &Conflict,
    whole: bool,
    settled: &Settled,
) -> Result<Option<Taken>, Error> {
    let Some(answer) = &settled.answer else { return Ok(None) };
    let conflict = conflict.clone();
    let (ours, owned) = (Vec::new(), Vec::new());
    let file = ConflictFile { conflict, ours, owned, aside_of: None, whole, parts: None };
    entry(repo, &file, settled.resolution.side, answer).map(Some)
}

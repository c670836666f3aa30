//! From which tree on the lines of a branch are its own.

use super::Brings;
use crate::git::{Identity, NewCommit, Repository};
use crate::model::{ObjectId, Timestamp};
use crate::orchestrate::merge::Error;

/// The base of all as a tree, and that of each tip: where it left the target and the other branches that it contains.
pub(super) fn bases(
    repo: &Repository,
    before: &ObjectId,
    brings: &[Brings],
) -> Result<(ObjectId, Vec<ObjectId>), Error> {
    let mut tips = vec![before.clone()];
    tips.extend(brings.iter().map(|one| one.tip.clone()));
    let ancestry = repo.ancestry(&tips)?;
    let root = match repo.common_ancestor(&tips)? {
        Some(root) => repo.read_commit(&root)?.tree,
        None => repo.edit_tree::<&[u8]>(None, &[])?.0,
    };
    let mut trees = Vec::new();
    for (at, one) in brings.iter().enumerate() {
        let stacked = brings.iter().enumerate().filter(|(other, on)| {
            ancestry.contains(&one.tip, &on.tip)
                && !ancestry.contains(before, &on.tip)
                && (on.tip != one.tip || *other < at)
        });
        let stacked: Vec<&ObjectId> = stacked.map(|(_, on)| &on.tip).collect();
        let forks = ancestry.merge_bases(&one.tip, before);
        let mut known: Vec<&ObjectId> = Vec::new();
        for base in forks.iter().chain(&stacked) {
            let behind = |other: &&ObjectId| *other != *base && ancestry.contains(other, base);
            if !known.contains(base) && !stacked.iter().any(behind) {
                known.push(base);
            }
        }
        trees.push(match &known[..] {
            [] => repo.edit_tree::<&[u8]>(None, &[])?.0,
            [only] => ancestry.tree(only).clone(),
            [first, rest @ ..] => {
                // As git does with several merge bases: they are merged, conflicts and all.
                let mut merged = ((*first).clone(), ancestry.tree(first).clone());
                for next in rest {
                    let tree = repo.merge_tree(&merged.0, next)?.tree;
                    merged = (join(repo, &merged.0, next, &tree)?, tree);
                }
                merged.1
            }
        });
    }
    Ok((root, trees))
}

/// A commit that only this reckoning knows: the same each time, so that asking again leaves nothing new behind.
pub(super) fn join(
    repo: &Repository,
    one: &ObjectId,
    other: &ObjectId,
    tree: &ObjectId,
) -> Result<ObjectId, Error> {
    let nobody = Identity::new("git-orchestra", "receipt@orchestra.invalid");
    Ok(repo.write_commit(&NewCommit {
        tree,
        parents: &[one.clone(), other.clone()],
        author: &nobody,
        committer: &nobody,
        at: Timestamp(0),
        message: "receipt\n",
    })?)
}

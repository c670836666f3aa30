//! Where branches stand beside others: measured once for each two commits, and kept.

use super::super::Error;
use crate::git::{Ancestry, Repository};
use crate::model::ObjectId;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::PathBuf;

/// Where a branch stands beside another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Position {
    /// Commits that only the branch has.
    pub ahead: u32,
    /// Commits that only the target has.
    pub behind: u32,
    /// Files that the branch changed since the two parted.
    pub files: u32,
}

type Positions = BTreeMap<(ObjectId, ObjectId), Position>;

/// Where each pair's first commit stands beside its second.
pub(super) fn positions(repo: &Repository, pairs: &BTreeSet<(ObjectId, ObjectId)>) -> Positions {
    let mut known: Positions = read_cache(repo);
    let missing: BTreeSet<&(ObjectId, ObjectId)> =
        pairs.iter().filter(|pair| pair.0 != pair.1 && !known.contains_key(*pair)).collect();
    if !missing.is_empty() {
        let targets: BTreeSet<&ObjectId> = missing.iter().map(|pair| &pair.1).collect();
        for target in targets {
            let tips: Vec<_> = missing.iter().filter(|pair| pair.1 == *target).map(|pair| &pair.0).collect();
            if let Err(error) = measure(repo, target, &tips, &mut known) {
                // One branch that cannot be read does not hide the others.
                tracing::warn!("{error}");
                for tip in tips {
                    if measure(repo, target, &[tip], &mut known).is_err() {
                        known.insert((tip.clone(), target.clone()), Position::default());
                    }
                }
            }
        }
        // Pairs that nobody asks for any more are forgotten.
        known.retain(|pair, _| pairs.contains(pair));
        write_cache(repo, &known);
    }
    known
        .extend(pairs.iter().filter(|pair| pair.0 == pair.1).map(|pair| (pair.clone(), Position::default())));
    known
}

/// Three processes for any number of tips.
fn measure(
    repo: &Repository,
    target: &ObjectId,
    tips: &[&ObjectId],
    into: &mut Positions,
) -> Result<(), Error> {
    let mut all: Vec<ObjectId> = tips.iter().copied().cloned().collect();
    all.push(target.clone());
    let ancestry: Ancestry = repo.ancestry(&all)?;
    let mut trees = Vec::new();
    for &tip in tips {
        // Without a common ancestor there is nothing that the branch could have changed.
        let base = ancestry.merge_bases(tip, target).first().map_or(tip, |base| *base);
        trees.push((ancestry.tree(base).clone(), ancestry.tree(tip).clone()));
    }
    let changes = repo.changes_between(&trees)?;
    for (&tip, changes) in tips.iter().zip(changes) {
        let (ahead, behind) = ancestry.ahead_behind(tip, target);
        let files = u32::try_from(changes.len()).unwrap_or(u32::MAX);
        into.insert((tip.clone(), target.clone()), Position { ahead, behind, files });
    }
    Ok(())
}

fn cache_path(repo: &Repository) -> PathBuf {
    repo.local_dir().join("cache/positions")
}

/// `tip target ahead behind files`, a line each; a line that cannot be read is not there.
fn read_cache(repo: &Repository) -> Positions {
    let text = std::fs::read_to_string(cache_path(repo)).unwrap_or_default();
    let line = |line: &str| {
        let mut words = line.split(' ');
        let pair = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let mut number = || words.next()?.parse().ok();
        Some((pair, Position { ahead: number()?, behind: number()?, files: number()? }))
    };
    text.lines().filter_map(line).collect()
}

/// A cache that cannot be written is no error: the next reader measures again.
fn write_cache(repo: &Repository, positions: &Positions) {
    let path = cache_path(repo);
    let Some(dir) = path.parent().filter(|_| repo.local_dir().is_dir()) else { return };
    let mut text = String::new();
    for ((tip, target), Position { ahead, behind, files }) in positions {
        let _ = writeln!(text, "{tip} {target} {ahead} {behind} {files}");
    }
    let written = std::fs::create_dir_all(dir).and_then(|()| {
        let mut file = tempfile::NamedTempFile::new_in(dir)?;
        file.write_all(text.as_bytes())?;
        file.persist(&path).map_err(|error| error.error).map(drop)
    });
    if let Err(error) = written {
        tracing::debug!("cannot keep the cache {}: {error}", path.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;

    #[test]
    fn positions_are_measured_once_and_agree_with_git() {
        let sandbox = Sandbox::new(&[]);
        let repo = sandbox.open();
        std::fs::create_dir_all(repo.local_dir()).unwrap();
        let id = |name: &str| -> ObjectId { sandbox.git(&["rev-parse", name]).parse().unwrap() };
        let commit = |branch: &str, files: &[&str]| {
            sandbox.git(&["checkout", "-q", "-B", branch, "start"]);
            for file in files {
                std::fs::write(sandbox.path().join(file), branch).unwrap();
                sandbox.git(&["add", "-A"]);
                sandbox.git(&["commit", "-q", "-m", file]);
            }
        };
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "start"]);
        sandbox.git(&["branch", "start"]);
        commit("target", &["t"]);
        commit("one", &["a", "b"]);
        commit("two", &["c"]);
        let target = id("target");
        let pairs: BTreeSet<_> =
            ["one", "two", "target"].map(|name| (id(name), target.clone())).into_iter().collect();
        let first = positions(&repo, &pairs);
        assert_eq!(first[&(id("one"), target.clone())], Position { ahead: 2, behind: 1, files: 2 });
        assert_eq!(first[&(id("two"), target.clone())], Position { ahead: 1, behind: 1, files: 1 });
        assert_eq!(first[&(target.clone(), target.clone())], Position::default());
        assert_eq!(read_cache(&repo).len(), 2);
        assert_eq!(positions(&repo, &pairs), first);
        std::fs::write(cache_path(&repo), "nonsense\n\0").unwrap();
        assert_eq!(positions(&repo, &pairs), first);
    }
}

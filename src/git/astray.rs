//! Commits that were made in a worktree and that its branch does not have: on a detached `HEAD`, or on another branch.

use super::repository::RefFormat;
use super::{Error, Expected, RefEdit, Repository, Worktree};
use crate::model::ObjectId;
use bstr::ByteSlice;
use std::collections::HashSet;

/// What git writes before a commit that it makes, into the log of `HEAD`.
const MAKES: [&str; 6] = ["commit", "cherry-pick", "revert", "merge", "rebase", "am"];
/// What git writes where `HEAD` leaves a branch or a commit for another.
const LEAVES: &str = "checkout: moving from ";

/// Commits that were left beside a branch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Astray {
    /// The newest of them.
    pub tip: ObjectId,
    /// The branch that they are on, a full ref name; none if they are on no branch at all.
    pub branch: Option<String>,
    /// The commits, newest first.
    pub commits: Vec<ObjectId>,
}

impl Repository {
    /// The commits that were made in `worktree` and that neither `own` (its branch, a full ref name, at `tip`) nor any
    /// ref below `kept` has, nor a branch, a tag or a remote's branch but for the one that they were made on.
    ///
    /// What was amended or rebased is not among them, nor what `own` has as another commit that does the same. Reads the log
    /// of the worktree's `HEAD`, which whoever works there can write: it is believed in nothing but where to look.
    pub fn astray(
        &self,
        worktree: &Worktree,
        own: &str,
        tip: &ObjectId,
        kept: &str,
    ) -> Result<Vec<Astray>, Error> {
        let log = self.head_moves(worktree);
        let word = |text: &str| text.split([':', ' ']).next().is_some_and(|word| MAKES.contains(&word));
        let made: HashSet<&ObjectId> = log.iter().filter(|(_, text)| word(text)).map(|(id, _)| id).collect();
        // Where it is now, and where it was before it went elsewhere, the last place first.
        let head = self.worktree_head(worktree)?;
        let mut places: Vec<(ObjectId, Option<String>)> = Vec::new();
        if head.branch.as_deref() != Some(own) {
            places.extend(head.commit.clone().map(|commit| (commit, head.branch.clone())));
        }
        for moved in log.windows(2).rev() {
            let from = moved[1].1.strip_prefix(LEAVES).and_then(|rest| rest.split_once(" to "));
            let Some(branch) = from.map(|(from, _)| format!("refs/heads/{from}")) else { continue };
            if branch == own {
                continue;
            }
            let place = match self.find_ref(&branch) {
                Ok(Some(now)) => (now, Some(branch)),
                _ => (moved[0].0.clone(), None),
            };
            if !places.contains(&place) {
                places.push(place);
            }
        }
        let mut found = Vec::<Astray>::new();
        for (commit, branch) in places {
            if commit == *tip || self.find_commit(&commit).ok().flatten().is_none() {
                continue;
            }
            // Where no log is kept, what is on no branch at all was made here.
            let here = branch.is_none() && head.branch.is_none() && head.commit.as_ref() == Some(&commit);
            let mut commits = self.only_in(&commit, branch.as_deref(), own, tip, kept)?;
            commits.retain(|one| here || made.contains(one));
            commits.retain(|one| !found.iter().any(|other| other.commits.contains(one)));
            if !commits.is_empty() {
                found.push(Astray { tip: commit, branch, commits });
            }
        }
        Ok(found)
    }

    /// Makes the branch of a worktree again, if it is gone: where `HEAD` was last on it, as its log says, and at `known` if
    /// that says nothing. Returns where; nothing if the branch is there.
    pub fn restore_branch(
        &self,
        worktree: &Worktree,
        branch: &str,
        known: &ObjectId,
    ) -> Result<Option<ObjectId>, Error> {
        if self.find_ref(branch)?.is_some() {
            return Ok(None);
        }
        let is_on_it = self.worktree_head(worktree)?.branch.as_deref() == Some(branch);
        let last = if is_on_it { self.last_head(worktree) } else { self.left(worktree, branch) };
        let tip = last.unwrap_or_else(|| known.clone());
        self.sync_history(&tip, &[known])?;
        let edit = RefEdit { name: branch.to_owned(), new: Some(tip.clone()), expected: Expected::Absent };
        self.update_refs(&[edit], "orchestra: the branch was deleted while its agent ran")?;
        Ok(Some(tip))
    }

    /// The commit from which a worktree's `HEAD` left a branch last.
    fn left(&self, worktree: &Worktree, branch: &str) -> Option<ObjectId> {
        let own = branch.strip_prefix("refs/heads/").unwrap_or(branch);
        let log = self.head_moves(worktree);
        let leaves = |text: &str| {
            text.strip_prefix(LEAVES)
                .and_then(|rest| rest.split_once(" to "))
                .is_some_and(|(from, _)| from == own)
        };
        let left = log.windows(2).rev().find(|moved| leaves(&moved[1].1)).map(|moved| moved[0].0.clone());
        left.filter(|commit| self.find_commit(commit).is_ok_and(|found| found.is_some()))
    }

    /// The last commit that a worktree's `HEAD` was on, as its log says.
    pub(super) fn last_head(&self, worktree: &Worktree) -> Option<ObjectId> {
        let mut moves = self.head_moves(worktree).into_iter().rev().map(|(commit, _)| commit);
        moves.find(|commit| self.find_commit(commit).is_ok_and(|found| found.is_some()))
    }

    /// The commits of `commit` that nothing else has, newest first.
    fn only_in(
        &self,
        commit: &ObjectId,
        branch: Option<&str>,
        own: &str,
        tip: &ObjectId,
        kept: &str,
    ) -> Result<Vec<ObjectId>, Error> {
        let short = |name: &str| name.strip_prefix("refs/heads/").unwrap_or(name).to_owned();
        let mut args = vec!["rev-list".to_owned(), "--cherry-pick".to_owned(), "--right-only".to_owned()];
        args.extend([format!("{tip}...{commit}"), "--not".to_owned()]);
        // Its own branch is compared commit by commit.
        args.push(format!("--exclude={}", short(own)));
        args.extend(branch.map(|branch| format!("--exclude={}", short(branch))));
        args.extend(["--branches", "--tags", "--remotes"].map(str::to_owned));
        args.push(format!("--glob={kept}"));
        Ok(self.read(args)?.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// Where a worktree's `HEAD` was, oldest first, each with what git wrote about how it came there.
    fn head_moves(&self, worktree: &Worktree) -> Vec<(ObjectId, String)> {
        if self.refs == RefFormat::Other {
            let args = ["log", "--walk-reflogs", "--no-show-signature", "--format=%H %gs", "HEAD"];
            let out = self.git_at(&worktree.git_dir, None, args).read().unwrap_or_default();
            let line = |line: &[u8]| {
                let line = line.to_str_lossy();
                let (id, text) = line.split_once(' ')?;
                Some((id.parse().ok()?, text.to_owned()))
            };
            let mut moves: Vec<_> = out.lines().filter_map(line).collect();
            moves.reverse();
            return moves;
        }
        let log = std::fs::read(worktree.git_dir.join("logs/HEAD")).unwrap_or_default();
        let line = |line: &[u8]| {
            let (entry, text) = line.split_once_str("\t").unwrap_or((line, b""));
            let id = entry.split(|&b| b == b' ').nth(1)?.to_str().ok()?.parse().ok()?;
            Some((id, text.to_str_lossy().into_owned()))
        };
        log.lines().filter_map(line).collect()
    }
}

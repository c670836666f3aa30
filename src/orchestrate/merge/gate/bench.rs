//! The worktree in which commits are tried: one for the repository, ours, and used again.

use super::super::Error;
use super::{Trial, directory};
use crate::git::{Repository, Worktree};
use crate::model::{Merge, Name, ObjectId};
use crate::orchestrate::lease::LeaseInfo;
use crate::orchestrate::prepare::{builds, prepare_trying, require_room};
use crate::orchestrate::{Surroundings, environment, trust};
use crate::process::{FileLock, end_orphans};
use crate::store::Store;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::time::Duration;

/// What it is called, if nothing else is.
const NAME: &str = "merges-are-tried-here";
const POLL: Duration = Duration::from_millis(100);
/// How long what a killed process left running may take to end.
const GRACE: Duration = Duration::from_secs(2);

/// The worktree, held by this process.
#[derive(Debug)]
pub(super) struct Bench {
    worktree: Worktree,
    /// What it has checked out, if that is known.
    at: Option<ObjectId>,
    lock: Option<FileLock>,
    path: PathBuf,
}

impl Bench {
    /// Takes the worktree, which is made if there is none; waits for whoever else has it. `None` if nobody wants it any
    /// more.
    pub(super) fn open(
        store: &Store,
        trial: &Trial<'_>,
        merge: &Merge,
        commit: &ObjectId,
        tell: &mut dyn FnMut(&'static str),
    ) -> Result<Option<Self>, Error> {
        let dir = directory(store);
        let made = DirBuilder::new().recursive(true).mode(0o700).create(&dir);
        made.map_err(|e| crate::orchestrate::Error::file("create", &dir, e))?;
        let path = dir.join("lock");
        let failed = |e| crate::orchestrate::Error::file("lock", &path, e);
        let was_there = path.exists();
        let mut told = false;
        let lock = loop {
            if let Some(lock) = FileLock::attempt(&path).map_err(failed)? {
                break lock;
            }
            if !(trial.wanted)() {
                return Ok(None);
            }
            if !told {
                tell("waiting for the gates of another merge");
                told = true;
            }
            std::thread::sleep(POLL);
        };
        let repo = store.repo();
        if was_there {
            end_orphans(None, &mark(repo), GRACE);
        }
        let mut bench = Self {
            worktree: worktree(repo, trial.surroundings, commit, tell)?,
            at: None,
            lock: Some(lock),
            path,
        };
        repo.break_worktree_locks(&bench.worktree)?;
        if bench.worktree.is_unprepared() {
            bench.switch(repo, commit)?;
            tell("making the worktree of the gates ready");
            let env = |pass: &[String]| bench.env(repo, trial.surroundings, merge, pass);
            if !prepare_trying(repo, trial.surroundings, &bench.worktree, env, trial.wanted)? {
                return Ok(None);
            }
        }
        Ok(Some(bench))
    }

    /// Checks `commit` out, and takes away what the try before it left.
    pub(super) fn switch(&mut self, repo: &Repository, commit: &ObjectId) -> Result<(), Error> {
        self.at = None;
        // Agents may be running beside it.
        trust::require_unchanged(repo)?;
        repo.try_commit(&self.worktree, commit)?;
        self.at = Some(commit.clone());
        Ok(())
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.worktree.path
    }

    /// What a command sees here.
    pub(super) fn env(
        &self,
        repo: &Repository,
        surroundings: &Surroundings,
        merge: &Merge,
        pass_env: &[String],
    ) -> BTreeMap<OsString, OsString> {
        let mut env = environment::of_gate(&surroundings.env, pass_env);
        let mut set = |key: &str, value: OsString| env.insert(key.into(), value);
        set("GIT_ORCHESTRA_MERGE", merge.id.as_str().into());
        set("GIT_ORCHESTRA_TARGET", super::super::short_branch(&merge.target).into());
        set("GIT_ORCHESTRA_BASE", merge.target_tip.as_str().into());
        set("GIT_ORCHESTRA_WORKTREE", self.worktree.path.clone().into());
        set("GIT_ORCHESTRA_MAIN_WORKTREE", repo.main_dir().into());
        if let Some(commit) = &self.at {
            set("GIT_ORCHESTRA_COMMIT", commit.as_str().into());
        }
        set(LeaseInfo::MARK, mark_value(repo).into());
        if surroundings.provision.shares_builds {
            builds::add(&mut env, &self.worktree.path, &surroundings.worktree_root);
        }
        env
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        // A file that stays says that its holder was killed.
        if let Some(lock) = self.lock.take() {
            let _ = lock.remove(&self.path);
        }
    }
}

/// Ends what the gates of a killed process left running. Returns how many processes that were.
pub fn mend(repo: &Repository) -> Result<usize, crate::orchestrate::Error> {
    let path = repo.local_dir().join("gates/lock");
    if !path.exists() {
        return Ok(0);
    }
    let failed = |e| crate::orchestrate::Error::file("lock", &path, e);
    let Some(lock) = FileLock::attempt(&path).map_err(failed)? else { return Ok(0) };
    let ended = end_orphans(None, &mark(repo), GRACE);
    lock.remove(&path).map_err(|e| crate::orchestrate::Error::file("remove", &path, e))?;
    Ok(ended)
}

/// Whether a process runs gates in this repository right now.
pub fn are_at_work(repo: &Repository) -> bool {
    FileLock::is_held(&repo.local_dir().join("gates/lock"))
}

/// Removes the worktree in which commits are tried; the next gate makes another one.
///
/// # Errors
/// If gates run in it.
pub fn remove(repo: &Repository) -> Result<(), crate::orchestrate::Error> {
    let path = repo.local_dir().join("gates/lock");
    let failed = |e| crate::orchestrate::Error::file("lock", &path, e);
    let Some(lock) = FileLock::attempt(&path).map_err(failed)? else {
        return Err(crate::orchestrate::Error::refused(
            "remove the worktree of the gates: they run in it",
            None,
        ));
    };
    if let Some(worktree) = repo.find_trying()? {
        repo.remove_worktree(&worktree)?;
    }
    lock.remove(&path).map_err(|e| crate::orchestrate::Error::file("remove", &path, e))
}

fn mark_value(repo: &Repository) -> String {
    format!("gates@{}", repo.common_dir().display())
}

/// By what processes of gates of this repository are recognised.
fn mark(repo: &Repository) -> String {
    format!("{}={}", LeaseInfo::MARK, mark_value(repo))
}

/// The worktree as it is, or a new one.
fn worktree(
    repo: &Repository,
    surroundings: &Surroundings,
    commit: &ObjectId,
    tell: &mut dyn FnMut(&'static str),
) -> Result<Worktree, Error> {
    if let Some(worktree) = repo.find_trying()? {
        if worktree.is_intact() {
            return Ok(worktree);
        }
        if worktree.path.symlink_metadata().is_err() {
            repo.remove_worktree(&worktree)?;
        }
    }
    require_room(&surroundings.worktree_root, surroundings.provision.space_floor)?;
    trust::require_unchanged(repo)?;
    tell("making a worktree for the gates");
    for number in 1.. {
        let name = if number == 1 { NAME.to_owned() } else { format!("{NAME}-{number}") };
        let name: Name = name.parse().expect("it is one");
        match repo.add_trying(&name, &surroundings.worktree_root, commit) {
            Err(crate::git::Error::Taken { .. }) if number < 100 => {}
            made => return Ok(made?),
        }
    }
    unreachable!("the hundredth attempt returns")
}

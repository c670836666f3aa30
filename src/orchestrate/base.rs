//! Whether what agents start from is still what others have: the upstream of a branch, asked for with a deadline.
//!
//! What is seen moves the remote-tracking branch, as `git fetch` does, and nothing else: what agents start from is
//! decided by whoever starts them.

use super::Error;
use crate::git::{Expected, RefEdit, Repository};
use crate::model::Agent;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Where a branch comes from.
struct Upstream {
    remote: String,
    /// Its name there.
    there: String,
    /// The remote-tracking branch.
    tracking: String,
}

/// A branch that is behind its upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Behind {
    /// The branch, a full ref name.
    pub branch: String,
    /// Its upstream, as git calls it.
    pub upstream: String,
    /// How many commits it lacks.
    pub commits: u64,
}

/// Brings what is known of a base's upstream up to date. `revision` is what was asked for; `None` for what is checked
/// out. Returns the remote that was asked, if there is one to ask.
///
/// # Errors
/// If the remote cannot be reached in time, or what it sends is not to be taken in. Whoever starts agents can go on.
pub fn refresh(
    repo: &Repository,
    revision: Option<&str>,
    deadline: Duration,
) -> Result<Option<String>, (String, Error)> {
    let Some(Upstream { remote, there, tracking }) = find_upstream(repo, revision) else { return Ok(None) };
    let until = Instant::now() + deadline;
    let update = || -> Result<(), Error> {
        let found = repo.upstream_refs(&remote, &[&there], deadline)?.remove(&there);
        let known = repo.find_ref(&tracking)?;
        let Some(found) = found.filter(|found| Some(found) != known.as_ref()) else { return Ok(()) };
        let left = until.saturating_duration_since(Instant::now());
        repo.fetch_upstream(&remote, &[&there], left.max(Duration::from_millis(100)))?;
        let edit = RefEdit { name: tracking.clone(), new: Some(found), expected: Expected::from(known) };
        Ok(repo.update_refs(&[edit], "orchestra: fetch what agents start from")?)
    };
    match update() {
        Ok(()) => Ok(Some(remote)),
        Err(error) => Err((remote, error)),
    }
}

/// The upstream of the branch, or of the remote-tracking branch, that `revision` names.
fn find_upstream(repo: &Repository, revision: Option<&str>) -> Option<Upstream> {
    let branch = match revision {
        None => repo.head().ok()?.branch?.strip_prefix("refs/heads/")?.to_owned(),
        Some(revision) => {
            let short = revision.strip_prefix("refs/heads/").unwrap_or(revision);
            let is_branch = repo.find_ref(&format!("refs/heads/{short}")).ok()?.is_some();
            if !is_branch {
                return tracked(repo, revision);
            }
            short.to_owned()
        }
    };
    let remote = repo.config(&format!("branch.{branch}.remote")).filter(|remote| remote != ".")?;
    let there = repo.config(&format!("branch.{branch}.merge"))?;
    let tracking =
        repo.read(["for-each-ref", "--format=%(upstream)", &format!("refs/heads/{branch}")]).ok()?;
    if !repo.remotes().ok()?.contains(&remote) || !tracking.starts_with("refs/remotes/") {
        return None;
    }
    Some(Upstream { remote, there, tracking })
}

/// `origin/main`: what it is there, where a remote keeps its branches under its own name.
fn tracked(repo: &Repository, revision: &str) -> Option<Upstream> {
    let short = revision.strip_prefix("refs/remotes/").unwrap_or(revision);
    let tracking = format!("refs/remotes/{short}");
    repo.find_ref(&tracking).ok()??;
    let remotes = repo.remotes().ok()?;
    let remote = remotes.into_iter().find(|remote| {
        let maps = repo.config(&format!("remote.{remote}.fetch"));
        short.starts_with(&format!("{remote}/"))
            && maps == Some(format!("+refs/heads/*:refs/remotes/{remote}/*"))
    })?;
    let branch = short.strip_prefix(&format!("{remote}/"))?;
    Some(Upstream { there: format!("refs/heads/{branch}"), tracking, remote })
}

/// How far a branch is behind its upstream, as far as that is known here. Asks git only if there is an upstream.
pub(super) fn behind(repo: &Repository, branch: &str) -> Result<Option<Behind>, Error> {
    let short = branch.strip_prefix("refs/heads/").unwrap_or(branch);
    if repo.config(&format!("branch.{short}.merge")).is_none() {
        return Ok(None);
    }
    let format = "--format=%(upstream:short) %(upstream:track,nobracket)";
    let text = repo.read(["for-each-ref", format, branch])?;
    let Some((upstream, track)) = text.split_once(' ') else { return Ok(None) };
    let commits = track.split(", ").find_map(|part| part.strip_prefix("behind ")?.parse().ok());
    let of = |commits| Behind { branch: branch.to_owned(), upstream: upstream.to_owned(), commits };
    Ok(commits.map(of))
}

/// The targets of agents that are there and that are behind their upstreams, as far as that is known here.
pub fn behind_targets<'a>(
    repo: &Repository,
    agents: impl IntoIterator<Item = &'a Agent>,
) -> Result<Vec<Behind>, Error> {
    let agents = agents.into_iter().filter(|agent| agent.removed.is_none());
    let targets: BTreeSet<&str> = agents.filter_map(|agent| agent.target.as_deref()).collect();
    let mut all = Vec::new();
    for target in targets {
        all.extend(behind(repo, target)?);
    }
    Ok(all)
}

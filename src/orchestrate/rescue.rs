//! Rescue refs: where work goes that would otherwise be lost.

use super::Error;
use super::merge::short_branch;
use crate::git::{Expected, RefEdit, Repository, Worktree};
use crate::model::{Agent, Name, ObjectId};
use crate::store::{RESCUE_REFS, Store};
use std::collections::BTreeMap;

/// How many commits a notice names.
const NAMED: usize = 3;

/// The next free rescue ref of an agent: `refs/orchestra/rescue/<agent>/<n>`.
pub fn next_rescue_ref(repo: &Repository, agent: &Name) -> Result<String, Error> {
    let last = rescue_refs(repo, agent)?.last_key_value().map_or(0, |(number, _)| *number);
    Ok(format!("{RESCUE_REFS}{agent}/{}", last + 1))
}

/// The rescue refs below an agent's name by their numbers, with their commits.
pub(super) fn rescue_refs(
    repo: &Repository,
    agent: &Name,
) -> Result<BTreeMap<u64, (String, ObjectId)>, Error> {
    let prefix = format!("{RESCUE_REFS}{agent}/");
    let number = |name: &str| name.strip_prefix(&prefix)?.parse::<u64>().ok();
    let refs = repo.list_refs(&prefix)?.into_iter();
    Ok(refs.filter_map(|(name, commit)| Some((number(&name)?, (name, commit)))).collect())
}

/// Keeps what an agent committed outside of its branch since `began`, and says what it is and how it gets there: a sentence
/// for each place. What is kept already is not kept again.
pub(super) fn keep_astray(
    repo: &Repository,
    agent: &Agent,
    worktree: &Worktree,
    began: &ObjectId,
) -> Result<Vec<String>, Error> {
    let (own, path) = (short_branch(&agent.branch), worktree.path.display());
    let tip = repo.find_ref(&agent.branch)?.unwrap_or_else(|| began.clone());
    let kept = format!("{RESCUE_REFS}{}/*", agent.name);
    let found = repo.astray(worktree, &agent.branch, &tip, &kept)?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let switch = match repo.worktree_head(worktree)?.branch {
        Some(branch) if branch == agent.branch => String::new(),
        _ => format!("git -C {path} switch {own} && "),
    };
    let mut said = Vec::new();
    for astray in found {
        let name = next_rescue_ref(repo, &agent.name)?;
        repo.sync_history(&astray.tip, &[began])?;
        let edit = RefEdit { name: name.clone(), new: Some(astray.tip.clone()), expected: Expected::Absent };
        repo.update_refs(&[edit], "orchestra: what the agent committed outside of its branch")?;
        let mut commits = Vec::new();
        for commit in astray.commits.iter().take(NAMED) {
            commits.push(format!("{} {}", commit.short(), repo.read_commit(commit)?.subject()));
        }
        let more = astray.commits.len().saturating_sub(NAMED);
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        let place = match &astray.branch {
            Some(branch) => format!("on {}", short_branch(branch)),
            None => "on no branch".to_owned(),
        };
        said.push(format!(
            "it committed {place}, and not on {own}: {}{more}; that is kept as {name} and not merged with the rest: \
             `{switch}git -C {path} merge {}` takes it in",
            commits.join(", "),
            astray.tip.short()
        ));
    }
    Ok(said)
}

/// What an agent committed outside of its branch and is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Aside {
    /// The agent.
    pub agent: Name,
    /// The rescue ref.
    pub rescue: String,
    /// Its commit.
    pub commit: ObjectId,
}

/// What agents committed outside of their branches and that neither those nor `target` have, by the rescue refs that keep
/// it. What we committed for them was told where it was kept.
///
/// Each look at a ref is a process or two: `looks` says how many there may be, of the newest agents and refs, and how many
/// are left of that afterwards. Also returns how many refs were not looked at.
pub fn kept_aside(
    store: &Store,
    agents: &[Agent],
    target: Option<&ObjectId>,
    looks: &mut usize,
) -> Result<(Vec<Aside>, usize), Error> {
    let repo = store.repo();
    let mut kept = Vec::new();
    for (name, commit) in repo.list_refs(RESCUE_REFS)? {
        let Some((of, number)) = name.strip_prefix(RESCUE_REFS).and_then(|rest| rest.rsplit_once('/')) else {
            continue;
        };
        for agent in agents.iter().filter(|agent| agent.name.as_str() == of) {
            if store.find_elsewhere(agent)?.is_none() {
                kept.push((agent, number.parse::<u64>().unwrap_or(0), name.clone(), commit.clone()));
            }
        }
    }
    kept.sort_by_key(|(agent, number, ..)| std::cmp::Reverse((agent.created, agent.id, *number)));
    let unseen = kept.len().saturating_sub(*looks);
    kept.truncate(*looks);
    *looks -= kept.len();
    let mut aside = Vec::new();
    for (agent, _, rescue, commit) in kept.into_iter().rev() {
        // One that cannot be looked at (a shallow clone) keeps nothing else from being told.
        let missing = is_missing(repo, agent, &commit, target).unwrap_or_else(|error| {
            tracing::warn!("failed to look at {rescue}: {error}");
            false
        });
        if missing {
            aside.push(Aside { agent: agent.name.clone(), rescue, commit });
        }
    }
    Ok((aside, unseen))
}

/// Whether what is kept of an agent is in neither its branch nor `target`.
fn is_missing(
    repo: &Repository,
    agent: &Agent,
    kept: &ObjectId,
    target: Option<&ObjectId>,
) -> Result<bool, Error> {
    // One that had its name before may have left some, too.
    if !repo.is_ancestor(&agent.base, kept)? || is_ours(repo, kept)? {
        return Ok(false);
    }
    let own = repo.find_ref(&agent.branch)?.unwrap_or_else(|| agent.base.clone());
    let mut args = vec!["rev-list".to_owned(), "--cherry-pick".into(), "--right-only".into()];
    args.push(format!("{own}...{kept}"));
    args.extend(target.map(|target| format!("^{target}")));
    Ok(!repo.read(args)?.is_empty())
}

/// Whether we made a commit of what was in a worktree, or of what a program was in the middle of.
fn is_ours(repo: &Repository, commit: &ObjectId) -> Result<bool, Error> {
    let message = repo.read_commit(commit)?.message;
    Ok(["\nLeft uncommitted by the agent ", "\nWhat was in its worktree when it was removed."]
        .iter()
        .any(|words| message.contains(words)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::git::testing::Sandbox;
    use crate::model::Timestamp;
    use crate::process::ManualClock;
    use std::sync::Arc;

    #[test]
    fn only_so_much_of_what_is_kept_is_looked_at_and_the_rest_is_counted() {
        let sandbox = Sandbox::new(&[]);
        sandbox.git(&["commit", "-q", "--allow-empty", "-m", "start"]);
        let store =
            Store::open(sandbox.open(), Arc::new(ManualClock::new(Timestamp(1))), sandbox.open().identity());
        let base = sandbox.git(&["rev-parse", "HEAD"]);
        let tree = sandbox.git(&["rev-parse", "HEAD^{tree}"]);
        let agents: Vec<Agent> = [("heron", 1), ("crane", 2)]
            .into_iter()
            .map(|(name, made)| Agent {
                base: base.parse().unwrap(),
                created: Timestamp(made),
                ..crate::orchestrate::testing_agent(name)
            })
            .collect();
        for agent in &agents {
            sandbox.git(&["update-ref", &agent.branch, &base]);
            for number in 1..=11 {
                let commit = sandbox.git(&["commit-tree", "-p", &base, "-m", &format!("{number}"), &tree]);
                sandbox.git(&["update-ref", &format!("{RESCUE_REFS}{}/{number}", agent.name), &commit]);
            }
        }
        let look = |mut looks: usize| {
            let (aside, unseen) = kept_aside(&store, &agents, None, &mut looks).unwrap();
            let short = |one: &Aside| one.rescue.strip_prefix(RESCUE_REFS).unwrap().to_owned();
            (aside.iter().map(short).collect::<Vec<_>>(), unseen, looks)
        };
        let (all, unseen, left) = look(30);
        assert_eq!((all.len(), unseen, left), (22, 0, 8));
        let (some, unseen, left) = look(3);
        assert_eq!(some, ["crane/9", "crane/10", "crane/11"], "of the newest agent the last ones");
        assert_eq!((unseen, left), (19, 0));
    }
}

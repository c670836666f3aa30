//! What agents have not committed in their worktrees, many looked at at once. Reads only.

use crate::git::{self, Repository};
use crate::model::{Agent, Id};
use std::collections::HashMap;

/// How many worktrees are looked at at once: `git status` waits for the disk most of its time.
const AT_ONCE: usize = 16;

/// How many paths each agent has in its worktree that are not committed. One without an intact worktree has none.
pub(super) fn uncommitted(repo: &Repository, agents: &[&Agent]) -> HashMap<Id, Result<usize, git::Error>> {
    let mut counts = HashMap::with_capacity(agents.len());
    for some in agents.chunks(AT_ONCE) {
        std::thread::scope(|scope| {
            let asked: Vec<_> = some
                .iter()
                .map(|agent| {
                    let repo = repo.clone();
                    (agent.id, scope.spawn(move || count(&repo, agent)))
                })
                .collect();
            for (id, asked) in asked {
                let count = asked.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
                counts.insert(id, count);
            }
        });
    }
    counts
}

fn count(repo: &Repository, agent: &Agent) -> Result<usize, git::Error> {
    match repo.find_worktree(agent.name.as_str())? {
        Some(worktree) if worktree.is_intact() => Ok(repo.worktree_status(&worktree)?.count()),
        _ => Ok(0),
    }
}

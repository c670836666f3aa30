//! Looks at what is on this machine alone: worktrees, branches, leases, journals, caches.
#![expect(clippy::unnecessary_wraps, reason = "every look has one shape")]

use super::super::measure::{bytes, size};
use super::super::merge::lock_files_left_behind;
use super::super::{Error, lease, recover, trust as fingerprints};
use super::{Check, DoctorOptions, count};
use crate::model::{Agent, Id, Merge};
use crate::store::Store;
use std::collections::BTreeSet;

/// How many of a kind are named.
const NAMED: usize = 10;

pub(super) fn machine(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    Ok(match store.named()? {
        None => Check::ok("machine", "this clone has no name yet"),
        Some((name, None)) => Check::ok("machine", format!("this clone is {name}")),
        Some((name, Some(other))) => {
            Check::ok("machine", format!("this clone is {name}; it began as a copy of {other}"))
        }
    })
}

pub(super) fn worktrees(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let repo = store.repo();
    let agents: Vec<Agent> = store.state()?.all::<Agent>()?;
    let live: BTreeSet<&str> =
        agents.iter().filter(|agent| agent.removed.is_none()).map(|agent| agent.name.as_str()).collect();
    let mut own = repo.own_worktrees()?;
    own.retain(|worktree| !worktree.is_for_trying());
    let mut broken = recover::lost_agents(store)?;
    for worktree in own.iter().filter(|one| !one.is_intact() && one.path.symlink_metadata().is_ok()) {
        if broken.iter().any(|lost| lost.subject == worktree.name) {
            continue;
        }
        let text = format!("{} does not name this repository", worktree.path.display());
        broken.push(recover::Recovered::moved(&worktree.name, text));
    }
    let text = count(own.len(), "worktree of an agent", "worktrees of agents");
    if !broken.is_empty() {
        let details = broken.iter().map(|one| format!("{}: {}", one.subject, one.text));
        let text = format!("{text}; {} missing something", count(broken.len(), "agent is", "agents are"));
        return Ok(Check::fail("worktrees", text).details(details).way_out("git orchestra recover"));
    }
    let orphans: Vec<String> = own
        .iter()
        .filter(|worktree| !live.contains(worktree.name.as_str()))
        .map(|worktree| worktree.path.display().to_string())
        .collect();
    if !orphans.is_empty() {
        let text = format!("{text}; {} of agents that the state does not know", orphans.len());
        let way_out = "git worktree remove PATH   when you have looked at what is in it";
        return Ok(Check::warn("worktrees", text).details(orphans).way_out(way_out));
    }
    Ok(Check::ok("worktrees", text))
}

pub(super) fn branches(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let branches = store.repo().list_refs(Agent::BRANCHES)?;
    let agents: Vec<Agent> = store.state()?.all::<Agent>()?;
    let known: BTreeSet<&str> =
        agents.iter().filter(|agent| agent.removed.is_none()).map(|agent| agent.branch.as_str()).collect();
    let orphans: Vec<String> = branches
        .iter()
        .filter(|(name, _)| !known.contains(name.as_str()))
        .map(|(name, tip)| format!("{} at {}", name.trim_start_matches("refs/heads/"), tip.short()))
        .collect();
    let text = count(branches.len(), "branch", "branches");
    if orphans.is_empty() {
        return Ok(Check::ok("branches", format!("{text} below orchestra/")));
    }
    let text = format!("{text} below orchestra/, {} of no agent", orphans.len());
    let way_out = "git branch -D NAME   when you have looked at what is on it";
    Ok(Check::warn("branches", text).details(orphans.into_iter().take(NAMED)).way_out(way_out))
}

pub(super) fn merges(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let open: Vec<String> = store
        .state()?
        .all::<Merge>()?
        .iter()
        .filter(|merge| merge.status.is_open())
        .map(|merge| format!("{} into {}: {}", merge.id, merge.target, merge.status.word()))
        .collect();
    if let Some(dir) = lock_files_left_behind(store.repo()) {
        let text = "a process was killed that wrote lock files, and its directory is there";
        let details = [dir.display().to_string()];
        return Ok(Check::warn("merges", text).details(details).way_out("git orchestra recover"));
    }
    if open.is_empty() {
        return Ok(Check::ok("merges", "none is open"));
    }
    let text = format!("{} open", count(open.len(), "merge is", "merges are"));
    Ok(Check::warn("merges", text).details(open).way_out("git orchestra merge --continue, or --abort"))
}

pub(super) fn leases(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let (live, dead) = (lease::live(store.repo()).len(), lease::dead(store.repo()));
    if dead > 0 {
        let text = format!("{} nobody watches any more", count(dead, "run that", "runs that"));
        return Ok(Check::fail("leases", text).way_out("git orchestra recover"));
    }
    let text = if live == 0 { "nobody runs".to_owned() } else { count(live, "agent runs", "agents run") };
    Ok(Check::ok("leases", text))
}

pub(super) fn unfinished(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let repo = store.repo();
    let (live, dead) = repo.live_intents();
    let empty = repo.empty_commondirs();
    if dead > 0 || !empty.is_empty() {
        let text = format!("{} half made", count(dead + empty.len(), "worktree is", "worktrees are"));
        return Ok(Check::fail("unfinished", text).details(empty).way_out("git orchestra recover"));
    }
    let text = if live == 0 { "nothing".to_owned() } else { format!("{live} being made right now") };
    Ok(Check::ok("unfinished", text))
}

pub(super) fn journals(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let dir = store.repo().local_dir().join("journal");
    let (mut all, mut size, mut strays) = (0, 0, Vec::new());
    let state = store.state()?;
    for agent in std::fs::read_dir(&dir).into_iter().flatten().flatten() {
        let name = agent.file_name().to_string_lossy().into_owned();
        let id: Option<Id> = name.parse().ok();
        let known = id.map(|id| state.get::<Agent>(&id)).transpose()?.flatten();
        for journal in std::fs::read_dir(agent.path()).into_iter().flatten().flatten() {
            all += 1;
            size += journal.metadata().map_or(0, |meta| meta.len());
            let file = journal.file_name().to_string_lossy().into_owned();
            let run: Option<u32> = file.strip_suffix(".jsonl").and_then(|number| number.parse().ok());
            let is_known = known.as_ref().zip(run).is_some_and(|(agent, run)| agent.runs.contains_key(&run));
            if !is_known {
                strays.push(format!("{name}/{file}"));
            }
        }
    }
    let text = format!("{}, {}", count(all, "journal", "journals"), bytes(size));
    if strays.is_empty() {
        return Ok(Check::ok("journals", text));
    }
    let text = format!("{text}; {} of no run that the state knows", strays.len());
    let way_out = format!("they are in {}; delete them when you have looked", dir.display());
    Ok(Check::warn("journals", text).details(strays.into_iter().take(NAMED)).way_out(way_out))
}

pub(super) fn trust(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    Ok(match fingerprints::find_change(store.repo())? {
        None => Check::ok("trust", "what git runs here is what it was before agents ran"),
        Some(change) => Check::fail("trust", "somebody changed what git runs here while agents ran")
            .details(change.files)
            .way_out("git orchestra config approve   shows it"),
    })
}

pub(super) fn caches(store: &Store, _: &DoctorOptions) -> Result<Check, Error> {
    let size = size(&store.repo().local_dir().join("cache"));
    Ok(Check::ok("caches", format!("{}, made again whenever in doubt", bytes(size))))
}

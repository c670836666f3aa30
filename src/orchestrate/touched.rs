//! Which files an agent read and wrote, as the calls of its tools say, and which its commits change. What else a command
//! of its shell touched is not known.

use super::{Error, branch};
use crate::model::{Agent, Event, EventKind, ToolTarget};
use crate::store::journal::{self, Entry};
use crate::store::{State, Store};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Of more of an agent's commits than these the oldest are not looked at.
const COMMITS: &str = "--max-count=1000";

/// The files that an agent's tools were called on, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Touched {
    /// Those that were read.
    pub read: BTreeMap<String, u64>,
    /// Those that were written.
    pub written: BTreeMap<String, u64>,
    /// Those that its own commits change, whatever wrote them. Merges that it made are left out.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub committed: BTreeSet<String>,
    /// Runs of which nothing is known here: what was said in them is on another machine, or gone.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unknown_runs: BTreeSet<u32>,
}

impl Touched {
    /// What the runs of `agent` touched: by the journal of one that is not over, by the transcripts of the others.
    pub fn by(store: &Store, state: &State, agent: &Agent) -> Result<Self, Error> {
        let mut touched = Self { committed: committed(store, agent)?, ..Self::default() };
        for (&number, run) in &agent.runs {
            let bytes = match (std::fs::read(journal::path(store.repo(), &agent.id, number)), &run.transcript)
            {
                (Ok(bytes), _) => Some(bytes),
                (Err(_), Some(tree)) => state.transcript(store.repo(), tree).ok(),
                (Err(_), None) => None,
            };
            match bytes {
                Some(bytes) => touched.learn(journal::parse(&bytes)),
                None => drop(touched.unknown_runs.insert(number)),
            }
        }
        Ok(touched)
    }

    fn learn(&mut self, entries: impl Iterator<Item = Entry>) {
        // A call that was refused touched nothing.
        let mut open = BTreeMap::<String, ToolTarget>::new();
        for entry in entries {
            let Entry::Event(Event { kind, .. }) = entry else { continue };
            match kind {
                EventKind::ToolCall { call, target: Some(target), .. } => {
                    open.insert(call, target);
                }
                EventKind::ToolResult { call, ok, .. } => {
                    if let Some(target) = open.remove(&call).filter(|_| ok) {
                        self.count(target);
                    }
                }
                _ => {}
            }
        }
        // One that was cut off may have done it.
        for target in open.into_values() {
            self.count(target);
        }
    }

    fn count(&mut self, target: ToolTarget) {
        let (files, path) = match target {
            ToolTarget::Reads(path) => (&mut self.read, path),
            ToolTarget::Writes(path) => (&mut self.written, path),
            ToolTarget::Runs(_) => return,
        };
        *files.entry(path).or_default() += 1;
    }
}

/// The paths that an agent's own commits change: what its branch has of its own since it began, without what it merged.
fn committed(store: &Store, agent: &Agent) -> Result<BTreeSet<String>, Error> {
    let repo = store.repo();
    let (tip, _) = branch::made(store, agent, true)?;
    if tip == agent.base || !repo.has_object(&tip) || !repo.has_object(&agent.base) {
        return Ok(BTreeSet::new());
    }
    let mut args = vec!["log", "-z", "--format=", "--name-only", "--no-renames", "--no-ext-diff"];
    args.extend(["--no-show-signature", "--first-parent", "--no-merges", COMMITS]);
    let mut named = vec![tip.to_string(), format!("^{}", agent.base)];
    // What it took over from its target by a rebase is not its own. Once it has landed there, all of it would be.
    if let Some(target) = agent.target.as_deref().map(|target| repo.find_ref(target)).transpose()?.flatten()
        && !repo.is_ancestor(&tip, &target)?
    {
        named.push(format!("^{target}"));
    }
    let out = repo.read(args.into_iter().chain(named.iter().map(String::as_str)).chain(["--"]))?;
    Ok(out.split(['\0', '\n']).filter(|path| !path.is_empty()).map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Timestamp;

    #[test]
    fn calls_that_worked_count() {
        let call = |call: &str, target| EventKind::ToolCall {
            call: call.to_owned(),
            tool: "T".to_owned(),
            summary: String::new(),
            target: Some(target),
        };
        let answer =
            |call: &str, ok| EventKind::ToolResult { call: call.to_owned(), ok, output: String::new() };
        let reads = |path: &str| ToolTarget::Reads(path.to_owned());
        let writes = |path: &str| ToolTarget::Writes(path.to_owned());
        let kinds = vec![
            call("1", reads("a")),
            answer("1", true),
            call("2", reads("a")),
            answer("2", true),
            call("3", writes("b")),
            answer("3", false),
            call("4", writes("c")),
            call("5", ToolTarget::Runs("rm d".to_owned())),
            answer("5", true),
        ];
        let event = |kind| Entry::Event(Event { at: Timestamp(1), parent: None, kind });
        let mut touched = Touched::default();
        touched.learn(kinds.into_iter().map(event));
        assert_eq!(touched.read, [("a".to_owned(), 2)].into());
        assert_eq!(touched.written, [("c".to_owned(), 1)].into());
    }
}

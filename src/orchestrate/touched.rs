//! Which files an agent read and wrote, as the calls of its tools say. What a command of its shell touched is not known.

use super::Error;
use crate::model::{Agent, Event, EventKind, ToolTarget};
use crate::store::journal::{self, Entry};
use crate::store::{State, Store};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// The files that an agent's tools were called on, and how often.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Touched {
    /// Those that were read.
    pub read: BTreeMap<String, u64>,
    /// Those that were written.
    pub written: BTreeMap<String, u64>,
    /// Runs of which nothing is known here: what was said in them is on another machine, or gone.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub unknown_runs: BTreeSet<u32>,
}

impl Touched {
    /// What the runs of `agent` touched: by the journal of one that is not over, by the transcripts of the others.
    pub fn by(store: &Store, state: &State, agent: &Agent) -> Result<Self, Error> {
        let mut touched = Self::default();
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

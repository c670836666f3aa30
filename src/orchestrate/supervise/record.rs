//! What is written when runs end: one transaction for all that ended at about the same time.

use super::{Finished, Plan};
use crate::git::NoteEdit;
use crate::model::{Agent, Id, ObjectId, Run, Usage};
use crate::orchestrate::lease::Lease;
use crate::store::journal::Closed;
use crate::store::{Error, PROVENANCE_NOTES, RefMove, Store};

/// What one run amounts to.
#[derive(Debug, Clone)]
pub(crate) struct RunRecord {
    pub(crate) agent: Id,
    pub(crate) number: u32,
    pub(crate) run: Run,
    /// The conversation's id, if the program chose another one than ours.
    pub(crate) session: Option<String>,
    /// The commits that it made, newest first.
    pub(crate) commits: Vec<ObjectId>,
    /// Its journal, if it is to be kept.
    pub(crate) journal: Option<Closed>,
}

/// A run that is over in everything but its record.
#[derive(Debug)]
pub(super) struct Ended {
    /// What it amounts to; nothing for a run that was never started, which is taken out of the state.
    pub(super) record: Option<RunRecord>,
    /// Held until it is recorded.
    pub(super) lease: Lease,
    /// What is told about it then.
    pub(super) finished: Finished,
}

impl Ended {
    /// A run that never started: nothing of it happened.
    pub(super) fn unstarted(plan: Plan) -> Self {
        let Plan { agent, run, lease, tip, .. } = plan;
        let finished = Finished {
            agent: agent.id,
            name: agent.name,
            run,
            outcome: None,
            tip,
            commits: 0,
            leftovers: false,
            usage: Usage::default(),
            decisions: Vec::new(),
            error: None,
        };
        Self { record: None, lease, finished }
    }
}

/// Records runs that ended, all in one change of the state, and lets go of their leases. Unrecorded, a lease stays
/// for `recover`.
pub(super) fn record(store: &Store, ended: Vec<Ended>) -> Vec<Finished> {
    let failed = write(store, &ended).err().map(|e| chain(&e));
    ended
        .into_iter()
        .map(|Ended { lease, mut finished, .. }| {
            let left =
                if failed.is_none() { lease.release().err().map(|e| chain(&e)) } else { failed.clone() };
            finished.error = left.or(finished.error);
            finished
        })
        .collect()
}

/// An error with its causes, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(source) = cause {
        text = format!("{text}: {source}");
        cause = source.source();
    }
    text
}

fn write(store: &Store, ended: &[Ended]) -> Result<(), Error> {
    store.transact(|transaction| {
        let mut said = Vec::new();
        for Ended { record, finished, .. } in ended {
            if let Some(record) = record {
                said.extend(write_run(transaction, record)?);
            } else if let Some(mut agent) = transaction.get::<Agent>(&finished.agent)? {
                agent.runs.remove(&finished.run);
                said.push(format!("{} run {} not started", agent.name, finished.run));
                transaction.put(&agent)?;
            }
        }
        transaction.describe(format!("agent: {}", said.join(", ")));
        Ok::<_, Error>(())
    })?;
    Ok(())
}

/// Puts one ended run into the state, its transcript into the log and its provenance on its commits. Returns what
/// happened in a few words; nothing if the agent is not in the state.
pub(crate) fn write_run(
    transaction: &mut crate::store::Transaction<'_>,
    record: &RunRecord,
) -> Result<Option<String>, Error> {
    let Some(mut agent) = transaction.get::<Agent>(&record.agent)? else { return Ok(None) };
    let mut run = record.run.clone();
    if let Some(journal) = record.journal.as_ref().filter(|journal| !journal.is_empty()) {
        let bytes = journal.open()?;
        run.transcript = Some(transaction.keep_transcript(&record.agent, record.number, bytes)?);
    }
    let line = provenance(&agent, record.number, &run);
    for commit in &record.commits {
        let (notes_ref, commit) = (PROVENANCE_NOTES.to_owned(), commit.clone());
        transaction.note(NoteEdit { notes_ref, commit, line: line.clone() });
    }
    let word = run.outcome.as_ref().map_or("recorded", crate::model::Outcome::word);
    let said = format!("{} run {} {word}", agent.name, record.number);
    let earlier = agent.runs.range(..record.number).rev().find_map(|(_, run)| run.tip.clone());
    let old = Some(earlier.unwrap_or_else(|| agent.base.clone()));
    transaction.record_move(RefMove { name: agent.branch.clone(), old, new: run.tip.clone() });
    agent.runs.insert(record.number, run.into());
    if let Some(session) = &record.session {
        agent.session = Some(session.clone());
    }
    transaction.put(&agent)?;
    Ok(Some(said))
}

/// Which agent, task and run made a commit: one line of JSON.
fn provenance(agent: &Agent, number: u32, run: &Run) -> String {
    let mut line = serde_json::json!({
        "agent": agent.id,
        "name": agent.name,
        "profile": agent.profile,
        "program": agent.program,
        "run": number,
        "tokens": run.usage.total(),
    });
    if let Some(task) = &agent.task {
        line["task"] = serde_json::json!(task);
    }
    if let Some(model) = &run.model {
        line["model"] = serde_json::json!(model);
    }
    line.to_string()
}

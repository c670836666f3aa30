//! What is written when runs end: one transaction for all that ended at about the same time.

use crate::git::NoteEdit;
use crate::model::{Agent, Id, ObjectId, Run};
use crate::store::{Error, PROVENANCE_NOTES, Store};
use tokio::sync::{mpsc, oneshot};

/// The most runs that one transaction records.
const BATCH: usize = 64;

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
    /// Its journal, whole lines only.
    pub(crate) journal: Vec<u8>,
}

enum Job {
    Record(Box<RunRecord>),
    Forget(Id, u32),
}

struct Order {
    job: Job,
    done: oneshot::Sender<Result<(), String>>,
}

/// Writes what ended, in the order in which it ended.
#[derive(Clone)]
pub(super) struct Recorder(mpsc::Sender<Order>);

impl Recorder {
    /// Starts the thread that writes; it ends with the last clone.
    pub(super) fn start(store: Store) -> Self {
        let (sender, mut orders) = mpsc::channel::<Order>(BATCH);
        tokio::task::spawn_blocking(move || {
            let mut batch = Vec::new();
            while let Some(first) = orders.blocking_recv() {
                batch.push(first);
                while batch.len() < BATCH
                    && let Ok(next) = orders.try_recv()
                {
                    batch.push(next);
                }
                let jobs: Vec<&Job> = batch.iter().map(|order| &order.job).collect();
                let result = write(&store, &jobs).map_err(|e| chain(&e));
                for order in batch.drain(..) {
                    // Whoever waited for it may be gone.
                    let _ = order.done.send(result.clone());
                }
            }
        });
        Self(sender)
    }

    /// Records a run that ended; on disk when it returns.
    pub(super) async fn record(&self, record: RunRecord) -> Result<(), String> {
        self.order(Job::Record(Box::new(record))).await
    }

    /// Takes a run out of the state that was never started.
    pub(super) async fn forget(&self, agent: Id, run: u32) -> Result<(), String> {
        self.order(Job::Forget(agent, run)).await
    }

    async fn order(&self, job: Job) -> Result<(), String> {
        let (done, answer) = oneshot::channel();
        let gone = || "record it: the recorder is gone".to_owned();
        self.0.send(Order { job, done }).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
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

fn write(store: &Store, jobs: &[&Job]) -> Result<(), Error> {
    store.transact(|transaction| {
        let mut said = Vec::new();
        for job in jobs {
            match job {
                Job::Record(record) => said.extend(write_run(transaction, record)?),
                Job::Forget(id, run) => {
                    if let Some(mut agent) = transaction.get::<Agent>(id)? {
                        agent.runs.remove(run);
                        said.push(format!("{} run {run} not started", agent.name));
                        transaction.put(&agent)?;
                    }
                }
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
    if !record.journal.is_empty() {
        run.transcript = Some(transaction.keep_transcript(&record.agent, record.number, &record.journal)?);
    }
    let line = provenance(&agent, record.number, &run);
    for commit in &record.commits {
        let (notes_ref, commit) = (PROVENANCE_NOTES.to_owned(), commit.clone());
        transaction.note(NoteEdit { notes_ref, commit, line: line.clone() });
    }
    let word = run.outcome.as_ref().map_or("recorded", crate::model::Outcome::word);
    let said = format!("{} run {} {word}", agent.name, record.number);
    agent.runs.insert(record.number, run);
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

//! A worker: takes tasks from the queue that machines share, runs an agent for each, and publishes what came of it.
//!
//! The runs are the supervisor's, as those of `spawn`; beside them one thread speaks with the remote. What the
//! remote does not take now is kept and sent again; nothing of a task that another machine took over is sent.

mod carry;
mod publish;
mod shift;

use super::claim::Queue;
use super::outgoing::Guard;
use super::session::{Claim, Outfit, Surroundings};
use super::supervise::{Finished, Progress, Request, Supervisor};
use super::{Error, control::Desk};
use crate::model::Id;
use crate::process::FileLock;
use shift::Shift;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// What a worker works on, and how.
#[derive(Debug)]
pub struct Worker {
    /// The queue.
    pub queue: Queue,
    /// How its agents are run.
    pub outfit: Outfit,
    /// Only tasks of this zone.
    pub zone: Option<String>,
    /// How many agents run at once.
    pub jobs: usize,
    /// Whether tasks wait that will probably change the same files as one at work here.
    pub holds_back: bool,
    /// When it ends by itself.
    pub until: Until,
    /// Whether what agents said is sent to the remote.
    pub transcripts: bool,
    /// After which silence of this machine others may take over.
    pub ttl: Duration,
    /// What looks through branches before they are pushed.
    pub guard: Guard,
    /// What was claimed before, and is all that it works on.
    pub given: Option<Given>,
}

/// An agent that a worker is given instead of looking for tasks.
#[derive(Debug)]
pub struct Given {
    /// The agent, with its run.
    pub claim: Claim,
    /// Its task, if it has one, claimed by this machine.
    pub task: Option<Id>,
    /// The claim's fence.
    pub fence: u64,
}

/// When a worker ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Never.
    Stopped,
    /// When what it claimed first is done.
    Once,
    /// When there is nothing to claim, and what it claimed is done.
    Empty,
}

/// Works until the worker's time is over, or a [`Request::Stop`] of all: then nothing more is claimed, what was
/// claimed and not started is given back, and what runs is ended. Returns how each run ended.
///
/// `asks` leads to the same runs as `requests`: an agent whose task another machine took over is stopped.
///
/// # Errors
/// If another worker of this repository runs, if the remote cannot be reached at all, or went back. What was
/// running is over and recorded then.
pub async fn work(
    worker: Worker,
    surroundings: Surroundings,
    supervisor: Supervisor,
    requests: mpsc::Receiver<Request>,
    asks: mpsc::Sender<Request>,
    progress: mpsc::Sender<Progress>,
) -> (Vec<Finished>, Result<(), Error>) {
    // Whoever is given its work looks for no other, and gives back nothing of anybody's.
    let lock = match worker.given.is_none().then(|| only_one(&worker.queue)).transpose() {
        Ok(lock) => lock,
        Err(error) => return (Vec::new(), Err(error)),
    };
    let redactor = supervisor.redactor();
    let (server, desk): (_, Arc<Desk>) = (supervisor.listen(), supervisor.desk());
    let address = server.as_ref().map(|server| server.name().to_owned());
    let (sender, plans) = mpsc::channel(1);
    let (inner, mut told) = mpsc::channel(1024);
    let (done, ends) = std::sync::mpsc::channel();
    let shown = progress.clone();
    let forward = tokio::spawn(async move {
        while let Some(next) = told.recv().await {
            if let Progress::Finished(one) = &next {
                // The shift is over before the last run only if it failed, which it says itself.
                let _ = done.send((**one).clone());
            }
            let _ = shown.send(next).await;
        }
    });
    let shift = Shift::new(worker, surroundings, desk, address, sender, ends, asks, progress, redactor);
    let shift = tokio::task::spawn_blocking(move || shift.run());
    let mut finished = Box::pin(supervisor.supervise(plans, requests, inner)).await;
    let _ = forward.await;
    let ended = match shift.await {
        Ok((unstarted, ended)) => {
            finished.extend(unstarted);
            ended
        }
        Err(error) => Err(Error::refused(format!("go on working: {error}"), None)),
    };
    if let Some(server) = server {
        server.close().await;
    }
    drop(lock);
    (finished, ended)
}

/// One worker a clone: two would take each other's claims for those of a dead one.
fn only_one(queue: &Queue) -> Result<FileLock, Error> {
    let store = queue.store();
    // Asking for the machine's name makes the directory.
    store.machine()?;
    let path = store.repo().local_dir().join("worker.lock");
    FileLock::attempt(&path).map_err(|e| Error::file("lock", &path, e))?.ok_or_else(|| {
        Error::refused(
            "work: another worker of this repository runs",
            "one worker runs several agents: --jobs N".to_owned(),
        )
    })
}

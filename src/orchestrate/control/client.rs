//! The side that asks.

use super::directory;
use super::wire::{Answer, Ask, Question};
use crate::git::Repository;
use crate::orchestrate::Error;
use crate::orchestrate::lease::{self, LeaseInfo};
use crate::process::{Connection, Lines};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::time::timeout;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a session that has just begun may take to listen.
const BEGINNING: Duration = Duration::from_secs(5);

/// Asks whoever holds `lease`, and returns the answer. Blocks.
///
/// # Errors
/// If nobody answers.
pub fn ask(repo: &Repository, lease: &LeaseInfo, ask: &Ask) -> Result<Answer, Error> {
    let unreachable = |error| unreachable(lease, error);
    let runtime = crate::process::runtime().map_err(unreachable)?;
    runtime
        .block_on(async {
            let mut connection = connect(repo.clone(), lease).await?;
            let talk = async {
                connection.send(&ask.line()).await?;
                next(&mut connection.lines).await
            };
            timeout(PATIENCE, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        })
        .map_err(unreachable)
}

/// Connects, with some patience for a session that is only beginning.
async fn connect(repo: Repository, lease: &LeaseInfo) -> io::Result<Connection> {
    let since = Instant::now();
    let mut lease = lease.clone();
    loop {
        let failed = match &lease.control {
            Some(name) => match Connection::open(&directory(&repo), name) {
                Ok(connection) => return Ok(connection),
                Err(error) => error,
            },
            None => io::Error::new(io::ErrorKind::NotFound, "it does not listen"),
        };
        let held = lease::find_live(&repo, &lease.agent);
        // One that listened and does not any more is ending.
        let beginning = lease.control.is_none() && since.elapsed() < BEGINNING;
        match held {
            Some(held) if beginning || held.control != lease.control => lease = held,
            _ => return Err(failed),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn next(lines: &mut Lines) -> io::Result<Answer> {
    let line = lines.next().await?.ok_or(io::ErrorKind::UnexpectedEof)?;
    Answer::read(&line)
        .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an answer that nobody knows"))
}

fn unreachable(lease: &LeaseInfo, error: io::Error) -> Error {
    Error::Unreachable { name: lease.name.clone(), pid: lease.supervisor.pid, source: error }
}

/// A connection that shows one run.
#[derive(Debug)]
pub struct Viewer {
    lines: Lines,
    out: OwnedWriteHalf,
    /// The run that it shows.
    pub run: u32,
    /// Questions that waited for an answer when it began.
    pub questions: Vec<Question>,
}

impl Viewer {
    /// Begins to look at the run of `lease`; what it did before is in its journal. With `asks`, its permission
    /// questions are asked here as long as the value lives.
    ///
    /// # Errors
    /// If nobody answers, or the run is over.
    pub async fn open(repo: Repository, lease: &LeaseInfo, asks: bool) -> Result<Self, Error> {
        let agent = lease.agent;
        let opened = async {
            let mut connection = connect(repo, lease).await?;
            let talk = async {
                connection.send(&Ask::Attach { agent, asks }.line()).await?;
                next(&mut connection.lines).await
            };
            let answer =
                timeout(PATIENCE, talk).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
            match answer {
                Answer::Attached { run, questions, .. } => {
                    let Connection { lines, out } = connection;
                    Ok(Self { lines, out, run, questions })
                }
                Answer::Refused { why } => Err(io::Error::other(why)),
                _ => Err(io::Error::new(io::ErrorKind::InvalidData, "an answer that was not asked for")),
            }
        };
        opened.await.map_err(|error| unreachable(lease, error))
    }

    /// What is said next; `None` when the session has ended or went away. Lines that nobody knows are left out. Safe
    /// to cancel.
    pub async fn next(&mut self) -> Option<Answer> {
        while let Ok(Some(line)) = self.lines.next().await {
            if let Some(answer) = Answer::read(&line) {
                return Some(answer);
            }
        }
        None
    }

    /// Asks for something. The answer comes through [`Viewer::next`].
    pub async fn ask(&mut self, ask: &Ask) -> io::Result<()> {
        self.out.write_all(&ask.line()).await
    }
}

//! The side that is asked.

use super::desk::Desk;
use super::wire::{Answer, Ask, Refusal};
use super::{directory, next_name};
use crate::git::Repository;
use crate::orchestrate::insider;
use crate::orchestrate::supervise::Request;
use crate::process::{Connection, Listener};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use tokio::net::unix::OwnedWriteHalf;
use tokio::sync::{Semaphore, broadcast, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::timeout;

/// How many may be connected at once; others wait.
const CONNECTIONS: usize = 256;
/// How long one who connected may take to ask the first thing.
const FIRST: Duration = Duration::from_secs(10);
/// How long the last words may take to arrive.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A socket at which this process answers for one session.
#[derive(Debug)]
pub(in crate::orchestrate) struct Server {
    name: String,
    desk: Arc<Desk>,
    task: JoinHandle<()>,
    /// Dropped to say that no more connections are taken.
    closing: oneshot::Sender<()>,
}

impl Server {
    /// Begins to answer for `desk`. Must be called inside a tokio runtime.
    pub(in crate::orchestrate) fn open(repo: &Repository, desk: Arc<Desk>) -> std::io::Result<Self> {
        let name = next_name();
        let listener = Listener::bind(&directory(repo), &name)?;
        let (closing, closed) = oneshot::channel();
        let task = tokio::spawn(serve(listener, repo.clone(), Arc::clone(&desk), closed));
        Ok(Self { name, desk, task, closing })
    }

    /// The socket's name, for leases.
    pub(in crate::orchestrate) fn name(&self) -> &str {
        &self.name
    }

    /// Ends: everybody who looks hears the last words first.
    pub(in crate::orchestrate) async fn close(self) {
        let Self { desk, mut task, closing, .. } = self;
        drop(closing);
        desk.close();
        if timeout(LAST_WORDS, &mut task).await.is_err() {
            task.abort();
        }
    }
}

async fn serve(listener: Listener, repo: Repository, desk: Arc<Desk>, mut closed: oneshot::Receiver<()>) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut talks = JoinSet::new();
    loop {
        let accepted = async {
            let place = Arc::clone(&room).acquire_owned().await;
            listener.accept().await.map(|connection| (connection, place))
        };
        let accepted = tokio::select! {
            accepted = accepted => accepted,
            _ = &mut closed => break,
        };
        match accepted {
            Ok((connection, place)) => {
                let (desk, repo) = (Arc::clone(&desk), repo.clone());
                talks.spawn(async move {
                    if is_refused(repo, &connection).await {
                        let mut connection = connection;
                        say(&mut connection.out, &Answer::Refused { why: Refusal::Agent }.line()).await;
                    } else {
                        talk(connection, &desk).await;
                    }
                    drop(place);
                });
            }
            // Too many open files, most likely: it may pass.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
        while talks.try_join_next().is_some() {}
    }
    drop(listener);
    while talks.join_next().await.is_some() {}
}

/// Whether who connected belongs to an agent: those do not steer each other. Asked before anything is heard.
async fn is_refused(repo: Repository, connection: &Connection) -> bool {
    let peer = connection.peer();
    let asked = tokio::task::spawn_blocking(move || match peer {
        Some(pid) => insider::is_of_an_agent(&repo, pid),
        // Linux names everybody whom this process can see.
        None => cfg!(target_os = "linux"),
    });
    asked.await.unwrap_or(true)
}

/// Answers one who connected, until they look at a run or go away.
async fn talk(mut connection: Connection, desk: &Arc<Desk>) {
    let mut patience = FIRST;
    loop {
        let Ok(Ok(Some(line))) = timeout(patience, connection.lines.next()).await else { return };
        let answer = match Ask::read(&line) {
            None => Answer::Refused { why: Refusal::NotUnderstood },
            Some(Ask::Attach { agent, asks }) => match desk.find(&agent) {
                Some(feed) => {
                    let _answering = asks.then(|| feed.answering());
                    let (said, attached) = feed.look();
                    // Held by the desk alone from here on: when it lets go, the talk is over.
                    drop(feed);
                    if say(&mut connection.out, &attached.line()).await {
                        show(connection, desk, said).await;
                    }
                    return;
                }
                None => Answer::Refused { why: Refusal::Unknown },
            },
            Some(ask) => hand_on(desk, ask).await,
        };
        if !say(&mut connection.out, &answer.line()).await {
            return;
        }
        patience = FIRST;
    }
}

/// Tells what happens, and goes on answering.
async fn show(connection: Connection, desk: &Arc<Desk>, mut said: broadcast::Receiver<Arc<[u8]>>) {
    let Connection { mut lines, mut out } = connection;
    let behind = Answer::Behind.line();
    loop {
        let line: Vec<u8>;
        tokio::select! {
            next = said.recv() => match next {
                Ok(told) => {
                    if !say(&mut out, &told).await {
                        return;
                    }
                    continue;
                }
                Err(broadcast::error::RecvError::Lagged(_)) => line = behind.clone(),
                Err(broadcast::error::RecvError::Closed) => return,
            },
            asked = lines.next() => {
                let Ok(Some(asked)) = asked else { return };
                line = match Ask::read(&asked) {
                    None | Some(Ask::Attach { .. }) => Answer::Refused { why: Refusal::NotUnderstood },
                    Some(ask) => hand_on(desk, ask).await,
                }
                .line();
            }
        }
        if !say(&mut out, &line).await {
            return;
        }
    }
}

async fn hand_on(desk: &Desk, ask: Ask) -> Answer {
    let by = "stop".to_owned();
    let request = match ask {
        Ask::Stop { agent, now: false } => Request::Stop { agent, by },
        Ask::Stop { agent, now: true } => Request::Kill { agent, by },
        Ask::Message { agent, text } => Request::Message { agent, text },
        Ask::Interrupt { agent } => Request::Interrupt { agent },
        Ask::Permission { agent, request, allow, answer } => {
            Request::Permission { agent, request, allow, answer }
        }
        Ask::Decided { agent, decision } => Request::Decided { agent, decision },
        Ask::Attach { .. } => return Answer::Refused { why: Refusal::NotUnderstood },
    };
    match desk.ask(request).await {
        Ok(()) => Answer::Done,
        Err(why) => Answer::Refused { why },
    }
}

/// Whether it arrived.
async fn say(out: &mut OwnedWriteHalf, line: &[u8]) -> bool {
    out.write_all(line).await.is_ok()
}

//! Long-lived children that are watched line by line and ended to their last descendant.

use super::badge::Mark;
use super::command::{Command, CommandError};
use super::identity::Identity;
use super::lines::{Line, LineSplitter};
use super::tree::{Patience, Tree};
use nix::sys::signal::Signal;
use std::cell::RefCell;
use std::future::poll_fn;
use std::os::unix::process::ExitStatusExt;
use std::pin::Pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::process::ChildStdin;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

/// How much is read at once, and how many such pieces may wait for whoever looks at them: of hundreds of children that
/// all talk, each has its turn soon, and little lies about.
const READ: usize = 16 << 10;
const PIECES: usize = 2;

/// How a child is watched.
#[derive(Debug, Clone)]
pub struct ChildOptions {
    /// How long it may take to end after `TERM`, before `KILL`.
    pub grace: Duration,
    /// How long we read on after its exit while a descendant keeps its pipes open.
    pub drain: Duration,
    /// The most bytes that are kept of one line of standard output; the rest is cut and counted.
    pub line_limit: usize,
    /// The same for standard error.
    pub error_line_limit: usize,
    /// What lines that wait for their reader may cost, over all children that share the budget.
    pub budget: Budget,
    /// A variable that is added to the child's environment, by which its descendants are recognised. Where the system
    /// can, they are by what follows from it too, so that they may clear their environment.
    pub mark: Option<(String, String)>,
    /// Whether it gets a pipe to read from; otherwise its input is `/dev/null`.
    pub streaming: bool,
}

impl Default for ChildOptions {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(5),
            drain: Duration::from_millis(200),
            line_limit: 16 << 20,
            error_line_limit: 64 << 10,
            budget: Budget::default(),
            mark: None,
            streaming: false,
        }
    }
}

/// Memory for lines that were read and not yet looked at. Clones share it.
#[derive(Debug, Clone)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    const UNIT: usize = 1 << 10;
    const UNITS: usize = (8 << 20) / Self::UNIT;

    async fn take(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let units = bytes.div_ceil(Self::UNIT).clamp(1, Self::UNITS / 2);
        Arc::clone(&self.0).acquire_many_owned(u32::try_from(units).ok()?).await.ok()
    }
}

impl Default for Budget {
    /// 8 MiB.
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(Self::UNITS)))
    }
}

/// Which of its two outputs a child wrote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Source {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// What a child did.
#[derive(Debug)]
pub enum ChildEvent {
    /// It wrote lines, in this order; those of one source keep their order, across the two there is none.
    Lines {
        /// Where to.
        source: Source,
        /// What.
        lines: Vec<Line>,
        /// The memory they are counted against, given back when the event is dropped.
        budget: Option<OwnedSemaphorePermit>,
    },
    /// It is gone, with everything below it, and everything it wrote was delivered. The last event.
    Exited(Exit),
}

/// How a child ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The strongest signal that we had sent before it was gone.
    pub sent: Option<i32>,
    /// How many descendants outlived it and had to be ended.
    pub leaked: usize,
    /// Whether somebody held its output open until the end, so that there may have been more to read.
    pub held: bool,
}

/// Why bytes could not be sent to a child.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    /// It has no input, or its input was closed.
    #[error("its input is closed")]
    Closed,
    /// It does not read what was sent before.
    #[error("it does not read its input")]
    Full,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Ask {
    Run,
    Stop,
    Kill,
}

/// A running child. Dropping it ends it and everything below it at once.
#[derive(Debug)]
pub struct Child {
    identity: Identity,
    events: mpsc::Receiver<ChildEvent>,
    input: Option<mpsc::Sender<Vec<u8>>>,
    ask: watch::Sender<Ask>,
}

impl Command {
    /// Starts it as a long-lived child without our terminal, in a session of its own (where the system has no
    /// `setsid` program, in a process group of its own). Must be called inside a tokio runtime.
    ///
    /// Input bytes that were set are ignored: a streaming child is written to by [`Child::write`].
    pub fn start(&self, options: &ChildOptions) -> Result<Child, CommandError> {
        let mark = options.mark.as_ref().map(|(key, value)| Mark::new(&format!("{key}={value}")));
        let mut command = self.detached(mark.as_ref().map(Mark::badge))?;
        command.stdin(if options.streaming {
            std::process::Stdio::piped()
        } else {
            std::process::Stdio::null()
        });
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        command.kill_on_drop(true);
        if let Some((key, value)) = &options.mark {
            command.env(key, value);
        }
        Tree::prepare();
        let mut child =
            command.spawn().map_err(|source| CommandError::Start { program: self.program_name(), source })?;
        // A child that was just started and not waited for has a number, and is at least a zombie.
        let pid = child.id().unwrap_or_default();
        let identity = Identity::of(pid).unwrap_or(Identity { pid, ..Identity::default() });
        let (sender, events) = mpsc::channel(PIECES);
        let (ask, asked) = watch::channel(Ask::Run);
        let (ending, ended) = watch::channel(false);
        let mut readers = Vec::new();
        if let Some(pipe) = child.stdout.take() {
            let splitter = LineSplitter::new(options.line_limit);
            readers.push(Reader::new(Source::Stdout, splitter, options, &sender, &ended).spawn(pipe));
        }
        if let Some(pipe) = child.stderr.take() {
            let splitter = LineSplitter::new(options.error_line_limit);
            readers.push(Reader::new(Source::Stderr, splitter, options, &sender, &ended).spawn(pipe));
        }
        let input = child.stdin.take().map(feed);
        let driver = Driver {
            tree: Tree::new(&identity, mark),
            asked,
            ending,
            grace: options.grace,
            drain: options.drain,
            sent: None,
        };
        tokio::spawn(async move {
            let exit = driver.drive(child, readers).await;
            // Whoever dropped the receiver does not want to know.
            let _ = sender.send(ChildEvent::Exited(exit)).await;
        });
        Ok(Child { identity, events, input, ask })
    }
}

impl Child {
    /// Which process it is.
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What it does next; `None` after [`ChildEvent::Exited`]. Safe to cancel.
    pub async fn next(&mut self) -> Option<ChildEvent> {
        self.events.recv().await
    }

    /// Sends `bytes` to its input. Does not wait until it reads them.
    pub fn write(&self, bytes: Vec<u8>) -> Result<(), InputError> {
        let input = self.input.as_ref().ok_or(InputError::Closed)?;
        input.try_send(bytes).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => InputError::Full,
            mpsc::error::TrySendError::Closed(_) => InputError::Closed,
        })
    }

    /// Closes its input once everything that was written is sent.
    pub fn close_input(&mut self) {
        self.input = None;
    }

    /// Whether its input can still be written to.
    pub const fn is_input_open(&self) -> bool {
        self.input.is_some()
    }

    /// Ends it and everything below it: `TERM`, patience, then `KILL`. Its output is delivered to the end.
    pub fn stop(&self) {
        self.ask.send_if_modified(|ask| std::mem::replace(ask, (*ask).max(Ask::Stop)) < Ask::Stop);
    }

    /// Ends it and everything below it now.
    pub fn kill(&self) {
        self.ask.send_replace(Ask::Kill);
    }
}

fn feed(mut pipe: ChildStdin) -> mpsc::Sender<Vec<u8>> {
    let (sender, mut pieces) = mpsc::channel::<Vec<u8>>(64);
    tokio::spawn(async move {
        while let Some(bytes) = pieces.recv().await {
            // A child that stopped reading says so by its exit.
            if pipe.write_all(&bytes).await.is_err() {
                break;
            }
        }
    });
    sender
}

/// Reads one output of a child to its end.
struct Reader {
    source: Source,
    splitter: LineSplitter,
    drain: Duration,
    budget: Budget,
    events: mpsc::Sender<ChildEvent>,
    ending: watch::Receiver<bool>,
}

impl Reader {
    fn new(
        source: Source,
        splitter: LineSplitter,
        options: &ChildOptions,
        events: &mpsc::Sender<ChildEvent>,
        ending: &watch::Receiver<bool>,
    ) -> Self {
        Self {
            source,
            splitter,
            drain: options.drain,
            budget: options.budget.clone(),
            events: events.clone(),
            ending: ending.clone(),
        }
    }

    /// The task's result: whether the pipe was still held by somebody when reading was given up.
    fn spawn(self, pipe: impl AsyncRead + Unpin + Send + 'static) -> JoinHandle<bool> {
        tokio::spawn(self.read(pipe))
    }

    async fn read(mut self, mut pipe: impl AsyncRead + Unpin) -> bool {
        let mut lines = Vec::new();
        let held = loop {
            let read = tokio::select! {
                biased;
                read = read_into(&mut pipe, &mut self.splitter, &mut lines) => read,
                () = given_up(&mut self.ending, self.drain) => break true,
            };
            if matches!(read, Ok(0) | Err(_)) {
                break false;
            }
            if !lines.is_empty() {
                self.deliver(std::mem::take(&mut lines)).await;
            }
        };
        if let Some(line) = self.splitter.finish() {
            self.deliver(vec![line]).await;
        }
        held
    }

    async fn deliver(&self, lines: Vec<Line>) {
        let bytes = lines.iter().map(|line| line.bytes.len() + size_of::<Line>()).sum();
        let budget = self.budget.take(bytes).await;
        // With nobody listening the pipe is still emptied, so that the child can end.
        let _ = self.events.send(ChildEvent::Lines { source: self.source, lines, budget }).await;
    }
}

/// Reads once, and returns how many bytes that were. All readers of a thread share what they read into: most of
/// hundreds of pipes have nothing to say at a time.
async fn read_into(
    pipe: &mut (impl AsyncRead + Unpin),
    splitter: &mut LineSplitter,
    lines: &mut Vec<Line>,
) -> std::io::Result<usize> {
    thread_local! {
        static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ].into());
    }
    poll_fn(|cx| {
        BUFFER.with_borrow_mut(|buffer| {
            let mut read = ReadBuf::new(buffer);
            std::task::ready!(Pin::new(&mut *pipe).poll_read(cx, &mut read))?;
            splitter.push(read.filled(), lines);
            Poll::Ready(Ok(read.filled().len()))
        })
    })
    .await
}

/// Resolves when the child's whole tree is gone and nothing more came for `drain`.
async fn given_up(ending: &mut watch::Receiver<bool>, drain: Duration) {
    let _ = ending.wait_for(|ending| *ending).await;
    sleep(drain).await;
}

/// Waits for a child, and ends it and its tree when asked.
struct Driver {
    tree: Tree,
    asked: watch::Receiver<Ask>,
    ending: watch::Sender<bool>,
    grace: Duration,
    drain: Duration,
    sent: Option<Signal>,
}

impl Driver {
    /// How often the tree is looked at while it is being ended.
    const TICK: Duration = Duration::from_millis(10);
    /// How long a process takes at most to become another program.
    const MOMENT: Duration = Duration::from_millis(4);

    async fn drive(mut self, mut child: tokio::process::Child, mut readers: Vec<JoinHandle<bool>>) -> Exit {
        let mut ladder = Ladder::default();
        let status = loop {
            let rung = ladder.next;
            tokio::select! {
                status = child.wait() => break status.ok(),
                ask = changed(&mut self.asked, ladder.ask) => self.step(&mut ladder, ask),
                () = due(rung) => self.step(&mut ladder, Ask::Kill),
            }
        };
        let sent = self.sent;
        self.tree.root_exited();
        let (finished, mut held) = self.drain_readers(&mut readers).await;
        let mut living = self.living().await;
        // The last processes of a pipeline end a moment after the first; that is no leak.
        let until = Instant::now() + self.drain;
        while !living.is_empty() && ladder.ask == Ask::Run && Instant::now() < until {
            sleep(Self::TICK).await;
            living = self.living().await;
        }
        let leaked = if sent.is_none() { living.len() } else { 0 };
        if !living.is_empty() && ladder.ask == Ask::Run {
            self.step(&mut ladder, Ask::Stop);
        }
        let mut patience: Option<Patience> = None;
        while !living.is_empty() && patience.as_mut().is_none_or(|patience| patience.holds(&living)) {
            let rung = ladder.next;
            tokio::select! {
                ask = changed(&mut self.asked, ladder.ask) => self.step(&mut ladder, ask),
                () = due(rung) => self.step(&mut ladder, Ask::Kill),
                () = sleep(Self::TICK) => {}
            }
            if ladder.ask == Ask::Kill {
                patience.get_or_insert_with(Patience::new);
            }
            living = self.living().await;
        }
        self.ending.send_replace(true);
        for reader in readers.drain(..) {
            held |= reader.await.unwrap_or(true);
        }
        held |= !finished && leaked > 0;
        Exit {
            code: status.and_then(|status| status.code()),
            signal: status.and_then(|status: ExitStatus| status.signal()),
            sent: sent.map(|signal| signal as i32),
            leaked,
            held,
        }
    }

    /// Who is left of the tree. Nobody only if that holds a moment later too: one that is just starting a program
    /// cannot be recognised. Then everybody is asked.
    async fn living(&mut self) -> Vec<u32> {
        let living = self.tree.living();
        if !living.is_empty() {
            return living;
        }
        sleep(Self::MOMENT).await;
        self.tree.scan()
    }

    /// Climbs to `ask`, or repeats the signal of the rung we stand on.
    fn step(&mut self, ladder: &mut Ladder, ask: Ask) {
        let now = Instant::now();
        match ask {
            Ask::Run => {}
            Ask::Stop => {
                self.tree.signal(Signal::SIGTERM);
                self.tree.signal(Signal::SIGCONT);
                self.sent = self.sent.or(Some(Signal::SIGTERM));
                ladder.next = Some(now + self.grace);
            }
            Ask::Kill => {
                self.tree.signal(Signal::SIGKILL);
                self.sent = Some(Signal::SIGKILL);
                ladder.next = Some(now + Self::TICK);
            }
        }
        ladder.ask = ask;
    }

    /// Gives the readers `drain` to reach the end of their pipes; says whether both did, and whether a pipe was
    /// held.
    async fn drain_readers(&self, readers: &mut Vec<JoinHandle<bool>>) -> (bool, bool) {
        let mut held = false;
        let until = Instant::now() + self.drain;
        while let Some(reader) = readers.last_mut() {
            match timeout(until.saturating_duration_since(Instant::now()), reader).await {
                Ok(result) => {
                    held |= result.unwrap_or(true);
                    readers.pop();
                }
                Err(_) => return (false, held),
            }
        }
        (true, held)
    }
}

/// How far up we are from asking to forcing, and when the next rung is due.
struct Ladder {
    ask: Ask,
    next: Option<Instant>,
}

impl Default for Ladder {
    fn default() -> Self {
        Self { ask: Ask::Run, next: None }
    }
}

/// Resolves with the new wish when it is stronger than `than`; a dropped [`Child`] wishes `Kill`.
async fn changed(asked: &mut watch::Receiver<Ask>, than: Ask) -> Ask {
    let wish = asked.wait_for(|ask| *ask > than).await.map(|ask| *ask);
    match wish {
        Ok(ask) => ask,
        Err(_) if than < Ask::Kill => Ask::Kill,
        Err(_) => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "child_tests.rs"]
mod tests;

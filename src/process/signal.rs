//! The signals that ask this process to end: the first means "cleanly", the second "now".

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What a signal asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupt {
    /// Start nothing more, end what runs, save, exit with 128 + this signal.
    Stop(i32),
    /// End everything now.
    Kill(i32),
}

impl Interrupt {
    /// The signal's number.
    pub const fn signal(self) -> i32 {
        match self {
            Self::Stop(signal) | Self::Kill(signal) => signal,
        }
    }
}

/// Listens for `SIGINT`, `SIGTERM` and `SIGHUP` instead of dying of them.
#[derive(Debug)]
pub struct Interrupts {
    int: Signal,
    term: Signal,
    hup: Signal,
    first: Option<i32>,
}

impl Interrupts {
    /// Starts to listen. From here on these signals end nothing by themselves: call it before the first child is
    /// started, inside a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            int: signal(SignalKind::interrupt())?,
            term: signal(SignalKind::terminate())?,
            hup: signal(SignalKind::hangup())?,
            first: None,
        })
    }

    /// The next signal: [`Interrupt::Stop`] once, then [`Interrupt::Kill`]. Safe to cancel.
    pub async fn next(&mut self) -> Interrupt {
        let number = tokio::select! {
            _ = self.int.recv() => libc_number(SignalKind::interrupt()),
            _ = self.term.recv() => libc_number(SignalKind::terminate()),
            _ = self.hup.recv() => libc_number(SignalKind::hangup()),
        };
        match self.first {
            None => {
                self.first = Some(number);
                Interrupt::Stop(number)
            }
            Some(first) => Interrupt::Kill(first),
        }
    }

    /// The first signal that arrived, which the exit code names.
    pub const fn first(&self) -> Option<i32> {
        self.first
    }
}

/// Whoever works without waiting for signals asks this now and then whether one came.
///
/// As long as somebody holds a [`Heed`], a first signal is only noted; at any other time, and the second time, it ends
/// the process as it would have without us.
#[derive(Debug, Clone)]
pub struct Watch(Arc<Noted>);

#[derive(Debug, Default)]
struct Noted {
    signal: AtomicI32,
    heeded: AtomicUsize,
}

/// Work that ends by itself, cleanly, when a signal is noted.
#[derive(Debug)]
pub struct Heed(Arc<Noted>);

impl Watch {
    /// Starts to listen, in a thread of its own, until the process ends.
    pub fn begin() -> io::Result<Self> {
        let noted = Arc::new(Noted::default());
        let watch = Self(Arc::clone(&noted));
        let (ready, begun) = std::sync::mpsc::channel();
        let listen = move || {
            let runtime = super::runtime();
            let listening = runtime.and_then(|runtime| {
                let interrupts = runtime.block_on(async { Interrupts::listen() })?;
                Ok((runtime, interrupts))
            });
            let (runtime, mut interrupts) = match listening {
                Ok(listening) => listening,
                Err(error) => return drop(ready.send(Err(error))),
            };
            let _ = ready.send(Ok(()));
            runtime.block_on(async {
                loop {
                    let signal = interrupts.next().await;
                    noted.signal.store(signal.signal(), Ordering::SeqCst);
                    if noted.heeded.load(Ordering::SeqCst) == 0 {
                        end(signal.signal());
                    }
                }
            });
        };
        std::thread::Builder::new().name("signals".to_owned()).spawn(listen)?;
        begun.recv().map_err(|_| io::Error::other("the thread that listens for signals is gone"))??;
        Ok(watch)
    }

    /// Begins work that ends by itself when [`Watch::signal`] says so. Dropping it ends that.
    pub fn heed(&self) -> Heed {
        self.0.heeded.fetch_add(1, Ordering::SeqCst);
        Heed(Arc::clone(&self.0))
    }

    /// The signal that came, if one did.
    pub fn signal(&self) -> Option<i32> {
        Some(self.0.signal.load(Ordering::SeqCst)).filter(|&signal| signal != 0)
    }
}

impl Drop for Heed {
    fn drop(&mut self) {
        self.0.heeded.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Ends the process as a shell reports one that died of `signal`.
#[expect(clippy::exit, reason = "what the signal would have done if nobody listened")]
fn end(signal: i32) {
    std::process::exit(128 + signal);
}

/// What happens to the terminal that a program has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Somebody wants to have the terminal back for a while (Ctrl-Z): [`Changes::pause`] lets them.
    Suspended,
    /// It has another size now.
    Resized,
}

/// Listens for what happens to the terminal, instead of being stopped by it.
#[derive(Debug)]
pub struct Changes {
    stop: Signal,
    size: Signal,
}

impl Changes {
    /// Starts to listen. Must be called inside a tokio runtime.
    pub fn listen() -> io::Result<Self> {
        let stop = signal(SignalKind::from_raw(nix::sys::signal::Signal::SIGTSTP as i32))?;
        Ok(Self { stop, size: signal(SignalKind::window_change())? })
    }

    /// What happens next. Safe to cancel.
    pub async fn next(&mut self) -> Change {
        tokio::select! {
            _ = self.stop.recv() => Change::Suspended,
            _ = self.size.recv() => Change::Resized,
        }
    }

    /// Stops this process until somebody lets it go on. Does nothing where nobody could: when no shell is above us.
    pub fn pause() {
        let own = nix::unistd::getpgrp();
        if nix::unistd::getsid(None).is_ok_and(|session| session != own) {
            let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGSTOP);
        }
    }
}

/// Whether this process may read the terminal at `stream` and change how it works: not while a shell has it in the
/// background.
pub fn is_in_front(stream: impl std::os::fd::AsFd) -> bool {
    nix::unistd::tcgetpgrp(stream).is_ok_and(|front| front == nix::unistd::getpgrp())
}

const fn libc_number(kind: SignalKind) -> i32 {
    kind.as_raw_value()
}

//! The signals that ask this process to end: the first means "cleanly", the second "now".

use std::io;
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

const fn libc_number(kind: SignalKind) -> i32 {
    kind.as_raw_value()
}

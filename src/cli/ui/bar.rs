//! A bar for something that is counted, and a sign of life for what is not.

use super::Ui;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

/// What takes less than this is not worth a word.
const GLANCE: Duration = Duration::from_millis(250);

/// A bar for something that is counted, from the moment that it takes longer than a glance. Gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Bar(Option<ProgressBar>);

impl Bar {
    /// A bar of `total`; `what` says what is being done.
    pub(crate) fn new(ui: &Ui, what: &str, total: usize) -> Self {
        if !std::io::stderr().is_terminal() || ui.is_quiet() {
            return Self(None);
        }
        let template = format!("{what} {{bar:24}} {{pos}}/{{len}}");
        let style = ProgressStyle::with_template(&template).expect("a template of plain words");
        let target = ProgressDrawTarget::stderr_with_hz(12);
        let bar = ProgressBar::with_draw_target(Some(u64::try_from(total).unwrap_or(u64::MAX)), target);
        Self(Some(bar.with_style(style)))
    }

    /// Says how much is done.
    pub(crate) fn set(&self, done: usize) {
        if let Some(bar) = &self.0 {
            bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Says what is being done, from the moment that it takes longer than a glance. Gone when it is dropped; nothing else is
/// to be printed before.
#[derive(Debug)]
pub(crate) struct Busy(Option<(Sender<()>, JoinHandle<()>)>);

impl Busy {
    /// `what` says what is being done: `syncing with origin`.
    pub(crate) fn new(ui: &Ui, what: String) -> Self {
        if !std::io::stderr().is_terminal() || ui.is_quiet() {
            return Self(None);
        }
        let (sender, done) = channel();
        let wait = move || {
            if done.recv_timeout(GLANCE) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            let style =
                ProgressStyle::with_template("{spinner} {msg} {elapsed}").expect("a template of plain words");
            let bar =
                ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr_with_hz(12)).with_style(style);
            bar.set_message(what);
            bar.tick();
            while done.recv_timeout(Duration::from_millis(120)) == Err(RecvTimeoutError::Timeout) {
                bar.tick();
            }
            bar.finish_and_clear();
        };
        // Without a thread nothing is said.
        let thread = std::thread::Builder::new().spawn(wait).ok();
        Self(thread.map(|thread| (sender, thread)))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        if let Some((sender, thread)) = self.0.take() {
            drop(sender);
            let _ = thread.join();
        }
    }
}

//! A bar for something that is counted.

use super::Ui;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;

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

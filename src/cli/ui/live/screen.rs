//! The part of the terminal that is drawn again and again, below what scrolls.

use super::lines::Lines;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::Write;

/// Columns and rows when nobody says how many there are.
const SIZE: (usize, usize) = (80, 24);
/// How often it is drawn in a second, at most.
const HERTZ: u8 = 15;

/// What is drawn.
#[derive(Debug, Default)]
pub(super) struct Screen {
    /// Nothing while nothing is drawn.
    bar: Option<ProgressBar>,
    shown: String,
    /// How often the same is sent once more: a change that came too soon after another one is not drawn.
    again: u8,
    hidden: bool,
}

impl Screen {
    /// Whether there is a terminal that can be drawn on.
    pub(super) fn is_there() -> bool {
        !ProgressDrawTarget::stderr().is_hidden()
    }

    /// The terminal's columns and rows.
    pub(super) fn size() -> (usize, usize) {
        let size = console::Term::stderr().size_checked();
        size.map_or(SIZE, |(rows, columns)| (usize::from(columns), usize::from(rows)))
    }

    /// Shows these lines; nothing is sent if they are there already.
    pub(super) fn draw(&mut self, lines: &[String]) {
        if self.hidden {
            return;
        }
        if lines.is_empty() {
            return self.clear();
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style = ProgressStyle::with_template("{msg}").expect("a template of one word");
            let target = ProgressDrawTarget::term_like_with_hz(Box::new(Lines::new()), HERTZ);
            let bar = ProgressBar::with_draw_target(None, target);
            bar.with_style(style)
        });
        let text = lines.join("\n");
        if text != self.shown {
            bar.set_message(text.clone());
            (self.shown, self.again) = (text, 2);
        } else if let Some(again) = self.again.checked_sub(1) {
            self.again = again;
            bar.tick();
        }
    }

    /// Writes lines above it. Whether somebody still reads them.
    pub(super) fn print(&self, text: &str) -> bool {
        let write = || {
            let mut out = std::io::stdout().lock();
            out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_ok()
        };
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
        }
    }

    /// Takes it off the screen until [`Screen::show`].
    pub(super) fn hide(&mut self) {
        self.hidden = true;
        self.clear();
    }

    /// Shows it again.
    pub(super) const fn show(&mut self) {
        self.hidden = false;
    }

    /// Wipes the terminal: where its lines stand after its size changed nobody can tell.
    pub(super) fn wipe(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        self.shown.clear();
        // A terminal that is gone shows nothing.
        let _ = std::io::stderr().lock().write_all(b"\x1b[H\x1b[J");
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        self.shown.clear();
    }
}

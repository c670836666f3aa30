//! The terminal as indicatif draws on it, with a line end behind each line.
//!
//! indicatif fills each line with blanks up to the last column, so that the next one begins by itself. To a terminal
//! all of that is one long line: it would be copied as one, and broken anew when the terminal's width changes.

use console::Term;
use indicatif::TermLike;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

/// The terminal at standard error.
#[derive(Debug)]
pub(super) struct Lines {
    term: Term,
    /// Whether a line was written whole: another one begins below it.
    whole: AtomicBool,
}

impl Lines {
    pub(super) fn new() -> Self {
        Self { term: Term::buffered_stderr(), whole: AtomicBool::new(false) }
    }

    /// The cursor is moved otherwise.
    fn moved(&self) -> &Term {
        self.whole.store(false, Ordering::Relaxed);
        &self.term
    }
}

impl TermLike for Lines {
    fn width(&self) -> u16 {
        self.term.size().1
    }

    fn height(&self) -> u16 {
        self.term.size().0
    }

    fn move_cursor_up(&self, n: usize) -> io::Result<()> {
        self.moved().move_cursor_up(n)
    }

    fn move_cursor_down(&self, n: usize) -> io::Result<()> {
        self.moved().move_cursor_down(n)
    }

    fn move_cursor_right(&self, n: usize) -> io::Result<()> {
        self.moved().move_cursor_right(n)
    }

    fn move_cursor_left(&self, n: usize) -> io::Result<()> {
        self.moved().move_cursor_left(n)
    }

    fn write_line(&self, s: &str) -> io::Result<()> {
        self.moved().write_line(s)
    }

    fn write_str(&self, s: &str) -> io::Result<()> {
        if s.bytes().all(|byte| byte == b' ') {
            self.whole.store(true, Ordering::Relaxed);
            return Ok(());
        }
        if self.whole.swap(false, Ordering::Relaxed) {
            self.term.write_str("\r\n")?;
        }
        self.term.write_str(s)
    }

    fn clear_line(&self) -> io::Result<()> {
        self.moved().clear_line()
    }

    fn flush(&self) -> io::Result<()> {
        self.moved().flush()
    }
}

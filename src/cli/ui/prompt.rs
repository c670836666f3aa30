//! Questions to the person at the terminal.
//!
//! Lines are read as the terminal gives them, without raw mode: whoever ends the program at a question (Ctrl-C, a
//! signal) finds the terminal as it was, and nobody has to put it back.

use super::super::error::CliError;
use super::{Label, Ui};
use std::fmt::Write as _;
use std::io::BufRead;

/// An answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply<T> {
    /// What the person chose.
    Chosen(T),
    /// The person turned away from the question (Ctrl-D).
    Cancelled,
    /// There is nobody to ask.
    NoTerminal,
}

impl Ui {
    /// Asks yes or no, with `default` for a bare Enter.
    pub(crate) fn confirm(&self, question: &str, default: bool) -> Result<Reply<bool>, CliError> {
        if !self.is_interactive() {
            return Ok(Reply::NoTerminal);
        }
        let choices = if default { "[Y/n]" } else { "[y/N]" };
        loop {
            let Reply::Chosen(line) = self.input(&format!("{question} {choices}"))? else {
                return Ok(Reply::Cancelled);
            };
            match line.trim().to_lowercase().as_str() {
                "" => return Ok(Reply::Chosen(default)),
                "y" | "yes" => return Ok(Reply::Chosen(true)),
                "n" | "no" => return Ok(Reply::Chosen(false)),
                _ => {}
            }
        }
    }

    /// Asks which of `items` by its number, with `default` for a bare Enter.
    pub(crate) fn select(
        &self,
        question: &str,
        items: &[String],
        default: usize,
    ) -> Result<Reply<usize>, CliError> {
        if !self.is_interactive() {
            return Ok(Reply::NoTerminal);
        }
        // Not narration: a question is heard under `--quiet` too.
        let paint = self.err_painter();
        let mut text = format!("{}\n", paint.paint(Label::Title, question));
        for (number, item) in items.iter().enumerate() {
            let number = paint.paint(Label::Title, (number + 1).to_string());
            let _ = writeln!(text, "  {number}  {}", paint.paint(Label::Plain, item));
        }
        self.stderr(&text);
        loop {
            let Reply::Chosen(line) =
                self.input(&format!("[1-{}, {} by default]", items.len(), default + 1))?
            else {
                return Ok(Reply::Cancelled);
            };
            match line.trim().parse::<usize>() {
                Ok(number) if (1..=items.len()).contains(&number) => return Ok(Reply::Chosen(number - 1)),
                Err(_) if line.trim().is_empty() => return Ok(Reply::Chosen(default)),
                _ => {}
            }
        }
    }

    /// Asks for a line of text.
    pub(crate) fn input(&self, question: &str) -> Result<Reply<String>, CliError> {
        if !self.is_interactive() {
            return Ok(Reply::NoTerminal);
        }
        self.ask(question);
        let mut line = String::new();
        match std::io::stdin().lock().read_line(&mut line) {
            Ok(0) => {
                // Ctrl-D leaves the cursor behind the question.
                self.stderr("\n");
                Ok(Reply::Cancelled)
            }
            Ok(_) => Ok(Reply::Chosen(line.trim_end_matches(['\n', '\r']).to_owned())),
            Err(error) => Err(CliError::failed("failed to ask on the terminal", error)),
        }
    }
}

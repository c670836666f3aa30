//! Questions to the person at the terminal.
//!
//! Lines are read as the terminal gives them, without raw mode: whoever ends the program at a question (Ctrl-C, a
//! signal) finds the terminal as it was, and nobody has to put it back.

use super::super::error::CliError;
use super::Ui;
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

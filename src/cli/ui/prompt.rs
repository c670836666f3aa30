//! Questions to the person at the terminal.

use super::super::error::CliError;
use super::Ui;

/// An answer to a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reply<T> {
    /// What the person chose.
    Chosen(T),
    /// The person turned away from the question (Escape, Ctrl-C).
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
        let answer = dialoguer::Confirm::new().with_prompt(question).default(default).interact_opt();
        reply(answer)
    }

    /// Asks which of `items`, starting at `default`.
    pub(crate) fn select(
        &self,
        question: &str,
        items: &[String],
        default: usize,
    ) -> Result<Reply<usize>, CliError> {
        if !self.is_interactive() {
            return Ok(Reply::NoTerminal);
        }
        reply(dialoguer::Select::new().with_prompt(question).items(items).default(default).interact_opt())
    }

    /// Asks for a line of text.
    pub(crate) fn input(&self, question: &str) -> Result<Reply<String>, CliError> {
        if !self.is_interactive() {
            return Ok(Reply::NoTerminal);
        }
        let answer =
            dialoguer::Input::<String>::new().with_prompt(question).allow_empty(true).interact_text();
        reply(answer.map(Some))
    }
}

fn reply<T>(answer: Result<Option<T>, dialoguer::Error>) -> Result<Reply<T>, CliError> {
    match answer {
        Ok(Some(value)) => Ok(Reply::Chosen(value)),
        Ok(None) => Ok(Reply::Cancelled),
        Err(dialoguer::Error::IO(error)) if error.kind() == std::io::ErrorKind::Interrupted => {
            Ok(Reply::Cancelled)
        }
        Err(error) => Err(CliError::failed("failed to ask on the terminal", error)),
    }
}

//! Labels for words, what they look like, and how characters that would not be seen are shown.

use crate::agent::is_hidden;
use clap::builder::styling::{AnsiColor, Effects, Styles};
use console::Style;
use std::borrow::Cow;
use std::fmt::Write as _;

/// The styles of help texts.
pub(super) const HELP_STYLES: Styles = Styles::styled()
    .header(AnsiColor::Yellow.on_default().effects(Effects::BOLD))
    .usage(AnsiColor::Yellow.on_default().effects(Effects::BOLD))
    .literal(AnsiColor::Green.on_default())
    .placeholder(AnsiColor::Cyan.on_default());

/// What a piece of text is; how it looks is decided here alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Label {
    /// An id of any entity.
    Id,
    /// An agent's name.
    Agent,
    /// A branch or another ref.
    Branch,
    /// A commit or another object.
    Commit,
    /// A path.
    Path,
    /// A title or another thing to be read first.
    Title,
    /// A column's or a field's name.
    Heading,
    /// What matters less: ages, counts of nothing.
    Dim,
    /// Waiting or not begun.
    Waiting,
    /// At work.
    Running,
    /// Done well.
    Good,
    /// Went wrong.
    Bad,
    /// Wants attention.
    Attention,
    /// The word `error`.
    Error,
    /// The word `warning`.
    Warning,
    /// The word `hint`.
    Hint,
    /// An added line.
    Added,
    /// What is new in an added line.
    AddedWord,
    /// A removed line.
    Removed,
    /// Plain text.
    Plain,
}

/// Turns labels into looks, or leaves them out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Painter {
    enabled: bool,
}

impl Painter {
    /// A painter that uses colours if `enabled`.
    pub(crate) const fn new(enabled: bool) -> Self {
        Self { enabled }
    }

    /// `text` as what `label` looks like; control characters in it are made visible.
    pub(crate) fn paint(self, label: Label, text: impl AsRef<str>) -> String {
        self.dress(label, printable(text.as_ref()))
    }

    /// `text` in the colour of the nth of several that are shown side by side.
    pub(crate) fn paint_nth(self, number: usize, text: &str) -> String {
        let text = printable(text);
        if !self.enabled || text.is_empty() {
            return text.into_owned();
        }
        let style = Style::new().force_styling(true);
        let style = match number % 6 {
            0 => style.cyan(),
            1 => style.magenta(),
            2 => style.green(),
            3 => style.blue(),
            4 => style.yellow(),
            _ => style.red(),
        };
        style.apply_to(text).to_string()
    }

    /// The same for a line of code, in which tabs stay.
    pub(crate) fn paint_code(self, label: Label, line: &str) -> String {
        self.dress(label, Cow::Owned(printable_code(line)))
    }

    fn dress(self, label: Label, text: Cow<'_, str>) -> String {
        if !self.enabled || label == Label::Plain || text.is_empty() {
            return text.into_owned();
        }
        look(label).force_styling(true).apply_to(text).to_string()
    }
}

fn look(label: Label) -> Style {
    let style = Style::new();
    match label {
        Label::Id | Label::Warning => style.yellow(),
        Label::Agent => style.cyan().bold(),
        Label::Branch | Label::Added | Label::Good => style.green(),
        Label::AddedWord => style.green().bold().underlined(),
        Label::Commit => style.yellow().dim(),
        Label::Path => style.magenta(),
        Label::Title => style.bold(),
        Label::Heading | Label::Dim => style.dim(),
        Label::Waiting => style.blue(),
        Label::Running | Label::Hint => style.cyan(),
        Label::Bad | Label::Removed => style.red(),
        Label::Error => style.red().bold(),
        Label::Attention => style.yellow().bold(),
        Label::Plain => style,
    }
}

/// `text` with everything that could move the cursor, change colours or reorder what is read made visible: control
/// characters (newline too), Unicode's bidirectional controls, and other invisible characters. Tab becomes a space.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    // Nearly everything is printable ASCII, and bytes are quicker to look through than characters.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) || !text.chars().any(is_hidden) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '\t' => safe.push(' '),
            c if is_hidden(c) => {
                let _ = write!(safe, "<U+{:04X}>", u32::from(c));
            }
            c => safe.push(c),
        }
    }
    Cow::Owned(safe)
}

/// The same for a line of code, in which tabs stay.
pub(crate) fn printable_code(text: &str) -> String {
    text.split('\t').map(printable).collect::<Vec<_>>().join("\t")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_text_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[31mb\u{202e}c\rd\te"), "a<U+001B>[31mb<U+202E>c<U+000D>d e");
        assert!(matches!(printable("größe ✓ 漢字"), Cow::Borrowed(_)));
    }

    #[test]
    fn labels_vanish_without_colours() {
        assert_eq!(Painter::new(false).paint(Label::Id, "g123"), "g123");
        assert_eq!(Painter::new(true).paint(Label::Id, "g123"), "\u{1b}[33mg123\u{1b}[0m");
    }
}

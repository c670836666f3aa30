//! The terminal: stdout is the answer, stderr the narration.
//!
//! Text is written with labels that say what a word is ([`Label`]), never with colours. Whatever did not come from
//! this program passes [`printable`] before it reaches the terminal.

mod bar;
pub(crate) mod diff;
mod keys;
mod live;
mod pager;
mod prompt;
mod style;
mod table;
mod wrap;

pub(crate) use bar::{Bar, Busy};
pub(crate) use keys::{Key, Keyboard, edit};
pub(crate) use live::{Actor, Live, commits};
pub(crate) use prompt::Reply;
pub(crate) use style::{Label, Painter, printable};
pub(crate) use table::{Align, Table};
pub(crate) use wrap::{cut, width, wrap};

use super::env::Env;
use super::error::CliError;
use std::ffi::OsString;
use std::io::{IsTerminal, Write};

/// The styles of help texts.
pub(crate) const HELP_STYLES: clap::builder::Styles = style::HELP_STYLES;

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum ColorWhen {
    /// On a terminal, unless NO_COLOR is set
    #[default]
    Auto,
    /// Always
    Always,
    /// Never
    Never,
}

impl ColorWhen {
    /// What the command line says, looked up before it is parsed: parse errors have colours too.
    pub(crate) fn prescan(args: &[OsString]) -> Self {
        let mut when = Self::Auto;
        let mut args = args.iter().skip(1).filter_map(|arg| arg.to_str()).take_while(|arg| *arg != "--");
        while let Some(arg) = args.next() {
            let value = if arg == "--color" { args.next() } else { arg.strip_prefix("--color=") };
            match value {
                Some("always") => when = Self::Always,
                Some("never") => when = Self::Never,
                _ => {}
            }
        }
        when
    }

    const fn decide(self, no_color: bool, terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => terminal && !no_color,
        }
    }
}

/// The terminal, or what takes its place.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about the streams")]
pub(crate) struct Ui {
    out: Painter,
    err: Painter,
    out_is_terminal: bool,
    interactive: bool,
    quiet: bool,
    silent: bool,
    columns: Option<u16>,
    pager: Option<pager::Pager>,
}

impl Ui {
    /// The process's own streams.
    pub(crate) fn new(env: &Env, when: ColorWhen, quiet: bool, pager: bool) -> Self {
        let out_is_terminal = std::io::stdout().is_terminal();
        let err_is_terminal = std::io::stderr().is_terminal();
        Self {
            out: Painter::new(when.decide(env.no_color(), out_is_terminal)),
            err: Painter::new(when.decide(env.no_color(), err_is_terminal)),
            out_is_terminal,
            interactive: err_is_terminal && std::io::stdin().is_terminal(),
            quiet,
            silent: false,
            columns: env.columns(),
            pager: (pager && out_is_terminal).then(|| pager::Pager::from_env(env)),
        }
    }

    /// Streams without colours, for errors before anything is known.
    pub(crate) fn plain() -> Self {
        Self {
            out: Painter::new(false),
            err: Painter::new(false),
            out_is_terminal: false,
            interactive: false,
            quiet: false,
            silent: false,
            columns: None,
            pager: None,
        }
    }

    /// No streams at all: nothing is said, not even warnings.
    pub(crate) fn silent() -> Self {
        Self { silent: true, quiet: true, ..Self::plain() }
    }

    /// Writes part of the answer to stdout, as it is.
    pub(crate) fn print(&self, text: &str) -> Result<(), CliError> {
        self.print_bytes(text.as_bytes())
    }

    /// Writes part of the answer to stdout, as it is.
    #[expect(clippy::unused_self, reason = "printing goes through the terminal's owner")]
    pub(crate) fn print_bytes(&self, bytes: &[u8]) -> Result<(), CliError> {
        let mut out = std::io::stdout().lock();
        out.write_all(bytes)?;
        out.flush()?;
        Ok(())
    }

    /// Writes the whole answer, through the user's pager if it is longer than the terminal.
    pub(crate) fn page(&self, text: &str) -> Result<(), CliError> {
        if let Some(pager) = &self.pager
            && text.bytes().filter(|&b| b == b'\n').count() >= self.rows()
            && pager.show(text)?
        {
            return Ok(());
        }
        self.print(text)
    }

    /// Says that something is being done that may take a while, as long as what is returned is held; see [`Busy`].
    #[must_use]
    pub(crate) fn busy(&self, what: impl Into<String>) -> Busy {
        Busy::new(self, what.into())
    }

    /// Says something about what is being done, on stderr; silent under `--quiet`.
    pub(crate) fn note(&self, message: impl AsRef<str>) {
        if !self.quiet {
            self.stderr(&format!("{}\n", message.as_ref()));
        }
    }

    /// Warns on stderr.
    pub(crate) fn warn(&self, message: impl AsRef<str>) {
        self.tell(Label::Warning, "warning", message.as_ref());
    }

    /// Tells what could be done next, on stderr; silent under `--quiet`.
    pub(crate) fn hint(&self, message: impl AsRef<str>) {
        if !self.quiet {
            self.tell(Label::Hint, "hint", message.as_ref());
        }
    }

    /// `word: message` on stderr, with control characters made visible; further lines are indented.
    pub(crate) fn tell(&self, label: Label, word: &str, message: &str) {
        let mut text = format!("{}: ", self.err.paint(label, word));
        for (number, line) in message.lines().enumerate() {
            if number > 0 {
                text.push_str("  ");
            }
            text.push_str(&printable(line));
            text.push('\n');
        }
        self.stderr(&text);
    }

    /// Writes a question; the answer is typed behind it. Heard under `--quiet` too.
    fn ask(&self, question: &str) {
        self.stderr(&format!("{} ", self.err.paint(Label::Title, question)));
    }

    fn stderr(&self, text: &str) {
        if self.silent {
            return;
        }
        // Nobody can be told that stderr is gone.
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }

    /// Paints for stdout.
    pub(crate) const fn painter(&self) -> Painter {
        self.out
    }

    /// Paints for stderr.
    pub(crate) const fn err_painter(&self) -> Painter {
        self.err
    }

    /// Whether stdout is a terminal.
    pub(crate) const fn is_terminal(&self) -> bool {
        self.out_is_terminal
    }

    /// Whether narration goes to a terminal, where somebody may hear a bell.
    pub(crate) fn has_terminal(&self) -> bool {
        !self.silent && std::io::stderr().is_terminal()
    }

    /// Sends the terminal something that takes no room on it: a bell, a notification. One that cannot be reached is
    /// none.
    pub(crate) fn signal(&self, sequence: &str) {
        self.stderr(sequence);
    }

    /// Whether a person can be asked: stdin and stderr are a terminal.
    pub(crate) const fn is_interactive(&self) -> bool {
        self.interactive
    }

    /// Whether narration is off.
    pub(crate) const fn is_quiet(&self) -> bool {
        self.quiet
    }

    /// The columns to fit lines into; `None` when the answer goes to a file or another program.
    pub(crate) fn columns(&self) -> Option<usize> {
        if let Some(columns) = self.columns {
            return Some(columns.into());
        }
        if !self.out_is_terminal {
            return None;
        }
        console::Term::stdout().size_checked().map(|(_, columns)| columns.into())
    }

    #[expect(clippy::unused_self, reason = "one day the terminal may be another one")]
    fn rows(&self) -> usize {
        console::Term::stdout().size_checked().map_or(usize::MAX, |(rows, _)| rows.into())
    }
}

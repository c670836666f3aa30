//! A line that is typed while other things are shown: keys one by one, without echo.
//!
//! The terminal is put back when the value is dropped. Ctrl-C stays a signal.

use crate::cli::error::CliError;
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use std::io::Read;
use tokio::sync::mpsc;

/// What somebody did on the keyboard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Key {
    /// The line reads so now.
    Typing(String),
    /// This line was entered.
    Line(String),
    /// Ctrl-D on an empty line, or the terminal is gone.
    End,
}

/// The keyboard, as long as the value lives.
#[derive(Debug)]
pub(crate) struct Keyboard {
    before: Termios,
    keys: mpsc::Receiver<Key>,
}

impl Keyboard {
    /// Takes the keyboard of the terminal at standard input.
    pub(crate) fn take() -> Result<Self, CliError> {
        let failed = |errno: nix::errno::Errno| CliError::failed("failed to use the keyboard", errno);
        let before = tcgetattr(std::io::stdin()).map_err(failed)?;
        let mut ours = before.clone();
        ours.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        // Ctrl-Z would leave the terminal to the shell as it is now.
        ours.control_chars[SpecialCharacterIndices::VSUSP as usize] = 0;
        ours.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        ours.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &ours).map_err(failed)?;
        let (sender, keys) = mpsc::channel(16);
        // It ends with the process: what reads a terminal cannot be called back.
        std::thread::spawn(move || read(&sender));
        Ok(Self { before, keys })
    }

    /// What somebody did next. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Key {
        self.keys.recv().await.unwrap_or(Key::End)
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing put back.
        let _ = tcsetattr(std::io::stdin(), SetArg::TCSADRAIN, &self.before);
    }
}

fn read(sender: &mpsc::Sender<Key>) {
    let mut line = Line::default();
    let mut buffer = [0; 1024];
    while let Ok(read @ 1..) = std::io::stdin().lock().read(&mut buffer) {
        for &byte in &buffer[..read] {
            if let Some(key) = line.byte(byte)
                && sender.blocking_send(key).is_err()
            {
                return;
            }
        }
    }
}

/// A line that is being typed.
#[derive(Debug, Default)]
struct Line {
    text: String,
    /// The bytes of a character that is not whole yet.
    part: Vec<u8>,
    escape: Escape,
}

/// How far into an escape sequence (an arrow, a function key) we are.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Escape {
    #[default]
    None,
    Begun,
    Inside,
}

impl Line {
    fn byte(&mut self, byte: u8) -> Option<Key> {
        match (self.escape, byte) {
            (Escape::Begun, b'[' | b'O') => {
                self.escape = Escape::Inside;
                return None;
            }
            (Escape::Begun, _) | (Escape::Inside, 0x40..=0x7e) => {
                self.escape = Escape::None;
                return None;
            }
            (Escape::Inside, _) => return None,
            (Escape::None, _) => {}
        }
        match byte {
            b'\n' | b'\r' => return Some(Key::Line(std::mem::take(&mut self.text))),
            0x04 if self.text.is_empty() => return Some(Key::End),
            0x08 | 0x7f => drop(self.text.pop()),
            // Ctrl-U and Ctrl-W.
            0x15 => self.text.clear(),
            0x17 => {
                let kept = self.text.trim_end().rfind(' ').map_or(0, |at| at + 1);
                self.text.truncate(kept);
            }
            0x1b => {
                self.escape = Escape::Begun;
                return None;
            }
            b'\t' => self.text.push(' '),
            0x20..=0x7e => self.text.push(char::from(byte)),
            0x80.. => {
                self.part.push(byte);
                match std::str::from_utf8(&self.part) {
                    Ok(whole) => {
                        self.text.push_str(whole);
                        self.part.clear();
                    }
                    Err(error) if error.error_len().is_none() => return None,
                    Err(_) => self.part.clear(),
                }
            }
            _ => return None,
        }
        Some(Key::Typing(self.text.clone()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_typed_and_mended() {
        let typed = |bytes: &[u8]| {
            let mut line = Line::default();
            bytes.iter().filter_map(|&byte| line.byte(byte)).last()
        };
        let line = |text: &str| Some(Key::Line(text.to_owned()));
        assert_eq!(typed(b"hello\n"), line("hello"));
        assert_eq!(typed("ein Käfer 🦀\n".as_bytes()), line("ein Käfer 🦀"));
        assert_eq!(typed("Käs\u{7f}\u{7f}\n".as_bytes()), line("K"));
        assert_eq!(typed(b"one two  \x17three\x1b[A\x1b[1;5D\x1bOP\r"), line("one three"));
        assert_eq!(typed(b"gone\x15\xff\xfe\x00\x1a\n"), line(""));
        assert_eq!(typed(b"x\x04"), Some(Key::Typing("x".to_owned())));
        assert_eq!(typed(b"\x04"), Some(Key::End));
    }
}

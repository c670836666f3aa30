//! The keyboard while other things are shown: keys one by one, without echo.
//!
//! The terminal is put back when the value is dropped, whatever it is dropped by. Ctrl-C and Ctrl-Z stay signals.

use crate::cli::error::CliError;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::termios::{LocalFlags, SetArg, SpecialCharacterIndices, Termios, tcgetattr, tcsetattr};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read};
use std::os::fd::AsFd;
use std::thread::JoinHandle;
use tokio::sync::mpsc;

/// A key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Key {
    /// A character.
    Char(char),
    /// Return.
    Enter,
    /// The character before goes.
    Erase,
    /// The word before goes (Ctrl-W).
    EraseWord,
    /// The line goes (Ctrl-U).
    EraseLine,
    /// The arrow up, or Shift-Tab.
    Up,
    /// The arrow down, or Tab.
    Down,
    /// Escape.
    Escape,
    /// Ctrl-D.
    End,
    /// The terminal is gone.
    Gone,
}

/// The keyboard, as long as the value lives.
#[derive(Debug)]
pub(crate) struct Keyboard {
    terminal: File,
    before: Termios,
    ours: Termios,
    keys: mpsc::Receiver<Key>,
    /// Dropped to end the thread that reads: whoever asks something afterwards finds every key.
    stop: Option<PipeWriter>,
    reader: Option<JoinHandle<()>>,
}

impl Keyboard {
    /// Takes the keyboard of the terminal at standard input.
    pub(crate) fn take() -> Result<Self, CliError> {
        let stdin = std::io::stdin().as_fd().try_clone_to_owned();
        Self::of(File::from(stdin.map_err(|error| CliError::failed("failed to use the keyboard", error))?))
    }

    fn of(terminal: File) -> Result<Self, CliError> {
        let failed = |error: std::io::Error| CliError::failed("failed to use the keyboard", error);
        let before = tcgetattr(&terminal).map_err(|errno| failed(errno.into()))?;
        let mut ours = before.clone();
        ours.local_flags.remove(LocalFlags::ICANON | LocalFlags::ECHO);
        ours.control_chars[SpecialCharacterIndices::VMIN as usize] = 1;
        ours.control_chars[SpecialCharacterIndices::VTIME as usize] = 0;
        let (sender, keys) = mpsc::channel(64);
        let (stopped, stop) = std::io::pipe().map_err(failed)?;
        let from = terminal.try_clone().map_err(failed)?;
        let mut keyboard = Self { terminal, before, ours, keys, stop: Some(stop), reader: None };
        keyboard.resume()?;
        keyboard.reader = Some(std::thread::spawn(move || read(from, &stopped, &sender)));
        Ok(keyboard)
    }

    /// What somebody did next. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Key {
        self.keys.recv().await.unwrap_or(Key::Gone)
    }

    /// Puts the terminal back for a while.
    pub(crate) fn pause(&self) {
        // A terminal that is gone needs nothing put back.
        let _ = tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.before);
    }

    /// Takes it again.
    pub(crate) fn resume(&self) -> Result<(), CliError> {
        tcsetattr(&self.terminal, SetArg::TCSADRAIN, &self.ours)
            .map_err(|errno| CliError::failed("failed to use the keyboard", errno))
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        drop(self.stop.take());
        self.keys.close();
        if let Some(reader) = self.reader.take() {
            // One that panicked has nothing to tell.
            let _ = reader.join();
        }
        self.pause();
    }
}

fn read(mut from: File, stopped: &PipeReader, sender: &mpsc::Sender<Key>) {
    let mut decoder = Decoder::default();
    let mut buffer = [0; 1024];
    loop {
        let mut ready =
            [PollFd::new(from.as_fd(), PollFlags::POLLIN), PollFd::new(stopped.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(nix::errno::Errno::EINTR) => continue,
            Err(_) => return,
            Ok(_) if ready[1].any() != Some(false) => return,
            Ok(_) => {}
        }
        let Ok(read @ 1..) = from.read(&mut buffer) else { return };
        let mut keys = Vec::new();
        decoder.bytes(&buffer[..read], &mut keys);
        for key in keys {
            if sender.blocking_send(key).is_err() {
                return;
            }
        }
    }
}

/// Makes keys of what a terminal sends.
#[derive(Debug, Default)]
struct Decoder {
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

impl Decoder {
    fn bytes(&mut self, bytes: &[u8], keys: &mut Vec<Key>) {
        for &byte in bytes {
            keys.extend(self.byte(byte));
        }
        // Terminals send sequences whole: what ends with the escape is the key.
        if self.escape == Escape::Begun {
            self.escape = Escape::None;
            keys.push(Key::Escape);
        }
    }

    fn byte(&mut self, byte: u8) -> Option<Key> {
        match (self.escape, byte) {
            (Escape::Begun, b'[' | b'O') => {
                self.escape = Escape::Inside;
                return None;
            }
            (Escape::Begun, _) => {
                self.escape = Escape::None;
                return None;
            }
            (Escape::Inside, 0x40..=0x7e) => {
                self.escape = Escape::None;
                return match byte {
                    b'A' | b'Z' => Some(Key::Up),
                    b'B' => Some(Key::Down),
                    _ => None,
                };
            }
            (Escape::Inside, _) => return None,
            (Escape::None, _) => {}
        }
        match byte {
            b'\n' | b'\r' => Some(Key::Enter),
            b'\t' => Some(Key::Down),
            0x04 => Some(Key::End),
            0x08 | 0x7f => Some(Key::Erase),
            0x15 => Some(Key::EraseLine),
            0x17 => Some(Key::EraseWord),
            0x1b => {
                self.escape = Escape::Begun;
                None
            }
            0x20..=0x7e => Some(Key::Char(char::from(byte))),
            0x80.. => {
                self.part.push(byte);
                let whole = std::str::from_utf8(&self.part).map(|text| text.chars().next());
                match whole {
                    Ok(c) => {
                        self.part.clear();
                        c.map(Key::Char)
                    }
                    Err(error) => {
                        if error.error_len().is_some() {
                            self.part.clear();
                        }
                        None
                    }
                }
            }
            _ => None,
        }
    }
}

/// Changes a line that is being typed; whether the key did so.
pub(crate) fn edit(line: &mut String, key: Key) -> bool {
    match key {
        Key::Char(c) => line.push(c),
        Key::Erase => drop(line.pop()),
        Key::EraseLine => line.clear(),
        Key::EraseWord => {
            let kept = line.trim_end().rfind(' ').map_or(0, |at| at + 1);
            line.truncate(kept);
        }
        _ => return false,
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let (mut decoder, mut keys) = (Decoder::default(), Vec::new());
        decoder.bytes(bytes, &mut keys);
        keys
    }

    #[test]
    fn a_line_is_typed_and_mended() {
        let typed = |bytes: &[u8]| {
            let mut line = String::new();
            let rest: Vec<Key> = keys(bytes).into_iter().filter(|key| !edit(&mut line, *key)).collect();
            (line, rest)
        };
        assert_eq!(typed(b"hello\n"), ("hello".to_owned(), vec![Key::Enter]));
        assert_eq!(typed("ein Käfer 🦀".as_bytes()).0, "ein Käfer 🦀");
        assert_eq!(typed("Käs\u{7f}\u{7f}".as_bytes()).0, "K");
        assert_eq!(typed(b"one two  \x17three\x1b[C\x1b[1;5D\x1bOP"), ("one three".to_owned(), vec![]));
        assert_eq!(typed(b"gone\x15\xff\xfe\x00\x1a").0, "");
        assert_eq!(typed(b"x\x04").1, [Key::End]);
    }

    #[test]
    fn arrows_and_the_escape_key_are_told_apart() {
        assert_eq!(keys(b"\x1b[A\x1bOB\t\x1b[Z"), [Key::Up, Key::Down, Key::Down, Key::Up]);
        assert_eq!(keys(b"\x1b"), [Key::Escape]);
        assert_eq!(keys(b"\x1bx\x1b[3~y\x1b"), [Key::Char('y'), Key::Escape]);
    }

    #[test]
    fn the_terminal_is_as_it_was_after_a_panic_too() {
        let pair = portable_pty::native_pty_system().openpty(portable_pty::PtySize::default()).unwrap();
        let path = pair.master.tty_name().unwrap();
        let open = || File::options().read(true).write(true).open(&path).unwrap();
        let flags = || tcgetattr(open()).unwrap().local_flags;
        let before = flags();
        assert!(before.contains(LocalFlags::ICANON | LocalFlags::ECHO));
        let held = std::panic::catch_unwind(|| {
            let keyboard = Keyboard::of(open()).unwrap();
            assert!(!flags().intersects(LocalFlags::ICANON | LocalFlags::ECHO));
            assert!(flags().contains(LocalFlags::ISIG), "Ctrl-C and Ctrl-Z stay signals");
            keyboard.pause();
            assert_eq!(flags(), before);
            keyboard.resume().unwrap();
            assert_ne!(flags(), before);
            panic!("in the middle of it");
        });
        assert!(held.is_err());
        assert_eq!(flags(), before);
    }

    #[tokio::test]
    async fn keys_that_nobody_took_are_there_for_whoever_asks_next() {
        let pair = portable_pty::native_pty_system().openpty(portable_pty::PtySize::default()).unwrap();
        let path = pair.master.tty_name().unwrap();
        let mut terminal = File::options().read(true).write(true).open(&path).unwrap();
        let mut keyboard = Keyboard::of(terminal.try_clone().unwrap()).unwrap();
        let mut typing = pair.master.take_writer().unwrap();
        std::io::Write::write_all(&mut typing, b"a").unwrap();
        assert_eq!(keyboard.next().await, Key::Char('a'));
        drop(keyboard);
        std::io::Write::write_all(&mut typing, b"yes\n").unwrap();
        let mut answer = [0; 16];
        let read = terminal.read(&mut answer).unwrap();
        assert_eq!(&answer[..read], b"yes\n");
    }
}

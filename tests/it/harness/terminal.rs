//! A terminal around a program: what a person sees, and what a person types.

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use vt100::Parser;

use super::sandbox::{ORCHESTRA, kill, poll, wait_for};
use super::{Sandbox, picture};

/// A program in a terminal of its own.
pub(crate) struct Terminal {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    input: Box<dyn std::io::Write + Send>,
    seen: Arc<Mutex<Seen>>,
}

struct Seen {
    parser: Parser,
    bytes: Vec<u8>,
    /// How many bytes had come at which time.
    times: Vec<(Duration, usize)>,
    over: bool,
}

impl Terminal {
    /// Runs `git-orchestra` in the sandbox's repository, in a terminal of this size.
    pub(crate) fn orchestra(sandbox: &Sandbox, args: &[&str], rows: u16, columns: u16) -> Self {
        Self::start(sandbox, ORCHESTRA, args, sandbox.repo(), rows, columns)
    }

    /// Runs any program with the sandbox's environment.
    pub(crate) fn start(
        sandbox: &Sandbox,
        program: &str,
        args: &[&str],
        dir: &Path,
        rows: u16,
        columns: u16,
    ) -> Self {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        let mut command = CommandBuilder::new(program);
        command.env_clear();
        for (key, value) in sandbox.command(program).get_envs() {
            command.env(key, value.unwrap_or_default());
        }
        command.env("TERM", "xterm-256color");
        command.args(args);
        command.cwd(dir);
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut output = pair.master.try_clone_reader().unwrap();
        let input = pair.master.take_writer().unwrap();
        let parser = Parser::new(rows, columns, 10_000);
        let seen = Arc::new(Mutex::new(Seen { parser, bytes: Vec::new(), times: Vec::new(), over: false }));
        let shown = Arc::clone(&seen);
        let start = Instant::now();
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            // Linux answers the last read of a terminal that nobody holds open with an error.
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                let mut seen = shown.lock().unwrap();
                seen.bytes.extend_from_slice(&buffer[..read]);
                seen.parser.process(&buffer[..read]);
                let length = seen.bytes.len();
                seen.times.push((start.elapsed(), length));
            }
            shown.lock().unwrap().over = true;
        });
        Self { child, master: pair.master, input, seen }
    }

    /// The text on the screen now.
    pub(crate) fn screen(&self) -> String {
        self.seen.lock().unwrap().parser.screen().contents()
    }

    /// Every byte that the program sent.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.seen.lock().unwrap().bytes.clone()
    }

    /// Waits until the screen shows `text`.
    pub(crate) fn wait_for(&self, text: &str) {
        let found = poll(|| self.screen().contains(text).then_some(()));
        assert!(found.is_some(), "`{text}` never came:\n{}", self.screen());
    }

    /// Types; the return key is `\r`.
    pub(crate) fn type_in(&mut self, keys: &str) {
        self.input.write_all(keys.as_bytes()).unwrap();
        self.input.flush().unwrap();
    }

    /// The program.
    pub(crate) fn pid(&self) -> u32 {
        self.child.process_id().expect("it was started")
    }

    /// Gives the terminal another size.
    pub(crate) fn resize(&self, rows: u16, columns: u16) {
        // What comes from now on is meant for the new size.
        self.seen.lock().unwrap().parser.screen_mut().set_size(rows, columns);
        self.master.resize(PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 }).unwrap();
    }

    /// Sends a signal to the program itself.
    pub(crate) fn signal(&self, signal: Signal) {
        kill(self.child.process_id().expect("it was started"), signal);
    }

    /// Waits for the program's end and returns its exit code (128 + n after signal n is not told apart from 1).
    pub(crate) fn end(&mut self) -> u32 {
        let status = wait_for("the program's end", || self.child.try_wait().unwrap());
        wait_for("the terminal's end", || self.seen.lock().unwrap().over.then_some(()));
        status.exit_code()
    }

    /// The screen as a picture, without empty lines at its end.
    pub(crate) fn picture(&self, title: &str) -> String {
        picture::still(self.seen.lock().unwrap().parser.screen(), title)
    }

    /// Everything that was seen, as a picture that moves.
    pub(crate) fn film(&self, title: &str) -> String {
        let seen = self.seen.lock().unwrap();
        let (rows, columns) = seen.parser.screen().size();
        let mut parser = Parser::new(rows, columns, 0);
        let mut shown = 0;
        let screens = seen.times.iter().map(|&(time, length)| {
            parser.process(&seen.bytes[shown..length]);
            shown = length;
            (time, parser.screen().clone())
        });
        picture::film(screens, title)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_terminal_shows_what_is_typed_and_can_be_drawn() {
    let sandbox = Sandbox::new();
    let script = "printf '\\033[1;32mWho?\\033[0m '; read name; echo \"Hello <$name>\"; exit 3";
    let mut terminal = Terminal::start(&sandbox, "sh", &["-c", script], sandbox.repo(), 6, 40);
    terminal.wait_for("Who?");
    terminal.type_in("Ada\r");
    terminal.wait_for("Hello <Ada>");
    assert_eq!(terminal.end(), 3);
    let picture = terminal.picture("a test");
    assert!(picture.contains(r##"fill="#98c379" font-weight="bold">Who?</tspan>"##), "{picture}");
    assert!(picture.contains("Hello &lt;Ada&gt;"), "{picture}");
}

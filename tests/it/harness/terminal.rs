//! A terminal around a program: what a person sees, and what a person types.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex};

use nix::sys::signal::Signal;
use portable_pty::{Child, CommandBuilder, MasterPty, PtySize, native_pty_system};
use vt100::{Color, Parser};

use super::Sandbox;
use super::sandbox::{ORCHESTRA, kill, poll, wait_for};

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
        let seen = Arc::new(Mutex::new(Seen { parser, bytes: Vec::new(), over: false }));
        let shown = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            // Linux answers the last read of a terminal that nobody holds open with an error.
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                let mut seen = shown.lock().unwrap();
                seen.bytes.extend_from_slice(&buffer[..read]);
                seen.parser.process(&buffer[..read]);
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
    pub(crate) fn svg(&self, title: &str) -> String {
        svg(self.seen.lock().unwrap().parser.screen(), title)
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

const CHARACTER: f64 = 8.43;
const LINE: u32 = 19;
const MARGIN: u32 = 16;
const BAR: u32 = 32;

/// Draws a screen; deterministic, so that it changes only when the screen does.
fn svg(screen: &vt100::Screen, title: &str) -> String {
    let (rows, columns) = screen.size();
    let used = (0..rows)
        .rev()
        .find(|&row| {
            (0..columns).any(|column| screen.cell(row, column).is_some_and(vt100::Cell::has_contents))
        })
        .map_or(1, |row| row + 1);
    let width = f64::from(columns) * CHARACTER + 2.0 * f64::from(MARGIN);
    let height = u32::from(used) * LINE + 2 * MARGIN + BAR;
    let mut out = String::new();
    let _ = writeln!(
        out,
        r##"<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0}" height="{height}" viewBox="0 0 {width:.0} {height}" role="img" aria-label="{title}">
<rect width="100%" height="100%" rx="8" fill="#16181d"/>
<g fill="#3b3f4a"><circle cx="20" cy="18" r="6"/><circle cx="40" cy="18" r="6"/><circle cx="60" cy="18" r="6"/></g>
<g font-family="ui-monospace,SFMono-Regular,Menlo,Consolas,'DejaVu Sans Mono',monospace" font-size="14" fill="#d5d8df" xml:space="preserve">
<text x="80" y="23" fill="#8b909c">{title}</text>"##,
        title = escape(title)
    );
    for row in 0..used {
        draw_row(&mut out, screen, row, columns);
    }
    out.push_str("</g>\n</svg>\n");
    out
}

/// One `text` element a row, one `tspan` for each stretch of equal style, placed so that fonts cannot drift.
fn draw_row(out: &mut String, screen: &vt100::Screen, row: u16, columns: u16) {
    let mut spans: Vec<(u16, String, String)> = Vec::new();
    for column in 0..columns {
        let Some(cell) = screen.cell(row, column) else { continue };
        if cell.is_wide_continuation() {
            continue;
        }
        let style = style(cell);
        let text = if cell.has_contents() { cell.contents() } else { " " };
        match spans.last_mut() {
            Some((_, last, run)) if *last == style => run.push_str(text),
            _ => spans.push((column, style, text.to_owned())),
        }
    }
    let y = u32::from(row) * LINE + MARGIN + BAR + 10;
    let mut line = String::new();
    for (column, style, text) in spans.iter().filter(|(_, _, text)| !text.trim().is_empty()) {
        let text = text.trim_end();
        let lead = text.chars().take_while(|character| *character == ' ').count();
        let x =
            (f64::from(*column) + f64::from(u16::try_from(lead).unwrap())) * CHARACTER + f64::from(MARGIN);
        let _ = write!(line, r#"<tspan x="{x:.1}"{style}>{}</tspan>"#, escape(text.trim_start()));
    }
    if !line.is_empty() {
        let _ = writeln!(out, r#"<text y="{y}">{line}</text>"#);
    }
}

fn style(cell: &vt100::Cell) -> String {
    let mut style = String::new();
    if let Some(color) = color(cell.fgcolor()) {
        let _ = write!(style, r#" fill="{color}""#);
    }
    if cell.bold() {
        style.push_str(r#" font-weight="bold""#);
    }
    if cell.dim() {
        style.push_str(r#" opacity="0.6""#);
    }
    if cell.italic() {
        style.push_str(r#" font-style="italic""#);
    }
    if cell.underline() {
        style.push_str(r#" text-decoration="underline""#);
    }
    style
}

/// The sixteen colours of the picture's theme; others are named by the program itself.
fn color(color: Color) -> Option<String> {
    const THEME: [&str; 16] = [
        "#3b3f4a", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#d5d8df", "#8b909c",
        "#ef8f97", "#b3d89c", "#efd39b", "#8cc8f7", "#d9a0e8", "#83d0d9", "#ffffff",
    ];
    match color {
        Color::Default => None,
        Color::Idx(index @ 0..16) => Some(THEME[usize::from(index)].to_owned()),
        Color::Idx(index @ 16..232) => {
            let level = |n: u8| if n == 0 { 0 } else { 55 + 40 * n };
            let cube = index - 16;
            Some(format!("#{:02x}{:02x}{:02x}", level(cube / 36), level(cube / 6 % 6), level(cube % 6)))
        }
        Color::Idx(index) => Some(format!("#{0:02x}{0:02x}{0:02x}", 8 + 10 * (index - 232))),
        Color::Rgb(red, green, blue) => Some(format!("#{red:02x}{green:02x}{blue:02x}")),
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
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
    let picture = terminal.svg("a test");
    assert!(picture.contains(r##"fill="#98c379" font-weight="bold">Who?</tspan>"##), "{picture}");
    assert!(picture.contains("Hello &lt;Ada&gt;"), "{picture}");
}

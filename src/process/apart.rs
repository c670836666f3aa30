//! Processes of our own that go on when we end: in a session of their own, without a terminal.

use super::command::{Command, CommandError};
use nix::fcntl::OFlag;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd, RawFd};
use std::process::Stdio;

impl Command {
    /// Starts it with `input` and `output` as its standard input and output, and does not look back. It is to call
    /// [`step_away`] first of all.
    pub fn start_apart(&self, input: OwnedFd, output: OwnedFd) -> Result<(), CommandError> {
        let mut command = self.prepared();
        command.stdin(Stdio::from(input)).stdout(Stdio::from(output)).stderr(Stdio::null());
        // Not waited for: whoever starts it ends soon, and its number is nobody's then.
        command.spawn().map(drop).map_err(|source| self.start_error(source))
    }
}

/// Leaves the terminal and the session of whoever started this process, and returns what it was given as standard
/// input and output; in their place is nothing from here on. Whatever else was open is closed.
pub fn step_away() -> io::Result<(OwnedFd, OwnedFd)> {
    close_inherited();
    let given = (io::stdin().as_fd().try_clone_to_owned()?, io::stdout().as_fd().try_clone_to_owned()?);
    let null = File::options().read(true).write(true).open("/dev/null")?;
    nix::unistd::dup2_stdin(&null)?;
    nix::unistd::dup2_stdout(&null)?;
    nix::unistd::dup2_stderr(&null)?;
    // A process that leads its group already has no terminal to leave, or is not one that we started.
    let _ = nix::unistd::setsid();
    Ok(given)
}

/// Closes what a shell had open when it started us: a lock or a pipe would be held as long as we live. What we opened
/// ourselves ends with the process image and is told from it by that.
fn close_inherited() {
    let open = std::fs::read_dir("/proc/self/fdinfo").into_iter().flatten().flatten();
    for entry in open.collect::<Vec<_>>() {
        let number = entry.file_name().to_string_lossy().parse::<RawFd>();
        let info = std::fs::read_to_string(entry.path()).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|flags| i32::from_str_radix(flags.trim(), 8).ok());
        if let (Ok(number @ 3..), Some(flags)) = (number, flags)
            && !OFlag::from_bits_retain(flags).contains(OFlag::O_CLOEXEC)
        {
            let _ = nix::unistd::close(number);
        }
    }
}

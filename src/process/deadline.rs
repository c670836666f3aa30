//! Short-lived children that may hang: whatever talks to a network gets a deadline, and is killed with its group.

use super::command::{Command, CommandError, Input, Output};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often a child that closed nothing is asked whether it is gone.
const TICK: Duration = Duration::from_millis(20);
/// How long we read on when the child is gone and a descendant (a shared ssh connection) still holds its output.
const DRAIN: Duration = Duration::from_millis(200);

impl Command {
    /// Runs it to its end, but no longer than `deadline`: then it and its process group are killed. It has no
    /// terminal, so that nothing it starts can ask there.
    ///
    /// Input bytes are written from another thread; one that is not read is no error.
    ///
    /// # Errors
    /// [`CommandError::TimedOut`] when it had to be killed.
    pub fn output_within(&self, deadline: Duration) -> Result<Output, CommandError> {
        self.output_while(deadline, || true)
    }

    /// The same, and only while `go_on` says so; it is asked many times a second.
    ///
    /// # Errors
    /// [`CommandError::Stopped`] when `go_on` ended it.
    pub fn output_while(&self, deadline: Duration, go_on: impl Fn() -> bool) -> Result<Output, CommandError> {
        let mut command = self.apart();
        command.stdin(if matches!(self.input(), Input::Bytes(_)) { Stdio::piped() } else { Stdio::null() });
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child =
            command.spawn().map_err(|source| CommandError::Start { program: self.program_name(), source })?;
        if let (Some(mut pipe), Input::Bytes(bytes)) = (child.stdin.take(), self.input().clone()) {
            // A child that stops reading early says so by its exit status, not by our broken pipe.
            std::thread::spawn(move || pipe.write_all(&bytes).ok());
        }
        let (done, ended) = mpsc::channel();
        let stdout = child.stdout.take().map(|pipe| collect(pipe, done.clone())).unwrap_or_default();
        let stderr = child.stderr.take().map(|pipe| collect(pipe, done)).unwrap_or_default();
        let end = wait(&mut child, &ended, deadline, go_on)
            .map_err(|source| CommandError::Talk { program: self.program_name(), source })?;
        match end {
            End::Own(status) => Ok(Output { status, stdout: take(&stdout), stderr: take(&stderr) }),
            End::Late => Err(CommandError::TimedOut { line: self.line(), deadline }),
            End::Stopped => Err(CommandError::Stopped { line: self.line() }),
        }
    }
}

/// How a child ended: by itself, or killed by us.
enum End {
    Own(ExitStatus),
    Late,
    Stopped,
}

fn wait(
    child: &mut Child,
    ended: &mpsc::Receiver<()>,
    deadline: Duration,
    go_on: impl Fn() -> bool,
) -> std::io::Result<End> {
    let until = Instant::now() + deadline;
    let mut open = true;
    loop {
        if open {
            match ended.recv_timeout(TICK) {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => open = false,
            }
        } else {
            std::thread::sleep(Duration::from_micros(200));
        }
        if let Some(status) = child.try_wait()? {
            let drained = Instant::now() + DRAIN;
            while open && Instant::now() < drained {
                open = !matches!(ended.recv_timeout(TICK), Err(RecvTimeoutError::Disconnected));
            }
            return Ok(End::Own(status));
        }
        let stopped = !go_on();
        if stopped || Instant::now() >= until {
            // Not waited for yet, so its number is still its own. It leads its group, unless it was caught before.
            if let Ok(pid) = i32::try_from(child.id()) {
                killpg(Pid::from_raw(pid), Signal::SIGKILL).ok();
            }
            child.kill().ok();
            child.wait()?;
            return Ok(if stopped { End::Stopped } else { End::Late });
        }
    }
}

/// Reads a pipe to its end beside us. Not joined: a descendant that left the group may hold it for ever.
fn collect(mut pipe: impl Read + Send + 'static, done: mpsc::Sender<()>) -> Arc<Mutex<Vec<u8>>> {
    let bytes = Arc::new(Mutex::new(Vec::new()));
    let shared = Arc::clone(&bytes);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 16 << 10];
        while let Ok(count @ 1..) = pipe.read(&mut buffer) {
            shared.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&buffer[..count]);
        }
        done.send(()).ok();
    });
    bytes
}

fn take(bytes: &Mutex<Vec<u8>>) -> Vec<u8> {
    std::mem::take(&mut bytes.lock().unwrap_or_else(PoisonError::into_inner))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        Command::new("/bin/sh").args(["-c", script]).env("PATH", "/usr/bin:/bin")
    }

    #[test]
    fn what_ends_in_time_is_read_to_its_end() {
        let bytes = vec![b'x'; 1 << 20];
        let out =
            Command::new("/bin/cat").stdin(bytes.clone()).output_within(Duration::from_secs(30)).unwrap();
        assert_eq!(out.stdout, bytes);
        let out = sh("echo no >&2; exit 3").output_within(Duration::from_secs(30)).unwrap();
        assert_eq!((out.status.code(), out.stderr.as_slice()), (Some(3), b"no\n".as_slice()));
    }

    #[test]
    fn what_hangs_is_killed_with_its_children() {
        let start = Instant::now();
        let error = sh("sleep 60 & sleep 60").output_within(Duration::from_millis(100)).unwrap_err();
        assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
        assert!(start.elapsed() < Duration::from_secs(20));
    }

    #[test]
    fn a_descendant_that_holds_the_output_is_not_waited_for() {
        let start = Instant::now();
        let out = sh("echo hi; setsid sleep 30 & exit 0").output_within(Duration::from_secs(20)).unwrap();
        assert_eq!(out.stdout, b"hi\n");
        assert!(start.elapsed() < Duration::from_secs(15));
    }
}

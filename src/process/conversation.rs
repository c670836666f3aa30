//! A child that is told something, answers, and is told more: `git update-ref --stdin`.

use super::command::{Command, CommandError, Output};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Stdio};

/// A running child with its standard input and output in our hands.
///
/// Dropped before its end, it reads the end of its input and is waited for: whoever gives it commands must choose
/// words that it does not act upon before the last one.
#[derive(Debug)]
pub struct Conversation {
    command: Command,
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
}

impl Command {
    /// Starts it, and leaves its input open.
    pub fn converse(&self) -> Result<Conversation, CommandError> {
        let mut command = self.prepared();
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        // As in `Command::output`: a Ctrl-C of the terminal reaches us alone.
        command.process_group(0);
        let mut child = command.spawn().map_err(|source| self.cannot_start(source))?;
        let input = child.stdin.take();
        let output = BufReader::new(child.stdout.take().expect("its output is a pipe"));
        Ok(Conversation { command: self.clone(), child, input, output })
    }
}

impl Conversation {
    /// Tells it something. A child that does not listen any more says why when it is asked for an answer or ended.
    pub fn say(&mut self, words: &[u8]) {
        if let Some(input) = &mut self.input
            && input.write_all(words).is_err()
        {
            self.input = None;
        }
    }

    /// Its next line, without the end of the line; `None` when it says no more.
    pub fn hear(&mut self) -> Result<Option<String>, CommandError> {
        let mut line = String::new();
        let read = self.output.read_line(&mut line).map_err(|source| self.command.cannot_talk(source))?;
        Ok((read > 0).then(|| line.trim_end_matches('\n').to_owned()))
    }

    /// Ends its input, and waits for it. Returns what was not heard yet.
    pub fn end(mut self) -> Result<Output, CommandError> {
        self.input = None;
        let failed = |source| self.command.cannot_talk(source);
        let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
        self.output.read_to_end(&mut stdout).map_err(failed)?;
        if let Some(mut pipe) = self.child.stderr.take() {
            pipe.read_to_end(&mut stderr).map_err(failed)?;
        }
        let status = self.child.wait().map_err(failed)?;
        Ok(Output { status, stdout, stderr })
    }

    /// Ends it at once, whatever it still had to say.
    pub fn stop(mut self) {
        // One that has ended already is what was wanted.
        self.child.kill().ok();
    }
}

impl Drop for Conversation {
    fn drop(&mut self) {
        self.input = None;
        // It is waited for once only: after `end` its status is known and this returns at once.
        self.child.wait().ok();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cat() -> Command {
        Command::new("cat").env("PATH", "/usr/bin:/bin")
    }

    #[test]
    fn it_answers_between_what_it_is_told() {
        let mut cat = cat().converse().unwrap();
        for word in ["one", "two"] {
            cat.say(format!("{word}\n").as_bytes());
            assert_eq!(cat.hear().unwrap().as_deref(), Some(word));
        }
        cat.say(b"three");
        let output = cat.end().unwrap();
        assert!(output.status.success());
        assert_eq!(output.stdout, b"three");
    }

    #[test]
    fn one_that_is_gone_says_so_when_it_is_asked() {
        let command = Command::new("/bin/sh").args(["-c", "echo no >&2; exit 3"]);
        let mut shell = command.converse().unwrap();
        assert_eq!(shell.hear().unwrap(), None);
        shell.say(b"anything\n");
        let output = shell.end().unwrap();
        assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(3), &b"no\n"[..]));
    }

    #[test]
    fn one_that_talks_on_is_stopped() {
        let mut yes = Command::new("yes").env("PATH", "/usr/bin:/bin").converse().unwrap();
        assert_eq!(yes.hear().unwrap().as_deref(), Some("y"));
        yes.stop();
    }

    #[test]
    fn one_that_is_dropped_is_waited_for() {
        let dir = tempfile::tempdir().unwrap();
        let said = dir.path().join("said");
        let script = format!("read line; echo \"$line\" > {}", said.display());
        let mut shell = Command::new("/bin/sh").args(["-c", &script]).converse().unwrap();
        shell.say(b"bye\n");
        drop(shell);
        assert_eq!(std::fs::read(said).unwrap(), b"bye\n");
    }
}

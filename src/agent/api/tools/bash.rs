//! Running commands.

use super::Input;
use crate::process::{Child, ChildEvent, ChildOptions, Command, Exit, Line};
use std::collections::VecDeque;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a command may take if nobody says otherwise, and at most.
pub(in super::super) const DEFAULT: Duration = Duration::from_secs(120);
pub(in super::super) const MOST: Duration = Duration::from_secs(600);
/// How much of its output is kept: so much of the start, and of the end.
const HALF: usize = 15_000;
/// The longest line that is kept.
const MAX_LINE: usize = 64 << 10;
/// How long it may take to end after it was told to.
const GRACE: Duration = Duration::from_secs(2);
/// By which its processes are known.
const MARK: &str = "GIT_ORCHESTRA_COMMAND";

/// Where commands run, and what they see.
#[derive(Debug)]
pub(in super::super) struct Shell {
    pub(in super::super) worktree: PathBuf,
    pub(in super::super) env: Vec<(OsString, OsString)>,
}

impl Shell {
    pub(in super::super) fn new(worktree: PathBuf, env: Vec<(OsString, OsString)>) -> Self {
        Self { worktree, env }
    }

    /// Runs a command in a session of its own, to its end or until `stop`. Everything that it started is ended by then.
    pub(in super::super) async fn run<T>(
        &self,
        input: Input<'_>,
        stop: impl Future<Output = T>,
    ) -> Result<Result<String, String>, T> {
        let (mut child, deadline) = match self.start(input) {
            Ok(started) => started,
            Err(words) => return Ok(Err(words)),
        };
        let mut output = Output::default();
        let timer = tokio::time::sleep(deadline);
        tokio::pin!(timer, stop);
        let (mut late, mut stopped) = (false, None);
        loop {
            tokio::select! {
                event = child.next() => match event {
                    Some(ChildEvent::Lines { lines, .. }) => lines.iter().for_each(|line| output.add(line)),
                    Some(ChildEvent::Exited(exit)) => {
                        let late = late.then_some(deadline);
                        return stopped.map_or_else(|| Ok(told(exit, &output, late)), Err);
                    }
                    None => return Ok(Err("nobody knows how it ended".to_owned())),
                },
                () = &mut timer, if !late => {
                    late = true;
                    child.stop();
                }
                why = &mut stop, if stopped.is_none() => {
                    stopped = Some(why);
                    child.kill();
                }
            }
        }
    }

    fn start(&self, input: Input<'_>) -> Result<(Child, Duration), String> {
        let wanted = input.number("timeout").map_or(DEFAULT, Duration::from_millis);
        let deadline = wanted.clamp(Duration::from_millis(1), MOST);
        let options = ChildOptions {
            grace: GRACE,
            line_limit: MAX_LINE,
            error_line_limit: MAX_LINE,
            mark: Some((MARK.to_owned(), uuid::Uuid::new_v4().to_string())),
            ..ChildOptions::default()
        };
        let shell = ["/bin/bash", "/bin/sh"].into_iter().find(|shell| Path::new(shell).exists());
        let command = Command::new(shell.unwrap_or("sh"))
            .args(["-c", input.need("command")?])
            .envs(self.env.iter().map(|(key, value)| (key, value)))
            .current_dir(&self.worktree);
        let child =
            command.start(&options).map_err(|error| format!("failed to {error}: {}", cause(&error)))?;
        Ok((child, deadline))
    }
}

/// What the model is told of a command that is over; `late` if it took longer than that.
fn told(exit: Exit, output: &Output, late: Option<Duration>) -> Result<String, String> {
    let mut text = output.text();
    if exit.leaked > 0 {
        let _ = write!(text, "\n({} of its processes were still running: they were ended)", exit.leaked);
    }
    match (late, exit.code) {
        (Some(most), _) => Err(format!("no end after {} s: it was ended\n{text}", most.as_secs_f32())),
        (None, Some(0)) => Ok(if text.is_empty() { "(no output)".to_owned() } else { text }),
        (None, Some(code)) => Err(format!("exit code {code}\n{text}")),
        (None, None) => Err(format!("ended by signal {}\n{text}", exit.signal.unwrap_or_default())),
    }
}

fn cause(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(String::new, ToString::to_string)
}

/// The start and the end of what a command printed.
#[derive(Debug, Default)]
struct Output {
    head: String,
    tail: VecDeque<String>,
    tail_bytes: usize,
    left_out: u64,
}

impl Output {
    fn add(&mut self, line: &Line) {
        let mut text = String::from_utf8_lossy(&line.bytes).into_owned();
        if line.cut > 0 {
            let _ = write!(text, " … ({} bytes of this line are left out)", line.cut);
        }
        text.push('\n');
        if self.tail.is_empty() && self.head.len() + text.len() <= HALF {
            self.head.push_str(&text);
            return;
        }
        self.tail_bytes += text.len();
        self.tail.push_back(text);
        // One line may be longer than all that is kept: its end is.
        while self.tail_bytes > HALF {
            let Some(first) = self.tail.front_mut() else { break };
            let over = (self.tail_bytes - HALF).min(first.len());
            let over = (over..=first.len()).find(|&at| first.is_char_boundary(at)).unwrap_or(first.len());
            first.drain(..over);
            self.left_out += over as u64;
            self.tail_bytes -= over;
            if first.is_empty() {
                self.tail.pop_front();
            }
        }
    }

    fn text(&self) -> String {
        let mut text = self.head.clone();
        if self.left_out > 0 {
            let _ = writeln!(text, "… ({} bytes are left out here) …", self.left_out);
        }
        text.extend(self.tail.iter().map(String::as_str));
        text.truncate(text.trim_end().len());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;
    use std::time::Instant;

    fn shell(dir: &Path) -> Shell {
        Shell::new(dir.to_owned(), vec![("PATH".into(), "/usr/bin:/bin".into()), ("A".into(), "1".into())])
    }

    async fn run(shell: &Shell, input: &serde_json::Value) -> Result<String, String> {
        shell.run(Input::new(input), std::future::pending::<()>()).await.unwrap()
    }

    #[tokio::test]
    async fn one_that_is_broken_off_is_gone_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let pid = dir.path().join("pid");
        let begun = async {
            while !std::fs::read_to_string(&pid).is_ok_and(|pid| pid.ends_with('\n')) {
                tokio::task::yield_now().await;
            }
            "enough"
        };
        let command =
            "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 1; done' & wait";
        let input = json!({"command": command});
        assert_eq!(shell(dir.path()).run(Input::new(&input), begun).await, Err("enough"));
        let pid = std::fs::read_to_string(&pid).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).join("cwd").exists(), "{pid}");
    }

    #[tokio::test]
    async fn a_command_says_how_it_went() {
        let dir = tempfile::tempdir().unwrap();
        let shell = shell(dir.path());
        let run = async |command: &str| run(&shell, &json!({"command": command})).await;
        assert_eq!(run("echo $A; pwd >&2").await.map(|text| text.lines().count()), Ok(2));
        assert_eq!(run("true").await, Ok("(no output)".to_owned()));
        assert_eq!(run("echo no; exit 3").await, Err("exit code 3\nno".to_owned()));
        assert_eq!(run("kill -9 $$").await, Err("ended by signal 9\n".to_owned()));
        assert_eq!(run("cat").await, Ok("(no output)".to_owned()), "its input is empty");
    }

    #[tokio::test]
    async fn long_output_loses_its_middle_and_says_so() {
        let dir = tempfile::tempdir().unwrap();
        let shell = shell(dir.path());
        let command = "seq 1 2000000; head -c 5000000 /dev/zero | tr '\\0' x; echo; echo end";
        let text = run(&shell, &json!({"command": command})).await.unwrap();
        assert!(
            text.len() < 2 * HALF + 200 && text.starts_with("1\n2\n") && text.ends_with("\nend"),
            "{}",
            text.len()
        );
        assert!(text.contains("bytes are left out here") && text.contains("bytes of this line are left out"));
    }

    #[tokio::test]
    async fn one_that_takes_too_long_is_ended_with_all_that_it_started() {
        let dir = tempfile::tempdir().unwrap();
        let shell = shell(dir.path());
        let command = "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo $$ > pid; while :; do sleep 1; done' & \
                       echo begun; wait; sleep 100";
        let begun = Instant::now();
        let answer = run(&shell, &json!({"command": command, "timeout": 500})).await;
        let words = answer.unwrap_err();
        assert!(words.starts_with("no end after 0.5 s") && words.contains("begun"), "{words}");
        assert!(begun.elapsed() < Duration::from_secs(20));
        let pid = std::fs::read_to_string(dir.path().join("pid")).unwrap();
        assert!(!Path::new("/proc").join(pid.trim()).join("cwd").exists(), "{pid}");
    }
}

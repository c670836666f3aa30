//! Children that are waited for and may take long: watched like an agent's program, ended to their last descendant.

use super::child::{ChildEvent, ChildOptions, Exit, Source};
use super::command::{Command, CommandError};
use super::lines::Line;
use std::time::Duration;
use tokio::time::Instant;

/// How often it is asked whether the child is still wanted.
const TICK: Duration = Duration::from_millis(100);

/// Why a child was ended before it ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// It took too long.
    Late,
    /// Nobody wants it any more.
    Unwanted,
}

impl Command {
    /// Runs it to its end like a long-lived child (see [`Command::start`]) and hands its lines on. When `deadline` is
    /// over, or `go_on` says no, it is ended with everything that it started: `TERM`, patience, `KILL`. Blocks; must
    /// not be called inside an async function.
    ///
    /// What it leaves running when it ends by itself is ended too.
    pub fn run_watched(
        &self,
        options: &ChildOptions,
        deadline: Duration,
        go_on: impl Fn() -> bool,
        mut take: impl FnMut(Source, Line),
    ) -> Result<(Exit, Option<Cut>), CommandError> {
        let runtime = super::runtime();
        let runtime = runtime.map_err(|source| self.cannot_start(source))?;
        runtime.block_on(async {
            let mut child = self.start(options)?;
            let until = Instant::now() + deadline;
            let mut tick = tokio::time::interval(TICK);
            let mut cut = None;
            loop {
                tokio::select! {
                    event = child.next() => match event {
                        Some(ChildEvent::Lines { source, lines, .. }) => {
                            for line in lines {
                                take(source, line);
                            }
                        }
                        Some(ChildEvent::Exited(exit)) => return Ok((exit, cut)),
                        None => return Err(self.cannot_talk(std::io::ErrorKind::BrokenPipe.into())),
                    },
                    _ = tick.tick(), if cut.is_none() => {
                        if !go_on() {
                            cut = Some(Cut::Unwanted);
                        } else if Instant::now() >= until {
                            cut = Some(Cut::Late);
                        }
                        if cut.is_some() {
                            child.stop();
                        }
                    }
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        Command::new("/bin/sh").args(["-c", script]).env("PATH", "/usr/bin:/bin")
    }

    fn run(script: &str, deadline: Duration, go_on: impl Fn() -> bool) -> (Exit, Option<Cut>, Vec<String>) {
        let options = ChildOptions {
            grace: Duration::from_millis(200),
            mark: Some(("WATCHED".to_owned(), format!("{}-{deadline:?}", std::process::id()))),
            ..ChildOptions::default()
        };
        let mut lines = Vec::new();
        let take = |_, line: Line| lines.push(String::from_utf8_lossy(&line.bytes).into_owned());
        let (exit, cut) = sh(script).run_watched(&options, deadline, go_on, take).unwrap();
        (exit, cut, lines)
    }

    #[test]
    fn lines_come_whole_and_what_is_left_running_is_ended() {
        let (exit, cut, lines) =
            run("echo one; echo two >&2; setsid sleep 60 & exit 3", Duration::from_secs(60), || true);
        assert_eq!((exit.code, cut), (Some(3), None));
        assert_eq!(exit.leaked, 1);
        assert!(lines.contains(&"one".to_owned()) && lines.contains(&"two".to_owned()), "{lines:?}");
    }

    #[test]
    fn one_that_takes_too_long_or_is_not_wanted_is_ended_with_its_children() {
        let begun = std::time::Instant::now();
        let (exit, cut, _) =
            run("trap '' TERM; setsid sleep 61 & sleep 61; sleep 61", Duration::from_millis(300), || true);
        assert_eq!((exit.code, cut), (None, Some(Cut::Late)));
        let (_, cut, _) = run("sleep 62", Duration::from_secs(62), || false);
        assert_eq!(cut, Some(Cut::Unwanted));
        assert!(begun.elapsed() < Duration::from_secs(40));
    }
}

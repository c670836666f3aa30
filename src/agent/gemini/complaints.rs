//! What Gemini CLI says on standard error: retries are told there and nowhere else, among stack traces and chatter.

use crate::agent::refusal::{named_status, pause_ms};
use crate::agent::tool::one_line;
use crate::model::EventKind;

/// Lines that say nothing about the run, or what standard output says as well.
const CHATTER: &[&str] = &[
    "Warning: 256-color support not detected",
    "YOLO mode is enabled",
    "Ripgrep is not available",
    "[STARTUP] ",
    "Error executing tool ",
    "Loaded cached credentials",
];

/// Reads standard error line by line.
#[derive(Debug, Default)]
pub(super) struct Complaints {
    /// Inside the printed form of an error object, up to the line `}`.
    in_trace: bool,
    /// An attempt that failed, and why, while the line that says how long it waits is awaited.
    attempt: Option<(u64, String)>,
}

impl Complaints {
    /// Takes one line; appends what it means.
    pub(super) fn line(&mut self, line: &str, push: &mut impl FnMut(EventKind)) {
        let line = line.trim_end();
        if self.in_trace {
            self.in_trace = line != "}" && (line.starts_with(' ') || line.starts_with('\t'));
            if line == "}" || self.in_trace {
                return;
            }
        }
        if let Some((attempt, why)) = self.attempt.take() {
            let waits = line.contains("etrying after ");
            push(retry(attempt, &why, if waits { line } else { "" }));
            if waits {
                return;
            }
        }
        if line.trim().is_empty() || CHATTER.iter().any(|chatter| line.starts_with(chatter)) {
            return;
        }
        // The printed form of an error: `_ApiError: {"error":…}`, its stack, its fields, `}`.
        let words = match line.find("_ApiError: ") {
            Some(at) => {
                self.in_trace = true;
                line[..at].trim_end()
            }
            None => line,
        };
        match attempt(words) {
            Some((number, why)) if why.contains("etrying") => push(retry(number, why, why)),
            Some((number, why)) => self.attempt = Some((number, why.to_owned())),
            None if words.is_empty() => {}
            None => push(EventKind::Notice { text: words.to_owned() }),
        }
    }

    /// The stream is over.
    pub(super) fn end(&mut self, push: &mut impl FnMut(EventKind)) {
        if let Some((attempt, why)) = self.attempt.take() {
            push(retry(attempt, &why, ""));
        }
    }
}

/// `Attempt 2 failed: why`, or `Attempt 2 failed with status 503. Retrying with backoff...`.
fn attempt(words: &str) -> Option<(u64, &str)> {
    let rest = words.strip_prefix("Attempt ")?;
    let (number, why) = rest.split_once(" failed")?;
    Some((number.parse().ok()?, why.trim_start_matches([':', ' '])))
}

fn retry(attempt: u64, why: &str, pause: &str) -> EventKind {
    let error = why.split(" Retrying").next().unwrap_or_default();
    let error = error.strip_prefix("with ").unwrap_or(error).trim_end_matches('.');
    EventKind::Retry {
        attempt,
        // It does not say.
        max: 0,
        delay_ms: pause_ms(pause).unwrap_or(0),
        status: named_status(why),
        error: one_line(error),
    }
}

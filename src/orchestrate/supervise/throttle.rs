//! Whether the model of a run serves it, or refuses for a limit that will pass. Decides; does nothing itself.

use crate::agent::limit_words;
use crate::model::{Event, EventKind, Timestamp};
use crate::orchestrate::breaker::Limited;

/// At which attempt in vain its program is not left to try alone any more: by then it tried for about ten seconds.
const ATTEMPTS: u64 = 5;
/// A pause of its own that is longer is no short one, in milliseconds.
const LONG: u64 = 60_000;

/// What was heard of limits.
#[derive(Debug, Default)]
pub(super) struct Throttle {
    /// By which HTTP status its model says, too, that it has too much to do.
    busy: Option<u16>,
    last: Option<Limited>,
    /// Whether its model served it since its process began.
    pub(super) served: bool,
    /// Whether that is to be told to those that wait.
    pub(super) news: bool,
    /// Whether its program should not go on to try.
    hopeless: bool,
}

impl Throttle {
    /// Of a run of `program`.
    pub(super) fn of(program: &str) -> Self {
        // Elsewhere that is a fault of a server.
        Self { busy: matches!(program, "gemini" | "acp").then_some(503), ..Self::default() }
    }

    /// Takes what an event says.
    pub(super) fn learn(&mut self, event: &Event) {
        match &event.kind {
            EventKind::Retry { attempt, delay_ms, status: Some(status), error, .. }
                if matches!(status, 429 | 529) || self.busy == Some(*status) =>
            {
                let until = (*delay_ms >= LONG).then(|| Timestamp(event.at.0.saturating_add(*delay_ms)));
                self.hopeless |= *attempt >= ATTEMPTS || until.is_some();
                let why = format!("{status} {error}").trim_end().to_owned();
                self.last = Some(Limited { why, until });
            }
            EventKind::Result { error: true, text, .. } => {
                let busy = self.busy.filter(|busy| text.starts_with(&busy.to_string())).map(|_| None);
                if let Some(until) = limit_words(text, event.at).or(busy) {
                    let (why, told) = match self.last.take() {
                        Some(last) => (last.why, last.until),
                        None => (text.clone(), None),
                    };
                    let why = why.lines().next().unwrap_or_default().chars().take(100).collect();
                    // What an event of its own said is the more exact.
                    self.last = Some(Limited { why, until: told.or(until) });
                }
            }
            // Words may be the program's own; these are the model's.
            EventKind::Usage { usage, .. } if usage.total() > 0 => self.serve(),
            EventKind::ToolCall { .. } => self.serve(),
            _ => {}
        }
    }

    fn serve(&mut self) {
        self.news |= !self.served || self.last.is_some();
        self.served = true;
        self.last = None;
    }

    /// Why its process is to be ended now, so that it goes on when the limit has passed.
    pub(super) fn gives_up(&self) -> Option<&Limited> {
        self.last.as_ref().filter(|_| self.hopeless)
    }

    /// The limit that stood in its way last. It begins anew.
    pub(super) fn take(&mut self) -> Option<Limited> {
        let begun_anew = Self { busy: self.busy, ..Self::default() };
        std::mem::replace(self, begun_anew).last
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Usage;

    fn learn(throttle: &mut Throttle, kind: EventKind) {
        throttle.learn(&Event { at: Timestamp(1_000), parent: None, kind });
    }

    fn retry(attempt: u64, status: u16, delay_ms: u64) -> EventKind {
        EventKind::Retry { attempt, max: 10, delay_ms, status: Some(status), error: "overloaded".to_owned() }
    }

    fn usage() -> EventKind {
        EventKind::Usage { usage: Usage { output: 1, ..Usage::default() }, context: None }
    }

    #[test]
    fn a_short_trouble_is_left_to_the_program() {
        let mut throttle = Throttle::default();
        for attempt in 1..ATTEMPTS {
            learn(&mut throttle, retry(attempt, 529, 500));
            assert_eq!(throttle.gives_up(), None);
        }
        learn(&mut throttle, usage());
        assert!(throttle.served && throttle.news);
        assert_eq!(throttle.take(), None);
        learn(&mut throttle, retry(9, 401, 500));
        learn(&mut throttle, retry(9, 500, 500));
        assert_eq!(throttle.gives_up(), None);
        assert_eq!(throttle.take(), None, "those do not pass by waiting");
    }

    #[test]
    fn too_much_to_do_is_503_where_gemini_says_so() {
        let result = || {
            let text = "503: The service is currently unavailable.".to_owned();
            EventKind::Result { subtype: String::new(), error: true, text, usage: Usage::default() }
        };
        for (program, counts) in [("gemini", true), ("acp", true), ("claude", false), ("codex", false)] {
            let mut throttle = Throttle::of(program);
            for _ in 0..2 {
                learn(&mut throttle, retry(ATTEMPTS, 503, 500));
                assert_eq!(throttle.gives_up().is_some(), counts, "{program}");
                assert_eq!(throttle.take().is_some(), counts, "{program}");
                learn(&mut throttle, result());
                assert_eq!(throttle.take().is_some(), counts, "{program}");
            }
        }
    }

    #[test]
    fn what_lasts_is_waited_for() {
        let mut throttle = Throttle::default();
        learn(&mut throttle, retry(ATTEMPTS, 529, 500));
        assert_eq!(throttle.gives_up().unwrap().why, "529 overloaded");
        let mut throttle = Throttle::default();
        learn(&mut throttle, retry(1, 429, 600_000));
        assert_eq!(throttle.gives_up().unwrap().until, Some(Timestamp(601_000)));
        let mut throttle = Throttle::default();
        let text = "You've hit your usage limit. Try again in 2h 5m.".to_owned();
        let result = EventKind::Result { subtype: String::new(), error: true, text, usage: Usage::default() };
        learn(&mut throttle, result);
        assert_eq!(throttle.take().unwrap().until, Some(Timestamp(1_000 + 125 * 60_000)));
        let mut throttle = Throttle::default();
        learn(&mut throttle, retry(0, 429, 600_000));
        for text in ["You've hit your session limit", "You've hit your session limit. Try again in 1h"] {
            let text = text.to_owned();
            let result =
                EventKind::Result { subtype: String::new(), error: true, text, usage: Usage::default() };
            learn(&mut throttle, result);
            assert_eq!(throttle.gives_up().unwrap().until, Some(Timestamp(601_000)), "the event told it");
        }
    }
}

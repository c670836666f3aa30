//! Turns that somebody who looks away wants to hear of: an agent waits, is stuck, failed or is done. Pure.

use super::{Finished, Progress};
use crate::model::{Event, EventKind, Id, Outcome};
use serde::Serialize;
use std::collections::HashSet;

/// From how long a pause of its model on an agent waits, in milliseconds: shorter ones are everyday.
const LONG: u64 = 60_000;

/// How an agent stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Stand {
    /// For a person, or for its model's limit.
    Waiting,
    /// It has been silent for long, and nothing explains that.
    Stuck,
    /// Its run failed, or was ended because its time was over.
    Failed,
    /// Its run succeeded.
    Done,
}

impl Stand {
    /// The word for it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Stuck => "stuck",
            Self::Failed => "failed",
            Self::Done => "done",
        }
    }
}

/// One turn.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Turn {
    /// The agent.
    pub agent: Id,
    /// What it turned to.
    pub to: Stand,
    /// Why, in a few words; redacted, and not yet sanitised for a terminal.
    pub why: String,
}

/// Who waits already: what goes on waiting makes no other turn.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: HashSet<Id>,
}

impl Turns {
    /// The turn that this was, if it was one. Whoever ended a run himself is not told that it ended.
    pub fn take(&mut self, progress: &Progress) -> Option<Turn> {
        match progress {
            Progress::Event { agent, event } => self.event(*agent, event),
            Progress::Waiting { agent, question, .. } => self.waits(*agent, question.clone()),
            // Whoever watches it says so once.
            Progress::Silent { agent, silent_ms } => {
                let why = format!("silent for {} min", silent_ms / 60_000);
                Some(Turn { agent: *agent, to: Stand::Stuck, why })
            }
            Progress::Answered { agent, .. } => {
                self.waiting.remove(agent);
                None
            }
            Progress::Finished(finished) => {
                self.waiting.remove(&finished.agent);
                let (to, why) = end(finished)?;
                Some(Turn { agent: finished.agent, to, why })
            }
            Progress::Queued { .. } | Progress::Started { .. } | Progress::Notice { .. } => None,
        }
    }

    fn event(&mut self, agent: Id, event: &Event) -> Option<Turn> {
        match &event.kind {
            EventKind::PermissionAsked { tool, summary, .. } => {
                self.waits(agent, format!("wants to use {tool}: {summary}"))
            }
            EventKind::Retry { delay_ms, error, .. } if *delay_ms >= LONG => {
                self.waits(agent, format!("{error}, again in {} min", delay_ms.div_ceil(60_000)))
            }
            EventKind::Parked { until, why } => {
                let minutes = until.since(event.at).as_secs().div_ceil(60);
                self.waits(agent, format!("parked for {minutes} min: {why}"))
            }
            EventKind::Exited { .. }
            | EventKind::Retry { .. }
            // Who did that knows.
            | EventKind::Interrupted {}
            | EventKind::Usage { .. }
            | EventKind::Notice { .. }
            | EventKind::Unrecognised { .. } => None,
            // What a sub-agent does meanwhile is no answer.
            _ if event.parent.is_some() => None,
            _ => {
                self.waiting.remove(&agent);
                None
            }
        }
    }

    fn waits(&mut self, agent: Id, why: String) -> Option<Turn> {
        self.waiting.insert(agent).then_some(Turn { agent, to: Stand::Waiting, why })
    }
}

fn end(finished: &Finished) -> Option<(Stand, String)> {
    if let Some(error) = &finished.error {
        return Some((Stand::Failed, format!("failed to {error}")));
    }
    match finished.outcome.as_ref()? {
        Outcome::Succeeded => Some((Stand::Done, String::new())),
        Outcome::Failed { reason } => Some((Stand::Failed, reason.clone())),
        Outcome::Lost => Some((Stand::Failed, "lost".to_owned())),
        Outcome::Stopped { over: Some(over), .. } => {
            Some((Stand::Failed, format!("its budget is used up: {over}")))
        }
        Outcome::Stopped { by, .. } => match by.as_str() {
            "idle" => Some((Stand::Failed, "it was silent for too long".to_owned())),
            "deadline" => Some((Stand::Failed, "its time was over".to_owned())),
            _ => None,
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ObjectId, Timestamp, Usage};

    fn agent(number: u128) -> Id {
        Id::from_random(number)
    }

    fn event(kind: EventKind) -> Progress {
        Progress::Event { agent: agent(1), event: Event { at: Timestamp(1), parent: None, kind } }
    }

    fn asks() -> Progress {
        let (tool, summary) = ("Bash".to_owned(), "rm x".to_owned());
        event(EventKind::PermissionAsked {
            request: "r".to_owned(),
            tool,
            summary,
            input: String::new(),
            questions: Vec::new(),
        })
    }

    fn decided() -> Progress {
        Progress::Waiting { agent: agent(1), decision: agent(2), question: "May it?".to_owned() }
    }

    fn pause(delay_ms: u64) -> Progress {
        let error = "rate_limit".to_owned();
        event(EventKind::Retry { attempt: 1, max: 10, delay_ms, status: Some(429), error })
    }

    fn text() -> Progress {
        event(EventKind::Text { text: "on".to_owned(), partial: false })
    }

    fn finished(outcome: Option<Outcome>, error: Option<&str>) -> Progress {
        Progress::Finished(Box::new(Finished {
            agent: agent(1),
            name: "blue".parse().unwrap(),
            run: 1,
            outcome,
            tip: "a".repeat(40).parse::<ObjectId>().unwrap(),
            commits: 0,
            leftovers: false,
            usage: Usage::default(),
            decisions: Vec::new(),
            error: error.map(str::to_owned),
        }))
    }

    fn turns(all: &[Progress]) -> Vec<(Stand, String)> {
        let mut turns = Turns::default();
        all.iter().filter_map(|one| turns.take(one)).map(|turn| (turn.to, turn.why)).collect()
    }

    #[test]
    fn waiting_is_told_once_until_something_goes_on() {
        let asked = (Stand::Waiting, "wants to use Bash: rm x".to_owned());
        let limit = |minutes: u64| (Stand::Waiting, format!("rate_limit, again in {minutes} min"));
        assert_eq!(turns(&[asks(), decided(), asks()]), std::slice::from_ref(&asked));
        assert_eq!(turns(&[asks(), text(), asks()]), [asked.clone(), asked.clone()]);
        let allowed = || {
            let request = "r".to_owned();
            Progress::Answered { agent: agent(1), request, allowed: true, answer: None }
        };
        assert_eq!(turns(&[asks(), allowed(), asks()]), [asked.clone(), asked]);
        assert_eq!(turns(&[pause(59_999), pause(600_000), pause(1_000), pause(90_000)]), [limit(10)]);
        assert_eq!(turns(&[pause(90_000), text(), pause(90_000)]), [limit(2), limit(2)]);
        let silent = Progress::Silent { agent: agent(1), silent_ms: 605_000 };
        assert_eq!(turns(&[text(), silent]), [(Stand::Stuck, "silent for 10 min".to_owned())]);
        assert_eq!(turns(&[decided()]), [(Stand::Waiting, "May it?".to_owned())]);
    }

    #[test]
    fn ends_are_told_unless_somebody_made_them() {
        let end = |outcome| turns(&[finished(Some(outcome), None)]);
        let stopped = |by: &str| end(Outcome::stopped(by));
        assert_eq!(end(Outcome::Succeeded), [(Stand::Done, String::new())]);
        let failed = end(Outcome::Failed { reason: "exit 1".to_owned() });
        assert_eq!(failed, [(Stand::Failed, "exit 1".to_owned())]);
        assert_eq!(stopped("idle"), [(Stand::Failed, "it was silent for too long".to_owned())]);
        assert_eq!((stopped("interrupt"), stopped("ada")), (vec![], vec![]));
        assert_eq!(turns(&[finished(None, None)]), []);
        let broken = turns(&[finished(Some(Outcome::Succeeded), Some("save its work"))]);
        assert_eq!(broken, [(Stand::Failed, "failed to save its work".to_owned())]);
    }
}

//! What a run's end means.

use crate::model::{Outcome, Standing};
use crate::process::Exit;

/// The signal by which the kernel takes memory back.
const SIGKILL: i32 = 9;
/// What a shell, or what confines a program, ends with whose program was ended by that signal.
const KILLED: i32 = 128 + SIGKILL;

/// What a run's end means. A run that we ended is never a success, whatever it claimed while ending: one whose model
/// `refused` to serve it failed for that reason, and one whose budget is `used_up` was stopped by it. One that had said that it was done, and only did not go, counts by
/// what it said.
pub(super) fn outcome(
    exit: Exit,
    stopped_by: Option<&str>,
    used_up: Option<Standing>,
    refused: Option<String>,
    overdue: bool,
    reported: Option<String>,
) -> Outcome {
    if let Some(by) = stopped_by {
        return Outcome::stopped(by);
    }
    if let Some(over) = used_up {
        return Outcome::used_up(over);
    }
    let failed = |reason: String| Outcome::Failed { reason };
    if let Some(reason) = refused {
        return failed(reason);
    }
    match (exit.code, exit.signal) {
        _ if overdue => reported.map_or(Outcome::Succeeded, failed),
        (Some(0), _) => reported.map_or(Outcome::Succeeded, failed),
        (Some(code), _) => {
            failed(reported.map_or(format!("exit {code}"), |said| format!("exit {code}: {said}")))
        }
        (None, Some(signal)) => failed(format!("signal {signal}")),
        (None, None) => failed("nobody knows how it ended".to_owned()),
    }
}

/// The same, with the cause named where the kernel probably ended it: `kills` processes of this machine ended for want
/// of memory while it ran, and nobody says which.
pub(super) fn for_want_of_memory(outcome: Outcome, exit: Exit, kills: u64) -> Outcome {
    let killed = (exit.signal == Some(SIGKILL) || exit.code == Some(KILLED)) && exit.sent.is_none();
    match outcome {
        Outcome::Failed { reason } if kills > 0 && killed => Outcome::Failed {
            reason: format!("{reason}: as it seems, the kernel ended it for want of memory"),
        },
        outcome => outcome,
    }
}

/// What a run amounts to whose work could not be saved, completing "failed to": one that is not all there is no success.
/// Returns the error as well where the outcome does not say it.
pub(super) fn unless_unsaved(outcome: Outcome, unsaved: Option<String>) -> (Outcome, Option<String>) {
    match (outcome, unsaved) {
        (Outcome::Succeeded, Some(error)) => (Outcome::Failed { reason: format!("could not {error}") }, None),
        (outcome, unsaved) => (outcome, unsaved),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Budget, Scope, Spending};

    #[test]
    fn a_run_that_we_ended_is_never_a_success() {
        let exit = |code, signal| Exit { code, signal, sent: None, leaked: 0, held: false };
        let word = |outcome: &Outcome| outcome.word();
        let said = || Some("api error".to_owned());
        assert_eq!(outcome(exit(Some(0), None), None, None, None, false, None), Outcome::Succeeded);
        assert_eq!(
            word(&outcome(exit(Some(0), None), Some("interrupt"), None, None, false, None)),
            "stopped"
        );
        assert_eq!(word(&outcome(exit(Some(0), None), None, None, None, false, said())), "failed");
        assert_eq!(word(&outcome(exit(None, Some(15)), None, None, None, true, None)), "done");
        assert_eq!(word(&outcome(exit(None, Some(15)), None, None, None, true, said())), "failed");
        let refused = || Some("no key".to_owned());
        assert_eq!(
            word(&outcome(exit(Some(0), None), Some("stop"), None, refused(), false, None)),
            "stopped"
        );
        assert_eq!(word(&outcome(exit(Some(0), None), None, None, refused(), false, None)), "failed");
        let budget = Budget { turns: Some(2), ..Budget::default() };
        let over = budget.reached(Scope::Task, &Spending::default(), 0).next();
        let used_up = outcome(exit(Some(0), None), None, over, None, false, None);
        assert_eq!((word(&used_up), used_up.over()), ("stopped", over.as_ref()));
        let failed = |reason: &str| Outcome::Failed { reason: reason.to_owned() };
        assert_eq!(outcome(exit(Some(3), None), None, None, None, false, None), failed("exit 3"));
        assert_eq!(
            outcome(exit(Some(1), None), None, None, None, false, said()),
            failed("exit 1: api error")
        );
        assert_eq!(outcome(exit(None, Some(9)), None, None, None, false, None), failed("signal 9"));
        let named = |exit, kills| for_want_of_memory(failed("signal 9"), exit, kills);
        assert_eq!(named(exit(None, Some(9)), 0), failed("signal 9"));
        assert_eq!(named(Exit { sent: Some(9), ..exit(None, Some(9)) }, 1), failed("signal 9"), "it was us");
        assert_eq!(named(exit(None, Some(15)), 1), failed("signal 9"));
        assert_eq!(
            named(Exit { sent: Some(9), ..exit(Some(137), None) }, 1),
            failed("signal 9"),
            "it was us"
        );
        assert_eq!(named(exit(Some(143), None), 1), failed("signal 9"));
        for ended in [exit(None, Some(9)), exit(Some(137), None)] {
            let Outcome::Failed { reason } = named(ended, 2) else { panic!("it failed") };
            assert!(reason.contains("for want of memory"), "{reason}");
            assert_eq!(named(ended, 0), failed("signal 9"));
        }
    }
}

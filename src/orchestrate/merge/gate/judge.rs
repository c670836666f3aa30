//! Running a gate on a commit.

use super::super::{Error, Remark};
use super::bench::Bench;
use super::kept::{Judged, Kept, hash};
use super::{Gate, Trial};
use crate::agent::sanitise_text;
use crate::model::{GateOutcome, GateRun, Merge, ObjectId};
use crate::orchestrate::prepare::Ended;
use crate::orchestrate::trust;
use crate::store::Store;
use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

/// How much of a gate's last words leaves this machine.
const TAIL: usize = 4 << 10;

/// What is needed to run gates for one merge. The worktree is opened with the first one that is run.
pub(super) struct Judge<'a> {
    pub(super) store: &'a Store,
    pub(super) trial: &'a Trial<'a>,
    pub(super) kept: Kept,
    pub(super) bench: Option<Bench>,
}

impl Judge<'_> {
    /// What `gate` says to `commit`, which `branches` branches were merged into. Runs it only if that is not known.
    ///
    /// # Errors
    /// [`Error::Interrupted`] if nobody waits for it any more.
    pub(super) fn judge(
        &mut self,
        merge: &Merge,
        gate: &Gate,
        commit: &ObjectId,
        branches: usize,
        say: &mut dyn FnMut(Remark),
    ) -> Result<Judged, Error> {
        if let Some(known) = self.kept.find(gate, commit) {
            return Ok(known.clone());
        }
        let repo = self.store.repo();
        if !(self.trial.wanted)() {
            return Err(Error::Interrupted(merge.id));
        }
        // What agents wrote runs here too, and could choose what git runs afterwards.
        trust::remember(repo)?;
        let judged = self.run(merge, gate, commit, branches, say);
        trust::require_unchanged(repo)?;
        let judged = judged?;
        self.kept.put(judged.clone())?;
        say(Remark::Gated { run: judged.run.clone(), branches });
        Ok(judged)
    }

    fn run(
        &mut self,
        merge: &Merge,
        gate: &Gate,
        commit: &ObjectId,
        branches: usize,
        say: &mut dyn FnMut(Remark),
    ) -> Result<Judged, Error> {
        let (repo, surroundings) = (self.store.repo(), self.trial.surroundings);
        let interrupted = || Error::Interrupted(merge.id);
        if self.bench.is_none() {
            let tell = &mut |what| say(Remark::Busy(what));
            self.bench =
                Some(Bench::open(self.store, self.trial, merge, commit, tell)?.ok_or_else(interrupted)?);
        }
        let bench = self.bench.as_mut().expect("it was opened");
        let (mut output, name) = self.kept.output(gate, commit)?;
        let mut hook = gate.hook.clone();
        if let Some(program) = hook.words.first_mut() {
            *program = of_commit(program, bench.path());
        }
        let (mut took, mut failed, mut failures) = (Duration::ZERO, None, 0);
        let mut runs = 0;
        while runs <= gate.retries {
            runs += 1;
            say(Remark::Gating { gate: gate.name.clone(), branches, run: runs });
            bench.switch(repo, commit)?;
            let env = bench.env(repo, surroundings, merge, &hook.pass_env);
            let mut written = if runs > 1 { output.line(&format!("--- run {runs}")) } else { Ok(()) };
            let mut hear = |line: &str| {
                if written.is_ok() {
                    written = output.line(line);
                }
            };
            let ended =
                hook.run_heard(bench.path(), env, &surroundings.redactor, self.trial.wanted, &mut hear)?;
            written.map_err(|e| crate::orchestrate::Error::file("write", output.path(), e))?;
            match ended {
                Ended::Unwanted => return Err(interrupted()),
                Ended::Done { took: this, .. } => {
                    took += this;
                    failed = None;
                    break;
                }
                Ended::Failed { why, output, late, took: this } => {
                    took += this;
                    failures += 1;
                    failed = Some((why, output, late));
                    // What took too long once would only take as long again.
                    if late {
                        break;
                    }
                }
            }
        }
        let path = output.close();
        path.map_err(|e| crate::orchestrate::Error::file("write", name.clone(), e))?;
        let (outcome, why, tail) = match failed {
            None => (GateOutcome::Passed, None, String::new()),
            Some((why, output, true)) => (GateOutcome::TimedOut, Some(why), last(&output)),
            Some((why, output, false)) => (GateOutcome::Failed, Some(why), last(&output)),
        };
        let run = GateRun {
            gate: gate.name.clone(),
            commit: commit.clone(),
            flaky: outcome == GateOutcome::Passed && failures > 0,
            outcome,
            why,
            runs,
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            output: Some(name),
            machine: self.store.machine()?,
            decision: None,
            by: None,
            at: self.store.clock().now(),
        };
        Ok(Judged { run, tail, what: hash(gate) })
    }
}

/// A program that is named by a path of the repository is the one of what was merged.
fn of_commit(program: &OsString, dir: &Path) -> OsString {
    let path = Path::new(program);
    if path.is_relative() && path.components().count() > 1 { dir.join(path).into() } else { program.clone() }
}

/// The end of a gate's last words, safe to show.
fn last(output: &str) -> String {
    let text = sanitise_text(output);
    let text = text.trim_end();
    let mut from = text.len().saturating_sub(TAIL);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text[from..].to_owned()
}

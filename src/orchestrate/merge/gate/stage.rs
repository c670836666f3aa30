//! The stage of a merge between its last step and its landing.

use super::super::advance::Run;
use super::super::executable::Approved;
use super::super::progress::Progress;
use super::super::{Error, abort, abort_label, short_branch};
use super::bisect::{Found, Pace, search};
use super::judge::Judge;
use super::kept::{Judged, Kept};
use super::{Gate, Gating, Trial};
use crate::model::{
    Choice, Decision, DecisionKind, DecisionStatus, Finding, GateOutcome, GateRun, Id, Merge, Name, ObjectId,
    Severity, StepStatus, Task,
};
use crate::orchestrate::trust;
use crate::store::{Store, Transaction};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// What may be answered: leave the branch out, let an agent change it, run the gate again, land all the same, give the merge up.
const PUT_ASIDE: &str = "put-aside";
pub(in super::super) const AGENT: &str = "agent";
const RETRY: &str = "retry";
const LAND_ANYWAY: &str = "land-anyway";
const ABORT: &str = "abort";

/// How many runs of gates a merge's record keeps.
const RECORDED: usize = 200;
/// Of how many merges the branches count for what is to be expected of the next ones.
const LOOK_BACK: usize = 20;
/// How the reason begins for which a branch was put aside.
const REASON: &str = "the gate ";

/// How a gate failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GateFailure {
    /// What it said.
    pub run: GateRun,
    /// The agent with whose branch it begins to fail; none if it fails on the target itself.
    pub agent: Option<Name>,
    /// The last lines that it printed: redacted, and safe to show.
    pub tail: String,
}

/// What came of the gates.
#[derive(Debug)]
pub(in super::super) enum Gated {
    /// What was merged may land.
    Passed,
    /// What was merged up to this commit may land, and a gate fails with what comes after it.
    Prefix(ObjectId),
    /// A branch was put aside; what comes after it is to be merged again.
    Again,
    /// Somebody is needed, or the merge is over.
    Stopped(Box<Progress>),
}

impl Run<'_> {
    /// Runs the gates on what was merged, and finds the branch with which one fails.
    pub(in super::super) fn pass_gates(&mut self, gating: &Gating<'_>) -> Result<Gated, Error> {
        let repo = self.store.repo();
        let target = repo.find_ref(&self.merge.target)?;
        let is_there = |target: &ObjectId| -> Result<bool, Error> {
            let head = &self.merge.head;
            Ok(target == head || repo.merge_base(target, head)?.as_ref() == Some(head))
        };
        // Nothing is new, or it has landed and only the record is missing.
        if target.as_ref().map(is_there).transpose()?.unwrap_or(false) {
            return Ok(Gated::Passed);
        }
        // Before anything of it runs.
        let upto = match self.approve_executables()? {
            Approved::All => None,
            Approved::Upto(commit) => Some(commit),
            Approved::Not(gated) => return Ok(gated),
        };
        let passed = upto.clone().map_or(Gated::Passed, Gated::Prefix);
        let trial = match gating {
            Gating::LeftOut(gates) => {
                if !gates.is_empty() {
                    self.note_left_out(gates, &upto.unwrap_or_else(|| self.merge.head.clone()));
                    self.record(None)?;
                }
                return Ok(passed);
            }
            Gating::Trial(trial) => trial,
        };
        let mut kept = Kept::open(self.store, &self.merge.id)?;
        let mut chain = Chain::of(&self.merge);
        if let Some(commit) = &upto {
            chain.cut(commit);
        }
        let mut waived: BTreeMap<String, Id> = BTreeMap::new();
        for decision in self.decisions()? {
            let Some((gate, commit)) = about(&decision) else { continue };
            let Some(at) = chain.position(&commit) else { continue };
            match decision.answer.as_ref().map(|answer| answer.key.as_str()) {
                Some(ABORT) => {
                    let merge = abort(self.store, &self.merge.id)?;
                    return Ok(Gated::Stopped(Box::new(Progress::Aborted(merge))));
                }
                Some(RETRY) => {
                    kept.forget_failures(&gate)?;
                    withdraw(self.store, &decision.id)?;
                }
                Some(LAND_ANYWAY) => {
                    waived.insert(gate, decision.id);
                }
                Some(PUT_ASIDE) if at > 0 => {
                    let known = self
                        .merge
                        .gates
                        .iter()
                        .rfind(|run| run.gate == gate && run.commit.as_str() == commit);
                    let why = known.and_then(|run| run.why.clone()).unwrap_or_default();
                    self.put_aside(chain.steps[at - 1], &gate, &why, &decision.detail);
                    return Ok(Gated::Again);
                }
                Some(AGENT) if at > 0 => {
                    self.merge.status = crate::model::MergeStatus::Waiting;
                    self.record(Some(&decision))?;
                    let merge = self.merge.clone();
                    return Ok(Gated::Stopped(Box::new(Progress::NeedsMender { merge, decision })));
                }
                _ => {}
            }
        }
        let gates: Vec<&Gate> = trial.gates.iter().filter(|gate| !waived.contains_key(&gate.name)).collect();
        let mut judge = Judge { store: self.store, trial, kept, bench: None };
        let found = self.try_gates(&mut judge, &gates, &chain);
        drop(judge);
        trust::forget(self.store.repo());
        let found = found?;
        for (gate, decision) in &waived {
            for run in self.merge.gates.iter_mut().filter(|run| run.gate == *gate && run.is_failure()) {
                run.decision = Some(*decision);
            }
        }
        match found {
            None => {
                self.record(None)?;
                Ok(passed)
            }
            Some((step, judged)) => {
                let after = step.and_then(|at| chain.steps.iter().position(|other| *other == at));
                match after.filter(|after| self.rules.lands_prefixes && *after > 0) {
                    // It passed there, or its failure would be this one's.
                    Some(after) => Ok(Gated::Prefix(chain.commits[after].clone())),
                    None => self.failed(trial, step, judged),
                }
            }
        }
    }

    /// Runs the gates on the whole chain, or on as much of it as tells where one fails: on the target (no step) or with
    /// a step.
    fn try_gates(
        &mut self,
        judge: &mut Judge<'_>,
        gates: &[&Gate],
        chain: &Chain,
    ) -> Result<Option<(Option<usize>, Judged)>, Error> {
        let count = chain.steps.len();
        let pace = pace(&self.state.all::<Merge>()?, &self.merge.id);
        // Of those that fail, the first gate on everything counts: one that another branch mends does not matter.
        let mut upto = gates.len();
        let mut failing: BTreeMap<usize, Judged> = BTreeMap::new();
        let merge = &mut self.merge;
        let say = &mut self.say;
        let found = search(count, pace, |at| {
            for (number, gate) in gates.iter().enumerate().take(upto) {
                let judged = judge.judge(merge, gate, &chain.commits[at], at, &mut **say)?;
                note(merge, &judged.run);
                if judged.run.is_failure() {
                    if at == count {
                        upto = number + 1;
                    }
                    failing.insert(at, judged);
                    return Ok::<bool, Error>(false);
                }
            }
            Ok(true)
        })?;
        let at = match found {
            Found::Passes => return Ok(None),
            Found::Target => 0,
            Found::Fails(at) => at,
        };
        let step = at.checked_sub(1).map(|at| chain.steps[at]);
        Ok(Some((step, failing.remove(&at).expect("it failed there"))))
    }

    /// Takes back what an agent mended in vain, puts the branch aside, or asks.
    fn failed(&mut self, trial: &Trial<'_>, step: Option<usize>, judged: Judged) -> Result<Gated, Error> {
        let failure = GateFailure {
            agent: step.map(|at| self.merge.steps[at].name.clone()),
            run: judged.run,
            tail: judged.tail,
        };
        let why = failure.run.why.clone().unwrap_or_default();
        if let Some(mender) = step.and_then(|at| mender(&self.merge, at)) {
            let how = if why.is_empty() { String::new() } else { format!(" ({why})") };
            self.unmend(mender, format!("the gate {} fails with it{how}", failure.run.gate));
            return Ok(Gated::Again);
        }
        let tried = |at: usize| self.merge.mends_of(&self.merge.steps[at].agent, &failure.run.gate);
        let (Trial { puts_aside, mends, .. }, asked) = (*trial, step.map_or(0, tried));
        if let (Some(at), true) = (step, puts_aside && asked >= mends as usize) {
            self.put_aside(at, &failure.run.gate, &why, &fenced(&failure.tail));
            return Ok(Gated::Again);
        }
        let subject = subject(&failure.run.gate, &failure.run.commit);
        let open = |asked: &Decision| asked.subject == subject && asked.status == DecisionStatus::Open;
        let decision = match self.decisions()?.into_iter().find(open) {
            Some(decision) => decision,
            None => self.question(step, &failure, subject)?,
        };
        self.merge.status = crate::model::MergeStatus::Waiting;
        self.record(Some(&decision))?;
        let merge = self.merge.clone();
        Ok(Gated::Stopped(Box::new(Progress::GateFailed { merge, decision, failure: Box::new(failure) })))
    }

    /// Leaves a merged step out again, with a finding that says why.
    fn put_aside(&mut self, at: usize, gate: &str, why: &str, detail: &str) {
        let step = &mut self.merge.steps[at];
        let how = if why.is_empty() { String::new() } else { format!(" ({why})") };
        let message = format!("the gate {gate} fails with what {} made{how}\n\n{detail}", step.name);
        if let Ok(id) = self.store.new_id() {
            let (message, author) = (message.trim_end().to_owned(), self.store.author().to_string());
            self.noticed.push(Finding {
                commit: Some(step.tip.clone()),
                agent: Some(step.agent),
                task: step.task,
                ..Finding::open(id, Severity::High, message, author, self.store.clock().now())
            });
        }
        step.commit = None;
        step.resolutions.clear();
        self.skip(at, Some(format!("{REASON}{gate} fails with it{how}")));
        self.redo_from(at);
    }

    /// Writes down which gates somebody left out, of what is merged up to `head`.
    fn note_left_out(&mut self, gates: &[String], head: &ObjectId) {
        for gate in gates {
            if self.merge.gates.iter().any(|run| run.gate == *gate && run.commit == *head) {
                continue;
            }
            self.merge.gates.push(GateRun {
                gate: gate.clone(),
                commit: head.clone(),
                outcome: GateOutcome::LeftOut,
                why: None,
                flaky: false,
                runs: 0,
                ms: 0,
                output: None,
                machine: String::new(),
                decision: None,
                by: Some(self.store.author().to_string()),
                at: self.store.clock().now(),
            });
        }
    }

    /// What was asked about gates of this merge, oldest first.
    fn decisions(&self) -> Result<Vec<Decision>, Error> {
        let mut asked = self.store.state()?.all::<Decision>()?;
        asked.retain(|decision| {
            decision.kind == DecisionKind::Gate
                && decision.merge == Some(self.merge.id)
                && decision.status != DecisionStatus::Withdrawn
        });
        asked.sort_by_key(|decision| (decision.created, decision.id));
        Ok(asked)
    }

    fn question(
        &self,
        step: Option<usize>,
        failure: &GateFailure,
        subject: String,
    ) -> Result<Decision, Error> {
        let (gate, target) = (&failure.run.gate, short_branch(&self.merge.target));
        let step = step.map(|at| &self.merge.steps[at]);
        let question = match step {
            Some(step) => format!("the gate {gate} fails with {}", step.name),
            None => format!("the gate {gate} fails on {target} itself, before anything is merged"),
        };
        let mut choices = Vec::new();
        let mut add = |key: &str, label: String| choices.push(Choice { key: key.to_owned(), label });
        if let Some(step) = step {
            add(PUT_ASIDE, format!("leave {} out of this merge, and go on with the rest", step.name));
            add(AGENT, format!("let an agent change what {} made so that {gate} passes", step.name));
        }
        add(RETRY, format!("run {gate} again"));
        add(LAND_ANYWAY, format!("land all the same, though {gate} fails"));
        add(ABORT, abort_label(&self.merge).to_owned());
        Ok(Decision {
            detail: self.detail(step, failure)?,
            choices,
            merge: Some(self.merge.id),
            agent: step.map(|step| step.agent),
            subject,
            ..Decision::open(self.store.new_id()?, DecisionKind::Gate, question, self.store.clock().now())
        })
    }

    /// Everything that is needed to answer it elsewhere.
    fn detail(&self, step: Option<&crate::model::Step>, failure: &GateFailure) -> Result<String, Error> {
        let run = &failure.run;
        let how = run.why.as_deref().unwrap_or("it failed");
        let times = if run.runs > 1 { format!(", {} times", run.runs) } else { String::new() };
        let mut text = format!("Merging into `{}`: ", short_branch(&self.merge.target));
        if let Some(step) = step {
            let before: Vec<String> = self
                .merge
                .steps
                .iter()
                .take_while(|other| other.agent != step.agent)
                .filter(|other| other.commit.is_some())
                .map(|other| format!("`{}`", other.name))
                .collect();
            let after = if before.is_empty() {
                "on the target alone".to_owned()
            } else {
                format!("with {} alone", before.join(", "))
            };
            let _ = writeln!(
                text,
                "the gate `{}` passes {after} and fails once `{}` is merged ({how}{times}).",
                run.gate, step.name
            );
            if let Some(task) = step.task.map(|id| self.state.get::<Task>(&id)).transpose()?.flatten() {
                let _ = writeln!(text, "\n- `{}`: {}", step.name, task.title);
            }
        } else {
            let _ = writeln!(
                text,
                "the gate `{}` fails on the target as it is ({how}{times}), so no branch can be blamed.",
                run.gate
            );
        }
        let _ = write!(text, "\nIt was run on {}", run.commit.short());
        if let Some(output) = &run.output {
            let _ = write!(text, "; all that it printed is in .git/orchestra/{output} on {}", run.machine);
        }
        let _ = write!(text, ".\n\n{}", fenced(&failure.tail));
        Ok(text)
    }
}

/// The commits after each step that made one, with the target before them.
///
/// What was mended counts with what mends it: it is never tried without.
struct Chain {
    /// The steps, by their places in the merge.
    steps: Vec<usize>,
    /// One more than steps: the target first.
    commits: Vec<ObjectId>,
}

impl Chain {
    fn of(merge: &Merge) -> Self {
        let mut chain = Self { steps: Vec::new(), commits: vec![merge.target_tip.clone()] };
        for (at, step) in merge.steps.iter().enumerate() {
            let Some(commit) = &step.commit else { continue };
            let before = chain.steps.last().map(|at| merge.steps[*at].agent);
            if step.mends.is_some() && step.mends == before {
                *chain.commits.last_mut().expect("there is one of that step") = commit.clone();
            } else {
                chain.steps.push(at);
                chain.commits.push(commit.clone());
            }
        }
        chain
    }

    /// Leaves out what comes after a commit.
    fn cut(&mut self, commit: &ObjectId) {
        if let Some(at) = self.position(commit.as_str()) {
            self.commits.truncate(at + 1);
            self.steps.truncate(at);
        }
    }

    fn position(&self, commit: &str) -> Option<usize> {
        self.commits.iter().position(|other| other.as_str() == commit)
    }
}

/// What a question about a gate is about: the same gate on the same commit asks nothing new.
fn subject(gate: &str, commit: &ObjectId) -> String {
    format!("gate/{gate}/{commit}")
}

/// The gate and the commit that a question is about.
pub(in super::super) fn about(decision: &Decision) -> Option<(String, String)> {
    let (gate, commit) = decision.subject.strip_prefix("gate/")?.split_once('/')?;
    Some((gate.to_owned(), commit.to_owned()))
}

/// Whether a question is about something that the merge still is.
pub(in super::super) fn still_asks(merge: &Merge, decision: &Decision) -> bool {
    let commit = about(decision).map(|(_, commit)| commit);
    match decision.kind {
        DecisionKind::Gate => commit.is_some_and(|commit| Chain::of(merge).position(&commit).is_some()),
        DecisionKind::Executable => {
            merge.steps.iter().any(|step| decision.agent == Some(step.agent) && step.commit.is_some())
        }
        _ => false,
    }
}

/// The step that mends that at `at`, if there is one.
fn mender(merge: &Merge, at: usize) -> Option<usize> {
    let (of, after) = (merge.steps[at].agent, &merge.steps[at + 1..]);
    let mends = |step: &crate::model::Step| step.mends == Some(of) && step.commit.is_some();
    after.iter().position(mends).map(|found| at + 1 + found)
}

/// Adds what a gate said to the record, unless it is there.
fn note(merge: &mut Merge, run: &GateRun) {
    let same = |other: &GateRun| other.gate == run.gate && other.commit == run.commit && other.at == run.at;
    if !merge.gates.iter().any(same) {
        merge.gates.push(run.clone());
        let over = merge.gates.len().saturating_sub(RECORDED);
        merge.gates.drain(..over);
    }
}

/// How to try, by what became of the branches of merges that were gated before.
fn pace(merges: &[Merge], own: &Id) -> Pace {
    let mut gated: Vec<&Merge> = merges
        .iter()
        .filter(|merge| merge.id != *own && merge.gates.iter().any(|run| run.runs > 0))
        .collect();
    gated.sort_by_key(|merge| std::cmp::Reverse(merge.created));
    let steps = || gated.iter().take(LOOK_BACK).flat_map(|merge| &merge.steps);
    let is_bad = |step: &&crate::model::Step| {
        step.status == StepStatus::Skipped && step.reason.as_ref().is_some_and(|why| why.starts_with(REASON))
    };
    let bad = steps().filter(is_bad).count();
    Pace::by(bad + steps().filter(|step| step.commit.is_some()).count(), bad)
}

/// A question that was answered with another try is over.
fn withdraw(store: &Store, id: &Id) -> Result<(), Error> {
    let change = |tx: &mut Transaction<'_>| -> Result<(), Error> {
        let mut decision: Decision = tx.require(id)?;
        decision.status = DecisionStatus::Withdrawn;
        tx.describe(format!("decision {}: the gate is run again", &id.as_str()[..6]));
        tx.put(&decision).map_err(Error::from)
    };
    store.transact(change)?;
    Ok(())
}

/// Output as a block that it cannot end.
pub(in super::super) fn fenced(output: &str) -> String {
    if output.is_empty() {
        return "It printed nothing.".to_owned();
    }
    let ticks: BTreeSet<usize> =
        output.lines().map(|line| line.trim_start().chars().take_while(|&c| c == '`').count()).collect();
    let fence = "`".repeat(3.max(ticks.last().map_or(0, |most| most + 1)));
    format!("{fence}\n{output}\n{fence}")
}

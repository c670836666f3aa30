//! Going on with a merge until it has landed or needs somebody.
//!
//! Each stretch of work ends in one transaction that holds all of it: steps, accumulated commit, question. A
//! process that dies between two of them leaves the merge as the last one wrote it, and going on repeats only
//! what was not recorded. Answers are found by what they were asked about, so a step that has to be redone does
//! not ask again unless the conflict is another one.

use super::answer::{
    detail, forget_places, forget_unions, headline, keep_given, open_again, question, unions_without_lines,
};
use super::carry::carry;
use super::conflict::ConflictStep;
use super::gate::{Gated, Gating, still_asks};
use super::ladder::{Rules, climb, learn};
use super::land::{Landing, known, land, withdraw_decisions};
use super::leftovers::unrelated;
use super::places::fold;
use super::progress::{Progress, Remark};
use super::receipt::refusal;
use super::resolve::{PLACES, resolve};
use super::step::{Attempt, Maker, Words, attempt};
use super::{Error, Plan, keep_ref, new_objects, short_branch};
use crate::git::{Expected, NoteEdit, RefEdit};
use crate::model::{
    Agent, Decision, DecisionKind, DecisionStatus, Finding, Id, Merge, MergeStatus, Name, ObjectId, Step,
    StepStatus, Task,
};
use crate::orchestrate::{branch, trust};
use crate::store::{FINDINGS_NOTES, State, Store, Transaction};
use std::collections::BTreeSet;

/// How far merging branch after branch came.
enum Merged {
    /// No branch is left.
    All,
    /// A branch needs somebody, and what comes before it may land first.
    Before,
    /// Somebody is needed, or the merge is over.
    Stopped(Box<Progress>),
}

/// How often a merge is redone because its target moved, before it is given up for now.
const RESTLESS: usize = 8;

/// Records a plan as a merge that goes on with [`advance`].
///
/// # Errors
/// [`Error::OpenAlready`] if another merge into the same branch is not over.
pub fn start(store: &Store, plan: &Plan) -> Result<Merge, Error> {
    let mut merge = Merge {
        id: plan.id,
        target: plan.target.clone(),
        target_tip: plan.target_tip.clone(),
        status: MergeStatus::Running,
        steps: plan.steps.clone(),
        score: plan.score,
        head: plan.head.clone(),
        landed: None,
        follows: None,
        gates: Vec::new(),
        mends: Vec::new(),
        receipt: None,
        created: store.clock().now(),
    };
    let objects = new_objects(store.repo(), &merge.head, &known(&merge))?;
    let change = |tx: &mut Transaction<'_>| -> Result<Merge, Error> {
        if let Some(open) =
            tx.all::<Merge>()?.into_iter().find(|m| m.status.is_open() && m.target == merge.target)
        {
            let target = short_branch(&open.target).to_owned();
            return Err(Error::OpenAlready { id: open.id, status: open.status, target });
        }
        merge.created = tx.now();
        let names: Vec<_> = merge.steps.iter().map(|step| step.name.as_str()).collect();
        let (id, target) = (&merge.id.as_str()[..6], short_branch(&merge.target));
        tx.describe(format!("merge {id}: start {} into {target}", names.join(", ")));
        tx.depend_on(objects.iter().cloned());
        tx.move_ref(keep(&merge));
        tx.put(&merge)?;
        Ok(merge.clone())
    };
    Ok(store.transact(change)?.value)
}

/// The merge that is not over: into `target` (a full ref name) if given, otherwise the newest one.
pub fn find_open(state: &State, target: Option<&str>) -> Result<Option<Merge>, Error> {
    let mut open: Vec<Merge> = state.all()?;
    open.retain(|merge| merge.status.is_open() && target.is_none_or(|target| merge.target == target));
    open.sort_by_key(|merge| (merge.created, merge.id));
    Ok(open.pop())
}

/// Goes on with a merge until it has landed or somebody is needed. Says what happens through `say`. Nothing lands that
/// does not pass the gates of `gating`.
///
/// # Errors
/// [`Error::NotOpen`] if it is over, [`Error::MovedOn`] if another process goes on with it at the same time,
/// [`Error::Interrupted`] if nobody waits for a gate any more; the target has not moved then.
pub fn advance(
    store: &Store,
    id: &Id,
    rules: &Rules,
    gating: &Gating<'_>,
    say: &mut dyn FnMut(Remark),
) -> Result<Progress, Error> {
    trust::require_unchanged(store.repo())?;
    for _ in 0..RESTLESS {
        let state = store.state()?;
        let stored: Merge = state.require(id)?;
        if !stored.status.is_open() {
            return Err(Error::NotOpen { id: *id, status: stored.status });
        }
        let mut run = Run {
            store,
            state: &state,
            rules,
            merge: stored.clone(),
            stored,
            settled: Vec::new(),
            noticed: Vec::new(),
            reopened: Vec::new(),
            named: BTreeSet::new(),
            say: &mut *say,
        };
        let mut prefix = run.find_landed_prefix()?;
        if prefix.is_none() {
            let has_landed = run.look_around()?;
            prefix = loop {
                let merged = run.merge_pending()?;
                if let Merged::Stopped(progress) = merged {
                    return Ok(*progress);
                }
                // The commit that is gated is the one that lands.
                match run.pass_gates(gating)? {
                    Gated::Passed if matches!(merged, Merged::Before) => break Some(run.merge.head.clone()),
                    Gated::Passed => break None,
                    Gated::Prefix(commit) => break Some(commit),
                    Gated::Again => {}
                    Gated::Stopped(progress) => return Ok(*progress),
                }
            };
            if !has_landed && run.has_moved()? {
                continue;
            }
        }
        if let Some(commit) = prefix {
            match run.land_prefix(&commit)? {
                Some(progress) => return Ok(progress),
                None => continue,
            }
        }
        let merge = run.merge;
        match land(store, &merge, None)? {
            Landing::Landed(merge) => return Ok(Progress::Landed(merge)),
            Landing::Blocked(blocked) => return Ok(Progress::Blocked { merge, blocked }),
            Landing::Moved => {}
        }
    }
    let merge: Merge = store.state()?.require(id)?;
    Err(Error::Restless(short_branch(&merge.target).to_owned()))
}

/// Gives a merge up. Nothing has moved, so nothing has to be put back.
pub fn abort(store: &Store, id: &Id) -> Result<Merge, Error> {
    let change = |tx: &mut Transaction<'_>| -> Result<Merge, Error> {
        let mut merge: Merge = tx.require(id)?;
        if !merge.status.is_open() {
            return Err(Error::NotOpen { id: *id, status: merge.status });
        }
        merge.status = MergeStatus::Aborted;
        withdraw_decisions(tx, &merge)?;
        tx.move_ref(RefEdit { new: None, ..keep(&merge) });
        tx.describe(format!("merge {}: abort", &id.as_str()[..6]));
        tx.put(&merge)?;
        Ok(merge)
    };
    Ok(store.transact(change)?.value)
}

/// Makes the steps from `at` on pending again, except those that were left out.
pub(super) fn redo_from(merge: &mut Merge, at: usize) {
    let (before, after) = merge.steps.split_at_mut(at);
    for step in after.iter_mut().filter(|step| step.status != StepStatus::Skipped) {
        step.status = StepStatus::Pending;
        step.commit = None;
        step.resolutions.clear();
    }
    let last = before.iter().rev().find_map(|step| step.commit.clone());
    merge.head = last.unwrap_or_else(|| merge.target_tip.clone());
    merge.status = MergeStatus::Running;
}

fn keep(merge: &Merge) -> RefEdit {
    RefEdit { name: keep_ref(&merge.id), new: Some(merge.head.clone()), expected: Expected::Anything }
}

/// One process's attempt to go on with a merge.
pub(super) struct Run<'a> {
    pub(super) store: &'a Store,
    pub(super) state: &'a State,
    pub(super) rules: &'a Rules,
    /// As it is in the state.
    stored: Merge,
    /// As it is being worked on.
    pub(super) merge: Merge,
    /// Decisions that led to a tree since the last record, with what is to be remembered of them.
    settled: Vec<Decision>,
    /// What is written down with the next record.
    pub(super) noticed: Vec<Finding>,
    /// Decisions that are open again with the next record, with why: what an agent answered is not taken.
    pub(super) reopened: Vec<(Id, String)>,
    /// Whose uncommitted work was said not to be in this merge.
    pub(super) named: BTreeSet<Id>,
    pub(super) say: &'a mut dyn FnMut(Remark),
}

impl Run<'_> {
    /// Compares the merge with the world, and takes back what no longer holds. Whether all of it has landed already.
    fn look_around(&mut self) -> Result<bool, Error> {
        let repo = self.store.repo();
        let target = repo.find_ref(&self.merge.target)?;
        let target = target.ok_or_else(|| Error::NoTarget(short_branch(&self.merge.target).to_owned()))?;
        self.require_work()?;
        if !repo.has_object(&self.merge.head) || target != self.merge.head && !self.is_sound()? {
            (self.say)(Remark::Rebuilt);
            self.redo_from(0);
        }
        let landed = target == self.merge.head
            || repo.has_object(&self.merge.head)
                && repo.merge_base(&target, &self.merge.head)?.as_ref() == Some(&self.merge.head);
        if target != self.merge.target_tip && !(landed && self.is_done()) {
            (self.say)(Remark::TargetMoved { target: self.merge.target.clone(), tip: target.clone() });
            self.merge.target_tip = target;
            self.redo_from(0);
        }
        if landed && self.is_done() {
            self.name_left()?;
            return Ok(true);
        }
        self.commit_left()?;
        for at in 0..self.merge.steps.len() {
            let step = &self.merge.steps[at];
            let agent = self.state.get::<Agent>(&step.agent)?;
            // A branch that is gone (its agent was removed), or is another's here, is merged as it was planned.
            let tip = agent.map(|agent| branch::tip_here(self.store, &agent)).transpose()?.flatten();
            if let Some(tip) = tip
                && tip != step.tip
                && step.mends.is_none()
                && step.status != StepStatus::Skipped
            {
                (self.say)(Remark::TipMoved(step.name.clone()));
                self.merge.steps[at].tip = tip;
                self.redo_from(at);
            }
        }
        Ok(false)
    }

    /// Refuses where the commits of a branch are not in this clone: it was begun in another.
    fn require_work(&self) -> Result<(), Error> {
        let (mut names, mut branches) = (Vec::new(), Vec::new());
        for step in self.merge.steps.iter().filter(|step| step.status != StepStatus::Skipped) {
            if self.store.repo().has_object(&step.tip) {
                continue;
            }
            let agent = self.state.get::<Agent>(&step.agent)?;
            let here = agent.as_ref().map(|agent| branch::tip_here(self.store, agent)).transpose()?.flatten();
            if here.is_none() || step.mends.is_some() {
                names.push(step.name.clone());
                branches.extend(agent.map(|agent| agent.branch));
            }
        }
        if names.is_empty() { Ok(()) } else { Err(Error::Lacking { id: self.merge.id, names, branches }) }
    }

    /// Whether the accumulated commit is what the steps say: the target, and each branch merged onto what came before,
    /// as git merges it where nobody had to decide. A record may come from elsewhere and name any commit.
    pub(super) fn is_sound(&self) -> Result<bool, Error> {
        let repo = self.store.repo();
        let mut head = self.merge.target_tip.clone();
        let (mut pairs, mut trees) = (Vec::new(), Vec::new());
        for step in &self.merge.steps {
            let Some(id) = &step.commit else { continue };
            if !repo.has_object(id) {
                return Ok(false);
            }
            let commit = repo.read_commit(id)?;
            let is_its_own = match step.mends {
                Some(_) => *id == step.tip && commit.parents == [head.clone()],
                None => commit.parents == [head.clone(), step.tip.clone()],
            };
            if !is_its_own {
                return Ok(false);
            }
            if step.status == StepStatus::Clean {
                pairs.push((head, step.tip.clone()));
                trees.push(commit.tree);
            }
            head = id.clone();
        }
        if head != self.merge.head {
            return Ok(false);
        }
        let merges = repo.merge_trees(&pairs)?;
        Ok(merges.iter().zip(&trees).all(|(merge, tree)| merge.clean && merge.tree == *tree))
    }

    fn is_done(&self) -> bool {
        self.merge.steps.iter().all(|step| step.status != StepStatus::Pending)
    }

    /// Makes the steps from `at` on pending again, except those that were left out.
    pub(super) fn redo_from(&mut self, at: usize) {
        redo_from(&mut self.merge, at);
    }

    /// Merges step after step. When none is pending any more that is recorded.
    fn merge_pending(&mut self) -> Result<Merged, Error> {
        while let Some(at) = self.merge.steps.iter().position(|step| step.status == StepStatus::Pending) {
            let step = self.merge.steps[at].clone();
            if let Some(skipped) = self.skipped_need(&step) {
                self.skip(at, Some(format!("it builds on {skipped}, which was left out")));
                continue;
            }
            if step.mends.is_some() {
                self.apply_mend(at)?;
                continue;
            }
            match attempt(self.store.repo(), &self.merge.head, &step.tip)? {
                // Somebody rewrote it since the merge was planned; the others do not wait for that.
                None => self.skip(at, Some(unrelated(&self.merge.target))),
                Some(Attempt::Empty) => self.done(at, StepStatus::Empty, None),
                Some(Attempt::Clean(tree)) => {
                    let commit = self.commit(&step, &tree, &[])?;
                    self.done(at, StepStatus::Clean, Some(commit));
                }
                Some(Attempt::Conflict(result)) => {
                    let conflict =
                        ConflictStep::new(self.store.repo(), self.state, &self.merge, &step, result)?;
                    if let Some(stopped) = self.decide(at, conflict)? {
                        return Ok(stopped);
                    }
                }
            }
        }
        self.merge.status = MergeStatus::Running;
        self.record(None)?;
        Ok(Merged::All)
    }

    /// Whether what was merged so far lands before anybody is asked about what comes after it.
    fn lands_first(&self) -> bool {
        self.rules.lands_prefixes && self.merge.head != self.merge.target_tip
    }

    /// What the gates read of questions is in the state.
    fn before(&mut self) -> Result<Merged, Error> {
        if !self.reopened.is_empty() {
            self.record(None)?;
        }
        Ok(Merged::Before)
    }

    /// Does with a conflict what was decided, or asks. `None` if the step is over.
    fn decide(&mut self, at: usize, conflict: ConflictStep) -> Result<Option<Merged>, Error> {
        let earlier = self.state.all::<Decision>()?;
        let asked = earlier.iter().filter(|d| {
            d.merge == Some(self.merge.id)
                && d.subject == conflict.subject
                && d.agent == Some(conflict.step.agent)
                && d.status != DecisionStatus::Withdrawn
        });
        let (decision, is_new) = match asked.max_by_key(|decision| (decision.created, decision.id)) {
            Some(decision) => (decision.clone(), false),
            None => (self.ask(&conflict, &earlier)?, true),
        };
        let unfit = unions_without_lines(&decision, &conflict);
        if !is_new && !unfit.is_empty() {
            (self.say)(Remark::NotTaken(format!("{} has no lines to keep of both", unfit.join(", "))));
            let decision = forget_unions(self.store, &decision.id, &unfit)?;
            return self.wait(decision, conflict).map(Some);
        }
        let mut decision = self.lock_again(&conflict, decision, is_new)?;
        if decision.status == DecisionStatus::Open {
            return self.wait(decision, conflict).map(Some);
        }
        if is_new {
            headline(&mut decision, &self.merge, &conflict);
        }
        match decision.answer.as_ref().map(|answer| answer.key.as_str()) {
            Some("skip") => {
                self.skip(at, None);
                Ok(None)
            }
            Some("abort") => {
                let merge = abort(self.store, &self.merge.id)?;
                Ok(Some(Merged::Stopped(Box::new(Progress::Aborted(merge)))))
            }
            _ => {
                let Some(decision) = fold(&decision, &conflict) else {
                    let decision = if is_new {
                        // What was answered before does not fit: it is asked.
                        let mut decision = decision;
                        decision.places.clear();
                        (decision.status, decision.answer) = (DecisionStatus::Open, None);
                        decision
                    } else {
                        forget_places(self.store, &decision.id)?
                    };
                    return self.wait(decision, conflict).map(Some);
                };
                if let Some(resolved) = resolve(self.store.repo(), &conflict, &decision)? {
                    if let Some(lost) = refusal(self.store.repo(), &conflict, &resolved)? {
                        let why = format!("An agent resolved it, and that was not taken: it {lost}.");
                        let mut decision = decision;
                        open_again(&mut decision, &why);
                        self.reopened.push((decision.id, why));
                        (self.say)(Remark::Refused(lost));
                        return self.wait(decision, conflict).map(Some);
                    }
                    let remembers = learn(self.store.repo(), &conflict, &decision, &resolved.tree)?;
                    self.settled.push(Decision { remembers, ..decision });
                    let commit = self.commit(&conflict.step, &resolved.tree, &resolved.words)?;
                    self.merge.steps[at].resolutions = resolved.resolutions;
                    self.done(at, StepStatus::Resolved, Some(commit));
                    return Ok(None);
                }
                if self.lands_first() {
                    return self.before().map(Some);
                }
                self.merge.status = MergeStatus::Waiting;
                self.record(None)?;
                let (merge, conflict) = (self.merge.clone(), Box::new(conflict));
                Ok(Some(Merged::Stopped(Box::new(Progress::NeedsAgent { merge, decision, conflict }))))
            }
        }
    }

    /// What is asked about a conflict, with the answers that nobody has to give.
    fn ask(&self, conflict: &ConflictStep, earlier: &[Decision]) -> Result<Decision, Error> {
        let (id, ids, now) = (self.store.new_id()?, self.state.short_ids()?, self.store.clock().now());
        let mut decision = question(self.store.repo(), id, &self.merge, conflict, now)?;
        carry(&mut decision, earlier);
        climb(self.store.repo(), self.rules, conflict, earlier, &mut decision)?;
        decision.detail = detail(&self.merge, conflict, ids, &decision);
        if !decision.paths.is_empty() && decision.open_places().is_empty() {
            decision.status = DecisionStatus::Answered;
        }
        Ok(decision)
    }

    /// Waits for an answer to what is open of a conflict now.
    fn wait(&mut self, mut decision: Decision, conflict: ConflictStep) -> Result<Merged, Error> {
        if self.lands_first() {
            return self.before();
        }
        headline(&mut decision, &self.merge, &conflict);
        self.merge.status = MergeStatus::Waiting;
        self.record(Some(&decision))?;
        let (merge, conflict) = (self.merge.clone(), Box::new(conflict));
        Ok(Merged::Stopped(Box::new(Progress::Waiting { merge, decision, conflict })))
    }

    pub(super) fn commit(
        &self,
        step: &Step,
        tree: &ObjectId,
        resolved: &[String],
    ) -> Result<ObjectId, Error> {
        let (repo, author, at) = (self.store.repo(), self.store.author(), self.store.clock().now());
        let task = step.task.map(|id| self.state.get::<Task>(&id)).transpose()?.flatten();
        let words = Words {
            merge: &self.merge.id,
            target: &self.merge.target,
            agent: &step.agent,
            name: &step.name,
            task: task.as_ref(),
            resolved,
        };
        Maker { repo, author, at }.commit(&self.merge.head, &step.tip, tree, words)
    }

    /// The first step that was left out of those that `step` builds on.
    fn skipped_need(&self, step: &Step) -> Option<Name> {
        let skipped =
            |other: &&Step| step.after.contains(&other.agent) && other.status == StepStatus::Skipped;
        self.merge.steps.iter().find(skipped).map(|other| other.name.clone())
    }

    pub(super) fn skip(&mut self, at: usize, reason: Option<String>) {
        self.merge.steps[at].reason = reason;
        self.done(at, StepStatus::Skipped, None);
    }

    pub(super) fn done(&mut self, at: usize, status: StepStatus, commit: Option<ObjectId>) {
        let step = &mut self.merge.steps[at];
        step.status = status;
        if let Some(commit) = commit {
            self.merge.head = commit.clone();
            step.commit = Some(commit);
        }
        (self.say)(Remark::Step(step.clone()));
    }

    /// Writes down everything since the last record, unless somebody else wrote meanwhile.
    pub(super) fn record(&mut self, decision: Option<&Decision>) -> Result<(), Error> {
        let (before, merge) = (&self.stored, &self.merge);
        let (settled, noticed, reopened) = (&self.settled, &self.noticed, &self.reopened);
        let objects = new_objects(self.store.repo(), &merge.head, &known(merge))?;
        let change = |tx: &mut Transaction<'_>| -> Result<(), Error> {
            if tx.require::<Merge>(&merge.id)? != *before {
                return Err(Error::MovedOn(merge.id));
            }
            for (id, why) in reopened {
                if let Some(mut asked) = tx.get::<Decision>(id)?
                    && asked.status == DecisionStatus::Answered
                {
                    open_again(&mut asked, why);
                    tx.put(&asked)?;
                }
            }
            // A question about a conflict that is no more: a branch or the target moved.
            for mut other in tx.all::<Decision>()? {
                let open = other.merge == Some(merge.id) && other.status == DecisionStatus::Open;
                let stands = match decision {
                    Some(decision) => {
                        decision.id == other.id
                            || decision.kind != DecisionKind::Conflict && conflicts_yet(merge, &other)
                    }
                    None => still_asks(merge, &other) || conflicts_yet(merge, &other),
                };
                if open && !stands {
                    other.status = DecisionStatus::Withdrawn;
                    tx.put(&other)?;
                }
            }
            if let Some(decision) = decision {
                let mut asked = decision.clone();
                if let Some(stored) = tx.get::<Decision>(&asked.id)? {
                    keep_given(&mut asked, &stored);
                }
                tx.put(&asked)?;
            }
            for settled in settled {
                let mut decision = tx.get::<Decision>(&settled.id)?.unwrap_or_else(|| settled.clone());
                decision.remembers.clone_from(&settled.remembers);
                // What was put together of places; nobody else writes those.
                for (path, answer) in settled.answers.iter().filter(|(_, answer)| answer.key == PLACES) {
                    decision.answers.insert(path.clone(), answer.clone());
                }
                tx.put(&decision)?;
            }
            for finding in noticed {
                for line in finding.note_lines() {
                    if let Some(commit) = finding.commit.clone() {
                        tx.note(NoteEdit { notes_ref: FINDINGS_NOTES.to_owned(), commit, line });
                    }
                }
                tx.put(finding)?;
            }
            if merge != before {
                tx.depend_on(objects.iter().cloned());
                tx.move_ref(keep(merge));
                tx.put(merge)?;
            }
            tx.describe(format!("merge {}: {}", &merge.id.as_str()[..6], summary(before, merge)));
            Ok(())
        };
        self.store.transact(change)?;
        self.stored = self.merge.clone();
        self.settled.clear();
        self.noticed.clear();
        self.reopened.clear();
        Ok(())
    }
}

/// Whether a question is about a conflict of a branch that is not merged yet: what comes before it is tried first.
fn conflicts_yet(merge: &Merge, decision: &Decision) -> bool {
    let pending = |step: &Step| decision.agent == Some(step.agent) && step.status == StepStatus::Pending;
    decision.kind == DecisionKind::Conflict && merge.steps.iter().any(pending)
}

/// What changed between two records, for the log of the state.
fn summary(before: &Merge, after: &Merge) -> String {
    let done = |merge: &Merge| merge.steps.iter().filter(|step| step.status != StepStatus::Pending).count();
    let progress = format!("{} of {} steps", done(after), after.steps.len());
    match after.status {
        MergeStatus::Waiting if before.status != MergeStatus::Waiting => {
            format!("wait for a decision after {progress}")
        }
        _ => progress,
    }
}

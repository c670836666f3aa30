//! What undoing an operation comes to: worked out in full before anything is touched, so that it can be shown, asked
//! about, and refused.

use super::super::remove::{Leaving, RemoveOptions, is_name_of_another, look};
use super::super::{Error, lease, trust};
use super::notes;
use crate::git::{Checkout, Repository, few_paths};
use crate::model::{Agent, Finding, Id, Kind, MergeStatus, ObjectId};
use crate::store::{
    CLAIM_REFS, EPOCH_REFS, EntityChange, LOG_REFS, Logged, RESCUE_REFS, RefMove, Reversal, STATE_REF, Side,
    State, Store,
};
use std::collections::BTreeSet;

/// What undoing one operation would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The operation.
    pub operation: Logged,
    /// What it did to entities.
    pub changes: Vec<EntityChange>,
    /// What becomes of them.
    pub reversal: Reversal,
    /// What happens to refs and worktrees.
    pub steps: Vec<Step>,
    /// What cannot be brought back, in sentences.
    pub losses: Vec<String>,
}

/// One thing that happens outside of the state's records.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// An agent's worktree and branch go, what is only in them is kept under a rescue ref first.
    Remove {
        /// The agent.
        agent: Box<Agent>,
        /// How many paths are in no commit.
        uncommitted: usize,
        /// Whether it has a worktree.
        worktree: bool,
        #[doc(hidden)]
        leaving: Box<LeavingAgent>,
    },
    /// An agent's worktree and branch come back.
    Restore {
        /// The agent.
        agent: Box<Agent>,
        /// Where its branch was.
        tip: ObjectId,
        /// What was uncommitted in its worktree, by the rescue ref that keeps it.
        rescue: Option<(String, ObjectId)>,
    },
    /// A branch goes back to where it was, with the files of whoever has it checked out.
    Move {
        /// The branch, a full ref name.
        branch: String,
        /// Where it is.
        from: ObjectId,
        /// Where it goes.
        to: ObjectId,
        /// Who has it checked out.
        checkout: Option<Checkout>,
        /// The agent whose branch it is: what it loses is kept under a rescue ref.
        agent: Option<Box<Agent>>,
    },
    /// A ref that only we use goes back.
    Keep(RefMove),
}

/// What an agent leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeavingAgent(pub(super) Leaving);

impl Plan {
    /// Works out how to undo `operation`. Nothing is touched.
    ///
    /// # Errors
    /// If it was undone before, if an agent of it runs, or if refs or checkouts are not as it left them. What others
    /// wrote since is no error: [`Reversal::conflicts`] has it.
    pub fn new(store: &Store, operation: &Logged) -> Result<Self, Error> {
        let state = store.state()?;
        refuse_what_is_none(operation)?;
        trust::require_unchanged(store.repo())?;
        let changes = state.changes(operation)?;
        let reversal = Reversal::plan(&state, &changes)?;
        let mut plan =
            Self { operation: operation.clone(), changes, reversal, steps: Vec::new(), losses: Vec::new() };
        plan.refuse_running(store)?;
        plan.add_deleted_agents(store, &state)?;
        if operation.here {
            for moved in &operation.refs {
                plan.add_ref(store, &state, moved)?;
            }
        }
        plan.add_losses(store, &state)?;
        if plan.reversal.is_nothing() && plan.steps.is_empty() {
            let what = format!("undo {}: it only wrote down what had happened", named(operation));
            return Err(Error::refused(what, None));
        }
        Ok(plan)
    }

    /// Whether somebody should be asked first: something outside of the state changes, or does not come back.
    pub fn is_grave(&self) -> bool {
        !self.losses.is_empty() || self.steps.iter().any(|step| !matches!(step, Step::Keep(_)))
    }

    /// Why [`super::undo`] would not do it: others wrote something since, and all of it is to go back (without `partial`),
    /// or nothing else would.
    pub fn refusal(&self, partial: bool) -> Option<Error> {
        let conflicts = &self.reversal.conflicts;
        let is_nothing = self.reversal.is_empty() && self.steps.is_empty();
        if !is_nothing && (partial || conflicts.is_empty()) {
            return None;
        }
        let said = conflicts.iter().map(|one| format!("{} {}: {}", one.kind, &one.id.as_str()[..6], one.why));
        let what = format!("undo {}: {}", named(&self.operation), said.collect::<Vec<_>>().join("; "));
        let hint = if is_nothing {
            "undo what came after it first (`git orchestra oplog`): beside that there is nothing of it to undo"
        } else {
            "undo what came after it first, or take `--partial` to leave that as it is and undo the rest"
        };
        Some(Error::refused(what, hint.to_owned()))
    }

    fn agents(&self) -> impl Iterator<Item = Id> {
        self.changes.iter().filter(|change| change.kind == Kind::Agent).map(|change| change.id)
    }

    fn refuse_running(&self, store: &Store) -> Result<(), Error> {
        for id in self.agents() {
            if let Some(info) = lease::find_live(store.repo(), &id) {
                let what = format!("undo {}: {} is running", named(&self.operation), info.name);
                return Err(Error::refused(
                    what,
                    format!("`git orchestra stop {} --wait` ends it", info.name),
                ));
            }
        }
        Ok(())
    }

    /// Agents that the operation made go like those that are removed.
    fn add_deleted_agents(&mut self, store: &Store, state: &State) -> Result<(), Error> {
        let machine = store.machine()?;
        for (kind, id) in self.reversal.deleted.clone() {
            if kind != Kind::Agent {
                continue;
            }
            let agent: Agent = state.require(&id)?;
            if agent.machine == machine {
                self.add_removal(store, agent)?;
            } else {
                self.losses
                    .push(format!("the worktree and branch of {} on machine {}", agent.name, agent.machine));
            }
        }
        Ok(())
    }

    fn add_removal(&mut self, store: &Store, agent: Agent) -> Result<(), Error> {
        let verb = format!("undo {}: remove", named(&self.operation));
        let leaving = look(&verb, store, &agent, RemoveOptions::default())?;
        if leaving.tip.is_none() && leaving.worktree.is_none() {
            return Ok(());
        }
        if let Some(tip) = &leaving.tip {
            let end = format!("/orchestra/{}", agent.name);
            for remote in store.repo().remotes_with(tip)?.into_iter().filter(|name| name.ends_with(&end)) {
                self.losses.push(format!("{remote}, which the remote has and keeps"));
            }
        }
        let (uncommitted, worktree) = (leaving.uncommitted, leaving.there);
        let leaving = Box::new(LeavingAgent(leaving));
        self.steps.push(Step::Remove { agent: Box::new(agent), uncommitted, worktree, leaving });
        Ok(())
    }

    fn add_ref(&mut self, store: &Store, state: &State, moved: &RefMove) -> Result<(), Error> {
        let repo = store.repo();
        let name = &moved.name;
        let now = repo.find_ref(name)?;
        if name == STATE_REF || now == moved.old {
            // What is back needs nothing.
            return Ok(());
        }
        if [RESCUE_REFS, EPOCH_REFS, LOG_REFS].iter().any(|kept| name.starts_with(kept)) {
            // What was kept stays kept, and what `prune` let go comes back as long as git has it.
            let had = moved.old.as_ref().filter(|_| moved.new.is_none() && now.is_none());
            if had.is_some_and(|old| repo.has_object(old)) {
                self.steps.push(Step::Keep(moved.clone()));
            } else if had.is_some() {
                self.losses.push(format!("{name}, whose commits are not in this repository any more"));
            }
            return Ok(());
        }
        if name.starts_with("refs/orchestra/") {
            let is_merge = name.starts_with("refs/orchestra/merges/");
            if is_merge && now == moved.new && moved.old.as_ref().is_none_or(|old| repo.has_object(old)) {
                self.steps.push(Step::Keep(moved.clone()));
            }
            return Ok(());
        }
        if !name.starts_with("refs/heads/") {
            return Ok(());
        }
        let agent = self.agent_of(state, name)?;
        match (&moved.old, &moved.new, agent) {
            // What it made and removed itself is gone already.
            (_, _, Some(agent)) if self.is_going(&agent) => Ok(()),
            (Some(tip), None, Some(agent)) => self.add_restoration(store, agent, tip),
            (None, Some(_), Some(agent)) => self.add_removal(store, agent),
            (Some(old), Some(new), agent) => {
                if now.as_ref() != Some(new) {
                    return Err(self.moved_on(repo, name, new, now.as_ref()));
                }
                self.add_move(repo, name, new, old, agent)
            }
            _ => Ok(()),
        }
    }

    /// The agent of the operation whose own branch this is, in its record as it is, deleted or not.
    fn agent_of(&self, state: &State, branch: &str) -> Result<Option<Agent>, Error> {
        for id in self.agents() {
            let Some(record) = state.record(Kind::Agent, &id)? else { continue };
            if let Ok(agent) = record.entity::<Agent>()
                && agent.branch == branch
                && agent.has_own_branch()
            {
                return Ok(Some(agent));
            }
        }
        Ok(None)
    }

    fn is_going(&self, agent: &Agent) -> bool {
        self.reversal.deleted.contains(&(Kind::Agent, agent.id))
    }

    fn add_restoration(&mut self, store: &Store, agent: Agent, tip: &ObjectId) -> Result<(), Error> {
        let repo = store.repo();
        let refuse = |why: String, hint: Option<String>| {
            Error::refused(format!("undo {}: {why}", named(&self.operation)), hint)
        };
        if is_name_of_another(store, &agent)? || repo.find_ref(&agent.branch)?.is_some() {
            return Err(refuse(
                format!("the name {} is that of another agent or branch now", agent.name),
                None,
            ));
        }
        if !repo.has_object(tip) {
            return Err(refuse(
                format!("the commits of {} are not in this repository any more", agent.name),
                None,
            ));
        }
        let prefix = format!("{RESCUE_REFS}{}/", agent.name);
        let rescues = self.operation.refs.iter().filter(|moved| moved.name.starts_with(&prefix));
        let rescue = rescues.filter_map(|moved| Some((moved.name.clone(), moved.new.clone()?))).next_back();
        // The commit is the branch itself if nothing was uncommitted. What was detached from the branch stays there.
        let rescue = match rescue.filter(|(_, commit)| commit != tip && repo.has_object(commit)) {
            Some((name, commit)) if repo.read_commit(&commit)?.parents.first() == Some(tip) => {
                Some((name, commit))
            }
            Some((name, _)) => {
                self.losses
                    .push(format!("{} was not on its branch; what was there stays in {name}", agent.name));
                None
            }
            None => None,
        };
        if rescue.is_some() {
            self.losses.push(format!("which changes of {} were staged", agent.name));
        }
        self.steps.push(Step::Restore { agent: Box::new(agent), tip: tip.clone(), rescue });
        Ok(())
    }

    fn add_move(
        &mut self,
        repo: &Repository,
        name: &str,
        from: &ObjectId,
        to: &ObjectId,
        agent: Option<Agent>,
    ) -> Result<(), Error> {
        let short = name.strip_prefix("refs/heads/").unwrap_or(name);
        let refuse = |why: String, hint: Option<String>| {
            Err(Error::refused(format!("undo {}: {why}", named(&self.operation)), hint))
        };
        if !repo.has_object(to) {
            return refuse(format!("where {short} was is not in this repository any more"), None);
        }
        let holds = |checkout: &Checkout| checkout.branch.as_deref() == Some(name) && !checkout.prunable;
        let mut holders: Vec<Checkout> =
            repo.checkouts()?.into_iter().filter(|checkout| holds(checkout) && !checkout.bare).collect();
        if let [first, second, ..] = &holders[..] {
            let (first, second) = (first.path.display(), second.path.display());
            return refuse(format!("{short} is checked out in {first} and in {second}"), None);
        }
        let checkout = holders.pop();
        if let Some(checkout) = &checkout {
            let dirty = repo.uncommitted_paths(checkout, to)?;
            if !dirty.is_empty() {
                let hint = format!("commit or stash it first: {}", few_paths(&dirty));
                let path = checkout.path.display();
                return refuse(
                    format!("{short} is checked out in {path}, and not all there is committed"),
                    Some(hint),
                );
            }
        }
        let (branch, from, to) = (name.to_owned(), from.clone(), to.clone());
        for remote in repo.remotes_with(&from)? {
            self.losses.push(format!("{}, which {remote} has already", from.short()));
        }
        self.steps.push(Step::Move { branch, from, to, checkout, agent: agent.map(Box::new) });
        Ok(())
    }

    fn moved_on(&self, repo: &Repository, name: &str, left: &ObjectId, now: Option<&ObjectId>) -> Error {
        let short = name.strip_prefix("refs/heads/").unwrap_or(name);
        let Some(now) = now else {
            return Error::refused(format!("undo {}: {short} is gone", named(&self.operation)), None);
        };
        let what = format!(
            "undo {}: {short} has moved on from {} to {}",
            named(&self.operation),
            left.short(),
            now.short()
        );
        let landed = repo.is_ancestor(left, now).unwrap_or(false) && self.has_landed();
        let hint = format!("`git revert -m 1` of its merge commits takes it back on top of {short}");
        Error::refused(what, landed.then_some(hint))
    }

    /// Whether the operation landed a merge.
    fn has_landed(&self) -> bool {
        let landed = serde_json::to_value(MergeStatus::Landed).ok();
        self.changes.iter().any(|change| {
            change.kind == Kind::Merge
                && change.fields.get("status").is_some_and(|status| status.after == landed)
        })
    }

    fn add_losses(&mut self, store: &Store, state: &State) -> Result<(), Error> {
        let machine = store.machine()?;
        let mut spent = Vec::new();
        for change in self.changes.iter().filter(|change| change.kind == Kind::Agent) {
            let ran =
                change.fields.iter().any(|(key, field)| key.starts_with("runs:") && field.after.is_some());
            if ran && let Some(record) = state.record(Kind::Agent, &change.id)? {
                spent.extend(record.entity::<Agent>().map(|agent| agent.name.to_string()).ok());
            }
        }
        if !spent.is_empty() {
            let names = spent.join(", ");
            self.losses.push(format!("the tokens and money that {names} spent, and its transcripts"));
            self.losses.push(format!("what {names} did outside of its worktree"));
        }
        if self.operation.command.split(' ').next() == Some("prune") {
            self.losses.push(
                "files that it deleted: of builds, of journals whose transcripts stay, of caches".to_owned(),
            );
        }
        for change in self.changes.iter().filter(|change| change.fields.contains_key("fence")) {
            if store.repo().find_ref(&format!("{CLAIM_REFS}{}", change.id))?.is_some() {
                let task = &change.id.as_str()[..6];
                self.losses
                    .push(format!("the claim of {task} on the remote, which the next sync gives back"));
            }
        }
        let mut findings = Vec::new();
        for (_, id) in self.reversal.deleted.iter().filter(|(kind, _)| *kind == Kind::Finding) {
            findings.extend(state.get::<Finding>(id)?);
        }
        for commit in notes::shared(store.repo(), &findings)? {
            self.losses.push(format!("the note on {}, which a remote has already", commit.short()));
        }
        let foreign = self.operation.machine.as_ref().filter(|other| **other != machine);
        let elsewhere = self.operation.refs.iter().filter(|moved| !moved.name.starts_with(RESCUE_REFS));
        if !self.operation.here
            && let names = elsewhere.map(|moved| short(&moved.name)).collect::<BTreeSet<_>>()
            && !names.is_empty()
        {
            let place = foreign.map_or_else(|| "elsewhere".to_owned(), |other| format!("on machine {other}"));
            let names: Vec<_> = names.into_iter().collect();
            self.losses.push(format!("{}, which moved {place}", names.join(", ")));
        }
        Ok(())
    }
}

/// What is no operation that anybody could undo.
fn refuse_what_is_none(operation: &Logged) -> Result<(), Error> {
    let refuse = |why: &str, hint: Option<&str>| {
        Err(Error::refused(format!("undo {}: {why}", named(operation)), hint.map(str::to_owned)))
    };
    if operation.machine.is_none() {
        let hint = "what came with it are operations of their own: `git orchestra oplog`";
        return refuse("it brought two states together", Some(hint));
    }
    if operation.undone {
        return refuse(
            "it was undone already",
            Some("`git orchestra oplog` names the operation that did; undo that one"),
        );
    }
    if !operation.named && operation.command == "orchestra: init" {
        return refuse("before it there was no state", None);
    }
    if operation.side == Side::Cut {
        let hint = "nothing of the state was changed by it; `git orchestra oplog` tells what was before";
        return refuse("a cut of the history stays", Some(hint));
    }
    if operation.side == Side::Before {
        let hint = "`git orchestra oplog ID` says what it did; change back by hand what should go back";
        return refuse("the history was cut after it", Some(hint));
    }
    if operation.command == "recover" {
        return refuse("it wrote down what had happened to runs", None);
    }
    Ok(())
}

/// An operation in a sentence: its command, with as much of its id as people type.
pub(super) fn named(operation: &Logged) -> String {
    format!("{} ({})", operation.id.get(..6).unwrap_or(&operation.id), operation.command)
}

/// A ref as people write it.
fn short(name: &str) -> &str {
    name.strip_prefix("refs/heads/").unwrap_or(name)
}

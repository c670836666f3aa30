//! What is next in a pipeline, done as the commands for it do it by hand.

use super::Args;
use crate::cli::command::{merge as merging, resume, spawn, sync};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::session;
use crate::cli::ui::{Label, printable};
use crate::cli::view;
use crate::config::{self, AUTO, Team};
use crate::model::{Agent, Decision, DecisionStatus, Id, MergeStatus, Outcome, Pipeline, PipelineStatus, Task};
use crate::orchestrate::hold::Lookout;
use crate::orchestrate::lease;
use crate::orchestrate::merge::short_branch;
use crate::orchestrate::pipeline::{self, Standing};
use crate::orchestrate::supervise::Progress;
use crate::orchestrate::team;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

const POLL: Duration = Duration::from_millis(200);

/// Refuses what could not come to its end: profiles, teams, gates and remotes that are not there or not approved.
pub(super) fn check(
    ctx: &Context,
    args: &Args,
    pipeline: &Pipeline,
    settings: &config::Pipeline,
) -> Result<(), CliError> {
    match &pipeline.team {
        Some(name) if name != AUTO => {
            for step in ctx.settings()?.team(name)?.steps {
                session::outfit(ctx, Some(&step.profile), None)?;
            }
        }
        Some(_) => {}
        None => drop(session::outfit(ctx, pipeline.profile.as_deref(), None)?),
    }
    if !args.no_gates {
        let gates = if args.gate.is_empty() { &settings.gates } else { &args.gate };
        ctx.settings()?.gates(gates)?;
    }
    if let Some(remote) = &pipeline.push {
        sync::remote(ctx, Some(remote))?;
    }
    Ok(())
}

/// Goes on with a pipeline until it is over or nobody here can go on.
pub(super) fn run(
    ctx: &Context,
    args: &Args,
    begun: &Pipeline,
    settings: &config::Pipeline,
) -> Result<Exit, CliError> {
    let store = ctx.store()?;
    let _held = pipeline::hold(store, &begun.id)?;
    let short = view::short(&ctx.state()?, &begun.id)?;
    let count = begun.tasks.len();
    let tasks = if count == 1 { "1 task".to_owned() } else { format!("{count} tasks") };
    ctx.ui().note(format!("pipeline {}: {tasks}", ctx.ui().err_painter().paint(Label::Id, &short)));
    let mut course = Course {
        ctx,
        args,
        settings,
        id: begun.id,
        tried: BTreeSet::new(),
        retried: !args.retry,
        lookout: Lookout::default(),
        held: BTreeSet::new(),
    };
    if begun.status == PipelineStatus::Waiting {
        pipeline::change(store, &begun.id, "go on", |one| one.status = PipelineStatus::Running)?;
    }
    let ended = course.go_on();
    let over: Pipeline = ctx.state()?.require(&begun.id)?;
    if args.json {
        json::print(ctx, "pipeline", &view::pipeline::Shown::new(&over, ctx.state()?.short_ids()?))?;
    } else if over.status.is_open() {
        ctx.ui().hint("`git orchestra run --continue` goes on with the pipeline, `--retry` lets what failed try again, `--cancel` gives it up");
    } else {
        let result = over.result.as_deref().unwrap_or_default();
        ctx.ui().note(format!("pipeline {short} is {}: {}", over.status.word(), printable(result)));
    }
    ended
}

struct Course<'a> {
    ctx: &'a Context,
    args: &'a Args,
    settings: &'a config::Pipeline,
    id: Id,
    /// Tasks that this process began with already: what fails twice is a failure.
    tried: BTreeSet<Id>,
    /// Whether what failed has had its other try.
    retried: bool,
    /// What will probably meet.
    lookout: Lookout,
    /// Which tasks wait for which; each is said once.
    held: BTreeSet<(Id, Id)>,
}

/// What came of one look.
enum Turn {
    Again,
    Ended(Exit),
}

impl Course<'_> {
    fn go_on(&mut self) -> Result<Exit, CliError> {
        loop {
            if let Turn::Ended(exit) = self.turn()? {
                return Ok(exit);
            }
        }
    }

    fn turn(&mut self) -> Result<Turn, CliError> {
        let store = self.ctx.store()?;
        let pipeline: Pipeline = self.ctx.state()?.require(&self.id)?;
        if !pipeline.status.is_open() {
            return Ok(Turn::Ended(Exit::Done));
        }
        let stands = pipeline::look(store, &pipeline, &self.teams(&pipeline)?)?;
        let all = |wanted: fn(&Standing) -> bool| -> Vec<&(Task, Standing)> {
            stands.iter().filter(|(_, at)| wanted(at)).collect()
        };
        let agents = |found: &[&(Task, Standing)]| -> Vec<Agent> {
            found.iter().filter_map(|(_, at)| at.agent().cloned()).collect()
        };
        let working = agents(&all(|at| matches!(at, Standing::Working(_))));
        if !working.is_empty() {
            self.wait(&working)?;
            return Ok(Turn::Again);
        }
        let fresh = |task: &Task| !self.tried.contains(&task.id);
        let begin = all(|at| matches!(at, Standing::Wanted));
        let begin: Vec<Id> = begin.iter().filter(|(task, _)| fresh(task)).map(|(task, _)| task.id).collect();
        let cut = all(|at| matches!(at, Standing::CutShort(_)));
        let cut: Vec<(Id, Agent)> =
            cut.iter().filter(|(task, _)| fresh(task)).filter_map(|(task, at)| Some((task.id, at.agent()?.clone()))).collect();
        if !cut.is_empty() {
            self.tried.extend(cut.iter().map(|(task, _)| *task));
            let cut: Vec<Agent> = cut.into_iter().map(|(_, agent)| agent).collect();
            return self.resume(&cut);
        }
        let begin = self.beside(&begin, &stands)?;
        if !begin.is_empty() {
            self.tried.extend(begin.iter().copied());
            return self.spawn(&pipeline, &begin);
        }
        let asking = agents(&all(|at| matches!(at, Standing::Asking(_))));
        if !asking.is_empty() {
            return self.asked(&asking);
        }
        let failed = agents(&all(|at| matches!(at, Standing::Failed(_) | Standing::CutShort(_))));
        let mut ready = agents(&all(|at| matches!(at, Standing::Ready(_))));
        let stuck = self.stuck(&pipeline, &ready)?;
        let (unfit, fit): (Vec<Agent>, Vec<Agent>) =
            ready.into_iter().partition(|agent| stuck.contains_key(&agent.id));
        ready = fit;
        let failed: Vec<Agent> = failed.into_iter().chain(unfit).collect();
        if !failed.is_empty() {
            return self.failed(&pipeline, &failed, &stuck, ready.len());
        }
        if !ready.is_empty() {
            return self.merge(&pipeline, &ready);
        }
        if let Some((task, _)) = all(|at| matches!(at, Standing::Wanted)).first() {
            // Said by whoever could not begin it.
            self.stop(&format!("no agent could begin {}", task.title.lines().next().unwrap_or_default()))?;
            return Ok(Turn::Ended(Exit::AgentFailed));
        }
        if let Some((task, Standing::Elsewhere(who))) = all(|at| matches!(at, Standing::Elsewhere(_))).first() {
            let title = task.title.lines().next().unwrap_or_default();
            let why = printable(&format!("{who} has {title}, and not here")).into_owned();
            self.stop(&why)?;
            self.ctx.ui().warn(why);
            return Ok(Turn::Ended(Exit::Waiting));
        }
        self.finish(&pipeline, &stands)
    }

    /// Of the tasks that could begin, those that will probably not change what another one changes that has not landed yet,
    /// nor one another. The others begin when that has landed: from there.
    fn beside(&mut self, begin: &[Id], stands: &[(Task, Standing)]) -> Result<Vec<Id>, CliError> {
        if begin.is_empty() || !self.ctx.settings()?.holds_back() {
            return Ok(begin.to_vec());
        }
        let of = |wanted: &dyn Fn(&(Task, Standing)) -> bool| -> Vec<Task> {
            stands.iter().filter(|one| wanted(one)).map(|(task, _)| task.clone()).collect()
        };
        let wanted = of(&|(task, _)| begin.contains(&task.id));
        let busy = of(&|(_, at)| !matches!(at, Standing::Settled(_)) && at.agent().is_some());
        let (free, held) = self.lookout.sift(self.ctx.store()?, &wanted, &busy);
        for one in held.iter().filter(|one| self.held.insert((one.task.id, one.by.id))) {
            let text = one.words();
            if self.args.json {
                self.ctx.ui().print(&json::line("agent-event", &Progress::Notice { agent: None, text })?)?;
            } else {
                self.ctx.ui().note(printable(&text));
            }
        }
        Ok(free.iter().map(|task| task.id).collect())
    }

    /// The team of each task, where teams work on them.
    fn teams(&self, pipeline: &Pipeline) -> Result<BTreeMap<Id, Team>, CliError> {
        let Some(name) = &pipeline.team else { return Ok(BTreeMap::new()) };
        let settings = self.ctx.settings()?;
        let known = settings.team_names();
        let (store, state) = (self.ctx.store()?, self.ctx.state()?);
        let mut teams = BTreeMap::new();
        for id in &pipeline.tasks {
            let name = match (name.as_str(), team::find_begun(store, id, &known)?) {
                (AUTO, Some(begun)) => begun,
                (AUTO, None) => team::choose(&state.require(id)?, &known).0,
                (name, _) => name.to_owned(),
            };
            teams.insert(*id, settings.team(&name)?);
        }
        Ok(teams)
    }

    /// Waits for agents that another process watches.
    fn wait(&self, agents: &[Agent]) -> Result<(), CliError> {
        let names: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
        let _busy = self.ctx.ui().busy(format!("waiting for {}", names.join(", ")));
        let repo = self.ctx.repo()?;
        loop {
            let mut live = false;
            for agent in agents {
                live |= lease::find_live(repo, &agent.id).is_some();
            }
            if !live {
                return Ok(());
            }
            std::thread::sleep(POLL);
        }
    }

    fn jobs(&self) -> Vec<String> {
        let jobs = self.args.jobs.or(self.settings.jobs);
        jobs.map(|jobs| format!("--jobs={jobs}")).into_iter().collect()
    }

    fn spawn(&self, pipeline: &Pipeline, tasks: &[Id]) -> Result<Turn, CliError> {
        let mut words = self.jobs();
        words.extend(pipeline.profile.as_ref().map(|name| format!("--profile={name}")));
        words.extend(pipeline.team.as_ref().map(|name| format!("--team={name}")));
        words.extend(self.args.json.then(|| "--json".to_owned()));
        words.extend(tasks.iter().map(ToString::to_string));
        // Whether all went well is looked at, not believed.
        match spawn::run(self.ctx, &parsed::<spawn::Args>(words)?)? {
            Exit::Signal(signal) => Ok(Turn::Ended(Exit::Signal(signal))),
            _ => Ok(Turn::Again),
        }
    }

    fn resume(&self, agents: &[Agent]) -> Result<Turn, CliError> {
        let mut words = self.jobs();
        words.extend(self.args.json.then(|| "--json".to_owned()));
        words.extend(agents.iter().map(|agent| agent.name.to_string()));
        match resume::run(self.ctx, &parsed::<resume::Args>(words)?)? {
            Exit::Signal(signal) => Ok(Turn::Ended(Exit::Signal(signal))),
            _ => Ok(Turn::Again),
        }
    }

    fn stop(&self, why: &str) -> Result<(), CliError> {
        pipeline::change(self.ctx.store()?, &self.id, "wait", |one| {
            one.status = PipelineStatus::Waiting;
            one.result = Some(why.to_owned());
        })?;
        Ok(())
    }

    fn asked(&self, agents: &[Agent]) -> Result<Turn, CliError> {
        let names: Vec<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
        let why = format!("{} waits for an answer", names.join(", "));
        self.stop(&why)?;
        self.ctx.ui().warn(why);
        self.ctx.ui().hint("`git orchestra decide` lists what is asked");
        Ok(Turn::Ended(Exit::Waiting))
    }

    /// Which of those that are done no merge takes, with why. A merge of theirs that is under way sees to its own.
    fn stuck(&self, pipeline: &Pipeline, ready: &[Agent]) -> Result<BTreeMap<Id, String>, CliError> {
        let (store, target) = (self.ctx.store()?, pipeline.target.as_deref());
        let ids: BTreeSet<Id> = ready.iter().map(|agent| agent.id).collect();
        if ids.is_empty() || pipeline::open_merge(store, target, &ids)?.is_some() {
            return Ok(BTreeMap::new());
        }
        Ok(pipeline::unmergeable(store, target, ready))
    }

    fn failed(
        &mut self,
        pipeline: &Pipeline,
        failed: &[Agent],
        stuck: &BTreeMap<Id, String>,
        ready: usize,
    ) -> Result<Turn, CliError> {
        let store = self.ctx.store()?;
        if !std::mem::replace(&mut self.retried, true) {
            return self.resume(failed);
        }
        let mut decision = pipeline::ask(store, pipeline, failed, stuck, ready)?;
        if decision.status == DecisionStatus::Open
            && self.ctx.ui().is_interactive()
            && !self.args.json
            && merging::ask_choice(self.ctx, &decision)?
        {
            decision = self.ctx.state()?.require::<Decision>(&decision.id)?;
        }
        match decision.answer.as_ref().map(|answer| answer.key.as_str()) {
            Some(pipeline::GO_ON) => {
                let ids: BTreeSet<Id> = failed.iter().map(|agent| agent.id).collect();
                pipeline::change(store, &self.id, "go on without those that failed", |one| {
                    one.status = PipelineStatus::Running;
                    one.settled.extend(ids.iter().copied());
                })?;
                Ok(Turn::Again)
            }
            Some(pipeline::RETRY) => {
                pipeline::withdraw(store, &decision.id)?;
                self.resume(failed)
            }
            Some(pipeline::CANCEL) => {
                pipeline::change(store, &self.id, "cancel", |one| {
                    one.status = PipelineStatus::Cancelled;
                    one.result = Some("given up after agents failed".to_owned());
                })?;
                Ok(Turn::Ended(Exit::AgentFailed))
            }
            _ => {
                merging::waiting_for(self.ctx, &decision, "git orchestra run --continue")?;
                Ok(Turn::Ended(Exit::Waiting))
            }
        }
    }

    fn merge(&self, pipeline: &Pipeline, ready: &[Agent]) -> Result<Turn, CliError> {
        let store = self.ctx.store()?;
        let ids: BTreeSet<Id> = ready.iter().map(|agent| agent.id).collect();
        let open = pipeline::open_merge(store, pipeline.target.as_deref(), &ids)?;
        let mut words = Vec::new();
        if let Some(open) = &open {
            words.extend(["--continue".to_owned(), format!("--into={}", short_branch(&open.target))]);
        } else {
            words.extend(pipeline.target.as_ref().map(|target| format!("--into={}", short_branch(target))));
            words.extend((self.args.yes || self.settings.asks_less).then(|| "--yes".to_owned()));
        }
        let gates = if self.args.gate.is_empty() { &self.settings.gates } else { &self.args.gate };
        if self.args.no_gates {
            words.push("--no-gates".to_owned());
        } else {
            words.extend(gates.iter().map(|gate| format!("--gate={gate}")));
            words.extend(self.settings.mends.map(|mends| format!("--mends={mends}")));
            words.extend(self.args.mend.then(|| "--mend".to_owned()));
        }
        let lands_prefixes = self.args.land_prefixes || self.settings.lands_prefixes;
        words.extend(lands_prefixes.then(|| "--land-prefixes".to_owned()));
        words.extend(self.args.json.then(|| "--json".to_owned()));
        if open.is_none() {
            words.extend(ready.iter().map(|agent| agent.name.to_string()));
        }
        let exit = merging::run(self.ctx, &parsed::<merging::Args>(words)?)?;
        let merge = pipeline::last_merge(store, pipeline, &ids)?;
        let landed = merge.as_ref().filter(|merge| merge.status == MergeStatus::Landed);
        // Merged, left out, or nothing to merge: either way its part is over, unless the merge did not come to an end.
        let over = exit == Exit::Done || landed.is_some_and(|merge| pipeline::landed(merge) > 0);
        if !over {
            let why = match exit {
                Exit::GateFailed => "a gate failed, and nothing landed",
                Exit::Waiting => "the merge waits",
                _ => "the merge did not land",
            };
            let merge = merge.map(|merge| merge.id);
            pipeline::change(store, &self.id, "wait for its merge", |one| {
                one.status = PipelineStatus::Waiting;
                one.result = Some(why.to_owned());
                one.merge = merge.or(one.merge);
            })?;
            return Ok(Turn::Ended(exit));
        }
        let (merge, target) = (merge.as_ref().map(|merge| merge.id), landed.map(|merge| merge.target.clone()));
        pipeline::change(store, &self.id, "merged", |one| {
            one.settled.extend(ids.iter().copied());
            one.merge = merge.or(one.merge);
            one.target = target.clone().or(one.target.clone());
        })?;
        Ok(Turn::Again)
    }

    /// Pushes, and says what came of it all.
    fn finish(&self, pipeline: &Pipeline, stands: &[(Task, Standing)]) -> Result<Turn, CliError> {
        let store = self.ctx.store()?;
        if let (Some(name), Some(target), Some(_)) = (&pipeline.push, &pipeline.target, &pipeline.merge) {
            let remote = sync::remote(self.ctx, Some(name))?;
            let from = pipeline::first_landed(store, pipeline)?.map(|merge| merge.target_tip);
            let guard = session::guard(self.ctx)?;
            let pushed = {
                let _busy = self.ctx.ui().busy(format!("pushing to {}", printable(name)));
                pipeline::push(store, &remote.name, target, from.as_ref(), &guard, remote.deadline)
            };
            match pushed {
                Ok(tip) => {
                    let paint = self.ctx.ui().painter();
                    let (branch, tip) = (
                        paint.paint(Label::Branch, short_branch(target)),
                        paint.paint(Label::Commit, tip.short()),
                    );
                    if !self.args.json {
                        self.ctx.ui().print(&format!("pushed {branch} at {tip} to {}\n", printable(name)))?;
                    }
                }
                Err(error) => {
                    self.stop("what landed could not be pushed")?;
                    return Err(error.into());
                }
            }
        }
        let landed = stands.iter().filter(|(_, at)| matches!(at, Standing::Landed)).count();
        let mut left = Vec::new();
        for (_, at) in stands {
            if let Standing::Settled(agent) = at {
                left.push(format!("{} ({})", agent.name, pipeline::why_left_out(store, pipeline, agent)?));
            }
        }
        let waits = stands.iter().filter(|(_, at)| matches!(at, Standing::Blocked));
        let waits: Vec<&str> =
            waits.map(|(task, _)| task.title.lines().next().unwrap_or_default()).collect();
        let mut result = format!("{landed} of {} tasks landed", stands.len());
        if !left.is_empty() {
            result = format!("{result}; left out: {}", left.join(", "));
        }
        if !waits.is_empty() {
            result = format!("{result}; waiting for others: {}", waits.join(", "));
        }
        pipeline::change(store, &self.id, "done", |one| {
            one.status = PipelineStatus::Done;
            one.result = Some(result.clone());
        })?;
        // Who went on without those that failed knows it, and something has landed; where nothing has, that is the outcome.
        let failed = |agent: &Agent| agent.last_run().is_none_or(|(_, run)| run.outcome != Some(Outcome::Succeeded));
        let is_failure = |at: &Standing| matches!(at, Standing::Settled(agent) if failed(agent));
        let nothing = landed == 0 && stands.iter().any(|(_, at)| is_failure(at));
        Ok(Turn::Ended(if nothing { Exit::AgentFailed } else { Exit::Done }))
    }
}

/// The arguments of another command, as if somebody had typed them.
fn parsed<A: clap::Args>(words: Vec<String>) -> Result<A, CliError> {
    let command = A::augment_args(clap::Command::new("run").no_binary_name(true));
    let matches = command.try_get_matches_from(words);
    let args = matches.and_then(|mut matches| A::from_arg_matches_mut(&mut matches));
    args.map_err(|error| CliError::usage(error.to_string()))
}

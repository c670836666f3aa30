//! `git orchestra merge`: agents' work into a branch, with approval.

mod ask;
mod gates;
mod report;

pub(crate) use ask::edited;
pub(crate) use report::{CONTINUE, ShownLeftOut, few, left_out, waiting_for};

use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::ui::{Label, Reply};
use crate::model::{Agent, Decision, GateRun, Id, Merge, MergeStatus};
use crate::orchestrate::{Aside, kept_aside, lease};
use crate::orchestrate::merge::{self, Error, Hold, Plan, Progress, Request, Rules, Unfinished, short_branch};
use ask::Asked;
use gates::Gates;
use std::collections::{BTreeMap, BTreeSet};

/// Merge agents' work into a branch
///
/// Plans an order in which as much as possible merges without a person, merges branch by branch in the object
/// database, asks at each conflict, and moves the branch once, at the end. Until then no checkout and no branch
/// changes: --abort leaves everything as it was. The plan also names what git merges and may not work together, as `overlap`. Where the branch is checked out and clean, its files move with it;
/// a checkout with uncommitted changes is left alone. Committed work is merged; what a stopped agent left
/// uncommitted is committed first. Where the settings name gates (`gate.NAME.run`), what was merged lands only if they
/// succeed on it; the branch with which one fails is found and asked about. Off a terminal a conflict, or a gate that fails, becomes a
/// decision (exit code 3): answer it with `git orchestra decide` and go on with --continue.
#[derive(Debug, clap::Args)]
#[expect(clippy::struct_excessive_bools, reason = "independent switches of a command line")]
#[command(
    after_help = "Examples:\n  git orchestra merge --dry-run\n  git orchestra merge\n  git orchestra merge blue-heron grey-fox --into release\n  git orchestra merge --continue"
)]
pub(crate) struct Args {
    /// Names or ids; without any, all that have work to merge, do not run, and succeeded
    #[arg(value_name = "AGENT", conflicts_with_all = ["continue", "abort"])]
    agents: Vec<String>,
    /// The branch to merge into, instead of the one that the agents started from
    #[arg(long, value_name = "BRANCH")]
    into: Option<String>,
    /// Say what would happen, and change nothing
    #[arg(short = 'n', long, conflicts_with_all = ["continue", "abort"])]
    dry_run: bool,
    /// Go on with a merge that waited for an answer, or that was interrupted
    #[arg(long = "continue", id = "continue", conflicts_with = "abort")]
    resume: bool,
    /// Give a merge up; nothing has moved
    #[arg(long)]
    abort: bool,
    /// Run only this gate; can be given several times
    #[arg(long, value_name = "GATE", conflicts_with_all = ["no_gates", "abort"])]
    gate: Vec<String>,
    /// Land without running any gate
    #[arg(long, conflicts_with = "abort")]
    no_gates: bool,
    /// Land what comes before a branch that you are asked about at once
    #[arg(long, conflicts_with = "abort")]
    land_prefixes: bool,
    /// Let an agent resolve each conflict first; what it cannot is asked as always
    #[arg(long, conflicts_with = "abort")]
    agent: bool,
    /// Let an agent mend a branch with which a gate fails; what it cannot is asked
    #[arg(long, conflicts_with_all = ["no_gates", "abort"])]
    mend: bool,
    /// How many agents are asked to, as a pipeline says
    #[arg(long, hide = true, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=9))]
    mends: Option<u32>,
    /// Ask about every conflict, also those that were answered before or that a rule settles
    #[arg(long, conflicts_with = "abort")]
    ask: bool,
    /// Do not ask before the merge begins; conflicts are still asked about
    #[arg(short, long)]
    yes: bool,
    /// Print JSON (`git orchestra schema`); nothing is asked, conflicts become decisions
    #[arg(long)]
    json: bool,
}

impl From<Error> for CliError {
    fn from(error: Error) -> Self {
        if let Error::OnOtherMachine { comes: Some(comes), .. } = &error {
            let hint = format!("`{comes}` brings it, if it was pushed (`git orchestra push --branches` there)");
            return Self::layer(error).hint(hint);
        }
        if let Error::Lacking { branches, .. } = &error {
            let branches: Vec<&str> = branches.iter().map(|name| short_branch(name)).collect();
            let fetch = format!("`git fetch REMOTE {}` brings what a remote has of it", branches.join(" "));
            return Self::layer(error)
                .hint(fetch)
                .hint("`git orchestra push --branches`, where the merge was begun, sends it there");
        }
        let hint = match &error {
            Error::OpenAlready { .. } => {
                "`git orchestra merge --continue` goes on with it, `git orchestra merge --abort` gives it up"
            }
            Error::Running(_) => "`git orchestra wait` returns when they are done, `git orchestra stop` ends them",
            Error::ManyTargets(_) => "say it with `--into BRANCH`",
            Error::AtWork(_) => "wait for it, or end it with Ctrl-C where it runs",
            Error::MovedOn(_) | Error::Restless(_) => "`git orchestra merge --continue` tries again",
            Error::Leftover { .. } => "finish what is going on in its worktree, or bring it back to its branch",
            Error::Sign(_) => "answers are signed because `commit.gpgSign` is on; without it they are recorded as they are",
            Error::Store(_) | Error::Git(_) | Error::Before(_) => "",
            _ => return Self::layer(error),
        };
        match error {
            Error::Store(error) => error.into(),
            Error::Git(error) => error.into(),
            Error::Before(error) => (*error).into(),
            error => Self::layer(error).hint(hint),
        }
    }
}

/// The agents that were named, in order, each once.
pub(crate) fn named_agents(ctx: &Context, names: &[String]) -> Result<Vec<Id>, CliError> {
    let state = ctx.state()?;
    let mut ids = Vec::new();
    for name in names {
        let agent: Agent = state.require_named(name)?;
        if !ids.contains(&agent.id) {
            ids.push(agent.id);
        }
    }
    Ok(ids)
}

/// Asks on the terminal what was decided; whether there was an answer.
pub(crate) fn ask_choice(ctx: &Context, decision: &Decision) -> Result<bool, CliError> {
    gates::show_detail(ctx, decision);
    Ok(gates::ask(ctx, decision)? == Asked::Answered)
}

/// Refuses agents: approval comes from people.
pub(crate) fn refuse_agents(ctx: &Context) -> Result<(), CliError> {
    if ctx.is_of_an_agent() {
        return Err(CliError::new(ErrorKind::Failed, "agents neither merge nor decide nor approve: people do")
            .hint("`git orchestra finding add` tells people what you noticed"));
    }
    Ok(())
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    refuse_agents(ctx)?;
    if args.abort {
        ctx.recover()?;
        let open = find_open(ctx, args)?;
        let merge = merge::abort(ctx.store()?, &open.id)?;
        return report::aborted(ctx, &merge, args.json);
    }
    if args.resume {
        let gates = Gates::of(ctx, args)?;
        ctx.recover()?;
        let open = find_open(ctx, args)?;
        return end(ctx, go_on(ctx, &open, &gates, args)?, args.json);
    }
    // Before anything is committed for a merge that may not begin.
    let gates = if args.dry_run { Gates::default() } else { Gates::of(ctx, args)? };
    let mut earlier = None;
    let plan = loop {
        match planned(ctx, args, earlier.is_some())? {
            Next::Merge(plan) => break *plan,
            Next::Nothing => {
                if args.json {
                    match &earlier {
                        Some(merge) => report::landed(ctx, merge, true)?,
                        None => json::print(ctx, "merge-result", &report::Nothing::default()).map(|()| Exit::Done)?,
                    };
                }
                return Ok(Exit::Done);
            }
            Next::Finish(unfinished) => match finish(ctx, args, &gates, &unfinished)? {
                End::Landed(merge) => earlier = Some(*merge),
                End::Exit(exit) => return Ok(exit),
            },
        }
    };
    if args.dry_run {
        if args.json {
            json::print(ctx, "merge-plan", &report::ShownPlan::new(&plan))?;
        } else {
            let paint = ctx.ui().painter();
            ctx.ui().page(&report::plan(&plan, paint))?;
            gates::announce(ctx, args);
        }
        return Ok(Exit::Done);
    }
    if !args.json {
        ctx.ui().note(report::plan(&plan, ctx.ui().err_painter()).trim_end());
        if !args.yes && !confirmed(ctx, &plan)? {
            ctx.ui().note("nothing was changed");
            return Ok(Exit::Error);
        }
    }
    // Held before it is recorded: whoever finds the record knows that somebody is at it.
    let hold = merge::hold(ctx.store()?, &plan.id)?;
    let merge = merge::start(ctx.store()?, &plan)?;
    end(ctx, go_on_held(ctx, &merge, &gates, hold, args)?, args.json)
}

/// What to do next.
enum Next {
    Merge(Box<Plan>),
    /// First what an earlier process left.
    Finish(Box<Unfinished>),
    /// Nothing, which has been said.
    Nothing,
}

/// How far a merge came.
enum End {
    /// It has landed; nothing has been said of that.
    Landed(Box<Merge>),
    /// Whatever else, and it has been said.
    Exit(Exit),
}

fn end(ctx: &Context, end: End, as_json: bool) -> Result<Exit, CliError> {
    match end {
        End::Landed(merge) => report::landed(ctx, &merge, as_json),
        End::Exit(exit) => Ok(exit),
    }
}

/// Does what an earlier merge, whose process died, left to do.
fn finish(ctx: &Context, args: &Args, gates: &Gates, unfinished: &Unfinished) -> Result<End, CliError> {
    let (Unfinished::Landed(merge) | Unfinished::Left(merge)) = unfinished;
    let paint = ctx.ui().err_painter();
    let names: Vec<_> = merge.steps.iter().map(|s| paint.paint(Label::Agent, s.name.as_str())).collect();
    let (names, target) = (names.join(", "), paint.paint(Label::Branch, short_branch(&merge.target)));
    if let Unfinished::Landed(_) = unfinished {
        let end = go_on(ctx, merge, gates, args)?;
        if let End::Landed(_) = &end {
            ctx.ui().note(format!("an earlier merge of {names} had landed on {target} unrecorded; that is recorded now"));
        }
        return Ok(end);
    }
    ctx.ui().note(format!("an earlier merge of {names} into {target} was cut short: going on with that first"));
    if !args.json && !args.yes {
        let reply = ctx.ui().confirm("go on with it?", true)?;
        if matches!(reply, Reply::Chosen(false) | Reply::Cancelled) {
            ctx.ui().note("nothing was changed; `git orchestra merge --abort` gives it up");
            return Ok(End::Exit(Exit::Error));
        }
    }
    let end = go_on(ctx, merge, gates, args)?;
    if let (End::Landed(merge), false) = (&end, args.json) {
        report::landed(ctx, merge, false)?;
    }
    Ok(end)
}

fn find_open(ctx: &Context, args: &Args) -> Result<Merge, CliError> {
    let full = args.into.as_ref().map(|name| format!("refs/heads/{}", short_branch(name)));
    let open = merge::find_open(&ctx.state()?, full.as_deref())?;
    open.ok_or_else(|| {
        let into = args.into.as_ref().map(|name| format!(" into {name}")).unwrap_or_default();
        CliError::new(ErrorKind::Failed, format!("no merge{into} is under way"))
            .hint("`git orchestra merge` starts one")
    })
}

/// Names what agents committed outside of their branches: it is not merged.
fn warn_of_aside(ctx: &Context, request: &Request, target: &str) -> Result<(), CliError> {
    let mut agents: Vec<Agent> = ctx.state()?.all()?;
    agents.retain(|agent| request.agents.is_empty() || request.agents.contains(&agent.id));
    warn_of_kept(ctx, &agents, Some(target), usize::MAX)
}

/// The same, of these agents and of what neither their branches nor `target` have, or each one's own without it. Looks at
/// no more than `looks` of what is kept, and says how much more there is.
pub(crate) fn warn_of_kept(
    ctx: &Context,
    agents: &[Agent],
    target: Option<&str>,
    mut looks: usize,
) -> Result<(), CliError> {
    let store = ctx.store()?;
    let mut by_target = BTreeMap::<Option<&str>, Vec<Agent>>::new();
    for agent in agents.iter().filter(|agent| agent.removed.is_none()) {
        by_target.entry(target.or(agent.target.as_deref())).or_default().push(agent.clone());
    }
    let (mut aside, mut more) = (Vec::new(), 0);
    for (target, agents) in by_target {
        let tip = target.map(|target| store.repo().find_ref(target)).transpose()?.flatten();
        let (found, unseen) = kept_aside(store, &agents, tip.as_ref(), &mut looks)?;
        aside.extend(found);
        more += unseen;
    }
    for Aside { agent, rescue, commit } in aside {
        let (name, commit) = (ctx.ui().err_painter().paint(Label::Agent, agent.as_str()), commit.short());
        let own = format!("{rescue} ({commit})");
        ctx.ui().warn(format!("{name} committed something outside of its branch, which is not merged: {own}"));
    }
    if more > 0 {
        ctx.ui().hint(format!("`git orchestra check` looks at what {more} more rescue refs of agents keep"));
    }
    Ok(())
}

/// Who is merged and in which order. `again` if an earlier merge has just landed.
fn planned(ctx: &Context, args: &Args, again: bool) -> Result<Next, CliError> {
    if !args.dry_run {
        ctx.recover()?;
    }
    let store = ctx.store()?;
    let request = Request {
        agents: named_agents(ctx, &args.agents)?,
        target: args.into.clone(),
        running: lease::live(store.repo()).into_iter().map(|lease| lease.agent).collect(),
    };
    let mut selection = merge::select(store, &request)?;
    // Before anything is committed for a merge that cannot begin, and before it is said that there is nothing to do.
    if !args.dry_run
        && let Some(unfinished) = merge::find_unfinished(store, &selection.target)?
    {
        return Ok(Next::Finish(Box::new(unfinished)));
    }
    if request.agents.is_empty() {
        merge::leave_out_unmergeable(store, &mut selection)?;
    }
    report::left_out(ctx, &selection.left_out);
    warn_of_aside(ctx, &request, &selection.target)?;
    let paint = ctx.ui().err_painter();
    if selection.candidates.is_empty() {
        if !again {
            ctx.ui().note("no agent has anything to merge");
        }
        return Ok(Next::Nothing);
    }
    if args.dry_run {
        for candidate in selection.candidates.iter().filter(|candidate| candidate.uncommitted > 0) {
            let name = paint.paint(Label::Agent, candidate.agent.name.as_str());
            ctx.ui().note(format!("what {name} left uncommitted would be committed first"));
        }
        merge::with_uncommitted(store, &mut selection)?;
    } else {
        for name in merge::commit_uncommitted(store, &mut selection)? {
            let name = paint.paint(Label::Agent, name.as_str());
            ctx.ui().note(format!("committed what {name} left uncommitted"));
        }
    }
    let _busy = ctx.ui().busy("planning the merge");
    let mut plan = merge::plan(store, &selection)?;
    if args.dry_run || !args.json {
        merge::name_suspects(store, &selection, &mut plan)?;
    }
    Ok(Next::Merge(Box::new(plan)))
}

fn confirmed(ctx: &Context, plan: &Plan) -> Result<bool, CliError> {
    let (count, target) = (plan.steps.len(), short_branch(&plan.target));
    let what = if count == 1 { "this branch".to_owned() } else { format!("these {count} branches") };
    // Off a terminal the command itself is the approval.
    Ok(!matches!(
        ctx.ui().confirm(&format!("merge {what} into {target}?"), true)?,
        Reply::Chosen(false) | Reply::Cancelled
    ))
}

/// Which conflicts need nobody.
fn rules(ctx: &Context, args: &Args, gates: &Gates) -> Result<Rules, CliError> {
    let settings = ctx.settings()?;
    let (lands_unseen, lands_prefixes) =
        (settings.lands_executables(), args.land_prefixes || settings.lands_prefixes());
    if args.ask {
        return Ok(Rules { lands_unseen, lands_prefixes, ..Rules::ask() });
    }
    let rules = Rules {
        lands_unseen,
        lands_prefixes,
        remembered: !settings.asks_again(),
        lock_files: settings.merges_lock_files(),
        tools: gates.lock_tools().clone(),
        ..Rules::default()
    };
    rules.with_union(settings.union_globs()).map_err(|error| {
        CliError::new(ErrorKind::Failed, format!("read the setting `merge.union`: {error}"))
            .hint("it takes globs of paths such as `docs/**/*.md`")
    })
}

/// Goes on with a merge until it is over or nobody here can go on with it.
fn go_on(ctx: &Context, merge: &Merge, gates: &Gates, args: &Args) -> Result<End, CliError> {
    let hold = merge::hold(ctx.store()?, &merge.id)?;
    let now: Merge = ctx.store()?.state()?.require(&merge.id)?;
    match now.status {
        MergeStatus::Landed => {
            hold.finish();
            ctx.ui().note("another process went on with it meanwhile, and it has landed");
            Ok(End::Landed(Box::new(now)))
        }
        MergeStatus::Aborted => {
            hold.finish();
            ctx.ui().note("another process gave it up meanwhile; nothing was changed");
            Ok(End::Exit(Exit::Error))
        }
        _ => go_on_held(ctx, merge, gates, hold, args),
    }
}

fn go_on_held(
    ctx: &Context,
    merge: &Merge,
    gates: &Gates,
    mut hold: Hold,
    args: &Args,
) -> Result<End, CliError> {
    let (rules, as_json) = (rules(ctx, args, gates)?, args.json);
    let mut left_to_agent = BTreeSet::new();
    let mut merge = merge.clone();
    loop {
        let Some(progress) = gates.advance(ctx, &merge.id, &rules, as_json)? else {
            let moved = report::moved(&merge);
            ctx.ui().note(format!("interrupted; {moved}, and `{CONTINUE}` goes on"));
            return Ok(End::Exit(gates.signalled()));
        };
        match progress {
            Progress::Asks { decision, merge } => {
                let is_asked = ctx.ui().is_interactive() && !as_json;
                if is_asked {
                    gates::show_detail(ctx, &decision);
                }
                if !is_asked || gates::ask(ctx, &decision)? == Asked::Left {
                    return report::waiting(ctx, &merge, &decision, as_json).map(End::Exit);
                }
            }
            Progress::GateFailed { decision, failure, merge } => {
                if !as_json {
                    gates::show(ctx, &failure);
                }
                if gates.mends(&merge, &decision, &failure) {
                    merge::answer(ctx.store()?, &decision.id, merge::On::Everything, "agent", None)?;
                    continue;
                }
                let is_asked = ctx.ui().is_interactive() && !as_json;
                if !is_asked || gates::ask(ctx, &decision)? == Asked::Left {
                    return report::waiting(ctx, &merge, &decision, as_json).map(End::Exit);
                }
            }
            Progress::Waiting { decision, .. }
                if args.agent
                    && decision.choices.iter().any(|choice| choice.key == "agent")
                    && left_to_agent.insert(decision.id) =>
            {
                merge::answer(ctx.store()?, &decision.id, merge::On::Everything, "agent", None)?;
            }
            Progress::Waiting { decision, conflict, .. } if ctx.ui().is_interactive() && !as_json => {
                match ask::ask(ctx, &decision, &conflict)? {
                    Asked::Answered => {}
                    Asked::Left => return report::waiting(ctx, &merge, &decision, false).map(End::Exit),
                }
            }
            Progress::Waiting { decision, merge, .. } => {
                return report::waiting(ctx, &merge, &decision, as_json).map(End::Exit);
            }
            Progress::NeedsAgent { decision, conflict, .. } => {
                let signal = ask::resolve_by_agent(ctx, &decision, &conflict, as_json)?;
                if let Some(signal) = signal {
                    return Ok(End::Exit(Exit::Signal(u8::try_from(signal).unwrap_or(0))));
                }
            }
            Progress::NeedsMender { decision, merge } => {
                if let Some(signal) = ask::mend_by_agent(ctx, &merge, &decision, gates, as_json)? {
                    return Ok(End::Exit(Exit::Signal(u8::try_from(signal).unwrap_or(0))));
                }
            }
            Progress::Prefix { landed, rest, hold: next } => {
                std::mem::replace(&mut hold, next).finish();
                report::prefix(ctx, &landed, as_json)?;
                merge = rest;
            }
            Progress::Landed(merge) => {
                hold.finish();
                return Ok(End::Landed(Box::new(merge)));
            }
            Progress::Blocked { merge, blocked } => {
                return report::blocked(ctx, &merge, &blocked, as_json).map(End::Exit);
            }
            Progress::Aborted(merge) => {
                hold.finish();
                let exit = report::aborted(ctx, &merge, as_json)?;
                let failed = merge.gates.iter().any(GateRun::is_failure);
                return Ok(End::Exit(if failed { Exit::GateFailed } else { exit }));
            }
        }
    }
}

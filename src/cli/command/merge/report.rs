//! What a merge says: its plan, its steps, its end.

use crate::cli::command::overlap::suspect_words;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::ui::{Label, Painter, printable};
use crate::cli::view;
use crate::git::few_paths;
use crate::model::{Decision, Id, Merge, PlanScore, Side, Step, StepStatus, Suspect};
use crate::orchestrate::merge::{Blocked, LeftOut, NotLocked, On, Plan, Remark, short_branch};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

/// How many pairs that are worth a look a plan names.
const SUSPECTS: usize = 4;

/// What goes on with a merge.
pub(crate) const CONTINUE: &str = "git orchestra merge --continue";

/// What `--json` prints when nobody has anything to merge.
#[derive(Debug, Default, Serialize)]
pub(super) struct Nothing {
    merge: Option<()>,
}

/// A plan as JSON shows it.
#[derive(Debug, Serialize)]
pub(super) struct ShownPlan<'a> {
    target: &'a str,
    target_tip: &'a str,
    steps: &'a [Step],
    conflicts: &'a BTreeMap<Id, Vec<String>>,
    suspects: Vec<ShownSuspects<'a>>,
    score: PlanScore,
    left_out: Vec<ShownLeftOut<'a>>,
}

/// Two branches, or one and the target, that git merges.
#[derive(Debug, Serialize)]
struct ShownSuspects<'a> {
    a: &'a Id,
    /// `None` for the target.
    b: Option<&'a Id>,
    reasons: &'a [Suspect],
}

/// Whom a merge leaves out, as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct ShownLeftOut<'a> {
    name: &'a str,
    why: &'a str,
}

impl<'a> ShownLeftOut<'a> {
    pub(crate) fn all(left_out: &'a [LeftOut]) -> Vec<Self> {
        left_out.iter().map(|left| Self { name: left.name.as_str(), why: &left.why }).collect()
    }
}

/// Says who is left out, and why.
pub(crate) fn left_out(ctx: &Context, left_out: &[LeftOut]) {
    for left in left_out {
        let name = ctx.ui().err_painter().paint(Label::Agent, left.name.as_str());
        ctx.ui().note(format!("{name} is left out: {}", printable(&left.why)));
    }
}

impl<'a> ShownPlan<'a> {
    pub(super) fn new(plan: &'a Plan) -> Self {
        let suspects = plan.suspects().into_iter().map(|pair| ShownSuspects {
            a: &pair.a,
            b: pair.b.as_ref(),
            reasons: &pair.suspects,
        });
        Self {
            suspects: suspects.collect(),
            target: &plan.target,
            target_tip: plan.target_tip.as_str(),
            steps: &plan.steps,
            conflicts: &plan.conflicts,
            score: plan.score,
            left_out: ShownLeftOut::all(&plan.left_out),
        }
    }
}

#[derive(Debug, Serialize)]
struct Ended<'a> {
    merge: &'a Merge,
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<&'a Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    blocked: Option<ShownBlocked<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownBlocked<'a> {
    checkout: String,
    dirty: &'a [String],
    words: &'a str,
    command: &'a str,
}

/// The order, what each step would do, and what the order is worth.
pub(super) fn plan(plan: &Plan, paint: Painter) -> String {
    let mut text = format!(
        "{} {} {}\n",
        paint.paint(Label::Heading, "merging into"),
        paint.paint(Label::Branch, short_branch(&plan.target)),
        paint.paint(Label::Dim, format!("at {}", plan.target_tip.short()))
    );
    let width = plan.steps.iter().map(|step| step.name.as_str().len()).max().unwrap_or(0);
    for (number, step) in plan.steps.iter().enumerate() {
        let what = match (step.status, plan.conflicts.get(&step.agent).map(Vec::as_slice)) {
            (StepStatus::Empty, _) => paint.paint(Label::Dim, "has nothing new"),
            (StepStatus::Pending, Some(paths)) if !paths.is_empty() => {
                let named = paths.iter().map(|path| {
                    let kinds = if plan.kinds_differ.contains(path) { " (of different kinds)" } else { "" };
                    format!("{}{kinds}", paint.paint(Label::Path, path))
                });
                format!("{} {}", paint.paint(Label::Bad, "conflicts in"), few_paths(named))
            }
            (StepStatus::Pending, _) => paint.paint(Label::Attention, "comes after one that conflicts"),
            _ => paint.paint(Label::Good, "merges by itself"),
        };
        let name = paint.paint(Label::Agent, format!("{:width$}", step.name.as_str()));
        let _ = writeln!(text, "{:>3}. {name}  {what}", number + 1);
    }
    let _ = writeln!(text, "{}", paint.paint(Label::Dim, worth(plan.score)));
    text.push_str(&suspects(plan, paint));
    text
}

/// The pairs that are worth a look, a line each.
fn suspects(plan: &Plan, paint: Painter) -> String {
    let pairs = plan.suspects();
    if pairs.is_empty() {
        return String::new();
    }
    let target = short_branch(&plan.target);
    let name = |id: &Id| {
        let step = plan.steps.iter().find(|step| step.agent == *id);
        step.map_or("", |step| step.name.as_str())
    };
    let mut text = format!("{}\n", paint.paint(Label::Attention, "git merges these, and they are worth a look:"));
    let shown = if pairs.len() <= SUSPECTS + 1 { pairs.len() } else { SUSPECTS };
    for pair in &pairs[..shown] {
        let other = match &pair.b {
            Some(b) => paint.paint(Label::Agent, name(b)),
            None => paint.paint(Label::Branch, target),
        };
        let [first, rest @ ..] = &pair.suspects[..] else { continue };
        let reason = paint.paint(Label::Plain, suspect_words(first, target, &name));
        let more = if rest.is_empty() { String::new() } else { format!(", and {} more", rest.len()) };
        let _ = writeln!(text, "  {} and {other}: {reason}{more}", paint.paint(Label::Agent, name(&pair.a)));
    }
    if shown < pairs.len() {
        let more = format!("and {} more pairs; `git orchestra overlap` names all", pairs.len() - shown);
        let _ = writeln!(text, "  {}", paint.paint(Label::Dim, more));
    }
    text
}

/// `4 of 5 merge without you, 1 conflict (in the order given: 2 of 5, 2 conflicts)`
fn worth(score: PlanScore) -> String {
    let PlanScore { branches, before_person, conflict_steps, naive_before_person, naive_conflict_steps } = score;
    if conflict_steps == 0 {
        return match branches {
            0 => "nothing to merge".to_owned(),
            1 => "no conflict".to_owned(),
            _ => format!("{branches} branches, no conflict"),
        };
    }
    let conflicts = |count| if count == 1 { "1 conflict".to_owned() } else { format!("{count} conflicts") };
    format!(
        "{before_person} of {branches} merge without you, {} (in the order given: {naive_before_person} of {branches}, {})",
        conflicts(conflict_steps),
        conflicts(naive_conflict_steps)
    )
}

/// `a, b, c and 2 more`
pub(crate) fn few(paths: &[String], paint: Painter) -> String {
    few_paths(paths.iter().map(|path| paint.paint(Label::Path, path)))
}

/// One line about what just happened.
pub(super) fn remark(ctx: &Context, remark: &Remark) {
    let paint = ctx.ui().err_painter();
    let name = |name: &str| paint.paint(Label::Agent, name);
    let text = match remark {
        Remark::Step(step) => {
            let agent = name(step.name.as_str());
            match (step.status, &step.reason) {
                (StepStatus::Resolved, _) => format!("merged {agent}, {}", resolved(step)),
                (StepStatus::Empty, _) => format!("{agent} has nothing new"),
                (StepStatus::Skipped, Some(reason)) => format!("left {agent} out: {reason}"),
                (StepStatus::Skipped, None) => format!("left {agent} out"),
                _ if step.mends.is_some() => format!("put in what {agent} mended"),
                _ => format!("merged {agent}"),
            }
        }
        Remark::TipMoved(agent) => {
            format!("{}'s branch has moved since: it is merged as it is now", name(agent.as_str()))
        }
        Remark::Committed(agent) => format!("committed what {} left uncommitted", name(agent.as_str())),
        Remark::NotCommitted { name: who, why } => format!(
            "what {} has not committed is {}: {}",
            name(who.as_str()),
            paint.paint(Label::Attention, "not in this merge"),
            paint.paint(Label::Plain, why)
        ),
        Remark::TargetMoved { target, tip } => format!(
            "{} has moved to {} since: everything is merged again onto that",
            paint.paint(Label::Branch, short_branch(target)),
            paint.paint(Label::Commit, tip.short())
        ),
        Remark::Gated { run, branches } => super::gates::said(ctx, run, *branches),
        Remark::NotLocked(not) => {
            not_locked(ctx, not);
            return;
        }
        Remark::Busy(_) | Remark::Gating { .. } | Remark::Locking(_) => return,
        Remark::Refused(lost) => {
            format!("what the agent made of it is {}: it {}", paint.paint(Label::Attention, "not taken"), paint.paint(Label::Plain, lost))
        }
        Remark::NotTaken(why) => {
            let not = paint.paint(Label::Attention, "not taken");
            format!("what was answered is {not}, and asked again: {}", paint.paint(Label::Plain, why))
        }
        Remark::NotMended { name: who, why } => format!(
            "what {} made is {}: {}",
            name(who.as_str()),
            paint.paint(Label::Attention, "not taken"),
            paint.paint(Label::Plain, why)
        ),
        Remark::PutLast(names) => {
            let names: Vec<String> = names.iter().map(|one| name(one.as_str())).collect();
            format!("merged last: {}; somebody has to look at what runs by itself then", names.join(", "))
        }
        Remark::Rebuilt => "what was merged so far is not in this clone: it is merged again".to_owned(),
    };
    ctx.ui().note(text);
}

/// Why a lock file is asked about that a program could write.
fn not_locked(ctx: &Context, not: &NotLocked) {
    let paint = ctx.ui().err_painter();
    let path = paint.paint(Label::Path, &not.path);
    ctx.ui().note(format!("{path} could be written again by {}, which did not: {}", not.tool, printable(&not.why)));
    for line in not.output.lines() {
        ctx.ui().note(format!("    {}", printable(line)));
    }
    if let Some(allow) = &not.allow {
        ctx.ui().hint(format!("`{allow}` lets it; then `{CONTINUE}`"));
    }
}

/// `2 conflicts resolved (1 as before, 1 by rule)`
fn resolved(step: &Step) -> String {
    let count = |side: Side| step.resolutions.iter().filter(|resolution| resolution.side == side).count();
    let spared = [(count(Side::Remembered), "as before"), (count(Side::Rule), "by rule")];
    let spared: Vec<_> =
        spared.iter().filter(|(n, _)| *n > 0).map(|(n, how)| format!("{n} {how}")).collect();
    let how = if spared.is_empty() { String::new() } else { format!(" ({})", spared.join(", ")) };
    match step.resolutions.len() {
        1 => format!("1 conflict resolved{how}"),
        n => format!("{n} conflicts resolved{how}"),
    }
}

pub(super) fn landed(ctx: &Context, merge: &Merge, as_json: bool) -> Result<Exit, CliError> {
    let is_new = |step: &Step| matches!(step.status, StepStatus::Clean | StepStatus::Resolved);
    let failed = merge.gates.iter().any(|run| run.is_failure() && run.decision.is_none());
    let nothing = merge.follows.is_none() && !merge.steps.iter().any(is_new);
    let exit = if failed && nothing { Exit::GateFailed } else { Exit::Done };
    if as_json {
        json::print(ctx, "merge-result", &Ended { merge, decision: None, blocked: None })?;
        return Ok(exit);
    }
    let despite: BTreeSet<&str> =
        merge.gates.iter().filter(|run| run.decision.is_some()).map(|run| run.gate.as_str()).collect();
    for gate in despite {
        ctx.ui().warn(format!("landed as decided, though the gate {gate} fails"));
    }
    let paint = ctx.ui().painter();
    let of = |wanted: &dyn Fn(StepStatus) -> bool| -> Vec<String> {
        let steps = merge.steps.iter().filter(|step| wanted(step.status));
        steps.map(|step| paint.paint(Label::Agent, step.name.as_str())).collect()
    };
    let merged = of(&|status| matches!(status, StepStatus::Clean | StepStatus::Resolved));
    let target = paint.paint(Label::Branch, short_branch(&merge.target));
    let mut text = if merged.is_empty() {
        format!("{target} is as it was: nothing was merged\n")
    } else {
        let head = paint.paint(Label::Commit, merge.head.short());
        format!("{target} is at {head} with {}\n", merged.join(", "))
    };
    if let Some(receipt) = merge.receipt.as_ref().filter(|_| !merged.is_empty()) {
        let state = ctx.state()?;
        text.push_str(&view::receipt::sentence(receipt, short_branch(&merge.target), paint, state.short_ids()?));
        if receipt.dropped() > 0 {
            ctx.ui().hint(format!("`git orchestra verify {}` says which lines", view::short(&state, &merge.id)?));
        }
    }
    let skipped = of(&|status| status == StepStatus::Skipped);
    if !skipped.is_empty() {
        let _ = writeln!(text, "left out: {}", skipped.join(", "));
    }
    ctx.ui().print(&text)?;
    Ok(exit)
}

/// What landed before somebody is asked about the rest.
pub(super) fn prefix(ctx: &Context, merge: &Merge, as_json: bool) -> Result<(), CliError> {
    if as_json {
        return json::print(ctx, "merge-result", &Ended { merge, decision: None, blocked: None });
    }
    landed(ctx, merge, false).map(|_| ctx.ui().note("going on with the rest"))
}

/// What is to be said of the target before a merge is over.
pub(super) const fn moved(merge: &Merge) -> &'static str {
    if merge.follows.is_some() { "what comes before it has landed" } else { "nothing has moved yet" }
}

pub(super) fn aborted(ctx: &Context, merge: &Merge, as_json: bool) -> Result<Exit, CliError> {
    if as_json {
        json::print(ctx, "merge-result", &Ended { merge, decision: None, blocked: None })?;
    } else {
        let target = ctx.ui().painter().paint(Label::Branch, short_branch(&merge.target));
        ctx.ui().print(&match merge.follows {
            Some(_) => format!("gave the rest of the merge up; what has landed on {target} stays\n"),
            None => format!("gave the merge up; {target} and every branch are as they were\n"),
        })?;
    }
    Ok(Exit::Done)
}

/// Says what waits, and the exact commands that answer it and go on.
pub(super) fn waiting(
    ctx: &Context,
    merge: &Merge,
    decision: &Decision,
    as_json: bool,
) -> Result<Exit, CliError> {
    if as_json {
        json::print(ctx, "merge-result", &Ended { merge, decision: Some(decision), blocked: None })?;
        return Ok(Exit::Waiting);
    }
    waiting_for(ctx, decision, CONTINUE)?;
    Ok(Exit::Waiting)
}

/// Says what is asked, the commands that answer it, and what goes on then.
pub(crate) fn waiting_for(ctx: &Context, decision: &Decision, then: &str) -> Result<(), CliError> {
    let state = ctx.state()?;
    let short = view::short(&state, &decision.id)?;
    let paint = ctx.ui().err_painter();
    let merge = decision.merge.map(|id| state.get::<Merge>(&id)).transpose()?.flatten();
    let moved = merge.map(|merge| format!("; {}", moved(&merge))).unwrap_or_default();
    ctx.ui().note(format!("{}{moved}", paint.paint(Label::Title, &decision.question)));
    ctx.ui().note(format!("  git orchestra show {short}"));
    let width = decision.choices.iter().map(|choice| choice.key.len()).max().unwrap_or(0);
    for choice in &decision.choices {
        let label = paint.paint(Label::Dim, &choice.label);
        let losses = view::decision::losses(decision, &choice.key, On::Everything, paint);
        ctx.ui().note(format!("  git orchestra decide {short} {:width$}  {label}{losses}", choice.key));
    }
    let open: Vec<String> = decision.paths.iter().filter(|path| decision.is_open(path)).cloned().collect();
    if open.len() > 1 {
        ctx.ui().note(format!("  with --path PATH for one of {} alone", few(&open, paint)));
    }
    let places: usize = open.iter().map(|path| decision.places_of(path)).sum();
    if places > open.len() {
        ctx.ui().note("  with --path PATH --place N for one place of it alone");
    }
    if !decision.answers.is_empty() || !decision.places.is_empty() {
        ctx.ui().note(format!("  still open: {}; the rest has its answers", few(&decision.open_places(), paint)));
    }
    ctx.ui().note("then");
    ctx.ui().note(format!("  {then}"));
    Ok(())
}

pub(super) fn blocked(
    ctx: &Context,
    merge: &Merge,
    blocked: &Blocked,
    as_json: bool,
) -> Result<Exit, CliError> {
    let checkout = blocked.checkout.display().to_string();
    if as_json {
        let shown =
            ShownBlocked { checkout, dirty: &blocked.dirty, words: &blocked.words, command: &blocked.command };
        json::print(ctx, "merge-result", &Ended { merge, decision: None, blocked: Some(shown) })?;
        return Ok(Exit::Waiting);
    }
    let target = short_branch(&merge.target);
    let why = if blocked.dirty.is_empty() {
        format!("git does not move its files:\n{}", blocked.words)
    } else {
        format!("it has uncommitted changes in {}", few(&blocked.dirty, Painter::new(false)))
    };
    ctx.ui().warn(format!("{target} is checked out in {checkout}, and {why}"));
    ctx.ui().note(format!("everything is merged as {}; {target} was left where it is. Clean up there, then", merge.head.short()));
    ctx.ui().note(format!("  {}", blocked.command));
    ctx.ui().note("or");
    ctx.ui().note(format!("  {CONTINUE}"));
    Ok(Exit::Waiting)
}

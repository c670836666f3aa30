//! Agents.

use super::{Page, cost, count, when};
use crate::agent::sanitise_line;
use crate::cli::ui::{Label, Painter};
use crate::model::{Agent, ContextUse, ObjectId, Outcome, Sandbox, Timestamp};
use crate::orchestrate::status::Activity;
use crate::orchestrate::touched::Touched;
use crate::store::ShortIds;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// An agent as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(flatten)]
    agent: &'a Agent,
    short: String,
    files: &'a Touched,
}

impl<'a> Shown<'a> {
    /// The record, the shortest unique prefix of its id, and the files that its tools touched.
    pub(crate) fn new(agent: &'a Agent, files: &'a Touched, ids: &ShortIds) -> Self {
        Self { agent, short: ids.shorten(&agent.id), files }
    }
}

/// A branch as people say it.
pub(crate) fn branch_name(full: &str) -> &str {
    full.strip_prefix("refs/heads/").unwrap_or(full)
}

/// How a run ended, in words, with the reason.
pub(crate) fn outcome_words(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Succeeded | Outcome::Lost => outcome.word().to_owned(),
        Outcome::Failed { reason } => format!("failed: {reason}"),
        Outcome::Stopped { over: Some(over), .. } => format!("stopped by {over}"),
        Outcome::Stopped { by, .. } => format!("stopped by {by}"),
    }
}

/// How an outcome looks.
pub(crate) const fn outcome_label(outcome: &Outcome) -> Label {
    match outcome {
        Outcome::Succeeded => Label::Good,
        Outcome::Failed { .. } | Outcome::Lost => Label::Bad,
        Outcome::Stopped { .. } => Label::Attention,
    }
}

/// How what an agent does looks.
pub(crate) const fn activity_label(activity: &Activity) -> Label {
    match activity {
        Activity::Running { .. } | Activity::Elsewhere { .. } => Label::Running,
        Activity::Queued | Activity::New => Label::Waiting,
        Activity::Asking(_) | Activity::Waiting(_) | Activity::Stuck { .. } => Label::Attention,
        Activity::Ended(outcome) => outcome_label(outcome),
        Activity::Unwatched { .. } | Activity::Unknown { .. } => Label::Bad,
        Activity::Merged(_) => Label::Good,
        Activity::Removed => Label::Dim,
    }
}

/// How full a window is: `context 45 % of 200k`; of one that nobody knows the tokens in it.
fn context_words(context: &ContextUse) -> String {
    match (context.percent(), context.window) {
        (Some(percent), Some(window)) => format!("context {percent} % of {}", count(window)),
        _ => format!("context {}", count(context.used)),
    }
}

/// How many files are named; `--json` has them all.
const FILES: usize = 8;

/// Files by name, those that were touched most first.
fn some_of(files: &BTreeMap<String, u64>) -> String {
    let mut names: Vec<(&String, &u64)> = files.iter().collect();
    names.sort_by_key(|(_, times)| std::cmp::Reverse(**times));
    some(names.into_iter().map(|(name, _)| name))
}

/// The first of them, and how many more there are.
fn some<'n>(names: impl ExactSizeIterator<Item = &'n String>) -> String {
    let more = names.len().saturating_sub(FILES);
    let mut shown: Vec<String> = names.take(FILES).map(|name| sanitise_line(name).into_owned()).collect();
    if more > 0 {
        shown.push(format!("and {more} more"));
    }
    shown.join(", ")
}

/// One for people.
pub(crate) fn page(
    agent: &Agent,
    files: &Touched,
    painter: Painter,
    ids: &ShortIds,
    now: Timestamp,
) -> String {
    let mut page = Page::new(painter, ids, "agent", &agent.id);
    page.field("name", Label::Agent, agent.name.as_str());
    page.field("profile", Label::Plain, format!("{} ({})", agent.profile, agent.program));
    page.ids("task", &agent.task);
    if let Some(of) = &agent.step {
        page.field("step", Label::Plain, format!("{} of {}", of.step, of.team));
    }
    page.field("branch", Label::Branch, branch_name(&agent.branch));
    page.field("base", Label::Commit, agent.base.as_str());
    page.field("target", Label::Branch, agent.target.as_deref().map_or("", branch_name));
    page.field("merged", Label::Commit, agent.merged.as_ref().map_or("", ObjectId::as_str));
    page.field("session", Label::Dim, agent.session.as_deref().unwrap_or_default());
    page.field("made", Label::Dim, when(agent.created, now));
    if let Some(removed) = agent.removed {
        page.field("removed", Label::Attention, when(removed, now));
    }
    let mut runs = String::new();
    for (number, run) in &agent.runs {
        let ended = run.outcome.as_ref().map_or_else(
            || painter.paint(Label::Running, "not ended"),
            |outcome| painter.paint(outcome_label(outcome), outcome_words(outcome)),
        );
        let _ = write!(runs, "{} {ended}", painter.paint(Label::Heading, format!("run {number}:")));
        for part in [
            run.ended.map(|ended| format!("in {}", super::span(ended.since(run.started)))),
            run.sandbox.filter(|level| *level != Sandbox::None).map(|level| format!("confined by {level}")),
            run.model.clone(),
            (run.usage.total() > 0).then(|| {
                format!(
                    "{} tokens in, {} out",
                    count(run.usage.total() - run.usage.output),
                    count(run.usage.output)
                )
            }),
            run.context.map(|context| context_words(&context)),
            Some(cost(run.usage.cost)).filter(|cost| !cost.is_empty()),
            run.tip.as_ref().map(|tip| format!("at {}", tip.short())),
        ]
        .into_iter()
        .flatten()
        {
            let _ = write!(runs, ", {}", painter.paint(Label::Plain, part));
        }
        runs.push('\n');
    }
    page.raw(&runs);
    for (words, files) in [("read", &files.read), ("written", &files.written)] {
        page.field(words, Label::Path, some_of(files));
    }
    page.field("committed", Label::Path, some(files.committed.iter()));
    page.text(&agent.prompt);
    page.into_text()
}

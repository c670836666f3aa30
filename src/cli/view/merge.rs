//! Merges.

use super::agent::branch_name;
use super::decision::{ShownProof, kind_word};
use super::{Page, span, when};
use crate::cli::ui::{Label, Painter};
use crate::model::{
    Decision, GateOutcome, GateRun, Id, Mend, MendOutcome, Merge, MergeStatus, ObjectId, Side, StepStatus,
    Timestamp,
};
use crate::orchestrate::merge::{Check, Proven};
use crate::store::ShortIds;
use serde::Serialize;
use std::fmt::Write as _;

/// A merge as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(flatten)]
    merge: &'a Merge,
    short: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    checked: Option<ShownCheck>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    answers: Vec<ShownAnswer>,
}

/// What the trees say of the receipt.
#[derive(Debug, Serialize)]
struct ShownCheck {
    is: &'static str,
    /// By the trees, whatever is recorded.
    #[serde(skip_serializing_if = "Option::is_none")]
    dropped: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    why: Option<String>,
}

#[derive(Debug, Serialize)]
struct ShownAnswer {
    decision: Id,
    about: &'static str,
    #[serde(flatten)]
    proof: ShownProof,
}

/// What is known of a merge beside its record.
#[derive(Debug)]
pub(crate) struct Known {
    /// What the trees say of its receipt, if it has landed.
    pub(crate) checked: Option<Check>,
    /// Everything that was answered, and how sure it is by whom.
    pub(crate) answers: Vec<(Decision, Vec<Proven>)>,
}

impl<'a> Shown<'a> {
    /// The record, the shortest unique prefix of its id, and what else is known.
    pub(crate) fn new(merge: &'a Merge, known: Known, ids: &ShortIds) -> Self {
        let checked = known.checked.map(|check| ShownCheck::new(merge, check));
        let answers = known.answers.into_iter().flat_map(|(decision, proofs)| {
            let (id, about) = (decision.id, kind_word(decision.kind));
            proofs.into_iter().map(move |proven| ShownAnswer {
                decision: id,
                about,
                proof: ShownProof::new(proven),
            })
        });
        Self { merge, short: ids.shorten(&merge.id), checked, answers: answers.collect() }
    }
}

impl ShownCheck {
    fn new(merge: &Merge, check: Check) -> Self {
        let recorded = merge.receipt.as_ref().map(|receipt| receipt.dropped());
        let (is, dropped, why) = match check {
            Check::Holds => ("verified", recorded, None),
            Check::Otherwise(made) if recorded.is_none() => ("not-recorded", Some(made.dropped()), None),
            Check::Otherwise(made) => ("otherwise", Some(made.dropped()), None),
            Check::Not(why) => ("not-checked", None, Some(why)),
        };
        Self { is, dropped, why }
    }
}

/// The word for where one stands, and how it looks.
pub(crate) const fn status_word(status: MergeStatus) -> (&'static str, Label) {
    match status {
        MergeStatus::Running => ("running", Label::Running),
        MergeStatus::Waiting => ("waiting for a decision", Label::Attention),
        MergeStatus::Landed => ("landed", Label::Good),
        MergeStatus::Aborted => ("aborted", Label::Dim),
    }
}

/// The word for what became of a step, and how it looks.
pub(crate) const fn step_word(status: StepStatus) -> (&'static str, Label) {
    match status {
        StepStatus::Pending => ("pending", Label::Waiting),
        StepStatus::Clean => ("clean", Label::Good),
        StepStatus::Resolved => ("resolved", Label::Good),
        StepStatus::Empty => ("nothing to merge", Label::Dim),
        StepStatus::Skipped => ("skipped", Label::Attention),
    }
}

/// One for people.
pub(crate) fn page(merge: &Merge, known: &Known, painter: Painter, ids: &ShortIds, now: Timestamp) -> String {
    let mut page = Page::new(painter, ids, "merge", &merge.id);
    let (word, label) = status_word(merge.status);
    page.field("into", Label::Branch, branch_name(&merge.target));
    page.field("state", label, word);
    page.field("landed", Label::Commit, merge.landed.as_ref().map_or("", ObjectId::as_str));
    if let Some(first) = &merge.follows {
        page.field("the rest of", Label::Id, ids.shorten(first));
    }
    page.field("planned", Label::Dim, when(merge.created, now));
    let mut steps = String::from("\n");
    for (number, step) in merge.steps.iter().enumerate() {
        let (word, label) = step_word(step.status);
        let name = painter.paint(Label::Agent, step.name.as_str());
        let commit = step.commit.as_ref().unwrap_or(&step.tip);
        let _ = writeln!(
            steps,
            "{:>3}. {name} {} {}",
            number + 1,
            painter.paint(Label::Commit, commit.short()),
            painter.paint(label, word)
        );
        let mended = step.mends.and_then(|of| merge.steps.iter().find(|other| other.agent == of));
        if let Some(mended) = mended {
            let name = painter.paint(Label::Agent, mended.name.as_str());
            let _ = writeln!(steps, "     {} {name}", painter.paint(Label::Dim, "mends"));
        }
        if let Some(reason) = &step.reason {
            let _ = writeln!(steps, "     {}", painter.paint(Label::Dim, reason));
        }
        for resolution in &step.resolutions {
            let side = match resolution.side {
                Side::Ours => "ours",
                Side::Theirs => "theirs",
                Side::Union => "both",
                Side::Places => "place by place",
                Side::Edited => "edited",
                Side::Agent => "by the agent",
                Side::Remembered => "as before",
                Side::Rule => "by rule",
            };
            let path = painter.paint(Label::Path, &resolution.path);
            let by = match resolution.side {
                Side::Rule => resolution.by.clone(),
                _ => format!("decided by {}", resolution.by),
            };
            let by = painter.paint(Label::Dim, by);
            let _ = writeln!(steps, "     {path}: {side}, {by}");
        }
    }
    page.raw(&steps);
    page.raw(&receipt(merge, known.checked.as_ref(), painter, ids));
    let answers = known.answers.iter().flat_map(|(decision, proofs)| {
        proofs.iter().map(|proven| super::decision::answered(decision, proven, painter, ids))
    });
    let answers: String = answers.collect();
    if !answers.is_empty() {
        page.raw(&format!("\n{}\n{answers}", painter.paint(Label::Heading, "answers")));
    }
    if !merge.gates.is_empty() {
        page.raw(&format!("\n{}\n", painter.paint(Label::Heading, "gates")));
    }
    for run in &merge.gates {
        page.raw(&gate(merge, run, painter));
    }
    for (number, mend) in merge.mends.iter().enumerate() {
        if number == 0 {
            page.raw(&format!("\n{}\n", painter.paint(Label::Heading, "asked to mend")));
        }
        page.raw(&asked(merge, mend, painter));
    }
    page.into_text()
}

/// What became of everybody's lines, and whether that is so.
fn receipt(merge: &Merge, checked: Option<&Check>, painter: Painter, ids: &ShortIds) -> String {
    let made = match checked {
        Some(Check::Otherwise(made)) if merge.receipt.is_none() => Some(&**made),
        _ => merge.receipt.as_deref(),
    };
    let mut text = String::new();
    if let Some(receipt) = made {
        let sentence = super::receipt::sentence(receipt, branch_name(&merge.target), painter, ids);
        let _ = write!(text, "\n{sentence}{}", super::receipt::accounts(receipt, painter));
    }
    let command = || painter.paint(Label::Title, format!("git orchestra verify {}", ids.shorten(&merge.id)));
    let (label, words, more) = match checked {
        None => return text,
        Some(Check::Holds) => {
            let drops = made.is_some_and(|made| made.dropped() > 0);
            let more = if drops { format!("; `{}` says which", command()) } else { String::new() };
            (Label::Good, "verified: the trees say the same".to_owned(), more)
        }
        Some(Check::Otherwise(_)) if merge.receipt.is_none() => {
            (Label::Dim, "not recorded when it landed: this is what the trees say".to_owned(), String::new())
        }
        Some(Check::Otherwise(_)) => {
            let words = "unverified: the trees say otherwise".to_owned();
            (Label::Bad, words, format!("; `{}` says what", command()))
        }
        Some(Check::Not(why)) => (Label::Attention, format!("unverified: {why}"), String::new()),
    };
    let lead = if made.is_some() { "  " } else { "\nreceipt " };
    let _ = writeln!(text, "{lead}{}{more}", painter.paint(label, words));
    text
}

/// `  mend-cedar for test of cedar: not taken: its run failed`
fn asked(merge: &Merge, mend: &Mend, painter: Painter) -> String {
    let of = merge.steps.iter().find(|step| step.agent == mend.of);
    let of = of.map_or_else(|| mend.of.to_string(), |step| step.name.to_string());
    let label = match mend.outcome {
        MendOutcome::Taken => Label::Good,
        MendOutcome::Refused => Label::Attention,
    };
    let why = mend.why.as_ref().map(|why| format!(": {}", painter.paint(Label::Plain, why)));
    format!(
        "  {} for {} of {}: {}{}\n",
        painter.paint(Label::Agent, mend.name.as_str()),
        painter.paint(Label::Title, &mend.gate),
        painter.paint(Label::Agent, of),
        painter.paint(label, mend.outcome.word()),
        why.unwrap_or_default()
    )
}

/// `  test failed on the first 2 branches at 1f2e3d4c, 2 runs in 8s: exit code 1`
fn gate(merge: &Merge, run: &GateRun, painter: Painter) -> String {
    let label = match run.outcome {
        GateOutcome::Passed if run.flaky => Label::Attention,
        GateOutcome::Passed => Label::Good,
        GateOutcome::LeftOut => Label::Attention,
        GateOutcome::Failed | GateOutcome::TimedOut => Label::Bad,
    };
    let commit = painter.paint(Label::Commit, run.commit.short());
    let step = merge.steps.iter().find(|step| step.commit.as_ref() == Some(&run.commit));
    let on = match step {
        Some(step) => format!("with {} at {commit}", painter.paint(Label::Agent, step.name.as_str())),
        None if run.commit == merge.target_tip => format!("on the target at {commit}"),
        None => format!("at {commit}"),
    };
    let word = painter.paint(label, run.outcome.word());
    let mut text = format!("  {} {word} {on}", painter.paint(Label::Title, &run.gate));
    if run.runs > 0 {
        let took = span(std::time::Duration::from_millis(run.ms));
        let runs = if run.runs == 1 { String::new() } else { format!("{} runs, ", run.runs) };
        let _ = write!(text, "{}", painter.paint(Label::Dim, format!(" ({runs}{took})")));
    }
    if run.flaky {
        let _ = write!(text, ", {}", painter.paint(Label::Attention, "flaky"));
    }
    if let Some(why) = &run.why {
        let _ = write!(text, ": {}", painter.paint(Label::Plain, why));
    }
    if run.decision.is_some() {
        let _ = write!(text, ", {}", painter.paint(Label::Attention, "landed all the same"));
    }
    if let Some(by) = &run.by {
        let _ = write!(text, ", {}", painter.paint(Label::Dim, format!("by {by}")));
    }
    if let Some(output) = run.output.as_ref().filter(|_| run.is_failure()) {
        let place = format!(".git/orchestra/{output} on {}", run.machine);
        let _ = write!(text, "\n     {}", painter.paint(Label::Path, place));
    }
    text.push('\n');
    text
}

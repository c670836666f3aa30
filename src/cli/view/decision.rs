//! Decisions.

use super::{Page, when};
use crate::cli::ui::{Label, Painter};
use crate::model::{Decision, DecisionKind, DecisionStatus, Timestamp};
use crate::store::ShortIds;
use serde::Serialize;
use std::fmt::Write as _;

/// A decision as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(flatten)]
    decision: &'a Decision,
    short: String,
}

impl<'a> Shown<'a> {
    /// The record and the shortest unique prefix of its id.
    pub(crate) fn new(decision: &'a Decision, ids: &ShortIds) -> Self {
        Self { decision, short: ids.shorten(&decision.id) }
    }
}

/// The word for what one is about.
pub(crate) const fn kind_word(kind: DecisionKind) -> &'static str {
    match kind {
        DecisionKind::Conflict => "conflict",
        DecisionKind::Gate => "gate",
        DecisionKind::Executable => "executable",
        DecisionKind::Pipeline => "pipeline",
        DecisionKind::Permission => "permission",
        DecisionKind::Question => "question",
    }
}

/// What an answer leaves out, behind its label: `, leaves out 3 lines of grey-fox`.
pub(crate) fn losses(
    decision: &Decision,
    key: &str,
    path: Option<&str>,
    place: Option<usize>,
    painter: Painter,
) -> String {
    let losses = decision.losses(key, path, place);
    let words = losses.iter().map(|loss| format!(", {}", painter.paint(Label::Attention, loss.words())));
    words.collect()
}

/// One for people.
pub(crate) fn page(decision: &Decision, painter: Painter, ids: &ShortIds, now: Timestamp) -> String {
    let mut page = Page::new(painter, ids, "decision", &decision.id);
    page.field("question", Label::Title, &decision.question);
    let (label, word) = match decision.status {
        DecisionStatus::Open => (Label::Attention, "open"),
        DecisionStatus::Answered => (Label::Good, "answered"),
        DecisionStatus::Withdrawn => (Label::Dim, "withdrawn"),
    };
    page.field("about", Label::Plain, kind_word(decision.kind));
    page.field("state", label, word);
    page.ids("merge", &decision.merge);
    page.ids("agent", &decision.agent);
    page.field("asked", Label::Dim, when(decision.created, now));
    if let Some(answer) = &decision.answer {
        page.field("answer", Label::Plain, &answer.key);
        page.field("by", Label::Plain, &answer.by);
        page.field("answered", Label::Dim, when(answer.at, now));
        page.text(answer.text.as_deref().unwrap_or_default());
    }
    for (path, answer) in &decision.answers {
        page.field("answer", Label::Path, format!("{path}: {} by {}", answer.key, answer.by));
    }
    for (place, answer) in &decision.places {
        page.field("answer", Label::Path, format!("{place}: {} by {}", answer.key, answer.by));
    }
    page.text(&decision.detail);
    if decision.status == DecisionStatus::Open {
        let short = ids.shorten(&decision.id);
        let mut choices = String::from("\n");
        for choice in &decision.choices {
            let command = painter.paint(Label::Title, format!("git orchestra decide {short} {}", choice.key));
            let losses = losses(decision, &choice.key, None, None, painter);
            let _ = writeln!(choices, "{command}  {}{losses}", painter.paint(Label::Plain, &choice.label));
        }
        page.raw(&choices);
    }
    page.into_text()
}

//! Findings.

use super::{Page, when};
use crate::cli::ui::{Label, Painter};
use crate::model::{Finding, FindingStatus, ObjectId, Severity, Timestamp};
use crate::store::ShortIds;
use serde::Serialize;

/// A finding as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(flatten)]
    finding: &'a Finding,
    short: String,
}

impl<'a> Shown<'a> {
    /// The record and the shortest unique prefix of its id.
    pub(crate) fn new(finding: &'a Finding, ids: &ShortIds) -> Self {
        Self { finding, short: ids.shorten(&finding.id) }
    }
}

/// How a severity looks.
pub(crate) const fn severity_label(severity: Severity) -> Label {
    match severity {
        Severity::Info => Label::Dim,
        Severity::Low => Label::Plain,
        Severity::Medium => Label::Attention,
        Severity::High | Severity::Critical => Label::Bad,
    }
}

/// The word for where one stands.
pub(crate) const fn status_word(status: FindingStatus) -> &'static str {
    match status {
        FindingStatus::Open => "open",
        FindingStatus::Resolved => "resolved",
    }
}

/// One for people.
pub(crate) fn page(finding: &Finding, painter: Painter, ids: &ShortIds, now: Timestamp) -> String {
    let mut page = Page::new(painter, ids, "finding", &finding.id);
    page.field("severity", severity_label(finding.severity), finding.severity.word());
    page.field("state", Label::Plain, status_word(finding.status));
    page.field("where", Label::Path, finding.anchor.as_ref().map(ToString::to_string).unwrap_or_default());
    page.field("commit", Label::Commit, finding.commit.as_ref().map_or("", ObjectId::as_str));
    page.field("by", Label::Agent, &finding.author);
    page.ids("agent", &finding.agent);
    page.ids("task", &finding.task);
    page.ids("between", &finding.between);
    page.field("noticed", Label::Dim, when(finding.created, now));
    page.field("resolution", Label::Plain, finding.resolution.as_deref().unwrap_or_default());
    page.text(&finding.message);
    page.into_text()
}

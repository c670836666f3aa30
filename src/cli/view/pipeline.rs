//! Pipelines.

use super::agent::branch_name;
use super::{Page, when};
use crate::cli::ui::{Label, Painter};
use crate::model::{Pipeline, PipelineStatus, Task, Timestamp};
use crate::orchestrate::pipeline::Standing;
use crate::store::ShortIds;
use serde::Serialize;
use std::fmt::Write as _;

/// A pipeline as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(flatten)]
    pipeline: &'a Pipeline,
    short: String,
}

impl<'a> Shown<'a> {
    /// The record and the shortest unique prefix of its id.
    pub(crate) fn new(pipeline: &'a Pipeline, ids: &ShortIds) -> Self {
        Self { pipeline, short: ids.shorten(&pipeline.id) }
    }
}

/// One for people.
pub(crate) fn page(
    pipeline: &Pipeline,
    stands: &[(Task, Standing)],
    painter: Painter,
    ids: &ShortIds,
    now: Timestamp,
) -> String {
    let mut page = Page::new(painter, ids, "pipeline", &pipeline.id);
    let label = match pipeline.status {
        PipelineStatus::Running => Label::Running,
        PipelineStatus::Waiting => Label::Attention,
        PipelineStatus::Done => Label::Good,
        PipelineStatus::Cancelled => Label::Dim,
    };
    page.field("name", Label::Title, pipeline.name.as_deref().unwrap_or_default());
    page.field("state", label, pipeline.status.word());
    page.field("result", Label::Plain, pipeline.result.as_deref().unwrap_or_default());
    page.field("profile", Label::Plain, pipeline.profile.as_deref().unwrap_or_default());
    page.field("team", Label::Plain, pipeline.team.as_deref().unwrap_or_default());
    page.field("into", Label::Branch, pipeline.target.as_deref().map_or("", branch_name));
    page.field("push", Label::Plain, pipeline.push.as_deref().unwrap_or_default());
    page.ids("merge", &pipeline.merge);
    page.field("begun", Label::Dim, when(pipeline.created, now));
    let mut tasks = String::from("\n");
    for (task, standing) in stands {
        let agent = standing.agent().map(|agent| painter.paint(Label::Agent, agent.name.as_str()));
        let _ = writeln!(
            tasks,
            "  {} {}  {}{}",
            painter.paint(Label::Id, ids.shorten(&task.id)),
            painter.paint(Label::Plain, task.title.lines().next().unwrap_or_default()),
            painter.paint(word_label(standing), standing.word()),
            agent.map(|agent| format!(" ({agent})")).unwrap_or_default()
        );
    }
    page.raw(&tasks);
    page.into_text()
}

const fn word_label(standing: &Standing) -> Label {
    match standing {
        Standing::Landed | Standing::Ready(_) => Label::Good,
        Standing::Working(_) => Label::Running,
        Standing::Failed(_) => Label::Bad,
        Standing::Asking(_) | Standing::CutShort(_) | Standing::Elsewhere(_) => Label::Attention,
        Standing::Wanted | Standing::Blocked | Standing::Settled(_) => Label::Dim,
    }
}

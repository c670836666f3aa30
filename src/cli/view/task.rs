//! Tasks.

use super::{Page, when};
use crate::cli::error::CliError;
use crate::cli::ui::{Label, Painter};
use crate::model::{Agent, Id, Kind, Name, Task, TaskStatus, Timestamp};
use crate::store::{ShortIds, State};
use serde::Serialize;
use std::collections::{BTreeSet, HashMap};

/// All tasks, and what is needed to show them.
#[derive(Debug)]
pub(crate) struct Tasks {
    /// By id.
    pub(crate) all: Vec<Task>,
    status: HashMap<Id, TaskStatus>,
    /// Whether all of them are in the archive.
    archived: bool,
    agents: HashMap<Id, Name>,
}

/// Where a task stands, dependencies considered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// Somebody works on it.
    Started,
    /// Nothing holds it back.
    Ready,
    /// It comes after something that is not closed.
    Blocked,
    /// Over.
    Closed,
}

impl Standing {
    /// The word that lists show.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Started => "started",
            Self::Ready => "ready",
            Self::Blocked => "blocked",
            Self::Closed => "closed",
        }
    }

    /// How the word looks.
    pub(crate) const fn label(self) -> Label {
        match self {
            Self::Started => Label::Running,
            Self::Ready => Label::Good,
            Self::Blocked => Label::Waiting,
            Self::Closed => Label::Dim,
        }
    }
}

/// A task as JSON shows it: the record, and what follows from the rest of the state.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    #[serde(flatten)]
    task: &'a Task,
    /// The shortest unique prefix of its id.
    short: String,
    /// `started`, `ready`, `blocked` or `closed`.
    standing: &'static str,
    /// The name of the agent that works on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a Name>,
    /// Whether it is in the archive.
    archived: bool,
}

impl Tasks {
    /// Reads them.
    pub(crate) fn load(state: &State) -> Result<Self, CliError> {
        let all = state.all::<Task>()?;
        let before = state.archived_before(&all)?;
        let status = all.iter().chain(&before).map(|task| (task.id, task.status)).collect();
        Self::with_agents(state, all, status, false)
    }

    /// Reads those that are archived.
    pub(crate) fn load_archived(state: &State) -> Result<Self, CliError> {
        let all = state.archived::<Task>()?;
        let status = all.iter().map(|task| (task.id, task.status)).collect();
        Self::with_agents(state, all, status, true)
    }

    fn with_agents(
        state: &State,
        all: Vec<Task>,
        status: HashMap<Id, TaskStatus>,
        archived: bool,
    ) -> Result<Self, CliError> {
        let agents = if all.iter().any(|task| task.assignee.is_some()) {
            let names = state.titles::<Agent>()?.into_iter();
            names.filter_map(|(id, name)| Some((id, name.parse().ok()?))).collect()
        } else {
            HashMap::new()
        };
        Ok(Self { all, status, archived, agents })
    }

    /// Reads one with what it comes after, what comes after it, and who works on it: enough to show that one.
    pub(crate) fn around(state: &State, task: &Task) -> Result<Self, CliError> {
        let mut near = state.tasks_after(&task.id)?;
        near.extend(&task.after);
        let mut all = state.several::<Task>(&near)?;
        all.push(task.clone());
        all.sort_by_key(|task| task.id);
        let status = all.iter().map(|task| (task.id, task.status)).collect();
        let agents: BTreeSet<Id> = task.assignee.into_iter().collect();
        let agents =
            state.several::<Agent>(&agents)?.into_iter().map(|agent| (agent.id, agent.name)).collect();
        let archived = state.record(Kind::Task, &task.id)?.is_some_and(|record| record.is_archived());
        Ok(Self { all, status, archived, agents })
    }

    /// What shortens the ids that showing `task` needs.
    pub(crate) fn short_ids(&self, state: &State, task: &Task) -> Result<ShortIds, CliError> {
        Ok(state.short_ids_of(self.all.iter().map(|task| &task.id).chain(&task.after))?)
    }

    /// Where one stands.
    pub(crate) fn standing(&self, task: &Task) -> Standing {
        match task.status {
            TaskStatus::Closed => Standing::Closed,
            TaskStatus::Started => Standing::Started,
            TaskStatus::Open if task.assignee.is_some() => Standing::Started,
            TaskStatus::Open if task.is_ready(|id| self.status.get(id).copied()) => Standing::Ready,
            TaskStatus::Open => Standing::Blocked,
        }
    }

    /// What one waits for: dependencies that are not closed.
    pub(crate) fn waits_for<'t>(&self, task: &'t Task) -> impl Iterator<Item = &'t Id> {
        task.after.iter().filter(|id| self.status.get(id) != Some(&TaskStatus::Closed))
    }

    /// The agent that works on one.
    pub(crate) fn agent(&self, task: &Task) -> Option<&Name> {
        self.agents.get(&task.assignee?)
    }

    /// One as JSON shows it.
    pub(crate) fn shown<'a>(&'a self, task: &'a Task, ids: &ShortIds) -> Shown<'a> {
        let standing = self.standing(task).word();
        Shown {
            task,
            short: ids.shorten(&task.id),
            standing,
            agent: self.agent(task),
            archived: self.archived,
        }
    }

    /// One for people.
    pub(crate) fn page(&self, task: &Task, painter: Painter, ids: &ShortIds, now: Timestamp) -> String {
        let mut page = Page::new(painter, ids, "task", &task.id);
        let standing = self.standing(task);
        page.field("title", Label::Title, &task.title);
        page.field("state", standing.label(), standing.word());
        page.field("agent", Label::Agent, self.agent(task).map_or("", Name::as_str));
        if task.priority != 0 {
            page.field("priority", Label::Plain, task.priority.to_string());
        }
        page.ids("after", &task.after);
        if standing == Standing::Blocked {
            page.ids("waits for", self.waits_for(task));
        }
        page.ids("before", self.all.iter().filter(|other| other.after.contains(&task.id)).map(|t| &t.id));
        page.field(
            "touches",
            Label::Path,
            task.touches.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
        );
        page.field(
            "labels",
            Label::Plain,
            task.labels.iter().map(String::as_str).collect::<Vec<_>>().join(" "),
        );
        page.field("zone", Label::Plain, task.zone.as_deref().unwrap_or_default());
        page.field("result", Label::Plain, task.result.as_deref().unwrap_or_default());
        page.field("added", Label::Dim, when(task.created, now));
        if task.changed > task.created {
            page.field("changed", Label::Dim, when(task.changed, now));
        }
        page.text(&task.body);
        page.into_text()
    }
}

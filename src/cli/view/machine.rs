//! Machines of the fleet.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::ui::{Align, Label, Table, printable};
use crate::cli::view;
use crate::model::{Id, Name, Timestamp};
use crate::orchestrate::Error;
use crate::orchestrate::claim::Queue;
use crate::orchestrate::fleet::{self, Machine, Presence};
use crate::orchestrate::supervise::chain;
use serde::Serialize;
use std::time::Duration;

/// A machine as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Row<'a> {
    machine: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    host: &'a str,
    own: bool,
    presence: &'static str,
    /// Seconds, by this machine's clock.
    #[serde(skip_serializing_if = "Option::is_none")]
    unchanged: Option<u64>,
    agents: Vec<Running<'a>>,
    holds: &'a [Id],
}

#[derive(Debug, Serialize)]
struct Running<'a> {
    id: Id,
    name: &'a Name,
    run: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<Id>,
    since: Timestamp,
}

impl<'a> Row<'a> {
    /// The row of a machine.
    pub(crate) fn of(machine: &'a Machine) -> Self {
        let running = machine.agents.iter().map(|agent| Running {
            id: agent.id,
            name: &agent.name,
            run: agent.run,
            task: agent.task,
            since: agent.since,
        });
        Self {
            machine: &machine.name,
            host: &machine.host,
            own: machine.own,
            presence: machine.presence.word(),
            unchanged: machine.presence.unchanged().map(|span| span.as_secs()),
            agents: running.collect(),
            holds: &machine.holds,
        }
    }
}

/// The machines that share the state, and how well that is known.
#[derive(Debug, Default)]
pub(crate) struct Fleet {
    pub(crate) machines: Vec<Machine>,
    /// How long ago the remote told of them, where it does not tell it now, if that is known.
    age: Option<Duration>,
    /// Why it does not tell it now.
    why: Option<Error>,
    /// The remote, if nothing was exchanged with it yet.
    strange: Option<String>,
}

/// The fleet as JSON shows it beside the agents.
#[derive(Debug, Serialize)]
pub(crate) struct ShownFleet<'a> {
    machines: Vec<Row<'a>>,
    /// Seconds since the remote told of them; absent if nobody knows.
    #[serde(skip_serializing_if = "Option::is_none")]
    age: Option<u64>,
    /// Why nothing is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl Fleet {
    pub(crate) fn shown(&self) -> ShownFleet<'_> {
        ShownFleet {
            machines: self.machines.iter().map(Row::of).collect(),
            age: self.age.map(|age| age.as_secs()),
            reason: self.never(),
        }
    }

    fn never(&self) -> Option<String> {
        let remote = printable(self.strange.as_ref()?).into_owned();
        Some(format!("nothing was exchanged with {remote} yet, so no other machine is known"))
    }

    /// Says how old it is where it is not of now.
    pub(crate) fn warn(&self, ctx: &Context) {
        if let Some(never) = self.never() {
            ctx.ui().note(format!("{never}: `git orchestra sync`"));
        }
        let Some(error) = &self.why else { return };
        let known = match self.age {
            Some(age) => format!("other machines are as the remote had them {} ago", view::span(age)),
            None => "nothing is known of other machines but what the state says".to_owned(),
        };
        ctx.ui().warn(printable(&format!("{known}: failed to {}", chain(error))));
    }

    /// The end of the command: a remote that went back is an alarm, whatever was shown.
    pub(crate) fn end(self) -> Result<Exit, CliError> {
        match self.why {
            Some(error @ Error::Alarm { .. }) => Err(error.into()),
            _ => Ok(Exit::Done),
        }
    }
}

/// The fleet, if there is a remote that state was exchanged with: as that has it now if it is to be asked (`ask`), which
/// merges what it has, and otherwise, or where it cannot be asked, as it had it last.
pub(crate) fn load(ctx: &Context, ask: bool) -> Result<Fleet, CliError> {
    let repo = ctx.repo()?;
    if repo.remotes()?.is_empty() {
        return Ok(Fleet::default());
    }
    let remote = crate::cli::command::sync::remote(ctx, None)?;
    if repo.find_ref(&remote.tracking(crate::store::STATE_REF))?.is_none() {
        return Ok(Fleet { strange: Some(remote.name), ..Fleet::default() });
    }
    let queue = Queue::new(ctx.store()?.clone(), Some(remote), ctx.settings()?.claim_ttl());
    let why = match ask.then(|| fleet::machines(&queue)) {
        Some(Ok(machines)) => return Ok(Fleet { machines, ..Fleet::default() }),
        Some(Err(error)) => Some(error),
        None => None,
    };
    let (machines, age) = fleet::remembered(&queue)?;
    Ok(Fleet { machines, age, why, strange: None })
}

/// The machines as a table.
pub(crate) fn table(ctx: &Context, machines: &[Machine]) -> Result<String, CliError> {
    let (paint, state) = (ctx.ui().painter(), ctx.state()?);
    let ids = state.short_ids()?;
    let columns = [
        ("MACHINE", Align::Left),
        ("HOST", Align::Left),
        ("HEARTBEAT", Align::Left),
        ("RUNS", Align::Left),
        ("HOLDS", Align::Left),
    ];
    let mut table = Table::new(paint, &columns, 3);
    for machine in machines {
        let (label, heard) = match machine.presence {
            _ if machine.own => (Label::Good, "this one".to_owned()),
            Presence::Heard(span) => (Label::Good, format!("{} old by our clock", view::span(span))),
            Presence::Silent(span) => (Label::Bad, format!("silent: {} old by our clock", view::span(span))),
            Presence::Unseen => (Label::Dim, "unseen".to_owned()),
        };
        let agents: Vec<&str> = machine.agents.iter().map(|agent| agent.name.as_str()).collect();
        let holds: Vec<String> = machine.holds.iter().map(|id| ids.shorten(id)).collect();
        table.row(vec![
            paint.paint(Label::Title, &machine.name),
            paint.paint(Label::Plain, &machine.host),
            paint.paint(label, heard),
            paint.paint(Label::Agent, agents.join(", ")),
            paint.paint(Label::Id, holds.join(", ")),
        ]);
    }
    Ok(table.render(ctx.ui().columns()))
}

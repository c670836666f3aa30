//! Machines of the fleet.

use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::ui::{Align, Label, Table, printable};
use crate::cli::view;
use crate::model::{Id, Name, Timestamp};
use crate::orchestrate::claim::Queue;
use crate::orchestrate::fleet::{self, Machine, Presence};
use serde::Serialize;

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

/// The machines, if there is a remote that state was exchanged with. One that cannot be asked is said.
pub(crate) fn load(ctx: &Context) -> Result<Vec<Machine>, CliError> {
    let repo = ctx.repo()?;
    if repo.remotes()?.is_empty() {
        return Ok(Vec::new());
    }
    let remote = crate::cli::command::sync::remote(ctx, None)?;
    if repo.find_ref(&remote.tracking(crate::store::STATE_REF))?.is_none() {
        return Ok(Vec::new());
    }
    let ttl = ctx.settings()?.claim_ttl();
    let queue = Queue::new(ctx.store()?.clone(), Some(remote), ttl);
    match fleet::machines(&queue) {
        Ok(machines) => Ok(machines),
        Err(error @ crate::orchestrate::Error::Alarm { .. }) => Err(error.into()),
        Err(error) => {
            ctx.ui().warn(printable(&format!("nothing is known of other machines: failed to {error}")));
            Ok(fleet::machines(&Queue::new(ctx.store()?.clone(), None, ttl))?)
        }
    }
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

//! What agents consumed, summed by what one asks for. Reads only.

use super::Error;
use super::running::Running;
use crate::model::{Agent, Id, Run, Timestamp, Usage};
use crate::store::{State, Store};
use std::collections::HashMap;

/// What runs are put together by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum By {
    /// The agent.
    Agent,
    /// Its profile: the role that it was given.
    Profile,
    /// Its program.
    Program,
    /// The model that the program said it used.
    Model,
    /// The task that the agent worked on.
    Task,
    /// The day, in UTC, on which the run began.
    Day,
    /// The machine that the agent belongs to.
    Machine,
}

/// What the runs of one group have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    /// An agent or a task.
    Entity(Id),
    /// A profile, program, model or machine; a day as `2026-11-20`.
    Text(String),
    /// What no run of the group said: an agent without a task, a run that named no model.
    Nothing,
}

/// What a group of runs consumed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spent {
    /// What they have in common.
    pub key: Key,
    /// How many they are.
    pub runs: u64,
    /// How many of them used tokens of which nobody knows the price: their cost is missing in the sum.
    pub unpriced: u64,
    /// What they consumed together; of live ones as far as their journals say.
    pub usage: Usage,
}

impl Spent {
    fn nothing(key: Key) -> Self {
        Self { key, runs: 0, unpriced: 0, usage: Usage::default() }
    }

    /// Adds another group's figures.
    pub fn add(&mut self, other: &Self) {
        self.runs += other.runs;
        self.unpriced += other.unpriced;
        self.usage += other.usage;
    }
}

/// What the agents of the state consumed, or those of `only`, in runs that began at `since` or later. What cost most
/// comes first, and of equals what `status` lists first; days come in their order.
pub fn spent(
    store: &Store,
    state: &State,
    by: By,
    only: &[Id],
    since: Option<Timestamp>,
) -> Result<Vec<Spent>, Error> {
    let running = Running::of(store.repo());
    let mut agents = state.all::<Agent>()?;
    agents.retain(|agent| only.is_empty() || only.contains(&agent.id));
    agents.sort_by(|a, b| {
        let key = |agent: &Agent| (!running.has(&agent.id), agent.created);
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    let live = |agent: &Agent, number| running.usage(&agent.id, number);
    Ok(sum(&agents, by, since, live, |agent, number| running.model(&agent.id, number)))
}

/// `live` says what a run consumed whose record has nothing yet, and `model` which model it uses.
fn sum(
    agents: &[Agent],
    by: By,
    since: Option<Timestamp>,
    live: impl Fn(&Agent, u32) -> Option<Usage>,
    model: impl Fn(&Agent, u32) -> Option<String>,
) -> Vec<Spent> {
    let (mut groups, mut places) = (Vec::<Spent>::new(), HashMap::new());
    for agent in agents {
        for (number, run) in &agent.runs {
            if since.is_some_and(|since| run.started < since) {
                continue;
            }
            let usage = match run.ended {
                Some(_) => run.usage,
                None => live(agent, *number).unwrap_or(run.usage),
            };
            let key = match key(agent, run, by) {
                Key::Nothing if by == By::Model && run.ended.is_none() => {
                    model(agent, *number).map_or(Key::Nothing, Key::Text)
                }
                key => key,
            };
            let place = *places.entry(key.clone()).or_insert(groups.len());
            if place == groups.len() {
                groups.push(Spent::nothing(key));
            }
            let unpriced = u64::from(usage.cost.is_none() && usage.total() > 0);
            groups[place].add(&Spent { key: Key::Nothing, runs: 1, unpriced, usage });
        }
    }
    if by == By::Day {
        groups.sort_by(|a, b| a.key.cmp(&b.key));
    } else {
        let cost = |spent: &Spent| spent.usage.cost.map_or(0, |cost| cost.micro_usd);
        groups.sort_by_key(|spent| std::cmp::Reverse((cost(spent), spent.usage.total())));
    }
    groups
}

fn key(agent: &Agent, run: &Run, by: By) -> Key {
    let text = |text: &str| if text.is_empty() { Key::Nothing } else { Key::Text(text.to_owned()) };
    match by {
        By::Agent => Key::Entity(agent.id),
        By::Task => agent.task.map_or(Key::Nothing, Key::Entity),
        By::Profile => text(&agent.profile),
        By::Program => text(&agent.program),
        By::Machine => text(&agent.machine),
        By::Model => text(run.model.as_deref().unwrap_or_default()),
        By::Day => text(run.started.to_string().split('T').next().unwrap_or_default()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cost, CostSource};

    const DAY: u64 = 86_400_000;

    fn usage(output: u64, micro_usd: Option<u64>) -> Usage {
        let cost = micro_usd.map(|micro_usd| Cost { micro_usd, source: CostSource::Reported });
        Usage { output, cost, ..Usage::default() }
    }

    fn run(day: u64, model: &str, usage: Usage, ended: bool) -> Run {
        let started = Timestamp(day * DAY + 5);
        Run { started, ended: ended.then_some(started), model: Some(model.into()), usage, ..Run::default() }
    }

    fn agent(name: &str, runs: Vec<Run>) -> Agent {
        let id = format!("{name}000000000000000");
        let json = serde_json::json!({
            "id": &id[..16], "name": name, "profile": "builder", "program": "claude",
            "branch": format!("refs/heads/orchestra/{name}"), "base": "a".repeat(40),
        });
        let mut agent: Agent = serde_json::from_value(json).unwrap();
        agent.runs = (1..).zip(runs.into_iter().map(Box::new)).collect();
        agent
    }

    #[test]
    fn runs_are_summed_by_what_is_asked_for() {
        let agents = [
            agent(
                "k",
                vec![run(0, "opus", usage(10, Some(7)), true), run(1, "haiku", usage(20, None), true)],
            ),
            agent("m", vec![run(1, "opus", usage(5, Some(100)), true)]),
        ];
        let shown = |by, since| -> Vec<(String, u64, u64, u64, Option<u64>)> {
            let groups = sum(&agents, by, since, |_, _| None, |_, _| None).into_iter();
            let name = |key| match key {
                Key::Entity(id) => id.as_str()[..1].to_owned(),
                Key::Text(text) => text,
                Key::Nothing => "-".to_owned(),
            };
            let money = |usage: Usage| usage.cost.map(|cost| cost.micro_usd);
            groups.map(|g| (name(g.key), g.runs, g.unpriced, g.usage.output, money(g.usage))).collect()
        };
        let row = |key: &str, runs, unpriced, output, cost| (key.to_owned(), runs, unpriced, output, cost);
        assert_eq!(shown(By::Agent, None), [row("m", 1, 0, 5, Some(100)), row("k", 2, 1, 30, Some(7))]);
        assert_eq!(shown(By::Model, None), [row("opus", 2, 0, 15, Some(107)), row("haiku", 1, 1, 20, None)]);
        assert_eq!(shown(By::Profile, None), [row("builder", 3, 1, 35, Some(107))]);
        assert_eq!(shown(By::Task, None), [row("-", 3, 1, 35, Some(107))]);
        let days = [row("1970-01-01", 1, 0, 10, Some(7)), row("1970-01-02", 2, 1, 25, Some(100))];
        assert_eq!(shown(By::Day, None), days);
        assert_eq!(shown(By::Day, Some(Timestamp(DAY))), days[1..]);
    }

    #[test]
    fn what_a_live_run_used_so_far_is_its_own() {
        let runs = vec![run(0, "opus", usage(10, Some(7)), true), run(3, "opus", Usage::default(), false)];
        let agents = [agent("k", runs)];
        let groups =
            sum(&agents, By::Day, None, |_, number| (number == 2).then(|| usage(4, Some(2))), |_, _| None);
        assert_eq!(groups[1].usage, usage(4, Some(2)));
        let groups = sum(&agents, By::Day, None, |_, _| None, |_, _| None);
        assert_eq!((groups[1].usage, groups[1].unpriced), (Usage::default(), 0));
    }
}

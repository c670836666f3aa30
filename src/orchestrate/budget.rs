//! What agents may use, and what they used: budgets of an agent, of a task and of all agents together.

use super::Error;
use super::running::Running;
use super::status::span;
use crate::model::{Agent, Budget, Id, Measure, Scope, Spending, Standing, Timestamp};
use crate::store::Store;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

/// From which share of a budget, in hundredths, a run is warned.
const WARNING: u64 = 80;

/// The budgets that settings give beside those of agents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Budgets {
    /// What the agents of one task may use together.
    pub task: Budget,
    /// What all agents may use together.
    pub fleet: Budget,
    /// How far back runs began that count for the fleet; `None` for all.
    pub period: Option<Duration>,
}

/// What one run may use, and what was used before it and beside it.
#[derive(Debug, Clone, Default)]
pub struct Purse {
    accounts: Vec<Account>,
    agent: Option<Id>,
    run: u32,
    task: Option<Id>,
    period: Option<Duration>,
}

#[derive(Debug, Clone)]
struct Account {
    scope: Scope,
    budget: Budget,
    /// What runs other than this one used.
    others: Spending,
    /// Of what it was told that it is nearly used up, and that it is.
    warned: BTreeSet<Measure>,
    told: BTreeSet<Measure>,
}

impl Account {
    fn new(scope: Scope, budget: Budget) -> Self {
        let (warned, told) = (BTreeSet::new(), BTreeSet::new());
        Self { scope, budget, others: Spending::default(), warned, told }
    }
}

impl Purse {
    /// What `run` of `agent` may use: what was said of the agent itself counts before what its profile says.
    pub(super) fn open(
        store: &Store,
        agent: &Agent,
        run: u32,
        profile: &Budget,
        budgets: &Budgets,
    ) -> Result<Self, Error> {
        let task = if agent.task.is_some() { budgets.task } else { Budget::default() };
        let all =
            [(Scope::Agent, agent.budget.or(profile)), (Scope::Task, task), (Scope::Fleet, budgets.fleet)];
        let limited = all.into_iter().filter(|(_, budget)| !budget.is_empty());
        let mut purse = Self {
            accounts: limited.map(|(scope, budget)| Account::new(scope, budget)).collect(),
            agent: Some(agent.id),
            run,
            task: agent.task,
            period: budgets.period,
        };
        let mut own = agent.clone();
        own.runs.remove(&run);
        purse.set(Scope::Agent, own.spending());
        if purse.is_shared() {
            purse.settle(&purse.look(store)?);
        }
        Ok(purse)
    }

    /// A purse with one agent's budget and nothing used, for tests.
    #[cfg(test)]
    pub(super) fn own(budget: Budget) -> Self {
        Self::of(&[(Scope::Agent, budget)])
    }

    /// A purse with these budgets and nothing used, for tests.
    #[cfg(test)]
    pub(super) fn of(budgets: &[(Scope, Budget)]) -> Self {
        let accounts = budgets.iter().map(|(scope, budget)| Account::new(*scope, *budget)).collect();
        Self { accounts, ..Self::default() }
    }

    /// Whether nothing is limited.
    pub(super) const fn is_empty(&self) -> bool {
        self.accounts.is_empty()
    }

    /// Whether others use of it too, so that [`Purse::look`] sees something new now and then.
    pub(super) fn is_shared(&self) -> bool {
        self.accounts.iter().any(|account| account.scope != Scope::Agent)
    }

    /// How far back runs began that count for the fleet.
    pub(super) const fn period(&self) -> Option<Duration> {
        self.period
    }

    /// What others used by now. Reads the state and the journals of live runs.
    pub(super) fn look(&self, store: &Store) -> Result<[Spending; 2], Error> {
        let now = store.clock().now();
        let since = self.period.map(|period| now.before(period));
        let (mut task, mut fleet) = (Spending::default(), Spending::default());
        spendings(store, |agent, number, started, spent| {
            if (Some(agent.id), number) == (self.agent, self.run) {
                return;
            }
            if agent.task.is_some() && agent.task == self.task {
                task += spent;
            }
            if since.is_none_or(|since| started >= since) {
                fleet += spent;
            }
        })?;
        Ok([task, fleet])
    }

    /// Takes what [`Purse::look`] saw.
    pub(super) fn settle(&mut self, [task, fleet]: &[Spending; 2]) {
        self.set(Scope::Task, *task);
        self.set(Scope::Fleet, *fleet);
    }

    fn set(&mut self, scope: Scope, others: Spending) {
        for account in self.accounts.iter_mut().filter(|account| account.scope == scope) {
            account.others = others;
        }
    }

    /// What is left for the run as a whole, of the strictest budget for each thing.
    pub(super) fn left(&self) -> Budget {
        let left = self.accounts.iter().map(|account| account.budget.after(&account.others));
        left.fold(Budget::default(), |least, one| least.least(&one))
    }

    /// What leaves no room for a run to begin.
    pub(super) fn empty(&self) -> Option<Standing> {
        self.reached(&Spending::default(), 100).next()
    }

    /// What `run` has used up, of several the most specific. A turn that is allowed is over only when the next one begins.
    pub(super) fn used_up(&self, run: &Spending) -> Option<Standing> {
        self.reached(run, 100).find(is_over)
    }

    /// What the run has used most of since it was asked last.
    pub(super) fn warnings(&mut self, run: &Spending) -> Vec<Standing> {
        let mut near: Vec<Standing> = self.reached(run, WARNING).collect();
        near.retain(|one| {
            let Some(account) = self.accounts.iter_mut().find(|account| account.scope == one.scope) else {
                return false;
            };
            let is_new = account.warned.insert(one.measure);
            if is_new && is_over(one) {
                account.told.insert(one.measure);
            }
            is_new
        });
        near
    }

    /// What is used up of which nobody was told so.
    pub(super) fn untold(&mut self, run: &Spending) -> Vec<Standing> {
        let mut over: Vec<Standing> = self.reached(run, 100).filter(is_over).collect();
        over.retain(|one| {
            let account = self.accounts.iter_mut().find(|account| account.scope == one.scope);
            account.is_some_and(|account| account.told.insert(one.measure))
        });
        over
    }

    /// How the strictest budget for `measure` stands, if there is one: of several that are used up the one that was first.
    pub(super) fn strictest(&self, measure: Measure, run: &Spending) -> Option<Standing> {
        let all = self.reached(run, 0).filter(|one| one.measure == measure);
        all.min_by_key(|one| i128::from(one.limit) - i128::from(one.used))
    }

    /// How the budget of `one` stands after `run`.
    pub(super) fn again(&self, one: &Standing, run: &Spending) -> Option<Standing> {
        self.reached(run, 0).find(|other| (other.scope, other.measure) == (one.scope, one.measure))
    }

    fn reached(&self, run: &Spending, share: u64) -> impl Iterator<Item = Standing> {
        self.accounts.iter().flat_map(move |account| {
            let mut spent = account.others;
            spent += *run;
            account.budget.reached(account.scope, &spent, share).collect::<Vec<_>>()
        })
    }
}

/// Whether it is used up: a turn that is allowed is over only when the next one begins.
fn is_over(one: &Standing) -> bool {
    one.used > one.limit || one.used == one.limit && one.measure != Measure::Turns
}

/// Refuses to start anything for `tasks` where their budget or that of all agents is used up.
///
/// # Errors
/// [`Error::UsedUp`], with the figures and what would help.
pub fn check(store: &Store, budgets: &Budgets, tasks: &[Id]) -> Result<(), Error> {
    let tasks = if budgets.task.is_empty() { &[] } else { tasks };
    if budgets.fleet.is_empty() && tasks.is_empty() {
        return Ok(());
    }
    let since = budgets.period.map(|period| store.clock().now().before(period));
    let (mut fleet, mut by_task) = (Spending::default(), HashMap::<Id, Spending>::new());
    spendings(store, |agent, _, started, spent| {
        if since.is_none_or(|since| started >= since) {
            fleet += spent;
        }
        if let Some(task) = agent.task {
            *by_task.entry(task).or_default() += spent;
        }
    })?;
    let refuse = |what: String, over: Option<Standing>| match over {
        Some(over) => Err(Error::UsedUp { what, hint: way_out(&over, None, budgets.period), over }),
        None => Ok(()),
    };
    refuse("start agents".to_owned(), budgets.fleet.reached(Scope::Fleet, &fleet, 100).next())?;
    for task in tasks {
        let spent = by_task.get(task).copied().unwrap_or_default();
        let what = format!("start an agent for {}", &task.as_str()[..6]);
        refuse(what, budgets.task.reached(Scope::Task, &spent, 100).next())?;
    }
    Ok(())
}

/// Refuses to go on with an agent whose own budget is used up, or its task's, or that of all agents.
pub fn check_agent(store: &Store, budgets: &Budgets, agent: &Agent, budget: &Budget) -> Result<(), Error> {
    if let Some(over) = budget.reached(Scope::Agent, &agent.spending(), 100).next() {
        let hint = way_out(&over, Some(agent.name.as_str()), None);
        return Err(Error::UsedUp { what: format!("resume {}", agent.name), hint, over });
    }
    check(store, budgets, agent.task.as_slice())
}

/// What would help where a budget is used up; for an agent that may go on, its name.
pub(super) fn way_out(over: &Standing, agent: Option<&str>, period: Option<Duration>) -> String {
    let key = over.key();
    match (over.scope, agent) {
        (Scope::Agent, Some(name)) => {
            format!("`git orchestra resume {name} --{key} …` goes on; it counts all its runs")
        }
        (Scope::Agent, None) => format!("--{key} allows more"),
        (Scope::Task, _) => {
            format!("`git config orchestra.{key} …` allows more; it counts all runs for the task")
        }
        (Scope::Fleet, _) => {
            let counts = match period {
                Some(period) => format!("the runs that began in the last {}", span(period)),
                None => "all runs there ever were (`fleet.period` counts recent ones only)".to_owned(),
            };
            format!("`git config orchestra.{key} …` allows more; it counts {counts}")
        }
    }
}

/// What each run of each agent used, removed ones too: by its record, and of a live one by its journal.
fn spendings(store: &Store, mut each: impl FnMut(&Agent, u32, Timestamp, Spending)) -> Result<(), Error> {
    let (now, running) = (store.clock().now(), Running::of(store.repo()));
    for agent in store.state()?.all::<Agent>()? {
        for (&number, run) in &agent.runs {
            let spent = if run.ended.is_none() && running.is(&agent.id, number) {
                let usage = running.usage(&agent.id, number).unwrap_or(run.usage);
                let time_ms = u64::try_from(now.since(run.started).as_millis()).unwrap_or(u64::MAX);
                Spending { usage, time_ms }
            } else {
                run.spending()
            };
            each(&agent, number, run.started, spent);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Cost, Usage};

    fn purse(scopes: &[(Scope, Budget, Spending)]) -> Purse {
        let account = |&(scope, budget, others): &(Scope, Budget, Spending)| Account {
            others,
            ..Account::new(scope, budget)
        };
        Purse { accounts: scopes.iter().map(account).collect(), ..Purse::default() }
    }

    fn spent(tokens: u64, turns: u64, usd: f64) -> Spending {
        let usage = Usage { output: tokens, turns, cost: Cost::reported(usd), ..Usage::default() };
        Spending { usage, time_ms: 0 }
    }

    #[test]
    fn the_strictest_budget_counts_with_what_others_used() {
        let own = Budget { tokens: Some(1_000), turns: Some(3), ..Budget::default() };
        let fleet = Budget { tokens: Some(5_000), cost_micro_usd: Some(1_000_000), ..Budget::default() };
        let mut purse =
            purse(&[(Scope::Agent, own, spent(100, 1, 0.1)), (Scope::Fleet, fleet, spent(4_500, 9, 0.2))]);
        let left = purse.left();
        assert_eq!((left.tokens, left.turns, left.cost_micro_usd), (Some(500), Some(2), Some(800_000)));
        assert_eq!(purse.empty(), None);
        assert_eq!(purse.used_up(&spent(499, 2, 0.1)), None);
        assert_eq!(
            purse.used_up(&spent(500, 2, 0.1)).unwrap().to_string(),
            "fleet.max-tokens: 5000 of 5000 tokens"
        );
        assert_eq!(purse.used_up(&spent(0, 3, 0.1)).unwrap().to_string(), "max-turns: 4 of 3 turns");
        let words = |all: Vec<Standing>| all.iter().map(Standing::key).collect::<Vec<_>>();
        assert_eq!(words(purse.warnings(&spent(0, 0, 0.0))), ["fleet.max-tokens"]);
        assert_eq!(words(purse.warnings(&spent(0, 1, 0.7))), ["fleet.max-cost"], "each once");
        assert_eq!(purse.strictest(Measure::Tokens, &spent(1, 0, 0.0)).unwrap().scope, Scope::Fleet);
        purse.settle(&[Spending::default(), spent(5_000, 9, 0.2)]);
        assert_eq!(purse.empty().unwrap().figures(), "5000 of 5000 tokens");
    }

    #[test]
    fn what_is_used_up_is_told_once() {
        let budget = |tokens| Budget { tokens: Some(tokens), turns: Some(2), ..Budget::default() };
        let mut purse = purse(&[
            (Scope::Task, budget(1_000), spent(0, 0, 0.0)),
            (Scope::Fleet, budget(2_000), spent(900, 0, 0.0)),
        ]);
        let keys = |all: Vec<Standing>| all.iter().map(Standing::key).collect::<Vec<_>>();
        assert_eq!(keys(purse.warnings(&spent(880, 2, 0.0))).len(), 4);
        assert_eq!(
            keys(purse.untold(&spent(880, 2, 0.0))),
            [""; 0],
            "a turn that is allowed is not too many"
        );
        assert_eq!(keys(purse.untold(&spent(1_280, 2, 0.0))), ["task.max-tokens", "fleet.max-tokens"]);
        assert_eq!(keys(purse.untold(&spent(1_380, 3, 0.0))), ["task.max-turns", "fleet.max-turns"]);
        // What was used up when it was warned of needs no other word.
        purse = Purse::own(budget(500));
        assert_eq!(keys(purse.warnings(&spent(1_050, 1, 0.0))), ["max-tokens"]);
        assert_eq!(keys(purse.untold(&spent(1_060, 1, 0.0))), [""; 0]);
    }

    #[test]
    fn of_several_that_are_used_up_the_first_is_named() {
        let budget = |usd: u64| Budget { cost_micro_usd: Some(usd * 1_000_000), ..Budget::default() };
        let purse =
            purse(&[(Scope::Task, budget(3), spent(1, 1, 0.2)), (Scope::Fleet, budget(5), spent(1, 1, 6.4))]);
        let run = spent(1, 1, 3.2);
        assert_eq!(
            purse.strictest(Measure::Cost, &run).unwrap().to_string(),
            "fleet.max-cost: $9.60 of $5.00"
        );
        let over = purse.used_up(&run).unwrap();
        assert_eq!(over.key(), "task.max-cost", "the most specific");
        assert_eq!(
            purse.again(&over, &spent(1, 1, 4.0)).unwrap().to_string(),
            "task.max-cost: $4.20 of $3.00"
        );
    }

    #[test]
    fn the_way_out_names_what_to_say() {
        let budget = Budget { cost_micro_usd: Some(1), ..Budget::default() };
        let over = |scope| budget.reached(scope, &spent(1, 1, 1.0), 100).next().unwrap();
        assert!(way_out(&over(Scope::Agent), Some("blue"), None).contains("resume blue --max-cost"));
        let day = Some(Duration::from_secs(86_400));
        let words = way_out(&over(Scope::Fleet), None, day);
        assert!(words.contains("orchestra.fleet.max-cost") && words.contains("last 24h"), "{words}");
    }
}

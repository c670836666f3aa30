//! `git orchestra wait`: returns when agents are where they should be.

use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::steer::Whom;
use crate::cli::ui::Label;
use crate::model::{Agent, Decision, DecisionStatus, Id, Name, Outcome};
use crate::orchestrate::lease;
use crate::orchestrate::status::{self, Activity};
use crate::orchestrate::team::{Course, Stage};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How often somebody looks.
const POLL: Duration = Duration::from_millis(100);

/// Wait until agents have ended, or are in a state
///
/// Without --for, until every one of them has ended and is recorded; one that waits for an answer has not, and that is
/// said once (`--for waiting` returns then). One that runs on another machine has not either: what became of it is known here after a
/// `sync`, or while a worker runs. It only looks, so agents may call this too.
///
/// A task stands for the agents that work on it, and for those that its team begins when they are done.
///
/// Exit codes: 0 the state was reached; 3 they ended, and a decision waits; 4 an agent ended otherwise (failed,
/// stopped, lost); 7 the time was over; 8 there is no such agent; 9 one was stopped because a budget is used up, and
/// the others ended well.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra wait blue-heron --timeout 10m\n  git orchestra wait blue-heron red-fox --any && git orchestra overlap\n  git orchestra wait 3f2a   # whoever works on that task"
)]
pub(crate) struct Args {
    /// The agents, or tasks
    #[arg(value_name = "AGENT", required = true)]
    agents: Vec<String>,
    /// Return as soon as one of them is there
    #[arg(long)]
    any: bool,
    /// Give up after this time: `90s`, `10m`, `2h`
    #[arg(short, long, value_name = "TIME", value_parser = span)]
    timeout: Option<Duration>,
    /// The state to wait for
    #[arg(long = "for", value_name = "STATE", value_enum, default_value_t, hide_possible_values = false)]
    state: Goal,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

/// What can be waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
enum Goal {
    /// Its run is over, however it went
    #[default]
    Ended,
    /// Its program runs
    Running,
    /// It waits for a person, or for its model's limit to pass
    Waiting,
    /// It ended well
    Done,
    /// It failed
    Failed,
    /// It was stopped
    Stopped,
    /// Its work was merged
    Merged,
}

/// Where an agent stands with what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Reached,
    Pending,
    /// It will not get there by itself.
    Never,
}

impl Goal {
    fn standing(self, activity: &Activity) -> Standing {
        let reached = match self {
            Self::Ended => activity.is_over(),
            Self::Running => activity.is_live() && *activity != Activity::Queued,
            Self::Waiting => activity.is_waiting(),
            Self::Done => matches!(activity, Activity::Ended(Outcome::Succeeded) | Activity::Merged(_)),
            Self::Failed => matches!(activity, Activity::Ended(Outcome::Failed { .. })),
            Self::Stopped => matches!(activity, Activity::Ended(Outcome::Stopped { .. })),
            Self::Merged => matches!(activity, Activity::Merged(_)),
        };
        let over = match self {
            // A merge comes after the end.
            Self::Merged => matches!(activity, Activity::Removed),
            _ => activity.is_over(),
        };
        match (reached, over) {
            (true, _) => Standing::Reached,
            (false, true) => Standing::Never,
            (false, false) => Standing::Pending,
        }
    }
}

/// An agent that was waited for, as JSON shows it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    agent: &'a Id,
    name: &'a Name,
    state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    evidence: String,
    /// Whether it is where it was waited for to be.
    reached: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let whom = Whom::find(ctx, &args.agents)?;
    let limit = args.timeout.map(|span| Instant::now() + span);
    let (mut first, mut asked, mut dues) = (true, BTreeSet::new(), Dues::default());
    let (seen, timed_out) = loop {
        let seen = look(ctx, &whom)?;
        if std::mem::take(&mut first) {
            note_elsewhere(ctx, &seen);
        }
        if !args.json && args.state != Goal::Waiting {
            note_questions(ctx, &seen, &mut asked)?;
        }
        let due = dues.standing(ctx, whom.tasks(), &seen)?;
        let standings = || seen.iter().map(|(_, activity)| args.state.standing(activity)).chain(due);
        let over = if args.any {
            standings().any(|one| one == Standing::Reached) || standings().all(|one| one == Standing::Never)
        } else {
            standings().all(|one| one == Standing::Reached) || standings().any(|one| one == Standing::Never)
        };
        if over {
            break (seen, false);
        }
        if limit.is_some_and(|limit| Instant::now() >= limit) {
            break (seen, true);
        }
        std::thread::sleep(POLL);
    };
    show(ctx, args, &seen)?;
    if timed_out {
        return Ok(Exit::TimedOut);
    }
    if dues.say_late(ctx)? && !args.any {
        return Ok(Exit::AgentFailed);
    }
    exit(ctx, args, &seen)
}

/// Steps of teams that are about to begin.
#[derive(Debug, Default)]
struct Dues {
    /// Of which task and team, which step, and since when nobody has begun it.
    since: Option<(Id, String, String, Instant)>,
}

impl Dues {
    /// How long whoever watched the step before may take to begin the next.
    const BEGINS: Duration = Duration::from_secs(20);

    /// Where tasks stand of which a step is about to begin, while nobody is at work on them; `None` if none is.
    fn standing(
        &mut self,
        ctx: &Context,
        tasks: &[Id],
        seen: &[(Agent, Activity)],
    ) -> Result<Option<Standing>, CliError> {
        for task in tasks {
            let mut own = seen.iter().filter(|(agent, _)| agent.task.as_ref() == Some(task));
            if own.clone().any(|(_, activity)| !activity.is_over()) {
                continue;
            }
            let Some(of) = own.find_map(|(agent, _)| agent.step.as_ref()) else { continue };
            // A team that is not known here is nobody's to go on with here.
            let Ok(team) = ctx.settings()?.team(&of.team) else { continue };
            let course = Course::read(ctx.store()?, &team, task)?;
            // It may have begun since they were looked at.
            if course.stages.iter().any(|(_, stage)| matches!(stage, Stage::Running(_))) {
                return Ok(Some(Standing::Pending));
            }
            let Some(step) = course.due() else { continue };
            let since = match self.since.take() {
                Some((of, _, name, since)) if of == *task && name == step.name => since,
                _ => Instant::now(),
            };
            self.since = Some((*task, team.name.clone(), step.name.clone(), since));
            let late = since.elapsed() >= Self::BEGINS;
            return Ok(Some(if late { Standing::Never } else { Standing::Pending }));
        }
        self.since = None;
        Ok(None)
    }

    /// Says which step nobody began, if that is why nothing more is to be waited for.
    fn say_late(&self, ctx: &Context) -> Result<bool, CliError> {
        let Some((task, team, step, since)) = &self.since else { return Ok(false) };
        if since.elapsed() < Self::BEGINS {
            return Ok(false);
        }
        let short = ctx.state()?.short_ids()?.shorten(task);
        ctx.ui().warn(format!("nobody begins {step} of team {team}, which comes next for task {short}"));
        ctx.ui().hint(format!("`git orchestra spawn --team {team} --detach {short}` goes on there"));
        Ok(true)
    }
}

/// Says of which agents nothing new is heard without a sync.
fn note_elsewhere(ctx: &Context, seen: &[(Agent, Activity)]) {
    for (agent, activity) in seen {
        if let Activity::Elsewhere { machine, .. } = activity {
            let name = &agent.name;
            ctx.ui().note(format!("{name} is on machine {machine}: a sync brings what becomes of it there"));
        }
    }
}

/// Says once of each question that an agent waits with it: whoever only waits for the agent would wait in vain.
fn note_questions(
    ctx: &Context,
    seen: &[(Agent, Activity)],
    asked: &mut BTreeSet<Id>,
) -> Result<(), CliError> {
    for (agent, activity) in seen {
        if let Activity::Asking(decision) = activity
            && asked.insert(*decision)
        {
            let short = ctx.state()?.short_ids()?.shorten(decision);
            let name = &agent.name;
            ctx.ui().note(format!("{name} waits for decision {short}; `git orchestra decide` answers it"));
        }
    }
    Ok(())
}

fn look(ctx: &Context, whom: &Whom) -> Result<Vec<(Agent, Activity)>, CliError> {
    let store = ctx.store()?;
    let mut seen = Vec::new();
    for agent in whom.now(store)? {
        let activity = status::activity_of(store, &agent)?;
        seen.push((agent, activity));
    }
    Ok(seen)
}

/// What it all amounts to: with --any, the ones that are there count.
fn exit(ctx: &Context, args: &Args, seen: &[(Agent, Activity)]) -> Result<Exit, CliError> {
    let reached = |activity: &Activity| args.state.standing(activity) == Standing::Reached;
    let concerned: Vec<_> = seen.iter().filter(|(_, activity)| !args.any || reached(activity)).collect();
    let last = |agent: &Agent| agent.last_run().and_then(|(_, run)| run.outcome.clone());
    let well = |(agent, activity): &(Agent, Activity)| match args.state {
        // One that never ran has not ended well, and one that was removed as its last run did.
        Goal::Ended => match activity {
            Activity::Ended(outcome) => *outcome == Outcome::Succeeded,
            Activity::Removed => last(agent) == Some(Outcome::Succeeded),
            Activity::Merged(_) => true,
            _ => false,
        },
        _ => reached(activity),
    };
    let used_up = |agent: &Agent| last(agent).is_some_and(|outcome| outcome.over().is_some());
    if concerned.is_empty() || !concerned.iter().all(|one| well(one) || used_up(&one.0)) {
        return Ok(Exit::AgentFailed);
    }
    if !concerned.iter().all(|one| well(one)) {
        return Ok(Exit::UsedUp);
    }
    if args.state == Goal::Ended {
        let open: Vec<Decision> = ctx.state()?.all()?;
        // What is asked about its branch in a merge, it did not ask.
        let waits = |agent: &Agent| {
            let of = |one: &Decision| one.agent == Some(agent.id) && one.merge.is_none();
            open.iter().any(|one| of(one) && one.status == DecisionStatus::Open)
        };
        if concerned.iter().any(|(agent, _)| waits(agent)) {
            return Ok(Exit::Waiting);
        }
    }
    Ok(Exit::Done)
}

fn show(ctx: &Context, args: &Args, seen: &[(Agent, Activity)]) -> Result<(), CliError> {
    let now = ctx.clock().now();
    if args.json {
        let shown: Vec<Shown<'_>> = seen
            .iter()
            .map(|(agent, activity)| Shown {
                agent: &agent.id,
                name: &agent.name,
                state: activity.word(),
                evidence: activity.evidence(now),
                reached: args.state.standing(activity) == Standing::Reached,
            })
            .collect();
        return json::print(ctx, "waited", &shown);
    }
    let paint = ctx.ui().painter();
    let width = seen.iter().map(|(agent, _)| agent.name.as_str().len()).max().unwrap_or(0);
    for (agent, activity) in seen {
        let name = paint.paint(Label::Agent, format!("{:<width$}", agent.name.as_str()));
        let mut line = format!("{name}  {}", activity.word());
        let evidence = activity.evidence(now);
        if !evidence.is_empty() {
            line = format!("{line} {}", paint.paint(Label::Dim, format!("({evidence})")));
        }
        ctx.ui().print(&format!("{line}\n"))?;
    }
    Ok(())
}

/// Waits until nobody watches an agent any more, and says how it stands then.
pub(crate) fn wait_until_recorded(ctx: &Context, agent: &Agent) -> Result<Activity, CliError> {
    let limit = Instant::now() + ctx.settings()?.grace() + Duration::from_secs(60);
    while lease::find_live(ctx.repo()?, &agent.id).is_some() {
        if Instant::now() >= limit {
            let words = format!("{} has not ended: what it left is still being saved, or cannot be", agent.name);
            return Err(CliError::new(ErrorKind::Failed, words));
        }
        std::thread::sleep(POLL / 4);
    }
    let store = ctx.store()?;
    let agent = store.state()?.get::<Agent>(&agent.id)?.unwrap_or_else(|| agent.clone());
    Ok(status::activity_of(store, &agent)?)
}

fn span(text: &str) -> Result<Duration, String> {
    crate::config::parse_span(text).ok_or_else(|| "a time such as `90s`, `10m` or `2h`".to_owned())
}

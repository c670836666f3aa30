//! `git orchestra status`.

use crate::cli::command::merge::warn_of_kept;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::porcelain::ListFormat;
use crate::cli::ui::{Align, Label, Painter, Table};
use crate::cli::view::{self, agent::activity_label, agent::branch_name};
use crate::model::{Agent, ContextUse, Decision, DecisionStatus, Id, Name, Sandbox, StepOf, Task, Timestamp, Usage};
use crate::orchestrate::{base, trust};
use crate::orchestrate::supervise::chain;
use crate::orchestrate::status::{self, Activity, AgentStatus, Waits};
use crate::store::ShortIds;
use serde::Serialize;

/// What so many rescue refs keep is looked at: each is a process or two.
const KEPT: usize = 20;

/// Show how the agents stand
///
/// "running" is said only while somebody alive watches the agent, with the tool that runs and since when. "waiting" says
/// for what: a decision, a person, its model's limit; "stuck" is one that has been silent for ten minutes for no reason
/// that we know of, "unknown" one whose process is gone without a word. "elsewhere" is one of another machine whose run
/// is not over as far as is known here, with how long ago that machine was heard of. A `*` behind the number of changed files means
/// that some are not committed yet; a `~` before a figure, that it is an estimate.
///
/// --all shows the fleet too: the machines that share this state, what each of them said that it runs, and for how
/// long its heartbeat was seen unchanged by this machine's own clock.
///
/// With --porcelain each line has: id, name, state, branch, ahead, behind, changed files, uncommitted paths (`-`
/// where nobody looked), tokens, cost in millionths of a US dollar, time of the last event in milliseconds since 1970, task, evidence.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra status\n  git orchestra status --json | jq '.data[] | select(.state == \"failed\")'")]
pub(crate) struct Args {
    /// Removed agents too, and the machines
    #[arg(short, long)]
    all: bool,
    /// The machines alone
    #[arg(long, conflicts_with = "all")]
    machines: bool,
    #[command(flatten)]
    format: ListFormat,
}

/// What shows what an agent does.
#[derive(Debug, Default, Serialize)]
struct ShownBy<'a> {
    /// The tool that it runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    tool: Option<ToolRow<'a>>,
    /// Until when it waits.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// The decision that it waits for.
    #[serde(skip_serializing_if = "Option::is_none")]
    decision: Option<Id>,
    /// Its process.
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
}

#[derive(Debug, Serialize)]
struct ToolRow<'a> {
    name: &'a str,
    summary: &'a str,
    since: Timestamp,
}

impl<'a> ShownBy<'a> {
    fn of(status: &'a AgentStatus) -> Self {
        let pid = status.pid;
        match &status.activity {
            Activity::Running { tool: Some(tool), .. } => {
                let tool = ToolRow { name: &tool.name, summary: &tool.summary, since: tool.since };
                Self { tool: Some(tool), pid, ..Self::default() }
            }
            Activity::Asking(decision) => Self { decision: Some(*decision), pid, ..Self::default() },
            Activity::Waiting(Waits::Limit { until, .. } | Waits::Parked { until, .. }) => {
                Self { until: Some(*until), pid, ..Self::default() }
            }
            _ => Self { pid, ..Self::default() },
        }
    }
}

/// An agent as JSON shows it.
#[derive(Debug, Serialize)]
struct Row<'a> {
    id: Id,
    short: String,
    name: &'a Name,
    state: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    evidence: String,
    /// What the evidence is of, as far as it is known.
    #[serde(flatten)]
    shown_by: ShownBy<'a>,
    /// Whether what was merged of it is gone from its target.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    gone: bool,
    profile: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<Id>,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    /// The step of a team that it does.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<&'a StepOf>,
    branch: &'a str,
    /// Unknown when the branch or its target is gone.
    ahead: Option<u32>,
    behind: Option<u32>,
    files: Option<u32>,
    /// Paths that are in no commit; null if nobody looked.
    uncommitted: Option<u32>,
    runs: usize,
    usage: Usage,
    /// How full the window of its model is; null if nobody knows.
    context: Option<ContextUse>,
    /// What its last run is confined by; null if a build began it that confined none.
    sandbox: Option<Sandbox>,
    last_event: Timestamp,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    if args.machines {
        return machines(ctx, args);
    }
    // What other machines have said meanwhile is shown as well.
    let fleet = if args.all && !args.format.is_porcelain() {
        view::machine::load(ctx, !args.format.json)?
    } else {
        view::machine::Fleet::default()
    };
    fleet.warn(ctx);
    let store = ctx.store()?;
    let state = store.state()?;
    let agents = status::agents(store, &state, args.all)?;
    let now = ctx.clock().now();
    if args.format.is_porcelain() {
        args.format.print(ctx, agents.iter().map(|status| porcelain(status, now)))?;
        return Ok(Exit::Done);
    }
    let ids = state.short_ids()?;
    let title = |status: &AgentStatus| match &status.agent.task {
        Some(task) => state.title::<Task>(task),
        None => Ok(None),
    };
    let titles = agents.iter().map(title).collect::<Result<Vec<_>, _>>()?;
    let rows = agents.iter().zip(titles.iter().map(Option::as_deref));
    if args.format.json {
        let rows: Vec<Row<'_>> = rows.map(|(status, title)| row(status, title, ids, now)).collect();
        if args.all {
            json::print_beside(ctx, "status", &rows, "fleet", &fleet.shown())?;
        } else {
            json::print(ctx, "status", &rows)?;
        }
        return fleet.end();
    }
    if agents.is_empty() && !fleet.machines.is_empty() {
        ctx.ui().page(&view::machine::table(ctx, &fleet.machines)?)?;
        return fleet.end();
    }
    if agents.is_empty() {
        ctx.ui().note(if args.all {
            "no agents; `git orchestra spawn` starts one for each ready task"
        } else {
            "no agents (`--all` shows removed ones too); `git orchestra spawn` starts some"
        });
        return fleet.end();
    }
    let paint = ctx.ui().painter();
    // Not every program tells how full its model's window is.
    let windows = agents.iter().any(|status| status.context.and_then(|context| context.percent()).is_some());
    let mut columns = vec![
            ("AGENT", Align::Left),
            ("STATE", Align::Left),
            ("TASK", Align::Left),
            ("BRANCH", Align::Left),
            ("COMMITS", Align::Left),
            ("FILES", Align::Right),
            ("TOKENS", Align::Right),
            ("COST", Align::Right),
            ("LAST", Align::Right),
    ];
    if windows {
        columns.insert(7, ("CTX", Align::Right));
    }
    let mut table = Table::new(paint, &columns, 2);
    for (status, title) in rows {
        let mut cells = cells(status, title, ids, paint, now);
        if windows {
            cells.insert(7, window(status, paint));
        }
        table.row(cells);
    }
    let mut text = table.render(ctx.ui().columns());
    if !fleet.machines.is_empty() {
        text.push('\n');
        text.push_str(&view::machine::table(ctx, &fleet.machines)?);
    }
    ctx.ui().page(&text)?;
    warn_of_change(ctx)?;
    let shown: Vec<Agent> = agents.iter().map(|status| status.agent.clone()).collect();
    warn_of_kept(ctx, &shown, None, KEPT)?;
    for behind in base::behind_targets(ctx.repo()?, agents.iter().map(|status| &status.agent))? {
        ctx.ui().warn(view::behind(&behind));
    }
    for status in &agents {
        if let Activity::Unwatched { pid: Some(pid) } = status.activity {
            let name = &status.agent.name;
            ctx.ui().hint(format!("`git orchestra recover` ends process {pid} of {name}, and keeps its work"));
        }
    }
    let open = state.all::<Decision>()?.iter().filter(|asked| asked.status == DecisionStatus::Open).count();
    match open {
        0 => {}
        1 => ctx.ui().hint("a decision waits for an answer: `git orchestra decide`"),
        open => ctx.ui().hint(format!("{open} decisions wait for an answer: `git orchestra decide`")),
    }
    fleet.end()
}

/// Says in one line that git looks at nothing of what agents wrote.
fn warn_of_change(ctx: &Context) -> Result<(), CliError> {
    let what = match trust::find_change(ctx.repo()?) {
        Ok(None) => return Ok(()),
        Ok(Some(change)) => format!("somebody changed what git runs here while agents ran ({})", change.files.join(", ")),
        Err(error) => format!("whether somebody changed what git runs here is not known: {}", chain(&error)),
    };
    ctx.ui().warn(format!("{what}; until `git orchestra config approve` accepts it, git looks at nothing of theirs"));
    Ok(())
}

/// The machines alone.
fn machines(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let loaded = view::machine::load(ctx, true)?;
    loaded.warn(ctx);
    let fleet = &loaded.machines;
    if args.format.json {
        let rows: Vec<_> = fleet.iter().map(view::machine::Row::of).collect();
        json::print(ctx, "fleet", &rows)?;
    } else if args.format.is_porcelain() {
        args.format.print(ctx, fleet.iter().map(|one| {
            let unchanged = one.presence.unchanged().map(|span| span.as_secs().to_string());
            let names: Vec<&str> = one.agents.iter().map(|agent| agent.name.as_str()).collect();
            let word = one.presence.word().to_owned();
            [one.name.clone(), one.host.clone(), word, unchanged.unwrap_or_default(), names.join(",")]
        }))?;
    } else if fleet.is_empty() {
        ctx.ui().note("no other machine is known: `git orchestra sync` exchanges state with a remote");
    } else {
        ctx.ui().page(&view::machine::table(ctx, fleet)?)?;
    }
    loaded.end()
}

fn cells(status: &AgentStatus, title: Option<&str>, ids: &ShortIds, paint: Painter, now: Timestamp) -> Vec<String> {
    let agent = &status.agent;
    let evidence = match &status.activity {
        Activity::Asking(decision) => format!("decision {}", ids.shorten(decision)),
        _ => status.brief(now),
    };
    let label = if status.gone { Label::Bad } else { activity_label(&status.activity) };
    let mut state = paint.paint(label, status.activity.word());
    if !evidence.is_empty() {
        state = format!("{state} {}", paint.paint(Label::Dim, format!("({evidence})")));
    }
    let task = match (agent.task, title) {
        (Some(id), title) => format!(
            "{} {}{}",
            paint.paint(Label::Id, ids.shorten(&id)),
            agent.step.as_ref().map_or_else(String::new, |of| {
                paint.paint(Label::Dim, format!("{} of {}: ", of.step, of.team))
            }),
            paint.paint(Label::Plain, title.unwrap_or_default())
        ),
        (None, _) => paint.paint(Label::Dim, agent.prompt.lines().next().unwrap_or_default()),
    };
    let own = agent.branch.strip_prefix(crate::model::Agent::BRANCHES) == Some(agent.name.as_str());
    let branch = match (own, &status.tip) {
        (_, None) if matches!(status.activity, Activity::Elsewhere { .. }) => paint.paint(Label::Dim, "not here"),
        // There is none before an agent begins.
        (_, None) if !status.has_begun() => String::new(),
        (_, None) => paint.paint(Label::Bad, "gone"),
        // `orchestra/<name>` says nothing that the first column does not.
        (true, Some(_)) => String::new(),
        (false, Some(_)) => paint.paint(Label::Branch, branch_name(&agent.branch)),
    };
    let commits = match status.position {
        None => String::new(),
        Some(position) => {
            let mut parts = Vec::new();
            if position.ahead > 0 {
                parts.push(paint.paint(Label::Added, format!("+{}", position.ahead)));
            }
            if position.behind > 0 {
                parts.push(paint.paint(Label::Removed, format!("-{}", position.behind)));
            }
            parts.join(" ")
        }
    };
    let files = match (status.position.map_or(0, |position| position.files), status.uncommitted.unwrap_or(0)) {
        (0, 0) => String::new(),
        (files, 0) => files.to_string(),
        (files, uncommitted) => format!("{}*", files + uncommitted),
    };
    vec![
        paint.paint(Label::Agent, agent.name.as_str()),
        state,
        task,
        branch,
        commits,
        files,
        view::tokens(&status.usage),
        view::cost(status.usage.cost),
        paint.paint(Label::Dim, view::span(now.since(status.last_event))),
    ]
}

/// How full the window of its model is.
fn window(status: &AgentStatus, paint: Painter) -> String {
    let Some(percent) = status.context.and_then(|context| context.percent()) else { return String::new() };
    paint.paint(if percent >= 80 { Label::Attention } else { Label::Plain }, format!("{percent}%"))
}

fn row<'a>(status: &'a AgentStatus, title: Option<&'a str>, ids: &ShortIds, now: Timestamp) -> Row<'a> {
    let agent = &status.agent;
    Row {
        id: agent.id,
        short: ids.shorten(&agent.id),
        name: &agent.name,
        state: status.activity.word(),
        evidence: status.evidence(now),
        shown_by: ShownBy::of(status),
        gone: status.gone,
        profile: &agent.profile,
        task: agent.task,
        step: agent.step.as_ref(),
        title,
        branch: &agent.branch,
        ahead: status.position.map(|position| position.ahead),
        behind: status.position.map(|position| position.behind),
        files: status.position.map(|position| position.files),
        uncommitted: status.uncommitted,
        runs: agent.runs.len(),
        usage: status.usage,
        context: status.context,
        sandbox: agent.last_run().and_then(|(_, run)| run.sandbox),
        last_event: status.last_event,
    }
}

fn porcelain(status: &AgentStatus, now: Timestamp) -> [String; 13] {
    let agent = &status.agent;
    let position = |of: fn(&status::Position) -> u32| {
        status.position.as_ref().map(|position| of(position).to_string()).unwrap_or_default()
    };
    [
        agent.id.to_string(),
        agent.name.to_string(),
        status.activity.word().to_owned(),
        agent.branch.clone(),
        position(|position| position.ahead),
        position(|position| position.behind),
        position(|position| position.files),
        status.uncommitted.map(|count| count.to_string()).unwrap_or_default(),
        status.usage.total().to_string(),
        status.usage.cost.map(|cost| cost.micro_usd.to_string()).unwrap_or_default(),
        status.last_event.as_millis().to_string(),
        agent.task.map(|task| task.to_string()).unwrap_or_default(),
        status.evidence(now),
    ]
}

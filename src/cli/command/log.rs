//! `git orchestra log`: what an agent said and did, and how any record came to be what it is.

use crate::agent::sanitise_text;
use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::ui::{Label, Painter, Ui};
use crate::cli::view::{agent::outcome_words, event, history, span};
use crate::model::{Agent, Event, EventKind, Id, Kind, Run, Timestamp};
use crate::orchestrate::lease;
use crate::store::journal::{self, Entry, Tail};
use crate::store::{Found, State, Store};
use notify::Watcher as _;
use serde::Serialize;
use std::fmt::Write as _;
use std::sync::mpsc;
use std::time::Duration;

/// Show what an agent said and did, or what became of a task
///
/// Of an agent this shows its runs: while one runs from its journal, afterwards from the transcript that the state
/// keeps; of a run whose transcript is not here it says where that is. Secrets were taken out before anything was
/// written.
///
/// Of a task, a finding, a decision or a merge it shows every change, the newest first: who changed what and when, with
/// which command, and on which machine if it was another one. What was deleted has its history still. With --record
/// the same of an agent.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra log blue-heron --follow\n  git orchestra log blue-heron --raw | jq .type\n  git orchestra log k3v8"
)]
#[expect(clippy::struct_excessive_bools, reason = "the switches of a command line")]
pub(crate) struct Args {
    /// An agent, or the id of a task, a finding, a decision or a merge
    #[arg(value_name = "ID")]
    id: String,
    /// Go on until the agent's run ends
    #[arg(short, long)]
    follow: bool,
    /// Print the lines that the agent's program itself printed
    #[arg(long)]
    raw: bool,
    /// Only the agent's run with this number
    #[arg(long, value_name = "N", conflicts_with = "follow")]
    run: Option<u32>,
    /// Show the changes of the agent's record instead of its runs
    #[arg(long, conflicts_with_all = ["follow", "raw", "run"])]
    record: bool,
    /// How many to show: of an agent's runs the last events, of changes the newest; 0 for all
    #[arg(short = 'n', long = "max-count", value_name = "N")]
    count: Option<usize>,
    /// Show every line of the texts that changed
    #[arg(short, long, conflicts_with_all = ["follow", "raw", "run"])]
    patch: bool,
    /// Print JSON; with --follow one document a line for each event
    #[arg(long, conflicts_with = "raw")]
    json: bool,
}

/// How many changes are shown unless more are wanted.
const CHANGES: usize = 100;

/// A run as JSON shows it.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    run: u32,
    started: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<&'a crate::model::Outcome>,
    events: Vec<Event>,
    /// Why there are none, where what it said is not here.
    #[serde(skip_serializing_if = "Option::is_none")]
    absent: Option<String>,
}

/// One event of a log that is followed.
#[derive(Debug, Serialize)]
struct Followed<'a> {
    run: u32,
    event: &'a Event,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let state = ctx.state()?;
    let found = find(&state, &args.id)?;
    if args.record || found.kind != Kind::Agent {
        return changes(ctx, args, &state, &found);
    }
    if args.patch {
        let hint = format!("`git orchestra log --record {}` shows the changes of its record", args.id);
        return Err(CliError::usage("--patch is for changes, and the runs of an agent have none").hint(hint));
    }
    let agent: Agent = state.require(&found.id)?;
    if args.follow {
        return follow(ctx, args, &agent);
    }
    let (mut text, mut shown) = (String::new(), Vec::new());
    let paint = ctx.ui().painter();
    let (runs, left_out) = runs(ctx, args, &state, &agent)?;
    for Said { number, run, entries, absent } in runs {
        if args.raw {
            if let Some(absent) = absent {
                ctx.ui().note(format!("run {number}: {absent}"));
            }
            text.extend(entries.iter().filter_map(|entry| raw_shown(ctx.ui(), entry)));
        } else if args.json {
            let events = entries.into_iter().filter_map(|entry| match entry {
                Entry::Event(event) => Some(event),
                Entry::Raw { .. } => None,
            });
            let (started, ended, outcome) = (run.started, run.ended, run.outcome.as_ref());
            shown.push(Shown { run: number, started, ended, outcome, events: events.collect(), absent });
        } else {
            heading(paint, number, run, &mut text);
            if let Some(absent) = absent {
                let _ = writeln!(text, "{}", paint.paint(Label::Dim, absent));
            }
            for entry in &entries {
                if let Entry::Event(event) = entry {
                    show(ctx.ui(), run.started, event, &mut text);
                }
            }
        }
    }
    if args.json {
        json::print(ctx, "log", &shown)?;
    } else if agent.runs.is_empty() {
        ctx.ui().note(format!("{} never ran", agent.name));
    } else {
        ctx.ui().page(&text)?;
        let what = if args.raw { "lines" } else { "events" };
        if left_out > 0 {
            ctx.ui().hint(format!("{left_out} earlier {what} are left out; without `-n` all are shown"));
        }
    }
    Ok(Exit::Done)
}

/// What one run said, as far as it is shown.
struct Said<'a> {
    number: u32,
    run: &'a Run,
    entries: Vec<Entry>,
    /// Why there are none, where what it said is not here.
    absent: Option<String>,
}

/// The runs that are to be shown, each with what is to be shown of it; and how much of what came before is left out.
fn runs<'a>(
    ctx: &Context,
    args: &Args,
    state: &State,
    agent: &'a Agent,
) -> Result<(Vec<Said<'a>>, usize), CliError> {
    let mut runs = Vec::new();
    for (&number, run) in agent.runs.iter().filter(|(number, _)| args.run.is_none_or(|wanted| wanted == **number)) {
        let entries = entries(ctx.store()?, state, agent, number, run)?;
        let absent = if entries.is_none() { Some(absent_words(ctx, agent, number)?) } else { None };
        let mut entries = entries.unwrap_or_default();
        entries.retain(|entry| is_shown(ctx, args, entry));
        runs.push(Said { number, run, entries, absent });
    }
    let Some(count) = args.count.filter(|count| *count > 0) else { return Ok((runs, 0)) };
    let (mut room, mut left_out) = (count, 0);
    for said in runs.iter_mut().rev() {
        let over = said.entries.len().saturating_sub(room);
        room -= said.entries.len() - over;
        left_out += over;
        said.entries.drain(..over);
    }
    // Of what lies before the last events nothing is told.
    let first = runs.iter().position(|said| !said.entries.is_empty()).unwrap_or(0);
    runs.drain(..first);
    Ok((runs, left_out))
}

/// Whether an entry is shown at all: a line of the program, or an event; among people's an event of which there are words.
fn is_shown(ctx: &Context, args: &Args, entry: &Entry) -> bool {
    match entry {
        entry if args.raw => raw(entry).is_some(),
        Entry::Event(_) if args.json => true,
        Entry::Event(event) => !event::lines(ctx.ui().painter(), event, None).is_empty(),
        Entry::Raw { .. } => false,
    }
}

/// What `text` names. An agent's name comes first: it may look like the beginning of an id.
fn find(state: &State, text: &str) -> Result<Found, CliError> {
    if let Ok(found) = state.resolve(text, Some(Kind::Agent))
        && state.get::<Agent>(&found.id)?.is_some_and(|agent| agent.name.as_str() == text)
    {
        return Ok(found);
    }
    state.resolve(text, None).map_err(|error| super::show::describe_candidates(state, error))
}

/// The changes of a record.
fn changes(ctx: &Context, args: &Args, state: &State, found: &Found) -> Result<Exit, CliError> {
    if args.follow || args.raw || args.run.is_some() {
        let only = format!("{} {} has no runs: --follow, --raw and --run are for agents", found.kind, args.id);
        return Err(CliError::usage(only));
    }
    let count = args.count.unwrap_or(CHANGES);
    let trail = state.trail(found.kind, &found.id, (count > 0).then_some(count))?;
    if args.json {
        json::print(ctx, "history", &history::Shown::new(found, &trail))?;
        return Ok(Exit::Done);
    }
    ctx.ui().page(&history::page(ctx, state, found, &trail, args.patch)?)?;
    if !trail.whole {
        ctx.ui().hint("older changes are left out; `-n 0` shows all");
    }
    Ok(Exit::Done)
}

/// What a run said: from its journal while there is one, otherwise from the kept transcript. `None` if neither is here.
fn entries(
    store: &Store,
    state: &State,
    agent: &Agent,
    number: u32,
    run: &Run,
) -> Result<Option<Vec<Entry>>, CliError> {
    let repo = store.repo();
    let path = journal::path(repo, &agent.id, number);
    match (std::fs::read(&path), &run.transcript) {
        (Ok(bytes), _) => Ok(Some(journal::parse(&bytes).collect())),
        (Err(_), Some(tree)) => match state.transcript(repo, tree) {
            Ok(bytes) => Ok(Some(journal::parse(&bytes).collect())),
            // Only what is there and cannot be read is an error.
            Err(_) if !repo.has_object(tree) => Ok(None),
            Err(error) => Err(error.into()),
        },
        (Err(_), None) => Ok(store.find_elsewhere(agent)?.is_none().then(Vec::new)),
    }
}

/// Where what a run said is, if it is not here.
fn absent_words(ctx: &Context, agent: &Agent, number: u32) -> Result<String, CliError> {
    let elsewhere = ctx.store()?.find_elsewhere(agent)?;
    Ok(match elsewhere {
        // Which machine it was of before, its record does not say.
        _ if agent.taken.is_some_and(|taken| number < taken) => {
            "its transcript is on the machine where it ran, or is not kept any more".to_owned()
        }
        Some(machine) => format!("its transcript is on machine {machine}"),
        None => "its transcript is not kept any more".to_owned(),
    })
}

/// A run as `replay` can play it: what its program printed, and the texts that it printed in pieces only.
pub(super) fn recording(ctx: &Context, id: &Id, number: u32) -> Result<String, CliError> {
    let state = ctx.store()?.state()?;
    let agent: Agent = state.require(id)?;
    let Some(run) = agent.runs.get(&number) else { return Ok(String::new()) };
    let in_pieces = agent.program == "gemini";
    let mut text = String::new();
    let Some(entries) = entries(ctx.store()?, &state, &agent, number, run)? else {
        let words = format!("run {number} of {}: {}", agent.name, absent_words(ctx, &agent, number)?);
        return Err(CliError::new(ErrorKind::Failed, words));
    };
    for entry in entries {
        match &entry {
            // As the program would have printed it, had it not printed pieces, which are not kept.
            Entry::Event(Event { at, kind: EventKind::Text { text: words, partial: false }, .. })
                if in_pieces =>
            {
                let at = at.to_string();
                let line = serde_json::json!({"type": "message", "timestamp": at, "role": "assistant", "content": words});
                let _ = writeln!(text, "{line}");
            }
            entry => text.extend(raw(entry)),
        }
    }
    Ok(text)
}

fn raw(entry: &Entry) -> Option<String> {
    match entry {
        Entry::Raw { raw, stderr: false } => Some(format!("{raw}\n")),
        Entry::Raw { .. } | Entry::Event(_) => None,
    }
}

/// As it was for whoever reads it from a pipe or a file; what it would do to a terminal is left out.
fn raw_shown(ui: &Ui, entry: &Entry) -> Option<String> {
    let line = raw(entry)?;
    Some(if ui.is_terminal() { sanitise_text(&line).into_owned() } else { line })
}

fn heading(paint: Painter, number: u32, run: &Run, text: &mut String) {
    let outcome = run.outcome.as_ref().map(|outcome| format!(", {}", outcome_words(outcome)));
    let line = format!("run {number}, started {}{}", run.started, outcome.unwrap_or_default());
    let _ = writeln!(text, "{}", paint.paint(Label::Heading, line));
}

fn show(ui: &Ui, started: Timestamp, event: &Event, text: &mut String) {
    let paint = ui.painter();
    let at = format!("{:>5}", span(event.at.since(started)));
    let taken = at.len() + 2 + if event.parent.is_some() { 2 } else { 0 };
    let width = ui.columns().map(|columns| columns.saturating_sub(taken).max(20));
    for (number, line) in event::lines(paint, event, width).into_iter().enumerate() {
        let at = if number == 0 { paint.paint(Label::Dim, &at) } else { " ".repeat(at.len()) };
        // What a sub-agent says stands further in.
        let indent = if event.parent.is_some() { paint.paint(Label::Dim, "│ ") } else { String::new() };
        let _ = writeln!(text, "{at}  {indent}{line}");
    }
}

/// How long a change may go unnoticed where the system does not tell of changes.
const POLL: Duration = Duration::from_millis(500);

fn follow(ctx: &Context, args: &Args, agent: &Agent) -> Result<Exit, CliError> {
    let repo = ctx.repo()?;
    let (sender, changes) = mpsc::channel();
    let wake = move |_| {
        // Nobody listens any more once the log has ended.
        let _ = sender.send(());
    };
    let mut watcher = notify::recommended_watcher(wake).ok();
    let mut run = lease::find_live(repo, &agent.id).map(|lease| lease.run);
    let mut last = agent.last_run().map(|(number, _)| number);
    let Some(mut number) = run.or(last) else {
        ctx.ui().note(format!("{} never ran", agent.name));
        return Ok(Exit::Done);
    };
    loop {
        let path = journal::path(repo, &agent.id, number);
        let dir = path.parent().expect("a journal lies in a directory");
        if let Some(watcher) = &mut watcher {
            // Not there yet, or watched already: then polling finds what comes.
            let _ = watcher.watch(dir, notify::RecursiveMode::NonRecursive);
        }
        let mut tail = Tail::new(&path);
        let mut last_only = args.count.filter(|count| *count > 0);
        let started = ctx.state()?.get::<Agent>(&agent.id)?.and_then(|agent| Some(agent.runs.get(&number)?.clone()));
        let started = started.unwrap_or_default();
        if !args.raw && !args.json {
            let mut text = String::new();
            heading(ctx.ui().painter(), number, &started, &mut text);
            ctx.ui().print(&text)?;
        }
        loop {
            // Asked before reading: what was written before the lease went is read below.
            let live = lease::find_live(repo, &agent.id).filter(|lease| lease.run == number);
            let mut entries = tail.read()?;
            if let Some(count) = last_only.take() {
                entries.retain(|entry| is_shown(ctx, args, entry));
                entries.drain(..entries.len().saturating_sub(count));
            }
            print_entries(ctx, args, number, started.started, &entries)?;
            if live.is_none() {
                break;
            }
            let _ = changes.recv_timeout(POLL);
            while changes.try_recv().is_ok() {}
        }
        // Resumed meanwhile: the next run is followed too.
        run = lease::find_live(repo, &agent.id).map(|lease| lease.run);
        last = ctx.state()?.get::<Agent>(&agent.id)?.and_then(|agent| Some(agent.last_run()?.0));
        match run.or(last) {
            Some(next) if next > number => number = next,
            _ => return Ok(Exit::Done),
        }
    }
}

fn print_entries(
    ctx: &Context,
    args: &Args,
    run: u32,
    started: Timestamp,
    entries: &[Entry],
) -> Result<(), CliError> {
    let mut text = String::new();
    for entry in entries {
        match entry {
            entry if args.raw => text.extend(raw_shown(ctx.ui(), entry)),
            Entry::Event(event) if args.json => text.push_str(&json::line("log-event", &Followed { run, event })?),
            Entry::Event(event) => show(ctx.ui(), started, event, &mut text),
            Entry::Raw { .. } => {}
        }
    }
    if text.is_empty() { Ok(()) } else { ctx.ui().print(&text) }
}

//! `git orchestra decide`: what waits for a person, and the answers.

use super::merge::{CONTINUE, edited, refuse_agents};
use crate::cli::context::Context;
use crate::cli::editor::read_file;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::porcelain::ListFormat;
use crate::cli::steer::{self, Told};
use crate::cli::ui::{Align, Label, Table};
use crate::cli::view;
use crate::model::{Agent, Decision, DecisionKind, DecisionStatus, Id, Merge, Pipeline};
use crate::orchestrate::control::{Ask, Refusal};
use crate::orchestrate::merge::{On, answer, pending_conflict};
use crate::store::State;
use std::path::PathBuf;

/// List what waits for an answer, or answer it
///
/// Without arguments, lists the open decisions; with an id, shows one with its answers. `edit` opens your editor on
/// the file with its conflict markers, or takes the whole new content from --file; with --place it is about the lines
/// of that place.
///
/// An agent that asked and still waits goes on at once; where it runs on another machine, as soon as the answer is
/// synced there. One that does not wait any more is told by `resume`.
///
/// With --porcelain each open decision has a line: id, kind, agent's id, merge's id, question.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra decide\n  git orchestra decide k3v8\n  git orchestra decide k3v8 theirs --path src/date.rs\n  git orchestra decide k3v8 union --path src/date.rs --place 2\n  git orchestra decide m2ga answer -m 'blue, please'"
)]
pub(crate) struct Args {
    /// The decision
    #[arg(value_name = "DECISION")]
    decision: Option<String>,
    /// The answer: one of the words that the decision offers
    #[arg(value_name = "ANSWER", requires = "decision")]
    answer: Option<String>,
    /// Answer for this path alone
    #[arg(long, value_name = "PATH", requires = "answer")]
    path: Option<String>,
    /// Answer for this place of the path alone: 1 is its first
    #[arg(long, value_name = "N", requires = "answer", value_parser = clap::value_parser!(u32).range(1..))]
    place: Option<u32>,
    /// Words that go with the answer, for an agent; of `answer` they are the answer
    #[arg(short, long, value_name = "TEXT", requires = "answer", conflicts_with = "file")]
    message: Option<String>,
    /// For `edit`: the whole content of the file (`-` is standard input)
    #[arg(short = 'F', long, value_name = "FILE", requires = "answer", value_hint = clap::ValueHint::FilePath)]
    file: Option<PathBuf>,
    #[command(flatten)]
    format: ListFormat,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let Some(text) = &args.decision else { return list(ctx, args.format) };
    let Some(key) = &args.answer else {
        let kind = Some(crate::model::Kind::Decision);
        return super::show::entities(ctx, std::slice::from_ref(text), kind, args.format.json);
    };
    refuse_agents(ctx)?;
    let store = ctx.store()?;
    let state = store.state()?;
    let decision: Decision = state.require_named(text)?;
    let on = on(&decision, args)?;
    let content = match (&args.file, &args.message) {
        (Some(file), _) => Some(read_file(ctx, file)?),
        (None, message) => message.clone(),
    };
    let content = match content {
        None if key == "edit" && decision.status == DecisionStatus::Open => {
            Some(edit(ctx, &decision, on)?)
        }
        content => content,
    };
    let mut answered = answer(store, &decision.id, on, key, content.as_deref())?;
    let asker = asker(&state, &answered.decision)?;
    let told = asker.as_ref().map(|agent| tell(ctx, agent, &answered.decision.id)).transpose()?;
    if args.format.json {
        if told == Some(Told::Done) {
            answered.decision = store.state()?.require(&answered.decision.id)?;
        }
        json::print(ctx, "decision", &view::decision::Shown::new(&answered.decision, state.short_ids()?))?;
        return Ok(Exit::Done);
    }
    let label = answered.decision.choices.iter().find(|choice| choice.key == *key).map(|choice| &choice.label);
    let on = match on {
        On::Everything => String::new(),
        On::Path(path) => format!("{path}: "),
        On::Place(path, place) => format!("{path}, place {place}: "),
    };
    ctx.ui().note(format!("{on}{}", ctx.ui().err_painter().paint(Label::Plain, label.unwrap_or(key))));
    if !answered.open.is_empty() {
        let open = ctx.ui().err_painter().paint(Label::Path, answered.open.join(", "));
        ctx.ui().note(format!("still open: {open}"));
    } else if answered.decision.kind == DecisionKind::Pipeline || waits_in_pipeline(&state, &answered.decision)? {
        ctx.ui().hint("`git orchestra run --continue` goes on with the pipeline");
    } else if answered.decision.merge.is_some() {
        ctx.ui().hint(format!("`{CONTINUE}` goes on with the merge"));
    } else if let (Some(agent), Some(told)) = (asker, told) {
        let name = ctx.ui().err_painter().paint(Label::Agent, agent.name.as_str());
        let resume = format!("`git orchestra resume {}`", agent.name);
        match told {
            Told::Done => ctx.ui().note(format!("{name} waited for it, was told, and goes on")),
            Told::Idle(_) => ctx.ui().hint(format!("{resume} goes on with it")),
            Told::Refused(_) => {
                ctx.ui().hint(format!("{} runs and does not wait any more: {resume} tells it afterwards", agent.name));
            }
        }
    }
    Ok(Exit::Done)
}

/// What the answer is for.
fn on<'a>(decision: &'a Decision, args: &'a Args) -> Result<On<'a>, CliError> {
    Ok(match (&args.path, args.place, &decision.paths[..]) {
        (None, None, _) => On::Everything,
        (Some(path), None, _) => On::Path(path),
        (Some(path), Some(place), _) => On::Place(path, place as usize),
        (None, Some(place), [only]) => On::Place(only, place as usize),
        (None, Some(_), paths) => {
            let paths = paths.join(", ");
            return Err(CliError::usage(format!("say of which path with `--path`: {paths}")));
        }
    })
}

/// The agent that asked, if one did.
fn asker(state: &State, decision: &Decision) -> Result<Option<Agent>, CliError> {
    let asks = matches!(decision.kind, DecisionKind::Permission | DecisionKind::Question);
    let Some(id) = decision.agent.filter(|_| asks) else { return Ok(None) };
    Ok(state.get(&id)?)
}

/// Tells whoever watches the agent that its decision was answered. The answer is recorded either way, and seen there a
/// little later.
fn tell(ctx: &Context, agent: &Agent, decision: &Id) -> Result<Told, CliError> {
    match steer::tell(ctx, agent, &Ask::Decided { agent: agent.id, decision: *decision }) {
        Err(error) => {
            ctx.ui().warn(error.sentence());
            Ok(Told::Refused(Refusal::Unknown))
        }
        told => told,
    }
}

/// Whether a pipeline that is not over stands before the merge that asked.
fn waits_in_pipeline(state: &State, decision: &Decision) -> Result<bool, CliError> {
    let Some(merge) = decision.merge else { return Ok(false) };
    let waits = |pipeline: &Pipeline| pipeline.status.is_open() && pipeline.merge == Some(merge);
    Ok(state.all::<Pipeline>()?.iter().any(waits))
}

fn edit(ctx: &Context, decision: &Decision, on: On<'_>) -> Result<String, CliError> {
    if !ctx.ui().is_interactive() {
        return Err(CliError::usage("`edit` needs a terminal, or the file's new content with `--file`"));
    }
    let state = ctx.state()?;
    let merge = decision.merge.map(|id| state.get::<Merge>(&id)).transpose()?.flatten();
    let conflict = merge.map(|merge| pending_conflict(ctx.store()?, &state, &merge).map_err(CliError::from));
    let conflict = conflict.transpose()?.flatten().filter(|conflict| conflict.subject == decision.subject);
    let gone = || CliError::new(ErrorKind::Failed, "the conflict is not there any more, or its branches are not in this clone");
    let conflict = conflict.ok_or_else(|| gone().hint("`git orchestra merge --continue` looks again; `--file` takes the new content from anywhere"))?;
    let file = match (on.path(), &conflict.files[..]) {
        (Some(path), _) => conflict.file(path),
        (None, [only]) => Some(only),
        (None, _) => None,
    };
    let file = file.ok_or_else(|| {
        CliError::usage(format!("say which file with `--path`: {}", decision.paths.join(", ")))
    })?;
    edited(ctx, &conflict, file, on.place())
}

fn list(ctx: &Context, format: ListFormat) -> Result<Exit, CliError> {
    let state = ctx.state()?;
    let mut open: Vec<Decision> = state.all()?;
    open.retain(|decision| decision.status == DecisionStatus::Open);
    open.sort_by_key(|decision| (decision.created, decision.id));
    let ids = state.short_ids()?;
    if format.is_porcelain() {
        let records = open.iter().map(|decision| {
            let id = |id: Option<Id>| id.map(|id| id.to_string()).unwrap_or_default();
            let kind = view::decision::kind_word(decision.kind).to_owned();
            [decision.id.to_string(), kind, id(decision.agent), id(decision.merge), decision.question.clone()]
        });
        format.print(ctx, records)?;
        return Ok(Exit::Done);
    }
    if format.json {
        let shown: Vec<_> = open.iter().map(|decision| view::decision::Shown::new(decision, ids)).collect();
        json::print(ctx, "decision-list", &shown)?;
        return Ok(Exit::Done);
    }
    if open.is_empty() {
        ctx.ui().note("nothing waits for an answer");
        return Ok(Exit::Done);
    }
    let paint = ctx.ui().painter();
    let columns = [
        ("ID", Align::Left),
        ("ABOUT", Align::Left),
        ("AGENT", Align::Left),
        ("AGE", Align::Right),
        ("QUESTION", Align::Left),
        ("ANSWERS", Align::Left),
    ];
    let mut table = Table::new(paint, &columns, 4);
    for decision in &open {
        let agent = decision.agent.map(|id| state.get::<Agent>(&id)).transpose()?.flatten();
        let keys: Vec<&str> = decision.choices.iter().map(|choice| choice.key.as_str()).collect();
        table.row(vec![
            paint.paint(Label::Id, ids.shorten(&decision.id)),
            paint.paint(Label::Attention, view::decision::kind_word(decision.kind)),
            paint.paint(Label::Agent, agent.as_ref().map_or("", |agent| agent.name.as_str())),
            paint.paint(Label::Dim, view::span(ctx.clock().now().since(decision.created))),
            paint.paint(Label::Plain, &decision.question),
            paint.paint(Label::Dim, keys.join(" ")),
        ]);
    }
    ctx.ui().page(&table.render(ctx.ui().columns()))?;
    Ok(Exit::Done)
}

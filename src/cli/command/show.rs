//! `git orchestra show`: anything that has an id.

use crate::cli::context::Context;
use crate::cli::error::{CliError, ErrorKind, Exit};
use crate::cli::json;
use crate::cli::ui::{Label, printable};
use crate::cli::view;
use crate::cli::view::task::Tasks;
use crate::model::{Agent, Decision, Finding, Id, Kind, Merge, MergeStatus, Pipeline, Task};
use crate::orchestrate::merge::{check, merge_proofs, proofs};
use crate::orchestrate::pipeline;
use crate::orchestrate::touched::Touched;
use crate::store::{Entity, Error, Found, Record, State};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Show a task, agent, finding, decision, merge or operation
///
/// Of a merge that has landed the receipt is worked out again from the trees, and it is said whether what is recorded
/// holds; of each answer, of a merge or a decision, who gave it and whether a signature verifies that.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra show k3v8")]
pub(crate) struct Args {
    /// Ids, the beginnings of ids, or names of agents
    #[arg(value_name = "ID", required = true)]
    ids: Vec<String>,
    /// Print JSON (`git orchestra schema`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    entities(ctx, &args.ids, None, args.json)
}

/// Shows what `texts` name, of one kind or of any.
pub(crate) fn entities(
    ctx: &Context,
    texts: &[String],
    kind: Option<Kind>,
    as_json: bool,
) -> Result<Exit, CliError> {
    let state = ctx.state()?;
    let mut pages = Vec::new();
    for text in texts {
        let found = match state.resolve(text, kind) {
            Ok(found) => found,
            Err(error @ Error::NotFound { .. }) if kind.is_none() => match state.operation(text) {
                Ok(logged) => {
                    pages.push(super::oplog::show(ctx, &state, &logged, as_json)?);
                    continue;
                }
                Err(Error::NoOperation { .. }) => return Err(error.into()),
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(describe_candidates(&state, error)),
        };
        if as_json {
            print(ctx, &state, found)?;
        } else {
            pages.push(page(ctx, &state, found)?);
        }
    }
    pages.retain(|page| !page.is_empty());
    if !pages.is_empty() {
        ctx.ui().page(&pages.join("\n"))?;
    }
    Ok(Exit::Done)
}

fn print(ctx: &Context, state: &State, found: Found) -> Result<(), CliError> {
    let id = &found.id;
    let ids = || state.short_ids();
    match found.kind {
        Kind::Task => {
            let task: Task = state.require(id)?;
            let tasks = Tasks::around(state, &task)?;
            json::print(ctx, "task", &tasks.shown(&task, &tasks.short_ids(state, &task)?))
        }
        Kind::Agent => {
            let agent: Agent = state.require(id)?;
            let files = Touched::by(ctx.store()?, state, &agent)?;
            json::print(ctx, "agent", &view::agent::Shown::new(&agent, &files, ids()?))
        }
        Kind::Finding => json::print(ctx, "finding", &view::finding::Shown::new(&state.require(id)?, ids()?)),
        Kind::Decision => {
            let decision: Decision = state.require(id)?;
            let proofs = proofs(ctx.store()?.repo(), state, &decision)?;
            json::print(ctx, "decision", &view::decision::Shown::new(&decision, ids()?).with(proofs))
        }
        Kind::Merge => {
            let merge: Merge = state.require(id)?;
            let known = known(ctx, state, &merge)?;
            json::print(ctx, "merge", &view::merge::Shown::new(&merge, known, ids()?))
        }
        Kind::Pipeline => {
            json::print(ctx, "pipeline", &view::pipeline::Shown::new(&state.require(id)?, ids()?))
        }
    }
}

/// One for people, deleted or not.
fn page(ctx: &Context, state: &State, found: Found) -> Result<String, CliError> {
    let (paint, now) = (ctx.ui().painter(), ctx.clock().now());
    let Found { kind, id } = found;
    let mut page = match kind {
        Kind::Task => {
            let task: Task = read(state, &id)?;
            let tasks = Tasks::around(state, &task)?;
            tasks.page(&task, paint, &tasks.short_ids(state, &task)?, now)
        }
        Kind::Agent => {
            let agent: Agent = read(state, &id)?;
            let files = Touched::by(ctx.store()?, state, &agent)?;
            view::agent::page(&agent, &files, paint, state.short_ids()?, now)
        }
        Kind::Finding => view::finding::page(&read(state, &id)?, paint, state.short_ids()?, now),
        Kind::Decision => {
            let decision: Decision = read(state, &id)?;
            let proofs = proofs(ctx.store()?.repo(), state, &decision)?;
            view::decision::page(&decision, &proofs, paint, state.short_ids()?, now)
        }
        Kind::Merge => {
            let merge: Merge = read(state, &id)?;
            let known = known(ctx, state, &merge)?;
            view::merge::page(&merge, &known, paint, state.short_ids()?, now)
        }
        Kind::Pipeline => {
            let pipeline: Pipeline = read(state, &id)?;
            let stands = pipeline::look(ctx.store()?, &pipeline, &BTreeMap::new())?;
            view::pipeline::page(&pipeline, &stands, paint, state.short_ids()?, now)
        }
    };
    let record = state.record(kind, &id)?;
    let own = ctx.store()?.machine()?;
    if let Some(stamp) = record.as_ref().and_then(|record| record.stamp("id")).filter(|stamp| stamp.actor != own) {
        // Whoever can write to the remote can write any name into a record.
        let machine = paint.paint(Label::Plain, &stamp.actor);
        let _ = writeln!(page, "\nfrom machine {machine}, {}", paint.paint(Label::Attention, "unverified"));
    }
    if let Some(at) = record.as_ref().and_then(Record::archived) {
        let when = view::when(at, now);
        let _ = writeln!(page, "\narchived {}; any change brings it back", paint.paint(Label::Dim, when));
    }
    if let Some(deleted) = record.and_then(|record| record.deleted()) {
        let by = format!("{}, {}", deleted.by, view::when(deleted.at, now));
        let _ = writeln!(page, "\n{} by {}", paint.paint(Label::Attention, "deleted"), paint.paint(Label::Plain, by));
        if let Some(operation) = &deleted.operation {
            let operation = paint.paint(Label::Id, view::operation::short(operation));
            let _ = writeln!(page, "`git orchestra undo {operation}` brings it back");
        }
    }
    page.push_str(&losing_texts(state, found)?);
    Ok(page)
}

/// What can be known of a merge beside its record.
fn known(ctx: &Context, state: &State, merge: &Merge) -> Result<view::merge::Known, CliError> {
    let store = ctx.store()?;
    let checked = (merge.status == MergeStatus::Landed).then(|| {
        let _busy = ctx.ui().busy("looking for every line");
        check(store, state, merge)
    });
    Ok(view::merge::Known { checked, answers: merge_proofs(store.repo(), state, merge)? })
}

/// An entity as its record has it, deleted or not.
fn read<T: Entity>(state: &State, id: &Id) -> Result<T, CliError> {
    match state.record(T::KIND, id)?.filter(Record::is_deleted) {
        Some(record) => record.entity().map_err(|error| {
            CliError::failed(format!("failed to read {} {id}", T::KIND), error)
        }),
        None => Ok(state.require(id)?),
    }
}

/// Texts that somebody else wrote at the same time and that lost: nobody has seen them yet.
fn losing_texts(state: &State, found: Found) -> Result<String, CliError> {
    let Some(record) = state.record(found.kind, &found.id)? else { return Ok(String::new()) };
    let mut text = String::new();
    for field in record.contested() {
        for (stamp, losing) in record.losing(field) {
            let field = printable(field);
            let _ = writeln!(text, "\nalso written as {field}, on machine {}:", printable(&stamp.actor));
            for line in losing.lines() {
                let _ = writeln!(text, "    {}", printable(line));
            }
        }
    }
    Ok(text)
}

/// Says of an ambiguous prefix what each candidate is.
pub(super) fn describe_candidates(state: &State, error: crate::store::Error) -> CliError {
    let crate::store::Error::Ambiguous { text, .. } = &error else { return error.into() };
    let Ok(found) = state.find(text, None) else { return error.into() };
    let mut message = format!("`{text}` could be any of these:");
    for found in found {
        let what = match found.kind {
            Kind::Task => state.get::<Task>(&found.id).ok().flatten().map(|task| task.title),
            Kind::Agent => state.get::<Agent>(&found.id).ok().flatten().map(|agent| agent.name.to_string()),
            Kind::Finding => state.get::<Finding>(&found.id).ok().flatten().map(|finding| finding.message),
            Kind::Decision => state.get::<Decision>(&found.id).ok().flatten().map(|asked| asked.question),
            Kind::Merge => state.get::<Merge>(&found.id).ok().flatten().map(|merge| merge.target),
            Kind::Pipeline => state.get::<Pipeline>(&found.id).ok().flatten().and_then(|one| one.name),
        };
        let what = what.unwrap_or_default();
        let what = what.lines().next().unwrap_or_default();
        let _ = write!(message, "
{} {} {what}", found.kind, found.id);
    }
    CliError::new(ErrorKind::Ambiguous, message)
}

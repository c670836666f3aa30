//! Operations: what commands did, and what undoing them would do.

use super::when;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::ui::{Label, Painter, printable};
use crate::git::path_text;
use crate::model::{Id, Kind, Name, ObjectId, Timestamp};
use crate::orchestrate::{UndoPlan, UndoStep};
use crate::store::{EPOCH_REFS, EntityChange, FieldChange, Logged, RESCUE_REFS, RefMove, Reverted, State};
use serde::Serialize;
use serde_json::Value;
use std::fmt::Write as _;

/// How much of an operation's id is shown: enough to be the only one among many thousands.
pub(crate) const SHORT: usize = 6;
/// The longest value that is shown in a line.
const VALUE: usize = 48;

/// An operation as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    id: &'a str,
    command: &'a str,
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<&'a str>,
    began: Timestamp,
    at: Timestamp,
    what: &'a [String],
    commits: &'a [ObjectId],
    entities: Vec<Entity>,
    #[serde(skip_serializing_if = "<[RefMove]>::is_empty")]
    refs: &'a [RefMove],
    #[serde(skip_serializing_if = "Option::is_none")]
    undoes: Option<&'a str>,
    undone: bool,
}

#[derive(Debug, Serialize)]
struct Entity {
    kind: Kind,
    id: Id,
}

impl<'a> Shown<'a> {
    /// The operation as the log has it.
    pub(crate) fn new(logged: &'a Logged) -> Self {
        Self {
            id: &logged.id,
            command: &logged.command,
            by: &logged.by,
            machine: logged.machine.as_deref(),
            began: logged.began,
            at: logged.at,
            what: &logged.subjects,
            commits: &logged.commits,
            entities: logged.entities.iter().map(|&(kind, id)| Entity { kind, id }).collect(),
            refs: &logged.refs,
            undoes: logged.undoes.as_deref(),
            undone: logged.undone,
        }
    }
}

/// What an operation changed of one entity, as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct ShownChange<'a> {
    kind: Kind,
    id: &'a Id,
    created: bool,
    fields: Vec<ShownField<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownField<'a> {
    field: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a Value>,
}

impl<'a> ShownChange<'a> {
    /// The change as the log has it.
    pub(crate) fn new(change: &'a EntityChange) -> Self {
        let field = |(field, change): (&'a String, &'a FieldChange)| ShownField {
            field,
            before: change.before.as_ref(),
            after: change.after.as_ref(),
        };
        let fields = change.fields.iter().map(field).collect();
        Self { kind: change.kind, id: &change.id, created: change.created, fields }
    }
}

/// What undoing would do or did, as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct ShownPlan<'a> {
    reverts: Vec<ShownWrite<'a>>,
    deletes: Vec<Entity>,
    steps: Vec<ShownStep<'a>>,
    losses: &'a [String],
    conflicts: Vec<ShownConflict<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownWrite<'a> {
    kind: Kind,
    id: &'a Id,
    field: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    value: Option<&'a Value>,
}

#[derive(Debug, Serialize)]
struct ShownConflict<'a> {
    kind: Kind,
    id: &'a Id,
    why: &'a str,
}

#[derive(Debug, Serialize)]
#[serde(tag = "is", rename_all = "kebab-case")]
enum ShownStep<'a> {
    Remove {
        agent: &'a Id,
        name: &'a Name,
        worktree: bool,
        uncommitted: usize,
    },
    Restore {
        agent: &'a Id,
        name: &'a Name,
        tip: &'a ObjectId,
        #[serde(skip_serializing_if = "Option::is_none")]
        rescue: Option<&'a str>,
    },
    Move {
        branch: &'a str,
        from: &'a ObjectId,
        to: &'a ObjectId,
        #[serde(skip_serializing_if = "Option::is_none")]
        checkout: Option<String>,
    },
    Keep(&'a RefMove),
}

impl<'a> ShownPlan<'a> {
    /// The plan.
    pub(crate) fn new(plan: &'a UndoPlan) -> Self {
        let reversal = &plan.reversal;
        let write = |write: &'a Reverted| ShownWrite {
            kind: write.kind,
            id: &write.id,
            field: &write.key,
            value: write.value.as_ref(),
        };
        let step = |step: &'a UndoStep| match step {
            UndoStep::Remove { agent, uncommitted, worktree, .. } => ShownStep::Remove {
                agent: &agent.id,
                name: &agent.name,
                worktree: *worktree,
                uncommitted: *uncommitted,
            },
            UndoStep::Restore { agent, tip, rescue } => ShownStep::Restore {
                agent: &agent.id,
                name: &agent.name,
                tip,
                rescue: rescue.as_ref().map(|(name, _)| name.as_str()),
            },
            UndoStep::Move { branch, from, to, checkout, .. } => {
                let path = |checkout: &crate::git::Checkout| {
                    path_text(bstr::BStr::new(checkout.path.as_os_str().as_encoded_bytes()))
                };
                ShownStep::Move { branch, from, to, checkout: checkout.as_ref().map(path) }
            }
            UndoStep::Keep(moved) => ShownStep::Keep(moved),
        };
        Self {
            reverts: reversal.writes.iter().map(write).collect(),
            deletes: reversal.deleted.iter().map(|&(kind, id)| Entity { kind, id }).collect(),
            steps: plan.steps.iter().map(step).collect(),
            losses: &plan.losses,
            conflicts: reversal
                .conflicts
                .iter()
                .map(|one| ShownConflict { kind: one.kind, id: &one.id, why: &one.why })
                .collect(),
        }
    }
}

/// An operation's id as people type it.
pub(crate) fn short(id: &str) -> &str {
    id.get(..SHORT).unwrap_or(id)
}

/// What one did, in a line: what its last commit said, and how many more there were.
pub(crate) fn what(logged: &Logged) -> String {
    let last = logged.subjects.last().map(String::as_str).unwrap_or_default();
    match logged.subjects.len() {
        0 | 1 => last.to_owned(),
        more => format!("{last} (+{})", more - 1),
    }
}

/// One for people, with what it changed.
pub(crate) fn page(
    ctx: &Context,
    state: &State,
    logged: &Logged,
    changes: &[EntityChange],
) -> Result<String, CliError> {
    let paint = ctx.ui().painter();
    let mut text =
        format!("{} {}\n", paint.paint(Label::Heading, "operation"), paint.paint(Label::Id, &logged.id));
    let mut field = |name: &str, label: Label, value: &str| {
        if !value.is_empty() {
            let _ = writeln!(
                text,
                "{:<12}{}",
                paint.paint(Label::Heading, format!("{name}:")),
                paint.paint(label, value)
            );
        }
    };
    field("command", Label::Title, &logged.command);
    field("by", Label::Plain, &logged.by);
    let own = ctx.store()?.machine()?;
    match &logged.machine {
        Some(machine) if *machine == own => field("machine", Label::Plain, &format!("{machine}, this one")),
        // Nothing signs what other machines say.
        Some(machine) => field("machine", Label::Plain, &format!("{machine}, unverified")),
        None => {}
    }
    field("when", Label::Dim, &when(logged.at, ctx.clock().now()));
    if let Some(undoes) = &logged.undoes {
        field("undoes", Label::Id, short(undoes));
    }
    if logged.undone {
        field("state", Label::Attention, "undone");
    }
    for change in changes {
        let _ = writeln!(text, "\n{}", entity(state, paint, change)?);
        for (key, field) in &change.fields {
            if change.created
                && field
                    .after
                    .as_ref()
                    .is_some_and(|value| key == "id" || key == "created" || is_empty(value))
            {
                continue;
            }
            let _ =
                writeln!(text, "    {}", difference(paint, key, field.before.as_ref(), field.after.as_ref()));
        }
    }
    if !logged.refs.is_empty() {
        let _ = writeln!(text, "\n{}", paint.paint(Label::Heading, "refs"));
        for moved in &logged.refs {
            let place =
                |id: Option<&ObjectId>| paint.paint(Label::Commit, id.map_or("none", ObjectId::short));
            let name = paint.paint(Label::Branch, branch(&moved.name));
            let _ =
                writeln!(text, "    {name} {} → {}", place(moved.old.as_ref()), place(moved.new.as_ref()));
        }
    }
    Ok(text)
}

/// What undoing comes to, for people: what is lost first.
pub(crate) fn plan(state: &State, paint: Painter, plan: &UndoPlan) -> Result<String, CliError> {
    let mut text = losses(paint, plan);
    for one in &plan.reversal.conflicts {
        let named = format!("{} {}", one.kind, &one.id.as_str()[..6]);
        let _ = writeln!(
            text,
            "stays: {}, because {}",
            paint.paint(Label::Id, named),
            paint.paint(Label::Attention, &one.why)
        );
    }
    for (kind, id) in &plan.reversal.deleted {
        let title = title(state, *kind, id)?;
        let named = paint.paint(Label::Id, format!("{kind} {}", &id.as_str()[..6]));
        let _ = writeln!(text, "deletes {named} {}", paint.paint(Label::Plain, title));
    }
    let mut last = None;
    for Reverted { kind, id, key, value } in &plan.reversal.writes {
        if key == "changed" {
            continue;
        }
        if last != Some(id) {
            let title = title(state, *kind, id)?;
            let named = paint.paint(Label::Id, format!("{kind} {}", &id.as_str()[..6]));
            let _ = writeln!(text, "{named} {}", paint.paint(Label::Plain, title));
        }
        last = Some(id);
        let change =
            plan.changes.iter().find(|change| change.id == *id).and_then(|change| change.fields.get(key));
        let after = change.and_then(|change| change.after.as_ref());
        let _ = writeln!(text, "    {}", difference(paint, key, after, value.as_ref()));
    }
    for step in &plan.steps {
        text.push_str(&step_words(paint, step));
    }
    Ok(text)
}

/// What cannot be brought back.
pub(crate) fn losses(paint: Painter, plan: &UndoPlan) -> String {
    let mut text = String::new();
    for loss in &plan.losses {
        let _ = writeln!(
            text,
            "{} {}",
            paint.paint(Label::Attention, "not brought back:"),
            paint.paint(Label::Plain, loss)
        );
    }
    text
}

fn step_words(paint: Painter, step: &UndoStep) -> String {
    match step {
        UndoStep::Remove { agent, uncommitted, worktree, .. } => {
            let name = paint.paint(Label::Agent, agent.name.as_str());
            let things = if *worktree { "worktree and branch" } else { "branch" };
            let with = match uncommitted {
                0 => String::new(),
                1 => ", 1 uncommitted path included".to_owned(),
                count => format!(", {count} uncommitted paths included"),
            };
            format!("removes the {things} of {name}; what is only there is kept{with}\n")
        }
        UndoStep::Restore { agent, tip, rescue } => {
            let name = paint.paint(Label::Agent, agent.name.as_str());
            let tip = paint.paint(Label::Commit, tip.short());
            let with = if rescue.is_some() { ", with what was uncommitted" } else { "" };
            format!("brings back the worktree and branch of {name} at {tip}{with}\n")
        }
        UndoStep::Move { branch: name, from, to, checkout, .. } => {
            let name = paint.paint(Label::Branch, branch(name));
            let (from, to) =
                (paint.paint(Label::Commit, from.short()), paint.paint(Label::Commit, to.short()));
            let with = checkout.as_ref().map(|checkout| {
                format!(
                    ", with the files in {}",
                    paint.paint(Label::Path, checkout.path.display().to_string())
                )
            });
            format!("moves {name} back from {from} to {to}{}\n", with.unwrap_or_default())
        }
        UndoStep::Keep(moved)
            if [RESCUE_REFS, EPOCH_REFS].iter().any(|kept| moved.name.starts_with(kept)) =>
        {
            format!("brings back {}\n", paint.paint(Label::Branch, moved.name.as_str()))
        }
        UndoStep::Keep(_) => String::new(),
    }
}

fn branch(name: &str) -> &str {
    name.strip_prefix("refs/heads/").unwrap_or(name)
}

/// An entity that changed: what it is, and what it is called.
fn entity(state: &State, paint: Painter, change: &EntityChange) -> Result<String, CliError> {
    let named = paint.paint(Label::Id, format!("{} {}", change.kind, &change.id.as_str()[..6]));
    let made = if change.created { paint.paint(Label::Dim, " (made)") } else { String::new() };
    let title = title(state, change.kind, &change.id)?;
    Ok(format!("{named} {}{made}", paint.paint(Label::Plain, title)))
}

/// What an entity is called, deleted or not.
pub(super) fn title(state: &State, kind: Kind, id: &Id) -> Result<String, CliError> {
    let key = match kind {
        Kind::Task => "title",
        Kind::Agent | Kind::Pipeline => "name",
        Kind::Finding => "message",
        Kind::Decision => "question",
        Kind::Merge => "target",
    };
    let value = state.record(kind, id)?.and_then(|record| record.value(key).cloned());
    let title = value.as_ref().and_then(Value::as_str).map(branch).unwrap_or_default();
    Ok(shorten(title))
}

/// `status: open → closed`
pub(super) fn difference(paint: Painter, key: &str, before: Option<&Value>, after: Option<&Value>) -> String {
    let name = match key {
        "_d" => "deleted".to_owned(),
        "_a" => "archived".to_owned(),
        key => key.split_once(':').map_or_else(|| key.to_owned(), |(name, part)| format!("{name} {part}")),
    };
    let name = paint.paint(Label::Heading, format!("{name}:"));
    match (words(key, before), words(key, after)) {
        (None, None) => name,
        (None, Some(after)) => format!("{name} + {}", paint.paint(Label::Added, after)),
        (Some(before), None) => format!("{name} - {}", paint.paint(Label::Removed, before)),
        (Some(before), Some(after)) if before == after => format!("{name} changed"),
        (Some(before), Some(after)) => {
            format!("{name} {} → {}", paint.paint(Label::Removed, before), paint.paint(Label::Added, after))
        }
    }
}

pub(super) fn words(key: &str, value: Option<&Value>) -> Option<String> {
    let value = value?;
    Some(match value {
        Value::String(text) => match text.parse::<ObjectId>() {
            Ok(id) => id.short().to_owned(),
            Err(_) => shorten(branch(text)),
        },
        Value::Bool(true) if key.contains(':') => "yes".to_owned(),
        Value::Number(number) if ["created", "changed", "removed"].contains(&key) => {
            number.as_u64().map_or_else(|| number.to_string(), |at| Timestamp(at).to_string())
        }
        Value::Object(fields) if key == "_d" => {
            let by = fields.get("by").and_then(Value::as_str).unwrap_or("somebody");
            format!("by {}", shorten(by))
        }
        Value::Object(fields) if key == "_a" => {
            let at = fields.get("at").and_then(Value::as_u64).unwrap_or_default();
            Timestamp(at).to_string()
        }
        Value::Object(fields) if key.starts_with("runs:") => {
            let outcome = fields.get("outcome").and_then(|outcome| outcome["is"].as_str());
            outcome.unwrap_or("begun").to_owned()
        }
        Value::Array(_) | Value::Object(_) => "…".to_owned(),
        other => other.to_string(),
    })
}

pub(super) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}

/// A text in one line of bounded length.
fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    let cut: String = line.chars().take(VALUE).collect();
    let more = cut.len() < text.trim_end().len();
    format!("{}{}", printable(&cut), if more { "…" } else { "" })
}

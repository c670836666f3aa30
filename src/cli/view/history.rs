//! How a record came to be what it is, change by change.

use super::operation::{difference, is_empty, short, title, words};
use super::when;
use crate::cli::context::Context;
use crate::cli::error::CliError;
use crate::cli::ui::{Label, Painter, wrap};
use crate::model::{Id, Kind, ObjectId, Timestamp};
use crate::store::{FieldChange, Found, State, Step, StepKind, Trail};
use console::measure_text_width;
use serde::Serialize;
use serde_json::Value;
use similar::{ChangeTag, TextDiff};
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// How wide a line is where nobody says.
const WIDTH: usize = 80;
/// How many lines of a text's change are shown unless all are wanted, and how many around each.
const LINES: usize = 8;
const CONTEXT: usize = 1;
/// More than any text has.
const ALL: usize = 1 << 24;

/// A record's history as JSON shows it.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    kind: Kind,
    id: &'a Id,
    whole: bool,
    changes: Vec<ShownStep<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownStep<'a> {
    commit: &'a ObjectId,
    is: StepKind,
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<&'a str>,
    command: &'a str,
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<&'a str>,
    at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    undoes: Option<&'a str>,
    undone: bool,
    fields: Vec<ShownField<'a>>,
}

#[derive(Debug, Serialize)]
struct ShownField<'a> {
    field: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<&'a Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<&'a Value>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    lost: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    machine: Option<&'a str>,
}

impl<'a> Shown<'a> {
    /// The history of what was `found`.
    pub(crate) fn new(found: &'a Found, trail: &'a Trail) -> Self {
        let step = |step: &'a Step| ShownStep {
            commit: &step.commit,
            is: step.kind,
            operation: step.operation.as_deref(),
            command: &step.command,
            by: &step.by,
            machine: step.machine.as_deref(),
            at: step.at,
            undoes: step.undoes.as_deref(),
            undone: step.undone,
            fields: step
                .fields
                .iter()
                .map(|(field, change)| ShownField {
                    field,
                    before: change.before.as_ref(),
                    after: change.after.as_ref(),
                    lost: step.lost.contains(field),
                    machine: step.from.get(field).map(String::as_str),
                })
                .collect(),
        };
        let changes = trail.steps.iter().map(step).collect();
        Self { kind: found.kind, id: &found.id, whole: trail.whole, changes }
    }
}

/// A history for people, newest first; with `full` every line of each text that changed.
pub(crate) fn page(
    ctx: &Context,
    state: &State,
    found: &Found,
    trail: &Trail,
    full: bool,
) -> Result<String, CliError> {
    let paint = ctx.ui().painter();
    let (noun, id) =
        (paint.paint(Label::Heading, found.kind.to_string()), paint.paint(Label::Id, found.id.to_string()));
    let mut text =
        format!("{noun} {id} {}\n", paint.paint(Label::Title, title(state, found.kind, &found.id)?));
    let own = ctx.store()?.machine()?;
    let page = Page { paint, own, now: ctx.clock().now(), width: ctx.ui().columns().unwrap_or(WIDTH), full };
    for step in &trail.steps {
        text.push('\n');
        page.heading(step, &mut text);
        page.fields(step, &mut text);
    }
    Ok(text)
}

/// What every step is shown with.
struct Page {
    paint: Painter,
    own: String,
    now: Timestamp,
    width: usize,
    full: bool,
}

impl Page {
    fn heading(&self, step: &Step, text: &mut String) {
        let paint = self.paint;
        let id = step.operation.as_deref().map_or_else(|| step.commit.short(), short);
        let command = match step.kind {
            StepKind::Joined => "joins what two machines wrote apart",
            _ => step.command.as_str(),
        };
        let mut line = format!("{}  {}", paint.paint(Label::Id, id), paint.paint(Label::Title, command));
        if let Some(undoes) = step.undoes.as_ref().filter(|undoes| !command.contains(short(undoes))) {
            let _ = write!(line, "{}", paint.paint(Label::Dim, format!(", takes back {}", short(undoes))));
        }
        if step.undone {
            let _ = write!(line, "  {}", paint.paint(Label::Attention, "undone"));
        }
        self.put(text, "", &line);
        let by = step.by.split(" <").next().unwrap_or_default();
        let who = match &step.machine {
            None => String::new(),
            Some(machine) if *machine == self.own => format!("{}, ", paint.paint(Label::Agent, by)),
            // Nothing signs what other machines say.
            Some(machine) => {
                let machine = paint.paint(Label::Plain, machine);
                format!(
                    "{} on {machine}, {}, ",
                    paint.paint(Label::Agent, by),
                    paint.paint(Label::Attention, "unverified")
                )
            }
        };
        let when = paint.paint(Label::Dim, when(step.at, self.now));
        self.put(text, "        ", &format!("{who}{when}"));
        let more = match step.kind {
            StepKind::Oldest => "the chain of commits begins here, with this record in it already",
            StepKind::Unreadable => "the record cannot be read before it or after it",
            StepKind::Made | StepKind::Changed | StepKind::Joined => return,
        };
        self.put(text, "        ", &paint.paint(Label::Attention, more));
    }

    fn fields(&self, step: &Step, text: &mut String) {
        if step.kind == StepKind::Joined {
            return self.joined(step, text);
        }
        let begins = matches!(step.kind, StepKind::Made | StepKind::Oldest);
        for (key, change) in &step.fields {
            // When it was made and changed last is what the lines above say.
            let told = key == "changed" || (begins && (key == "id" || key == "created"));
            let nothing = begins && change.after.as_ref().is_none_or(is_empty);
            if !told && !nothing {
                self.field(key, change, step.lost.contains(key), text);
            }
        }
    }

    /// `written on m2: title, labels ui` for what only one had changed, and `priority: 5 of m2, not 3` for the rest.
    fn joined(&self, step: &Step, text: &mut String) {
        let mut alone = BTreeMap::<&str, Vec<String>>::new();
        let mut contested = String::new();
        for (key, change) in step.fields.iter().filter(|(key, _)| *key != "changed") {
            let machine = step.from.get(key).map(String::as_str).unwrap_or_default();
            if !step.lost.contains(key) {
                alone.entry(machine).or_default().push(name(key));
                continue;
            }
            let value = |value: Option<&Value>| words(key, value).unwrap_or_else(|| "nothing".to_owned());
            let after = self.paint.paint(Label::Added, value(change.after.as_ref()));
            let before = self.paint.paint(Label::Removed, value(change.before.as_ref()));
            let is_text = |value: &Option<Value>| {
                value.as_ref().and_then(Value::as_str).is_some_and(|text| text.contains(char::is_whitespace))
            };
            if is_text(&change.after) || is_text(&change.before) {
                // Sentences stand for themselves: between other words nobody knows where one ends.
                let machine = self.machine(machine);
                let name = self.paint.paint(Label::Heading, name(key));
                self.put(&mut contested, "    ", &format!("{name} of {machine}: {after}"));
                self.put(&mut contested, "      ", &format!("in place of: {before}"));
                continue;
            }
            let line = format!("{} {after} of {}, not {before}", self.name(key), self.machine(machine));
            self.put(&mut contested, "    ", &line);
        }
        for (machine, names) in alone {
            let names = self.paint.paint(Label::Plain, names.join(", "));
            self.put(text, "    ", &format!("of {}: {names}", self.machine(machine)));
        }
        text.push_str(&contested);
    }

    fn machine(&self, machine: &str) -> String {
        let machine = if machine == self.own { "this machine" } else { machine };
        self.paint.paint(Label::Agent, machine)
    }

    fn field(&self, key: &str, change: &FieldChange, lost: bool, text: &mut String) {
        let line = difference(self.paint, key, change.before.as_ref(), change.after.as_ref());
        let texts = [&change.before, &change.after].map(|value| value.as_ref().and_then(Value::as_str));
        let lines = texts.iter().flatten().any(|text| text.trim_end().contains('\n'));
        let is_text = texts.iter().any(Option::is_some) && !key.contains(':');
        let mut shown = String::new();
        // What stands in one line says it all, unless it was cut.
        if is_text && (lines || line.contains('…') || measure_text_width(&line) + 4 > self.width) {
            self.put(&mut shown, "    ", &self.name(key));
            self.text(texts[0].unwrap_or_default(), texts[1].unwrap_or_default(), &mut shown);
        } else {
            self.put(&mut shown, "    ", &line);
        }
        text.push_str(&shown);
        if lost {
            let why = match key {
                "status" | "assignee" | "holder" | "result" => {
                    "lost: that of another machine counts, which had taken the task over, or wrote later and had not seen it"
                }
                _ => "lost: another machine's came later, written without having seen it",
            };
            self.put(text, "      ", &self.paint.paint(Label::Attention, why));
        }
    }

    fn name(&self, key: &str) -> String {
        self.paint.paint(Label::Heading, format!("{}:", name(key)))
    }

    /// What changed between two texts, line by line.
    fn text(&self, before: &str, after: &str, text: &mut String) {
        let diff = TextDiff::from_lines(before, after);
        let context = if self.full { ALL } else { CONTEXT };
        let (mut shown, mut all) = (0, 0);
        for (number, group) in diff.grouped_ops(context).iter().enumerate() {
            if number > 0 && shown < LINES {
                let _ = writeln!(text, "      {}", self.paint.paint(Label::Dim, "…"));
            }
            for change in group.iter().flat_map(|op| diff.iter_changes(op)) {
                all += 1;
                if shown >= LINES && !self.full {
                    continue;
                }
                shown += 1;
                let (sign, label) = match change.tag() {
                    ChangeTag::Delete => ('-', Label::Removed),
                    ChangeTag::Equal => (' ', Label::Plain),
                    ChangeTag::Insert => ('+', Label::Added),
                };
                let line = change.value().trim_end_matches(['\n', '\r']);
                for (at, piece) in wrap(line, self.width.saturating_sub(8)).into_iter().enumerate() {
                    let sign = if at == 0 { sign } else { ' ' };
                    let line = format!("      {}", self.paint.paint(label, format!("{sign} {piece}")));
                    let _ = writeln!(text, "{}", line.trim_end());
                }
            }
        }
        if all > shown {
            let more = format!("… {} more lines, which --patch shows", all - shown);
            let _ = writeln!(text, "      {}", self.paint.paint(Label::Dim, more));
        }
    }

    /// A line that is broken where the terminal ends, and goes on further in.
    fn put(&self, text: &mut String, indent: &str, line: &str) {
        for (at, piece) in wrap(line, self.width.saturating_sub(indent.len() + 2)).into_iter().enumerate() {
            let _ = writeln!(text, "{indent}{}{piece}", if at == 0 { "" } else { "  " });
        }
    }
}

/// A field as people call it: `labels ui`.
fn name(key: &str) -> String {
    key.split_once(':').map_or_else(|| key.to_owned(), |(name, part)| format!("{name} {part}"))
}

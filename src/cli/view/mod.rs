//! How entities look: for people, and as the data of JSON. Reads the state; changes nothing.

pub(crate) mod agent;
pub(crate) mod decision;
pub(crate) mod event;
pub(crate) mod finding;
pub(crate) mod history;
pub(crate) mod machine;
pub(crate) mod merge;
pub(crate) mod operation;
pub(crate) mod pipeline;
pub(crate) mod receipt;
pub(crate) mod task;

use super::context::Context;
use super::error::CliError;
use super::ui::{Label, Painter, printable};
use crate::model::{Cost, CostSource, Id, Timestamp, Usage};
use crate::store::{ShortIds, State};
use std::fmt::Write as _;
use std::time::Duration;

/// The shortest prefix of one id that names nothing else, without reading the whole state.
pub(crate) fn short(state: &State, id: &Id) -> Result<String, CliError> {
    for len in Id::MIN_PREFIX..Id::LEN {
        let prefix = &id.as_str()[..len];
        if state.find(prefix, None)?.iter().all(|found| found.id == *id) {
            return Ok(prefix.to_owned());
        }
    }
    Ok(id.to_string())
}

/// How a new id is handed over: short to a person, and whole to a script, for which it is to name the same for ever.
pub(crate) fn handed(ctx: &Context, state: &State, id: &Id) -> Result<String, CliError> {
    if ctx.ui().is_terminal() { short(state, id) } else { Ok(id.to_string()) }
}

/// A time span in one unit: `8s`, `3m`, `2h`, `5d`.
pub(crate) fn span(span: Duration) -> String {
    match span.as_secs() {
        secs @ 0..60 => format!("{secs}s"),
        secs @ 60..3600 => format!("{}m", secs / 60),
        secs @ 3600..172_800 => format!("{}h", secs / 3600),
        secs => format!("{}d", secs / 86_400),
    }
}

/// A point in time for people: the time, and how long ago it was.
pub(crate) fn when(at: Timestamp, now: Timestamp) -> String {
    format!("{at} ({} ago)", span(now.since(at)))
}

/// The time of day of a point in time, in UTC.
pub(crate) fn clock(at: Timestamp) -> String {
    at.to_string().split_once('T').map_or_else(String::new, |(_, time)| time.to_owned())
}

/// A count in at most four characters: `812`, `4.1k`, `93k`, `1.2M`.
#[expect(clippy::cast_precision_loss, reason = "three digits are shown")]
pub(crate) fn count(number: u64) -> String {
    match number {
        0..1_000 => number.to_string(),
        1_000..9_950 => format!("{:.1}k", number as f64 / 1e3),
        9_950..999_500 => format!("{:.0}k", number as f64 / 1e3),
        999_500..9_950_000 => format!("{:.1}M", number as f64 / 1e6),
        _ => format!("{:.0}M", number as f64 / 1e6),
    }
}

/// Tokens for a column: all that were reported, or the estimate, marked as one.
pub(crate) fn tokens(usage: &Usage) -> String {
    match (usage.total(), usage.estimated_output) {
        (0, 0) => String::new(),
        (0, estimate) => format!("~{}", count(estimate)),
        (total, _) => count(total),
    }
}

/// Money for a column; computed figures are marked as estimates.
pub(crate) fn cost(cost: Option<Cost>) -> String {
    let Some(cost) = cost else { return String::new() };
    let mark = if cost.source == CostSource::Computed { "~" } else { "" };
    let cents = (cost.micro_usd + 5_000) / 10_000;
    if cost.micro_usd > 0 && cents == 0 {
        return format!("{mark}<$0.01");
    }
    format!("{mark}${}.{:02}", cents / 100, cents % 100)
}

/// Fields of one thing, a line each, and then its text.
#[derive(Debug)]
pub(crate) struct Page<'a> {
    painter: Painter,
    pub(crate) ids: &'a ShortIds,
    text: String,
}

impl<'a> Page<'a> {
    /// A page that begins with what it is about.
    pub(crate) fn new(painter: Painter, ids: &'a ShortIds, noun: &str, id: &Id) -> Self {
        let shown = painter.paint(Label::Id, id.to_string());
        Self { painter, ids, text: format!("{} {shown}\n", painter.paint(Label::Heading, noun)) }
    }

    /// A field, unless it is empty.
    pub(crate) fn field(&mut self, name: &str, label: Label, value: impl AsRef<str>) {
        if !value.as_ref().is_empty() {
            let value = self.painter.paint(label, value);
            let name = self.painter.paint(Label::Heading, format!("{name}:"));
            let _ =
                writeln!(self.text, "{}{value}", console::pad_str(&name, 12, console::Alignment::Left, None));
        }
    }

    /// A field that names other entities, by their short ids.
    pub(crate) fn ids<'i>(&mut self, name: &str, ids: impl IntoIterator<Item = &'i Id>) {
        let shown: Vec<String> = ids.into_iter().map(|id| self.ids.shorten(id)).collect();
        self.field(name, Label::Id, shown.join(" "));
    }

    /// Free text of several lines, indented, behind an empty line.
    pub(crate) fn text(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        self.text.push('\n');
        for line in text.lines() {
            let line = printable(line);
            let _ = writeln!(self.text, "{}{line}", if line.is_empty() { "" } else { "    " });
        }
    }

    /// Painted lines, as they are.
    pub(crate) fn raw(&mut self, text: &str) {
        self.text.push_str(text);
    }

    /// The page.
    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

/// How far a branch is behind its upstream, in words.
pub(crate) fn behind(behind: &crate::orchestrate::base::Behind) -> String {
    let commits = if behind.commits == 1 { "commit" } else { "commits" };
    printable(&format!(
        "{} is {} {commits} behind {}",
        agent::branch_name(&behind.branch),
        behind.commits,
        behind.upstream
    ))
    .into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_short_and_honest() {
        let shown: Vec<String> =
            [0, 999, 1_000, 9_949, 9_950, 999_499, 999_500, 12_345_678].map(count).into();
        assert_eq!(shown, ["0", "999", "1.0k", "9.9k", "10k", "999k", "1.0M", "12M"]);
        assert_eq!(span(Duration::from_secs(59)), "59s");
        assert_eq!(span(Duration::from_secs(100_000)), "27h");
        let computed = Cost { micro_usd: 1_230_000, source: CostSource::Computed };
        assert_eq!(cost(Some(computed)), "~$1.23");
        assert_eq!(cost(Cost::reported(0.004)), "<$0.01");
        assert_eq!(cost(Cost::reported(0.012)), "$0.01");
        assert_eq!(tokens(&Usage { estimated_output: 1200, ..Usage::default() }), "~1.2k");
    }
}

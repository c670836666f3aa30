//! `git orchestra check`: whether anything waits, was noticed or was lost that must not be passed over.

use super::finding::severity;
use super::merge::warn_of_kept;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::ui::{Label, printable};
use crate::model::{Agent, Decision, DecisionStatus, Finding, FindingStatus, Merge, MergeStatus, Severity};
use crate::orchestrate::merge::{self, gone, receipt, short_branch};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::PathBuf;

/// Fail if a decision waits, a finding is grave, or a line was lost
///
/// For continuous integration and scripts: ends with 1 if there is such a finding or merge, or
/// if a branch does not contain a merge any more that landed on it, with 3 if only decisions
/// wait, and with 0 otherwise. The state has to be there: `git orchestra sync` brings it into a clone.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra check\n  git orchestra check --severity medium --ci\n  git orchestra check --sarif orchestra.sarif"
)]
pub(crate) struct Args {
    /// Only findings that matter at least so much
    #[arg(short, long, default_value = "high", value_parser = severity())]
    severity: Severity,
    /// Print annotations that GitHub shows beside the code
    #[arg(long)]
    ci: bool,
    /// Write a report in SARIF, too
    #[arg(long, value_name = "FILE", value_hint = clap::ValueHint::FilePath)]
    sarif: Option<PathBuf>,
    /// Print JSON (`git orchestra schema check`)
    #[arg(long, conflicts_with = "ci")]
    json: bool,
}

/// Everything that must not be passed over.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Problems {
    pub(super) all: Vec<Problem>,
}

/// One of it.
#[derive(Debug, Serialize)]
pub(super) struct Problem {
    /// `decision`, `finding`, `gone` or `receipt`.
    pub(super) rule: &'static str,
    /// The entity's id.
    id: String,
    pub(super) message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    line: Option<u32>,
    /// How much a finding matters.
    #[serde(skip)]
    pub(super) severity: Option<Severity>,
}

impl Problems {
    pub(super) fn find(ctx: &Context, least: Severity) -> Result<Self, CliError> {
        let (store, state) = (ctx.store()?, ctx.state()?);
        let ids = state.short_ids()?;
        let mut all = Vec::new();
        let mut decisions: Vec<Decision> = state.all()?;
        decisions.retain(|decision| decision.status == DecisionStatus::Open);
        decisions.sort_by_key(|decision| (decision.created, decision.id));
        all.extend(decisions.into_iter().map(|decision| Problem {
            rule: "decision",
            id: decision.id.to_string(),
            message: format!("decision {} waits: {}", ids.shorten(&decision.id), decision.question),
            path: decision.paths.into_iter().next(),
            line: None,
            severity: None,
        }));
        let mut findings: Vec<Finding> = state.all()?;
        findings.retain(|found| found.status == FindingStatus::Open && found.severity >= least);
        findings.sort_by_key(|found| (std::cmp::Reverse(found.severity), found.created, found.id));
        all.extend(findings.into_iter().map(|found| Problem {
            rule: "finding",
            id: found.id.to_string(),
            message: format!("{} finding {}: {}", found.severity.word(), ids.shorten(&found.id), found.message),
            path: found.anchor.as_ref().map(|anchor| anchor.path.clone()),
            line: found.anchor.and_then(|anchor| anchor.line),
            severity: Some(found.severity),
        }));
        let mut merges: Vec<Merge> = state.all()?;
        merges.retain(|merge| merge.status == MergeStatus::Landed);
        merges.sort_by_key(|merge| (merge.created, merge.id));
        for merged in merges {
            if let Some(gone) = gone(store, &state, &merged)? {
                all.push(Problem {
                    rule: "gone",
                    id: merged.id.to_string(),
                    message: format!(
                        "{} does not contain merge {} ({}) any more; {}",
                        gone.target,
                        ids.shorten(&merged.id),
                        gone.commit.short(),
                        gone.hint()
                    ),
                    path: None,
                    line: None,
                    severity: None,
                });
            }
            // Where its commits are, what is stored is not believed.
            let receipt = match receipt(store, &state, &merged) {
                Ok(receipt) => Some(receipt),
                Err(merge::Error::Elsewhere(_)) => merged.receipt.map(|receipt| *receipt),
                Err(error) => return Err(error.into()),
            };
            let Some(receipt) = receipt.filter(|receipt| receipt.dropped() > 0) else { continue };
            let lost = receipt.losses.iter().find(|loss| loss.by.is_none());
            all.push(Problem {
                rule: "receipt",
                id: merged.id.to_string(),
                message: format!(
                    "merge {} into {} dropped {} lines; `git orchestra verify {}` says which",
                    ids.shorten(&merged.id),
                    short_branch(&merged.target),
                    receipt.dropped(),
                    ids.shorten(&merged.id)
                ),
                path: lost.map(|loss| loss.path.clone()),
                line: lost.map(|loss| loss.lines.start).filter(|line| *line > 0),
                severity: None,
            });
        }
        Ok(Self { all })
    }

    fn exit(&self) -> Exit {
        match self.all.iter().all(|problem| problem.rule == "decision") {
            true if self.all.is_empty() => Exit::Done,
            true => Exit::Waiting,
            false => Exit::Error,
        }
    }
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let problems = Problems::find(ctx, args.severity)?;
    if let Some(file) = &args.sarif {
        let failed = |error| CliError::failed(format!("failed to write {}", file.display()), error);
        std::fs::write(ctx.dir().join(file), sarif(&problems)).map_err(failed)?;
    }
    if args.json {
        json::print(ctx, "check", &problems)?;
        return Ok(problems.exit());
    }
    let agents: Vec<Agent> = ctx.state()?.all()?;
    warn_of_kept(ctx, &agents, None, usize::MAX)?;
    let paint = ctx.ui().painter();
    let mut text = String::new();
    for problem in &problems.all {
        let Problem { rule, message, path, line, .. } = problem;
        if args.ci {
            text.push_str(&annotation(problem));
            continue;
        }
        let place = path.as_ref().map(|path| match line {
            Some(line) => format!("{path}:{line}: "),
            None => format!("{path}: "),
        });
        let label = if *rule == "decision" { Label::Attention } else { Label::Bad };
        text.push_str(&paint.paint(Label::Path, place.unwrap_or_default()));
        text.push_str(&paint.paint(label, message));
        text.push('\n');
    }
    ctx.ui().print(&text)?;
    if problems.all.is_empty() {
        ctx.ui().note("nothing waits, and nothing was lost");
    }
    Ok(problems.exit())
}

/// `::error file=src/a.rs,line=4::message`, as GitHub reads it from a step's output.
fn annotation(problem: &Problem) -> String {
    let escaped = |text: &str, property: bool| {
        let text = printable(text).replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A");
        if property { text.replace(':', "%3A").replace(',', "%2C") } else { text }
    };
    let level = if problem.rule == "decision" { "warning" } else { "error" };
    let mut place = Vec::new();
    place.extend(problem.path.as_ref().map(|path| format!("file={}", escaped(path, true))));
    place.extend(problem.line.map(|line| format!("line={line}")));
    let space = if place.is_empty() { "" } else { " " };
    format!("::{level}{space}{}::{}\n", place.join(","), escaped(&problem.message, false))
}

/// SARIF 2.1.0, <https://docs.oasis-open.org/sarif/sarif/v2.1.0/>.
fn sarif(problems: &Problems) -> String {
    let rules = [
        ("decision", "A decision waits for an answer"),
        ("finding", "A grave finding is open"),
        ("gone", "A branch does not contain a merge any more that landed on it"),
        ("receipt", "A merge dropped somebody's line"),
    ];
    let results = problems.all.iter().map(|problem| {
        let level = if problem.rule == "decision" { "warning" } else { "error" };
        let mut result = serde_json::json!({
            "ruleId": problem.rule,
            "level": level,
            "message": {"text": problem.message},
            "partialFingerprints": {"orchestraId": problem.id},
        });
        if let Some(path) = &problem.path {
            let mut place = serde_json::json!({"artifactLocation": {"uri": uri(path)}});
            if let Some(line) = problem.line {
                place["region"] = serde_json::json!({"startLine": line});
            }
            result["locations"] = serde_json::json!([{"physicalLocation": place}]);
        }
        result
    });
    let rules = rules.map(|(id, text)| serde_json::json!({"id": id, "shortDescription": {"text": text}}));
    let report = serde_json::json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {
                "name": "git-orchestra",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            }},
            "results": results.collect::<Vec<_>>(),
        }],
    });
    format!("{report:#}\n")
}

/// A path as a relative reference of a URI.
fn uri(path: &str) -> String {
    let mut uri = String::new();
    for byte in path.bytes() {
        if byte.is_ascii_alphanumeric() || b"/._-~".contains(&byte) {
            uri.push(char::from(byte));
        } else {
            let _ = write!(uri, "%{byte:02X}");
        }
    }
    uri
}

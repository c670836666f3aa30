//! `git orchestra hook pre-push`.

use crate::cli::command::check::{Problem, Problems};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::model::Severity;

/// Say which decisions and grave findings are open, and which merges dropped lines
///
/// Ends with 1 if a critical finding is open, if a merge that has landed dropped somebody's line, or if its target lost
/// it since. Reads nothing from standard input.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra hook pre-push --strict")]
pub(crate) struct Args {
    /// End with 1 for open decisions and all grave findings too
    #[arg(long)]
    strict: bool,
    /// What git calls the remote
    #[arg(hide = true)]
    remote: Option<String>,
    /// Where it is
    #[arg(hide = true)]
    url: Option<String>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let problems = Problems::find(ctx, Severity::High)?;
    for problem in &problems.all {
        ctx.ui().warn(&problem.message);
    }
    let only_told = |problem: &Problem| {
        problem.rule == "decision" || problem.severity.is_some_and(|severity| severity < Severity::Critical)
    };
    let mut stops = problems.all.iter().filter(|problem| args.strict || !only_told(problem)).peekable();
    if stops.peek().is_none() {
        return Ok(Exit::Done);
    }
    if stops.any(|problem| problem.rule == "finding") {
        ctx.ui().hint("`git orchestra finding resolve ID` closes a finding; `git push --no-verify` pushes all the same");
    } else {
        ctx.ui().hint("`git push --no-verify` pushes all the same");
    }
    Ok(Exit::Error)
}

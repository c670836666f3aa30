//! `git orchestra hook pre-push`.

use crate::cli::command::check::Problems;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::model::Severity;

/// Say which decisions are open and which merges dropped lines
///
/// Ends with 1 if a merge that has landed dropped somebody's line, or if its target lost it since. Reads nothing from standard input.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra hook pre-push --strict")]
pub(crate) struct Args {
    /// End with 1 for open decisions too
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
    let problems = Problems::find(ctx, Severity::Critical)?;
    let problems: Vec<_> = problems.all.iter().filter(|problem| problem.rule != "finding").collect();
    for problem in &problems {
        ctx.ui().warn(&problem.message);
    }
    let stops = problems.iter().any(|problem| args.strict || problem.rule != "decision");
    Ok(if stops { Exit::Error } else { Exit::Done })
}

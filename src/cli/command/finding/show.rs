//! `git orchestra finding show`.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::model::Kind;

/// Show a finding
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra finding show k3v8")]
pub(crate) struct Args {
    /// The findings
    #[arg(value_name = "FINDING", required = true)]
    findings: Vec<String>,
    /// Print JSON (`git orchestra schema finding`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    crate::cli::command::show::entities(ctx, &args.findings, Some(Kind::Finding), args.json)
}

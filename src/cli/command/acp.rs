//! `git orchestra __acp`: the program of agents behind the Agent Client Protocol; not for people.

use crate::agent::acp::{Patience, serve};
use crate::agent::bridge::hear;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::process::{Command, SystemClock};
use std::ffi::OsString;
use std::time::Duration;

/// Start an agent that speaks the Agent Client Protocol, and be its client
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// How many seconds an answer may take that is no work
    #[arg(long, value_name = "N")]
    patience: Option<u64>,
    /// The agent's program and its arguments
    #[arg(last = true, required = true, value_name = "WORDS")]
    program: Vec<OsString>,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let (program, rest) = args.program.split_first().expect("clap requires one");
    let env = ctx.env().iter().map(|(key, value)| (key.to_owned(), value.to_owned()));
    let command = Command::new(program).args(rest).envs(env).current_dir(ctx.dir());
    let mut patience = Patience::default();
    patience.answer = args.patience.map_or(patience.answer, Duration::from_secs);
    let runtime = crate::process::runtime().map_err(|error| CliError::failed("failed to begin", error))?;
    let (mut out, mut complaints) = (std::io::stdout().lock(), std::io::stderr());
    let wishes = hear(std::io::stdin());
    let served = Box::pin(serve(&command, ctx.dir(), wishes, &SystemClock, patience, &mut out, &mut complaints));
    runtime.block_on(served).map_err(CliError::layer)?;
    Ok(Exit::Done)
}

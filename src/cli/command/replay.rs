//! `git orchestra replay`: the program of replay agents.

use crate::agent::{AgentError, Stage, play};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::model::Name;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufReader, Write};
use std::path::{Path, PathBuf};

/// Play a script or a recorded transcript as an agent's program
///
/// Performs the script's edits and commands in the current directory and prints its lines. `spawn --profile replay`
/// runs it with a profile's `args`; nobody else needs it. Play only what you would run.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra replay fix-dates.jsonl")]
pub(crate) struct Args {
    /// JSON lines: a script, a recorded stream (`log --raw`), or a transcript; in a directory, the file NAME.jsonl of the
    /// agent that plays it
    #[arg(value_hint = clap::ValueHint::FilePath)]
    file: PathBuf,
    /// Divide all pauses by N; 0 leaves them out
    #[arg(long, value_name = "N", default_value_t = 1)]
    speed: u32,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let path = script(ctx, args)?;
    let script = File::open(&path).map_err(|source| CliError::layer(AgentError::ReadScript { path, source }))?;
    let program = std::env::current_exe()
        .map_err(|error| CliError::failed("failed to find the program's own file", error))?;
    let stage = Stage {
        dir: ctx.dir().to_owned(),
        env: environment(ctx, &program),
        program,
        speed: args.speed,
    };
    let mut out = std::io::stdout().lock();
    let code = play(BufReader::new(script), &mut out, &stage).map_err(|error| match error {
        AgentError::Print(error) => error.into(),
        error => CliError::layer(error),
    })?;
    out.flush()?;
    Ok(Exit::Script(code))
}

/// The file that is played: in a directory the one that has the agent's name.
fn script(ctx: &Context, args: &Args) -> Result<PathBuf, CliError> {
    let path = ctx.dir().join(&args.file);
    if !path.is_dir() {
        return Ok(path);
    }
    match ctx.env().text("GIT_ORCHESTRA_AGENT_NAME").map(str::parse::<Name>) {
        Some(Ok(name)) => Ok(path.join(format!("{name}.jsonl"))),
        _ => Err(CliError::usage(format!("`{}` is a directory, and no agent runs this", path.display()))),
    }
}

/// Our own environment, with ourselves in front of `PATH`: a script's `git orchestra …` is this program.
fn environment(ctx: &Context, program: &Path) -> Vec<(OsString, OsString)> {
    let mut env: Vec<_> =
        ctx.env().iter().map(|(key, value)| (key.to_owned(), value.to_owned())).filter(|(key, _)| key != "PATH").collect();
    let dirs = program.parent().map(Path::to_owned).into_iter().chain(ctx.env().path());
    // A directory with a colon in its name cannot stand in PATH; the rest of it still can.
    let path = std::env::join_paths(dirs).or_else(|_| std::env::join_paths(ctx.env().path()));
    env.extend(path.ok().map(|path| ("PATH".into(), path)));
    env
}

//! `git orchestra __confine`: what a program confined by Landlock is started by; not for people.

use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::process::{Reach, become_confined, confine};
use std::ffi::OsString;
use std::path::PathBuf;

/// Confine this process and become a program
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// What it may read and run
    #[arg(long, value_name = "PATH")]
    read: Vec<PathBuf>,
    /// What it may also change
    #[arg(long, value_name = "PATH")]
    write: Vec<PathBuf>,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "WORDS")]
    program: Vec<OsString>,
}

pub(crate) fn run(_: &Context, args: &Args) -> Result<Exit, CliError> {
    let reach = Reach {
        read: args.read.iter().cloned().collect(),
        write: args.write.iter().cloned().collect(),
        ..Reach::default()
    };
    let (program, rest) = args.program.split_first().expect("clap requires one");
    let never = confine(&reach).and_then(|()| become_confined(program, rest));
    let Err(error) = never;
    Err(CliError::failed("failed to start the program confined", error))
}

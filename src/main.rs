//! The `git-orchestra` program, which git runs as `git orchestra`.

use std::process::ExitCode;

fn main() -> ExitCode {
    git_orchestra::cli::main(std::env::args_os(), git_orchestra::cli::Env::from_process())
}

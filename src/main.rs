//! The `git-orchestra` program, which git runs as `git orchestra`.

use std::process::ExitCode;

/// Half of what a short command does is asking the system for pages; this one asks for fewer, and gives back more of what
/// hundreds of streams leave in pieces.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    git_orchestra::cli::main(std::env::args_os(), git_orchestra::cli::Env::from_process())
}

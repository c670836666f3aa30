//! `git orchestra config`: what settings count here, and where they come from.

/// Show settings, and approve what the repository wants to run
///
/// Later layers win: built-in defaults, the repository's orchestra.toml, your
/// $XDG_CONFIG_HOME/git-orchestra/config.toml, `git config orchestra.*`, ORCHESTRA_* variables, options.
///
/// Programs, arguments, environments, permissions and places that the repository itself names count only after
/// you approved them.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  git orchestra config list --show-origin\n  git orchestra config approve")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

commands! {
    List => list,
    Get => get,
    Approve => approve,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    args.command.run(ctx)
}

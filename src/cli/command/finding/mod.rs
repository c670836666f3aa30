//! `git orchestra finding`: what was noticed.

/// Add, list and resolve findings
///
/// Findings are also notes on the commits they speak of: `git log --notes='orchestra/*'` shows them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra finding add 'Leap seconds are ignored' --severity low --path src/date.rs:40\n  git orchestra finding list --path src"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

commands! {
    Add => add,
    List => list,
    Show => show,
    Resolve => resolve,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    args.command.run(ctx)
}

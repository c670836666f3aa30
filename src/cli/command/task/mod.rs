//! `git orchestra task`: what is wanted.

mod fields;

/// Add, list and change tasks
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  git orchestra task add 'Parse dates' -m 'RFC 3339 only' --touches 'src/date/**'\n  git orchestra task list --ready"
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

commands! {
    Add => add,
    List => list,
    Show => show,
    Edit => edit,
    Start => start,
    Claim => claim,
    Release => release,
    Close => close,
    Reopen => reopen,
    Ready => ready,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    args.command.run(ctx)
}

//! `git orchestra completion`: scripts that teach a shell to complete.

use crate::cli::complete::Shell;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};

/// Print the completion script of a shell
///
/// The script completes `git-orchestra …` and `git orchestra …` alike: commands, options, and the ids and names of
/// this repository's tasks, agents, findings and decisions.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  bash        git orchestra completion bash >~/.local/share/bash-completion/completions/git-orchestra
              (without the bash-completion package, source that file in ~/.bashrc)
  zsh         git orchestra completion zsh >~/.zfunc/_git-orchestra   (~/.zfunc being in $fpath)
  fish        git orchestra completion fish >~/.config/fish/completions/git-orchestra.fish
  elvish      git orchestra completion elvish >>~/.config/elvish/rc.elv
  PowerShell  git orchestra completion powershell >>$PROFILE")]
pub(crate) struct Args {
    /// The shell
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    ctx.ui().print(&args.shell.script())?;
    Ok(Exit::Done)
}

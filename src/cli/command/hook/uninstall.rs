//! `git orchestra hook uninstall`.

use super::claude;
use super::install::{HOOKS, directory, is_ours, require_nobody_at_work};
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};

/// Take away the hooks that `install` put there
///
/// One that was changed since, or is yours, stays.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra hook uninstall")]
pub(crate) struct Args {}

pub(crate) fn run(ctx: &Context, _args: &Args) -> Result<Exit, CliError> {
    require_nobody_at_work(ctx)?;
    let dir = directory(ctx)?;
    let mut gone = false;
    if let Some(file) = claude::uninstall(ctx)? {
        ctx.ui().print(&format!("{}\n", file.display()))?;
        gone = true;
    }
    for name in HOOKS {
        let file = dir.join(name);
        let Ok(content) = std::fs::read(&file) else { continue };
        if is_ours(&content) {
            std::fs::remove_file(&file)
                .map_err(|error| CliError::failed(format!("failed to remove {}", file.display()), error))?;
            ctx.ui().print(&format!("{}\n", file.display()))?;
            gone = true;
        } else {
            ctx.ui().note(format!("{} is not as it was installed: it stays", file.display()));
        }
    }
    if !gone {
        ctx.ui().note("no hook of ours is installed");
    }
    Ok(Exit::Done)
}

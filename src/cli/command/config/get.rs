//! `git orchestra config get`.

use super::list::Shown;
use crate::cli::context::Context;
use crate::cli::error::{CliError, Exit};
use crate::cli::json;
use crate::cli::ui::Label;

/// Print the value of one setting
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  git orchestra config get profile.claude.permissions")]
pub(crate) struct Args {
    /// The setting, as `config list` shows it
    key: String,
    /// Show every value that was said for it, the one that counts last, and where each comes from
    #[arg(long)]
    show_origin: bool,
    /// Print JSON (`git orchestra schema config`)
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(ctx: &Context, args: &Args) -> Result<Exit, CliError> {
    let settings = ctx.settings()?;
    let said = settings.said(&args.key);
    let Some(winner) = said.last() else {
        return Err(CliError::new(crate::cli::error::ErrorKind::Failed, format!("`{}` is not set", args.key))
            .hint("`git orchestra config list --keys` lists what can be set"));
    };
    if args.json {
        let said = if args.show_origin { said } else { std::slice::from_ref(winner) };
        let shown: Vec<_> = said.iter().map(|setting| Shown::new(setting, settings)).collect();
        json::print(ctx, "config", &shown)?;
    } else if args.show_origin {
        let paint = ctx.ui().painter();
        for setting in said {
            let origin = paint.paint(Label::Dim, setting.origin.to_string());
            ctx.ui().print(&format!("{}\t{origin}\n", paint.paint(Label::Plain, setting.value.to_string())))?;
        }
    } else {
        ctx.ui().print(&format!("{}\n", winner.value))?;
    }
    if !settings.counts(winner) {
        ctx.ui().warn(format!("`{}` does not count before you approve it", args.key));
    }
    Ok(Exit::Done)
}
